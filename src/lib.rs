//! certsyncd pulls TLS certificates from a cloud's certificate manager and puts them live on this host.
//!
//! # The way of the data
//!
//! ```text
//! config.toml ─► config ─► daemon ─► schedule ──tick──► sync ─┐
//!                                                             │  for each certificate, alone
//!   provider.fetch ─► archive.unpack ─► certificate.parse ─► plan.decide ─► store.write
//!                                                             │  then, once per target
//!                         deploy: test → reload → verify ─► ledger ─► report ─► alert, observe
//! ```
//!
//! Nouns know nothing of each other's work; verbs do one step and do not know each other; only [`sync`] and [`daemon`]
//! know the order. `tests/architecture.rs` holds the table of who may import whom.

pub mod clock;
mod spread;

pub mod archive;
pub mod certificate;
pub mod config;
pub mod report;

pub mod atomic;
pub mod failpoint;
pub mod ledger;

pub mod alert;
pub mod deploy;
pub mod observe;
pub mod provider;
pub mod schedule;
pub mod store;

pub mod daemon;
pub mod sync;

pub mod cli;

//! What people and machines see of certsyncd: the log, the service manager, metrics and the status document.
//!
//! - [`log`]: one line per thing that happened, to the journal with fields or to a terminal
//! - [`systemd`]: readiness, one sentence of status, the watchdog
//! - [`status`]: the document of `status --json` and `/status.json`, a pure function of settings and ledger; [`table`] draws it, [`check`] judges it
//! - [`metrics`]: the same facts and some counters for Prometheus; [`http`] and [`textfile`] bring them there
//!
//! Nothing here decides anything, and nothing here may fail a pass: errors are values for the caller to log.

pub mod check;
pub mod http;
pub mod log;
pub mod metrics;
pub mod status;
pub mod systemd;
pub mod table;
pub mod textfile;

pub use http::Board;
pub use metrics::Counters;
pub use status::Document;

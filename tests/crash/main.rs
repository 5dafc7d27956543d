//! The built binary dies, panics or is refused by the system, at every fail point of a whole pass and at random moments: nothing is torn for
//! any reader, and the next undisturbed `sync` ends exactly where one that was never disturbed ends. What is to be told is told, once.
//!
//! Start at [`points`] and [`kills`]. Run with `cargo nextest run -p certsyncd --features failpoints --test crash`. The random kills print their
//! seed; `CRASH_SEED=n` plays them again (as far as the machine's timing does).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/world.rs"]
mod world;

mod host;
mod kills;
mod points;
mod seen;
mod server;

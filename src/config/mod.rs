//! The inventory: what the operator wrote, checked, as types.
//!
//! Three stages, three types: the text becomes [`file`] (what TOML may say), that becomes [`Settings`] (what is valid, defaults
//! filled in, every duration, schedule, address and path parsed), and secrets stay [`secret::Source`] until somebody is asked with them.
//! All problems are found at once and come back as [`problem::Problem`]s, each with its place in the file.

pub mod environment;
pub mod problem;
pub mod secret;
mod settings;

pub use settings::*;

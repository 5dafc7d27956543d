//! The binary: see `certsyncd::cli`.
fn main() {}

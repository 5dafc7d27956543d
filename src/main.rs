//! The binary: see [`certsyncd::cli`].

use std::process::ExitCode;

use certsyncd::cli::{Cli, run};
use clap::Parser;

fn main() -> ExitCode {
    // Keys are in memory: no core file, and no look inside for other processes of the same user (prctl(2), PR_SET_DUMPABLE).
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    // One provider for every TLS connection of the process; a second call would only say that there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    run(Cli::parse())
}

//! The binary: see [`certsyncd::cli`].

use std::process::ExitCode;

use certsyncd::cli::{Cli, run};
use clap::Parser;

fn main() -> ExitCode {
    // One provider for every TLS connection of the process; a second call would only say that there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    run(Cli::parse())
}

//! Has a release made smaller by the linker, where linker and loader of this host know how: relative relocations in a twentieth of their room.
//!
//! They are in every page of tables that a start would touch. It is tried on a program of one line, and taken if that links and runs: which
//! linker there is depends on the toolchain, and the loader knows them since glibc 2.36. Without, everything works, 0.4 MiB larger.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const OPTION: &str = "-Wl,-z,pack-relative-relocs";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is_native = env::var_os("HOST") == env::var_os("TARGET");
    if !is_native || env::var_os("PROFILE") != Some("release".into()) {
        return;
    }
    if env::var_os("OUT_DIR").map(PathBuf::from).is_some_and(|folder| works(OPTION, &folder)) {
        println!("cargo::rustc-link-arg-bins={OPTION}");
    }
}

/// Whether a program that is linked with `option` runs.
fn works(option: &str, folder: &Path) -> bool {
    let (source, program) = (folder.join("probe.rs"), folder.join("probe"));
    let written = std::fs::write(&source, "fn main() { assert!(std::env::args().count() == 1); }\n");
    let runs = |command: &mut Command| {
        let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        ended.is_ok_and(|status| status.success())
    };
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc")));
    rustc.args(env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default().split('\x1f').filter(|flag| !flag.is_empty()));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut chosen = OsString::from("-Clinker=");
        chosen.push(linker);
        rustc.arg(chosen);
    }
    rustc.arg(format!("-Clink-arg={option}")).arg("-o").arg(&program).arg(&source);
    written.is_ok() && runs(&mut rustc) && runs(&mut Command::new(&program))
}

//! A long inventory does not take many times its own size. The only test of its process: what is measured is the process.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use certsyncd::config;

/// Resident, in KiB: the settings take 4 MB, what is needed to make them some more. The tables of all of them at once would take 30 MB.
const MOST: i64 = 12 * 1024;

#[test]
fn ten_thousand_entries_are_read_in_little_memory() {
    let head = "version = 1\n[providers.p]\nkind = \"cds\"\nregion = \"cn\"\nauth = { method = \"access-key\", access_key = { env = \"A\" }, secret_key = { env = \"S\" } }\n[deploy.server]\nkind = \"command\"\nreload = [\"true\"]\n";
    let entry = |n: usize| {
        format!("\n[[certificate]]\nname = \"host-{n:05}\"\nprovider = \"p\"\nid = \"cds-0000-{n:08}\"\ndeploy = [\"server\"]\n")
    };
    let text = format!("{head}{}", (0..10_000).map(entry).collect::<String>());
    let before = peak();
    let settings = config::parse(&text, Path::new("config.toml")).unwrap();
    let taken = peak() - before;
    assert_eq!(settings.certificates.len(), 10_000);
    assert!((1024..MOST).contains(&taken), "{taken} KiB");
}

/// The most that was resident so far, in KiB. (What `getrusage` tells begins with what the parent had.)
fn peak() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

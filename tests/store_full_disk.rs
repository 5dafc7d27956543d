//! A disk that is really full: nothing is torn, the error says so, and with room again the next pass goes through.
//!
//! Needs a tmpfs of its own, so root and a kernel that lets it mount; otherwise it says that it ran without, and the fail points'
//! `enospc` (tests/store_failpoints.rs) stands in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod store_common;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use certsyncd::ledger::{Ledger, ProviderRecord};
use certsyncd::store::{KEEP, Store};
use store_common::*;

const SIZE: u64 = 1024 * 1024;
const PAGE: u64 = 4096;
/// More than one pass needs.
const ENOUGH_PAGES: u64 = 40;

/// A small tmpfs, gone when dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new() -> Option<Mount> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={SIZE}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        mounted.is_ok_and(|out| out.status.success()).then(|| Mount(folder))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_tears_nothing() {
    let Some(mount) = Mount::new() else {
        println!("ran without a tmpfs of its own (no right to mount): see store_failpoints for `enospc`");
        return;
    };
    let (state, filler) = (mount.0.path().join("state"), mount.0.path().join("filler"));
    let bundles = bundles(3);
    pass(&state, 0, &bundles).unwrap();
    let (mut refused, mut passed) = (0, 0);
    for pages in 0..ENOUGH_PAGES {
        fill(&filler, pages);
        let number = pages as usize + 1;
        match pass(&state, number, &bundles) {
            Ok(()) => passed += 1,
            Err(kind) => {
                assert_eq!(kind, "disk_full", "with {pages} pages left");
                refused += 1;
            }
        }
        check_invariants(&state, &bundles, true);
        assert_eq!(Ledger::load(&state).unwrap().rebuilt, None, "the ledger is torn with {pages} pages left");
        std::fs::remove_file(&filler).unwrap();
        pass(&state, number, &bundles).unwrap();
        assert_eq!(read_as_server(&state).unwrap(), contents(&bundles[number % bundles.len()]));
        assert!(strays(&state).is_empty());
    }
    println!("on a tmpfs of {SIZE} bytes: {refused} passes refused, {passed} went through");
    assert!(refused > 5 && passed > 5, "the disk was never full, or always");
}

fn pass(state: &Path, number: usize, bundles: &[certsyncd::certificate::Bundle]) -> Result<(), &'static str> {
    let store = Store::open(state).map_err(|error| error.kind())?;
    store.sweep().map_err(|error| error.kind())?;
    let bundle = &bundles[number % bundles.len()];
    if store.live(NAME).map_err(|error| error.kind())?.is_none_or(|live| live.bundle.fingerprint() != bundle.fingerprint()) {
        let installed = store.write(NAME, bundle).map_err(|error| error.kind())?;
        store.publish(NAME, &installed.generation).map_err(|error| error.kind())?;
    }
    let mut ledger = Ledger::load(state).map_err(|error| error.kind())?.ledger;
    let record = ProviderRecord { rejected_credential: Some("x".repeat(10_000 + number)), ..ProviderRecord::default() };
    ledger.providers.insert("scm".to_owned(), record);
    ledger.save(state).map_err(|error| error.kind())?;
    store.prune(NAME, KEEP.min(2)).map_err(|error| error.kind())?;
    Ok(())
}

/// Leaves only `pages` free.
fn fill(filler: &Path, pages: u64) {
    let mut file = std::fs::File::create(filler).unwrap();
    while file.write_all(&[0; PAGE as usize]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(pages * PAGE) / PAGE * PAGE).unwrap();
}

//! Every fail point of the disk: the process dies there, or the system refuses there, and afterwards everything is whole and the next
//! pass ends where an undisturbed one ends.
//!
//! Run with `cargo nextest run -p certsyncd --features failpoints --test store_failpoints`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod store_common;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output as Exit};

use certsyncd::certificate::Bundle;
use certsyncd::config::{Format, Output};
use certsyncd::failpoint;
use certsyncd::ledger::{Ledger, ProviderRecord};
use certsyncd::store::{KEEP, Store};
use store_common::*;

/// A link's place was taken by somebody's folder.
const SECOND: &str = "second.example.com";
/// Left the inventory.
const GONE: &str = "gone.example.com";

type Failed = Box<dyn std::error::Error>;

/// One pass over a host where everything that touches the disk has to happen.
fn pass(folder: &Path, bundles: &[Bundle]) -> Result<(), Failed> {
    let state = folder.join("state");
    let store = Store::open(&state)?;
    store.sweep()?;
    let mut ledger = Ledger::load(&state)?.ledger;
    for name in [NAME, SECOND] {
        if let Some(damaged) = store.repair(name, &BTreeMap::new(), None)?.damaged {
            return Err(damaged.into());
        }
    }
    if store.live(NAME)?.is_none_or(|live| live.bundle.fingerprint() != bundles[6].fingerprint()) {
        let installed = store.write(NAME, &bundles[6])?;
        store.publish(NAME, &installed.generation)?;
    }
    ledger.providers.insert("scm".to_owned(), ProviderRecord { failures: 7, ..ProviderRecord::default() });
    ledger.save(&state)?;
    store.write_output(&output(folder), &bundles[6].files().files["combined.pem"])?;
    store.prune(NAME, KEEP)?;
    store.remove(GONE)?;
    Ok(())
}

fn output(folder: &Path) -> Output {
    let path = folder.join("outputs/api.pem");
    Output { format: Format::Combined, path, owner: None, group: None, mode: 0o640, password: None }
}

/// A host before that pass.
fn template(folder: &Path) -> Vec<Bundle> {
    let bundles = bundles(7);
    let store = Store::open(&folder.join("state")).unwrap();
    bundles[..6].iter().for_each(|bundle| drop(install(&store, bundle)));
    let second = store.write(SECOND, &bundles[0]).unwrap();
    store.publish(SECOND, &second.generation).unwrap();
    let link = store.root().join("live").join(SECOND);
    std::fs::remove_file(&link).unwrap();
    std::fs::create_dir(&link).unwrap();
    std::fs::write(link.join("combined.pem"), b"an operator's copy").unwrap();
    store.write(GONE, &bundles[0]).unwrap();
    Ledger::fresh().save(store.root()).unwrap();
    std::fs::write(store.root().join("live/.tmp-certsyncd-dead"), b"").unwrap();
    std::fs::create_dir(folder.join("outputs")).unwrap();
    std::fs::write(output(folder).path, b"the operator's").unwrap();
    std::fs::create_dir(folder.join("bundles")).unwrap();
    save_bundles(&folder.join("bundles"), &bundles);
    bundles
}

/// Everything on disk: what it is, its mode, its bytes.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            let bytes = match kind {
                _ if kind.is_symlink() => std::fs::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes(),
                _ if kind.is_dir() => Vec::new(),
                _ => std::fs::read(entry.path()).unwrap(),
            };
            if kind.is_dir() {
                folders.push(entry.path());
            }
            // The mark of an output is named by its path, which differs from copy to copy.
            let is_mark = next.ends_with("state/outputs");
            let path = if is_mark { PathBuf::from("mark") } else { entry.path().strip_prefix(folder).unwrap().to_owned() };
            let bytes = if is_mark { Vec::new() } else { bytes };
            found.insert(path, (std::fs::symlink_metadata(entry.path()).unwrap().permissions().mode(), bytes));
        }
    }
    found
}

struct Rig {
    folder: tempfile::TempDir,
    bundles: Vec<Bundle>,
    /// How an undisturbed pass ends.
    end: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    /// What an undisturbed pass goes through, in order.
    hits: Vec<String>,
}

impl Rig {
    fn new() -> Rig {
        let folder = in_memory();
        let bundles = template(&folder.path().join("template"));
        let mut rig = Rig { folder, bundles, end: BTreeMap::new(), hits: Vec::new() };
        let run = rig.copy();
        let listed = rig.run(&run, "list");
        let text = String::from_utf8_lossy(&listed.stderr);
        assert!(said(&listed).contains("ended well"), "{text}");
        rig.hits = text.lines().filter_map(|line| line.strip_prefix("failpoint ")).map(str::to_owned).collect();
        rig.end = snapshot(&run);
        rig
    }

    fn copy(&self) -> PathBuf {
        let to = self.folder.path().join("run");
        let _ = std::fs::remove_dir_all(&to);
        let copied = Command::new("cp").arg("-a").arg(self.folder.path().join("template")).arg(&to).status().unwrap();
        assert!(copied.success());
        to
    }

    fn run(&self, folder: &Path, armed: &str) -> Exit {
        again("pass_child").env("STORE_CHILD", folder).env("CERTSYNCD_FAILPOINT", armed).output().unwrap()
    }

    /// Disturbed, checked, then undisturbed. Returns what the disturbed pass said; `None` when it died.
    fn disturb(&self, armed: &str) -> Option<String> {
        let run = self.copy();
        let exit = self.run(&run, armed);
        check_strays_are_closed(&run);
        check_invariants(&run.join("state"), &self.bundles[5..], true);
        let there = std::fs::read(output(&run).path).expect("the output is gone for a moment");
        let ours = &self.bundles[6].files().files["combined.pem"];
        assert!(there == b"the operator's" || there == ours.as_slice(), "{armed}: the output is torn");
        let said = exit.status.success().then(|| said(&exit));

        pass(&run, &self.bundles).unwrap_or_else(|error| panic!("{armed}: the next pass fails: {error}"));
        assert_eq!(strays(&run), BTreeSet::new(), "{armed}: strays");
        let end = snapshot(&run);
        let (now, wanted): (BTreeSet<_>, BTreeSet<_>) = (end.keys().collect(), self.end.keys().collect());
        assert!(now == wanted, "{armed}: another end: {:?}", now.symmetric_difference(&wanted));
        for (path, now) in &end {
            assert!(self.end[path] == *now, "{armed}: `{}` ends differently", path.display());
        }
        said
    }

    /// Each hit as `name:nth`.
    fn numbered(&self) -> Vec<String> {
        let mut counts = BTreeMap::new();
        let count = |name: &'_ String| {
            let nth = counts.entry(name.clone()).and_modify(|nth| *nth += 1).or_insert(1_u32);
            format!("{name}:{nth}")
        };
        self.hits.iter().map(count).collect()
    }
}

/// Whatever moment a process died at, its half-written files are no wider than they were to become.
fn check_strays_are_closed(run: &Path) {
    for stray in strays(run).iter().filter(|stray| !stray.ends_with(".tmp-certsyncd-dead")) {
        let found = std::fs::symlink_metadata(stray).unwrap();
        let mode = found.permissions().mode() & 0o7777;
        if found.is_file() {
            assert_eq!(mode & !0o640, 0, "`{}` is {mode:04o}", stray.display());
        } else if found.is_dir() {
            assert_eq!(mode & !0o755, 0, "`{}` is {mode:04o}", stray.display());
            for secret in ["privkey.pem", "combined.pem"].map(|secret| stray.join(secret)).iter().filter(|path| path.exists()) {
                assert_eq!(mode_of(secret) & !0o600, 0, "`{}`", secret.display());
            }
        }
    }
}

fn said(exit: &Exit) -> String {
    String::from_utf8_lossy(&exit.stdout).into_owned()
}

#[test]
fn pass_child() {
    let Some(folder) = std::env::var_os("STORE_CHILD").map(PathBuf::from) else { return };
    // Nothing may rest on the umask: with it at its widest all modes must be what they are under another.
    rustix::process::umask(rustix::fs::Mode::empty());
    match pass(&folder, &load_bundles(&folder.join("bundles"))) {
        Ok(()) => println!("ended well"),
        Err(error) => println!("failed: {}", certsyncd::report::Failure::new("", error.as_ref())),
    }
}

#[test]
fn the_pass_goes_through_every_point() {
    let rig = Rig::new();
    let passed: BTreeSet<&str> = rig.hits.iter().map(String::as_str).collect();
    let ours = |name: &&&str| ["atomic.", "store.", "ledger."].iter().any(|part| name.starts_with(part));
    let missed: Vec<_> = failpoint::ALL.iter().filter(ours).filter(|name| !passed.contains(**name)).collect();
    assert!(missed.is_empty(), "no test goes through {missed:?}");
    println!("{} hits of {} points", rig.hits.len(), passed.len());
}

#[test]
fn dying_at_any_point_leaves_everything_whole() {
    let rig = Rig::new();
    for armed in rig.numbered() {
        assert_eq!(rig.disturb(&format!("{armed}=abort")), None, "{armed} did not abort");
    }
    println!("died at {} points", rig.hits.len());
}

#[test]
fn every_refusal_of_the_system_leaves_everything_whole() {
    let rig = Rig::new();
    let words =
        [("enospc", "No space left"), ("eio", "Input/output error"), ("eacces", "Permission denied"), ("erofs", "Read-only")];
    let (mut failed, mut survived) = (0, 0);
    for (number, armed) in rig.numbered().iter().enumerate() {
        // Each point meets one of the four in turn, each name meets all of them below.
        let (errno, text) = words[number % words.len()];
        let said = rig.disturb(&format!("{armed}={errno}")).expect("a refusal must not end the process");
        match said.contains("failed: ") {
            true => {
                assert!(said.contains(text), "{armed}={errno}: the cause is lost: {said}");
                failed += 1;
            }
            false => survived += 1,
        }
    }
    for name in rig.hits.iter().collect::<BTreeSet<_>>() {
        for (errno, _) in words {
            rig.disturb(&format!("{name}={errno}")).expect("a refusal must not end the process");
        }
    }
    println!("{failed} refusals failed the pass, {survived} were of no consequence");
    assert!(failed > survived);
}

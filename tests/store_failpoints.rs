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
use certsyncd::store::{FILES, KEEP, Store};
use store_common::*;

/// A link's place was taken by somebody's folder.
const SECOND: &str = "second.example.com";
/// Written together, and made durable together.
const WAVE: [&str; 3] = ["a.wave.example.com", "b.wave.example.com", "c.wave.example.com"];
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
    go_live_together(&store, &bundles[6])?;
    ledger.providers.insert("scm".to_owned(), ProviderRecord { failures: 7, ..ProviderRecord::default() });
    ledger.save(&state)?;
    store.write_output(&output(folder), &bundles[6].files().files["combined.pem"])?;
    store.prune(NAME, KEEP)?;
    store.remove(GONE)?;
    Ok(())
}

/// Whose bundle is not live yet gets it in one batch.
fn go_live_together(store: &Store, bundle: &Bundle) -> Result<(), Failed> {
    let (batch, mut written) = (store.batch(0), Vec::new());
    for name in WAVE {
        if store.live(name)?.is_none() {
            written.push((name, store.write_ahead(name, bundle, &batch)?));
        }
    }
    if let Some(unsettled) = batch.settle().into_iter().next() {
        return Err(unsettled.error.into());
    }
    store.settle_generations()?;
    for (name, installed) in &written {
        store.publish_ahead(name, installed)?;
    }
    Ok(store.settle_links()?)
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
        check_wave(&run.join("state"), armed);
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

/// What has its own name is whole, and so is what is live.
fn check_wave(state: &Path, armed: &str) {
    let store = Store::existing(state);
    for name in WAVE {
        for generation in store.generations(name).unwrap() {
            let path = store.read(name, &generation).unwrap_or_else(|error| panic!("{armed}: {error}")).path;
            FILES.iter().for_each(|(file, mode)| assert_eq!(mode_of(&path.join(file)), *mode, "{armed}: {name}/{file}"));
        }
        store.live(name).unwrap_or_else(|error| panic!("{armed}: {error}"));
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
    let umask = std::env::var("STORE_UMASK").map_or(0, |umask| umask.parse().unwrap());
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
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
fn under_the_narrowest_umask_everything_ends_the_same() {
    let rig = Rig::new();
    let run = rig.copy();
    let exit = again("pass_child").env("STORE_CHILD", &run).env("STORE_UMASK", 0o777.to_string()).output().unwrap();
    assert!(said(&exit).contains("ended well"), "{}", said(&exit));
    assert!(snapshot(&run) == rig.end);
}

#[test]
fn what_waits_gets_its_name_between_two_syncs_and_is_linked_after_them() {
    let rig = Rig::new();
    let at = |wanted: &str| {
        let hits = rig.hits.iter().enumerate().filter(|(_, name)| *name == wanted);
        hits.map(|(at, _)| at).collect::<Vec<_>>()
    };
    let [first, second] = at("atomic.settle")[..] else { panic!("{:?}", rig.hits) };
    // The first of a batch syncs itself.
    assert_eq!(rig.hits[first + 1..second], ["atomic.rename", "atomic.rename"]);
    assert_eq!(at("atomic.link.create").iter().filter(|at| **at > second).count(), WAVE.len());
    assert!(at("atomic.write.torn").iter().filter(|at| (first..second).contains(*at)).count() == 0);
}

#[test]
fn what_may_not_be_on_the_disk_does_not_go_live() {
    let rig = Rig::new();
    let unsettled = |armed: &str| {
        let run = rig.copy();
        let exit = rig.run(&run, armed);
        assert!(said(&exit).contains("failed: failed to sync the file system of"), "{armed}: {}", said(&exit));
        assert!(said(&exit).contains("Input/output error"), "{armed}: {}", said(&exit));
        let store = Store::existing(&run.join("state"));
        WAVE.iter().for_each(|name| assert!(store.live(name).unwrap().is_none(), "{armed}: `{name}` is live"));
        assert!(strays(&run).iter().all(|stray| stray.ends_with(".tmp-certsyncd-dead")), "{armed}: {:?}", strays(&run));
        WAVE.map(|name| store.generations(name).unwrap().len())
    };
    assert_eq!(unsettled("atomic.settle:1=eio"), [1, 0, 0], "a name before the bytes");
    assert_eq!(unsettled("atomic.settle:2=eio"), [1, 1, 1]);
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

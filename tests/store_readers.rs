//! Readers beside a writer: a folder opened once is always whole, and no secret is ever wider than asked, not for a moment.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod store_common;

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use certsyncd::config::{Format, Output};
use certsyncd::ledger::Ledger;
use certsyncd::store::{KEEP, Store};
use store_common::*;

const FLIPS: usize = 400;
const READERS: usize = 3;

#[test]
fn every_reader_sees_one_whole_generation_through_hundreds_of_flips() {
    let folder = in_memory();
    let store = Store::open(&folder.path().join("state")).unwrap();
    let bundles = bundles(4);
    let known: Vec<Contents> = bundles.iter().map(contents).collect();
    install(&store, &bundles[0]);
    let (done, reads, seen) = (AtomicBool::new(false), AtomicU64::new(0), std::sync::Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // `None`: pruned under our eyes, the link has moved on.
                    let Some(files) = read_as_server(store.root()) else { continue };
                    let which = known.iter().position(|known| *known == files).expect("a torn generation");
                    seen.lock().unwrap().insert(which);
                    let installed = store.live(NAME).unwrap().expect("nothing is live");
                    assert!(bundles.iter().any(|bundle| bundle.fingerprint() == installed.bundle.fingerprint()));
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            let _done = OnDrop(&done);
            for flip in 0..FLIPS {
                install(&store, &bundles[(flip + 1) % bundles.len()]);
                store.prune(NAME, KEEP).unwrap();
            }
        });
    });
    println!("{FLIPS} flips, {} reads, {:?} seen", reads.into_inner(), seen.lock().unwrap());
    assert!(seen.into_inner().unwrap().len() > 1, "the readers saw no flip");
}

/// Ends the readers even when the writer fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes 200 generations, outputs and ledgers under umask 0, in a process of its own.
#[test]
fn writer_child() {
    let Some(folder) = std::env::var_os("STORE_CHILD").map(PathBuf::from) else { return };
    rustix::process::umask(rustix::fs::Mode::empty());
    let store = Store::open(&folder.join("state")).unwrap();
    let bundles = load_bundles(&folder.join("bundles"));
    let output = Output {
        format: Format::Combined,
        path: folder.join("outputs/api.pem"),
        owner: None,
        group: None,
        mode: 0o600,
        password: None,
    };
    for number in 0..200 {
        let bundle = &bundles[number % bundles.len()];
        install(&store, bundle);
        store.write_output(&output, &bundle.files().files["combined.pem"]).unwrap();
        let mut ledger = Ledger::fresh();
        ledger.providers.insert(number.to_string(), Default::default());
        ledger.save(store.root()).unwrap();
        store.prune(NAME, KEEP).unwrap();
    }
}

#[test]
fn no_secret_is_ever_wider_than_asked() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["bundles", "outputs"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    save_bundles(&folder.path().join("bundles"), &bundles(3));
    let mut child = again("writer_child").env("STORE_CHILD", folder.path()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let done = AtomicBool::new(false);
    let watch = |name: &str| {
        let mut looks = 0_u64;
        while !done.load(Ordering::Relaxed) {
            looks += look(&folder.path().join(name));
        }
        looks
    };
    let (status, looks) = std::thread::scope(|scope| {
        let watch = &watch;
        let watchers = ["state", "outputs"].map(|name| scope.spawn(move || watch(name)));
        let status = child.wait().unwrap();
        done.store(true, Ordering::Relaxed);
        (status, watchers.map(|watcher| watcher.join().unwrap()).iter().sum::<u64>())
    });
    assert!(status.success());
    println!("{looks} looks at files and folders");
    assert!(looks > 5_000, "watched too little to say anything: {looks}");
    assert_eq!(mode_of(&folder.path().join("outputs/api.pem")), 0o600);
}

/// Looks at everything below `folder` that is there at this moment.
fn look(folder: &Path) -> u64 {
    let mut looks = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(found) = std::fs::symlink_metadata(entry.path()) else { continue };
        looks += 1;
        let mode = found.permissions().mode() & 0o7777;
        let name = entry.file_name().into_string().unwrap();
        if found.is_dir() {
            assert_eq!(mode & !0o755, 0, "{} is {mode:04o}", entry.path().display());
            looks += look(&entry.path());
        } else if found.is_file() {
            let most = match name.as_str() {
                "cert.pem" | "chain.pem" | "fullchain.pem" => 0o644,
                "ledger.json" | "lock" => 0o640,
                // The ledger's own temporary file gets its mode before its name; any other is closed.
                temporary if temporary.starts_with(".tmp-") && folder.ends_with("state") => 0o640,
                _ => 0o600,
            };
            assert_eq!(mode & !most, 0, "{} is {mode:04o}, links {}", entry.path().display(), found.nlink());
        }
    }
    looks
}

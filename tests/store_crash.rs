//! kill -9 at random moments, hundreds of times, with a reader beside: nothing is ever torn, and the next pass ends where an
//! undisturbed one ends.
//!
//! The seed is printed; `STORE_SEED=n` plays it again (as far as the machine's timing does).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod store_common;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use certsyncd::ledger::{CertificateRecord, Ledger};
use certsyncd::store::{KEEP, Store};
use store_common::*;

const KILLS: u32 = 300;

/// What the disk's part of a pass is, over and over: sweep, load, repair, write, publish, prune, save.
#[test]
fn endless_child() {
    let Some(folder) = std::env::var_os("STORE_CHILD").map(PathBuf::from) else { return };
    let bundles = load_bundles(&folder.join("bundles"));
    println!("ready");
    for number in (0..bundles.len()).cycle() {
        pass(&folder.join("state"), &bundles[number]);
    }
}

fn pass(state: &std::path::Path, bundle: &certsyncd::certificate::Bundle) {
    let store = Store::open(state).unwrap();
    store.sweep().unwrap();
    let loaded = Ledger::load(state).unwrap();
    assert!(loaded.rebuilt.is_none_or(|why| why.ends_with("was missing")), "the ledger was torn");
    let mut ledger = loaded.ledger;
    let record: &mut CertificateRecord = ledger.certificates.entry(NAME.to_owned()).or_default();
    let generation = record.live.as_ref().map(|live| live.generation.clone());
    let repair = store.repair(NAME, &record.hashes.by_name(), generation.as_deref()).unwrap();
    assert!(repair.damaged.is_none() && repair.drift.is_empty(), "a crash looks like drift: {repair:?}");
    let live = match repair.installed.filter(|installed| installed.bundle.fingerprint() == bundle.fingerprint()) {
        Some(installed) => installed,
        None => {
            let installed = store.write(NAME, bundle).unwrap();
            store.publish(NAME, &installed.generation).unwrap();
            installed
        }
    };
    // Also when it was live already: the pass before may have died between publishing and remembering.
    if generation.as_deref() != Some(live.generation.as_str()) {
        record.hashes = (&live.hashes).into();
        record.live = Some(Arc::new(certsyncd::report::Live {
            fingerprint: bundle.fingerprint(),
            generation: live.generation,
            names: bundle.names().to_vec(),
            not_before: bundle.not_before(),
            not_after: bundle.not_after(),
        }));
        ledger.save(state).unwrap();
    }
    store.prune(NAME, KEEP).unwrap();
}

#[test]
fn three_hundred_kills_leave_nothing_torn() {
    let seed = std::env::var("STORE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64);
    println!("STORE_SEED={seed}");
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let (state, done) = (folder.path().join("state"), AtomicBool::new(false));
    std::fs::create_dir(folder.path().join("bundles")).unwrap();
    let bundles = bundles(3);
    save_bundles(&folder.path().join("bundles"), &bundles);
    pass(&state, &bundles[0]);

    let (mut strays_seen, mut reads) = (0, 0);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0_u64;
            while !done.load(Ordering::Relaxed) {
                if let Some(files) = read_as_server(&state) {
                    assert!(bundles.iter().any(|bundle| contents(bundle) == files), "a torn generation");
                    reads += 1;
                }
            }
            reads
        });
        let began = Instant::now();
        for _ in 0..KILLS {
            let mut child = again("endless_child").env("STORE_CHILD", folder.path()).stdout(Stdio::piped()).spawn().unwrap();
            let ready = BufReader::new(child.stdout.take().unwrap()).lines().any(|line| line.unwrap().contains("ready"));
            assert!(ready, "the other process did not come up");
            let end = Instant::now() + Duration::from_micros(random.below(20_000));
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            kill(&mut child);
            strays_seen += strays(&state).len();
            check_invariants(&state, &bundles, true);
        }
        done.store(true, Ordering::Relaxed);
        reads = reader.join().unwrap();
        println!("{KILLS} kills in {:?}, {strays_seen} strays swept, {reads} reads", began.elapsed());
    });
    assert!(strays_seen > 0 && reads > 0, "no kill came in the middle of anything");

    // The next, undisturbed pass.
    pass(&state, &bundles[1]);
    assert_eq!(read_as_server(&state).unwrap(), contents(&bundles[1]));
    assert_eq!(strays(&state).len(), 0);
    let store = Store::existing(&state);
    assert!(store.generations(NAME).unwrap().len() <= KEEP + 1);
    let ledger = Ledger::load(&state).unwrap();
    assert_eq!(ledger.rebuilt, None);
    let remembered = ledger.ledger.certificates[NAME].live.as_ref().unwrap().generation.clone();
    assert_eq!(Some(remembered), store.live_generation(NAME).unwrap());
}

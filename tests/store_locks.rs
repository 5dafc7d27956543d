//! Locks: held by living processes only, waited for within a bound; and becoming the owner of the state directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod store_common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use certsyncd::store::{Became, Error, become_owner, lock};
use store_common::*;

/// Another process that holds both locks until it is killed.
fn holder(state: &Path) -> Child {
    let mut child = again("holder_child").env("STORE_CHILD", state).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("holding")), "the other process did not get the locks");
    child
}

#[tokio::test]
async fn holder_child() {
    let Some(state) = std::env::var_os("STORE_CHILD").map(PathBuf::from) else { return };
    let _pass = lock::pass(&state, Duration::ZERO).await.unwrap();
    let _daemon = lock::daemon(&state).unwrap();
    println!("holding");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_lock_says_who_holds_it_and_ends_with_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = holder(folder.path());
    for held in [lock::daemon(folder.path()), lock::pass(folder.path(), Duration::ZERO).await] {
        let error = held.unwrap_err();
        let Error::Held { by } = &error else { panic!("{error:?}") };
        assert!(by.starts_with(&format!("process {}, `", child.id())), "{by}");
        assert!(by.contains("holder_child") && by.contains("since 20"), "{by}");
        assert_eq!((error.kind(), error.is_transient()), ("held", true));
    }
    kill(&mut child);
    assert!(folder.path().join("lock").exists(), "the file stays, the lock does not");
    let _pass = lock::pass(folder.path(), Duration::ZERO).await.unwrap();
    let _daemon = lock::daemon(folder.path()).unwrap();
}

#[tokio::test]
async fn a_pass_waits_up_to_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let first = lock::pass(folder.path(), Duration::ZERO).await.unwrap();
    assert_eq!(mode_of(&folder.path().join("lock")) & 0o007, 0);
    let bound = Duration::from_millis(250);
    let began = Instant::now();
    assert_eq!(lock::pass(folder.path(), bound).await.unwrap_err().kind(), "held");
    assert!(began.elapsed() >= bound);

    let state = folder.path().to_owned();
    let waiting = tokio::spawn(async move { lock::pass(&state, Duration::from_secs(60)).await });
    tokio::task::yield_now().await;
    drop(first);
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn two_state_directories_do_not_know_each_other() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _one = lock::pass(one.path(), Duration::ZERO).await.unwrap();
    let _two = lock::pass(two.path(), Duration::ZERO).await.unwrap();
    let _daemon = lock::daemon(one.path()).unwrap();
}

#[tokio::test]
async fn a_file_left_behind_or_filled_with_rubbish_holds_nobody() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lock"), vec![0xff; 100_000]).unwrap();
    let held = lock::pass(folder.path(), Duration::ZERO).await.unwrap();
    // Rubbish written while it is held neither breaks the lock nor reaches the terminal.
    std::fs::write(folder.path().join("lock"), b"\x1b[2Jprocess 1\n").unwrap();
    let error = lock::pass(folder.path(), Duration::ZERO).await.unwrap_err();
    assert!(error.to_string().ends_with("[2Jprocess 1") && !error.to_string().contains('\x1b'), "{error}");
    std::fs::write(folder.path().join("lock"), b"").unwrap();
    assert!(lock::pass(folder.path(), Duration::ZERO).await.unwrap_err().to_string().contains("not said its name"));
    drop(held);
    lock::pass(folder.path(), Duration::ZERO).await.unwrap();
}

#[test]
fn root_becomes_the_owner_of_the_state_directory() {
    let (folder, store) = store();
    assert_eq!(become_owner(store.root()).unwrap(), Became::Unchanged, "it is ours");
    assert_eq!(become_owner(&folder.path().join("missing")).unwrap(), Became::Unchanged);
    if !is_root() {
        return;
    }
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(store.root(), Some(1), None).unwrap();
    let out = again("owner_child").env("STORE_CHILD", store.root()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let written = std::fs::metadata(store.root().join("ledger.json")).unwrap();
    let (uid, gid) = (std::os::unix::fs::MetadataExt::uid(&written), std::os::unix::fs::MetadataExt::gid(&written));
    assert_eq!((uid, gid), (1, 1), "user `daemon` with its own group");
}

#[test]
fn owner_child() {
    let Some(state) = std::env::var_os("STORE_CHILD").map(PathBuf::from) else { return };
    assert_eq!(become_owner(&state).unwrap(), Became::User(1));
    certsyncd::ledger::Ledger::fresh().save(&state).unwrap();
    assert!(std::fs::write("/etc/certsyncd-test", b"").is_err(), "no way back to root");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(line("Uid:"), ["1"; 4]);
    assert_eq!(line("Gid:"), ["1"; 4]);
    assert!(!line("Groups:").contains(&"0"));
    assert_eq!(line("CapEff:"), ["0000000000000000"]);
}

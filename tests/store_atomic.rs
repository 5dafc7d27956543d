//! The one door to the disk: bounds, links, words of errors, and sweeping beside living writers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod store_common;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use certsyncd::atomic::{self, Access, Change, Error, TEMPORARY, TemporaryFolder};
use store_common::*;

const CLOSED: Access = Access::mode(0o600);

#[test]
fn writing_says_what_it_had_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    assert_eq!(atomic::write(&path, b"one", CLOSED).unwrap(), Change::Content);
    assert_eq!(atomic::write(&path, b"one", CLOSED).unwrap(), Change::Nothing);
    assert_eq!(atomic::write(&path, b"one", Access::mode(0o604)).unwrap(), Change::Access);
    assert_eq!(mode_of(&path), 0o604);
    assert_eq!(atomic::write(&path, b"two", Access::mode(0o604)).unwrap(), Change::Content);
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_link_is_replaced_and_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (path, target) = (folder.path().join("file"), folder.path().join("target"));
    std::fs::write(&target, b"one").unwrap();
    symlink(&target, &path).unwrap();
    assert_eq!(atomic::write(&path, b"one", CLOSED).unwrap(), Change::Content, "the same bytes behind a link are not a file");
    assert!(!std::fs::symlink_metadata(&path).unwrap().is_symlink());
    atomic::write(&path, b"two", CLOSED).unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"one");
}

#[test]
fn creating_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    atomic::create(&path, b"one", CLOSED).unwrap();
    let error = atomic::create(&path, b"two", CLOSED).unwrap_err();
    assert_eq!(error.to_string(), format!("failed to create `{}`", path.display()));
    assert_eq!(std::fs::read(&path).unwrap(), b"one");
    assert!(!atomic::create_folder(folder.path(), 0o700).unwrap(), "a folder that is there is fine");
    assert!(atomic::create_folder(&path, 0o700).is_err(), "a file in its place is not");
}

#[test]
fn reading_is_bounded_at_its_edge() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    assert!(atomic::read(&path, 3).unwrap().is_none());
    std::fs::write(&path, b"abc").unwrap();
    assert_eq!(atomic::read(&path, 3).unwrap().unwrap().as_slice(), b"abc");
    let error = atomic::read(&path, 2).unwrap_err();
    assert_eq!((error.kind(), error.to_string()), ("too_large", format!("`{}` is larger than 2 bytes", path.display())));
    assert_eq!(atomic::read_start(&path, 2).unwrap(), b"ab");
    assert_eq!(atomic::read(folder.path(), 2).unwrap_err().kind(), "wrong_kind");
    // A device that never ends and has no length.
    assert!(matches!(atomic::read(Path::new("/dev/zero"), 10).unwrap_err(), Error::Kind { .. }));
}

#[test]
fn errors_name_the_operation_and_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/file");
    let error = atomic::write(&path, b"one", CLOSED).unwrap_err();
    assert_eq!(error.to_string(), format!("failed to create a temporary file beside `{}`", path.display()));
    assert_eq!((error.kind(), error.is_transient()), ("missing", false));
    assert!(atomic::list(&path).unwrap().is_empty());
    assert!(!atomic::put_aside(&path, &folder.path().join("aside")).unwrap());
    assert!(!atomic::remove_tree(&path).unwrap());
}

/// Four writers of files and folders, and a sweep that never rests: nothing that lives is taken, and nothing fails.
#[test]
fn a_sweep_leaves_living_writers_alone() {
    const ROUNDS: usize = 1000;
    let folder = in_memory();
    let (done, root) = (AtomicBool::new(false), folder.path());
    std::thread::scope(|scope| {
        let files = (0..2).map(|writer| scope.spawn(move || write_files(&root.join(format!("file-{writer}")), ROUNDS)));
        let folders = (0..2).map(|writer| scope.spawn(move || make_folders(&root.join(format!("folder-{writer}")), ROUNDS)));
        let writers: Vec<_> = files.chain(folders).collect();
        let sweeper = scope.spawn(|| {
            let mut sweeps = 0;
            while !done.load(Ordering::Relaxed) {
                atomic::sweep(root, TEMPORARY).unwrap();
                sweeps += 1;
            }
            sweeps
        });
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        println!("{} sweeps", sweeper.join().unwrap());
        results.into_iter().for_each(|result| result.unwrap());
    });
    assert_eq!(strays(root).len(), 0);
}

fn write_files(path: &Path, rounds: usize) {
    for round in 0..rounds {
        atomic::write(path, round.to_string().as_bytes(), CLOSED).unwrap();
    }
    assert_eq!(std::fs::read(path).unwrap(), (rounds - 1).to_string().as_bytes());
}

fn make_folders(path: &Path, rounds: usize) {
    for round in 0..rounds {
        let temporary = TemporaryFolder::new(path.parent().unwrap()).unwrap();
        atomic::create(&temporary.path().join("file"), b"one", CLOSED).unwrap();
        let named: PathBuf = path.with_extension(round.to_string());
        temporary.publish(&named, 0o755).unwrap();
        assert_eq!(std::fs::read(named.join("file")).unwrap(), b"one");
    }
}

#[test]
fn a_folder_that_is_never_published_goes_away() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = TemporaryFolder::new(folder.path()).unwrap();
    assert_eq!(mode_of(temporary.path()), 0o700);
    drop(temporary);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

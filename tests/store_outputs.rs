//! Outputs: atomic in their own folder, with owner and mode, beside what the operator had there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod store_common;

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use certsyncd::config::{Format, Output};
use certsyncd::store::{OutputChange, Store};
use store_common::*;

const WRITTEN: OutputChange = OutputChange::Written { kept: None };

fn output(path: PathBuf) -> Output {
    Output { format: Format::Combined, path, owner: None, group: None, mode: 0o640, password: None }
}

/// A store, and an output in a folder of its own.
fn host() -> (tempfile::TempDir, Store, Output) {
    let (folder, store) = store();
    let certs = folder.path().join("certs");
    std::fs::create_dir(&certs).unwrap();
    let output = output(certs.join("api.pem"));
    (folder, store, output)
}

fn kept(output: &Output) -> PathBuf {
    output.path.with_file_name(".api.pem.before-certsyncd")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn unchanged_content_writes_nothing() {
    let (_folder, store, output) = host();
    assert_eq!(store.write_output(&output, b"one").unwrap(), WRITTEN);
    let inode = std::fs::metadata(&output.path).unwrap().ino();
    assert_eq!(store.write_output(&output, b"one").unwrap(), OutputChange::Unchanged);
    assert_eq!(std::fs::metadata(&output.path).unwrap().ino(), inode);
    assert_eq!(mode_of(&output.path), 0o640);
    assert_eq!(store.write_output(&output, b"two").unwrap(), WRITTEN);
    assert_eq!(std::fs::read(&output.path).unwrap(), b"two");
    assert_eq!(names(output.path.parent().unwrap()), ["api.pem"], "our own earlier file is not kept");
}

#[test]
fn a_changed_mode_is_put_right() {
    let (_folder, store, output) = host();
    store.write_output(&output, b"one").unwrap();
    std::fs::set_permissions(&output.path, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(store.write_output(&output, b"one").unwrap(), OutputChange::PutRight);
    assert_eq!(mode_of(&output.path), 0o640);
}

#[test]
fn the_operators_file_is_kept_once() {
    let (_folder, store, output) = host();
    std::fs::write(&output.path, b"the operator's").unwrap();
    std::fs::set_permissions(&output.path, Permissions::from_mode(0o604)).unwrap();
    let change = store.write_output(&output, b"one").unwrap();
    assert_eq!(change, OutputChange::Written { kept: Some(kept(&output)) });
    assert_eq!(std::fs::read(kept(&output)).unwrap(), b"the operator's");
    assert_eq!(mode_of(&kept(&output)), 0o604);
    assert_eq!((std::fs::read(&output.path).unwrap(), mode_of(&output.path)), (b"one".to_vec(), 0o640));

    assert_eq!(store.write_output(&output, b"two").unwrap(), WRITTEN);
    std::fs::write(&output.path, b"edited by hand").unwrap();
    assert_eq!(store.write_output(&output, b"two").unwrap(), WRITTEN);
    assert_eq!(std::fs::read(kept(&output)).unwrap(), b"the operator's");
    assert!(names(output.path.parent().unwrap()).iter().filter(|name| !name.starts_with('.')).eq(["api.pem"]));
}

#[test]
fn a_file_that_is_right_already_is_left_and_kept_only_when_it_changes() {
    let (_folder, store, output) = host();
    std::fs::write(&output.path, b"one").unwrap();
    std::fs::set_permissions(&output.path, Permissions::from_mode(0o640)).unwrap();
    assert_eq!(store.write_output(&output, b"one").unwrap(), OutputChange::Unchanged);
    assert!(!kept(&output).exists());
    assert_eq!(store.write_output(&output, b"two").unwrap(), OutputChange::Written { kept: Some(kept(&output)) });
}

#[test]
fn a_link_is_kept_as_a_link_and_its_target_untouched() {
    let (folder, store, output) = host();
    let target = folder.path().join("target.pem");
    std::fs::write(&target, b"somewhere else").unwrap();
    symlink(&target, &output.path).unwrap();
    store.write_output(&output, b"one").unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"somewhere else");
    assert!(std::fs::symlink_metadata(&output.path).unwrap().is_file());
    assert_eq!(std::fs::read_link(kept(&output)).unwrap(), target);
}

#[test]
fn what_a_crash_left_beside_an_output_is_swept() {
    let (_folder, store, output) = host();
    let folder = output.path.parent().unwrap();
    std::fs::write(folder.join(".tmp-certsyncd-dead"), b"half").unwrap();
    std::fs::write(folder.join(".tmp-somebody-elses"), b"").unwrap();
    store.write_output(&output, b"one").unwrap();
    assert_eq!(names(folder), [".tmp-somebody-elses", "api.pem"]);
    // Another process may die later: each sweep of the store looks again.
    std::fs::write(folder.join(".tmp-certsyncd-dead"), b"half").unwrap();
    store.sweep().unwrap();
    store.write_output(&output, b"one").unwrap();
    assert_eq!(names(folder), [".tmp-somebody-elses", "api.pem"]);
}

#[test]
fn owner_and_group_are_set_by_name_and_number() {
    if !is_root() {
        return;
    }
    let (_folder, store, mut output) = host();
    (output.owner, output.group) = (Some("daemon".to_owned()), Some("4711".to_owned()));
    assert_eq!(store.write_output(&output, b"one").unwrap(), WRITTEN);
    let found = std::fs::metadata(&output.path).unwrap();
    assert_eq!((found.uid(), found.gid(), mode_of(&output.path)), (1, 4711, 0o640));
    assert_eq!(store.write_output(&output, b"one").unwrap(), OutputChange::Unchanged);
    output.group = Some("root".to_owned());
    assert_eq!(store.write_output(&output, b"one").unwrap(), OutputChange::PutRight);
    assert_eq!(std::fs::metadata(&output.path).unwrap().gid(), 0);
}

#[test]
fn failures_say_what_to_do() {
    let (folder, store, output) = host();
    let missing = Output { path: folder.path().join("missing").join("api.pem"), ..output.clone() };
    let error = store.write_output(&missing, b"one").unwrap_err();
    assert_eq!((error.kind(), error.to_string()), ("missing", format!("failed to write output `{}`", missing.path.display())));
    assert!(error.hint().unwrap().contains("systemd/certsyncd.service.d/outputs.conf"), "{:?}", error.hint());

    std::fs::create_dir(&output.path).unwrap();
    assert_eq!(store.write_output(&output, b"one").unwrap_err().kind(), "wrong_kind");

    let unknown = Output { owner: Some("no-such-user".to_owned()), path: folder.path().join("x.pem"), ..output };
    let error = store.write_output(&unknown, b"one").unwrap_err();
    assert_eq!(error.kind(), "unknown_owner");
    assert!(!unknown.path.exists());
}

#[test]
fn a_folder_without_rights_names_the_drop_in() {
    let (folder, store, output) = host();
    let certs = output.path.parent().unwrap();
    std::fs::set_permissions(certs, Permissions::from_mode(0o555)).unwrap();
    let hint = match is_root() {
        false => store.write_output(&output, b"one").unwrap_err().hint().unwrap(),
        true => as_nobody("without_rights_child", folder.path()),
    };
    assert!(hint.contains("/usr/share/doc/certsyncd/examples/outputs.conf"), "{hint}");
    assert_eq!(names(certs), [""; 0]);
}

/// A root-owned file in a folder where the service may write: it cannot be linked, and still stays beside.
#[test]
fn a_file_of_another_owner_is_kept_too() {
    if !is_root() {
        return;
    }
    let (folder, _store, output) = host();
    std::fs::set_permissions(output.path.parent().unwrap(), Permissions::from_mode(0o777)).unwrap();
    std::fs::write(&output.path, b"root's").unwrap();
    std::fs::set_permissions(&output.path, Permissions::from_mode(0o600)).unwrap();
    let said = as_nobody("another_owner_child", folder.path());
    assert!(said.contains("kept: Some"), "{said}");
    assert_eq!(std::fs::read(kept(&output)).unwrap(), b"root's");
    assert_eq!(std::fs::metadata(kept(&output)).unwrap().uid(), 0);
    assert_eq!(std::fs::read(&output.path).unwrap(), b"one");
    assert_eq!(names(output.path.parent().unwrap()), [".api.pem.before-certsyncd", "api.pem"]);
}

/// Runs `child` of this binary on `folder` as the state directory's owner, user 4712; what it said.
fn as_nobody(child: &str, folder: &Path) -> String {
    for path in [folder.to_owned(), folder.join("state"), folder.join("state/outputs")] {
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&path, Some(4712), Some(4712)).unwrap();
    }
    let out = again(child).env("STORE_CHILD", folder).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    text
}

fn child_store() -> Option<(Store, Output)> {
    let folder = PathBuf::from(std::env::var_os("STORE_CHILD")?);
    let state = folder.join("state");
    certsyncd::store::become_owner(&state).unwrap();
    assert!(!is_root());
    Some((Store::existing(&state), output(folder.join("certs/api.pem"))))
}

#[test]
fn without_rights_child() {
    if let Some((store, output)) = child_store() {
        println!("{}", store.write_output(&output, b"one").unwrap_err().hint().unwrap());
    }
}

#[test]
fn another_owner_child() {
    if let Some((store, output)) = child_store() {
        println!("{:?}", store.write_output(&output, b"one").unwrap());
    }
}

#[test]
fn an_output_on_another_file_system_is_atomic_there() {
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    let (folder, store, _) = host();
    let output = output(elsewhere.path().join("api.pem"));
    let device = |path: &Path| std::fs::metadata(path).unwrap().dev();
    println!("two devices: {}", device(folder.path()) != device(elsewhere.path()));
    std::fs::write(&output.path, b"the operator's").unwrap();
    assert_eq!(store.write_output(&output, b"one").unwrap(), OutputChange::Written { kept: Some(kept(&output)) });
    assert_eq!(names(elsewhere.path()), [".api.pem.before-certsyncd", "api.pem"]);
}

#[test]
fn a_folder_that_may_be_written_but_not_listed_will_do() {
    if !is_root() {
        return;
    }
    let (folder, _store, output) = host();
    std::fs::set_permissions(output.path.parent().unwrap(), Permissions::from_mode(0o733)).unwrap();
    assert!(as_nobody("another_owner_child", folder.path()).contains("Written"));
}

//! Repair: what others broke is put right, and never by going back to an older certificate.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod store_common;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use certsyncd::certificate::Bundle;
use certsyncd::store::{FILES, Installed, Repair, Store};
use store_common::*;

/// An older and a live generation, as a ledger remembers the live one.
struct Host {
    _folder: tempfile::TempDir,
    store: Store,
    bundles: Vec<Bundle>,
    older: Installed,
    live: Installed,
    link: PathBuf,
}

impl Host {
    fn new() -> Host {
        let (folder, store) = store();
        let bundles = bundles(2);
        let (older, live) = (install(&store, &bundles[0]), install(&store, &bundles[1]));
        let link = store.root().join("live").join(NAME);
        Host { _folder: folder, store, bundles, older, live, link }
    }

    fn repair(&self) -> Repair {
        self.store.repair(NAME, &self.live.hashes, Some(&self.live.generation)).unwrap()
    }

    fn repair_without_memory(&self) -> Repair {
        self.store.repair(NAME, &BTreeMap::new(), None).unwrap()
    }

    /// The certificate of the live generation is live and whole, and a second look finds nothing.
    fn is_right_again(&self, repair: &Repair) {
        let installed = repair.installed.as_ref().expect("nothing is live");
        assert_eq!(installed.bundle.fingerprint(), self.bundles[1].fingerprint());
        assert_eq!(read_as_server(self.store.root()).unwrap(), contents(&self.bundles[1]));
        assert!(repair.damaged.is_none());
        for (file, mode) in FILES {
            assert_eq!(mode_of(&self.link.join(file)), mode, "{file}");
        }
        let again = self.store.repair(NAME, &installed.hashes, Some(&installed.generation)).unwrap();
        assert!(again.drift.is_empty(), "{:?}", again.drift);
        assert_eq!(again.installed.unwrap().generation, installed.generation);
        assert!(strays(self.store.root()).is_empty());
    }
}

#[test]
fn what_is_right_stays_as_it_is() {
    let host = Host::new();
    let repair = host.repair();
    assert!(repair.drift.is_empty(), "{:?}", repair.drift);
    assert_eq!(repair.installed.as_ref().unwrap().generation, host.live.generation);
    host.is_right_again(&repair);
    assert!(host.repair_without_memory().drift.is_empty());
    assert_eq!(host.store.generations(NAME).unwrap().len(), 2);
}

#[test]
fn nothing_on_disk_is_nothing_to_repair() {
    let (_folder, store) = store();
    let repair = store.repair(NAME, &BTreeMap::new(), None).unwrap();
    assert!(repair.drift.is_empty() && repair.installed.is_none() && repair.damaged.is_none());
}

#[test]
fn a_broken_link_is_put_back() {
    type Break = fn(&Host);
    let breaks: [(&str, Break); 5] = [
        ("was missing", |host| std::fs::remove_file(&host.link).unwrap()),
        ("points to `/etc`", |host| {
            std::fs::remove_file(&host.link).unwrap();
            symlink("/etc", &host.link).unwrap();
        }),
        ("older generation", |host| host.store.publish(NAME, &host.older.generation).unwrap()),
        ("it is a folder", |host| {
            std::fs::remove_file(&host.link).unwrap();
            std::fs::create_dir(&host.link).unwrap();
            std::fs::write(host.link.join("combined.pem"), b"an operator's copy").unwrap();
        }),
        ("it is a file", |host| {
            std::fs::remove_file(&host.link).unwrap();
            std::fs::write(&host.link, b"an operator's copy").unwrap();
        }),
    ];
    for (words, fault) in breaks {
        let host = Host::new();
        fault(&host);
        let repair = host.repair();
        assert_eq!(repair.drift.len(), 1, "{words}: {:?}", repair.drift);
        assert!(repair.drift[0].contains(words), "{words}: {:?}", repair.drift);
        assert_eq!(repair.installed.as_ref().unwrap().generation, host.live.generation, "{words}: no new generation is needed");
        host.is_right_again(&repair);
    }
}

#[test]
fn a_strangers_folder_is_kept_beside() {
    let host = Host::new();
    std::fs::remove_file(&host.link).unwrap();
    std::fs::create_dir(&host.link).unwrap();
    std::fs::write(host.link.join("combined.pem"), b"an operator's copy").unwrap();
    host.repair();
    let kept = host.store.root().join("live").join(format!(".{NAME}.before-certsyncd"));
    assert_eq!(std::fs::read(kept.join("combined.pem")).unwrap(), b"an operator's copy");
    assert_eq!(host.store.names().unwrap(), [NAME]);
    assert!(host.store.sweep().unwrap().is_empty(), "what is kept is no stray");
}

#[test]
fn a_newer_link_than_remembered_is_a_crash_and_no_drift() {
    let host = Host::new();
    let repair = host.store.repair(NAME, &host.older.hashes, Some(&host.older.generation)).unwrap();
    assert!(repair.drift.is_empty(), "{:?}", repair.drift);
    assert_eq!(repair.installed.unwrap().generation, host.live.generation);
}

#[test]
fn without_memory_a_missing_link_is_a_crashed_pass() {
    let host = Host::new();
    std::fs::remove_file(&host.link).unwrap();
    let repair = host.repair_without_memory();
    assert!(repair.drift.is_empty(), "{:?}", repair.drift);
    host.is_right_again(&repair);
}

#[test]
fn one_edited_file_is_rebuilt_from_the_others() {
    for (file, _) in FILES {
        for damage in [b"".as_slice(), b"edited by hand\n"] {
            for remembered in [true, false] {
                let host = Host::new();
                std::fs::write(host.live.path.join(file), damage).unwrap();
                let repair = if remembered { host.repair() } else { host.repair_without_memory() };
                assert_eq!(repair.drift.len(), 1, "{file}: {:?}", repair.drift);
                assert!(repair.installed.as_ref().unwrap().generation.starts_with("000003-"), "{file}: a new generation");
                assert_eq!(std::fs::read(host.live.path.join(file)).unwrap(), damage, "a generation never changes");
                host.is_right_again(&repair);
            }
        }
    }
}

#[test]
fn a_missing_file_is_rebuilt_from_the_others() {
    for (file, _) in FILES {
        let host = Host::new();
        std::fs::remove_file(host.live.path.join(file)).unwrap();
        let repair = host.repair();
        assert!(repair.drift[0].contains(&format!("`{file}` is missing")), "{:?}", repair.drift);
        host.is_right_again(&repair);
    }
}

#[test]
fn an_edit_that_still_fits_is_seen_by_its_hash() {
    let host = Host::new();
    // Another valid pair in every file: only the memory (and the generation's name) knows better.
    for (file, bytes) in contents(&host.bundles[0]) {
        std::fs::write(host.live.path.join(file), bytes).unwrap();
    }
    let repair = host.repair();
    assert!(repair.damaged.as_ref().unwrap().contains("`cert.pem` was edited"), "{:?}", repair.damaged);
    assert!(repair.installed.is_none() && repair.drift.is_empty());

    let host = Host::new();
    let mut commented = std::fs::read(host.live.path.join("fullchain.pem")).unwrap();
    commented.extend_from_slice(b"# a remark\n");
    std::fs::write(host.live.path.join("fullchain.pem"), commented).unwrap();
    let repair = host.repair();
    assert!(repair.drift[0].contains("`fullchain.pem` was edited"), "{:?}", repair.drift);
    host.is_right_again(&repair);
}

#[test]
fn a_cut_chain_does_not_win_over_a_whole_one() {
    let host = Host::new();
    let leaf = std::fs::read(host.live.path.join("cert.pem")).unwrap();
    std::fs::write(host.live.path.join("fullchain.pem"), leaf).unwrap();
    std::fs::remove_file(host.live.path.join("combined.pem")).unwrap();
    host.is_right_again(&host.repair_without_memory());
}

#[test]
fn what_cannot_be_rebuilt_is_fetched_again_and_not_replaced_by_an_older_one() {
    let damages: [fn(&Host); 3] = [
        |host| ["privkey.pem", "combined.pem"].iter().for_each(|file| std::fs::remove_file(host.live.path.join(file)).unwrap()),
        |host| std::fs::remove_dir_all(&host.live.path).unwrap(),
        |host| {
            std::fs::remove_dir_all(&host.live.path).unwrap();
            std::fs::write(&host.live.path, b"no folder").unwrap();
        },
    ];
    for damage in damages {
        for remembered in [true, false] {
            let host = Host::new();
            damage(&host);
            let repair = if remembered { host.repair() } else { host.repair_without_memory() };
            assert!(repair.damaged.as_ref().unwrap().contains(&host.live.generation), "{:?}", repair.damaged);
            assert!(repair.installed.is_none());
            let target = std::fs::read_link(&host.link).unwrap();
            assert!(target.ends_with(&host.live.generation), "the link stays, not back to the older one");
            // Fetched again:
            install(&host.store, &host.bundles[1]);
            assert_eq!(read_as_server(host.store.root()).unwrap(), contents(&host.bundles[1]));
        }
    }
}

#[test]
fn a_strangers_link_with_nothing_behind_it_is_fetched_again() {
    let (_folder, store) = store();
    symlink("/etc", store.root().join("live").join(NAME)).unwrap();
    let repair = store.repair(NAME, &BTreeMap::new(), None).unwrap();
    assert_eq!(repair.damaged.unwrap(), format!("live link `{NAME}` is damaged: it points to `/etc`"));
    assert!(repair.installed.is_none());
    install(&store, &bundles(1)[0]);
    assert!(store.live(NAME).unwrap().is_some());
}

#[test]
fn modes_are_put_right() {
    let host = Host::new();
    let wrong = |path: PathBuf, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    wrong(host.live.path.join("privkey.pem"), 0o644);
    wrong(host.live.path.join("cert.pem"), 0o000);
    wrong(host.live.path.clone(), 0o777);
    wrong(host.store.root().join("live"), 0o700);
    let repair = host.repair();
    assert_eq!(repair.drift.len(), 4, "{:?}", repair.drift);
    let key = format!("`generations/{NAME}/{}/privkey.pem` had mode 0644; it has 0600 again", host.live.generation);
    assert!(repair.drift.contains(&key), "{:?}", repair.drift);
    assert_eq!(mode_of(&host.store.root().join("live")), 0o755);
    assert_eq!(mode_of(&host.live.path), 0o755);
    assert_eq!(repair.installed.as_ref().unwrap().generation, host.live.generation, "modes need no new generation");
    host.is_right_again(&repair);
}

/// Files that root left in the service's folders: the service cannot change them, but it can make its own.
#[test]
fn what_belongs_to_another_user_is_rebuilt_as_our_own() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    for folder in ["", "live", "generations", "generations/www.example.com"] {
        std::os::unix::fs::chown(host.store.root().join(folder), Some(4712), Some(4712)).unwrap();
    }
    std::os::unix::fs::chown(&host.live.path, Some(4712), Some(4712)).unwrap();
    for (file, _) in FILES {
        std::os::unix::fs::chown(host.live.path.join(file), Some(4712), Some(4712)).unwrap();
    }
    std::os::unix::fs::chown(host.live.path.join("cert.pem"), Some(0), Some(0)).unwrap();
    std::fs::set_permissions(host._folder.path(), Permissions::from_mode(0o755)).unwrap();
    let out = again("foreign_child").env("STORE_CHILD", host.store.root()).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("cert.pem` belongs to user 0); it was rebuilt as `000003-"), "{text}");
    assert_eq!(read_as_server(host.store.root()).unwrap(), contents(&host.bundles[1]));
}

#[test]
fn foreign_child() {
    let Some(state) = std::env::var_os("STORE_CHILD").map(PathBuf::from) else { return };
    certsyncd::store::become_owner(&state).unwrap();
    println!("{:?}", Store::existing(&state).repair(NAME, &BTreeMap::new(), None).unwrap().drift);
}

#[test]
fn owners_are_put_right() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    std::os::unix::fs::chown(host.live.path.join("privkey.pem"), Some(4711), None).unwrap();
    let repair = host.repair();
    assert!(repair.drift[0].contains("privkey.pem` belonged to user 4711; it belongs to 0 again"), "{:?}", repair.drift);
    host.is_right_again(&repair);
}

/// As inside the unit with `PrivateUsers=yes`: a foreign owner reads as nobody, which is no drift.
#[test]
fn an_owner_that_the_user_namespace_hides_is_no_drift() {
    let host = Host::new();
    if !is_root() || std::os::unix::fs::chown(host.live.path.join("cert.pem"), Some(4711), None).is_err() {
        return;
    }
    let itself = again("foreign_child");
    let mut inside = std::process::Command::new("unshare");
    inside.args(["--user", "--map-root-user"]).arg(itself.get_program()).args(itself.get_args());
    let out = inside.env("STORE_CHILD", host.store.root()).output();
    let Some(out) = out.ok().filter(|out| !String::from_utf8_lossy(&out.stderr).starts_with("unshare:")) else {
        println!("ran without a user namespace: none to be had here");
        return;
    };
    assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).contains("[]"), "{out:?}");
    assert_eq!(host.repair().drift.len(), 1, "outside it is drift");
}

//! Generations and the live link: layout, modes, order, what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod store_common;

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use certsyncd::store::{Error, FILES, KEEP, MAX_FILE, Store};
use store_common::*;

#[test]
fn the_layout_is_the_contracts() {
    let (_folder, store) = store();
    let bundle = &bundles(1)[0];
    let written = store.write(NAME, bundle).unwrap();
    assert_eq!(written.generation, format!("000001-{}", bundle.fingerprint().short()));
    assert!(store.live(NAME).unwrap().is_none(), "written is not yet live");
    store.publish(NAME, &written.generation).unwrap();

    let link = store.root().join("live").join(NAME);
    let target = std::fs::read_link(&link).unwrap();
    assert_eq!(target, Path::new("../generations").join(NAME).join(&written.generation));
    let mut found: Vec<String> =
        std::fs::read_dir(&link).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, ["cert.pem", "chain.pem", "combined.pem", "fullchain.pem", "privkey.pem"]);
    for (file, mode) in FILES {
        assert_eq!(mode_of(&link.join(file)), mode, "{file}");
        assert_eq!(std::fs::read(link.join(file)).unwrap(), contents(bundle)[file], "{file}");
    }
    let state = store.root();
    let folders =
        [state.to_owned(), state.join("live"), state.join("generations"), state.join("generations").join(NAME), written.path];
    for folder in folders {
        assert_eq!(mode_of(&folder), 0o755, "{}", folder.display());
    }
    let live = store.live(NAME).unwrap().unwrap();
    assert_eq!(live.bundle.fingerprint(), bundle.fingerprint());
    assert_eq!(live.hashes, written.hashes);
    assert_eq!(live.hashes.len(), 5);
    assert!(strays(state).is_empty());
}

#[test]
fn the_many_of_a_batch_get_their_names_together() {
    let (_folder, store) = store();
    let bundle = &bundles(1)[0];
    let names: Vec<String> = (0..40).map(|number| format!("{number}.example.com")).collect();
    let batch = store.batch(0);
    let written: Vec<_> = names.iter().map(|name| store.write_ahead(name, bundle, &batch).unwrap()).collect();
    let waiting = batch.waiting();
    let named = || names.iter().filter(|name| !store.generations(name).unwrap().is_empty()).count();
    assert_eq!(named(), names.len() - waiting, "a name before it is settled");
    // A few sync themselves; where the file system does not tell of errors all of them do.
    println!("{waiting} of {} waited", names.len());
    assert!(waiting == 0 || waiting >= 20, "{waiting}");

    assert!(batch.settle().is_empty());
    assert_eq!((named(), batch.waiting()), (names.len(), 0));
    for (name, written) in names.iter().zip(&written) {
        let read = store.read(name, &written.generation).unwrap();
        assert_eq!((&read.path, &read.hashes), (&written.path, &written.hashes));
        assert_eq!(mode_of(&read.path), 0o755);
        FILES.iter().for_each(|(file, mode)| assert_eq!(mode_of(&read.path.join(file)), *mode, "{name}/{file}"));
    }
    drop(batch);
    assert!(strays(store.root()).is_empty());
}

#[test]
fn a_batch_that_is_not_settled_leaves_nothing() {
    let (_folder, store) = store();
    let bundle = &bundles(1)[0];
    let names: Vec<String> = (0..40).map(|number| format!("{number}.example.com")).collect();
    let batch = store.batch(0);
    names.iter().for_each(|name| drop(store.write_ahead(name, bundle, &batch).unwrap()));
    drop(batch);
    assert!(strays(store.root()).is_empty());
    store.sweep().unwrap();
    for name in store.names().unwrap() {
        let generation = store.generations(&name).unwrap().pop().unwrap();
        store.read(&name, &generation).unwrap();
    }
}

#[test]
fn one_of_a_batch_that_cannot_have_its_name_fails_alone() {
    let (_folder, store) = store();
    let bundle = &bundles(1)[0];
    let names: Vec<String> = (0..40).map(|number| format!("{number}.example.com")).collect();
    let batch = store.batch(0);
    let written: Vec<_> = names.iter().map(|name| store.write_ahead(name, bundle, &batch).unwrap()).collect();
    let (Some(last), waiting) = (written.last(), batch.waiting()) else { panic!() };
    if waiting == 0 {
        return println!("this file system does not tell of errors: each synced itself");
    }
    std::fs::write(&last.path, b"somebody's").unwrap();
    let unsettled = batch.settle();
    assert_eq!(unsettled.iter().flat_map(|one| &one.paths).collect::<Vec<_>>(), [&last.path]);
    names[..39].iter().for_each(|name| assert_eq!(store.generations(name).unwrap().len(), 1, "{name}"));
}

#[test]
fn publishing_what_is_live_writes_nothing() {
    let (_folder, store) = store();
    let installed = install(&store, &bundles(1)[0]);
    let link = || std::fs::symlink_metadata(store.root().join("live").join(NAME)).unwrap().ino();
    let before = link();
    store.publish(NAME, &installed.generation).unwrap();
    assert_eq!(before, link());
}

#[test]
fn a_generation_of_a_crashed_pass_is_taken_again() {
    let (_folder, store) = store();
    let bundles = bundles(2);
    install(&store, &bundles[0]);
    let first = store.write(NAME, &bundles[1]).unwrap();
    let second = store.write(NAME, &bundles[1]).unwrap();
    assert_eq!(first.generation, second.generation);
    assert_eq!(store.generations(NAME).unwrap().len(), 2);

    // What is live is never "taken again", and a damaged one neither.
    store.publish(NAME, &first.generation).unwrap();
    assert!(store.write(NAME, &bundles[1]).unwrap().generation.starts_with("000003-"));
    std::fs::remove_file(store.root().join(format!("generations/{NAME}/000003-{}/cert.pem", bundles[1].fingerprint().short())))
        .unwrap();
    assert!(store.write(NAME, &bundles[1]).unwrap().generation.starts_with("000004-"));
}

#[test]
fn five_stay_and_never_is_the_live_one_pruned() {
    let (_folder, store) = store();
    let bundles = bundles(8);
    let oldest = install(&store, &bundles[0]).generation;
    let generations: Vec<String> = bundles[1..].iter().map(|bundle| store.write(NAME, bundle).unwrap().generation).collect();
    let removed = store.prune(NAME, KEEP).unwrap();
    assert_eq!(removed, generations[..2], "the oldest is live, so it stays");
    assert_eq!(store.live(NAME).unwrap().unwrap().generation, oldest);
    assert_eq!(store.generations(NAME).unwrap().len(), KEEP + 1);

    assert_eq!(store.prune_sparing(NAME, 1, &generations[3..4]).unwrap(), [&generations[2..3], &generations[4..6]].concat());
    store.publish(NAME, &generations[6]).unwrap();
    store.prune(NAME, 1).unwrap();
    assert_eq!(store.generations(NAME).unwrap(), generations[6..]);
    assert!(store.write(NAME, &bundles[0]).unwrap().generation.starts_with("000009-"), "numbers go on");
    assert!(strays(store.root()).is_empty());
}

#[test]
fn nothing_is_pruned_while_the_link_is_not_ours() {
    let (_folder, store) = store();
    bundles(3).iter().for_each(|bundle| drop(store.write(NAME, bundle).unwrap()));
    symlink("/nowhere", store.root().join("live").join(NAME)).unwrap();
    assert!(store.prune(NAME, 1).unwrap().is_empty());
    assert_eq!(store.generations(NAME).unwrap().len(), 3);
}

#[test]
fn what_is_not_whole_is_not_published_and_not_live() {
    type Fault = fn(&Path);
    let faults: [(&str, Fault); 7] = [
        ("`chain.pem` is missing", |path| std::fs::remove_file(path.join("chain.pem")).unwrap()),
        ("combined.pem", |path| std::fs::write(path.join("combined.pem"), b"").unwrap()),
        ("is larger than", |path| std::fs::write(path.join("cert.pem"), vec![b'\n'; MAX_FILE as usize + 1]).unwrap()),
        ("is a folder", |path| {
            std::fs::remove_file(path.join("cert.pem")).unwrap();
            std::fs::create_dir(path.join("cert.pem")).unwrap();
        }),
        ("is a symbolic link", |path| {
            std::fs::rename(path.join("privkey.pem"), path.join("elsewhere")).unwrap();
            symlink("elsewhere", path.join("privkey.pem")).unwrap();
        }),
        ("differ", |path| {
            let other = bundles(1).remove(0);
            std::fs::write(path.join("fullchain.pem"), &other.files().files["fullchain.pem"]).unwrap();
            std::fs::write(path.join("privkey.pem"), &other.files().files["privkey.pem"]).unwrap();
        }),
        ("it holds the certificate", |path| {
            contents(&bundles(1)[0]).iter().for_each(|(file, bytes)| std::fs::write(path.join(file), bytes).unwrap());
        }),
    ];
    for (words, fault) in faults {
        let (_folder, store) = store();
        let bundles = bundles(2);
        let good = install(&store, &bundles[0]).generation;
        let bad = store.write(NAME, &bundles[1]).unwrap();
        fault(&bad.path);
        let error = store.publish(NAME, &bad.generation).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{words}: {error:?}");
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert_eq!(store.live(NAME).unwrap().unwrap().generation, good);

        fault(&store.read(NAME, &good).unwrap().path);
        assert_eq!(store.live(NAME).unwrap_err().kind(), "damaged", "{words}");
    }
}

#[test]
fn the_edge_of_the_size_is_where_it_is_said() {
    let (_folder, store) = store();
    let installed = install(&store, &bundles(1)[0]);
    let mut padded = std::fs::read(installed.path.join("cert.pem")).unwrap();
    padded.resize(MAX_FILE as usize, b'\n');
    std::fs::write(installed.path.join("cert.pem"), &padded).unwrap();
    assert!(store.live(NAME).is_ok(), "other line ends mean the same");
    padded.push(b'\n');
    std::fs::write(installed.path.join("cert.pem"), &padded).unwrap();
    assert!(store.live(NAME).unwrap_err().to_string().contains("is larger than 1048576 bytes"));
}

#[test]
fn a_pipe_in_a_files_place_does_not_hang() {
    let (_folder, store) = store();
    let installed = install(&store, &bundles(1)[0]);
    let path = installed.path.join("combined.pem");
    std::fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert!(store.live(NAME).unwrap_err().to_string().contains("no regular file"));
}

#[test]
fn links_that_are_not_ours_are_damaged() {
    let (folder, store) = store();
    let installed = install(&store, &bundles(1)[0]);
    let link = store.root().join("live").join(NAME);
    let outside = folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let targets: [PathBuf; 4] = [
        outside,
        installed.path.clone(),
        Path::new("../generations").join("other").join(&installed.generation),
        Path::new("../generations").join(NAME).join("000009-000000000000"),
    ];
    for target in targets {
        std::fs::remove_file(&link).unwrap();
        symlink(&target, &link).unwrap();
        assert_eq!(store.live(NAME).unwrap_err().kind(), "damaged", "{}", target.display());
    }
}

#[test]
fn names_stay_inside_the_store() {
    let (_folder, store) = store();
    let bundle = &bundles(1)[0];
    for name in ["", ".", "..", ".hidden", "a/b", "/etc", "a\0b", &"x".repeat(256)] {
        assert_eq!(store.write(name, bundle).unwrap_err().kind(), "name", "{name:?}");
        assert_eq!(store.live(name).unwrap_err().kind(), "name", "{name:?}");
        assert_eq!(store.remove(name).unwrap_err().kind(), "name", "{name:?}");
    }
    for generation in ["..", "../../../etc", "000001-abc/../../x", ""] {
        assert_eq!(store.read(NAME, generation).unwrap_err().kind(), "no_generation", "{generation:?}");
        assert_eq!(store.publish(NAME, generation).unwrap_err().kind(), "no_generation", "{generation:?}");
    }
}

#[test]
fn names_are_listed_and_removed() {
    let (_folder, store) = store();
    let bundle = &bundles(1)[0];
    install(&store, bundle);
    store.write("another", bundle).unwrap();
    symlink("/etc", store.root().join("live").join("somebody-elses")).unwrap();
    assert_eq!(store.names().unwrap(), ["another", NAME]);
    store.remove("another").unwrap();
    store.remove(NAME).unwrap();
    store.remove(NAME).unwrap();
    assert!(store.names().unwrap().is_empty());
    assert!(store.live(NAME).unwrap().is_none());
    assert!(strays(store.root()).is_empty());
    assert_eq!(std::fs::read_link(store.root().join("live").join("somebody-elses")).unwrap(), Path::new("/etc"));
}

#[test]
fn a_sweep_takes_what_a_dead_process_left_and_nothing_else() {
    let (_folder, store) = store();
    install(&store, &bundles(1)[0]);
    let state = store.root();
    let stray_folder = state.join("generations").join(NAME).join(".tmp-certsyncd-dead");
    std::fs::create_dir(&stray_folder).unwrap();
    std::fs::write(stray_folder.join("privkey.pem"), b"half a k").unwrap();
    std::fs::write(state.join(".tmp-certsyncd-dead"), b"half a ledger").unwrap();
    symlink("nowhere", state.join("live").join(".tmp-certsyncd-dead")).unwrap();
    std::fs::create_dir(state.join("generations").join("never-finished")).unwrap();
    let living = std::fs::File::create(state.join(".tmp-certsyncd-alive")).unwrap();
    living.lock().unwrap();
    for kept in ["note.txt", ".hidden", "live/.note", "generations/note"] {
        std::fs::write(state.join(kept), b"not ours").unwrap();
    }

    let swept = store.sweep().unwrap();
    assert_eq!(swept.len(), 4, "{swept:?}");
    assert_eq!(strays(state).into_iter().collect::<Vec<_>>(), [state.join(".tmp-certsyncd-alive")]);
    for kept in ["note.txt", ".hidden", "live/.note", "generations/note"] {
        assert!(state.join(kept).exists(), "{kept}");
    }
    assert!(store.live(NAME).unwrap().is_some());
    drop(living);
    assert_eq!(store.sweep().unwrap().len(), 1);
}

#[test]
fn a_store_that_is_only_looked_at_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::existing(&folder.path().join("state"));
    assert!(store.live(NAME).unwrap().is_none());
    assert!(store.names().unwrap().is_empty());
    assert!(!store.root().exists());
}

//! What somebody, or a crash, did to the state directory is put right by the next pass: files, modes, links, the ledger.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/world.rs"]
mod world;
#[path = "support/www.rs"]
mod www;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use certsyncd::report::{Action, TargetAction};
use certsyncd::sync::Syncer;
use fakecloud::pki::Issued;
use world::World;
use www::{ID, WWW, certsyncd, generations, installed, leaf, live, told};

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Puts everything right in one pass, says so once, and then is quiet.
async fn is_put_right(world: &World, sync: &Syncer, issued: &Issued, words: &[&str], what: &str) {
    let report = world.pass(sync).await;
    assert!(report.is_ok(), "{what}: {:?}", report.certificates);
    assert_eq!(live(&report), issued.sha256, "{what}");
    for (name, wanted) in certsyncd::store::FILES {
        assert_eq!(mode(&world.live("www").join(name)), wanted, "{what}: {name}");
    }
    let key = std::fs::read_to_string(world.live("www").join("privkey.pem")).unwrap();
    assert!(std::fs::read_to_string(world.live("www").join("combined.pem")).unwrap().ends_with(&key), "{what}");
    let before = (world.files(), world.events().len());
    let quiet = world.pass(sync).await;
    assert_eq!((quiet.certificates[0].action, quiet.certificates[0].drift.len()), (Action::Unchanged, 0), "{what}");
    assert_eq!((world.files(), world.events().len()), before, "{what}: said and done once");
    let drift = told(world, "drift");
    assert_eq!(drift.len(), usize::from(!words.is_empty()), "{what}: {drift:?}");
    for word in words {
        assert!(drift[0].contains(word), "{what}: `{word}` in {drift:?}");
    }
}

/// What somebody does to `live/www`, and what is said of it.
type Deed = (&'static str, fn(&World), &'static [&'static str]);

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_did_to_the_files_is_put_right_and_told_once() {
    let deeds: [Deed; 9] = [
        ("the link is gone", |world| std::fs::remove_file(world.live("www")).unwrap(), &["live/www", "again"]),
        (
            "the link leads nowhere",
            |world| {
                std::fs::remove_file(world.live("www")).unwrap();
                symlink("../generations/www/000009-000000000000", world.live("www")).unwrap();
            },
            &["000009-000000000000", "again"],
        ),
        (
            "a stranger's link",
            |world| {
                std::fs::remove_file(world.live("www")).unwrap();
                symlink("/etc", world.live("www")).unwrap();
            },
            &["/etc", "again"],
        ),
        (
            "a stranger's folder",
            |world| {
                std::fs::remove_file(world.live("www")).unwrap();
                std::fs::create_dir(world.live("www")).unwrap();
                std::fs::write(world.live("www").join("combined.pem"), "mine").unwrap();
            },
            &["not a symbolic link"],
        ),
        (
            "a file was edited",
            |world| std::fs::write(world.live("www").join("cert.pem"), "-----BEGIN NONSENSE-----").unwrap(),
            &["`cert.pem` was edited", "rebuilt"],
        ),
        (
            "a file is gone",
            |world| std::fs::remove_file(world.live("www").join("combined.pem")).unwrap(),
            &["missing", "rebuilt"],
        ),
        (
            "the key is open to all",
            |world| chmod(&world.live("www").join("privkey.pem"), 0o644),
            &["privkey.pem", "0644", "0600"],
        ),
        ("a file is closed", |world| chmod(&world.live("www").join("fullchain.pem"), 0o000), &["fullchain.pem", "0000", "0644"]),
        (
            "strays of a crash",
            |world| {
                std::fs::create_dir(world.state().join("generations/www/.tmp-certsyncd-dead")).unwrap();
                std::fs::write(world.state().join("generations/www/.tmp-certsyncd-dead/privkey.pem"), "half").unwrap();
                symlink("nowhere", world.state().join("live/.tmp-certsyncd-dead")).unwrap();
            },
            &[],
        ),
    ];
    for (what, deed, words) in deeds {
        let (world, sync, issued) = installed("").await;
        deed(&world);
        is_put_right(&world, &sync, &issued, words, what).await;
        assert_eq!(world.cloud.count("export"), 0, "{what}: no key moves again for what is on disk");
        assert!(!generations(&world).iter().any(|name| name.starts_with(".tmp-")), "{what}");
        assert!(!world.state().join("live/.tmp-certsyncd-dead").is_symlink(), "{what}");
    }
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Nothing of the live generation can be used any more.
fn ruin(world: &World) {
    for name in ["privkey.pem", "combined.pem"] {
        std::fs::write(world.live("www").join(name), "nothing").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ruined_generation_is_fetched_again() {
    let (world, sync, issued) = installed("").await;
    ruin(&world);
    is_put_right(&world, &sync, &issued, &["is damaged", "fetched again"], "ruined").await;
    assert_eq!(world.cloud.count("export"), 1, "fetched once");
    assert_eq!(generations(&world).len(), 2, "a new one; a generation never changes");
    assert_eq!(told(&world, "renewed"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_cloud_is_away_a_ruined_generation_does_not_bring_back_an_older_one() {
    let (world, sync, first) = installed("").await;
    world.cloud.huawei.replace(ID, world.pki.issue(leaf().days(80)));
    let second = live(&world.pass(&sync).await);
    assert_ne!(second, first.sha256);
    let link = std::fs::read_link(world.live("www")).unwrap();
    ruin(&world);
    world.cloud.fault(fakecloud::Fault::new(fakecloud::Match::any(), fakecloud::What::status(503, "away")));
    let report = world.pass(&sync).await;
    assert_eq!(report.certificates[0].action, Action::Failed);
    assert_eq!(std::fs::read_link(world.live("www")).unwrap(), link, "servers go on with what they have in memory");
    world.cloud.clear_faults();
    assert_eq!(live(&world.pass(&sync).await), second);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_somebody_changed_is_put_right_and_told_once() {
    let world = World::start().await;
    let output = world.path("api.pem");
    let rest = format!("output = [{{ format = \"combined\", path = \"{}\" }}]\n", output.display());
    let issued = world.pki.issue(leaf().days(60));
    world.cloud.huawei.add(ID, issued.clone());
    let sync = world.sync(&format!("{WWW}{rest}"));
    world.pass(&sync).await;
    let right = std::fs::read(&output).unwrap();
    for (deed, word) in [
        ((|path: &Path| std::fs::write(path, "mine").unwrap()) as fn(&Path), "was changed or removed"),
        (|path| std::fs::remove_file(path).unwrap(), "was changed or removed"),
        (|path| chmod(path, 0o666), "mode or owner"),
    ] {
        let _ = std::fs::remove_file(world.path("events"));
        deed(&output);
        let report = world.pass(&sync).await;
        assert!(report.is_ok() && report.certificates[0].drift.len() == 1, "{:?}", report.certificates);
        assert!(report.certificates[0].drift[0].contains(word), "{:?}", report.certificates[0].drift);
        assert!(std::fs::read(&output).unwrap() == right && mode(&output) == 0o600);
        assert_eq!(world.pass(&sync).await.certificates[0].drift, Vec::<String>::new());
    }
    // The operator wants another format: nobody changed anything behind our back.
    let sync = world.sync(&format!("{WWW}{}", rest.replace("combined", "fullchain")));
    let report = world.pass(&sync).await;
    assert_eq!(report.certificates[0].drift, Vec::<String>::new());
    assert_ne!(std::fs::read(&output).unwrap(), right);
}

/// A configuration with a target that counts how often it is told.
fn counted(world: &World) -> String {
    let script = world.script("reload", &format!("echo reload >> {}", world.path("told").display()));
    format!("deploy = [\"web\"]\n[deploy.web]\nkind = \"command\"\nreload = [\"{}\"]\nmin_gap = \"0s\"\n", script.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_gone_or_damaged_is_rebuilt_and_said_once() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage, &str); 4] = [
        ("deleted", |ledger| std::fs::remove_file(ledger).unwrap(), "was missing"),
        ("garbage", |ledger| std::fs::write(ledger, b"\xff\x00 nothing").unwrap(), "was damaged"),
        (
            "truncated",
            |ledger| {
                let bytes = std::fs::read(ledger).unwrap();
                std::fs::write(ledger, &bytes[..bytes.len() / 2]).unwrap();
            },
            "was damaged",
        ),
        ("empty", |ledger| std::fs::write(ledger, b"").unwrap(), "was damaged"),
    ];
    for (what, damage, words) in damages {
        let world = World::start().await;
        let issued = world.pki.issue(leaf().days(60));
        world.cloud.huawei.add(ID, issued.clone());
        let sync = world.sync(&format!("{WWW}{}", counted(&world)));
        world.pass(&sync).await;
        let (files, ledger) = (world.files(), world.state().join("ledger.json"));
        damage(&ledger);
        let report = world.pass(&sync).await;
        assert!(report.is_ok(), "{what}: {:?}", report.certificates);
        assert_eq!((live(&report), world.files()), (issued.sha256.clone(), files), "{what}: nothing is written again");
        let rebuilt = told(&world, "ledger_rebuilt");
        assert!(rebuilt.len() == 1 && rebuilt[0].contains(words), "{what}: {rebuilt:?}");
        let quiet = world.pass(&sync).await;
        assert_eq!(
            (quiet.certificates[0].action, quiet.targets[0].action),
            (Action::Unchanged, TargetAction::Unchanged),
            "{what}"
        );
        assert_eq!(world.event_names(), ["ledger_rebuilt"], "{what}: said once");
        let aside = world.state().join("ledger.json.damaged");
        assert_eq!(aside.exists(), what != "deleted", "{what}: a damaged one is kept");
        // Nobody can know any more whether the server was told: it is, once.
        assert_eq!(world.read("told"), "reload\nreload\n", "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_ledger_forgets_no_renewal_that_is_under_way() {
    let world = World::start().await;
    world.cloud.huawei.add(ID, world.pki.issue(leaf().days(20)));
    let sync = world.sync(&format!("{WWW}{}", counted(&world)));
    world.pass(&sync).await;
    let renewed = world.pki.issue(leaf().days(80));
    world.cloud.huawei.replace(ID, renewed.clone());
    std::fs::remove_file(world.state().join("ledger.json")).unwrap();
    let report = world.pass(&sync).await;
    assert_eq!((live(&report), report.targets[0].action), (renewed.sha256, TargetAction::Reloaded));
    let mut names = world.event_names();
    names.sort();
    assert_eq!(names, ["expiring", "ledger_rebuilt", "renewed", "resolved"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_a_later_version_is_refused_with_words_and_left_alone() {
    let (world, _sync, _) = installed("").await;
    let path = world.state().join("ledger.json");
    let newer = r#"{"version": 7, "written_by": "certsyncd 9.9.9", "certificates": {}}"#;
    std::fs::write(&path, newer).unwrap();
    let files = world.files();
    for words in [&["sync"][..], &["rollback", "www"], &["plan"], &["status", "--json"]] {
        let (code, _, error) = certsyncd(&world, words);
        if words[0] != "status" {
            assert_eq!(code, 1, "{words:?}: {error}");
            for expected in ["certsyncd 9.9.9", "format 7", "hint:"] {
                assert!(error.contains(expected), "{words:?}: `{expected}` in {error}");
            }
        }
        assert_eq!((world.read("state/ledger.json").as_str(), world.files()), (newer, files.clone()), "{words:?}");
    }
}

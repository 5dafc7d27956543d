//! What somebody, or a crash, did to the state directory is put right by the next pass: files, modes, links, the ledger. And what passes
//! keep, prune, hold and refuse on the way.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/world.rs"]
mod world;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use certsyncd::clock::Clock;
use certsyncd::report::{Action, Report, TargetAction};
use certsyncd::store::KEEP;
use certsyncd::sync::Sync;
use fakecloud::pki::{Issued, Leaf};
use jiff::SignedDuration;
use serde_json::Value;
use world::World;

const WWW: &str = "[[certificate]]\nname = \"www\"\nprovider = \"scm\"\nid = \"scs0000000000001\"\n";
const ID: &str = "scs0000000000001";

fn leaf() -> Leaf {
    Leaf::new(["www.example.com"])
}

/// `www` at its cloud and live on disk.
async fn installed(rest: &str) -> (World, Sync, Issued) {
    let world = World::start().await;
    let issued = world.pki.issue(leaf().days(60));
    world.cloud.huawei.add(ID, issued.clone());
    let sync = world.sync(&format!("{WWW}{rest}"));
    assert!(world.pass(&sync).await.is_ok());
    world.cloud.clear_requests();
    (world, sync, issued)
}

fn live(report: &Report) -> String {
    report.certificates[0].live.as_ref().expect("something is live").fingerprint.to_string()
}

/// The messages of one kind of event.
fn told(world: &World, kind: &str) -> Vec<String> {
    let events = world.events();
    events.iter().filter(|event| event["event"] == kind).map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn generations(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.state().join("generations/www")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Puts everything right in one pass, says so once, and then is quiet.
async fn is_put_right(world: &World, sync: &Sync, issued: &Issued, words: &[&str], what: &str) {
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

/// The binary on a world's configuration.
fn certsyncd(world: &World, words: &[&str]) -> (i32, String, String) {
    let output = command(world).args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn command(world: &World) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certsyncd"));
    command.env("CERTSYNCD_CONFIG", world.path("config.toml")).env_remove("CERTSYNCD_LOG").stdin(Stdio::null());
    command
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

#[tokio::test(flavor = "multi_thread")]
async fn five_generations_are_kept_never_less_the_live_one_and_a_failing_pass_keeps_all() {
    let (world, sync, _) = installed("").await;
    let renew = |days: i64| world.cloud.huawei.replace(ID, world.pki.issue(leaf().days(days)));
    for days in 61..68 {
        renew(days);
        assert!(world.pass(&sync).await.is_ok());
    }
    assert_eq!(generations(&world).len(), KEEP);
    assert_eq!(generations(&world).last().unwrap()[..6], *"000008");
    // A pass in which something else fails takes nothing away.
    let failing = format!("{WWW}[[certificate]]\nname = \"gone\"\nprovider = \"scm\"\nid = \"scs0000000000009\"\n");
    let with_failure = world.sync(&failing);
    for days in 68..71 {
        renew(days);
        assert!(!world.pass(&with_failure).await.is_ok());
    }
    assert_eq!(generations(&world).len(), KEEP + 3);
    let oldest = generations(&world)[0].clone();
    let sync = world.sync(WWW);
    sync.rollback("www", Some(&oldest), &world.stop).await.unwrap();
    assert!(world.pass(&sync).await.is_ok());
    assert!(generations(&world).contains(&oldest), "the live one is never pruned");
    assert_eq!(generations(&world).len(), KEEP + 1, "the newest five and the live one");
    assert_eq!(std::fs::read_link(world.live("www")).unwrap().file_name().unwrap().to_str(), Some(oldest.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_valid_yet_waits_for_its_time_without_moving_its_key_again() {
    let mut world = World::start().await;
    let now = Clock::system().now();
    world.clock = Clock::manual(now);
    let first = world.pki.issue(leaf().days(60));
    world.cloud.huawei.add(ID, first.clone());
    let sync = world.sync(WWW);
    world.pass(&sync).await;
    let start = now + SignedDuration::from_hours(5);
    let next = world.pki.issue(leaf().from(start).to(start + SignedDuration::from_hours(80 * 24)));
    world.cloud.huawei.replace(ID, next.clone());
    world.cloud.clear_requests();
    for minutes in [0, 60, 120, 299] {
        world.clock.set(now + SignedDuration::from_mins(minutes));
        world.cloud.set_skew(SignedDuration::from_mins(minutes));
        let report = world.pass(&sync).await;
        assert_eq!(
            (report.certificates[0].action, live(&report)),
            (Action::Held, first.sha256.clone()),
            "after {minutes} minutes"
        );
        assert!(report.is_ok() && report.certificates[0].held.as_ref().unwrap().contains("not valid before"));
    }
    assert_eq!(world.cloud.count("export"), 1, "asked once while it is held");
    world.clock.set(start + SignedDuration::from_secs(1));
    world.cloud.set_skew(SignedDuration::from_hours(5));
    let report = world.pass(&sync).await;
    assert_eq!((report.certificates[0].action, live(&report)), (Action::Installed, next.sha256));
    assert!(world.cloud.count("export") <= 2, "and at most once when its time has come");
    assert_eq!(world.event_names(), ["renewed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_left_the_inventory_stays_is_shown_as_removed_and_goes_when_told() {
    let (world, _, issued) = installed("").await;
    let port = serve(world.live("www").join("combined.pem"));
    let target = format!("[deploy.web]\nkind = \"command\"\nreload = [\"true\"]\nverify = [\"127.0.0.1:{port}\"]\n");
    let other = "[[certificate]]\nname = \"other\"\nprovider = \"scm\"\nid = \"scs0000000000002\"\ndeploy = [\"web\"]\n";
    world.cloud.huawei.add("scs0000000000002", world.pki.issue(Leaf::new(["other.example.com"])));
    world.write("config.toml", &world.config("", &format!("{other}{target}")));
    certsyncd(&world, &["sync"]);
    let status: Value = serde_json::from_str(&certsyncd(&world, &["status", "--json"]).1).unwrap();
    let www =
        status["certificates"].as_array().unwrap().iter().find(|entry| entry["name"] == "www").expect("it is shown").clone();
    assert_eq!(www["state"], "removed", "{www}");
    assert_eq!(www["fingerprint"].as_str(), Some(issued.sha256.as_str()), "{www}");
    let (code, out, error) = certsyncd(&world, &["prune", "--yes"]);
    assert_eq!(code, 0, "{error}");
    assert!(!out.contains("removed www") && error.contains("`web` still serves it on 127.0.0.1"), "{out} {error}");
    assert!(world.live("www").join("privkey.pem").exists());
    world.write("config.toml", &world.config("", &other.replace("deploy = [\"web\"]\n", "")));
    assert!(certsyncd(&world, &["prune"]).1.contains("would remove www"));
    assert!(world.live("www").join("privkey.pem").exists(), "dry by default");
    assert!(certsyncd(&world, &["prune", "--yes"]).1.contains("removed www"));
    assert!(!world.live("www").is_symlink() && !world.state().join("generations/www").exists());
    assert!(world.live("other").exists());
}

/// A TLS server that shows the pair in a file.
fn serve(pem: PathBuf) -> u16 {
    use rustls::pki_types::pem::PemObject;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let bytes = std::fs::read(pem).unwrap();
    let chain = rustls::pki_types::CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(&bytes).unwrap();
    let config = std::sync::Arc::new(rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            let mut connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let _ = connection.complete_io(&mut stream);
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn two_state_directories_side_by_side_and_a_lock_that_nobody_holds() {
    let (world, _, _) = installed("").await;
    // What a dead process left: a file with words in it, and no lock.
    std::fs::write(world.state().join("lock"), "process 1, `certsyncd run`, since ever\n").unwrap();
    assert_eq!(certsyncd(&world, &["sync", "--wait", "0s"]).0, 0);
    let held = certsyncd::store::lock::pass(&world.state(), std::time::Duration::ZERO).await.unwrap();
    assert_eq!(certsyncd(&world, &["sync", "--wait", "0s"]).0, 75);
    let second = world.path("second");
    let config = world.config("", WWW).replace(&world.state().display().to_string(), &second.display().to_string());
    world.write("second.toml", &config);
    let output =
        command(&world).env("CERTSYNCD_CONFIG", world.path("second.toml")).args(["sync", "--wait", "0s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(second.join("live/www/combined.pem").exists());
    drop(held);
    // A holder that is killed holds nothing any more.
    world.cloud.fault(fakecloud::Fault::new(fakecloud::Match::any(), fakecloud::What::Hang).once());
    let mut child = command(&world).arg("sync").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    world.cloud.clear_requests();
    while world.cloud.total() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(certsyncd(&world, &["sync", "--wait", "0s"]).0, 75);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(certsyncd(&world, &["sync", "--wait", "0s"]).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_two_minutes_apart_are_said_where_a_signature_is_refused() {
    let world = World::start().await;
    world.cloud.huawei.add(ID, world.pki.issue(leaf()));
    world.cloud.set_skew(SignedDuration::from_mins(2));
    let right = world.config("", WWW);
    world.write("config.toml", &right);
    let (code, _, error) = certsyncd(&world, &["sync"]);
    assert_eq!((code, error.as_str()), (0, ""), "two minutes are no error by themselves");
    world.write("config.toml", &right.replace(&world.cloud.huawei.secret_key(), "wrong"));
    let (code, _, error) = certsyncd(&world, &["sync"]);
    assert_eq!(code, 1);
    assert!(error.contains("2 min behind the provider's"), "{error}");
    world.cloud.set_skew(SignedDuration::from_secs(10));
    world.write("config.toml", &right.replace(&world.cloud.huawei.secret_key(), "wrong again"));
    let (_, _, error) = certsyncd(&world, &["sync"]);
    assert!(!error.contains("min behind"), "seconds are nobody's trouble: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_clock_hours_off_nothing_is_decided_by_dates() {
    let mut world = World::start().await;
    let now = Clock::system().now();
    // CDS signs no date that must be close: it answers whatever our clock shows.
    let issued = world.pki.issue(Leaf::new(["api.example.com"]).days(60));
    world.cloud.cds.add("cds-1", issued.clone());
    world.cloud.cds.set_valid("cds-1", 1);
    world.clock = Clock::manual(now);
    let entry = "[[certificate]]\nname = \"api\"\nprovider = \"cds\"\nid = \"cds-1\"\n";
    let sync = world.sync(entry);
    world.pass(&sync).await;
    // Our clock runs ahead, beyond the end of the certificate.
    world.clock.set(now + SignedDuration::from_hours(24 * 61));
    world.cloud.cds.set_valid("cds-1", 1);
    let report = world.pass(&sync).await;
    let said = told(&world, "clock_skew");
    assert_eq!(said.len(), 1, "{:?} {:?}", world.event_names(), report.certificates);
    assert!(said[0].contains("is probably wrong: the clock of `cds` is 61 days behind it. Until"), "{said:?}");
    assert!(!world.event_names().iter().any(|name| name == "expired" || name == "expiring"), "{:?}", world.event_names());
    assert_eq!(live(&report), issued.sha256);
    world.clock.set(now + SignedDuration::from_mins(10));
    world.pass(&sync).await;
    assert_eq!(world.event_names(), ["clock_skew", "resolved"]);
}

/// As on a host whose clock starts in the past: by the provider's clock the certificate has begun, and that clock is the one that is right.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_clock_hours_behind_a_valid_certificate_is_not_held_as_one_that_has_not_begun() {
    let mut world = World::start().await;
    let now = Clock::system().now();
    let first = world.pki.issue(leaf().days(60));
    world.cloud.huawei.add(ID, first.clone());
    world.clock = Clock::manual(now - SignedDuration::from_hours(24 * 400));
    // A token, since a signature would be too old for the provider.
    world.cloud.huawei.set_token_lifetime(std::time::Duration::from_secs(72 * 3600));
    let (key, secret, token) = (world.cloud.huawei.access_key(), world.cloud.huawei.secret_key(), world.cloud.huawei.token());
    let signed = format!("method = \"access-key\", access_key = \"{key}\", secret_key = \"{secret}\"");
    let text = world.config("", WWW).replace(&signed, &format!("method = \"token\", token = \"{token}\""));
    let sync = world.built(&text);
    let report = world.pass(&sync).await;
    assert_eq!((report.certificates[0].held.as_ref(), report.is_ok()), (None, true), "{report:?}");
    assert_eq!(live(&report), first.sha256);
    assert_eq!(told(&world, "clock_skew").len(), 1, "{:?}", world.event_names());
    // What has not begun by the provider's clock either waits until it has.
    let tomorrow = world.pki.issue(leaf().not_yet_valid());
    world.cloud.huawei.replace(ID, tomorrow.clone());
    let report = world.pass(&sync).await;
    assert!(report.certificates[0].held.as_ref().is_some_and(|why| why.contains("not valid before")), "{report:?}");
    world.clock.set(now + SignedDuration::from_hours(25));
    world.cloud.set_now(now + SignedDuration::from_hours(25));
    assert_eq!(live(&world.pass(&sync).await), tomorrow.sha256);
}

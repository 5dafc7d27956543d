//! What passes keep, prune, hold and refuse; who has to wait for whom; what clocks that differ change.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/world.rs"]
mod world;
#[path = "support/www.rs"]
mod www;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;

use certsyncd::clock::Clock;
use certsyncd::report::Action;
use certsyncd::store::KEEP;
use certsyncd::sync::Scope;
use fakecloud::pki::Leaf;
use jiff::SignedDuration;
use serde_json::Value;
use world::World;
use www::{ID, WWW, certsyncd, command, generations, installed, leaf, live, told};

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
    let cloud = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = format!("http://{}", cloud.local_addr().unwrap());
    world.write("hanging.toml", &world.config("", WWW).replace(&world.cloud.huawei.endpoint(), &there));
    let mut hanging = command(&world);
    hanging.env("CERTSYNCD_CONFIG", world.path("hanging.toml")).arg("sync").stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = hanging.spawn().unwrap();
    let (_connection, _) = cloud.accept().unwrap();
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

/// As on a host that starts with a clock that is days ahead, before anybody sets it right: what was put off then is not put off for days.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_clock_that_ran_ahead_put_off_is_not_waited_for() {
    let mut world = World::start().await;
    let now = Clock::system().now();
    let ahead = now + SignedDuration::from_hours(24 * 10);
    world.cloud.cds.add("cds-1", world.pki.issue(Leaf::new(["api.example.com"]).days(60)));
    world.clock = Clock::manual(ahead);
    world.cloud.set_now(ahead);
    let tried = world.path("tried");
    let reload = world.script("reload", &format!("echo once >> {}; exit 1", tried.display()));
    let sync = world.sync(&format!(
        "[[certificate]]\nname = \"api\"\nprovider = \"cds\"\nid = \"cds-1\"\ndeploy = [\"web\"]\n\
         [deploy.web]\nkind = \"command\"\nreload = [\"{}\"]\nmin_gap = \"0s\"\n",
        reload.display()
    ));
    // Fetches of the key, and tries of the server, in a pass by schedule at `time`.
    let pass = |time| {
        let (world, sync, tried) = (&world, &sync, &tried);
        async move {
            world.clock.set(time);
            world.cloud.set_now(time);
            world.cloud.clear_requests();
            let before = std::fs::read_to_string(tried).unwrap_or_default().lines().count();
            sync.pass(&Scope::default(), &world.stop, &|_| ()).await.unwrap();
            let after = std::fs::read_to_string(tried).unwrap_or_default().lines().count();
            (world.cloud.count("DescribeCACertificate"), after - before)
        }
    };
    assert_eq!(pass(ahead).await, (1, 1));
    assert_eq!(pass(ahead + SignedDuration::from_mins(10)).await, (0, 0), "both wait");
    assert_eq!(pass(now).await, (1, 1), "the daily look and the next try are due");
    assert_eq!(pass(now + SignedDuration::from_mins(10)).await, (0, 0), "both wait again");
}

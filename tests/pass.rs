//! Whole passes against the strict fake clouds: what goes live, what stays, what is told.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/world.rs"]
mod world;

use certsyncd::report::{Action, TargetAction};
use fakecloud::pki::{Key, Leaf};
use fakecloud::{CdsCertificate, Fault, HuaweiCertificate, Layout, Match, Spelling, What};
use world::{World, scope};

fn huawei(world: &World, id: &str, leaf: Leaf) -> fakecloud::pki::Issued {
    let issued = world.pki.issue(leaf);
    world.cloud.huawei.add(id, issued.clone());
    issued
}

#[tokio::test(flavor = "multi_thread")]
async fn all_kinds_of_sources_are_installed_and_the_second_pass_is_silent() {
    let world = World::start().await;
    huawei(&world, "scs0000000000001", Leaf::new(["www.example.com", "example.com"]).key(Key::Rsa2048));
    huawei(&world, "scs0000000000002", Leaf::new(["shop.example.com"]).key(Key::P256));
    let own = world.pki.issue(Leaf::new(["own.example.com"]).key(Key::P384));
    world.write("own.key", &own.key_pem);
    world.cloud.huawei.add("scs0000000000003", HuaweiCertificate::new(own).layout(Layout::OwnCsr));
    world.cloud.cds.add(
        "cds-1",
        CdsCertificate::new(world.pki.issue(Leaf::new(["api.example.com"]).key(Key::Ed25519))).spelling(Spelling::Private),
    );
    let config = format!(
        r#"
[[certificate]]
name = "www"
provider = "scm"
id = "scs0000000000001"
names = ["www.example.com", "example.com"]
[[certificate]]
name = "shop"
provider = "archive"
id = "scs0000000000002"
[[certificate]]
name = "own"
provider = "archive"
id = "scs0000000000003"
key_file = "{}"
[[certificate]]
name = "api"
provider = "cds"
id = "cds-1"
"#,
        world.path("own.key").display()
    );
    let sync = world.sync(&config);
    let report = world.pass(&sync).await;
    for certificate in &report.certificates {
        assert_eq!((certificate.action, &certificate.error), (Action::Installed, &None), "{}", certificate.name);
    }
    for name in ["www", "shop", "own", "api"] {
        for file in ["cert.pem", "chain.pem", "fullchain.pem", "privkey.pem", "combined.pem"] {
            assert!(world.live(name).join(file).exists(), "{name}/{file}");
        }
    }
    let before = world.files();
    world.cloud.clear_requests();
    let second = world.pass(&sync).await;
    assert!(second.certificates.iter().all(|c| c.action == Action::Unchanged), "{:?}", second.certificates);
    assert_eq!(world.files(), before, "a quiet pass writes nothing of the store");
    assert_eq!(
        world.cloud.count("export") + world.cloud.count("download") + world.cloud.count("DescribeCACertificate"),
        0,
        "and moves no key"
    );
    assert!(world.cloud.rejections().is_empty(), "{:?}", world.cloud.rejections());
    assert!(world.events().is_empty(), "{:?}", world.events());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_renewed_in_place_goes_live_and_is_told_once() {
    let world = World::start().await;
    huawei(&world, "scs0000000000001", Leaf::new(["www.example.com"]).days(20));
    let sync = world.sync(&entry("www", "scm", "scs0000000000001"));
    let first = world.pass(&sync).await;
    let renewed = world.pki.issue(Leaf::new(["www.example.com"]).days(80));
    world.cloud.huawei.replace("scs0000000000001", renewed.clone());
    let second = world.pass(&sync).await;
    assert_eq!(second.certificates[0].action, Action::Installed, "{:?}", second.certificates[0].error);
    assert_ne!(first.certificates[0].live, second.certificates[0].live);
    assert_eq!(second.certificates[0].live.as_ref().unwrap().fingerprint.to_string(), renewed.sha256);
    world.pass(&sync).await;
    assert_eq!(world.event_names(), ["expiring", "resolved", "renewed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_under_another_id_is_adopted() {
    let world = World::start().await;
    huawei(&world, "scs0000000000001", Leaf::new(["www.example.com"]).days(20));
    let sync = world.sync_trusting(&entry("www", "scm", "scs0000000000001"));
    world.pass(&sync).await;
    huawei(&world, "scs0000000000002", Leaf::new(["www.example.com"]).days(80));
    huawei(&world, "scs0000000000003", Leaf::new(["other.example.com"]).days(90));
    let report = world.pass(&sync).await;
    let www = &report.certificates[0];
    assert_eq!(
        (www.action, www.id.as_deref(), www.previous_id.as_deref()),
        (Action::Installed, Some("scs0000000000002"), Some("scs0000000000001")),
        "{www:?}"
    );
    world.cloud.huawei.remove("scs0000000000001");
    let quiet = world.pass(&sync).await;
    assert_eq!(quiet.certificates[0].action, Action::Unchanged, "the old id may go: {:?}", quiet.certificates[0].error);
    let renewed = world.events().into_iter().find(|event| event["event"] == "renewed").unwrap();
    let message = renewed["message"].as_str().unwrap();
    assert!(message.contains("scs0000000000001") && message.contains("scs0000000000002"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_fails_and_the_others_go_on() {
    let world = World::start().await;
    for n in 1..=3 {
        huawei(&world, &format!("scs000000000000{n}"), Leaf::new([format!("w{n}.example.com")]));
    }
    world.cloud.fault(Fault::new(Match::operation("export").id("scs0000000000002"), What::HtmlPage));
    let config = (1..=3).map(|n| entry(&format!("w{n}"), "scm", &format!("scs000000000000{n}"))).collect::<String>();
    let sync = world.sync(&config);
    let report = world.pass(&sync).await;
    let actions: Vec<Action> = report.certificates.iter().map(|c| c.action).collect();
    assert_eq!(actions, [Action::Installed, Action::Failed, Action::Installed]);
    assert!(!report.is_ok() && !world.live("w2").exists());
    world.pass(&sync).await;
    assert_eq!(world.event_names(), ["sync_failed"], "after the second failing pass, once");
    world.cloud.clear_faults();
    assert!(world.pass(&sync).await.is_ok());
    assert_eq!(world.event_names(), ["sync_failed", "resolved"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flag_of_cds_is_told_once_for_each_state() {
    let world = World::start().await;
    world.cloud.cds.add("cds-1", world.pki.issue(Leaf::new(["api.example.com"]).days(60)));
    let sync = world.sync(&entry("api", "cds", "cds-1"));
    world.pass(&sync).await;
    for (valid, expected) in [(2, vec!["expiring"]), (0, vec!["expiring", "expired"])] {
        world.cloud.cds.set_valid("cds-1", valid);
        for _ in 0..3 {
            world.pass(&sync).await;
        }
        assert_eq!(world.event_names(), expected, "Valid = {valid}");
    }
    let expired = &world.events()[1];
    assert_eq!((expired["valid"].as_i64(), expired["severity"].as_str()), (Some(0), Some("critical")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_and_the_live_one_stays() {
    let world = World::start().await;
    let good = huawei(&world, "scs0000000000001", Leaf::new(["www.example.com"]).days(60));
    let sync = world.sync(&entry("www", "scm", "scs0000000000001"));
    world.pass(&sync).await;
    let before = world.files();
    let other = world.pki.issue(Leaf::new(["x.example.com"]).fresh_key());
    for (what, issued) in [
        ("another's key", world.pki.issue(Leaf::new(["www.example.com"]).days(70)).with_key_of(&other)),
        ("expired", world.pki.issue(Leaf::new(["www.example.com"]).expired())),
        ("earlier", world.pki.issue(Leaf::new(["www.example.com"]).days(10))),
        ("not yet valid", world.pki.issue(Leaf::new(["www.example.com"]).not_yet_valid())),
    ] {
        world.cloud.huawei.replace("scs0000000000001", issued);
        let report = world.pass(&sync).await;
        let www = &report.certificates[0];
        assert_ne!(www.action, Action::Installed, "{what}");
        assert_eq!(www.live.as_ref().unwrap().fingerprint.to_string(), good.sha256, "{what}");
        assert_eq!(world.files(), before, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_test_keeps_the_old_certificate_and_says_why() {
    let world = World::start().await;
    huawei(&world, "scs0000000000001", Leaf::new(["www.example.com"]).days(20));
    let live = world.state().join("live/www/cert.pem");
    // Fails with anything but the first certificate: the new one is to blame.
    let config = format!(
        "{}deploy = [\"web\"]\n[deploy.web]\nkind = \"command\"\ntest = [\"{}\"]\nreload = [\"true\"]\nmin_gap = \"0s\"\n",
        entry("www", "scm", "scs0000000000001"),
        world
            .script(
                "try",
                &format!(
                    "test ! -e {0} && cp {1} {0}; cmp -s {1} {0} || {{ echo the words of the server >&2; exit 1; }}",
                    world.path("first").display(),
                    live.display()
                )
            )
            .display()
    );
    let sync = world.sync(&config);
    let first = world.pass(&sync).await;
    assert_eq!(first.targets[0].action, TargetAction::Reloaded, "{:?}", first.targets);
    world.cloud.huawei.replace("scs0000000000001", world.pki.issue(Leaf::new(["www.example.com"]).days(80)));
    let second = world.pass(&sync).await;
    assert_eq!(second.targets[0].action, TargetAction::RolledBack, "{:?} {:?}", second.targets, second.certificates);
    let words = second.targets[0].error.as_ref().unwrap().to_string();
    assert!(words.contains("the words of the server"), "{words}");
    assert_eq!(second.certificates[0].live, first.certificates[0].live);
    assert_eq!(world.event_names().last().map(String::as_str), Some("deploy_failed"));
    world.cloud.clear_requests();
    let third = world.pass(&sync).await;
    assert_eq!(world.cloud.count("export"), 0, "a rejected one is not fetched again before its time");
    assert_eq!(third.certificates[0].live, first.certificates[0].live);
    assert_eq!(world.event_names().iter().filter(|name| *name == "deploy_failed").count(), 1);
    let forced = sync.pass(&scope(&["www"], true), &world.stop, &|_| ()).await.unwrap();
    assert_eq!(forced.targets[0].action, TargetAction::RolledBack, "--force NAME tries again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_failed_stays_pending_until_it_went_well() {
    let world = World::start().await;
    huawei(&world, "scs0000000000001", Leaf::new(["www.example.com"]));
    let config = format!(
        "{}deploy = [\"web\"]\n[deploy.web]\nkind = \"command\"\nreload = [\"{}\"]\nmin_gap = \"0s\"\n",
        entry("www", "scm", "scs0000000000001"),
        world.script("reload", &format!("test -e {}", world.path("mended").display())).display()
    );
    let sync = world.sync(&config);
    let first = world.pass(&sync).await;
    assert_eq!((first.certificates[0].action, first.targets[0].action), (Action::Installed, TargetAction::Failed));
    assert!(world.live("www").exists(), "a first install has nothing to restore: its files stay");
    world.write("mended", "");
    let restarted = world.sync(&config);
    let second = world.pass(&restarted).await;
    assert_eq!((second.certificates[0].action, second.targets[0].action), (Action::Unchanged, TargetAction::Reloaded));
    assert_eq!(world.pass(&restarted).await.targets[0].action, TargetAction::Unchanged);
    assert_eq!(world.event_names(), ["deploy_failed", "resolved"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_added_or_changed_gets_its_deploy() {
    let world = World::start().await;
    huawei(&world, "scs0000000000001", Leaf::new(["www.example.com"]));
    let www = entry("www", "scm", "scs0000000000001");
    assert_eq!(world.pass(&world.sync(&www)).await.certificates[0].action, Action::Installed);
    let reload = |name: &str| world.script(name, &format!("echo {name} >> {}", world.path("told").display()));
    let with = |name: &str| {
        let reload = reload(name);
        format!(
            "{www}deploy = [\"web\"]\n[deploy.web]\nkind = \"command\"\nreload = [\"{}\"]\nmin_gap = \"0s\"\n",
            reload.display()
        )
    };
    for (config, action) in [
        (with("added"), TargetAction::Reloaded),
        (with("added"), TargetAction::Unchanged),
        (with("changed"), TargetAction::Reloaded),
        (with("changed"), TargetAction::Unchanged),
    ] {
        let report = world.pass(&world.sync(&config)).await;
        assert_eq!((report.certificates[0].action, report.targets[0].action), (Action::Unchanged, action), "{config}");
    }
    assert_eq!(world.read("told"), "added\nchanged\n", "each is told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_goes_back_and_sticks() {
    let world = World::start().await;
    huawei(&world, "scs0000000000001", Leaf::new(["www.example.com"]).days(60));
    let sync = world.sync(&entry("www", "scm", "scs0000000000001"));
    let first = world.pass(&sync).await.certificates[0].live.clone();
    assert!(sync.rollback("www", None, &world.stop).await.is_err(), "there is nothing to go back to");
    world.cloud.huawei.replace("scs0000000000001", world.pki.issue(Leaf::new(["www.example.com"]).days(80)));
    let second = world.pass(&sync).await.certificates[0].live.clone();
    let back = sync.rollback("www", None, &world.stop).await.unwrap();
    assert_eq!(back.certificates[0].live, first);
    let quiet = world.pass(&sync).await;
    assert_eq!(
        (quiet.certificates[0].action, &quiet.certificates[0].live),
        (Action::Held, &first),
        "what was rolled back from is rejected"
    );
    let forced = sync.pass(&scope(&["www"], true), &world.stop, &|_| ()).await.unwrap();
    assert_eq!(forced.certificates[0].live.as_ref().unwrap().fingerprint, second.unwrap().fingerprint);
}

fn entry(name: &str, provider: &str, id: &str) -> String {
    format!("[[certificate]]\nname = \"{name}\"\nprovider = \"{provider}\"\nid = \"{id}\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_rejects_is_tried_three_times_with_growing_gaps_and_then_held() {
    // In place, and under another id.
    for new_id in ["scs0000000000001", "scs0000000000002"] {
        let mut world = World::start().await;
        let start = jiff::Timestamp::now();
        world.clock = certsyncd::clock::Clock::manual(start);
        world.cloud.set_now(start);
        let old = huawei(&world, "scs0000000000001", Leaf::new(["www.example.com"]).days(60));
        let script = world.script(
            "reload",
            &format!(
                "echo . >> {2}; test -e {0} || cp {1} {0}; cmp -s {1} {0} || {{ echo no such cipher >&2; exit 1; }}",
                world.path("first").display(),
                world.state().join("live/www/cert.pem").display(),
                world.path("reloads").display()
            ),
        );
        let config = format!(
            "{}deploy = [\"web\"]\n[deploy.web]\nkind = \"command\"\nreload = [\"{}\"]\nmin_gap = \"0s\"\n",
            entry("www", "scm", "scs0000000000001"),
            script.display()
        );
        let sync = world.sync_trusting(&config);
        world.pass(&sync).await;
        huawei(&world, new_id, Leaf::new(["www.example.com"]).days(80));
        let mut rolled_back = Vec::new();
        // Every ten minutes for six hours, as the daemon does it.
        for tick in 0..36 {
            let now = start + jiff::SignedDuration::from_mins(10 * tick);
            world.clock.set(now);
            world.cloud.set_now(now);
            world.cloud.clear_requests();
            let report = sync.pass(&certsyncd::sync::Scope::default(), &world.stop, &|_| ()).await.unwrap();
            world.send(&sync).await;
            let www = &report.certificates[0];
            assert_eq!(www.live.as_ref().unwrap().fingerprint.to_string(), old.sha256, "{new_id} {tick}");
            if report.targets[0].action == TargetAction::RolledBack {
                rolled_back.push(tick * 10);
            } else {
                assert!(world.cloud.count("export") <= 1, "{new_id} {tick}: {} keys moved", world.cloud.count("export"));
            }
            assert_eq!(www.action, Action::Held, "{new_id} {tick}: {www:?}");
        }
        assert_eq!(rolled_back, [0, 30, 90], "{new_id}: minutes after the first try");
        world.cloud.clear_requests();
        sync.pass(&certsyncd::sync::Scope::default(), &world.stop, &|_| ()).await.unwrap();
        assert_eq!(world.cloud.count("export"), 0, "{new_id}: once it is held, no key moves");
        assert!(
            world.event_names().contains(&"deploy_failed".to_owned()) && !world.event_names().contains(&"resolved".to_owned())
        );
        let status = certsyncd::ledger::Ledger::peek(&world.state()).unwrap().ledger.certificates["www"].clone();
        assert!(status.open.held.is_some() && status.open.rejected[0].why.contains("no such cipher"), "{:?}", status.open.held);
        // Another certificate is another question.
        std::fs::remove_file(world.path("first")).unwrap();
        let better = huawei(&world, new_id, Leaf::new(["www.example.com"]).days(85));
        let report = world.pass(&sync).await;
        assert_eq!(report.certificates[0].live.as_ref().unwrap().fingerprint.to_string(), better.sha256, "{new_id}");
        assert!(world.event_names().contains(&"resolved".to_owned()), "{new_id}: {:?}", world.event_names());
    }
}

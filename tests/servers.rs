//! Whole passes with the real nginx and the real haproxy: what is served before, after, and when something goes wrong on the way.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/site.rs"]
mod site;
mod support;
#[path = "support/world.rs"]
mod world;

use std::path::Path;
use std::time::{Duration, Instant};

use certsyncd::ledger::Ledger;
use certsyncd::report::{Action, TargetAction};
use fakecloud::pki::{Issued, Key, Leaf};
use site::*;
use support::nginx::Nginx;
use support::{free_port, until};
use world::World;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_pass_nginx_serves_the_new_certificate() {
    let site = Site::new(&["www"]).await;
    let sync = site.settled(&site.reload("")).await;
    let new = site.renew(0);
    let report = site.world.pass(&sync).await;
    assert_eq!(report.targets[0].action, TargetAction::Reloaded, "{:?}", report.targets);
    assert_eq!(site.served(0).await, new.sha256);
    let told = Ledger::peek(&site.world.state()).unwrap().ledger.certificates["www"].targets.get("web").unwrap().clone();
    let verified = told.verified.map(|fingerprint| fingerprint.to_string());
    assert_eq!((told.reloaded == told.verified, verified), (true, Some(new.sha256)));
    let quiet = site.world.pass(&sync).await;
    assert_eq!((quiet.targets[0].action, quiet.certificates[0].action), (TargetAction::Unchanged, Action::Unchanged));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_fails_with_the_new_certificate_keeps_the_old_one() {
    let site = Site::new(&["www"]).await;
    let test = site.test(&format!("if {NEW}; then echo \"{WORDS}\" >&2; exit 1; fi"));
    let sync = site.settled(&(test + &site.reload(""))).await;
    site.renew(0);
    let report = site.world.pass(&sync).await;
    site.went_back(&report, &[WORDS, "fails at test with the new certificate of `www`, and not with the previous one"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_always_fails_does_not_hold_the_certificate_back() {
    let site = Site::new(&["www"]).await;
    site.settled(&site.reload("")).await;
    let sync = site.sync(&(site.test(&format!("echo \"{WORDS}\" >&2; exit 1")) + &site.reload("")));
    let new = site.renew(0);
    let report = site.world.pass(&sync).await;
    assert_eq!(report.targets[0].action, TargetAction::Failed, "{:?}", report.targets);
    assert_eq!((site.served(0).await, live(&report, "www")), (new.sha256.clone(), new.sha256.clone()));
    let told = site.event("deploy_failed");
    assert!(told.contains(WORDS) && told.contains("with the previous certificates too"), "{told}");
    let ledger = Ledger::peek(&site.world.state()).unwrap().ledger;
    assert!(ledger.certificates["www"].open.rejected.is_empty(), "the certificate is not to blame");
    let verified = ledger.certificates["www"].targets.get("web").unwrap().verified.map(|fingerprint| fingerprint.to_string());
    assert_eq!(verified, Some(new.sha256), "it was seen all the same");
    assert!(ledger.targets["web"].pending.is_some());
    assert_eq!(site.world.pass(&sync).await.targets[0].action, TargetAction::Unchanged, "what is served is what counts");
    assert_eq!(site.world.event_names().last().map(String::as_str), Some("resolved"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_fails_with_the_new_certificate_puts_the_old_one_back() {
    let site = Site::new(&["www"]).await;
    let sync = site.settled(&site.reload(&format!("if {NEW}; then echo \"{WORDS}\" >&2; exit 1; fi"))).await;
    site.renew(0);
    let report = site.world.pass(&sync).await;
    site.went_back(&report, &[WORDS, "fails at reload with the new certificate of `www`, and not with the previous one"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_always_fails_leaves_the_new_files_pending_and_the_old_one_served() {
    let site = Site::new(&["www"]).await;
    let sync = site.settled(&site.reload("")).await;
    site.reload(&format!("echo \"{WORDS}\" >&2; exit 1"));
    let new = site.renew(0);
    let report = site.world.pass(&sync).await;
    assert_eq!(report.targets[0].action, TargetAction::Failed, "{:?}", report.targets);
    assert_eq!((site.served(0).await, live(&report, "www")), (site.first[0].sha256.clone(), new.sha256.clone()));
    let told = site.event("deploy_failed");
    assert!(told.contains(WORDS) && told.contains("the new ones are not to blame"), "{told}");
    site.reload("");
    let mended = site.world.pass(&sync).await;
    assert_eq!(mended.targets[0].action, TargetAction::Reloaded, "{:?}", mended.targets);
    assert_eq!(site.served(0).await, new.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_does_nothing_is_found_out_by_what_is_served() {
    let site = Site::new(&["www"]).await;
    let sync = site.settled(&site.reload(&format!("if {NEW}; then exit 0; fi"))).await;
    let new = site.renew(0);
    let report = site.world.pass(&sync).await;
    site.went_back(&report, &["does not serve the new certificate", &site.first[0].sha256[..12]]).await;
    assert_ne!(site.served(0).await, new.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_hangs_is_ended_with_its_children() {
    let site = Site::new(&["www"]).await;
    let hang = format!("if {NEW}; then sleep 300 & echo $! > \"$ROOT/child\"; sleep 300; fi");
    let sync = site.settled(&site.reload(&hang)).await;
    site.renew(0);
    let started = Instant::now();
    let report = site.world.pass(&sync).await;
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    site.went_back(&report, &["fails at reload", "did not end within 2s and was killed"]).await;
    let child = std::fs::read_to_string(site.world.path("child")).unwrap();
    until("the child is gone", || !alive(child.trim()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_serves_a_wrong_certificate_gets_the_old_one_back() {
    let site = Site::new(&["www"]).await;
    let wrong = site.world.pki.issue(Leaf::new(["www.example.com"]));
    site.world.write("wrong.pem", &wrong.combined_pem());
    let configuration = format!("{}/nginx.conf", site.nginx.argv(&[])[2]);
    std::fs::copy(&configuration, site.world.path("right.conf")).unwrap();
    let text = std::fs::read_to_string(&configuration).unwrap();
    let right = site.world.live("www").join("combined.pem").display().to_string();
    site.world.write("wrong.conf", &text.replace(&right, &site.world.path("wrong.pem").display().to_string()));
    let swap = format!("if {NEW}; then cp $ROOT/wrong.conf {configuration}; else cp $ROOT/right.conf {configuration}; fi");
    let sync = site.settled(&site.reload(&swap)).await;
    site.renew(0);
    let report = site.world.pass(&sync).await;
    site.went_back(&report, &["does not serve the new certificate", &wrong.sha256[..12]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_target_of_two_fails_and_both_go_back() {
    // The one that fails is told first in one case and last in the other.
    for (good, bad) in [("a", "b"), ("b", "a")] {
        let site = Site::new(&["www"]).await;
        let other = free_port();
        let second = Nginx::start(1, &blocks(&site.world, &["www"], other), other);
        until("nginx says its process id", || Path::new(&second.argv(&[])[2]).join("pid").exists());
        let fine = site.script("fine", &format!("echo . >> $ROOT/fine.log\nexec {}", site.nginx.reload().join(" ")));
        let words = format!("if {NEW}; then echo \"{WORDS}\" >&2; exit 1; fi\nexec {}", second.reload().join(" "));
        let fails = site.script("fails", &words);
        let sync = site.world.sync(&format!(
            "{}{}{}",
            entries(&["www"], "a\", \"b"),
            target(good, "nginx", site.port, &format!("reload = [\"{fine}\"]\n")),
            target(bad, "nginx", other, &format!("reload = [\"{fails}\"]\n")),
        ));
        assert!(site.world.pass(&sync).await.is_ok());
        site.world.write("fine.log", "");
        site.renew(0);
        let report = site.world.pass(&sync).await;
        let action = |name: &str| report.targets.iter().find(|target| target.name == name).unwrap().action;
        assert_eq!(action(bad), TargetAction::RolledBack, "{:?}", report.targets);
        assert_eq!(
            (site.served(0).await, served(other, host("www")).await),
            (site.first[0].sha256.clone(), site.first[0].sha256.clone())
        );
        assert_eq!(live(&report, "www"), site.first[0].sha256);
        // Told of the new one and of the old one again; or, when the other failed first, of nothing at all.
        let (expected, reloads) = if good == "a" { (TargetAction::RolledBack, 2) } else { (TargetAction::Unchanged, 0) };
        assert_eq!(action(good), expected, "{:?}", report.targets);
        assert_eq!(site.world.read("fine.log").lines().count(), reloads);
        let quiet = site.world.pass(&sync).await;
        assert!(quiet.targets.iter().all(|target| target.action == TargetAction::Unchanged), "{:?}", quiet.targets);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_certificate_of_three_stays_out_and_the_others_are_served() {
    for step in ["test", "reload"] {
        let site = Site::new(&["www", "api", "shop"]).await;
        let body = format!("if {NEW}; then echo \"{WORDS}\" >&2; exit 1; fi");
        let keys = if step == "test" { site.test(&body) + &site.reload("") } else { site.reload(&body) };
        let sync = site.settled(&keys).await;
        let new: Vec<Issued> = (0..3).map(|at| site.renew(at)).collect();
        let report = site.world.pass(&sync).await;
        let served = [site.served(0).await, site.served(1).await, site.served(2).await];
        assert_eq!(served, [site.first[0].sha256.clone(), new[1].sha256.clone(), new[2].sha256.clone()], "{step}");
        let ledger = Ledger::peek(&site.world.state()).unwrap().ledger;
        let rejected: Vec<usize> = site.names.iter().map(|name| ledger.certificates[*name].open.rejected.len()).collect();
        assert_eq!(rejected, [1, 0, 0], "{step}");
        assert!(!report.is_ok() && report.targets[0].certificates == ["www"], "{:?}", report.targets);
        let actions: Vec<Action> = report.certificates.iter().map(|certificate| certificate.action).collect();
        assert_eq!(actions, [Action::Held, Action::Installed, Action::Installed], "{step}");
        assert!(site.event("deploy_failed").contains(WORDS), "{step}");
        let quiet = site.world.pass(&sync).await;
        assert_eq!(quiet.targets[0].action, TargetAction::Unchanged, "{step}: {:?}", quiet.targets);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_run_is_pending_and_no_failure() {
    let (world, _) = installed(&["www"]).await;
    let port = free_port();
    let log = world.path("said");
    let reload =
        world.script("reload", &format!("echo 'nginx: [error] invalid PID number' >&2; echo . >> {}; exit 1", log.display()));
    let sync = world.sync(&format!(
        "{}{}",
        entries(&["www"], "web"),
        target("web", "nginx", port, &format!("reload = [\"{}\"]\n", reload.display()))
    ));
    let new = renew(&world, "www", 0);
    let report = world.pass(&sync).await;
    assert_eq!(report.targets[0].action, TargetAction::Pending, "{:?}", report.targets);
    assert!(report.is_ok() && live(&report, "www") == new.sha256, "the files go live");
    assert!(!world.event_names().contains(&"deploy_failed".to_owned()), "{:?}", world.events());
    assert!(Ledger::peek(&world.state()).unwrap().ledger.targets["web"].pending.is_some());
    // It starts with the new files; the next pass sees that and says so.
    let nginx = Nginx::start(1, &blocks(&world, &["www"], port), port);
    world.script("reload", &format!("exec {}", nginx.reload().join(" ")));
    until("nginx says its process id", || Path::new(&nginx.argv(&[])[2]).join("pid").exists());
    let report = world.pass(&sync).await;
    assert_eq!(report.targets[0].action, TargetAction::Unchanged, "{:?}", report.targets);
    assert_eq!(served(port, host("www")).await, new.sha256);
    assert_eq!(Ledger::peek(&world.state()).unwrap().ledger.targets["web"].pending, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_goes_back_to_a_certificate_that_is_about_to_end() {
    let site = Site::new(&["www"]).await;
    let ending = site.world.pki.issue(Leaf::new([host("www")]).days(2));
    let sync = site.settled(&site.reload("")).await;
    site.world.cloud.huawei.replace(&id(0), ending.clone());
    sync.pass(&world::scope(&["www"], true), &site.world.stop, &|_| ()).await.unwrap();
    assert_eq!(site.served(0).await, ending.sha256);
    std::fs::copy(site.world.live("www").join("cert.pem"), site.world.path("first.pem")).unwrap();
    site.reload(&format!("if {NEW}; then echo \"{WORDS}\" >&2; exit 1; fi"));
    let new = site.renew(0);
    let report = site.world.pass(&sync).await;
    assert_eq!((report.targets[0].action, live(&report, "www")), (TargetAction::Failed, new.sha256), "{:?}", report.targets);
    let told = site.event("deploy_failed");
    assert!(told.contains("there is nothing good to put back, so the new files stay") && told.contains(WORDS), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_goes_down_with_the_new_certificate_brings_the_old_one_back() {
    let site = Site::new(&["www"]).await;
    let configuration = format!("{}/nginx.conf", site.nginx.argv(&[])[2]);
    std::fs::copy(&configuration, site.world.path("right.conf")).unwrap();
    let text = std::fs::read_to_string(&configuration).unwrap();
    site.world.write("down.conf", &text.replace(&format!(":{} ssl", site.port), &format!(":{} ssl", free_port())));
    let swap = format!("if {NEW}; then cp $ROOT/down.conf {configuration}; else cp $ROOT/right.conf {configuration}; fi");
    let sync = site.settled(&site.reload(&swap)).await;
    site.renew(0);
    let report = site.world.pass(&sync).await;
    site.went_back(&report, &["shows nothing for `www.example.com`: failed to connect", "see whether the server is up"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_was_always_down_is_told_once_and_holds_nothing_up() {
    let site = Site::new(&["www"]).await;
    let down = format!("verify = [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]", site.port, free_port());
    let text =
        site.world.config("", &format!("{}{}", entries(&["www"], "web"), target("web", "nginx", site.port, &site.reload(""))));
    let sync = site.world.built(&text.replace(&format!("verify = [\"127.0.0.1:{}\"]", site.port), &down));
    site.world.pass(&sync).await;
    let new = site.renew(0);
    let report = site.world.pass(&sync).await;
    assert_eq!(report.targets[0].action, TargetAction::Reloaded, "{:?}", report.targets);
    assert_eq!(site.served(0).await, new.sha256);
    let told = Ledger::peek(&site.world.state()).unwrap().ledger.certificates["www"].targets.get("web").unwrap().clone();
    assert_eq!(told.never_matched.len(), 1, "told once: {told:?}");
}

/// A server that runs but speaks no TLS there is none that does not run: nobody would ever hear of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_tls_is_a_failure_in_words_and_not_pending() {
    let (world, _) = installed(&["www"]).await;
    let port = free_port();
    let plain = format!("server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}");
    let nginx = Nginx::start(1, &plain, port);
    until("nginx says its process id", || Path::new(&nginx.argv(&[])[2]).join("pid").exists());
    let keys = format!("reload = {:?}\n", nginx.reload());
    let report = world.pass(&world.sync(&format!("{}{}", entries(&["www"], "web"), target("web", "nginx", port, &keys)))).await;
    assert_eq!(report.targets[0].action, TargetAction::Failed, "{:?}", report.targets);
    let told = world.events().into_iter().find(|event| event["event"] == "deploy_failed").unwrap();
    let message = told["message"].as_str().unwrap();
    assert!(message.contains(&format!("127.0.0.1:{port} shows nothing for `www.example.com`: no TLS handshake")), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_the_server_does_not_use_are_named() {
    let (world, _) = installed(&["www"]).await;
    let other = world.write("other.pem", &world.pki.issue(Leaf::new([host("www")])).combined_pem());
    let port = free_port();
    let nginx = Nginx::start(1, &block(port, "www", &other), port);
    until("nginx says its process id", || Path::new(&nginx.argv(&[])[2]).join("pid").exists());
    let keys = format!("reload = {:?}\n", nginx.reload());
    let report = world.pass(&world.sync(&format!("{}{}", entries(&["www"], "web"), target("web", "nginx", port, &keys)))).await;
    let error = report.targets[0].error.as_ref().unwrap();
    let hint =
        format!("see whether its configuration for `www.example.com` uses the files in `{}/`", world.live("www").display());
    assert_eq!(error.hint.as_deref(), Some(hint.as_str()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_that_fails_too_is_told_and_made_up_for() {
    let site = Site::new(&["www"]).await;
    let body =
        "if test -e \"$ROOT/broken\"; then echo \"the way back is closed\" >&2; exit 1; fi; touch \"$ROOT/broken\"; exit 0";
    let sync = site.settled(&site.reload("")).await;
    site.reload(body);
    site.renew(0);
    let report = site.world.pass(&sync).await;
    assert_eq!(report.targets[0].action, TargetAction::Failed, "{:?}", report.targets);
    let told = site.event("deploy_failed");
    for words in ["still shows the previous one", "the reload with the previous certificate failed too", "the way back is closed"]
    {
        assert!(told.contains(words), "`{words}` in {told}");
    }
    assert_eq!((live(&report, "www"), site.served(0).await), (site.first[0].sha256.clone(), site.first[0].sha256.clone()));
    site.reload("echo . >> \"$ROOT/reloads\"");
    let mended = site.world.pass(&sync).await;
    assert!(mended.is_ok() && Ledger::peek(&site.world.state()).unwrap().ledger.targets["web"].pending.is_none(), "{mended:?}");
}

/// Two entries of one name, as nginx takes them: a client is shown one or the other by what it understands.
#[tokio::test(flavor = "multi_thread")]
async fn an_rsa_and_an_ec_certificate_beside_each_other_are_both_seen_and_stay_quiet() {
    let world = World::start().await;
    let issue = |at: usize, key: Key, days| {
        let issued = world.pki.issue(Leaf::new([host("www")]).key(key).days(days));
        world.cloud.huawei.add(id(at), issued.clone());
        issued
    };
    // Each would take the other's renewal for its own.
    let text =
        |deploy: &str| entries(&["rsa", "ec"], deploy).replace("[[certificate]]\n", "[[certificate]]\nsuccessor = \"ignore\"\n");
    issue(0, Key::Rsa2048, 60);
    issue(1, Key::P256, 60);
    assert!(world.pass(&world.sync(&text(""))).await.is_ok());
    let port = free_port();
    let pem = |name| world.live(name).join("combined.pem").display().to_string();
    let pair = |name| format!("ssl_certificate {0}; ssl_certificate_key {0};", pem(name));
    let servers = format!("server {{ listen 127.0.0.1:{port} ssl; {} {} }}", pair("rsa"), pair("ec"));
    let nginx = Nginx::start(1, &servers, port);
    until("nginx says its process id", || Path::new(&nginx.argv(&[])[2]).join("pid").exists());
    let reload =
        world.script("reload", &format!("echo . >> {}\nexec {}", world.path("reloads").display(), nginx.reload().join(" ")));
    let sync = world.sync(&format!(
        "{}{}",
        text("web"),
        target("web", "nginx", port, &format!("reload = [\"{}\"]\n", reload.display()))
    ));
    let first = world.pass(&sync).await;
    assert!(first.is_ok(), "{:?}", first.targets);
    for (at, key) in [(0, Key::Rsa2048), (1, Key::P256), (0, Key::Rsa2048)] {
        for _ in 0..3 {
            let quiet = world.pass(&sync).await;
            assert_eq!(quiet.targets[0].action, TargetAction::Unchanged, "{at}: {:?}", quiet.targets);
        }
        world.write("reloads", "");
        let new = issue(at, key, 70 + i64::try_from(world.events().len()).unwrap());
        let report = world.pass(&sync).await;
        assert_eq!(report.targets[0].action, TargetAction::Reloaded, "{at}: {:?}", report.targets);
        let ledger = Ledger::peek(&world.state()).unwrap().ledger;
        let verified = ledger.certificates[["rsa", "ec"][at]].targets.get("web").unwrap().verified.map(|leaf| leaf.to_string());
        assert_eq!((verified, world.read("reloads").lines().count()), (Some(new.sha256), 1), "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_served_is_mended_once_and_then_told() {
    let site = Site::new(&["www"]).await;
    let sync = site.settled(&site.reload("echo . >> \"$ROOT/reloads\"")).await;
    let other = site.world.pki.issue(Leaf::new(["www.example.com"]));
    let pem = site.world.write("other.pem", &other.combined_pem());
    let right = blocks(&site.world, &["www"], site.port);
    let stray = || {
        site.nginx.rewrite(&block(site.port, "www", &pem));
        assert!(std::process::Command::new(&site.nginx.reload()[0]).args(&site.nginx.reload()[1..]).status().unwrap().success());
    };
    stray();
    wait_for(site.port, &other.sha256).await;
    site.nginx.rewrite(&right);
    let report = site.pass_by_schedule(&sync).await;
    assert_eq!(report.targets[0].action, TargetAction::Reloaded, "{:?}", report.targets);
    assert_eq!(site.served(0).await, site.first[0].sha256);
    assert_eq!(site.pass_by_schedule(&sync).await.targets[0].action, TargetAction::Unchanged);
    assert!(site.world.event_names().iter().all(|name| name != "deploy_failed"), "{:?}", site.world.events());

    // Now somebody changed nginx's configuration for good: one deploy, one alert, then growing gaps.
    stray();
    wait_for(site.port, &other.sha256).await;
    site.world.write("reloads", "");
    for _ in 0..3 {
        site.pass_by_schedule(&sync).await;
    }
    assert_eq!(site.world.read("reloads").lines().count(), 1, "one deploy");
    assert!(site.event("deploy_failed").contains(&other.sha256[..12]));
    assert_eq!(live(&site.pass_by_schedule(&sync).await, "www"), site.first[0].sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_server_gives_to_another_site_is_no_failure() {
    let (world, _) = installed(&[]).await;
    let names = ["www.example.com", "example.com", "static.example.com"];
    world.cloud.huawei.add(id(0), world.pki.issue(Leaf::new(names).days(60)));
    world.pass(&world.sync(&entries(&["www"], ""))).await;
    let port = free_port();
    let other = world.write("other.pem", &world.pki.issue(Leaf::new(["other.example.com"])).combined_pem());
    // The first block is the default: it takes the two names that have no block of their own.
    let servers = block(port, "api", &other) + &block(port, "www", &world.live("www").join("combined.pem"));
    let nginx = Nginx::start(1, &servers, port);
    until("nginx says its process id", || Path::new(&nginx.argv(&[])[2]).join("pid").exists());
    let reload = format!("reload = {:?}\n", nginx.reload());
    let sync = world.sync(&format!("{}{}", entries(&["www"], "web"), target("web", "nginx", port, &reload)));
    let first = world.pass(&sync).await;
    assert_eq!(first.targets[0].action, TargetAction::Reloaded, "what is not known to be right is told: {:?}", first.targets);
    let new = world.pki.issue(Leaf::new(names).days(80));
    world.cloud.huawei.replace(&id(0), new.clone());
    let second = world.pass(&sync).await;
    assert_eq!(second.targets[0].action, TargetAction::Reloaded, "{:?}", second.targets);
    assert_eq!(served(port, host("www")).await, new.sha256);
    let told = Ledger::peek(&world.state()).unwrap().ledger.certificates["www"].targets.get("web").unwrap().clone();
    assert_eq!(told.never_matched.len(), 2, "told once: {told:?}");
    assert_eq!(world.pass(&sync).await.targets[0].action, TargetAction::Unchanged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_install_whose_reload_fails_keeps_its_files() {
    let world = World::start().await;
    world.cloud.huawei.add(id(0), world.pki.issue(Leaf::new([host("www")]).days(60)));
    let other = world.pki.issue(Leaf::new([host("www")]));
    let (port, pem) = (free_port(), world.write("other.pem", &other.combined_pem()));
    let _nginx = Nginx::start(1, &block(port, "www", &pem), port);
    let reload = world.script("reload", &format!("echo \"{WORDS}\" >&2; exit 1"));
    let sync = world.sync(&format!(
        "{}{}",
        entries(&["www"], "web"),
        target("web", "nginx", port, &format!("reload = [\"{}\"]\n", reload.display()))
    ));
    let report = world.pass(&sync).await;
    assert_eq!(
        (report.certificates[0].action, report.targets[0].action),
        (Action::Installed, TargetAction::Failed),
        "{report:?}"
    );
    assert!(world.live("www").join("combined.pem").exists());
    assert_eq!(served(port, host("www")).await, other.sha256);
    let told = world.events().into_iter().find(|event| event["event"] == "deploy_failed").unwrap();
    assert!(told["message"].as_str().unwrap().contains(WORDS), "{told}");
}

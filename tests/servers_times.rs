//! When a server is told: windows, gaps, and a stop while one is waited for; with the real nginx.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/site.rs"]
mod site;
mod support;
#[path = "support/world.rs"]
mod world;

use certsyncd::ledger::Ledger;
use certsyncd::report::{Action, TargetAction};
use certsyncd::sync::Scope;
use fakecloud::pki::Leaf;
use jiff::SignedDuration;
use site::*;
use support::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_window_leaves_the_new_certificate_waiting_until_it_opens() {
    let mut site = Site::new(&["www"]).await;
    let (first_open, closed) = site.weekend();
    let sync = site.settled(&(site.reload("") + "window = \"Sat 02:00-04:00\"\n")).await;
    site.set_now(closed);
    let new = site.renew(0);
    for _ in 0..2 {
        let report = site.world.pass(&sync).await;
        let (certificate, target) = (&report.certificates[0], &report.targets[0]);
        assert_eq!((certificate.action, target.action), (Action::Held, TargetAction::Pending), "{certificate:?} {target:?}");
        assert!(target.pending.as_ref().unwrap().contains("Sat 02:00-04:00") && report.is_ok());
        assert_eq!(live(&report, "www"), site.first[0].sha256);
        assert_eq!(site.served(0).await, site.first[0].sha256);
    }
    assert_eq!(sync.store().generations("www").unwrap().len(), 2, "the waiting one is written once");
    site.set_now(first_open + SignedDuration::from_hours(7 * 24));
    let report = site.world.pass(&sync).await;
    assert_eq!(
        (report.certificates[0].action, report.targets[0].action),
        (Action::Installed, TargetAction::Reloaded),
        "{report:?}"
    );
    assert_eq!(site.served(0).await, new.sha256);
    assert!(site.world.event_names().contains(&"renewed".to_owned()), "{:?}", site.world.events());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_within_three_days_does_not_wait_for_the_window() {
    for (left, action, planned) in [
        (SignedDuration::from_hours(72), TargetAction::Pending, "wait"),
        (SignedDuration::from_hours(72) - SignedDuration::from_secs(1), TargetAction::Reloaded, "reload"),
    ] {
        let mut site = Site::new(&["www"]).await;
        let (_, closed) = site.weekend();
        let old = site.world.pki.issue(Leaf::new(["www.example.com"]).to(closed + left));
        let sync = site.settled(&(site.reload("") + "window = \"Sat 02:00-04:00\"\n")).await;
        site.world.cloud.huawei.replace(&id(0), old.clone());
        sync.pass(&world::scope(&["www"], true), &site.world.stop, &|_| ()).await.unwrap();
        assert_eq!(site.served(0).await, old.sha256);
        site.set_now(closed);
        let new = site.renew(0);
        let plan = sync.plan(&Scope::default()).await.unwrap();
        assert_eq!(plan.targets[0].action, planned, "{left}: {}", plan.targets[0].why);
        let report = site.world.pass(&sync).await;
        assert_eq!(report.targets[0].action, action, "{left}: {:?}", report.targets);
        let expected = if action == TargetAction::Reloaded { new.sha256 } else { old.sha256 };
        assert_eq!(site.served(0).await, expected, "{left}");
    }
}

/// Something listens where a certificate was shown, and shows none: clients are turned away already.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_does_not_wait_for_the_window() {
    let mut site = Site::new(&["www"]).await;
    let (_, closed) = site.weekend();
    let sync = site.settled(&(site.reload("") + "window = \"Sat 02:00-04:00\"\n")).await;
    site.set_now(closed);
    let right = blocks(&site.world, &["www"], site.port);
    site.nginx.rewrite(&format!("server {{ listen 127.0.0.1:{}; }}", site.port));
    assert!(std::process::Command::new(&site.nginx.reload()[0]).args(&site.nginx.reload()[1..]).status().unwrap().success());
    wait_for_nothing(site.port).await;
    site.nginx.rewrite(&right);
    let new = site.renew(0);
    let report = site.world.pass(&sync).await;
    assert_eq!(report.targets[0].action, TargetAction::Reloaded, "{:?}", report.targets);
    assert_eq!(site.served(0).await, new.sha256);
}

/// A pass does not sleep through an hour of `min_gap` with the lock in its hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_gap_is_left_to_a_later_pass() {
    let mut site = Site::new(&["www"]).await;
    let (now, _) = site.weekend();
    let sync = site.settled(&(site.reload("") + "min_gap = \"1h\"\n")).await;
    let first = site.renew(0);
    assert_eq!(site.world.pass(&sync).await.targets[0].action, TargetAction::Reloaded);
    let second = site.renew(0);
    let plan = sync.plan(&Scope::default()).await.unwrap();
    assert_eq!(plan.targets[0].action, "wait", "{plan:?}");
    assert!(plan.targets[0].why.contains("waits for its `min_gap`, until "), "{plan:?}");
    let report = site.world.pass(&sync).await;
    assert_eq!(report.targets[0].action, TargetAction::Pending, "{:?}", report.targets);
    assert!(report.targets[0].pending.as_ref().unwrap().contains("waits for its `min_gap`, until "), "{:?}", report.targets);
    assert_eq!((live(&report, "www"), site.served(0).await, report.is_ok()), (second.sha256.clone(), first.sha256, true));
    let third = site.renew(0);
    site.set_now(now + SignedDuration::from_hours(1));
    let report = site.world.pass(&sync).await;
    assert_eq!(report.targets[0].action, TargetAction::Reloaded, "one reload for everything that waited: {:?}", report.targets);
    assert_eq!(site.served(0).await, third.sha256);
    assert_eq!(Ledger::peek(&site.world.state()).unwrap().ledger.targets["web"].pending, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_reloads_of_a_target_keep_their_gap() {
    let site = Site::new(&["www"]).await;
    let keys = site.reload("date +%s%N >> \"$ROOT/reloads\"") + "min_gap = \"2s\"\n";
    let sync = site.settled(&keys).await;
    for _ in 0..2 {
        site.renew(0);
        assert_eq!(site.world.pass(&sync).await.targets[0].action, TargetAction::Reloaded);
    }
    let at: Vec<u64> = site.world.read("reloads").lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(at.len(), 2);
    assert!(at[1] - at[0] >= 1_900_000_000, "{at:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_the_gap_is_waited_for_leaves_the_target_pending() {
    let site = Site::new(&["www"]).await;
    let keys = site.reload("echo . >> \"$ROOT/reloads\"") + "min_gap = \"60s\"\n";
    let sync = site.settled(&keys).await;
    site.renew(0);
    assert_eq!(site.world.pass(&sync).await.targets[0].action, TargetAction::Reloaded);
    let new = site.renew(0);
    let stop = site.world.stop.clone();
    let (state, sha256) = (site.world.live("www").join("cert.pem"), new.leaf_pem.clone());
    let waiter = std::thread::spawn(move || {
        until("the new one is live", || std::fs::read_to_string(&state).is_ok_and(|text| text.trim() == sha256.trim()));
        stop.cancel();
    });
    let report = site.world.pass(&sync).await;
    waiter.join().unwrap();
    assert_eq!(report.targets[0].action, TargetAction::Pending, "{:?}", report.targets);
    assert_eq!(site.world.read("reloads").lines().count(), 1, "no reload inside the gap");
}

/// A make-believe systemctl says that the unit does not run: what `plan` says is what the pass then does.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_a_pass_does_with_a_unit_that_does_not_run() {
    for (state, why) in [
        ("inactive", "`web.service` is not running; it reads the new files when it starts"),
        ("failed", "`web.service` is not running"),
        ("activating", "`web.service` is starting; it reads the new files itself"),
        ("active", ""),
    ] {
        let site = Site::new(&["www"]).await;
        let answer = site.world.write("answer", "LoadState=loaded\nActiveState=active\n");
        let body =
            format!("case \" $* \" in *' show '*) exec cat {};; esac\nexec {}", answer.display(), site.nginx.reload().join(" "));
        let systemctl = site.script("systemctl", &body);
        let sync = site.settled(&format!("reload = [\"{systemctl}\", \"reload\", \"web.service\"]\n")).await;
        assert_eq!(sync.plan(&Scope::default()).await.unwrap().targets[0].action, "none");
        site.world.write("answer", &format!("LoadState=loaded\nActiveState={state}\n"));
        let new = site.renew(0);
        let plan = sync.plan(&Scope::default()).await.unwrap();
        let report = site.world.pass(&sync).await;
        let (planned, done) = (&plan.targets[0], &report.targets[0]);
        let expected = if state == "active" { ("reload", TargetAction::Reloaded) } else { ("wait", TargetAction::Pending) };
        assert_eq!((planned.action, done.action), expected, "{state}: {planned:?} {done:?}");
        assert!(planned.why.starts_with("`www` would change; ") && planned.why.contains(why), "{state}: {planned:?}");
        assert!(done.pending.as_deref().unwrap_or_default().contains(why), "{state}: {done:?}");
        assert_eq!(live(&report, "www"), new.sha256, "{state}: the files go live all the same");
        // What is left pending is no news, and no other answer.
        assert_eq!(
            sync.plan(&Scope::default()).await.unwrap().targets[0].action,
            if state == "active" { "none" } else { "wait" }
        );
    }
}

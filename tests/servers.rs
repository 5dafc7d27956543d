//! Whole passes with the real nginx and the real haproxy: what is served before, after, and when something goes wrong on the way.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;
#[path = "support/world.rs"]
mod world;

use std::path::Path;
use std::time::{Duration, Instant};

use certsyncd::clock::Clock;
use certsyncd::ledger::Ledger;
use certsyncd::report::{Action, Report, TargetAction};
use certsyncd::sync::{Scope, Sync};
use fakecloud::pki::{Issued, Leaf};
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use support::haproxy::Haproxy;
use support::nginx::Nginx;
use support::{client, free_port, until};
use world::World;

/// What a server says when it refuses something.
const WORDS: &str = "the server's own words";
/// A shell condition: something else than the first certificate of `www` is live.
const NEW: &str = "! cmp -s \"$ROOT/state/live/www/cert.pem\" \"$ROOT/first.pem\"";

/// A host with entries `www` (and more), each with its first certificate on disk, and nginx serving them.
struct Site {
    world: World,
    names: Vec<&'static str>,
    first: Vec<Issued>,
    port: u16,
    nginx: Nginx,
}

impl Site {
    /// Entries of these names (`www` is `www.example.com`), live on disk and served; no pass has told nginx anything yet.
    async fn new(names: &[&'static str]) -> Site {
        let (world, first) = installed(names).await;
        let port = free_port();
        let nginx = Nginx::start(2, &blocks(&world, names, port), port);
        until("nginx says its process id", || Path::new(&nginx.argv(&[])[2]).join("pid").exists());
        let site = Site { world, names: names.to_vec(), first, port, nginx };
        std::fs::copy(site.world.live(names[0]).join("cert.pem"), site.world.path("first.pem")).unwrap();
        site
    }

    /// `[deploy.web]` whose reload runs `body` and then, if that did not end it, the real one.
    fn reload(&self, body: &str) -> String {
        format!("reload = [\"{}\"]\n", self.script("reload", &format!("{body}\nexec {}", self.nginx.reload().join(" "))))
    }

    fn test(&self, body: &str) -> String {
        format!("test = [\"{}\"]\n", self.script("test", body))
    }

    fn script(&self, name: &str, body: &str) -> String {
        self.world.script(name, &format!("ROOT={}\n{body}", self.world.path("").display())).display().to_string()
    }

    /// The inventory with a target `web` that has these keys besides.
    fn sync(&self, keys: &str) -> Sync {
        self.world.sync(&format!("{}{}", entries(&self.names, "web"), target("web", "nginx", self.port, keys)))
    }

    /// As above after a first pass that told nginx what it already serves.
    async fn settled(&self, keys: &str) -> Sync {
        let sync = self.sync(keys);
        let report = self.world.pass(&sync).await;
        assert_eq!(report.targets[0].action, TargetAction::Unchanged, "it serves what is live: {:?}", report.targets);
        sync
    }

    /// Another certificate for an entry, at the provider.
    fn renew(&self, at: usize) -> Issued {
        renew(&self.world, self.names[at], at)
    }

    async fn served(&self, at: usize) -> String {
        served(self.port, host(self.names[at])).await
    }

    /// What every failing deploy must leave: the old one live and served, remembered as rejected, told in the server's words.
    async fn went_back(&self, report: &Report, words: &[&str]) {
        assert_eq!(report.targets[0].action, TargetAction::RolledBack, "{:?} {:?}", report.targets, report.certificates);
        assert_eq!(self.served(0).await, self.first[0].sha256, "what is served");
        assert_eq!(live(report, "www"), self.first[0].sha256, "what is live");
        let ledger = Ledger::peek(&self.world.state()).unwrap().ledger;
        assert_eq!(ledger.certificates["www"].rejected.len(), 1, "the ledger remembers the rejection");
        assert!(!report.is_ok());
        let told = self.event("deploy_failed");
        eprintln!("TOLD {told}");
        for word in words {
            assert!(told.contains(word), "`{word}` in {told}");
        }
        assert!(told.contains("served again"), "what is served now: {told}");
    }

    fn event(&self, name: &str) -> String {
        let events = self.world.events();
        let found: Vec<_> = events.iter().filter(|event| event["event"] == name).collect();
        assert_eq!(found.len(), 1, "{events:?}");
        eprintln!("EVENT {}", found[0]["message"].as_str().unwrap());
        found[0]["message"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_pass_nginx_serves_the_new_certificate() {
    let site = Site::new(&["www"]).await;
    let sync = site.settled(&site.reload("")).await;
    let new = site.renew(0);
    let report = site.world.pass(&sync).await;
    assert_eq!(report.targets[0].action, TargetAction::Reloaded, "{:?}", report.targets);
    assert_eq!(site.served(0).await, new.sha256);
    let told = &Ledger::peek(&site.world.state()).unwrap().ledger.certificates["www"].targets["web"];
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
    assert!(ledger.certificates["www"].rejected.is_empty(), "the certificate is not to blame");
    let verified = ledger.certificates["www"].targets["web"].verified.map(|fingerprint| fingerprint.to_string());
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
        let rejected: Vec<usize> = site.names.iter().map(|name| ledger.certificates[*name].rejected.len()).collect();
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

impl Site {
    /// It is Saturday, 3 o'clock; also the Wednesday after it.
    fn weekend(&mut self) -> (Timestamp, Timestamp) {
        let zone = TimeZone::system();
        let day = Timestamp::now().to_zoned(zone.clone()).nth_weekday(1, Weekday::Saturday).unwrap().date();
        let open = day.at(3, 0, 0, 0).to_zoned(zone).unwrap().timestamp();
        self.world.clock = Clock::manual(open);
        self.set_now(open);
        (open, open + SignedDuration::from_hours(4 * 24 + 9))
    }

    fn set_now(&self, now: Timestamp) {
        self.world.clock.set(now);
        self.world.cloud.set_now(now);
    }

    async fn pass_by_schedule(&self, sync: &Sync) -> Report {
        let report = sync.pass(&Scope::default(), &self.world.stop, &|_| ()).await.unwrap();
        self.world.send(sync).await;
        report
    }
}

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
    let mut site = Site::new(&["www"]).await;
    let (_, closed) = site.weekend();
    let old = site.world.pki.issue(Leaf::new(["www.example.com"]).to(closed + SignedDuration::from_hours(48)));
    let sync = site.settled(&(site.reload("") + "window = \"Sat 02:00-04:00\"\n")).await;
    site.world.cloud.huawei.replace(&id(0), old.clone());
    sync.pass(&world::scope(&["www"], true), &site.world.stop, &|_| ()).await.unwrap();
    assert_eq!(site.served(0).await, old.sha256);
    site.set_now(closed);
    let new = site.renew(0);
    let report = site.world.pass(&sync).await;
    assert_eq!(report.targets[0].action, TargetAction::Reloaded, "{:?}", report.targets);
    assert_eq!(site.served(0).await, new.sha256);
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
    let told = Ledger::peek(&world.state()).unwrap().ledger.certificates["www"].targets["web"].clone();
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

/// The real haproxy on `live/www/combined.pem`.
struct Proxy {
    world: World,
    first: Issued,
    port: u16,
    haproxy: Haproxy,
}

impl Proxy {
    async fn new(is_master: bool) -> Proxy {
        let (world, mut first) = installed(&["www"]).await;
        let port = free_port();
        let bind = format!("ssl crt {}", world.live("www").join("combined.pem").display());
        let haproxy = if is_master { Haproxy::start_master(&bind, port) } else { Haproxy::start(&bind, port) };
        Proxy { world, first: first.remove(0), port, haproxy }
    }

    /// With this socket, and a reload that runs `body`.
    fn sync(&self, socket: &Path, body: &str) -> Sync {
        let reload = self.world.script("reload", &format!("echo . >> {}\n{body}", self.world.path("reloads").display()));
        let keys = format!("socket = \"{}\"\nreload = [\"{}\"]\n", socket.display(), reload.display());
        self.world.sync(&format!("{}{}", entries(&["www"], "edge"), target("edge", "haproxy", self.port, &keys)))
    }

    fn reloads(&self) -> usize {
        std::fs::read_to_string(self.world.path("reloads")).unwrap_or_default().lines().count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_is_updated_in_place_without_another_process() {
    for is_master in [false, true] {
        let proxy = Proxy::new(is_master).await;
        let socket = if is_master { proxy.haproxy.master() } else { proxy.haproxy.admin() };
        let pid = || proxy.haproxy.ask("show info").lines().find(|line| line.starts_with("Pid:")).unwrap().to_owned();
        let before = pid();
        let sync = proxy.sync(&socket, "exit 1");
        assert_eq!(proxy.world.pass(&sync).await.targets[0].action, TargetAction::Unchanged);
        let new = renew(&proxy.world, "www", 0);
        let report = proxy.world.pass(&sync).await;
        assert_eq!(report.targets[0].action, TargetAction::Updated, "{:?}", report.targets);
        assert_eq!(served(proxy.port, host("www")).await, new.sha256);
        assert_eq!((pid(), proxy.reloads()), (before, 0), "master: {is_master}");
        assert_eq!(proxy.world.pass(&sync).await.targets[0].action, TargetAction::Unchanged);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_is_reloaded_where_it_cannot_be_updated_in_place() {
    let proxy = Proxy::new(true).await;
    let new = renew(&proxy.world, "www", 0);
    // This socket may read, not write.
    let socket = proxy.haproxy.folder.path().join("user.sock");
    let sync = proxy.sync(&socket, &format!("kill -USR2 {}", proxy.haproxy.server.id()));
    let report = proxy.world.pass(&sync).await;
    assert_eq!((report.targets[0].action, proxy.reloads()), (TargetAction::Reloaded, 1), "{:?}", report.targets);
    assert_eq!(served(proxy.port, host("www")).await, new.sha256);
    assert_ne!(new.sha256, proxy.first.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_is_reloaded_when_its_socket_hangs_and_goes_back_when_that_fails() {
    let proxy = Proxy::new(true).await;
    let silent = proxy.world.path("silent.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&silent).unwrap();
    let body = format!(
        "if ! cmp -s {} {}; then echo \"{WORDS}\" >&2; exit 1; fi; kill -USR2 {}",
        proxy.world.live("www").join("cert.pem").display(),
        proxy.world.path("first.pem").display(),
        proxy.haproxy.server.id()
    );
    std::fs::copy(proxy.world.live("www").join("cert.pem"), proxy.world.path("first.pem")).unwrap();
    let sync = proxy.sync(&silent, &body);
    assert_eq!(proxy.world.pass(&sync).await.targets[0].action, TargetAction::Unchanged);
    renew(&proxy.world, "www", 0);
    let report = proxy.world.pass(&sync).await;
    assert_eq!(report.targets[0].action, TargetAction::RolledBack, "{:?}", report.targets);
    assert!(report.targets[0].error.as_ref().unwrap().to_string().contains(WORDS));
    assert_eq!(served(proxy.port, host("www")).await, proxy.first.sha256);
}

/// A world whose entries are on disk, with no target yet.
async fn installed(names: &[&'static str]) -> (World, Vec<Issued>) {
    let world = World::start().await;
    let issue = |(at, name): (usize, &&'static str)| {
        let issued = world.pki.issue(Leaf::new([host(name)]).days(60));
        world.cloud.huawei.add(id(at), issued.clone());
        issued
    };
    let first: Vec<Issued> = names.iter().enumerate().map(issue).collect();
    let sync = world.sync(&entries(names, ""));
    let report = world.pass(&sync).await;
    assert!(report.is_ok(), "{report:?}");
    (world, first)
}

/// Each renewal ends a day later than the one before: the clouds list whole seconds, and two in one second would look the same.
fn renew(world: &World, name: &'static str, at: usize) -> Issued {
    static RENEWALS: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);
    let days = 80 + RENEWALS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let new = world.pki.issue(Leaf::new([host(name)]).days(days));
    world.cloud.huawei.replace(&id(at), new.clone());
    new
}

fn id(at: usize) -> String {
    format!("scs{at:013}")
}

fn host(name: &str) -> &'static str {
    match name {
        "www" => "www.example.com",
        "api" => "api.example.com",
        "shop" => "shop.example.com",
        other => panic!("no host for {other}"),
    }
}

/// Entries that go to the target named `deploy`; none if it is empty.
fn entries(names: &[&str], deploy: &str) -> String {
    let targets = if deploy.is_empty() { String::new() } else { format!("deploy = [\"{deploy}\"]\n") };
    let entry = |(at, name): (usize, &&str)| {
        format!("[[certificate]]\nname = \"{name}\"\nprovider = \"scm\"\nid = \"{}\"\n{targets}", id(at))
    };
    names.iter().enumerate().map(entry).collect()
}

fn target(name: &str, kind: &str, port: u16, keys: &str) -> String {
    let gap = if keys.contains("min_gap") { "" } else { "min_gap = \"0s\"\n" };
    format!("[deploy.{name}]\nkind = \"{kind}\"\nverify = [\"127.0.0.1:{port}\"]\ntimeout = \"2s\"\n{gap}{keys}")
}

fn blocks(world: &World, names: &[&str], port: u16) -> String {
    names.iter().map(|name| block(port, name, &world.live(name).join("combined.pem"))).collect()
}

fn block(port: u16, name: &str, pem: &Path) -> String {
    let (host, pem) = (host(name), pem.display());
    format!("server {{ listen 127.0.0.1:{port} ssl; server_name {host}; ssl_certificate {pem}; ssl_certificate_key {pem}; }}\n")
}

/// What `port` shows for `name`, by a client that shares nothing with certsyncd.
async fn served(port: u16, name: &'static str) -> String {
    client::connect(port, name).await.leaf()
}

/// Until several looks in a row show it: the old workers of nginx go on for a moment.
async fn wait_for(port: u16, sha256: &str) {
    let (start, mut right) = (Instant::now(), 0);
    while right < 10 {
        right = if served(port, host("www")).await == sha256 { right + 1 } else { 0 };
        assert!(start.elapsed() < support::PATIENCE, "waited in vain for {sha256}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn live(report: &Report, name: &str) -> String {
    let certificate = report.certificates.iter().find(|certificate| certificate.name == name).unwrap();
    certificate.live.as_ref().unwrap().fingerprint.to_string()
}

/// Whether a process with this id lives (and is no zombie).
fn alive(id: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

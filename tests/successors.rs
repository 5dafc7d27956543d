//! Renewals in these clouds are other certificates with other ids: which one is followed, which is not and why, and what it costs to look.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/world.rs"]
mod world;

use std::sync::Arc;

use certsyncd::clock::Clock;
use certsyncd::ledger::{Ledger, Open};
use certsyncd::report::{Action, CertificateReport, Report};
use certsyncd::sync::{Scope, Syncer};
use fakecloud::pki::{Issued, Key, Leaf, Pki};
use fakecloud::{CdsCertificate, Fault, HuaweiCertificate, Layout, Match, What};
use jiff::{SignedDuration, Timestamp};
use world::World;

const OLD: &str = "scs0000000000001";
const NEW: &str = "scs0000000000002";
const NAMES: [&str; 2] = ["www.example.com", "example.com"];

/// An entry that is installed, ends in `days`, and what its account gets next.
struct Scene {
    world: World,
    sync: Syncer,
    old: Issued,
}

impl Scene {
    /// `entry`: further lines of the entry; trusted: whether the fake root is among the trusted ones.
    async fn new(entry: &str, trusted: bool) -> Scene {
        let world = World::start().await;
        let old = world.pki.issue(Leaf::new(NAMES).days(20));
        world.cloud.huawei.add(OLD, old.clone());
        let text = format!("[[certificate]]\nname = \"www\"\nprovider = \"scm\"\nid = \"{OLD}\"\n{entry}");
        let sync = if trusted { world.sync_trusting(&text) } else { world.sync(&text) };
        let report = world.pass(&sync).await;
        assert_eq!(www(&report).action, Action::Installed, "{report:?}");
        Scene { world, sync, old }
    }

    fn add(&self, id: &str, certificate: impl Into<HuaweiCertificate>) {
        self.world.cloud.huawei.add(id, certificate.into());
    }

    fn issue(&self, days: i64) -> Issued {
        self.world.pki.issue(Leaf::new(NAMES).days(days))
    }

    /// By hand.
    async fn pass(&self) -> Report {
        self.world.pass(&self.sync).await
    }

    async fn scheduled(&self) -> Report {
        self.sync.pass(&Scope::default(), &self.world.stop, &|_| ()).await.unwrap()
    }

    /// So much later, and started anew.
    fn leap(&mut self, time: SignedDuration) {
        let later = self.world.clock.now() + time;
        self.world.clock = Clock::manual(later);
        self.world.cloud.set_now(later);
        self.sync = self.world.built(&self.world.read("config.toml"));
    }

    /// What the ledger has open about the entry.
    fn open(&self) -> Open {
        (*Ledger::peek(&self.world.state()).unwrap().ledger.certificates["www"].open).clone()
    }

    fn status(&self) -> serde_json::Value {
        let ledger = Ledger::peek(&self.world.state()).unwrap().ledger;
        let now = Timestamp::now();
        let document = certsyncd::observe::status::document(
            Some(self.sync.settings()),
            &ledger,
            &["www".to_owned()].into(),
            certsyncd::observe::status::Pace::default(),
            now,
        );
        serde_json::to_value(document).unwrap()["certificates"][0].clone()
    }

    fn event(&self, name: &str) -> serde_json::Value {
        self.world
            .events()
            .into_iter()
            .find(|event| event["event"] == name)
            .unwrap_or_else(|| panic!("{:?}", self.world.event_names()))
    }
}

fn www(report: &Report) -> &CertificateReport {
    report.certificates.iter().find(|certificate| certificate.name == "www").unwrap()
}

fn sha256(report: &Report) -> String {
    www(report).live.as_ref().unwrap().fingerprint.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_adopted_and_what_is_not_and_why() {
    type Make = fn(&Pki) -> HuaweiCertificate;
    // What the account gets besides the old one; `None`: it is adopted, else words of the near miss ("": not even fetched).
    let cases: [(&str, Make, Option<&str>); 13] = [
        ("a renewal", |pki| pki.issue(Leaf::new(NAMES).days(80)).into(), None),
        ("another key algorithm", |pki| pki.issue(Leaf::new(NAMES).days(80).key(Key::Rsa2048)).into(), None),
        ("a wildcard over all", |pki| pki.issue(Leaf::new(["*.example.com", "example.com"]).days(80)).into(), None),
        ("uploaded by the user", |pki| HuaweiCertificate::new(pki.issue(Leaf::new(NAMES).days(80))).status("UPLOAD"), None),
        ("covers less", |pki| pki.issue(Leaf::new(["www.example.com"]).days(80)).into(), Some("")),
        ("ends sooner", |pki| pki.issue(Leaf::new(NAMES).days(10)).into(), Some("")),
        ("another brand", |pki| HuaweiCertificate::new(pki.issue(Leaf::new(NAMES).days(80))).brand("OTHER"), Some("")),
        ("another type", |pki| HuaweiCertificate::new(pki.issue(Leaf::new(NAMES).days(80))).kind("OV_SSL_CERT"), Some("")),
        ("not issued yet", |pki| HuaweiCertificate::new(pki.issue(Leaf::new(NAMES).days(80))).status("CHECKING"), Some("")),
        ("revoked", |pki| HuaweiCertificate::new(pki.issue(Leaf::new(NAMES).days(80))).status("REVOKED"), Some("")),
        ("not started", |pki| pki.issue(Leaf::new(NAMES).not_yet_valid()).into(), Some("is not valid before")),
        ("self-signed", |pki| pki.issue(Leaf::new(NAMES).days(80).self_signed()).into(), Some("is self-signed")),
        ("of another root", |_| Pki::new().issue(Leaf::new(NAMES).days(80)).into(), Some("does not verify to the trusted roots")),
    ];
    for (what, make, expected) in cases {
        let scene = Scene::new("", true).await;
        let certificate = make(&scene.world.pki);
        let new = certificate.issued.sha256.clone();
        scene.add(NEW, certificate);
        scene.world.cloud.clear_requests();
        let report = scene.pass().await;
        let Some(words) = expected else {
            assert_eq!((www(&report).action, sha256(&report)), (Action::Installed, new), "{what}: {:?}", www(&report));
            let told = scene.event("renewed")["message"].as_str().unwrap().to_owned();
            assert!(told.contains(OLD) && told.contains(NEW), "{what}: {told}");
            continue;
        };
        assert_eq!(
            (www(&report).action, sha256(&report)),
            (Action::Unchanged, scene.old.sha256.clone()),
            "{what}: {:?}",
            www(&report)
        );
        let misses = www(&report).near_misses.join("; ");
        assert_eq!(scene.world.cloud.count("export"), usize::from(!words.is_empty()), "{what}: {misses}");
        assert!(misses.contains(words) && misses.contains(NEW) != words.is_empty(), "{what}: {misses}");
        // It is remembered: no key moves again for what is listed as before, and it is still told.
        scene.world.cloud.clear_requests();
        let again = scene.pass().await;
        assert_eq!((scene.world.cloud.count("export"), www(&again).near_misses.join("; ")), (0, misses), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_trusted_current_one_an_untrusted_successor_will_do() {
    let scene = Scene::new("", false).await;
    let new = scene.issue(80);
    scene.add(NEW, new.clone());
    assert_eq!(sha256(&scene.pass().await), new.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_end_wins_and_further_renewals_follow() {
    let scene = Scene::new("", true).await;
    let (later, latest) = (scene.issue(60), scene.issue(80));
    scene.add(NEW, later);
    scene.add("scs0000000000003", latest.clone());
    let report = scene.pass().await;
    assert_eq!((sha256(&report), www(&report).id.as_deref()), (latest.sha256, Some("scs0000000000003")));
    let next = scene.issue(100);
    scene.add("scs0000000000004", next.clone());
    let report = scene.pass().await;
    assert_eq!((sha256(&report), www(&report).previous_id.as_deref()), (next.sha256, Some("scs0000000000003")));
    for id in [OLD, NEW, "scs0000000000003"] {
        scene.world.cloud.huawei.remove(id);
    }
    scene.world.cloud.clear_requests();
    let quiet = scene.pass().await;
    assert!(quiet.is_ok() && www(&quiet).action == Action::Unchanged, "old ids may go: {:?}", www(&quiet));
    assert_eq!(scene.world.cloud.count("export"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn warn_tells_once_and_installs_nothing() {
    let scene = Scene::new("successor = \"warn\"\n", true).await;
    scene.add(NEW, scene.issue(80));
    scene.world.cloud.clear_requests();
    for _ in 0..3 {
        let report = scene.pass().await;
        assert_eq!((www(&report).action, sha256(&report)), (Action::Unchanged, scene.old.sha256.clone()));
    }
    assert_eq!(scene.world.cloud.count("export"), 0);
    let told: Vec<String> = scene.world.event_names().into_iter().filter(|name| name == "successor_available").collect();
    assert_eq!(told.len(), 1);
    assert!(scene.event("successor_available")["message"].as_str().unwrap().contains(NEW));
    assert_eq!(scene.status()["successor"]["id"], NEW);
    // The operator moves the inventory on: the state is over.
    let text = scene.world.read("config.toml").replace(OLD, NEW);
    let moved = scene.world.built(&text);
    assert_eq!(www(&scene.world.pass(&moved).await).action, Action::Installed);
    assert!(scene.world.event_names().contains(&"resolved".to_owned()), "{:?}", scene.world.event_names());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_id_that_the_account_does_not_have_is_told_in_every_pass() {
    let scene = Scene::new("", true).await;
    let mistyped = scene.world.built(&scene.world.read("config.toml").replace(OLD, "scs0000000000009"));
    for _ in 0..2 {
        let report = scene.world.pass(&mistyped).await;
        assert_eq!((www(&report).action, sha256(&report)), (Action::Failed, scene.old.sha256.clone()));
        let error = www(&report).error.as_ref().unwrap().to_string();
        assert!(error.contains("scs0000000000009"), "{error}");
    }
    assert_eq!(scene.world.cloud.count("show"), 0, "a whole listing needs no second look");
    assert_eq!(www(&scene.pass().await).action, Action::Unchanged, "the right one again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_demanded_anew_and_not_covered_is_told_by_the_next_pass() {
    let mut scene = Scene::new("", true).await;
    // What is new on disk is read again; a minute later nothing is.
    scene.world.clock = Clock::manual(Timestamp::now() + SignedDuration::from_mins(1));
    scene.sync = scene.world.built(&scene.world.read("config.toml"));
    scene.pass().await;
    scene.pass().await;
    let text = scene.world.read("config.toml");
    let demand = format!("id = \"{OLD}\"\nnames = [\"api.example.com\"]\n");
    let demanding = scene.world.built(&text.replace(&format!("id = \"{OLD}\"\n"), &demand));
    let report = scene.world.pass(&demanding).await;
    assert_eq!((www(&report).action, sha256(&report)), (Action::Failed, scene.old.sha256.clone()));
    let error = www(&report).error.as_ref().unwrap().to_string();
    assert!(error.contains("api.example.com"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ignore_shows_the_sibling_in_status_and_tells_nobody() {
    let scene = Scene::new("successor = \"ignore\"\n", true).await;
    scene.add(NEW, scene.issue(80));
    let report = scene.pass().await;
    assert_eq!((www(&report).action, sha256(&report)), (Action::Unchanged, scene.old.sha256.clone()));
    assert_eq!(scene.status()["successor"]["id"], NEW);
    assert!(!scene.world.event_names().contains(&"successor_available".to_owned()), "{:?}", scene.world.event_names());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_near_miss_is_named_where_the_end_is_told() {
    // CDS lists one name of several, so this one looks right until it is fetched.
    let cds = World::start().await;
    cds.cloud.cds.add("cds-1", CdsCertificate::new(cds.pki.issue(Leaf::new(NAMES).days(20))));
    cds.cloud.cds.add("cds-2", CdsCertificate::new(cds.pki.issue(Leaf::new(["example.com"]).days(80))));
    let sync = cds.sync("[[certificate]]\nname = \"www\"\nprovider = \"cds\"\nid = \"cds-1\"\n");
    cds.pass(&sync).await;
    cds.pass(&sync).await;
    let expiring: Vec<_> = cds.events().into_iter().filter(|event| event["event"] == "expiring").collect();
    assert_eq!(expiring.len(), 1, "{:?}", cds.event_names());
    let report = cds.pass(&sync).await;
    assert!(www(&report).near_misses.join("").contains("`cds-2` lacks `www.example.com`"), "{:?}", www(&report).near_misses);
    // With the near miss there from the start, the message names it.
    let host = World::start().await;
    host.cloud.cds.add("cds-1", CdsCertificate::new(host.pki.issue(Leaf::new(NAMES).days(40))));
    let sync = host.sync("[[certificate]]\nname = \"www\"\nprovider = \"cds\"\nid = \"cds-1\"\n");
    host.pass(&sync).await;
    host.cloud.cds.add("cds-2", CdsCertificate::new(host.pki.issue(Leaf::new(["example.com"]).days(80))));
    host.pass(&sync).await;
    host.cloud.cds.set_valid("cds-1", 2);
    host.pass(&sync).await;
    let told = host.events().into_iter().find(|event| event["event"] == "expiring").unwrap();
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("cds-2") && message.contains("lacks `www.example.com`"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_starts_later_is_adopted_when_it_has_started() {
    let mut scene = Scene::new("", true).await;
    let new = scene.world.pki.issue(Leaf::new(NAMES).not_yet_valid());
    scene.add(NEW, new.clone());
    assert_eq!(sha256(&scene.pass().await), scene.old.sha256);
    scene.leap(new.not_before.duration_since(Timestamp::now()) + SignedDuration::from_mins(1));
    assert_eq!(sha256(&scene.pass().await), new.sha256);
    // Nothing of the wait is left, so that the entry is quiet again.
    assert_eq!(scene.open().unfit.len(), 1);
    scene.pass().await;
    assert!(scene.open() == Open::default(), "{:?}", scene.open());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_the_provider_does_not_send_is_asked_for_again() {
    type Do = fn(&Scene);
    // Neither says anything about the certificate, and somebody may mend either.
    let (deny, grant): (Do, Do) =
        (|scene| scene.world.cloud.huawei.withdraw("scm:cert:export"), |scene| scene.world.cloud.huawei.grant("scm:cert:export"));
    let garbage = |scene: &Scene| scene.world.cloud.fault(Fault::new(Match::operation("export").id(NEW), What::Garbage));
    let (confuse, calm): (Do, Do) = (garbage, |scene| scene.world.cloud.clear_faults());
    for (what, words, fail, mend) in [
        ("a permission is missing", "(grant `scm:cert:export` to", deny, grant),
        ("an answer that is none", "not the API's JSON", confuse, calm),
    ] {
        let mut scene = Scene::new("", true).await;
        let new = scene.issue(80);
        scene.add(NEW, new.clone());
        fail(&scene);
        let report = scene.scheduled().await;
        assert_eq!(sha256(&report), scene.old.sha256, "{what}");
        let misses = www(&report).near_misses.join("; ");
        let is_told = misses.starts_with(&format!("`{NEW}` was not sent: failed to export")) && misses.contains(words);
        assert!(is_told, "{what}: {misses}");
        // Not in each pass, and the words stay.
        scene.world.cloud.clear_requests();
        let again = scene.scheduled().await;
        assert_eq!((scene.world.cloud.count("export"), www(&again).near_misses.join("; ")), (0, misses), "{what}");
        mend(&scene);
        scene.leap(SignedDuration::from_mins(61));
        let report = scene.scheduled().await;
        assert_eq!((sha256(&report), www(&report).near_misses.len()), (new.sha256, 0), "{what}");
    }
    // Whoever mends it and runs a pass by hand, or reloads the daemon, need not wait.
    for by_hand in [true, false] {
        let scene = Scene::new("", true).await;
        let new = scene.issue(80);
        scene.add(NEW, new.clone());
        deny(&scene);
        scene.scheduled().await;
        grant(&scene);
        assert_eq!(sha256(&scene.scheduled().await), scene.old.sha256);
        let report = if by_hand {
            scene.pass().await
        } else {
            scene.sync.forget();
            scene.scheduled().await
        };
        assert_eq!(sha256(&report), new.sha256, "by hand: {by_hand}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_are_never_sent_do_not_stand_in_the_way_of_others() {
    let world = World::start().await;
    let good = world.pki.issue(Leaf::new(NAMES).days(40));
    world.cloud.huawei.add(OLD, good.clone());
    for number in 2..5 {
        let id = format!("scs{number:013}");
        world.cloud.huawei.add(id.as_str(), world.pki.issue(Leaf::new(NAMES).days(40 + number)));
        let refusal = What::Error { status: 400, code: "SCM.0010".into(), message: "not in this status".into() };
        world.cloud.fault(Fault::new(Match::operation("export").id(id), refusal));
    }
    let sync = world.sync_trusting("[[certificate]]\nname = \"www\"\nprovider = \"scm\"\ndomain = \"www.example.com\"\n");
    let first = world.pass(&sync).await;
    assert_eq!(www(&first).action, Action::Failed, "three are asked for at most");
    assert_eq!(sha256(&world.pass(&sync).await), good.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_a_passing_trouble_held_up_is_taken_by_the_next_pass() {
    let scene = Scene::new("", true).await;
    let new = scene.issue(80);
    scene.add(NEW, new.clone());
    scene.world.cloud.fault(Fault::new(Match::operation("export").id(NEW), What::Cut(0)));
    let report = scene.scheduled().await;
    assert_eq!((www(&report).action, sha256(&report)), (Action::Unchanged, scene.old.sha256.clone()));
    assert!(www(&report).notes.join("").contains(&format!("failed to fetch candidate `{NEW}`")), "{:?}", www(&report).notes);
    assert!(scene.open() == Open::default(), "{:?}", scene.open());
    scene.world.cloud.clear_faults();
    assert_eq!(sha256(&scene.scheduled().await), new.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_live_yet_each_pass_asks_again() {
    let world = World::start().await;
    let issued = world.pki.issue(Leaf::new(NAMES));
    world.cloud.huawei.add(OLD, issued.clone());
    let sync = world.sync_trusting("[[certificate]]\nname = \"www\"\nprovider = \"scm\"\ndomain = \"www.example.com\"\n");
    world.cloud.huawei.withdraw("scm:cert:export");
    let pass = || async { sync.pass(&Scope::default(), &world.stop, &|_| ()).await.unwrap() };
    let told = www(&pass().await).error.as_ref().unwrap().to_string();
    assert!(told.contains(OLD) && told.contains("failed to export"), "{told}");
    world.cloud.huawei.grant("scm:cert:export");
    assert_eq!(sha256(&pass().await), issued.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_has_started_and_will_not_do_moves_its_key_once_more() {
    let mut scene = Scene::new("", true).await;
    let new = scene.world.pki.issue(Leaf::new(NAMES).not_yet_valid().self_signed());
    scene.add(NEW, new.clone());
    assert!(www(&scene.pass().await).near_misses.join("").contains("is not valid before"));
    scene.leap(new.not_before.duration_since(Timestamp::now()) + SignedDuration::from_mins(1));
    assert!(www(&scene.pass().await).near_misses.join("").contains("is self-signed"));
    scene.world.cloud.clear_requests();
    assert!(www(&scene.pass().await).near_misses.join("").contains("is self-signed"));
    assert_eq!(scene.world.cloud.count("export"), 0, "it is known by now");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_candidates_lasts_as_long_as_they_are_listed() {
    let scene = Scene::new("", true).await;
    scene.add(NEW, scene.world.pki.issue(Leaf::new(NAMES).days(80).self_signed()));
    scene.pass().await;
    // A pass without a listing says nothing of who is in the account.
    scene.world.cloud.huawei.withdraw("scm:cert:list");
    scene.pass().await;
    scene.world.cloud.huawei.grant("scm:cert:list");
    scene.world.cloud.clear_requests();
    assert!(www(&scene.pass().await).near_misses.join("").contains("is self-signed"));
    let asked = scene.world.cloud.requests();
    assert!(!asked.iter().any(|seen| seen.id.as_deref() == Some(NEW)), "{asked:?}");
    scene.world.cloud.huawei.remove(NEW);
    assert_eq!(www(&scene.pass().await).near_misses.len(), 0);
    assert!(scene.open() == Open::default(), "{:?}", scene.open());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_of_the_users_own_request_needs_a_key_that_fits() {
    let world = World::start().await;
    let old = world.pki.issue(Leaf::new(NAMES).days(20));
    let key = world.write("own.key", &old.key_pem);
    world.cloud.huawei.add(OLD, HuaweiCertificate::new(old.clone()).layout(Layout::OwnCsr));
    let text =
        format!("[[certificate]]\nname = \"www\"\nprovider = \"archive\"\nid = \"{OLD}\"\nkey_file = \"{}\"\n", key.display());
    let sync = world.sync_trusting(&text);
    assert_eq!(www(&world.pass(&sync).await).action, Action::Installed);
    let new = world.pki.issue(Leaf::new(NAMES).days(80));
    world.cloud.huawei.add(NEW, HuaweiCertificate::new(new.clone()).layout(Layout::OwnCsr));
    let report = world.pass(&sync).await;
    assert_eq!((www(&report).action, sha256(&report)), (Action::Unchanged, old.sha256.clone()), "{:?}", www(&report));
    let misses = www(&report).near_misses.join("; ");
    assert!(misses.contains(NEW) && misses.contains("own.key"), "which file does not fit: {misses}");
    // The operator puts the new request's key there: that is noticed, although the cloud lists what it listed before.
    world.write("own.key", &new.key_pem);
    let report = world.pass(&sync).await;
    assert_eq!((www(&report).action, sha256(&report)), (Action::Installed, new.sha256.clone()), "{:?}", www(&report));
    // A renewal made with the same request fits at once.
    let same = world.pki.issue(Leaf::new(NAMES).days(100).same_key(&new));
    world.cloud.huawei.add("scs0000000000003", HuaweiCertificate::new(same.clone()).layout(Layout::OwnCsr));
    assert_eq!(sha256(&world.pass(&sync).await), same.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_takes_the_newest_trusted_certificate_and_follows_it() {
    let world = World::start().await;
    let entry = "[[certificate]]\nname = \"www\"\nprovider = \"scm\"\ndomain = \"www.example.com\"\n";
    let first = world.pki.issue(Leaf::new(NAMES).days(40));
    world.cloud.huawei.add(OLD, first.clone());
    world.cloud.huawei.add("scs0000000000009", world.pki.issue(Leaf::new(["shop.example.com"]).days(85)));
    // The fake root is no public one.
    let report = world.pass(&world.sync(entry)).await;
    let www_report = www(&report);
    assert_eq!(www_report.action, Action::Failed);
    let told = www_report.error.as_ref().unwrap().to_string();
    assert!(told.contains("www.example.com") && told.contains("does not verify to the trusted roots"), "{told}");
    assert!(!world.live("www").exists());
    // `ca_file`, or `trust = "any"` on the entry, lift that, at once.
    let report = world.pass(&world.sync_trusting(entry)).await;
    assert_eq!((www(&report).action, sha256(&report)), (Action::Installed, first.sha256.clone()), "{:?}", www(&report));
    let sync = world.sync_trusting(entry);
    let next = world.pki.issue(Leaf::new(["*.example.com", "example.com"]).days(80));
    world.cloud.huawei.add(NEW, next.clone());
    let report = world.pass(&sync).await;
    assert_eq!((sha256(&report), www(&report).previous_id.as_deref()), (next.sha256, Some(OLD)));
    assert_eq!(www(&world.pass(&sync).await).action, Action::Unchanged);

    let any = World::start().await;
    let issued = any.pki.issue(Leaf::new(NAMES).self_signed());
    any.cloud.huawei.add(OLD, issued.clone());
    let report = any.pass(&any.sync(&format!("{entry}trust = \"any\"\n"))).await;
    assert_eq!(sha256(&report), issued.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_nothing_covers_says_what_came_near() {
    let world = World::start().await;
    let sync = world.sync_trusting(
        "[[certificate]]\nname = \"www\"\nprovider = \"cds\"\ndomain = \"www.example.com\"\nnames = [\"example.com\"]\n",
    );
    let report = world.pass(&sync).await;
    let told = www(&report).error.clone().unwrap();
    assert!(told.to_string().contains("no deployable certificate for `www.example.com`"), "{told}");
    assert!(told.hint.unwrap().contains("certsyncd list cds"));
    world.cloud.cds.add("cds-1", CdsCertificate::new(world.pki.issue(Leaf::new(["www.example.com"]))));
    for _ in 0..2 {
        let report = world.pass(&sync).await;
        let told = www(&report).error.clone().unwrap().to_string();
        assert!(told.contains("`cds-1` lacks `example.com`"), "{told}");
    }
    assert_eq!(world.cloud.count("DescribeCACertificate"), 1, "remembered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_ledger_costs_a_word_and_never_a_certificate() {
    let scene =
        Scene::new("deploy = [\"web\"]\n[deploy.web]\nkind = \"command\"\nreload = [\"true\"]\nmin_gap = \"0s\"\n", true).await;
    let new = scene.issue(80);
    scene.add(NEW, new.clone());
    assert_eq!(sha256(&scene.pass().await), new.sha256);
    let (files, told) = (scene.world.files(), scene.world.event_names().len());
    for old_id_is_gone in [false, true] {
        if old_id_is_gone {
            scene.world.cloud.huawei.remove(OLD);
        }
        std::fs::remove_file(scene.world.state().join("ledger.json")).unwrap();
        let report = scene.pass().await;
        assert!(report.is_ok(), "{:?}", www(&report));
        assert_eq!((sha256(&report), www(&report).id.as_deref()), (new.sha256.clone(), Some(NEW)), "gone: {old_id_is_gone}");
        assert_eq!(scene.world.files(), files, "nothing is written again");
    }
    let events: Vec<String> = scene.world.event_names().split_off(told);
    assert!(events.iter().all(|name| name == "ledger_rebuilt"), "{events:?}");
    assert!(!events.is_empty());
    assert_eq!(www(&scene.pass().await).action, Action::Unchanged);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_by_id_is_installed_once_and_replaced_never() {
    let world = World::start().await;
    let expired = world.pki.issue(Leaf::new(NAMES).expired());
    world.cloud.huawei.add(OLD, expired.clone());
    let sync = world.sync_trusting(&format!("[[certificate]]\nname = \"www\"\nprovider = \"scm\"\nid = \"{OLD}\"\n"));
    let report = world.pass(&sync).await;
    assert!(report.is_ok() && sha256(&report) == expired.sha256, "{report:?}");
    world.pass(&sync).await;
    assert_eq!(world.event_names(), ["expired"]);
    let renewal = world.pki.issue(Leaf::new(NAMES).days(80));
    world.cloud.huawei.add(NEW, renewal.clone());
    assert_eq!(sha256(&world.pass(&sync).await), renewal.sha256, "a renewal ends the outage");
}

/// So many entries, each with a certificate of its own (one key for all: making keys is not the point); and the second pass over them.
async fn quiet(provider: &str, count: usize) -> (World, Report) {
    let world = World::start_in_memory().await;
    let any = world.pki.issue(Leaf::new(NAMES));
    let mut text = String::new();
    for number in 0..count {
        let issued = world.pki.issue(Leaf::new([format!("e{number}.example.com")]).same_key(&any));
        let id = if provider == "cds" { format!("cds-{number}") } else { format!("scs{number:013}") };
        match provider {
            "cds" => world.cloud.cds.add(&id, CdsCertificate::new(issued)),
            _ => world.cloud.huawei.add(&id, HuaweiCertificate::new(issued)),
        }
        text.push_str(&format!("[[certificate]]\nname = \"e{number}\"\nprovider = \"{provider}\"\nid = \"{id}\"\n"));
    }
    let sync = world.sync(&text);
    let pass = async || sync.pass(&Scope::default(), &world.stop, &|_| ()).await.unwrap();
    let first = pass().await;
    assert!(first.certificates.iter().all(|certificate| certificate.action == Action::Installed), "{:?}", first.certificates[0]);
    world.cloud.clear_requests();
    let report = pass().await;
    assert!(
        report.certificates.iter().all(|certificate| certificate.action == Action::Unchanged),
        "{:?}",
        report.certificates[0]
    );
    (world, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_pass_over_a_thousand_certificates_of_cds_is_one_request() {
    let (world, report) = quiet("cds", 1000).await;
    assert_eq!((world.cloud.total(), report.requests, report.certificates.len()), (1, 1, 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_pass_over_a_thousand_certificates_of_huawei_is_its_pages() {
    let (world, report) = quiet("scm", 1000).await;
    assert!(world.cloud.total() <= 21 && report.requests <= 21, "{} {}", world.cloud.total(), report.requests);
    assert_eq!(world.cloud.count("export"), 0, "no key moves");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_permission_to_list_each_is_looked_at_and_no_key_moves() {
    let scene = Scene::new("", true).await;
    scene.world.cloud.huawei.withdraw("scm:cert:list");
    let first = scene.pass().await;
    assert!(first.is_ok(), "{:?}", www(&first));
    assert!(Ledger::peek(&scene.world.state()).unwrap().ledger.providers["scm"].listing_refused, "said, and remembered as said");
    scene.world.cloud.clear_requests();
    let quiet = scene.pass().await;
    assert_eq!(www(&quiet).action, Action::Unchanged);
    assert_eq!((scene.world.cloud.count("show"), scene.world.cloud.count("export")), (1, 0));
    // A reissue that keeps its dates shows in the fingerprint.
    let reissued = scene.issue(20);
    scene.world.cloud.huawei.replace(OLD, reissued.clone());
    assert_eq!(sha256(&scene.pass().await), reissued.sha256);
    // Not even a look is permitted: the certificate itself is asked for.
    scene.world.cloud.huawei.withdraw("scm:cert:get");
    scene.world.cloud.clear_requests();
    assert!(scene.pass().await.is_ok());
    assert_eq!(scene.world.cloud.count("export"), 1);
    scene.world.cloud.huawei.grant("scm:cert:list");
    assert!(scene.pass().await.is_ok());
    assert!(!Ledger::peek(&scene.world.state()).unwrap().ledger.providers["scm"].listing_refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_short_listing_leaves_out_is_looked_at_by_itself() {
    let scene = Scene::new("", true).await;
    let filler = Arc::new(scene.world.pki.issue(Leaf::new(["filler.example.org"])));
    for number in 100..300 {
        scene.add(&format!("scs{number:013}"), HuaweiCertificate::new(filler.clone()));
    }
    scene.world.cloud.huawei.set_listing_cap(Some(150));
    scene.pass().await;
    scene.world.cloud.clear_requests();
    let quiet = scene.pass().await;
    assert!(quiet.is_ok() && www(&quiet).action == Action::Unchanged, "not listed is not gone: {:?}", www(&quiet));
    assert_eq!(
        (scene.world.cloud.count("show"), scene.world.cloud.count("export")),
        (1, 0),
        "{} lists",
        scene.world.cloud.count("list")
    );
    let reissued = scene.issue(20);
    scene.world.cloud.huawei.replace(OLD, reissued.clone());
    // Changed last, it leads the listing now; move it out of sight again.
    for number in 100..300 {
        scene.add(&format!("scs{number:013}"), HuaweiCertificate::new(filler.clone()));
    }
    assert_eq!(sha256(&scene.pass().await), reissued.sha256);
}

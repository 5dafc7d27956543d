//! What the clouds say when they say no, and what they do when they misbehave: a whole pass each, and the one after it.
//!
//! However it fails: the words and the hint are those of the vendor's page, nothing on disk changes, the others go on, it ends in time, and
//! once it is over the next pass catches up.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/world.rs"]
mod world;

use std::time::{Duration, Instant};

use certsyncd::report::{Action, CertificateReport, Failure, Report};
use certsyncd::sync::Syncer;
use fakecloud::pki::{Issued, Leaf};
use fakecloud::{CdsCertificate, Fault, Match, Service, What};
use world::World;

/// One entry at each of the three sources, installed, and a renewal of each waiting at the clouds.
struct Scene {
    world: World,
    sync: Syncer,
    renewals: i64,
}

/// Entry, its id, and the operation that brings it.
const EXPORT: (&str, &str, &str) = ("www", "scs0000000000001", "export");
const DOWNLOAD: (&str, &str, &str) = ("shop", "scs0000000000002", "download");
const DESCRIBE: (&str, &str, &str) = ("api", "cds-1", "DescribeCACertificate");
const ALL: [(&str, &str, &str); 3] = [EXPORT, DOWNLOAD, DESCRIBE];

const INVENTORY: &str = r#"
[[certificate]]
name = "www"
provider = "scm"
id = "scs0000000000001"
[[certificate]]
name = "shop"
provider = "archive"
id = "scs0000000000002"
[[certificate]]
name = "api"
provider = "cds"
id = "cds-1"
"#;

impl Scene {
    async fn new() -> Scene {
        let mut world = World::start().await;
        world.limits.total = Duration::from_millis(800);
        world.limits.read = Duration::from_millis(500);
        world.limits.tries = 2;
        world.limits.retry_after = Duration::from_secs(2);
        let sync = world.sync(INVENTORY);
        let scene = Scene { world, sync, renewals: 0 };
        for (name, id, _) in ALL {
            scene.put(name, id, 60);
        }
        let report = scene.pass().await;
        assert!(report.is_ok(), "{report:?}");
        scene
    }

    /// With circuits closed and nothing remembered but the ledger.
    async fn pass(&self) -> Report {
        self.sync.forget();
        self.world.pass(&self.sync).await
    }

    fn put(&self, name: &str, id: &str, days: i64) -> Issued {
        let issued = self.world.pki.issue(Leaf::new([format!("{name}.example.com")]).days(days));
        if id.starts_with("cds") {
            self.world.cloud.cds.add(id, CdsCertificate::new(issued.clone()));
        } else {
            self.world.cloud.huawei.add(id, issued.clone());
        }
        issued
    }

    /// A pass in which `faults` stand in the way of a renewal of `concerned`, then one without them.
    async fn try_with(&mut self, concerned: &[(&str, &str, &str)], faults: &[Fault], label: &str) -> Report {
        self.renewals += 1;
        let new: Vec<Issued> = concerned.iter().map(|(name, id, _)| self.put(name, id, 60 + self.renewals)).collect();
        faults.iter().for_each(|fault| self.world.cloud.fault(fault.clone()));
        let (before, started) = (self.world.files(), Instant::now());
        let report = self.pass().await;
        assert!(started.elapsed() < Duration::from_secs(12), "{label} took {:?}", started.elapsed());
        let failed: Vec<&str> = of(&report, Action::Failed);
        let hurt: Vec<&str> = concerned.iter().map(|(name, ..)| *name).collect();
        assert!(failed.iter().all(|name| hurt.contains(name)), "{label}: others failed too: {failed:?}");
        let others = report.certificates.iter().filter(|certificate| !hurt.contains(&certificate.name.as_str()));
        others.for_each(|other| assert_eq!(other.action, Action::Unchanged, "{label}: {other:?}"));
        if failed.len() == hurt.len() {
            assert_eq!(self.world.files(), before, "{label}: nothing on disk changed");
        }
        self.world.cloud.clear_faults();
        let after = self.pass().await;
        assert!(after.is_ok(), "{label}: {:?}", after.certificates);
        for ((name, ..), new) in concerned.iter().zip(new) {
            assert_eq!(certificate(&after, name).live.as_ref().unwrap().fingerprint.to_string(), new.sha256, "{label}: recovery");
        }
        report
    }
}

fn of(report: &Report, action: Action) -> Vec<&str> {
    report
        .certificates
        .iter()
        .filter(|certificate| certificate.action == action)
        .map(|certificate| certificate.name.as_str())
        .collect()
}

fn certificate<'a>(report: &'a Report, name: &str) -> &'a CertificateReport {
    report.certificates.iter().find(|certificate| certificate.name == name).unwrap()
}

fn error<'a>(report: &'a Report, name: &str) -> &'a Failure {
    certificate(report, name).error.as_ref().unwrap_or_else(|| panic!("`{name}` did not fail: {:?}", certificate(report, name)))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_of_huawei_is_told_in_its_words_with_what_mends_it() {
    let mut scene = Scene::new().await;
    // status, code, kind, what the hint says, whether a pass tries twice
    for (status, code, kind, hint, again) in [
        (400, "SCM.0008", "not_found", "certsyncd list", false),
        (400, "SCM.0020", "not_found", "certsyncd list", false),
        (400, "SCM.0010", "refused", "must be issued", false),
        (400, "SCM.0059", "refused", "key_file", false),
        (401, "SCM.1000", "unauthorized", "access key", false),
        (401, "SCM.1009", "forbidden", "billing", false),
        (401, "SCM.1010", "forbidden", "billing", false),
        (401, "SCM.4002", "forbidden", "scm:cert:", false),
        (403, "SCM.0002", "forbidden", "project_id", false),
        (500, "SCM.0007", "server", "", true),
        (500, "SCM.0038", "server", "", true),
        (500, "SCM.4001", "server", "", true),
        (401, "APIGW.0301", "unauthorized", "access key", false),
        (429, "APIGW.0308", "throttled", "", true),
        (503, "APIGW.0201", "server", "", true),
        (504, "APIGW.0202", "server", "", true),
    ] {
        for which in [EXPORT, DOWNLOAD] {
            let (name, id, operation) = which;
            let label = format!("{code} of {operation}");
            scene.world.cloud.clear_requests();
            let fault = Fault::new(Match::operation(operation).id(id), What::error(status, code, "the vendor's own words"));
            let report = scene.try_with(&[which], &[fault], &label).await;
            let failure = error(&report, name);
            let words = failure.to_string();
            assert_eq!(failure.kind, kind, "{label}: {words}");
            assert!(words.contains(&format!("server said {status}: `{code}` the vendor's own words")), "{label}: {words}");
            assert!(words.contains(id), "{label}: which certificate: {words}");
            assert!(failure.hint.clone().unwrap_or_default().contains(hint), "{label}: {:?}", failure.hint);
            assert_eq!(failure.transient, again, "{label}");
            // The failing pass and the one after it.
            assert_eq!(scene.world.cloud.count(operation), if again { 3 } else { 2 }, "{label}: tries");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_of_cds_is_told_in_its_words_with_what_mends_it() {
    let mut scene = Scene::new().await;
    for (status, code, kind, hint, again) in [
        (400, "ArgMissing", "refused", "", false),
        (400, "InvalidParameter", "refused", "", false),
        (400, "BadArgs", "refused", "", false),
        (400, "UnsupportedOperation", "refused", "", false),
        (404, "ResourceNotFound", "not_found", "certsyncd list", false),
        (409, "ResourceInUse", "refused", "", true),
        (500, "InternalError", "server", "", true),
        (429, "TooManyRequests", "throttled", "", true),
        (401, "InvalidSignature", "unauthorized", "access key", false),
        (200, "ResourceNotFound", "not_found", "certsyncd list", false),
        (200, "InternalError", "server", "", true),
        (200, "BadArgs", "refused", "", false),
    ] {
        let label = format!("{status} {code}");
        scene.world.cloud.clear_requests();
        let what = match status {
            200 => What::ErrorIn200 { code: code.to_owned(), message: "the vendor's own words".to_owned() },
            _ => What::error(status, code, "the vendor's own words"),
        };
        let report = scene.try_with(&[DESCRIBE], &[Fault::new(Match::operation(DESCRIBE.2), what)], &label).await;
        let failure = error(&report, "api");
        let words = failure.to_string();
        assert_eq!(failure.kind, kind, "{label}: {words}");
        assert!(words.contains(&format!("server said {status}: `{code}` the vendor's own words")), "{label}: {words}");
        assert!(failure.hint.clone().unwrap_or_default().contains(hint), "{label}: {:?}", failure.hint);
        assert_eq!(failure.transient, again, "{label}");
        assert_eq!(scene.world.cloud.count(DESCRIBE.2), if again { 3 } else { 2 }, "{label}: tries");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_fetch_meets_ends_in_time_with_clear_words() {
    let (mut scene, mut odd) = (Scene::new().await, Vec::new());
    for (what, kinds, words) in misbehaviour() {
        let faults = ALL.map(|(_, _, operation)| Fault::new(Match::operation(operation), what.clone()));
        let report = scene.try_with(&ALL, &faults, what.name()).await;
        for (name, _, operation) in ALL {
            let label = format!("{} of {operation}", what.name());
            let failure = error(&report, name);
            let (kind, told) = (&failure.kind, failure.to_string());
            if !kinds.iter().any(|expected| kind.starts_with(expected)) || !words.iter().any(|word| told.contains(word)) {
                odd.push(format!("{label}: {kind}: {told}"));
            }
            assert!(!failure.to_string().contains("Signature"), "{label}: {failure}");
        }
    }
    assert!(odd.is_empty(), "{}", odd.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_listing_meets_ends_in_time_and_the_other_cloud_goes_on() {
    let mut scene = Scene::new().await;
    for (what, kinds, _) in misbehaviour() {
        if matches!(what, What::WrongKey | What::NoKey) {
            continue;
        }
        for (concerned, operation) in [(&[EXPORT, DOWNLOAD][..], "list"), (&[DESCRIBE][..], "DescribeCACertificates")] {
            let label = format!("{} of {operation}", what.name());
            let report = scene.try_with(concerned, &[Fault::new(Match::operation(operation), what.clone())], &label).await;
            for (name, ..) in concerned {
                // Either nobody needs to be asked, or each certificate is asked for by itself.
                match certificate(&report, name) {
                    failed if failed.action == Action::Failed => {
                        assert!(kinds.contains(&error(&report, name).kind.as_str()), "{label}: {:?}", failed.error);
                    }
                    installed => assert_eq!(installed.action, Action::Installed, "{label}: {installed:?}"),
                }
            }
        }
    }
}

/// What a cloud, or what is between us and it, may do; the kinds of error that may be, and words of which one is told.
fn misbehaviour() -> Vec<(What, &'static [&'static str], &'static [&'static str])> {
    vec![
        (What::Hang, &["timeout"], &["no whole answer from", "no answer"]),
        (What::HangAfterHeaders, &["timeout"], &["no whole answer from"]),
        (What::Drip { interval: Duration::from_millis(50) }, &["timeout"], &["no whole answer from"]),
        (What::Endless, &["timeout", "too_large"], &["no whole answer from", "larger than"]),
        (What::Cut(0), &["connect"], &["no connection", "cut off", "no answer"]),
        (What::Cut(100), &["connect"], &["cut off after"]),
        (What::Half, &["connect", "archive"], &["cut off after", "archive"]),
        (What::Garbage, &["bad_answer", "not_an_archive"], &["JSON", "archive"]),
        (What::HtmlPage, &["bad_answer"], &["a web page"]),
        (What::EmptyBody, &["bad_answer"], &["an empty body"]),
        (
            What::Redirect("https://login.example.com/?token=secret".to_owned()),
            &["refused"],
            &["a redirect to `login.example.com`"],
        ),
        (
            What::ErrorIn200 { code: "SCM.0038".into(), message: "no".into() },
            &["server", "refused"],
            &["server said 200: `SCM.0038`"],
        ),
        (What::status(502, "<html>bad gateway</html>"), &["server"], &["server said 502"]),
        (What::Throttle { retry_after: Some(1) }, &["throttled"], &["server said 429"]),
        (What::Throttle { retry_after: Some(3600) }, &["throttled"], &["asks to be left alone until"]),
        (What::WrongKey, &["mismatch", "no_pair", "wrong_key", "key_mismatch"], &["does not fit", "no key"]),
        (What::NoKey, &["no_key"], &["key"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cloud_that_is_away_costs_little_and_hurts_nobody_else() {
    let mut scene = Scene::new().await;
    let faults = [Fault::new(Match::service(Service::Scm), What::Hang)];
    let report = scene.try_with(&[EXPORT, DOWNLOAD], &faults, "away").await;
    assert_eq!((of(&report, Action::Failed), of(&report, Action::Unchanged)), (vec!["www", "shop"], vec!["api"]));
    // One listing per account, tried twice; no certificate is asked for in vain.
    assert!(report.requests <= 5, "{} requests", report.requests);
}

#[tokio::test(flavor = "multi_thread")]
async fn being_asked_to_wait_a_moment_is_obeyed_within_the_pass() {
    let scene = Scene::new().await;
    let new = scene.put("www", EXPORT.1, 70);
    scene.world.cloud.fault(Fault::new(Match::operation("export"), What::Throttle { retry_after: Some(1) }).once());
    let started = Instant::now();
    let report = scene.pass().await;
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(certificate(&report, "www").live.as_ref().unwrap().fingerprint.to_string(), new.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_credential_is_tried_once_until_somebody_says_that_it_is_mended() {
    let scene = Scene::new().await;
    let right = scene.world.cloud.huawei.secret_key();
    let config = scene.world.config("", INVENTORY);
    scene.world.cloud.huawei.set_secret_key("somebody changed it");
    let sync = scene.world.built(&config);
    scene.world.cloud.clear_requests();
    for _ in 0..3 {
        let report = scene.world.pass(&sync).await;
        assert_eq!(of(&report, Action::Failed), ["www", "shop"]);
        assert_eq!(error(&report, "www").kind, "unauthorized");
    }
    assert_eq!(scene.world.cloud.count("list"), 2, "each provider once: a fleet that goes on would lock the account");
    // Another process remembers it too.
    scene.world.pass(&scene.world.built(&config)).await;
    assert_eq!(scene.world.cloud.count("list"), 2);
    // The cloud's side is mended; SIGHUP says so, with the very same secret.
    scene.world.cloud.huawei.set_secret_key(&right);
    let again = sync.again(sync.settings().clone()).unwrap();
    again.forget();
    let report = scene.world.pass(&again).await;
    assert!(report.is_ok(), "{:?}", report.certificates);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_told_once_and_decides_nothing() {
    let scene = Scene::new().await;
    // By the clouds' clock, which CDS goes by for `Valid`, this one is over; by ours it is not.
    let clock = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 60 + 1);
    scene.world.cloud.set_now(clock);
    for _ in 0..3 {
        scene.pass().await;
    }
    let names = scene.world.event_names();
    assert!(names.contains(&"clock_skew".to_owned()) && !names.contains(&"expired".to_owned()), "{names:?}");
    std::fs::remove_file(scene.world.path("events")).unwrap();
    scene.world.cloud.set_skew(jiff::SignedDuration::ZERO);
    scene.pass().await;
    scene.world.cloud.set_skew(jiff::SignedDuration::from_hours(2));
    for _ in 0..3 {
        scene.pass().await;
    }
    let events = scene.world.events();
    let skewed: Vec<_> = events.iter().filter(|event| event["event"] == "clock_skew").collect();
    assert!(!skewed.is_empty() && skewed.len() <= 3, "once for each provider: {:?}", scene.world.event_names());
    assert!(
        skewed[0]["message"].as_str().unwrap().contains("120 minutes")
            || skewed[0]["message"].as_str().unwrap().contains("119 minutes"),
        "{}",
        skewed[0]
    );
    assert!(events.iter().all(|event| event["event"] != "expired"), "{:?}", scene.world.event_names());
    scene.world.cloud.set_skew(jiff::SignedDuration::ZERO);
    let report = scene.pass().await;
    assert!(report.is_ok(), "{:?}", report.certificates);
    assert!(scene.world.event_names().contains(&"resolved".to_owned()), "{:?}", scene.world.event_names());
    let again = scene.pass().await;
    assert!(
        again.is_ok() && scene.world.cloud.rejections().iter().all(|refused| refused.code != "APIGW.0307"),
        "{:?}",
        scene.world.cloud.rejections()
    );
}

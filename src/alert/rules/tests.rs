//! The table of the rules: passes in, events out. Here the host over time ([`World`]) and what holds for every event; by subject below.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod any;
mod expiry;
mod failing;
mod host;
mod work;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::{Channel, ChannelKind, Language, Severity};
use crate::ledger::{Delivery, Rejection};
use crate::report::{Failure, Served, SuccessorNote, TargetAction, TargetReport, Valid};

const DAY: i64 = 86_400;

/// Midday of a day in November 2026; every test's zero.
fn start() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn print(byte: u8) -> Fingerprint {
    Fingerprint([byte; 32])
}

/// A host over time: the pass is edited, judged, and what was raised goes into the next.
struct World {
    report: Report,
    records: Records,
    settings: Alerts,
    raised: BTreeMap<String, Raised>,
    now: Timestamp,
}

impl World {
    fn new(names: &[&str]) -> World {
        let now = start();
        let certificates = names.iter().map(|name| certificate(name, 1, now)).collect();
        let report = Report {
            started: now,
            finished: now,
            whole: true,
            certificates,
            targets: Vec::new(),
            incidents: Vec::new(),
            requests: 1,
            calls: BTreeMap::new(),
        };
        let records = names.iter().map(|name| ((*name).to_owned(), Box::default())).collect();
        let settings = Alerts {
            thresholds: vec![30, 14, 7, 3, 1],
            remind: Duration::from_secs(24 * 3_600),
            after_failures: 2,
            heartbeat_url: None,
            channels: vec![channel("all", Severity::Info), channel("loud", Severity::Critical)],
        };
        World { report, records, settings, raised: BTreeMap::new(), now }
    }

    /// One pass `days` after the start; what was told, as `event/subject`.
    fn at(&mut self, days: f64) -> Vec<String> {
        self.events(days).iter().map(line).collect()
    }

    fn events(&mut self, days: f64) -> Vec<Event> {
        self.told_at(start() + SignedDuration::from_secs((days * DAY as f64) as i64))
    }

    fn told_at(&mut self, now: Timestamp) -> Vec<Event> {
        self.now = now;
        let facts =
            Facts { report: &self.report, records: &self.records, settings: &self.settings, host: "web-1", now: self.now };
        let verdict = judge(&self.raised, &facts);
        assert_eq!(judge(&verdict.raised, &facts).events, [], "the same facts again must give nothing");
        self.raised = verdict.raised;
        verdict.events
    }

    fn certificate(&mut self, index: usize) -> &mut CertificateReport {
        &mut self.report.certificates[index]
    }

    /// Ends so many days after the start.
    fn ends(&mut self, index: usize, days: f64) -> &mut Self {
        let until = start() + SignedDuration::from_secs((days * DAY as f64) as i64);
        live(self.certificate(index)).not_after = until;
        self
    }

    /// Another leaf is live.
    fn leaf(&mut self, index: usize, byte: u8) -> &mut Self {
        live(self.certificate(index)).fingerprint = print(byte);
        self
    }

    fn fails(&mut self, index: usize, words: &str) -> &mut Self {
        let certificate = &mut self.report.certificates[index];
        certificate.action = Action::Failed;
        certificate.error = Some(Failure {
            kind: "server".into(),
            causes: vec!["failed to export".into(), words.into()],
            hint: None,
            transient: true,
        });
        self.records.get_mut(&certificate.name).unwrap().open.failures += 1;
        self
    }

    fn goes_well(&mut self, index: usize) -> &mut Self {
        let certificate = &mut self.report.certificates[index];
        certificate.action = Action::Unchanged;
        certificate.error = None;
        self.records.get_mut(&certificate.name).unwrap().open.failures = 0;
        self
    }

    fn target(&mut self, action: TargetAction, error: Option<&str>) -> &mut Self {
        let error = error.map(|words| Failure { kind: "test".into(), causes: vec![words.into()], hint: None, transient: false });
        self.report.targets =
            vec![TargetReport { name: "nginx".into(), action, certificates: vec!["api".into()], error, pending: None }];
        self
    }

    fn skew(&mut self, provider: Option<&str>) -> &mut Self {
        self.report.incidents.push(Incident {
            event: EventKind::ClockSkew,
            provider: provider.map(str::to_owned),
            certificates: vec![],
            message: "the clock of `scm` is 3 h ahead".into(),
        });
        self
    }
}

/// What is live of it, to be edited.
fn live(certificate: &mut CertificateReport) -> &mut Live {
    Arc::make_mut(certificate.live.as_mut().unwrap())
}

/// A certificate of 365 days, 200 of them left.
fn certificate(name: &str, leaf: u8, now: Timestamp) -> CertificateReport {
    let days = |days: i64| SignedDuration::from_secs(days * DAY);
    CertificateReport {
        name: name.into(),
        provider: "scm".into(),
        action: Action::Unchanged,
        id: Some("scs1".into()),
        previous_id: None,
        first: false,
        made_up: false,
        live: Some(Arc::new(Live {
            fingerprint: print(leaf),
            generation: "000001-010101010101".into(),
            names: vec![format!("{name}.example.com")],
            not_before: now - days(165),
            not_after: now + days(200),
        })),
        valid: None,
        error: None,
        held: None,
        successor: None,
        near_misses: vec![],
        drift: vec![],
        served: vec![],
        notes: vec![],
    }
}

fn channel(name: &str, min_severity: Severity) -> Channel {
    Channel {
        name: name.into(),
        kind: ChannelKind::Desktop,
        min_severity,
        events: vec![],
        certificates: vec![],
        language: Language::En,
        timeout: Duration::from_secs(1),
    }
}

fn line(event: &Event) -> String {
    let kind = match event.event {
        EventKind::Resolved => format!("resolved {}", event.key.split('/').next().unwrap()),
        other => other.to_string(),
    };
    format!(
        "{kind} {}",
        event.target.as_ref().or(event.certificate.as_ref()).or(event.provider.as_ref()).map_or("-", String::as_str)
    )
}

fn shows(leaf: u8, ends_in_days: i64) -> Served {
    Served {
        address: "127.0.0.1:443".into(),
        name: "api.example.com".into(),
        fingerprint: Some(print(leaf)),
        not_after: Some(start() + SignedDuration::from_secs(ends_in_days * DAY)),
        error: None,
        closed: false,
    }
}

fn shows_nothing() -> Served {
    Served { fingerprint: None, not_after: None, error: Some("timed out".into()), ..shows(1, 1) }
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_quiet_pass_says_nothing() {
    let mut world = World::new(&["api", "www"]);
    assert_eq!(world.at(0.0), NOTHING);
    assert!(world.raised.is_empty());
}

#[test]
fn what_leaves_the_inventory_is_resolved_and_said_so() {
    let mut world = World::new(&["api", "www"]);
    world.ends(0, 5.0).target(TargetAction::Failed, Some("x"));
    world.certificate(0).drift = vec!["x".into()];
    assert_eq!(world.at(0.0), ["expiring api", "drift api", "deploy_failed nginx"]);
    world.report.certificates.remove(0);
    world.report.targets.clear();
    world.report.whole = false;
    assert_eq!(world.at(0.1), NOTHING);
    world.report.whole = true;
    let events = world.events(0.2);
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), ["resolved deploy_failed nginx", "resolved expiring api"]);
    assert!(events[1].message.contains("`api` is no longer in the configuration of web-1"), "{}", events[1].message);
    assert!(world.raised.is_empty());
}

#[test]
fn raised_knows_who_got_it() {
    let mut world = World::new(&["api"]);
    world.ends(0, 5.0).at(0.0);
    assert_eq!(world.raised.values().next().unwrap().channels, ["all"]);
    world.at(5.0);
    assert_eq!(world.raised.values().next().unwrap().channels, ["all", "loud"]);
    // a state that takes the place of another keeps its readers
    world.settings.channels.retain(|channel| channel.name == "loud");
    world.leaf(0, 2).at(5.1);
    assert_eq!(world.raised.values().next().unwrap().channels, ["loud", "all"]);
}

#[test]
fn reminders_can_be_off() {
    let mut world = World::new(&["api"]);
    world.settings.remind = Duration::ZERO;
    assert_eq!(world.ends(0, -1.0).at(0.0), ["expired api"]);
    assert_eq!(world.at(50.0), NOTHING);
}

#[test]
fn flags_and_ends_of_the_event() {
    let mut world = World::new(&["api"]);
    world.certificate(0).valid = Some(Valid::Expiring);
    let event = world.ends(0, 9.5).events(0.0).remove(0);
    let body = serde_json::to_value(&event).unwrap();
    let keys: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = vec![
        "version",
        "event",
        "severity",
        "host",
        "certificate",
        "provider",
        "id",
        "names",
        "valid",
        "not_after",
        "days_left",
        "fingerprint",
        "target",
        "certificates",
        "count",
        "key",
        "message",
        "at",
    ];
    expected.sort_unstable();
    assert_eq!(
        {
            let mut keys = keys;
            keys.sort_unstable();
            keys
        },
        expected
    );
    assert_eq!(body["version"], 1);
    assert_eq!(body["valid"], 2);
    assert_eq!(body["days_left"], 9);
    assert_eq!(body["not_after"], "2026-12-02T00:00:00Z");
    assert_eq!(body["certificates"], serde_json::json!(["api"]));
    assert_eq!(body["target"], serde_json::Value::Null);
}

//! The table of the rules: passes in, events out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use proptest::prelude::*;

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
    records: BTreeMap<String, Box<CertificateRecord>>,
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
        self.certificate(index).live.as_mut().unwrap().not_after = until;
        self
    }

    /// Another leaf is live.
    fn leaf(&mut self, index: usize, byte: u8) -> &mut Self {
        self.certificate(index).live.as_mut().unwrap().fingerprint = print(byte);
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
        self.records.get_mut(&certificate.name).unwrap().failures += 1;
        self
    }

    fn goes_well(&mut self, index: usize) -> &mut Self {
        let certificate = &mut self.report.certificates[index];
        certificate.action = Action::Unchanged;
        certificate.error = None;
        self.records.get_mut(&certificate.name).unwrap().failures = 0;
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
        live: Some(Live {
            fingerprint: print(leaf),
            generation: "000001-010101010101".into(),
            names: vec![format!("{name}.example.com")],
            not_before: now - days(165),
            not_after: now + days(200),
        }),
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
fn thresholds_are_told_once_each_as_they_are_crossed() {
    let mut world = World::new(&["api"]);
    world.ends(0, 31.0);
    for (day, expected) in [
        (0.0, NOTHING.as_slice()),
        (0.99, &[]),
        (1.0, &["expiring api"]),
        (1.1, &[]),
        (16.9, &[]),
        (17.0, &["expiring api"]),
        (24.0, &["expiring api"]),
        (28.0, &["expiring api"]),
        (29.9, &[]),
        (30.0, &["expiring api"]),
        (30.99, &[]),
        (31.0, &["expired api"]),
        (31.5, &[]),
        (32.0, &["expired api"]),
        (32.9, &[]),
        (33.0, &["expired api"]),
    ] {
        assert_eq!(world.at(day), expected, "day {day}");
    }
    assert_eq!(world.raised.len(), 1, "`expired` took the place of `expiring`");
}

#[test]
fn only_the_smallest_threshold_crossed_counts() {
    let mut world = World::new(&["api"]);
    world.ends(0, 5.0);
    let events = world.events(0.0);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].days_left, Some(5));
    assert_eq!(world.raised.values().next().unwrap().threshold, Some(7));
    assert_eq!(events[0].key, "expiring/api/010101010101");
    assert_eq!(events[0].severity, Severity::Warning);
}

#[test]
fn days_left_are_rounded_down_and_negative_once_past() {
    let mut world = World::new(&["api"]);
    world.ends(0, 9.9);
    assert_eq!(world.events(0.0)[0].days_left, Some(9));
    assert_eq!(world.events(10.0)[0].days_left, Some(-1));
}

/// A clock stands between two seconds, a certificate ends at a whole one: message, `days_left` and what `status` says must be one number.
#[test]
fn words_and_figures_count_the_same_days() {
    let end = start() + SignedDuration::from_secs(9 * DAY);
    for (late, days, english, chinese) in [
        (SignedDuration::ZERO, 9, "ends in 9 days", "还剩 9 天"),
        (SignedDuration::from_nanos(1), 8, "ends in 8 days", "还剩 8 天"),
        (SignedDuration::from_millis(999), 8, "ends in 8 days", "还剩 8 天"),
        (SignedDuration::from_secs(DAY), 8, "ends in 8 days", "还剩 8 天"),
        (SignedDuration::from_secs(DAY) + SignedDuration::from_nanos(1), 7, "ends in 7 days", "还剩 7 天"),
    ] {
        let mut world = World::new(&["api"]);
        let event = world.ends(0, 9.0).told_at(start() + late).remove(0);
        assert_eq!(event.days_left, Some(days), "{late}");
        assert_eq!(crate::report::days_left(start() + late, end), days, "{late}");
        assert!(event.message.contains(english) && event.message_zh.as_ref().unwrap().contains(chinese), "{late}: {}", event.message);
    }
    // past by a part of a second is past
    assert_eq!(crate::report::days_left(end + SignedDuration::from_nanos(1), end), -1);
}

#[test]
fn a_replacement_starts_afresh_and_ends_what_was_told() {
    let mut world = World::new(&["api"]);
    world.ends(0, 10.0).at(0.0);
    world.leaf(0, 2).ends(0, 300.0).certificate(0).action = Action::Installed;
    assert_eq!(world.at(0.1), ["resolved expiring api", "renewed api"]);
    world.certificate(0).action = Action::Unchanged;
    assert_eq!(world.at(0.2), NOTHING);
    assert_eq!(world.ends(0, 10.0).at(0.3), ["expiring api"]);
}

#[test]
fn a_replacement_that_ends_soon_itself_is_told_and_nothing_is_over() {
    let mut world = World::new(&["api"]);
    world.ends(0, 10.0).at(0.0);
    assert_eq!(world.leaf(0, 2).ends(0, 12.0).at(0.1), ["expiring api"]);
    assert_eq!(world.raised.keys().collect::<Vec<_>>(), ["expiring/api/020202020202"]);
    // one that was expired is over, even if the new one ends soon
    let mut world = World::new(&["api"]);
    world.ends(0, -1.0).at(0.0);
    assert_eq!(world.leaf(0, 2).ends(0, 12.0).at(0.1), ["resolved expired api", "expiring api"]);
    // and an expired one in place of one that ends soon is no end of anything
    let mut world = World::new(&["api"]);
    world.ends(0, 5.0).at(0.0);
    assert_eq!(world.leaf(0, 2).ends(0, -1.0).at(0.1), ["expired api"]);
    assert_eq!(world.raised.len(), 1);
}

#[test]
fn the_providers_flag_counts_as_thirty_days() {
    let mut world = World::new(&["api"]);
    world.certificate(0).valid = Some(Valid::Expiring);
    assert_eq!(world.at(0.0), ["expiring api"]);
    assert_eq!(world.raised.values().next().unwrap().threshold, Some(30));
    assert_eq!(world.at(5.0), NOTHING);
    // the flag is there without any threshold, and no repetition when the dates say the same later
    assert_eq!(world.ends(0, 30.0).at(6.0), NOTHING);
    assert_eq!(world.at(17.0), ["expiring api"]);
}

#[test]
fn the_flag_is_remembered_while_the_provider_is_away() {
    let mut world = World::new(&["api"]);
    world.certificate(0).valid = Some(Valid::Expired);
    assert_eq!(world.at(0.0), ["expired api"]);
    world.certificate(0).valid = None;
    world.records.get_mut("api").unwrap().valid = Some(Valid::Expired);
    assert_eq!(world.fails(0, "timed out").at(0.5), NOTHING);
    assert_eq!(world.at(1.0), ["expired api"]);
    world.goes_well(0).certificate(0).valid = Some(Valid::Valid);
    assert_eq!(world.at(1.1), ["resolved expired api"]);
}

#[test]
fn an_unknown_flag_says_nothing() {
    let mut world = World::new(&["api"]);
    world.certificate(0).valid = None;
    world.certificate(0).notes = vec!["`Valid` is 7".into()];
    assert_eq!(world.at(0.0), NOTHING);
}

#[test]
fn thresholds_beyond_a_third_of_the_lifetime_are_skipped() {
    for (lifetime, thresholds) in
        [(47, vec![14, 7, 3, 1]), (90, vec![30, 14, 7, 3, 1]), (89, vec![14, 7, 3, 1]), (6, vec![1]), (2, vec![])]
    {
        let mut world = World::new(&["api"]);
        let live = world.certificate(0).live.as_mut().unwrap();
        // a second short, as authorities write them
        (live.not_before, live.not_after) = (start(), start() + SignedDuration::from_secs(lifetime * DAY - 1));
        let mut told = Vec::new();
        for hour in 0..lifetime * 24 {
            if !world.at(hour as f64 / 24.0).is_empty() {
                told.push(world.raised.values().next().unwrap().threshold.unwrap());
            }
        }
        assert_eq!(told, thresholds, "{lifetime} days");
    }
}

#[test]
fn a_short_lived_certificate_with_the_flag_is_told() {
    let mut world = World::new(&["api"]);
    let live = world.certificate(0).live.as_mut().unwrap();
    (live.not_before, live.not_after) = (start(), start() + SignedDuration::from_secs(47 * DAY));
    world.certificate(0).valid = Some(Valid::Expiring);
    assert_eq!(world.at(17.0), ["expiring api"]);
}

#[test]
fn what_is_served_counts() {
    let mut world = World::new(&["api"]);
    world.leaf(0, 2).certificate(0).served = vec![shows(2, 200), shows(1, 2)];
    let events = world.events(0.0);
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), ["expiring api"]);
    assert_eq!((events[0].fingerprint, events[0].days_left), (Some(print(1)), Some(2)));
    assert!(events[0].message.contains("127.0.0.1:443"), "{}", events[0].message);
    assert_eq!(world.at(2.0), ["expired api"]);
    // one look that fails proves nothing where the old one was seen last
    world
        .records
        .get_mut("api")
        .unwrap()
        .targets
        .insert("nginx".into(), Delivery { verified: Some(print(1)), ..Delivery::default() }.into());
    world.certificate(0).served = vec![shows_nothing()];
    assert_eq!(world.at(2.1), NOTHING);
    world.certificate(0).served = vec![shows(2, 200)];
    world.records.get_mut("api").unwrap().targets.get_mut("nginx").unwrap().verified = Some(print(2));
    assert_eq!(world.at(2.2), ["resolved expired api"]);
}

#[test]
fn a_later_one_that_is_served_or_a_stranger_is_nothing() {
    let mut world = World::new(&["api"]);
    world.certificate(0).served = vec![shows(9, 900)];
    assert_eq!(world.at(0.0), NOTHING);
    // a pair that never matched shows the server's default certificate
    world.certificate(0).served = vec![shows(9, 1)];
    let never = Delivery { never_matched: vec!["127.0.0.1:443 api.example.com".into()], ..Delivery::default() };
    world.records.get_mut("api").unwrap().targets.insert("nginx".into(), never.into());
    assert_eq!(world.at(0.1), NOTHING);
}

#[test]
fn a_failure_is_told_after_two_passes_and_repeated() {
    let mut world = World::new(&["api"]);
    assert_eq!(world.fails(0, "timed out").at(0.0), NOTHING);
    assert_eq!(world.fails(0, "timed out").at(0.01), ["sync_failed api"]);
    assert_eq!(world.fails(0, "timed out").at(0.5), NOTHING);
    assert_eq!(world.fails(0, "timed out").at(1.01), ["sync_failed api"]);
    assert_eq!(world.goes_well(0).at(1.02), ["resolved sync_failed api"]);
    assert_eq!(world.at(1.03), NOTHING);
    assert_eq!(world.fails(0, "timed out").at(1.04), NOTHING);
}

#[test]
fn a_failure_in_the_last_three_days_is_told_at_once() {
    let mut world = World::new(&["api"]);
    assert_eq!(world.ends(0, 3.01).fails(0, "x").at(0.0), ["expiring api"]);
    let mut world = World::new(&["api"]);
    assert_eq!(world.ends(0, 3.0).fails(0, "x").at(0.0), ["expiring api", "sync_failed api"]);
}

#[test]
fn a_first_install_that_fails_waits_for_the_second_pass_too() {
    let mut world = World::new(&["api"]);
    world.certificate(0).live = None;
    assert_eq!(world.fails(0, "x").at(0.0), NOTHING);
    let events = {
        world.fails(0, "x");
        world.events(0.01)
    };
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), ["sync_failed api"]);
    assert_eq!((events[0].not_after, events[0].days_left, events[0].fingerprint), (None, None, None));
}

#[test]
fn held_is_a_pass_that_went_well() {
    let mut world = World::new(&["api"]);
    world.fails(0, "x").at(0.0);
    world.fails(0, "x").at(0.01);
    world.goes_well(0).certificate(0).action = Action::Held;
    assert_eq!(world.at(0.02), ["resolved sync_failed api"]);
}

#[test]
fn many_with_one_cause_are_one_message() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    for index in 0..3 {
        world.fails(index, "connection refused");
    }
    assert_eq!(world.at(0.0), NOTHING);
    for index in 0..3 {
        world.fails(index, "connection refused");
    }
    let events = world.events(0.01);
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), ["provider_down scm"]);
    assert_eq!((events[0].count, events[0].certificates.as_slice()), (3, ["a", "b", "c"].map(String::from).as_slice()));
    assert_eq!(events[0].key, "provider_down/scm");
    assert_eq!(world.at(0.5), NOTHING);
    assert_eq!(world.at(1.01), ["provider_down scm"]);
    for index in 0..3 {
        world.goes_well(index);
    }
    assert_eq!(world.at(1.02), ["resolved provider_down scm"]);
}

#[test]
fn two_are_two_messages_and_other_causes_are_their_own() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    for _ in 0..2 {
        for (index, words) in
            ["server said 400: `SCM.0010` no", "server said 400: `SCM.0010` no", "server said 401: `SCM.4002` no"]
                .into_iter()
                .enumerate()
        {
            world.fails(index, words);
        }
    }
    assert_eq!(world.at(0.0), ["sync_failed a", "sync_failed b", "sync_failed c"]);
    let mut world = World::new(&["a", "b", "c", "d"]);
    for _ in 0..2 {
        for (index, words) in
            ["`SCM.0010` of `a`", "`SCM.0010` of `b`", "`SCM.4002` no", "`SCM.0010` of `d`"].into_iter().enumerate()
        {
            world.fails(index, words);
        }
    }
    assert_eq!(world.at(0.0), ["provider_down scm", "sync_failed c"]);
}

#[test]
fn what_is_left_when_the_provider_is_back_is_told_alone() {
    let mut world = World::new(&["a", "b", "c"]);
    for _ in 0..2 {
        for index in 0..3 {
            world.fails(index, "timed out");
        }
    }
    assert_eq!(world.at(0.0), ["provider_down scm"]);
    world.goes_well(0).goes_well(1).fails(2, "timed out");
    assert_eq!(world.at(0.01), ["resolved provider_down scm", "sync_failed c"]);
}

#[test]
fn a_pass_over_named_entries_ends_nothing_else() {
    let mut world = World::new(&["a", "b", "c"]);
    for _ in 0..2 {
        for index in 0..3 {
            world.fails(index, "timed out");
        }
    }
    world.ends(1, 5.0);
    assert_eq!(world.at(0.0), ["provider_down scm", "expiring b"]);
    let whole = world.report.certificates.clone();
    world.report.whole = false;
    world.report.certificates.truncate(1);
    assert_eq!(world.at(0.01), NOTHING, "still failing: told with the others");
    assert_eq!(world.goes_well(0).at(0.02), NOTHING);
    assert_eq!(world.raised.len(), 2);
    world.report.whole = true;
    world.report.certificates = whole;
    for index in 0..3 {
        world.goes_well(index);
    }
    assert_eq!(world.at(0.03), ["resolved provider_down scm"]);
}

#[test]
fn an_incident_of_the_pass_names_the_cause() {
    let mut world = World::new(&["a", "b"]);
    world.report.incidents = vec![Incident {
        event: EventKind::ProviderDown,
        provider: Some("scm".into()),
        certificates: vec!["a".into(), "b".into()],
        message: "the access key was rejected".into(),
    }];
    for _ in 0..2 {
        world.fails(0, "x").fails(1, "y");
    }
    let events = world.events(0.0);
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), ["provider_down scm"]);
    assert!(events[0].message.contains("the access key was rejected"), "{}", events[0].message);
}

#[test]
fn a_failed_deploy_is_told_at_once_repeated_and_ended() {
    let mut world = World::new(&["api"]);
    assert_eq!(world.target(TargetAction::RolledBack, Some("nginx: key mismatch")).at(0.0), ["deploy_failed nginx"]);
    assert_eq!(world.target(TargetAction::Failed, Some("nginx: key mismatch")).at(0.5), NOTHING);
    assert_eq!(world.target(TargetAction::Pending, None).at(0.6), NOTHING);
    assert_eq!(world.target(TargetAction::Failed, Some("nginx: key mismatch")).at(1.0), ["deploy_failed nginx"]);
    assert_eq!(world.target(TargetAction::Reloaded, None).at(1.1), ["resolved deploy_failed nginx"]);
    assert_eq!(world.target(TargetAction::Pending, None).at(1.2), NOTHING, "pending is no failure");
}

#[test]
fn what_a_server_rejected_is_not_over_because_nothing_was_tried() {
    let mut world = World::new(&["api"]);
    let record = world.records.get_mut("api").unwrap();
    record.fetched = Some(print(7));
    record.targets.insert("nginx".into(), Box::default());
    record.rejected = vec![Rejection { fingerprint: print(7), id: None, why: "key mismatch".into(), tries: 1, next_try: None }];
    assert_eq!(world.target(TargetAction::RolledBack, Some("key mismatch")).at(0.0), ["deploy_failed nginx"]);
    assert_eq!(world.target(TargetAction::Unchanged, None).at(0.1), NOTHING);
    let events = world.events(1.0);
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), ["deploy_failed nginx"]);
    assert!(events[0].message.contains("key mismatch"), "{}", events[0].message);
    // another certificate came and is live
    let record = world.records.get_mut("api").unwrap();
    record.fetched = Some(print(8));
    assert_eq!(world.target(TargetAction::Reloaded, None).at(1.1), ["resolved deploy_failed nginx"]);
}

#[test]
fn another_certificate_rejected_by_the_same_target_is_news() {
    let mut world = World::new(&["api", "www"]);
    assert_eq!(world.target(TargetAction::RolledBack, Some("api is bad")).at(0.0), ["deploy_failed nginx"]);
    let record = world.records.get_mut("www").unwrap();
    record.fetched = Some(print(7));
    record.rejected = vec![Rejection { fingerprint: print(7), id: None, why: "bad".into(), tries: 1, next_try: None }];
    world.target(TargetAction::RolledBack, Some("www is bad")).report.targets[0].certificates = vec!["www".into()];
    assert_eq!(world.at(0.1), ["deploy_failed nginx"]);
    world.records.get_mut("www").unwrap().rejected[0].tries = 2;
    assert_eq!(world.at(0.2), NOTHING);
}

#[test]
fn a_rollback_by_hand_is_no_failure() {
    let mut world = World::new(&["api"]);
    let record = world.records.get_mut("api").unwrap();
    record.fetched = Some(print(7));
    record.targets.insert("nginx".into(), Box::default());
    record.rejected =
        vec![Rejection { fingerprint: print(7), id: None, why: "rolled back by hand".into(), tries: 0, next_try: None }];
    world.target(TargetAction::Failed, Some("x")).at(0.0);
    assert_eq!(world.target(TargetAction::Unchanged, None).at(0.1), ["resolved deploy_failed nginx"]);
}

#[test]
fn renewed_is_told_when_it_is_not_the_first() {
    let mut world = World::new(&["api"]);
    let certificate = world.certificate(0);
    (certificate.action, certificate.first) = (Action::Installed, true);
    assert_eq!(world.at(0.0), NOTHING);
    let certificate = world.leaf(0, 2).certificate(0);
    (certificate.first, certificate.previous_id, certificate.id) = (false, Some("scs1".into()), Some("scs2".into()));
    let events = world.events(0.1);
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), ["renewed api"]);
    assert!(events[0].message.contains("`scs1`") && events[0].message.contains("`scs2`"), "{}", events[0].message);
    assert_eq!(events[0].severity, Severity::Info);
    world.certificate(0).action = Action::Unchanged;
    assert_eq!(world.at(0.2), NOTHING);
    world.at(2.0);
    assert!(world.raised.is_empty(), "the memory of it goes after a day");
}

#[test]
fn a_successor_is_told_once_per_id() {
    let mut world = World::new(&["api"]);
    let note = |id: &str| Some(SuccessorNote { id: id.into(), not_after: None });
    world.certificate(0).successor = note("scs2");
    assert_eq!(world.at(0.0), ["successor_available api"]);
    assert_eq!(world.at(5.0), NOTHING);
    world.certificate(0).successor = None;
    assert_eq!(world.at(5.1), NOTHING, "a listing may miss it once");
    world.certificate(0).successor = note("scs2");
    assert_eq!(world.at(5.2), NOTHING);
    world.certificate(0).successor = note("scs3");
    assert_eq!(world.at(6.0), ["successor_available api"]);
    world.leaf(0, 3).certificate(0).successor = None;
    assert_eq!(world.at(7.0), ["resolved successor_available api"]);
}

#[test]
fn drift_is_told_when_it_happens_and_a_fight_once_a_day() {
    let mut world = World::new(&["api"]);
    world.certificate(0).drift = vec!["mode of `privkey.pem` was 0644".into()];
    assert_eq!(world.at(0.0), ["drift api"]);
    assert_eq!(world.at(0.1), NOTHING);
    world.certificate(0).drift = vec!["`cert.pem` was edited".into()];
    assert_eq!(world.at(0.2), ["drift api"], "something else is news");
    world.certificate(0).drift = vec!["mode of `privkey.pem` was 0644".into()];
    assert_eq!(world.at(1.0), ["drift api"]);
    world.certificate(0).drift = vec![];
    assert_eq!(world.at(3.0), NOTHING);
    assert!(world.raised.is_empty());
}

#[test]
fn the_clock_in_doubt_decides_nothing_by_time() {
    let mut world = World::new(&["api"]);
    world.ends(0, 5.0);
    assert_eq!(world.skew(Some("scm")).at(0.0), ["clock_skew scm"]);
    assert_eq!(world.at(400.0), ["clock_skew scm"], "no `expired` by a clock that is a year ahead");
    world.report.incidents.clear();
    assert_eq!(world.at(0.1), ["resolved clock_skew scm", "expiring api"]);
}

#[test]
fn a_provider_that_was_not_heard_does_not_end_the_doubt() {
    let mut world = World::new(&["api"]);
    world.skew(Some("scm")).at(0.0);
    world.report.incidents.clear();
    assert_eq!(world.fails(0, "timed out").at(0.1), NOTHING);
    assert_eq!(world.goes_well(0).at(0.2), ["resolved clock_skew scm"]);
}

#[test]
fn skew_at_one_provider_leaves_the_other_alone() {
    let mut world = World::new(&["api", "www"]);
    world.certificate(1).provider = "cds".into();
    world.ends(0, 5.0).ends(1, 5.0).skew(Some("scm"));
    assert_eq!(world.at(0.0), ["clock_skew scm", "expiring www"]);
}

#[test]
fn a_clock_that_ran_ahead_unheard_loses_nothing_once_it_is_right() {
    // the provider is away, so nobody says that the clock is wrong
    let mut world = World::new(&["api"]);
    world.ends(0, 100.0).fails(0, "x").fails(0, "x");
    assert_eq!(world.at(99.5), ["expiring api", "sync_failed api"]);
    // right again, and the provider answers: what was told is not so
    assert_eq!(world.goes_well(0).at(1.0), ["resolved expiring api", "resolved sync_failed api"]);
    assert_eq!(world.at(70.0), ["expiring api"]);
    // expired by a wrong clock, likewise
    let mut world = World::new(&["api"]);
    world.ends(0, 100.0).fails(0, "x");
    assert_eq!(world.at(101.0), ["expired api", "sync_failed api"]);
    assert_eq!(world.fails(0, "x").at(1.0), NOTHING, "unproved, nothing is taken back");
    assert_eq!(world.goes_well(0).at(1.1), ["resolved expired api", "resolved sync_failed api"]);
    assert_eq!(world.at(100.0), ["expired api"]);
}

#[test]
fn a_clock_that_fell_back_repeats_nothing() {
    let mut world = World::new(&["api"]);
    world.ends(0, 5.0).fails(0, "x").fails(0, "x");
    assert_eq!(world.at(2.0), ["expiring api", "sync_failed api"]);
    for day in [-300.0, -299.0, 2.1, 2.5] {
        assert_eq!(world.at(day), NOTHING, "day {day}");
    }
    assert_eq!(world.at(3.0), ["sync_failed api"]);
    assert_eq!(world.at(4.0), ["expiring api", "sync_failed api"]);
}

#[test]
fn reminders_go_on_after_a_clock_that_ran_ahead() {
    let mut world = World::new(&["api", "www"]);
    world.target(TargetAction::Failed, Some("x"));
    assert_eq!(world.at(190.0), ["expiring api", "expiring www", "deploy_failed nginx"].map(String::from).as_slice());
    assert_eq!(world.at(0.0), ["resolved expiring api", "resolved expiring www"]);
    assert_eq!(world.at(0.9), NOTHING);
    assert_eq!(world.at(1.0), ["deploy_failed nginx"]);
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
fn a_refused_configuration_is_told_until_it_is_accepted() {
    let mut world = World::new(&["api"]);
    let refused =
        |words: &str| Incident { event: EventKind::ConfigRefused, provider: None, certificates: vec![], message: words.into() };
    world.report.incidents = vec![refused("`certificate[0].nam` is not known")];
    assert_eq!(world.at(0.0), ["config_refused -"]);
    assert_eq!(world.at(0.1), NOTHING);
    assert_eq!(world.at(1.0), ["config_refused -"]);
    world.report.incidents = vec![refused("`version` is missing")];
    assert_eq!(world.at(1.1), ["config_refused -"]);
    world.report.incidents.clear();
    assert_eq!(world.at(1.2), ["resolved config_refused -"]);
}

#[test]
fn a_rebuilt_ledger_is_told_and_never_over() {
    let mut world = World::new(&["api"]);
    world.report.incidents = vec![Incident {
        event: EventKind::LedgerRebuilt,
        provider: None,
        certificates: vec![],
        message: "it was cut off".into(),
    }];
    assert_eq!(world.at(0.0), ["ledger_rebuilt -"]);
    world.report.incidents.clear();
    assert_eq!(world.at(0.1), NOTHING);
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

/// Certificates (action, days to the end, leaf, flag, extras), target, incident, whole, day.
type Pass = (Vec<(u8, i64, u8, u8, u8)>, u8, u8, bool, i64);

/// Any pass at all.
fn any_pass() -> impl Strategy<Value = Pass> {
    let certificate = (0_u8..4, -40_i64..400, 1_u8..4, 0_u8..5, 0_u8..8);
    (proptest::collection::vec(certificate, 0..6), 0_u8..7, 0_u8..6, any::<bool>(), -500_i64..500)
}

fn apply(world: &mut World, (certificates, target, incident, whole, day): Pass) -> f64 {
    let names = ["a", "b", "c", "d", "e", "f"];
    world.report.whole = whole;
    world.report.incidents.clear();
    world.report.targets.clear();
    world.report.certificates = Vec::new();
    for (index, (action, ends, leaf, valid, extras)) in certificates.into_iter().enumerate() {
        let mut one = certificate(names[index], leaf, start());
        world.records.entry(names[index].to_owned()).or_default().failures += 1;
        one.action = [Action::Installed, Action::Unchanged, Action::Failed, Action::Held][usize::from(action)];
        one.valid = [None, None, Some(Valid::Expired), Some(Valid::Valid), Some(Valid::Expiring)][usize::from(valid)];
        one.live.as_mut().unwrap().not_after = start() + SignedDuration::from_secs(ends * DAY);
        one.live = one.live.filter(|_| extras != 7);
        one.drift = if extras == 1 { vec!["x".into()] } else { vec![] };
        one.successor = (extras == 2).then(|| SuccessorNote { id: format!("s{leaf}"), not_after: None });
        one.served = if extras == 3 { vec![shows(9, ends - 30), shows_nothing()] } else { vec![] };
        world.report.certificates.push(one);
    }
    let actions = [
        TargetAction::Reloaded,
        TargetAction::Updated,
        TargetAction::Unchanged,
        TargetAction::Pending,
        TargetAction::Failed,
        TargetAction::RolledBack,
    ];
    if let Some(action) = actions.get(usize::from(target)) {
        world.target(*action, Some("x"));
    }
    let kinds = [EventKind::ProviderDown, EventKind::ConfigRefused, EventKind::LedgerRebuilt, EventKind::ClockSkew];
    if let Some(kind) = kinds.get(usize::from(incident)) {
        world.report.incidents.push(Incident {
            event: *kind,
            provider: Some("scm".into()),
            certificates: vec![],
            message: "m".into(),
        });
    }
    day as f64
}

proptest! {
    /// Whatever happens in whatever order: a pass judged twice tells nothing twice (see [`World::events`]), no event is told twice in one
    /// pass, and nothing is resolved that was not raised.
    #[test]
    fn never_one_too_many(passes in proptest::collection::vec(any_pass(), 1..8)) {
        let mut world = World::new(&["a", "b", "c", "d", "e", "f"]);
        for pass in passes {
            let day = apply(&mut world, pass);
            let before = world.raised.clone();
            let events = world.events(day);
            let mut keys: Vec<_> = events.iter().map(|event| (event.event, event.key.clone())).collect();
            keys.sort();
            let told = keys.len();
            keys.dedup();
            prop_assert_eq!(told, keys.len(), "one thing twice in one pass");
            for event in &events {
                match event.event {
                    EventKind::Resolved => prop_assert!(before.contains_key(&event.key) && !world.raised.contains_key(&event.key)),
                    _ => prop_assert!(world.raised.contains_key(&event.key)),
                }
                prop_assert!(event.message.chars().count() <= message::MESSAGE_LIMIT + 100);
                prop_assert!(!event.message.contains('\n'));
            }
        }
    }
}

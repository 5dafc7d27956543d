//! What is worth telling: facts in, events out. Pure; no clock, no disk, no log.
//!
//! Start at [`judge`]. What was told is remembered in the map of [`Raised`] that goes in and comes out: each state is told once, repeated
//! every `remind` where the table below says so, and taken back with `resolved` to whoever got it.
//!
//! | event | key | told | over when |
//! |---|---|---|---|
//! | `expiring` | `expiring/NAME/LEAF` | once per threshold crossed (the provider's flag counts as the 30-day one) | another certificate is judged |
//! | `expired` | `expired/NAME/LEAF` | at once, every `remind`; takes the place of `expiring` | another certificate is judged, or it is valid again |
//! | `sync_failed` | `sync_failed/NAME` | after `after_failures` passes (at once in the last three days), every `remind` | a pass goes well |
//! | `provider_down` | `provider_down/PROVIDER` | in place of three or more `sync_failed` of one cause, every `remind` | fewer than three |
//! | `deploy_failed` | `deploy_failed/TARGET` | at once, every `remind`, and when another certificate is rejected | the target takes up everything |
//! | `successor_available` | `successor_available/NAME/ID` | once | another certificate is live |
//! | `clock_skew` | `clock_skew/PROVIDER` | at once, every `remind` | the report has none |
//! | `config_refused` | `config_refused/WORDS` | at once, every `remind` | the report has none |
//! | `renewed`, `drift`, `ledger_rebuilt` | with leaf or words | when it happens; the same again after `remind` at the earliest | never raised, so never `resolved` |
//!
//! A first install that fails waits for `after_failures` like any other. Nothing is decided by time while the clock is in doubt.

mod cause;
mod expiry;
mod host;
mod work;

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::filter;
use super::message::{self, Over, Story, Subject};
use crate::config::{Alerts, EventKind};
use crate::ledger::{CertificateRecord, Raised, Records};
use crate::report::{Action, CertificateReport, Event, Fingerprint, Incident, Live, Report, days_left};

/// A failing fetch is told at once when the certificate has no more than this left.
pub const LAST_DAYS: SignedDuration = SignedDuration::from_hours(3 * 24);

/// So many certificates of one provider that fail for one cause are one message.
pub const MANY: usize = 3;

/// At least so long is remembered that something was told which is never over (`renewed`, `drift`, `ledger_rebuilt`).
pub const MEMORY: Duration = Duration::from_secs(24 * 3_600);

/// What a verdict rests on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The pass. One that was cut short must not say `whole`.
    pub report: &'a Report,
    /// The ledger's records after that pass, by entry name.
    pub records: &'a Records,
    /// `[alerts]`.
    pub settings: &'a Alerts,
    /// This host's name.
    pub host: &'a str,
    /// The present moment.
    pub now: Timestamp,
}

/// What is to be told, and what is to be remembered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// To be told, in order.
    pub events: Vec<Event>,
    /// What was raised and is not over, by key.
    pub raised: BTreeMap<String, Raised>,
}

/// Judges a pass. The same facts and the returned map again give no event.
pub fn judge(raised: &BTreeMap<String, Raised>, facts: &Facts<'_>) -> Verdict {
    let verdict = Verdict { events: Vec::new(), raised: raised.clone() };
    let mut judge = Judge { facts: *facts, reports: OnceCell::new(), verdict };
    judge.incidents();
    let covered = judge.providers();
    for certificate in &facts.report.certificates {
        judge.expiry(certificate);
        judge.fetching(certificate, &covered);
        judge.renewal(certificate);
        judge.drift(certificate);
    }
    for target in &facts.report.targets {
        judge.target(target);
    }
    judge.leftovers();
    judge.verdict
}

/// The event for something that happened outside a pass, such as a configuration refused at SIGHUP. It is told as it is, each time.
pub fn incident(incident: &Incident, host: &str, now: Timestamp) -> Event {
    let story = host::story(incident.event, &incident.message, &incident.certificates);
    let subject = Subject { host, certificate: None, names: &[], provider: incident.provider.as_deref(), id: None, now };
    let mut event = event(incident.event, host::key(incident), &subject, &story);
    event.count = incident.certificates.len();
    event.certificates.clone_from(&incident.certificates);
    event
}

/// An event with all that subject and story tell; the caller fills in what else it knows.
pub(super) fn event(kind: EventKind, key: String, subject: &Subject<'_>, story: &Story<'_>) -> Event {
    let text = message::tell(kind, subject, story);
    Event {
        version: 1,
        event: kind,
        severity: kind.severity(),
        host: subject.host.to_owned(),
        certificate: subject.certificate.map(str::to_owned),
        provider: subject.provider.map(str::to_owned),
        id: subject.id.map(str::to_owned),
        names: subject.names.to_vec(),
        valid: None,
        not_after: None,
        days_left: None,
        fingerprint: None,
        target: None,
        certificates: subject.certificate.map(str::to_owned).into_iter().collect(),
        count: usize::from(subject.certificate.is_some()),
        key,
        message: text.en,
        message_zh: Some(text.zh),
        at: subject.now,
    }
}

/// A verdict in the making.
struct Judge<'a> {
    facts: Facts<'a>,
    /// The report's certificates by name, once somebody asks.
    reports: OnceCell<HashMap<&'a str, &'a CertificateReport>>,
    verdict: Verdict,
}

impl<'a> Judge<'a> {
    /// Tells `event` when it is new, or due again (`again`: every `remind`); remembers who gets it.
    fn raise(&mut self, event: Event, again: bool) {
        let (now, remind) = (self.facts.now, self.facts.settings.remind);
        let proved = self.clock_is_proved();
        if let Some(state) = self.verdict.raised.get_mut(&event.key) {
            if now < state.last && proved {
                // told by a clock that ran ahead: count from now, or the next reminder would be years away
                state.last = now;
            }
            if !again || remind.is_zero() || !has_passed(state.last, now, remind) {
                return;
            }
        }
        self.tell(event);
    }

    /// Tells `event`, whatever was told before, and remembers it.
    fn tell(&mut self, event: Event) {
        let state = self.verdict.raised.entry(event.key.clone()).or_insert_with(|| Raised {
            event: event.event,
            certificate: event.certificate.clone(),
            target: event.target.clone(),
            provider: event.provider.clone(),
            fingerprint: event.fingerprint,
            threshold: None,
            since: event.at,
            last: event.at,
            channels: Vec::new(),
        });
        state.last = event.at;
        merge(&mut state.channels, filter::recipients(&self.facts.settings.channels, &event));
        self.verdict.events.push(event);
    }

    /// Forgets the state and tells `resolved`, when there is such a state.
    fn resolve(&mut self, key: &str, certificate: Option<&CertificateReport>, over: Over<'_>) {
        let Some(state) = self.verdict.raised.remove(key) else { return };
        if is_memory(state.event) {
            return;
        }
        let mut event = match certificate {
            Some(certificate) => self.about(EventKind::Resolved, key.to_owned(), certificate, &Story::Resolved(over)),
            None => {
                let subject = Subject {
                    host: self.facts.host,
                    certificate: state.certificate.as_deref(),
                    names: &[],
                    provider: state.provider.as_deref(),
                    id: None,
                    now: self.facts.now,
                };
                event(EventKind::Resolved, key.to_owned(), &subject, &Story::Resolved(over))
            }
        };
        event.target = state.target;
        self.verdict.events.push(event);
    }

    /// Forgets the state without a word; the channels that got it come back, for what takes its place.
    fn supersede(&mut self, key: &str) -> Vec<String> {
        self.verdict.raised.remove(key).map(|state| state.channels).unwrap_or_default()
    }

    /// An event about one certificate, with what is live.
    fn about(&self, kind: EventKind, key: String, certificate: &CertificateReport, story: &Story<'_>) -> Event {
        let names = certificate.live.as_ref().map(|live| live.names.as_slice()).unwrap_or_default();
        let subject = Subject {
            host: self.facts.host,
            certificate: Some(&certificate.name),
            names,
            provider: Some(&certificate.provider),
            id: certificate.id.as_deref(),
            now: self.facts.now,
        };
        let mut event = event(kind, key, &subject, story);
        event.valid = certificate.valid;
        if let Some(live) = &certificate.live {
            event.ends(live.fingerprint, live.not_after);
        }
        event
    }

    fn record(&self, name: &str) -> Option<&'a CertificateRecord> {
        self.facts.records.get(name).map(|record| &**record)
    }

    fn report(&self, name: &str) -> Option<&'a CertificateReport> {
        let all = self.facts.report.certificates.iter();
        self.reports.get_or_init(|| all.map(|certificate| (certificate.name.as_str(), certificate)).collect()).get(name).copied()
    }

    /// Keys of the states of these kinds about this certificate. They begin alike: thousands may be raised about others.
    fn keys(&self, certificate: &str, kinds: &[EventKind]) -> Vec<String> {
        let mut keys = Vec::new();
        for kind in kinds.iter().filter(|_| !self.verdict.raised.is_empty()) {
            let start = format!("{kind}/{certificate}/");
            let on = self.verdict.raised.range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded));
            keys.extend(on.map(|(key, _)| key).take_while(|key| key.starts_with(&start)).cloned());
        }
        keys.sort_unstable();
        keys
    }

    /// Whether a provider was asked with success in this pass, and none says that the clock is wrong.
    fn clock_is_proved(&self) -> bool {
        let report = self.facts.report;
        report.certificates.iter().any(asked_well)
            && !report.incidents.iter().any(|incident| incident.event == EventKind::ClockSkew)
    }

    /// What was raised about things that are no longer in the inventory.
    fn leftovers(&mut self) {
        if !self.facts.report.whole {
            return;
        }
        let report = self.facts.report;
        let gone: Vec<(String, String)> = self
            .verdict
            .raised
            .iter()
            .filter_map(|(key, state)| {
                let target = state.target.as_ref().filter(|name| !report.targets.iter().any(|target| target.name == **name));
                let certificate = state.certificate.as_ref().filter(|name| state.target.is_none() && self.report(name).is_none());
                let provider = state.provider.as_ref().filter(|name| {
                    let lone = state.target.is_none() && state.certificate.is_none() && state.event == EventKind::ProviderDown;
                    lone && self.incident_of(name).is_none()
                        && !report.certificates.iter().any(|certificate| certificate.provider == **name)
                });
                target.or(certificate).or(provider).map(|what| (key.clone(), what.clone()))
            })
            .collect();
        for (key, what) in gone {
            self.resolve(&key, None, Over::Removed(&what));
        }
        let (now, keep) = (self.facts.now, self.facts.settings.remind.max(MEMORY));
        self.verdict.raised.retain(|_, state| !(is_memory(state.event) && has_passed(state.last, now, keep)));
    }
}

impl Event {
    /// Fills in the end of a certificate and the whole days until then.
    fn ends(&mut self, fingerprint: Fingerprint, not_after: Timestamp) {
        self.fingerprint = Some(fingerprint);
        self.not_after = Some(not_after);
        self.days_left = Some(days_left(self.at, not_after));
    }
}

/// Whether the provider answered for this certificate in this pass.
fn asked_well(certificate: &CertificateReport) -> bool {
    certificate.action != Action::Failed
}

/// Kinds that are told when they happen and remembered only so that they are not told twice.
pub(super) fn is_memory(event: EventKind) -> bool {
    matches!(event, EventKind::Renewed | EventKind::Drift | EventKind::LedgerRebuilt | EventKind::Test)
}

/// Whether `wait` lies between the two; never when the clock went backwards.
fn has_passed(last: Timestamp, now: Timestamp, wait: Duration) -> bool {
    now > last && now.duration_since(last).unsigned_abs() >= wait
}

fn merge(channels: &mut Vec<String>, more: Vec<String>) {
    for channel in more {
        if !channels.contains(&channel) {
            channels.push(channel);
        }
    }
}

/// The first eight hex digits of the SHA-256 of some words: a key for "the same again".
fn digest(words: &str) -> String {
    hex::encode(Sha256::digest(words.as_bytes()).get(..4).unwrap_or_default())
}

fn lifetime(live: &Live) -> SignedDuration {
    live.not_after.duration_since(live.not_before)
}

#[cfg(test)]
mod tests;

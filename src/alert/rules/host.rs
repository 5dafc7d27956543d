//! What concerns the host as a whole: its clock, its configuration, its ledger.

use std::collections::BTreeSet;

use super::{Judge, digest};
use crate::alert::message::{Over, Story, Subject};
use crate::config::EventKind;
use crate::report::{Action, CertificateReport, Incident, Report};

impl<'a> Judge<'a> {
    pub(super) fn incidents(&mut self) {
        let report = self.facts.report;
        let mut present = BTreeSet::new();
        for incident in report.incidents.iter().filter(|incident| !is_told_with_its_certificates(report, incident)) {
            let key = key(incident);
            present.insert(key.clone());
            let mut heirs = Vec::new();
            if incident.event == EventKind::ConfigRefused {
                // other words about the same file take the place of the earlier ones
                for old in self.keys_of(EventKind::ConfigRefused).into_iter().filter(|old| *old != key) {
                    super::merge(&mut heirs, self.supersede(&old));
                }
            }
            let event = super::incident(incident, self.facts.host, self.facts.now);
            self.raise(event, true);
            if let Some(state) = self.verdict.raised.get_mut(&key) {
                super::merge(&mut state.channels, heirs);
            }
        }
        self.incidents_over(&present);
    }

    /// A pass over the whole inventory that no longer says so ends it; of a clock, only one that heard that provider.
    fn incidents_over(&mut self, present: &BTreeSet<String>) {
        if !self.facts.report.whole {
            return;
        }
        for key in self.keys_of(EventKind::ConfigRefused).into_iter().filter(|key| !present.contains(key)) {
            self.resolve(&key, None, Over::ConfigAccepted);
        }
        for key in self.keys_of(EventKind::ClockSkew).into_iter().filter(|key| !present.contains(key)) {
            let provider = self.verdict.raised.get(&key).and_then(|state| state.provider.clone());
            if self.heard(provider.as_deref()) {
                self.resolve(&key, None, Over::ClockRight);
            }
        }
    }

    /// Whether the provider answered in this pass, or is no longer asked at all.
    fn heard(&self, provider: Option<&str>) -> bool {
        let mut asked = self.facts.report.certificates.iter().filter(|c| provider.is_none_or(|provider| c.provider == provider)).peekable();
        asked.peek().is_none() || asked.any(super::asked_well)
    }

    fn keys_of(&self, kind: EventKind) -> Vec<String> {
        self.verdict.raised.iter().filter(|(_, state)| state.event == kind).map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn subject(&self, provider: Option<&'a str>) -> Subject<'a> {
        Subject { host: self.facts.host, certificate: None, names: &[], provider, id: None, now: self.facts.now }
    }
}

/// `provider_down` is told with the certificates that fail for it.
fn is_told_with_its_certificates(report: &Report, incident: &Incident) -> bool {
    let failing = |c: &CertificateReport| c.action == Action::Failed && Some(c.provider.as_str()) == incident.provider.as_deref();
    incident.event == EventKind::ProviderDown && report.certificates.iter().any(failing)
}

/// Of the provider where there is one, else of the words.
pub(super) fn key(incident: &Incident) -> String {
    match (&incident.provider, incident.event) {
        (Some(provider), kind) => format!("{kind}/{provider}"),
        (None, EventKind::ClockSkew) => EventKind::ClockSkew.to_string(),
        (None, kind) => format!("{kind}/{}", digest(&incident.message)),
    }
}

pub(super) fn story<'a>(kind: EventKind, message: &'a str, certificates: &'a [String]) -> Story<'a> {
    match kind {
        EventKind::ConfigRefused => Story::ConfigRefused(message),
        EventKind::ClockSkew => Story::ClockSkew(message),
        EventKind::ProviderDown => Story::ProviderDown { certificates, cause: message, hint: None, first: None },
        _ => Story::LedgerRebuilt(message),
    }
}

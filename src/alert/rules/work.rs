//! What a pass did: `renewed`, `successor_available`, `drift`, `deploy_failed`.

use super::{Judge, digest};
use crate::alert::message::{Over, Story};
use crate::config::EventKind;
use crate::ledger::{CertificateRecord, Raised, Rejection};
use crate::report::{Action, CertificateReport, Event, TargetAction, TargetReport};

/// What the ledger says of a certificate that a person rolled back: no failure of a deploy.
const BY_HAND: &str = "rolled back by hand";

impl Judge<'_> {
    /// `renewed` and `successor_available`.
    pub(super) fn renewal(&mut self, certificate: &CertificateReport) {
        let Some(live) = &certificate.live else { return self.successor(certificate) };
        let key = format!("{}/{}/{}", EventKind::Renewed, certificate.name, live.fingerprint.short());
        if certificate.action == Action::Installed && !certificate.first {
            let previous_id = certificate.previous_id.as_deref().filter(|old| Some(*old) != certificate.id.as_deref());
            let event = self.about(EventKind::Renewed, key, certificate, &Story::Renewed { until: live.not_after, previous_id });
            // a certificate that goes live again is news again; the same pass judged twice is not, nor one that died after it had told
            let is_told = |state: &Raised| certificate.made_up || state.last == self.facts.now;
            if !self.verdict.raised.get(&event.key).is_some_and(is_told) {
                self.tell(event);
            }
        }
        self.successor(certificate);
    }

    fn successor(&mut self, certificate: &CertificateReport) {
        let live = certificate.live.as_ref();
        let offered = certificate
            .successor
            .as_ref()
            .map(|note| (note, format!("{}/{}/{}", EventKind::SuccessorAvailable, certificate.name, note.id)));
        let mut heirs = Vec::new();
        for old in self.keys(&certificate.name, &[EventKind::SuccessorAvailable]) {
            let state = self.verdict.raised.get(&old);
            let replaced = live.filter(|live| state.is_some_and(|state| state.fingerprint != Some(live.fingerprint)));
            match (&offered, replaced) {
                (Some((_, key)), _) if *key == old => {}
                (Some(_), _) => super::merge(&mut heirs, self.supersede(&old)),
                (None, Some(live)) => self.resolve(&old, Some(certificate), Over::Replaced(live.not_after)),
                (None, None) => {}
            }
        }
        let Some((successor, key)) = offered else { return };
        let story = Story::SuccessorAvailable { successor, until: live.map(|live| live.not_after) };
        let event = self.about(EventKind::SuccessorAvailable, key.clone(), certificate, &story);
        self.raise(event, false);
        if let Some(state) = self.verdict.raised.get_mut(&key) {
            super::merge(&mut state.channels, heirs);
        }
    }

    pub(super) fn drift(&mut self, certificate: &CertificateReport) {
        if certificate.drift.is_empty() {
            return;
        }
        let key = format!("{}/{}/{}", EventKind::Drift, certificate.name, digest(&certificate.drift.join("\n")));
        let event = self.about(EventKind::Drift, key, certificate, &Story::Drift { changes: &certificate.drift });
        self.raise(event, true);
    }

    /// `deploy_failed`.
    pub(super) fn target(&mut self, target: &TargetReport) {
        let key = format!("{}/{}", EventKind::DeployFailed, target.name);
        let told = self.verdict.raised.get(&key).map(|state| state.last);
        match target.action {
            TargetAction::Failed | TargetAction::RolledBack => {
                let event = self.deploy_failed(target, key);
                let news = told.is_some_and(|last| last != self.facts.now)
                    && target.certificates.iter().any(|name| self.is_first_rejection(name));
                if news { self.tell(event) } else { self.raise(event, true) }
            }
            _ if told.is_none() => {}
            _ if self.has_taken_up(target) => self.resolve(&key, None, Over::Deployed(&target.name)),
            // nothing was tried in this pass, but what failed still does not serve
            _ => {
                let event = self.deploy_failed(target, key);
                self.raise(event, true);
            }
        }
    }

    fn deploy_failed(&self, target: &TargetReport, key: String) -> Event {
        let rejected = self.rejected(&target.name);
        let certificates: Vec<String> = if target.error.is_some() || rejected.is_empty() {
            target.certificates.clone()
        } else {
            rejected.iter().map(|(name, _)| (*name).to_owned()).collect()
        };
        let words = match (&target.error, rejected.first(), &target.pending) {
            (Some(error), _, _) => error.to_string(),
            (None, Some((_, rejection)), _) => rejection.why.clone(),
            (None, None, Some(pending)) => format!("it is pending: {pending}"),
            (None, None, None) => "no cause was told".to_owned(),
        };
        let only = if let [only] = certificates.as_slice() { self.report(only) } else { None };
        let story = Story::DeployFailed {
            target: &target.name,
            certificates: &certificates,
            error: &words,
            hint: target.error.as_ref().and_then(|error| error.hint.as_deref()),
            rolled_back: target.action == TargetAction::RolledBack || (target.error.is_none() && !rejected.is_empty()),
            held: certificates.iter().filter_map(|name| self.report(name)).find_map(|report| report.held.as_deref()),
        };
        let mut event = match only {
            Some(certificate) => self.about(EventKind::DeployFailed, key, certificate, &story),
            None => super::event(EventKind::DeployFailed, key, &self.subject(None), &story),
        };
        event.target = Some(target.name.clone());
        event.count = certificates.len();
        event.certificates = certificates;
        event
    }

    /// Whether the target went well and nothing newer than what it serves was rejected by it. A pass over named entries that had
    /// nothing to do for the target says nothing about the others.
    fn has_taken_up(&self, target: &TargetReport) -> bool {
        let went_well = match target.action {
            TargetAction::Reloaded | TargetAction::Updated => true,
            TargetAction::Unchanged => self.facts.report.whole,
            TargetAction::Pending | TargetAction::Failed | TargetAction::RolledBack => false,
        };
        went_well && target.error.is_none() && target.pending.is_none() && self.rejected(&target.name).is_empty()
    }

    /// Certificates of this target whose newest one a server rejected.
    fn rejected(&self, target: &str) -> Vec<(&str, &Rejection)> {
        let concerned = self.facts.records.iter().filter(|(_, record)| record.targets.get(target).is_some());
        let rejected = concerned.filter_map(|(name, record)| Some((name.as_str(), rejection(record)?)));
        let mut rejected: Vec<_> = rejected.filter(|(name, _)| self.is_watched(name)).collect();
        rejected.sort_unstable_by_key(|(name, _)| *name);
        rejected
    }

    /// A whole report names all that is in the inventory; records of what left it do not count.
    fn is_watched(&self, name: &str) -> bool {
        !self.facts.report.whole || self.report(name).is_some()
    }

    fn is_first_rejection(&self, name: &str) -> bool {
        self.record(name).and_then(rejection).is_some_and(|rejection| rejection.tries <= 1)
    }
}

/// The newest fetched one was rejected by a server, and is not live.
fn rejection(record: &CertificateRecord) -> Option<&Rejection> {
    let fetched = record.fetched.filter(|fetched| record.live.as_ref().is_none_or(|live| live.fingerprint != *fetched))?;
    record.open.rejected.iter().find(|rejection| rejection.fingerprint == fetched && rejection.why != BY_HAND)
}

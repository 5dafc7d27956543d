//! One entry after it was looked at: what the ledger shall remember of it, and what the pass reports.

use std::collections::BTreeMap;
use std::mem::take;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::certificate;
use crate::config::{Certificate, Successor};
use crate::ledger::{CertificateRecord, Hashes, Ledger, Mark, Open, is_awaited};
use crate::report::{Action, CertificateReport, Failure};
use crate::store::{Installed, Seal};

use super::deliver::{Change, Stage};
use super::gather::{self, Again, Finding, Unfit, Verdict};
use super::live;
use super::look::panicked;

/// The earliest and the spread of the next full check of a certificate whose listing does not change.
const FULL_CHECK: (i64, u32) = (18 * 3600, 12 * 3600);
/// Candidates remembered as unfit, per entry.
const MAX_UNFIT: usize = 50;
/// Former ids remembered, per entry.
const MAX_FORMER_IDS: usize = 10;

/// One entry after it was looked at.
pub(super) struct Done {
    pub entry: Arc<Certificate>,
    pub record: CertificateRecord,
    pub live: Option<Installed>,
    pub waiting: Option<Installed>,
    pub staged: Option<Installed>,
    /// Why what is staged does not work with itself, if so.
    pub unfit: Option<Failure>,
    /// What the file system told before anything was read.
    pub seal: Option<Seal>,
    pub finding: Finding,
    pub drift: Vec<String>,
    pub outputs: Option<BTreeMap<String, String>>,
    pub problem: Option<Failure>,
}

impl Done {
    pub(super) fn new(entry: Arc<Certificate>, record: CertificateRecord) -> Done {
        Done {
            entry,
            record,
            live: None,
            waiting: None,
            staged: None,
            unfit: None,
            seal: None,
            finding: Finding::nothing(),
            drift: Vec::new(),
            outputs: None,
            problem: None,
        }
    }

    pub(super) fn panicked(entry: &Certificate, ledger: &Ledger) -> Done {
        let record = ledger.certificates.get(&entry.name).map(|record| (**record).clone()).unwrap_or_default();
        let mut done = Done::new(Arc::new(entry.clone()), record);
        done.finding.verdict = Verdict::Failed(panicked());
        done
    }

    /// The change on its way to the servers, if there is one.
    pub(super) fn change(&mut self) -> Option<Change> {
        let new = self.staged.take()?;
        Some(Change {
            entry: self.entry.clone(),
            id: self.finding.id.clone(),
            shown: live::live_of(&new),
            new,
            unfit: self.unfit.take(),
            old: self.live.clone().filter(|live| !certificate::is_placeholder(&live.bundle)),
            stage: Stage::Staged,
            error: None,
        })
    }

    /// Writes into the ledger what was found; what goes live and is served is noted when it has happened.
    pub(super) fn remember(&self, ledger: &mut Ledger, now: Timestamp) {
        let record = ledger.certificates.entry(self.entry.name.clone()).or_default();
        record.provider = self.entry.provider.clone();
        record.targets.retain(|target| self.entry.deploy.iter().any(|name| name == target));
        if let Some(live) = &self.live {
            record.live = Some(live::live_of(live));
            record.hashes = Hashes::from(&live.hashes);
        }
        if let Some(outputs) = &self.outputs {
            record.outputs.clone_from(outputs);
        }
        for line in &self.drift {
            if !record.open.drift.contains(line) {
                record.open.drift.push(line.clone());
            }
        }
        record.seal = self.proof(record, now);
        record.valid = self.finding.valid.or(record.valid);
        record.open.successor = self.finding.successor.clone();
        remember_unfit(record, &self.finding);
        match self.failure() {
            Some(failure) => {
                record.open.failures += 1;
                record.open.last_error = Some(failure.clone());
            }
            None => self.remember_success(record, now),
        }
    }

    /// The seal, when everything under it was read in full meanwhile, is right, and changed so long ago that a later change will show.
    fn proof(&self, record: &CertificateRecord, now: Timestamp) -> Option<Mark> {
        let live = self.live.as_ref().filter(|live| !certificate::is_placeholder(&live.bundle))?;
        let was_live = self.record.live.as_ref().is_some_and(|before| before.generation == live.generation);
        let is_right = was_live && self.drift.is_empty() && self.problem.is_none() && record.live.is_some();
        self.seal.as_ref().filter(|seal| is_right && seal.is_settled(now)).map(|seal| Mark(seal.mark))
    }

    fn remember_success(&self, record: &mut CertificateRecord, now: Timestamp) {
        let finding = &self.finding;
        record.open.failures = 0;
        record.open.last_error = None;
        record.last_checked = Some(now);
        record.seen = finding.seen.clone();
        record.key_file_hash = finding.key_file_hash.clone();
        if record.wanted != gather::wanted_key(&self.entry) {
            record.wanted = gather::wanted_key(&self.entry);
            record.former_ids.clear();
            // What was live under the other wish: its id is nobody's predecessor here, unless something else goes live now.
            record.id = record.id.take().filter(|_| !matches!(finding.verdict, Verdict::Unchanged) || finding.id.is_none());
        }
        if finding.fetched {
            record.full_check = Some(now + SignedDuration::from_secs(FULL_CHECK.0 + i64::from(random(FULL_CHECK.1))));
        }
        match &finding.verdict {
            Verdict::Install { bundle, .. } => {
                record.fetched = Some(bundle.fingerprint());
                record.fetched_not_after = Some(bundle.not_after());
            }
            Verdict::Hold { bundle, why, until } => {
                record.fetched = Some(bundle.fingerprint());
                record.fetched_not_after = Some(bundle.not_after());
                record.open.held = Some(why.clone());
                record.open.held_until = *until;
            }
            Verdict::Unchanged => {
                record.fetched = self.live.as_ref().map(|live| live.bundle.fingerprint());
                record.fetched_not_after = self.live.as_ref().map(|live| live.bundle.not_after());
                // Another id is live already where the pass that adopted it died.
                finding.id.clone().and_then(|id| adopt(record, id));
            }
            Verdict::StillHeld | Verdict::Failed(_) => {}
        }
        if matches!(finding.verdict, Verdict::Install { .. } | Verdict::Unchanged) {
            (record.open.held, record.open.held_until) = (None, None);
        }
    }

    fn failure(&self) -> Option<&Failure> {
        match &self.finding.verdict {
            Verdict::Failed(failure) => Some(failure),
            _ => self.problem.as_ref(),
        }
    }

    /// What the pass reports of the entry, after the servers were told.
    pub(super) fn report(&mut self, ledger: &mut Ledger, changes: &BTreeMap<String, Change>) -> CertificateReport {
        let change = changes.get(&self.entry.name);
        let record = ledger.certificates.entry(self.entry.name.clone()).or_default();
        let previous_id =
            change.filter(|change| change.stage == Stage::Live).and_then(|change| adopt(record, change.id.clone()?));
        if let Some(error) = change.and_then(|change| change.error.clone()) {
            record.open.failures += 1;
            record.open.last_error = Some(error);
        }
        if let Some(change) = change.filter(|change| matches!(change.stage, Stage::RolledBack | Stage::TurnedAway)) {
            record.open.rejected_seen.extend(change.id.clone().zip(self.finding.seen.clone()));
        }
        let Open { rejected, rejected_seen, .. } = &mut *record.open;
        rejected_seen.retain(|id, _| rejected.iter().any(|rejection| rejection.id.as_ref() == Some(id)));
        let (action, held) = self.action(record, change);
        let made_up = action == Action::Unchanged && is_untold(record);
        let action = if made_up { Action::Installed } else { action };
        record.open.settle();
        CertificateReport {
            name: self.entry.name.clone(),
            provider: self.entry.provider.clone(),
            action,
            id: record.id.clone().or(self.finding.id.clone()),
            previous_id,
            first: change.is_some_and(|change| change.old.is_none()),
            made_up,
            live: record.live.clone(),
            valid: record.valid,
            error: record.open.last_error.clone(),
            held,
            // One that is to be ignored is shown by `status`, and told to nobody.
            successor: self.finding.successor.take().filter(|_| self.entry.successor == Successor::Warn),
            near_misses: take(&mut self.finding.near_misses),
            drift: record.open.drift.clone(),
            served: record.targets.values().flat_map(|told| told.served.iter().cloned()).collect(),
            notes: take(&mut self.finding.notes),
        }
    }

    fn action(&self, record: &mut CertificateRecord, change: Option<&Change>) -> (Action, Option<String>) {
        if record.open.last_error.is_some() {
            return (Action::Failed, None);
        }
        match change.map(|change| change.stage) {
            Some(Stage::Live) => (Action::Installed, None),
            Some(Stage::RolledBack) => {
                let rejection =
                    change.and_then(|c| record.open.rejected.iter().find(|r| r.fingerprint == c.new.bundle.fingerprint()));
                record.open.held_until = rejection.and_then(|rejection| rejection.next_try);
                record.open.held = Some(match record.open.held_until {
                    Some(at) => format!("a server rejected it; it is tried again after {}", at.strftime("%Y-%m-%d %H:%M:%SZ")),
                    None => "a server rejected it each time; it waits for another certificate, or for you".to_owned(),
                });
                (Action::Held, record.open.held.clone())
            }
            Some(Stage::TurnedAway) => (Action::Failed, None),
            Some(Stage::Staged) => {
                let why = "it waits for the window of its targets".to_owned();
                record.open.held = Some(why.clone());
                // Looked at again in every pass: the generation is on disk already.
                record.open.held_until = Some(Timestamp::MIN);
                (Action::Held, Some(why))
            }
            None if record.open.held.is_some() => (Action::Held, record.open.held.clone()),
            None => (Action::Unchanged, None),
        }
    }
}

/// Whether the full check of a certificate is not due yet.
pub(super) fn is_checked(record: &CertificateRecord, now: Timestamp) -> bool {
    let longest = SignedDuration::from_secs(FULL_CHECK.0 + i64::from(FULL_CHECK.1));
    record.full_check.is_some_and(|due| is_awaited(due, now, longest))
}

/// Whether what is live was not live yet when a pass last came to its end.
pub(super) fn is_untold(record: &CertificateRecord) -> bool {
    record.concluded.is_some() && record.concluded != record.live.as_ref().map(|live| live.fingerprint)
}

/// One memory for each candidate: how it was judged last.
fn remember_unfit(record: &mut CertificateRecord, finding: &Finding) {
    if finding.stale.is_empty() && finding.unfit.is_empty() {
        return;
    }
    let id = |key: &str| key.split('|').next().unwrap_or_default().to_owned();
    let Open { unfit, unfit_until, ask_again, .. } = &mut *record.open;
    unfit.retain(|key, _| !finding.stale.contains(key));
    for Unfit { key, why, again } in &finding.unfit {
        unfit.retain(|other, _| id(other) != id(key));
        unfit.insert(key.clone(), why.clone());
        unfit_until.remove(key);
        ask_again.remove(key);
        match again {
            Some(Again::Starts(at)) => unfit_until.insert(key.clone(), *at),
            Some(Again::Asked(at)) => ask_again.insert(key.clone(), *at),
            None => None,
        };
    }
    while unfit.len() > MAX_UNFIT {
        unfit.pop_first();
    }
    unfit_until.retain(|key, _| unfit.contains_key(key));
    ask_again.retain(|key, _| unfit.contains_key(key));
}

/// Notes the id that is live now; the one before, when it was another.
fn adopt(record: &mut CertificateRecord, new: String) -> Option<String> {
    let before = record.id.replace(new.clone()).filter(|before| *before != new)?;
    record.former_ids.push(before.clone());
    if record.former_ids.len() > MAX_FORMER_IDS {
        record.former_ids.remove(0);
    }
    Some(before)
}

/// A random number below `bound`; 0 where the system has none to give.
fn random(bound: u32) -> u32 {
    getrandom::u32().map_or(0, |number| number % bound.max(1))
}

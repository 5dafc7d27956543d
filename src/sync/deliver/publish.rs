//! New generations are tried, and those that work go live.
//!
//! What does not work with itself, or what this host's nginx or haproxy will not load, never goes live.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use crate::config::{Certificate, Target};
use crate::deploy;
use crate::failpoint;
use crate::report::{Failure, TargetAction};
use crate::store::{Installed, Store};

use super::super::live::{self, Placed};
use super::memory::reject;
use super::ready::Readiness;
use super::words::quiet;
use super::{Delivery, Stage};

impl Delivery<'_> {
    /// Every new pair is tried before it goes live, as far as its targets allow that; what fails stays out.
    pub(super) async fn try_pairs(&mut self, targets: &[Target]) {
        for target in targets {
            let changes = || self.changes.iter().filter(|(_, change)| change.entry.deploy.contains(&target.name));
            let mut refused: BTreeMap<String, Failure> = BTreeMap::new();
            refused.extend(changes().filter_map(|(name, change)| Some((name.clone(), change.unfit.clone()?))));
            let fit: Vec<String> = changes().filter(|(_, change)| change.unfit.is_none()).map(|(name, _)| name.clone()).collect();
            refused.extend(self.try_together(target, &fit).await);
            for (name, failure) in refused {
                let failure = failure.context(format!("`{}` would not take the new certificate of `{name}`", target.name));
                self.refused_by(target, &name, &failure);
                self.turn_away(&name, failure);
            }
        }
    }

    /// Has the target's kind of server load new pairs, all at once. Those that it refuses, and not the one before of the same entry: where
    /// it would take neither, the real configuration is more lenient than what it was asked with, and must decide.
    async fn try_together(&self, target: &Target, names: &[String]) -> BTreeMap<String, Failure> {
        let changes = || names.iter().filter_map(|name| self.changes.get_key_value(name));
        let new: Vec<PathBuf> = changes().map(|(_, change)| combined(&change.new)).collect();
        let staged = deploy::stage_all(target, &new, &|| self.step()).await;
        if let (Some(by), Some(why)) = (staged.by, &staged.skipped) {
            tracing::info!(target = target.name, "new certificates of `{}` were not all tried by `{by}`: {why}", target.name);
        }
        let refused: Vec<_> =
            changes().filter_map(|(name, change)| Some((name, change, staged.refused.get(&combined(&change.new))?))).collect();
        let old: Vec<PathBuf> = refused.iter().filter_map(|(_, change, _)| change.old.as_ref()).map(combined).collect();
        let as_before = deploy::stage_all(target, &old, &|| self.step()).await.refused;
        let mut to_blame = BTreeMap::new();
        for (name, change, failure) in refused {
            if change.old.as_ref().is_some_and(|old| as_before.contains_key(&combined(old))) {
                tracing::warn!(
                    target = target.name,
                    certificate = name,
                    "lets the server itself decide on the new certificate of `{name}`, as the one before is refused too: {failure}"
                );
            } else {
                to_blame.insert(name.clone(), failure.clone());
            }
        }
        to_blame
    }

    /// Notes that a target refused a certificate before anything moved; what it serves stays.
    fn refused_by(&mut self, target: &Target, name: &str, failure: &Failure) {
        let report = self.reports.entry(target.name.clone()).or_insert_with(|| quiet(target));
        report.action = TargetAction::Failed;
        report.certificates.push(name.to_owned());
        report.error.get_or_insert_with(|| failure.clone());
    }

    /// A change that must not go live: remembered as rejected, and told as this certificate's failure.
    fn turn_away(&mut self, name: &str, failure: Failure) {
        let now = self.clock.now();
        let Some(change) = self.changes.get_mut(name).filter(|change| change.stage != Stage::TurnedAway) else { return };
        change.stage = Stage::TurnedAway;
        let record = self.ledger.certificates.entry(name.to_owned()).or_default();
        reject(&mut record.open.rejected, change.new.bundle.fingerprint(), change.id.clone(), failure.to_string(), now);
        change.error = Some(failure);
    }

    pub(super) fn go_live(&mut self, ready: &BTreeMap<String, Readiness>) {
        let names: Vec<String> =
            self.changes.iter().filter(|(_, change)| change.stage == Stage::Staged).map(|(name, _)| name.clone()).collect();
        let waits = |entry: &Certificate| {
            !entry.deploy.is_empty() && entry.deploy.iter().all(|target| matches!(ready.get(target), Some(Readiness::Wait(_))))
        };
        let due = names.into_iter().filter(|name| self.entries.get(name.as_str()).is_some_and(|entry| !waits(entry)));
        let due: Vec<String> = due.collect();
        if !due.is_empty() && !self.stop.is_cancelled() {
            self.place_all(&due);
        }
        if !self.changes.is_empty() {
            self.save();
        }
    }

    /// Makes new generations live: what lies under the links is made durable before the first one moves, the links after the last one.
    fn place_all(&mut self, names: &[String]) {
        let mut settled = self.store.settle_generations();
        if settled.is_ok() {
            for name in names {
                if !self.stop.is_cancelled() {
                    self.place_by(name, true, live::place_ahead);
                }
            }
            settled = self.store.settle_links();
        }
        if let Err(error) = settled {
            for name in names {
                if let Some(change) = self.changes.get_mut(name) {
                    change.error = Some(live::unpublished(name, &error));
                }
            }
        }
        failpoint::reach("sync.live");
    }

    /// Makes the new (or again the old) generations of these entries live, outputs included.
    pub(super) fn place(&mut self, names: &[String], new: bool) {
        for name in names {
            self.place_by(name, new, live::place);
        }
    }

    fn place_by(&mut self, name: &str, new: bool, place: fn(&Store, &Certificate, &Installed) -> Placed) {
        let Some(change) = self.changes.get_mut(name) else { return };
        let Some(installed) = (if new { Some(&change.new) } else { change.old.as_ref() }) else { return };
        let placed = place(self.store, &change.entry, installed);
        failpoint::reach("sync.placed");
        let record = self.ledger.certificates.entry(name.to_owned()).or_default();
        match placed {
            Placed::Live { outputs, failed } => {
                change.stage = if new { Stage::Live } else { Stage::RolledBack };
                change.error = failed;
                let shown = if new { change.shown.clone() } else { live::live_of(installed) };
                live::note_live(record, installed, shown, outputs, self.clock.now());
            }
            Placed::Failed(failure) => change.error = Some(failure),
        }
    }
}

/// Why a new pair does not work with itself, if so. Where a defect of ours ends the try, that is not the pair's fault: it goes on as if it
/// could not be tried, and the server's own test remains.
pub(in super::super) fn unfit(installed: &Installed) -> Option<Failure> {
    match catch_unwind(AssertUnwindSafe(|| deploy::stage(&combined(installed), &installed.bundle))) {
        Ok(tried) => tried.err(),
        Err(_panic) => {
            tracing::error!("failed to try a new certificate: a defect of certsyncd ended it");
            None
        }
    }
}

/// Leaf, chain and key of a generation in one file.
fn combined(installed: &Installed) -> PathBuf {
    installed.path.join("combined.pem")
}

//! Whose fault it is when a step fails, and the way back.
//!
//! Start at [`Delivery::blame`]: what fails with the previous certificates too is not the new ones' fault. Who it is among many is found by
//! `search`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::config::{Certificate, Target};
use crate::deploy::{self, Expected};
use crate::report::{Failure, Fingerprint, Live, Served, TargetAction, TargetReport};

use super::super::live;
use super::memory::{postpone, reject};
use super::search::{Culprits, Found};
use super::verify::sni_names;
use super::words::{describe, look_into_log, put_back, quiet, quoted, still};
use super::{Change, Delivery, Stage};

/// A previous generation that ends sooner than this is no refuge while the new one is valid.
const REFUGE: SignedDuration = SignedDuration::from_hours(72);

/// Wrong answers that are told.
const MAX_SHOWN: usize = 4;
/// What the ledger keeps of why a certificate was rejected, in characters: a thousand may be, by the same words.
const MAX_WHY: usize = 1_000;

/// The two steps that can tell whose fault it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Test,
    Reload,
}

impl Delivery<'_> {
    /// After `step` failed as `error` says: tells the certificates' fault from the server's.
    ///
    /// `Err`: the target is done with, rolled back. `Ok(None)`: the culprits are out, the rest is live and passed the step.
    /// `Ok(Some(report))`: it fails with the old ones too, or there are none; the new files are live.
    pub(super) async fn blame(
        &mut self,
        target: &Target,
        error: deploy::Error,
        step: Step,
    ) -> Result<Option<TargetReport>, TargetReport> {
        let changed = self.changed(target);
        let movable: Vec<String> = changed.iter().filter(|name| self.may_go_back(name)).cloned().collect();
        let fails = format!("`{}` fails at {}", target.name, step.word());
        if movable.is_empty() && self.named(&error).is_empty() {
            let remark = if changed.is_empty() {
                "nothing new was put live"
            } else {
                "there is nothing good to put back, so the new files stay"
            };
            let failure = Failure::from(error).context(format!("`{}` failed at {}; {remark}", target.name, step.word()));
            return Ok(Some(self.failed(target, failure, &changed)));
        }
        let (failure, certificates) = match self.search(target, &movable, &error, step).await {
            Found::Here(culprits) => {
                let report = self.culprits_out(target, culprits, error.into(), &fails).await;
                if self.changed(target).is_empty() {
                    return Err(report);
                }
                self.reports.insert(target.name.clone(), report);
                return Ok(None);
            }
            Found::Stuck(named) => {
                let verdict = format!(
                    "{fails}, and its words name {}, new and with nothing good to put back: the new files stay and are taken up once it works",
                    quoted(&named)
                );
                (Failure::from(error).context(verdict), named)
            }
            Found::Elsewhere(again) => {
                let kept: Vec<String> = changed.iter().filter(|name| !movable.contains(name)).cloned().collect();
                let verdict = if kept.is_empty() {
                    "the new ones are not to blame, stay live and are taken up once it works".to_owned()
                } else {
                    format!(
                        "of the new ones only {} can be to blame, with nothing good to put back; all stay live",
                        quoted(&kept)
                    )
                };
                (Failure::from(again).context(format!("{fails} with the previous certificates too: {verdict}")), changed)
            }
        };
        Ok(Some(self.failed(target, failure, &certificates)))
    }

    /// The report of what a search found.
    async fn culprits_out(&mut self, target: &Target, culprits: Culprits, mut failure: Failure, fails: &str) -> TargetReport {
        let Culprits { guilty, untried, further } = culprits;
        failure.causes.extend(further);
        let verdict = format!("{fails} with the new certificate of {}, and not with the previous one", quoted(&guilty));
        let late = format!("{fails}, and there was no time to try {}: they stay out until their next turn", quoted(&untried));
        let postponed = failure.clone().context(late.clone());
        if guilty.is_empty() {
            return self.rejected(target, &[], &untried, postponed).await;
        }
        if !untried.is_empty() {
            failure.causes.push(late);
        }
        self.rejected(target, &guilty, &untried, failure.context(verdict)).await
    }

    /// Whether the previous generation of a changed entry is a refuge.
    pub(super) fn may_go_back(&self, name: &str) -> bool {
        let Some(Change { old: Some(old), new, .. }) = self.changes.get(name) else { return false };
        is_refuge(old.bundle.not_after(), new.bundle.not_after(), self.clock.now())
    }

    /// Wrong certificates are served: those with a refuge go back, with every target of theirs.
    pub(super) async fn put_back(
        &mut self,
        target: &Target,
        wrong: BTreeMap<String, Vec<Served>>,
        changed: &[String],
    ) -> TargetReport {
        let failure = self.not_served(target, &wrong, changed);
        let back: Vec<String> = wrong
            .keys()
            .filter(|name| changed.contains(name) && self.showed_old(target, name) && self.may_go_back(name))
            .cloned()
            .collect();
        if back.is_empty() {
            return self.failed(target, failure, &wrong.keys().cloned().collect::<Vec<_>>());
        }
        self.place(&back, false);
        self.save();
        let reloaded = deploy::reload(target).await.err();
        let report = self.rejected(target, &back, &[], failure).await;
        match reloaded {
            None => report,
            Some(again) => {
                let again = Failure::from(again);
                let failure = report.error.unwrap_or(again.clone());
                let causes = [failure.causes, vec!["the reload with the previous certificate failed too".into()], again.causes];
                self.failed(target, Failure { causes: causes.concat(), ..failure }, &back)
            }
        }
    }

    /// What is wrong with what is served, and where an operator looks first.
    fn not_served(&self, target: &Target, wrong: &BTreeMap<String, Vec<Served>>, changed: &[String]) -> Failure {
        let names: Vec<String> = wrong.keys().cloned().collect();
        let which = if names.iter().all(|name| changed.contains(name)) { "new" } else { "live" };
        let mut causes = vec![format!("`{}` does not serve the {which} certificate of {}", target.name, quoted(&names))];
        let shown: Vec<(&String, &Served)> =
            wrong.iter().flat_map(|(name, seen)| seen.iter().map(move |seen| (name, seen))).collect();
        let is_old = |(name, seen): &(&String, &Served)| seen.fingerprint.is_some() && seen.fingerprint == self.old_leaf(name);
        let words = |one: &(&String, &Served)| if is_old(one) { still(one.1) } else { describe(one.1) };
        causes.extend(shown.iter().take(MAX_SHOWN).map(words));
        let other = shown.iter().find(|one| one.1.fingerprint.is_some());
        let hint = match other {
            _ if shown.iter().any(is_old) => Some(look_into_log(target)),
            Some((name, seen)) => {
                let files = live::combined_path(self.store, name).with_file_name("");
                Some(format!("see whether its configuration for `{}` uses the files in `{}`", seen.name, files.display()))
            }
            None if shown.iter().all(|one| one.1.closed) => Some("see whether the server is up".to_owned()),
            None => None,
        };
        Failure { kind: "verify".to_owned(), causes, hint, transient: false }
    }

    /// The leaf that was live before, of a changed entry.
    pub(super) fn old_leaf(&self, name: &str) -> Option<Fingerprint> {
        self.changes.get(name).and_then(|change| change.old.as_ref()).map(|old| old.bundle.fingerprint())
    }

    /// Whether an address showed the old leaf of a changed entry before.
    fn showed_old(&self, target: &Target, name: &str) -> bool {
        let old = self.old_leaf(name);
        old.is_some() && self.before.of(target, name).iter().any(|seen| seen.fingerprint == old)
    }

    /// Culprits are out and the old ones live: remembers that, and looks at what is served now. Who was not tried is out too, and may
    /// come again as often as before.
    async fn rejected(&mut self, target: &Target, culprits: &[String], untried: &[String], mut failure: Failure) -> TargetReport {
        let (now, why) = (self.clock.now(), failure.to_string().chars().take(MAX_WHY).collect::<String>());
        let mut back = Vec::new();
        for name in culprits.iter().chain(untried) {
            let Some(change) = self.changes.get(name) else { continue };
            failure.hint.get_or_insert_with(|| format!("look at the rejected one in `{}`", change.new.path.display()));
            if let Some(record) = self.ledger.certificates.get_mut(name) {
                let (leaf, id) = (change.new.bundle.fingerprint(), change.id.clone());
                let note = if untried.contains(name) { postpone } else { reject };
                note(&mut record.open.rejected, leaf, id, why.clone(), now);
            }
            back.extend(change.old.as_ref().map(|old| (name.clone(), live::live_of(old))));
        }
        let back = self.look_after(target, back).await;
        for (name, old, seen) in &back {
            let right = !seen.is_empty() && seen.iter().all(|s| s.fingerprint == Some(old.fingerprint));
            self.note_reloaded(target, name, old, right);
        }
        // Next to the verdict: a message that is cut at its end must say what is served now.
        failure.causes.insert(1.min(failure.causes.len()), put_back(&back));
        let record = self.ledger.targets.entry(target.name.clone()).or_default();
        record.settings = target.fingerprint();
        record.last_error = Some(failure.clone());
        record.pending = None;
        self.save();
        let certificates = [culprits, untried].concat();
        TargetReport { action: TargetAction::RolledBack, certificates, error: Some(failure), ..quiet(target) }
    }

    /// Waits, once for all, until what was put back is served again; what was seen for each.
    async fn look_after(&mut self, target: &Target, back: Vec<(String, Arc<Live>)>) -> Vec<(String, Arc<Live>, Vec<Served>)> {
        let (mut expected, mut counts) = (Vec::new(), Vec::new());
        for (name, old) in &back {
            let wanted = self.entries.get(name.as_str()).map(|entry| entry.names.as_slice()).unwrap_or_default();
            let pairs = self.expected_pairs(target, name, &sni_names(&old.names, wanted));
            counts.push(pairs.len());
            expected.extend(pairs.into_iter().map(|(address, name)| Expected { address, name, fingerprint: old.fingerprint }));
        }
        self.step();
        let mut seen = deploy::wait_all(&expected, target.timeout).await.into_iter();
        self.step();
        let mut looked: Vec<(String, Arc<Live>, Vec<Served>)> = Vec::new();
        for ((name, old), count) in back.into_iter().zip(counts) {
            let mine: Vec<Served> = seen.by_ref().take(count).collect();
            self.after.keep(target, &name, &mine);
            looked.push((name, old, mine));
        }
        looked
    }

    /// A rollback takes every target of the certificate with it: those that were told of the new one are told again.
    pub(super) async fn follow_rollbacks(&mut self, targets: &[Target]) {
        for target in targets {
            let stale = self.members(target).any(|Certificate { name, .. }| {
                let rolled_back = self.changes.get(name).is_some_and(|change| change.stage == Stage::RolledBack);
                let told = self
                    .ledger
                    .certificates
                    .get(name)
                    .and_then(|record| record.targets.get(&target.name))
                    .and_then(|told| told.reloaded);
                rolled_back && told.is_some() && told != self.target_live(name).map(|live| live.fingerprint)
            });
            if !stale {
                continue;
            }
            self.before.take_over(target, &self.after);
            let report = self.tell(target).await;
            let action = if report.action == TargetAction::Failed { TargetAction::Failed } else { TargetAction::RolledBack };
            let why = Failure {
                kind: "rolled_back".to_owned(),
                causes: vec!["another target failed with the new certificate, so the previous one is live again".to_owned()],
                hint: None,
                transient: false,
            };
            let error = report.error.or(Some(why));
            self.reports.insert(target.name.clone(), TargetReport { action, error, ..report });
        }
    }
}

/// Never back to what has ended or soon does, while the new one is valid (decision 10).
fn is_refuge(old_end: Timestamp, new_end: Timestamp, now: Timestamp) -> bool {
    new_end <= now || old_end >= now + REFUGE
}

impl Step {
    fn word(self) -> &'static str {
        match self {
            Step::Test => "test",
            Step::Reload => "reload",
        }
    }

    pub(super) async fn run(self, target: &Target) -> Result<(), deploy::Error> {
        match self {
            Step::Test => deploy::test(target).await,
            Step::Reload => deploy::reload(target).await,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_within_three_days_is_no_refuge_while_the_new_one_is_valid() {
        let (now, later) = ("2026-11-22T12:00:00Z", "2027-11-22T12:00:00Z");
        for (old_end, new_end, expected) in [
            ("2026-11-25T12:00:00Z", later, true),
            ("2026-11-25T11:59:59Z", later, false),
            ("2026-11-22T11:00:00Z", later, false),
            ("2026-11-25T11:59:59Z", now, true),
            ("2026-11-25T11:59:59Z", "2026-11-22T12:00:01Z", false),
        ] {
            let [old_end, new_end, now] = [old_end, new_end, now].map(|at| at.parse().unwrap());
            assert_eq!(is_refuge(old_end, new_end, now), expected, "{old_end} {new_end}");
        }
    }
}

//! Whose fault it is when a step fails, and the way back.
//!
//! Start at [`Delivery::blame`]: what fails with the previous certificates too is not the new ones' fault.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use crate::config::Target;
use crate::deploy;
use crate::report::{Failure, Served, TargetAction, TargetReport};

use super::super::live;
use super::memory::reject;
use super::verify::sni_names;
use super::words::{not_served, quiet, quoted, served_now};
use super::{Change, Delivery, Stage};

/// A previous generation that ends sooner than this is no refuge while the new one is valid.
const REFUGE: SignedDuration = SignedDuration::from_hours(72);

/// The two steps that can tell whose fault it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Test,
    Reload,
}

impl Delivery<'_> {
    /// After `step` failed: puts the old generations back and tries again, to tell the certificate's fault from the server's.
    ///
    /// `Err`: the target is done with, rolled back. `Ok(None)`: the culprits are out, the rest is live and passed the step.
    /// `Ok(Some(report))`: it fails with the old ones too; the new files are live again.
    pub(super) async fn blame(
        &mut self,
        target: &Target,
        changed: &[String],
        failure: Failure,
        step: Step,
    ) -> Result<Option<TargetReport>, TargetReport> {
        let movable: Vec<String> = changed.iter().filter(|name| self.may_go_back(name)).cloned().collect();
        if movable.is_empty() {
            let remark = if changed.is_empty() {
                "nothing new was put live"
            } else {
                "there is nothing good to put back, so the new files stay"
            };
            let report =
                self.failed(target, failure.context(format!("`{}` failed at {}; {remark}", target.name, step.word())), changed);
            return Ok(Some(report));
        }
        for name in &movable {
            self.place(name, false);
        }
        self.save();
        self.step();
        if let Err(again) = step.run(target).await {
            for name in &movable {
                self.place(name, true);
            }
            self.save();
            let failure = again.context(format!(
                "`{}` fails at {} with the previous certificates too, so the new ones are not to blame; they lie ready, and are taken up as soon as it works",
                target.name,
                step.word()
            ));
            return Ok(Some(self.failed(target, failure, changed)));
        }
        let culprits = self.culprits(target, &movable, step).await;
        let report =
            self.rejected(target, &culprits, failure.context(format!("`{}` failed at {}", target.name, step.word()))).await;
        if culprits.len() == movable.len() && changed.len() == movable.len() {
            Err(report)
        } else {
            self.reports.insert(target.name.clone(), report);
            Ok(None)
        }
    }

    /// Puts the certificates live one by one; those with which `step` fails are the culprits and stay out.
    async fn culprits(&mut self, target: &Target, movable: &[String], step: Step) -> Vec<String> {
        if let [only] = movable {
            return vec![only.clone()];
        }
        let mut culprits = Vec::new();
        for name in movable {
            self.place(name, true);
            self.step();
            if step.run(target).await.is_err() {
                self.place(name, false);
                culprits.push(name.clone());
            }
        }
        self.save();
        self.step();
        if step == Step::Reload && !culprits.is_empty() {
            // The last reload may have been a failing one: the server must read what is live now.
            if let Err(error) = deploy::reload(target).await {
                tracing::error!(
                    target = target.name,
                    "failed to reload after the rejected certificates were taken out: {}",
                    error
                );
            }
        }
        culprits
    }

    /// Whether the previous generation of a changed entry is a refuge.
    fn may_go_back(&self, name: &str) -> bool {
        let now = self.clock.now();
        let Some(Change { old: Some(old), new, .. }) = self.changes.get(name) else { return false };
        let new_is_valid = new.bundle.not_after() > now;
        !(new_is_valid && old.bundle.not_after() < now + REFUGE)
    }

    /// Wrong certificates are served: those with a refuge go back, with every target of theirs.
    pub(super) async fn put_back(
        &mut self,
        target: &Target,
        wrong: BTreeMap<String, Vec<Served>>,
        changed: &[String],
    ) -> TargetReport {
        let failure = not_served(target, &wrong);
        let back: Vec<String> = wrong
            .keys()
            .filter(|name| changed.contains(name) && self.showed_old(target, name) && self.may_go_back(name))
            .cloned()
            .collect();
        if back.is_empty() {
            return self.failed(target, failure, &wrong.keys().cloned().collect::<Vec<_>>());
        }
        for name in &back {
            self.place(name, false);
        }
        self.save();
        let reloaded = deploy::reload(target).await.err();
        let report = self.rejected(target, &back, failure).await;
        match reloaded {
            None => report,
            Some(again) => {
                let failure = report.error.unwrap_or(again.clone());
                let causes = [failure.causes, vec!["the reload with the previous certificate failed too".into()], again.causes];
                self.failed(target, Failure { causes: causes.concat(), ..failure }, &back)
            }
        }
    }

    /// Whether an address showed the old leaf of a changed entry before.
    fn showed_old(&self, target: &Target, name: &str) -> bool {
        let old = self.changes.get(name).and_then(|change| change.old.as_ref()).map(|old| old.bundle.fingerprint());
        old.is_some() && self.before.get(&target.name).into_iter().flatten().any(|seen| seen.fingerprint == old)
    }

    /// Culprits are out and the old ones live: remembers that, and looks at what is served now.
    async fn rejected(&mut self, target: &Target, culprits: &[String], failure: Failure) -> TargetReport {
        let now = self.clock.now();
        let mut shown = Vec::new();
        for name in culprits {
            let Some(change) = self.changes.get(name) else { continue };
            let why = failure.to_string();
            let (fingerprint, id) = (change.new.bundle.fingerprint(), change.id.clone());
            let old = change.old.as_ref().map(live::live_of);
            let names = old.as_ref().map(|old| sni_names(&old.names, &change.entry.names)).unwrap_or_default();
            if let Some(record) = self.ledger.certificates.get_mut(name) {
                reject(&mut record.rejected, fingerprint, id, why, now);
            }
            if let Some(old) = old {
                let pairs = self.expected_pairs(target, name, &names);
                self.step();
                let seen = deploy::wait_served(&pairs, old.fingerprint, target.timeout).await;
                self.keep_seen(target, &seen);
                let right = !seen.is_empty() && seen.iter().all(|s| s.fingerprint == Some(old.fingerprint));
                self.note_reloaded(target, name, &old, right);
                shown.push(served_now(name, &old, &seen));
            }
        }
        let mut failure = failure;
        failure.causes.push(format!("put back the previous certificate of {}", quoted(culprits)));
        failure.causes.extend(shown);
        failure.hint.get_or_insert_with(|| {
            format!("where something else was the cause, mend it and run `certsyncd sync --force {}`", culprits.join(" "))
        });
        let record = self.ledger.targets.entry(target.name.clone()).or_default();
        record.settings = target.fingerprint();
        record.last_error = Some(failure.clone());
        record.pending = None;
        self.save();
        TargetReport { action: TargetAction::RolledBack, certificates: culprits.to_vec(), error: Some(failure), ..quiet(target) }
    }

    /// A rollback takes every target of the certificate with it: those that were told of the new one are told again.
    pub(super) async fn follow_rollbacks(&mut self, targets: &[Target]) {
        for target in targets {
            let stale = self.members(target).into_iter().any(|(name, _)| {
                let rolled_back = self.changes.get(&name).is_some_and(|change| change.stage == Stage::RolledBack);
                let told = self
                    .ledger
                    .certificates
                    .get(&name)
                    .and_then(|record| record.targets.get(&target.name))
                    .and_then(|told| told.reloaded);
                rolled_back && told.is_some() && told != self.target_live(&name).map(|live| live.fingerprint)
            });
            if !stale {
                continue;
            }
            let before = self.after.get(&target.name).cloned().unwrap_or_default();
            self.before.insert(target.name.clone(), before);
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

impl Step {
    fn word(self) -> &'static str {
        match self {
            Step::Test => "test",
            Step::Reload => "reload",
        }
    }

    async fn run(self, target: &Target) -> Result<(), Failure> {
        match self {
            Step::Test => deploy::test(target).await,
            Step::Reload => deploy::reload(target).await,
        }
    }
}

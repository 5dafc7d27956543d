//! One target is told: is it running, may it be told already, update in place, else test and reload.
//!
//! Start at [`Delivery::tell`]. What fails goes to `blame`, what went well to `verify`.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use crate::config::{Certificate, Format, Target, TargetKind};
use crate::deploy::{self, UnitState, Update};
use crate::ledger::TargetRecord;
use crate::report::{Failure, Fingerprint, TargetAction, TargetReport};

use super::super::live;
use super::blame::Step;
use super::words::TIME;
use super::{Delivery, STOPPED};

/// How long a pass waits for a target's `min_gap`; a longer rest is for a later pass, since nobody else has a turn meanwhile.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(60);

impl Delivery<'_> {
    /// One target: state, update in place or test and reload, verify; with the way back.
    pub(super) async fn tell(&mut self, target: &Target) -> TargetReport {
        if self.is_unsaved {
            self.save();
        }
        let changed = self.changed(target);
        if let Some(why) = not_running(target).await {
            return self.leave_pending(target, why);
        }
        if let Err(why) = self.wait_for_gap(target).await {
            return self.leave_pending(target, why);
        }
        self.step();
        let done = match self.update_in_place(target).await {
            Some(TargetAction::Updated) => Ok((TargetAction::Updated, None)),
            _ => self.test_and_reload(target).await,
        };
        match done {
            Err(report) => report,
            Ok((action, None)) => self.verify(target, action, &changed).await,
            Ok((action, Some(failed))) => self.verify_all_the_same(target, action, &changed, failed).await,
        }
    }

    /// After a reload that went well although the test fails whatever is live: what is served counts, and the test stays to be looked at.
    async fn verify_all_the_same(
        &mut self,
        target: &Target,
        action: TargetAction,
        changed: &[String],
        failed: TargetReport,
    ) -> TargetReport {
        let record = self.ledger.targets.get(&target.name).cloned();
        let seen = self.verify(target, action, changed).await;
        if seen.action != action {
            return seen;
        }
        self.ledger.targets.extend(record.map(|record| (target.name.clone(), record)));
        self.save();
        let mut failed = failed;
        if let Some(error) = &mut failed.error {
            error.causes.push("the reload went well all the same, and what is live is served".to_owned());
        }
        failed
    }

    /// Nothing listened on any of the target's addresses, before as now.
    pub(super) fn nothing_listened(&self, target: &Target) -> bool {
        let mut before = self.before.all(target).peekable();
        before.peek().is_some() && before.all(|seen| seen.closed)
    }

    /// Waits until the target may be told again; `Err`: why that is not in this pass.
    async fn wait_for_gap(&mut self, target: &Target) -> Result<(), String> {
        let now = self.clock.now();
        if let Some(left) = gap_left(self.ledger.targets.get(&target.name), target, now) {
            if let Some(why) = too_long(left, now) {
                return Err(why);
            }
            tracing::info!(target = target.name, "waits {}s before the next reload of `{}`", left.as_secs(), target.name);
            tokio::select! {
                () = tokio::time::sleep(left.unsigned_abs()) => {}
                () = self.stop.cancelled() => return Err(STOPPED.to_owned()),
            }
        }
        let now = self.clock.now();
        self.ledger.targets.entry(target.name.clone()).or_default().last_reload = Some(now);
        Ok(())
    }

    /// haproxy's Runtime API; `None`: not possible for every certificate, so the files must be read again.
    async fn update_in_place(&mut self, target: &Target) -> Option<TargetAction> {
        let TargetKind::Haproxy { socket: Some(socket) } = &target.kind else { return None };
        let (due, others): (Vec<_>, Vec<_>) =
            self.members(target).partition(|entry| self.member_due(target, &entry.name).is_some());
        // Told although nothing changed (`--force`, other settings): what it serves is given to it again, without a reload.
        let again = if due.is_empty() { others } else { due };
        if again.is_empty() {
            return None;
        }
        for Certificate { name, outputs, .. } in again {
            let installed = self.store.live(name).ok().flatten()?;
            let combined = installed.bundle.files().files.remove("combined.pem")?;
            let link = live::combined_path(self.store, name);
            let mut paths = vec![link];
            paths.extend(outputs.iter().filter(|output| output.format == Format::Combined).map(|output| output.path.clone()));
            self.step();
            if !update_one(socket, target, name, &paths, &combined, installed.bundle.fingerprint()).await {
                return None;
            }
        }
        Some(TargetAction::Updated)
    }

    /// Test where one is configured, then reload; on failure finds out whose fault it is. With a report: the reload went well, but the
    /// test fails whatever is live.
    async fn test_and_reload(&mut self, target: &Target) -> Result<(TargetAction, Option<TargetReport>), TargetReport> {
        let mut blamed = None;
        if target.test.is_some()
            && let Err(error) = deploy::test(target).await
        {
            blamed = self.blame(target, error, Step::Test).await?;
        }
        self.step();
        if let Err(error) = deploy::reload(target).await {
            if self.nothing_listened(target) {
                return Err(self.leave_pending(target, format!("its server is not running: {}", Failure::from(error))));
            }
            if let Some(report) = self.blame(target, error, Step::Reload).await? {
                return Err(report);
            }
        }
        Ok((TargetAction::Reloaded, blamed))
    }
}

/// Why there is no server to tell; `None`: there may be one.
pub(in crate::sync) async fn not_running(target: &Target) -> Option<String> {
    let unit = target.unit.as_deref()?;
    match deploy::state(target).await {
        UnitState::Inactive | UnitState::Failed => {
            Some(format!("`{unit}` is not running; it reads the new files when it starts"))
        }
        UnitState::Activating => Some(format!("`{unit}` is starting; it reads the new files itself")),
        UnitState::Active | UnitState::Unknown => None,
    }
}

/// Why a target that was told a moment ago is left to a later pass.
pub(in crate::sync) fn rests(record: Option<&TargetRecord>, target: &Target, now: Timestamp) -> Option<String> {
    gap_left(record, target, now).and_then(|left| too_long(left, now))
}

/// What is left of a target's `min_gap`.
fn gap_left(record: Option<&TargetRecord>, target: &Target, now: Timestamp) -> Option<SignedDuration> {
    let last = record?.last_reload.filter(|last| *last <= now)?;
    let gap = SignedDuration::try_from(target.min_gap).unwrap_or(SignedDuration::ZERO);
    Some((last + gap).duration_since(now)).filter(|left| left.is_positive())
}

fn too_long(left: SignedDuration, now: Timestamp) -> Option<String> {
    (left > LONGEST_WAIT).then(|| format!("waits for its `min_gap`, until {}", (now + left).strftime(TIME)))
}

/// Updates one certificate in haproxy's memory, by whichever of its files haproxy loaded; `false`: a reload must do it.
async fn update_one(socket: &Path, target: &Target, name: &str, paths: &[PathBuf], pem: &[u8], leaf: Fingerprint) -> bool {
    let mut why = Vec::new();
    for path in paths {
        match deploy::update(socket, path, pem, leaf, target.timeout).await {
            Ok(Update::Updated) => return true,
            Ok(Update::NotThere(reason)) => why.push(reason),
            Err(error) => why.push(error.to_failure().to_string()),
        }
    }
    tracing::warn!(
        target = target.name,
        certificate = name,
        "reloads `{}` instead of updating it in place: {}",
        target.name,
        why.join("; ")
    );
    false
}

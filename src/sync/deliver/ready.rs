//! Which targets are to be told, and which wait.
//!
//! Start at [`Delivery::readiness`]. A target is due by what changed, by what the ledger says it was told, or by what is served; growing
//! gaps and windows hold it back.

use jiff::{SignedDuration, Timestamp};

use crate::config::{Certificate, Target};
use crate::ledger::is_awaited;
use crate::report::Served;

use super::super::plan::LONGEST_GAP;
use super::super::window;
use super::verify::same_pair;
use super::words::TIME;
use super::{Delivery, Stage};

/// What is served that ends sooner than this does not wait for a window.
const URGENT: SignedDuration = SignedDuration::from_hours(72);

/// Why a target is to be told, or why not now.
pub(super) enum Readiness {
    Due,
    NotDue,
    Wait(String),
}

impl Delivery<'_> {
    /// Whether there is nothing to ask and nothing to tell, as the ledger alone says.
    pub(super) fn is_asleep(&self, target: &Target) -> bool {
        let Some(record) = self.ledger.targets.get(&target.name) else { return false };
        let is_told = |entry: &Certificate| {
            let Some(record) = self.ledger.certificates.get(&entry.name) else { return false };
            let told = record.targets.get(&target.name).and_then(|told| told.reloaded);
            record.live.as_ref().is_some_and(|live| told == Some(live.fingerprint))
        };
        !self.force
            && target.verify.is_empty()
            && record.pending.is_none()
            && record.settings == target.fingerprint()
            && !self.changes.values().any(|change| change.entry.deploy.contains(&target.name))
            && self.entries.values().filter(|entry| entry.deploy.contains(&target.name)).all(|entry| is_told(entry))
    }

    /// What is served already needs no telling: a ledger that was lost, or a server that was restarted meanwhile.
    pub(super) fn recognise_served(&mut self, targets: &[Target]) {
        for target in targets.iter().filter(|target| !target.verify.is_empty()) {
            let members: Vec<_> = self.members(target).collect();
            let mut all = !members.is_empty();
            for Certificate { name, .. } in members {
                let Some(live) = self.target_live(name).filter(|_| !self.changes.contains_key(name)) else {
                    all = false;
                    continue;
                };
                let seen = self.before.of(target, name);
                let shown = seen.iter().any(|s| s.fingerprint == Some(live.fingerprint));
                let other = seen.iter().any(|s| s.fingerprint.is_some() && s.fingerprint != Some(live.fingerprint));
                if shown && !other {
                    self.note_reloaded(target, name, &live, true);
                }
                all &= shown && !other;
            }
            if all {
                let record = self.ledger.targets.entry(target.name.clone()).or_default();
                (record.pending, record.last_error, record.next_try, record.failures) = (None, None, None, 0);
                if record.settings.is_empty() {
                    record.settings = target.fingerprint();
                }
            }
        }
    }

    pub(super) fn readiness(&self, target: &Target) -> Readiness {
        let Some(_why) = self.due(target) else { return Readiness::NotDue };
        let now = self.clock.now();
        let record = self.ledger.targets.get(&target.name);
        let next_try = record.and_then(|record| record.next_try).filter(|at| is_awaited(*at, now, LONGEST_GAP));
        if let Some(at) = next_try.filter(|_| !self.by_hand && !self.force) {
            // A new certificate is a new reason; only what failed before waits for its gap.
            if !self.members(target).any(|entry| self.changes.contains_key(&entry.name)) {
                return Readiness::Wait(format!("tried again after {}", at.strftime(TIME)));
            }
        }
        match &target.window {
            Some(window) if !window::is_open(window, &self.settings.daemon.timezone, now) && !self.is_urgent(target, now) => {
                Readiness::Wait(format!("waits for its window `{}`", window.text))
            }
            _ => Readiness::Due,
        }
    }

    /// Why a target must be told; `None`: it need not.
    pub(super) fn due(&self, target: &Target) -> Option<String> {
        let record = self.ledger.targets.get(&target.name);
        if self.force {
            return Some("forced".to_owned());
        }
        if let Some(why) = record.and_then(|record| record.pending.clone()) {
            return Some(why);
        }
        if record.is_some_and(|record| !record.settings.is_empty() && record.settings != target.fingerprint()) {
            return Some("its settings changed".to_owned());
        }
        self.members(target).find_map(|entry| self.member_due(target, &entry.name))
    }

    pub(super) fn member_due(&self, target: &Target, name: &str) -> Option<String> {
        let live = self.target_live(name)?;
        if self.changes.get(name).is_some_and(|change| matches!(change.stage, Stage::Staged | Stage::Live)) {
            return Some(format!("`{name}` changed"));
        }
        let told = self.ledger.certificates.get(name).and_then(|record| record.targets.get(&target.name));
        let Some(told) = told.filter(|told| told.reloaded == Some(live.fingerprint)) else {
            return Some(format!("`{name}` was never told"));
        };
        let strayed = self.before.of(target, name).iter().any(|seen| {
            let was_right = told.served.iter().any(|was| same_pair(was, seen) && was.fingerprint == Some(live.fingerprint));
            was_right && seen.fingerprint.is_some() && seen.fingerprint != Some(live.fingerprint)
        });
        strayed.then(|| format!("something else than the live `{name}` is served"))
    }

    /// Whether clients are or soon will be turned away by what is served: it ends within [`URGENT`], or where a certificate was shown before
    /// something listens that shows none.
    pub(super) fn is_urgent(&self, target: &Target, now: Timestamp) -> bool {
        self.members(target).any(|Certificate { name, .. }| {
            let live = self.target_live(name).map(|live| live.fingerprint);
            self.before.of(target, name).iter().filter(|seen| seen.fingerprint != live).any(|seen| match seen.not_after {
                Some(end) => is_urgent(end, now),
                None => !seen.closed && self.once_showed(target, name, seen),
            })
        })
    }

    fn once_showed(&self, target: &Target, name: &str, seen: &Served) -> bool {
        let told = self.ledger.certificates.get(name).and_then(|record| record.targets.get(&target.name));
        told.is_some_and(|told| told.served.iter().any(|was| same_pair(was, seen) && was.fingerprint.is_some()))
    }
}

/// Whether what is served until `end` is too close to it to wait for a window.
pub(in crate::sync) fn is_urgent(end: Timestamp, now: Timestamp) -> bool {
    end < now + URGENT
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn less_than_three_days_do_not_wait() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        for (end, expected) in [
            ("2026-11-25T12:00:00Z", false),
            ("2026-11-25T11:59:59Z", true),
            ("2026-11-22T12:00:00Z", true),
            ("2026-11-01T00:00:00Z", true),
            ("2027-11-01T00:00:00Z", false),
        ] {
            assert_eq!(is_urgent(end.parse().unwrap(), now), expected, "{end}");
        }
    }
}

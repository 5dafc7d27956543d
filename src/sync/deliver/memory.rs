//! What the ledger remembers of servers and of what they rejected.

use jiff::{SignedDuration, Timestamp};

use crate::config::Target;
use crate::ledger::Rejection;
use crate::report::{Failure, Fingerprint, Live, TargetAction, TargetReport};

use super::super::plan::LONGEST_GAP;
use super::Delivery;
use super::words::quiet;

/// Tries of a certificate that a server rejects before it is held.
const MAX_TRIES: u32 = 3;
/// The gap before the second try of what failed; doubled from try to try.
const FIRST_GAP: SignedDuration = SignedDuration::from_mins(30);

impl Delivery<'_> {
    pub(super) fn note_reloaded(&mut self, target: &Target, name: &str, live: &Live, verified: bool) {
        let record = self.ledger.certificates.entry(name.to_owned()).or_default();
        let told = record.targets.of(&target.name);
        told.published = Some(live.fingerprint);
        told.reloaded = Some(live.fingerprint);
        told.verified = (verified && !target.verify.is_empty()).then_some(live.fingerprint);
    }

    pub(super) fn leave_pending(&mut self, target: &Target, why: String) -> TargetReport {
        let record = self.ledger.targets.entry(target.name.clone()).or_default();
        record.pending.get_or_insert_with(|| why.clone());
        record.settings = target.fingerprint();
        TargetReport { pending: Some(why), action: TargetAction::Pending, ..quiet(target) }
    }

    /// The target has it. That is saved before the next one is told, or with what was seen at all of them.
    pub(super) fn done(&mut self, target: &Target, action: TargetAction, changed: &[String]) -> TargetReport {
        let earlier = self.reports.remove(&target.name);
        let record = self.ledger.targets.entry(target.name.clone()).or_default();
        record.settings = target.fingerprint();
        record.pending = None;
        record.last_error = None;
        record.failures = 0;
        record.next_try = None;
        self.is_unsaved = true;
        match earlier {
            // Culprits were taken out on the way: that is what must be told.
            Some(report) => report,
            None => TargetReport { action, certificates: changed.to_vec(), ..quiet(target) },
        }
    }

    /// The target failed and stays pending; the next tries come with growing gaps.
    pub(super) fn failed(&mut self, target: &Target, failure: Failure, certificates: &[String]) -> TargetReport {
        let now = self.clock.now();
        let record = self.ledger.targets.entry(target.name.clone()).or_default();
        record.settings = target.fingerprint();
        record.failures += 1;
        record.pending = Some(failure.causes.first().cloned().unwrap_or_default());
        record.last_error = Some(failure.clone());
        record.next_try = Some(now + gap(record.failures));
        self.save();
        TargetReport { action: TargetAction::Failed, certificates: certificates.to_vec(), error: Some(failure), ..quiet(target) }
    }

    pub(super) fn save(&mut self) {
        self.is_unsaved = false;
        if let Err(error) = self.ledger.save(self.store.root()) {
            tracing::error!("failed to save the ledger: {error}");
        }
    }
}

/// Remembers a certificate that a server rejected: tried again with growing gaps, then held.
pub(super) fn reject(rejected: &mut Vec<Rejection>, fingerprint: Fingerprint, id: Option<String>, why: String, now: Timestamp) {
    note(rejected, fingerprint, id, why, now, 1);
}

/// Remembers a certificate that is out although nobody tried it: it waits for the gap, and no try of it is used up.
pub(super) fn postpone(rejected: &mut Vec<Rejection>, fingerprint: Fingerprint, id: Option<String>, why: String, now: Timestamp) {
    note(rejected, fingerprint, id, why, now, 0);
}

fn note(rejected: &mut Vec<Rejection>, fingerprint: Fingerprint, id: Option<String>, why: String, now: Timestamp, more: u32) {
    let at = rejected.iter().position(|r| r.fingerprint == fingerprint);
    let tries = at.and_then(|at| rejected.get(at)).map_or(0, |r| r.tries) + more;
    let next_try = (tries < MAX_TRIES).then(|| now + gap(tries));
    rejected.retain(|r| r.fingerprint != fingerprint);
    rejected.push(Rejection { fingerprint, id, why, tries, next_try });
}

/// 30 minutes, then twice as long from failure to failure, up to a day.
fn gap(failures: u32) -> SignedDuration {
    let doubled = FIRST_GAP.checked_mul(1i32.checked_shl(failures.saturating_sub(1).min(16)).unwrap_or(1));
    doubled.unwrap_or(LONGEST_GAP).min(LONGEST_GAP)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn gaps_double_from_half_an_hour_to_a_day() {
        let minutes: Vec<i64> = (0..=8).map(|failures| gap(failures).as_mins()).collect();
        assert_eq!(minutes, [30, 30, 60, 120, 240, 480, 960, 1_440, 1_440]);
        assert_eq!(gap(u32::MAX), LONGEST_GAP);
    }

    #[test]
    fn who_was_not_tried_has_used_up_no_try() {
        let (leaf, now) = (Fingerprint([1; 32]), Timestamp::UNIX_EPOCH);
        let mut rejected = Vec::new();
        for (note, tries, gap) in [
            (postpone as fn(&mut Vec<Rejection>, Fingerprint, Option<String>, String, Timestamp), 0, Some(30)),
            (reject, 1, Some(30)),
            (postpone, 1, Some(30)),
            (reject, 2, Some(60)),
            (reject, 3, None),
        ] {
            note(&mut rejected, leaf, None, "why".to_owned(), now);
            assert_eq!(rejected.len(), 1);
            let until = rejected[0].next_try.map(|at| at.duration_since(now).as_mins());
            assert_eq!((rejected[0].tries, until), (tries, gap));
        }
    }
}

//! Credentials that were rejected, remembered: a wrong password repeated by a fleet locks the account.
//!
//! A rejected credential is not tried again until it changes, until somebody says so (SIGHUP), or until a growing gap is over.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::ledger::is_awaited;

/// What was rejected last, and when it may be tried again.
#[derive(Default)]
pub(crate) struct Rejections(Mutex<Option<Rejected>>);

#[derive(Clone, Debug)]
struct Rejected {
    fingerprint: String,
    until: Timestamp,
    gap: SignedDuration,
}

impl Rejections {
    /// Until when `credential` is not tried again; `None`: it may be.
    pub(crate) fn until(&self, credential: &Fingerprint, now: Timestamp) -> Option<Timestamp> {
        let rejected = self.lock();
        let rejected = rejected.as_ref().filter(|rejected| credential.0.starts_with(&rejected.fingerprint))?;
        is_awaited(rejected.until, now, LONGEST_GAP).then_some(rejected.until)
    }

    /// Remembers `credential`; the gap doubles each time the same one is rejected again.
    pub(crate) fn remember(&self, credential: &Fingerprint, now: Timestamp) -> Timestamp {
        let mut rejected = self.lock();
        let before = rejected.as_ref().filter(|rejected| credential.0.starts_with(&rejected.fingerprint));
        let gap = before.map_or(FIRST_GAP, |rejected| rejected.gap.saturating_mul(2).min(LONGEST_GAP));
        let until = now.saturating_add(gap).unwrap_or(Timestamp::MAX);
        *rejected = Some(Rejected { fingerprint: credential.short(), until, gap });
        until
    }

    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    /// For the ledger.
    pub(crate) fn export(&self) -> Option<(String, Timestamp)> {
        self.lock().as_ref().map(|rejected| (rejected.fingerprint.clone(), rejected.until))
    }

    /// From the ledger.
    pub(crate) fn import(&self, rejected: Option<(String, Timestamp)>) {
        *self.lock() = rejected.filter(|(fingerprint, _)| !fingerprint.is_empty()).map(|(fingerprint, until)| Rejected {
            fingerprint,
            until,
            gap: FIRST_GAP,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Rejected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells one credential from another.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint(String);

impl Fingerprint {
    pub(crate) fn of(parts: &[&str]) -> Fingerprint {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Fingerprint(hex::encode(hash.finalize()))
    }

    /// What leaves the process: enough to notice that a secret changed, too little to test guesses of a password against.
    fn short(&self) -> String {
        self.0.chars().take(SHORT).collect()
    }
}

/// Hex digits of a fingerprint that are kept: one change in 65,536 goes unnoticed (and then waits for the gap, or a SIGHUP).
const SHORT: usize = 4;
/// The first gap.
pub const FIRST_GAP: SignedDuration = SignedDuration::from_hours(1);
/// The longest gap.
pub const LONGEST_GAP: SignedDuration = SignedDuration::from_hours(24);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap()
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert!(Fingerprint::of(&["ab", "c"]) != Fingerprint::of(&["a", "bc"]));
    }

    #[test]
    fn a_rejected_one_waits_and_waits_longer() {
        let (rejections, bad) = (Rejections::default(), Fingerprint::of(&["ak", "sk"]));
        assert_eq!(rejections.until(&bad, at(0)), None);
        rejections.remember(&bad, at(0));
        assert_eq!(rejections.until(&bad, at(0)), Some(at(1)));
        assert_eq!(rejections.until(&bad, at(1)), None);
        rejections.remember(&bad, at(1));
        assert_eq!(rejections.until(&bad, at(2)), Some(at(3)));
        for _ in 0..10 {
            rejections.remember(&bad, at(3));
        }
        assert_eq!(rejections.until(&bad, at(3)), Some(at(27)));
    }

    #[test]
    fn another_credential_is_tried_at_once() {
        let rejections = Rejections::default();
        rejections.remember(&Fingerprint::of(&["ak", "sk"]), at(0));
        assert_eq!(rejections.until(&Fingerprint::of(&["ak", "new"]), at(0)), None);
    }

    #[test]
    fn survives_a_restart_and_a_clock_put_back() {
        let (rejections, bad) = (Rejections::default(), Fingerprint::of(&["ak", "sk"]));
        rejections.remember(&bad, at(0));
        let exported = rejections.export();
        assert_eq!(exported.as_ref().unwrap().0.len(), SHORT);
        let restarted = Rejections::default();
        restarted.import(exported);
        assert_eq!(restarted.until(&bad, at(0)), Some(at(1)));
        assert_eq!(restarted.until(&bad, at(-1000)), None);
        restarted.forget();
        assert_eq!(restarted.until(&bad, at(0)), None);
    }
}

//! `expiring` and `expired`: what is served counts, not what lies on disk.

use jiff::{SignedDuration, Timestamp};

use super::{Judge, asked_well, lifetime, merge};
use crate::alert::message::{Over, Story, Way};
use crate::config::EventKind;
use crate::ledger::{CertificateRecord, Raised};
use crate::report::{CertificateReport, Fingerprint, Live, Served, Valid};

/// The provider's flag `Valid` = 2 means 30 days.
pub const FLAG_DAYS: u32 = 30;

const KINDS: [EventKind; 2] = [EventKind::Expiring, EventKind::Expired];

/// The certificate that clients see.
struct Judged<'a> {
    fingerprint: Fingerprint,
    until: Timestamp,
    /// Where an older one than the live one is shown.
    served: Option<&'a Served>,
    live: &'a Live,
}

/// How it stands.
#[derive(Clone, Copy, PartialEq)]
enum Standing {
    Fine,
    /// The smallest threshold crossed, and whether only the provider's flag says so.
    Expiring(u32, bool),
    Expired,
}

/// What becomes of an older state.
enum Fate {
    Keep,
    Supersede,
    Resolve,
}

impl Standing {
    fn kind(self) -> Option<EventKind> {
        match self {
            Standing::Fine => None,
            Standing::Expiring(..) => Some(EventKind::Expiring),
            Standing::Expired => Some(EventKind::Expired),
        }
    }
}

impl Judge<'_> {
    pub(super) fn expiry(&mut self, certificate: &CertificateReport) {
        if self.clock_is_in_doubt(certificate) {
            return;
        }
        let record = self.record(&certificate.name);
        let Some(judged) = judged(certificate, record) else { return };
        let standing = self.standing(certificate, record, &judged);
        let key = |kind: EventKind, fingerprint: &Fingerprint| format!("{kind}/{}/{}", certificate.name, fingerprint.short());
        let current = standing.kind().map(|kind| (kind, key(kind, &judged.fingerprint)));

        let mut heirs = Vec::new();
        for old in self.keys(&certificate.name, &KINDS) {
            let Some(state) = self.verdict.raised.get(&old).filter(|_| current.as_ref().is_none_or(|(_, key)| *key != old)).cloned() else {
                continue;
            };
            let same = state.fingerprint == Some(judged.fingerprint);
            match self.fate(certificate, &state, same, standing) {
                Fate::Keep if same => return,
                Fate::Keep => {}
                Fate::Supersede => merge(&mut heirs, self.supersede(&old)),
                Fate::Resolve if same => self.resolve(&old, Some(certificate), Over::Valid(judged.until)),
                Fate::Resolve => self.resolve(&old, Some(certificate), Over::Replaced(judged.until)),
            }
        }
        if let Some((_, key)) = current {
            self.tell_standing(certificate, &judged, standing, &key, heirs);
        }
    }

    /// What becomes of a state that is not the current one.
    fn fate(&self, certificate: &CertificateReport, state: &Raised, same: bool, standing: Standing) -> Fate {
        match standing {
            Standing::Expired => Fate::Supersede,
            // the same leaf was worse before: only a clock known to be right may say so
            _ if same && !(asked_well(certificate) && self.clock_is_proved()) => Fate::Keep,
            _ if same => Fate::Resolve,
            _ if standing.kind() == Some(state.event) => Fate::Supersede,
            _ if still_shown(certificate, self.record(&certificate.name), state.fingerprint) => Fate::Keep,
            _ => Fate::Resolve,
        }
    }

    fn tell_standing(&mut self, certificate: &CertificateReport, judged: &Judged<'_>, standing: Standing, key: &str, heirs: Vec<String>) {
        let way = Way { successor: certificate.successor.as_ref(), near_misses: &certificate.near_misses, error: certificate.error.as_ref() };
        let until = judged.until;
        let story = match (judged.served, standing) {
            (Some(served), _) => Story::Stale { served, until, live_until: judged.live.not_after },
            (None, Standing::Expiring(_, flagged)) => Story::Expiring { until, flagged, way },
            (None, _) => Story::Expired { until, way },
        };
        let kind = standing.kind().unwrap_or(EventKind::Expired);
        let mut event = self.about(kind, key.to_owned(), certificate, &story);
        event.ends(judged.fingerprint, until);
        match standing {
            Standing::Expiring(threshold, _) => self.cross(event, threshold),
            _ => self.raise(event, true),
        }
        if let Some(state) = self.verdict.raised.get_mut(key) {
            merge(&mut state.channels, heirs);
        }
    }

    /// Tells a threshold once; a smaller one later is told again under the same key.
    fn cross(&mut self, event: crate::report::Event, threshold: u32) {
        let (key, now, proved) = (event.key.clone(), self.facts.now, self.clock_is_proved());
        match self.verdict.raised.get_mut(&key) {
            // it was told by a clock that ran ahead: take that back without a word, so that the real crossings are told
            Some(state) if now < state.last && proved => {
                state.last = now;
                state.threshold = Some(threshold);
                return;
            }
            Some(state) if state.threshold.is_some_and(|told| told <= threshold) => return,
            _ => {}
        }
        self.tell(event);
        if let Some(state) = self.verdict.raised.get_mut(&key) {
            state.threshold = Some(threshold);
        }
    }

    fn standing(&self, certificate: &CertificateReport, record: Option<&CertificateRecord>, judged: &Judged<'_>) -> Standing {
        // the flag is about what is live; an older one that is still served is judged by its own date
        let flag = if judged.served.is_some() { None } else { certificate.valid.or_else(|| record.and_then(|record| record.valid)) };
        if flag == Some(Valid::Expired) || judged.until <= self.facts.now {
            return Standing::Expired;
        }
        let crossed = self.threshold(judged);
        let flagged = (flag == Some(Valid::Expiring)).then_some(FLAG_DAYS);
        match (crossed, flagged) {
            (Some(crossed), Some(flag)) => Standing::Expiring(crossed.min(flag), flag < crossed),
            (Some(crossed), None) => Standing::Expiring(crossed, false),
            (None, Some(flag)) => Standing::Expiring(flag, true),
            (None, None) => Standing::Fine,
        }
    }

    /// The smallest threshold that is crossed. One beyond a third of the certificate's lifetime means nothing and is skipped.
    fn threshold(&self, judged: &Judged<'_>) -> Option<u32> {
        let left = judged.until.duration_since(self.facts.now);
        let lifetime_days = lifetime(judged.live).as_secs().saturating_add(86_399) / 86_400;
        let crossed = |days: u32| i64::from(days) * 3 <= lifetime_days && left <= SignedDuration::from_hours(24 * i64::from(days));
        self.facts.settings.thresholds.iter().copied().filter(|days| crossed(*days)).min()
    }

    /// A provider of this certificate says that our clock is wrong; or another does, and this one's was not heard.
    fn clock_is_in_doubt(&self, certificate: &CertificateReport) -> bool {
        self.facts.report.incidents.iter().filter(|incident| incident.event == EventKind::ClockSkew).any(|incident| {
            incident.provider.as_ref().is_none_or(|provider| *provider == certificate.provider) || !asked_well(certificate)
        })
    }

    /// Whether what clients see ends within [`super::LAST_DAYS`].
    pub(super) fn ends_soon(&self, certificate: &CertificateReport) -> bool {
        let judged = judged(certificate, self.record(&certificate.name));
        !self.clock_is_in_doubt(certificate) && judged.is_some_and(|judged| judged.until.duration_since(self.facts.now) <= super::LAST_DAYS)
    }
}

/// The live certificate, or the older one that ends first among those still served for it.
fn judged<'a>(certificate: &'a CertificateReport, record: Option<&CertificateRecord>) -> Option<Judged<'a>> {
    let live = certificate.live.as_ref()?;
    let older = |served: &&Served| {
        let differs = served.fingerprint.is_some_and(|shown| shown != live.fingerprint);
        differs && served.not_after.is_some_and(|end| end < live.not_after) && !never_matched(record, served)
    };
    let oldest = certificate.served.iter().filter(older).min_by_key(|served| served.not_after);
    if let Some(served) = oldest
        && let (Some(fingerprint), Some(until)) = (served.fingerprint, served.not_after)
    {
        return Some(Judged { fingerprint, until, served: Some(served), live });
    }
    Some(Judged { fingerprint: live.fingerprint, until: live.not_after, served: None, live })
}

/// A pair that never served this entry's certificate shows somebody else's; that is no older one of ours.
fn never_matched(record: Option<&CertificateRecord>, served: &Served) -> bool {
    let pairs = record.into_iter().flat_map(|record| record.targets.values()).flat_map(|delivery| &delivery.never_matched);
    pairs.into_iter().any(|pair| pair.contains(&served.address) && pair.contains(&served.name))
}

/// Whether a look failed where this leaf was last seen served: then it is not over yet.
fn still_shown(certificate: &CertificateReport, record: Option<&CertificateRecord>, fingerprint: Option<Fingerprint>) -> bool {
    let unseen = certificate.served.iter().any(|served| served.fingerprint.is_none());
    unseen && fingerprint.is_some() && record.is_some_and(|record| record.targets.values().any(|delivery| delivery.verified == fingerprint))
}

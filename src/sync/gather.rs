//! What one entry should have live: asks its provider, reads what comes, and decides. Writes nothing.
//!
//! Start at [`gather`]. It never fails as a whole: what went wrong is the [`Finding`]'s verdict.

use jiff::Timestamp;

use crate::certificate::{self, Bundle, Roots};
use crate::config::{Certificate, Wanted};
use crate::ledger::CertificateRecord;
use crate::report::{Failure, SuccessorNote, Valid};
use crate::store::Installed;

use super::accounts::{Account, Holdings, seen};
use super::done::is_checked;
use super::offer::{fetch, key_file_hash};
use super::plan::{self, Decision, Facts, Policy};
use super::renewal::look_for_successor;

/// What was found for one entry.
pub(super) struct Finding {
    /// The provider's id that the finding is about.
    pub id: Option<String>,
    pub valid: Option<Valid>,
    pub verdict: Verdict,
    /// What the listing said of `id`; `None`: there is no listing.
    pub seen: Option<String>,
    /// Whether the certificate itself was fetched and looked at.
    pub fetched: bool,
    pub key_file_hash: Option<String>,
    pub successor: Option<SuccessorNote>,
    pub near_misses: Vec<String>,
    /// Candidates to remember as unfit.
    pub unfit: Vec<Unfit>,
    /// Keys of candidates remembered as unfit that are listed no more, or are judged by something else now.
    pub stale: Vec<String>,
    pub notes: Vec<String>,
}

/// A candidate that cannot be adopted.
pub(super) struct Unfit {
    /// What the listing said of it, and by what it was judged: what changes either opens the question again.
    pub key: String,
    /// In words.
    pub why: String,
    /// When another look is worth it; `None`: not as long as the key stays the same.
    pub again: Option<Again>,
}

/// What may make a candidate fit by itself.
pub(super) enum Again {
    /// Then it starts, and that is all that is wrong with it.
    Starts(Timestamp),
    /// The provider did not send it, and may then.
    Asked(Timestamp),
}

/// What to do for one entry.
pub(super) enum Verdict {
    /// What is live is right.
    Unchanged,
    /// Make this live.
    Install { bundle: Box<Bundle>, why: String },
    /// Fetched, but not now.
    Hold { bundle: Box<Bundle>, why: String, until: Option<Timestamp> },
    /// Fetched before and held since; not fetched again.
    StillHeld,
    /// Refused or not to be had.
    Failed(Failure),
}

/// All that [`gather`] looks at.
pub(super) struct Case<'a> {
    pub entry: &'a Certificate,
    pub record: &'a CertificateRecord,
    pub live: Option<&'a Installed>,
    /// The generation that was fetched but is not live: it waits for a window, or for its next try.
    pub waiting: Option<&'a Installed>,
    pub account: &'a Account,
    pub roots: &'a Roots,
    /// Fetch although nothing seems to have changed.
    pub force: bool,
    /// The operator named this entry with `--force`.
    pub insist: bool,
    /// Somebody may have mended what a provider refused: the operator who runs this pass, or reloaded the daemon before it.
    pub ask_again: bool,
    pub now: Timestamp,
    /// The time that dates of certificates are judged by: `now`, or the provider's where the two are far apart (decision 25).
    pub dated: Timestamp,
}

/// Finds out what `case.entry` should have live.
pub(super) async fn gather(case: &Case<'_>) -> Finding {
    let id = current_id(case.entry, case.record).map(str::to_owned);
    let mut finding = Finding::about(id.clone());
    if let Holdings::Down(failure) = &case.account.holdings {
        finding.verdict = Verdict::Failed(failure.clone());
        return finding;
    }
    let row = match &id {
        Some(id) => case.account.row(id).await,
        None => None,
    };
    finding.valid = row.as_ref().and_then(|row| row.valid);
    finding.seen = row.as_ref().map(seen);
    if let Some(better) = look_for_successor(case, id.as_deref(), row.as_ref(), &mut finding).await {
        return better;
    }
    match &id {
        None => finding.verdict = Verdict::Failed(nothing_covers(case, &finding)),
        Some(id) => look_at_current(case, id, &mut finding).await,
    }
    finding
}

impl Finding {
    /// Nothing was asked.
    pub fn nothing() -> Finding {
        Finding::about(None)
    }

    pub(super) fn about(id: Option<String>) -> Finding {
        Finding {
            id,
            valid: None,
            verdict: Verdict::Unchanged,
            seen: None,
            fetched: false,
            key_file_hash: None,
            successor: None,
            near_misses: Vec::new(),
            unfit: Vec::new(),
            stale: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// The key under which a record belongs to what the inventory says today.
pub(super) fn wanted_key(entry: &Certificate) -> String {
    match &entry.wanted {
        Wanted::Id(id) => format!("{}/id/{id}", entry.provider),
        Wanted::Domain(domain) => format!("{}/domain/{domain}", entry.provider),
    }
}

/// Whether `key` is the entry's [`wanted_key`].
pub(super) fn is_wanted(entry: &Certificate, key: &str) -> bool {
    let (kind, wanted) = match &entry.wanted {
        Wanted::Id(id) => ("/id/", id),
        Wanted::Domain(domain) => ("/domain/", domain),
    };
    key.strip_prefix(&*entry.provider).and_then(|rest| rest.strip_prefix(kind)).is_some_and(|rest| rest == wanted)
}

/// The provider's id to ask for: the adopted one, else the configured one; `None` for a domain nothing was chosen for yet.
pub(super) fn current_id<'a>(entry: &'a Certificate, record: &'a CertificateRecord) -> Option<&'a str> {
    let adopted = record.id.as_deref().filter(|_| is_wanted(entry, &record.wanted));
    match &entry.wanted {
        Wanted::Id(id) => Some(adopted.unwrap_or(id)),
        Wanted::Domain(_) => adopted,
    }
}

async fn look_at_current(case: &Case<'_>, id: &str, finding: &mut Finding) {
    finding.key_file_hash = key_file_hash(case.entry);
    if !needs_fetch(case, finding) {
        finding.verdict = if case.record.open.held.is_some() { Verdict::StillHeld } else { Verdict::Unchanged };
        return;
    }
    if let Some(waiting) = case.waiting.filter(|_| finding.seen.is_some() && finding.seen == case.record.seen && !case.force) {
        // It is on disk already: no key needs to move again.
        finding.verdict = weigh(case, waiting.bundle.clone());
        return;
    }
    match fetch(case, id).await {
        Err(none) => finding.verdict = Verdict::Failed(none.failure().context(format!("failed to fetch certificate `{id}`"))),
        Ok(offer) => {
            finding.fetched = true;
            finding.valid = offer.valid.or(finding.valid);
            finding.notes.extend(offer.notes);
            finding.verdict = match weigh(case, offer.bundle) {
                Verdict::Unchanged if successor_waits(case, id) => Verdict::StillHeld,
                verdict => verdict,
            };
        }
    }
}

/// Whether the newest certificate fetched is a successor that a server rejected and that the account still has: what is live is right for
/// now, and yet the matter is not over.
fn successor_waits(case: &Case<'_>, id: &str) -> bool {
    let rejection = case.record.open.rejected.iter().find(|rejection| Some(rejection.fingerprint) == case.record.fetched);
    let other = rejection.and_then(|rejection| rejection.id.as_deref()).filter(|other| *other != id);
    case.record.open.held.is_some() && other.is_some_and(|other| case.account.listed(other).is_some())
}

/// Whether the certificate must be fetched although a listing may say that nothing changed.
fn needs_fetch(case: &Case<'_>, finding: &Finding) -> bool {
    let record = case.record;
    let held_still = record.open.held.is_some() && record.open.held_until.is_none_or(|until| until > case.now);
    let live_is_fetched = case.live.is_some_and(|live| record.fetched == Some(live.bundle.fingerprint()));
    case.force
        || finding.seen.is_none()
        || finding.seen != record.seen
        || !is_wanted(case.entry, &record.wanted)
        || !is_checked(record, case.now)
        || record.key_file_hash != finding.key_file_hash
        || record.open.last_error.is_some()
        || case.live.is_some_and(|live| is_stand_in(live) || !missing(&live.bundle, demanded(case.entry).into_iter()).is_empty())
        || (!live_is_fetched && !held_still)
}

/// Decides on a fetched bundle.
pub(super) fn weigh(case: &Case<'_>, bundle: Bundle) -> Verdict {
    let offered = Facts::of(&bundle);
    let policy = Policy {
        missing_names: missing(&bundle, demanded(case.entry).into_iter()),
        insist: case.insist,
        rejection: case.record.open.rejected.iter().find(|rejection| rejection.fingerprint == offered.fingerprint),
    };
    let installed = case.live.map(|live| Facts::of(&live.bundle));
    match plan::decide(installed.as_ref(), &offered, &policy, case.dated) {
        Decision::Unchanged => Verdict::Unchanged,
        Decision::Install { why } => Verdict::Install { bundle: Box::new(bundle), why },
        Decision::Hold { why, until } => Verdict::Hold { bundle: Box::new(bundle), why, until },
        Decision::Refuse(failure) => Verdict::Failed(failure),
    }
}

/// Whether what is live is only our own stand-in.
pub(super) fn is_stand_in(live: &Installed) -> bool {
    certificate::is_placeholder(&live.bundle)
}

/// Every name the entry asks for.
pub(super) fn demanded(entry: &Certificate) -> Vec<&str> {
    let mut names: Vec<&str> = entry.names.iter().map(String::as_str).collect();
    if let Wanted::Domain(domain) = &entry.wanted
        && !names.contains(&domain.as_str())
    {
        names.push(domain);
    }
    names
}

pub(super) fn missing<'n>(bundle: &Bundle, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    names.filter(|name| !bundle.covers(name)).map(str::to_owned).collect()
}

fn nothing_covers(case: &Case<'_>, finding: &Finding) -> Failure {
    let domain = match &case.entry.wanted {
        Wanted::Domain(domain) => domain.as_str(),
        Wanted::Id(id) => id.as_str(),
    };
    let mut causes = vec![format!("found no deployable certificate for `{domain}` in the account")];
    if let Holdings::OneByOne(failure) = &case.account.holdings {
        causes.push(format!("the account cannot be listed: {failure}"));
    }
    causes.extend(finding.near_misses.iter().map(|miss| format!("candidate {miss}")));
    Failure {
        kind: "not_found".to_owned(),
        causes,
        hint: Some(format!("`certsyncd list {}` shows what the account holds", case.entry.provider)),
        transient: false,
    }
}

//! What one entry should have live: asks its provider, reads what comes, and decides. Writes nothing.
//!
//! Start at [`gather`]. It never fails as a whole: what went wrong is the [`Finding`]'s verdict.

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, oneshot};

use crate::archive;
use crate::atomic;
use crate::certificate::{self, Bundle, Piece, Roots};
use crate::config::{Certificate, Successor, Trust, Wanted};
use crate::failpoint;
use crate::ledger::CertificateRecord;
use crate::provider::{Fetched, Listed, Payload};
use crate::report::{Failure, SuccessorNote, Valid};
use crate::store::Installed;

use super::accounts::{Account, Holdings, failure, seen};
use super::plan::{self, Decision, Facts, Policy};
use super::successor::{self, Measure, Wish};

/// Candidates fetched per entry and pass at most: each fetch moves a private key.
const CANDIDATES_PER_PASS: usize = 3;
/// Archives on their way or in hand at once: each may be [`archive::MAX_ARCHIVE_BYTES`] long.
static ARCHIVES: Semaphore = Semaphore::const_new(2);
/// Answers read at once: a RAR may ask for a dictionary of 32 MiB, and one after the other they are as quick.
static READING: Semaphore = Semaphore::const_new(1);
/// A key file is a few kilobytes; more is not a key file.
const MAX_KEY_FILE: u64 = 256 * 1024;

/// The kind of a failure that is our own: it says nothing about the certificate.
const DEFECT: &str = "panic";

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
    pub notes: Vec<String>,
}

/// A candidate that was fetched and cannot be adopted.
pub(super) struct Unfit {
    /// What the listing said of it, and by what it was judged: what changes either opens the question again.
    pub key: String,
    /// In words.
    pub why: String,
    /// When it starts, where that is all that is wrong with it.
    pub until: Option<Timestamp>,
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
    pub now: Timestamp,
    /// The time that dates of certificates are judged by: `now`, or the provider's where the two are far apart (decision 25).
    pub dated: Timestamp,
}

/// Finds out what `case.entry` should have live.
pub(super) async fn gather(case: &Case<'_>) -> Finding {
    let id = current_id(case.entry, case.record);
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

    fn about(id: Option<String>) -> Finding {
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

/// The provider's id to ask for: the adopted one, else the configured one; `None` for a domain nothing was chosen for yet.
pub(super) fn current_id(entry: &Certificate, record: &CertificateRecord) -> Option<String> {
    let adopted = record.id.clone().filter(|_| record.wanted == wanted_key(entry));
    match &entry.wanted {
        Wanted::Id(id) => Some(adopted.unwrap_or_else(|| id.clone())),
        Wanted::Domain(_) => adopted,
    }
}

async fn look_at_current(case: &Case<'_>, id: &str, finding: &mut Finding) {
    finding.key_file_hash = key_file_hash(case.entry);
    if !needs_fetch(case, finding) {
        finding.verdict = if case.record.held.is_some() { Verdict::StillHeld } else { Verdict::Unchanged };
        return;
    }
    if let Some(waiting) = case.waiting.filter(|_| finding.seen.is_some() && finding.seen == case.record.seen && !case.force) {
        // It is on disk already: no key needs to move again.
        finding.verdict = weigh(case, waiting.bundle.clone());
        return;
    }
    match fetch(case, id).await {
        Err(failure) => finding.verdict = Verdict::Failed(failure.context(format!("failed to fetch certificate `{id}`"))),
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
    let rejection = case.record.rejected.iter().find(|rejection| Some(rejection.fingerprint) == case.record.fetched);
    let other = rejection.and_then(|rejection| rejection.id.as_deref()).filter(|other| *other != id);
    case.record.held.is_some() && other.is_some_and(|other| case.account.listed(other).is_some())
}

/// Whether the certificate must be fetched although a listing may say that nothing changed.
fn needs_fetch(case: &Case<'_>, finding: &Finding) -> bool {
    let record = case.record;
    let held_still = record.held.is_some() && record.held_until.is_none_or(|until| until > case.now);
    let live_is_fetched = case.live.is_some_and(|live| record.fetched == Some(live.bundle.fingerprint()));
    case.force
        || finding.seen.is_none()
        || finding.seen != record.seen
        || record.wanted != wanted_key(case.entry)
        || record.full_check.is_none_or(|due| due <= case.now)
        || record.key_file_hash != finding.key_file_hash
        || record.last_error.is_some()
        || case.live.is_some_and(|live| is_stand_in(live) || !missing(&live.bundle, demanded(case.entry).into_iter()).is_empty())
        || (!live_is_fetched && !held_still)
}

/// Decides on a fetched bundle.
fn weigh(case: &Case<'_>, bundle: Bundle) -> Verdict {
    let offered = Facts::of(&bundle);
    let policy = Policy {
        missing_names: missing(&bundle, demanded(case.entry).into_iter()),
        insist: case.insist,
        rejection: case.record.rejected.iter().find(|rejection| rejection.fingerprint == offered.fingerprint),
    };
    let installed = case.live.map(|live| Facts::of(&live.bundle));
    match plan::decide(installed.as_ref(), &offered, &policy, case.dated) {
        Decision::Unchanged => Verdict::Unchanged,
        Decision::Install { why } => Verdict::Install { bundle: Box::new(bundle), why },
        Decision::Hold { why, until } => Verdict::Hold { bundle: Box::new(bundle), why, until },
        Decision::Refuse(failure) => Verdict::Failed(failure),
    }
}

/// What was fetched and is proved to be a pair.
struct Offer {
    bundle: Bundle,
    valid: Option<Valid>,
    notes: Vec<String>,
}

async fn fetch(case: &Case<'_>, id: &str) -> Result<Offer, Failure> {
    // The semaphores are never closed.
    let _turn = if case.account.sends_archives { ARCHIVES.acquire().await.ok() } else { None };
    let Fetched { payload, valid, notes, .. } = case.account.client.fetch(id).await.map_err(|error| failure(&error))?;
    let key_file = case.entry.key_file.clone();
    let bundle = read_apart(move || read_bundle(payload, key_file.as_deref())).await?;
    let mut notes = notes;
    notes.extend(bundle.gaps().iter().cloned());
    Ok(Offer { bundle, valid, notes })
}

/// Reading is a matter of a processor: a parser that panics is this certificate's failure alone.
///
/// One at a time, each in a thread that ends with it: what a greedy archive took goes to the next one, where the threads of a pool would
/// each keep their own (measured: 130 MiB with eight of them, 50 with one).
async fn read_apart<T: Send + 'static>(read: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let reading = READING.acquire().await.ok();
    let (answer, answered) = oneshot::channel();
    let work = move || {
        failpoint::reach("sync.read");
        let done = read();
        drop(reading);
        let _ = answer.send(done);
    };
    let failed = |why: String| Failure {
        kind: DEFECT.to_owned(),
        causes: vec![format!("failed to read what the provider sent: {why}")],
        hint: Some("please report it, with the place that the log names; the other certificates go on".to_owned()),
        transient: false,
    };
    std::thread::Builder::new().name("reader".to_owned()).spawn(work).map_err(|error| failed(error.to_string()))?;
    answered.await.unwrap_or_else(|_| Err(failed("a defect of certsyncd ended it".to_owned())))
}

fn read_bundle(payload: Payload, key_file: Option<&std::path::Path>) -> Result<Bundle, Failure> {
    let mut pieces = match payload {
        Payload::Pem(pieces) => pieces,
        Payload::Archive(bytes) => unpack(&bytes)?,
    };
    match (Bundle::assemble(&pieces), key_file) {
        (Ok(bundle), _) => Ok(bundle),
        (Err(certificate::Error::NoKey { .. }), Some(path)) => {
            pieces.push(read_key_file(path)?);
            Bundle::assemble(&pieces)
                .map_err(|error| refused(&error).context(format!("failed to use key file `{}`", path.display())))
        }
        (Err(error), _) => Err(refused(&error)),
    }
}

fn unpack(bytes: &[u8]) -> Result<Vec<Piece>, Failure> {
    let entries = archive::unpack(bytes).map_err(|error| Failure::new(error.kind(), &error).hint(error.hint()))?;
    Ok(entries.into_iter().map(|entry| Piece { name: entry.name, bytes: entry.bytes }).collect())
}

fn read_key_file(path: &std::path::Path) -> Result<Piece, Failure> {
    let hint = "the provider has no key for this certificate, so this file must hold it; let the user `certsyncd` read it";
    let failed =
        |failure: Failure| failure.context(format!("failed to read key file `{}`", path.display())).hint(Some(hint.to_owned()));
    match atomic::read(path, MAX_KEY_FILE) {
        Ok(Some(bytes)) => Ok(Piece { name: path.display().to_string(), bytes }),
        Ok(None) => Err(failed(Failure {
            kind: "key_file".to_owned(),
            causes: vec!["there is no such file".to_owned()],
            hint: None,
            transient: false,
        })),
        Err(error) => Err(failed(Failure::new("key_file", &error))),
    }
}

/// Whether what is live is only our own stand-in.
fn is_stand_in(live: &Installed) -> bool {
    certificate::is_placeholder(&live.bundle)
}

fn refused(error: &certificate::Error) -> Failure {
    Failure::new(error.kind(), error).hint(error.hint())
}

fn key_file_hash(entry: &Certificate) -> Option<String> {
    let bytes = atomic::read(entry.key_file.as_deref()?, MAX_KEY_FILE).ok().flatten()?;
    Some(hex::encode(Sha256::digest(bytes.as_slice())))
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

fn missing<'n>(bundle: &Bundle, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    names.filter(|name| !bundle.covers(name)).map(str::to_owned).collect()
}

/// Looks for a renewal (or, for a domain, the first choice); `Some` when one is to be installed.
async fn look_for_successor(case: &Case<'_>, id: Option<&str>, row: Option<&Listed>, finding: &mut Finding) -> Option<Finding> {
    let is_another_wish = !case.record.wanted.is_empty() && case.record.wanted != wanted_key(case.entry);
    if id.is_some() && (case.live.is_none() || (row.is_none() && is_another_wish)) {
        // Nothing live yet, or the operator wrote another id: that one comes first, and whether there is a better one is the next pass's
        // question.
        return None;
    }
    let current = row.map(|row| case.account.as_row(row));
    let names = names_to_cover(case);
    let rows = case.account.rows(&names);
    let wish = Wish { current: current.as_ref(), current_id: id, names: &names };
    let candidates: Vec<&Listed> =
        successor::candidates(&rows, &wish).into_iter().filter_map(|row| case.account.listed(&row.id)).collect();
    if id.is_some() && case.entry.successor != Successor::Adopt {
        // A pinned one: only say that there is another.
        note_newer(&candidates, row, finding);
        return None;
    }
    if candidates.is_empty() && case.record.unfit.is_empty() {
        return None;
    }
    let context = context(case, &names);
    for (key, why) in case.record.unfit.iter().filter(|(key, _)| key.ends_with(&context)) {
        finding.near_misses.extend(near_miss(case.account, key, why));
    }
    let open: Vec<&Listed> = candidates.into_iter().filter(|row| is_open(case, row, &context)).collect();
    choose(case, &open, &names, &context, finding).await
}

/// Whether a candidate was neither found unfit as it is listed now, nor rejected by a server for the time being.
fn is_open(case: &Case<'_>, row: &Listed, context: &str) -> bool {
    let key = unfit_key(row, context);
    let unfit = case.record.unfit.contains_key(&key) && case.record.unfit_until.get(&key).is_none_or(|starts| *starts > case.now);
    let as_then = case.record.rejected_seen.get(&row.id).is_none_or(|then| *then == seen(row));
    let rejected = |r: &crate::ledger::Rejection| {
        r.id.as_deref() == Some(row.id.as_str()) && as_then && r.next_try.is_none_or(|at| at > case.now)
    };
    let former = case.record.former_ids.contains(&row.id);
    case.insist || (!unfit && !case.record.rejected.iter().any(rejected) && !former)
}

fn unfit_key(row: &Listed, context: &str) -> String {
    format!("{}|{context}", seen(row))
}

/// By what a candidate is judged besides itself, as a short text: what is live, the names asked for, the key file, whom we trust, and who
/// judges.
fn context(case: &Case<'_>, names: &[String]) -> String {
    let live = case.live.map(|live| live.bundle.fingerprint().to_string()).unwrap_or_default();
    let trust = if case.entry.trust == Trust::Any { "any" } else { "public" };
    let key_file = key_file_hash(case.entry).unwrap_or_default();
    // What an earlier version could not read, this one may.
    let parts = [live.as_str(), &names.join(","), trust, &key_file, &case.roots.fingerprint(), env!("CARGO_PKG_VERSION")];
    hex::encode(Sha256::digest(parts.join("|")).get(..8).unwrap_or_default())
}

/// Names a successor must cover: the entry's, and those of what is live.
fn names_to_cover(case: &Case<'_>) -> Vec<String> {
    let mut names: Vec<String> = demanded(case.entry).into_iter().map(str::to_owned).collect();
    if let Some(live) = case.live.filter(|live| !is_stand_in(live)) {
        names.extend(live.bundle.names().iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
    }
    names
}

fn note_newer(candidates: &[&Listed], row: Option<&Listed>, finding: &mut Finding) {
    let later = candidates.iter().find(|candidate| row.is_none_or(|row| candidate.not_after > row.not_after));
    if let Some(newest) = later {
        finding.successor = Some(SuccessorNote { id: newest.id.clone(), not_after: newest.not_after.clone() });
    }
}

fn near_miss(account: &Account, key: &str, why: &str) -> Option<String> {
    let id = key.split('|').next()?;
    account.listed(id).map(|_| format!("`{id}` {why}"))
}

async fn choose(
    case: &Case<'_>,
    candidates: &[&Listed],
    names: &[String],
    context: &str,
    finding: &mut Finding,
) -> Option<Finding> {
    if candidates.is_empty() {
        return None;
    }
    let measure = measure(case);
    let mut fitting = Vec::new();
    for row in candidates.iter().take(CANDIDATES_PER_PASS) {
        match fetch(case, &row.id).await {
            // What could not be fetched or read now may be next time; what was refused is remembered as it is listed.
            Err(failure) if failure.transient || failure.kind == DEFECT => {
                finding.notes.push(format!("failed to fetch candidate `{}`: {failure}", row.id))
            }
            Err(failure) => unfit(finding, row, context, &failure.to_string(), None),
            Ok(offer) => {
                if case.live.is_some_and(|live| live.bundle.fingerprint() == offer.bundle.fingerprint()) {
                    // It is live already, only its id was forgotten with a lost ledger.
                    return Some(recognised(case, row, offer));
                }
                let fetched = facts(&offer.bundle, names, case);
                match successor::judge(&fetched, &measure, case.dated) {
                    Some(why) => {
                        let until = Some(fetched.not_before).filter(|start| *start > case.dated);
                        unfit(finding, row, context, &why, until);
                    }
                    None => fitting.push((fetched, (offer, (*row).clone()))),
                }
            }
        }
    }
    let (_, (offer, row)) = successor::best(fitting)?;
    let mut better = recognised(case, &row, offer);
    better.unfit = std::mem::take(&mut finding.unfit);
    better.near_misses = std::mem::take(&mut finding.near_misses);
    Some(better)
}

/// The finding for a candidate that was fetched.
fn recognised(case: &Case<'_>, row: &Listed, offer: Offer) -> Finding {
    Finding {
        valid: offer.valid.or(row.valid),
        seen: Some(seen(row)),
        fetched: true,
        key_file_hash: key_file_hash(case.entry),
        notes: offer.notes,
        verdict: weigh(case, offer.bundle),
        ..Finding::about(Some(row.id.clone()))
    }
}

fn unfit(finding: &mut Finding, row: &Listed, context: &str, why: &str, until: Option<Timestamp>) {
    // Words of an earlier look at the same one are over.
    finding.near_misses.retain(|miss| !miss.starts_with(&format!("`{}` ", row.id)));
    finding.near_misses.push(format!("`{}` {why}", row.id));
    finding.unfit.push(Unfit { key: unfit_key(row, context), why: why.to_owned(), until });
}

fn measure(case: &Case<'_>) -> Measure {
    match case.live.filter(|live| !is_stand_in(live)) {
        Some(live) => Measure {
            not_after: Some(live.bundle.not_after()),
            must_be_trusted: live.bundle.verifies(case.roots, sane_now(live, case.dated)),
            may_be_self_signed: live.bundle.is_self_signed(),
        },
        None => Measure {
            not_after: None,
            must_be_trusted: case.entry.trust == Trust::Public,
            may_be_self_signed: case.entry.trust == Trust::Any,
        },
    }
}

/// An expired certificate is judged for trust at a moment when it was valid.
fn sane_now(live: &Installed, now: Timestamp) -> Timestamp {
    let last = live.bundle.not_after().checked_sub(SignedDuration::from_secs(1)).unwrap_or(now);
    now.min(last)
}

fn facts(bundle: &Bundle, names: &[String], case: &Case<'_>) -> successor::Fetched {
    successor::Fetched {
        fingerprint: bundle.fingerprint(),
        missing_names: missing(bundle, names.iter().map(String::as_str)),
        not_before: bundle.not_before(),
        not_after: bundle.not_after(),
        trusted: bundle.verifies(case.roots, case.dated),
        self_signed: bundle.is_self_signed(),
    }
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

//! What else the account has for an entry: candidates out of the listing, fetched and held against what is live.
//!
//! Start at [`look_for_successor`]. [`super::successor`] decides, without asking anybody; here it is asked, and what will not do is remembered, so
//! that its key does not move again.

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::certificate::Bundle;
use crate::config::{Successor, Trust};
use crate::ledger::is_awaited;
use crate::provider::Listed;
use crate::report::{Failure, SuccessorNote};
use crate::store::Installed;

use super::accounts::{Holdings, seen};
use super::gather::{Again, Case, Finding, Unfit, demanded, is_stand_in, missing, wanted_key, weigh};
use super::offer::{DEFECT, NoOffer, Offer, fetch, key_file_hash};
use super::plan::is_out;
use super::successor::{self, Measure, Wish};

/// Candidates fetched per entry and pass at most: each fetch moves a private key.
const CANDIDATES_PER_PASS: usize = 3;
/// When a provider is asked again for a candidate that it did not send, where something is live meanwhile: no key moves by asking, but a
/// certificate that cannot be exported is no reason for a request in each pass.
const ASK_AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// Looks for a renewal (or, for a domain, the first choice); `Some` when one is to be installed.
pub(super) async fn look_for_successor(
    case: &Case<'_>,
    id: Option<&str>,
    row: Option<&Listed>,
    finding: &mut Finding,
) -> Option<Finding> {
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
        finding.stale = case.record.open.unfit.keys().cloned().collect();
        return None;
    }
    if candidates.is_empty() && case.record.open.unfit.is_empty() {
        return None;
    }
    let context = context(case, &names);
    recall_unfit(case, &candidates, &context, finding);
    let open = candidates.into_iter().filter(|row| is_open(case, row, &context));
    // Those that were not sent before come last: three that never are must not stand in the way of a fourth.
    let was_unsent = |row: &&Listed| case.record.open.ask_again.contains_key(&unfit_key(row, &context));
    let (again, mut open): (Vec<&Listed>, Vec<&Listed>) = open.partition(was_unsent);
    open.extend(again);
    choose(case, &open, &names, &context, finding).await
}

/// Names those remembered as unfit that are listed as they were then; what is remembered of others is over.
fn recall_unfit(case: &Case<'_>, candidates: &[&Listed], context: &str, finding: &mut Finding) {
    for (key, why) in &case.record.open.unfit {
        match candidates.iter().find(|row| unfit_key(row, context) == *key) {
            Some(row) => finding.near_misses.push(format!("`{}` {why}", row.id)),
            None if matches!(case.account.holdings, Holdings::Listed { .. }) => finding.stale.push(key.clone()),
            None => {}
        }
    }
}

/// Whether a candidate was neither found unfit as it is listed now, nor rejected by a server for the time being.
fn is_open(case: &Case<'_>, row: &Listed, context: &str) -> bool {
    let key = unfit_key(row, context);
    let open = &case.record.open;
    let unfit = open.unfit.contains_key(&key)
        && open.unfit_until.get(&key).is_none_or(|starts| *starts > case.now)
        && open
            .ask_again
            .get(&key)
            .is_none_or(|at| is_awaited(*at, case.now, ASK_AGAIN) && !case.ask_again && case.live.is_some());
    let as_then = case.record.open.rejected_seen.get(&row.id).is_none_or(|then| *then == seen(row));
    let rejected = |r: &crate::ledger::Rejection| r.id.as_deref() == Some(row.id.as_str()) && as_then && is_out(r, case.now);
    let former = case.record.former_ids.contains(&row.id);
    case.insist || (!unfit && !case.record.open.rejected.iter().any(rejected) && !former)
}

fn note_newer(candidates: &[&Listed], row: Option<&Listed>, finding: &mut Finding) {
    let later = candidates.iter().find(|candidate| row.is_none_or(|row| candidate.not_after > row.not_after));
    if let Some(newest) = later {
        finding.successor = Some(SuccessorNote { id: newest.id.clone(), not_after: newest.not_after.clone() });
    }
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
            // What could not be fetched or read now may be next time; what will not do is remembered as it is listed.
            Err(NoOffer::Unsent(failure) | NoOffer::Refused(failure)) if failure.transient || failure.kind == DEFECT => {
                finding.notes.push(format!("failed to fetch candidate `{}`: {failure}", row.id))
            }
            Err(NoOffer::Unsent(failure)) => {
                let again = case.now.checked_add(ASK_AGAIN).ok().map(Again::Asked);
                unfit(finding, row, context, &format!("was not sent: {}", in_full(&failure)), again);
            }
            Err(NoOffer::Refused(failure)) => unfit(finding, row, context, &format!("will not do: {}", in_full(&failure)), None),
            Ok(offer) => {
                if case.live.is_some_and(|live| live.bundle.fingerprint() == offer.bundle.fingerprint()) {
                    // It is live already, only its id was forgotten with a lost ledger.
                    return Some(recognised(case, row, offer));
                }
                let fetched = facts(&offer.bundle, names, case);
                match successor::judge(&fetched, &measure, case.dated) {
                    Some(why) => {
                        let again = Some(fetched.not_before).filter(|start| *start > case.dated).map(Again::Starts);
                        unfit(finding, row, context, &why, again);
                    }
                    None => fitting.push((fetched, (offer, (*row).clone()))),
                }
            }
        }
    }
    let (_, (offer, row)) = successor::best(fitting)?;
    unsay(finding, &row);
    let mut better = recognised(case, &row, offer);
    better.unfit = std::mem::take(&mut finding.unfit);
    better.stale = std::mem::take(&mut finding.stale);
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

fn unfit(finding: &mut Finding, row: &Listed, context: &str, why: &str, again: Option<Again>) {
    unsay(finding, row);
    finding.near_misses.push(format!("`{}` {why}", row.id));
    finding.unfit.push(Unfit { key: unfit_key(row, context), why: why.to_owned(), again });
}

/// With what mends it.
fn in_full(failure: &Failure) -> String {
    failure.hint.iter().fold(failure.to_string(), |words, hint| format!("{words} ({hint})"))
}

/// Words of an earlier look at the same one are over.
fn unsay(finding: &mut Finding, row: &Listed) {
    finding.near_misses.retain(|miss| !miss.starts_with(&format!("`{}` ", row.id)));
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

/// Names a successor must cover: the entry's, and those of what is live.
fn names_to_cover(case: &Case<'_>) -> Vec<String> {
    let mut names: Vec<String> = demanded(case.entry).into_iter().map(str::to_owned).collect();
    if let Some(live) = case.live.filter(|live| !is_stand_in(live)) {
        names.extend(live.bundle.names().iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
    }
    names
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

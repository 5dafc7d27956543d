//! Entries about which there is nothing to do, told without reading a file: by the listing, the ledger, and the notes of the file system.
//!
//! Start at [`Sync::glance`], which looks at the disk while the providers are asked, then [`Quiet::of`]. Whatever is in doubt is no quiet
//! entry and gets the full look of [`super::pass`], which is also due once a day for each.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use jiff::Timestamp;

use crate::certificate::covers;
use crate::config::{Certificate, Format, Settings, Wanted};
use crate::ledger::{CertificateRecord, Ledger, Mark};
use crate::provider::Listed;
use crate::report::{Action, CertificateReport, Live};
use crate::store::Seal;

use super::accounts::{Account, is_seen};
use super::context::Context;
use super::done::is_untold;
use super::gather::{current_id, demanded, is_wanted};
use super::successor::{self, Wish};
use super::{Scope, Sync, Sync_};

/// Threads that look at the disk at most: more wait for each other in the kernel.
const MAX_THREADS: usize = 4;
/// Entries that a thread takes at once.
const PART: usize = 128;

/// What the disk tells of an entry without reading a file.
#[derive(Clone, Default)]
pub(super) struct Glance {
    /// Of what is live; `None` where there is nothing to compare, or that is missing.
    pub seal: Option<Seal>,
    /// Whether it is the seal that was remembered: then nobody touched what is live.
    pub is_untouched: bool,
    /// Whether nothing of it is there, and nothing is remembered: it was never installed.
    pub is_bare: bool,
}

/// What the disk tells before anything in it is read.
pub(super) struct Glances {
    /// By place in the inventory.
    pub each: Vec<Glance>,
    /// The folders of links and of generations, to be known again.
    pub folders: Option<Mark>,
    /// Whether they are as they were: then nothing came, went or moved in them.
    pub are_undisturbed: bool,
}

impl Sync {
    /// A glance at the folders, then at each entry in scope.
    pub(super) async fn glance(&self, ledger: &Arc<Ledger>, scope: &Scope) -> Glances {
        let (store, known, now) = (self.store.clone(), ledger.folders, self.clock.now());
        let watch = tokio::task::spawn_blocking(move || {
            let watch = store.watch(known.map(|folders| folders.0))?;
            Some((watch.folders(now).map(Mark), watch.is_undisturbed()))
        });
        let (folders, are_undisturbed) = watch.await.ok().flatten().unwrap_or_default();
        Glances { each: self.glance_at_each(ledger, scope).await, folders, are_undisturbed }
    }

    async fn glance_at_each(&self, ledger: &Arc<Ledger>, scope: &Scope) -> Vec<Glance> {
        let (settings, store, ledger, names) = (self.settings.clone(), self.store.clone(), ledger.clone(), scope.names.clone());
        in_parts(self.settings.certificates.len(), move |part| {
            let Some(watch) = store.watch(ledger.folders.map(|folders| folders.0)) else { return Vec::new() };
            let glance = |entry: &Certificate| {
                let Some(record) = ledger.certificates.get(&entry.name) else {
                    return Some(Glance { is_bare: watch.has_none(&entry.name), ..Glance::default() });
                };
                let seal = watch.seal(&entry.name, &record.live.as_ref()?.generation, &entry.outputs)?;
                Some(Glance { is_untouched: record.seal == Some(Mark(seal.mark)), seal: Some(seal), is_bare: false })
            };
            let chosen = |entry: &&Certificate| names.as_ref().is_none_or(|names| names.contains(&entry.name));
            let entries = settings.certificates.get(part).unwrap_or_default();
            entries.iter().map(|entry| Some(entry).filter(chosen).and_then(glance).unwrap_or_default()).collect()
        })
        .await
    }
}

/// What `judge` says of each of so many, some threads at work; the default where it says nothing, or a defect ended it.
async fn in_parts<T>(size: usize, judge: impl Fn(Range<usize>) -> Vec<T> + Send + Sync_ + 'static) -> Vec<T>
where
    T: Clone + Default + Send + 'static,
{
    let threads = available_parallelism().map_or(1, usize::from).min(MAX_THREADS).min(size.div_ceil(PART));
    let shared = Arc::new((judge, AtomicUsize::new(0)));
    let work = |_| {
        let shared = shared.clone();
        tokio::task::spawn_blocking(move || {
            let (judge, next) = &*shared;
            let part = || {
                let start = next.fetch_add(PART, Ordering::Relaxed);
                (start < size).then(|| (start, judge(start..size.min(start + PART))))
            };
            std::iter::from_fn(part).collect::<Vec<_>>()
        })
    };
    let works: Vec<_> = (0..threads).map(work).collect();
    drop(shared);
    let mut all = vec![T::default(); size];
    for work in works {
        for (start, part) in work.await.unwrap_or_default() {
            all.iter_mut().skip(start).zip(part).for_each(|(place, told)| *place = told);
        }
    }
    all
}

/// The proof that there is nothing to do for an entry.
pub(super) struct Quiet<'a> {
    row: &'a Listed,
}

impl<'a> Quiet<'a> {
    /// `None`: there may be something to do.
    pub fn of(context: &'a Context, entry: &Certificate, record: &CertificateRecord, glance: &Glance) -> Option<Quiet<'a>> {
        if !glance.is_untouched || context.force || !is_settled(entry, record, context.now) {
            return None;
        }
        let account = context.accounts.get(&entry.provider)?;
        let id = current_id(entry, record)?;
        let row = account.listed(id)?;
        (is_seen(row, record.seen.as_deref()?) && !has_successor(account, entry, record, row)).then_some(Quiet { row })
    }

    /// Writes into the ledger that it was looked at; whether that time is all that is new.
    pub fn remember(
        &self,
        entry: &Certificate,
        record: &mut CertificateRecord,
        since: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        let valid = self.row.valid.or(record.valid);
        let is_same = since.is_some()
            && record.last_checked >= since
            && record.valid == valid
            && record.open.successor.is_none()
            && record.open.failures == 0
            && record.concluded == record.live.as_ref().map(|live| live.fingerprint)
            && record.targets.keys().all(|target| is_member(entry, target));
        record.last_checked = Some(now);
        record.valid = valid;
        if !record.open.is_nothing() {
            (record.open.successor, record.open.failures) = (None, 0);
            record.open.settle();
        }
        record.targets.retain(|target| is_member(entry, target));
        is_same
    }
}

/// What the pass reports of a quiet entry.
pub(super) fn report(entry: &Certificate, record: &CertificateRecord) -> CertificateReport {
    CertificateReport {
        name: entry.name.clone(),
        provider: entry.provider.clone(),
        action: Action::Unchanged,
        id: current_id(entry, record).map(str::to_owned),
        previous_id: None,
        first: false,
        made_up: false,
        live: record.live.clone(),
        valid: record.valid,
        error: None,
        held: None,
        successor: None,
        near_misses: Vec::new(),
        drift: Vec::new(),
        served: record.targets.values().flat_map(|told| told.served.iter().cloned()).collect(),
        notes: Vec::new(),
    }
}

/// Whether a target is one of the entry's.
fn is_member(entry: &Certificate, target: &str) -> bool {
    entry.deploy.iter().any(|name| name == target)
}

/// Whether the ledger alone leaves nothing open.
fn is_settled(entry: &Certificate, record: &CertificateRecord, now: Timestamp) -> bool {
    let needs_reading = entry.key_file.is_some() || entry.outputs.iter().any(|output| output.format == Format::Pkcs12);
    let covers = |live: &Live| demanded(entry).into_iter().all(|name| covers(&live.names, name));
    record.live.as_ref().is_some_and(|live| record.fetched == Some(live.fingerprint) && covers(live))
        && record.full_check.is_some_and(|due| due > now)
        && record.open.held.is_none()
        && record.open.last_error.is_none()
        && record.open.drift.is_empty()
        && !is_untold(record)
        && record.open.unfit.is_empty()
        && record.key_file_hash.is_none()
        && record.provider == entry.provider
        && is_wanted(entry, &record.wanted)
        && !needs_reading
}

/// Whether the listing has another certificate that may be its renewal.
fn has_successor(account: &Account, entry: &Certificate, record: &CertificateRecord, row: &Listed) -> bool {
    let domain = match &entry.wanted {
        Wanted::Domain(domain) => Some(domain),
        Wanted::Id(_) => None,
    };
    let live = record.live.iter().flat_map(|live| &live.names);
    let names = || entry.names.iter().chain(domain).chain(live.clone());
    if !account.has_rival(&row.id, names().map(String::as_str)) {
        return false;
    }
    let names: Vec<String> = names().cloned().collect();
    let current = account.as_row(row);
    let wish = Wish { current: Some(&current), current_id: Some(&row.id), names: &names };
    !successor::candidates(&account.rows(&names), &wish).is_empty()
}

/// The settings' entries at these places.
pub(super) fn entries<'a>(settings: &'a Settings, places: &'a [usize]) -> impl Iterator<Item = &'a Certificate> {
    places.iter().filter_map(|place| settings.certificates.get(*place))
}

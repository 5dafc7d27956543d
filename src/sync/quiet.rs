//! Entries about which there is nothing to do, told without reading a file: by the listing, the ledger, and the notes of the file system.
//!
//! Start at [`Syncer::glance`], which looks at the disk while the providers are asked, then [`Quiet::of`]. Whatever is in doubt is no quiet
//! entry and gets the full look of [`super::pass`], which is also due once a day for each.

use std::sync::Arc;

use jiff::Timestamp;

use crate::certificate::covers;
use crate::config::{Certificate, Format, Settings, Wanted};
use crate::ledger::{CertificateRecord, Ledger, Mark};
use crate::provider::Listed;
use crate::report::{Action, CertificateReport, Live};
use crate::spread::spread;
use crate::store::{Seal, Watch};

use super::accounts::{Account, is_seen};
use super::context::Context;
use super::done::{is_checked, is_untold};
use super::gather::{current_id, demanded, is_wanted};
use super::successor::{self, Wish};
use super::{Scope, Syncer};

/// Entries whose look is worth a thread.
const WORTH: usize = 128;

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

/// What the disk tells before anything in it is read. Of an entry that is missing here nothing is known.
#[derive(Default)]
pub(super) struct Glances {
    /// By place in the inventory.
    pub each: Vec<Glance>,
    /// The folders of links and of generations, to be known again.
    pub folders: Option<Mark>,
    /// Whether they are as they were: then nothing came, went or moved in them.
    pub are_undisturbed: bool,
}

impl Syncer {
    /// A glance at the folders, and at each entry in scope. What a defect ended is in doubt.
    pub(super) async fn glance(&self, ledger: &Arc<Ledger>, scope: &Scope) -> Glances {
        let (settings, store, ledger, names, now) =
            (self.settings.clone(), self.store.clone(), ledger.clone(), scope.names.clone(), self.clock.now());
        let look = move || {
            let watch = store.watch(ledger.folders.map(|folders| folders.0))?;
            let look = |entry: &Certificate| {
                let is_chosen = names.as_ref().is_none_or(|names| names.contains(&entry.name));
                is_chosen.then(|| glance(&watch, entry, &ledger)).flatten().unwrap_or_default()
            };
            let runs = spread(&settings.certificates, WORTH, |run| run.iter().map(look).collect::<Vec<_>>());
            let each = runs.into_iter().flatten().collect();
            Some(Glances { each, folders: watch.folders(now).map(Mark), are_undisturbed: watch.is_undisturbed() })
        };
        tokio::task::spawn_blocking(look).await.ok().flatten().unwrap_or_default()
    }
}

/// `None`: what is live is not what the ledger says, or cannot be looked at.
fn glance(watch: &Watch, entry: &Certificate, ledger: &Ledger) -> Option<Glance> {
    let Some(record) = ledger.certificates.get(&entry.name) else {
        return Some(Glance { is_bare: watch.has_none(&entry.name), ..Glance::default() });
    };
    let seal = watch.seal(&entry.name, &record.live.as_ref()?.generation, &entry.outputs)?;
    Some(Glance { is_untouched: record.seal == Some(Mark(seal.mark)), seal: Some(seal), is_bare: false })
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
        && is_checked(record, now)
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

//! The order of a pass.

use std::collections::{BTreeMap, HashSet};
use std::panic::resume_unwind;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use foldhash::fast::RandomState;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::alert::rules;
use crate::config::{EventKind, Settings};
use crate::failpoint;
use crate::ledger::{self, Base, Beginning, Ledger, Loaded, PassRecord, ProviderRecord};
use crate::report::{Action, CertificateReport, Incident, Report};
use crate::store::{self, KEEP, Store, is_first};

use super::context::{Context, Told};
use super::deliver::{Change, Delivery};
use super::done::Done;
use super::quiet::{self, Glance, Glances};
use super::{Error, LOCK_WAIT, Memory, Progress, Scope, Syncer};

impl Syncer {
    /// One pass over the entries of `scope`.
    pub async fn pass(
        &self,
        scope: &Scope,
        stop: &CancellationToken,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Report, Error> {
        self.check_names(scope)?;
        let _lock = self.lock(scope.wait.unwrap_or(LOCK_WAIT), stop).await?;
        progress(Progress::Step);
        let started = self.clock.now();
        let beginning = Ledger::begin(self.store.root())?;
        let forgives = self.recall(beginning.providers());
        let (context, known) = tokio::join!(self.watched(progress, self.context(scope, stop)), self.known(beginning, scope));
        let (Memory { mut ledger, base }, Glances { each: glances, folders, are_undisturbed }) = known?;
        let context = Arc::new(Context { ask_again: context.ask_again || forgives, ..context });
        let mut incidents: Vec<Incident> = ledger_rebuilt(&ledger).into_iter().collect();
        let glances = Arc::new(glances);
        // Where an entry was removed since, nobody vouches for its folder.
        let are_undisturbed = are_undisturbed && ledger.certificates.len() <= self.settings.certificates.len();
        let sweeping = {
            let (settings, store, glances) = (self.settings.clone(), self.store.clone(), glances.clone());
            tokio::task::spawn_blocking(move || sweep(&settings, &store, &glances, are_undisturbed))
        };
        context.tell_refused_listings(&mut ledger);
        incidents.extend(self.skewed());
        incidents.extend(scope.incidents.iter().cloned());
        let Told { quiet, busy, mut is_same } = context.tell_quiet(&mut ledger, &glances, base);
        ended(sweeping.await)??;
        is_same &= ledger.folders == folders;
        ledger.folders = folders;
        progress(Progress::Step);
        let glances = Arc::unwrap_or_clone(glances);
        let mut found = self.watched(progress, self.look(&context, &busy, glances, &ledger, stop, progress)).await;
        failpoint::reach("sync.looked");
        let whole = scope.names.is_none() && found.len() + quiet.len() == self.settings.certificates.len();
        let mut delivery = Delivery::new(&self.settings, &self.store, &self.clock, &mut ledger, stop, progress);
        delivery.force = scope.force;
        delivery.by_hand = scope.by_hand;
        let changes = found.values_mut().filter_map(|done| done.change()).map(|change| (change.entry.name.clone(), change));
        delivery.changes.extend(changes);
        let looked_at = found.values().map(|done| &*done.entry).chain(quiet::entries(&self.settings, &quiet));
        delivery.entries = looked_at.map(|entry| (entry.name.as_str(), entry)).collect();
        for done in found.values() {
            done.remember(delivery.ledger, context.now);
        }
        // What the providers listed is of no more use, and of ten thousand certificates that is some megabytes.
        drop(context);
        failpoint::reach("sync.remembered");
        progress(Progress::Step);
        let delivered = delivery.run().await;
        failpoint::reach("sync.delivered");
        progress(Progress::Step);
        let found_none = found.is_empty();
        let certificates = self.report(&mut found, &quiet, &mut ledger, &delivered.changes);
        // Keys are wiped and freed while all that follows goes on.
        let wiping = tokio::task::spawn_blocking(move || drop((found, delivered.changes)));
        let (requests, calls) = self.calls();
        let report = Report {
            started,
            finished: self.clock.now(),
            whole,
            certificates,
            targets: delivered.targets,
            incidents,
            requests,
            calls,
        };
        if report.is_ok() {
            // Not only what changed now: a pass that died left its generations too, and broke the seal by that.
            let alone: HashSet<&str, RandomState> =
                report.certificates.iter().filter(|one| is_alone(one)).map(|one| one.name.as_str()).collect();
            let due = quiet::entries(&self.settings, &busy).filter(|entry| !alone.contains(entry.name.as_str()));
            due.for_each(|entry| self.prune(&entry.name));
        }
        // Nothing at all changed but the time: then that is all that is written down.
        let is_quiet = report.whole && found_none && is_same && delivered.is_asleep && report.incidents.is_empty();
        self.conclude(ledger, &report, base.filter(|_| is_quiet))?;
        ended(wiping.await)?;
        Ok(report)
    }

    /// One report for each entry that was looked at or is quiet, in the inventory's order.
    fn report(
        &self,
        found: &mut BTreeMap<usize, Box<Done>>,
        quiet: &[usize],
        ledger: &mut Ledger,
        changes: &BTreeMap<String, Change>,
    ) -> Vec<CertificateReport> {
        let mut reports = Vec::with_capacity(found.len() + quiet.len());
        for (place, entry) in self.settings.certificates.iter().enumerate() {
            if let Some(done) = found.get_mut(&place) {
                reports.push(done.report(ledger, changes));
            } else if quiet.binary_search(&place).is_ok()
                && let Some(record) = ledger.certificates.get(&entry.name)
            {
                reports.push(quiet::report(entry, record));
            }
        }
        reports
    }

    /// The memory, and what the disk tells meanwhile; while the providers are asked, which takes as long.
    async fn known(&self, beginning: Beginning, scope: &Scope) -> Result<(Memory, Glances), Error> {
        let Memory { ledger, base } = ended(tokio::task::spawn_blocking(move || memory(beginning)).await)??;
        let ledger = Arc::new(ledger);
        let glances = self.glance(&ledger, scope).await;
        Ok((Memory { ledger: Arc::unwrap_or_clone(ledger), base }, glances))
    }

    /// The memory as it lies on disk.
    pub(super) fn memory(&self) -> Result<Memory, Error> {
        Ok(memory(Ledger::begin(self.store.root())?)?)
    }

    /// Judges the report, puts what is to be told into the outbox, and saves the memory; after a quiet pass (`base`: the one on disk) only if
    /// there is something to save besides times.
    pub(super) fn conclude(&self, mut ledger: Ledger, report: &Report, base: Option<Base>) -> Result<(), Error> {
        let (providers, alerts) = (ledger.providers.clone(), ledger.alerts.clone());
        if report.whole {
            ledger.last_pass = Some(PassRecord {
                started: report.started,
                finished: report.finished,
                ok: report.is_ok(),
                requests: report.requests,
            });
            if report.is_ok() {
                ledger.last_success = Some(report.finished);
            }
        }
        for (name, client) in &self.clients {
            let record = ledger.providers.entry(name.clone()).or_default();
            (record.rejected_credential, record.next_try) =
                client.rejected().map_or((None, None), |(hash, at)| (Some(hash), Some(at)));
        }
        let facts = rules::Facts {
            report,
            records: &ledger.certificates,
            settings: &self.settings.alerts,
            host: &self.host,
            now: self.clock.now(),
        };
        // The outbox keeps its own memory of what was raised, written with the events in one step; the ledger's is the copy.
        match self.outbox.note(&ledger.alerts, &facts) {
            Ok(noted) => {
                ledger.alerts = noted.verdict.raised;
                ledger.rebuilt = None;
                // In a quiet pass everybody is concluded.
                if base.is_none() {
                    report.certificates.iter().for_each(|certificate| concluded(&mut ledger, certificate));
                }
                self.told.lock().unwrap_or_else(PoisonError::into_inner).extend(noted.outcomes);
            }
            Err(error) => tracing::error!("failed to keep alerts: {}", error.line()),
        }
        failpoint::reach("sync.noted");
        let base = base.filter(|_| ledger.providers == providers && ledger.alerts == alerts);
        if base.is_none() {
            ledger.save(self.store.root())?;
        }
        failpoint::reach("sync.concluded");
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = Some(Memory { ledger, base });
        Ok(())
    }

    /// Hands remembered rejections of credentials back to the clients; `true`: no, they are forgiven.
    fn recall(&self, providers: &BTreeMap<String, ProviderRecord>) -> bool {
        if self.forgives.swap(false, Ordering::Relaxed) {
            return true;
        }
        for (name, client) in &self.clients {
            client.set_rejected(providers.get(name).and_then(|record| record.rejected_credential.clone().zip(record.next_try)));
        }
        false
    }

    pub(super) fn prune(&self, name: &str) {
        if let Err(error) = self.store.prune(name, KEEP) {
            tracing::warn!(certificate = name, "failed to remove old generations of `{name}`: {error}");
        }
    }

    /// Requests made since the last count.
    pub(super) fn calls(&self) -> (u64, BTreeMap<(String, String, String), u64>) {
        let mut all = BTreeMap::new();
        for (name, client) in &self.clients {
            for ((operation, outcome), count) in client.take_calls() {
                all.insert((name.clone(), operation.to_owned(), outcome.to_owned()), count);
            }
        }
        (all.values().sum(), all)
    }
}

/// Removes what a crash left behind. Folders of entries that are untouched hold nothing of that kind.
fn sweep(settings: &Settings, store: &Store, glances: &[Glance], are_undisturbed: bool) -> Result<(), store::Error> {
    let is_touched = |place: usize| glances.get(place).is_none_or(|glance| !glance.is_untouched);
    let of = |wanted: bool| {
        let entries = settings.certificates.iter().enumerate().filter(move |(place, _)| is_touched(*place) == wanted);
        entries.map(|(_, entry)| entry.name.as_str())
    };
    let strays = if are_undisturbed {
        store.sweep_only(&of(true).collect::<Vec<_>>())?
    } else {
        let sealed: HashSet<&str, RandomState> = of(false).collect();
        store.sweep_besides(|name| sealed.contains(name))?
    };
    for stray in strays {
        tracing::info!("removed stray `{}`", stray.display());
    }
    Ok(())
}

/// What a thread brought; a panic in it goes on here.
fn ended<T>(work: Result<T, JoinError>) -> Result<T, Error> {
    work.or_else(|error| error.try_into_panic().map_or(Err(Error::Stopped), |panic| resume_unwind(panic)))
}

/// The ledger as it lies on disk; that it had to be rebuilt stays in it until that is told.
fn memory(beginning: Beginning) -> Result<Memory, ledger::Error> {
    let Loaded { ledger, rebuilt, base } = beginning.load()?;
    Ok(Memory { ledger: Ledger { rebuilt: rebuilt.or(ledger.rebuilt), ..ledger }, base })
}

pub(super) fn ledger_rebuilt(ledger: &Ledger) -> Option<Incident> {
    let why = ledger.rebuilt.as_ref()?;
    Some(Incident { event: EventKind::LedgerRebuilt, provider: None, certificates: Vec::new(), message: why.clone() })
}

/// Whether what is live is all that an entry ever had, so that nothing of it can be old.
fn is_alone(certificate: &CertificateReport) -> bool {
    certificate.first && certificate.live.as_ref().is_some_and(|live| is_first(&live.generation))
}

/// What the report says of an entry is on its way to people: it need not be made up for.
fn concluded(ledger: &mut Ledger, certificate: &CertificateReport) {
    let Some(record) = ledger.certificates.get_mut(&certificate.name) else { return };
    record.open.drift.clear();
    // A placeholder was never fetched; what takes its place is no renewal. What went live in a pass that failed is told by the next one.
    if record.fetched.is_some() && certificate.action != Action::Failed {
        record.concluded = certificate.live.as_ref().map(|live| live.fingerprint);
    }
}

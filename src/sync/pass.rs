//! The order of a pass.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::alert::rules;
use crate::certificate::{self, Roots};
use crate::config::{Certificate, EventKind, Settings, Successor};
use crate::failpoint;
use crate::ledger::{CertificateRecord, Hashes, Ledger, PassRecord};
use crate::report::{Action, CertificateReport, Failure, Incident, Report};
use crate::store::{Installed, Seal, Store};

use super::accounts::{Account, Holdings};
use super::deliver::{Change, Delivery, Stage};
use super::gather::{self, Case, Finding, Unfit, Verdict, gather};
use super::quiet::{self, Quiet};
use super::{Error, KEPT_GENERATIONS, LOCK_WAIT, Progress, Scope, Sync, live};

/// A provider's clock further from ours than this makes every decision by dates doubtful.
const WRONG_CLOCK: SignedDuration = SignedDuration::from_hours(1);
/// The earliest and the spread of the next full check of a certificate whose listing does not change.
const FULL_CHECK: (i64, u32) = (18 * 3600, 12 * 3600);
/// How often a wait for providers is asked whether it gets on.
const PULSE: Duration = Duration::from_secs(1);
/// Candidates remembered as unfit, per entry.
const MAX_UNFIT: usize = 50;
/// Former ids remembered, per entry.
const MAX_FORMER_IDS: usize = 10;

impl Sync {
    /// One pass over the entries of `scope`.
    pub async fn pass(
        &self,
        scope: &Scope,
        stop: &CancellationToken,
        progress: &(dyn Fn(Progress) + Send + Sync_),
    ) -> Result<Report, Error> {
        self.check_names(scope)?;
        let _lock = self.lock(scope.wait.unwrap_or(LOCK_WAIT), stop).await?;
        progress(Progress::Step);
        let started = self.clock.now();
        let ledger = self.memory()?;
        let mut incidents: Vec<Incident> = ledger_rebuilt(&ledger).into_iter().collect();
        self.recall(&ledger);
        let remembered = Arc::new(ledger);
        let (context, seals) = tokio::join!(self.watched(progress, self.context(scope, stop)), self.seals(&remembered, scope));
        let (context, mut ledger) = (Arc::new(context), Arc::unwrap_or_clone(remembered));
        self.sweep(&ledger, &seals)?;
        progress(Progress::Step);
        context.tell_refused_listings(&mut ledger);
        incidents.extend(self.skewed());
        incidents.extend(scope.incidents.iter().cloned());
        let mut certificates = context.quiet(&mut ledger, &seals);
        let (quiet, busy): (Vec<usize>, Vec<usize>) = context.places.iter().partition(|place| certificates.contains_key(place));
        let found = self.watched(progress, self.look(&context, busy, seals, &ledger, stop, progress)).await;
        failpoint::reach("sync.looked");
        let whole = scope.names.is_none() && found.len() + quiet.len() == self.settings.certificates.len();
        let mut delivery = Delivery::new(&self.settings, &self.store, &self.clock, &mut ledger, stop, progress);
        delivery.force = scope.force;
        delivery.by_hand = scope.by_hand;
        let looked_at = found.values().map(|done| &done.entry).chain(quiet::entries(&self.settings, &quiet));
        delivery.entries = looked_at.map(|entry| (entry.name.as_str(), entry)).collect();
        delivery.changes = found.values().filter_map(Done::change).map(|change| (change.entry.name.clone(), change)).collect();
        for done in found.values() {
            done.remember(delivery.ledger, context.now);
        }
        failpoint::reach("sync.remembered");
        progress(Progress::Step);
        let delivered = delivery.run().await;
        failpoint::reach("sync.delivered");
        progress(Progress::Step);
        certificates.extend(found.into_iter().map(|(place, done)| (place, done.report(&mut ledger, &delivered.changes))));
        let (requests, calls) = self.calls();
        let report = Report {
            started,
            finished: self.clock.now(),
            whole,
            certificates: certificates.into_values().collect(),
            targets: delivered.targets,
            incidents,
            requests,
            calls,
        };
        if report.is_ok() {
            // Not only what changed now: a pass that died left its generations too.
            report.certificates.iter().for_each(|certificate| self.prune(&certificate.name));
        }
        self.conclude(ledger, &report)?;
        Ok(report)
    }

    /// The ledger; that it had to be rebuilt stays in it until that is told.
    pub(super) fn memory(&self) -> Result<Ledger, Error> {
        let loaded = Ledger::load(self.store.root())?;
        Ok(Ledger { rebuilt: loaded.rebuilt.or(loaded.ledger.rebuilt), ..loaded.ledger })
    }

    /// Judges the report, puts what is to be told into the outbox, and saves the memory.
    pub(super) fn conclude(&self, mut ledger: Ledger, report: &Report) -> Result<(), Error> {
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
                report.certificates.iter().for_each(|certificate| concluded(&mut ledger, certificate));
                self.told.lock().unwrap_or_else(PoisonError::into_inner).extend(noted.outcomes);
            }
            Err(error) => tracing::error!("failed to keep alerts: {}", error.line()),
        }
        failpoint::reach("sync.noted");
        ledger.save(self.store.root())?;
        failpoint::reach("sync.concluded");
        *self.ledger.lock().unwrap_or_else(PoisonError::into_inner) = Some(ledger);
        Ok(())
    }

    /// Removes what a crash left behind. Folders of entries that are untouched, or not looked at in this pass, hold nothing of that kind.
    fn sweep(&self, ledger: &Ledger, seals: &[Option<Seal>]) -> Result<(), Error> {
        let entries = self.settings.certificates.iter().zip(seals);
        let is_sealed = |(entry, seal): (&Certificate, &Option<Seal>)| {
            let known = ledger.certificates.get(&entry.name).and_then(|record| record.seal.as_ref());
            known.is_some() && known == seal.as_ref().map(|seal| &seal.mark)
        };
        let sealed: HashSet<&str> = entries.filter(|pair| is_sealed(*pair)).map(|(entry, _)| entry.name.as_str()).collect();
        for stray in self.store.sweep_besides(|name| sealed.contains(name))? {
            tracing::info!("removed stray `{}`", stray.display());
        }
        Ok(())
    }

    /// Hands remembered rejections of credentials back to the clients.
    fn recall(&self, ledger: &Ledger) {
        if self.forgives.swap(false, Ordering::Relaxed) {
            return;
        }
        for (name, client) in &self.clients {
            client.set_rejected(
                ledger.providers.get(name).and_then(|record| record.rejected_credential.clone().zip(record.next_try)),
            );
        }
    }

    pub(super) async fn context(&self, scope: &Scope, stop: &CancellationToken) -> Context {
        let covered = |(_, entry): &(usize, &Certificate)| scope.covers(&entry.name);
        let places: Vec<usize> = self.settings.certificates.iter().enumerate().filter(covered).map(|(place, _)| place).collect();
        let mut opening = JoinSet::new();
        for (name, client) in &self.clients {
            let Some(provider) = self.settings.providers.get(name) else { continue };
            if quiet::entries(&self.settings, &places).any(|entry| entry.provider == *name) && !stop.is_cancelled() {
                let (name, client, cloud) = (name.clone(), client.clone(), provider.cloud.clone());
                opening.spawn(async move { (name, Account::open(client, &cloud).await) });
            }
        }
        let mut accounts = BTreeMap::new();
        // Nothing is at stake while a provider is waited for: a stop ends that at once.
        while let Some(Some(opened)) = stop.run_until_cancelled(opening.join_next()).await {
            if let Ok((name, account)) = opened {
                accounts.insert(name, account);
            }
        }
        Context {
            settings: self.settings.clone(),
            places,
            accounts,
            store: self.store.clone(),
            roots: self.roots.clone(),
            force: scope.force,
            insist: scope.force && scope.names.is_some(),
            clock_is_wrong: self.clients.values().any(|client| client.skew().is_some_and(|skew| skew.abs() > WRONG_CLOCK)),
            now: self.clock.now(),
        }
    }

    /// Waits for `work`; as long as requests end meanwhile, well or not, that is progress.
    async fn watched<T>(&self, progress: &(dyn Fn(Progress) + Send + Sync_), work: impl Future<Output = T>) -> T {
        let ended = || self.clients.values().map(|client| client.ended()).sum::<u64>();
        let mut before = ended();
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(PULSE) => {
                    let now = ended();
                    if std::mem::replace(&mut before, now) != now {
                        progress(Progress::Step);
                    }
                }
            }
        }
    }

    /// One incident for every provider whose clock is far from ours.
    fn skewed(&self) -> Vec<Incident> {
        let far = |client: &crate::provider::Client| client.skew().filter(|skew| skew.abs() > WRONG_CLOCK);
        let one = |(name, skew): (&String, SignedDuration)| Incident {
            event: EventKind::ClockSkew,
            provider: Some(name.clone()),
            certificates: Vec::new(),
            message: format!("the clock of `{name}` and this host's differ by {} minutes", skew.abs().as_mins()),
        };
        self.clients.iter().filter_map(|(name, client)| far(client).map(|skew| (name, skew))).map(one).collect()
    }

    /// Looks at the entries at these places, so many at once; one that panics is its own failure.
    async fn look(
        &self,
        context: &Arc<Context>,
        places: Vec<usize>,
        mut seals: Vec<Option<Seal>>,
        ledger: &Ledger,
        stop: &CancellationToken,
        progress: &(dyn Fn(Progress) + Send + Sync_),
    ) -> BTreeMap<usize, Done> {
        let room = Arc::new(Semaphore::new(self.settings.daemon.concurrency.max(1)));
        let mut tasks = JoinSet::new();
        let mut names = BTreeMap::new();
        let quiet = context.places.len() - places.len();
        for place in places {
            let Some(entry) = self.settings.certificates.get(place) else { continue };
            let record = ledger.certificates.get(&entry.name).map(|record| (**record).clone()).unwrap_or_default();
            let seal = seals.get_mut(place).and_then(Option::take);
            let (context, entry, room, stop) = (context.clone(), entry.clone(), room.clone(), stop.clone());
            let task = tasks.spawn(async move {
                let _place = room.acquire_owned().await.ok()?;
                context.one(&entry, record, seal, &stop).await.map(|done| (place, done))
            });
            names.insert(task.id(), place);
        }
        let mut found = BTreeMap::new();
        while let Some(joined) = tasks.join_next_with_id().await {
            let (place, done) = match joined {
                Ok((_, Some(done))) => done,
                Ok((_, None)) => continue,
                Err(error) => {
                    let Some(place) = names.get(&error.id()).copied() else { continue };
                    let Some(entry) = self.settings.certificates.get(place) else { continue };
                    (place, Done::panicked(entry, ledger))
                }
            };
            let done_so_far = quiet + found.len() + 1;
            progress(Progress::Looked { done: done_so_far, total: context.places.len(), name: done.entry.name.clone() });
            found.insert(place, done);
        }
        found
    }

    pub(super) fn prune(&self, name: &str) {
        if let Err(error) = self.store.prune(name, KEPT_GENERATIONS) {
            tracing::warn!(certificate = name, "failed to remove old generations of `{name}`: {error}");
        }
    }

    /// Requests made since the last count.
    pub(super) fn calls(&self) -> (u64, BTreeMap<(String, String, String), u64>) {
        let mut all = BTreeMap::new();
        for (name, client) in &self.clients {
            for ((operation, outcome), count) in client.take_calls() {
                all.insert((name.clone(), operation, outcome), count);
            }
        }
        (all.values().sum(), all)
    }
}

/// `Sync` the marker, which this module's own [`Sync`] hides.
use std::marker::Sync as Sync_;

pub(super) fn ledger_rebuilt(ledger: &Ledger) -> Option<Incident> {
    let why = ledger.rebuilt.as_ref()?;
    Some(Incident {
        event: EventKind::LedgerRebuilt,
        provider: None,
        certificates: Vec::new(),
        message: format!("the ledger was rebuilt from what is on disk: {why}"),
    })
}

/// What the report says of an entry is on its way to people: it need not be made up for.
fn concluded(ledger: &mut Ledger, certificate: &CertificateReport) {
    let Some(record) = ledger.certificates.get_mut(&certificate.name) else { return };
    record.drift.clear();
    // A placeholder was never fetched; what takes its place is no renewal. What went live in a pass that failed is told by the next one.
    if record.fetched.is_some() && certificate.action != Action::Failed {
        record.concluded = certificate.live.as_ref().map(|live| live.fingerprint);
    }
}

/// What every entry's task sees.
pub(super) struct Context {
    pub settings: Arc<Settings>,
    /// Which of the inventory's entries, in its order.
    pub places: Vec<usize>,
    pub accounts: BTreeMap<String, Account>,
    pub store: Store,
    pub roots: Arc<Roots>,
    pub force: bool,
    pub insist: bool,
    pub clock_is_wrong: bool,
    pub now: Timestamp,
}

impl Context {
    /// The entries in scope.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Certificate> {
        quiet::entries(&self.settings, &self.places)
    }

    /// Remembers and reports the entries about which there is nothing to do, by place in the inventory.
    fn quiet(&self, ledger: &mut Ledger, seals: &[Option<Seal>]) -> BTreeMap<usize, CertificateReport> {
        let mut reports = BTreeMap::new();
        for (place, entry) in self.places.iter().copied().zip(self.entries()) {
            let Some(record) = ledger.certificates.get_mut(&entry.name) else { continue };
            let seal = seals.get(place).and_then(Option::as_ref);
            if let Some(quiet) = Quiet::of(self, entry, record, seal) {
                reports.insert(place, quiet.remember(entry, record, self.now));
            }
        }
        reports
    }

    /// Says once that a provider's account may not be listed, which costs a request and a key's move per certificate and pass.
    fn tell_refused_listings(&self, ledger: &mut Ledger) {
        for (name, account) in &self.accounts {
            let record = ledger.providers.entry(name.clone()).or_default();
            let refused = match &account.holdings {
                Holdings::OneByOne(failure) if failure.kind == "forbidden" => Some(failure),
                Holdings::Down(_) => continue,
                _ => None,
            };
            if let Some(failure) = refused.filter(|_| !record.listing_refused) {
                let hint = failure.hint.as_deref().unwrap_or_default();
                tracing::warn!(
                    provider = name,
                    "`{name}` may not be listed, so its certificates are asked for one by one and no renewal can be found: {failure}; {hint}"
                );
            }
            record.listing_refused = refused.is_some();
        }
    }

    /// One entry: what is on disk put right, what the provider has, and the new generation complete but not live. `None`: stopped
    /// before it was known what the provider has; what touches the disk is always finished.
    async fn one(
        &self,
        entry: &Certificate,
        record: CertificateRecord,
        seal: Option<Seal>,
        stop: &CancellationToken,
    ) -> Option<Done> {
        if stop.is_cancelled() {
            return None;
        }
        let mut done = Done { seal, ..Done::new(entry, record) };
        if !self.tend(&mut done).await {
            // Who cannot see what is live cannot know what is earlier, or covers less: nothing is put in its place.
            return Some(done);
        }
        done.finding = stop.run_until_cancelled(self.find(entry, &done)).await?;
        self.stage(&mut done).await;
        Some(done)
    }

    /// What `gather` finds for an entry.
    pub(super) async fn find(&self, entry: &Certificate, done: &Done) -> Finding {
        match self.accounts.get(&entry.provider) {
            None => Finding { verdict: Verdict::Failed(unasked(&entry.provider)), ..Finding::nothing() },
            Some(account) => {
                gather(&Case {
                    entry,
                    record: &done.record,
                    live: done.live.as_ref(),
                    waiting: done.waiting.as_ref(),
                    account,
                    roots: &self.roots,
                    force: self.force,
                    insist: self.insist,
                    clock_is_wrong: self.clock_is_wrong,
                    now: self.now,
                })
                .await
            }
        }
    }

    /// Puts right what someone changed on disk, and finds out what is live; `false`: that cannot be seen.
    async fn tend(&self, done: &mut Done) -> bool {
        let store = self.store.clone();
        let (entry, record, now) = (done.entry.clone(), done.record.clone(), self.now);
        let tended = tokio::task::spawn_blocking(move || tend(&store, &entry, &record, now)).await;
        match tended {
            Ok(tended) => {
                (done.live, done.waiting, done.drift) = (tended.live, tended.waiting, tended.drift);
                (done.outputs, done.problem) = (tended.outputs, tended.problem);
                tended.is_seen
            }
            Err(_panic) => {
                done.problem = Some(panicked());
                false
            }
        }
    }

    /// Writes the new generation, complete and synced, but not live.
    async fn stage(&self, done: &mut Done) {
        let Verdict::Install { bundle, .. } = &done.finding.verdict else { return };
        let (store, name, bundle) = (self.store.clone(), done.entry.name.clone(), bundle.clone());
        let written = tokio::task::spawn_blocking(move || store.write_ahead(&name, &bundle)).await;
        match written {
            Ok(Ok(installed)) => done.staged = Some(installed),
            Ok(Err(error)) => {
                done.finding.verdict = Verdict::Failed(Failure::new(error.kind(), &error).hint(error.hint()));
            }
            Err(_panic) => done.finding.verdict = Verdict::Failed(panicked()),
        }
    }
}

/// What is on disk of an entry, put right.
struct Tended {
    live: Option<Installed>,
    waiting: Option<Installed>,
    drift: Vec<String>,
    /// Hash of each output by path; `None`: nothing is live.
    outputs: Option<BTreeMap<String, String>>,
    problem: Option<Failure>,
    /// Whether it is known what is live.
    is_seen: bool,
}

fn tend(store: &Store, entry: &Certificate, record: &CertificateRecord, now: Timestamp) -> Tended {
    let mut tended = Tended {
        live: None,
        waiting: waiting(store, entry, record),
        drift: Vec::new(),
        outputs: None,
        problem: None,
        is_seen: true,
    };
    match store.repair(&entry.name, &record.hashes.by_name(), record.live.as_ref().map(|live| live.generation.as_str())) {
        Ok(repair) => {
            tended.drift = repair.drift;
            tended.live = repair.installed;
            tended.drift.extend(repair.damaged.map(|why| format!("{why}; it is fetched again")));
        }
        Err(error) => {
            tended.problem = Some(Failure::new(error.kind(), &error).hint(error.hint()));
            tended.is_seen = false;
        }
    }
    if tended.live.is_none() && entry.placeholder && tended.problem.is_none() {
        match placeholder(store, entry, now) {
            Ok(installed) => tended.live = Some(installed),
            Err(failure) => tended.problem = Some(failure),
        }
    }
    if let Some(live) = &tended.live {
        let outputs = live::tend_outputs(store, entry, &live.bundle, &record.outputs);
        tended.drift.extend(outputs.drift);
        tended.outputs = Some(outputs.hashes);
        tended.problem = tended.problem.or(outputs.failed);
    }
    tended
}

/// The generation that was fetched last, when it is whole and another one is live.
fn waiting(store: &Store, entry: &Certificate, record: &CertificateRecord) -> Option<Installed> {
    let fetched = record.fetched.filter(|fetched| record.live.as_ref().is_some_and(|live| live.fingerprint != *fetched))?;
    let newest = store.generations(&entry.name).ok()?.pop()?;
    store.read(&entry.name, &newest).ok().filter(|installed| installed.bundle.fingerprint() == fetched)
}

/// A self-signed stand-in, so that a server has something to start with.
fn placeholder(store: &Store, entry: &Certificate, now: Timestamp) -> Result<Installed, Failure> {
    let mut names = entry.names.clone();
    if let crate::config::Wanted::Domain(domain) = &entry.wanted {
        names.push(domain.clone());
    }
    if names.is_empty() {
        names.push(entry.name.to_ascii_lowercase());
    }
    let bundle = certificate::self_signed(&names, now).map_err(|error| Failure::new(error.kind(), &error))?;
    let installed = store.write(&entry.name, &bundle).map_err(|error| Failure::new(error.kind(), &error).hint(error.hint()))?;
    store.publish(&entry.name, &installed.generation).map_err(|error| Failure::new(error.kind(), &error).hint(error.hint()))?;
    tracing::warn!(
        certificate = entry.name,
        "made a self-signed placeholder live for `{}`: no browser will trust it",
        entry.name
    );
    Ok(installed)
}

/// Nobody can say what a provider has whose account was never opened.
fn unasked(provider: &str) -> Failure {
    Failure {
        kind: "panic".to_owned(),
        causes: vec![format!("a defect of certsyncd ended the work on the account of `{provider}`")],
        hint: Some("please report it; the other providers go on".to_owned()),
        transient: false,
    }
}

/// Without the words of the panic: they may quote what was being read. Where it was stands in the log.
fn panicked() -> Failure {
    Failure {
        kind: "panic".to_owned(),
        causes: vec!["a defect of certsyncd ended the work on this certificate".to_owned()],
        hint: Some("please report it, with the place that the log names; the other certificates go on".to_owned()),
        transient: false,
    }
}

/// One entry after it was looked at.
pub(super) struct Done {
    pub entry: Certificate,
    pub record: CertificateRecord,
    pub live: Option<Installed>,
    pub waiting: Option<Installed>,
    pub staged: Option<Installed>,
    /// What the file system told before anything was read.
    pub seal: Option<Seal>,
    pub finding: Finding,
    pub drift: Vec<String>,
    pub outputs: Option<BTreeMap<String, String>>,
    pub problem: Option<Failure>,
}

impl Done {
    pub(super) fn new(entry: &Certificate, record: CertificateRecord) -> Done {
        Done {
            entry: entry.clone(),
            record,
            live: None,
            waiting: None,
            staged: None,
            seal: None,
            finding: Finding::nothing(),
            drift: Vec::new(),
            outputs: None,
            problem: None,
        }
    }

    fn panicked(entry: &Certificate, ledger: &Ledger) -> Done {
        let mut done =
            Done::new(entry, ledger.certificates.get(&entry.name).map(|record| (**record).clone()).unwrap_or_default());
        done.finding.verdict = Verdict::Failed(panicked());
        done
    }

    /// The change on its way to the servers, if there is one.
    fn change(&self) -> Option<Change> {
        Some(Change {
            entry: self.entry.clone(),
            id: self.finding.id.clone(),
            new: self.staged.clone()?,
            old: self.live.clone().filter(|live| !certificate::is_placeholder(&live.bundle)),
            stage: Stage::Staged,
            error: None,
        })
    }

    /// Writes into the ledger what was found; what goes live and is served is noted when it has happened.
    fn remember(&self, ledger: &mut Ledger, now: Timestamp) {
        let record = ledger.certificates.entry(self.entry.name.clone()).or_default();
        record.provider = self.entry.provider.clone();
        record.targets.retain(|target, _| self.entry.deploy.contains(target));
        if let Some(live) = &self.live {
            record.live = Some(live::live_of(live));
            record.hashes = Hashes::from(&live.hashes);
        }
        if let Some(outputs) = &self.outputs {
            record.outputs.clone_from(outputs);
        }
        for line in &self.drift {
            if !record.drift.contains(line) {
                record.drift.push(line.clone());
            }
        }
        record.seal = self.proof(record, now);
        record.valid = self.finding.valid.or(record.valid);
        record.successor = self.finding.successor.clone();
        remember_unfit(record, &self.finding.unfit);
        match self.failure() {
            Some(failure) => {
                record.failures += 1;
                record.last_error = Some(failure.clone());
            }
            None => self.remember_success(record, now),
        }
    }

    /// The seal, when everything under it was read in full meanwhile, is right, and changed so long ago that a later change will show.
    fn proof(&self, record: &CertificateRecord, now: Timestamp) -> Option<String> {
        let live = self.live.as_ref().filter(|live| !certificate::is_placeholder(&live.bundle))?;
        let was_live = self.record.live.as_ref().is_some_and(|before| before.generation == live.generation);
        let is_right = was_live && self.drift.is_empty() && self.problem.is_none() && record.live.is_some();
        self.seal.as_ref().filter(|seal| is_right && seal.is_settled(now)).map(|seal| seal.mark.clone())
    }

    fn remember_success(&self, record: &mut CertificateRecord, now: Timestamp) {
        let finding = &self.finding;
        record.failures = 0;
        record.last_error = None;
        record.last_checked = Some(now);
        record.seen = finding.seen.clone();
        record.key_file_hash = finding.key_file_hash.clone();
        if record.wanted != gather::wanted_key(&self.entry) {
            record.wanted = gather::wanted_key(&self.entry);
            record.former_ids.clear();
            // What was live under the other wish: its id is nobody's predecessor here, unless something else goes live now.
            record.id = record.id.take().filter(|_| !matches!(finding.verdict, Verdict::Unchanged) || finding.id.is_none());
        }
        if finding.fetched {
            record.full_check = Some(now + SignedDuration::from_secs(FULL_CHECK.0 + i64::from(random(FULL_CHECK.1))));
        }
        match &finding.verdict {
            Verdict::Install { bundle, .. } => {
                record.fetched = Some(bundle.fingerprint());
                record.fetched_not_after = Some(bundle.not_after());
            }
            Verdict::Hold { bundle, why, until } => {
                record.fetched = Some(bundle.fingerprint());
                record.fetched_not_after = Some(bundle.not_after());
                record.held = Some(why.clone());
                record.held_until = *until;
            }
            Verdict::Unchanged => {
                record.fetched = self.live.as_ref().map(|live| live.bundle.fingerprint());
                record.fetched_not_after = self.live.as_ref().map(|live| live.bundle.not_after());
                // Another id is live already where the pass that adopted it died.
                finding.id.clone().and_then(|id| adopt(record, id));
            }
            Verdict::StillHeld | Verdict::Failed(_) => {}
        }
        if matches!(finding.verdict, Verdict::Install { .. } | Verdict::Unchanged) {
            (record.held, record.held_until) = (None, None);
        }
    }

    fn failure(&self) -> Option<&Failure> {
        match &self.finding.verdict {
            Verdict::Failed(failure) => Some(failure),
            _ => self.problem.as_ref(),
        }
    }

    /// What the pass reports of the entry, after the servers were told.
    fn report(self, ledger: &mut Ledger, changes: &BTreeMap<String, Change>) -> CertificateReport {
        let change = changes.get(&self.entry.name);
        let record = ledger.certificates.entry(self.entry.name.clone()).or_default();
        let previous_id =
            change.filter(|change| change.stage == Stage::Live).and_then(|change| adopt(record, change.id.clone()?));
        if let Some(error) = change.and_then(|change| change.error.clone()) {
            record.failures += 1;
            record.last_error = Some(error);
        }
        if let Some(change) = change.filter(|change| matches!(change.stage, Stage::RolledBack | Stage::TurnedAway)) {
            record.rejected_seen.extend(change.id.clone().zip(self.finding.seen.clone()));
        }
        let CertificateRecord { rejected, rejected_seen, .. } = &mut **record;
        rejected_seen.retain(|id, _| rejected.iter().any(|rejection| rejection.id.as_ref() == Some(id)));
        let (action, held) = self.action(record, change);
        let made_up = action == Action::Unchanged && is_untold(record);
        let action = if made_up { Action::Installed } else { action };
        CertificateReport {
            name: self.entry.name.clone(),
            provider: self.entry.provider.clone(),
            action,
            id: record.id.clone().or(self.finding.id.clone()),
            previous_id,
            first: change.is_some_and(|change| change.old.is_none()),
            made_up,
            live: record.live.clone(),
            valid: record.valid,
            error: record.last_error.clone(),
            held,
            // One that is to be ignored is shown by `status`, and told to nobody.
            successor: self.finding.successor.filter(|_| self.entry.successor == Successor::Warn),
            near_misses: self.finding.near_misses,
            drift: record.drift.clone(),
            served: record.targets.values().flat_map(|told| told.served.iter().cloned()).collect(),
            notes: self.finding.notes,
        }
    }

    fn action(&self, record: &mut CertificateRecord, change: Option<&Change>) -> (Action, Option<String>) {
        if record.last_error.is_some() {
            return (Action::Failed, None);
        }
        match change.map(|change| change.stage) {
            Some(Stage::Live) => (Action::Installed, None),
            Some(Stage::RolledBack) => {
                let rejection = change.and_then(|c| record.rejected.iter().find(|r| r.fingerprint == c.new.bundle.fingerprint()));
                record.held = Some("a server rejected it; the previous one stays live".to_owned());
                record.held_until = rejection.and_then(|rejection| rejection.next_try);
                (Action::Held, record.held.clone())
            }
            Some(Stage::TurnedAway) => (Action::Failed, None),
            Some(Stage::Staged) => {
                let why = "it waits for the window of its targets".to_owned();
                record.held = Some(why.clone());
                // Looked at again in every pass: the generation is on disk already.
                record.held_until = Some(Timestamp::MIN);
                (Action::Held, Some(why))
            }
            None if record.held.is_some() => (Action::Held, record.held.clone()),
            None => (Action::Unchanged, None),
        }
    }
}

/// Whether what is live was not live yet when a pass last came to its end.
pub(super) fn is_untold(record: &CertificateRecord) -> bool {
    record.concluded.is_some() && record.concluded != record.live.as_ref().map(|live| live.fingerprint)
}

/// One memory for each candidate: how it was judged last.
fn remember_unfit(record: &mut CertificateRecord, unfit: &[Unfit]) {
    let id = |key: &str| key.split('|').next().unwrap_or_default().to_owned();
    for one in unfit {
        record.unfit.retain(|key, _| id(key) != id(&one.key));
        record.unfit.insert(one.key.clone(), one.why.clone());
        record.unfit_until.extend(one.until.map(|start| (one.key.clone(), start)));
    }
    while record.unfit.len() > MAX_UNFIT {
        record.unfit.pop_first();
    }
    record.unfit_until.retain(|key, _| record.unfit.contains_key(key));
}

/// Notes the id that is live now; the one before, when it was another.
fn adopt(record: &mut CertificateRecord, new: String) -> Option<String> {
    let before = record.id.replace(new.clone()).filter(|before| *before != new)?;
    record.former_ids.push(before.clone());
    if record.former_ids.len() > MAX_FORMER_IDS {
        record.former_ids.remove(0);
    }
    Some(before)
}

/// A random number below `bound`; 0 where the system has none to give.
fn random(bound: u32) -> u32 {
    getrandom::u32().map_or(0, |number| number % bound.max(1))
}

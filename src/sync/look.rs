//! One entry: what is on disk put right, what its provider has, and a new generation complete but not live.
//!
//! Start at [`Syncer::look`]. It never fails: what went wrong with an entry, down to a panic, is in its [`Done`]. Each entry is looked at in a
//! task of its own; new generations are written some in a go, and become durable many at once ([`Batch`]), while the next are fetched.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::atomic::{Batch, Unsettled};
use crate::certificate;
use crate::config::Certificate;
use crate::ledger::{CertificateRecord, Ledger};
use crate::report::Failure;
use crate::store::{self, Installed, Store};

use super::context::{Context, far};
use super::deliver::unfit;
use super::done::Done;
use super::gather::{Case, Finding, Verdict, gather};
use super::quiet::Glance;
use super::{Progress, Syncer, live};

/// New generations that one thread writes in a go, which is woken once for all of them.
const TOGETHER: usize = 16;
/// Entries that were fetched and are not written yet: a disk that hangs stops the fetching.
const MAX_UNWRITTEN: usize = 4 * TOGETHER;
/// New generations that wait to become durable: the disk writes these while the next ones are fetched, and a crash costs no more of what was
/// fetched.
const MAX_WAITING: usize = 256;
/// How long a disk may take to write all that it has before a pass that waits for it counts as stuck: a tick for the watchdog each.
const PATIENCE: (u32, Duration) = (60, Duration::from_secs(10));

impl Syncer {
    /// Looks at the entries at these places, so many at once; one that panics is its own failure.
    pub(super) async fn look(
        &self,
        context: &Arc<Context>,
        places: &[usize],
        mut glances: Vec<Glance>,
        ledger: &Ledger,
        stop: &CancellationToken,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> BTreeMap<usize, Box<Done>> {
        let concurrency = self.settings.daemon.concurrency.max(1);
        let room = Arc::new(Semaphore::new(concurrency));
        let is_new = |place: &usize| self.settings.certificates.get(*place).is_some_and(|entry| !has_live(ledger, &entry.name));
        let batch = Arc::new(self.store.batch(places.iter().filter(|place| is_new(place)).count()));
        let mut rest = places.iter().copied();
        let (mut tasks, mut names) = (JoinSet::new(), BTreeMap::new());
        let (mut found, mut lost, mut fetched) = (BTreeMap::new(), Lost::default(), Vec::new());
        let (mut looked, mut unwritten, mut ticks) = (context.places.len() - places.len(), 0, 0);
        let (mut writing, mut settling) = (JoinSet::new(), JoinSet::new());
        loop {
            // Some are ready to begin when others end.
            while tasks.len() < 2 * concurrency
                && unwritten < MAX_UNWRITTEN
                && let Some(place) = rest.next()
            {
                let Some(entry) = self.settings.certificates.get(place) else { continue };
                let record = ledger.certificates.get(&entry.name).map(|record| (**record).clone()).unwrap_or_default();
                let glance = glances.get_mut(place).map(std::mem::take).unwrap_or_default();
                let (context, entry, room, stop) = (context.clone(), Arc::new(entry.clone()), room.clone(), stop.clone());
                let task = tasks.spawn(async move {
                    let _place = room.acquire_owned().await.ok()?;
                    context.one(entry, record, glance, &stop).await.map(Box::new)
                });
                names.insert(task.id(), place);
            }
            if fetched.len() >= TOGETHER || (tasks.is_empty() && !fetched.is_empty()) {
                let (store, batch, group) = (self.store.clone(), batch.clone(), std::mem::take(&mut fetched));
                writing.spawn_blocking(move || write_all(&store, &batch, group));
            }
            let is_over = tasks.is_empty() && writing.is_empty();
            let enough = match (is_over, rest.len() == 0) {
                (true, _) => 1,
                // What is left then is little, and soon done.
                (false, true) => MAX_WAITING / 4,
                (false, false) => MAX_WAITING,
            };
            if settling.is_empty() && batch.waiting() >= enough {
                let batch = batch.clone();
                settling.spawn_blocking(move || batch.settle());
                ticks = 0;
            }
            tokio::select! {
                Some(joined) = tasks.join_next_with_id() => {
                    let place = names.remove(&joined.as_ref().map_or_else(JoinError::id, |(id, _)| *id));
                    let entry = place.and_then(|place| Some((place, self.settings.certificates.get(place)?)));
                    let Some((place, entry)) = entry else { continue };
                    let done = match joined {
                        Ok((_, Some(done))) => done,
                        Ok((_, None)) => continue,
                        Err(_panic) => Box::new(Done::panicked(entry, ledger)),
                    };
                    looked += 1;
                    progress(Progress::Looked { done: looked, total: context.places.len(), name: done.entry.name.clone() });
                    if matches!(done.finding.verdict, Verdict::Install { .. }) {
                        unwritten += 1;
                        fetched.push((place, done));
                    } else {
                        found.insert(place, done);
                    }
                }
                Some(written) = writing.join_next() => {
                    let written = written.unwrap_or_default();
                    unwritten -= written.len();
                    found.extend(written);
                }
                Some(settled) = settling.join_next() => lost.note(settled),
                () = sleep(PATIENCE.1), if !settling.is_empty() && ticks < PATIENCE.0 => {
                    progress(Progress::Step);
                    ticks += 1;
                }
                else => break,
            }
        }
        found.values_mut().for_each(|done| lost.give_up(done));
        found
    }
}

/// Writes new generations; a defect that ends the writing of one is its own failure.
fn write_all(store: &Store, batch: &Batch, group: Vec<(usize, Box<Done>)>) -> Vec<(usize, Box<Done>)> {
    let write = |(place, mut done): (usize, Box<Done>)| {
        if catch_unwind(AssertUnwindSafe(|| write(store, batch, &mut done))).is_err() {
            (done.staged, done.finding.verdict) = (None, Verdict::Failed(panicked()));
        }
        (place, done)
    };
    group.into_iter().map(write).collect()
}

/// Writes the new generation, complete, but not live; it is durable once its batch is settled. Meanwhile it is tried with itself.
fn write(store: &Store, batch: &Batch, done: &mut Done) {
    let Verdict::Install { bundle, .. } = &done.finding.verdict else { return };
    match store.write_ahead(&done.entry.name, bundle, batch) {
        Ok(installed) => {
            done.unfit = if done.entry.deploy.is_empty() { None } else { unfit(&installed) };
            done.staged = Some(installed);
        }
        Err(error) => done.finding.verdict = Verdict::Failed(Failure::new(error.kind(), &error).hint(error.hint())),
    }
}

fn has_live(ledger: &Ledger, name: &str) -> bool {
    ledger.certificates.get(name).is_some_and(|record| record.live.is_some())
}

/// What did not become durable, and why.
#[derive(Default)]
struct Lost {
    /// By the path of the generation.
    some: BTreeMap<PathBuf, Failure>,
    /// Where a defect ended it nobody knows what did.
    all: Option<Failure>,
}

impl Lost {
    fn note(&mut self, settled: Result<Vec<Unsettled>, JoinError>) {
        match settled {
            Err(_panic) => self.all = Some(panicked()),
            Ok(unsettled) => unsettled.into_iter().for_each(|Unsettled { paths, error }| {
                let error = store::Error::from(error);
                let failure = Failure::new(error.kind(), &error).hint(error.hint());
                self.some.extend(paths.into_iter().map(|path| (path, failure.clone())));
            }),
        }
    }

    /// What did not become durable does not go live: that is a failure of its entry.
    fn give_up(&self, done: &mut Done) {
        let Some(staged) = &done.staged else { return };
        if let Some(failure) = self.some.get(&staged.path).or(self.all.as_ref()) {
            done.finding.verdict = Verdict::Failed(failure.clone());
            done.staged = None;
        }
    }
}

impl Context {
    /// One entry: what is on disk put right, and what the provider has. `None`: stopped before that was known; what touches the disk is always
    /// finished.
    async fn one(
        &self,
        entry: Arc<Certificate>,
        record: CertificateRecord,
        glance: Glance,
        stop: &CancellationToken,
    ) -> Option<Done> {
        if stop.is_cancelled() {
            return None;
        }
        let is_tidy = glance.is_bare && !entry.placeholder;
        let mut done = Done { seal: glance.seal, ..Done::new(entry, record) };
        if !is_tidy && !self.tend(&mut done).await {
            // Who cannot see what is live cannot know what is earlier, or covers less: nothing is put in its place.
            return Some(done);
        }
        done.finding = stop.run_until_cancelled(self.find(&done)).await?;
        Some(done)
    }

    /// What `gather` finds for an entry.
    pub(super) async fn find(&self, done: &Done) -> Finding {
        let entry = &*done.entry;
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
                    ask_again: self.ask_again,
                    now: self.now,
                    dated: far(&account.client).and_then(|skew| self.now.checked_add(skew).ok()).unwrap_or(self.now),
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
pub(super) fn panicked() -> Failure {
    Failure {
        kind: "panic".to_owned(),
        causes: vec!["a defect of certsyncd ended the work on this certificate".to_owned()],
        hint: Some("please report it, with the place that the log names; the other certificates go on".to_owned()),
        transient: false,
    }
}

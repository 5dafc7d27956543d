//! One entry: what is on disk put right, what its provider has, and a new generation complete but not live.
//!
//! Start at [`Sync::look`]. It never fails: what went wrong with an entry, down to a panic, is in its [`Done`]. New generations are written one
//! by one, each in its entry's own task, and become durable many at once ([`Batch`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::atomic::{Batch, Unsettled};
use crate::certificate;
use crate::config::Certificate;
use crate::ledger::{CertificateRecord, Ledger};
use crate::report::Failure;
use crate::store::{self, Installed, Seal, Store};

use super::context::{Context, far};
use super::done::Done;
use super::gather::{Case, Finding, Verdict, gather};
use super::{Progress, Sync, Sync_, live};

/// New generations that wait to become durable: the disk writes these while the next ones are fetched, and a crash costs no more of what was
/// fetched.
const MAX_WAITING: usize = 256;
/// How long a disk may take to write all that it has before a pass that waits for it counts as stuck: a tick for the watchdog each.
const PATIENCE: (u32, Duration) = (60, Duration::from_secs(10));

impl Sync {
    /// Looks at the entries at these places, so many at once; one that panics is its own failure.
    pub(super) async fn look(
        &self,
        context: &Arc<Context>,
        places: &[usize],
        mut seals: Vec<Option<Seal>>,
        ledger: &Ledger,
        stop: &CancellationToken,
        progress: &(dyn Fn(Progress) + Send + Sync_),
    ) -> BTreeMap<usize, Done> {
        let room = Arc::new(Semaphore::new(self.settings.daemon.concurrency.max(1)));
        let batch = Arc::new(self.store.batch());
        let mut tasks = JoinSet::new();
        let mut names = BTreeMap::new();
        let quiet = context.places.len() - places.len();
        for place in places.iter().copied() {
            let Some(entry) = self.settings.certificates.get(place) else { continue };
            let record = ledger.certificates.get(&entry.name).map(|record| (**record).clone()).unwrap_or_default();
            let seal = seals.get_mut(place).and_then(Option::take);
            let (context, entry, room, stop) = (context.clone(), entry.clone(), room.clone(), stop.clone());
            let batch = batch.clone();
            let task = tasks.spawn(async move {
                let _place = room.acquire_owned().await.ok()?;
                context.one(&entry, record, seal, &batch, &stop).await.map(|done| (place, done))
            });
            names.insert(task.id(), place);
        }
        let (mut found, mut lost) = (BTreeMap::new(), Lost::default());
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
            if batch.waiting() >= MAX_WAITING {
                lost.settle(&batch, progress).await;
            }
        }
        lost.settle(&batch, progress).await;
        found.values_mut().for_each(|done| lost.give_up(done));
        found
    }
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
    /// Makes durable what waits for it.
    async fn settle(&mut self, batch: &Arc<Batch>, progress: &(dyn Fn(Progress) + Send + Sync_)) {
        if batch.waiting() == 0 {
            return;
        }
        let settling = batch.clone();
        let mut settling = tokio::task::spawn_blocking(move || settling.settle());
        for _ in 0..PATIENCE.0 {
            if let Ok(settled) = timeout(PATIENCE.1, &mut settling).await {
                return self.note(settled);
            }
            progress(Progress::Step);
        }
        self.note(settling.await);
    }

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
    /// One entry: what is on disk put right, what the provider has, and the new generation complete but not live. `None`: stopped
    /// before it was known what the provider has; what touches the disk is always finished.
    async fn one(
        &self,
        entry: &Certificate,
        record: CertificateRecord,
        seal: Option<Seal>,
        batch: &Arc<Batch>,
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
        self.stage(&mut done, batch).await;
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

    /// Writes the new generation, complete, but not live; it is durable once its batch is settled.
    async fn stage(&self, done: &mut Done, batch: &Arc<Batch>) {
        let Verdict::Install { bundle, .. } = &done.finding.verdict else { return };
        let (store, name, bundle, batch) = (self.store.clone(), done.entry.name.clone(), bundle.clone(), batch.clone());
        let written = tokio::task::spawn_blocking(move || store.write_ahead(&name, &bundle, &batch)).await;
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
pub(super) fn panicked() -> Failure {
    Failure {
        kind: "panic".to_owned(),
        causes: vec!["a defect of certsyncd ended the work on this certificate".to_owned()],
        hint: Some("please report it, with the place that the log names; the other certificates go on".to_owned()),
        transient: false,
    }
}

//! What was found goes live and is shown by its servers: publish, test, reload, verify, and back again when that fails.
//!
//! Start at [`Delivery::run`]. A target is told once per pass, however many certificates changed. Nothing is recorded as reloaded before
//! the reload succeeded, nor as verified before it was seen.
//!
//! | room | its part |
//! |---|---|
//! | `verify` | look: before anything moves, after it did, and what the next pass is measured by |
//! | `ready` | which targets are to be told now, and which wait |
//! | `publish` | try new pairs, move the links |
//! | `tell` | one target: is it running, gap, update in place, else test and reload |
//! | `blame` | whose fault a failing step is, and the way back |
//! | `search` | who it is among many |
//! | `memory` | what the ledger keeps of targets and rejections |
//! | `words` | what people are told |

mod blame;
mod memory;
mod publish;
mod ready;
mod search;
mod tell;
mod verify;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Certificate, Settings, Target};
use crate::ledger::Ledger;
use crate::report::{Failure, Live, TargetReport};
use crate::store::{Installed, Store};

use super::{Progress, live};

pub(super) use publish::unfit;
pub(super) use ready::is_urgent;
pub(super) use tell::{not_running, rests};

use ready::Readiness;
use verify::Seen;
use words::quiet;

/// Why a target waits whose turn did not come.
const STOPPED: &str = "certsyncd was stopped before its turn came";

/// One entry on its way to its servers.
pub(super) struct Change {
    pub entry: Arc<Certificate>,
    /// The provider's id of `new`.
    pub id: Option<String>,
    pub new: Installed,
    /// What is told of `new`.
    pub shown: Arc<Live>,
    /// Why `new` does not work with itself, if so.
    pub unfit: Option<Failure>,
    /// What was live before; never a placeholder.
    pub old: Option<Installed>,
    pub stage: Stage,
    /// What failed while it was put live.
    pub error: Option<Failure>,
}

/// How far a [`Change`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Complete on disk, not live: every target of it waits for its window.
    Staged,
    /// Live.
    Live,
    /// Was live, and the one before is live again.
    RolledBack,
    /// Did not even work with itself: it never went live.
    TurnedAway,
}

/// Everything one delivery works on.
pub(super) struct Delivery<'a> {
    pub settings: &'a Settings,
    pub store: &'a Store,
    pub clock: &'a Clock,
    pub ledger: &'a mut Ledger,
    pub stop: &'a CancellationToken,
    /// Told after each step.
    pub progress: &'a (dyn Fn(Progress) + Send + Sync),
    /// Entries in scope, by name.
    pub entries: BTreeMap<&'a str, &'a Certificate>,
    /// What changes, by name.
    pub changes: BTreeMap<String, Change>,
    /// Deploy although nothing changed.
    pub force: bool,
    /// A person started this: growing gaps do not hold it back.
    pub by_hand: bool,
    /// What was seen before anything moved.
    before: Seen,
    /// What was seen last.
    after: Seen,
    reports: BTreeMap<String, TargetReport>,
    /// A target was told that the memory on disk knows nothing of.
    is_unsaved: bool,
}

/// What [`Delivery::run`] leaves.
pub(super) struct Delivered {
    pub changes: BTreeMap<String, Change>,
    pub targets: Vec<TargetReport>,
    /// No target was even looked at, as there was no reason to.
    pub is_asleep: bool,
}

impl<'a> Delivery<'a> {
    pub fn new(
        settings: &'a Settings,
        store: &'a Store,
        clock: &'a Clock,
        ledger: &'a mut Ledger,
        stop: &'a CancellationToken,
        progress: &'a (dyn Fn(Progress) + Send + Sync),
    ) -> Self {
        Delivery {
            settings,
            store,
            clock,
            ledger,
            stop,
            progress,
            entries: BTreeMap::new(),
            changes: BTreeMap::new(),
            force: false,
            by_hand: false,
            before: Seen::default(),
            after: Seen::default(),
            reports: BTreeMap::new(),
            is_unsaved: false,
        }
    }

    /// Puts every change live and tells the targets that are due.
    pub async fn run(mut self) -> Delivered {
        let (asleep, targets): (Vec<Target>, Vec<Target>) = self.targets().into_iter().partition(|target| self.is_asleep(target));
        self.reports.extend(asleep.iter().map(|target| (target.name.clone(), quiet(target))));
        self.look_before(&targets).await;
        self.recognise_served(&targets);
        self.try_pairs(&targets).await;
        let mut ready = BTreeMap::new();
        ready.extend(targets.iter().map(|target| (target.name.clone(), self.readiness(target))));
        self.go_live(&ready);
        for target in &targets {
            let report = match ready.get(&target.name) {
                // What made it due may be gone by now: an earlier target failed, and the certificate went back.
                Some(Readiness::Due) if self.due(target).is_none() => self.at_rest(target),
                Some(Readiness::Due) if self.stop.is_cancelled() => self.leave_pending(target, STOPPED.to_owned()),
                Some(Readiness::Due) => self.tell(target).await,
                Some(Readiness::Wait(why)) => {
                    let refused = self.reports.remove(&target.name);
                    let pending = self.leave_pending(target, why.clone());
                    refused.unwrap_or(pending)
                }
                _ => self.at_rest(target),
            };
            self.reports.insert(target.name.clone(), report);
        }
        self.follow_rollbacks(&targets).await;
        self.remember_served(&targets);
        Delivered { changes: self.changes, targets: self.reports.into_values().collect(), is_asleep: targets.is_empty() }
    }

    /// Targets of the entries in scope, by name.
    fn targets(&self) -> Vec<Target> {
        let wanted: BTreeSet<&str> = self.entries.values().flat_map(|entry| entry.deploy.iter().map(String::as_str)).collect();
        self.settings.targets.values().filter(|target| wanted.contains(target.name.as_str())).cloned().collect()
    }

    /// Entries that a target serves and that have something on disk.
    fn members(&self, target: &Target) -> impl Iterator<Item = &'a Certificate> {
        let serving = self.entries.values().copied().filter(|entry| entry.deploy.contains(&target.name));
        serving.filter(|entry| self.target_live(&entry.name).is_some())
    }

    /// What is to be served for an entry: the change on its way, unless it was rolled back, else what is live.
    fn target_live(&self, name: &str) -> Option<Arc<Live>> {
        match self.changes.get(name) {
            Some(change) if matches!(change.stage, Stage::Staged | Stage::Live) => Some(change.shown.clone()),
            Some(Change { old: Some(old), .. }) => Some(live::live_of(old)),
            _ => self.ledger.certificates.get(name).and_then(|record| record.live.clone()),
        }
    }

    /// What a target has to say in a pass that does not touch it: what it refused beforehand, if anything.
    fn at_rest(&mut self, target: &Target) -> TargetReport {
        self.reports.remove(&target.name).unwrap_or_else(|| quiet(target))
    }

    /// One more bounded step was taken: whoever watches may know.
    fn step(&self) {
        (self.progress)(Progress::Step);
    }

    /// Entries of a target that went live in this pass.
    fn changed(&self, target: &Target) -> Vec<String> {
        let live =
            self.changes.iter().filter(|(_, change)| change.stage == Stage::Live && change.entry.deploy.contains(&target.name));
        live.map(|(name, _)| name.clone()).collect()
    }
}

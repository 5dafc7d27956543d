//! What was found goes live and is shown by its servers: publish, test, reload, verify, and back again when that fails.
//!
//! Start at [`Delivery::run`]. A target is told once per pass, however many certificates changed. Nothing is recorded as reloaded before
//! the reload succeeded, nor as verified before it was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Certificate, Format, Settings, Target, TargetKind, VerifyAddress};
use crate::deploy::{self, Expected, UnitState, Update};
use crate::failpoint;
use crate::ledger::{Delivery as Told, Ledger, Rejection};
use crate::report::{Failure, Fingerprint, Live, Served, TargetAction, TargetReport};
use crate::store::{Installed, Store};

use super::Progress;
use super::live::{self, Placed};
use super::window;

/// Names looked at per certificate and address at most.
const MAX_NAMES: usize = 16;
/// A previous generation that ends sooner than this is no refuge while the new one is valid.
const REFUGE: SignedDuration = SignedDuration::from_hours(72);
/// What is served that ends sooner than this does not wait for a window.
const URGENT: SignedDuration = SignedDuration::from_hours(72);
/// Tries of a certificate that a server rejects before it is held.
const MAX_TRIES: u32 = 3;
/// The gap before the second try of what failed; doubled from try to try.
const FIRST_GAP: SignedDuration = SignedDuration::from_mins(30);
/// Why a target waits whose turn did not come.
const STOPPED: &str = "certsyncd was stopped before its turn came";
/// The longest such gap.
const LONGEST_GAP: SignedDuration = SignedDuration::from_hours(24);

/// One entry on its way to its servers.
pub(super) struct Change {
    pub entry: Certificate,
    /// The provider's id of `new`.
    pub id: Option<String>,
    pub new: Installed,
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
    /// What was seen before anything moved: per target.
    before: BTreeMap<String, Vec<Served>>,
    /// What was seen last, per target.
    after: BTreeMap<String, Vec<Served>>,
    reports: BTreeMap<String, TargetReport>,
}

/// What [`Delivery::run`] leaves.
pub(super) struct Delivered {
    pub changes: BTreeMap<String, Change>,
    pub targets: Vec<TargetReport>,
}

/// Why a target is to be told, or why not now.
enum Readiness {
    Due,
    NotDue,
    Wait(String),
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
            before: BTreeMap::new(),
            after: BTreeMap::new(),
            reports: BTreeMap::new(),
        }
    }

    /// Puts every change live and tells the targets that are due.
    pub async fn run(mut self) -> Delivered {
        let (asleep, targets): (Vec<Target>, Vec<Target>) = self.targets().into_iter().partition(|target| self.is_asleep(target));
        self.reports.extend(asleep.iter().map(|target| (target.name.clone(), quiet(target))));
        self.look_before(&targets).await;
        self.recognise_served(&targets);
        self.try_pairs(&targets).await;
        let ready: BTreeMap<String, Readiness> = targets.iter().map(|t| (t.name.clone(), self.readiness(t))).collect();
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
        Delivered { changes: self.changes, targets: self.reports.into_values().collect() }
    }

    /// Targets of the entries in scope, by name.
    fn targets(&self) -> Vec<Target> {
        let wanted: BTreeSet<&str> = self.entries.values().flat_map(|entry| entry.deploy.iter().map(String::as_str)).collect();
        self.settings.targets.values().filter(|target| wanted.contains(target.name.as_str())).cloned().collect()
    }

    /// Whether there is nothing to ask and nothing to tell, as the ledger alone says.
    fn is_asleep(&self, target: &Target) -> bool {
        let Some(record) = self.ledger.targets.get(&target.name) else { return false };
        let is_told = |entry: &Certificate| {
            let Some(record) = self.ledger.certificates.get(&entry.name) else { return false };
            let told = record.targets.get(&target.name).and_then(|told| told.reloaded);
            record.live.as_ref().is_some_and(|live| told == Some(live.fingerprint))
        };
        !self.force
            && target.verify.is_empty()
            && record.pending.is_none()
            && record.settings == target.fingerprint()
            && !self.changes.values().any(|change| change.entry.deploy.contains(&target.name))
            && self.entries.values().filter(|entry| entry.deploy.contains(&target.name)).all(|entry| is_told(entry))
    }

    async fn look_before(&mut self, targets: &[Target]) {
        for target in targets {
            let names: Vec<String> = self.members(target).into_iter().flat_map(|(_, names)| names).collect();
            let seen = deploy::look(&target.verify, &names, target.timeout).await;
            self.after.insert(target.name.clone(), seen.clone());
            self.before.insert(target.name.clone(), seen);
            self.step();
        }
    }

    /// Entries that a target serves and that have something on disk, with the names to look for.
    fn members(&self, target: &Target) -> Vec<(String, Vec<String>)> {
        let serving = self.entries.values().filter(|entry| entry.deploy.contains(&target.name));
        serving
            .filter_map(|entry| {
                self.target_live(&entry.name).map(|live| (entry.name.clone(), sni_names(&live.names, &entry.names)))
            })
            .collect()
    }

    /// What is to be served for an entry: the change on its way, unless it was rolled back, else what is live.
    fn target_live(&self, name: &str) -> Option<Live> {
        match self.changes.get(name) {
            Some(change) if matches!(change.stage, Stage::Staged | Stage::Live) => Some(live::live_of(&change.new)),
            Some(Change { old: Some(old), .. }) => Some(live::live_of(old)),
            _ => self.ledger.certificates.get(name).and_then(|record| record.live.clone()),
        }
    }

    fn readiness(&self, target: &Target) -> Readiness {
        let Some(_why) = self.due(target) else { return Readiness::NotDue };
        let now = self.clock.now();
        let record = self.ledger.targets.get(&target.name);
        if let Some(at) = record.and_then(|record| record.next_try).filter(|at| !self.by_hand && !self.force && *at > now) {
            // A new certificate is a new reason; only what failed before waits for its gap.
            if !self.members(target).iter().any(|(name, _)| self.changes.contains_key(name)) {
                return Readiness::Wait(format!("tried again after {}", at.strftime("%Y-%m-%d %H:%M:%SZ")));
            }
        }
        match &target.window {
            Some(window) if !window::is_open(window, &self.settings.daemon.timezone, now) && !self.is_urgent(target, now) => {
                Readiness::Wait(format!("waits for its window `{}`", window.text))
            }
            _ => Readiness::Due,
        }
    }

    /// Why a target must be told; `None`: it need not.
    fn due(&self, target: &Target) -> Option<String> {
        let record = self.ledger.targets.get(&target.name);
        if self.force {
            return Some("forced".to_owned());
        }
        if let Some(why) = record.and_then(|record| record.pending.clone()) {
            return Some(why);
        }
        if record.is_some_and(|record| !record.settings.is_empty() && record.settings != target.fingerprint()) {
            return Some("its settings changed".to_owned());
        }
        self.members(target).into_iter().find_map(|(name, names)| self.member_due(target, &name, &names))
    }

    fn member_due(&self, target: &Target, name: &str, names: &[String]) -> Option<String> {
        let live = self.target_live(name)?;
        if self.changes.get(name).is_some_and(|change| matches!(change.stage, Stage::Staged | Stage::Live)) {
            return Some(format!("`{name}` changed"));
        }
        let told = self.ledger.certificates.get(name).and_then(|record| record.targets.get(&target.name));
        let Some(told) = told.filter(|told| told.reloaded == Some(live.fingerprint)) else {
            return Some(format!("`{name}` was never told"));
        };
        let strayed = self.seen(target, names).into_iter().any(|seen| {
            let was_right = told.served.iter().any(|was| same_pair(was, seen) && was.fingerprint == Some(live.fingerprint));
            was_right && seen.fingerprint.is_some() && seen.fingerprint != Some(live.fingerprint)
        });
        strayed.then(|| format!("something else than the live `{name}` is served"))
    }

    /// What was seen before, for some names.
    fn seen<'s>(&'s self, target: &Target, names: &[String]) -> Vec<&'s Served> {
        self.before.get(&target.name).into_iter().flatten().filter(|seen| names.contains(&seen.name)).collect()
    }

    fn is_urgent(&self, target: &Target, now: Timestamp) -> bool {
        self.members(target).iter().any(|(name, names)| {
            let live = self.target_live(name);
            self.seen(target, names).iter().any(|seen| {
                let wrong = seen.fingerprint != live.as_ref().map(|live| live.fingerprint);
                wrong && seen.not_after.is_some_and(|end| end < now + URGENT)
            })
        })
    }

    /// What is served already needs no telling: a ledger that was lost, or a server that was restarted meanwhile.
    fn recognise_served(&mut self, targets: &[Target]) {
        for target in targets.iter().filter(|target| !target.verify.is_empty()) {
            let members = self.members(target);
            let mut all = !members.is_empty();
            for (name, names) in members {
                let Some(live) = self.target_live(&name).filter(|_| !self.changes.contains_key(&name)) else {
                    all = false;
                    continue;
                };
                let seen = self.seen(target, &names);
                let shown = seen.iter().any(|s| s.fingerprint == Some(live.fingerprint));
                let other = seen.iter().any(|s| s.fingerprint.is_some() && s.fingerprint != Some(live.fingerprint));
                if shown && !other {
                    self.note_reloaded(target, &name, &live, true);
                }
                all &= shown && !other;
            }
            if all {
                let record = self.ledger.targets.entry(target.name.clone()).or_default();
                (record.pending, record.last_error, record.next_try, record.failures) = (None, None, None, 0);
                if record.settings.is_empty() {
                    record.settings = target.fingerprint();
                }
            }
        }
    }

    /// Every new pair is tried before it goes live, as far as its targets allow that; what fails stays out.
    async fn try_pairs(&mut self, targets: &[Target]) {
        for target in targets {
            let names: Vec<String> =
                self.changes.values().filter(|c| c.entry.deploy.contains(&target.name)).map(|c| c.entry.name.clone()).collect();
            for (name, tried) in self.try_on(target, names).await {
                if let Err(failure) = tried {
                    let failure = failure.context(format!("`{}` would not take the new certificate of `{name}`", target.name));
                    self.refused_by(target, &name, &failure);
                    self.turn_away(&name, failure);
                }
            }
        }
    }

    /// What a target has to say in a pass that does not touch it: what it refused beforehand, if anything.
    fn at_rest(&mut self, target: &Target) -> TargetReport {
        self.reports.remove(&target.name).unwrap_or_else(|| quiet(target))
    }

    /// Notes that a target refused a certificate before anything moved; what it serves stays.
    fn refused_by(&mut self, target: &Target, name: &str, failure: &Failure) {
        let report = self.reports.entry(target.name.clone()).or_insert_with(|| quiet(target));
        report.action = TargetAction::Failed;
        report.certificates.push(name.to_owned());
        report.error.get_or_insert_with(|| failure.clone());
    }

    /// Tries new pairs on one target, so many at once: each is a handshake's arithmetic.
    async fn try_on(&self, target: &Target, names: Vec<String>) -> BTreeMap<String, Result<(), Failure>> {
        let room = Arc::new(Semaphore::new(self.settings.daemon.concurrency.max(1)));
        let target = Arc::new(target.clone());
        let mut tries = JoinSet::new();
        for name in names {
            let Some(combined) = self.changes.get(&name).map(|change| change.new.path.join("combined.pem")) else { continue };
            let (target, room) = (target.clone(), room.clone());
            tries.spawn(async move {
                let _place = room.acquire_owned().await;
                (name, deploy::stage(&target, &combined).await.map(drop))
            });
        }
        let mut tried = BTreeMap::new();
        while let Some(done) = tries.join_next().await {
            self.step();
            match done {
                Ok((name, result)) => drop(tried.insert(name, result)),
                // Not this pair's fault: it goes on as if it could not be tried, and the server's own test remains.
                Err(_panic) => {
                    tracing::error!(target = target.name, "failed to try a new certificate: a defect of certsyncd ended it")
                }
            }
        }
        tried
    }

    /// A change that must not go live: remembered as rejected, and told as this certificate's failure.
    fn turn_away(&mut self, name: &str, failure: Failure) {
        let now = self.clock.now();
        let Some(change) = self.changes.get_mut(name).filter(|change| change.stage != Stage::TurnedAway) else { return };
        change.stage = Stage::TurnedAway;
        let record = self.ledger.certificates.entry(name.to_owned()).or_default();
        reject(&mut record.rejected, change.new.bundle.fingerprint(), change.id.clone(), failure.to_string(), now);
        change.error = Some(failure);
    }

    fn go_live(&mut self, ready: &BTreeMap<String, Readiness>) {
        let names: Vec<String> =
            self.changes.iter().filter(|(_, change)| change.stage == Stage::Staged).map(|(name, _)| name.clone()).collect();
        let waits = |entry: &Certificate| {
            !entry.deploy.is_empty() && entry.deploy.iter().all(|target| matches!(ready.get(target), Some(Readiness::Wait(_))))
        };
        let due = names.into_iter().filter(|name| self.entries.get(name.as_str()).is_some_and(|entry| !waits(entry)));
        let due: Vec<String> = due.collect();
        if !due.is_empty() && !self.stop.is_cancelled() {
            self.place_all(&due);
        }
        if !self.changes.is_empty() {
            self.save();
        }
    }

    /// Makes new generations live: what lies under the links is made durable before the first one moves, the links after the last one.
    fn place_all(&mut self, names: &[String]) {
        let mut settled = self.store.settle_generations();
        if settled.is_ok() {
            for name in names {
                if !self.stop.is_cancelled() {
                    self.place_by(name, true, live::place_ahead);
                }
            }
            settled = self.store.settle_links();
        }
        if let Err(error) = settled {
            for name in names {
                if let Some(change) = self.changes.get_mut(name) {
                    change.error = Some(live::unpublished(name, &error));
                }
            }
        }
        failpoint::reach("sync.live");
    }

    /// Makes the new (or again the old) generation of one entry live, outputs included.
    fn place(&mut self, name: &str, new: bool) -> bool {
        self.place_by(name, new, live::place)
    }

    fn place_by(&mut self, name: &str, new: bool, place: fn(&Store, &Certificate, &Installed) -> Placed) -> bool {
        let Some(change) = self.changes.get_mut(name) else { return false };
        let Some(installed) = (if new { Some(&change.new) } else { change.old.as_ref() }) else { return false };
        let placed = place(self.store, &change.entry, installed);
        failpoint::reach("sync.placed");
        let record = self.ledger.certificates.entry(name.to_owned()).or_default();
        match placed {
            Placed::Live { outputs, failed } => {
                change.stage = if new { Stage::Live } else { Stage::RolledBack };
                change.error = failed;
                live::note_live(record, installed, outputs, self.clock.now());
                true
            }
            Placed::Failed(failure) => {
                change.error = Some(failure);
                false
            }
        }
    }

    /// One more bounded step was taken: whoever watches may know.
    fn step(&self) {
        (self.progress)(Progress::Step);
    }

    fn save(&mut self) {
        if let Err(error) = self.ledger.save(self.store.root()) {
            tracing::error!("failed to save the ledger: {error}");
        }
    }

    fn leave_pending(&mut self, target: &Target, why: String) -> TargetReport {
        let record = self.ledger.targets.entry(target.name.clone()).or_default();
        record.pending.get_or_insert_with(|| why.clone());
        record.settings = target.fingerprint();
        TargetReport { pending: Some(why), action: TargetAction::Pending, ..quiet(target) }
    }

    /// One target: state, update in place or test and reload, verify; with the way back.
    async fn tell(&mut self, target: &Target) -> TargetReport {
        let changed = self.changed(target);
        if let Some(why) = self.not_running(target).await {
            return self.leave_pending(target, why);
        }
        if !self.wait_for_gap(target).await {
            return self.leave_pending(target, STOPPED.to_owned());
        }
        self.step();
        let done = match self.update_in_place(target).await {
            Some(TargetAction::Updated) => Ok((TargetAction::Updated, None)),
            _ => self.test_and_reload(target, &changed).await,
        };
        match done {
            Err(report) => report,
            Ok((action, None)) => self.verify(target, action, &changed).await,
            Ok((action, Some(failed))) => self.verify_all_the_same(target, action, &changed, failed).await,
        }
    }

    /// After a reload that went well although the test fails whatever is live: what is served counts, and the test stays to be looked at.
    async fn verify_all_the_same(
        &mut self,
        target: &Target,
        action: TargetAction,
        changed: &[String],
        failed: TargetReport,
    ) -> TargetReport {
        let record = self.ledger.targets.get(&target.name).cloned();
        let seen = self.verify(target, action, changed).await;
        if seen.action != action {
            return seen;
        }
        self.ledger.targets.extend(record.map(|record| (target.name.clone(), record)));
        self.save();
        failed
    }

    /// Entries of a target that went live in this pass.
    fn changed(&self, target: &Target) -> Vec<String> {
        let live =
            self.changes.iter().filter(|(_, change)| change.stage == Stage::Live && change.entry.deploy.contains(&target.name));
        live.map(|(name, _)| name.clone()).collect()
    }

    /// Why there is no server to tell; `None`: there may be one.
    async fn not_running(&self, target: &Target) -> Option<String> {
        let unit = target.unit.as_deref()?;
        match deploy::state(target).await {
            UnitState::Inactive | UnitState::Failed => {
                Some(format!("`{unit}` is not running; it reads the new files when it starts"))
            }
            UnitState::Activating => Some(format!("`{unit}` is starting; it reads the new files itself")),
            UnitState::Active | UnitState::Unknown => None,
        }
    }

    /// Nothing listened on any of the target's addresses, before as now.
    fn nothing_listened(&self, target: &Target) -> bool {
        let before = self.before.get(&target.name);
        !target.verify.is_empty()
            && before.is_some_and(|seen| !seen.is_empty() && seen.iter().all(|s| s.fingerprint.is_none() && refused(s)))
    }

    /// Waits until the target may be told again; `false`: stopped meanwhile.
    async fn wait_for_gap(&mut self, target: &Target) -> bool {
        let now = self.clock.now();
        let last = self.ledger.targets.get(&target.name).and_then(|record| record.last_reload);
        let gap = SignedDuration::try_from(target.min_gap).unwrap_or(SignedDuration::ZERO);
        if let Some(left) =
            last.filter(|last| *last <= now).map(|last| (last + gap).duration_since(now)).filter(|left| left.is_positive())
        {
            tracing::info!(target = target.name, "waits {}s before the next reload of `{}`", left.as_secs(), target.name);
            tokio::select! {
                () = tokio::time::sleep(left.unsigned_abs()) => {}
                () = self.stop.cancelled() => return false,
            }
        }
        let now = self.clock.now();
        self.ledger.targets.entry(target.name.clone()).or_default().last_reload = Some(now);
        true
    }

    /// haproxy's Runtime API; `None`: not possible for every certificate, so the files must be read again.
    async fn update_in_place(&mut self, target: &Target) -> Option<TargetAction> {
        let TargetKind::Haproxy { socket: Some(socket) } = &target.kind else { return None };
        let due: Vec<String> = self
            .members(target)
            .into_iter()
            .filter(|(name, names)| self.member_due(target, name, names).is_some())
            .map(|(name, _)| name)
            .collect();
        if due.is_empty() {
            return None;
        }
        for name in due {
            let installed = self.store.live(&name).ok().flatten()?;
            let combined = installed.bundle.files().files.remove("combined.pem")?;
            let link = live::combined_path(self.store, &name);
            let mut paths = vec![link];
            let outputs = self.entries.get(name.as_str()).into_iter().flat_map(|entry| &entry.outputs);
            paths.extend(outputs.filter(|output| output.format == Format::Combined).map(|output| output.path.clone()));
            self.step();
            if !update_one(socket, target, &name, &paths, &combined, installed.bundle.fingerprint()).await {
                return None;
            }
        }
        Some(TargetAction::Updated)
    }

    /// Test where one is configured, then reload; on failure finds out whose fault it is. With a report: the reload went well, but the
    /// test fails whatever is live.
    async fn test_and_reload(
        &mut self,
        target: &Target,
        changed: &[String],
    ) -> Result<(TargetAction, Option<TargetReport>), TargetReport> {
        let mut blamed = None;
        if target.test.is_some()
            && let Err(error) = deploy::test(target).await
        {
            blamed = self.blame(target, changed, error, Step::Test).await?;
        }
        self.step();
        let left: Vec<String> = self.changed(target);
        let action = match deploy::reload(target).await {
            Ok(()) => TargetAction::Reloaded,
            Err(error) => {
                let failure = error;
                if self.nothing_listened(target) {
                    return Err(self.leave_pending(target, format!("its server is not running: {failure}")));
                }
                match self.blame(target, &left, failure, Step::Reload).await? {
                    None => TargetAction::Reloaded,
                    Some(report) => return Err(report),
                }
            }
        };
        Ok((action, blamed))
    }

    /// After `step` failed: puts the old generations back and tries again, to tell the certificate's fault from the server's.
    ///
    /// `Err`: the target is done with, rolled back. `Ok(None)`: the culprits are out, the rest is live and passed the step.
    /// `Ok(Some(report))`: it fails with the old ones too; the new files are live again.
    async fn blame(
        &mut self,
        target: &Target,
        changed: &[String],
        failure: Failure,
        step: Step,
    ) -> Result<Option<TargetReport>, TargetReport> {
        let movable: Vec<String> = changed.iter().filter(|name| self.may_go_back(name)).cloned().collect();
        if movable.is_empty() {
            let remark = if changed.is_empty() {
                "nothing new was put live"
            } else {
                "there is nothing good to put back, so the new files stay"
            };
            let report =
                self.failed(target, failure.context(format!("`{}` failed at {}; {remark}", target.name, step.word())), changed);
            return Ok(Some(report));
        }
        for name in &movable {
            self.place(name, false);
        }
        self.save();
        self.step();
        if let Err(again) = step.run(target).await {
            for name in &movable {
                self.place(name, true);
            }
            self.save();
            let failure = again.context(format!(
                "`{}` fails at {} with the previous certificates too, so its configuration is at fault; the new files are live and wait",
                target.name,
                step.word()
            ));
            return Ok(Some(self.failed(target, failure, changed)));
        }
        let culprits = self.culprits(target, &movable, step).await;
        let report =
            self.rejected(target, &culprits, failure.context(format!("`{}` failed at {}", target.name, step.word()))).await;
        if culprits.len() == movable.len() && changed.len() == movable.len() {
            Err(report)
        } else {
            self.reports.insert(target.name.clone(), report);
            Ok(None)
        }
    }

    /// Puts the certificates live one by one; those with which `step` fails are the culprits and stay out.
    async fn culprits(&mut self, target: &Target, movable: &[String], step: Step) -> Vec<String> {
        if let [only] = movable {
            return vec![only.clone()];
        }
        let mut culprits = Vec::new();
        for name in movable {
            self.place(name, true);
            self.step();
            if step.run(target).await.is_err() {
                self.place(name, false);
                culprits.push(name.clone());
            }
        }
        self.save();
        self.step();
        if step == Step::Reload && !culprits.is_empty() {
            // The last reload may have been a failing one: the server must read what is live now.
            if let Err(error) = deploy::reload(target).await {
                tracing::error!(
                    target = target.name,
                    "failed to reload after the rejected certificates were taken out: {}",
                    error
                );
            }
        }
        culprits
    }

    /// Whether the previous generation of a changed entry is a refuge.
    fn may_go_back(&self, name: &str) -> bool {
        let now = self.clock.now();
        let Some(Change { old: Some(old), new, .. }) = self.changes.get(name) else { return false };
        let new_is_valid = new.bundle.not_after() > now;
        !(new_is_valid && old.bundle.not_after() < now + REFUGE)
    }

    /// Looks at what is served, all at once; what used to be right and is not now goes back.
    async fn verify(&mut self, target: &Target, action: TargetAction, changed: &[String]) -> TargetReport {
        let members = self.members(target);
        let mut expected = Vec::new();
        let mut owners = Vec::new();
        for (name, names) in &members {
            let Some(live) = self.target_live(name) else { continue };
            for (address, sni) in self.expected_pairs(target, name, names) {
                expected.push(Expected { address, name: sni, fingerprint: live.fingerprint });
                owners.push(name.clone());
            }
        }
        self.step();
        let seen = deploy::wait_all(&expected, target.timeout).await;
        self.step();
        self.keep_seen(target, &seen);
        let mut wrong: BTreeMap<String, Vec<Served>> = BTreeMap::new();
        for ((owner, expected), seen) in owners.into_iter().zip(&expected).zip(seen) {
            if seen.fingerprint != Some(expected.fingerprint) {
                wrong.entry(owner).or_default().push(seen);
            }
        }
        for (name, names) in &members {
            if let Some(live) = self.target_live(name) {
                let shown = self
                    .after
                    .get(&target.name)
                    .into_iter()
                    .flatten()
                    .any(|s| names.contains(&s.name) && s.fingerprint == Some(live.fingerprint));
                if shown && !self.was_known(target, name, names) {
                    // Nothing showed it before: one address that shows it is proof enough, the others never did.
                    wrong.remove(name);
                }
                self.note_reloaded(target, name, &live, shown && !wrong.contains_key(name));
            }
        }
        if wrong.is_empty() {
            return self.done(target, action, changed);
        }
        if self.nothing_listened(target) && wrong.values().flatten().all(refused) {
            return self.leave_pending(target, "nothing listens on its `verify` addresses; its server is not running".to_owned());
        }
        self.put_back(target, wrong, changed).await
    }

    /// Whether some pair of an entry showed its certificate, the old or the live one, before this pass moved anything.
    fn was_known(&self, target: &Target, name: &str, names: &[String]) -> bool {
        self.pairs(target, names).iter().any(|pair| self.showed(target, name, pair))
    }

    fn pairs(&self, target: &Target, names: &[String]) -> Vec<(VerifyAddress, String)> {
        target.verify.iter().flat_map(|address| names.iter().map(move |name| (address.clone(), name.clone()))).collect()
    }

    /// Whether one address showed one name the old or the live certificate of an entry, just before or in an earlier pass.
    fn showed(&self, target: &Target, name: &str, (address, sni): &(VerifyAddress, String)) -> bool {
        let old = self.changes.get(name).and_then(|change| change.old.as_ref()).map(|old| old.bundle.fingerprint());
        let live = self.target_live(name).map(|live| live.fingerprint);
        let told = self.ledger.certificates.get(name).and_then(|record| record.targets.get(&target.name));
        let now = self.before.get(&target.name).into_iter().flatten();
        let then = told.into_iter().flat_map(|told| &told.served);
        let address = address.to_string();
        now.chain(then)
            .filter(|s| s.address == address && s.name == *sni)
            .any(|s| s.fingerprint.is_some() && (s.fingerprint == old || s.fingerprint == live))
    }

    /// The pairs of address and name that must show the live leaf: those that showed it or the one before; where none did, all are asked.
    fn expected_pairs(&self, target: &Target, name: &str, names: &[String]) -> Vec<(VerifyAddress, String)> {
        let all = self.pairs(target, names);
        let known: Vec<_> = all.iter().filter(|pair| self.showed(target, name, pair)).cloned().collect();
        if known.is_empty() { all } else { known }
    }

    fn keep_seen(&mut self, target: &Target, seen: &[Served]) {
        let all = self.after.entry(target.name.clone()).or_default();
        for new in seen {
            match all.iter_mut().find(|old| same_pair(old, new)) {
                Some(old) => *old = new.clone(),
                None => all.push(new.clone()),
            }
        }
    }

    fn note_reloaded(&mut self, target: &Target, name: &str, live: &Live, verified: bool) {
        let record = self.ledger.certificates.entry(name.to_owned()).or_default();
        let told = record.targets.entry(target.name.clone()).or_default();
        told.published = Some(live.fingerprint);
        told.reloaded = Some(live.fingerprint);
        told.verified = (verified && !target.verify.is_empty()).then_some(live.fingerprint);
    }

    fn done(&mut self, target: &Target, action: TargetAction, changed: &[String]) -> TargetReport {
        let earlier = self.reports.remove(&target.name);
        let record = self.ledger.targets.entry(target.name.clone()).or_default();
        record.settings = target.fingerprint();
        record.pending = None;
        record.last_error = None;
        record.failures = 0;
        record.next_try = None;
        self.save();
        match earlier {
            // Culprits were taken out on the way: that is what must be told.
            Some(report) => report,
            None => TargetReport { action, certificates: changed.to_vec(), ..quiet(target) },
        }
    }

    /// The target failed and stays pending; the next tries come with growing gaps.
    fn failed(&mut self, target: &Target, failure: Failure, certificates: &[String]) -> TargetReport {
        let now = self.clock.now();
        let record = self.ledger.targets.entry(target.name.clone()).or_default();
        record.settings = target.fingerprint();
        record.failures += 1;
        record.pending = Some(failure.causes.first().cloned().unwrap_or_default());
        record.last_error = Some(failure.clone());
        record.next_try = Some(now + gap(record.failures));
        self.save();
        TargetReport { action: TargetAction::Failed, certificates: certificates.to_vec(), error: Some(failure), ..quiet(target) }
    }

    /// Wrong certificates are served: those with a refuge go back, with every target of theirs.
    async fn put_back(&mut self, target: &Target, wrong: BTreeMap<String, Vec<Served>>, changed: &[String]) -> TargetReport {
        let failure = not_served(target, &wrong);
        let back: Vec<String> = wrong
            .keys()
            .filter(|name| changed.contains(name) && self.showed_old(target, name) && self.may_go_back(name))
            .cloned()
            .collect();
        if back.is_empty() {
            return self.failed(target, failure, &wrong.keys().cloned().collect::<Vec<_>>());
        }
        for name in &back {
            self.place(name, false);
        }
        self.save();
        let reloaded = deploy::reload(target).await.err();
        let report = self.rejected(target, &back, failure).await;
        match reloaded {
            None => report,
            Some(failure) => {
                let error = report.error.clone().map(|e| Failure {
                    causes: [e.causes, vec!["the reload with the previous certificate failed too".into()], failure.causes]
                        .concat(),
                    ..e
                });
                TargetReport { action: TargetAction::Failed, error, ..report }
            }
        }
    }

    /// Whether an address showed the old leaf of a changed entry before.
    fn showed_old(&self, target: &Target, name: &str) -> bool {
        let old = self.changes.get(name).and_then(|change| change.old.as_ref()).map(|old| old.bundle.fingerprint());
        old.is_some() && self.before.get(&target.name).into_iter().flatten().any(|seen| seen.fingerprint == old)
    }

    /// Culprits are out and the old ones live: remembers that, and looks at what is served now.
    async fn rejected(&mut self, target: &Target, culprits: &[String], failure: Failure) -> TargetReport {
        let now = self.clock.now();
        let mut shown = Vec::new();
        for name in culprits {
            let Some(change) = self.changes.get(name) else { continue };
            let why = failure.to_string();
            let (fingerprint, id) = (change.new.bundle.fingerprint(), change.id.clone());
            let old = change.old.as_ref().map(live::live_of);
            let names = old.as_ref().map(|old| sni_names(&old.names, &change.entry.names)).unwrap_or_default();
            if let Some(record) = self.ledger.certificates.get_mut(name) {
                reject(&mut record.rejected, fingerprint, id, why, now);
            }
            if let Some(old) = old {
                let pairs = self.expected_pairs(target, name, &names);
                self.step();
                let seen = deploy::wait_served(&pairs, old.fingerprint, target.timeout).await;
                self.keep_seen(target, &seen);
                let right = !seen.is_empty() && seen.iter().all(|s| s.fingerprint == Some(old.fingerprint));
                self.note_reloaded(target, name, &old, right);
                shown.push(served_now(name, &old, &seen));
            }
        }
        let mut failure = failure;
        failure.causes.push(format!("put back the previous certificate of {}", quoted(culprits)));
        failure.causes.extend(shown);
        failure.hint.get_or_insert_with(|| {
            "see what the server says of the new certificate, then run `certsyncd sync --force NAME`".to_owned()
        });
        let record = self.ledger.targets.entry(target.name.clone()).or_default();
        record.settings = target.fingerprint();
        record.last_error = Some(failure.clone());
        record.pending = None;
        self.save();
        TargetReport { action: TargetAction::RolledBack, certificates: culprits.to_vec(), error: Some(failure), ..quiet(target) }
    }

    /// A rollback takes every target of the certificate with it: those that were told of the new one are told again.
    async fn follow_rollbacks(&mut self, targets: &[Target]) {
        for target in targets {
            let stale = self.members(target).into_iter().any(|(name, _)| {
                let rolled_back = self.changes.get(&name).is_some_and(|change| change.stage == Stage::RolledBack);
                let told = self
                    .ledger
                    .certificates
                    .get(&name)
                    .and_then(|record| record.targets.get(&target.name))
                    .and_then(|told| told.reloaded);
                rolled_back && told.is_some() && told != self.target_live(&name).map(|live| live.fingerprint)
            });
            if !stale {
                continue;
            }
            let before = self.after.get(&target.name).cloned().unwrap_or_default();
            self.before.insert(target.name.clone(), before);
            let report = self.tell(target).await;
            let action = if report.action == TargetAction::Failed { TargetAction::Failed } else { TargetAction::RolledBack };
            let why = Failure {
                kind: "rolled_back".to_owned(),
                causes: vec!["another target failed with the new certificate, so the previous one is live again".to_owned()],
                hint: None,
                transient: false,
            };
            let error = report.error.or(Some(why));
            self.reports.insert(target.name.clone(), TargetReport { action, error, ..report });
        }
    }

    /// Keeps what was seen in the ledger: the measure of the next pass.
    fn remember_served(&mut self, targets: &[Target]) {
        for target in targets {
            let seen = self.after.get(&target.name).cloned().unwrap_or_default();
            for (name, names) in self.members(target) {
                let mine: Vec<Served> = seen.iter().filter(|s| names.contains(&s.name)).cloned().collect();
                let live = self.target_live(&name).map(|live| live.fingerprint);
                let told: &mut Told =
                    self.ledger.certificates.entry(name).or_default().targets.entry(target.name.clone()).or_default();
                warn_once(target, told, &mine, live);
                // What was right once stays the measure while the address is silent.
                told.served = mine
                    .into_iter()
                    .map(|new| keep_measure(told.served.iter().find(|old| same_pair(old, &new)), new, live))
                    .collect();
            }
        }
        if !targets.is_empty() {
            self.save();
        }
    }
}

/// Updates one certificate in haproxy's memory, by whichever of its files haproxy loaded; `false`: a reload must do it.
async fn update_one(socket: &Path, target: &Target, name: &str, paths: &[PathBuf], pem: &[u8], leaf: Fingerprint) -> bool {
    let mut why = Vec::new();
    for path in paths {
        match deploy::update(socket, path, pem, leaf, target.timeout).await {
            Ok(Update::Updated) => return true,
            Ok(Update::NotThere(reason)) => why.push(reason),
            Err(error) => why.push(error.to_failure().to_string()),
        }
    }
    tracing::info!(
        target = target.name,
        certificate = name,
        "reloads `{}` instead of updating in place: {}",
        target.name,
        why.join("; ")
    );
    false
}

/// The two steps that can tell whose fault it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Test,
    Reload,
}

impl Step {
    fn word(self) -> &'static str {
        match self {
            Step::Test => "test",
            Step::Reload => "reload",
        }
    }

    async fn run(self, target: &Target) -> Result<(), Failure> {
        match self {
            Step::Test => deploy::test(target).await,
            Step::Reload => deploy::reload(target).await,
        }
    }
}

/// Remembers a certificate that a server rejected: tried again with growing gaps, then held.
pub(super) fn reject(rejected: &mut Vec<Rejection>, fingerprint: Fingerprint, id: Option<String>, why: String, now: Timestamp) {
    let at = rejected.iter().position(|r| r.fingerprint == fingerprint);
    let tries = at.and_then(|at| rejected.get(at)).map_or(0, |r| r.tries) + 1;
    let next_try = (tries < MAX_TRIES).then(|| now + gap(tries));
    rejected.retain(|r| r.fingerprint != fingerprint);
    rejected.push(Rejection { fingerprint, id, why, tries, next_try });
}

/// 30 minutes, then twice as long from failure to failure, up to a day.
fn gap(failures: u32) -> SignedDuration {
    let doubled = FIRST_GAP.checked_mul(1i32.checked_shl(failures.saturating_sub(1).min(16)).unwrap_or(1));
    doubled.unwrap_or(LONGEST_GAP).min(LONGEST_GAP)
}

/// Names to send as SNI: the entry's own first; a wildcard is no SNI, so a name under it stands for it.
pub(super) fn sni_names(covered: &[String], wanted: &[String]) -> Vec<String> {
    let concrete = wanted.iter().chain(covered).filter(|name| !name.contains('*') && name.parse::<std::net::IpAddr>().is_err());
    let mut names: Vec<String> = Vec::new();
    for name in concrete {
        if !names.contains(name) && names.len() < MAX_NAMES {
            names.push(name.clone());
        }
    }
    if names.is_empty() {
        names.extend(covered.iter().find_map(|name| name.strip_prefix("*.")).map(|parent| format!("www.{parent}")));
    }
    names
}

fn same_pair(one: &Served, other: &Served) -> bool {
    one.address == other.address && one.name == other.name
}

/// Nothing answered at all.
fn refused(seen: &Served) -> bool {
    seen.fingerprint.is_none()
}

fn keep_measure(old: Option<&Served>, new: Served, live: Option<Fingerprint>) -> Served {
    match old {
        Some(old) if new.fingerprint.is_none() && old.fingerprint.is_some() && old.fingerprint == live => {
            Served { fingerprint: old.fingerprint, not_after: old.not_after, ..new }
        }
        _ => new,
    }
}

/// An address that never showed a certificate, while another one does, is told once.
fn warn_once(target: &Target, told: &mut Told, seen: &[Served], live: Option<Fingerprint>) {
    let right = |s: &Served| s.fingerprint.is_some() && s.fingerprint == live;
    if !seen.iter().any(right) {
        return;
    }
    for odd in seen.iter().filter(|s| !right(s) && s.fingerprint.is_some()) {
        let pair = format!("{} {}", odd.address, odd.name);
        let was_right = told.served.iter().any(|was| same_pair(was, odd) && right(was));
        if !was_right && !told.never_matched.contains(&pair) {
            tracing::warn!(target = target.name, "{}, which is not its live certificate; it is not waited for", describe(odd));
            told.never_matched.push(pair);
        }
    }
}

fn quiet(target: &Target) -> TargetReport {
    TargetReport {
        name: target.name.clone(),
        action: TargetAction::Unchanged,
        certificates: Vec::new(),
        error: None,
        pending: None,
    }
}

fn not_served(target: &Target, wrong: &BTreeMap<String, Vec<Served>>) -> Failure {
    let mut causes = vec![format!(
        "`{}` does not serve the new certificate of {}",
        target.name,
        quoted(&wrong.keys().cloned().collect::<Vec<_>>())
    )];
    causes.extend(wrong.values().flatten().take(4).map(describe));
    Failure { kind: "verify".to_owned(), causes, hint: None, transient: false }
}

fn describe(seen: &Served) -> String {
    match (&seen.fingerprint, &seen.error) {
        (Some(fingerprint), _) => format!("{} shows {} for `{}`", seen.address, fingerprint.short(), seen.name),
        (None, Some(error)) => format!("{} shows nothing for `{}`: {error}", seen.address, seen.name),
        (None, None) => format!("{} shows nothing for `{}`", seen.address, seen.name),
    }
}

fn served_now(name: &str, old: &Live, seen: &[Served]) -> String {
    match seen.iter().find(|s| s.fingerprint != Some(old.fingerprint)) {
        None if seen.is_empty() => format!("`{name}`: generation {} is live, and no address says what is served", old.generation),
        None => format!("`{name}`: generation {} is live and served again", old.generation),
        Some(bad) => format!("`{name}`: generation {} is live, but {}", old.generation, describe(bad)),
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

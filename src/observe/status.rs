//! What is installed, until when, and what failed last: the document behind `status`, `/status.json` and the metrics' dates.
//!
//! Start at [`document`], a pure function of settings, ledger and what is on disk. After each pass it is written to `<state_dir>/status.json`
//! ([`write()`]), which anybody may read, so that `status` ([`read`], then [`Document::refresh`]) needs neither root nor a secret.
//! A document that is missing, damaged or of a newer version is an [`Error`]; a reader then has nothing to show.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::atomic::{self, Access};
use crate::config::{Settings, Wanted};
use crate::ledger::{CertificateRecord, Ledger, Pulse, Rejection, TargetRecord};
use crate::report::{Fingerprint, Live, Served, SuccessorNote, Valid, days_left};

/// The version of the document.
pub const VERSION: u32 = 1;
/// The document's name in the state directory.
pub const FILE: &str = "status.json";
/// The largest document that is read: some ten thousand certificates.
pub const MAX_BYTES: u64 = 64 << 20;

/// The whole picture (version 1 of the contract; fields may be added).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// In the inventory's order; then what is on disk and no longer in it.
    pub certificates: Vec<Certificate>,
    /// When the last whole pass ended.
    pub last_pass: Option<Timestamp>,
    /// Whether nothing failed in it.
    pub last_pass_ok: Option<bool>,
    /// When the next one is due, before splay.
    pub next_pass: Option<Timestamp>,
    /// Seconds between two passes, at most.
    pub interval_seconds: Option<u64>,
}

/// One certificate of a [`Document`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// The entry's name.
    pub name: String,
    /// Its provider's table.
    pub provider: String,
    /// The provider's id of what is live, else of what is wanted.
    pub id: Option<String>,
    /// How it is, in one word.
    pub state: State,
    /// The provider's flag (CDS).
    pub valid: Option<Valid>,
    /// Names that the live certificate covers, else those demanded.
    pub names: Vec<String>,
    /// Start of the live certificate.
    pub not_before: Option<Timestamp>,
    /// End of the live certificate.
    pub not_after: Option<Timestamp>,
    /// Whole days until then, rounded down; negative once past.
    pub days_left: Option<i64>,
    /// At this many days left it is `expiring`.
    pub warn_days: u32,
    /// SHA-256 of the live leaf.
    pub fingerprint: Option<Fingerprint>,
    /// The live generation.
    pub generation: Option<String>,
    /// When it was last looked at with success.
    pub last_checked: Option<Timestamp>,
    /// When another generation last went live.
    pub last_changed: Option<Timestamp>,
    /// What failed last, in one line; null when it went well.
    pub last_error: Option<String>,
    /// What would mend it.
    pub hint: Option<String>,
    /// Why the newest fetched one is not live.
    pub held: Option<String>,
    /// What must not go live again by itself.
    pub rejected: Vec<Rejection>,
    /// A renewal that waits for the operator.
    pub successor: Option<SuccessorNote>,
    /// Where it is deployed.
    pub targets: Vec<Delivered>,
}

/// How a certificate is, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Past its end, or the provider says so.
    Expired,
    /// It could not be fetched or deployed at the last try.
    Failed,
    /// Nothing is installed.
    Missing,
    /// Ends within [`Certificate::warn_days`], or the provider says so.
    Expiring,
    /// Another one was fetched and waits.
    Held,
    /// Installed, and a server does not have it yet.
    Pending,
    /// Installed and, where that was looked at, served.
    Ok,
    /// On disk, no longer in the inventory.
    Removed,
}

impl State {
    /// Every state, worst first.
    pub const ALL: [State; 8] =
        [State::Expired, State::Failed, State::Missing, State::Expiring, State::Held, State::Pending, State::Ok, State::Removed];

    /// The word in the document.
    pub fn name(self) -> &'static str {
        match self {
            State::Expired => "expired",
            State::Failed => "failed",
            State::Missing => "missing",
            State::Expiring => "expiring",
            State::Held => "held",
            State::Pending => "pending",
            State::Ok => "ok",
            State::Removed => "removed",
        }
    }
}

/// How far a certificate got at one target. Fingerprints are of leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivered {
    /// The target's table.
    pub name: String,
    /// What was on disk when the target was last told.
    pub published: Option<Fingerprint>,
    /// What the last reload or update in place brought.
    pub reloaded: Option<Fingerprint>,
    /// What was seen served.
    pub verified: Option<Fingerprint>,
    /// Why it does not have the live one yet; null when it has.
    pub pending: Option<String>,
    /// What each address showed at the last look.
    pub served: Vec<Served>,
}

/// When passes come, worked out by `schedule`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// The next one, before splay.
    pub next_pass: Option<Timestamp>,
    /// The longest time between two.
    pub interval: Option<Duration>,
}

/// The picture at `now`. `on_disk` are the names that have a live generation. Without settings (they do not parse, say) the ledger alone
/// is shown and nothing counts as removed.
pub fn document(
    settings: Option<&Settings>,
    ledger: &Ledger,
    on_disk: &BTreeSet<String>,
    pace: Pace,
    now: Timestamp,
) -> Document {
    let mut certificates = match settings {
        Some(settings) => inventory(settings, ledger, on_disk),
        None => remembered(ledger, on_disk),
    };
    for certificate in &mut certificates {
        certificate.refresh(now);
    }
    Document {
        version: VERSION,
        certificates,
        last_pass: ledger.last_pass.as_ref().map(|pass| pass.finished),
        last_pass_ok: ledger.last_pass.as_ref().map(|pass| pass.ok),
        next_pass: pace.next_pass,
        interval_seconds: pace.interval.map(|interval| interval.as_secs()),
    }
}

impl Document {
    /// The same facts at another time: days left and what follows from them.
    pub fn refresh(&mut self, now: Timestamp) {
        for certificate in &mut self.certificates {
            certificate.refresh(now);
        }
    }

    /// Adds the times of the quiet passes since it was written.
    pub fn follow(&mut self, pulse: &Pulse) {
        if pulse.document.as_ref().is_none_or(|written| Some(written.last_pass) != self.last_pass) {
            return;
        }
        for certificate in &mut self.certificates {
            if certificate.last_checked >= Some(pulse.base.started) {
                certificate.last_checked = Some(pulse.pass.started);
            }
        }
        self.last_pass = Some(pulse.pass.finished);
        self.last_pass_ok = Some(pulse.pass.ok);
        (self.next_pass, self.interval_seconds) = (pulse.next_pass, pulse.interval_seconds);
    }

    /// Keeps only the named certificates; the names that are not there come back.
    pub fn select(&mut self, names: &[String]) -> Vec<String> {
        let unknown = |name: &&String| !self.certificates.iter().any(|certificate| certificate.name == **name);
        let unknown = names.iter().filter(unknown).cloned().collect();
        if !names.is_empty() {
            self.certificates.retain(|certificate| names.contains(&certificate.name));
        }
        unknown
    }

    /// The certificates of the inventory: all but those removed from it.
    pub fn current(&self) -> impl Iterator<Item = &Certificate> {
        self.certificates.iter().filter(|certificate| certificate.state != State::Removed)
    }

    /// The live certificate that ends first.
    pub fn first_to_end(&self) -> Option<&Certificate> {
        self.current().filter(|certificate| certificate.not_after.is_some()).min_by_key(|certificate| certificate.not_after)
    }

    /// Whether the last pass is older than three intervals: then nobody is at work and nothing here is news.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        let Some(last) = self.last_pass else { return true };
        let Some(interval) = self.interval_seconds.and_then(|seconds| i64::try_from(seconds).ok()) else { return false };
        now.duration_since(last) > SignedDuration::from_secs(interval.saturating_mul(STALE_AFTER))
    }
}

impl Certificate {
    fn refresh(&mut self, now: Timestamp) {
        self.days_left = self.not_after.map(|end| days_left(now, end));
        self.state = self.judge(now);
    }

    fn judge(&self, now: Timestamp) -> State {
        if self.state == State::Removed {
            return State::Removed;
        }
        let left = self.not_after.map(|end| end.duration_since(now));
        let warn = SignedDuration::from_secs(i64::from(self.warn_days) * DAY);
        if self.valid == Some(Valid::Expired) || left.is_some_and(|left| !left.is_positive()) {
            State::Expired
        } else if self.last_error.is_some() {
            State::Failed
        } else if self.fingerprint.is_none() {
            State::Missing
        } else if self.valid == Some(Valid::Expiring) || left.is_some_and(|left| left <= warn) {
            State::Expiring
        } else if self.held.is_some() {
            State::Held
        } else if self.targets.iter().any(|target| target.pending.is_some()) {
            State::Pending
        } else {
            State::Ok
        }
    }
}

/// Every entry of the inventory, then what is on disk besides.
fn inventory(settings: &Settings, ledger: &Ledger, on_disk: &BTreeSet<String>) -> Vec<Certificate> {
    let unknown = CertificateRecord::default();
    let thresholds = &settings.alerts.thresholds;
    let known: BTreeSet<&str> = settings.certificates.iter().map(|entry| entry.name.as_str()).collect();
    let mut all = Vec::with_capacity(settings.certificates.len());
    for entry in &settings.certificates {
        let record = ledger.certificates.get(&entry.name).map_or(&unknown, |record| record);
        let mut certificate = describe(&entry.name, record, on_disk, thresholds);
        certificate.provider.clone_from(&entry.provider);
        certificate.id = certificate.id.or_else(|| match &entry.wanted {
            Wanted::Id(id) => Some(id.clone()),
            Wanted::Domain(_) => None,
        });
        if certificate.names.is_empty() {
            certificate.names.clone_from(&entry.names);
        }
        deliver(&mut certificate, record, &entry.deploy, &ledger.targets);
        all.push(certificate);
    }
    for name in on_disk.iter().filter(|name| !known.contains(name.as_str())) {
        let record = ledger.certificates.get(name).map_or(&unknown, |record| record);
        let mut certificate = describe(name, record, on_disk, thresholds);
        (certificate.state, certificate.last_error, certificate.held) = (State::Removed, None, None);
        all.push(certificate);
    }
    all
}

/// What the ledger alone knows.
fn remembered(ledger: &Ledger, on_disk: &BTreeSet<String>) -> Vec<Certificate> {
    let describe = |name: &str, record: &CertificateRecord| {
        let mut certificate = describe(name, record, on_disk, &DEFAULT_THRESHOLDS);
        let targets: Vec<String> = record.targets.keys().map(str::to_owned).collect();
        deliver(&mut certificate, record, &targets, &ledger.targets);
        certificate
    };
    let mut records: Vec<_> = ledger.certificates.iter().collect();
    records.sort_unstable_by_key(|(name, _)| *name);
    records.into_iter().map(|(name, record)| describe(name, record)).collect()
}

fn describe(name: &str, record: &CertificateRecord, on_disk: &BTreeSet<String>, thresholds: &[u32]) -> Certificate {
    let live = record.live.as_ref().filter(|_| on_disk.contains(name));
    let error = record.open.last_error.as_ref();
    Certificate {
        name: name.to_owned(),
        provider: record.provider.clone(),
        id: record.id.clone(),
        state: State::Missing,
        valid: record.valid,
        names: live.map(|live| live.names.clone()).unwrap_or_default(),
        not_before: live.map(|live| live.not_before),
        not_after: live.map(|live| live.not_after),
        days_left: None,
        warn_days: warn_days(live.map(|live| &**live), thresholds),
        fingerprint: live.map(|live| live.fingerprint),
        generation: live.map(|live| live.generation.clone()),
        last_checked: record.last_checked,
        last_changed: record.last_changed,
        last_error: error.map(ToString::to_string),
        hint: error.and_then(|error| error.hint.clone()),
        held: record.open.held.clone(),
        rejected: record.open.rejected.clone(),
        successor: record.open.successor.clone(),
        targets: Vec::new(),
    }
}

/// The largest threshold that is not beyond a third of the certificate's lifetime: one for 47 days does not warn from its first day on.
fn warn_days(live: Option<&Live>, thresholds: &[u32]) -> u32 {
    let lifetime = live.map(|live| live.not_after.duration_since(live.not_before).as_secs());
    let fits = |days: &&u32| lifetime.is_none_or(|lifetime| i64::from(**days) * DAY * 3 <= lifetime);
    thresholds.iter().filter(fits).max().copied().unwrap_or(0)
}

/// Adds how far the certificate got at each target, and a target's failure where this certificate is behind for it.
fn deliver(
    certificate: &mut Certificate,
    record: &CertificateRecord,
    targets: &[String],
    states: &BTreeMap<String, TargetRecord>,
) {
    for name in targets {
        let delivery = record.targets.get(name).cloned().unwrap_or_default();
        let state = states.get(name);
        let behind = certificate.fingerprint.is_some() && delivery.reloaded != certificate.fingerprint;
        let why = || state.and_then(|state| state.pending.clone()).unwrap_or_else(|| "not deployed yet".to_owned());
        let failure = state.and_then(|state| state.last_error.as_ref()).filter(|_| behind || certificate.held.is_some());
        if let (Some(failure), None) = (failure, &certificate.last_error) {
            certificate.last_error = Some(format!("{name}: {failure}"));
            certificate.hint.clone_from(&failure.hint);
        }
        certificate.targets.push(Delivered {
            name: name.clone(),
            published: delivery.published,
            reloaded: delivery.reloaded,
            verified: delivery.verified,
            pending: behind.then(why),
            served: delivery.served,
        });
    }
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No pass has ended yet.
    #[error("`{}` is not there", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error(transparent)]
    Disk(#[from] atomic::Error),
    /// It is no document of ours.
    #[error("failed to understand `{}`", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Written by a newer version.
    #[error("`{}` was written by a newer version (format {found}, known is {VERSION})", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl Error {
    /// A stable word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Missing { .. } => "missing",
            Error::Disk(error) => error.kind(),
            Error::Parse { .. } => "parse",
            Error::Newer { .. } => "newer",
        }
    }

    /// What would mend it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Missing { .. } => Some("no pass has ended yet: `certsyncd sync`, or start the service".to_owned()),
            Error::Disk(error) => error.hint(),
            Error::Parse { .. } => Some("the next pass writes it anew".to_owned()),
            Error::Newer { .. } => Some("run the version of certsyncd that wrote it".to_owned()),
        }
    }
}

/// The document that the last pass left in the state directory.
pub fn read(state_dir: &Path) -> Result<Document, Error> {
    let path = state_dir.join(FILE);
    let Some(text) = atomic::read(&path, MAX_BYTES)? else { return Err(Error::Missing { path }) };
    let mut document = parse(&path, &text)?;
    if let Some(pulse) = Pulse::read(state_dir) {
        document.follow(&pulse);
    }
    Ok(document)
}

/// What the file system tells of the document's file: whoever writes it again changes that.
pub fn trace(state_dir: &Path) -> Option<String> {
    atomic::trace(&state_dir.join(FILE)).ok().flatten().map(|trace| trace.to_string())
}

/// Leaves the document for [`read`], by one rename, readable by all.
pub fn write(state_dir: &Path, document: &Document) -> Result<(), Error> {
    let path = state_dir.join(FILE);
    let text = serde_json::to_vec(document).map_err(|source| Error::Parse { path: path.clone(), source })?;
    // It is made anew by every pass, so nobody waits for the disk.
    atomic::write_lightly(&path, &text, Access::mode(0o644))?;
    Ok(())
}

fn parse(path: &Path, text: &[u8]) -> Result<Document, Error> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let failed = |source| Error::Parse { path: path.to_owned(), source };
    let Versioned { version } = serde_json::from_slice(text).map_err(failed)?;
    if version > VERSION {
        return Err(Error::Newer { path: path.to_owned(), found: version });
    }
    serde_json::from_slice(text).map_err(failed)
}

/// Seconds.
const DAY: i64 = 86_400;
/// Intervals without a pass after which the picture is no news any more.
const STALE_AFTER: i64 = 3;
/// Those of the configuration's default, while there is no configuration.
const DEFAULT_THRESHOLDS: [u32; 5] = [30, 14, 7, 3, 1];

//! One pass: asks, reads, decides, puts live, tells the servers, remembers, reports.
//!
//! Start at [`Syncer::pass`]. One certificate's failure is its own; what fails as a whole (the lock, a ledger of a newer version, a state
//! directory that cannot be written) is an [`Error`].

mod accounts;
mod context;
mod deliver;
mod done;
mod gather;
mod live;
mod look;
mod offer;
mod pass;
pub mod plan;
mod preview;
mod quiet;
mod renewal;
mod rollback;
pub mod successor;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::alert::{self, Outbox, Outcome};
use crate::certificate::{self, Roots};
use crate::clock::Clock;
use crate::config::Settings;
use crate::ledger::{self, Ledger};
use crate::provider::{self, Client, Limits};
use crate::report::Incident;
use crate::store::{self, Store};

pub use preview::{CertificatePreview, Preview, TargetPreview};

/// How long a pass waits for another one that holds the state directory.
pub const LOCK_WAIT: Duration = Duration::from_secs(120);

/// Everything a pass needs, built once per configuration.
pub struct Syncer {
    settings: Arc<Settings>,
    clients: BTreeMap<String, Client>,
    store: Store,
    roots: Arc<Roots>,
    outbox: Outbox,
    /// What became of alerts while passes concluded, for the counters.
    told: Mutex<Vec<Outcome>>,
    /// The memory as the last pass left it, until somebody takes it.
    memory: Mutex<Option<Memory>>,
    /// Whether the next pass tries again what the ledger remembers as rejected.
    forgives: AtomicBool,
    limits: Limits,
    clock: Clock,
    host: String,
}

/// What is known after a pass.
#[derive(Debug)]
pub struct Memory {
    /// All of it.
    pub ledger: Ledger,
    /// After a pass in which nothing changed: the pass that the ledger on disk tells of. Only a [`ledger::Pulse`] is to be left then.
    pub base: Option<ledger::Base>,
}

/// What a pass looks at, and how hard.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only these entries; `None`: the whole inventory.
    pub names: Option<BTreeSet<String>>,
    /// Fetch and deploy although nothing changed.
    pub force: bool,
    /// A person started it: growing gaps do not hold it back.
    pub by_hand: bool,
    /// How long to wait for another pass; `None`: [`LOCK_WAIT`].
    pub wait: Option<Duration>,
    /// What is known to be wrong besides: told with the pass's own incidents.
    pub incidents: Vec<Incident>,
}

impl Scope {
    fn covers(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
    }
}

/// What a pass tells while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many entries of so many were looked at; the last one by name.
    Looked {
        /// Entries done.
        done: usize,
        /// Entries in all.
        total: usize,
        /// The one just done.
        name: String,
    },
    /// Another step was taken: feeds the watchdog.
    Step,
}

/// Why there was no pass at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory is not usable.
    #[error("failed to use the state directory")]
    Store(#[from] store::Error),
    /// Alerts have nowhere to wait.
    #[error("failed to open the outbox of alerts")]
    Outbox(#[source] alert::Error),
    /// Another pass holds it.
    #[error("another pass holds the state directory")]
    Lock(#[source] store::lock::Error),
    /// SIGTERM or SIGINT came while another pass was waited for.
    #[error("stopped before anything was done")]
    Stopped,
    /// The ledger cannot be used.
    #[error("failed to use the ledger")]
    Ledger(#[from] ledger::Error),
    /// A provider's client cannot be built.
    #[error("failed to prepare provider `{name}`")]
    Provider {
        /// The table's name.
        name: String,
        /// Why.
        source: Box<provider::Error>,
    },
    /// The trust anchors cannot be read.
    #[error("failed to read the trusted roots")]
    Roots(#[source] certificate::Error),
    /// No such entry.
    #[error("no certificate `{0}` in the inventory")]
    UnknownName(String),
    /// Nothing to go back to.
    #[error("`{0}` has no earlier generation to go back to")]
    NoEarlier(String),
    /// `--to` names none.
    #[error("`{name}` has no generation `{generation}`")]
    NoGeneration {
        /// The entry.
        name: String,
        /// What was asked for.
        generation: String,
    },
}

impl Error {
    /// Why a lock was not to be had: only one that somebody holds is worth waiting for.
    pub(crate) fn locking(error: store::lock::Error) -> Error {
        if matches!(error, store::lock::Error::Held { .. }) { Error::Lock(error) } else { Error::Store(error) }
    }

    /// What would mend it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Store(error) | Error::Lock(error) => error.hint(),
            Error::Outbox(error) => error.hint(),
            Error::Ledger(error) => error.hint(),
            Error::Provider { source, .. } => source.hint(),
            Error::Roots(error) => error.hint(),
            Error::Stopped | Error::UnknownName(_) | Error::NoEarlier(_) | Error::NoGeneration { .. } => None,
        }
    }
}

impl Syncer {
    /// Builds clients, store and trust anchors; asks nobody.
    pub fn new(settings: Arc<Settings>, clock: Clock, host: String) -> Result<Syncer, Error> {
        Syncer::with_limits(settings, clock, host, Limits::default())
    }

    /// The same with other bounds of requests, for tests and benchmarks.
    pub fn with_limits(settings: Arc<Settings>, clock: Clock, host: String, limits: Limits) -> Result<Syncer, Error> {
        let store = Store::open(&settings.daemon.state_dir)?;
        let outbox = Outbox::open(store.root()).map_err(Error::Outbox)?;
        Syncer::build(settings, (store, outbox), clock, host, limits)
    }

    /// The same host by other settings (of the same state directory).
    pub fn again(&self, settings: Arc<Settings>) -> Result<Syncer, Error> {
        let kept = (self.store.clone(), self.outbox.clone());
        Syncer::build(settings, kept, self.clock.clone(), self.host.clone(), self.limits.clone())
    }

    /// SIGHUP: cached secrets, tokens and open circuits are dropped, and a credential that was rejected may be tried again.
    pub fn forget(&self) {
        self.clients.values().for_each(Client::forget);
        self.forgives.store(true, Ordering::Relaxed);
    }

    fn build(
        settings: Arc<Settings>,
        (store, outbox): (Store, Outbox),
        clock: Clock,
        host: String,
        limits: Limits,
    ) -> Result<Syncer, Error> {
        let mut clients = BTreeMap::new();
        for (name, provider) in &settings.providers {
            let client = Client::with_limits(provider, clock.clone(), limits.clone())
                .map_err(|source| Error::Provider { name: name.clone(), source: Box::new(source) })?;
            clients.insert(name.clone(), client);
        }
        let ca_files: Vec<_> = settings.providers.values().filter_map(|provider| provider.ca_file.clone()).collect();
        let roots = Arc::new(Roots::system_when_needed(&ca_files).map_err(Error::Roots)?);
        let (told, memory, forgives) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Ok(Syncer { settings, clients, store, roots, outbox, told, memory, forgives, limits, clock, host })
    }

    /// The configuration it was built from.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The clients, by provider name.
    pub fn clients(&self) -> &BTreeMap<String, Client> {
        &self.clients
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where alerts wait.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The memory as the last pass left it, if it was not taken before; else as it lies on disk.
    pub fn take_memory(&self) -> Result<Memory, ledger::Error> {
        match self.memory.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(memory) => Ok(memory),
            None => Ledger::peek(self.store.root()).map(|loaded| Memory { ledger: loaded.ledger, base: None }),
        }
    }

    /// What became of alerts while passes concluded, since the last call.
    pub fn take_told(&self) -> Vec<Outcome> {
        std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn lock(&self, wait: Duration, stop: &CancellationToken) -> Result<store::lock::Lock, Error> {
        let locked = stop.run_until_cancelled(store::lock::pass(self.store.root(), wait)).await;
        locked.ok_or(Error::Stopped)?.map_err(Error::locking)
    }

    /// Refuses names that are not in the inventory.
    pub fn check_names(&self, scope: &Scope) -> Result<(), Error> {
        let known = |name: &&String| self.settings.certificates.iter().any(|entry| entry.name == **name);
        match scope.names.iter().flatten().find(|name| !known(name)) {
            Some(name) => Err(Error::UnknownName(name.clone())),
            None => Ok(()),
        }
    }
}

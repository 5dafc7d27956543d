//! Both clouds on the loopback interface, for certsyncd's tests, demo and manual trials.
//!
//! ```no_run
//! # async fn example() {
//! use fakecloud::pki::{Key, Leaf, Pki};
//! use fakecloud::{CdsCertificate, Fakecloud, Fault, HuaweiCertificate, Layout, Match, Spelling, What};
//!
//! let (cloud, pki) = (Fakecloud::start().await, Pki::new());
//! cloud.huawei.add("scs1554192131150", pki.issue(Leaf::new(["www.example.com"]).key(Key::Rsa2048)));
//! cloud.huawei.add("scs1554192131151", HuaweiCertificate::new(pki.issue(Leaf::new(["own.example.com"]))).layout(Layout::OwnCsr));
//! cloud.cds.add("cds-1", CdsCertificate::new(pki.issue(Leaf::new(["api.example.com"]).days(12))).spelling(Spelling::Private));
//! cloud.fault(Fault::new(Match::operation("export"), What::Throttle { retry_after: Some(1) }).once());
//! // … let certsyncd talk to cloud.huawei.endpoint() and cloud.cds.endpoint() …
//! assert_eq!(cloud.count("export"), 2);
//! assert!(cloud.rejections().is_empty(), "{:?}", cloud.rejections());
//! # }
//! ```
//!
//! It is a referee, not a mock: it shares no code with certsyncd, computes every signature again from the request as it came, and
//! refuses what the real clouds refuse, in their words; [`Fakecloud::rejections`] says why in ours. What a cloud's documents leave open
//! is open here too, as a setter.
//!
//! * [`Fakecloud`]: start and stop, [`faults`](Fakecloud::fault), [what was asked](Fakecloud::requests), the clouds' clock;
//! * [`Huawei`] (`cloud.huawei`): SCM, IAM and the metadata service; [`HuaweiCertificate`], [`Layout`], [`Format`];
//! * [`Cds`] (`cloud.cds`): [`CdsCertificate`], [`Spelling`];
//! * [`pki`]: certificates of every kind, good and bad;
//! * [`archive::pack`]: archives of any entries;
//! * the binary `fakecloud`: the same for other processes, with a control endpoint.
//!
//! The server runs on a thread of its own: a test may block or pause its clock. Panics are its errors: it serves tests.

pub mod archive;
mod cds;
mod control;
mod fault;
mod huawei;
pub mod pki;
mod seen;
mod server;
mod shared;
mod wire;

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

pub use archive::{Format, Layout};
pub use cds::{Cds, CdsCertificate, Spelling};
pub use fault::{Fault, Match, What};
pub use huawei::{CloudKey, Huawei, HuaweiCertificate, MetadataMode, Temporary};
pub use seen::{Outcome, Rejection, Seen, Service};

use server::{Door, Server};
use shared::{Clock, Shared, State};

/// Both clouds, running; dropped, they end.
pub struct Fakecloud {
    /// The Huawei side.
    pub huawei: Huawei,
    /// The CDS side.
    pub cds: Cds,
    shared: Arc<Shared>,
    /// Ends with it.
    _server: Server,
    control: Option<String>,
}

/// Called with each request, on the server's thread.
pub type OnRequest = Box<dyn Fn(&Seen) + Send + Sync>;

/// How to start; [`Options::default`] is what tests want.
pub struct Options {
    /// Address of all listeners: 127.0.0.1.
    pub address: Ipv4Addr,
    /// Ports of SCM, IAM, the metadata service and CDS; 0: any free one.
    pub ports: [u16; 4],
    /// Port of the control endpoint; `None`: there is none.
    pub control_port: Option<u16>,
    /// How far the clouds' clock is ahead of the machine's.
    pub skew: SignedDuration,
    /// Whether the same request with the same signature may come twice. Huawei's dates have whole seconds and its documents name no nonce, so
    /// two clients (or the vendor's own SDK) may well send the same bytes; `false` holds a client to signing each try afresh.
    pub allow_replay: bool,
    /// How many requests are remembered, the last ones.
    pub keep_requests: usize,
    /// What the control endpoint issues with; `None`: a PKI of its own.
    pub pki: Option<Arc<pki::Pki>>,
    /// Called with each request; must not call back into the fake.
    pub on_request: Option<OnRequest>,
}

impl Fakecloud {
    /// Starts both clouds on free ports of 127.0.0.1.
    ///
    /// # Panics
    /// When no port is free or no thread can start.
    pub async fn start() -> Fakecloud {
        Fakecloud::start_blocking()
    }

    /// The same with options.
    ///
    /// # Panics
    /// When a port is taken.
    pub async fn start_with(options: Options) -> Fakecloud {
        Fakecloud::try_start(options).expect("the fake cloud can start")
    }

    /// The same outside of any runtime.
    ///
    /// # Panics
    /// When no port is free or no thread can start.
    pub fn start_blocking() -> Fakecloud {
        Fakecloud::try_start(Options::default()).expect("the fake cloud can start")
    }

    /// The same, outside of any runtime, with an error when a port is taken.
    ///
    /// # Errors
    /// When a listener cannot be bound or the thread cannot start.
    pub fn try_start(options: Options) -> io::Result<Fakecloud> {
        let services = [Service::Scm, Service::Iam, Service::Metadata, Service::Cds];
        let mut doors: Vec<_> = services.into_iter().map(Door::Service).zip(options.ports).collect();
        doors.extend(options.control_port.map(|port| (Door::Control, port)));
        let mut listeners = Vec::new();
        let mut endpoints = Vec::new();
        for (door, port) in doors {
            let (listener, address) = server::bind(options.address, port)?;
            listeners.push((door, listener));
            endpoints.push(format!("http://{address}"));
        }
        let state = State {
            clock: Clock::Ahead(options.skew),
            huawei: huawei::Account::new(options.allow_replay),
            cds: cds::Account::new(),
            faults: Default::default(),
            log: seen::Log::new(options.keep_requests),
        };
        let shared = Shared::new(state, options.on_request, options.pki);
        let server = Server::start(listeners, shared.clone())?;
        let mut endpoints = endpoints.into_iter();
        let mut next = || endpoints.next().unwrap_or_default();
        let (scm, iam, metadata, cds) = (next(), next(), next(), next());
        Ok(Fakecloud {
            huawei: Huawei { shared: shared.clone(), endpoint: scm, iam_endpoint: iam, metadata_endpoint: metadata },
            cds: Cds { shared: shared.clone(), endpoint: cds },
            control: options.control_port.map(|_| next()),
            shared,
            _server: server,
        })
    }

    /// Sets a fault; see [`Fault`].
    pub fn fault(&self, fault: Fault) {
        self.shared.lock().faults.set(fault);
    }

    /// All is well again.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Every request since the start or [`Fakecloud::clear_requests`], in order.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.lock().log.requests()
    }

    /// How many requests there were of an operation ([`Seen::operation`]), the refused ones too.
    pub fn count(&self, operation: &str) -> usize {
        self.shared.lock().log.count(operation)
    }

    /// Waits until there were so many requests of an operation; `false`: not within `limit`. A request counts when it has come, answered or not.
    pub fn wait_for(&self, operation: &str, count: usize, limit: std::time::Duration) -> bool {
        self.shared.wait_for(limit, |log| log.count(operation) >= count)
    }

    /// How many requests there were.
    pub fn total(&self) -> usize {
        self.shared.lock().log.total()
    }

    /// Forgets the requests, the counts and the rejections.
    pub fn clear_requests(&self) {
        self.shared.lock().log.clear();
    }

    /// What the strict checks refused, and why. A good client leaves this empty.
    pub fn rejections(&self) -> Vec<Rejection> {
        self.shared.lock().log.rejections()
    }

    /// The clouds' clock, so far ahead of the machine's: in `Date`, in what is too old, in `Valid`.
    pub fn set_skew(&self, ahead: SignedDuration) {
        self.shared.lock().clock = Clock::Ahead(ahead);
    }

    /// The clouds' clock stands still at this moment.
    pub fn set_now(&self, now: Timestamp) {
        self.shared.lock().clock = Clock::Still(now);
    }

    /// The clouds' time.
    pub fn now(&self) -> Timestamp {
        self.shared.lock().now()
    }

    /// Every connection is cut, and so is each new one, until [`Fakecloud::come_back`].
    pub fn go_down(&self) {
        self.shared.set_up(false);
    }

    /// On the same ports as before.
    pub fn come_back(&self) {
        self.shared.set_up(true);
    }

    /// Where the control endpoint answers, if there is one.
    pub fn control_endpoint(&self) -> Option<String> {
        self.control.clone()
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            address: Ipv4Addr::LOCALHOST,
            ports: [0; 4],
            control_port: None,
            skew: SignedDuration::ZERO,
            allow_replay: true,
            keep_requests: 100_000,
            pki: None,
            on_request: None,
        }
    }
}

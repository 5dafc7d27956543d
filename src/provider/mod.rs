//! The clouds: what an account holds, and the certificates themselves.
//!
//! Start at [`Client`]: one per `[providers.NAME]`, cheap to clone. [`huawei`] and [`cds`] read like the vendors' pages and know nothing of
//! each other; [`http`] is the only door to the network, with its bounds and retries; `pace` keeps us kind. Fails with [`Error`], whose
//! [`Error::kind`] says what, [`Error::is_transient`] whether waiting may help, and [`Error::hint`] what mends it.

mod encode;
mod error;
mod exchange;
mod pace;
mod rejection;
pub mod rows;
mod text;

pub mod cds;
pub mod http;
pub mod huawei;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

pub use self::error::{Cause, Error, Kind, Reason, WORDS};
pub use self::http::Limits;
pub use self::pace::{BURST, FAILURES_TO_OPEN, FIRST_PAUSE, LONGEST_ASKED, LONGEST_PAUSE};
pub use self::rejection::{FIRST_GAP, LONGEST_GAP};

use self::http::Http;
use self::pace::{Circuit, Proof};
use self::rejection::{Fingerprint, Rejections};
use crate::certificate::Piece;
use crate::clock::Clock;
use crate::config::{Cloud, HuaweiAuth, Provider};
use crate::report::Valid;

/// One account at one cloud. Clones share connections, tokens, rate limit and memory.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    name: String,
    http: Http,
    circuit: Circuit,
    rejections: Rejections,
    account: Account,
}

enum Account {
    Huawei(Box<huawei::Account>),
    Cds(cds::Account),
}

/// A certificate as the provider handed it out.
pub struct Fetched {
    /// The provider's id.
    pub id: String,
    /// Certificate, chain and (mostly) key.
    pub payload: Payload,
    /// CDS's flag.
    pub valid: Option<Valid>,
    /// Remarks for people: no key, an unknown flag.
    pub notes: Vec<String>,
}

/// In which form a certificate came.
pub enum Payload {
    /// PEM, by field of the answer.
    Pem(Vec<Piece>),
    /// An archive, to be told by its first bytes.
    Archive(Zeroizing<Vec<u8>>),
}

/// What an account holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Each once, in the provider's order.
    pub certificates: Vec<Listed>,
    /// Whether that is all. If not, an id that is missing here may well exist.
    pub complete: bool,
    /// Remarks for people: what could not be reached, an unknown flag.
    pub notes: Vec<String>,
}

/// One certificate of an account as it is listed, without key or PEM. Times carry no zone: compare them as text, decide nothing by them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// The provider's id.
    pub id: String,
    /// As the user called it.
    pub name: Option<String>,
    /// Names it covers, as far as the provider tells; lower case.
    pub names: Vec<String>,
    /// Huawei's status, such as `ISSUED`.
    pub status: Option<String>,
    /// CDS's flag.
    pub valid: Option<Valid>,
    /// Start, as the provider writes it.
    pub not_before: Option<String>,
    /// End, as the provider writes it.
    pub not_after: Option<String>,
    /// Who issued it. The rows of a listing share one text, where it is the same.
    pub brand: Option<Arc<str>>,
    /// Such as `DV_SSL_CERT`.
    pub kind: Option<Arc<str>>,
    /// SHA-1 of the leaf, lower-case hex (Huawei's [`Client::show`] only).
    pub fingerprint: Option<String>,
    /// Whether its state allows to fetch and install it.
    pub deployable: bool,
    /// Why not.
    pub why_not: Option<String>,
}

/// One thing that `check --online` looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Such as `list certificates`.
    pub what: String,
    /// Whether it works.
    pub ok: bool,
    /// What was found, for people.
    pub words: String,
    /// What mends it.
    pub hint: Option<String>,
}

impl Probe {
    fn good(what: &str, words: impl Into<String>) -> Probe {
        Probe { what: what.to_owned(), ok: true, words: words.into(), hint: None }
    }

    /// What a listing shows.
    fn listed(listing: &Listing) -> Probe {
        let (all, deployable) =
            (listing.certificates.len(), listing.certificates.iter().filter(|listed| listed.deployable).count());
        let mut words = format!("{all} certificate{}, {deployable} deployable", if all == 1 { "" } else { "s" });
        listing.notes.iter().for_each(|note| words.push_str(&format!("; {note}")));
        Probe::good("list certificates", words)
    }

    fn failed(what: &str, error: &Error, hint: Option<String>) -> Probe {
        let words = error.to_failure().to_string();
        Probe { what: what.to_owned(), ok: false, words, hint: error.hint().or(hint).or_else(|| transport_hint(error.cause())) }
    }
}

impl Client {
    /// A client for `settings`. Asks nobody and reads no secret yet; fails (kind `setup`) if `ca_file` cannot be used. Where
    /// the system has no CA certificates at all, the first request says so.
    pub fn new(settings: &Provider, clock: Clock) -> Result<Client, Error> {
        Client::with_limits(settings, clock, Limits::default())
    }

    /// The same with other bounds, for tests and benchmarks.
    pub fn with_limits(settings: &Provider, clock: Clock, limits: Limits) -> Result<Client, Error> {
        let (account, metadata) = match &settings.cloud {
            Cloud::Huawei(cloud) => {
                let metadata = matches!(cloud.auth, HuaweiAuth::Metadata).then(|| cloud.metadata_endpoint.clone());
                (Account::Huawei(Box::new(huawei::Account::new(cloud.clone()))), metadata)
            }
            Cloud::Cds(cloud) => (Account::Cds(cds::Account::new(cloud.clone())), None),
        };
        let http = Http::new(settings.ca_file.as_deref(), settings.rate_limit, metadata, limits, clock)
            .map_err(|cause| Error::new(format!("set up provider `{}`", settings.name), cause))?;
        let (circuit, rejections) = (Circuit::new(), Rejections::default());
        Ok(Client(Arc::new(Inner { name: settings.name.clone(), http, circuit, rejections, account })))
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The certificate with its key: `export` or `download` at Huawei, `DescribeCACertificate` at CDS. This moves a private key.
    pub async fn fetch(&self, id: &str) -> Result<Fetched, Error> {
        let doing = format!("fetch certificate `{}`", error::words(id));
        let inner = &*self.0;
        match &inner.account {
            Account::Huawei(account) => inner.guard(doing, account.fetch(inner.reach(), id)).await,
            Account::Cds(account) => inner.guard(doing, account.fetch(inner.reach(), id)).await,
        }
    }

    /// What the account holds. No key moves.
    pub async fn list(&self) -> Result<Listing, Error> {
        let doing = "list certificates".to_owned();
        let inner = &*self.0;
        match &inner.account {
            Account::Huawei(account) => inner.guard(doing, account.list(inner.reach())).await,
            Account::Cds(account) => inner.guard(doing, account.list(inner.reach())).await,
        }
    }

    /// One certificate without its key; `None` where the cloud has no such call (CDS).
    pub async fn show(&self, id: &str) -> Result<Option<Listed>, Error> {
        let doing = format!("show certificate `{}`", error::words(id));
        let inner = &*self.0;
        match &inner.account {
            Account::Huawei(account) => inner.guard(doing, account.show(inner.reach(), id)).await.map(Some),
            Account::Cds(_) => Ok(None),
        }
    }

    /// Drops cached tokens and secrets, forgets rejections, and closes the circuit: SIGHUP.
    pub fn forget(&self) {
        match &self.0.account {
            Account::Huawei(account) => account.forget(),
            Account::Cds(account) => account.forget(),
        }
        self.0.rejections.forget();
        self.0.circuit.reset();
    }

    /// Requests made since the last time this was asked, by operation and outcome (`ok` or [`Error::kind`]).
    pub fn take_calls(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.0.http.take_calls()
    }

    /// Requests that ended, well or not, since the start. Each is bounded by [`Limits::total`], so this grows as long as work goes on.
    pub fn ended(&self) -> u64 {
        self.0.http.ended()
    }

    /// The provider's `Date` header minus our clock, last seen.
    pub fn skew(&self) -> Option<SignedDuration> {
        self.0.http.skew()
    }

    /// The credential that was rejected last (a fingerprint too short to guess it by) and when it is tried again; for the ledger.
    pub fn rejected(&self) -> Option<(String, Timestamp)> {
        self.0.rejections.export()
    }

    /// What an earlier process remembered of [`Client::rejected`].
    pub fn set_rejected(&self, rejected: Option<(String, Timestamp)>) {
        self.0.rejections.import(rejected);
    }

    /// What works and what is missing, in words an operator can act on: `check --online`. No key moves.
    pub async fn probe(&self) -> Vec<Probe> {
        let inner = &*self.0;
        match &inner.account {
            Account::Huawei(account) => account.probe(inner.reach()).await,
            Account::Cds(account) => account.probe(inner.reach()).await,
        }
        .into_iter()
        .chain(inner.skew_probe())
        .collect()
    }
}

impl Inner {
    fn reach(&self) -> Reach<'_> {
        Reach { http: &self.http, rejections: &self.rejections }
    }

    /// Runs one call of the account behind the circuit, and tells the circuit what it proved.
    async fn guard<T>(&self, doing: String, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let leave = self.circuit.enter().await.map_err(|open| self.left_alone(doing, open))?;
        let result = work.await;
        leave.settle(result.as_ref().map_or_else(|error| proof(error, self.http.now()), |_| Proof::Up));
        result.map_err(|error| self.with_hint(error))
    }

    fn left_alone(&self, doing: String, open: pace::Open) -> Error {
        let pause = open.until.saturating_duration_since(tokio::time::Instant::now());
        let now = self.http.now();
        let until = SignedDuration::try_from(pause).ok().and_then(|pause| now.saturating_add(pause).ok()).unwrap_or(now);
        let until = until.round(jiff::Unit::Second).unwrap_or(until);
        Error::new(doing, Cause::CircuitOpen { provider: self.name.clone(), until, why: open.why })
    }

    /// The cloud's own hint, or what is true of every transport; and the clock, where a signature was refused.
    fn with_hint(&self, error: Error) -> Error {
        let own = match &self.account {
            Account::Huawei(account) => account.hint(&error),
            Account::Cds(account) => account.hint(&error),
        };
        let hint = error.hint().or(own).or_else(|| transport_hint(error.cause()));
        let clock = error.cause().is_rejection().then(|| self.clock_hint()).flatten();
        let hints: Vec<String> = clock.into_iter().chain(hint).collect();
        error.with_hint((!hints.is_empty()).then(|| hints.join("; ")))
    }

    fn clock_hint(&self) -> Option<String> {
        let skew = self.http.skew().filter(|skew| skew.abs() > CLOCKS_APART)?;
        // A `Date` has whole seconds: two minutes are not to read as one.
        let (minutes, way) = ((skew.abs().as_secs() + 30) / 60, if skew.is_negative() { "ahead of" } else { "behind" });
        Some(format!("this host's clock is {minutes} min {way} the provider's, and signatures carry the time: synchronise it"))
    }

    fn skew_probe(&self) -> Option<Probe> {
        let skew = self.http.skew()?;
        let ok = skew.abs() <= CLOCKS_APART;
        let words = if ok {
            format!("within {} s of the provider's", skew.abs().as_secs())
        } else {
            format!("{} s apart", skew.abs().as_secs())
        };
        Some(Probe { what: "clock".to_owned(), ok, words, hint: self.clock_hint() })
    }
}

/// What an account needs to ask.
#[derive(Clone, Copy)]
pub(crate) struct Reach<'a> {
    http: &'a Http,
    rejections: &'a Rejections,
}

impl Reach<'_> {
    /// Whether `error` says that the credential is wrong; with clocks too far apart for any signature it proves nothing.
    fn is_rejected(&self, error: &Error) -> bool {
        let apart = self.http.skew().is_some_and(|skew| skew.abs() > SIGNATURE_WINDOW);
        error.cause().is_rejection() && !apart
    }

    /// `Err` if `credential` was rejected a while ago.
    fn check(&self, credential: &Fingerprint) -> Result<(), Cause> {
        match self.rejections.until(credential, self.http.now()) {
            Some(until) => Err(Cause::RejectedBefore { until: until.round(jiff::Unit::Second).unwrap_or(until) }),
            None => Ok(()),
        }
    }

    /// The credential in use is good, so what was rejected before is history.
    fn accepted(&self) {
        self.rejections.forget();
    }

    fn remember_rejected(&self, credential: &Fingerprint) {
        self.rejections.remember(credential, self.http.now());
    }
}

/// Every reader of an answer over `body`: the door for fuzzing, and for the property that none panics or quotes what may be a key.
#[doc(hidden)]
pub fn read_all(status: u16, body: &[u8]) -> Vec<Error> {
    let answer = || exchange::Answer::of(status, body);
    let causes = huawei::read_all(answer).into_iter().chain(cds::read_all(answer));
    causes.map(|cause| Error::new("read", cause)).collect()
}

/// What a failing call says about the provider as a whole.
fn proof(error: &Error, now: Timestamp) -> Proof {
    if let Cause::LeftAlone { until, .. } = error.cause() {
        let pause = std::time::Duration::try_from(until.duration_since(now)).unwrap_or_default();
        return Proof::LeaveAlone(pause, error.cause().to_string());
    }
    match error.kind_of() {
        Kind::Server if error.code().is_some_and(|code| huawei::ONE_CERTIFICATE_ONLY.contains(&code)) => Proof::Nothing,
        Kind::Timeout | Kind::Connect | Kind::Tls | Kind::Throttled | Kind::Server => Proof::Down(error.cause().to_string()),
        Kind::Forbidden | Kind::NotFound | Kind::Refused => Proof::Up,
        Kind::Unauthorized if error.cause().is_rejection() => Proof::Up,
        _ => Proof::Nothing,
    }
}

fn transport_hint(cause: &Cause) -> Option<String> {
    let hint = match cause {
        Cause::Connect { .. } | Cause::Timeout { .. } => {
            "check name resolution, firewall and proxy (`HTTPS_PROXY`, `NO_PROXY`) of this host"
        }
        Cause::Tls { .. } => {
            "if a proxy inspects TLS here, name its CA certificate as `ca_file`; else check this host's clock and `ca-certificates`"
        }
        Cause::Redirect { .. } => "`endpoint` must be the API's own address",
        Cause::BadAnswer(words) if words.contains("web page") => {
            "a proxy or login page answers in place of the API: check `endpoint` and `HTTPS_PROXY`"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Ids are the vendor's, some 16 to 36 characters; what else stands in the inventory must not bend a path.
fn check_id(id: &str) -> Result<(), Cause> {
    let fits = !id.is_empty() && id.len() <= ID_LIMIT && id != "." && id != ".." && !id.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(Cause::Refused(format!("`{}` is no certificate id", error::words(id)))) }
}

/// systemd.exec(5): credentials are set up when the unit starts.
const RESTART: &str = "a changed systemd credential takes a restart of the service, a reload is not enough";
/// Bytes of an id.
pub const ID_LIMIT: usize = 128;
/// Clocks further apart than this are mentioned in errors about signatures.
pub const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(1);
/// Clocks further apart than this make every signature invalid (Huawei's rule), so that a 401 proves nothing about the credential.
pub const SIGNATURE_WINDOW: SignedDuration = SignedDuration::from_mins(15);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.0.name).finish()
    }
}

//! The door to the clouds: the only place (besides the webhook channel) that knows reqwest.
//!
//! Start at `Http::call`: it waits for its turn, builds the request (afresh for each try: a nonce or a date used twice is refused), sends it
//! inside the bounds of [`Limits`], reads a bounded answer, lets the caller judge it (status first, body second) and retries what may pass.
//! Fails with [`Error`]. No redirect is followed, plain http goes to this host and the metadata service only and never through a proxy, and a URL
//! never reaches an error or a log: CDS's carry the access key and a signature.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use tokio::time::Instant;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::error::{Cause, Error, Reason, words};
use super::exchange::{Answer, Call, Headers, Method, Request, place};
use super::pace::Pace;
use crate::atomic;
use crate::clock::Clock;
use crate::failpoint;

/// Bounds of what a provider may cost us.
#[derive(Clone, Debug)]
pub struct Limits {
    /// For one try, from the first byte to the last.
    pub total: Duration,
    /// For the connection, TLS included.
    pub connect: Duration,
    /// Between two pieces of an answer.
    pub read: Duration,
    /// Tries of one call, the first included.
    pub tries: u32,
    /// Upper bound of the random pause before the second try; doubles with each further one.
    pub first_pause: Duration,
    /// No pause of ours is longer.
    pub longest_pause: Duration,
    /// A `Retry-After` that is longer ends the call instead.
    pub retry_after: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            total: Duration::from_secs(30),
            connect: Duration::from_secs(5),
            read: Duration::from_secs(10),
            tries: 4,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(8),
            retry_after: Duration::from_secs(60),
        }
    }
}

/// Bytes of one certificate as JSON, and of a token.
pub const CERTIFICATE_LIMIT: usize = 1024 * 1024;
/// Bytes of a listing, or of one page of it.
pub const LISTING_LIMIT: usize = 16 * 1024 * 1024;
/// Bytes of an archive.
pub const ARCHIVE_LIMIT: usize = 8 * 1024 * 1024;
/// Bytes read of an error's body; the rest is left.
pub const ERROR_LIMIT: usize = 64 * 1024;
/// Bytes of a `ca_file`.
pub const CA_LIMIT: u64 = 4 * 1024 * 1024;

/// The metadata service of every cloud that has one: link-local, so it never leaves the host's own network.
const METADATA_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 169, 254);

/// The connections to one provider, with its rate limit and counters.
pub(crate) struct Http {
    /// Built when first needed: reading the system's authorities takes longer than a quiet pass.
    secure: OnceLock<reqwest::Client>,
    plain: OnceLock<reqwest::Client>,
    /// The only host besides loopback and [`METADATA_ADDRESS`] that is asked by plain http.
    metadata: Option<Url>,
    limits: Limits,
    pace: Pace,
    clock: Clock,
    calls: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    ended: AtomicU64,
    skew: Mutex<Option<SignedDuration>>,
}

impl Http {
    pub(crate) fn new(
        ca_file: Option<&Path>,
        rate_limit: Option<f64>,
        metadata: Option<Url>,
        limits: Limits,
        clock: Clock,
    ) -> Result<Http, Cause> {
        install_crypto();
        // A `ca_file` is looked at now, so that a bad one is told at the start.
        let secure = match ca_file {
            Some(path) => OnceLock::from(secure(&limits, certificates(path)?)?),
            None => OnceLock::new(),
        };
        Ok(Http {
            secure,
            plain: OnceLock::new(),
            metadata,
            limits,
            pace: Pace::new(rate_limit),
            clock,
            calls: Mutex::default(),
            ended: AtomicU64::new(0),
            skew: Mutex::default(),
        })
    }

    /// Asks until there is an answer that `read` takes, or until another try makes no sense. `build` is asked for each try.
    pub(crate) async fn call<T>(
        &self,
        call: &Call,
        build: impl Fn() -> Result<Request, Cause>,
        read: impl Fn(Answer) -> Result<T, Cause>,
    ) -> Result<T, Error> {
        let (started, tries) = (Instant::now(), AtomicU32::new(0));
        let attempt = || async {
            self.pace.turn().await;
            tries.fetch_add(1, Ordering::Relaxed);
            let request = build()?;
            let result = self.send(request, call.limit).await.and_then(&read).map_err(|cause| self.leave_alone(cause));
            self.count(call.operation, result.as_ref().map_or_else(|cause| cause.kind().name(), |_| "ok"));
            result
        };
        let result = attempt
            .retry(self.backoff())
            .sleep(tokio::time::sleep)
            .when(Cause::is_worth_another_try)
            .adjust(|cause, pause| pause.map(|pause| self.pause(cause, pause)))
            .notify(|cause, pause| tracing::debug!(operation = call.operation, kind = cause.kind().name(), ?pause, "try again"))
            .await;
        let (tries, took) = (tries.into_inner(), started.elapsed());
        result.map_err(|cause| Error::new(call.doing.as_str(), cause).during(call.operation).after(tries, took))
    }

    /// The provider's `Date` minus our clock, last seen.
    pub(crate) fn skew(&self) -> Option<SignedDuration> {
        *lock(&self.skew)
    }

    /// What the provider's clock shows, as far as we know.
    pub(crate) fn server_now(&self) -> Timestamp {
        let now = self.clock.now();
        now.saturating_add(self.skew().unwrap_or_default()).unwrap_or(now)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn take_calls(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        std::mem::take(&mut *lock(&self.calls))
    }

    /// Tries that ended, well or not, since the start.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    fn count(&self, operation: &'static str, outcome: &'static str) {
        *lock(&self.calls).entry((operation, outcome)).or_default() += 1;
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    fn backoff(&self) -> ExponentialBuilder {
        ExponentialBuilder::new()
            .with_min_delay(self.limits.first_pause)
            .with_max_delay(self.limits.longest_pause)
            .with_max_times(self.limits.tries.saturating_sub(1) as usize)
    }

    /// Full jitter, after what the server asked for. Others wait for that as well: it is the account that is throttled.
    fn pause(&self, cause: &Cause, pause: Duration) -> Duration {
        let jitter = pause.mul_f64(random_fraction());
        let Some(asked) = cause.retry_after() else { return jitter };
        self.pace.hold(Instant::now() + asked);
        asked + jitter
    }

    /// A wish to be left alone for longer than a pass waits ends the call.
    fn leave_alone(&self, cause: Cause) -> Cause {
        match cause {
            Cause::Server { status, retry_after: Some(asked), transient: true, .. } if asked > self.limits.retry_after => {
                let asked = SignedDuration::try_from(asked).unwrap_or(SignedDuration::MAX);
                let until = self.clock.now().saturating_add(asked).unwrap_or(Timestamp::MAX);
                Cause::LeftAlone { status, until: until.round(jiff::Unit::Second).unwrap_or(until) }
            }
            other => other,
        }
    }

    async fn send(&self, request: Request, limit: usize) -> Result<Answer, Cause> {
        let (host, client, started) = (place(&request.url), self.client(&request.url)?, Instant::now());
        let is_metadata = self.is_metadata(&request.url);
        let outgoing = outgoing(&request)?;
        let asked = self.clock.now();
        failpoint::reach("provider.ask");
        let response = client.execute(outgoing).await.map_err(|error| lost(error, &host, None, started))?;
        let answered = self.clock.now();
        let answer = self.answer(response, limit, &host, started).await?;
        failpoint::reach("provider.answered");
        if !is_metadata {
            self.note_date(&answer.headers, asked, answered);
        }
        Ok(Answer { secrets: request.secrets, ..answer })
    }

    async fn answer(&self, response: reqwest::Response, limit: usize, host: &str, started: Instant) -> Result<Answer, Cause> {
        let status = response.status().as_u16();
        let headers =
            Headers::new(response.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))));
        if response.status().is_redirection() {
            return Err(Cause::Redirect { status, to: destination(headers.value("location").unwrap_or_default()) });
        }
        let body = if response.status().is_success() {
            whole_body(response, limit, host, started).await?
        } else {
            // the status is the news; what its body says is a bonus
            some_body(response).await
        };
        let retry_after = headers.retry_after(self.clock.now());
        Ok(Answer { status, body, headers, retry_after, secrets: vec![] })
    }

    /// Https through the system's proxy, if there is one; plain http straight, and only where it cannot leave the host's own network.
    fn client(&self, url: &Url) -> Result<&reqwest::Client, Cause> {
        match url.scheme() {
            "https" => built(&self.secure, || secure(&self.limits, Vec::new())),
            "http" if is_local(url) || self.is_metadata(url) => built(&self.plain, || plain(&self.limits)),
            scheme => {
                Err(Cause::Refused(format!("`{}` is not asked by `{scheme}`: only https protects a key on its way", place(url))))
            }
        }
    }

    fn is_metadata(&self, url: &Url) -> bool {
        self.metadata.as_ref().is_some_and(|metadata| metadata.origin() == url.origin())
    }

    /// The answer's clock against the middle of the question.
    fn note_date(&self, headers: &Headers, asked: Timestamp, answered: Timestamp) {
        if let Some(date) = headers.fresh_date() {
            let middle = asked.saturating_add(answered.duration_since(asked) / 2).unwrap_or(answered);
            *lock(&self.skew) = Some(date.duration_since(middle));
        }
    }
}

fn outgoing(request: &Request) -> Result<reqwest::Request, Cause> {
    let method = match request.method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
    };
    let mut outgoing = reqwest::Request::new(method, request.url.clone());
    for (name, value) in &request.headers {
        let value = sensitive(name, value)?;
        outgoing.headers_mut().insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsendable(name))?, value);
    }
    if !request.body.is_empty() {
        *outgoing.body_mut() = Some(request.body.to_vec().into());
    } else if request.method != Method::Get {
        // RFC 9110, section 8.6; left out, some gateways answer 411
        outgoing.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(outgoing)
}

async fn whole_body(
    mut response: reqwest::Response,
    limit: usize,
    host: &str,
    started: Instant,
) -> Result<Zeroizing<Vec<u8>>, Cause> {
    let expected = response.content_length().unwrap_or_default();
    if expected > limit as u64 {
        return Err(Cause::TooLarge { limit });
    }
    let mut body = Zeroizing::new(Vec::with_capacity(expected as usize));
    while let Some(piece) = response.chunk().await.map_err(|error| lost(error, host, Some(body.len()), started))? {
        if piece.len() > limit - body.len() {
            return Err(Cause::TooLarge { limit });
        }
        append(&mut body, &piece);
    }
    Ok(body)
}

async fn some_body(mut response: reqwest::Response) -> Zeroizing<Vec<u8>> {
    let mut body = Zeroizing::new(Vec::new());
    while let Ok(Some(piece)) = response.chunk().await {
        let room = ERROR_LIMIT - body.len();
        append(&mut body, piece.get(..room).unwrap_or(&piece));
        if piece.len() >= room {
            break;
        }
    }
    body
}

/// What a transport's error means. `received`: the answer had begun.
fn lost(error: reqwest::Error, host: &str, received: Option<usize>, started: Instant) -> Cause {
    let error = error.without_url();
    let (host, reason) = (host.to_owned(), Reason(innermost(&error)));
    if error.is_timeout() {
        let what = match received {
            None if error.is_connect() => "connection",
            None => "answer",
            Some(_) => "whole answer",
        };
        return Cause::Timeout { host, what, within: started.elapsed() };
    }
    match received {
        _ if is_tls(&error) => Cause::Tls { host, reason },
        Some(received) => Cause::CutOff { received, reason },
        None => Cause::Connect { host, reason },
    }
}

/// reqwest takes the process's provider; `main` installs it, a library user or a test may not have.
fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // losing the race against another thread is as good
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

fn builder(limits: &Limits) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("certsyncd/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        // ours, because each try needs a signature of its own
        .retry(reqwest::retry::never())
        .referer(false)
        .timeout(limits.total)
        .connect_timeout(limits.connect)
        .read_timeout(limits.read)
        .pool_idle_timeout(POOL_IDLE)
}

fn secure(limits: &Limits, further: Vec<reqwest::Certificate>) -> Result<reqwest::Client, Cause> {
    builder(limits).https_only(true).tls_certs_merge(further).build().map_err(unbuilt)
}

fn plain(limits: &Limits) -> Result<reqwest::Client, Cause> {
    builder(limits).no_proxy().tls_certs_only([]).build().map_err(unbuilt)
}

fn built(
    client: &OnceLock<reqwest::Client>,
    build: impl FnOnce() -> Result<reqwest::Client, Cause>,
) -> Result<&reqwest::Client, Cause> {
    match client.get() {
        Some(client) => Ok(client),
        // Losing a race costs one client too many, no more.
        None => build().map(|new| client.get_or_init(|| new)),
    }
}

/// An idle connection is closed before the next pass: it would keep a timer running for nothing.
const POOL_IDLE: Duration = Duration::from_secs(20);

fn unbuilt(error: reqwest::Error) -> Cause {
    let reason = Some(Reason(innermost(&error)));
    Cause::Setup { what: "TLS cannot be set up: are CA certificates installed (package `ca-certificates`)?".to_owned(), reason }
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, Cause> {
    let failed = |reason: String| Cause::Setup {
        what: format!("no CA certificates from `ca_file` `{}`", path.display()),
        reason: Some(Reason(reason)),
    };
    let pem = match atomic::read(path, CA_LIMIT) {
        Ok(Some(pem)) => pem,
        Ok(None) => return Err(failed("there is no such file".to_owned())),
        Err(atomic::Error::Io { source, .. }) => return Err(failed(source.to_string())),
        Err(error) => return Err(failed(error.to_string())),
    };
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| failed(innermost(&error)))?;
    if certificates.is_empty() { Err(failed("it holds no PEM certificate".to_owned())) } else { Ok(certificates) }
}

fn sensitive(name: &str, value: &str) -> Result<HeaderValue, Cause> {
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| unsendable(name))?;
    value.set_sensitive(true);
    Ok(value)
}

fn unsendable(name: &str) -> Cause {
    Cause::Credential(format!("the value for header `{name}` holds characters that no header can carry"))
}

fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback() || address == METADATA_ADDRESS,
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn destination(location: &str) -> String {
    let host = Url::parse(location).map(|url| place(&url)).unwrap_or_default();
    if host.is_empty() { "another path".to_owned() } else { words(&host) }
}

/// Appends without leaving copies behind: a buffer that is outgrown is wiped.
fn append(body: &mut Zeroizing<Vec<u8>>, piece: &[u8]) {
    let needed = body.len() + piece.len();
    if needed > body.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(body.capacity() * 2)));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(piece);
}

/// The deepest cause's words: the layers above it only say that there is one.
fn innermost(error: &reqwest::Error) -> String {
    causes(error).last().map(|deepest| words(&deepest.to_string())).unwrap_or_default()
}

fn is_tls(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.is::<rustls::Error>())
}

/// `error` and what is behind it. An [`std::io::Error`] hides what it wraps from `source`, and TLS errors come wrapped twice.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    })
}

/// In 0..1. Without randomness of the system: the middle.
fn random_fraction() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_host_only() {
        assert_eq!(destination("https://login.example.com/?token=hush"), "login.example.com");
        assert_eq!(destination("/elsewhere?token=hush"), "another path");
        assert_eq!(destination(""), "another path");
    }

    #[test]
    fn plain_http_stays_at_home() {
        let metadata = Some(Url::parse("http://metadata.internal").unwrap());
        let http = Http::new(None, None, metadata, Limits::default(), Clock::system()).ok().unwrap();
        for local in
            ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost", "http://169.254.169.254", "http://metadata.internal/x"]
        {
            assert!(http.client(&Url::parse(local).unwrap()).is_ok(), "{local}");
        }
        for away in
            ["http://example.com", "http://169.254.169.253", "http://metadata.internal:81", "ftp://127.0.0.1", "http://10.0.0.1"]
        {
            assert!(http.client(&Url::parse(away).unwrap()).is_err(), "{away}");
        }
    }

    #[test]
    fn appending_keeps_every_byte() {
        let mut body = Zeroizing::new(Vec::new());
        for n in 0..200_u8 {
            append(&mut body, &vec![n; usize::from(n)]);
        }
        assert_eq!(body.len(), 199 * 200 / 2);
        assert_eq!(body.last(), Some(&199));
    }
}

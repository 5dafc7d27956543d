//! The listener of `[metrics]`: `/metrics`, `/healthz`, `/readyz`, `/status.json`.
//!
//! Start at [`Board`], where the daemon hangs out what it knows after each pass; [`bind`] and [`serve`] show it to whoever asks. A request
//! never waits for a pass and never asks a provider. Everything a client can do is bounded: connections at once, time for its request, size of
//! its head, time for the whole exchange; one request per connection. A client's error is its own: it is not logged.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::metrics::{self, Counters, OPENMETRICS, PROMETHEUS};
use super::status::Document;
use crate::clock::Clock;
use crate::config::Settings;
use crate::failpoint;
use crate::ledger::Ledger;

/// What the daemon shows. Clones are the same board.
#[derive(Clone, Debug)]
pub struct Board {
    view: Arc<RwLock<Option<Arc<View>>>>,
    ready: Arc<AtomicBool>,
    counters: Counters,
    clock: Clock,
}

#[derive(Debug)]
struct View {
    settings: Arc<Settings>,
    ledger: Arc<Ledger>,
    document: Document,
}

impl Board {
    /// An empty one: not ready, nothing to show.
    pub fn new(clock: Clock) -> Board {
        Board { view: Arc::default(), ready: Arc::default(), counters: Counters::default(), clock }
    }

    /// What is counted along the way.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Hangs out a new picture: after each pass, and when other settings hold.
    pub fn publish(&self, settings: Arc<Settings>, ledger: Arc<Ledger>, document: Document) {
        let view = Some(Arc::new(View { settings, ledger, document }));
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// From now on `/readyz` says yes: when systemd is told READY.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// The metrics as they stand, in OpenMetrics text; empty before the first [`Board::publish`].
    pub fn metrics(&self) -> String {
        let Some(view) = self.view() else { return "# EOF\n".to_owned() };
        metrics::render(&view.settings, &view.ledger, &self.counters)
    }

    fn view(&self) -> Option<Arc<View>> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last document, as of now.
    fn document(&self) -> Option<Document> {
        let mut document = self.view()?.document.clone();
        document.refresh(self.clock.now());
        Some(document)
    }

    /// Why this daemon is not well; `None`: it is.
    fn ailment(&self) -> Option<&'static str> {
        let view = self.view()?;
        let stale = view.document.last_pass.is_some() && view.document.is_stale(self.clock.now());
        stale.then_some("no pass has ended for three intervals\n")
    }
}

/// The address of `[metrics] listen` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on `{address}`")]
pub struct Error {
    /// As configured.
    pub address: SocketAddr,
    /// Why.
    pub source: std::io::Error,
}

/// Takes the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error { address, source })
}

/// Answers until `shutdown`, then lets the answers in hand finish (within [`EXCHANGE_TIMEOUT`]).
pub async fn serve(listener: TcpListener, board: Board, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tracker = TaskTracker::new();
    while let Some(accepted) = shutdown.run_until_cancelled(next_client(&listener, &places)).await {
        if let Some((stream, place)) = accepted {
            tracker.spawn(exchange(stream, board.clone(), place));
        }
    }
    tracker.close();
    tracker.wait().await;
}

/// Waits for a free place first, so that clients beyond the limit wait in the kernel's queue.
async fn next_client(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    failpoint::reach("observe.listen");
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(_) => {
            // out of file descriptors, say: the next try may go better, but not at once
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn exchange(stream: TcpStream, board: Board, _place: OwnedSemaphorePermit) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), request.headers().get(ACCEPT), &board);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(EXCHANGE_TIMEOUT, connection).await;
}

fn answer(method: &Method, path: &str, accept: Option<&HeaderValue>, board: &Board) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if !PATHS.contains(&path) {
        return respond(StatusCode::NOT_FOUND, TEXT, "not here; try /metrics, /healthz, /readyz or /status.json\n");
    }
    if method != Method::GET && method != Method::HEAD {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" if wants_openmetrics(accept) => respond(StatusCode::OK, OPENMETRICS, board.metrics()),
        "/metrics" => respond(StatusCode::OK, PROMETHEUS, metrics::prometheus_text(&board.metrics())),
        "/healthz" => match board.ailment() {
            None => respond(StatusCode::OK, TEXT, "ok\n"),
            Some(why) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, why),
        },
        "/readyz" if board.ready.load(Ordering::Acquire) => respond(StatusCode::OK, TEXT, "ready\n"),
        "/readyz" => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the first pass is under way\n"),
        _ => match board.document().and_then(|document| serde_json::to_vec(&document).ok()) {
            Some(json) => respond(StatusCode::OK, "application/json", json),
            None => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the first pass is under way\n"),
        },
    }
}

/// Prometheus asks for OpenMetrics by name; a browser or curl gets plain text.
fn wants_openmetrics(accept: Option<&HeaderValue>) -> bool {
    accept.and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains("application/openmetrics-text"))
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What is answered.
const PATHS: [&str; 4] = ["/metrics", "/healthz", "/readyz", "/status.json"];
/// Connections at once; more wait.
pub const MAX_CONNECTIONS: usize = 32;
/// Bytes of a request's head.
pub const MAX_HEAD: usize = 16 << 10;
/// For the request's head.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For the whole exchange.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(20);
/// After a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

//! A webhook's other side that records what it gets and answers as told; and events and channels to send.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use certsyncd::alert::Outbox;
use certsyncd::alert::rules::Facts;
use certsyncd::config::secret::Source;
use certsyncd::config::{Alerts, Channel, ChannelKind, Language, Severity, WebhookFormat};
use certsyncd::ledger::{CertificateRecord, Raised, Records};
use certsyncd::report::{Action, CertificateReport, Event, Fingerprint, Live, Report};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use tokio::net::TcpListener;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Got {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Got {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn query(&self, name: &str) -> String {
        let url = url::Url::parse(&format!("http://x{}", self.path)).unwrap();
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
    }
}

/// What the other side answers.
pub type Answer = (u16, Vec<(&'static str, String)>, String);

pub fn ok(body: &str) -> Answer {
    (200, vec![], body.to_owned())
}

pub fn status(status: u16) -> Answer {
    (status, vec![], format!("no, {status}"))
}

/// A server on this machine; gone when it is dropped.
pub struct Hook {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Hook {
    pub async fn start(answer: impl Fn(&Got) -> Answer + Send + Sync + 'static) -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (got.clone(), Arc::new(answer));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, answer) = (seen.clone(), answer.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| serve(request, seen.clone(), answer.clone()));
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Hook { address, got, task }
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn channel(&self, name: &str) -> Channel {
        webhook(name, &self.url("/hook"), WebhookFormat::Json)
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Got>>>,
    answer: Arc<impl Fn(&Got) -> Answer>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let got = Got { method: head.method.to_string(), path: head.uri.to_string(), headers, body };
    let (status, headers, body) = answer(&got);
    seen.lock().unwrap().push(got);
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(Bytes::from(body))).unwrap())
}

/// A server that accepts and never answers.
pub async fn mute() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    (address, task)
}

pub fn plain(secret: &str) -> Source {
    Source::Plain(SecretString::from(secret))
}

pub fn webhook(name: &str, url: &str, format: WebhookFormat) -> Channel {
    channel(name, ChannelKind::Webhook { url: plain(url), format, headers: BTreeMap::new(), secret: None, template: None })
}

pub fn channel(name: &str, kind: ChannelKind) -> Channel {
    Channel {
        name: name.into(),
        kind,
        min_severity: Severity::Info,
        events: vec![],
        certificates: vec![],
        language: Language::En,
        timeout: Duration::from_secs(10),
    }
}

pub fn now() -> Timestamp {
    "2026-11-22T02:00:00Z".parse().unwrap()
}

pub fn settings(channels: Vec<Channel>) -> Alerts {
    Alerts {
        thresholds: vec![30, 14, 7, 3, 1],
        remind: Duration::from_secs(24 * 3_600),
        after_failures: 2,
        heartbeat_url: None,
        channels,
    }
}

pub fn days(days: i64) -> SignedDuration {
    SignedDuration::from_secs(days * 86_400)
}

/// A pass over one certificate, `api`, with the leaf `leaf`, that ends so many days after [`now`].
pub fn report(leaf: u8, ends: i64) -> Report {
    let live = Live {
        fingerprint: Fingerprint([leaf; 32]),
        generation: "000001-3f3f3f3f3f3f".into(),
        names: vec!["api.example.com".into()],
        not_before: now() - days(300),
        not_after: now() + days(ends),
    };
    let certificate = CertificateReport {
        name: "api".into(),
        provider: "shouyun".into(),
        action: Action::Unchanged,
        id: Some("cert-1".into()),
        previous_id: None,
        first: false,
        made_up: false,
        live: Some(live.into()),
        valid: None,
        error: None,
        held: None,
        successor: None,
        near_misses: vec![],
        drift: vec![],
        served: vec![],
        notes: vec![],
    };
    Report {
        started: now(),
        finished: now(),
        whole: true,
        certificates: vec![certificate],
        targets: vec![],
        incidents: vec![],
        requests: 1,
        calls: BTreeMap::new(),
    }
}

/// Judges a pass and files what it tells; the events.
pub fn note(outbox: &Outbox, report: &Report, settings: &Alerts, at: Timestamp) -> Vec<Event> {
    note_knowing(outbox, &BTreeMap::new(), report, settings, at)
}

/// As [`note`], with the ledger's copy of what was raised.
pub fn note_knowing(
    outbox: &Outbox,
    known: &BTreeMap<String, Raised>,
    report: &Report,
    settings: &Alerts,
    at: Timestamp,
) -> Vec<Event> {
    let records = Records::from_iter([("api".to_owned(), Box::<CertificateRecord>::default())]);
    let facts = Facts { report, records: &records, settings, host: "web-1", now: at };
    outbox.note(known, &facts).unwrap().verdict.events
}

/// An `expiring` event about `api`.
pub fn expiring() -> Event {
    let settings = settings(vec![]);
    let records = Records::default();
    let report = report(0x3f, 9);
    let facts = Facts { report: &report, records: &records, settings: &settings, host: "web-1", now: now() };
    certsyncd::alert::rules::judge(&BTreeMap::new(), &facts).events.remove(0)
}

/// An `expired` event about `api`.
pub fn expired() -> Event {
    let settings = settings(vec![]);
    let records = Records::default();
    let report = report(0x3f, -1);
    let facts = Facts { report: &report, records: &records, settings: &settings, host: "web-1", now: now() };
    certsyncd::alert::rules::judge(&BTreeMap::new(), &facts).events.remove(0)
}

/// A folder that is gone when it is dropped; in memory where that is possible, since the outbox syncs every file.
pub fn state_dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

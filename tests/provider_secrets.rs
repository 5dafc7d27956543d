//! Over real TLS: nothing secret in any log at TRACE, the trust of `ca_file`, HTTP/2 where offered, and the system's proxy.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod scripted;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use certsyncd::config::{Cds, Cloud, Huawei, HuaweiAuth, Provider};
use certsyncd::provider::Client;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use scripted::*;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use url::Url;

const ID: &str = "scs1554192131150";
const PASSWORD: &str = "a-password-to-keep";
const TOKEN: &str = "a-token-to-keep-0123456789";

type Log = Arc<Mutex<Vec<Asked>>>;
type Script = Arc<dyn Fn(&Asked, usize) -> Reply + Send + Sync>;

/// An https server of a CA of its own.
struct Secure {
    url: Url,
    ca_file: PathBuf,
    asked: Log,
    _folder: tempfile::TempDir,
}

impl Secure {
    async fn start(protocols: &[&str], script: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Secure {
        let (folder, acceptor) = trust(protocols);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("https://localhost:{}", listener.local_addr().unwrap().port())).unwrap();
        let (asked, script): (Log, Script) = (Arc::default(), Arc::new(script));
        let log = asked.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, log, script) = (acceptor.clone(), log.clone(), script.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        http2(stream, log, script).await;
                    } else {
                        serve(stream, log, script).await;
                    }
                });
            }
        });
        Secure { url, ca_file: folder.path().join("ca.pem"), asked, _folder: folder }
    }

    fn client(&self, cloud: Cloud) -> Client {
        let settings = Provider { ca_file: Some(self.ca_file.clone()), ..provider(cloud) };
        Client::with_limits(&settings, clock(), limits()).unwrap()
    }
}

fn trust(protocols: &[&str]) -> (tempfile::TempDir, TlsAcceptor) {
    let folder = tempfile::tempdir().unwrap();
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(folder.path().join("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    (folder, TlsAcceptor::from(Arc::new(config)))
}

async fn http2(stream: tokio_rustls::server::TlsStream<TcpStream>, log: Log, script: Script) {
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let (log, script) = (log.clone(), script.clone());
        async move {
            let (head, body) = request.into_parts();
            let headers =
                head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
            let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
            let target = head.uri.path_and_query().unwrap().to_string();
            let asked = Asked { method: format!("{} {:?}", head.method, head.version), target, headers, body };
            let n = {
                let mut log = log.lock().unwrap();
                log.push(asked.clone());
                log.len() - 1
            };
            let reply = script(&asked, n);
            let mut response = hyper::Response::builder().status(reply.status);
            for (name, value) in &reply.headers {
                response = response.header(name.as_str(), value.as_str());
            }
            Ok::<_, Infallible>(response.body(Full::new(Bytes::from(reply.body))).unwrap())
        }
    });
    // how a connection ends is the client's affair
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// What either cloud answers; every fourth answer fails, quoting the request.
fn both_clouds(asked: &Asked, n: usize) -> Reply {
    let export = serde_json::json!({"entire_certificate": PEM, "private_key": KEY}).to_string();
    match asked.path() {
        _ if n % 4 == 3 => reply(503, format!("{} {} {:?} {}", asked.method, asked.target, asked.headers, asked.body)),
        "/lb/" if asked.query()["Action"] == "DescribeCACertificates" => reply(200, r#"{"Code":"Success","Data":[]}"#),
        "/lb/" => {
            let data = serde_json::json!({"CertificateId": ID, "Certificate": PEM, "PirvateKey": KEY, "Valid": 1});
            reply(200, serde_json::json!({"Code": "Success", "Data": data}).to_string())
        }
        "/v3/auth/tokens" => reply(201, r#"{"token":{"expires_at":"2026-11-23T02:00:00Z"}}"#).header("x-subject-token", TOKEN),
        "/v3/scm/certificates" => reply(200, r#"{"certificates":[],"total_count":0}"#),
        _ => reply(200, export),
    }
}

fn huawei_at(url: &Url, auth: HuaweiAuth) -> Cloud {
    Cloud::Huawei(Huawei { ..huawei_settings(url, auth) })
}

fn password() -> HuaweiAuth {
    HuaweiAuth::Password { user: plain("u"), password: plain(PASSWORD), domain: "d".into(), project: None }
}

static LOGGED: Mutex<Vec<u8>> = Mutex::new(vec![]);

/// Writes where [`LOGGED`] is, for `tracing` and for the older `log` of reqwest and rustls.
#[derive(Clone, Copy)]
struct Capture;

impl std::io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("log {} {}\n", record.target(), record.args());
        LOGGED.lock().unwrap().extend_from_slice(line.as_bytes());
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn nothing_secret_is_logged_at_trace() {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer(|| Capture)
        .init();
    log::set_logger(&Capture).unwrap();
    log::set_max_level(log::LevelFilter::Trace);

    let mut secrets: Vec<String> = [AK, SK, PASSWORD, TOKEN, "TOPSECRETKEYMATERIAL"].map(str::to_owned).to_vec();
    let mut said = String::new();
    for protocols in [&["h2"][..], &["http/1.1"][..]] {
        let server = Secure::start(protocols, both_clouds).await;
        let cds = Cds { ..cds_settings(&server.url) };
        for cloud in [huawei_at(&server.url, access_key()), huawei_at(&server.url, password()), Cloud::Cds(cds)] {
            let client = server.client(cloud);
            client.fetch(ID).await.unwrap();
            client.list().await.unwrap();
            let error = client.fetch("..").await.err().unwrap();
            said.push_str(&format!("{client:?} {error:?}"));
        }
        for asked in server.asked.lock().unwrap().iter() {
            let signed = asked.header("authorization").rsplit_once('=').map(|(_, signature)| signature.to_owned());
            secrets.extend(
                signed.into_iter().chain(asked.target.rsplit_once("Signature=").map(|(_, signature)| signature.to_owned())),
            );
        }
    }
    assert!(secrets.len() > 10);
    let logged = String::from_utf8_lossy(&LOGGED.lock().unwrap()).into_owned() + &said;
    for chatty in ["h2::", "hyper_util::client", "log rustls", "log reqwest", "certsyncd::provider"] {
        assert!(logged.contains(chatty), "nothing of {chatty} was captured, so this test sees nothing");
    }
    for secret in secrets {
        if let Some(at) = logged.find(&secret) {
            let from = logged.floor_char_boundary(at.saturating_sub(400));
            panic!("`{secret}` was logged: {}", &logged[from..logged.ceil_char_boundary(at + 100)]);
        }
    }
}

#[tokio::test]
async fn http2_where_offered_with_a_signature_that_fits() {
    let server = Secure::start(&["h2", "http/1.1"], both_clouds).await;
    server.client(huawei_at(&server.url, access_key())).fetch(ID).await.unwrap();
    let asked = server.asked.lock().unwrap()[0].clone();
    assert_eq!(asked.method, "POST HTTP/2.0");
    assert_eq!(asked.header("content-length"), "0");
}

#[tokio::test]
async fn an_unknown_issuer_is_refused_and_ca_file_makes_it_known() {
    let server = Secure::start(&["http/1.1"], both_clouds).await;
    let stranger = Client::with_limits(&provider(huawei_at(&server.url, access_key())), clock(), limits()).unwrap();
    let error = stranger.fetch(ID).await.err().unwrap();
    assert_eq!((error.kind(), error.is_transient()), ("tls", false));
    let failure = error.to_failure();
    assert!(failure.causes[1].starts_with("no trusted TLS connection to `localhost:"), "{failure:?}");
    assert!(failure.causes[2].contains("UnknownIssuer"), "{failure:?}");
    assert!(failure.hint.unwrap().contains("ca_file"));
    assert!(server.asked.lock().unwrap().is_empty());
    server.client(huawei_at(&server.url, access_key())).fetch(ID).await.unwrap();
}

#[tokio::test]
async fn a_name_that_is_not_the_servers_is_refused() {
    let server = Secure::start(&["http/1.1"], both_clouds).await;
    let mut other = server.url.clone();
    other.set_host(Some("127.0.0.1")).unwrap();
    let error = server.client(huawei_at(&other, access_key())).fetch(ID).await.err().unwrap();
    assert_eq!(error.kind(), "tls");
}

/// A proxy that only knows CONNECT, and counts.
async fn proxy() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, wanted) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(vec![])));
    let log = wanted.clone();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let log = log.clone();
            tokio::spawn(async move {
                let mut head = vec![];
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(tokio::io::AsyncReadExt::read_u8(&mut near).await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                log.lock().unwrap().push(head.lines().next().unwrap().to_owned());
                let to = head.split(' ').nth(1).unwrap().to_owned();
                near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut far = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (port, wanted)
}

#[tokio::test]
async fn https_goes_through_the_systems_proxy_and_plain_http_never() {
    let (port, wanted) = proxy().await;
    let server = Secure::start(&["http/1.1"], both_clouds).await;
    let metadata = Server::of([exported()]).await;
    let run = |no_proxy: &'static str| {
        let (https, http, ca_file) = (server.url.to_string(), metadata.url.to_string(), server.ca_file.clone());
        let proxy = format!("http://127.0.0.1:{port}");
        tokio::task::spawn_blocking(move || {
            let output = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "asks_through_a_proxy", "--ignored", "--nocapture"])
                .envs([
                    ("HTTPS_PROXY", &*proxy),
                    ("HTTP_PROXY", &proxy),
                    ("ALL_PROXY", &proxy),
                    ("http_proxy", &proxy),
                    ("NO_PROXY", no_proxy),
                ])
                .envs([("TEST_HTTPS", https), ("TEST_HTTP", http), ("TEST_CA", ca_file.to_str().unwrap().to_owned())])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
        })
    };
    run("").await.unwrap();
    let through = format!("CONNECT localhost:{} HTTP/1.1", server.url.port().unwrap());
    assert_eq!(*wanted.lock().unwrap(), [through], "https once, plain http not at all");
    assert_eq!(metadata.count(), 1);
    run("localhost").await.unwrap();
    assert_eq!(wanted.lock().unwrap().len(), 1, "NO_PROXY is heeded");
}

#[tokio::test]
#[ignore = "run by https_goes_through_the_systems_proxy_and_plain_http_never in a process with these variables"]
async fn asks_through_a_proxy() {
    let of = |name: &str| std::env::var(name).unwrap();
    let settings = |url: &str| provider(huawei_at(&url.parse().unwrap(), access_key()));
    let secure = Provider { ca_file: Some(of("TEST_CA").into()), ..settings(&of("TEST_HTTPS")) };
    Client::with_limits(&secure, clock(), limits()).unwrap().fetch(ID).await.unwrap();
    Client::with_limits(&settings(&of("TEST_HTTP")), clock(), limits()).unwrap().fetch(ID).await.unwrap();
}

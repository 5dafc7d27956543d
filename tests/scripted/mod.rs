//! A server that answers as it is told, one script per test, and remembers what it was asked.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certsyncd::clock::Clock;
use certsyncd::config::secret::Source;
use certsyncd::config::{Cds, Cloud, Huawei, HuaweiApi, HuaweiAuth, Provider};
use certsyncd::provider::{Client, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use url::Url;

/// One request as it came.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    /// Path and query, still encoded.
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Asked {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// Query, decoded.
    pub fn query(&self) -> BTreeMap<String, String> {
        let url = Url::parse(&format!("http://localhost{}", self.target)).unwrap();
        url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub how: How,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    Whole,
    /// In chunks, without telling the length.
    Chunked,
    /// The length is told, then the connection closes after so many bytes.
    CutAfter(usize),
    /// One byte each so often.
    Drip(Duration),
    /// Nothing at all, the connection stays open.
    Hang,
    /// Nothing at all, the connection closes.
    Close,
}

pub fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply { status, headers: vec![], body: body.into(), how: How::Whole }
}

impl Reply {
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn how(mut self, how: How) -> Reply {
        self.how = how;
        self
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} X\r\n", self.status);
        self.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        match self.how {
            How::Chunked => head.push_str("transfer-encoding: chunked\r\n\r\n"),
            _ => head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len())),
        }
        head
    }
}

type Script = Arc<dyn Fn(&Asked, usize) -> Reply + Send + Sync>;

/// Stops when dropped.
pub struct Server {
    pub url: Url,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// `script` is given each request and how many came before it.
    pub async fn start(script: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let (asked, script): (Arc<Mutex<Vec<Asked>>>, Script) = (Arc::default(), Arc::new(script));
        let log = asked.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(stream, log.clone(), script.clone()));
            }
        });
        Server { url, asked, task }
    }

    /// Each request gets the next reply; the last one is repeated.
    pub async fn of(replies: impl IntoIterator<Item = Reply>) -> Server {
        let replies: Vec<Reply> = replies.into_iter().collect();
        Server::start(move |_, n| replies[n.min(replies.len() - 1)].clone()).await
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// Answers every request of one connection.
pub async fn serve<S>(mut stream: S, log: Arc<Mutex<Vec<Asked>>>, script: Script)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(asked) = read(&mut stream).await {
        let reply = {
            let mut log = log.lock().unwrap();
            let n = log.len();
            log.push(asked.clone());
            drop(log);
            script(&asked, n)
        };
        if answer(&mut stream, &reply).await.is_err() || !matches!(reply.how, How::Whole | How::Chunked) {
            return;
        }
    }
}

async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<Asked> {
    let (mut head, mut byte) = (vec![], [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Asked { method, target, headers, body: String::from_utf8(body).unwrap() })
}

async fn answer(stream: &mut (impl tokio::io::AsyncWrite + Unpin), reply: &Reply) -> std::io::Result<()> {
    match reply.how {
        How::Close => return Ok(()),
        How::Hang => return std::future::pending().await,
        _ => stream.write_all(reply.head().as_bytes()).await?,
    }
    match reply.how {
        How::CutAfter(bytes) => stream.write_all(&reply.body[..bytes]).await?,
        How::Drip(pause) => {
            for byte in &reply.body {
                stream.write_all(&[*byte]).await?;
                stream.flush().await?;
                tokio::time::sleep(pause).await;
            }
        }
        How::Chunked => {
            for chunk in reply.body.chunks(64 * 1024) {
                stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
                stream.write_all(chunk).await?;
                stream.write_all(b"\r\n").await?;
            }
            stream.write_all(b"0\r\n\r\n").await?;
        }
        _ => stream.write_all(&reply.body).await?,
    }
    stream.flush().await
}

pub const AK: &str = "AKIDTESTACCESSKEY012";
pub const SK: &str = "hush-hush-secret-key-0123456789";
pub const NOW: &str = "2026-11-22T02:00:00Z";

pub fn plain(secret: &str) -> Source {
    Source::Plain(secret.into())
}

pub fn access_key() -> HuaweiAuth {
    HuaweiAuth::AccessKey { access_key: plain(AK), secret_key: plain(SK), security_token: None }
}

/// Settings of a Huawei account that answers at `url`, also for IAM and metadata.
pub fn huawei_settings(url: &Url, auth: HuaweiAuth) -> Huawei {
    Huawei {
        endpoint: url.clone(),
        iam_endpoint: url.clone(),
        metadata_endpoint: url.clone(),
        region: Some("cn-north-4".into()),
        project_id: Some("0123456789abcdef0123456789abcdef".into()),
        domain_id: None,
        enterprise_project_id: None,
        api: HuaweiApi::Export,
        auth,
    }
}

pub fn provider(cloud: Cloud) -> Provider {
    Provider { name: "scm".into(), cloud, rate_limit: None, ca_file: None::<PathBuf> }
}

pub fn clock() -> Clock {
    Clock::manual(NOW.parse().unwrap())
}

/// Bounds small enough for a test that waits for them.
pub fn limits() -> Limits {
    Limits {
        total: Duration::from_secs(20),
        connect: Duration::from_secs(5),
        read: Duration::from_secs(10),
        tries: 3,
        first_pause: Duration::from_millis(2),
        longest_pause: Duration::from_millis(4),
        retry_after: Duration::from_secs(60),
    }
}

pub fn huawei(settings: Huawei, clock: &Clock) -> Client {
    Client::with_limits(&provider(Cloud::Huawei(settings)), clock.clone(), limits()).unwrap()
}

/// An export client with an access key.
pub fn exporter(server: &Server) -> Client {
    huawei(huawei_settings(&server.url, access_key()), &clock())
}

pub fn cds_settings(url: &Url) -> Cds {
    Cds { endpoint: url.clone(), access_key: plain(AK), secret_key: plain(SK) }
}

pub fn cds(server: &Server) -> Client {
    Client::with_limits(&provider(Cloud::Cds(cds_settings(&server.url))), clock(), limits()).unwrap()
}

pub const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";
pub const KEY: &str = "-----BEGIN PRIVATE KEY-----\nTOPSECRETKEYMATERIAL\n-----END PRIVATE KEY-----\n";

pub fn exported() -> Reply {
    reply(200, serde_json::json!({"entire_certificate": format!("{PEM}{PEM}"), "private_key": KEY}).to_string())
}

pub fn scm_error(status: u16, code: &str, words: &str) -> Reply {
    reply(status, serde_json::json!({"error_code": code, "error_msg": words}).to_string())
}

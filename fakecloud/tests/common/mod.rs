//! A bare HTTP/1.1 client, and both signatures written once more, so that a test can get any part of them wrong.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use fakecloud::Fakecloud;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sha2::Digest as _;

/// An answer; `body` is what came before the connection ended or the length was reached.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether as much came as was said.
    pub whole: bool,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The vendor's code: Huawei's or CDS's.
    pub fn code(&self) -> String {
        let body = self.json();
        body["error_code"].as_str().or(body["Code"].as_str()).unwrap_or_default().to_owned()
    }
}

/// One connection, kept alive.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn open(endpoint: &str) -> Connection {
        let stream = TcpStream::connect(endpoint.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Connection(BufReader::new(stream))
    }

    pub fn send(&mut self, request: &Request) -> std::io::Result<Answer> {
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
        for (name, value) in &request.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n{}", request.body.len(), request.body));
        self.0.get_mut().write_all(head.as_bytes())?;
        self.receive()
    }

    fn receive(&mut self) -> std::io::Result<Answer> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other("no status line"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse().unwrap());
        let mut body = Vec::new();
        self.0.by_ref().take(length.unwrap_or(0)).read_to_end(&mut body)?;
        Ok(Answer { status, headers, whole: length == Some(body.len() as u64), body })
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

/// A request; the host header is there already.
#[derive(Clone, Debug)]
pub struct Request {
    pub endpoint: String,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn new(endpoint: &str, method: &str, target: &str) -> Request {
        let host = endpoint.strip_prefix("http://").unwrap().to_owned();
        let headers = vec![("host".to_owned(), host)];
        Request {
            endpoint: endpoint.to_owned(),
            method: method.to_owned(),
            target: target.to_owned(),
            headers,
            body: String::new(),
        }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Request {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<String>) -> Request {
        self.body = body.into();
        self
    }

    /// On a connection of its own.
    pub fn send(&self) -> Answer {
        self.try_send().unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }

    pub fn try_send(&self) -> std::io::Result<Answer> {
        Connection::open(&self.endpoint).send(self)
    }

    /// Signed as Huawei documents it, all headers, now. Give what must be signed before.
    pub fn signed(self, access: &str, secret: &str) -> Request {
        self.signed_at(access, secret, Timestamp::now())
    }

    pub fn signed_at(self, access: &str, secret: &str, at: Timestamp) -> Request {
        let names: Vec<String> = self.headers.iter().map(|(name, _)| name.clone()).chain(["x-sdk-date".to_owned()]).collect();
        self.signed_with(access, secret, at, names)
    }

    pub fn signed_with(self, access: &str, secret: &str, at: Timestamp, mut names: Vec<String>) -> Request {
        let date = at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut request = self.header("x-sdk-date", date.clone());
        names.sort();
        let value =
            |name: &String| request.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str());
        let headers: String = names.iter().map(|name| format!("{name}:{}\n", value(name))).collect();
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let mut pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
        pairs.sort_unstable();
        let hash = |bytes: &[u8]| hex(&sha2::Sha256::digest(bytes));
        let (query, names) = (pairs.join("&"), names.join(";"));
        let canonical = format!("{}\n{path}/\n{query}\n{headers}\n{names}\n{}", request.method, hash(request.body.as_bytes()));
        let text = format!("SDK-HMAC-SHA256\n{date}\n{}", hash(canonical.as_bytes()));
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(text.as_bytes());
        let signature = hex(&mac.finalize().into_bytes());
        let authorization = format!("SDK-HMAC-SHA256 Access={access}, SignedHeaders={names}, Signature={signature}");
        request = request.header("authorization", authorization);
        request
    }
}

/// A signed request of SCM; a header of its own keeps two alike of the same second apart.
pub fn scm(cloud: &Fakecloud, method: &str, target: &str) -> Request {
    let request = Request::new(&cloud.huawei.endpoint(), method, target).header("x-nonce", nonce());
    request.signed(&cloud.huawei.access_key(), &cloud.huawei.secret_key())
}

/// A signed CDS request: parameters on top of the common ones, or in their place; an empty one is left out.
pub fn cds(cloud: &Fakecloud, action: &str, own: &[(&str, &str)]) -> Request {
    let at = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let (key, nonce) = (cloud.cds.access_key(), nonce());
    let common = [
        ("Action", action),
        ("AccessKeyId", key.as_str()),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("SignatureNonce", nonce.as_str()),
        ("Timestamp", at.as_str()),
        ("Version", "2019-08-08"),
    ];
    let kept = common.into_iter().filter(|(name, _)| !own.iter().any(|(known, _)| known == name));
    let mut pairs: Vec<_> = kept.chain(own.iter().copied()).filter(|(_, value)| !value.is_empty()).collect();
    pairs.sort_unstable();
    let query = pairs.iter().map(|(name, value)| format!("{}={}", quote(name), quote(value))).collect::<Vec<_>>().join("&");
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(cloud.cds.secret_key().as_bytes()).unwrap();
    mac.update(format!("GET&%2F&{}", quote(&query)).as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    Request::new(&cloud.cds.endpoint(), "GET", &format!("/lb/?{query}&Signature={}", quote(&signature)))
}

pub fn minutes(count: i64) -> SignedDuration {
    SignedDuration::from_mins(count)
}

pub fn quote(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn nonce() -> String {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    format!("nonce-{}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

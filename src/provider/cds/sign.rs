//! CDS's signature: HMAC-SHA1 over the sorted query. Pure: the same input gives the same query.
//!
//! Source: the vendor's OpenAPI page "signature"; `tests/vectors/cds.json` holds the published algorithm written out in Python.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sha1::Sha1;

use crate::provider::encode::{self, encode};

/// What is asked, once: a nonce is refused the second time.
pub struct Unsigned<'a> {
    /// `Action`.
    pub action: &'a str,
    /// Its own parameters.
    pub parameters: &'a [(&'a str, &'a str)],
    /// Never twice.
    pub nonce: &'a str,
    /// Shown with seconds, in UTC.
    pub now: Timestamp,
}

/// The whole query with its signature, encoded. It carries the access key and the signature: never to be logged.
pub fn sign(request: &Unsigned<'_>, access_key: &SecretString, secret_key: &SecretString) -> String {
    let timestamp = request.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut pairs = vec![
        ("Action", request.action),
        ("AccessKeyId", access_key.expose_secret()),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("SignatureNonce", request.nonce),
        ("Timestamp", &timestamp),
        ("Version", VERSION),
    ];
    pairs.extend_from_slice(request.parameters);
    pairs.sort_unstable();
    let query = encode::query(pairs);
    let text = format!("GET&%2F&{}", encode(&query));
    let signature = hmac_sha1(secret_key.expose_secret().as_bytes(), text.as_bytes());
    format!("{query}&Signature={}", encode(&signature))
}

fn hmac_sha1(key: &[u8], text: &[u8]) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104)")]
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("any length");
    mac.update(text);
    STANDARD.encode(mac.finalize().into_bytes())
}

/// Of the load balancer's API.
const VERSION: &str = "2019-08-08";

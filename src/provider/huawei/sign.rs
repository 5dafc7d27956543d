//! SDK-HMAC-SHA256, the signature of Huawei Cloud's access keys. [`sign`] is pure: the same input gives the same headers.
//!
//! Source: the vendor's page "AK/SK signing"; `tests/vectors/huawei.json` holds what the vendor's own SDK makes of the same input.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::provider::encode::{self, encode};

/// What is signed of a request.
pub struct Unsigned<'a> {
    /// `GET`, `POST`.
    pub method: &'a str,
    /// Host with the port, if it is not the scheme's own, as it will stand in the `Host` header.
    pub host: &'a str,
    /// Path segments, decoded; the leading slash is not one.
    pub path: &'a [String],
    /// Query, decoded.
    pub query: &'a [(String, String)],
    /// Further headers that are sent and signed, such as `X-Project-Id`.
    pub headers: &'a [(&'static str, String)],
    /// May be empty.
    pub body: &'a [u8],
}

/// An access key.
pub struct Key<'a> {
    /// AK.
    pub access: &'a SecretString,
    /// SK.
    pub secret: &'a SecretString,
    /// Of a temporary one.
    pub security_token: Option<&'a SecretString>,
}

/// The headers that the request must carry besides [`Unsigned::headers`]: date, token, authorization.
pub fn sign(request: &Unsigned<'_>, key: &Key<'_>, now: Timestamp) -> Vec<(&'static str, String)> {
    let date = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut added = vec![("X-Sdk-Date", date.clone())];
    if let Some(token) = key.security_token {
        added.push(("X-Security-Token", token.expose_secret().to_owned()));
    }

    let (signed, canonical) = canonical_headers(request, &added);
    let canonical = format!(
        "{}\n{}\n{}\n{canonical}\n{signed}\n{}",
        request.method,
        canonical_path(request.path),
        canonical_query(request.query),
        hex(&Sha256::digest(request.body)),
    );
    let text = format!("{ALGORITHM}\n{date}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let signature = hmac_sha256(key.secret.expose_secret().as_bytes(), text.as_bytes());
    let access = key.access.expose_secret();
    added.push(("Authorization", format!("{ALGORITHM} Access={access}, SignedHeaders={signed}, Signature={signature}")));
    added
}

/// The date is the only part of a signature that changes from one try to the next, and it counts seconds: the same request within one second
/// would carry the same signature, which a server may refuse as a replay. So each gets a second of its own.
#[derive(Default)]
pub(crate) struct Dates(Mutex<BTreeMap<String, Timestamp>>);

impl Dates {
    /// The date to sign `request` with: now, or the second after the one it was signed with last.
    pub(crate) fn next(&self, request: &str, now: Timestamp) -> Timestamp {
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let mut dates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if dates.len() >= DATES {
            dates.retain(|_, last| *last >= now);
        }
        let after = dates.get(request).and_then(|last| last.checked_add(SignedDuration::from_secs(1)).ok());
        let date = after.filter(|after| *after > now && after.duration_since(now) <= AHEAD).unwrap_or(now);
        dates.insert(request.to_owned(), date);
        date
    }
}

/// Requests remembered before those of past seconds are dropped.
const DATES: usize = 1024;
/// A date is never further ahead: the server allows 15 minutes, and clocks differ anyway.
const AHEAD: SignedDuration = SignedDuration::from_secs(60);

/// Names joined by `;`, and one `name:value\n` each, sorted by name.
fn canonical_headers(request: &Unsigned<'_>, added: &[(&'static str, String)]) -> (String, String) {
    let all = request.headers.iter().chain(added);
    let mut headers: Vec<(String, &str)> = all.map(|(name, value)| (name.to_ascii_lowercase(), value.trim())).collect();
    headers.push(("host".to_owned(), request.host));
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let lines = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    (names.join(";"), lines)
}

/// Always with a slash at the end, though the path on the wire has none.
fn canonical_path(segments: &[String]) -> String {
    let mut path = wire_path(segments);
    if !path.ends_with('/') {
        path.push('/');
    }
    path
}

/// Sorted by name, then by value, before they are encoded, as the SDK does.
fn canonical_query(pairs: &[(String, String)]) -> String {
    let mut pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    pairs.sort_unstable();
    encode::query(pairs)
}

/// The path as it is sent.
pub(crate) fn wire_path(segments: &[String]) -> String {
    segments.iter().map(|segment| format!("/{}", encode(segment))).collect()
}

/// The query as it is sent; empty when there is none.
pub(crate) fn wire_query(pairs: &[(String, String)]) -> String {
    canonical_query(pairs)
}

fn hmac_sha256(key: &[u8], text: &[u8]) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text);
    hex(&mac.finalize().into_bytes())
}

fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

const ALGORITHM: &str = "SDK-HMAC-SHA256";

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn the_same_request_never_has_the_same_date() {
        let dates = Dates::default();
        assert_eq!([dates.next("a", at(0)), dates.next("a", at(0)), dates.next("a", at(1))], [at(0), at(1), at(2)]);
        assert_eq!([dates.next("b", at(1)), dates.next("a", at(9))], [at(1), at(9)]);
        let all: Vec<Timestamp> = (0..200).map(|_| dates.next("c", at(0))).collect();
        assert!(all.iter().all(|date| *date <= at(60)), "never far ahead");
    }

    #[test]
    fn past_seconds_are_forgotten() {
        let dates = Dates::default();
        for n in 0..3 * DATES as i64 {
            dates.next(&n.to_string(), at(n));
        }
        assert!(dates.0.lock().unwrap().len() <= DATES);
    }
}

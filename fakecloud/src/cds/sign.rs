//! The referee of CDS's signature (HMAC-SHA1 over the sorted query), from the vendor's "OpenAPI" document.
//!
//! Every common parameter must be there, once, and exact; the nonce was never used; the time is ours, 15 minutes up or down.

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use sha1::Sha1;

use super::{Account, lb};
use crate::wire::{Call, Refusal, encode, same};

/// The bound between our clock and `Timestamp`.
pub(crate) const WINDOW_SECONDS: i64 = 15 * 60;
/// Longest nonce taken.
const LONGEST_NONCE: usize = 128;

/// Whether the request is signed as documented.
pub(crate) fn check(account: &mut Account, call: &Call, now: Timestamp) -> Result<(), Refusal> {
    let pairs = call.pairs();
    check_parameters(&pairs)?;
    let value = |name: &str| pairs.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str());
    for (name, wanted) in FIXED {
        if value(name) != wanted {
            return Err(invalid(name, format!("`{name}` is `{}`, not `{wanted}`", value(name))));
        }
    }
    if value("AccessKeyId") != account.access_key {
        return Err(invalid("AccessKeyId", "no such access key".to_owned()));
    }
    check_time(value("Timestamp"), now)?;
    let text = string_to_sign(&call.method, &pairs);
    if !same(&signature(&account.secret_key, &text), value("Signature")) {
        return Err(invalid("Signature", format!("the signature differs; the string to sign here is `{text}`")));
    }
    let nonce = value("SignatureNonce");
    if nonce.len() > LONGEST_NONCE || !account.nonces.insert(nonce.to_owned()) {
        return Err(invalid("SignatureNonce", format!("the nonce `{nonce}` was used before or is too long")));
    }
    Ok(())
}

/// All there, none empty, none twice.
fn check_parameters(pairs: &[(String, String)]) -> Result<(), Refusal> {
    for name in COMMON {
        match pairs.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect::<Vec<_>>()[..] {
            [] | [""] => return Err(missing(name)),
            [_] => {}
            _ => return Err(invalid(name, format!("`{name}` is there twice"))),
        }
    }
    Ok(())
}

fn check_time(text: &str, now: Timestamp) -> Result<(), Refusal> {
    let time = text.parse::<Timestamp>().ok().filter(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string() == text);
    let time = time.ok_or_else(|| invalid("Timestamp", format!("`{text}` is not like 2018-01-01T12:00:00Z")))?;
    let apart = now.as_second() - time.as_second();
    if apart.abs() > WINDOW_SECONDS {
        return Err(invalid("Timestamp", format!("`Timestamp` is {apart} s behind our clock; 900 s are allowed")));
    }
    Ok(())
}

/// `GET&%2F&` and the sorted, encoded pairs, encoded once more.
fn string_to_sign(method: &str, pairs: &[(String, String)]) -> String {
    let mut pairs: Vec<_> = pairs.iter().filter(|(name, _)| name != "Signature").collect();
    pairs.sort();
    let query = pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&");
    format!("{method}&%2F&{}", encode(&query))
}

fn signature(secret: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
    mac.update(text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

pub(crate) fn missing(name: &str) -> Refusal {
    let reply = lb::error(400, "ArgMissing", &format!("The request must contain the parameter \"{name}\"."));
    Refusal::new(reply, format!("no `{name}`"))
}

pub(crate) fn invalid(name: &str, why: String) -> Refusal {
    let reply = lb::error(400, "InvalidParameter", &format!("The specified parameter \"{name}\" is not valid."));
    Refusal::new(reply, why)
}

/// The common parameters, all of them required.
pub(crate) const COMMON: [&str; 8] =
    ["Action", "AccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "SignatureNonce", "Timestamp", "Version"];
const FIXED: [(&str, &str); 3] = [("SignatureMethod", "HMAC-SHA1"), ("SignatureVersion", "1.0"), ("Version", "2019-08-08")];

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with the vendor's published Python functions (`quote2`, `get_url_with_signature`), all inputs fixed.
    #[test]
    fn signs_as_the_published_python_does() {
        let pairs = [
            ("Action", "DescribeCACertificate"),
            ("AccessKeyId", "ak"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", "n-1"),
            ("SignatureVersion", "1.0"),
            ("Timestamp", "2018-01-01T12:00:00Z"),
            ("Version", "2019-08-08"),
            ("CertificateId", "a b*c~/+首"),
        ];
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(signature("secret", &string_to_sign("GET", &pairs)), PYTHON);
    }

    const PYTHON: &str = "zA9Secr0EIyZMbkuQZObYSnKlJs=";
}

//! The referee of `SDK-HMAC-SHA256` and of tokens, from the vendor's "API request signing guide".
//!
//! The signature is computed again from the request as it came. Whatever is wrong is refused as the gateway does (`APIGW.0301`, 401),
//! and the record says precisely what it was.

use std::collections::HashSet;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Account;
use crate::pki::hex;
use crate::wire::{Call, Refusal, Reply, decode, encode, same};

/// The gateway's bound between its clock and `X-Sdk-Date`.
pub(crate) const WINDOW_SECONDS: i64 = 15 * 60;

/// Who asked.
pub(crate) struct Caller {
    /// The project the caller may act in; `None`: a token for the whole account.
    pub(crate) project: Option<String>,
}

/// Signatures that were used.
pub(crate) struct Used {
    seen: HashSet<(String, String)>,
    allow: bool,
}

impl Used {
    pub(crate) fn new(allow: bool) -> Used {
        Used { seen: HashSet::new(), allow }
    }
}

/// Who asked, by token or by signature.
pub(crate) fn caller(account: &mut Account, call: &Call, now: Timestamp) -> Result<Caller, Refusal> {
    let project = match (call.header("authorization"), call.header("x-auth-token")) {
        (Some(authorization), _) => signed(account, call, authorization, now)?,
        (None, Some(token)) => by_token(account, token, now)?,
        (None, None) => return Err(unauthorized("neither `Authorization` nor `X-Auth-Token`")),
    };
    if call.header("x-project-id").is_some_and(|id| id != account.project_id) {
        return Err(Refusal::new(super::scm::error(403, "SCM.0002", "The project ID is incorrect."), "X-Project-Id is not ours"));
    }
    if call.header("x-domain-id").is_some_and(|id| id != account.domain_id) {
        return Err(unauthorized("X-Domain-Id is not the account's"));
    }
    Ok(Caller { project })
}

fn by_token(account: &Account, token: &str, now: Timestamp) -> Result<Option<String>, Refusal> {
    let refused = |why: &str| Refusal::new(super::scm::error(401, "SCM.1000", "The token is invalid."), why);
    match account.tokens.get(token) {
        None => Err(refused("no such token")),
        Some(token) if now >= token.expires_at => Err(refused("the token is over")),
        Some(token) => Ok(token.project.clone()),
    }
}

fn signed(account: &mut Account, call: &Call, authorization: &str, now: Timestamp) -> Result<Option<String>, Refusal> {
    let parts = Parts::read(authorization).ok_or_else(|| unauthorized("`Authorization` is not as documented"))?;
    let secret = secret(account, call, parts.access, now)?;
    let date = call.header("x-sdk-date").ok_or_else(|| unauthorized("no X-Sdk-Date"))?;
    check_date(date, now)?;
    check_signed_headers(call, &parts)?;
    let request = canonical_request(call, &parts.headers, &payload_hash(call)?)?;
    let expected = signature(&secret, date, &request);
    if !same(&expected, parts.signature) {
        let shown = request.replace('\n', "\\n");
        return Err(unauthorized(&format!("the signature differs; the canonical request here is `{shown}`")));
    }
    let used = (date.to_owned(), parts.signature.to_owned());
    if !account.signatures.seen.insert(used) && !account.signatures.allow {
        return Err(unauthorized("this signature with this X-Sdk-Date was used before"));
    }
    Ok(Some(account.project_id.clone()))
}

/// The secret key of an access key, and whether the security token goes with it.
fn secret(account: &Account, call: &Call, access: &str, now: Timestamp) -> Result<String, Refusal> {
    let token = call.header("x-security-token");
    if access == account.access_key {
        return match token {
            None => Ok(account.secret_key.clone()),
            Some(_) => Err(unauthorized("X-Security-Token with a permanent access key")),
        };
    }
    let temporary = account.temporary.get(access).ok_or_else(|| unauthorized(&format!("no such access key `{access}`")))?;
    match token {
        None => Err(unauthorized("a temporary access key without X-Security-Token")),
        Some(token) if token != temporary.security_token => Err(unauthorized("X-Security-Token is not that of the access key")),
        Some(_) if now >= temporary.expires_at => Err(unauthorized("the temporary access key is over")),
        Some(_) => Ok(temporary.secret_key.clone()),
    }
}

fn check_date(date: &str, now: Timestamp) -> Result<(), Refusal> {
    let time = DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok().filter(|_| date.len() == 16);
    let time = time.and_then(|time| time.to_zoned(TimeZone::UTC).ok());
    let time = time.ok_or_else(|| unauthorized(&format!("X-Sdk-Date `{date}` is not YYYYMMDDTHHMMSSZ")))?.timestamp();
    let apart = now.as_second() - time.as_second();
    if apart.abs() > WINDOW_SECONDS {
        return Err(unauthorized(&format!("X-Sdk-Date is {apart} s behind our clock; 900 s are allowed")));
    }
    Ok(())
}

/// `host` and `x-sdk-date` always; each of the vendor's own headers that was sent; sorted, each once, each there.
fn check_signed_headers(call: &Call, parts: &Parts<'_>) -> Result<(), Refusal> {
    let own = ["x-sdk-content-sha256", "x-security-token", "x-project-id", "x-domain-id"];
    let sent = own.into_iter().filter(|name| call.header(name).is_some());
    for name in ["host", "x-sdk-date"].into_iter().chain(sent) {
        if !parts.headers.contains(&name) {
            return Err(unauthorized(&format!("`{name}` is not signed")));
        }
    }
    if !parts.headers.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err(unauthorized("SignedHeaders are not sorted, or one is there twice"));
    }
    Ok(())
}

/// The hash that stands in the canonical request: that of the body, or what `X-Sdk-Content-Sha256` says (`UNSIGNED-PAYLOAD`). The
/// vendor's SDK signs the empty hash for an empty body whatever that header says.
fn payload_hash(call: &Call) -> Result<String, Refusal> {
    let hash = hex(&Sha256::digest(&call.body));
    match call.header("x-sdk-content-sha256") {
        Some(_) if call.body.is_empty() => Ok(hash),
        Some("UNSIGNED-PAYLOAD") => Ok("UNSIGNED-PAYLOAD".to_owned()),
        Some(said) if said != hash => Err(unauthorized("X-Sdk-Content-Sha256 is not the body's")),
        _ => Ok(hash),
    }
}

fn canonical_request(call: &Call, signed: &[&str], payload_hash: &str) -> Result<String, Refusal> {
    let mut headers = String::new();
    for name in signed {
        let value = call.header(name).ok_or_else(|| unauthorized(&format!("`{name}` is signed but was not sent")))?;
        headers.push_str(&format!("{name}:{}\n", value.trim()));
    }
    let (uri, query, signed) = (canonical_uri(&call.path), canonical_query(call), signed.join(";"));
    Ok(format!("{}\n{uri}\n{query}\n{headers}\n{signed}\n{payload_hash}", call.method))
}

/// Each segment encoded anew, a slash at the end.
fn canonical_uri(path: &str) -> String {
    let uri = path.split('/').map(|segment| encode(&decode(segment))).collect::<Vec<_>>().join("/");
    if uri.ends_with('/') { uri } else { uri + "/" }
}

fn canonical_query(call: &Call) -> String {
    let mut pairs = call.pairs();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
}

fn signature(secret: &str, date: &str, canonical_request: &str) -> String {
    let text = format!("SDK-HMAC-SHA256\n{date}\n{}", hex(&Sha256::digest(canonical_request.as_bytes())));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
    mac.update(text.as_bytes());
    hex(&mac.finalize().into_bytes())
}

/// `SDK-HMAC-SHA256 Access=…, SignedHeaders=…, Signature=…`.
struct Parts<'a> {
    access: &'a str,
    headers: Vec<&'a str>,
    signature: &'a str,
}

impl Parts<'_> {
    fn read(authorization: &str) -> Option<Parts<'_>> {
        let mut fields = authorization.strip_prefix("SDK-HMAC-SHA256 ")?.split(',').map(str::trim);
        let access = fields.next()?.strip_prefix("Access=")?;
        let headers = fields.next()?.strip_prefix("SignedHeaders=")?.split(';').collect();
        let signature = fields.next()?.strip_prefix("Signature=")?;
        fields.next().is_none().then_some(Parts { access, headers, signature })
    }
}

/// The gateway's answer to whatever is wrong with who asks.
pub(crate) fn unauthorized(why: &str) -> Refusal {
    let message = "Incorrect IAM authentication information: verify aksk signature fail";
    let body = json!({"error_code": "APIGW.0301", "error_msg": message, "request_id": "fakecloud"});
    Refusal::new(Reply::json(401, &body).with_code("APIGW.0301"), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the vendor's signing guide, "canonical URI" and "canonical query string".
    #[test]
    fn uri_and_query_are_canonical() {
        assert_eq!(canonical_uri("/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs"), "/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs/");
        assert_eq!(canonical_uri("/a%20b/%7Ec/*"), "/a%20b/~c/%2A/");
        let call = call("limit=2&marker=13551d6b&b=%E9%A6%96&a=");
        assert_eq!(canonical_query(&call), "a=&b=%E9%A6%96&limit=2&marker=13551d6b");
    }

    #[test]
    fn authorization_is_read_strictly() {
        assert!(Parts::read("SDK-HMAC-SHA256 Access=a, SignedHeaders=host;x-sdk-date, Signature=b").is_some());
        for wrong in ["SDK-HMAC-SM3 Access=a, SignedHeaders=h, Signature=b", "SDK-HMAC-SHA256 Access=a, Signature=b", ""] {
            assert!(Parts::read(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn dates_fit_in_fifteen_minutes() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        for (date, fine) in [
            ("20261122T100000Z", true),
            ("20261122T094500Z", true),
            ("20261122T101500Z", true),
            ("20261122T094459Z", false),
            ("20261122T101501Z", false),
            ("2026-11-22T10:00:00Z", false),
            ("20261122T100000", false),
        ] {
            assert_eq!(check_date(date, now).is_ok(), fine, "{date}");
        }
    }

    fn call(query: &str) -> Call {
        Call { method: "GET".into(), path: "/".into(), query: query.into(), headers: Vec::new(), body: Default::default() }
    }
}

//! Capital Online CDS: certificates of its load balancer.
//!
//! Source: the vendor's pages DescribeCACertificate and DescribeCACertificates. One call lists the whole account, with one `Domain` each; the PEM
//! and the key come one by one. The URL of a request carries the access key and the signature, see [`sign`].

pub mod sign;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::encode::encode;
use super::error::{Cause, Error, Kind, words};
use super::exchange::{Answer, Call, Method, Request, nonce};
use super::http::{CERTIFICATE_LIMIT, LISTING_LIMIT};
use super::rejection::Fingerprint;
use super::rows::{self, MAX_NAMES};
use super::{Fetched, Listed, Listing, Payload, Probe, RESTART, Reach, check_id, text};
use crate::certificate::Piece;
use crate::config::Cds;
use crate::config::secret::{self, Source};
use crate::report::Valid;

/// One account at CDS.
pub(crate) struct Account {
    settings: Cds,
    kept: Mutex<Option<Arc<Key>>>,
}

struct Key {
    access: SecretString,
    secret: SecretString,
    fingerprint: Fingerprint,
}

impl Account {
    pub(super) fn new(settings: Cds) -> Account {
        Account { settings, kept: Mutex::default() }
    }

    pub(super) fn forget(&self) {
        *lock(&self.kept) = None;
    }

    /// `DescribeCACertificate`.
    pub(super) async fn fetch(&self, reach: Reach<'_>, id: &str) -> Result<Fetched, Error> {
        let doing = format!("describe certificate `{}`", words(id));
        check_id(id).map_err(|cause| Error::new(doing.as_str(), cause))?;
        let call = Call { operation: "describe", doing, limit: CERTIFICATE_LIMIT };
        self.ask(reach, &call, "DescribeCACertificate", &[("CertificateId", id)], |answer| certificate(&answer, id)).await
    }

    /// `DescribeCACertificates`.
    pub(super) async fn list(&self, reach: Reach<'_>) -> Result<Listing, Error> {
        let call = Call { operation: "list", doing: "list certificates".to_owned(), limit: LISTING_LIMIT };
        self.ask(reach, &call, "DescribeCACertificates", &[], |answer| listing(&answer)).await
    }

    /// Asks; if the key is rejected, once more if the secret has changed meanwhile; then it is remembered.
    async fn ask<T>(
        &self,
        reach: Reach<'_>,
        call: &Call,
        action: &str,
        parameters: &[(&str, &str)],
        read: impl Fn(Answer) -> Result<T, Cause>,
    ) -> Result<T, Error> {
        let first = self.key(reach)?;
        let error = match self.ask_as(reach, &first, call, action, parameters, &read).await {
            Err(error) if reach.is_rejected(&error) => error,
            other => return other.inspect(|_| reach.accepted()),
        };
        let second = self.read_key().map_err(no_credential)?;
        if second.fingerprint == first.fingerprint {
            reach.remember_rejected(&first.fingerprint);
            return Err(error);
        }
        let result = self.ask_as(reach, &second, call, action, parameters, &read).await;
        if result.as_ref().is_err_and(|error| reach.is_rejected(error)) {
            reach.remember_rejected(&second.fingerprint);
        }
        result.inspect(|_| reach.accepted())
    }

    async fn ask_as<T>(
        &self,
        reach: Reach<'_>,
        key: &Key,
        call: &Call,
        action: &str,
        parameters: &[(&str, &str)],
        read: &impl Fn(Answer) -> Result<T, Cause>,
    ) -> Result<T, Error> {
        let result = reach.http.call(call, || self.request(key, action, parameters, reach.http.now()), read).await;
        result.map_err(|error| {
            let gone = error.kind_of() == Kind::NotFound && error.code() == Some("ResourceNotFound");
            error.gone(gone)
        })
    }

    fn request(&self, key: &Key, action: &str, parameters: &[(&str, &str)], now: jiff::Timestamp) -> Result<Request, Cause> {
        let nonce = nonce()?;
        let query = sign::sign(&sign::Unsigned { action, parameters, nonce: &nonce, now }, &key.access, &key.secret);
        let mut url = self.settings.endpoint.clone();
        url.set_path(&format!("{}/lb/", url.path().trim_end_matches('/')));
        url.set_query(Some(&query));
        let signature = query.rsplit_once("&Signature=").map_or("", |(_, signature)| signature);
        let decoded = percent_decode_str(signature).decode_utf8_lossy();
        let secrets = [key.access.expose_secret(), &encode(key.access.expose_secret()), signature, &decoded];
        let secrets = secrets.map(|secret| Zeroizing::new(secret.to_owned())).to_vec();
        Ok(Request { secrets, ..Request::plain(Method::Get, url) })
    }

    /// The kept key; read anew when it was rejected, since it may have changed.
    fn key(&self, reach: Reach<'_>) -> Result<Arc<Key>, Error> {
        let kept = lock(&self.kept).clone();
        if let Some(kept) = kept.filter(|kept| reach.check(&kept.fingerprint).is_ok()) {
            return Ok(kept);
        }
        let key = self.read_key().map_err(no_credential)?;
        reach.check(&key.fingerprint).map_err(no_credential)?;
        Ok(key)
    }

    fn read_key(&self) -> Result<Arc<Key>, Cause> {
        let key = self.resolve().map_err(Cause::Secret)?;
        *lock(&self.kept) = Some(key.clone());
        Ok(key)
    }

    fn resolve(&self) -> Result<Arc<Key>, secret::Error> {
        let (access, secret) = (self.settings.access_key.resolve()?, self.settings.secret_key.resolve()?);
        let fingerprint = Fingerprint::of(&["cds", access.expose_secret(), secret.expose_secret()]);
        Ok(Arc::new(Key { access, secret, fingerprint }))
    }

    /// What mends `error`, where we know.
    pub(super) fn hint(&self, error: &Error) -> Option<String> {
        let rejected = error.cause().is_rejection() || matches!(error.cause(), Cause::RejectedBefore { .. });
        if rejected {
            let keys = [&self.settings.access_key, &self.settings.secret_key];
            let check = "check access key and secret key, and that the region is the account's";
            let restart = keys.iter().any(|key| matches!(key, Source::Credential(_)));
            return Some(if restart { format!("{check}; {RESTART}") } else { check.to_owned() });
        }
        match error.kind_of() {
            Kind::NotFound => Some("`certsyncd list` shows the ids of the account; a renewal has a new one".to_owned()),
            Kind::Forbidden => {
                Some("let the access key's owner read load-balancer certificates, in the vendor's console".to_owned())
            }
            _ => None,
        }
    }

    /// Whether the key is accepted and lists. CDS knows no narrower question.
    pub(super) async fn probe(&self, reach: Reach<'_>) -> Vec<Probe> {
        if let Err(error) = self.key(reach) {
            return vec![Probe::failed("credential", &error, self.hint(&error))];
        }
        let listed = match self.list(reach).await {
            Err(error) => Probe::failed("list certificates", &error, self.hint(&error)),
            Ok(listing) => Probe::listed(&listing),
        };
        vec![Probe::good("credential", "an access key is there"), listed]
    }
}

/// For [`super::read_all`].
pub(super) fn read_all(answer: impl Fn() -> Answer) -> Vec<Cause> {
    certificate(&answer(), "id").err().into_iter().chain(listing(&answer()).err()).collect()
}

/// Every answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope<'a> {
    code: Option<String>,
    message: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// One certificate; the PEM fields in `DescribeCACertificate` only.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described<'a> {
    certificate_id: Option<String>,
    certificate_name: Option<String>,
    certificate_type: Option<String>,
    brand: Option<String>,
    domain: Option<String>,
    start_time: Option<String>,
    end_time: Option<String>,
    valid: Option<serde_json::Value>,
    certificate: Option<String>,
    /// So spelt in the vendor's document.
    #[serde(borrow)]
    pirvate_key: Option<&'a RawValue>,
    /// So read by the vendor's own SDK.
    #[serde(borrow)]
    private_key: Option<&'a RawValue>,
}

fn certificate(answer: &Answer, id: &str) -> Result<Fetched, Cause> {
    let data = data(answer)?.ok_or_else(|| Cause::BadAnswer("answer holds no certificate".to_owned()))?;
    let described: Described<'_> = serde_json::from_str(data).map_err(|error| answer.unreadable(&error))?;
    match described.certificate_id.as_deref() {
        Some(told) if told == id => {}
        Some(other) => return Err(Cause::BadAnswer(format!("answer is about `{}`, another certificate", words(other)))),
        None => return Err(Cause::BadAnswer("answer names no certificate".to_owned())),
    }
    let pem = described.certificate.as_deref().filter(|pem| !pem.trim().is_empty());
    let pem = pem.ok_or_else(|| Cause::BadAnswer("answer holds no certificate".to_owned()))?;
    let mut pieces = vec![piece("Certificate", pem.as_bytes())];
    let (mut notes, key) = (vec![], key(&described)?);
    match key {
        Some((name, key)) => pieces.push(piece(name, key.as_bytes())),
        None => notes.push("the provider has no key for it: `key_file` must name the key".to_owned()),
    }
    let valid = flag(described.valid.as_ref(), &mut notes);
    Ok(Fetched { id: id.to_owned(), payload: Payload::Pem(pieces), valid, notes })
}

/// The spelling that is not empty.
fn key(described: &Described<'_>) -> Result<Option<(&'static str, Zeroizing<String>)>, Cause> {
    for (name, raw) in [("PirvateKey", described.pirvate_key), ("PrivateKey", described.private_key)] {
        let text = text::secret(raw).map_err(|_| Cause::BadAnswer(format!("`{name}` of the answer is not a string")))?;
        if let Some(text) = text {
            return Ok(Some((name, text)));
        }
    }
    Ok(None)
}

fn piece(name: &str, bytes: &[u8]) -> Piece {
    Piece { name: name.to_owned(), bytes: Zeroizing::new(bytes.to_vec()) }
}

fn listing(answer: &Answer) -> Result<Listing, Cause> {
    let (mut certificates, mut notes, mut wrong) = (Vec::<Listed>::new(), Vec::new(), None);
    if let Some(rows) = data(answer)? {
        let take = |row: Described<'_>| match listed(row, &mut notes) {
            Ok(mut listed) => {
                listed.share(certificates.last());
                certificates.push(listed);
            }
            Err(cause) => drop(wrong.get_or_insert(cause)),
        };
        rows::each(rows, take).map_err(|error| answer.unreadable(&error))?;
    }
    certificates.shrink_to_fit();
    drop_doubles(&mut certificates);
    wrong.map_or(Ok(Listing { certificates, complete: true, notes }), Err)
}

impl Listed {
    /// Takes the texts of `before` where they are the same: ten thousand rows tell of a few authorities.
    fn share(&mut self, before: Option<&Listed>) {
        let Some(before) = before else { return };
        for (mine, other) in [(&mut self.brand, &before.brand), (&mut self.kind, &before.kind)] {
            if mine == other {
                mine.clone_from(other);
            }
        }
    }
}

/// Each id once: the first row of it.
fn drop_doubles(certificates: &mut Vec<Listed>) {
    let ids: HashSet<&str, RandomState> = certificates.iter().map(|listed| listed.id.as_str()).collect();
    if ids.len() < certificates.len() {
        let mut seen = HashSet::new();
        certificates.retain(|listed| seen.insert(listed.id.clone()));
    }
}

fn listed(described: Described<'_>, notes: &mut Vec<String>) -> Result<Listed, Cause> {
    let id = described.certificate_id.filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| Cause::BadAnswer("a listed certificate has no id".to_owned()))?;
    let mut own = vec![];
    let valid = flag(described.valid.as_ref(), &mut own);
    notes.extend(own.into_iter().map(|note| format!("`{}`: {note}", words(&id))).take(NOTES.saturating_sub(notes.len())));
    let why_not = (valid == Some(Valid::Expired)).then(|| "the provider flags it as expired".to_owned());
    Ok(Listed {
        id,
        name: described.certificate_name,
        names: described
            .domain
            .iter()
            .flat_map(|domain| domain.split([',', ';', ' ']))
            .filter(|name| !name.is_empty())
            .take(MAX_NAMES)
            .map(str::to_lowercase)
            .collect(),
        status: None,
        valid,
        not_before: described.start_time,
        not_after: described.end_time,
        brand: described.brand.map(Arc::from),
        kind: described.certificate_type.map(Arc::from),
        fingerprint: None,
        deployable: why_not.is_none(),
        why_not,
    })
}

/// `Valid`; another number is unknown, which is said and never guessed.
fn flag(told: Option<&serde_json::Value>, notes: &mut Vec<String>) -> Option<Valid> {
    match told.map(|told| told.as_i64().ok_or(told)) {
        None => None,
        Some(Ok(number)) => Valid::try_from(number).map_err(|note| notes.push(note)).ok(),
        Some(Err(_)) => {
            notes.push("`Valid` is not an integer, so it is taken as unknown".to_owned());
            None
        }
    }
}

/// `Data` of an answer whose `Code` is `Success`; `None` for null and for the empty string that stands for nothing.
fn data(answer: &Answer) -> Result<Option<&str>, Cause> {
    match serde_json::from_slice::<Envelope<'_>>(answer.object()) {
        Ok(Envelope { code: Some(code), data, .. }) if answer.is_success() && code == "Success" => {
            Ok(data.map(RawValue::get).filter(|data| *data != "\"\""))
        }
        Ok(Envelope { code: Some(code), message, .. }) => Err(refusal(answer, Some(&code), &message.unwrap_or_default())),
        Ok(_) if answer.is_success() => Err(Cause::BadAnswer("answer has no `Code`".to_owned())),
        Err(error) if answer.is_success() => Err(answer.unreadable(&error)),
        _ => Err(refusal(answer, None, &answer.not_of_the_api())),
    }
}

/// An error of the API, also with status 200.
fn refusal(answer: &Answer, code: Option<&str>, said: &str) -> Cause {
    let status = answer.status;
    let kind = kind(status, code.unwrap_or_default());
    let transient =
        matches!(kind, Kind::Server | Kind::Throttled | Kind::Timeout) || status == 409 || code == Some("ResourceInUse");
    Cause::Server {
        status,
        code: code.map(|code| answer.words(code)),
        words: answer.words(said),
        kind,
        transient,
        retry_after: answer.retry_after,
    }
}

/// The documented codes; a gateway's by what their names say; else by the status.
fn kind(status: u16, code: &str) -> Kind {
    let lower = code.to_ascii_lowercase();
    let says = |what: &[&str]| what.iter().any(|what| lower.contains(what));
    match code {
        "ResourceNotFound" => Kind::NotFound,
        "ArgMissing" | "InvalidParameter" | "BadArgs" | "UnsupportedOperation" | "ResourceInUse" => Kind::Refused,
        "InternalError" => Kind::Server,
        _ if says(&["signature", "accesskey", "unauthorized", "authfail", "authentication", "timestamp", "nonce"]) => {
            Kind::Unauthorized
        }
        _ if says(&["forbidden", "denied", "permission"]) => Kind::Forbidden,
        _ if says(&["throttl", "toomany", "ratelimit", "frequen"]) => Kind::Throttled,
        _ => match status {
            401 => Kind::Unauthorized,
            403 => Kind::Forbidden,
            404 => Kind::NotFound,
            408 => Kind::Timeout,
            429 => Kind::Throttled,
            500.. => Kind::Server,
            _ => Kind::Refused,
        },
    }
}

fn no_credential(cause: Cause) -> Error {
    Error::new("authenticate", cause)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remarks of one listing.
const NOTES: usize = 20;

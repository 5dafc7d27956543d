//! What SCM answers: the shapes of its pages, its errors, and what an operator does about them.
//!
//! Every function takes a whole [`Answer`] and looks at the status first; an error of the API may also come with status 200.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::certificate::Piece;
use crate::provider::Listed;
use crate::provider::error::{Cause, Error, Kind, words};
use crate::provider::exchange::Answer;
use crate::provider::rows::{MAX_NAMES, Rows};
use crate::provider::text;

/// Codes of a wrong certificate id.
pub(crate) const NO_SUCH_CERTIFICATE: [&str; 2] = ["SCM.0008", "SCM.0020"];
/// Codes of a server that fails for one certificate (download, decryption) and says nothing about the others.
pub(crate) const ONE_CERTIFICATE_ONLY: [&str; 2] = ["SCM.0007", "SCM.0038"];

/// The answer of `export`; any may be null, older ones lack `entire_certificate`.
#[derive(Deserialize)]
struct Export<'a> {
    entire_certificate: Option<String>,
    certificate: Option<String>,
    certificate_chain: Option<String>,
    #[serde(borrow)]
    private_key: Option<&'a RawValue>,
    enc_certificate: Option<String>,
    #[serde(borrow)]
    enc_private_key: Option<&'a RawValue>,
}

/// PEM by field, and remarks.
pub(super) fn export(answer: Answer) -> Result<(Vec<Piece>, Vec<String>), Cause> {
    let answer = good(answer)?;
    let export: Export<'_> = json(&answer)?;
    if present(&export.enc_certificate) || secret("enc_private_key", export.enc_private_key)?.is_some() {
        return Err(Cause::Refused(SM2.to_owned()));
    }
    let mut pieces = certificates(&export);
    if pieces.is_empty() {
        return Err(Cause::BadAnswer("answer holds no certificate".to_owned()));
    }
    let key = secret("private_key", export.private_key)?;
    let notes = if key.is_some() { vec![] } else { vec![NO_KEY.to_owned()] };
    pieces.extend(key.map(|key| piece("private_key", key.as_bytes())));
    Ok((pieces, notes))
}

/// The whole chain where it is told as one, else its parts.
fn certificates(export: &Export<'_>) -> Vec<Piece> {
    let fields = [
        ("entire_certificate", &export.entire_certificate),
        ("certificate", &export.certificate),
        ("certificate_chain", &export.certificate_chain),
    ];
    let told =
        fields.into_iter().filter_map(|(name, pem)| pem.as_deref().filter(|pem| !pem.trim().is_empty()).map(|pem| (name, pem)));
    let whole = export.entire_certificate.as_deref().is_some_and(|pem| pem.matches(PEM_BEGIN).count() > 1);
    told.filter(|(name, _)| !whole || *name == "entire_certificate").map(|(name, pem)| piece(name, pem.as_bytes())).collect()
}

fn piece(name: &str, bytes: &[u8]) -> Piece {
    Piece { name: name.to_owned(), bytes: Zeroizing::new(bytes.to_vec()) }
}

fn present(field: &Option<String>) -> bool {
    field.as_ref().is_some_and(|text| !text.trim().is_empty())
}

/// The archive's bytes. The v2 download may answer 200 with an error object instead.
pub(super) fn archive(answer: Answer) -> Result<Zeroizing<Vec<u8>>, Cause> {
    let answer = good(answer)?;
    match answer.body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => Err(Cause::BadAnswer("an empty body came instead of an archive".to_owned())),
        Some(b'{') => Err(refusal(&answer)),
        Some(b'<') => Err(Cause::BadAnswer(format!("{} came instead of an archive", answer.not_of_the_api()))),
        Some(_) => Ok(answer.body),
    }
}

/// One page of a listing.
pub(super) struct Page {
    pub certificates: Vec<Listed>,
    pub total: Option<u64>,
    /// Length of the answer.
    pub bytes: usize,
}

#[derive(Deserialize)]
struct RawPage {
    certificates: Option<Rows<Detail>>,
    total_count: Option<u64>,
}

/// One certificate in `list` (`expire_time`) or `show` (`not_before`, `not_after`, `fingerprint`).
#[derive(Deserialize)]
struct Detail {
    id: Option<String>,
    name: Option<String>,
    domain: Option<String>,
    sans: Option<String>,
    status: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    brand: Option<String>,
    expire_time: Option<String>,
    not_before: Option<String>,
    not_after: Option<String>,
    fingerprint: Option<String>,
}

pub(super) fn page(answer: Answer) -> Result<Page, Cause> {
    let answer = good(answer)?;
    let page: RawPage = json(&answer)?;
    let certificates = page.certificates.map_or_else(Vec::new, |rows| rows.0);
    let certificates = certificates.into_iter().map(listed).collect::<Option<Vec<_>>>();
    let certificates = certificates.ok_or_else(|| Cause::BadAnswer("a listed certificate has no id".to_owned()))?;
    Ok(Page { certificates, total: page.total_count, bytes: answer.body.len() })
}

pub(super) fn show(answer: Answer, id: &str) -> Result<Listed, Cause> {
    let answer = good(answer)?;
    let detail: Detail = json(&answer)?;
    match listed(detail) {
        Some(listed) if listed.id == id => Ok(listed),
        Some(other) => Err(Cause::BadAnswer(format!("answer is about `{}`, another certificate", words(&other.id)))),
        None => Err(Cause::BadAnswer("answer names no certificate".to_owned())),
    }
}

fn listed(detail: Detail) -> Option<Listed> {
    let id = detail.id.filter(|id| !id.is_empty())?;
    let why_not = why_not(detail.status.as_deref());
    Some(Listed {
        id,
        name: detail.name,
        names: names(detail.domain.as_deref(), detail.sans.as_deref()),
        deployable: why_not.is_none(),
        why_not,
        status: detail.status,
        valid: None,
        not_before: detail.not_before,
        not_after: detail.not_after.or(detail.expire_time),
        brand: detail.brand.map(Arc::from),
        kind: detail.kind.map(Arc::from),
        fingerprint: detail
            .fingerprint
            .map(|hex| hex.chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_lowercase()).collect()),
    })
}

/// Only what is issued, or was uploaded by the user, can be deployed. A status that the page does not know is named.
fn why_not(status: Option<&str>) -> Option<String> {
    match status {
        Some("ISSUED" | "UPLOAD") => None,
        Some(known) if STATUSES.contains(&known) => Some(format!("its status is `{known}`")),
        Some(unknown) => Some(format!("its status `{}` is not known", words(unknown))),
        None => Some("the provider tells no status".to_owned()),
    }
}

/// The domain and the further names (`a;b` or `a,b`), lower case, each once.
fn names(domain: Option<&str>, sans: Option<&str>) -> Vec<String> {
    let mut names: Vec<String> = vec![];
    let all = domain.into_iter().chain(sans).flat_map(|text| text.split(|c: char| matches!(c, ';' | ',') || c.is_whitespace()));
    for name in all.filter(|name| !name.is_empty()).take(MAX_NAMES).map(str::to_lowercase) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// `answer`, if its status is a good one.
pub(super) fn good(answer: Answer) -> Result<Answer, Cause> {
    if answer.is_success() { Ok(answer) } else { Err(refusal(&answer)) }
}

/// The body as the shape the page describes. An error object in its place is told as such.
pub(super) fn json<'a, T: Deserialize<'a>>(answer: &'a Answer) -> Result<T, Cause> {
    let body = answer.object();
    if let Ok(Told { error_code: Some(_), .. }) = serde_json::from_slice(body) {
        return Err(refusal(answer));
    }
    serde_json::from_slice(body).map_err(|error| answer.unreadable(&error))
}

pub(super) fn secret(field: &str, raw: Option<&RawValue>) -> Result<Option<Zeroizing<String>>, Cause> {
    text::secret(raw).map_err(|_| Cause::BadAnswer(format!("`{field}` of the answer is not a string")))
}

/// Both shapes of an error: SCM's and the gateway's, and IAM's.
#[derive(Deserialize)]
struct Told {
    error_code: Option<serde_json::Value>,
    error_msg: Option<String>,
    error: Option<ToldByIam>,
}

#[derive(Deserialize)]
struct ToldByIam {
    code: Option<serde_json::Value>,
    message: Option<String>,
    title: Option<String>,
}

/// The cause that an answer other than a good one stands for.
fn refusal(answer: &Answer) -> Cause {
    let status = answer.status;
    let told: Option<Told> = serde_json::from_slice(answer.object()).ok();
    let (code, said) = match told {
        Some(Told { error_code: Some(code), error_msg, .. }) => (plain(&code), error_msg.unwrap_or_default()),
        Some(Told { error: Some(iam), .. }) => (iam.title.or(iam.code.as_ref().and_then(plain)), iam.message.unwrap_or_default()),
        _ => (None, answer.not_of_the_api()),
    };
    if answer.is_success() && code.is_none() {
        return Cause::BadAnswer(format!("answer is {}", answer.not_of_the_api()));
    }
    let kind = kind(status, code.as_deref().unwrap_or_default());
    let transient = matches!(kind, Kind::Server | Kind::Throttled | Kind::Timeout);
    let code = code.map(|code| answer.words(&code));
    Cause::Server { status, code, words: answer.words(&said), kind, transient, retry_after: answer.retry_after }
}

/// A code is a word or a number.
fn plain(code: &serde_json::Value) -> Option<String> {
    code.as_str().map(str::to_owned).or_else(|| code.as_i64().map(|number| number.to_string()))
}

/// The vendor's table; what it does not name goes by the status.
fn kind(status: u16, code: &str) -> Kind {
    match (code, status) {
        ("SCM.0008" | "SCM.0020", _) => Kind::NotFound,
        ("SCM.0010" | "SCM.0059", _) => Kind::Refused,
        ("SCM.0002" | "SCM.1009" | "SCM.1010" | "SCM.4002", _) => Kind::Forbidden,
        ("SCM.1000" | "APIGW.0301", _) => Kind::Unauthorized,
        ("SCM.0007" | "SCM.0038" | "SCM.4001", _) => Kind::Server,
        ("APIGW.0308", _) | (_, 429) => Kind::Throttled,
        (_, 401) => Kind::Unauthorized,
        (_, 403) => Kind::Forbidden,
        (_, 404) => Kind::NotFound,
        (_, 408) => Kind::Timeout,
        (_, 500..) => Kind::Server,
        _ => Kind::Refused,
    }
}

/// What an operator does about `error`.
pub(super) fn hint(error: &Error) -> Option<String> {
    let hint = match error.code().unwrap_or_default() {
        "SCM.0008" | "SCM.0020" => "`certsyncd list` shows the ids of the account; a renewal has a new one".to_owned(),
        "SCM.0010" => "the certificate must be issued before it can be exported, and must not be revoked".to_owned(),
        "SCM.0059" => {
            "the provider has no key for it: if the request was made with a CSR of your own, name its key as `key_file`"
                .to_owned()
        }
        "SCM.0002" => "`project_id` must be one of the account and region that the credential belongs to".to_owned(),
        "SCM.1009" | "SCM.1010" => "the account is restricted or frozen: see its billing in the vendor's console".to_owned(),
        _ if error.kind_of() == Kind::Forbidden => {
            let permission = error.operation().and_then(permission)?;
            format!("grant `{permission}` to the user or agency in IAM")
        }
        _ => return None,
    };
    Some(hint)
}

/// The permission that an operation needs.
pub(super) fn permission(operation: &str) -> Option<&'static str> {
    match operation {
        "list" => Some("scm:cert:list"),
        "show" => Some("scm:cert:get"),
        "export" => Some("scm:cert:export"),
        "download" => Some("scm:cert:download"),
        _ => None,
    }
}

/// Every status of the vendor's page that is not deployable.
const STATUSES: [&str; 15] = [
    "PAID",
    "CHECKING",
    "CANCELCHECKING",
    "UNPASSED",
    "EXPIRED",
    "REVOKING",
    "CANCLEREVOKING",
    "REVOKED",
    "CHECKING_ORG",
    "ISSUING",
    "SUPPLEMENTCHECKING",
    "CANCELSUPPLEMENTING",
    "CHECKING_DOMAIN",
    "CANCELREVOKING",
    "CANCELED",
];
const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const SM2: &str = "the certificate is an SM2 pair (`enc_certificate`), which nginx and haproxy cannot serve with OpenSSL";
const NO_KEY: &str = "the provider has no key for it (the request was made with a CSR of your own): `key_file` must name the key";

//! Huawei Cloud SSL Certificate Manager (SCM).
//!
//! Source: the vendor's pages ExportCertificate, ListCertificates, ShowCertificate (v3) and the older v2 download. A renewal is a *new*
//! certificate with a new id; a reissue keeps the id and changes the fingerprint that `show` tells. Who asks is settled in `auth`, how a request
//! is signed in [`sign`], what an answer means in `answers`.

mod answers;
mod auth;
mod metadata;
mod profile;
pub mod sign;
mod token;

use std::collections::BTreeSet;

use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret;
use url::Url;
use zeroize::Zeroizing;

use self::auth::{Auth, Credential, Means};
use super::error::{Cause, Error, Kind};
use super::exchange::{Answer, Call, Method, Request, nonce, place};
use super::http::{ARCHIVE_LIMIT, CERTIFICATE_LIMIT, LISTING_LIMIT};
use super::{Fetched, Listed, Listing, Payload, Probe, Reach, check_id};
use crate::config::{Huawei, HuaweiApi};

pub(crate) use self::answers::ONE_CERTIFICATE_ONLY;

/// One account at SCM.
pub(crate) struct Account {
    settings: Huawei,
    auth: Auth,
    dates: sign::Dates,
}

/// A request before anybody signed it.
struct Wanted<'a> {
    method: Method,
    path: Vec<&'a str>,
    query: Vec<(String, String)>,
}

impl Account {
    pub(super) fn new(settings: Huawei) -> Account {
        Account { auth: Auth::new(&settings), settings, dates: sign::Dates::default() }
    }

    pub(super) fn forget(&self) {
        self.auth.forget();
    }

    /// By the call that `api` names.
    pub(super) async fn fetch(&self, reach: Reach<'_>, id: &str) -> Result<Fetched, Error> {
        match self.settings.api {
            HuaweiApi::Export => self.export(reach, id).await,
            HuaweiApi::Download => self.download(reach, id).await,
        }
    }

    /// `POST /v3/scm/certificates/{id}/export`.
    async fn export(&self, reach: Reach<'_>, id: &str) -> Result<Fetched, Error> {
        let call = about_one("export", "export", id, CERTIFICATE_LIMIT)?;
        let wanted = Wanted { method: Method::Post, path: vec!["v3", "scm", "certificates", id, "export"], query: vec![] };
        let (pieces, notes) = self.ask(reach, &call, &wanted, answers::export).await?;
        Ok(Fetched { id: id.to_owned(), payload: Payload::Pem(pieces), valid: None, notes })
    }

    /// `GET /v2/{project_id}/scm/cert/{id}/cert_file`.
    async fn download(&self, reach: Reach<'_>, id: &str) -> Result<Fetched, Error> {
        let call = about_one("download", "download", id, ARCHIVE_LIMIT)?;
        let credential = self.auth.credential(reach).await?;
        let project = self.settings.project_id.as_deref().or(credential.project_id.as_deref());
        let project = project.ok_or_else(|| Error::new(call.doing.as_str(), Cause::Refused(NO_PROJECT.to_owned())))?;
        let wanted = Wanted { method: Method::Get, path: vec!["v2", project, "scm", "cert", id, "cert_file"], query: vec![] };
        let archive = self.ask(reach, &call, &wanted, answers::archive).await?;
        Ok(Fetched { id: id.to_owned(), payload: Payload::Archive(archive), valid: None, notes: vec![] })
    }

    /// `GET /v3/scm/certificates/{id}`.
    pub(super) async fn show(&self, reach: Reach<'_>, id: &str) -> Result<Listed, Error> {
        let call = about_one("show", "show", id, CERTIFICATE_LIMIT)?;
        let wanted = Wanted { method: Method::Get, path: vec!["v3", "scm", "certificates", id], query: vec![] };
        self.ask(reach, &call, &wanted, |answer| answers::show(answer, id)).await
    }

    /// `GET /v3/scm/certificates`, page by page. The documented maximum of `offset` is small, so the walk may end before `total_count`: it goes
    /// by what ends last, de-duplicates, stops at a page that brings nothing new or is refused, and says when that was not all.
    pub(super) async fn list(&self, reach: Reach<'_>) -> Result<Listing, Error> {
        let (mut listing, mut seen, mut offset, mut total) = (Listing::default(), BTreeSet::new(), 0, None);
        let mut bytes = 0;
        for _ in 0..PAGES {
            let page = match self.page(reach, offset).await {
                Err(error) if offset > 0 && is_beyond(&error) => break,
                page => page?,
            };
            offset += page.certificates.len();
            total = page.total.or(total);
            let before = seen.len();
            let short = page.certificates.len() < PAGE;
            listing.certificates.extend(page.certificates.into_iter().filter(|listed| seen.insert(listed.id.clone())));
            listing.complete = total.map_or(short, |total| seen.len() as u64 >= total);
            bytes += page.bytes;
            // The bound of one answer is that of all of them: what is listed stays in memory.
            if listing.complete || seen.len() == before || bytes > LISTING_LIMIT {
                break;
            }
        }
        if !listing.complete {
            let of = total.map_or_else(String::new, |total| format!(" of {total}"));
            listing
                .notes
                .push(format!("the listing shows {}{of} certificates: the provider does not list the others", seen.len()));
        }
        Ok(listing)
    }

    async fn page(&self, reach: Reach<'_>, offset: usize) -> Result<answers::Page, Error> {
        let call = Call { operation: "list", doing: "list certificates".to_owned(), limit: LISTING_LIMIT };
        let mut query = vec![
            ("limit".to_owned(), PAGE.to_string()),
            ("offset".to_owned(), offset.to_string()),
            ("sort_key".to_owned(), "certExpiredTime".to_owned()),
            ("sort_dir".to_owned(), "DESC".to_owned()),
        ];
        query.extend(self.settings.enterprise_project_id.iter().map(|id| ("enterprise_project_id".to_owned(), id.clone())));
        let wanted = Wanted { method: Method::Get, path: vec!["v3", "scm", "certificates"], query };
        self.ask(reach, &call, &wanted, answers::page).await
    }

    /// Asks; if who we are is rejected, once more with a renewed token or a secret that changed meanwhile; then it is remembered.
    async fn ask<T>(
        &self,
        reach: Reach<'_>,
        call: &Call,
        wanted: &Wanted<'_>,
        read: impl Fn(Answer) -> Result<T, Cause>,
    ) -> Result<T, Error> {
        let first = self.auth.credential(reach).await?;
        let error = match self.ask_as(reach, &first, call, wanted, &read).await {
            Err(error) if reach.is_rejected(&error) => error,
            other => return other.inspect(|_| reach.accepted()),
        };
        let Some(second) = self.auth.renew(reach, &first).await? else {
            reach.remember_rejected(&first.fingerprint);
            return Err(error);
        };
        let result = self.ask_as(reach, &second, call, wanted, &read).await;
        if result.as_ref().is_err_and(|error| reach.is_rejected(error)) {
            reach.remember_rejected(&second.fingerprint);
        }
        result.inspect(|_| reach.accepted())
    }

    async fn ask_as<T>(
        &self,
        reach: Reach<'_>,
        credential: &Credential,
        call: &Call,
        wanted: &Wanted<'_>,
        read: &impl Fn(Answer) -> Result<T, Cause>,
    ) -> Result<T, Error> {
        let result = reach.http.call(call, || self.request(wanted, credential, reach.http.now()), read).await;
        result.map_err(|error| {
            let gone = error.code().is_some_and(|code| answers::NO_SUCH_CERTIFICATE.contains(&code));
            error.gone(gone)
        })
    }

    /// The request with its proof of who asks.
    fn request(&self, wanted: &Wanted<'_>, credential: &Credential, now: jiff::Timestamp) -> Result<Request, Cause> {
        let path = path(&self.settings.endpoint, &wanted.path);
        let url = url(&self.settings.endpoint, &path, &wanted.query);
        let mut headers = vec![];
        let project = self.settings.project_id.as_ref().or(credential.project_id.as_ref());
        let domain = self.settings.domain_id.as_ref().or(credential.domain_id.as_ref());
        headers.extend(project.map(|id| ("X-Project-Id", id.clone())));
        headers.extend(domain.map(|id| ("X-Domain-Id", id.clone())));
        let public = headers.len();
        match &credential.means {
            Means::Token(token) => headers.push(("X-Auth-Token", token.expose_secret().to_owned())),
            Means::Key { access, secret, security_token } => {
                // two processes (the daemon and a `sync`) may ask the same within one second, which is all that the date tells apart
                headers.push(("X-Certsyncd-Nonce", nonce()?));
                let key = sign::Key { access, secret, security_token: security_token.as_ref() };
                let (host, method) = (place(&url), wanted.method.name());
                let unsigned =
                    sign::Unsigned { method, host: &host, path: &path, query: &wanted.query, headers: &headers, body: b"" };
                headers.extend(sign::sign(&unsigned, &key, self.dates.next(url.as_str(), now)));
            }
        }
        let headers: Vec<_> = headers.into_iter().map(|(name, value)| (name, Zeroizing::new(value))).collect();
        let secrets = headers.iter().skip(public).flat_map(|(_, value)| secrets_of(value)).collect();
        Ok(Request { method: wanted.method, url, headers, body: Zeroizing::default(), secrets })
    }

    /// What mends `error`, where the vendor's page says.
    pub(super) fn hint(&self, error: &Error) -> Option<String> {
        answers::hint(error)
            .or_else(|| error.cause().is_rejection().then(|| self.auth.hint()))
            .or_else(|| matches!(error.cause(), Cause::RejectedBefore { .. }).then(|| self.auth.hint()))
    }

    /// Whether who we are is accepted, and whether we may list and show. That we may export shows only when a key moves.
    pub(super) async fn probe(&self, reach: Reach<'_>) -> Vec<Probe> {
        let mut probes = vec![];
        if let Err(error) = self.auth.credential(reach).await {
            return vec![self.failed("credential", &error)];
        }
        probes.push(Probe::good("credential", self.auth.describe()));
        let listing = match self.list(reach).await {
            Err(error) => {
                probes.push(self.failed("list certificates", &error));
                return probes;
            }
            Ok(listing) => listing,
        };
        probes.push(Probe::listed(&listing));
        if let Some(first) = listing.certificates.first() {
            probes.push(match self.show(reach, &first.id).await {
                Ok(_) => Probe::good("show a certificate", format!("`{}`", first.id)),
                Err(error) => self.failed("show a certificate", &error),
            });
        }
        let needed = answers::permission(if self.settings.api == HuaweiApi::Export { "export" } else { "download" });
        let words = format!("not tried, since that moves a key; it needs `{}`", needed.unwrap_or_default());
        probes.push(Probe::good("fetch a certificate", words));
        probes
    }

    fn failed(&self, what: &str, error: &Error) -> Probe {
        Probe::failed(what, error, self.hint(error))
    }
}

/// The value itself, and what an `Authorization` is made of: access key and signature.
fn secrets_of(value: &str) -> Vec<Zeroizing<String>> {
    let parts = value.split(", ").filter_map(|part| part.split_once("Access=").or_else(|| part.split_once("Signature=")));
    parts.map(|(_, secret)| secret).chain([value]).map(|secret| Zeroizing::new(secret.to_owned())).collect()
}

/// For [`super::read_all`].
pub(super) fn read_all(answer: impl Fn() -> Answer) -> Vec<Cause> {
    let results = [
        answers::export(answer()).err(),
        answers::archive(answer()).err(),
        answers::page(answer()).err(),
        answers::show(answer(), "id").err(),
        token::read(answer(), jiff::Timestamp::UNIX_EPOCH).err(),
        metadata::read_session(answer()).err(),
        metadata::read_key(answer()).err(),
    ];
    results.into_iter().flatten().collect()
}

/// A page beyond what the provider lists is refused by some versions.
fn is_beyond(error: &Error) -> bool {
    error.kind_of() == Kind::Refused
}

fn about_one(operation: &'static str, verb: &str, id: &str, limit: usize) -> Result<Call, Error> {
    let doing = format!("{verb} certificate `{}`", super::error::words(id));
    check_id(id).map_err(|cause| Error::new(doing.as_str(), cause))?;
    Ok(Call { operation, doing, limit })
}

/// The endpoint's own segments, if it has any, and those of the call; decoded.
fn path(endpoint: &Url, call: &[&str]) -> Vec<String> {
    let own = endpoint.path_segments().into_iter().flatten().filter(|segment| !segment.is_empty());
    let own = own.map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned());
    own.chain(call.iter().map(|segment| (*segment).to_owned())).collect()
}

fn url(endpoint: &Url, path: &[String], query: &[(String, String)]) -> Url {
    let mut url = endpoint.clone();
    url.set_path(&sign::wire_path(path));
    url.set_query((!query.is_empty()).then(|| sign::wire_query(query)).as_deref());
    url
}

/// Certificates per page: 10, 20 or 50, nothing else.
const PAGE: usize = 50;
/// Pages of one walk: 20,000 certificates.
pub const PAGES: usize = 400;
const NO_PROJECT: &str = "`api = \"download\"` needs a `project_id`";

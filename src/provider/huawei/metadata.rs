//! The ECS metadata service: a host with an agency needs no stored secret.
//!
//! A session token first (`PUT /meta-data/latest/api/token`; an older host answers 404, 405 or 503 and wants none), then a temporary access key
//! (`GET /openstack/latest/securitykey`). The service is link-local, asked by plain http and never through a proxy.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;
use zeroize::Zeroizing;

use super::auth::{AccessKey, Credential, ahead_of};
use super::{answers, path, url};
use crate::provider::Reach;
use crate::provider::error::{Cause, Error};
use crate::provider::exchange::{Answer, Call, Method, Request, place};
use crate::provider::http::CERTIFICATE_LIMIT;

/// A session token, kept until it is near its end.
pub(super) struct Session {
    token: Zeroizing<String>,
    renew_at: Timestamp,
}

/// A temporary access key, with the session to keep. A session that is refused is renewed once.
pub(super) async fn credential(
    reach: Reach<'_>,
    endpoint: &Url,
    kept: Option<Session>,
) -> Result<(Credential, Option<Session>), Error> {
    let kept = kept.filter(|session| reach.http.now() < session.renew_at);
    let was_kept = kept.is_some();
    let mut session = if was_kept { kept } else { self::session(reach, endpoint).await? };
    let mut key = self::key(reach, endpoint, session.as_ref()).await;
    if was_kept && key.as_ref().is_err_and(|error| error.cause().is_rejection()) {
        session = self::session(reach, endpoint).await?;
        key = self::key(reach, endpoint, session.as_ref()).await;
    }
    key.map(|credential| (credential, session))
}

async fn session(reach: Reach<'_>, endpoint: &Url) -> Result<Option<Session>, Error> {
    let build = || {
        let ttl = Zeroizing::new(SESSION_SECONDS.to_string());
        let url = url(endpoint, &path(endpoint, &["meta-data", "latest", "api", "token"]), &[]);
        Ok(Request { headers: vec![("X-Metadata-Token-Ttl-Seconds", ttl)], ..Request::plain(Method::Put, url) })
    };
    let token = reach.http.call(&call(endpoint, "open a session with"), build, read_session).await?;
    let now = reach.http.now();
    let ends = now.saturating_add(SignedDuration::from_secs(SESSION_SECONDS)).unwrap_or(now);
    Ok(token.map(|token| Session { token, renew_at: ahead_of(ends, now) }))
}

pub(super) fn read_session(answer: Answer) -> Result<Option<Zeroizing<String>>, Cause> {
    if matches!(answer.status, 404 | 405 | 503) {
        return Ok(None);
    }
    let answer = answers::good(answer)?;
    let token = std::str::from_utf8(&answer.body).map(str::trim).unwrap_or_default();
    let fits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(Some(Zeroizing::new(token.to_owned()))) } else { Err(Cause::BadAnswer("answer is no session token".to_owned())) }
}

async fn key(reach: Reach<'_>, endpoint: &Url, session: Option<&Session>) -> Result<Credential, Error> {
    let build = || {
        let headers = session.map(|session| ("X-Metadata-Token", session.token.clone())).into_iter().collect();
        let secrets = session.map(|session| session.token.clone()).into_iter().collect();
        let url = url(endpoint, &path(endpoint, &["openstack", "latest", "securitykey"]), &[]);
        Ok(Request { headers, secrets, ..Request::plain(Method::Get, url) })
    };
    let result = reach.http.call(&call(endpoint, "get an access key from"), build, read_key).await;
    result.map_err(|error| match error.cause() {
        Cause::Server { status: 404, .. } => error.with_hint(Some(NO_AGENCY.to_owned())),
        _ => error,
    })
}

fn call(endpoint: &Url, doing: &str) -> Call {
    Call { operation: "metadata", doing: format!("{doing} the metadata service `{}`", place(endpoint)), limit: CERTIFICATE_LIMIT }
}

pub(super) fn read_key(answer: Answer) -> Result<Credential, Cause> {
    let answer = answers::good(answer)?;
    let body: Body<'_> = answers::json(&answer)?;
    let Some(told) = body.credential else { return Err(incomplete("credential")) };
    let secret = |field: &'static str, raw| answers::secret(field, raw).map(|text| text.map(|text| text.as_str().into()));
    let key = AccessKey {
        access: secret("access", told.access)?.ok_or_else(|| incomplete("access"))?,
        secret: secret("secret", told.secret)?.ok_or_else(|| incomplete("secret"))?,
        security_token: secret("securitytoken", told.securitytoken)?,
        project_id: None,
        domain_id: None,
    };
    let ends = told.expires_at.ok_or_else(|| incomplete("expires_at"))?;
    Ok(key.into_credential(Some(ends)))
}

fn incomplete(field: &str) -> Cause {
    Cause::BadAnswer(format!("answer has no `{field}`"))
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    credential: Option<Told<'a>>,
}

#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    access: Option<&'a RawValue>,
    #[serde(borrow)]
    secret: Option<&'a RawValue>,
    #[serde(borrow)]
    securitytoken: Option<&'a RawValue>,
    expires_at: Option<Timestamp>,
}

/// The longest that the vendor allows.
const SESSION_SECONDS: i64 = 21_600;
const NO_AGENCY: &str =
    "this server has no agency: set one with SCM permissions in the ECS console, or use another `auth.method`";

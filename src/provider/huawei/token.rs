//! A password exchanged for a token: `POST /v3/auth/tokens` of IAM.
//!
//! The token stands in the header `X-Subject-Token`, its end in the body. A password that IAM rejects is remembered at once.

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::auth::{Credential, Means, no_credential};
use super::{answers, path, url};
use crate::config::{Huawei, HuaweiAuth};
use crate::provider::Reach;
use crate::provider::error::{Cause, Error};
use crate::provider::exchange::{Answer, Call, Method, Request, place};
use crate::provider::http::CERTIFICATE_LIMIT;
use crate::provider::rejection::Fingerprint;

/// A token for the configured user.
pub(super) async fn from_password(reach: Reach<'_>, settings: &Huawei) -> Result<Credential, Error> {
    let HuaweiAuth::Password { user, password, domain, project } = &settings.auth else {
        return Err(no_credential(Cause::Refused("no password is configured".to_owned())));
    };
    let user = user.resolve().map_err(|error| no_credential(Cause::Secret(error)))?;
    let password = password.resolve().map_err(|error| no_credential(Cause::Secret(error)))?;
    let fingerprint = Fingerprint::of(&["password", domain, user.expose_secret(), password.expose_secret()]);
    reach.check(&fingerprint).map_err(no_credential)?;

    let scope = project.as_deref().or(settings.region.as_deref());
    let body = body(user.expose_secret(), password.expose_secret(), domain, scope).map_err(no_credential)?;
    let doing = format!("get a token from `{}`", place(&settings.iam_endpoint));
    let call = Call { operation: "token", doing, limit: CERTIFICATE_LIMIT };
    let result = reach
        .http
        .call(&call, || Ok(request(settings, &body, password.expose_secret())), |answer| read(answer, reach.http.server_now()))
        .await;
    match result {
        Ok((token, ends)) => {
            Ok(Credential { means: Means::Token(token), fingerprint, project_id: None, domain_id: None, ends: Some(ends) })
        }
        Err(error) => {
            if reach.is_rejected(&error) {
                reach.remember_rejected(&fingerprint);
            }
            Err(error)
        }
    }
}

fn request(settings: &Huawei, body: &Zeroizing<Vec<u8>>, password: &str) -> Request {
    let url = url(&settings.iam_endpoint, &path(&settings.iam_endpoint, &["v3", "auth", "tokens"]), &[]);
    let headers = vec![("Content-Type", Zeroizing::new("application/json".to_owned()))];
    let secrets = vec![Zeroizing::new(password.to_owned())];
    Request { method: Method::Post, url, headers, body: body.clone(), secrets }
}

pub(super) fn read(answer: Answer, now: Timestamp) -> Result<(SecretString, Timestamp), Cause> {
    let answer = answers::good(answer)?;
    let token = answer.headers.value("x-subject-token").filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| Cause::BadAnswer("answer has no `X-Subject-Token`".to_owned()))?;
    let body: Body = answers::json(&answer)?;
    let assumed = now.saturating_add(ASSUMED).unwrap_or(now);
    Ok((SecretString::from(token), body.token.and_then(|token| token.expires_at).unwrap_or(assumed)))
}

#[derive(Deserialize)]
struct Body {
    token: Option<Token>,
}

#[derive(Deserialize)]
struct Token {
    expires_at: Option<Timestamp>,
}

/// Serialised from borrowed parts into a buffer that is never outgrown, so that no copy of the password stays behind.
fn body(user: &str, password: &str, domain: &str, project: Option<&str>) -> Result<Zeroizing<Vec<u8>>, Cause> {
    let domain = Named { name: domain };
    let scope = project.map_or(Scope::Domain(domain), |name| Scope::Project(Named { name }));
    let user = User { name: user, password, domain };
    let wish = Wish { auth: Wanted { identity: Identity { methods: ["password"], password: Password { user } }, scope } };
    let most = 512 + 6 * (user.name.len() + password.len() + 2 * domain.name.len() + project.unwrap_or_default().len());
    let mut body = Zeroizing::new(Vec::with_capacity(most));
    serde_json::to_writer(&mut *body, &wish)
        .map_err(|_| Cause::Credential("the password cannot be written as JSON".to_owned()))?;
    Ok(body)
}

#[derive(Serialize)]
struct Wish<'a> {
    auth: Wanted<'a>,
}

#[derive(Serialize)]
struct Wanted<'a> {
    identity: Identity<'a>,
    scope: Scope<'a>,
}

#[derive(Serialize)]
struct Identity<'a> {
    methods: [&'static str; 1],
    password: Password<'a>,
}

#[derive(Serialize)]
struct Password<'a> {
    user: User<'a>,
}

#[derive(Clone, Copy, Serialize)]
struct User<'a> {
    name: &'a str,
    password: &'a str,
    domain: Named<'a>,
}

#[derive(Clone, Copy, Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Scope<'a> {
    Project(Named<'a>),
    Domain(Named<'a>),
}

/// A token whose end is not told. The vendor's live for 24 hours.
const ASSUMED: SignedDuration = SignedDuration::from_hours(1);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn the_wish_is_the_pages_and_fits_its_buffer() {
        let wish = body("u", "p\"\u{1}", "d", Some("cn-north-4")).ok().unwrap();
        assert_eq!(
            std::str::from_utf8(&wish).unwrap(),
            r#"{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"u","password":"p\"\u0001","domain":{"name":"d"}}}},"scope":{"project":{"name":"cn-north-4"}}}}"#
        );
        let bad = "\u{1}".repeat(5000);
        let wish = body(&bad, &bad, &bad, Some(&bad)).ok().unwrap();
        assert!(wish.len() < wish.capacity());
        assert!(
            std::str::from_utf8(&body("u", "p", "d", None).ok().unwrap())
                .unwrap()
                .ends_with(r#""scope":{"domain":{"name":"d"}}}}"#)
        );
    }
}

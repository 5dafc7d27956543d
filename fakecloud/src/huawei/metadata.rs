//! The metadata service of a host with an agency: a session token, then temporary credentials.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::iam::instant;
use super::{Account, MetadataMode};
use crate::wire::{Call, Refusal, Reply, Route};

/// Longest life of a session token, in seconds.
const LONGEST: i64 = 21_600;

/// Which operation the method and path mean.
pub(crate) fn route(call: &Call) -> Result<Route, Refusal> {
    match (call.method.as_str(), call.path.as_str()) {
        ("PUT", "/meta-data/latest/api/token") => Ok(Route::new("metadata_token")),
        ("GET", "/openstack/latest/securitykey") => Ok(Route::new("securitykey")),
        _ => Err(Refusal::new(text(404, "404 Not Found"), format!("nothing at `{} {}`", call.method, call.path))),
    }
}

/// The session token, where this host wants one.
pub(crate) fn authorize(account: &Account, call: &Call, route: &Route, now: Timestamp) -> Result<(), Refusal> {
    if route.operation == "metadata_token" {
        return match (account.metadata, lifetime(call)) {
            (MetadataMode::NoToken, _) | (_, Some(1..=LONGEST)) => Ok(()),
            _ => Err(Refusal::new(text(400, "400 Bad Request"), "X-Metadata-Token-Ttl-Seconds is not 1 to 21600")),
        };
    }
    let refused = |why: &str| Err(Refusal::new(text(401, "401 Unauthorized"), why));
    match (account.metadata, call.header("x-metadata-token").map(|token| account.metadata_tokens.get(token))) {
        (MetadataMode::NoToken, _) => Ok(()),
        (_, None) => refused("no X-Metadata-Token"),
        (_, Some(None)) => refused("no such X-Metadata-Token"),
        (_, Some(Some(end))) if now >= *end => refused("the X-Metadata-Token is over"),
        _ => Ok(()),
    }
}

/// The answer to a request that may be asked.
pub(crate) fn answer(account: &mut Account, call: &Call, route: &Route, now: Timestamp) -> Reply {
    match (route.operation.as_str(), account.metadata) {
        ("metadata_token", MetadataMode::NoToken) => text(404, "404 Not Found"),
        ("metadata_token", _) => {
            let end = now + SignedDuration::from_secs(lifetime(call).unwrap_or(LONGEST));
            text(200, &account.new_metadata_token(end))
        }
        (_, MetadataMode::NoAgency) => text(401, "Please configure Cloud Service Agency first"),
        _ => {
            let lifetime = account.metadata_lifetime;
            let key = account.new_temporary(now, lifetime);
            Reply::json(200, &json!({"credential": {
                "access": key.access_key,
                "secret": key.secret_key,
                "securitytoken": key.security_token,
                "expires_at": instant(key.expires_at),
            }}))
        }
    }
}

fn lifetime(call: &Call) -> Option<i64> {
    call.header("x-metadata-token-ttl-seconds")?.parse().ok()
}

fn text(status: u16, body: &str) -> Reply {
    let reply = Reply::new(status, "text/plain", body.to_owned());
    if status == 200 { reply } else { reply.with_code(&status.to_string()) }
}

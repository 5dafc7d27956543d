//! IAM: a password for a token, and the two look-ups the vendor's SDK makes by itself.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Account, DOMAIN, REGION, USER, sign};
use crate::wire::{Call, Refusal, Reply, Route};

/// Which operation the method and path mean.
pub(crate) fn route(call: &Call) -> Result<Route, Refusal> {
    match (call.method.as_str(), call.path.as_str()) {
        ("POST", "/v3/auth/tokens") => Ok(Route::new("token")),
        ("GET", "/v3/projects") => Ok(Route::new("projects")),
        ("GET", "/v3/auth/domains") => Ok(Route::new("domains")),
        _ => Err(Refusal::new(error(404, "The resource could not be found."), format!("no API `{} {}`", call.method, call.path))),
    }
}

/// Look-ups are signed; a token is asked for with a password in the body, which must have the documented shape.
pub(crate) fn authorize(account: &mut Account, call: &Call, route: &Route, now: Timestamp) -> Result<(), Refusal> {
    if route.operation != "token" {
        return sign::caller(account, call, now).map(|_| ());
    }
    if !call.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        return Err(bad_request("Content-Type is not application/json"));
    }
    let body: Value = serde_json::from_slice(&call.body).map_err(|_| bad_request("the body is not JSON"))?;
    let login = Login::read(&body).map_err(|missing| bad_request(&format!("no `{missing}`")))?;
    if let Some(until) = account.locked_until.filter(|until| now < *until) {
        return Err(unauthorized("The account is locked.", format!("locked until {until}, by wrong passwords")));
    }
    if (login.user, login.domain) != (USER, DOMAIN) || login.password != account.password {
        return Err(wrong_password(account, now));
    }
    account.failed_logins = 0;
    login.project(account).map(|_| ()).map_err(|why| unauthorized("Could not find project.", why))
}

/// The answer to a request that may be asked.
pub(crate) fn answer(account: &mut Account, call: &Call, route: &Route, now: Timestamp) -> Reply {
    match route.operation.as_str() {
        "projects" => Reply::json(200, &json!({"projects": projects(account, call), "links": {}})),
        "domains" => Reply::json(200, &json!({"domains": [{"id": account.domain_id, "name": DOMAIN, "enabled": true}]})),
        _ => token(account, call, now),
    }
}

fn token(account: &mut Account, call: &Call, now: Timestamp) -> Reply {
    let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let project = Login::read(&body).ok().and_then(|login| login.project(account).ok()).flatten();
    let (token, expires_at) = account.new_token(now, project.clone());
    let mut answer = json!({"token": {
        "methods": ["password"],
        "issued_at": instant(now),
        "expires_at": instant(expires_at),
        "user": {"id": "a0f1e2d3c4b5968778695a4b3c2d1e0f", "name": USER, "domain": {"id": account.domain_id, "name": DOMAIN}},
        "roles": [],
        "catalog": [],
    }});
    match project {
        Some(id) => answer["token"]["project"] = json!({"id": id, "name": REGION, "domain": {"id": account.domain_id}}),
        None => answer["token"]["domain"] = json!({"id": account.domain_id, "name": DOMAIN}),
    }
    Reply::json(201, &answer).with_header("x-subject-token", token)
}

fn projects(account: &Account, call: &Call) -> Vec<Value> {
    let wanted = call.pairs().into_iter().find(|(name, _)| name == "name").map(|(_, value)| value);
    let project = json!({"id": account.project_id, "name": REGION, "domain_id": account.domain_id, "enabled": true});
    if wanted.is_none_or(|name| name == REGION) { vec![project] } else { Vec::new() }
}

/// Who wants a token, for what.
struct Login<'a> {
    user: &'a str,
    password: &'a str,
    domain: &'a str,
    scope: Option<&'a Value>,
}

impl Login<'_> {
    /// The documented shape, or the name of what is missing.
    fn read(body: &Value) -> Result<Login<'_>, &'static str> {
        let identity = &body["auth"]["identity"];
        if identity["methods"] != json!(["password"]) {
            return Err("auth.identity.methods = [\"password\"]");
        }
        let user = &identity["password"]["user"];
        Ok(Login {
            user: user["name"].as_str().ok_or("user.name")?,
            password: user["password"].as_str().ok_or("user.password")?,
            domain: user["domain"]["name"].as_str().ok_or("user.domain.name")?,
            scope: body["auth"].get("scope"),
        })
    }

    /// The project's id; `None`: the whole account.
    fn project(&self, account: &Account) -> Result<Option<String>, String> {
        let Some(project) = self.scope.and_then(|scope| scope.get("project")) else { return Ok(None) };
        let known = project["name"].as_str() == Some(REGION) || project["id"].as_str() == Some(&account.project_id);
        if known { Ok(Some(account.project_id.clone())) } else { Err(format!("no project {project}")) }
    }
}

fn wrong_password(account: &mut Account, now: Timestamp) -> Refusal {
    account.failed_logins += 1;
    if account.lock_after.is_some_and(|limit| account.failed_logins >= limit) {
        account.locked_until = Some(now + SignedDuration::from_mins(15));
        account.failed_logins = 0;
    }
    unauthorized("The username or password is wrong.", "user, account or password is wrong".to_owned())
}

fn unauthorized(message: &str, why: String) -> Refusal {
    Refusal::new(error(401, message), why)
}

fn bad_request(why: &str) -> Refusal {
    Refusal::new(error(400, "Request body is invalid."), why)
}

pub(crate) fn error(status: u16, message: &str) -> Reply {
    let title = match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        429 => "Too Many Requests",
        _ => "Internal Server Error",
    };
    let body = json!({"error": {"code": status, "message": message, "title": title}});
    Reply::json(status, &body).with_code(&status.to_string())
}

/// `2026-11-22T10:00:00.000000Z`.
pub(crate) fn instant(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string()
}

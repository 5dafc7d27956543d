//! The control endpoint: what a test's hands do, for tests in other processes and for people with `curl`.
//!
//! Every call is a POST (reading: GET) with parameters in the query, and answers JSON; a wrong one is a 400 that says what is wrong.
//!
//! | call | parameters |
//! |---|---|
//! | `POST /control/add` | `cloud=huawei\|cds`, `id`, `names=a,b`; `days` (90), `key` (p256), `status`, `valid`; `count`: so many, the ids counting up, sharing one certificate |
//! | `POST /control/renew` | `id`; `new_id`, `days`, `key`: another certificate under another id, as these clouds renew |
//! | `POST /control/reissue` | `id`; `days`, `key`: another certificate under the same id |
//! | `POST /control/set` | `id`; `status` (Huawei) or `valid` (CDS) |
//! | `POST /control/remove` | `id` |
//! | `POST /control/fault` | `what`; `service`, `operation`, `id`, `nth`, `times`, and what the fault needs: see [`fault`] |
//! | `POST /control/clear` | takes all faults back |
//! | `POST /control/permission` | `withdraw` or `grant`: `scm:cert:list`, … |
//! | `POST /control/skew` | `seconds`: the clouds' clock ahead of ours |
//! | `POST /control/down`, `POST /control/up` | the clouds are away, and back |
//! | `POST /control/forget` | forgets what was asked |
//! | `GET /control/requests`, `/control/rejections`, `/control/certificates` | |
//! | `GET /control/root.pem` | the root of what it issues |

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::cds::CdsCertificate;
use crate::fault::{Fault, Match, What};
use crate::huawei::HuaweiCertificate;
use crate::pki::{Issued, Key, Leaf};
use crate::seen::{Outcome, Seen, Service};
use crate::shared::{Clock, Shared, State};
use crate::wire::{Call, Reply};

/// What is wrong with a call, in words.
type Wrong = String;

/// The answer to a control call.
pub(crate) fn answer(shared: &Shared, call: &Call) -> Reply {
    if call.path == "/control/root.pem" {
        return Reply::new(200, "application/x-pem-file", shared.pki().root_pem());
    }
    match act(shared, call) {
        Ok(value) => Reply::json(200, &value),
        Err(wrong) => Reply::json(400, &json!({"error": wrong})),
    }
}

fn act(shared: &Shared, call: &Call) -> Result<Value, Wrong> {
    let asked = Asked(call.pairs());
    let operation = call.path.strip_prefix("/control/").unwrap_or_default();
    match (call.method.as_str(), operation) {
        ("POST", "down") => return Ok(shared.set_up(false)),
        ("POST", "up") => return Ok(shared.set_up(true)),
        ("POST", "add" | "renew" | "reissue") => return issue(shared, operation, &asked),
        _ => {}
    }
    let mut state = shared.lock();
    match (call.method.as_str(), operation) {
        ("POST", "set") => set(&mut state, asked.must("id")?, &asked),
        ("POST", "remove") => remove(&mut state, asked.must("id")?),
        ("POST", "fault") => {
            state.faults.set(fault(&asked)?);
            Ok(json!({}))
        }
        ("POST", "clear") => {
            state.faults.clear();
            Ok(json!({}))
        }
        ("POST", "permission") => permission(&mut state, &asked),
        ("POST", "skew") => {
            state.clock = Clock::Ahead(SignedDuration::from_secs(asked.number("seconds")?.ok_or("no `seconds`")?));
            Ok(json!({"now": state.now().to_string()}))
        }
        ("POST", "forget") => {
            state.log.clear();
            Ok(json!({}))
        }
        ("GET", "requests") => Ok(state.log.requests().iter().map(request).collect()),
        ("GET", "rejections") => {
            let rejections = state.log.rejections();
            Ok(rejections.iter().map(|it| json!({"operation": it.operation, "code": it.code, "why": it.why})).collect())
        }
        ("GET", "certificates") => Ok(certificates(&state)),
        (method, _) => Err(format!("no call `{method} {}`", call.path)),
    }
}

/// `add`, `renew`, `reissue`. The key is made outside the lock: RSA takes its time.
fn issue(shared: &Shared, operation: &str, asked: &Asked) -> Result<Value, Wrong> {
    let id = asked.must("id")?;
    if operation == "add" {
        return add(shared, asked, id);
    }
    let old = find(&shared.lock(), id)?;
    let new_id = match (operation, asked.get("new_id")) {
        ("reissue", _) => id.to_owned(),
        (_, Some(new_id)) => new_id.to_owned(),
        _ => next_id(&shared.lock(), id),
    };
    let issued = Arc::new(leaf(shared, asked, Some(old.issued()))?);
    let answer = told(&new_id, &issued);
    let mut state = shared.lock();
    match old {
        Found::Huawei(old) => state.huawei.put(new_id, HuaweiCertificate { issued, status: "ISSUED".to_owned(), ..old }),
        Found::Cds(old) => state.cds.put(new_id, CdsCertificate { issued, valid: None, ..old }),
    }
    Ok(answer)
}

fn add(shared: &Shared, asked: &Asked, id: &str) -> Result<Value, Wrong> {
    let issued = Arc::new(leaf(shared, asked, None)?);
    let mut state = shared.lock();
    let mut next = id.to_owned();
    for _ in 0..asked.number("count")?.unwrap_or(1) {
        match asked.must("cloud")? {
            "huawei" => state.huawei.put(next.clone(), HuaweiCertificate::new(issued.clone())),
            "cds" => state.cds.put(next.clone(), CdsCertificate::new(issued.clone())),
            other => return Err(format!("`cloud` cannot be `{other}`")),
        }
        set(&mut state, &next, asked)?;
        next = count_up(&next);
    }
    Ok(told(id, &issued))
}

fn set(state: &mut State, id: &str, asked: &Asked) -> Result<Value, Wrong> {
    match (find(state, id)?, asked.get("status"), asked.number("valid")?) {
        (Found::Huawei(certificate), Some(status), None) => state.huawei.put(id.to_owned(), certificate.status(status)),
        (Found::Cds(certificate), None, Some(valid)) => state.cds.put(id.to_owned(), certificate.valid(valid)),
        (_, None, None) => {}
        _ => return Err("Huawei has `status`, CDS has `valid`".to_owned()),
    }
    Ok(json!({"id": id}))
}

fn remove(state: &mut State, id: &str) -> Result<Value, Wrong> {
    find(state, id)?;
    state.huawei.take(id);
    state.cds.take(id);
    Ok(json!({"id": id}))
}

fn permission(state: &mut State, asked: &Asked) -> Result<Value, Wrong> {
    match (asked.get("withdraw"), asked.get("grant")) {
        (Some(permission), None) => state.huawei.withdrawn.insert(permission.to_owned()),
        (None, Some(permission)) => state.huawei.withdrawn.remove(permission),
        _ => return Err("one of `withdraw` and `grant`".to_owned()),
    };
    Ok(json!({"withdrawn": state.huawei.withdrawn}))
}

/// `what` is a name of [`What::name`]; `ms` goes with `delay` and `drip`, `after` with `cut`, `status` `body` with `status`,
/// `status` `code` `message` with `error`, `code` `message` with `error_in_200`, `seconds` with `throttle`, `to` with `redirect`.
fn fault(asked: &Asked) -> Result<Fault, Wrong> {
    let text = |name: &str, default: &str| asked.get(name).unwrap_or(default).to_owned();
    let milliseconds = || asked.number("ms").map(|ms| Duration::from_millis(ms.unwrap_or(1000)));
    let what = match asked.must("what")? {
        "delay" => What::Delay(milliseconds()?),
        "drip" => What::Drip { interval: milliseconds()? },
        "hang" => What::Hang,
        "hang_after_headers" => What::HangAfterHeaders,
        "status" => What::status(asked.number("status")?.unwrap_or(503), text("body", "")),
        "error" => {
            What::error(asked.number("status")?.unwrap_or(500), text("code", "SCM.0038"), text("message", "Failed to decrypt."))
        }
        "throttle" => What::Throttle { retry_after: asked.number("seconds")? },
        "cut" => What::Cut(asked.number("after")?.unwrap_or(0)),
        "half" => What::Half,
        "garbage" => What::Garbage,
        "endless" => What::Endless,
        "html_page" => What::HtmlPage,
        "error_in_200" => What::ErrorIn200 { code: text("code", "SCM.0007"), message: text("message", "Failed to download.") },
        "empty_body" => What::EmptyBody,
        "redirect" => What::Redirect(asked.must("to")?.to_owned()),
        "wrong_key" => What::WrongKey,
        "no_key" => What::NoKey,
        other => return Err(format!("`what` cannot be `{other}`")),
    };
    let service = match asked.get("service") {
        None => None,
        Some(name) => Some(SERVICES.into_iter().find(|service| service.name() == name).ok_or(format!("no service `{name}`"))?),
    };
    let on = Match {
        service,
        operation: asked.get("operation").map(str::to_owned),
        id: asked.get("id").map(str::to_owned),
        nth: asked.number("nth")?,
    };
    Ok(Fault { on, what, times: asked.number("times")? })
}

enum Found {
    Huawei(HuaweiCertificate),
    Cds(CdsCertificate),
}

impl Found {
    fn issued(&self) -> &Issued {
        match self {
            Found::Huawei(certificate) => &certificate.issued,
            Found::Cds(certificate) => &certificate.issued,
        }
    }
}

fn find(state: &State, id: &str) -> Result<Found, Wrong> {
    let huawei = state.huawei.certificates.get(id).cloned().map(Found::Huawei);
    huawei.or_else(|| state.cds.certificates.get(id).cloned().map(Found::Cds)).ok_or_else(|| format!("no certificate `{id}`"))
}

/// As asked, else as the old one was.
fn leaf(shared: &Shared, asked: &Asked, old: Option<&Issued>) -> Result<Issued, Wrong> {
    let names = match (asked.get("names"), old) {
        (Some(names), _) => names.split(',').map(str::to_owned).collect(),
        (None, Some(old)) => old.names.clone(),
        (None, None) => return Err("no `names`".to_owned()),
    };
    let key = match asked.get("key") {
        Some(name) => KEYS.into_iter().find(|(known, _)| *known == name).ok_or(format!("`key` cannot be `{name}`"))?.1,
        None => old.map_or(Key::P256, |old| old.key),
    };
    Ok(shared.pki().issue(Leaf::new(names).days(asked.number("days")?.unwrap_or(90)).key(key)))
}

/// Counted up until it is free.
fn next_id(state: &State, id: &str) -> String {
    let mut next = count_up(id);
    while find(state, &next).is_ok() {
        next = count_up(&next);
    }
    next
}

/// The number at the end of an id one up, as wide as before; an id without a number gets a 2.
fn count_up(id: &str) -> String {
    let stem = id.trim_end_matches(|digit: char| digit.is_ascii_digit());
    let digits = &id[stem.len()..];
    let number = digits.parse::<u64>().unwrap_or(1).wrapping_add(1);
    format!("{stem}{number:0width$}", width = digits.len())
}

fn certificates(state: &State) -> Value {
    let huawei = state.huawei.order.iter().map(|id| told(id, &state.huawei.certificates[id].issued));
    let cds = state.cds.order.iter().map(|id| told(id, &state.cds.certificates[id].issued));
    json!({"huawei": huawei.collect::<Vec<_>>(), "cds": cds.collect::<Vec<_>>()})
}

fn told(id: &str, issued: &Issued) -> Value {
    json!({"id": id, "names": issued.names, "not_after": issued.not_after.to_string(), "fingerprint": issued.sha256})
}

fn request(seen: &Seen) -> Value {
    let (status, code) = match &seen.outcome {
        Outcome::Answered(status) => (*status, None),
        Outcome::Failed { status, code } | Outcome::Refused { status, code, .. } => (*status, Some(code)),
    };
    json!({
        "service": seen.service.name(),
        "operation": seen.operation,
        "id": seen.id,
        "at": seen.at.to_string(),
        "status": status,
        "code": code,
        "fault": seen.fault,
    })
}

/// The parameters of a call.
struct Asked(Vec<(String, String)>);

impl Asked {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn must(&self, name: &str) -> Result<&str, Wrong> {
        self.get(name).ok_or_else(|| format!("no `{name}`"))
    }

    fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Wrong> {
        self.get(name).map(|text| text.parse().map_err(|_| format!("`{name}` cannot be `{text}`"))).transpose()
    }
}

const SERVICES: [Service; 4] = [Service::Scm, Service::Iam, Service::Metadata, Service::Cds];
const KEYS: [(&str, Key); 6] = [
    ("rsa2048", Key::Rsa2048),
    ("rsa4096", Key::Rsa4096),
    ("p256", Key::P256),
    ("p384", Key::P384),
    ("p521", Key::P521),
    ("ed25519", Key::Ed25519),
];

#[cfg(test)]
mod tests {
    use super::count_up;

    #[test]
    fn ids_count_up_in_their_width() {
        assert_eq!(count_up("scs1554192131199"), "scs1554192131200");
        assert_eq!(count_up("cds-api-9"), "cds-api-10");
        assert_eq!(count_up("scs0009"), "scs0010");
        assert_eq!(count_up("name"), "name2");
    }
}

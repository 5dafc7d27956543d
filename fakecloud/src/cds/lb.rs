//! The answers of `/lb/`: `DescribeCACertificate` and `DescribeCACertificates`, shaped as in the vendor's examples.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::sign::{COMMON, check, invalid, missing};
use super::{Account, CdsCertificate, Spelling};
use crate::huawei::scm::strangers;
use crate::wire::{Call, Refusal, Reply, Route, Twist};

/// Which action is meant. Anything else at that address is unknown.
pub(crate) fn route(call: &Call) -> Result<Route, Refusal> {
    if call.path != "/lb/" {
        return Err(Refusal::new(
            Reply::new(404, "text/html", "<h1>Not Found</h1>").with_code("404"),
            format!("no `{}`", call.path),
        ));
    }
    if call.method != "GET" {
        let reply = error(400, "UnsupportedOperation", "The specified method is not supported.");
        return Err(Refusal::new(reply, format!("`{}` is not GET", call.method)));
    }
    let pairs = call.pairs();
    let value = |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let operation = value("Action").filter(|action| !action.is_empty()).ok_or_else(|| missing("Action"))?;
    Ok(Route { operation, id: value("CertificateId") })
}

/// Who asks, and whether with the right parameters.
pub(crate) fn authorize(account: &mut Account, call: &Call, route: &Route, now: Timestamp) -> Result<(), Refusal> {
    check(account, call, now)?;
    let own: &[&str] = match route.operation.as_str() {
        "DescribeCACertificates" => &[],
        "DescribeCACertificate" => &["CertificateId"],
        action => {
            let reply = error(400, "UnsupportedOperation", "The specified action is not supported.");
            return Err(Refusal::new(reply, format!("no action `{action}`")));
        }
    };
    let pairs = call.pairs();
    for name in own {
        match pairs.iter().filter(|(known, _)| known == name).count() {
            0 => return Err(missing(name)),
            1 => {}
            _ => return Err(invalid(name, format!("`{name}` is there twice"))),
        }
    }
    match pairs.iter().find(|(name, _)| !COMMON.contains(&name.as_str()) && !own.contains(&name.as_str())) {
        Some((name, _)) => Err(invalid(name, format!("`{}` has no parameter `{name}`", route.operation))),
        None => Ok(()),
    }
}

/// The answer to a request that may be asked.
pub(crate) fn answer(account: &Account, route: &Route, twist: Twist, now: Timestamp) -> Reply {
    if route.operation == "DescribeCACertificates" {
        return Reply::new(200, CONTENT_TYPE, listing(account, now));
    }
    let id = route.id.as_deref().unwrap_or_default();
    let Some(certificate) = account.certificates.get(id) else {
        return error(404, "ResourceNotFound", "The specified certificate does not exist.");
    };
    let mut data = listed(id, certificate, now);
    data["Certificate"] = certificate.issued.full_pem.clone().into();
    data["PublicKey"] = certificate.issued.public_key_pem.clone().into();
    let key = match twist {
        Twist::WrongKey => strangers().key_pem.clone(),
        Twist::NoKey => String::new(),
        Twist::None => certificate.key.pem(&certificate.issued).unwrap_or_default(),
    };
    let (pirvate, private) = match certificate.spelling {
        Spelling::Pirvate => (Some(key), None),
        Spelling::Private => (None, Some(key)),
        Spelling::Both => (Some(key.clone()), Some(key)),
        Spelling::PirvateEmpty => (Some(String::new()), Some(key)),
        Spelling::PrivateEmpty => (Some(key), Some(String::new())),
    };
    for (name, key) in [("PirvateKey", pirvate), ("PrivateKey", private)] {
        if let Some(key) = key {
            data[name] = key.into();
        }
    }
    Reply::new(200, CONTENT_TYPE, json!({"Code": "Success", "Data": data, "Message": "Success.", "TaskId": ""}).to_string())
}

/// The service's own error object.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(status, CONTENT_TYPE, json!({"Code": code, "Message": message}).to_string()).with_code(code)
}

/// The whole account, without keys and certificates.
fn listing(account: &Account, now: Timestamp) -> String {
    let all: Vec<Value> = account.order.iter().map(|id| listed(id, &account.certificates[id], now)).collect();
    json!({"Code": "Success", "Data": all, "Message": "Success."}).to_string()
}

fn listed(id: &str, certificate: &CdsCertificate, now: Timestamp) -> Value {
    json!({
        "Brand": certificate.brand,
        "CertificateId": id,
        "CertificateName": certificate.name,
        "CertificateType": certificate.kind,
        "Domain": certificate.domain,
        "EndTime": civil(certificate.issued.not_after),
        "Organization": certificate.organization,
        "StartTime": civil(certificate.issued.not_before),
        "Valid": certificate.valid_at(now),
    })
}

/// `2021-02-25 12:00:00`.
fn civil(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

const CONTENT_TYPE: &str = "application/json";

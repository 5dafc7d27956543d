//! SCM: list, show, export (v3) and download (v2), as the vendor's pages say.
//!
//! Times are Beijing's and say so nowhere, as in the vendor's examples: who decides by them is found out.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::Offset;
use serde_json::{Value, json};

use super::sign::{self, Caller};
use super::{Account, HuaweiCertificate};
use crate::archive::{self, Layout};
use crate::pki::{Issued, Leaf, Pki};
use crate::wire::{Call, Refusal, Reply, Route, Twist};

/// Which operation the method and path mean; the gateway knows no others.
pub(crate) fn route(call: &Call) -> Result<Route, Refusal> {
    let segments: Vec<&str> = call.path.split('/').skip(1).collect();
    match (call.method.as_str(), segments.as_slice()) {
        ("GET", ["v3", "scm", "certificates"]) => Ok(Route::new("list")),
        ("GET", ["v3", "scm", "certificates", id]) if !id.is_empty() => Ok(Route::about("show", id)),
        ("POST", ["v3", "scm", "certificates", id, "export"]) => Ok(Route::about("export", id)),
        ("GET", ["v2", _, "scm", "cert", id, "cert_file"]) => Ok(Route::about("download", id)),
        _ => {
            let message = "The API does not exist or has not been published in the environment.";
            Err(Refusal::new(error(404, "APIGW.0101", message), format!("no API `{} {}`", call.method, call.path)))
        }
    }
}

/// Who asks, and whether they may.
pub(crate) fn authorize(account: &mut Account, call: &Call, route: &Route, now: Timestamp) -> Result<(), Refusal> {
    let Caller { project } = sign::caller(account, call, now)?;
    check_shape(call, route)?;
    if route.operation == "download" {
        let asked = call.path.split('/').nth(2);
        if asked != Some(&account.project_id) || project.as_deref() != asked {
            let reply = error(403, "SCM.0002", "The project ID is incorrect.");
            return Err(Refusal::new(reply, "the project id in the path does not fit the credentials"));
        }
    }
    let permission = permission(&route.operation);
    if account.withdrawn.contains(permission) {
        let reply = error(401, "SCM.4002", "You do not have the permission to perform this operation.");
        return Err(Refusal::new(reply, format!("{permission} was withdrawn")));
    }
    Ok(())
}

/// The answer to a request that may be asked.
pub(crate) fn answer(account: &Account, call: &Call, route: &Route, twist: Twist) -> Reply {
    let Some(id) = &route.id else { return list(account, call) };
    let Some(certificate) = account.certificates.get(id) else {
        return error(400, "SCM.0020", "Incorrect certificate ID.");
    };
    if route.operation == "show" {
        return Reply::json(200, &shown(id, certificate));
    }
    if !["ISSUED", "UPLOAD"].contains(&certificate.status.as_str()) {
        return error(400, "SCM.0010", "This operation is not allowed by the current certificate type or status.");
    }
    let key = key(certificate, twist);
    match route.operation.as_str() {
        "export" => Reply::json(200, &exported(certificate, key)),
        _ => download(id, certificate, key.as_deref()),
    }
}

/// The service's own error object.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"error_code": code, "error_msg": message})).with_code(code)
}

/// Export takes no body; the other calls are GETs without one; only `list` has parameters.
fn check_shape(call: &Call, route: &Route) -> Result<(), Refusal> {
    let wrong = |why: String| Err(Refusal::new(error(400, "SCM.0001", "Incorrect parameter."), why));
    if !call.body.is_empty() {
        return wrong(format!("`{}` takes no body", route.operation));
    }
    if route.operation != "list" && !call.query.is_empty() {
        return wrong(format!("`{}` takes no parameters", route.operation));
    }
    Ok(())
}

fn permission(operation: &str) -> &'static str {
    match operation {
        "list" => "scm:cert:list",
        "show" => "scm:cert:get",
        "export" => "scm:cert:export",
        _ => "scm:cert:download",
    }
}

/// `GET /v3/scm/certificates`.
fn list(account: &Account, call: &Call) -> Reply {
    let query = match Query::read(account, call) {
        Ok(query) => query,
        Err(why) => return error(400, "SCM.0001", &format!("Incorrect parameter: {why}.")),
    };
    let (total, page) = query.page(account);
    let page: Vec<Value> = page.into_iter().map(|(id, certificate)| listed(id, certificate, account)).collect();
    Reply::json(200, &json!({"certificates": page, "total_count": total}))
}

/// The parameters of `list`, with the documented defaults.
struct Query {
    limit: usize,
    offset: usize,
    status: String,
    content: String,
    sort_key: String,
    ascending: bool,
    enterprise_project_id: String,
}

impl Query {
    fn read(account: &Account, call: &Call) -> Result<Query, String> {
        let mut query = Query {
            limit: 10,
            offset: 0,
            status: "ALL".to_owned(),
            content: String::new(),
            sort_key: "certUpdateTime".to_owned(),
            ascending: false,
            enterprise_project_id: "all".to_owned(),
        };
        for (name, value) in call.pairs() {
            query.set(&name, value)?;
        }
        if account.offset_maximum.is_some_and(|maximum| query.offset > maximum) {
            return Err("offset is above the maximum".to_owned());
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        let wrong = Err(format!("{name} cannot be `{value}`"));
        match name {
            "limit" if ["10", "20", "50"].contains(&value.as_str()) => self.limit = value.parse().unwrap_or(10),
            "offset" => match value.parse() {
                Ok(offset) => self.offset = offset,
                Err(_) => return wrong,
            },
            "sort_key" if ["certExpiredTime", "certStatus", "certUpdateTime"].contains(&value.as_str()) => self.sort_key = value,
            "sort_dir" if ["ASC", "DESC"].contains(&value.as_str()) => self.ascending = value == "ASC",
            "limit" | "sort_key" | "sort_dir" => return wrong,
            "status" => self.status = value,
            "content" => self.content = value,
            "enterprise_project_id" => self.enterprise_project_id = value,
            "deploy_support" | "owned_by_self" if ["true", "false"].contains(&value.as_str()) => {}
            "expired_days_since" if value.parse::<u32>().is_ok() => {}
            _ => return wrong,
        }
        Ok(())
    }

    fn matches(&self, certificate: &HuaweiCertificate) -> bool {
        let found = |text: &str| text.contains(&self.content);
        (self.status == "ALL" || self.status == certificate.status)
            && ["all", certificate.enterprise_project_id.as_str()].contains(&self.enterprise_project_id.as_str())
            && (self.content.is_empty() || found(&certificate.name) || certificate.issued.names.iter().any(|name| found(name)))
    }

    /// How many there are, and those of the page.
    fn page<'a>(&self, account: &'a Account) -> (usize, Vec<(&'a String, &'a HuaweiCertificate)>) {
        let newest_first = account.order.iter().rev();
        let of_page =
            |total: usize| (self.offset, account.listing_cap.unwrap_or(total).saturating_sub(self.offset).min(self.limit));
        if self.takes_all_in_order() {
            // Accounts of thousands are walked page by page: no need to look at all of them for each.
            let total = account.order.len();
            let (skip, take) = of_page(total);
            return (total, newest_first.skip(skip).take(take).map(|id| (id, &account.certificates[id])).collect());
        }
        let mut matching: Vec<_> =
            newest_first.map(|id| (id, &account.certificates[id])).filter(|(_, known)| self.matches(known)).collect();
        self.sort(&mut matching);
        let (skip, take) = of_page(matching.len());
        (matching.len(), matching.into_iter().skip(skip).take(take).collect())
    }

    fn takes_all_in_order(&self) -> bool {
        let defaults = (self.status.as_str(), self.sort_key.as_str(), self.enterprise_project_id.as_str());
        defaults == ("ALL", "certUpdateTime", "all") && self.content.is_empty() && !self.ascending
    }

    /// Sorts what comes in the order of changes, the last first.
    fn sort(&self, certificates: &mut [(&String, &HuaweiCertificate)]) {
        match self.sort_key.as_str() {
            "certExpiredTime" => certificates.sort_by_key(|(_, certificate)| std::cmp::Reverse(certificate.issued.not_after)),
            "certStatus" => certificates.sort_by(|(_, one), (_, other)| other.status.cmp(&one.status)),
            _ => {}
        }
        if self.ascending {
            certificates.reverse();
        }
    }
}

fn listed(id: &str, certificate: &HuaweiCertificate, account: &Account) -> Value {
    let names = Names::of(certificate);
    json!({
        "id": id,
        "name": certificate.name,
        "domain": names.domain,
        "sans": names.sans,
        "signature_algorithm": SIGNATURE_ALGORITHM,
        "deploy_support": true,
        "type": certificate.kind,
        "brand": certificate.brand,
        "expire_time": is_issued(certificate).then(|| local(not_after(certificate))),
        "domain_type": names.kind,
        "validity_period": 12,
        "status": certificate.status,
        "domain_count": names.count,
        "wildcard_count": names.wildcards,
        "description": Value::Null,
        "domain_id": account.domain_id,
        "enterprise_project_id": certificate.enterprise_project_id,
    })
}

fn shown(id: &str, certificate: &HuaweiCertificate) -> Value {
    let (names, issued, is_issued) = (Names::of(certificate), &certificate.issued, is_issued(certificate));
    json!({
        "id": id,
        "status": certificate.status,
        "order_id": format!("CS{id}"),
        "name": certificate.name,
        "type": certificate.kind,
        "brand": certificate.brand,
        "push_support": "ON",
        "revoke_reason": Value::Null,
        "signature_algorithm": SIGNATURE_ALGORITHM,
        "issue_time": is_issued.then(|| local(issued.not_before)),
        "not_before": is_issued.then(|| local(issued.not_before)),
        "not_after": is_issued.then(|| local(not_after(certificate))),
        "validity_period": 12,
        "validation_method": "DNS",
        "domain_type": names.kind,
        "multi_domain_type": Value::Null,
        "domain": names.domain,
        "sans": names.sans,
        "domain_count": names.count,
        "wildcard_count": names.wildcards,
        "fingerprint": is_issued.then(|| issued.sha1.clone()),
        "shared": false,
        "description": Value::Null,
        "enterprise_project_id": certificate.enterprise_project_id,
        "authentification": [],
    })
}

fn exported(certificate: &HuaweiCertificate, key: Option<String>) -> Value {
    let issued = &certificate.issued;
    let mut answer = json!({
        "certificate": issued.leaf_pem,
        "certificate_chain": issued.chain_pem,
        "private_key": key,
        "enc_certificate": Value::Null,
        "enc_private_key": Value::Null,
    });
    if certificate.entire {
        answer["entire_certificate"] = issued.full_pem.clone().into();
    }
    answer
}

fn download(id: &str, certificate: &HuaweiCertificate, key: Option<&str>) -> Reply {
    let issued = &certificate.issued;
    let bytes = match &certificate.layout {
        Layout::Raw(bytes) => bytes.clone(),
        layout => archive::pack(certificate.archive, &layout.entries(id, issued, key)),
    };
    Reply::new(200, "application/octet-stream", bytes)
        .with_header("content-disposition", format!("attachment; filename=\"{}.rar\"", archive::prefix(id, issued)))
}

fn key(certificate: &HuaweiCertificate, twist: Twist) -> Option<String> {
    if certificate.layout.is_keyless() || twist == Twist::NoKey {
        return None;
    }
    match twist {
        Twist::WrongKey => Some(strangers().key_pem.clone()),
        _ => certificate.key.pem(&certificate.issued),
    }
}

/// Another customer's certificate, the same all along.
pub(crate) fn strangers() -> Arc<Issued> {
    static STRANGER: std::sync::OnceLock<Arc<Issued>> = std::sync::OnceLock::new();
    STRANGER.get_or_init(|| Arc::new(Pki::new().issue(Leaf::new(["stranger.example.net"])))).clone()
}

/// Whether there is a certificate yet: what was only paid for has no names, dates or fingerprint.
fn is_issued(certificate: &HuaweiCertificate) -> bool {
    ["ISSUED", "UPLOAD", "EXPIRED", "REVOKED", "REVOKING"].contains(&certificate.status.as_str())
}

fn not_after(certificate: &HuaweiCertificate) -> Timestamp {
    certificate.shown_not_after.unwrap_or(certificate.issued.not_after)
}

/// `2021-05-27 16:46:25.0`, Beijing time.
fn local(time: Timestamp) -> String {
    format!("{}.0", Offset::constant(8).to_datetime(time).strftime("%Y-%m-%d %H:%M:%S"))
}

/// What the pages say of a certificate's names.
struct Names {
    domain: Option<String>,
    sans: Option<String>,
    kind: &'static str,
    count: usize,
    wildcards: usize,
}

impl Names {
    fn of(certificate: &HuaweiCertificate) -> Names {
        let names: &[String] = if certificate.status == "PAID" { &[] } else { &certificate.issued.names };
        let wildcards = names.iter().filter(|name| name.starts_with("*.")).count();
        let kind = match (names.len(), wildcards) {
            (2.., _) => "MULTI_DOMAIN",
            (_, 1..) => "WILDCARD",
            _ => "SINGLE_DOMAIN",
        };
        let sans = names.get(1..).filter(|sans| !sans.is_empty()).map(|sans| sans.join(";"));
        Names { domain: names.first().cloned(), sans, kind, count: names.len().max(1), wildcards }
    }
}

const SIGNATURE_ALGORITHM: &str = "SHA256WITHRSA";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_look_as_on_the_page() {
        assert_eq!(local("2021-05-27T08:46:25Z".parse().unwrap()), "2021-05-27 16:46:25.0");
    }

    #[test]
    fn methods_and_paths_are_strict() {
        let route = |method: &str, path: &str| {
            let call =
                Call { method: method.into(), path: path.into(), query: "".into(), headers: vec![], body: Default::default() };
            route(&call).ok().map(|route| route.operation)
        };
        assert_eq!(route("GET", "/v3/scm/certificates").as_deref(), Some("list"));
        assert_eq!(route("POST", "/v3/scm/certificates/scs1/export").as_deref(), Some("export"));
        assert_eq!(route("GET", "/v2/p/scm/cert/scs1/cert_file").as_deref(), Some("download"));
        for (method, path) in [
            ("GET", "/v3/scm/certificates/"),
            ("POST", "/v3/scm/certificates"),
            ("GET", "/v3/scm/certificates/scs1/export"),
            ("POST", "/v3/scm/certificates/scs1/export/"),
            ("GET", "/v3/scm/certificates/scs1/"),
        ] {
            assert_eq!(route(method, path), None, "{method} {path}");
        }
    }
}

//! The Huawei side refuses what the real one refuses, answers as its pages say, and pages as documented.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::{Connection, Request, minutes, scm};
use fakecloud::pki::{Issued, Key, Leaf, Pki};
use fakecloud::{CloudKey, Fakecloud, Format, HuaweiCertificate, Layout, MetadataMode, Options};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const ID: &str = "scs1554192131150";

#[test]
fn export_show_and_list_answer_as_on_their_pages() {
    let (cloud, issued) = with_one();
    let exported = scm(&cloud, "POST", &format!("/v3/scm/certificates/{ID}/export")).send();
    assert_eq!(exported.status, 200);
    let exported = exported.json();
    assert_eq!(exported["entire_certificate"], issued.full_pem);
    assert_eq!(exported["certificate"], issued.leaf_pem);
    assert_eq!(exported["certificate_chain"], issued.chain_pem);
    assert_eq!(exported["private_key"], issued.key_pem_legacy());
    assert_eq!(exported["enc_private_key"], Value::Null);
    let shown = scm(&cloud, "GET", &format!("/v3/scm/certificates/{ID}")).send().json();
    assert_eq!(shown["fingerprint"], issued.sha1);
    assert_eq!((&shown["domain"], &shown["sans"]), (&json!("www.example.com"), &json!("example.com")));
    let beijing = issued.not_after + SignedDuration::from_hours(8);
    assert_eq!(shown["not_after"], format!("{}.0", beijing.strftime("%Y-%m-%d %H:%M:%S")));
    let listed = scm(&cloud, "GET", "/v3/scm/certificates").send().json();
    assert_eq!(listed["total_count"], 1);
    assert_eq!(listed["certificates"][0]["id"], ID);
    assert_eq!(listed["certificates"][0]["expire_time"], shown["not_after"]);
    assert!(cloud.rejections().is_empty(), "{:?}", cloud.rejections());
    assert_eq!((cloud.count("export"), cloud.count("show"), cloud.count("list"), cloud.total()), (1, 1, 1, 3));
}

#[test]
fn every_way_to_sign_wrongly_is_refused_and_told() {
    let (cloud, _) = with_one();
    let (ak, sk) = (cloud.huawei.access_key(), cloud.huawei.secret_key());
    let plain = || Request::new(&cloud.huawei.endpoint(), "GET", "/v3/scm/certificates?limit=10");
    let now = Timestamp::now();
    let mut other_target = plain().signed(&ak, &sk);
    other_target.target = "/v3/scm/certificates?limit=50".to_owned();
    let mut other_body = plain().signed(&ak, &sk);
    other_body.body = "{}".to_owned();
    let not_host = vec!["x-sdk-date".to_owned()];
    for (wrong, why) in [
        (plain(), "neither"),
        (plain().signed("FAKEHWAK000000000002", &sk), "no such access key"),
        (plain().signed(&ak, "another secret"), "the signature differs"),
        (other_target, "the signature differs"),
        (other_body, "the signature differs"),
        (plain().signed(&ak, &sk).header("x-sdk-date", "20200101T000000Z"), "behind our clock"),
        (plain().signed_at(&ak, &sk, now - minutes(16)), "behind our clock"),
        (plain().signed_at(&ak, &sk, now + minutes(16)), "behind our clock"),
        (plain().signed_with(&ak, &sk, now, not_host), "`host` is not signed"),
        (plain().signed_with(&ak, &sk, now, vec!["host".to_owned()]), "`x-sdk-date` is not signed"),
        (plain().signed(&ak, &sk).header("x-project-id", cloud.huawei.project_id()), "`x-project-id` is not signed"),
        (plain().header("x-domain-id", "0").signed(&ak, &sk), "X-Domain-Id"),
        (plain().header("x-security-token", "x").signed(&ak, &sk), "permanent access key"),
        (plain().header("authorization", "Basic YTpi"), "not as documented"),
        (plain().header("x-sdk-content-sha256", "00").body("x").signed(&ak, &sk), "X-Sdk-Content-Sha256"),
    ] {
        cloud.clear_requests();
        let answer = wrong.send();
        assert_eq!((answer.status, answer.code().as_str()), (401, "APIGW.0301"), "{wrong:?}");
        let rejections = cloud.rejections();
        assert!(rejections.len() == 1 && rejections[0].why.contains(why), "{why}: {rejections:?}");
    }
    for right in [plain().signed_at(&ak, &sk, now - minutes(14)), plain().signed_at(&ak, &sk, now + minutes(14))] {
        assert_eq!(right.send().status, 200);
    }
}

#[test]
fn the_same_signature_is_taken_once_where_replay_is_refused() {
    let strict = Fakecloud::try_start(Options { allow_replay: false, ..Options::default() }).unwrap();
    let request = scm(&strict, "GET", "/v3/scm/certificates");
    assert_eq!((request.send().status, request.send().status), (200, 401));
    assert!(strict.rejections()[0].why.contains("used before"));
    let (cloud, _) = with_one();
    let request = scm(&cloud, "GET", "/v3/scm/certificates");
    assert_eq!((request.send().status, request.send().status), (200, 200));
}

#[test]
fn temporary_keys_need_their_token_signed_and_end() {
    let (cloud, _) = with_one();
    let key = cloud.huawei.temporary_for(Duration::from_secs(600));
    let plain = |limit: u8| Request::new(&cloud.huawei.endpoint(), "GET", &format!("/v3/scm/certificates?limit={limit}"));
    let with_token = |limit| plain(limit).header("x-security-token", key.security_token.clone());
    assert_eq!(with_token(10).signed(&key.access_key, &key.secret_key).send().status, 200);
    let unsigned = plain(20).signed(&key.access_key, &key.secret_key).header("x-security-token", key.security_token.clone());
    for (wrong, why) in [
        (plain(20).signed(&key.access_key, &key.secret_key), "without X-Security-Token"),
        (plain(20).header("x-security-token", "x").signed(&key.access_key, &key.secret_key), "not that of the access key"),
        (unsigned, "`x-security-token` is not signed"),
    ] {
        assert_eq!(wrong.send().status, 401);
        assert!(cloud.rejections().last().unwrap().why.contains(why), "{:?}", cloud.rejections());
    }
    cloud.set_skew(minutes(11));
    assert_eq!(with_token(20).signed(&key.access_key, &key.secret_key).send().status, 401);
    assert!(cloud.rejections().last().unwrap().why.contains("is over"));
}

#[test]
fn ids_statuses_projects_and_permissions_have_their_errors() {
    let (cloud, _) = with_one();
    let code = |method: &str, target: &str| {
        let answer = scm(&cloud, method, target).send();
        (answer.status, answer.code())
    };
    let (export, show) = (format!("/v3/scm/certificates/{ID}/export"), format!("/v3/scm/certificates/{ID}"));
    let file = |project: &str| format!("/v2/{project}/scm/cert/{ID}/cert_file");
    let is = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(code("GET", "/v3/scm/certificates/scs0000000000000"), is(400, "SCM.0020"));
    assert_eq!(code("POST", "/v3/scm/certificates/scs0000000000000/export"), is(400, "SCM.0020"));
    assert_eq!(code("GET", &file("fedcba9876543210fedcba9876543210")), is(403, "SCM.0002"));
    assert_eq!(code("GET", &export), is(404, "APIGW.0101"));
    assert_eq!(code("POST", &format!("{export}/")), is(404, "APIGW.0101"));
    for status in ["PAID", "CHECKING", "REVOKED", "EXPIRED"] {
        cloud.huawei.set_status(ID, status);
        assert_eq!(code("POST", &export), is(400, "SCM.0010"), "{status}");
        assert_eq!(code("GET", &file(&cloud.huawei.project_id())), is(400, "SCM.0010"), "{status}");
        cloud.huawei.remove(ID);
        cloud.huawei.add(ID, issued());
    }
    cloud.huawei.set_status(ID, "UPLOAD");
    assert_eq!(scm(&cloud, "POST", &export).header("x-a", "b").send().status, 200);
    for (permission, method, target) in [
        ("scm:cert:list", "GET", "/v3/scm/certificates?limit=20"),
        ("scm:cert:get", "GET", show.as_str()),
        ("scm:cert:export", "POST", export.as_str()),
        ("scm:cert:download", "GET", file(&cloud.huawei.project_id()).as_str()),
    ] {
        cloud.huawei.withdraw(permission);
        let refused = scm(&cloud, method, target).send();
        assert_eq!((refused.status, refused.code()), is(401, "SCM.4002"), "{permission}");
        cloud.huawei.grant(permission);
        assert_eq!(scm(&cloud, method, target).send().status, 200, "{permission}");
    }
}

#[test]
fn export_without_key_without_entire_and_with_parameters() {
    let (cloud, _) = with_one();
    let export = |id: &str| scm(&cloud, "POST", &format!("/v3/scm/certificates/{id}/export"));
    cloud.huawei.add("own0000000000000", HuaweiCertificate::new(issued()).layout(Layout::OwnCsr).entire(false));
    let own = export("own0000000000000").send().json();
    assert_eq!(own["private_key"], Value::Null);
    assert!(own.get("entire_certificate").is_none());
    cloud.huawei.add("nokey00000000000", HuaweiCertificate::new(issued()).key(CloudKey::None));
    assert_eq!(export("nokey00000000000").send().json()["private_key"], Value::Null);
    let file = format!("/v2/{}/scm/cert/nokey00000000000/cert_file", cloud.huawei.project_id());
    let entries = unzip(&scm(&cloud, "GET", &file).send().body);
    assert!(entries.len() > 5 && entries.iter().all(|(name, _)| !name.ends_with(".key")), "{entries:?}");
    let (ak, sk) = (cloud.huawei.access_key(), cloud.huawei.secret_key());
    let with_body = Request::new(&cloud.huawei.endpoint(), "POST", &format!("/v3/scm/certificates/{ID}/export")).body("{}");
    assert_eq!(with_body.signed(&ak, &sk).send().code(), "SCM.0001");
}

#[test]
fn a_reissue_keeps_the_id_and_may_keep_the_date_shown() {
    let (cloud, old) = with_one();
    let new = issued();
    let show = |sort: &str| {
        scm(&cloud, "GET", &format!("/v3/scm/certificates?sort_key={sort}")).send().json()["certificates"][0].clone()
    };
    let before = show("certStatus");
    cloud.huawei.change(ID, |certificate| {
        certificate.shown_not_after = Some(certificate.issued.not_after);
        certificate.issued = Arc::new(new.clone());
    });
    assert_eq!(show("certUpdateTime")["expire_time"], before["expire_time"]);
    let shown = scm(&cloud, "GET", &format!("/v3/scm/certificates/{ID}")).send().json();
    assert_eq!(shown["fingerprint"], new.sha1);
    assert_ne!(new.sha1, old.sha1);
}

#[test]
fn listings_are_paged_filtered_and_sorted_as_documented() {
    let cloud = Fakecloud::start_blocking();
    let shared = Arc::new(issued());
    for number in 0..120 {
        let status = if number % 2 == 0 { "ISSUED" } else { "PAID" };
        cloud.huawei.add(
            format!("scs{number:013}"),
            HuaweiCertificate::new(shared.clone()).status(status).name(format!("name-{number}")),
        );
    }
    let page = |query: &str| scm(&cloud, "GET", &format!("/v3/scm/certificates?{query}")).send();
    let ids = |query: &str| -> Vec<String> {
        page(query).json()["certificates"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    let walked: BTreeSet<String> =
        ["limit=50&offset=0", "limit=50&offset=50", "limit=50&offset=100"].iter().flat_map(|query| ids(query)).collect();
    assert_eq!(walked.len(), 120);
    assert_eq!(ids("limit=10")[0], "scs0000000000119", "the one changed last comes first");
    assert_eq!(ids("limit=10&sort_dir=ASC")[0], "scs0000000000000");
    assert_eq!(ids("limit=10&offset=115").len(), 5);
    assert_eq!(ids("limit=10&offset=120").len(), 0);
    assert_eq!(page("status=ISSUED").json()["total_count"], 60);
    assert_eq!(page("content=name-11").json()["total_count"], 11);
    assert_eq!(page("content=www.example").json()["total_count"], 120);
    assert_eq!(page("enterprise_project_id=1").json()["total_count"], 0);
    for wrong in
        ["limit=100", "limit=0", "limit=15", "limit=", "offset=-1", "sort_key=name", "sort_dir=asc", "page=2", "marker=x"]
    {
        let answer = page(wrong);
        assert_eq!((answer.status, answer.code().as_str()), (400, "SCM.0001"), "{wrong}");
    }
    cloud.huawei.set_listing_cap(Some(70));
    let capped = page("limit=50&offset=50&status=ALL").json();
    assert_eq!((&capped["total_count"], capped["certificates"].as_array().unwrap().len()), (&json!(120), 20));
    cloud.huawei.set_offset_maximum(Some(100));
    assert_eq!((page("offset=100&status=ALL").status, page("offset=101").status), (200, 400));
}

#[test]
fn archives_come_in_every_layout_and_packing() {
    let (cloud, issued) = with_one();
    let project = cloud.huawei.project_id();
    let mut ages = 0;
    let mut fetch = |layout: Layout, format: Format| {
        ages += 1;
        let id = format!("scs{ages:013}");
        cloud.huawei.add(&id, HuaweiCertificate::new(issued.clone()).layout(layout).archive(format));
        let answer = scm(&cloud, "GET", &format!("/v2/{project}/scm/cert/{id}/cert_file")).send();
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        assert!(answer.header("content-disposition").unwrap().ends_with(".rar\""), "{answer:?}");
        (id, answer.body)
    };
    let (id, zip) = fetch(Layout::SystemCsr, Format::Zip);
    let entries = unzip(&zip);
    let prefix = format!("{id}_www.example.com");
    let entry = |name: String| entries.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no {name}")).1.clone();
    assert_eq!(entry(format!("{prefix}_Nginx/{prefix}_server.crt")), issued.full_pem.as_bytes());
    assert_eq!(entry(format!("{prefix}_Apache/{prefix}_server.crt")), issued.leaf_pem.as_bytes());
    assert_eq!(entry(format!("{prefix}_Apache/{prefix}_ca.crt")), issued.chain_pem.as_bytes());
    assert_eq!(entry(format!("{prefix}_Nginx/{prefix}_server.key")), issued.key_pem_legacy().as_bytes());
    assert_eq!(entry(format!("{prefix}_domain.csr")), issued.csr_pem.as_bytes());
    let names = |archive: &[u8]| unzip(archive).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert!(names(&fetch(Layout::OldPrefixless, Format::Zip).1).contains(&"Nginx/server.crt".to_owned()));
    let (id, own) = fetch(Layout::OwnCsr, Format::Zip);
    assert_eq!(names(&own), [format!("{id}_www.example.com_server.pem")]);
    let custom = vec![("../../etc/cron.d/x".to_owned(), Vec::new())];
    assert_eq!(unzip(&fetch(Layout::Custom(custom.clone()), Format::Zip).1), custom);
    assert_eq!(fetch(Layout::Raw(b"what".to_vec()), Format::Zip).1, b"what");
    for (format, mark) in [(Format::Rar4, &b"Rar!\x1a\x07\x00"[..]), (Format::Rar5, &b"Rar!\x1a\x07\x01\x00"[..])] {
        let (_, bytes) = fetch(Layout::OldPrefixless, format);
        assert!(bytes.starts_with(mark), "{format:?}");
        let archive = rars::ArchiveReader::read(&bytes).unwrap();
        let key = archive.read_member(b"Nginx/server.key", None).unwrap();
        assert_eq!(key.unwrap(), issued.key_pem_legacy().as_bytes(), "{format:?}");
    }
}

#[test]
fn iam_gives_tokens_that_scm_takes_until_they_end() {
    let (cloud, _) = with_one();
    let answer = login(&cloud, &cloud.huawei.password(), json!({"project": {"name": cloud.huawei.project()}})).send();
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["token"]["project"]["id"], cloud.huawei.project_id());
    let expires: Timestamp = answer.json()["token"]["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!((expires.as_second() - Timestamp::now().as_second() + 5) / 3600, 24);
    let token = answer.header("x-subject-token").unwrap().to_owned();
    let list =
        |token: &str| Request::new(&cloud.huawei.endpoint(), "GET", "/v3/scm/certificates").header("x-auth-token", token).send();
    assert_eq!(list(&token).status, 200);
    assert_eq!(list("made up").code(), "SCM.1000");
    let of_account = login(&cloud, &cloud.huawei.password(), json!({"domain": {"name": cloud.huawei.domain()}})).send();
    let file = format!("/v2/{}/scm/cert/{ID}/cert_file", cloud.huawei.project_id());
    let download = Request::new(&cloud.huawei.endpoint(), "GET", &file);
    assert_eq!(download.clone().header("x-auth-token", token.as_str()).send().status, 200);
    let whole_account = of_account.header("x-subject-token").unwrap();
    assert_eq!(download.header("x-auth-token", whole_account).send().code(), "SCM.0002");
    cloud.huawei.expire_tokens();
    assert_eq!((list(&token).status, list(&token).code().as_str()), (401, "SCM.1000"));
}

#[test]
fn wrong_passwords_are_told_and_lock_the_user() {
    let cloud = Fakecloud::start_blocking();
    let message = |password: &str| {
        let answer = login(&cloud, password, json!({"project": {"name": "cn-north-4"}})).send();
        (answer.status, answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned())
    };
    let right = cloud.huawei.password();
    for _ in 0..5 {
        assert_eq!(message("wrong"), (401, "The username or password is wrong.".to_owned()));
    }
    assert_eq!(message(&right), (401, "The account is locked.".to_owned()));
    cloud.set_skew(minutes(16));
    assert_eq!(message(&right).0, 201);
    let unknown = login(&cloud, &right, json!({"project": {"name": "elsewhere"}})).send();
    assert_eq!(unknown.status, 401);
    let not_json =
        Request::new(&cloud.huawei.iam_endpoint(), "POST", "/v3/auth/tokens").header("content-type", "application/json");
    let answer = not_json.body("user=a").send();
    assert_eq!((answer.status, answer.json()["error"]["title"].as_str().unwrap()), (400, "Bad Request"));
}

#[test]
fn the_metadata_service_wants_its_token_first() {
    let (cloud, _) = with_one();
    let base = cloud.huawei.metadata_endpoint();
    let token =
        |ttl: &str| Request::new(&base, "PUT", "/meta-data/latest/api/token").header("x-metadata-token-ttl-seconds", ttl).send();
    let key = |token: &str| Request::new(&base, "GET", "/openstack/latest/securitykey").header("x-metadata-token", token).send();
    let without = || Request::new(&base, "GET", "/openstack/latest/securitykey").send();
    assert_eq!((token("0").status, token("21601").status, without().status, key("made up").status), (400, 400, 401, 401));
    let first = token("21600").text();
    let credential = key(&first).json()["credential"].clone();
    let field = |name: &str| credential[name].as_str().unwrap().to_owned();
    assert!(field("expires_at").ends_with(".000000Z"));
    let list = Request::new(&cloud.huawei.endpoint(), "GET", "/v3/scm/certificates");
    let list = list.header("x-security-token", field("securitytoken")).signed(&field("access"), &field("secret"));
    assert_eq!(list.send().status, 200);
    let short = token("60").text();
    assert_eq!(key(&short).status, 200);
    cloud.set_skew(minutes(2));
    assert_eq!((key(&short).status, key(&first).status), (401, 200));
    cloud.huawei.expire_metadata_tokens();
    assert_eq!(key(&first).status, 401);
    cloud.huawei.set_metadata(MetadataMode::NoToken);
    assert_eq!((token("21600").status, without().status), (404, 200));
    cloud.huawei.set_metadata(MetadataMode::NoAgency);
    let none = key(&token("60").text());
    assert!(none.status == 401 && none.text().contains("Agency"), "{none:?}");
}

#[test]
fn ten_thousand_certificates_on_one_connection() {
    let cloud = Fakecloud::start_blocking();
    let shared = Arc::new(issued());
    for number in 0..10_000 {
        cloud.huawei.add(format!("scs{number:013}"), shared.clone());
    }
    let mut connection = Connection::open(&cloud.huawei.endpoint());
    let mut seen = BTreeSet::new();
    for page in 0..200 {
        let answer =
            connection.send(&scm(&cloud, "GET", &format!("/v3/scm/certificates?limit=50&offset={}", page * 50))).unwrap();
        seen.extend(answer.json()["certificates"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!((seen.len(), cloud.rejections().len()), (10_000, 0));
}

#[test]
fn the_date_header_is_the_clouds_own() {
    let cloud = Fakecloud::start_blocking();
    cloud.set_now("2030-01-02T03:04:05Z".parse().unwrap());
    let answer = Request::new(&cloud.huawei.endpoint(), "GET", "/v3/scm/certificates").send();
    assert_eq!(answer.header("date"), Some("Wed, 02 Jan 2030 03:04:05 GMT"));
}

fn with_one() -> (Fakecloud, Issued) {
    let (cloud, issued) = (Fakecloud::start_blocking(), issued());
    cloud.huawei.add(ID, issued.clone());
    (cloud, issued)
}

fn issued() -> Issued {
    Pki::new().issue(Leaf::new(["www.example.com", "example.com"]).key(Key::P256))
}

fn login(cloud: &Fakecloud, password: &str, scope: Value) -> Request {
    let user = json!({"name": cloud.huawei.user(), "password": password, "domain": {"name": cloud.huawei.domain()}});
    let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}});
    let request = Request::new(&cloud.huawei.iam_endpoint(), "POST", "/v3/auth/tokens");
    request.header("content-type", "application/json;charset=utf8").body(body.to_string())
}

fn unzip(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let count = archive.len();
    let read = |place: usize| {
        let mut file = archive.by_index(place).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        (file.name().unwrap().into_owned(), bytes)
    };
    (0..count).map(read).collect()
}

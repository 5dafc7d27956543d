//! The CDS side refuses what the real one refuses, and answers as in the vendor's examples.
#![allow(missing_docs)]

mod common;

use std::sync::Arc;

use common::{Request, cds, minutes};
use fakecloud::pki::{Issued, Key, Leaf, Pki};
use fakecloud::{CdsCertificate, CloudKey, Fakecloud, Spelling};
use jiff::Timestamp;
use serde_json::{Value, json};

#[test]
fn describe_answers_as_in_the_vendors_example() {
    let (cloud, issued) = with_one();
    let answer = cds(&cloud, "DescribeCACertificate", &[("CertificateId", "cds-1")]).send();
    assert_eq!(answer.status, 200);
    let answer = answer.json();
    assert_eq!(keys(&answer), ["Code", "Data", "Message", "TaskId"]);
    assert_eq!((&answer["Code"], &answer["Message"], &answer["TaskId"]), (&json!("Success"), &json!("Success."), &json!("")));
    let data = &answer["Data"];
    let fields = [
        "Brand",
        "Certificate",
        "CertificateId",
        "CertificateName",
        "CertificateType",
        "Domain",
        "EndTime",
        "Organization",
        "PirvateKey",
        "PublicKey",
        "StartTime",
        "Valid",
    ];
    assert_eq!(keys(data), fields);
    assert_eq!((&data["Certificate"], &data["PirvateKey"]), (&json!(issued.full_pem), &json!(issued.key_pem_legacy())));
    assert!(data["PirvateKey"].as_str().unwrap().starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    assert_eq!(data["EndTime"], issued.not_after.strftime("%Y-%m-%d %H:%M:%S").to_string());
    assert_eq!((&data["Domain"], &data["Valid"]), (&json!("api.example.com"), &json!(1)));
    assert!(cloud.rejections().is_empty());
}

#[test]
fn the_listing_is_the_whole_account_without_keys() {
    let (cloud, issued) = with_one();
    let issued = Arc::new(issued);
    for number in 2..=1000 {
        cloud.cds.add(format!("cds-{number}"), issued.clone());
    }
    let list = || cds(&cloud, "DescribeCACertificates", &[]).send().json()["Data"].as_array().unwrap().clone();
    let all = list();
    assert_eq!(all.len(), 1000);
    assert_eq!(keys(&all[0]).len(), 9);
    assert!(all[0].get("PirvateKey").is_none() && all[0].get("Certificate").is_none());
    // Within one second of the cloud's too.
    cloud.set_now(Timestamp::now());
    assert_eq!(list().len(), 1000);
    cloud.cds.set_valid("cds-1", 2);
    assert_eq!(list()[0]["Valid"], 2);
    cloud.cds.remove("cds-2");
    assert_eq!(list().len(), 999);
}

#[test]
fn valid_goes_by_the_dates_and_by_the_clouds_clock() {
    let (cloud, pki) = (Fakecloud::start_blocking(), Pki::new());
    for (id, days) in [("ok", 40), ("soon", 30), ("late", -1)] {
        cloud.cds.add(id, pki.issue(Leaf::new(["api.example.com"]).days(days)));
    }
    let valid = |id: &str| cds(&cloud, "DescribeCACertificate", &[("CertificateId", id)]).send().json()["Data"]["Valid"].clone();
    assert_eq!([valid("ok"), valid("soon"), valid("late")], [1, 2, 0]);
    let end = cloud.cds.certificate("ok").unwrap().issued.not_after;
    let seconds_before_its_end = |seconds: i64| {
        let certificate = cloud.cds.certificate("ok").unwrap();
        cloud.set_now(Timestamp::from_second(end.as_second() - seconds).unwrap());
        let at = cloud.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let answer = cds(&cloud, "DescribeCACertificate", &[("CertificateId", "ok"), ("Timestamp", &at)]).send().json();
        assert!(certificate.valid.is_none());
        answer["Data"]["Valid"].clone()
    };
    let thirty_days = 30 * 24 * 3600;
    assert_eq!([thirty_days + 1, thirty_days, 1, 0].map(seconds_before_its_end), [1, 2, 2, 0]);
}

#[test]
fn the_key_is_spelt_in_every_way() {
    let (cloud, issued) = with_one();
    let key = json!(issued.key_pem_legacy());
    let spelt = |spelling: Spelling, key: CloudKey| {
        cloud.cds.add("cds-1", CdsCertificate::new(issued.clone()).spelling(spelling).key(key));
        let data = cds(&cloud, "DescribeCACertificate", &[("CertificateId", "cds-1")]).send().json()["Data"].clone();
        (data["PirvateKey"].clone(), data["PrivateKey"].clone())
    };
    let (none, empty) = (Value::Null, json!(""));
    assert_eq!(spelt(Spelling::Pirvate, CloudKey::Legacy), (key.clone(), none.clone()));
    assert_eq!(spelt(Spelling::Private, CloudKey::Legacy), (none.clone(), key.clone()));
    assert_eq!(spelt(Spelling::Both, CloudKey::Legacy), (key.clone(), key.clone()));
    assert_eq!(spelt(Spelling::PirvateEmpty, CloudKey::Legacy), (empty.clone(), key.clone()));
    assert_eq!(spelt(Spelling::PrivateEmpty, CloudKey::Legacy), (key, empty.clone()));
    assert_eq!(spelt(Spelling::Pirvate, CloudKey::Pkcs8), (json!(issued.key_pem), none.clone()));
    assert_eq!(spelt(Spelling::Pirvate, CloudKey::None), (empty, none));
}

#[test]
fn every_parameter_is_needed_once_and_exact() {
    let (cloud, _) = with_one();
    for name in ["Action", "AccessKeyId", "SignatureMethod", "SignatureVersion", "SignatureNonce", "Timestamp", "Version"] {
        refused(&cloud, &cds(&cloud, "DescribeCACertificates", &[(name, "")]), 400, "ArgMissing", name);
    }
    refused(&cloud, &cds(&cloud, "DescribeCACertificate", &[]), 400, "ArgMissing", "CertificateId");
    let unsigned = |request: Request| {
        let (target, _) = request.target.split_once("&Signature=").unwrap();
        Request { target: target.to_owned(), ..request.clone() }
    };
    refused(&cloud, &unsigned(cds(&cloud, "DescribeCACertificates", &[])), 400, "ArgMissing", "Signature");
    for (name, value) in [
        ("SignatureMethod", "HMAC-SHA256"),
        ("SignatureVersion", "2.0"),
        ("Version", "2019-08-09"),
        ("AccessKeyId", "somebody"),
        ("Timestamp", "2018-01-01 12:00:00"),
        ("Timestamp", "2018-01-01T12:00:00Z"),
        ("PageSize", "10"),
    ] {
        refused(&cloud, &cds(&cloud, "DescribeCACertificates", &[(name, value)]), 400, "InvalidParameter", name);
    }
    let twice = cds(&cloud, "DescribeCACertificate", &[("CertificateId", "cds-1"), ("CertificateId", "cds-2")]);
    refused(&cloud, &twice, 400, "InvalidParameter", "twice");
    refused(&cloud, &cds(&cloud, "DeleteCACertificate", &[("CertificateId", "cds-1")]), 400, "UnsupportedOperation", "no action");
    let not_found = cds(&cloud, "DescribeCACertificate", &[("CertificateId", "cds-2")]).send();
    assert_eq!((not_found.status, not_found.code().as_str()), (404, "ResourceNotFound"));
}

#[test]
fn signatures_nonces_and_times_are_checked() {
    let (cloud, _) = with_one();
    let right = cds(&cloud, "DescribeCACertificate", &[("CertificateId", "cds-1")]);
    let mut tampered = right.clone();
    tampered.target = tampered.target.replace("cds-1", "cds-2");
    refused(&cloud, &tampered, 400, "InvalidParameter", "the signature differs");
    assert_eq!(right.send().status, 200, "what was tampered with did not use up the nonce");
    refused(&cloud, &right, 400, "InvalidParameter", "nonce");
    for (minute, fine) in [(-16, false), (-14, true), (14, true), (16, false)] {
        let at = (Timestamp::now() + minutes(minute)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let answer = cds(&cloud, "DescribeCACertificates", &[("Timestamp", &at)]).send();
        assert_eq!(answer.status == 200, fine, "{minute}");
    }
    let request = cds(&cloud, "DescribeCACertificates", &[]);
    cloud.cds.set_secret_key("another");
    refused(&cloud, &request, 400, "InvalidParameter", "the signature differs");
}

#[test]
fn only_get_at_the_products_path() {
    let (cloud, _) = with_one();
    for (path, status) in [("/lb", 404), ("/", 404), ("/lb/x", 404)] {
        let mut request = cds(&cloud, "DescribeCACertificates", &[]);
        request.target = request.target.replacen("/lb/", path, 1);
        assert_eq!(request.send().status, status, "{path}");
    }
    let mut post = cds(&cloud, "DescribeCACertificates", &[]);
    post.method = "POST".to_owned();
    refused(&cloud, &post, 400, "UnsupportedOperation", "POST");
}

fn with_one() -> (Fakecloud, Issued) {
    let (cloud, issued) = (Fakecloud::start_blocking(), Pki::new().issue(Leaf::new(["api.example.com"]).key(Key::Rsa2048)));
    cloud.cds.add("cds-1", issued.clone());
    (cloud, issued)
}

fn refused(cloud: &Fakecloud, request: &Request, status: u16, code: &str, why: &str) {
    cloud.clear_requests();
    let answer = request.send();
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{request:?}");
    let rejections = cloud.rejections();
    assert!(rejections.len() == 1 && rejections[0].why.contains(why), "{why}: {rejections:?}");
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

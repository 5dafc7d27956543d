//! CDS's calls against a scripted server: what goes over the wire, what each answer means.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod scripted;

use std::collections::BTreeSet;

use certsyncd::provider::{Fetched, Payload, cds as vendor};
use certsyncd::report::Valid;
use scripted::*;
use serde_json::{Value, json};

const ID: &str = "6e3c2a8a-1e52-11ec";

fn answer(data: Value) -> Reply {
    reply(200, json!({"Code": "Success", "Data": data, "Message": "Success.", "TaskId": ""}).to_string())
}

fn refused(status: u16, code: &str) -> Reply {
    reply(status, json!({"Code": code, "Message": "the vendor's words", "Data": null}).to_string())
}

fn described(change: impl FnOnce(&mut Value)) -> Reply {
    let mut data = json!({"CertificateId": ID, "CertificateName": "shop", "CertificateType": "DV", "Brand": "Encryption Everywhere DV TLS CA - G1",
        "Certificate": PEM, "PirvateKey": KEY, "PublicKey": "x", "Domain": "api.example.com", "StartTime": "2020-02-26 00:00:00",
        "EndTime": "2021-02-25 12:00:00", "Organization": "DigiCert Inc", "Valid": 1});
    change(&mut data);
    answer(data)
}

fn pieces(fetched: &Fetched) -> Vec<(String, String)> {
    let Payload::Pem(pieces) = &fetched.payload else { panic!("not PEM") };
    pieces.iter().map(|piece| (piece.name.clone(), String::from_utf8(piece.bytes.to_vec()).unwrap())).collect()
}

async fn fetch(reply: Reply) -> Result<Fetched, certsyncd::provider::Error> {
    let server = Server::of([reply]).await;
    cds(&server).fetch(ID).await
}

#[tokio::test]
async fn describes_with_a_signature_that_fits_the_wire() {
    let server = Server::of([described(|_| {})]).await;
    let fetched = cds(&server).fetch(ID).await.unwrap();
    assert_eq!((fetched.id.as_str(), fetched.valid, fetched.notes.len()), (ID, Some(Valid::Valid), 0));
    assert_eq!(pieces(&fetched), [("Certificate".into(), PEM.into()), ("PirvateKey".into(), KEY.into())]);

    let asked = &server.asked()[0];
    let query = asked.query();
    assert_eq!((asked.method.as_str(), asked.path()), ("GET", "/lb/"));
    assert_eq!((query["Action"].as_str(), query["Version"].as_str()), ("DescribeCACertificate", "2019-08-08"));
    assert_eq!((query["Timestamp"].as_str(), query["CertificateId"].as_str()), (NOW, ID));
    let unsigned = vendor::sign::Unsigned {
        action: "DescribeCACertificate",
        parameters: &[("CertificateId", ID)],
        nonce: &query["SignatureNonce"],
        now: NOW.parse().unwrap(),
    };
    assert_eq!(asked.target, format!("/lb/?{}", vendor::sign::sign(&unsigned, &AK.into(), &SK.into())));
}

#[tokio::test]
async fn a_nonce_is_never_used_twice() {
    let server = Server::start(|_, n| if n % 3 < 2 { reply(500, "") } else { answer(json!([])) }).await;
    let client = cds(&server);
    for _ in 0..20 {
        client.list().await.unwrap();
    }
    let nonces: BTreeSet<String> = server.asked().iter().map(|asked| asked.query()["SignatureNonce"].clone()).collect();
    assert_eq!((nonces.len(), server.count()), (60, 60));
    assert!(nonces.iter().all(|nonce| nonce.len() == 36));
}

#[tokio::test]
async fn the_key_in_either_spelling() {
    let set = |pirvate: Value, private: Value| {
        described(move |data| {
            data["PirvateKey"] = pirvate;
            data["PrivateKey"] = private;
        })
    };
    for (reply, name) in [
        (set(json!(KEY), json!("")), "PirvateKey"),
        (set(json!(""), json!(KEY)), "PrivateKey"),
        (set(json!(null), json!(KEY)), "PrivateKey"),
        (set(json!(" \n"), json!(KEY)), "PrivateKey"),
    ] {
        assert_eq!(pieces(&fetch(reply).await.unwrap())[1], (name.to_owned(), KEY.to_owned()));
    }
    let none = fetch(set(json!(""), json!(null))).await.unwrap();
    assert_eq!(pieces(&none).len(), 1);
    assert!(none.notes[0].contains("key_file"));
    let odd = fetch(set(json!([KEY]), json!(null))).await.err().unwrap();
    assert!(odd.kind() == "bad_answer" && !format!("{odd:?}").contains("TOPSECRET"));
}

#[tokio::test]
async fn valid_is_one_of_three_or_unknown() {
    for (told, valid, noted) in [
        (json!(0), Some(Valid::Expired), false),
        (json!(1), Some(Valid::Valid), false),
        (json!(2), Some(Valid::Expiring), false),
        (json!(3), None, true),
        (json!(-1), None, true),
        (json!("1"), None, true),
        (json!(1.5), None, true),
        (json!(null), None, false),
    ] {
        let fetched = fetch(described(|data| data["Valid"] = told.clone())).await.unwrap();
        assert_eq!((fetched.valid, !fetched.notes.is_empty()), (valid, noted), "{told}");
    }
}

#[tokio::test]
async fn another_certificate_than_asked_for_is_refused() {
    for (told, why) in [(json!("another"), "`another`"), (json!(null), "names no"), (json!(""), "``")] {
        let error = fetch(described(|data| data["CertificateId"] = told)).await.err().unwrap();
        assert_eq!(error.kind(), "bad_answer");
        assert!(error.cause().to_string().contains(why), "{error:?}");
    }
    for empty in [described(|data| data["Certificate"] = json!("")), answer(json!(null)), answer(json!("")), answer(json!([]))] {
        assert_eq!(fetch(empty).await.err().unwrap().kind(), "bad_answer");
    }
}

#[tokio::test]
async fn every_documented_error_with_its_status_and_with_200() {
    for (status, code, kind, transient) in [
        (400, "ArgMissing", "refused", false),
        (400, "InvalidParameter", "refused", false),
        (400, "BadArgs", "refused", false),
        (400, "UnsupportedOperation", "refused", false),
        (404, "ResourceNotFound", "not_found", false),
        (409, "ResourceInUse", "refused", true),
        (500, "InternalError", "server", true),
        (429, "Throttling", "throttled", true),
        (403, "SignatureDoesNotMatch", "unauthorized", false),
        (404, "InvalidAccessKeyId.NotFound", "unauthorized", false),
        (403, "Forbidden.RAM", "forbidden", false),
    ] {
        for status in [status, 200] {
            let server = Server::of([refused(status, code)]).await;
            let error = cds(&server).fetch(ID).await.err().unwrap();
            assert_eq!((error.kind(), error.is_transient()), (kind, transient), "{status} {code}");
            assert_eq!(server.count(), if transient { 3 } else { 1 }, "{status} {code}");
            assert_eq!(error.cause().to_string(), format!("server said {status}: `{code}` the vendor's words"));
            assert_eq!(error.is_gone(), code == "ResourceNotFound");
            assert_eq!(error.hint().is_some(), matches!(kind, "not_found" | "unauthorized" | "forbidden"), "{code}");
        }
    }
}

#[tokio::test]
async fn what_is_not_the_apis_json() {
    for (reply, kind) in [
        (reply(200, "<html>sign in</html>"), "bad_answer"),
        (reply(200, ""), "bad_answer"),
        (reply(200, "{}"), "bad_answer"),
        (reply(200, "[1]"), "bad_answer"),
        (reply(200, format!("{{\"Code\":\"Success\",\"Data\":{}", "[".repeat(500_000))), "connect"),
        (reply(200, format!("{{\"Code\":\"Success\",\"Data\":{}1{}}}", "[".repeat(200_000), "]".repeat(200_000))), "bad_answer"),
        (reply(502, "<html>Bad Gateway</html>"), "server"),
        (reply(404, "not here"), "not_found"),
        (reply(401, "who are you"), "unauthorized"),
    ] {
        let error = fetch(reply).await.err().unwrap();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(!error.is_gone());
    }
}

#[tokio::test]
async fn lists_the_whole_account_in_one_call() {
    let one = |id: &str, domain: Value, valid: i64| {
        json!({"CertificateId": id, "CertificateName": "n", "CertificateType": "DV", "Brand": "b",
        "Domain": domain, "StartTime": "2020-02-26 00:00:00", "EndTime": "2021-02-25 12:00:00", "Valid": valid})
    };
    let all = json!([
        one("a", json!("API.example.com"), 1),
        one("b", json!(null), 0),
        one("c", json!("*.x.org"), 2),
        one("d", json!("d"), 9),
        one("a", json!("twice"), 1)
    ]);
    let server = Server::of([answer(all)]).await;
    let client = cds(&server);
    let listing = client.list().await.unwrap();
    assert!(listing.complete && server.count() == 1);
    assert_eq!(server.asked()[0].query()["Action"], "DescribeCACertificates");
    let brief: Vec<_> = listing.certificates.iter().map(|c| (c.id.as_str(), c.names.join(","), c.valid, c.deployable)).collect();
    assert_eq!(
        brief,
        [
            ("a", "api.example.com".to_owned(), Some(Valid::Valid), true),
            ("b", String::new(), Some(Valid::Expired), false),
            ("c", "*.x.org".to_owned(), Some(Valid::Expiring), true),
            ("d", "d".to_owned(), None, true),
        ]
    );
    assert_eq!(listing.certificates[0].not_after.as_deref(), Some("2021-02-25 12:00:00"));
    assert!(listing.notes.len() == 1 && listing.notes[0].contains("`d`: `Valid` is 9"), "{:?}", listing.notes);
    assert_eq!(client.show("a").await.unwrap(), None);
    assert_eq!(server.count(), 1);

    for empty in [json!([]), json!(null), json!("")] {
        let listing = cds(&Server::of([answer(empty)]).await).list().await.unwrap();
        assert!(listing.complete && listing.certificates.is_empty());
    }
    let nameless = cds(&Server::of([answer(json!([{"Domain": "x"}]))]).await).list().await.err().unwrap();
    assert_eq!(nameless.kind(), "bad_answer");
}

#[tokio::test]
async fn ten_thousand_are_listed() {
    let all: Vec<Value> = (0..10_000)
        .map(|n| json!({"CertificateId": format!("id-{n}"), "Domain": format!("h{n}.example.com"), "Valid": 7}))
        .collect();
    let server = Server::of([answer(json!(all))]).await;
    let listing = cds(&server).list().await.unwrap();
    assert_eq!(listing.certificates.len(), 10_000);
    assert!(listing.notes.len() <= 20);
}

#[tokio::test]
async fn a_rejected_key_is_not_tried_again() {
    let server = Server::of([refused(403, "SignatureDoesNotMatch")]).await;
    let client = cds(&server);
    for _ in 0..5 {
        let error = client.fetch(ID).await.err().unwrap();
        assert_eq!(error.kind(), "unauthorized");
        assert!(error.hint().unwrap().contains("access key"));
    }
    assert_eq!(server.count(), 1);
    client.forget();
    client.list().await.err().unwrap();
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn an_error_page_that_quotes_the_url_is_masked() {
    let server =
        Server::start(|asked, _| reply(403, format!("<p>blocked: {}</p> {}", asked.target, asked.query()["Signature"]))).await;
    let error = cds(&server).fetch(ID).await.err().unwrap();
    let query = server.asked()[0].query();
    let said = format!("{error:?}");
    assert!(said.contains("[masked]"), "{said}");
    assert!(!said.contains(AK) && !said.contains(&query["Signature"]), "{said}");
}

#[tokio::test]
async fn probes() {
    let server = Server::of([answer(json!([{"CertificateId": "a", "Valid": 1}]))]).await;
    let probes = cds(&server).probe().await;
    assert_eq!(probes[1].words, "1 certificate, 1 deployable");
    let server = Server::of([refused(403, "Forbidden")]).await;
    let probes = cds(&server).probe().await;
    assert!(!probes[1].ok && probes[1].hint.as_deref().unwrap().contains("vendor's console"));
}

//! Huawei's calls against a scripted server: what goes over the wire, what each answer means.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod scripted;

use certsyncd::config::{Huawei, HuaweiApi};
use certsyncd::provider::huawei::sign;
use certsyncd::provider::{Client, Fetched, Payload};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use scripted::*;

const ID: &str = "scs1554192131150";

fn pieces(fetched: Fetched) -> Vec<(String, String)> {
    let Payload::Pem(pieces) = fetched.payload else { panic!("not PEM") };
    pieces.into_iter().map(|piece| (piece.name, String::from_utf8(piece.bytes.to_vec()).unwrap())).collect()
}

/// The signature a server would compute for what came over the wire.
fn expected_authorization(server: &Server, asked: &Asked) -> String {
    let path: Vec<String> = asked.path().trim_start_matches('/').split('/').map(str::to_owned).collect();
    let query: Vec<(String, String)> = asked.query().into_iter().collect();
    let names = ["X-Project-Id", "X-Domain-Id", "X-Certsyncd-Nonce"];
    let headers: Vec<(&'static str, String)> = names
        .into_iter()
        .filter_map(|name| asked.headers.get(&name.to_ascii_lowercase()).map(|value| (name, value.clone())))
        .collect();
    let (access, secret) = (AK.into(), SK.into());
    let token = asked.headers.get("x-security-token").map(|token| token.as_str().into());
    let key = sign::Key { access: &access, secret: &secret, security_token: token.as_ref() };
    let host = format!("127.0.0.1:{}", server.url.port().unwrap());
    assert_eq!(asked.header("host"), host);
    let unsigned = sign::Unsigned {
        method: &asked.method,
        host: &host,
        path: &path,
        query: &query,
        headers: &headers,
        body: asked.body.as_bytes(),
    };
    let date = DateTime::strptime("%Y%m%dT%H%M%SZ", asked.header("x-sdk-date")).unwrap();
    let signed = sign::sign(&unsigned, &key, date.to_zoned(TimeZone::UTC).unwrap().timestamp());
    signed.into_iter().find(|(name, _)| *name == "Authorization").unwrap().1
}

#[tokio::test]
async fn exports_with_a_signature_that_fits_the_wire() {
    let server = Server::of([exported()]).await;
    let settings = Huawei { domain_id: Some("d0".into()), ..huawei_settings(&server.url, access_key()) };
    let fetched = huawei(settings, &clock()).fetch(ID).await.unwrap();
    assert_eq!((fetched.id.as_str(), fetched.valid, fetched.notes.len()), (ID, None, 0));
    let pieces = pieces(fetched);
    assert_eq!(pieces[0], ("entire_certificate".into(), format!("{PEM}{PEM}")));
    assert_eq!(pieces[1], ("private_key".into(), KEY.into()));

    let asked = &server.asked()[0];
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/v3/scm/certificates/scs1554192131150/export"));
    assert_eq!(asked.header("content-length"), "0");
    assert_eq!(asked.header("x-project-id"), "0123456789abcdef0123456789abcdef");
    assert_eq!(asked.header("x-domain-id"), "d0");
    assert_eq!(asked.header("authorization"), expected_authorization(&server, asked));
    assert!(asked.header("authorization").contains("SignedHeaders=host;x-certsyncd-nonce;x-domain-id;x-project-id;x-sdk-date,"));
}

#[tokio::test]
async fn a_temporary_key_signs_its_security_token() {
    let server = Server::of([exported()]).await;
    let auth = certsyncd::config::HuaweiAuth::AccessKey {
        access_key: plain(AK),
        secret_key: plain(SK),
        security_token: Some(plain("temporary-token")),
    };
    huawei(huawei_settings(&server.url, auth), &clock()).fetch(ID).await.unwrap();
    let asked = &server.asked()[0];
    assert_eq!(asked.header("x-security-token"), "temporary-token");
    assert!(asked.header("authorization").contains("x-sdk-date;x-security-token,"));
    assert_eq!(asked.header("authorization"), expected_authorization(&server, asked));
}

#[tokio::test]
async fn an_endpoint_with_a_folder_and_an_odd_id_are_signed_as_sent() {
    let server = Server::of([exported()]).await;
    let settings = Huawei { endpoint: server.url.join("/gate%20way").unwrap(), ..huawei_settings(&server.url, access_key()) };
    let client = huawei(settings, &clock());
    client.fetch("a/b ü").await.unwrap();
    assert_eq!(server.asked()[0].target, "/gate%20way/v3/scm/certificates/a%2Fb%20%C3%BC/export");
    for bad in ["", ".", "..", "a\nb", &"x".repeat(129)] {
        let error = client.fetch(bad).await.err().unwrap();
        assert_eq!(error.kind(), "refused", "{bad}");
    }
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn an_export_in_parts_without_a_key_or_with_two() {
    let export = |body: serde_json::Value| async move {
        let server = Server::of([reply(200, body.to_string())]).await;
        exporter(&server).fetch(ID).await
    };
    let names = |fetched: Fetched| pieces(fetched).into_iter().map(|(name, _)| name).collect::<Vec<_>>();

    let older = export(serde_json::json!({"certificate": PEM, "certificate_chain": PEM, "private_key": KEY})).await.unwrap();
    assert_eq!(names(older), ["certificate", "certificate_chain", "private_key"]);
    let whole = serde_json::json!({"entire_certificate": format!("{PEM}{PEM}"), "certificate": PEM, "certificate_chain": PEM, "private_key": KEY});
    assert_eq!(names(export(whole).await.unwrap()), ["entire_certificate", "private_key"]);
    let short = serde_json::json!({"entire_certificate": PEM, "certificate_chain": PEM, "private_key": KEY});
    assert_eq!(names(export(short).await.unwrap()), ["entire_certificate", "certificate_chain", "private_key"]);

    let own = export(serde_json::json!({"entire_certificate": PEM, "private_key": null, "enc_certificate": null})).await.unwrap();
    assert!(own.notes[0].contains("key_file"), "{:?}", own.notes);
    assert_eq!(names(own), ["entire_certificate"]);

    let sm2 = export(
        serde_json::json!({"entire_certificate": PEM, "private_key": KEY, "enc_certificate": PEM, "enc_private_key": KEY}),
    )
    .await;
    let sm2 = sm2.err().unwrap();
    assert_eq!((sm2.kind(), sm2.is_transient()), ("refused", false));
    assert!(sm2.cause().to_string().contains("SM2"));

    for empty in [serde_json::json!({}), serde_json::json!({"entire_certificate": " ", "private_key": KEY})] {
        assert_eq!(export(empty).await.err().unwrap().kind(), "bad_answer");
    }
}

#[tokio::test]
async fn an_answer_of_another_shape_never_quotes_a_key() {
    let bodies = [
        serde_json::json!({"entire_certificate": PEM, "private_key": {"value": KEY}}).to_string(),
        serde_json::json!({"entire_certificate": [KEY], "private_key": KEY}).to_string(),
        serde_json::json!([KEY]).to_string(),
        serde_json::json!({"entire_certificate": PEM, "private_key": KEY}).to_string().replace('}', "]"),
        KEY.to_owned(),
        format!("{}{KEY}", "[".repeat(100_000)),
        format!("{{\"private_key\":{}{KEY}}}", "[".repeat(100_000)),
    ];
    for body in bodies {
        let server = Server::of([reply(200, body.clone())]).await;
        let error = exporter(&server).fetch(ID).await.err().unwrap();
        assert_eq!((error.kind(), error.is_transient()), ("bad_answer", false));
        let said = format!("{error:?} {error} {:?}", error.to_failure());
        assert!(!said.contains("TOPSECRET") && !said.contains("PRIVATE"), "{said}");
    }
}

#[tokio::test]
async fn an_answer_cut_short_by_a_proxy_that_mends_its_length_is_tried_again() {
    let whole = exported();
    let half = reply(200, whole.body[..whole.body.len() - 20].to_vec());
    let server = Server::of([half.clone(), whole]).await;
    exporter(&server).fetch(ID).await.unwrap();
    let server = Server::of([half]).await;
    let error = exporter(&server).fetch(ID).await.err().unwrap();
    assert_eq!((error.kind(), error.is_transient(), server.count()), ("connect", true, 3));
    assert!(!format!("{error:?}").contains("TOPSECRET"));
}

struct Case {
    status: u16,
    code: &'static str,
    kind: &'static str,
    transient: bool,
    requests: usize,
    hint: &'static str,
}

const ERRORS: [Case; 20] = [
    Case { status: 400, code: "SCM.0008", kind: "not_found", transient: false, requests: 1, hint: "certsyncd list" },
    Case { status: 400, code: "SCM.0020", kind: "not_found", transient: false, requests: 1, hint: "certsyncd list" },
    Case { status: 400, code: "SCM.0010", kind: "refused", transient: false, requests: 1, hint: "issued" },
    Case { status: 400, code: "SCM.0059", kind: "refused", transient: false, requests: 1, hint: "key_file" },
    Case { status: 400, code: "SCM.9999", kind: "refused", transient: false, requests: 1, hint: "" },
    Case { status: 401, code: "SCM.1000", kind: "unauthorized", transient: false, requests: 1, hint: "access key" },
    Case { status: 401, code: "SCM.1009", kind: "forbidden", transient: false, requests: 1, hint: "restricted" },
    Case { status: 401, code: "SCM.1010", kind: "forbidden", transient: false, requests: 1, hint: "frozen" },
    Case { status: 401, code: "SCM.4002", kind: "forbidden", transient: false, requests: 1, hint: "`scm:cert:export`" },
    Case { status: 401, code: "APIGW.0301", kind: "unauthorized", transient: false, requests: 1, hint: "access key" },
    Case { status: 403, code: "SCM.0002", kind: "forbidden", transient: false, requests: 1, hint: "project_id" },
    Case { status: 403, code: "PAP5.0011", kind: "forbidden", transient: false, requests: 1, hint: "`scm:cert:export`" },
    Case { status: 404, code: "APIGW.0101", kind: "not_found", transient: false, requests: 1, hint: "" },
    Case { status: 429, code: "APIGW.0308", kind: "throttled", transient: true, requests: 3, hint: "" },
    Case { status: 500, code: "SCM.0007", kind: "server", transient: true, requests: 3, hint: "" },
    Case { status: 500, code: "SCM.0038", kind: "server", transient: true, requests: 3, hint: "" },
    Case { status: 500, code: "SCM.4001", kind: "server", transient: true, requests: 3, hint: "" },
    Case { status: 502, code: "", kind: "server", transient: true, requests: 3, hint: "" },
    Case { status: 503, code: "", kind: "server", transient: true, requests: 3, hint: "" },
    Case { status: 504, code: "", kind: "server", transient: true, requests: 3, hint: "" },
];

#[tokio::test]
async fn every_documented_error() {
    for Case { status, code, kind, transient, requests, hint } in ERRORS {
        let server = Server::of([scm_error(status, code, "the vendor's words")]).await;
        let client = exporter(&server);
        let error = client.fetch(ID).await.err().unwrap();
        assert_eq!((error.kind(), error.is_transient(), server.count()), (kind, transient, requests), "{status} {code}");
        assert_eq!(error.is_gone(), matches!(code, "SCM.0008" | "SCM.0020"), "{code}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{code}: {:?}", error.hint());
        let failure = error.to_failure();
        let tries = if requests > 1 { " after 3 tries in " } else { "" };
        assert!(failure.causes[0].starts_with(&format!("failed to export certificate `{ID}`{tries}")), "{}", failure.causes[0]);
        assert_eq!(failure.causes[1], format!("server said {status}: `{code}` the vendor's words"), "{code}");
        let calls = client.take_calls();
        assert_eq!(calls[&("export", kind)], requests as u64);
        assert!(client.take_calls().is_empty());
    }
}

#[tokio::test]
async fn an_error_with_status_200() {
    let server = Server::of([scm_error(200, "SCM.0020", "Incorrect certificate ID.")]).await;
    let error = exporter(&server).fetch(ID).await.err().unwrap();
    assert_eq!((error.kind(), error.code(), error.is_gone()), ("not_found", Some("SCM.0020"), true));
}

fn downloader(server: &Server) -> Client {
    huawei(Huawei { api: HuaweiApi::Download, ..huawei_settings(&server.url, access_key()) }, &clock())
}

#[tokio::test]
async fn downloads_bytes_whatever_they_are_called() {
    let bytes = b"PK\x03\x04 and so on".to_vec();
    let server = Server::of([reply(200, bytes.clone()).header("content-type", "application/x-rar")]).await;
    let fetched = downloader(&server).fetch(ID).await.unwrap();
    let Payload::Archive(archive) = fetched.payload else { panic!("not an archive") };
    assert_eq!(*archive, bytes);
    let asked = &server.asked()[0];
    assert_eq!(asked.target, format!("/v2/0123456789abcdef0123456789abcdef/scm/cert/{ID}/cert_file"));
    assert_eq!(asked.header("authorization"), expected_authorization(&server, asked));
}

#[tokio::test]
async fn a_download_of_200_may_be_an_error() {
    let cases = [
        (scm_error(200, "SCM.0020", "Incorrect certificate ID."), "not_found", 1),
        (scm_error(200, "SCM.0007", "failed"), "server", 3),
        (reply(200, "\n {\"odd\": 1}"), "bad_answer", 1),
        (reply(200, "<html><body>Please log in</body></html>"), "bad_answer", 1),
        (reply(200, ""), "bad_answer", 1),
        (reply(200, " \r\n"), "bad_answer", 1),
    ];
    for (answer, kind, requests) in cases {
        let server = Server::of([answer]).await;
        let error = downloader(&server).fetch(ID).await.err().unwrap();
        assert_eq!((error.kind(), server.count()), (kind, requests), "{error:?}");
    }
}

#[tokio::test]
async fn a_download_needs_a_project() {
    let server = Server::of([reply(200, "PK")]).await;
    let settings = Huawei { api: HuaweiApi::Download, project_id: None, ..huawei_settings(&server.url, access_key()) };
    let error = huawei(settings, &clock()).fetch(ID).await.err().unwrap();
    assert_eq!((error.kind(), server.count()), ("refused", 0));
    assert!(error.cause().to_string().contains("project_id"));
}

#[tokio::test]
async fn shows_one() {
    let body = serde_json::json!({"id": ID, "name": "shop", "domain": "WWW.Example.com", "sans": "example.com;a.example.com, WWW.example.com",
        "status": "ISSUED", "type": "DV_SSL_CERT", "brand": "GEOTRUST", "not_before": "2021-05-27 16:46:25.0", "not_after": "2022-05-27 16:46:25.0",
        "fingerprint": "AB:CD:ef:01", "order_id": null, "unknown": [1]});
    let server = Server::of([reply(200, body.to_string())]).await;
    let client = exporter(&server);
    let listed = client.show(ID).await.unwrap().unwrap();
    assert_eq!(listed.names, ["www.example.com", "example.com", "a.example.com"]);
    assert_eq!(listed.fingerprint.as_deref(), Some("abcdef01"));
    assert_eq!(listed.not_after.as_deref(), Some("2022-05-27 16:46:25.0"));
    assert!(listed.deployable && listed.why_not.is_none());
    assert_eq!(server.asked()[0].target, format!("/v3/scm/certificates/{ID}"));
    let error = client.show("another").await.err().unwrap();
    assert_eq!(error.kind(), "bad_answer");
}

#[tokio::test]
async fn only_issued_and_uploaded_are_deployable() {
    for (status, words) in [
        (serde_json::json!("ISSUED"), None),
        (serde_json::json!("UPLOAD"), None),
        (serde_json::json!("REVOKED"), Some("its status is `REVOKED`")),
        (serde_json::json!("NEW_ONE"), Some("its status `NEW_ONE` is not known")),
        (serde_json::json!(null), Some("the provider tells no status")),
    ] {
        let server = Server::of([reply(200, serde_json::json!({"id": ID, "status": status}).to_string())]).await;
        let listed = exporter(&server).show(ID).await.unwrap().unwrap();
        assert_eq!((listed.deployable, listed.why_not.as_deref()), (words.is_none(), words));
    }
}

fn page_of(ids: std::ops::Range<usize>, total: Option<usize>) -> Reply {
    let certificates: Vec<_> =
        ids.map(|n| serde_json::json!({"id": format!("scs{n}"), "status": "ISSUED", "expire_time": "2022"})).collect();
    reply(200, serde_json::json!({"certificates": certificates, "total_count": total}).to_string())
}

/// An account of `held` certificates of which `listed` can be reached.
async fn account(held: usize, listed: usize, total: bool) -> (Server, certsyncd::provider::Listing) {
    let server = Server::start(move |asked, _| {
        let offset: usize = asked.query()["offset"].parse().unwrap();
        // beyond its maximum the server repeats the last page
        let offset = if listed < held { offset.min(listed.saturating_sub(50)) } else { offset };
        page_of(offset..(offset + 50).min(held), total.then_some(held))
    })
    .await;
    let listing = exporter(&server).list().await.unwrap();
    (server, listing)
}

#[tokio::test]
async fn walks_a_listing_to_its_end() {
    for (held, requests) in [(0, 1), (1, 1), (50, 1), (51, 2), (1000, 20)] {
        let (server, listing) = account(held, held, true).await;
        assert_eq!((listing.certificates.len(), listing.complete, server.count()), (held, true, requests));
        assert!(listing.notes.is_empty());
    }
    let (server, listing) = account(120, 120, false).await;
    assert_eq!((listing.certificates.len(), listing.complete, server.count()), (120, true, 3));
    let asked = &server.asked()[1];
    assert_eq!(asked.target, "/v3/scm/certificates?limit=50&offset=50&sort_dir=DESC&sort_key=certExpiredTime");
    assert_eq!(asked.header("authorization"), expected_authorization(&server, asked));
}

#[tokio::test]
async fn a_listing_that_cannot_be_walked_says_so() {
    let (server, listing) = account(1000, 150, true).await;
    assert_eq!((listing.certificates.len(), listing.complete, server.count()), (150, false, 4));
    assert!(listing.notes[0].contains("150 of 1000"), "{:?}", listing.notes);

    let server = Server::start(|asked, _| match asked.query()["offset"].parse().unwrap() {
        offset @ 0..150 => page_of(offset..offset + 50, Some(1000)),
        _ => scm_error(400, "SCM.0003", "offset is beyond its maximum"),
    })
    .await;
    let listing = exporter(&server).list().await.unwrap();
    assert_eq!((listing.certificates.len(), listing.complete), (150, false));

    // a page in the middle that fails for another reason fails the walk: half an account must not look like all of it
    let server = Server::start(|asked, _| match asked.query()["offset"].parse().unwrap() {
        offset @ 0..50 => page_of(offset..offset + 50, Some(1000)),
        _ => scm_error(401, "SCM.4002", "no"),
    })
    .await;
    let error = exporter(&server).list().await.err().unwrap();
    assert!(error.hint().unwrap().contains("`scm:cert:list`"));
}

#[tokio::test]
async fn an_endless_listing_ends() {
    let server = Server::start(|asked, _| {
        let offset: usize = asked.query()["offset"].parse().unwrap();
        page_of(offset..offset + 1, Some(usize::MAX >> 1))
    })
    .await;
    let listing = exporter(&server).list().await.unwrap();
    assert_eq!((server.count(), listing.complete), (certsyncd::provider::huawei::PAGES, false));
}

#[tokio::test]
async fn a_listing_is_narrowed_to_its_enterprise_project() {
    let server = Server::of([page_of(0..1, Some(1))]).await;
    let settings = Huawei { enterprise_project_id: Some("all".into()), ..huawei_settings(&server.url, access_key()) };
    huawei(settings, &clock()).list().await.unwrap();
    assert_eq!(server.asked()[0].query()["enterprise_project_id"], "all");
    assert_eq!(server.asked()[0].header("authorization"), expected_authorization(&server, &server.asked()[0]));
}

#[tokio::test]
async fn probes_say_what_works_and_what_is_missing() {
    let server = Server::start(|asked, _| match asked.path() {
        "/v3/scm/certificates" => page_of(0..3, Some(3)),
        _ => scm_error(401, "SCM.4002", "no permission"),
    })
    .await;
    let probes = exporter(&server).probe().await;
    let said: Vec<_> = probes.iter().map(|probe| (probe.what.as_str(), probe.ok)).collect();
    assert_eq!(
        said[..4],
        [("credential", true), ("list certificates", true), ("show a certificate", false), ("fetch a certificate", true)]
    );
    assert_eq!(probes[1].words, "3 certificates, 3 deployable");
    assert!(probes[2].hint.as_deref().unwrap().contains("`scm:cert:get`"));
    assert!(probes[3].words.contains("`scm:cert:export`"));
    assert!(server.asked().iter().all(|asked| asked.method == "GET"), "no key moves");
}

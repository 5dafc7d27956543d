//! Webhooks against stand-ins that check what the real other side checks.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]

mod alert_support;

use std::collections::BTreeMap;
use std::time::Duration;

use alert_support::*;
use base64::Engine;
use certsyncd::alert::{self, ANSWER_MAX};
use certsyncd::clock::Clock;
use certsyncd::config::{Channel, ChannelKind, Language, WebhookFormat};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const SECRET: &str = "SEC-0123456789abcdef";

fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn signed(hook: &Hook, format: WebhookFormat, secret: &str) -> Channel {
    let kind = ChannelKind::Webhook {
        url: plain(&hook.url("/robot/send?access_token=abcdef0123456789")),
        format,
        headers: BTreeMap::new(),
        secret: Some(plain(secret)),
        template: None,
    };
    channel("robot", kind)
}

/// Whether a timestamp in milliseconds is within an hour, as DingTalk and Feishu demand.
fn is_fresh(milliseconds: i64) -> bool {
    (Clock::system().now().as_millisecond() - milliseconds).abs() < 3_600_000
}

/// DingTalk: token, timestamp within the hour, sign, JSON, a known msgtype with its fields.
fn dingtalk(got: &Got) -> Answer {
    let refuse = |code: i64, words: &str| ok(&format!("{{\"errcode\":{code},\"errmsg\":\"{words}\"}}"));
    if got.method != "POST" || got.query("access_token") != "abcdef0123456789" {
        return refuse(300_001, "token is not exist");
    }
    let Ok(at) = got.query("timestamp").parse::<i64>() else { return refuse(310_000, "invalid timestamp") };
    if !is_fresh(at) {
        return refuse(310_000, "invalid timestamp");
    }
    if got.query("sign") != base64(&hmac(SECRET.as_bytes(), format!("{at}\n{SECRET}").as_bytes())) {
        return refuse(310_000, "sign not match");
    }
    if !got.headers["content-type"].starts_with("application/json") {
        return refuse(43_004, "header Content-Type must be application/json");
    }
    let body = got.json();
    let markdown = &body["markdown"];
    match (body["msgtype"].as_str(), markdown["title"].as_str(), markdown["text"].as_str()) {
        (Some("markdown"), Some(title), Some(text)) if !title.is_empty() && !text.is_empty() => refuse(0, "ok"),
        _ => refuse(40_035, "invalid parameter"),
    }
}

/// Feishu: timestamp in seconds within the hour and sign in the body, `msg_type` and `content`.
fn feishu(got: &Got) -> Answer {
    let refuse = |code: i64, words: &str| ok(&format!("{{\"code\":{code},\"data\":{{}},\"msg\":\"{words}\"}}"));
    let body = got.json();
    let Some(at) = body["timestamp"].as_str().and_then(|at| at.parse::<i64>().ok()) else {
        return refuse(19_021, "sign match fail");
    };
    if !is_fresh(at * 1_000) || body["sign"] != base64(&hmac(format!("{at}\n{SECRET}").as_bytes(), b"")) {
        return refuse(19_021, "sign match fail or timestamp is not within one hour from current time");
    }
    match (body["msg_type"].as_str(), body["content"]["text"].as_str()) {
        (Some("text"), Some(text)) if !text.is_empty() => refuse(0, "success"),
        _ => refuse(9_499, "Bad Request"),
    }
}

/// WeCom: `msgtype` and its content, at most 4,096 bytes.
fn wecom(got: &Got) -> Answer {
    let body = got.json();
    match (body["msgtype"].as_str(), body["markdown"]["content"].as_str()) {
        (Some("markdown"), Some(text)) if !text.is_empty() && text.len() <= 4_096 => ok("{\"errcode\":0,\"errmsg\":\"ok\"}"),
        _ => ok("{\"errcode\":40008,\"errmsg\":\"invalid message type\"}"),
    }
}

/// Slack: `text`, its markup escaped; answers `ok`.
fn slack(got: &Got) -> Answer {
    match got.json()["text"].as_str() {
        Some(text) if !text.is_empty() && !text.contains('<') => ok("ok"),
        _ => (400, vec![], "no_text".to_owned()),
    }
}

/// What the body of `format = "json"` must be: the contract's fields, all of them, no others.
fn contract(got: &Got) -> Answer {
    let body = got.json();
    let mut names: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut expected = [
        "at",
        "certificate",
        "certificates",
        "count",
        "days_left",
        "event",
        "fingerprint",
        "host",
        "id",
        "key",
        "message",
        "names",
        "not_after",
        "provider",
        "severity",
        "target",
        "valid",
        "version",
    ];
    expected.sort_unstable();
    let signature: String = hmac(SECRET.as_bytes(), got.body.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let fine = got.method == "POST"
        && got.headers["content-type"] == "application/json"
        && names == expected
        && got.headers.get("x-certsyncd-signature") == Some(&format!("sha256={signature}"));
    if fine { ok("taken") } else { status(400) }
}

#[tokio::test]
async fn robots_that_check_everything_take_it() {
    for format in
        [WebhookFormat::Json, WebhookFormat::Dingtalk, WebhookFormat::Feishu, WebhookFormat::Wecom, WebhookFormat::Slack]
    {
        let hook = Hook::start(move |got| match format {
            WebhookFormat::Json => contract(got),
            WebhookFormat::Dingtalk => dingtalk(got),
            WebhookFormat::Feishu => feishu(got),
            WebhookFormat::Wecom => wecom(got),
            WebhookFormat::Slack => slack(got),
        })
        .await;
        for language in [Language::En, Language::Zh] {
            let mut channel = signed(&hook, format, SECRET);
            channel.language = language;
            for event in [expiring(), expired()] {
                alert::send(&channel, &event).await.unwrap_or_else(|error| panic!("{format:?} {language:?}: {}", error.line()));
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_secret_is_refused_by_the_robot_with_200_and_that_is_a_failure() {
    for (format, hook) in
        [(WebhookFormat::Dingtalk, Hook::start(dingtalk).await), (WebhookFormat::Feishu, Hook::start(feishu).await)]
    {
        let error = alert::send(&signed(&hook, format, "another"), &expiring()).await.unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), ("refused", false));
        assert!(error.to_string().contains("310000") || error.to_string().contains("19021"), "{error}");
        assert!(error.hint().unwrap().contains("secret"));
    }
}

#[tokio::test]
async fn the_body_is_the_contracts() {
    let hook = Hook::start(|_| ok("")).await;
    assert_eq!(alert::send(&hook.channel("one"), &expiring()).await.unwrap(), "(nothing)");
    let body = hook.got()[0].json();
    assert_eq!(
        body,
        serde_json::json!({
            "version": 1, "event": "expiring", "severity": "warning", "host": "web-1", "certificate": "api", "provider": "shouyun",
            "id": "cert-1", "names": ["api.example.com"], "valid": null, "not_after": "2026-12-01T02:00:00Z", "days_left": 9,
            "fingerprint": "3f".repeat(32), "target": null, "certificates": ["api"], "count": 1, "key": "expiring/api/3f3f3f3f3f3f",
            "message": body["message"], "at": "2026-11-22T02:00:00Z"
        })
    );
    assert!(hook.got()[0].headers["user-agent"].starts_with("certsyncd/"));
    assert!(!hook.got()[0].headers.contains_key("x-certsyncd-signature"));
}

#[tokio::test]
async fn headers_come_from_secrets_and_a_template_replaces_the_body() {
    let hook = Hook::start(|_| ok("")).await;
    let kind = |template: &str| ChannelKind::Webhook {
        url: plain(&hook.url("/")),
        format: WebhookFormat::Json,
        headers: BTreeMap::from([("Authorization".to_owned(), plain("Bearer top-secret")), ("Title".to_owned(), plain("x"))]),
        secret: None,
        template: Some(template.to_owned()),
    };
    alert::send(&channel("c", kind(r#"{"topic":"tls","message":"{message}","n":{days_left}}"#)), &expiring()).await.unwrap();
    alert::send(&channel("c", kind("{title}: {names}")), &expiring()).await.unwrap();
    let got = hook.got();
    assert_eq!(got[0].headers["authorization"], "Bearer top-secret");
    assert_eq!((got[0].json()["n"].as_i64(), got[0].json()["topic"].as_str()), (Some(9), Some("tls")));
    assert_eq!(got[0].headers["content-type"], "application/json");
    assert_eq!(got[1].body, "[warning] expiring: api on web-1: api.example.com");
    assert_eq!(got[1].headers["content-type"], "text/plain; charset=utf-8");
    let error = alert::send(&channel("c", kind("{mesage}")), &expiring()).await.unwrap_err();
    assert!(error.to_string().contains("{mesage}"), "{error}");
    assert_eq!(alert::check(&[channel("c", kind("{mesage}"))]).len(), 1);
    assert_eq!(alert::check(&[channel("c", kind("{message}"))]), Vec::<String>::new());
}

#[tokio::test]
async fn every_no_is_an_error_without_the_address() {
    for (code, transient) in [
        (204, None),
        (301, Some(false)),
        (400, Some(false)),
        (401, Some(false)),
        (404, Some(false)),
        (408, Some(true)),
        (429, Some(true)),
        (500, Some(true)),
        (503, Some(true)),
    ] {
        let answer = move |got: &Got| {
            let elsewhere = format!("/elsewhere{}", got.path);
            (code, vec![("location", elsewhere)], format!("no route for {} here", got.path))
        };
        let hook = Hook::start(answer).await;
        let result = alert::send(&webhook("one", &hook.url("/token/0123456789abcdef"), WebhookFormat::Json), &expiring()).await;
        assert_eq!(result.as_ref().err().map(alert::Error::is_transient), transient, "{code}");
        if let Err(error) = result {
            assert!(error.line().contains(&code.to_string()) && !error.line().contains("0123456789abcdef"), "{}", error.line());
        }
        assert_eq!(hook.got().len(), 1, "{code}: no redirect is followed, nothing is tried twice");
    }
}

#[tokio::test]
async fn nobody_there_and_nobody_answering() {
    let gone = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let address = format!("http://{gone}/token/0123456789abcdef");
    let error = alert::send(&webhook("one", &address, WebhookFormat::Json), &expiring()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), ("transport", true));
    assert!(error.line().contains("refused") && !error.line().contains("0123456789abcdef"), "{}", error.line());
    assert!(!format!("{error:?}").contains("0123456789abcdef"), "{error:?}");

    let (dead, task) = mute().await;
    let mut channel = webhook("one", &format!("http://{dead}/"), WebhookFormat::Json);
    channel.timeout = Duration::from_millis(200);
    let error = alert::send(&channel, &expiring()).await.unwrap_err();
    assert!(error.is_transient(), "{}", error.line());
    task.abort();
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let hook = Hook::start(|_| ok(&"x".repeat(4 * ANSWER_MAX))).await;
    let answer = alert::send(&hook.channel("one"), &expiring()).await.unwrap();
    assert!(answer.chars().count() <= 300);
    // the error code is looked for within the bound only
    let hook = Hook::start(|_| ok(&format!("{}{{\"errcode\":0}}", " ".repeat(ANSWER_MAX)))).await;
    assert!(alert::send(&webhook("w", &hook.url("/"), WebhookFormat::Wecom), &expiring()).await.is_err());
    let hook = Hook::start(|_| ok(&format!("{}{{\"errcode\":0}}", " ".repeat(ANSWER_MAX - 13)))).await;
    assert!(alert::send(&webhook("w", &hook.url("/"), WebhookFormat::Wecom), &expiring()).await.is_ok());
}

#[tokio::test]
async fn plain_http_stays_on_this_machine() {
    let error = alert::send(&webhook("one", "http://192.0.2.1/token/0123456789abcdef", WebhookFormat::Json), &expiring())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), "settings");
    assert!(!error.line().contains("0123456789abcdef"));
}

#[tokio::test]
async fn a_test_is_marked_and_passes_every_filter() {
    let hook = Hook::start(|_| ok("hello")).await;
    let mut channel = hook.channel("ops");
    channel.min_severity = certsyncd::config::Severity::Critical;
    assert_eq!(alert::test(&channel, "web-1", &Clock::system()).await.unwrap(), "hello");
    let body = hook.got()[0].json();
    assert_eq!((body["event"].as_str(), body["key"].as_str()), (Some("test"), Some("test/ops")));
    assert!(body["message"].as_str().unwrap().starts_with("This is a test of channel `ops`"));
}

#[tokio::test]
async fn the_heartbeat_is_a_get_that_wants_a_2xx() {
    let hook = Hook::start(|got| if got.path == "/ping/well" { ok("OK") } else { status(404) }).await;
    alert::heartbeat(&plain(&hook.url("/ping/well"))).await.unwrap();
    assert_eq!((hook.got()[0].method.as_str(), hook.got()[0].body.as_str()), ("GET", ""));
    let error = alert::heartbeat(&plain(&hook.url("/ping/0123456789abcdef"))).await.unwrap_err();
    assert!(!error.line().contains("0123456789abcdef"), "{}", error.line());
}

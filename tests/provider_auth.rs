//! Every way to authenticate at Huawei, and what happens to a rejected credential.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod scripted;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use certsyncd::clock::Clock;
use certsyncd::config::secret::Source;
use certsyncd::config::{Cloud, HuaweiAuth};
use certsyncd::provider::{Client, LONGEST_GAP};
use jiff::{SignedDuration, Timestamp};
use scripted::*;
use url::Url;

const ID: &str = "scs1554192131150";
const PASSWORD: &str = "correct horse \"battery\"";

fn password() -> HuaweiAuth {
    HuaweiAuth::Password { user: plain("iam-user"), password: plain(PASSWORD), domain: "account".into(), project: None }
}

fn client(server: &Server, auth: HuaweiAuth, clock: &Clock) -> Client {
    huawei(huawei_settings(&server.url, auth), clock)
}

fn later(clock: &Clock, span: SignedDuration) {
    clock.set(clock.now() + span);
}

fn token(n: usize, ends: &str) -> Reply {
    reply(201, serde_json::json!({"token": {"expires_at": ends, "issued_at": NOW}}).to_string())
        .header("X-Subject-Token", format!("token-{n}"))
}

const IN_A_DAY: &str = "2026-11-23T02:00:00.000000Z";

fn of<'a>(asked: &'a [Asked], path: &str) -> Vec<&'a Asked> {
    asked.iter().filter(|asked| asked.path() == path).collect()
}

const TOKENS: &str = "/v3/auth/tokens";

#[tokio::test]
async fn a_password_becomes_one_token_for_all() {
    let server = Server::start(|asked, n| if asked.path() == TOKENS { token(n, IN_A_DAY) } else { exported() }).await;
    let client = client(&server, password(), &clock());
    for result in futures_util::future::join_all((0..8).map(|_| client.fetch(ID))).await {
        result.unwrap();
    }
    let asked = server.asked();
    let wishes = of(&asked, TOKENS);
    assert_eq!((wishes.len(), asked.len()), (1, 9));
    assert_eq!((wishes[0].method.as_str(), wishes[0].header("content-type")), ("POST", "application/json"));
    let wish: serde_json::Value = serde_json::from_str(&wishes[0].body).unwrap();
    let user = &wish["auth"]["identity"]["password"]["user"];
    assert_eq!(
        (user["name"].as_str(), user["password"].as_str(), user["domain"]["name"].as_str()),
        (Some("iam-user"), Some(PASSWORD), Some("account"))
    );
    assert_eq!(wish["auth"]["scope"]["project"]["name"], "cn-north-4");
    assert!(asked[1..].iter().all(|asked| asked.header("x-auth-token") == "token-0" && asked.header("authorization").is_empty()));
    let calls = client.take_calls();
    assert_eq!((calls[&("token", "ok")], calls[&("export", "ok")]), (1, 8));
}

#[tokio::test]
async fn a_token_is_renewed_ahead_and_outlives_a_failing_renewal() {
    let down = Arc::new(AtomicBool::new(false));
    let iam_is_down = down.clone();
    let server = Server::start(move |asked, n| match asked.path() {
        TOKENS if iam_is_down.load(Ordering::Relaxed) => reply(503, "busy"),
        TOKENS => token(n, IN_A_DAY),
        _ => exported(),
    })
    .await;
    let clock = clock();
    let client = client(&server, password(), &clock);
    client.fetch(ID).await.unwrap();
    later(&clock, SignedDuration::from_hours(17));
    client.fetch(ID).await.unwrap();
    assert_eq!(of(&server.asked(), TOKENS).len(), 1, "not yet");

    down.store(true, Ordering::Relaxed);
    later(&clock, SignedDuration::from_hours(2));
    client.fetch(ID).await.unwrap();
    assert_eq!(server.asked().last().unwrap().header("x-auth-token"), "token-0", "the old one still serves");
    let tried = of(&server.asked(), TOKENS).len();
    client.fetch(ID).await.unwrap();
    assert_eq!(of(&server.asked(), TOKENS).len(), tried, "not at every call");

    later(&clock, SignedDuration::from_hours(6));
    assert_eq!(client.fetch(ID).await.err().unwrap().kind(), "server", "now it has ended");
    down.store(false, Ordering::Relaxed);
    client.fetch(ID).await.unwrap();
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let server = Server::start(|asked, n| match (asked.path(), asked.header("x-auth-token")) {
        (TOKENS, _) => token(n, IN_A_DAY),
        (_, "token-0") => scm_error(401, "SCM.1000", "token not valid"),
        _ => exported(),
    })
    .await;
    let rejecting = client(&server, password(), &clock());
    rejecting.fetch(ID).await.unwrap();
    assert_eq!((of(&server.asked(), TOKENS).len(), server.count()), (2, 4));
    assert_eq!(rejecting.rejected(), None);

    let server =
        Server::start(|asked, n| if asked.path() == TOKENS { token(n, IN_A_DAY) } else { scm_error(401, "SCM.1000", "no") })
            .await;
    let rejecting = client(&server, password(), &clock());
    assert_eq!(rejecting.fetch(ID).await.err().unwrap().kind(), "unauthorized");
    assert_eq!((of(&server.asked(), TOKENS).len(), server.count()), (2, 4), "once, not for ever");
    assert!(rejecting.rejected().is_some());
}

#[tokio::test]
async fn a_wrong_password_is_sent_once_and_then_not_for_an_hour() {
    let refusal = r#"{"error":{"code":401,"message":"The username or password is wrong.","title":"Unauthorized"}}"#;
    let server = Server::of([reply(401, refusal)]).await;
    let clock = clock();
    let guessing = client(&server, password(), &clock);
    let error = guessing.fetch(ID).await.err().unwrap();
    let causes = error.to_failure().causes;
    assert_eq!(causes[0], format!("failed to get a token from `127.0.0.1:{}`", server.url.port().unwrap()));
    assert_eq!(causes[1], "server said 401: `Unauthorized` The username or password is wrong.");
    assert!(error.hint().unwrap().contains("check user, password"));

    for _ in 0..20 {
        let error = guessing.fetch(ID).await.err().unwrap();
        assert_eq!((error.kind(), error.is_transient()), ("unauthorized", false));
        assert!(error.cause().to_string().contains("not tried again before 2026-11-22T03:00:00Z"), "{error:?}");
    }
    assert_eq!(server.count(), 1);
    later(&clock, SignedDuration::from_mins(61));
    guessing.fetch(ID).await.err().unwrap();
    assert_eq!(server.count(), 2);
    later(&clock, SignedDuration::from_mins(61));
    guessing.fetch(ID).await.err().unwrap();
    assert_eq!(server.count(), 2, "the gap grows");

    // a restart remembers, by a fingerprint that gives nothing away
    let (fingerprint, until) = guessing.rejected().unwrap();
    assert_eq!(fingerprint.len(), 4);
    let restarted = client(&server, password(), &clock);
    restarted.set_rejected(Some((fingerprint, until)));
    restarted.fetch(ID).await.err().unwrap();
    assert_eq!(server.count(), 2);
    restarted.forget();
    restarted.fetch(ID).await.err().unwrap();
    assert_eq!(server.count(), 3, "SIGHUP tries again");
}

fn at(date: &str) -> Timestamp {
    let date = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).unwrap();
    date.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp()
}

/// A server that takes one secret key only.
async fn picky(good: &'static str) -> Server {
    Server::start(move |asked, _| {
        let path: Vec<String> = asked.path().trim_start_matches('/').split('/').map(str::to_owned).collect();
        let (access, secret) = (AK.into(), good.into());
        let key = certsyncd::provider::huawei::sign::Key { access: &access, secret: &secret, security_token: None };
        let headers =
            ["X-Project-Id", "X-Certsyncd-Nonce"].map(|name| (name, asked.header(&name.to_ascii_lowercase()).to_owned()));
        let unsigned = certsyncd::provider::huawei::sign::Unsigned {
            method: &asked.method,
            host: asked.header("host"),
            path: &path,
            query: &[],
            headers: &headers,
            body: b"",
        };
        let signed = certsyncd::provider::huawei::sign::sign(&unsigned, &key, at(asked.header("x-sdk-date")));
        if signed.iter().any(|(_, value)| value == asked.header("authorization")) {
            exported()
        } else {
            scm_error(401, "APIGW.0301", "bad signature")
        }
    })
    .await
}

fn key_in(file: &std::path::Path) -> HuaweiAuth {
    HuaweiAuth::AccessKey { access_key: plain(AK), secret_key: Source::File(file.to_owned()), security_token: None }
}

#[tokio::test]
async fn a_rotated_secret_file_is_read_again_when_the_old_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sk");
    std::fs::write(&file, "old\n").unwrap();
    let server = picky("old").await;
    let settings = huawei_settings(&server.url, key_in(&file));
    let client = huawei(settings, &clock());
    client.fetch(ID).await.unwrap();

    std::fs::write(&file, "new\n").unwrap();
    client.fetch(ID).await.unwrap();
    assert_eq!(server.count(), 2, "what works is not read again");
    client.forget();
    assert_eq!(
        client.fetch(ID).await.err().unwrap().kind(),
        "unauthorized",
        "SIGHUP reads the new one, which this server refuses"
    );

    // the same, without SIGHUP: refused, read again, passed
    let server = picky("new").await;
    std::fs::write(&file, "old\n").unwrap();
    let client = huawei(huawei_settings(&server.url, key_in(&file)), &clock());
    assert_eq!(client.fetch(ID).await.err().unwrap().kind(), "unauthorized");
    assert_eq!(client.fetch(ID).await.err().unwrap().kind(), "unauthorized");
    assert_eq!(server.count(), 1, "the same secret is not tried twice");
    assert!(client.rejected().is_some());
    std::fs::write(&file, "new\n").unwrap();
    client.fetch(ID).await.unwrap();
    assert_eq!((server.count(), client.rejected()), (2, None));
}

#[tokio::test]
async fn a_secret_that_changes_while_asking_is_tried_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sk");
    std::fs::write(&file, "old\n").unwrap();
    let rotate = file.clone();
    let server = Server::start(move |_, n| {
        std::fs::write(&rotate, "new\n").unwrap();
        if n == 0 { scm_error(401, "APIGW.0301", "bad signature") } else { exported() }
    })
    .await;
    huawei(huawei_settings(&server.url, key_in(&file)), &clock()).fetch(ID).await.unwrap();
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn a_missing_secret_is_said_without_asking_anybody() {
    let server = Server::of([exported()]).await;
    let auth = key_in(std::path::Path::new("/nonexistent/sk"));
    let client = huawei(huawei_settings(&server.url, auth), &clock());
    let error = client.fetch(ID).await.err().unwrap();
    assert_eq!((error.kind(), error.is_transient(), server.count()), ("secret", false, 0));
    assert!(error.to_failure().to_string().contains("/nonexistent/sk"));
    let probes = client.probe().await;
    assert!(!probes[0].ok && probes[0].words.contains("/nonexistent/sk"));
}

#[test]
fn a_refused_systemd_credential_needs_a_restart_and_the_hint_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("scm-sk"), "from-the-unit\n").unwrap();
    elsewhere("asks_by_systemd_credential", &[("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap())]);
}

#[tokio::test]
#[ignore = "run by a_refused_systemd_credential_needs_a_restart_and_the_hint_says_so in a process with this variable"]
async fn asks_by_systemd_credential() {
    let server = picky("from-the-unit").await;
    let auth = |access: &str| HuaweiAuth::AccessKey {
        access_key: plain(access),
        secret_key: Source::Credential("scm-sk".into()),
        security_token: None,
    };
    client(&server, auth(AK), &clock()).fetch(ID).await.unwrap();
    let error = client(&server, auth("another"), &clock()).fetch(ID).await.err().unwrap();
    assert!(error.hint().unwrap().contains("takes a restart"), "{error:?}");
}

#[tokio::test]
async fn a_token_made_elsewhere() {
    let server = Server::of([exported()]).await;
    let client = client(&server, HuaweiAuth::Token { token: plain("made-elsewhere") }, &clock());
    client.fetch(ID).await.unwrap();
    assert_eq!(server.asked()[0].header("x-auth-token"), "made-elsewhere");

    let server = Server::of([exported()]).await;
    let odd = huawei(huawei_settings(&server.url, HuaweiAuth::Token { token: plain("to\u{1}ken") }), &clock());
    let error = odd.fetch(ID).await.err().unwrap();
    assert_eq!((error.kind(), server.count()), ("secret", 0));
    assert!(error.cause().to_string().contains("X-Auth-Token"), "{error:?}");
}

const SESSION: &str = "/meta-data/latest/api/token";
const SECURITY_KEY: &str = "/openstack/latest/securitykey";

fn security_key(access: &str, ends: Timestamp) -> Reply {
    let key = serde_json::json!({"access": access, "secret": SK, "securitytoken": "temporary", "expires_at": ends.to_string()});
    reply(200, serde_json::json!({"credential": key}).to_string())
}

#[tokio::test]
async fn metadata_gives_a_key_that_is_refreshed_ahead() {
    let clock = clock();
    let hand = clock.clone();
    let server = Server::start(move |asked, n| match asked.path() {
        SESSION => reply(200, "session-token\n"),
        SECURITY_KEY if asked.header("x-metadata-token") != "session-token" => reply(401, "no"),
        SECURITY_KEY => security_key(&format!("ak-{n}"), hand.now() + SignedDuration::from_hours(4)),
        _ => exported(),
    })
    .await;
    let client = client(&server, HuaweiAuth::Metadata, &clock);
    client.fetch(ID).await.unwrap();
    let asked = server.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].header("x-metadata-token-ttl-seconds")), ("PUT", "21600"));
    assert!(asked[2].header("authorization").contains("Access=ak-1,"));
    assert_eq!(asked[2].header("x-security-token"), "temporary");

    later(&clock, SignedDuration::from_mins(170));
    client.fetch(ID).await.unwrap();
    assert_eq!(of(&server.asked(), SECURITY_KEY).len(), 1, "not yet");
    later(&clock, SignedDuration::from_mins(20));
    client.fetch(ID).await.unwrap();
    assert_eq!((of(&server.asked(), SECURITY_KEY).len(), of(&server.asked(), SESSION).len()), (2, 1));
    assert!(server.asked().last().unwrap().header("authorization").contains("Access=ak-4,"));
    assert_eq!(client.skew(), None);
}

#[tokio::test]
async fn an_older_metadata_service_wants_no_session() {
    for status in [404, 405, 503] {
        let server = Server::start(move |asked, _| match asked.path() {
            SESSION => reply(status, "no such thing"),
            SECURITY_KEY => security_key("ak", "2026-11-23T02:00:00Z".parse().unwrap()),
            _ => exported(),
        })
        .await;
        client(&server, HuaweiAuth::Metadata, &clock()).fetch(ID).await.unwrap();
        assert_eq!(server.count(), 3, "{status} is an answer, not a failure");
        assert!(!server.asked()[1].headers.contains_key("x-metadata-token"));
    }
}

#[tokio::test]
async fn a_refused_session_is_renewed_once() {
    let clock = clock();
    let hand = clock.clone();
    let server = Server::start(move |asked, n| match asked.path() {
        SESSION => reply(200, format!("session-{n}")),
        // the service was restarted and knows only newer sessions
        SECURITY_KEY if n > 2 && asked.header("x-metadata-token") == "session-0" => reply(401, "Unauthorized"),
        SECURITY_KEY => security_key(&format!("ak-{n}"), hand.now() + SignedDuration::from_hours(1)),
        _ => exported(),
    })
    .await;
    let client = client(&server, HuaweiAuth::Metadata, &clock);
    client.fetch(ID).await.unwrap();
    later(&clock, SignedDuration::from_mins(55));
    client.fetch(ID).await.unwrap();
    let paths: Vec<String> = server.asked().iter().map(|asked| asked.path().to_owned()).collect();
    let export = format!("/v3/scm/certificates/{ID}/export");
    assert_eq!(paths, [SESSION, SECURITY_KEY, &export, SECURITY_KEY, SESSION, SECURITY_KEY, &export]);
}

#[tokio::test]
async fn a_server_without_an_agency_is_told_what_to_do() {
    let server = Server::start(|asked, _| if asked.path() == SESSION { reply(200, "s") } else { reply(404, "not found") }).await;
    let error = client(&server, HuaweiAuth::Metadata, &clock()).fetch(ID).await.err().unwrap();
    assert!(error.hint().unwrap().contains("agency"), "{error:?}");
    for odd in [
        "{}",
        r#"{"credential":{}}"#,
        r#"{"credential":{"access":"a","secret":7}}"#,
        r#"{"credential":{"access":"a","secret":"b"}}"#,
    ] {
        let server = Server::start(move |asked, _| if asked.path() == SESSION { reply(200, "s") } else { reply(200, odd) }).await;
        assert_eq!(client(&server, HuaweiAuth::Metadata, &clock()).fetch(ID).await.err().unwrap().kind(), "bad_answer", "{odd}");
    }
}

#[tokio::test]
async fn a_profile_is_read_as_the_vendors_sdk_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials");
    let text = "# a comment\n[basic]\nak = basic-ak\nsk = basic-sk\nproject_id = basic-project\n\n[global]\nak=global-ak\nsk=a=b\n; no\nsecurity_token = st\ndomain_id = d1\n";
    std::fs::write(&path, text).unwrap();
    let server = Server::of([exported()]).await;
    let auth = HuaweiAuth::Profile { path: Some(path.clone()) };
    let mut settings = huawei_settings(&server.url, auth.clone());
    settings.project_id = None;
    huawei(settings.clone(), &clock()).fetch(ID).await.unwrap();
    let asked = &server.asked()[0];
    assert!(asked.header("authorization").contains("Access=global-ak,"));
    assert_eq!((asked.header("x-domain-id"), asked.header("x-security-token"), asked.header("x-project-id")), ("d1", "st", ""));

    settings.api = certsyncd::config::HuaweiApi::Download;
    huawei(settings.clone(), &clock()).fetch(ID).await.err();
    assert_eq!(server.asked()[1].path(), format!("/v2/basic-project/scm/cert/{ID}/cert_file"));

    for (text, why) in
        [("[basic]\nak = only\n", "neither `[basic]` nor `[global]`"), (&*"x".repeat(64 * 1024 + 1), "larger than 65536 bytes")]
    {
        std::fs::write(&path, text).unwrap();
        let error = huawei(settings.clone(), &clock()).fetch(ID).await.err().unwrap();
        assert_eq!(error.kind(), "secret");
        assert!(error.cause().to_string().contains(why), "{error:?}");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(huawei(settings, &clock()).fetch(ID).await.err().unwrap().kind(), "secret");
}

/// Runs `test` of this file in a process of its own, with `environment`.
fn elsewhere(test: &str, environment: &[(&str, &str)]) {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_environment_has_a_key() {
    elsewhere(
        "asks_by_environment",
        &[
            ("HUAWEICLOUD_SDK_AK", "env-ak"),
            ("HUAWEICLOUD_SDK_SK", "env-sk"),
            ("HUAWEICLOUD_SDK_SECURITY_TOKEN", "env-token"),
            ("HUAWEICLOUD_SDK_PROJECT_ID", "env-project"),
            ("HUAWEICLOUD_SDK_DOMAIN_ID", "env-domain"),
        ],
    );
}

#[tokio::test]
#[ignore = "run by the_environment_has_a_key in a process with these variables"]
async fn asks_by_environment() {
    let server = Server::of([exported()]).await;
    let mut settings = huawei_settings(&server.url, HuaweiAuth::Environment);
    settings.project_id = None;
    huawei(settings, &clock()).fetch(ID).await.unwrap();
    let asked = &server.asked()[0];
    assert!(asked.header("authorization").contains("Access=env-ak,"));
    let ids = (asked.header("x-project-id"), asked.header("x-domain-id"), asked.header("x-security-token"));
    assert_eq!(ids, ("env-project", "env-domain", "env-token"));
}

#[tokio::test]
async fn an_environment_without_a_key_names_the_variable() {
    let away = Url::parse("http://127.0.0.1:1").unwrap();
    let error = huawei(huawei_settings(&away, HuaweiAuth::Environment), &clock()).fetch(ID).await.err().unwrap();
    assert!(error.to_failure().to_string().contains("HUAWEICLOUD_SDK_AK"), "{error:?}");
}

#[test]
fn the_profile_is_found_by_variable_and_by_home() {
    let folder = tempfile::tempdir().unwrap();
    let named = folder.path().join("named");
    std::fs::write(&named, "[global]\nak = the-ak\nsk = the-sk\n").unwrap();
    elsewhere(
        "asks_by_default_profile",
        &[("HUAWEICLOUD_SDK_CREDENTIALS_FILE", named.to_str().unwrap()), ("HOME", "/nonexistent")],
    );
    std::fs::create_dir(folder.path().join(".huaweicloud")).unwrap();
    std::fs::rename(&named, folder.path().join(".huaweicloud/credentials")).unwrap();
    elsewhere("asks_by_default_profile", &[("HOME", folder.path().to_str().unwrap())]);
}

#[tokio::test]
#[ignore = "run by the_profile_is_found_by_variable_and_by_home in a process with these variables"]
async fn asks_by_default_profile() {
    let server = Server::of([exported()]).await;
    huawei(huawei_settings(&server.url, HuaweiAuth::Profile { path: None::<PathBuf> }), &clock()).fetch(ID).await.unwrap();
    assert!(server.asked()[0].header("authorization").contains("Access=the-ak,"));
}

#[tokio::test]
async fn a_gap_is_never_longer_than_a_day() {
    let server = Server::of([scm_error(401, "APIGW.0301", "no")]).await;
    let clock = clock();
    let client =
        Client::with_limits(&provider(Cloud::Huawei(huawei_settings(&server.url, access_key()))), clock.clone(), limits())
            .unwrap();
    for _ in 0..10 {
        client.fetch(ID).await.err().unwrap();
        clock.set(client.rejected().unwrap().1);
    }
    assert_eq!(server.count(), 10);
    client.fetch(ID).await.err().unwrap();
    assert_eq!(client.rejected().unwrap().1.duration_since(clock.now()), LONGEST_GAP);
}

//! The door to the network against a server that hangs, lies, is huge, is cut off, or says to come back later.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod scripted;

use std::collections::BTreeSet;
use std::time::Duration;

use certsyncd::clock::Clock;
use certsyncd::config::{Cloud, Huawei, HuaweiApi};
use certsyncd::provider::http::{ARCHIVE_LIMIT, CA_LIMIT, CERTIFICATE_LIMIT, ERROR_LIMIT, LISTING_LIMIT};
use certsyncd::provider::{Cause, Client, FAILURES_TO_OPEN, Limits};
use jiff::SignedDuration;
use scripted::*;

const ID: &str = "scs1554192131150";

fn with(server: &Server, limits: Limits) -> Client {
    Client::with_limits(&provider(Cloud::Huawei(huawei_settings(&server.url, access_key()))), clock(), limits).unwrap()
}

fn downloader(server: &Server) -> Client {
    huawei(Huawei { api: HuaweiApi::Download, ..huawei_settings(&server.url, access_key()) }, &clock())
}

fn spawnable<T: Send>(future: T) -> T {
    future
}

#[tokio::test]
async fn calls_can_be_spawned() {
    let server = Server::of([exported()]).await;
    let client = exporter(&server);
    let other = client.clone();
    tokio::spawn(async move { other.fetch(ID).await.map(drop) }).await.unwrap().unwrap();
    drop((spawnable(client.list()), spawnable(client.show(ID)), spawnable(client.probe())));
    assert_eq!(format!("{client:?}"), "Client(\"scm\")");
}

#[tokio::test]
async fn retries_with_a_fresh_signature_each_time_also_within_one_second() {
    let server = Server::start(move |_, n| if n < 2 { reply(503, "busy") } else { exported() }).await;
    let client = exporter(&server);
    client.fetch(ID).await.unwrap();
    client.fetch(ID).await.unwrap();
    let of = |name: &str| server.asked().iter().map(|asked| asked.header(name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!((of("x-sdk-date").len(), of("authorization").len()), (4, 4));
    let calls = client.take_calls();
    assert_eq!(calls[&("export", "server")], 2);
    assert_eq!(calls[&("export", "ok")], 2);
}

#[tokio::test]
async fn obeys_retry_after() {
    let server = Server::of([reply(429, "{}").header("retry-after", "1"), exported()]).await;
    let started = std::time::Instant::now();
    exporter(&server).fetch(ID).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));

    // a date counts from the answer's own clock, whatever ours shows
    let dated =
        reply(503, "{}").header("date", "Sun, 22 Nov 2020 02:00:00 GMT").header("retry-after", "Sun, 22 Nov 2020 02:00:01 GMT");
    let server = Server::of([dated, exported()]).await;
    let started = std::time::Instant::now();
    exporter(&server).fetch(ID).await.unwrap();
    assert!((1..20).contains(&started.elapsed().as_secs()));
}

#[tokio::test]
async fn a_long_retry_after_ends_the_call_and_spares_the_provider() {
    let server = Server::of([reply(429, "{}").header("retry-after", "61")]).await;
    let client = exporter(&server);
    let error = client.fetch(ID).await.err().unwrap();
    assert_eq!((error.kind(), error.is_transient(), server.count()), ("throttled", true, 1));
    assert_eq!(error.cause().to_string(), "server said 429 and asks to be left alone until 2026-11-22T02:01:01Z");

    let error = client.list().await.err().unwrap();
    assert_eq!((error.kind(), error.is_transient(), server.count()), ("circuit_open", true, 1));
    client.forget();
    client.list().await.err().unwrap();
    assert_eq!(server.count(), 2, "SIGHUP asks again");
}

#[tokio::test]
async fn retry_after_on_an_error_that_will_not_pass_changes_nothing() {
    let server = Server::of([scm_error(400, "SCM.0020", "no").header("retry-after", "9999")]).await;
    let error = exporter(&server).fetch(ID).await.err().unwrap();
    assert_eq!((error.kind(), server.count()), ("not_found", 1));
}

#[tokio::test]
async fn the_circuit_opens_and_the_last_failure_is_told() {
    let server = Server::of([reply(503, "<html><h1>Service Unavailable</h1></html>")]).await;
    let client = with(&server, Limits { tries: 1, ..limits() });
    for _ in 0..FAILURES_TO_OPEN {
        assert_eq!(client.fetch(ID).await.err().unwrap().kind(), "server");
    }
    let error = client.fetch(ID).await.err().unwrap();
    assert_eq!((error.kind(), server.count()), ("circuit_open", FAILURES_TO_OPEN as usize));
    let said = error.cause().to_string();
    assert!(said.starts_with("`scm` is left alone until 2026-11-22T02:00:"), "{said}");
    assert!(said.ends_with("5 calls in a row failed, the last: server said 503: a web page: Service Unavailable"), "{said}");
    assert_eq!(client.take_calls().values().sum::<u64>(), u64::from(FAILURES_TO_OPEN), "only requests are counted");
}

#[tokio::test]
async fn what_concerns_one_certificate_opens_nothing() {
    for answer in [scm_error(500, "SCM.0007", "x"), scm_error(400, "SCM.0020", "x"), reply(200, "odd")] {
        let server = Server::of([answer]).await;
        let client = with(&server, Limits { tries: 1, ..limits() });
        for _ in 0..2 * FAILURES_TO_OPEN {
            assert_ne!(client.fetch(ID).await.err().unwrap().kind(), "circuit_open");
        }
    }
}

#[tokio::test]
async fn a_redirect_is_refused_and_only_its_host_is_named() {
    let elsewhere = Server::of([exported()]).await;
    for status in [301, 302, 303, 307, 308] {
        let to = format!("{}steal?token=hush", elsewhere.url);
        let server = Server::of([reply(status, "").header("location", to)]).await;
        let error = exporter(&server).fetch(ID).await.err().unwrap();
        assert_eq!((error.kind(), error.is_transient(), server.count()), ("refused", false, 1));
        let said = error.cause().to_string();
        assert!(said.contains(&format!("`127.0.0.1:{}`", elsewhere.url.port().unwrap())) && !said.contains("hush"), "{said}");
        assert!(error.hint().unwrap().contains("endpoint"));
    }
    assert_eq!(elsewhere.count(), 0);
}

/// JSON of exactly `bytes` bytes.
fn export_of(bytes: usize) -> String {
    let json = |filler: usize| format!("{{\"entire_certificate\":\"{}\",\"private_key\":\"k\"}}", "x".repeat(filler));
    json(bytes - json(0).len())
}

#[tokio::test]
async fn bodies_are_bounded_at_the_byte() {
    for how in [How::Whole, How::Chunked] {
        let server = Server::of([
            reply(200, export_of(CERTIFICATE_LIMIT)).how(how),
            reply(200, export_of(CERTIFICATE_LIMIT + 1)).how(how),
        ])
        .await;
        let client = exporter(&server);
        client.fetch(ID).await.unwrap();
        let error = client.fetch(ID).await.err().unwrap();
        assert_eq!((error.kind(), error.is_transient(), server.count()), ("too_large", false, 2), "{how:?}");
        assert_eq!(error.cause().to_string(), "answer is larger than 1048576 bytes");

        let server =
            Server::of([reply(200, vec![b'P'; ARCHIVE_LIMIT]).how(how), reply(200, vec![b'P'; ARCHIVE_LIMIT + 1]).how(how)])
                .await;
        let client = downloader(&server);
        client.fetch(ID).await.unwrap();
        assert_eq!(client.fetch(ID).await.err().unwrap().kind(), "too_large", "{how:?}");
    }
}

fn gzip(bytes: impl Iterator<Item = u8>) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    let bytes: Vec<u8> = bytes.collect();
    encoder.write_all(&bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_gzip_bomb_is_stopped_by_what_it_becomes() {
    let fits = gzip(export_of(CERTIFICATE_LIMIT).into_bytes().into_iter());
    let bomb = gzip(std::iter::repeat_n(b' ', LISTING_LIMIT + 1));
    assert!(bomb.len() < CERTIFICATE_LIMIT);
    let zipped = |bytes: Vec<u8>| reply(200, bytes).header("content-encoding", "gzip");
    let cut = zipped(fits[..fits.len() / 2].to_vec());
    let server = Server::of([zipped(fits), zipped(bomb), cut]).await;
    let client = with(&server, Limits { tries: 1, ..limits() });
    client.fetch(ID).await.unwrap();
    assert!(server.asked()[0].header("accept-encoding").contains("gzip"));
    assert_eq!(client.list().await.err().unwrap().kind(), "too_large");
    let error = client.fetch(ID).await.err().unwrap();
    assert!(matches!(error.cause(), Cause::CutOff { .. }), "{error:?}");
}

#[tokio::test]
async fn a_body_that_drips_or_hangs_ends_by_the_clock() {
    let bounds = Limits { total: Duration::from_millis(400), read: Duration::from_millis(200), tries: 1, ..limits() };
    let drip = reply(200, vec![b' '; 1000]).how(How::Drip(Duration::from_millis(20)));
    let server = Server::of([drip, reply(200, "").how(How::Hang)]).await;
    let client = with(&server, bounds);
    for what in ["no whole answer from `127.0.0.1:", "no answer from `127.0.0.1:"] {
        let started = std::time::Instant::now();
        let error = client.fetch(ID).await.err().unwrap();
        assert_eq!((error.kind(), error.is_transient()), ("timeout", true));
        assert!(error.cause().to_string().starts_with(what), "{error:?}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn an_errors_body_that_drips_still_tells_the_status() {
    let bounds = Limits { total: Duration::from_millis(400), read: Duration::from_millis(200), tries: 1, ..limits() };
    let server = Server::of([reply(404, vec![b'x'; 1000]).how(How::Drip(Duration::from_millis(20)))]).await;
    assert_eq!(with(&server, bounds).fetch(ID).await.err().unwrap().kind(), "not_found");
    // and a huge one is not read to its end
    let server = Server::of([reply(403, vec![b'x'; 4 * ERROR_LIMIT])]).await;
    let error = exporter(&server).fetch(ID).await.err().unwrap();
    assert_eq!(error.kind(), "forbidden");
    assert!(error.cause().to_string().len() < 400);
}

#[tokio::test]
async fn a_cut_off_answer_is_tried_again() {
    let whole = exported();
    let cut = whole.clone().how(How::CutAfter(40));
    let server = Server::of([cut.clone(), reply(200, "").how(How::Close), whole]).await;
    exporter(&server).fetch(ID).await.unwrap();
    assert_eq!(server.count(), 3);

    let server = Server::of([cut]).await;
    let error = exporter(&server).fetch(ID).await.err().unwrap();
    assert_eq!((error.kind(), error.is_transient(), server.count()), ("connect", true, 3));
    assert_eq!(error.cause().to_string(), "answer was cut off after 40 bytes");
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let server = Server::of([exported()]).await;
    let client = exporter(&server);
    let address = format!("127.0.0.1:{}", server.url.port().unwrap());
    drop(server);
    // the listener is gone once its task is; the runtime drops it at the next turn
    tokio::task::yield_now().await;
    let error = client.fetch(ID).await.err().unwrap();
    assert_eq!((error.kind(), error.is_transient()), ("connect", true));
    let causes = error.to_failure().causes;
    assert_eq!(causes[1], format!("no connection to `{address}`"));
    assert!(causes[2].contains("refused"), "{causes:?}");
    assert!(error.hint().unwrap().contains("HTTPS_PROXY"));
}

#[tokio::test]
async fn a_web_page_is_not_an_error_of_the_api() {
    let page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>to the guest network</body></html>";
    let server = Server::of([reply(200, page).header("content-type", "text/html")]).await;
    let error = exporter(&server).fetch(ID).await.err().unwrap();
    assert_eq!((error.kind(), server.count()), ("bad_answer", 1));
    let said = error.cause().to_string();
    assert!(said.starts_with("answer is a web page: Sign in to the guest network"), "{said}");
    assert!(error.hint().unwrap().contains("login page"));
}

#[tokio::test]
async fn what_an_error_page_quotes_of_the_request_is_masked() {
    let server = Server::start(|asked, _| {
        reply(500, format!("cannot serve {} for {} and {AK}", asked.target, asked.header("authorization")))
    })
    .await;
    let error = exporter(&server).fetch(ID).await.err().unwrap();
    let signature = server.asked().last().unwrap().header("authorization").rsplit_once('=').unwrap().1.to_owned();
    let said = format!("{error:?}");
    assert!(said.contains("[masked]") && !said.contains(AK) && !said.contains(&signature), "{said}");
}

#[tokio::test]
async fn plain_http_leaves_this_host_for_nobody() {
    let away = url::Url::parse("http://192.0.2.1").unwrap();
    let error = huawei(huawei_settings(&away, access_key()), &clock()).fetch(ID).await.err().unwrap();
    assert_eq!((error.kind(), error.is_transient()), ("refused", false));
    assert!(error.cause().to_string().contains("only https"));
}

fn at(date: &str) -> Reply {
    scm_error(401, "APIGW.0301", "verify aksk signature fail").header("date", date)
}

#[tokio::test]
async fn clocks_apart_are_told_with_a_refused_signature() {
    for (date, hint) in [
        ("Sun, 22 Nov 2026 02:00:30 GMT", None),
        ("Sun, 22 Nov 2026 02:05:00 GMT", Some("5 min behind")),
        ("Sun, 22 Nov 2026 01:00:00 GMT", Some("60 min ahead of")),
    ] {
        let server = Server::of([at(date)]).await;
        let client = exporter(&server);
        let error = client.fetch(ID).await.err().unwrap();
        let said = error.hint().unwrap();
        assert_eq!(said.contains("this host's clock"), hint.is_some(), "{said}");
        assert!(said.contains(hint.unwrap_or_default()), "{said}");
        // further apart than any signature may be, it proves nothing about the key
        assert_eq!(client.rejected().is_none(), date.contains(" 01:"), "{date}");
    }
    let server = Server::of([at("Sun, 22 Nov 2026 02:05:00 GMT")]).await;
    let client = exporter(&server);
    assert_eq!(client.skew(), None);
    client.fetch(ID).await.err().unwrap();
    assert_eq!(client.skew(), Some(SignedDuration::from_mins(5)));

    let server = Server::of([at("Sun, 22 Nov 2026 02:05:00 GMT").header("age", "300")]).await;
    let client = exporter(&server);
    client.fetch(ID).await.err().unwrap();
    assert_eq!(client.skew(), None, "a cached answer's date is old");
}

#[tokio::test]
async fn a_ca_file_must_be_there_and_hold_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let settings = |path| certsyncd::config::Provider {
        ca_file: Some(path),
        ..provider(Cloud::Cds(cds_settings(&"https://localhost".parse().unwrap())))
    };
    let large = folder.path().join("large.pem");
    std::fs::write(&large, vec![b'#'; CA_LIMIT as usize + 1]).unwrap();
    let full = folder.path().join("full.pem");
    std::fs::write(&full, vec![b'#'; CA_LIMIT as usize]).unwrap();
    for (path, why) in [
        (folder.path().join("none.pem"), "no such file"),
        (empty, "no PEM certificate"),
        (full, "no PEM certificate"),
        (large, "larger than 4194304 bytes"),
        ("/dev/zero".into(), "no regular file"),
    ] {
        let error = Client::new(&settings(path.clone()), Clock::system()).err().unwrap();
        let said = error.to_failure().to_string();
        assert!(error.kind() == "setup" && said.contains(path.to_str().unwrap()) && said.contains(why), "{said}");
    }
}

#[tokio::test]
async fn requests_keep_to_the_rate_limit() {
    let server = Server::of([exported()]).await;
    let settings = certsyncd::config::Provider {
        rate_limit: Some(20.0),
        ..provider(Cloud::Huawei(huawei_settings(&server.url, access_key())))
    };
    let client = Client::with_limits(&settings, clock(), limits()).unwrap();
    let started = std::time::Instant::now();
    let calls = (0..14).map(|_| client.fetch(ID));
    for result in futures_util::future::join_all(calls).await {
        result.unwrap();
    }
    // a burst of four, then one each 50 ms
    assert!(started.elapsed() >= Duration::from_millis(450), "{:?}", started.elapsed());
}

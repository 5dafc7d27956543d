//! Metrics: names and labels of the contract, the listener, the text file.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod observe_fixture;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use certsyncd::clock::Clock;
use certsyncd::config::EventKind;
use certsyncd::observe::http::{self, HEAD_TIMEOUT, MAX_CONNECTIONS, MAX_HEAD};
use certsyncd::observe::metrics::{self, Counters};
use certsyncd::observe::{Board, textfile};
use certsyncd::report::{Report, TargetAction, TargetReport};
use jiff::SignedDuration;
use observe_fixture::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

fn target(name: &str, action: TargetAction) -> TargetReport {
    TargetReport { name: name.to_owned(), action, certificates: Vec::new(), error: None, pending: None }
}

fn report() -> Report {
    let call = |operation: &str, outcome: &str| ("scm".to_owned(), operation.to_owned(), outcome.to_owned());
    Report {
        started: now() - SignedDuration::from_millis(1500),
        finished: now(),
        whole: true,
        certificates: Vec::new(),
        targets: vec![
            target("nginx", TargetAction::Reloaded),
            target("haproxy", TargetAction::RolledBack),
            target("other", TargetAction::Pending),
        ],
        incidents: Vec::new(),
        requests: 3,
        calls: [(call("list", "ok"), 2), (call("export", "unauthorized"), 1)].into(),
    }
}

fn counters() -> Counters {
    let counters = Counters::default();
    counters.pass(&report());
    counters.pass(&report());
    counters.alert(EventKind::DeployFailed, "webhook-1", "sent");
    counters
}

fn rendered() -> String {
    let (settings, ledger, _) = everything();
    metrics::render(&settings, &ledger, &counters())
}

#[test]
fn the_series_of_the_contract() {
    let text = rendered();
    let second = |days_left: i64| (now() + days(days_left)).as_second();
    let wanted = [
        format!(r#"certsyncd_certificate_not_after_timestamp_seconds{{name="web",provider="scm",source="disk"}} {}"#, second(61)),
        format!(
            r#"certsyncd_certificate_not_after_timestamp_seconds{{name="web",provider="scm",source="served"}} {}"#,
            second(61)
        ),
        format!(
            r#"certsyncd_certificate_not_after_timestamp_seconds{{name="web",provider="scm",source="provider"}} {}"#,
            second(61)
        ),
        format!(
            r#"certsyncd_certificate_not_after_timestamp_seconds{{name="wait",provider="scm",source="disk"}} {}"#,
            second(355)
        ),
        format!(
            r#"certsyncd_certificate_not_after_timestamp_seconds{{name="wait",provider="scm",source="provider"}} {}"#,
            second(720)
        ),
        r#"certsyncd_certificate_valid{name="api",provider="scm"} 2"#.to_owned(),
        r#"certsyncd_certificate_valid{name="old",provider="scm"} 0"#.to_owned(),
        format!(r#"certsyncd_certificate_last_success_timestamp_seconds{{name="web"}} {}"#, now().as_second() - 300),
        "certsyncd_pass_duration_seconds 1.5".to_owned(),
        r#"certsyncd_provider_requests_total{provider="scm",operation="list",outcome="ok"} 4"#.to_owned(),
        r#"certsyncd_provider_requests_total{provider="scm",operation="export",outcome="unauthorized"} 2"#.to_owned(),
        r#"certsyncd_deploys_total{target="nginx",outcome="reloaded"} 2"#.to_owned(),
        r#"certsyncd_deploys_total{target="haproxy",outcome="rolled_back"} 2"#.to_owned(),
        r#"certsyncd_alerts_total{event="deploy_failed",channel="webhook-1",outcome="sent"} 1"#.to_owned(),
        format!(r#"certsyncd_build_info{{version="{}"}} 1"#, env!("CARGO_PKG_VERSION")),
    ];
    for line in wanted {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains(r#"target="other""#), "what is pending was not deployed");
    assert!(!text.contains(r#"name="wait",provider="scm",source="served""#), "nothing was looked at there");
}

#[test]
fn a_series_goes_when_its_certificate_leaves() {
    let (_, ledger, _) = everything();
    let text = metrics::render(&settings(vec![entry("api", &[])]), &ledger, &Counters::default());
    assert!(text.contains(r#"name="api""#) && !text.contains(r#"name="web""#) && !text.contains(r#"name="gone""#), "{text}");
}

#[test]
fn the_last_success_is_that_of_a_good_pass() {
    let (settings, mut ledger, _) = everything();
    let line = |ledger: &_| {
        let text = metrics::render(&settings, ledger, &Counters::default());
        text.lines().find(|line| line.starts_with("certsyncd_pass_last_success")).map(str::to_owned)
    };
    assert_eq!(line(&ledger), None, "the only pass failed");
    ledger.last_success = Some(now() - days(1));
    assert_eq!(
        line(&ledger).unwrap(),
        format!("certsyncd_pass_last_success_timestamp_seconds {}", (now() - days(1)).as_second())
    );
    ledger.last_pass.as_mut().unwrap().ok = true;
    let finished = ledger.last_pass.as_ref().unwrap().finished.as_second();
    assert_eq!(line(&ledger).unwrap(), format!("certsyncd_pass_last_success_timestamp_seconds {finished}"));
}

#[test]
fn the_deploys_of_a_target_are_told_from_zero_on() {
    let (mut settings, ledger, _) = everything();
    settings.targets.insert("nginx".to_owned(), nginx());
    let text = metrics::render(&settings, &ledger, &Counters::default());
    for outcome in ["reloaded", "updated", "failed", "rolled_back"] {
        let line = format!(r#"certsyncd_deploys_total{{target="nginx",outcome="{outcome}"}} 0"#);
        assert!(text.contains(&line), "no `{line}` in\n{text}");
    }
}

#[test]
fn a_label_cannot_break_out() {
    let counters = Counters::default();
    counters.alert(EventKind::Renewed, "a\"} 1\nevil 2\\", "sent");
    let (settings, ledger, _) = everything();
    let text = metrics::render(&settings, &ledger, &counters);
    assert!(text.contains(r#"channel="a\"} 1\nevil 2\\",outcome="sent"} 1"#), "{text}");
}

#[test]
fn the_older_format_names_counters_as_their_samples() {
    let text = metrics::prometheus_text(&rendered());
    assert!(text.contains("# TYPE certsyncd_deploys_total counter\n"), "{text}");
    assert!(!text.contains("# EOF"), "{text}");
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (family, kind) = line.split_once(' ').unwrap();
        assert_eq!(family.ends_with("_total"), kind == "counter", "{line}: COUNTERS is out of step");
    }
}

/// With Debian's own parser where it is installed (`apt-get install prometheus`); `.ci/run` has it.
#[test]
fn promtool_accepts_the_older_format() {
    let Ok(mut promtool) =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()
    else {
        return;
    };
    std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), metrics::prometheus_text(&rendered()).as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_text_file_is_whole_readable_and_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("certsyncd.prom");
    textfile::write(&path, "old 1\n").unwrap();
    textfile::write(&path, "new 1\n").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "new 1\n");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let error = textfile::write(&folder.path().join("no/such.prom"), "").unwrap_err();
    assert!(error.hint().unwrap().contains("collector.textfile"), "{error}");
}

struct Listener {
    address: SocketAddr,
    board: Board,
    clock: Clock,
    shutdown: CancellationToken,
    done: tokio::task::JoinHandle<()>,
}

async fn listening() -> Listener {
    let clock = Clock::manual(now());
    let board = Board::new(clock.clone());
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let done = tokio::spawn(http::serve(listener, board.clone(), shutdown.clone()));
    Listener { address, board, clock, shutdown, done }
}

impl Listener {
    fn publish(&self) {
        let (settings, ledger, _) = everything();
        self.board.publish(Arc::new(settings), Arc::new(ledger), picture());
    }

    /// The status and the whole answer.
    async fn ask(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        (answer.split(' ').nth(1).unwrap_or("0").parse().unwrap(), answer)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
    }
}

#[tokio::test]
async fn the_four_pages() {
    let listener = listening().await;
    assert_eq!(listener.get("/readyz").await.0, 503);
    assert_eq!(listener.get("/status.json").await.0, 503);
    assert_eq!(listener.get("/healthz").await.0, 200, "a daemon in its first pass is well");
    assert_eq!(listener.get("/metrics").await.0, 200);
    listener.publish();
    listener.board.set_ready();
    assert_eq!(listener.get("/readyz").await.0, 200);
    let (_, metrics) = listener.get("/metrics").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("certsyncd_certificate_valid{"), "{metrics}");
    let request =
        "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n\r\n";
    let (_, metrics) = listener.ask(request).await;
    assert!(metrics.contains("content-type: application/openmetrics-text") && metrics.ends_with("# EOF\n"), "{metrics}");
    listener.clock.set(now() + days(1));
    let (_, answer) = listener.get("/status.json").await;
    let json: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(json["certificates"][0]["days_left"], 60, "as of now, not as of the pass");
}

#[tokio::test]
async fn what_is_not_there_is_404_and_what_is_not_read_is_405() {
    let listener = listening().await;
    listener.publish();
    for path in ["/", "/metrics/", "/etc/passwd", "/../status.json"] {
        assert_eq!(listener.get(path).await.0, 404, "{path}");
    }
    let (status, answer) = listener.ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(status, 405);
    assert!(answer.contains("allow: GET, HEAD"), "{answer}");
    let (status, answer) = listener.ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(status == 200 && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn health_fails_when_no_pass_ends_any_more() {
    let listener = listening().await;
    listener.publish();
    assert_eq!(listener.get("/healthz").await.0, 200);
    listener.clock.set(now() + SignedDuration::from_secs(1501));
    assert_eq!(listener.get("/healthz").await.0, 503);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let listener = listening().await;
    let field = "x".repeat(MAX_HEAD);
    let (status, _) = listener.ask(&format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {field}\r\n\r\n")).await;
    assert_eq!(status, 431);
}

#[tokio::test]
async fn silent_clients_lose_their_places() {
    let listener = listening().await;
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(listener.address).await.unwrap();
        stream.write_all(b"GET /heal").await.unwrap();
        silent.push(stream);
    }
    let began = tokio::time::Instant::now();
    let answer = tokio::time::timeout(HEAD_TIMEOUT * 3, listener.get("/healthz")).await.expect("they kept their places");
    assert_eq!(answer.0, 200);
    assert!(began.elapsed() >= HEAD_TIMEOUT / 2, "there was no limit");
}

#[tokio::test]
async fn shutdown_stops_listening_and_ends() {
    let listener = listening().await;
    listener.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), listener.done).await.expect("ends").unwrap();
    assert!(TcpStream::connect(listener.address).await.is_err());
}

#[tokio::test]
async fn an_address_in_use_is_told() {
    let listener = listening().await;
    let error = http::bind(listener.address).await.unwrap_err();
    assert_eq!(error.to_string(), format!("failed to listen on `{}`", listener.address));
}

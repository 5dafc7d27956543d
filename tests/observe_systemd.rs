//! What arrives at the notification socket. Each test starts this binary again as a child with its own `$NOTIFY_SOCKET`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use certsyncd::observe::systemd::{self, Watchdog};

/// Runs the named act in a child and gives the datagrams it sent.
fn datagrams(act: &str, watchdog: Option<Duration>) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["child", "--exact", "--ignored", "--nocapture"])
        .env("ACT", act)
        .env("NOTIFY_SOCKET", &path)
        .env_remove("WATCHDOG_PID");
    if let Some(interval) = watchdog {
        child.env("WATCHDOG_USEC", interval.as_micros().to_string());
    }
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
    // read while it runs: a full socket would hold up a child that sends too much
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut buffer = [0; 4096];
    let mut sent = Vec::new();
    loop {
        let ended = child.try_wait().unwrap();
        while let Ok(length) = socket.recv(&mut buffer) {
            sent.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        if let Some(status) = ended {
            assert!(status.success(), "{act}: {status}");
            return sent;
        }
    }
}

#[test]
#[ignore = "the child of the other tests"]
fn child() {
    match std::env::var("ACT").as_deref() {
        Ok("life") => {
            systemd::status("first pass under way");
            systemd::ready("last pass 02:10 ok");
            systemd::reloading();
            systemd::ready("last pass 02:20 ok");
            systemd::stopping();
        }
        Ok("watchdog") => {
            let watchdog = Watchdog::from_environment();
            assert_eq!(watchdog.interval(), Some(Duration::from_secs(60)));
            assert_eq!((0..100).filter(|_| watchdog.beat()).count(), 1);
            watchdog.allow(Duration::from_secs(10));
            watchdog.allow(Duration::from_secs(300));
            assert_eq!(watchdog.interval(), Some(Duration::from_secs(600)));
        }
        Ok("none") => {
            let watchdog = Watchdog::from_environment();
            assert_eq!((watchdog.interval(), watchdog.beat()), (None, false));
        }
        act => panic!("unknown act {act:?}"),
    }
}

#[test]
fn a_life_from_start_to_stop() {
    let sent = datagrams("life", None);
    assert_eq!(sent[0], "STATUS=first pass under way\n");
    assert_eq!(sent[1], "READY=1\nSTATUS=last pass 02:10 ok\n");
    let (reloading, time) = sent[2].split_once('\n').unwrap();
    assert_eq!(reloading, "RELOADING=1");
    assert!(time.trim_end().strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(sent[3], "READY=1\nSTATUS=last pass 02:20 ok\n");
    assert!(sent[4].starts_with("STOPPING=1\n"));
    assert_eq!(sent.len(), 5);
}

#[test]
fn the_watchdog_is_fed_at_most_once_a_quarter_and_can_be_given_more_time() {
    let sent = datagrams("watchdog", Some(Duration::from_secs(60)));
    assert_eq!(sent, ["WATCHDOG=1\n", "WATCHDOG_USEC=600000000\n"]);
}

#[test]
fn without_a_watchdog_nothing_is_sent() {
    assert_eq!(datagrams("none", None), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_idle_loop_turns_in_half_the_interval_and_beats() {
    let watchdog = Watchdog::every(Some(Duration::from_secs(60)));
    let began = tokio::time::Instant::now();
    for _ in 0..4 {
        watchdog.turn().await;
        assert!(watchdog.beat(), "half an interval is more than a quarter");
    }
    assert_eq!(began.elapsed(), Duration::from_secs(120));
    assert!(!watchdog.beat());
    let never = tokio::time::timeout(Duration::from_secs(86_400), Watchdog::every(None).turn()).await;
    assert!(never.is_err(), "without a watchdog an idle loop is not woken");
}

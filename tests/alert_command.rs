//! The command channel: what the program gets, what comes of what it does.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]

mod alert_support;

use std::path::Path;
use std::time::Duration;

use alert_support::*;
use certsyncd::alert;
use certsyncd::config::{Channel, ChannelKind, Language};

fn shell(script: &str) -> Channel {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    channel("sh", ChannelKind::Command { command })
}

#[tokio::test]
async fn the_event_is_on_stdin_and_in_variables() {
    let folder = tempfile::tempdir().unwrap();
    let (body, variables) = (folder.path().join("body"), folder.path().join("variables"));
    let channel = shell(&format!("cat >{}; env >{}; echo done", body.display(), variables.display()));
    assert_eq!(alert::send(&channel, &expiring()).await.unwrap(), "done");
    let body: serde_json::Value = serde_json::from_slice(&std::fs::read(body).unwrap()).unwrap();
    assert_eq!((body["event"].as_str(), body["days_left"].as_i64()), (Some("expiring"), Some(9)));
    let variables = std::fs::read_to_string(variables).unwrap();
    let mut names: Vec<&str> = variables.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    names.retain(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name));
    names.sort_unstable();
    let mut expected: Vec<String> =
        "EVENT SEVERITY HOST CERTIFICATE PROVIDER ID NAMES VALID NOT_AFTER DAYS_LEFT FINGERPRINT TARGET CERTIFICATES COUNT KEY MESSAGE AT"
            .split(' ')
            .map(|name| format!("CERTSYNCD_{name}"))
            .chain(["LANG".to_owned(), "PATH".to_owned()])
            .collect();
    expected.sort_unstable();
    assert_eq!(names, expected, "nothing of the daemon's own environment");
    for line in [
        "CERTSYNCD_EVENT=expiring",
        "CERTSYNCD_SEVERITY=warning",
        "CERTSYNCD_CERTIFICATE=api",
        "CERTSYNCD_DAYS_LEFT=9",
        "CERTSYNCD_TARGET=",
    ] {
        assert!(variables.lines().any(|found| found == line), "{line} in {variables}");
    }
}

#[tokio::test]
async fn in_chinese_where_the_channel_says_so() {
    let mut channel = shell("printf %s \"$CERTSYNCD_MESSAGE\"");
    channel.language = Language::Zh;
    assert!(alert::send(&channel, &expiring()).await.unwrap().contains("还剩 9 天"));
}

#[tokio::test]
async fn its_words_are_in_the_error() {
    let error = alert::send(&shell("echo out; echo 'no such room' >&2; exit 3"), &expiring()).await.unwrap_err();
    assert_eq!(error.line(), "`/bin/sh` exited with 3: out no such room");
    let error = alert::send(&shell("kill -9 $$"), &expiring()).await.unwrap_err();
    assert_eq!(error.line(), "`/bin/sh` was killed by signal 9: it printed nothing");
    let missing = channel("c", ChannelKind::Command { command: vec!["/no/such/program".into()] });
    let error = alert::send(&missing, &expiring()).await.unwrap_err();
    assert!(error.line().contains("failed to start `/no/such/program`: No such file"), "{}", error.line());
}

#[tokio::test]
async fn a_program_that_reads_nothing_or_prints_without_end_is_fine() {
    assert_eq!(alert::send(&shell("exec <&-; exit 0"), &expiring()).await.unwrap(), "exited with 0");
    let answer = alert::send(&shell("yes 'a long line of output' | head -c 3000000; echo end"), &expiring()).await.unwrap();
    assert!(answer.chars().count() <= 500, "{}", answer.len());
}

#[tokio::test]
async fn a_child_left_behind_with_the_pipe_open_holds_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let channel = shell(&format!("sleep 1000 & echo $! >{}; echo done", pid.display()));
    assert_eq!(alert::send(&channel, &expiring()).await.unwrap(), "done");
    let left = std::fs::read_to_string(&pid).unwrap();
    assert!(Path::new(&format!("/proc/{}", left.trim())).exists(), "it came to its own end: its child is its own affair");
    std::process::Command::new("kill").args(["-9", left.trim()]).status().unwrap();
}

#[tokio::test]
async fn the_whole_group_ends_with_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let mut channel = shell(&format!("sh -c 'echo $$ >>{0}; sleep 1000' & echo $$ >>{0}; sleep 1000", pids.display()));
    channel.timeout = Duration::from_millis(500);
    let error = alert::send(&channel, &expiring()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), ("timeout", true));
    let pids = std::fs::read_to_string(pids).unwrap();
    assert_eq!(pids.lines().count(), 2, "both had started");
    for pid in pids.lines() {
        let stat = format!("/proc/{pid}/stat");
        let gone = async {
            // gone, or a zombie that nobody has waited for yet
            while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap_or_else(|_| panic!("{pid} lives on"));
    }
}

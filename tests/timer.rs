//! `certsyncd sync` as a timer runs it, with no daemon beside it: what it leaves for those who watch.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/world.rs"]
mod world;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use certsyncd::store::lock;
use fakecloud::pki::Leaf;
use world::World;

const WWW: &str = "[[certificate]]\nname = \"www\"\nprovider = \"scm\"\nid = \"scs0000000000001\"\n";

/// A target whose reload always fails.
const BROKEN: &str = "deploy = [\"web\"]\n[deploy.web]\nkind = \"command\"\nreload = [\"false\"]\nmin_gap = \"0s\"\n";

async fn world(rest: &str) -> World {
    let world = World::start().await;
    world.cloud.huawei.add("scs0000000000001", world.pki.issue(Leaf::new(["www.example.com"]).days(60)));
    configure(&world, &format!("{WWW}{rest}"));
    world
}

fn configure(world: &World, rest: &str) {
    world.write("config.toml", &world.config("", rest));
}

fn run(world: &World, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certsyncd"));
    command.args(words).env("CERTSYNCD_CONFIG", world.path("config.toml")).env_remove("CERTSYNCD_LOG").stdin(Stdio::null());
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn metrics(file: &str) -> String {
    format!("[metrics]\ntextfile = \"{file}\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_file_is_written_after_a_pass() {
    let world = world("").await;
    let file = world.path("certsyncd.prom");
    configure(&world, &format!("{WWW}{}", metrics(file.to_str().unwrap())));
    let ran = run(&world, &["sync"]);
    assert!(ran.status.success(), "{}", said(&ran));
    let text = std::fs::read_to_string(&file).unwrap();
    for series in [
        "certsyncd_certificate_not_after_timestamp_seconds{name=\"www\",provider=\"scm\",source=\"disk\"} ",
        "certsyncd_pass_last_success_timestamp_seconds ",
        "certsyncd_pass_duration_seconds ",
        "certsyncd_provider_requests_total{provider=\"scm\",",
        "certsyncd_build_info{",
    ] {
        assert!(text.lines().any(|line| line.starts_with(series)), "no {series} in {text}");
    }
    // while a daemon lives the file is the daemon's: its counters go on
    std::fs::write(&file, "the daemon's").unwrap();
    let daemon = lock::daemon(&world.state()).unwrap();
    assert!(run(&world, &["sync"]).status.success());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "the daemon's");
    drop(daemon);
    assert!(run(&world, &["sync"]).status.success());
    assert!(std::fs::read_to_string(&file).unwrap().contains("certsyncd_build_info"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_file_that_cannot_be_written_fails_no_pass_and_says_what_to_do() {
    let world = world("").await;
    configure(&world, &format!("{WWW}{}", metrics(world.path("no/such/folder.prom").to_str().unwrap())));
    let ran = run(&world, &["sync"]);
    assert!(ran.status.success(), "{}", said(&ran));
    let said = said(&ran);
    assert!(said.contains("failed to leave the metrics") && said.contains("collector.textfile.directory"), "{said}");
}

/// An address that counts the requests to it and says 204.
fn beats() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/beat", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 1024];
            let read = stream.read(&mut head).unwrap_or_default();
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
            let first = String::from_utf8_lossy(&head[..read]).lines().next().unwrap_or_default().to_owned();
            if sender.send(first).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heartbeat_is_called_after_a_good_pass_over_everything_only() {
    let world = world("").await;
    let (address, beats) = beats();
    let rest = format!("{WWW}[alerts]\nheartbeat_url = \"{address}\"\n");
    configure(&world, &rest);
    assert!(run(&world, &["sync"]).status.success());
    assert_eq!(beats.recv_timeout(Duration::from_secs(10)).unwrap(), "GET /beat HTTP/1.1");
    // when the process has ended it has called, or will not
    assert!(run(&world, &["sync", "www"]).status.success());
    configure(&world, &rest.replace(WWW, &format!("{WWW}{BROKEN}")));
    assert_eq!(run(&world, &["sync"]).status.code(), Some(1));
    assert!(beats.try_recv().is_err(), "one entry, or a failure, is no good pass");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_says_what_was_sent_about_what_to_whom_and_how_it_went() {
    let world = world("").await;
    let script = world.script("pager", "echo 'no such pager' >&2; exit 3");
    let channel = format!(
        "[[alerts.channel]]\nkind = \"command\"\nname = \"pager\"\nmin_severity = \"info\"\ncommand = [\"{}\"]\n",
        script.display()
    );
    configure(&world, &format!("{WWW}{BROKEN}{channel}"));
    assert_eq!(said(&run(&world, &["alert", "history"])), "nothing has been told yet\n");
    assert_eq!(run(&world, &["sync"]).status.code(), Some(1));
    let history = said(&run(&world, &["alert", "history"]));
    let rows: Vec<&str> = history.lines().collect();
    assert!(["AT", "EVENT", "ABOUT", "CHANNEL", "OUTCOME", "ANSWER"].iter().all(|word| rows[0].contains(word)), "{history}");
    for words in
        [&["deploy_failed", "web", "pager", "failed (1 try), again 20", "no such pager"][..], &["web", "journal", "sent"]]
    {
        assert!(rows.iter().any(|row| words.iter().all(|word| row.contains(word))), "{words:?} in {history}");
    }
    let one = said(&run(&world, &["alert", "history", "--last", "1"]));
    assert_eq!(one.trim_end().lines().count(), 2, "{one}");
}

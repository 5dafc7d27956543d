//! The daemon as systemd runs it: the built binary with a notification socket of the test's own, signals, and the clouds misbehaving.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/wait.rs"]
mod wait;
#[path = "support/world.rs"]
mod world;

use std::io::{Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use certsyncd::ledger::Ledger;
use fakecloud::pki::{Issued, Leaf};
use fakecloud::{CdsCertificate, Fault, HuaweiCertificate, Match, What};
use rustix::process::{Pid, Signal, kill_process};
use world::World;

/// How long anything that is waited for may take; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// Only at New Year: passes come by signals alone.
const NEVER: &str = "schedule = \"0 0 0 1 1 *\"\n";
const WWW: &str = "[[certificate]]\nname = \"www\"\nprovider = \"scm\"\nid = \"scs0000000000001\"\n";

/// A running daemon and what it told systemd.
struct Daemon {
    child: Child,
    notify: UnixDatagram,
    log: std::path::PathBuf,
    /// Datagrams so far.
    told: Vec<(Instant, String)>,
}

impl Daemon {
    fn start(world: &World, rest: &str) -> Daemon {
        Daemon::start_with(world, rest, &[])
    }

    fn start_with(world: &World, rest: &str, environment: &[(&str, &str)]) -> Daemon {
        configure(world, rest);
        let path = world.path("notify");
        let _ = std::fs::remove_file(&path);
        let notify = UnixDatagram::bind(&path).unwrap();
        let log = world.path("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_certsyncd"));
        command.arg("run").arg("--config").arg(world.path("config.toml")).env("NOTIFY_SOCKET", path);
        command
            .env_remove("WATCHDOG_PID")
            .env_remove("JOURNAL_STREAM")
            .env("CERTSYNCD_LOG", "debug")
            .envs(environment.iter().copied());
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        Daemon { child, notify, log, told: Vec::new() }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// The next datagram.
    fn next(&mut self) -> String {
        let mut buffer = [0; 4096];
        self.notify.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = self.notify.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}: {:?}\n{}", self.told, self.said()));
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        self.told.push((Instant::now(), text.clone()));
        text
    }

    /// Waits for a datagram with this in it.
    fn hear(&mut self, words: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = self.next();
            if text.contains(words) {
                return text;
            }
            assert!(Instant::now() < end, "waited in vain for {words}: {:?}\n{}", self.told, self.said());
        }
    }

    /// Waits until this is so, asked again after each datagram.
    fn hear_until(&mut self, mut ready: impl FnMut() -> bool) {
        while !ready() {
            self.next();
        }
    }

    /// Whether something was told, up to now.
    fn has_told(&mut self, words: &str) -> bool {
        let mut buffer = [0; 4096];
        self.notify.set_nonblocking(true).unwrap();
        while let Ok(length) = self.notify.recv(&mut buffer) {
            self.told.push((Instant::now(), String::from_utf8_lossy(&buffer[..length]).into_owned()));
        }
        self.notify.set_nonblocking(false).unwrap();
        self.told.iter().any(|(_, text)| text.contains(words))
    }

    /// READY, and the first pass is over.
    fn settled(&mut self) {
        self.hear("READY=1");
        self.wait_for_passes(1);
    }

    fn passes(&self) -> usize {
        self.said().lines().filter(|line| line.contains("pass ok:") || line.contains("pass failed:")).count()
    }

    fn wait_for_passes(&self, count: usize) {
        until(self.log.parent().unwrap(), "a pass is over", || self.passes() >= count);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGHUP, and the pass after it is over.
    fn hang_up(&mut self) {
        let passes = self.passes();
        self.signal(Signal::HUP);
        self.wait_for_passes(passes + 1);
    }

    /// SIGTERM; the exit status and how long it took.
    fn terminate(&mut self) -> (ExitStatus, Duration) {
        self.signal(Signal::TERM);
        let told = Instant::now();
        assert!(wait::ends(&self.child, PATIENCE), "waited in vain: it ends");
        (self.child.wait().unwrap(), told.elapsed())
    }

    fn ends_well(&mut self) -> Duration {
        let (status, took) = self.terminate();
        assert!(status.success(), "{status}\n{}", self.said());
        assert!(self.has_told("STOPPING=1"));
        assert!(!self.said().contains("panicked"), "{}", self.said());
        took
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes the configuration; `rest` may begin with keys of `[daemon]`.
fn configure(world: &World, rest: &str) {
    let (daemon, rest) = match rest.find('[') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let text = world.config("", rest).replace("splay = \"0s\"\n", &format!("splay = \"0s\"\n{daemon}"));
    world.write("config.toml", &text);
}

/// Waits until `ready` says so, asked again whenever a file in `folder` changed.
fn until(folder: &Path, what: &str, ready: impl FnMut() -> bool) {
    wait::until(folder, what, PATIENCE, ready);
}

fn until_asked(world: &World, operation: &str, count: usize) {
    assert!(world.cloud.wait_for(operation, count, PATIENCE), "waited in vain: {operation} {count}");
}

fn add(world: &World, number: usize, name: &str, days: i64) -> Issued {
    let issued = world.pki.issue(Leaf::new([name]).days(days));
    world.cloud.huawei.add(format!("scs{number:013}"), issued.clone());
    issued
}

fn entry(name: &str, number: usize, more: &str) -> String {
    format!("[[certificate]]\nname = \"{name}\"\nprovider = \"scm\"\nid = \"scs{number:013}\"\n{more}")
}

fn leaf(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.live(name).join("cert.pem")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_comes_after_the_first_pass_when_something_is_missing_and_at_once_when_not() {
    let world = World::start().await;
    add(&world, 1, "www.example.com", 60);
    world.cloud.fault(Fault::new(Match::operation("list"), What::Delay(Duration::from_secs(1))));
    let mut daemon = Daemon::start(&world, &format!("{NEVER}{WWW}"));
    daemon.hear("READY=1");
    assert!(world.live("www").exists(), "not before the files are there");
    daemon.ends_well();
    world.cloud.clear_faults();
    world.cloud.fault(Fault::new(Match::any(), What::Hang));
    let mut daemon = Daemon::start(&world, &format!("{NEVER}{WWW}"));
    let ready = daemon.hear("READY=1");
    assert_eq!(daemon.passes(), 0, "with the cloud away a boot waits for nothing");
    assert!(ready.contains("STATUS=last pass") && ready.contains("1 certificate"), "{ready}");
    daemon.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_sentence_tells_how_it_stands() {
    let world = World::start().await;
    add(&world, 1, "www.example.com", 9);
    let mut daemon = Daemon::start(&world, &format!("{NEVER}{WWW}"));
    assert!(daemon.hear("STATUS=").contains("first pass under way"));
    let sentence = daemon.hear("first to end: www in 8 days");
    assert!(sentence.contains("ok, 1 certificate, next"), "{sentence}");
    daemon.settled();
    world.cloud.huawei.set_secret_key("another");
    daemon.signal(Signal::HUP);
    let sentence = daemon.hear("failed");
    assert!(sentence.contains("1 of 1 certificate failed"), "{sentence}");
    daemon.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_brings_new_entries_and_new_secrets() {
    let world = World::start().await;
    let www = add(&world, 1, "www.example.com", 60);
    add(&world, 2, "api.example.com", 60);
    let key = world.write("secret", &world.cloud.huawei.secret_key());
    let by_file = |rest: &str| {
        configure(&world, rest);
        let text = world.read("config.toml");
        let plain = format!("secret_key = \"{}\"", world.cloud.huawei.secret_key());
        world.write("config.toml", &text.replace(&plain, &format!("secret_key = {{ file = \"{}\" }}", key.display())))
    };
    let mut daemon = Daemon::start(&world, &format!("{NEVER}{WWW}"));
    daemon.settled();
    by_file(&format!("{NEVER}{WWW}{}", entry("api", 2, "")));
    daemon.hang_up();
    assert!(world.live("api").exists(), "{}", daemon.said());
    assert!(daemon.has_told("RELOADING=1"));

    world.cloud.huawei.set_secret_key("another-secret-key-of-huawei");
    daemon.hang_up();
    assert!(daemon.said().contains("pass failed"), "{}", daemon.said());
    world.write("secret", "another-secret-key-of-huawei\n");
    let new = add(&world, 1, "www.example.com", 80);
    daemon.hang_up();
    assert_ne!(leaf(&world, "www").trim(), www.leaf_pem.trim());
    assert_eq!(leaf(&world, "www").trim(), new.leaf_pem.trim(), "{}", daemon.said());
    daemon.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_with_a_bad_configuration_is_refused_told_and_later_resolved() {
    let world = World::start().await;
    add(&world, 1, "www.example.com", 60);
    let mut daemon = Daemon::start(&world, &format!("{NEVER}{WWW}"));
    daemon.settled();
    configure(&world, &format!("{NEVER}{WWW}ids = \"x\"\n"));
    let new = add(&world, 1, "www.example.com", 80);
    daemon.hang_up();
    assert_eq!(leaf(&world, "www").trim(), new.leaf_pem.trim(), "the old configuration goes on");
    until(&world.path(""), "the alert", || world.event_names().contains(&"config_refused".to_owned()));
    let told = world.events().into_iter().find(|event| event["event"] == "config_refused").unwrap();
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("the old one goes on") && message.contains("ids"), "{message}");
    daemon.hang_up();
    assert_eq!(world.event_names().iter().filter(|name| *name == "config_refused").count(), 1, "once");
    configure(&world, &format!("{NEVER}{WWW}"));
    daemon.hang_up();
    until(&world.path(""), "it is resolved", || {
        world.events().iter().any(|event| event["event"] == "resolved" && event["certificate"].is_null())
    });
    daemon.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn hang_ups_and_restarts_neither_repeat_nor_lose_an_alert() {
    let world = World::start().await;
    add(&world, 1, "www.example.com", 9);
    let told = |name: &str| world.event_names().iter().filter(|told| *told == name).count();
    let mut daemon = Daemon::start(&world, &format!("{NEVER}{WWW}"));
    daemon.settled();
    until(&world.path(""), "the alert", || told("expiring") == 1);
    daemon.hang_up();
    daemon.hang_up();
    daemon.ends_well();
    let mut daemon = Daemon::start(&world, &format!("{NEVER}{WWW}"));
    daemon.settled();
    add(&world, 1, "www.example.com", 80);
    daemon.hang_up();
    until(&world.path(""), "it is over", || told("resolved") == 1 && told("renewed") == 1);
    daemon.ends_well();
    assert_eq!((told("expiring"), told("renewed"), told("resolved")), (1, 1, 1), "{:?}", world.event_names());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_a_pass_leaves_nothing_half_done() {
    let world = World::start().await;
    let old = add(&world, 1, "www.example.com", 60);
    let mut daemon = Daemon::start(&world, &format!("{NEVER}{WWW}"));
    daemon.settled();
    let before = world.files();
    for what in [
        What::Hang,
        What::HangAfterHeaders,
        What::Delay(Duration::from_secs(20)),
        What::Drip { interval: Duration::from_secs(1) },
    ] {
        for operation in ["list", "export"] {
            add(&world, 1, "www.example.com", 80);
            world.cloud.clear_requests();
            world.cloud.fault(Fault::new(Match::operation(operation), what.clone()));
            daemon.signal(Signal::HUP);
            until_asked(&world, operation, 1);
            let took = daemon.ends_well();
            assert!(took < Duration::from_secs(5), "{} of {operation}: {took:?}", what.name());
            assert_eq!(world.files(), before, "{}", what.name());
            assert_eq!(leaf(&world, "www").trim(), old.leaf_pem.trim());
            assert!(Ledger::peek(&world.state()).unwrap().rebuilt.is_none());
            // The first pass of the next daemon would change things too, and ends before it gets that far.
            world.cloud.clear_faults();
            world.cloud.clear_requests();
            world.cloud.fault(Fault::new(Match::operation("list"), What::Hang));
            daemon = Daemon::start(&world, &format!("{NEVER}{WWW}"));
            daemon.hear("READY=1");
            until_asked(&world, "list", 1);
            daemon.ends_well();
            // And one that finds nothing new, for the next round.
            world.cloud.clear_faults();
            world.cloud.huawei.add("scs0000000000001", old.clone());
            daemon = Daemon::start(&world, &format!("{NEVER}{WWW}"));
            daemon.settled();
        }
    }
    daemon.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_a_reload_finishes_it() {
    let world = World::start().await;
    add(&world, 1, "www.example.com", 60);
    let reload = world
        .script("reload", &format!("touch {0}; sleep 1; touch {1}", world.path("begun").display(), world.path("done").display()));
    let rest = format!(
        "{NEVER}{}[deploy.web]\nkind = \"command\"\nreload = [\"{}\"]\n",
        entry("www", 1, "deploy = [\"web\"]\n"),
        reload.display()
    );
    let mut daemon = Daemon::start(&world, &rest);
    until(&world.path(""), "the reload", || world.path("begun").exists());
    daemon.ends_well();
    assert!(world.path("done").exists(), "the step in hand is finished");
    let ledger = Ledger::peek(&world.state()).unwrap().ledger;
    let record = &ledger.certificates["www"];
    assert_eq!(record.targets.get("web").unwrap().reloaded, record.live.as_ref().map(|live| live.fingerprint), "and remembered");
    assert_eq!(ledger.targets["web"].pending, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_webhook_that_hangs_and_the_alert_is_not_lost() {
    let world = World::start().await;
    add(&world, 1, "www.example.com", 9);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let hook = format!("[[alerts.channel]]\nkind = \"webhook\"\nname = \"hook\"\nurl = \"http://{address}/hook\"\n");
    let heartbeat = format!("[alerts]\nheartbeat_url = \"http://{address}/beat\"\n");
    let mut daemon = Daemon::start(&world, &format!("{NEVER}{WWW}{heartbeat}{hook}"));
    daemon.settled();
    let (_first, _) = silent.accept().unwrap();
    assert!(daemon.ends_well() < Duration::from_secs(5));
    // The next daemon brings it, to a webhook that answers.
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = silent.accept() {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                request.extend_from_slice(&buffer[..length]);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = told.send(String::from_utf8_lossy(&request).into_owned());
        }
    });
    let mut daemon = Daemon::start(&world, &format!("{NEVER}{WWW}{heartbeat}{hook}"));
    daemon.settled();
    let end = Instant::now() + PATIENCE;
    while !heard.recv_timeout(end.saturating_duration_since(Instant::now())).unwrap().contains("\"event\":\"expiring\"") {}
    daemon.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_is_75_and_two_state_directories_live_side_by_side() {
    let (world, other) = (World::start().await, World::start().await);
    add(&world, 1, "www.example.com", 60);
    add(&other, 1, "www.example.com", 60);
    let mut daemon = Daemon::start(&world, &format!("{NEVER}{WWW}"));
    daemon.settled();
    let second =
        Command::new(env!("CARGO_BIN_EXE_certsyncd")).args(["run", "--config"]).arg(world.path("config.toml")).output().unwrap();
    let words = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(75), "{words}");
    assert!(words.contains(&format!("process {}", daemon.child.id())), "{words}");
    let mut beside = Daemon::start(&other, &format!("{NEVER}{WWW}"));
    beside.settled();
    daemon.hang_up();
    // `sync` runs beside the daemon.
    let sync =
        Command::new(env!("CARGO_BIN_EXE_certsyncd")).args(["sync", "--config"]).arg(world.path("config.toml")).output().unwrap();
    assert!(sync.status.success(), "{}", String::from_utf8_lossy(&sync.stderr));
    beside.ends_well();
    daemon.ends_well();
}

/// Servers are ordered after us by our drop-ins, so systemd has their reloads wait for our start; and we wait for the reload.
#[tokio::test(flavor = "multi_thread")]
async fn reloads_before_ready_do_not_wait_for_our_own_start() {
    let world = World::start().await;
    let (said, id) = (world.path("said"), 1);
    add(&world, id, "www.example.com", 60);
    let systemctl = world.script(
        "systemctl",
        &format!("case \"$*\" in show*) echo ActiveState=active;; *) echo \"$@\" >>{};; esac", said.display()),
    );
    let target =
        format!("[deploy.web]\nkind = \"command\"\nreload = [\"{}\", \"reload\", \"web.service\"]\n", systemctl.display());
    let rest = format!("{NEVER}{}{target}", entry("www", id, "deploy = [\"web\"]\n"));
    let mut daemon = Daemon::start(&world, &rest);
    daemon.settled();
    assert_eq!(std::fs::read_to_string(&said).unwrap(), "--job-mode=ignore-dependencies reload web.service\n");
    daemon.hang_up();
    daemon.hang_up();
    assert_eq!(std::fs::read_to_string(&said).unwrap().lines().count(), 1, "that it was in haste is no change of its settings");
    add(&world, id, "www.example.com", 80);
    configure(&world, &format!("{NEVER}{}{target}", entry("www", id, "deploy = [\"web\"]\nnames = [\"www.example.com\"]\n")));
    daemon.hang_up();
    until(&world.path(""), "the second reload", || std::fs::read_to_string(&said).unwrap().lines().count() == 2);
    assert!(std::fs::read_to_string(&said).unwrap().ends_with("\nreload web.service\n"));
    daemon.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_a_later_version_is_refused_at_the_start_with_78() {
    let world = World::start().await;
    std::fs::create_dir_all(world.state()).unwrap();
    let ledger = r#"{"version":99,"written_by":"certsyncd 9.9.9","certificates":{}}"#;
    std::fs::write(world.state().join("ledger.json"), ledger).unwrap();
    let mut daemon = Daemon::start(&world, NEVER);
    assert_eq!(daemon.child.wait().unwrap().code(), Some(78), "systemd does not try again: RestartPreventExitStatus=78");
    assert!(daemon.said().contains("written by certsyncd 9.9.9") && daemon.said().contains("hint: "), "{}", daemon.said());
    assert_eq!(std::fs::read_to_string(world.state().join("ledger.json")).unwrap(), ledger);
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_longer_than_the_schedule_neither_overlap_nor_pile_up() {
    let world = World::start().await;
    add(&world, 1, "www.example.com", 60);
    let slow = Duration::from_millis(2500);
    world.cloud.fault(Fault::new(Match::operation("list"), What::Delay(slow)));
    let mut daemon = Daemon::start(&world, &format!("schedule = \"* * * * * *\"\n{WWW}"));
    let began = Instant::now();
    until_asked(&world, "list", 4);
    let rate = began.elapsed();
    assert!(rate >= slow * 3, "four passes began within {rate:?}");
    world.cloud.clear_faults();
    daemon.wait_for_passes(4);
    // Had the missed ticks piled up, they would all come now, one right after the other.
    let (before, now) = (daemon.passes(), Instant::now());
    daemon.wait_for_passes(before + 3);
    assert!(now.elapsed() > Duration::from_millis(1500), "three passes within {:?}", now.elapsed());
    daemon.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_in_the_log_at_trace() {
    let world = World::start().await;
    let issued = [
        add(&world, 1, "www.example.com", 60),
        world.pki.issue(Leaf::new(["own.example.com"])),
        world.pki.issue(Leaf::new(["api.example.com"]).days(9)),
    ];
    let own = world.write("own.key", &issued[1].key_pem);
    world.cloud.huawei.add("scs0000000000002", HuaweiCertificate::new(issued[1].clone()).layout(fakecloud::Layout::OwnCsr));
    world.cloud.cds.add("cds-1", CdsCertificate::new(issued[2].clone()));
    let (cloud, temporary) = (&world.cloud.huawei, world.cloud.huawei.temporary());
    let provider = |name: &str, auth: &str| {
        format!(
            "[providers.{name}]\nkind = \"huawei-scm\"\nendpoint = \"{}\"\niam_endpoint = \"{}\"\nmetadata_endpoint = \"{}\"\nproject_id = \"{}\"\nrate_limit = 0\nauth = {{ {auth} }}\n\
             [[certificate]]\nname = \"by-{name}\"\nprovider = \"{name}\"\nid = \"scs0000000000001\"\n",
            cloud.endpoint(),
            cloud.iam_endpoint(),
            cloud.metadata_endpoint(),
            cloud.project_id()
        )
    };
    let providers = [
        provider(
            "password",
            &format!(
                "method = \"password\", user = \"{}\", password = \"{}\", domain = \"{}\", project = \"{}\"",
                cloud.user(),
                cloud.password(),
                cloud.domain(),
                cloud.project()
            ),
        ),
        provider("token", &format!("method = \"token\", token = \"{}\"", cloud.token())),
        provider("metadata", "method = \"metadata\""),
        provider(
            "temporary",
            &format!(
                "method = \"access-key\", access_key = \"{}\", secret_key = \"{}\", security_token = \"{}\"",
                temporary.access_key, temporary.secret_key, temporary.security_token
            ),
        ),
        provider(
            "wrong",
            "method = \"access-key\", access_key = \"SOMEBODY-ELSES-KEY\", secret_key = \"a-secret-that-is-wrong\"",
        ),
    ]
    .concat();
    let rest = format!(
        "{NEVER}{WWW}[[certificate.output]]\nformat = \"pkcs12\"\npath = \"{}\"\npassword = \"the-password-of-the-output\"\n\
         [[certificate]]\nname = \"own\"\nprovider = \"archive\"\nid = \"scs0000000000002\"\nkey_file = \"{}\"\n\
         [[certificate]]\nname = \"api\"\nprovider = \"cds\"\nid = \"cds-1\"\n{providers}\
         [[alerts.channel]]\nkind = \"webhook\"\nname = \"hook\"\nurl = \"http://127.0.0.1:9/hook/a-token-in-the-address\"\n",
        world.path("www.p12").display(),
        own.display()
    );
    let mut daemon =
        Daemon::start_with(&world, &rest, &[("CERTSYNCD_LOG", "trace"), ("RUST_LOG", "trace"), ("RUST_BACKTRACE", "1")]);
    daemon.settled();
    world.cloud.fault(Fault::new(Match::any(), What::HtmlPage).times(3));
    world.cloud.fault(Fault::new(Match::any(), What::Cut(20)).times(3));
    daemon.hang_up();
    world.cloud.clear_faults();
    daemon.hang_up();
    daemon.ends_well();
    let log = daemon.said();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "it is the most talkative log");
    for name in ["www", "own", "api", "by-password", "by-token", "by-metadata", "by-temporary"] {
        assert!(world.live(name).exists(), "{name}\n{log}");
    }
    let mut secrets = vec![
        cloud.secret_key(),
        world.cloud.cds.secret_key(),
        cloud.password(),
        temporary.secret_key,
        temporary.security_token,
        "a-secret-that-is-wrong".to_owned(),
        "the-password-of-the-output".to_owned(),
        "a-token-in-the-address".to_owned(),
        "PRIVATE KEY".to_owned(),
        "Signature=".to_owned(),
        world.cloud.cds.access_key(),
    ];
    secrets.extend(
        issued
            .iter()
            .flat_map(|one| one.key_pem.lines().filter(|line| line.len() > 20 && !line.starts_with('-')).map(str::to_owned)),
    );
    for seen in world.cloud.requests() {
        let tokens = ["x-auth-token", "x-security-token", "x-metadata-token"].into_iter().filter_map(|name| seen.header(name));
        secrets.extend(tokens.map(str::to_owned));
        secrets.extend(seen.header("authorization").and_then(|value| value.rsplit("Signature=").next()).map(str::to_owned));
        secrets.extend(seen.target.split("Signature=").nth(1).and_then(|rest| rest.split('&').next()).map(str::to_owned));
    }
    assert!(secrets.len() > 40, "something to look for: {}", secrets.len());
    for secret in &secrets {
        assert!(
            !log.contains(secret.as_str()),
            "the log has {secret}: {}",
            log.lines().find(|line| line.contains(secret.as_str())).unwrap()
        );
    }
    let kept = [world.read("state/ledger.json"), world.read("state/status.json"), world.read("events")].concat();
    for secret in &secrets {
        assert!(!kept.contains(secret.as_str()), "ledger, status or events have {secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_answers_before_during_and_after_a_pass() {
    let world = World::start().await;
    add(&world, 1, "www.example.com", 60);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let textfile = world.path("certsyncd.prom");
    let rest = format!("{NEVER}{WWW}[metrics]\nlisten = \"127.0.0.1:{port}\"\ntextfile = \"{}\"\n", textfile.display());
    world.cloud.fault(Fault::new(Match::operation("list"), What::Delay(Duration::from_secs(1))));
    let mut daemon = Daemon::start(&world, &rest);
    until_asked(&world, "list", 1);
    assert_eq!(get(port, "/readyz").0, 503, "not before READY");
    assert_eq!(get(port, "/healthz").0, 200);
    daemon.settled();
    daemon.hear_until(|| get(port, "/metrics").1.contains("certsyncd_pass_duration_seconds"));
    for (path, expected) in [
        ("/metrics", "certsyncd_certificate_not_after_timestamp_seconds{"),
        ("/metrics", "certsyncd_provider_requests_total{"),
        ("/metrics", "certsyncd_build_info"),
        ("/healthz", ""),
        ("/readyz", ""),
        ("/status.json", "\"name\":\"www\""),
    ] {
        let (code, body) = get(port, path);
        assert!(code == 200 && body.replace(": ", ":").contains(expected), "{path} {code}: {body}");
    }
    assert_eq!(get(port, "/nothing").0, 404);
    assert!(std::fs::read_to_string(&textfile).unwrap().contains("certsyncd_certificate_not_after_timestamp_seconds{"));
    // Another address after a hang-up; the series of what left the inventory go.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    configure(&world, &format!("{NEVER}[metrics]\nlisten = \"127.0.0.1:{other}\"\n"));
    daemon.hang_up();
    daemon.hear_until(|| !get(other, "/metrics").1.contains("name=\"www\""));
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    daemon.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_is_fed_while_idle_and_by_the_steps_of_a_pass() {
    let world = World::start().await;
    add(&world, 1, "www.example.com", 60);
    // A pass of eight steps of a second each, and a provider that takes as long; systemd wants to hear of us every three seconds.
    let names = ["a", "b", "c", "d"];
    let reload = world.script("reload", "sleep 1");
    let target = |name: &&str| {
        format!(
            "[deploy.{name}]\nkind = \"command\"\ntest = [\"{0}\"]\nreload = [\"{0}\"]\ntimeout = \"1500ms\"\nmin_gap = \"0s\"\n",
            reload.display()
        )
    };
    let rest =
        format!("{NEVER}{}{}", entry("www", 1, &format!("deploy = {names:?}\n")), names.iter().map(target).collect::<String>());
    for operation in ["list", "export"] {
        world.cloud.fault(Fault::new(Match::operation(operation), What::error(503, "APIGW.0001", "come again")).times(3));
    }
    let mut daemon = Daemon::start_with(&world, &rest, &[("WATCHDOG_USEC", "3000000")]);
    let began = Instant::now();
    daemon.hear("READY=1");
    let after = daemon.told.iter().filter(|(_, text)| text.contains("WATCHDOG=1")).count();
    daemon.hear("WATCHDOG=1");
    daemon.hear("WATCHDOG=1");
    assert!(after >= 3 && began.elapsed() > Duration::from_secs(8), "{after} {:?}", daemon.told);
    let beats: Vec<Instant> = std::iter::once(began)
        .chain(daemon.told.iter().filter(|(_, text)| text.contains("WATCHDOG=1")).map(|(at, _)| *at))
        .collect();
    let longest = beats.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest < Duration::from_millis(3000), "{longest:?} between two beats");
    daemon.ends_well();
}

/// Status and body of a GET.
fn get(port: u16, path: &str) -> (u16, String) {
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return (0, String::new()) };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (code, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

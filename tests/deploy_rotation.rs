//! Fifty renewals, RSA and EC in turn, each by a whole pass, under load, with the real nginx and haproxy: not one request fails, and a
//! second after a pass nobody is shown an older certificate.
//!
//! Clients behave as real ones do: they open a new connection when the server closes the old one, and send a request again that a reused
//! connection closed under before a byte of the answer came (RFC 9112, 9.3.1): nginx closes idle
//! connections when it reloads. haproxy, updated in place, has no reason to close any, and may not. Anything else that goes wrong is a failure, and there may be none.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod support;
#[path = "support/world.rs"]
mod world;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use certsyncd::report::{Report, TargetAction};
use certsyncd::sync::Syncer;
use fakecloud::pki::{Issued, Key, Leaf};
use support::client::{self, Client, try_connect};
use support::haproxy::Haproxy;
use support::nginx::Nginx;
use support::{free_port, until};
use tokio::task::JoinSet;
use tokio::time::sleep;
use world::World;

const NAME: &str = "www.example.com";
const ID: &str = "scs0000000000001";
const ROTATIONS: usize = 50;

/// Clients of each server that keep their connection, and the time between two requests of one.
const KEPT: (usize, Duration) = (32, Duration::from_millis(40));
/// Clients of each server that open a new connection for each request, and the time between two.
const FRESH: (usize, Duration) = (8, Duration::from_millis(80));
/// Requests and new connections that each server must have answered, or it was no load.
const LEAST: (u64, u64) = (5_000, 1_000);
/// From the end of a pass until everybody is shown its certificate.
const A_SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn nginx_and_haproxy_drop_nothing_over_fifty_passes() {
    let host = Host::start().await;
    let (nginx_port, haproxy_port) = (free_port(), free_port());
    let nginx = host.nginx(nginx_port);
    let haproxy = Haproxy::start(&host.bind(), haproxy_port);
    let sync = host.sync(&[
        target("web", "nginx", nginx_port, &format!("reload = {:?}\n", nginx.reload())),
        host.in_place("edge", haproxy_port, &haproxy.admin()),
    ]);
    let before = processes(&haproxy);
    let loads = [Load::start(nginx_port, &host.history), Load::start(haproxy_port, &host.history)];

    for number in 0..ROTATIONS {
        let actions = host.rotate(number, &sync, &[nginx_port, haproxy_port]).await;
        assert_eq!(actions, [TargetAction::Updated, TargetAction::Reloaded], "edge and web, pass {number}");
    }

    let [web, edge] = loads;
    let (web, edge) = (web.finish().await, edge.finish().await);
    eprintln!("nginx: {web:?}; haproxy: {edge:?}");
    assert!(web.was_load() && edge.was_load());
    host.left_alone(&haproxy, &before, &edge);
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxys_master_and_worker_stay_and_drop_nothing_over_fifty_passes() {
    let host = Host::start().await;
    let port = free_port();
    let haproxy = Haproxy::start_master(&host.bind(), port);
    let sync = host.sync(&[host.in_place("edge", port, &haproxy.master())]);
    let before = processes(&haproxy);
    let load = Load::start(port, &host.history);

    for number in 0..ROTATIONS {
        assert_eq!(host.rotate(number, &sync, &[port]).await, [TargetAction::Updated], "pass {number}");
    }

    let load = load.finish().await;
    eprintln!("haproxy behind its master: {load:?}");
    assert!(load.was_load());
    host.left_alone(&haproxy, &before, &load);
}

/// A host whose one certificate is live on disk.
struct Host {
    world: World,
    history: Arc<History>,
}

impl Host {
    async fn start() -> Host {
        let host = Host { world: World::start_in_memory().await, history: Arc::default() };
        let first = host.world.pki.issue(Leaf::new([NAME]).days(60));
        host.world.cloud.huawei.add(ID, first.clone());
        host.history.issued(&first);
        let report = host.world.pass(&host.world.sync(&entry(&[]))).await;
        assert!(report.is_ok(), "{report:?}");
        host
    }

    fn nginx(&self, port: u16) -> Nginx {
        let pem = self.world.live("www").join("combined.pem");
        let files = format!("ssl_certificate {0}; ssl_certificate_key {0};", pem.display());
        let server = format!("server {{ listen 127.0.0.1:{port} ssl; {files} location / {{ return 200 ok; }} }}");
        let nginx = Nginx::start(2, &server, port);
        until("nginx says its process id", || Path::new(&nginx.argv(&[])[2]).join("pid").exists());
        nginx
    }

    fn bind(&self) -> String {
        format!("ssl crt {}", self.world.live("www").join("combined.pem").display())
    }

    /// A haproxy that is updated in place; a reload would be noted, and fail.
    fn in_place(&self, name: &str, port: u16, socket: &Path) -> String {
        let reload = self.world.script("reload", &format!("echo . >> {}\nexit 1", self.world.path("reloads").display()));
        target(name, "haproxy", port, &format!("socket = \"{}\"\nreload = [\"{}\"]\n", socket.display(), reload.display()))
    }

    /// The inventory with these targets, by name.
    fn sync(&self, targets: &[String]) -> Syncer {
        let names: Vec<&str> = targets.iter().filter_map(|text| text.strip_prefix("[deploy.")?.split(']').next()).collect();
        self.world.sync(&format!("{}{}", entry(&names), targets.concat()))
    }

    /// A renewal and the pass that brings it; what became of the targets, by name.
    async fn rotate(&self, number: usize, sync: &Syncer, ports: &[u16]) -> Vec<TargetAction> {
        let key = if number.is_multiple_of(2) { Key::Rsa2048 } else { Key::P256 };
        let new = self.world.pki.issue(Leaf::new([NAME]).key(key).days(61 + i64::try_from(number).unwrap()));
        self.world.cloud.huawei.replace(ID, new.clone());
        self.history.issued(&new);
        let report = self.world.pass(sync).await;
        self.history.ended();
        assert!(report.is_ok(), "{report:?}");
        for port in ports {
            shown_within_a_second(*port, &new).await;
        }
        actions(&report)
    }

    /// haproxy runs as it did, was not told to reload, and closed no connection.
    fn left_alone(&self, haproxy: &Haproxy, before: &[String], load: &Told) {
        assert_eq!(processes(haproxy), before, "its processes");
        assert!(!self.world.path("reloads").exists(), "it was reloaded");
        assert_eq!(load.sent_again, 0, "a connection was closed");
        assert_eq!(load.kept, u64::try_from(KEPT.0).unwrap(), "a kept connection was opened again");
    }
}

fn entry(targets: &[&str]) -> String {
    format!("[[certificate]]\nname = \"www\"\nprovider = \"scm\"\nid = \"{ID}\"\ndeploy = {targets:?}\n")
}

fn target(name: &str, kind: &str, port: u16, keys: &str) -> String {
    format!("[deploy.{name}]\nkind = \"{kind}\"\nverify = [\"127.0.0.1:{port}\"]\ntimeout = \"10s\"\nmin_gap = \"0s\"\n{keys}")
}

fn actions(report: &Report) -> Vec<TargetAction> {
    report.targets.iter().map(|target| target.action).collect()
}

/// haproxy's own process id, and those of its workers where it has a master.
fn processes(haproxy: &Haproxy) -> Vec<String> {
    let info = haproxy.ask("show info");
    let own = info.lines().filter(|line| line.starts_with("Pid:") || line.starts_with("Stopping:")).map(str::to_owned);
    own.chain(haproxy.workers()).collect()
}

async fn shown_within_a_second(port: u16, new: &Issued) {
    let ended = Instant::now();
    while client::connect(port, NAME).await.leaf() != new.sha256 {
        assert!(ended.elapsed() < A_SECOND, "{port} shows an older one");
    }
}

/// Every certificate in the order of its issue, and when the passes ended that brought them.
#[derive(Default)]
struct History(Mutex<(HashMap<String, usize>, Vec<Instant>)>);

impl History {
    fn issued(&self, new: &Issued) {
        let (leaves, _) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = leaves.len();
        leaves.insert(new.sha256.clone(), number);
    }

    /// The pass ended that brought the last one.
    fn ended(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.push(Instant::now());
    }

    /// A connection that was begun at that time may show this one: it is ours, and none of which a second before there was a newer one.
    fn judge(&self, leaf: &str, begun: Instant) -> io::Result<()> {
        let (leaves, ended) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = ended.iter().filter(|ended| begun.saturating_duration_since(**ended) >= A_SECOND).count();
        match leaves.get(leaf) {
            Some(shown) if *shown >= newest => Ok(()),
            shown => Err(io::Error::other(format!("shows {shown:?}, a second after {newest} was deployed"))),
        }
    }
}

/// What a [`Load`] did.
#[derive(Debug)]
struct Told {
    requests: u64,
    /// Connections that were opened by those that keep theirs.
    kept: u64,
    /// Connections that were opened by the others.
    fresh: u64,
    /// Requests that a kept connection was closed under, and that went well on another one.
    sent_again: u64,
}

impl Told {
    fn was_load(&self) -> bool {
        self.requests > LEAST.0 && self.fresh > LEAST.1
    }
}

#[derive(Default)]
struct Counters {
    stop: AtomicBool,
    requests: AtomicU64,
    kept: AtomicU64,
    fresh: AtomicU64,
    sent_again: AtomicU64,
}

/// Clients of one server that go on until they are told to stop.
struct Load {
    counters: Arc<Counters>,
    clients: JoinSet<io::Result<()>>,
}

impl Load {
    fn start(port: u16, history: &Arc<History>) -> Load {
        let mut load = Load { counters: Arc::default(), clients: JoinSet::new() };
        for ((count, pace), keeps) in [(KEPT, true), (FRESH, false)] {
            for _ in 0..count {
                load.clients.spawn(visit(port, pace, keeps, Arc::clone(&load.counters), Arc::clone(history)));
            }
        }
        load
    }

    /// Stops the clients; fails when any request of any of them failed.
    async fn finish(mut self) -> Told {
        self.counters.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap().expect("a request failed");
        }
        let Counters { requests, kept, fresh, sent_again, .. } = &*self.counters;
        let [requests, kept, fresh, sent_again] = [requests, kept, fresh, sent_again].map(|n| n.load(Ordering::Relaxed));
        Told { requests, kept, fresh, sent_again }
    }
}

async fn visit(port: u16, pace: Duration, keeps: bool, counters: Arc<Counters>, history: Arc<History>) -> io::Result<()> {
    let opened = if keeps { &counters.kept } else { &counters.fresh };
    let mut kept = None;
    while !counters.stop.load(Ordering::Relaxed) {
        let client = match on_the_kept(kept.take(), &counters.sent_again).await? {
            Some(client) => client,
            None => on_a_new(port, &history, opened).await?,
        };
        counters.requests.fetch_add(1, Ordering::Relaxed);
        kept = Some(client).filter(|client| keeps && !client.closing);
        sleep(pace).await;
    }
    Ok(())
}

/// A request on a connection that was kept; `None`: there is none, or it was closed before a byte of the answer came.
async fn on_the_kept(kept: Option<Client>, sent_again: &AtomicU64) -> io::Result<Option<Client>> {
    let Some(mut client) = kept else { return Ok(None) };
    match client.get().await {
        Ok(body) => good(&body).map(|()| Some(client)),
        Err(_) if client.unanswered => {
            sent_again.fetch_add(1, Ordering::Relaxed);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn on_a_new(port: u16, history: &History, opened: &AtomicU64) -> io::Result<Client> {
    opened.fetch_add(1, Ordering::Relaxed);
    let begun = Instant::now();
    let mut client = try_connect(port, NAME).await?;
    history.judge(&client.leaf(), begun)?;
    good(&client.get().await?)?;
    Ok(client)
}

fn good(body: &str) -> io::Result<()> {
    if body == "ok" { Ok(()) } else { Err(io::Error::other(format!("another answer: {body}"))) }
}

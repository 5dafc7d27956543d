//! A host with real servers on what certsyncd has live, for tests of whole passes.
#![allow(dead_code)]

use std::path::Path;
use std::time::{Duration, Instant};

use certsyncd::clock::Clock;
use certsyncd::ledger::Ledger;
use certsyncd::report::{Report, TargetAction};
use certsyncd::sync::{Scope, Syncer};
use fakecloud::pki::{Issued, Leaf};
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::support::haproxy::Haproxy;
use super::support::nginx::Nginx;
use super::support::{self, client, free_port, until};
use super::world::World;

/// What a server says when it refuses something.
pub const WORDS: &str = "the server's own words";
/// A shell condition: something else than the first certificate of `www` is live.
pub const NEW: &str = "! cmp -s \"$ROOT/state/live/www/cert.pem\" \"$ROOT/first.pem\"";

/// A host with entries `www` (and more), each with its first certificate on disk, and nginx serving them.
pub struct Site {
    pub world: World,
    pub names: Vec<&'static str>,
    pub first: Vec<Issued>,
    pub port: u16,
    pub nginx: Nginx,
}

impl Site {
    /// Entries of these names (`www` is `www.example.com`), live on disk and served; no pass has told nginx anything yet.
    pub async fn new(names: &[&'static str]) -> Site {
        let (world, first) = installed(names).await;
        let port = free_port();
        let nginx = Nginx::start(2, &blocks(&world, names, port), port);
        until("nginx says its process id", || Path::new(&nginx.argv(&[])[2]).join("pid").exists());
        let site = Site { world, names: names.to_vec(), first, port, nginx };
        std::fs::copy(site.world.live(names[0]).join("cert.pem"), site.world.path("first.pem")).unwrap();
        site
    }

    /// `[deploy.web]` whose reload runs `body` and then, if that did not end it, the real one.
    pub fn reload(&self, body: &str) -> String {
        format!("reload = [\"{}\"]\n", self.script("reload", &format!("{body}\nexec {}", self.nginx.reload().join(" "))))
    }

    pub fn test(&self, body: &str) -> String {
        format!("test = [\"{}\"]\n", self.script("test", body))
    }

    pub fn script(&self, name: &str, body: &str) -> String {
        self.world.script(name, &format!("ROOT={}\n{body}", self.world.path("").display())).display().to_string()
    }

    /// The inventory with a target `web` that has these keys besides.
    pub fn sync(&self, keys: &str) -> Syncer {
        self.world.sync(&format!("{}{}", entries(&self.names, "web"), target("web", "nginx", self.port, keys)))
    }

    /// As above after a first pass that told nginx what it already serves.
    pub async fn settled(&self, keys: &str) -> Syncer {
        let sync = self.sync(keys);
        let report = self.world.pass(&sync).await;
        assert_eq!(report.targets[0].action, TargetAction::Unchanged, "it serves what is live: {:?}", report.targets);
        sync
    }

    /// Another certificate for an entry, at the provider.
    pub fn renew(&self, at: usize) -> Issued {
        renew(&self.world, self.names[at], at)
    }

    pub async fn served(&self, at: usize) -> String {
        served(self.port, host(self.names[at])).await
    }

    /// What every failing deploy must leave: the old one live and served, remembered as rejected, told in the server's words.
    pub async fn went_back(&self, report: &Report, words: &[&str]) {
        assert_eq!(report.targets[0].action, TargetAction::RolledBack, "{:?} {:?}", report.targets, report.certificates);
        assert_eq!(self.served(0).await, self.first[0].sha256, "what is served");
        assert_eq!(live(report, "www"), self.first[0].sha256, "what is live");
        let ledger = Ledger::peek(&self.world.state()).unwrap().ledger;
        assert_eq!(ledger.certificates["www"].open.rejected.len(), 1, "the ledger remembers the rejection");
        assert!(!report.is_ok());
        let told = self.event("deploy_failed");
        for word in words {
            assert!(told.contains(word), "`{word}` in {told}");
        }
        assert!(told.contains("served again"), "what is served now: {told}");
    }

    pub fn event(&self, name: &str) -> String {
        let events = self.world.events();
        let found: Vec<_> = events.iter().filter(|event| event["event"] == name).collect();
        assert_eq!(found.len(), 1, "{events:?}");
        found[0]["message"].as_str().unwrap().to_owned()
    }
}

impl Site {
    /// It is Saturday, 3 o'clock; also the Wednesday after it.
    pub fn weekend(&mut self) -> (Timestamp, Timestamp) {
        let zone = TimeZone::system();
        let day = Timestamp::now().to_zoned(zone.clone()).nth_weekday(1, Weekday::Saturday).unwrap().date();
        let open = day.at(3, 0, 0, 0).to_zoned(zone).unwrap().timestamp();
        self.world.clock = Clock::manual(open);
        self.set_now(open);
        (open, open + SignedDuration::from_hours(4 * 24 + 9))
    }

    pub fn set_now(&self, now: Timestamp) {
        self.world.clock.set(now);
        self.world.cloud.set_now(now);
    }

    pub async fn pass_by_schedule(&self, sync: &Syncer) -> Report {
        let report = sync.pass(&Scope::default(), &self.world.stop, &|_| ()).await.unwrap();
        self.world.send(sync).await;
        report
    }
}

/// The real haproxy on `live/www/combined.pem`.
pub struct Proxy {
    pub world: World,
    pub first: Issued,
    pub port: u16,
    pub haproxy: Haproxy,
}

impl Proxy {
    pub async fn new(is_master: bool) -> Proxy {
        let (world, mut first) = installed(&["www"]).await;
        let port = free_port();
        let bind = format!("ssl crt {}", world.live("www").join("combined.pem").display());
        let haproxy = if is_master { Haproxy::start_master(&bind, port) } else { Haproxy::start(&bind, port) };
        Proxy { world, first: first.remove(0), port, haproxy }
    }

    /// With this socket, and a reload that runs `body`.
    pub fn sync(&self, socket: &Path, body: &str) -> Syncer {
        let reload = self.world.script("reload", &format!("echo . >> {}\n{body}", self.world.path("reloads").display()));
        let keys = format!("socket = \"{}\"\nreload = [\"{}\"]\n", socket.display(), reload.display());
        self.world.sync(&format!("{}{}", entries(&["www"], "edge"), target("edge", "haproxy", self.port, &keys)))
    }

    pub fn reloads(&self) -> usize {
        std::fs::read_to_string(self.world.path("reloads")).unwrap_or_default().lines().count()
    }
}

/// A world whose entries are on disk, with no target yet.
pub async fn installed(names: &[&'static str]) -> (World, Vec<Issued>) {
    let world = World::start().await;
    let issue = |(at, name): (usize, &&'static str)| {
        let issued = world.pki.issue(Leaf::new([host(name)]).days(60));
        world.cloud.huawei.add(id(at), issued.clone());
        issued
    };
    let first: Vec<Issued> = names.iter().enumerate().map(issue).collect();
    let sync = world.sync(&entries(names, ""));
    let report = world.pass(&sync).await;
    assert!(report.is_ok(), "{report:?}");
    (world, first)
}

/// Each renewal ends a day later than the one before: the clouds list whole seconds, and two in one second would look the same.
pub fn renew(world: &World, name: &'static str, at: usize) -> Issued {
    static RENEWALS: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);
    let days = 80 + RENEWALS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let new = world.pki.issue(Leaf::new([host(name)]).days(days));
    world.cloud.huawei.replace(&id(at), new.clone());
    new
}

pub fn id(at: usize) -> String {
    format!("scs{at:013}")
}

pub fn host(name: &str) -> &'static str {
    match name {
        "www" => "www.example.com",
        "api" => "api.example.com",
        "shop" => "shop.example.com",
        other => panic!("no host for {other}"),
    }
}

/// Entries that go to the target named `deploy`; none if it is empty.
pub fn entries(names: &[&str], deploy: &str) -> String {
    let targets = if deploy.is_empty() { String::new() } else { format!("deploy = [\"{deploy}\"]\n") };
    let entry = |(at, name): (usize, &&str)| {
        format!("[[certificate]]\nname = \"{name}\"\nprovider = \"scm\"\nid = \"{}\"\n{targets}", id(at))
    };
    names.iter().enumerate().map(entry).collect()
}

pub fn target(name: &str, kind: &str, port: u16, keys: &str) -> String {
    let gap = if keys.contains("min_gap") { "" } else { "min_gap = \"0s\"\n" };
    format!("[deploy.{name}]\nkind = \"{kind}\"\nverify = [\"127.0.0.1:{port}\"]\ntimeout = \"2s\"\n{gap}{keys}")
}

pub fn blocks(world: &World, names: &[&str], port: u16) -> String {
    names.iter().map(|name| block(port, name, &world.live(name).join("combined.pem"))).collect()
}

pub fn block(port: u16, name: &str, pem: &Path) -> String {
    let (host, pem) = (host(name), pem.display());
    format!("server {{ listen 127.0.0.1:{port} ssl; server_name {host}; ssl_certificate {pem}; ssl_certificate_key {pem}; }}\n")
}

/// What `port` shows for `name`, by a client that shares nothing with certsyncd.
pub async fn served(port: u16, name: &'static str) -> String {
    client::connect(port, name).await.leaf()
}

/// Until several looks in a row show it: the old workers of nginx go on for a moment.
pub async fn wait_for(port: u16, sha256: &str) {
    let (start, mut right) = (Instant::now(), 0);
    while right < 10 {
        right = if served(port, host("www")).await == sha256 { right + 1 } else { 0 };
        assert!(start.elapsed() < support::PATIENCE, "waited in vain for {sha256}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn live(report: &Report, name: &str) -> String {
    let certificate = report.certificates.iter().find(|certificate| certificate.name == name).unwrap();
    certificate.live.as_ref().unwrap().fingerprint.to_string()
}

/// Whether a process with this id lives (and is no zombie).
pub fn alive(id: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Until several connections in a row are turned away, by a server that speaks no TLS any more.
pub async fn wait_for_nothing(port: u16) {
    let (start, mut nothing) = (Instant::now(), 0);
    while nothing < 10 {
        nothing = if client::try_connect(port, host("www")).await.is_err() { nothing + 1 } else { 0 };
        assert!(start.elapsed() < support::PATIENCE, "it still speaks TLS");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! The built binary dies, at every fail point of a whole pass and at random moments: nothing is torn for any reader, and the next
//! undisturbed `sync` ends exactly where one that was never disturbed ends. What is to be told is told, once.
//!
//! Run with `cargo nextest run -p certsyncd --features failpoints --test crash`. The random kills print their seed; `CRASH_SEED=n` plays
//! them again (as far as the machine's timing does).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod support;
#[path = "support/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use certsyncd::certificate::{Bundle, Piece};
use certsyncd::failpoint;
use certsyncd::store::FILES;
use fakecloud::pki::Leaf;
use fakecloud::{CdsCertificate, HuaweiCertificate};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use support::free_port;
use support::haproxy::Haproxy;
use world::World;

const NAMES: [&str; 3] = ["www", "shop", "api"];
/// Of each point so many hits from the first on, and the last one: points of the disk are hit hundreds of times in the same way.
const HITS: u32 = 6;
const KILLS: u32 = 300;

/// What a server sees of one certificate.
type Contents = BTreeMap<&'static str, Vec<u8>>;

/// A host with two servers and three certificates on disk, all of them renewed at the clouds since.
struct Host {
    world: World,
    web: WebServer,
    proxy_port: u16,
    haproxy: Option<Haproxy>,
    /// What may be seen of each certificate: before the renewal, and (when that is known) after.
    known: BTreeMap<&'static str, Vec<Contents>>,
}

impl Host {
    async fn new() -> Host {
        let world = World::start_in_memory().await;
        let leaf = |name: &str, days: i64| world.pki.issue(Leaf::new([name]).days(days));
        world.cloud.huawei.add("scs0000000000001", leaf("www.example.com", 20));
        world.cloud.huawei.add("scs0000000000002", HuaweiCertificate::new(leaf("shop.example.com", 50)));
        world.cloud.cds.add("cds-1", CdsCertificate::new(leaf("api.example.com", 50)));
        std::fs::create_dir(world.path("run")).unwrap();
        std::fs::create_dir(world.path("run/outputs")).unwrap();
        world.script(
            "note",
            &format!("line=$(cat); test -z \"$line\" || echo \"$line\" >> {}", world.path("run/events").display()),
        );
        let web = WebServer::start(&world.path("run/served.pem"));
        let mut host = Host { world, web, proxy_port: free_port(), haproxy: None, known: BTreeMap::new() };
        host.configure("");
        host.finish();
        host.haproxy = Some(host.start_haproxy());
        host.configure(&host.deploys());
        host.finish();
        host.learn();
        let renewed = |name: &str| host.world.pki.issue(Leaf::new([name]).days(80));
        host.world.cloud.huawei.replace("scs0000000000001", renewed("www.example.com"));
        host.world.cloud.huawei.add("scs0000000000003", HuaweiCertificate::new(renewed("shop.example.com")));
        host.world.cloud.cds.replace("cds-1", renewed("api.example.com"));
        host.copy("run", "template");
        host
    }

    fn configure(&self, deploys: &str) {
        let root = format!("ca_file = \"{}\"", self.world.path("root.pem").display());
        let (www, shop) = if deploys.is_empty() { ("", "") } else { ("deploy = [\"web\"]\n", "deploy = [\"edge\"]\n") };
        let entries = format!(
            "[[certificate]]\nname = \"www\"\nprovider = \"scm\"\nid = \"scs0000000000001\"\n{www}\
             output = [{{ format = \"combined\", path = \"{}\" }}]\n\
             [[certificate]]\nname = \"shop\"\nprovider = \"archive\"\nid = \"scs0000000000002\"\n{shop}\
             [[certificate]]\nname = \"api\"\nprovider = \"cds\"\nid = \"cds-1\"\n{deploys}",
            self.world.path("run/outputs/www.pem").display(),
        );
        let config = self.world.config(&root, &entries);
        let config = config.replace(&format!("{}", self.world.state().display()), &format!("{}", self.state().display()));
        self.world.write("config.toml", &config.replace("splay = \"0s\"\n", "splay = \"0s\"\nconcurrency = 1\n"));
    }

    /// `web` is told by a command; `edge` is the real haproxy, updated in its memory.
    fn deploys(&self) -> String {
        let run = self.world.path("run");
        let (live, run) = (self.state().join("live/www/combined.pem"), run.display());
        let test = self.world.script("test", &format!("echo test >> {run}/told; exec cat {} > /dev/null", live.display()));
        let reload = self.world.script(
            "reload",
            &format!("echo reload >> {run}/told; cp {} {run}/.new && exec mv {run}/.new {run}/served.pem", live.display()),
        );
        let haproxy = self.haproxy.as_ref().expect("haproxy runs");
        // Under one name in every run: a target whose settings changed would be told for that reason alone.
        let _ = std::fs::remove_file(self.world.path("edge.sock"));
        std::os::unix::fs::symlink(haproxy.master(), self.world.path("edge.sock")).unwrap();
        let again = self.world.script("again", &format!("echo again >> {run}/told; exec kill -USR2 {}", haproxy.server.id()));
        format!(
            "[deploy.web]\nkind = \"command\"\ntest = [\"{}\"]\nreload = [\"{}\"]\nverify = [\"127.0.0.1:{}\"]\nmin_gap = \"0s\"\n\
             [deploy.edge]\nkind = \"haproxy\"\nsocket = \"{}\"\nreload = [\"{}\"]\nverify = [\"127.0.0.1:{}\"]\nmin_gap = \"0s\"\n",
            test.display(),
            reload.display(),
            self.web.port,
            self.world.path("edge.sock").display(),
            again.display(),
            self.proxy_port,
        )
    }

    fn start_haproxy(&self) -> Haproxy {
        let bind = format!("ssl crt {}", self.state().join("live/shop/combined.pem").display());
        Haproxy::start_master(&bind, self.proxy_port)
    }

    fn state(&self) -> PathBuf {
        self.world.path("run/state")
    }

    fn sync(&self, armed: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certsyncd"));
        command.arg("--config").arg(self.world.path("config.toml")).arg("sync");
        command.env("CERTSYNCD_FAILPOINT", armed).env_remove("CERTSYNCD_LOG").stdin(Stdio::null());
        command
    }

    fn run(&self, armed: &str) -> Output {
        self.sync(armed).output().unwrap()
    }

    /// An undisturbed pass.
    fn finish(&self) {
        let mut command = self.sync("");
        let output = command.env_remove("CERTSYNCD_FAILPOINT").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn copy(&self, from: &str, to: &str) {
        let (from, to) = (self.world.path(from), self.world.path(to));
        let _ = std::fs::remove_dir_all(&to);
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    }

    /// The host before the pass, servers included.
    fn reset(&mut self) {
        self.haproxy = None;
        self.copy("template", "run");
        self.haproxy = Some(self.start_haproxy());
        self.configure(&self.deploys());
    }

    /// Takes what is live into the known.
    fn learn(&mut self) {
        for name in NAMES {
            let now = read_as_server(&self.state(), name).expect("it is live");
            self.known.entry(name).or_default().push(now);
        }
    }

    /// What holds at every moment, dead or alive.
    fn check_whole(&self, when: &str) {
        for name in NAMES {
            let seen = read_as_server(&self.state(), name).unwrap_or_else(|| panic!("{when}: `{name}` is not live any more"));
            assert!(self.known[name].contains(&seen), "{when}: what is live of `{name}` is torn");
        }
        let output = std::fs::read(self.world.path("run/outputs/www.pem")).expect("the output is gone for a moment");
        assert!(self.known["www"].iter().any(|known| known["combined.pem"] == output), "{when}: the output is torn");
        let served = std::fs::read(self.world.path("run/served.pem")).unwrap();
        assert!(self.known["www"].iter().any(|known| known["combined.pem"] == served), "{when}: a server read torn files");
    }

    /// Everything that the end of a pass is judged by.
    fn end(&self) -> End {
        let lines = |name: &str| std::fs::read_to_string(self.world.path(name)).unwrap_or_default();
        let event = |line: &str| {
            serde_json::from_str::<Value>(line)
                .map(|event| event["key"].as_str().unwrap().to_owned() + &event["event"].to_string())
        };
        End {
            files: files(&self.world.path("run")),
            ledger: timeless(serde_json::from_slice(&std::fs::read(self.state().join("ledger.json")).unwrap()).unwrap()),
            events: lines("run/events").lines().map(|line| event(line).unwrap()).collect(),
            told: lines("run/told").lines().map(str::to_owned).collect(),
            proxied: self.proxied(),
            waiting: std::fs::read_dir(self.state().join("outbox"))
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("00"))
                .count(),
        }
    }

    /// The leaf that haproxy serves.
    fn proxied(&self) -> String {
        let port = self.proxy_port;
        if port == 0 {
            return String::new();
        }
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async { support::client::connect(port, "shop.example.com").await.leaf() })
        })
    }
}

/// How a pass ended.
#[derive(Debug, PartialEq)]
struct End {
    files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    ledger: Value,
    events: Vec<String>,
    told: Vec<String>,
    proxied: String,
    waiting: usize,
}

/// Undisturbed: what is gone through, and how it ends.
struct Measure {
    hits: Vec<String>,
    end: End,
}

async fn measured() -> (Host, Measure) {
    let mut host = Host::new().await;
    host.reset();
    let listed = host.run("list");
    let text = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(listed.status.success(), "{text}");
    host.learn();
    let hits = text.lines().filter_map(|line| line.strip_prefix("failpoint ")).map(str::to_owned).collect();
    let measure = Measure { hits, end: host.end() };
    // What went live, what was told, who was told of it: or all below would compare nothing.
    assert_eq!(measure.end.told.iter().filter(|line| *line == "reload").count(), 2, "{:?}", measure.end.told);
    for event in ["expiring", "resolved", "renewed"] {
        assert!(measure.end.events.iter().any(|told| told.contains(event)), "{:?}", measure.end.events);
    }
    assert_eq!(measure.end.events.iter().filter(|told| told.starts_with("renewed")).count(), 3, "{:?}", measure.end.events);
    assert_eq!(measure.end.waiting, 0);
    (host, measure)
}

impl Measure {
    /// Each hit as `name:nth`, with its place in the order of the pass.
    fn numbered(&self) -> Vec<(String, u32, usize)> {
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        let mut numbered = Vec::new();
        for (at, name) in self.hits.iter().enumerate() {
            let nth = counts.entry(name).and_modify(|nth| *nth += 1).or_insert(1);
            numbered.push((name.clone(), *nth, at));
        }
        numbered.retain(|(name, nth, _)| *nth <= HITS || *nth == counts[name.as_str()]);
        numbered
    }

    /// Whether a process that dies at this hit has sent an alert without having written that down.
    fn is_between_sent_and_recorded(&self, at: usize) -> bool {
        let last = self.hits[..=at].iter().rposition(|name| name == "outbox.sent" || name == "outbox.recorded");
        last.is_some_and(|last| self.hits[last] == "outbox.sent")
    }
}

/// Dies at each of these hits, looks, and lets the next pass end.
async fn die_at(ours: impl Fn(&str) -> bool) {
    let (mut host, measure) = measured().await;
    let (mut died, mut passed) = (0, 0);
    let began = Instant::now();
    for (name, nth, at) in measure.numbered().into_iter().filter(|(name, ..)| ours(name)) {
        let armed = format!("{name}:{nth}=abort");
        host.reset();
        let output = host.run(&armed);
        host.check_whole(&armed);
        match output.status.code() {
            None => died += 1,
            // The clouds answer in any order: the last hits may not be there in every pass.
            Some(0) => passed += 1,
            Some(code) => panic!("{armed}: ended with {code}: {}", String::from_utf8_lossy(&output.stderr)),
        }
        host.finish();
        host.check_whole(&armed);
        let mut end = host.end();
        compare(&armed, &mut end, &measure, measure.is_between_sent_and_recorded(at));
    }
    println!("died at {died} hits, {passed} were not there, in {:?}", began.elapsed());
    assert!(died > 10 && passed <= died / 20, "{died} died, {passed} did not");
}

fn compare(armed: &str, end: &mut End, measure: &Measure, may_repeat: bool) {
    let wanted = &measure.end;
    let (now, then): (BTreeSet<_>, BTreeSet<_>) = (end.files.keys().collect(), wanted.files.keys().collect());
    assert!(now == then, "{armed}: other files: {:?}", now.symmetric_difference(&then));
    for (path, now) in &end.files {
        assert!(wanted.files[path] == *now, "{armed}: `{}` ends differently", path.display());
    }
    let (now, then) = (pretty(&end.ledger), pretty(&wanted.ledger));
    let lines =
        |one: &str, other: &str| one.lines().filter(|line| !other.lines().any(|known| known == *line)).collect::<String>();
    assert!(now == then, "{armed}: another memory: {}\nnot {}", lines(&now, &then), lines(&then, &now));
    assert_eq!((&end.proxied, end.waiting), (&wanted.proxied, 0), "{armed}");
    // A server is told of the new certificate at least once, and not again and again.
    let reloads = end.told.iter().filter(|line| *line == "reload").count();
    assert!((2..=3).contains(&reloads), "{armed}: {:?}", end.told);
    let (mut now, mut then) = (end.events.clone(), wanted.events.clone());
    now.sort();
    then.sort();
    if may_repeat && now.len() == then.len() + 1 {
        // Nobody can know whether the other side got it: it is told again rather than not at all.
        now.dedup();
    }
    assert_eq!(now, then, "{armed}: told too little or too much");
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_goes_through_every_point() {
    let (_host, measure) = measured().await;
    let passed: BTreeSet<&str> = measure.hits.iter().map(String::as_str).collect();
    // What repairs: held by `store_failpoints`.
    let elsewhere = ["atomic.exchange", "atomic.keep"];
    let missed: Vec<_> = failpoint::ALL.iter().filter(|name| !passed.contains(*name) && !elsewhere.contains(name)).collect();
    println!("{} hits of {} points", measure.hits.len(), passed.len());
    assert!(missed.is_empty(), "no test goes through {missed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_at_any_step_at_a_server_is_made_up_by_the_next_pass() {
    die_at(|name| !name.starts_with("atomic.")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dying_at_any_step_of_the_disk_is_made_up_by_the_next_pass() {
    die_at(|name| name.starts_with("atomic.")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_kills_leave_nothing_torn_and_nothing_untold() {
    let seed = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64);
    println!("CRASH_SEED={seed}");
    let mut random = Random(seed);
    let host = Host::with_one_server().await;
    let renew = |days: i64| {
        let issued = host.world.pki.issue(Leaf::new(["www.example.com"]).days(days));
        host.world.cloud.huawei.replace("scs0000000000001", issued.clone());
        issued.sha256
    };
    renew(40);
    let began = Instant::now();
    host.finish();
    let usual = began.elapsed();
    let (done, state) = (AtomicBool::new(false), host.state());
    let (mut cut, mut newest) = (0, String::new());
    let reads = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0_u64;
            while !done.load(Ordering::Relaxed) {
                reads += u64::from(read_as_server(&state, "www").is_some_and(|files| fits(&files)));
            }
            reads
        });
        let ending = OnDrop(&done);
        for number in 0..KILLS {
            newest = renew(41 + i64::from(number));
            let mut child =
                host.sync("").env_remove("CERTSYNCD_FAILPOINT").stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
            std::thread::sleep(usual.mul_f64(1.2 * random.fraction()));
            child.kill().unwrap();
            cut += u32::from(child.wait().unwrap().code().is_none());
            assert!(fits(&read_as_server(&state, "www").expect("nothing is live any more")));
            if number % 25 == 24 {
                host.finish();
                host.check_settled(&newest);
            }
        }
        drop(ending);
        reader.join().unwrap()
    });
    println!("{KILLS} kills, {cut} of them in the middle, in {:?} (a pass takes {usual:?}), {reads} reads", began.elapsed());
    assert!(cut > KILLS / 2 && reads > 0, "hardly a kill came in the middle of anything: {cut}");
    let events = host.end().events;
    let mut told = events.clone();
    told.sort();
    told.dedup();
    println!("{} alerts, {} told twice", events.len(), events.len() - told.len());
    assert!(events.iter().all(|event| event.ends_with("\"renewed\"") || event.contains("expiring/")), "{events:?}");
}

impl Host {
    /// One certificate, one server that is told by a command.
    async fn with_one_server() -> Host {
        let world = World::start_in_memory().await;
        world.cloud.huawei.add("scs0000000000001", world.pki.issue(Leaf::new(["www.example.com"]).days(20)));
        std::fs::create_dir(world.path("run")).unwrap();
        let run = world.path("run");
        world.script("note", &format!("line=$(cat); test -z \"$line\" || echo \"$line\" >> {}", run.join("events").display()));
        let web = WebServer::start(&run.join("served.pem"));
        let host = Host { world, web, proxy_port: 0, haproxy: None, known: BTreeMap::new() };
        let (live, run) = (host.state().join("live/www/combined.pem"), run.display());
        let reload = host
            .world
            .script("reload", &format!("cp {} {run}/.new.$$ && exec mv {run}/.new.$$ {run}/served.pem", live.display()));
        let entries = format!(
            "[[certificate]]\nname = \"www\"\nprovider = \"scm\"\nid = \"scs0000000000001\"\ndeploy = [\"web\"]\n\
             [deploy.web]\nkind = \"command\"\nreload = [\"{}\"]\nverify = [\"127.0.0.1:{}\"]\nmin_gap = \"0s\"\n",
            reload.display(),
            host.web.port
        );
        let config = host.world.config("", &entries);
        let config = config.replace(&host.world.state().display().to_string(), &host.state().display().to_string());
        host.world.write("config.toml", &config);
        host.finish();
        host
    }

    /// After an undisturbed pass: the newest certificate is live, served, told; nothing lies about, nothing waits.
    fn check_settled(&self, newest: &str) {
        let live = read_as_server(&self.state(), "www").unwrap();
        assert_eq!(bundle(&live["combined.pem"]).fingerprint().to_string(), newest);
        assert!(std::fs::read(self.world.path("run/served.pem")).unwrap() == live["combined.pem"], "the server was not told");
        let end = std::fs::read_to_string(self.world.path("run/events")).unwrap();
        assert!(end.contains(&format!("renewed/www/{}", &newest[..12])), "`renewed` of the newest is lost");
        let strays = || {
            files(&self.world.path("run"))
                .into_keys()
                .filter(|path| path.to_string_lossy().contains("/.tmp-"))
                .collect::<Vec<_>>()
        };
        assert_eq!(strays(), Vec::<PathBuf>::new());
        let generations = std::fs::read_dir(self.state().join("generations/www")).unwrap().count();
        assert!(generations <= certsyncd::store::KEEP, "{generations} generations");
    }
}

/// Ends the reader even when the test fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A small generator with a printed seed (SplitMix64).
struct Random(u64);

impl Random {
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}

fn bundle(pem: &[u8]) -> Bundle {
    Bundle::assemble(&[Piece { name: "all".to_owned(), bytes: zeroize::Zeroizing::new(pem.to_vec()) }]).expect("it fits")
}

/// Whether the five files are one pair, as it is written.
fn fits(files: &Contents) -> bool {
    let whole = bundle(&files["combined.pem"]).files().files;
    assert!(files.iter().all(|(name, bytes)| whole[name].as_slice() == bytes.as_slice()), "a torn generation");
    true
}

/// What a server sees: the link resolved once by opening the folder, every file through that handle. `None`: nothing is live, or the
/// folder was pruned under our eyes (then the link has moved on).
fn read_as_server(state: &Path, name: &str) -> Option<Contents> {
    let link = state.join("live").join(name);
    let folder = File::open(&link).ok()?;
    let inside = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let files: Result<Contents, _> =
        FILES.iter().map(|(file, _)| std::fs::read(inside.join(file)).map(|bytes| (*file, bytes))).collect();
    match files {
        Ok(files) => Some(files),
        Err(error) => {
            let now = File::open(&link).and_then(|now| now.metadata()).expect("the link leads nowhere");
            assert_ne!(now.ino(), folder.metadata().unwrap().ino(), "the live generation is not whole: {error}");
            None
        }
    }
}

/// Everything below `run` with mode and bytes, but for what is judged otherwise or differs from run to run.
fn files(run: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let short = path.strip_prefix(run).unwrap().to_owned();
            let bytes = match kind {
                _ if kind.is_symlink() => std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
                _ if kind.is_dir() => Vec::new(),
                _ => std::fs::read(&path).unwrap(),
            };
            let differs = ["lock", "ledger.json", "events", "told", "memory.json", "history.json", "status.json"];
            let bytes = if differs.iter().any(|name| short.ends_with(name)) { Vec::new() } else { bytes };
            if kind.is_dir() {
                folders.push(path.clone());
            }
            found.insert(short, (std::fs::symlink_metadata(&path).unwrap().permissions().mode(), bytes));
        }
    }
    found
}

/// Without what every pass writes anew.
fn timeless(mut value: Value) -> Value {
    const TIMES: [&str; 8] =
        ["last_pass", "last_success", "last_checked", "last_changed", "full_check", "last_reload", "since", "last"];
    match &mut value {
        Value::Object(fields) => {
            fields.retain(|name, _| !TIMES.contains(&name.as_str()));
            fields.values_mut().for_each(|field| *field = timeless(field.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = timeless(item.take())),
        _ => {}
    }
    value
}

/// A TLS server that shows the pair in one file, read anew for each connection; ends with the test.
struct WebServer {
    port: u16,
}

impl WebServer {
    fn start(pem: &Path) -> WebServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, pem) = (listener.local_addr().unwrap().port(), pem.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let pem = pem.clone();
                std::thread::spawn(move || shake_hands(&pem, stream.unwrap()));
            }
        });
        WebServer { port }
    }
}

fn shake_hands(pem: &Path, mut stream: std::net::TcpStream) -> Option<()> {
    let pem = std::fs::read(pem).ok()?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_slice(&pem).ok()?;
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).ok()?;
    let mut connection = rustls::ServerConnection::new(Arc::new(config)).ok()?;
    connection.complete_io(&mut stream).ok()?;
    let _ = (connection.writer().write(b""), stream.read(&mut [0]));
    Some(())
}

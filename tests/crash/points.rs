//! Every fail point of a whole pass, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Instant;

use certsyncd::failpoint;
use serde_json::Value;

use crate::host::{End, Host};
use crate::seen::{fits, holding, read_as_server};

/// Of each point so many hits from the first on, and the last one: points of the disk are hit hundreds of times in the same way.
const HITS: u32 = 6;
/// Every so manieth read is refused.
const READS: usize = 11;
/// In every panic that `certsyncd::failpoint` makes.
const WORDS: &str = "WORDS-OF-A-DEFECT";

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
        match host.disturb(&armed).status.code() {
            None => died += 1,
            // The clouds answer in any order: the last hits may not be there in every pass.
            Some(0) => passed += 1,
            Some(code) => panic!("{armed}: ended with {code}"),
        }
        compare(&armed, &host.end(), &measure, Told::Once { more: measure.is_between_sent_and_recorded(at) });
    }
    println!("died at {died} hits, {passed} were not there, in {:?}", began.elapsed());
    assert!(died > 10 && passed <= died / 20, "{died} died, {passed} did not");
}

impl Host {
    /// One pass from the beginning with this point armed, then an undisturbed one; nothing is torn after either.
    fn disturb(&mut self, armed: &str) -> Output {
        self.reset();
        let output = self.run(armed);
        self.check_whole(armed);
        self.finish();
        self.check_whole(armed);
        output
    }
}

/// What may have been told besides.
#[derive(Clone, Copy, PartialEq)]
enum Told {
    /// Nothing; or one event twice, where nobody can know whether the other side got it: it is told again rather than not at all.
    Once { more: bool },
    /// What failed, and that it is over; one event twice, where the disk did not take that it was sent.
    AlsoFailures,
}

fn compare(armed: &str, end: &End, measure: &Measure, told: Told) {
    let wanted = &measure.end;
    let (now, then): (BTreeSet<_>, BTreeSet<_>) = (end.files.keys().collect(), wanted.files.keys().collect());
    assert!(now == then, "{armed}: other files: {:?}", now.symmetric_difference(&then).collect::<Vec<_>>());
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
    if told == Told::AlsoFailures {
        now.retain(|event| !event.contains("_failed"));
    }
    now.sort();
    then.sort();
    if told != (Told::Once { more: false }) && now.len() == then.len() + 1 {
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
    // What repairs: held by `store_failpoints`. What a daemon does besides: below.
    let elsewhere = ["atomic.exchange", "atomic.keep", "observe.listen"];
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

/// Every point that is a call of the system, in turn with each of four errors.
#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_of_the_system_is_made_up_by_the_next_pass() {
    let (mut host, measure) = measured().await;
    let calls = |name: &str| ["atomic.", "store.", "ledger."].iter().any(|part| name.starts_with(part));
    let (mut failed, mut passed) = (0, 0);
    let began = Instant::now();
    let mut points: Vec<(String, u32)> = measure.numbered().into_iter().map(|(name, nth, _)| (name, nth)).collect();
    points.retain(|(name, nth)| calls(name) && *nth <= 3);
    // Reading is where most can go wrong in silence: some of its hundreds, from all over the pass.
    let reads = measure.hits.iter().filter(|name| *name == "atomic.read").count() as u32;
    points.extend((4..=reads).step_by(READS).map(|nth| ("atomic.read".to_owned(), nth)));
    for (number, (name, nth)) in points.into_iter().enumerate() {
        let errno = ["enospc", "eio", "eacces", "erofs"][(number + nth as usize) % 4];
        let armed = format!("{name}:{nth}={errno}");
        let output = host.disturb(&armed);
        match output.status.code() {
            Some(0) => passed += 1,
            Some(1) => failed += 1,
            other => panic!("{armed}: ended with {other:?}: {}", String::from_utf8_lossy(&output.stderr)),
        }
        compare(&armed, &host.end(), &measure, Told::AlsoFailures);
    }
    println!("{failed} passes failed, {passed} went well all the same, in {:?}", began.elapsed());
    assert!(failed > 10, "{failed}");
}

/// A defect at any point is a failure of what was in hand: nothing is torn, and no words of it are shown, for they may quote a key.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_at_any_point_is_made_up_by_the_next_pass_and_its_words_stay_unsaid() {
    let (mut host, measure) = measured().await;
    let began = Instant::now();
    let mut codes = BTreeMap::new();
    for (name, nth, _) in measure.numbered().into_iter().filter(|(_, nth, _)| *nth == 1) {
        let armed = format!("{name}:{nth}=panic");
        let output = host.disturb(&armed);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!said.contains(WORDS), "{armed}: {said}");
        assert_eq!(holding(&host.world.path("run"), WORDS), Vec::<PathBuf>::new(), "{armed}: in what is remembered or told");
        let code = output.status.code().filter(|code| *code <= 1).unwrap_or_else(|| panic!("{armed}: {}: {said}", output.status));
        *codes.entry(code).or_insert(0) += 1;
        compare(&armed, &host.end(), &measure, Told::AlsoFailures);
    }
    println!("ended with {codes:?}, in {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parser_that_panics_is_one_certificates_failure() {
    let mut host = Host::new().await;
    host.reset();
    let before = |name: &str| host.known[name].last().unwrap().clone();
    let live = |name: &str| read_as_server(&host.state(), name).unwrap();
    let output = host.run("sync.read:1=panic");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("panicked at src/failpoint.rs"), "{said}");
    // Whichever was read first stays as it was, and the others go on.
    let stayed: Vec<&str> = ["api", "shop", "www"].into_iter().filter(|name| live(name) == before(name)).collect();
    assert_eq!(stayed.len(), 1, "{stayed:?}: {said}");
    if stayed == ["shop"] {
        // A renewal under another id that could not be read: what is live is right for now, and the next pass reads it.
        assert_eq!(output.status.code(), Some(0), "{said}");
    } else {
        assert!(output.status.code() == Some(1) && said.contains("a defect of certsyncd ended it"), "{said}");
        let noted = holding(&host.state(), "a defect of certsyncd ended it");
        assert!(noted.iter().any(|path| path.ends_with("ledger.json")), "it is not in the memory: {noted:?}");
    }
    assert!(!said.contains(WORDS) && holding(&host.world.path("run"), WORDS).is_empty(), "{said}");
}

/// What the file system says of all is said of each that waited; what synced itself goes live.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_on_the_disk_is_a_failure_of_its_certificate() {
    let mut host = Host::new().await;
    let on_the_disk = "failed to sync the file system of";
    let ways = [
        ("atomic.settle:1=eio", on_the_disk, 2),
        ("atomic.settle:2=enospc", on_the_disk, 2),
        // A defect in the middle of it leaves nobody sure.
        ("atomic.settle:1=panic", "a defect of certsyncd ended the work", 3),
    ];
    for (armed, why, wanted) in ways {
        host.reset();
        let output = host.run(armed);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(why), "{armed}: {said}");
        assert_eq!(stayed(&host), wanted, "{armed}: {said}");
        host.finish();
        assert_eq!(stayed(&host), 0, "{armed}");
    }
}

/// How many certificates are live that were live before the pass.
fn stayed(host: &Host) -> usize {
    let is_old = |name: &&str| read_as_server(&host.state(), name).as_ref() == host.known[*name].last();
    ["api", "shop", "www"].iter().filter(|name| is_old(name)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_plugin_for_nagios_is_unknown() {
    let host = Host::with_one_server().await;
    let plugin = |armed: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certsyncd"));
        command.args(["status", "--check", "--config"]).arg(host.world.path("config.toml")).env("CERTSYNCD_FAILPOINT", armed);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(plugin("list").0, Some(1), "it ends in three weeks");
    let (code, said) = plugin("atomic.read:1=panic");
    assert!(code == Some(3) && said.contains("a defect of certsyncd") && !said.contains(WORDS), "{code:?} {said}");
}

/// Better a restart than a daemon that lives on and tells nobody anything any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_alerts_end_by_a_panic_ends() {
    let mut host = Host::new().await;
    host.reset();
    let said = ends_by_itself(&host, "outbox.send:1=panic");
    assert!(said.contains("the delivery of alerts ended by a defect of certsyncd") && !said.contains(WORDS), "{said}");
    assert!(fits(&read_as_server(&host.state(), "www").unwrap()));
}

/// And than one that a probe takes for dead while it works.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_listener_ends_by_a_panic_ends() {
    let mut host = Host::new().await;
    host.reset();
    let config = std::fs::read_to_string(host.world.path("config.toml")).unwrap();
    host.world.write("config.toml", &format!("{config}\n[metrics]\nlisten = \"127.0.0.1:0\"\n"));
    let said = ends_by_itself(&host, "observe.listen:1=panic");
    assert!(said.contains("the listener of `[metrics]` ended by a defect of certsyncd") && !said.contains(WORDS), "{said}");
    assert!(fits(&read_as_server(&host.state(), "www").unwrap()));
}

/// What a daemon says that ends by a defect.
fn ends_by_itself(host: &Host, armed: &str) -> String {
    let command = host.sync(armed);
    let daemon = Command::new(command.get_program())
        .args(["run", "--config"])
        .arg(host.world.path("config.toml"))
        .envs(command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect::<Vec<_>>())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&daemon.stderr).into_owned();
    assert_eq!(daemon.status.code(), Some(1), "{said}");
    said
}

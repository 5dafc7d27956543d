//! What certsyncd costs, each figure beside something else in the same run: `cargo bench`.
//!
//! Everything runs against the fake clouds of this tree on the loopback interface. The two sides of a comparison take turns (A B A B …) and the
//! medians are compared, so that a busy machine changes both. `rate_limit` is lifted (0), or the clouds' politeness would be measured. Words
//! behind `--` pick figures: `cargo bench -- quiet memory`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod floor;
mod host;
mod table;

use std::time::Duration;

use host::{BINARY, Host};
use table::{Row, in_turn, mebibytes, median, shown};

fn main() {
    // the floor is a client of reqwest's, which takes the process's provider
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // cargo adds a word of its own
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if arguments.first().is_some_and(|first| first == host::PEAK) {
        return host::print_peak(&arguments[1..]);
    }
    if let [serve, size] = arguments.as_slice()
        && serve == "--serve"
    {
        return serve_for_a_profiler(size.parse().expect("a number of certificates"));
    }
    let chosen: Vec<&String> = arguments.iter().filter(|word| !word.starts_with("--")).collect();
    let wanted = |word: &str| chosen.is_empty() || chosen.iter().any(|chosen| *chosen == word);
    println!("{}; load {}", machine(), load());
    if host::freed_just_now() {
        println!(
            "the last run was less than {:?} ago: where ext4 looks at what was freed, first passes take longer, on both sides",
            host::MEMORY
        );
    }
    let mut rows = Vec::new();
    if ["check", "idle", "size"].iter().any(|word| wanted(word)) {
        rows.extend(small(&wanted));
    }
    if ["quiet", "script", "first", "memory", "growth"].iter().any(|word| wanted(word)) {
        rows.extend(passes(&wanted));
    }
    table::print(&rows);
    println!("\nload at the end {}", load());
    host::leave();
}

/// `cargo bench -- --serve 1000`: the cloud and an inventory, for `perf record certsyncd --config … sync` beside it.
fn serve_for_a_profiler(size: usize) {
    let host = Host::new(size);
    println!("{}\n{}", BINARY, host.config().display());
    println!("ends with the input");
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

/// What does not depend on the size of an inventory: ten certificates.
fn small(wanted: &dyn Fn(&str) -> bool) -> Vec<Row> {
    let host = Host::new(10);
    let mut rows = Vec::new();
    if wanted("size") {
        let size = std::fs::metadata(BINARY).unwrap().len();
        rows.push(alone("binary, stripped", mebibytes(size), "under 9 MiB", size < 9 << 20));
    }
    if wanted("check") {
        let took = median((0..21).map(|_| host.certsyncd(&["check", "--quiet"])).collect());
        rows.push(alone("`check`, 10 certificates", shown(took), "under 20 ms", took < Duration::from_millis(20)));
    }
    if wanted("idle") {
        rows.extend(idle(&host));
    }
    rows
}

/// The daemon between two passes.
fn idle(host: &Host) -> [Row; 2] {
    let daemon = host.daemon();
    while !host.state().join("status.json").exists() || host.cloud.total() < host.size + 1 {
        std::thread::sleep(Duration::from_millis(50));
    }
    // Connections idle out after 20 s, threads of blocking work after 10.
    std::thread::sleep(Duration::from_secs(25));
    let before = daemon.naps();
    std::thread::sleep(SPAN);
    let after = daemon.naps();
    let naps: Vec<(String, u64)> = after
        .into_iter()
        .map(|(thread, count)| {
            let was = before.iter().find(|(name, _)| *name == thread).map_or(0, |(_, count)| *count);
            (thread, count.saturating_sub(was))
        })
        .collect();
    let all: u64 = naps.iter().map(|(_, count)| count).sum();
    let rate = all as f64 / SPAN.as_secs_f64();
    let memory = daemon.memory("VmRSS") * 1024;
    println!("idle daemon: threads woke up in {SPAN:?}: {naps:?}; peak {}", mebibytes(daemon.memory("VmHWM") * 1024));
    [
        alone("idle daemon, resident memory", mebibytes(memory), "under 12 MiB", memory < 12 << 20),
        alone("idle daemon, wake-ups", format!("{rate:.1} per second"), "the scheduler's poll only", rate < 6.0),
    ]
}

const SPAN: Duration = Duration::from_secs(20);

/// Passes over inventories of 100, 1,000 and 10,000 certificates.
fn passes(wanted: &dyn Fn(&str) -> bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let thousand = Host::new(1_000);
    if wanted("first") {
        let mut round = 0;
        let (ours, other) = in_turn(
            5,
            || {
                thousand.forget();
                thousand.sync()
            },
            || {
                round += 1;
                floor::first_pass(&thousand, &thousand.path(&format!("floor-{round}")))
            },
        );
        rows.push(beside("first pass, 1,000", ours, "bare client, bare files", other, 1.5));
    }
    thousand.sync();
    thousand.settle();
    let mut quiet_thousand = Duration::ZERO;
    if wanted("quiet") || wanted("script") {
        let (ours, other) = in_turn(ROUNDS, || thousand.sync(), || thousand.curl());
        thousand.expect_quiet(2 * ROUNDS);
        quiet_thousand = ours;
        rows.push(beside("quiet pass, 1,000", ours, "curl, the listing", other, 3.0));
    }
    if wanted("script") {
        rows.push(script(&thousand, quiet_thousand));
    }
    if wanted("quiet") || wanted("memory") || wanted("growth") {
        rows.extend(large(wanted));
    }
    // Not before: what is freed by that is in the way of first passes.
    drop(thousand);
    rows
}

/// The script takes minutes for a thousand, and each of its certificates as long as the others: a part is run and scaled.
fn script(host: &Host, quiet: Duration) -> Row {
    host.by_hand(PART);
    let took = median((0..3).map(|_| host.by_hand(PART)).collect()) * u32::try_from(host.size / PART).unwrap();
    let ratio = took.as_secs_f64() / quiet.as_secs_f64();
    Row {
        figure: "quiet pass, 1,000".to_owned(),
        ours: shown(quiet),
        other: format!("by-hand.sh: {} ({PART} run, scaled)", shown(took)),
        ratio: format!("{ratio:.0} times faster"),
        goal: "1,000 times".to_owned(),
        met: ratio >= 1_000.0,
    }
}

fn large(wanted: &dyn Fn(&str) -> bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let (hundred, host) = (Host::new(100), Host::new(10_000));
    let first_small = median(
        (0..3)
            .map(|_| {
                hundred.forget();
                hundred.sync()
            })
            .collect(),
    );
    let first_large = host.sync();
    hundred.settle();
    host.settle();
    if wanted("quiet") {
        let (ours, other) = in_turn(ROUNDS, || host.sync(), || host.curl());
        host.expect_quiet(2 * ROUNDS);
        rows.push(beside("quiet pass, 10,000", ours, "curl, the listing", other, 3.0));
    }
    if wanted("growth") {
        let (ours, other) = in_turn(ROUNDS, || host.sync(), || hundred.sync());
        rows.push(growth("quiet pass, each of 10,000", ours / 10_000, other / 100));
        rows.push(growth("first pass, each of 10,000", first_large / 10_000, first_small / 100));
    }
    if wanted("memory") {
        let peak = host.peak_of_sync();
        rows.push(alone("quiet pass, 10,000: peak memory", mebibytes(peak), "under 40 MiB", peak < 40 << 20));
    }
    rows
}

const ROUNDS: usize = 11;
/// Certificates that the script is run over.
const PART: usize = 50;

fn beside(figure: &str, ours: Duration, what: &str, other: Duration, goal: f64) -> Row {
    let ratio = ours.as_secs_f64() / other.as_secs_f64();
    Row {
        figure: figure.to_owned(),
        ours: shown(ours),
        other: format!("{what}: {}", shown(other)),
        ratio: format!("{ratio:.2}"),
        goal: format!("at most {goal}"),
        met: ratio <= goal,
    }
}

fn growth(figure: &str, ours: Duration, other: Duration) -> Row {
    Row { goal: "must not grow".to_owned(), ..beside(figure, ours, "each of 100", other, 1.0) }
}

fn alone(figure: &str, ours: String, goal: &str, met: bool) -> Row {
    Row { figure: figure.to_owned(), ours, other: String::new(), ratio: String::new(), goal: goal.to_owned(), met }
}

fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{processors} × {}", model.trim_start_matches([' ', '\t', ':']))
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').take(3).collect::<Vec<_>>().join(" ")
}

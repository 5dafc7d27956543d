//! `sync`, `plan`, `rollback`: passes that a person starts.

use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;
use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::alert::{self, Outcome};
use crate::clock::Clock;
use crate::daemon;
use crate::ledger::Ledger;
use crate::observe::{Counters, metrics, textfile};
use crate::report::{Action, CertificateReport, Failure, Fingerprint, Report, TargetAction, counted};
use crate::store::lock;
use crate::sync::{Progress, Scope, Syncer};

use super::{FAILED, OK, print, sync_failed};

/// How long `sync` goes on sending alerts before it leaves the rest to the daemon or the next run.
const ALERT_TIME: Duration = Duration::from_secs(30);

/// Certificates that `sync` shows all of; of more, only those that are not unchanged.
const MAX_ROWS: usize = 50;

pub(super) async fn sync(sync: &Syncer, names: &[String], force: bool, wait: Duration, json: bool) -> u8 {
    let scope = Scope { names: named(names), force, by_hand: true, wait: Some(wait), ..Scope::default() };
    let stop = stop_on_signal();
    let done = sync.pass(&scope, &stop, &progress).await;
    clear_progress();
    finish(sync, done, json).await
}

pub(super) async fn rollback(sync: &Syncer, name: &str, to: Option<&str>, json: bool) -> u8 {
    let stop = stop_on_signal();
    let done = sync.rollback(name, to, &stop).await;
    finish(sync, done, json).await
}

pub(super) async fn plan(sync: &Syncer, names: &[String], json: bool) -> u8 {
    let scope = Scope { names: named(names), by_hand: true, ..Scope::default() };
    match sync.plan(&scope).await {
        Err(error) => sync_failed(&error),
        Ok(preview) if json => {
            print::json(&preview);
            OK
        }
        Ok(preview) => {
            let mut table = print::table(&["certificate", "would", "why"]);
            for certificate in &preview.certificates {
                table.add_row([certificate.name.as_str(), certificate.action, &certificate.why]);
            }
            print::out(table.to_string());
            if !preview.targets.is_empty() {
                let mut table = print::table(&["target", "would", "why"]);
                for target in &preview.targets {
                    table.add_row([target.name.as_str(), target.action, &target.why]);
                }
                print::out(format!("\n{table}"));
            }
            OK
        }
    }
}

/// Prints the report, sends what is to be told, and leaves status file and metrics.
async fn finish(sync: &Syncer, done: Result<Report, crate::sync::Error>, json: bool) -> u8 {
    let report = match done {
        Ok(report) => report,
        Err(error) => return sync_failed(&error),
    };
    let left = sync.take_memory().ok();
    if let Some(memory) = &left {
        daemon::leave_status(sync, memory, &Clock::system());
    }
    if json {
        print::json(&Output::of(&report));
    } else {
        print::out(people(&report));
    }
    for failure in failures(&report) {
        print::line(failure);
    }
    let told = send_alerts(sync).await;
    // what a daemon shows is the daemon's: its counters go on, those of this process begin at zero
    if !lock::has_daemon(sync.store().root()) {
        if let Some(memory) = &left {
            write_metrics(sync, &report, &memory.ledger, &told);
        }
        heartbeat(sync, &report).await;
    }
    let code = if report.is_ok() { OK } else { FAILED };
    // The process ends now: what ten thousand records are made of need not be taken apart one by one. No secret is among them.
    std::mem::forget((report, left));
    code
}

/// `[metrics] textfile`, for passes that a timer starts. Counters are those of this run.
fn write_metrics(sync: &Syncer, report: &Report, ledger: &Ledger, told: &[Outcome]) {
    let Some(path) = &sync.settings().metrics.textfile else { return };
    let counters = Counters::default();
    counters.pass(report);
    for outcome in sync.take_told().iter().chain(told) {
        counters.alert(outcome.event, &outcome.channel, outcome.result.name());
    }
    let text = metrics::render(sync.settings(), ledger, &counters);
    if let Err(error) = textfile::write(path, &metrics::prometheus_text(&text)) {
        tracing::warn!("{}", Failure::new("textfile", &error).hint(error.hint()).line());
    }
}

/// `[alerts] heartbeat_url`, as the daemon calls it: after a good pass over the whole inventory.
async fn heartbeat(sync: &Syncer, report: &Report) {
    if let Some(url) = sync.settings().alerts.heartbeat_url.as_ref().filter(|_| report.whole && report.is_ok())
        && let Err(error) = alert::heartbeat(url).await
    {
        tracing::warn!("failed to call the heartbeat: {}", error.line());
    }
}

async fn send_alerts(sync: &Syncer) -> Vec<Outcome> {
    let channels = &sync.settings().alerts.channels;
    let (clock, over) = (Clock::system(), CancellationToken::new());
    let ring = over.clone();
    let bell = tokio::spawn(async move {
        tokio::time::sleep(ALERT_TIME).await;
        ring.cancel();
    });
    let told = sync.outbox().deliver(channels, &clock, &over).await;
    bell.abort();
    told
}

fn named(names: &[String]) -> Option<std::collections::BTreeSet<String>> {
    (!names.is_empty()).then(|| names.iter().cloned().collect())
}

/// SIGINT and SIGTERM stop between steps, so that nothing is left half done.
fn stop_on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        if let Ok(mut signals) = signal(kind) {
            let stop = stop.clone();
            tokio::spawn(async move {
                if signals.recv().await.is_some() {
                    stop.cancel();
                }
            });
        }
    }
    stop
}

/// One line on a terminal that says how far a long pass is.
fn progress(step: Progress) {
    if let Progress::Looked { done, total, name } = step
        && total > 3
        && *IS_WATCHED
    {
        let _ = write!(io::stderr(), "\r\x1b[2K{done}/{total} {name}");
    }
}

fn clear_progress() {
    if *IS_WATCHED {
        let _ = write!(io::stderr(), "\r\x1b[2K");
    }
}

/// Whether somebody sees standard error.
static IS_WATCHED: LazyLock<bool> = LazyLock::new(|| io::stderr().is_terminal());

fn people(report: &Report) -> String {
    let mut table = print::table(&["certificate", "", "ends", "fingerprint"]);
    let is_long = report.certificates.len() > MAX_ROWS;
    let is_shown = |certificate: &&CertificateReport| !is_long || certificate.action != Action::Unchanged;
    let mut shown = 0;
    for certificate in report.certificates.iter().filter(is_shown) {
        shown += 1;
        let live = certificate.live.as_ref();
        table.add_row([
            certificate.name.clone(),
            action_word(certificate.action).to_owned(),
            live.map(|live| live.not_after.strftime("%Y-%m-%d").to_string()).unwrap_or_default(),
            live.map(|live| live.fingerprint.short()).unwrap_or_default(),
        ]);
    }
    let mut text = if shown > 0 { table.to_string() } else { String::new() };
    if is_long {
        text.push_str(&format!("{}{} unchanged", if shown > 0 { "\n\n" } else { "" }, report.certificates.len() - shown));
    }
    if !report.targets.is_empty() {
        let mut table = print::table(&["target", "", ""]);
        for target in &report.targets {
            table.add_row([
                target.name.clone(),
                target_word(target.action).to_owned(),
                target.pending.clone().unwrap_or_default(),
            ]);
        }
        text.push_str(&format!("\n\n{table}"));
    }
    let took = report.finished.duration_since(report.started).as_millis();
    let word = if report.is_ok() { "ok" } else { "failed" };
    text.push_str(&format!("\n\n{word} in {took} ms, {}", counted(report.requests, "request")));
    text
}

/// What failed, for stderr: once for all certificates of a provider that failed alike.
fn failures(report: &Report) -> Vec<String> {
    let mut alike: Vec<(&CertificateReport, &Failure, Vec<&str>)> = Vec::new();
    for certificate in &report.certificates {
        let Some(error) = &certificate.error else { continue };
        let is_alike =
            |group: &&mut (&CertificateReport, &Failure, _)| group.0.provider == certificate.provider && group.1 == error;
        match alike.iter_mut().find(is_alike) {
            Some((_, _, names)) => names.push(&certificate.name),
            None => alike.push((certificate, error, vec![&certificate.name])),
        }
    }
    let certificates = alike.into_iter().map(|(first, error, names)| {
        error.clone().context(format!("failed to sync {} from `{}`", in_short(&names), first.provider))
    });
    let targets = report
        .targets
        .iter()
        .filter_map(|target| Some(target.error.clone()?.context(format!("failed to deploy to `{}`", target.name))));
    certificates.chain(targets).map(|failure| print::failure(&failure)).collect()
}

/// `` `a` ``, `` `a`, `b` and `c` ``, `` `a`, `b`, `c` and 297 others ``.
fn in_short(names: &[&str]) -> String {
    let (shown, rest) = names.split_at(names.len().min(MAX_NAMES));
    let mut shown: Vec<String> = shown.iter().map(|name| format!("`{name}`")).collect();
    let last = match rest.len() {
        0 => shown.pop().unwrap_or_default(),
        others => counted(others, "other"),
    };
    if shown.is_empty() { last } else { format!("{} and {last}", shown.join(", ")) }
}

/// Names in one line of failures.
const MAX_NAMES: usize = 8;

fn action_word(action: Action) -> &'static str {
    match action {
        Action::Installed => "installed",
        Action::Unchanged => "unchanged",
        Action::Failed => "failed",
        Action::Held => "held",
    }
}

fn target_word(action: TargetAction) -> &'static str {
    match action {
        TargetAction::Reloaded => "reloaded",
        TargetAction::Updated => "updated",
        TargetAction::Unchanged => "unchanged",
        TargetAction::Pending => "pending",
        TargetAction::Failed => "failed",
        TargetAction::RolledBack => "rolled back",
    }
}

/// `sync --json`, version 1.
#[derive(Serialize)]
struct Output<'a> {
    version: u32,
    result: &'static str,
    certificates: Vec<CertificateOutput<'a>>,
    targets: Vec<TargetOutput<'a>>,
    requests: u64,
    duration_ms: i128,
}

#[derive(Serialize)]
struct CertificateOutput<'a> {
    name: &'a str,
    action: &'static str,
    id: Option<&'a str>,
    fingerprint: Option<Fingerprint>,
    generation: Option<&'a str>,
    error: Option<String>,
    held: Option<&'a str>,
}

#[derive(Serialize)]
struct TargetOutput<'a> {
    name: &'a str,
    action: &'static str,
    error: Option<String>,
    pending: Option<&'a str>,
}

impl<'a> Output<'a> {
    fn of(report: &'a Report) -> Output<'a> {
        let certificates = report.certificates.iter().map(|certificate| CertificateOutput {
            name: &certificate.name,
            action: action_word(certificate.action),
            id: certificate.id.as_deref(),
            fingerprint: certificate.live.as_ref().map(|live| live.fingerprint),
            generation: certificate.live.as_ref().map(|live| live.generation.as_str()),
            error: certificate.error.as_ref().map(ToString::to_string),
            held: certificate.held.as_deref(),
        });
        let targets = report.targets.iter().map(|target| TargetOutput {
            name: &target.name,
            // The contract knows five words; what waits was not touched, and says why beside it.
            action: match target.action {
                TargetAction::Pending => "unchanged",
                TargetAction::RolledBack => "rolled_back",
                action => target_word(action),
            },
            error: target.error.as_ref().map(ToString::to_string),
            pending: target.pending.as_deref(),
        });
        Output {
            version: 1,
            result: if report.is_ok() { "ok" } else { "failed" },
            certificates: certificates.collect(),
            targets: targets.collect(),
            requests: report.requests,
            duration_ms: report.finished.duration_since(report.started).as_millis(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_short() {
        assert_eq!(in_short(&["a"]), "`a`");
        assert_eq!(in_short(&["a", "b"]), "`a` and `b`");
        assert_eq!(in_short(&["a"; 8]).matches("`a`").count(), 8);
        assert!(in_short(&["a"; 9]).ends_with("`a` and 1 other"));
        assert!(in_short(&["a"; 300]).ends_with("`a` and 292 others"));
    }
}

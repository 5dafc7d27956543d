//! The metrics of the contract, for Prometheus.
//!
//! Start at [`render`]: each time the registry is built anew from the inventory, the ledger and the [`Counters`], so a certificate that left
//! the inventory leaves the metrics too. Three ends are told of each certificate, since their difference is the alert: what the provider has
//! (of what was fetched last: listings carry dates without a zone), what is on disk, and the earliest that any address serves.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::config::{EventKind, Settings};
use crate::ledger::{CertificateRecord, Ledger};
use crate::report::{Report, TargetAction};

/// What is counted since the process started. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// By provider, operation, outcome.
    requests: BTreeMap<(String, String, String), u64>,
    /// By target, outcome.
    deploys: BTreeMap<(String, String), u64>,
    /// By event, channel, outcome.
    alerts: BTreeMap<(EventKind, String, String), u64>,
    /// Seconds that the last pass took.
    pass_duration: Option<f64>,
}

impl Counters {
    /// Counts a pass: its requests, its deploys, its duration.
    pub fn pass(&self, report: &Report) {
        let mut counts = self.lock();
        for (call, times) in &report.calls {
            *counts.requests.entry(call.clone()).or_default() += times;
        }
        for target in &report.targets {
            if let Some(outcome) = outcome(target.action) {
                *counts.deploys.entry((target.name.clone(), outcome.to_owned())).or_default() += 1;
            }
        }
        counts.pass_duration = Some(report.finished.duration_since(report.started).as_secs_f64());
    }

    /// Counts one attempt to send an event; `outcome` is `sent` or `failed`.
    pub fn alert(&self, event: EventKind, channel: &str, outcome: &str) {
        *self.lock().alerts.entry((event, channel.to_owned(), outcome.to_owned())).or_default() += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The deploys that are counted: `Unchanged` and `Pending` are none.
fn outcome(action: TargetAction) -> Option<&'static str> {
    match action {
        TargetAction::Reloaded => Some("reloaded"),
        TargetAction::Updated => Some("updated"),
        TargetAction::Failed => Some("failed"),
        TargetAction::RolledBack => Some("rolled_back"),
        TargetAction::Unchanged | TargetAction::Pending => None,
    }
}

/// What [`outcome`] gives.
const OUTCOMES: [&str; 4] = ["reloaded", "updated", "failed", "rolled_back"];

/// OpenMetrics text (<https://github.com/prometheus/OpenMetrics>), served as [`OPENMETRICS`].
pub fn render(settings: &Settings, ledger: &Ledger, counters: &Counters) -> String {
    let mut registry = Registry::with_prefix("certsyncd");
    certificates(&mut registry, settings, ledger);
    passes(&mut registry, ledger, &counters.lock());
    counted(&mut registry, settings, &counters.lock());
    let build = Family::<Build, Gauge>::default();
    build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
    registry.register("build_info", "The version that runs", build);
    let mut text = String::new();
    // writing to a string cannot fail
    let _ = text::encode(&mut text, &registry);
    text
}

/// The same in the older text format (served as [`PROMETHEUS`]), which is what node_exporter's textfile collector reads: there a counter's
/// family has the name of its samples, and there is no `# EOF`.
pub fn prometheus_text(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        match renamed(line) {
            Some(renamed) => text.push_str(&renamed),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// `# TYPE x counter` is `# TYPE x_total counter` there; so is its `# HELP` line, known by the families that are counters.
fn renamed(line: &str) -> Option<String> {
    let (word, rest) = line.strip_prefix("# ")?.split_once(' ')?;
    let (family, rest) = rest.split_once(' ')?;
    COUNTERS.contains(&family).then(|| format!("# {word} {family}_total {rest}"))
}

fn certificates(registry: &mut Registry, settings: &Settings, ledger: &Ledger) {
    let (ends, flags, looks) =
        (Family::<End, Gauge>::default(), Family::<Owned, Gauge>::default(), Family::<Named, Gauge>::default());
    for entry in &settings.certificates {
        let Some(record) = ledger.certificates.get(&entry.name) else { continue };
        let (name, provider) = (entry.name.clone(), entry.provider.clone());
        for (source, end) in three_ends(record) {
            if let Some(end) = end {
                let labels = End { name: name.clone(), provider: provider.clone(), source };
                ends.get_or_create(&labels).set(end.as_second());
            }
        }
        if let Some(valid) = record.valid {
            flags.get_or_create(&Owned { name: name.clone(), provider }).set(valid.into());
        }
        if let Some(looked) = record.last_checked {
            looks.get_or_create(&Named { name }).set(looked.as_second());
        }
    }
    registry.register(
        "certificate_not_after_timestamp_seconds",
        "End of the certificate on disk, of the one served that ends first, and of the one fetched last from the provider",
        ends,
    );
    registry.register("certificate_valid", "The provider's flag: 0 expired, 1 valid, 2 ends within 30 days", flags);
    registry.register(
        "certificate_last_success_timestamp_seconds",
        "When the certificate was last looked at with success",
        looks,
    );
}

fn three_ends(record: &CertificateRecord) -> [(&'static str, Option<Timestamp>); 3] {
    let disk = record.live.as_ref().map(|live| live.not_after);
    let live_is_newest = record.live.as_ref().is_some_and(|live| record.fetched == Some(live.fingerprint));
    let provider = record.fetched_not_after.or(disk.filter(|_| live_is_newest));
    let served = record.targets.values().flat_map(|delivery| &delivery.served).filter_map(|served| served.not_after).min();
    [("disk", disk), ("served", served), ("provider", provider)]
}

fn passes(registry: &mut Registry, ledger: &Ledger, counts: &Counts) {
    if let Some(seconds) = counts.pass_duration {
        let duration = Gauge::<f64, AtomicU64>::default();
        duration.set(seconds);
        registry.register("pass_duration_seconds", "How long the last pass took", duration);
    }
    let last_good = ledger.last_pass.as_ref().filter(|pass| pass.ok).map(|pass| pass.finished).or(ledger.last_success);
    if let Some(time) = last_good {
        let success = Gauge::<i64>::default();
        success.set(time.as_second());
        registry.register("pass_last_success_timestamp_seconds", "When a pass in which nothing failed last ended", success);
    }
}

/// Deploys are told from zero on for every target and outcome: Prometheus sees no increase in a series that begins at one.
fn counted(registry: &mut Registry, settings: &Settings, counts: &Counts) {
    let (requests, deploys, alerts) =
        (Family::<Request, Counter>::default(), Family::<Deploy, Counter>::default(), Family::<Alert, Counter>::default());
    for ((provider, operation, outcome), times) in &counts.requests {
        let labels = Request { provider: provider.clone(), operation: operation.clone(), outcome: outcome.clone() };
        requests.get_or_create(&labels).inc_by(*times);
    }
    for (target, outcome) in settings.targets.keys().flat_map(|target| OUTCOMES.map(|outcome| (target, outcome))) {
        let _ = deploys.get_or_create(&Deploy { target: target.clone(), outcome: outcome.to_owned() });
    }
    for ((target, outcome), times) in &counts.deploys {
        deploys.get_or_create(&Deploy { target: target.clone(), outcome: outcome.clone() }).inc_by(*times);
    }
    for ((event, channel, outcome), times) in &counts.alerts {
        let labels = Alert { event: event.name(), channel: channel.clone(), outcome: outcome.clone() };
        alerts.get_or_create(&labels).inc_by(*times);
    }
    registry.register("provider_requests", "Requests to providers", requests);
    registry.register("deploys", "Reloads and updates of targets", deploys);
    registry.register("alerts", "Events sent to channels", alerts);
}

/// Content type of [`render`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of [`prometheus_text`].
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The families that are counters.
const COUNTERS: [&str; 3] = ["certsyncd_provider_requests", "certsyncd_deploys", "certsyncd_alerts"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct End {
    name: String,
    provider: String,
    source: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Owned {
    name: String,
    provider: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    provider: String,
    operation: String,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Deploy {
    target: String,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Alert {
    event: &'static str,
    channel: String,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

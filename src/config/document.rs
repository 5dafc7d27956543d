//! The file as a whole: text into [`Settings`], the top level, `[daemon]` and `[metrics]`, and what is only visible from above.
//!
//! Start at [`settings`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::certificates::{Context, Inventory};
use super::keys;
use super::problem::{Problem, Refused, presentable, shown_lines};
use super::reader::{Reader, Sink};
use super::settings::{Certificate, Cron, Daemon, Metrics, Provider, Settings, Target, Zone};
use super::values::{PATH, file_path, path};
use super::{MAX_FILE, alerts, batches, net, providers, refused, syntax, targets, time};

/// What is valid, and what is hidden of the text it was read from.
pub(super) struct Accepted<'t> {
    pub(super) settings: Settings,
    text: &'t str,
    hidden: Vec<Range<usize>>,
}

impl Accepted<'_> {
    /// What may be shown of the text, for its warnings in their places.
    pub(super) fn shown(&self) -> String {
        presentable(self.text, &shown_lines(self.text, &self.settings.warnings), &self.hidden)
    }
}

/// The settings, or everything that is wrong.
pub(super) fn settings<'t>(text: &'t str, path: &Path, mode: Option<u32>) -> Result<Accepted<'t>, Refused> {
    if text.len() > MAX_FILE {
        return Err(refused(path, format!("the configuration is larger than {} KiB", MAX_FILE / 1024), None));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (settings, sink) = match batches::read(text, path, batches::SIZE) {
        Some((settings, sink)) => (Some(settings), sink),
        None => as_a_whole(text, path)?,
    };
    warn_of_plain_secrets(&sink, mode);
    let hidden = sink.blots.take();
    let (problems, warnings) = (in_order(sink.problems.take()), in_order(sink.warnings.take()));
    match settings {
        Some(settings) if problems.is_empty() => Ok(Accepted { settings: Settings { warnings, ..settings }, text, hidden }),
        _ => Err(Refused { path: path.to_owned(), text: presentable(text, &shown_lines(text, &problems), &hidden), problems }),
    }
}

/// From one table that holds everything: all that is wrong, and what is right.
pub(super) fn as_a_whole(text: &str, path: &Path) -> Result<(Option<Settings>, Sink), Refused> {
    let table = syntax::parse(text).map_err(|problems| {
        let problems = in_order(problems);
        let lines = shown_lines(text, &problems);
        Refused { path: path.to_owned(), text: presentable(text, &lines, &syntax::suspects(&lines)), problems }
    })?;
    let sink = Sink::default();
    let root = Reader::root(table.get_ref(), &sink);
    let settings = document(&root, path, |context| {
        let mut inventory = Inventory::new(context, 0, 0);
        inventory.read(&root);
        Some(inventory.certificates())
    });
    Ok((settings, sink))
}

/// Settings without warnings; `None` only after a problem, or where `inventory` has none.
pub(super) fn document(
    root: &Reader<'_>,
    path: &Path,
    inventory: impl FnOnce(&Context<'_>) -> Option<Vec<Certificate>>,
) -> Option<Settings> {
    version(root);
    let daemon = daemon(root);
    let (provider_names, providers) = providers::all(root);
    let (target_names, targets) = targets::all(root);
    let context = Context { state_dir: &daemon.state_dir, providers: &provider_names, targets: &target_names };
    let certificates = inventory(&context)?;
    let alerts = alerts::alerts(root);
    let metrics = metrics(root);
    warn_of_idle_parts(root, &certificates, &providers, &targets);
    Some(Settings { path: path.to_owned(), daemon, providers, certificates, targets, alerts, metrics, warnings: Vec::new() })
}

/// The form of the file this program understands.
pub const VERSION: i64 = 1;

fn version(root: &Reader<'_>) {
    let Some(version) = root.take("version") else {
        let hint = Some("begin the file with `version = 1`".to_owned());
        root.problem("version", "missing `version`, expected `version = 1`".to_owned(), hint);
        return;
    };
    let hint = match version.node.get_ref() {
        DeValue::Integer(number) if number.to_string() == VERSION.to_string() => return,
        DeValue::String(_) => "write the number without quotes",
        _ => "this certsyncd reads version 1; a newer file needs a newer certsyncd",
    };
    version.refuse("the number 1", Some(hint.to_owned()));
}

fn daemon(root: &Reader<'_>) -> Daemon {
    let value = root.take("daemon");
    let reader = value.as_ref().and_then(|value| Reader::open(value, &keys::DAEMON));
    let default = Daemon {
        state_dir: PathBuf::from(STATE_DIR),
        schedule: default_schedule(),
        timezone: Zone { name: "local".to_owned(), zone: jiff::tz::TimeZone::system() },
        splay: SPLAY,
        concurrency: CONCURRENCY,
    };
    let Some(reader) = reader else { return default };
    Daemon {
        state_dir: reader.text_or("state_dir", default.state_dir, PATH, state_dir),
        schedule: reader.text_or("schedule", default.schedule, time::SCHEDULE, time::cron),
        timezone: reader.text_or("timezone", default.timezone, time::ZONE, time::zone),
        splay: reader.text_or("splay", default.splay, time::DURATION, |text| time::duration(text, &SPLAYS)),
        concurrency: reader
            .take("concurrency")
            .and_then(|value| value.integer(1..=MAX_CONCURRENCY))
            .and_then(|found| usize::try_from(found).ok())
            .unwrap_or(default.concurrency),
    }
}

const STATE_DIR: &str = "/var/lib/certsyncd";
const SCHEDULE: &str = "0 */10 * * * *";
const SPLAY: Duration = Duration::from_secs(60);
const SPLAYS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 60 * 60);
const CONCURRENCY: usize = 8;
const MAX_CONCURRENCY: i64 = 256;

#[expect(clippy::expect_used, reason = "a constant; the tests parse it")]
fn default_schedule() -> Cron {
    time::cron(SCHEDULE).expect("the default schedule is a cron expression")
}

/// A folder of its own: in `/` or `/etc` certsyncd would sweep what is not its own.
fn state_dir(text: &str) -> Result<PathBuf, super::values::Wrong> {
    let path = path(text)?;
    match path.components().count() {
        0..=2 => Err(super::values::Wrong::expected("a folder of certsyncd's own, such as `/var/lib/certsyncd`")),
        _ => Ok(super::values::plain(&path)),
    }
}

fn metrics(root: &Reader<'_>) -> Metrics {
    let value = root.take("metrics");
    let Some(reader) = value.as_ref().and_then(|value| Reader::open(value, &keys::METRICS)) else { return Metrics::default() };
    let listen = reader.take("listen").and_then(|value| value.parse(net::LISTEN, net::listen));
    let textfile = reader.take("textfile").and_then(|value| {
        let path = value.parse(PATH, file_path)?;
        if path.extension().is_none_or(|extension| extension != "prom") {
            let hint = "node-exporter only reads files that end in `.prom`".to_owned();
            value.warning(format!("`metrics.textfile` is `{}`, which does not end in `.prom`", path.display()), Some(hint));
        }
        Some(path)
    });
    Metrics { listen, textfile }
}

/// A plain secret is fine in a file that only the service can read.
fn warn_of_plain_secrets(sink: &Sink, mode: Option<u32>) {
    let Some(mode) = mode.filter(|mode| mode & READABLE_BY_OTHERS != 0) else { return };
    for (at, span) in sink.plain.take() {
        let message = format!("`{at}` stands in a file that every user of this host can read (mode {:04o})", mode & 0o7777);
        let hint = "`chmod o-r` the file, or write `{ file = … }`, `{ env = … }` or `{ credential = … }` instead".to_owned();
        sink.warning(&at, Some(span), message, Some(hint));
    }
}

const READABLE_BY_OTHERS: u32 = 0o004;

fn warn_of_idle_parts(
    root: &Reader<'_>,
    certificates: &[Certificate],
    providers: &BTreeMap<String, Provider>,
    targets: &BTreeMap<String, Target>,
) {
    if !root.has("certificate") {
        let hint = "`certsyncd list` shows what an account holds, `certsyncd init PROVIDER` writes the entries".to_owned();
        root.sink.warning(
            "certificate",
            None,
            "no `[[certificate]]`: there is nothing to keep up to date".to_owned(),
            Some(hint),
        );
        return;
    }
    let asked: BTreeSet<&str> = certificates.iter().map(|entry| entry.provider.as_str()).collect();
    let served: BTreeSet<&str> = certificates.iter().flat_map(|entry| entry.deploy.iter().map(String::as_str)).collect();
    warn_of_idle(root, "providers", "no certificate comes from it", |name| providers.contains_key(name) && !asked.contains(name));
    warn_of_idle(root, "deploy", "no certificate names it in `deploy`", |name| {
        targets.contains_key(name) && !served.contains(name)
    });
}

fn warn_of_idle(root: &Reader<'_>, table: &str, why: &str, is_idle: impl Fn(&str) -> bool) {
    let Some(value) = root.take(table).filter(|value| value.node.get_ref().is_table()) else { return };
    for named in Reader::names(&value, "").into_iter().filter(|named| is_idle(&named.name)) {
        root.sink.warning(&named.value.at, Some(named.name_span), format!("`{}` is not used: {why}", named.value.at), None);
    }
}

fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.span.as_ref().map_or(0, |span| span.start));
    problems
}

//! The log: to the journal with fields when systemd reads our standard error, else readable lines on it.
//!
//! Start at [`init`], once, first thing. Events carry `certificate`, `provider`, `event` and `target` as fields; in the journal they are
//! `CERTIFICATE=`, `PROVIDER=`, `EVENT=` and `TARGET=`, so `journalctl -u certsyncd CERTIFICATE=api` tells one certificate's story.
//!
//! Only our own crate can be turned up. What other crates say below a warning is dropped at every level: HTTP crates print addresses,
//! and an address of CDS carries its signature. Of a panic only what was written in advance is shown. A journal that cannot be reached costs
//! the fields, not the lines.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::str::FromStr;

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{FilterFn, LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::clock::Clock;
use crate::config;

/// How much is logged.
#[derive(Clone, Debug)]
pub struct Volume(Targets);

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to read log filter `{text}`")]
pub struct Error {
    /// As given.
    pub text: String,
    /// Why.
    pub source: tracing_subscriber::filter::ParseError,
}

impl Error {
    /// What would mend it.
    pub fn hint(&self) -> Option<String> {
        Some("use a level (error, warn, info, debug, trace), or such as `info,certsyncd::provider=trace`".to_owned())
    }
}

impl Volume {
    /// `filter` is what `CERTSYNCD_LOG` says; without it info, and a level more for each `-v`.
    pub fn new(filter: Option<&str>, verbose: u8) -> Result<Volume, Error> {
        let level = match verbose {
            0 => LevelFilter::INFO,
            1 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        match filter.map(str::trim).filter(|text| !text.is_empty()) {
            None => Ok(Volume(Targets::new().with_default(level))),
            Some(text) => Targets::from_str(text).map(Volume).map_err(|source| Error { text: text.to_owned(), source }),
        }
    }

    /// Whether something of this level and origin is logged.
    fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().split("::").next().is_some_and(|root| OURS.contains(&root));
        let level = *metadata.level();
        (ours || level <= Level::WARN) && self.0.would_enable(metadata.target(), &level)
    }

    /// As a filter of a layer.
    pub fn filter<S: Subscriber>(self) -> FilterFn<impl Fn(&Metadata<'_>) -> bool + Clone> {
        filter_fn(move |metadata| self.lets_through(metadata))
    }
}

/// Starts the log for the whole process. A second call changes nothing.
pub fn init(volume: Volume) {
    let layer = if reads_our_stderr() { journal() } else { None };
    let layer = layer.unwrap_or_else(|| lines(std::io::stderr, is_coloured()));
    let started = Registry::default().with(layer.with_filter(volume.filter::<Registry>())).try_init();
    if started.is_err() {
        tracing::debug!("the log was started already");
    }
}

/// From now on a panic is one line, of the log once that is there: where it was, and its words if they are fixed ones. Words that were put
/// together when it happened may quote what was being read, a key for one.
pub fn hush_panics() {
    std::panic::set_hook(Box::new(tell_panic));
}

fn tell_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let words =
        panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("its words are not shown, they may hold a secret");
    if tracing::dispatcher::has_been_set() {
        tracing::error!("a defect of certsyncd: panicked at {place}: {words}");
    } else {
        let _ = writeln!(std::io::stderr(), "error: a defect of certsyncd: panicked at {place}: {words}");
    }
}

/// Readable lines: time, level, message, then the fields.
pub fn lines<W>(writer: W, color: bool) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_ansi(color).log_internal_errors(false);
    Box::new(layer.event_format(Lines { clock: Clock::system(), zone: TimeZone::system() }).with_writer(writer))
}

/// The journal, with our fields as they are and the levels that syslog knows: info is *info* there, not *notice*.
fn journal() -> Option<Box<dyn Layer<Registry> + Send + Sync>> {
    let layer = tracing_journald::layer().ok()?;
    let mappings = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    let layer = layer.with_field_prefix(None).with_syslog_identifier("certsyncd".to_owned()).with_priority_mappings(mappings);
    Some(Box::new(layer))
}

/// Whether standard error is the stream that `$JOURNAL_STREAM` names (systemd.exec(5)): set for a service, but also for what a service starts.
fn reads_our_stderr() -> bool {
    let Some(stream) = config::secret::variable("JOURNAL_STREAM") else { return false };
    let Ok(stat) = rustix::fs::fstat(std::io::stderr()) else { return false };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

fn is_coloured() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}

/// `2026-11-22 02:10:03 INFO  pass over certificate=api`.
struct Lines {
    clock: Clock,
    zone: TimeZone,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let color = writer.has_ansi_escapes();
        let now = self.zone.to_datetime(self.clock.now());
        let level = *event.metadata().level();
        let mut words = Words::default();
        event.record(&mut words);
        let dim = paint(Style::new().dimmed(), color);
        let strong = paint(style(level), color);
        write!(writer, "{dim}{}{dim:#} {strong}{level:<5}{strong:#} {}", now.strftime("%Y-%m-%d %H:%M:%S"), words.message)?;
        write!(writer, "{dim}{}", words.fields)?;
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<N>>().filter(|fields| !fields.is_empty()) {
                write!(writer, " {fields}")?;
            }
        }
        writeln!(writer, "{dim:#}")
    }
}

/// An event's message, and its other fields as ` key=value`.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Words {
    fn put(&mut self, field: &Field, value: &str) {
        let value = OneLine(value);
        // writing to a string cannot fail
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

/// Text without control characters: what a server said must not start a line of its own, nor colour the terminal.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_default()) } else { f.write_char(c) })
    }
}

fn paint(style: Style, color: bool) -> Style {
    if color { style } else { Style::new() }
}

fn style(level: Level) -> Style {
    let color = match level {
        Level::ERROR => AnsiColor::Red,
        Level::WARN => AnsiColor::Yellow,
        Level::INFO => AnsiColor::Green,
        Level::DEBUG => AnsiColor::Blue,
        Level::TRACE => AnsiColor::Magenta,
    };
    color.on_default()
}

/// First parts of the targets that can be turned up.
const OURS: [&str; 2] = ["certsyncd", "fakecloud"];

//! The words of an alert, in English and Chinese: what, where, until when, and what to do next.
//!
//! Start at [`tell`]: a [`Story`] (what the rule knows) becomes a [`Text`] in both languages, made once, when the event is raised, and
//! stored with it, so that a retry tomorrow says what was known today. Every message ends with its section of the runbook, which the
//! package installs ([`RUNBOOK`]; `docs/alerts.md` in the source). Pure; nothing here fails.

mod chinese;
mod english;

use jiff::Timestamp;

use crate::config::{EventKind, Language, Severity};
use crate::report::{Event, Failure, Served, SuccessorNote};

/// Where the package puts `docs/alerts.md`.
pub const RUNBOOK: &str = "/usr/share/doc/certsyncd/alerts.md";

/// Longest message, in characters. Chinese takes three bytes a character, and WeCom takes 4,096 bytes.
pub const MESSAGE_LIMIT: usize = 1_200;

/// Longest quotation of somebody else's words (an error, a server's output) in a message, in characters.
pub const QUOTE_LIMIT: usize = 500;

/// How many names are spelt out before `and 3 more`.
const NAMES_SHOWN: usize = 3;

/// Whom a message is about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// This host.
    pub host: &'a str,
    /// The entry's name.
    pub certificate: Option<&'a str>,
    /// Names it covers.
    pub names: &'a [String],
    /// Its provider.
    pub provider: Option<&'a str>,
    /// The provider's id.
    pub id: Option<&'a str>,
    /// Now; days are counted from it.
    pub now: Timestamp,
}

/// What a rule knows.
#[derive(Clone, Copy, Debug)]
pub enum Story<'a> {
    /// Ends soon.
    Expiring {
        /// End of what is judged.
        until: Timestamp,
        /// The provider's flag says so, and no threshold does.
        flagged: bool,
        /// What stands in the way of a renewal.
        way: Way<'a>,
    },
    /// Has ended.
    Expired {
        /// End of what is judged.
        until: Timestamp,
        /// What stands in the way of a renewal.
        way: Way<'a>,
    },
    /// A server still shows an older certificate, which ends soon or has ended.
    Stale {
        /// What it shows.
        served: &'a Served,
        /// Its end.
        until: Timestamp,
        /// End of the live one on disk.
        live_until: Timestamp,
    },
    /// Could not be fetched, or was refused.
    SyncFailed {
        /// Failing passes in a row.
        passes: u32,
        /// Why.
        error: Option<&'a Failure>,
        /// End of the live one.
        until: Option<Timestamp>,
    },
    /// Test, reload or verification failed.
    DeployFailed {
        /// The target's table.
        target: &'a str,
        /// Certificates concerned.
        certificates: &'a [String],
        /// Why, in the server's words.
        error: &'a str,
        /// What would mend it.
        hint: Option<&'a str>,
        /// The previous generation is live again.
        rolled_back: bool,
        /// Tried too often, waits for another certificate.
        held: Option<&'a str>,
    },
    /// Another certificate is live.
    Renewed {
        /// Its end.
        until: Timestamp,
        /// The id before, when it changed.
        previous_id: Option<&'a str>,
    },
    /// A renewal waits for the operator.
    SuccessorAvailable {
        /// Which.
        successor: &'a SuccessorNote,
        /// End of the live one.
        until: Option<Timestamp>,
    },
    /// Files were changed by someone else, and put right.
    Drift {
        /// What.
        changes: &'a [String],
    },
    /// Many certificates, one cause.
    ProviderDown {
        /// Their names.
        certificates: &'a [String],
        /// The cause.
        cause: &'a str,
        /// What would mend it.
        hint: Option<&'a str>,
        /// The first of them to end.
        first: Option<(&'a str, Timestamp)>,
    },
    /// The new configuration is not valid.
    ConfigRefused(&'a str),
    /// The ledger was rebuilt.
    LedgerRebuilt(&'a str),
    /// The clocks differ.
    ClockSkew(&'a str),
    /// What was alerted is over.
    Resolved(Over<'a>),
    /// `certsyncd alert test`.
    Test {
        /// The channel's name.
        channel: &'a str,
    },
}

/// What stands between a certificate that ends and its renewal.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// A renewal waits for the operator.
    pub successor: Option<&'a SuccessorNote>,
    /// Renewals that do not fit, with the reason.
    pub near_misses: &'a [String],
    /// The last fetch failed.
    pub error: Option<&'a Failure>,
}

/// What is over, and how.
#[derive(Clone, Copy, Debug)]
pub enum Over<'a> {
    /// Another certificate is live; its end.
    Replaced(Timestamp),
    /// The same one is well again by date and flag (a flag taken back, a clock put right).
    Valid(Timestamp),
    /// Fetched again.
    Fetched,
    /// The target took up its certificates.
    Deployed(&'a str),
    /// The provider answers again.
    ProviderBack(&'a str),
    /// The clocks agree.
    ClockRight,
    /// The configuration is valid.
    ConfigAccepted,
    /// It is watched here no more: a certificate, a target or a provider left the inventory.
    Removed(&'a str),
}

/// One message in both languages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// English.
    pub en: String,
    /// Chinese.
    pub zh: String,
}

/// Tells `story` about `subject`.
pub fn tell(event: EventKind, subject: &Subject<'_>, story: &Story<'_>) -> Text {
    let runbook = format!("{RUNBOOK}#{event}");
    Text {
        en: format!("{} Runbook: {runbook}", shorten(&english::tell(subject, story), MESSAGE_LIMIT)),
        zh: format!("{}处理手册：{runbook}", shorten(&chinese::tell(subject, story), MESSAGE_LIMIT)),
    }
}

/// The message in the channel's language.
pub fn text(event: &Event, language: Language) -> &str {
    match (language, &event.message_zh) {
        (Language::Zh, Some(chinese)) => chinese,
        _ => &event.message,
    }
}

/// One short line for subjects and headings: `[critical] expired: api on web-1`.
pub fn title(event: &Event, language: Language) -> String {
    let what = event.target.as_deref().or(event.certificate.as_deref()).or(event.provider.as_deref());
    match language {
        Language::En => {
            let what = what.map(|what| format!(": {what}")).unwrap_or_default();
            format!("[{}] {}{what} on {}", severity(event.severity), event.event.name().replace('_', " "), event.host)
        }
        Language::Zh => {
            let what = what.map(|what| format!("：{what}")).unwrap_or_default();
            format!("【{}】{}{what}（{}）", chinese::severity(event.severity), chinese::kind(event.event), event.host)
        }
    }
}

/// `info`, `warning`, `critical`.
pub fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

/// Somebody else's words on one line: white space and control characters become single spaces, long ones end in `…`.
pub fn quote(words: &str) -> String {
    let words = words.replace(|c: char| c.is_control(), " ");
    shorten(&words.split_whitespace().collect::<Vec<_>>().join(" "), QUOTE_LIMIT)
}

/// At most `limit` characters.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(limit.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// `2026-12-01 00:00 UTC`.
fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Whole units between two moments, whatever their order, rounded down as the event's `days_left` is: days from two on, else hours, else
/// minutes; `None` below one.
fn distance(from: Timestamp, to: Timestamp) -> Option<(u64, Unit)> {
    let seconds = to.duration_since(from).unsigned_abs().as_secs();
    match seconds {
        172_800.. => Some((seconds / 86_400, Unit::Day)),
        7_200.. => Some((seconds / 3_600, Unit::Hour)),
        60.. => Some((seconds / 60, Unit::Minute)),
        _ => None,
    }
}

/// Our own advice for the entry `name`, and whether it already says how to try again: then the message must not say so once more.
fn advice(hint: &str, name: Option<&str>) -> (String, bool) {
    let hint = name.map_or_else(|| hint.to_owned(), |name| hint.replace("--force NAME", &format!("--force {name}")));
    let says_how = hint.contains("`certsyncd sync");
    (quote(&hint), says_how)
}

/// The name, where there is just one.
fn only(names: &[String]) -> Option<&str> {
    if let [only] = names { Some(only) } else { None }
}

/// The command that tries a failed deploy again at once. What a server rejected is tried again only where it is named; what merely waits
/// needs no force.
fn retry(certificates: &[String], is_rejected: bool) -> String {
    match certificates {
        _ if !is_rejected => "certsyncd sync".to_owned(),
        names if (1..=NAMES_SHOWN).contains(&names.len()) => format!("certsyncd sync --force {}", names.join(" ")),
        _ => "certsyncd sync --force NAME".to_owned(),
    }
}

#[derive(Clone, Copy)]
enum Unit {
    Day,
    Hour,
    Minute,
}

/// Names to spell out (never the entry's own name alone), and how many are left.
fn shown<'a>(names: &'a [String], own: Option<&str>) -> (Vec<&'a str>, usize) {
    if let [only] = names
        && Some(only.as_str()) == own
    {
        return (Vec::new(), 0);
    }
    (names.iter().take(NAMES_SHOWN).map(String::as_str).collect(), names.len().saturating_sub(NAMES_SHOWN))
}

/// A sentence's end: fragments from elsewhere often bring their own.
fn full_stop(fragment: &str, stop: char) -> String {
    let fragment = fragment.trim_end();
    if fragment.ends_with(['.', '!', '?', '…', '。', '！', '？']) {
        fragment.to_owned()
    } else {
        format!("{fragment}{stop}")
    }
}

#[cfg(test)]
mod tests;

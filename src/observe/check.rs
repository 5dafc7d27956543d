//! `status --check`: the document judged in one line, as a Nagios plugin says it.
//!
//! Start at [`check`], which is pure. The exit codes and the form of the line are those of the Monitoring Plugins guidelines
//! (<https://www.monitoring-plugins.org/doc/guidelines.html>): 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN; text, `|`, performance data.

use jiff::Timestamp;

use super::status::{Certificate, Document, State};
use crate::report::{Valid, counted};

/// What a plugin answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The exit code, 0 to 3.
    pub code: u8,
    /// One line for stdout, without a newline.
    pub line: String,
}

/// Judges a document that was refreshed to `now`. An old one is UNKNOWN whatever it says: nobody looked since.
pub fn check(document: &Document, now: Timestamp) -> Verdict {
    if document.last_pass.is_none() {
        return unknown("no pass has ended yet");
    }
    if document.is_stale(now) {
        let ago = document.last_pass.map(|last| now.duration_since(last).as_secs() / 60).unwrap_or_default();
        return unknown(&format!("last pass was {ago} minutes ago, more than three intervals"));
    }
    let code = document.current().map(severity).max().unwrap_or(0);
    let word = match code {
        0 => "OK",
        1 => "WARNING",
        _ => "CRITICAL",
    };
    Verdict { code, line: format!("CERTSYNCD {word} - {} | {}", headline(document), performance(document, now)) }
}

/// The answer when there is nothing to judge, such as an unreadable state.
pub fn unknown(why: &str) -> Verdict {
    Verdict { code: 3, line: format!("CERTSYNCD UNKNOWN - {}", printable(why)) }
}

/// A failed fetch leaves time to act while something is live; a server that did not take a certificate, or nothing to serve, does not.
fn severity(certificate: &Certificate) -> u8 {
    match certificate.state {
        State::Expired | State::Missing => 2,
        State::Failed if certificate.fingerprint.is_none() => 2,
        State::Failed if certificate.targets.iter().any(|target| target.pending.is_some()) => 2,
        State::Failed | State::Expiring => 1,
        State::Held | State::Pending | State::Ok | State::Removed => 0,
    }
}

/// The worst first, by name; when all is well, what ends first.
fn headline(document: &Document) -> String {
    let mut bad: Vec<&Certificate> = document.current().filter(|certificate| severity(certificate) > 0).collect();
    bad.sort_by_key(|certificate| (std::cmp::Reverse(severity(certificate)), certificate.state, certificate.not_after));
    let total = document.current().count();
    if bad.is_empty() {
        return match document.first_to_end() {
            Some(first) => {
                format!("{}, first to end: {} {}", counted(total, "certificate"), first.name, in_days(first.days_left))
            }
            None => counted(total, "certificate"),
        };
    }
    let mut parts: Vec<String> = bad.iter().take(NAMED).map(|certificate| describe(certificate)).collect();
    if bad.len() > NAMED {
        parts.push(format!("and {} more", bad.len() - NAMED));
    }
    format!("{} of {total} certificates: {}", bad.len(), parts.join("; "))
}

fn describe(certificate: &Certificate) -> String {
    match (certificate.state, &certificate.last_error) {
        (State::Failed, Some(error)) => format!("{} failed ({})", certificate.name, printable(error)),
        (State::Expiring | State::Expired, _) => format!("{} {}", certificate.name, ending(certificate)),
        (state, _) => format!("{} {}", certificate.name, state.name()),
    }
}

/// `in 9 days`; where the provider's flag says what the date does not, that.
pub(super) fn ending(certificate: &Certificate) -> String {
    let date = in_days(certificate.days_left);
    let left = certificate.days_left.unwrap_or_default();
    match certificate.valid {
        Some(Valid::Expired) if left >= 0 => format!("marked expired by its provider (its own date: {date})"),
        Some(Valid::Expiring) if left > PROVIDER_WARNS => format!("marked as ending soon by its provider (its own date: {date})"),
        _ => date,
    }
}

/// `in 9 days`, `ended 2 days ago`.
pub(super) fn in_days(days: Option<i64>) -> String {
    match days {
        None => "has no date".to_owned(),
        Some(0) => "today".to_owned(),
        Some(1) => "in 1 day".to_owned(),
        Some(-1) => "ended within the last day".to_owned(),
        Some(-2) => "ended 1 day ago".to_owned(),
        Some(days) if days < 0 => format!("ended {} days ago", -days - 1),
        Some(days) => format!("in {days} days"),
    }
}

fn performance(document: &Document, now: Timestamp) -> String {
    let count = |state| document.current().filter(|certificate| certificate.state == state).count();
    let mut data = vec![format!("certificates={}", document.current().count())];
    data.extend([State::Expired, State::Failed, State::Missing, State::Expiring].map(|s| format!("{}={}", s.name(), count(s))));
    if let Some(first) = document.first_to_end() {
        data.push(format!("first_end_days={};{}:;0:", first.days_left.unwrap_or_default(), first.warn_days));
    }
    if let Some(last) = document.last_pass {
        data.push(format!("last_pass_age={}s", now.duration_since(last).as_secs()));
    }
    data.join(" ")
}

/// Without what would end the text or the line: `|`, line breaks and other control characters.
fn printable(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() || c == '|' { ' ' } else { c }).collect();
    if text.chars().count() > LONGEST {
        return text.chars().take(LONGEST - 1).chain(['…']).collect();
    }
    text
}

/// Days before the end from which CDS sets `Valid` to 2.
const PROVIDER_WARNS: i64 = 30;
/// Certificates that are named before `and … more`.
const NAMED: usize = 5;
/// Characters of one error: the line has to fit a pager.
const LONGEST: usize = 160;

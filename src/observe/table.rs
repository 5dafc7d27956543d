//! The document as a table for people.
//!
//! Start at [`table`]; it is pure and gives one string. What is wrong comes first; what failed stands below the table, a line each, because
//! a sentence does not fit a column. Colour only where the caller says that a person looks; a narrow terminal loses the bar first, then what is served.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::check::ending;
use super::status::{Certificate, Delivered, Document, State};

/// How it is drawn.
#[derive(Clone, Debug)]
pub struct Look {
    /// Columns of the terminal.
    pub width: u16,
    /// Whether to use colour.
    pub color: bool,
    /// In which zone times are shown.
    pub zone: TimeZone,
}

/// Draws a document that was refreshed to `now`. Ends with a newline.
pub fn table(document: &Document, look: &Look, now: Timestamp) -> String {
    let mut certificates: Vec<&Certificate> = document.certificates.iter().collect();
    certificates.sort_by_key(|certificate| (certificate.state, certificate.not_after));
    let mut text = if certificates.is_empty() { "no certificates\n".to_owned() } else { rows(&certificates, look) };
    for certificate in &certificates {
        for line in remarks(certificate) {
            text.push_str(&fold(&line, look.width));
        }
    }
    text.push_str(&fold(&passes(document, look, now), look.width));
    paint(&text, look.color)
}

/// `last pass 02:10 ok, next 02:20`; with the date where it is another day's.
fn passes(document: &Document, look: &Look, now: Timestamp) -> String {
    let last = match (document.last_pass, document.last_pass_ok) {
        (None, _) => "no pass yet".to_owned(),
        (Some(last), Some(false)) => format!("last pass {} {RED}failed{END}", moment(last, &look.zone, now)),
        (Some(last), _) => format!("last pass {} ok", moment(last, &look.zone, now)),
    };
    match document.next_pass {
        Some(next) => format!("{last}, next {}", moment(next, &look.zone, now)),
        None => last,
    }
}

/// The time of day, with the date unless it is today's.
pub(super) fn moment(time: Timestamp, zone: &TimeZone, now: Timestamp) -> String {
    let (time, now) = (zone.to_datetime(time), zone.to_datetime(now));
    if time.date() == now.date() { time.strftime("%H:%M").to_string() } else { time.strftime("%Y-%m-%d %H:%M").to_string() }
}

fn rows(certificates: &[&Certificate], look: &Look) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(look.width);
    let mut header = vec!["NAME", "STATE", "DAYS LEFT"];
    if look.width >= WITH_SERVED {
        header.push("SERVED");
    }
    table.set_header(header);
    for certificate in certificates {
        let color = color(certificate.state);
        let mut row = vec![
            clean(&certificate.name),
            format!("{color}{}{END}", certificate.state.name()),
            format!("{color}{}{END}", days(certificate, look.width)),
        ];
        if look.width >= WITH_SERVED {
            row.push(served(certificate));
        }
        table.add_row(row);
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// `██████░░░░  61`; the bar is what is left of the certificate's life.
fn days(certificate: &Certificate, width: u16) -> String {
    let Some(left) = certificate.days_left else { return "-".to_owned() };
    if width < WITH_BAR {
        return left.to_string();
    }
    let life = certificate.not_before.zip(certificate.not_after).map(|(start, end)| end.duration_since(start).as_secs() / 86_400);
    let cells = life.filter(|life| *life > 0).map_or(0, |life| (left.max(0) * BAR + life - 1) / life).clamp(0, BAR);
    let bar: String = (0..BAR).map(|cell| if cell < cells { '█' } else { '░' }).collect();
    format!("{bar} {left:>4}")
}

/// `nginx ✓  haproxy …`: each target with a mark.
fn served(certificate: &Certificate) -> String {
    let mark = |target: &Delivered| {
        let name = clean(&target.name);
        match standing(certificate, target) {
            Standing::Live => format!("{GREEN}{name} ✓{END}"),
            Standing::Waiting => format!("{YELLOW}{name} …{END}"),
            Standing::Other => format!("{RED}{name} ✗{END}"),
        }
    };
    certificate.targets.iter().map(mark).collect::<Vec<_>>().join("  ")
}

/// What a target does with the live certificate.
enum Standing {
    /// Has it, and shows it wherever that was looked at.
    Live,
    /// Does not have it yet.
    Waiting,
    /// Some address shows another one, or nothing.
    Other,
}

fn standing(certificate: &Certificate, target: &Delivered) -> Standing {
    if target.pending.is_some() || certificate.fingerprint.is_none() {
        Standing::Waiting
    } else if target.served.iter().any(|served| served.fingerprint != certificate.fingerprint) {
        Standing::Other
    } else {
        Standing::Live
    }
}

/// What a person should read besides: the error and its mend, why it waits, what is served instead, a renewal.
fn remarks(certificate: &Certificate) -> Vec<String> {
    let name = clean(&certificate.name);
    let mut lines = Vec::new();
    if let Some(error) = &certificate.last_error {
        lines.push(format!("{RED}✗{END} {name}: {}", clean(error)));
    }
    if let (Some(_), Some(hint)) = (&certificate.last_error, &certificate.hint) {
        lines.push(format!("  hint: {}", clean(hint)));
    }
    if certificate.state == State::Expired {
        lines.push(format!("{RED}✗{END} {name}: {}", ending(certificate)));
    }
    if let Some(held) = &certificate.held {
        lines.push(format!("{YELLOW}…{END} {name}: held: {}", clean(held)));
    }
    for target in &certificate.targets {
        if let (Some(why), None) = (&target.pending, &certificate.last_error) {
            lines.push(format!("{YELLOW}…{END} {name}: {}: {}", clean(&target.name), clean(why)));
        }
        lines.extend(elsewhere(certificate, target).map(|line| format!("{RED}✗{END} {name}: {}: {line}", clean(&target.name))));
    }
    if let Some(successor) = &certificate.successor {
        lines.push(format!("{YELLOW}…{END} {name}: renewal `{}` is there", clean(&successor.id)));
    }
    lines
}

/// The addresses of a target that show another certificate than the live one.
fn elsewhere(certificate: &Certificate, target: &Delivered) -> impl Iterator<Item = String> {
    let looked = if matches!(standing(certificate, target), Standing::Other) { target.served.as_slice() } else { &[] };
    let live = certificate.fingerprint;
    looked.iter().filter(move |served| served.fingerprint != live).map(|served| {
        let (address, name) = (clean(&served.address), clean(&served.name));
        match (&served.fingerprint, &served.error) {
            (Some(other), _) => format!("{address} serves {} for {name}", other.short()),
            (None, Some(error)) => format!("{address}: {}", clean(error)),
            (None, None) => format!("{address} serves nothing for {name}"),
        }
    })
}

fn color(state: State) -> char {
    match state {
        State::Expired | State::Failed | State::Missing => RED,
        State::Expiring | State::Held | State::Pending => YELLOW,
        State::Ok => GREEN,
        State::Removed => DIM,
    }
}

/// Text from outside without control characters, so that it can neither colour nor move anything, and without our own marks.
fn clean(text: &str) -> String {
    let spaced = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    spaced.filter(|c| ![RED, YELLOW, GREEN, DIM, END].contains(c)).collect()
}

/// One line, cut where the terminal ends.
fn fold(line: &str, width: u16) -> String {
    let marks = line.chars().filter(|c| [RED, YELLOW, GREEN, DIM, END].contains(c)).count();
    let room = usize::from(width.max(NARROWEST)) + marks;
    if line.chars().count() <= room {
        return format!("{line}\n");
    }
    line.chars().take(room - 1).chain(['…', '\n']).collect()
}

/// The marks become colours, or nothing. They are characters without width, so that columns were measured right.
fn paint(text: &str, color: bool) -> String {
    let codes = [(RED, "\x1b[31m"), (YELLOW, "\x1b[33m"), (GREEN, "\x1b[32m"), (DIM, "\x1b[2m"), (END, "\x1b[0m")];
    codes.iter().fold(text.to_owned(), |text, (mark, code)| text.replace(*mark, if color { code } else { "" }))
}

const RED: char = '\u{2061}';
const YELLOW: char = '\u{2062}';
const GREEN: char = '\u{2063}';
const DIM: char = '\u{2064}';
const END: char = '\u{2060}';
/// Cells of the bar.
const BAR: i64 = 10;
/// Narrower terminals see no bar.
const WITH_BAR: u16 = 64;
/// Narrower terminals see no targets.
const WITH_SERVED: u16 = 48;
/// Lines are not cut shorter than this.
const NARROWEST: u16 = 40;

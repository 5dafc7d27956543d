//! What people read: lines that survive a closed pipe, errors with one cause per line, colour only where somebody looks.

use std::error::Error;
use std::io::{self, IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

use crate::config::Refused;
use crate::report::Failure;

/// Prints to stdout; a closed pipe is not our failure.
pub(super) fn out(text: impl AsRef<str>) {
    let text = text.as_ref();
    let mut stdout = anstream::stdout().lock();
    let _ = if text.ends_with('\n') { write!(stdout, "{text}") } else { writeln!(stdout, "{text}") };
}

/// Prints a line to stderr.
pub(super) fn line(text: impl AsRef<str>) {
    let _ = writeln!(anstream::stderr().lock(), "{}", text.as_ref());
}

/// Prints as JSON on stdout.
pub(super) fn json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => out(text),
        Err(error) => line(format!("error: failed to write JSON: {error}")),
    }
}

/// An error and its causes, one per line.
pub(super) fn error(error: &(dyn Error + 'static)) {
    hinted(error, None);
}

/// An error, its causes and what would mend it.
pub(super) fn hinted(error: &(dyn Error + 'static), hint: Option<String>) {
    line(lines("error", &Failure::new("", error).hint(hint)));
}

/// A failure as people read it: causes one per line, the hint last.
pub fn failure(failure: &Failure) -> String {
    lines("error", failure)
}

fn lines(label: &str, failure: &Failure) -> String {
    let mut text = String::new();
    for (at, cause) in failure.causes.iter().enumerate() {
        let lead = if at == 0 { format!("{label}: ") } else { "\n -> ".to_owned() };
        text.push_str(&lead);
        // The server's own words may be several lines: they stay together, set in.
        text.push_str(&cause.trim_end().replace('\n', "\n    "));
    }
    if let Some(hint) = &failure.hint {
        text.push_str("\nhint: ");
        text.push_str(hint);
    }
    text
}

/// A configuration that is not valid.
pub(super) fn refused(refused: &Refused) {
    line(refused.render(io::stderr().is_terminal()));
}

/// A table without lines, as wide as the terminal.
pub(super) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(head.iter().map(|h| h.to_uppercase()));
    if let Some(width) = width() {
        table.set_width(width);
    }
    table
}

/// The terminal's width, where stdout is one.
pub(super) fn width() -> Option<u16> {
    io::stdout()
        .is_terminal()
        .then(|| rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col).filter(|w| *w > 0))
        .flatten()
}

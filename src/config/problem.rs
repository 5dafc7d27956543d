//! What is wrong with a configuration, and where; and how that is shown.
//!
//! Start at [`Refused`]. It carries the whole file for its snippets, with every secret in it already blotted out.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// One thing that is wrong (or, as a warning, unwise).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the value, such as `certificate[1].successor`.
    pub at: String,
    /// What is wrong, what was found, what is expected.
    pub message: String,
    /// What would mend it.
    pub hint: Option<String>,
    /// Bytes of the file it is about.
    pub span: Option<Range<usize>>,
}

/// `message`, and the hint on a line of its own.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}

/// A configuration that is not valid, with everything that is wrong with it.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, in the order of the file; never empty.
    pub problems: Vec<Problem>,
    /// The text that the spans point into, secrets blotted out; empty when the file could not be read.
    pub text: String,
}

impl Refused {
    /// Every problem at its place in the file, as rustc shows its own; with ANSI colours where `color` says so.
    pub fn render(&self, color: bool) -> String {
        render(&self.path, &self.text, &self.problems, Weight::Error, color)
    }

    /// The word for counters.
    pub fn kind(&self) -> &'static str {
        "config_refused"
    }

    /// What the file needs next, when there is one thing to say.
    pub fn hint(&self) -> Option<String> {
        self.problems.first().and_then(|problem| problem.hint.clone())
    }
}

/// One line: the file and the first problem.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to accept configuration `{}`", self.path.display())?;
        match self.problems.as_slice() {
            [] => Ok(()),
            [only] => write!(f, ": {}", only.message),
            [first, others @ ..] => write!(f, ": {} (and {} more)", first.message, others.len()),
        }
    }
}

impl std::error::Error for Refused {}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The file is refused.
    Error,
    /// The file is taken.
    Warning,
}

/// Shows findings at their places in `text`, at most [`MAX_SHOWN`] of them.
pub fn render(path: &Path, text: &str, problems: &[Problem], weight: Weight, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let path = path.display().to_string();
    let mut shown: Vec<String> =
        problems.iter().take(MAX_SHOWN).map(|problem| renderer.render(&[group(&path, text, problem, weight)])).collect();
    if problems.len() > MAX_SHOWN {
        shown.push(format!("… and {} more", problems.len() - MAX_SHOWN));
    }
    shown.iter().map(|one| format!("{}\n", one.trim_end())).collect::<Vec<_>>().join("\n")
}

/// Problems shown at once; further ones are only counted.
pub const MAX_SHOWN: usize = 100;

fn group<'a>(path: &'a str, text: &'a str, problem: &'a Problem, weight: Weight) -> Group<'a> {
    let level = match weight {
        Weight::Error => Level::ERROR,
        Weight::Warning => Level::WARNING,
    };
    let group = level.primary_title(problem.message.as_str());
    let group = match problem.span.as_ref().map(|span| Place::of(text, span)) {
        None => group.element(Origin::path(path)),
        Some(place) if place.line.len() > MAX_LINE => {
            group.element(Origin::path(path).line(place.number).char_column(place.column()))
        }
        Some(Place { line, number, span }) => {
            let annotation = AnnotationKind::Primary.span(span);
            group.element(Snippet::source(line).path(path).line_start(number).annotation(annotation))
        }
    };
    match &problem.hint {
        None => group,
        Some(hint) => group.element(Level::HELP.with_name("hint").message(hint.as_str())),
    }
}

/// Longer lines are named, not shown.
const MAX_LINE: usize = 4096;

/// The first line of a span: a snippet of a whole file would cost its length for each problem.
struct Place<'a> {
    line: &'a str,
    /// From 1.
    number: usize,
    /// In the line.
    span: Range<usize>,
}

impl<'a> Place<'a> {
    fn of(text: &'a str, span: &Range<usize>) -> Place<'a> {
        let start = floor(text, span.start);
        let before = text.get(..start).unwrap_or_default();
        let from = before.rfind('\n').map_or(0, |newline| newline + 1);
        let rest = text.get(from..).unwrap_or_default();
        let line = rest.split(['\n', '\r']).next().unwrap_or_default();
        let begin = (start - from).min(line.len());
        let end = floor(line, (span.end.max(start) - from).min(line.len())).max(begin);
        Place { line, number: 1 + before.matches('\n').count(), span: begin..end }
    }

    /// From 1, in characters.
    fn column(&self) -> usize {
        1 + self.line.get(..self.span.start).unwrap_or_default().chars().count()
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// `text` with every byte of the given ranges replaced by `*`, so that places stay where they are.
pub(super) fn blot(text: &str, ranges: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for range in ranges {
        let from = floor(text, range.start);
        let to = (range.end..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
        for byte in bytes.get_mut(from..to).unwrap_or_default() {
            if !matches!(*byte, b'\n' | b'\r') {
                *byte = b'*';
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

//! What is wrong with a configuration, and where; and how that is shown.
//!
//! Start at [`Refused`]. It carries the file for its snippets, with all but the lines it shows, and every secret in those, blotted out.

use std::collections::BTreeMap;
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
    /// The text that the spans point into: what may be shown of it, the rest blotted out; empty when the file could not be read.
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
        let (from, line) = line_at(text, start);
        let line = line.trim_end();
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

/// Where the lines begin that [`render`] shows of these problems, and the lines.
pub(super) fn shown_lines<'t>(text: &'t str, problems: &[Problem]) -> BTreeMap<usize, &'t str> {
    let spans = problems.iter().take(MAX_SHOWN).filter_map(|problem| problem.span.as_ref());
    spans.map(|span| line_at(text, floor(text, span.start))).collect()
}

/// The line that holds the byte at `start`, without its end, and where it begins.
fn line_at(text: &str, start: usize) -> (usize, &str) {
    let from = text.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let rest = text.get(from..).unwrap_or_default();
    (from, rest.split(['\n', '\r']).next().unwrap_or_default())
}

/// What may be shown of a text: the lines with a problem, without their remarks (people note old secrets there), and with every byte of
/// the hidden ranges replaced by `*`. All else is `*` too, so that places stay where they are.
pub(super) fn presentable(text: &str, lines: &BTreeMap<usize, &str>, hidden: &[Range<usize>]) -> String {
    let blot = |byte: u8| if matches!(byte, b'\n' | b'\r') { byte } else { b'*' };
    let mut bytes: Vec<u8> = text.bytes().map(blot).collect();
    for (from, line) in lines {
        let shown = before_remark(line);
        let blank = line.bytes().skip(shown.len()).map(|_| b' ');
        let place = bytes.iter_mut().skip(*from).take(line.len());
        place.zip(shown.bytes().chain(blank)).for_each(|(byte, shown)| *byte = shown);
    }
    for range in hidden {
        let from = floor(text, range.start);
        let to = (range.end..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
        let place = bytes.get_mut(from..to).unwrap_or_default();
        place.iter_mut().for_each(|byte| *byte = blot(*byte));
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// The line up to its `#`, unless that stands in a string.
fn before_remark(line: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => return line.get(..at).unwrap_or_default(),
            (None, '"' | '\'') => quote = Some(c),
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), _) if open == c && !escaped => quote = None,
            _ => {}
        }
        escaped = false;
    }
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_begins_outside_of_strings() {
        for (line, shown) in [
            ("a = 1 # b", "a = 1 "),
            ("a = \"#\" # b", "a = \"#\" "),
            ("a = \"\\\"#\" # b", "a = \"\\\"#\" "),
            ("a = '\\' # b", "a = '\\' "),
            ("a = ''#''", "a = ''"),
            ("#", ""),
        ] {
            assert_eq!(before_remark(line), shown);
        }
    }

    #[test]
    fn only_lines_with_a_problem_are_kept() {
        let text = "one = 1\r\ntwo = 'é' # é\nthree";
        let problem = |at: usize| Problem { at: String::new(), message: String::new(), hint: None, span: Some(at..at) };
        let kept = |at: usize, hidden: &[Range<usize>]| presentable(text, &shown_lines(text, &[problem(at)]), hidden);
        assert_eq!(kept(0, &[]), "one = 1\r\n***************\n*****");
        assert_eq!(kept(9, &[Range { start: 16, end: 17 }]), "*******\r\ntwo = '**'     \n*****");
        assert_eq!(kept(text.len(), &[]), "*******\r\n***************\nthree");
        assert_eq!(presentable(text, &BTreeMap::new(), &[]).len(), text.len());
    }
}

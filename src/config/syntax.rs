//! TOML itself: errors of syntax in words, and what must not be shown of a text that is not TOML.
//!
//! Start at [`parse`].

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::keys;
use super::problem::Problem;
use super::values::quote;

/// The document, or every error of syntax.
///
/// Of a file with more than [`WINDOW`] bytes after its first error, only the errors in so many: a file of garbage would else become
/// millions of them, and fill the memory.
pub(super) fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, Vec<Problem>> {
    let first = match DeTable::parse(text) {
        Ok(table) => return Ok(table),
        Err(error) => error,
    };
    let end = first.span().map_or(0, |span| span.start).saturating_add(WINDOW).min(text.len());
    let cut = if end < text.len() { text.get(..end).and_then(|text| text.rfind('\n')).unwrap_or(0) } else { end };
    let mut errors = DeTable::parse_recoverable(text.get(..cut).unwrap_or_default()).1;
    // What reaches the cut may only be wrong because of it.
    errors.retain(|error| cut == text.len() || error.span().is_some_and(|span| span.end < cut));
    if errors.is_empty() {
        errors.push(first);
    }
    let mut problems: Vec<Problem> = errors.iter().map(|error| problem(text, error)).collect();
    problems.dedup();
    Err(problems)
}

/// How far behind the first error further ones are looked for, in bytes.
const WINDOW: usize = 64 * 1024;

fn problem(text: &str, error: &toml::de::Error) -> Problem {
    let message = error.message();
    let span = error.span().map(|span| span.start.min(text.len())..span.end.min(text.len()));
    let hint = HINTS.iter().find(|(part, _)| message.contains(part)).map(|(_, hint)| (*hint).to_owned());
    let named = match (message, &span) {
        ("duplicate key", Some(span)) => format!("duplicate key `{}`", quote(text.get(span.clone()).unwrap_or_default())),
        _ => format!("not valid TOML: {message}"),
    };
    Problem { at: String::new(), message: named, hint, span }
}

/// What mends the usual ones.
const HINTS: [(&str, &str); 3] = [
    ("duplicate key", "keep one of them; entries of the inventory are `[[certificate]]`, in double brackets"),
    ("must be quoted", "put the value in double quotes"),
    ("recursion", "nothing in this file is nested so deeply"),
];

/// Places of these lines that may hold a secret, found without understanding it.
///
/// A line that only gives a value to a key known to be harmless is shown as it is, and so is the head of a table. Of any other line, such
/// as `secret_key "…"` or the middle of a string, only the words that the configuration itself knows.
pub(super) fn suspects(lines: &BTreeMap<usize, &str>) -> Vec<Range<usize>> {
    let mut suspects = Vec::new();
    for (from, line) in lines.iter().filter(|(_, line)| !is_head(line) && !is_harmless(line)) {
        let foreign = words(line).filter(|(_, word)| !keys::is_known(word));
        suspects.extend(foreign.map(|(at, word)| from + at..from + at + word.len()));
    }
    suspects
}

/// `[daemon]`, `[[certificate]]`: brackets and bare keys, without any value.
fn is_head(line: &str) -> bool {
    let line = line.trim();
    line.starts_with('[') && !line.contains(['=', '"', '\'', '{', ','])
}

/// Whether the line gives one value to a key that never holds a secret, and names none that does.
fn is_harmless(line: &str) -> bool {
    let Some((key, value)) = line.split_once('=') else { return false };
    let no_secret = words(value).all(|(_, word)| !keys::is_known(word) || keys::is_harmless(word));
    keys::is_harmless(key.trim()) && no_secret && !value.contains('=')
}

/// Every run of characters that could be a key, or a part of a value, with its place.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_structure = |c: char| c.is_whitespace() || "=[]{},\"'#".contains(c);
    let mut at = 0;
    line.split(is_structure).filter_map(move |word| {
        let place = at;
        let after = line.get(place + word.len()..).and_then(|rest| rest.chars().next());
        at = place + word.len() + after.map_or(0, char::len_utf8);
        (!word.is_empty()).then_some((place, word))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::config::problem::presentable;

    #[test]
    fn what_may_be_a_secret_is_found_without_toml() {
        for (line, shown) in [
            ("version = 1", "version = 1"),
            ("[providers.scm.auth]", "[providers.scm.auth]"),
            ("name = \"www.example.com", "name = \"www.example.com"),
            ("secret_key = \"a/b c", "secret_key = \"*** *"),
            ("secret_key \"abc\"", "secret_key \"***\""),
            ("secret_kye = 'abc'", "********** = '***'"),
            ("auth = { method = \"token\", token = \"abc\" }", "auth = { method = \"token\", token = \"***\" }"),
            ("id = \"x\"secret_key = \"abc\"", "id = \"*\"secret_key = \"***\""),
            ("still the secret\"\"\"", "***** *** secret\"\"\""),
            ("= \"abc\"", "= \"***\""),
            ("[\"abc\", abc]", "[\"***\", ***]"),
            ("\"password\" = \"é\"", "\"password\" = \"**\""),
        ] {
            let lines = BTreeMap::from([(0, line)]);
            assert_eq!(presentable(line, &lines, &suspects(&lines)), shown);
        }
    }
}

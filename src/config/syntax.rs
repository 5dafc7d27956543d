//! TOML itself: errors of syntax in words, and what must not be shown of a text that is not TOML.
//!
//! Start at [`problems`].

use std::ops::Range;

use super::keys;
use super::problem::Problem;
use super::values::quote;

/// Every error of syntax, as problems.
pub(super) fn problems(text: &str, errors: &[toml::de::Error]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = errors.iter().map(|error| problem(text, error)).collect();
    problems.dedup();
    problems
}

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

/// Places of a text that may hold a secret, found without understanding it: after each `key =` that is not known to be harmless, to the
/// end of the line, and on the lines that follow without a key of their own.
pub(super) fn suspects(text: &str) -> Vec<Range<usize>> {
    let mut suspects = Vec::new();
    let mut secret = false;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let assigned = secret_from(line);
        secret = match (assigned, line.trim_start().starts_with(['[', '#'])) {
            (Assigned::Secret(at), _) => {
                suspects.push(start + at..start + line.len());
                true
            }
            (Assigned::Nothing, false) if secret => {
                suspects.push(start..start + line.len());
                true
            }
            _ => false,
        };
        start += line.len();
    }
    suspects
}

enum Assigned {
    /// No `=` in the line.
    Nothing,
    /// Only keys that hold no secret.
    Harmless,
    /// From this byte on there may be one.
    Secret(usize),
}

fn secret_from(line: &str) -> Assigned {
    let mut assigned = Assigned::Nothing;
    for (at, _) in line.match_indices('=') {
        let before = line.get(..at).unwrap_or_default().trim_end();
        let key =
            before.rsplit(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '"' | '\''))).next().unwrap_or_default();
        let key = key.trim_matches(['"', '\'']);
        let after = line.get(at + 1..).unwrap_or_default();
        // A table in braces is judged by its own keys.
        let table = after.trim_start().starts_with('{');
        if !table && !is_harmless(key) {
            return Assigned::Secret(at + 1);
        }
        assigned = Assigned::Harmless;
    }
    assigned
}

/// Whether every table that knows this key holds no secret under it.
fn is_harmless(key: &str) -> bool {
    let mut known = keys::TABLES.iter().filter_map(|table| table.key(key)).peekable();
    known.peek().is_some() && known.all(|key| !key.secret)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::config::problem::blot;

    #[test]
    fn what_may_be_a_secret_is_found_without_toml() {
        let text = "version = 1\nsecret_key = \"a\nauth = { method = \"token\", token = \"b\" }\nsecret_kye = 'c\nstill c\n# comment\nregion = \"cn\"\n\"password\" = \"d\"\n[x]\n";
        let shown = blot(text, &suspects(text));
        let expected = "version = 1\nsecret_key =***\nauth = { method = \"token\", token =******\nsecret_kye =***\n*******\n# comment\nregion = \"cn\"\n\"password\" =****\n[x]\n";
        assert_eq!(shown, expected);
    }
}

//! Text into small types: names, paths, modes, units; and the words for what is wrong with it.
//!
//! Every parser takes the text alone and answers with the value or a [`Wrong`]; where it stands and what it was is the reader's to say.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

/// Why a text is not what was expected.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What exactly was expected, when that is narrower than what the reader says.
    pub(super) expected: Option<String>,
    /// What would mend it.
    pub(super) hint: Option<String>,
}

impl Wrong {
    pub(super) fn new() -> Wrong {
        Wrong::default()
    }

    pub(super) fn expected(expected: impl Into<String>) -> Wrong {
        Wrong { expected: Some(expected.into()), hint: None }
    }

    pub(super) fn hint(hint: Option<String>) -> Wrong {
        Wrong { expected: None, hint }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Wrong {
        self.hint = Some(hint.into());
        self
    }
}

impl Wrong {
    /// In a sentence, without the text itself: `expected …; did you mean …?`.
    pub(super) fn sentence(self, expected: &str) -> String {
        let expected = self.expected.as_deref().unwrap_or(expected);
        let hint = self.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("expected {expected}{hint}")
    }
}

/// What a path must be.
pub(super) const PATH: &str = "an absolute path";
/// What an entry's name must be.
pub(super) const NAME: &str = "letters, digits, `.`, `-`, `_`, starting with a letter or digit";

/// Longest name of an entry, in bytes: it becomes a file name with something added (NAME_MAX is 255).
pub(super) const MAX_NAME: usize = 200;
/// Longest name of a provider, target or channel, in bytes: they become labels of metrics.
pub(super) const MAX_TABLE_NAME: usize = 64;
/// Longest path, in bytes (PATH_MAX).
pub(super) const MAX_PATH: usize = 4096;
/// Longest identifier of a cloud, in bytes; real ones have 16 to 36.
pub(super) const MAX_ID: usize = 128;

/// An absolute path without `..`.
pub(super) fn path(text: &str) -> Result<PathBuf, Wrong> {
    if text.len() >= MAX_PATH {
        return Err(Wrong::expected(format!("a path shorter than {MAX_PATH} bytes")));
    }
    if text.contains('\0') {
        return Err(Wrong::expected("a path without NUL bytes"));
    }
    if text.starts_with("~/") || text.contains("$") && !text.starts_with('/') {
        return Err(Wrong::hint(Some("write it out: nothing is expanded".to_owned())));
    }
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(Wrong::hint(Some("start it with `/`".to_owned())));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Wrong::expected("a path without `..`"));
    }
    Ok(path.to_owned())
}

/// A path of a file, not of a folder.
pub(super) fn file_path(text: &str) -> Result<PathBuf, Wrong> {
    let path = path(text)?;
    if path.file_name().is_none() || text.ends_with('/') {
        return Err(Wrong::expected("the path of a file"));
    }
    Ok(path)
}

/// A path in its shortest spelling (`//`, `/./` and a trailing `/` gone), for comparing.
pub(super) fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

/// The name of an inventory entry, which is also a folder's.
pub(super) fn certificate_name(text: &str) -> Result<String, Wrong> {
    if let Some(rest) = text.strip_prefix("*.") {
        return Err(Wrong::new().with_hint(format!("`wildcard.{}` would do: the name is only a folder's", quote(rest))));
    }
    name(text, MAX_NAME)
}

/// The name of a provider, target or channel.
pub(super) fn table_name(text: &str) -> Result<String, Wrong> {
    name(text, MAX_TABLE_NAME)
}

fn name(text: &str, most: usize) -> Result<String, Wrong> {
    if text.len() > most {
        return Err(Wrong::expected(format!("at most {most} bytes")));
    }
    let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if fits { Ok(text.to_owned()) } else { Err(Wrong::new()) }
}

/// An identifier a cloud gave, which goes into URL paths and headers.
pub(super) fn id(text: &str) -> Result<String, Wrong> {
    let fits = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if text.len() > MAX_ID {
        return Err(Wrong::expected(format!("at most {MAX_ID} characters")));
    }
    if fits { Ok(text.to_owned()) } else { Err(Wrong::new()) }
}

/// A user or a group: a name, or a number.
pub(super) fn account(text: &str) -> Result<String, Wrong> {
    let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.len() <= MAX_ACCOUNT
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@'));
    let number_fits = !text.starts_with(|c: char| c.is_ascii_digit()) || text.parse::<u32>().is_ok_and(|id| id != u32::MAX);
    if fits && number_fits { Ok(text.to_owned()) } else { Err(Wrong::new()) }
}

/// Longest name of a user or group, in bytes (useradd's own limit is 32; directories have longer ones).
const MAX_ACCOUNT: usize = 128;

/// Permission bits, octal: `"0640"`.
pub(super) fn mode(text: &str) -> Result<u32, Wrong> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777);
    let mode = mode.ok_or_else(Wrong::new)?;
    if mode & 0o400 == 0 {
        return Err(Wrong::expected("a mode with which its owner can read the file"));
    }
    if mode & 0o002 != 0 {
        return Err(Wrong::expected("a mode with which others cannot write the file"));
    }
    Ok(mode)
}

/// The nearest of some words, when one is near enough to be meant.
pub(super) fn nearest<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    if text.len() > MAX_COMPARED {
        return None;
    }
    let plain = |word: &str| word.to_ascii_lowercase().replace('_', "-");
    let wanted = plain(text);
    let begins = |word: &str| wanted.len() >= 3 && plain(word).starts_with(&wanted);
    let scored = words.map(|word| (strsim::damerau_levenshtein(&wanted, &plain(word)), word));
    let allowed = |word: &str| 1 + wanted.len().max(word.len()) / 4;
    scored
        .filter(|(distance, word)| *distance <= allowed(word) || begins(word))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Longer texts are not compared with known words.
const MAX_COMPARED: usize = 64;

/// Text for a message: no control characters (a terminal would obey them), and not long.
pub(super) fn quote(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_QUOTED && !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let show = |c: char| if is_hidden(c) { c.escape_unicode().to_string() } else { c.to_string() };
    let shown: String = text.chars().take(MAX_QUOTED).map(show).collect();
    Cow::Owned(if text.chars().nth(MAX_QUOTED).is_some() { shown + "…" } else { shown })
}

/// Longest part of a value in a message, in characters.
const MAX_QUOTED: usize = 80;

fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn names_at_their_edges() {
        for good in ["a", "0", "www.example.com", "a..b", "A_b-c.", &"x".repeat(MAX_NAME)] {
            assert_eq!(certificate_name(good).as_deref(), Ok(good));
        }
        for bad in ["", ".", "..", ".a", "-a", "_a", "a/b", "a b", "ä", "a\0", "*.a", &"x".repeat(MAX_NAME + 1)] {
            assert!(certificate_name(bad).is_err(), "{bad:?}");
        }
        assert!(table_name(&"x".repeat(MAX_TABLE_NAME)).is_ok() && table_name(&"x".repeat(MAX_TABLE_NAME + 1)).is_err());
    }

    #[test]
    fn ids_at_their_edges() {
        assert!(id("scs1554192131150").is_ok() && id(&"x".repeat(MAX_ID)).is_ok());
        for bad in ["", "a/b", "a?b", "..", "a.b", "ü", "a\r\n", &"x".repeat(MAX_ID + 1)] {
            assert!(id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_at_their_edges() {
        assert_eq!(path("/"), Ok(PathBuf::from("/")));
        assert!(path(&format!("/{}", "x".repeat(MAX_PATH - 2))).is_ok());
        for bad in ["", "a", "~/a", "$HOME/a", "/a/../b", "/a\0b", &format!("/{}", "x".repeat(MAX_PATH - 1))] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
        assert!(file_path("/a/b").is_ok());
        assert!(file_path("/").is_err() && file_path("/a/").is_err());
        assert_eq!(plain(Path::new("//a/./b//c/")), PathBuf::from("/a/b/c"));
    }

    #[test]
    fn modes_at_their_edges() {
        assert_eq!(mode("0640"), Ok(0o640));
        assert_eq!(mode("640"), Ok(0o640));
        assert_eq!(mode("0775"), Ok(0o775));
        for bad in ["", "64", "00640", "0648", "+640", "1777", "0777", "0642", "0240", "0o640", "rw-r-----"] {
            assert!(mode(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn accounts_at_their_edges() {
        for good in ["root", "haproxy", "0", "4294967294", "_apt", "first.last", "a@example.com"] {
            assert!(account(good).is_ok(), "{good:?}");
        }
        for bad in ["", "-x", "a:b", "4294967295", "99999999999", "1abc", "a b"] {
            assert!(account(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_nearest_word_is_near() {
        let words = ["adopt", "warn", "ignore"];
        assert_eq!(nearest("adpot", words.into_iter()), Some("adopt"));
        assert_eq!(nearest("Warn", words.into_iter()), Some("warn"));
        assert_eq!(nearest("huawei", ["huawei-scm", "cds"].into_iter()), Some("huawei-scm"));
        assert_eq!(nearest("never", words.into_iter()), None);
        assert_eq!(nearest("state-dir", ["state_dir"].into_iter()), Some("state_dir"));
    }

    #[test]
    fn a_quoted_text_cannot_drive_a_terminal() {
        assert_eq!(quote("a\u{1b}[31mb"), "a\\u{1b}[31mb");
        assert_eq!(quote(&"x".repeat(81)), format!("{}…", "x".repeat(80)));
        assert_eq!(quote(&"x".repeat(80)), "x".repeat(80));
    }
}

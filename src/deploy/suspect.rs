//! Which files a server's own words name, and how.
//!
//! nginx and haproxy say of each line how grave it is, and name the file that they cannot take: that is an accusation. A script says what it
//! likes, perhaps the names of all that it looked at: that is a mention, and whoever is mentioned among others may be innocent. What they only
//! warn of (`ssl_stapling` without an issuer, say) names nobody.

use std::path::Path;

use super::command::Words;

/// How words name something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    /// In a line without a mark.
    Mentioned,
    /// In a line that the server itself marks as its error.
    Accused,
}

/// What nginx and haproxy write before an error: the first bracket of `nginx: [emerg] …`, `[ALERT]    (1) : …`.
const ERRORS: [&str; 6] = ["emerg", "alert", "crit", "error", "ALERT", "EMERG"];

/// What they write before anything else.
const REMARKS: [&str; 9] = ["warn", "notice", "info", "debug", "WARNING", "NOTICE", "INFO", "DEBUG", "DIAG"];

/// How `lines` name the file `path`, or what is below it if it is a folder; the gravest counts.
pub fn named<'a>(lines: impl Iterator<Item = &'a str>, path: &Path) -> Option<Named> {
    let path = path.to_str()?;
    lines.filter(|line| is_in(line, path)).filter_map(weight).max()
}

/// The lines that a server marks as errors, as words of their own: the reason without what stands around it. `None`: it marks none.
pub(super) fn errors(words: &Words) -> Option<Words> {
    let lines: Vec<&str> = words.lines().filter(|line| weight(line) == Some(Named::Accused)).collect();
    Words::of(&lines.join("\n"))
}

/// `None`: a remark, that blames nobody.
fn weight(line: &str) -> Option<Named> {
    let has = |marks: &[&str]| marks.iter().any(|mark| line.contains(&format!("[{mark}]")));
    match (has(&ERRORS), has(&REMARKS)) {
        (true, _) => Some(Named::Accused),
        (false, true) => None,
        (false, false) => Some(Named::Mentioned),
    }
}

/// Whether `line` has `path` as a whole, or something below it: `live/a` is not in `live/a.b/…`, nor in `/else/live/a`.
fn is_in(line: &str, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    !path.is_empty()
        && line.match_indices(path).any(|(at, _)| {
            let (before, after) = (line.get(..at).unwrap_or_default(), line.get(at + path.len()..).unwrap_or_default());
            !before.ends_with(is_of_name) && ends(after)
        })
}

/// Whether a path is over where `rest` goes on: a full stop may end a sentence, and be a part of a longer name.
fn ends(rest: &str) -> bool {
    rest.starts_with('/') || !rest.trim_start_matches(['.', '-', '_']).starts_with(is_of_name)
}

fn is_of_name(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '/' | '.' | '-' | '_')
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn how(line: &str) -> Option<Named> {
        named(line.lines(), Path::new("/s/live/a"))
    }

    #[test]
    fn servers_accuse_scripts_mention_and_warnings_name_nobody() {
        let nginx =
            "nginx: [emerg] SSL_CTX_use_certificate(\"/s/live/a/combined.pem\") failed (SSL: error:0A00018F::ee key too small)";
        let haproxy = "[ALERT]    (7) : config : parsing [/etc/haproxy/haproxy.cfg:9] : unable to load '/s/live/a/combined.pem'.";
        assert_eq!((how(nginx), how(haproxy)), (Some(Named::Accused), Some(Named::Accused)));
        assert_eq!(how("/s/live/a/combined.pem: OK"), Some(Named::Mentioned));
        let warning =
            "nginx: [warn] \"ssl_stapling\" ignored, issuer certificate not found for certificate \"/s/live/a/combined.pem\"";
        assert_eq!(how(warning), None);
        assert_eq!(how(&format!("{warning}\n/s/live/a/x\n{nginx}")), Some(Named::Accused), "the gravest counts");
    }

    #[test]
    fn a_name_is_not_the_beginning_or_the_end_of_another() {
        for other in
            ["/s/live/a.b/x", "/s/live/ab/x", "/s/live/a-b/x", "/s/live/a_/x", "/x/s/live/a/x", "x/s/live/a/x", "/s/live/", ""]
        {
            assert_eq!(how(other), None, "{other}");
        }
        for one in [
            "/s/live/a",
            "'/s/live/a'",
            "in /s/live/a.",
            "/s/live/a//x",
            "(/s/live/a/x)",
            "/s/live/a.b/x /s/live/a/x",
            "=/s/live/a/x",
        ] {
            assert_eq!(how(one), Some(Named::Mentioned), "{one}");
        }
        assert_eq!(named(["/s/live/a/"].into_iter(), Path::new("/s/live/a/")), Some(Named::Mentioned));
        assert_eq!(named(["/"].into_iter(), Path::new("/")), None, "the root names nobody");
    }

    proptest::proptest! {
        #[test]
        fn no_words_make_it_panic(line in "(?s).{0,80}", path in "/.{0,20}") {
            let _ = named(line.lines(), Path::new(&path));
        }
    }
}

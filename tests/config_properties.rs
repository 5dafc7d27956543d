//! No text whatsoever makes the configuration panic, point outside of itself, or show a secret.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use certsyncd::config::{self, MAX_FILE, Refused, problem};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../config.example.toml");

/// Every kind of secret, plain.
const PLAIN: &str = r#"
version = 1
providers.t = { kind = "huawei-scm", region = "cn-north-4", auth = { method = "token", token = "hunter2" } }
[providers.scm]
kind = "huawei-scm"
region = "cn-north-4"
auth = { method = "access-key", access_key = "hunter2", secret_key = 'hunter2', security_token = "hunter2" }
[providers.iam]
kind = "huawei-scm"
region = "cn-north-4"
auth.method = "password"
auth.user = "hunter2"
auth.password = "hunter2"
auth.domain = "shop"
[providers.cds.auth]
method = "access-key"
access_key = "hunter2"
secret_key = """
hunter2"""
[[certificate]]
name = "a"
provider = "scm"
id = "scs1"
output = [{ format = "pkcs12", path = "/etc/a.p12", password = "hunter2" }]
[alerts]
heartbeat_url = "https://example.com/hunter2"
[[alerts.channel]]
kind = "webhook"
url = "https://example.com/hunter2"
secret = "hunter2"
headers = { Authorization = "hunter2", "X-Key" = "hunter2" }
[[alerts.channel]]
kind = "email"
host = "::1"
from = "a@example.com"
to = ["b@example.com"]
username = "hunter2"
password = "hunter2"
"#;

/// All that may be done with a text; each answer is checked for what always holds.
fn examine(text: &str) -> Result<(), Refused> {
    let refused = match config::parse(text, Path::new("config.toml")) {
        Ok(settings) => {
            let again = config::parse(&settings.render(), Path::new("config.toml"));
            assert!(again.is_ok(), "{}", settings.render());
            settings.targets.values().for_each(|target| assert_eq!(target.fingerprint().len(), 64));
            return Ok(());
        }
        Err(refused) => refused,
    };
    assert!(!refused.problems.is_empty());
    for problem in &refused.problems {
        let span = problem.span.clone().unwrap_or(0..0);
        assert!(span.start <= span.end && span.end <= refused.text.len(), "{problem:?} in {} bytes", refused.text.len());
        assert!(!problem.message.chars().any(char::is_control), "{problem:?}");
    }
    let starts: Vec<usize> = refused.problems.iter().map(|problem| problem.span.as_ref().map_or(0, |span| span.start)).collect();
    assert!(starts.is_sorted());
    assert!(!refused.render(false).is_empty() && !refused.render(true).is_empty());
    Err(refused)
}

/// Pieces that mean something here, to be put together wrongly.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("version = 1\n".to_owned()),
        prop::sample::select(EXAMPLE.lines().map(|line| line.trim_start_matches('#').to_owned() + "\n").collect::<Vec<_>>()),
        prop::sample::select(vec![
            "[", "]", "{", "}", "=", "\"", "'''", "\"\"\"", ".", ",", "\n", "\r", "\r\n", "#", "\u{feff}", "\0", "é", "🦀",
            "\u{202e}"
        ])
        .prop_map(str::to_owned),
        "[a-z_]{1,12} = (true|-?[0-9]{1,20}|[0-9]\\.[0-9]e[0-9]{1,3}|\"[ -~]{0,20}\"|\\[\\]|\\{\\}|1979-05-27)\n",
        "\\PC{0,10}",
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        let _ = examine(&text);
    }

    #[test]
    fn any_text_in_any_value(value in "\\PC{0,40}", key in prop::sample::select(vec!["state_dir", "schedule", "timezone", "splay"])) {
        let value = value.replace(['\\', '"'], "");
        let _ = examine(&format!("version = 1\n[daemon]\n{key} = \"{value}\"\n"));
    }

    #[test]
    fn anything_like_a_schedule(fields in prop::collection::vec("[0-9*/,#LW?+-]{1,5}|MON|JAN-DEC|\\*", 4..8)) {
        let _ = examine(&format!("version = 1\n[daemon]\nschedule = \"{}\"\n", fields.join(" ")));
    }

    #[test]
    fn pieces_of_a_configuration(text in pieces()) {
        let _ = examine(&text);
    }

    #[test]
    fn a_configuration_with_a_scratch(at in 0..EXAMPLE.len(), length in 0usize..20, put in "[\\[\\]{}=\"'.,\n#a-z0-9 ]{0,5}") {
        let from = (0..=at).rev().find(|at| EXAMPLE.is_char_boundary(*at)).unwrap();
        let to = (at + length..=EXAMPLE.len()).find(|at| EXAMPLE.is_char_boundary(*at)).unwrap_or(EXAMPLE.len());
        let _ = examine(&format!("{}{put}{}", &EXAMPLE[..from], &EXAMPLE[to..]));
    }

    /// Scratched anywhere but in the secrets themselves.
    #[test]
    fn no_scratch_brings_a_secret_to_light(at in 0..PLAIN.len(), length in 0usize..6, put in "[\\[\\]{}=\"'.,\n#a-z0-9 _]{0,4}") {
        let to = (at + length).min(PLAIN.len());
        prop_assume!(PLAIN.match_indices("hunter2").all(|(start, word)| to <= start || at >= start + word.len()));
        let text = format!("{}{put}{}", &PLAIN[..at], &PLAIN[to..]);
        let shown = match config::parse(&text, Path::new("config.toml")) {
            Ok(settings) => format!("{}{settings:?}", settings.render()),
            Err(refused) => format!("{}{refused}{refused:?}", refused.render(false)),
        };
        prop_assert!(!shown.contains("hunter2"), "{text}\n\n{shown}");
    }
}

/// Large enough for everything that is bounded on the way, and a few as large as a file may be.
#[test]
fn hostile_texts() {
    const LARGE: usize = 128 * 1024;
    let fill = |piece: &str| format!("version = 1\n{}", piece.repeat((LARGE - 12) / piece.len()));
    let numbered =
        |count: usize, line: &dyn Fn(usize) -> String| format!("version = 1\n{}", (0..count).map(line).collect::<String>());
    for text in [
        fill("[[certificate]]\n"),
        fill("x=1\n"),
        fill("["),
        fill("a."),
        fill("x = [[[[[["),
        fill("{a="),
        fill("\""),
        fill("é"),
        fill("\r"),
        fill("[[certificate]]\nname=\"a\"\n"),
        format!("version = 1\n[daemon]\nstate_dir = \"{}\"\n", "/x".repeat(MAX_FILE / 2 - 30)),
        format!("version = 1\n[daemon]\nschedule = \"{}\"\n", "* ".repeat(MAX_FILE / 2 - 30)),
        format!("version = 1\n{} = 1\n", "x".repeat(MAX_FILE - 20)),
        format!("version = 1\n{}x", "#\n".repeat(MAX_FILE / 2 - 10)),
        numbered(5_000, &|n| format!("unknown-key-{n} = 1\n")),
        numbered(2_000, &|n| format!("[providers.p{n}]\nkind = \"cds\"\n")),
        numbered(1_000, &|n| {
            format!("[[certificate]]\nname = \"certificate-{n}\"\nprovider = \"provider-number-{n}\"\nid = \"{n}\"\n")
        }),
        numbered(1_000, &|n| {
            format!("[providers.provider-{n}]\nkind=\"cds\"\n[[certificate]]\nname = \"c{n}\"\nprovider = \"providerr-{n}\"\n")
        }),
    ] {
        assert!(text.len() <= MAX_FILE, "{}", text.len());
        let refused = examine(&text).expect_err("not valid");
        let shown = refused.problems.len().min(problem::MAX_SHOWN);
        assert!(refused.render(false).len() < 16 * 1024 + 8 * 1024 * shown);
    }
    assert!(examine(&" ".repeat(MAX_FILE + 1)).unwrap_err().to_string().contains("larger than"));
}

#[test]
fn an_inventory_of_thousands_is_fine() {
    let head = "version = 1\n[providers.p]\nkind = \"cds\"\nregion = \"cn\"\nauth = { method = \"access-key\", access_key = { env = \"A\" }, secret_key = { env = \"S\" } }\n";
    let entry = |n: usize| {
        format!(
            "[[certificate]]\nname = \"host-{n}.example.com\"\nprovider = \"p\"\nid = \"{n}\"\nnames = [\"host-{n}.example.com\"]\n"
        )
    };
    let text = format!("{head}{}", (0..5_000).map(entry).collect::<String>());
    let settings = config::parse(&text, Path::new("config.toml")).unwrap();
    assert_eq!(settings.certificates.len(), 5_000);
    // Heads that are spelt otherwise are read all at once.
    let otherwise = config::parse(&text.replace("[[certificate]]", "[[ certificate ]]"), Path::new("config.toml")).unwrap();
    assert_eq!(settings.certificates, otherwise.certificates);
    assert_eq!(settings.render(), otherwise.render());
}

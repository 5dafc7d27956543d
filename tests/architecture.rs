//! The house as a table: who may import whom, which crate and which power has which door, and what is pure.
//!
//! Start at the tables; [`broken`] reads every file of `src` (comments, texts and test modules aside) and says what breaks them. Where the code and
//! the table differ, one of the two is wrong: say which, and why, in the change that makes them agree.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

/// Data and what everybody may use: they know nothing of each other's work.
const NOUNS: &[&str] = &["atomic", "certificate", "clock", "config", "failpoint", "ledger", "report", "spread"];
/// Each does one step, and knows no other.
const VERBS: &[&str] = &["alert", "archive", "deploy", "observe", "provider", "schedule", "store"];

type Names = &'static [&'static str];
/// Each module with those that it may import besides itself, and whether it may import every noun or verb.
const HOUSE: &[(&str, Names, &[Names])] = &[
    // nouns
    ("clock", &[], &[]),
    ("spread", &[], &[]),
    ("config", &["spread"], &[]),
    // its points are armed by a variable of the environment, in test builds only
    ("failpoint", &[], &[]),
    ("atomic", &["failpoint"], &[]),
    // `report` and `ledger` name kinds of events and severities, which an operator writes in the configuration
    ("report", &["config"], &[]),
    ("ledger", &["atomic", "config", "failpoint", "report", "spread"], &[]),
    ("certificate", &["config", "report"], &[]),
    // verbs
    ("alert", &[], &[NOUNS]),
    ("archive", &[], &[NOUNS]),
    ("deploy", &[], &[NOUNS]),
    ("observe", &[], &[NOUNS]),
    ("provider", &[], &[NOUNS]),
    ("schedule", &[], &[NOUNS]),
    ("store", &[], &[NOUNS]),
    // the order
    ("sync", &[], &[NOUNS, VERBS]),
    ("daemon", &["sync"], &[NOUNS, VERBS]),
    ("cli", &["daemon", "sync"], &[NOUNS, VERBS]),
    ("main", &["cli"], &[]),
    ("lib", &[], &[]),
];

/// Rooms of one module that do not know each other.
const APART: &[(&str, &str)] = &[("provider::huawei", "provider::cds"), ("provider::cds", "provider::huawei")];

/// What only some files may use: each with the files (or folders, with a final `/`) that may.
const DOORS: &[(&str, &[&str])] = &[
    // crates
    ("reqwest::", &["provider/http.rs", "alert/webhook.rs"]),
    ("zip::", &["archive/"]),
    ("rars::", &["archive/"]),
    ("x509_parser::", &["certificate/"]),
    // the stand-in of `placeholder = true`
    ("rcgen::", &["certificate/placeholder.rs"]),
    ("toml::", &["config/"]),
    // expressions are parsed where they are read and where ticks come from
    ("croner::", &["config/", "schedule.rs"]),
    ("tokio_cron_scheduler::", &["schedule.rs"]),
    ("notify_rust::", &["alert/desktop.rs"]),
    // addresses are parsed where they are read
    ("lettre::", &["alert/email.rs", "alert/error.rs", "config/alerts.rs"]),
    ("sd_notify::", &["observe/systemd.rs"]),
    ("tracing_subscriber::", &["observe/log.rs"]),
    ("clap::", &["cli/", "main.rs"]),
    // the time
    ("SystemTime::now", &["clock.rs"]),
    ("Timestamp::now", &["clock.rs"]),
    ("Zoned::now", &["clock.rs"]),
    ("Utc::now", &["clock.rs"]),
    ("Local::now", &["clock.rs"]),
    // other processes
    ("Command::new", &["deploy/command.rs", "alert/command.rs"]),
    // the environment (not the command line's words)
    ("env::var", &["config/secret.rs", "config/environment.rs", "failpoint.rs"]),
    ("env::set_var", &[]),
    ("env::remove_var", &[]),
    // the disk
    ("fs::renameat", &["atomic/"]),
    ("fs::unlink", &["atomic/"]),
    ("fs::mkdir", &["atomic/"]),
    ("fs::chmod", &["atomic/"]),
    ("fs::chmodat", &["atomic/"]),
    ("fs::fchmod", &["atomic/"]),
    ("fs::chown", &["atomic/"]),
    ("fs::chownat", &["atomic/"]),
    ("fs::symlinkat", &["atomic/"]),
    ("fs::syncfs", &["atomic/"]),
    ("fs::write", &["atomic/"]),
    ("fs::rename", &["atomic/"]),
    ("fs::copy", &["atomic/"]),
    ("fs::remove_file", &["atomic/"]),
    ("fs::remove_dir", &["atomic/"]),
    ("fs::create_dir", &["atomic/"]),
    ("fs::set_permissions", &["atomic/"]),
    ("fs::symlink", &["atomic/"]),
    ("fs::hard_link", &["atomic/"]),
    ("File::create", &["atomic/"]),
    (".write(true)", &["atomic/"]),
    (".append(true)", &["atomic/"]),
    (".create(true)", &["atomic/"]),
    (".create_new(true)", &["atomic/"]),
    ("tempfile::", &["atomic/"]),
    // what is said goes through the log, or the commands' own two functions
    ("println!", &[]),
    ("eprintln!", &[]),
    ("print!", &[]),
    ("dbg!", &[]),
];

/// Files that decide and do nothing else.
const PURE: &[&str] = &["alert/rules/", "sync/plan.rs", "sync/successor.rs"];
/// What such a file has no business with.
const IMPURE: &[&str] = &[
    "tracing::",
    "std::fs",
    "std::io",
    "std::env",
    "std::net",
    "std::process",
    "tokio::",
    "rustix::",
    "crate::atomic",
    "crate::clock",
    "crate::deploy",
    "crate::provider",
    "crate::store",
    "getrandom::",
    ".now()",
    "async fn",
    "async move",
];

#[test]
fn the_code_keeps_to_the_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&folder, &folder, &mut files);
    assert!(files.len() > 80, "all of it is read: {}", files.len());
    let broken: Vec<String> = files.iter().flat_map(|(path, text)| broken(path, text)).collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_module_and_every_door_of_the_table_exists() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (module, ..) in HOUSE {
        assert!(folder.join(module).is_dir() || folder.join(format!("{module}.rs")).is_file(), "{module}");
    }
    for place in DOORS.iter().flat_map(|(_, places)| *places).chain(PURE) {
        assert!(folder.join(place).exists(), "{place}");
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(HOUSE.iter().any(|(known, ..)| *known == module), "`{module}` has no place in the table");
    }
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem().is_some_and(|name| name == "tests") {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// What of `text` at `path` (under `src`) breaks the tables.
fn broken(path: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let mut broken = Vec::new();
    let module = module(path);
    let top = module.split("::").next().unwrap();
    let Some((_, named, groups)) = HOUSE.iter().find(|(name, ..)| *name == top) else {
        return vec![format!("{path}: `{top}` has no place in the table")];
    };
    for import in imports(&module, &code) {
        let other = import.split("::").next().unwrap();
        let may = other == top || named.contains(&other) || groups.iter().any(|group| group.contains(&other));
        if HOUSE.iter().any(|(name, ..)| *name == other) && !may && top != "lib" {
            broken.push(format!("{path}: `{top}` must not import `{other}` (`{import}`)"));
        }
        for (room, other) in APART {
            if within(&module, room) && within(&import, other) {
                broken.push(format!("{path}: `{room}` must not know `{other}`"));
            }
        }
    }
    for (power, places) in DOORS {
        if uses(&code, power) && !places.iter().any(|place| is_at(path, place)) {
            broken.push(format!("{path}: `{power}` is for {places:?} only"));
        }
    }
    if PURE.iter().any(|place| is_at(path, place)) {
        broken.extend(IMPURE.iter().filter(|what| uses(&code, what)).map(|what| format!("{path}: is pure, and has `{what}`")));
    }
    broken
}

fn is_at(path: &str, place: &str) -> bool {
    path == place || (place.ends_with('/') && (path.starts_with(place) || path == format!("{}.rs", place.trim_end_matches('/'))))
}

fn within(module: &str, room: &str) -> bool {
    module == room || module.strip_prefix(room).is_some_and(|rest| rest.starts_with("::"))
}

/// `provider/huawei/mod.rs` is `provider::huawei`.
fn module(path: &str) -> String {
    path.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::")
}

/// Whether `what` occurs as a name of its own. A crate's name counts only where a path begins: `archive::zip::` is a module.
fn uses(code: &str, what: &str) -> bool {
    let is_crate = what.ends_with("::");
    let ends_in_name = |text: &str| text.ends_with(|last: char| last.is_alphanumeric() || last == '_');
    code.match_indices(what).any(|(at, _)| {
        let before = &code[..at];
        let in_path = is_crate && before.strip_suffix("::").is_some_and(ends_in_name);
        what.starts_with('.') || !(ends_in_name(before) || in_path)
    })
}

/// Every module that is named by `crate::…` or `super::…`, from the root: `sync::plan`.
fn imports(module: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, word) in ["crate::", "super::"].iter().flat_map(|word| code.match_indices(*word)) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':') {
            continue;
        }
        let (mut base, mut rest) = (Vec::new(), &code[at + word.len()..]);
        if word == "super::" {
            base = module.split("::").collect();
            base.pop();
            while let Some(further) = rest.strip_prefix("super::") {
                base.pop();
                rest = further;
            }
        }
        expand(&base.join("::"), rest, &mut found);
    }
    found
}

/// The paths that `rest` begins with, groups expanded.
fn expand(base: &str, rest: &str, found: &mut Vec<String>) {
    let rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (at, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' | ',' if depth == 0 => {
                    expand(base, &group[start..at], found);
                    start = at + 1;
                    if character == '}' {
                        return;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
        return;
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let name = &rest[..end];
    let path = match (base.is_empty(), name) {
        (_, "" | "self") => base.to_owned(),
        (true, _) => name.to_owned(),
        (false, _) => format!("{base}::{name}"),
    };
    match rest[end..].strip_prefix("::") {
        Some(further) => expand(&path, further, found),
        None => found.push(path),
    }
}

/// Without comments, contents of texts, and the test module at the foot.
fn code(text: &str) -> String {
    let (mut code, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(first) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("'\"'") {
            3
        } else if first == '"' {
            text_end(rest)
        } else if let Some(raw) = raw_end(rest).filter(|_| !code.ends_with(|c: char| c.is_alphanumeric() || c == '_')) {
            raw
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        rest = &rest[skip..];
    }
    let foot = code.match_indices("#[cfg(test)]").find(|(at, _)| {
        let after = code[*at..].lines().skip(1).find(|line| !line.trim_start().starts_with("#["));
        after.is_some_and(|line| line.starts_with("mod ") && line.trim_end().ends_with('{'))
    });
    match foot {
        Some((at, _)) => code[..at].to_owned(),
        None => code,
    }
}

/// Bytes of a text in quotes.
fn text_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return at + 1,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Bytes of a raw text, if one begins here.
fn raw_end(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('r')?;
    let fence = rest.len() - rest.trim_start_matches('#').len();
    let body = rest[fence..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(fence));
    Some(1 + fence + 1 + body.find(&close)? + close.len())
}

#[test]
fn it_can_fail() {
    for (path, text) in [
        ("config/mod.rs", "use crate::report::Failure;"),
        ("store/mod.rs", "use crate::deploy;"),
        ("store/mod.rs", "use crate::{config, deploy::Update};"),
        ("store/live.rs", "fn f() { super::super::provider::ask() }"),
        ("schedule.rs", "fn f() { crate::sync::Syncer::new() }"),
        ("alert/mod.rs", "use crate::daemon::document;"),
        ("sync/mod.rs", "use crate::cli::Cli;"),
        ("report.rs", "use crate::ledger::Ledger;"),
        ("provider/huawei/mod.rs", "use super::{cds, http};"),
        ("provider/cds/sign.rs", "use crate::provider::huawei::sign;"),
        ("provider/cds/sign.rs", "use super::super::huawei;"),
        ("provider/pace.rs", "use reqwest::Client;"),
        ("store/mod.rs", "let archive = ::zip::ZipArchive::new(x);"),
        ("deploy/mod.rs", "x509_parser::parse(x)"),
        ("daemon.rs", "let now = jiff::Timestamp::now();"),
        ("daemon.rs", "let now = std::time::SystemTime::now();"),
        ("store/mod.rs", "std::process::Command::new(x)"),
        ("store/mod.rs", "tokio::process::Command::new(x)"),
        ("daemon.rs", "std::env::var(x)"),
        ("daemon.rs", "use std::env; fn f() { env::var_os(x) }"),
        ("store/mod.rs", "use std::fs; fn f() { fs::write(a, b) }"),
        ("ledger/file.rs", "std::fs::rename(a, b)"),
        ("ledger/file.rs", "OpenOptions::new().read(true).write(true)"),
        ("observe/textfile.rs", "std::os::unix::fs::symlink(a, b)"),
        ("store/mod.rs", "rustix::fs::rename(a, b)"),
        ("store/mod.rs", "println!(x)"),
        ("sync/plan.rs", "tracing::info!(x)"),
        ("sync/plan.rs", "let now = clock.now();"),
        ("alert/rules/work.rs", "async fn f() {}"),
        ("alert/rules/mod.rs", "use crate::clock::Clock;"),
        ("somewhere/mod.rs", ""),
    ] {
        assert!(!broken(path, text).is_empty(), "{path}: {text}");
    }
}

#[test]
fn it_does_not_cry_wolf() {
    for (path, text) in [
        ("config/mod.rs", "// crate::report is for others\n/// see crate::sync\nuse super::config::keys;"),
        ("config/mod.rs", "let text = \"crate::report \\\" println!\"; let raw = r#\"crate::sync \"std::fs::write\" \"#;"),
        ("store/mod.rs", "use crate::atomic; fn f() { a.iter().zip(b); deploy(); atomic::write(x) }"),
        ("sync/mod.rs", "use crate::{alert, deploy, provider::Client};"),
        (
            "store/mod.rs",
            "fn f() {}\n#[cfg(test)]\n#[allow(clippy::unwrap_used)]\nmod tests {\n    use crate::deploy;\n    std::fs::write(a, b)\n}\n",
        ),
        ("provider/huawei/auth.rs", "use super::sign; use super::super::http::Http;"),
        ("config/secret.rs", "std::fs::OpenOptions::new().read(true).open(path)"),
        ("store/lock.rs", "std::env::args()"),
        ("sync/plan.rs", "fn decide(now: Timestamp) { now > then }"),
    ] {
        assert_eq!(broken(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

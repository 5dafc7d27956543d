//! The documents say what is so: links lead somewhere, commands and options exist, both READMEs have the same parts, each event has its
//! section in the runbook, and each promise names a test that is there.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::Path;

use certsyncd::alert::message::{RUNBOOK, Story, Subject, tell};
use certsyncd::cli::{BAD_CONFIG, BUSY, Cli, FAILED, OK, USAGE};
use certsyncd::config::{EventKind, Severity};
use clap::CommandFactory;

const READMES: [&str; 2] = ["README.md", "README.zh-CN.md"];

#[test]
fn both_readmes_have_the_same_parts() {
    let [english, chinese] = READMES.map(text);
    assert_eq!(differences(&english, &chinese), Vec::<String>::new());
    assert!(english.contains("(README.zh-CN.md)") && chinese.contains("(README.md)"));
}

#[test]
fn the_first_shell_block_is_the_demo_and_the_tests() {
    for readme in READMES {
        let first = blocks(&text(readme)).into_iter().find(|block| block.language == "sh").unwrap();
        assert_eq!(first.lines, ["cargo run --example demo", "scripts/test"], "{readme}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    let wrong: Vec<String> = documents().iter().flat_map(|path| dead_links(path, &text(path))).collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_command_and_option_exists() {
    let wrong: Vec<String> = documents().iter().flat_map(|path| unknown_commands(&text(path))).collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_command_is_in_both_readmes_and_in_the_changes() {
    for readme in READMES {
        let told: BTreeSet<String> =
            commands(&text(readme)).iter().filter_map(|words| words.first()).map(|word| word.to_string()).collect();
        assert_eq!(told, visible_commands(), "{readme}");
    }
    let changes = text("CHANGELOG.md");
    let list = changes.lines().find_map(|line| line.strip_prefix("- Commands: ")).expect("a line `- Commands: …`");
    assert_eq!(spans(list).into_iter().collect::<BTreeSet<_>>(), visible_commands());
}

#[test]
fn the_exit_codes_are_those_of_the_program() {
    let codes = [OK, FAILED, USAGE, BUSY, BAD_CONFIG];
    assert_eq!(codes, [0, 1, 2, 75, 78], "the contract's");
    for (document, from, to) in [
        ("README.md", "Exit codes: ", "."),
        ("README.zh-CN.md", "退出码：", "。"),
        ("docs/man/certsyncd.8.roff", ".SH \"EXIT STATUS\"", ".PP"),
    ] {
        let text = text(document);
        let sentence = text.split(from).nth(1).and_then(|rest| rest.split(to).next()).expect(document);
        assert_eq!(numbers(sentence), codes, "{document}");
    }
}

#[test]
fn every_event_has_its_section_in_the_runbook() {
    let runbook = text("docs/alerts.md");
    let anchors = anchors(&runbook);
    let subject = Subject {
        host: "h",
        certificate: None,
        names: &[],
        provider: None,
        id: None,
        now: "2026-11-22T00:00:00Z".parse().unwrap(),
    };
    for kind in EventKind::ALL {
        let words = tell(kind, &subject, &Story::Test { channel: "c" });
        for words in [&words.en, &words.zh] {
            let anchor = words.rsplit_once(&format!("{RUNBOOK}#")).unwrap_or_else(|| panic!("no runbook in {words}")).1;
            assert!(anchors.contains(anchor), "docs/alerts.md has no section `{anchor}`");
        }
        let severity = match kind.severity() {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        };
        assert!(runbook.contains(&format!("\n| [`{kind}`](#{kind}) | {severity} |")), "the table says otherwise of `{kind}`");
    }
}

#[test]
fn the_package_puts_the_runbook_where_messages_point() {
    let manifest: toml::Table = toml::from_str(&text("Cargo.toml")).unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    let folder = assets.iter().find(|asset| asset[0].as_str() == Some("docs/alerts.md")).expect("docs/alerts.md in the package");
    assert_eq!(format!("/{}alerts.md", folder[1].as_str().unwrap()), RUNBOOK);
}

#[test]
fn every_test_that_a_document_names_is_there() {
    for (document, is_known) in
        [("SECURITY.md", is_test as fn(&str) -> bool), ("ARCHITECTURE.md", |path| is_test(path) || is_function(path))]
    {
        let text = text(document);
        let named: Vec<String> = spans(&text).into_iter().filter(|span| is_path_of_a_test(span)).collect();
        assert!(named.len() > 10, "{document} names too few tests: {named:?}");
        let missing: Vec<&String> = named.iter().filter(|name| !is_known(name)).collect();
        assert_eq!(missing, Vec::<&String>::new(), "{document}");
    }
}

#[test]
fn every_promise_names_its_test_or_says_that_it_has_none() {
    let security = text("SECURITY.md");
    let bare: Vec<String> = bare_promises(&security);
    assert_eq!(bare, Vec::<String>::new());
}

/// The checks themselves: what is wrong is seen.
#[test]
fn wrong_documents_are_seen() {
    let good = "# A\n\n## B\n\n```sh\none  # a remark\n```\n";
    assert_eq!(differences(good, "# 甲\n\n## 乙\n\n```sh\none  # 注释\n```\n"), Vec::<String>::new());
    for other in
        ["# A\n\n```sh\none\n```\n", "# A\n\n### B\n\n```sh\none\n```\n", "# A\n\n## B\n\n```sh\ntwo\n```\n", "# A\n\n## B\n"]
    {
        assert_ne!(differences(good, other), Vec::<String>::new(), "{other}");
    }
    for link in ["[a](no-such-file.md)", "[a](README.md#no-such-part)", "[a](#no-such-part)"] {
        assert_eq!(dead_links("README.md", link).len(), 1, "{link}");
    }
    for link in ["[a](#day-to-day)", "[a](docs/alerts.md#sync_failed)", "[a](https://example.com/x)", "`[a](no-such-file.md)`"] {
        assert_eq!(dead_links("README.md", &format!("{link}\n\n## Day to day\n")), Vec::<String>::new(), "{link}");
    }
    for command in [
        "`certsyncd snyc`",
        "`certsyncd sync --froce`",
        "`certsyncd alert tset`",
        "`--froce`",
        "```console\n# certsyncd chekc\n```",
    ] {
        assert_eq!(unknown_commands(command).len(), 1, "{command}");
    }
    for command in
        ["`certsyncd sync [NAME…] [--force]`", "`certsyncd --config FILE check`", "```console\n# certsyncd man > x  # y\n```"]
    {
        assert_eq!(unknown_commands(command), Vec::<String>::new(), "{command}");
    }
    assert!(is_test("documents::wrong_documents_are_seen") && is_test("sync::plan::the_table"));
    assert!(is_function("sync::plan::decide") && !is_function("sync::plan::no_such_function"));
    assert!(!is_test("documents::numbers") && !is_test("documents::no_such_test") && !is_test("no_such_file::the_table"));
    assert_eq!(
        bare_promises(
            "## What is promised\n\n- z\n- y `documents::numbers`\n\n## Threat model\n\n- a\n- b\n  `documents::numbers`\n- c (no test)\n- d: by design\n\n## Other\n\n- d\n"
        ),
        ["z", "a", "d: by design"]
    );
}

/// A fenced block: its language, and its lines without remarks.
#[derive(Debug, PartialEq)]
struct Block {
    language: String,
    lines: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every `*.md` at the top and in `docs/`.
fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "docs/"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                found.push(format!("{folder}{name}"));
            }
        }
    }
    assert!(found.len() >= 7, "{found:?}");
    found
}

/// What two versions of one document do not have in common.
fn differences(one: &str, other: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let levels = |text: &str| headings(text).into_iter().map(|(level, _)| level).collect::<Vec<_>>();
    if levels(one) != levels(other) {
        wrong.push(format!("headings: {:?} and {:?}", headings(one), headings(other)));
    }
    let (one, other) = (blocks(one), blocks(other));
    if one.len() != other.len() {
        wrong.push(format!("{} and {} blocks of code", one.len(), other.len()));
    }
    wrong.extend(one.iter().zip(&other).filter(|(one, other)| one != other).map(|(one, other)| format!("{one:?} and {other:?}")));
    wrong
}

/// Level and words of each heading.
fn headings(text: &str) -> Vec<(usize, String)> {
    prose(text)
        .lines()
        .filter_map(|line| {
            let level = line.bytes().take_while(|byte| *byte == b'#').count();
            let words = line.get(level..)?.strip_prefix(' ')?;
            (level > 0).then(|| (level, words.to_owned()))
        })
        .collect()
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => open = Some(Block { language: language.to_owned(), lines: Vec::new() }),
            (None, Some(block)) => block.lines.push(without_remark(line).to_owned()),
            (None, None) => {}
        }
    }
    assert_eq!(open, None, "a block of code without its end");
    blocks
}

/// `certsyncd check    # remark` -> `certsyncd check`; a leading `# ` is root's prompt.
fn without_remark(line: &str) -> &str {
    line.split_once("  #").map_or(line, |(code, _)| code).trim_end()
}

/// The text without its blocks of code.
fn prose(text: &str) -> String {
    let mut inside = false;
    let mut kept = Vec::new();
    for line in text.lines() {
        let fence = line.starts_with("```");
        if !fence && !inside {
            kept.push(line);
        }
        inside ^= fence;
    }
    kept.join("\n")
}

/// What stands in backticks, outside of blocks.
fn spans(text: &str) -> Vec<String> {
    prose(text)
        .split("\n\n")
        .flat_map(|paragraph| {
            let paragraph = paragraph.replace('\n', " ");
            let pieces: Vec<String> = paragraph.split('`').map(str::to_owned).collect();
            assert!(pieces.len() % 2 == 1, "a backtick is missing: {paragraph}");
            pieces.into_iter().skip(1).step_by(2).collect::<Vec<_>>()
        })
        .collect()
}

/// Links of a document that lead nowhere.
fn dead_links(path: &str, text: &str) -> Vec<String> {
    let plain: String = prose(text).split('`').step_by(2).collect::<Vec<_>>().join("`");
    let targets = plain.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned());
    targets
        .filter(|target| !target.contains("://") && !leads_somewhere(path, text, target))
        .map(|target| format!("{path}: {target}"))
        .collect()
}

fn leads_somewhere(path: &str, own: &str, target: &str) -> bool {
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let there = root().join(path).parent().unwrap().join(file);
    let is_there = file.is_empty() || there.exists();
    let has_anchor = |anchor: &str| {
        let text = if file.is_empty() { own.to_owned() } else { std::fs::read_to_string(&there).unwrap_or_default() };
        anchors(&text).contains(anchor)
    };
    is_there && anchor.is_none_or(has_anchor)
}

/// As GitHub makes them of headings: lower case, blanks to dashes, no other signs than `-` and `_`.
fn anchors(text: &str) -> BTreeSet<String> {
    let slug = |words: String| {
        let words = words.to_lowercase().replace(' ', "-");
        words.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect::<String>()
    };
    headings(text).into_iter().map(|(_, words)| slug(words)).collect()
}

/// The words after `certsyncd` wherever a document shows a command.
fn commands(text: &str) -> Vec<Vec<String>> {
    let shell = blocks(text)
        .into_iter()
        .filter(|block| matches!(block.language.as_str(), "sh" | "console"))
        .flat_map(|block| block.lines);
    let lines = shell.map(|line| line.trim_start_matches(['$', '#', ' ']).to_owned()).chain(spans(text));
    let shown = lines.filter_map(|line| line.strip_prefix("certsyncd ").map(str::to_owned));
    let until_redirected = |line: String| {
        line.split([' ', '[', ']']).filter(|word| !word.is_empty()).take_while(|word| *word != ">").map(str::to_owned).collect()
    };
    shown.map(until_redirected).collect()
}

fn unknown_commands(text: &str) -> Vec<String> {
    let mut wrong: Vec<String> = commands(text).iter().filter_map(|words| unknown_in(words)).collect();
    let lone = spans(text).into_iter().filter(|span| span.starts_with("--") && !span.contains(' '));
    wrong.extend(lone.filter(|option| !has_option_somewhere(&Cli::command(), option)));
    wrong
}

/// The first word of a command that the program does not know.
fn unknown_in(words: &[String]) -> Option<String> {
    let mut whole = Cli::command();
    whole.build();
    let mut here = &whole;
    let mut is_value = false;
    for word in words {
        if std::mem::take(&mut is_value) {
            continue;
        }
        if word.starts_with('-') {
            let known = option(here, word).or_else(|| option(&whole, word));
            let Some(known) = known else { return Some(format!("{word} in {words:?}")) };
            is_value = known.get_action().takes_values() && !word.contains('=');
        } else if here.has_subcommands() {
            match here.find_subcommand(word) {
                Some(found) => here = found,
                None => return Some(format!("{word} in {words:?}")),
            }
        }
    }
    None
}

fn option<'c>(command: &'c clap::Command, word: &str) -> Option<&'c clap::Arg> {
    let name = word.trim_start_matches('-').split('=').next().unwrap();
    command.get_arguments().find(|argument| match word.starts_with("--") {
        true => argument.get_long() == Some(name),
        false => argument.get_short().is_some_and(|short| name.chars().all(|letter| letter == short)),
    })
}

fn has_option_somewhere(command: &clap::Command, word: &str) -> bool {
    option(command, word).is_some() || command.get_subcommands().any(|sub| has_option_somewhere(sub, word))
}

fn visible_commands() -> BTreeSet<String> {
    Cli::command().get_subcommands().filter(|sub| !sub.is_hide_set()).map(|sub| sub.get_name().to_owned()).collect()
}

/// The numbers that stand alone in a text.
fn numbers(text: &str) -> Vec<u8> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// `store_crash::three_hundred_kills_leave_nothing_torn`: a file of `tests/` or a module of `src/`, and a test in it.
fn is_path_of_a_test(span: &str) -> bool {
    span.contains("::") && span.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | ':'))
}

fn is_test(path: &str) -> bool {
    sources(path).iter().any(|(source, name)| holds_test(source, name))
}

fn is_function(path: &str) -> bool {
    sources(path).iter().any(|(source, name)| source.contains(&format!("\npub fn {name}(")))
}

/// The files that a path may mean, and the last part of it.
fn sources(path: &str) -> Vec<(String, &str)> {
    let Some((module, name)) = path.rsplit_once("::") else { return Vec::new() };
    let module = module.replace("::", "/");
    let places = ["tests/{}.rs", "src/{}.rs", "src/{}/mod.rs", "src/{}/tests.rs", "fakecloud/tests/{}.rs"];
    let mut files = places.map(|place| root().join(place.replace("{}", &module))).to_vec();
    let parts = std::fs::read_dir(root().join(format!("src/{module}/tests")));
    files.extend(parts.into_iter().flatten().map(|part| part.unwrap().path()));
    files.iter().filter_map(|file| Some((std::fs::read_to_string(file).ok()?, name))).collect()
}

/// A function with an attribute of a test above it, or one of a `proptest!`.
fn holds_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let starts = |line: &str| {
        ["fn ", "async fn "].iter().any(|lead| line.strip_prefix(lead).is_some_and(|rest| rest.starts_with(&format!("{name}("))))
    };
    let Some(at) = lines.iter().position(|line| starts(line)) else { return false };
    let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    above.into_iter().any(|line| line.starts_with("#[test") || line.starts_with("#[tokio::test"))
}

/// Promises, and items of the threat model, without a test that would prove them, and without a word about that.
fn bare_promises(security: &str) -> Vec<String> {
    let chapters = ["What is promised", "Threat model"].map(|name| {
        let text = security.split(&format!("## {name}\n")).nth(1).unwrap_or_else(|| panic!("no chapter `{name}`"));
        text.split("\n## ").next().unwrap()
    });
    let items = chapters.iter().flat_map(|chapter| chapter.split("\n- ").skip(1));
    items
        .map(|item| item.split("\n\n").next().unwrap().trim_end())
        .filter(|item| !item.contains("(no test") && !spans(item).iter().any(|span| is_path_of_a_test(span)))
        .map(str::to_owned)
        .collect()
}

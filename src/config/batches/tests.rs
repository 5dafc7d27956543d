//! Reading in batches and reading in one are the same, or there are no batches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::super::document::as_a_whole;
use super::super::problem::Problem;
use super::*;

const EXAMPLE: &str = include_str!("../../../config.example.toml");

const BASE: &str = "version = 1\n[providers.p]\nkind = \"cds\"\nregion = \"cn\"\n\
                    auth = { method = \"access-key\", access_key = \"secret-a\", secret_key = \"secret-b\" }\n\
                    [deploy.web]\nkind = \"nginx\"\n";

/// All that a reading leaves behind, in an order that does not depend on how it was read.
#[derive(Debug, PartialEq)]
struct Left {
    settings: String,
    warnings: Vec<Problem>,
    blots: Vec<Range<usize>>,
    plain: Vec<(String, Range<usize>)>,
}

fn left(settings: &Settings, sink: Sink) -> Left {
    let (mut warnings, mut blots, mut plain) = (sink.warnings.take(), sink.blots.take(), sink.plain.take());
    warnings.sort_by_key(|one| one.span.as_ref().map(|span| span.start));
    blots.sort_by_key(|span| span.start);
    plain.sort_by_key(|(_, span)| span.start);
    Left { settings: format!("{settings:?}"), warnings, blots, plain }
}

/// Whether there were batches; they must be right.
fn is_read_in_batches(text: &str, size: usize) -> bool {
    let path = Path::new("config.toml");
    let Some((settings, sink)) = read(text, path, size) else { return false };
    let (whole, of_whole) = as_a_whole(text, path).unwrap_or_else(|refused| panic!("{text}\n{}", refused.render(false)));
    let problems = of_whole.problems.take();
    assert!(problems.is_empty(), "{text}\n{problems:?}");
    let whole = whole.unwrap();
    assert_eq!(settings.certificates, whole.certificates);
    assert_eq!(left(&settings, sink), left(&whole, of_whole), "{text}");
    true
}

fn entry(name: &str) -> String {
    format!("[[certificate]]\nname = \"{name}\"\nprovider = \"p\"\nid = \"{name}\"\n")
}

fn entries(count: usize) -> String {
    (0..count).map(|number| entry(&format!("host-{number}"))).collect()
}

fn output(path: &str) -> String {
    format!("[[certificate.output]]\nformat = \"pkcs12\"\npath = \"{path}\"\npassword = \"secret-c\"\n")
}

fn template(text: &str) -> String {
    format!("[[alerts.channel]]\nkind = \"webhook\"\nurl = \"https://example.com\"\ntemplate = {text}\n")
}

#[test]
fn the_usual_forms_are_read_in_batches() {
    let (a, b) = (entry("a"), entry("b"));
    for text in [
        format!("{BASE}{a}"),
        format!("{BASE}{}", entries(50)),
        format!("{BASE}{}", entries(50)).replace('\n', "\r\n"),
        format!("{BASE}{}", entries(5).trim_end()),
        format!("{a}[daemon]\nsplay = \"1m\"\n{b}{}", BASE.replace("version = 1\n", "")).replacen("", "version = 1\n", 1),
        format!("{BASE}{a}{}{b}{}", output("/etc/a.p12"), output("/etc/b.p12")),
        format!("{BASE}{a}  {}\t{}{b}", output("/etc/a.p12"), output("/etc/b.p12")),
        format!("{BASE}{a}key_file = \"/etc/a.key\"\n{b}"),
        format!("{BASE}{a}names = [\n  \"a.example\", # [[certificate]]\n  \"b.example\",\n]\n{b}"),
        format!("{BASE}{}{a}[deploy.other]\nkind = \"haproxy\"\n{b}[alerts]\n", template("\"{tittle}\"")),
        format!("{BASE}{a}{}{b}", template("'''\n[a]\n[certificate.b]\n {\n'''")),
        format!("{BASE}# [[certificate]]\n{a}# [[certificate]]\n#[deploy]\n{b}"),
        a.replace("]]", "]] # the first\n").replacen("", BASE, 1),
    ] {
        for size in [0, 1, 100, 150, SIZE] {
            assert!(is_read_in_batches(&text, size), "{text}");
        }
    }
}

#[test]
fn the_example_and_its_entries_are_read_in_batches() {
    let bare: String = EXAMPLE.lines().map(|line| line.trim_start_matches('#').to_owned() + "\n").collect();
    is_read_in_batches(&bare, 0);
    assert!(is_read_in_batches(EXAMPLE, 0));
}

/// Those that processors read side by side are in the file's order, and must not share what two entries may not.
#[test]
fn what_is_read_side_by_side_is_one_inventory() {
    let far = 5 * WORTH_A_THREAD;
    let (many, first) = (entries(far), format!("{}{}", entry("a"), output("/etc/a.p12")));
    assert!(is_read_in_batches(&format!("{BASE}{first}{many}{}", entry("b")), 0));
    for last in [
        entry("a"),
        format!("{}{}", entry("b"), output("/etc/a.p12")),
        format!("{}key_file = \"/etc/a.p12\"\n", entry("b")),
        format!("{}shown = true\n", entry("b")),
    ] {
        assert!(!is_read_in_batches(&format!("{BASE}{first}{many}{last}"), 0), "{last}");
    }
    let warned = format!("{many}{}", template("\"{tittle}\""));
    assert!(is_read_in_batches(&format!("{BASE}{first}{warned}"), 0));
}

#[test]
fn where_heads_are_indented_the_numbers_of_entries_are_those_of_the_file() {
    // A head that no cut is made at: the entries after it are one more than the cuts count.
    let indented = format!("{}  {}", entry("a"), entry("b"));
    // The last has something to be told by its number.
    let text = format!("{BASE}{indented}{}{}{}", entries(40), entry("c"), output("/etc/c.p12"));
    assert!(!is_read_in_batches(&text, 0));
}

/// Whatever else there is in a file that is read in one; each of these is for a reason of its own.
#[test]
fn no_cut_goes_through_a_text_nor_parts_what_belongs_together() {
    let (a, b) = (entry("a"), entry("b"));
    let holding = |quotes: &str, held: &str| format!("{BASE}{}{b}", template(&format!("{quotes}\n{held}{quotes}")));
    for text in [
        // a text that holds a head, an entry, several, or what makes each piece TOML by itself
        holding("'''", "[[certificate]]\n"),
        holding("'''", &a),
        holding("'''", &entries(5)),
        holding("'''", &format!("{a}[alerts]\n")),
        holding("'''", &format!("{a}[daemon]\n{b}[metrics]\n")),
        holding("\"\"\"", "[[certificate]]\n"),
        format!("{BASE}{}", template(&format!("'''\n{a}[metrics]\n'''\n[[\"certificate\"]]"))),
        // an array that holds what looks like a head
        format!("{BASE}{a}names = [\n[[certificate]]\n]\n"),
        format!("{BASE}{a}names = [\n\"a.example\",\n[\"b.example\"]]\n{b}"),
        // tables of entries that stand elsewhere, or in another form
        format!("{BASE}{a}[metrics]\n{}", output("/etc/a.p12")),
        format!("{BASE}{a}[metrics]\n[[\"certificate\".output]]\nformat = \"cert\"\npath = \"/etc/a.pem\"\n"),
        format!("{BASE}{a}[[\"certificate\"]]\nname = \"c\"\nprovider = \"p\"\nid = \"c\"\n"),
        format!("{BASE}{a}[certificate]\n"),
        format!("{BASE}[certificate.output]\n{a}"),
        format!("certificate = []\n{BASE}{a}"),
        format!("certificate.name = 1\n{BASE}{a}"),
        format!("{BASE}{a}  [metrics]\n{b}"),
        format!("{BASE}{a}  [metrics]\n{b}[metrics]\n"),
        format!("{BASE}{a}[[certificate]] name = 1\n{b}"),
        // what two entries may not share
        format!("{BASE}{a}{b}{a}"),
        format!("{BASE}{a}{}{b}{}", output("/etc/a.p12"), output("/etc/a.p12")),
        format!("{BASE}{a}{}{b}key_file = \"/etc/a.p12\"\n", output("/etc/a.p12")),
        format!("{BASE}{a}key_file = \"/etc/b.p12\"\n{b}{}", output("/etc/b.p12")),
        // tables that are there twice
        format!("{BASE}{a}[deploy.web]\nkind = \"nginx\"\n{b}"),
        format!("{BASE}{a}[daemon]\n{b}[daemon]\n"),
        format!("{BASE}{a}id = \"c\"\n{b}"),
        // anything that is wrong
        format!("{BASE}{a}shown = true\n{b}"),
        format!("{BASE}{a}[daemons]\n{b}"),
        format!("{BASE}{a}deploy = [\"db\"]\n{b}"),
        format!("{a}{b}"),
    ] {
        for size in [0, 150, SIZE] {
            assert!(!is_read_in_batches(&text, size), "{text}");
        }
    }
}

#[test]
fn too_many_entries_are_refused_in_one() {
    let head = "[[certificate]]\n";
    assert!(!is_read_in_batches(&head.repeat(MAX_CERTIFICATES + 1), SIZE));
    // half of them, not all to be seen by their heads
    let hidden = |name: &str| {
        let entries: String = (0..=MAX_CERTIFICATES / 2).map(|number| entry(&format!("{name}-{number}"))).collect();
        entries.replace("\n[[", "\n [[")
    };
    let text = format!("{BASE}{}{}", hidden("a"), hidden("b"));
    assert_eq!(cut(&text, SIZE).entries, 2);
    assert!(!is_read_in_batches(&text, SIZE));
}

#[test]
fn a_batch_ends_with_the_entry_in_which_it_is_full() {
    let one = entry("host-0").len();
    let text = format!("{BASE}{}[metrics]\n{}", entries(7), entries(2));
    let sizes = |size: usize| cut(&text, size).batches.iter().map(|batch| batch.part.len() / one).collect::<Vec<_>>();
    assert_eq!(sizes(0), [1; 9]);
    assert_eq!(sizes(3 * one), [3, 3, 1, 2]);
    assert_eq!(sizes(3 * one + 1), [4, 3, 2]);
    assert_eq!(sizes(SIZE), [7, 2]);
}

/// A file put together from pieces that are right, some that are right elsewhere, and scraps.
fn documents() -> impl Strategy<Value = String> {
    let name = prop_oneof![8 => "[a-z]{6}", 1 => "[ab]"];
    let fine = prop_oneof![
        12 => name.clone().prop_map(|name| entry(&name)),
        3 => (name.clone(), name.clone()).prop_map(|(name, path)| entry(&name) + &output(&format!("/etc/{path}.p12"))),
        1 => (name.clone(), name.clone()).prop_map(|(name, path)| entry(&name) + &format!("key_file = \"/etc/{path}.p12\"\n")),
        2 => name.clone().prop_map(|name| format!("[deploy.{name}]\nkind = \"nginx\"\n")),
        2 => name.clone().prop_map(|name| template(&format!("\"\"\"\n[{name}]\n{{{name}}}\"\"\""))),
        1 => name.clone().prop_map(|name| format!("# [[certificate]]\n[providers.{name}]\nkind = \"cds\"\nregion = \"cn\"\nauth = {{ \
             method = \"access-key\", access_key = \"a\", secret_key = \"b\" }}\n")),
        1 => Just("\n\n  # remark\n".to_owned()),
    ];
    let scrap = prop::sample::select(vec![
        "[[certificate]]",
        "[[certificate]]\n",
        "  [[certificate]]\n",
        "[[ certificate ]]\n",
        "[[\"certificate\"]]\n",
        "[certificate]\n",
        "[[certificate.output]]\n",
        "[certificate.output]\n",
        "  [metrics]\n",
        "[metrics]\n",
        "[\"daemon\"]\n",
        "'''\n",
        "\"\"\"\n",
        "'",
        "\"",
        "[",
        "]",
        "x = '''\n",
        "x = \"\"\"\n",
        "names = [\n",
        "]\n",
        "\n",
        "\r",
        "\r\n",
        "# ",
        "{",
        "\u{feff}",
        "\0",
        "é",
        "key_file = \"/etc/a.p12\"\n",
        "names = '''\n'''\n",
    ]);
    let pieces = prop::collection::vec(fine, 1..20);
    let scraps = prop::collection::vec((any::<prop::sample::Index>(), scrap), 0..4);
    (pieces, scraps, any::<bool>(), any::<bool>()).prop_map(|(mut pieces, scraps, crlf, ends)| {
        scraps.into_iter().for_each(|(at, scrap)| pieces.insert(at.index(pieces.len() + 1), scrap.to_owned()));
        let text = format!("{BASE}{}", pieces.concat());
        let text = if crlf { text.replace('\n', "\r\n") } else { text };
        if ends { text } else { text.trim_end().to_owned() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn however_it_is_read_it_is_the_same(text in documents(), size in 0usize..400) {
        is_read_in_batches(&text, size);
    }

}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_scratch_in_the_example_is_read_the_same(at in 0..EXAMPLE.len(), length in 0usize..20, put in "[\\[\\]{}=\"'.,\n#a-z0-9 ]{0,5}") {
        let from = (0..=at).rev().find(|at| EXAMPLE.is_char_boundary(*at)).unwrap();
        let to = (at + length..=EXAMPLE.len()).find(|at| EXAMPLE.is_char_boundary(*at)).unwrap_or(EXAMPLE.len());
        is_read_in_batches(&format!("{}{put}{}", &EXAMPLE[..from], &EXAMPLE[to..]), 0);
    }
}

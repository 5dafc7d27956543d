//! The status document, its table and its verdict.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod observe_fixture;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use certsyncd::observe::check::check;
use certsyncd::observe::status::{self, Document, Error, State, document};
use certsyncd::observe::systemd::sentence;
use certsyncd::observe::table::{Look, table};
use certsyncd::report::Valid;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use observe_fixture::*;

fn state(document: &Document, name: &str) -> State {
    document.certificates.iter().find(|certificate| certificate.name == name).unwrap().state
}

fn look(width: u16, color: bool) -> Look {
    Look { width, color, zone: TimeZone::UTC }
}

/// Only what is well, as after a good pass.
fn fine() -> Document {
    let (_, mut ledger, on_disk) = everything();
    ledger.last_pass.as_mut().unwrap().ok = true;
    let settings = settings(vec![entry("web", &["nginx", "haproxy"])]);
    let on_disk = on_disk.into_iter().filter(|name| name == "web").collect();
    document(Some(&settings), &ledger, &on_disk, pace(), now())
}

#[test]
fn each_state_has_its_cause() {
    let document = picture();
    let expected = [
        ("web", State::Ok),
        ("api", State::Expiring),
        ("old", State::Expired),
        ("shop", State::Failed),
        ("next", State::Held),
        ("wait", State::Pending),
        ("none", State::Missing),
        ("gone", State::Removed),
    ];
    for (name, wanted) in expected {
        assert_eq!(state(&document, name), wanted, "{name}");
    }
    let order: Vec<&str> = document.certificates.iter().map(|certificate| certificate.name.as_str()).collect();
    assert_eq!(order, ["web", "api", "old", "shop", "next", "wait", "none", "gone"], "the inventory's order, then the rest");
}

#[test]
fn the_json_has_the_fields_of_the_contract() {
    let json: serde_json::Value = serde_json::to_value(picture()).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["last_pass"], "2026-11-22T02:10:00Z");
    assert_eq!(json["next_pass"], "2026-11-22T02:20:00Z");
    let web = &json["certificates"][0];
    let fields = "name provider id state valid names not_before not_after days_left fingerprint generation last_checked last_changed \
                  last_error held rejected successor targets";
    for field in fields.split_whitespace() {
        assert!(web.get(field).is_some(), "`{field}` is missing");
    }
    assert_eq!((&web["state"], &web["days_left"], &web["id"]), (&"ok".into(), &61.into(), &"scs-web-2".into()));
    assert_eq!(web["fingerprint"], "01".repeat(32));
    let target = &web["targets"][0];
    for field in ["name", "published", "reloaded", "verified", "pending", "served"] {
        assert!(target.get(field).is_some(), "`{field}` is missing");
    }
    assert_eq!(target["served"][0]["address"], "127.0.0.1:443");
    assert_eq!(json["certificates"][1]["valid"], 2);
    assert_eq!(json["certificates"][3]["last_error"].as_str().unwrap().lines().count(), 1);
}

#[test]
fn days_are_rounded_down_and_negative_once_past() {
    let mut document = fine();
    let end = document.certificates[0].not_after.unwrap();
    for (at, days, wanted) in [
        (end - SignedDuration::from_hours(24 * 31), 31, State::Ok),
        (end - SignedDuration::from_hours(24 * 30), 30, State::Expiring),
        (end - SignedDuration::from_secs(1), 0, State::Expiring),
        (end, 0, State::Expired),
        (end + SignedDuration::from_secs(1), -1, State::Expired),
    ] {
        document.refresh(at);
        assert_eq!((document.certificates[0].days_left, document.certificates[0].state), (Some(days), wanted), "at {at}");
    }
}

#[test]
fn a_certificate_for_47_days_does_not_warn_from_its_first_third() {
    let (settings, mut ledger, on_disk) = everything();
    ledger.certificates.get_mut("web").unwrap().live = Some(live(1, 20, 27, &["web.example.com"]));
    let document = document(Some(&settings), &ledger, &on_disk, pace(), now());
    assert_eq!((document.certificates[0].warn_days, document.certificates[0].state), (14, State::Ok));
}

#[test]
fn a_live_generation_that_is_not_there_is_missing() {
    let (settings, ledger, _) = everything();
    let document = document(Some(&settings), &ledger, &BTreeSet::new(), pace(), now());
    assert_eq!(state(&document, "web"), State::Missing);
    assert_eq!(state(&document, "shop"), State::Failed, "why it is missing is known");
    assert_eq!(document.certificates[0].fingerprint, None);
}

#[test]
fn the_flag_of_the_provider_counts_without_a_date() {
    let (settings, mut ledger, on_disk) = everything();
    ledger.certificates.get_mut("web").unwrap().valid = Some(Valid::Expired);
    let document = document(Some(&settings), &ledger, &on_disk, pace(), now());
    assert_eq!(state(&document, "web"), State::Expired);
}

#[test]
fn a_failing_target_fails_only_the_certificates_that_are_behind() {
    let (settings, mut ledger, on_disk) = everything();
    ledger.targets.get_mut("nginx").unwrap().last_error = Some(failure(&["failed to reload"], Some("see the journal")));
    let document = document(Some(&settings), &ledger, &on_disk, pace(), now());
    assert_eq!((state(&document, "web"), state(&document, "wait")), (State::Ok, State::Failed));
    let wait = document.certificates.iter().find(|certificate| certificate.name == "wait").unwrap();
    assert_eq!(wait.last_error.as_deref(), Some("nginx: failed to reload"));
}

#[test]
fn without_settings_the_ledger_is_shown_and_nothing_is_removed() {
    let (_, ledger, on_disk) = everything();
    let document = document(None, &ledger, &on_disk, status::Pace::default(), now());
    assert_eq!(document.certificates.len(), 7);
    assert!(document.certificates.iter().all(|certificate| certificate.state != State::Removed));
}

#[test]
fn select_keeps_what_is_asked_for_and_names_what_is_unknown() {
    let mut document = picture();
    let unknown = document.select(&["api".to_owned(), "nobody".to_owned()]);
    assert_eq!((document.certificates.len(), unknown), (1, vec!["nobody".to_owned()]));
}

#[test]
fn the_document_survives_the_file_and_anybody_may_read_it() {
    let folder = tempfile::tempdir().unwrap();
    status::write(folder.path(), &picture()).unwrap();
    status::write(folder.path(), &fine()).unwrap();
    assert_eq!(status::read(folder.path()).unwrap(), fine());
    let mode = std::fs::metadata(folder.path().join(status::FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no stray beside it");
}

#[test]
fn what_is_no_document_is_refused_with_words() {
    let folder = tempfile::tempdir().unwrap();
    let missing = status::read(folder.path()).unwrap_err();
    assert!(missing.hint().unwrap().contains("certsyncd sync"), "{missing}");
    let path = folder.path().join(status::FILE);
    std::fs::write(&path, b"{").unwrap();
    assert!(matches!(status::read(folder.path()), Err(Error::Parse { .. })));
    std::fs::write(&path, br#"{"version":2,"certificates":"of another shape"}"#).unwrap();
    let newer = status::read(folder.path()).unwrap_err();
    assert!(newer.to_string().ends_with("was written by a newer version (format 2, known is 1)"), "{newer}");
    std::fs::File::create(&path).unwrap().set_len(status::MAX_BYTES + 1).unwrap();
    assert!(status::read(folder.path()).unwrap_err().kind() == "too_large");
}

#[test]
fn an_older_document_with_further_fields_is_read() {
    let mut json: serde_json::Value = serde_json::to_value(fine()).unwrap();
    json["certificates"][0]["added_later"] = 1.into();
    assert_eq!(serde_json::from_value::<Document>(json).unwrap(), fine());
}

#[test]
fn the_table_shows_what_is_wrong_first() {
    let text = table(&picture(), &look(100, false), now());
    let expected = " NAME  STATE     DAYS LEFT        SERVED
 old   expired   ░░░░░░░░░░   -5
 shop  failed    ████████░░  265
 none  missing   -                nginx …
 api   expiring  █░░░░░░░░░    9  haproxy ✓
 next  held      ████████░░  265
 wait  pending   ██████████  355  nginx …
 web   ok        ██░░░░░░░░   61  nginx ✓  haproxy ✓
 gone  removed   █████████░   80
✗ old: ended 4 days ago
✗ shop: failed to export certificate `scs-shop`: server said 400: `SCM.0010` this operation is not …
  hint: the certificate must be issued before it can be exported
… next: held: not valid before 2026-12-01
… wait: nginx: `nginx.service` is not running
last pass 02:10 failed, next 02:20
";
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn a_server_that_shows_another_certificate_is_named() {
    let (settings, mut ledger, on_disk) = everything();
    let nginx = ledger.certificates.get_mut("web").unwrap().targets.of("nginx");
    nginx.served = vec![served("127.0.0.1:443", "web.example.com", 0xee, 3)];
    let document = document(Some(&settings), &ledger, &on_disk, pace(), now());
    let text = table(&document, &look(100, false), now());
    assert!(text.contains("nginx ✗  haproxy ✓"), "{text}");
    assert!(text.contains("✗ web: nginx: 127.0.0.1:443 serves eeeeeeeeeeee for web.example.com\n"), "{text}");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in [40, 47, 48, 60, 63, 64, 80, 120] {
        let text = table(&picture(), &look(width, false), now());
        for line in text.lines() {
            assert!(line.chars().count() <= usize::from(width), "{width}: {line}");
        }
    }
}

#[test]
fn colour_changes_nothing_but_colour() {
    let (plain, coloured) = (table(&picture(), &look(80, false), now()), table(&picture(), &look(80, true), now()));
    assert!(!plain.contains('\x1b') && coloured.contains("\x1b[31mexpired\x1b[0m"), "{coloured}");
    let mut stripped = coloured;
    for code in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[2m", "\x1b[0m"] {
        stripped = stripped.replace(code, "");
    }
    assert_eq!(stripped, plain);
}

#[test]
fn words_of_a_server_cannot_colour_or_move() {
    let mut document = fine();
    document.certificates[0].last_error = Some("bad\x1b[2Jworse\nlast pass 02:10 ok\u{2061}".to_owned());
    document.refresh(now());
    let text = table(&document, &look(200, false), now());
    assert!(text.contains("✗ web: bad [2Jworse last pass 02:10 ok\n"), "{text:?}");
}

#[test]
fn an_empty_inventory_says_so() {
    let document = document(Some(&settings(Vec::new())), &Default::default(), &BTreeSet::new(), pace(), now());
    assert_eq!(table(&document, &look(80, true), now()), "no certificates\nno pass yet, next 02:20\n");
}

#[test]
fn another_day_is_told_with_its_date() {
    let mut document = fine();
    document.last_pass = Some("2026-11-21T23:50:00Z".parse().unwrap());
    let shanghai = Look { zone: TimeZone::get("Asia/Shanghai").unwrap(), ..look(80, false) };
    assert!(table(&document, &shanghai, now()).ends_with("last pass 07:50 ok, next 10:20\n"));
    assert!(table(&document, &look(80, false), now()).ends_with("last pass 2026-11-21 23:50 ok, next 02:20\n"));
}

#[test]
fn the_sentence_for_systemd() {
    let mut document = fine();
    document.certificates[0].days_left = Some(9);
    let all_well = "last pass 02:10 ok, 1 certificate, next 02:20, first to end: web in 9 days";
    assert_eq!(sentence(&document, &TimeZone::UTC, now()), all_well);
    let bad = "last pass 02:10 failed, 1 of 7 certificates failed, next 02:20, first to end: old ended 4 days ago";
    assert_eq!(sentence(&picture(), &TimeZone::UTC, now()), bad);
    document.last_pass = None;
    assert!(sentence(&document, &TimeZone::UTC, now()).starts_with("first pass under way, 1 certificate, next 02:20"));
}

#[test]
fn check_of_a_good_state_is_0_with_performance_data() {
    let verdict = check(&fine(), now());
    let line = "CERTSYNCD OK - 1 certificate, first to end: web in 61 days | \
                certificates=1 expired=0 failed=0 missing=0 expiring=0 first_end_days=61;30:;0: last_pass_age=300s";
    assert_eq!((verdict.code, verdict.line.as_str()), (0, line));
}

#[test]
fn check_of_a_bad_state_is_2_and_names_the_worst() {
    let verdict = check(&picture(), now());
    assert_eq!(verdict.code, 2);
    let (words, data) = verdict.line.split_once(" | ").unwrap();
    let start = "CERTSYNCD CRITICAL - 4 of 7 certificates: old ended 4 days ago; none missing; shop failed (";
    assert!(words.starts_with(start), "{words}");
    assert!(words.ends_with("; api in 9 days"), "{words}");
    assert!(data.contains("expired=1 failed=1 missing=1 expiring=1"), "{data}");
}

#[test]
fn check_knows_warning_from_critical() {
    let mut document = fine();
    document.refresh(document.certificates[0].not_after.unwrap() - days(20));
    document.last_pass = Some(document.certificates[0].not_after.unwrap() - days(20));
    assert_eq!(check(&document, document.last_pass.unwrap()).code, 1, "expiring");
    let mut document = fine();
    document.certificates[0].last_error = Some("cloud is away".to_owned());
    document.refresh(now());
    assert_eq!(check(&document, now()).code, 1, "what is live goes on");
    document.certificates[0].targets[0].pending = Some("reload failed".to_owned());
    assert_eq!(check(&document, now()).code, 2, "a server did not take it");
    document.certificates[0].targets[0].pending = None;
    document.certificates[0].fingerprint = None;
    assert_eq!(check(&document, now()).code, 2, "nothing to serve");
}

#[test]
fn check_of_an_old_state_is_3_whatever_it_says() {
    let mut document = fine();
    let last = document.last_pass.unwrap();
    assert_eq!(check(&document, last + SignedDuration::from_secs(1800)).code, 0);
    let verdict = check(&document, last + SignedDuration::from_secs(1801));
    assert_eq!(
        (verdict.code, verdict.line.as_str()),
        (3, "CERTSYNCD UNKNOWN - last pass was 30 minutes ago, more than three intervals")
    );
    document.last_pass = None;
    assert_eq!(check(&document, now()).code, 3);
}

#[test]
fn the_line_of_check_stays_one_line() {
    let mut document = fine();
    document.certificates[0].last_error = Some(format!("first\nsecond | x=1 {}", "long ".repeat(200)));
    document.refresh(now());
    let line = check(&document, now()).line;
    assert_eq!((line.lines().count(), line.matches('|').count()), (1, 1), "{line}");
    assert!(line.len() < 500);
}

/// A date ahead is no cause to be critical; the provider's word is, and is what must be read.
#[test]
fn what_only_the_provider_says_is_told_as_its_word() {
    let mut document = fine();
    for (valid, words) in [
        (Valid::Expired, "marked expired by its provider (its own date: in 61 days)"),
        (Valid::Expiring, "marked as ending soon by its provider (its own date: in 61 days)"),
    ] {
        document.certificates[0].valid = Some(valid);
        document.refresh(now());
        let line = check(&document, now()).line;
        assert!(line.contains(&format!("web {words}")), "{line}");
    }
    document.certificates[0].valid = Some(Valid::Expired);
    document.refresh(now());
    let text = table(&document, &look(120, false), now());
    assert!(text.contains("✗ web: marked expired by its provider (its own date: in 61 days)\n"), "{text}");
}

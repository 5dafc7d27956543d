//! The ledger's file: whatever is in it, loading gives a memory or a clear refusal, and loses no more than it must.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use certsyncd::config::EventKind;
use certsyncd::ledger::{
    Base, CertificateRecord, Delivery, Error, FILE, Ledger, MAX_LEDGER, MAX_PULSE, PULSE, PassRecord, Pulse, Raised, Rejection,
    TargetRecord,
};
use certsyncd::report::{Fingerprint, Live, Valid};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

fn now() -> Timestamp {
    "2026-11-22T02:00:00Z".parse().unwrap()
}

/// Something of everything.
fn full() -> Ledger {
    let fingerprint = Fingerprint([7; 32]);
    let mut ledger = Ledger::fresh();
    let live = Live {
        fingerprint,
        generation: "000001-070707070707".into(),
        names: vec!["a".into()],
        not_before: now(),
        not_after: now(),
    };
    let mut record =
        CertificateRecord { provider: "scm".into(), valid: Some(Valid::Expiring), live: Some(live.into()), ..Default::default() };
    record.open.rejected.push(Rejection { fingerprint, id: None, why: "no".into(), tries: 1, next_try: Some(now()) });
    record.targets.insert("nginx", Delivery { verified: Some(fingerprint), ..Default::default() });
    ledger.certificates.insert("www".into(), record.into());
    ledger.targets.insert("nginx".into(), TargetRecord { pending: Some("window".into()), ..Default::default() });
    ledger.providers.insert("scm".into(), Default::default());
    let raised = Raised {
        event: EventKind::Expiring,
        certificate: Some("www".into()),
        target: None,
        provider: None,
        fingerprint: Some(fingerprint),
        threshold: Some(30),
        since: now(),
        last: now(),
        channels: vec!["webhook-1".into()],
    };
    ledger.alerts.insert("expiring/www".into(), raised);
    ledger.last_pass = Some(PassRecord { started: now(), finished: now(), ok: true, requests: 4 });
    ledger
}

fn write(state: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::write(state.join(FILE), bytes).unwrap();
}

#[test]
fn what_is_saved_is_loaded() {
    let state = tempfile::tempdir().unwrap();
    full().save(state.path()).unwrap();
    let loaded = Ledger::load(state.path()).unwrap();
    assert_eq!(loaded.ledger, full());
    assert_eq!(loaded.rebuilt, None);
    let found = std::fs::metadata(state.path().join(FILE)).unwrap();
    assert_eq!(found.permissions().mode() & 0o7777, 0o640);
    let text = std::fs::read_to_string(state.path().join(FILE)).unwrap();
    assert!(text.starts_with("{\n  \"version\": 1,\n  \"written_by\": \"certsyncd "), "{text}");
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 1, "no stray");
}

#[test]
fn saving_what_is_there_writes_nothing() {
    let state = tempfile::tempdir().unwrap();
    full().save(state.path()).unwrap();
    let inode = || std::fs::metadata(state.path().join(FILE)).unwrap().ino();
    let before = inode();
    full().save(state.path()).unwrap();
    assert_eq!(inode(), before);
    Ledger::fresh().save(state.path()).unwrap();
    assert_ne!(inode(), before);
}

#[test]
fn a_missing_ledger_is_a_loss_only_where_there_is_something_to_remember() {
    let state = tempfile::tempdir().unwrap();
    assert_eq!(Ledger::load(state.path()).unwrap().rebuilt, None);
    assert_eq!(Ledger::load(&state.path().join("not-there-yet")).unwrap().rebuilt, None);
    std::fs::create_dir_all(state.path().join("generations/www")).unwrap();
    let loaded = Ledger::load(state.path()).unwrap();
    assert!(loaded.rebuilt.unwrap().ends_with("ledger.json` was missing"));
    assert_eq!(loaded.ledger, Ledger::fresh());
}

#[test]
fn a_damaged_ledger_is_kept_aside_and_said() {
    let whole = serde_json::to_string(&full()).unwrap();
    let cases: [(&[u8], &str); 7] = [
        (b"", "EOF"),
        (&whole.as_bytes()[..whole.len() / 2], "EOF"),
        (b"\xff\xfe\0\0", "expected value"),
        (b"[]", "no JSON object"),
        (b"{}", "no `version`"),
        (br#"{"version":"one"}"#, "no `version`"),
        (br#"{"version":1,"certificates":[]}"#, "`certificates` is no table"),
    ];
    for (bytes, words) in cases {
        let state = tempfile::tempdir().unwrap();
        write(state.path(), bytes);
        let peeked = Ledger::peek(state.path()).unwrap();
        assert!(state.path().join(FILE).exists(), "a look changes nothing");
        let loaded = Ledger::load(state.path()).unwrap();
        assert_eq!(loaded.ledger, Ledger::fresh());
        assert_eq!(loaded.rebuilt, peeked.rebuilt);
        assert!(loaded.rebuilt.as_ref().unwrap().contains(words), "{words}: {:?}", loaded.rebuilt);
        assert_eq!(std::fs::read(state.path().join("ledger.json.damaged")).unwrap(), bytes);
        loaded.ledger.save(state.path()).unwrap();
        assert_eq!(Ledger::load(state.path()).unwrap().rebuilt, None, "said once");
    }
}

#[test]
fn a_bad_record_costs_only_itself() {
    let state = tempfile::tempdir().unwrap();
    let mut value = serde_json::to_value(full()).unwrap();
    value["certificates"]["broken"] = serde_json::json!({"live": 5});
    value["alerts"]["unheard/of"] = serde_json::json!({"event": "from_the_future"});
    value["last_pass"] = serde_json::json!(false);
    write(state.path(), value.to_string());
    let loaded = Ledger::load(state.path()).unwrap();
    assert_eq!(loaded.ledger, Ledger { last_pass: None, ..full() });
    let why = loaded.rebuilt.unwrap();
    for lost in ["certificates.broken", "alerts.unheard/of", "last_pass"] {
        assert!(why.contains(lost), "{why}");
    }
}

#[test]
fn older_and_richer_ledgers_load() {
    let state = tempfile::tempdir().unwrap();
    write(state.path(), r#"{"version":1,"certificates":{"www":{"provider":"scm","colour":"blue"}},"moods":{"today":"good"}}"#);
    let loaded = Ledger::load(state.path()).unwrap();
    assert_eq!(loaded.rebuilt, None);
    assert_eq!(*loaded.ledger.certificates["www"], CertificateRecord { provider: "scm".into(), ..Default::default() });
}

#[test]
fn a_newer_ledger_is_refused_with_words_and_stays() {
    let state = tempfile::tempdir().unwrap();
    let newer = r#"{"version":2,"written_by":"certsyncd 3.1.4\u001b","certificates":[]}"#;
    write(state.path(), newer);
    let error = Ledger::load(state.path()).unwrap_err();
    assert!(matches!(&error, Error::Newer { found: 2, .. }), "{error:?}");
    let path = state.path().join(FILE);
    let words = format!("`{}` has format 2, written by certsyncd 3.1.4; this version knows formats up to 1", path.display());
    assert_eq!(error.to_string(), words);
    assert!(error.hint().unwrap().contains("install certsyncd 3.1.4 again"));
    assert_eq!(std::fs::read_to_string(path).unwrap(), newer);
    assert!(!state.path().join("ledger.json.damaged").exists());
    write(state.path(), format!(r#"{{"version":{}}}"#, u64::MAX));
    assert_eq!(Ledger::load(state.path()).unwrap_err().kind(), "newer_ledger");
}

#[test]
fn the_bound_is_where_it_is_said() {
    let state = tempfile::tempdir().unwrap();
    let mut bytes = br#"{"version":1}"#.to_vec();
    bytes.resize(MAX_LEDGER as usize, b' ');
    write(state.path(), &bytes);
    assert_eq!(Ledger::load(state.path()).unwrap().rebuilt, None);
    bytes.push(b' ');
    write(state.path(), &bytes);
    assert!(Ledger::load(state.path()).unwrap().rebuilt.unwrap().contains("is larger than 33554432 bytes"));
}

#[test]
fn a_folder_in_its_place_and_deep_json_are_damage() {
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join(FILE)).unwrap();
    assert!(Ledger::load(state.path()).unwrap().rebuilt.unwrap().contains("a folder"));
    let deep = format!("{{\"version\":1,\"certificates\":{}", "[".repeat(1_000_000));
    write(state.path(), deep);
    std::fs::remove_dir(state.path().join("ledger.json.damaged")).unwrap();
    assert!(Ledger::load(state.path()).unwrap().rebuilt.unwrap().contains("EOF while parsing"));
}

proptest! {
    #[test]
    fn any_bytes_load_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        loads_or_is_refused(&bytes);
    }

    /// Close to a real ledger: one stretch of it replaced.
    #[test]
    fn any_edit_loads_or_is_refused(at in 0usize..4000, cut in 0usize..40, put in "[\\x20-\\x7e]{0,20}") {
        let mut text = serde_json::to_vec_pretty(&full()).unwrap();
        let at = at.min(text.len());
        text.splice(at..(at + cut).min(text.len()), put.into_bytes());
        loads_or_is_refused(&text);
    }

    /// The same of the layout that is written.
    #[test]
    fn any_edit_of_what_is_saved_loads_or_is_refused(at in 0usize..4000, cut in 0usize..40, put in "[\\x0a\\x20-\\x7e]{0,20}") {
        let state = tempfile::tempdir().unwrap();
        full().save(state.path()).unwrap();
        let mut text = std::fs::read(state.path().join(FILE)).unwrap();
        let at = at.min(text.len());
        text.splice(at..(at + cut).min(text.len()), put.into_bytes());
        loads_or_is_refused(&text);
    }

    /// Whatever lies there as the pulse, the ledger is the ledger.
    #[test]
    fn any_pulse_is_of_no_consequence(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        let state = tempfile::tempdir().unwrap();
        full().save(state.path()).unwrap();
        std::fs::write(state.path().join(PULSE), bytes).unwrap();
        prop_assert_eq!(Ledger::load(state.path()).unwrap().ledger, full());
    }

    /// Close to a real pulse: whatever it says, it touches times alone.
    #[test]
    fn an_edited_pulse_touches_times_alone(at in 0usize..500, cut in 0usize..40, put in "[\\x20-\\x7e]{0,20}") {
        let state = tempfile::tempdir().unwrap();
        full().save(state.path()).unwrap();
        let mut bytes = serde_json::to_vec(&pulse(SignedDuration::from_mins(10))).unwrap();
        let at = at.min(bytes.len());
        bytes.splice(at..(at + cut).min(bytes.len()), put.into_bytes());
        std::fs::write(state.path().join(PULSE), bytes).unwrap();
        let mut ledger = Ledger::load(state.path()).unwrap().ledger;
        ledger.certificates.values_mut().for_each(|record| record.last_checked = None);
        prop_assert_eq!(Ledger { last_pass: None, last_success: None, ..ledger }, Ledger { last_pass: None, ..full() });
    }
}

/// A pulse of [`full`], later by so much.
fn pulse(later: SignedDuration) -> Pulse {
    let pass = PassRecord { started: now() + later, finished: now() + later, ok: true, requests: 1 };
    Pulse::new(full().base().unwrap(), pass)
}

#[test]
fn a_pulse_is_read_up_to_its_bound() {
    let state = tempfile::tempdir().unwrap();
    full().save(state.path()).unwrap();
    let pulse = pulse(SignedDuration::from_mins(10));
    let mut bytes = serde_json::to_vec(&pulse).unwrap();
    bytes.resize(MAX_PULSE as usize, b' ');
    std::fs::write(state.path().join(PULSE), &bytes).unwrap();
    assert_eq!(Pulse::read(state.path()), Some(pulse.clone()));
    assert_eq!(Ledger::load(state.path()).unwrap().ledger.last_pass, Some(pulse.pass));
    bytes.push(b' ');
    std::fs::write(state.path().join(PULSE), &bytes).unwrap();
    assert_eq!(Pulse::read(state.path()), None);
    assert_eq!(Ledger::load(state.path()).unwrap().ledger, full(), "and that is of no consequence");
}

#[test]
fn a_pulse_of_another_ledger_says_nothing() {
    let state = tempfile::tempdir().unwrap();
    full().save(state.path()).unwrap();
    let right = pulse(SignedDuration::from_mins(10));
    let other = Base { started: now() - SignedDuration::from_secs(1), ..right.base };
    for stranger in [Pulse { base: other, ..right.clone() }, Pulse { version: 2, ..right }] {
        stranger.write(state.path()).unwrap();
        assert_eq!(Ledger::load(state.path()).unwrap().ledger, full());
    }
}

/// What is laid out in another way is read as well, and a comma too few or too many is not overlooked.
#[test]
fn the_layout_is_no_condition() {
    let state = tempfile::tempdir().unwrap();
    let mut several = full();
    several.certificates.insert("shop".into(), several.certificates["www"].clone());
    several.save(state.path()).unwrap();
    let text = std::fs::read_to_string(state.path().join(FILE)).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    for same in
        [value.to_string(), serde_json::to_string_pretty(&value).unwrap(), text.replace('\n', "\r\n"), format!("{text}\n")]
    {
        let parsed = Ledger::parse(same.as_bytes(), Path::new(FILE)).unwrap();
        assert_eq!((parsed.ledger, parsed.rebuilt), (several.clone(), None), "{same}");
    }
    for wrong in [
        text.replace("},\n    \"www\"", "}\n    \"www\""),
        text.replace("}\n  }\n}\n", "},\n  }\n}\n"),
        text.replace("}\n  }\n}\n", "}\n  }\n"),
        text.replace("}\n  }\n}\n", "}\n  }\n}\n}\n"),
        text.replace("    \"www\"", "    \"a\": {}, \"www\""),
    ] {
        assert_ne!(wrong, text);
        let is_json = serde_json::from_str::<serde_json::Value>(&wrong).is_ok();
        let parsed = Ledger::parse(wrong.as_bytes(), Path::new(FILE)).unwrap();
        assert_eq!(parsed.rebuilt.is_none(), is_json, "{wrong}");
    }
}

fn loads_or_is_refused(bytes: &[u8]) {
    let state = tempfile::tempdir().unwrap();
    write(state.path(), bytes);
    match Ledger::load(state.path()) {
        Err(error) => assert_eq!(error.kind(), "newer_ledger"),
        Ok(loaded) => {
            assert_eq!(loaded.rebuilt.is_some(), state.path().join("ledger.json.damaged").exists());
            loaded.ledger.save(state.path()).unwrap();
            let again = Ledger::load(state.path()).unwrap();
            assert_eq!((again.ledger, again.rebuilt), (loaded.ledger, None));
        }
    }
}

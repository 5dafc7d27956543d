//! Any bytes as what lies on the host and is read back: the status document, the pulse, the outbox's files, a PKCS#12 output. No panic; what is read can
//! be shown, and written and read again it is the same.
#![no_main]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use certsyncd::alert::{Entry, Outcome};
use certsyncd::certificate::{Bundle, Piece, pkcs12_holds};
use certsyncd::observe::check::check;
use certsyncd::ledger::{CertificateRecord, Ledger, PassRecord, Pulse};
use certsyncd::observe::status::{self, Document};
use certsyncd::observe::table::{Look, table};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

const PASSWORD: &str = "x";
static BUNDLE: LazyLock<Bundle> = LazyLock::new(|| {
    let piece = |bytes: &[u8]| Piece { name: "fuzz".to_owned(), bytes: Zeroizing::new(bytes.to_vec()) };
    Bundle::assemble(&[piece(include_bytes!("../seeds/leaf.pem")), piece(include_bytes!("../seeds/leaf.key"))]).expect("a pair")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(mut document) = again::<Document>(bytes) {
        let now = Timestamp::from_second(1_800_000_000).expect("a time");
        document.refresh(now);
        let shown = table(&document, &Look { width: 80, color: false, zone: TimeZone::UTC }, now);
        assert!(shown.ends_with('\n'));
        let _ = (check(&document, now), document.first_to_end(), document.is_stale(now));
    }
    if let Some(pulse) = again::<Pulse>(bytes) {
        follow(&pulse);
    }
    let _ = (again::<Entry>(bytes), again::<Vec<Outcome>>(bytes));
    let _ = pkcs12_holds(bytes, &SecretString::from(PASSWORD), &BUNDLE);
});

/// The pulse as that of a ledger and a document: both are as before but for their times, and can be written and read again.
fn follow(pulse: &Pulse) {
    let last_pass = PassRecord { started: pulse.base.started, finished: pulse.base.finished, ok: true, requests: 0 };
    let mut ledger = Ledger { last_pass: Some(last_pass), ..Ledger::fresh() };
    let seen = CertificateRecord { last_checked: Some(pulse.base.started), ..CertificateRecord::default() };
    ledger.certificates.insert("www".to_owned(), seen.into());
    assert!(ledger.follow(pulse));
    assert_eq!(ledger.certificates["www"].last_checked, Some(pulse.pass.started));
    let written = serde_json::to_vec(&ledger).expect("a ledger can be written");
    assert_eq!(Ledger::parse(&written, Path::new("ledger.json")).expect("our own version").ledger, ledger);
    let mut document = status::document(None, &ledger, &BTreeSet::new(), status::Pace::default(), pulse.pass.finished);
    document.follow(pulse);
    document.refresh(pulse.pass.finished);
}

/// Read; and when it could be, written and read once more.
fn again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&read).expect("it can be written");
    assert_eq!(serde_json::from_slice::<T>(&written).expect("what we wrote"), read);
    Some(read)
}

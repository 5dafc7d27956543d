//! Any bytes as `ledger.json`: no panic; what was taken over is whole, so written and read again it is the same and nothing more is lost.
#![no_main]

use std::path::Path;

use certsyncd::ledger::Ledger;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(loaded) = Ledger::parse(bytes, Path::new("ledger.json")) else { return };
    let written = serde_json::to_vec(&loaded.ledger).expect("a ledger can be written");
    let again = Ledger::parse(&written, Path::new("ledger.json")).expect("our own version");
    assert_eq!((again.ledger, again.rebuilt), (loaded.ledger, None));
});

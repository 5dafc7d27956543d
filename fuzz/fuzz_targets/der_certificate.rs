//! One certificate in DER, beside a key and an authority that may or may not fit: no panic, and nothing unprintable in words for people.
#![no_main]

use certsyncd::certificate::{Bundle, Piece};
use zeroize::Zeroizing;

const AUTHORITY: &[u8] = include_bytes!("../seeds/authority.pem");
const KEY: &[u8] = include_bytes!("../seeds/leaf.key");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let piece = |bytes: &[u8]| Piece { name: "fuzz".to_owned(), bytes: Zeroizing::new(bytes.to_vec()) };
    match Bundle::assemble(&[piece(bytes), piece(AUTHORITY), piece(KEY)]) {
        Ok(bundle) => {
            let words = [&*bundle.subject(), &*bundle.issuer(), bundle.serial(), &bundle.gaps().join(" ")].concat();
            assert!(!words.chars().any(char::is_control));
            let _ = (bundle.not_before(), bundle.not_after(), bundle.sni(), bundle.is_self_signed());
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
    }
});

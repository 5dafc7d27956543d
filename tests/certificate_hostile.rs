//! Bytes that nobody meant to be certificates: no panic, and no bundle that does not fit.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod certificate_pki;

use std::sync::LazyLock;

use base64::Engine;
use certificate_pki::*;
use certsyncd::certificate::{Bundle, Roots};
use jiff::Timestamp;
use proptest::prelude::*;
use rcgen::{KeyPair, PKCS_RSA_SHA256};

/// Leaf, intermediate and key in DER.
static VALID: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    let intermediate = Authority::root("Root").below("Intermediate");
    let leaf = intermediate.leaf_with(leaf(&["www.example.com", "192.0.2.1"]), KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap());
    let der = |pem: &str| openssl(&["x509", "-outform", "DER"], pem.as_bytes());
    [der(&leaf.pem), der(&intermediate.pem), leaf.key.serialize_der()]
});

fn block(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

/// Everything that a bundle can be asked, none of which may panic or contradict itself.
fn ask(bundle: &Bundle) {
    let files = bundle.files();
    let pieces: Vec<_> = files.files.iter().map(|(name, bytes)| piece(name, &bytes[..])).collect();
    assert_eq!(&Bundle::assemble(&pieces).unwrap(), bundle);
    for name in bundle.names() {
        assert!(bundle.covers(name), "{name}");
    }
    if let Some(name) = bundle.sni() {
        assert!(!name.contains('*') || bundle.names().contains(&name));
    }
    let _ = (bundle.verifies(&Roots::none(), Timestamp::UNIX_EPOCH), bundle.gaps(), bundle.serial(), format!("{bundle:?}"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = Bundle::assemble(&[piece("bytes", &bytes)]);
        let _ = Roots::from_pem(&bytes);
        let sequence = [&[0x30, 0x82, (bytes.len() >> 8) as u8, bytes.len() as u8][..], &bytes].concat();
        let _ = Bundle::assemble(&[piece("der", sequence)]);
    }

    #[test]
    fn arbitrary_text_around_blocks_never_panics(text in "(-----(BEGIN|END) (CERTIFICATE|PRIVATE KEY|X)-----|[A-Za-z+/=]{0,40}|\\\\[nr/\\\\]|[\r\n ]|Proc-Type: 4,ENCRYPTED){0,30}") {
        let _ = Bundle::assemble(&[piece("text", text)]);
    }

    #[test]
    fn arbitrary_der_in_blocks_never_panics(der in prop::collection::vec(any::<u8>(), 0..600), label in 0usize..6) {
        let label = ["CERTIFICATE", "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "PUBLIC KEY"][label];
        let _ = Bundle::assemble(&[piece("block", block(label, &der))]);
    }

    /// One to four bytes of one of the three changed: refused, or still a pair that fits.
    #[test]
    fn changed_certificates_and_keys_never_panic(
        which in 0usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut valid = VALID.clone();
        for (at, byte) in changes {
            let at = at.index(valid[which].len());
            valid[which][at] = byte;
        }
        let text = [block("CERTIFICATE", &valid[0]), block("CERTIFICATE", &valid[1]), block("PRIVATE KEY", &valid[2])].concat();
        if let Ok(bundle) = Bundle::assemble(&[piece("changed", text)]) {
            ask(&bundle);
        }
    }
}

#[test]
fn what_was_not_changed_fits() {
    let text = [block("CERTIFICATE", &VALID[0]), block("CERTIFICATE", &VALID[1]), block("PRIVATE KEY", &VALID[2])].concat();
    ask(&Bundle::assemble(&[piece("valid", text)]).unwrap());
}

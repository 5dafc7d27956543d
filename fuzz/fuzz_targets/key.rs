//! A private key in DER beside certificates: no panic, and only the one key of each certificate fits.
#![no_main]

use certsyncd::certificate::{Bundle, Piece};
use zeroize::Zeroizing;

const CERTIFICATES: [&[u8]; 3] =
    [include_bytes!("../seeds/leaf.pem"), include_bytes!("../seeds/rsa.pem"), include_bytes!("../seeds/ed25519.pem")];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let piece = |bytes: &[u8]| Piece { name: "fuzz".to_owned(), bytes: Zeroizing::new(bytes.to_vec()) };
    for certificate in CERTIFICATES {
        if let Ok(bundle) = Bundle::assemble(&[piece(certificate), piece(bytes)]) {
            let key = piece(&bundle.files().files["privkey.pem"]);
            assert_eq!(Bundle::assemble(&[piece(certificate), key]).expect("the key is read again"), bundle);
        }
    }
});

//! Any text: no panic; what becomes a bundle is the same again when its files are read back.
#![no_main]

use certsyncd::certificate::{Bundle, Piece, Roots};
use zeroize::Zeroizing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let piece = |bytes: &[u8]| Piece { name: "fuzz".to_owned(), bytes: Zeroizing::new(bytes.to_vec()) };
    let _ = Roots::from_pem(bytes);
    if let Ok(bundle) = Bundle::assemble(&[piece(bytes)]) {
        let files = bundle.files();
        let again = Bundle::assemble(&[piece(&files.files["combined.pem"])]).expect("files are read again");
        assert_eq!(again, bundle);
        assert!(!files.files["combined.pem"].windows(2).any(|pair| pair == b"\n\n"));
        assert!(bundle.names().iter().all(|name| bundle.covers(name)));
    }
});

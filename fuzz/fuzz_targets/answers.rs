//! Any bytes as the answer of a cloud, read by every reader of both: no panic, and no error with control characters or without end.
#![no_main]

use certsyncd::provider::{WORDS, read_all};

libfuzzer_sys::fuzz_target!(|input: (u16, &[u8])| {
    for error in read_all(200 + input.0 % 400, input.1) {
        let said = error.cause().to_string();
        assert!(said.chars().count() < 2 * WORDS + 200 && !said.chars().any(char::is_control), "{said:?}");
    }
});

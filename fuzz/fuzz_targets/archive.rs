//! Zip and RAR: no panic, no entry beyond the limits.
#![no_main]

use certsyncd::archive::{MAX_ENTRIES, MAX_TOTAL_BYTES, unpack};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(entries) = unpack(bytes) {
        let total: u64 = entries.iter().map(|entry| entry.bytes.len() as u64).sum();
        assert!(!entries.is_empty() && entries.len() <= MAX_ENTRIES && total <= MAX_TOTAL_BYTES);
    }
});

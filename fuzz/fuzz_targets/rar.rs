//! RAR 4 and RAR 5 behind their checksums: the headers' are put right first, or nearly every input would end there.
#![no_main]

use certsyncd::archive::{MAX_ENTRIES, MAX_TOTAL_BYTES, unpack};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    if bytes.starts_with(RAR5) {
        mend_rar5(&mut bytes);
    } else if bytes.starts_with(RAR4) {
        mend_rar4(&mut bytes);
    }
    if let Ok(entries) = unpack(&bytes) {
        let total: u64 = entries.iter().map(|entry| entry.bytes.len() as u64).sum();
        assert!(!entries.is_empty() && entries.len() <= MAX_ENTRIES && total <= MAX_TOTAL_BYTES);
    }
});

const RAR4: &[u8] = b"Rar!\x1a\x07\x00";
const RAR5: &[u8] = b"Rar!\x1a\x07\x01\x00";

/// A block: checksum (two bytes), kind, flags, size of the header; with 0x8000 the size of what follows it.
fn mend_rar4(bytes: &mut [u8]) {
    let mut at = RAR4.len();
    while let Some(head) = bytes.get(at..at + 7) {
        let (flags, size) = (u16::from_le_bytes([head[3], head[4]]), usize::from(u16::from_le_bytes([head[5], head[6]])));
        let end = at + size.max(7);
        let Some(header) = bytes.get(at + 2..end) else { return };
        let sum = (crc32fast::hash(header) as u16).to_le_bytes();
        let data = match header.get(5..9) {
            Some(&[a, b, c, d]) if flags & 0x8000 != 0 => u32::from_le_bytes([a, b, c, d]) as usize,
            _ => 0,
        };
        bytes[at..at + 2].copy_from_slice(&sum);
        at = end.saturating_add(data);
    }
}

/// A block: checksum (four bytes), size of the header from there, kind, flags; with 1 the size of extra fields, with 2 of what follows.
fn mend_rar5(bytes: &mut [u8]) {
    let mut at = RAR5.len();
    while let Some((size, start)) = number(bytes, at + 4) {
        let Some(end) = start.checked_add(size).filter(|end| size > 0 && *end <= bytes.len()) else { return };
        let sum = crc32fast::hash(&bytes[at + 4..end]).to_le_bytes();
        bytes[at..at + 4].copy_from_slice(&sum);
        let data = (|| {
            let (flags, next) = number(bytes, number(bytes, start)?.1)?;
            let next = if flags & 1 != 0 { number(bytes, next)?.1 } else { next };
            if flags & 2 != 0 { number(bytes, next).map(|(size, _)| size) } else { None }
        })();
        at = end.saturating_add(data.unwrap_or(0));
    }
}

/// A number of up to four groups of seven bits, the low ones first; and where the next one starts.
fn number(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut value = 0;
    for (group, byte) in bytes.get(at..)?.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * group);
        if byte & 0x80 == 0 {
            return Some((value, at + group + 1));
        }
    }
    None
}

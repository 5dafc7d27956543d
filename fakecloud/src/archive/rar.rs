//! RAR archives with stored (uncompressed) files: headers and CRC-32, nothing else.
//!
//! The field layout is that of the RAR technical notes (RAR 5: <https://www.rarlab.com/technote.htm>; RAR 4: the `technote.txt` that came
//! with RAR 4). Compression, which UnRAR's licence forbids to re-create, is not needed here.

const RAR4_MARK: &[u8] = b"Rar!\x1a\x07\x00";
const RAR5_MARK: &[u8] = b"Rar!\x1a\x07\x01\x00";
/// 2026-11-22 10:00:00 in DOS form, as RAR 4 writes times.
const DOS_TIME: u32 = ((2026 - 1980) << 25) | (11 << 21) | (22 << 16) | (10 << 11);
const MODE: u32 = 0o100_644;
const UNIX: u8 = 3;

/// A RAR 4 archive: mark, archive header, per file a header and its bytes, end.
pub(super) fn rar4(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = RAR4_MARK.to_vec();
    block4(&mut out, 0x73, 0, &[0; 6]);
    for (name, bytes) in entries {
        let size = u32::try_from(bytes.len()).expect("an entry fits in 4 GiB");
        let mut head = Vec::new();
        head.extend(size.to_le_bytes()); // packed
        head.extend(size.to_le_bytes()); // unpacked
        head.push(UNIX);
        head.extend(crc32(bytes).to_le_bytes());
        head.extend(DOS_TIME.to_le_bytes());
        head.push(20); // version needed
        head.push(0x30); // stored
        head.extend(u16::try_from(name.len()).expect("a name fits in 64 KiB").to_le_bytes());
        head.extend(MODE.to_le_bytes());
        head.extend(name.as_bytes());
        block4(&mut out, 0x74, 0x8000, &head); // 0x8000: data follows
        out.extend(bytes);
    }
    block4(&mut out, 0x7b, 0x4000, &[]);
    out
}

/// A RAR 5 archive: mark, main header, per file a header and its bytes, end.
pub(super) fn rar5(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = RAR5_MARK.to_vec();
    block5(&mut out, &[1, 0, 0]); // main archive, no flags, no archive flags
    for (name, bytes) in entries {
        let mut head = vec![2, 2]; // file header; a data area follows
        number(&mut head, bytes.len() as u64); // data area
        number(&mut head, 4); // file flags: CRC-32 present
        number(&mut head, bytes.len() as u64); // unpacked
        number(&mut head, u64::from(MODE));
        head.extend(crc32(bytes).to_le_bytes());
        number(&mut head, 0); // stored
        number(&mut head, 1); // host: Unix
        number(&mut head, name.len() as u64);
        head.extend(name.as_bytes());
        block5(&mut out, &head);
        out.extend(bytes);
    }
    block5(&mut out, &[5, 0, 0]);
    out
}

/// CRC (16 bits of CRC-32 over the rest), type, flags, size, fields.
fn block4(out: &mut Vec<u8>, kind: u8, flags: u16, fields: &[u8]) {
    let size = u16::try_from(7 + fields.len()).expect("a header fits in 64 KiB");
    let mut head = vec![kind];
    head.extend(flags.to_le_bytes());
    head.extend(size.to_le_bytes());
    head.extend(fields);
    out.extend((crc32(&head) as u16).to_le_bytes());
    out.extend(head);
}

/// CRC-32 over the rest, size, fields.
fn block5(out: &mut Vec<u8>, fields: &[u8]) {
    let mut head = Vec::new();
    number(&mut head, fields.len() as u64);
    head.extend(fields);
    out.extend(crc32(&head).to_le_bytes());
    out.extend(head);
}

/// RAR 5's numbers: seven bits a byte, low ones first, the high bit says that more follows.
fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// CRC-32 (IEEE 802.3).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_has_the_check_value_of_its_catalogue_entry() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn numbers_spread_over_bytes() {
        let mut out = Vec::new();
        number(&mut out, 127);
        number(&mut out, 128);
        number(&mut out, 300);
        assert_eq!(out, [0x7f, 0x80, 0x01, 0xac, 0x02]);
    }
}

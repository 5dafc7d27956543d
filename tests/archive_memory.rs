//! What hostile archives and pieces cost in memory and time. Alone in its file, so that nothing else is measured.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod certificate_pki;

use std::time::{Duration, Instant};

use certificate_pki::*;
use certsyncd::archive::{MAX_ARCHIVE_BYTES, unpack};
use certsyncd::certificate::{Bundle, MAX_PIECE_BYTES, MAX_TOTAL_BYTES};

/// Over what the process held before.
const MEMORY_KIB: u64 = 64 * 1024;
/// Generous: unoptimised, on a busy machine.
const TIME: Duration = Duration::from_secs(20);

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Runs `work` and holds it to the bounds.
fn bounded(what: &str, work: impl FnOnce()) {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, start) = (status("VmRSS:"), Instant::now());
    work();
    let (peak, time) = (status("VmHWM:").saturating_sub(before), start.elapsed());
    assert!(peak < MEMORY_KIB, "{what} took {peak} KiB");
    assert!(time < TIME, "{what} took {time:?}");
}

fn python(script: &str) -> Vec<u8> {
    run("python3", &["-c", &format!("import sys, io, struct, zlib, zipfile\nout = sys.stdout.buffer\n{script}")], b"")
}

/// `rar5-solid.rar` with another dictionary size in its file headers: 128 KiB shifted by `power`.
fn with_dictionary(power: u8) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rar/rar5-solid.rar");
    let script = format!(
        "
b = bytearray(open('{}', 'rb').read())
def v(at):
  n, shift = 0, 0
  while True:
    n |= (b[at] & 127) << shift; shift += 7; at += 1
    if b[at - 1] < 128: return n, at
at = 8
while at < len(b):
  size, body = v(at + 4); end = body + size
  kind, p = v(body); flags, p = v(p)
  extra, p = v(p) if flags & 1 else (0, p)
  data, p = v(p) if flags & 2 else (0, p)
  if kind == 2:
    file_flags, p = v(p); full, p = v(p); mode, p = v(p)
    p += (4 if file_flags & 2 else 0) + (4 if file_flags & 4 else 0)
    info, after = v(p)
    info = info & ~(15 << 10) | {power} << 10
    b[p:after] = bytes([info & 127 | 128, info >> 7])
    assert after == p + 2
    b[at:at + 4] = struct.pack('<I', zlib.crc32(b[at + 4:end]))
  at = end + data
out.write(b)",
        path.display()
    );
    python(&script)
}

#[test]
fn hostile_input_costs_little() {
    let many = python(
        "b = io.BytesIO()\nwith zipfile.ZipFile(b, 'w') as z:\n  for i in range(70000): z.writestr('%d' % i, b'')\nout.write(b.getvalue())",
    );
    bounded("70,000 entries", || assert!(unpack(&many).is_err()));

    let bomb = python(
        "b = io.BytesIO()\nwith zipfile.ZipFile(b, 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('a', bytes(1 << 29))\nout.write(b.getvalue())",
    );
    bounded("half a gigabyte of zeros", || assert!(unpack(&bomb).is_err()));

    let nested = python(
        "def z(n, d):\n  b = io.BytesIO()\n  with zipfile.ZipFile(b, 'w', zipfile.ZIP_DEFLATED) as f:\n    for i in range(16): f.writestr('%s%d' % (n, i), d)\n  return b.getvalue()\nd = z('a', bytes(60000))\nfor n in 'bcd': d = z(n, d)\nout.write(d)",
    );
    bounded("a bomb of archives in archives", || assert!(unpack(&nested).is_err()));

    let ends =
        [b"PK\x03\x04".as_slice(), &b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0".repeat(300_000)].concat();
    bounded("300,000 ends of directory", || assert!(unpack(&ends).is_err()));
    let ends =
        [b"PK\x03\x04".as_slice(), &b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0".repeat(250), &vec![0; 7 << 20]]
            .concat();
    bounded("250 ends of directory before 7 MiB", || assert!(unpack(&ends).is_err()));

    for magic in [b"PK\x03\x04".as_slice(), b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01\x00"] {
        for filler in [0u8, 0xff, b'P', 0x74] {
            let filled = [magic, &vec![filler; MAX_ARCHIVE_BYTES - magic.len()]].concat();
            bounded(&format!("{magic:?} and {filler:#x}"), || assert!(unpack(&filled).is_err()));
        }
    }

    // RAR 5: the real RAR's archive, made to ask for larger dictionaries; and RAR 4 with 256 MiB for PPMd.
    for (power, allowed) in [(0, true), (8, true), (9, false), (15, false)] {
        let archive = with_dictionary(power);
        bounded(&format!("a dictionary of 128 KiB << {power}"), || assert_eq!(unpack(&archive).is_ok(), allowed));
    }
    let ppmd = python(
        "def block(t, fl, f):\n  h = bytes([t]) + struct.pack('<HH', fl, 7 + len(f)) + f\n  return struct.pack('<H', zlib.crc32(h) & 0xffff) + h\nd = b'\\xaf\\xff' + bytes(range(256)) * 40\nf = struct.pack('<IIBIIBBHI', len(d), 500000, 3, 0, 0, 29, 0x33, 1, 0o100644) + b'a'\nout.write(b'Rar!\\x1a\\7\\0' + block(0x73, 0, bytes(6)) + block(0x74, 0x8000, f) + d + block(0x7b, 0x4000, b''))",
    );
    bounded("PPMd with 256 MiB", || assert!(unpack(&ppmd).is_err()));

    let dashes: Vec<_> =
        (0..MAX_TOTAL_BYTES / MAX_PIECE_BYTES).map(|_| piece("a", b"-----BEGIN CERTIFICATE-----".repeat(30_000))).collect();
    bounded("PEM that never ends", || assert!(Bundle::assemble(&dashes).is_err()));
    let deep: Vec<_> = (0..8).map(|_| piece("a", b"\x30\x80".repeat(60_000))).collect();
    bounded("DER that nests for ever", || assert!(Bundle::assemble(&deep).is_err()));
}

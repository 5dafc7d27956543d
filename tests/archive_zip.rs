//! Zip archives: Huawei's layouts, what other tools make, and what attackers make.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod certificate_pki;

use std::io::{Cursor, Write};
use std::process::Command;

use certificate_pki::*;
use certsyncd::archive::{
    Entry, Error, Kind, MAX_ARCHIVE_BYTES, MAX_ENTRIES, MAX_ENTRY_BYTES, MAX_NAME_BYTES, MAX_RATIO, MAX_TOTAL_BYTES,
    RATIO_FREE_BYTES, sniff, unpack,
};
use certsyncd::certificate::{Bundle, Error as CertificateError, Piece};
use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Stored)
}

fn deflated() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Deflated)
}

fn zip_of(entries: &[(&str, &[u8])], options: SimpleFileOptions) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

fn pieces(entries: Vec<Entry>) -> Vec<Piece> {
    entries.into_iter().map(|entry| Piece { name: entry.name, bytes: entry.bytes }).collect()
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn every_layout_of_huaweis_archive_gives_the_same_bundle() {
    let root = Authority::root("Root");
    let intermediate = root.below("Intermediate");
    let leaf = intermediate.leaf(&["*.example.com"]);
    let (key, rsa) = (leaf.key_pem(), b"\xfe\xed\xfe\xed\x00\x00\x00\x02\x00".as_slice());
    let (cert, ca, root_too) =
        (leaf.pem.as_bytes(), intermediate.pem.as_bytes(), [intermediate.pem.as_bytes(), root.pem.as_bytes()].concat());
    let (key, both) = (key.as_bytes(), [cert, ca].concat());
    let expected = assemble(&[&leaf.pem, &intermediate.pem, &leaf.key_pem()]).unwrap();
    let p = "scs1554192131150__.example.com";
    let own = |name: &str| name.replace('@', p);
    let full: Vec<(String, &[u8])> = vec![
        (own("@_Apache/@_ca.crt"), ca),
        (own("@_Apache/@_server.crt"), cert),
        (own("@_Apache/@_server.key"), key),
        (own("@_IIS/@_server.pfx"), b"\x30\x82\x0a\x00\x02\x01\x03\x30"),
        (own("@_IIS/keystorePass.txt"), b"Xy12345z"),
        (own("@_Nginx/@_server.crt"), &both),
        (own("@_Nginx/@_server.key"), key),
        (own("@_Tomcat/@_server.jks"), rsa),
        (own("@_Tomcat/keystorePass.txt"), b"Xy12345z"),
        (own("@_domain.csr"), b"-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"),
    ];
    let layouts: Vec<Vec<(String, &[u8])>> = vec![
        full.clone(),
        full.iter().rev().cloned().collect(),
        full.iter().filter(|(name, _)| name.contains("Nginx")).cloned().collect(),
        full.iter().filter(|(name, _)| name.contains("Apache")).cloned().collect(),
        vec![("Nginx/server.crt".to_owned(), &both), ("Nginx/server.key".to_owned(), key)],
        vec![
            ("Apache/ca.crt".to_owned(), &root_too),
            ("Apache/server.crt".to_owned(), cert),
            ("Apache/server.key".to_owned(), key),
            ("IIS/server.pfx".to_owned(), b"\x30\x03\x02\x01\x03"),
        ],
        vec![("server.crt".to_owned(), &both), ("server.key".to_owned(), key)],
        vec![("Nginx\\server.crt".to_owned(), &both), ("Nginx\\server.key".to_owned(), key)],
        vec![("证书/服务器.pem".to_owned(), &both), ("证书/私钥.key".to_owned(), key)],
    ];
    for (index, layout) in layouts.iter().enumerate() {
        let entries: Vec<(&str, &[u8])> = layout.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
        for options in [stored(), deflated()] {
            let unpacked = unpack(&zip_of(&entries, options)).unwrap();
            assert_eq!(unpacked.len(), entries.len());
            let bundle = Bundle::assemble(&pieces(unpacked)).unwrap_or_else(|error| panic!("layout {index}: {error}"));
            assert_eq!(bundle, expected, "layout {index}");
            assert!(bundle.gaps().is_empty());
        }
    }
}

#[test]
fn the_archive_of_a_users_own_csr_has_no_key() {
    let intermediate = Authority::root("Root").below("Intermediate");
    let leaf = intermediate.leaf(&["www.example.com"]);
    let both = [leaf.pem.as_bytes(), intermediate.pem.as_bytes()].concat();
    let archive = zip_of(&[("scs1554192131150_www.example.com_server.pem", &both)], deflated());
    let mut pieces = pieces(unpack(&archive).unwrap());
    assert!(matches!(Bundle::assemble(&pieces), Err(CertificateError::NoKey { .. })));
    pieces.push(piece("/etc/ssl/private/www.key", leaf.key_pem()));
    assert_eq!(Bundle::assemble(&pieces).unwrap().certificates().count(), 2);
}

#[test]
fn archives_of_other_tools_are_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("Nginx")).unwrap();
    std::fs::write(folder.path().join("Nginx/server.crt"), "certificate ".repeat(99)).unwrap();
    std::fs::write(folder.path().join("Nginx/server.key"), "key").unwrap();
    let python = "import shutil, sys; shutil.make_archive(sys.argv[1], 'zip', sys.argv[2])";
    let stream = "import sys, zipfile\nwith zipfile.ZipFile(sys.stdout.buffer, 'w', zipfile.ZIP_DEFLATED) as z:\n  z.mkdir('Nginx')\n  z.writestr('Nginx/server.crt', 'certificate ' * 99)\n  z.writestr('Nginx/server.key', 'key')\n";
    let zip64 = "import sys, io, zipfile\nb = io.BytesIO()\nwith zipfile.ZipFile(b, 'w') as z:\n  for n, t in (('Nginx/server.crt', b'certificate ' * 99), ('Nginx/server.key', b'key')):\n    with z.open(n, 'w', force_zip64=True) as f: f.write(t)\nsys.stdout.buffer.write(b.getvalue())\n";
    let made = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("made").to_str().unwrap().to_owned();
    made("python3", &["-c", python, &target, folder.path().to_str().unwrap()]);
    let archives = [
        ("python3, folder", std::fs::read(format!("{target}.zip")).unwrap()),
        ("python3, stream", made("python3", &["-c", &stream.replace("  z.mkdir('Nginx')\n", "")])),
        ("python3, zip64", made("python3", &["-c", zip64])),
        ("bsdtar", made("bsdtar", &["-c", "--format", "zip", "-f", "-", "Nginx"])),
        ("zip", made("zip", &["-q", "-r", "-", "Nginx"])),
        ("zip, stored", made("zip", &["-q", "-0", "-r", "-", "Nginx"])),
    ];
    for (tool, archive) in archives {
        let mut entries = unpack(&archive).unwrap_or_else(|error| panic!("{tool}: {error}"));
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(names(&entries), ["Nginx/server.crt", "Nginx/server.key"], "{tool}");
        assert_eq!(entries[0].bytes.as_slice(), "certificate ".repeat(99).as_bytes(), "{tool}");
        assert_eq!(entries[1].bytes.as_slice(), b"key", "{tool}");
    }
}

#[test]
fn the_first_bytes_decide() {
    let table: [(&[u8], Option<Kind>); 9] = [
        (b"PK\x03\x04rest", Some(Kind::Zip)),
        (b"PK\x05\x06", Some(Kind::Zip)),
        (b"Rar!\x1a\x07\x00", Some(Kind::Rar4)),
        (b"Rar!\x1a\x07\x01\x00", Some(Kind::Rar5)),
        (b"Rar!\x1a\x07", None),
        (b" PK\x03\x04", None),
        (b"PK", None),
        (b"", None),
        (b"{\"error_code\":\"SCM.0020\"}", None),
    ];
    for (bytes, kind) in table {
        assert_eq!(sniff(bytes), kind, "{bytes:?}");
    }
}

#[test]
fn what_is_no_archive_is_told_apart() {
    for (bytes, words) in [
        (b"".as_slice(), "found nothing"),
        (b"  <html>", "HTML"),
        (b"{\"error_code\":\"SCM.0020\"}", "JSON"),
        (b"-----BEGIN CERTIFICATE-----", "PEM"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x00\x01", "`0001`"),
    ] {
        let error = unpack(bytes).unwrap_err();
        assert!(error.to_string().contains(words) && error.kind() == "not_an_archive", "{error}");
    }
}

#[test]
fn empty_archives_and_archives_of_folders_hold_no_file() {
    assert!(matches!(unpack(&zip_of(&[], stored())), Err(Error::Empty)));
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.add_directory("Nginx/", stored()).unwrap();
    assert!(matches!(unpack(&writer.finish().unwrap().into_inner()), Err(Error::Empty)));
}

#[test]
fn limits_hold_at_their_edges() {
    let many = |count: usize| {
        let names: Vec<String> = (0..count).map(|i| format!("{i}.crt")).collect();
        let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
        unpack(&zip_of(&entries, stored()))
    };
    assert_eq!(many(MAX_ENTRIES).unwrap().len(), MAX_ENTRIES);
    assert!(matches!(many(MAX_ENTRIES + 1), Err(Error::TooManyEntries)));

    let largest = noise(MAX_ENTRY_BYTES as usize + 1);
    assert!(unpack(&zip_of(&[("a", &largest[1..])], deflated())).is_ok());
    assert!(matches!(unpack(&zip_of(&[("a", &largest)], deflated())), Err(Error::EntryTooLarge { .. })));

    let long = "n".repeat(MAX_NAME_BYTES + 1);
    assert!(unpack(&zip_of(&[(&long[1..], b"x")], stored())).is_ok());
    assert!(matches!(unpack(&zip_of(&[(&long, b"x")], stored())), Err(Error::NameTooLong { .. })));

    let padded = |length: usize| {
        let archive = zip_of(&[("a", b"x")], stored());
        let mut bytes = archive.clone();
        bytes.resize(length, 0);
        unpack(&bytes)
    };
    assert!(!matches!(padded(MAX_ARCHIVE_BYTES), Err(Error::TooLarge { .. })));
    assert!(matches!(padded(MAX_ARCHIVE_BYTES + 1), Err(Error::TooLarge { .. })));

    let zeros = vec![0; RATIO_FREE_BYTES as usize + 1];
    assert!(unpack(&zip_of(&[("a", &zeros[1..])], deflated())).is_ok(), "small ones may compress well");
    assert!(matches!(unpack(&zip_of(&[("a", &zeros)], deflated())), Err(Error::Bomb { .. })));
    let text: Vec<u8> =
        (0..(MAX_RATIO as usize * 40)).flat_map(|i| format!("line {} of a long text\n", i * i).into_bytes()).collect();
    assert!(text.len() as u64 > RATIO_FREE_BYTES && unpack(&zip_of(&[("a", &text)], deflated())).is_ok());
}

#[test]
fn all_entries_together_are_bounded() {
    // Half of each entry does not compress: within the ratio, and the archive stays small enough.
    let half: Vec<u8> = [noise(MAX_ENTRY_BYTES as usize / 2), vec![0; MAX_ENTRY_BYTES as usize / 2]].concat();
    let of = |count: usize, rest: usize| {
        let names: Vec<String> = (0..=count).map(|i| i.to_string()).collect();
        let mut entries: Vec<(&str, &[u8])> = names.iter().take(count).map(|name| (name.as_str(), half.as_slice())).collect();
        entries.push((names[count].as_str(), &half[..rest]));
        unpack(&zip_of(&entries, deflated()))
    };
    let count = (MAX_TOTAL_BYTES / MAX_ENTRY_BYTES) as usize;
    assert!(of(count, 0).is_ok());
    assert!(matches!(of(count, 1), Err(Error::TotalTooLarge)));
}

#[test]
fn seventy_thousand_entries_are_refused_before_they_are_read() {
    let script = "import sys, io, zipfile\nb = io.BytesIO()\nwith zipfile.ZipFile(b, 'w') as z:\n  for i in range(70000): z.writestr('%d' % i, b'')\nsys.stdout.buffer.write(b.getvalue())\n";
    let archive = run("python3", &["-c", script], b"");
    assert!(archive.len() < MAX_ARCHIVE_BYTES);
    assert!(matches!(unpack(&archive), Err(Error::TooManyEntries)));
}

#[test]
fn names_that_climb_out_are_refused() {
    for name in ["../evil", "a/../../evil", "/etc/passwd", "\\evil", "C:\\evil", "a\\..\\evil", ".."] {
        let mut archive = zip_of(&[(&"x".repeat(name.len()), b"x"), ("good.pem", b"y")], stored());
        let old = "x".repeat(name.len());
        for at in 0..archive.len() - name.len() {
            if archive[at..].starts_with(old.as_bytes()) && name.len() > 1 {
                archive[at..at + name.len()].copy_from_slice(name.as_bytes());
            }
        }
        let error = unpack(&archive).unwrap_err();
        assert!(matches!(error, Error::UnsafeName { .. }), "{name}: {error}");
    }
    assert!(unpack(&zip_of(&[("a..b/c...d", b"x")], stored())).is_ok(), "dots alone do not climb");
}

#[test]
fn control_characters_do_not_reach_a_terminal() {
    let entries = unpack(&zip_of(&[("a\x1b[2Jb\nc", b"x")], stored())).unwrap();
    assert_eq!(names(&entries), ["a\u{fffd}[2Jb\u{fffd}c"]);
}

#[test]
fn links_are_refused() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.add_symlink("server.key", "/etc/ssl/private/key.pem", stored()).unwrap();
    let error = unpack(&writer.finish().unwrap().into_inner()).unwrap_err();
    assert!(matches!(error, Error::NotAFile { .. }), "{error}");
    let pipe = "import sys, io, zipfile\nb = io.BytesIO()\nwith zipfile.ZipFile(b, 'w') as z:\n  i = zipfile.ZipInfo('pipe'); i.create_system = 3; i.external_attr = 0o010644 << 16; z.writestr(i, b'')\nsys.stdout.buffer.write(b.getvalue())\n";
    assert!(matches!(unpack(&run("python3", &["-c", pipe], b"")), Err(Error::NotAFile { .. })));
}

#[test]
fn encrypted_archives_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("server.key"), "key").unwrap();
    let output = Command::new("zip").args(["-q", "-P", "secret", "-", "server.key"]).current_dir(folder.path()).output().unwrap();
    let error = unpack(&output.stdout).unwrap_err();
    assert_eq!(error.to_string(), "archive is encrypted (`server.key`)");
    assert!(error.hint().unwrap().contains("export"));
}

#[test]
fn two_entries_of_one_name_are_refused() {
    let script = "import sys, io, warnings, zipfile\nwarnings.simplefilter('ignore')\nb = io.BytesIO()\nwith zipfile.ZipFile(b, 'w') as z:\n  z.writestr('server.key', b'one'); z.writestr('server.key', b'two')\nsys.stdout.buffer.write(b.getvalue())\n";
    assert!(matches!(unpack(&run("python3", &["-c", script], b"")), Err(Error::DuplicateName { .. })));
    let slashes = zip_of(&[("a/b", b"1"), ("a\\b", b"2")], stored());
    assert!(matches!(unpack(&slashes), Err(Error::DuplicateName { .. })));
}

/// Every directory entry points at the same bytes, as in the bombs of 2019 (David Fifield, "A better zip bomb").
#[test]
fn overlapping_entries_are_refused() {
    let script = "
import sys, io, struct, zlib
data = b'0' * 1000000
packed = zlib.compressobj(9, zlib.DEFLATED, -15); packed = packed.compress(data) + packed.flush()
crc = zlib.crc32(data)
quoted = sys.argv[1] == 'quoted'
out, central, count = b'', b'', 50
def local(name, method, size, full, crc): return struct.pack('<4sHHHHHIIIHH', b'PK\\3\\4', 20, 0, method, 0, 0, crc, size, full, len(name), 0) + name
def entry(name, method, size, full, crc, at): return struct.pack('<4sHHHHHHIIIHHHHHII', b'PK\\1\\2', 20, 20, 0, method, 0, 0, crc, size, full, len(name), 0, 0, 0, 0, 0, at) + name
if quoted:
    # Each file is a stored block that quotes the next local header, so headers and data overlap.
    blob, files = packed, []
    kernel = local(b'00', 8, len(packed), len(data), crc) + packed
    files.append((b'00', 8, len(packed), len(data), crc, kernel)); body = kernel; plain = data
    for i in range(1, count):
        name = b'%02d' % i
        head = body[:30 + 2]
        quote = b'\\0' + struct.pack('<HH', len(head), len(head) ^ 0xffff) + head
        plain = head + plain
        stream = quote + body[32:]
        c = zlib.crc32(plain)
        body = local(name, 8, len(stream) if True else 0, len(plain), c) + quote + body
        files.append((name, 8, len(body) - 32, len(plain), c, body))
    out = body
    for name, method, size, full, c, b in files: central += entry(name, method, size, full, c, len(out) - len(b))
else:
    out = local(b'00', 8, len(packed), len(data), crc) + packed
    for i in range(count): central += entry(b'%02d' % i, 8, len(packed), len(data), crc, 0)
end = struct.pack('<4sHHHHIIH', b'PK\\5\\6', 0, 0, count, count, len(central), len(out), 0)
sys.stdout.buffer.write(out + central + end)
";
    for kind in ["full", "quoted"] {
        let archive = run("python3", &["-c", script, kind], b"");
        let error = unpack(&archive).unwrap_err();
        assert!(matches!(error, Error::Overlap), "{kind}: {error}");
    }
}

#[test]
fn sizes_that_lie_are_found_out() {
    let archive = zip_of(&[("server.key", &noise(1000))], stored());
    let directory = archive.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let declare = |offset: usize, size: u32| {
        let mut lying = archive.clone();
        lying[directory + offset..directory + offset + 4].copy_from_slice(&size.to_le_bytes());
        unpack(&lying)
    };
    assert!(matches!(declare(24, 999), Err(Error::Damaged(_))), "unpacks to more than it says");
    assert!(matches!(declare(24, 1001), Err(Error::Damaged(_))), "unpacks to less than it says");
    assert!(matches!(declare(24, u32::MAX - 1), Err(Error::EntryTooLarge { .. })));
    assert!(declare(20, u32::MAX - 1).is_err(), "packed size beyond the archive");
    assert!(matches!(declare(16, 0), Err(Error::Damaged(_))), "wrong CRC-32");
}

#[test]
fn damage_is_an_error_and_never_a_part() {
    let archive = zip_of(&[("a.crt", &noise(500)), ("b.key", &[b'k'; 500])], deflated());
    for length in 0..archive.len() {
        assert!(unpack(&archive[..length]).is_err(), "cut off at {length}");
    }
    let expected: Vec<Vec<u8>> = unpack(&archive).unwrap().into_iter().map(|entry| entry.bytes.to_vec()).collect();
    for at in 0..archive.len() {
        let mut damaged = archive.clone();
        damaged[at] ^= 0x55;
        if let Ok(entries) = unpack(&damaged) {
            for entry in entries {
                assert!(expected.contains(&entry.bytes), "byte {at} changed what was unpacked");
            }
        }
    }
    let trailing = [archive.as_slice(), b"\r\n"].concat();
    assert_eq!(unpack(&trailing).unwrap().len(), 2, "what follows the end does no harm");
}

#[test]
fn other_compressions_are_refused_by_name() {
    let script = "import sys, io, zipfile\nb = io.BytesIO()\nwith zipfile.ZipFile(b, 'w', zipfile.ZIP_LZMA) as z: z.writestr('a', b'x' * 99)\nsys.stdout.buffer.write(b.getvalue())\n";
    let error = unpack(&run("python3", &["-c", script], b"")).unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)) && error.to_string().contains("`a`"), "{error}");
}

#[test]
fn archives_are_opened_one_level_deep() {
    let inner = zip_of(&[("server.key", b"key")], stored());
    let middle = zip_of(&[("inner.zip", &inner), ("server.crt", b"certificate")], stored());
    assert_eq!(names(&unpack(&middle).unwrap()), ["inner.zip/server.key", "server.crt"]);
    let outer = zip_of(&[("middle.bin", &middle)], deflated());
    let error = unpack(&outer).unwrap_err();
    assert!(matches!(&error, Error::Nested { name } if name == "middle.bin/inner.zip"), "{error}");
}

#[test]
fn nested_archives_share_the_limits() {
    let inner = |count: usize| {
        let names: Vec<String> = (0..count).map(|i| i.to_string()).collect();
        let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
        zip_of(&entries, stored())
    };
    let half = inner(MAX_ENTRIES / 2 - 1);
    assert_eq!(unpack(&zip_of(&[("a", &half), ("b", &half)], deflated())).unwrap().len(), MAX_ENTRIES - 2);
    let (more, two) = (inner(MAX_ENTRIES / 2), deflated());
    assert!(matches!(unpack(&zip_of(&[("a", &half), ("b", &more)], two)), Err(Error::TooManyEntries)));
}

#[test]
fn keys_of_entries_are_not_shown() {
    let entries = unpack(&zip_of(&[("server.key", b"very secret")], stored())).unwrap();
    assert_eq!(format!("{entries:?}"), "[Entry(server.key, 11 bytes)]");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), start in 0usize..3) {
        let magic: &[u8] = [b"PK\x03\x04".as_slice(), b"PK\x05\x06", b""][start];
        let _ = unpack(&[magic, &bytes].concat());
    }

    #[test]
    fn changed_archives_never_panic_nor_outgrow_the_limits(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        insert in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let inner = zip_of(&[("x", b"inner")], deflated());
        let mut archive = zip_of(&[("a.crt", &[b'a'; 900]), ("b.key", &noise(300)), ("c.zip", &inner)], deflated());
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        let middle = archive.len() / 2;
        archive.splice(middle..middle, insert);
        if let Ok(entries) = unpack(&archive) {
            let total: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
            prop_assert!(entries.len() <= MAX_ENTRIES && total as u64 <= MAX_TOTAL_BYTES);
        }
    }
}

//! RAR 4 and RAR 5: nothing free makes them, so a stored-only writer of both is below; what it makes is checked with `bsdtar`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod certificate_pki;

use std::process::Command;

use certificate_pki::*;
use certsyncd::archive::{Entry, Error, MAX_ENTRIES, MAX_ENTRY_BYTES, MAX_NAME_BYTES, MAX_TOTAL_BYTES, unpack};
use certsyncd::certificate::{Bundle, Piece};
use proptest::prelude::*;

/// CRC-32 (IEEE 802.3), as both formats have it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// One member; `flags`, `mode` and the sizes can lie.
#[derive(Clone)]
struct Member {
    name: Vec<u8>,
    bytes: Vec<u8>,
    unpacked: Option<u64>,
    crc: Option<u32>,
    flags: u64,
    unix_mode: Option<u32>,
    directory: bool,
    method: u8,
    extra: Vec<u8>,
}

fn member(name: &str, bytes: impl AsRef<[u8]>) -> Member {
    let (name, bytes) = (name.as_bytes().to_vec(), bytes.as_ref().to_vec());
    Member { name, bytes, unpacked: None, crc: None, flags: 0, unix_mode: None, directory: false, method: 0, extra: vec![] }
}

/// RAR 4 (technote.txt of RAR 4): marker, main header, one file header and its bytes for each member, end.
fn rar4(main_flags: u16, members: &[Member]) -> Vec<u8> {
    fn block(out: &mut Vec<u8>, kind: u8, flags: u16, fields: &[u8]) {
        let mut header = vec![kind];
        header.extend(flags.to_le_bytes());
        header.extend((7 + fields.len() as u16).to_le_bytes());
        header.extend(fields);
        out.extend((crc32(&header) as u16).to_le_bytes());
        out.extend(header);
    }
    let mut out = b"Rar!\x1a\x07\x00".to_vec();
    block(&mut out, 0x73, main_flags, &[0; 6]);
    for member in members {
        let mut fields = (member.bytes.len() as u32).to_le_bytes().to_vec();
        fields.extend((member.unpacked.unwrap_or(member.bytes.len() as u64) as u32).to_le_bytes());
        fields.push(if member.unix_mode.is_some() { 3 } else { 2 });
        fields.extend(member.crc.unwrap_or_else(|| crc32(&member.bytes)).to_le_bytes());
        fields.extend(0x5c7a_4200_u32.to_le_bytes());
        fields.extend([20, 0x30 + member.method]);
        fields.extend((member.name.len() as u16).to_le_bytes());
        fields.extend(member.unix_mode.unwrap_or(if member.directory { 0x10 } else { 0x20 }).to_le_bytes());
        fields.extend(&member.name);
        let directory = if member.directory { 0xe0 } else { 0 };
        block(&mut out, 0x74, 0x8000 | directory | member.flags as u16, &fields);
        out.extend(&member.bytes);
    }
    block(&mut out, 0x7b, 0x4000, &[]);
    out
}

/// RAR 5 (technote of RAR 5): signature, main header, one file header and its bytes for each member, end.
fn rar5(main_flags: u64, members: &[Member]) -> Vec<u8> {
    fn number(mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            out.push(if value > 0 { low | 0x80 } else { low });
            if value == 0 {
                return out;
            }
        }
    }
    fn block(out: &mut Vec<u8>, fields: &[&[u8]]) {
        let fields = fields.concat();
        let header = [number(fields.len() as u64), fields].concat();
        out.extend(crc32(&header).to_le_bytes());
        out.extend(header);
    }
    let mut out = b"Rar!\x1a\x07\x01\x00".to_vec();
    block(&mut out, &[&number(1), &number(0), &number(main_flags)]);
    for member in members {
        let crc = member.crc.unwrap_or_else(|| crc32(&member.bytes)).to_le_bytes();
        let flags = 2 | member.flags | if member.extra.is_empty() { 0 } else { 1 };
        let extra_size = if member.extra.is_empty() { vec![] } else { number(member.extra.len() as u64) };
        block(
            &mut out,
            &[
                &number(2),
                &number(flags),
                &extra_size,
                &number(member.bytes.len() as u64),
                &number(if member.directory { 1 } else { 4 }),
                &number(member.unpacked.unwrap_or(member.bytes.len() as u64)),
                &number(u64::from(member.unix_mode.unwrap_or(if member.directory { 0o040_755 } else { 0o100_644 }))),
                if member.directory { &[] } else { &crc },
                &number(u64::from(member.method) << 7),
                &number(1),
                &number(member.name.len() as u64),
                &member.name,
                &member.extra,
            ],
        );
        out.extend(&member.bytes);
    }
    block(&mut out, &[&number(5), &number(0), &number(0)]);
    out
}

/// Both formats of the same members; RAR 4 has `\` between folders.
fn both(members: &[Member]) -> [(&'static str, Vec<u8>); 2] {
    let dos: Vec<Member> = members
        .iter()
        .cloned()
        .map(|mut member| {
            member.name.iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = b'\\');
            member
        })
        .collect();
    [("RAR 4", rar4(0, &dos)), ("RAR 5", rar5(0, members))]
}

fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

fn folder(name: &str) -> Member {
    Member { directory: true, ..member(name, b"") }
}

#[test]
fn our_archives_are_real_ones() {
    let members = [folder("Nginx"), member("Nginx/server.crt", "certificate ".repeat(99)), member("Nginx/server.key", b"key")];
    for (format, archive) in both(&members) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive.rar");
        std::fs::write(&path, &archive).unwrap();
        let bsdtar = |args: &[&str]| {
            let output = Command::new("bsdtar").args(args).arg(&path).current_dir(folder.path()).output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{format}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let listing = bsdtar(&["-tf"]);
        let listed: Vec<&str> = listing.lines().filter(|line| !line.ends_with('/') && *line != "Nginx").collect();
        assert_eq!(listed, ["Nginx/server.crt", "Nginx/server.key"], "{format}");
        bsdtar(&["-xf"]);
        let theirs = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        let ours = unpack(&archive).unwrap_or_else(|error| panic!("{format}: {error}"));
        assert_eq!(names(&ours), ["Nginx/server.crt", "Nginx/server.key"], "{format}");
        for entry in ours {
            assert_eq!(entry.bytes.as_slice(), theirs(&entry.name), "{format}");
        }
    }
}

/// The seed of this project calls Huawei's archive a RAR.
#[test]
fn huaweis_archive_as_rar_gives_a_bundle() {
    let intermediate = Authority::root("Root").below("Intermediate");
    let leaf = intermediate.leaf(&["www.example.com"]);
    let full = [leaf.pem.as_str(), &intermediate.pem].concat();
    let expected = assemble(&[&full, &leaf.key_pem()]).unwrap();
    let members = [
        folder("scs_www_Apache"),
        member("scs_www_Apache/scs_www_ca.crt", &intermediate.pem),
        member("scs_www_Apache/scs_www_server.crt", &leaf.pem),
        member("scs_www_Apache/scs_www_server.key", leaf.key_pem()),
        member("scs_www_IIS/scs_www_server.pfx", b"\x30\x03\x02\x01\x03"),
        member("scs_www_Nginx/scs_www_server.crt", &full),
        member("scs_www_Nginx/scs_www_server.key", leaf.key_pem()),
    ];
    for (format, archive) in both(&members) {
        let pieces: Vec<Piece> = unpack(&archive).unwrap().into_iter().map(|e| Piece { name: e.name, bytes: e.bytes }).collect();
        assert_eq!(Bundle::assemble(&pieces).unwrap(), expected, "{format}");
    }
}

fn fixture(name: &str) -> (std::path::PathBuf, Vec<u8>) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rar").join(name);
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

#[test]
fn archives_of_the_real_rar_are_read_as_libarchive_reads_them() {
    for name in ["rar4-compressed", "rar4-comment", "rar4-ppmd", "rar5-solid", "rar5-stored", "rar5-recovery-comment-quickopen"] {
        let (path, archive) = fixture(&format!("{name}.rar"));
        let entries = unpack(&archive).unwrap_or_else(|error| panic!("{name}: {error}"));
        let theirs = |args: &[&str]| Command::new("bsdtar").args(args).output().unwrap().stdout;
        let path = path.to_str().unwrap();
        let listing = String::from_utf8(theirs(&["-tf", path])).unwrap();
        assert_eq!(names(&entries), listing.lines().collect::<Vec<_>>(), "{name}");
        for entry in &entries {
            assert_eq!(entry.bytes.as_slice(), theirs(&["-xOf", path, &entry.name]), "{name}: {}", entry.name);
            assert!(!entry.bytes.is_empty());
        }
    }
    let (_, solid) = fixture("rar4-solid.rar");
    assert_eq!(names(&unpack(&solid).unwrap()), ["one.txt", "two.txt"], "libarchive does not read this one");
}

#[test]
fn archives_of_the_real_rar_that_we_do_not_read_are_refused_in_words() {
    for (name, kind) in [
        ("rar4-encrypted", "archive_encrypted"),
        ("rar4-encrypted-headers", "archive_encrypted"),
        ("rar5-encrypted", "archive_encrypted"),
        ("rar5-encrypted-headers", "archive_encrypted"),
        ("rar4-volume", "archive_unsupported"),
        ("rar5-volume", "archive_unsupported"),
        ("rar5-ratio-above-100", "archive_hostile"),
    ] {
        let error = unpack(&fixture(&format!("{name}.rar")).1).unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
    }
}

#[test]
fn limits_hold_at_their_edges() {
    let many = |count: usize| -> Vec<Member> { (0..count).map(|i| member(&i.to_string(), b"x")).collect() };
    let largest = vec![7; MAX_ENTRY_BYTES as usize + 1];
    let long = "n".repeat(MAX_NAME_BYTES + 1);
    for index in 0..2 {
        let unpack = |members: &[Member]| {
            let (format, archive) = &both(members)[index];
            (*format, unpack(archive))
        };
        let (format, result) = unpack(&many(MAX_ENTRIES));
        assert_eq!(result.unwrap().len(), MAX_ENTRIES, "{format}");
        assert!(matches!(unpack(&many(MAX_ENTRIES + 1)).1, Err(Error::TooManyEntries)), "{format}");
        assert!(matches!(unpack(&many(MAX_ENTRIES + 100)).1, Err(Error::TooManyEntries)), "{format}");
        assert!(unpack(&[member("a", &largest[1..])]).1.is_ok(), "{format}");
        assert!(matches!(unpack(&[member("a", &largest)]).1, Err(Error::EntryTooLarge { .. })), "{format}");
        assert!(unpack(&[member(&long[1..], b"x")]).1.is_ok(), "{format}");
        assert!(matches!(unpack(&[member(&long, b"x")]).1, Err(Error::NameTooLong { .. })), "{format}");
        // Stored entries cannot outgrow the archive, so the total is met only by lies.
        let lies: Vec<Member> = (0..=MAX_TOTAL_BYTES / MAX_ENTRY_BYTES)
            .map(|i| Member { unpacked: Some(MAX_ENTRY_BYTES), method: 3, ..member(&i.to_string(), vec![1; 20_000]) })
            .collect();
        assert!(unpack(&lies).1.is_err(), "{format}");
    }
}

#[test]
fn hostile_members_are_refused() {
    let name = |name: &str| vec![member("good.pem", b"x"), member(name, b"x")];
    for index in 0..2 {
        let error = |members: &[Member]| {
            let (format, archive) = &both(members)[index];
            unpack(archive).map_err(|error| (format, error)).expect_err("refused").1
        };
        for bad in ["../evil", "a/../../evil", "/etc/passwd", "C:/evil"] {
            assert!(matches!(error(&name(bad)), Error::UnsafeName { .. }), "{bad}");
        }
        let twice = [member("server.key", b"one"), member("server.key", b"two")];
        assert!(matches!(error(&twice), Error::DuplicateName { .. }));
        let wrong = Member { crc: Some(1), ..member("a", b"x") };
        assert!(matches!(error(&[wrong]), Error::Damaged(_)));
        for lie in [0, 2, 500] {
            let lying = Member { unpacked: Some(lie), ..member("a", b"x") };
            assert!(matches!(error(&[lying]), Error::Damaged(_)), "{lie}");
        }
        let bomb = Member { unpacked: Some(MAX_ENTRY_BYTES), ..member("a", vec![0; 100]) };
        assert!(matches!(error(&[bomb]), Error::Bomb { .. }));
        assert!(matches!(error(&[]), Error::Empty));
        assert!(matches!(error(&[folder("Nginx")]), Error::Empty));
    }
}

#[test]
fn links_are_refused() {
    let link = Member { unix_mode: Some(0o120_777), ..member("server.key", b"/etc/ssl/private/key.pem") };
    assert!(matches!(unpack(&rar4(0, &[link])), Err(Error::NotAFile { .. })));
    // File system redirection record: size, type 5, Unix symlink 1, flags 0, length, target.
    let target = b"/etc/shadow";
    let record = [&[5, 1, 0, target.len() as u8][..], target].concat();
    let extra = [&[record.len() as u8][..], &record].concat();
    let link = Member { extra, ..member("server.key", b"") };
    assert!(matches!(unpack(&rar5(0, &[link])), Err(Error::NotAFile { .. })));
}

#[test]
fn encrypted_and_multi_volume_archives_are_refused_in_words() {
    let locked = |flags| Member { flags, ..member("server.key", vec![1; 16]) };
    assert!(matches!(unpack(&rar4(0, &[locked(0x04)])), Err(Error::Encrypted { .. })));
    // Encryption record: version 0, flags 0, count 15, salt, initialisation vector.
    let record = [&[1, 0, 0, 15][..], &[7; 32]].concat();
    let extra = [&[record.len() as u8][..], &record].concat();
    let error = unpack(&rar5(0, &[Member { extra, ..member("server.key", vec![1; 16]) }])).unwrap_err();
    assert!(matches!(error, Error::Encrypted { .. }), "{error}");
    assert!(error.hint().unwrap().contains("export"));
    // Encrypted headers.
    assert!(matches!(unpack(&rar4(0x80, &[member("a", b"x")])), Err(Error::Encrypted { .. })));

    assert!(matches!(unpack(&rar4(0x01, &[member("a", b"x")])), Err(Error::MultiVolume)));
    assert!(matches!(unpack(&rar5(0x01, &[member("a", b"x")])), Err(Error::MultiVolume)));
    assert!(matches!(unpack(&rar4(0, &[locked(0x02)])), Err(Error::MultiVolume)));
    assert!(matches!(unpack(&rar5(0, &[locked(0x10)])), Err(Error::MultiVolume)));
}

#[test]
fn damage_is_an_error_and_never_a_part() {
    let members = [member("a.crt", vec![b'c'; 300]), member("b.key", vec![b'k'; 300])];
    for (format, archive) in both(&members) {
        let expected: Vec<Vec<u8>> = members.iter().map(|member| member.bytes.clone()).collect();
        for length in 0..archive.len() {
            assert!(unpack(&archive[..length]).is_err(), "{format} cut off at {length}");
        }
        for at in 0..archive.len() {
            let mut damaged = archive.clone();
            damaged[at] ^= 0x55;
            if let Ok(entries) = unpack(&damaged) {
                assert!(
                    entries.iter().all(|entry| expected.contains(&entry.bytes)),
                    "{format}: byte {at} changed what was unpacked"
                );
            }
        }
        let trailing = [archive.as_slice(), b"\r\n"].concat();
        assert_eq!(unpack(&trailing).unwrap().len(), 2, "{format}: what follows the end does no harm");
    }
}

#[test]
fn archives_are_opened_one_level_deep() {
    let inner = rar5(0, &[member("server.key", b"key")]);
    let middle = rar4(0, &[member("inner.rar", &inner)]);
    assert_eq!(names(&unpack(&middle).unwrap()), ["inner.rar/server.key"]);
    assert!(matches!(unpack(&rar5(0, &[member("middle.rar", &middle)])), Err(Error::Nested { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), five: bool) {
        let magic: &[u8] = if five { b"Rar!\x1a\x07\x01\x00" } else { b"Rar!\x1a\x07\x00" };
        let _ = unpack(&[magic, &bytes].concat());
    }

    /// Headers with a right checksum, so that the fields behind it are reached.
    #[test]
    fn odd_members_never_panic_nor_outgrow_the_limits(
        name in prop::collection::vec(any::<u8>(), 0..40),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        unpacked in prop::option::of(prop_oneof![any::<u64>(), 0u64..2_000_000]),
        flags: u16, main: u8, method in 0u8..8, mode in prop::option::of(any::<u32>()), directory: bool,
        extra in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let odd = Member { name, bytes, unpacked, crc: None, flags: 0, unix_mode: mode, directory, method, extra };
        let four = Member { flags: u64::from(flags), ..odd.clone() };
        let five = Member { flags: u64::from(flags) & !3, ..odd.clone() };
        for archive in [rar4(u16::from(main), &[four]), rar5(u64::from(main), &[five]), rar4(0, std::slice::from_ref(&odd)), rar5(0, &[odd])] {
            if let Ok(entries) = unpack(&archive) {
                let total: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
                prop_assert!(entries.len() <= MAX_ENTRIES && total as u64 <= MAX_TOTAL_BYTES);
            }
        }
    }
}

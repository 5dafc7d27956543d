//! Archives: bytes in, named entries out, all in memory.
//!
//! Start at [`unpack`]. The first bytes decide what an archive is, never its name or content type: Huawei's documents promise a
//! RAR, its console hands out a zip. No name from an archive is ever used as a path; it is a label for messages. Everything is
//! bounded by the constants below, and sizes that an archive declares are not believed. Fails with [`Error`]; whatever looks like
//! an attack (a link, a name that climbs out, overlapping entries) is refused as a whole rather than skipped.
//!
//! Work here is CPU only: call it from `spawn_blocking`, so that a parser's panic is one certificate's failure.

mod rar;
mod zip;

use std::collections::BTreeSet;

use zeroize::Zeroizing;

/// Bytes of one archive. A certificate's archive is some 30 KiB.
pub const MAX_ARCHIVE_BYTES: usize = 8 * 1024 * 1024;
/// Files and folders of one archive, nested ones included. A certificate's archive has about a dozen.
pub const MAX_ENTRIES: usize = 256;
/// Unpacked bytes of one entry.
pub const MAX_ENTRY_BYTES: u64 = 1024 * 1024;
/// Unpacked bytes of all entries together, nested ones included.
pub const MAX_TOTAL_BYTES: u64 = 8 * 1024 * 1024;
/// How many times larger than packed an entry may be; keys and certificates do not even halve.
pub const MAX_RATIO: u64 = 100;
/// Entries up to this size may have any ratio: a small file of one letter is no bomb.
pub const RATIO_FREE_BYTES: u64 = 64 * 1024;
/// Bytes of an entry's name, folders included.
pub const MAX_NAME_BYTES: usize = 512;
/// Archives inside the archive that are opened, one level below the other: an archive in the archive, but none within that.
pub const MAX_NESTING: usize = 1;

/// A file of an archive.
pub struct Entry {
    /// Its name with folders, `/` between them; those of a nested archive begin with that archive's name. A label, never a path.
    pub name: String,
    /// Its bytes; may hold a key.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({}, {} bytes)", self.name, self.bytes.len())
    }
}

/// What an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Zip (APPNOTE.TXT), empty and split ones included, which [`unpack`] then refuses in words.
    Zip,
    /// RAR 1.5 to 4.
    Rar4,
    /// RAR 5 and later.
    Rar5,
}

/// What `bytes` are by their first ones; `None`: no archive we read.
pub fn sniff(bytes: &[u8]) -> Option<Kind> {
    const SIGNATURES: [(&[u8], Kind); 5] = [
        (b"PK\x03\x04", Kind::Zip),
        (b"PK\x05\x06", Kind::Zip),
        (b"PK\x07\x08", Kind::Zip),
        (b"Rar!\x1a\x07\x00", Kind::Rar4),
        (b"Rar!\x1a\x07\x01\x00", Kind::Rar5),
    ];
    SIGNATURES.iter().find(|(signature, _)| bytes.starts_with(signature)).map(|(_, kind)| *kind)
}

/// Every regular file of the archive, in its order; folders are left out, archives inside are opened one level deep.
pub fn unpack(bytes: &[u8]) -> Result<Vec<Entry>, Error> {
    let mut budget = Budget { entries: MAX_ENTRIES, bytes: MAX_TOTAL_BYTES, names: BTreeSet::new() };
    let entries = open(bytes, "", 0, &mut budget)?;
    if entries.is_empty() { Err(Error::Empty) } else { Ok(entries) }
}

/// Why an archive gives no entries.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The first bytes are those of no archive we read; what they look like instead.
    #[error("expected a zip or RAR archive, found {0}")]
    NotAnArchive(String),
    /// Longer than [`MAX_ARCHIVE_BYTES`].
    #[error("archive is too large: {bytes} bytes, at most {MAX_ARCHIVE_BYTES} are read")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// No file in it.
    #[error("archive holds no file")]
    Empty,
    /// More than [`MAX_ENTRIES`].
    #[error("archive holds too many entries: at most {MAX_ENTRIES} are read")]
    TooManyEntries,
    /// One entry above [`MAX_ENTRY_BYTES`].
    #[error("entry `{name}` is too large: at most {MAX_ENTRY_BYTES} bytes are unpacked")]
    EntryTooLarge {
        /// Which.
        name: String,
    },
    /// All entries together above [`MAX_TOTAL_BYTES`].
    #[error("archive unpacks to too much: at most {MAX_TOTAL_BYTES} bytes are unpacked")]
    TotalTooLarge,
    /// One entry above [`MAX_RATIO`].
    #[error("entry `{name}` is packed more than {MAX_RATIO} to one, as only a decompression bomb is")]
    Bomb {
        /// Which.
        name: String,
    },
    /// A name longer than [`MAX_NAME_BYTES`].
    #[error("an entry's name is too long: {bytes} bytes, at most {MAX_NAME_BYTES} are read")]
    NameTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A name that is absolute or climbs out (`..`).
    #[error("entry `{name}` names a place outside of the archive")]
    UnsafeName {
        /// Which.
        name: String,
    },
    /// A link, device or pipe.
    #[error("entry `{name}` is not a regular file")]
    NotAFile {
        /// Which.
        name: String,
    },
    /// Two entries of one name.
    #[error("archive holds more than one entry of one name{}", named(.name))]
    DuplicateName {
        /// Which, where it is known.
        name: Option<String>,
    },
    /// Entries that share bytes, as only a bomb's do.
    #[error("archive's entries overlap")]
    Overlap,
    /// Under a password.
    #[error("archive is encrypted{}", named(.name))]
    Encrypted {
        /// Which entry; `None`: the headers.
        name: Option<String>,
    },
    /// One part of several.
    #[error("archive is one part of a multi-volume archive")]
    MultiVolume,
    /// A compression method or a version that we do not read.
    #[error("archive uses what is not supported: {0}")]
    Unsupported(String),
    /// An archive in an archive in an archive.
    #[error("entry `{name}` is an archive nested too deep")]
    Nested {
        /// Which.
        name: String,
    },
    /// Cut off, a wrong checksum, or otherwise not what the format says.
    #[error("archive is damaged: {0}")]
    Damaged(String),
}

impl Error {
    /// A stable word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::NotAnArchive(_) => "not_an_archive",
            Error::Empty => "archive_empty",
            Error::TooLarge { .. }
            | Error::TooManyEntries
            | Error::EntryTooLarge { .. }
            | Error::TotalTooLarge
            | Error::NameTooLong { .. } => "archive_limit",
            Error::Bomb { .. }
            | Error::UnsafeName { .. }
            | Error::NotAFile { .. }
            | Error::DuplicateName { .. }
            | Error::Overlap
            | Error::Nested { .. } => "archive_hostile",
            Error::Encrypted { .. } => "archive_encrypted",
            Error::MultiVolume | Error::Unsupported(_) => "archive_unsupported",
            Error::Damaged(_) => "archive_damaged",
        }
    }

    /// Whether another download may bring a whole one: only damage in transit passes by itself.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Damaged(_))
    }

    /// What would mend it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NotAnArchive(_) => Some("what came is no archive; see whether a proxy or a login page answered".to_owned()),
            Error::Encrypted { .. } | Error::MultiVolume | Error::Unsupported(_) => {
                Some("use `api = \"export\"` for this provider: it brings PEM instead of an archive".to_owned())
            }
            _ => None,
        }
    }
}

/// What may still be unpacked; shared with nested archives.
struct Budget {
    entries: usize,
    bytes: u64,
    names: BTreeSet<String>,
}

impl Budget {
    /// Charges one entry (a file, a folder) before anything of it is read.
    fn entry(&mut self) -> Result<(), Error> {
        self.entries = self.entries.checked_sub(1).ok_or(Error::TooManyEntries)?;
        Ok(())
    }

    /// Charges the size that an entry declares, and judges it.
    fn file(&mut self, name: &str, packed: u64, unpacked: u64) -> Result<(), Error> {
        if unpacked > MAX_ENTRY_BYTES {
            return Err(Error::EntryTooLarge { name: name.to_owned() });
        }
        if unpacked > RATIO_FREE_BYTES && unpacked > packed.saturating_mul(MAX_RATIO) {
            return Err(Error::Bomb { name: name.to_owned() });
        }
        if !self.names.insert(name.to_owned()) {
            return Err(Error::DuplicateName { name: Some(name.to_owned()) });
        }
        self.bytes = self.bytes.checked_sub(unpacked).ok_or(Error::TotalTooLarge)?;
        Ok(())
    }
}

/// Opens one archive; `within` is the label of the archive that it lies in.
fn open(bytes: &[u8], within: &str, depth: usize, budget: &mut Budget) -> Result<Vec<Entry>, Error> {
    if bytes.len() > MAX_ARCHIVE_BYTES {
        return Err(Error::TooLarge { bytes: bytes.len() });
    }
    let entries = match sniff(bytes) {
        Some(Kind::Zip) => zip::read(bytes, within, budget)?,
        Some(Kind::Rar4 | Kind::Rar5) => rar::read(bytes, within, budget)?,
        None => return Err(Error::NotAnArchive(describe(bytes))),
    };
    let mut all = Vec::with_capacity(entries.len());
    for entry in entries {
        if sniff(&entry.bytes).is_none() {
            all.push(entry);
        } else if depth < MAX_NESTING {
            all.extend(open(&entry.bytes, &entry.name, depth + 1, budget)?);
        } else {
            return Err(Error::Nested { name: entry.name });
        }
    }
    Ok(all)
}

/// The label of an entry: `\` (RAR 4, Windows tools) becomes `/`, what is no printable character becomes `�`.
fn label(raw: &[u8], within: &str) -> Result<String, Error> {
    if raw.len() > MAX_NAME_BYTES {
        return Err(Error::NameTooLong { bytes: raw.len() });
    }
    let text = String::from_utf8_lossy(raw).replace('\\', "/");
    let name: String = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    let drive = name.get(1..2) == Some(":");
    if name.is_empty() || name.starts_with('/') || drive || name.split('/').any(|part| part == "..") {
        return Err(Error::UnsafeName { name });
    }
    Ok(if within.is_empty() { name } else { format!("{within}/{name}") })
}

/// The file type bits of a Unix mode say "regular file", or nothing at all.
fn is_regular(mode: u32) -> bool {
    matches!(mode & 0o170_000, 0 | 0o100_000)
}

/// What the bytes look like instead, for people.
fn describe(bytes: &[u8]) -> String {
    let text: Vec<u8> = bytes.iter().copied().skip_while(u8::is_ascii_whitespace).take(16).collect();
    match text.first() {
        None => "nothing".to_owned(),
        Some(b'<') => "an HTML or XML page".to_owned(),
        Some(b'{' | b'[') => "JSON".to_owned(),
        Some(b'-') if text.starts_with(b"-----BEGIN ") => "PEM".to_owned(),
        _ if bytes.starts_with(b"7z\xbc\xaf\x27\x1c") => "a 7-Zip archive".to_owned(),
        _ if bytes.starts_with(b"\x1f\x8b") => "gzip".to_owned(),
        Some(_) => format!("bytes that start `{}`", hex::encode(text.get(..8).unwrap_or(&text))),
    }
}

fn named(name: &Option<String>) -> String {
    name.as_ref().map(|name| format!(" (`{name}`)")).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget { entries: 1, bytes: 2 * MAX_ENTRY_BYTES, names: BTreeSet::new() }
    }

    #[test]
    fn the_ratio_is_judged_above_the_free_size() {
        let (free, packed) = (RATIO_FREE_BYTES, 1000);
        assert!(budget().file("a", 1, free).is_ok());
        assert!(matches!(budget().file("a", 1, free + 1), Err(Error::Bomb { .. })));
        assert!(budget().file("a", packed, packed * MAX_RATIO).is_ok());
        assert!(matches!(budget().file("a", packed, packed * MAX_RATIO + 1), Err(Error::Bomb { .. })));
        assert!(budget().file("a", u64::MAX, MAX_ENTRY_BYTES).is_ok());
    }

    #[test]
    fn what_was_charged_is_gone() {
        let mut budget = budget();
        assert!(budget.entry().is_ok());
        assert!(matches!(budget.entry(), Err(Error::TooManyEntries)));
        let full = MAX_ENTRY_BYTES;
        assert!(budget.file("a", full, full).is_ok() && budget.file("b", full, full).is_ok());
        assert!(matches!(budget.file("c", 1, 1), Err(Error::TotalTooLarge)));
        assert!(matches!(budget.file("a", 0, 0), Err(Error::DuplicateName { .. })));
    }

    #[test]
    fn labels_are_plain() {
        assert_eq!(label(b"Nginx\\server.key", "").unwrap(), "Nginx/server.key");
        assert_eq!(label(b"a\xff\x07", "x.zip").unwrap(), "x.zip/a\u{fffd}\u{fffd}");
        for raw in [b"".as_slice(), b"/a", b"\\a", b"..", b"a/..", b"..\\a", b"c:a"] {
            assert!(matches!(label(raw, ""), Err(Error::UnsafeName { .. })), "{raw:?}");
        }
    }

    #[test]
    fn only_regular_modes_are_files() {
        for (mode, expected) in
            [(0, true), (0o644, true), (0o100_600, true), (0o120_777, false), (0o020_600, false), (0o040_755, false)]
        {
            assert_eq!(is_regular(mode), expected, "{mode:o}");
        }
    }
}

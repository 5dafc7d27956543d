//! Zip through the crate `zip`, under the limits of [`super`].
//!
//! Start at [`read`]. The crate believes the central directory; so the bytes are scanned first for how many directory entries
//! they can hold at most, which bounds what the crate allocates, and overlapping entries are refused before one is unpacked.

use std::io::{Cursor, Read};

use zeroize::Zeroizing;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::{Budget, Entry, Error, MAX_ENTRIES, is_regular, label};

/// Central directory file header, APPNOTE.TXT 4.3.12.
const DIRECTORY_ENTRY: &[u8] = b"PK\x01\x02";
/// End of central directory record, APPNOTE.TXT 4.3.16.
const DIRECTORY_END: &[u8] = b"PK\x05\x06";

/// Every regular file, in the directory's order.
pub(super) fn read(bytes: &[u8], within: &str, budget: &mut Budget) -> Result<Vec<Entry>, Error> {
    if bytes.starts_with(b"PK\x07\x08") {
        return Err(Error::MultiVolume);
    }
    if count(bytes, DIRECTORY_ENTRY) > MAX_ENTRIES || count(bytes, DIRECTORY_END) > MAX_ENTRIES {
        return Err(Error::TooManyEntries);
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    if archive.has_duplicate_names() {
        return Err(Error::DuplicateName { name: None });
    }
    if archive.has_overlapping_entries().map_err(broken)? {
        return Err(Error::Overlap);
    }
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        entries.extend(entry(&mut archive, index, within, budget)?);
    }
    Ok(entries)
}

/// One entry; `None` for a folder.
fn entry(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    index: usize,
    within: &str,
    budget: &mut Budget,
) -> Result<Option<Entry>, Error> {
    budget.entry()?;
    let facts = archive.by_index_data(index).map_err(broken)?;
    let name = match facts.name() {
        Ok(name) => label(name.as_bytes(), within)?,
        Err(_) => label(facts.name_raw(), within)?,
    };
    if facts.is_dir() {
        return Ok(None);
    }
    if facts.is_symlink() || !facts.unix_mode().is_none_or(is_regular) {
        return Err(Error::NotAFile { name });
    }
    if facts.encrypted() {
        return Err(Error::Encrypted { name: Some(name) });
    }
    if !matches!(facts.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
        return Err(Error::Unsupported(format!("{} in entry `{name}`", facts.compression())));
    }
    let size = facts.size();
    budget.file(&name, facts.compressed_size(), size)?;
    let bytes = content(archive, index, &name, size)?;
    Ok(Some(Entry { name, bytes }))
}

/// The entry's bytes, which must be as many as declared; the buffer is made once, so that no copy of a key is left behind.
fn content(archive: &mut ZipArchive<Cursor<&[u8]>>, index: usize, name: &str, size: u64) -> Result<Zeroizing<Vec<u8>>, Error> {
    const SPARE: usize = 64;
    let file = archive.by_index(index).map_err(broken)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + SPARE));
    let read = file.take(size + 1).read_to_end(&mut bytes).map_err(|why| Error::Damaged(format!("entry `{name}`: {why}")))?;
    if read as u64 != size {
        return Err(Error::Damaged(format!("entry `{name}` is not as long as it says")));
    }
    Ok(bytes)
}

/// How often `signature` occurs.
fn count(bytes: &[u8], signature: &[u8]) -> usize {
    bytes.windows(signature.len()).filter(|window| *window == signature).count()
}

fn broken(error: ZipError) -> Error {
    match error {
        ZipError::UnsupportedArchive(what) if what.contains("multi-disk") => Error::MultiVolume,
        ZipError::UnsupportedArchive(what) => Error::Unsupported(what.to_owned()),
        ZipError::CompressionMethodNotSupported(method) => Error::Unsupported(format!("compression method {method}")),
        other => Error::Damaged(other.to_string()),
    }
}

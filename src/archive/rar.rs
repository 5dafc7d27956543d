//! RAR 1.5 to 7 through the crate `rars`, under the limits of [`super`].
//!
//! Start at [`read`]. The crate is young: its own limits are all on, every member is judged by its header before its payload is
//! touched, and what it writes goes into a buffer that holds no more than the header said.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use rars::{
    ArchiveMember, ArchiveMemberDetail, ArchiveReadOptions, ArchiveReader, AttrSource, Error as RarError, ErrorKind,
    ExtractionDecision,
};
use zeroize::Zeroizing;

use super::{Budget, Entry, Error, MAX_ENTRIES, MAX_ENTRY_BYTES, MAX_TOTAL_BYTES, is_regular, label};

/// Headers of one archive: its entries, and a few of the archive itself (main, comment, recovery, end).
const MAX_HEADERS: u64 = MAX_ENTRIES as u64 + 16;
/// Bytes of all headers.
const MAX_HEADER_BYTES: u64 = 1024 * 1024;
/// Dictionary that a RAR 5 member may ask for; RAR shrinks it to the size of what it packs, so 4 MiB is plenty.
const MAX_DICTIONARY_BYTES: u64 = 4 * 1024 * 1024;
/// Everything that the decoders may hold at once.
const MAX_WORKSPACE_BYTES: u64 = 24 * 1024 * 1024;

/// Every regular file, in the archive's order.
pub(super) fn read(bytes: &[u8], within: &str, budget: &mut Budget) -> Result<Vec<Entry>, Error> {
    let archive = ArchiveReader::read_with_options(bytes, limits()).map_err(broken)?;
    let volume = archive.as_rar15_40().is_some_and(|rar| rar.main.is_volume())
        || archive.as_rar50().is_some_and(|rar| rar.main.is_volume());
    if volume {
        return Err(Error::MultiVolume);
    }
    let sinks: RefCell<Vec<(String, Sink)>> = RefCell::default();
    let mut refused = None;
    let outcome = archive.extract_with_control(limits(), |member| {
        Ok(match judge(member, within, budget) {
            Ok(None) => ExtractionDecision::Skip,
            Ok(Some((name, size))) => {
                let sink = Sink::new(size);
                sinks.borrow_mut().push((name, sink.clone()));
                ExtractionDecision::Extract(Box::new(sink))
            }
            Err(error) => {
                refused = Some(error);
                ExtractionDecision::Stop
            }
        })
    });
    if let Some(error) = refused {
        return Err(error);
    }
    outcome.map_err(broken)?;
    sinks.into_inner().into_iter().map(|(name, sink)| sink.entry(name)).collect()
}

/// What is known of a member before it is unpacked: its name and size, `None` for a folder.
fn judge(member: &ArchiveMember, within: &str, budget: &mut Budget) -> Result<Option<(String, usize)>, Error> {
    budget.entry()?;
    let meta = &member.meta;
    let name = label(&meta.name, within)?;
    if meta.is_encrypted {
        return Err(Error::Encrypted { name: Some(name) });
    }
    if meta.is_split_before || meta.is_split_after {
        return Err(Error::MultiVolume);
    }
    if meta.is_redirection || is_special(member) {
        return Err(Error::NotAFile { name });
    }
    if meta.is_directory {
        return Ok(None);
    }
    // A stored, unknown size is `u64::MAX` in RAR 5: refused here as too large.
    budget.file(&name, meta.packed_size, meta.unpacked_size)?;
    let size = usize::try_from(meta.unpacked_size).map_err(|_| Error::EntryTooLarge { name: name.clone() })?;
    Ok(Some((name, size)))
}

/// RAR 4 has no record for links: only the Unix mode tells them.
fn is_special(member: &ArchiveMember) -> bool {
    let unix = member.meta.attr_source() == AttrSource::Unix;
    let legacy = !matches!(member.detail, ArchiveMemberDetail::Rar50Plus { .. });
    unix && legacy && !member.meta.is_directory && !is_regular((member.meta.file_attr & 0xffff) as u32)
}

/// Takes what one member unpacks to: exactly as much as its header said, in a buffer that is made once and wiped when dropped.
#[derive(Clone)]
struct Sink(Rc<RefCell<Zeroizing<Vec<u8>>>>, usize);

impl Sink {
    fn new(size: usize) -> Sink {
        Sink(Rc::new(RefCell::new(Zeroizing::new(Vec::with_capacity(size)))), size)
    }

    fn entry(self, name: String) -> Result<Entry, Error> {
        let bytes = self.0.take();
        if bytes.len() != self.1 {
            return Err(Error::Damaged(format!("entry `{name}` is not as long as it says")));
        }
        Ok(Entry { name, bytes })
    }
}

impl Write for Sink {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        let mut bytes = self.0.borrow_mut();
        if bytes.len() + chunk.len() > self.1 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an entry is longer than it says"));
        }
        bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn limits() -> ArchiveReadOptions<'static> {
    ArchiveReadOptions::new()
        .with_max_header_count(MAX_HEADERS)
        .with_max_header_bytes(MAX_HEADER_BYTES)
        .with_max_member_output_bytes(MAX_ENTRY_BYTES)
        .with_max_total_output_bytes(MAX_TOTAL_BYTES)
        .with_rar50_dictionary_size_limit(MAX_DICTIONARY_BYTES)
        .with_rar50_buffered_decode_limit(MAX_ENTRY_BYTES)
        .with_max_reader_workspace_bytes(MAX_WORKSPACE_BYTES)
}

fn broken(error: RarError) -> Error {
    match error.root_cause() {
        RarError::HeaderCountLimitExceeded { .. } => return Error::TooManyEntries,
        RarError::TotalOutputLimitExceeded { .. } => return Error::TotalTooLarge,
        RarError::FeatureDisabled { feature: "encryption" } | RarError::UnsupportedEncryption { .. } => {
            return Error::Encrypted { name: None };
        }
        _ => {}
    }
    match error.kind() {
        ErrorKind::PasswordRequired | ErrorKind::BadPassword => Error::Encrypted { name: None },
        ErrorKind::UnsupportedFeature | ErrorKind::UnsupportedFormat | ErrorKind::ResourceLimit => {
            Error::Unsupported(error.to_string())
        }
        _ => Error::Damaged(error.to_string()),
    }
}

//! Files: written beside, then renamed over.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{CWD, Gid, Mode, OFlags, RenameFlags, Uid};
use tempfile::NamedTempFile;

use super::read::holds;
use super::{Access, Error, TEMPORARY, is_unmapped, parent, step, sync_folder};

/// What [`write()`] had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: bytes, mode and owner were right.
    Nothing,
    /// The bytes were right; mode or owner were not.
    Access,
    /// Other bytes, or no file.
    Content,
}

/// Makes `path` hold exactly `bytes` with exactly `access`: right already, nothing is written; else in one rename.
///
/// A symbolic link at `path` is replaced, not followed.
pub fn write(path: &Path, bytes: &[u8], access: Access) -> Result<Change, Error> {
    let change = compare(path, bytes, access)?;
    if change != Change::Nothing {
        let temporary = prepare(path, bytes, access)?;
        rename_over(temporary, path)?;
    }
    Ok(change)
}

/// Whether [`write()`] would have nothing to do.
pub fn is_right(path: &Path, bytes: &[u8], access: Access) -> Result<bool, Error> {
    Ok(compare(path, bytes, access)? == Change::Nothing)
}

/// As [`write()`], for a path where somebody else's file may stand: that one stays beside it as `kept`, unless `kept` is there already.
/// At no moment is `path` without a file.
///
/// Returns whether it was kept.
pub fn take_over(path: &Path, kept: &Path, bytes: &[u8], access: Access) -> Result<bool, Error> {
    let temporary = prepare(path, bytes, access)?;
    match step("atomic.keep", "keep a copy of", path, || std::fs::hard_link(path, kept)) {
        Ok(()) => {
            sync_folder(parent(path))?;
            rename_over(temporary, path)?;
            Ok(true)
        }
        Err(Error::Io { source, .. }) if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {
            rename_over(temporary, path)?;
            Ok(false)
        }
        Err(_) => keep_without_link(temporary, path, kept).map(|()| true),
    }
}

/// As [`write()`], for what can be made again: the old bytes or the new ones for every reader, but after a power failure maybe neither.
pub fn write_lightly(path: &Path, bytes: &[u8], access: Access) -> Result<Change, Error> {
    let change = compare(path, bytes, access)?;
    if change != Change::Nothing {
        let temporary = prepare_unsynced(path, bytes, access)?;
        step("atomic.rename", "rename a temporary file to", path, || temporary.persist(path).map_err(|error| error.error))?;
    }
    Ok(change)
}

/// A new file in a folder that nobody reads yet; synced, but not its folder. Fails when `path` exists.
pub fn create(path: &Path, bytes: &[u8], access: Access) -> Result<(), Error> {
    let file = create_unsynced(path, bytes, access)?;
    sync_file(&file, path)
}

/// As [`create`], and not synced.
pub(super) fn create_unsynced(path: &Path, bytes: &[u8], access: Access) -> Result<File, Error> {
    // Who else may read it is known by its mode alone where no other group is asked for: then it need not be changed afterwards.
    let mode = if access.group.is_none() && access.owner.is_none() { access.mode } else { 0o600 };
    let file = step("atomic.create", "create", path, || new_file(mode).open(path))?;
    fill(&file, path, bytes, access)?;
    Ok(file)
}

/// Renames `path` to `aside`, over what may stand there; `false` when there was nothing.
pub fn put_aside(path: &Path, aside: &Path) -> Result<bool, Error> {
    match step("atomic.rename", "rename", path, || std::fs::rename(path, aside)) {
        Ok(()) => sync_folder(parent(path)).map(|()| true),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens (and creates, with `mode`) the file that a lock is taken on; never truncates it.
pub fn open_lock(path: &Path, mode: u32) -> Result<File, Error> {
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(mode).open(path);
    step("atomic.create", "open", path, open)
}

/// Replaces the content of a lock file in place: it is only words for people, and renaming would lose the lock.
pub fn note(mut file: &File, path: &Path, text: &str) -> Result<(), Error> {
    let all = || file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
    step("atomic.write", "write", path, all)
}

/// How far `path` is from what it should be. What cannot be read is simply not right.
fn compare(path: &Path, bytes: &[u8], access: Access) -> Result<Change, Error> {
    let found = match step("atomic.read", "look at", path, || std::fs::symlink_metadata(path)) {
        Ok(found) => found,
        Err(error) if error.is_missing() => return Ok(Change::Content),
        Err(error) => return Err(error),
    };
    if found.is_dir() {
        return Err(Error::Kind { path: path.to_owned(), found: "a folder", expected: "a file" });
    }
    let same_bytes = found.is_file() && found.len() == bytes.len() as u64 && holds(path, bytes).unwrap_or(false);
    let foreign = |wanted: Option<u32>, is: u32| wanted.is_some_and(|wanted| wanted != is && !is_unmapped(is));
    Ok(match same_bytes {
        false => Change::Content,
        true if found.mode() & 0o7777 != access.mode => Change::Access,
        true if foreign(access.owner, found.uid()) || foreign(access.group, found.gid()) => Change::Access,
        true => Change::Nothing,
    })
}

/// A complete, synced file under a temporary name beside `path`; goes away by itself unless it is renamed.
fn prepare(path: &Path, bytes: &[u8], access: Access) -> Result<NamedTempFile, Error> {
    let temporary = prepare_unsynced(path, bytes, access)?;
    sync_file(temporary.as_file(), path)?;
    Ok(temporary)
}

fn prepare_unsynced(path: &Path, bytes: &[u8], access: Access) -> Result<NamedTempFile, Error> {
    let temporary = loop {
        let temporary = step("atomic.create", "create a temporary file beside", path, || {
            tempfile::Builder::new().prefix(TEMPORARY).permissions(PermissionsExt::from_mode(0o600)).tempfile_in(parent(path))
        })?;
        if claim(temporary.as_file(), path)? {
            break temporary;
        }
    };
    fill(temporary.as_file(), path, bytes, access)?;
    Ok(temporary)
}

/// Locks a fresh temporary file (or folder) so that [`super::sweep`] leaves it alone; `false` when a sweep was faster.
pub(super) fn claim(file: &File, path: &Path) -> Result<bool, Error> {
    match file.try_lock() {
        // No locks on this file system: then nobody can tell a living writer there, and sweep takes nothing.
        Ok(()) | Err(TryLockError::Error(_)) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
    }
    let found = step("atomic.read", "look at the temporary file of", path, || file.metadata())?;
    Ok(found.nlink() > 0)
}

/// Access first, then bytes: no reader who is not meant to can hold the file open before it has content.
fn fill(file: &File, path: &Path, bytes: &[u8], access: Access) -> Result<(), Error> {
    permit(file, path, access)?;
    let (first, second) = bytes.split_at(if cfg!(feature = "failpoints") { bytes.len() / 2 } else { bytes.len() });
    let mut writer = file;
    step("atomic.write", "write", path, || writer.write_all(first))?;
    step("atomic.write.torn", "write", path, || writer.write_all(second))
}

fn sync_file(file: &File, path: &Path) -> Result<(), Error> {
    step("atomic.sync", "sync", path, || file.sync_all())
}

/// Group, then mode, then owner: the mode never reaches a group that is not meant, and who gives a file away need not be asked again.
fn permit(file: &File, path: &Path, access: Access) -> Result<(), Error> {
    let change_owner = |owner: Option<u32>, group: Option<u32>| {
        rustix::fs::fchown(file, owner.map(Uid::from_raw), group.map(Gid::from_raw)).map_err(io::Error::from)
    };
    let now = step("atomic.read", "look at", path, || file.metadata())?;
    if let Some(group) = access.group.filter(|group| *group != now.gid()) {
        step("atomic.permit", "change the group of", path, || change_owner(None, Some(group)))?;
    }
    if now.mode() & 0o7777 != access.mode {
        step("atomic.permit", "change the mode of", path, || rustix::fs::fchmod(file, Mode::from_raw_mode(access.mode)))?;
    }
    if let Some(owner) = access.owner.filter(|owner| *owner != now.uid()) {
        step("atomic.permit", "change the owner of", path, || change_owner(Some(owner), None))?;
    }
    Ok(())
}

fn rename_over(temporary: NamedTempFile, path: &Path) -> Result<(), Error> {
    step("atomic.rename", "rename a temporary file to", path, || temporary.persist(path).map_err(|error| error.error))?;
    sync_folder(parent(path))
}

/// A file of another owner must not be linked (fs.protected_hardlinks), and some file systems have no links: swaps the two, so that
/// `path` always holds one of them, then gives the old one its name. Where even that is unknown, `path` is gone for one moment.
fn keep_without_link(temporary: NamedTempFile, path: &Path, kept: &Path) -> Result<(), Error> {
    let swap = || rustix::fs::renameat_with(CWD, temporary.path(), CWD, path, RenameFlags::EXCHANGE);
    match step("atomic.exchange", "exchange", path, swap) {
        Ok(()) => {}
        Err(Error::Io { source, .. }) if matches!(source.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            put_aside(path, kept)?;
            return rename_over(temporary, path);
        }
        Err(error) => return Err(error),
    }
    // From here the temporary name holds somebody else's file: it must not go away by itself.
    let (_, old) = temporary.keep().map_err(|error| Error::io("keep the old file of", path, error.error))?;
    step("atomic.rename", "keep the old file of", path, || std::fs::rename(&old, kept))?;
    sync_folder(parent(path))
}

fn new_file(mode: u32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    options
}

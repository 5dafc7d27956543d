//! Folders: made with exact modes, synced, swept, removed without a half-removed one being seen.

use std::fs::{DirBuilder, DirEntry, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::file::claim;
use super::{Error, MAX_ENTRIES, TEMPORARY, is_us, parent, step};

/// Makes one folder with exactly `mode` and syncs its parent; `false` when it was there (whatever its mode).
pub fn create_folder(path: &Path, mode: u32) -> Result<bool, Error> {
    let is_new = create_folder_unsynced(path, mode)?;
    if is_new {
        sync_folder(parent(path))?;
    }
    Ok(is_new)
}

/// As [`create_folder`]; whoever makes many syncs the parent once, by [`sync_folder`].
pub fn create_folder_unsynced(path: &Path, mode: u32) -> Result<bool, Error> {
    match step("atomic.folder.create", "create folder", path, || DirBuilder::new().mode(mode).create(path)) {
        Ok(()) => {}
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(false),
        Err(error) => return Err(error),
    }
    // The umask may have taken something away, and the parent may have given its group bit.
    let made = step("atomic.read", "look at", path, || std::fs::symlink_metadata(path))?;
    if made.mode() & 0o7777 != mode {
        set_mode(path, mode)?;
    }
    Ok(true)
}

/// Makes the names in a folder durable. An operator's folder where we may write but not look cannot be synced: the file system does that
/// in its own time, and the next pass looks.
pub fn sync_folder(path: &Path) -> Result<(), Error> {
    match step("atomic.folder.sync", "sync folder", path, || File::open(path).and_then(|folder| folder.sync_all())) {
        Err(error) if error.is_denied() => Ok(()),
        outcome => outcome,
    }
}

/// A folder under a temporary name: filled in peace, then renamed to its own; goes away by itself when that never happens.
pub struct TemporaryFolder {
    folder: TempDir,
    // Its lock tells a sweep that the writer lives.
    handle: File,
}

impl TemporaryFolder {
    /// A new one in `parent`, for nobody else until [`TemporaryFolder::publish`].
    pub fn new(parent: &Path) -> Result<TemporaryFolder, Error> {
        loop {
            let make =
                || tempfile::Builder::new().prefix(TEMPORARY).permissions(Permissions::from_mode(0o700)).tempdir_in(parent);
            let folder = step("atomic.folder.create", "create a temporary folder in", parent, make)?;
            match hold(folder.path()) {
                Ok(Some(handle)) => return Ok(TemporaryFolder { folder, handle }),
                // A sweep was faster.
                Ok(None) => {}
                Err(error) if error.is_missing() && parent.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where to put files.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The folder itself, opened when it was made.
    pub(super) fn handle(&self) -> &File {
        &self.handle
    }

    /// Syncs it, opens it to `mode`, renames it to `path` (which must not be there) and syncs the parent.
    pub fn publish(self, path: &Path, mode: u32) -> Result<(), Error> {
        set_mode(self.path(), mode)?;
        sync_folder(self.path())?;
        step("atomic.rename", "rename a temporary folder to", path, || std::fs::rename(self.path(), path))?;
        let _ = self.folder.keep();
        sync_folder(parent(path))
    }
}

/// Claims a fresh folder; `None` when a sweep is at it.
fn hold(path: &Path) -> Result<Option<File>, Error> {
    // The umask may have taken even our own rights.
    set_mode(path, 0o700)?;
    let lock = step("atomic.read", "open", path, || File::open(path))?;
    Ok(claim(&lock, path)?.then_some(lock))
}

/// Removes a file, link or whole folder. A folder gets a temporary name first, so that nobody sees half of it; `false` when there was none.
pub fn remove_tree(path: &Path) -> Result<bool, Error> {
    let Some(found_there) = found(path)? else { return Ok(false) };
    if !found_there.is_dir() {
        step("atomic.remove", "remove", path, || std::fs::remove_file(path))?;
        return sync_folder(parent(path)).map(|()| true);
    }
    let hidden = parent(path).join(format!("{TEMPORARY}removed-{:016x}", random(path)?));
    step("atomic.rename", "rename", path, || std::fs::rename(path, &hidden))?;
    step("atomic.remove", "remove", &hidden, || std::fs::remove_dir_all(&hidden))?;
    sync_folder(parent(path)).map(|()| true)
}

/// Names in a folder, sorted; empty when there is no folder. Names that are no UTF-8 are none of ours and left out.
pub fn list(path: &Path) -> Result<Vec<String>, Error> {
    names(path, |_| true)
}

/// As [`list`], but only the names that are wanted.
pub fn list_some(path: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, Error> {
    names(path, |entry| entry.file_name().to_str().is_some_and(&is_wanted))
}

/// As [`list`], but only the symbolic links.
pub fn list_links(path: &Path) -> Result<Vec<String>, Error> {
    names(path, |entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()))
}

fn names(path: &Path, is_wanted: impl Fn(&DirEntry) -> bool) -> Result<Vec<String>, Error> {
    let entries = match step("atomic.read", "list folder", path, || std::fs::read_dir(path)) {
        Ok(entries) => entries,
        Err(error) if error.is_missing() => return Ok(Vec::new()),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries.take(MAX_ENTRIES) {
        let entry = entry.map_err(|error| Error::io("list folder", path, error))?;
        if is_wanted(&entry) {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes what dead processes left in `folder`: entries that start with `prefix`, belong to us and are not locked by a living writer.
pub fn sweep(folder: &Path, prefix: &str) -> Result<Vec<PathBuf>, Error> {
    let mut swept = Vec::new();
    for name in names(folder, |entry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()))? {
        let path = folder.join(name);
        // Locked until it is gone: a writer that just made it notices and makes another.
        if let Some(_lock) = stray(&path)? {
            match step("atomic.remove", "remove", &path, || remove_any(&path)) {
                Ok(()) => swept.push(path),
                // Its writer finished between our look and our lock.
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
    }
    if !swept.is_empty() {
        sync_folder(folder)?;
    }
    Ok(swept)
}

/// A hold on `path` when nobody alive is at work on it. A link has no lock: links are only made under the lock of a pass, as sweeping is done.
fn stray(path: &Path) -> Result<Option<Option<File>>, Error> {
    let Some(found) = found(path)? else { return Ok(None) };
    if !is_us(found.uid()) {
        return Ok(None);
    }
    if !found.is_file() && !found.is_dir() {
        return Ok(Some(None));
    }
    match step("atomic.read", "open", path, || File::open(path)) {
        Ok(file) => Ok(file.try_lock().is_ok().then_some(Some(file))),
        Err(error) if error.is_missing() => Ok(None),
        // Ours, but closed even to us: a folder that a dead process had no time to open.
        Err(error) if error.is_denied() => Ok(Some(None)),
        Err(error) => Err(error),
    }
}

fn remove_any(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path)?.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    }
}

fn found(path: &Path) -> Result<Option<Metadata>, Error> {
    match step("atomic.read", "look at", path, || std::fs::symlink_metadata(path)) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

fn random(path: &Path) -> Result<u64, Error> {
    getrandom::u64().map_err(|error| Error::io("find a temporary name for", path, io::Error::other(error)))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    step("atomic.permit", "change the mode of", path, || std::fs::set_permissions(path, Permissions::from_mode(mode)))
}

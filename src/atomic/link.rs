//! Symbolic links: replaced by one rename.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use super::{Error, TEMPORARY, parent, remove_tree, step, sync_folder};

/// Makes `path` a symbolic link to `target` by one rename(2), whatever link stood there; the one that is right is left alone. Durable when
/// its folder is synced, by [`super::sync_folder`]: whoever replaces many does that once.
///
/// A file or folder in its place (somebody copied certificates there) is swapped out in one step too and stays as `kept`; when something
/// is kept already, it is removed.
pub fn replace_link(path: &Path, target: &Path, kept: &Path) -> Result<(), Error> {
    // Where nothing stands there is nothing to replace.
    match step("atomic.link.create", "create link", path, || std::os::unix::fs::symlink(target, path)) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
        outcome => return outcome,
    }
    if matches!(read_link(path), Ok(Some(found)) if found == target) {
        return Ok(());
    }
    let temporary = temporary_link(path, target)?;
    let replaced = match path.symlink_metadata().is_ok_and(|found| !found.is_symlink()) {
        false => step("atomic.rename", "rename a temporary link to", path, || std::fs::rename(&temporary, path)),
        true => swap_out(&temporary, path, kept),
    };
    if replaced.is_err() {
        // Best effort: a sweep would find it too.
        let _ = std::fs::remove_file(&temporary);
    }
    replaced
}

/// Where the link at `path` points; `None` when nothing is there.
pub fn read_link(path: &Path) -> Result<Option<PathBuf>, Error> {
    match step("atomic.read", "read link", path, || std::fs::read_link(path)) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.is_missing() => Ok(None),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::InvalidInput => {
            let found = if path.is_dir() { "a folder" } else { "a file" };
            Err(Error::Kind { path: path.to_owned(), found, expected: "a symbolic link" })
        }
        Err(error) => Err(error),
    }
}

/// Removes a link (and nothing but a link or a file); `false` when there was none.
pub fn remove_link(path: &Path) -> Result<bool, Error> {
    match step("atomic.remove", "remove", path, || std::fs::remove_file(path)) {
        Ok(()) => sync_folder(parent(path)).map(|()| true),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The new link gets the name `kept` first and is exchanged with what stands at `path` then: no crash in between loses anything.
fn swap_out(temporary: &Path, path: &Path, kept: &Path) -> Result<(), Error> {
    let exchange = |other: &Path| {
        let swap = || rustix::fs::renameat_with(CWD, other, CWD, path, RenameFlags::EXCHANGE);
        step("atomic.exchange", "exchange", path, swap)
    };
    // A link there is what such a crash left.
    if kept.symlink_metadata().is_ok_and(|found| !found.is_symlink()) {
        exchange(temporary)?;
        return remove_tree(temporary).map(drop);
    }
    step("atomic.keep", "make room beside", path, || std::fs::rename(temporary, kept))?;
    exchange(kept)
}

fn temporary_link(path: &Path, target: &Path) -> Result<PathBuf, Error> {
    let make = |temporary: &Path| std::os::unix::fs::symlink(target, temporary);
    let temporary = step("atomic.link.create", "create a temporary link beside", path, || {
        tempfile::Builder::new().prefix(TEMPORARY).make_in(parent(path), make)
    })?;
    let (_, name) = temporary.keep().map_err(|error| Error::io("create a temporary link beside", path, error.error))?;
    Ok(name)
}

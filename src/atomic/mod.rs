//! The only door to writing the disk: whoever reads a file written here sees the old bytes or the new ones, never a mixture.
//!
//! Start at [`write()`]: a temporary file in the same folder, its mode and owner set before a byte is in it, written, synced, renamed,
//! the folder synced. What is right already is not touched. [`Batch`] makes whole folders, many at once, [`create`] fills one that nobody looks
//! at yet, [`replace_link`] moves a symbolic link, [`read()`] and [`Folder`] read within bounds.
//!
//! Temporary names start with [`TEMPORARY`] (haproxy's `crt` folders skip dot files) and are locked while their writer lives, so that
//! [`sweep`] takes only what a dead process left.
//!
//! Fails with [`Error`], which names the operation and the path.

mod batch;
mod file;
mod folder;
mod link;
mod owner;
mod read;

use std::io;
use std::path::{Path, PathBuf};

pub use batch::{Batch, Draft, Unsettled};
pub use file::{Change, create, is_right, note, open_lock, put_aside, take_over, write, write_lightly};
pub use folder::{
    TemporaryFolder, create_folder, create_folder_unsynced, list, list_links, list_some, remove_tree, sweep, sync_folder,
};
pub use link::{read_link, remove_link, replace_link};
pub use owner::{become_user, group_id, is_unmapped, is_us, me, user_id};
pub use read::{Folder, MAX_ENTRIES, Stat, Trace, open, read, read_start, stat, stat_following, trace};

/// What every temporary name starts with.
pub const TEMPORARY: &str = ".tmp-certsyncd-";

/// What a file or folder shall allow, and to whom it shall belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Permission bits, exactly: the umask takes nothing away and adds nothing.
    pub mode: u32,
    /// User id; `None`: who runs this, and not checked afterwards.
    pub owner: Option<u32>,
    /// Group id; `None`: as the system decides, and not checked afterwards.
    pub group: Option<u32>,
}

impl Access {
    /// Permission bits alone.
    pub const fn mode(mode: u32) -> Access {
        Access { mode, owner: None, group: None }
    }
}

/// Why the disk did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("failed to {operation} `{}`", path.display())]
    Io {
        /// Verb first: `rename`, `sync`.
        operation: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// More bytes than the reader takes.
    #[error("`{}` is larger than {max} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The bound.
        max: u64,
    },
    /// A folder where a file is expected, or the like.
    #[error("`{}` is {found}, not {expected}", path.display())]
    Kind {
        /// Which path.
        path: PathBuf,
        /// Such as `a folder`.
        found: &'static str,
        /// Such as `a file`.
        expected: &'static str,
    },
    /// A name that the system's user database does not know.
    #[error("there is no {what} `{name}` on this host")]
    Unknown {
        /// `user` or `group`.
        what: &'static str,
        /// As written.
        name: String,
    },
}

impl Error {
    /// A stable word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::TooLarge { .. } => "too_large",
            Error::Kind { .. } => "wrong_kind",
            Error::Unknown { .. } => "unknown_owner",
            Error::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk_full",
                io::ErrorKind::ReadOnlyFilesystem => "read_only",
                io::ErrorKind::PermissionDenied => "permission",
                io::ErrorKind::NotFound => "missing",
                io::ErrorKind::InvalidInput => "invalid",
                _ => "io",
            },
        }
    }

    /// Whether another try may pass without anybody's hand: never, a disk mends itself rarely, and each pass tries again anyway.
    pub fn is_transient(&self) -> bool {
        false
    }

    /// What would mend it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self.kind() {
            "disk_full" => Some("free some space on this file system; what is live stays as it is until then".to_owned()),
            "read_only" => {
                Some("the file system is mounted read-only, or the unit's sandbox makes it so (`ReadWritePaths=`)".to_owned())
            }
            _ => None,
        }
    }

    /// Whether the system said that the path is not there.
    pub fn is_missing(&self) -> bool {
        self.kind() == "missing"
    }

    /// Whether the system said that we may not.
    pub fn is_denied(&self) -> bool {
        self.kind() == "permission"
    }

    fn io(operation: &'static str, path: &Path, source: io::Error) -> Error {
        Error::Io { operation, path: path.to_owned(), source }
    }
}

/// One step on the disk: through its fail point, with operation and path in the error.
fn step<T, E: Into<io::Error>>(
    point: &'static str,
    operation: &'static str,
    path: &Path,
    action: impl FnOnce() -> Result<T, E>,
) -> Result<T, Error> {
    crate::failpoint::hit(point).and_then(|()| action().map_err(Into::into)).map_err(|source| Error::io(operation, path, source))
}

/// The folder that holds `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

//! Reading within bounds, and a folder that is opened once.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use zeroize::Zeroizing;

use super::{Error, step};

/// Entries of a folder that are looked at.
pub const MAX_ENTRIES: usize = 100_000;

/// Kind, mode and owner of what a name stands for (a link is not followed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// A regular file.
    pub is_file: bool,
    /// A folder.
    pub is_folder: bool,
    /// Permission bits.
    pub mode: u32,
    /// User id.
    pub owner: u32,
    /// Group id.
    pub group: u32,
}

/// What the kernel keeps of a file, folder or link: whoever changes one of them leaves a trace here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Inode, size, kind and mode, owner, group, and the time of the last change in seconds and nanoseconds.
    pub numbers: [u64; 7],
    /// The time of the last change: of content, name, mode or owner. Nobody can set it.
    pub changed: Timestamp,
}

/// As one word.
impl std::fmt::Display for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [first, rest @ ..] = &self.numbers;
        write!(f, "{first}")?;
        rest.iter().try_for_each(|number| write!(f, "-{number}"))
    }
}

/// The bytes of a regular file (a link is followed); `None` when it is not there. Refuses more than `max` bytes.
pub fn read(path: &Path, max: u64) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let open = || rustix::fs::open(path, READING, Mode::empty());
    opened(step("atomic.read", "open", path, open), path)?.map(|file| bytes(&file, path, max)).transpose()
}

/// The regular file at `path` (a link is followed), to be read piece by piece; `None` when it is not there. Refuses one of more than `max`
/// bytes; what is added to it later is not seen.
pub fn open(path: &Path, max: u64) -> Result<Option<io::Take<File>>, Error> {
    let open = || rustix::fs::open(path, READING, Mode::empty());
    let Some(file) = opened(step("atomic.read", "open", path, open), path)? else { return Ok(None) };
    let length = length(&file, path, max)?;
    Ok(Some(file.take(length)))
}

/// Whether the regular file at `path` holds exactly `expected`; ends at the first difference.
pub(super) fn holds(path: &Path, expected: &[u8]) -> Result<bool, Error> {
    let open = || rustix::fs::open(path, READING, Mode::empty());
    let Some(mut file) = opened(step("atomic.read", "open", path, open), path)? else { return Ok(false) };
    let mut piece = Zeroizing::new(vec![0; COMPARED.min(expected.len() + 1)]);
    let mut left = expected;
    loop {
        let length = step("atomic.read", "read", path, || file.read(&mut piece))?;
        match (length, left.split_at_checked(length)) {
            (0, _) => return Ok(left.is_empty()),
            (_, Some((start, rest))) if piece.get(..length) == Some(start) => left = rest,
            _ => return Ok(false),
        }
    }
}

/// Bytes compared at once.
const COMPARED: usize = 64 * 1024;

/// What `path` is; `None` when it is not there.
pub fn stat(path: &Path) -> Result<Option<Stat>, Error> {
    stat_at(CWD, path, path)
}

/// As [`stat`], of what a link leads to.
pub fn stat_following(path: &Path) -> Result<Option<Stat>, Error> {
    found(step("atomic.read", "look at", path, || rustix::fs::stat(path)))
}

/// The trace of `path`; `None` when it is not there.
pub fn trace(path: &Path) -> Result<Option<Trace>, Error> {
    traced(step("atomic.read", "look at", path, || rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)))
}

/// At most the first `max` bytes of a file.
pub fn read_start(path: &Path, max: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    step("atomic.read", "read", path, || File::open(path)?.take(max).read_to_end(&mut bytes))?;
    Ok(bytes)
}

/// A folder that was opened once: whatever happens to its name meanwhile, all files come from the same one.
pub struct Folder {
    handle: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens it; `None` when it is not there. A link in its place is refused.
    pub fn open(path: &Path) -> Result<Option<Folder>, Error> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        match step("atomic.read", "open folder", path, || rustix::fs::open(path, flags, Mode::empty())) {
            Ok(handle) => Ok(Some(Folder { handle, path: path.to_owned() })),
            Err(error) if error.is_missing() => Ok(None),
            Err(Error::Io { source, .. }) if is_no_folder(&source) => {
                Err(Error::Kind { path: path.to_owned(), found: "something else", expected: "a folder" })
            }
            Err(error) => Err(error),
        }
    }

    /// The bytes of a regular file in it (links are refused); `None` when it is not there.
    pub fn read(&self, name: &str, max: u64) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let path = self.path.join(name);
        let open = || rustix::fs::openat(&self.handle, name, READING | OFlags::NOFOLLOW, Mode::empty());
        opened(step("atomic.read", "open", &path, open), &path)?.map(|file| bytes(&file, &path, max)).transpose()
    }

    /// What `name` in it is; `None` when it is not there.
    pub fn stat(&self, name: &str) -> Result<Option<Stat>, Error> {
        stat_at(&self.handle, Path::new(name), &self.path.join(name))
    }

    /// The trace of `path` below it; `None` when it is not there.
    pub fn trace(&self, path: &Path) -> Result<Option<Trace>, Error> {
        traced(step("atomic.read", "look at", path, || rustix::fs::statat(&self.handle, path, AtFlags::SYMLINK_NOFOLLOW)))
    }

    /// Where the link `name` in it points; `None` when it is not there.
    pub fn read_link(&self, name: &str) -> Result<Option<PathBuf>, Error> {
        match step("atomic.read", "read link", &self.path.join(name), || rustix::fs::readlinkat(&self.handle, name, Vec::new())) {
            Ok(target) => Ok(Some(OsString::from_vec(target.into_bytes()).into())),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives `name` in it (`.` for itself) another mode and, where given, another owner and group.
    pub fn permit(&self, name: &str, mode: u32, owner: Option<(u32, u32)>) -> Result<(), Error> {
        let path = self.path.join(name);
        if let Some((user, group)) = owner {
            let ids = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
            let change = || rustix::fs::chownat(&self.handle, name, ids.0, ids.1, AtFlags::SYMLINK_NOFOLLOW);
            step("atomic.permit", "change the owner of", &path, change)?;
        }
        let change = || rustix::fs::chmodat(&self.handle, name, Mode::from_raw_mode(mode), AtFlags::empty());
        step("atomic.permit", "change the mode of", &path, change)
    }

    /// Makes names, modes and owners in it durable.
    pub fn sync(&self) -> Result<(), Error> {
        step("atomic.folder.sync", "sync folder", &self.path, || rustix::fs::fsync(&self.handle))
    }
}

/// `NONBLOCK`: a pipe in a file's place must not hang us.
const READING: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

fn opened(result: Result<OwnedFd, Error>, path: &Path) -> Result<Option<File>, Error> {
    match result {
        Ok(handle) => Ok(Some(File::from(handle))),
        Err(error) if error.is_missing() => Ok(None),
        Err(Error::Io { source, .. }) if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            Err(Error::Kind { path: path.to_owned(), found: "a symbolic link", expected: "a file" })
        }
        Err(error) => Err(error),
    }
}

/// How long a file is; refuses what is no regular file, or is longer than `max`.
fn length(file: &File, path: &Path, max: u64) -> Result<u64, Error> {
    let found = step("atomic.read", "look at", path, || file.metadata())?;
    if !found.is_file() {
        let what = if found.is_dir() { "a folder" } else { "no regular file" };
        return Err(Error::Kind { path: path.to_owned(), found: what, expected: "a file" });
    }
    if found.len() > max { Err(Error::TooLarge { path: path.to_owned(), max }) } else { Ok(found.len()) }
}

/// All bytes in one piece of memory that never moves, so that no copy of a key stays behind.
fn bytes(file: &File, path: &Path, max: u64) -> Result<Zeroizing<Vec<u8>>, Error> {
    let too_large = || Error::TooLarge { path: path.to_owned(), max };
    let length = usize::try_from(length(file, path, max)?).map_err(|_| too_large())?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    step("atomic.read", "read", path, || file.take(max.saturating_add(1)).read_to_end(&mut bytes))?;
    if bytes.len() as u64 > max { Err(too_large()) } else { Ok(bytes) }
}

fn stat_at(folder: impl std::os::fd::AsFd, name: &Path, path: &Path) -> Result<Option<Stat>, Error> {
    found(step("atomic.read", "look at", path, || rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)))
}

fn found(result: Result<rustix::fs::Stat, Error>) -> Result<Option<Stat>, Error> {
    match result {
        Ok(found) => Ok(Some(Stat {
            is_file: FileType::from_raw_mode(found.st_mode) == FileType::RegularFile,
            is_folder: FileType::from_raw_mode(found.st_mode) == FileType::Directory,
            mode: found.st_mode & 0o7777,
            owner: found.st_uid,
            group: found.st_gid,
        })),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

fn traced(result: Result<rustix::fs::Stat, Error>) -> Result<Option<Trace>, Error> {
    match result {
        Ok(found) => {
            let (seconds, nanoseconds) = (found.st_ctime, found.st_ctime_nsec);
            let numbers = [
                found.st_ino,
                found.st_size as u64,
                u64::from(found.st_mode),
                u64::from(found.st_uid),
                u64::from(found.st_gid),
                seconds as u64,
                nanoseconds,
            ];
            Ok(Some(Trace { numbers, changed: Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX) }))
        }
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_no_folder(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotADirectory) || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

//! Many folders at once: each written under a hidden name, all made durable together, then given their own names.
//!
//! Start at [`Batch::draft`]. Here alone it is decided how a folder becomes durable. The first [`ALONE`] of a batch sync themselves, file by
//! file, and have their names at once; where more are sure to come, none does. Whoever comes after them is written unsynced and waits for
//! [`Batch::settle`], which asks the file system to sync all that it has (syncfs(2)), renames what waits, and asks again. Either way everything
//! in a folder is on the disk before the folder has its own name.
//!
//! syncfs costs the same for one file and for ten thousand, but it writes what other programs left dirty as well: for a renewal or two nobody
//! shall wait for a database's gigabytes. It says what could not be written since Linux 5.8 only, and not on every file system: where it would
//! be silent each folder syncs itself, however many there are. What it says is said of the file system, not of a file, so that all who waited
//! fail by it; maybe another program's file was to blame, but that nobody can tell, and the next pass writes them again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::file::{create, create_unsynced};
use super::folder::create_folder_unsynced;
use super::{Access, Error, TemporaryFolder, parent, step};

/// So many folders of a batch sync themselves. Each waits for the disk seven times, so that these are about as many waits as a busy disk needs
/// to write a hundred megabytes of others; who fetches more at once is at a first pass or a wave of renewals, and there the waits would be
/// thousands. Tests have few certificates and shall go both ways.
const ALONE: usize = if cfg!(feature = "failpoints") { 1 } else { 16 };

/// Folders on their way to their own names, all of them on the file system of one folder.
pub struct Batch {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many sync themselves.
    alone: usize,
    drafts: u64,
    home: Home,
    waiting: Vec<Waiting>,
}

/// Where drafts wait.
#[derive(Default)]
enum Home {
    /// Nobody waits yet.
    #[default]
    Unknown,
    /// Nobody may wait: of what could not be written the file system would not tell.
    Silent,
    /// Closed to everybody else, and opened before anything in it was written, so that syncfs tells of every failure since. On this device.
    Open(Arc<TemporaryFolder>, u64),
}

/// A complete folder under a hidden name.
struct Waiting {
    hidden: PathBuf,
    path: PathBuf,
}

/// Folders that did not get their names, or whose names may not last.
#[derive(Debug)]
pub struct Unsettled {
    /// The names.
    pub paths: Vec<PathBuf>,
    /// Why.
    pub error: Error,
}

impl Batch {
    /// An empty one; the hidden names are in `folder`. So many at least are to come: if they are too many to go alone, none does.
    pub fn new(folder: &Path, sure: usize) -> Batch {
        let alone = if sure > ALONE { ALONE } else { 0 };
        Batch { folder: folder.to_owned(), state: Mutex::new(State { alone, ..State::default() }) }
    }

    /// A folder that shall have the name `path`, which must not be there, and this mode, once [`Draft::finish`] was called and the batch is
    /// settled.
    pub fn draft(&self, path: &Path, mode: u32) -> Result<Draft<'_>, Error> {
        let path = path.to_owned();
        Ok(match self.place(parent(&path))? {
            Some(hidden) => {
                create_folder_unsynced(&hidden, mode)?;
                Draft(Means::Together { batch: self, waiting: Waiting { hidden, path } })
            }
            None => Draft(Means::Alone { folder: TemporaryFolder::new(parent(&path))?, path, mode }),
        })
    }

    /// How many wait for [`Batch::settle`].
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// Gives their names to all that wait, durably, and tells who did not get one and why. What is written meanwhile waits for the next time.
    pub fn settle(&self) -> Vec<Unsettled> {
        let (home, waiting) = {
            let mut state = self.state();
            (state.home.open(), std::mem::take(&mut state.waiting))
        };
        match home {
            Some(home) if !waiting.is_empty() => self.name(&home, waiting),
            _ => Vec::new(),
        }
    }

    fn name(&self, home: &TemporaryFolder, waiting: Vec<Waiting>) -> Vec<Unsettled> {
        let sync = || step("atomic.settle", "sync the file system of", &self.folder, || rustix::fs::syncfs(home.handle()));
        if let Err(error) = sync() {
            return vec![Unsettled { paths: waiting.into_iter().map(|waiting| waiting.path).collect(), error }];
        }
        let (mut named, mut unsettled) = (Vec::new(), Vec::new());
        for Waiting { hidden, path } in waiting {
            match step("atomic.rename", "rename a temporary folder to", &path, || std::fs::rename(&hidden, &path)) {
                Ok(()) => named.push(path),
                Err(error) => unsettled.push(Unsettled { paths: vec![path], error }),
            }
        }
        unsettled.extend(sync().err().map(|error| Unsettled { paths: named, error }));
        unsettled
    }

    /// The hidden name of a draft that shall wait; `None`: it syncs itself.
    fn place(&self, parent: &Path) -> Result<Option<PathBuf>, Error> {
        let mut state = self.state();
        if state.alone < ALONE {
            state.alone += 1;
            return Ok(None);
        }
        if matches!(state.home, Home::Unknown) {
            let home = TemporaryFolder::new(&self.folder)?;
            let device = device(home.path())?;
            state.home = if tells(home.handle(), &self.folder)? { Home::Open(Arc::new(home), device) } else { Home::Silent };
        }
        let Home::Open(home, place) = &state.home else { return Ok(None) };
        let home = home.clone();
        // Somebody may have put one folder on another disk, by a mount or a link.
        if *place != device(parent)? {
            return Ok(None);
        }
        state.drafts += 1;
        Ok(Some(home.path().join(state.drafts.to_string())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Home {
    fn open(&self) -> Option<Arc<TemporaryFolder>> {
        match self {
            Home::Open(home, _) => Some(home.clone()),
            Home::Unknown | Home::Silent => None,
        }
    }
}

/// A folder that is being filled. Nobody sees it before it is finished; dropped unfinished, it goes away with its batch.
pub struct Draft<'a>(Means<'a>);

enum Means<'a> {
    Alone { folder: TemporaryFolder, path: PathBuf, mode: u32 },
    Together { batch: &'a Batch, waiting: Waiting },
}

impl Draft<'_> {
    /// A new file in it.
    pub fn create(&self, name: &str, bytes: &[u8], access: Access) -> Result<(), Error> {
        match &self.0 {
            Means::Alone { folder, .. } => create(&folder.path().join(name), bytes, access),
            Means::Together { waiting, .. } => create_unsynced(&waiting.hidden.join(name), bytes, access).map(drop),
        }
    }

    /// It is complete: it gets its name now, or waits for it.
    pub fn finish(self) -> Result<(), Error> {
        match self.0 {
            Means::Alone { folder, path, mode } => folder.publish(&path, mode),
            Means::Together { batch, waiting } => {
                batch.state().waiting.push(waiting);
                Ok(())
            }
        }
    }
}

/// Whether syncfs writes everything there and tells what it could not write.
fn tells(handle: &File, path: &Path) -> Result<bool, Error> {
    let found = step("atomic.read", "look at the file system of", path, || rustix::fs::fstatfs(handle))?;
    let kernel = rustix::system::uname();
    Ok(FILE_SYSTEMS.contains(&(found.f_type as u32)) && is_since_5_8(&kernel.release().to_string_lossy()))
}

/// ext2 to ext4, XFS, btrfs, F2FS and tmpfs. overlayfs and FUSE pass the question on, but not each answer back.
const FILE_SYSTEMS: [u32; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

/// syncfs(2), VERSIONS: since Linux 5.8 an error of the writing is told to everybody who had a file of that file system open. What is not
/// understood is taken for older.
fn is_since_5_8(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= (5, 8),
        _ => false,
    }
}

fn device(path: &Path) -> Result<u64, Error> {
    Ok(step("atomic.read", "look at", path, || rustix::fs::stat(path))?.st_dev)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn only_kernels_that_tell_are_asked() {
        for release in ["5.8.0", "5.15.0-91-generic", "6.1.0-18-amd64", "6.18.44-fc-v657", "10.0"] {
            assert!(is_since_5_8(release), "{release}");
        }
        for release in ["5.7.19", "5.4.0-169-generic", "4.18.0-553.el8", "3.10.0", "5", "", "linux", "-5.8"] {
            assert!(!is_since_5_8(release), "{release}");
        }
    }
}

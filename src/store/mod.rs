//! The certificates on disk: complete generations, and one symbolic link per certificate that says which of them is live.
//!
//! ```text
//! <state_dir>/live/<name>                             -> ../generations/<name>/<generation>
//! <state_dir>/generations/<name>/000007-3f2a91bc7d01/   cert.pem chain.pem fullchain.pem privkey.pem combined.pem
//! <state_dir>/outputs/<hash of path>                  a mark: this output path was taken over
//! <state_dir>/lock, daemon.lock                       see [`lock`]
//! ```
//!
//! Start at [`Store::write`] (a new generation, complete and synced under a hidden name before it gets its own) and
//! [`Store::publish`] (the one rename). A generation never changes after that; [`Store::repair`] puts right what others did to it.
//!
//! Fails with [`Error`]. Whatever fails, the live link keeps pointing to what it pointed to.

mod error;
mod generation;
mod live;
pub mod lock;
mod output;
mod owner;
mod repair;
mod seal;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::atomic;
use crate::certificate::Bundle;

pub use error::Error;
pub use generation::is_first;
pub use output::OutputChange;
pub use owner::{Became, become_owner};
pub use repair::Repair;
pub use seal::{SETTLED, Seal, Watch};

/// The five files of a generation, with their modes, in the contract's order.
pub const FILES: [(&str, u32); 5] =
    [("cert.pem", 0o644), ("chain.pem", 0o644), ("fullchain.pem", 0o644), ("privkey.pem", 0o600), ("combined.pem", 0o600)];

/// Bytes of one file of a generation at most: as much as [`crate::certificate`] takes in one piece.
pub const MAX_FILE: u64 = crate::certificate::MAX_PIECE_BYTES as u64;

/// Ends the (hidden) name under which somebody else's file is kept when certsyncd takes its place.
pub const KEPT_SUFFIX: &str = ".before-certsyncd";

/// Generations that stay on disk for each certificate.
pub const KEEP: usize = 5;

/// The folders of a state directory. Cheap to clone; clones share what they know.
#[derive(Clone, Debug)]
pub struct Store {
    root: Arc<PathBuf>,
    // Folders of outputs that were looked through for strays since the last `sweep`.
    swept: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// One whole generation as it lies on disk.
#[derive(Clone)]
pub struct Installed {
    /// Such as `000007-3f2a91bc7d01`.
    pub generation: String,
    /// Its folder.
    pub path: PathBuf,
    /// What is in it, proved to fit.
    pub bundle: Bundle,
    /// SHA-256 of each file, by file name.
    pub hashes: BTreeMap<String, String>,
}

impl fmt::Debug for Installed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Installed").field("generation", &self.generation).field("hashes", &self.hashes).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store under `state_dir`, making the folders that are missing. Folders that are there keep their modes here;
    /// [`Store::repair`] puts those of the store right.
    pub fn open(state_dir: &Path) -> Result<Store, Error> {
        create_missing_parents(state_dir)?;
        let store = Store::existing(state_dir);
        let mut is_new = false;
        for folder in [store.live_folder(), store.generations_folder()] {
            is_new |= atomic::create_folder_unsynced(&folder, FOLDER_MODE)?;
        }
        is_new |= atomic::create_folder_unsynced(&store.root.join(OUTPUTS), PRIVATE_FOLDER_MODE)?;
        if is_new {
            atomic::sync_folder(&store.root)?;
        }
        Ok(store)
    }

    /// The store under `state_dir` as it is, making nothing: for commands that only look.
    pub fn existing(state_dir: &Path) -> Store {
        Store { root: Arc::new(state_dir.to_owned()), swept: Arc::default() }
    }

    /// The state directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Every name on disk, live or not, sorted; whether or not the inventory still has it. Links under `live/` that are not ours are not
    /// among them.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let mut names: BTreeSet<String> = atomic::list(&self.generations_folder())?.into_iter().collect();
        names.retain(|name| self.generations(name).is_ok_and(|generations| !generations.is_empty()));
        let links = atomic::list(&self.live_folder())?;
        names.extend(links.into_iter().filter(|name| self.live_generation(name).is_ok_and(|live| live.is_some())));
        Ok(names.into_iter().collect())
    }

    /// Removes the link first, then every generation of `name`. Nothing there is fine too.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        self.unpublish(name)?;
        atomic::remove_tree(&self.generations_of(name)?)?;
        Ok(())
    }

    /// The names that are live, sorted: what stands under `live/` and leads to one of our generations. Of those in `trusted` the kind is
    /// enough, since a pass looks at them closely.
    pub fn live_names(&self, trusted: impl Fn(&str) -> bool) -> Result<BTreeSet<String>, Error> {
        let is_live = |name: &str| self.live_generation(name).is_ok_and(|live| live.is_some());
        let mut names = atomic::list_links(&self.live_folder())?;
        names.retain(|name| trusted(name) || is_live(name));
        Ok(names.into_iter().collect())
    }

    /// Removes what a crash left behind: hidden temporary files, folders and links, and folders of names without any generation.
    /// Call it under the lock of a pass. Never touches what others named.
    pub fn sweep(&self) -> Result<Vec<PathBuf>, Error> {
        self.sweep_besides(|_| false)
    }

    /// As [`Store::sweep`], but takes the word of `is_sealed` that a name's own folder needs no look: whatever is left behind in one breaks
    /// its [`Seal`].
    pub fn sweep_besides(&self, is_sealed: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, Error> {
        let names = atomic::list_some(&self.generations_folder(), |name| !is_sealed(name))?;
        let mut swept = atomic::sweep(&self.live_folder(), TEMPORARY)?;
        if names.iter().any(|name| name.starts_with(TEMPORARY)) {
            swept.extend(atomic::sweep(&self.generations_folder(), TEMPORARY)?);
        }
        swept.extend(self.sweep_only(&names)?);
        Ok(swept)
    }

    /// As [`Store::sweep`], but takes the caller's word ([`Watch::is_undisturbed`]) that nothing was left behind among links and generations
    /// save in the folders of these names.
    pub fn sweep_only(&self, names: &[impl AsRef<str>]) -> Result<Vec<PathBuf>, Error> {
        self.swept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        let mut swept = atomic::sweep(&self.root, TEMPORARY)?;
        swept.extend(atomic::sweep(&self.root.join(OUTPUTS), TEMPORARY)?);
        for name in names.iter().map(AsRef::as_ref).filter(|name| check_name(name).is_ok()) {
            let folder = self.generations_of(name)?;
            swept.extend(atomic::sweep(&folder, TEMPORARY)?);
            if is_empty_folder(&folder)? {
                atomic::remove_tree(&folder)?;
                swept.push(folder);
            }
        }
        Ok(swept)
    }

    fn live_folder(&self) -> PathBuf {
        self.root.join("live")
    }

    fn generations_folder(&self) -> PathBuf {
        self.root.join("generations")
    }

    fn generations_of(&self, name: &str) -> Result<PathBuf, Error> {
        check_name(name)?;
        Ok(self.generations_folder().join(name))
    }
}

const FOLDER_MODE: u32 = 0o755;
const PRIVATE_FOLDER_MODE: u32 = 0o700;
const OUTPUTS: &str = "outputs";

/// In our own folders any hidden `.tmp-` is ours.
const TEMPORARY: &str = ".tmp-";

/// A name is one path component that is not hidden. The configuration is stricter; this is the last line.
fn check_name(name: &str) -> Result<(), Error> {
    match name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) || name.len() > MAX_NAME {
        true => Err(Error::Name { name: name.to_owned() }),
        false => Ok(()),
    }
}

/// `/etc/haproxy/certs/api.pem` -> `/etc/haproxy/certs/.api.pem.before-certsyncd`.
fn kept_path(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(KEPT_SUFFIX);
    path.with_file_name(name)
}

/// NAME_MAX of Linux file systems.
const MAX_NAME: usize = 255;

fn create_missing_parents(folder: &Path) -> Result<(), Error> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_missing_parents(parent)?;
    }
    atomic::create_folder(folder, FOLDER_MODE)?;
    Ok(())
}

fn is_empty_folder(path: &Path) -> Result<bool, Error> {
    let is_folder = atomic::stat(path)?.is_some_and(|found| found.is_folder);
    Ok(is_folder && std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()))
}

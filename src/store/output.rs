//! Further copies where a service wants them (`[[certificate.output]]`): atomic in their own folder, on whatever file system.
//!
//! The first time a path is taken over, the operator's file (or symbolic link) stays beside it under a hidden name, since haproxy loads
//! every other file of a `crt` folder: `/etc/haproxy/certs/api.pem` is kept as `/etc/haproxy/certs/.api.pem.before-certsyncd`.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::generation::hash;
use super::{Error, OUTPUTS, Store, kept_path};
use crate::atomic::{self, Access, Change};
use crate::config::Output;

/// What [`Store::write_output`] had to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputChange {
    /// Nothing: bytes, mode and owner were right.
    Unchanged,
    /// The bytes were right; mode or owner were put right.
    PutRight,
    /// Other bytes are there now.
    Written {
        /// Where the operator's file of before is kept, when this write took the path over.
        kept: Option<PathBuf>,
    },
}

impl Store {
    /// Makes the output hold exactly `bytes`, with its owner, group and mode set before a byte is in it.
    ///
    /// A symbolic link at the path is the operator's own: it is kept beside like a file, and what it points to is not touched.
    pub fn write_output(&self, output: &Output, bytes: &[u8]) -> Result<OutputChange, Error> {
        let path = &output.path;
        let failed = |source| Error::Output { path: path.clone(), source };
        let access = access(output).map_err(failed)?;
        self.sweep_once(path).map_err(failed)?;
        if self.is_taken_over(path)? || atomic::stat(path).map_err(failed)?.is_none() {
            self.mark_as_taken_over(path)?;
            return atomic::write(path, bytes, access).map(OutputChange::from).map_err(failed);
        }
        if atomic::is_right(path, bytes, access).map_err(failed)? {
            return Ok(OutputChange::Unchanged);
        }
        let kept = kept_path(path);
        let was_kept = atomic::take_over(path, &kept, bytes, access).map_err(failed)?;
        self.mark_as_taken_over(path)?;
        Ok(OutputChange::Written { kept: was_kept.then_some(kept) })
    }

    /// Strays of a crash are looked for once per folder and [`Store::sweep`], not once per output.
    fn sweep_once(&self, path: &Path) -> Result<(), atomic::Error> {
        let Some(folder) = path.parent() else { return Ok(()) };
        if self.swept.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned()) {
            match atomic::sweep(folder, atomic::TEMPORARY) {
                // A folder where we may write but not look: then nothing can be swept, and the output is written all the same.
                Err(error) if error.is_denied() => {}
                outcome => drop(outcome?),
            }
        }
        Ok(())
    }

    /// By the mark, or by what is kept: a crash may have come between the two.
    fn is_taken_over(&self, path: &Path) -> Result<bool, Error> {
        Ok(atomic::stat(&self.mark(path))?.is_some() || atomic::stat(&kept_path(path))?.is_some())
    }

    /// The mark holds the path, for people; its name is the path's hash.
    fn mark_as_taken_over(&self, path: &Path) -> Result<(), Error> {
        atomic::write(&self.mark(path), format!("{}\n", path.display()).as_bytes(), Access::mode(0o600))?;
        Ok(())
    }

    fn mark(&self, path: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.root().join(OUTPUTS).join(hash(path.as_os_str().as_bytes()))
    }
}

impl From<Change> for OutputChange {
    fn from(change: Change) -> OutputChange {
        match change {
            Change::Nothing => OutputChange::Unchanged,
            Change::Access => OutputChange::PutRight,
            Change::Content => OutputChange::Written { kept: None },
        }
    }
}

fn access(output: &Output) -> Result<Access, atomic::Error> {
    Ok(Access {
        mode: output.mode,
        owner: output.owner.as_deref().map(atomic::user_id).transpose()?,
        group: output.group.as_deref().map(atomic::group_id).transpose()?,
    })
}

//! `sudo certsyncd sync`: files must belong to the service's user, or the daemon could not touch them afterwards.

use std::path::Path;

use super::Error;
use crate::atomic;

/// Whom [`become_owner`] made of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// Nobody else: not root, or the state directory is not there yet or root's own.
    Unchanged,
    /// This user, for good.
    User(u32),
}

/// When root works on a state directory that belongs to another user, becomes that user, with its groups, for good.
///
/// Call it before anything else runs: the configuration may be read first, the runtime's threads start afterwards.
pub fn become_owner(state_dir: &Path) -> Result<Became, Error> {
    if atomic::me() != 0 {
        return Ok(Became::Unchanged);
    }
    match atomic::stat_following(state_dir)? {
        Some(found) if found.owner != 0 && !atomic::is_unmapped(found.owner) => {
            let failed = |source| Error::Owner { path: state_dir.to_owned(), uid: found.owner, source };
            atomic::become_user(found.owner, found.group).map_err(failed)?;
            Ok(Became::User(found.owner))
        }
        _ => Ok(Became::Unchanged),
    }
}

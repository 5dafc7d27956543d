//! One at a time: a lock for the daemon's life and one for each pass.
//!
//! Both are flock(2)s, so only a living process holds them: whatever ends the process ends the lock, and a file that is left behind means
//! nothing. What is written in the file is only for the message to whoever has to wait.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::atomic;
use crate::clock::Clock;

pub use super::Error;

/// Held until it is dropped, or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// The lock of one pass (`<state_dir>/lock`), waited for at most `wait`; then [`Error::Held`] with who holds it.
///
/// Whoever gets it reads the ledger again: somebody else may have written it meanwhile.
pub async fn pass(state_dir: &Path, wait: Duration) -> Result<Lock, Error> {
    let path = state_dir.join("lock");
    let end = Instant::now() + wait;
    loop {
        match take(&path) {
            Err(Error::Held { .. }) if Instant::now() < end => tokio::time::sleep_until(end.min(Instant::now() + POLL)).await,
            outcome => return outcome,
        }
    }
}

/// The lock of a daemon's life (`<state_dir>/daemon.lock`); [`Error::Held`] at once when another daemon has it.
pub fn daemon(state_dir: &Path) -> Result<Lock, Error> {
    take(&state_dir.join("daemon.lock"))
}

/// Whether a daemon lives on this state directory. Only looks: nobody is kept out for longer than that.
pub fn has_daemon(state_dir: &Path) -> bool {
    let path = state_dir.join("daemon.lock");
    if !path.exists() {
        return false;
    }
    let Ok(file) = atomic::open_lock(&path, MODE) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// How often a waiting process looks again.
const POLL: Duration = Duration::from_millis(100);

/// Readable for the group: who has to wait wants to know for whom.
const MODE: u32 = 0o640;

/// Bytes of the holder's words that are shown.
const MAX_NOTE: u64 = 512;

fn take(path: &Path) -> Result<Lock, Error> {
    loop {
        let file = atomic::open_lock(path, MODE)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Held { by: holder(path) }),
            Err(TryLockError::Error(source)) => {
                return Err(atomic::Error::Io { operation: "lock", path: path.to_owned(), source }.into());
            }
        }
        // Somebody removed the file between opening and locking: a lock on a file without a name keeps nobody out.
        if is_at(&file, path) {
            // A full disk must not stop a pass: the lock holds without words too.
            let _ = atomic::note(&file, path, &note());
            return Ok(Lock { _file: file });
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let Ok(held) = file.metadata() else { return false };
    std::fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (held.dev(), held.ino()))
}

fn note() -> String {
    let command: Vec<String> = std::env::args().take(MAX_ARGUMENTS).collect();
    format!("process {}, `{}`, since {:.0}\n", std::process::id(), command.join(" "), Clock::system().now())
}

/// Of the command line that are shown.
const MAX_ARGUMENTS: usize = 8;

fn holder(path: &Path) -> String {
    let bytes = atomic::read_start(path, MAX_NOTE).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => line.chars().filter(|c| !c.is_control()).collect(),
        _ => "a process that has not said its name yet".to_owned(),
    }
}

//! The outbox's files. What cannot be read is put aside and costs itself, never the others.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Entry, HISTORY, Outcome};
use crate::alert::Error;
use crate::atomic::{self, Access};
use crate::ledger::Raised;

/// The format written by this version.
const VERSION: u32 = 1;

/// Bytes of one file that are read; the memory of 10,000 certificates takes a tenth.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Messages name certificates and hosts, and quote servers: nobody else's business.
const MODE: u32 = 0o600;

/// `memory.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    version: u32,
    /// The next entry's number.
    pub next: u64,
    /// What was raised and is not over; `None` after the file was lost, until a pass was judged.
    pub raised: Option<BTreeMap<String, Raised>>,
    /// Entries that are durable here and not yet files of their own.
    pub unfiled: Vec<Entry>,
}

pub(super) fn create(folder: &Path) -> Result<(), Error> {
    atomic::create_folder(folder, 0o700)?;
    Ok(())
}

/// The lock of one change; waits for it, since nobody holds it for long.
pub(super) fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let file = atomic::open_lock(&path, MODE)?;
    file.lock().map_err(|source| atomic::Error::Io { operation: "lock", path, source })?;
    Ok(file)
}

/// The lock of a round of deliveries; `None` while another process has it.
pub(super) fn round(folder: &Path) -> Result<Option<File>, Error> {
    let path = folder.join("deliver.lock");
    let file = atomic::open_lock(&path, MODE)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(source)) => Err(atomic::Error::Io { operation: "lock", path, source }.into()),
    }
}

/// The memory, with what a crash left unfiled put into files first, and half-written files removed. To be called under the lock.
pub(super) fn memory(folder: &Path) -> Result<Memory, Error> {
    // what cannot be swept away is no reason to keep silent
    let _ = atomic::sweep(folder, atomic::TEMPORARY);
    let mut memory = peek(folder)?;
    // numbers go on after a lost memory, and after an older one that was put back
    let highest = numbers(folder)?.last().copied().unwrap_or_default();
    memory.next = memory.next.max(highest + 1);
    if memory.version == 0 {
        let told = history(folder).iter().map(|outcome| outcome.number).max().unwrap_or_default();
        memory.next = memory.next.max(told + 1);
    }
    finish(folder, &mut memory)?;
    Ok(memory)
}

/// The memory as it stands, for a look.
pub(super) fn peek(folder: &Path) -> Result<Memory, Error> {
    Ok(load(&folder.join(MEMORY))?.unwrap_or_default())
}

pub(super) fn save(folder: &Path, memory: &mut Memory) -> Result<(), Error> {
    memory.version = VERSION;
    store(&folder.join(MEMORY), memory)
}

/// Gives each unfiled entry its file; whether there were any. Doing it twice does no harm: nothing is delivered before it is done.
pub(super) fn finish(folder: &Path, memory: &mut Memory) -> Result<bool, Error> {
    if memory.unfiled.is_empty() {
        return Ok(false);
    }
    for entry in &memory.unfiled {
        write(folder, entry)?;
    }
    memory.unfiled.clear();
    save(folder, memory)?;
    Ok(true)
}

pub(super) fn write(folder: &Path, entry: &Entry) -> Result<(), Error> {
    store(&path(folder, entry.number), entry)
}

pub(super) fn remove(folder: &Path, number: u64) -> Result<(), Error> {
    atomic::remove_tree(&path(folder, number))?;
    Ok(())
}

/// One entry, unless it is gone.
pub(super) fn entry(folder: &Path, number: u64) -> Result<Option<Entry>, Error> {
    let entry: Option<Entry> = load(&path(folder, number))?;
    Ok(entry.map(|mut entry| {
        entry.number = number;
        entry.event.message_zh.clone_from(&entry.message_zh);
        entry
    }))
}

/// All entries, oldest first.
pub(super) fn entries(folder: &Path) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for number in numbers(folder)? {
        entries.extend(entry(folder, number)?);
    }
    Ok(entries)
}

/// The remembered outcomes; none where they cannot be read.
pub(super) fn history(folder: &Path) -> Vec<Outcome> {
    load(&folder.join(HISTORY_FILE)).ok().flatten().unwrap_or_default()
}

/// Adds outcomes; a later one of the same entry and channel takes the earlier one's place. To be called under the lock.
pub(super) fn remember(folder: &Path, outcomes: &[Outcome]) -> Result<(), Error> {
    if outcomes.is_empty() {
        return Ok(());
    }
    let mut history = history(folder);
    for outcome in outcomes {
        history.retain(|known| known.number != outcome.number || known.channel != outcome.channel);
        history.push(outcome.clone());
    }
    let excess = history.len().saturating_sub(HISTORY);
    history.drain(..excess);
    store(&folder.join(HISTORY_FILE), &history)
}

const MEMORY: &str = "memory.json";
const HISTORY_FILE: &str = "history.json";

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}.json"))
}

/// Numbers of the entries, lowest first.
fn numbers(folder: &Path) -> Result<Vec<u64>, Error> {
    let names = atomic::list(folder)?;
    let number = |name: &String| name.strip_suffix(".json").filter(|stem| stem.len() == 12).and_then(|stem| stem.parse().ok());
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn store(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value).map_err(Error::Encode)?;
    atomic::write(path, &bytes, Access::mode(MODE))?;
    Ok(())
}

/// What the file holds; one that makes no sense is put aside as `damaged-…`, and said so.
fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match atomic::read(path, MAX_FILE) {
        Ok(None) => return Ok(None),
        Ok(Some(bytes)) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        Err(error @ (atomic::Error::TooLarge { .. } | atomic::Error::Kind { .. })) => Err(error.to_string()),
        Err(error) => return Err(error.into()),
    };
    bytes.map(Some).or_else(|why| {
        let aside = path.with_file_name(format!("damaged-{}", path.file_name().unwrap_or_default().to_string_lossy()));
        tracing::error!(path = %path.display(), aside = %aside.display(), "a file of the alert outbox makes no sense and was put aside: {why}");
        atomic::put_aside(path, &aside)?;
        Ok(None)
    })
}

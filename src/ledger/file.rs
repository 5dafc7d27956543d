//! `ledger.json`: read with patience, written in one rename.
//!
//! What cannot be read costs the memory, never the pass: the file is kept aside as `ledger.json.damaged`, what is still readable in it is
//! taken over record by record, and [`Loaded::rebuilt`] says why. Only a file of a newer version stops us, so that it is not lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Base, CertificateRecord, Ledger, PassRecord, ProviderRecord, Pulse, Raised, TargetRecord, VERSION, layout};
use crate::atomic::{self, Access};

/// Bytes that a ledger may have. Ten thousand certificates with eight targets each need about a third.
pub const MAX_LEDGER: u64 = 32 * 1024 * 1024;

/// The file's name in the state directory.
pub const FILE: &str = "ledger.json";

/// What [`Ledger::load`] found.
#[derive(Debug)]
pub struct Loaded {
    /// The memory; fresh where there was none.
    pub ledger: Ledger,
    /// Why it is not the one that was saved last; `None` when it is, or when the state directory is new.
    pub rebuilt: Option<String>,
    /// The last pass that the file itself tells of; later quiet ones are added from the [`Pulse`].
    pub base: Option<Base>,
}

/// Why the ledger cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] atomic::Error),
    /// Written by a later certsyncd, which remembers things that this one would forget.
    #[error("`{}` has format {found}, written by {by}; this version knows formats up to {VERSION}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// Who wrote it.
        by: String,
    },
    /// It cannot be put in words: a mistake of ours.
    #[error("failed to encode the ledger")]
    Encode(#[source] serde_json::Error),
}

impl Error {
    /// A stable word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Disk(error) => error.kind(),
            Error::Newer { .. } => "newer_ledger",
            Error::Encode(_) => "encode",
        }
    }

    /// Whether another try may pass by itself.
    pub fn is_transient(&self) -> bool {
        false
    }

    /// What would mend it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Disk(error) => error.hint(),
            Error::Newer { path, by, .. } => Some(format!(
                "install {by} again, or move `{}` away: the memory is then rebuilt from disk, and every certificate is fetched once more",
                path.display()
            )),
            Error::Encode(_) => None,
        }
    }
}

impl Ledger {
    /// An empty memory of this version.
    pub fn fresh() -> Ledger {
        Ledger { version: VERSION, ..Ledger::default() }
    }

    /// Reads the ledger of `state_dir`; a damaged file is kept aside as `ledger.json.damaged`. For whoever holds the lock of a pass.
    pub fn load(state_dir: &Path) -> Result<Loaded, Error> {
        let (loaded, is_damaged) = read(state_dir)?;
        if is_damaged {
            let path = state_dir.join(FILE);
            atomic::put_aside(&path, &path.with_extension("json.damaged"))?;
        }
        Ok(loaded)
    }

    /// As [`Ledger::load`], but changes nothing on disk: for `status` and `plan`, which hold no lock.
    pub fn peek(state_dir: &Path) -> Result<Loaded, Error> {
        read(state_dir).map(|(loaded, _)| loaded)
    }

    /// The ledger in `bytes`, or what is still readable of it; `path` is only for messages. Fails only on a newer format.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Loaded, Error> {
        match parse(bytes) {
            Parsed::Good(ledger) => Ok(Loaded { base: ledger.base(), ledger, rebuilt: None }),
            Parsed::Damaged(ledger, why) => {
                let rebuilt = Some(format!("`{}` was damaged: {why}", path.display()));
                Ok(Loaded { ledger, rebuilt, base: None })
            }
            Parsed::Newer { found, by } => Err(Error::Newer { path: path.to_owned(), found, by }),
        }
    }

    /// Writes the ledger, durable when this returns. What is on disk already is not written again.
    pub fn save(&self, state_dir: &Path) -> Result<(), Error> {
        let path = state_dir.join(FILE);
        let file = File {
            version: VERSION,
            written_by: WRITTEN_BY,
            certificates: &self.certificates,
            targets: &self.targets,
            providers: &self.providers,
            alerts: &self.alerts,
            last_pass: &self.last_pass,
            last_success: &self.last_success,
        };
        let mut bytes = layout::encode(&file).map_err(Error::Encode)?;
        bytes.push(b'\n');
        atomic::write(&path, &bytes, Access::mode(MODE))?;
        let saved = |source| atomic::Error::Io { operation: "go on with", path, source };
        crate::failpoint::hit("ledger.saved").map_err(saved)?;
        Ok(())
    }
}

const MODE: u32 = 0o640;
const WRITTEN_BY: &str = concat!("certsyncd ", env!("CARGO_PKG_VERSION"));

/// The ledger with the words that tell a person (and a later version) whose it is.
#[derive(Serialize)]
struct File<'a> {
    version: u32,
    written_by: &'static str,
    certificates: &'a BTreeMap<String, Box<CertificateRecord>>,
    targets: &'a BTreeMap<String, TargetRecord>,
    providers: &'a BTreeMap<String, ProviderRecord>,
    alerts: &'a BTreeMap<String, Raised>,
    last_pass: &'a Option<PassRecord>,
    last_success: &'a Option<Timestamp>,
}

fn read(state_dir: &Path) -> Result<(Loaded, bool), Error> {
    let path = state_dir.join(FILE);
    let bytes = match atomic::read(&path, MAX_LEDGER) {
        // No secret is in it: nothing of these megabytes needs wiping.
        Ok(Some(mut bytes)) => std::mem::take(&mut *bytes),
        Ok(None) => return Ok((Loaded { ledger: Ledger::fresh(), rebuilt: missing(state_dir)?, base: None }, false)),
        Err(error @ (atomic::Error::TooLarge { .. } | atomic::Error::Kind { .. })) => {
            return Ok((Loaded { ledger: Ledger::fresh(), rebuilt: Some(error.to_string()), base: None }, true));
        }
        Err(error) => return Err(error.into()),
    };
    let mut loaded = Ledger::parse(&bytes, &path)?;
    if let Some(pulse) = loaded.base.and_then(|_| Pulse::read(state_dir)) {
        loaded.ledger.follow(&pulse);
    }
    let is_damaged = loaded.rebuilt.is_some();
    Ok((loaded, is_damaged))
}

/// No ledger beside generations is a loss; in a new state directory it is not.
fn missing(state_dir: &Path) -> Result<Option<String>, Error> {
    let has_generations = !atomic::list(&state_dir.join("generations"))?.is_empty();
    Ok(has_generations.then(|| format!("`{}` was missing", state_dir.join(FILE).display())))
}

/// What bytes turned out to be.
#[derive(Debug)]
enum Parsed {
    Good(Ledger),
    Damaged(Ledger, String),
    Newer { found: u64, by: String },
}

fn parse(bytes: &[u8]) -> Parsed {
    // In one go when all is well; what is not is looked at piece by piece.
    match serde_json::from_slice::<Ledger>(bytes) {
        Ok(ledger) if ledger.version == VERSION => Parsed::Good(ledger),
        _ => parse_in_pieces(bytes),
    }
}

fn parse_in_pieces(bytes: &[u8]) -> Parsed {
    let whole = match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(whole)) => whole,
        Ok(_) => return Parsed::Damaged(Ledger::fresh(), "it is no JSON object".to_owned()),
        Err(error) => return Parsed::Damaged(Ledger::fresh(), error.to_string()),
    };
    match whole.get("version").and_then(Value::as_u64) {
        Some(found) if found > u64::from(VERSION) => Parsed::Newer { found, by: author(&whole) },
        Some(_) => records(whole),
        None => {
            let (Parsed::Good(ledger) | Parsed::Damaged(ledger, _)) = records(whole) else {
                return Parsed::Damaged(Ledger::fresh(), "it has no `version`".to_owned());
            };
            Parsed::Damaged(ledger, "it has no `version`".to_owned())
        }
    }
}

/// Each record by itself, so that a bad one costs only itself.
fn records(mut whole: Map<String, Value>) -> Parsed {
    let mut lost = Vec::new();
    let ledger = Ledger {
        version: VERSION,
        certificates: section(&mut whole, "certificates", &mut lost),
        targets: section(&mut whole, "targets", &mut lost),
        providers: section(&mut whole, "providers", &mut lost),
        alerts: section(&mut whole, "alerts", &mut lost),
        last_pass: record(whole.remove("last_pass").unwrap_or_default(), "last_pass", &mut lost).flatten(),
        last_success: record(whole.remove("last_success").unwrap_or_default(), "last_success", &mut lost).flatten(),
        rebuilt: record(whole.remove("rebuilt").unwrap_or_default(), "rebuilt", &mut lost).flatten(),
    };
    if lost.is_empty() { Parsed::Good(ledger) } else { Parsed::Damaged(ledger, lost.join("; ")) }
}

fn section<T: DeserializeOwned>(whole: &mut Map<String, Value>, name: &str, lost: &mut Vec<String>) -> BTreeMap<String, T> {
    let entries = match whole.remove(name) {
        None => return BTreeMap::new(),
        Some(Value::Object(entries)) => entries,
        Some(_) => {
            lost.push(format!("`{name}` is no table"));
            return BTreeMap::new();
        }
    };
    entries.into_iter().filter_map(|(key, value)| Some((key.clone(), record(value, &format!("{name}.{key}"), lost)?))).collect()
}

fn record<T: DeserializeOwned>(value: Value, name: &str, lost: &mut Vec<String>) -> Option<T> {
    T::deserialize(value).map_err(|error| lost.push(format!("`{name}`: {error}"))).ok()
}

/// Who wrote a newer file, in a few printable characters.
fn author(whole: &Map<String, Value>) -> String {
    let by = whole.get("written_by").and_then(Value::as_str).unwrap_or("a later certsyncd");
    by.chars().filter(|c| !c.is_control()).take(64).collect()
}

//! `ledger.json`: read with patience, written in one rename.
//!
//! What cannot be read costs the memory, never the pass: the file is kept aside as `ledger.json.damaged`, what is still readable in it is
//! taken over record by record, and [`Loaded::rebuilt`] says why. Only a file of a newer version stops us, so that it is not lost.

use std::collections::BTreeMap;
use std::fs::File as OpenFile;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::lines::{self, Lines};
use super::{Base, Ledger, Mark, PassRecord, ProviderRecord, Pulse, Raised, TargetRecord, VERSION, layout};
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

    /// Opens the ledger of `state_dir`.
    pub fn begin(state_dir: &Path) -> Result<Beginning, Error> {
        let path = state_dir.join(FILE);
        let found = match atomic::open(&path, MAX_LEDGER) {
            Ok(Some(file)) => begin(file, &path)?,
            Ok(None) => Found::Whole(Loaded { ledger: Ledger::fresh(), rebuilt: missing(state_dir)?, base: None }, Health::Good),
            Err(error @ (atomic::Error::TooLarge { .. } | atomic::Error::Kind { .. })) => Found::unreadable(&error),
            Err(error) => return Err(error.into()),
        };
        Ok(Beginning { path, found })
    }

    /// Reads the ledger of `state_dir`; a damaged file is kept aside as `ledger.json.damaged`. For whoever holds the lock of a pass.
    pub fn load(state_dir: &Path) -> Result<Loaded, Error> {
        Ledger::begin(state_dir)?.load()
    }

    /// As [`Ledger::load`], but changes nothing on disk: for `status` and `plan`, which hold no lock.
    pub fn peek(state_dir: &Path) -> Result<Loaded, Error> {
        Ledger::begin(state_dir)?.read().map(|(loaded, _)| loaded)
    }

    /// The ledger in `bytes`, or what is still readable of it; `path` is only for messages. Fails only on a newer format.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Loaded, Error> {
        if let Some(ledger) = in_lines(bytes) {
            return Ok(Loaded { base: ledger.base(), ledger, rebuilt: None });
        }
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
        let mut records: Vec<_> = self.certificates.iter().map(|(name, record)| (name.as_str(), &**record)).collect();
        records.sort_unstable_by_key(|(name, _)| *name);
        let head = Head {
            version: VERSION,
            written_by: WRITTEN_BY,
            last_pass: &self.last_pass,
            last_success: &self.last_success,
            targets: &self.targets,
            providers: &self.providers,
            alerts: &self.alerts,
            folders: &self.folders,
        };
        let mut bytes = layout::encode(&head, lines::SECTION, &records).map_err(Error::Encode)?;
        bytes.push(b'\n');
        atomic::write(&path, &bytes, Access::mode(MODE))?;
        let saved = |source| atomic::Error::Io { operation: "go on with", path, source };
        crate::failpoint::hit("ledger.saved").map_err(saved)?;
        Ok(())
    }
}

const MODE: u32 = 0o640;
const WRITTEN_BY: &str = concat!("certsyncd ", env!("CARGO_PKG_VERSION"));

/// The ledger without its records, with the words that tell a person (and a later version) whose it is.
#[derive(Serialize)]
struct Head<'a> {
    version: u32,
    written_by: &'static str,
    last_pass: &'a Option<PassRecord>,
    last_success: &'a Option<Timestamp>,
    targets: &'a BTreeMap<String, TargetRecord>,
    providers: &'a BTreeMap<String, ProviderRecord>,
    alerts: &'a BTreeMap<String, Raised>,
    folders: &'a Option<Mark>,
}

/// The ledger's file, opened: what a pass wants to know before all records are read.
pub struct Beginning {
    path: PathBuf,
    found: Found,
}

enum Found {
    /// Read already, and not to be used as it lies there if damaged.
    Whole(Loaded, Health),
    /// All but the records, and those.
    Head(Ledger, Option<Lines<Reader>>),
}

#[derive(Clone, Copy, PartialEq)]
enum Health {
    Good,
    Damaged,
}

type Reader = BufReader<io::Take<OpenFile>>;

impl Beginning {
    /// What is known of the providers.
    pub fn providers(&self) -> &BTreeMap<String, ProviderRecord> {
        match &self.found {
            Found::Whole(loaded, _) => &loaded.ledger.providers,
            Found::Head(head, _) => &head.providers,
        }
    }

    /// All of it; a damaged file is kept aside as `ledger.json.damaged`. For whoever holds the lock of a pass.
    pub fn load(self) -> Result<Loaded, Error> {
        let path = self.path.clone();
        let (loaded, health) = self.read()?;
        if health == Health::Damaged {
            atomic::put_aside(&path, &path.with_extension("json.damaged"))?;
        }
        Ok(loaded)
    }

    fn read(self) -> Result<(Loaded, Health), Error> {
        let (mut loaded, health) = match self.found {
            Found::Whole(loaded, health) => (loaded, health),
            Found::Head(head, lines) => match with_records(head, lines, &self.path)? {
                Some(ledger) => (Loaded { base: ledger.base(), ledger, rebuilt: None }, Health::Good),
                None => whole(&self.path)?,
            },
        };
        if let Some(pulse) = loaded.base.and_then(|_| Pulse::read(self.path.parent()?)) {
            loaded.ledger.follow(&pulse);
        }
        Ok((loaded, health))
    }
}

impl Found {
    fn unreadable(error: &atomic::Error) -> Found {
        Found::Whole(Loaded { ledger: Ledger::fresh(), rebuilt: Some(error.to_string()), base: None }, Health::Damaged)
    }
}

fn begin(file: io::Take<OpenFile>, path: &Path) -> Result<Found, Error> {
    match Lines::head(BufReader::with_capacity(PIECE, file)).map_err(|source| unread(path, source))? {
        Some((head, lines)) if head.version == VERSION => Ok(Found::Head(head, lines)),
        _ => whole(path).map(|(loaded, health)| Found::Whole(loaded, health)),
    }
}

/// Bytes read at once.
const PIECE: usize = 64 * 1024;

/// `None`: it is not laid out as we do.
fn with_records(head: Ledger, lines: Option<Lines<Reader>>, path: &Path) -> Result<Option<Ledger>, Error> {
    let Some(lines) = lines else { return Ok(Some(head)) };
    let records = lines.records().map_err(|source| unread(path, source))?;
    Ok(records.map(|certificates| Ledger { certificates, ..head }))
}

fn unread(path: &Path, source: io::Error) -> Error {
    atomic::Error::Io { operation: "read", path: path.to_owned(), source }.into()
}

/// Read in one piece: whoever edited it need not know how we lay it out.
fn whole(path: &Path) -> Result<(Loaded, Health), Error> {
    let bytes = match atomic::read(path, MAX_LEDGER) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(error @ (atomic::Error::TooLarge { .. } | atomic::Error::Kind { .. })) => {
            let Found::Whole(loaded, health) = Found::unreadable(&error) else { return Err(error.into()) };
            return Ok((loaded, health));
        }
        Err(error) => return Err(error.into()),
    };
    let loaded = Ledger::parse(&bytes, path)?;
    let health = if loaded.rebuilt.is_some() { Health::Damaged } else { Health::Good };
    Ok((loaded, health))
}

/// The ledger in `bytes` where it is good and laid out as we do.
fn in_lines(bytes: &[u8]) -> Option<Ledger> {
    let (head, lines) = Lines::head(bytes).ok()??;
    let certificates = match lines {
        Some(lines) => lines.records().ok()??,
        None => head.certificates,
    };
    (head.version == VERSION).then_some(Ledger { certificates, ..head })
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

/// A table whose entries are not read yet.
type Pieces = BTreeMap<String, Box<RawValue>>;

fn parse_in_pieces(bytes: &[u8]) -> Parsed {
    let whole: Pieces = match serde_json::from_slice(bytes) {
        Ok(whole) => whole,
        Err(error) if error.is_data() => return Parsed::Damaged(Ledger::fresh(), "it is no JSON object".to_owned()),
        Err(error) => return Parsed::Damaged(Ledger::fresh(), error.to_string()),
    };
    match whole.get("version").and_then(|version| version.get().parse::<u64>().ok()) {
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
fn records(mut whole: Pieces) -> Parsed {
    let mut lost = Vec::new();
    let ledger = Ledger {
        version: VERSION,
        certificates: section(&mut whole, "certificates", &mut lost),
        targets: section(&mut whole, "targets", &mut lost),
        providers: section(&mut whole, "providers", &mut lost),
        alerts: section(&mut whole, "alerts", &mut lost),
        last_pass: single(&mut whole, "last_pass", &mut lost),
        last_success: single(&mut whole, "last_success", &mut lost),
        folders: single(&mut whole, "folders", &mut lost),
        rebuilt: single(&mut whole, "rebuilt", &mut lost),
    };
    if lost.is_empty() { Parsed::Good(ledger) } else { Parsed::Damaged(ledger, lost.join("; ")) }
}

fn section<T, M>(whole: &mut Pieces, name: &str, lost: &mut Vec<String>) -> M
where
    T: DeserializeOwned,
    M: Default + Extend<(String, T)>,
{
    let mut section = M::default();
    match whole.remove(name).map(|entries| serde_json::from_slice::<Pieces>(entries.get().as_bytes())) {
        None => {}
        Some(Ok(entries)) => section.extend(entries.into_iter().filter_map(|(key, entry)| {
            let read = record(&entry, &format!("{name}.{key}"), lost)?;
            Some((key, read))
        })),
        Some(Err(_)) => lost.push(format!("`{name}` is no table")),
    }
    section
}

fn single<T: DeserializeOwned>(whole: &mut Pieces, name: &str, lost: &mut Vec<String>) -> Option<T> {
    record::<Option<T>>(&whole.remove(name)?, name, lost).flatten()
}

fn record<T: DeserializeOwned>(entry: &RawValue, name: &str, lost: &mut Vec<String>) -> Option<T> {
    serde_json::from_slice(entry.get().as_bytes()).map_err(|error| lost.push(format!("`{name}`: {error}"))).ok()
}

/// Who wrote a newer file, in a few printable characters.
fn author(whole: &Pieces) -> String {
    let by = whole.get("written_by").and_then(|by| serde_json::from_slice::<String>(by.get().as_bytes()).ok());
    let by = by.unwrap_or_else(|| "a later certsyncd".to_owned());
    by.chars().filter(|c| !c.is_control()).take(64).collect()
}

//! One certificate on its way: fetched, unpacked, its key looked for, proved to be a pair.
//!
//! Start at [`fetch`]. Neither a greedy archive nor a parser's defect costs more than this one certificate: a short text is read on the spot, what
//! may ask for memory or time is read apart, one after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::archive;
use crate::atomic;
use crate::certificate::{self, Bundle, Piece};
use crate::config::Certificate;
use crate::failpoint;
use crate::provider::{Fetched, Payload};
use crate::report::{Failure, Valid};

use super::accounts::failure;
use super::gather::Case;

/// Archives on their way or in hand at once: each may be [`archive::MAX_ARCHIVE_BYTES`] long.
static ARCHIVES: Semaphore = Semaphore::const_new(2);
/// Answers read at once: a RAR may ask for a dictionary of 32 MiB, and one after the other they are as quick.
static READING: Semaphore = Semaphore::const_new(1);
/// A text that is read on the spot: leaf, chain and key are a third of it at most, and as many large keys as fit in are checked within some
/// tenths of a second.
const SHORT: usize = 32 * 1024;
/// A key file is a few kilobytes; more is not a key file.
const MAX_KEY_FILE: u64 = 256 * 1024;
/// The kind of a failure that is our own: it says nothing about the certificate.
pub(super) const DEFECT: &str = "panic";

/// What was fetched and is proved to be a pair.
pub(super) struct Offer {
    pub bundle: Bundle,
    pub valid: Option<Valid>,
    pub notes: Vec<String>,
}

/// Why there is no offer.
pub(super) enum NoOffer {
    /// The provider did not send it, which says nothing about the certificate.
    Unsent(Failure),
    /// It will not do, or could not be read.
    Refused(Failure),
}

impl NoOffer {
    pub fn failure(self) -> Failure {
        match self {
            NoOffer::Unsent(failure) | NoOffer::Refused(failure) => failure,
        }
    }
}

pub(super) async fn fetch(case: &Case<'_>, id: &str) -> Result<Offer, NoOffer> {
    // The semaphores are never closed.
    let _turn = if case.account.sends_archives { ARCHIVES.acquire().await.ok() } else { None };
    let Fetched { payload, valid, notes, .. } =
        case.account.client.fetch(id).await.map_err(|error| NoOffer::Unsent(failure(&error)))?;
    let key_file = case.entry.key_file.clone();
    let bundle = match is_short(&payload) && key_file.is_none() {
        true => read_here(|| read_bundle(payload, None)),
        false => read_apart(move || read_bundle(payload, key_file.as_deref())).await,
    };
    let bundle = bundle.map_err(NoOffer::Refused)?;
    let mut notes = notes;
    notes.extend(bundle.gaps().iter().cloned());
    Ok(Offer { bundle, valid, notes })
}

fn is_short(payload: &Payload) -> bool {
    match payload {
        Payload::Pem(pieces) => pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>() <= SHORT,
        Payload::Archive(_) => false,
    }
}

/// A parser that panics is this certificate's failure alone. No thread is woken up for a millisecond's work.
fn read_here<T>(read: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // What the closure took is dropped by a panic, and nobody else has it.
    let done = catch_unwind(AssertUnwindSafe(|| {
        failpoint::reach("sync.read");
        read()
    }));
    done.unwrap_or_else(|_| Err(ended(DEFECT_ENDED)))
}

/// Reading is a matter of a processor: a parser that panics is this certificate's failure alone.
///
/// One at a time, each in a thread that ends with it, and the next one only after that end: what a greedy archive took goes to the next
/// one, where the threads of a pool would each keep their own (measured: 130 MiB with eight of them, 50 with one).
async fn read_apart<T: Send + 'static>(read: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let reading = READING.acquire().await.ok();
    let work = move || {
        let reader = std::thread::Builder::new().name("reader".to_owned()).spawn(move || {
            failpoint::reach("sync.read");
            read()
        });
        let done = reader.map_err(|error| ended(&error.to_string()))?.join();
        drop(reading);
        done.unwrap_or_else(|_panic| Err(ended(DEFECT_ENDED)))
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_cancelled| Err(ended("certsyncd is ending")))
}

fn ended(why: &str) -> Failure {
    Failure {
        kind: DEFECT.to_owned(),
        causes: vec![format!("failed to read what the provider sent: {why}")],
        hint: Some("please report it, with the place that the log names; the other certificates go on".to_owned()),
        transient: false,
    }
}

const DEFECT_ENDED: &str = "a defect of certsyncd ended it";

fn read_bundle(payload: Payload, key_file: Option<&std::path::Path>) -> Result<Bundle, Failure> {
    let mut pieces = match payload {
        Payload::Pem(pieces) => pieces,
        Payload::Archive(bytes) => unpack(&bytes)?,
    };
    match (Bundle::assemble(&pieces), key_file) {
        (Ok(bundle), _) => Ok(bundle),
        (Err(certificate::Error::NoKey { .. }), Some(path)) => {
            pieces.push(read_key_file(path)?);
            Bundle::assemble(&pieces)
                .map_err(|error| refused(&error).context(format!("failed to use key file `{}`", path.display())))
        }
        (Err(error), _) => Err(refused(&error)),
    }
}

fn unpack(bytes: &[u8]) -> Result<Vec<Piece>, Failure> {
    let entries = archive::unpack(bytes).map_err(|error| Failure::new(error.kind(), &error).hint(error.hint()))?;
    Ok(entries.into_iter().map(|entry| Piece { name: entry.name, bytes: entry.bytes }).collect())
}

fn read_key_file(path: &std::path::Path) -> Result<Piece, Failure> {
    let hint = "the provider has no key for this certificate, so this file must hold it; let the user `certsyncd` read it";
    let failed =
        |failure: Failure| failure.context(format!("failed to read key file `{}`", path.display())).hint(Some(hint.to_owned()));
    match atomic::read(path, MAX_KEY_FILE) {
        Ok(Some(bytes)) => Ok(Piece { name: path.display().to_string(), bytes }),
        Ok(None) => Err(failed(Failure {
            kind: "key_file".to_owned(),
            causes: vec!["there is no such file".to_owned()],
            hint: None,
            transient: false,
        })),
        Err(error) => Err(failed(Failure::new("key_file", &error))),
    }
}

fn refused(error: &certificate::Error) -> Failure {
    Failure::new(error.kind(), error).hint(error.hint())
}

pub(super) fn key_file_hash(entry: &Certificate) -> Option<String> {
    let bytes = atomic::read(entry.key_file.as_deref()?, MAX_KEY_FILE).ok().flatten()?;
    Some(hex::encode(Sha256::digest(bytes.as_slice())))
}

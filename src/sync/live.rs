//! One entry's files go live: the link, then the copies that other services want.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;
use sha2::{Digest, Sha256};

use crate::atomic;
use crate::certificate::{self, Bundle};
use crate::config::{Certificate, Format, Output};
use crate::ledger::{CertificateRecord, Hashes};
use crate::report::{Failure, Live};
use crate::store::{self, Installed, OutputChange, Store};

/// How far it got.
pub(super) enum Placed {
    /// The link moved; outputs by path with the hash of what they hold, and what failed of them.
    Live { outputs: BTreeMap<String, String>, failed: Option<Failure> },
    /// The link did not move.
    Failed(Failure),
}

/// Makes `installed` live, durably.
pub(super) fn place(store: &Store, entry: &Certificate, installed: &Installed) -> Placed {
    match store.publish(&entry.name, &installed.generation) {
        Ok(()) => place_outputs(store, entry, installed),
        Err(error) => Placed::Failed(unpublished(&entry.name, &error)),
    }
}

/// As [`place`], of what this pass wrote; whoever places many makes the links durable afterwards, all at once.
pub(super) fn place_ahead(store: &Store, entry: &Certificate, installed: &Installed) -> Placed {
    match store.publish_ahead(&entry.name, installed) {
        Ok(()) => place_outputs(store, entry, installed),
        Err(error) => Placed::Failed(unpublished(&entry.name, &error)),
    }
}

/// What is said of a link that did not move, or may not last.
pub(super) fn unpublished(name: &str, error: &store::Error) -> Failure {
    Failure::new(error.kind(), error).hint(error.hint()).context(format!("failed to publish `{name}`"))
}

fn place_outputs(store: &Store, entry: &Certificate, installed: &Installed) -> Placed {
    let mut outputs = BTreeMap::new();
    let mut failed = None;
    for output in &entry.outputs {
        match write(store, output, &installed.bundle) {
            Ok((hash, _)) => {
                outputs.insert(output.path.display().to_string(), hash);
            }
            Err(failure) => failed = Some(failure),
        }
    }
    Placed::Live { outputs, failed }
}

/// The copies of what is live, as [`tend_outputs`] left them.
#[derive(Default)]
pub(super) struct Outputs {
    /// One sentence for each that somebody had changed.
    pub drift: Vec<String>,
    /// Hash of what each holds now, by path; one that failed keeps what was known of it.
    pub hashes: BTreeMap<String, String>,
    pub failed: Option<Failure>,
}

/// Puts the copies of what is live right. One that still holds what was written last was changed by nobody: a pass died before its turn,
/// or the inventory asks for another format.
pub(super) fn tend_outputs(store: &Store, entry: &Certificate, bundle: &Bundle, known: &BTreeMap<String, String>) -> Outputs {
    let mut outputs = Outputs::default();
    for output in &entry.outputs {
        let path = output.path.display().to_string();
        let is_as_left = known.get(&path).map(|known| Some(known) == hash_of(&output.path).as_ref());
        match write(store, output, bundle) {
            Ok((hash, change)) => {
                match change {
                    OutputChange::PutRight => {
                        outputs.drift.push(format!("mode or owner of output `{path}` was changed and is right again"));
                    }
                    OutputChange::Written { .. } if is_as_left == Some(false) => {
                        outputs.drift.push(format!("output `{path}` was changed or removed and is right again"));
                    }
                    _ => {}
                }
                outputs.hashes.insert(path, hash);
            }
            Err(failure) => {
                outputs.hashes.extend(known.get(&path).map(|hash| (path, hash.clone())));
                outputs.failed = Some(failure);
            }
        }
    }
    outputs
}

fn hash_of(path: &Path) -> Option<String> {
    atomic::read(path, MAX_OUTPUT).ok().flatten().map(|bytes| hash(&bytes))
}

fn write(store: &Store, output: &Output, bundle: &Bundle) -> Result<(String, OutputChange), Failure> {
    let context = || format!("failed to write output `{}`", output.path.display());
    let password = password(output).map_err(|failure| failure.context(context()))?;
    if let Some(password) = &password
        && holds_already(&output.path, password, bundle)
    {
        // A PKCS#12 file is salted: equal content never has equal bytes.
        let bytes = atomic::read(&output.path, MAX_OUTPUT)
            .map_err(|error| Failure::new("output", &error).context(context()))?
            .unwrap_or_default();
        let change = store
            .write_output(output, &bytes)
            .map_err(|error| Failure::new(error.kind(), &error).hint(error.hint()).context(context()))?;
        return Ok((hash(&bytes), change));
    }
    let bytes = certificate::encode(bundle, output.format, password.as_ref())
        .map_err(|error| Failure::new(error.kind(), &error).hint(error.hint()).context(context()))?;
    let change = store
        .write_output(output, &bytes)
        .map_err(|error| Failure::new(error.kind(), &error).hint(error.hint()).context(context()))?;
    Ok((hash(&bytes), change))
}

fn password(output: &Output) -> Result<Option<SecretString>, Failure> {
    if output.format != Format::Pkcs12 {
        return Ok(None);
    }
    output.password.as_ref().map(|source| source.resolve().map_err(|error| Failure::new("secret", &error))).transpose()
}

fn holds_already(path: &Path, password: &SecretString, bundle: &Bundle) -> bool {
    matches!(atomic::read(path, MAX_OUTPUT), Ok(Some(bytes)) if certificate::pkcs12_holds(&bytes, password, bundle))
}

/// An output is a few kilobytes; more than this was not written by us.
const MAX_OUTPUT: u64 = 4 * 1024 * 1024;

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Notes in the ledger what is live now.
pub(super) fn note_live(
    record: &mut CertificateRecord,
    installed: &Installed,
    shown: Arc<Live>,
    outputs: BTreeMap<String, String>,
    now: Timestamp,
) {
    record.live = Some(shown);
    record.hashes = Hashes::from(&installed.hashes);
    record.seal = None;
    record.outputs = outputs;
    record.last_changed = Some(now);
}

/// What the report and the ledger say of an installed generation.
pub(super) fn live_of(installed: &Installed) -> Arc<Live> {
    Arc::new(Live {
        fingerprint: installed.bundle.fingerprint(),
        generation: installed.generation.clone(),
        names: installed.bundle.names().to_vec(),
        not_before: installed.bundle.not_before(),
        not_after: installed.bundle.not_after(),
    })
}

/// Where a server finds leaf, chain and key in one file.
pub(super) fn combined_path(store: &Store, name: &str) -> PathBuf {
    store.root().join("live").join(name).join("combined.pem")
}

//! Generations: written whole, read whole, pruned.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Error, FILES, FOLDER_MODE, Installed, MAX_FILE, Store};
use crate::atomic::{self, Access, Batch, Folder};
use crate::certificate::{self, Bundle, Piece};
use crate::report::Fingerprint;

/// The bytes of a generation's files, by file name.
pub(super) type Contents = BTreeMap<&'static str, Zeroizing<Vec<u8>>>;

impl Store {
    /// Writes `bundle` as a new generation, complete and synced, and not live yet.
    ///
    /// When the newest generation holds exactly this and is not live (a crash came between writing and publishing), that one is
    /// taken instead.
    pub fn write(&self, name: &str, bundle: &Bundle) -> Result<Installed, Error> {
        self.write_now(name, bundle, None)
    }

    /// Generations that are written one after the other, or side by side, and become durable together; so many at least are to come.
    pub fn batch(&self, sure: usize) -> Batch {
        Batch::new(&self.generations_folder(), sure)
    }

    /// As [`Store::write`], in a batch, each name once: the generation may be published when [`Batch::settle`] did not name it among those
    /// that failed, and after [`Store::settle_generations`].
    pub fn write_ahead(&self, name: &str, bundle: &Bundle, batch: &Batch) -> Result<Installed, Error> {
        self.write_unlike(name, bundle, None, batch)
    }

    /// Makes the entries of new names in the folder durable that all names share.
    pub fn settle_generations(&self) -> Result<(), Error> {
        Ok(atomic::sync_folder(&self.generations_folder())?)
    }

    /// As [`Store::write`], but never takes the generation `unlike`, which is to be replaced.
    pub(super) fn write_now(&self, name: &str, bundle: &Bundle, unlike: Option<&str>) -> Result<Installed, Error> {
        let batch = self.batch(0);
        let installed = self.write_unlike(name, bundle, unlike, &batch)?;
        match batch.settle().into_iter().next() {
            Some(unsettled) => Err(unsettled.error.into()),
            None => self.settle_generations().map(|()| installed),
        }
    }

    fn write_unlike(&self, name: &str, bundle: &Bundle, unlike: Option<&str>, batch: &Batch) -> Result<Installed, Error> {
        let folder = self.generations_of(name)?;
        let is_first = atomic::create_folder_unsynced(&folder, FOLDER_MODE)?;
        let files = bundle.files().files;
        refuse_too_large(&folder, &files)?;
        let generations = if is_first { Vec::new() } else { self.generations(name)? };
        if let Some(newest) = generations.last().filter(|newest| Some(newest.as_str()) != unlike)
            && let Some(installed) = self.unpublished_twin(name, newest, &files)?
        {
            atomic::sync_folder(&folder)?;
            return Ok(installed);
        }
        let next = generations.last().and_then(|newest| sequence(newest)).map_or(1, |newest| newest.saturating_add(1));
        let generation = format!("{next:06}-{}", bundle.fingerprint().short());
        let path = folder.join(&generation);
        let draft = batch.draft(&path, FOLDER_MODE)?;
        for (file, mode) in FILES {
            let bytes = files.get(file).map(|bytes| bytes.as_slice()).unwrap_or_default();
            draft.create(file, bytes, Access::mode(mode))?;
        }
        draft.finish()?;
        point("store.written", &folder)?;
        Ok(Installed { generation, path, bundle: bundle.clone(), hashes: hashes(&files) })
    }

    /// One generation, whole and fitting, or [`Error::Damaged`].
    pub fn read(&self, name: &str, generation: &str) -> Result<Installed, Error> {
        let path = self.generation_path(name, generation)?;
        let damaged = |why: String| Error::Damaged { name: name.to_owned(), generation: Some(generation.to_owned()), why };
        let folder = match Folder::open(&path) {
            Ok(Some(folder)) => folder,
            Ok(None) => return Err(Error::NoGeneration { name: name.to_owned(), generation: generation.to_owned() }),
            Err(atomic::Error::Kind { .. }) => return Err(damaged("it is no folder".to_owned())),
            Err(error) => return Err(error.into()),
        };
        let mut contents = Contents::new();
        for (file, _) in FILES {
            let bytes = match folder.read(file, MAX_FILE) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Err(damaged(format!("`{file}` is missing"))),
                Err(error @ (atomic::Error::Kind { .. } | atomic::Error::TooLarge { .. })) => {
                    return Err(damaged(error.to_string()));
                }
                Err(error) => return Err(error.into()),
            };
            contents.insert(file, bytes);
        }
        let bundle = fit(&contents, generation).map_err(damaged)?;
        Ok(Installed { generation: generation.to_owned(), path, bundle, hashes: hashes(&contents) })
    }

    /// The names of all generations of `name`, oldest first.
    pub fn generations(&self, name: &str) -> Result<Vec<String>, Error> {
        let mut generations: Vec<(u64, String)> = atomic::list(&self.generations_of(name)?)?
            .into_iter()
            .filter_map(|generation| sequence(&generation).map(|number| (number, generation)))
            .collect();
        generations.sort_unstable();
        Ok(generations.into_iter().map(|(_, generation)| generation).collect())
    }

    /// Removes all but the newest `keep` generations, never the live one. While the live link is not as it should be nothing is removed.
    /// Returns what was removed.
    pub fn prune(&self, name: &str, keep: usize) -> Result<Vec<String>, Error> {
        self.prune_sparing(name, keep, &[])
    }

    /// As [`Store::prune`], sparing also the generations in `spare`: those that a server still has loaded.
    pub fn prune_sparing(&self, name: &str, keep: usize, spare: &[String]) -> Result<Vec<String>, Error> {
        let Ok(live) = self.live_generation(name) else { return Ok(Vec::new()) };
        let generations = self.generations(name)?;
        let old = generations.len().saturating_sub(keep);
        let mut removed = Vec::new();
        for generation in generations.into_iter().take(old) {
            if live.as_ref() != Some(&generation) && !spare.contains(&generation) {
                atomic::remove_tree(&self.generation_path(name, &generation)?)?;
                removed.push(generation);
            }
        }
        Ok(removed)
    }

    /// The folder of a generation; its name is checked, so that it stays inside the store.
    pub(super) fn generation_path(&self, name: &str, generation: &str) -> Result<PathBuf, Error> {
        match sequence(generation) {
            Some(_) => Ok(self.generations_of(name)?.join(generation)),
            None => Err(Error::NoGeneration { name: name.to_owned(), generation: generation.to_owned() }),
        }
    }

    fn unpublished_twin(&self, name: &str, newest: &str, files: &Contents) -> Result<Option<Installed>, Error> {
        if self.live_generation(name).is_ok_and(|live| live.as_deref() == Some(newest)) {
            return Ok(None);
        }
        match self.read(name, newest) {
            Ok(installed) if installed.hashes == hashes(files) => Ok(Some(installed)),
            Ok(_) | Err(Error::Damaged { .. } | Error::NoGeneration { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What could not be read back is not written.
fn refuse_too_large(folder: &std::path::Path, files: &Contents) -> Result<(), Error> {
    match files.iter().find(|(_, bytes)| bytes.len() as u64 > MAX_FILE) {
        Some((file, _)) => Err(atomic::Error::TooLarge { path: folder.join(file), max: MAX_FILE }.into()),
        None => Ok(()),
    }
}

/// Whether a generation is the first that its entry ever had: none is older.
pub fn is_first(generation: &str) -> bool {
    sequence(generation) == Some(1)
}

/// The number in a generation's name; `None` for anything that is not one of our names (`000007-3f2a91bc7d01`).
pub(super) fn sequence(generation: &str) -> Option<u64> {
    let (number, fingerprint) = generation.split_once('-')?;
    let is_number = (SEQUENCE_DIGITS..=18).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_hex = fingerprint.len() == 12 && fingerprint.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_number && is_hex { number.parse().ok() } else { None }
}

/// The bundle that all five files agree on, and that the generation's name tells; else why there is none.
pub(super) fn fit(contents: &Contents, generation: &str) -> Result<Bundle, String> {
    let bundle = assemble(contents, &["combined.pem"]).map_err(|error| format!("`combined.pem`: {error}"))?;
    if !generation.ends_with(&bundle.fingerprint().short()) {
        return Err(format!("it holds the certificate {}", bundle.fingerprint().short()));
    }
    let files = bundle.files().files;
    if FILES.iter().all(|(file, _)| contents.get(file) == files.get(file)) {
        return Ok(bundle);
    }
    // Written by a version that lays PEM out in another way: then the other files must mean the same.
    for set in SETS {
        let other = assemble(contents, set).map_err(|error| format!("`{}`: {error}", set.join("`, `")))?;
        if other.files().files != files {
            return Err(format!("`{}` and `combined.pem` differ", set.join("`, `")));
        }
    }
    Ok(bundle)
}

/// Files that make a whole pair together, besides `combined.pem` alone.
pub(super) const SETS: [&[&str]; 2] = [&["fullchain.pem", "privkey.pem"], &["cert.pem", "chain.pem", "privkey.pem"]];

/// A bundle from some of the files. Empty ones (a chain without intermediates) say nothing and are left out.
pub(super) fn assemble(contents: &Contents, set: &[&str]) -> Result<Bundle, certificate::Error> {
    let pieces: Vec<Piece> = set
        .iter()
        .filter_map(|file| contents.get(file).map(|bytes| (file, bytes)))
        .filter(|(_, bytes)| !bytes.is_empty())
        .map(|(file, bytes)| Piece { name: (*file).to_owned(), bytes: bytes.clone() })
        .collect();
    // What is on disk was tried before it was made live: of ten thousand nobody signs with one.
    Bundle::assemble(&pieces).inspect(Bundle::unload)
}

/// SHA-256 in lower-case hex.
pub(super) fn hash(bytes: &[u8]) -> String {
    Fingerprint(Sha256::digest(bytes).into()).to_string()
}

pub(super) fn hashes(contents: &Contents) -> BTreeMap<String, String> {
    contents.iter().map(|(file, bytes)| ((*file).to_owned(), hash(bytes))).collect()
}

/// A point between two steps of the store.
pub(super) fn point(name: &'static str, path: &std::path::Path) -> Result<(), Error> {
    crate::failpoint::hit(name)
        .map_err(|source| atomic::Error::Io { operation: "go on with", path: path.to_owned(), source }.into())
}

const SEQUENCE_DIGITS: usize = 6;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_generations() {
        assert_eq!(sequence("000007-3f2a91bc7d01"), Some(7));
        assert_eq!(sequence("1000000-3f2a91bc7d01"), Some(1_000_000));
        for other in [
            "",
            "7-3f2a91bc7d01",
            "000007",
            "000007-3F2A91BC7D01",
            "000007-3f2a",
            "+00007-3f2a91bc7d01",
            "../../etc",
            "000007-3f2a91bc7d01/..",
        ] {
            assert_eq!(sequence(other), None, "{other}");
        }
    }
}

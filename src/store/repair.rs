//! Puts right what others did to the store, without ever going back to an older certificate.
//!
//! The order: modes and owners first (else files cannot be read), then the link, then the five files against the hashes that the ledger
//! remembers. A damaged generation is not mended in place, since a generation never changes: what is intact becomes a new one.

use std::collections::BTreeMap;
use std::path::Path;

use super::generation::{Contents, SETS, assemble, fit, hash, hashes, sequence};
use super::live::Link;
use super::{Error, FILES, FOLDER_MODE, Installed, MAX_FILE, Store};
use crate::atomic::{self, Folder, Stat};
use crate::certificate::Bundle;

/// What [`Store::repair`] found and did.
#[derive(Debug, Default)]
pub struct Repair {
    /// What somebody else had changed and is right again, one sentence each, for the `drift` event.
    pub drift: Vec<String>,
    /// What is live now; `None` when nothing is, or when it is damaged.
    pub installed: Option<Installed>,
    /// Why what should be live cannot be rebuilt from what is on disk: fetch it again.
    pub damaged: Option<String>,
}

impl Store {
    /// Looks at everything of `name` and puts it right.
    ///
    /// `generation` and `expected` (file -> SHA-256) are what the ledger remembers as live; `None` and empty when it remembers nothing, and
    /// then a whole, fitting generation is trusted. A link to a *newer* generation than the remembered one is a crash between publishing and
    /// remembering, not drift; a link to an older one is put back. With nothing remembered and no link at all, the newest whole generation
    /// is published without a word: that is what the crashed pass was about to do.
    pub fn repair(&self, name: &str, expected: &BTreeMap<String, String>, generation: Option<&str>) -> Result<Repair, Error> {
        let mut repair = Repair::default();
        self.put_folders_right(name, &mut repair.drift)?;
        let wanted = match self.wanted(name, generation) {
            Ok(Some(wanted)) => wanted,
            Ok(None) => return Ok(repair),
            Err(error @ Error::Damaged { .. }) => return Ok(Repair { damaged: Some(error.to_string()), ..repair }),
            Err(error) => return Err(error),
        };
        let known = (generation == Some(wanted.generation.as_str()) && !expected.is_empty()).then_some(expected);
        match self.look(name, &wanted.generation, known, &mut repair.drift)? {
            Found::Whole(installed) => {
                if let Some(broken) = wanted.broken {
                    self.publish(name, &installed.generation)?;
                    let again = format!("it points to generation `{}` again", installed.generation);
                    repair.drift.extend(broken.map(|was| format!("`live/{name}` {was}; {again}")));
                }
                repair.installed = Some(*installed);
            }
            Found::Intact { bundle, why } => {
                let installed = self.write_now(name, &bundle, Some(&wanted.generation))?;
                self.publish(name, &installed.generation)?;
                repair.drift.extend(wanted.broken.flatten().map(|was| format!("`live/{name}` {was}; it was put back")));
                repair.drift.push(format!(
                    "generation `{}` of `{name}` was changed ({why}); it was rebuilt as `{}` from what was intact",
                    wanted.generation, installed.generation
                ));
                repair.installed = Some(installed);
            }
            Found::Damaged(why) => {
                repair.damaged = Some(format!("generation `{}` of `{name}` is damaged: {why}", wanted.generation))
            }
        }
        Ok(repair)
    }

    /// Which generation should be live.
    fn wanted(&self, name: &str, recorded: Option<&str>) -> Result<Option<Wanted>, Error> {
        let put_back =
            |generation: &str, was: String| Some(Wanted { generation: generation.to_owned(), broken: Some(Some(was)) });
        Ok(match (self.link(name)?, recorded) {
            (Link::To(now), Some(recorded)) if sequence(&now) < sequence(recorded) && self.is_whole(name, recorded)? => {
                put_back(recorded, format!("pointed to the older generation `{now}`"))
            }
            // No crash leaves a link to nothing.
            (Link::To(now), Some(recorded))
                if now != recorded && !self.is_there(name, &now)? && self.is_whole(name, recorded)? =>
            {
                put_back(recorded, format!("pointed to `{now}`, which is not there"))
            }
            (Link::To(now), _) => Some(Wanted { generation: now, broken: None }),
            (Link::Missing, Some(recorded)) => put_back(recorded, "was missing".to_owned()),
            (Link::Missing, None) => self.newest_whole(name)?.map(|generation| Wanted { generation, broken: Some(None) }),
            (Link::Foreign(was), Some(recorded)) => put_back(recorded, format!("was not ours ({was})")),
            (Link::Foreign(was), None) => match self.newest_whole(name)? {
                Some(newest) => put_back(&newest, format!("was not ours ({was})")),
                None => return Err(Error::Damaged { name: name.to_owned(), generation: None, why: was }),
            },
        })
    }

    fn newest_whole(&self, name: &str) -> Result<Option<String>, Error> {
        for generation in self.generations(name)?.into_iter().rev() {
            if self.is_whole(name, &generation)? {
                return Ok(Some(generation));
            }
        }
        Ok(None)
    }

    /// A disk that does not answer says nothing about a generation: that is an error, or we would go back to an older one.
    fn is_there(&self, name: &str, generation: &str) -> Result<bool, Error> {
        Ok(atomic::stat(&self.generation_path(name, generation)?)?.is_some())
    }

    fn is_whole(&self, name: &str, generation: &str) -> Result<bool, Error> {
        match self.read(name, generation) {
            Ok(_) => Ok(true),
            Err(Error::Damaged { .. } | Error::NoGeneration { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Modes and owners of the folders on the way to a generation.
    fn put_folders_right(&self, name: &str, drift: &mut Vec<String>) -> Result<(), Error> {
        for path in [self.live_folder(), self.generations_folder(), self.generations_of(name)?] {
            self.put_folder_right(&path, drift)?;
        }
        Ok(())
    }

    /// Mode and owner of a folder; its parent is opened only where there is something to put right.
    fn put_folder_right(&self, path: &Path, drift: &mut Vec<String>) -> Result<Option<String>, Error> {
        let (Some(found), Some(root)) = (atomic::stat(path)?, atomic::stat_following(&self.root)?) else { return Ok(None) };
        if found.mode == FOLDER_MODE && !is_foreign(found, root) {
            return Ok(None);
        }
        let Some(parent) = path.parent().map(Folder::open).transpose()?.flatten() else { return Ok(None) };
        self.put_right(&parent, path, FOLDER_MODE, drift)
    }

    fn look(
        &self,
        name: &str,
        generation: &str,
        known: Option<&BTreeMap<String, String>>,
        drift: &mut Vec<String>,
    ) -> Result<Found, Error> {
        let path = self.generation_path(name, generation)?;
        let mut foreign: Vec<String> = self.put_folder_right(&path, drift)?.into_iter().collect();
        let folder = match Folder::open(&path) {
            Ok(Some(folder)) => folder,
            Ok(None) => return Ok(Found::Damaged("its folder is missing".to_owned())),
            Err(atomic::Error::Kind { .. }) => return Ok(Found::Damaged("it is no folder".to_owned())),
            Err(error) => return Err(error.into()),
        };
        let (mut intact, mut faults) = (Contents::new(), Vec::new());
        for (file, mode) in FILES {
            let strangers = self.put_right(&folder, &path.join(file), mode, drift)?;
            match intact_file(&folder, file, known) {
                Ok(Ok(bytes)) => drop(intact.insert(file, bytes)),
                Ok(Err(fault)) => faults.push(fault),
                Err(error) if error.is_denied() && strangers.is_some() => faults.push(format!("`{file}` cannot be read")),
                Err(error) => return Err(error.into()),
            }
            foreign.extend(strangers);
        }
        judge(generation, path.as_path(), intact, faults, foreign)
    }

    /// Mode and owner of one entry of `folder`. Returns words when it belongs to somebody else and we have no right to change that.
    fn put_right(&self, folder: &Folder, path: &Path, mode: u32, drift: &mut Vec<String>) -> Result<Option<String>, Error> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(None) };
        let (Some(found), Some(root)) = (folder.stat(name)?, atomic::stat_following(&self.root)?) else { return Ok(None) };
        if !found.is_file && !found.is_folder {
            return Ok(None);
        }
        let shown = path.strip_prefix(self.root()).unwrap_or(path).display();
        let foreign = is_foreign(found, root);
        if found.mode == mode && !foreign {
            return Ok(None);
        }
        match folder.permit(name, mode, foreign.then_some((root.owner, root.group))) {
            Ok(()) => folder.sync()?,
            Err(error) if error.is_denied() => return Ok(Some(format!("`{shown}` belongs to user {}", found.owner))),
            Err(error) => return Err(error.into()),
        }
        if foreign {
            drift.push(format!("`{shown}` belonged to user {}; it belongs to {} again", found.owner, root.owner));
        }
        if found.mode != mode {
            drift.push(format!("`{shown}` had mode {:04o}; it has {mode:04o} again", found.mode));
        }
        Ok(None)
    }
}

/// Whether something belongs to another user than the state directory; those that a namespace hides say nothing.
fn is_foreign(found: Stat, root: Stat) -> bool {
    found.owner != root.owner && !atomic::is_unmapped(found.owner) && !atomic::is_unmapped(root.owner)
}

/// Which generation should be live, and what was wrong with the link: `None` nothing, `Some(None)` nothing worth a word.
struct Wanted {
    generation: String,
    broken: Option<Option<String>>,
}

/// How a generation was found.
enum Found {
    Whole(Box<Installed>),
    Intact { bundle: Bundle, why: String },
    Damaged(String),
}

/// The bytes of `file` when they are what the ledger remembers (or anything, when it remembers nothing); else what is wrong with it.
fn intact_file(
    folder: &Folder,
    file: &str,
    known: Option<&BTreeMap<String, String>>,
) -> Result<Result<zeroize::Zeroizing<Vec<u8>>, String>, atomic::Error> {
    Ok(match folder.read(file, MAX_FILE) {
        Ok(None) => Err(format!("`{file}` is missing")),
        Ok(Some(bytes)) if known.is_some_and(|known| known.get(file) != Some(&hash(&bytes))) => {
            Err(format!("`{file}` was edited"))
        }
        Ok(Some(bytes)) => Ok(bytes),
        Err(error @ (atomic::Error::Kind { .. } | atomic::Error::TooLarge { .. })) => Err(error.to_string()),
        Err(error) => return Err(error),
    })
}

fn judge(generation: &str, path: &Path, intact: Contents, faults: Vec<String>, foreign: Vec<String>) -> Result<Found, Error> {
    let whole = if faults.is_empty() { fit(&intact, generation) } else { Err(faults.join(", ")) };
    Ok(match whole {
        Ok(bundle) if foreign.is_empty() => Found::Whole(Box::new(Installed {
            generation: generation.to_owned(),
            path: path.to_owned(),
            bundle,
            hashes: hashes(&intact),
        })),
        Ok(bundle) => Found::Intact { bundle, why: foreign.join(", ") },
        Err(why) => match salvage(&intact, generation) {
            Some(bundle) => Found::Intact { bundle, why },
            None => Found::Damaged(why),
        },
    })
}

/// The pair that the intact files still make. Without hashes an edited file may be among them, so the generation's own fingerprint must
/// agree, and the longest chain wins: damage takes away.
fn salvage(intact: &Contents, generation: &str) -> Option<Bundle> {
    let chain_length = |bundle: &Bundle| bundle.files().files.get("chain.pem").map_or(0, |chain| chain.len());
    std::iter::once(["combined.pem"].as_slice())
        .chain(SETS)
        .filter(|set| set.iter().all(|file| intact.contains_key(file)))
        .filter_map(|set| assemble(intact, set).ok())
        .filter(|bundle| generation.ends_with(&bundle.fingerprint().short()))
        .max_by_key(chain_length)
}

//! Whether something is untouched since it was last read in full, told by the file system's own notes: a pass over ten thousand certificates
//! cannot read fifty thousand files.
//!
//! Start at [`Store::watch`] and [`Watch::seal`]. A [`Seal`] is made of what the kernel keeps of the folders and the five files (and the
//! outputs): inode, size, mode, owner, group, and when any of that or the content last changed. The last one (ctime) nobody can set back: who
//! edits, replaces, permits or removes something breaks the seal, and then [`Store::repair`] reads everything. What changed within the last
//! [`SETTLED`] gets no seal, for a second change in the same tick of the file system's clock would leave no trace.
//!
//! Links are another matter: who moves one changes the folder that it is in. As long as the two folders are as they were ([`Watch::folders`]),
//! nothing came, went or moved in them, and no link need be looked at; else each must lead where it should.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::live::target;
use super::{FILES, Store, is_empty_folder};
use crate::atomic::{self, Folder, Trace};
use crate::config::Output;

/// So old must the last change be that any later one shows; clocks of file systems tick every few milliseconds, of some every two seconds.
pub const SETTLED: SignedDuration = SignedDuration::from_secs(3);

/// The folders of the store, opened once for a look over many certificates.
pub struct Watch {
    live: Folder,
    generations: Folder,
    /// What all certificates share: to whom the state directory belongs, and the two folders' own modes.
    shared: Vec<u64>,
    /// Where they are.
    paths: [PathBuf; 2],
    /// Whether there is nothing in them: then no name need be looked for.
    is_empty: OnceLock<bool>,
    /// What the file system notes of the two folders.
    folders: Seal,
    /// Whether that is what was noted before.
    is_undisturbed: bool,
}

/// The file system's notes about one certificate, as one short word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// To be compared with an earlier one. Half a hash: nobody forges a ctime, so this need only tell apart what chance brings.
    pub mark: [u8; 16],
    /// When anything under it last changed.
    pub changed: Timestamp,
}

impl Store {
    /// Opens the folders, of which an earlier [`Watch::folders`] was `known`; `None` when they are not there or are not what they should be:
    /// then nothing is sealed.
    pub fn watch(&self, known: Option<[u8; 16]>) -> Option<Watch> {
        let open = |path: &Path| Folder::open(path).ok().flatten();
        let root = atomic::stat_following(self.root()).ok().flatten()?;
        let paths = [self.live_folder(), self.generations_folder()];
        let [live, generations] = &paths;
        let (live, generations) = (open(live)?, open(generations)?);
        let mut shared = vec![u64::from(root.owner), u64::from(root.group)];
        for folder in [&live, &generations] {
            let found = folder.stat(".").ok().flatten()?;
            shared.extend([u64::from(found.mode), u64::from(found.owner)]);
        }
        let mut notes = Notes::new(&shared);
        notes.take(live.trace(Path::new(".")))?;
        notes.take(generations.trace(Path::new(".")))?;
        let folders = notes.seal();
        let is_undisturbed = known == Some(folders.mark);
        Some(Watch { live, generations, shared, paths, is_empty: OnceLock::new(), folders, is_undisturbed })
    }
}

impl Watch {
    /// Whether there are neither a link nor a folder of `name`.
    pub fn has_none(&self, name: &str) -> bool {
        let are_empty = || self.paths.iter().all(|path| is_empty_folder(path).unwrap_or(false));
        let has_none = |folder: &Folder| matches!(folder.trace(Path::new(name)), Ok(None));
        *self.is_empty.get_or_init(are_empty) || [&self.live, &self.generations].into_iter().all(has_none)
    }

    /// The folders of links and of generations as they are, to be known again; `None` when they changed so lately that a later change may not
    /// show.
    pub fn folders(&self, now: Timestamp) -> Option<[u8; 16]> {
        self.folders.is_settled(now).then_some(self.folders.mark)
    }

    /// Whether nothing came, went or moved in the two folders.
    pub fn is_undisturbed(&self) -> bool {
        self.is_undisturbed
    }

    /// The seal of `generation` as what is live of `name`, with its outputs; `None` when it is not, or something of it is missing or cannot be
    /// looked at.
    pub fn seal(&self, name: &str, generation: &str, outputs: &[Output]) -> Option<Seal> {
        if !self.is_undisturbed && self.live.read_link(name).ok()?? != target(name, generation) {
            return None;
        }
        let mut notes = Notes::new(&self.shared);
        notes.take(self.generations.trace(Path::new(name)))?;
        let mut path = format!("{name}/{generation}");
        notes.take(self.generations.trace(Path::new(&path)))?;
        let folder = path.len();
        for (file, _) in FILES {
            path.truncate(folder);
            path.push('/');
            path.push_str(file);
            notes.take(self.generations.trace(Path::new(&path)))?;
        }
        for output in outputs {
            notes.note(demands(output).as_bytes());
            notes.take(atomic::trace(&output.path))?;
        }
        Some(notes.seal())
    }
}

impl Seal {
    /// Whether the last change is so far from now that every later one will show: long ago, or made while the clock ran ahead.
    pub fn is_settled(&self, now: Timestamp) -> bool {
        now.duration_since(self.changed).abs() >= SETTLED
    }
}

/// What the configuration wants of an output: another wish breaks the seal as well.
fn demands(output: &Output) -> String {
    format!("{:?} {} {:?} {:?} {:o}", output.format, output.path.display(), output.owner, output.group, output.mode)
}

struct Notes {
    hash: Sha256,
    changed: Timestamp,
}

impl Notes {
    fn new(shared: &[u64]) -> Notes {
        let mut notes = Notes { hash: Sha256::new(), changed: Timestamp::MIN };
        shared.iter().for_each(|number| notes.note(&number.to_le_bytes()));
        notes
    }

    fn note(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    fn take(&mut self, trace: Result<Option<Trace>, atomic::Error>) -> Option<()> {
        let trace = trace.ok().flatten()?;
        self.changed = self.changed.max(trace.changed);
        trace.numbers.iter().for_each(|number| self.note(&number.to_le_bytes()));
        Some(())
    }

    fn seal(self) -> Seal {
        let hash: [u8; 32] = self.hash.finalize().into();
        let mut mark = [0; 16];
        mark.iter_mut().zip(hash).for_each(|(kept, byte)| *kept = byte);
        Seal { mark, changed: self.changed }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_close_to_now_may_hide_another() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        for (millis, expected) in
            [(-86_400_000, true), (-3_000, true), (-2_999, false), (0, false), (2_999, false), (3_000, true)]
        {
            let seal = Seal { mark: [0; 16], changed: now + SignedDuration::from_millis(millis) };
            assert_eq!(seal.is_settled(now), expected, "{millis}");
        }
    }
}

//! The one symbolic link per certificate: read once, replaced by one rename.

use std::path::{Path, PathBuf};

use super::generation::{point, sequence};
use super::{Error, Installed, Store, check_name, kept_path};
use crate::atomic;

/// What stands at `live/<name>`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing.
    Missing,
    /// As it should be: a link to this generation (which may be gone).
    To(String),
    /// Something else, in words.
    Foreign(String),
}

impl Store {
    /// What is live: the link is resolved once, the folder opened once. `None` when there is no link; [`Error::Damaged`] when it does not
    /// lead to a whole, fitting generation.
    pub fn live(&self, name: &str) -> Result<Option<Installed>, Error> {
        let mut overtaken = 0;
        loop {
            let Some(generation) = self.live_generation(name)? else { return Ok(None) };
            match self.read(name, &generation) {
                Ok(installed) => return Ok(Some(installed)),
                // Pruned while we read, because the link moved on several times: look again.
                Err(_) if overtaken < MAX_OVERTAKEN && self.live_generation(name)?.as_ref() != Some(&generation) => {
                    overtaken += 1
                }
                Err(Error::NoGeneration { name, generation }) => {
                    return Err(Error::Damaged { name, generation: Some(generation), why: "its folder is missing".to_owned() });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes a generation live by one rename(2) of the link. Refuses one that is not whole.
    pub fn publish(&self, name: &str, generation: &str) -> Result<(), Error> {
        let installed = self.read(name, generation)?;
        self.publish_ahead(name, &installed)?;
        self.settle_links()
    }

    /// As [`Store::publish`], of what was just read or written, but for the durability of the link: whoever publishes many generations calls
    /// [`Store::settle_links`] once afterwards. Readers see the new one at once; after a power failure the link may be the old one still.
    pub fn publish_ahead(&self, name: &str, installed: &Installed) -> Result<(), Error> {
        let path = self.link_path(name)?;
        atomic::replace_link(&path, &target(name, &installed.generation), &kept_path(&path))?;
        point("store.published", &path)
    }

    /// Makes links durable that [`Store::publish_ahead`] moved.
    pub fn settle_links(&self) -> Result<(), Error> {
        Ok(atomic::sync_folder(&self.live_folder())?)
    }

    /// Takes the link away: nothing is live then. The generations stay.
    pub fn unpublish(&self, name: &str) -> Result<(), Error> {
        atomic::remove_link(&self.link_path(name)?)?;
        Ok(())
    }

    /// The generation that the link names; [`Error::Damaged`] when it names none.
    pub fn live_generation(&self, name: &str) -> Result<Option<String>, Error> {
        match self.link(name)? {
            Link::Missing => Ok(None),
            Link::To(generation) => Ok(Some(generation)),
            Link::Foreign(why) => Err(Error::Damaged { name: name.to_owned(), generation: None, why }),
        }
    }

    pub(super) fn link(&self, name: &str) -> Result<Link, Error> {
        let found = match atomic::read_link(&self.link_path(name)?) {
            Ok(None) => return Ok(Link::Missing),
            Ok(Some(found)) => found,
            Err(atomic::Error::Kind { found, .. }) => return Ok(Link::Foreign(format!("it is {found}, not a symbolic link"))),
            Err(error) => return Err(error.into()),
        };
        let generation = found.file_name().and_then(|last| last.to_str()).filter(|last| sequence(last).is_some());
        Ok(match generation {
            Some(generation) if found == target(name, generation) => Link::To(generation.to_owned()),
            _ => Link::Foreign(format!("it points to `{}`", found.display())),
        })
    }

    /// `live/<name>`.
    pub fn link_path(&self, name: &str) -> Result<PathBuf, Error> {
        check_name(name)?;
        Ok(self.live_folder().join(name))
    }
}

/// Exactly what the link holds: relative, so that a state directory can be moved.
pub(super) fn target(name: &str, generation: &str) -> PathBuf {
    Path::new("../generations").join(name).join(generation)
}

/// How often a reader starts again because the link moved under its eyes.
const MAX_OVERTAKEN: u32 = 8;

//! What is open about an entry, in a place of its own: of ten thousand entries hardly one has anything of it.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Open;

/// An [`Open`] that takes no memory while it says nothing. Reads like one; whoever writes to it makes room.
#[derive(Clone, Debug, Default)]
pub struct Opened(Option<Box<Open>>);

static NOTHING: Open = Open::NOTHING;

impl Opened {
    /// Whether nothing is open.
    pub fn is_nothing(&self) -> bool {
        self.0.is_none() || **self == NOTHING
    }

    /// Gives the room back where nothing is open any more.
    pub fn settle(&mut self) {
        if self.is_nothing() {
            self.0 = None;
        }
    }
}

impl From<Open> for Opened {
    fn from(open: Open) -> Opened {
        Opened((open != NOTHING).then(|| Box::new(open)))
    }
}

impl Deref for Opened {
    type Target = Open;

    fn deref(&self) -> &Open {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Opened {
    fn deref_mut(&mut self) -> &mut Open {
        self.0.get_or_insert_default()
    }
}

impl PartialEq for Opened {
    fn eq(&self, other: &Opened) -> bool {
        **self == **other
    }
}

impl Serialize for Opened {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Opened {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Opened, D::Error> {
        Open::deserialize(deserializer).map(Opened::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_takes_no_room_and_something_is_kept() {
        assert_eq!(Open::default(), NOTHING);
        let mut opened = Opened::default();
        assert!(opened.is_nothing());
        opened.failures = 1;
        assert!(!opened.is_nothing());
        opened.failures = 0;
        assert_eq!(opened, Opened::default());
        opened.settle();
        assert!(opened.0.is_none());
    }
}

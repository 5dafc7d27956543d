//! A map of a few names: ten thousand records have one each, and a tree's smallest node has room for eleven.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Values by name, sorted by it; in the ledger a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Few<T>(Vec<(Box<str>, T)>);

impl<T> Few<T> {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.place(name).ok().and_then(|place| self.0.get(place)).map(|(_, value)| value)
    }

    /// Puts `value` under `name`, in the place of another one.
    pub fn insert(&mut self, name: &str, value: T) {
        match self.place(name) {
            Ok(place) => {
                if let Some(slot) = self.0.get_mut(place) {
                    slot.1 = value;
                }
            }
            Err(place) => self.0.insert(place, (name.into(), value)),
        }
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// The names.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// The values, by name.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, value)| value)
    }

    /// Keeps the names of which `keep` says so.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| (**other).cmp(name))
    }
}

impl<T: Default> Few<T> {
    /// The value of `name`, made where there is none.
    pub fn of(&mut self, name: &str) -> &mut T {
        let place = self.place(name).unwrap_or_else(|place| {
            self.0.insert(place, (name.into(), T::default()));
            place
        });
        #[expect(clippy::indexing_slicing, reason = "it was found or put there just now")]
        &mut self.0[place].1
    }
}

impl<N: AsRef<str>, T> FromIterator<(N, T)> for Few<T> {
    fn from_iter<I: IntoIterator<Item = (N, T)>>(pairs: I) -> Few<T> {
        let mut few = Few::default();
        pairs.into_iter().for_each(|(name, value)| few.insert(name.as_ref(), value));
        few
    }
}

impl<T> Default for Few<T> {
    fn default() -> Few<T> {
        Few(Vec::new())
    }
}

impl<T: Serialize> Serialize for Few<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Few<T>, D::Error> {
        deserializer.deserialize_map(Table(PhantomData))
    }
}

struct Table<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Table<T> {
    type Value = Few<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Few<T>, A::Error> {
        let mut few = Few(Vec::with_capacity(1));
        while let Some((name, value)) = map.next_entry::<std::borrow::Cow<'_, str>, T>()? {
            few.insert(&name, value);
        }
        Ok(few)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_a_few_names_is_one() {
        let mut few: Few<u8> = serde_json::from_str(r#"{"b":2,"a":1,"b":3}"#).unwrap();
        assert_eq!(few.iter().collect::<Vec<_>>(), [("a", &1), ("b", &3)]);
        *few.of("c") += 7;
        *few.of("a") += 7;
        assert_eq!((few.get("c"), few.get("a"), few.get("d")), (Some(&7), Some(&8), None));
        few.insert("0", 0);
        few.insert("b", 4);
        few.retain(|name| name != "c");
        assert_eq!(serde_json::to_string(&few).unwrap(), r#"{"0":0,"a":8,"b":4}"#);
        assert!(serde_json::from_str::<Few<u8>>("[]").is_err());
    }
}

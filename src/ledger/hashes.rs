//! Hashes as bytes: ten thousand records have six each, and in hex they would be most of what the ledger takes.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::report::Fingerprint;

/// The files that have hashes: those of a generation.
const FILES: [&str; 5] = ["cert.pem", "chain.pem", "combined.pem", "fullchain.pem", "privkey.pem"];

/// SHA-256 by file name; in the ledger one text, `cert.pem=0578… chain.pem=2638…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes(Option<Box<[Option<Fingerprint>; FILES.len()]>>);

impl Hashes {
    /// By file name, in lower-case hex.
    pub fn by_name(&self) -> BTreeMap<String, String> {
        self.known().map(|(name, hash)| (name.to_owned(), hash.to_string())).collect()
    }

    fn known(&self) -> impl Iterator<Item = (&'static str, Fingerprint)> {
        let hashes = self.0.iter().flat_map(|hashes| hashes.iter());
        FILES.into_iter().zip(hashes).filter_map(|(name, hash)| Some((name, (*hash)?)))
    }

    /// What is no such pair is left out, which makes its file be read again.
    fn of<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Hashes {
        let mut hashes = Hashes::default();
        for (name, hash) in pairs {
            let place = FILES.iter().position(|file| *file == name);
            if let (Some(place), Ok(hash)) = (place, hash.parse()) {
                let hashes = hashes.0.get_or_insert_default();
                if let Some(slot) = hashes.get_mut(place) {
                    *slot = Some(hash);
                }
            }
        }
        hashes
    }
}

impl From<&BTreeMap<String, String>> for Hashes {
    fn from(hashes: &BTreeMap<String, String>) -> Hashes {
        Hashes::of(hashes.iter().map(|(name, hash)| (name.as_str(), hash.as_str())))
    }
}

impl Serialize for Hashes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(FILES.len() * 80);
        for (number, (name, hash)) in self.known().enumerate() {
            text.push_str(if number > 0 { " " } else { "" });
            text.push_str(name);
            text.push('=');
            text.push_str(hex::Buffer::<32>::new().format(&hash.0));
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Hashes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hashes, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Ok(Hashes::of(text.split(' ').filter_map(|pair| pair.split_once('='))))
    }
}

/// A seal of [`crate::store::Seal`], to be compared with another one; in the ledger 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(pub [u8; 16]);

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", u128::from_be_bytes(self.0)))
    }
}

impl<'de> Deserialize<'de> for Mark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mark, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let mut mark = [0; 16];
        if text.len() != 32 || hex::decode_to_slice(&*text, &mut mark).is_err() {
            return Err(serde::de::Error::custom("a seal is 32 hex digits"));
        }
        Ok(Mark(mark))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let hashes =
            BTreeMap::from([("cert.pem", [5; 32]), ("chain.pem", [26; 32])].map(|(a, b)| (a.to_owned(), hex::encode(b))));
        let kept = Hashes::from(&hashes);
        assert_eq!(kept.by_name(), hashes);
        let text = serde_json::to_string(&kept).unwrap();
        assert!(text.starts_with(r#""cert.pem=0505"#) && text.contains(r#" chain.pem=1a1a"#), "{text}");
        assert_eq!(serde_json::from_str::<Hashes>(&text).unwrap(), kept);
        assert_eq!(Hashes::default().by_name(), BTreeMap::new());
    }

    #[test]
    fn what_is_no_hash_of_a_file_of_ours_is_left_out() {
        let text = format!("\"cert.pem=05 other.pem={0} privkey.pem={0} = x\"", hex::encode([7; 32]));
        let kept = serde_json::from_str::<Hashes>(&text).unwrap();
        assert_eq!(kept.by_name().into_keys().collect::<Vec<_>>(), ["privkey.pem"]);
    }

    #[test]
    fn a_mark_is_hex() {
        let mark = Mark([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        let text = serde_json::to_string(&mark).unwrap();
        assert_eq!(text, r#""000102030405060708090a0b0c0d0eff""#);
        assert_eq!(serde_json::from_str::<Mark>(&text).unwrap(), mark);
        assert!(serde_json::from_str::<Mark>(r#""0001""#).is_err());
    }
}

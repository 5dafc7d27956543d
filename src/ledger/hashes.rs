//! The hashes of a generation's files in one piece of memory: ten thousand records of them would else be most of what the ledger takes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Hashes by file name; in the ledger one text, `cert.pem=0578… chain.pem=2638…`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hashes(Box<str>);

impl Hashes {
    /// By file name; what is no such pair is left out, which makes its file be read again.
    pub fn by_name(&self) -> BTreeMap<String, String> {
        let pairs = self.0.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, hash)| (name.to_owned(), hash.to_owned())).collect()
    }
}

impl From<&BTreeMap<String, String>> for Hashes {
    fn from(hashes: &BTreeMap<String, String>) -> Hashes {
        Hashes(hashes.iter().map(|(name, hash)| format!("{name}={hash}")).collect::<Vec<_>>().join(" ").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let hashes = BTreeMap::from([("cert.pem", "05"), ("chain.pem", "26")].map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert_eq!(Hashes::from(&hashes).by_name(), hashes);
        assert_eq!(Hashes::default().by_name(), BTreeMap::new());
    }
}

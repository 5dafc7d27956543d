//! What each provider's account holds, asked once per pass.
//!
//! One listing answers for every entry of a provider. Where it cannot be had, entries are asked for one by one; where the provider
//! as a whole cannot be reached or does not know us, nobody is asked again in this pass.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use crate::config::{Cloud, HuaweiApi};
use crate::provider::{Client, Error, Listed, Listing};
use crate::report::{Failure, Valid};

use super::successor::{self, Row};

/// One provider in one pass.
pub(super) struct Account {
    pub client: Client,
    pub holdings: Holdings,
    /// Whether its listing tells every name of a certificate (Huawei), or only one (CDS).
    pub tells_all_names: bool,
    /// Whether its certificates come as archives.
    pub sends_archives: bool,
}

/// What the listing brought.
pub(super) enum Holdings {
    /// The account.
    Listed { rows: Rows, complete: bool },
    /// No listing, but certificates can be asked for one by one.
    OneByOne(Failure),
    /// Nobody needs to be asked: this is the answer for all.
    Down(Failure),
}

impl Account {
    /// Lists the account.
    pub async fn open(client: Client, cloud: &Cloud) -> Account {
        let holdings = match client.list().await {
            Ok(Listing { certificates, complete, .. }) => Holdings::Listed { rows: Rows::new(certificates), complete },
            Err(error) if concerns_all(&error) => Holdings::Down(failure(&error)),
            Err(error) => Holdings::OneByOne(failure(&error)),
        };
        let (tells_all_names, sends_archives) = match cloud {
            Cloud::Huawei(huawei) => (true, huawei.api == HuaweiApi::Download),
            Cloud::Cds(_) => (false, false),
        };
        Account { client, holdings, tells_all_names, sends_archives }
    }

    /// The row of `id`: from the listing, or, where the listing may have left it out, by asking for it alone.
    pub async fn row(&self, id: &str) -> Option<Listed> {
        match &self.holdings {
            Holdings::Listed { rows, complete } => match rows.get(id) {
                Some(row) => Some(row.clone()),
                None if *complete => None,
                None => self.client.show(id).await.ok().flatten(),
            },
            // A look moves no key. Where that is not permitted either, or there is no such call, the certificate itself must come.
            Holdings::OneByOne(_) => self.client.show(id).await.ok().flatten(),
            Holdings::Down(_) => None,
        }
    }

    /// The row of `id` in the listing.
    pub fn listed(&self, id: &str) -> Option<&Listed> {
        match &self.holdings {
            Holdings::Listed { rows, .. } => rows.get(id),
            Holdings::OneByOne(_) | Holdings::Down(_) => None,
        }
    }

    /// The rows among which a certificate for all of `names` can be, for the choice of a successor; empty where there is no listing.
    pub fn rows(&self, names: &[String]) -> Vec<Row> {
        match &self.holdings {
            Holdings::Listed { rows, .. } => rows.related(names).into_iter().map(|row| self.as_row(row)).collect(),
            Holdings::OneByOne(_) | Holdings::Down(_) => Vec::new(),
        }
    }

    /// Whether a row besides `id` may be for one of `names`.
    pub fn has_rival<'n>(&self, id: &str, names: impl Iterator<Item = &'n str>) -> bool {
        match &self.holdings {
            Holdings::Listed { rows, .. } => rows.has_rival(id, names),
            Holdings::OneByOne(_) | Holdings::Down(_) => false,
        }
    }

    /// A listed certificate as the choice of a successor sees it.
    pub fn as_row(&self, row: &Listed) -> Row {
        Row {
            id: row.id.clone(),
            names: row.names.clone(),
            names_are_complete: self.tells_all_names,
            deployable: row.deployable,
            brand: row.brand.clone(),
            kind: row.kind.clone(),
            not_after: row.not_after.clone(),
        }
    }
}

/// A listing that is asked by id and by name, once or more for each of ten thousand entries.
pub(super) struct Rows {
    hasher: RandomState,
    /// As listed.
    rows: Vec<Listed>,
    /// Hashes of the ids with places in `rows`, sorted.
    ids: Vec<(u64, u32)>,
    /// Hashes of the names' [`successor::stem`]s with places in `rows`, sorted. Two stems with one hash only mean one row too many.
    stems: Vec<(u64, u32)>,
    /// Places of rows that tell no name: they may be for any.
    nameless: Vec<u32>,
}

impl Rows {
    fn new(rows: Vec<Listed>) -> Rows {
        let hasher = RandomState::default();
        let (mut ids, mut stems, mut nameless) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()), Vec::new());
        for (place, row) in (0..).zip(&rows) {
            ids.push((hasher.hash_one(row.id.as_str()), place));
            stems.extend(row.names.iter().map(|name| (hasher.hash_one(successor::stem(name)), place)));
            if row.names.is_empty() {
                nameless.push(place);
            }
        }
        ids.sort_unstable();
        stems.sort_unstable();
        Rows { hasher, rows, ids, stems, nameless }
    }

    fn get(&self, id: &str) -> Option<&Listed> {
        under(&self.ids, self.hasher.hash_one(id)).filter_map(|place| self.at(place)).find(|row| row.id == id)
    }

    /// Every row that may cover all of `names`, and some others. Without names that is every row.
    fn related(&self, names: &[String]) -> Vec<&Listed> {
        if names.is_empty() {
            return self.rows.iter().collect();
        }
        let mut places: Vec<u32> = names.iter().flat_map(|name| self.places(name)).chain(self.nameless.iter().copied()).collect();
        places.sort_unstable();
        places.dedup();
        places.into_iter().filter_map(|place| self.at(place)).collect()
    }

    fn has_rival<'n>(&self, id: &str, mut names: impl Iterator<Item = &'n str>) -> bool {
        let is_other = |place: u32| self.at(place).is_some_and(|row| row.id != id);
        self.nameless.iter().any(|place| is_other(*place)) || names.any(|name| self.places(name).any(is_other))
    }

    fn at(&self, place: u32) -> Option<&Listed> {
        self.rows.get(usize::try_from(place).ok()?)
    }

    /// Rows with a name of the same stem, and those with a wildcard over `name`.
    fn places(&self, name: &str) -> impl Iterator<Item = u32> {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        [Some(name), parent]
            .into_iter()
            .flatten()
            .flat_map(|name| under(&self.stems, self.hasher.hash_one(successor::stem(name))))
    }
}

/// The places under a hash.
fn under(hashes: &[(u64, u32)], wanted: u64) -> impl Iterator<Item = u32> {
    let first = hashes.partition_point(|(hash, _)| *hash < wanted);
    hashes.iter().skip(first).take_while(move |(hash, _)| *hash == wanted).map(|(_, place)| *place)
}

/// What the listing says of one certificate, as one string: cheap to keep and to compare.
pub(super) fn seen(row: &Listed) -> String {
    let mut text = String::new();
    for (number, part) in parts(row).into_iter().enumerate() {
        if number > 0 {
            text.push('|');
        }
        text.push_str(part);
    }
    text
}

/// Whether [`seen`] is `text`.
pub(super) fn is_seen(row: &Listed, text: &str) -> bool {
    let after = |rest: &'_ str, separator: &str, part: &str| rest.strip_prefix(separator)?.strip_prefix(part).map(str::len);
    let mut rest = text;
    for (number, part) in parts(row).into_iter().enumerate() {
        let Some(left) = after(rest, if number > 0 { "|" } else { "" }, part) else { return false };
        rest = text.get(text.len() - left..).unwrap_or_default();
    }
    rest.is_empty()
}

fn parts(row: &Listed) -> [&str; 7] {
    let valid = row.valid.map(|flag| match flag {
        Valid::Expired => "0",
        Valid::Valid => "1",
        Valid::Expiring => "2",
    });
    [
        Some(row.id.as_str()),
        row.not_before.as_deref(),
        row.not_after.as_deref(),
        row.status.as_deref(),
        row.fingerprint.as_deref(),
        row.name.as_deref(),
        valid,
    ]
    .map(Option::unwrap_or_default)
}

/// Whether an error of the listing would be the answer to every other request too.
fn concerns_all(error: &Error) -> bool {
    matches!(error.kind(), "connect" | "timeout" | "tls" | "unauthorized" | "secret" | "circuit_open" | "throttled" | "setup")
}

/// A provider's error as data.
pub(super) fn failure(error: &Error) -> Failure {
    error.to_failure()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sync::successor::{Wish, candidates};

    fn listed(id: String, names: Vec<String>) -> Listed {
        Listed { id, names, deployable: true, ..Listed::default() }
    }

    fn ids(rows: &[Row], wish: &Wish<'_>) -> Vec<String> {
        candidates(rows, wish).into_iter().map(|row| row.id.clone()).collect()
    }

    proptest! {
        /// Asking by name finds every candidate that a look at all rows finds.
        #[test]
        fn no_candidate_is_overlooked(
            names in prop::collection::vec(prop::collection::vec("(\\*\\.|www\\.|a\\.){0,3}(b\\.)?(x|y)", 0..3), 0..12),
            wanted in prop::collection::vec("(\\*\\.|www\\.|a\\.){0,3}(b\\.)?(x|y)", 0..3),
            complete: bool,
        ) {
            let all: Vec<Listed> = names.into_iter().enumerate().map(|(n, names)| listed(format!("id{n}"), names)).collect();
            let as_row = |row: &Listed| Row {
                id: row.id.clone(),
                names: row.names.clone(),
                names_are_complete: complete,
                deployable: true,
                brand: None,
                kind: None,
                not_after: None,
            };
            let wish = Wish { names: &wanted, ..Wish::default() };
            let every: Vec<Row> = all.iter().map(as_row).collect();
            let some: Vec<Row> = Rows::new(all).related(&wanted).into_iter().map(as_row).collect();
            prop_assert_eq!(ids(&some, &wish), ids(&every, &wish));
        }
    }

    #[test]
    fn what_was_seen_is_compared_without_writing_it_down() {
        let row = Listed {
            id: "a".into(),
            not_after: Some("2027".into()),
            name: Some("x|y".into()),
            valid: Some(Valid::Valid),
            ..Listed::default()
        };
        let text = seen(&row);
        assert_eq!(text, "a||2027|||x|y|1");
        assert!(is_seen(&row, &text));
        for other in ["", "a", "a||2027|||x|y|", "a||2027|||x|y|11", "a||2027|||x|y|2", "b||2027|||x|y|1"] {
            assert!(!is_seen(&row, other), "{other}");
        }
    }

    #[test]
    fn a_row_is_found_by_its_id() {
        let rows = Rows::new(["b", "a", "c"].map(|id| listed(id.into(), vec![])).into());
        assert_eq!(rows.get("a").map(|row| row.id.as_str()), Some("a"));
        assert_eq!(rows.get("d"), None);
        assert_eq!(rows.related(&["x".into()]).len(), 3);
    }
}

//! Which certificate of an account is the one to have: pure functions over a listing.
//!
//! A renewal in these clouds is another certificate with another id. [`candidates`] orders what is worth fetching, by what the listing
//! tells; [`judge`] decides by the certificate itself after it was fetched, since the listing's dates carry no zone.

use std::sync::Arc;

use jiff::Timestamp;

use crate::report::Fingerprint;

/// One row of a listing, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The provider's id.
    pub id: String,
    /// Names it covers, lower case; CDS lists only one.
    pub names: Vec<String>,
    /// Whether the listing tells every name.
    pub names_are_complete: bool,
    /// Whether status and flag allow it to be deployed.
    pub deployable: bool,
    /// Brand, where told.
    pub brand: Option<Arc<str>>,
    /// Type (`DV_SSL_CERT`, `DV` …), where told.
    pub kind: Option<Arc<str>>,
    /// End of validity as listed: compared only with other rows of the same listing, to order the fetches.
    pub not_after: Option<String>,
}

/// What a candidate must offer.
#[derive(Clone, Debug, Default)]
pub struct Wish<'a> {
    /// The row of the current certificate, if the listing still has it.
    pub current: Option<&'a Row>,
    /// The current id, if there is one.
    pub current_id: Option<&'a str>,
    /// Names that must be covered: the entry's and the current certificate's.
    pub names: &'a [String],
}

/// The rows worth fetching, best first: deployable, not the current one, possibly covering every name, of the same brand and type where
/// both tell, not listed as ending earlier than the current one or with it.
pub fn candidates<'a>(rows: &'a [Row], wish: &Wish<'_>) -> Vec<&'a Row> {
    let mut fitting: Vec<&Row> = rows.iter().filter(|row| may_succeed(row, wish)).collect();
    fitting.sort_unstable_by(|a, b| b.not_after.cmp(&a.not_after).then_with(|| b.id.cmp(&a.id)));
    fitting
}

fn may_succeed(row: &Row, wish: &Wish<'_>) -> bool {
    row.deployable
        && Some(row.id.as_str()) != wish.current_id
        && wish.current.is_none_or(|current| same_product(row, current) && !listed_as_no_later(row, current))
        && covers_as_listed(row, wish.names)
}

fn same_product(row: &Row, current: &Row) -> bool {
    agree(row.brand.as_deref(), current.brand.as_deref()) && agree(row.kind.as_deref(), current.kind.as_deref())
}

/// Two values agree unless both are told and differ.
fn agree(one: Option<&str>, other: Option<&str>) -> bool {
    !matches!((one, other), (Some(a), Some(b)) if !a.eq_ignore_ascii_case(b))
}

/// One that is listed with the same end is no renewal either: fetching it would move a key to learn what the listing says.
fn listed_as_no_later(row: &Row, current: &Row) -> bool {
    matches!((&row.not_after, &current.not_after), (Some(a), Some(b)) if a <= b)
}

fn covers_as_listed(row: &Row, names: &[String]) -> bool {
    if row.names_are_complete {
        return names.iter().all(|name| row.names.iter().any(|listed| matches(listed, name)));
    }
    // One name of several is listed: it is enough that it has something to do with what is asked for.
    names.is_empty() || row.names.is_empty() || row.names.iter().any(|listed| names.iter().any(|name| related(listed, name)))
}

/// Whether the listed name covers `name` (RFC 6125: a wildcard stands for one left-most label).
pub fn matches(listed: &str, name: &str) -> bool {
    if listed == name {
        return true;
    }
    match (listed.strip_prefix("*."), name.split_once('.')) {
        (Some(parent), Some((label, rest))) => !label.is_empty() && label != "*" && rest == parent,
        _ => false,
    }
}

/// Whether a certificate listed under `listed` may well cover `name` too: the same name, a wildcard over it, or the bare or `www.` form.
fn related(listed: &str, name: &str) -> bool {
    matches(listed, name) || stem(listed) == stem(name)
}

/// A name without the wildcard and without `www`: what names of one site have in common.
pub fn stem(name: &str) -> &str {
    name.trim_start_matches("*.").trim_start_matches("www.")
}

/// What counts of a fetched certificate when it is held against the current one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Of the leaf.
    pub fingerprint: Fingerprint,
    /// Names asked for that it does not cover.
    pub missing_names: Vec<String>,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// Whether its chain verifies to the trusted roots.
    pub trusted: bool,
    /// Whether it is its own issuer.
    pub self_signed: bool,
}

/// What a candidate is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// End of the current certificate; `None`: nothing is installed.
    pub not_after: Option<Timestamp>,
    /// Whether the candidate must be trusted: the current one is, or a first install wants it.
    pub must_be_trusted: bool,
    /// Whether a self-signed one is acceptable: the current one is, or the entry says `trust = "any"`.
    pub may_be_self_signed: bool,
}

/// Why a fetched candidate must not succeed the current one, in words; `None`: it may.
pub fn judge(fetched: &Fetched, measure: &Measure, now: Timestamp) -> Option<String> {
    if !fetched.missing_names.is_empty() {
        let list = fetched.missing_names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return Some(format!("lacks {list}"));
    }
    if fetched.not_before > now {
        return Some(format!("is not valid before {}", fetched.not_before));
    }
    if fetched.not_after <= now {
        return Some(format!("ended on {}", fetched.not_after));
    }
    if measure.not_after.is_some_and(|end| fetched.not_after <= end) {
        return Some(format!("does not end later than the live one ({})", fetched.not_after));
    }
    if fetched.self_signed && !measure.may_be_self_signed {
        return Some("is self-signed".to_owned());
    }
    if measure.must_be_trusted && !fetched.trusted {
        return Some("does not verify to the trusted roots (`trust = \"any\"` and `ca_file` lift this)".to_owned());
    }
    None
}

/// The best of the fetched candidates that [`judge`] lets pass: the latest end, then the latest start.
pub fn best<T>(fitting: Vec<(Fetched, T)>) -> Option<(Fetched, T)> {
    fitting.into_iter().max_by_key(|(fetched, _)| (fetched.not_after, fetched.not_before))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(id: &str, names: &[&str], end: &str) -> Row {
        Row {
            id: id.into(),
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            names_are_complete: true,
            deployable: true,
            brand: Some("GeoTrust".into()),
            kind: Some("DV_SSL_CERT".into()),
            not_after: Some(end.into()),
        }
    }

    fn ids(rows: &[Row], wish: &Wish<'_>) -> Vec<String> {
        candidates(rows, wish).into_iter().map(|row| row.id.clone()).collect()
    }

    #[test]
    fn candidates_are_deployable_cover_and_are_ordered_by_their_listed_end() {
        let current = row("old", &["www.example.com", "example.com"], "2026-12-01 00:00:00.0");
        let rows = vec![
            current.clone(),
            row("new", &["www.example.com", "example.com"], "2027-12-01 00:00:00.0"),
            row("newest", &["*.example.com", "example.com"], "2028-01-01 00:00:00.0"),
            row("less", &["www.example.com"], "2029-01-01 00:00:00.0"),
            row("earlier", &["www.example.com", "example.com"], "2026-11-30 00:00:00.0"),
            row("twin", &["www.example.com", "example.com"], "2026-12-01 00:00:00.0"),
            Row { deployable: false, ..row("paid", &["www.example.com", "example.com"], "2029-01-01 00:00:00.0") },
            Row { brand: Some("DigiCert".into()), ..row("brand", &["www.example.com", "example.com"], "2029-01-01 00:00:00.0") },
            Row { kind: Some("OV_SSL_CERT".into()), ..row("type", &["www.example.com", "example.com"], "2029-01-01 00:00:00.0") },
            Row { brand: None, kind: None, ..row("silent", &["www.example.com", "example.com"], "2027-01-01 00:00:00.0") },
        ];
        let names = ["www.example.com".to_owned(), "example.com".to_owned()];
        let wish = Wish { current: Some(&current), current_id: Some("old"), names: &names };
        assert_eq!(ids(&rows, &wish), ["newest", "new", "silent"]);
    }

    #[test]
    fn one_listed_name_of_several_is_enough_to_be_asked() {
        let one = |id: &str, name: &str| Row { names_are_complete: false, ..row(id, &[name], "2027") };
        let rows = vec![
            one("www", "www.example.com"),
            one("bare", "example.com"),
            one("star", "*.example.com"),
            one("other", "shop.example.org"),
        ];
        let names = ["www.example.com".to_owned(), "example.com".to_owned()];
        let mut found = ids(&rows, &Wish { names: &names, ..Wish::default() });
        found.sort();
        assert_eq!(found, ["bare", "star", "www"]);
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        for (listed, name, expected) in [
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "*.example.com", true),
            ("www.example.com", "*.example.com", false),
            ("*.example.com", ".example.com", false),
        ] {
            assert_eq!(matches(listed, name), expected, "{listed} {name}");
        }
    }

    fn fetched() -> Fetched {
        Fetched {
            fingerprint: Fingerprint([1; 32]),
            missing_names: Vec::new(),
            not_before: "2026-11-01T00:00:00Z".parse().unwrap(),
            not_after: "2027-11-01T00:00:00Z".parse().unwrap(),
            trusted: true,
            self_signed: false,
        }
    }

    fn measure() -> Measure {
        Measure { not_after: Some("2026-12-01T00:00:00Z".parse().unwrap()), must_be_trusted: true, may_be_self_signed: false }
    }

    #[test]
    fn the_certificate_itself_decides() {
        let now: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap();
        let date = |text: &str| text.parse::<Timestamp>().unwrap();
        for (fetched, measure, words) in [
            (fetched(), measure(), None),
            (Fetched { missing_names: vec!["www.example.com".into()], ..fetched() }, measure(), Some("lacks `www.example.com`")),
            (Fetched { not_before: date("2026-11-23T00:00:00Z"), ..fetched() }, measure(), Some("not valid before")),
            (
                Fetched { not_after: date("2026-11-21T00:00:00Z"), ..fetched() },
                Measure { not_after: None, ..measure() },
                Some("ended on"),
            ),
            (Fetched { not_after: date("2026-12-01T00:00:00Z"), ..fetched() }, measure(), Some("does not end later")),
            (Fetched { self_signed: true, ..fetched() }, measure(), Some("self-signed")),
            (Fetched { trusted: false, ..fetched() }, measure(), Some("trusted roots")),
            (Fetched { trusted: false, ..fetched() }, Measure { must_be_trusted: false, ..measure() }, None),
        ] {
            let verdict = judge(&fetched, &measure, now);
            match (&verdict, words) {
                (None, None) => {}
                (Some(said), Some(expected)) => assert!(said.contains(expected), "{said}"),
                other => unreachable!("{other:?} for {fetched:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn the_chosen_one_never_covers_less_nor_ends_sooner(ends in proptest::collection::vec((0i64..4_000_000_000, 0i64..4_000_000_000, any::<bool>()), 0..12), current in 0i64..4_000_000_000) {
            let now = Timestamp::from_second(1_700_000_000).unwrap();
            let measure = Measure { not_after: Some(Timestamp::from_second(current).unwrap()), must_be_trusted: false, may_be_self_signed: true };
            let all: Vec<(Fetched, usize)> = ends.iter().enumerate().map(|(i, (from, to, lacks))| (Fetched {
                not_before: Timestamp::from_second(*from).unwrap(),
                not_after: Timestamp::from_second(*to).unwrap(),
                missing_names: if *lacks { vec!["www.example.com".into()] } else { Vec::new() },
                ..fetched()
            }, i)).collect();
            let fitting: Vec<_> = all.iter().filter(|(f, _)| judge(f, &measure, now).is_none()).cloned().collect();
            let count = fitting.len();
            match best(fitting) {
                None => prop_assert_eq!(count, 0),
                Some((chosen, _)) => {
                    prop_assert!(chosen.missing_names.is_empty());
                    prop_assert!(Some(chosen.not_after) > measure.not_after && chosen.not_after > now && chosen.not_before <= now);
                    for (other, _) in all.iter().filter(|(f, _)| judge(f, &measure, now).is_none()) {
                        prop_assert!(chosen.not_after >= other.not_after);
                    }
                }
            }
        }
    }
}

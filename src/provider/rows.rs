//! Rows of a listing, as many as make sense: a short row of JSON takes hundreds of times its length once it is read.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// Rows of one answer; an account with more would be listed in pages.
pub const MAX_ROWS: usize = 20_000;

/// Names taken from one row; public authorities put a hundred into a certificate, a few put 250.
pub const MAX_NAMES: usize = 1_000;

/// At most [`MAX_ROWS`]; more are an error before they are read.
pub(crate) struct Rows<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Rows<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rows<T>, D::Error> {
        deserializer.deserialize_seq(Bounded(PhantomData))
    }
}

struct Bounded<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
    type Value = Rows<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX_ROWS}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Rows<T>, A::Error> {
        let mut taken = Vec::new();
        while let Some(row) = rows.next_element()? {
            if taken.len() == MAX_ROWS {
                return Err(A::Error::custom(format_args!("more than {MAX_ROWS} rows")));
            }
            taken.push(row);
        }
        Ok(Rows(taken))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_where_it_is_said() {
        let list = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        assert_eq!(serde_json::from_str::<Rows<u8>>(&list(MAX_ROWS)).map(|rows| rows.0.len()).unwrap(), MAX_ROWS);
        assert!(
            serde_json::from_str::<Rows<u8>>(&list(MAX_ROWS + 1)).is_err_and(|error| error.to_string().contains("20000 rows"))
        );
    }
}

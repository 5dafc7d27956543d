//! Rows of a listing, as many as make sense: a short row of JSON takes hundreds of times its length once it is read.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{Deserialize, Error, SeqAccess, Visitor};

/// Rows of one answer; an account with more would be listed in pages.
pub const MAX_ROWS: usize = 20_000;

/// Names taken from one row; public authorities put a hundred into a certificate, a few put 250.
pub const MAX_NAMES: usize = 1_000;

/// Hands the rows of a JSON list to `take`, one by one, so that they are never all in memory in two forms. More than [`MAX_ROWS`] are an error.
pub(crate) fn each<'de, T: Deserialize<'de>>(json: &'de str, take: impl FnMut(T)) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    deserializer.deserialize_seq(Each(take, PhantomData))?;
    deserializer.end()
}

struct Each<F, T>(F, PhantomData<T>);

impl<'de, T: Deserialize<'de>, F: FnMut(T)> Visitor<'de> for Each<F, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX_ROWS}")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut rows: A) -> Result<(), A::Error> {
        let mut taken = 0;
        while let Some(row) = rows.next_element()? {
            if taken == MAX_ROWS {
                return Err(A::Error::custom(format_args!("more than {MAX_ROWS} rows")));
            }
            taken += 1;
            (self.0)(row);
        }
        Ok(())
    }
}

/// At most [`MAX_ROWS`]; more are an error before they are read.
pub(crate) struct Rows<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Rows<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rows<T>, D::Error> {
        let mut taken = Vec::new();
        deserializer.deserialize_seq(Each(|row| taken.push(row), PhantomData))?;
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
        assert!(each(&list(MAX_ROWS), |_: u8| ()).is_ok());
        assert!(each(&list(MAX_ROWS + 1), |_: u8| ()).is_err());
        assert!(each("[1]]", |_: u8| ()).is_err(), "nothing may follow");
        assert!(
            serde_json::from_str::<Rows<u8>>(&list(MAX_ROWS + 1)).is_err_and(|error| error.to_string().contains("20000 rows"))
        );
    }
}

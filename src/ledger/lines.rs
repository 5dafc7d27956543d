//! The ledger read as it is laid out ([`super::layout`]): a head of a few lines, then each record in a line of its own, so that never more
//! than one of ten thousand is in memory as text.
//!
//! Start at [`Lines::head`]. A file that is laid out in another way is no failure: `None`, and then it is read in one piece.

use std::fmt;
use std::io::{self, BufRead};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::{CertificateRecord, Ledger, Records};

/// The records' table, which comes last.
pub(super) const SECTION: &str = "certificates";
/// The line before the first record. It comes last of the ledger's parts.
const RECORDS: &[u8] = b"  \"certificates\": {";
/// In place of the records, to read the head by itself.
const NO_RECORDS: &[u8] = b"\"certificates\":{}}";
/// Bytes of everything but the records that are read in this way.
const MAX_HEAD: usize = 8 * 1024 * 1024;

/// A ledger's file, line by line.
pub(super) struct Lines<R> {
    input: R,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// All but the records; with the lines from there on, unless there are no records.
    pub fn head(input: R) -> io::Result<Option<(Ledger, Option<Lines<R>>)>> {
        let (mut lines, mut text) = (Lines { input, line: Vec::new() }, Vec::new());
        loop {
            match lines.next(b"")? {
                Next::End => return Ok(parsed(&text).map(|ledger| (ledger, None))),
                Next::Line if lines.line == RECORDS => {
                    text.extend_from_slice(NO_RECORDS);
                    return Ok(parsed(&text).map(|ledger| (ledger, Some(lines))));
                }
                Next::Line if text.len() <= MAX_HEAD => text.extend_from_slice(&lines.line),
                Next::Line | Next::Cut => return Ok(None),
            }
        }
    }

    /// The records, and the end of the file behind them.
    pub fn records(mut self) -> io::Result<Option<Records>> {
        let mut records = Records::default();
        let mut is_last = false;
        loop {
            if self.next(b"{")? != Next::Line {
                return Ok(None);
            }
            if self.line == b"{  }" {
                return Ok((is_last && self.is_closed()?).then_some(records));
            }
            let has_no_comma = self.line.pop_if(|byte| *byte == b',').is_none();
            if std::mem::replace(&mut is_last, has_no_comma) {
                return Ok(None);
            }
            self.line.push(b'}');
            let Ok(One(name, record)) = serde_json::from_slice(&self.line) else { return Ok(None) };
            records.insert(name, record);
        }
    }

    fn is_closed(&mut self) -> io::Result<bool> {
        Ok(self.next(b"")? == Next::Line && self.line == b"}" && self.next(b"")? == Next::End)
    }

    /// Takes the next line, behind `lead` and without its end.
    fn next(&mut self, lead: &[u8]) -> io::Result<Next> {
        self.line.clear();
        self.line.extend_from_slice(lead);
        Ok(match self.input.read_until(b'\n', &mut self.line)? {
            0 => Next::End,
            _ if self.line.pop_if(|byte| *byte == b'\n').is_some() => Next::Line,
            _ => Next::Cut,
        })
    }
}

#[derive(PartialEq)]
enum Next {
    Line,
    /// Something that does not end as a line does.
    Cut,
    End,
}

fn parsed(text: &[u8]) -> Option<Ledger> {
    serde_json::from_slice(text).ok()
}

/// One record with its name: an object of one entry.
struct One(String, Box<CertificateRecord>);

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<One, D::Error> {
        deserializer.deserialize_map(OneEntry)
    }
}

struct OneEntry;

impl<'de> Visitor<'de> for OneEntry {
    type Value = One;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name and its record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<One, A::Error> {
        let (name, record) = map.next_entry()?.ok_or_else(|| A::Error::custom("no record"))?;
        match map.next_key::<String>()? {
            None => Ok(One(name, record)),
            Some(_) => Err(A::Error::custom("two records in one line")),
        }
    }
}

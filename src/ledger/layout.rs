//! How the ledger lies on disk: JSON with one record in each line, small to read for us and still lines to look for with grep and diff.

use std::io::{self, BufRead, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use serde::Serialize;
use serde_json::de::Deserializer;
use serde_json::ser::{Formatter, Serializer};

use super::{CertificateRecord, Ledger};

/// `value` as JSON, its two outer levels laid out over lines.
pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Lines { depth: 0, is_empty: true }))?;
    Ok(bytes)
}

/// The ledger in text that [`encode`] laid out, one record after the other: of ten thousand the text alone is many megabytes. `None` for any
/// other text, which may still be a ledger.
pub(super) fn decode(text: impl BufRead) -> Option<Ledger> {
    let (filled, waiting) = mpsc::sync_channel(1);
    // While one thread reads the text, another makes records of what was read before.
    let (rest, records) = thread::scope(|scope| {
        let other = thread::Builder::new().name("ledger".to_owned()).spawn_scoped(scope, || records(waiting)).ok()?;
        let rest = sort_lines(text, filled)?;
        Some((rest, other.join().ok()??))
    })?;
    let ledger: Ledger = serde_json::from_slice(&rest).ok()?;
    // What lies elsewhere in another layout would be lost.
    ledger.certificates.is_empty().then(|| Ledger { certificates: records.into_iter().collect(), ..ledger })
}

/// Hands on the lines of records, many at once; what is around them comes back.
fn sort_lines(mut text: impl BufRead, filled: SyncSender<Vec<u8>>) -> Option<Vec<u8>> {
    let (mut rest, mut batch, mut is_inside) = (Vec::new(), Vec::new(), false);
    loop {
        let start = batch.len();
        let length = text.read_until(b'\n', &mut batch).ok()?;
        let line = batch.get(start..)?;
        if !(is_inside && line.starts_with(RECORD)) {
            is_inside = line == CERTIFICATES;
            rest.extend_from_slice(line);
            batch.truncate(start);
        }
        if batch.len() > BATCH || length == 0 {
            filled.send(std::mem::take(&mut batch)).ok()?;
        }
        if length == 0 {
            return Some(rest);
        }
    }
}

/// Bytes of records handed on at once.
const BATCH: usize = 64 * 1024;

fn records(batches: Receiver<Vec<u8>>) -> Option<Vec<(String, Box<CertificateRecord>)>> {
    let mut records = Vec::new();
    for batch in batches {
        for line in batch.split_inclusive(|byte| *byte == b'\n') {
            records.push(record(line.strip_prefix(RECORD)?)?);
        }
    }
    Some(records)
}

/// Starts the line of a record.
const RECORD: &[u8] = b"    ";
/// The line before the first record of a certificate.
const CERTIFICATES: &[u8] = b"  \"certificates\": {\n";

/// `"name": {…},`
fn record(line: &[u8]) -> Option<(String, Box<CertificateRecord>)> {
    let mut names = Deserializer::from_slice(line).into_iter::<String>();
    let name = names.next()?.ok()?;
    let record = line.get(names.byte_offset()..)?.strip_prefix(b": ")?.trim_ascii_end();
    Some((name, serde_json::from_slice(record.strip_suffix(b",").unwrap_or(record)).ok()?))
}

/// Levels that get lines.
const LEVELS: usize = 2;

struct Lines {
    depth: usize,
    is_empty: bool,
}

impl Lines {
    fn line(&self, writer: &mut (impl Write + ?Sized), depth: usize) -> io::Result<()> {
        writer.write_all(b"\n")?;
        (0..depth).try_for_each(|_| writer.write_all(b"  "))
    }

    fn is_laid_out(&self) -> bool {
        self.depth <= LEVELS
    }
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        // Arrays are small and stay in one line, with all that is in them.
        self.depth += LEVELS + 1;
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= LEVELS + 1;
        self.is_empty = false;
        writer.write_all(b"]")
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        self.is_empty = true;
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let (was_laid_out, was_empty) = (self.is_laid_out(), self.is_empty);
        self.depth -= 1;
        self.is_empty = false;
        if was_laid_out && !was_empty {
            self.line(writer, self.depth)?;
        }
        writer.write_all(b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(b",")?;
        }
        if self.is_laid_out() {
            self.line(writer, self.depth)?;
        }
        Ok(())
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(if self.is_laid_out() { b": " } else { b":" })
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.is_empty = false;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_record_by_record() {
        let record =
            |id: &str| Box::new(CertificateRecord { id: Some(id.to_owned()), failures: 3, ..CertificateRecord::default() });
        let mut ledger = Ledger { version: 1, ..Ledger::default() };
        assert_eq!(decode(encode(&ledger).unwrap().as_slice()), Some(ledger.clone()));
        ledger.targets.insert("nginx".to_owned(), crate::ledger::TargetRecord::default());
        ledger.certificates = ["a", "b \"quoted\"", "ü"].map(|name| (name.to_owned(), record(name))).into();
        let text = encode(&ledger).unwrap();
        assert_eq!(decode(text.as_slice()), Some(ledger.clone()));
        let whole = text.len();
        assert!((0..whole).all(|end| decode(text.get(..end).unwrap()).is_none()), "what is cut off anywhere is refused");
    }

    #[test]
    fn another_layout_is_left_to_others() {
        let record = CertificateRecord { failures: 1, ..CertificateRecord::default() };
        let ledger = Ledger { certificates: [("a".to_owned(), Box::new(record))].into(), ..Ledger::default() };
        assert_eq!(decode(serde_json::to_vec(&ledger).unwrap().as_slice()), None);
        assert_eq!(decode(serde_json::to_vec_pretty(&ledger).unwrap().as_slice()), None);
        let strange = b"{\n  \"certificates\": {\n    \"a\": 1\n  }\n}";
        assert_eq!(decode(strange.as_slice()), None);
    }

    #[test]
    fn a_record_is_a_line() {
        let value = serde_json::json!({"a": {"x": {"y": [1, {"z": 2}]}, "w": {}}, "b": {}, "c": [{"d": 1}]});
        let text = String::from_utf8(super::encode(&value).unwrap()).unwrap();
        let lines = [
            "{",
            r#"  "a": {"#,
            r#"    "w": {},"#,
            r#"    "x": {"y":[1,{"z":2}]}"#,
            "  },",
            r#"  "b": {},"#,
            r#"  "c": [{"d":1}]"#,
            "}",
        ];
        assert_eq!(text, lines.join("\n"));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}

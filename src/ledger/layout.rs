//! How the ledger lies on disk: JSON with one record in each line, small to read for us and still lines to look for with grep and diff.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::spread::spread;

/// So many records take longer to encode than a thread to start.
const WORTH_A_THREAD: usize = 128;
/// So many are in memory twice.
const TOGETHER: usize = 1024;

/// `head` as JSON, its two outer levels laid out over lines; after what is in it, `records` as a table of the name `section`.
pub(super) fn encode<T: Serialize + Sync>(
    head: &impl Serialize,
    section: &str,
    records: &[(&str, &T)],
) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    head.serialize(&mut Serializer::with_formatter(&mut bytes, Lines { depth: 0, is_empty: true }))?;
    bytes.truncate(bytes.len().saturating_sub(END.len()));
    bytes.extend_from_slice(b",\n  ");
    serde_json::to_writer(&mut bytes, section)?;
    bytes.extend_from_slice(b": {");
    let mut comma: &[u8] = b"";
    for some in records.chunks(TOGETHER) {
        for run in spread(some, WORTH_A_THREAD, lines) {
            bytes.extend_from_slice(comma);
            bytes.append(&mut run?);
            comma = b",";
        }
    }
    bytes.extend_from_slice(if records.is_empty() { b"}" } else { b"\n  }" });
    bytes.extend_from_slice(END);
    Ok(bytes)
}

/// The end of what is laid out and not empty.
const END: &[u8] = b"\n}";

/// A line for each record.
fn lines<T: Serialize>(records: &[(&str, &T)]) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    for (place, (name, record)) in records.iter().enumerate() {
        bytes.extend_from_slice(if place == 0 { b"\n    " } else { b",\n    " });
        serde_json::to_writer(&mut bytes, name)?;
        bytes.extend_from_slice(b": ");
        serde_json::to_writer(&mut bytes, record)?;
    }
    Ok(bytes)
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
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    #[test]
    fn a_record_is_a_line() {
        let head = serde_json::json!({"a": {"x": {"y": [1, {"z": 2}]}, "w": {}}, "b": {}, "c": [{"d": 1}]});
        let [first, second] = [serde_json::json!({"e": {"f": "\n"}}), serde_json::json!({})];
        let records = [("one", &first), ("t\"wo", &second)];
        let text = String::from_utf8(super::encode(&head, "records", &records).unwrap()).unwrap();
        let lines = [
            "{",
            r#"  "a": {"#,
            r#"    "w": {},"#,
            r#"    "x": {"y":[1,{"z":2}]}"#,
            "  },",
            r#"  "b": {},"#,
            r#"  "c": [{"d":1}],"#,
            r#"  "records": {"#,
            r#"    "one": {"e":{"f":"\n"}},"#,
            r#"    "t\"wo": {}"#,
            "  }",
            "}",
        ];
        assert_eq!(text, lines.join("\n"));
        let mut whole = head.clone();
        whole["records"] = serde_json::json!({"one": first, "t\"wo": second});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), whole);
    }

    #[test]
    fn many_records_are_encoded_side_by_side_and_lie_as_few_do() {
        let records: Vec<(String, usize)> = (0..2_049).map(|number| (format!("{number:04}"), number)).collect();
        let of = |size: usize| -> Vec<_> { records.iter().take(size).map(|(name, record)| (name.as_str(), record)).collect() };
        for size in [0, 1, 255, 256, 1_024, 2_049] {
            let text = super::encode(&serde_json::json!({"a": 1}), "records", &of(size)).unwrap();
            let expected: Vec<String> = of(size).iter().map(|(name, record)| format!("\n    \"{name}\": {record}")).collect();
            let end = if size == 0 { "" } else { "\n  " };
            let expected = format!("{{\n  \"a\": 1,\n  \"records\": {{{}{end}}}\n}}", expected.join(","));
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }
}

//! How the ledger lies on disk: JSON with one record in each line, small to read for us and still lines to look for with grep and diff.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// `value` as JSON, its two outer levels laid out over lines.
pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Lines { depth: 0, is_empty: true }))?;
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
#[allow(clippy::unwrap_used)]
mod tests {
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

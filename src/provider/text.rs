//! Strings of JSON that hold keys, read without leaving copies behind.
//!
//! serde_json unescapes into a buffer of its own that nobody wipes. So a field that holds a key is taken raw from the (wiped) body and unescaped
//! here, straight into a buffer that is wiped.

use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// The string in `raw`; `None` for null and for nothing but blanks. An error if it is no string.
pub(crate) fn secret(raw: Option<&RawValue>) -> Result<Option<Zeroizing<String>>, NotText> {
    let Some(raw) = raw.map(RawValue::get).filter(|raw| *raw != "null") else { return Ok(None) };
    let inner = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).ok_or(NotText)?;
    let text = unescape(inner)?;
    Ok(if text.trim().is_empty() { None } else { Some(text) })
}

/// RFC 8259, section 7. The capacity is never outgrown: no escape is shorter than what it stands for.
fn unescape(inner: &str) -> Result<Zeroizing<String>, NotText> {
    let mut text = Zeroizing::new(String::with_capacity(inner.len()));
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        text.push(match characters.next().ok_or(NotText)? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => unicode(&mut characters)?,
            literal @ ('"' | '\\' | '/') => literal,
            _ => return Err(NotText),
        });
    }
    Ok(text)
}

/// `XXXX`, and for a surrogate its partner `\uXXXX`.
fn unicode(characters: &mut std::str::Chars<'_>) -> Result<char, NotText> {
    let first = unit(characters)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first).ok_or(NotText);
    }
    if characters.next() != Some('\\') || characters.next() != Some('u') {
        return Err(NotText);
    }
    let second = unit(characters)?;
    if !(0xdc00..0xe000).contains(&second) {
        return Err(NotText);
    }
    char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(NotText)
}

fn unit(characters: &mut std::str::Chars<'_>) -> Result<u32, NotText> {
    (0..4).try_fold(0, |unit, _| {
        let digit = characters.next().and_then(|digit| digit.to_digit(16)).ok_or(NotText)?;
        Ok(unit * 16 + digit)
    })
}

/// A field is not a string.
#[derive(Debug)]
pub(crate) struct NotText;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Result<Option<String>, NotText> {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        secret(Some(raw)).map(|text| text.map(|text| text.to_string()))
    }

    #[test]
    fn null_blank_and_other_kinds() {
        assert_eq!(secret(None).unwrap(), None);
        assert_eq!(read("null").unwrap(), None);
        assert_eq!(read(r#"" \n""#).unwrap(), None);
        assert!(read("17").is_err());
        assert!(read(r#"["a"]"#).is_err());
    }

    proptest! {
        #[test]
        fn reads_what_serde_json_reads(text in any::<String>()) {
            prop_assume!(!text.trim().is_empty());
            prop_assert_eq!(read(&serde_json::to_string(&text).unwrap()).unwrap(), Some(text));
        }

        #[test]
        fn reads_every_character_escaped(text in any::<String>()) {
            prop_assume!(!text.trim().is_empty());
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            prop_assert_eq!(read(&format!("\"{escaped}\"")).unwrap(), Some(text));
        }

        #[test]
        fn agrees_with_serde_json_on_odd_escapes(odd in r#"(\\[nrtbfu"/\\0-9a-fD-d]{1,5}|[a-z])*"#) {
            let json = format!("\"{odd}\"");
            if let Ok(raw) = serde_json::from_str::<&RawValue>(&json) {
                let theirs = serde_json::from_str::<String>(&json);
                match secret(Some(raw)) {
                    Ok(ours) => prop_assert_eq!(ours.map(|text| text.to_string()), theirs.ok().filter(|text| !text.trim().is_empty())),
                    Err(_) => prop_assert!(theirs.is_err()),
                }
            }
        }
    }
}

//! A value of the document and its place: read as what is expected there, or reported.
//!
//! Start at [`Value::parse`]. Nothing here fails: what is wrong goes to the [`Sink`], and the answer is `None`.

use std::ops::{Range, RangeInclusive};

use secrecy::SecretString;
use toml::Spanned;
use toml::de::DeValue;

use super::keys;
use super::reader::{At, Reader, Sink, blot};
use super::secret::{self, Source};
use super::values::{Wrong, nearest, quote};

/// A value and its place.
pub(super) struct Value<'d> {
    pub(super) at: At<'d>,
    pub(super) node: &'d Spanned<DeValue<'d>>,
    pub(super) sink: &'d Sink,
}

impl<'d> Value<'d> {
    /// Where it stands.
    pub(super) fn span(&self) -> Range<usize> {
        self.node.span()
    }

    /// Reports `message` here.
    pub(super) fn problem(&self, message: String, hint: Option<String>) {
        self.sink.problem(&self.at, Some(self.span()), message, hint);
    }

    /// Reports `message` here as unwise.
    pub(super) fn warning(&self, message: String, hint: Option<String>) {
        self.sink.warning(&self.at, Some(self.span()), message, hint);
    }

    /// Reports that something else was expected.
    pub(super) fn refuse(&self, expected: &str, hint: Option<String>) {
        // A table or an array where neither belongs may hold anything.
        if matches!(self.node.get_ref(), DeValue::Table(_) | DeValue::Array(_)) {
            blot(self.node, self.sink);
        }
        self.problem(format!("`{}` is {}, expected {expected}", quote(&self.at.to_string()), self.found()), hint);
    }

    /// Text, or a problem.
    pub(super) fn text(&self, expected: &str) -> Option<&'d str> {
        match self.node.get_ref() {
            DeValue::String(text) => Some(text),
            other => {
                let hint = match other {
                    DeValue::Integer(number) => Some(in_quotes(number.as_str(), expected)),
                    DeValue::Float(number) => Some(in_quotes(number.as_str(), expected)),
                    DeValue::Array(_) => Some("only one is possible here".to_owned()),
                    _ => None,
                };
                self.refuse(expected, hint);
                None
            }
        }
    }

    /// Text through `parse`, or a problem.
    pub(super) fn parse<T>(&self, expected: &str, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<T> {
        match parse(self.text(expected)?) {
            Ok(value) => Some(value),
            Err(Wrong { expected: narrower, hint }) => {
                self.refuse(narrower.as_deref().unwrap_or(expected), hint);
                None
            }
        }
    }

    /// One of a few words, or a problem.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let written = self.node.get_ref().as_str();
        if let Some((_, value)) = words.iter().find(|(word, _)| Some(*word) == written) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.parse(&list(&known), |text| {
            Err(Wrong::hint(nearest(text, known.iter().copied()).map(|near| format!("did you mean `{near}`?"))))
        })
    }

    /// A whole number within bounds, or a problem.
    pub(super) fn integer(&self, bounds: RangeInclusive<i64>) -> Option<i64> {
        let found = match self.node.get_ref() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().filter(|n| bounds.contains(n)),
            _ => None,
        };
        if found.is_none() {
            let hint = self.node.get_ref().is_str().then(|| "write the number without quotes".to_owned());
            self.refuse(&format!("a whole number from {} to {}", bounds.start(), bounds.end()), hint);
        }
        found
    }

    /// A number within bounds, or a problem.
    pub(super) fn number(&self, bounds: RangeInclusive<f64>, expected: &str) -> Option<f64> {
        let found = match self.node.get_ref() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(|n| n as f64),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let found = found.filter(|n| bounds.contains(n));
        if found.is_none() {
            let hint = self.node.get_ref().is_str().then(|| "write the number without quotes".to_owned());
            self.refuse(expected, hint);
        }
        found
    }

    /// `true` or `false`, or a problem.
    pub(super) fn flag(&self) -> Option<bool> {
        let found = self.node.get_ref().as_bool();
        if found.is_none() {
            self.refuse("`true` or `false`", None);
        }
        found
    }

    /// Each element of an array of at most `most`, or a problem.
    pub(super) fn list(&self, most: usize, expected: &str) -> Option<Vec<Value<'d>>> {
        let DeValue::Array(array) = self.node.get_ref() else {
            let hint = match self.node.get_ref() {
                DeValue::String(text) => Some(format!("put it in brackets: `[\"{}\"]`", quote(text))),
                DeValue::Integer(number) => Some(format!("put it in brackets: `[{number}]`")),
                DeValue::Table(_) => Some("head it with double brackets, `[[…]]`".to_owned()),
                _ => None,
            };
            self.refuse(expected, hint);
            return None;
        };
        if array.len() > most {
            self.problem(format!("`{}` has {} entries, expected at most {most}", self.at, array.len()), None);
            return None;
        }
        let at = self.at.elements();
        Some(array.iter().enumerate().map(|(index, node)| Value { at: at(index), node, sink: self.sink }).collect())
    }

    /// A secret's source, or a problem that never shows it.
    pub(super) fn secret(&self) -> Option<Source> {
        match self.node.get_ref() {
            DeValue::Table(_) => self.secret_elsewhere(),
            DeValue::String(text) => self.secret_here(text),
            other => {
                let message = format!("`{}` is {}, expected {SECRET}", self.at, article(other.type_str()));
                self.problem(message, other.is_integer().then(|| "put it in quotes".to_owned()));
                None
            }
        }
    }

    fn secret_here(&self, text: &str) -> Option<Source> {
        if let Err(why) = secret::check(text) {
            self.problem(format!("`{}` {why}, expected {SECRET}", self.at), None);
            return None;
        }
        self.sink.plain.borrow_mut().push((self.at.to_string(), self.span()));
        Some(Source::Plain(SecretString::from(text)))
    }

    fn secret_elsewhere(&self) -> Option<Source> {
        let reader = Reader::open(self, &keys::SECRET)?;
        let given: Vec<&str> = keys::SECRET.keys.iter().map(|key| key.name).filter(|key| reader.has(key)).collect();
        if given.len() != 1 {
            let found = if given.is_empty() { "none".to_owned() } else { list(&given) };
            self.problem(format!("`{}` has {found}, expected exactly one of `file`, `env` or `credential`", self.at), None);
            return None;
        }
        if let Some(file) = reader.take("file") {
            return file.parse(super::values::PATH, super::values::path).map(Source::File);
        }
        if let Some(env) = reader.take("env") {
            return env.parse("the name of an environment variable", secret::variable_name).map(Source::Env);
        }
        reader
            .take("credential")?
            .parse("the name of a systemd credential, without `/`", secret::credential_name)
            .map(Source::Credential)
    }

    /// What is there, in words.
    fn found(&self) -> String {
        let hidden = self.sink.blots.borrow().contains(&self.span());
        match self.node.get_ref() {
            other if hidden => article(other.type_str()),
            DeValue::String(text) => format!("`{}`", quote(text)),
            DeValue::Integer(number) => format!("the number {}", quote(&number.to_string())),
            DeValue::Float(number) => format!("the number {}", quote(number.as_str())),
            DeValue::Boolean(flag) => format!("`{flag}`"),
            DeValue::Array(array) if array.is_empty() => "an empty array".to_owned(),
            other => article(other.type_str()),
        }
    }
}

const SECRET: &str = "a secret: `{ file = … }`, `{ env = … }`, `{ credential = … }` or a plain string";

/// `a`, `b` or `c`, each in backticks.
pub(super) fn list(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => format!("`{only}`"),
        [rest @ .., last] => {
            format!("{} or `{last}`", rest.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "))
        }
    }
}

fn article(word: &str) -> String {
    let article = if word.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {word}")
}

fn in_quotes(number: &str, expected: &str) -> String {
    let number = quote(number);
    let text = match expected {
        _ if expected.contains("duration") => format!("{number}s"),
        _ if expected.contains("octal") => format!("{number:0>4}"),
        _ => number.into_owned(),
    };
    format!("put it in quotes: `\"{text}\"`")
}

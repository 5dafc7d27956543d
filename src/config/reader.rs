//! Reads a parsed TOML document key by key, and collects everything that is wrong on the way instead of stopping at the first.
//!
//! Start at [`Reader::open`], which refuses unknown keys at once. Every `take…` returns what it found or `None`; a `None` of something
//! that was there has already been reported to the [`Sink`], so callers go on reading and nobody reports twice.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Table};
use super::problem::Problem;
use super::secret::Source;
use super::value::{Value, list};
use super::values::{Wrong, nearest, quote};

/// Where findings go.
#[derive(Default)]
pub(super) struct Sink {
    pub(super) problems: RefCell<Vec<Problem>>,
    pub(super) warnings: RefCell<Vec<Problem>>,
    /// Places that must never be shown: secrets, and what may be one under a misspelt key.
    pub(super) blots: RefCell<Vec<Range<usize>>>,
    /// Plain secrets: where they stand.
    pub(super) plain: RefCell<Vec<(String, Range<usize>)>>,
}

impl Sink {
    pub(super) fn problem(&self, at: impl fmt::Display, span: Option<Range<usize>>, message: String, hint: Option<String>) {
        self.problems.borrow_mut().push(Problem { at: at.to_string(), message, hint, span });
    }

    /// Hides a value of which something may be a secret.
    pub(super) fn hide(&self, span: Range<usize>) {
        self.blots.borrow_mut().push(span);
    }

    /// Whether there are so many problems that looking for the nearest name would only cost time: nobody will see it.
    pub(super) fn is_tired(&self) -> bool {
        self.problems.borrow().len() > 10 * super::problem::MAX_SHOWN
    }

    /// Takes in what was found in a piece of the file, in which nothing was wrong; `place` is where something of the piece is in the file.
    pub(super) fn absorb(&self, piece: Sink, place: impl Fn(usize) -> usize) {
        let moved = |span: Range<usize>| place(span.start)..place(span.start) + span.len();
        let warnings = piece.warnings.into_inner().into_iter();
        self.warnings.borrow_mut().extend(warnings.map(|one| Problem { span: one.span.map(moved), ..one }));
        self.blots.borrow_mut().extend(piece.blots.into_inner().into_iter().map(moved));
        self.plain.borrow_mut().extend(piece.plain.into_inner().into_iter().map(|(at, span)| (at, moved(span))));
    }

    pub(super) fn warning(&self, at: impl fmt::Display, span: Option<Range<usize>>, message: String, hint: Option<String>) {
        self.warnings.borrow_mut().push(Problem { at: at.to_string(), message, hint, span });
    }
}

/// A table, its place, and the keys it may have.
pub(super) struct Reader<'d> {
    /// Path of the table, such as `certificate[1]`; empty at the top.
    pub(super) at: Arc<str>,
    /// Where it starts; `None` at the top.
    pub(super) span: Option<Range<usize>>,
    pub(super) sink: &'d Sink,
    table: &'d DeTable<'d>,
    known: &'static Table,
}

impl<'d> Reader<'d> {
    /// The document itself.
    pub(super) fn root(table: &'d DeTable<'d>, sink: &'d Sink) -> Reader<'d> {
        let reader = Reader { at: Arc::from(""), span: None, sink, table, known: &keys::ROOT };
        reader.report_unknown();
        reader
    }

    /// `value` as a table of this kind; its unknown keys are reported.
    pub(super) fn open(value: &Value<'d>, known: &'static Table) -> Option<Reader<'d>> {
        let DeValue::Table(table) = value.node.get_ref() else {
            if known.holds_secrets() {
                blot(value.node, value.sink);
            }
            let hint = match value.node.get_ref() {
                DeValue::Array(_) => Some(format!("write it as a single table, {}", known.label)),
                _ => None,
            };
            value.refuse(&format!("a table, {}", known.label), hint);
            return None;
        };
        let reader = Reader { at: value.at.to_string().into(), span: Some(value.span()), sink: value.sink, table, known };
        reader.blot_secrets();
        reader.report_unknown();
        Some(reader)
    }

    /// The value of `key`, when it is there.
    pub(super) fn take(&self, key: &str) -> Option<Value<'d>> {
        debug_assert!(self.known.key(key).is_some(), "`{key}` is read but not listed in keys.rs");
        let (key, node) = self.table.get_key_value(key)?;
        Some(Value { at: At::key(&self.at, key.get_ref()), node, sink: self.sink })
    }

    /// The value of `key`; its absence is a problem.
    pub(super) fn need(&self, key: &str, expected: &str) -> Option<Value<'d>> {
        let value = self.take(key);
        if value.is_none() {
            let hint = Some(format!("add `{key} = …` to {}", self.label()));
            self.problem(self.path(key), format!("missing `{}`, expected {expected}", self.path(key)), hint);
        }
        value
    }

    /// The secret of `key`, when it is there.
    pub(super) fn secret(&self, key: &str) -> Option<Source> {
        self.take(key)?.secret()
    }

    /// The secret of `key`; its absence is a problem.
    pub(super) fn need_secret(&self, key: &str) -> Option<Source> {
        self.need(key, "a secret: `{ file = … }`, `{ env = … }`, `{ credential = … }` or a plain string")?.secret()
    }

    /// The text of `key` through `parse`, else `default` (which is never used after a problem).
    pub(super) fn text_or<T>(&self, key: &str, default: T, expected: &str, parse: impl Fn(&str) -> Result<T, Wrong>) -> T {
        self.take(key).and_then(|value| value.parse(expected, parse)).unwrap_or(default)
    }

    /// Every entry of a table whose keys are names.
    pub(super) fn names(value: &Value<'d>, label: &str) -> Vec<Named<'d>> {
        let DeValue::Table(table) = value.node.get_ref() else {
            value.refuse(&format!("tables, {label} each"), None);
            return Vec::new();
        };
        let at: Arc<str> = value.at.to_string().into();
        let mut named: Vec<Named<'d>> = table
            .iter()
            .map(|(key, node)| Named {
                name: key.get_ref().to_string(),
                name_span: key.span(),
                value: Value { at: At::key(&at, key.get_ref()), node, sink: value.sink },
            })
            .collect();
        named.sort_unstable_by_key(|named| named.name_span.start);
        named
    }

    /// Reports keys that belong to another `kind` (or `method`, `format`) than `found`.
    pub(super) fn only_for(&self, selector: &str, found: &str) {
        for key in self.known.keys.iter().filter(|key| !key.only.is_empty() && !key.only.contains(&found)) {
            let Some(span) = self.key_span(key.name) else { continue };
            let at = self.path(key.name);
            let message = format!("`{at}` does not apply to `{selector} = \"{found}\"`, only to {}", list(key.only));
            self.sink.problem(&at, Some(span), message, Some("remove it".to_owned()));
        }
    }

    /// Reads every secret for its problems alone, where a table is wrong in a way that leaves no other use for them.
    pub(super) fn survey(&self) {
        for key in self.known.keys.iter().filter(|key| key.secret && key.name != "headers") {
            self.secret(key.name);
        }
    }

    /// Reports something about the table as a whole.
    pub(super) fn problem(&self, at: impl fmt::Display, message: String, hint: Option<String>) {
        self.sink.problem(at, self.span.clone(), message, hint);
    }

    /// Whether `key` is there, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where the key itself stands.
    pub(super) fn key_span(&self, key: &str) -> Option<Range<usize>> {
        self.table.get_key_value(key).map(|(key, _)| key.span())
    }

    /// The path of a key of this table.
    pub(super) fn path(&self, key: &str) -> String {
        At::key(&self.at, key).to_string()
    }

    /// The table as people write it: `[deploy.nginx]`, `[[certificate]]`.
    fn label(&self) -> String {
        match (&*self.at, self.known.label) {
            ("", _) => "the top level".to_owned(),
            (_, label) if label.starts_with("[[") => label.to_owned(),
            (at, label) if label.starts_with('[') => format!("[{at}]"),
            (at, _) => format!("`{at}`"),
        }
    }

    /// Nothing of a key that holds a secret is ever shown, whatever else is wrong with the table.
    fn blot_secrets(&self) {
        for key in self.known.keys.iter().filter(|key| key.secret) {
            if let Some(value) = self.table.get(key.name) {
                blot_plain(value, self.sink);
            }
        }
    }

    fn report_unknown(&self) {
        for (key, value) in self.table.iter().filter(|(key, _)| self.known.key(key.get_ref()).is_none()) {
            let name = key.get_ref();
            let meant = self.meant(name);
            let is_scalar = !matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_));
            if self.known.holds_secrets() || !is_scalar || !meant.is_some_and(keys::is_harmless) {
                blot(value, self.sink);
            }
            let message =
                format!("unknown key `{}` {} {}", quote(name), if self.at.is_empty() { "at" } else { "in" }, self.label());
            self.sink.problem(self.path(name), Some(key.span()), message, self.hint_for(name, meant));
        }
    }

    /// The key that was probably meant: the nearest of this table, else one of exactly this name elsewhere.
    fn meant(&self, name: &str) -> Option<&'static str> {
        if self.sink.is_tired() {
            return None;
        }
        let near = nearest(name, self.known.keys.iter().map(|key| key.name));
        near.or_else(|| keys::TABLES.iter().find_map(|table| table.key(name)).map(|key| key.name))
    }

    fn hint_for(&self, name: &str, meant: Option<&str>) -> Option<String> {
        match meant {
            Some(meant) if self.known.key(meant).is_some() => Some(format!("did you mean `{meant}`?")),
            Some(_) => {
                // The top level comes last: who writes `deploy` in a table hardly means `[deploy.NAME]`.
                let tables = keys::TABLES.iter().skip(1).chain(keys::TABLES.iter().take(1));
                let owner = tables.filter(|table| table.key(name).is_some()).map(|table| table.label).next();
                owner.map(|label| format!("`{name}` belongs to {label}"))
            }
            None => {
                let known: Vec<&str> = self.known.keys.iter().map(|key| key.name).collect();
                Some(format!("known keys: {}", known.join(", ")))
            }
        }
    }
}

/// Hides every value inside.
pub(super) fn blot(node: &Spanned<DeValue<'_>>, sink: &Sink) {
    match node.get_ref() {
        DeValue::Table(table) => table.values().for_each(|value| blot(value, sink)),
        DeValue::Array(array) => array.iter().for_each(|value| blot(value, sink)),
        _ => sink.hide(node.span()),
    }
}

/// Hides every value inside but the names of files, variables and credentials.
fn blot_plain(node: &Spanned<DeValue<'_>>, sink: &Sink) {
    let DeValue::Table(table) = node.get_ref() else { return blot(node, sink) };
    for (key, value) in table.iter().filter(|(key, value)| keys::SECRET.key(key.get_ref()).is_none() || !value.get_ref().is_str())
    {
        match keys::SECRET.key(key.get_ref()) {
            Some(_) => blot(value, sink),
            None => blot_plain(value, sink),
        }
    }
}

/// An entry of a table of names, such as `[deploy.NAME]`.
pub(super) struct Named<'d> {
    pub(super) name: String,
    pub(super) name_span: Range<usize>,
    pub(super) value: Value<'d>,
}

/// Path of a value, such as `certificate[1].deploy[0]`; put into words only where it is told, which is hardly ever.
pub(super) struct At<'d> {
    /// Path of the table, or the array, that holds it.
    within: Arc<str>,
    key: Option<&'d str>,
    index: Option<usize>,
}

impl<'d> At<'d> {
    fn key(within: &Arc<str>, key: &'d str) -> At<'d> {
        At { within: Arc::clone(within), key: Some(key), index: None }
    }

    /// Of each element of the array here, in its order.
    pub(super) fn elements(&self) -> impl Fn(usize) -> At<'d> + use<'d> {
        let (within, key) = match self.index {
            None => (Arc::clone(&self.within), self.key),
            Some(_) => (self.to_string().into(), None),
        };
        move |index| At { within: Arc::clone(&within), key, index: Some(index) }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            Some(key) => write_key(f, &self.within, key)?,
            None => f.write_str(&self.within)?,
        }
        self.index.map_or(Ok(()), |index| write!(f, "[{index}]"))
    }
}

fn write_key(to: &mut fmt::Formatter<'_>, within: &str, key: &str) -> fmt::Result {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if !within.is_empty() {
        write!(to, "{within}.")?;
    }
    if plain { to.write_str(&quote(key)) } else { write!(to, "\"{}\"", quote(key)) }
}

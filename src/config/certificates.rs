//! `[[certificate]]`: the inventory. Start at [`Inventory`].

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::keys;
use super::net::{DNS_NAME, dns_name};
use super::reader::Reader;
use super::settings::{Certificate, Format, Output, Successor, Trust, Wanted};
use super::value::Value;
use super::values::{NAME, PATH, account, certificate_name, file_path, id, mode, nearest, plain, quote};

/// What entries refer to.
pub(super) struct Context<'c> {
    pub(super) state_dir: &'c Path,
    pub(super) providers: &'c BTreeSet<String>,
    pub(super) targets: &'c BTreeSet<String>,
}

/// The inventory while it is read: from one document, or from several that each hold some of it.
pub(super) struct Inventory<'c> {
    context: &'c Context<'c>,
    seen: Seen,
    /// Entries before those that are read here.
    before: usize,
    /// Entries up to here, right or wrong.
    read: usize,
    certificates: Vec<Certificate>,
}

/// What no two entries may share, with where it was first seen.
#[derive(Default)]
struct Seen {
    names: HashMap<String, Arc<str>, RandomState>,
    paths: HashMap<PathBuf, String, RandomState>,
    keys: HashSet<PathBuf, RandomState>,
}

impl<'c> Inventory<'c> {
    /// Empty, with room for so many; `before` it come entries that are read elsewhere.
    pub(super) fn new(context: &'c Context<'c>, before: usize, room: usize) -> Inventory<'c> {
        Inventory { context, seen: Seen::default(), before, read: before, certificates: Vec::with_capacity(room) }
    }

    /// Takes in every entry of a document.
    pub(super) fn read(&mut self, root: &Reader<'_>) {
        let Some(value) = root.take("certificate") else { return };
        let entries = value.list(MAX_CERTIFICATES, "entries, each headed `[[certificate]]`").unwrap_or_default();
        let first = self.read;
        self.read += entries.len();
        let at = value.at.elements();
        let in_all = |(index, entry)| Value { at: at(first + index), ..entry };
        let entries: Vec<Value<'_>> = entries.into_iter().enumerate().map(in_all).collect();
        let readers: Vec<Reader<'_>> = entries.iter().filter_map(|entry| Reader::open(entry, &keys::CERTIFICATE)).collect();
        self.seen.keys.extend(readers.iter().filter_map(key_path));
        let seen = &mut self.seen;
        self.certificates.extend(readers.iter().filter_map(|reader| certificate(reader, self.context, seen)));
    }

    /// Takes in what comes next in the file; `false`: it does not follow by its number, or both have something that no two entries may share.
    pub(super) fn join(&mut self, mut next: Inventory<'c>) -> bool {
        if next.before != self.read {
            return false;
        }
        self.read = next.read;
        self.certificates.append(&mut next.certificates);
        // The smaller goes into the larger.
        if next.seen.names.len() > self.seen.names.len() {
            std::mem::swap(&mut self.seen, &mut next.seen);
        }
        self.seen.names.reserve(next.seen.names.len());
        self.seen.keys.extend(next.seen.keys);
        let mut is_new = next.seen.names.into_iter().all(|(name, at)| self.seen.names.insert(name, at).is_none());
        is_new &= next.seen.paths.into_iter().all(|(path, at)| self.seen.paths.insert(path, at).is_none());
        is_new
    }

    /// Whether the bounds of the whole hold, which a document that only has a part of it cannot tell: the number of entries, and that none
    /// writes over the `key_file` of a later one.
    pub(super) fn is_sound(&self) -> bool {
        self.read <= MAX_CERTIFICATES && !self.seen.keys.iter().any(|key| self.seen.paths.contains_key(key))
    }

    /// Every entry that is right, in the order of the file.
    pub(super) fn certificates(mut self) -> Vec<Certificate> {
        self.certificates.shrink_to_fit();
        self.certificates
    }
}

/// Most entries; the file's own bound comes first.
pub(super) const MAX_CERTIFICATES: usize = 20_000;
const MAX_NAMES: usize = 500;
const MAX_DEPLOY: usize = 100;
const MAX_OUTPUTS: usize = 100;

fn key_path(reader: &Reader<'_>) -> Option<PathBuf> {
    let value = reader.take("key_file")?;
    value.node.get_ref().as_str().map(|path| plain(Path::new(path)))
}

fn certificate(reader: &Reader<'_>, context: &Context<'_>, seen: &mut Seen) -> Option<Certificate> {
    let name = name(reader, seen);
    let provider = reader.need("provider", "the name of a `[providers.NAME]`").and_then(|value| {
        let name = value.text("the name of a `[providers.NAME]`")?;
        known(&value, name, context.providers, "providers").then(|| name.to_owned())
    });
    let wanted = wanted(reader);
    let successor = reader.take("successor").and_then(|value| value.word(&SUCCESSORS)).unwrap_or_default();
    let trust =
        reader.take("trust").and_then(|value| value.word(&[("public", Trust::Public), ("any", Trust::Any)])).unwrap_or_default();
    let names = reader
        .take("names")
        .and_then(|value| distinct(&value, MAX_NAMES, "a list of DNS names", |v| v.parse(DNS_NAME, dns_name)));
    let deploy = reader.take("deploy").and_then(|value| deploy(&value, context));
    let key_file = reader.take("key_file").and_then(|value| value.parse(PATH, file_path));
    let placeholder = reader.take("placeholder").and_then(|value| value.flag()).unwrap_or_default();
    let outputs = outputs(reader, context, seen);
    Some(Certificate {
        name: name?,
        provider: provider?,
        wanted: wanted?,
        successor,
        names: names.unwrap_or_default(),
        key_file,
        deploy: deploy.unwrap_or_default(),
        outputs,
        trust,
        placeholder,
    })
}

const SUCCESSORS: [(&str, Successor); 3] =
    [("adopt", Successor::Adopt), ("warn", Successor::Warn), ("ignore", Successor::Ignore)];

fn name(reader: &Reader<'_>, seen: &mut Seen) -> Option<String> {
    let value = reader.need("name", NAME)?;
    let name = value.parse(NAME, certificate_name)?;
    if let Some(first) = seen.names.get(&name) {
        value.problem(
            format!("`{}` is `{name}`, which is the name of `{first}` already", value.at),
            Some("every entry has a name of its own".to_owned()),
        );
        return None;
    }
    seen.names.insert(name.clone(), Arc::clone(&reader.at));
    Some(name)
}

/// Exactly one of `id` and `domain`.
fn wanted(reader: &Reader<'_>) -> Option<Wanted> {
    let id = reader.take("id").map(|value| value.parse("a certificate's id: letters, digits, `-` and `_`", id));
    let domain = reader.take("domain").map(|value| value.parse(DNS_NAME, dns_name));
    match (id, domain) {
        (Some(id), None) => id.map(Wanted::Id),
        (None, Some(domain)) => domain.map(Wanted::Domain),
        (Some(_), Some(_)) => {
            let hint = "keep `id` for one certain certificate, `domain` for the newest that covers a name".to_owned();
            let message = format!("`{}` has both `id` and `domain`, expected one of them", reader.at);
            reader.sink.problem(reader.path("domain"), reader.key_span("domain"), message, Some(hint));
            None
        }
        (None, None) => {
            let hint = "`certsyncd list` shows the ids of an account".to_owned();
            reader.problem(
                reader.path("id"),
                format!("missing `{}` or `domain`, expected one of them", reader.path("id")),
                Some(hint),
            );
            None
        }
    }
}

fn deploy(value: &Value<'_>, context: &Context<'_>) -> Option<Vec<String>> {
    const EXPECTED: &str = "the names of `[deploy.NAME]`";
    distinct(value, MAX_DEPLOY, "a list of names of `[deploy.NAME]`", |value| {
        let name = value.text(EXPECTED)?;
        known(value, name, context.targets, "deploy").then(|| name.to_owned())
    })
}

/// Each element, refusing what is there twice.
pub(super) fn distinct<'d, T: PartialEq>(
    value: &Value<'d>,
    most: usize,
    expected: &str,
    read: impl Fn(&Value<'d>) -> Option<T>,
) -> Option<Vec<T>> {
    let elements = value.list(most, expected)?;
    let mut found = Vec::with_capacity(elements.len());
    for value in elements {
        let Some(one) = read(&value) else { continue };
        if found.contains(&one) {
            value.problem(format!("`{}` is there twice", value.at), Some("remove one of them".to_owned()));
        }
        found.push(one);
    }
    Some(found)
}

/// Whether `[table.name]` exists; if not, that is a problem.
fn known(value: &Value<'_>, name: &str, names: &BTreeSet<String>, table: &str) -> bool {
    if names.contains(name) {
        return true;
    }
    let near = (!value.sink.is_tired()).then(|| nearest(name, names.iter().map(String::as_str))).flatten();
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => format!("add the table `[{table}.{}]`", quote(name)),
        None => {
            let names: Vec<&str> = names.iter().take(MAX_LISTED).map(String::as_str).collect();
            format!("there are: {}", quote(&names.join(", ")))
        }
    };
    let shown = quote(name);
    value.problem(format!("`{}` is `{shown}`, but there is no `[{table}.{shown}]`", value.at), Some(hint));
    false
}

const MAX_LISTED: usize = 12;

fn outputs(reader: &Reader<'_>, context: &Context<'_>, seen: &mut Seen) -> Vec<Output> {
    let Some(value) = reader.take("output") else { return Vec::new() };
    let entries = value.list(MAX_OUTPUTS, "copies, each headed `[[certificate.output]]`").unwrap_or_default();
    let mut outputs = Vec::with_capacity(entries.len());
    let readers = entries.iter().filter_map(|entry| Reader::open(entry, &keys::OUTPUT));
    outputs.extend(readers.filter_map(|reader| output(&reader, context, seen)));
    outputs
}

fn output(reader: &Reader<'_>, context: &Context<'_>, seen: &mut Seen) -> Option<Output> {
    let path = reader.need("path", PATH).and_then(|value| output_path(&value, context, seen));
    let who =
        |key: &str| reader.take(key).and_then(|value| value.parse("the name or number of an account of this host", account));
    let (owner, group) = (who("owner"), who("group"));
    let written = reader.take("mode").map(|value| (value.span(), value.at.to_string(), value.parse(MODE, mode)));
    let value = reader.need("format", "`cert`, `chain`, `fullchain`, `key`, `combined` or `pkcs12`");
    let Some((format, word)) = value.and_then(|value| Some((value.word(&FORMATS)?, value.text("")?))) else {
        reader.survey();
        return None;
    };
    reader.only_for("format", word);
    let password = match format {
        Format::Pkcs12 => Some(reader.need_secret("password")?),
        _ => None,
    };
    let default = if format.is_secret() { SECRET_MODE } else { PUBLIC_MODE };
    let mode = match written {
        None => default,
        Some((span, at, mode)) => {
            let mode = mode?;
            refuse_open_key(reader, &at, span, format, mode);
            mode
        }
    };
    Some(Output { format, path: path?, owner, group, mode, password })
}

const MODE: &str = "permissions in octal, in quotes, such as `\"0640\"`";
const PUBLIC_MODE: u32 = 0o644;
const SECRET_MODE: u32 = 0o600;

const FORMATS: [(&str, Format); 6] = [
    ("cert", Format::Cert),
    ("chain", Format::Chain),
    ("fullchain", Format::Fullchain),
    ("key", Format::Key),
    ("combined", Format::Combined),
    ("pkcs12", Format::Pkcs12),
];

fn refuse_open_key(reader: &Reader<'_>, at: &str, span: Range<usize>, format: Format, mode: u32) {
    if format.is_secret() && mode & 0o007 != 0 {
        let message =
            format!("`{at}` is `{mode:04o}`, expected a mode without rights for others: the file holds the private key");
        let hint = "`mode = \"0640\"` with the service's `group` would do".to_owned();
        reader.sink.problem(at, Some(span), message, Some(hint));
    }
}

fn output_path(value: &Value<'_>, context: &Context<'_>, seen: &mut Seen) -> Option<PathBuf> {
    let path = plain(&value.parse(PATH, file_path)?);
    if path.starts_with(plain(context.state_dir)) {
        let hint = "the standard files are there already, under `live/`; copies belong elsewhere".to_owned();
        value.refuse("a path outside `daemon.state_dir`", Some(hint));
        return None;
    }
    if seen.keys.contains(&path) {
        value.refuse("another path than a `key_file`, which would be overwritten", None);
        return None;
    }
    if let Some(first) = seen.paths.get(&path) {
        value
            .problem(format!("`{}` is `{}`, which `{first}` writes already", value.at, quote(&path.display().to_string())), None);
        return None;
    }
    seen.paths.insert(path.clone(), value.at.to_string());
    Some(path)
}

//! `[alerts]`: who is told, and of what. Start at [`alerts`].

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox;
use secrecy::ExposeSecret;

use super::certificates::distinct;
use super::keys;
use super::net::{HOOK, hook, mail_host};
use super::reader::Reader;
use super::secret::Source;
use super::settings::{Alerts, Channel, ChannelKind, Encryption, EventKind, Language, Severity, WebhookFormat};
use super::targets::argv;
use super::time::{DURATION, duration};
use super::value::Value;
use super::values::{NAME, Wrong, nearest, table_name};

/// `[alerts]`, or its defaults.
pub(super) fn alerts(root: &Reader<'_>) -> Alerts {
    let value = root.take("alerts");
    let Some(reader) = value.as_ref().and_then(|value| Reader::open(value, &keys::ALERTS)) else {
        return Alerts {
            thresholds: THRESHOLDS.to_vec(),
            remind: REMIND,
            after_failures: AFTER_FAILURES,
            heartbeat_url: None,
            channels: Vec::new(),
        };
    };
    Alerts {
        thresholds: thresholds(&reader).unwrap_or_else(|| THRESHOLDS.to_vec()),
        remind: reader.text_or("remind", REMIND, DURATION, |text| duration(text, &REMINDS)),
        after_failures: reader.take("after_failures").and_then(|value| small(&value, 1..=100)).unwrap_or(AFTER_FAILURES),
        heartbeat_url: web_secret(&reader, "heartbeat_url", false),
        channels: channels(&reader),
    }
}

const THRESHOLDS: [u32; 5] = [30, 14, 7, 3, 1];
const MAX_THRESHOLDS: usize = 50;
/// Ten years: no certificate of a public authority is valid so long.
const MAX_THRESHOLD: i64 = 3650;
const REMIND: Duration = Duration::from_secs(24 * 60 * 60);
const REMINDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 60 * 60);
const AFTER_FAILURES: u32 = 2;
const MAX_CHANNELS: usize = 100;

/// Days left, from the largest to the smallest.
fn thresholds(reader: &Reader<'_>) -> Option<Vec<u32>> {
    let value = reader.take("thresholds")?;
    let mut days = distinct(&value, MAX_THRESHOLDS, "a list of days", |value| small(value, 1..=MAX_THRESHOLD))?;
    days.sort_unstable_by(|a, b| b.cmp(a));
    Some(days)
}

fn small(value: &Value<'_>, bounds: RangeInclusive<i64>) -> Option<u32> {
    value.integer(bounds).and_then(|number| u32::try_from(number).ok())
}

fn channels(reader: &Reader<'_>) -> Vec<Channel> {
    let Some(value) = reader.take("channel") else { return Vec::new() };
    let entries = value.list(MAX_CHANNELS, "channels, each headed `[[alerts.channel]]`").unwrap_or_default();
    let mut kinds = BTreeMap::new();
    let mut names = BTreeMap::new();
    let readers = entries.iter().filter_map(|entry| Reader::open(entry, &keys::CHANNEL));
    readers.filter_map(|reader| channel(&reader, &mut kinds, &mut names)).collect()
}

#[derive(Clone, Copy)]
enum Kind {
    Desktop,
    Webhook,
    Email,
    Command,
}

const KINDS: [(&str, Kind); 4] =
    [("desktop", Kind::Desktop), ("webhook", Kind::Webhook), ("email", Kind::Email), ("command", Kind::Command)];

fn channel(reader: &Reader<'_>, kinds: &mut BTreeMap<String, usize>, names: &mut BTreeMap<String, Arc<str>>) -> Option<Channel> {
    let (min_severity, events, language) = (min_severity(reader), events(reader), language(reader));
    let certificates = reader
        .take("certificates")
        .and_then(|value| distinct(&value, MAX_PATTERNS, "a list of patterns", |v| v.parse(PATTERN, pattern)));
    let timeout = reader.text_or("timeout", TIMEOUT, DURATION, |text| duration(text, &TIMEOUTS));
    let kind = reader.need("kind", "`desktop`, `webhook`, `email` or `command`");
    let Some((found, word)) = kind.and_then(|value| Some((value.word(&KINDS)?, value.text("")?))) else {
        reader.survey();
        return None;
    };
    reader.only_for("kind", word);
    let name = channel_name(reader, word, kinds, names);
    let kind = match found {
        Kind::Desktop => ChannelKind::Desktop,
        Kind::Webhook => webhook(reader)?,
        Kind::Email => email(reader)?,
        Kind::Command => ChannelKind::Command { command: argv(&reader.need("command", "an argument vector")?)? },
    };
    let (events, certificates) = (events.unwrap_or_default(), certificates.unwrap_or_default());
    Some(Channel { name: name?, kind, min_severity, events, certificates, language, timeout })
}

const TIMEOUT: Duration = Duration::from_secs(15);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(10 * 60);
const MAX_PATTERNS: usize = 500;
const PATTERN: &str = "a name, or a pattern such as `*.example.com`";

/// Its own name, else the kind with a number; both unique.
fn channel_name(
    reader: &Reader<'_>,
    kind: &str,
    kinds: &mut BTreeMap<String, usize>,
    names: &mut BTreeMap<String, Arc<str>>,
) -> Option<String> {
    let number = kinds.entry(kind.to_owned()).or_default();
    *number += 1;
    let name = match reader.take("name") {
        Some(value) => value.parse(NAME, table_name)?,
        None => format!("{kind}-{number}"),
    };
    if let Some(first) = names.get(&name) {
        let span = reader.take("name").map(|value| value.span()).or_else(|| reader.span.clone());
        let message = format!("`{}` has the name `{name}`, which is the name of `{first}` already", reader.at);
        reader.sink.problem(reader.path("name"), span, message, Some("every channel has a `name` of its own".to_owned()));
        return None;
    }
    names.insert(name.clone(), Arc::clone(&reader.at));
    Some(name)
}

fn min_severity(reader: &Reader<'_>) -> Severity {
    const SEVERITIES: [(&str, Severity); 3] =
        [("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];
    reader.take("min_severity").and_then(|value| value.word(&SEVERITIES)).unwrap_or(Severity::Info)
}

fn language(reader: &Reader<'_>) -> Language {
    reader.take("language").and_then(|value| value.word(&[("en", Language::En), ("zh", Language::Zh)])).unwrap_or_default()
}

fn events(reader: &Reader<'_>) -> Option<Vec<EventKind>> {
    let words: Vec<(&str, EventKind)> = EventKind::ALL.iter().map(|kind| (kind.name(), *kind)).collect();
    distinct(&reader.take("events")?, EventKind::ALL.len(), "a list of events", |value| value.word(&words))
}

fn pattern(text: &str) -> Result<String, Wrong> {
    let fits = !text.is_empty() && text.len() <= MAX_PATTERN && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if fits { Ok(text.to_owned()) } else { Err(Wrong::new()) }
}

const MAX_PATTERN: usize = 256;

fn webhook(reader: &Reader<'_>) -> Option<ChannelKind> {
    const FORMATS: [(&str, WebhookFormat); 5] = [
        ("json", WebhookFormat::Json),
        ("slack", WebhookFormat::Slack),
        ("dingtalk", WebhookFormat::Dingtalk),
        ("feishu", WebhookFormat::Feishu),
        ("wecom", WebhookFormat::Wecom),
    ];
    let format = reader.take("format").and_then(|value| value.word(&FORMATS)).unwrap_or_default();
    let (secret, headers, template) = (reader.secret("secret"), headers(reader), template(reader));
    Some(ChannelKind::Webhook { url: web_secret(reader, "url", true)?, format, headers, secret, template })
}

/// An address that is a secret: a plain one is judged here, others when they are resolved.
fn web_secret(reader: &Reader<'_>, key: &str, needed: bool) -> Option<Source> {
    let value = if needed { reader.need(key, "the address to post to, a secret")? } else { reader.take(key)? };
    let source = value.secret()?;
    if let Source::Plain(url) = &source
        && let Err(wrong) = hook(url.expose_secret())
    {
        let expected = wrong.expected.unwrap_or_else(|| HOOK.to_owned());
        value.problem(format!("`{}` is not an address events can be posted to, expected {expected}", value.at), wrong.hint);
        return None;
    }
    Some(source)
}

fn headers(reader: &Reader<'_>) -> BTreeMap<String, Source> {
    let Some(value) = reader.take("headers") else { return BTreeMap::new() };
    if !value.node.get_ref().is_table() {
        value.problem(format!("`{}` is no table, expected `{{ Name = … }}`", value.at), None);
        return BTreeMap::new();
    }
    let named = Reader::names(&value, "headers");
    if named.len() > MAX_HEADERS {
        value.problem(format!("`{}` has {} entries, expected at most {MAX_HEADERS}", value.at, named.len()), None);
    }
    let mut headers = BTreeMap::new();
    for one in named {
        if !is_header_name(&one.name) {
            let message = format!("`{}` is no name of a header, expected letters, digits and `-`", one.value.at);
            one.value.sink.problem(&one.value.at, Some(one.name_span), message, None);
        }
        if let Some(source) = one.value.secret() {
            headers.insert(one.name, source);
        }
    }
    headers
}

const MAX_HEADERS: usize = 50;

/// A token (RFC 9110, section 5.6.2) of a sensible length, and none that the transport writes itself.
fn is_header_name(name: &str) -> bool {
    const OURS: [&str; 4] = ["host", "content-length", "transfer-encoding", "connection"];
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        && !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

fn template(reader: &Reader<'_>) -> Option<String> {
    let value = reader.take("template")?;
    let text = value.text("text with the event's fields as `{field}`")?;
    if text.is_empty() || text.len() > MAX_TEMPLATE {
        value.problem(format!("`{}` has {} bytes, expected 1 to {MAX_TEMPLATE}", value.at, text.len()), None);
        return None;
    }
    for place in places(text).filter(|place| !FIELDS.contains(place)) {
        let hint = nearest(place, FIELDS.into_iter()).map(|near| format!("did you mean `{{{near}}}`?"));
        value.warning(format!("`{}` has the place `{{{place}}}`, which is no field of an event", value.at), hint);
    }
    Some(text.to_owned())
}

const MAX_TEMPLATE: usize = 16 * 1024;

/// Fields of an event (contract, section 4).
const FIELDS: [&str; 19] = [
    "version",
    "event",
    "severity",
    "host",
    "certificate",
    "provider",
    "id",
    "names",
    "valid",
    "not_after",
    "days_left",
    "fingerprint",
    "target",
    "certificates",
    "count",
    "key",
    "message",
    "at",
    "title",
];

/// Every `{word}`; braces around anything else belong to the body itself (JSON).
fn places(text: &str) -> impl Iterator<Item = &str> {
    text.split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}').map(|(place, _)| place))
        .filter(|place| (1..=64).contains(&place.len()) && place.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
}

fn email(reader: &Reader<'_>) -> Option<ChannelKind> {
    const ENCRYPTIONS: [(&str, Encryption); 3] =
        [("starttls", Encryption::Starttls), ("tls", Encryption::Tls), ("none", Encryption::None)];
    let written = reader.take("encryption");
    let encryption = written.as_ref().and_then(|value| value.word(&ENCRYPTIONS)).unwrap_or_default();
    let host =
        reader.need("host", "a mail server").and_then(|value| value.parse("the name or IP address of a mail server", mail_host));
    let port = match reader.take("port") {
        Some(value) => value.integer(1..=65_535).and_then(|port| u16::try_from(port).ok()),
        None => Some(default_port(encryption)),
    };
    let (username, password) = (reader.secret("username"), reader.secret("password"));
    let from = reader.need("from", MAILBOX).and_then(|value| value.parse(MAILBOX, mailbox));
    let to = reader.need("to", "a list of mail addresses").and_then(|value| receivers(&value));
    check_login(reader);
    if let (Encryption::None, Some(value), Some(host)) = (encryption, written, &host) {
        check_in_the_clear(&value, host);
    }
    Some(ChannelKind::Email { host: host?, port: port?, encryption, username, password, from: from?, to: to? })
}

/// The submission ports of RFC 8314, and a local server's.
fn default_port(encryption: Encryption) -> u16 {
    match encryption {
        Encryption::Starttls => 587,
        Encryption::Tls => 465,
        Encryption::None => 25,
    }
}

const MAILBOX: &str = "a mail address such as `ops@example.com` or `certsyncd <ops@example.com>`";
const MAX_RECEIVERS: usize = 100;

fn receivers(value: &Value<'_>) -> Option<Vec<String>> {
    let found = distinct(value, MAX_RECEIVERS, "a list of mail addresses", |value| value.parse(MAILBOX, mailbox))?;
    if found.is_empty() && value.node.get_ref().as_array().is_some_and(|array| array.is_empty()) {
        value.refuse("at least one mail address", None);
    }
    Some(found)
}

fn mailbox(text: &str) -> Result<String, Wrong> {
    let fits = text.len() <= MAX_MAILBOX && !text.chars().any(char::is_control) && text.parse::<Mailbox>().is_ok();
    if fits { Ok(text.to_owned()) } else { Err(Wrong::new()) }
}

const MAX_MAILBOX: usize = 512;

fn check_login(reader: &Reader<'_>) {
    for (given, other) in [("username", "password"), ("password", "username")] {
        if reader.has(given) && !reader.has(other) {
            let message = format!("`{}` is there without `{other}`, expected both or neither", reader.path(given));
            reader.sink.problem(reader.path(other), reader.key_span(given), message, None);
        }
    }
}

fn check_in_the_clear(value: &Value<'_>, host: &str) {
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !loopback {
        let message =
            format!("`{}` is `none`, which is only for a mail server at a loopback address, not for `{host}`", value.at);
        value.problem(message, Some("`starttls` or `tls` would do".to_owned()));
    }
}

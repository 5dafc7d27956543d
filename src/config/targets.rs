//! `[deploy.NAME]`: servers that must take up changed certificates. Start at [`all`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::certificates::distinct;
use super::keys;
use super::net::{ADDRESS, address};
use super::providers::check_name;
use super::reader::Reader;
use super::settings::{Target, TargetKind, VerifyAddress};
use super::time::{self, DURATION, WINDOW, duration};
use super::value::Value;
use super::values::{PATH, file_path};

/// The names of all tables, right or wrong inside, and the targets that are right.
pub(super) fn all(root: &Reader<'_>) -> (BTreeSet<String>, BTreeMap<String, Target>) {
    let Some(value) = root.take("deploy") else { return Default::default() };
    let (mut names, mut targets) = (BTreeSet::new(), BTreeMap::new());
    for named in Reader::names(&value, "[deploy.NAME]") {
        check_name(&named.name, &named.value, &named.name_span);
        if let Some(target) = Reader::open(&named.value, &keys::TARGET).and_then(|reader| target(&reader, &named.name)) {
            targets.insert(named.name.clone(), target);
        }
        names.insert(named.name);
    }
    (names, targets)
}

/// Lets a reload through systemd go ahead of its other jobs. The daemon adds it for the time before READY; it is no setting.
pub const AHEAD_OF_JOBS: &str = "--job-mode=ignore-dependencies";

impl Target {
    /// What decides how a changed certificate reaches the server, as SHA-256 in hex: when it changes, the target is deployed anew.
    ///
    /// Kind, socket, test, reload and the addresses count; patience (`timeout`), `window` and `min_gap` do not. The same settings give
    /// the same fingerprint in every version of the program.
    pub fn fingerprint(&self) -> String {
        let (kind, socket) = match &self.kind {
            TargetKind::Nginx => ("nginx", None),
            TargetKind::Haproxy { socket } => ("haproxy", socket.as_deref()),
            TargetKind::Command => ("command", None),
        };
        let verify: Vec<(String, bool)> = self.verify.iter().map(|at| (at.to_string(), at.proxy_protocol)).collect();
        let reload: Vec<&String> = self.reload.iter().filter(|word| *word != AHEAD_OF_JOBS).collect();
        // JSON arrays and strings leave no two settings with the same text.
        let text = serde_json::json!([1, kind, socket, self.test, reload, verify]).to_string();
        hex::encode(Sha256::digest(text.as_bytes()))
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Nginx,
    Haproxy,
    Command,
}

const KINDS: [(&str, Kind); 3] = [("nginx", Kind::Nginx), ("haproxy", Kind::Haproxy), ("command", Kind::Command)];

fn target(reader: &Reader<'_>, name: &str) -> Option<Target> {
    let test = reader.take("test").and_then(|value| argv(&value));
    let written = reader.take("reload").map(|value| argv(&value));
    let verify = reader.take("verify").and_then(|value| distinct(&value, MAX_VERIFY, "a list of addresses", verify_address));
    let timeout = reader.text_or("timeout", TIMEOUT, DURATION, |text| duration(text, &TIMEOUTS));
    let min_gap = reader.text_or("min_gap", MIN_GAP, DURATION, |text| duration(text, &MIN_GAPS));
    let window = reader.take("window").and_then(|value| value.parse(WINDOW, time::window));
    let socket = reader.take("socket").and_then(|value| value.parse(PATH, file_path));
    let value = reader.need("kind", "`nginx`, `haproxy` or `command`")?;
    let kind = value.word(&KINDS)?;
    reader.only_for("kind", value.text("")?);
    let default = default_reload(kind);
    let reload = match (written, &default) {
        (Some(reload), _) => reload?,
        (None, Some(default)) => default.clone(),
        (None, None) => {
            reader.need("reload", "an argument vector such as `[\"systemctl\", \"reload\", \"postfix.service\"]`")?;
            return None;
        }
    };
    let reload_is_default = default.is_some_and(|default| default == reload);
    let verify = verify.unwrap_or_default();
    warn_of_doubtful(reader, test.as_deref(), kind, &verify);
    let kind = match kind {
        Kind::Nginx => TargetKind::Nginx,
        Kind::Haproxy => TargetKind::Haproxy { socket },
        Kind::Command => TargetKind::Command,
    };
    let unit = unit(&reload);
    Some(Target { name: name.to_owned(), kind, test, reload, reload_is_default, unit, verify, timeout, window, min_gap })
}

const TIMEOUT: Duration = Duration::from_secs(15);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60 * 60);
const MIN_GAP: Duration = Duration::from_secs(10);
const MIN_GAPS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 60 * 60);
const MAX_VERIFY: usize = 100;
const MAX_ARGUMENTS: usize = 100;
/// Longest argument, in bytes.
const MAX_ARGUMENT: usize = 4096;

/// The unit's own reload, by systemd; `--no-ask-password`, since nobody is there to be asked.
fn default_reload(kind: Kind) -> Option<Vec<String>> {
    let unit = match kind {
        Kind::Nginx => "nginx.service",
        Kind::Haproxy => "haproxy.service",
        Kind::Command => return None,
    };
    Some(["systemctl", "--no-ask-password", "reload", unit].map(str::to_owned).to_vec())
}

/// An argument vector: a program by name or absolute path, and its arguments.
pub(super) fn argv(value: &Value<'_>) -> Option<Vec<String>> {
    const EXPECTED: &str = "an argument vector such as `[\"systemctl\", \"reload\", \"nginx.service\"]`";
    if value.node.get_ref().is_str() {
        let words: Vec<String> =
            value.text("")?.split_whitespace().take(MAX_ARGUMENTS).map(|word| format!("\"{word}\"")).collect();
        let hint = format!("no shell takes it apart; write `[{}]`", super::values::quote(&words.join(", ")));
        value.refuse(EXPECTED, Some(hint));
        return None;
    }
    let elements = value.list(MAX_ARGUMENTS, EXPECTED)?;
    let count = elements.len();
    let words: Vec<String> = elements.iter().filter_map(argument).collect();
    let Some(program) = words.first() else {
        if count == 0 {
            value.refuse(EXPECTED, None);
        }
        return None;
    };
    let fits =
        !program.is_empty() && (!program.contains('/') || program.starts_with('/')) && !program.contains(char::is_whitespace);
    if !fits {
        let hint = "the program alone, by its name or its absolute path; each argument is an element of its own".to_owned();
        value.problem(format!("`{}` starts with `{}`, expected a program", value.at, super::values::quote(program)), Some(hint));
        return None;
    }
    (words.len() == count).then_some(words)
}

fn argument(value: &Value<'_>) -> Option<String> {
    let text = value.text("an argument, in quotes")?;
    if text.len() > MAX_ARGUMENT || text.contains('\0') {
        value.problem(format!("`{}` is no argument, expected at most {MAX_ARGUMENT} bytes without NUL", value.at), None);
        return None;
    }
    Some(text.to_owned())
}

fn verify_address(value: &Value<'_>) -> Option<VerifyAddress> {
    if value.node.get_ref().is_str() {
        return value.parse(ADDRESS, address);
    }
    let reader = Reader::open(value, &keys::VERIFY)?;
    let proxy_protocol = reader.take("proxy_protocol").and_then(|value| value.flag()).unwrap_or_default();
    let address = reader.need("address", ADDRESS)?.parse(ADDRESS, address)?;
    Some(VerifyAddress { proxy_protocol, ..address })
}

/// The unit that `systemctl … reload UNIT` reloads: one unit of the system's own manager, else `None`.
fn unit(reload: &[String]) -> Option<String> {
    const FLAGS: [&str; 5] = ["--no-ask-password", "--quiet", "-q", "--no-pager", "--system"];
    const VERBS: [&str; 3] = ["reload", "reload-or-restart", "try-reload-or-restart"];
    let (program, arguments) = reload.split_first()?;
    let mut words = arguments.iter().map(String::as_str).filter(|word| !FLAGS.contains(word));
    let (verb, unit, more) = (words.next()?, words.next()?, words.next());
    let named = Path::new(program).file_name()? == "systemctl" && VERBS.contains(&verb) && more.is_none();
    let fits = !unit.starts_with('-') && unit.chars().all(|c| c.is_ascii_alphanumeric() || ":_.\\@-".contains(c));
    let suffixed = UNIT_TYPES.iter().any(|suffix| unit.ends_with(suffix));
    (named && fits).then(|| if suffixed { unit.to_owned() } else { format!("{unit}.service") })
}

/// systemd.unit(5).
const UNIT_TYPES: [&str; 11] =
    [".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer", ".slice", ".scope"];

fn warn_of_doubtful(reader: &Reader<'_>, test: Option<&[String]>, kind: Kind, verify: &[VerifyAddress]) {
    if verify.is_empty() {
        let message = format!("`{}` has no `verify`: whether it serves the new certificate is not looked at", reader.at);
        let hint = "add `verify = [\"127.0.0.1:443\"]`".to_owned();
        reader.sink.warning(reader.path("verify"), reader.span.clone(), message, Some(hint));
    }
    let nginx_t = test.and_then(|words| words.split_first()).is_some_and(|(program, arguments)| {
        Path::new(program).file_name().is_some_and(|name| name == "nginx") && arguments == ["-t"]
    });
    if nginx_t && matches!(kind, Kind::Nginx) {
        let message =
            format!("`{}` is `nginx -t`, which needs root: as the service's user it fails on a stock host", reader.path("test"));
        let hint = "leave `test` out: the unit's own reload checks the configuration".to_owned();
        reader.sink.warning(reader.path("test"), reader.key_span("test"), message, Some(hint));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_a_reload() {
        let unit_of = |words: &str| unit(&words.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for (words, found) in [
            ("systemctl reload nginx", Some("nginx.service")),
            ("systemctl --no-ask-password reload nginx.service", Some("nginx.service")),
            ("/usr/bin/systemctl reload-or-restart haproxy@edge", Some("haproxy@edge.service")),
            ("systemctl -q try-reload-or-restart my.app", Some("my.app.service")),
            ("systemctl reload stunnel.target", Some("stunnel.target")),
            ("systemctl --user reload nginx", None),
            ("systemctl -H web-2 reload nginx", None),
            ("systemctl restart nginx", None),
            ("systemctl reload", None),
            ("systemctl reload nginx haproxy", None),
            ("systemctl reload ngin*", None),
            ("sudo systemctl reload nginx", None),
            ("nginx -s reload", None),
        ] {
            assert_eq!(unit_of(words).as_deref(), found, "{words}");
        }
    }
}

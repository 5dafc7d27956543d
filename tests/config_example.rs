//! The configurations we show people are valid, complete, and mean what they say.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::Path;

use certsyncd::config::{self, ChannelKind, Settings, keys};

const EXAMPLE: &str = include_str!("../config.example.toml");

/// The example of the page that users and scripts rely on.
const CONTRACT: &str = r#"
version = 1

[daemon]                                   # the whole table may be left out
state_dir   = "/var/lib/certsyncd"
schedule    = "0 */10 * * * *"             # cron: second minute hour day month weekday
timezone    = "local"                      # or "UTC", or an IANA name
splay       = "60s"                        # a random wait before each scheduled pass, so that a fleet does not move in step
concurrency = 8                            # certificates in flight at once

[providers.scm]
kind       = "huawei-scm"
region     = "cn-north-4"                  # or: endpoint = "https://…" (plain http only to a loopback address)
project_id = "0123456789abcdef0123456789abcdef"    # needed by api = "download"
api        = "export"                      # "export" (v3, default) or "download" (v2, the archive)
auth       = { method = "access-key", access_key = { credential = "scm-ak" }, secret_key = { credential = "scm-sk" } }

[providers.shouyun]
kind   = "cds"
region = "cn"                              # cn | asia | us, or endpoint
auth   = { method = "access-key", access_key = { file = "/etc/certsyncd/cds.ak" }, secret_key = { env = "CDS_SK" } }

[[certificate]]
name      = "www.example.com"              # also the directory's name: letters, digits, '.', '-', '_'; starts with a letter or digit
provider  = "scm"
id        = "scs1554192131150"             # this certificate …
successor = "adopt"                        # … and its renewals: "adopt" (default), "warn", "ignore"
names     = ["www.example.com", "example.com"]   # must be covered, or it is not installed (default: no demand)
key_file  = "/etc/ssl/private/www.key"     # when the provider has no key (the user's own CSR)
deploy    = ["nginx", "haproxy"]

[[certificate]]
name     = "api"
provider = "shouyun"
domain   = "api.example.com"               # instead of an id: the newest deployable certificate that covers this name
deploy   = ["haproxy"]
  [[certificate.output]]                   # besides the standard files: further copies where a service wants them
  format = "combined"                      # cert | chain | fullchain | key | combined | pkcs12
  path   = "/etc/haproxy/certs/api.pem"
  owner  = "root"
  group  = "haproxy"
  mode   = "0640"

[deploy.nginx]
kind    = "nginx"                          # nginx | haproxy | command
test    = ["/usr/local/sbin/try-nginx"]    # argument vectors, no shell; default: none (the unit's own reload is the test)
reload  = ["systemctl", "reload", "nginx.service"]
verify  = ["127.0.0.1:443"]                # TLS addresses that must serve the new certificate afterwards
timeout = "15s"                            # for each step

[deploy.haproxy]
kind   = "haproxy"
socket = "/run/haproxy/admin.sock"         # update in place over the Runtime API; without it, or where it cannot, test and reload
verify = ["127.0.0.1:443"]

[alerts]
thresholds = [30, 14, 7, 3, 1]             # days left; each crossed once per certificate, besides the provider's own flag
remind     = "24h"                         # how often an expired or failing certificate is repeated
[[alerts.channel]]
kind = "webhook"                           # desktop | webhook | email | command; the journal is always on
url  = { file = "/etc/certsyncd/hook.url" }
min_severity = "warning"                   # info | warning | critical

[metrics]
listen   = "127.0.0.1:9632"                # /metrics, /healthz, /readyz, /status.json; absent: no listener
textfile = "/var/lib/prometheus/node-exporter/certsyncd.prom"
"#;

#[test]
fn the_contract_s_example_is_valid_and_without_a_warning() {
    let settings = parsed(CONTRACT);
    assert_eq!(settings.warnings, []);
    assert_eq!(settings.certificates.len(), 2);
    assert_eq!(settings.targets["nginx"].unit.as_deref(), Some("nginx.service"));
}

#[test]
fn the_example_is_valid_and_without_a_warning() {
    assert_eq!(parsed(EXAMPLE).warnings, []);
}

#[test]
fn the_example_with_every_key_uncommented_is_valid_too() {
    let settings = parsed(&uncommented());
    assert_eq!(settings.providers.len(), 8);
    // each kind of channel, and of a webhook each format, has a block to uncomment
    let kinds = settings.alerts.channels.iter().map(|channel| match &channel.kind {
        ChannelKind::Webhook { format, .. } => format!("{format:?}"),
        ChannelKind::Email { .. } => "email".to_owned(),
        ChannelKind::Desktop => "desktop".to_owned(),
        ChannelKind::Command { .. } => "command".to_owned(),
    });
    let expected = ["Dingtalk", "Feishu", "Json", "Slack", "Wecom", "command", "desktop", "email"];
    assert_eq!(kinds.collect::<BTreeSet<_>>(), expected.map(String::from).into());
}

#[test]
fn the_example_names_every_key_and_no_other() {
    let known: BTreeSet<(String, String)> = keys::TABLES
        .iter()
        .flat_map(|table| table.keys.iter().map(|key| (table.label.to_owned(), key.name.to_owned())))
        .collect();
    let mut found = BTreeSet::new();
    let document: toml_edit::DocumentMut = uncommented().parse().unwrap();
    walk(document.as_item(), &[], &mut found);
    let missing: Vec<_> = known.difference(&found).collect();
    let unknown: Vec<_> = found.difference(&known).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not in the example: {missing:?}; not known: {unknown:?}");
}

/// A `#key = value` of a live table is its default: uncommented, it changes nothing. These have none, and show what one would write.
const WITHOUT_DEFAULT: [&str; 13] = [
    "project_id",
    "domain_id",
    "enterprise_project_id",
    "ca_file",
    "key_file",
    "test",
    "window",
    "heartbeat_url",
    "secret",
    "template",
    "listen",
    "textfile",
    "socket",
];

#[test]
fn the_defaults_in_the_example_are_the_defaults() {
    let (mut live, mut text, mut shown) = (true, String::new(), Vec::new());
    for line in EXAMPLE.lines() {
        if line.trim_start_matches(['#', ' ']).starts_with('[') {
            live = !line.starts_with('#');
        }
        let key =
            line.strip_prefix('#').and_then(|rest| rest.split_once(" = ")).map(|(key, _)| key).filter(|key| !key.contains(' '));
        match key.filter(|key| live && !WITHOUT_DEFAULT.contains(key)) {
            Some(key) => {
                shown.push(key);
                text.push_str(&line[1..]);
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    assert_eq!(shown.len(), 26, "{shown:?}");
    assert_eq!(comparable(parsed(&text)), comparable(parsed(EXAMPLE)));
}

/// Keys whose default is "none", shown with a value.
const SHOWN_LIVE: [&str; 4] = ["names", "deploy", "verify", "proxy_protocol"];

/// What the list of keys says of a default is what the example says.
#[test]
fn the_defaults_in_the_list_of_keys_are_those_of_the_example() {
    let literal = |key: &&keys::Key| {
        key.default.starts_with(|c: char| "\"[{".contains(c) || c.is_ascii_digit()) && !key.default.contains(", ")
    };
    for key in keys::TABLES.iter().flat_map(|table| table.keys).filter(literal) {
        let live = format!("#{} = {}", key.name, key.default);
        let remark = format!("default: {}", key.default);
        assert!(EXAMPLE.lines().any(|line| line == live || line.contains(&remark)) || SHOWN_LIVE.contains(&key.name), "{live}");
    }
}

#[test]
fn the_effective_configuration_reads_back_as_the_same() {
    for text in [
        "version = 1\n".to_owned(),
        EXAMPLE.to_owned(),
        CONTRACT.to_owned(),
        uncommented().replace("\"certsyncd\"", "{ env = \"ME\" }"),
    ] {
        let settings = parsed(&text);
        let rendered = settings.render();
        assert!(!rendered.contains("[masked]"));
        let again = parsed(&rendered);
        let (before, after) = (comparable(settings), comparable(again));
        let differing = before.lines().zip(after.lines()).find(|(before, after)| before != after);
        assert!(before == after, "{differing:?} in\n{rendered}");
    }
}

/// The example is full of defaults, which a forgotten line of the rendering would bring back by itself.
#[test]
fn values_that_are_no_defaults_read_back_too() {
    let mut text = uncommented().replace("\"certsyncd\"", "{ env = \"ME\" }");
    for (old, new) in [
        ("state_dir = \"/var/lib/certsyncd\"", "state_dir = \"/srv/tls\""),
        ("schedule = \"0 */10 * * * *\"", "schedule = \"0 0 3 * * *\""),
        ("timezone = \"local\"", "timezone = \"UTC\""),
        ("splay = \"60s\"", "splay = \"5s\""),
        ("concurrency = 8", "concurrency = 3"),
        ("rate_limit = 10", "rate_limit = 0.5"),
        ("api = \"export\"", "api = \"download\""),
        ("successor = \"adopt\"", "successor = \"warn\""),
        ("trust = \"public\"", "trust = \"any\""),
        ("placeholder = false", "placeholder = true"),
        ("timeout = \"15s\"", "timeout = \"1m1ms\""),
        ("min_gap = \"10s\"", "min_gap = \"11s\""),
        ("reload = [\"systemctl\", \"--no-ask-password\"", "reload = [\"systemctl\", \"-q\""),
        ("thresholds = [30, 14, 7, 3, 1]", "thresholds = [20, 2]"),
        ("remind = \"24h\"", "remind = \"5h\""),
        ("after_failures = 2", "after_failures = 4"),
        ("name = \"webhook-1\"", "name = \"hook\""),
        ("events = []", "events = [\"expired\"]"),
        ("certificates = []", "certificates = [\"a*\"]"),
        ("language = \"en\"", "language = \"zh\""),
        ("format = \"json\"", "format = \"slack\""),
        ("headers = {}", "headers = { \"X-Key\" = { env = \"K\" } }"),
        ("encryption = \"starttls\"", "encryption = \"tls\""),
        ("port = 587", "port = 2465"),
    ] {
        let before = comparable(parsed(&text));
        assert!(text.contains(old), "{old}");
        text = text.replacen(old, new, 1);
        let settings = parsed(&text);
        let rendered = settings.render();
        let after = comparable(settings);
        assert!(after != before, "{new} changes nothing");
        assert!(after == comparable(parsed(&rendered)), "{new} is lost in\n{rendered}");
    }
}

#[test]
fn a_plain_secret_is_masked_and_others_stay_as_they_are() {
    let text = EXAMPLE
        .replace("{ credential = \"scm-sk\" }", "\"hunter2\"")
        .replace("{ file = \"/etc/certsyncd/hook.url\" }", "\"https://example.com/hunter2\"");
    let rendered = parsed(&text).render();
    assert!(!rendered.contains("hunter2"));
    assert!(rendered.contains("access_key = { credential = \"scm-ak\" }, secret_key = \"[masked]\""), "{rendered}");
    assert!(!format!("{:?}", parsed(&text)).contains("hunter2"));
}

fn parsed(text: &str) -> Settings {
    config::parse(text, Path::new("config.example.toml")).unwrap_or_else(|refused| panic!("{}", refused.render(false)))
}

/// Spans and the text of warnings differ between a file and its rendering; all else may not.
fn comparable(settings: Settings) -> String {
    format!("{:#?}", Settings { warnings: Vec::new(), ..settings })
}

/// The example with every `#key = …` and `#[table]` made live.
fn uncommented() -> String {
    let live = |line: &str| {
        let Some(rest) = line.strip_prefix('#') else { return line.to_owned() };
        let start = rest.trim_start();
        let key = start.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        let indented = rest.len() - start.len();
        if (indented == 0 || indented == 2) && (key || start.starts_with('[')) { rest.to_owned() } else { line.to_owned() }
    };
    EXAMPLE.lines().map(live).map(|line| line + "\n").collect()
}

/// Which kind of table stands at a path.
fn label(path: &[&str]) -> &'static str {
    let table = match path {
        [] => &keys::ROOT,
        ["daemon"] => &keys::DAEMON,
        ["providers", _] => &keys::PROVIDER,
        ["providers", _, "auth"] => &keys::AUTH,
        ["certificate"] => &keys::CERTIFICATE,
        ["certificate", "output"] => &keys::OUTPUT,
        ["deploy", _] => &keys::TARGET,
        ["deploy", _, "verify"] => &keys::VERIFY,
        ["alerts"] => &keys::ALERTS,
        ["alerts", "channel"] => &keys::CHANNEL,
        ["metrics"] => &keys::METRICS,
        ["providers", _, "auth", _] | ["certificate", "output", _] | ["alerts", _] | ["alerts", "channel", ..] => &keys::SECRET,
        other => panic!("what is {other:?}?"),
    };
    table.label
}

fn walk(item: &toml_edit::Item, path: &[&str], found: &mut BTreeSet<(String, String)>) {
    if let Some(table) = item.as_table_like() {
        for (key, item) in table.iter() {
            if !matches!(path, ["providers"] | ["deploy"] | ["alerts", "channel", "headers"]) {
                found.insert((label(path).to_owned(), key.to_owned()));
            }
            walk(item, &[path, &[key]].concat(), found);
        }
    } else if let Some(tables) = item.as_array_of_tables() {
        tables.iter().for_each(|table| walk(&toml_edit::Item::Table(table.clone()), path, found));
    } else if let Some(array) = item.as_array() {
        array.iter().for_each(|value| walk(&toml_edit::Item::Value(value.clone()), path, found));
    }
}

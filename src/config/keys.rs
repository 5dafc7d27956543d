//! Every key the configuration knows, as data: the reader refuses what is not here, hints come from here, and so do the manual page
//! and the test that `config.example.toml` is complete.
//!
//! Start at [`TABLES`]. A key that is read but not listed here is caught by the reader's own assertion in tests.

/// One kind of table of the file.
#[derive(Debug)]
pub struct Table {
    /// As people write it: `[daemon]`, `[[certificate]]`, `auth = { … }`.
    pub label: &'static str,
    /// What it is for, in a sentence.
    pub about: &'static str,
    /// Its keys, in the order of the manual.
    pub keys: &'static [Key],
}

/// One key of a table.
#[derive(Debug)]
pub struct Key {
    /// As written.
    pub name: &'static str,
    /// What holds when it is left out; `required` when it may not be, empty when nothing does.
    pub default: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// The values of the table's `kind`, `method` or `format` it belongs to; empty: all.
    pub only: &'static [&'static str],
    /// Whether its value is a secret, and so must not be shown.
    pub secret: bool,
}

impl Table {
    /// The key of this name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Whether a secret may stand in it.
    pub(super) fn holds_secrets(&self) -> bool {
        self.keys.iter().any(|key| key.secret)
    }
}

/// Whether a key, or a word that some key asks for, has this name.
pub(super) fn is_known(word: &str) -> bool {
    let keys = || TABLES.iter().flat_map(|table| table.keys);
    keys().any(|key| key.name == word || key.only.contains(&word))
}

/// Whether there is such a key, and no table holds a secret under it, neither itself nor in a table of its own.
pub(super) fn is_harmless(key: &str) -> bool {
    const OF_TABLES: [&str; 6] = ["providers", "auth", "certificate", "output", "alerts", "channel"];
    let mut known = TABLES.iter().filter_map(|table| table.key(key)).peekable();
    known.peek().is_some() && !OF_TABLES.contains(&key) && known.all(|key| !key.secret)
}

/// Every table.
pub const TABLES: &[&Table] =
    &[&ROOT, &DAEMON, &PROVIDER, &AUTH, &CERTIFICATE, &OUTPUT, &TARGET, &VERIFY, &ALERTS, &CHANNEL, &METRICS, &SECRET];

/// Top level.
pub const ROOT: Table = Table {
    label: "the top level",
    about: "What the file is made of.",
    keys: &[
        key("version", "required", "the form of this file; 1"),
        key("daemon", "", "where the state lives and when a pass starts"),
        key("providers", "", "the accounts certificates come from, one `[providers.NAME]` each"),
        key("certificate", "", "the inventory, one `[[certificate]]` each"),
        key("deploy", "", "the servers that use them, one `[deploy.NAME]` each"),
        key("alerts", "", "who is told, and of what"),
        key("metrics", "", "where monitoring looks"),
    ],
};

/// `[daemon]`.
pub const DAEMON: Table = Table {
    label: "[daemon]",
    about: "Where the state lives and when a pass starts.",
    keys: &[
        key("state_dir", "\"/var/lib/certsyncd\"", "the folder of the certificates, the ledger and the locks"),
        key("schedule", "\"0 */10 * * * *\"", "when passes start: second minute hour day month weekday"),
        key("timezone", "\"local\"", "the zone of `schedule` and of every `window`: `local`, `UTC` or an IANA name"),
        key("splay", "\"60s\"", "upper bound of a random wait before each scheduled pass, so that a fleet does not move in step"),
        key("concurrency", "8", "certificates in flight at once"),
    ],
};

/// `[providers.NAME]`.
pub const PROVIDER: Table = Table {
    label: "[providers.NAME]",
    about: "One account at one cloud.",
    keys: &[
        key("kind", "required", "`huawei-scm` or `cds`"),
        key("region", "", "the cloud's region; needed unless `endpoint` is given"),
        key("endpoint", "the region's", "where the cloud answers: https, or http to a loopback address"),
        key("auth", "required", "who is asking"),
        key("rate_limit", "10", "requests per second at most; 0 lifts the limit"),
        key("ca_file", "", "further CA certificates (PEM) to trust for this provider, for a proxy or a private cloud"),
        only("project_id", "", "the project; needed by `api = \"download\"`", HUAWEI),
        only("api", "\"export\"", "`export` (v3, PEM) or `download` (v2, an archive)", HUAWEI),
        only("domain_id", "", "the account's id, sent as `X-Domain-Id`", HUAWEI),
        only("enterprise_project_id", "", "narrows listings to one enterprise project", HUAWEI),
        only("iam_endpoint", "the region's", "where tokens come from (`method = \"password\"`)", HUAWEI),
        only(
            "metadata_endpoint",
            "\"http://169.254.169.254\"",
            "where the host's metadata service answers (`method = \"metadata\"`)",
            HUAWEI,
        ),
    ],
};

/// `auth` of a provider.
pub const AUTH: Table = Table {
    label: "auth = { … }",
    about: "Who is asking.",
    keys: &[
        key(
            "method",
            "required",
            "`access-key`, `password`, `token`, `metadata`, `environment` or `profile`; of `cds` only the first",
        ),
        secret("access_key", "required", "the access key's id (AK)", &["access-key"]),
        secret("secret_key", "required", "its secret (SK)", &["access-key"]),
        secret("security_token", "", "of a temporary access key (Huawei)", &["access-key"]),
        secret("user", "required", "the IAM user's name", &["password"]),
        secret("password", "required", "the IAM user's password", &["password"]),
        only("domain", "required", "the account's name", &["password"]),
        only("project", "the region's", "the project's name", &["password"]),
        secret("token", "required", "a token made elsewhere", &["token"]),
        only("path", "`~/.huaweicloud/credentials`", "the vendor's credentials file", &["profile"]),
    ],
};

/// `[[certificate]]`.
pub const CERTIFICATE: Table = Table {
    label: "[[certificate]]",
    about: "One entry of the inventory.",
    keys: &[
        key("name", "required", "also the directory's name: letters, digits, `.`, `-`, `_`"),
        key("provider", "required", "the name of a `[providers.NAME]`"),
        key("id", "", "which certificate of the account; this or `domain`"),
        key("domain", "", "instead of an id: the newest deployable certificate that covers this name"),
        key("successor", "\"adopt\"", "what to do with its renewals: `adopt`, `warn` or `ignore`"),
        key("names", "[]", "names it must cover, or it is not installed"),
        key("key_file", "", "the private key, when the provider has none (your own CSR)"),
        key("deploy", "[]", "the servers that use it: names of `[deploy.NAME]`"),
        key("trust", "\"public\"", "which chains a first install by `domain` accepts: `public` or `any`"),
        key("placeholder", "false", "whether a self-signed stand-in goes live until the first pass succeeds"),
        key("output", "", "further copies, one `[[certificate.output]]` each"),
    ],
};

/// `[[certificate.output]]`.
pub const OUTPUT: Table = Table {
    label: "[[certificate.output]]",
    about: "A further copy of a certificate where a service wants it.",
    keys: &[
        key("format", "required", "`cert`, `chain`, `fullchain`, `key`, `combined` or `pkcs12`"),
        key("path", "required", "the file; absolute"),
        key("owner", "who runs certsyncd", "the file's owner, by name or number"),
        key("group", "the group of the process", "the file's group, by name or number"),
        key("mode", "\"0600\" with a key in it, else \"0644\"", "the file's permissions, octal"),
        secret("password", "required", "protects the file", &["pkcs12"]),
    ],
};

/// `[deploy.NAME]`.
pub const TARGET: Table = Table {
    label: "[deploy.NAME]",
    about: "A server that must take up changed certificates.",
    keys: &[
        key("kind", "required", "`nginx`, `haproxy` or `command`"),
        only(
            "socket",
            "",
            "haproxy's admin or master socket: update in place; else, and where it cannot, test and reload",
            &["haproxy"],
        ),
        key("test", "", "run before the reload, must exit 0; without it the unit's own reload is the test"),
        key("reload", "the unit's, by systemctl", "makes the server read its files again; required with `kind = \"command\"`"),
        key("verify", "[]", "addresses that must serve the new certificate afterwards"),
        key("timeout", "\"15s\"", "bound of each step"),
        key(
            "window",
            "",
            "changes wait for it, such as `Sat,Sun 02:00-04:00` or `daily 02:00-04:00`; not when what is served ends within three days or is broken",
        ),
        key("min_gap", "\"10s\"", "between two reloads; what comes sooner waits for one that takes up all"),
    ],
};

/// An entry of `verify` with more than an address.
pub const VERIFY: Table = Table {
    label: "verify = [{ … }]",
    about: "An address to look at.",
    keys: &[
        key("address", "required", "`host:port`"),
        key("proxy_protocol", "false", "whether the listener expects a PROXY protocol header first"),
    ],
};

/// `[alerts]`.
pub const ALERTS: Table = Table {
    label: "[alerts]",
    about: "Who is told, and of what.",
    keys: &[
        key("thresholds", "[30, 14, 7, 3, 1]", "days left; each crossed once per certificate"),
        key("remind", "\"24h\"", "how often what goes on is repeated"),
        key("after_failures", "2", "failing passes before `sync_failed`"),
        secret("heartbeat_url", "", "called after each good pass, for monitoring that alerts on silence", &[]),
        key("channel", "", "where alerts go besides the journal, one `[[alerts.channel]]` each"),
    ],
};

/// `[[alerts.channel]]`.
pub const CHANNEL: Table = Table {
    label: "[[alerts.channel]]",
    about: "One way to be told.",
    keys: &[
        key("kind", "required", "`desktop`, `webhook`, `email` or `command`"),
        key("name", "the kind with a number", "what it is called in logs, metrics and `alert test`"),
        key("min_severity", "\"info\"", "milder events are not sent here: `info`, `warning` or `critical`"),
        key("events", "[]", "only these; empty: all"),
        key(
            "certificates",
            "[]",
            "only for certificates whose name, or a name they cover, fits one of these patterns; empty: all",
        ),
        key("language", "\"en\"", "`en` or `zh`"),
        key("timeout", "\"15s\"", "bound of one attempt"),
        secret("url", "required", "where events are posted", &["webhook"]),
        only("format", "\"json\"", "what the other side expects: `json`, `slack`, `dingtalk`, `feishu` or `wecom`", &["webhook"]),
        secret("headers", "{}", "further headers, each a secret", &["webhook"]),
        secret("secret", "", "signs the message", &["webhook"]),
        only("template", "the format's", "the body, with the event's fields as `{field}`", &["webhook"]),
        only("host", "required", "the mail server", &["email"]),
        only("port", "587, 465 with `tls`, 25 with `none`", "its port", &["email"]),
        only("encryption", "\"starttls\"", "`starttls`, `tls`, or `none` to a loopback address", &["email"]),
        secret("username", "", "where the mail server wants one", &["email"]),
        secret("password", "", "its password", &["email"]),
        only("from", "required", "the sender", &["email"]),
        only("to", "required", "the receivers", &["email"]),
        only("command", "required", "a program and its arguments; the event comes on stdin", &["command"]),
    ],
};

/// `[metrics]`.
pub const METRICS: Table = Table {
    label: "[metrics]",
    about: "Where monitoring looks.",
    keys: &[
        key("listen", "", "address of the listener (/metrics, /healthz, /readyz, /status.json); absent: none"),
        key("textfile", "", "a file for node-exporter's textfile collector, written after each pass"),
    ],
};

/// A secret that is not written in the file itself.
pub const SECRET: Table = Table {
    label: "a secret",
    about: "Where a secret comes from; exactly one of these, or a plain string.",
    keys: &[
        key("file", "", "a file; one trailing newline is not part of the secret"),
        key("env", "", "an environment variable"),
        key("credential", "", "a systemd credential of the unit (`LoadCredential=`)"),
    ],
};

const HUAWEI: &[&str] = &["huawei-scm"];

const fn key(name: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { name, default, about, only: &[], secret: false }
}

const fn only(name: &'static str, default: &'static str, about: &'static str, only: &'static [&'static str]) -> Key {
    Key { name, default, about, only, secret: false }
}

const fn secret(name: &'static str, default: &'static str, about: &'static str, only: &'static [&'static str]) -> Key {
    Key { name, default, about, only, secret: true }
}

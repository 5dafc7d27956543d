//! What is valid: the configuration with defaults filled in and every value parsed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::Serialize;
use url::Url;

use super::problem::Problem;
use super::secret::Source;

mod alerts;

pub use alerts::*;

/// Everything certsyncd was told, valid as a whole.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file it was read from.
    pub path: PathBuf,
    /// `[daemon]`.
    pub daemon: Daemon,
    /// `[providers.NAME]`, by name.
    pub providers: BTreeMap<String, Provider>,
    /// `[[certificate]]`, in the order of the file.
    pub certificates: Vec<Certificate>,
    /// `[deploy.NAME]`, by name.
    pub targets: BTreeMap<String, Target>,
    /// `[alerts]`.
    pub alerts: Alerts,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// What is valid but unwise, such as a plain secret in a file that others can read.
    pub warnings: Vec<Problem>,
}

/// `[daemon]`: where the state lives and when a pass starts.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// The folder of the store, the ledger and the locks.
    pub state_dir: PathBuf,
    /// When passes start.
    pub schedule: Cron,
    /// The zone in which `schedule` and every `window` are read.
    pub timezone: Zone,
    /// Upper bound of the random wait before each scheduled pass.
    pub splay: Duration,
    /// Certificates in flight at once; at least 1.
    pub concurrency: usize,
}

/// A cron expression that was parsed: second minute hour day month weekday.
#[derive(Clone, Debug)]
pub struct Cron {
    /// As written (five fields get a leading `0 `).
    pub expression: String,
    /// As the scheduler's own parser reads it.
    pub pattern: croner::Cron,
}

/// A time zone with the name it was written with (`local`, `UTC` or an IANA name).
#[derive(Clone, Debug)]
pub struct Zone {
    /// As written.
    pub name: String,
    /// As found on this machine.
    pub zone: TimeZone,
}

/// `[providers.NAME]`: one account at one cloud.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The table's name.
    pub name: String,
    /// Which cloud, and who is asking.
    pub cloud: Cloud,
    /// Requests per second at most; `None`: no limit (`rate_limit = 0`).
    pub rate_limit: Option<f64>,
    /// Further CA certificates (PEM) to trust for this provider, besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// Which cloud a provider is.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a process has a handful of them")]
pub enum Cloud {
    /// `kind = "huawei-scm"`.
    Huawei(Huawei),
    /// `kind = "cds"`.
    Cds(Cds),
}

/// Huawei Cloud SSL Certificate Manager.
#[derive(Clone, Debug)]
pub struct Huawei {
    /// Where SCM answers, without a trailing slash in the path.
    pub endpoint: Url,
    /// Where IAM answers (`auth.method = "password"`).
    pub iam_endpoint: Url,
    /// Where the ECS metadata service answers.
    pub metadata_endpoint: Url,
    /// The region's name, where one was given (scope of a token).
    pub region: Option<String>,
    /// Needed by `api = "download"`.
    pub project_id: Option<String>,
    /// The account's id, sent as `X-Domain-Id`.
    pub domain_id: Option<String>,
    /// Narrows listings to one enterprise project.
    pub enterprise_project_id: Option<String>,
    /// Which of the vendor's two calls brings the certificate.
    pub api: HuaweiApi,
    /// Who is asking.
    pub auth: HuaweiAuth,
}

/// Which call brings a certificate from Huawei.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HuaweiApi {
    /// `POST /v3/scm/certificates/{id}/export`: PEM in JSON.
    Export,
    /// `GET /v2/{project_id}/scm/cert/{id}/cert_file`: an archive.
    Download,
}

/// Who is asking Huawei.
#[derive(Clone, Debug)]
pub enum HuaweiAuth {
    /// A permanent or (with `security_token`) temporary access key.
    AccessKey {
        /// AK.
        access_key: Source,
        /// SK.
        secret_key: Source,
        /// Of a temporary access key.
        security_token: Option<Source>,
    },
    /// An IAM user's password, exchanged for a token.
    Password {
        /// IAM user name.
        user: Source,
        /// Its password.
        password: Source,
        /// The account's name.
        domain: String,
        /// The project's name, usually the region's.
        project: Option<String>,
    },
    /// A token made elsewhere.
    Token {
        /// `X-Auth-Token`.
        token: Source,
    },
    /// The ECS metadata service of a host with an agency.
    Metadata,
    /// `HUAWEICLOUD_SDK_*`.
    Environment,
    /// The vendor's `credentials` file.
    Profile {
        /// Default: `$HUAWEICLOUD_SDK_CREDENTIALS_FILE`, then `~/.huaweicloud/credentials`.
        path: Option<PathBuf>,
    },
}

/// Capital Online CDS.
#[derive(Clone, Debug)]
pub struct Cds {
    /// Where the API answers; the product's path (`/lb/`) comes on top.
    pub endpoint: Url,
    /// AccessKeyId.
    pub access_key: Source,
    /// AccessKeySecret.
    pub secret_key: Source,
}

/// `[[certificate]]`: one entry of the inventory.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// Also the directory's name.
    pub name: String,
    /// Name of a `[providers.NAME]` table that exists.
    pub provider: String,
    /// Which certificate of the account.
    pub wanted: Wanted,
    /// What to do with its renewals.
    pub successor: Successor,
    /// Must be covered, or it is not installed. Lower case, ASCII (A-labels).
    pub names: Vec<String>,
    /// The user's own key, when the provider has none.
    pub key_file: Option<PathBuf>,
    /// Names of `[deploy.NAME]` tables that exist.
    pub deploy: Vec<String>,
    /// Further copies.
    pub outputs: Vec<Output>,
    /// Whether a first install by `domain` wants a publicly trusted chain.
    pub trust: Trust,
    /// Whether a self-signed stand-in goes live until the first pass succeeds.
    pub placeholder: bool,
}

/// Which certificate of the account an entry means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This one (and its renewals, by `successor`).
    Id(String),
    /// The newest deployable one that covers this name. Lower case, ASCII.
    Domain(String),
}

/// What to do with a renewal, which in these clouds has another id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Successor {
    /// Install it.
    #[default]
    Adopt,
    /// Alert `successor_available`.
    Warn,
    /// Nothing.
    Ignore,
}

/// Which chains a first install by `domain` accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Verifies to the system's roots (plus the provider's `ca_file`).
    #[default]
    Public,
    /// Any.
    Any,
}

/// `[[certificate.output]]`: a further copy where a service wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// What is written.
    pub format: Format,
    /// Where; absolute.
    pub path: PathBuf,
    /// Owner by name or number; `None`: who runs certsyncd.
    pub owner: Option<String>,
    /// Group by name or number; `None`: that of the process.
    pub group: Option<String>,
    /// Permission bits.
    pub mode: u32,
    /// Of `pkcs12`.
    pub password: Option<Source>,
}

/// What an output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The leaf.
    Cert,
    /// The intermediates.
    Chain,
    /// Leaf and intermediates.
    Fullchain,
    /// The key, PKCS#8 or as it came.
    Key,
    /// Leaf, intermediates, key.
    Combined,
    /// PKCS#12 under a password.
    Pkcs12,
}

impl Format {
    /// Whether the file holds the private key (and so must not be readable by others).
    pub fn is_secret(self) -> bool {
        matches!(self, Format::Key | Format::Combined | Format::Pkcs12)
    }
}

/// `[deploy.NAME]`: a server that must take up changed certificates.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The table's name.
    pub name: String,
    /// Which server.
    pub kind: TargetKind,
    /// Run before the reload; must exit 0. `None`: the reload is the test.
    pub test: Option<Vec<String>>,
    /// What makes the server read its files again. Never empty.
    pub reload: Vec<String>,
    /// Whether `reload` was written by the operator or is the default for the kind.
    pub reload_is_default: bool,
    /// The systemd unit, where `reload` is `systemctl … reload UNIT`.
    pub unit: Option<String>,
    /// Must serve the new certificate afterwards.
    pub verify: Vec<VerifyAddress>,
    /// Bound of each step.
    pub timeout: Duration,
    /// Changes wait for it.
    pub window: Option<Window>,
    /// Between two reloads.
    pub min_gap: Duration,
}

/// Which server a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// nginx: reload through its unit.
    Nginx,
    /// haproxy: in place over the Runtime API where `socket` is given and it can, else reload.
    Haproxy {
        /// The admin socket or the master socket.
        socket: Option<PathBuf>,
    },
    /// Anything with a command.
    Command,
}

/// Where to look at what is served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VerifyAddress {
    /// A host name or an IP address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether the listener expects a PROXY protocol header first.
    pub proxy_protocol: bool,
}

impl fmt::Display for VerifyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A weekly maintenance window, such as `Sat,Sun 02:00-04:00`; an end before the start runs past midnight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// As written.
    pub text: String,
    /// Days on which it starts, Monday first.
    pub days: [bool; 7],
    /// Start, in minutes after midnight.
    pub from: u16,
    /// End, in minutes after midnight; exclusive.
    pub to: u16,
}

/// `[metrics]`.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Where the listener answers; `None`: no listener.
    pub listen: Option<std::net::SocketAddr>,
    /// Where the text file goes after each pass.
    pub textfile: Option<PathBuf>,
}

//! What happened, as data: the result of a pass, and the events that people and machines are told.
//!
//! A [`Report`] is all that the rest of the house learns of a pass: `--json` prints it, `alert::rules` judges it, `observe` counts it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{EventKind, Severity};

/// The SHA-256 of a certificate's DER, in lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The first twelve hex digits, for people and file names.
    pub fn short(&self) -> String {
        hex::encode(self.0.get(..6).unwrap_or_default())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(hex::Buffer::<32>::new().format(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        if text.len() != 64 || hex::decode_to_slice(text, &mut bytes).is_err() {
            return Err("a fingerprint is 64 hex digits");
        }
        Ok(Fingerprint(bytes))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(hex::Buffer::<32>::new().format(&self.0))
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Borrowed where it can be: ten thousand records have seven each.
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// CDS's `Valid` flag. Another number is unknown and never becomes one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub enum Valid {
    /// 0.
    Expired,
    /// 1.
    Valid,
    /// 2: ends within 30 days.
    Expiring,
}

impl TryFrom<i64> for Valid {
    type Error = String;

    fn try_from(flag: i64) -> Result<Valid, String> {
        match flag {
            0 => Ok(Valid::Expired),
            1 => Ok(Valid::Valid),
            2 => Ok(Valid::Expiring),
            other => Err(format!("`Valid` is {other}, which the documents do not know (0 expired, 1 valid, 2 expiring)")),
        }
    }
}

impl From<Valid> for i64 {
    fn from(flag: Valid) -> i64 {
        match flag {
            Valid::Expired => 0,
            Valid::Valid => 1,
            Valid::Expiring => 2,
        }
    }
}

/// One whole pass.
#[derive(Clone, Debug)]
pub struct Report {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Whether it looked at the whole inventory, or only at named entries (those never resolve others).
    pub whole: bool,
    /// One for each entry looked at, in the inventory's order.
    pub certificates: Vec<CertificateReport>,
    /// One for each target of those entries, by name.
    pub targets: Vec<TargetReport>,
    /// What concerns a provider or the host as a whole.
    pub incidents: Vec<Incident>,
    /// HTTP requests made.
    pub requests: u64,
    /// HTTP requests by provider, operation and outcome (`ok` or a kind of error), for the counters.
    pub calls: BTreeMap<(String, String, String), u64>,
}

impl Report {
    /// Whether no certificate and no target failed.
    pub fn is_ok(&self) -> bool {
        self.certificates.iter().all(|c| c.action != Action::Failed)
            && self.targets.iter().all(|t| !matches!(t.action, TargetAction::Failed | TargetAction::RolledBack))
    }
}

/// What a pass did for one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Another generation went live.
    Installed,
    /// Nothing changed.
    Unchanged,
    /// It could not be fetched or was refused; what was live stays.
    Failed,
    /// Fetched, but waits: not valid yet, or rejected by a server too often.
    Held,
}

/// One certificate in a [`Report`]. Dates, names and fingerprint are those of what is *live* after the pass.
#[derive(Clone, Debug)]
pub struct CertificateReport {
    /// The entry's name.
    pub name: String,
    /// Its provider.
    pub provider: String,
    /// What was done.
    pub action: Action,
    /// The provider's id of what is live (or was asked for, while nothing is).
    pub id: Option<String>,
    /// The id that was live before, when this pass changed it.
    pub previous_id: Option<String>,
    /// Whether this pass was the first to make something live.
    pub first: bool,
    /// Whether it went live in an earlier pass, which died before it could tell.
    pub made_up: bool,
    /// What is live.
    pub live: Option<Arc<Live>>,
    /// The provider's flag for `id`.
    pub valid: Option<Valid>,
    /// What failed.
    pub error: Option<Failure>,
    /// Why it is held, when it is.
    pub held: Option<String>,
    /// A renewal that waits for the operator (`successor = "warn"`, or a pinned id).
    pub successor: Option<SuccessorNote>,
    /// Near misses: renewals that cannot be adopted, with the reason.
    pub near_misses: Vec<String>,
    /// What was found changed by someone else and put right.
    pub drift: Vec<String>,
    /// What is served, where it was looked at.
    pub served: Vec<Served>,
    /// Further remarks: gaps of the chain, an unknown flag.
    pub notes: Vec<String>,
}

/// What is live on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// Of the leaf.
    pub fingerprint: Fingerprint,
    /// The generation's name.
    pub generation: String,
    /// Subject alternative names.
    pub names: Vec<String>,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
}

/// A renewal seen but not installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuccessorNote {
    /// The provider's id.
    pub id: String,
    /// Its end as the provider lists it.
    pub not_after: Option<String>,
}

/// What one address showed for one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// As configured.
    pub address: String,
    /// SNI that was sent.
    pub name: String,
    /// The leaf that was shown; `None`: none was.
    pub fingerprint: Option<Fingerprint>,
    /// End of validity of the leaf that was shown.
    pub not_after: Option<Timestamp>,
    /// Why nothing was shown.
    pub error: Option<String>,
    /// Nothing listens there: the connection was refused. Of the moment, not for the record.
    #[serde(skip)]
    pub closed: bool,
}

/// Something that failed: words for people, a kind for counters, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable word such as `unauthorized`, `timeout`, `mismatch`.
    pub kind: String,
    /// The causes, outermost first; shown one per ` -> ` line.
    pub causes: Vec<String>,
    /// What would mend it.
    pub hint: Option<String>,
    /// Whether another try may pass.
    pub transient: bool,
}

impl Failure {
    /// The chain of an error's sources as causes.
    pub fn new(kind: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
        let mut causes = vec![error.to_string()];
        let mut next = error.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if causes.last() != Some(&text) {
                causes.push(text);
            }
            next = cause.source();
        }
        Failure { kind: kind.to_owned(), causes, hint: None, transient: false }
    }

    /// With a hint.
    pub fn hint(mut self, hint: Option<String>) -> Failure {
        self.hint = hint;
        self
    }

    /// The causes and what would mend it, for one line of a log.
    pub fn line(&self) -> String {
        self.hint.as_ref().map_or_else(|| self.to_string(), |hint| format!("{self} (hint: {hint})"))
    }

    /// With a cause put in front of the others.
    pub fn context(mut self, cause: impl Into<String>) -> Failure {
        self.causes.insert(0, cause.into());
        self
    }
}

/// One line: causes joined by `: `.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.causes.join(": "))
    }
}

/// What a pass did for one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetAction {
    /// Its server read its files again.
    Reloaded,
    /// Updated in place, no reload.
    Updated,
    /// Nothing to do.
    Unchanged,
    /// Left pending: not running, outside its window, within its gap.
    Pending,
    /// A step failed and there was nothing to put back (or nothing to blame).
    Failed,
    /// A step failed and the previous generation is live again.
    RolledBack,
}

/// One target in a [`Report`].
#[derive(Clone, Debug)]
pub struct TargetReport {
    /// The table's name.
    pub name: String,
    /// What was done.
    pub action: TargetAction,
    /// Certificates concerned, changed or blamed.
    pub certificates: Vec<String>,
    /// What failed: step, the server's own words, what is served now, what to do.
    pub error: Option<Failure>,
    /// Why it is pending.
    pub pending: Option<String>,
}

/// Something that concerns more than one certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// `provider_down`, `config_refused`, `ledger_rebuilt` or `clock_skew`.
    pub event: EventKind,
    /// The provider it is about.
    pub provider: Option<String>,
    /// Certificates concerned.
    pub certificates: Vec<String>,
    /// One sentence.
    pub message: String,
}

/// `1 certificate`, `12 certificates`.
pub fn counted<N: PartialEq + From<u8> + fmt::Display>(count: N, what: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Whole days from `now` until `end`, rounded down; negative once past. The one way to count them: an alert, `status` and the metrics
/// that are read side by side must not differ by a day.
pub fn days_left(now: Timestamp, end: Timestamp) -> i64 {
    let left = end.duration_since(now);
    // part of a second is time that is left, or time that is past: both rounded down
    let seconds = left.as_secs() - i64::from(left.subsec_nanos() < 0);
    seconds.div_euclid(86_400)
}

/// What is told to people and machines: the body of a webhook (version 1 of the contract).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Always 1.
    pub version: u32,
    /// What it is about.
    pub event: EventKind,
    /// How much it matters.
    pub severity: Severity,
    /// This host's name.
    pub host: String,
    /// The entry's name.
    pub certificate: Option<String>,
    /// The provider's table.
    pub provider: Option<String>,
    /// The provider's id.
    pub id: Option<String>,
    /// Names the certificate covers.
    pub names: Vec<String>,
    /// The provider's flag (CDS).
    pub valid: Option<Valid>,
    /// End of the live certificate.
    pub not_after: Option<Timestamp>,
    /// Whole days until then, rounded down; negative once past.
    pub days_left: Option<i64>,
    /// Of the live certificate.
    pub fingerprint: Option<Fingerprint>,
    /// The target's table.
    pub target: Option<String>,
    /// Every certificate concerned.
    pub certificates: Vec<String>,
    /// How many.
    pub count: usize,
    /// Stable for one state of one thing, for de-duplication.
    pub key: String,
    /// One sentence a person can act on.
    pub message: String,
    /// The same in Chinese, for channels with `language = "zh"`; no field of the body.
    #[serde(skip)]
    pub message_zh: Option<String>,
    /// When it was raised.
    pub at: Timestamp,
}

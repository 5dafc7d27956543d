//! What was fetched, published, reloaded and verified, per certificate and target; kept in `<state_dir>/ledger.json`.
//!
//! The ledger is a memory, not the truth: the truth is on disk (what is live) and on the wire (what is served). A missing or damaged
//! ledger costs some requests and one `ledger_rebuilt` event, never a certificate.
//!
//! Start at [`Ledger::load`] and [`Ledger::save`]. A field added later needs `#[serde(default)]` (of itself or of its struct), so that
//! ledgers written before it still load.

mod few;
mod file;
mod hashes;
mod layout;
mod lines;
mod open;
mod pulse;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::EventKind;
use crate::report::{Failure, Fingerprint, Live, Served, SuccessorNote, Valid};

pub use few::Few;
pub use file::{Beginning, Error, FILE, Loaded, MAX_LEDGER};
pub use hashes::{Hashes, Mark};
pub use open::Opened;
pub use pulse::{Base, MAX_PULSE, PULSE, Pulse, Written};

/// The format written by this version. A newer one is refused, with words.
pub const VERSION: u32 = 1;

/// Records by entry name.
pub type Records = HashMap<String, Box<CertificateRecord>, foldhash::fast::RandomState>;

/// The whole memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// [`VERSION`].
    pub version: u32,
    /// By entry name.
    pub certificates: Records,
    /// By target name.
    pub targets: BTreeMap<String, TargetRecord>,
    /// By provider name.
    pub providers: BTreeMap<String, ProviderRecord>,
    /// What was raised and is not over, by [`crate::report::Event::key`].
    pub alerts: BTreeMap<String, Raised>,
    /// The last whole pass.
    pub last_pass: Option<PassRecord>,
    /// When a whole pass in which nothing failed last ended.
    pub last_success: Option<Timestamp>,
    /// What the file system told of the folders of links and of generations ([`crate::store::Watch::folders`]); `None`: look at each link.
    pub folders: Option<Mark>,
    /// Why this memory had to be rebuilt, until that is told.
    pub rebuilt: Option<String>,
}

/// How the last whole pass went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassRecord {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Whether nothing failed.
    pub ok: bool,
    /// HTTP requests made.
    pub requests: u64,
}

/// What is known of one entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateRecord {
    /// Its provider's table.
    #[serde(skip_serializing_if = "is_default")]
    pub provider: String,
    /// The provider's id of what is live; after an adoption not the configured one.
    #[serde(skip_serializing_if = "is_default")]
    pub id: Option<String>,
    /// The configured id (or domain) that this record belongs to: another one starts afresh.
    #[serde(skip_serializing_if = "is_default")]
    pub wanted: String,
    /// Ids this entry had before, newest last.
    #[serde(skip_serializing_if = "is_default")]
    pub former_ids: Vec<String>,
    /// The provider's flag at the last look.
    #[serde(skip_serializing_if = "is_default")]
    pub valid: Option<Valid>,
    /// The leaf that was fetched last.
    #[serde(skip_serializing_if = "is_default")]
    pub fetched: Option<Fingerprint>,
    /// End of the leaf that was fetched last, by its own dates.
    #[serde(skip_serializing_if = "is_default")]
    pub fetched_not_after: Option<Timestamp>,
    /// What is live on disk.
    #[serde(skip_serializing_if = "is_default")]
    pub live: Option<Arc<Live>>,
    /// SHA-256 of each file of the live generation.
    #[serde(skip_serializing_if = "is_default")]
    pub hashes: Hashes,
    /// What the file system told of the live generation when it was last read in full ([`crate::store::Seal`]); `None`: read it again.
    #[serde(skip_serializing_if = "is_default")]
    pub seal: Option<Mark>,
    /// What the provider's listing said when it was fetched last: a cheap "did it change".
    #[serde(skip_serializing_if = "is_default")]
    pub seen: Option<String>,
    /// When the next full check is due although the listing says nothing changed.
    #[serde(skip_serializing_if = "is_default")]
    pub full_check: Option<Timestamp>,
    /// SHA-256 of the user's own key file when it was last used.
    #[serde(skip_serializing_if = "is_default")]
    pub key_file_hash: Option<String>,
    /// When it was last looked at with success.
    #[serde(skip_serializing_if = "is_default")]
    pub last_checked: Option<Timestamp>,
    /// When another generation last went live.
    #[serde(skip_serializing_if = "is_default")]
    pub last_changed: Option<Timestamp>,
    /// What is not as it should be about it; mostly nothing.
    #[serde(skip_serializing_if = "Opened::is_nothing")]
    pub open: Opened,
    /// By target name.
    #[serde(skip_serializing_if = "is_default")]
    pub targets: Few<Delivery>,
    /// Hash of each output last written, by path.
    #[serde(skip_serializing_if = "is_default")]
    pub outputs: BTreeMap<String, String>,
    /// The live leaf when a pass last came to its end: another one went live in a pass that died before it could tell.
    #[serde(skip_serializing_if = "is_default")]
    pub concluded: Option<Fingerprint>,
}

/// What is open about one entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Open {
    /// What failed at the last try; `None` when it went well.
    #[serde(skip_serializing_if = "is_default")]
    pub last_error: Option<Failure>,
    /// Failing passes in a row.
    #[serde(skip_serializing_if = "is_default")]
    pub failures: u32,
    /// Why the newest fetched one is not live yet.
    #[serde(skip_serializing_if = "is_default")]
    pub held: Option<String>,
    /// When the held one may be looked at again; `None`: not by itself.
    #[serde(skip_serializing_if = "is_default")]
    pub held_until: Option<Timestamp>,
    /// Certificates that a server rejected, or that were rolled back by hand.
    #[serde(skip_serializing_if = "is_default")]
    pub rejected: Vec<Rejection>,
    /// What the listing said of a rejected certificate, by its id: listed otherwise, it is another question.
    #[serde(skip_serializing_if = "is_default")]
    pub rejected_seen: BTreeMap<String, String>,
    /// A renewal seen but not installed.
    #[serde(skip_serializing_if = "is_default")]
    pub successor: Option<SuccessorNote>,
    /// Candidates that cannot be adopted: listing strings -> why.
    #[serde(skip_serializing_if = "is_default")]
    pub unfit: BTreeMap<String, String>,
    /// Those of them that only have not started yet, with their start.
    #[serde(skip_serializing_if = "is_default")]
    pub unfit_until: BTreeMap<String, Timestamp>,
    /// Those of them that the provider did not send, with when it is asked again.
    #[serde(skip_serializing_if = "is_default")]
    pub ask_again: BTreeMap<String, Timestamp>,
    /// What was put right on disk and is not told yet.
    #[serde(skip_serializing_if = "is_default")]
    pub drift: Vec<String>,
}

impl Open {
    const NOTHING: Open = Open {
        last_error: None,
        failures: 0,
        held: None,
        held_until: None,
        rejected: Vec::new(),
        rejected_seen: BTreeMap::new(),
        successor: None,
        unfit: BTreeMap::new(),
        unfit_until: BTreeMap::new(),
        ask_again: BTreeMap::new(),
        drift: Vec::new(),
    };
}

/// A certificate that must not go live again by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rejection {
    /// Its leaf.
    pub fingerprint: Fingerprint,
    /// The provider's id.
    pub id: Option<String>,
    /// The server's words, or `rolled back by hand`.
    pub why: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it may be tried again; `None`: not by itself.
    pub next_try: Option<Timestamp>,
}

/// How far one certificate got at one target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delivery {
    /// The leaf on disk when the target was last told.
    #[serde(skip_serializing_if = "is_default")]
    pub published: Option<Fingerprint>,
    /// The leaf of the last reload (or update in place) that succeeded.
    #[serde(skip_serializing_if = "is_default")]
    pub reloaded: Option<Fingerprint>,
    /// The leaf that was seen served.
    #[serde(skip_serializing_if = "is_default")]
    pub verified: Option<Fingerprint>,
    /// What was seen at the last look.
    #[serde(skip_serializing_if = "is_default")]
    pub served: Vec<Served>,
    /// Pairs of address and name that never served it and were told once.
    #[serde(skip_serializing_if = "is_default")]
    pub never_matched: Vec<String>,
}

/// What is known of one target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetRecord {
    /// Fingerprint of its settings: a changed target gets its deploy.
    pub settings: String,
    /// Why a deploy is due; `None`: nothing is.
    pub pending: Option<String>,
    /// When the last reload began.
    pub last_reload: Option<Timestamp>,
    /// What failed at the last try.
    pub last_error: Option<Failure>,
    /// Failing tries in a row.
    pub failures: u32,
    /// Not before.
    pub next_try: Option<Timestamp>,
}

/// What is known of one provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProviderRecord {
    /// Fingerprint of a credential that was rejected; not tried again while it is the same and `next_try` is ahead.
    pub rejected_credential: Option<String>,
    /// When the provider may be asked again.
    pub next_try: Option<Timestamp>,
    /// Failures in a row.
    pub failures: u32,
    /// Whether listing is not permitted, and that was said.
    pub listing_refused: bool,
}

/// An alert that was raised and is not over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Raised {
    /// What it is about.
    pub event: EventKind,
    /// The entry's name.
    pub certificate: Option<String>,
    /// The target's name.
    pub target: Option<String>,
    /// The provider's name.
    pub provider: Option<String>,
    /// The live leaf when it was raised.
    pub fingerprint: Option<Fingerprint>,
    /// The smallest threshold crossed, for `expiring`.
    pub threshold: Option<u32>,
    /// When it was first raised.
    pub since: Timestamp,
    /// When it was last told.
    pub last: Timestamp,
    /// Channels that got it.
    pub channels: Vec<String>,
}

/// Whether a time that was put down is still to be waited for. What is further away than the `longest` wait that anybody asks for was put off
/// while the clock ran ahead: it is due.
pub fn is_awaited(at: Timestamp, now: Timestamp, longest: SignedDuration) -> bool {
    at > now && at.duration_since(now) <= longest
}

/// What says nothing is not written: ten thousand records are read and written in one piece.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_longer_than_the_longest_wait() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        for (seconds, expected) in [(-1, false), (0, false), (1, true), (3_600, true), (3_601, false), (1_000_000_000, false)] {
            let at = now + SignedDuration::from_secs(seconds);
            assert_eq!(is_awaited(at, now, SignedDuration::from_hours(1)), expected, "{seconds}");
        }
    }
}

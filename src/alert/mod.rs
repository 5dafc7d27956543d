//! alert
pub mod error;
pub mod filter;
pub mod message;
pub mod rules;
pub use error::Error;
// --- provisional
use crate::clock::Clock; use crate::config::{Channel, EventKind}; use crate::report::Event; use jiff::Timestamp;
pub struct Outbox; pub struct Outcome { pub event: EventKind, pub channel: String, pub outcome: Word } pub struct Word; impl Word { pub fn name(&self)->&'static str {"ok"} }
pub struct Sent { pub at: Timestamp, pub event: EventKind, pub certificate: Option<String>, pub channel: String, pub outcome: String }
impl Outbox { pub fn open(_: &std::path::Path) -> Result<Outbox, Error> { Ok(Outbox) } pub fn put(&self, e: &[Event], _: &[Channel]) -> Result<(), Error> { for e in e { tracing::warn!("{} {}", e.key, e.message); } Ok(()) }
 pub async fn deliver(&self, _: &[Channel], _: &Clock) -> Vec<Outcome> { vec![] } pub fn next_due(&self) -> Option<Timestamp> { None } pub fn history(&self, _: usize) -> Vec<Sent> { vec![] } }
pub async fn heartbeat(_: &crate::config::secret::Source) -> Result<(), Error> { Ok(()) }
pub async fn test(_: &Channel, _: &str, _: &Clock) -> Result<String, Error> { Ok(String::new()) }
pub fn check(_: &[Channel]) -> Vec<String> { vec![] }

//! The outbox: an event is on disk before anybody is told, and stays there until every channel has it or was tried for a day.
//!
//! ```text
//! <state_dir>/outbox/memory.json         what was raised and is not over; and, for a moment, events that are still to be filed
//! <state_dir>/outbox/000000000042.json   one event, and the channels that still have to get it
//! <state_dir>/outbox/history.json        the last outcomes, for `certsyncd alert history`
//! <state_dir>/outbox/lock, deliver.lock  held for a change; held for a round of deliveries
//! ```
//!
//! Start at [`Outbox::note`] (judge a pass and file what is worth telling, in one step: a crash in between neither repeats nor loses
//! one), then [`Outbox::deliver`]. The daemon and a `sync` run by hand share the folder; only one of them sends at a time. Fails with
//! [`Error`] when the disk does; then nothing was raised, and the next pass tries again.

mod deliver;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::rules::{self, Facts, Verdict};
use super::{Error, filter, journal};
use crate::clock::Clock;
use crate::config::{Channel, EventKind, Severity};
use crate::failpoint;
use crate::ledger::Raised;
use crate::report::Event;

/// Events that wait at most; beyond it the oldest and mildest go, and the journal says so.
pub const QUEUE: usize = 1_000;

/// Outcomes that are remembered.
pub const HISTORY: usize = 500;

/// A channel that does not take an event for so long is given up for it …
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// … after at least so many tries: a clock that jumps a year ahead gives nothing up.
pub const LEAST_TRIES: u32 = 5;

/// Before the second try.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(30);

/// Between tries at most, and after a no that time alone will hardly change.
pub const BACKOFF_MAX: Duration = Duration::from_secs(3_600);

/// How often the folder is looked at for what another process filed.
const LOOK: Duration = Duration::from_secs(60);

/// The events that wait, on disk. Clones share one wake-up call.
#[derive(Clone, Debug)]
pub struct Outbox {
    folder: PathBuf,
    wake: Arc<Notify>,
    /// That there is no desktop was said.
    said: Arc<AtomicBool>,
    /// What became of deliveries whose outcome the disk did not take; so that a full disk does not mean one mail a minute.
    unsaved: Arc<Mutex<BTreeMap<(u64, String), Owed>>>,
}

/// One event that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number: the file's name, and the order.
    pub number: u64,
    /// When it was filed.
    pub filed: Timestamp,
    /// What is told.
    pub event: Event,
    /// The message in Chinese (no field of [`Event`]'s JSON).
    pub message_zh: Option<String>,
    /// Channels that still have to get it, by name.
    pub owed: BTreeMap<String, Owed>,
}

/// How far one channel got with one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owed {
    /// Tries so far.
    pub tries: u32,
    /// Not before; `None`: it is done, and only the disk does not know yet.
    pub next_try: Option<Timestamp>,
}

/// What became of one event on one channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The event's number in this outbox.
    pub number: u64,
    /// What it was about.
    pub event: EventKind,
    /// How much it mattered.
    pub severity: Severity,
    /// The entry's name.
    pub certificate: Option<String>,
    /// The target's name.
    pub target: Option<String>,
    /// The provider's name.
    pub provider: Option<String>,
    /// The event's key.
    pub key: String,
    /// The channel's name.
    pub channel: String,
    /// How it went.
    pub result: Delivery,
    /// What the other side answered, or why it failed.
    pub answer: String,
    /// Tries so far.
    pub tries: u32,
    /// When.
    pub at: Timestamp,
    /// When it is tried again.
    pub next_try: Option<Timestamp>,
}

/// How a delivery went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// The other side took it.
    Sent,
    /// It did not; it is tried again.
    Failed,
    /// It did not for a day, or the channel is no longer configured.
    GivenUp,
    /// There is no desktop here; not tried again.
    Unavailable,
    /// Too many were waiting.
    Dropped,
}

impl Delivery {
    /// The label of `certsyncd_alerts_total{outcome}`.
    pub fn name(self) -> &'static str {
        match self {
            Delivery::Sent => "sent",
            Delivery::Failed => "failed",
            Delivery::GivenUp => "given_up",
            Delivery::Unavailable => "unavailable",
            Delivery::Dropped => "dropped",
        }
    }
}

/// What [`Outbox::note`] and [`Outbox::put`] did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Noted {
    /// What was judged; its `raised` goes into the ledger.
    pub verdict: Verdict,
    /// Of the journal, and of what was dropped for want of room; for the counters.
    pub outcomes: Vec<Outcome>,
}

impl Outbox {
    /// Opens (and creates) the outbox of a state directory.
    pub fn open(state_dir: &Path) -> Result<Outbox, Error> {
        let folder = state_dir.join("outbox");
        files::create(&folder)?;
        Ok(Outbox { folder, wake: Arc::default(), said: Arc::default(), unsaved: Arc::default() })
    }

    /// Judges a pass and files what is worth telling, in one step; then tells the journal.
    ///
    /// `known` is the ledger's copy of what was raised; it counts only where the outbox's own is lost. Put the verdict's `raised` back into
    /// the ledger. Blocks for as long as the disk takes.
    pub fn note(&self, known: &BTreeMap<String, Raised>, facts: &Facts<'_>) -> Result<Noted, Error> {
        let _lock = files::lock(&self.folder)?;
        let mut memory = files::memory(&self.folder)?;
        let before = memory.raised.take().unwrap_or_else(|| known.clone());
        let verdict = rules::judge(&before, facts);
        memory.raised = Some(verdict.raised.clone());
        let outcomes = self.file(&mut memory, &before, &verdict.events, &facts.settings.channels, facts.now)?;
        Ok(Noted { verdict, outcomes })
    }

    /// Files events as they are, without judging: what happens outside a pass. `resolved` goes to who got the original.
    pub fn put(&self, events: &[Event], channels: &[Channel]) -> Result<Noted, Error> {
        let _lock = files::lock(&self.folder)?;
        let mut memory = files::memory(&self.folder)?;
        let before = memory.raised.clone().unwrap_or_default();
        let now = events.iter().map(|event| event.at).max().unwrap_or_default();
        let outcomes = self.file(&mut memory, &before, events, channels, now)?;
        Ok(Noted { verdict: Verdict { events: events.to_vec(), raised: before }, outcomes })
    }

    /// What was raised and is not over, as the outbox remembers it.
    pub fn raised(&self) -> Result<BTreeMap<String, Raised>, Error> {
        Ok(files::peek(&self.folder)?.raised.unwrap_or_default())
    }

    /// Events that wait, oldest first.
    pub fn waiting(&self) -> Result<Vec<Entry>, Error> {
        let mut entries = files::entries(&self.folder)?;
        let unsaved = self.unsaved();
        for entry in &mut entries {
            for (channel, owed) in &mut entry.owed {
                if let Some(newer) = unsaved.get(&(entry.number, channel.clone())) {
                    owed.clone_from(newer);
                }
            }
            entry.owed.retain(|_, owed| owed.next_try.is_some());
        }
        Ok(entries)
    }

    /// When the next delivery is due; `None`: nothing waits.
    pub fn next_due(&self) -> Result<Option<Timestamp>, Error> {
        let entries = self.waiting()?;
        Ok(entries.iter().flat_map(|entry| entry.owed.values()).filter_map(|owed| owed.next_try).min())
    }

    /// Waits until a delivery is due: something was filed here or by another process, or a pause is over.
    pub async fn due(&self, clock: &Clock) {
        loop {
            let filed = self.wake.notified();
            let next = self.blocking(|outbox| outbox.next_due()).await.ok().flatten();
            let now = clock.now();
            let wait = match next {
                Some(at) if deliver::is_due(at, now) => return,
                Some(at) => Duration::try_from(at.duration_since(now)).unwrap_or(LOOK).min(LOOK),
                None => LOOK,
            };
            let _ = tokio::time::timeout(wait, filed).await;
        }
    }

    /// The last outcomes, newest first.
    pub fn history(&self, last: usize) -> Vec<Outcome> {
        let mut history = files::history(&self.folder);
        history.sort_unstable_by_key(|outcome| std::cmp::Reverse((outcome.at, outcome.number)));
        history.truncate(last);
        history
    }

    /// Makes events durable and tells the journal. The memory with the events in it is one write; the rest can be done again.
    fn file(
        &self,
        memory: &mut files::Memory,
        before: &BTreeMap<String, Raised>,
        events: &[Event],
        channels: &[Channel],
        now: Timestamp,
    ) -> Result<Vec<Outcome>, Error> {
        let mut outcomes = Vec::new();
        for event in events {
            let owed =
                recipients(event, before, channels).into_iter().map(|channel| (channel, Owed { tries: 0, next_try: Some(now) }));
            let entry = Entry {
                number: memory.next,
                filed: now,
                event: event.clone(),
                message_zh: event.message_zh.clone(),
                owed: owed.collect(),
            };
            outcomes.push(outcome(entry.number, event, JOURNAL, Delivery::Sent, "written", 1, now));
            memory.next += 1;
            if !entry.owed.is_empty() {
                memory.unfiled.push(entry);
            }
        }
        files::save(&self.folder, memory)?;
        failpoint::reach("outbox.saved");
        events.iter().for_each(journal::tell);
        files::remember(&self.folder, &outcomes)?;
        if files::finish(&self.folder, memory)? {
            failpoint::reach("outbox.filed");
            outcomes.extend(self.make_room(now)?);
            self.wake.notify_one();
        }
        Ok(outcomes)
    }

    /// Keeps the queue within [`QUEUE`]: the mildest go first, of those the oldest.
    fn make_room(&self, now: Timestamp) -> Result<Vec<Outcome>, Error> {
        let mut entries = files::entries(&self.folder)?;
        let excess = entries.len().saturating_sub(QUEUE);
        if excess == 0 {
            return Ok(Vec::new());
        }
        entries.sort_unstable_by_key(|entry| (entry.event.severity, entry.number));
        let mut outcomes = Vec::new();
        for entry in entries.into_iter().take(excess) {
            files::remove(&self.folder, entry.number)?;
            let dropped = |(channel, owed): (&String, &Owed)| {
                outcome(entry.number, &entry.event, channel, Delivery::Dropped, FULL, owed.tries, now)
            };
            outcomes.extend(entry.owed.iter().map(dropped));
        }
        tracing::error!(
            dropped = excess,
            "alert outbox is full ({QUEUE} events wait): dropped the oldest of the mildest; look at `certsyncd alert history`"
        );
        files::remember(&self.folder, &outcomes)?;
        Ok(outcomes)
    }

    /// Runs a step that may wait for the disk away from the runtime's own threads.
    async fn blocking<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Outbox) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let outbox = self.clone();
        match tokio::task::spawn_blocking(move || step(&outbox)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Interrupted),
        }
    }

    fn unsaved(&self) -> std::sync::MutexGuard<'_, BTreeMap<(u64, String), Owed>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The channel's name in counters and in the history of what needs no delivery.
const JOURNAL: &str = "journal";

const FULL: &str = "dropped: too many events were waiting";

/// Who gets it: who wants it; `resolved`, who got the original and is still there.
fn recipients(event: &Event, before: &BTreeMap<String, Raised>, channels: &[Channel]) -> Vec<String> {
    if event.event != EventKind::Resolved {
        return filter::recipients(channels, event);
    }
    let there: BTreeSet<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
    let told = before.get(&event.key).map(|state| state.channels.as_slice()).unwrap_or_default();
    told.iter().filter(|name| there.contains(name.as_str())).cloned().collect()
}

fn outcome(number: u64, event: &Event, channel: &str, result: Delivery, answer: &str, tries: u32, at: Timestamp) -> Outcome {
    Outcome {
        number,
        event: event.event,
        severity: event.severity,
        certificate: event.certificate.clone(),
        target: event.target.clone(),
        provider: event.provider.clone(),
        key: event.key.clone(),
        channel: channel.to_owned(),
        result,
        answer: answer.to_owned(),
        tries,
        at,
        next_try: None,
    }
}

//! One round of deliveries: each channel alone and in order, all channels at once.

use std::fs::File;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{BACKOFF_FIRST, BACKOFF_MAX, Delivery, Entry, GIVE_UP_AFTER, LEAST_TRIES, Outbox, Outcome, Owed, files, outcome};
use crate::alert::{Error, send_at};
use crate::clock::Clock;
use crate::config::Channel;
use crate::failpoint;
use crate::ledger::is_awaited;

/// How long a process waits for another one's round before it leaves the events to it.
const ROUND_WAIT: Duration = Duration::from_secs(5);

/// How often it looks.
const ROUND_POLL: Duration = Duration::from_millis(100);

/// A delivery in hand may take so long once the daemon is stopping.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// A channel that says no to so many events in a row is left alone until the next round.
const NOES_IN_A_ROW: usize = 3;

impl Outbox {
    /// Tries all that is due, once; what became of it. Stops early when `shutdown` is cancelled; what is not sent stays owed.
    pub async fn deliver(&self, channels: &[Channel], clock: &Clock, shutdown: &CancellationToken) -> Vec<Outcome> {
        match self.round(channels, clock, shutdown).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                tracing::error!(kind = error.kind(), "failed to deliver alerts, they stay in the outbox: {}", error.line());
                // the disk is not well: do not ask it again at once
                let _ = tokio::time::timeout(ROUND_WAIT, shutdown.cancelled()).await;
                Vec::new()
            }
        }
    }

    async fn round(&self, channels: &[Channel], clock: &Clock, shutdown: &CancellationToken) -> Result<Vec<Outcome>, Error> {
        let Some(_lock) = self.claim(shutdown).await? else { return Ok(Vec::new()) };
        let entries = self.blocking(Outbox::settled).await?;
        let mut outcomes = self.orphans(&entries, channels, clock.now()).await?;
        let rounds = channels.iter().map(|channel| self.serve(channel, &entries, clock, shutdown));
        for result in join_all(rounds).await {
            outcomes.extend(result);
        }
        let remembered = outcomes.clone();
        if let Err(error) = self.locked(move |outbox| files::remember(&outbox.folder, &remembered)).await {
            tracing::error!(kind = error.kind(), "failed to write the history of alerts: {}", error.line());
        }
        Ok(outcomes)
    }

    /// The round's lock; `None` when another process keeps it, and will deliver.
    async fn claim(&self, shutdown: &CancellationToken) -> Result<Option<File>, Error> {
        let end = tokio::time::Instant::now() + ROUND_WAIT;
        loop {
            if let Some(lock) = files::round(&self.folder)? {
                return Ok(Some(lock));
            }
            if shutdown.is_cancelled() || tokio::time::Instant::now() >= end {
                return Ok(None);
            }
            tokio::time::sleep(ROUND_POLL).await;
        }
    }

    /// What waits, after a crash's leftovers were filed and what the disk did not take earlier was tried again.
    fn settled(&self) -> Result<Vec<Entry>, Error> {
        let _lock = files::lock(&self.folder)?;
        files::memory(&self.folder)?;
        let unsaved: Vec<_> = self.unsaved().clone().into_iter().collect();
        for ((number, channel), owed) in unsaved {
            settle(&self.folder, number, &channel, &owed)?;
            self.unsaved().remove(&(number, channel));
        }
        self.waiting()
    }

    /// One channel's round. A channel that fails is left alone until the pause of that event is over, the others behind it wait along.
    async fn serve(&self, channel: &Channel, entries: &[Entry], clock: &Clock, shutdown: &CancellationToken) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut noes = 0;
        let now = clock.now();
        let due = |entry: &'_ Entry| {
            entry.owed.get(&channel.name).filter(|owed| owed.next_try.is_some_and(|at| is_due(at, now))).cloned()
        };
        let mut due: Vec<(&Entry, Owed)> = entries.iter().filter_map(|entry| Some((entry, due(entry)?))).collect();
        // what was not tried yet goes first: one event that the other side never takes must not hold back the rest for a day
        due.sort_unstable_by_key(|(entry, owed)| (owed.tries, entry.number));
        let mut due = due.into_iter();
        while let Some((entry, owed)) = due.next() {
            if shutdown.is_cancelled() {
                break;
            }
            failpoint::reach("outbox.send");
            let result = attempt(channel, entry, clock, shutdown).await;
            failpoint::reach("outbox.sent");
            if matches!(result, Err(Error::Interrupted)) {
                break;
            }
            let stop = match &result {
                Ok(_) | Err(Error::Unavailable(_)) => false,
                Err(error) if error.is_transient() => true,
                Err(_) => {
                    noes += 1;
                    noes >= NOES_IN_A_ROW
                }
            };
            let outcome = self.record(channel, entry, &owed, result, clock.now()).await;
            failpoint::reach("outbox.recorded");
            let (given_up, until) = (outcome.result == Delivery::GivenUp, outcome.next_try);
            outcomes.push(outcome);
            if stop {
                for (entry, owed) in due {
                    outcomes.extend(self.postpone(channel, entry, &owed, until, given_up, clock.now()).await);
                }
                break;
            }
        }
        outcomes
    }

    /// Writes down how one attempt went, and says what a person should know.
    async fn record(
        &self,
        channel: &Channel,
        entry: &Entry,
        owed: &Owed,
        result: Result<String, Error>,
        now: Timestamp,
    ) -> Outcome {
        let tries = owed.tries.saturating_add(1);
        let (result, answer, next_try) = match result {
            Ok(answer) => (Delivery::Sent, answer, None),
            Err(Error::Unavailable(why)) => {
                self.say_unavailable(channel, &why);
                (Delivery::Unavailable, why, None)
            }
            Err(error) if is_too_old(entry, tries, now) => (Delivery::GivenUp, error.line(), None),
            Err(error) => (Delivery::Failed, error.line(), Some(now.saturating_add(pause(&error, tries)).unwrap_or(now))),
        };
        let outcome = Outcome { next_try, ..outcome(entry.number, &entry.event, &channel.name, result, &answer, tries, now) };
        say(&outcome);
        self.keep(entry.number, &channel.name, Owed { tries, next_try }).await;
        outcome
    }

    /// An event behind one that failed: it waits along, without a try of its own; and is given up along when it is as old.
    async fn postpone(
        &self,
        channel: &Channel,
        entry: &Entry,
        owed: &Owed,
        until: Option<Timestamp>,
        given_up: bool,
        now: Timestamp,
    ) -> Option<Outcome> {
        if given_up && now.duration_since(entry.filed).unsigned_abs() >= GIVE_UP_AFTER {
            let outcome = outcome(
                entry.number,
                &entry.event,
                &channel.name,
                Delivery::GivenUp,
                "given up with an earlier event",
                owed.tries,
                now,
            );
            say(&outcome);
            self.keep(entry.number, &channel.name, Owed { tries: owed.tries, next_try: None }).await;
            return Some(outcome);
        }
        let until = until.or_else(|| now.saturating_add(BACKOFF_FIRST).ok());
        self.keep(entry.number, &channel.name, Owed { tries: owed.tries, next_try: until }).await;
        None
    }

    /// What is owed to channels that are no longer configured.
    async fn orphans(&self, entries: &[Entry], channels: &[Channel], now: Timestamp) -> Result<Vec<Outcome>, Error> {
        let mut outcomes = Vec::new();
        for entry in entries {
            for (name, owed) in entry.owed.iter().filter(|(name, _)| !channels.iter().any(|channel| channel.name == **name)) {
                let outcome = outcome(
                    entry.number,
                    &entry.event,
                    name,
                    Delivery::GivenUp,
                    "no channel has this name any more",
                    owed.tries,
                    now,
                );
                say(&outcome);
                outcomes.push(outcome);
                self.keep(entry.number, name, Owed { tries: owed.tries, next_try: None }).await;
            }
        }
        Ok(outcomes)
    }

    /// Writes down how far a channel got; where the disk refuses, this process remembers it.
    async fn keep(&self, number: u64, channel: &str, owed: Owed) {
        let (name, state) = (channel.to_owned(), owed.clone());
        let saved = self.locked(move |outbox| settle(&outbox.folder, number, &name, &state)).await;
        if let Err(error) = saved {
            tracing::error!(kind = error.kind(), number, channel, "failed to write down a delivery: {}", error.line());
            self.unsaved().insert((number, channel.to_owned()), owed);
        }
    }

    async fn locked<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Outbox) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.blocking(move |outbox| {
            let _lock = files::lock(&outbox.folder)?;
            step(outbox)
        })
        .await
    }

    fn say_unavailable(&self, channel: &Channel, why: &str) {
        if !self.said.swap(true, Ordering::Relaxed) {
            let hint = Error::Unavailable(String::new()).hint().unwrap_or_default();
            tracing::warn!(channel = channel.name, "no desktop session for alerts ({why}); said once. {hint}");
        }
    }
}

/// Whether it is time to try again.
pub(super) fn is_due(at: Timestamp, now: Timestamp) -> bool {
    !is_awaited(at, now, SignedDuration::try_from(BACKOFF_MAX * 2).unwrap_or(SignedDuration::MAX))
}

fn is_too_old(entry: &Entry, tries: u32, now: Timestamp) -> bool {
    tries >= LEAST_TRIES && now > entry.filed && now.duration_since(entry.filed).unsigned_abs() >= GIVE_UP_AFTER
}

/// One try; a daemon that stops waits a moment for it, no longer.
async fn attempt(channel: &Channel, entry: &Entry, clock: &Clock, shutdown: &CancellationToken) -> Result<String, Error> {
    let stop = async {
        shutdown.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! {
        result = send_at(channel, &entry.event, clock.now()) => result,
        () = stop => Err(Error::Interrupted),
    }
}

/// Half a minute, doubled each time, with up to a fifth on top so that a fleet does not move in step; an hour at most, and at once an hour
/// for what time alone will hardly change. `Retry-After` is obeyed.
fn pause(error: &Error, tries: u32) -> Duration {
    let step =
        if error.is_transient() { BACKOFF_FIRST.saturating_mul(1 << tries.saturating_sub(1).min(16)) } else { BACKOFF_MAX };
    let jitter = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX) / 5.0;
    let pause = step.min(BACKOFF_MAX);
    (pause + pause.mul_f64(jitter)).max(error.retry_after().unwrap_or_default())
}

/// Takes the channel off the entry, or notes when it is tried again; an entry that nobody waits for goes. Under the lock.
fn settle(folder: &std::path::Path, number: u64, channel: &str, owed: &Owed) -> Result<(), Error> {
    let Some(mut entry) = files::entry(folder, number)? else { return Ok(()) };
    match owed.next_try {
        Some(_) => entry.owed.insert(channel.to_owned(), owed.clone()),
        None => entry.owed.remove(channel),
    };
    if entry.owed.is_empty() { files::remove(folder, number) } else { files::write(folder, &entry) }
}

/// The first failure is a warning, giving up an error; the tries between are for the curious.
fn say(outcome: &Outcome) {
    let Outcome { event, channel, answer, tries, key, .. } = outcome;
    match outcome.result {
        Delivery::Sent => tracing::debug!(%event, channel, key, tries, "told `{channel}`: {answer}"),
        Delivery::Failed if *tries == 1 => {
            tracing::warn!(%event, channel, key, "failed to tell `{channel}`, will go on trying: {answer}")
        }
        Delivery::Failed => tracing::debug!(%event, channel, key, tries, "failed to tell `{channel}` again: {answer}"),
        Delivery::GivenUp => {
            tracing::error!(%event, channel, key, tries, "gave up telling `{channel}` after {tries} tries: {answer}")
        }
        Delivery::Unavailable | Delivery::Dropped => {}
    }
}

//! What the service manager is told: ready, reloading, stopping, one sentence of status, and that the loop still turns.
//!
//! Start at [`Watchdog`]. The protocol is sd_notify(3), datagrams to `$NOTIFY_SOCKET`; without that variable every call does nothing, and a
//! datagram that cannot be sent is a debug line, never a failure: certificates matter more than what systemd knows of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sd_notify::NotifyState;
use tokio::time::Instant;

use super::check::in_days;
use super::status::{Document, State};
use super::table::moment;
use crate::report::counted;

/// Every entry has a live generation, or the first pass is over (also: a reload is over).
pub fn ready(sentence: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(sentence)]);
}

/// The sentence that `systemctl status` shows.
pub fn status(sentence: &str) {
    send(&[NotifyState::Status(sentence)]);
}

/// The configuration is read again; [`ready`] must follow. From systemd 253 on the time must come along.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(time) => send(&[NotifyState::Reloading, time]),
        Err(error) => tracing::debug!(%error, "no monotonic time to tell systemd"),
    }
}

/// The step in hand is finished, then we are gone.
pub fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("stopping after the step in hand")]);
}

/// One sentence: `last pass 02:10 ok, 12 certificates, next 02:20, first to end: api in 9 days`.
pub fn sentence(document: &Document, zone: &TimeZone, now: Timestamp) -> String {
    let total = document.current().count();
    let failed = document.current().filter(|certificate| certificate.state == State::Failed).count();
    let mut parts = vec![match (document.last_pass, document.last_pass_ok) {
        (None, _) => "first pass under way".to_owned(),
        (Some(last), Some(false)) => format!("last pass {} failed", moment(last, zone, now)),
        (Some(last), _) => format!("last pass {} ok", moment(last, zone, now)),
    }];
    parts.push(match failed {
        0 => counted(total, "certificate"),
        _ => format!("{failed} of {} failed", counted(total, "certificate")),
    });
    parts.extend(document.next_pass.map(|next| format!("next {}", moment(next, zone, now))));
    parts.extend(document.first_to_end().map(|first| format!("first to end: {} {}", first.name, in_days(first.days_left))));
    parts.join(", ")
}

/// Tells systemd that the loop makes progress. It has no timer: whoever does a step calls [`Watchdog::beat`], and the loop, while it waits
/// for the next tick, wakes for [`Watchdog::turn`]. What hangs does neither, and systemd starts us again.
#[derive(Clone, Debug)]
pub struct Watchdog(Option<Arc<Pulse>>);

#[derive(Debug)]
struct Pulse {
    interval: Mutex<Duration>,
    last: Mutex<Option<Instant>>,
}

impl Watchdog {
    /// As `$WATCHDOG_USEC` and `$WATCHDOG_PID` say; without them every call does nothing.
    pub fn from_environment() -> Watchdog {
        Watchdog::every(sd_notify::watchdog_enabled())
    }

    /// One that wants to hear of us within `interval`.
    pub fn every(interval: Option<Duration>) -> Watchdog {
        Watchdog(interval.map(|interval| Arc::new(Pulse { interval: Mutex::new(interval), last: Mutex::new(None) })))
    }

    /// Within what time systemd wants to hear of us.
    pub fn interval(&self) -> Option<Duration> {
        self.0.as_ref().map(|pulse| *pulse.interval.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A step was done. Sends at most one datagram in a quarter of the interval. Whether one was sent.
    pub fn beat(&self) -> bool {
        let (Some(pulse), Some(interval)) = (&self.0, self.interval()) else { return false };
        let mut last = pulse.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < interval / 4) {
            return false;
        }
        *last = Some(Instant::now());
        send(&[NotifyState::Watchdog]);
        true
    }

    /// Over when an idle loop should [`beat`](Watchdog::beat): after half the interval; never without a watchdog.
    pub async fn turn(&self) {
        match self.interval() {
            Some(interval) => tokio::time::sleep(interval / 2).await,
            None => std::future::pending().await,
        }
    }

    /// Makes the interval at least twice `step`, for a configured step (a target's `timeout`) that takes longer than the unit's setting allows for.
    pub fn allow(&self, step: Duration) {
        let Some(pulse) = &self.0 else { return };
        let mut interval = pulse.interval.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = step.saturating_mul(2).min(LONGEST);
        if *interval < wanted {
            *interval = wanted;
            send(&[NotifyState::WatchdogUsec(u32::try_from(wanted.as_micros()).unwrap_or(u32::MAX))]);
        }
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// The longest interval that the notification can carry (32 bits of microseconds), rounded down.
const LONGEST: Duration = Duration::from_secs(70 * 60);

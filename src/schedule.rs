//! When a pass starts: a cron expression in a time zone, plus splay, becomes [`Tick`]s. Start at [`Schedule::start`].
//!
//! This is the only door to `tokio_cron_scheduler`. Its timer and its jobs are used; its calendar is not, since a zoned job there keeps the
//! offset of the day it was made (their issue 107), a job whose next tick is known waits for it even when the clock was set back, and the
//! parser's own search goes backwards inside a repeated hour. So the scheduler is given a metadata store of ours (`Almanac`): at each of its
//! two polls a second it asks what is due, and the answer is worked out by [`next`], which walks the zone offset by offset.
//! The job itself only does `try_send(())` into a channel of one: jobs that overlap and runs after a shutdown (both are theirs) come to nothing.
//!
//! How it fails: an expression that never matches is refused at the start. A clock set forward gives one tick, not a flood; one set back is
//! noticed at the next poll and the next tick worked out afresh. Should the poll itself end, [`Schedule::is_alive`] says so.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, FixedOffset, Utc};
use croner::JobType as Shape;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_cron_scheduler::job::JobId;
use tokio_cron_scheduler::job::job_data::{JobAndNextTick, JobStoredData};
use tokio_cron_scheduler::store::{DataStore, InitStore, MetaDataStorage};
use tokio_cron_scheduler::{
    Job, JobScheduler, JobSchedulerError, SimpleJobCode, SimpleNotificationCode, SimpleNotificationStore,
};

use crate::clock::Clock;
use crate::config::{Cron, Zone};

/// One moment of the schedule has come (and its splay is over).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The moment that the expression names; now is later by the splay and by up to half a second.
    pub scheduled: Timestamp,
}

/// Why there is no schedule.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No date matches, such as 30 February.
    #[error("schedule `{expression}` never matches a date")]
    Never {
        /// As configured.
        expression: String,
    },
    /// The scheduler did not start.
    #[error("failed to start the scheduler for `{expression}`")]
    Scheduler {
        /// As configured.
        expression: String,
        /// Its own words.
        source: JobSchedulerError,
    },
}

impl Error {
    /// A stable word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Never { .. } => "never",
            Error::Scheduler { .. } => "scheduler",
        }
    }
}

/// A running schedule. It goes on until [`Schedule::stop`].
pub struct Schedule {
    scheduler: JobScheduler,
    calendar: Shared,
    courier: AbortHandle,
}

impl Schedule {
    /// Starts ticking by the machine's clock. At most one tick waits in the channel: what comes while it is full is one with it.
    pub async fn start(cron: &Cron, zone: &Zone, splay: Duration) -> Result<(Schedule, mpsc::Receiver<Tick>), Error> {
        Schedule::with_clock(cron, zone, splay, Clock::system()).await
    }

    /// The same by a clock of the caller's.
    pub async fn with_clock(
        cron: &Cron,
        zone: &Zone,
        splay: Duration,
        clock: Clock,
    ) -> Result<(Schedule, mpsc::Receiver<Tick>), Error> {
        let failed = |source| Error::Scheduler { expression: cron.expression.clone(), source };
        let calendar = Shared::new(Calendar::new(cron, zone, splay, clock)?);
        let (fire, fired) = mpsc::channel(1);
        let scheduler = trigger(cron, calendar.clone(), fire).await.map_err(failed)?;
        let (deliver, ticks) = mpsc::channel(1);
        let courier = tokio::spawn(carry(calendar.clone(), fired, deliver)).abort_handle();
        Ok((Schedule { scheduler, calendar, courier }, ticks))
    }

    /// Another expression, zone or splay from now on; the receiver stays. What cannot be is refused and the old one goes on.
    pub fn change(&self, cron: &Cron, zone: &Zone, splay: Duration) -> Result<(), Error> {
        let mut calendar = self.calendar.lock();
        *calendar = Calendar::new(cron, zone, splay, calendar.clock.clone())?;
        Ok(())
    }

    /// When the next tick is due, before splay.
    pub fn due(&self) -> Option<Timestamp> {
        self.calendar.lock().due
    }

    /// Whether the scheduler still polls. `false` means that no tick will ever come again: let the watchdog restart us.
    pub fn is_alive(&self) -> bool {
        self.calendar.lock().polled.elapsed() < POLL_PATIENCE
    }

    /// No tick is delivered after this returns.
    pub async fn stop(mut self) {
        self.courier.abort();
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::debug!(%error, "scheduler did not shut down");
        }
    }
}

/// The first moment after `after` that the expression names in that zone; `None` when there is none.
///
/// Where clocks go forward, a fixed time of day that is left out that day comes at the first moment after the gap, and a repeating one
/// (`*/10`) simply goes on. Where clocks go back, a fixed time of day comes once, at the first of the two, and a repeating one in both hours.
pub fn next(cron: &Cron, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
    let fixed = cron.pattern.determine_job_type() == Shape::FixedTime;
    let mut start = after.as_second() + 1;
    for _ in 0..MAX_STRETCHES {
        let stretch = Stretch::at(zone, start)?;
        let found = stretch.occurrence(&cron.pattern, start)?;
        match stretch.end {
            Some(end) if found >= end.second => {
                if fixed && found < end.second + i64::from(end.offset - stretch.offset) {
                    return Timestamp::from_second(end.second).ok();
                }
                start = end.second;
            }
            _ if fixed && is_repeated(zone, found, stretch.offset) => start = found + 1,
            _ => return Timestamp::from_second(found).ok(),
        }
    }
    None
}

/// The longest time between two of the next ticks: how old a last pass may be before something is wrong.
pub fn interval(cron: &Cron, zone: &Zone, after: Timestamp) -> Option<Duration> {
    let first = next(cron, zone, after)?;
    let ticks = std::iter::successors(Some(first), |tick| next(cron, zone, *tick)).take(INTERVALS_LOOKED_AT);
    let ticks: Vec<Timestamp> = ticks.collect();
    let gaps = ticks.iter().zip(ticks.iter().skip(1)).map(|(a, b)| b.duration_since(*a));
    gaps.max().and_then(|gap| gap.try_into().ok())
}

/// A run of time in which a zone keeps one offset.
struct Stretch {
    /// Seconds east of UTC.
    offset: i32,
    /// Where the next one begins; `None`: this one has no end.
    end: Option<Change>,
}

/// A change of offset.
struct Change {
    /// Since the epoch.
    second: i64,
    /// Seconds east of UTC from then on.
    offset: i32,
}

impl Stretch {
    fn at(zone: &Zone, second: i64) -> Option<Stretch> {
        let begin = Timestamp::from_second(second).ok()?;
        let change = |change: jiff::tz::TimeZoneTransition<'_>| Change {
            second: change.timestamp().as_second(),
            offset: change.offset().seconds(),
        };
        Some(Stretch { offset: zone.zone.to_offset(begin).seconds(), end: zone.zone.following(begin).next().map(change) })
    }

    /// The first match at or after `start`, as if this offset lasted for ever.
    fn occurrence(&self, pattern: &croner::Cron, start: i64) -> Option<i64> {
        let offset = FixedOffset::east_opt(self.offset)?;
        let start = DateTime::<Utc>::from_timestamp(start, 0)?.with_timezone(&offset);
        pattern.find_next_occurrence(&start, true).ok().map(|found| found.timestamp())
    }
}

/// Whether the clocks on the wall showed this time once already, before they were put back.
fn is_repeated(zone: &Zone, second: i64, offset: i32) -> bool {
    let Ok(just_after) = Timestamp::from_second(second + 1) else { return false };
    let Some(change) = zone.zone.preceding(just_after).next() else { return false };
    let changed = change.timestamp().as_second();
    let Ok(just_before) = Timestamp::from_second(changed - 1) else { return false };
    second < changed + i64::from(zone.zone.to_offset(just_before).seconds() - offset)
}

/// What is due, and when the scheduler last asked.
struct Calendar {
    cron: Cron,
    zone: Zone,
    splay: Duration,
    clock: Clock,
    /// The next moment.
    due: Option<Timestamp>,
    /// The moment that fired last.
    fired: Option<Timestamp>,
    /// The latest time seen: what is well before it means that the clock was set back.
    seen: Timestamp,
    /// When the scheduler last asked.
    polled: Instant,
}

impl Calendar {
    fn new(cron: &Cron, zone: &Zone, splay: Duration, clock: Clock) -> Result<Calendar, Error> {
        let now = clock.now();
        let due = next(cron, zone, now).ok_or_else(|| Error::Never { expression: cron.expression.clone() })?;
        Ok(Calendar {
            cron: cron.clone(),
            zone: zone.clone(),
            splay,
            clock,
            due: Some(due),
            fired: None,
            seen: now,
            polled: Instant::now(),
        })
    }

    /// Whether a moment has come; the one after it is due then. However many were missed, this is said once.
    fn poll(&mut self) -> bool {
        let now = self.clock.now();
        self.polled = Instant::now();
        if now.duration_until(self.seen) > SET_BACK {
            self.due = next(&self.cron, &self.zone, now);
            self.seen = now;
        }
        self.seen = self.seen.max(now);
        let Some(due) = self.due.filter(|due| *due <= now) else { return false };
        self.fired = Some(due);
        self.due = next(&self.cron, &self.zone, now);
        true
    }

    /// The moment that fired, and a random part of the splay that ends before the next one.
    fn splayed(&self) -> Option<(Tick, Duration)> {
        let scheduled = self.fired?;
        let room = self.due.map(|due| due.duration_since(scheduled).unsigned_abs());
        let bound = self.splay.min(room.unwrap_or(self.splay));
        Some((Tick { scheduled }, bound.mul_f64(chance())))
    }
}

/// The calendar as the scheduler's tasks and ours share it.
#[derive(Clone)]
struct Shared(Arc<Mutex<Calendar>>);

impl Shared {
    fn new(calendar: Calendar) -> Shared {
        Shared(Arc::new(Mutex::new(calendar)))
    }

    fn lock(&self) -> MutexGuard<'_, Calendar> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The scheduler with its one job.
async fn trigger(cron: &Cron, calendar: Shared, fire: mpsc::Sender<()>) -> Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new_with_storage_and_code(
        Box::new(Almanac { calendar, job: None }),
        Box::new(SimpleNotificationStore::default()),
        Box::new(SimpleJobCode::default()),
        Box::new(SimpleNotificationCode::default()),
        ACTOR_CHANNEL,
    )
    .await?;
    let job = Job::new_async(&cron.expression, move |_, _| {
        // full: a tick is waiting already, and this one is the same news
        let _ = fire.try_send(());
        Box::pin(std::future::ready(()))
    })?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    Ok(scheduler)
}

/// Waits out the splay of each tick and hands it over.
async fn carry(calendar: Shared, mut fired: mpsc::Receiver<()>, deliver: mpsc::Sender<Tick>) {
    while fired.recv().await.is_some() {
        let Some((tick, wait)) = calendar.lock().splayed() else { continue };
        tokio::time::sleep(wait).await;
        if let Err(mpsc::error::TrySendError::Closed(_)) = deliver.try_send(tick) {
            return;
        }
    }
}

/// A random fraction of one, below one.
fn chance() -> f64 {
    let word = getrandom::u32().unwrap_or_default();
    f64::from(word) / (f64::from(u32::MAX) + 1.0)
}

/// The scheduler's store of when jobs are due, which says what our calendar says. Holds one job.
struct Almanac {
    calendar: Shared,
    job: Option<JobStoredData>,
}

/// What the scheduler's storage traits want.
type Answer<T> = Pin<Box<dyn Future<Output = Result<T, JobSchedulerError>> + Send>>;

fn answer<T: Send + 'static>(value: T) -> Answer<T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl MetaDataStorage for Almanac {
    /// Asked twice a second. A job that is due is said to be so since the first second of the epoch, one that is not to be so never.
    fn list_next_ticks(&mut self) -> Answer<Vec<JobAndNextTick>> {
        let Some(job) = &self.job else { return answer(Vec::new()) };
        let next_tick = if self.calendar.lock().poll() { 1 } else { FAR_AHEAD };
        answer(vec![JobAndNextTick { id: job.id, job_type: job.job_type, next_tick, last_tick: None }])
    }

    /// The scheduler's own reckoning of the next tick, by the offset of the day the job was made: not used.
    fn set_next_and_last_tick(&mut self, _: JobId, _: Option<DateTime<Utc>>, _: Option<DateTime<Utc>>) -> Answer<()> {
        answer(())
    }

    fn time_till_next_job(&mut self) -> Answer<Option<Duration>> {
        answer(None)
    }
}

impl DataStore<JobStoredData> for Almanac {
    fn get(&mut self, _: JobId) -> Answer<Option<JobStoredData>> {
        answer(self.job.clone())
    }

    fn add_or_update(&mut self, data: JobStoredData) -> Answer<()> {
        self.job = Some(data);
        answer(())
    }

    fn delete(&mut self, _: JobId) -> Answer<()> {
        self.job = None;
        answer(())
    }
}

impl InitStore for Almanac {
    fn init(&mut self) -> Answer<()> {
        answer(())
    }

    fn inited(&mut self) -> Answer<bool> {
        answer(true)
    }
}

/// How many offsets of a zone are walked through in search of a match: some centuries of summer and winter time.
const MAX_STRETCHES: usize = 1_000;
/// Ticks ahead that [`interval`] looks at: more than a week of hourly ones, so that nights and weekends are seen.
const INTERVALS_LOOKED_AT: usize = 200;
/// A clock that is behind by less than this is being corrected, not set back; a tick must not come twice for it.
const SET_BACK: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);
/// The scheduler polls twice a second; silence of this length means that it has ended.
const POLL_PATIENCE: Duration = Duration::from_secs(60);
/// Messages between the scheduler's own tasks; we send a handful.
const ACTOR_CHANNEL: usize = 16;
/// A next tick that is never reached: the year 5138, which chrono can still hold.
const FAR_AHEAD: u64 = 100_000_000_000;

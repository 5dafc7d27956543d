//! Being kind to a provider: a rate limit that is fair, and a circuit that opens when calls keep failing.
//!
//! Both live in memory only and count by tokio's clock, so that a test may pause it. What must outlive a restart (rejected credentials) is
//! in [`super::rejection`].

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// At most so many requests per second, in the order in which they were wanted.
pub(crate) struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// `None`: no limit.
    pub(crate) fn new(per_second: Option<f64>) -> Pace {
        let interval = per_second.filter(|rate| *rate > 0.0).and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok());
        Pace { interval: interval.unwrap_or_default(), next: Mutex::new(Instant::now()) }
    }

    /// Returns when it is this request's turn. One that is dropped meanwhile wastes its turn, which only makes us slower.
    pub(crate) async fn turn(&self) {
        let turn = self.reserve(Instant::now());
        if turn > Instant::now() {
            sleep_until(turn).await;
        }
    }

    /// Nobody's turn comes before `until`: the server said so.
    pub(crate) fn hold(&self, until: Instant) {
        let mut next = lock(&self.next);
        *next = (*next).max(until);
    }

    /// The virtual schedule (GCRA): a turn each `interval`; after a quiet time up to [`BURST`] of them at once.
    fn reserve(&self, now: Instant) -> Instant {
        let mut next = lock(&self.next);
        let saved = now.checked_sub(self.interval * (BURST - 1)).unwrap_or(now);
        let turn = (*next).max(saved);
        *next = turn + self.interval;
        turn
    }
}

/// Closed: calls pass. Open: they fail at once until the pause ends; then one is let through to see, and the others wait for it.
pub(crate) struct Circuit {
    state: Mutex<State>,
    probed: Notify,
}

#[derive(Default)]
struct State {
    failures: u32,
    pauses: u32,
    open: Option<Open>,
    probing: bool,
}

/// Until when the circuit is open, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Open {
    pub(crate) until: Instant,
    pub(crate) why: String,
}

/// What a call proved about the provider as a whole.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Proof {
    /// It answers.
    Up,
    /// It does not, in these words.
    Down(String),
    /// It wants to be left alone.
    LeaveAlone(Duration, String),
    /// Nothing: what failed is ours, or concerns one certificate.
    Nothing,
}

impl Circuit {
    pub(crate) fn new() -> Circuit {
        Circuit { state: Mutex::default(), probed: Notify::new() }
    }

    /// Leave to call; `Err` while open. Report what the call proved with [`Leave::settle`].
    pub(crate) async fn enter(&self) -> Result<Leave<'_>, Open> {
        loop {
            let probed = self.probed.notified();
            tokio::pin!(probed);
            probed.as_mut().enable();
            if let Some(answer) = self.try_enter(Instant::now()) {
                return answer;
            }
            probed.await;
        }
    }

    /// `None`: somebody is just trying, wait for that.
    fn try_enter(&self, now: Instant) -> Option<Result<Leave<'_>, Open>> {
        let mut state = lock(&self.state);
        match &state.open {
            None => Some(Ok(Leave { circuit: self, probe: false })),
            Some(open) if now < open.until => Some(Err(open.clone())),
            Some(_) if state.probing => None,
            Some(_) => {
                state.probing = true;
                Some(Ok(Leave { circuit: self, probe: true }))
            }
        }
    }

    /// Closes it, as after SIGHUP.
    pub(crate) fn reset(&self) {
        let probing = lock(&self.state).probing;
        *lock(&self.state) = State { probing, ..State::default() };
        self.probed.notify_waiters();
    }

    fn settle(&self, proof: Proof, probe: bool, now: Instant) {
        let mut state = lock(&self.state);
        match proof {
            Proof::Up => *state = State { probing: state.probing, ..State::default() },
            Proof::Down(why) => state.fail(probe, why, now),
            Proof::LeaveAlone(pause, why) => state.open = Some(Open { until: now + pause.min(LONGEST_ASKED), why }),
            Proof::Nothing => {}
        }
    }

    fn probe_is_over(&self) {
        lock(&self.state).probing = false;
        self.probed.notify_waiters();
    }
}

impl State {
    /// A failing probe opens it again for longer; what was still in flight when it opened changes nothing.
    fn fail(&mut self, probe: bool, why: String, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if (self.open.is_none() && self.failures >= FAILURES_TO_OPEN) || probe {
            let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.pauses)).min(LONGEST_PAUSE);
            self.pauses = self.pauses.saturating_add(1);
            let why = format!("{} calls in a row failed, the last: {why}", self.failures);
            self.open = Some(Open { until: now + pause, why });
        }
    }
}

/// Leave to call the provider once. Dropped without [`Leave::settle`] (a cancelled call) it proves nothing.
pub(crate) struct Leave<'a> {
    circuit: &'a Circuit,
    probe: bool,
}

impl Leave<'_> {
    pub(crate) fn settle(self, proof: Proof) {
        self.circuit.settle(proof, self.probe, Instant::now());
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.circuit.probe_is_over();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Requests that may go at once after a quiet time.
pub const BURST: u32 = 4;
/// Calls in a row that must fail before the circuit opens.
pub const FAILURES_TO_OPEN: u32 = 5;
/// The first pause of an open circuit; each further one is twice as long.
pub const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// No pause of ours is longer.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// No pause that a server asks for is longer, whatever it says.
pub const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_come_at_the_rate_after_a_small_burst() {
        let pace = Pace::new(Some(10.0));
        let start = Instant::now();
        tokio::time::advance(Duration::from_secs(60)).await;
        let begun = Instant::now();
        for _ in 0..(BURST + 20) {
            pace.turn().await;
        }
        assert_eq!((begun - start).as_secs(), 60);
        // the first of a burst is the turn that was due anyway
        assert_eq!(begun.elapsed().as_millis() / 100, 21 - 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_never_waits_and_a_hold_does() {
        let pace = Pace::new(None);
        let start = Instant::now();
        for _ in 0..1000 {
            pace.turn().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        pace.hold(start + Duration::from_secs(7));
        pace.turn().await;
        assert_eq!(start.elapsed().as_secs(), 7);
    }

    async fn fail(circuit: &Circuit) {
        circuit.enter().await.ok().unwrap().settle(Proof::Down("boom".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_only() {
        let circuit = Circuit::new();
        for _ in 0..FAILURES_TO_OPEN - 1 {
            fail(&circuit).await;
        }
        circuit.enter().await.ok().unwrap().settle(Proof::Up);
        for _ in 0..FAILURES_TO_OPEN {
            fail(&circuit).await;
        }
        let open = circuit.enter().await.err().unwrap();
        assert_eq!(open.until - Instant::now(), FIRST_PAUSE);
        assert_eq!(open.why, "5 calls in a row failed, the last: boom");
    }

    #[tokio::test(start_paused = true)]
    async fn one_tries_while_the_others_wait_and_the_pause_grows() {
        let circuit = Circuit::new();
        for _ in 0..FAILURES_TO_OPEN {
            fail(&circuit).await;
        }
        tokio::time::advance(FIRST_PAUSE).await;
        let probe = circuit.enter().await.ok().unwrap();
        assert!(circuit.try_enter(Instant::now()).is_none(), "a second one waits");
        probe.settle(Proof::Down("again".into()));
        let open = circuit.enter().await.err().unwrap();
        assert_eq!(open.until - Instant::now(), FIRST_PAUSE * 2);

        tokio::time::advance(FIRST_PAUSE * 2).await;
        let probe = circuit.enter().await.ok().unwrap();
        let waiting = circuit.enter();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        probe.settle(Proof::Up);
        assert!(waiting.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_probe_hands_over_and_a_reset_closes() {
        let circuit = Circuit::new();
        for _ in 0..FAILURES_TO_OPEN {
            fail(&circuit).await;
        }
        tokio::time::advance(FIRST_PAUSE).await;
        drop(circuit.enter().await.ok().unwrap());
        assert!(circuit.enter().await.ok().unwrap().probe);
        circuit.reset();
        assert!(!circuit.enter().await.ok().unwrap().probe);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_are_bounded() {
        let circuit = Circuit::new();
        for _ in 0..FAILURES_TO_OPEN {
            fail(&circuit).await;
        }
        for _ in 0..100 {
            tokio::time::advance(LONGEST_PAUSE).await;
            fail(&circuit).await;
        }
        assert_eq!(circuit.enter().await.err().unwrap().until - Instant::now(), LONGEST_PAUSE);
        tokio::time::advance(LONGEST_PAUSE).await;
        circuit.enter().await.ok().unwrap().settle(Proof::LeaveAlone(Duration::from_secs(u32::MAX.into()), "please".into()));
        assert_eq!(circuit.enter().await.err().unwrap().until - Instant::now(), LONGEST_ASKED);
    }
}

//! What the services, the faults and the test's hands share, behind one lock.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::fault::{Faults, Met, What};
use crate::pki::Pki;
use crate::seen::{Log, Outcome, Seen, Service};
use crate::wire::{Call, Refusal, Reply, Route, Twist};
use crate::{cds, huawei};

/// Shared by the server's thread and the test's.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Told after each request.
    seen: Condvar,
    hook: Option<crate::OnRequest>,
    mode: watch::Sender<Mode>,
    pki: OnceLock<Arc<Pki>>,
}

/// Whether the listeners answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As they should.
    Up,
    /// Each connection is cut.
    Down,
    /// The server ends.
    Over,
}

/// Everything that changes.
pub(crate) struct State {
    pub(crate) clock: Clock,
    pub(crate) huawei: huawei::Account,
    pub(crate) cds: cds::Account,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
}

/// The fake's idea of now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// The machine's, so far ahead.
    Ahead(SignedDuration),
    /// Stands still.
    Still(Timestamp),
}

impl Shared {
    pub(crate) fn new(state: State, hook: Option<crate::OnRequest>, pki: Option<Arc<Pki>>) -> Arc<Shared> {
        let pki = pki.map_or_else(OnceLock::new, OnceLock::from);
        Arc::new(Shared { state: Mutex::new(state), seen: Condvar::new(), hook, mode: watch::Sender::new(Mode::Up), pki })
    }

    /// What the control endpoint issues with; made when first needed.
    pub(crate) fn pki(&self) -> Arc<Pki> {
        self.pki.get_or_init(|| Arc::new(Pki::new())).clone()
    }

    /// Whether the listeners answer, now and whenever that changes.
    pub(crate) fn mode(&self) -> watch::Receiver<Mode> {
        self.mode.subscribe()
    }

    /// The clouds are away, or back.
    pub(crate) fn set_up(&self, up: bool) -> Value {
        self.mode.send_replace(if up { Mode::Up } else { Mode::Down });
        json!({"up": up})
    }

    /// The server ends.
    pub(crate) fn end(&self) {
        self.mode.send_replace(Mode::Over);
    }

    /// Waits until `ready` says so of the log, asked after each request; `false`: not within `limit`.
    pub(crate) fn wait_for(&self, limit: Duration, ready: impl Fn(&Log) -> bool) -> bool {
        let waited = self.seen.wait_timeout_while(self.lock(), limit, |state| !ready(&state.log));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges a request, records it, and says what it meets on the way back.
    pub(crate) fn take(&self, service: Service, call: &Call) -> (Reply, Met) {
        let mut state = self.lock();
        let now = state.now();
        let (route, judged) = state.judge(service, call, now);
        let (reply, outcome, met) = match judged {
            Ok((reply, met)) => (reply.clone(), outcome(&reply), met),
            Err(Refusal { reply, why }) => {
                let code = reply.code.clone().unwrap_or_default();
                (reply.clone(), Outcome::Refused { status: reply.status, code, why }, Met::default())
            }
        };
        let seen = Seen {
            service,
            operation: route.operation,
            id: route.id,
            at: now,
            method: call.method.clone(),
            target: call.target(),
            headers: call.headers.clone(),
            outcome,
            fault: met.what.as_ref().map(What::name).or((!met.delay.is_zero()).then_some("delay")),
        };
        if let Some(hook) = &self.hook {
            hook(&seen);
        }
        state.log.add(seen);
        self.seen.notify_all();
        (reply, met)
    }
}

impl State {
    pub(crate) fn now(&self) -> Timestamp {
        match self.clock {
            Clock::Ahead(by) => Timestamp::now() + by,
            Clock::Still(at) => at,
        }
    }

    /// Route, strict checks, faults, answer: in this order.
    fn judge(&mut self, service: Service, call: &Call, now: Timestamp) -> (Route, Result<(Reply, Met), Refusal>) {
        let (huawei, cds) = (&mut self.huawei, &mut self.cds);
        let route = match service {
            Service::Scm => huawei::scm::route(call),
            Service::Iam => huawei::iam::route(call),
            Service::Metadata => huawei::metadata::route(call),
            Service::Cds => cds::lb::route(call),
        };
        let route = match route {
            Ok(route) => route,
            Err(refusal) => return (Route::new("unknown"), Err(refusal)),
        };
        let allowed = match service {
            Service::Scm => huawei::scm::authorize(huawei, call, &route, now),
            Service::Iam => huawei::iam::authorize(huawei, call, &route, now),
            Service::Metadata => huawei::metadata::authorize(huawei, call, &route, now),
            Service::Cds => cds::lb::authorize(cds, call, &route, now),
        };
        if let Err(refusal) = allowed {
            return (route, Err(refusal));
        }
        let met = self.faults.meet(service, &route.operation, route.id.as_deref());
        let twist = match met.what {
            Some(What::WrongKey) => Twist::WrongKey,
            Some(What::NoKey) => Twist::NoKey,
            _ => Twist::None,
        };
        let reply = match service {
            Service::Scm => huawei::scm::answer(huawei, call, &route, twist),
            Service::Iam => huawei::iam::answer(huawei, call, &route, now),
            Service::Metadata => huawei::metadata::answer(huawei, call, &route, now),
            Service::Cds => cds::lb::answer(cds, &route, twist, now),
        };
        (route, Ok((reply, met)))
    }
}

fn outcome(reply: &Reply) -> Outcome {
    match &reply.code {
        None => Outcome::Answered(reply.status),
        Some(code) => Outcome::Failed { status: reply.status, code: code.clone() },
    }
}

//! What the services, the faults and the test's hands share, behind one lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::fault::{Faults, Met, What};
use crate::seen::{Log, Outcome, Seen, Service};
use crate::wire::{Call, Refusal, Reply, Route, Twist};
use crate::{cds, huawei};

/// Called with each request as it is recorded.
pub(crate) type Hook = Box<dyn Fn(&Seen) + Send + Sync>;

/// Shared by the server's thread and the test's.
pub(crate) struct Shared {
    state: Mutex<State>,
    hook: Option<Hook>,
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
    pub(crate) fn new(state: State, hook: Option<Hook>) -> Arc<Shared> {
        Arc::new(Shared { state: Mutex::new(state), hook })
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

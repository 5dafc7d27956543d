//! What goes wrong on demand: which requests, in which way, how often.
//!
//! A request that the strict checks refuse is refused, whatever faults are waiting: they do not hide a wrong signature, and their
//! count is not used up. Delays add to whatever else is meant for a request; of all others the first that was set stands.

use std::time::Duration;

use crate::seen::Service;

/// A fault: on which requests, what, how often.
///
/// ```
/// use fakecloud::{Fault, Match, What};
/// let fault = Fault::new(Match::operation("export").id("scs1554192131150"), What::Throttle { retry_after: Some(2) }).times(2);
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which requests.
    pub on: Match,
    /// What happens to them.
    pub what: What,
    /// How often; `None`: always.
    pub times: Option<u32>,
}

/// Which requests; what is not said matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Of this service.
    pub service: Option<Service>,
    /// This operation: `list show export download`, `token projects domains`, `metadata_token securitykey`, or a CDS action.
    pub operation: Option<String>,
    /// About this certificate.
    pub id: Option<String>,
    /// Only the nth request that matches the rest, counted from 1 since the fault was set.
    pub nth: Option<u32>,
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum What {
    /// The answer comes so much later.
    Delay(Duration),
    /// No answer ever; the connection stays open.
    Hang,
    /// The connection stays open after the status line and the headers; no body.
    HangAfterHeaders,
    /// This answer instead.
    Status {
        /// HTTP status.
        code: u16,
        /// Further headers.
        headers: Vec<(String, String)>,
        /// Body; JSON if it starts with `{`, else text.
        body: String,
    },
    /// The service's own error object under this status.
    Error {
        /// HTTP status.
        status: u16,
        /// The vendor's code.
        code: String,
        /// The vendor's words.
        message: String,
    },
    /// 429 in the service's own words.
    Throttle {
        /// `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// The connection ends after so many bytes of the body; 0: before the status line.
    Cut(usize),
    /// 200 with half of the true body, the length fitting: a lying cache.
    Half,
    /// 200 and a kilobyte that is nothing.
    Garbage,
    /// The true answer, a byte at a time.
    Drip {
        /// Between two bytes.
        interval: Duration,
    },
    /// 200 and a body that never ends.
    Endless,
    /// 200 and the login page of a proxy.
    HtmlPage,
    /// 200 with the service's own error object.
    ErrorIn200 {
        /// The vendor's code.
        code: String,
        /// The vendor's words.
        message: String,
    },
    /// 200 and nothing.
    EmptyBody,
    /// 302 to this address.
    Redirect(String),
    /// The answer holds another customer's private key.
    WrongKey,
    /// The answer holds no private key.
    NoKey,
}

impl Fault {
    /// A fault that goes on until [`crate::Fakecloud::clear_faults`].
    pub fn new(on: Match, what: What) -> Fault {
        Fault { on, what, times: None }
    }

    /// It happens so often, then no more.
    pub fn times(mut self, times: u32) -> Fault {
        self.times = Some(times);
        self
    }

    /// It happens once.
    pub fn once(self) -> Fault {
        self.times(1)
    }
}

impl Match {
    /// Every request.
    pub fn any() -> Match {
        Match::default()
    }

    /// Every request of a service.
    pub fn service(service: Service) -> Match {
        Match { service: Some(service), ..Match::default() }
    }

    /// Every request of an operation.
    pub fn operation(operation: impl Into<String>) -> Match {
        Match { operation: Some(operation.into()), ..Match::default() }
    }

    /// Only about this certificate.
    pub fn id(mut self, id: impl Into<String>) -> Match {
        self.id = Some(id.into());
        self
    }

    /// Only the nth of them, from 1.
    pub fn nth(mut self, nth: u32) -> Match {
        self.nth = Some(nth);
        self
    }

    fn fits(&self, service: Service, operation: &str, id: Option<&str>) -> bool {
        self.service.is_none_or(|wanted| wanted == service)
            && self.operation.as_deref().is_none_or(|wanted| wanted == operation)
            && self.id.as_deref().is_none_or(|wanted| Some(wanted) == id)
    }
}

impl What {
    /// The service's own error object: `What::error(500, "SCM.0038", "…")`.
    pub fn error(status: u16, code: impl Into<String>, message: impl Into<String>) -> What {
        What::Error { status, code: code.into(), message: message.into() }
    }

    /// This status with a text: `What::status(502, "bad gateway")`.
    pub fn status(code: u16, body: impl Into<String>) -> What {
        What::Status { code, headers: Vec::new(), body: body.into() }
    }

    /// One word, for [`crate::Seen::fault`].
    pub fn name(&self) -> &'static str {
        match self {
            What::Delay(_) => "delay",
            What::Hang => "hang",
            What::HangAfterHeaders => "hang_after_headers",
            What::Status { .. } => "status",
            What::Error { .. } => "error",
            What::Throttle { .. } => "throttle",
            What::Cut(_) => "cut",
            What::Half => "half",
            What::Garbage => "garbage",
            What::Drip { .. } => "drip",
            What::Endless => "endless",
            What::HtmlPage => "html_page",
            What::ErrorIn200 { .. } => "error_in_200",
            What::EmptyBody => "empty_body",
            What::Redirect(_) => "redirect",
            What::WrongKey => "wrong_key",
            What::NoKey => "no_key",
        }
    }
}

/// The faults that wait.
#[derive(Default)]
pub(crate) struct Faults(Vec<Armed>);

struct Armed {
    fault: Fault,
    matched: u32,
    used: u32,
}

/// What a request meets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Met {
    pub(crate) delay: Duration,
    pub(crate) what: Option<What>,
}

impl Faults {
    pub(crate) fn set(&mut self, fault: Fault) {
        self.0.push(Armed { fault, matched: 0, used: 0 });
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// What this request meets; counts it.
    pub(crate) fn meet(&mut self, service: Service, operation: &str, id: Option<&str>) -> Met {
        let mut met = Met::default();
        for armed in &mut self.0 {
            if !armed.fault.on.fits(service, operation, id) {
                continue;
            }
            armed.matched += 1;
            let due = armed.fault.on.nth.is_none_or(|nth| nth == armed.matched);
            if !due || armed.fault.times.is_some_and(|times| armed.used >= times) {
                continue;
            }
            match &armed.fault.what {
                What::Delay(delay) => met.delay += *delay,
                _ if met.what.is_some() => continue,
                what => met.what = Some(what.clone()),
            }
            armed.used += 1;
        }
        met
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_used_up_and_the_next_one_follows() {
        let mut faults = Faults::default();
        faults.set(Fault::new(Match::operation("show"), What::Garbage).times(2));
        faults.set(Fault::new(Match::any(), What::Half).once());
        let mut next = |operation: &str| faults.meet(Service::Scm, operation, None).what.map(|what| what.name());
        assert_eq!(next("show"), Some("garbage"));
        assert_eq!(next("list"), Some("half"));
        assert_eq!(next("show"), Some("garbage"));
        assert_eq!(next("show"), None);
    }

    #[test]
    fn nth_means_that_one_only() {
        let mut faults = Faults::default();
        faults.set(Fault::new(Match::operation("show").id("b").nth(2), What::Garbage));
        let mut next = |id: &str| faults.meet(Service::Scm, "show", Some(id)).what.is_some();
        assert_eq!([next("b"), next("a"), next("b"), next("b")], [false, false, true, false]);
    }

    #[test]
    fn delays_add_to_what_else_happens() {
        let mut faults = Faults::default();
        faults.set(Fault::new(Match::any(), What::Delay(Duration::from_secs(1))));
        faults.set(Fault::new(Match::service(Service::Cds), What::Garbage));
        faults.set(Fault::new(Match::any(), What::Delay(Duration::from_secs(2))));
        let met = faults.meet(Service::Cds, "x", None);
        assert_eq!((met.delay, met.what.map(|what| what.name())), (Duration::from_secs(3), Some("garbage")));
    }
}

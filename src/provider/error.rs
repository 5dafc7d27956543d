//! Why a provider did not bring what it was asked for.
//!
//! An [`Error`] says what was attempted, how often and for how long; its [`Cause`] says what went wrong in the words of the server, with the
//! vendor's code. Neither ever carries a URL (CDS puts its signature there), a secret, or bytes of an answer that may hold a key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::secret;
use crate::report::Failure;

/// What was attempted and did not succeed. Cheap to clone, so that those who waited for one token share one failure.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to {doing}{}", Effort(*tries, *took))]
pub struct Error {
    doing: String,
    tries: u32,
    took: Duration,
    hint: Option<String>,
    gone: bool,
    operation: Option<&'static str>,
    #[source]
    cause: Arc<Cause>,
}

/// The stable word for a cause: what counters count and alerts group by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The credential (or the signature made with it) was rejected.
    Unauthorized,
    /// The credential is good, but may not do this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// Asked too often.
    Throttled,
    /// No whole answer in time.
    Timeout,
    /// No connection, or it broke before the answer was whole.
    Connect,
    /// No agreement on TLS, such as an unknown issuer.
    Tls,
    /// More bytes than any honest answer has.
    TooLarge,
    /// An answer that is not what the API's documents say.
    BadAnswer,
    /// The server understood and said no; also what we refuse to follow, such as a redirect.
    Refused,
    /// A secret of ours is not to be had.
    Secret,
    /// Not asked at all, because earlier calls failed in a row.
    CircuitOpen,
    /// The server failed.
    Server,
    /// The provider cannot even be set up, such as an unreadable `ca_file`.
    Setup,
}

impl Kind {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Unauthorized => "unauthorized",
            Kind::Forbidden => "forbidden",
            Kind::NotFound => "not_found",
            Kind::Throttled => "throttled",
            Kind::Timeout => "timeout",
            Kind::Connect => "connect",
            Kind::Tls => "tls",
            Kind::TooLarge => "too_large",
            Kind::BadAnswer => "bad_answer",
            Kind::Refused => "refused",
            Kind::Secret => "secret",
            Kind::CircuitOpen => "circuit_open",
            Kind::Server => "server",
            Kind::Setup => "setup",
        }
    }
}

impl Error {
    pub(crate) fn new(doing: impl Into<String>, cause: Cause) -> Error {
        Error {
            doing: doing.into(),
            tries: 0,
            took: Duration::ZERO,
            hint: None,
            gone: false,
            operation: None,
            cause: Arc::new(cause),
        }
    }

    pub(crate) fn after(mut self, tries: u32, took: Duration) -> Error {
        (self.tries, self.took) = (tries, took);
        self
    }

    pub(crate) fn with_hint(mut self, hint: Option<String>) -> Error {
        self.hint = hint;
        self
    }

    pub(crate) fn gone(mut self, gone: bool) -> Error {
        self.gone = gone;
        self
    }

    pub(crate) fn during(mut self, operation: &'static str) -> Error {
        self.operation = Some(operation);
        self
    }

    /// The vendor's call that failed, such as `export`; `None` if none was made.
    pub fn operation(&self) -> Option<&'static str> {
        self.operation
    }

    /// What went wrong at the last try.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The stable word for counters and alerts.
    pub fn kind(&self) -> &'static str {
        self.cause.kind().name()
    }

    /// The same as a type.
    pub fn kind_of(&self) -> Kind {
        self.cause.kind()
    }

    /// Whether another try may pass without anybody mending something.
    pub fn is_transient(&self) -> bool {
        self.cause.is_transient()
    }

    /// Whether the server knows no certificate with the id that was asked for.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// The vendor's code, such as `SCM.4002`.
    pub fn code(&self) -> Option<&str> {
        match &*self.cause {
            Cause::Server { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    /// What mends it, where we know.
    pub fn hint(&self) -> Option<String> {
        self.hint.clone()
    }

    /// As data for ledger, report and alerts.
    pub fn to_failure(&self) -> Failure {
        let mut failure = Failure::new(self.kind(), self).hint(self.hint());
        failure.transient = self.is_transient();
        failure
    }
}

/// What went wrong at the last try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The server answered with an error of the API.
    #[error("server said {status}: {}", Told(code.as_deref(), words))]
    Server {
        /// HTTP status; 200 is possible.
        status: u16,
        /// The vendor's code.
        code: Option<String>,
        /// The vendor's words, shortened.
        words: String,
        /// What the vendor's page makes of it.
        kind: Kind,
        /// Whether the vendor's page says to retry.
        transient: bool,
        /// How long the server asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// The server answers a wish to be left alone that is longer than a pass waits.
    #[error("server said {status} and asks to be left alone until {until}")]
    LeftAlone {
        /// HTTP status.
        status: u16,
        /// By its `Retry-After`.
        until: Timestamp,
    },
    /// A redirect; following one could hand credentials to somebody else.
    #[error("server said {status}, a redirect to `{to}`, which is not followed")]
    Redirect {
        /// HTTP status.
        status: u16,
        /// Host of the `Location`; the rest may carry a signature.
        to: String,
    },
    /// An answer, but not one of the API.
    #[error("{0}")]
    BadAnswer(String),
    /// More bytes than allowed.
    #[error("answer is larger than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
    /// The connection broke inside the answer.
    #[error("answer was cut off after {received} bytes")]
    CutOff {
        /// Bytes that came (after decompression).
        received: usize,
        /// Why.
        #[source]
        reason: Reason,
    },
    /// No connection.
    #[error("no connection to `{host}`")]
    Connect {
        /// Where to.
        host: String,
        /// Why.
        #[source]
        reason: Reason,
    },
    /// A connection, but no agreement on TLS.
    #[error("no trusted TLS connection to `{host}`")]
    Tls {
        /// Where to.
        host: String,
        /// Why.
        #[source]
        reason: Reason,
    },
    /// No whole answer in time.
    #[error("no {what} from `{host}` within {}", Seconds(*within))]
    Timeout {
        /// Where to.
        host: String,
        /// `connection`, `whole answer`.
        what: &'static str,
        /// How long we waited.
        within: Duration,
    },
    /// A secret of ours is not to be had.
    #[error("no credential to ask with")]
    Secret(#[source] secret::Error),
    /// A credential of ours cannot be used as it is.
    #[error("{0}")]
    Credential(String),
    /// The same credential was rejected a while ago.
    #[error("the credential was rejected and is not tried again before {until}, unless it changes")]
    RejectedBefore {
        /// When it is tried again.
        until: Timestamp,
    },
    /// Earlier calls failed in a row.
    #[error("`{provider}` is left alone until {until}: {why}")]
    CircuitOpen {
        /// Which.
        provider: String,
        /// When it is asked again.
        until: Timestamp,
        /// How the last call failed.
        why: String,
    },
    /// We ask for something that makes no sense.
    #[error("{0}")]
    Refused(String),
    /// The provider cannot be set up.
    #[error("{what}")]
    Setup {
        /// What is wrong.
        what: String,
        /// Why.
        #[source]
        reason: Option<Reason>,
    },
}

impl Cause {
    /// The stable word.
    pub fn kind(&self) -> Kind {
        match self {
            Cause::Server { kind, .. } => *kind,
            Cause::LeftAlone { .. } => Kind::Throttled,
            Cause::Redirect { .. } | Cause::Refused(_) => Kind::Refused,
            Cause::BadAnswer(_) => Kind::BadAnswer,
            Cause::TooLarge { .. } => Kind::TooLarge,
            Cause::CutOff { .. } | Cause::Connect { .. } => Kind::Connect,
            Cause::Tls { .. } => Kind::Tls,
            Cause::Timeout { .. } => Kind::Timeout,
            Cause::Secret(_) | Cause::Credential(_) => Kind::Secret,
            Cause::RejectedBefore { .. } => Kind::Unauthorized,
            Cause::CircuitOpen { .. } => Kind::CircuitOpen,
            Cause::Setup { .. } => Kind::Setup,
        }
    }

    /// Whether another try, now or later, may pass without anybody mending something.
    pub fn is_transient(&self) -> bool {
        match self {
            Cause::Server { transient, .. } => *transient,
            Cause::LeftAlone { .. }
            | Cause::CutOff { .. }
            | Cause::Connect { .. }
            | Cause::Timeout { .. }
            | Cause::CircuitOpen { .. } => true,
            _ => false,
        }
    }

    /// Whether another try within this call makes sense.
    pub(crate) fn is_worth_another_try(&self) -> bool {
        self.is_transient() && !matches!(self, Cause::LeftAlone { .. } | Cause::CircuitOpen { .. })
    }

    /// How long the server asked to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Cause::Server { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the server rejected who we are (not what we may do).
    pub(crate) fn is_rejection(&self) -> bool {
        matches!(self, Cause::Server { kind: Kind::Unauthorized, .. })
    }
}

/// The innermost words of a transport's error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Reason(pub(crate) String);

/// ` after 4 tries in 12.3 s`; nothing for a first try.
struct Effort(u32, Duration);

impl fmt::Display for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            tries => write!(f, " after {tries} tries in {}", Seconds(self.1)),
        }
    }
}

/// `12.3 s`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds.fract() < 0.05 { write!(f, "{seconds:.0} s") } else { write!(f, "{seconds:.1} s") }
    }
}

/// `` `SCM.0010` the words ``.
struct Told<'a>(Option<&'a str>, &'a str);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Told(Some(code), "") => write!(f, "`{code}`"),
            Told(Some(code), words) => write!(f, "`{code}` {words}"),
            Told(None, "") => f.write_str("nothing more"),
            Told(None, words) => f.write_str(words),
        }
    }
}

/// `text` made fit for a message: one line, printable, at most [`WORDS`] characters.
pub(crate) fn words(text: &str) -> String {
    let mut short = String::new();
    let mut count = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !short.is_empty() {
            short.push(' ');
            count += 1;
        }
        for character in word.chars().filter(|c| is_plain(*c)) {
            if count >= WORDS {
                short.push('…');
                return short;
            }
            short.push(character);
            count += 1;
        }
    }
    short
}

/// No control, and none of the invisible characters that turn the direction of a line or hide in it.
fn is_plain(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Characters of a vendor's words that reach a message.
pub const WORDS: usize = 300;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn server(code: Option<&str>, text: &str) -> Cause {
        let code = code.map(str::to_owned);
        Cause::Server { status: 400, code, words: words(text), kind: Kind::Refused, transient: false, retry_after: None }
    }

    #[test]
    fn reads_as_the_style_page_shows() {
        let cause = server(Some("SCM.0010"), "this operation is not allowed\nby the current certificate type or status");
        let failure = Error::new("export certificate `scs1600000000000`", cause).to_failure();
        assert_eq!(
            failure.causes,
            [
                "failed to export certificate `scs1600000000000`",
                "server said 400: `SCM.0010` this operation is not allowed by the current certificate type or status"
            ]
        );
        assert_eq!(failure.kind, "refused");
    }

    #[test]
    fn says_how_often_and_how_long() {
        let error = Error::new("list certificates", server(None, "")).after(4, Duration::from_millis(12_340));
        assert_eq!(error.to_string(), "failed to list certificates after 4 tries in 12.3 s");
        let error = error.after(1, Duration::from_secs(3));
        assert_eq!(error.to_string(), "failed to list certificates");
    }

    #[test]
    fn words_are_one_bounded_printable_line() {
        assert_eq!(words("a\u{1b}[31mred\r\n\tb\u{202e}c\u{0}"), "a [31mred bc");
        assert_eq!(words(&"字".repeat(WORDS)), "字".repeat(WORDS));
        assert_eq!(words(&"字".repeat(WORDS + 1)), format!("{}…", "字".repeat(WORDS)));
        assert_eq!(words(" \n "), "");
    }
}

//! Why an alert did not get through.

use std::time::Duration;

use crate::atomic;
use crate::config::secret;

/// What went wrong between the outbox and the person.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A URL, user name, password or header value is not to be had.
    #[error("failed to read the channel's {what}")]
    Secret {
        /// `url`, `secret`, `password` …
        what: &'static str,
        /// Why.
        source: secret::Error,
    },
    /// The channel's settings cannot work.
    #[error("{0}")]
    Settings(String),
    /// Nobody answered in time.
    #[error("failed to hear an answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The connection or the exchange broke. The URL is not in it: it carries tokens.
    #[error("failed to reach the other side")]
    Transport(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The other side answered, and it was no.
    #[error("server said {status}: {answer}")]
    Status {
        /// HTTP status.
        status: u16,
        /// The first words of the answer.
        answer: String,
        /// `Retry-After`, in seconds or as a date, as a wait from now.
        retry_after: Option<Duration>,
    },
    /// 200, with an error inside, as chat robots do it.
    #[error("server said 200 with error `{code}`: {answer}")]
    Robot {
        /// `errcode`, `code` or `StatusCode`.
        code: String,
        /// The first words of the answer.
        answer: String,
        /// Whether the code means "too many at once" or "busy".
        busy: bool,
    },
    /// No session bus, or no notification service on it.
    #[error("no desktop session to show it on: {0}")]
    Unavailable(String),
    /// The notification service refused.
    #[error("failed to show the notification: {0}")]
    Desktop(String),
    /// An address or the message cannot be written as mail.
    #[error("failed to write the mail: {0}")]
    Mail(String),
    /// The mail server or the way to it.
    #[error("failed to hand the mail to `{server}`")]
    Smtp {
        /// Host and port.
        server: String,
        /// Why.
        source: lettre::transport::smtp::Error,
    },
    /// The program did not start.
    #[error("failed to start `{program}`")]
    Start {
        /// First word of the command.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The program said no.
    #[error("`{program}` {how}: {output}")]
    Program {
        /// First word of the command.
        program: String,
        /// `exited with 3`, `was killed by signal 9`.
        how: String,
        /// The end of what it printed.
        output: String,
    },
    /// The daemon is stopping; the event stays owed.
    #[error("interrupted: the daemon is stopping")]
    Interrupted,
    /// A file of the outbox.
    #[error(transparent)]
    Disk(#[from] atomic::Error),
    /// It cannot be put in words: a mistake of ours.
    #[error("failed to encode an event")]
    Encode(#[source] serde_json::Error),
}

impl Error {
    /// A stable word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Secret { .. } => "secret",
            Error::Settings(_) => "settings",
            Error::Timeout(_) => "timeout",
            Error::Transport(_) => "transport",
            Error::Status { .. } => "status",
            Error::Robot { .. } => "refused",
            Error::Unavailable(_) => "unavailable",
            Error::Desktop(_) => "desktop",
            Error::Mail(_) => "mail",
            Error::Smtp { .. } => "smtp",
            Error::Start { .. } | Error::Program { .. } => "command",
            Error::Interrupted => "interrupted",
            Error::Disk(error) => error.kind(),
            Error::Encode(_) => "encode",
        }
    }

    /// Whether the same words may get through a little later. The others are tried again too (a person may mend a setting within
    /// the day), but slowly.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Timeout(_) | Error::Transport(_) | Error::Interrupted | Error::Program { .. } | Error::Desktop(_) => true,
            Error::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            Error::Smtp { source, .. } => !source.is_permanent(),
            Error::Robot { busy, .. } => *busy,
            Error::Secret { .. }
            | Error::Settings(_)
            | Error::Unavailable(_)
            | Error::Mail(_)
            | Error::Start { .. }
            | Error::Disk(_)
            | Error::Encode(_) => false,
        }
    }

    /// How long the other side asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What would mend it, where we know.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Status { status: 300..=399, .. } => "redirects are not followed: write the final address",
            Error::Status { status: 401 | 403 | 404, .. } => {
                "look at the token in the URL: the robot or hook may have been removed"
            }
            Error::Robot { busy: false, .. } => {
                "look at the robot's security settings: its secret, keywords and allowed addresses, and this host's clock"
            }
            Error::Unavailable(_) => {
                "a system service has no desktop session: run certsyncd as a user unit, or set DBUS_SESSION_BUS_ADDRESS"
            }
            Error::Smtp { .. } if self.line().contains("certificate") => {
                "the server's certificate must be trusted by the system and `encryption` must fit its port"
            }
            Error::Disk(error) => return error.hint(),
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// The whole chain of causes on one line, for the history and the journal.
    pub fn line(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let words = cause.to_string();
            if !text.ends_with(&words) {
                text = format!("{text}: {words}");
            }
            next = cause.source();
        }
        text
    }
}

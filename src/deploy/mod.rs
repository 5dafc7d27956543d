//! Single steps at a server: test, reload, update in place, and look at what is served. The order of the steps lives in `sync`.
//!
//! | step | function | fails when |
//! |---|---|---|
//! | is it running | [`state`] | never: `Unknown` |
//! | try a pair before it is live | [`stage()`] | it does not work with itself |
//! | have the server's own checker load many | [`stage_all`] | never: [`Staged`] says whom it refuses |
//! | the operator's own test | [`test()`] | the command fails |
//! | read the files again | [`reload`] | the command fails; the unit's journal is in the words |
//! | in place, no reload | [`update`] | haproxy refuses the pair |
//! | what it has loaded | [`loaded`] | never: `None` |
//! | what is served | [`look`], [`look_for`], [`wait_served`], [`wait_all`] | never: each [`crate::report::Served`] says |
//! | is that right | [`judge`] | something else is served |
//!
//! Every step is bounded by the target's `timeout` and may be dropped at any moment: no process is left behind. Errors are [`Error`], which
//! name the step and carry the server's own words, and can be asked whom those words name ([`Error::named`]); they become [`Failure`]s
//! where they are told.

pub mod command;
mod explain;
mod handshake;
mod haproxy;
mod runtime;
mod stage;
mod suspect;
mod systemd;
mod verify;

use std::path::{Path, PathBuf};

use crate::config::Target;
use crate::failpoint;
use crate::report::{Failure, Fingerprint};

pub use haproxy::{Update, loaded, update};
pub use stage::{MAX_TOGETHER, Staged, stage, stage_all};
pub use suspect::Named;
pub use systemd::{UnitState, ahead_of_jobs, polkit_rule, state};
pub use verify::{Expected, FEW_PAIRS, LOOKS_AT_ONCE, RIGHT_IN_A_ROW, judge, look, look_for, wait_all, wait_served};

/// Runs the target's configured test; without one there is nothing to run, and that is fine (decision 6).
pub async fn test(target: &Target) -> Result<(), Error> {
    let Some(argv) = &target.test else { return Ok(()) };
    failpoint::reach("deploy.test");
    let ended = command::run(argv, target.timeout, &[], None).await;
    failpoint::reach("deploy.tested");
    ended.map(drop).map_err(|source| Error::Test { target: target.name.clone(), source })
}

/// Makes the target's server read its files again. That it says it did proves nothing: look at what is served afterwards.
pub async fn reload(target: &Target) -> Result<(), Error> {
    let mark = systemd::mark(target).await;
    failpoint::reach("deploy.reload");
    let ended = command::run(&systemd::reload_argv(target), target.timeout, &[], None).await;
    failpoint::reach("deploy.reloaded");
    let Err(source) = ended else { return Ok(()) };
    let refused = systemd::hint(target, source.words().map(command::Words::as_str).unwrap_or_default());
    // where systemd refused, the server was not even asked
    let (journal, check) = match (&refused, mark) {
        (Some(_), _) => (None, None),
        (None, Some(mark)) => (systemd::written_since(target, mark).await, explain::check(target).await),
        (None, None) => (None, explain::check(target).await),
    };
    let hint = refused.or_else(|| reload_hint(target, &source)).map(Into::into);
    Err(Error::Reload { target: target.name.clone(), source, journal, check, hint })
}

fn reload_hint(target: &Target, source: &command::Error) -> Option<String> {
    let name = &target.name;
    match (source, &target.unit) {
        (command::Error::TimedOut { .. }, Some(unit)) => {
            Some(format!("the reload may still be under way in systemd: `systemctl list-jobs`, `journalctl -u {unit}`"))
        }
        (command::Error::NotFound { .. }, _) if target.reload_is_default => {
            Some(format!("there is no systemctl here: set `reload` in `[deploy.{name}]` to the command that reloads it"))
        }
        (command::Error::NotFound { .. } | command::Error::NotExecutable { .. }, _) => {
            Some(format!("`reload` in `[deploy.{name}]` is run without a shell, from `/`: give the program's whole path"))
        }
        _ => None,
    }
}

/// Which step failed, and why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configured test.
    #[error("failed to test `{target}`")]
    Test {
        /// The target's name.
        target: String,
        /// What happened.
        source: command::Error,
    },
    /// The reload.
    #[error("failed to reload `{target}`")]
    Reload {
        /// The target's name.
        target: String,
        /// What happened.
        source: command::Error,
        /// What the unit wrote into the journal meanwhile.
        journal: Option<command::Words>,
        /// What the server says of its configuration when it is asked again, where its unit kept that to itself.
        check: Option<command::Words>,
        /// What would mend it.
        hint: Option<Box<str>>,
    },
    /// haproxy's Runtime API refused the pair; what it serves is what it served before.
    #[error("failed to update `{name}` in haproxy's memory: {words}")]
    Update {
        /// The certificate as haproxy was told of it.
        name: String,
        /// haproxy's words.
        words: String,
    },
    /// What was to be given to haproxy is not what the caller expects, or cannot be read as a certificate.
    #[error("failed to update haproxy from `{path}`: {why}")]
    Payload {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The pair does not work, before any server saw it.
    #[error("failed to try `{path}`")]
    Stage {
        /// The file that was tried.
        path: PathBuf,
        /// What happened.
        source: stage::Error,
    },
    /// Something else than the expected leaf is served, or nothing.
    #[error("failed to verify: {}", not_served(.wrong))]
    Verify {
        /// What was expected.
        expected: Fingerprint,
        /// `address`, `name` and what was seen there.
        wrong: Vec<String>,
    },
}

/// How systemctl says that it knows nothing; not told where the journal has the server's own error, so that a message has room for that.
const NOTHING_SAID: &str = "Job for ";

/// How many wrong answers are told in full.
const MAX_TOLD: usize = 5;

fn not_served(wrong: &[String]) -> String {
    let told = wrong.iter().take(MAX_TOLD).map(String::as_str).collect::<Vec<_>>().join("; ");
    let rest = wrong.len().saturating_sub(MAX_TOLD);
    if rest == 0 { told } else { format!("{told}; and {rest} more") }
}

impl Error {
    /// The step as a word: `test`, `reload`, `update`, `stage` or `verify`.
    pub fn step(&self) -> &'static str {
        match self {
            Error::Test { .. } => "test",
            Error::Reload { .. } => "reload",
            Error::Update { .. } | Error::Payload { .. } => "update",
            Error::Stage { .. } => "stage",
            Error::Verify { .. } => "verify",
        }
    }

    /// A stable word for counters: the step and what went wrong, such as `reload_timeout`.
    pub fn kind(&self) -> String {
        match self {
            Error::Test { source, .. } | Error::Reload { source, .. } => format!("{}_{}", self.step(), source.kind()),
            Error::Update { .. } => "update_refused".to_owned(),
            Error::Payload { .. } => "update_payload".to_owned(),
            Error::Stage { source, .. } => format!("stage_{}", source.kind()),
            Error::Verify { .. } => "verify_mismatch".to_owned(),
        }
    }

    /// Whether the same step may pass when tried again with nothing changed.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Test { source, .. } | Error::Reload { source, .. } => {
                matches!(source, command::Error::TimedOut { .. } | command::Error::Start { .. } | command::Error::Signal { .. })
            }
            Error::Verify { .. } => true,
            Error::Update { .. } | Error::Payload { .. } | Error::Stage { .. } => false,
        }
    }

    /// What would mend it, where we know.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Reload { hint, .. } => hint.as_deref().map(str::to_owned),
            Error::Test { target, source: command::Error::NotFound { .. } | command::Error::NotExecutable { .. } } => {
                Some(format!("`test` in `[deploy.{target}]` is run without a shell, from `/`: give the program's whole path"))
            }
            _ => None,
        }
    }

    /// How a test or reload that failed names the file or folder at `path`, in the program's words or in the unit's journal.
    pub fn named(&self, path: &Path) -> Option<Named> {
        let (source, more) = match self {
            Error::Test { source, .. } => (source, [None, None]),
            Error::Reload { source, journal, check, .. } => (source, [journal.as_ref(), check.as_ref()]),
            _ => return None,
        };
        suspect::named(source.words().into_iter().chain(more.into_iter().flatten()).flat_map(command::Words::lines), path)
    }

    /// Words for people, a kind for counters.
    pub fn to_failure(&self) -> Failure {
        let mut failure = Failure { transient: self.is_transient(), ..Failure::new(&self.kind(), self).hint(self.hint()) };
        if let Error::Reload { source, journal, check, .. } = self {
            let errors = journal.as_ref().and_then(suspect::errors);
            if errors.is_some() && source.words().is_some_and(|words| words.as_str().starts_with(NOTHING_SAID)) {
                failure.causes.pop();
            }
            failure.causes.extend(errors.as_ref().or(journal.as_ref()).map(|words| format!("its journal says: {words}")));
            failure.causes.extend(check.as_ref().map(|words| format!("asked again, `haproxy -c` says: {words}")));
        }
        failure
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        error.to_failure()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_wrong_answers_are_not_all_told() {
        let wrong =
            |count: usize| Error::Verify { expected: Fingerprint([0; 32]), wrong: (0..count).map(|i| format!("w{i}")).collect() };
        assert_eq!(wrong(MAX_TOLD).to_string(), "failed to verify: w0; w1; w2; w3; w4");
        assert_eq!(wrong(1_000).to_string(), "failed to verify: w0; w1; w2; w3; w4; and 995 more");
    }
}

//! Why the store could not do what it should.

use std::path::PathBuf;

use crate::atomic;

/// Why the store could not do what it should. What is live stays live in every case.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] atomic::Error),
    /// Not one path component, or hidden.
    #[error("`{name}` cannot be a folder's name")]
    Name {
        /// As given.
        name: String,
    },
    /// There is no such generation.
    #[error("`{name}` has no generation `{generation}`")]
    NoGeneration {
        /// The certificate.
        name: String,
        /// As given.
        generation: String,
    },
    /// What should be a whole generation, or a link to one, is not.
    #[error("{} is damaged: {why}", shown(.name, .generation.as_deref()))]
    Damaged {
        /// The certificate.
        name: String,
        /// The generation, where the link names one.
        generation: Option<String>,
        /// What is wrong with it.
        why: String,
    },
    /// A living process holds the lock.
    #[error("another certsyncd is at work: {by}")]
    Held {
        /// Who: process id, command, since when.
        by: String,
    },
    /// A copy for a service could not be written.
    #[error("failed to write output `{}`", path.display())]
    Output {
        /// The output's path.
        path: PathBuf,
        /// Why.
        source: atomic::Error,
    },
    /// The state directory belongs to somebody else and the process could not become that user.
    #[error("failed to become user {uid}, to whom `{}` belongs", path.display())]
    Owner {
        /// The state directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// A stable word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::Disk(error) | Error::Output { source: error, .. } => error.kind(),
            Error::Name { .. } => "name",
            Error::NoGeneration { .. } => "no_generation",
            Error::Damaged { .. } => "damaged",
            Error::Held { .. } => "held",
            Error::Owner { .. } => "owner",
        }
    }

    /// Whether another try may pass by itself: only a lock goes away.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Held { .. })
    }

    /// What would mend it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Disk(error) if error.is_denied() => Some(
                "the state directory must belong to the user that runs certsyncd; run the command as that user or as root"
                    .to_owned(),
            ),
            Error::Disk(error) => error.hint(),
            Error::Damaged { .. } => Some("the next pass rebuilds or fetches it; `certsyncd sync` does so now".to_owned()),
            Error::Held { .. } => Some("wait until it is done, or stop it".to_owned()),
            Error::Output { source, .. } => output_hint(source),
            Error::Owner { .. } => Some("run the command as that user (`runuser -u certsyncd -- certsyncd …`)".to_owned()),
            Error::Name { .. } | Error::NoGeneration { .. } => None,
        }
    }
}

/// Rights of outputs come from the unit's drop-in, so that is what the operator must look at.
fn output_hint(error: &atomic::Error) -> Option<String> {
    const DROP_IN: &str =
        "`/usr/share/doc/certsyncd/examples/outputs.conf` (in the sources: `systemd/certsyncd.service.d/outputs.conf`)";
    match error.kind() {
        "permission" | "read_only" => Some(format!(
            "the service may write only its own folders: the drop-in {DROP_IN} gives it the output's folder and, for another owner, the right to change owners"
        )),
        "missing" => Some(format!("create the folder first; inside the service it must also be listed in the drop-in {DROP_IN}")),
        "unknown_owner" => {
            Some("install the package that brings this user or group first, or change `owner` and `group`".to_owned())
        }
        "invalid" => Some(format!(
            "an owner from outside the service's user namespace cannot be set: the drop-in {DROP_IN} says `PrivateUsers=no`"
        )),
        _ => error.hint(),
    }
}

fn shown(name: &str, generation: Option<&str>) -> String {
    match generation {
        Some(generation) => format!("generation `{generation}` of `{name}`"),
        None => format!("live link `{name}`"),
    }
}

//! Secrets: where they come from, and the type that never shows them.

use std::path::PathBuf;

use secrecy::SecretString;

/// Where a secret comes from. Resolved when somebody is asked with it, not before, so that a rotated file is seen.
#[derive(Clone)]
pub enum Source {
    /// `{ file = "…" }`; one trailing newline is not part of the secret.
    File(PathBuf),
    /// `{ env = "…" }`.
    Env(String),
    /// `{ credential = "…" }`: systemd, under `$CREDENTIALS_DIRECTORY`, else the unit's own folder under `/run/credentials`.
    Credential(String),
    /// Written in the configuration itself.
    Plain(SecretString),
}

impl PartialEq for Source {
    fn eq(&self, other: &Source) -> bool {
        use secrecy::ExposeSecret;
        match (self, other) {
            (Source::File(a), Source::File(b)) => a == b,
            (Source::Env(a), Source::Env(b)) | (Source::Credential(a), Source::Credential(b)) => a == b,
            (Source::Plain(a), Source::Plain(b)) => a.expose_secret() == b.expose_secret(),
            _ => false,
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Env(name) => write!(f, "env {name}"),
            Source::Credential(name) => write!(f, "credential {name}"),
            Source::Plain(_) => f.write_str("[masked]"),
        }
    }
}

/// Why a secret is not to be had. Names the place, never the value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("failed to read secret file `{path}`")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The variable is not set.
    #[error("environment variable `{0}` is not set")]
    Env(String),
    /// Neither the unit's folder nor `$CREDENTIALS_DIRECTORY` has it.
    #[error(
        "systemd credential `{0}` is not there: it is only handed to the service (`LoadCredential=`); run as the unit, or use `file`"
    )]
    Credential(String),
    /// Nothing in it.
    #[error("secret from {0} is empty")]
    Empty(String),
}

impl Source {
    /// The secret as it stands now.
    pub fn resolve(&self) -> Result<SecretString, Error> {
        unimplemented!()
    }
}

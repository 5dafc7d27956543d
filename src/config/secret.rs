//! Secrets: where they come from, and the type that never shows them. Also the only door to the environment.
//!
//! Start at [`Source::resolve`]. It fails with an [`Error`] that names the place, never the value; nothing is cached, so that a rotated
//! file is seen the next time somebody is asked.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::values::Wrong;

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
        match (self, other) {
            (Source::File(a), Source::File(b)) => a == b,
            (Source::Env(a), Source::Env(b)) | (Source::Credential(a), Source::Credential(b)) => a == b,
            (Source::Plain(a), Source::Plain(b)) => a.expose_secret() == b.expose_secret(),
            _ => false,
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Env(name) => write!(f, "env {name}"),
            Source::Credential(name) => write!(f, "credential {name}"),
            Source::Plain(_) => f.write_str("[masked]"),
        }
    }
}

/// The place in words, for messages: file `…`, environment variable `…`, credential `…`, the configuration itself.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(f, "file `{}`", path.display()),
            Source::Env(name) => write!(f, "environment variable `{name}`"),
            Source::Credential(name) => write!(f, "systemd credential `{name}`"),
            Source::Plain(_) => f.write_str("the configuration itself"),
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
        "systemd credential `{0}` is not there: only the running service has it (`LoadCredential=`); start that first, or use `file`"
    )]
    Credential(String),
    /// Nothing in it.
    #[error("secret from {0} is empty")]
    Empty(String),
    /// It cannot be a secret: a line break or a NUL byte inside, not UTF-8, too long.
    #[error("secret from {place} {why}")]
    Malformed {
        /// Where it came from.
        place: String,
        /// What is wrong with it, without showing it.
        why: &'static str,
    },
}

impl Error {
    /// A stable word for counters.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::File { .. } => "secret_file",
            Error::Env(_) => "secret_env",
            Error::Credential(_) => "secret_credential",
            Error::Empty(_) => "secret_empty",
            Error::Malformed { .. } => "secret_malformed",
        }
    }

    /// What would mend it, where that is known.
    pub fn hint(&self) -> Option<String> {
        use std::io::ErrorKind::{NotFound, PermissionDenied};
        match self {
            Error::File { path, source } if source.kind() == PermissionDenied => Some(format!(
                "let the service's user read it: `chgrp certsyncd {0} && chmod 0640 {0}`, or hand it over by `LoadCredential=`",
                path.display()
            )),
            Error::File { source, .. } if source.kind() == NotFound => Some("create the file, or correct the path".to_owned()),
            Error::Env(name) => Some(format!("a service gets it by `Environment={name}=…` or `EnvironmentFile=` in its unit")),
            Error::Malformed { .. } => Some("it must be one line of text; a newline at its end is fine".to_owned()),
            _ => None,
        }
    }
}

/// Largest secret, in bytes; tokens of Huawei's IAM have a few thousand.
pub const MAX_SECRET: usize = 64 * 1024;

impl Source {
    /// The secret as it stands now.
    ///
    /// A file or a credential is read at each call (blocking, at most [`MAX_SECRET`] bytes; pipes and devices are refused, so that it
    /// cannot hang) and loses one `\n` or `\r\n` at its end. A variable is taken as it is. What is then empty, holds a line break or a
    /// NUL byte, or is not UTF-8, is an error. A credential is looked for under `$CREDENTIALS_DIRECTORY`, then under
    /// `/run/credentials/certsyncd.service`, which serves `sudo certsyncd sync` while the unit runs.
    pub fn resolve(&self) -> Result<SecretString, Error> {
        match self {
            Source::File(path) => {
                let bytes = read(path).map_err(|source| Error::File { path: path.clone(), source })?;
                one_line(bytes, &self.to_string())
            }
            Source::Env(name) => {
                let value = std::env::var_os(name).ok_or_else(|| Error::Env(name.clone()))?;
                let bytes = Zeroizing::new(std::os::unix::ffi::OsStringExt::into_vec(value));
                sound(&bytes, &self.to_string())
            }
            Source::Credential(name) => credential(name, &credential_folders()),
            Source::Plain(secret) => Ok(secret.clone()),
        }
    }

    /// Whether it stands in the configuration itself.
    pub fn is_plain(&self) -> bool {
        matches!(self, Source::Plain(_))
    }
}

/// The environment variable `name`; `None` when it is not set, empty, or not UTF-8.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The environment variable `name` as a secret; `None` when it is not set, empty, or no secret by [`check`].
pub fn secret_variable(name: &str) -> Option<SecretString> {
    let value = Zeroizing::new(variable(name)?);
    check(&value).ok()?;
    Some(SecretString::from(value.as_str()))
}

/// The folders a credential may be in: the process's own, then the unit's.
pub fn credential_folders() -> Vec<PathBuf> {
    let own = variable("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    own.into_iter().chain([PathBuf::from(UNIT_CREDENTIALS)]).collect()
}

/// Where systemd puts the credentials of a running `certsyncd.service`.
pub const UNIT_CREDENTIALS: &str = "/run/credentials/certsyncd.service";
/// The id of the folder of credentials in the unit.
pub const UNIT_CREDENTIAL_ID: &str = "certsyncd";

/// The first folder that has the credential decides; an unreadable one is said, not skipped.
///
/// The unit hands over a whole folder (`LoadCredential=certsyncd:/etc/certsyncd/credentials`), and systemd puts the id before the name of
/// each file of a folder: `scm-ak` arrives as `certsyncd_scm-ak`. One that is handed over by itself has its own name, and goes first.
fn credential(name: &str, folders: &[PathBuf]) -> Result<SecretString, Error> {
    let name = credential_name(name).map_err(|_| Error::Credential(name.to_owned()))?;
    let names = [name.clone(), format!("{UNIT_CREDENTIAL_ID}_{name}")];
    for path in folders.iter().flat_map(|folder| names.each_ref().map(|name| folder.join(name))) {
        match read(&path) {
            Ok(bytes) => return one_line(bytes, &Source::Credential(name).to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::File { path, source }),
        }
    }
    Err(Error::Credential(name))
}

/// A regular file's bytes, one more than allowed at most.
fn read(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    // Room for all of it from the start: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET + 3));
    file.take(MAX_SECRET as u64 + 3).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn one_line(bytes: Zeroizing<Vec<u8>>, place: &str) -> Result<SecretString, Error> {
    let line = bytes.strip_suffix(b"\n").map_or(bytes.as_slice(), |line| line.strip_suffix(b"\r").unwrap_or(line));
    sound(line, place)
}

fn sound(bytes: &[u8], place: &str) -> Result<SecretString, Error> {
    if bytes.is_empty() {
        return Err(Error::Empty(place.to_owned()));
    }
    let malformed = |why| Error::Malformed { place: place.to_owned(), why };
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("is not UTF-8 text"))?;
    check(text).map_err(malformed)?;
    Ok(SecretString::from(text))
}

/// Whether the text can be a secret; if not, why, without showing it.
pub fn check(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > MAX_SECRET {
        return Err("is longer than 64 KiB");
    }
    if text.contains('\0') {
        return Err("holds a NUL byte");
    }
    if text.contains(['\n', '\r']) {
        return Err("holds a line break");
    }
    Ok(())
}

/// The name of a credential: one component of a path (systemd's `credential_name_valid`).
pub(super) fn credential_name(text: &str) -> Result<String, Wrong> {
    let fits = (1..=MAX_CREDENTIAL_NAME).contains(&text.len())
        && !matches!(text, "." | "..")
        && !text.contains(['/', ':'])
        && text.chars().all(|c| c.is_ascii() && !c.is_ascii_control());
    if fits { Ok(text.to_owned()) } else { Err(Wrong::new()) }
}

/// Longest name of a credential, in bytes (NAME_MAX).
const MAX_CREDENTIAL_NAME: usize = 255;

/// The name of an environment variable (POSIX).
pub(super) fn variable_name(text: &str) -> Result<String, Wrong> {
    if let Some(name) = text.strip_prefix('$') {
        return Err(Wrong::hint(Some(format!("without the dollar sign: `{}`", super::values::quote(name)))));
    }
    let fits = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.len() <= MAX_CREDENTIAL_NAME
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if fits { Ok(text.to_owned()) } else { Err(Wrong::new()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> (tempfile::TempDir, Source) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, bytes).unwrap();
        (folder, Source::File(path))
    }

    fn resolved(bytes: &[u8]) -> Result<String, &'static str> {
        let (_folder, source) = file(bytes);
        source.resolve().map(|secret| secret.expose_secret().to_owned()).map_err(|error| error.kind())
    }

    #[test]
    fn one_newline_at_the_end_is_not_part_of_it() {
        assert_eq!(resolved(b"hunter2").unwrap(), "hunter2");
        assert_eq!(resolved(b"hunter2\n").unwrap(), "hunter2");
        assert_eq!(resolved(b"hunter2\r\n").unwrap(), "hunter2");
        assert_eq!(resolved(b" hunter2 \n").unwrap(), " hunter2 ");
    }

    #[test]
    fn what_cannot_be_a_secret() {
        assert_eq!(resolved(b""), Err("secret_empty"));
        assert_eq!(resolved(b"\n"), Err("secret_empty"));
        assert_eq!(resolved(b"\r\n"), Err("secret_empty"));
        for bad in [&b"a\n\n"[..], b"a\nb", b"a\r", b"a\0", b"\xff\xfe"] {
            assert_eq!(resolved(bad), Err("secret_malformed"), "{bad:?}");
        }
    }

    #[test]
    fn its_length_is_bounded() {
        let most = vec![b'x'; MAX_SECRET];
        assert_eq!(resolved(&most).unwrap().len(), MAX_SECRET);
        assert_eq!(resolved(&[&most[..], b"\r\n"].concat()).unwrap().len(), MAX_SECRET);
        assert_eq!(resolved(&[&most[..], b"x"].concat()), Err("secret_malformed"));
        assert_eq!(resolved(&vec![b'x'; 10 * MAX_SECRET]), Err("secret_malformed"));
    }

    #[test]
    fn a_folder_or_a_pipe_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Source::File(folder.path().to_owned()).resolve().unwrap_err().kind(), "secret_file");
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert_eq!(Source::File(pipe).resolve().unwrap_err().kind(), "secret_file");
    }

    #[test]
    fn a_credential_comes_from_the_first_folder_that_has_it() {
        let (own, unit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = [own.path().to_owned(), unit.path().to_owned()];
        assert_eq!(credential("ak", &folders).unwrap_err().to_string(), Error::Credential("ak".to_owned()).to_string());
        std::fs::write(unit.path().join("certsyncd_ak"), "of the unit's folder\n").unwrap();
        assert_eq!(credential("ak", &folders).unwrap().expose_secret(), "of the unit's folder");
        std::fs::write(unit.path().join("ak"), "unit\n").unwrap();
        assert_eq!(credential("ak", &folders).unwrap().expose_secret(), "unit");
        std::fs::write(own.path().join("ak"), "own\n").unwrap();
        assert_eq!(credential("ak", &folders).unwrap().expose_secret(), "own");
        assert!(credential("../ak", &folders).is_err());
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = Source::Env("CERTSYNCD_TEST_NOT_SET".to_owned()).resolve().unwrap_err();
        assert_eq!(error.to_string(), "environment variable `CERTSYNCD_TEST_NOT_SET` is not set");
        assert_eq!(Source::Env("PATH".to_owned()).resolve().unwrap().expose_secret(), variable("PATH").unwrap());
    }

    #[test]
    fn no_error_and_no_debug_shows_it() {
        let (_folder, source) = file(b"hunter2\nhunter2");
        let error = source.resolve().unwrap_err();
        assert!(!format!("{error} {error:?} {:?}", error.hint()).contains("hunter2"));
        assert!(!format!("{0:?} {0}", Source::Plain(SecretString::from("hunter2"))).contains("hunter2"));
    }

    #[test]
    fn names_of_credentials_and_variables() {
        assert!(credential_name("scm-ak").is_ok() && credential_name(&"x".repeat(255)).is_ok());
        for bad in ["", ".", "..", "a/b", "/a", "a:b", "ä", "a\n", &"x".repeat(256)] {
            assert!(credential_name(bad).is_err(), "{bad:?}");
        }
        assert!(variable_name("_A1").is_ok());
        for bad in ["", "1A", "A-B", "$A", "A=B", "A\0"] {
            assert!(variable_name(bad).is_err(), "{bad:?}");
        }
    }
}

//! The vendor's `credentials` file: an ini file with the sections `[basic]` and `[global]`.
//!
//! Source: the vendor's SDK, "profile" credentials. Without a configured path: `$HUAWEICLOUD_SDK_CREDENTIALS_FILE`, then `~/.huaweicloud/credentials`.

use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::auth::AccessKey;
use crate::atomic;
use crate::config::secret::{self, Source};
use crate::provider::error::Cause;

/// The access key in the first of `sections` that has one.
pub(super) fn read(path: Option<&Path>, sections: [&str; 2]) -> Result<AccessKey, Cause> {
    let path = path.map_or_else(default_path, |path| Ok(path.to_owned())).map_err(Cause::Secret)?;
    let bytes = bytes(&path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Cause::Credential(format!("profile `{}` is no text", path.display())))?;
    sections.iter().find_map(|section| key(text, section)).ok_or_else(|| {
        Cause::Credential(format!(
            "profile `{}` has neither `[{}]` nor `[{}]` with `ak` and `sk`",
            path.display(),
            sections[0],
            sections[1]
        ))
    })
}

fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, Cause> {
    let unreadable = |source| Cause::Secret(secret::Error::File { path: path.to_owned(), source });
    match atomic::read(path, LIMIT) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(unreadable(io::ErrorKind::NotFound.into())),
        Err(atomic::Error::Io { source, .. }) => Err(unreadable(source)),
        Err(error) => Err(Cause::Credential(format!("profile {error}"))),
    }
}

fn default_path() -> Result<PathBuf, secret::Error> {
    let of = |name: &str| Source::Env(name.to_owned()).resolve().map(|value| PathBuf::from(value.expose_secret()));
    of("HUAWEICLOUD_SDK_CREDENTIALS_FILE").or_else(|_| of("HOME").map(|home| home.join(".huaweicloud/credentials")))
}

fn key(text: &str, section: &str) -> Option<AccessKey> {
    let value = |name: &str| value(text, section, name);
    Some(AccessKey {
        access: SecretString::from(value("ak")?),
        secret: SecretString::from(value("sk")?),
        security_token: value("security_token").map(SecretString::from),
        project_id: value("project_id").map(str::to_owned),
        domain_id: value("domain_id").map(str::to_owned),
    })
}

/// `name = value` in `[section]`; the last one counts, as in the vendor's SDK. Comments start with `#` or `;`.
fn value<'a>(text: &'a str, section: &str, name: &str) -> Option<&'a str> {
    let (mut inside, mut found) = (false, None);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(heading) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = heading.trim() == section;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside)
            && key.trim() == name
        {
            found = Some(value.trim()).filter(|value| !value.is_empty());
        }
    }
    found
}

/// Bytes of a profile.
const LIMIT: u64 = 64 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_bounded_and_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        let profile = "[basic]\nak = a\nsk = s\n";
        let longer = |by: u64| format!("{profile}{}", "#".repeat((LIMIT - profile.len() as u64 + by) as usize));
        let read = || read(Some(&path), ["basic", "global"]).map(drop).map_err(|cause| cause.to_string());
        std::fs::write(&path, longer(0)).unwrap();
        assert_eq!(read(), Ok(()));
        std::fs::write(&path, longer(1)).unwrap();
        assert_eq!(read(), Err(format!("profile `{}` is larger than {LIMIT} bytes", path.display())));
        let zero = super::read(Some(Path::new("/dev/zero")), ["basic", "global"]).map(drop).map_err(|cause| cause.to_string());
        assert_eq!(zero, Err("profile `/dev/zero` is no regular file, not a file".to_owned()));
    }
}

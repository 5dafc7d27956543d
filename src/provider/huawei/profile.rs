//! The vendor's `credentials` file: an ini file with the sections `[basic]` and `[global]`.
//!
//! Source: the vendor's SDK, "profile" credentials. Without a configured path: `$HUAWEICLOUD_SDK_CREDENTIALS_FILE`, then `~/.huaweicloud/credentials`.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::auth::AccessKey;
use crate::config::secret::{self, Source};
use crate::provider::error::Cause;

/// The access key in the first of `sections` that has one.
pub(super) fn read(path: Option<&Path>, sections: [&str; 2]) -> Result<AccessKey, Cause> {
    let path = path.map_or_else(default_path, |path| Ok(path.to_owned())).map_err(Cause::Secret)?;
    let unreadable = |source| Cause::Secret(secret::Error::File { path: path.clone(), source });
    if std::fs::metadata(&path).map_err(unreadable)?.len() > LIMIT {
        return Err(Cause::Credential(format!("profile `{}` has more than {LIMIT} bytes", path.display())));
    }
    let text = Zeroizing::new(std::fs::read_to_string(&path).map_err(unreadable)?);
    sections.iter().find_map(|section| key(&text, section)).ok_or_else(|| {
        Cause::Credential(format!(
            "profile `{}` has neither `[{}]` nor `[{}]` with `ak` and `sk`",
            path.display(),
            sections[0],
            sections[1]
        ))
    })
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

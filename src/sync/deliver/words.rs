//! What is said of targets, to people.

use crate::config::Target;
use crate::report::{Live, Served, TargetAction, TargetReport};

/// How a moment is written.
pub(super) const TIME: &str = "%Y-%m-%d %H:%M:%SZ";

/// Why a target waits whose addresses are closed, before as after.
pub(super) fn nobody_listens(target: &Target) -> String {
    let addresses = target.verify.iter().map(|address| format!("`{address}`")).collect::<Vec<_>>().join(", ");
    format!(
        "nothing listens on {addresses}: its server does not run (it reads the new files when it starts), or `verify` is wrong"
    )
}

pub(super) fn quiet(target: &Target) -> TargetReport {
    TargetReport {
        name: target.name.clone(),
        action: TargetAction::Unchanged,
        certificates: Vec::new(),
        error: None,
        pending: None,
    }
}

pub(super) fn describe(seen: &Served) -> String {
    match (&seen.fingerprint, &seen.error) {
        (Some(fingerprint), _) => format!("{} shows {} for `{}`", seen.address, fingerprint.short(), seen.name),
        (None, Some(error)) => format!("{} shows nothing for `{}`: {error}", seen.address, seen.name),
        (None, None) => format!("{} shows nothing for `{}`", seen.address, seen.name),
    }
}

/// Of an address that goes on with the certificate from before.
pub(super) fn still(seen: &Served) -> String {
    let leaf = seen.fingerprint.map(|leaf| format!(", {},", leaf.short())).unwrap_or_default();
    format!("{} still shows the previous one{leaf} for `{}`", seen.address, seen.name)
}

/// Where a server that said that all was well says why it was not.
pub(super) fn look_into_log(target: &Target) -> String {
    match &target.unit {
        Some(unit) => format!("its reload said that all was well: look into `journalctl -u {unit}` and the server's own log"),
        None => "its reload said that all was well: look into the server's log".to_owned(),
    }
}

/// Of a certificate that is live again: whether it is served again too.
pub(super) fn put_back(name: &str, old: &Live, seen: &[Served]) -> String {
    let put_back = format!("put back generation {} of `{name}`", old.generation);
    match seen.iter().find(|s| s.fingerprint != Some(old.fingerprint)) {
        None if seen.is_empty() => format!("{put_back}; without `verify` nobody knows what is served"),
        None => format!("{put_back}, which is served again"),
        Some(bad) => format!("{put_back}, but {}", describe(bad)),
    }
}

pub(super) fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

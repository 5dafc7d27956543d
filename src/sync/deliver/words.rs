//! What is said of targets, to people.

use std::sync::Arc;

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

/// Of certificates that are live again: whether they are served again too.
pub(super) fn put_back(back: &[(String, Arc<Live>, Vec<Served>)]) -> String {
    let what = match back {
        [(name, old, _)] => format!("put back generation {} of `{name}`", old.generation),
        _ => "put back the previous generation of each".to_owned(),
    };
    let seen = || back.iter().flat_map(|(_, old, seen)| seen.iter().map(move |seen| (old, seen)));
    match seen().find(|(old, seen)| seen.fingerprint != Some(old.fingerprint)) {
        None if seen().next().is_none() => format!("{what}; without `verify` nobody knows what is served"),
        None => format!("{what}, which is served again"),
        Some((_, bad)) => format!("{what}, but {}", describe(bad)),
    }
}

/// Names that are told in full.
const MAX_NAMES: usize = 16;

pub(super) fn quoted(names: &[String]) -> String {
    let told = names.iter().take(MAX_NAMES).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => told,
        rest => format!("{told} and {rest} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_names_are_not_all_told() {
        let names = |count: usize| quoted(&(0..count).map(|at| format!("n{at}")).collect::<Vec<_>>());
        assert_eq!(names(2), "`n0`, `n1`");
        assert!(names(MAX_NAMES).ends_with("`n14`, `n15`"));
        assert!(names(1_000).ends_with("`n14`, `n15` and 984 more"));
    }
}

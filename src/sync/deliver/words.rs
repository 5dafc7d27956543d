//! What is said of targets, to people.

use std::collections::BTreeMap;

use crate::config::Target;
use crate::report::{Failure, Live, Served, TargetAction, TargetReport};

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

pub(super) fn not_served(target: &Target, wrong: &BTreeMap<String, Vec<Served>>) -> Failure {
    let mut causes = vec![format!(
        "`{}` does not serve the new certificate of {}",
        target.name,
        quoted(&wrong.keys().cloned().collect::<Vec<_>>())
    )];
    causes.extend(wrong.values().flatten().take(4).map(describe));
    Failure { kind: "verify".to_owned(), causes, hint: None, transient: false }
}

pub(super) fn describe(seen: &Served) -> String {
    match (&seen.fingerprint, &seen.error) {
        (Some(fingerprint), _) => format!("{} shows {} for `{}`", seen.address, fingerprint.short(), seen.name),
        (None, Some(error)) => format!("{} shows nothing for `{}`: {error}", seen.address, seen.name),
        (None, None) => format!("{} shows nothing for `{}`", seen.address, seen.name),
    }
}

pub(super) fn served_now(name: &str, old: &Live, seen: &[Served]) -> String {
    match seen.iter().find(|s| s.fingerprint != Some(old.fingerprint)) {
        None if seen.is_empty() => format!("`{name}`: generation {} is live, and no address says what is served", old.generation),
        None => format!("`{name}`: generation {} is live and served again", old.generation),
        Some(bad) => format!("`{name}`: generation {} is live, but {}", old.generation, describe(bad)),
    }
}

pub(super) fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

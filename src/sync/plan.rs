//! What to do with an offered certificate: a pure function of what is installed, what is offered, the entry's demands and the time.
//!
//! Start at [`decide`]. It never fails: a certificate that must not go live is [`Decision::Refuse`]d or [`Decision::Hold`] back, with words.

use jiff::{SignedDuration, Timestamp};

use crate::certificate::{self, Bundle};
use crate::ledger::{Rejection, is_awaited};
use crate::report::{Failure, Fingerprint};

/// What counts of a bundle when two are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Of the leaf.
    pub fingerprint: Fingerprint,
    /// SHA-256 over everything that would be written.
    pub content: String,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
    /// A stand-in that certsyncd made itself: anything real replaces it.
    pub placeholder: bool,
}

impl Facts {
    /// Of a bundle.
    pub fn of(bundle: &Bundle) -> Facts {
        Facts {
            fingerprint: bundle.fingerprint(),
            content: bundle.content_hash(),
            not_before: bundle.not_before(),
            not_after: bundle.not_after(),
            placeholder: certificate::is_placeholder(bundle),
        }
    }
}

/// What the entry and the operator demand.
#[derive(Clone, Debug, Default)]
pub struct Policy<'a> {
    /// Names the entry asks for and the offered certificate does not cover.
    pub missing_names: Vec<String>,
    /// `sync --force NAME`: lifts "never earlier" and rejections; never key fit, names or bounds.
    pub insist: bool,
    /// What is remembered against the offered certificate.
    pub rejection: Option<&'a Rejection>,
}

/// What to do with the offered certificate.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Make it live.
    Install {
        /// In words, for `plan`.
        why: String,
    },
    /// It is live already.
    Unchanged,
    /// Not now.
    Hold {
        /// In words.
        why: String,
        /// When it may be looked at again; `None`: not by itself.
        until: Option<Timestamp>,
    },
    /// It must not go live.
    Refuse(Failure),
}

/// The longest gap before what a server refused is tried again.
pub const LONGEST_GAP: SignedDuration = SignedDuration::from_hours(24);

/// Whether a rejected certificate is not to be tried now.
pub fn is_out(rejection: &Rejection, now: Timestamp) -> bool {
    rejection.next_try.is_none_or(|at| is_awaited(at, now, LONGEST_GAP))
}

/// Decides what to do with `offered` while `installed` is live. `now` is the time that dates are judged by: where this host's clock is known
/// to be wrong, the provider's (decision 25).
pub fn decide(installed: Option<&Facts>, offered: &Facts, policy: &Policy<'_>, now: Timestamp) -> Decision {
    if !policy.missing_names.is_empty() {
        return Decision::Refuse(names_missing(&policy.missing_names));
    }
    let installed = installed.filter(|facts| !facts.placeholder);
    if installed.is_some_and(|facts| facts.content == offered.content) {
        return Decision::Unchanged;
    }
    if let Some(rejection) = policy.rejection.filter(|r| !policy.insist && r.fingerprint == offered.fingerprint)
        && is_out(rejection, now)
    {
        return Decision::Hold { why: format!("it was rejected: {}", rejection.why), until: rejection.next_try };
    }
    if offered.not_before > now {
        return Decision::Hold { why: format!("it is not valid before {}", offered.not_before), until: Some(offered.not_before) };
    }
    match installed {
        None => Decision::Install { why: first_install(offered, now) },
        Some(installed) => against(installed, offered, policy, now),
    }
}

fn first_install(offered: &Facts, now: Timestamp) -> String {
    if offered.not_after <= now {
        format!("nothing is installed, and although it ended on {} it is what the provider has", offered.not_after)
    } else {
        "nothing is installed".to_owned()
    }
}

fn against(installed: &Facts, offered: &Facts, policy: &Policy<'_>, now: Timestamp) -> Decision {
    if offered.fingerprint == installed.fingerprint {
        return Decision::Install { why: "its chain or key file changed".to_owned() };
    }
    if !policy.insist && offered.not_after < installed.not_after {
        return Decision::Refuse(ends_earlier(installed, offered, now));
    }
    Decision::Install { why: format!("it replaces {}, which ends on {}", installed.fingerprint.short(), installed.not_after) }
}

fn names_missing(missing: &[String]) -> Failure {
    let list = missing.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    Failure {
        kind: "names".to_owned(),
        causes: vec![format!("refused a certificate that does not cover {list}")],
        hint: Some("buy or reissue it with these names, or take them out of `names`".to_owned()),
        transient: false,
    }
}

fn ends_earlier(installed: &Facts, offered: &Facts, now: Timestamp) -> Failure {
    let what = if offered.not_after <= now { "has expired" } else { "ends earlier than the live one" };
    Failure {
        kind: "dates".to_owned(),
        causes: vec![format!(
            "refused certificate {} that {what}: it ends on {}, the live one {} on {}",
            offered.fingerprint.short(),
            offered.not_after,
            installed.fingerprint.short(),
            installed.not_after
        )],
        hint: Some("if it must go live all the same, run `certsyncd sync --force NAME`".to_owned()),
        transient: false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn facts(seed: u8, from: &str, to: &str) -> Facts {
        Facts {
            fingerprint: Fingerprint([seed; 32]),
            content: format!("content {seed}"),
            not_before: from.parse().unwrap(),
            not_after: to.parse().unwrap(),
            placeholder: false,
        }
    }

    fn now() -> Timestamp {
        "2026-11-22T00:00:00Z".parse().unwrap()
    }

    fn current() -> Facts {
        facts(1, "2026-01-01T00:00:00Z", "2026-12-31T00:00:00Z")
    }
    fn later() -> Facts {
        facts(2, "2026-11-01T00:00:00Z", "2027-11-01T00:00:00Z")
    }
    fn earlier() -> Facts {
        facts(3, "2026-01-01T00:00:00Z", "2026-12-01T00:00:00Z")
    }
    fn expired() -> Facts {
        facts(4, "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z")
    }
    fn not_yet() -> Facts {
        facts(5, "2026-11-23T00:00:00Z", "2027-11-01T00:00:00Z")
    }

    fn word(decision: &Decision) -> &'static str {
        match decision {
            Decision::Install { .. } => "install",
            Decision::Unchanged => "unchanged",
            Decision::Hold { .. } => "hold",
            Decision::Refuse(_) => "refuse",
        }
    }

    #[test]
    fn the_table() {
        let insist = Policy { insist: true, ..Policy::default() };
        let plain = Policy::default();
        let names = Policy { missing_names: vec!["a.example".into()], insist: true, ..Policy::default() };
        for (installed, offered, policy, expected) in [
            (None, later(), &plain, "install"),
            (None, expired(), &plain, "install"),
            (None, not_yet(), &plain, "hold"),
            (None, later(), &names, "refuse"),
            (Some(current()), current(), &plain, "unchanged"),
            (Some(current()), current(), &insist, "unchanged"),
            (Some(current()), later(), &plain, "install"),
            (Some(current()), earlier(), &plain, "refuse"),
            (Some(current()), earlier(), &insist, "install"),
            (Some(current()), expired(), &plain, "refuse"),
            (Some(current()), not_yet(), &plain, "hold"),
            (Some(current()), not_yet(), &insist, "hold"),
            (Some(expired()), later(), &plain, "install"),
            (Some(current()), later(), &names, "refuse"),
            (Some(Facts { placeholder: true, ..later() }), earlier(), &plain, "install"),
            (Some(current()), Facts { content: "another chain".into(), ..current() }, &plain, "install"),
        ] {
            let decision = decide(installed.as_ref(), &offered, policy, now());
            assert_eq!(word(&decision), expected, "{installed:?} {offered:?} {policy:?} -> {decision:?}");
        }
    }

    #[test]
    fn a_rejected_one_waits_for_its_time_or_for_the_operator() {
        let rejection = |next_try: Option<&str>| Rejection {
            fingerprint: later().fingerprint,
            id: None,
            why: "nginx said no".to_owned(),
            tries: 1,
            next_try: next_try.map(|t| t.parse().unwrap()),
        };
        let never = rejection(None);
        let soon = rejection(Some("2026-11-22T01:00:00Z"));
        let due = rejection(Some("2026-11-21T23:00:00Z"));
        let set_by_a_clock_that_ran_ahead = rejection(Some("2026-11-24T00:00:00Z"));
        for (rejection, insist, expected) in [
            (&never, false, "hold"),
            (&never, true, "install"),
            (&soon, false, "hold"),
            (&due, false, "install"),
            (&set_by_a_clock_that_ran_ahead, false, "install"),
        ] {
            let policy = Policy { rejection: Some(rejection), insist, ..Policy::default() };
            assert_eq!(word(&decide(Some(&current()), &later(), &policy, now())), expected, "{rejection:?} {insist}");
        }
    }

    #[test]
    fn a_refusal_says_both_ends() {
        let Decision::Refuse(failure) = decide(Some(&current()), &earlier(), &Policy::default(), now()) else { panic!() };
        let text = failure.to_string();
        assert!(text.contains("2026-12-01") && text.contains("2026-12-31"), "{text}");
    }
}

//! The English sentences.

use jiff::Timestamp;

use super::{Over, Story, Subject, Unit, Way, advice, date, distance, full_stop, only, quote, retry, shown};
use crate::report::{Failure, SuccessorNote};

pub(super) fn tell(subject: &Subject<'_>, story: &Story<'_>) -> String {
    match *story {
        Story::Expiring { until, flagged, way } => expiring(subject, until, flagged, &way),
        Story::Expired { until, way } => expired(subject, until, &way),
        Story::Stale { served, until, live_until } => stale(subject, &served.address, &served.name, until, live_until),
        Story::SyncFailed { passes, error, until } => sync_failed(subject, passes, error, until),
        Story::DeployFailed { target, certificates, error, hint, rolled_back, held } => {
            deploy_failed(subject.host, target, certificates, error, hint, rolled_back, held)
        }
        Story::Renewed { until, previous_id } => renewed(subject, until, previous_id),
        Story::SuccessorAvailable { successor, until } => successor_available(subject, successor, until),
        Story::Drift { changes } => drift(subject, changes),
        Story::ProviderDown { certificates, cause, hint, first } => provider_down(subject, certificates, cause, hint, first),
        Story::ConfigRefused(why) => config_refused(subject.host, &full_stop(&quote(why), '.')),
        Story::LedgerRebuilt(why) => ledger_rebuilt(subject.host, &full_stop(&quote(why), '.')),
        Story::ClockSkew(why) => clock_skew(subject.host, &full_stop(&quote(why), '.')),
        Story::Resolved(over) => resolved(subject, &over),
        Story::Test { channel } => test(subject.host, channel),
    }
}

fn expiring(subject: &Subject<'_>, until: Timestamp, flagged: bool, way: &Way<'_>) -> String {
    let source =
        if flagged { format!(" `{}` marks it as expiring.", subject.provider.unwrap_or("the provider")) } else { String::new() };
    let (when, day) = (within(subject.now, until), date(until));
    format!("{} ends {when}, on {day}.{source} {}", capital(&who(subject)), next(subject, way))
}

fn expired(subject: &Subject<'_>, until: Timestamp, way: &Way<'_>) -> String {
    let who = who(subject);
    let provider = subject.provider.unwrap_or("the provider");
    let what = if until <= subject.now {
        format!("{} ended {}, on {}: clients refuse it.", capital(&who), ago(subject.now, until), date(until))
    } else {
        format!(
            "`{provider}` says that {who} has expired, although its own date is {}: it may have been revoked. Look at it in the provider's console.",
            date(until)
        )
    };
    format!("{what} {}", next(subject, way))
}

fn stale(subject: &Subject<'_>, address: &str, sni: &str, until: Timestamp, live_until: Timestamp) -> String {
    let name = subject.certificate.unwrap_or_default();
    let end = if until <= subject.now {
        format!("that ended {}, on {}: clients refuse it", ago(subject.now, until), date(until))
    } else {
        format!("that ends {}, on {}", within(subject.now, until), date(until))
    };
    format!(
        "{address} on {} still serves an older certificate for `{sni}` (entry `{name}`) {end}. The one on disk is valid until {}, but the server has not \
         taken it up: run `certsyncd sync --force {name}`; if the old one is still served after that, restart the server.",
        subject.host,
        date(live_until)
    )
}

fn sync_failed(subject: &Subject<'_>, passes: u32, error: Option<&Failure>, until: Option<Timestamp>) -> String {
    let name = subject.certificate.unwrap_or_default();
    let passes = if passes > 1 { format!("{passes} passes in a row") } else { "the last pass".to_owned() };
    let left = match until {
        Some(until) if until > subject.now => {
            format!("What is live stays in service; it ends {}, on {}.", within(subject.now, until), date(until))
        }
        Some(until) => format!("What is live ended on {}: clients refuse it.", date(until)),
        None => "Nothing is live for it yet: a server that needs its files cannot start.".to_owned(),
    };
    let then = match error.and_then(|error| error.hint.as_deref()).map(|hint| advice(hint, Some(name))) {
        Some((hint, true)) => format!("To mend it: {}", full_stop(&hint, '.')),
        Some((hint, false)) => format!("To mend it: {} Then run `certsyncd sync {name}`.", full_stop(&hint, '.')),
        None => format!("Correct the cause, then run `certsyncd sync {name}`."),
    };
    let why = error.map_or_else(|| "no cause was told".to_owned(), |error| quote(&error.to_string()));
    format!(
        "{} could not be brought up to date from `{}` in {passes}: {} {left} {then}",
        capital(&who(subject)),
        subject.provider.unwrap_or("its provider"),
        full_stop(&why, '.')
    )
}

fn deploy_failed(
    host: &str,
    target: &str,
    certificates: &[String],
    error: &str,
    hint: Option<&str>,
    rolled_back: bool,
    held: Option<&str>,
) -> String {
    let what = if certificates.is_empty() { "its certificates".to_owned() } else { list(certificates) };
    let state = if rolled_back {
        "The previous certificate was put back and is live again."
    } else {
        "The server goes on with what it has loaded."
    };
    let held = held
        .map(|why| format!(" It is held now and not tried again by itself: {}", full_stop(&quote(why), '.')))
        .unwrap_or_default();
    let is_rejected = rolled_back || !held.is_empty();
    let (hint, says_how) = hint.map(|hint| advice(hint, only(certificates))).unwrap_or_default();
    let hint = if hint.is_empty() { hint } else { format!(" To mend it: {}", full_stop(&hint, '.')) };
    let retry = retry(certificates, is_rejected);
    let then = match is_rejected {
        _ if says_how => String::new(),
        true => format!(
            " Once the cause is mended, `{retry}` tries it again; another certificate from the provider is tried by itself."
        ),
        false => format!(" Once the cause is mended, it is tried again by itself, or at once with `{retry}`."),
    };
    format!("`{target}` on {host} did not take up {what}: {} {state}{held}{hint}{then}", full_stop(&quote(error), '.'))
}

fn renewed(subject: &Subject<'_>, until: Timestamp, previous_id: Option<&str>) -> String {
    let end = format!("{} ({})", date(until), span(subject.now, until));
    let ids = match (previous_id, subject.id) {
        (Some(old), Some(new)) => format!(" Its id changed from `{old}` to `{new}`; the configuration may stay as it is."),
        _ => String::new(),
    };
    let who = capital(&who(subject));
    format!("{who} has been renewed: another certificate is live, valid until {end}.{ids} Nothing is to be done.")
}

fn successor_available(subject: &Subject<'_>, successor: &SuccessorNote, until: Option<Timestamp>) -> String {
    let live = until
        .map(|until| format!("; the live one {} {}, on {}", ends(subject.now, until), within(subject.now, until), date(until)))
        .unwrap_or_default();
    format!("A renewal for {} waits for your decision: {}{live}. {}", who(subject), listed(successor), take(&successor.id))
}

fn drift(subject: &Subject<'_>, changes: &[String]) -> String {
    format!(
        "Someone else changed files of {}, and certsyncd put them right: {} If that was you, replace the certificate at the provider instead; \
         if not, find out who writes there.",
        who(subject),
        full_stop(&quote(&changes.join("; ")), '.')
    )
}

fn provider_down(
    subject: &Subject<'_>,
    certificates: &[String],
    cause: &str,
    hint: Option<&str>,
    first: Option<(&str, Timestamp)>,
) -> String {
    let provider = subject.provider.unwrap_or("a provider");
    let first = match first {
        Some((name, until)) if until > subject.now => {
            format!(
                " What is live stays in service; the first to end is `{name}`, {}, on {}.",
                within(subject.now, until),
                date(until)
            )
        }
        Some((name, until)) => format!(" `{name}` has already ended, on {}: clients refuse it.", date(until)),
        None => String::new(),
    };
    let hint = hint.map(|hint| format!(" To mend it: {}", full_stop(&quote(hint), '.'))).unwrap_or_default();
    let what = match certificates {
        [] => format!("`{provider}` does not serve {} as it should: {}", subject.host, full_stop(&quote(cause), '.')),
        [only] => format!(
            "Certificate `{only}` of `{provider}` on {} cannot be brought up to date: {}",
            subject.host,
            full_stop(&quote(cause), '.')
        ),
        many => format!(
            "{} certificates of `{provider}` on {} cannot be brought up to date, for one cause: {} Concerned: {}.",
            many.len(),
            subject.host,
            full_stop(&quote(cause), '.'),
            list(many)
        ),
    };
    format!("{what}{first}{hint} `certsyncd check --online` says what works and what does not.")
}

fn config_refused(host: &str, why: &str) -> String {
    format!(
        "The new configuration on {host} is not valid, and the old one goes on: {why} Correct the file until `certsyncd check` is content, then run \
         `systemctl reload certsyncd`. A restart before that would fail."
    )
}

fn ledger_rebuilt(host: &str, why: &str) -> String {
    format!(
        "certsyncd on {host} lost its memory of earlier passes and rebuilt it from the files on disk: {why} Certificates in service were not touched. \
         If nobody removed it by hand, look at the disk (`journalctl -k -p err`)."
    )
}

fn clock_skew(host: &str, why: &str) -> String {
    format!(
        "The clock of {host} is probably wrong: {why} Until it is right, nobody is told here that a certificate ends. Look at `timedatectl` and at the \
         time service."
    )
}

fn test(host: &str, channel: &str) -> String {
    format!("This is a test of channel `{channel}`, sent by certsyncd on {host} because someone asked for it. Nothing is wrong.")
}

fn resolved(subject: &Subject<'_>, over: &Over<'_>) -> String {
    let host = subject.host;
    let who = who(subject);
    let text = match *over {
        Over::Replaced(until) => {
            format!("{who} has another certificate in service, valid until {} ({})", date(until), span(subject.now, until))
        }
        Over::Valid(until) => format!("{who} counts as valid again, until {} ({})", date(until), span(subject.now, until)),
        Over::Fetched => format!("{who} is fetched from `{}` again without error", subject.provider.unwrap_or("its provider")),
        Over::Deployed(target) => format!("`{target}` on {host} has taken up its certificates"),
        Over::ProviderBack(provider) => format!("`{provider}` delivers its certificates to {host} again"),
        Over::ClockRight => format!("the clock of {host} is right again"),
        Over::ConfigAccepted => format!("the configuration on {host} is valid again and in use"),
        Over::Removed(what) => {
            format!("`{what}` is no longer in the configuration of {host}, and nobody watches it here any more")
        }
    };
    format!("Over: {text}. Nothing is to be done.")
}

/// What a person does about a certificate that ends.
fn next(subject: &Subject<'_>, way: &Way<'_>) -> String {
    if let Some(successor) = way.successor {
        return format!("A renewal waits for your decision: {}. {}", listed(successor), take(&successor.id));
    }
    let id = subject.id.map(|id| format!(", where its id is `{id}`")).unwrap_or_default();
    let order = format!(
        "Renew it at `{}`{id}; certsyncd installs the renewal by itself (unless its `successor` says otherwise), in the next pass or at once with `certsyncd sync {}`.",
        subject.provider.unwrap_or("the provider"),
        subject.certificate.unwrap_or_default()
    );
    let misses = match way.near_misses {
        [] => String::new(),
        misses => format!(" Seen, but not fit to install: {}", full_stop(&quote(&misses.join("; ")), '.')),
    };
    let error = way
        .error
        .map(|error| format!(" The last try to fetch failed: {}", full_stop(&quote(&error.to_string()), '.')))
        .unwrap_or_default();
    format!("{order}{misses}{error}")
}

fn listed(successor: &SuccessorNote) -> String {
    let until = successor.not_after.as_ref().map(|until| format!(" (listed as valid until {until})")).unwrap_or_default();
    format!("`{}`{until}", successor.id)
}

fn take(id: &str) -> String {
    format!("To take it, write `id = \"{id}\"` (or `successor = \"adopt\"`) in its entry and run `systemctl reload certsyncd`.")
}

/// ``certificate `api` (api.example.com) on web-1``.
fn who(subject: &Subject<'_>) -> String {
    let Some(name) = subject.certificate else { return format!("certsyncd on {}", subject.host) };
    let names = match shown(subject.names, subject.certificate) {
        (names, _) if names.is_empty() => String::new(),
        (names, 0) => format!(" ({})", names.join(", ")),
        (names, more) => format!(" ({} and {more} more)", names.join(", ")),
    };
    format!("certificate `{name}`{names} on {}", subject.host)
}

/// `` `a`, `b`, `c` and 297 more``.
fn list(names: &[String]) -> String {
    let (shown, more) = shown(names, None);
    let shown = shown.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// `in 9 days`, `within a minute`; of what has ended `9 days ago`.
fn within(now: Timestamp, until: Timestamp) -> String {
    match distance(now, until) {
        _ if until <= now => ago(now, until),
        None => "within a minute".to_owned(),
        Some(_) => format!("in {}", span(now, until)),
    }
}

/// `9 days ago`, `just now`.
fn ago(now: Timestamp, ended: Timestamp) -> String {
    distance(ended, now).map_or_else(|| "just now".to_owned(), |_| format!("{} ago", span(ended, now)))
}

fn ends(now: Timestamp, until: Timestamp) -> &'static str {
    if until <= now { "ended" } else { "ends" }
}

fn span(from: Timestamp, to: Timestamp) -> String {
    let Some((count, unit)) = distance(from, to) else { return "less than a minute".to_owned() };
    let unit = match unit {
        Unit::Day => "day",
        Unit::Hour => "hour",
        Unit::Minute => "minute",
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

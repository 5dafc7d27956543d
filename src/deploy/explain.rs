//! What a failed reload does not say: Debian's unit has haproxy check its configuration quietly (`-c -q`), so nothing of the reason reaches
//! the journal.
//!
//! Start at [`check`]. The same question is asked again aloud, as ourselves; what haproxy says then is words for people, and a name to begin
//! with for whoever looks for a culprit, never a verdict: files of others may be closed to us. Nothing here fails.

use std::time::Duration;

use super::command::{self, Words};
use super::{suspect, systemd};
use crate::config::{Target, TargetKind};

/// For the check.
const LIMIT: Duration = Duration::from_secs(10);

/// Where Debian's unit and those of other distributions have it, unless the unit's `CONFIG` says otherwise.
const CONFIGURATION: &str = "/etc/haproxy/haproxy.cfg";

/// What this host's haproxy says of its configuration, after the unit of a haproxy target did not reload; `None`: nothing is wrong with it
/// that we can see.
pub(super) async fn check(target: &Target) -> Option<Words> {
    if !matches!(target.kind, TargetKind::Haproxy { .. }) || target.unit.is_none() {
        return None;
    }
    let environment = systemd::environment(target).await.unwrap_or_default();
    let argv = ["haproxy", "-c", "-f", configuration(&environment)].map(str::to_owned);
    match command::run(&argv, target.timeout.min(LIMIT), &[], None).await {
        Err(command::Error::Code { words: Some(words), .. }) => suspect::errors(&words),
        _ => None,
    }
}

/// `CONFIG` in the answer of `systemctl show --property=Environment`: `Environment=CONFIG=/etc/haproxy/haproxy.cfg "EXTRAOPTS=-S x"`.
fn configuration(environment: &str) -> &str {
    let words = environment.split_whitespace().map(|word| word.trim_start_matches("Environment=").trim_matches('"'));
    words.filter_map(|word| word.strip_prefix("CONFIG=")).find(|path| path.starts_with('/')).unwrap_or(CONFIGURATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_configuration_is_found() {
        let debian =
            "Environment=CONFIG=/etc/haproxy/haproxy.cfg PIDFILE=/run/haproxy.pid \"EXTRAOPTS=-S /run/haproxy-master.sock\"\n";
        assert_eq!(configuration(debian), "/etc/haproxy/haproxy.cfg");
        assert_eq!(configuration("Environment=PIDFILE=/x CONFIG=/srv/edge.cfg\n"), "/srv/edge.cfg");
        for odd in ["", "Environment=\n", "Environment=CONFIG=relative", "XCONFIG=/x"] {
            assert_eq!(configuration(odd), CONFIGURATION, "{odd}");
        }
    }
}

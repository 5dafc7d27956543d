//! `check` and `polkit-rule`: what can be said of a configuration without touching anything.

use std::io::{self, IsTerminal};
use std::path::Path;

use crate::alert;
use crate::clock::Clock;
use crate::config::{self, Settings};
use crate::deploy;
use crate::provider::Client;

use super::{BAD_CONFIG, FAILED, OK, print};

pub(super) fn run(path: &Path, online: bool, quiet: bool) -> u8 {
    let settings = match config::check(path, io::stderr().is_terminal()) {
        Ok((settings, warnings)) => {
            if !warnings.is_empty() {
                print::line(warnings.trim_end());
            }
            settings
        }
        Err(refused) => {
            print::refused(&refused);
            return BAD_CONFIG;
        }
    };
    let wrong = alert::check(&settings.alerts.channels);
    for problem in &wrong {
        print::line(format!("error: {problem}"));
    }
    if !wrong.is_empty() {
        return BAD_CONFIG;
    }
    if !quiet && !online {
        print::out(settings.render());
    }
    if !online {
        return OK;
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(ask(&settings)),
        Err(_) => FAILED,
    }
}

/// Tries each provider, and says what is missing.
async fn ask(settings: &Settings) -> u8 {
    let mut code = OK;
    for provider in settings.providers.values() {
        let client = match Client::new(provider, Clock::system()) {
            Ok(client) => client,
            Err(error) => {
                print::line(print::failure(
                    &error.to_failure().context(format!("failed to prepare provider `{}`", provider.name)),
                ));
                code = FAILED;
                continue;
            }
        };
        for probe in client.probe().await {
            let mark = if probe.ok { "ok    " } else { "failed" };
            print::out(format!("{mark} {}: {}: {}", provider.name, probe.what, probe.words));
            if let Some(hint) = &probe.hint {
                print::out(format!("       hint: {hint}"));
            }
            if !probe.ok {
                code = FAILED;
            }
        }
    }
    code
}

pub(super) fn polkit_rule(settings: &Settings, user: &str) -> u8 {
    let mut units: Vec<String> = settings.targets.values().filter_map(|target| target.unit.clone()).collect();
    units.sort_unstable();
    units.dedup();
    if units.is_empty() {
        print::line("error: no target of the inventory is reloaded by systemctl, so there is nothing to permit");
        return FAILED;
    }
    print::out(deploy::polkit_rule(&units, user));
    OK
}

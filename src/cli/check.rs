//! `check` and `polkit-rule`: what can be said of a configuration without touching anything.

use std::io::{self, IsTerminal};

use crate::alert;
use crate::clock::Clock;
use crate::config::Settings;
use crate::deploy;
use crate::provider::Client;
use crate::report::Failure;

use super::{BAD_CONFIG, FAILED, OK, print};

pub(super) fn run(settings: Settings, online: bool, quiet: bool) -> u8 {
    for warning in settings.render_warnings(io::stderr().is_terminal()) {
        print::line(warning);
    }
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
                let failure = Failure::new(error.kind(), &error).hint(error.hint());
                print::line(print::failure(&failure.context(format!("failed to prepare provider `{}`", provider.name))));
                code = FAILED;
                continue;
            }
        };
        for probe in client.probe().await {
            let mark = if probe.ok { "ok    " } else { "failed" };
            print::out(format!("{mark} {}: {}", provider.name, probe.message));
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
    units.sort();
    units.dedup();
    if units.is_empty() {
        print::line("error: no target of the inventory is reloaded by systemctl, so there is nothing to permit");
        return FAILED;
    }
    print::out(deploy::polkit_rule(&units, user));
    OK
}

//! `alert test` and `alert history`.

use std::path::Path;

use crate::alert::{self, Outbox};
use crate::clock::Clock;
use crate::config::Settings;

use super::{FAILED, OK, USAGE, host, print};

pub(super) async fn test(settings: &Settings, channel: Option<&str>) -> u8 {
    let chosen: Vec<_> = settings.alerts.channels.iter().filter(|c| channel.is_none_or(|name| c.name == name)).collect();
    if chosen.is_empty() {
        let known = settings.alerts.channels.iter().map(|c| format!("`{}`", c.name)).collect::<Vec<_>>().join(", ");
        match channel {
            Some(name) => print::line(format!("error: no alert channel `{name}`\nhint: there is {known}")),
            None => print::line("error: no `[[alerts.channel]]` is configured; events go to the journal only"),
        }
        return USAGE;
    }
    let mut code = OK;
    for channel in chosen {
        match alert::test(channel, &host(), &Clock::system()).await {
            Ok(answer) => print::out(format!("ok     {}: {answer}", channel.name)),
            Err(error) => {
                print::out(format!("failed {}: {}", channel.name, error.line()));
                code = FAILED;
            }
        }
    }
    code
}

pub(super) fn history(state_dir: &Path, last: usize) -> u8 {
    let outbox = match Outbox::open(state_dir) {
        Ok(outbox) => outbox,
        Err(error) => {
            print::error(&error);
            return FAILED;
        }
    };
    let mut table = print::table(&["at", "event", "certificate", "channel", "outcome"]);
    for sent in outbox.history(last) {
        table.add_row([
            sent.at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            sent.event.to_string(),
            sent.certificate.unwrap_or_default(),
            sent.channel,
            sent.result.name().to_owned(),
        ]);
    }
    print::out(table.to_string());
    OK
}

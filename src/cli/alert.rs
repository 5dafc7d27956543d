//! `alert test` and `alert history`.

use std::path::Path;

use jiff::Timestamp;

use crate::alert::{self, Delivery, Outbox, Outcome, message};
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
    let history = outbox.history(last);
    if history.is_empty() {
        print::out("nothing has been told yet");
        return OK;
    }
    let mut table = print::table(&["at", "event", "about", "channel", "outcome", "answer"]);
    for sent in history {
        let how = outcome(&sent);
        table.add_row([
            stamp(sent.at),
            sent.event.to_string(),
            sent.target.or(sent.certificate).or(sent.provider).unwrap_or_default(),
            sent.channel,
            how,
            message::shorten(&message::quote(&sent.answer), ANSWER_SHOWN),
        ]);
    }
    print::out(table.to_string());
    OK
}

/// How it went; of what failed also how often, and when it is tried again.
fn outcome(sent: &Outcome) -> String {
    let tries = if sent.tries == 1 { "1 try".to_owned() } else { format!("{} tries", sent.tries) };
    match (sent.result, sent.next_try) {
        (Delivery::Sent | Delivery::Unavailable | Delivery::Dropped, _) => sent.result.name().to_owned(),
        (Delivery::Failed, Some(next)) => format!("failed ({tries}), again {}", stamp(next)),
        (Delivery::Failed, None) => format!("failed ({tries})"),
        (Delivery::GivenUp, _) => format!("given up after {tries}"),
    }
}

fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Characters of an answer that are shown; the journal has more.
const ANSWER_SHOWN: usize = 80;

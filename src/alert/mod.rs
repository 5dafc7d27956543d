//! Telling people: what is worth telling ([`rules`]), in which words ([`message`]), durably ([`Outbox`]), and by which way ([`send`]).
//!
//! ```text
//! report ─► rules::judge ─► outbox (on disk) ─► journal at once
//!                                └─ deliver ─► desktop · webhook · email · command, each alone, tried for a day
//! ```
//!
//! A pass calls [`Outbox::note`], which judges and files in one step; a task of its own waits for [`Outbox::due`] and calls
//! [`Outbox::deliver`]. Nothing here stops a pass: a channel that fails is tried again, told in the journal and counted.

pub mod error;
pub mod filter;
pub mod message;
pub mod rules;

mod command;
mod desktop;
mod email;
mod journal;
mod outbox;
mod sign;
mod template;
mod webhook;

use std::net::IpAddr;

use jiff::Timestamp;

pub use error::Error;
pub use outbox::{
    BACKOFF_FIRST, BACKOFF_MAX, Delivery, Entry, GIVE_UP_AFTER, HISTORY, LEAST_TRIES, Noted, Outbox, Outcome, Owed, QUEUE,
};
pub use template::check_template;
pub use webhook::{ANSWER_MAX, heartbeat};

use crate::clock::Clock;
use crate::config::{Channel, ChannelKind, EventKind};
use crate::report::Event;

/// Sends `event` over `channel` once, within the channel's time limit; what the other side answered.
pub async fn send(channel: &Channel, event: &Event) -> Result<String, Error> {
    send_at(channel, event, Clock::system().now()).await
}

/// Sends a marked test event; what the other side answered.
pub async fn test(channel: &Channel, host: &str, clock: &Clock) -> Result<String, Error> {
    send_at(channel, &test_event(channel, host, clock.now()), clock.now()).await
}

/// What `certsyncd alert test` sends: `event` is `test`, and the words say so.
pub fn test_event(channel: &Channel, host: &str, now: Timestamp) -> Event {
    let subject = message::Subject { host, certificate: None, names: &[], provider: None, id: None, now };
    let story = message::Story::Test { channel: &channel.name };
    rules::event(EventKind::Test, format!("{}/{}", EventKind::Test, channel.name), &subject, &story)
}

/// What cannot work in the channels' settings beyond what the configuration knows; one sentence each. Reads no secret.
pub fn check(channels: &[Channel]) -> Vec<String> {
    let problem = |channel: &Channel| {
        let wrong = match &channel.kind {
            ChannelKind::Webhook { template: Some(template), .. } => check_template(template).err(),
            ChannelKind::Email { host, encryption, from, to, .. } => {
                email::check(host, *encryption, from, to).err().map(|error| error.to_string())
            }
            _ => None,
        };
        wrong.map(|wrong| format!("alert channel `{}`: {wrong}", channel.name))
    };
    channels.iter().filter_map(problem).collect()
}

/// One attempt at `now`, which goes into signatures.
async fn send_at(channel: &Channel, event: &Event, now: Timestamp) -> Result<String, Error> {
    let attempt = async {
        match &channel.kind {
            ChannelKind::Desktop => desktop::send(channel, event).await,
            ChannelKind::Webhook { .. } => webhook::send(channel, event, now).await,
            ChannelKind::Email { .. } => email::send(channel, event).await,
            ChannelKind::Command { command } => command::send(command, channel.language, event).await,
        }
    };
    tokio::time::timeout(channel.timeout, attempt).await.unwrap_or(Err(Error::Timeout(channel.timeout)))
}

/// The event as the channel's reader shall see it: the message in the channel's language.
fn translated(event: &Event, language: crate::config::Language) -> Event {
    Event { message: message::text(event, language).to_owned(), ..event.clone() }
}

/// Whether a host name or address stays on this machine.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// TLS needs a crypto provider; `main` installs it first thing, and this makes sure wherever that did not run.
fn ensure_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // somebody else was faster: just as well
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

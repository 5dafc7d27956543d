//! A bubble on the desktop session's bus, over D-Bus.
//!
//! A later state of the same certificate takes the place of its earlier bubble: the notification service gives each bubble an id, which is
//! kept while this process lives; before the first one, an id made from the certificate's name stands in, so that bubbles of an earlier
//! process are replaced too where the service remembers them. No bus, or nobody on it, is [`Error::Unavailable`]: a server has no
//! desktop. Only ever `show_async`: `show` panics inside tokio (tokio issue 8250).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use notify_rust::{Hint, Notification, Timeout, Urgency};
use sha2::{Digest, Sha256};

use super::Error;
use super::message;
use crate::config::{Channel, Severity};
use crate::report::Event;

/// The bus is on this machine: no answer in this time means that there will be none.
pub const DESKTOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Shows the event; the bubble's id.
pub(super) async fn send(channel: &Channel, event: &Event) -> Result<String, Error> {
    let subject = subject(event);
    let id = shown().get(&subject).copied().unwrap_or_else(|| made_up(&subject));
    let notification = notification(channel, event, &subject, id);
    let handle = match tokio::time::timeout(DESKTOP_TIMEOUT, notification.show_async()).await {
        Ok(shown) => shown.map_err(|error| refusal(&error))?,
        Err(_) => {
            return Err(Error::Unavailable(format!("the session bus did not answer within {} s", DESKTOP_TIMEOUT.as_secs())));
        }
    };
    let id = handle.id();
    shown().insert(subject, id);
    Ok(format!("shown as notification {id}"))
}

fn notification(channel: &Channel, event: &Event, subject: &str, id: u32) -> Notification {
    let (urgency, icon, timeout) = match event.severity {
        Severity::Info => (Urgency::Low, "dialog-information", Timeout::Default),
        Severity::Warning => (Urgency::Normal, "dialog-warning", Timeout::Default),
        Severity::Critical => (Urgency::Critical, "dialog-error", Timeout::Never),
    };
    let mut notification = Notification::new();
    notification
        .appname("certsyncd")
        .summary(&message::title(event, channel.language))
        .body(&plain(message::text(event, channel.language)))
        .icon(icon)
        .urgency(urgency)
        .timeout(timeout)
        .hint(Hint::Category("network.error".to_owned()))
        // services that know it (dunst, mako) replace by this tag, whatever the id
        .hint(Hint::Custom("x-dunst-stack-tag".to_owned(), format!("certsyncd-{subject}")))
        .id(id);
    notification
}

/// Bodies may be read as markup: <https://specifications.freedesktop.org/notification-spec/latest/markup.html>.
fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What a bubble is about: later events about the same thing replace it.
fn subject(event: &Event) -> String {
    let thing = event.certificate.as_ref().map(|name| format!("certificate {name}"));
    let thing = thing.or_else(|| event.target.as_ref().map(|name| format!("target {name}")));
    let thing = thing.or_else(|| event.provider.as_ref().map(|name| format!("provider {name}")));
    thing.unwrap_or_else(|| event.event.name().to_owned())
}

/// Never 0 (that asks for a new bubble), and high, away from the small numbers that services hand out.
fn made_up(subject: &str) -> u32 {
    let digest = Sha256::digest(format!("certsyncd {subject}").as_bytes());
    let number = digest.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    number | 0x4000_0000
}

fn shown() -> std::sync::MutexGuard<'static, BTreeMap<String, u32>> {
    static SHOWN: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A service that answers with an error of its own is there and refuses; everything else means that nobody is.
fn refusal(error: &notify_rust::error::Error) -> Error {
    let words = message::quote(&error.to_string());
    let nobody = ["ServiceUnknown", "NameHasNoOwner", "Spawn", "NoReply"];
    let answered = words.contains("org.freedesktop.") && !nobody.iter().any(|name| words.contains(name));
    if answered { Error::Desktop(words) } else { Error::Unavailable(words) }
}

//! Who gets which event: severity, kind and certificate, as a channel's table says. Pure.

use crate::config::{Channel, EventKind};
use crate::report::Event;

/// Whether `channel` wants `event`. (`resolved` goes by who got the original, not by this: see [`crate::alert::Outbox`].)
pub fn accepts(channel: &Channel, event: &Event) -> bool {
    event.event == EventKind::Test || (severe_enough(channel, event) && wanted_kind(channel, event) && wanted_certificate(channel, event))
}

/// Names of the channels that want `event`.
pub fn recipients(channels: &[Channel], event: &Event) -> Vec<String> {
    channels.iter().filter(|channel| accepts(channel, event)).map(|channel| channel.name.clone()).collect()
}

fn severe_enough(channel: &Channel, event: &Event) -> bool {
    event.severity >= channel.min_severity
}

fn wanted_kind(channel: &Channel, event: &Event) -> bool {
    channel.events.is_empty() || channel.events.contains(&event.event)
}

/// What concerns no certificate at all (the clock, the configuration) concerns everybody.
fn wanted_certificate(channel: &Channel, event: &Event) -> bool {
    let mut subjects = event.certificate.iter().chain(&event.certificates).chain(&event.names).peekable();
    if channel.certificates.is_empty() || subjects.peek().is_none() {
        return true;
    }
    subjects.any(|subject| channel.certificates.iter().any(|pattern| matches(pattern, subject)))
}

/// Whether `pattern` (`*` stands for any run of characters, none included) is all of `text`; letter case does not count.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let mut pieces = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("api", "api", true),
            ("api", "api2", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.Example.com", "WWW.example.COM", true),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("*shop*", "my-shop-1", true),
            ("*.example.com", "*.example.com", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "`{pattern}` on `{text}`");
        }
    }
}

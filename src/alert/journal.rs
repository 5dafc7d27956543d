//! The journal: always on. One line per event, with fields that `journalctl EVENT=expired CERTIFICATE=api` finds.

use super::message;
use crate::config::Severity;
use crate::report::Event;

macro_rules! line {
    ($level:ident, $event:expr) => {
        tracing::$level!(
            EVENT = $event.event.name(),
            SEVERITY = message::severity($event.severity),
            CERTIFICATE = $event.certificate.as_deref(),
            CERTIFICATES = list(&$event.certificates),
            PROVIDER = $event.provider.as_deref(),
            TARGET = $event.target.as_deref(),
            CERTIFICATE_ID = $event.id.as_deref(),
            FINGERPRINT = $event.fingerprint.map(|fingerprint| fingerprint.to_string()),
            NOT_AFTER = $event.not_after.map(|end| end.to_string()),
            KEY = $event.key,
            "{}",
            $event.message
        )
    };
}

/// Writes the event, at info, warn or error by its severity.
pub(super) fn tell(event: &Event) {
    match event.severity {
        Severity::Info => line!(info, event),
        Severity::Warning => line!(warn, event),
        Severity::Critical => line!(error, event),
    }
}

/// Only where there is more than the one in `CERTIFICATE`.
fn list(certificates: &[String]) -> Option<String> {
    (certificates.len() > 1).then(|| certificates.join(" "))
}

//! What shall be told, to whom, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::secret::Source;

/// `[alerts]`.
#[derive(Clone, Debug)]
pub struct Alerts {
    /// Days left; descending.
    pub thresholds: Vec<u32>,
    /// How often what goes on is repeated.
    pub remind: Duration,
    /// Failing passes before `sync_failed`; at least 1.
    pub after_failures: u32,
    /// Called after each good pass.
    pub heartbeat_url: Option<Source>,
    /// `[[alerts.channel]]`.
    pub channels: Vec<Channel>,
}

/// `[[alerts.channel]]`.
#[derive(Clone, Debug)]
pub struct Channel {
    /// `name`, else the kind with a number (`webhook-1`); unique.
    pub name: String,
    /// How it is sent.
    pub kind: ChannelKind,
    /// Milder events are not sent here.
    pub min_severity: Severity,
    /// Only these; empty: all.
    pub events: Vec<EventKind>,
    /// Only for certificates whose name, or a name they cover, matches one of these patterns (`*` matches any run); empty: all.
    pub certificates: Vec<String>,
    /// Of the message.
    pub language: Language,
    /// Bound of one attempt.
    pub timeout: Duration,
}

/// How a channel is sent.
#[derive(Clone, Debug)]
pub enum ChannelKind {
    /// A bubble on the desktop session's bus.
    Desktop,
    /// One POST per event.
    Webhook {
        /// Where; a secret, since these URLs carry tokens.
        url: Source,
        /// What the other side expects.
        format: WebhookFormat,
        /// Further headers.
        headers: BTreeMap<String, Source>,
        /// Signs the message where the format has a signature (DingTalk, Feishu), or as `X-Certsyncd-Signature` (json).
        secret: Option<Source>,
        /// Body with `{field}` places, instead of the format's own.
        template: Option<String>,
    },
    /// Mail.
    Email {
        /// Mail server.
        host: String,
        /// Its port.
        port: u16,
        /// How the connection is protected.
        encryption: Encryption,
        /// User name, where the server wants one.
        username: Option<Source>,
        /// Its password.
        password: Option<Source>,
        /// Sender.
        from: String,
        /// Receivers.
        to: Vec<String>,
    },
    /// A program; the event on stdin.
    Command {
        /// Argument vector, never empty.
        command: Vec<String>,
    },
}

/// What a webhook's other side expects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// The event itself.
    #[default]
    Json,
    /// Slack and what speaks like it.
    Slack,
    /// DingTalk's robot.
    Dingtalk,
    /// Feishu's robot.
    Feishu,
    /// WeCom's robot.
    Wecom,
}

/// How mail travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// STARTTLS, required.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// None; only to a loopback address.
    None,
}

/// Language of alert messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Chinese.
    Zh,
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// To be looked at in working hours.
    Warning,
    /// To be looked at now.
    Critical,
}

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The provider says `Valid` = 2, or a threshold is crossed.
    Expiring,
    /// The provider says `Valid` = 0, or the installed certificate is past its end.
    Expired,
    /// A certificate could not be fetched, unpacked, or was refused.
    SyncFailed,
    /// Test, reload or verification failed.
    DeployFailed,
    /// Another certificate went live.
    Renewed,
    /// `successor = "warn"` and there is one.
    SuccessorAvailable,
    /// Files under `live/` were changed by someone else, and were put right.
    Drift,
    /// What was alerted is over.
    Resolved,
    /// Many certificates fail for one provider's cause.
    ProviderDown,
    /// A new configuration is not valid; the old one goes on.
    ConfigRefused,
    /// The ledger was damaged or missing, and was rebuilt from disk.
    LedgerRebuilt,
    /// The provider's clock and ours are far apart.
    ClockSkew,
    /// `certsyncd alert test`.
    Test,
}

impl EventKind {
    /// Every kind, in the order of the contract.
    pub const ALL: [EventKind; 13] = [
        EventKind::Expiring,
        EventKind::Expired,
        EventKind::SyncFailed,
        EventKind::DeployFailed,
        EventKind::Renewed,
        EventKind::SuccessorAvailable,
        EventKind::Drift,
        EventKind::Resolved,
        EventKind::ProviderDown,
        EventKind::ConfigRefused,
        EventKind::LedgerRebuilt,
        EventKind::ClockSkew,
        EventKind::Test,
    ];

    /// The name in configuration, webhooks and the journal.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Expiring => "expiring",
            EventKind::Expired => "expired",
            EventKind::SyncFailed => "sync_failed",
            EventKind::DeployFailed => "deploy_failed",
            EventKind::Renewed => "renewed",
            EventKind::SuccessorAvailable => "successor_available",
            EventKind::Drift => "drift",
            EventKind::Resolved => "resolved",
            EventKind::ProviderDown => "provider_down",
            EventKind::ConfigRefused => "config_refused",
            EventKind::LedgerRebuilt => "ledger_rebuilt",
            EventKind::ClockSkew => "clock_skew",
            EventKind::Test => "test",
        }
    }

    /// The severity of the contract's table.
    pub fn severity(self) -> Severity {
        match self {
            EventKind::Expired | EventKind::DeployFailed => Severity::Critical,
            EventKind::Renewed | EventKind::Resolved | EventKind::Test => Severity::Info,
            _ => Severity::Warning,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

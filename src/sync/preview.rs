//! What a pass would do, without doing it: asks the providers, changes nothing.

use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::config::{Target, TargetKind};
use crate::ledger::Ledger;
use crate::report::Fingerprint;

use super::context::Context;
use super::deliver::{is_urgent, not_running, rests};
use super::done::Done;
use super::gather::{Finding, Verdict};
use super::{Error, Scope, Syncer, window};

/// `plan --json`, version 1.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    /// Always 1.
    pub version: u32,
    /// One for each entry, in the inventory's order.
    pub certificates: Vec<CertificatePreview>,
    /// One for each target of those entries.
    pub targets: Vec<TargetPreview>,
}

/// What would happen to one certificate.
#[derive(Clone, Debug, Serialize)]
pub struct CertificatePreview {
    /// The entry's name.
    pub name: String,
    /// `install`, `adopt`, `unchanged`, `hold` or `refuse`.
    pub action: &'static str,
    /// In words.
    pub why: String,
    /// The provider's id.
    pub id: Option<String>,
    /// Of the leaf that would be live.
    pub fingerprint: Option<Fingerprint>,
}

/// What would happen to one target.
#[derive(Clone, Debug, Serialize)]
pub struct TargetPreview {
    /// The table's name.
    pub name: String,
    /// `reload`, `update`, `none` or `wait`.
    pub action: &'static str,
    /// In words.
    pub why: String,
}

impl Syncer {
    /// Says for each entry of `scope` and its targets what a pass would do, and why.
    pub async fn plan(&self, scope: &Scope) -> Result<Preview, Error> {
        self.check_names(scope)?;
        let ledger = Ledger::peek(self.store.root())?.ledger;
        let context = Arc::new(self.context(scope, &CancellationToken::new()).await);
        let mut certificates = Vec::new();
        let mut changing = Vec::new();
        for entry in context.entries() {
            let preview = self.preview_one(&context, entry, &ledger).await;
            if matches!(preview.action, "install" | "adopt") {
                changing.push(entry.name.clone());
            }
            certificates.push(preview);
        }
        let wanted = |target: &&Target| context.entries().any(|entry| entry.deploy.contains(&target.name));
        let mut targets = Vec::new();
        for target in self.settings.targets.values().filter(wanted) {
            targets.push(self.preview_target(target, &context, &ledger, &changing).await);
        }
        Ok(Preview { version: 1, certificates, targets })
    }

    async fn preview_one(&self, context: &Context, entry: &crate::config::Certificate, ledger: &Ledger) -> CertificatePreview {
        let record = ledger.certificates.get(&entry.name).map(|record| (**record).clone()).unwrap_or_default();
        let before = record.id.clone();
        let held = record.open.held.clone();
        let mut done = Done::new(Arc::new(entry.clone()), record);
        done.live = self.store.live(&entry.name).ok().flatten();
        let finding = context.find(&done).await;
        let live = done.live.as_ref().map(|live| live.bundle.fingerprint());
        describe(entry.name.clone(), finding, before, live, held)
    }

    async fn preview_target(&self, target: &Target, context: &Context, ledger: &Ledger, changing: &[String]) -> TargetPreview {
        let members: Vec<_> = context.entries().filter(|entry| entry.deploy.contains(&target.name)).collect();
        let changed: Vec<String> =
            members.iter().filter(|e| changing.contains(&e.name)).map(|e| format!("`{}`", e.name)).collect();
        let pending = ledger.targets.get(&target.name).and_then(|record| record.pending.clone());
        let untold = members.iter().find(|entry| {
            let record = ledger.certificates.get(&entry.name);
            let live = record.and_then(|record| record.live.as_ref()).map(|live| live.fingerprint);
            live.is_some() && record.and_then(|record| record.targets.get(&target.name)).and_then(|told| told.reloaded) != live
        });
        let why = match (changed.is_empty(), pending, untold, context.force) {
            (false, ..) => format!("{} would change", changed.join(", ")),
            (_, Some(why), ..) => why,
            (_, _, Some(entry), _) => format!("it was never told of `{}`", entry.name),
            (_, _, _, true) => "forced".to_owned(),
            _ => return TargetPreview { name: target.name.clone(), action: "none", why: "nothing changed for it".to_owned() },
        };
        let urgent = members.iter().filter_map(|entry| ledger.certificates.get(&entry.name)).any(|record| {
            let served = record.targets.get(&target.name).into_iter().flat_map(|told| &told.served);
            served.filter_map(|seen| seen.not_after).any(|end| is_urgent(end, context.now))
        });
        let closed = target
            .window
            .as_ref()
            .filter(|window| !urgent && !window::is_open(window, &self.settings.daemon.timezone, context.now));
        let waits = match closed {
            Some(window) => Some(format!("its window is `{}`", window.text)),
            // As a pass asks just before it tells a target.
            None => match not_running(target).await {
                None => rests(ledger.targets.get(&target.name), target, context.now),
                why => why,
            },
        };
        let (action, why) = match (waits, &target.kind) {
            (Some(waits), _) => ("wait", format!("{why}; {waits}")),
            (None, TargetKind::Haproxy { socket: Some(socket) }) => (
                "update",
                format!("{why}; {}, then in place over `{}`, else {}", staged(target), socket.display(), steps(target)),
            ),
            (None, _) => ("reload", format!("{why}; {}, then {}", staged(target), steps(target))),
        };
        TargetPreview { name: target.name.clone(), action, why }
    }
}

/// How new pairs are tried before they are live, as [`crate::deploy::stage`] and [`crate::deploy::stage_all`] do.
fn staged(target: &Target) -> &'static str {
    match target.kind {
        TargetKind::Haproxy { .. } => "new pairs are tried by a TLS signature in memory and by `haproxy -c`",
        TargetKind::Nginx => "new pairs are tried by a TLS signature in memory and by `nginx -t`",
        TargetKind::Command => "new pairs are tried by a TLS signature in memory",
    }
}

/// What telling a target consists of.
fn steps(target: &Target) -> String {
    let test = target.test.as_ref().map(|test| format!("test `{}`, ", test.join(" "))).unwrap_or_default();
    let look = if target.verify.is_empty() { "" } else { ", and a look at what is served" };
    format!("{test}reload `{}`{look}", target.reload.join(" "))
}

fn describe(
    name: String,
    finding: Finding,
    before: Option<String>,
    live: Option<Fingerprint>,
    held: Option<String>,
) -> CertificatePreview {
    let adopted = before.filter(|before| Some(before) != finding.id.as_ref());
    let (action, why, fingerprint) = match finding.verdict {
        Verdict::Install { bundle, why } => match adopted {
            Some(before) => ("adopt", format!("it is the renewal of `{before}`: {why}"), Some(bundle.fingerprint())),
            None => ("install", why, Some(bundle.fingerprint())),
        },
        Verdict::Unchanged => ("unchanged", "what is live is what the provider has".to_owned(), live),
        Verdict::Hold { bundle, why, .. } => ("hold", why, Some(bundle.fingerprint())),
        Verdict::StillHeld => ("hold", held.unwrap_or_else(|| "it is held".to_owned()), live),
        Verdict::Failed(failure) => ("refuse", failure.to_string(), live),
    };
    CertificatePreview { name, action, why, id: finding.id, fingerprint }
}

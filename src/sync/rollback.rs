//! The way back by hand: an earlier generation goes live again and is deployed.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::Certificate;
use crate::ledger::{Hashes, Ledger, Rejection};
use crate::report::{Action, CertificateReport, Report};
use crate::store::Installed;

use super::deliver::{Change, Delivery, Stage, unfit};
use super::pass::ledger_rebuilt;
use super::{Error, LOCK_WAIT, Memory, Scope, Syncer, live};

impl Syncer {
    /// Puts the previous generation of `name` (or the one named `to`) live again and tells its targets. What was rolled back from is
    /// not installed again until the provider has another one, or `sync --force NAME`.
    pub async fn rollback(&self, name: &str, to: Option<&str>, stop: &CancellationToken) -> Result<Report, Error> {
        self.check_names(&Scope { names: Some([name.to_owned()].into()), ..Scope::default() })?;
        let entry = self
            .settings
            .certificates
            .iter()
            .find(|entry| entry.name == name)
            .ok_or_else(|| Error::UnknownName(name.to_owned()))?;
        let _lock = self.lock(LOCK_WAIT, stop).await?;
        let started = self.clock.now();
        let Memory { mut ledger, .. } = self.memory()?;
        let live = self.store.live(name).ok().flatten();
        let earlier = self.earlier(name, live.as_ref(), to)?;
        self.remember_rollback(&mut ledger, entry, live.as_ref(), &earlier);
        // Before the link moves: a link that is older than the ledger says would be put back by the next pass, a newer one would not.
        ledger.save(self.store.root())?;
        let change = Change {
            entry: Arc::new(entry.clone()),
            id: None,
            shown: live::live_of(&earlier),
            unfit: unfit(&earlier),
            new: earlier,
            old: live,
            stage: Stage::Staged,
            error: None,
        };
        let mut delivery = Delivery::new(&self.settings, &self.store, &self.clock, &mut ledger, stop, &|_| ());
        delivery.by_hand = true;
        delivery.entries = BTreeMap::from([(entry.name.as_str(), entry)]);
        delivery.changes = BTreeMap::from([(entry.name.clone(), change)]);
        let delivered = delivery.run().await;
        let certificates = delivered.changes.values().map(|change| report(entry, change, &ledger)).collect();
        let report = Report {
            started,
            finished: self.clock.now(),
            whole: false,
            certificates,
            targets: delivered.targets,
            incidents: ledger_rebuilt(&ledger).into_iter().collect(),
            requests: 0,
            calls: BTreeMap::new(),
        };
        self.conclude(ledger, &report, None)?;
        Ok(report)
    }

    /// The generation to go back to.
    fn earlier(&self, name: &str, live: Option<&Installed>, to: Option<&str>) -> Result<Installed, Error> {
        let generations = self.store.generations(name)?;
        let chosen = match (to, live) {
            (Some(to), _) => generations
                .iter()
                .find(|generation| *generation == to)
                .ok_or_else(|| Error::NoGeneration { name: name.to_owned(), generation: to.to_owned() })?,
            (None, Some(live)) => {
                let before = generations.iter().rev().skip_while(|generation| **generation != live.generation).nth(1);
                before.ok_or_else(|| Error::NoEarlier(name.to_owned()))?
            }
            (None, None) => generations.last().ok_or_else(|| Error::NoEarlier(name.to_owned()))?,
        };
        Ok(self.store.read(name, chosen)?)
    }

    fn remember_rollback(&self, ledger: &mut Ledger, entry: &Certificate, live: Option<&Installed>, earlier: &Installed) {
        let record = ledger.certificates.entry(entry.name.clone()).or_default();
        record.open.rejected.retain(|rejection| rejection.fingerprint != earlier.bundle.fingerprint());
        record.live = Some(live::live_of(earlier));
        record.hashes = Hashes::from(&earlier.hashes);
        record.seal = None;
        let Some(live) = live.filter(|live| live.bundle.fingerprint() != earlier.bundle.fingerprint()) else { return };
        let fingerprint = live.bundle.fingerprint();
        record.open.rejected.retain(|rejection| rejection.fingerprint != fingerprint);
        record.open.rejected.push(Rejection {
            fingerprint,
            id: record.id.clone(),
            why: "rolled back by hand".to_owned(),
            tries: 1,
            next_try: None,
        });
        record.open.held = Some("rolled back by hand; another certificate or `sync --force NAME` ends this".to_owned());
        record.open.held_until = None;
    }
}

fn report(entry: &Certificate, change: &Change, ledger: &Ledger) -> CertificateReport {
    let record = ledger.certificates.get(&entry.name).cloned().unwrap_or_default();
    CertificateReport {
        name: entry.name.clone(),
        provider: entry.provider.clone(),
        action: if change.error.is_some() { Action::Failed } else { Action::Installed },
        id: record.id,
        previous_id: None,
        first: false,
        made_up: false,
        live: record.live,
        valid: record.valid,
        error: change.error.clone(),
        held: record.open.held.clone(),
        successor: record.open.successor.clone(),
        near_misses: Vec::new(),
        drift: record.open.drift.clone(),
        served: record.targets.values().flat_map(|told| told.served.iter().cloned()).collect(),
        notes: Vec::new(),
    }
}

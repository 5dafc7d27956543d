//! What is served: looked at before anything moves, after it did, and kept as the measure of the next pass.
//!
//! Only pairs of address and name that showed the old certificate must show the new one.

use std::collections::BTreeMap;

use crate::config::{Certificate, Target, VerifyAddress};
use crate::deploy::{self, Expected};
use crate::ledger::Delivery as Told;
use crate::report::{Fingerprint, Served, TargetAction, TargetReport};

use super::Delivery;
use super::words::{describe, nobody_listens};

/// Names looked at per certificate and address at most.
const MAX_NAMES: usize = 16;

impl Delivery<'_> {
    /// Looks for what each entry had live until now: two entries may share a name, one with an RSA and one with an EC key.
    pub(super) async fn look_before(&mut self, targets: &[Target]) {
        for target in targets {
            let (mut owners, mut expected) = (Vec::new(), Vec::new());
            for entry in self.members(target) {
                let live = self.old_leaf(&entry.name).or_else(|| self.target_live(&entry.name).map(|live| live.fingerprint));
                let Some(fingerprint) = live else { continue };
                for (address, sni) in self.pairs(target, &self.names(target, entry)) {
                    expected.push(Expected { address, name: sni, fingerprint });
                    owners.push(&entry.name);
                }
            }
            for (owner, seen) in owners.iter().zip(deploy::look_for(&expected, target.timeout).await) {
                self.before.keep(target, owner, &[seen]);
            }
            self.after.take_over(target, &self.before);
            self.step();
        }
    }

    /// Looks at what is served, all at once; what used to be right and is not now goes back.
    pub(super) async fn verify(&mut self, target: &Target, action: TargetAction, changed: &[String]) -> TargetReport {
        let members: Vec<_> = self.members(target).collect();
        let mut expected = Vec::new();
        let mut owners = Vec::new();
        for entry in &members {
            let Some(live) = self.target_live(&entry.name) else { continue };
            for (address, sni) in self.expected_pairs(target, &entry.name, &self.names(target, entry)) {
                expected.push(Expected { address, name: sni, fingerprint: live.fingerprint });
                owners.push(&entry.name);
            }
        }
        self.step();
        let seen = deploy::wait_all(&expected, target.timeout).await;
        self.step();
        let mut wrong: BTreeMap<String, Vec<Served>> = BTreeMap::new();
        for ((owner, expected), seen) in owners.into_iter().zip(&expected).zip(seen) {
            self.after.keep(target, owner, std::slice::from_ref(&seen));
            if seen.fingerprint != Some(expected.fingerprint) {
                wrong.entry(owner.clone()).or_default().push(seen);
            }
        }
        for entry in members {
            let name = &entry.name;
            if let Some(live) = self.target_live(name) {
                let shown = self.after.of(target, name).iter().any(|seen| seen.fingerprint == Some(live.fingerprint));
                if shown && !self.was_known(target, entry) {
                    // Nothing showed it before: one address that shows it is proof enough, the others never did.
                    wrong.remove(name);
                }
                self.note_reloaded(target, name, &live, shown && !wrong.contains_key(name));
            }
        }
        if wrong.is_empty() {
            return self.done(target, action, changed);
        }
        if self.nothing_listened(target) && wrong.values().flatten().all(|seen| seen.closed) {
            return self.leave_pending(target, nobody_listens(target));
        }
        self.put_back(target, wrong, changed).await
    }

    /// Whether some pair of an entry showed its certificate, the old or the live one, before this pass moved anything.
    fn was_known(&self, target: &Target, entry: &Certificate) -> bool {
        self.pairs(target, &self.names(target, entry)).iter().any(|pair| self.showed(target, &entry.name, pair))
    }

    /// The pairs of address and name that must show the live leaf: those that showed it or the one before; where none did, all are asked.
    pub(super) fn expected_pairs(&self, target: &Target, name: &str, names: &[String]) -> Vec<(VerifyAddress, String)> {
        let all = self.pairs(target, names);
        let known: Vec<_> = all.iter().filter(|pair| self.showed(target, name, pair)).cloned().collect();
        if known.is_empty() { all } else { known }
    }

    /// The names by which to look for an entry's certificate; none where the target has no address to look at.
    fn names(&self, target: &Target, entry: &Certificate) -> Vec<String> {
        let live = self.target_live(&entry.name).filter(|_| !target.verify.is_empty());
        live.map(|live| sni_names(&live.names, &entry.names)).unwrap_or_default()
    }

    fn pairs(&self, target: &Target, names: &[String]) -> Vec<(VerifyAddress, String)> {
        target.verify.iter().flat_map(|address| names.iter().map(move |name| (address.clone(), name.clone()))).collect()
    }

    /// Whether one address showed one name the old or the live certificate of an entry, just before or in an earlier pass.
    fn showed(&self, target: &Target, name: &str, (address, sni): &(VerifyAddress, String)) -> bool {
        let old = self.old_leaf(name);
        let live = self.target_live(name).map(|live| live.fingerprint);
        let told = self.ledger.certificates.get(name).and_then(|record| record.targets.get(&target.name));
        let now = self.before.of(target, name).iter();
        let then = told.into_iter().flat_map(|told| &told.served);
        let address = address.to_string();
        now.chain(then)
            .filter(|s| s.address == address && s.name == *sni)
            .any(|s| s.fingerprint.is_some() && (s.fingerprint == old || s.fingerprint == live))
    }

    /// Keeps what was seen in the ledger: the measure of the next pass.
    pub(super) fn remember_served(&mut self, targets: &[Target]) {
        for target in targets {
            let members: Vec<_> = self.members(target).collect();
            for Certificate { name, .. } in members {
                let mine = self.after.of(target, name).to_vec();
                let live = self.target_live(name).map(|live| live.fingerprint);
                let told: &mut Told = self.ledger.certificates.entry(name.clone()).or_default().targets.of(&target.name);
                warn_once(target, told, &mine, live);
                // What was right once stays the measure while the address is silent.
                told.served = mine
                    .into_iter()
                    .map(|new| keep_measure(told.served.iter().find(|old| same_pair(old, &new)), new, live))
                    .collect();
            }
        }
        if !targets.is_empty() {
            self.save();
        }
    }
}

/// What was seen, by target and entry.
#[derive(Default)]
pub(super) struct Seen(BTreeMap<String, BTreeMap<String, Vec<Served>>>);

impl Seen {
    pub(super) fn of(&self, target: &Target, name: &str) -> &[Served] {
        self.0.get(&target.name).and_then(|entries| entries.get(name)).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn all(&self, target: &Target) -> impl Iterator<Item = &Served> {
        self.0.get(&target.name).into_iter().flat_map(|entries| entries.values().flatten())
    }

    /// The newer answer of an address for a name takes the older one's place.
    pub(super) fn keep(&mut self, target: &Target, name: &str, seen: &[Served]) {
        let all = self.0.entry(target.name.clone()).or_default().entry(name.to_owned()).or_default();
        for new in seen {
            match all.iter_mut().find(|old| same_pair(old, new)) {
                Some(old) => *old = new.clone(),
                None => all.push(new.clone()),
            }
        }
    }

    /// All of a target as the other one has it.
    pub(super) fn take_over(&mut self, target: &Target, other: &Seen) {
        self.0.insert(target.name.clone(), other.0.get(&target.name).cloned().unwrap_or_default());
    }
}

/// Names to send as SNI: the entry's own first; a wildcard is no SNI, so a name under it stands for it.
pub(super) fn sni_names(covered: &[String], wanted: &[String]) -> Vec<String> {
    let concrete = wanted.iter().chain(covered).filter(|name| !name.contains('*') && name.parse::<std::net::IpAddr>().is_err());
    let mut names: Vec<String> = Vec::new();
    for name in concrete {
        if !names.contains(name) && names.len() < MAX_NAMES {
            names.push(name.clone());
        }
    }
    if names.is_empty() {
        names.extend(covered.iter().find_map(|name| name.strip_prefix("*.")).map(|parent| format!("www.{parent}")));
    }
    names
}

pub(super) fn same_pair(one: &Served, other: &Served) -> bool {
    one.address == other.address && one.name == other.name
}

fn keep_measure(old: Option<&Served>, new: Served, live: Option<Fingerprint>) -> Served {
    match old {
        Some(old) if new.fingerprint.is_none() && old.fingerprint.is_some() && old.fingerprint == live => {
            Served { fingerprint: old.fingerprint, not_after: old.not_after, ..new }
        }
        _ => new,
    }
}

/// An address that never showed a certificate, while another one does, is told once.
fn warn_once(target: &Target, told: &mut Told, seen: &[Served], live: Option<Fingerprint>) {
    let right = |s: &Served| s.fingerprint.is_some() && s.fingerprint == live;
    if !seen.iter().any(right) {
        return;
    }
    for odd in seen.iter().filter(|s| !right(s)) {
        let pair = format!("{} {}", odd.address, odd.name);
        let was_right = told.served.iter().any(|was| same_pair(was, odd) && right(was));
        if !was_right && !told.never_matched.contains(&pair) {
            tracing::warn!(
                target = target.name,
                "{} and never showed its live certificate, which others show: it is not waited for",
                describe(odd)
            );
            told.never_matched.push(pair);
        }
    }
}

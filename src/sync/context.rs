//! What a pass knows before it looks at any entry: the accounts, the roots, the time.
//!
//! Start at [`Syncer::context`], which lists every account that an entry in scope needs. Nothing fails here: an account that cannot be listed is
//! one of its [`Holdings`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::certificate::Roots;
use crate::config::{Certificate, EventKind, Settings};
use crate::ledger::{Base, Ledger};
use crate::provider::Client;
use crate::report::Incident;
use crate::store::Store;

use super::accounts::{Account, Holdings};
use super::quiet::{self, Glance, Quiet};
use super::{Progress, Scope, Syncer};

/// A provider's clock further from ours than this makes every decision by dates doubtful.
const WRONG_CLOCK: SignedDuration = SignedDuration::from_hours(1);
/// How often a wait for providers is asked whether it gets on.
const PULSE: Duration = Duration::from_secs(1);

impl Syncer {
    pub(super) async fn context(&self, scope: &Scope, stop: &CancellationToken) -> Context {
        let covered = |(_, entry): &(usize, &Certificate)| scope.covers(&entry.name);
        let places: Vec<usize> = self.settings.certificates.iter().enumerate().filter(covered).map(|(place, _)| place).collect();
        let mut opening = JoinSet::new();
        for (name, client) in &self.clients {
            let Some(provider) = self.settings.providers.get(name) else { continue };
            if quiet::entries(&self.settings, &places).any(|entry| entry.provider == *name) && !stop.is_cancelled() {
                let (name, client, cloud) = (name.clone(), client.clone(), provider.cloud.clone());
                opening.spawn(async move { (name, Account::open(client, &cloud).await) });
            }
        }
        let mut accounts = BTreeMap::new();
        // Nothing is at stake while a provider is waited for: a stop ends that at once.
        while let Some(Some(opened)) = stop.run_until_cancelled(opening.join_next()).await {
            if let Ok((name, account)) = opened {
                accounts.insert(name, account);
            }
        }
        Context {
            settings: self.settings.clone(),
            places,
            accounts,
            store: self.store.clone(),
            roots: self.roots.clone(),
            force: scope.force,
            insist: scope.force && scope.names.is_some(),
            ask_again: scope.by_hand,
            now: self.clock.now(),
        }
    }

    /// Waits for `work`; as long as requests end meanwhile, well or not, that is progress.
    pub(super) async fn watched<T>(&self, progress: &(dyn Fn(Progress) + Send + Sync), work: impl Future<Output = T>) -> T {
        let ended = || self.clients.values().map(|client| client.ended()).sum::<u64>();
        let mut before = ended();
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(PULSE) => {
                    let now = ended();
                    if std::mem::replace(&mut before, now) != now {
                        progress(Progress::Step);
                    }
                }
            }
        }
    }

    /// One incident for every provider whose clock is far from ours.
    pub(super) fn skewed(&self) -> Vec<Incident> {
        let one = |(name, skew): (&String, SignedDuration)| Incident {
            event: EventKind::ClockSkew,
            provider: Some(name.clone()),
            certificates: Vec::new(),
            message: skew_in_words(name, skew),
        };
        self.clients.iter().filter_map(|(name, client)| far(client).map(|skew| (name, skew))).map(one).collect()
    }
}

/// What every entry's task sees.
pub(super) struct Context {
    pub settings: Arc<Settings>,
    /// Which of the inventory's entries, in its order.
    pub places: Vec<usize>,
    pub accounts: BTreeMap<String, Account>,
    pub store: Store,
    pub roots: Arc<Roots>,
    pub force: bool,
    pub insist: bool,
    pub ask_again: bool,
    pub now: Timestamp,
}

/// Entries by what there is to do, as places in the inventory.
pub(super) struct Told {
    /// Nothing.
    pub quiet: Vec<usize>,
    /// To be looked at.
    pub busy: Vec<usize>,
    /// Whether nothing about the quiet ones changed but the time.
    pub is_same: bool,
}

impl Context {
    /// The entries in scope.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Certificate> {
        quiet::entries(&self.settings, &self.places)
    }

    /// Tells the entries about which there is nothing to do from the others, and remembers that they were looked at.
    pub(super) fn tell_quiet(&self, ledger: &mut Ledger, glances: &[Glance], base: Option<Base>) -> Told {
        let mut told = Told { quiet: Vec::with_capacity(self.places.len()), busy: Vec::new(), is_same: true };
        let since = base.map(|base| base.started);
        for (place, entry) in self.places.iter().copied().zip(self.entries()) {
            let known = glances.get(place).zip(ledger.certificates.get_mut(&entry.name));
            match known.and_then(|(glance, record)| Some((Quiet::of(self, entry, record, glance)?, record))) {
                Some((quiet, record)) => {
                    told.is_same &= quiet.remember(entry, record, since, self.now);
                    told.quiet.push(place);
                }
                None => told.busy.push(place),
            }
        }
        told
    }

    /// Says once that a provider's account may not be listed, which costs a request and a key's move per certificate and pass.
    pub(super) fn tell_refused_listings(&self, ledger: &mut Ledger) {
        for (name, account) in &self.accounts {
            let record = ledger.providers.entry(name.clone()).or_default();
            let refused = match &account.holdings {
                Holdings::OneByOne(failure) if failure.kind == "forbidden" => Some(failure),
                Holdings::Down(_) => continue,
                _ => None,
            };
            if let Some(failure) = refused.filter(|_| !record.listing_refused) {
                let hint = failure.hint.as_deref().unwrap_or_default();
                tracing::warn!(
                    provider = name,
                    "`{name}` may not be listed, so its certificates are asked for one by one and no renewal can be found: {failure}; {hint}"
                );
            }
            record.listing_refused = refused.is_some();
        }
    }
}

/// ``the clock of `scm` is 185 minutes ahead of it``: of this host's.
fn skew_in_words(provider: &str, skew: SignedDuration) -> String {
    let side = if skew.is_positive() { "ahead of" } else { "behind" };
    // rounded to the nearest: a `Date` has whole seconds, and 120 minutes are not to read as 119
    let minutes = (skew.abs().as_secs() + 30) / 60;
    match (minutes + 12 * 60) / (24 * 60) {
        days @ 2.. => format!("the clock of `{provider}` is {days} days {side} it"),
        _ => format!("the clock of `{provider}` is {minutes} minutes {side} it"),
    }
}

/// How far a provider's clock is ahead of ours, when that is so much that one of them is wrong.
pub(super) fn far(client: &Client) -> Option<SignedDuration> {
    client.skew().filter(|skew| skew.abs() > WRONG_CLOCK)
}

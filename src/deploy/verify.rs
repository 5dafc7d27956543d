//! What is served: each look is a TLS handshake on a connection of its own.
//!
//! [`look`] takes what is shown first; [`look_for`] also asks a server with an RSA and an EC pair for the other one; [`wait_served`] and
//! [`wait_all`] are patient, since a server takes up new files some time after it said it would. [`judge`] turns wrong answers into words.
//! No look fails: what was not seen is said in [`Served::error`].

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep};

use super::Error;
use super::handshake::{self, shown};
use crate::certificate::{KeyKind, Shown};
use crate::config::VerifyAddress;
use crate::failpoint;
use crate::report::{Failure, Fingerprint, Served};

/// Handshakes in flight at once.
pub const LOOKS_AT_ONCE: usize = 32;

/// Right answers in a row before a pair counts as served. One is not enough: for a tenth of a second after the new workers of nginx are
/// there the old ones still take connections from the same socket (`ngx_master_process_cycle` sleeps that long before it tells them to
/// quit), and one or two right answers before thirty wrong ones were seen in practice.
pub const RIGHT_IN_A_ROW: u32 = 3;

/// Between two right answers, so that [`RIGHT_IN_A_ROW`] of them span more than that tenth of a second.
pub const RIGHT_GAP: Duration = Duration::from_millis(75);

/// Above this many pairs one right answer each is enough: together they ask every process often.
pub const FEW_PAIRS: usize = 64;

/// For one look among several of a patient wait.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Between two looks while they are wrong, at first; doubled up to [`MAX_GAP`].
const FIRST_GAP: Duration = Duration::from_millis(25);

/// Between two looks at most.
const MAX_GAP: Duration = Duration::from_millis(500);

/// One leaf that one address must show for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Where.
    pub address: VerifyAddress,
    /// A concrete host name to send as SNI, or an IP address (nothing is sent).
    pub name: String,
    /// What.
    pub fingerprint: Fingerprint,
}

/// Looks once at every address for every name, in parallel; the answers are in the order of addresses, then names.
///
/// `timeout` bounds each look; an address that does not answer in time is not asked for its other names.
pub async fn look(addresses: &[VerifyAddress], names: &[String], timeout: Duration) -> Vec<Served> {
    failpoint::reach("deploy.look");
    let pairs = addresses.iter().flat_map(|address| names.iter().map(move |name| (address, name)));
    let silent = Silent::default();
    let looks = pairs.map(|(address, name)| {
        let silent = &silent;
        async move { served(address, name, silent.ask(address, name, None, timeout).await) }
    });
    stream::iter(looks.collect::<Vec<_>>()).buffered(LOOKS_AT_ONCE).collect().await
}

/// Looks once for each expected leaf, in their order; a server that shows another one first is asked for its other family of keys.
pub async fn look_for(expected: &[Expected], timeout: Duration) -> Vec<Served> {
    failpoint::reach("deploy.look");
    let silent = Silent::default();
    let looks: Vec<_> = expected.iter().map(|one| search(one, &silent, timeout)).collect();
    stream::iter(looks).buffered(LOOKS_AT_ONCE).collect().await
}

/// Looks until every pair shows `expected` several times in a row, at most for `timeout`. What is told of a pair that never got there is
/// the last wrong answer.
pub async fn wait_served(pairs: &[(VerifyAddress, String)], expected: Fingerprint, timeout: Duration) -> Vec<Served> {
    let expect = |(address, name): &(VerifyAddress, String)| Expected {
        address: address.clone(),
        name: name.clone(),
        fingerprint: expected,
    };
    wait_all(&pairs.iter().map(expect).collect::<Vec<_>>(), timeout).await
}

/// As [`wait_served`], for a whole target at once: each pair may expect another leaf, and all share one `timeout`.
pub async fn wait_all(expected: &[Expected], timeout: Duration) -> Vec<Served> {
    let deadline = Instant::now() + timeout;
    let enough = if expected.len() > FEW_PAIRS { 1 } else { RIGHT_IN_A_ROW };
    let slots = tokio::sync::Semaphore::new(LOOKS_AT_ONCE);
    let waits = expected.iter().map(|one| wait(one, enough, deadline, &slots));
    failpoint::reach("deploy.verify");
    let served = futures_util::future::join_all(waits).await;
    failpoint::reach("deploy.verified");
    served
}

async fn wait(expected: &Expected, enough: u32, deadline: Instant, slots: &tokio::sync::Semaphore) -> Served {
    let (mut right, mut wrong, mut gap) = (0, None, FIRST_GAP);
    loop {
        // the semaphore is never closed
        let slot = slots.acquire().await.ok();
        let limit = deadline.saturating_duration_since(Instant::now()).clamp(FIRST_GAP, LOOK_LIMIT);
        let served = search(expected, &Silent::default(), limit).await;
        drop(slot);
        if served.fingerprint == Some(expected.fingerprint) {
            right += 1;
        } else {
            right = 0;
            wrong = Some(served.clone());
        }
        if right >= enough {
            return served;
        }
        let pause = if right > 0 { RIGHT_GAP } else { gap };
        if Instant::now() + pause >= deadline {
            return wrong.unwrap_or(served);
        }
        sleep(pause).await;
        gap = (gap * 2).min(MAX_GAP);
    }
}

/// One look for one leaf, under the family of keys the server prefers, then under the other one.
async fn search(expected: &Expected, silent: &Silent, limit: Duration) -> Served {
    let Expected { address, name, fingerprint } = expected;
    let first = silent.ask(address, name, None, limit).await;
    let other = match &first {
        Ok(leaf) if leaf.fingerprint != *fingerprint => other_family(leaf),
        _ => None,
    };
    if let Some(family) = other
        && let Ok(leaf) = silent.ask(address, name, Some(family), limit).await
        && leaf.fingerprint == *fingerprint
    {
        return served(address, name, Ok(leaf));
    }
    served(address, name, first)
}

fn other_family(leaf: &Shown) -> Option<KeyKind> {
    match leaf.key? {
        KeyKind::Rsa => Some(KeyKind::Ecdsa),
        KeyKind::Ecdsa | KeyKind::Ed25519 => Some(KeyKind::Rsa),
    }
}

/// Addresses that let a look wait in vain: they are not asked again in the same round, or a thousand names would wait one by one.
#[derive(Default)]
struct Silent(Mutex<BTreeMap<VerifyAddress, String>>);

/// Why nothing was shown, and whether nobody listens there.
struct Nothing {
    why: String,
    closed: bool,
}

impl Silent {
    async fn ask(&self, address: &VerifyAddress, name: &str, key: Option<KeyKind>, limit: Duration) -> Result<Shown, Nothing> {
        if let Some(why) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(address) {
            return Err(Nothing { why: why.clone(), closed: false });
        }
        let answer = shown(address, name, key, limit).await;
        answer.map_err(|error| {
            let why = Failure::new("look", &error).to_string();
            if matches!(error, handshake::Error::TimedOut(_)) {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address.clone(), why.clone());
            }
            Nothing { why, closed: error.is_closed() }
        })
    }
}

fn served(address: &VerifyAddress, name: &str, answer: Result<Shown, Nothing>) -> Served {
    let (leaf, error, closed) = match answer {
        Ok(leaf) => (Some(leaf), None, false),
        Err(Nothing { why, closed }) => (None, Some(why), closed),
    };
    Served {
        address: address.to_string(),
        name: name.to_owned(),
        fingerprint: leaf.as_ref().map(|leaf| leaf.fingerprint),
        not_after: leaf.and_then(|leaf| leaf.not_after),
        error,
        closed,
    }
}

/// Fails with words when something else than `expected` is in `served`.
pub fn judge(served: &[Served], expected: Fingerprint) -> Result<(), Error> {
    let wrong: Vec<_> =
        served.iter().filter(|one| one.fingerprint != Some(expected)).map(|one| in_words(one, expected)).collect();
    if wrong.is_empty() { Ok(()) } else { Err(Error::Verify { expected, wrong }) }
}

fn in_words(one: &Served, expected: Fingerprint) -> String {
    let Served { address, name, fingerprint, not_after, error, .. } = one;
    match (fingerprint, not_after) {
        (Some(other), Some(end)) => {
            format!("`{address}` serves `{}` (until {end}) for `{name}`, not `{}`", other.short(), expected.short())
        }
        (Some(other), None) => format!("`{address}` serves `{}` for `{name}`, not `{}`", other.short(), expected.short()),
        (None, _) => format!("`{address}` shows nothing for `{name}`: {}", error.as_deref().unwrap_or("no reason given")),
    }
}

//! The culprits among many changed certificates, with as few links moved as can be.
//!
//! Start at [`Delivery::search`]. A pair that its target's kind of server does not load never went live (`publish`). What only the real server
//! refuses is found here, in three ways, each when the one before does not say:
//!
//! 1. **By the server's words.** Those whose files they name go back, and the step is run again; so on for whom it names then. Nobody else
//!    moves. Whom nginx or haproxy accuse, and with whom out the step passes, is to blame.
//! 2. **By what passes.** Whom a script mentions among others is brought forward again, to see whether the step passes with it.
//! 3. **In the dark.** A program that names nobody that changed (a silent `test` or `reload` of one's own; a cause that is nobody's
//!    certificate) leaves one way to learn something: everything that may goes back. If the step fails still, the fault is elsewhere and
//!    all go forward again. If it passes, they come forward: one by one where they are few, else in groups of about the root of
//!    their number, and the members of a group that fails one by one.
//!
//! So the only links that move to and fro are those of 2 and 3: of an innocent one back once and forward once, and once more where it shares
//! its group with a culprit. Its readers see a whole, valid generation at each moment, of the ones from before and after.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Target;
use crate::deploy::{self, Named};
use crate::report::Failure;

use super::blame::Step;
use super::{Change, Delivery, Stage};

/// Trials of a step in one search.
const MAX_TRIALS: usize = 64;

/// For one search, whose trials may each take the target's whole `timeout`.
const MAX_TIME: Duration = Duration::from_secs(5 * 60);

/// So many are tried one by one rather than in groups.
const FEW: usize = 8;

/// Further answers of the server that are told.
const MAX_TOLD: usize = 3;

/// Where the fault was found.
pub(super) enum Found {
    /// In these certificates, which are out; with the others live the step passes.
    Here(Culprits),
    /// The step fails with the previous certificates too, as it then did. The new ones are live.
    Elsewhere(deploy::Error),
    /// Its words name only these new ones, which have nothing good to go back to. Nothing moved.
    Stuck(Vec<String>),
}

/// Who is out at the end of a search.
#[derive(Default)]
pub(super) struct Culprits {
    pub guilty: Vec<String>,
    /// Whom nobody had the time to try.
    pub untried: Vec<String>,
    /// What the server said after the first ones went back.
    pub further: Vec<String>,
}

/// One search on its way.
struct Search<'a> {
    target: &'a Target,
    step: Step,
    trials: usize,
    deadline: Instant,
    found: Culprits,
    /// Whether the last run of the step failed: a server may have read half of what is live.
    is_spoilt: bool,
}

impl Delivery<'_> {
    /// Finds out with whose new certificate `step` failed as `error` says, of all those that went live; `movable` may go back, and are the
    /// target's own.
    pub(super) async fn search(&mut self, target: &Target, movable: &[String], error: &deploy::Error, step: Step) -> Found {
        let found = Culprits::default();
        let mut search = Search { target, step, trials: 0, deadline: Instant::now() + MAX_TIME, found, is_spoilt: true };
        let mut named = self.named(error);
        if !named.is_empty() && !named.keys().any(|name| self.may_go_back(name)) {
            return Found::Stuck(named.into_keys().collect());
        }
        let (mut accused, mut mentioned, mut last) = (Vec::new(), Vec::new(), None);
        loop {
            named.retain(|name, _| self.may_go_back(name));
            if named.is_empty() || self.is_over(&search) {
                break;
            }
            let names: Vec<String> = named.keys().cloned().collect();
            for (name, how) in named {
                if how == Named::Accused { accused.push(name) } else { mentioned.push(name) }
            }
            match self.run_without(&mut search, &names).await {
                Ok(()) => {
                    if let [only] = names.as_slice()
                        && mentioned.last() == Some(only)
                    {
                        // It failed with this one and passes without it: no need of an accusation.
                        accused.extend(mentioned.pop());
                    }
                    let is_known = accused.is_empty();
                    search.found.guilty.extend(accused);
                    self.bring_forward(&mut search, &mentioned, is_known).await;
                    return self.conclude(search).await;
                }
                Err(again) => {
                    search.note(&again);
                    named = self.named(&again);
                    last = Some(again);
                }
            }
        }
        let out = [accused, mentioned].concat();
        let rest: Vec<String> = movable.iter().filter(|name| !out.contains(name)).cloned().collect();
        let all = [rest.as_slice(), &out].concat();
        let again = match last {
            Some(again) if rest.is_empty() => Err(again),
            _ => self.run_without(&mut search, &rest).await,
        };
        if let Err(again) = again {
            self.place(&all, true);
            self.save();
            return Found::Elsewhere(again);
        }
        search.found.further.clear();
        self.bring_forward(&mut search, &all, true).await;
        self.conclude(search).await
    }

    /// Whose files the words of `error` name, of the certificates that are live since this pass; a server may read one without being its target.
    pub(super) fn named(&self, error: &deploy::Error) -> BTreeMap<String, Named> {
        let root = self.store.root();
        let roots = [Some(root.to_owned()), root.canonicalize().ok()];
        let how = |(name, change): (&String, &Change)| {
            let links = roots.iter().flatten().map(|root| root.join("live").join(name));
            let outputs = change.entry.outputs.iter().map(|output| output.path.clone());
            let how = links.chain(outputs).chain([change.new.path.clone()]).filter_map(|path| error.named(&path)).max()?;
            Some((name.clone(), how))
        };
        self.changes.iter().filter(|(_, change)| change.stage == Stage::Live).filter_map(how).collect()
    }

    /// Takes these back and runs the step.
    async fn run_without(&mut self, search: &mut Search<'_>, names: &[String]) -> Result<(), deploy::Error> {
        self.place(names, false);
        self.save();
        self.try_step(search).await
    }

    async fn try_step(&mut self, search: &mut Search<'_>) -> Result<(), deploy::Error> {
        self.step();
        search.trials += 1;
        let ended = search.step.run(search.target).await;
        search.is_spoilt = ended.is_err();
        ended
    }

    /// Brings forward whom the step passes with; the others are found. `is_known`: with all of them forward it fails.
    async fn bring_forward(&mut self, search: &mut Search<'_>, names: &[String], is_known: bool) {
        if names.len() <= FEW {
            return self.bring_each(search, names, is_known).await;
        }
        let size = root(names.len());
        for (at, group) in names.chunks(size).enumerate() {
            let is_last = (at + 1) * size >= names.len();
            if is_known && is_last && search.found.is_empty() {
                // All but these are forward: the trial would be the one that failed first.
                self.bring_each(search, group, true).await;
            } else if self.is_over(search) {
                search.found.untried.extend_from_slice(group);
            } else if !self.passes_with(search, group).await {
                self.bring_each(search, group, true).await;
            }
        }
    }

    async fn bring_each(&mut self, search: &mut Search<'_>, names: &[String], is_known: bool) {
        let before = search.found.count();
        for (at, name) in names.iter().enumerate() {
            let is_last = at + 1 == names.len();
            if is_known && is_last && search.found.count() == before {
                // It fails with all of them and passes with the others.
                search.found.guilty.push(name.clone());
            } else if self.is_over(search) {
                search.found.untried.push(name.clone());
            } else if !self.passes_with(search, std::slice::from_ref(name)).await {
                search.found.guilty.push(name.clone());
            }
        }
    }

    /// Whether the step passes with these forward too; else they are back again.
    async fn passes_with(&mut self, search: &mut Search<'_>, names: &[String]) -> bool {
        self.place(names, true);
        let passes = self.try_step(search).await.is_ok();
        if !passes {
            self.place(names, false);
        }
        passes
    }

    fn is_over(&self, search: &Search<'_>) -> bool {
        search.trials >= MAX_TRIALS || Instant::now() >= search.deadline || self.stop.is_cancelled()
    }

    /// Saves what was found; the server reads what is live now, if the last it read was something else.
    async fn conclude(&mut self, search: Search<'_>) -> Found {
        let Search { target, step, is_spoilt, mut found, .. } = search;
        self.save();
        self.step();
        if step == Step::Reload
            && is_spoilt
            && let Err(error) = deploy::reload(target).await
        {
            let error = Failure::from(error);
            tracing::error!(
                target = target.name,
                "failed to reload `{}` after the rejected certificates were taken out: {error}",
                target.name
            );
        }
        found.guilty.sort_unstable();
        found.untried.sort_unstable();
        Found::Here(found)
    }
}

impl Culprits {
    fn count(&self) -> usize {
        self.guilty.len() + self.untried.len()
    }

    fn is_empty(&self) -> bool {
        self.count() == 0
    }
}

impl Search<'_> {
    fn note(&mut self, again: &deploy::Error) {
        if self.found.further.len() < MAX_TOLD {
            let words = again.to_failure().causes.pop().unwrap_or_default();
            self.found.further.push(format!("with those out it said: {words}"));
        }
    }
}

/// The root of `count`, rounded up.
fn root(count: usize) -> usize {
    (1..=count).find(|root| root * root >= count).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_as_many_as_their_members() {
        for (count, expected) in [(0, 1), (1, 1), (9, 3), (10, 4), (40, 7), (1_000, 32)] {
            assert_eq!(root(count), expected, "{count}");
        }
    }
}

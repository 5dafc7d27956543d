//! `status`: what is installed, until when, what failed last. Needs no secret, and no more rights than to read the status file.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::config::{self, Settings};
use crate::daemon;
use crate::ledger::Ledger;
use crate::observe::check;
use crate::observe::status::{self, Document, Pace};
use crate::observe::table::{self, Look};
use crate::report::Failure;
use crate::store::Store;

use super::{BAD_CONFIG, FAILED, OK, StatusArguments, print};

/// Columns where nobody says how many there are.
const WIDE: u16 = 140;
/// Where the state lies when no configuration says so.
const DEFAULT_STATE: &str = "/var/lib/certsyncd";

pub(super) fn run(config: &Path, arguments: &StatusArguments) -> u8 {
    let clock = Clock::system();
    match (document(config, &clock), arguments.check) {
        (Ok(document), true) => verdict(check::check(&document, clock.now())),
        (Err((_, why)), true) => verdict(check::unknown(&why)),
        (Err((code, why)), false) => {
            print::line(why);
            code
        }
        (Ok(document), false) => {
            if arguments.json {
                print::json(&document);
            } else {
                let look = Look {
                    width: print::width().unwrap_or(WIDE),
                    color: io::stdout().is_terminal(),
                    zone: jiff::tz::TimeZone::system(),
                };
                print::out(table::table(&document, &look, clock.now()));
            }
            OK
        }
    }
}

/// A plugin has a line and a code of its own for whatever happens.
pub(super) fn defect() -> u8 {
    verdict(check::unknown("a defect of certsyncd: its place stands on standard error"))
}

fn verdict(verdict: check::Verdict) -> u8 {
    print::out(&verdict.line);
    verdict.code
}

/// The picture by inventory and ledger; where one of them may not be read, the one that the last pass left.
fn document(config: &Path, clock: &Clock) -> Result<Document, (u8, String)> {
    match config::load(config) {
        Ok(settings) => fresh(&settings, clock).or_else(|why| left_behind(&settings.daemon.state_dir, clock, (FAILED, why))),
        Err(refused) if refused.text.is_empty() => {
            left_behind(&PathBuf::from(DEFAULT_STATE), clock, (BAD_CONFIG, refused.render(io::stderr().is_terminal())))
        }
        Err(refused) => Err((BAD_CONFIG, refused.render(io::stderr().is_terminal()))),
    }
}

fn fresh(settings: &Settings, clock: &Clock) -> Result<Document, String> {
    let state_dir = &settings.daemon.state_dir;
    // Only a folder that is known not to be there is an empty one; one that may not be looked at is an error.
    if matches!(state_dir.try_exists(), Ok(false)) {
        return Ok(status::document(Some(settings), &Ledger::fresh(), &BTreeSet::new(), Pace::default(), clock.now()));
    }
    let ledger = Ledger::peek(state_dir).map_err(|error| in_words(&error))?.ledger;
    let store = Store::existing(state_dir);
    Ok(daemon::document(settings, &store, &ledger, clock))
}

/// An error with its causes.
fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    print::failure(&Failure::new("status", error))
}

fn left_behind(state_dir: &Path, clock: &Clock, otherwise: (u8, String)) -> Result<Document, (u8, String)> {
    let mut document = status::read(state_dir).map_err(|_| otherwise)?;
    document.refresh(clock.now());
    Ok(document)
}

//! What a pass leaves for those who only look: the status document, or its times alone.
//!
//! Start at [`leave_status`]. What cannot be written is a warning: the next pass writes it.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::atomic;
use crate::clock::Clock;
use crate::config::Settings;
use crate::ledger::{Ledger, Pulse, Written};
use crate::observe::Document;
use crate::observe::status::{self, Pace};
use crate::schedule;
use crate::store::{SETTLED, Store};
use crate::sync::{Memory, Syncer};

/// The status document as of now.
pub fn document(settings: &Settings, store: &Store, ledger: &Ledger, clock: &Clock) -> Document {
    let now = clock.now();
    let known: BTreeSet<&str> = settings.certificates.iter().map(|entry| entry.name.as_str()).collect();
    let on_disk = store.live_names(|name| known.contains(name)).unwrap_or_default();
    status::document(Some(settings), ledger, &on_disk, pace(settings, now), now)
}

fn pace(settings: &Settings, now: Timestamp) -> Pace {
    let daemon = &settings.daemon;
    Pace {
        next_pass: schedule::next(&daemon.schedule, &daemon.timezone, now),
        interval: schedule::interval(&daemon.schedule, &daemon.timezone, now),
    }
}

/// Leaves what `status` shows to those who may not read the ledger: the whole document, or after a pass in which nothing changed only its
/// times, when the document that is there was made by this configuration.
pub fn leave_status(sync: &Syncer, memory: &Memory, clock: &Clock) {
    let (store, now) = (sync.store(), clock.now());
    let Some((base, pass)) = memory.base.zip(memory.ledger.last_pass.clone()) else {
        return write_document(sync, memory, clock);
    };
    let configuration =
        atomic::trace(&sync.settings().path).ok().flatten().filter(|trace| pass.started - SETTLED >= trace.changed);
    let (configuration, finished) = (configuration.map(|trace| trace.to_string()), pass.finished);
    let before = Pulse::read(store.root()).and_then(|pulse| pulse.document);
    let holds = |written: &Written| {
        Some(&written.configuration) == configuration.as_ref() && Some(&written.file) == status::trace(store.root()).as_ref()
    };
    let document = before.filter(holds).or_else(|| {
        write_document(sync, memory, clock);
        Some(Written { last_pass: finished, file: status::trace(store.root())?, configuration: configuration.clone()? })
    });
    let pace = pace(sync.settings(), now);
    let interval_seconds = pace.interval.map(|interval| interval.as_secs());
    leave_pulse(store, &Pulse { document, next_pass: pace.next_pass, interval_seconds, ..Pulse::new(base, pass) });
}

fn write_document(sync: &Syncer, memory: &Memory, clock: &Clock) {
    let document = document(sync.settings(), sync.store(), &memory.ledger, clock);
    if let Err(error) = status::write(sync.store().root(), &document) {
        tracing::warn!("failed to write the status file: {error}");
    }
}

pub(super) fn leave_pulse(store: &Store, pulse: &Pulse) {
    if let Err(error) = pulse.write(store.root()) {
        tracing::warn!("failed to note when the last pass was: {error}");
    }
}

//! The pulse: what a pass leaves behind in which nothing changed. `<state_dir>/pulse.json`.
//!
//! Such a pass would write the same megabytes again, but for times: in the ledger when each certificate was last looked at, in the status
//! document that and when the next pass comes. So those times stand here, and whoever reads the ledger or the document adds them. A pulse says
//! of which ledger and of which document it is; of others it says nothing. Losing it loses those times and no more, so nobody waits for the
//! disk.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Ledger, PassRecord, VERSION};
use crate::atomic::{self, Access};

/// The file's name in the state directory.
pub const PULSE: &str = "pulse.json";

/// The last of the quiet passes since the ledger was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pulse {
    /// [`VERSION`]; another one is not understood and left.
    pub version: u32,
    /// Of which ledger.
    pub base: Base,
    /// The pass.
    pub pass: PassRecord,
    /// Of which status document, if it is not written anew by each pass.
    pub document: Option<Written>,
    /// When the next pass is due, before splay.
    pub next_pass: Option<Timestamp>,
    /// Seconds between two passes, at most.
    pub interval_seconds: Option<u64>,
}

/// The last pass that a ledger on disk tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// When it began: whatever was looked at since is looked at in every quiet pass too.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
}

/// A status document that holds but for its times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Its own `last_pass`.
    pub last_pass: Timestamp,
    /// What the file system tells of its file.
    pub file: String,
    /// What the file system tells of the configuration that it was made by.
    pub configuration: String,
}

impl Pulse {
    /// Of a pass after the one in `base`.
    pub fn new(base: Base, pass: PassRecord) -> Pulse {
        Pulse { version: VERSION, base, pass, document: None, next_pass: None, interval_seconds: None }
    }

    /// What the last quiet pass left; `None` where there is none, or none that is understood.
    pub fn read(state_dir: &Path) -> Option<Pulse> {
        let bytes = atomic::read(&state_dir.join(PULSE), MAX_PULSE).ok().flatten()?;
        serde_json::from_slice::<Pulse>(&bytes).ok().filter(|pulse| pulse.version == VERSION)
    }

    /// Leaves it, readable by all as the status document is.
    pub fn write(&self, state_dir: &Path) -> Result<(), super::Error> {
        let text = serde_json::to_vec(self).map_err(super::Error::Encode)?;
        atomic::write_lightly(&state_dir.join(PULSE), &text, Access::mode(0o644))?;
        Ok(())
    }
}

impl Ledger {
    /// The last pass it tells of.
    pub fn base(&self) -> Option<Base> {
        self.last_pass.as_ref().map(|pass| Base { started: pass.started, finished: pass.finished })
    }

    /// Adds what `pulse` tells; `false` when it is of another ledger.
    pub fn follow(&mut self, pulse: &Pulse) -> bool {
        if self.base() != Some(pulse.base) {
            return false;
        }
        for record in self.certificates.values_mut() {
            if record.last_checked >= Some(pulse.base.started) {
                record.last_checked = Some(pulse.pass.started);
            }
        }
        self.last_success = Some(pulse.pass.finished);
        self.last_pass = Some(pulse.pass.clone());
        true
    }
}

/// Bytes of a pulse that is read; it has some hundred, in truth.
pub const MAX_PULSE: u64 = 64 * 1024;

//! The metrics as a file for node_exporter's textfile collector, replaced whole after each pass.
//!
//! Start at [`write()`]. The collector reads at any moment, so the file comes by one rename and is readable by all (0644); a folder that we may
//! not write to is an [`Error`] that names the drop-in which gives the right.

use std::path::Path;

use crate::atomic::{self, Access};

/// Why the file was not replaced; the old one stays.
#[derive(Debug, thiserror::Error)]
#[error("failed to leave the metrics for node_exporter")]
pub struct Error {
    /// Which file, and why.
    #[from]
    source: atomic::Error,
}

impl Error {
    /// A stable word for counters.
    pub fn kind(&self) -> &'static str {
        self.source.kind()
    }

    /// What would mend it.
    pub fn hint(&self) -> Option<String> {
        match self.kind() {
            "missing" => {
                Some("make the folder; it is the one that node_exporter's --collector.textfile.directory names".to_owned())
            }
            "permission" | "read_only" => Some(
                "let the user `certsyncd` write to the folder, and copy the drop-in `outputs.conf` to \
                 /etc/systemd/system/certsyncd.service.d/ with the folder in ReadWritePaths="
                    .to_owned(),
            ),
            _ => self.source.hint(),
        }
    }
}

/// Replaces the file by `text`, which [`super::metrics::prometheus_text`] made.
pub fn write(path: &Path, text: &str) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        // what a process that died left there is only untidy
        let _ = atomic::sweep(folder, atomic::TEMPORARY);
    }
    atomic::write(path, text.as_bytes(), Access::mode(0o644))?;
    Ok(())
}

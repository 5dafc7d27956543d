//! The metrics as a file for node_exporter's textfile collector, replaced whole after each pass.
//!
//! Start at [`write`]. The collector reads at any moment, so the file comes by one rename and is readable by all (0644); a folder that we may
//! not write to is an [`Error`] that names the drop-in which gives the right.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why the file was not replaced; the old one stays.
#[derive(Debug, thiserror::Error)]
#[error("failed to write metrics to `{path}`")]
pub struct Error {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub source: std::io::Error,
}

impl Error {
    /// What would mend it.
    pub fn hint(&self) -> Option<String> {
        use std::io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
        match self.source.kind() {
            NotFound => {
                Some("make the folder; it is the one that node_exporter's --collector.textfile.directory names".to_owned())
            }
            PermissionDenied | ReadOnlyFilesystem => Some(
                "let the user `certsyncd` write to the folder, and copy the drop-in `outputs.conf` to \
                 /etc/systemd/system/certsyncd.service.d/ with the folder in ReadWritePaths="
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Replaces the file by `text`, which [`super::metrics::prometheus_text`] made.
pub fn write(path: &Path, text: &str) -> Result<(), Error> {
    replace(path, text.as_bytes()).map_err(|source| Error { path: path.to_owned(), source })
}

/// The whole file or the old one, readable by all. The temporary name starts with a dot: collectors skip it.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".certsyncd-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

//! The inventory: what the operator wrote, checked, as types.
//!
//! Start at [`load`]. Text becomes TOML with the place of every value, and that becomes [`Settings`]: what is valid, defaults filled in,
//! every duration, schedule, address and path parsed. Between them stands no mirror of the file as a third type: the private `Reader`
//! walks the TOML itself, because serde's own structs stop at the first problem and lose the places inside tagged and untagged types.
//! Secrets stay [`secret::Source`] until somebody is asked with them. A long inventory becomes TOML some entries at a time (`batches`),
//! which nobody can tell by the result.
//!
//! It fails with [`Refused`], which holds every problem at once: all errors of syntax, or else every unknown key, wrong type, missing
//! key, bad value, dangling name and duplicate, each with its place. Whatever is valid but unwise becomes a warning in the settings.

pub mod environment;
pub mod keys;
pub mod problem;
pub mod secret;

mod alerts;
mod batches;
mod certificates;
mod document;
mod net;
mod providers;
mod reader;
mod render;
mod settings;
mod syntax;
mod targets;
mod time;
mod value;
mod values;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub use net::{endpoint_url, hook_url, is_loopback};
pub use problem::{Problem, Refused};
pub use settings::*;
pub use targets::AHEAD_OF_JOBS;

/// Largest configuration, in bytes: room for 10,000 entries of 400 bytes each, where a plain one takes about 110 and one with names and outputs
/// some hundred more.
pub const MAX_FILE: usize = 4 * 1024 * 1024;

/// Reads and validates the file.
///
/// Besides the problems of [`parse`], a file that is missing, a folder, not readable, larger than [`MAX_FILE`] or not UTF-8 is refused.
pub fn load(path: &Path) -> Result<Settings, Refused> {
    let (text, mode) = read(path)?;
    document::settings(&text, path, Some(mode)).map(|accepted| accepted.settings)
}

/// [`load`], and the warnings shown at their places in the file (empty when there are none): what `check` prints.
pub fn check(path: &Path, color: bool) -> Result<(Settings, String), Refused> {
    let (text, mode) = read(path)?;
    let accepted = document::settings(&text, path, Some(mode))?;
    let warnings = problem::render(path, &accepted.shown(), &accepted.settings.warnings, problem::Weight::Warning, color);
    Ok((accepted.settings, warnings))
}

/// Validates a configuration's text; `path` is only for messages. Any text is answered in bounded time and memory.
pub fn parse(text: &str, path: &Path) -> Result<Settings, Refused> {
    document::settings(text, path, None).map(|accepted| accepted.settings)
}

/// A duration as the configuration writes it (`90s`, `10m`), for options of commands; up to a week. Fails with what is expected.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let bounds = std::time::Duration::ZERO..=std::time::Duration::from_secs(7 * 24 * 3600);
    time::duration(text, &bounds).map_err(|wrong| format!("expected {}", wrong.expected.as_deref().unwrap_or(time::DURATION)))
}

/// The text of a file and its permission bits.
fn read(path: &Path) -> Result<(String, u32), Refused> {
    let failed = |error: std::io::Error| unreadable(path, &error);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        let hint = format!("name the file in it, such as `{}`", path.join("config.toml").display());
        return Err(refused(path, "the configuration is a folder, expected a file".to_owned(), Some(hint)));
    }
    let size = usize::try_from(metadata.len()).unwrap_or(MAX_FILE);
    let mut bytes = Vec::with_capacity(size.min(MAX_FILE));
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count();
        let hint = "save the file as UTF-8".to_owned();
        refused(path, format!("line {line} of the configuration is not UTF-8 text"), Some(hint))
    })?;
    Ok((text, metadata.mode()))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Refused {
    use std::io::ErrorKind::{NotFound, PermissionDenied};
    let hint = match error.kind() {
        NotFound => Some(
            "write it (`config.example.toml` has every key), or name another by `--config FILE` or `CERTSYNCD_CONFIG`".to_owned(),
        ),
        PermissionDenied => Some("run as root or as the service's user: `sudo certsyncd …`".to_owned()),
        _ => None,
    };
    let reason = match error.kind() {
        NotFound => "there is no such file".to_owned(),
        PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    refused(path, format!("failed to read the configuration: {reason}"), hint)
}

/// Refused as a whole, for one reason without a place.
fn refused(path: &Path, message: String, hint: Option<String>) -> Refused {
    let problem = Problem { at: String::new(), message, hint, span: None };
    Refused { path: path.to_owned(), problems: vec![problem], text: String::new() }
}

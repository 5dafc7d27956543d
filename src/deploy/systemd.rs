//! Units: whether they run, what their journal said during a reload, and the polkit rule that lets us reload them.
//!
//! Start at [`state`] and [`polkit_rule`]; [`crate::deploy::reload`] uses the rest. Nothing here fails: without systemd, a bus or the right to
//! read the journal there is simply less to tell.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::command::{self, Words};
use crate::config::{AHEAD_OF_JOBS, Target};

/// For one question to systemd or the journal.
const LIMIT: Duration = Duration::from_secs(5);

/// Looks into the journal after a failed reload: what a server wrote reaches it a moment later, and after what systemd said of it.
const JOURNAL_TRIES: u32 = 4;

/// Between those tries.
const JOURNAL_GAP: Duration = Duration::from_millis(150);

/// Lines of the journal that are read: a server with many sites may warn of each before it says what is wrong, or name many.
const JOURNAL_LINES: &str = "400";

/// Whether a target's unit runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitState {
    /// It runs: a reload makes sense.
    Active,
    /// It does not run; it will read the new files when it starts.
    Inactive,
    /// It is starting, and perhaps waits for us: a reload now would make both wait (decision 1).
    Activating,
    /// It ended badly, and will read the new files when it is started again.
    Failed,
    /// No systemd, no bus, no such unit, or a target without one.
    Unknown,
}

/// Asks systemd for the state of the target's unit.
pub async fn state(target: &Target) -> UnitState {
    let Some(unit) = &target.unit else { return UnitState::Unknown };
    let argv = [&tool(target, "systemctl"), "show", "--property=LoadState,ActiveState", "--", unit].map(str::to_owned);
    match command::run(&argv, target.timeout.min(LIMIT), &[], None).await {
        Ok(output) => state_in(&output.stdout),
        Err(_) => UnitState::Unknown,
    }
}

/// The variables that the target's unit is given, as `systemctl show` writes them.
pub(super) async fn environment(target: &Target) -> Option<String> {
    let unit = target.unit.as_ref()?;
    let argv = [&tool(target, "systemctl"), "show", "--property=Environment", "--", unit].map(str::to_owned);
    command::run(&argv, target.timeout.min(LIMIT), &[], None).await.ok().map(|output| output.stdout)
}

/// Reads the answer of `systemctl show`; the states are those of `systemctl(1)` and `org.freedesktop.systemd1(5)`.
fn state_in(answer: &str) -> UnitState {
    let value = |key: &str| answer.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    if matches!(value("LoadState="), Some("not-found" | "masked" | "error" | "bad-setting")) {
        return UnitState::Unknown;
    }
    match value("ActiveState=") {
        Some("active" | "reloading" | "refreshing") => UnitState::Active,
        Some("activating") => UnitState::Activating,
        Some("inactive" | "deactivating") => UnitState::Inactive,
        Some("failed") => UnitState::Failed,
        _ => UnitState::Unknown,
    }
}

/// The target's reload as it is run: the default one never waits for somebody to type a password.
pub(super) fn reload_argv(target: &Target) -> Vec<String> {
    let mut argv = target.reload.clone();
    if target.reload_is_default && is_systemctl(&argv) && !argv.iter().any(|word| word == NO_PASSWORD) {
        argv.insert(1, NO_PASSWORD.to_owned());
    }
    argv
}

const NO_PASSWORD: &str = "--no-ask-password";

/// For the time before READY: lets the target's reload go ahead of jobs. Units are ordered after ours (by the drop-ins that we ship), and
/// systemd has *every* job of theirs wait for our start, a reload of a running server too, while our start waits for that reload
/// (decision 1). A reload that is not systemd's, or whose words we do not know, stays as it is.
pub fn ahead_of_jobs(target: &mut Target) {
    if target.unit.is_some() && is_systemctl(&target.reload) {
        target.reload.insert(1, AHEAD_OF_JOBS.to_owned());
    }
}

/// A place in the journal.
pub(super) struct Mark(String);

/// The journal's end as it is now; `None`: it cannot be read, or the target has no unit.
pub(super) async fn mark(target: &Target) -> Option<Mark> {
    target.unit.as_ref()?;
    let words = ["--quiet", "--no-pager", "--lines=1", "--show-cursor", "--output=cat"];
    let output = journal(target, &words).await?;
    let cursor = output.lines().rev().find_map(|line| line.strip_prefix("-- cursor: "))?;
    Some(Mark(cursor.trim().to_owned()))
}

/// What the target's unit (the server, and systemd about it) wrote into the journal since `mark`, once nothing more comes.
pub(super) async fn written_since(target: &Target, mark: Mark) -> Option<Words> {
    let unit = format!("--unit={}", target.unit.as_ref()?);
    let (after, lines) = (format!("--after-cursor={}", mark.0), format!("--lines={JOURNAL_LINES}"));
    let mut before = None;
    for _ in 0..JOURNAL_TRIES {
        let output = journal(target, &["--quiet", "--no-pager", "--output=cat", &lines, &unit, &after]).await?;
        // `-- No entries --` and its like are journalctl's own
        let lines: Vec<_> = output.lines().filter(|line| !line.starts_with("-- ")).collect();
        let words = Words::of(&lines.join("\n"));
        if words.is_some() && words == before {
            break;
        }
        before = words;
        sleep(JOURNAL_GAP).await;
    }
    before
}

async fn journal(target: &Target, words: &[&str]) -> Option<String> {
    let argv: Vec<_> = std::iter::once(tool(target, "journalctl")).chain(words.iter().map(|&word| word.to_owned())).collect();
    command::run(&argv, LIMIT, &[], None).await.ok().map(|output| output.stdout)
}

/// What mends a reload that failed with `words`, where they are systemd's and we know it.
pub(super) fn hint(target: &Target, words: &str) -> Option<String> {
    let unit = target.unit.as_deref()?;
    let says = |texts: &[&str]| texts.iter().any(|text| words.contains(text));
    if says(&["Interactive authentication required", "Access denied", "Authentication is required", "Permission denied"]) {
        return Some(format!(
            "allow the daemon's user to reload `{unit}`: `certsyncd polkit-rule > /etc/polkit-1/rules.d/50-certsyncd.rules` as root \
             (where there is no polkit, the README has a drop-in)"
        ));
    }
    if says(&["System has not been booted with systemd", "Failed to connect to bus", "Failed to get D-Bus connection"]) {
        return Some(format!(
            "there is no systemd here: set `reload` in `[deploy.{}]` to the command that reloads it",
            target.name
        ));
    }
    if says(&["is not active, cannot reload"]) {
        return Some(format!("`{unit}` does not run; it reads the new files when it starts: `systemctl start {unit}`"));
    }
    if says(&["not found", "not loaded", "could not be found"]) {
        return Some(format!(
            "there is no unit `{unit}` on this host: set `reload` in `[deploy.{}]`, or install the server",
            target.name
        ));
    }
    if says(&["Job type reload is not applicable"]) {
        return Some(format!("the unit `{unit}` cannot be reloaded: set `reload` in `[deploy.{}]` to what can", target.name));
    }
    None
}

/// A tool of systemd: from the folder the target's reload takes `systemctl` from, else along `PATH`.
fn tool(target: &Target, name: &str) -> String {
    let program = target.reload.first().filter(|_| is_systemctl(&target.reload)).map(Path::new);
    let folder = program.and_then(Path::parent).filter(|folder| folder.is_absolute());
    folder.map_or_else(|| name.to_owned(), |folder| folder.join(name).to_string_lossy().into_owned())
}

fn is_systemctl(argv: &[String]) -> bool {
    argv.first().and_then(|program| Path::new(program).file_name()).is_some_and(|name| name == "systemctl")
}

/// A polkit rule that lets `user` reload exactly `units` (and do nothing else to them, and nothing to others).
///
/// The text of `/etc/polkit-1/rules.d/50-certsyncd.rules`; see `polkit(8)` and the actions of `org.freedesktop.systemd1`.
pub fn polkit_rule(units: &[String], user: &str) -> String {
    let mut units: Vec<_> = units.iter().map(|unit| with_suffix(unit)).collect();
    units.sort_unstable();
    units.dedup();
    let list: Vec<_> = units.iter().map(|unit| quoted(unit)).collect();
    format!(
        "// Lets {user_in_words} reload the servers whose certificates it renews; nothing else.\n\
         // As root: certsyncd polkit-rule > /etc/polkit-1/rules.d/50-certsyncd.rules\n\
         polkit.addRule(function(action, subject) {{\n\
         \x20   var units = [{}];\n\
         \x20   if (action.id == \"org.freedesktop.systemd1.manage-units\" &&\n\
         \x20       subject.user == {} &&\n\
         \x20       action.lookup(\"verb\") == \"reload\" &&\n\
         \x20       units.indexOf(action.lookup(\"unit\")) >= 0) {{\n\
         \x20       return polkit.Result.YES;\n\
         \x20   }}\n\
         }});\n",
        list.join(", "),
        quoted(user),
        user_in_words = quoted(user),
    )
}

/// systemd adds the suffix itself before it asks polkit, so the rule needs it.
fn with_suffix(unit: &str) -> String {
    const KINDS: [&str; 11] =
        [".service", ".socket", ".target", ".path", ".timer", ".mount", ".automount", ".swap", ".slice", ".scope", ".device"];
    if KINDS.iter().any(|kind| unit.ends_with(kind)) { unit.to_owned() } else { format!("{unit}.service") }
}

/// A JavaScript string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read() {
        for (answer, state) in [
            ("LoadState=loaded\nActiveState=active\n", UnitState::Active),
            ("ActiveState=reloading\nLoadState=loaded\n", UnitState::Active),
            ("LoadState=loaded\nActiveState=activating\n", UnitState::Activating),
            ("LoadState=loaded\nActiveState=deactivating\n", UnitState::Inactive),
            ("LoadState=loaded\nActiveState=failed\n", UnitState::Failed),
            ("LoadState=not-found\nActiveState=inactive\n", UnitState::Unknown),
            ("", UnitState::Unknown),
        ] {
            assert_eq!(state_in(answer), state, "{answer}");
        }
    }

    #[test]
    fn the_rule_names_exact_units_and_one_verb() {
        let rule = polkit_rule(&["nginx".to_owned(), "haproxy.service".to_owned(), "nginx.service".to_owned()], "certsyncd");
        assert!(rule.contains(r#"var units = ["haproxy.service", "nginx.service"];"#), "{rule}");
        assert!(
            rule.contains(r#"subject.user == "certsyncd""#) && rule.contains(r#"action.lookup("verb") == "reload""#),
            "{rule}"
        );
    }

    #[test]
    fn nothing_in_a_name_leaves_its_string() {
        let rule = polkit_rule(&["a\"]; evil(); [\"b.service".to_owned()], "x\" || true || \"\n});");
        assert!(rule.contains(r#"var units = ["a\"]; evil(); [\"b.service"];"#), "{rule}");
        assert!(rule.contains(r#"subject.user == "x\" || true || \"\n});" &&"#), "{rule}");
    }
}

//! What of our own environment a started program may see.
//!
//! Secrets may sit in the environment (`{ env = … }`, the vendors' `*_SK`, systemd's `NOTIFY_SOCKET`), so a program gets a short list of
//! harmless names and nothing else. The order of precedence is that of the list [`inherited`] returns: fixed values come last.

use std::ffi::OsString;

/// Variables handed on when they are set: where programs are, who we are, how to reach a user's own systemd and bus.
pub const HANDED_ON: [&str; 9] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];

/// Folders of system tools, added to `PATH` where it lacks them: a login shell's path often does.
const TOOL_FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The environment of a started program: [`HANDED_ON`], a `PATH` that has the system's folders, and English in UTF-8 without colours, so
/// that words can be recognised and shown.
pub fn inherited() -> Vec<(&'static str, OsString)> {
    let set = |name: &&'static str| std::env::var_os(name).map(|value| (*name, value));
    let mut variables: Vec<_> = HANDED_ON.iter().filter_map(set).filter(|(name, _)| *name != "PATH").collect();
    variables.push(("PATH", path(std::env::var_os("PATH"))));
    variables.extend([("LANG", "C.UTF-8"), ("LC_ALL", "C.UTF-8"), ("SYSTEMD_COLORS", "0"), ("SYSTEMD_PAGER", "")].map(own));
    variables
}

fn own((name, value): (&'static str, &str)) -> (&'static str, OsString) {
    (name, value.into())
}

fn path(inherited: Option<OsString>) -> OsString {
    let mut folders: Vec<_> = inherited.iter().flat_map(std::env::split_paths).filter(|folder| folder.is_absolute()).collect();
    for folder in TOOL_FOLDERS {
        if !folders.iter().any(|known| known.as_os_str() == folder) {
            folders.push(folder.into());
        }
    }
    std::env::join_paths(folders).unwrap_or_else(|_| TOOL_FOLDERS.join(":").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_its_order_and_gains_the_system_folders() {
        assert_eq!(
            path(Some("/opt/x:relative:/bin".into())),
            "/opt/x:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin"
        );
        assert_eq!(path(None), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    }

    #[test]
    fn nothing_else_is_handed_on() {
        let fixed = ["PATH", "LANG", "LC_ALL", "SYSTEMD_COLORS", "SYSTEMD_PAGER"];
        let names: Vec<_> = inherited().into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().all(|name| HANDED_ON.contains(name) || fixed.contains(name)), "{names:?}");
        assert!(names.contains(&"PATH"));
    }
}

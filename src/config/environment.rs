//! What of our own environment a started program may see.
//!
//! Secrets may sit in the environment (`{ env = … }`, the vendors' `*_SK`, systemd's `NOTIFY_SOCKET`), so a program gets a short list of
//! harmless names and nothing else. The order of precedence is that of the list [`inherited`] returns: fixed values come last.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use rustix::fs::Access;

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
    variables.push(("PATH", search_path()));
    variables.extend([("LANG", "C.UTF-8"), ("LC_ALL", "C.UTF-8"), ("SYSTEMD_COLORS", "0"), ("SYSTEMD_PAGER", "")].map(own));
    variables
}

/// `PATH` as a started program finds it.
pub fn search_path() -> OsString {
    path(std::env::var_os("PATH"))
}

/// What to start for `program`: the file of that name along `path`, as execvp(3) would find it; itself where there is none, or it is a path.
///
/// A program that is named by its path is started by vfork(2). To look for it along the `PATH` of its own environment takes fork(2), which
/// copies the tables of all our memory, and every page that is written afterwards.
pub fn find(program: &str, path: &OsStr) -> PathBuf {
    let can_run = |file: &PathBuf| file.is_file() && rustix::fs::access(file, Access::EXEC_OK).is_ok();
    let mut candidates = std::env::split_paths(path).map(|folder| folder.join(program));
    let found = if program.is_empty() || program.contains('/') { None } else { candidates.find(can_run) };
    found.unwrap_or_else(|| program.into())
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
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

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
    fn a_name_is_looked_for_along_the_path_as_execvp_does() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        for (file, mode) in [(first.join("closed"), 0o644), (second.join("closed"), 0o755), (second.join("tool"), 0o755)] {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::create_dir_all(first.join("tool")).unwrap();
        let path = std::env::join_paths([&first, &second]).unwrap();
        for (program, found) in [
            ("tool", second.join("tool")),
            ("closed", second.join("closed")),
            ("missing", "missing".into()),
            ("./tool", "./tool".into()),
            ("/bin/true", "/bin/true".into()),
            ("", "".into()),
        ] {
            assert_eq!(find(program, &path), found, "{program}");
        }
    }

    #[test]
    fn nothing_else_is_handed_on() {
        let fixed = ["PATH", "LANG", "LC_ALL", "SYSTEMD_COLORS", "SYSTEMD_PAGER"];
        let names: Vec<_> = inherited().into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().all(|name| HANDED_ON.contains(name) || fixed.contains(name)), "{names:?}");
        assert!(names.contains(&"PATH"));
    }
}

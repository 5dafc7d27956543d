//! Users and groups: by name or number, and those that a user namespace hides.

use std::sync::OnceLock;

use nix::unistd::{Group, User};

use super::Error;

/// A user's number, by name or number.
pub fn user_id(name: &str) -> Result<u32, Error> {
    numbered(name, "user", || User::from_name(name).ok().flatten().map(|user| user.uid.as_raw()))
}

/// A group's number, by name or number.
pub fn group_id(name: &str) -> Result<u32, Error> {
    numbered(name, "group", || Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw()))
}

/// The user that this process is.
pub fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether `uid` is the user that this process is.
pub fn is_us(uid: u32) -> bool {
    uid == me()
}

/// Whether `id` may stand for any foreign user or group: under `PrivateUsers=yes` all of them read as nobody, which says nothing.
pub fn is_unmapped(id: u32) -> bool {
    id == OVERFLOW_ID && in_user_namespace()
}

/// Becomes the user `uid` for good, with that user's groups, in every thread; `fallback_group` when the system does not know the user.
pub fn become_user(uid: u32, fallback_group: u32) -> Result<(), std::io::Error> {
    use nix::unistd::{Gid, Uid, initgroups, setgroups, setresgid, setresuid};
    let user = User::from_uid(Uid::from_raw(uid))?;
    let group = user.as_ref().map_or(Gid::from_raw(fallback_group), |user| user.gid);
    match &user {
        Some(user) => initgroups(&std::ffi::CString::new(user.name.as_str())?, group)?,
        None => setgroups(&[group])?,
    }
    setresgid(group, group, group)?;
    let uid = Uid::from_raw(uid);
    setresuid(uid, uid, uid)?;
    Ok(())
}

/// What the kernel shows for ids that have no place in a user namespace (/proc/sys/kernel/overflowuid).
const OVERFLOW_ID: u32 = 65534;

fn numbered(name: &str, what: &'static str, look_up: impl FnOnce() -> Option<u32>) -> Result<u32, Error> {
    let number = || name.parse().ok();
    look_up().or_else(number).ok_or_else(|| Error::Unknown { what, name: name.to_owned() })
}

/// The first namespace maps every id to itself; what cannot be read is taken for a namespace, which only makes us say less.
fn in_user_namespace() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| match std::fs::read_to_string("/proc/self/uid_map") {
        Ok(map) => map.split_whitespace().ne(["0", "0", "4294967295"]),
        Err(_) => true,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_understood() {
        assert_eq!(user_id("root").unwrap(), 0);
        assert_eq!(user_id("4711").unwrap(), 4711);
        assert_eq!(group_id("root").unwrap(), 0);
        let error = group_id("no-such-group").unwrap_err();
        assert_eq!(error.to_string(), "there is no group `no-such-group` on this host");
    }
}

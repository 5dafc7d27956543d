//! Waits for the thing itself, a change in a folder or the end of a process: the kernel tells, nobody looks every so often.
#![allow(dead_code)]

use std::os::fd::AsFd;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Waits until `ready` says so, asked again whenever something changed in `folder` (not below its folders); fails after `patience`.
pub fn until(folder: &Path, what: &str, patience: Duration, mut ready: impl FnMut() -> bool) {
    let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
    let changes = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::DELETE;
    add_watch(&inotify, folder, changes).unwrap();
    let end = Instant::now() + patience;
    while !ready() {
        assert!(readable(&inotify, end), "waited {patience:?} in vain: {what}");
        while rustix::io::read(&inotify, &mut [0u8; 4096]).is_ok() {}
    }
}

/// Whether the child ends within `patience`.
pub fn ends(child: &Child, patience: Duration) -> bool {
    // One that ended and was not waited for yet has its number still.
    pidfd_open(Pid::from_child(child), PidfdFlags::empty()).is_ok_and(|process| readable(&process, Instant::now() + patience))
}

fn readable(file: &impl AsFd, end: Instant) -> bool {
    let left = end.saturating_duration_since(Instant::now());
    let left = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap(), tv_nsec: i64::from(left.subsec_nanos()) };
    poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&left)).unwrap() > 0
}

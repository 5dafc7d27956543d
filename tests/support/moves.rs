//! Every move of every link, as the kernel tells it: nothing is missed between two looks.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};

/// Counts what comes into a folder, made there or renamed, by its name; one that is moved back came twice.
pub struct Moves(OwnedFd);

impl Moves {
    pub fn of(folder: &Path) -> Moves {
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        // The kernel tells equal events that follow each other once. With the temporary names between them, two moves of one link are two.
        add_watch(&inotify, folder, WatchFlags::MOVE | WatchFlags::CREATE).unwrap();
        Moves(inotify)
    }

    /// Since this was made, or last asked. Temporary names, and what never came, are not in it.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        let mut buffer = [MaybeUninit::uninit(); 64 * 1024];
        let mut reader = Reader::new(&self.0, &mut buffer);
        while let Ok(event) = reader.next() {
            assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW), "moves were lost");
            let name = event.file_name().unwrap().to_str().unwrap();
            if event.events().intersects(ReadFlags::MOVED_TO | ReadFlags::CREATE) && !name.starts_with('.') {
                *counts.entry(name.to_owned()).or_default() += 1;
            }
        }
        counts
    }
}

//! What the tests of the store share: bundles, a reader as a server would be one, and this test binary run again as another process.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../certificate_pki/mod.rs"]
mod certificate_pki;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use certificate_pki::{Authority, piece};
use certsyncd::certificate::Bundle;
use certsyncd::store::{FILES, Installed, Store};

pub const NAME: &str = "www.example.com";

/// A root, one intermediate below it, and leaves by number: each with its own key.
pub fn bundles(count: usize) -> Vec<Bundle> {
    let root = Authority::root("Test Root");
    let intermediate = root.below("Test Intermediate");
    (0..count)
        .map(|_| {
            let leaf = intermediate.leaf(&[NAME]);
            assemble(format!("{}{}{}", leaf.pem, intermediate.pem, leaf.key_pem()).as_bytes())
        })
        .collect()
}

pub fn assemble(pem: &[u8]) -> Bundle {
    Bundle::assemble(&[piece("all.pem", pem)]).unwrap()
}

/// Bundles handed to another process as files, and back.
pub fn save_bundles(folder: &Path, bundles: &[Bundle]) {
    for (number, bundle) in bundles.iter().enumerate() {
        std::fs::write(folder.join(format!("{number}.pem")), &bundle.files().files["combined.pem"]).unwrap();
    }
}

pub fn load_bundles(folder: &Path) -> Vec<Bundle> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| assemble(&std::fs::read(path).unwrap())).collect()
}

pub fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state")).unwrap();
    (folder, store)
}

/// Where syncing costs nothing, if there is such a place: for tests that only kill processes, not machines.
pub fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Written and published.
pub fn install(store: &Store, bundle: &Bundle) -> Installed {
    let installed = store.write(NAME, bundle).unwrap();
    store.publish(NAME, &installed.generation).unwrap();
    installed
}

pub type Contents = BTreeMap<String, Vec<u8>>;

pub fn contents(bundle: &Bundle) -> Contents {
    bundle.files().files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
}

/// What a server sees: the link resolved once by opening the folder, every file through that handle. `None`: nothing is live, or the
/// folder was pruned under our eyes (then the link has moved on).
pub fn read_as_server(state: &Path) -> Option<Contents> {
    use std::os::fd::AsRawFd;
    let link = state.join("live").join(NAME);
    let folder = File::open(&link).ok()?;
    let inside = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let read = |name: &str| {
        let mut bytes = Vec::new();
        File::open(inside.join(name)).and_then(|mut file| file.read_to_end(&mut bytes)).map(|_| bytes)
    };
    let files: Result<Contents, _> =
        FILES.iter().map(|(name, _)| Ok::<_, std::io::Error>(((*name).to_owned(), read(name)?))).collect();
    match files {
        Ok(files) => Some(files),
        Err(error) => {
            let now = File::open(&link).and_then(|now| now.metadata()).expect("the link leads nowhere");
            assert_ne!(now.ino(), folder.metadata().unwrap().ino(), "the live generation is not whole: {error}");
            None
        }
    }
}

/// Every promise about the disk that holds at any moment, a crash included: what is live is one of `known`, whole, with its modes; every
/// generation under its own name is whole.
pub fn check_invariants(state: &Path, known: &[Bundle], must_be_live: bool) {
    let live = read_as_server(state);
    assert!(live.is_some() || !must_be_live, "nothing is live any more");
    if let Some(live) = live {
        assert!(known.iter().any(|bundle| contents(bundle) == live), "what is live is torn");
    }
    let store = Store::existing(state);
    for generation in store.generations(NAME).unwrap() {
        let path = store.read(NAME, &generation).unwrap_or_else(|error| panic!("{generation}: {error}")).path;
        for (file, mode) in FILES {
            assert_eq!(mode_of(&path.join(file)), mode, "{generation}/{file}");
        }
    }
}

pub fn mode_of(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Every path below `root` that a crash may have left: hidden, and ours by its name.
pub fn strays(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".tmp-") {
                found.insert(entry.path());
            } else if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    found
}

/// This test binary again, running only the test `name`, which looks for its orders in the environment.
pub fn again(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).stdin(Stdio::null());
    command
}

pub fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A small generator with a printed seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

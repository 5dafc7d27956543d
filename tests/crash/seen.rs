//! What others see on the disk: a server that reads what is live, and whoever looks at files and modes.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use certsyncd::certificate::{Bundle, Piece};
use certsyncd::store::FILES;

/// What a server sees of one certificate.
pub type Contents = BTreeMap<&'static str, Vec<u8>>;

pub fn bundle(pem: &[u8]) -> Bundle {
    Bundle::assemble(&[Piece { name: "all".to_owned(), bytes: zeroize::Zeroizing::new(pem.to_vec()) }]).expect("it fits")
}

/// Whether the five files are one pair, as it is written.
pub fn fits(files: &Contents) -> bool {
    let whole = bundle(&files["combined.pem"]).files().files;
    assert!(files.iter().all(|(name, bytes)| whole[name].as_slice() == bytes.as_slice()), "a torn generation");
    true
}

/// What a server sees: the link resolved once by opening the folder, every file through that handle. `None`: nothing is live, or the
/// folder was pruned under our eyes (then the link has moved on).
pub fn read_as_server(state: &Path, name: &str) -> Option<Contents> {
    let link = state.join("live").join(name);
    let folder = File::open(&link).ok()?;
    let inside = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let files: Result<Contents, _> =
        FILES.iter().map(|(file, _)| std::fs::read(inside.join(file)).map(|bytes| (*file, bytes))).collect();
    match files {
        Ok(files) => Some(files),
        Err(error) => {
            let now = File::open(&link).and_then(|now| now.metadata()).expect("the link leads nowhere");
            assert_ne!(now.ino(), folder.metadata().unwrap().ino(), "the live generation is not whole: {error}");
            None
        }
    }
}

/// Everything below `run` with mode and bytes, but for what is judged otherwise or differs from run to run.
pub fn files(run: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let short = |path: &Path| path.strip_prefix(run).unwrap().to_owned();
    let contents = |path: &Path, found: &Metadata| {
        let differs = ["lock", "ledger.json", "events", "told", "memory.json", "history.json", "status.json"];
        match () {
            () if differs.iter().any(|name| path.ends_with(name)) => Vec::new(),
            () if found.is_symlink() => std::fs::read_link(path).unwrap().into_os_string().into_encoded_bytes(),
            () if found.is_dir() => Vec::new(),
            () => std::fs::read(path).unwrap(),
        }
    };
    every(run).into_iter().map(|(path, found)| (short(&path), (found.permissions().mode(), contents(&path, &found)))).collect()
}

/// Whether nobody but the owner may read what holds a key or waits to be told, and nobody else may write anything; at any moment, whatever the
/// umask is. `why` names what is open.
pub fn is_closed(state: &Path) -> Result<(), String> {
    for (path, found) in every(state) {
        let secret = || path.parent().unwrap().ends_with("outbox") || holds(&std::fs::read(&path).unwrap(), KEY);
        let too_much = match () {
            () if found.is_symlink() => continue,
            () if found.is_file() && secret() => 0o077,
            () => 0o022,
        };
        let mode = found.permissions().mode() & 0o7777;
        if mode & too_much != 0 {
            return Err(format!("`{}` is {mode:04o}", path.display()));
        }
    }
    Ok(())
}

/// Every file below `folder` with these words in it.
pub fn holding(folder: &Path, words: &str) -> Vec<PathBuf> {
    let paths = every(folder).into_iter().filter(|(_, found)| found.is_file()).map(|(path, _)| path);
    paths.filter(|path| holds(&std::fs::read(path).unwrap(), words.as_bytes())).collect()
}

fn holds(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|window| window == words)
}

/// A key begins.
const KEY: &[u8] = b"PRIVATE KEY-----\nM";

/// Everything below `folder` with what it is; links are not followed.
fn every(folder: &Path) -> Vec<(PathBuf, Metadata)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            found.extend(every(&entry.path()));
        }
        found.push((entry.path(), metadata));
    }
    found
}

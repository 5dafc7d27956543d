//! What integration tests share: a small PKI, a live folder like the store's, real nginx and haproxy on free loopback ports.
//!
//! A test file takes it with `mod support;`. Servers that are missing make a test fail with words, never pass. What was started ends with the
//! value that started it, with everything it started itself.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod client;
pub mod haproxy;
pub mod nginx;
pub mod pki;
pub mod process;

use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use certsyncd::config::{Target, TargetKind, VerifyAddress};
use tempfile::TempDir;

use pki::Pair;

/// How long anything that is waited for may take.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A port that nobody listens on: below those that the system gives to outgoing connections, and each process of the tests begins at
/// another one, so that two of them hardly ever want the same.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(37);
    let mut ports = std::iter::repeat_with(|| first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS.1 + PORTS.0);
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.by_ref().take(1_000).filter_map(|port| u16::try_from(port).ok()).find(free).expect("a free port")
}

/// The first port, and how many there are.
const PORTS: (u32, u32) = (12_000, 20_000);

/// Waits until `ready` says so, and fails after [`PATIENCE`] with `what`.
pub fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `127.0.0.1:port`.
pub fn loopback(port: u16) -> VerifyAddress {
    VerifyAddress { host: "127.0.0.1".to_owned(), port, proxy_protocol: false }
}

/// A target of kind `command` whose reload is `argv`.
pub fn target(argv: &[&str]) -> Target {
    Target {
        name: "web".to_owned(),
        kind: TargetKind::Command,
        test: None,
        reload: argv.iter().map(|&word| word.to_owned()).collect(),
        reload_is_default: false,
        unit: None,
        verify: Vec::new(),
        timeout: Duration::from_secs(10),
        window: None,
        min_gap: Duration::ZERO,
    }
}

/// Writes a script that can be run, for `#!/bin/sh` and what `body` says.
pub fn script(path: &Path, body: &str) -> String {
    std::fs::write(path, format!("#!/bin/sh\n{body}\n")).expect("a script");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    path.to_str().expect("a plain path").to_owned()
}

/// A folder with `live/` and `generations/` as the contract draws them.
pub struct State {
    folder: TempDir,
}

impl State {
    pub fn new() -> State {
        let folder = TempDir::new().expect("a folder");
        std::fs::create_dir(folder.path().join("live")).expect("live");
        State { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `live/NAME/combined.pem`.
    pub fn combined(&self, name: &str) -> PathBuf {
        self.path().join("live").join(name).join("combined.pem")
    }

    /// Writes a generation and makes it live by one rename, as the store does.
    pub fn publish(&self, name: &str, pair: &Pair) {
        let number = std::fs::read_dir(self.path().join("generations").join(name)).map_or(0, Iterator::count);
        let generation = format!("{number:06}-{}", pair.fingerprint.short());
        let folder = self.path().join("generations").join(name).join(&generation);
        std::fs::create_dir_all(&folder).expect("a generation");
        write_secret(&folder.join("combined.pem"), &pair.combined);
        std::fs::write(folder.join("fullchain.pem"), &pair.fullchain).expect("fullchain.pem");
        write_secret(&folder.join("privkey.pem"), &pair.key);
        let new = self.path().join("live").join(format!(".{name}"));
        symlink(format!("../generations/{name}/{generation}"), &new).expect("a link");
        std::fs::rename(&new, self.path().join("live").join(name)).expect("the rename");
    }
}

fn write_secret(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("its text");
}

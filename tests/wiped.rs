//! Keys do not stay in memory: what was read, proved, written and dropped is nowhere in the process any more.
//!
//! Looked at is all that the process may write to (`/proc/PID/mem`, for which it takes root where the process is another one). Who looks into
//! itself must not know what it looks for, or it would find its own words: it is given the key with every bit turned.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod store_common;
#[path = "support/world.rs"]
mod world;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use certsyncd::atomic;
use certsyncd::certificate::{Bundle, Piece, encode};
use certsyncd::config::Format;
use certsyncd::store::Store;
use fakecloud::pki::{Key, Leaf};
use fakecloud::{CdsCertificate, HuaweiCertificate};
use store_common::{NAME, again, bundles, save_bundles};
use world::World;

/// Bytes of the key that are looked for: no chance repeats so many.
const LENGTH: usize = 40;

/// All that is done with a key: read, proved, written, read back, encoded. The process that does it is another one, for this one made the key.
#[test]
fn a_key_that_was_dropped_is_nowhere_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let made = bundles(1);
    save_bundles(folder.path(), &made);
    let pem = std::fs::read_to_string(folder.path().join("0.pem")).unwrap();
    let key = pem.split("PRIVATE KEY-----\n").nth(1).unwrap();
    let line = key.lines().nth(1).unwrap();
    std::fs::write(folder.path().join("turned"), turned(&line[..LENGTH])).unwrap();
    let output = again("child").env("WIPED_CHILD", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("while it was held: true"), "it looks past what is there: {said}");
    assert!(said.contains("afterwards: false"), "{said}");
}

#[test]
fn child() {
    let Some(folder) = std::env::var_os("WIPED_CHILD").map(PathBuf::from) else { return };
    let turned = std::fs::read(folder.join("turned")).unwrap();
    println!("while it was held: {}", work(&folder, &turned));
    println!("afterwards: {}", is_in_memory("self", &turned));
}

/// The whole daemon, after its pass: from a cloud's answer to the files nothing of the key stays, whichever way it came.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_installed_a_certificate_keeps_nothing_of_its_key() {
    if !store_common::is_root() {
        println!("ran without a look into the daemon: that takes root");
        return;
    }
    for provider in ["scm", "archive", "cds"] {
        let world = World::start().await;
        let issued = world.pki.issue(Leaf::new(["www.example.com"]).key(Key::Rsa2048));
        world.cloud.huawei.add("scs0000000000001", HuaweiCertificate::new(issued.clone()));
        world.cloud.cds.add("scs0000000000001", CdsCertificate::new(issued.clone()));
        let entry = format!("[[certificate]]\nname = \"www\"\nprovider = \"{provider}\"\nid = \"scs0000000000001\"\n");
        world.write("config.toml", &world.config("", &entry));
        let daemon = Daemon::ready(&world);
        let process = daemon.0.id().to_string();
        // A secret that stands in the configuration is held: proof that we look where things are.
        assert!(is_in_memory(&process, &turned(&world.cloud.huawei.secret_key())), "{provider}: it looks past what is there");
        for line in issued.key_pem.lines().skip(1).filter(|line| line.len() > LENGTH).step_by(5) {
            assert!(!is_in_memory(&process, &turned(&line[..LENGTH])), "{provider}: a piece of the key is still there");
        }
    }
}

/// The daemon, ended with the test.
struct Daemon(Child);

impl Daemon {
    /// Started, and READY: that comes after the first pass where something is missing on disk.
    fn ready(world: &World) -> Daemon {
        let notify = UnixDatagram::bind(world.path("notify")).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_certsyncd"));
        command.arg("run").arg("--config").arg(world.path("config.toml")).env("NOTIFY_SOCKET", world.path("notify"));
        let daemon = Daemon(command.stderr(Stdio::null()).spawn().unwrap());
        let mut told = [0; 4096];
        while !String::from_utf8_lossy(&told).contains("READY=1") {
            told.fill(0);
            notify.recv(&mut told).expect("READY");
        }
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

fn turned(text: &str) -> Vec<u8> {
    text.bytes().map(|byte| !byte).collect()
}

/// Returns whether the key was seen in memory meanwhile.
fn work(folder: &Path, turned: &[u8]) -> bool {
    let bytes = atomic::read(&folder.join("0.pem"), 1 << 20).unwrap().unwrap();
    let bundle = Bundle::assemble(&[Piece { name: "all".to_owned(), bytes }]).unwrap();
    let store = Store::open(&folder.join("state")).unwrap();
    let installed = store.write(NAME, &bundle).unwrap();
    store.publish(NAME, &installed.generation).unwrap();
    let live = store.live(NAME).unwrap().unwrap();
    let combined = encode(&live.bundle, Format::Combined, None).unwrap();
    let seen = is_in_memory("self", turned);
    assert!(combined.len() > LENGTH);
    seen
}

/// Whether the bytes, turned again, lie somewhere in what this process may write to.
fn is_in_memory(process: &str, turned: &[u8]) -> bool {
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut piece = vec![0; PIECE];
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (mut at, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        while at < end {
            let length = PIECE.min((end - at) as usize);
            let Ok(read) = memory.read_at(&mut piece[..length], at) else { break };
            let is_here = |from: &[u8]| from.iter().zip(turned).all(|(one, other)| *one == !*other);
            let mut starts = piece[..read].split(|byte| *byte == !turned[0]).scan(0, |at, gap| {
                let start = *at + gap.len();
                *at = start + 1;
                Some(start)
            });
            let found = starts.any(|start| piece[..read].get(start..start + turned.len()).is_some_and(is_here));
            if found {
                return true;
            }
            at += (read.saturating_sub(turned.len())).max(1) as u64;
            if read < length || length < PIECE {
                break;
            }
        }
    }
    false
}

/// Read at once.
const PIECE: usize = 1 << 20;

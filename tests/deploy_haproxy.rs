//! The Runtime API of the real haproxy, over its admin socket and its master's; and sockets that hang, lie and are cut off.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use certsyncd::deploy::{self, Error, Update};
use certsyncd::report::Fingerprint;
use support::haproxy::Haproxy;
use support::pki::{Key, Pair, Pki};
use support::{State, free_port, loopback, until};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

const NAME: &str = "www.example.com";
const LIMIT: Duration = Duration::from_secs(5);

struct Scene {
    pki: Pki,
    state: State,
    old: Pair,
    port: u16,
}

impl Scene {
    fn new() -> Scene {
        let (pki, state) = (Pki::new(), State::new());
        let old = pki.issue(&[NAME], Key::Rsa);
        state.publish(NAME, &old);
        Scene { pki, state, old, port: free_port() }
    }

    fn bind(&self) -> String {
        format!("ssl crt {}", self.state.combined(NAME).display())
    }

    /// A renewal, live on disk.
    fn renew(&self, key: Key) -> Pair {
        let new = self.pki.issue(&[NAME], key);
        self.state.publish(NAME, &new);
        new
    }

    async fn update(&self, socket: &Path, pair: &Pair) -> Result<Update, Error> {
        deploy::update(socket, &self.state.combined(NAME), pair.combined.as_bytes(), pair.fingerprint, LIMIT).await
    }

    async fn served(&self) -> Option<Fingerprint> {
        deploy::look(&[loopback(self.port)], &[NAME.to_owned()], LIMIT).await[0].fingerprint
    }

    fn name(&self) -> String {
        self.state.combined(NAME).display().to_string()
    }
}

fn not_there(update: Result<Update, Error>, words: &str) {
    match update {
        Ok(Update::NotThere(why)) => assert!(why.contains(words), "{why}"),
        other => panic!("{other:?}, expected: {words}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_over_the_admin_socket_changes_what_is_served_and_nothing_else() {
    let scene = Scene::new();
    let haproxy = Haproxy::start(&scene.bind(), scene.port);
    let process = haproxy.ask("show info").lines().find(|line| line.starts_with("Pid:")).unwrap().to_owned();
    for key in [Key::Rsa, Key::P256, Key::P384, Key::Rsa] {
        let new = scene.renew(key);
        assert_ne!(scene.served().await, Some(new.fingerprint));
        assert_eq!(scene.update(&haproxy.admin(), &new).await.unwrap(), Update::Updated, "{key:?}");
        assert_eq!(scene.served().await, Some(new.fingerprint));
    }
    assert!(haproxy.ask("show info").contains(&process));
    let live = scene.state.combined(NAME).canonicalize().unwrap();
    assert_eq!(deploy::loaded(&haproxy.admin(), LIMIT).await, Some(vec![live]));
    assert_eq!(deploy::loaded(Path::new("/nonexistent"), LIMIT).await, None);
    assert!(!haproxy.ask("show ssl cert").contains("# transaction"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_over_the_master_socket_keeps_the_worker() {
    let scene = Scene::new();
    let haproxy = Haproxy::start_master(&scene.bind(), scene.port);
    let before = haproxy.workers();
    let new = scene.renew(Key::P256);
    assert_eq!(scene.update(&haproxy.master(), &new).await.unwrap(), Update::Updated);
    assert_eq!(scene.served().await, Some(new.fingerprint));
    assert_eq!(haproxy.workers(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_leaving_does_not_matter() {
    let scene = Scene::new();
    let haproxy = Haproxy::start_master(&scene.bind(), scene.port);
    // a connection in hand keeps the old worker
    let _connection = std::net::TcpStream::connect(("127.0.0.1", scene.port)).unwrap();
    let before = haproxy.workers();
    haproxy.server.signal(rustix::process::Signal::USR2);
    until("another worker runs", || {
        let now = haproxy.workers();
        !now.is_empty() && now != before
    });
    let new = scene.renew(Key::P256);
    assert_eq!(scene.update(&haproxy.master(), &new).await.unwrap(), Update::Updated);
    assert_eq!(scene.served().await, Some(new.fingerprint));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_in_hand_outlives_an_update() {
    let scene = Scene::new();
    let haproxy = Haproxy::start(&scene.bind(), scene.port);
    let mut client = support::client::connect(scene.port, NAME).await;
    assert_eq!(client.get().await.unwrap(), "ok");
    let new = scene.renew(Key::P256);
    assert_eq!(scene.update(&haproxy.admin(), &new).await.unwrap(), Update::Updated);
    assert_eq!(client.get().await.unwrap(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_haproxy_refuses_leaves_no_transaction() {
    let scene = Scene::new();
    let haproxy = Haproxy::start_master(&scene.bind(), scene.port);
    let wrong = scene.pki.issue(&[NAME], Key::Rsa).with_key_of(&scene.old);
    for socket in [haproxy.admin(), haproxy.master()] {
        let error = scene.update(&socket, &wrong).await.unwrap_err();
        let failure = error.to_failure();
        assert_eq!((failure.kind.as_str(), failure.transient), ("update_refused", false));
        assert!(failure.to_string().contains("inconsistencies between private key and certificate"), "{failure}");
        assert!(!haproxy.ask("show ssl cert").contains("# transaction"));
        assert_eq!(scene.served().await, Some(scene.old.fingerprint));
    }
    // and the next one is not in its way
    let new = scene.renew(Key::Rsa);
    assert_eq!(scene.update(&haproxy.admin(), &new).await.unwrap(), Update::Updated);
}

/// `pair` with a chain so long that all of it has at least `bytes`.
fn lengthened(pair: &Pair, bytes: usize) -> Pair {
    let chain = pair.chain.repeat((bytes - pair.combined.len()) / pair.chain.len() + 1);
    Pair { combined: format!("{}{chain}{}", pair.fullchain, pair.key), ..pair.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_above_the_buffer_is_for_a_reload() {
    let scene = Scene::new();
    let haproxy = Haproxy::start(&scene.bind(), scene.port);
    let new = scene.renew(Key::Rsa);
    assert_eq!(scene.update(&haproxy.admin(), &lengthened(&new, 14_000)).await.unwrap(), Update::Updated);
    for bytes in [16_000, 17_000, 40_000, 2_000_000] {
        not_there(scene.update(&haproxy.admin(), &lengthened(&new, bytes)).await, "do not fit into the 15360");
        assert!(!haproxy.ask("show ssl cert").contains("# transaction"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_buffer_takes_a_larger_payload() {
    let scene = Scene::new();
    let haproxy = Haproxy::with(&scene.bind(), scene.port, "tune.bufsize 65536", &[]);
    let new = scene.renew(Key::Rsa);
    assert_eq!(scene.update(&haproxy.admin(), &lengthened(&new, 60_000)).await.unwrap(), Update::Updated);
    assert_eq!(scene.served().await, Some(new.fingerprint));
    not_there(scene.update(&haproxy.admin(), &lengthened(&new, 65_000)).await, "do not fit into the 64512");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_would_end_haproxy_is_never_sent() {
    // 2.6 dies of one that is too big when a line ends one byte before the buffer does, at 16 KiB unless configured otherwise
    let scene = Scene::new();
    let mut haproxy = Haproxy::start(&scene.bind(), scene.port);
    let before = format!("set ssl cert {} <<\n", scene.name()).len();
    let padding = format!("{}\n", "x".repeat(16 * 1024 - 1 - 1 - before));
    let pair = Pair { combined: format!("{padding}{}", scene.old.combined), ..scene.old.clone() };
    not_there(scene.update(&haproxy.admin(), &pair).await, "do not fit");
    haproxy.server.assert_running();
    assert_eq!(scene.served().await, Some(scene.old.fingerprint));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_with_an_empty_line_is_never_sent() {
    let scene = Scene::new();
    let (folder, socket) = (TempDir::new().unwrap(), UnixListener::bind);
    let listener = socket(folder.path().join("s")).unwrap();
    let pair = Pair {
        combined: scene.old.combined.replacen("-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----\n\n", 1),
        ..scene.old.clone()
    };
    not_there(scene.update(&folder.path().join("s"), &pair).await, "empty line");
    assert!(tokio::time::timeout(Duration::from_millis(50), listener.accept()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_not_the_expected_leaf_is_never_sent() {
    let scene = Scene::new();
    let other = scene.pki.issue(&[NAME], Key::P256);
    let nowhere = Path::new("/nonexistent/socket");
    for pem in [other.combined.as_bytes(), b"", b"garbage"] {
        let update = deploy::update(nowhere, &scene.state.combined(NAME), pem, scene.old.fingerprint, LIMIT).await;
        assert!(matches!(update, Err(Error::Payload { .. })), "{update:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_haproxy_does_not_know_is_for_a_reload() {
    let scene = Scene::new();
    let haproxy = Haproxy::start(&scene.bind(), scene.port);
    let other = scene.pki.issue(&["b.example.com"], Key::P256);
    scene.state.publish("b", &other);
    let (admin, other) = (&haproxy.admin(), &other);
    let update =
        |live: PathBuf| async move { deploy::update(admin, &live, other.combined.as_bytes(), other.fingerprint, LIMIT).await };
    not_there(update(scene.state.combined("b")).await, "has not loaded");
    not_there(update(scene.state.combined("never-written")).await, "has not loaded");
}

/// As on a host whose first certificate is about to be installed.
#[tokio::test(flavor = "multi_thread")]
async fn a_haproxy_without_any_certificate_has_not_loaded_ours() {
    let scene = Scene::new();
    let haproxy = Haproxy::start("", scene.port);
    not_there(scene.update(&haproxy.admin(), &scene.old).await, "has not loaded");
    assert_eq!(deploy::loaded(&haproxy.admin(), LIMIT).await, Some(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxys_own_spelling_of_the_path_counts() {
    let scene = Scene::new();
    let detour = scene.state.path().join("detour");
    std::os::unix::fs::symlink("live", &detour).unwrap();
    let spelt = detour.join(NAME).join("combined.pem");
    let haproxy = Haproxy::start(&format!("ssl crt {}", spelt.display()), scene.port);
    let new = scene.renew(Key::P256);
    assert_eq!(scene.update(&haproxy.admin(), &new).await.unwrap(), Update::Updated);
    assert_eq!(scene.served().await, Some(new.fingerprint));
    assert!(haproxy.ask("show ssl cert").contains(spelt.to_str().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_names_for_one_file_are_for_a_reload() {
    let scene = Scene::new();
    let detour = scene.state.path().join("detour");
    std::os::unix::fs::symlink("live", &detour).unwrap();
    let bind = format!("{} crt {}", scene.bind(), detour.join(NAME).join("combined.pem").display());
    let haproxy = Haproxy::start(&bind, scene.port);
    not_there(scene.update(&haproxy.admin(), &scene.renew(Key::P256)).await, "under 2 names");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_transaction_is_left_alone() {
    let scene = Scene::new();
    let haproxy = Haproxy::start(&scene.bind(), scene.port);
    let theirs = scene.pki.issue(&[NAME], Key::P256);
    let set = format!("set ssl cert {} <<\n{}", scene.name(), theirs.combined);
    assert!(haproxy.ask(&set).contains("Transaction created"));
    not_there(scene.update(&haproxy.admin(), &scene.renew(Key::Rsa)).await, "is not committed");
    assert!(haproxy.ask("show ssl cert").contains("# transaction"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_below_admin_level_says_what_it_needs() {
    let scene = Scene::new();
    let haproxy = Haproxy::start(&scene.bind(), scene.port);
    let user = haproxy.folder.path().join("user.sock");
    not_there(scene.update(&user, &scene.renew(Key::P256)).await, "it needs `level admin`");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_not_there_or_closed_says_so() {
    let scene = Scene::new();
    let folder = TempDir::new().unwrap();
    not_there(scene.update(&folder.path().join("none"), &scene.old).await, "No such file");
    let left_behind = folder.path().join("left-behind");
    drop(std::os::unix::net::UnixListener::bind(&left_behind).unwrap());
    not_there(scene.update(&left_behind, &scene.old).await, "Connection refused");
}

/// What a make-believe Runtime API does with one command.
enum Act {
    Say(&'static str),
    Hang,
}

/// A Runtime API that takes the first entry whose word is in the command, and notes every command's first line.
fn pretend(
    folder: &Path,
    name: String,
    acts: Vec<(&'static str, Act)>,
) -> (PathBuf, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let socket = folder.join("pretend.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let notes = std::sync::Arc::clone(&asked);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 64 * 1024];
            let count = stream.read(&mut buffer).await.unwrap();
            let command = String::from_utf8_lossy(&buffer[..count]).lines().next().unwrap_or_default().to_owned();
            notes.lock().unwrap().push(command.clone());
            match acts.iter().find(|(word, _)| command.contains(&word.replace("NAME", &name))) {
                Some((_, Act::Say(answer))) => {
                    let _ = stream.write_all(answer.replace("NAME", &name).as_bytes()).await;
                }
                _ => held.push(stream),
            }
        }
    });
    (socket, asked)
}

const WORKER: (&str, Act) = ("show proc", Act::Say("Unknown command: 'show proc'\n\n"));
const LIST: (&str, Act) = ("show ssl cert", Act::Say("# filename\nNAME\n\n"));
const POOLS: (&str, Act) = ("show pools", Act::Say("  - Pool buffer (16384 bytes) : 2 allocated\n\n"));
const SET: (&str, Act) = ("set ssl cert", Act::Say("Transaction created for certificate NAME!\n\n"));
const ABORT: (&str, Act) = ("abort ssl cert", Act::Say("Transaction aborted for certificate 'NAME'!\n\n"));

/// For a make-believe Runtime API. The clock stands still while anybody has work to do, so that a busy machine changes nothing.
const PAUSED: Duration = Duration::from_secs(15);
/// What comes on top to clean up.
const CLEANING: Duration = Duration::from_secs(2);

async fn update_of(acts: Vec<(&'static str, Act)>) -> (Result<Update, Error>, Vec<String>) {
    let (scene, folder) = (Scene::new(), TempDir::new().unwrap());
    let (socket, asked) = pretend(folder.path(), scene.name(), acts);
    let live = scene.state.combined(NAME);
    let began = tokio::time::Instant::now();
    let update = deploy::update(&socket, &live, scene.old.combined.as_bytes(), scene.old.fingerprint, PAUSED).await;
    assert!(began.elapsed() <= PAUSED + CLEANING, "{:?}", began.elapsed());
    let asked = asked.lock().unwrap().iter().map(|line| line.replace(&scene.name(), "NAME")).collect();
    (update, asked)
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_hangs_is_bounded_wherever_it_hangs() {
    not_there(update_of(vec![]).await.0, "did not answer `show proc` in time");
    not_there(update_of(vec![WORKER, ("show ssl cert", Act::Hang)]).await.0, "did not answer `show ssl cert` in time");
    not_there(update_of(vec![WORKER, LIST]).await.0, "did not answer `show pools` in time");
    let (update, asked) = update_of(vec![WORKER, LIST, POOLS, ("set ssl cert", Act::Hang), ABORT]).await;
    not_there(update, "took nothing");
    assert_eq!(asked.last().unwrap(), "abort ssl cert NAME");
    let (update, asked) = update_of(vec![WORKER, LIST, POOLS, SET, ("commit", Act::Hang), ABORT]).await;
    not_there(update, "in time");
    assert_eq!(asked[4..], ["commit ssl cert NAME", "abort ssl cert NAME"]);
    // hanging at the abort too costs its own bound
    not_there(update_of(vec![WORKER, LIST, POOLS, ("set", Act::Hang), ("abort", Act::Hang)]).await.0, "took nothing");
    not_there(update_of(vec![WORKER, LIST, POOLS, SET, ("commit", Act::Hang), ("abort", Act::Hang)]).await.0, "in time");
    // and when it hangs only after the commit, nothing is known
    const COMMITTED: (&str, Act) = ("commit", Act::Say("Committing NAME.\nSuccess!\n\n"));
    const SHOW: (&str, Act) = ("show ssl cert NAME", Act::Hang);
    let (update, asked) = update_of(vec![WORKER, SHOW, LIST, POOLS, SET, COMMITTED]).await;
    not_there(update, "in time");
    assert_eq!(asked.last().unwrap(), "show ssl cert NAME");
}

#[tokio::test(start_paused = true)]
async fn only_the_exact_words_are_success() {
    const COMMITTED: (&str, Act) = ("commit", Act::Say("Committing NAME.\nSuccess!\n\n"));
    for (set, words) in [
        ("Transaction created for cert", "cut off"),
        ("Out of memory!\n\n", "Out of memory"),
        ("\n\n", "answered nothing"),
        ("", "tune.bufsize"),
    ] {
        let (update, asked) = update_of(vec![WORKER, LIST, POOLS, ("set", Act::Say(set)), COMMITTED, ABORT]).await;
        let said = update.map_or_else(|error| error.to_string(), |update| format!("{update:?}"));
        assert!(said.contains(words), "{said}");
        assert_eq!(asked.last().unwrap(), "abort ssl cert NAME");
        assert!(!asked.iter().any(|line| line.starts_with("commit")));
    }
    for commit in ["Committing NAME.\nSucc", "Committing NAME.\n\n", "Not a Success! at all\n\n", ""] {
        let (update, asked) = update_of(vec![WORKER, LIST, POOLS, SET, ("commit", Act::Say(commit)), ABORT]).await;
        assert!(!matches!(update, Ok(Update::Updated)), "{commit:?}");
        assert_eq!(asked.last().unwrap(), "abort ssl cert NAME", "{commit:?}");
    }
    // it says that it did, but shows another certificate
    not_there(update_of(vec![WORKER, LIST, POOLS, SET, COMMITTED]).await.0, "does not show the new certificate");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_runtime_api_is_told() {
    not_there(
        update_of(vec![("show", Act::Say("HTTP/1.1 400 Bad Request\r\n\r\n\n\n"))]).await.0,
        "is not haproxy's Runtime API",
    );
    not_there(
        update_of(vec![WORKER, ("show ssl cert", Act::Say("Unknown command: 'show ssl'\n\n"))]).await.0,
        "cannot list its certificates",
    );
    not_there(
        update_of(vec![("show proc", Act::Say("#<PID> <type>\n1 master\n# workers\n# programs\n\n"))]).await.0,
        "no worker that runs",
    );
}

//! New pairs tried before they are live: with themselves, then by the real `nginx -t` and `haproxy -c`, many at once.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use certsyncd::certificate::{Bundle, Piece};
use certsyncd::config::{Target, TargetKind};
use certsyncd::deploy::{self, MAX_TOGETHER, Staged};
use rustix::process::geteuid;
use support::pki::{Key, Pair, Pki};
use support::process::find;
use support::{script, target};
use tempfile::TempDir;

const NAME: &str = "www.example.com";
/// A certificate in the chain that is none: what is tried in memory does not look at it, OpenSSL does.
const BROKEN: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

fn broken(pair: &Pair) -> String {
    format!("{}{BROKEN}{}", pair.cert, pair.key)
}

/// Both kinds, each by the program that its reload runs: `body` stands before the real one.
fn servers(folder: &Path, body: &str) -> [(&'static str, Target); 2] {
    let kinds = [("nginx", TargetKind::Nginx), ("haproxy", TargetKind::Haproxy { socket: None })];
    kinds.map(|(name, kind)| {
        let own = script(&folder.join(name), &format!("{body}\nexec {} \"$@\"", find(name).display()));
        (name, Target { kind, ..target(&[&own, "-s", "reload"]) })
    })
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

async fn stage(target: &Target, pairs: &[PathBuf]) -> Staged {
    deploy::stage_all(target, pairs, &|| ()).await
}

/// Twice: with the key as it was loaded, and with one that is loaded for it. What fails is in `deploy::stage`'s own tests: there is no bundle
/// that does not fit.
#[test]
fn a_pair_is_tried_with_itself() {
    let pki = Pki::new();
    for key in [Key::Rsa, Key::P256, Key::P384, Key::P521, Key::Ed25519] {
        let bytes = pki.issue(&[NAME], key).combined.into_bytes().into();
        let bundle = Bundle::assemble(&[Piece { name: "pair".to_owned(), bytes }]).unwrap();
        for _ in 0..2 {
            deploy::stage(Path::new("/state/combined.pem"), &bundle).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_key_is_loaded_by_the_servers_own_checker() {
    let (folder, pki) = (TempDir::new().unwrap(), Pki::new());
    let keys = [Key::Rsa, Key::P256, Key::P384, Key::P521, Key::Ed25519].into_iter().enumerate();
    let pairs: Vec<PathBuf> =
        keys.map(|(at, key)| write(folder.path(), &format!("{at}.pem"), &pki.issue(&[NAME], key).combined)).collect();
    for (name, server) in servers(folder.path(), "") {
        let staged = stage(&server, &pairs).await;
        assert!(staged.refused.is_empty() && staged.skipped.is_none(), "{name}: {staged:?}");
        assert_eq!(staged.by, Some(if name == "nginx" { "nginx -t" } else { "haproxy -c" }));
    }
    let none = stage(&target(&["true"]), &pairs).await;
    assert!(none.by.is_none() && none.refused.is_empty() && none.skipped.is_none(), "{none:?}");
}

/// More than fit into one configuration, and bad ones among them: a handful of processes, and exactly those are out.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_pairs_are_tried_by_a_handful_of_processes() {
    let (folder, pki) = (TempDir::new().unwrap(), Pki::new());
    let good = pki.issue(&[NAME], Key::P256);
    let bad = [3, 4, MAX_TOGETHER, 900];
    let text = |at: usize| if bad.contains(&at) { broken(&good) } else { good.combined.clone() };
    let pairs: Vec<PathBuf> = (0..1_000).map(|at| write(folder.path(), &format!("{at}.pem"), &text(at))).collect();
    let expected: BTreeSet<&PathBuf> = bad.iter().map(|at| &pairs[*at]).collect();
    for (name, server) in servers(folder.path(), &format!("echo . >> {}/runs", folder.path().display())) {
        write(folder.path(), "runs", "");
        let steps = AtomicUsize::new(0);
        let step = || {
            steps.fetch_add(1, Ordering::Relaxed);
        };
        let staged = deploy::stage_all(&server, &pairs, &step).await;
        assert_eq!(staged.refused.keys().collect::<BTreeSet<_>>(), expected, "{name}: {:?}", staged.skipped);
        for (path, failure) in &staged.refused {
            assert_eq!(failure.kind, format!("stage_{name}"));
            let others = expected.iter().filter(|other| **other != path);
            let words = failure.to_string();
            assert!(words.contains(path.to_str().unwrap()), "{words}");
            assert!(others.into_iter().all(|other| !words.contains(&format!("{}", other.display()))), "{words}");
        }
        let runs = std::fs::read_to_string(folder.path().join("runs")).unwrap().lines().count();
        assert!(runs <= 1_000usize.div_ceil(MAX_TOGETHER) + bad.len(), "{name}: {runs} runs");
        assert_eq!(steps.load(Ordering::Relaxed), runs, "each run feeds the watchdog");
    }
}

/// As under the unit: another user than root, who may write nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn an_unprivileged_user_may_try_pairs() {
    let (folder, pki) = (TempDir::new().unwrap(), Pki::new());
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let good = pki.issue(&[NAME], Key::Rsa);
    let pairs = [write(folder.path(), "good.pem", &good.combined), write(folder.path(), "bad.pem", &broken(&good))];
    let who = "test $(id -u) = 65534 || exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \"$0\" \"$@\"";
    for (name, server) in servers(folder.path(), if geteuid().is_root() { who } else { "" }) {
        let staged = stage(&server, &pairs).await;
        assert_eq!(staged.skipped, None, "{name}");
        assert_eq!(staged.refused.keys().collect::<Vec<_>>(), [&pairs[1]], "{name}");
    }
}

/// Absent, broken, killed, angry about something else, or only warning: no pair is blamed, and no more is asked.
#[tokio::test(flavor = "multi_thread")]
async fn only_an_error_that_names_the_file_blames_it() {
    let (folder, pki) = (TempDir::new().unwrap(), Pki::new());
    let pair = write(folder.path(), "pair.pem", &pki.issue(&[NAME], Key::P256).combined);
    let named = pair.display();
    let fails = [
        ("echo 'nginx: [emerg] getrlimit failed' >&2; exit 1".to_owned(), "getrlimit failed"),
        (format!("echo '[emerg] {named}' >&2; kill -9 $$"), "was ended by signal 9"),
        (format!("echo '[warn] {named}'; echo '[WARNING] {named}'; echo looked at {named}; exit 1"), "ended with code 1"),
        (format!("echo '[emerg] \"{named}.old\"' >&2; exit 1"), "ended with code 1"),
        ("exit 1".to_owned(), "ended with code 1"),
    ];
    for (body, why) in fails {
        for (name, server) in servers(folder.path(), &body) {
            let staged = stage(&server, &[pair.clone(), pair.clone()]).await;
            assert!(staged.refused.is_empty(), "{name} `{body}`: {staged:?}");
            assert!(staged.skipped.as_ref().is_some_and(|text| text.contains(why)), "{name} `{body}`: {staged:?}");
        }
    }
    let absent = Target { kind: TargetKind::Nginx, ..target(&["/nonexistent/nginx", "-s", "reload"]) };
    let staged = stage(&absent, &[pair]).await;
    assert!(staged.skipped.unwrap().contains("there is no such program") && staged.refused.is_empty());
}

/// A name that would be more than a name in a configuration is not written into one, and keeps nobody else from being tried.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_means_something_to_a_server_is_not_given_to_it() {
    let (folder, pki) = (TempDir::new().unwrap(), Pki::new());
    let good = pki.issue(&[NAME], Key::P256);
    let odd = write(folder.path(), "a b; }.pem", &broken(&good));
    let bad = write(folder.path(), "bad.pem", &broken(&good));
    for (name, server) in servers(folder.path(), "") {
        let staged = stage(&server, &[odd.clone(), bad.clone()]).await;
        assert_eq!(staged.refused.keys().collect::<Vec<_>>(), [&bad], "{name}");
        assert!(staged.skipped.unwrap().contains("cannot be written in a configuration"), "{name}");
    }
}

//! What somebody has who has a copy of the state directory: the keys of its certificates, and no account.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/world.rs"]
mod world;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use certsyncd::report::Action;
use fakecloud::CdsCertificate;
use fakecloud::pki::Leaf;
use world::World;

const HOOK: &str = "hook-token-5a1c";

#[tokio::test(flavor = "multi_thread")]
async fn the_state_directory_holds_keys_of_certificates_for_the_owner_alone_and_no_secret_of_an_account() {
    let world = World::start().await;
    world.cloud.huawei.add("scs0000000000001", world.pki.issue(Leaf::new(["www.example.com"])));
    world.cloud.huawei.add("scs0000000000002", world.pki.issue(Leaf::new(["shop.example.com"])));
    world.cloud.cds.add("cds-1", CdsCertificate::new(world.pki.issue(Leaf::new(["api.example.com"]))));
    world.cloud.cds.set_valid("cds-1", 2);
    let config = world.config("", &inventory());
    let report = world.pass(&world.built(&config)).await;
    assert!(report.certificates.iter().all(|certificate| certificate.action == Action::Installed), "{:?}", report.certificates);
    // refused credentials are remembered, and alerts that cannot be sent wait
    let secrets = [world.cloud.huawei.secret_key(), world.cloud.cds.secret_key()];
    let wrong = secrets.clone().map(|secret| format!("wrong-{secret}"));
    let refused = world.pass(&world.built(&config.replace(&secrets[0], &wrong[0]).replace(&secrets[1], &wrong[1]))).await;
    assert!(refused.certificates.iter().all(|certificate| certificate.error.is_some()), "{:?}", refused.certificates);

    let files = files(&world.state());
    for part in ["ledger.json", "/outbox/", "/generations/"] {
        assert!(files.iter().any(|path| path.to_string_lossy().contains(part)), "nothing of {part} in {files:?}");
    }
    let mut keys = 0;
    for path in &files {
        let bytes = std::fs::read(path).unwrap();
        for secret in secrets.iter().chain(&wrong).map(String::as_str).chain([HOOK]) {
            assert!(!holds(&bytes, secret), "{} holds `{secret}`", path.display());
        }
        if holds(&bytes, "PRIVATE KEY") {
            keys += 1;
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        }
    }
    assert_eq!(keys, 3 * 2, "privkey.pem and combined.pem of three certificates, and nothing else, hold a key");
}

fn inventory() -> String {
    let entry = |name: &str, provider: &str, id: &str| {
        format!("[[certificate]]\nname = \"{name}\"\nprovider = \"{provider}\"\nid = \"{id}\"\n")
    };
    format!(
        "[[alerts.channel]]\nkind = \"webhook\"\nname = \"nobody\"\nurl = \"http://127.0.0.1:1/{HOOK}\"\n{}{}{}",
        entry("www", "scm", "scs0000000000001"),
        entry("shop", "archive", "scs0000000000002"),
        entry("api", "cds", "cds-1")
    )
}

/// Every regular file below; links are not followed, what they lead to is there too.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

//! A host of its own for a test: a state directory, the fake clouds, a configuration.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certsyncd::clock::Clock;
use certsyncd::config;
use certsyncd::provider::Limits;
use certsyncd::report::Report;
use certsyncd::sync::{Scope, Syncer};
use fakecloud::Fakecloud;
use fakecloud::pki::Pki;
use tokio_util::sync::CancellationToken;

pub struct World {
    pub cloud: Fakecloud,
    pub pki: Pki,
    pub stop: CancellationToken,
    pub clock: Clock,
    /// Bounds of requests; short pauses, so that what is tried again is not waited for.
    pub limits: Limits,
    folder: tempfile::TempDir,
}

impl World {
    pub async fn start() -> World {
        World::start_at(tempfile::tempdir().unwrap()).await
    }

    /// With its files in memory where there is such a place: for tests that write much.
    pub async fn start_in_memory() -> World {
        World::start_at(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()).await
    }

    async fn start_at(folder: tempfile::TempDir) -> World {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let world = World {
            cloud: Fakecloud::start().await,
            pki: Pki::new(),
            stop: CancellationToken::new(),
            clock: Clock::system(),
            limits: Limits {
                first_pause: Duration::from_millis(10),
                longest_pause: Duration::from_millis(50),
                ..Limits::default()
            },
            folder,
        };
        world.write("root.pem", &world.pki.root_pem());
        // Every alert of the test, one line of JSON each.
        world.script("note", &format!("cat >> {0}; echo >> {0}", world.path("events").display()));
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.write(name, &format!("#!/bin/sh\n{body}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub fn live(&self, name: &str) -> PathBuf {
        self.state().join("live").join(name)
    }

    /// The configuration: three providers (`scm`, `archive`, `cds`), an alert channel, and what the test adds.
    pub fn config(&self, extra: &str, rest: &str) -> String {
        let huawei = |name: &str, api: &str| {
            format!(
                "[providers.{name}]\nkind = \"huawei-scm\"\nendpoint = \"{}\"\nproject_id = \"{}\"\napi = \"{api}\"\nrate_limit = 0\n\
                 auth = {{ method = \"access-key\", access_key = \"{}\", secret_key = \"{}\" }}\n{extra}\n",
                self.cloud.huawei.endpoint(),
                self.cloud.huawei.project_id(),
                self.cloud.huawei.access_key(),
                self.cloud.huawei.secret_key(),
            )
        };
        format!(
            "version = 1\n[daemon]\nstate_dir = \"{}\"\nsplay = \"0s\"\n{}{}[providers.cds]\nkind = \"cds\"\nendpoint = \"{}\"\nrate_limit = 0\n\
             auth = {{ method = \"access-key\", access_key = \"{}\", secret_key = \"{}\" }}\n{extra}\n\
             [[alerts.channel]]\nkind = \"command\"\nname = \"note\"\ncommand = [\"{}\"]\n{rest}",
            self.state().display(),
            huawei("scm", "export"),
            huawei("archive", "download"),
            self.cloud.cds.endpoint(),
            self.cloud.cds.access_key(),
            self.cloud.cds.secret_key(),
            self.path("note").display(),
        )
    }

    pub fn sync(&self, rest: &str) -> Syncer {
        self.built(&self.config("", rest))
    }

    /// With the fake clouds' root among the trusted ones.
    pub fn sync_trusting(&self, rest: &str) -> Syncer {
        self.built(&self.config(&format!("ca_file = \"{}\"", self.path("root.pem").display()), rest))
    }

    pub fn built(&self, text: &str) -> Syncer {
        let path = self.write("config.toml", text);
        let settings = config::load(&path).unwrap_or_else(|refused| panic!("{}", refused.render(false)));
        Syncer::with_limits(Arc::new(settings), self.clock.clone(), "host".into(), self.limits.clone()).unwrap()
    }

    /// A pass by hand, with its alerts sent.
    pub async fn pass(&self, sync: &Syncer) -> Report {
        let report = sync.pass(&Scope { by_hand: true, ..Scope::default() }, &self.stop, &|_| ()).await.unwrap();
        self.send(sync).await;
        report
    }

    pub async fn send(&self, sync: &Syncer) {
        sync.outbox().deliver(&sync.settings().alerts.channels, &self.clock, &self.stop).await;
    }

    /// Every alert so far.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.path("events")).unwrap_or_default();
        text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn event_names(&self) -> Vec<String> {
        self.events().iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    }

    /// Every file of the store with what proves that it was not written again.
    pub fn files(&self) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
        let mut files = BTreeMap::new();
        for folder in ["live", "generations"] {
            walk(&self.state().join(folder), &mut files);
        }
        files
    }
}

fn walk(folder: &Path, files: &mut BTreeMap<PathBuf, (u64, std::time::SystemTime)>) {
    use std::os::unix::fs::MetadataExt;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let metadata = std::fs::symlink_metadata(entry.path()).unwrap();
        files.insert(entry.path(), (metadata.ino(), metadata.modified().unwrap()));
        if metadata.is_dir() {
            walk(&entry.path(), files);
        }
    }
}

pub fn scope(names: &[&str], force: bool) -> Scope {
    Scope { names: Some(names.iter().map(|name| (*name).to_owned()).collect()), force, by_hand: true, ..Scope::default() }
}

//! A host with one certificate, `www`, and what there is to look at.
#![allow(dead_code)]

use std::process::{Command, Stdio};

use certsyncd::report::Report;
use certsyncd::sync::Syncer;
use fakecloud::pki::{Issued, Leaf};

use crate::world::World;

pub const WWW: &str = "[[certificate]]\nname = \"www\"\nprovider = \"scm\"\nid = \"scs0000000000001\"\n";
pub const ID: &str = "scs0000000000001";

pub fn leaf() -> Leaf {
    Leaf::new(["www.example.com"])
}

/// `www` at its cloud and live on disk.
pub async fn installed(rest: &str) -> (World, Syncer, Issued) {
    let world = World::start().await;
    let issued = world.pki.issue(leaf().days(60));
    world.cloud.huawei.add(ID, issued.clone());
    let sync = world.sync(&format!("{WWW}{rest}"));
    assert!(world.pass(&sync).await.is_ok());
    world.cloud.clear_requests();
    (world, sync, issued)
}

pub fn live(report: &Report) -> String {
    report.certificates[0].live.as_ref().expect("something is live").fingerprint.to_string()
}

/// The messages of one kind of event.
pub fn told(world: &World, kind: &str) -> Vec<String> {
    let events = world.events();
    events.iter().filter(|event| event["event"] == kind).map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

pub fn generations(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.state().join("generations/www")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The binary on a world's configuration.
pub fn certsyncd(world: &World, words: &[&str]) -> (i32, String, String) {
    let output = command(world).args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

pub fn command(world: &World) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certsyncd"));
    command.env("CERTSYNCD_CONFIG", world.path("config.toml")).env_remove("CERTSYNCD_LOG").stdin(Stdio::null());
    command
}

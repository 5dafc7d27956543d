//! A pass reads nothing of what nobody touched, writes nothing but its time, and misses nothing that somebody did.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/world.rs"]
mod world;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use certsyncd::clock::Clock;
use certsyncd::ledger::{FILE, Ledger, PULSE};
use certsyncd::report::{Action, Report};
use certsyncd::sync::Syncer;
use fakecloud::CdsCertificate;
use fakecloud::pki::Leaf;
use jiff::{SignedDuration, Timestamp};
use world::World;

/// Two certificates at CDS, the second with an output, and a clock that runs ahead of what the file system notes.
async fn world() -> (World, Syncer) {
    let mut world = World::start().await;
    world.clock = Clock::manual(Timestamp::now() + SignedDuration::from_mins(1));
    for name in ["api", "www"] {
        let issued = world.pki.issue(Leaf::new([format!("{name}.example.com")]));
        world.cloud.cds.add(name, CdsCertificate::new(issued));
    }
    let sync = world.sync(&inventory(&world));
    (world, sync)
}

fn inventory(world: &World) -> String {
    format!(
        "[deploy.server]\nkind = \"command\"\nreload = [\"true\"]\n\
         [[certificate]]\nname = \"api\"\nprovider = \"cds\"\nid = \"api\"\ndeploy = [\"server\"]\n\
         [[certificate]]\nname = \"www\"\nprovider = \"cds\"\nid = \"www\"\n\
         [[certificate.output]]\nformat = \"combined\"\npath = \"{}\"\n",
        world.path("www.pem").display()
    )
}

/// A pass, a minute later.
async fn pass(world: &World, sync: &Syncer) -> Report {
    world.clock.set(world.clock.now() + SignedDuration::from_secs(10));
    world.pass(sync).await
}

/// Passes until nothing is left to do: the first installs, the second reads everything and seals it.
async fn settle(world: &World, sync: &Syncer) {
    for _ in 0..3 {
        pass(world, sync).await;
    }
    world.cloud.clear_requests();
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_pass_writes_its_time_and_nothing_else() {
    let (world, sync) = world().await;
    settle(&world, &sync).await;
    let (ledger, files) = (inode(&world.state().join(FILE)), world.files());
    let before = Ledger::peek(&world.state()).unwrap().ledger;
    let report = pass(&world, &sync).await;
    assert!(report.certificates.iter().all(|c| c.action == Action::Unchanged && c.drift.is_empty()));
    assert_eq!((report.requests, world.cloud.count("DescribeCACertificates")), (1, 1));
    assert_eq!(inode(&world.state().join(FILE)), ledger, "the ledger is not written");
    assert_eq!(world.files(), files);

    certsyncd::daemon::leave_status(&sync, &sync.take_memory().unwrap(), &world.clock);
    let after = Ledger::peek(&world.state()).unwrap().ledger;
    assert!(after.last_success > before.last_success);
    assert_eq!(after.last_success, Some(report.finished));
    for (name, record) in &after.certificates {
        assert!(record.last_checked > before.certificates[name].last_checked, "{name}");
    }
    // The times are of this ledger alone: another one is not younger than it says.
    let mut other = before.clone();
    other.last_pass.as_mut().unwrap().finished = Timestamp::UNIX_EPOCH;
    other.save(&world.state()).unwrap();
    assert_eq!(Ledger::peek(&world.state()).unwrap().ledger, other);
    fs::remove_file(world.state().join(PULSE)).unwrap();
    assert_eq!(Ledger::peek(&world.state()).unwrap().ledger, other);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_that_is_there_gets_the_new_times() {
    use certsyncd::observe::status;
    let (world, sync) = world().await;
    settle(&world, &sync).await;
    let leave = |sync: &Syncer| certsyncd::daemon::leave_status(sync, &sync.take_memory().unwrap(), &world.clock);
    // Only a configuration that is older than the pass can have been read by it.
    let config = File::open(world.path("config.toml")).unwrap();
    config.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    pass(&world, &sync).await;
    leave(&sync);
    let (written, first) = (status::trace(&world.state()).unwrap(), status::read(&world.state()).unwrap());
    let report = pass(&world, &sync).await;
    leave(&sync);
    assert_eq!(status::trace(&world.state()).unwrap(), written, "it is not written again");
    let second = status::read(&world.state()).unwrap();
    assert_eq!((first.last_pass < second.last_pass, second.last_pass), (true, Some(report.finished)));
    assert!(second.certificates.iter().zip(&first.certificates).all(|(now, then)| now.last_checked > then.last_checked));
    // Somebody else's hand, or another configuration: then it is.
    fs::set_permissions(world.state().join("status.json"), Permissions::from_mode(0o600)).unwrap();
    pass(&world, &sync).await;
    leave(&sync);
    assert_eq!(fs::metadata(world.state().join("status.json")).unwrap().mode() & 0o777, 0o644);
}

type Deed = (&'static str, fn(&World));

/// What somebody does to one certificate, down to an edit that keeps size and times.
const DEEDS: [Deed; 9] = [
    ("edits a file and hides it", |world| {
        let path = world.live("api").join("privkey.pem");
        let times = fs::metadata(&path).unwrap().modified().unwrap();
        let mut text = fs::read(&path).unwrap();
        text[40] ^= 1;
        fs::write(&path, text).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    }),
    ("opens the key to all", |world| {
        fs::set_permissions(world.live("api").join("privkey.pem"), Permissions::from_mode(0o644)).unwrap();
    }),
    ("removes a file", |world| fs::remove_file(world.live("api").join("chain.pem")).unwrap()),
    ("takes the folder's rights", |world| {
        fs::set_permissions(world.live("api").canonicalize().unwrap(), Permissions::from_mode(0o700)).unwrap();
    }),
    ("removes the link", |world| fs::remove_file(world.live("api")).unwrap()),
    ("puts a copy in its place", |world| {
        let target = fs::read_link(world.live("api")).unwrap();
        fs::remove_file(world.live("api")).unwrap();
        std::os::unix::fs::symlink(world.state().join("live").join(target), world.live("api")).unwrap();
    }),
    ("exchanges it for one that leads elsewhere, while nobody looks at the folder's time", |world| {
        let (link, other) = (world.live("api"), world.state().join("other"));
        std::os::unix::fs::symlink(fs::read_link(world.live("www")).unwrap(), &other).unwrap();
        let times = fs::metadata(world.state().join("live")).unwrap().modified().unwrap();
        fs::rename(other, link).unwrap();
        File::open(world.state().join("live")).unwrap().set_modified(times).unwrap();
    }),
    ("edits an output", |world| fs::write(world.path("www.pem"), "nothing").unwrap()),
    ("opens an output to all", |world| {
        fs::set_permissions(world.path("www.pem"), Permissions::from_mode(0o644)).unwrap();
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_somebody_does_breaks_the_seal_and_is_put_right() {
    let (world, sync) = world().await;
    settle(&world, &sync).await;
    let right = fs::read(world.path("www.pem")).unwrap();
    for (deed, act) in DEEDS {
        act(&world);
        let report = pass(&world, &sync).await;
        let drift: Vec<&String> = report.certificates.iter().flat_map(|certificate| &certificate.drift).collect();
        assert_eq!(drift.len(), 1, "{deed}: {drift:?}");
        let live = sync.store().live("api").unwrap().unwrap();
        assert!(live.path.join("privkey.pem").exists(), "{deed}");
        assert_eq!(fs::read(world.path("www.pem")).unwrap(), right, "{deed}");
        settle(&world, &sync).await;
        assert!(Ledger::peek(&world.state()).unwrap().ledger.certificates.values().all(|record| record.seal.is_some()), "{deed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_in_a_sealed_folder_is_swept() {
    let (world, sync) = world().await;
    settle(&world, &sync).await;
    let stray = world.state().join("generations/api/.tmp-certsyncd-dead");
    fs::create_dir(&stray).unwrap();
    pass(&world, &sync).await;
    assert!(!stray.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn as_long_as_nothing_moves_in_the_folders_they_are_not_looked_through() {
    let (world, sync) = world().await;
    let folders = || Ledger::peek(&world.state()).unwrap().ledger.folders;
    pass(&world, &sync).await;
    let before = folders();
    pass(&world, &sync).await;
    assert_ne!(folders(), before, "links moved after the first look");
    settle(&world, &sync).await;
    let known = folders();
    assert!(known.is_some());
    pass(&world, &sync).await;
    assert_eq!(folders(), known);
    // What was left behind, beside the folders of certificates, by whoever died there.
    for stray in ["live/.tmp-certsyncd-dead", "generations/.tmp-certsyncd-dead"] {
        let stray = world.state().join(stray);
        std::os::unix::fs::symlink("nowhere", &stray).unwrap();
        pass(&world, &sync).await;
        assert!(!stray.is_symlink(), "{}", stray.display());
        assert_ne!(folders(), known);
        settle(&world, &sync).await;
    }
    let known = folders();
    world.cloud.cds.replace("api", world.pki.issue(Leaf::new(["api.example.com"]).days(200)));
    pass(&world, &sync).await;
    pass(&world, &sync).await;
    assert_ne!(folders(), known, "a link moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_in_the_folder_of_a_removed_entry_is_swept() {
    let (world, sync) = world().await;
    settle(&world, &sync).await;
    let stray = world.state().join("generations/www/.tmp-certsyncd-dead");
    fs::create_dir(&stray).unwrap();
    drop(sync);
    let whole = inventory(&world);
    let sync = world.sync(whole.rsplit_once("[[certificate]]").unwrap().0);
    pass(&world, &sync).await;
    assert!(!stray.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_and_the_daily_look_come_through() {
    let (world, sync) = world().await;
    settle(&world, &sync).await;
    world.cloud.cds.replace("api", world.pki.issue(Leaf::new(["api.example.com"]).days(200)));
    let report = pass(&world, &sync).await;
    let actions: Vec<Action> = report.certificates.iter().map(|certificate| certificate.action).collect();
    assert_eq!(actions, [Action::Installed, Action::Unchanged]);
    settle(&world, &sync).await;
    let due = Ledger::peek(&world.state()).unwrap().ledger.certificates["www"].full_check.unwrap();
    world.cloud.set_now(due);
    world.clock.set(due);
    pass(&world, &sync).await;
    assert!(world.cloud.requests().iter().any(|seen| seen.id.as_deref() == Some("www")), "it was fetched and looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_wish_for_an_output_breaks_the_seal() {
    let (world, sync) = world().await;
    settle(&world, &sync).await;
    let sync = world.sync(&inventory(&world).replace("format = \"combined\"", "format = \"combined\"\nmode = \"0640\""));
    pass(&world, &sync).await;
    assert_eq!(fs::metadata(world.path("www.pem")).unwrap().mode() & 0o777, 0o640);
}

//! Whole passes with the real haproxy: in place over its Runtime API, by a reload where that cannot be, and what goes wrong.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/site.rs"]
mod site;
mod support;
#[path = "support/world.rs"]
mod world;

use certsyncd::report::TargetAction;
use certsyncd::sync::Scope;
use fakecloud::pki::Leaf;
use site::*;
use support::free_port;
use support::haproxy::Haproxy;
use world::World;

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_is_updated_in_place_without_another_process() {
    for is_master in [false, true] {
        let proxy = Proxy::new(is_master).await;
        let socket = if is_master { proxy.haproxy.master() } else { proxy.haproxy.admin() };
        let pid = || proxy.haproxy.ask("show info").lines().find(|line| line.starts_with("Pid:")).unwrap().to_owned();
        let before = pid();
        let sync = proxy.sync(&socket, "exit 1");
        assert_eq!(proxy.world.pass(&sync).await.targets[0].action, TargetAction::Unchanged);
        let new = renew(&proxy.world, "www", 0);
        let plan = sync.plan(&Scope::default()).await.unwrap();
        assert_eq!(plan.targets[0].action, "update");
        assert!(plan.targets[0].why.contains("by a TLS signature in memory and by `haproxy -c`, then in place over"), "{plan:?}");
        let report = proxy.world.pass(&sync).await;
        assert_eq!(report.targets[0].action, TargetAction::Updated, "{:?}", report.targets);
        assert_eq!(served(proxy.port, host("www")).await, new.sha256);
        assert_eq!((pid(), proxy.reloads()), (before.clone(), 0), "master: {is_master}");
        assert_eq!(proxy.world.pass(&sync).await.targets[0].action, TargetAction::Unchanged);
        // Told by force although nothing changed: given the same again, still without a reload.
        let forced = sync.pass(&world::scope(&["www"], true), &proxy.world.stop, &|_| ()).await.unwrap();
        assert_eq!(forced.targets[0].action, TargetAction::Updated, "{:?}", forced.targets);
        assert_eq!((pid(), proxy.reloads()), (before, 0), "master: {is_master}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_is_reloaded_where_it_cannot_be_updated_in_place() {
    let proxy = Proxy::new(true).await;
    let new = renew(&proxy.world, "www", 0);
    // This socket may read, not write.
    let socket = proxy.haproxy.folder.path().join("user.sock");
    let sync = proxy.sync(&socket, &format!("kill -USR2 {}", proxy.haproxy.server.id()));
    let report = proxy.world.pass(&sync).await;
    assert_eq!((report.targets[0].action, proxy.reloads()), (TargetAction::Reloaded, 1), "{:?}", report.targets);
    assert_eq!(served(proxy.port, host("www")).await, new.sha256);
    assert_ne!(new.sha256, proxy.first.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_is_reloaded_when_its_socket_hangs_and_goes_back_when_that_fails() {
    let proxy = Proxy::new(true).await;
    let silent = proxy.world.path("silent.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&silent).unwrap();
    let body = format!(
        "if ! cmp -s {} {}; then echo \"{WORDS}\" >&2; exit 1; fi; kill -USR2 {}",
        proxy.world.live("www").join("cert.pem").display(),
        proxy.world.path("first.pem").display(),
        proxy.haproxy.server.id()
    );
    std::fs::copy(proxy.world.live("www").join("cert.pem"), proxy.world.path("first.pem")).unwrap();
    let sync = proxy.sync(&silent, &body);
    assert_eq!(proxy.world.pass(&sync).await.targets[0].action, TargetAction::Unchanged);
    renew(&proxy.world, "www", 0);
    let report = proxy.world.pass(&sync).await;
    assert_eq!(report.targets[0].action, TargetAction::RolledBack, "{:?}", report.targets);
    assert!(report.targets[0].error.as_ref().unwrap().to_string().contains(WORDS));
    assert_eq!(served(proxy.port, host("www")).await, proxy.first.sha256);
}

/// A `crt` folder or a `crt-list` names a copy, not the live file: that copy is an output, and what haproxy knows it by.
#[tokio::test(flavor = "multi_thread")]
async fn what_haproxy_has_from_a_folder_or_a_list_is_updated_in_place_by_its_output() {
    for kind in ["crt", "crt-list"] {
        let (world, port) = (World::start().await, free_port());
        world.cloud.huawei.add(id(0), world.pki.issue(Leaf::new([host("www")]).days(60)));
        let folder = world.path("certs");
        std::fs::create_dir(&folder).unwrap();
        let output = format!("[[certificate.output]]\nformat = \"combined\"\npath = \"{}/www.pem\"\n", folder.display());
        assert!(world.pass(&world.sync(&format!("{}{output}", entries(&["www"], "")))).await.is_ok());
        let list = world.write("list", &format!("{}/www.pem www.example.com\n", folder.display()));
        let what = if kind == "crt" { folder.display() } else { list.display() };
        let haproxy = Haproxy::start(&format!("ssl {kind} {what}"), port);
        let keys = format!("socket = \"{}\"\nreload = [\"false\"]\n", haproxy.admin().display());
        let sync = world.sync(&format!("{}{output}{}", entries(&["www"], "edge"), target("edge", "haproxy", port, &keys)));
        assert_eq!(world.pass(&sync).await.targets[0].action, TargetAction::Unchanged);
        let new = renew(&world, "www", 0);
        let report = world.pass(&sync).await;
        assert_eq!(report.targets[0].action, TargetAction::Updated, "{kind}: {:?}", report.targets);
        assert_eq!(served(port, host("www")).await, new.sha256, "{kind}");
    }
}

//! What other users and the programs we start can see of us: no secret on a command line, in an environment, in a core dump.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/world.rs"]
mod world;

use std::net::TcpListener;
use std::process::{Command, Stdio};

use fakecloud::pki::Leaf;
use world::World;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_we_start_sees_a_secret() {
    let world = World::start().await;
    let issued = world.pki.issue(Leaf::new(["www.example.com"]).days(20));
    world.cloud.huawei.add("scs0000000000001", issued.clone());
    let seen = world.path("seen");
    // Its own environment and command line, and those of every process above it.
    let look = format!(
        "cat > /dev/null; {{ pid=$$; cat /proc/$pid/environ; while [ $pid -gt 1 ]; do cat /proc/$pid/cmdline; echo \" of $pid\"; \
         pid=$(sed -n 's/^PPid:[^0-9]*//p' /proc/$pid/status); done; }} >> {}",
        seen.display()
    );
    let script = world.script("look", &look);
    world.script("note", &look);
    let (access_key, secret_key) = (world.cloud.huawei.access_key(), world.cloud.huawei.secret_key());
    let target = format!(
        "[[certificate]]\nname = \"www\"\nprovider = \"scm\"\nid = \"scs0000000000001\"\ndeploy = [\"web\"]\n\
         [deploy.web]\nkind = \"command\"\ntest = [\"{0}\"]\nreload = [\"{0}\"]\nmin_gap = \"0s\"\n",
        script.display()
    );
    let config = world.config("", &target).replace(&format!("\"{access_key}\""), "{ env = \"SCM_AK\" }");
    world.write("config.toml", &config.replace(&format!("\"{secret_key}\""), "{ env = \"SCM_SK\" }"));
    let output = Command::new(env!("CARGO_BIN_EXE_certsyncd"))
        .arg("sync")
        .env("CERTSYNCD_CONFIG", world.path("config.toml"))
        .env("CERTSYNCD_LOG", "trace")
        .envs([("SCM_AK", &access_key), ("SCM_SK", &secret_key)])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    let seen = String::from_utf8_lossy(&std::fs::read(&seen).unwrap()).into_owned();
    assert!(seen.matches("certsyncd\0sync").count() >= 3, "test, reload and an alert each saw who started them: {seen}");
    assert!(seen.contains("PATH="), "and their environment: {seen}");
    let key = issued.key_pem.lines().nth(1).unwrap().to_owned();
    for (what, secret) in [("access key", access_key), ("secret key", secret_key), ("private key", key)] {
        assert!(!seen.contains(&secret), "a child sees the {what}: {seen}");
        assert!(!said.contains(&secret), "the log at its loudest holds the {what}");
    }
    assert!(!seen.contains("SCM_"), "not even the names of variables: {seen}");
}

/// Not dumpable (prctl(2), `PR_SET_DUMPABLE`): no core file whatever the limits are, and no other process of the same user may look into
/// the memory. It shows in who owns the files of `/proc`.
#[tokio::test(flavor = "multi_thread")]
async fn no_core_is_ever_dumped() {
    let world = World::start().await;
    // A cloud that never answers: who has come so far holds the secrets.
    let cloud = TcpListener::bind("127.0.0.1:0").unwrap();
    let entry = "[[certificate]]\nname = \"www\"\nprovider = \"scm\"\nid = \"scs0000000000001\"\n";
    let there = format!("http://{}", cloud.local_addr().unwrap());
    world.write("config.toml", &world.config("", entry).replace(&world.cloud.huawei.endpoint(), &there));
    let folder = world.path("core");
    std::fs::create_dir(&folder).unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -c unlimited; exec \"$0\" --config \"$1\" sync", env!("CARGO_BIN_EXE_certsyncd")])
        .arg(world.path("config.toml"))
        .current_dir(&folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (_connection, _) = cloud.accept().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
    use std::os::unix::process::ExitStatusExt;
    let status = child.wait().unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
}

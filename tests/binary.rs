//! The built binary: exit codes, what goes to stdout and stderr, and the fields that scripts rely on.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use fakecloud::pki::{Issued, Leaf};
use fakecloud::{CdsCertificate, Fault, HuaweiCertificate, Match, What};
use serde_json::Value;
use world::World;

/// A host with a configuration file, for the binary.
struct Host {
    world: World,
}

/// What a command left.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Host {
    /// With this inventory; the account is empty.
    async fn new(rest: &str) -> Host {
        let host = Host { world: World::start().await };
        host.configure(rest);
        host
    }

    /// One entry `www`, in the account and valid for 60 days.
    async fn with_www(rest: &str) -> Host {
        let host = Host::new(&format!("{WWW}{rest}")).await;
        host.renew(60);
        host
    }

    fn configure(&self, rest: &str) {
        self.world.write("config.toml", &self.world.config("", rest));
    }

    fn renew(&self, days: i64) -> Issued {
        let issued = self.world.pki.issue(Leaf::new(["www.example.com"]).days(days));
        self.world.cloud.huawei.add("scs0000000000001", issued.clone());
        issued
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certsyncd"));
        command
            .args(words)
            .env("CERTSYNCD_CONFIG", self.world.path("config.toml"))
            .env_remove("CERTSYNCD_LOG")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        let output = self.command(words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs it, expects this exit code, and gives what it says on stdout.
    fn expect(&self, code: i32, words: &[&str]) -> Ran {
        let ran = self.run(words);
        assert_eq!(ran.code, code, "{words:?}\n{}\n{}", ran.out, ran.err);
        ran
    }

    fn json(&self, code: i32, words: &[&str]) -> Value {
        serde_json::from_str(&self.expect(code, words).out).unwrap()
    }
}

const WWW: &str = "[[certificate]]\nname = \"www\"\nprovider = \"scm\"\nid = \"scs0000000000001\"\n";
const TARGET: &str = "deploy = [\"web\"]\n[deploy.web]\nkind = \"command\"\nreload = [\"true\"]\nmin_gap = \"0s\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_2_and_says_what_is_right() {
    let host = Host::with_www("").await;
    for (words, expected) in [
        (&[][..], "Usage: certsyncd"),
        (&["snyc"], "sync"),
        (&["sync", "--froce"], "--force"),
        (&["sync", "--wait", "soon"], "a duration such as"),
        (&["sync", "ww"], "no certificate `ww` in the inventory"),
        (&["plan", "ww"], "no certificate `ww` in the inventory"),
        (&["rollback", "ww"], "no certificate `ww` in the inventory"),
        (&["rollback"], "<NAME>"),
        (&["rollback", "www", "--to", "000009-0123456789ab"], "has no generation `000009-0123456789ab`"),
        (&["list", "smc"], "no provider `smc`"),
        (&["init", "smc"], "there is `archive`, `cds`, `scm`"),
        (&["alert", "test", "pager"], "no alert channel `pager`"),
        (&["completions", "tcsh"], "bash"),
    ] {
        let ran = host.expect(2, words);
        assert!(ran.err.contains(expected), "{words:?}: {}", ran.err);
        assert_eq!(ran.out, "", "{words:?}");
    }
    assert_eq!(host.world.cloud.total(), 0, "nobody was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_not_valid_is_78_for_every_command() {
    let host = Host::new("").await;
    let every: &[&[&str]] = &[
        &["run"],
        &["sync"],
        &["plan"],
        &["check"],
        &["status"],
        &["list"],
        &["init", "scm"],
        &["rollback", "www"],
        &["prune"],
        &["alert", "test"],
        &["polkit-rule"],
    ];
    host.configure("[[certificate]]\nname = \"www\"\nprovidr = \"scm\"\nid = \"x\"\n[deploy.web]\nkind = \"ngnix\"\n");
    for words in every {
        let ran = host.expect(78, words);
        for expected in ["providr", "`provider`", "ngnix", "config.toml"] {
            assert!(ran.err.contains(expected), "{words:?} must say {expected}: {}", ran.err);
        }
        assert_eq!(ran.out, "", "{words:?}");
    }
    assert_eq!(host.expect(3, &["status", "--check"]).out.lines().count(), 1, "as a plugin it is unknown");
    for words in every {
        let mut with_file = vec!["--config", "/nowhere/config.toml"];
        with_file.extend_from_slice(words);
        let ran = host.expect(78, &with_file);
        assert!(ran.err.contains("/nowhere/config.toml") && ran.err.contains("hint:"), "{words:?}: {}", ran.err);
    }
    assert!(!host.world.state().exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_says_what_it_did_in_words_and_as_json() {
    let host = Host::with_www(TARGET).await;
    let ran = host.expect(0, &["sync"]);
    for expected in ["www", "installed", "web", "reloaded", "requests"] {
        assert!(ran.out.contains(expected), "{expected} in {}", ran.out);
    }
    assert_eq!(ran.err, "");
    let first = host.json(0, &["sync", "--json"]);
    fields(&first, "version result certificates targets requests duration_ms");
    fields(&first["certificates"][0], "name action id fingerprint generation error + held");
    fields(&first["targets"][0], "name action error + pending");
    assert_eq!((first["version"].as_i64(), first["result"].as_str()), (Some(1), Some("ok")));
    assert_eq!(first["certificates"][0]["action"], "unchanged");
    assert!(first["requests"].as_u64().unwrap() >= 1 && first["duration_ms"].is_u64());
    let renewed = host.renew(80);
    let second = host.json(0, &["sync", "www", "--json"]);
    let www = &second["certificates"][0];
    assert_eq!((www["action"].as_str(), www["fingerprint"].as_str()), (Some("installed"), Some(renewed.sha256.as_str())));
    assert_eq!(www["generation"].as_str().unwrap().split('-').next(), Some("000002"));
    assert_eq!(second["targets"][0]["action"], "reloaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failure_is_1_with_its_causes_and_the_hint() {
    let host = Host::with_www("[[certificate]]\nname = \"shop\"\nprovider = \"scm\"\nid = \"scs0000000000002\"\n").await;
    host.world
        .cloud
        .huawei
        .add("scs0000000000002", HuaweiCertificate::new(host.world.pki.issue(Leaf::new(["shop.example.com"]))));
    host.world.cloud.huawei.withdraw("scm:cert:export");
    let ran = host.expect(1, &["sync", "--json"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((report["result"].as_str(), report["certificates"][1]["action"].as_str()), (Some("failed"), Some("failed")));
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines[0], "error: failed to sync `www` from `scm`");
    assert!(lines[1].starts_with(" -> failed to fetch certificate `scs0000000000001`"), "{}", ran.err);
    assert!(lines.iter().any(|line| line.starts_with(" -> server said 401: `SCM.4002`")), "{}", ran.err);
    assert!(lines.iter().any(|line| line.starts_with("hint: ") && line.contains("scm:cert:export")), "{}", ran.err);
    assert!(ran.err.contains("failed to sync `shop`"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_says_what_would_be_done_and_changes_nothing() {
    let host = Host::with_www(TARGET).await;
    let first = host.json(0, &["plan", "--json"]);
    fields(&first, "version certificates targets");
    fields(&first["certificates"][0], "name action why id fingerprint");
    fields(&first["targets"][0], "name action why");
    assert_eq!(
        (first["certificates"][0]["action"].as_str(), first["targets"][0]["action"].as_str()),
        (Some("install"), Some("reload"))
    );
    assert!(!host.world.live("www").exists());
    host.expect(0, &["sync"]);
    let renewed = host.renew(80);
    let (before, ledger) = (host.world.files(), host.world.read("state/ledger.json"));
    let second = host.json(0, &["plan", "www", "--json"]);
    assert_eq!(second["certificates"][0]["fingerprint"].as_str(), Some(renewed.sha256.as_str()));
    let words = host.expect(0, &["plan"]).out;
    assert!(words.contains("install") && words.contains("`www` would change"), "{words}");
    assert!(words.contains("new pairs are tried by a TLS signature in memory, then reload `"), "{words}");
    assert_eq!((host.world.files(), host.world.read("state/ledger.json")), (before, ledger));
    // A damaged ledger is for a pass to put aside, not for somebody who only asks.
    host.world.write("state/ledger.json", "{\"version\":1,");
    for words in [&["plan"][..], &["list", "scm"], &["status"]] {
        host.expect(0, words);
    }
    assert_eq!(host.world.read("state/ledger.json"), "{\"version\":1,");
    assert!(!host.world.path("state/ledger.json.damaged").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_everything_that_scripts_rely_on() {
    let host = Host::with_www(TARGET).await;
    assert_eq!(host.json(0, &["status", "--json"])["certificates"][0]["state"], "missing");
    host.expect(0, &["sync"]);
    let status = host.json(0, &["status", "--json"]);
    fields(&status, "version certificates last_pass next_pass + last_pass_ok interval_seconds");
    fields(
        &status["certificates"][0],
        "name provider id state valid names not_before not_after days_left fingerprint generation last_checked last_changed \
         last_error held rejected successor targets + warn_days hint",
    );
    fields(&status["certificates"][0]["targets"][0], "name published reloaded verified pending served");
    let www = &status["certificates"][0];
    assert_eq!((www["state"].as_str(), www["days_left"].as_i64()), (Some("ok"), Some(59)));
    let words = host.expect(0, &["status"]).out;
    assert!(words.contains("www") && words.contains("ok"), "{words}");
    host.configure("");
    assert_eq!(host.json(0, &["status", "--json"])["certificates"][0]["state"], "removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_as_a_plugin_has_the_codes_of_nagios() {
    let host = Host::with_www("").await;
    assert!(host.expect(3, &["status", "--check"]).out.starts_with("CERTSYNCD UNKNOWN"));
    host.expect(0, &["sync"]);
    assert!(host.expect(0, &["status", "--check"]).out.starts_with("CERTSYNCD OK"));
    host.world.cloud.fault(Fault::new(Match::operation("export"), What::EmptyBody));
    host.expect(1, &["sync", "--force"]);
    assert!(host.expect(1, &["status", "--check"]).out.starts_with("CERTSYNCD WARNING"));
    host.world.cloud.clear_faults();
    host.world.cloud.huawei.add("scs0000000000001", host.world.pki.issue(Leaf::new(["www.example.com"]).days(10)));
    host.expect(0, &["sync", "www", "--force"]);
    assert!(host.expect(1, &["status", "--check"]).out.contains("www"));
    host.world.cloud.huawei.add("scs0000000000001", host.world.pki.issue(Leaf::new(["www.example.com"]).expired()));
    host.expect(0, &["sync", "www", "--force"]);
    let ran = host.expect(2, &["status", "--check"]);
    assert!(ran.out.starts_with("CERTSYNCD CRITICAL") && ran.out.lines().count() == 1, "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_may_read_only_the_status_file_sees_the_status() {
    if !rustix::process::geteuid().is_root() {
        // Only root can play another user; the suite's own run is root's.
        return;
    }
    let host = Host::with_www("").await;
    let open = |path: &std::path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    open(&host.world.path(""), 0o755);
    // Another user may not enter target/ of a checkout under /root: the binary comes along.
    std::fs::copy(env!("CARGO_BIN_EXE_certsyncd"), host.world.path("certsyncd")).unwrap();
    host.expect(0, &["sync"]);
    let nobody = |words: &[&str]| {
        let mut command = Command::new(host.world.path("certsyncd"));
        command.args(words).arg("--config").arg(host.world.path("config.toml")).uid(65534).gid(65534).current_dir("/");
        command.output().unwrap()
    };
    for file in ["ledger.json", "live", "generations"] {
        open(&host.world.state().join(file), 0o700);
    }
    open(&host.world.state(), 0o755);
    let shown = nobody(&["status", "--json"]);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let status: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(
        (status["certificates"][0]["state"].as_str(), status["certificates"][0]["days_left"].as_i64()),
        (Some("ok"), Some(59))
    );
    assert_eq!(nobody(&["status", "--check"]).status.code(), Some(0));
    // Who may not even enter the state directory is told so, instead of being shown an empty one.
    open(&host.world.state(), 0o700);
    let refused = nobody(&["status"]);
    assert_eq!(refused.status.code(), Some(1), "{}", String::from_utf8_lossy(&refused.stdout));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("ermission denied"),
        "{}",
        String::from_utf8_lossy(&refused.stderr)
    );
    assert_eq!(nobody(&["status", "--check"]).status.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn list_and_init_make_an_inventory() {
    let host = Host::with_www("").await;
    host.world.cloud.huawei.add("scs0000000000002", host.world.pki.issue(Leaf::new(["*.example.org", "example.org"])));
    let paid = HuaweiCertificate::new(host.world.pki.issue(Leaf::new(["paid.example.com"])));
    host.world.cloud.huawei.add("scs0000000000003", paid);
    host.world.cloud.huawei.set_status("scs0000000000003", "CHECKING");
    host.world.cloud.cds.add("cds-1", CdsCertificate::new(host.world.pki.issue(Leaf::new(["api.example.com"]))));
    let list = host.json(0, &["list", "--json"]);
    fields(&list, "version certificates");
    fields(&list["certificates"][0], "provider id name names status valid not_after used_by");
    let rows = list["certificates"].as_array().unwrap();
    let row = |provider: &str, id: &str| rows.iter().find(|row| row["provider"] == provider && row["id"] == id).unwrap();
    assert_eq!(row("scm", "scs0000000000001")["used_by"][0], "www");
    assert_eq!(row("archive", "scs0000000000001")["used_by"].as_array().unwrap().len(), 0);
    assert_eq!(
        (row("cds", "cds-1")["valid"].as_i64(), row("scm", "scs0000000000003")["status"].as_str()),
        (Some(1), Some("CHECKING"))
    );
    let words = host.expect(0, &["list", "scm"]).out;
    assert!(words.contains("scs0000000000002") && !words.contains("cds-1"), "{words}");
    let inventory = host.expect(0, &["init", "scm"]).out;
    assert!(
        !inventory.contains("scs0000000000001") && !inventory.contains("scs0000000000003"),
        "used and undeployable: {inventory}"
    );
    host.configure(&format!("{WWW}{inventory}"));
    host.expect(0, &["check", "--quiet"]);
    host.expect(0, &["sync"]);
    assert!(host.world.live("wildcard.example.org").exists());
    // One account that does not answer does not hide the others.
    host.world.cloud.huawei.withdraw("scm:cert:list");
    let ran = host.expect(1, &["list"]);
    assert!(ran.out.contains("cds-1") && ran.err.contains("scm:cert:list"), "{} {}", ran.out, ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_prints_the_effective_configuration_without_secrets() {
    let host = Host::with_www(TARGET).await;
    let ran = host.expect(0, &["check"]);
    for secret in [host.world.cloud.huawei.secret_key(), host.world.cloud.cds.secret_key()] {
        assert!(!ran.out.contains(&secret) && !ran.err.contains(&secret), "{}", ran.out);
    }
    for expected in ["[providers.scm]", "\"huawei-scm\"", "successor", "adopt", "timeout"] {
        assert!(ran.out.contains(expected), "{expected} in {}", ran.out);
    }
    assert_eq!(host.world.cloud.total(), 0, "offline");
    assert_eq!(host.expect(0, &["check", "--quiet"]).out, "");
    let online = host.expect(0, &["check", "--online"]);
    assert!(online.out.contains("scm: list certificates"), "{}", online.out);
    host.world.cloud.huawei.withdraw("scm:cert:list");
    let online = host.expect(1, &["check", "--online"]);
    assert!(online.out.contains("scm:cert:list"), "{}", online.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_state_directory_is_75_and_says_who_holds_it() {
    let host = Host::with_www("").await;
    host.expect(0, &["sync"]);
    let lock = certsyncd::store::lock::pass(&host.world.state(), std::time::Duration::ZERO).await.unwrap();
    let started = std::time::Instant::now();
    let ran = host.expect(75, &["sync", "--wait", "200ms"]);
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
    assert!(ran.err.contains(&format!("process {}", std::process::id())), "{}", ran.err);
    assert_eq!(ran.out, "");
    assert_eq!(host.expect(0, &["plan"]).err, "", "who only asks needs no lock");
    drop(lock);
    host.expect(0, &["sync", "--wait", "0s"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_without_an_earlier_generation_is_1() {
    let host = Host::with_www(TARGET).await;
    let first = host.renew(60).sha256;
    assert!(host.expect(1, &["rollback", "www"]).err.contains("no earlier generation"));
    host.expect(0, &["sync"]);
    assert!(host.expect(1, &["rollback", "www"]).err.contains("`www` has no earlier generation"));
    host.renew(80);
    host.expect(0, &["sync"]);
    let back = host.json(0, &["rollback", "www", "--json"]);
    fields(&back["certificates"][0], "name action id fingerprint generation error + held");
    assert_eq!(
        (back["certificates"][0]["fingerprint"].as_str(), back["targets"][0]["action"].as_str()),
        (Some(first.as_str()), Some("reloaded"))
    );
    let held = host.json(0, &["sync", "--json"]);
    assert_eq!((held["certificates"][0]["action"].as_str(), held["result"].as_str()), (Some("held"), Some("ok")));
    assert_eq!(host.json(0, &["plan", "--json"])["certificates"][0]["action"], "hold");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_left_the_inventory_is_removed_only_when_told() {
    let host = Host::with_www("").await;
    host.expect(0, &["sync"]);
    assert!(host.expect(0, &["prune", "--yes"]).out.contains("nothing to remove"));
    host.configure("");
    host.expect(0, &["sync"]);
    assert!(host.expect(0, &["prune"]).out.contains("would remove www"));
    assert!(host.world.live("www").exists());
    assert!(host.expect(0, &["prune", "--yes"]).out.contains("removed www"));
    assert!(!host.world.live("www").exists() && !host.world.state().join("generations/www").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_and_manual_pages_are_there() {
    let host = Host::new("").await;
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(host.expect(0, &["completions", shell]).out.contains("rollback"), "{shell}");
    }
    for page in [&["man"][..], &["man", "certsyncd.toml.5"]] {
        assert!(host.expect(0, page).out.contains(".TH"), "{page:?}");
    }
    assert!(host.expect(0, &["--version"]).out.contains(env!("CARGO_PKG_VERSION")));
    let help = host.expect(0, &["sync", "--help"]).out;
    assert!(help.contains("--wait") && help.contains("120s"), "{help}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_gone_is_no_panic() {
    let host = Host::with_www("").await;
    host.expect(0, &["sync"]);
    for words in [
        &["completions", "bash"][..],
        &["man"],
        &["man", "certsyncd.toml.5"],
        &["check"],
        &["list"],
        &["list", "--json"],
        &["status"],
        &["status", "--check"],
        &["plan"],
        &["sync", "--json"],
        &["init", "scm"],
        &["--help"],
        &["alert", "history"],
    ] {
        // A pipe whose reading end is closed before the command starts, on both of its outputs.
        let (reader, writer) = std::io::pipe().unwrap();
        let (error_reader, error_writer) = std::io::pipe().unwrap();
        drop((reader, error_reader));
        let status = host.command(words).stdout(writer).stderr(error_writer).status().unwrap();
        assert_eq!(status.code(), Some(0), "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_told_to_stop_ends_soon_with_what_it_has() {
    let host = Host::with_www("").await;
    host.expect(0, &["sync"]);
    host.renew(80);
    let before = host.world.files();
    host.world.cloud.clear_requests();
    host.world.cloud.fault(Fault::new(Match::operation("export"), What::Hang));
    let mut child = host.command(&["sync"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(host.world.cloud.wait_for("export", 1, std::time::Duration::from_secs(20)));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let told = std::time::Instant::now();
    child.wait().unwrap();
    assert!(told.elapsed() < std::time::Duration::from_secs(5), "{:?}", told.elapsed());
    assert_eq!(host.world.files(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_haproxy_itself_refuses_never_goes_live_and_somebody_is_told() {
    let host =
        Host::with_www("deploy = [\"edge\"]\n[deploy.edge]\nkind = \"haproxy\"\nreload = [\"true\"]\nmin_gap = \"0s\"\n").await;
    // The haproxy of this host, as `haproxy -c` speaks of a file that it cannot load.
    std::fs::create_dir(host.world.path("bin")).unwrap();
    host.world.script(
        "bin/haproxy",
        &format!(
            "test -e {0} || exit 0\npath=$(sed -n 's/.* crt //p')\ncmp -s \"$path\" {0} && exit 0\n\
             echo \"[ALERT] unable to load certificate from file '$path': ee key too small\" >&2\nexit 1",
            host.world.path("strict").display()
        ),
    );
    let sync = || {
        let path = format!("{}:/usr/sbin:/usr/bin:/bin", host.world.path("bin").display());
        let output = host.command(&["sync", "--json"]).env("PATH", path).output().unwrap();
        (output.status.code().unwrap(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    let (code, first) = sync();
    assert_eq!(code, 0, "{first}");
    host.renew(80);
    // From now on it takes nothing but the first one.
    std::fs::copy(host.world.live("www").join("combined.pem"), host.world.path("strict")).unwrap();
    let (code, second) = sync();
    let www = &second["certificates"][0];
    assert_eq!(
        (code, www["action"].as_str(), &www["fingerprint"]),
        (1, Some("failed"), &first["certificates"][0]["fingerprint"])
    );
    let told = www["error"].as_str().unwrap();
    assert!(told.contains("ee key too small") && told.contains("`edge` would not take the new certificate of `www`"), "{told}");
    for _ in 0..2 {
        let (_, later) = sync();
        assert_eq!(later["certificates"][0]["fingerprint"], first["certificates"][0]["fingerprint"]);
    }
    let told = host.world.events().into_iter().find(|event| event["event"] == "sync_failed" || event["event"] == "deploy_failed");
    let told = told.unwrap_or_else(|| panic!("nobody was told: {:?}", host.world.event_names()));
    assert!(told["message"].as_str().unwrap().contains("ee key too small"), "{told}");
    assert!(!host.world.event_names().contains(&"resolved".to_owned()), "{:?}", host.world.event_names());
    std::fs::remove_file(host.world.path("strict")).unwrap();
    let better = host.renew(85);
    let (code, mended) = sync();
    assert_eq!((code, mended["certificates"][0]["fingerprint"].as_str()), (0, Some(better.sha256.as_str())));
    assert!(host.world.event_names().contains(&"resolved".to_owned()), "{:?}", host.world.event_names());
}

/// The object has exactly these fields; those after `+` are ours besides the contract's.
fn fields(value: &Value, names: &str) {
    let found: BTreeSet<&str> =
        value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().map(String::as_str).collect();
    let expected: BTreeSet<&str> = names.split_whitespace().filter(|name| *name != "+").collect();
    assert_eq!(found, expected);
}

//! Programs that hang, fork, shout, fail and lie; and a make-believe systemctl beside a make-believe journalctl.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use certsyncd::config::{Target, TargetKind};
use certsyncd::deploy::command::{self, Error, GRACE, MAX_OUTPUT, MAX_WORDS};
use certsyncd::deploy::{self, Named, UnitState};
use rustix::process::{Pid, test_kill_process};
use support::{script, target, until};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(10);

fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

async fn shell(body: &str, limit: Duration) -> Result<command::Output, Error> {
    command::run(&argv(&["sh", "-c", body]), limit, &[], None).await
}

/// Whether the process whose id was written to `path` is there; one that ended but was not reaped still is.
fn is_there(path: &Path) -> bool {
    let id = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).and_then(Pid::from_raw);
    id.is_some_and(|id| test_kill_process(id).is_ok() && !is_orphaned_zombie(id))
}

/// Whether it ended and waits for the machine's first process, which is not ours to mend.
fn is_orphaned_zombie(id: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.as_raw_nonzero())).unwrap_or_default();
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    fields.next() == Some("Z") && fields.next() != Some(&std::process::id().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_outputs_come_back() {
    let output = shell("echo out; echo err >&2", LIMIT).await.unwrap();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_program_failed_is_said_in_words() {
    let error = shell("echo reason >&2; exit 3", LIMIT).await.unwrap_err();
    assert_eq!(error.to_string(), "`sh -c echo reason >&2; exit 3` ended with code 3");
    assert_eq!((error.kind(), error.words().unwrap().as_str()), ("exit", "reason"));
    let error = shell("kill -9 $$", LIMIT).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), ("signal", "`sh -c kill -9 $$` was ended by signal 9"));
    let error = command::run(&argv(&["no-such-program-at-all"]), LIMIT, &[], None).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to start `no-such-program-at-all`: there is no such program");
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("data"), "x").unwrap();
    for closed in [folder.path().join("data"), folder.path().to_owned()] {
        let error = command::run(&argv(&[closed.to_str().unwrap()]), LIMIT, &[], None).await.unwrap_err();
        assert_eq!(error.kind(), "not_executable", "{error}");
    }
    assert_eq!(command::run(&[], LIMIT, &[], None).await.unwrap_err().kind(), "start");
    assert_eq!(command::run(&argv(&["a\0b"]), LIMIT, &[], None).await.unwrap_err().kind(), "start");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_no_shell_words() {
    let output = command::run(&argv(&["printf", "%s|", "a b", "$HOME", "; exit 1", ""]), LIMIT, &[], None).await.unwrap();
    assert_eq!(output.stdout, "a b|$HOME|; exit 1||");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_a_short_list_and_stdin_is_empty() {
    // the test's own environment has plenty more, such as CARGO_MANIFEST_DIR
    let variables = [("CERTSYNCD_TARGET", "web")];
    let output = command::run(&argv(&["sh", "-c", "env; pwd; cat"]), LIMIT, &variables, None).await.unwrap();
    let names: Vec<_> = output.stdout.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let known =
        ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "LANG"];
    let known =
        [&known[..], &["LC_ALL", "SYSTEMD_COLORS", "SYSTEMD_PAGER", "CERTSYNCD_TARGET", "PWD", "OLDPWD", "SHLVL", "_"]].concat();
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
    assert!(names.contains(&"CERTSYNCD_TARGET"));
    assert!(output.stdout.lines().any(|line| line == "/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_to_stdin_can_be_opened_again() {
    let big = "line\n".repeat(100_000);
    let read = argv(&["sh", "-c", "wc -c < /dev/stdin; cat | wc -c"]);
    let output = command::run(&read, LIMIT, &[], Some(big.as_bytes())).await.unwrap();
    assert_eq!(output.stdout.split_whitespace().collect::<Vec<_>>(), ["500000", "500000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_of_ours_is_left_open_in_a_program() {
    let _file = std::fs::File::open("/etc/hostname").unwrap();
    let _socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let output = shell("ls -l /proc/self/fd", LIMIT).await.unwrap();
    assert!(!output.stdout.contains("hostname") && !output.stdout.contains("socket:"), "{}", output.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn much_output_is_bounded_and_its_end_kept() {
    let error = shell("yes shout | head -c 1000002; echo the end; exit 1", LIMIT).await.unwrap_err();
    let words = error.words().unwrap().as_str();
    assert!(words.ends_with("; the end") && words.starts_with("[…] "), "{words}");
    assert_eq!(words.chars().count(), MAX_WORDS + 4);
    let output = shell("yes | head -c 1000000", LIMIT).await.unwrap();
    assert!(output.stdout.len() <= MAX_OUTPUT + 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_hangs_is_killed_with_all_its_children() {
    let folder = TempDir::new().unwrap();
    let [leader, child, deaf] = ["leader", "child", "deaf"].map(|name| folder.path().join(name));
    let body = format!(
        "echo $$ > {}; echo begun; (trap '' TERM; sh -c 'echo $PPID' > {}; while :; do sleep 1; done) & \
         sleep 1000 & echo $! > {}; wait",
        leader.display(),
        deaf.display(),
        child.display()
    );
    let start = Instant::now();
    let error = shell(&body, Duration::from_millis(400)).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_millis(400) + GRACE + Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!((error.kind(), error.words().unwrap().as_str()), ("timeout", "begun"));
    assert!(error.to_string().ends_with("did not end within 400ms and was killed"), "{error}");
    for path in [leader, child, deaf] {
        assert!(path.exists(), "{}", path.display());
        until("it is gone", || !is_there(&path));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ignores_the_polite_signal_is_killed() {
    let start = Instant::now();
    let error = shell("trap '' TERM; while :; do sleep 1; done", Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error.kind(), "timeout");
    assert!(start.elapsed() < GRACE + Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_keeps_the_pipes_holds_nobody_up() {
    let folder = TempDir::new().unwrap();
    let child = folder.path().join("child");
    let start = Instant::now();
    // as an old init script does that starts a daemon without closing its output
    let body = format!("sleep 30 & echo $! > {}; echo done", child.display());
    let output = shell(&body, LIMIT).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(output.stdout, "done\n");
    assert!(is_there(&child), "a daemon that a good command left behind is left alone");
    let id = std::fs::read_to_string(&child).unwrap().trim().parse().ok().and_then(Pid::from_raw).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_given_up_leaves_no_process() {
    let folder = TempDir::new().unwrap();
    let [leader, child] = ["leader", "child"].map(|name| folder.path().join(name));
    let body = format!("sleep 1000 & echo $! > {}; echo $$ > {}; wait", child.display(), leader.display());
    let step = tokio::spawn(async move { shell(&body, LIMIT).await });
    while !is_there(&leader) {
        tokio::task::yield_now().await;
    }
    step.abort();
    assert!(step.await.unwrap_err().is_cancelled());
    for path in [leader, child] {
        until("it is gone", || !is_there(&path));
    }
}

/// A target whose reload is `systemctl reload nginx.service` with a make-believe systemctl.
fn unit(folder: &Path, systemctl: &str, journalctl: &str) -> Target {
    script(&folder.join("journalctl"), journalctl);
    let systemctl = script(&folder.join("systemctl"), systemctl);
    let base = target(&[&systemctl, "reload", "nginx.service"]);
    Target {
        name: "nginx".to_owned(),
        kind: TargetKind::Nginx,
        unit: Some("nginx.service".to_owned()),
        reload_is_default: true,
        ..base
    }
}

const FAILS: &str = "echo 'Job for nginx.service failed. See \"journalctl -xeu nginx.service\" for details.' >&2; exit 1";

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_through_systemd_never_asks_for_a_password() {
    let folder = TempDir::new().unwrap();
    let said = folder.path().join("said");
    let target = unit(folder.path(), &format!("echo \"$@\" > {}", said.display()), "exit 1");
    deploy::reload(&target).await.unwrap();
    assert_eq!(std::fs::read_to_string(&said).unwrap(), "--no-ask-password reload nginx.service\n");
    deploy::reload(&Target { reload_is_default: false, ..target }).await.unwrap();
    assert_eq!(std::fs::read_to_string(&said).unwrap(), "reload nginx.service\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_units_journal_is_in_the_words_of_a_failed_reload() {
    let folder = TempDir::new().unwrap();
    let journal = folder.path().join("journal");
    let journalctl = format!(
        "echo \"$@\" >> {}; case \"$*\" in *--show-cursor*) echo a line; echo '-- cursor: s=1;i=2f'; exit;; esac\n\
         echo 'nginx: [emerg] SSL_CTX_use_PrivateKey failed'; echo 'nginx.service: Control process exited'",
        journal.display()
    );
    let failure = deploy::reload(&unit(folder.path(), FAILS, &journalctl)).await.unwrap_err().to_failure();
    assert_eq!(failure.kind, "reload_exit");
    // What systemctl has to say is that it does not know, and is left out; so is what stands around the server's error.
    assert_eq!(failure.causes.len(), 3, "{failure}");
    assert_eq!(failure.causes[0], "failed to reload `nginx`");
    assert_eq!(failure.causes[2], "its journal says: nginx: [emerg] SSL_CTX_use_PrivateKey failed");
    let asked = std::fs::read_to_string(&journal).unwrap();
    let last = asked.lines().last().unwrap();
    assert!(last.contains("--unit=nginx.service") && last.contains("--after-cursor=s=1;i=2f"), "{asked}");
    let unmarked = journalctl.replace("[emerg]", "error:");
    let failure = deploy::reload(&unit(folder.path(), FAILS, &unmarked)).await.unwrap_err().to_failure();
    assert!(failure.causes[2].starts_with("Job for nginx.service failed."), "{failure}");
    let words = "its journal says: nginx: error: SSL_CTX_use_PrivateKey failed; nginx.service: Control process exited";
    assert_eq!(failure.causes[3], words);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_cannot_be_read_takes_nothing_away() {
    let folder = TempDir::new().unwrap();
    for journalctl in ["exit 1", "echo '-- cursor: s=1'", "echo no cursor"] {
        let failure = deploy::reload(&unit(folder.path(), FAILS, journalctl)).await.unwrap_err().to_failure();
        assert_eq!(failure.causes.len(), 3, "{failure}");
        assert!(failure.causes[2].contains("Job for nginx.service failed"), "{failure}");
    }
}

/// systemd's own words may be there before the server's; and a server that warns a lot names its file long before the end.
#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_read_until_nothing_more_comes_and_all_of_it_is_searched() {
    let folder = TempDir::new().unwrap();
    let asked = folder.path().join("asked");
    let long = "/srv/".to_owned() + &"folder/".repeat(30) + "live/www";
    let journalctl = format!(
        "case \"$*\" in *--show-cursor*) echo '-- cursor: s=1'; exit;; esac\n\
         echo 'Reloading nginx.service'; if test -e {0}; then echo 'nginx: [emerg] cannot load \"{long}/combined.pem\"'; yes more | head -n 300; fi\n\
         touch {0}",
        asked.display()
    );
    let error = deploy::reload(&unit(folder.path(), FAILS, &journalctl)).await.unwrap_err();
    assert_eq!(error.named(Path::new(&long)), Some(Named::Accused), "{:?}", error.to_failure());
    assert_eq!(error.named(Path::new("/srv/live/www")), None);
    let shown = error.to_failure().to_string();
    assert!(shown.len() < 2 * MAX_WORDS, "{shown}");
}

/// Debian's unit has haproxy check quietly: nothing of the reason is in the journal.
#[tokio::test(flavor = "multi_thread")]
async fn what_haproxys_unit_keeps_to_itself_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let (pem, configuration) = (folder.path().join("www.pem"), folder.path().join("edge.cfg"));
    std::fs::write(&pem, "nothing").unwrap();
    let text = |bind: &str| format!("frontend web\n  mode tcp\n  timeout client 1s\n  bind 127.0.0.1:1 {bind}\n");
    std::fs::write(&configuration, text(&format!("ssl crt {}", pem.display()))).unwrap();
    let systemctl = format!(
        "case \"$*\" in *Environment*) echo 'Environment=CONFIG={} \"EXTRAOPTS=-S /run/x\"';; *) {FAILS};; esac",
        configuration.display()
    );
    let edge = Target { kind: TargetKind::Haproxy { socket: None }, ..unit(folder.path(), &systemctl, "exit 1") };
    let error = deploy::reload(&edge).await.unwrap_err();
    assert_eq!(error.named(&pem), Some(Named::Accused));
    let words = error.to_failure().causes.pop().unwrap();
    assert!(words.starts_with("asked again, `haproxy -c` says: [ALERT]") && words.contains("www.pem"), "{words}");
    assert!(!words.contains("[NOTICE]"), "{words}");
    std::fs::write(&configuration, text("")).unwrap();
    let failure = deploy::reload(&edge).await.unwrap_err().to_failure();
    assert!(!failure.to_string().contains("haproxy -c"), "nothing to tell, so nothing is told: {failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_mends_a_refused_reload_is_said() {
    let folder = TempDir::new().unwrap();
    for (says, hint) in [
        ("Failed to reload nginx.service: Interactive authentication required.", "certsyncd polkit-rule"),
        ("Failed to reload nginx.service: Access denied", "certsyncd polkit-rule"),
        ("Failed to reload nginx.service: Unit nginx.service not found.", "set `reload` in `[deploy.nginx]`"),
        ("nginx.service is not active, cannot reload.", "`systemctl start nginx.service`"),
        ("System has not been booted with systemd as init system (PID 1). Can't operate.", "there is no systemd here"),
        ("Failed to reload x.service: Job type reload is not applicable for unit nginx.service.", "cannot be reloaded"),
    ] {
        let failure = deploy::reload(&unit(folder.path(), &format!("echo \"{says}\" >&2; exit 1"), "exit 1"))
            .await
            .unwrap_err()
            .to_failure();
        assert!(failure.hint.as_ref().is_some_and(|text| text.contains(hint)), "{says}: {failure:?}");
    }
    assert_eq!(deploy::reload(&unit(folder.path(), FAILS, "exit 1")).await.unwrap_err().hint(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_hangs_is_told_as_such() {
    let folder = TempDir::new().unwrap();
    let hanging = unit(folder.path(), "sleep 1000 & echo waiting; wait", "exit 1");
    let failure = deploy::reload(&Target { timeout: Duration::from_millis(200), ..hanging }).await.unwrap_err().to_failure();
    assert_eq!((failure.kind.as_str(), failure.transient), ("reload_timeout", true));
    assert!(failure.to_string().ends_with("did not end within 200ms and was killed: waiting"), "{failure}");
    assert!(failure.hint.unwrap().contains("systemctl list-jobs"));

    let gone =
        Target { reload: argv(&["/nonexistent/systemctl", "reload", "nginx.service"]), ..unit(folder.path(), "", "exit 1") };
    let failure = deploy::reload(&gone).await.unwrap_err().to_failure();
    assert_eq!(failure.kind, "reload_not_found");
    assert!(failure.hint.unwrap().contains("there is no systemctl here"));
    let failure = deploy::reload(&Target { reload_is_default: false, ..gone }).await.unwrap_err().to_failure();
    assert!(failure.hint.unwrap().contains("the program's whole path"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_is_not_there_passes_and_one_that_is_must() {
    let without = target(&["true"]);
    deploy::test(&without).await.unwrap();
    let with = |words: &[&str]| Target { test: Some(argv(words)), ..target(&["true"]) };
    deploy::test(&with(&["true"])).await.unwrap();
    assert_eq!(deploy::test(&with(&["false"])).await.unwrap_err().kind(), "test_exit");
    let failure = deploy::test(&with(&["no-such-program"])).await.unwrap_err().to_failure();
    assert_eq!((failure.kind.as_str(), failure.transient), ("test_not_found", false));
    assert!(failure.hint.unwrap().contains("`test` in `[deploy.web]`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_is_asked_how_it_is() {
    let folder = TempDir::new().unwrap();
    let said = folder.path().join("said");
    let answer = |text: &str| format!("echo \"$@\" > {}; printf '{text}'", said.display());
    let active = unit(folder.path(), &answer("LoadState=loaded\\nActiveState=active\\n"), "");
    assert_eq!(deploy::state(&active).await, UnitState::Active);
    assert_eq!(std::fs::read_to_string(&said).unwrap(), "show --property=LoadState,ActiveState -- nginx.service\n");
    let starting = unit(folder.path(), &answer("LoadState=loaded\\nActiveState=activating\\n"), "");
    assert_eq!(deploy::state(&starting).await, UnitState::Activating);
    let gone = unit(folder.path(), &answer("LoadState=not-found\\nActiveState=inactive\\n"), "");
    assert_eq!(deploy::state(&gone).await, UnitState::Unknown);
    assert_eq!(deploy::state(&unit(folder.path(), "exit 1", "")).await, UnitState::Unknown);
    assert_eq!(deploy::state(&Target { unit: None, ..active }).await, UnitState::Unknown);
    let hanging = unit(folder.path(), "sleep 1000", "");
    assert_eq!(deploy::state(&Target { timeout: Duration::from_millis(100), ..hanging }).await, UnitState::Unknown);
}

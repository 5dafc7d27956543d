//! The files that systemd, polkit, dpkg, Prometheus and Grafana read: checked by the tools that read them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use certsyncd::config::{EventKind, Severity};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn run(program: &str, package: &str, arguments: &[&str], folder: &Path) -> Output {
    let output = Command::new(program).args(arguments).current_dir(folder).env("SYSTEMD_LOG_LEVEL", "warning").output();
    output.unwrap_or_else(|error| panic!("this test needs `{program}` ({error}): apt-get install {package}"))
}

/// Where `scripts/test` puts it, else the system's.
fn promtool(arguments: &[&str], folder: &Path) -> Output {
    let fetched = root().join("target/tools/usr/bin/promtool").display().to_string();
    let program = if Path::new(&fetched).exists() { fetched.as_str() } else { "promtool" };
    run(program, "prometheus", arguments, folder)
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The unit with a program that exists here, and perhaps a drop-in's lines.
fn staged(drop_in: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let unit = text("systemd/certsyncd.service").replace("/usr/bin/certsyncd", "/bin/true");
    let (unit, install) = unit.split_once("[Install]").unwrap();
    std::fs::write(folder.path().join("certsyncd.service"), format!("{unit}{drop_in}\n[Install]{install}")).unwrap();
    folder
}

fn verified(folder: &Path, unit: &str) {
    let output = run("systemd-analyze", "systemd", &["verify", "--man=no", "--recursive-errors=no", unit], folder);
    assert!(output.status.success() && words(&output).trim().is_empty(), "{unit}: {}", words(&output));
}

/// What systemd says of the unit's exposure, with these lines added.
fn security(drop_in: &str) -> String {
    let folder = staged(drop_in);
    words(&run("systemd-analyze", "systemd", &["security", "--offline=true", "./certsyncd.service"], folder.path()))
}

/// Of ten; less is better.
fn exposure(drop_in: &str) -> f64 {
    let said = security(drop_in);
    let line = said.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{said}"));
    line.split(": ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap()
}

#[test]
fn systemd_understands_the_unit() {
    let folder = staged("");
    verified(folder.path(), "./certsyncd.service");
}

#[test]
fn a_wrong_line_would_be_seen() {
    let folder = staged("ProtectSytem=strict");
    let output =
        run("systemd-analyze", "systemd", &["verify", "--man=no", "--recursive-errors=no", "./certsyncd.service"], folder.path());
    assert!(words(&output).contains("ProtectSytem"), "{}", words(&output));
}

#[test]
fn systemd_understands_the_drop_ins_and_the_examples() {
    let folder = staged("");
    let drop_ins = folder.path().join("certsyncd.service.d");
    std::fs::create_dir(&drop_ins).unwrap();
    let outputs = text("systemd/certsyncd.service.d/outputs.conf");
    std::fs::write(drop_ins.join("outputs.conf"), uncommented(&outputs)).unwrap();
    std::fs::write(drop_ins.join("on-failure.conf"), text("systemd/certsyncd.service.d/on-failure.conf")).unwrap();
    let failed = text("systemd/examples/certsyncd-failed.service").replace("/usr/bin/curl", "/bin/true");
    std::fs::write(folder.path().join("certsyncd-failed.service"), failed).unwrap();
    verified(folder.path(), "./certsyncd.service");
    verified(folder.path(), "./certsyncd-failed.service");
    for (unit, program) in [("nginx", "/bin/true"), ("haproxy", "/bin/true")] {
        let name = format!("{unit}.service");
        std::fs::write(folder.path().join(&name), format!("[Service]\nExecStart={program}\n")).unwrap();
        std::fs::create_dir(folder.path().join(format!("{name}.d"))).unwrap();
        let drop_in = text(&format!("systemd/{name}.d/certsyncd.conf"));
        assert!(!drop_in.contains("Requires="), "{unit} must start without us");
        std::fs::write(folder.path().join(format!("{name}.d/certsyncd.conf")), drop_in).unwrap();
        verified(folder.path(), &format!("./{name}"));
    }
}

#[test]
fn systemd_understands_the_fallback_and_the_desktop_unit() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["certsyncd-reload@.path", "certsyncd-reload@.service"] {
        std::fs::write(folder.path().join(file), text(&format!("systemd/fallback/{file}"))).unwrap();
    }
    std::fs::write(folder.path().join("nginx.service"), "[Service]\nExecStart=/bin/true\n").unwrap();
    std::fs::copy(folder.path().join("certsyncd-reload@.service"), folder.path().join("certsyncd-reload@nginx.service")).unwrap();
    verified(folder.path(), "./certsyncd-reload@nginx.service");
    let desktop = text("systemd/desktop/certsyncd-desktop.service").replace("/usr/lib/certsyncd/desktop-alerts", "/bin/true");
    std::fs::write(folder.path().join("certsyncd-desktop.service"), desktop).unwrap();
    verified(folder.path(), "./certsyncd-desktop.service");
}

/// The figures that the comments name, and the promise for the unit as shipped.
#[test]
fn the_exposure_is_what_the_comments_say() {
    let base = exposure("");
    assert!(base <= 1.5, "{base}");
    let unit = text("systemd/certsyncd.service");
    assert!(unit.contains(&format!("says {base:.1} (of 10")), "the unit's comment is not {base:.1}");
    let outputs = text("systemd/certsyncd.service.d/outputs.conf");
    assert!(outputs.contains(&format!("as shipped the unit has {base:.1}.")), "outputs.conf does not say {base:.1}");
    let other_group = exposure("PrivateUsers=no");
    assert!(outputs.contains(&format!("so that has to go. {other_group:.1}.")), "outputs.conf does not say {other_group:.1}");
    let lines = uncommented(&outputs);
    let other_owner = exposure(lines.split_once("[Service]").unwrap().1);
    assert!(outputs.contains(&format!("{other_owner:.1}, with the line above")), "outputs.conf does not say {other_owner:.1}");
}

#[test]
fn whatever_exposure_is_left_is_explained_in_the_unit() {
    let unit = text("systemd/certsyncd.service");
    let said = security("");
    let left: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("✗ ")?.split(['=', ' ']).next()).collect();
    assert!(left.len() > 3 && left.contains(&"PrivateNetwork"), "{said}");
    let explained = |name: &&str| {
        unit.lines().any(|line| line.starts_with(&format!("{name}=")) || (line.starts_with('#') && line.contains(*name)))
    };
    assert_eq!(left.into_iter().filter(|name| !explained(name)).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn the_unit_is_what_the_contract_says() {
    let unit = text("systemd/certsyncd.service");
    for line in [
        "Type=notify",
        "User=certsyncd",
        "ExecStart=/usr/bin/certsyncd run",
        "Restart=on-failure",
        "RestartPreventExitStatus=78",
        "TimeoutStartSec=150s",
        "WatchdogSec=180s",
        "TimeoutAbortSec=10s",
        "StateDirectory=certsyncd",
        "LimitCORE=0",
        "CapabilityBoundingSet=",
        "ConditionPathExists=/etc/certsyncd/config.toml",
        "LoadCredential=certsyncd:/etc/certsyncd/credentials",
    ] {
        assert!(unit.lines().any(|found| found == line), "no `{line}`");
    }
    assert!(unit.contains("ExecReload=/bin/sh -c 'kill -HUP $MAINPID'"));
    assert!(!unit.contains("SupplementaryGroups="), "a group that does not exist would stop the unit");
}

/// As systemd makes them on a new machine: the user exists, and haproxy's group comes although haproxy does not.
#[test]
fn users_and_folders_are_made_on_an_empty_root() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("etc")).unwrap();
    let into = format!("--root={}", folder.path().display());
    for (program, arguments, file) in
        [("systemd-sysusers", vec![], "systemd/sysusers.conf"), ("systemd-tmpfiles", vec!["--create"], "systemd/tmpfiles.conf")]
    {
        let file = root().join(file).display().to_string();
        let arguments: Vec<&str> = [into.as_str()].into_iter().chain(arguments).chain([file.as_str()]).collect();
        let output = run(program, "systemd", &arguments, root());
        assert!(output.status.success(), "{program}: {}", words(&output));
    }
    let groups = std::fs::read_to_string(folder.path().join("etc/group")).unwrap();
    for group in ["haproxy", "systemd-journal"] {
        assert!(groups.lines().any(|line| line.starts_with(&format!("{group}:")) && line.ends_with(":certsyncd")), "{groups}");
    }
    assert!(folder.path().join("etc/certsyncd/credentials").is_dir());
}

/// Every file that the package takes from the tree is there, and every unit that is there is packaged or named as an example.
#[test]
fn the_package_takes_what_is_there() {
    let manifest: toml::Table = toml::from_str(&text("Cargo.toml")).unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets: BTreeSet<String> =
        deb["assets"].as_array().unwrap().iter().map(|asset| asset[0].as_str().unwrap().to_owned()).collect();
    for source in assets.iter().filter(|source| !source.starts_with("target/package/")) {
        assert!(root().join(source).is_file(), "{source}");
    }
    for file in files(&root().join("systemd")) {
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        assert!(assets.contains(&name), "{name} is not in the package");
    }
    for script in ["postinst", "prerm", "postrm"] {
        let script = text(&format!("packaging/debian/{script}"));
        let acts = script.lines().filter(|line| !line.trim_start().starts_with('#'));
        assert!(!acts.clone().any(|line| line.contains("nginx") || line.contains("haproxy")), "servers are not ours to restart");
    }
}

#[test]
fn scripts_are_scripts() {
    for script in [
        "packaging/build",
        "packaging/reproduce",
        "packaging/debian/postinst",
        "packaging/debian/prerm",
        "packaging/debian/postrm",
        "systemd/desktop/desktop-alerts",
    ] {
        let shell = if text(script).starts_with("#!/bin/bash\n") { "bash" } else { "sh" };
        let output = run(shell, "bash and dash", &["-n", script], root());
        assert!(output.status.success(), "{script}: {}", words(&output));
    }
}

/// Prometheus' own judgement; `scripts/test` fetches promtool without installing a Prometheus.
#[test]
fn prometheus_understands_the_rules() {
    for arguments in [["check", "rules", "certsyncd.rules.yml"], ["test", "rules", "certsyncd.rules.test.yml"]] {
        let output = promtool(&arguments, &root().join("monitoring"));
        assert!(output.status.success(), "{}", words(&output));
    }
}

/// A screen shows what is an alert, and when it is over; other lines of the log it does not.
#[test]
fn the_desktop_shows_every_alert() {
    let script = text("systemd/desktop/desktop-alerts");
    let asked: BTreeSet<&str> = script.split_whitespace().filter_map(|word| word.strip_prefix("EVENT=")).collect();
    let told = EventKind::ALL.into_iter().filter(|kind| kind.severity() > Severity::Info || *kind == EventKind::Resolved);
    assert_eq!(asked, told.map(EventKind::name).collect());
}

/// With a journal and a notification service that are two small scripts: each line becomes a bubble of its urgency, markup in it is text,
/// a bubble that fails holds nobody, and when a journal ends the unit may start again.
#[test]
fn the_desktop_script_makes_bubbles_of_lines() {
    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str, body: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let shown = folder.path().join("shown");
    script(
        "journalctl",
        "case $* in\n*' EVENT=expired '*) echo 'a <b> & c'; echo second;;\n*' EVENT=expiring '*) echo soon;;\n*) echo over;;\nesac\n\
         while [ \"$(wc -l <\"$SHOWN\")\" -lt 4 ]; do sleep 0.01; done\n",
    );
    script("notify-send", "[ \"$2\" = certsyncd ] && echo \"$4 $9\" >>\"$SHOWN\"\nexit 1\n");
    std::fs::write(&shown, "").unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("timeout");
    command.arg("60").arg(root().join("systemd/desktop/desktop-alerts")).env("PATH", path).env("SHOWN", &shown);
    let output = command.output().unwrap();
    assert_ne!(output.status.code(), Some(124), "it did not end with its journal");
    let shown: BTreeSet<String> = std::fs::read_to_string(&shown).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(shown, ["critical a &lt;b> &amp; c", "critical second", "normal over", "normal soon"].map(String::from).into());
    assert!(words(&output).contains("could not show: second"), "{}", words(&output));
}

/// Each query of the dashboard, as a rule that promtool reads.
#[test]
fn prometheus_understands_the_dashboard() {
    let folder = tempfile::tempdir().unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text("monitoring/grafana-dashboard.json")).unwrap();
    let mut queries = Vec::new();
    collect_queries(&dashboard, &mut queries);
    assert!(queries.len() > 5, "{queries:?}");
    let check = |queries: &[String]| {
        let rule = |query: &String| serde_json::json!({"record": "dashboard:query", "labels": {"n": query}, "expr": query});
        let rules = serde_json::json!({"groups": [{"name": "dashboard", "rules": queries.iter().map(rule).collect::<Vec<_>>()}]});
        std::fs::write(folder.path().join("dashboard.yml"), rules.to_string()).unwrap();
        promtool(&["check", "rules", "dashboard.yml"], folder.path())
    };
    let output = check(&queries);
    assert!(output.status.success(), "{}", words(&output));
    assert!(!check(&["sum(certsyncd_build_info".to_owned()]).status.success(), "a query that is wrong would be seen");
}

/// Every `expr`, with Grafana's variables filled in.
fn collect_queries(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            if let Some(query) = fields.get("expr").and_then(serde_json::Value::as_str) {
                into.push(query.replace("$__rate_interval", "5m").replace("$__interval", "5m").replace("$__range", "1h"));
            }
            fields.values().for_each(|field| collect_queries(field, into));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_queries(item, into)),
        _ => {}
    }
}

/// Rules and dashboard name no series that we do not have.
#[test]
fn monitoring_names_our_series_only() {
    let source = text("src/observe/metrics.rs");
    let ours = |name: &str| {
        let bare = name.trim_start_matches("certsyncd_").trim_end_matches("_total");
        source.contains(&format!("\"{bare}\""))
    };
    for file in ["monitoring/certsyncd.rules.yml", "monitoring/certsyncd.rules.test.yml", "monitoring/grafana-dashboard.json"] {
        let content = text(file);
        let names: BTreeSet<&str> = content
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("certsyncd_"))
            .collect();
        assert!(!names.is_empty(), "{file}");
        for name in names {
            assert!(ours(name), "{file} names `{name}`");
        }
    }
    let dashboard: serde_json::Value = serde_json::from_str(&text("monitoring/grafana-dashboard.json")).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 5);
}

/// The drop-in with every line in force.
fn uncommented(drop_in: &str) -> String {
    let lines = drop_in.lines().map(|line| line.strip_prefix('#').filter(|rest| is_setting(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn is_setting(line: &str) -> bool {
    line.split_once('=').is_some_and(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic()))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

//! What a valid configuration means: defaults, derived values, the edges of what is accepted.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use certsyncd::config::secret::Source;
use certsyncd::config::{
    self, ChannelKind, Cloud, Cron, Encryption, Huawei, HuaweiApi, HuaweiAuth, Settings, Severity, Successor, Target, TargetKind,
    Trust, VerifyAddress, Wanted, Window, Zone,
};

#[test]
fn version_alone_is_a_configuration() {
    let settings = parsed("");
    assert_eq!(settings.daemon.state_dir, PathBuf::from("/var/lib/certsyncd"));
    assert_eq!(settings.daemon.schedule.expression, "0 */10 * * * *");
    assert_eq!((settings.daemon.timezone.name.as_str(), settings.daemon.splay), ("local", Duration::from_secs(60)));
    assert_eq!(settings.daemon.concurrency, 8);
    assert_eq!(settings.alerts.thresholds, [30, 14, 7, 3, 1]);
    assert_eq!((settings.alerts.remind, settings.alerts.after_failures), (Duration::from_secs(86_400), 2));
    assert!(settings.metrics.listen.is_none() && settings.metrics.textfile.is_none());
}

#[test]
fn the_daemon_at_its_edges() {
    let daemon = |line: &str| parsed(&format!("[daemon]\n{line}\n")).daemon;
    assert_eq!(daemon("splay = \"0s\"").splay, Duration::ZERO);
    assert_eq!(daemon("splay = \"24h\"").splay, Duration::from_secs(86_400));
    assert_eq!((daemon("concurrency = 1").concurrency, daemon("concurrency = 256").concurrency), (1, 256));
    assert_eq!(daemon("schedule = \"*/5 * * * *\"").schedule.expression, "0 */5 * * * *");
    assert_eq!(daemon("state_dir = \"/srv/tls/\"").state_dir, PathBuf::from("/srv/tls"));
    assert_eq!(daemon("timezone = \"Asia/Shanghai\"").timezone.zone.iana_name(), Some("Asia/Shanghai"));
}

#[test]
fn huawei_answers_in_its_region_or_where_one_says() {
    let plain = huawei("region = \"cn-north-4\"\nauth = { method = \"environment\" }");
    assert_eq!(plain.endpoint.as_str(), "https://scm.cn-north-4.myhuaweicloud.com/");
    assert_eq!(plain.iam_endpoint.as_str(), "https://iam.cn-north-4.myhuaweicloud.com/");
    assert_eq!(plain.metadata_endpoint.as_str(), "http://169.254.169.254/");
    assert_eq!((plain.region.as_deref(), plain.api), (Some("cn-north-4"), HuaweiApi::Export));
    let own = huawei(
        "endpoint = \"http://127.0.0.1:8080/scm/\"\nmetadata_endpoint = \"http://10.0.0.1:81\"\nauth = { method = \"metadata\" }",
    );
    assert_eq!(own.endpoint.as_str(), "http://127.0.0.1:8080/scm");
    assert_eq!((own.metadata_endpoint.as_str(), own.region), ("http://10.0.0.1:81/", None));
    let both = huawei("region = \"ap-southeast-1\"\nendpoint = \"https://a.example\"\nauth = { method = \"environment\" }");
    assert_eq!((both.endpoint.as_str(), both.region.as_deref()), ("https://a.example/", Some("ap-southeast-1")));
}

#[test]
fn huawei_is_asked_in_six_ways() {
    let auth = |auth: &str| huawei(&format!("region = \"cn-north-4\"\nauth = {{ {auth} }}")).auth;
    let keys = auth(
        "method = \"access-key\", access_key = { env = \"A\" }, secret_key = { file = \"/s\" }, security_token = { credential = \"t\" }",
    );
    let HuaweiAuth::AccessKey { access_key, secret_key, security_token } = keys else { panic!("{keys:?}") };
    assert_eq!(access_key, Source::Env("A".to_owned()));
    assert_eq!(secret_key, Source::File("/s".into()));
    assert_eq!(security_token, Some(Source::Credential("t".to_owned())));
    let password = auth("method = \"password\", user = \"u\", password = { env = \"P\" }, domain = \"d\"");
    assert!(matches!(password, HuaweiAuth::Password { domain, project: None, .. } if domain == "d"));
    assert!(matches!(auth("method = \"token\", token = { env = \"T\" }"), HuaweiAuth::Token { .. }));
    assert!(matches!(auth("method = \"metadata\""), HuaweiAuth::Metadata));
    assert!(matches!(auth("method = \"environment\""), HuaweiAuth::Environment));
    assert!(matches!(auth("method = \"profile\""), HuaweiAuth::Profile { path: None }));
    assert!(matches!(auth("method = \"profile\", path = \"/p\""), HuaweiAuth::Profile { path: Some(_) }));
}

#[test]
fn a_download_finds_its_project_where_the_keys_come_from() {
    for method in ["environment", "profile"] {
        let text = format!("region = \"cn-north-4\"\napi = \"download\"\nauth = {{ method = \"{method}\" }}");
        assert_eq!((huawei(&text).api, huawei(&text).project_id), (HuaweiApi::Download, None));
    }
    let text = "region = \"cn-north-4\"\napi = \"download\"\nproject_id = \"0a\"\nauth = { method = \"metadata\" }";
    assert_eq!(huawei(text).project_id.as_deref(), Some("0a"));
}

#[test]
fn cds_answers_in_three_regions() {
    for (region, url) in [
        ("cn", "https://cdsapi.capitalonline.net/"),
        ("asia", "https://cdsapi-asia.capitalonline.net/"),
        ("us", "https://cdsapi-us.capitalonline.net/"),
    ] {
        let text = format!(
            "[providers.p]\nkind = \"cds\"\nregion = \"{region}\"\nrate_limit = 0\nauth = {{ method = \"access-key\", access_key = {{ env = \"A\" }}, secret_key = {{ env = \"S\" }} }}\n"
        );
        let provider = &parsed(&text).providers["p"];
        let Cloud::Cds(cds) = &provider.cloud else { panic!("{provider:?}") };
        assert_eq!((cds.endpoint.as_str(), provider.rate_limit), (url, None));
    }
}

#[test]
fn an_entry_and_its_defaults() {
    let text = "[providers.p]\nkind = \"huawei-scm\"\nregion = \"cn-north-4\"\nauth = { method = \"metadata\" }\n[[certificate]]\nname = \"a\"\nprovider = \"p\"\ndomain = \"*.Bücher.example\"\n[[certificate.output]]\nformat = \"cert\"\npath = \"/etc//a.pem\"\n[[certificate.output]]\nformat = \"combined\"\npath = \"/etc/b.pem\"\n[[certificate.output]]\nformat = \"key\"\npath = \"/etc/c.pem\"\nmode = \"640\"\n";
    let entry = &parsed(text).certificates[0];
    assert_eq!(entry.wanted, Wanted::Domain("*.xn--bcher-kva.example".to_owned()));
    assert_eq!((entry.successor, entry.trust, entry.placeholder), (Successor::Adopt, Trust::Public, false));
    let outputs: Vec<(&Path, u32)> = entry.outputs.iter().map(|output| (output.path.as_path(), output.mode)).collect();
    assert_eq!(outputs, [(Path::new("/etc/a.pem"), 0o644), (Path::new("/etc/b.pem"), 0o600), (Path::new("/etc/c.pem"), 0o640)]);
}

#[test]
fn a_target_and_its_defaults() {
    let nginx = target("kind = \"nginx\"");
    assert_eq!(nginx.reload, ["systemctl", "--no-ask-password", "reload", "nginx.service"]);
    assert_eq!((nginx.unit.as_deref(), nginx.test.as_ref(), nginx.reload_is_default), (Some("nginx.service"), None, true));
    assert_eq!((nginx.timeout, nginx.min_gap), (Duration::from_secs(15), Duration::from_secs(10)));
    let haproxy = target("kind = \"haproxy\"\nsocket = \"/run/a.sock\"\nreload = [\"systemctl\", \"reload\", \"haproxy@edge\"]");
    assert_eq!(haproxy.kind, TargetKind::Haproxy { socket: Some("/run/a.sock".into()) });
    assert_eq!((haproxy.unit.as_deref(), haproxy.reload_is_default), (Some("haproxy@edge.service"), false));
    let command = target(
        "kind = \"command\"\nreload = [\"/bin/true\"]\ntimeout = \"100ms\"\nmin_gap = \"0s\"\nverify = [{ address = \"[::1]:443\", proxy_protocol = true }]",
    );
    assert_eq!((command.unit, command.timeout, command.min_gap), (None, Duration::from_millis(100), Duration::ZERO));
    assert_eq!(command.verify, [VerifyAddress { host: "::1".to_owned(), port: 443, proxy_protocol: true }]);
}

#[test]
fn a_target_s_fingerprint_follows_what_reaches_the_server() {
    let print = |lines: &str| target(lines).fingerprint();
    let plain = print("kind = \"nginx\"\nverify = [\"127.0.0.1:443\"]");
    // Written down: an upgrade of certsyncd must not deploy everything anew.
    assert_eq!(plain, "b7c613aed2377d1fa7d777bb2183a765a06c02f6ff9665b3e1ff73b408b9daa8");
    for same in [
        "timeout = \"1m\"",
        "min_gap = \"1m\"",
        "window = \"daily 01:00-02:00\"",
        "reload = [\"systemctl\", \"--no-ask-password\", \"reload\", \"nginx.service\"]",
    ] {
        assert_eq!(print(&format!("kind = \"nginx\"\nverify = [\"127.0.0.1:443\"]\n{same}")), plain, "{same}");
    }
    for other in [
        "kind = \"haproxy\"\nverify = [\"127.0.0.1:443\"]",
        "kind = \"nginx\"",
        "kind = \"nginx\"\nverify = [\"127.0.0.1:444\"]",
        "kind = \"nginx\"\nverify = [{ address = \"127.0.0.1:443\", proxy_protocol = true }]",
        "kind = \"nginx\"\nverify = [\"127.0.0.1:443\"]\ntest = [\"/bin/true\"]",
        "kind = \"nginx\"\nverify = [\"127.0.0.1:443\"]\nreload = [\"nginx\", \"-s\", \"reload\"]",
    ] {
        assert_ne!(print(other), plain, "{other}");
    }
}

#[test]
fn alerts_and_their_channels() {
    let settings = parsed(
        "[alerts]\nthresholds = [1, 3650, 7]\nremind = \"1s\"\nafter_failures = 1\n[[alerts.channel]]\nkind = \"desktop\"\n[[alerts.channel]]\nkind = \"webhook\"\nurl = \"http://[::1]:1/x?y=z\"\nheaders = { Authorization = { env = \"H\" } }\n[[alerts.channel]]\nkind = \"desktop\"\nname = \"wall\"\n[[alerts.channel]]\nkind = \"desktop\"\n[[alerts.channel]]\nkind = \"email\"\nhost = \"localhost\"\nencryption = \"none\"\nfrom = \"certsyncd <a@example.com>\"\nto = [\"b@example.com\"]\n",
    );
    assert_eq!(settings.alerts.thresholds, [3650, 7, 1]);
    let names: Vec<&str> = settings.alerts.channels.iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(names, ["desktop-1", "webhook-1", "wall", "desktop-3", "email-1"]);
    assert!(
        settings
            .alerts
            .channels
            .iter()
            .all(|channel| channel.min_severity == Severity::Info && channel.timeout == Duration::from_secs(15))
    );
    assert!(
        matches!(&settings.alerts.channels[1].kind, ChannelKind::Webhook { url: Source::Plain(_), headers, .. } if headers.len() == 1)
    );
    assert!(matches!(&settings.alerts.channels[4].kind, ChannelKind::Email { port: 25, encryption: Encryption::None, .. }));
}

#[test]
fn a_mail_server_s_port_follows_its_encryption() {
    for (line, port) in [
        ("", 587),
        ("encryption = \"starttls\"", 587),
        ("encryption = \"tls\"", 465),
        ("encryption = \"tls\"\nport = 2465", 2465),
    ] {
        let text = format!(
            "[[alerts.channel]]\nkind = \"email\"\nhost = \"mail.example.com\"\nfrom = \"a@example.com\"\nto = [\"b@example.com\"]\n{line}\n"
        );
        let ChannelKind::Email { port: found, .. } = parsed(&text).alerts.channels[0].kind else { panic!("no mail") };
        assert_eq!(found, port, "{line}");
    }
}

#[test]
fn parts_can_be_parsed_alone() {
    assert_eq!("0 3 * * *".parse::<Cron>().unwrap().expression, "0 0 3 * * *");
    assert_eq!("UTC".parse::<Zone>().unwrap().name, "UTC");
    assert_eq!("daily 02:00-04:00".parse::<Window>().unwrap().from, 120);
    assert_eq!("[::1]:443".parse::<VerifyAddress>().unwrap().to_string(), "[::1]:443");
    assert_eq!(
        "::1".parse::<VerifyAddress>().unwrap_err(),
        "expected `host:port`, such as `127.0.0.1:443` or `[::1]:443`; `[::1]:443` would do"
    );
    assert!(
        config::hook_url("http://example.com/hunter2").unwrap_err().contains("https")
            && config::hook_url("https://example.com/?a=b").is_ok()
    );
    assert!(
        config::endpoint_url("http://10.0.0.1").is_err()
            && config::is_loopback(&config::endpoint_url("http://127.0.0.1:1").unwrap())
    );
}

fn parsed(text: &str) -> Settings {
    config::parse(&format!("version = 1\n{text}"), Path::new("config.toml"))
        .unwrap_or_else(|refused| panic!("{}", refused.render(false)))
}

fn huawei(lines: &str) -> Huawei {
    let settings = parsed(&format!("[providers.p]\nkind = \"huawei-scm\"\n{lines}\n"));
    match settings.providers["p"].cloud.clone() {
        Cloud::Huawei(huawei) => huawei,
        other => panic!("{other:?}"),
    }
}

fn target(lines: &str) -> Target {
    parsed(&format!("[deploy.t]\n{lines}\n")).targets["t"].clone()
}

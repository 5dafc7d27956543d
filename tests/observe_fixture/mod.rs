//! An inventory of every state, for the tests of `observe`.
#![allow(dead_code, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use certsyncd::config::{
    Alerts, Certificate, Cron, Daemon, Metrics, Settings, Successor, Target, TargetKind, Trust, Wanted, Zone,
};
use certsyncd::ledger::{CertificateRecord, Delivery, Ledger, Open, PassRecord, TargetRecord};
use certsyncd::observe::status::{Document, Pace, document};
use certsyncd::report::{Failure, Fingerprint, Live, Served, Valid};
use croner::parser::{CronParser, Seconds};
use jiff::{SignedDuration, Timestamp};

pub const NOW: &str = "2026-11-22T02:15:00Z";

pub fn now() -> Timestamp {
    NOW.parse().unwrap()
}

pub fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

pub fn leaf(seed: u8) -> Fingerprint {
    Fingerprint([seed; 32])
}

pub fn live(seed: u8, age: i64, left: i64, names: &[&str]) -> Arc<Live> {
    Arc::new(Live {
        fingerprint: leaf(seed),
        generation: format!("000001-{}", leaf(seed).short()),
        names: names.iter().map(ToString::to_string).collect(),
        not_before: now() - days(age),
        not_after: now() + days(left),
    })
}

pub fn served(address: &str, name: &str, seed: u8, left: i64) -> Served {
    Served {
        address: address.to_owned(),
        name: name.to_owned(),
        fingerprint: Some(leaf(seed)),
        not_after: Some(now() + days(left)),
        error: None,
        closed: false,
    }
}

pub fn delivered(seed: u8) -> Delivery {
    let leaf = Some(leaf(seed));
    Delivery { published: leaf, reloaded: leaf, verified: leaf, ..Delivery::default() }
}

pub fn failure(causes: &[&str], hint: Option<&str>) -> Failure {
    let causes = causes.iter().map(ToString::to_string).collect();
    Failure { kind: "test".to_owned(), causes, hint: hint.map(str::to_owned), transient: false }
}

pub fn entry(name: &str, deploy: &[&str]) -> Certificate {
    Certificate {
        name: name.to_owned(),
        provider: "scm".to_owned(),
        wanted: Wanted::Id(format!("scs-{name}")),
        successor: Successor::Adopt,
        names: vec![format!("{name}.example.com")],
        key_file: None,
        deploy: deploy.iter().map(ToString::to_string).collect(),
        outputs: Vec::new(),
        trust: Trust::Public,
        placeholder: false,
    }
}

pub fn nginx() -> Target {
    Target {
        name: "nginx".to_owned(),
        kind: TargetKind::Nginx,
        test: None,
        reload: vec!["systemctl".to_owned(), "reload".to_owned(), "nginx.service".to_owned()],
        reload_is_default: true,
        unit: Some("nginx.service".to_owned()),
        verify: Vec::new(),
        timeout: Duration::from_secs(15),
        window: None,
        min_gap: Duration::from_secs(10),
    }
}

pub fn settings(certificates: Vec<Certificate>) -> Settings {
    let pattern = CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build().parse("0 */10 * * * *").unwrap();
    Settings {
        path: PathBuf::from("/etc/certsyncd/config.toml"),
        daemon: Daemon {
            state_dir: PathBuf::from("/var/lib/certsyncd"),
            schedule: Cron { expression: "0 */10 * * * *".to_owned(), pattern },
            timezone: Zone { name: "UTC".to_owned(), zone: jiff::tz::TimeZone::UTC },
            splay: Duration::ZERO,
            concurrency: 8,
        },
        providers: BTreeMap::new(),
        certificates,
        targets: BTreeMap::new(),
        alerts: Alerts {
            thresholds: vec![30, 14, 7, 3, 1],
            remind: Duration::from_secs(86_400),
            after_failures: 1,
            heartbeat_url: None,
            channels: Vec::new(),
        },
        metrics: Metrics::default(),
        warnings: Vec::new(),
    }
}

/// One certificate of each state, named after it; `web` is well and served by two targets.
pub fn everything() -> (Settings, Ledger, BTreeSet<String>) {
    let mut ledger = Ledger {
        version: 1,
        last_pass: Some(PassRecord {
            started: now() - SignedDuration::from_secs(310),
            finished: now() - SignedDuration::from_secs(300),
            ok: false,
            requests: 7,
        }),
        ..Ledger::default()
    };
    let mut put = |name: &str, record: CertificateRecord| {
        let checked = Some(now() - SignedDuration::from_secs(300));
        let record = CertificateRecord { provider: "scm".to_owned(), last_checked: checked, ..record };
        ledger.certificates.insert(name.to_owned(), record.into());
    };
    let web = Delivery { served: vec![served("127.0.0.1:443", "web.example.com", 1, 61)], ..delivered(1) };
    put(
        "web",
        CertificateRecord {
            id: Some("scs-web-2".to_owned()),
            live: Some(live(1, 304, 61, &["web.example.com", "www.example.com"])),
            fetched: Some(leaf(1)),
            targets: [("nginx", web), ("haproxy", delivered(1))].into_iter().collect(),
            ..CertificateRecord::default()
        },
    );
    put(
        "api",
        CertificateRecord {
            live: Some(live(2, 356, 9, &["api.example.com"])),
            valid: Some(Valid::Expiring),
            fetched: Some(leaf(2)),
            targets: [("haproxy", delivered(2))].into_iter().collect(),
            ..CertificateRecord::default()
        },
    );
    put(
        "old",
        CertificateRecord {
            live: Some(live(3, 370, -5, &["old.example.com"])),
            valid: Some(Valid::Expired),
            ..CertificateRecord::default()
        },
    );
    put(
        "shop",
        CertificateRecord {
            live: Some(live(4, 100, 265, &["shop.example.com"])),
            open: Open {
                last_error: Some(failure(
                    &["failed to export certificate `scs-shop`", "server said 400: `SCM.0010` this operation is not allowed"],
                    Some("the certificate must be issued before it can be exported"),
                )),
                ..Open::default()
            }
            .into(),
            ..CertificateRecord::default()
        },
    );
    put(
        "next",
        CertificateRecord {
            live: Some(live(5, 100, 265, &["next.example.com"])),
            open: Open { held: Some("not valid before 2026-12-01".to_owned()), ..Open::default() }.into(),
            ..CertificateRecord::default()
        },
    );
    let behind = Delivery { published: Some(leaf(9)), reloaded: Some(leaf(9)), ..Delivery::default() };
    put(
        "wait",
        CertificateRecord {
            live: Some(live(6, 10, 355, &["wait.example.com"])),
            fetched: Some(leaf(7)),
            fetched_not_after: Some(now() + days(720)),
            targets: [("nginx", behind)].into_iter().collect(),
            ..CertificateRecord::default()
        },
    );
    put("gone", CertificateRecord { live: Some(live(8, 10, 80, &["gone.example.com"])), ..CertificateRecord::default() });
    let waiting = TargetRecord { pending: Some("`nginx.service` is not running".to_owned()), ..TargetRecord::default() };
    ledger.targets.insert("nginx".to_owned(), waiting);
    let settings = settings(vec![
        entry("web", &["nginx", "haproxy"]),
        entry("api", &["haproxy"]),
        entry("old", &[]),
        entry("shop", &[]),
        entry("next", &[]),
        entry("wait", &["nginx"]),
        entry("none", &["nginx"]),
    ]);
    let on_disk = ["web", "api", "old", "shop", "next", "wait", "gone"].map(str::to_owned).into();
    (settings, ledger, on_disk)
}

pub fn pace() -> Pace {
    Pace { next_pass: Some("2026-11-22T02:20:00Z".parse().unwrap()), interval: Some(Duration::from_secs(600)) }
}

pub fn picture() -> Document {
    let (settings, ledger, on_disk) = everything();
    document(Some(&settings), &ledger, &on_disk, pace(), now())
}

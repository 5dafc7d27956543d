//! What the journal gets, and what no log may ever get.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]

mod alert_support;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use alert_support::*;
use certsyncd::alert::{self, Outbox};
use certsyncd::config::{ChannelKind, WebhookFormat};
use tracing::field::{Field, Visit};
use tracing::instrument::WithSubscriber;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

type Line = (Level, BTreeMap<String, String>);

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Line>>>);

struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push((*event.metadata().level(), fields.0));
    }
}

#[test]
fn the_journal_gets_every_event_with_fields_that_can_be_asked_for() {
    let (folder, lines) = (state_dir(), Lines::default());
    let outbox = Outbox::open(folder.path()).unwrap();
    let settings = settings(vec![]);
    let subscriber = Registry::default().with(lines.clone());
    tracing::subscriber::with_default(subscriber, || {
        note(&outbox, &report(1, 9), &settings, now());
        note(&outbox, &report(1, 9), &settings, now() + days(9));
        note(&outbox, &report(2, 300), &settings, now() + days(9));
    });
    let lines = lines.0.lock().unwrap();
    let levels: Vec<Level> = lines.iter().map(|(level, _)| *level).collect();
    assert_eq!(levels, [Level::WARN, Level::ERROR, Level::INFO]);
    let fields = &lines[0].1;
    for (name, value) in [
        ("EVENT", "expiring"),
        ("SEVERITY", "warning"),
        ("CERTIFICATE", "api"),
        ("PROVIDER", "shouyun"),
        ("CERTIFICATE_ID", "cert-1"),
        ("NOT_AFTER", "2026-12-01T02:00:00Z"),
        ("KEY", "expiring/api/010101010101"),
    ] {
        assert_eq!(fields.get(name).map(String::as_str), Some(value), "{name} in {fields:?}");
    }
    assert!(!fields.contains_key("TARGET"), "what does not apply is not there");
    assert!(fields["message"].starts_with("Certificate `api` (api.example.com) on web-1 ends in 9 days"));
}

#[tokio::test]
async fn giving_up_is_an_error_in_the_journal_and_a_label_of_the_counter() {
    let (folder, lines) = (state_dir(), Lines::default());
    let hook = Hook::start(|_| status(503)).await;
    let (outbox, channels) = (Outbox::open(folder.path()).unwrap(), [hook.channel("pager")]);
    outbox.put(&[expiring()], &channels).unwrap();
    let subscriber = Registry::default().with(lines.clone());
    let tries = async {
        let mut at = now();
        loop {
            let outcomes = outbox.deliver(&channels, &certsyncd::clock::Clock::manual(at), &Default::default()).await;
            let Some(next) = outcomes[0].next_try else { return outcomes[0].clone() };
            at = next;
        }
    };
    let last = tries.with_subscriber(subscriber).await;
    assert_eq!((last.result.name(), last.channel.as_str()), ("given_up", "pager"));
    let lines = lines.0.lock().unwrap();
    let loud: Vec<_> = lines.iter().filter(|(level, _)| *level <= Level::WARN).collect();
    assert_eq!(
        loud.iter().map(|(level, _)| *level).collect::<Vec<_>>(),
        [Level::WARN, Level::ERROR],
        "once at first, once at last"
    );
    let (_, fields) = loud[1];
    assert!(fields["message"].starts_with("gave up telling `pager` after "), "{fields:?}");
    assert!(fields["message"].contains("503") && fields["channel"] == "pager", "{fields:?}");
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_secret_is_logged_even_at_trace() {
    let log = Text::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(Level::TRACE).with_ansi(false).with_writer(move || writer.clone()).finish();
    let work = async {
        for answer in [200, 302, 403, 500] {
            let hook =
                Hook::start(move |got| (answer, vec![], format!("{} {:?}", got.path, got.headers.get("authorization")))).await;
            let kind = ChannelKind::Webhook {
                url: plain(&hook.url("/bot/TOKEN-IN-PATH?key=TOKEN-IN-QUERY")),
                format: WebhookFormat::Dingtalk,
                headers: BTreeMap::from([("Authorization".to_owned(), plain("TOKEN-IN-HEADER"))]),
                secret: Some(plain("TOKEN-TO-SIGN-WITH")),
                template: None,
            };
            let folder = state_dir();
            let outbox = Outbox::open(folder.path()).unwrap();
            let channels = [channel("robot", kind)];
            outbox.put(&[expiring()], &channels).unwrap();
            outbox.deliver(&channels, &certsyncd::clock::Clock::manual(now()), &Default::default()).await;
            for file in std::fs::read_dir(folder.path().join("outbox")).unwrap() {
                let bytes = std::fs::read(file.unwrap().path()).unwrap();
                tracing::info!("on disk: {}", String::from_utf8_lossy(&bytes));
            }
            tracing::info!("settings: {:?}", channels);
            let _ = alert::heartbeat(&plain(&hook.url("/ping/TOKEN-IN-PATH"))).await;
        }
    };
    work.with_subscriber(subscriber).await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("failed to tell `robot`") && log.contains("TRACE"), "the log is there: {log}");
    for secret in ["TOKEN-IN-PATH", "TOKEN-IN-QUERY", "TOKEN-IN-HEADER", "TOKEN-TO-SIGN-WITH"] {
        let found: Vec<&str> = log.lines().filter(|line| line.contains(secret)).collect();
        assert!(found.is_empty(), "{secret}: {found:#?}");
    }
}

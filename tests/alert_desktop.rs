//! Desktop alerts over a real dbus-daemon, to a notification service that records what it is told.
//!
//! The session bus comes from the environment of the process, so each test runs itself again under `dbus-run-session`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]

mod alert_support;

use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, Mutex};

use alert_support::*;
use certsyncd::alert::{self, Delivery, Outbox};
use certsyncd::clock::Clock;
use certsyncd::config::{Channel, ChannelKind, EventKind, Language};
use certsyncd::report::Event;
use tokio_util::sync::CancellationToken;
use zbus::zvariant::{OwnedValue, Value};

fn desktop() -> Channel {
    channel("desktop", ChannelKind::Desktop)
}

/// One call of `Notify`, and the id that was answered.
#[derive(Debug)]
struct Bubble {
    app: String,
    replaces: u32,
    icon: String,
    summary: String,
    body: String,
    urgency: u8,
    timeout: i32,
    id: u32,
}

/// <https://specifications.freedesktop.org/notification-spec/latest/protocol.html>
#[derive(Clone, Default)]
struct Service {
    shown: Arc<Mutex<Vec<Bubble>>>,
    refuse: bool,
    /// Whether it keeps an id that the caller made up (KDE, dunst), or counts for itself (GNOME).
    keeps_ids: bool,
}

#[zbus::interface(name = "org.freedesktop.Notifications")]
impl Service {
    #[allow(clippy::too_many_arguments)]
    fn notify(
        &self,
        app_name: String,
        replaces_id: u32,
        app_icon: String,
        summary: String,
        body: String,
        _actions: Vec<String>,
        hints: HashMap<String, OwnedValue>,
        expire_timeout: i32,
    ) -> zbus::fdo::Result<u32> {
        if self.refuse {
            return Err(zbus::fdo::Error::LimitsExceeded("too many notifications".into()));
        }
        let mut shown = self.shown.lock().unwrap();
        let known = shown.iter().any(|bubble| bubble.id == replaces_id);
        let id = if replaces_id != 0 && (known || self.keeps_ids) { replaces_id } else { 7 + shown.len() as u32 };
        let urgency = match hints.get("urgency").map(|value| &**value) {
            Some(Value::U8(urgency)) => *urgency,
            other => panic!("no urgency: {other:?}"),
        };
        shown.push(Bubble {
            app: app_name,
            replaces: replaces_id,
            icon: app_icon,
            summary,
            body,
            urgency,
            timeout: expire_timeout,
            id,
        });
        Ok(id)
    }

    fn get_capabilities(&self) -> Vec<String> {
        vec!["body".into(), "persistence".into()]
    }

    fn get_server_information(&self) -> (String, String, String, String) {
        ("recorder".into(), "certsyncd".into(), "1".into(), "1.2".into())
    }

    fn close_notification(&self, _id: u32) {}
}

async fn service(service: Service) -> zbus::Connection {
    zbus::connection::Builder::session()
        .unwrap()
        .name("org.freedesktop.Notifications")
        .unwrap()
        .serve_at("/org/freedesktop/Notifications", service)
        .unwrap()
        .build()
        .await
        .unwrap()
}

/// Runs the test `inner` of this file in a process of its own, under the command `under`.
fn again(inner: &str, under: &[&str], bus: Option<&str>) {
    let me = std::env::current_exe().unwrap();
    let mut words: Vec<&str> = under.to_vec();
    let me = me.to_str().unwrap();
    words.extend([me, "--exact", inner, "--ignored", "--nocapture", "--test-threads=1"]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env_remove("DBUS_SESSION_BUS_ADDRESS").env_remove("DISPLAY").env_remove("XDG_RUNTIME_DIR");
    if let Some(bus) = bus {
        command.env("DBUS_SESSION_BUS_ADDRESS", bus);
    }
    let output = command.output().unwrap_or_else(|error| panic!("failed to run {words:?} (is dbus installed?): {error}"));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_session_shows_bubbles() {
    again("inside_shows_bubbles", &["dbus-run-session", "--"], None);
}

#[tokio::test]
#[ignore = "run by a_session_shows_bubbles"]
async fn inside_shows_bubbles() {
    let recorder = Service::default();
    let _bus = service(recorder.clone()).await;
    let mut channel = desktop();
    assert_eq!(alert::send(&channel, &expiring()).await.unwrap(), "shown as notification 7");
    assert_eq!(alert::send(&channel, &expired()).await.unwrap(), "shown as notification 7", "the later state takes its place");
    channel.language = Language::Zh;
    let other = Event { certificate: Some("www".into()), message: "5 < 6 & so on".into(), message_zh: None, ..expiring() };
    assert_eq!(alert::send(&channel, &other).await.unwrap(), "shown as notification 9", "another certificate, another bubble");
    let shown = recorder.shown.lock().unwrap();
    let (warning, critical, www) = (&shown[0], &shown[1], &shown[2]);
    assert_eq!((warning.app.as_str(), warning.summary.as_str()), ("certsyncd", "[warning] expiring: api on web-1"));
    assert!(warning.body.contains("ends in 9 days"), "{}", warning.body);
    assert_eq!((warning.urgency, warning.icon.as_str(), warning.timeout), (1, "dialog-warning", -1));
    assert_eq!((critical.urgency, critical.icon.as_str(), critical.timeout), (2, "dialog-error", 0));
    assert_eq!(critical.replaces, 7);
    assert_eq!(www.summary, "【警告】证书即将到期：www（web-1）");
    assert_eq!(www.body, "5 &lt; 6 &amp; so on");
    assert_ne!(www.replaces, warning.replaces);
}

#[test]
fn a_service_that_keeps_ids_replaces_across_processes() {
    again("inside_keeps_ids", &["dbus-run-session", "--"], None);
}

#[tokio::test]
#[ignore = "run by a_service_that_keeps_ids_replaces_across_processes"]
async fn inside_keeps_ids() {
    let recorder = Service { keeps_ids: true, ..Service::default() };
    let _bus = service(recorder.clone()).await;
    alert::send(&desktop(), &expiring()).await.unwrap();
    let first = recorder.shown.lock().unwrap()[0].id;
    assert!(first >= 0x4000_0000, "made from the name, the same in every process");
    alert::send(&desktop(), &expired()).await.unwrap();
    assert_eq!(recorder.shown.lock().unwrap()[1].id, first);
}

#[test]
fn a_service_that_refuses_is_tried_again() {
    again("inside_refused", &["dbus-run-session", "--"], None);
}

#[tokio::test]
#[ignore = "run by a_service_that_refuses_is_tried_again"]
async fn inside_refused() {
    let _bus = service(Service { refuse: true, ..Service::default() }).await;
    let error = alert::send(&desktop(), &expiring()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), ("desktop", true));
    assert!(error.line().contains("too many notifications"), "{}", error.line());
}

#[test]
fn a_bus_without_a_service_is_no_desktop() {
    again("inside_nobody", &["dbus-run-session", "--"], None);
}

#[test]
fn no_bus_is_no_desktop() {
    again("inside_nobody", &[], Some("unix:path=/nonexistent/bus"));
    again("inside_nobody", &[], None);
}

#[tokio::test]
#[ignore = "run by no_bus_is_no_desktop and a_bus_without_a_service_is_no_desktop"]
async fn inside_nobody() {
    let folder = state_dir();
    let outbox = Outbox::open(folder.path()).unwrap();
    let channels = [desktop()];
    outbox.put(&[expiring(), expired()], &channels).unwrap();
    let outcomes = outbox.deliver(&channels, &Clock::manual(now()), &CancellationToken::new()).await;
    let results: Vec<_> = outcomes.iter().map(|outcome| (outcome.event, outcome.result)).collect();
    assert_eq!(
        results,
        [(EventKind::Expiring, Delivery::Unavailable), (EventKind::Expired, Delivery::Unavailable)],
        "{outcomes:?}"
    );
    assert!(outbox.waiting().unwrap().is_empty(), "not tried again");
}

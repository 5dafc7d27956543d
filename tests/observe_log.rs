//! The log: what is let through, and what a line looks like.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::sync::{Arc, Mutex};

use certsyncd::observe::log::{Volume, lines};
use tracing::subscriber::with_default;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

/// What was written.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged(filter: Option<&str>, verbose: u8, color: bool, work: impl FnOnce()) -> String {
    let paper = Paper::default();
    let writer = paper.clone();
    let volume = Volume::new(filter, verbose).unwrap();
    let layer = lines(move || writer.clone(), color).with_filter(volume.filter::<Registry>());
    with_default(Registry::default().with(layer), work);
    String::from_utf8(paper.0.lock().unwrap().clone()).unwrap()
}

fn chatter() {
    tracing::trace!(target: "reqwest::connect", "https://cdsapi.capitalonline.net/?AccessKeyId=AK&Signature=SECRET");
    tracing::debug!(target: "hyper_util::client", "GET /?Signature=SECRET");
    tracing::info!(target: "tokio_cron_scheduler", "Uninited");
    tracing::debug!(target: "certsyncdish", "SECRET of a crate that only sounds like us");
    tracing::warn!(target: "rustls::client", "of others, a warning");
    tracing::error!(target: "certsyncd::sync", "an error");
    tracing::warn!(target: "certsyncd::sync", "a warning");
    tracing::info!(target: "certsyncd::sync", "an information");
    tracing::debug!(target: "certsyncd::provider", "a detail");
    tracing::trace!(target: "certsyncd::provider", "a trifle");
}

#[test]
fn others_cannot_be_turned_up() {
    for (filter, verbose) in [(Some("trace"), 0), (None, 9), (Some("reqwest=trace,hyper_util=trace,certsyncdish=trace,trace"), 2)]
    {
        let text = logged(filter, verbose, false, chatter);
        assert!(text.contains("a trifle") && text.contains("of others, a warning"), "{text}");
        assert!(!text.contains("SECRET") && !text.contains("Uninited"), "{filter:?} {verbose}:\n{text}");
    }
}

#[test]
fn levels_by_flag_and_by_filter() {
    let seen = |filter, verbose| {
        let text = logged(filter, verbose, false, chatter);
        ["an error", "a warning", "an information", "a detail", "a trifle"].iter().filter(|words| text.contains(**words)).count()
    };
    assert_eq!([seen(None, 0), seen(None, 1), seen(None, 2)], [3, 4, 5]);
    assert_eq!([seen(Some("error"), 2), seen(Some("off"), 0), seen(Some("  "), 0)], [1, 0, 3], "what is written beats the flag");
    assert_eq!(seen(Some("warn,certsyncd::provider=trace"), 0), 4);
}

#[test]
fn a_filter_that_cannot_be_read_is_refused_with_the_way_to_write_one() {
    let error = Volume::new(Some("certsyncd=loud"), 0).unwrap_err();
    assert_eq!(error.to_string(), "failed to read log filter `certsyncd=loud`");
    assert!(error.hint().unwrap().contains("certsyncd::provider=trace"));
}

#[test]
fn a_line_is_time_level_message_fields() {
    let text = logged(None, 0, false, || {
        let _pass = tracing::info_span!(target: "certsyncd", "pass", provider = "scm").entered();
        tracing::info!(target: "certsyncd", certificate = "api", target = %"nginx", count = 3, "went live");
    });
    let (time, rest) = text.split_at(20);
    assert!(time.starts_with("20") && time.ends_with(' '), "{text}");
    assert_eq!(rest, "INFO  went live certificate=api target=nginx count=3 provider=\"scm\"\n");
}

#[test]
fn colour_only_where_it_is_wanted() {
    let work = || tracing::error!(target: "certsyncd", certificate = "api", "went wrong");
    assert!(!logged(None, 0, false, work).contains('\x1b'));
    assert!(logged(None, 0, true, work).contains("\x1b[31mERROR\x1b[0m went wrong"));
}

#[test]
fn words_of_a_server_stay_on_their_line() {
    let text = logged(None, 0, false, || {
        tracing::warn!(target: "certsyncd", error = "bad\n2026-11-22 02:10:03 INFO  all is well\x1b[2J", "server said\r\nno");
    });
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(r"server said\r\nno error=bad\n2026-11-22") && !text.contains('\x1b'), "{text}");
}

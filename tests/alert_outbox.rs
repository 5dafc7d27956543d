//! The outbox: durable before it is sent, sent to each channel, never twice, given up after a day.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, dead_code)]

mod alert_support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alert_support::*;
use certsyncd::alert::{BACKOFF_FIRST, BACKOFF_MAX, Delivery, Outbox, Outcome, QUEUE};
use certsyncd::clock::Clock;
use certsyncd::config::{Channel, EventKind, Severity, WebhookFormat};
use certsyncd::report::Event;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

async fn deliver(outbox: &Outbox, channels: &[Channel], at: Timestamp) -> Vec<Outcome> {
    outbox.deliver(channels, &Clock::manual(at), &CancellationToken::new()).await
}

fn results(outcomes: &[Outcome]) -> Vec<(EventKind, &str, Delivery)> {
    outcomes.iter().map(|outcome| (outcome.event, outcome.channel.as_str(), outcome.result)).collect()
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

#[tokio::test]
async fn each_channel_gets_it_once() {
    let (folder, hook) = (state_dir(), Hook::start(|_| ok("thanks")).await);
    let outbox = Outbox::open(folder.path()).unwrap();
    let settings = settings(vec![hook.channel("one"), hook.channel("two")]);
    assert_eq!(note(&outbox, &report(1, 9), &settings, now()).len(), 1);
    assert_eq!(outbox.next_due().unwrap(), Some(now()));
    let outcomes = deliver(&outbox, &settings.channels, now()).await;
    assert_eq!(results(&outcomes), [(EventKind::Expiring, "one", Delivery::Sent), (EventKind::Expiring, "two", Delivery::Sent)]);
    assert_eq!(outcomes[0].answer, "thanks");
    assert_eq!(hook.got().len(), 2);
    assert_eq!(hook.got()[0].json()["key"], "expiring/api/010101010101");
    assert!(deliver(&outbox, &settings.channels, now()).await.is_empty());
    assert_eq!((outbox.waiting().unwrap().len(), outbox.next_due().unwrap()), (0, None));
    let history = outbox.history(10);
    let mut who: Vec<&str> = history.iter().map(|outcome| outcome.channel.as_str()).collect();
    who.sort_unstable();
    assert_eq!(who, ["journal", "one", "two"]);
    assert_eq!(outbox.history(1).len(), 1);
}

#[tokio::test]
async fn a_restart_neither_repeats_nor_loses() {
    let (folder, hook) = (state_dir(), Hook::start(|_| ok("")).await);
    let settings = settings(vec![hook.channel("one")]);
    note(&Outbox::open(folder.path()).unwrap(), &report(1, 9), &settings, now());
    // killed before anything was sent
    let outbox = Outbox::open(folder.path()).unwrap();
    assert!(note(&outbox, &report(1, 9), &settings, now() + seconds(1)).is_empty());
    deliver(&outbox, &settings.channels, now() + seconds(2)).await;
    assert_eq!(hook.got().len(), 1);
    // and after it was sent
    let outbox = Outbox::open(folder.path()).unwrap();
    assert!(note(&outbox, &report(1, 9), &settings, now() + seconds(3)).is_empty());
    assert!(deliver(&outbox, &settings.channels, now() + seconds(4)).await.is_empty());
}

#[tokio::test]
async fn a_lost_ledger_or_a_lost_memory_repeats_nothing_and_both_lost_tell_again() {
    let folder = state_dir();
    let outbox = Outbox::open(folder.path()).unwrap();
    let settings = settings(vec![]);
    let memory = folder.path().join("outbox/memory.json");
    assert_eq!(note(&outbox, &report(1, 9), &settings, now()).len(), 1);
    let ledger = outbox.raised().unwrap();
    assert_eq!(ledger.len(), 1);
    assert!(note_knowing(&outbox, &BTreeMap::new(), &report(1, 9), &settings, now()).is_empty(), "the ledger is lost");
    std::fs::remove_file(&memory).unwrap();
    // something else is filed before the next pass: that must not count as a memory
    outbox.put(&[expiring()], &settings.channels).unwrap();
    assert!(note_knowing(&outbox, &ledger, &report(1, 9), &settings, now()).is_empty(), "the memory is lost");
    std::fs::write(&memory, b"{\"version\":1,\"raised\":{\"exp").unwrap();
    assert!(note_knowing(&outbox, &ledger, &report(1, 9), &settings, now()).is_empty(), "the memory is damaged");
    assert!(folder.path().join("outbox/damaged-memory.json").exists());
    std::fs::remove_file(&memory).unwrap();
    assert_eq!(note(&outbox, &report(1, 9), &settings, now()).len(), 1, "both lost: rather twice than never");
}

#[tokio::test]
async fn an_event_that_a_crash_left_in_the_memory_is_sent_once() {
    let (folder, hook) = (state_dir(), Hook::start(|_| ok("")).await);
    let outbox = Outbox::open(folder.path()).unwrap();
    let settings = settings(vec![hook.channel("one")]);
    note(&outbox, &report(1, 9), &settings, now());
    // as if the process had died between the memory and the entry's own file
    let (memory, entry) = (folder.path().join("outbox/memory.json"), folder.path().join("outbox/000000000001.json"));
    let mut remembered: serde_json::Value = serde_json::from_slice(&std::fs::read(&memory).unwrap()).unwrap();
    remembered["unfiled"] =
        serde_json::json!([serde_json::from_slice::<serde_json::Value>(&std::fs::read(&entry).unwrap()).unwrap()]);
    std::fs::write(&memory, remembered.to_string()).unwrap();
    std::fs::remove_file(&entry).unwrap();
    let outbox = Outbox::open(folder.path()).unwrap();
    assert_eq!(deliver(&outbox, &settings.channels, now()).await.len(), 1);
    assert!(deliver(&outbox, &settings.channels, now()).await.is_empty());
    assert!(note(&outbox, &report(1, 9), &settings, now()).is_empty());
    assert_eq!(hook.got().len(), 1);
}

#[tokio::test]
async fn pauses_grow_to_an_hour_and_after_a_day_it_is_given_up() {
    let (folder, hook) = (state_dir(), Hook::start(|_| status(503)).await);
    let outbox = Outbox::open(folder.path()).unwrap();
    let settings = settings(vec![hook.channel("one")]);
    note(&outbox, &report(1, 9), &settings, now());
    let mut at = now();
    let mut pauses = Vec::new();
    let end = loop {
        let outcomes = deliver(&outbox, &settings.channels, at).await;
        assert_eq!(outcomes.len(), 1);
        let Some(next) = outcomes[0].next_try else { break outcomes[0].clone() };
        assert_eq!(outcomes[0].result, Delivery::Failed);
        assert_eq!(outbox.next_due().unwrap(), Some(next));
        assert!(deliver(&outbox, &settings.channels, next - seconds(1)).await.is_empty(), "not before its time");
        pauses.push(next.duration_since(at).as_secs());
        at = next;
    };
    assert_eq!(end.result, Delivery::GivenUp);
    assert!(end.answer.contains("503"), "{}", end.answer);
    assert!(at.duration_since(now()) >= days(1) && at.duration_since(now()) < days(1) + seconds(2 * 3_600));
    let (first, most) = (BACKOFF_FIRST.as_secs() as i64, BACKOFF_MAX.as_secs() as i64);
    for (index, pause) in pauses.iter().enumerate() {
        let step = (first << index.min(20)).min(most);
        assert!((step..=step + step / 5 + 1).contains(pause), "pause {index}: {pause} s");
    }
    assert_eq!(hook.got().len(), pauses.len() + 1);
    assert!(outbox.waiting().unwrap().is_empty());
    assert_eq!(outbox.history(10).iter().filter(|outcome| outcome.channel == "one").count(), 1, "one row, not one per try");
}

#[tokio::test]
async fn what_time_will_hardly_change_is_tried_slowly() {
    let (folder, hook) = (state_dir(), Hook::start(|_| status(404)).await);
    let outbox = Outbox::open(folder.path()).unwrap();
    let settings = settings(vec![hook.channel("one")]);
    note(&outbox, &report(1, 9), &settings, now());
    let next = deliver(&outbox, &settings.channels, now()).await[0].next_try.unwrap();
    assert!(next.duration_since(now()) >= seconds(3_600));
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let answer = |_: &Got| (429, vec![("retry-after", "600".to_owned())], String::new());
    let (folder, hook) = (state_dir(), Hook::start(answer).await);
    let outbox = Outbox::open(folder.path()).unwrap();
    let settings = settings(vec![hook.channel("one")]);
    note(&outbox, &report(1, 9), &settings, now());
    let next = deliver(&outbox, &settings.channels, now()).await[0].next_try.unwrap();
    assert_eq!(next.duration_since(now()), seconds(600));
}

#[tokio::test]
async fn a_clock_that_jumps_a_year_ahead_gives_nothing_up_at_once() {
    let (folder, hook) = (state_dir(), Hook::start(|_| status(503)).await);
    let outbox = Outbox::open(folder.path()).unwrap();
    let settings = settings(vec![hook.channel("one")]);
    note(&outbox, &report(1, 9), &settings, now());
    assert_eq!(deliver(&outbox, &settings.channels, now() + days(365)).await[0].result, Delivery::Failed);
    // and back again: what is due in a year is due now
    assert_eq!(deliver(&outbox, &settings.channels, now()).await.len(), 1);
}

#[tokio::test]
async fn a_dead_channel_holds_nobody() {
    let (folder, hook) = (state_dir(), Hook::start(|_| ok("")).await);
    let (dead, task) = mute().await;
    let outbox = Outbox::open(folder.path()).unwrap();
    let mut first = webhook("dead", &format!("http://{dead}/"), WebhookFormat::Json);
    first.timeout = Duration::from_millis(300);
    let settings = settings(vec![first, hook.channel("well")]);
    for number in 0..20 {
        outbox.put(&[Event { key: format!("k{number}"), ..expiring() }], &settings.channels).unwrap();
    }
    let began = std::time::Instant::now();
    let outcomes = deliver(&outbox, &settings.channels, now()).await;
    assert!(began.elapsed() < Duration::from_secs(5), "the dead one was tried once, not twenty times");
    assert_eq!(hook.got().len(), 20);
    let dead: Vec<_> = outcomes.iter().filter(|outcome| outcome.channel == "dead").collect();
    assert_eq!((dead.len(), dead[0].result), (1, Delivery::Failed));
    assert!(dead[0].answer.contains("0.3 s"), "{}", dead[0].answer);
    assert_eq!(outbox.waiting().unwrap().len(), 20);
    assert!(outbox.next_due().unwrap().unwrap() >= now() + seconds(30), "the others wait along");
    task.abort();
}

#[tokio::test]
async fn an_event_that_is_never_taken_does_not_hold_the_others() {
    let answer = |got: &Got| if got.body.contains("poison") { status(500) } else { ok("") };
    let (folder, hook) = (state_dir(), Hook::start(answer).await);
    let outbox = Outbox::open(folder.path()).unwrap();
    let settings = settings(vec![hook.channel("one")]);
    let event = |key: &str| Event { key: key.into(), ..expiring() };
    outbox.put(&[event("poison"), event("fine")], &settings.channels).unwrap();
    deliver(&outbox, &settings.channels, now()).await;
    let later = outbox.next_due().unwrap().unwrap();
    let outcomes = deliver(&outbox, &settings.channels, later).await;
    assert_eq!(results(&outcomes).iter().map(|(_, _, result)| *result).collect::<Vec<_>>(), [Delivery::Sent, Delivery::Failed]);
    assert_eq!(outcomes[0].key, "fine");
}

#[tokio::test]
async fn resolved_goes_to_who_got_the_original() {
    let (folder, hook) = (state_dir(), Hook::start(|_| ok("")).await);
    let outbox = Outbox::open(folder.path()).unwrap();
    let mut warning = hook.channel("warning");
    warning.min_severity = Severity::Warning;
    let mut critical = hook.channel("critical");
    critical.min_severity = Severity::Critical;
    let settings = settings(vec![warning, critical]);
    note(&outbox, &report(1, 9), &settings, now());
    let events = note(&outbox, &report(2, 300), &settings, now() + seconds(600));
    assert_eq!(events.iter().map(|event| event.event).collect::<Vec<_>>(), [EventKind::Resolved]);
    let outcomes = deliver(&outbox, &settings.channels, now() + seconds(601)).await;
    assert_eq!(
        results(&outcomes),
        [(EventKind::Expiring, "warning", Delivery::Sent), (EventKind::Resolved, "warning", Delivery::Sent)]
    );
    let (told, over) = (hook.got()[0].json(), hook.got()[1].json());
    assert_eq!(told["key"], over["key"], "the same thing");
    assert_eq!((over["event"].as_str(), over["severity"].as_str()), (Some("resolved"), Some("info")));
}

#[tokio::test]
async fn filters_by_event_and_certificate() {
    let (folder, hook) = (state_dir(), Hook::start(|_| ok("")).await);
    let outbox = Outbox::open(folder.path()).unwrap();
    let mut by_name = hook.channel("by_name");
    by_name.certificates = vec!["*.example.com".into()];
    let mut other_name = hook.channel("other_name");
    other_name.certificates = vec!["*.example.org".into(), "shop-*".into()];
    let mut by_event = hook.channel("by_event");
    by_event.events = vec![EventKind::Expiring];
    let mut other_event = hook.channel("other_event");
    other_event.events = vec![EventKind::Expired];
    let settings = settings(vec![by_name, other_name, by_event, other_event]);
    note(&outbox, &report(1, 9), &settings, now());
    let outcomes = deliver(&outbox, &settings.channels, now()).await;
    assert_eq!(outcomes.iter().map(|outcome| outcome.channel.as_str()).collect::<Vec<_>>(), ["by_name", "by_event"]);
}

#[tokio::test]
async fn two_processes_send_it_once() {
    let (folder, hook) = (state_dir(), Hook::start(|_| ok("")).await);
    let (daemon, by_hand) = (Outbox::open(folder.path()).unwrap(), Outbox::open(folder.path()).unwrap());
    let channels = [hook.channel("one")];
    for number in 0..10 {
        daemon.put(&[Event { key: format!("k{number}"), ..expiring() }], &channels).unwrap();
    }
    let (one, two) = tokio::join!(deliver(&daemon, &channels, now()), deliver(&by_hand, &channels, now()));
    assert_eq!(one.len() + two.len(), 10);
    assert_eq!(hook.got().len(), 10);
}

#[tokio::test]
async fn two_processes_judge_one_pass_each_and_tell_once() {
    let (folder, hook) = (state_dir(), Hook::start(|_| ok("")).await);
    let settings = settings(vec![hook.channel("one")]);
    let (daemon, by_hand) = (Outbox::open(folder.path()).unwrap(), Outbox::open(folder.path()).unwrap());
    assert_eq!(note(&daemon, &report(1, 9), &settings, now()).len(), 1);
    assert_eq!(note(&by_hand, &report(1, 9), &settings, now() + seconds(5)).len(), 0);
}

#[tokio::test]
async fn the_queue_is_bounded_and_the_mildest_goes_first() {
    let folder = state_dir();
    let outbox = Outbox::open(folder.path()).unwrap();
    let channels = [webhook("one", "http://127.0.0.1:1/", WebhookFormat::Json)];
    let event = |number: usize, kind: EventKind| Event {
        key: format!("k{number}"),
        event: kind,
        severity: kind.severity(),
        ..expiring()
    };
    let mut events: Vec<Event> = (0..QUEUE).map(|number| event(number, EventKind::Expired)).collect();
    events[500] = event(500, EventKind::Renewed);
    events[600] = event(600, EventKind::Renewed);
    events[700] = event(700, EventKind::Expiring);
    assert_eq!(outbox.put(&events, &channels).unwrap().outcomes.len(), QUEUE, "the journal's");
    assert_eq!(outbox.waiting().unwrap().len(), QUEUE);
    let dropped = |outbox: &Outbox, number: usize| -> Vec<String> {
        let noted = outbox.put(&[event(number, EventKind::Expired)], &channels).unwrap();
        let dropped = noted.outcomes.iter().filter(|outcome| outcome.result == Delivery::Dropped);
        dropped.map(|outcome| outcome.key.clone()).collect()
    };
    assert_eq!(dropped(&outbox, 2_000), ["k500"]);
    assert_eq!(dropped(&outbox, 2_001), ["k600"]);
    assert_eq!(dropped(&outbox, 2_002), ["k700"]);
    assert_eq!(dropped(&outbox, 2_003), ["k0"]);
    assert_eq!(outbox.waiting().unwrap().len(), QUEUE);
    assert!(outbox.history(usize::MAX).len() <= certsyncd::alert::HISTORY);
}

#[tokio::test]
async fn a_damaged_entry_costs_itself_only() {
    let (folder, hook) = (state_dir(), Hook::start(|_| ok("")).await);
    let outbox = Outbox::open(folder.path()).unwrap();
    let channels = [hook.channel("one")];
    outbox.put(&[expiring(), expiring(), expiring()], &channels).unwrap();
    let entries = folder.path().join("outbox");
    std::fs::write(entries.join("000000000002.json"), b"\0\0\0").unwrap();
    std::fs::write(entries.join("history.json"), b"[{").unwrap();
    assert_eq!(deliver(&outbox, &channels, now()).await.len(), 2);
    assert!(entries.join("damaged-000000000002.json").exists());
    assert_eq!(outbox.history(10).len(), 2);
}

#[tokio::test]
async fn a_channel_that_left_the_configuration_is_given_up() {
    let (folder, hook) = (state_dir(), Hook::start(|_| ok("")).await);
    let outbox = Outbox::open(folder.path()).unwrap();
    outbox.put(&[expiring()], &[hook.channel("old")]).unwrap();
    let outcomes = deliver(&outbox, &[hook.channel("new")], now()).await;
    assert_eq!(results(&outcomes), [(EventKind::Expiring, "old", Delivery::GivenUp)]);
    assert!(outbox.waiting().unwrap().is_empty());
}

#[tokio::test]
async fn a_daemon_that_stops_leaves_the_rest_owed() {
    let (folder, hook) = (state_dir(), Hook::start(|_| ok("")).await);
    let outbox = Outbox::open(folder.path()).unwrap();
    let channels = [hook.channel("one")];
    outbox.put(&[expiring()], &channels).unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    assert!(outbox.deliver(&channels, &Clock::manual(now()), &stop).await.is_empty());
    assert_eq!(outbox.waiting().unwrap().len(), 1);
    assert_eq!(deliver(&outbox, &channels, now()).await.len(), 1);
}

#[tokio::test]
async fn what_the_disk_did_not_take_is_not_sent_again() {
    let (folder, broken) = (state_dir(), Arc::new(AtomicBool::new(true)));
    let (lock, aside) = (folder.path().join("outbox/lock"), folder.path().join("outbox/lock.aside"));
    let breaks = {
        let (lock, aside, broken) = (lock.clone(), aside.clone(), broken.clone());
        move |_: &Got| {
            if broken.load(Ordering::SeqCst) {
                std::fs::rename(&lock, &aside).unwrap();
                std::fs::create_dir(&lock).unwrap();
            }
            ok("")
        }
    };
    let hook = Hook::start(breaks).await;
    let outbox = Outbox::open(folder.path()).unwrap();
    let channels = [hook.channel("one")];
    outbox.put(&[expiring()], &channels).unwrap();
    assert_eq!(deliver(&outbox, &channels, now()).await.len(), 1);
    assert_eq!(outbox.next_due().unwrap(), None, "this process knows that it was sent");
    broken.store(false, Ordering::SeqCst);
    std::fs::remove_dir(&lock).unwrap();
    std::fs::rename(&aside, &lock).unwrap();
    assert!(deliver(&outbox, &channels, now() + seconds(60)).await.is_empty());
    assert_eq!(hook.got().len(), 1);
    assert!(!folder.path().join("outbox/000000000001.json").exists(), "and now the disk knows too");
}

#[tokio::test]
async fn due_wakes_for_what_is_filed_and_for_what_is_due() {
    let folder = state_dir();
    let outbox = Outbox::open(folder.path()).unwrap();
    let clock = Clock::manual(now());
    let channels = [webhook("one", "http://127.0.0.1:1/", WebhookFormat::Json)];
    let waiting = tokio::spawn({
        let (outbox, clock) = (outbox.clone(), clock.clone());
        async move { outbox.due(&clock).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    outbox.put(&[expiring()], &channels).unwrap();
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn files_are_for_us_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = state_dir();
    let outbox = Outbox::open(folder.path()).unwrap();
    outbox.put(&[expiring()], &[webhook("one", "http://127.0.0.1:1/", WebhookFormat::Json)]).unwrap();
    let mode = |path: std::path::PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.path().join("outbox")), 0o700);
    for file in std::fs::read_dir(folder.path().join("outbox")).unwrap() {
        assert_eq!(mode(file.unwrap().path()), 0o600);
    }
}

#[tokio::test]
async fn the_message_comes_in_the_channels_language_also_after_a_restart() {
    let (folder, hook) = (state_dir(), Hook::start(|_| ok("")).await);
    let mut chinese = hook.channel("zh");
    chinese.language = certsyncd::config::Language::Zh;
    let settings = settings(vec![chinese]);
    note(&Outbox::open(folder.path()).unwrap(), &report(1, 9), &settings, now());
    deliver(&Outbox::open(folder.path()).unwrap(), &settings.channels, now()).await;
    let body = hook.got()[0].json();
    assert!(body["message"].as_str().unwrap().contains("还剩 9 天"), "{body}");
    assert!(body.get("message_zh").is_none());
}

//! The schedule as the daemon sees it: ticks over a paused runtime and a clock that the test moves.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use certsyncd::clock::Clock;
use certsyncd::config::{Cron, Zone};
use certsyncd::schedule::{Error, Schedule, Tick, interval, next};
use croner::parser::{CronParser, Seconds};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use tokio::sync::mpsc::Receiver;

fn cron(expression: &str) -> Cron {
    let parser = CronParser::builder().seconds(Seconds::Required).dom_and_dow(true).build();
    Cron { expression: expression.to_owned(), pattern: parser.parse(expression).unwrap() }
}

fn zone(name: &str) -> Zone {
    Zone { name: name.to_owned(), zone: TimeZone::get(name).unwrap() }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Moves both clocks on, second by second, and collects the ticks that come.
async fn pass_time(clock: &Clock, ticks: &mut Receiver<Tick>, seconds: u32) -> Vec<Timestamp> {
    let mut seen = Vec::new();
    for _ in 0..seconds {
        clock.set(clock.now() + SignedDuration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
        while let Ok(tick) = ticks.try_recv() {
            seen.push(tick.scheduled);
        }
    }
    seen
}

async fn started(expression: &str, now: &str, splay: Duration) -> (Clock, Schedule, Receiver<Tick>) {
    let clock = Clock::manual(at(now));
    let (schedule, ticks) = Schedule::with_clock(&cron(expression), &zone("UTC"), splay, clock.clone()).await.unwrap();
    (clock, schedule, ticks)
}

#[tokio::test(start_paused = true)]
async fn each_moment_ticks_once_and_carries_its_time() {
    let (clock, schedule, mut ticks) = started("0 */10 * * * *", "2026-11-22T02:05:00Z", Duration::ZERO).await;
    assert_eq!(schedule.due(), Some(at("2026-11-22T02:10:00Z")));
    let seen = pass_time(&clock, &mut ticks, 26 * 60).await;
    assert_eq!(seen, [at("2026-11-22T02:10:00Z"), at("2026-11-22T02:20:00Z"), at("2026-11-22T02:30:00Z")]);
    assert!(schedule.is_alive());
}

#[tokio::test(start_paused = true)]
async fn ticks_of_a_long_pass_are_one_tick() {
    let (clock, _schedule, mut ticks) = started("*/5 * * * * *", "2026-11-22T02:00:01Z", Duration::ZERO).await;
    for _ in 0..300 {
        clock.set(clock.now() + SignedDuration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(ticks.try_recv().is_ok());
    assert!(ticks.try_recv().is_err(), "a minute of ticks piled up");
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_forward_gives_one_tick() {
    let (clock, _schedule, mut ticks) = started("0 */10 * * * *", "2026-11-22T02:05:00Z", Duration::ZERO).await;
    clock.set(at("2026-12-24T18:03:00Z"));
    let seen = pass_time(&clock, &mut ticks, 60).await;
    assert_eq!(seen.len(), 1, "{seen:?}");
    let seen = pass_time(&clock, &mut ticks, 7 * 60).await;
    assert_eq!(seen, [at("2026-12-24T18:10:00Z")]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_does_not_starve() {
    let (clock, _schedule, mut ticks) = started("0 */10 * * * *", "2026-11-22T02:05:00Z", Duration::ZERO).await;
    clock.set(at("2026-11-20T08:03:00Z"));
    let seen = pass_time(&clock, &mut ticks, 8 * 60).await;
    assert_eq!(seen, [at("2026-11-20T08:10:00Z")]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_corrected_does_not_tick_twice() {
    let (clock, _schedule, mut ticks) = started("0 */10 * * * *", "2026-11-22T02:09:50Z", Duration::ZERO).await;
    assert_eq!(pass_time(&clock, &mut ticks, 15).await.len(), 1);
    clock.set(clock.now() - SignedDuration::from_secs(20));
    assert_eq!(pass_time(&clock, &mut ticks, 60).await, []);
}

#[tokio::test(start_paused = true)]
async fn splay_is_random_and_ends_before_the_next_tick() {
    let (clock, _schedule, mut ticks) = started("*/30 * * * * *", "2026-11-22T02:00:01Z", Duration::from_secs(3600)).await;
    let mut waits = Vec::new();
    for _ in 0..40 * 30 {
        clock.set(clock.now() + SignedDuration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
        while let Ok(tick) = ticks.try_recv() {
            waits.push(clock.now().duration_since(tick.scheduled).as_secs());
        }
    }
    assert!(waits.len() >= 38, "{waits:?}");
    assert!(waits.iter().all(|wait| (0..=32).contains(wait)), "{waits:?}");
    assert!(waits.iter().min() != waits.iter().max(), "not random: {waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_changed_schedule_ticks_through_the_same_channel() {
    let (clock, schedule, mut ticks) = started("0 0 3 * * *", "2026-11-22T02:05:00Z", Duration::ZERO).await;
    schedule.change(&cron("0 * * * * *"), &zone("UTC"), Duration::ZERO).unwrap();
    assert_eq!(pass_time(&clock, &mut ticks, 61).await, [at("2026-11-22T02:06:00Z")]);
    let refused = schedule.change(&cron("0 0 0 30 2 *"), &zone("UTC"), Duration::ZERO);
    assert!(matches!(refused, Err(Error::Never { .. })));
    assert_eq!(schedule.due(), Some(at("2026-11-22T02:07:00Z")), "what is refused leaves the old one");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_schedule_is_silent() {
    let (clock, schedule, mut ticks) = started("* * * * * *", "2026-11-22T02:05:00Z", Duration::ZERO).await;
    assert!(!pass_time(&clock, &mut ticks, 5).await.is_empty());
    schedule.stop().await;
    while ticks.try_recv().is_ok() {}
    assert_eq!(pass_time(&clock, &mut ticks, 30).await, []);
}

#[tokio::test]
async fn the_30th_of_february_is_refused() {
    let never = Schedule::start(&cron("0 0 0 30 2 *"), &zone("UTC"), Duration::ZERO).await;
    let error = never.err().expect("refused");
    assert_eq!(error.to_string(), "schedule `0 0 0 30 2 *` never matches a date");
}

/// Issue 107 of tokio_cron_scheduler: there a job keeps the offset of the day it was made.
#[test]
fn a_time_of_day_stays_that_time_of_day_across_the_change() {
    let (daily, dublin) = (cron("0 5 2 * * *"), zone("Europe/Dublin"));
    assert_eq!(next(&daily, &dublin, at("2026-10-24T12:00:00Z")), Some(at("2026-10-25T02:05:00Z")));
    assert_eq!(next(&daily, &dublin, at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T01:05:00Z")));
}

#[test]
fn a_left_out_time_of_day_comes_right_after_the_gap() {
    let (daily, berlin) = (cron("0 30 2 * * *"), zone("Europe/Berlin"));
    assert_eq!(next(&daily, &berlin, at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
    assert_eq!(next(&daily, &berlin, at("2026-03-29T01:00:00Z")), Some(at("2026-03-30T00:30:00Z")));
}

#[test]
fn a_repeated_time_of_day_comes_once() {
    let (daily, berlin) = (cron("0 30 2 * * *"), zone("Europe/Berlin"));
    assert_eq!(next(&daily, &berlin, at("2026-10-24T12:00:00Z")), Some(at("2026-10-25T00:30:00Z")));
    assert_eq!(next(&daily, &berlin, at("2026-10-25T00:30:00Z")), Some(at("2026-10-26T01:30:00Z")));
    assert_eq!(next(&daily, &berlin, at("2026-10-25T00:59:00Z")), Some(at("2026-10-26T01:30:00Z")));
}

#[test]
fn every_ten_minutes_goes_on_through_a_repeated_hour() {
    let (often, berlin) = (cron("0 */10 * * * *"), zone("Europe/Berlin"));
    let mut tick = at("2026-10-24T23:55:00Z");
    for _ in 0..24 {
        let following = next(&often, &berlin, tick).unwrap();
        assert!(following.duration_since(tick) <= SignedDuration::from_mins(10), "{tick} -> {following}");
        tick = following;
    }
}

#[test]
fn the_interval_is_the_longest_gap() {
    let utc = zone("UTC");
    let from = at("2026-11-20T12:00:00Z");
    assert_eq!(interval(&cron("0 */10 * * * *"), &utc, from), Some(Duration::from_secs(600)));
    assert_eq!(interval(&cron("0 0 2 * * MON-FRI"), &utc, from), Some(Duration::from_secs(3 * 86_400)));
    assert_eq!(interval(&cron("0 0 0 30 2 *"), &utc, from), None);
}

/// What `next` should say, by looking at every second: a fixed time of day at its first showing, or at the end of the gap that left it out.
fn by_looking(cron: &Cron, zone: &Zone, after: Timestamp, horizon: i64) -> Option<Timestamp> {
    let fixed = cron.pattern.determine_job_type() == croner::JobType::FixedTime;
    let matches = |civil: jiff::civil::DateTime| {
        let date = chrono::NaiveDate::from_ymd_opt(civil.year().into(), civil.month() as u32, civil.day() as u32).unwrap();
        let time = date.and_hms_opt(civil.hour() as u32, civil.minute() as u32, civil.second() as u32).unwrap();
        cron.pattern.is_time_matching(&time.and_utc()).unwrap()
    };
    (1..=horizon).map(|step| after + SignedDuration::from_secs(step)).find(|moment| {
        let civil = zone.zone.to_datetime(*moment);
        let before = zone.zone.to_datetime(*moment - SignedDuration::from_secs(1));
        let skipped = civil.duration_since(before).as_secs() - 1;
        let left_out = fixed && (1..=skipped).any(|second| matches(before + SignedDuration::from_secs(second)));
        let first = zone.zone.to_ambiguous_timestamp(civil).earlier().unwrap() == *moment;
        left_out || (matches(civil) && (first || !fixed))
    })
}

fn expressions() -> impl Strategy<Value = String> {
    let field = |upper: u32| {
        prop_oneof![
            Just("*".to_owned()),
            (0..upper).prop_map(|value| value.to_string()),
            (1..upper).prop_map(|step| format!("*/{step}")),
            (0..upper, 0..upper).prop_map(|(a, b)| format!("{},{}", a.min(b), a.max(b))),
        ]
    };
    let fixed = (0_u32..60, 0_u32..60, 0_u32..4).prop_map(|(second, minute, hour)| format!("{second} {minute} {hour} * * *"));
    let any = (field(60), field(60), field(24)).prop_map(|(second, minute, hour)| format!("{second} {minute} {hour} * * *"));
    prop_oneof![fixed, any]
}

/// Zones with gaps and folds of an hour, half an hour, at midnight, of a whole day; with and without summer time.
const ZONES: [&str; 10] = [
    "Europe/Berlin",
    "Europe/Dublin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Shanghai",
    "America/St_Johns",
    "Pacific/Apia",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn next_is_what_looking_at_every_second_finds(
        expression in expressions(),
        name in prop::sample::select(&ZONES),
        change in 0_usize..24,
        around in -10_000_i64..10_000,
    ) {
        let (cron, zone) = (cron(&expression), zone(name));
        let start = at("2010-01-01T00:00:00Z");
        let edge = zone.zone.following(start).nth(change).map_or(start, |edge| edge.timestamp());
        let after = edge + SignedDuration::from_secs(around);
        let looked = by_looking(&cron, &zone, after, 20_000);
        let found = next(&cron, &zone, after).filter(|found| found.duration_since(after).as_secs() <= 20_000);
        prop_assert_eq!(found, looked, "{} in {} after {}", expression, name, after);
    }

    #[test]
    fn next_is_always_later(expression in expressions(), name in prop::sample::select(&ZONES), second in 0_i64..4_000_000_000) {
        let after = Timestamp::from_second(second).unwrap();
        let found = next(&cron(&expression), &zone(name), after);
        prop_assert!(found.is_some_and(|found| found > after));
    }
}

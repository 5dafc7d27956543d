//! `expiring` and `expired`: thresholds, flag, what is served.

use super::*;

#[test]
fn thresholds_are_told_once_each_as_they_are_crossed() {
    let mut world = World::new(&["api"]);
    world.ends(0, 31.0);
    for (day, expected) in [
        (0.0, NOTHING.as_slice()),
        (0.99, &[]),
        (1.0, &["expiring api"]),
        (1.1, &[]),
        (16.9, &[]),
        (17.0, &["expiring api"]),
        (24.0, &["expiring api"]),
        (28.0, &["expiring api"]),
        (29.9, &[]),
        (30.0, &["expiring api"]),
        (30.99, &[]),
        (31.0, &["expired api"]),
        (31.5, &[]),
        (32.0, &["expired api"]),
        (32.9, &[]),
        (33.0, &["expired api"]),
    ] {
        assert_eq!(world.at(day), expected, "day {day}");
    }
    assert_eq!(world.raised.len(), 1, "`expired` took the place of `expiring`");
}

#[test]
fn only_the_smallest_threshold_crossed_counts() {
    let mut world = World::new(&["api"]);
    world.ends(0, 5.0);
    let events = world.events(0.0);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].days_left, Some(5));
    assert_eq!(world.raised.values().next().unwrap().threshold, Some(7));
    assert_eq!(events[0].key, "expiring/api/010101010101");
    assert_eq!(events[0].severity, Severity::Warning);
}

#[test]
fn days_left_are_rounded_down_and_negative_once_past() {
    let mut world = World::new(&["api"]);
    world.ends(0, 9.9);
    assert_eq!(world.events(0.0)[0].days_left, Some(9));
    assert_eq!(world.events(10.0)[0].days_left, Some(-1));
}

/// A clock stands between two seconds, a certificate ends at a whole one: message, `days_left` and what `status` says must be one number.
#[test]
fn words_and_figures_count_the_same_days() {
    let end = start() + SignedDuration::from_secs(9 * DAY);
    for (late, days, english, chinese) in [
        (SignedDuration::ZERO, 9, "ends in 9 days", "还剩 9 天"),
        (SignedDuration::from_nanos(1), 8, "ends in 8 days", "还剩 8 天"),
        (SignedDuration::from_millis(999), 8, "ends in 8 days", "还剩 8 天"),
        (SignedDuration::from_secs(DAY), 8, "ends in 8 days", "还剩 8 天"),
        (SignedDuration::from_secs(DAY) + SignedDuration::from_nanos(1), 7, "ends in 7 days", "还剩 7 天"),
    ] {
        let mut world = World::new(&["api"]);
        let event = world.ends(0, 9.0).told_at(start() + late).remove(0);
        assert_eq!(event.days_left, Some(days), "{late}");
        assert_eq!(crate::report::days_left(start() + late, end), days, "{late}");
        assert!(
            event.message.contains(english) && event.message_zh.as_ref().unwrap().contains(chinese),
            "{late}: {}",
            event.message
        );
    }
    // past by a part of a second is past
    assert_eq!(crate::report::days_left(end + SignedDuration::from_nanos(1), end), -1);
}

#[test]
fn a_replacement_starts_afresh_and_ends_what_was_told() {
    let mut world = World::new(&["api"]);
    world.ends(0, 10.0).at(0.0);
    world.leaf(0, 2).ends(0, 300.0).certificate(0).action = Action::Installed;
    assert_eq!(world.at(0.1), ["resolved expiring api", "renewed api"]);
    world.certificate(0).action = Action::Unchanged;
    assert_eq!(world.at(0.2), NOTHING);
    assert_eq!(world.ends(0, 10.0).at(0.3), ["expiring api"]);
}

#[test]
fn a_replacement_that_ends_soon_itself_is_told_and_nothing_is_over() {
    let mut world = World::new(&["api"]);
    world.ends(0, 10.0).at(0.0);
    assert_eq!(world.leaf(0, 2).ends(0, 12.0).at(0.1), ["expiring api"]);
    assert_eq!(world.raised.keys().collect::<Vec<_>>(), ["expiring/api/020202020202"]);
    // one that was expired is over, even if the new one ends soon
    let mut world = World::new(&["api"]);
    world.ends(0, -1.0).at(0.0);
    assert_eq!(world.leaf(0, 2).ends(0, 12.0).at(0.1), ["resolved expired api", "expiring api"]);
    // and an expired one in place of one that ends soon is no end of anything
    let mut world = World::new(&["api"]);
    world.ends(0, 5.0).at(0.0);
    assert_eq!(world.leaf(0, 2).ends(0, -1.0).at(0.1), ["expired api"]);
    assert_eq!(world.raised.len(), 1);
}

#[test]
fn the_providers_flag_counts_as_thirty_days() {
    let mut world = World::new(&["api"]);
    world.certificate(0).valid = Some(Valid::Expiring);
    assert_eq!(world.at(0.0), ["expiring api"]);
    assert_eq!(world.raised.values().next().unwrap().threshold, Some(30));
    assert_eq!(world.at(5.0), NOTHING);
    // the flag is there without any threshold, and no repetition when the dates say the same later
    assert_eq!(world.ends(0, 30.0).at(6.0), NOTHING);
    assert_eq!(world.at(17.0), ["expiring api"]);
}

#[test]
fn the_flag_is_remembered_while_the_provider_is_away() {
    let mut world = World::new(&["api"]);
    world.certificate(0).valid = Some(Valid::Expired);
    assert_eq!(world.at(0.0), ["expired api"]);
    world.certificate(0).valid = None;
    world.records.get_mut("api").unwrap().valid = Some(Valid::Expired);
    assert_eq!(world.fails(0, "timed out").at(0.5), NOTHING);
    assert_eq!(world.at(1.0), ["expired api"]);
    world.goes_well(0).certificate(0).valid = Some(Valid::Valid);
    assert_eq!(world.at(1.1), ["resolved expired api"]);
}

#[test]
fn an_unknown_flag_says_nothing() {
    let mut world = World::new(&["api"]);
    world.certificate(0).valid = None;
    world.certificate(0).notes = vec!["`Valid` is 7".into()];
    assert_eq!(world.at(0.0), NOTHING);
}

#[test]
fn thresholds_beyond_a_third_of_the_lifetime_are_skipped() {
    for (lifetime, thresholds) in
        [(47, vec![14, 7, 3, 1]), (90, vec![30, 14, 7, 3, 1]), (89, vec![14, 7, 3, 1]), (6, vec![1]), (2, vec![])]
    {
        let mut world = World::new(&["api"]);
        let live = live(world.certificate(0));
        // a second short, as authorities write them
        (live.not_before, live.not_after) = (start(), start() + SignedDuration::from_secs(lifetime * DAY - 1));
        let mut told = Vec::new();
        for hour in 0..lifetime * 24 {
            if !world.at(hour as f64 / 24.0).is_empty() {
                told.push(world.raised.values().next().unwrap().threshold.unwrap());
            }
        }
        assert_eq!(told, thresholds, "{lifetime} days");
    }
}

#[test]
fn a_short_lived_certificate_with_the_flag_is_told() {
    let mut world = World::new(&["api"]);
    let live = live(world.certificate(0));
    (live.not_before, live.not_after) = (start(), start() + SignedDuration::from_secs(47 * DAY));
    world.certificate(0).valid = Some(Valid::Expiring);
    assert_eq!(world.at(17.0), ["expiring api"]);
}

#[test]
fn what_is_served_counts() {
    let mut world = World::new(&["api"]);
    world.leaf(0, 2).certificate(0).served = vec![shows(2, 200), shows(1, 2)];
    let events = world.events(0.0);
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), ["expiring api"]);
    assert_eq!((events[0].fingerprint, events[0].days_left), (Some(print(1)), Some(2)));
    assert!(events[0].message.contains("127.0.0.1:443"), "{}", events[0].message);
    assert_eq!(world.at(2.0), ["expired api"]);
    // one look that fails proves nothing where the old one was seen last
    world.records.get_mut("api").unwrap().targets.insert("nginx", Delivery { verified: Some(print(1)), ..Delivery::default() });
    world.certificate(0).served = vec![shows_nothing()];
    assert_eq!(world.at(2.1), NOTHING);
    world.certificate(0).served = vec![shows(2, 200)];
    world.records.get_mut("api").unwrap().targets.of("nginx").verified = Some(print(2));
    assert_eq!(world.at(2.2), ["resolved expired api"]);
}

#[test]
fn a_later_one_that_is_served_or_a_stranger_is_nothing() {
    let mut world = World::new(&["api"]);
    world.certificate(0).served = vec![shows(9, 900)];
    assert_eq!(world.at(0.0), NOTHING);
    // a pair that never matched shows the server's default certificate
    world.certificate(0).served = vec![shows(9, 1)];
    let never = Delivery { never_matched: vec!["127.0.0.1:443 api.example.com".into()], ..Delivery::default() };
    world.records.get_mut("api").unwrap().targets.insert("nginx", never);
    assert_eq!(world.at(0.1), NOTHING);
}

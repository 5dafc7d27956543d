//! `sync_failed` and `provider_down`: when, and how many become one.

use super::*;

#[test]
fn a_failure_is_told_after_two_passes_and_repeated() {
    let mut world = World::new(&["api"]);
    assert_eq!(world.fails(0, "timed out").at(0.0), NOTHING);
    assert_eq!(world.fails(0, "timed out").at(0.01), ["sync_failed api"]);
    assert_eq!(world.fails(0, "timed out").at(0.5), NOTHING);
    assert_eq!(world.fails(0, "timed out").at(1.01), ["sync_failed api"]);
    assert_eq!(world.goes_well(0).at(1.02), ["resolved sync_failed api"]);
    assert_eq!(world.at(1.03), NOTHING);
    assert_eq!(world.fails(0, "timed out").at(1.04), NOTHING);
}

#[test]
fn a_failure_in_the_last_three_days_is_told_at_once() {
    let mut world = World::new(&["api"]);
    assert_eq!(world.ends(0, 3.01).fails(0, "x").at(0.0), ["expiring api"]);
    let mut world = World::new(&["api"]);
    assert_eq!(world.ends(0, 3.0).fails(0, "x").at(0.0), ["expiring api", "sync_failed api"]);
}

#[test]
fn a_first_install_that_fails_waits_for_the_second_pass_too() {
    let mut world = World::new(&["api"]);
    world.certificate(0).live = None;
    assert_eq!(world.fails(0, "x").at(0.0), NOTHING);
    let events = {
        world.fails(0, "x");
        world.events(0.01)
    };
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), ["sync_failed api"]);
    assert_eq!((events[0].not_after, events[0].days_left, events[0].fingerprint), (None, None, None));
}

#[test]
fn held_is_a_pass_that_went_well() {
    let mut world = World::new(&["api"]);
    world.fails(0, "x").at(0.0);
    world.fails(0, "x").at(0.01);
    world.goes_well(0).certificate(0).action = Action::Held;
    assert_eq!(world.at(0.02), ["resolved sync_failed api"]);
}

#[test]
fn many_with_one_cause_are_one_message() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    for index in 0..3 {
        world.fails(index, "connection refused");
    }
    assert_eq!(world.at(0.0), NOTHING);
    for index in 0..3 {
        world.fails(index, "connection refused");
    }
    let events = world.events(0.01);
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), ["provider_down scm"]);
    assert_eq!((events[0].count, events[0].certificates.as_slice()), (3, ["a", "b", "c"].map(String::from).as_slice()));
    assert_eq!(events[0].key, "provider_down/scm");
    assert_eq!(world.at(0.5), NOTHING);
    assert_eq!(world.at(1.01), ["provider_down scm"]);
    for index in 0..3 {
        world.goes_well(index);
    }
    assert_eq!(world.at(1.02), ["resolved provider_down scm"]);
}

#[test]
fn two_are_two_messages_and_other_causes_are_their_own() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    for _ in 0..2 {
        for (index, words) in
            ["server said 400: `SCM.0010` no", "server said 400: `SCM.0010` no", "server said 401: `SCM.4002` no"]
                .into_iter()
                .enumerate()
        {
            world.fails(index, words);
        }
    }
    assert_eq!(world.at(0.0), ["sync_failed a", "sync_failed b", "sync_failed c"]);
    let mut world = World::new(&["a", "b", "c", "d"]);
    for _ in 0..2 {
        for (index, words) in
            ["`SCM.0010` of `a`", "`SCM.0010` of `b`", "`SCM.4002` no", "`SCM.0010` of `d`"].into_iter().enumerate()
        {
            world.fails(index, words);
        }
    }
    assert_eq!(world.at(0.0), ["provider_down scm", "sync_failed c"]);
}

#[test]
fn refusals_with_reasons_of_their_own_are_told_each() {
    let refused = |world: &mut World, words: &[&str]| {
        for _ in 0..2 {
            for (index, words) in words.iter().enumerate() {
                world.fails(index, words).certificate(index).error.as_mut().unwrap().transient = false;
            }
        }
    };
    let mut world = World::new(&["a", "b", "c"]);
    refused(&mut world, &["does not cover `a.org`", "does not cover `b.org`", "does not cover `c.org`"]);
    let events = world.events(0.0);
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), ["sync_failed a", "sync_failed b", "sync_failed c"]);
    assert!(events[2].message.contains("`c.org`"), "{}", events[2].message);
    // the same words are one cause, and so is what a network says, whatever its figures
    let mut world = World::new(&["a", "b", "c"]);
    refused(&mut world, &["no space left on device"; 3]);
    assert_eq!(world.at(0.0), ["provider_down scm"]);
    let mut world = World::new(&["a", "b", "c"]);
    for _ in 0..2 {
        world.fails(0, "timed out after 10.1 s").fails(1, "timed out after 10.2 s").fails(2, "timed out after 9.9 s");
    }
    assert_eq!(world.at(0.0), ["provider_down scm"]);
}

#[test]
fn one_message_quotes_what_all_of_them_tell() {
    let mut world = World::new(&["a", "b", "c"]);
    for _ in 0..2 {
        for index in 0..3 {
            let error = world.fails(index, "Connection refused").certificate(index).error.as_mut().unwrap();
            error.causes =
                vec![format!("failed after {index} s"), "no connection to `scm.example.com`".into(), error.causes[1].clone()];
        }
    }
    let told = world.events(0.0).remove(0).message;
    assert!(told.contains("for one cause: no connection to `scm.example.com`: Connection refused. Concerned"), "{told}");
    // nothing in common but the kind: the first one's root
    for index in 0..3 {
        world.fails(index, &format!("timed out after {index} s"));
    }
    let told = world.events(1.0).remove(0).message;
    assert!(told.contains("for one cause: timed out after 0 s. Concerned"), "{told}");
}

#[test]
fn what_is_left_when_the_provider_is_back_is_told_alone() {
    let mut world = World::new(&["a", "b", "c"]);
    for _ in 0..2 {
        for index in 0..3 {
            world.fails(index, "timed out");
        }
    }
    assert_eq!(world.at(0.0), ["provider_down scm"]);
    world.goes_well(0).goes_well(1).fails(2, "timed out");
    assert_eq!(world.at(0.01), ["resolved provider_down scm", "sync_failed c"]);
}

#[test]
fn a_pass_over_named_entries_ends_nothing_else() {
    let mut world = World::new(&["a", "b", "c"]);
    for _ in 0..2 {
        for index in 0..3 {
            world.fails(index, "timed out");
        }
    }
    world.ends(1, 5.0);
    assert_eq!(world.at(0.0), ["provider_down scm", "expiring b"]);
    let whole = world.report.certificates.clone();
    world.report.whole = false;
    world.report.certificates.truncate(1);
    assert_eq!(world.at(0.01), NOTHING, "still failing: told with the others");
    assert_eq!(world.goes_well(0).at(0.02), NOTHING);
    assert_eq!(world.raised.len(), 2);
    world.report.whole = true;
    world.report.certificates = whole;
    for index in 0..3 {
        world.goes_well(index);
    }
    assert_eq!(world.at(0.03), ["resolved provider_down scm"]);
}

#[test]
fn an_incident_of_the_pass_names_the_cause() {
    let mut world = World::new(&["a", "b"]);
    world.report.incidents = vec![Incident {
        event: EventKind::ProviderDown,
        provider: Some("scm".into()),
        certificates: vec!["a".into(), "b".into()],
        message: "the access key was rejected".into(),
    }];
    for _ in 0..2 {
        world.fails(0, "x").fails(1, "y");
    }
    let events = world.events(0.0);
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), ["provider_down scm"]);
    assert!(events[0].message.contains("the access key was rejected"), "{}", events[0].message);
}

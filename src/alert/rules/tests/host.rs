//! The host: a clock in doubt or that jumped, the configuration, the ledger.

use super::*;

#[test]
fn the_clock_in_doubt_decides_nothing_by_time() {
    let mut world = World::new(&["api"]);
    world.ends(0, 5.0);
    assert_eq!(world.skew(Some("scm")).at(0.0), ["clock_skew scm"]);
    assert_eq!(world.at(400.0), ["clock_skew scm"], "no `expired` by a clock that is a year ahead");
    world.report.incidents.clear();
    assert_eq!(world.at(0.1), ["resolved clock_skew scm", "expiring api"]);
}

#[test]
fn a_provider_that_was_not_heard_does_not_end_the_doubt() {
    let mut world = World::new(&["api"]);
    world.skew(Some("scm")).at(0.0);
    world.report.incidents.clear();
    assert_eq!(world.fails(0, "timed out").at(0.1), NOTHING);
    assert_eq!(world.goes_well(0).at(0.2), ["resolved clock_skew scm"]);
}

#[test]
fn skew_at_one_provider_leaves_the_other_alone() {
    let mut world = World::new(&["api", "www"]);
    world.certificate(1).provider = "cds".into();
    world.ends(0, 5.0).ends(1, 5.0).skew(Some("scm"));
    assert_eq!(world.at(0.0), ["clock_skew scm", "expiring www"]);
}

#[test]
fn a_clock_that_ran_ahead_unheard_loses_nothing_once_it_is_right() {
    // the provider is away, so nobody says that the clock is wrong
    let mut world = World::new(&["api"]);
    world.ends(0, 100.0).fails(0, "x").fails(0, "x");
    assert_eq!(world.at(99.5), ["expiring api", "sync_failed api"]);
    // right again, and the provider answers: what was told is not so
    assert_eq!(world.goes_well(0).at(1.0), ["resolved expiring api", "resolved sync_failed api"]);
    assert_eq!(world.at(70.0), ["expiring api"]);
    // expired by a wrong clock, likewise
    let mut world = World::new(&["api"]);
    world.ends(0, 100.0).fails(0, "x");
    assert_eq!(world.at(101.0), ["expired api", "sync_failed api"]);
    assert_eq!(world.fails(0, "x").at(1.0), NOTHING, "unproved, nothing is taken back");
    assert_eq!(world.goes_well(0).at(1.1), ["resolved expired api", "resolved sync_failed api"]);
    assert_eq!(world.at(100.0), ["expired api"]);
}

#[test]
fn a_clock_that_fell_back_repeats_nothing() {
    let mut world = World::new(&["api"]);
    world.ends(0, 5.0).fails(0, "x").fails(0, "x");
    assert_eq!(world.at(2.0), ["expiring api", "sync_failed api"]);
    for day in [-300.0, -299.0, 2.1, 2.5] {
        assert_eq!(world.at(day), NOTHING, "day {day}");
    }
    assert_eq!(world.at(3.0), ["sync_failed api"]);
    assert_eq!(world.at(4.0), ["expiring api", "sync_failed api"]);
}

#[test]
fn reminders_go_on_after_a_clock_that_ran_ahead() {
    let mut world = World::new(&["api", "www"]);
    world.target(TargetAction::Failed, Some("x"));
    assert_eq!(world.at(190.0), ["expiring api", "expiring www", "deploy_failed nginx"].map(String::from).as_slice());
    assert_eq!(world.at(0.0), ["resolved expiring api", "resolved expiring www"]);
    assert_eq!(world.at(0.9), NOTHING);
    assert_eq!(world.at(1.0), ["deploy_failed nginx"]);
}

#[test]
fn a_refused_configuration_is_told_until_it_is_accepted() {
    let mut world = World::new(&["api"]);
    let refused =
        |words: &str| Incident { event: EventKind::ConfigRefused, provider: None, certificates: vec![], message: words.into() };
    world.report.incidents = vec![refused("`certificate[0].nam` is not known")];
    assert_eq!(world.at(0.0), ["config_refused -"]);
    assert_eq!(world.at(0.1), NOTHING);
    assert_eq!(world.at(1.0), ["config_refused -"]);
    world.report.incidents = vec![refused("`version` is missing")];
    assert_eq!(world.at(1.1), ["config_refused -"]);
    world.report.incidents.clear();
    assert_eq!(world.at(1.2), ["resolved config_refused -"]);
}

#[test]
fn a_rebuilt_ledger_is_told_and_never_over() {
    let mut world = World::new(&["api"]);
    world.report.incidents = vec![Incident {
        event: EventKind::LedgerRebuilt,
        provider: None,
        certificates: vec![],
        message: "it was cut off".into(),
    }];
    assert_eq!(world.at(0.0), ["ledger_rebuilt -"]);
    world.report.incidents.clear();
    assert_eq!(world.at(0.1), NOTHING);
}

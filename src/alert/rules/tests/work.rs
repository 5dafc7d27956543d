//! What a pass did: `deploy_failed`, `renewed`, `successor_available`, `drift`.

use super::*;

#[test]
fn a_failed_deploy_is_told_at_once_repeated_and_ended() {
    let mut world = World::new(&["api"]);
    assert_eq!(world.target(TargetAction::RolledBack, Some("nginx: key mismatch")).at(0.0), ["deploy_failed nginx"]);
    assert_eq!(world.target(TargetAction::Failed, Some("nginx: key mismatch")).at(0.5), NOTHING);
    assert_eq!(world.target(TargetAction::Pending, None).at(0.6), NOTHING);
    assert_eq!(world.target(TargetAction::Failed, Some("nginx: key mismatch")).at(1.0), ["deploy_failed nginx"]);
    assert_eq!(world.target(TargetAction::Reloaded, None).at(1.1), ["resolved deploy_failed nginx"]);
    assert_eq!(world.target(TargetAction::Pending, None).at(1.2), NOTHING, "pending is no failure");
}

#[test]
fn what_a_server_rejected_is_not_over_because_nothing_was_tried() {
    let mut world = World::new(&["api"]);
    let record = world.records.get_mut("api").unwrap();
    record.fetched = Some(print(7));
    record.targets.insert("nginx", Default::default());
    record.open.rejected =
        vec![Rejection { fingerprint: print(7), id: None, why: "key mismatch".into(), tries: 1, next_try: None }];
    assert_eq!(world.target(TargetAction::RolledBack, Some("key mismatch")).at(0.0), ["deploy_failed nginx"]);
    assert_eq!(world.target(TargetAction::Unchanged, None).at(0.1), NOTHING);
    let events = world.events(1.0);
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), ["deploy_failed nginx"]);
    assert!(events[0].message.contains("key mismatch"), "{}", events[0].message);
    // another certificate came and is live
    let record = world.records.get_mut("api").unwrap();
    record.fetched = Some(print(8));
    assert_eq!(world.target(TargetAction::Reloaded, None).at(1.1), ["resolved deploy_failed nginx"]);
}

#[test]
fn another_certificate_rejected_by_the_same_target_is_news() {
    let mut world = World::new(&["api", "www"]);
    assert_eq!(world.target(TargetAction::RolledBack, Some("api is bad")).at(0.0), ["deploy_failed nginx"]);
    let record = world.records.get_mut("www").unwrap();
    record.fetched = Some(print(7));
    record.open.rejected = vec![Rejection { fingerprint: print(7), id: None, why: "bad".into(), tries: 1, next_try: None }];
    world.target(TargetAction::RolledBack, Some("www is bad")).report.targets[0].certificates = vec!["www".into()];
    assert_eq!(world.at(0.1), ["deploy_failed nginx"]);
    world.records.get_mut("www").unwrap().open.rejected[0].tries = 2;
    assert_eq!(world.at(0.2), NOTHING);
}

#[test]
fn a_rollback_by_hand_is_no_failure() {
    let mut world = World::new(&["api"]);
    let record = world.records.get_mut("api").unwrap();
    record.fetched = Some(print(7));
    record.targets.insert("nginx", Default::default());
    record.open.rejected =
        vec![Rejection { fingerprint: print(7), id: None, why: "rolled back by hand".into(), tries: 0, next_try: None }];
    world.target(TargetAction::Failed, Some("x")).at(0.0);
    assert_eq!(world.target(TargetAction::Unchanged, None).at(0.1), ["resolved deploy_failed nginx"]);
}

#[test]
fn renewed_is_told_when_it_is_not_the_first() {
    let mut world = World::new(&["api"]);
    let certificate = world.certificate(0);
    (certificate.action, certificate.first) = (Action::Installed, true);
    assert_eq!(world.at(0.0), NOTHING);
    let certificate = world.leaf(0, 2).certificate(0);
    (certificate.first, certificate.previous_id, certificate.id) = (false, Some("scs1".into()), Some("scs2".into()));
    let events = world.events(0.1);
    assert_eq!(events.iter().map(line).collect::<Vec<_>>(), ["renewed api"]);
    assert!(events[0].message.contains("`scs1`") && events[0].message.contains("`scs2`"), "{}", events[0].message);
    assert_eq!(events[0].severity, Severity::Info);
    world.certificate(0).action = Action::Unchanged;
    assert_eq!(world.at(0.2), NOTHING);
    world.at(2.0);
    assert!(world.raised.is_empty(), "the memory of it goes after a day");
}

#[test]
fn a_successor_is_told_once_per_id() {
    let mut world = World::new(&["api"]);
    let note = |id: &str| Some(SuccessorNote { id: id.into(), not_after: None });
    world.certificate(0).successor = note("scs2");
    assert_eq!(world.at(0.0), ["successor_available api"]);
    assert_eq!(world.at(5.0), NOTHING);
    world.certificate(0).successor = None;
    assert_eq!(world.at(5.1), NOTHING, "a listing may miss it once");
    world.certificate(0).successor = note("scs2");
    assert_eq!(world.at(5.2), NOTHING);
    world.certificate(0).successor = note("scs3");
    assert_eq!(world.at(6.0), ["successor_available api"]);
    world.leaf(0, 3).certificate(0).successor = None;
    assert_eq!(world.at(7.0), ["resolved successor_available api"]);
}

#[test]
fn drift_is_told_when_it_happens_and_a_fight_once_a_day() {
    let mut world = World::new(&["api"]);
    world.certificate(0).drift = vec!["mode of `privkey.pem` was 0644".into()];
    assert_eq!(world.at(0.0), ["drift api"]);
    assert_eq!(world.at(0.1), NOTHING);
    world.certificate(0).drift = vec!["`cert.pem` was edited".into()];
    assert_eq!(world.at(0.2), ["drift api"], "something else is news");
    world.certificate(0).drift = vec!["mode of `privkey.pem` was 0644".into()];
    assert_eq!(world.at(1.0), ["drift api"]);
    world.certificate(0).drift = vec![];
    assert_eq!(world.at(3.0), NOTHING);
    assert!(world.raised.is_empty());
}

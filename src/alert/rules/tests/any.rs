//! Any passes in any order.

use proptest::prelude::*;

use super::*;

/// Certificates (action, days to the end, leaf, flag, extras), target, incident, whole, day.
type Pass = (Vec<(u8, i64, u8, u8, u8)>, u8, u8, bool, i64);

/// Any pass at all.
fn any_pass() -> impl Strategy<Value = Pass> {
    let certificate = (0_u8..4, -40_i64..400, 1_u8..4, 0_u8..5, 0_u8..8);
    (proptest::collection::vec(certificate, 0..6), 0_u8..7, 0_u8..6, any::<bool>(), -500_i64..500)
}

fn apply(world: &mut World, (certificates, target, incident, whole, day): Pass) -> f64 {
    let names = ["a", "b", "c", "d", "e", "f"];
    world.report.whole = whole;
    world.report.incidents.clear();
    world.report.targets.clear();
    world.report.certificates = Vec::new();
    for (index, (action, ends, leaf, valid, extras)) in certificates.into_iter().enumerate() {
        let mut one = certificate(names[index], leaf, start());
        world.records.entry(names[index].to_owned()).or_default().open.failures += 1;
        one.action = [Action::Installed, Action::Unchanged, Action::Failed, Action::Held][usize::from(action)];
        one.valid = [None, None, Some(Valid::Expired), Some(Valid::Valid), Some(Valid::Expiring)][usize::from(valid)];
        live(&mut one).not_after = start() + SignedDuration::from_secs(ends * DAY);
        one.live = one.live.filter(|_| extras != 7);
        one.drift = if extras == 1 { vec!["x".into()] } else { vec![] };
        one.successor = (extras == 2).then(|| SuccessorNote { id: format!("s{leaf}"), not_after: None });
        one.served = if extras == 3 { vec![shows(9, ends - 30), shows_nothing()] } else { vec![] };
        world.report.certificates.push(one);
    }
    let actions = [
        TargetAction::Reloaded,
        TargetAction::Updated,
        TargetAction::Unchanged,
        TargetAction::Pending,
        TargetAction::Failed,
        TargetAction::RolledBack,
    ];
    if let Some(action) = actions.get(usize::from(target)) {
        world.target(*action, Some("x"));
    }
    let kinds = [EventKind::ProviderDown, EventKind::ConfigRefused, EventKind::LedgerRebuilt, EventKind::ClockSkew];
    if let Some(kind) = kinds.get(usize::from(incident)) {
        world.report.incidents.push(Incident {
            event: *kind,
            provider: Some("scm".into()),
            certificates: vec![],
            message: "m".into(),
        });
    }
    day as f64
}

proptest! {
    /// Whatever happens in whatever order: a pass judged twice tells nothing twice (see [`World::events`]), no event is told twice in one
    /// pass, and nothing is resolved that was not raised.
    #[test]
    fn never_one_too_many(passes in proptest::collection::vec(any_pass(), 1..8)) {
        let mut world = World::new(&["a", "b", "c", "d", "e", "f"]);
        for pass in passes {
            let day = apply(&mut world, pass);
            let before = world.raised.clone();
            let events = world.events(day);
            let mut keys: Vec<_> = events.iter().map(|event| (event.event, event.key.clone())).collect();
            keys.sort();
            let told = keys.len();
            keys.dedup();
            prop_assert_eq!(told, keys.len(), "one thing twice in one pass");
            for event in &events {
                match event.event {
                    EventKind::Resolved => prop_assert!(before.contains_key(&event.key) && !world.raised.contains_key(&event.key)),
                    _ => prop_assert!(world.raised.contains_key(&event.key)),
                }
                prop_assert!(event.message.chars().count() <= message::MESSAGE_LIMIT + 100);
                prop_assert!(!event.message.contains('\n'));
            }
        }
    }
}

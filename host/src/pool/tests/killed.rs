//! Whoever runs a procedure dies after any of its writes, and the next one brings it to the same end.

use super::*;

/// The procedure with a host that dies after so many writes; `false`: it was over before.
fn with_a_death_after(writes: usize, victim: &'static str, prepare: impl Fn(&mut World), ask: Ask) -> bool {
    let terms = Terms { ranges_follow: true, ..Terms::default() };
    let mut world = World::with(terms);
    world.range("east-groups", "*101", "group-pickup", "east");
    prepare(&mut world);
    world.ask(victim, "east", ask).unwrap();
    for _ in 0..writes {
        if !world.step() {
            return false;
        }
    }
    world.kill(victim);
    world.settle();
    let (phase, range, pool) = match ask {
        Ask::Failover => (Phase::FailedOver, "west", 'w'),
        Ask::Failback { .. } => (Phase::Active, "east", 'e'),
    };
    let told = format!("{victim} died after {writes} writes: {:?}", world.record("east"));
    assert_eq!(world.phase("east"), phase, "{told}");
    assert!(world.holder("east").starts_with(pool), "{told}");
    assert_eq!(world.pool_of_range("east-groups"), range, "{told}");
    assert!(world.record("east").journal.unwrap().ended.is_some(), "{told}");
    true
}

#[test]
fn a_failover_of_a_lost_pool_survives_its_runner_at_every_step() {
    let lost = |world: &mut World| {
        world.kill_all(&["e1", "e2"]);
        world.after(301);
    };
    let steps = (0..30).take_while(|writes| with_a_death_after(*writes, "w1", lost, Ask::Failover)).count();
    assert!(steps >= 4, "{steps}");
}

#[test]
fn a_planned_failover_survives_any_host_at_every_step() {
    for victim in ["e1", "w1"] {
        let steps =
            (0..30).take_while(|writes| with_a_death_after(*writes, victim, |_| {}, Ask::Failover)).count();
        assert!(steps >= 5, "{victim}: {steps}");
    }
}

#[test]
fn a_failback_survives_any_host_at_every_step() {
    let away = |world: &mut World| {
        world.ask("w1", "east", Ask::Failover).unwrap();
        world.settle();
    };
    for victim in ["e1", "w1"] {
        let ask = Ask::Failback { disaster: false };
        let steps = (0..30).take_while(|writes| with_a_death_after(*writes, victim, away, ask)).count();
        assert!(steps >= 4, "{victim}: {steps}");
    }
}

/// The hosts of a pool die in the middle of its planned failover: nobody waits for them.
#[test]
fn a_pool_that_dies_while_it_is_being_moved_is_moved_all_the_same() {
    let mut world = World::new();
    world.park("7001", "east");
    world.ask("w1", "east", Ask::Failover).unwrap();
    world.after(10);
    world.kill_all(&["e1", "e2"]);
    world.settle();
    assert_eq!(world.holder("east"), "w1");
    world.after(290);
    let now = world.now;
    assert_eq!(world.look("w1").pools.parked_fate(now, "east"), ParkedFate::End);
    world.unpark("7001");
    world.settle();
    assert_eq!(world.phase("east"), Phase::FailedOver);
}

/// A pool that wakes up in the middle of its failover changes nothing.
#[test]
fn a_pool_that_comes_back_during_its_failover_stays_away() {
    let mut world = World::new();
    world.park("7001", "east");
    world.kill_all(&["e1", "e2"]);
    world.after(301);
    world.ask("w1", "east", Ask::Failover).unwrap();
    world.settle();
    world.start("e1");
    world.settle();
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::FailingOver, "w1".into()));
    world.unpark("7001");
    world.settle();
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::FailedOver, "w1".into()));
}

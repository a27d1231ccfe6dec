//! Hosts that live in the store and cannot be reached from another.

use super::*;

const FAILBACK: Ask = Ask::Failback { disaster: false };

fn heirs(world: &mut World, host: &str) -> String {
    let host = world.look(host);
    let heirs = host.pools.heirs(&host.seats, "east");
    heirs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn users_are_passed_to_a_host_that_can_be_reached_while_there_is_one() {
    let mut world = World::new();
    world.start("e3");
    world.cut("e1", "e2");
    world.put(drain_key("e1"), json!({}));
    world.settle();
    assert_eq!(world.holder("east"), "e3");
    // Whoever has asked for it has been told, and bad service is what a drained host gives, too.
    let mut world = World::new();
    world.cut("e1", "e2");
    world.put(drain_key("e1"), json!({}));
    world.settle();
    assert_eq!(world.holder("east"), "e2");
}

#[test]
fn a_host_that_reaches_nobody_lets_another_take_a_vacant_seat_first_and_then_takes_it() {
    let mut world = World::new();
    world.start("e3");
    world.kill("e1");
    assert_eq!([heirs(&mut world, "e2"), heirs(&mut world, "e3")], ["e2 e3", "e2 e3"]);
    for other in ["e3", "w1", "w2"] {
        world.cut("e2", other);
    }
    assert_eq!([heirs(&mut world, "e2"), heirs(&mut world, "e3")], ["e3 e2", "e3 e2"]);
    world.kill("e3");
    assert_eq!(heirs(&mut world, "e2"), "e2", "nobody else is there to serve them");
    world.settle();
    assert_eq!(world.holder("east"), "e2");
    // It goes on with what it has: to others it may be that all of them are cut off.
    world.start("e3");
    world.cut("e2", "e3");
    world.settle();
    assert_eq!(world.holder("east"), "e2");
}

#[test]
fn users_do_not_go_home_to_hosts_that_whoever_has_them_cannot_reach_unless_somebody_insists() {
    for disaster in [false, true] {
        let mut world = World::new();
        world.ask("w1", "east", Ask::Failover).unwrap();
        world.settle();
        world.cut("w1", "e1");
        world.cut("w2", "e2");
        world.ask("w1", "east", FAILBACK).expect("e2 can be reached");
        world.settle();
        assert_eq!(world.holder("east"), "e2");
        world.ask("w1", "east", Ask::Failover).unwrap();
        world.settle();
        world.cut("w1", "e2");
        assert_eq!(
            world.ask("w1", "east", FAILBACK),
            Err("no host of east could take over from w1 (out of reach from w1: e1: cut; e2: cut): put that right first; \
                 --disaster brings them home all the same"
                .into())
        );
        if disaster {
            world.ask("w1", "east", Ask::Failback { disaster }).unwrap();
        } else {
            world.cut.clear();
            world.ask("w1", "east", FAILBACK).unwrap();
        }
        world.settle();
        assert_eq!((world.phase("east"), world.holder("east")), (Phase::Active, "e1".into()));
    }
}

#[test]
fn the_policy_brings_nobody_home_to_hosts_that_cannot_be_reached() {
    let mut world = World::with(Terms { automatic: true, ..Terms::default() });
    world.kill_all(&["e1", "e2"]);
    world.after(300);
    world.start("e1");
    world.cut("w1", "e1");
    world.after(0);
    world.after(600);
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::FailedOver, "w1".into()));
    world.cut.clear();
    world.after(0);
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::Active, "e1".into()));
}

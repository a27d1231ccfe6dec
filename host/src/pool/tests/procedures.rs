//! Failover and failback, from the first step to the last.

use super::*;

const FAILBACK: Ask = Ask::Failback { disaster: false };

fn following() -> Terms {
    Terms { ranges_follow: true, ..Terms::default() }
}

#[test]
fn a_lost_pool_fails_over_and_comes_home() {
    let mut world = World::with(following());
    world.range("east-groups", "*101", "group-pickup", "east");
    world.range("east-park", "7000", "call-park", "east");
    world.range("west-groups", "*201", "group-pickup", "west");
    world.kill_all(&["e1", "e2"]);
    world.after(301);
    world.ask("w2", "east", Ask::Failover).unwrap();
    assert_eq!(world.phase("east"), Phase::FailingOver);
    world.settle();
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::FailedOver, "w1".into()));
    assert_eq!(
        world.notes("east"),
        [
            "fence Done: users of east are in resiliency mode",
            "parked Done: no call waits in an orbit",
            "seat Done: w1 serves the users of east",
            "ranges Done: east-groups",
            "open Done: ",
        ]
    );
    assert_eq!(world.pool_of_range("east-groups"), "west");
    assert_eq!(world.pool_of_range("east-park"), "east", "park ranges stay (RES-21)");
    let serving = |world: &mut World| world.look("w1").pools.serving("east").to_owned();
    assert_eq!(serving(&mut world), "west");

    world.start("e1");
    world.after(10_000);
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::FailedOver, "w1".into()));
    world.ask("e1", "east", FAILBACK).unwrap();
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::FailingBack, "w1".into()));
    let epoch = world.epoch_record("east").0;
    world.settle();
    assert!(world.epoch_record("east").0 > epoch, "nothing west meant for east can be written any more");
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::Active, "e1".into()));
    assert_eq!(world.pool_of_range("east-groups"), "east");
    assert_eq!(world.pool_of_range("west-groups"), "west");
    assert_eq!(world.record("east").moved, Vec::<String>::new());
    assert_eq!(serving(&mut world), "east");
    let journal = world.record("east").journal.unwrap();
    assert_eq!((&*journal.asked_by, journal.ended), ("ana", Some(world.now.utc)));
}

#[test]
fn a_living_pool_is_served_at_home_until_its_parked_calls_are_gone() {
    let mut world = World::new();
    world.park("7001", "east");
    world.park("7002", "west");
    world.ask("e2", "east", Ask::Failover).unwrap();
    world.after(299);
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::FailingOver, "e1".into()));
    let fate = |world: &mut World| {
        let now = world.now;
        world.look("e1").pools.parked_fate(now, "east")
    };
    assert_eq!(fate(&mut world), ParkedFate::Keep);
    let waits = "parked Running: 1 parked call may be fetched for 300s; what waits then is ended";
    assert_eq!(world.notes("east")[1], waits);
    world.after(1);
    assert_eq!(fate(&mut world), ParkedFate::End, "the drain time is over");
    assert_eq!(world.holder("east"), "e1", "who has the calls ends them");
    assert_eq!(world.notes("east")[1], "parked Running: ended with BYE: 1 parked call");
    world.unpark("7001");
    world.settle();
    assert_eq!(world.notes("east")[1], "parked Done: ended with BYE: 1 parked call");
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::FailedOver, "w1".into()));
}

#[test]
fn pickup_ranges_that_are_moved_by_hand_are_named_on_the_way_out_and_home() {
    let mut world = World::new();
    world.range("east-park", "7000", "call-park", "east");
    world.range("east-groups", "*101", "group-pickup", "east");
    world.range("west-groups", "*201", "group-pickup", "west");
    world.user("alice", "east");
    world.in_group("bob", "east", "*101");
    world.in_group("wanda", "west", "*201");
    world.ask("e1", "east", Ask::Failover).unwrap();
    world.settle();
    let left = "ranges Done: left with east (east-groups); by hand: switchyard orbit set NAME --pool west";
    assert_eq!(world.notes("east")[3], left);
    world.range("east-groups", "*101", "group-pickup", "west");
    let left = "none to move; left with west (east-groups); by hand: switchyard orbit set NAME --pool east";
    assert_eq!(world.preview("w1", "east", FAILBACK)[1], format!("ranges: {left}"));
    world.ask("e1", "east", FAILBACK).unwrap();
    world.settle();
    assert_eq!(world.notes("east")[1], format!("ranges Done: {left}"));
}

#[test]
fn a_planned_failover_goes_on_at_once_when_the_last_parked_call_is_fetched() {
    let mut world = World::new();
    world.park("7001", "east");
    world.ask("w1", "east", Ask::Failover).unwrap();
    world.after(7);
    world.unpark("7001");
    world.settle();
    assert_eq!(world.phase("east"), Phase::FailedOver);
    assert!(world.record("east").journal.unwrap().planned);
}

#[test]
fn rescued_calls_stay_where_they_are() {
    let mut world = World::with(Terms { rescue: true, ..Terms::default() });
    world.park("7001", "east");
    world.kill_all(&["e1", "e2"]);
    world.settle();
    let fate = |world: &mut World| {
        let now = world.now;
        world.look("w1").pools.parked_fate(now, "east")
    };
    assert_eq!((world.phase("east"), fate(&mut world)), (Phase::Outage, ParkedFate::Keep));
    world.ask("w1", "east", Ask::Failover).unwrap();
    world.settle();
    assert_eq!(world.phase("east"), Phase::FailedOver);
    assert_eq!(world.notes("east")[1], "parked Done: 1 parked call: taken up by whoever takes the seat");
    assert_eq!(fate(&mut world), ParkedFate::Keep);
}

/// Nobody is disconnected before the pool counts as lost, and everybody is then (facts.md §2.1).
#[test]
fn without_rescue_parked_calls_are_left_alone_in_an_outage_and_ended_when_the_pool_is_lost() {
    let mut world = World::new();
    world.park("7001", "east");
    world.kill_all(&["e1", "e2"]);
    world.settle();
    let fate = |world: &mut World| {
        let now = world.now;
        world.look("w1").pools.parked_fate(now, "east")
    };
    assert_eq!((world.phase("east"), fate(&mut world)), (Phase::Outage, ParkedFate::Leave));
    world.after(300);
    assert_eq!((world.phase("east"), fate(&mut world)), (Phase::Resilient, ParkedFate::End));
    // An administrator need not wait for that.
    let mut world = World::new();
    world.park("7001", "east");
    world.kill_all(&["e1", "e2"]);
    world.settle();
    world.ask("w1", "east", Ask::Failover).unwrap();
    world.settle();
    assert_eq!((world.phase("east"), fate(&mut world)), (Phase::FailingOver, ParkedFate::End));
    world.unpark("7001");
    world.settle();
    assert_eq!(world.phase("east"), Phase::FailedOver);
}

#[test]
fn ranges_moved_by_hand_are_nobodys_business() {
    let mut world = World::new();
    world.range("east-groups", "*101", "group-pickup", "east");
    world.kill_all(&["e1", "e2"]);
    world.settle();
    world.ask("w1", "east", Ask::Failover).unwrap();
    world.settle();
    assert_eq!(world.pool_of_range("east-groups"), "east");
    world.range("east-groups", "*101", "group-pickup", "west");
    world.start("e1");
    world.ask("w1", "east", FAILBACK).unwrap();
    world.settle();
    assert_eq!((world.phase("east"), world.pool_of_range("east-groups")), (Phase::Active, "west".into()));
}

#[test]
fn more_ranges_than_one_transaction_holds_move_all_the_same() {
    let mut world = World::with(following());
    for at in 0..170 {
        world.range(&format!("group-{at}"), &format!("*{}", 1000 + at), "group-pickup", "east");
    }
    world.ask("w1", "east", Ask::Failover).unwrap();
    world.settle();
    assert_eq!(world.phase("east"), Phase::FailedOver);
    assert_eq!(world.record("east").moved.len(), 170);
    world.ask("w1", "east", FAILBACK).unwrap();
    world.settle();
    assert_eq!(
        (world.pool_of_range("group-0"), world.pool_of_range("group-169")),
        ("east".into(), "east".into())
    );
}

#[test]
fn a_dead_backup_does_not_keep_users_from_coming_home() {
    let mut world = World::new();
    world.ask("w1", "east", Ask::Failover).unwrap();
    world.settle();
    assert_eq!(world.holder("east"), "w1");
    world.kill_all(&["w1", "w2"]);
    world.settle();
    assert_eq!(
        world.ask("e1", "east", FAILBACK),
        Err("no host of west is alive; --disaster brings the users of east home without it".into())
    );
    world.ask("e1", "east", Ask::Failback { disaster: true }).unwrap();
    world.settle();
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::Active, "e1".into()));
}

#[test]
fn the_policy_fails_over_and_back_by_itself_and_not_twice_within_the_hour() {
    let mut world = World::with(Terms { automatic: true, ..Terms::default() });
    world.kill_all(&["e1", "e2"]);
    world.after(300);
    assert_eq!(world.phase("east"), Phase::FailedOver);
    assert_eq!(world.record("east").journal.unwrap().asked_by, "policy");
    world.start("e1");
    world.after(0);
    world.after(599);
    assert_eq!(world.phase("east"), Phase::FailedOver);
    world.after(1);
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::Active, "e1".into()));
    world.kill("e1");
    world.after(0);
    world.after(300);
    assert_eq!(world.phase("east"), Phase::Resilient, "what fails again so soon needs a person");
    world.after(3300);
    assert_eq!(world.phase("east"), Phase::FailedOver);
}

#[test]
fn what_a_person_has_moved_the_policy_does_not_move_back() {
    let mut world = World::with(Terms { automatic: true, ..Terms::default() });
    world.ask("w1", "east", Ask::Failover).unwrap();
    world.after(0);
    world.after(100_000);
    assert_eq!(world.phase("east"), Phase::FailedOver);
}

//! Group Call Pickup: facts.md §2.2. Bob is of the east, and his group's number lies in a range of the east.

use super::*;

/// Erin of the west calls Bob, whose phone rings.
fn ring(world: &mut World, caller: usize) -> CallId {
    dial(world, caller, "1002")
}

#[test]
fn a_call_is_picked_up_only_out_of_resiliency_and_where_its_range_is_served() {
    let mut world = world("");
    let [bob, carol, erin, frank] =
        world.phones_at([("bob", "fw1"), ("carol", "fw1"), ("erin", "fw1"), ("frank", "fw1")]);
    let before = ring(&mut world, erin);
    let picked = dial(&mut world, frank, "*101");
    assert!(world.phones[frank].call(picked).up, "{:?}", world.phones[frank].call(picked).warning);
    world.act(erin, |phone| phone.hang_up(before));
    lose_east_for_good(&mut world);
    // Resilient: neither he who is fine nor she who is not takes it; his phone rings on, and he may answer.
    let waiting = ring(&mut world, erin);
    let why = "now: the servers of pool east are down, and others stand in for them (resilient). It can be answered where it rings";
    for (picker, what) in
        [(frank, "calls for Bob cannot be picked up"), (carol, "Carol cannot pick up calls")]
    {
        let refused = dial(&mut world, picker, "*101");
        assert_refused(&world, picker, refused, 480, "35110");
        assert_refused(&world, picker, refused, 480, &format!("{what} {why}"));
    }
    move_east(&mut world, Ask::Failover);
    let refused = dial(&mut world, frank, "*101");
    assert_refused(&world, frank, refused, 480, "35110");
    world.act(erin, |phone| phone.cancel(waiting));
    world.run_for(seconds(2));
    // Full service, but the range is where nobody serves it (RES-22).
    let waiting = ring(&mut world, erin);
    let refused = dial(&mut world, frank, "*101");
    assert_refused(&world, frank, refused, 480, "35110");
    assert_refused(
        &world,
        frank,
        refused,
        480,
        "in *101 now: its range east-groups is with pool east, and pool west has Bob. It",
    );
    give_groups_to(&mut world, "west");
    let picked = dial(&mut world, carol, "*101");
    assert!(world.phones[carol].call(picked).up, "{:?}", world.phones[carol].call(picked).warning);
    world.act(erin, |phone| phone.hang_up(waiting));
    world.run_for(seconds(2));
    // Back home: until the range is home, too, nobody picks up.
    start_east(&mut world);
    move_east(&mut world, FAILBACK);
    let waiting = ring(&mut world, erin);
    let refused = dial(&mut world, carol, "*101");
    assert!(world.phones[carol].call(refused).failed.is_some());
    give_groups_to(&mut world, "east");
    let picked = dial(&mut world, carol, "*101");
    assert!(world.phones[carol].call(picked).up, "{:?}", world.phones[carol].call(picked).warning);
    world.act(erin, |phone| phone.hang_up(waiting));
    world.run_for(seconds(2));
    assert!(!world.phones[bob].calls.iter().any(|call| call.up && !call.over));
}

#[test]
fn what_rang_before_a_phase_changed_stays_unpickable() {
    let mut world = world("pickup_ranges = 'automatic'");
    let [bob, erin, frank, carol] =
        world.phones_at([("bob", "fw1"), ("erin", "fw1"), ("frank", "fw1"), ("carol", "fw1")]);
    lose_east_for_good(&mut world);
    let early = ring(&mut world, erin);
    move_east(&mut world, Ask::Failover);
    assert_eq!(pool(&mut world, "east")["moved"], serde_json::json!(["east-groups"]));
    assert_eq!(pool_of_range(&mut world, "east-groups"), "west");
    let refused = dial(&mut world, frank, "*101");
    assert_refused(&world, frank, refused, 480, "35110 it began to ring before");
    world.act(erin, |phone| phone.cancel(early));
    world.run_for(seconds(2));
    // The range went by itself: what rings now is picked up at once (RES-22).
    assert_picks_up(&mut world, erin, frank);
    let waiting = ring(&mut world, erin);
    start_east(&mut world);
    move_east(&mut world, FAILBACK);
    assert_eq!(pool_of_range(&mut world, "east-groups"), "east", "and home");
    let ringing = world.phones[bob].last();
    let assert_says_why = |world: &mut World| {
        for (picker, number) in [(frank, "*101"), (carol, "*101"), (frank, "**1002"), (carol, "**1002")] {
            let refused = dial(world, picker, number);
            assert_refused(world, picker, refused, 480, "35110 it began to ring before");
        }
    };
    assert_says_why(&mut world);
    // Another call that rings at home by now can be picked up.
    for picker in [frank, carol] {
        let other = if picker == frank { carol } else { frank };
        let waits = dial(&mut world, other, "1002");
        let picked = dial(&mut world, picker, "*101");
        assert!(world.phones[picker].call(picked).up, "{:?}", world.phones[picker].call(picked).warning);
        world.act(other, |phone| phone.hang_up(waits));
        world.run_for(seconds(2));
    }
    // What became of another call is not what became of this one.
    let given_up = dial(&mut world, frank, "1002");
    world.act(frank, |phone| phone.cancel(given_up));
    world.run_for(seconds(1));
    assert_says_why(&mut world);
    // He himself may still answer.
    assert!(!world.phones[erin].call(waiting).over);
    world.act(bob, |phone| phone.answer(ringing));
    world.run_for(seconds(2));
    assert!(world.phones[erin].call(waiting).up);
    world.act(erin, |phone| phone.hang_up(waiting));
    world.run_for(seconds(2));
    assert_picks_up(&mut world, erin, frank);
}

/// What rings now is picked up in its group; and the call ends.
fn assert_picks_up(world: &mut World, caller: usize, picker: usize) {
    let waiting = ring(world, caller);
    let picked = dial(world, picker, "*101");
    assert!(world.phones[picker].call(picked).up, "{:?}", world.phones[picker].call(picked).warning);
    world.act(caller, |phone| phone.hang_up(waiting));
    world.run_for(seconds(2));
}

/// Whose a range is, as administrators are told.
fn pool_of_range(world: &mut World, name: &str) -> String {
    let ranges = world.ask_host(1, Request::Ranges).unwrap();
    let range = ranges.as_array().unwrap().iter().find(|range| range["name"] == name).unwrap();
    range["pool"].as_str().unwrap().to_owned()
}

/// The policy says that the ranges follow; somebody has put one elsewhere meanwhile, and there it stays.
#[test]
fn a_range_that_was_moved_by_hand_after_the_failover_stays_where_it_is() {
    let mut world = world("pickup_ranges = 'automatic'");
    lose_east_for_good(&mut world);
    move_east(&mut world, Ask::Failover);
    give_groups_to(&mut world, "east");
    start_east(&mut world);
    move_east(&mut world, FAILBACK);
    assert_eq!(pool_of_range(&mut world, "east-groups"), "east");
    assert_eq!(pool(&mut world, "east")["moved"], serde_json::json!([]));
}

/// Bob's phone rings at the west, which brings him home meanwhile.
fn rings_while_it_comes_home(world: &mut World, caller: usize) -> CallId {
    lose_east_for_good(world);
    move_east(world, Ask::Failover);
    start_east(world);
    let waiting = ring(world, caller);
    move_east(world, FAILBACK);
    assert_eq!(pool(world, "east")["served_by"], "fe1");
    waiting
}

const FOLLOWS: &str = "pickup_ranges = 'automatic', pickup_after_failback = true";

#[test]
fn what_rings_during_a_failback_is_picked_up_by_those_at_home_if_the_policy_says_so() {
    for number in ["*101", "**1002"] {
        let mut world = world(FOLLOWS);
        let [bob, carol, erin] = world.phones_at([("bob", "fw1"), ("carol", "fw1"), ("erin", "fw1")]);
        let waiting = rings_while_it_comes_home(&mut world, erin);
        let picked = dial(&mut world, carol, number);
        assert!(world.phones[carol].call(picked).up, "{:?}", world.phones[carol].call(picked).warning);
        assert!(world.phones[erin].call(waiting).up, "{number}");
        let rang = world.phones[bob].last();
        assert!(world.phones[bob].call(rang).over, "his phone rings no more");
        assert_hold_works(&mut world, (carol, picked), (erin, waiting));
        world.act(erin, |phone| phone.hang_up(waiting));
        world.run_for(seconds(2));
        assert!(world.phones[carol].call(picked).over);
        // Nothing rings any more, there or here; what rings at home now is taken there.
        let refused = dial(&mut world, carol, number);
        assert!(world.phones[carol].call(refused).failed.is_some());
        let waiting = ring(&mut world, erin);
        let picked = dial(&mut world, carol, number);
        assert!(world.phones[carol].call(picked).up, "{:?}", world.phones[carol].call(picked).warning);
        world.act(erin, |phone| phone.hang_up(waiting));
        world.run_for(seconds(40));
        for host in &world.hosts {
            assert_eq!(host.engine.as_ref().unwrap().counts()["legs"], 0, "{}", host.name);
        }
    }
}

/// The link is away while the pool goes home, and is there again before somebody picks up.
#[test]
fn what_rings_during_a_failback_is_told_those_at_home_when_they_can_be_reached() {
    let mut world = world(FOLLOWS);
    let [_bob, carol, erin] = world.phones_at([("bob", "fw1"), ("carol", "fw1"), ("erin", "fw1")]);
    lose_east_for_good(&mut world);
    move_east(&mut world, Ask::Failover);
    start_east(&mut world);
    let waiting = ring(&mut world, erin);
    world.cut_link((0, 1));
    move_east(&mut world, FAILBACK);
    world.mend_link((0, 1));
    world.run_for(seconds(1));
    let picked = dial(&mut world, carol, "*101");
    assert!(world.phones[carol].call(picked).up, "{:?}", world.phones[carol].call(picked).warning);
    assert!(world.phones[erin].call(waiting).up);
    world.act(erin, |phone| phone.hang_up(waiting));
    world.run_for(seconds(2));

    // It is away when the last such call ends: what rings at home from then on is taken there.
    move_east(&mut world, Ask::Failover);
    let waiting = ring(&mut world, erin);
    move_east(&mut world, FAILBACK);
    world.cut_link((0, 1));
    world.act(erin, |phone| phone.cancel(waiting));
    world.run_for(seconds(3));
    world.mend_link((0, 1));
    world.run_for(seconds(1));
    let waiting = ring(&mut world, erin);
    let picked = dial(&mut world, carol, "*101");
    assert!(world.phones[carol].call(picked).up, "{:?}", world.phones[carol].call(picked).warning);
    assert!(world.phones[erin].call(waiting).up);
}

#[test]
fn what_rings_during_a_failback_is_picked_up_from_the_other_pool_or_answered_or_given_up() {
    let mut world = world(FOLLOWS);
    let [bob, carol, erin, frank] =
        world.phones_at([("bob", "fw1"), ("carol", "fe1"), ("erin", "fw1"), ("frank", "fe1")]);
    let waiting = rings_while_it_comes_home(&mut world, erin);
    let picked = dial(&mut world, frank, "*101");
    assert!(world.phones[frank].call(picked).up, "{:?}", world.phones[frank].call(picked).warning);
    world.act(frank, |phone| phone.hang_up(picked));
    world.run_for(seconds(2));
    assert!(world.phones[erin].call(waiting).over);
    // He is as fast as the picker: one of them has the call, the other is told.
    move_east(&mut world, Ask::Failover);
    let waiting = ring(&mut world, erin);
    move_east(&mut world, FAILBACK);
    let ringing = world.phones[bob].last();
    world.act(bob, |phone| phone.answer(ringing));
    let late = dial(&mut world, carol, "*101");
    assert!(world.phones[bob].call(ringing).up && world.phones[erin].call(waiting).up);
    assert!(world.phones[carol].call(late).failed.is_some());
    assert_hold_works(&mut world, (bob, ringing), (erin, waiting));
    world.act(bob, |phone| phone.hang_up(ringing));
    world.run_for(seconds(2));
    assert!(world.phones[erin].call(waiting).over);
}

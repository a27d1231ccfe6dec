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
    for picker in [frank, carol] {
        let refused = dial(&mut world, picker, "*101");
        assert_refused(&world, picker, refused, 480, "35110");
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
    let [bob, erin, frank] = world.phones_at([("bob", "fw1"), ("erin", "fw1"), ("frank", "fw1")]);
    lose_east_for_good(&mut world);
    let early = ring(&mut world, erin);
    move_east(&mut world, Ask::Failover);
    assert_eq!(pool(&mut world, "east")["moved"], serde_json::json!(["east-groups"]));
    let refused = dial(&mut world, frank, "*101");
    assert_refused(&world, frank, refused, 480, "35110 it began to ring before");
    world.act(erin, |phone| phone.cancel(early));
    world.run_for(seconds(2));
    let waiting = ring(&mut world, erin);
    start_east(&mut world);
    move_east(&mut world, FAILBACK);
    let refused = dial(&mut world, frank, "*101");
    assert!(world.phones[frank].call(refused).failed.is_some());
    // He himself may still answer.
    assert!(!world.phones[erin].call(waiting).over);
    let ringing = world.phones[bob].last();
    world.act(bob, |phone| phone.answer(ringing));
    world.run_for(seconds(2));
    assert!(world.phones[erin].call(waiting).up);
    world.act(erin, |phone| phone.hang_up(waiting));
    world.run_for(seconds(2));
    let waiting = ring(&mut world, erin);
    let picked = dial(&mut world, frank, "*101");
    assert!(world.phones[frank].call(picked).up, "{:?}", world.phones[frank].call(picked).warning);
    world.act(erin, |phone| phone.hang_up(waiting));
    world.run_for(seconds(2));
}

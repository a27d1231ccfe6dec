//! Reserve, commit, free; ranges that change underneath.

use super::*;
use crate::orbit::remove_operation;
use crate::store::{Change, Operation, Record};

fn change(operation: Operation) -> Change {
    match operation {
        Operation::Put { key, value } => Change { key, record: Some(Record { value, revision: 9 }) },
        Operation::Delete { key } => Change { key, record: None },
    }
}

#[test]
fn a_call_is_reserved_then_parked_then_freed() {
    let mut world = World::new(10);
    let reserved = world.reserve(1, 10).unwrap();
    assert_eq!((reserved.number.as_str(), reserved.range.as_str()), ("7000", "east-park"));
    assert_eq!(world.state("7000"), "reserved");
    assert_eq!(world.stored("7000"), None);

    let token = world.commit(1, "7000");
    assert_eq!(world.answer::<()>(token), Some(Ok(())));
    assert_eq!(world.state("7000"), "parked");
    let occupant = world.orbits.occupant("7000").unwrap();
    assert_eq!((occupant.leg, occupant.owner), (Some(LegId(10)), Some(FlowId(1))));
    assert_eq!(world.orbits.orbit_of(LegId(10)).map(|o| o.number.to_string()).as_deref(), Some("7000"));

    let claimed = world.claim(2, "7000", "Carol").unwrap();
    assert_eq!((claimed.leg, claimed.party.label()), (LegId(10), "Caller"));
    assert_eq!(world.state("7000"), "connecting");

    world.free(2, "7000", Outcome::Retrieved);
    assert_eq!(world.state("7000"), "free");
    assert_eq!(world.stored("7000"), None);
    assert_eq!((world.orbits.records(), world.orbits.occupants().count()), (0, 0));
    let words: Vec<_> = world.events.iter().map(|event| event.0).collect();
    assert_eq!(words, ["orbit.reserved", "orbit.parked", "orbit.claimed", "orbit.freed"]);
    assert_eq!(world.events_of("orbit.freed")[0]["outcome"], "retrieved");
    assert_eq!(world.events_of("orbit.freed")[0]["by"], "Carol");
}

#[test]
fn the_record_alone_suffices_to_look_after_the_call() {
    let mut world = World::new(10);
    let reserved = world.park(1, 10);
    let record = world.stored("7000").unwrap();
    assert_eq!(record["host"], "fe1");
    assert_eq!(record["state"], "parked");
    assert_eq!(record["number"], "7000");
    assert_eq!(record["range"], "east-park");
    assert_eq!(record["pool"], "east");
    assert_eq!(record["token"], reserved.token);
    assert_eq!(record["terms"]["deadline_ms"], START.0 + 90_000);
    assert_eq!(record["terms"]["on_timeout_uri"], "sip:frontdesk@example.test");
    assert_eq!(record["parker"]["user"], "bob");
    assert_eq!(record["parked"]["user"], "caller");
    assert_eq!(record["plugin"]["v"], 1);
    assert_eq!(record["leg"]["call_id"], "leg-of-1");
}

#[test]
fn cp_14_a_full_lot_is_said_to_be_full() {
    let mut world = World::new(2);
    world.park(1, 10);
    world.reserve(2, 11).unwrap();
    let full = world.reserve(3, 12);
    assert_eq!(refused(full), (35002, "all 2 orbits of pool east are taken".into()));
    let elsewhere = world.reserve_with(3, Reserve { pool: "west".into(), ..reserve(12) });
    assert_eq!(refused(elsewhere), (35002, "pool west has no orbits".into()));
    world.leg_ends(10);
    assert_eq!(world.reserve(3, 12).unwrap().number, "7000");
}

#[test]
fn cp_20_a_parked_call_is_not_parked_again() {
    let mut world = World::new(10);
    world.park(1, 10);
    assert_eq!(refused(world.reserve(2, 10)), (35006, "this call is parked on 7000 already".into()));
    world.reserve(3, 11).unwrap();
    assert_eq!(refused(world.reserve(4, 11)).0, 35006);
    let again = world.commit(1, "7000");
    assert_eq!(refused(world.answer::<()>(again).unwrap()).0, 35006);
    assert_eq!(world.state("7000"), "parked");
    // Once out of its orbit it may be parked again.
    world.claim(2, "7000", "Carol").unwrap();
    world.free(2, "7000", Outcome::Retrieved);
    assert!(world.reserve(2, 10).is_ok());
}

#[test]
fn cp_22_a_draining_host_takes_no_new_parks_and_lets_the_others_finish() {
    let mut world = World::new(10);
    world.park(1, 10);
    world.reserve(2, 11).unwrap();
    world.orbits.set_draining(true);
    assert_eq!(refused(world.reserve(3, 12)).0, 35012);
    let token = world.commit(2, "7001");
    assert_eq!(world.answer::<()>(token), Some(Ok(())));
    assert!(world.claim(4, "7000", "Carol").is_ok());
    world.orbits.set_draining(false);
    assert!(world.reserve(3, 12).is_ok());
}

#[test]
fn a_directed_park_gets_that_orbit_or_a_reason() {
    let mut world = World::new(10);
    assert_eq!(world.reserve_with(1, directed(10, "7005")).unwrap().number, "7005");
    assert_eq!(
        refused(world.reserve_with(2, directed(11, "7005"))),
        (35102, "7005 is just being taken".into())
    );
    world.commit(1, "7005");
    let occupied = world.reserve_with(2, directed(11, "7005"));
    assert_eq!(refused(occupied), (35102, "a call waits in 7005 already".into()));
    for (number, name) in [("7010", "outside"), ("*100", "another plugin's kind"), ("park", "no number")] {
        let refusal = refused(world.reserve_with(2, directed(11, number)));
        assert_eq!(refusal, (35000, format!("{number} is not an orbit of this kind")), "{name}");
    }
    assert_eq!(world.reserve_with(2, directed(11, "7006")).unwrap().number, "7006");
}

#[test]
fn a_directed_park_ignores_the_cool_down() {
    let mut world = World::new(10);
    let reserve = || Reserve { reuse_cooldown_ms: 30_000, ..directed(10, "7005") };
    world.reserve_with(1, reserve()).unwrap();
    world.leg_ends(10);
    assert_eq!(world.reserve_with(2, reserve()).unwrap().number, "7005");
}

#[test]
fn an_instance_reserves_only_in_its_own_kinds() {
    let mut world = World::new(10);
    let stranger = Waiter { instance: InstanceId(9), token: Token(500) };
    world.orbits.reserve(world.now, stranger, FlowId(1), reserve(10));
    world.drain();
    assert_eq!(refused(world.answer::<Reserved>(500).unwrap()).0, 35001);

    world.orbits.grant(InstanceId(9), vec!["group-pickup".into()]);
    let stranger = Waiter { instance: InstanceId(9), token: Token(501) };
    world.orbits.reserve(world.now, stranger, FlowId(1), reserve(10));
    world.drain();
    assert_eq!(world.answer::<Reserved>(501).unwrap().unwrap().number, "*100");

    world.park(2, 11);
    let stranger = Waiter { instance: InstanceId(9), token: Token(502) };
    world.orbits.claim(world.now, stranger, FlowId(1), claim("7000", "Carol"));
    world.drain();
    assert_eq!(refused(world.answer::<Claimed>(502).unwrap()).0, 35000);
}

#[test]
fn orbits_rest_after_use_while_others_are_free() {
    let mut world = World::new(3);
    let cool = |leg| Reserve { reuse_cooldown_ms: 30_000, ..reserve(leg) };
    let used = |world: &mut World, flow, leg| {
        let number = world.reserve_with(flow, cool(leg)).unwrap().number;
        world.leg_ends(leg);
        world.pass(seconds(1));
        number
    };
    assert_eq!(used(&mut world, 1, 10), "7000");
    assert_eq!(used(&mut world, 2, 11), "7001");
    assert_eq!(used(&mut world, 3, 12), "7002");
    // All rest: the longest rested first.
    assert_eq!(used(&mut world, 4, 13), "7000");
    assert_eq!(used(&mut world, 5, 14), "7001");
    world.pass(seconds(30));
    assert_eq!(used(&mut world, 6, 15), "7000");
}

#[test]
fn tokens_are_random_and_fit_into_a_uri() {
    let mut world = World::new(50);
    let mut tokens = std::collections::BTreeSet::new();
    for leg in 0..50 {
        let token = world.reserve(leg, leg).unwrap().token;
        assert_eq!(token.len(), 16);
        assert!(token.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{token}");
        tokens.insert(token);
    }
    assert_eq!(tokens.len(), 50);
}

#[test]
fn a_flow_that_ends_before_commit_leaves_nothing() {
    for how in [FlowEnd::Done, FlowEnd::Failed, FlowEnd::Panicked, FlowEnd::Cancelled, FlowEnd::Rested] {
        let mut world = World::new(1);
        world.reserve(1, 10).unwrap();
        world.flow_ends(1, how);
        assert_eq!(world.state("7000"), "free");
        assert_eq!(world.unattended, []);
        assert!(world.reserve(2, 10).is_ok());
    }
}

#[test]
fn cp_13_a_caller_who_hangs_up_frees_the_orbit_in_every_state() {
    for state in ["reserved", "parked", "connecting"] {
        let mut world = World::new(1);
        world.reserve(1, 10).unwrap();
        if state != "reserved" {
            world.commit(1, "7000");
        }
        if state == "connecting" {
            world.claim(2, "7000", "Carol").unwrap();
        }
        assert_eq!(world.state("7000"), state);
        world.leg_ends(10);
        assert_eq!(world.state("7000"), "free");
        assert_eq!(world.orbits.records(), 0);
        assert_eq!(world.events_of("orbit.freed")[0]["outcome"], "hung_up");
        // The flows end later and find nothing to release.
        world.flow_ends(1, FlowEnd::Done);
        world.flow_ends(2, FlowEnd::Done);
        assert_eq!(world.unattended, []);
        // A commit that comes too late is told so.
        let late = world.commit(1, "7000");
        assert_eq!(refused(world.answer::<()>(late).unwrap()).0, 35107);
    }
}

#[test]
fn a_call_whose_flow_ends_stays_and_is_unattended() {
    let mut world = World::new(1);
    world.park(1, 10);
    world.flow_ends(1, FlowEnd::Panicked);
    assert_eq!(world.unattended, [("7000".to_string(), FlowEnd::Panicked)]);
    assert_eq!(world.state("7000"), "parked");
    let resume = world.orbits.occupant("7000").unwrap().resume().unwrap();
    assert_eq!((resume.leg, resume.terms.deadline_ms), (LegId(10), START.0 + 90_000));

    world.orbits.set_owner("7000", FlowId(2));
    // The old flow has no say any more, the new one has.
    world.free(1, "7000", Outcome::Released);
    assert_eq!(world.state("7000"), "parked");
    world.free(2, "7000", Outcome::Released);
    assert_eq!(world.state("7000"), "free");
}

#[test]
fn an_owner_can_be_replaced_while_it_lives() {
    let mut world = World::new(1);
    world.park(1, 10);
    world.orbits.set_owner("7000", FlowId(2));
    world.drain();
    world.flow_ends(1, FlowEnd::Rested);
    assert_eq!(world.unattended, []);
    world.flow_ends(2, FlowEnd::Failed);
    assert_eq!(world.unattended, [("7000".to_string(), FlowEnd::Failed)]);
}

#[test]
fn only_those_concerned_may_free() {
    let mut world = World::new(2);
    world.park(1, 10);
    world.free(9, "7000", Outcome::Released);
    assert_eq!(world.state("7000"), "parked");
    // While a claim is under way the owner waits for its end.
    world.claim(2, "7000", "Carol").unwrap();
    world.free(1, "7000", Outcome::Released);
    assert_eq!(world.state("7000"), "connecting");
    assert_eq!(world.events_of("orbit.refused").len(), 2);
    // The host's own hand always can.
    world.orbits.release(world.now, "7000", Outcome::Released);
    world.drain();
    assert_eq!(world.state("7000"), "free");
    for vacant in ["7000", "7001", "7777", "nonsense"] {
        world.free(1, vacant, Outcome::Released);
        world.orbits.release(world.now, vacant, Outcome::Released);
    }
    world.drain();
}

#[test]
fn a_reservation_without_a_leg_is_a_trial() {
    let mut world = World::new(2);
    let reserved = world.reserve_with(1, Reserve { leg: None, ..reserve(0) }).unwrap();
    assert_eq!(world.orbits.leaks(|_| false), 0);
    let token = world.commit(1, &reserved.number);
    assert_eq!(refused(world.answer::<()>(token).unwrap()).0, 35016);
    world.free(1, &reserved.number, Outcome::Abandoned);
    assert_eq!(world.state("7000"), "free");
}

#[test]
fn the_leak_gauge_sees_dead_legs() {
    let mut world = World::new(2);
    world.park(1, 10);
    world.reserve(2, 11).unwrap();
    assert_eq!(world.orbits.leaks(|_| true), 0);
    assert_eq!(world.orbits.leaks(|leg| leg != LegId(11)), 1);
    assert_eq!(world.orbits.leaks(|_| false), 2);
}

#[test]
fn plugin_state_has_a_limit() {
    let mut world = World::new(2);
    world.reserve(1, 10).unwrap();
    let long = Commit { state: json!("x".repeat(1023)), ..commit(world.now, "7000") };
    let token = world.commit_with(1, long);
    assert_eq!(refused(world.answer::<()>(token).unwrap()).0, 35001);
    assert_eq!(world.state("7000"), "reserved");
    let fits = Commit { state: json!("x".repeat(1022)), ..commit(world.now, "7000") };
    let token = world.commit_with(1, fits);
    assert_eq!(world.answer::<()>(token), Some(Ok(())));
}

#[test]
fn a_new_range_is_used_at_once_and_a_removed_one_no_longer() {
    let mut world = World::new(1);
    world.park(1, 10);
    assert_eq!(refused(world.reserve(2, 11)).0, 35002);
    let more = put_operation(&range("east-more", "8000", "8000", "call-park"));
    world.orbits.apply(world.now, &change(more)).unwrap();
    assert_eq!(world.reserve(2, 11).unwrap().number, "8000");

    world.orbits.apply(world.now, &change(remove_operation("east-park"))).unwrap();
    world.drain();
    // The call goes on where it is; only nobody new gets there.
    assert_eq!(world.claim(3, "7000", "Carol").unwrap().leg, LegId(10));
    world.free(3, "7000", Outcome::Retrieved);
    world.leg_ends(11);
    assert_eq!(world.reserve(4, 12).unwrap().number, "8000");
    assert_eq!(refused(world.reserve(5, 13)), (35002, "the only orbit of pool east is taken".into()));
}

#[test]
fn a_changed_table_forgets_neither_calls_nor_rest() {
    let mut world = World::new(3);
    let cool = |leg| Reserve { reuse_cooldown_ms: 30_000, ..reserve(leg) };
    world.reserve_with(1, cool(10)).unwrap();
    world.leg_ends(10);
    world.park(2, 11);
    assert_eq!(world.orbits.orbit_of(LegId(11)).unwrap().number.to_string(), "7000");
    world.leg_ends(11);
    world.reserve_with(3, directed(12, "7001")).unwrap();
    let grown = put_operation(&range("east-park", "7000", "7009", "call-park"));
    world.orbits.apply(world.now, &change(grown)).unwrap();
    world.drain();
    assert_eq!(world.reserve_with(4, cool(13)).unwrap().number, "7002");
    assert_eq!(world.orbits.free_numbers("east", "call-park").count(), 8);
}

#[test]
fn orb_15_the_kind_of_a_range_in_use_stays() {
    let mut world = World::new(10);
    let (pools, kinds) = (vec!["east".to_string()], vec!["call-park".to_string(), "group-pickup".into()]);
    let other_kind = range("east-park", "7000", "7009", "group-pickup");
    assert_eq!(world.orbits.check_put(&other_kind, &pools, &kinds, false), Ok(()));
    world.park(1, 10);
    let error = world.orbits.check_put(&other_kind, &pools, &kinds, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "range `east-park`: its kind cannot change from call-park to group-pickup while a call waits in it (ORB-15)"
    );
    assert!(error.yields_to_force());
    assert_eq!(world.orbits.check_put(&other_kind, &pools, &kinds, true), Ok(()));
}

#[test]
fn orb_15_users_of_a_group_range_count_as_use() {
    let mut world = World::new(10);
    let (pools, kinds) = (vec!["east".to_string()], vec!["call-park".to_string(), "group-pickup".into()]);
    for (user, group) in [("alice", "*101"), ("bob", "*101")] {
        let value = serde_json::to_vec(&json!({ "pickup_group": group })).unwrap().into();
        let key = crate::store::keys::user_key(user);
        world.orbits.apply(world.now, &change(Operation::Put { key, value })).unwrap();
    }
    let other_kind = range("east-groups", "*100", "*109", "call-park");
    let error = world.orbits.check_put(&other_kind, &pools, &kinds, false).unwrap_err().to_string();
    assert!(error.contains("while the pickup groups of 2 users lie in it (ORB-15)"), "{error}");
    let error = world.orbits.check_remove("east-groups", false).unwrap_err();
    assert_eq!(error.rule(), "ORB-17");
    // A user on such a number is refused, of whatever kind the range is.
    assert_eq!(world.orbits.ranges().check_extension("carol", "*103").unwrap_err().rule(), "ORB-10");
}

#[test]
fn numbers_in_use_are_not_cut_off_without_force() {
    let mut world = World::new(10);
    let (pools, kinds) = (vec!["east".to_string()], vec!["call-park".to_string()]);
    world.reserve_with(1, directed(10, "7009")).unwrap();
    let shorter = range("east-park", "7000", "7008", "call-park");
    let error = world.orbits.check_put(&shorter, &pools, &kinds, false).unwrap_err();
    assert!(error.to_string().contains("cannot leave out numbers while a call waits in it"), "{error}");
    assert_eq!(world.orbits.check_put(&shorter, &pools, &kinds, true), Ok(()));
    assert_eq!(
        world.orbits.check_put(&range("east-park", "7001", "7009", "call-park"), &pools, &kinds, false),
        Ok(())
    );
    assert_eq!(world.orbits.check_remove("east-park", false).unwrap_err().rule(), "ORB-17");
    assert_eq!(world.orbits.check_remove("east-park", true), Ok(()));
    assert_eq!(world.orbits.check_remove("east-groups", false), Ok(()));
    let unknown = world.orbits.check_remove("east-parc", true).unwrap_err().to_string();
    assert!(unknown.contains("did you mean east-park?"), "{unknown}");
    // Wrong ranges stay wrong, whatever the force.
    let wrong = range("east-park", "7009", "7000", "call-park");
    assert_eq!(world.orbits.check_put(&wrong, &pools, &kinds, true).unwrap_err().rule(), "ORB-04");
}

#[test]
fn the_row_of_an_occupant_is_for_people() {
    let mut world = World::new(2);
    world.park(1, 10);
    world.claim(2, "7000", "Carol").unwrap();
    let row = world.orbits.occupant("7000").unwrap().row();
    assert_eq!(
        (&row["number"], &row["state"], &row["parked"], &row["parker"], &row["claimant"]),
        (&json!("7000"), &json!("connecting"), &json!("Caller"), &json!("Bob"), &json!("Carol"))
    );
    assert_eq!((&row["since"], &row["deadline"]), (&json!(START.0), &json!(START.0 + 90_000)));
}

#[test]
fn ten_thousand_orbits_fill_and_empty() {
    let mut world = World::new(1);
    let big = put_operation(&range("east-big", "10000", "19998", "call-park"));
    world.orbits.apply(world.now, &change(big)).unwrap();
    let random = |leg| Reserve { choice: Choice::Random, reuse_cooldown_ms: 30_000, ..reserve(leg) };
    // Without `drain`, which checks every invariant each time: that is O(n).
    for leg in 0..10_000 {
        let waiter = world.waiter();
        world.orbits.reserve(world.now, waiter, FlowId(leg), random(leg));
    }
    world.drain();
    assert_eq!(world.orbits.occupants().count(), 10_000);
    assert_eq!(world.orbits.free_numbers("east", "call-park").count(), 0);
    for leg in 0..10_000 {
        world.orbits.leg_ended(world.now, LegId(leg), true);
    }
    world.drain();
    assert_eq!(world.orbits.free_numbers("east", "call-park").count(), 10_000);
}

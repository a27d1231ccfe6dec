//! The store late, away, or with another's record in it.

use super::*;
use crate::store::keys::{epoch_key, host_key};
use crate::store::{Change, Durability, Expect, Operation, Record};

fn foreign_record(number: &str) -> Operation {
    let mut world = World::new(10);
    world.reserve_with(1, directed(10, number)).unwrap();
    world.commit(1, number);
    let mut record = world.stored(number).unwrap();
    record["host"] = json!("fe2");
    Operation::Put { key: orbit_key(number), value: serde_json::to_vec(&record).unwrap().into() }
}

fn put(world: &World, operation: Operation) {
    world.store.apply(&Transaction { operations: vec![operation], ..Transaction::default() }).unwrap();
}

#[test]
fn a_park_is_one_durable_compare_and_set() {
    let mut world = World::new(10);
    world.store_answers = false;
    world.reserve(1, 10).unwrap();
    assert!(world.writes.is_empty());
    world.commit(1, "7000");
    let (_, transaction) = &world.writes[0];
    let expected = [
        (orbit_key("7000"), Expect::Absent),
        (host_key("fe1"), Expect::Revision(1)),
        (epoch_key("east"), Expect::Absent),
    ];
    assert_eq!(transaction.expect, expected);
    assert_eq!(transaction.durability, Durability::Durable);
    assert_eq!(transaction.operations.len(), 1);
    assert_eq!(world.state("7000"), "reserved");
    world.answer_write(true, None);
    assert_eq!(world.state("7000"), "parked");

    // Whatever comes later is written behind, against the revision it replaces.
    world.free(1, "7000", Outcome::Released);
    let (_, transaction) = &world.writes[0];
    assert!(matches!(transaction.expect[..], [(_, Expect::Revision(_)), _, _]));
    assert_eq!(transaction.durability, Durability::Relaxed);
    world.answer_write(true, None);
    assert_eq!(world.stored("7000"), None);
    assert!(world.orbits.is_settled());
}

#[test]
fn a_park_waits_five_seconds_for_the_store() {
    let mut world = World::new(10);
    world.store_answers = false;
    world.reserve(1, 10).unwrap();
    let token = world.commit(1, "7000");
    world.pass(Duration::from_millis(4999));
    assert_eq!(world.answer::<()>(token), None);
    world.pass(Duration::from_millis(1));
    assert_eq!(
        refused(world.answer::<()>(token).unwrap()),
        (35105, "the store did not answer in time".into())
    );
    assert_eq!(world.state("7000"), "free");
}

#[test]
fn a_write_that_came_too_late_undoes_itself() {
    let mut world = World::new(10);
    world.store_answers = false;
    world.reserve(1, 10).unwrap();
    world.commit(1, "7000");
    world.pass(seconds(6));
    world.answer_write(true, None);
    assert!(world.stored("7000").is_some());
    let (_, undo) = &world.writes[0];
    assert!(matches!(undo.operations[..], [Operation::Delete { .. }]));
    assert!(matches!(undo.expect[..], [(_, Expect::Revision(_)), _, _]));
    world.answer_write(true, None);
    assert_eq!(world.stored("7000"), None);
    assert!(world.orbits.is_settled() && world.writes.is_empty());
    assert_eq!(world.orbits.records(), 0);
}

#[test]
fn a_call_that_ends_while_it_is_stored_undoes_its_record() {
    for how in ["hang-up", "flow"] {
        let mut world = World::new(10);
        world.store_answers = false;
        world.reserve(1, 10).unwrap();
        let token = world.commit(1, "7000");
        match how {
            "flow" => world.flow_ends(1, FlowEnd::Cancelled),
            _ => world.leg_ends(10),
        }
        assert_eq!(world.state("7000"), "free");
        match how {
            // An ended flow is not answered.
            "flow" => assert_eq!(world.answer::<()>(token), None),
            _ => assert_eq!(refused(world.answer::<()>(token).unwrap()).0, 35107),
        }
        world.answer_write(true, None);
        world.answer_write(true, None);
        assert_eq!(world.stored("7000"), None);
        assert!(world.orbits.is_settled());
        assert_eq!(world.orbits.next_timeout(), None);
    }
}

#[test]
fn the_next_call_in_an_orbit_waits_for_the_record_of_the_last_to_go() {
    let mut world = World::new(1);
    world.store_answers = false;
    world.reserve(1, 10).unwrap();
    world.commit(1, "7000");
    world.leg_ends(10);
    let second = world.reserve(2, 11).unwrap();
    let token = world.commit(2, "7000");
    // One write at a time for one orbit.
    assert_eq!(world.writes.len(), 1);
    world.answer_write(true, None);
    // The first call's record is there: the second call's replaces exactly that one.
    assert_eq!(world.answer::<()>(token), None);
    assert!(matches!(world.writes[0].1.expect[..], [(_, Expect::Revision(_)), _, _]));
    world.answer_write(true, None);
    assert_eq!(world.answer::<()>(token), Some(Ok(())));
    assert_eq!(world.stored("7000").unwrap()["token"], second.token);
    assert_eq!(world.state("7000"), "parked");
}

#[test]
fn a_store_that_fails_is_asked_again_within_the_five_seconds() {
    let mut world = World::new(10);
    world.store_answers = false;
    world.reserve(1, 10).unwrap();
    let token = world.commit(1, "7000");
    world.answer_write(false, Some(away()));
    assert_eq!(world.answer::<()>(token), None);
    world.pass(seconds(1));
    // First a look, since the write may have happened; then the write.
    assert!(world.writes[0].1.operations.is_empty());
    world.answer_write(true, None);
    world.answer_write(true, None);
    assert_eq!(world.answer::<()>(token), Some(Ok(())));
    assert_eq!(world.state("7000"), "parked");
}

#[test]
fn a_write_whose_answer_was_lost_is_found_again() {
    let mut world = World::new(10);
    world.store_answers = false;
    let reserved = world.reserve(1, 10).unwrap();
    let token = world.commit(1, "7000");
    world.answer_write(true, Some(away()));
    assert!(world.stored("7000").is_some());
    world.pass(seconds(1));
    world.answer_write(true, None);
    world.answer_write(true, None);
    assert_eq!(world.answer::<()>(token), Some(Ok(())));
    assert_eq!(world.stored("7000").unwrap()["token"], reserved.token);
}

#[test]
fn a_lost_answer_of_an_abandoned_park_leaves_no_record() {
    let mut world = World::new(10);
    world.store_answers = false;
    world.reserve(1, 10).unwrap();
    world.commit(1, "7000");
    world.leg_ends(10);
    world.answer_write(true, Some(away()));
    world.store_answers = true;
    world.pass(seconds(60));
    assert_eq!(world.stored("7000"), None);
    assert!(world.orbits.is_settled());
    assert_eq!(world.orbits.next_timeout(), None);
}

#[test]
fn a_store_that_is_away_long_is_asked_less_and_less() {
    let mut world = World::new(10);
    world.park(1, 10);
    world.store_answers = false;
    world.leg_ends(10);
    let mut asked = 0;
    for _ in 0..600 {
        world.pass(seconds(1));
        while !world.writes.is_empty() {
            asked += 1;
            world.answer_write(false, Some(away()));
        }
    }
    // Ten minutes: quickly at first, then every ten seconds.
    assert!((60..75).contains(&asked), "{asked}");
    world.store_answers = true;
    world.pass(seconds(20));
    assert_eq!(world.stored("7000"), None);
    assert!(world.orbits.is_settled());
}

#[test]
fn an_orbit_another_host_took_is_occupied_and_left_alone() {
    let mut world = World::new(10);
    put(&world, foreign_record("7000"));
    let theirs = world.stored("7000").unwrap();
    world.reserve(1, 10).unwrap();
    let token = world.commit(1, "7000");
    assert_eq!(refused(world.answer::<()>(token).unwrap()), (35102, "a call waits in 7000 already".into()));
    assert_eq!(world.stored("7000"), Some(theirs));
    assert_eq!(world.state("7000"), "free");
    // It is not chosen again until that record is gone.
    assert_eq!(world.reserve(1, 10).unwrap().number, "7001");
    assert_eq!(refused(world.reserve_with(2, directed(11, "7000"))).0, 35102);
    let gone = Change { key: orbit_key("7000"), record: None };
    world.orbits.apply(world.now, &gone).unwrap();
    world.drain();
    assert!(world.reserve_with(2, directed(11, "7000")).is_ok());
}

#[test]
fn orbits_of_other_hosts_are_learned_from_the_store() {
    let mut world = World::new(2);
    let Operation::Put { key, value } = foreign_record("7000") else { unreachable!("a put") };
    let theirs = Change { key, record: Some(Record { value, revision: 5 }) };
    world.orbits.apply(world.now, &theirs).unwrap();
    world.drain();
    assert_eq!(world.reserve(1, 10).unwrap().number, "7001");
    assert_eq!(refused(world.reserve(2, 11)).0, 35002);
    // A record of ours says nothing new, nor does one for a number we have a call in.
    let value = serde_json::to_vec(&json!({})).unwrap().into();
    let odd = Change { key: orbit_key("7001"), record: Some(Record { value, revision: 6 }) };
    world.orbits.apply(world.now, &odd).unwrap();
    world.drain();
    assert_eq!(world.state("7001"), "reserved");
}

#[test]
fn saves_coalesce() {
    let mut world = World::new(10);
    world.park(1, 10);
    world.store_answers = false;
    for attempt in 1..=5u64 {
        let mut saved = commit(world.now, "7000");
        saved.terms.deadline_ms += attempt * 1000;
        saved.state = json!({ "attempts": attempt });
        world.orbits.save(world.now, FlowId(1), saved, None);
        world.drain();
    }
    assert_eq!(world.writes.len(), 1);
    world.answer_write(true, None);
    assert_eq!(world.stored("7000").unwrap()["plugin"]["attempts"], 1);
    assert_eq!(world.writes.len(), 1);
    assert_eq!(world.writes[0].1.durability, Durability::Relaxed);
    world.answer_write(true, None);
    let record = world.stored("7000").unwrap();
    assert_eq!((&record["plugin"]["attempts"], &record["leg"]["call_id"]), (&json!(5), &json!("leg-of-1")));
    assert!(world.writes.is_empty() && world.orbits.is_settled());
    assert_eq!(world.orbits.occupant("7000").unwrap().row()["recalls"], 5);

    // The same again is no write at all.
    let same = Commit { state: json!({ "attempts": 5 }), ..commit(world.now, "7000") };
    let terms = Terms { deadline_ms: same.terms.deadline_ms + 5000, ..same.terms };
    world.orbits.save(world.now, FlowId(1), Commit { terms, ..same }, None);
    world.drain();
    assert!(world.writes.is_empty());
}

#[test]
fn leg_facts_are_saved_as_the_dialog_moves_on() {
    let mut world = World::new(10);
    world.park(1, 10);
    world.orbits.save_leg(world.now, LegId(10), json!({ "cseq": 5 }));
    world.orbits.save_leg(world.now, LegId(99), json!({ "cseq": 6 }));
    world.drain();
    assert_eq!(world.stored("7000").unwrap()["leg"]["cseq"], 5);
    let saved = commit(world.now, "7000");
    world.orbits.save(world.now, FlowId(1), saved, Some(json!({ "cseq": 7 })));
    world.drain();
    assert_eq!(world.stored("7000").unwrap()["leg"]["cseq"], 7);
}

#[test]
fn a_save_of_somebody_elses_call_is_refused() {
    let mut world = World::new(10);
    world.park(1, 10);
    let before = world.stored("7000");
    for (flow, number, state) in [
        (2, "7000", json!(1)),
        (1, "7001", json!(1)),
        (1, "nonsense", json!(1)),
        (1, "7000", json!("x".repeat(2000))),
    ] {
        let saved = Commit { state, ..commit(world.now, number) };
        world.orbits.save(world.now, FlowId(flow), saved, None);
        world.drain();
    }
    assert_eq!(world.events_of("orbit.refused").len(), 4);
    assert_eq!(world.stored("7000"), before);
}

#[test]
fn a_save_before_the_park_is_stored_is_not_lost() {
    let mut world = World::new(10);
    world.store_answers = false;
    world.reserve(1, 10).unwrap();
    world.commit(1, "7000");
    world.orbits.save_leg(world.now, LegId(10), json!({ "cseq": 9 }));
    world.drain();
    world.answer_write(true, None);
    assert_eq!(world.state("7000"), "parked");
    world.answer_write(true, None);
    assert_eq!(world.stored("7000").unwrap()["leg"]["cseq"], 9);
}

#[test]
fn a_record_that_vanished_is_written_again() {
    let mut world = World::new(10);
    world.park(1, 10);
    put(&world, Operation::Delete { key: orbit_key("7000") });
    world.orbits.save_leg(world.now, LegId(10), json!({ "cseq": 2 }));
    world.drain();
    assert_eq!(world.stored("7000").unwrap()["leg"]["cseq"], 2);
    assert!(world.orbits.is_settled());
}

#[test]
fn a_call_whose_record_another_host_took_goes_on_and_is_told() {
    let mut world = World::new(10);
    world.park(1, 10);
    put(&world, foreign_record("7000"));
    world.orbits.save_leg(world.now, LegId(10), json!({ "cseq": 2 }));
    world.drain();
    assert_eq!(world.events_of("orbit.record_lost").len(), 1);
    assert_eq!(world.state("7000"), "parked");
    assert_eq!(world.stored("7000").unwrap()["host"], "fe2");
    world.claim(2, "7000", "Carol").unwrap();
    world.free(2, "7000", Outcome::Retrieved);
    // Theirs stays, and the orbit with it.
    assert_eq!(world.stored("7000").unwrap()["host"], "fe2");
    assert_eq!(world.reserve(3, 12).unwrap().number, "7001");
}

#[test]
fn a_write_the_store_will_never_take_fails_at_once() {
    let mut world = World::new(10);
    world.store_answers = false;
    world.reserve(1, 10).unwrap();
    let token = world.commit(1, "7000");
    world.answer_write(false, Some(StoreError::Invalid("no".into())));
    assert_eq!(refused(world.answer::<()>(token).unwrap()).0, 35001);
    assert_eq!(world.state("7000"), "free");
    assert_eq!(world.orbits.records(), 0);
}

#[test]
fn a_withdrawn_commit_is_stored_all_the_same() {
    let mut world = World::new(10);
    world.store_answers = false;
    world.reserve(1, 10).unwrap();
    let waiter = world.waiter();
    world.orbits.commit(world.now, waiter, FlowId(1), commit(world.now, "7000"), json!({}));
    world.orbits.withdraw(waiter);
    world.drain();
    world.answer_write(true, None);
    assert_eq!(world.state("7000"), "parked");
    assert_eq!(world.answer::<()>(waiter.token.0), None);
}

#[test]
fn answers_to_unknown_tickets_are_ignored() {
    let mut world = World::new(10);
    world.park(1, 10);
    world.orbits.stored(world.now, 999, Err(away()));
    world.drain();
    assert_eq!(world.state("7000"), "parked");
}

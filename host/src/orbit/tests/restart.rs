//! After `kill -9`: no phantom orbit, no forgotten caller.

use super::*;

/// A host that parked two calls and was killed; the next one with the same store, some seconds later.
fn restarted() -> (World, Vec<super::super::RestoredCall>) {
    let mut before = World::new(10);
    before.park(1, 10);
    before.pass(seconds(1));
    before.park(2, 11);
    let mut world = World::with(before.store.clone(), 10);
    world.now = Now { instant: Instant::ZERO, utc: before.now.utc + seconds(20) };
    let calls = world.orbits.restore(world.now, &world.store.snapshot(""), Whose::All);
    world.drain();
    (world, calls)
}

#[test]
fn each_recorded_call_keeps_its_orbit() {
    let (mut world, calls) = restarted();
    assert_eq!(calls.iter().map(|call| call.number()).collect::<Vec<_>>(), ["7000", "7001"]);
    assert_eq!(calls[0].facts()["call_id"], "leg-of-1");
    assert_eq!((world.state("7000"), world.state("7001")), ("restoring", "restoring"));
    assert_eq!(world.reserve(5, 50).unwrap().number, "7002");
    assert_eq!(refused(world.reserve_with(6, directed(51, "7000"))).0, 35102);
    assert_eq!(world.orbits.leaks(|_| false), 1, "only the new reservation has a leg");
}

#[test]
fn an_adopted_call_is_parked_as_before() {
    let (mut world, calls) = restarted();
    let resume = calls[0].resume(LegId(70));
    assert_eq!((resume.number.as_str(), resume.leg, &resume.state), ("7000", LegId(70), &json!({ "v": 1 })));
    assert_eq!(resume.terms.deadline_ms, START.0 + 90_000);
    world.orbits.adopted(world.now, "7000", LegId(70), FlowId(7));
    world.drain();
    assert_eq!(world.state("7000"), "parked");
    let occupant = world.orbits.occupant("7000").unwrap();
    assert_eq!((occupant.token.as_str(), occupant.since), (resume.token.as_str(), START));
    assert!(world.orbits.is_settled());

    // Its token and its place in the queue are what they were.
    let by_token = Claim { token: Some(resume.token), ..claim("7000", "Carol") };
    assert_eq!(world.claim_with(8, by_token).unwrap().leg, LegId(70));
    world.free(8, "7000", Outcome::Retrieved);
    assert_eq!(world.stored("7000"), None);
    assert!(world.stored("7001").is_some());
}

#[test]
fn a_call_whose_party_is_gone_is_forgotten() {
    let (mut world, _) = restarted();
    world.orbits.forget(world.now, "7001");
    world.drain();
    assert_eq!(world.state("7001"), "free");
    assert_eq!(world.stored("7001"), None);
    assert_eq!(world.events_of("orbit.freed")[0]["outcome"], "hung_up");
    assert_eq!(world.orbits.records(), 1);
}

#[test]
fn a_claim_waits_for_a_call_to_come_back() {
    let (mut world, _) = restarted();
    let carol = world.start_claim(8, claim("7000", "Carol"));
    let dave = world.start_claim(9, claim("7001", "Dave"));
    let eve = world.start_claim(10, claim("7001", "Eve"));
    world.pass(seconds(1));
    world.orbits.adopted(world.now, "7000", LegId(70), FlowId(7));
    world.drain();
    assert_eq!(world.answer::<Claimed>(carol).unwrap().unwrap().leg, LegId(70));
    world.pass(seconds(1));
    world.orbits.withdraw(Waiter { instance: INSTANCE, token: Token(dave) });
    world.pass(seconds(1));
    assert_eq!(
        refused(world.answer::<Claimed>(eve).unwrap()),
        (35017, "the call in 7001 is not back yet".into())
    );
    // The oldest call is one that is there.
    assert_eq!(refused(world.claim_with(11, oldest("Eve"))).0, 35000);
}

#[test]
fn adoption_happens_once() {
    let (mut world, _) = restarted();
    world.orbits.adopted(world.now, "7000", LegId(70), FlowId(7));
    world.orbits.adopted(world.now, "7000", LegId(71), FlowId(8));
    world.orbits.adopted(world.now, "7001", LegId(70), FlowId(8));
    world.orbits.adopted(world.now, "7005", LegId(72), FlowId(8));
    world.orbits.adopted(world.now, "nonsense", LegId(72), FlowId(8));
    world.drain();
    assert_eq!(world.orbits.occupant("7000").unwrap().leg, Some(LegId(70)));
    assert_eq!(world.state("7001"), "restoring");
    world.leg_ends(70);
    assert_eq!(world.state("7000"), "free");
}

#[test]
fn a_host_under_another_name_makes_the_records_its_own() {
    let (before, _) = restarted();
    let operations = vec![put_host("renamed")];
    before.store.apply(&Transaction { operations, ..Transaction::default() }).unwrap();
    let mut orbits = Orbits::new("renamed", ChaCha12Rng::seed_from_u64(1));
    orbits.load(&before.store.snapshot(""));
    orbits.grant(INSTANCE, vec!["call-park".into()]);
    let mut world = World { orbits, ..before };
    world.orbits.restore(world.now, &world.store.snapshot(""), Whose::All);
    world.orbits.adopted(world.now, "7000", LegId(70), FlowId(7));
    world.drain();
    assert_eq!(world.stored("7000").unwrap()["host"], "renamed");
    world.leg_ends(70);
    assert_eq!(world.stored("7000"), None);
}

#[test]
fn a_record_that_cannot_be_read_blocks_its_orbit_and_stays() {
    let store = MemoryStore::new();
    let operations = [("7000", "{"), ("7001", r#"{"version":99}"#), ("nonsense", "{}")]
        .map(|(number, value)| Operation::Put { key: orbit_key(number), value: value.into() });
    store.apply(&Transaction { operations: operations.into(), ..Transaction::default() }).unwrap();
    let mut world = World::with(store, 10);
    assert_eq!(world.orbits.restore(world.now, &world.store.snapshot(""), Whose::All), []);
    world.drain();
    assert_eq!(world.events_of("orbit.record_damaged").len(), 2);
    assert_eq!(world.reserve(1, 10).unwrap().number, "7002");
    assert_eq!(refused(world.claim(2, "7000", "Carol")).0, 35000);
    assert_eq!(world.store.snapshot(&orbit_key("7000")).records.len(), 1);
}

#[test]
fn a_record_under_another_number_is_damaged() {
    let mut before = World::new(10);
    before.park(1, 10);
    let record = before.stored("7000").unwrap();
    let store = MemoryStore::new();
    let value = serde_json::to_vec(&record).unwrap().into();
    let operations = vec![Operation::Put { key: orbit_key("7005"), value }];
    store.apply(&Transaction { operations, ..Transaction::default() }).unwrap();
    let mut world = World::with(store, 10);
    assert_eq!(world.orbits.restore(world.now, &world.store.snapshot(""), Whose::All), []);
    world.drain();
    assert_eq!(world.events_of("orbit.record_damaged")[0]["why"], "it names another orbit");
}

#[test]
fn a_call_outside_every_range_is_still_looked_after() {
    let mut before = World::new(10);
    before.reserve_with(1, directed(10, "7009")).unwrap();
    before.commit(1, "7009");
    let mut world = World::with(before.store.clone(), 5);
    let calls = world.orbits.restore(world.now, &world.store.snapshot(""), Whose::All);
    assert_eq!(calls.len(), 1);
    world.orbits.adopted(world.now, "7009", LegId(70), FlowId(7));
    world.drain();
    assert!(world.claim(8, "7009", "Carol").is_ok());
    world.free(8, "7009", Outcome::Retrieved);
    assert_eq!(world.stored("7009"), None);
}

#[test]
fn restoring_twice_changes_nothing() {
    let (mut world, _) = restarted();
    world.orbits.adopted(world.now, "7000", LegId(70), FlowId(7));
    assert_eq!(world.orbits.restore(world.now, &world.store.snapshot(""), Whose::All), []);
    world.drain();
    assert_eq!(world.state("7000"), "parked");
}

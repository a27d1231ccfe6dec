//! A host others may think dead writes nothing and decides nothing (design.md §8).

use super::*;
use crate::store::keys::{epoch_key, host_key};
use crate::store::{Change, Standing};

impl World {
    fn put(&mut self, key: String, value: &str) -> u64 {
        let operations = vec![Operation::Put { key: key.clone(), value: value.to_owned().into() }];
        self.store.apply(&Transaction { operations, ..Transaction::default() }).unwrap();
        self.store.snapshot("").records[&key].revision
    }

    fn stands(&mut self, standing: Standing) {
        self.orbits.set_standing(self.now, standing);
        self.drain();
    }

    /// The host's record goes, and it knows.
    fn lapse(&mut self) {
        let operations = vec![Operation::Delete { key: host_key("fe1") }];
        self.store.apply(&Transaction { operations, ..Transaction::default() }).unwrap();
        self.stands(Standing::Lapsed);
    }

    fn live_again(&mut self) {
        let revision = self.put(host_key("fe1"), "{}");
        self.stands(Standing::Live { revision });
    }
}

#[test]
fn a_lapsed_host_parks_nothing_and_its_claims_wait_five_seconds() {
    let mut world = World::new(10);
    world.park(1, 10);
    world.reserve(2, 11).unwrap();
    world.lapse();
    let park = world.commit(2, "7001");
    assert_eq!(refused(world.answer::<()>(park).unwrap()).0, 35104);
    assert_eq!(refused(world.reserve(4, 12)).0, 35104);
    let claim = world.start_claim(3, claim("7000", "Carol"));
    world.pass(Duration::from_millis(4999));
    assert_eq!(world.answer::<Claimed>(claim), None);
    world.pass(Duration::from_millis(1));
    assert_eq!(refused(world.answer::<Claimed>(claim).unwrap()).0, 35105);
    let at_once = world.orbits.claim_for_host(world.now, "7000", party("Carol"));
    assert_eq!(refused(at_once).0, 35105);
    // The call itself has lost nothing.
    assert_eq!(world.state("7000"), "parked");
}

#[test]
fn a_claim_that_waits_is_decided_when_the_host_is_live_again() {
    let mut world = World::new(10);
    world.park(1, 10);
    world.lapse();
    let claim = world.start_claim(3, claim("7000", "Carol"));
    world.pass(seconds(3));
    world.live_again();
    assert!(world.answer::<Claimed>(claim).unwrap().is_ok());
    world.park(2, 11);
    assert_eq!(world.state("7001"), "parked");
}

#[test]
fn a_park_that_waits_for_the_store_is_given_up_when_the_host_lapses() {
    let mut world = World::new(10);
    world.store_answers = false;
    world.reserve(1, 10).unwrap();
    let park = world.commit(1, "7000");
    assert_eq!(world.answer::<()>(park), None);
    world.stands(Standing::Lapsed);
    assert_eq!(refused(world.answer::<()>(park).unwrap()).0, 35104);
    assert_eq!(world.state("7000"), "free");
    // The store had it all the same: it is taken back when the host may write again.
    world.answer_write(true, None);
    assert!(world.stored("7000").is_some());
    world.store_answers = true;
    let revision = world.store.snapshot("").records[&host_key("fe1")].revision;
    world.stands(Standing::Live { revision });
    assert_eq!(world.stored("7000"), None);
    assert!(world.orbits.is_settled());
}

#[test]
fn a_host_that_is_back_reads_before_it_writes() {
    let mut world = World::new(10);
    for (flow, leg) in [(1, 10), (2, 11), (3, 12)] {
        world.park(flow, leg);
    }
    world.lapse();
    world.orbits.save_leg(world.now, LegId(10), json!({ "cseq": 7 }));
    world.drain();
    let mut theirs = world.stored("7001").unwrap();
    theirs["host"] = json!("fe2");
    world.put(orbit_key("7001"), &theirs.to_string());
    let operations = vec![Operation::Delete { key: orbit_key("7002") }];
    world.store.apply(&Transaction { operations, ..Transaction::default() }).unwrap();
    world.pass(seconds(60));
    assert_ne!(world.stored("7000").unwrap()["leg"]["cseq"], 7, "nothing was written");
    world.live_again();
    assert_eq!(world.stored("7000").unwrap()["leg"]["cseq"], 7);
    assert_eq!(world.stored("7001"), Some(theirs));
    assert_eq!(world.events_of("orbit.record_lost").len(), 1);
    assert!(world.stored("7002").is_some());
    assert!(world.orbits.is_settled());
}

#[test]
fn a_write_of_an_earlier_life_is_refused_and_made_again() {
    let mut world = World::new(10);
    world.store_answers = false;
    world.reserve(1, 10).unwrap();
    let park = world.commit(1, "7000");
    // The record was renewed before the host heard of it.
    let revision = world.put(host_key("fe1"), "{}");
    world.answer_write(true, None);
    assert_eq!((world.answer::<()>(park), world.stored("7000")), (None, None));
    world.store_answers = true;
    world.stands(Standing::Live { revision });
    assert_eq!(world.answer::<()>(park), Some(Ok(())));
}

#[test]
fn nothing_is_written_under_an_epoch_that_is_over() {
    let mut world = World::new(10);
    world.park(1, 10);
    world.put(epoch_key("east"), "2");
    // Raised behind this host's back: it learns by being refused.
    world.reserve(2, 11).unwrap();
    let park = world.commit(2, "7001");
    assert_eq!(refused(world.answer::<()>(park).unwrap()).0, 35104);
    assert_eq!((world.state("7001"), world.stored("7001")), ("free", None));
    world.orbits.save_leg(world.now, LegId(10), json!({ "cseq": 7 }));
    world.drain();
    world.pass(seconds(60));
    assert_ne!(world.stored("7000").unwrap()["leg"]["cseq"], 7);
    // It hears of it, parks under the new one, and still has the record of the call that waited before.
    let record = world.store.snapshot("").records.remove(&epoch_key("east"));
    world.orbits.apply(world.now, &Change { key: epoch_key("east"), record }).unwrap();
    world.park(3, 12);
    assert_eq!(world.stored("7001").unwrap()["epoch"], 2);
    world.pass(seconds(20));
    assert_eq!(world.stored("7000").unwrap()["leg"]["cseq"], 7);
    assert!(world.orbits.is_settled());
}

//! A host that has lost the store, and may be taken for dead.

use switchyard_host::store::keys::lamps_prefix;

use crate::harness::{OnRing, World, WorldOptions};

use super::{assert_quiet, one_pool, second};

#[test]
fn the_clock_of_a_parked_call_stands_still_until_the_host_is_heard_again() {
    let mut world = World::with(WorldOptions { hosts: &[("fe1", "east")], ..WorldOptions::default() });
    let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test"));
    world.run_for(second() * 4);
    world.cut_from_store(0, true);
    world.run_for(second() * 180);
    assert_eq!(world.phones[bob].calls.len(), 1, "no recall: another host might ring him as well");
    assert!(world.streams.values().all(|stream| stream.remote.is_some()), "music goes on");
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.cut_from_store(0, false);
    world.run_for(second() * 6);
    assert_eq!(world.phones[bob].calls.len(), 2, "the recall that was due");
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.2"));
}

#[test]
fn only_the_host_that_has_taken_over_recalls() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe2"), ("bob", "fe2")]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test"));
    world.run_for(second() * 4);
    world.cut_from_store(0, true);
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.run_for(second() * 100);
    assert_eq!(world.phones[bob].calls.len(), 2, "one recall");
    let back = world.phones[bob].last();
    assert!(world.phones[bob].call(back).up);
    assert!(!world.phones[alice].call(a).over);
}

#[test]
fn a_call_that_the_store_never_took_goes_on_where_it_is_when_another_host_takes_over() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe2"), ("bob", "fe2")]);
    world.cut_from_store(0, true);
    let (a, b) = world.connect(alice, bob);
    world.run_for(second() * 30);
    world.cut_from_store(0, false);
    world.run_for(second() * 10);
    assert_eq!(world.told("seat.left").len(), 1);
    world.act(alice, |phone| phone.reinvite(a, "sendonly"));
    world.run_for(second());
    assert!(world.phones[bob].call(b).heard.as_ref().unwrap().contains("sendonly"));
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(second());
    assert!(world.phones[alice].call(a).over, "she was told");
}

#[test]
fn phones_of_other_hosts_reach_a_call_that_only_a_host_without_the_store_knows() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe2")]);
    world.cut_from_store(0, true);
    let (a, b) = world.connect(alice, bob);
    world.run_for(second() * 30);
    assert_eq!(world.told("seat.taken").len(), 2, "fe2 serves");
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("sendonly"));
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(second());
    assert!(world.phones[alice].call(a).over, "she was told");
}

#[test]
fn who_hung_up_at_a_host_without_the_store_has_hung_up_where_the_call_was_taken_up() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
    let (a, b) = world.connect(alice, bob);
    world.run_for(second() * 4);
    world.cut_from_store(0, true);
    world.run_for(second() * 20);
    assert_eq!(world.told("seat.taken").len(), 2, "fe2 serves, and has taken the call up");
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(second());
    world.cut_from_store(0, false);
    world.run_for(second() * 10);
    assert!(world.phones[alice].call(a).over, "she was told");
    world.run_for(second() * 40);
    assert_quiet(&world);
}

#[test]
fn the_record_of_a_subscription_that_ends_meanwhile_is_removed_when_the_host_is_heard_again() {
    let mut world = World::with(WorldOptions { hosts: &[("fe1", "east")], ..WorldOptions::default() });
    let [_alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
    world.act(bob, |phone| phone.watch("sip:alice@example.test", 60));
    world.run_for(second());
    let recorded = |world: &World| world.store.snapshot(&lamps_prefix()).records.len();
    assert_eq!(recorded(&world), 1);
    world.cut_from_store(0, true);
    world.run_for(second() * 90);
    assert_eq!(recorded(&world), 1, "nobody could remove it");
    world.cut_from_store(0, false);
    world.run_for(second() * 10);
    assert_eq!(recorded(&world), 0);
}

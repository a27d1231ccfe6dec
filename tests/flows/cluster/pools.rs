//! Calls between users of different pools, and what they dial in each other's.

use super::{assert_quiet, second, two_pools};
use crate::harness::OnRing;

#[test]
fn users_of_two_pools_call_each_other_and_park_where_they_belong() {
    let mut world = two_pools();
    // Erin's phone is at a host of the other pool.
    let [alice, bob, erin] = world.phones_at([("alice", "fe1"), ("bob", "fe1"), ("erin", "fe1")]);
    assert_eq!(world.told("seat.taken").len(), 2);
    let (a, e) = world.connect(alice, erin);
    world.act(erin, |phone| phone.reinvite(e, "sendonly"));
    world.run_for(second());
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("sendonly"));
    world.act(erin, |phone| phone.reinvite(e, "sendrecv"));
    world.run_for(second());
    // Erin's pool has numbers of its own.
    world.act(erin, |phone| phone.refer(e, "sip:park@example.test"));
    world.run_for(second() * 4);
    let told = world.phones[erin].call(e).notified.last().unwrap().clone();
    assert!(told.contains("SIP/2.0 200 OK") && told.contains("sip:80"), "{told}");
    let number = told.split("<sip:").nth(1).unwrap()[..4].to_owned();
    // Bob of the other pool fetches Alice back.
    let b = world.act(bob, |phone| phone.invite(&format!("sip:{number}@example.test"), &[], true));
    world.run_for(second());
    assert!(world.phones[bob].call(b).up, "{:?}", world.phones[bob].call(b).failed);
    assert!(world.phones[bob].call(b).heard.as_ref().unwrap().contains("10.0.0.1"));
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 40);
    assert!(world.phones[bob].call(b).over);
    assert_quiet(&world);
}

#[test]
fn a_ringing_call_is_picked_up_from_the_other_pool() {
    let mut world = two_pools();
    let [alice, bob, erin] = world.phones_at([("alice", "fe1"), ("bob", "fe1"), ("erin", "fw1")]);
    world.phones[bob].on_ring = OnRing::Ring;
    let a = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(second());
    let e = world.act(erin, |phone| phone.invite("sip:**1002@example.test", &[], true));
    world.run_for(second() * 2);
    assert!(world.phones[erin].call(e).up, "{:?}", world.phones[erin].call(e).failed);
    assert!(world.phones[bob].calls[0].over, "his phone rings no more");
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.3"));
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 40);
    assert!(world.phones[erin].call(e).over);
    assert_quiet(&world);
}

#[test]
fn nobody_parks_in_an_orbit_of_a_pool_that_another_host_serves() {
    let mut world = two_pools();
    let [alice, erin] = world.phones_at([("alice", "fe1"), ("erin", "fw1")]);
    let (a, e) = world.connect(alice, erin);
    world.act(erin, |phone| phone.refer(e, "sip:park@example.test;orbit=7001"));
    world.run_for(second() * 4);
    let told = world.phones[erin].call(e).notified.last().unwrap().clone();
    assert!(told.contains("403") && told.contains("7001 belongs to pool east"), "{told}");
    assert!(!world.phones[alice].call(a).over && !world.phones[erin].call(e).over, "they talk on");
}

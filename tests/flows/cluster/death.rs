//! The host that serves a pool dies.

use switchyard_host::admin::Request;

use super::{assert_quiet, one_pool, second};
use crate::harness::{World, WorldOptions};

#[test]
fn a_parked_call_goes_on_at_the_next_host_with_its_number_and_its_music() {
    let mut world = one_pool();
    let [alice, bob, carol] = world.phones_at([("alice", "fe2"), ("bob", "fe2"), ("carol", "fe2")]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test;orbit=7001"));
    world.run_for(second() * 4);
    assert_eq!(world.streams.keys().map(|(host, _)| *host).collect::<Vec<_>>(), [0]);
    world.kill(0);
    world.run_for(second() * 12);
    assert_eq!(world.told("seat.taken").len(), 2);
    assert_eq!(world.streams.keys().map(|(host, _)| *host).collect::<Vec<_>>(), [1], "music again");
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("192.0.2.202"));
    let rows = world.ask_host(1, Request::Occupants).unwrap();
    assert_eq!(rows[0]["number"], "7001", "{rows}");
    let c = world.act(carol, |phone| phone.invite("sip:7001@example.test", &[], true));
    world.run_for(second());
    assert!(world.phones[carol].call(c).up);
    world.act(carol, |phone| phone.hang_up(c));
    world.run_for(second() * 40);
    assert!(world.phones[alice].call(a).over);
    assert_quiet(&world);
}

#[test]
fn an_edge_that_dies_takes_no_call_with_it() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe2"), ("bob", "fe1")]);
    let (a, b) = world.connect(alice, bob);
    world.kill(1);
    world.run_for(second() * 8);
    // Bob's hold reaches her from the other host.
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    assert!(
        world.phones[alice].call(a).heard.as_ref().unwrap().contains("sendonly"),
        "she hears of the hold"
    );
    world.move_phone(alice, "fe1");
    world.act(alice, |phone| phone.register(3600));
    world.run_for(second());
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 40);
    assert!(world.phones[bob].call(b).over);
    assert_quiet(&world);
}

#[test]
fn a_host_that_loses_the_store_and_comes_back_late_does_no_harm() {
    let mut world = one_pool();
    let [alice, bob, carol] = world.phones_at([("alice", "fe2"), ("bob", "fe2"), ("carol", "fe2")]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test;orbit=7001"));
    world.run_for(second() * 4);
    world.cut_from_store(0, true);
    world.run_for(second() * 12);
    let rows = world.ask_host(1, Request::Occupants).unwrap();
    assert_eq!(rows[0]["state"], "parked", "{rows}");
    world.cut_from_store(0, false);
    world.run_for(second() * 4);
    assert_eq!(world.told("seat.left").len(), 1);
    let c = world.act(carol, |phone| phone.invite("sip:7001@example.test", &[], true));
    world.run_for(second());
    assert!(world.phones[carol].call(c).up);
    assert!(!world.phones[alice].call(a).over, "the old host says nothing to her");
    world.act(carol, |phone| phone.hang_up(c));
    world.run_for(second() * 40);
    assert!(world.phones[alice].call(a).over);
    assert_quiet(&world);
}

#[test]
fn a_call_goes_on_when_the_host_that_served_it_dies_and_can_be_held_parked_and_ended() {
    let mut world = one_pool();
    let [alice, bob, carol] = world.phones_at([("alice", "fe2"), ("bob", "fe2"), ("carol", "fe2")]);
    let (a, b) = world.connect(alice, bob);
    world.run_for(second() * 2);
    world.kill(0);
    world.run_for(second() * 12);
    assert_eq!(world.told("call.taken_up").len(), 1);
    assert!(!world.phones[alice].call(a).over && !world.phones[bob].call(b).over);
    world.act(alice, |phone| phone.reinvite(a, "sendonly"));
    world.run_for(second());
    assert!(world.phones[bob].call(b).heard.as_ref().unwrap().contains("sendonly"));
    world.act(alice, |phone| phone.reinvite(a, "sendrecv"));
    world.run_for(second());
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test;orbit=7002"));
    world.run_for(second() * 4);
    let c = world.act(carol, |phone| phone.invite("sip:7002@example.test", &[], true));
    world.run_for(second());
    assert!(world.phones[carol].call(c).up);
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 40);
    assert!(world.phones[carol].call(c).over);
    assert_quiet(&world);
}

#[test]
fn a_call_between_two_pools_goes_on_when_one_of_the_hosts_is_another() {
    let hosts = &[("fe1", "east"), ("fe2", "east"), ("fw1", "west")];
    let mut world = World::with(WorldOptions { hosts, ..WorldOptions::default() });
    let [alice, erin] = world.phones_at([("alice", "fe2"), ("erin", "fw1")]);
    let (a, e) = world.connect(alice, erin);
    world.run_for(second() * 2);
    world.kill(0);
    world.run_for(second() * 12);
    world.act(erin, |phone| phone.reinvite(e, "sendonly"));
    world.run_for(second());
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("sendonly"));
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 40);
    assert!(world.phones[erin].call(e).over);
    assert_quiet(&world);
}

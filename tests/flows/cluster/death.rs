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

/// Alice's phone stands behind a NAT and talks to the host that serves her; she is parked when it dies.
fn parked_at_the_host_that_dies(world: &mut World, tcp: bool) -> ([usize; 3], crate::harness::CallId) {
    let alice = world.add_phone("alice");
    world.phones[alice].behind_nat = true;
    if tcp {
        world.on_tcp(alice);
    }
    world.act(alice, |phone| phone.register(3600));
    let [bob, carol] = world.phones_at([("bob", "fe2"), ("carol", "fe2")]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test;orbit=7001"));
    world.run_for(second() * 4);
    assert!(world.phones[bob].call(b).over);
    world.kill(0);
    ([alice, bob, carol], a)
}

/// She registers at the other host, and comes from another port of the NAT.
fn comes_back(world: &mut World, alice: usize) {
    world.move_phone(alice, "fe2");
    if world.phones[alice].stream.is_some() {
        world.on_tcp(alice);
    }
    world.phones[alice].seen_as.set_port(40_000);
    world.act(alice, |phone| phone.register(3600));
}

#[test]
fn a_parked_caller_behind_a_nat_whose_host_died_is_taken_up_when_her_phone_registers() {
    for tcp in [false, true] {
        let mut world = one_pool();
        let ([alice, _, carol], a) = parked_at_the_host_that_dies(&mut world, tcp);
        world.run_for(second() * 55);
        let rows = world.ask_host(1, Request::Occupants).unwrap();
        assert_eq!((rows[0]["number"].as_str(), rows[0]["state"].as_str()), (Some("7001"), Some("parked")));
        comes_back(&mut world, alice);
        world.run_for(second() * 8);
        assert_eq!(world.streams.keys().map(|(host, _)| *host).collect::<Vec<_>>(), [1], "music again");
        assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("192.0.2.202"));
        let c = world.act(carol, |phone| phone.invite("sip:7001@example.test", &[], true));
        world.run_for(second());
        assert!(world.phones[carol].call(c).up, "{:?}", world.phones[carol].call(c).warning);
        world.act(alice, |phone| phone.hang_up(a));
        world.run_for(second() * 40);
        assert!(world.phones[carol].call(c).over);
        assert_quiet(&world);
    }
}

#[test]
fn a_parked_caller_who_registers_at_once_has_her_music_back_with_the_new_host() {
    for tcp in [false, true] {
        let mut world = one_pool();
        let ([alice, ..], a) = parked_at_the_host_that_dies(&mut world, tcp);
        world.run_for(second() * 9);
        comes_back(&mut world, alice);
        world.run_for(second() * 45);
        assert_eq!(world.streams.keys().map(|(host, _)| *host).collect::<Vec<_>>(), [1], "music again");
        world.act(alice, |phone| phone.hang_up(a));
        world.run_for(second() * 40);
        assert_quiet(&world);
    }
}

#[test]
fn a_parked_caller_who_does_not_come_back_is_let_go_when_her_time_is_over() {
    for tcp in [false, true] {
        let mut world = one_pool();
        let ([_, bob, _], _) = parked_at_the_host_that_dies(&mut world, tcp);
        world.run_for(second() * 110);
        assert!(world.phones[bob].ringing().next().is_some(), "he is rung back when her time is over");
        world.run_for(second() * 300);
        let rows = world.ask_host(1, Request::Occupants).unwrap();
        assert_eq!(rows, serde_json::json!([]));
        assert_quiet(&world);
    }
}

#[test]
fn a_parked_caller_whose_edge_alone_died_waits_on_until_her_phone_is_elsewhere() {
    for tcp in [false, true] {
        let patient = "return { call_park = { pickup_timeout = '10m' } }".to_owned();
        let mut world = World::with(WorldOptions {
            hosts: &[("fe1", "east"), ("fe2", "east")],
            policies: vec![("default.lua".into(), patient)],
            ..WorldOptions::default()
        });
        let alice = world.add_phone("alice");
        world.phones[alice].behind_nat = true;
        world.move_phone(alice, "fe2");
        if tcp {
            world.on_tcp(alice);
        }
        world.act(alice, |phone| phone.register(3600));
        let [bob] = world.phones_at([("bob", "fe1")]);
        let (a, b) = world.connect(alice, bob);
        world.act(bob, |phone| phone.refer(b, "sip:park@example.test;orbit=7001"));
        world.run_for(second() * 4);
        world.kill(1);
        world.run_for(second() * 400);
        world.move_phone(alice, "fe1");
        if tcp {
            world.on_tcp(alice);
        }
        world.phones[alice].seen_as.set_port(40_000);
        world.act(alice, |phone| phone.register(3600));
        world.run_for(second() * 3);
        let b = world.act(bob, |phone| phone.invite("sip:7001@example.test", &[], true));
        world.run_for(second());
        assert!(world.phones[bob].call(b).up, "{:?}", world.phones[bob].call(b).warning);
        world.act(alice, |phone| phone.hang_up(a));
        world.run_for(second() * 40);
        assert!(world.phones[bob].call(b).over);
        assert_quiet(&world);
    }
}

/// Both phones send what belongs to their call where the Contact leads.
fn told_a_name(contact_by_name: bool) -> (World, [usize; 2], [crate::harness::CallId; 2]) {
    let hosts = &[("fe1", "east"), ("fe2", "east"), ("fw1", "west")];
    let mut world = World::with(WorldOptions { hosts, contact_by_name, ..WorldOptions::default() });
    let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe2")]);
    for phone in [alice, bob] {
        world.phones[phone].by_contact = true;
        world.phones[phone].behind_nat = true;
    }
    let (a, b) = world.connect(alice, bob);
    world.run_for(second() * 2);
    (world, [alice, bob], [a, b])
}

#[test]
fn a_phone_that_is_told_its_pools_name_finds_another_host_in_its_call() {
    let (mut world, [alice, bob], [a, b]) = told_a_name(true);
    for (phone, call) in [(alice, a), (bob, b)] {
        let target = &world.phones[phone].call(call).dialog.as_ref().unwrap().remote_target;
        assert!(target.ends_with("@east.example.test;transport=udp"), "{target}");
    }
    world.kill(0);
    world.run_for(second() * 12);
    // What the name leads to now: a host of the pool, and one of its backup.
    for name in ["fe2", "fw1"] {
        world.move_phone(alice, name);
        world.act(alice, |phone| phone.reinvite(a, "sendonly"));
        world.run_for(second());
        assert!(world.phones[bob].call(b).heard.as_ref().unwrap().contains("sendonly"), "{name}");
        world.act(alice, |phone| phone.reinvite(a, "sendrecv"));
        world.run_for(second());
        assert!(world.phones[bob].call(b).heard.as_ref().unwrap().contains("sendrecv"), "{name}");
    }
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 40);
    assert!(world.phones[bob].call(b).over);
    assert_quiet(&world);
}

#[test]
fn a_phone_that_is_told_an_address_talks_to_a_host_that_is_gone() {
    let (mut world, [alice, bob], [a, b]) = told_a_name(false);
    world.kill(0);
    world.run_for(second() * 12);
    world.move_phone(alice, "fe2");
    world.act(alice, |phone| phone.reinvite(a, "sendonly"));
    world.run_for(second());
    assert!(!world.phones[bob].call(b).heard.as_ref().unwrap().contains("sendonly"));
}

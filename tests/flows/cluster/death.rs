//! The host that serves a pool dies.

use switchyard_host::admin::Request;

use super::{assert_quiet, one_pool, second};

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

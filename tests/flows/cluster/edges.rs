//! Phones that say one thing at one host and the next at another.

use switchyard_host::admin::Request;

use super::{assert_quiet, one_pool, second, two_pools};
use crate::harness::{OnRing, World};

fn bindings(world: &mut World, user: &str) -> usize {
    let users = world.ask_host(1, Request::Users).unwrap();
    let user = users.as_array().unwrap().iter().find(|row| row["name"] == user).unwrap().clone();
    user["bindings"].as_array().unwrap().len()
}

#[test]
fn a_call_is_given_up_through_another_host() {
    for mut world in [one_pool(), two_pools()] {
        let other = world.hosts[1].name;
        let [alice, bob] = world.phones_at([("alice", other), ("bob", other)]);
        world.phones[bob].on_ring = OnRing::Ring;
        let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
        world.run_for(second());
        world.move_phone(alice, "fe1");
        world.act(alice, |phone| phone.cancel(call));
        world.run_for(second() * 2);
        assert!(world.phones[bob].calls[0].over, "his phone rings no more");
        world.run_for(second() * 40);
        assert_quiet(&world);
    }
}

#[test]
fn a_phone_that_registers_here_and_there_is_one_phone_and_goes_wherever_it_says_so() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
    assert_eq!(bindings(&mut world, "bob"), 1);
    // Twice at once, at both hosts.
    world.act(bob, |phone| phone.register(3600));
    world.move_phone(bob, "fe2");
    world.act(bob, |phone| phone.register(3600));
    world.run_for(second() * 2);
    assert_eq!(bindings(&mut world, "bob"), 1);
    let (a, _) = world.connect(alice, bob);
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 2);
    world.move_phone(bob, "fe1");
    world.act(bob, |phone| phone.register(0));
    world.run_for(second() * 2);
    assert_eq!(bindings(&mut world, "bob"), 0);
    world.run_for(second() * 40);
    assert_quiet(&world);
}

/// Of a phone whose first try was not answered in time.
#[test]
fn a_request_that_comes_through_two_hosts_is_one() {
    let mut world = one_pool();
    let [alice, bob, carol] = world.phones_at([("alice", "fe1"), ("bob", "fe2"), ("carol", "fe2")]);
    world.phones[bob].on_ring = OnRing::Ring;
    world.on_both_ways = true;
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(second() * 3);
    assert_eq!(world.phones[bob].calls.len(), 1);
    let ringing = world.phones[bob].last();
    world.act(bob, |phone| phone.answer(ringing));
    world.run_for(second() * 3);
    assert!(world.phones[alice].call(call).up && world.phones[bob].call(ringing).up);
    world.act(alice, |phone| phone.hang_up(call));
    world.run_for(second() * 40);
    assert!(world.phones[bob].call(ringing).over);
    let _ = carol;
    assert_quiet(&world);
}

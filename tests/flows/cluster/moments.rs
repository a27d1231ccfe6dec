//! A host dies, or its seat moves on, at every moment of something.

use std::time::Duration;

use switchyard_host::admin::Request;

use super::{assert_quiet, one_pool, second};
use crate::harness::{CallId, OnRing, StoreDoes, World, WorldOptions};

fn hears(world: &World, phone: usize, call: CallId, whom: &str) -> bool {
    world.phones[phone].call(call).heard.as_ref().is_some_and(|heard| heard.contains(whom))
}

/// He holds her and dials the park service at once. Of a change that begins while the store is told the end of the one before, no
/// record tells.
#[test]
fn who_is_held_and_parked_while_a_host_dies_hears_what_its_next_life_or_another_host_thinks() {
    for restarts in [true, false] {
        for moment in 20..60 {
            let at = format!("{moment} ms, restarts: {restarts}");
            let mut world = one_pool();
            let [alice, bob] = world.phones_at([("alice", "fe2"), ("bob", "fe2")]);
            let (a, b) = world.connect(alice, bob);
            world.run_for(second() * 5);
            world.start_ladder();
            world.act(bob, |phone| {
                phone.reinvite(b, "sendonly");
                phone.invite("sip:park@example.test", &[], true)
            });
            world.run_for(Duration::from_millis(moment));
            world.kill(0);
            if restarts {
                world.start(0);
            }
            // An INVITE that the dead host was to answer is given up by then.
            world.run_for(second() * 40);
            if world.occupants().is_empty() {
                assert!(hears(&world, alice, a, "10.0.0.2"), "{at}:\n{}", world.ladder());
                assert!(hears(&world, bob, b, "10.0.0.1"), "{at}:\n{}", world.ladder());
                world.act(bob, |phone| phone.reinvite(b, "sendrecv"));
                world.run_for(second());
                assert!(hears(&world, alice, a, "sendrecv"), "{at}:\n{}", world.ladder());
            } else {
                assert!(hears(&world, alice, a, "192.0.2."), "{at}:\n{}", world.ladder());
            }
        }
    }
}

/// Whoever has taken a seat up passes it on at once, at every moment of bringing a parked call to the parker, whose recall is due.
#[test]
fn who_waits_while_a_seat_moves_on_is_recalled_by_its_last_holder() {
    for moment in (0..100).step_by(2) {
        let at = format!("{moment} ms");
        let policy = "return (require 'default'):extend { call_park = { pickup_timeout = '10s' } }";
        let mut world = World::with(WorldOptions {
            hosts: &[("fe1", "east"), ("fe2", "east"), ("fe3", "east")],
            policies: vec![("pools/east.lua".into(), policy.into())],
            ..WorldOptions::default()
        });
        let [alice, bob] = world.phones_at([("alice", "fe3"), ("bob", "fe3")]);
        let (a, b) = world.connect(alice, bob);
        world.act(bob, |phone| phone.refer(b, "sip:park@example.test;orbit=7001"));
        world.run_for(second() * 6);
        assert!(world.phones[bob].call(b).over);
        world.kill(0);
        while world.told("seat.taken").len() < 2 {
            world.run_for(Duration::from_millis(1));
        }
        world.start_ladder();
        world.phones[bob].on_ring = OnRing::AnswerAfter(Duration::from_millis(20));
        world.run_for(Duration::from_millis(moment));
        world.asks(1, Request::DrainHost { host: "fe2".into(), drained: true, by: "ana".into() });
        world.run_for(second() * 20);
        assert_eq!(world.seat("east").unwrap().host.as_str(), "fe3");
        let talks: Vec<CallId> = world.phones[bob].live().collect();
        assert_eq!(talks.len(), 1, "{at}:\n{}", world.ladder());
        assert!(hears(&world, alice, a, "10.0.0.2"), "{at}:\n{}", world.ladder());
        assert!(hears(&world, bob, talks[0], "10.0.0.1"), "{at}:\n{}", world.ladder());
        assert_eq!(world.occupants(), []);
        world.act(alice, |phone| phone.hang_up(a));
        world.run_for(second() * 40);
        assert!(world.phones[bob].call(talks[0]).over, "{at}");
        assert_quiet(&world);
    }
}

/// The host at whose socket he talks dies when he has taken the music, and before anybody knows: the park has failed, and when he
/// is reached again he hears her.
#[test]
fn who_took_the_music_of_a_park_that_failed_with_his_edge_hears_his_peer_again() {
    for moment in 0..60 {
        let mut world = one_pool();
        let [alice, bob] = world.phones_at([("alice", "fe2"), ("bob", "fe1")]);
        let (a, b) = world.connect(alice, bob);
        world.run_for(second() * 5);
        world.start_ladder();
        world.act(bob, |phone| phone.refer(b, "sip:park@example.test"));
        world.run_for(Duration::from_millis(moment));
        world.kill(1);
        world.run_for(second());
        world.start(1);
        world.run_for(second() * 40);
        if world.occupants().is_empty() {
            let both = hears(&world, alice, a, "10.0.0.2") && hears(&world, bob, b, "10.0.0.1");
            assert!(both, "{moment} ms:\n{}", world.ladder());
        }
    }
}

/// Who has won the seat cannot read the store at first: what phones ask meanwhile is not answered as if there were no such call.
#[test]
fn a_seat_that_cannot_be_read_up_at_once_costs_no_call() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe2"), ("bob", "fe2")]);
    let (a, b) = world.connect(alice, bob);
    world.run_for(second() * 5);
    world.start_ladder();
    world.kill(0);
    while world.seat("east").unwrap().host.as_str() != "fe2" {
        world.run_for(Duration::from_millis(1));
    }
    world.store_does = StoreDoes::Hang;
    world.run_for(Duration::from_millis(100));
    world.store_does = StoreDoes::WELL;
    assert_eq!(world.told("seat.taken").len(), 1, "it was not read");
    world.act(alice, |phone| phone.reinvite(a, "sendonly"));
    world.run_for(Duration::from_millis(300));
    assert!(!world.phones[alice].call(a).over, "{}", world.ladder());
    world.run_for(second() * 5);
    assert_eq!(world.told("seat.taken").len(), 2);
    let heard = world.phones[bob].call(b).heard.clone().unwrap();
    assert!(heard.contains("sendonly"), "{}", world.ladder());
}

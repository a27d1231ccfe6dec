//! Several hosts: phones at any of them, one that serves each pool, and what becomes of calls when that one dies.

mod admin;
mod death;
mod edges;
mod fenced;
mod moments;
mod pools;
mod store;
mod strangers;

use std::time::Duration;

use expect_test::expect;
use switchyard_host::engine::Input;

use crate::harness::{World, WorldOptions};

/// Two hosts of one pool. The first takes the seat.
fn one_pool() -> World {
    World::with(WorldOptions { hosts: &[("fe1", "east"), ("fe2", "east")], ..WorldOptions::default() })
}

/// A host each for two pools.
fn two_pools() -> World {
    let users = vec![("bob", "pickup_group = \"*101\""), ("alice", "pickup_group = \"*101\"")];
    World::with(WorldOptions { hosts: &[("fe1", "east"), ("fw1", "west")], users, ..WorldOptions::default() })
}

fn second() -> Duration {
    Duration::from_secs(1)
}

/// Nothing lives at any host but registrations.
fn assert_quiet(world: &World) {
    for host in &world.hosts {
        let Some(engine) = &host.engine else { continue };
        let counts = engine.counts();
        for kind in
            ["legs", "flows", "operations", "subscriptions", "streams", "watches", "clients", "servers"]
        {
            assert_eq!(counts[kind], 0, "{}: {counts:?}", host.name);
        }
    }
}

#[test]
fn phones_at_another_host_than_the_one_that_serves_them_notice_nothing() {
    let mut world = one_pool();
    let [alice, bob, carol] = world.phones_at([("alice", "fe1"), ("bob", "fe2"), ("carol", "fe2")]);
    let seats = world.told("seat.taken");
    assert_eq!(seats.len(), 1, "{seats:?}");
    world.start_ladder();
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test;orbit=7001"));
    world.run_for(second() * 4);
    let c = world.act(carol, |phone| phone.invite("sip:7001@example.test", &[], true));
    world.run_for(second());
    assert!(world.phones[carol].call(c).up);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.3"));
    world.act(carol, |phone| phone.hang_up(c));
    world.run_for(second());
    expect![[r#"
        +0.000  alice -> fe1    INVITE sip:bob@example.test (sdp)
        +0.010  fe1   -> alice  401 Unauthorized
        +0.020  alice -> fe1    ACK
        +0.020  alice -> fe1    INVITE sip:bob@example.test (sdp)
        +0.030  fe1   -> alice  100 Trying
        +0.031  fe2   -> bob    INVITE sip:bob@10.0.0.2:5060 (sdp)
        +0.041  bob   -> fe2    180 Ringing
        +0.052  fe1   -> alice  180 Ringing
        +0.241  bob   -> fe2    200 OK (sdp)
        +0.252  fe1   -> alice  200 OK (sdp)
        +0.253  fe2   -> bob    ACK
        +0.262  alice -> fe1    ACK
        +2.000  bob   -> fe2    REFER to sip:park@example.test;orbit=7001
        +2.011  fe1   -> alice  INVITE (sdp)
        +2.012  fe2   -> bob    202 Accepted
        +2.012  fe2   -> bob    NOTIFY SIP/2.0 100 Trying
        +2.021  alice -> fe1    200 OK (sdp)
        +2.022  bob   -> fe2    200 OK
        +2.031  fe1   -> alice  ACK
        +2.033  fe2   -> bob    UPDATE
        +2.033  fe2   -> bob    MESSAGE sip:bob@10.0.0.2:5060
        +2.034  fe2   -> bob    NOTIFY SIP/2.0 200 OK
        +2.043  bob   -> fe2    200 OK
        +2.043  bob   -> fe2    200 OK
        +2.044  bob   -> fe2    200 OK
        +4.033  fe2   -> bob    BYE (SIP;cause=200;text="Transfer completed")
        +4.043  bob   -> fe2    200 OK
        +6.000  carol -> fe2    INVITE sip:7001@example.test (sdp)
        +6.012  fe2   -> carol  401 Unauthorized
        +6.022  carol -> fe2    ACK
        +6.022  carol -> fe2    INVITE sip:7001@example.test (sdp)
        +6.033  fe1   -> alice  INVITE (sdp)
        +6.034  fe2   -> carol  100 Trying
        +6.043  alice -> fe1    200 OK (sdp)
        +6.053  fe1   -> alice  ACK
        +6.054  fe2   -> carol  200 OK (sdp)
        +6.054  fe2   -> bob    MESSAGE sip:bob@10.0.0.2:5060
        +6.064  carol -> fe2    ACK
        +6.064  bob   -> fe2    200 OK
        +7.000  carol -> fe2    BYE
        +7.011  fe1   -> alice  BYE
        +7.012  fe2   -> carol  200 OK
        +7.021  alice -> fe1    200 OK
    "#]]
    .assert_eq(&world.ladder());
    assert!(world.phones[alice].call(a).over);
    world.run_for(second() * 40);
    assert_quiet(&world);
}

#[test]
fn a_resume_just_before_the_seat_moves_is_known_to_the_next_holder() {
    for pause in [35, 50, 500] {
        let mut world = one_pool();
        let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
        let (a, b) = world.connect(alice, bob);
        world.run_for(second() * 4);
        // A call is recorded once a second, and otherwise as being changed.
        world.act(alice, |phone| phone.reinvite(a, "sendonly"));
        world.run_for(Duration::from_millis(300));
        world.act(alice, |phone| phone.reinvite(a, "sendrecv"));
        world.run_for(Duration::from_millis(pause));
        world.gets(0, Input::Drain);
        world.run_for(second() * 20);
        assert_eq!(world.told("seat.taken").len(), 2, "fe2 serves");
        for (phone, call) in [(alice, a), (bob, b)] {
            let call = world.phones[phone].call(call);
            let heard = call.heard.as_ref().unwrap();
            assert!(call.up && heard.contains("sendrecv"), "after {pause} ms: {heard}");
        }
    }
}

#[test]
fn phones_are_told_nothing_when_a_seat_moves_and_their_calls_are_as_recorded() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
    let (_, b) = world.connect(alice, bob);
    world.run_for(second() * 4);
    // The ACK comes after the record, and changes nothing.
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(Duration::from_millis(300));
    world.start_ladder();
    world.gets(0, Input::Drain);
    world.run_for(second() * 20);
    expect![[r#"
        +0.503  fe1   -> alice  UPDATE
        +0.513  alice -> fe1    200 OK
        +0.703  fe1   -> bob    INVITE (sdp recvonly)
        +0.713  bob   -> fe1    200 OK (sdp)
        +0.725  fe1   -> bob    ACK
    "#]]
    .assert_eq(&world.ladder());
}

//! Calls between users of different pools, and what they dial in each other's.

use std::time::Duration;

use serde_json::Value;
use switchyard_host::admin::Request;

use super::{assert_quiet, second, two_pools};
use crate::harness::{CallId, OnRing, StoreDoes, World};

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

/// Who talks to whom, as the hosts know it, each for itself: users, or URIs of others.
fn talks(world: &mut World) -> Vec<String> {
    let rows = world.ask_host(0, Request::Calls).unwrap();
    let who = |leg: &Value| leg["user"].as_str().or(leg["uri"].as_str()).unwrap().to_owned();
    let pair = |call: &Value| {
        let mut legs: Vec<String> = call["legs"].as_array().unwrap().iter().map(who).collect();
        legs.sort();
        legs.join(" ")
    };
    let mut listed: Vec<String> = rows.as_array().unwrap().iter().map(pair).collect();
    listed.sort();
    listed.dedup();
    listed
}

fn park(world: &mut World, phone: usize, call: CallId) -> String {
    world.act(phone, |phone| phone.refer(call, "sip:park@example.test"));
    world.run_for(second() * 4);
    let told = world.phones[phone].call(call).notified.last().unwrap().clone();
    assert!(told.contains("SIP/2.0 200 OK"), "{told}");
    told.split("<sip:").nth(1).unwrap()[..4].to_owned()
}

/// Parked by Erin of the west, fetched by Bob of the east, parked again by him and fetched by Frank of the west.
#[test]
fn who_fetches_a_call_across_pools_and_who_is_fetched_are_known_at_both() {
    let mut world = two_pools();
    let [alice, bob, erin, frank] =
        world.phones_at([("alice", "fe1"), ("bob", "fe1"), ("erin", "fw1"), ("frank", "fw1")]);
    let (a, e) = world.connect(alice, erin);
    let number = park(&mut world, erin, e);
    let b = world.act(bob, |phone| phone.invite(&format!("sip:{number}@example.test"), &[], true));
    world.run_for(second() * 2);
    assert!(world.phones[bob].call(b).up, "{:?}", world.phones[bob].call(b).failed);
    let shown = |world: &World, phone: usize, call| world.phones[phone].call(call).identity.clone().unwrap();
    assert_eq!(shown(&world, bob, b), "Alice <sip:alice@example.test>");
    assert_eq!(shown(&world, alice, a), "Bob <sip:bob@example.test>");
    assert_eq!(talks(&mut world), ["alice bob"]);

    let number = park(&mut world, bob, b);
    let rows = world.ask_host(0, Request::Occupants).unwrap();
    assert_eq!((&rows[0]["number"], &rows[0]["parked"]), (&Value::from(&*number), &"Alice".into()), "{rows}");
    let f = world.act(frank, |phone| phone.invite(&format!("sip:{number}@example.test"), &[], true));
    world.run_for(second() * 2);
    assert!(world.phones[frank].call(f).up, "{:?}", world.phones[frank].call(f).failed);
    assert_eq!(shown(&world, frank, f), "Alice <sip:alice@example.test>");
    assert_eq!(shown(&world, alice, a), "Frank <sip:frank@example.test>");
    assert_eq!(talks(&mut world), ["alice frank"]);
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 40);
    assert_quiet(&world);
}

/// Erin of the west, whom Alice of the east has called, transfers her to Frank; and when Erin calls Bob of the east, Alice picks that up.
#[test]
fn who_has_a_call_by_transfer_or_pickup_at_the_other_pool_is_known() {
    let mut world = two_pools();
    let [alice, bob, erin, frank] =
        world.phones_at([("alice", "fe1"), ("bob", "fe1"), ("erin", "fw1"), ("frank", "fw1")]);
    let shown = |world: &World, phone: usize, call| world.phones[phone].call(call).identity.clone();
    let (a, e) = world.connect(alice, erin);
    assert_eq!(shown(&world, alice, a), None, "she talks to whom she called");
    assert_eq!(talks(&mut world), ["alice erin"]);
    world.phones[frank].on_ring = OnRing::AnswerAfter(second());
    world.act(erin, |phone| phone.refer(e, "sip:frank@example.test"));
    world.run_for(second() * 4);
    assert_eq!(shown(&world, alice, a).as_deref(), Some("Frank <sip:frank@example.test>"));
    assert_eq!(talks(&mut world), ["alice frank"]);
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 2);

    world.phones[bob].on_ring = OnRing::Ring;
    let e = world.act(erin, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(second());
    let a = world.act(alice, |phone| phone.invite("sip:**1002@example.test", &[], true));
    world.run_for(second() * 2);
    assert!(world.phones[alice].call(a).up, "{:?}", world.phones[alice].call(a).failed);
    assert_eq!(shown(&world, erin, e).as_deref(), Some("Alice <sip:alice@example.test>"));
    assert_eq!(talks(&mut world), ["alice erin"]);
    world.act(erin, |phone| phone.hang_up(e));
    world.run_for(second() * 40);
    assert_quiet(&world);
}

/// The pool has no host but the one that dies. Who hangs up before the backup has its seat is heard all the same, whenever it is:
/// phones do not say again what was refused.
#[test]
fn who_hangs_up_while_the_backup_takes_over_has_hung_up() {
    for moment in (5_900..6_600).step_by(10) {
        let mut world = two_pools();
        let [alice, bob] = world.phones_at([("alice", "fw1"), ("bob", "fw1")]);
        let (a, b) = world.connect(alice, bob);
        world.run_for(second() * 5);
        world.kill(0);
        world.store_does = StoreDoes::Write(Duration::from_millis(200));
        world.start_ladder();
        world.run_for(Duration::from_millis(moment));
        world.act(bob, |phone| phone.hang_up(b));
        world.run_for(second() * 10);
        let ladder = world.ladder();
        assert!(!ladder.contains(" 503 ") && !ladder.contains(" 481 "), "{moment} ms:\n{ladder}");
        assert!(world.phones[alice].call(a).over, "{moment} ms:\n{ladder}");
    }
}

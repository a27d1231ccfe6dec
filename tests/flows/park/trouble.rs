//! What goes wrong around a park: a store that fails, restarts, draining, lost packets. Nobody is dropped.

use std::time::Duration;

use switchyard_host::sip::Status;

use crate::harness::{OnRing, StoreDoes, Weather, World, WorldOptions};

use super::{Parked, parked, second};

/// Two-phase: the store is away, so nothing is committed, and the parker and his caller talk to each other again.
#[test]
fn a_park_that_cannot_be_stored_leaves_both_together() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.store_does = StoreDoes::Refuse;
    world.act(bob, |phone| phone.refer(b, "sip:7007@example.test"));
    world.run_for(second() * 12);
    let told = world.phones[bob].call(b).notified.last().unwrap().clone();
    assert!(told.starts_with("SIP/2.0 503") && told.contains("35105"), "{told}");
    assert!(world.phones[alice].call(a).up && world.phones[bob].call(b).up);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.2"));
    assert!(world.occupants().is_empty());
    assert!(world.streams.is_empty());
}

/// The same, but the parker has hung up on the 202: failure becomes an immediate ring-back to him.
#[test]
fn a_park_that_fails_after_the_parker_left_rings_him_back() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.store_does = StoreDoes::Refuse;
    world.phones[bob].bye_on_accepted = true;
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.act(bob, |phone| phone.refer(b, "sip:7007@example.test"));
    world.run_for(second() * 15);
    assert!(world.phones[alice].call(a).up, "the caller is never dropped");
    let back = world.phones[bob].last();
    assert_ne!(back, b);
    assert!(world.phones[bob].call(back).up);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.2"));
}

/// After `kill -9` the recorded call is taken up again: same orbit, music, and the timer where it was.
#[test]
fn a_parked_call_survives_a_restart_of_the_host() {
    let Parked { mut world, alice, a, bob, carol, number, .. } = parked();
    world.run_for(second() * 30);
    world.kill_host();
    world.run_for(second() * 5);
    world.start_host();
    world.run_for(second());
    assert_eq!(world.occupants(), [(number.clone(), "parked".to_owned())]);
    assert_eq!(world.streams.len(), 1, "music again");
    // The ring-back comes when it would have come.
    world.run_for(second() * 56);
    assert_eq!(world.phones[bob].calls.len(), 2);
    let uri = format!("sip:{number}@example.test");
    let c = world.act(carol, |phone| phone.invite(&uri, &[], true));
    world.run_for(second() * 2);
    assert!(world.phones[carol].call(c).up);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.3"));
}

/// Each restart goes on from the CSeq of the one before: phones refuse what is not above it (RFC 3261 §12.2.2).
#[test]
fn a_parked_call_survives_one_restart_after_the_other() {
    let Parked { mut world, number, .. } = parked();
    for pause in [1, 5, 60] {
        world.kill_host();
        world.start_host();
        world.run_for(second());
        assert_eq!(world.occupants(), [(number.clone(), "parked".to_owned())]);
        assert_eq!(world.streams.len(), 1, "music again");
        // Also one that dies while the phone is being asked.
        world.kill_host();
        world.start_host();
        world.kill_host();
        world.start_host();
        world.run_for(second() * pause);
        assert_eq!(world.occupants(), [(number.clone(), "parked".to_owned())]);
    }
    assert!(world.told("park.lost").is_empty());
}

/// Only 481 and silence say that the call is gone. A phone that cannot take its music back now is asked again, and in
/// the end its call waits in silence.
#[test]
fn a_phone_that_refuses_its_music_after_a_restart_stays_parked() {
    for refusals in [2, 20] {
        let Parked { mut world, alice, a, carol, number, .. } = parked();
        world.phones[alice].refuse_reinvites = vec![Status::SERVICE_UNAVAILABLE; refusals];
        world.kill_host();
        world.start_host();
        world.run_for(second() * 25);
        assert_eq!(world.occupants(), [(number.clone(), "parked".to_owned())]);
        world.phones[alice].refuse_reinvites.clear();
        let uri = format!("sip:{number}@example.test");
        let c = world.act(carol, |phone| phone.invite(&uri, &[], true));
        world.run_for(second() * 3);
        assert!(world.phones[carol].call(c).up);
        assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.3"));
        assert!(world.streams.is_empty());
    }
}

/// No phantom orbit: the caller hung up while the host was down.
#[test]
fn a_caller_who_left_during_the_restart_leaves_a_free_orbit() {
    let Parked { mut world, alice, a, .. } = parked();
    world.kill_host();
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 2);
    world.start_host();
    world.run_for(second() * 2);
    assert!(world.occupants().is_empty());
    assert_eq!(world.told("park.lost").len(), 1);
}

/// CP-22: a draining host takes no new parks; those it has run to their end.
#[test]
fn a_draining_host_parks_no_more_and_keeps_what_it_has() {
    let Parked { mut world, alice, a, bob, carol, number, .. } = parked();
    let dave = world.add_phone("dave");
    world.act(dave, |phone| phone.register(3600));
    world.run_for(second());
    let (d, b) = world.connect(dave, bob);
    world.host_gets(switchyard_host::engine::Input::Drain);
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test"));
    world.run_for(second() * 3);
    let told = world.phones[bob].call(b).notified.last().unwrap().clone();
    assert!(told.starts_with("SIP/2.0 503") && told.contains("35012"), "{told}");
    assert!(world.phones[dave].call(d).up && world.phones[alice].call(a).up);
    assert_eq!(world.occupants(), [(number.clone(), "parked".to_owned())]);
    let refused = world.act(dave, |phone| phone.invite("sip:carol@example.test", &[], true));
    let fetched = world.act(carol, |phone| phone.invite(&format!("sip:{number}@example.test"), &[], true));
    world.run_for(second() * 3);
    assert_eq!(world.phones[dave].call(refused).failed, Some(Status::SERVICE_UNAVAILABLE));
    assert!(world.phones[carol].call(fetched).up, "who waits can be fetched");
    assert!(world.occupants().is_empty());
}

/// Lost packets cost time; afterwards nobody is left in the dark: whatever happened, Alice is with somebody or parked.
#[test]
fn parks_survive_a_lossy_network() {
    for seed in 0..20 {
        let mut world = World::with(WorldOptions { seed, ..WorldOptions::default() });
        let [alice, bob] = world.phones(["alice", "bob"]);
        let (a, b) = world.connect(alice, bob);
        world.network.weather = Weather::losing(200);
        world.act(bob, |phone| phone.refer(b, "sip:park@example.test"));
        world.run_for(second() * 30);
        world.network.weather = Weather::FAIR;
        world.run_for(second() * 5);
        assert!(world.phones[alice].call(a).up, "seed {seed}: the caller was dropped");
        assert_eq!(world.occupants().len(), 1, "seed {seed}");
        world.act(alice, |phone| phone.hang_up(a));
        world.run_for(second() * 70);
        for kind in ["legs", "flows", "operations", "streams", "watches", "occupants"] {
            assert!(!world.alive().contains_key(kind), "seed {seed}: {:?}", world.alive());
        }
    }
}

/// Some phones hang up by themselves when a transfer is refused: their caller is rung back to them, not dropped.
#[test]
fn a_phone_that_hangs_up_on_a_refused_park_gets_its_caller_back() {
    let mut world = World::new();
    let [alice, dave] = world.phones(["alice", "dave"]);
    let (a, d) = world.connect(alice, dave);
    world.phones[dave].on_ring = OnRing::AnswerAfter(second());
    world.act(dave, |phone| phone.refer(d, "sip:park@example.test"));
    world.run_for(Duration::from_millis(60));
    world.act(dave, |phone| phone.hang_up(d));
    world.run_for(second() * 4);
    assert!(world.phones[alice].call(a).up, "the caller is never dropped");
    let back = world.phones[dave].last();
    assert!(world.phones[dave].call(back).up);
}

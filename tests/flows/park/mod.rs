//! Call Park through the real plugin library (facts.md §1.1, design.md §7): parking by transfer, and what the parker learns.

mod dialled;
mod recall;
mod retrieving;
mod trouble;

use std::time::Duration;

use switchyard_host::admin::Request;
use switchyard_host::sip::Status;

use crate::harness::{CallId, World};

fn second() -> Duration {
    Duration::from_secs(1)
}

/// Alice called Bob, and Bob has parked her by blind transfer: the world, the phones, Alice's call, Bob's, the orbit.
struct Parked {
    world: World,
    alice: usize,
    bob: usize,
    carol: usize,
    a: CallId,
    b: CallId,
    number: String,
}

fn parked() -> Parked {
    parked_in(World::new(), "sip:park@example.test")
}

fn parked_in(mut world: World, target: &str) -> Parked {
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, target));
    world.run_for(second() * 3);
    let number = world.occupants().first().map(|(number, _)| number.clone()).unwrap_or_default();
    Parked { world, alice, bob, carol, a, b, number }
}

/// CP-02: the server picks, and the parker is told in words too.
#[test]
fn a_park_without_number_gets_a_random_orbit_and_the_parker_is_told() {
    let parked = parked();
    let number: u32 = parked.number.parse().unwrap();
    assert!((7000..=7099).contains(&number));
    assert_eq!(parked.world.phones[parked.bob].messages, [format!("Parked on {number}")]);
    assert!(parked.world.phones[parked.bob].call(parked.b).over, "the parker's phone is freed");
    assert!(parked.world.phones[parked.alice].call(parked.a).up);
}

/// Lesson 1: a REFER to an occupied orbit neither retrieves nor joins strangers, and the caller stays with the parker.
#[test]
fn an_occupied_orbit_is_refused_and_both_stay_together() {
    let Parked { mut world, carol, number, .. } = parked();
    let dave = world.add_phone("dave");
    world.act(dave, |phone| phone.register(3600));
    world.run_for(second());
    let (d, c) = world.connect(dave, carol);
    world.act(carol, |phone| phone.refer(c, &format!("sip:{number}@example.test")));
    world.run_for(second() * 3);
    let told = world.phones[carol].call(c).notified.last().unwrap().clone();
    assert!(told.starts_with("SIP/2.0 486") && told.contains("35102"), "{told}");
    assert!(world.phones[dave].call(d).up && world.phones[carol].call(c).up);
}

/// POL-01: parking is not for everybody.
#[test]
fn who_may_not_park_is_told_so() {
    let mut world = World::new();
    let [alice, dave] = world.phones(["alice", "dave"]);
    let (a, d) = world.connect(alice, dave);
    world.act(dave, |phone| phone.refer(d, "sip:park@example.test"));
    world.run_for(second() * 3);
    let told = world.phones[dave].call(d).notified.last().unwrap().clone();
    assert!(told.starts_with("SIP/2.0 403") && told.contains("35103"), "{told}");
    assert!(world.phones[alice].call(a).up && world.phones[dave].call(d).up);
}

/// CP-13, SIP-08: the parked party hangs up.
#[test]
fn the_caller_hangs_up_and_the_orbit_is_free() {
    let Parked { mut world, alice, a, .. } = parked();
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second());
    assert!(world.occupants().is_empty());
    world.run_for(second() * 40);
    for kind in ["legs", "flows", "operations", "subscriptions", "streams", "watches"] {
        assert!(!world.alive().contains_key(kind), "{:?}", world.alive());
    }
}

/// The parker hangs up as soon as his REFER is accepted: the park goes on, and he is told the orbit all the same.
#[test]
fn a_parker_who_hangs_up_at_once_is_still_told() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.phones[bob].bye_on_accepted = true;
    world.act(bob, |phone| phone.refer(b, "sip:7005@example.test"));
    world.run_for(second() * 3);
    assert!(world.phones[alice].call(a).up, "the caller is never dropped");
    assert_eq!(world.occupants(), [("7005".to_owned(), "parked".to_owned())]);
    assert!(world.phones[bob].call(b).notified.last().unwrap().starts_with("SIP/2.0 200"));
}

/// §7: the music offer is refused, so the call is parked in silence rather than not at all.
#[test]
fn a_phone_that_refuses_the_music_is_parked_in_silence() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.phones[alice].refuse_reinvites = vec![Status::NOT_ACCEPTABLE_HERE];
    world.act(bob, |phone| phone.refer(b, "sip:7006@example.test"));
    world.run_for(second() * 3);
    assert_eq!(world.occupants(), [("7006".to_owned(), "parked".to_owned())]);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("a=inactive"));
}

/// CP-14: a full lot keeps the call with its parker.
#[test]
fn a_full_lot_says_so() {
    let mut world = World::new();
    let refused = world.ask(Request::PutRange(switchyard_host::admin::RangeSpec {
        name: "east-park".to_owned(),
        from: "7000".to_owned(),
        to: "7000".to_owned(),
        kind: "call-park".to_owned(),
        pool: "east".to_owned(),
    }));
    refused.unwrap();
    let Parked { mut world, bob, carol, .. } = parked_in(world, "sip:park@example.test");
    let dave = world.add_phone("dave");
    world.act(dave, |phone| phone.register(3600));
    world.run_for(second());
    let (d, c) = world.connect(dave, carol);
    world.act(carol, |phone| phone.refer(c, "sip:park@example.test"));
    world.run_for(second() * 3);
    let told = world.phones[carol].call(c).notified.last().unwrap().clone();
    assert!(told.starts_with("SIP/2.0 480") && told.contains("35002"), "{told}");
    assert!(world.phones[dave].call(d).up && world.phones[carol].call(c).up);
    let _ = bob;
}

/// CP-03, CP-13: the parker is told, in words, who took the call or that the caller hung up.
#[test]
fn the_parker_learns_what_became_of_the_call() {
    let Parked { mut world, bob, carol, number, .. } = parked();
    let uri = format!("sip:{number}@example.test");
    world.act(carol, |phone| phone.invite(&uri, &[], true));
    world.run_for(second() * 2);
    assert_eq!(world.phones[bob].messages.last().unwrap(), &format!("{number}: Alice was taken by Carol"));

    let Parked { mut world, alice, a, bob, number, .. } = parked();
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 2);
    assert_eq!(world.phones[bob].messages.last().unwrap(), &format!("{number}: Alice hung up"));
}

/// A second transfer of a call that is being moved already is refused: nobody is in an orbit and in a conversation.
#[test]
fn a_park_while_a_transfer_rings_is_refused() {
    let mut world = World::new();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:carol@example.test"));
    world.run_for(second());
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test"));
    world.run_for(second());
    assert!(world.phones[bob].call(b).notified.last().unwrap().starts_with("SIP/2.0 491"));
    let ringing = world.phones[carol].last();
    world.act(carol, |phone| phone.answer(ringing));
    world.run_for(second() * 5);
    assert!(world.occupants().is_empty());
    assert!(world.phones[alice].call(a).up && world.phones[carol].call(ringing).up);
}

/// Both park each other at the same moment: one of them does, and nobody is hung up on.
#[test]
fn two_phones_that_park_each_other_do_not_both_vanish() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
    world.act(alice, |phone| phone.refer(a, "sip:7003@example.test"));
    world.run_for(second() * 6);
    assert_eq!(world.occupants().len(), 1);
    let parked = world.phones[alice].call(a).up || world.phones[bob].call(b).up;
    assert!(parked, "whoever was parked is still there");
}

/// Resuming in the two seconds between a park and the host's BYE takes the call back.
#[test]
fn a_parker_who_resumes_at_once_takes_his_call_back() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
    world.run_for(second());
    world.act(bob, |phone| phone.reinvite(b, "sendrecv"));
    world.run_for(second() * 5);
    assert!(world.occupants().is_empty());
    assert!(world.phones[alice].call(a).up && world.phones[bob].call(b).up);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.2"));
}

/// The host hangs up on a parker two seconds after the park. If he resumes at that very moment, either he has his
/// caller again, or he is gone and she is parked: a leg with a new role is never hung up on.
#[test]
fn a_parker_who_resumes_as_he_is_let_go_keeps_what_he_got() {
    let mut outcomes = Vec::new();
    for after_ms in (1980..=2060).step_by(5) {
        let mut world = World::new();
        let [alice, bob] = world.phones(["alice", "bob"]);
        let (a, b) = world.connect(alice, bob);
        world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
        world.run_for(Duration::from_millis(after_ms));
        world.act(bob, |phone| phone.reinvite(b, "sendrecv"));
        world.run_for(second() * 5);
        assert!(world.phones[alice].call(a).up, "{after_ms} ms");
        let heard = world.phones[alice].call(a).heard.clone().unwrap();
        let together = world.phones[bob].call(b).up;
        outcomes.push(together);
        if together {
            assert!(world.occupants().is_empty(), "{after_ms} ms");
            assert!(heard.contains("10.0.0.2"), "{after_ms} ms: {heard}");
        } else {
            assert_eq!(world.occupants(), [("7001".to_owned(), "parked".to_owned())], "{after_ms} ms");
            assert!(heard.contains("192.0.2.1"), "{after_ms} ms: {heard}");
        }
    }
    assert!(outcomes[0] && !outcomes[outcomes.len() - 1], "both orders have been seen: {outcomes:?}");
}

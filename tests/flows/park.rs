//! Call Park through the real plugin library (facts.md §1.1, design.md §7).

use std::time::Duration;

use expect_test::expect;
use serde_json::json;
use switchyard_host::admin::Request;
use switchyard_host::sip::{Name, Status};

use crate::harness::{CallId, OnRing, World, WorldOptions};

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

/// Bob parks Alice; Carol takes the call from her own phone (RFC 5359 §2.15).
#[test]
fn parked_call_is_retrieved_from_another_phone() {
    let mut world = World::new();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (a, b) = world.connect(alice, bob);
    world.start_ladder();
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test;orbit=7001"));
    world.run_for(second() * 4);
    expect![[r#"
        +0.000  bob   -> host   REFER to sip:park@example.test;orbit=7001
        +0.010  host  -> bob    202 Accepted
        +0.010  host  -> bob    NOTIFY SIP/2.0 100 Trying
        +0.010  host  -> alice  INVITE (sdp)
        +0.020  bob   -> host   200 OK
        +0.020  alice -> host   200 OK (sdp)
        +0.030  host  -> alice  ACK
        +0.031  host  -> bob    UPDATE
        +0.031  host  -> bob    NOTIFY SIP/2.0 200 OK
        +0.031  host  -> bob    MESSAGE sip:bob@10.0.0.2:5060
        +0.041  bob   -> host   200 OK
        +0.041  bob   -> host   200 OK
        +0.041  bob   -> host   200 OK
        +2.031  host  -> bob    BYE (SIP;cause=200;text="Transfer completed")
        +2.041  bob   -> host   200 OK
    "#]]
    .assert_eq(&world.ladder());
    assert_eq!(world.occupants(), [("7001".to_owned(), "parked".to_owned())]);
    assert_eq!(world.streams.len(), 1, "Alice hears music");
    let told = world.phones[bob].call(b).notified.last().unwrap().clone();
    assert!(
        told.contains("SIP/2.0 200 OK") && told.contains("Contact: <sip:7001@example.test;token="),
        "{told}"
    );

    world.start_ladder();
    let c = world.act(carol, |phone| phone.invite("sip:7001@example.test", &[], true));
    world.run_for(second());
    expect![[r#"
        +0.000  carol -> host   INVITE sip:7001@example.test (sdp)
        +0.010  host  -> carol  401 Unauthorized
        +0.020  carol -> host   ACK
        +0.020  carol -> host   INVITE sip:7001@example.test (sdp)
        +0.030  host  -> carol  100 Trying
        +0.030  host  -> alice  INVITE (sdp)
        +0.040  alice -> host   200 OK (sdp)
        +0.050  host  -> alice  ACK
        +0.050  host  -> carol  200 OK (sdp)
        +0.050  host  -> bob    MESSAGE sip:bob@10.0.0.2:5060
        +0.060  carol -> host   ACK
        +0.060  bob   -> host   200 OK
    "#]]
    .assert_eq(&world.ladder());
    assert!(world.phones[carol].call(c).up);
    assert!(world.phones[carol].call(c).heard.as_ref().unwrap().contains("10.0.0.1"));
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.3"));
    assert!(world.occupants().is_empty());
    assert!(world.streams.is_empty(), "the port is given back");

    world.act(carol, |phone| phone.hang_up(c));
    world.run_for(second() * 40);
    assert!(world.phones[alice].call(a).over);
    for kind in ["legs", "flows", "operations", "subscriptions", "streams", "watches"] {
        assert!(!world.alive().contains_key(kind), "{:?}", world.alive());
    }
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

#[test]
fn a_vacant_orbit_is_not_found() {
    let mut world = World::new();
    let [carol] = world.phones(["carol"]);
    let c = world.act(carol, |phone| phone.invite("sip:7050@example.test", &[], true));
    world.run_for(second() * 3);
    let call = world.phones[carol].call(c);
    assert_eq!(call.failed, Some(Status::NOT_FOUND));
    assert!(call.warning.as_ref().unwrap().contains("35000"), "{:?}", call.warning);
}

/// CP-19: a token guards against an orbit that was used again.
#[test]
fn a_wrong_token_gets_no_call() {
    let Parked { mut world, alice, a, carol, number, .. } = parked();
    let uri = format!("sip:{number}@example.test;token=stale");
    let c = world.act(carol, |phone| phone.invite(&uri, &[], true));
    world.run_for(second());
    let call = world.phones[carol].call(c);
    assert_eq!(call.failed, Some(Status::NOT_FOUND));
    assert!(call.warning.as_ref().unwrap().contains("35010"), "{:?}", call.warning);
    assert!(world.phones[alice].call(a).up);
    assert_eq!(world.occupants().len(), 1);
}

#[test]
fn second_claimant_is_told_who_won() {
    let Parked { mut world, bob, carol, number, .. } = parked();
    let uri = format!("sip:{number}@example.test");
    let c = world.act(carol, |phone| phone.invite(&uri, &[], true));
    world.run_for(Duration::from_millis(1));
    let b2 = world.act(bob, |phone| phone.invite(&uri, &[], true));
    world.run_for(second() * 2);
    assert!(world.phones[carol].call(c).up);
    let loser = world.phones[bob].call(b2);
    assert_eq!(loser.failed, Some(Status::BUSY_HERE));
    let warning = loser.warning.as_ref().unwrap();
    assert!(warning.contains("35101") && warning.contains("Carol"), "{warning}");
}

#[test]
fn the_oldest_call_is_taken_by_dialling_unpark() {
    let Parked { mut world, alice, a, carol, .. } = parked();
    let c = world.act(carol, |phone| phone.invite("sip:unpark@example.test", &[], true));
    world.run_for(second());
    assert!(world.phones[carol].call(c).up);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.3"));
}

/// CP-07 (1), (2): after pickup_timeout the parker's phone rings and says whom it rings for.
#[test]
fn recall_rings_parker_when_hold_expires() {
    let Parked { mut world, alice, a, bob, number, .. } = parked();
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.run_for(second() * 86);
    assert_eq!(world.phones[bob].calls.len(), 1, "not yet");
    world.run_for(second() * 10);
    assert_eq!(world.told("orbit.recalling").len(), 1);
    let back = world.phones[bob].last();
    let invite = world.phones[bob].call(back).invite.clone();
    assert!(invite.from().starts_with(&format!("\"Parked call {number}: Alice\"")), "{}", invite.from());
    assert!(invite.get(Name::AlertInfo).unwrap().contains("recall"));
    assert!(world.phones[bob].call(back).up);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.2"));
    assert!(world.occupants().is_empty());
}

/// CP-07 (5): no address, one attempt: the call ends, and the orbit is free.
#[test]
fn nobody_answers_and_no_address_is_set_so_the_call_ends() {
    let Parked { mut world, alice, a, .. } = parked();
    world.run_for(second() * (90 + 31));
    assert!(world.phones[alice].call(a).over);
    assert!(world.occupants().is_empty());
}

/// CP-07 (3), (4): two attempts with the whole threshold between them, then the on-timeout address.
#[test]
fn attempts_are_counted_and_then_the_address_rings() {
    let policy = r#"
local base = require "default"
return base:extend { call_park = {
  pickup_timeout = "10s", max_recall_attempts = 2, recall_ring_time = "5s",
  on_timeout_uri = "sip:carol@example.test",
} }"#;
    let options = WorldOptions {
        policies: vec![("pools/east.lua".to_owned(), policy.to_owned())],
        ..WorldOptions::default()
    };
    let Parked { mut world, alice, a, bob, carol, .. } =
        parked_in(World::with(options), "sip:park@example.test");
    world.phones[carol].on_ring = OnRing::AnswerAfter(second());
    world.run_for(second() * 9);
    assert_eq!(world.phones[bob].calls.len(), 2, "first ring-back");
    world.run_for(second() * 14);
    assert_eq!(world.phones[bob].calls.len(), 3, "second ring-back, a whole threshold later");
    world.run_for(second() * 8);
    assert!(world.phones[carol].call(world.phones[carol].last()).up);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.3"));
    assert!(world.occupants().is_empty());
}

/// An operator who looks while the parker's phone rings sees that: whom, which recall of how many, and until when.
#[test]
fn who_looks_on_sees_the_recall_and_its_count() {
    let policy = r#"
local base = require "default"
return base:extend { call_park = {
  pickup_timeout = "10s", max_recall_attempts = 2, recall_ring_time = "5s",
  on_timeout_uri = "sip:carol@example.test",
} }"#;
    let options = WorldOptions {
        policies: vec![("pools/east.lua".to_owned(), policy.to_owned())],
        ..WorldOptions::default()
    };
    let Parked { mut world, bob, carol, .. } = parked_in(World::with(options), "sip:park@example.test");
    let look = |world: &mut World, after: u32| {
        world.run_for(second() * after);
        let answer = world.ask(Request::Occupants).unwrap();
        let row = answer[0].clone();
        // When the next step is due, in seconds since the park.
        let due = (row["deadline"].as_u64().unwrap() - row["since"].as_u64().unwrap() + 500) / 1000;
        let fields = ["state", "ringing", "recalls", "recalls_max"].map(|field| row[field].clone());
        json!([fields, due])
    };
    assert_eq!(look(&mut world, 0), json!([["parked", null, 0, null], 10]));
    assert_eq!(look(&mut world, 9), json!([["recalling", "Bob", 1, 2], 15]));
    // Between the two it waits as before, and one has been.
    assert_eq!(look(&mut world, 5), json!([["parked", null, 1, null], 25]));
    assert_eq!(look(&mut world, 9), json!([["recalling", "Bob", 2, 2], 30]));
    assert_eq!(world.phones[bob].calls.len(), 3);
    assert_eq!(look(&mut world, 5), json!([["ringing", "Carol", 2, null], 35]));
    assert_eq!(world.phones[carol].calls.len(), 1);
}

/// The issue's own sentence: edit the policy while a call is parked and see the next timer follow it.
#[test]
fn the_next_timer_follows_a_policy_edited_while_a_call_waits() {
    let Parked { mut world, bob, .. } = parked();
    let policy = r#"
local base = require "default"
return base:extend { call_park = { pickup_timeout = "20s", max_recall_attempts = 3, recall_ring_time = "5s" } }"#;
    world.edit_policies(&[("pools/east.lua", policy)]);
    assert_eq!(world.told("policy.loaded").len(), 1, "{:?}", world.told("policy.refused"));
    // The running timer is left alone …
    world.run_for(second() * 80);
    assert_eq!(world.phones[bob].calls.len(), 1);
    // … the ring-back and the next wait read the new terms.
    world.run_for(second() * 14);
    assert_eq!(world.phones[bob].calls.len(), 2);
    world.run_for(second() * 24);
    assert_eq!(world.phones[bob].calls.len(), 3, "rung again after 20 s, not 90");
}

#[test]
fn a_broken_policy_changes_nothing() {
    let Parked { mut world, bob, .. } = parked();
    world.edit_policies(&[("pools/east.lua", "return { call_park = { pickup_timout = 3 } }")]);
    assert_eq!(world.told("policy.refused").len(), 1);
    world.run_for(second() * 95);
    assert_eq!(world.phones[bob].calls.len(), 2, "rung back after 90 s, as before");
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

/// Facts §6 no. 6: a claim during a ring-back wins, and the parker's phone stops as answered elsewhere.
#[test]
fn a_claim_during_the_ring_back_wins() {
    let Parked { mut world, alice, a, bob, carol, number, .. } = parked();
    world.run_for(second() * 95);
    let back = world.phones[bob].last();
    assert!(!world.phones[bob].call(back).over, "the parker's phone rings");
    let uri = format!("sip:{number}@example.test");
    let c = world.act(carol, |phone| phone.invite(&uri, &[], true));
    world.run_for(second() * 2);
    assert!(world.phones[carol].call(c).up);
    assert!(world.phones[bob].call(back).over);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.3"));
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

/// Two-phase: the store is away, so nothing is committed, and the parker and his caller talk to each other again.
#[test]
fn a_park_that_cannot_be_stored_leaves_both_together() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.store_fails = true;
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
    world.store_fails = true;
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

/// Hold and dial: the phone holds Alice and calls the park service; the number is spoken, both its legs stay.
#[test]
fn hold_and_dial_parks_the_held_call() {
    let mut world = World::new();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    world.start_ladder();
    let dialled = world.act(bob, |phone| phone.invite("sip:7010@example.test", &[], true));
    world.run_for(second() * 2);
    expect![[r#"
        +0.000  bob   -> host   INVITE sip:7010@example.test (sdp)
        +0.010  host  -> bob    401 Unauthorized
        +0.020  bob   -> host   ACK
        +0.020  bob   -> host   INVITE sip:7010@example.test (sdp)
        +0.030  host  -> bob    100 Trying
        +0.030  host  -> alice  INVITE (sdp)
        +0.040  alice -> host   200 OK (sdp)
        +0.050  host  -> alice  ACK
        +0.051  host  -> bob    MESSAGE sip:bob@10.0.0.2:5060
        +0.051  host  -> bob    200 OK (sdp)
        +0.061  bob   -> host   200 OK
        +0.061  bob   -> host   ACK
    "#]]
    .assert_eq(&world.ladder());
    assert!(world.phones[bob].call(dialled).up);
    assert_eq!(world.occupants(), [("7010".to_owned(), "parked".to_owned())]);
    assert_eq!(world.streams.len(), 2, "Alice hears music, Bob hears the number");
    let spoken = world.streams.values().find(|stream| !stream.playlist.prompts.is_empty()).unwrap();
    assert_eq!(spoken.playlist.prompts, ["parked-on", "digits/7", "digits/0", "digits/1", "digits/0"]);

    // Another phone takes the call: the parker's held leg is cleared.
    let c = world.act(carol, |phone| phone.invite("sip:7010@example.test", &[], true));
    world.run_for(second() * 3);
    assert!(world.phones[carol].call(c).up);
    assert!(world.phones[bob].call(b).over);
    assert!(world.phones[alice].call(a).up);
}

/// §7: resuming the held leg before anyone claims is a retrieve.
#[test]
fn a_parker_who_resumes_the_held_leg_takes_his_call_back() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    let dialled = world.act(bob, |phone| phone.invite("sip:7010@example.test", &[], true));
    world.run_for(second() * 2);
    world.act(bob, |phone| phone.hang_up(dialled));
    world.run_for(second());
    world.act(bob, |phone| phone.reinvite(b, "sendrecv"));
    world.run_for(second() * 2);
    assert!(world.occupants().is_empty());
    assert!(world.phones[bob].call(b).up && world.phones[alice].call(a).up);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.2"));
    assert!(world.phones[bob].call(b).heard.as_ref().unwrap().contains("10.0.0.1"));
}

/// §7: BYE on the dialled leg leaves the held one up for ten seconds.
#[test]
fn the_held_leg_of_a_dialled_park_is_cleared_after_ten_seconds() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    let dialled = world.act(bob, |phone| phone.invite("sip:park@example.test", &[], true));
    world.run_for(second() * 2);
    world.act(bob, |phone| phone.hang_up(dialled));
    world.run_for(second() * 9);
    assert!(world.phones[bob].call(b).up);
    world.run_for(second() * 2);
    assert!(world.phones[bob].call(b).over);
    assert!(world.phones[alice].call(a).up);
    assert_eq!(world.occupants().len(), 1);
}

/// Hold and dial, finished by REFER with Replaces as an attended transfer would be: success, and both legs cleared.
#[test]
fn an_attended_transfer_to_the_park_service_parks() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    let dialled = world.act(bob, |phone| phone.invite("sip:park@example.test", &[], true));
    world.run_for(second() * 2);
    let target = world.phones[bob].replaces_uri("sip:park@example.test", dialled);
    world.act(bob, |phone| phone.refer(b, &target));
    world.run_for(second() * 4);
    let told = world.phones[bob].call(b).notified.last().unwrap().clone();
    assert!(told.starts_with("SIP/2.0 200") && told.contains("Contact: <sip:70"), "{told}");
    assert!(world.phones[bob].call(b).over && world.phones[bob].call(dialled).over);
    assert!(world.phones[alice].call(a).up);
    assert_eq!(world.occupants().len(), 1);
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

/// The retriever gives up while being connected: the call is parked again, music on.
#[test]
fn a_retriever_who_gives_up_leaves_the_call_parked() {
    let Parked { mut world, alice, a, carol, number, .. } = parked();
    let uri = format!("sip:{number}@example.test");
    let c = world.act(carol, |phone| phone.invite(&uri, &[], true));
    // The credentials have been asked for and given, the re-INVITE to Alice is on its way.
    world.run_for(Duration::from_millis(32));
    world.act(carol, |phone| phone.cancel(c));
    world.run_for(second() * 5);
    assert!(world.phones[alice].call(a).up);
    if !world.phones[carol].call(c).up {
        assert_eq!(world.occupants(), [(number, "parked".to_owned())]);
        assert_eq!(world.streams.len(), 1, "music goes on");
        assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("192.0.2.1"));
    }
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

/// Through the administrative interface: park somebody else's call, and bring it to a phone.
#[test]
fn the_administrator_parks_and_retrieves() {
    let mut world = World::new();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (a, b) = world.connect(alice, bob);
    let calls = world.ask(Request::Calls).unwrap();
    let call = calls[0]["id"].as_u64().unwrap();
    let parked =
        world.ask(Request::Park { call, parker: "bob".to_owned(), number: Some("7042".to_owned()) }).unwrap();
    assert_eq!(parked["number"], "7042");
    world.run_for(second());
    assert!(world.phones[alice].call(a).up && !world.phones[bob].call(b).up, "the parker is let go");
    world.phones[carol].on_ring = OnRing::AnswerAfter(second());
    let token = parked["token"].as_str().map(str::to_owned);
    world.ask(Request::Retrieve { number: "7042".to_owned(), user: "carol".to_owned(), token }).unwrap();
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.3"));
    assert!(world.occupants().is_empty());
}

/// Lost packets cost time; afterwards nobody is left in the dark: whatever happened, Alice is with somebody or parked.
#[test]
fn parks_survive_a_lossy_network() {
    for seed in 0..20 {
        let mut world = World::with(WorldOptions { seed, ..WorldOptions::default() });
        let [alice, bob] = world.phones(["alice", "bob"]);
        let (a, b) = world.connect(alice, bob);
        world.lose_one_in = 5;
        world.act(bob, |phone| phone.refer(b, "sip:park@example.test"));
        world.run_for(second() * 30);
        world.lose_one_in = 0;
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

/// Hold and dial from a phone without a codec of ours: it cannot hear the number, but its caller is parked.
#[test]
fn a_dialling_phone_that_cannot_hear_the_number_has_parked_all_the_same() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    world.phones[bob].codecs = "18";
    let dialled = world.act(bob, |phone| phone.invite("sip:7010@example.test", &[], true));
    world.run_for(second() * 3);
    assert_eq!(world.phones[bob].call(dialled).failed, Some(Status::NOT_ACCEPTABLE_HERE));
    assert_eq!(world.occupants(), [("7010".to_owned(), "parked".to_owned())]);
    assert!(world.phones[alice].call(a).up);
}

/// A recall rings the device that parked, for half the time alone, then the user's other phones beside it.
#[test]
fn a_recall_reaches_the_users_other_phone_too() {
    let Parked { mut world, alice, a, bob, .. } = parked();
    let mobile = world.add_phone("bob");
    world.act(mobile, |phone| phone.register(3600));
    world.run_for(second() * 95);
    assert_eq!(world.phones[bob].calls.len(), 2);
    assert_eq!(world.phones[mobile].calls.len(), 0, "the device that parked rings first");
    world.run_for(second() * 12);
    let ringing = world.phones[mobile].last();
    world.act(mobile, |phone| phone.answer(ringing));
    world.run_for(second() * 2);
    assert!(world.phones[mobile].call(ringing).up);
    assert!(world.phones[bob].call(world.phones[bob].last()).over);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.4"));
}

/// The connected name: a parker who dialled sees "Parked on 7010" in the answer itself.
#[test]
fn a_dialling_parker_sees_the_number_as_the_connected_name() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (_, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    let dialled = world.act(bob, |phone| phone.invite("sip:7010@example.test", &[], true));
    world.run_for(second() * 2);
    let shown = world.phones[bob].call(dialled).identity.clone().unwrap();
    assert!(shown.starts_with("Parked on 7010 <sip:7010@example.test>"), "{shown}");
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

/// The parker dials park and gives up at once: nothing is parked, and his caller is his again.
#[test]
fn a_park_by_dialling_that_is_cancelled_parks_nothing() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    let dialled = world.act(bob, |phone| phone.invite("sip:7010@example.test", &[], true));
    // The credentials have been asked for and given; the host is asking Alice to listen to the music.
    world.run_for(Duration::from_millis(35));
    world.act(bob, |phone| phone.cancel(dialled));
    world.run_for(second() * 5);
    if !world.phones[bob].call(dialled).up {
        assert!(world.occupants().is_empty(), "{:?}", world.occupants());
        assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.2"));
    }
    assert!(world.phones[alice].call(a).up && world.phones[bob].call(b).up);
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

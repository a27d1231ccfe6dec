//! What happens to a call nobody fetches: it rings its parker, then whoever the policy names.

use serde_json::json;
use switchyard_host::admin::Request;
use switchyard_host::sip::Name;

use crate::harness::{OnRing, World, WorldOptions};

use super::{Parked, parked, parked_in, second};

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

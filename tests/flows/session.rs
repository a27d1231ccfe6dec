//! What happens inside a call: session timers, probes, messages, early media, provisional responses, strays.

use std::time::Duration;

use switchyard_host::sip::{Name, Refresher, Status};

use crate::harness::{OnRing, World};

fn second() -> Duration {
    Duration::from_secs(1)
}

/// RFC 4028: a caller who asks for a short session and for us to refresh gets refreshed.
#[test]
fn the_host_refreshes_a_session_it_promised_to() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    let headers = [(Name::SessionExpires, "90;refresher=uas"), (Name::Supported, "timer")];
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &headers, true));
    world.run_for(second() * 5);
    assert!(world.phones[alice].call(call).up);
    world.start_ladder();
    world.run_for(second() * 100);
    let refreshes = world.ladder().lines().filter(|line| line.contains("host  -> alice  UPDATE")).count();
    assert!(refreshes >= 2, "{}", world.ladder());
    assert!(world.phones[alice].call(call).up);
}

#[test]
fn a_session_interval_that_is_too_short_is_refused_with_the_least() {
    let mut world = World::new();
    let [alice, _] = world.phones(["alice", "bob"]);
    let headers = [(Name::SessionExpires, "20"), (Name::Supported, "timer")];
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &headers, true));
    world.run_for(second());
    assert_eq!(world.phones[alice].call(call).failed, Some(Status::SESSION_INTERVAL_TOO_SMALL));
}

/// A phone that was to refresh and says nothing of time any more, when it is asked for something else: the host does it.
#[test]
fn a_phone_that_stops_keeping_time_keeps_its_call() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.phones[alice].keeps_time = Some(Refresher::Uac);
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(second() * 5);
    world.phones[alice].keeps_time = None;
    let b = world.phones[bob].last();
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second() * 5);
    world.start_ladder();
    world.run_for(second() * 200);
    assert!(world.phones[alice].call(call).up && world.phones[bob].call(b).up, "{}", world.ladder());
    assert!(world.ladder().contains("host  -> alice  UPDATE"), "{}", world.ladder());
}

/// A caller who vanished without a word: the session timer ends the call for the other side.
#[test]
fn a_vanished_phone_does_not_keep_its_peer_for_ever() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    let headers = [(Name::SessionExpires, "90;refresher=uac"), (Name::Supported, "timer")];
    world.act(alice, |phone| phone.invite("sip:bob@example.test", &headers, true));
    world.run_for(second() * 5);
    let b = world.phones[bob].last();
    assert!(world.phones[bob].call(b).up);
    world.phones[alice].dead = true;
    world.run_for(second() * 130);
    assert!(world.phones[bob].call(b).over);
    assert!(!world.alive().contains_key("legs"), "{:?}", world.alive());
}

/// design.md §3: a parked phone without session timer is asked every minute; silence twice ends it.
#[test]
fn a_vanished_parked_phone_frees_its_orbit() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
    world.run_for(second() * 3);
    assert_eq!(world.occupants().len(), 1);
    let policy = r#"
local base = require "default"
return base:extend { call_park = { pickup_timeout = "10m" } }"#;
    world.edit_policies(&[("pools/east.lua", policy)]);
    world.phones[alice].dead = true;
    world.phones[bob].on_ring = OnRing::Ring;
    world.run_for(second() * 200);
    assert!(world.occupants().is_empty());
    let _ = a;
}

#[test]
fn a_message_between_users_is_delivered() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.act(alice, |phone| phone.message("sip:bob@example.test", "lunch?"));
    world.run_for(second());
    assert_eq!(world.phones[bob].messages, ["lunch?"]);
}

#[test]
fn an_info_reaches_the_other_side() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, _) = world.connect(alice, bob);
    world.start_ladder();
    world.act(alice, |phone| phone.info(a, "application/dtmf-relay", "Signal=5\r\nDuration=160\r\n"));
    world.run_for(second());
    assert!(world.ladder().contains("host  -> bob    INFO"), "{}", world.ladder());
    assert!(world.ladder().contains("host  -> alice  200 OK"), "{}", world.ladder());
}

#[test]
fn hops_run_out() {
    let mut world = World::new();
    let [alice, _] = world.phones(["alice", "bob"]);
    let call =
        world.act(alice, |phone| phone.invite("sip:bob@example.test", &[(Name::MaxForwards, "0")], true));
    world.run_for(second());
    assert_eq!(world.phones[alice].call(call).failed, Some(Status::TOO_MANY_HOPS));
}

/// Early media: what a ringing phone describes in its 183 reaches the caller, and its 200 needs no second answer.
#[test]
fn early_media_reaches_the_caller() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].early_media = true;
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.start_ladder();
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(Duration::from_millis(500));
    assert!(world.ladder().contains("host  -> alice  183 Session Progress (sdp)"), "{}", world.ladder());
    world.run_for(second() * 2);
    assert!(world.phones[alice].call(call).up);
}

/// RFC 3262: a reliable 183 is acknowledged on both sides, each with its own numbers.
#[test]
fn reliable_provisional_responses_are_acknowledged_on_both_sides() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].early_media = true;
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.start_ladder();
    let headers = [(Name::Supported, "100rel")];
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &headers, true));
    world.run_for(second() * 3);
    let ladder = world.ladder();
    assert!(ladder.contains("alice -> host   PRACK") && ladder.contains("host  -> bob    PRACK"), "{ladder}");
    assert!(world.phones[alice].call(call).up, "{ladder}");
}

/// A stranger knows no tags: requests in dialogs we do not have are 481.
#[test]
fn requests_in_unknown_dialogs_are_refused() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, _) = world.connect(alice, bob);
    world.start_ladder();
    world.act(alice, |phone| {
        let dialog = phone.calls[a.0].dialog.as_mut().unwrap();
        dialog.remote_tag = "guessed".to_owned();
        phone.hang_up(a);
    });
    world.run_for(second());
    assert!(world.ladder().contains("481"), "{}", world.ladder());
    assert!(world.phones[bob].call(world.phones[bob].last()).up);
}

/// A caller who never acknowledges the answer is given up, and so is whoever answered him.
#[test]
fn an_answer_nobody_acknowledges_strands_nobody() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(Duration::from_millis(1030));
    world.phones[alice].dead = true;
    world.run_for(second() * 80);
    assert!(world.phones[bob].call(world.phones[bob].last()).over);
    assert!(!world.alive().contains_key("legs"), "{:?}", world.alive());
}

//! Calls between phones: answer, refusal, forking, hold, early media, the end of calls.

use std::time::Duration;

use expect_test::expect;
use switchyard_host::sip::{Name, Status};

use crate::harness::{OnRing, Weather, World};

fn second() -> Duration {
    Duration::from_secs(1)
}

/// Alice calls Bob by name; he answers; she hangs up.
#[test]
fn a_call_is_answered_and_ended() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.start_ladder();
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(second() * 3);
    world.act(alice, |phone| phone.hang_up(call));
    world.run_until_quiet();

    expect![[r#"
        +0.000  alice -> host   INVITE sip:bob@example.test (sdp)
        +0.010  host  -> alice  401 Unauthorized
        +0.020  alice -> host   ACK
        +0.020  alice -> host   INVITE sip:bob@example.test (sdp)
        +0.030  host  -> alice  100 Trying
        +0.030  host  -> bob    INVITE sip:bob@10.0.0.2:5060 (sdp)
        +0.040  bob   -> host   180 Ringing
        +0.050  host  -> alice  180 Ringing
        +1.040  bob   -> host   200 OK (sdp)
        +1.050  host  -> bob    ACK
        +1.050  host  -> alice  200 OK (sdp)
        +1.060  alice -> host   ACK
        +3.000  alice -> host   BYE
        +3.010  host  -> alice  200 OK
        +3.010  host  -> bob    BYE
        +3.020  bob   -> host   200 OK
    "#]]
    .assert_eq(&world.ladder());
    let heard = world.phones[alice].call(call).heard.clone().unwrap();
    assert!(heard.contains("c=IN IP4 10.0.0.2"), "media flows from phone to phone: {heard}");
}

#[test]
fn an_extension_reaches_its_user() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    let call = world.act(alice, |phone| phone.invite("sip:1002@example.test", &[], true));
    world.run_for(second() * 3);
    assert!(world.phones[alice].call(call).up);
    let from = world.phones[bob].call(world.phones[bob].last()).invite.from().to_owned();
    assert!(from.starts_with("Alice <sip:alice@example.test>"), "{from}");
}

#[test]
fn a_number_nobody_has_is_not_found() {
    let mut world = World::new();
    let [alice] = world.phones(["alice"]);
    let call = world.act(alice, |phone| phone.invite("sip:1099@example.test", &[], true));
    world.run_for(second());
    assert_eq!(world.phones[alice].call(call).failed, Some(Status::NOT_FOUND));
}

#[test]
fn a_user_without_phone_is_temporarily_unavailable() {
    let mut world = World::new();
    let [alice] = world.phones(["alice"]);
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(second());
    assert_eq!(world.phones[alice].call(call).failed, Some(Status::TEMPORARILY_UNAVAILABLE));
}

#[test]
fn a_wrong_password_gets_nowhere() {
    let mut world = World::new();
    let [alice, _] = world.phones(["alice", "bob"]);
    world.phones[alice].password = "wrong".to_owned();
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(second());
    assert_eq!(world.phones[alice].call(call).failed, Some(Status::UNAUTHORIZED));
    assert_eq!(world.told("auth.refused").len(), 1);
}

#[test]
fn a_busy_callee_is_busy_for_the_caller() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].on_ring = OnRing::Refuse(Status::BUSY_HERE);
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_until_quiet();
    assert_eq!(world.phones[alice].call(call).failed, Some(Status::BUSY_HERE));
    assert!(!world.alive().contains_key("legs"), "{:?}", world.alive());
}

#[test]
fn a_caller_who_gives_up_stops_the_ringing() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(second());
    world.act(alice, |phone| phone.cancel(call));
    world.run_until_quiet();
    assert_eq!(world.phones[alice].call(call).failed, Some(Status::REQUEST_TERMINATED));
    assert!(world.phones[bob].call(world.phones[bob].last()).over);
    assert!(!world.alive().contains_key("legs"), "{:?}", world.alive());
}

/// All phones of a user ring; those that lose are told that the call was answered elsewhere (RFC 3326).
#[test]
fn the_first_phone_that_answers_has_the_call() {
    let mut world = World::new();
    let [alice, desk] = world.phones(["alice", "bob"]);
    let mobile = world.add_phone("bob");
    world.act(mobile, |phone| phone.register(3600));
    world.run_for(second());
    world.phones[mobile].on_ring = OnRing::AnswerAfter(second());
    world.start_ladder();
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(second() * 3);

    assert!(world.phones[alice].call(call).up);
    assert!(world.phones[desk].call(world.phones[desk].last()).over);
    let ladder = world.ladder();
    assert!(ladder.contains("host  -> bob    CANCEL"), "{ladder}");
    assert!(ladder.contains("Call completed elsewhere"), "{ladder}");
}

#[test]
fn hold_and_resume_reach_the_other_phone() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.start_ladder();
    world.act(alice, |phone| phone.reinvite(a, "sendonly"));
    world.run_for(second());
    assert!(world.phones[bob].call(b).heard.as_ref().unwrap().contains("a=sendonly"));
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("a=recvonly"));
    world.act(alice, |phone| phone.reinvite(a, "sendrecv"));
    world.run_for(second());
    assert!(!world.phones[bob].call(b).heard.as_ref().unwrap().contains("a=sendonly"));
    expect![[r#"
        +0.000  alice -> host   INVITE (sdp sendonly)
        +0.010  host  -> alice  100 Trying
        +0.010  host  -> bob    INVITE (sdp sendonly)
        +0.020  bob   -> host   200 OK (sdp)
        +0.030  host  -> bob    ACK
        +0.030  host  -> alice  200 OK (sdp)
        +0.040  alice -> host   ACK
        +1.000  alice -> host   INVITE (sdp)
        +1.010  host  -> alice  100 Trying
        +1.010  host  -> bob    INVITE (sdp)
        +1.020  bob   -> host   200 OK (sdp)
        +1.030  host  -> bob    ACK
        +1.030  host  -> alice  200 OK (sdp)
        +1.040  alice -> host   ACK
    "#]]
    .assert_eq(&world.ladder());
}

#[test]
fn two_holds_at_once_are_glare_and_both_calls_live() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.start_ladder();
    world.act(alice, |phone| phone.reinvite(a, "sendonly"));
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_until_quiet();
    assert!(world.ladder().contains("491"), "{}", world.ladder());
    assert!(world.phones[alice].call(a).up && world.phones[bob].call(b).up);
}

/// A caller without offer gets the callee's offer in the 200, and answers in the ACK.
#[test]
fn a_late_offer_crosses_the_host() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.start_ladder();
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], false));
    world.run_for(second() * 3);
    assert!(world.phones[alice].call(call).heard.as_ref().unwrap().contains("10.0.0.2"));
    expect![[r#"
        +0.000  alice -> host   INVITE sip:bob@example.test
        +0.010  host  -> alice  401 Unauthorized
        +0.020  alice -> host   ACK
        +0.020  alice -> host   INVITE sip:bob@example.test
        +0.030  host  -> alice  100 Trying
        +0.030  host  -> bob    INVITE sip:bob@10.0.0.2:5060
        +0.040  bob   -> host   180 Ringing
        +0.050  host  -> alice  180 Ringing
        +1.040  bob   -> host   200 OK (sdp)
        +1.050  host  -> alice  200 OK (sdp)
        +1.060  alice -> host   ACK (sdp)
        +1.070  host  -> bob    ACK (sdp)
    "#]]
    .assert_eq(&world.ladder());
}

#[test]
fn an_unknown_extension_that_is_required_is_refused() {
    let mut world = World::new();
    let [alice, _] = world.phones(["alice", "bob"]);
    let call =
        world.act(alice, |phone| phone.invite("sip:bob@example.test", &[(Name::Require, "teleport")], true));
    world.run_for(second());
    assert_eq!(world.phones[alice].call(call).failed, Some(Status::BAD_EXTENSION));
}

/// Lost packets cost time, never a call.
#[test]
fn a_lossy_network_still_connects() {
    for seed in 0..20 {
        let mut world = World::with(crate::harness::WorldOptions { seed, ..Default::default() });
        let [alice, bob] = world.phones(["alice", "bob"]);
        world.network.weather = Weather::losing(250);
        world.phones[bob].on_ring = OnRing::AnswerAfter(second());
        let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
        world.run_for(second() * 40);
        world.network.weather = Weather::FAIR;
        assert!(
            world.phones[alice].call(call).up,
            "seed {seed}: {:?}",
            world.phones[alice].call(call).failed
        );
        world.act(alice, |phone| phone.hang_up(call));
        world.run_for(second() * 70);
        assert!(!world.alive().contains_key("legs"), "seed {seed}: {:?}", world.alive());
    }
}

/// A phone that is switched off without a word: the caller is told after the transaction's own time (RFC 3261 Timer B).
#[test]
fn a_phone_that_has_vanished_times_out() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].dead = true;
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(second() * 40);
    assert_eq!(world.phones[alice].call(call).failed, Some(Status::REQUEST_TIMEOUT));
    assert!(!world.alive().contains_key("legs"), "{:?}", world.alive());
}

/// A phone that says it tries and then nothing: the host gives up after three minutes (RFC 3261 Timer C).
#[test]
fn a_phone_that_never_makes_up_its_mind_is_given_up() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].on_ring = OnRing::Ignore;
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(second() * 170);
    assert_eq!(world.phones[alice].call(call).failed, None);
    world.run_for(second() * 30);
    assert_eq!(world.phones[alice].call(call).failed, Some(Status::REQUEST_TIMEOUT));
    world.run_for(second() * 40);
    assert!(!world.alive().contains_key("legs"), "{:?}", world.alive());
}

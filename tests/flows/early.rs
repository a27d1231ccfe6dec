//! Offers before the answer: UPDATE between early dialogs (RFC 3311), and new offers in a PRACK (RFC 3262 §5).

use std::time::Duration;

use expect_test::expect;
use switchyard_host::sip::{Name, Status};

use crate::harness::{CallId, OnRing, World};

fn second() -> Duration {
    Duration::from_secs(1)
}

/// Alice calls Bob, whose phone has described its early media reliably and goes on ringing.
fn ringing(prepare: impl FnOnce(&mut World, usize, usize)) -> (World, usize, CallId, usize, CallId) {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].early_media = true;
    world.phones[bob].on_ring = OnRing::Ring;
    prepare(&mut world, alice, bob);
    let headers = [(Name::Supported, "100rel")];
    let a = world.act(alice, |phone| phone.invite("sip:bob@example.test", &headers, true));
    world.run_for(second());
    let b = world.phones[bob].last();
    (world, alice, a, bob, b)
}

fn heard(world: &World, phone: usize, call: CallId) -> &str {
    world.phones[phone].call(call).heard.as_deref().unwrap_or_default()
}

/// Both ways in turn: the offer crosses to the other early dialog, and its answer comes back.
#[test]
fn an_update_before_the_answer_reaches_the_other_side() {
    let (mut world, alice, a, bob, b) = ringing(|_, _, _| {});
    world.start_ladder();
    world.act(alice, |phone| phone.update(a, "sendonly"));
    world.run_for(second());
    assert!(heard(&world, bob, b).contains("a=sendonly"), "{}", heard(&world, bob, b));
    assert!(heard(&world, bob, b).contains("c=IN IP4 10.0.0.1"), "{}", heard(&world, bob, b));
    assert!(heard(&world, alice, a).contains("a=recvonly"), "{}", heard(&world, alice, a));
    world.act(bob, |phone| phone.update(b, "inactive"));
    world.run_for(second());
    assert!(heard(&world, alice, a).contains("a=inactive"), "{}", heard(&world, alice, a));
    world.act(bob, |phone| phone.answer(b));
    world.run_for(second());
    world.act(alice, |phone| phone.reinvite(a, "sendrecv"));
    world.run_for(second());
    assert!(world.phones[alice].call(a).up && world.phones[bob].call(b).up);
    assert!(!heard(&world, bob, b).contains("a=inactive"), "{}", heard(&world, bob, b));
    expect![[r#"
        +0.000  alice -> host   UPDATE (sdp sendonly)
        +0.010  host  -> bob    UPDATE (sdp sendonly)
        +0.020  bob   -> host   200 OK (sdp)
        +0.030  host  -> alice  200 OK (sdp)
        +1.000  bob   -> host   UPDATE (sdp inactive)
        +1.010  host  -> alice  UPDATE (sdp inactive)
        +1.020  alice -> host   200 OK (sdp)
        +1.030  host  -> bob    200 OK (sdp)
        +2.000  bob   -> host   200 OK (sdp)
        +2.010  host  -> bob    ACK
        +2.010  host  -> alice  200 OK (sdp)
        +2.020  alice -> host   ACK
        +3.000  alice -> host   INVITE (sdp)
        +3.010  host  -> alice  100 Trying
        +3.010  host  -> bob    INVITE (sdp)
        +3.020  bob   -> host   200 OK (sdp)
        +3.030  host  -> bob    ACK
        +3.030  host  -> alice  200 OK (sdp)
        +3.040  alice -> host   ACK
    "#]]
    .assert_eq(&world.ladder());
}

/// RFC 3311 §5.2: an offer that meets one of ours on its way to the same phone is 491.
#[test]
fn updates_from_both_sides_at_once_are_glare() {
    let (mut world, alice, a, bob, b) = ringing(|_, _, _| {});
    world.act(alice, |phone| phone.update(a, "sendonly"));
    world.act(bob, |phone| phone.update(b, "inactive"));
    world.run_for(second());
    assert_eq!(world.phones[alice].call(a).updates, [(Status::OK, None)]);
    assert_eq!(world.phones[bob].call(b).updates, [(Status::REQUEST_PENDING, None)]);
    // Nothing is left of it: the next one is taken.
    world.act(bob, |phone| phone.update(b, "inactive"));
    world.run_for(second());
    assert_eq!(world.phones[bob].call(b).updates.last(), Some(&(Status::OK, None)));
}

/// RFC 3311 §5.2: a second offer while the first awaits our answer is 500, to be tried again after a while.
#[test]
fn an_update_before_the_last_one_is_answered_is_to_be_tried_later() {
    let (mut world, alice, a, _, _) = ringing(|_, _, _| {});
    world.act(alice, |phone| phone.update(a, "sendonly"));
    world.act(alice, |phone| phone.update(a, "inactive"));
    world.run_for(second());
    let updates = &world.phones[alice].call(a).updates;
    let (status, retry_after) = &updates[0];
    assert_eq!(*status, Status::SERVER_INTERNAL_ERROR);
    let pause: u64 = retry_after.as_ref().unwrap().parse().unwrap();
    assert!(pause <= 10, "{pause}");
    assert_eq!(updates[1], (Status::OK, None));
}

/// A refused offer changes nothing: the call is answered with what stood before.
#[test]
fn an_update_the_other_side_refuses_changes_nothing() {
    let (mut world, alice, a, bob, b) = ringing(|world, _, bob| {
        world.phones[bob].refuse_updates = Some(Status::NOT_ACCEPTABLE_HERE);
    });
    world.act(alice, |phone| phone.update(a, "sendonly"));
    world.run_for(second());
    assert_eq!(world.phones[alice].call(a).updates, [(Status::NOT_ACCEPTABLE_HERE, None)]);
    world.act(bob, |phone| phone.answer(b));
    world.run_for(second());
    assert!(world.phones[alice].call(a).up);
    assert!(!heard(&world, alice, a).contains("a=recvonly"), "{}", heard(&world, alice, a));
}

/// An offer in the caller's PRACK goes on in the PRACK to the branch, and the answer comes back in both 200s.
#[test]
fn a_new_offer_in_a_prack_is_answered_by_the_branch() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].early_media = true;
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.phones[alice].offer_in_prack = Some("sendonly");
    let headers = [(Name::Supported, "100rel")];
    world.start_ladder();
    let a = world.act(alice, |phone| phone.invite("sip:bob@example.test", &headers, true));
    world.run_for(Duration::from_millis(500));
    let b = world.phones[bob].last();
    assert!(heard(&world, bob, b).contains("a=sendonly"), "{}", heard(&world, bob, b));
    assert!(heard(&world, alice, a).contains("a=recvonly"), "{}", heard(&world, alice, a));
    world.run_for(second() * 2);
    assert!(world.phones[alice].call(a).up);
    expect![[r#"
        +0.000  alice -> host   INVITE sip:bob@example.test (sdp)
        +0.010  host  -> alice  401 Unauthorized
        +0.020  alice -> host   ACK
        +0.020  alice -> host   INVITE sip:bob@example.test (sdp)
        +0.030  host  -> alice  100 Trying
        +0.030  host  -> bob    INVITE sip:bob@10.0.0.2:5060 (sdp)
        +0.040  bob   -> host   183 Session Progress (sdp)
        +0.050  host  -> alice  183 Session Progress (sdp)
        +0.060  alice -> host   PRACK (sdp sendonly)
        +0.070  host  -> bob    PRACK (sdp sendonly)
        +0.080  bob   -> host   200 OK (sdp)
        +0.090  host  -> alice  200 OK (sdp)
        +1.040  bob   -> host   200 OK (sdp)
        +1.050  host  -> bob    ACK
        +1.050  host  -> alice  200 OK (sdp)
        +1.060  alice -> host   ACK
    "#]]
    .assert_eq(&world.ladder());
}

/// The branch's refusal is the caller's; the call goes on as it was.
#[test]
fn a_new_offer_in_a_prack_may_be_refused() {
    let (mut world, alice, a, bob, b) = ringing(|world, alice, bob| {
        world.phones[alice].offer_in_prack = Some("sendonly");
        world.phones[bob].refuse_updates = Some(Status::NOT_ACCEPTABLE_HERE);
    });
    assert_eq!(world.phones[alice].call(a).updates, [(Status::NOT_ACCEPTABLE_HERE, None)]);
    world.act(bob, |phone| phone.answer(b));
    world.run_for(second());
    assert!(world.phones[alice].call(a).up);
    world.act(alice, |phone| phone.hang_up(a));
    world.run_until_quiet();
    assert!(!world.alive().contains_key("legs"), "{:?}", world.alive());
}

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

/// Each phone has heard where the other one now listens, and a hold of either reaches the other and ends again.
fn in_touch(world: &mut World, [(alice, a), (bob, b)]: [(usize, CallId); 2]) {
    for (one, its, other, theirs) in [(alice, a, bob, b), (bob, b, alice, a)] {
        assert!(world.phones[one].call(its).up, "{} is not in a call", world.phones[one].name);
        let audio = format!("m=audio {} ", world.phones[other].media_port);
        assert!(heard(world, one, its).contains(&audio), "{audio}: {}", heard(world, one, its));
        for direction in ["sendonly", "sendrecv"] {
            world.act(one, |phone| phone.reinvite(its, direction));
            world.run_for(second());
            let said = heard(world, other, theirs);
            assert!(said.contains(&format!("a={direction}")), "{direction}: {said}");
        }
    }
    world.act(alice, |phone| phone.hang_up(a));
    world.run_until_quiet();
    assert!(!world.alive().contains_key("legs"), "{:?}", world.alive());
}

/// Alice moves by UPDATE while Bob answers: his 200 is not the answer to her offer, whether it describes what stood
/// before or nothing; that one comes later and goes back to her.
fn answered_before_an_update_of_the_caller(bare: bool) -> String {
    let (mut world, alice, a, bob, b) = ringing(|world, _, bob| {
        world.phones[bob].holds_updates = true;
        world.phones[bob].bare_answer = bare;
    });
    world.start_ladder();
    world.phones[alice].media_port = 30_001;
    world.act(alice, |phone| phone.update(a, "sendrecv"));
    world.run_for(Duration::from_millis(100));
    world.act(bob, |phone| phone.answer(b));
    world.run_for(Duration::from_millis(200));
    assert!(world.phones[alice].call(a).updates.is_empty(), "{:?}", world.phones[alice].call(a).updates);
    world.phones[bob].media_port = 30_002;
    world.act(bob, |phone| phone.answer_updates());
    world.run_for(Duration::from_millis(700));
    assert_eq!(world.phones[alice].call(a).updates, [(Status::OK, None)]);
    let ladder = world.ladder();
    in_touch(&mut world, [(alice, a), (bob, b)]);
    ladder
}

#[test]
fn a_bare_answer_leaves_an_update_of_the_caller_under_way() {
    expect![[r#"
        +0.000  alice -> host   UPDATE (sdp)
        +0.010  host  -> bob    UPDATE (sdp)
        +0.100  bob   -> host   200 OK
        +0.110  host  -> bob    ACK
        +0.110  host  -> alice  200 OK
        +0.120  alice -> host   ACK
        +0.300  bob   -> host   200 OK (sdp)
        +0.310  host  -> alice  200 OK (sdp)
    "#]]
    .assert_eq(&answered_before_an_update_of_the_caller(true));
}

#[test]
fn an_answer_that_repeats_the_old_session_leaves_an_update_of_the_caller_under_way() {
    expect![[r#"
        +0.000  alice -> host   UPDATE (sdp)
        +0.010  host  -> bob    UPDATE (sdp)
        +0.100  bob   -> host   200 OK (sdp)
        +0.110  host  -> bob    ACK
        +0.110  host  -> alice  200 OK
        +0.120  alice -> host   ACK
        +0.300  bob   -> host   200 OK (sdp)
        +0.310  host  -> alice  200 OK (sdp)
    "#]]
    .assert_eq(&answered_before_an_update_of_the_caller(false));
}

/// The answered call goes on as it was when the offer is refused after all.
#[test]
fn an_update_refused_after_the_answer_changes_nothing() {
    let (mut world, alice, a, bob, b) = ringing(|world, _, bob| {
        world.phones[bob].holds_updates = true;
        world.phones[bob].refuse_updates = Some(Status::NOT_ACCEPTABLE_HERE);
    });
    let before = world.phones[alice].media_port;
    world.phones[alice].media_port = 30_001;
    world.act(alice, |phone| phone.update(a, "sendrecv"));
    world.run_for(Duration::from_millis(100));
    world.act(bob, |phone| phone.answer(b));
    world.run_for(Duration::from_millis(100));
    world.act(bob, |phone| phone.answer_updates());
    world.run_for(second());
    assert_eq!(world.phones[alice].call(a).updates, [(Status::NOT_ACCEPTABLE_HERE, None)]);
    world.phones[alice].media_port = before;
    in_touch(&mut world, [(alice, a), (bob, b)]);
}

/// Bob moves by UPDATE and answers before Alice has answered that: her answer still reaches him, whether his 200
/// describes what stood before or nothing.
fn answered_before_an_update_of_the_callee(bare: bool) -> String {
    let (mut world, alice, a, bob, b) = ringing(|world, alice, bob| {
        world.phones[alice].holds_updates = true;
        world.phones[bob].bare_answer = bare;
    });
    world.start_ladder();
    let before = std::mem::replace(&mut world.phones[bob].media_port, 30_002);
    world.act(bob, |phone| phone.update(b, "sendrecv"));
    world.phones[bob].media_port = before;
    world.act(bob, |phone| phone.answer(b));
    world.phones[bob].media_port = 30_002;
    world.run_for(Duration::from_millis(300));
    assert!(world.phones[bob].call(b).updates.is_empty(), "{:?}", world.phones[bob].call(b).updates);
    world.phones[alice].media_port = 30_001;
    world.act(alice, |phone| phone.answer_updates());
    world.run_for(Duration::from_millis(700));
    assert_eq!(world.phones[bob].call(b).updates, [(Status::OK, None)]);
    let ladder = world.ladder();
    in_touch(&mut world, [(alice, a), (bob, b)]);
    ladder
}

#[test]
fn an_update_of_the_callee_is_answered_after_its_own_answer() {
    expect![[r#"
        +0.000  bob   -> host   UPDATE (sdp)
        +0.000  bob   -> host   200 OK (sdp)
        +0.010  host  -> alice  UPDATE (sdp)
        +0.010  host  -> bob    ACK
        +0.010  host  -> alice  200 OK
        +0.020  alice -> host   ACK
        +0.300  alice -> host   200 OK (sdp)
        +0.310  host  -> bob    200 OK (sdp)
    "#]]
    .assert_eq(&answered_before_an_update_of_the_callee(false));
}

#[test]
fn an_update_of_the_callee_is_answered_after_its_bare_answer() {
    expect![[r#"
        +0.000  bob   -> host   UPDATE (sdp)
        +0.000  bob   -> host   200 OK
        +0.010  host  -> alice  UPDATE (sdp)
        +0.010  host  -> bob    ACK
        +0.010  host  -> alice  200 OK
        +0.020  alice -> host   ACK
        +0.300  alice -> host   200 OK (sdp)
        +0.310  host  -> bob    200 OK (sdp)
    "#]]
    .assert_eq(&answered_before_an_update_of_the_callee(true));
}

/// The 200 to a PRACK with a new offer was lost and the 200 to the INVITE was not: the PRACK is answered later.
#[test]
fn an_offer_in_a_prack_outlives_the_answer() {
    let (mut world, alice, a, bob, b) = ringing(|world, alice, bob| {
        world.phones[alice].offer_in_prack = Some("sendrecv");
        world.phones[bob].holds_updates = true;
    });
    world.act(bob, |phone| phone.answer(b));
    world.run_for(Duration::from_millis(100));
    world.phones[bob].media_port = 30_002;
    world.act(bob, |phone| phone.answer_updates());
    world.run_for(second());
    assert_eq!(world.phones[alice].call(a).updates, [(Status::OK, None)]);
    in_touch(&mut world, [(alice, a), (bob, b)]);
}

/// Whoever hangs up meanwhile leaves nothing behind, and the UPDATE has its answer.
#[test]
fn a_hang_up_ends_an_update_that_outlives_the_answer() {
    for caller_hangs_up in [true, false] {
        let (mut world, alice, a, bob, b) = ringing(|world, _, bob| world.phones[bob].holds_updates = true);
        world.act(alice, |phone| phone.update(a, "sendrecv"));
        world.run_for(Duration::from_millis(100));
        world.act(bob, |phone| phone.answer(b));
        world.run_for(Duration::from_millis(100));
        let (who, call) = if caller_hangs_up { (alice, a) } else { (bob, b) };
        world.act(who, |phone| phone.hang_up(call));
        world.run_until_quiet();
        assert!(world.phones[alice].call(a).over && world.phones[bob].call(b).over);
        let updates = &world.phones[alice].call(a).updates;
        assert!(matches!(&updates[..], [(status, _)] if !status.is_success()), "{updates:?}");
        assert!(!world.alive().contains_key("legs"), "{:?}", world.alive());
    }
}

/// An offer too big for a datagram goes over UDP after all where nobody takes it over TCP; its answer is for its sender.
#[test]
fn the_answer_to_an_update_that_fell_back_to_udp_finds_its_sender() {
    let (mut world, alice, a, bob, b) = ringing(|_, _, _| {});
    world.phones[alice].codecs = format!("0 8 101 {}", "9".repeat(1000)).leak();
    world.phones[alice].media_port = 30_001;
    world.act(alice, |phone| phone.update(a, "sendrecv"));
    world.run_for(second());
    assert_eq!(world.phones[alice].call(a).updates, [(Status::OK, None)]);
    world.act(bob, |phone| phone.answer(b));
    world.run_for(second());
    in_touch(&mut world, [(alice, a), (bob, b)]);
}

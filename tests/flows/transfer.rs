//! Blind and attended transfer by REFER.

use std::time::Duration;

use expect_test::expect;
use switchyard_host::sip::{Name, Status};

use crate::harness::{OnRing, World};

fn second() -> Duration {
    Duration::from_secs(1)
}

/// Bob transfers Alice to Carol without asking her (RFC 5589 §6).
#[test]
fn blind_transfer_connects_the_caller_with_the_target() {
    let mut world = World::new();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (a, b) = world.connect(alice, bob);
    world.phones[carol].on_ring = OnRing::AnswerAfter(second());
    world.start_ladder();
    world.act(bob, |phone| phone.refer(b, "sip:carol@example.test"));
    world.run_until_quiet();

    assert_eq!(world.phones[bob].call(b).notified.last().unwrap(), "SIP/2.0 200 OK");
    assert!(world.phones[bob].call(b).over, "the transferor is cleared");
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.3"));
    let c = world.phones[carol].last();
    assert!(world.phones[carol].call(c).up);
    expect![[r#"
        +0.000  bob   -> host   REFER to sip:carol@example.test
        +0.010  host  -> bob    202 Accepted
        +0.010  host  -> bob    NOTIFY SIP/2.0 100 Trying
        +0.010  host  -> carol  INVITE sip:carol@10.0.0.3:5060 (sdp)
        +0.020  bob   -> host   200 OK
        +0.020  carol -> host   180 Ringing
        +0.030  host  -> bob    NOTIFY SIP/2.0 180 Ringing
        +0.040  bob   -> host   200 OK
        +1.020  carol -> host   200 OK (sdp)
        +1.030  host  -> carol  ACK
        +1.030  host  -> alice  INVITE (sdp)
        +1.040  alice -> host   200 OK (sdp)
        +1.050  host  -> alice  ACK
        +1.050  host  -> bob    NOTIFY SIP/2.0 200 OK
        +1.060  bob   -> host   200 OK
        +3.050  host  -> bob    BYE (SIP;cause=200;text="Transfer completed")
        +3.060  bob   -> host   200 OK
    "#]]
    .assert_eq(&world.ladder());
    world.act(carol, |phone| phone.hang_up(c));
    world.run_until_quiet();
    assert!(world.phones[alice].call(a).over);
    assert!(!world.alive().contains_key("legs"), "{:?}", world.alive());
}

#[test]
fn a_blind_transfer_to_a_busy_phone_leaves_the_call_as_it_was() {
    let mut world = World::new();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (a, b) = world.connect(alice, bob);
    world.phones[carol].on_ring = OnRing::Refuse(Status::BUSY_HERE);
    world.act(bob, |phone| phone.refer(b, "sip:carol@example.test"));
    world.run_until_quiet();
    assert_eq!(world.phones[bob].call(b).notified.last().unwrap(), "SIP/2.0 486 Busy Here");
    assert!(world.phones[alice].call(a).up && world.phones[bob].call(b).up);
}

/// The transferor hangs up on the 202; the target refuses; the caller is rung back to the transferor, not dropped.
#[test]
fn a_failed_transfer_comes_back_to_a_transferor_who_hung_up() {
    let mut world = World::new();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (a, b) = world.connect(alice, bob);
    world.phones[carol].on_ring = OnRing::Refuse(Status::DECLINE);
    world.phones[bob].bye_on_accepted = true;
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.act(bob, |phone| phone.refer(b, "sip:carol@example.test"));
    world.run_until_quiet();
    assert!(world.phones[alice].call(a).up, "the caller is never dropped");
    let back = world.phones[bob].last();
    assert_ne!(back, b);
    assert!(world.phones[bob].call(back).up);
    assert_eq!(world.phones[bob].call(b).notified.last().unwrap(), "SIP/2.0 603 Decline");
}

/// Bob talks to Carol first, then joins Alice with her (RFC 5589 §7).
#[test]
fn attended_transfer_joins_the_two_far_ends() {
    let mut world = World::new();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    let (consultation, c) = world.connect(bob, carol);
    let target = world.phones[bob].replaces_uri("sip:carol@example.test", consultation);
    world.start_ladder();
    world.act(bob, |phone| phone.refer(b, &target));
    world.run_until_quiet();

    assert_eq!(world.phones[bob].call(b).notified.last().unwrap(), "SIP/2.0 200 OK");
    assert!(world.phones[bob].call(b).over && world.phones[bob].call(consultation).over);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.3"));
    assert!(world.phones[carol].call(c).heard.as_ref().unwrap().contains("10.0.0.1"));
    let heard = world.phones[alice].call(a).heard.as_ref().unwrap();
    assert!(
        !heard.contains("a=recvonly") && !heard.contains("a=sendonly"),
        "nobody is left on hold: {heard}"
    );
    expect![[r#"
        +0.000  bob   -> host   REFER to sip:carol@example.test
        +0.010  host  -> bob    202 Accepted
        +0.010  host  -> bob    NOTIFY SIP/2.0 100 Trying
        +0.010  host  -> carol  INVITE (sdp)
        +0.020  bob   -> host   200 OK
        +0.020  carol -> host   200 OK (sdp)
        +0.030  host  -> carol  ACK
        +0.030  host  -> alice  INVITE (sdp)
        +0.040  alice -> host   200 OK (sdp)
        +0.050  host  -> alice  ACK
        +0.050  host  -> bob    NOTIFY SIP/2.0 200 OK
        +0.060  bob   -> host   200 OK
        +2.050  host  -> bob    BYE (SIP;cause=200;text="Transfer completed")
        +2.050  host  -> bob    BYE (SIP;cause=200;text="Transfer completed")
        +2.060  bob   -> host   200 OK
        +2.060  bob   -> host   200 OK
    "#]]
    .assert_eq(&world.ladder());
}

#[test]
fn a_refer_to_nonsense_is_told_so() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    for (target, status) in
        [("mailto:carol@example.test", Status::BAD_REQUEST), ("sip:", Status::BAD_REQUEST)]
    {
        world.act(bob, |phone| phone.refer(b, target));
        world.run_for(second());
        assert_eq!(world.phones[bob].call(b).refer_status, Some(status), "{target}");
    }
    world.act(bob, |phone| phone.refer(b, "sip:nobody@example.test"));
    world.run_for(second());
    assert_eq!(world.phones[bob].call(b).notified.last().unwrap(), "SIP/2.0 404 Not Found");
    assert!(world.phones[alice].call(a).up);
}

/// Bob takes on his second phone what rings on his first (RFC 3891 with early-only, RFC 5359 §2.16): both offers are
/// answered by the host, and the first phone is told that the call was completed elsewhere.
#[test]
fn a_ringing_call_is_taken_on_another_phone_of_the_user() {
    let mut world = World::new();
    let [alice, desk] = world.phones(["alice", "bob"]);
    let a = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(second());
    let mobile = world.add_phone("bob");
    world.act(mobile, |phone| phone.register(3600));
    world.run_for(second());
    let ringing = world.phones[desk].last();
    let invite = world.phones[desk].call(ringing).invite.clone();
    let replaces = format!("{};to-tag=bob0;from-tag={};early-only", invite.call_id(), invite.from_tag());
    world.start_ladder();
    let headers = [(Name::Replaces, replaces.as_str())];
    let taken = world.act(mobile, |phone| phone.invite("sip:bob@example.test", &headers, true));
    world.run_for(second());
    expect![[r#"
        +0.000  bob2  -> host   INVITE sip:bob@example.test (sdp)
        +0.010  host  -> bob2   401 Unauthorized
        +0.020  bob2  -> host   ACK
        +0.020  bob2  -> host   INVITE sip:bob@example.test (sdp)
        +0.030  host  -> bob    CANCEL sip:bob@10.0.0.2:5060 (SIP;cause=200;text="Call completed elsewhere")
        +0.030  host  -> alice  200 OK (sdp)
        +0.030  host  -> bob2   200 OK (sdp)
        +0.040  bob   -> host   200 OK
        +0.040  bob   -> host   487 Request Terminated
        +0.040  alice -> host   ACK
        +0.040  bob2  -> host   ACK
        +0.050  host  -> bob    ACK sip:bob@10.0.0.2:5060
    "#]]
    .assert_eq(&world.ladder());
    assert!(world.phones[mobile].call(taken).up && world.phones[alice].call(a).up);
    assert!(world.phones[desk].call(ringing).over);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.3"));
    assert!(world.phones[mobile].call(taken).heard.as_ref().unwrap().contains("10.0.0.1"));
}

/// An answered call is not for stealing: Carol has no right to Bob's dialog.
#[test]
fn an_answered_call_cannot_be_replaced_by_a_stranger() {
    let mut world = World::new();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (a, b) = world.connect(alice, bob);
    let dialog = world.phones[bob].call(b).dialog.clone().unwrap();
    let replaces = format!("{};to-tag={};from-tag={}", dialog.call_id, dialog.remote_tag, dialog.local_tag);
    let headers = [(Name::Replaces, replaces.as_str())];
    let stolen = world.act(carol, |phone| phone.invite("sip:bob@example.test", &headers, true));
    world.run_for(second());
    assert_eq!(world.phones[carol].call(stolen).failed, Some(Status::BUSY_HERE));
    assert!(world.phones[alice].call(a).up && world.phones[bob].call(b).up);
}

/// The same dialog replaced by another phone of the same user: the call moves there.
#[test]
fn a_user_moves_his_call_to_another_phone() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    let mobile = world.add_phone("bob");
    world.act(mobile, |phone| phone.register(3600));
    world.run_for(second());
    let dialog = world.phones[bob].call(b).dialog.clone().unwrap();
    let replaces = format!("{};to-tag={};from-tag={}", dialog.call_id, dialog.remote_tag, dialog.local_tag);
    let headers = [(Name::Replaces, replaces.as_str())];
    let moved = world.act(mobile, |phone| phone.invite("sip:bob@example.test", &headers, true));
    world.run_for(second() * 2);
    assert!(world.phones[mobile].call(moved).up);
    assert!(world.phones[bob].call(b).over);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.3"));
}

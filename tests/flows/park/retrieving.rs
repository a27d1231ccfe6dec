//! Retrieving a parked call: by number, by token, the oldest, and who may not.

use std::time::Duration;

use expect_test::expect;
use switchyard_host::admin::Request;
use switchyard_host::sip::Status;

use crate::harness::{OnRing, World};

use super::{Parked, parked, second};

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

/// The retriever gives up at any moment of being connected. Until the host has answered, the call is parked again,
/// music on; from then on the call is hers, and ends as any other.
#[test]
fn a_retriever_who_gives_up_leaves_the_call_parked() {
    let mut outcomes = Vec::new();
    for after_ms in (22..=58).step_by(4) {
        let Parked { mut world, alice, a, carol, number, .. } = parked();
        let uri = format!("sip:{number}@example.test");
        let c = world.act(carol, |phone| phone.invite(&uri, &[], true));
        // The credentials have been asked for and given by then; the re-INVITE to Alice goes out at 31 ms.
        world.run_for(Duration::from_millis(after_ms));
        world.act(carol, |phone| phone.cancel(c));
        world.run_for(second() * 5);
        assert!(world.phones[alice].call(a).up, "{after_ms} ms");
        let heard = world.phones[alice].call(a).heard.clone().unwrap();
        let connected = world.phones[carol].call(c).up;
        outcomes.push(connected);
        if connected {
            assert!(world.occupants().is_empty() && world.streams.is_empty(), "{after_ms} ms");
            assert!(heard.contains("10.0.0.3"), "{after_ms} ms: {heard}");
        } else {
            let failed = world.phones[carol].call(c).failed;
            assert_eq!(failed, Some(Status::REQUEST_TERMINATED), "{after_ms} ms");
            assert_eq!(world.occupants(), [(number, "parked".to_owned())], "{after_ms} ms");
            assert_eq!(world.streams.len(), 1, "{after_ms} ms: music goes on");
            assert!(heard.contains("192.0.2.1"), "{after_ms} ms: {heard}");
        }
    }
    assert!(!outcomes[0] && outcomes[outcomes.len() - 1], "both orders have been seen: {outcomes:?}");
    assert!(outcomes.is_sorted(), "the later she gives up, the more she has the call: {outcomes:?}");
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

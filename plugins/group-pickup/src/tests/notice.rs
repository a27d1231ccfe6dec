//! What the members of a group are told of a call that rings.

use serde_json::json;

use super::*;

/// Alice's call begins to ring at Bob.
fn rings(host: &mut FakeHost, call: WaitingCall) {
    host.offer(Offer {
        how: How::Ringing,
        leg: None,
        caller: call.caller.clone(),
        ringing: Some(call),
        ..dialled()
    });
}

fn with_notice() -> FakeHost {
    let mut host = host();
    host.set("group_pickup.notify_after", 6000);
    host
}

#[test]
fn nobody_is_told_unless_the_policy_says_so() {
    let mut host = host();
    rings(&mut host, call());
    host.expect_done();
    host.expect_nothing();
}

#[test]
fn members_are_told_after_the_delay() {
    let mut host = with_notice();
    host.set("group_pickup.notify_for", 15_000);
    rings(&mut host, call());
    host.advance(Duration::from_millis(5999));
    host.expect_nothing();
    host.advance(Duration::from_millis(1));
    let expected = Tell {
        group: "*101".to_owned(),
        except: vec!["alice".to_owned(), "bob".to_owned()],
        text: "Alice calls Bob: dial *101".to_owned(),
        for_ms: 15_000,
    };
    assert_eq!(host.expect_tell(), expected);
    host.expect_done();
    assert_eq!(host.flows(), 0);
}

#[test]
fn nobody_is_told_of_a_call_that_has_stopped_ringing() {
    let mut host = with_notice();
    rings(&mut host, call());
    host.advance(Duration::from_secs(5));
    host.stops_ringing(ALICE, "answered by Bob");
    host.expect_done();
    host.advance(Duration::from_secs(60));
    host.expect_nothing();
}

#[test]
fn what_nobody_may_pick_up_is_not_announced() {
    for call in [WaitingCall { private: true, ..call() }, WaitingCall { routing: Routing::Team, ..call() }] {
        let mut host = with_notice();
        rings(&mut host, call);
        host.expect_done();
    }
}

#[test]
fn each_group_that_counts_is_told() {
    let mut host = with_notice();
    host.set("group_pickup.groups_max", json!(2));
    let further_pickup_groups = vec!["*102".to_owned(), "*103".to_owned()];
    rings(&mut host, WaitingCall { callee: Party { further_pickup_groups, ..bob() }, ..call() });
    host.advance(Duration::from_secs(6));
    assert_eq!([host.expect_tell().group, host.expect_tell().group], ["*101", "*102"]);
    host.expect_done();
}

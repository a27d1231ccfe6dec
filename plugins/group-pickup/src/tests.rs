//! Group pickup as flows on a fake host: what it lists, chooses and takes, and whom it refuses.
//!
//! Alice calls Bob of the group *101; Carol picks up. The same with phones: `tests/flows/pickup`.

mod choice;
mod notice;
mod rights;

use switchyard_sdk::testing::{Asked, FakeHost};

use super::*;

const ALICE: LegId = LegId(1);
/// The leg on which Carol dials.
const CAROL: LegId = LegId(2);
/// Another caller's leg.
const ERIN: LegId = LegId(3);

fn user(name: &str, display: &str) -> Party {
    Party {
        user: Some(name.to_owned()),
        uri: format!("sip:{name}@example.test"),
        display: Some(display.to_owned()),
        pool: Some("east".to_owned()),
        ..Party::default()
    }
}

fn bob() -> Party {
    Party { pickup_group: Some("*101".to_owned()), ..user("bob", "Bob") }
}

fn carol() -> Party {
    Party { extension: Some("1003".to_owned()), ..user("carol", "Carol") }
}

/// Alice's call, which rings at Bob.
fn call() -> WaitingCall {
    WaitingCall {
        leg: ALICE,
        state: WaitState::Ringing,
        caller: user("alice", "Alice"),
        callee: bob(),
        routing: Routing::Direct,
        private: false,
        excluded: false,
        since_ms: 1,
    }
}

fn waiting<const N: usize>(calls: [WaitingCall; N]) -> Waiting {
    Waiting { calls: calls.into(), last: None }
}

/// Carol dials *101.
fn dialled() -> Offer {
    Offer {
        service: None,
        number: Some("*101".to_owned()),
        pool: "west".to_owned(),
        leg: Some(CAROL),
        caller: carol(),
        ..Offer::dialled("")
    }
}

/// Carol dials **1002.
fn directed() -> Offer {
    Offer { service: Some("**".to_owned()), number: Some("1002".to_owned()), ..dialled() }
}

fn host() -> FakeHost {
    FakeHost::new::<GroupPickup>()
}

/// The flow asks what rings, and is told.
#[track_caller]
fn answer_list(host: &mut FakeHost, waiting: Waiting) -> Query {
    let list = host.expect_list();
    let query = list.request.clone();
    host.answer(&list, waiting);
    query
}

#[track_caller]
fn expect_refused(host: &mut FakeHost, code: Code, text: &str) {
    assert_eq!(host.expect_refuse(), Refusal::new(code, text));
    host.expect_done();
    host.expect_nothing();
    assert_eq!((host.flows(), host.waiting().len()), (0, 0));
}

#[track_caller]
fn expect_taken(host: &mut FakeHost, take: &Asked<Take>) {
    host.answer(take, ());
    host.expect_accept();
    host.expect_done();
    host.expect_nothing();
    assert_eq!((host.flows(), host.counter("pickups")), (0, 1));
}

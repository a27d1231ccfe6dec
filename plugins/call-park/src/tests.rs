//! Call Park as flows on a fake host: its clock is moved by hand, and it answers what the test says.
//!
//! Bob parks Alice, Carol takes her. The same flows through the real library, phones and all: `tests/flows/park.rs`.

mod park;
mod recall;
mod record;
mod retrieve;
mod wait;
mod wish;

use serde_json::json;
use switchyard_sdk::testing::{Asked, Command, FakeHost};

use super::*;

/// Alice's leg: who is parked.
const ALICE: LegId = LegId(1);
/// Bob's leg in the call with Alice.
const BOB: LegId = LegId(2);
/// The leg on which Bob dials, with Alice on hold.
const BOB_DIALS: LegId = LegId(3);
/// Carol's leg: who dials the orbit.
const CAROL: LegId = LegId(4);

const PARKED: &str = "7001";
const TOKEN: &str = "k3y";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn alice() -> Party {
    let uri = "sip:+491234@gateway.test".to_owned();
    Party { uri, display: Some("Alice".to_owned()), outside: true, ..Party::default() }
}

fn bob() -> Party {
    Party { device: Some("bob-desk".to_owned()), may_park: true, ..user("bob", "Bob") }
}

fn carol() -> Party {
    user("carol", "Carol")
}

fn user(name: &str, display: &str) -> Party {
    Party {
        user: Some(name.to_owned()),
        uri: format!("sip:{name}@example.test"),
        display: Some(display.to_owned()),
        may_retrieve: true,
        ..Party::default()
    }
}

fn far() -> Option<FarLeg> {
    Some(FarLeg { leg: ALICE, party: alice() })
}

/// Bob transfers Alice to `park`.
fn transferred() -> Offer {
    Offer {
        how: How::Refer,
        pool: "east".to_owned(),
        caller: bob(),
        near: Some(BOB),
        far: far(),
        ..Offer::dialled("park")
    }
}

/// Bob holds Alice and dials `park`.
fn held_and_dialled() -> Offer {
    Offer { how: How::Dial, leg: Some(BOB_DIALS), ..transferred() }
}

/// Carol dials the orbit in which a call waits.
fn carol_dials() -> Offer {
    Offer {
        service: None,
        number: Some(PARKED.to_owned()),
        pool: "east".to_owned(),
        leg: Some(CAROL),
        caller: carol(),
        occupied: true,
        ..Offer::dialled("")
    }
}

fn reserved() -> Reserved {
    Reserved { number: PARKED.to_owned(), token: TOKEN.to_owned(), range: "east-park".to_owned() }
}

fn claimed() -> Claimed {
    Claimed { number: PARKED.to_owned(), leg: ALICE, party: alice() }
}

fn host() -> FakeHost {
    FakeHost::new::<CallPark>()
}

/// A host on which Bob has just parked Alice by transfer.
fn parked() -> FakeHost {
    let mut host = host();
    park(&mut host);
    host
}

fn park(host: &mut FakeHost) {
    host.offer(transferred());
    let commit = up_to_commit(host);
    host.answer(&commit, ());
    host.expect_accept();
    host.expect_nothing();
}

fn up_to_commit(host: &mut FakeHost) -> Asked<Commit> {
    let reserve = host.expect_reserve();
    host.answer(&reserve, reserved());
    let play = host.expect_play();
    host.answer(&play, Played { audible: true });
    host.expect_commit()
}

/// The next ring-back; Bob does not answer it.
fn nobody_answers(host: &mut FakeHost) {
    let ring = host.expect_ring();
    host.advance(Duration::from_millis(ring.timeout_ms));
    host.refuse_with(&ring, Code::GENERAL, "no answer", 408);
}

fn answered(leg: LegId, party: Party) -> Answered {
    Answered { leg, party }
}

/// The flow ended, and nothing is left of it: no leg was touched, no orbit, no timer.
#[track_caller]
fn expect_refused(host: &mut FakeHost, code: Code, text: &str) {
    assert_eq!(host.expect_refuse(), Refusal::new(code, text));
    host.expect_done();
    host.expect_nothing();
    assert_eq!((host.flows(), host.waiting().len()), (0, 0));
    for recorded in host.transcript() {
        let left = matches!(
            recorded.command,
            Command::Accept(_) | Command::Free(..) | Command::Release(..) | Command::Save(_)
        );
        assert!(!left, "{recorded}");
    }
}

/// The call has left its orbit, and the flow that looked after it is over.
#[track_caller]
fn expect_over(host: &mut FakeHost) {
    host.expect_done();
    host.expect_nothing();
    assert_eq!((host.flows(), host.waiting().len()), (0, 0));
}

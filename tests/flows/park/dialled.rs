//! Parking by hold and dial, and by attended transfer to the park service.

use std::time::Duration;

use expect_test::expect;
use switchyard_host::sip::Status;

use crate::harness::World;

use super::second;

/// Hold and dial: the phone holds Alice and calls the park service; the number is spoken, both its legs stay.
#[test]
fn hold_and_dial_parks_the_held_call() {
    let mut world = World::new();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    world.start_ladder();
    let dialled = world.act(bob, |phone| phone.invite("sip:7010@example.test", &[], true));
    world.run_for(second() * 2);
    expect![[r#"
        +0.000  bob   -> host   INVITE sip:7010@example.test (sdp)
        +0.010  host  -> bob    401 Unauthorized
        +0.020  bob   -> host   ACK
        +0.020  bob   -> host   INVITE sip:7010@example.test (sdp)
        +0.030  host  -> bob    100 Trying
        +0.030  host  -> alice  INVITE (sdp)
        +0.040  alice -> host   200 OK (sdp)
        +0.050  host  -> alice  ACK
        +0.051  host  -> bob    MESSAGE sip:bob@10.0.0.2:5060
        +0.051  host  -> bob    200 OK (sdp)
        +0.061  bob   -> host   200 OK
        +0.061  bob   -> host   ACK
    "#]]
    .assert_eq(&world.ladder());
    assert!(world.phones[bob].call(dialled).up);
    assert_eq!(world.occupants(), [("7010".to_owned(), "parked".to_owned())]);
    assert_eq!(world.streams.len(), 2, "Alice hears music, Bob hears the number");
    let spoken = world.streams.values().find(|stream| !stream.playlist.prompts.is_empty()).unwrap();
    assert_eq!(spoken.playlist.prompts, ["parked-on", "digits/7", "digits/0", "digits/1", "digits/0"]);

    // Another phone takes the call: the parker's held leg is cleared.
    let c = world.act(carol, |phone| phone.invite("sip:7010@example.test", &[], true));
    world.run_for(second() * 3);
    assert!(world.phones[carol].call(c).up);
    assert!(world.phones[bob].call(b).over);
    assert!(world.phones[alice].call(a).up);
}

/// §7: resuming the held leg before anyone claims is a retrieve.
#[test]
fn a_parker_who_resumes_the_held_leg_takes_his_call_back() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    let dialled = world.act(bob, |phone| phone.invite("sip:7010@example.test", &[], true));
    world.run_for(second() * 2);
    world.act(bob, |phone| phone.hang_up(dialled));
    world.run_for(second());
    world.act(bob, |phone| phone.reinvite(b, "sendrecv"));
    world.run_for(second() * 2);
    assert!(world.occupants().is_empty());
    assert!(world.phones[bob].call(b).up && world.phones[alice].call(a).up);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.2"));
    assert!(world.phones[bob].call(b).heard.as_ref().unwrap().contains("10.0.0.1"));
}

/// A phone that resumes by itself when the dialled leg ends takes its call back; what was to be cleared is not cleared any
/// more, also when it parks again within those ten seconds.
#[test]
fn a_call_taken_back_can_be_parked_again_at_once() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    for _ in 0..2 {
        world.act(bob, |phone| phone.reinvite(b, "sendonly"));
        world.run_for(second());
        let dialled = world.act(bob, |phone| phone.invite("sip:park@example.test", &[], true));
        world.run_for(second() * 3);
        assert_eq!(world.occupants().len(), 1);
        world.act(bob, |phone| phone.hang_up(dialled));
        world.run_for(second());
        world.act(bob, |phone| phone.reinvite(b, "sendrecv"));
        world.run_for(second());
        assert!(world.occupants().is_empty());
    }
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    let dialled = world.act(bob, |phone| phone.invite("sip:park@example.test", &[], true));
    world.run_for(second() * 20);
    assert_eq!(world.occupants().len(), 1);
    assert!(world.phones[bob].call(b).up, "the held leg stays as long as the phone keeps it");
    assert!(world.phones[bob].call(dialled).up);
    // The held leg goes first: the dialled one has nothing left to say, and goes ten seconds later.
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(second() * 12);
    assert!(world.phones[bob].call(dialled).over, "nothing is left on the line");
    assert_eq!(world.occupants().len(), 1);
    assert!(!world.phones[alice].call(a).over);
}

/// §7: BYE on the dialled leg leaves the held one up for ten seconds.
#[test]
fn the_held_leg_of_a_dialled_park_is_cleared_after_ten_seconds() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    let dialled = world.act(bob, |phone| phone.invite("sip:park@example.test", &[], true));
    world.run_for(second() * 2);
    world.act(bob, |phone| phone.hang_up(dialled));
    world.run_for(second() * 9);
    assert!(world.phones[bob].call(b).up);
    world.run_for(second() * 2);
    assert!(world.phones[bob].call(b).over);
    assert!(world.phones[alice].call(a).up);
    assert_eq!(world.occupants().len(), 1);
}

/// Hold and dial, finished by REFER with Replaces as an attended transfer would be: success, and both legs cleared.
#[test]
fn an_attended_transfer_to_the_park_service_parks() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    let dialled = world.act(bob, |phone| phone.invite("sip:park@example.test", &[], true));
    world.run_for(second() * 2);
    let target = world.phones[bob].replaces_uri("sip:park@example.test", dialled);
    world.act(bob, |phone| phone.refer(b, &target));
    world.run_for(second() * 4);
    let told = world.phones[bob].call(b).notified.last().unwrap().clone();
    assert!(told.starts_with("SIP/2.0 200") && told.contains("Contact: <sip:70"), "{told}");
    assert!(world.phones[bob].call(b).over && world.phones[bob].call(dialled).over);
    assert!(world.phones[alice].call(a).up);
    assert_eq!(world.occupants().len(), 1);
}

/// Hold and dial from a phone without a codec of ours: it cannot hear the number, but its caller is parked.
#[test]
fn a_dialling_phone_that_cannot_hear_the_number_has_parked_all_the_same() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    world.phones[bob].codecs = "18";
    let dialled = world.act(bob, |phone| phone.invite("sip:7010@example.test", &[], true));
    world.run_for(second() * 3);
    assert_eq!(world.phones[bob].call(dialled).failed, Some(Status::NOT_ACCEPTABLE_HERE));
    assert_eq!(world.occupants(), [("7010".to_owned(), "parked".to_owned())]);
    assert!(world.phones[alice].call(a).up);
}

/// The connected name: a parker who dialled sees "Parked on 7010" in the answer itself.
#[test]
fn a_dialling_parker_sees_the_number_as_the_connected_name() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (_, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    let dialled = world.act(bob, |phone| phone.invite("sip:7010@example.test", &[], true));
    world.run_for(second() * 2);
    let shown = world.phones[bob].call(dialled).identity.clone().unwrap();
    assert!(shown.starts_with("\"Parked on 7010\" <sip:7010@example.test>"), "{shown}");
}

/// The parker dials park and gives up at any moment of it. Until the host has answered nothing is parked, and his
/// caller is his again; from then on she is parked.
#[test]
fn a_park_by_dialling_that_is_cancelled_parks_nothing() {
    let mut outcomes = Vec::new();
    for after_ms in (22..=58).step_by(4) {
        let mut world = World::new();
        let [alice, bob] = world.phones(["alice", "bob"]);
        let (a, b) = world.connect(alice, bob);
        world.act(bob, |phone| phone.reinvite(b, "sendonly"));
        world.run_for(second());
        let dialled = world.act(bob, |phone| phone.invite("sip:7010@example.test", &[], true));
        // The credentials have been asked for and given by then; Alice is asked to hear the music at 30 ms.
        world.run_for(Duration::from_millis(after_ms));
        world.act(bob, |phone| phone.cancel(dialled));
        world.run_for(second() * 5);
        let parked = world.phones[bob].call(dialled).up;
        outcomes.push(parked);
        let heard = world.phones[alice].call(a).heard.clone().unwrap();
        if parked {
            assert_eq!(world.occupants(), [("7010".to_owned(), "parked".to_owned())], "{after_ms} ms");
            assert!(heard.contains("192.0.2.1"), "{after_ms} ms: {heard}");
        } else {
            assert!(world.occupants().is_empty(), "{after_ms} ms: {:?}", world.occupants());
            assert!(heard.contains("10.0.0.2"), "{after_ms} ms: {heard}");
        }
        assert!(world.phones[alice].call(a).up && world.phones[bob].call(b).up, "{after_ms} ms");
    }
    assert!(!outcomes[0] && outcomes[outcomes.len() - 1], "both orders have been seen: {outcomes:?}");
    assert!(outcomes.is_sorted(), "the later he gives up, the more she is parked: {outcomes:?}");
}

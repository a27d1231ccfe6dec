//! Group Call Pickup: real phones pick up real ringing calls, and what they hear is measured.

use super::baresip::Phone;
use super::host::Host;
use super::program::wait_for;
use super::sipp::{Line, Script, all_succeed};
use super::softphones::{ALICES_TONE, BOBS_TONE, CAROLS_TONE, assert_hears_tone};

/// Bob is put into the pickup group *101, as an operator does.
fn host() -> Host {
    let host = Host::start();
    for verb in [
        &["orbit", "add", "groups", "*100", "*199", "--kind", "group-pickup"][..],
        &["user", "set", "bob", "--pickup-group", "*101"],
    ] {
        let answer = host.cli(verb);
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
    host
}

/// Bob's phone rings and nobody is there; Carol dials the group's number, and she and Alice hear each other.
#[test]
fn a_ringing_call_is_picked_up_and_both_hear_each_other() {
    for number in ["*101", "**1002"] {
        let host = host();
        let mut alice = Phone::register(&host, "alice", ALICES_TONE);
        let mut bob = Phone::register(&host, "bob", BOBS_TONE);
        let mut carol = Phone::register(&host, "carol", CAROLS_TONE);
        alice.dial("1002");
        bob.expect("CALL_INCOMING");
        carol.dial(number);
        carol.expect("CALL_ESTABLISHED");
        alice.expect("CALL_ESTABLISHED");
        bob.expect("CALL_CLOSED");
        assert_hears_tone("Alice", &alice.listen(), CAROLS_TONE);
        assert_hears_tone("Carol", &carol.listen(), ALICES_TONE);
        carol.hang_up();
        alice.expect("CALL_CLOSED");
        host.is_quiet();
    }
}

/// To the letter: Bob's phone is cancelled as answered elsewhere, and Dave, who comes too late, is told by whom.
#[test]
fn the_callees_phone_is_told_elsewhere_and_the_late_picker_who_won() {
    let host = host();
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|user| Line::register(&host, user));
    let rings = bob.run(Script::new("bob").ring_until_answered_elsewhere());
    let caller = alice.run(Script::new("alice").call("1002").pause(1500).hang_up());
    wait_for("a ringing call", || (!host.json(&["call", "ringing"]).as_array()?.is_empty()).then_some(()));
    let picker = carol.run(Script::new("carol").call("*101").hung_up());
    wait_for("the pickup", || host.json(&["call", "ringing"]).as_array()?.is_empty().then_some(()));
    dave.run(Script::new("dave").call_refused("*101", 486, 35101)).succeeds();
    all_succeed([rings, caller, picker]);
    host.is_quiet();
}

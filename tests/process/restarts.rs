//! `kill -9` and a new start: what was promised is still there.

use serde_json::json;

use super::baresip::Phone;
use super::host::Host;
use super::program::wait_for;
use super::sipp::{Line, Script, all_succeed};
use super::softphones::{ALICES_TONE, BOBS_TONE, CAROLS_TONE, assert_hears_tone};

fn parker() -> Script {
    Script::new("bob").call("1001").refer("7001").notified("100").notified("SIP/2.0 200").hang_up()
}

/// Users, ranges, registrations and the parked call are back; she hears music and is fetched.
#[test]
fn a_parked_call_and_all_that_is_stored_survive_kill_9() {
    let mut host = Host::start();
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|user| Line::register(&host, user));
    host.json(&["orbit", "add", "reception", "7200", "7219"]);
    host.json(&["user", "set", "dave", "--display", "David", "--may-park", "true"]);
    // Music, music again after the restart, Carol, the end.
    let parked =
        alice.run(Script::new("alice").answer().accept_offer().accept_offer().accept_offer().hung_up());
    bob.run(parker()).succeeds();
    assert_eq!(host.one_parked(), "7001");
    assert!(alice.listen().is_audible());
    let token = host.get("occupants")[0]["token"].clone();

    host.kill();
    host.restart();
    assert_eq!(host.one_parked(), "7001");
    assert_eq!(host.get("occupants")[0]["token"], token, "the same call");
    assert!(alice.listen().is_audible(), "music again");
    let ranges = host.get("orbits");
    assert_eq!(ranges.as_array().unwrap().len(), 2, "{ranges}");
    let david = host.get("users/dave");
    assert_eq!((&david["display"], &david["may_park"]), (&json!("David"), &json!(true)));

    all_succeed([carol.run(Script::new("carol").call("7001").pause(500).hang_up()), parked]);
    // Dave has not registered since.
    let callee = dave.run(Script::new("dave").answer().hung_up());
    all_succeed([bob.run(Script::new("bob").call("1004").pause(200).hang_up()), callee]);
    host.is_quiet();
}

/// No phantom orbit: the caller's phone knows nothing of the call any more.
#[test]
fn an_orbit_whose_caller_is_gone_is_free_after_the_restart() {
    let mut host = Host::start();
    let [alice, bob] = ["alice", "bob"].map(|user| Line::register(&host, user));
    let parked = alice.run(Script::new("alice").answer().accept_offer().deny_offer());
    bob.run(parker()).succeeds();
    assert_eq!(host.one_parked(), "7001");
    host.kill();
    host.restart();
    parked.succeeds();
    wait_for("a free orbit", || host.parked().is_empty().then_some(()));
    host.is_quiet();
}

/// The same with a softphone, whose sound is recorded: music, silence, music.
#[test]
fn a_softphone_hears_music_again_after_kill_9() {
    let mut host = Host::start();
    let mut alice = Phone::register(&host, "alice", 440);
    let bob = Line::register(&host, "bob");
    let parking = bob.run(parker());
    alice.answer();
    parking.succeeds();
    assert_eq!(host.one_parked(), "7001");
    let music = alice.listen();
    assert!(music.is_audible() && music.share_of(440) < 0.4);
    host.kill();
    host.restart();
    assert_eq!(host.one_parked(), "7001");
    assert!(alice.listen().is_audible());
    alice.hang_up();
    wait_for("a free orbit", || host.parked().is_empty().then_some(()));
    host.is_quiet();
}

/// Their sound never passes through the host: two who talk notice nothing. They hold, park and end the call as before.
#[test]
fn two_softphones_talk_on_through_kill_9() {
    let mut host = Host::start();
    let mut alice = Phone::register(&host, "alice", ALICES_TONE);
    let mut bob = Phone::register(&host, "bob", BOBS_TONE);
    alice.dial("1002");
    bob.answer();
    alice.expect("CALL_ESTABLISHED");
    assert_hears_tone("Bob", &bob.listen(), ALICES_TONE);
    host.kill();
    assert_hears_tone("Alice", &alice.listen(), BOBS_TONE);
    host.restart();
    // Meanwhile both are asked whether they know the call.
    assert_hears_tone("Alice", &alice.listen(), BOBS_TONE);
    assert_eq!(host.get("status")["calls"], 1);
    // Once more, and with nobody asking anything before the end.
    host.kill();
    host.restart();
    bob.transfer("7005");
    bob.expect("CALL_CLOSED");
    assert_eq!(host.one_parked(), "7005");
    let mut carol = Phone::register(&host, "carol", CAROLS_TONE);
    carol.dial("7005");
    carol.expect("CALL_ESTABLISHED");
    assert_hears_tone("Alice", &alice.listen(), CAROLS_TONE);
    host.kill();
    host.restart();
    let held = |held: bool| {
        wait_for("hold and its end", || {
            let calls = host.get("calls");
            let legs = calls[0]["legs"].as_array().cloned().unwrap_or_default();
            (legs.iter().any(|leg| leg["held"] == true) == held).then_some(())
        });
    };
    alice.hold();
    held(true);
    alice.resume();
    held(false);
    alice.hang_up();
    carol.expect("CALL_CLOSED");
    host.is_quiet();
}

/// Of two phones one has lost the call while the host was away: the other is let go.
#[test]
fn who_talked_to_a_phone_that_lost_the_call_is_let_go() {
    let mut host = Host::start();
    let mut alice = Phone::register(&host, "alice", ALICES_TONE);
    let bob = Line::register(&host, "bob");
    let lost = bob.run(Script::new("bob").answer().deny_offer());
    alice.dial("1002");
    alice.expect("CALL_ESTABLISHED");
    wait_for("a call", || (host.get("status")["calls"] == 1).then_some(()));
    // A relaxed write is on the disk within 20 ms.
    std::thread::sleep(std::time::Duration::from_millis(500));
    host.kill();
    host.restart();
    alice.expect("CALL_CLOSED");
    lost.succeeds();
    host.is_quiet();
}

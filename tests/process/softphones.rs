//! Real softphones: what baresip hears is recorded and measured; Linphone transfers as desk phones do.

use super::audio::Sound;
use super::baresip::Phone;
use super::host::Host;
use super::linphone::Linphone;

pub const ALICES_TONE: u32 = 440;
pub const BOBS_TONE: u32 = 1000;
pub const CAROLS_TONE: u32 = 1700;

/// A pure tone has nearly all its energy there; a gap on a busy machine takes some away. Music has next to nothing.
#[track_caller]
pub fn assert_hears_tone(who: &str, sound: &Sound, hertz: u32) {
    let share = sound.share_of(hertz);
    assert!(
        sound.is_audible() && share > 0.5,
        "{who} should hear {hertz} Hz: level {:.3}, share {share:.3}",
        sound.level()
    );
}

/// Loud enough, and none of the tones the phones send.
#[track_caller]
pub fn assert_hears_music(who: &str, sound: &Sound) {
    let shares = [ALICES_TONE, BOBS_TONE, CAROLS_TONE].map(|hertz| sound.share_of(hertz));
    assert!(
        sound.is_audible() && shares.iter().all(|share| *share < 0.4),
        "{who} should hear music: level {:.3}, shares of the phones' tones {shares:.3?}",
        sound.level()
    );
}

/// The whole story: Alice calls Bob, they talk, Bob parks her, she hears music, Carol fetches her, they talk.
#[test]
fn a_parked_caller_hears_music_and_is_fetched_by_a_third_phone() {
    let host = Host::start();
    let mut alice = Phone::register(&host, "alice", ALICES_TONE);
    let mut bob = Phone::register(&host, "bob", BOBS_TONE);
    let mut carol = Phone::register(&host, "carol", CAROLS_TONE);

    alice.dial("1002");
    assert_eq!(bob.answer(), "Alice");
    alice.expect("CALL_ESTABLISHED");
    assert_hears_tone("Alice", &alice.listen(), BOBS_TONE);
    assert_hears_tone("Bob", &bob.listen(), ALICES_TONE);

    bob.transfer("park");
    bob.expect("CALL_CLOSED");
    let number = host.one_parked();
    assert_hears_music("Alice", &alice.listen());

    carol.dial(&number);
    carol.expect("CALL_ESTABLISHED");
    assert_hears_tone("Alice", &alice.listen(), CAROLS_TONE);
    assert_hears_tone("Carol", &carol.listen(), ALICES_TONE);
    assert!(host.parked().is_empty());

    alice.hang_up();
    carol.expect("CALL_CLOSED");
    host.is_quiet();
}

/// Nobody fetches her: the parker's phone rings again, and they go on talking.
#[test]
fn a_ring_back_is_answered_and_both_hear_each_other_again() {
    let policy = r#"
local base = require "default"
return base:extend { call_park = { pickup_timeout = "10s" } }"#;
    let host = Host::start_with(&[("pools/east.lua", policy)]);
    let mut alice = Phone::register(&host, "alice", ALICES_TONE);
    let mut bob = Phone::register(&host, "bob", BOBS_TONE);
    alice.dial("1002");
    bob.answer();
    alice.expect("CALL_ESTABLISHED");
    bob.transfer("park");
    bob.expect("CALL_CLOSED");
    let back = bob.answer();
    assert!(back.contains("Alice"), "the ring-back says for whom: {back}");
    assert_hears_tone("Alice", &alice.listen(), BOBS_TONE);
    assert_hears_tone("Bob", &bob.listen(), ALICES_TONE);
    assert!(host.parked().is_empty());
    bob.hang_up();
    alice.expect("CALL_CLOSED");
    host.is_quiet();
}

/// Bob's Linphone asks the park service and transfers Alice to it, as one transfers to a colleague; Carol fetches her.
#[test]
fn an_attended_transfer_from_linphone_parks() {
    let host = Host::start();
    let [mut alice, mut bob, mut carol] =
        ["alice", "bob", "carol"].map(|user| Linphone::register(&host, user));
    alice.dial("bob", 1);
    bob.answer(1);
    alice.expect(1, "StreamsRunning");
    bob.dial("park", 2);
    bob.expect(2, "StreamsRunning");
    bob.expect(1, "Paused");
    let number = host.one_parked();
    bob.transfer_to_call(1, 2);
    bob.expect_end(1);
    bob.expect_end(2);
    assert_eq!(host.one_parked(), number, "parked once, and still");
    alice.expect(1, "StreamsRunning");
    carol.dial(&number, 1);
    carol.expect(1, "StreamsRunning");
    assert!(host.parked().is_empty());
    carol.hang_up(1);
    alice.expect_end(1);
    host.is_quiet();
}

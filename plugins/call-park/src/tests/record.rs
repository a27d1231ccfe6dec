//! What must outlive the process: going on from a record, and handing over to a newer copy of the plugin.

use switchyard_sdk::testing::{FlowEnd, START};

use super::*;

/// Alice waits in 7001 since a minute before the restart; her record says what is next at `deadline`.
fn record(deadline: Utc, attempts: u64) -> Resume {
    Resume {
        number: PARKED.to_owned(),
        pool: "east".to_owned(),
        token: TOKEN.to_owned(),
        leg: ALICE,
        parked: alice(),
        parker: bob(),
        terms: Terms {
            parked_at_ms: START.0 - 60_000,
            deadline_ms: deadline.0,
            on_timeout_uri: None,
            music: Music::Default,
        },
        state: json!({ "v": 1, "attempts": attempts }),
    }
}

#[test]
fn a_resumed_call_waits_until_its_deadline() {
    let mut host = host();
    host.resume(record(START + seconds(30), 0));
    // What was stored is not stored again, and the music is the host's.
    host.expect_nothing();
    assert_eq!(host.next_timer(), Some(START + seconds(30)));
    host.advance(seconds(30));
    let ring = host.expect_ring();
    assert_eq!(ring.display.as_deref(), Some("Parked call 7001: Alice"));
    assert_eq!(ring.to.device.as_deref(), Some("bob-desk"));
}

#[test]
fn a_deadline_that_passed_while_the_host_was_down_rings_at_once() {
    let mut host = host();
    host.resume(record(Utc(START.0 - 1), 0));
    host.expect_ring();
}

#[test]
fn a_resumed_call_is_claimed_and_hung_up_like_any_other() {
    let mut host = host();
    host.resume(record(START + seconds(30), 0));
    host.claimed(PARKED, carol());
    host.settled(PARKED, true);
    expect_over(&mut host);

    host.hang_up(ALICE);
    host.resume(record(START + seconds(30), 0));
    expect_over(&mut host);
}

/// Attempts made before the restart count.
#[test]
fn attempts_survive_a_restart() {
    let mut host = host();
    host.set("call_park.max_recall_attempts", 3);
    host.set("call_park.on_timeout_uri", "sip:desk@example.test");
    host.resume(record(START, 2));
    nobody_answers(&mut host);
    assert_eq!(host.expect_save().state, json!({ "v": 1, "attempts": 3 }));
    assert_eq!(host.expect_ring().to.uri.as_deref(), Some("sip:desk@example.test"));
}

/// The host went down while the on-timeout address rang: that is where the call goes on.
#[test]
fn a_call_whose_attempts_are_used_up_goes_on_to_the_address() {
    let mut host = host();
    host.set("call_park.on_timeout_uri", "sip:desk@example.test");
    host.resume(record(START, 1));
    assert_eq!(host.expect_ring().to.uri.as_deref(), Some("sip:desk@example.test"));
}

/// The record's own address is for the host, if it must do without the plugin; the plugin asks the policy.
#[test]
fn a_resumed_call_follows_the_policy_of_today() {
    let mut host = host();
    let mut resume = record(START, 1);
    resume.terms.on_timeout_uri = Some("sip:yesterday@example.test".to_owned());
    host.resume(resume);
    assert_eq!(host.expect_release().0, ALICE);
    assert_eq!(host.expect_free(), (PARKED.to_owned(), Outcome::Released));
    expect_over(&mut host);
}

/// A record nobody here can read is an error the host hears of: it has a fallback of its own.
#[test]
fn a_record_of_another_version_is_not_guessed_at() {
    for (state, version) in [
        (json!({ "v": 2, "attempts": 0 }), "Some(2)"),
        (json!({ "attempts": 0 }), "None"),
        (json!("1"), "None"),
        (json!(null), "None"),
    ] {
        let mut host = host();
        host.resume(Resume { state, ..record(START, 0) });
        let (how, message) = host.expect_end();
        assert_eq!(how, FlowEnd::Failed);
        let sentence = format!("record of 7001 has version {version}, this plugin reads 1");
        assert!(message.contains(&sentence), "{message}");
        host.expect_nothing();
    }
}

/// Fields of a later minor version are left alone; a missing count is none.
#[test]
fn a_record_may_have_more_or_less_than_is_known() {
    let mut host = host();
    host.resume(Resume { state: json!({ "v": 1, "later": true }), ..record(START, 0) });
    host.expect_save();
    nobody_answers(&mut host);
    assert_eq!(host.expect_save().state, json!({ "v": 1, "attempts": 1 }));
}

// ---- a newer copy takes over --------------------------------------------------------------------------------

#[test]
fn a_call_that_waits_is_handed_over() {
    let mut host = parked();
    host.advance(seconds(10));
    host.drain();
    assert_eq!(host.expect_end().0, FlowEnd::Rested);
    host.expect_nothing();
    assert_eq!((host.flows(), host.waiting().len()), (0, 0));
}

#[test]
fn a_park_under_way_is_handed_over_only_when_it_is_done() {
    let mut host = host();
    host.offer(transferred());
    let reserve = host.expect_reserve();
    host.drain();
    host.expect_nothing();
    host.answer(&reserve, reserved());
    let play = host.expect_play();
    host.answer(&play, Played { audible: true });
    let commit = host.expect_commit();
    host.answer(&commit, ());
    host.expect_accept();
    assert_eq!(host.expect_end().0, FlowEnd::Rested);
}

/// The ringing phone belongs to the old copy: it hands over when the phone is silent, with the attempt counted.
#[test]
fn a_call_that_rings_is_handed_over_afterwards() {
    let mut host = host();
    host.set("call_park.max_recall_attempts", 2);
    park(&mut host);
    host.advance(seconds(90));
    let ring = host.expect_ring();
    host.drain();
    host.expect_nothing();
    assert!(!host.is_withdrawn(&ring));
    host.refuse_with(&ring, Code::GENERAL, "no answer", 408);
    let saved = host.expect_save();
    assert_eq!(saved.state, json!({ "v": 1, "attempts": 1 }));
    assert_eq!(saved.terms.deadline_ms, (host.now() + seconds(90)).0);
    assert_eq!(host.expect_end().0, FlowEnd::Rested);

    // And the newer copy goes on from there.
    let mut newer = FakeHost::new::<CallPark>();
    newer.resume(Resume { state: saved.state, terms: saved.terms, ..record(START, 0) });
    newer.expect_nothing();
}

#[test]
fn a_ring_back_that_is_answered_during_the_hand_over_ends_as_ever() {
    let mut host = parked();
    host.advance(seconds(90));
    let ring = host.expect_ring();
    host.drain();
    host.answer(&ring, answered(BOB, bob()));
    assert_eq!(host.expect_free(), (PARKED.to_owned(), Outcome::Recalled));
    expect_over(&mut host);
}

#[test]
fn a_call_that_is_being_claimed_is_handed_over_only_if_it_stays() {
    for stays in [true, false] {
        let mut host = parked();
        host.claimed(PARKED, carol());
        host.drain();
        host.expect_nothing();
        host.settled(PARKED, !stays);
        if stays {
            assert_eq!(host.expect_end().0, FlowEnd::Rested);
        } else {
            expect_over(&mut host);
        }
    }
}

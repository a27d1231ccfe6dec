//! The deadline and what it brings, in the order of CP-07: ring the parker, wait again, the address, the end.

use super::*;

/// What ends a call that nobody took.
#[track_caller]
fn expect_released(host: &mut FakeHost) {
    let text = Some("Nobody took the call parked on 7001".to_owned());
    assert_eq!(host.expect_release(), (ALICE, Release { status: Some(480), text }));
    assert_eq!(host.expect_free(), (PARKED.to_owned(), Outcome::Released));
    assert_eq!(host.counter("released"), 1);
    expect_over(host);
}

/// CP-07 (2), CP-09 and CP-10: the device that parked, under the caller's name, audibly something else.
#[test]
fn the_ring_back_says_whom_it_rings_for() {
    let mut host = parked();
    host.advance(seconds(90));
    let ring = host.expect_ring();
    assert_eq!(
        *ring,
        Ring {
            leg: ALICE,
            to: Target { user: Some("bob".to_owned()), device: Some("bob-desk".to_owned()), uri: None },
            display: Some("Parked call 7001: Alice".to_owned()),
            alert_info: Some("<urn:alert:service:recall:hold>".to_owned()),
            timeout_ms: 30_000,
            claims: Some(PARKED.to_owned()),
            attempt: Some(Attempt { number: 1, of: 1 }),
        }
    );
    assert_eq!(host.counter("recalls"), 1);
}

#[test]
fn a_caller_without_a_name_is_shown_by_address() {
    let mut host = host();
    let party = Party { display: None, ..alice() };
    host.offer(Offer { far: Some(FarLeg { leg: ALICE, party }), ..transferred() });
    let commit = up_to_commit(&mut host);
    host.answer(&commit, ());
    host.expect_accept();
    host.advance(seconds(90));
    let display = host.expect_ring().request.display;
    assert_eq!(display.as_deref(), Some("Parked call 7001: sip:+491234@gateway.test"));
}

#[test]
fn a_parker_who_answers_has_his_call_back() {
    let mut host = parked();
    host.advance(seconds(90));
    let ring = host.expect_ring();
    host.answer(&ring, answered(BOB, bob()));
    assert_eq!(host.expect_free(), (PARKED.to_owned(), Outcome::Recalled));
    expect_over(&mut host);
}

/// CP-07 (5): one attempt and no address, the defaults.
#[test]
fn nobody_answers_and_the_call_ends() {
    let mut host = parked();
    host.advance(seconds(90));
    nobody_answers(&mut host);
    assert_eq!(host.expect_save().state, json!({ "v": 1, "attempts": 1 }));
    expect_released(&mut host);
}

/// CP-07 (3): each further ring-back comes after the whole threshold, counted from the end of the one before.
#[test]
fn three_attempts_have_the_whole_wait_between_them() {
    let mut host = host();
    host.set("call_park.max_recall_attempts", 3);
    park(&mut host);
    for attempt in 1..3 {
        host.advance(Duration::from_millis(89_999));
        host.expect_nothing();
        host.advance(Duration::from_millis(1));
        nobody_answers(&mut host);
        let saved = host.expect_save();
        assert_eq!(saved.state, json!({ "v": 1, "attempts": attempt }));
        assert_eq!(saved.terms.deadline_ms, (host.now() + seconds(90)).0);
        host.expect_nothing();
    }
    host.advance(seconds(90));
    nobody_answers(&mut host);
    assert_eq!(host.expect_save().state, json!({ "v": 1, "attempts": 3 }));
    assert_eq!(host.counter("recalls"), 3);
    expect_released(&mut host);
}

/// Facts §6 no. 6: busy and declined count as attempts, at once.
#[test]
fn a_busy_parker_is_an_attempt_at_once() {
    for status in [486, 600, 603] {
        let mut host = host();
        host.set("call_park.max_recall_attempts", 2);
        park(&mut host);
        host.advance(seconds(90));
        let ring = host.expect_ring();
        host.refuse_with(&ring, Code::GENERAL, "busy", status);
        let saved = host.expect_save();
        assert_eq!(saved.state, json!({ "v": 1, "attempts": 1 }), "{status}");
        assert_eq!(saved.terms.deadline_ms, (host.now() + seconds(90)).0, "the whole wait, from now");
    }
}

/// CP-07 (4), with the call still in its orbit while the address rings.
#[test]
fn the_address_is_rung_when_the_attempts_are_used_up() {
    let mut host = host();
    host.set("call_park.on_timeout_uri", "sip:desk@example.test");
    park(&mut host);
    host.advance(seconds(90));
    nobody_answers(&mut host);
    host.expect_save();
    let ring = host.expect_ring();
    assert_eq!(
        *ring,
        Ring {
            leg: ALICE,
            to: Target { uri: Some("sip:desk@example.test".to_owned()), ..Target::default() },
            display: None,
            alert_info: None,
            timeout_ms: 30_000,
            claims: Some(PARKED.to_owned()),
            attempt: None,
        }
    );
    host.answer(&ring, answered(LegId(9), user("desk", "Front desk")));
    assert_eq!(host.expect_free(), (PARKED.to_owned(), Outcome::OnTimeout));
    assert_eq!((host.counter("on_timeouts"), host.counter("released")), (1, 0));
    expect_over(&mut host);
}

/// CP-07 (6).
#[test]
fn an_address_that_does_not_answer_is_the_end() {
    let mut host = host();
    host.set("call_park.on_timeout_uri", "sip:desk@example.test");
    park(&mut host);
    host.advance(seconds(90));
    nobody_answers(&mut host);
    host.expect_save();
    nobody_answers(&mut host);
    expect_released(&mut host);
}

/// The address is read when it is needed, not when the call was parked.
#[test]
fn an_address_set_while_the_call_waits_is_rung() {
    let mut host = parked();
    host.advance(seconds(90));
    let ring = host.expect_ring();
    host.set("call_park.on_timeout_uri", "sip:night@example.test");
    host.refuse_with(&ring, Code::GENERAL, "no answer", 408);
    host.expect_save();
    assert_eq!(host.expect_ring().to.uri.as_deref(), Some("sip:night@example.test"));
}

// ---- somebody else is faster --------------------------------------------------------------------------------

/// Facts §6 no. 6: the claim wins, and the parker's phone stops as answered elsewhere.
#[test]
fn a_claim_during_the_ring_back_withdraws_it() {
    let mut host = parked();
    host.advance(seconds(95));
    let ring = host.expect_ring();
    host.claimed(PARKED, carol());
    assert!(host.is_withdrawn(&ring));
    host.expect_nothing();
    host.settled(PARKED, true);
    expect_over(&mut host);
}

#[test]
fn a_caller_who_hangs_up_stops_the_ring_back() {
    let mut host = parked();
    host.advance(seconds(90));
    let ring = host.expect_ring();
    host.hang_up(ALICE);
    assert!(host.is_withdrawn(&ring));
    expect_over(&mut host);
}

/// A ring-back that was cut off by a claim is no attempt: if the claim fails, the parker is rung again at once.
#[test]
fn a_claim_that_fails_during_the_ring_back_is_no_attempt() {
    let mut host = parked();
    host.advance(seconds(90));
    host.expect_ring();
    host.claimed(PARKED, carol());
    host.settled(PARKED, false);
    let again = host.expect_ring();
    assert_eq!(again.to.user.as_deref(), Some("bob"));
    host.refuse_with(&again, Code::GENERAL, "no answer", 408);
    assert_eq!(host.expect_save().state, json!({ "v": 1, "attempts": 1 }));
    expect_released(&mut host);
}

/// The parker's answer is a claim too; another was faster by a moment.
#[test]
fn a_parker_who_answers_too_late_leaves_the_call_to_the_winner() {
    let mut host = parked();
    host.advance(seconds(90));
    let ring = host.expect_ring();
    host.refuse(&ring, Code::LOST_CLAIM, "taken by Carol");
    // Nothing is known of that claim any more: the call is parked as before, and its time is over.
    assert_eq!(host.expect_ring().leg, ALICE);

    let mut host = parked();
    host.advance(seconds(90));
    let ring = host.expect_ring();
    host.settled(PARKED, true);
    host.refuse(&ring, Code::LOST_CLAIM, "taken by Carol");
    expect_over(&mut host);
}

#[test]
fn a_ring_back_whose_caller_is_gone_is_over() {
    let mut host = parked();
    host.advance(seconds(90));
    let ring = host.expect_ring();
    host.refuse(&ring, Code::LEG_GONE, "the leg ended");
    expect_over(&mut host);
}

#[test]
fn a_claim_while_the_address_rings_withdraws_it() {
    let mut host = host();
    host.set("call_park.on_timeout_uri", "sip:desk@example.test");
    park(&mut host);
    host.advance(seconds(90));
    nobody_answers(&mut host);
    host.expect_save();
    let ring = host.expect_ring();
    host.claimed(PARKED, carol());
    assert!(host.is_withdrawn(&ring));
    // It fails: the attempts are still used up, so the address is rung again, not the parker.
    host.settled(PARKED, false);
    let ring = host.expect_ring();
    assert_eq!(ring.to.uri.as_deref(), Some("sip:desk@example.test"));
    host.hang_up(ALICE);
    assert!(host.is_withdrawn(&ring));
    expect_over(&mut host);
}

/// Attempts do not start again from zero because somebody nearly took the call.
#[test]
fn a_failed_claim_between_two_attempts_resets_nothing() {
    let mut host = host();
    host.set("call_park.max_recall_attempts", 2);
    park(&mut host);
    host.advance(seconds(90));
    nobody_answers(&mut host);
    host.expect_save();
    host.advance(seconds(50));
    host.claimed(PARKED, carol());
    host.advance(seconds(5));
    host.parked_again(PARKED, host.now() + seconds(40));
    assert_eq!(host.expect_save().state, json!({ "v": 1, "attempts": 1 }));
    host.advance(seconds(40));
    nobody_answers(&mut host);
    assert_eq!(host.expect_save().state, json!({ "v": 1, "attempts": 2 }));
    expect_released(&mut host);
}

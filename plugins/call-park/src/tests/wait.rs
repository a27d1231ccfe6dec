//! A call that waits: hang-up, claim, deadline; and what a claim that fails gives back.

use super::*;

#[test]
fn a_parked_call_waits_for_three_things() {
    let host = parked();
    let waits: Vec<Command> = host.waiting().into_iter().map(|recorded| recorded.command).collect();
    let deadline = host.now() + seconds(90);
    // In the order in which they win if they happen at once.
    assert_eq!(waits, [Command::Watch(ALICE), Command::Claimed(PARKED.to_owned()), Command::At(deadline)]);
}

/// CP-13: the host frees the orbit of a leg that ended; the plugin has nothing to add.
#[test]
fn a_caller_who_hangs_up_ends_the_flow() {
    let mut host = parked();
    host.advance(seconds(30));
    host.hang_up(ALICE);
    expect_over(&mut host);
}

#[test]
fn a_caller_who_hangs_up_at_the_deadline_rings_nobody() {
    let mut host = parked();
    host.advance(Duration::from_millis(89_999));
    host.hang_up(ALICE);
    host.advance(seconds(1));
    expect_over(&mut host);
}

#[test]
fn a_claimed_call_is_left_to_its_claimant() {
    let mut host = parked();
    host.claimed(PARKED, carol());
    // However long connecting takes, nobody is rung back meanwhile.
    host.advance(seconds(600));
    host.expect_nothing();
    host.settled(PARKED, true);
    expect_over(&mut host);
}

#[test]
fn a_caller_who_hangs_up_during_a_claim_ends_the_flow() {
    let mut host = parked();
    host.claimed(PARKED, carol());
    host.hang_up(ALICE);
    expect_over(&mut host);
}

/// The call is parked again with the time it had left: the time the claim took has been added by the host.
#[test]
fn a_failed_claim_gives_back_the_time_that_was_left() {
    let mut host = parked();
    host.advance(seconds(60));
    host.claimed(PARKED, carol());
    host.advance(seconds(10));
    let deadline = host.now() + seconds(30);
    host.parked_again(PARKED, deadline);
    let saved = host.expect_save();
    assert_eq!(saved.terms.deadline_ms, deadline.0, "a restart must know it too");
    assert_eq!(saved.state, json!({ "v": 1, "attempts": 0 }));
    host.advance(Duration::from_millis(29_999));
    host.expect_nothing();
    host.advance(Duration::from_millis(1));
    host.expect_ring();
}

/// A claim that ends within the moment it began changes nothing, and so nothing is stored.
#[test]
fn a_failed_claim_without_a_new_deadline_leaves_the_old_one() {
    let mut host = parked();
    let deadline = host.now() + seconds(90);
    host.claimed(PARKED, carol());
    host.settled(PARKED, false);
    host.expect_nothing();
    assert_eq!(host.next_timer(), Some(deadline));
}

#[test]
fn a_call_may_be_claimed_again_and_again() {
    let mut host = parked();
    for _ in 0..3 {
        host.claimed(PARKED, carol());
        host.settled(PARKED, false);
        host.expect_nothing();
        assert_eq!(host.flows(), 1);
    }
    host.claimed(PARKED, carol());
    host.settled(PARKED, true);
    expect_over(&mut host);
}

/// An edit reaches calls that wait at their next stage; the running timer is left alone.
#[test]
fn a_policy_edited_while_a_call_waits_holds_from_the_next_stage_on() {
    let mut host = parked();
    host.set("call_park.pickup_timeout", 20_000);
    host.set("call_park.recall_ring_time", 5_000);
    host.set("call_park.max_recall_attempts", 2);
    host.advance(Duration::from_millis(89_999));
    host.expect_nothing();
    host.advance(Duration::from_millis(1));
    let ring = host.expect_ring();
    assert_eq!(ring.timeout_ms, 5_000);
    // Another edit while it rings: read before the next wait begins.
    host.set("call_park.pickup_timeout", 40_000);
    host.refuse_with(&ring, Code::GENERAL, "busy", 486);
    assert_eq!(host.expect_save().terms.deadline_ms, (host.now() + seconds(40)).0);
}

#[test]
fn fewer_attempts_by_an_edit_are_enough_at_once() {
    let mut host = host();
    host.set("call_park.max_recall_attempts", 3);
    park(&mut host);
    host.advance(seconds(90));
    nobody_answers(&mut host);
    host.expect_save();
    host.set("call_park.max_recall_attempts", 1);
    host.set("call_park.on_timeout_uri", "sip:desk@example.test");
    host.advance(seconds(90));
    assert_eq!(host.expect_ring().to.uri.as_deref(), Some("sip:desk@example.test"), "no second ring-back");
}

/// The last ring-back may be followed by another if the edit came while it rang.
#[test]
fn more_attempts_by_an_edit_while_it_rings_are_made() {
    let mut host = parked();
    host.advance(seconds(90));
    let ring = host.expect_ring();
    host.set("call_park.max_recall_attempts", 2);
    host.refuse_with(&ring, Code::GENERAL, "no answer", 408);
    host.expect_save();
    host.advance(seconds(90));
    assert_eq!(host.expect_ring().to.user.as_deref(), Some("bob"));
}

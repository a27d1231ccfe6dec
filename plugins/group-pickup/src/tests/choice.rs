//! Which call is taken.

use super::*;

#[test]
fn the_call_that_rings_in_the_group_is_taken_for_who_dialled() {
    let mut host = host();
    host.offer(dialled());
    let query = answer_list(&mut host, waiting([call()]));
    assert_eq!(query, Query { number: Some("*101".to_owned()), callee: None });
    let take = host.expect_take();
    let expected = Take {
        leg: ALICE,
        state: WaitState::Ringing,
        by: Some(CAROL),
        picker: carol(),
        missed: false,
        text: Some("Carol took the call of Alice".to_owned()),
        group: Some("*101".to_owned()),
    };
    assert_eq!(take.request, expected);
    expect_taken(&mut host, &take);
}

#[test]
fn a_prefix_asks_for_one_phone() {
    let mut host = host();
    host.offer(directed());
    let query = answer_list(&mut host, waiting([call()]));
    assert_eq!(query, Query { number: None, callee: Some("1002".to_owned()) });
    let take = host.expect_take();
    assert_eq!(take.group, None);
    expect_taken(&mut host, &take);
}

/// A dialog that Replaces names, or a call chosen from a list, is taken without a search.
#[test]
fn a_call_that_is_named_is_taken() {
    for (how, leg) in [(How::Replaces, Some(CAROL)), (How::Admin, None)] {
        let mut host = host();
        host.offer(Offer { how, leg, number: None, ringing: Some(call()), ..dialled() });
        let take = host.expect_take();
        assert_eq!((take.leg, take.by), (ALICE, leg));
        expect_taken(&mut host, &take);
    }
}

/// GCP-05: in the order of the queue; what may not be taken, or is lost meanwhile, is passed over.
#[test]
fn the_next_call_is_taken_if_the_first_cannot_be() {
    let mut host = host();
    host.offer(dialled());
    let private = WaitingCall { private: true, ..call() };
    let lost = WaitingCall { leg: LegId(9), ..call() };
    let other = WaitingCall { leg: ERIN, ..call() };
    answer_list(&mut host, waiting([private, lost, other]));
    let take = host.expect_take();
    assert_eq!(take.leg, LegId(9));
    host.refuse(&take, Code::LOST_CLAIM, "taken by Dave 0.1 s ago");
    let take = host.expect_take();
    assert_eq!(take.leg, ERIN);
    expect_taken(&mut host, &take);
}

#[test]
fn who_calls_does_not_pick_up_his_own_call() {
    // What became of the call before is not what she asks for.
    for last in [None, Some("taken by Bob 0.0 s ago".to_owned())] {
        let mut host = host();
        host.offer(Offer { caller: user("alice", "Alice"), ..dialled() });
        answer_list(&mut host, Waiting { last, ..waiting([call()]) });
        expect_refused(&mut host, Code::NOTHING_RINGS, "only your own call rings at *101");
    }
}

#[test]
fn where_nothing_rings_the_picker_is_told_so_or_who_was_faster() {
    for (last, code, text) in [
        (None, Code::NOTHING_RINGS, "nothing rings at *101"),
        (Some("taken by Dave 0.4 s ago"), Code::LOST_CLAIM, "taken by Dave 0.4 s ago"),
    ] {
        let mut host = host();
        host.offer(dialled());
        answer_list(&mut host, Waiting { calls: Vec::new(), last: last.map(str::to_owned) });
        expect_refused(&mut host, code, text);
        assert_eq!(host.counter("pickups_refused"), 1);
    }
}

/// The loser of a race hears the winner's name, as the host tells it.
#[test]
fn a_take_that_is_lost_is_refused_with_the_winners_name() {
    let mut host = host();
    host.offer(dialled());
    answer_list(&mut host, waiting([call()]));
    let take = host.expect_take();
    host.refuse(&take, Code::LOST_CLAIM, "taken by Dave 0.1 s ago");
    expect_refused(&mut host, Code::LOST_CLAIM, "taken by Dave 0.1 s ago");
}

/// Without a common codec the next call would fail alike.
#[test]
fn without_a_common_codec_no_other_call_is_tried() {
    let mut host = host();
    host.offer(dialled());
    answer_list(&mut host, waiting([call(), WaitingCall { leg: ERIN, ..call() }]));
    let take = host.expect_take();
    host.refuse(&take, Code::NOT_ACCEPTABLE, "no codec in common");
    expect_refused(&mut host, Code::NOT_ACCEPTABLE, "no codec in common");
}

#[test]
fn a_picker_who_gives_up_leaves_the_call_ringing() {
    let mut host = host();
    host.offer(dialled());
    answer_list(&mut host, waiting([call()]));
    let take = host.expect_take();
    host.hang_up(CAROL);
    assert!(host.is_withdrawn(&take));
    expect_refused(&mut host, Code::WITHDRAWN, "the picker hung up");
}

#[test]
fn a_transfer_to_a_group_is_refused_in_words() {
    let mut host = host();
    host.offer(Offer { how: How::Refer, ..dialled() });
    expect_refused(&mut host, Code::NOT_ALLOWED, "a call is picked up by dialling, not by a transfer");
}

#[test]
fn what_phones_and_callee_are_told_is_the_policys_choice() {
    let mut host = host();
    host.set_in("east", "group_pickup.missed_calls", true);
    host.set_in("east", "group_pickup.tell_callee", false);
    host.offer(dialled());
    answer_list(&mut host, waiting([call()]));
    let take = host.expect_take();
    assert_eq!((take.missed, take.text.as_deref()), (true, None));
    expect_taken(&mut host, &take);
}

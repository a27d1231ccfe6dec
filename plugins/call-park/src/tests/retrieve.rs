//! Taking a call: claim, join, free; one winner, and what is refused leaves the call parked.

use super::*;

#[test]
fn a_call_is_claimed_then_joined_then_freed() {
    let mut host = host();
    host.offer(carol_dials());
    let claim = host.expect_claim();
    host.expect_nothing();
    let (number, pool) = (Some(PARKED.to_owned()), "east".to_owned());
    assert_eq!(*claim, Claim { number, pool, token: None, claimant: carol() });
    host.answer(&claim, claimed());
    let join = host.expect_join();
    host.expect_nothing();
    assert_eq!((join.a, join.b), (ALICE, CAROL));
    host.answer(&join, ());
    assert_eq!(host.expect_free(), (PARKED.to_owned(), Outcome::Retrieved));
    assert_eq!(host.expect_accept(), Accept::default());
    assert_eq!(host.counter("retrievals"), 1);
    expect_over(&mut host);
}

/// CP-19: whoever shows a token gets that call or none, whatever the orbit holds now.
#[test]
fn a_token_is_shown_to_the_orbit_service() {
    for occupied in [true, false] {
        let mut host = host();
        host.offer(Offer { token: Some(TOKEN.to_owned()), occupied, far: far(), ..carol_dials() });
        let claim = host.expect_claim();
        assert_eq!(claim.request.token.as_deref(), Some(TOKEN));
        host.refuse(&claim, Code::WRONG_TOKEN, "another call waits there");
        expect_refused(&mut host, Code::WRONG_TOKEN, "another call waits there");
    }
}

#[test]
fn unpark_takes_the_call_that_waits_longest() {
    let mut host = host();
    let service = Some("unpark".to_owned());
    host.offer(Offer { service, number: None, occupied: false, ..carol_dials() });
    let claim = host.expect_claim();
    assert_eq!((&claim.number, claim.pool.as_str()), (&None, "east"));
    // Which number it was is in the answer.
    host.answer(&claim, Claimed { number: "7042".to_owned(), ..claimed() });
    let join = host.expect_join();
    host.answer(&join, ());
    assert_eq!(host.expect_free(), ("7042".to_owned(), Outcome::Retrieved));
}

/// An INVITE with Replaces from a lamp key (RFC 3891), with the token of the call it names.
#[test]
fn replaces_takes_the_call_it_names() {
    let mut host = host();
    host.offer(Offer { how: How::Replaces, token: Some(TOKEN.to_owned()), ..carol_dials() });
    let claim = host.expect_claim();
    assert_eq!((claim.number.as_deref(), claim.request.token.as_deref()), (Some(PARKED), Some(TOKEN)));
    host.answer(&claim, claimed());
    assert_eq!(host.expect_join().b, CAROL);
}

#[test]
fn a_refused_claim_is_told_in_the_orbits_words() {
    for (code, text) in [
        (Code::VACANT, "no call waits in 7001"),
        (Code::LOST_CLAIM, "taken by Ana"),
        (Code::FENCED, "this host has lost its lease"),
    ] {
        let mut host = host();
        host.offer(carol_dials());
        let claim = host.expect_claim();
        host.refuse(&claim, code, text);
        expect_refused(&mut host, code, text);
        assert_eq!((host.counter("retrievals"), host.counter("retrievals_refused")), (0, 1));
    }
}

/// The claim goes with the flow: the host parks the call again with the time it had left.
#[test]
fn a_join_that_fails_says_why() {
    for (code, text, told, words) in [
        (Code::NOT_ACCEPTABLE, "no codec in common", Code::NOT_ACCEPTABLE, "no codec in common"),
        (
            Code::GENERAL,
            "the phone said 500",
            Code::RETRIEVE_FAILED,
            "could not be connected: the phone said 500",
        ),
        (Code::LEG_GONE, "the leg ended", Code::RETRIEVE_FAILED, "could not be connected: the leg ended"),
    ] {
        let mut host = host();
        host.offer(carol_dials());
        let claim = host.expect_claim();
        host.answer(&claim, claimed());
        let join = host.expect_join();
        host.refuse(&join, code, text);
        expect_refused(&mut host, told, words);
    }
}

#[test]
fn a_retriever_who_hangs_up_while_waiting_for_the_claim_is_let_go() {
    let mut host = host();
    host.offer(carol_dials());
    let claim = host.expect_claim();
    host.hang_up(CAROL);
    assert!(host.is_withdrawn(&claim));
    expect_refused(&mut host, Code::LEG_GONE, "the retriever hung up");
}

// ---- who may ------------------------------------------------------------------------------------------------

/// CP-18: not through a trunk, and not unauthenticated.
#[test]
fn nobody_from_outside_retrieves() {
    let mut host = host();
    host.offer(Offer { caller: Party { outside: true, ..carol() }, ..carol_dials() });
    expect_refused(&mut host, Code::OUTSIDE, "parked calls cannot be taken from outside");
    assert!(host.decisions_asked().is_empty());
}

/// Facts §6 no. 2: retrieving has a right of its own; the right to park is not asked for.
#[test]
fn a_user_without_the_right_does_not_retrieve() {
    let mut host = host();
    host.offer(Offer { caller: Party { may_park: true, may_retrieve: false, ..carol() }, ..carol_dials() });
    expect_refused(&mut host, Code::NOT_ALLOWED, "Carol may not retrieve calls");
    assert!(host.decisions_asked().is_empty());
}

#[test]
fn the_policy_refuses_a_retriever_in_its_own_words() {
    let mut host = host();
    host.deny("call_park.allow_retrieve", "only the east wing takes these");
    host.offer(carol_dials());
    expect_refused(&mut host, Code::NOT_ALLOWED, "only the east wing takes these");
    host.set_decision("call_park.allow_retrieve", Decision { allowed: false, ..Decision::default() });
    host.offer(carol_dials());
    expect_refused(&mut host, Code::NOT_ALLOWED, "not allowed by policy");
}

#[test]
fn the_policy_is_told_who_takes_which_call() {
    let mut host = host();
    host.deny("call_park.allow", "parking is another question");
    host.offer(carol_dials());
    let asked = json!({ "retriever": carol(), "number": "7001", "how": "dial", "pool": "east" });
    assert_eq!(host.decisions_asked(), [("call_park.allow_retrieve".to_owned(), asked)]);
    host.expect_claim();
}

// ---- both flows together ------------------------------------------------------------------------------------

/// The flow that looks after the call sees the claim of the flow that takes it, and ends with it.
#[test]
fn the_call_leaves_the_flow_that_looked_after_it() {
    let mut host = parked();
    host.offer(carol_dials());
    let claim = host.expect_claim();
    host.answer(&claim, claimed());
    let join = host.expect_join();
    host.advance(seconds(120));
    host.expect_nothing();
    host.answer(&join, ());
    assert_eq!(host.expect_free(), (PARKED.to_owned(), Outcome::Retrieved));
    host.expect_accept();
    host.expect_done();
    expect_over(&mut host);
}

#[test]
fn a_retrieval_that_fails_leaves_the_call_with_its_flow() {
    let mut host = parked();
    host.offer(carol_dials());
    let claim = host.expect_claim();
    host.answer(&claim, claimed());
    let join = host.expect_join();
    host.refuse_with(&join, Code::NOT_ACCEPTABLE, "no codec in common", 488);
    assert_eq!(host.expect_refuse().code, Code::NOT_ACCEPTABLE);
    host.expect_done();
    assert_eq!(host.flows(), 1);
    assert_eq!(host.next_timer(), Some(host.now() + seconds(90)), "and waits on");
    host.advance(seconds(90));
    host.expect_ring();
}

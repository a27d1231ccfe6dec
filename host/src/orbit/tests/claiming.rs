//! One winner, and a word for everybody else.

use switchyard_sdk::ext::orbit::{ClaimedBy, Settled};

use super::*;

fn with_token(number: &str, who: &str, token: &str) -> Claim {
    Claim { token: Some(token.into()), ..claim(number, who) }
}

#[test]
fn the_second_claimant_is_told_who_won() {
    let mut world = World::new(10);
    world.park(1, 10);
    assert!(world.claim(2, "7000", "Ana").is_ok());
    world.pass(Duration::from_millis(400));
    assert_eq!(refused(world.claim(3, "7000", "Carol")), (35101, "taken by Ana 0.4 s ago".into()));
}

#[test]
fn a_late_claimant_is_told_who_won_some_seconds_after_the_orbit_was_freed() {
    let mut world = World::new(10);
    world.park(1, 10);
    world.claim(2, "7000", "Ana").unwrap();
    world.pass(seconds(1));
    world.free(2, "7000", Outcome::Retrieved);
    world.pass(seconds(2));
    assert_eq!(refused(world.claim(3, "7000", "Carol")), (35101, "taken by Ana 3.0 s ago".into()));
    world.pass(seconds(8));
    assert_eq!(refused(world.claim(3, "7000", "Carol")), (35000, "no call waits in 7000".into()));
    assert_eq!(world.orbits.next_timeout(), None);
}

#[test]
fn the_winner_is_remembered_from_the_end_of_a_long_connecting() {
    let mut world = World::new(10);
    world.park(1, 10);
    world.claim(2, "7000", "Ana").unwrap();
    world.pass(seconds(60));
    assert_eq!(refused(world.claim(3, "7000", "Carol")).1, "taken by Ana 60.0 s ago");
    world.free(2, "7000", Outcome::Retrieved);
    world.pass(seconds(5));
    assert_eq!(refused(world.claim(3, "7000", "Carol")), (35101, "taken by Ana 65.0 s ago".into()));
}

#[test]
fn an_orbit_nobody_is_in_is_vacant() {
    let mut world = World::new(10);
    for number in ["7000", "7010", "*100", "nonsense"] {
        assert_eq!(refused(world.claim(1, number, "Carol")).0, 35000, "{number}");
    }
    assert_eq!(
        refused(world.claim_with(1, oldest("Carol"))),
        (35000, "no call is parked in pool east".into())
    );
}

#[test]
fn cp_19_a_token_gets_its_call_or_none() {
    let mut world = World::new(1);
    let first = world.park(1, 10);
    assert_eq!(refused(world.claim_with(2, with_token("7000", "Carol", "wrong"))).0, 35010);
    assert_eq!(world.state("7000"), "parked");
    assert!(world.claim_with(2, with_token("7000", "Carol", &first.token.to_uppercase())).is_ok());
    world.free(2, "7000", Outcome::Retrieved);
    let second = world.park(3, 11);

    // The link to the first call never gets the second one: first it hears who was faster, later that it is
    // another call.
    assert_eq!(refused(world.claim_with(4, with_token("7000", "Dave", &first.token))).0, 35101);
    world.pass(seconds(20));
    assert_eq!(
        refused(world.claim_with(4, with_token("7000", "Dave", &first.token))),
        (35010, "another call waits in 7000 now".into())
    );
    assert!(world.claim_with(4, with_token("7000", "Dave", &second.token)).is_ok());
    world.free(4, "7000", Outcome::Retrieved);
    world.pass(seconds(20));
    assert_eq!(refused(world.claim_with(5, with_token("7000", "Dave", &second.token))).0, 35000);
}

#[test]
fn a_token_alone_finds_its_call() {
    let mut world = World::new(10);
    world.park(1, 10);
    let second = world.park(2, 11);
    let by_token = || Claim { token: Some(second.token.clone()), ..oldest("Carol") };
    assert_eq!(world.claim_with(3, by_token()).unwrap().leg, LegId(11));
    assert_eq!(refused(world.claim_with(4, by_token())).0, 35101);
    world.free(3, "7001", Outcome::Retrieved);
    assert_eq!(refused(world.claim_with(4, by_token())).0, 35101);
    world.pass(seconds(20));
    assert_eq!(refused(world.claim_with(4, by_token())), (35000, "that call is not parked any more".into()));
}

#[test]
fn a_claim_waits_for_a_call_that_is_still_being_parked() {
    let mut world = World::new(10);
    world.reserve(1, 10).unwrap();
    let (carol, dave) =
        (world.start_claim(2, claim("7000", "Carol")), world.start_claim(3, claim("7000", "Dave")));
    world.pass(seconds(2));
    assert_eq!(world.answer::<Claimed>(carol), None);
    let parked = world.commit(1, "7000");
    assert_eq!(world.answer::<Claimed>(carol).unwrap().unwrap().leg, LegId(10));
    assert_eq!(refused(world.answer::<Claimed>(dave).unwrap()), (35101, "taken by Carol 0.0 s ago".into()));
    // The park itself is answered first: it succeeded.
    assert_eq!(world.answered[world.answered.len() - 3..], [parked, carol, dave]);
}

#[test]
fn a_claim_waits_three_seconds_and_not_longer() {
    let mut world = World::new(10);
    world.reserve(1, 10).unwrap();
    let token = world.start_claim(2, claim("7000", "Carol"));
    world.pass(Duration::from_millis(2999));
    assert_eq!(world.answer::<Claimed>(token), None);
    world.pass(Duration::from_millis(1));
    assert_eq!(refused(world.answer::<Claimed>(token).unwrap()), (35000, "no call waits in 7000 yet".into()));
    assert_eq!(world.state("7000"), "reserved");
}

#[test]
fn a_claim_waits_for_the_store_with_the_park() {
    let mut world = World::new(10);
    world.store_answers = false;
    world.reserve(1, 10).unwrap();
    let early = world.start_claim(2, claim("7000", "Carol"));
    world.pass(seconds(2));
    world.commit(1, "7000");
    world.pass(seconds(2));
    // Its three seconds are over, but the store may still say yes.
    assert_eq!(world.answer::<Claimed>(early), None);
    world.answer_write(true, None);
    assert!(world.answer::<Claimed>(early).unwrap().is_ok());
}

#[test]
fn a_claim_that_waited_for_a_lost_store_is_told_so() {
    let mut world = World::new(10);
    world.store_answers = false;
    world.reserve(1, 10).unwrap();
    world.commit(1, "7000");
    let token = world.start_claim(2, claim("7000", "Carol"));
    world.pass(seconds(5));
    assert_eq!(refused(world.answer::<Claimed>(token).unwrap()).0, 35105);
}

#[test]
fn a_waiting_claim_ends_with_the_call_it_waits_for() {
    let mut world = World::new(10);
    world.reserve(1, 10).unwrap();
    let carol = world.start_claim(2, claim("7000", "Carol"));
    world.leg_ends(10);
    assert_eq!(refused(world.answer::<Claimed>(carol).unwrap()).0, 35000);

    world.reserve(3, 11).unwrap();
    let wrong = world.start_claim(4, with_token("7000", "Carol", "wrong"));
    assert_eq!(refused(world.answer::<Claimed>(wrong).unwrap()).0, 35010);
    let dave = world.start_claim(4, claim("7000", "Dave"));
    world.flow_ends(3, FlowEnd::Failed);
    assert_eq!(refused(world.answer::<Claimed>(dave).unwrap()).0, 35000);
}

#[test]
fn a_withdrawn_claim_wins_nothing() {
    let mut world = World::new(10);
    world.reserve(1, 10).unwrap();
    let waiter = world.waiter();
    world.orbits.claim(world.now, waiter, FlowId(2), claim("7000", "Carol"));
    world.orbits.withdraw(waiter);
    world.flow_ends(3, FlowEnd::Done);
    world.commit(1, "7000");
    assert_eq!(world.state("7000"), "parked");
    assert_eq!(world.answer::<Claimed>(waiter.token.0), None);
}

#[test]
fn a_claim_whose_flow_ended_while_waiting_wins_nothing() {
    let mut world = World::new(10);
    world.reserve(1, 10).unwrap();
    let token = world.start_claim(2, claim("7000", "Carol"));
    world.flow_ends(2, FlowEnd::Cancelled);
    world.commit(1, "7000");
    assert_eq!(world.state("7000"), "parked");
    assert_eq!(world.answer::<Claimed>(token), None);
}

#[test]
fn oldest_first() {
    let mut world = World::new(10);
    for (flow, leg) in [(1, 10), (2, 11), (3, 12)] {
        world.park(flow, leg);
        world.pass(seconds(1));
    }
    assert_eq!(world.claim_with(4, oldest("Carol")).unwrap().leg, LegId(10));
    assert_eq!(world.claim_with(5, oldest("Dave")).unwrap().leg, LegId(11));
    // A claim that failed gives the call its place back.
    world.unclaim(4, "7000");
    assert_eq!(world.claim_with(6, oldest("Eve")).unwrap().leg, LegId(10));
    assert_eq!(world.claim_with(7, oldest("Eve")).unwrap().leg, LegId(12));
    assert_eq!(refused(world.claim_with(8, oldest("Eve"))).0, 35000);
    let west = Claim { pool: "west".into(), ..oldest("Eve") };
    assert_eq!(refused(world.claim_with(8, west)), (35000, "no call is parked in pool west".into()));
}

#[test]
fn oldest_first_does_not_mind_the_order_of_numbers_or_saves() {
    let mut world = World::new(10);
    for (flow, leg, number) in [(1, 10, "7005"), (2, 11, "7001")] {
        world.reserve_with(flow, directed(leg, number)).unwrap();
        world.commit(flow, number);
        world.pass(seconds(1));
    }
    // Saving with a later moment of parking does not move a call back.
    let later = commit(world.now, "7005");
    world.orbits.save(world.now, FlowId(1), later, None);
    world.drain();
    assert_eq!(world.claim_with(3, oldest("Carol")).unwrap().leg, LegId(10));
}

#[test]
fn a_failed_claim_parks_the_call_again_with_the_time_it_had_left() {
    let mut world = World::new(10);
    world.park(1, 10);
    world.pass(seconds(30));
    world.claim(2, "7000", "Carol").unwrap();
    let settled = world.settled(1, "7000");
    world.pass(seconds(7));
    assert_eq!(world.answer::<Settled>(settled), None);
    world.unclaim(2, "7000");
    let deadline_ms = START.0 + 90_000 + 7_000;
    assert_eq!(world.answer::<Settled>(settled), Some(Ok(Settled { freed: false, deadline_ms })));
    assert_eq!(world.state("7000"), "parked");
    assert_eq!(world.orbits.occupant("7000").unwrap().terms.deadline_ms, deadline_ms);
    assert_eq!(world.stored("7000").unwrap()["terms"]["deadline_ms"], deadline_ms);
    // Nobody has taken it: no word of a winner.
    assert!(world.claim(3, "7000", "Dave").is_ok());
}

#[test]
fn a_claim_is_given_back_when_its_flow_ends() {
    for how in [FlowEnd::Done, FlowEnd::Failed, FlowEnd::Panicked, FlowEnd::Cancelled] {
        let mut world = World::new(10);
        world.park(1, 10);
        world.claim(2, "7000", "Carol").unwrap();
        world.flow_ends(2, how);
        assert_eq!(world.state("7000"), "parked", "{how:?}");
        assert_eq!(world.unattended, []);
    }
}

#[test]
fn only_the_claimants_flow_gives_a_claim_back() {
    let mut world = World::new(10);
    world.park(1, 10);
    world.claim(2, "7000", "Carol").unwrap();
    for (flow, number) in [(1, "7000"), (3, "7000"), (2, "7001"), (2, "nonsense")] {
        world.unclaim(flow, number);
    }
    // Nor does the host, for a claim of its own that is over.
    world.orbits.return_claim(world.now, "7000");
    world.drain();
    assert_eq!(world.state("7000"), "connecting");
    world.unclaim(2, "7000");
    assert_eq!(world.state("7000"), "parked");
    world.unclaim(2, "7000");
    assert_eq!(world.state("7000"), "parked");
}

#[test]
fn the_owner_hears_of_a_claim_and_of_its_end() {
    let mut world = World::new(10);
    world.park(1, 10);
    let claimed = world.claimed(1, "7000");
    assert_eq!(world.answer::<ClaimedBy>(claimed), None);
    world.claim(2, "7000", "Carol").unwrap();
    assert_eq!(world.answer::<ClaimedBy>(claimed).unwrap().unwrap().claimant.label(), "Carol");
    let settled = world.settled(1, "7000");
    world.free(2, "7000", Outcome::Retrieved);
    assert!(world.answer::<Settled>(settled).unwrap().unwrap().freed);
}

#[test]
fn waits_are_level_triggered() {
    let mut world = World::new(1);
    world.park(1, 10);
    // Nothing is under way.
    let now = world.settled(1, "7000");
    assert_eq!(
        world.answer::<Settled>(now),
        Some(Ok(Settled { freed: false, deadline_ms: START.0 + 90_000 }))
    );
    world.claim(2, "7000", "Carol").unwrap();
    // The claim came before the wait, as it may across a reload of the plugin.
    let late = world.claimed(1, "7000");
    assert!(world.answer::<ClaimedBy>(late).unwrap().is_ok());
    world.free(2, "7000", Outcome::Retrieved);
    // Even the end came before the wait.
    let later = world.claimed(1, "7000");
    assert_eq!(world.answer::<ClaimedBy>(later).unwrap().unwrap().claimant.label(), "Carol");
    let gone = world.settled(1, "7000");
    assert!(world.answer::<Settled>(gone).unwrap().unwrap().freed);
    // Even with the next call in the orbit.
    world.park(3, 11);
    world.claim(4, "7000", "Dave").unwrap();
    let other = world.settled(1, "7000");
    assert!(world.answer::<Settled>(other).unwrap().unwrap().freed);
    for number in ["7001", "nonsense"] {
        let vacant = world.settled(1, number);
        assert!(world.answer::<Settled>(vacant).unwrap().unwrap().freed);
        let vacant = world.claimed(1, number);
        assert_eq!(refused(world.answer::<ClaimedBy>(vacant).unwrap()).0, 35000);
    }
}

#[test]
fn a_wait_for_a_claim_ends_with_the_call() {
    for (outcome, code) in [(None, 35107), (Some(Outcome::Released), 35000)] {
        let mut world = World::new(10);
        world.park(1, 10);
        let claimed = world.claimed(1, "7000");
        match outcome {
            None => world.leg_ends(10),
            Some(outcome) => world.free(1, "7000", outcome),
        }
        assert_eq!(refused(world.answer::<ClaimedBy>(claimed).unwrap()).0, code);
    }
}

#[test]
fn the_answer_to_a_recall_is_a_claim_of_its_own_flow() {
    let mut world = World::new(10);
    world.park(1, 10);
    let claimed = world.claimed(1, "7000");
    assert_eq!(world.orbits.claim_now(world.now, "7000", party("Bob")), Ok(()));
    world.drain();
    assert_eq!(world.state("7000"), "connecting");
    // The owner knows of it by the answer to its ring: a claim by others it was not.
    assert_eq!(world.answer::<ClaimedBy>(claimed), None);
    assert_eq!(refused(world.claim(2, "7000", "Carol")).0, 35101);
    // Connecting fails: parked again, and its flow still looks after it.
    world.unclaim(1, "7000");
    assert_eq!(world.state("7000"), "parked");
    assert!(world.claim(2, "7000", "Carol").is_ok());
    assert!(world.answer::<ClaimedBy>(claimed).unwrap().is_ok());
    // Now the parker's phone answers too late.
    world.pass(Duration::from_millis(400));
    assert_eq!(
        refused(world.orbits.claim_now(world.now, "7000", party("Bob"))),
        (35101, "taken by Carol 0.4 s ago".into())
    );
    world.free(2, "7000", Outcome::Retrieved);
    assert_eq!(refused(world.orbits.claim_now(world.now, "7000", party("Bob"))).0, 35101);
    world.pass(seconds(20));
    for number in ["7000", "nonsense"] {
        assert_eq!(refused(world.orbits.claim_now(world.now, number, party("Bob"))).0, 35000);
    }
    world.drain();
}

#[test]
fn the_owner_hears_of_a_claim_of_the_host() {
    let mut world = World::new(10);
    world.park(1, 10);
    let claimed = world.claimed(1, "7000");
    assert_eq!(world.orbits.claim_for_host(world.now, "7000", party("Dave")), Ok(()));
    world.drain();
    assert_eq!(world.answer::<ClaimedBy>(claimed).unwrap().unwrap().claimant.label(), "Dave");
    let settled = world.settled(1, "7000");
    world.pass(seconds(2));
    world.orbits.return_claim(world.now, "7000");
    world.drain();
    let deadline_ms = START.0 + 92_000;
    assert_eq!(world.answer::<Settled>(settled), Some(Ok(Settled { freed: false, deadline_ms })));
    world.orbits.claim_for_host(world.now, "7000", party("Dave")).unwrap();
    assert_eq!(refused(world.orbits.claim_for_host(world.now, "7000", party("Eve"))).0, 35101);
    world.orbits.release(world.now, "7000", Outcome::Retrieved);
    world.drain();
    assert_eq!(world.state("7000"), "free");
}

#[test]
fn a_recall_that_was_joined_is_freed_by_its_flow() {
    let mut world = World::new(10);
    world.park(1, 10);
    world.orbits.claim_now(world.now, "7000", party("Bob")).unwrap();
    world.free(1, "7000", Outcome::Recalled);
    assert_eq!(world.state("7000"), "free");
    assert_eq!(world.events_of("orbit.freed")[0]["outcome"], "recalled");
}

#[test]
fn an_owner_that_ends_during_its_own_claim_leaves_the_call_parked_and_unattended() {
    let mut world = World::new(10);
    world.park(1, 10);
    world.orbits.claim_now(world.now, "7000", party("Bob")).unwrap();
    world.flow_ends(1, FlowEnd::Panicked);
    assert_eq!(world.state("7000"), "parked");
    assert_eq!(world.unattended, [("7000".to_string(), FlowEnd::Panicked)]);
    // The host recalls by itself, for a call nobody looks after.
    assert_eq!(world.orbits.claim_now(world.now, "7000", party("Bob")), Ok(()));
    world.drain();
    world.orbits.return_claim(world.now, "7000");
    world.drain();
    assert_eq!(world.state("7000"), "parked");
}

#[test]
fn an_owner_that_ends_during_a_claim_leaves_the_claim_alone() {
    let mut world = World::new(10);
    world.park(1, 10);
    world.claim(2, "7000", "Carol").unwrap();
    world.flow_ends(1, FlowEnd::Failed);
    assert_eq!(world.state("7000"), "connecting");
    assert_eq!(world.unattended.len(), 1);
    world.free(2, "7000", Outcome::Retrieved);
    assert_eq!(world.state("7000"), "free");
}

#[test]
fn a_claim_of_a_reserved_call_is_not_won_by_the_host_either() {
    let mut world = World::new(10);
    world.reserve(1, 10).unwrap();
    assert_eq!(refused(world.orbits.claim_now(world.now, "7000", party("Bob"))).0, 35000);
    world.drain();
}

#[test]
fn a_token_used_twice_waits_for_the_later_command() {
    let mut world = World::new(10);
    world.reserve(1, 10).unwrap();
    let waiter = world.waiter();
    world.orbits.claim(world.now, waiter, FlowId(2), claim("7000", "Carol"));
    world.orbits.claimed(waiter, FlowId(2), "7000");
    world.drain();
    world.commit(1, "7000");
    assert_eq!(world.state("7000"), "parked");
    world.claim(3, "7000", "Dave").unwrap();
    assert!(world.answer::<ClaimedBy>(waiter.token.0).unwrap().is_ok());
}

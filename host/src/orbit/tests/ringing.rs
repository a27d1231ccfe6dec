//! Ringing calls: queues, takers, and what becomes of a call.

use switchyard_sdk::ext::ringing::{Over, Routing, WaitState, WaitingCall};

use super::*;
use crate::orbit::Fate;

fn user(name: &str, groups: &[&str]) -> Party {
    let mut groups = groups.iter().map(|group| (*group).to_owned());
    Party {
        user: Some(name.to_owned()),
        display: Some(name.to_owned()),
        pickup_group: groups.next(),
        further_pickup_groups: groups.collect(),
        ..Party::default()
    }
}

fn call(leg: u64, callee: Party) -> WaitingCall {
    WaitingCall {
        leg: LegId(leg),
        state: WaitState::Ringing,
        caller: user("alice", &[]),
        callee,
        routing: Routing::Direct,
        private: false,
        excluded: false,
        since_ms: 0,
    }
}

fn queue(world: &World, group: &str) -> Vec<u64> {
    world.orbits.ringing_in(group).iter().map(|call| call.leg.0).collect()
}

#[test]
fn a_group_sees_its_members_calls_the_longest_first() {
    let mut world = World::new(1);
    for (leg, callee) in
        [(9, user("bob", &["*101"])), (3, user("carol", &["*101", "*102"])), (5, user("dave", &[]))]
    {
        world.orbits.ring_begins(world.now, call(leg, callee));
        world.pass(Duration::from_secs(1));
    }
    assert_eq!((queue(&world, "*101"), queue(&world, "*102")), (vec![9, 3], vec![3]), "not by leg, by time");
    assert_eq!(world.orbits.ringing_at("dave").len(), 1);
    world.orbits.ring_over(world.now, LegId(9), &Fate::HungUp);
    world.orbits.ring_over(world.now, LegId(9), &Fate::Unanswered);
    world.drain();
    assert_eq!(queue(&world, "*101"), [3]);
    let events: Vec<_> = world.events.iter().map(|(what, _, number, _)| (*what, number.as_str())).collect();
    let ringing = [("pickup.ringing", "*101"), ("pickup.ringing", "*101"), ("pickup.ringing", "*102")];
    assert_eq!(
        events,
        [&ringing[..], &[("pickup.over", "*101")]].concat(),
        "who is in no group is nobody's news"
    );
}

#[test]
fn one_taker_wins_and_the_others_learn_who() {
    let mut world = World::new(1);
    world.orbits.ring_begins(world.now, call(1, user("bob", &["*101"])));
    let carol = user("Carol", &[]);
    assert!(world.orbits.take_ringing(world.now, LegId(1), &carol).is_ok());
    world.pass(Duration::from_millis(400));
    let lost = world.orbits.take_ringing(world.now, LegId(1), &user("Dave", &[])).unwrap_err();
    assert_eq!(lost, Refusal::new(Code::LOST_CLAIM, "taken by Carol 0.4 s ago"));
    assert_eq!(queue(&world, "*101"), Vec::<u64>::new(), "who looks now finds nothing to take");
    assert_eq!(world.orbits.last_in(world.now, "*101").as_deref(), Some("taken by Carol 0.4 s ago"));
    // It could not be joined: everything is as before.
    world.orbits.ring_returned(LegId(1));
    assert_eq!((queue(&world, "*101"), world.orbits.last_in(world.now, "*101")), (vec![1], None));
    assert!(world.orbits.take_ringing(world.now, LegId(1), &user("Dave", &[])).is_ok());
}

#[test]
fn what_became_of_a_call_is_told_for_ten_seconds() {
    let mut world = World::new(1);
    let bob = || user("bob", &["*101"]);
    for (fate, words) in [
        (Fate::Taken(user("Carol", &[])), "taken by Carol"),
        (Fate::Answered(bob()), "answered by bob"),
        (Fate::Forwarded("1004".to_owned()), "forwarded to 1004"),
        (Fate::HungUp, "the caller hung up"),
        (Fate::Unanswered, "it has stopped ringing"),
    ] {
        world.orbits.ring_begins(world.now, call(1, bob()));
        world.orbits.ring_over(world.now, LegId(1), &fate);
        world.pass(Duration::from_millis(9_900));
        let told = format!("{words} 9.9 s ago");
        assert_eq!(world.orbits.last_in(world.now, "*101"), Some(told.clone()));
        assert_eq!(world.orbits.last_at(world.now, "bob"), Some(told));
        world.pass(Duration::from_millis(100));
        assert_eq!(world.orbits.last_in(world.now, "*101"), None);
        let gone = world.orbits.take_ringing(world.now, LegId(1), &bob()).unwrap_err();
        assert_eq!(gone.code, Code::LOST_CLAIM);
    }
}

/// A forward is the end at one callee and the beginning at the next.
#[test]
fn a_forwarded_call_rings_somewhere_else() {
    let mut world = World::new(1);
    world.orbits.ring_begins(world.now, call(1, user("bob", &["*101"])));
    let waiter = world.waiter();
    world.orbits.when_over(waiter, LegId(1));
    world.drain();
    assert!(world.answered.is_empty());
    world.orbits.ring_begins(world.now, call(1, user("carol", &["*102"])));
    world.drain();
    assert_eq!((queue(&world, "*101"), queue(&world, "*102")), (vec![], vec![1]));
    let over = Over { text: "forwarded to carol".to_owned() };
    assert_eq!(world.answer::<Over>(waiter.token.0), Some(Ok(over)));
    assert_eq!(world.orbits.last_at(world.now, "bob").as_deref(), Some("forwarded to carol 0.0 s ago"));
}

#[test]
fn waiting_for_a_call_to_be_over_is_level_triggered_and_can_be_withdrawn() {
    let mut world = World::new(1);
    let (late, gone) = (world.waiter(), world.waiter());
    world.orbits.when_over(late, LegId(7));
    world.orbits.ring_begins(world.now, call(1, user("bob", &[])));
    world.orbits.when_over(gone, LegId(1));
    world.orbits.withdraw(gone);
    world.orbits.ring_over(world.now, LegId(1), &Fate::HungUp);
    world.drain();
    assert_eq!(world.answered, [late.token.0], "at once, and nobody else");
}

//! One phone's call is taken: `**1002`, or an INVITE with Replaces built from what a lamp shows (RFC 3891).

use switchyard_host::sip::Name;

use super::*;

const BOBS_PHONE: &str = "sip:**1002@example.test";

#[test]
fn dialling_two_stars_and_an_extension_takes_the_call_at_that_phone() {
    let Ringing { mut world, alice, bob, dave, a, b, .. } = ringing();
    let d = world.act(dave, |phone| phone.invite(BOBS_PHONE, &[], true));
    world.run_for(second());
    assert_talk(&world, (alice, a), (dave, d));
    assert!(world.phones[bob].call(b).over);
    assert_nothing_left(&mut world);
}

#[test]
fn an_idle_phone_and_an_unknown_one_have_nothing_to_take() {
    let Ringing { mut world, carol, dave, .. } = ringing();
    let idle = world.act(carol, |phone| phone.invite("sip:**1004@example.test", &[], true));
    let unknown = world.act(dave, |phone| phone.invite("sip:**1999@example.test", &[], true));
    world.run_for(second());
    assert_refused(&world, carol, idle, Status::NOT_FOUND, &["35109", "nothing rings at 1004"]);
    assert_refused(&world, dave, unknown, Status::NOT_FOUND, &["35109", "nobody is reached at 1999"]);
}

#[test]
fn the_policy_says_who_is_reached_by_directed_pickup_and_who_may_use_it() {
    for (settings, callee, may) in [
        ("directed = \"everyone\"", "1004", true),
        ("directed = \"members\"", "1004", false),
        ("directed = \"off\"", "1002", false),
        ("directed_pickers = {}", "1002", false),
        ("directed_pickers = { \"carol\" }, pickers = {}", "1002", true),
    ] {
        let mut world = World::with(office_with(settings));
        let [alice, carol, _, _] = world.phones(["alice", "carol", "bob", "dave"]);
        let uri = format!("sip:{callee}@example.test");
        world.act(alice, |phone| phone.invite(&uri, &[], true));
        world.run_for(second());
        let pick = format!("sip:**{callee}@example.test");
        let c = world.act(carol, |phone| phone.invite(&pick, &[], true));
        world.run_for(second());
        assert_eq!(
            world.phones[carol].call(c).up,
            may,
            "{settings}: {:?}",
            world.phones[carol].call(c).warning
        );
    }
}

/// Call-ID and tags of the dialog between the host and a ringing phone, as dialog-info shows it to a watcher.
fn dialog_of(world: &World, phone: usize, call: CallId, early_only: bool, swapped: bool) -> String {
    let invite = &world.phones[phone].call(call).invite;
    let (theirs, ours) = (format!("{}{}", world.phones[phone].name, call.0), invite.from_tag().to_owned());
    let (to, from) = if swapped { (theirs, ours) } else { (ours, theirs) };
    let only = if early_only { ";early-only" } else { "" };
    format!("{};to-tag={to};from-tag={from}{only}", invite.call_id())
}

/// RFC 5359 §2.16, tags in either order (phones disagree).
#[test]
fn an_invite_with_replaces_takes_the_call_of_a_ringing_phone() {
    for swapped in [false, true] {
        for early_only in [false, true] {
            let Ringing { mut world, alice, bob, carol, a, b, .. } = ringing();
            let replaces = dialog_of(&world, bob, b, early_only, swapped);
            let c = world.act(carol, |phone| {
                phone.invite("sip:1002@example.test", &[(Name::Replaces, &replaces)], true)
            });
            world.run_for(second());
            assert_talk(&world, (alice, a), (carol, c));
            assert!(world.phones[bob].call(b).over);
            assert_nothing_left(&mut world);
        }
    }
}

/// A lamp key: what the watcher's phone was shown of Bob's ringing phone is all it needs to take the call.
#[test]
fn a_lamp_key_takes_the_call_its_lamp_shows() {
    let mut world = World::with(office());
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let lamp = world.act(carol, |phone| phone.watch("sip:1002@example.test", 3600));
    let a = world.act(alice, |phone| phone.invite("sip:1002@example.test", &[], true));
    world.run_for(second() * 2);
    let shown = world.phones[carol].watches[lamp].lamps.values().next().unwrap().clone();
    // RFC 4235 §3.7.2: tags are told from the side of who is watched; RFC 3891 §3 wants the same.
    let replaces = format!(
        "{};to-tag={};from-tag={};early-only",
        shown.call_id.unwrap(),
        shown.local_tag.unwrap(),
        shown.remote_tag.unwrap()
    );
    let c =
        world.act(carol, |phone| phone.invite("sip:1002@example.test", &[(Name::Replaces, &replaces)], true));
    world.run_for(second() * 2);
    assert_talk(&world, (alice, a), (carol, c));
    assert!(world.phones[bob].calls.iter().all(|call| call.over));
    assert_eq!(world.phones[carol].watches[lamp].history.last().map(String::as_str), Some("terminated"));
}

/// An answered call is not stolen, with or without `early-only`; both talk on.
#[test]
fn an_answered_call_cannot_be_stolen_by_replaces() {
    for early_only in [false, true] {
        let Ringing { mut world, alice, bob, carol, a, b, .. } = ringing();
        let replaces = dialog_of(&world, bob, b, early_only, false);
        world.act(bob, |phone| phone.answer(b));
        world.run_for(second());
        let c = world
            .act(carol, |phone| phone.invite("sip:1002@example.test", &[(Name::Replaces, &replaces)], true));
        world.run_for(second());
        assert_eq!(world.phones[carol].call(c).failed, Some(Status::BUSY_HERE));
        assert_talk(&world, (alice, a), (bob, b));
    }
}

/// Replaces goes by the same policy as dialling: Dave's calls are protected.
#[test]
fn replaces_needs_the_same_right_as_dialling() {
    let mut world = World::with(office());
    let [alice, carol, dave] = world.phones(["alice", "carol", "dave"]);
    world.act(alice, |phone| phone.invite("sip:1004@example.test", &[], true));
    world.run_for(second());
    let d = world.phones[dave].last();
    let replaces = dialog_of(&world, dave, d, true, false);
    let c =
        world.act(carol, |phone| phone.invite("sip:1004@example.test", &[(Name::Replaces, &replaces)], true));
    world.run_for(second());
    assert_refused(&world, carol, c, Status::FORBIDDEN, &["35103"]);
    assert!(!world.phones[dave].call(d).over);
}

/// A held call is taken only where the policy says so: else it counts as answered.
#[test]
fn a_held_call_is_taken_only_where_the_policy_says_so() {
    for (settings, may) in [("pick_held = false", false), ("pick_held = true", true)] {
        let mut world = World::with(office_with(settings));
        let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
        let (a, b) = world.connect(alice, bob);
        world.act(bob, |phone| phone.reinvite(b, "sendonly"));
        world.run_for(second());
        let c = world.act(carol, |phone| phone.invite(BOBS_PHONE, &[], true));
        world.run_for(second() * 2);
        if may {
            assert_talk(&world, (alice, a), (carol, c));
            assert!(world.phones[bob].call(b).over);
        } else {
            assert_refused(&world, carol, c, Status::BUSY_HERE, &["35101", "answered by Bob"]);
            assert!(world.phones[alice].call(a).up && world.phones[bob].call(b).up);
        }
        assert_nothing_left(&mut world);
    }
}

/// A call Bob parked, waiting or ringing back at him, likewise.
#[test]
fn a_parked_or_recalling_call_is_taken_only_where_the_policy_says_so() {
    for (settings, wait, may) in [
        ("pick_held = true", 10, false),
        ("pick_parked = true", 10, true),
        ("pick_parked = true", 95, false),
        ("pick_recalling = true", 95, true),
    ] {
        let mut world = World::with(office_with(settings));
        let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
        let (a, b) = world.connect(alice, bob);
        world.act(bob, |phone| phone.refer(b, "sip:park@example.test"));
        world.run_for(second() * wait);
        let c = world.act(carol, |phone| phone.invite(BOBS_PHONE, &[], true));
        world.run_for(second() * 2);
        if may {
            assert_talk(&world, (alice, a), (carol, c));
            assert!(world.occupants().is_empty() && world.streams.is_empty());
            assert!(world.phones[bob].calls.iter().all(|call| call.over), "{settings} after {wait} s");
        } else {
            assert_refused(&world, carol, c, Status::FORBIDDEN, &["35103"]);
            assert_eq!(world.occupants().len(), 1);
        }
    }
}

/// CP-10: a ring-back goes to the parker's phone, whatever he wishes for other calls.
#[test]
fn a_ring_back_ignores_forwarding() {
    let users =
        vec![("bob", "forward_no_answer = \"1004\"\nno_answer_after = \"5s\"\nforward_busy = \"1004\"")];
    let mut world = World::with(WorldOptions { users, ..WorldOptions::default() });
    let [alice, bob, dave] = world.phones(["alice", "bob", "dave"]);
    let (_, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test"));
    world.run_for(second() * 110);
    assert!(world.told("orbit.recalling").len() == 1 && world.phones[dave].calls.is_empty());
    assert!(!world.phones[bob].call(world.phones[bob].last()).over, "it rings at Bob");
}

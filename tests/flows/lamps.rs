//! Lamps: who watches whom sees what is true, soon, and no more than it may (RFC 4235, RFC 6665).

use std::time::Duration;

use switchyard_host::directory::User;
use switchyard_host::sip::Status;
use switchyard_host::store::{Operation, ROOT};

use crate::harness::{OnRing, StoreDoes, World, WorldOptions};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A world in which everybody may see names.
fn open_world() -> World {
    let open = r#"
local base = require "default"
return base:extend { lamps = { names = { others = true } } }"#;
    let policies = vec![("pools/east.lua".to_owned(), open.to_owned())];
    World::with(WorldOptions { policies, ..WorldOptions::default() })
}

#[track_caller]
fn expect_truth(world: &World) {
    assert_eq!(world.engine().unwrap().wrong_lamps(), []);
}

#[test]
fn a_lamp_goes_from_early_to_confirmed_to_terminated() {
    let mut world = open_world();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let lamp = world.act(carol, |phone| phone.watch("sip:1002@example.test", 3600));
    world.run_for(seconds(2));
    let watch = &world.phones[carol].watches[lamp];
    assert_eq!((watch.status, watch.documents.len()), (Some(Status::OK), 1));
    assert_eq!(watch.state, "active;expires=3600");
    assert!(watch.lamps.is_empty());

    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(seconds(2));
    let watch = &world.phones[carol].watches[lamp];
    assert_eq!(watch.shows(), ["early <- Alice sip:alice@example.test"]);
    // What a pickup by Replaces needs is there, and is what the phone itself calls the dialog.
    let ringing = watch.lamps.values().next().unwrap().clone();
    let at_bob = world.phones[bob].last();
    assert_eq!(ringing.call_id.as_deref(), Some(world.phones[bob].call(at_bob).invite.call_id()));
    let early = world.phones[bob].call(at_bob).early.clone().unwrap();
    assert_eq!(ringing.local_tag, Some(early.local_tag));
    assert_eq!(ringing.remote_tag, Some(early.remote_tag));

    world.act(bob, |phone| phone.answer(at_bob));
    world.run_for(seconds(2));
    assert_eq!(world.phones[carol].watches[lamp].shows(), ["confirmed <- Alice sip:alice@example.test"]);
    world.act(bob, |phone| phone.reinvite(at_bob, "sendonly"));
    world.run_for(seconds(2));
    assert_eq!(
        world.phones[carol].watches[lamp].shows(),
        ["confirmed <- Alice sip:alice@example.test (held)"]
    );
    world.act(alice, |phone| phone.hang_up(call));
    world.run_for(seconds(2));
    let watch = &world.phones[carol].watches[lamp];
    assert!(watch.lamps.is_empty());
    assert_eq!(watch.history, ["early", "confirmed", "confirmed", "terminated"]);
    assert_eq!(watch.documents, ["full", "partial", "partial", "partial", "partial"]);
    expect_truth(&world);
}

#[test]
fn the_caller_is_seen_from_the_callers_side() {
    let mut world = open_world();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let lamp = world.act(carol, |phone| phone.watch("sip:alice@example.test", 3600));
    world.run_for(seconds(2));
    world.connect(alice, bob);
    world.run_for(seconds(2));
    let watch = &world.phones[carol].watches[lamp];
    assert_eq!(watch.shows(), ["confirmed -> Bob sip:bob@example.test"]);
    assert_eq!(watch.lamps.values().next().unwrap().local, "sip:alice@example.test");
    expect_truth(&world);
}

/// facts.md §8 no. 11: the names of one's own group, "busy" for others; one's own calls always.
#[test]
fn who_sees_names_is_the_policys_business() {
    let mut world = World::new();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let other = world.act(carol, |phone| phone.watch("sip:bob@example.test", 3600));
    let own = world.act(bob, |phone| phone.watch("sip:bob@example.test", 3600));
    world.connect(alice, bob);
    world.run_for(seconds(2));
    let seen = world.phones[carol].watches[other].lamps.values().next().unwrap().clone();
    assert_eq!((seen.state.as_str(), seen.remote, seen.call_id), ("confirmed", None, None));
    assert_eq!(world.phones[bob].watches[own].shows(), ["confirmed <- Alice sip:alice@example.test"]);

    // Edited live: a cell may be a function of watcher and watched.
    let policy = r#"
local base = require "default"
return base:extend { lamps = { names = {
  others = function(watcher, watched) return watcher.user == "carol" and watched.user == "bob" end,
} } }"#;
    world.edit_policies(&[("pools/east.lua", policy)]);
    world.run_for(seconds(2));
    assert_eq!(world.phones[carol].watches[other].shows(), ["confirmed <- Alice sip:alice@example.test"]);
    expect_truth(&world);
}

#[test]
fn an_orbit_and_the_whole_lot_light_up_while_a_call_waits() {
    let mut world = World::new();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let orbit = world.act(carol, |phone| phone.watch("sip:7001@example.test", 3600));
    let lot = world.act(carol, |phone| phone.watch("sip:park@example.test", 3600));
    let bobs = world.act(bob, |phone| phone.watch("sip:bob@example.test", 3600));
    let (_, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
    world.run_for(seconds(4));
    for lamp in [orbit, lot] {
        let watch = &world.phones[carol].watches[lamp];
        assert_eq!(watch.shows(), ["confirmed <- Alice sip:alice@example.test"]);
        assert_eq!(watch.lamps.values().next().unwrap().local, "sip:7001@example.test");
    }
    assert!(world.phones[bob].watches[bobs].lamps.is_empty(), "the parker is free again");
    world.act(carol, |phone| phone.invite("sip:7001@example.test", &[], true));
    world.run_for(seconds(3));
    assert!(world.phones[carol].watches[orbit].lamps.is_empty());
    assert!(world.phones[carol].watches[lot].lamps.is_empty());
    expect_truth(&world);
}

#[test]
fn a_group_shows_what_rings_in_it() {
    let users = ["bob", "carol"].map(|user| (user, "pickup_group = \"*101\"")).to_vec();
    let mut world = World::with(WorldOptions { users, ..WorldOptions::default() });
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let lamp = world.act(carol, |phone| phone.watch("sip:*101@example.test", 3600));
    world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(seconds(2));
    let watch = &world.phones[carol].watches[lamp];
    assert_eq!(watch.shows(), ["early <- Alice sip:alice@example.test"]);
    assert_eq!(watch.lamps.values().next().unwrap().local, "sip:bob@example.test");
    let ringing = world.phones[bob].last();
    world.act(bob, |phone| phone.answer(ringing));
    world.run_for(seconds(2));
    assert!(world.phones[carol].watches[lamp].lamps.is_empty(), "an answered call rings no more");
    expect_truth(&world);
}

/// RFC 4235 §3.10: not more than one a second, and the last one tells what is.
#[test]
fn a_busy_line_is_told_once_a_second_at_most() {
    let mut world = open_world();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    world.phones[bob].on_ring = OnRing::Refuse(Status::BUSY_HERE);
    let lamp = world.act(carol, |phone| phone.watch("sip:alice@example.test", 3600));
    world.run_for(seconds(2));
    for _ in 0..30 {
        world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
        world.run_for(Duration::from_millis(100));
    }
    world.run_for(seconds(2));
    let watch = &world.phones[carol].watches[lamp];
    assert!((2..=6).contains(&watch.documents.len()), "{:?}", watch.documents);
    assert!(watch.lamps.is_empty());
    expect_truth(&world);
}

#[test]
fn a_subscription_is_refreshed_ended_and_runs_out() {
    let mut world = World::new();
    let [carol] = world.phones(["carol"]);
    let lamp = world.act(carol, |phone| phone.watch("sip:bob@example.test", 120));
    world.run_for(seconds(100));
    world.act(carol, |phone| phone.watch_again(lamp, 120));
    world.run_for(seconds(100));
    let watch = &world.phones[carol].watches[lamp];
    assert_eq!((watch.documents.len(), watch.state.as_str()), (2, "active;expires=120"));
    assert_eq!(watch.documents, ["full", "full"], "a refresh is answered with everything");
    world.run_for(seconds(30));
    assert_eq!(world.phones[carol].watches[lamp].state, "terminated;reason=timeout");
    world.act(carol, |phone| phone.watch_again(lamp, 120));
    world.run_for(seconds(1));
    let gone = Some(Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
    assert_eq!(world.phones[carol].watches[lamp].status, gone);

    let lamp = world.act(carol, |phone| phone.watch("sip:bob@example.test", 120));
    world.run_for(seconds(2));
    world.act(carol, |phone| phone.watch_again(lamp, 0));
    world.run_for(seconds(2));
    assert_eq!(world.phones[carol].watches[lamp].state, "terminated;reason=timeout");
    // Fetching: told once, and that is it.
    let lamp = world.act(carol, |phone| phone.watch("sip:bob@example.test", 0));
    world.run_for(seconds(2));
    let watch = &world.phones[carol].watches[lamp];
    assert_eq!((watch.documents.len(), watch.state.as_str()), (1, "terminated;reason=timeout"));
    world.run_for(seconds(60));
    assert_eq!(world.alive().get("lamps"), None);
    let stored: Vec<_> = world.store.snapshot(ROOT).records.into_keys().collect();
    assert!(!stored.iter().any(|key| key.contains("/lamp/")), "{stored:?}");
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let mut world = World::new();
    let [carol] = world.phones(["carol"]);
    let mut ask = |uri: &str, expires: u32, event: &'static str| {
        let lamp = world.act(carol, |phone| phone.watch_event(uri, expires, event));
        world.run_for(seconds(1));
        let watch = &world.phones[carol].watches[lamp];
        (watch.status.unwrap().0, watch.said.join(", "))
    };
    assert_eq!(
        ask("sip:bob@example.test", 3600, "message-summary"),
        (489, "Allow-Events: dialog, refer".to_owned())
    );
    assert_eq!(ask("sip:bob@example.test", 3600, "presence").0, 489);
    assert_eq!(ask("sip:nobody@example.test", 3600, "dialog").0, 404);
    assert_eq!(ask("sip:bob@elsewhere.test", 3600, "dialog").0, 404);
    assert_eq!(ask("sip:bob@example.test", 10, "dialog"), (423, "Min-Expires: 60".to_owned()));
    assert_eq!(ask("sip:bob@example.test", 999_999, "dialog"), (200, "Expires: 7200".to_owned()));
}

/// RFC 6665 §4.2.2: a watcher that knows nothing of its subscription loses it; one that is only busy does not.
#[test]
fn a_watcher_that_refuses_is_dropped_or_told_everything_again() {
    let mut world = open_world();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let lamp = world.act(carol, |phone| phone.watch("sip:bob@example.test", 3600));
    world.run_for(seconds(2));
    world.phones[carol].watches[lamp].refuse = vec![Status::SERVER_INTERNAL_ERROR];
    world.connect(alice, bob);
    world.run_for(seconds(10));
    let watch = &world.phones[carol].watches[lamp];
    assert_eq!(watch.shows(), ["confirmed <- Alice sip:alice@example.test"]);
    assert_eq!(watch.documents.last().map(String::as_str), Some("full"));
    expect_truth(&world);

    world.phones[carol].watches[lamp].refuse = vec![Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST];
    let talking = world.phones[bob].last();
    world.act(bob, |phone| phone.hang_up(talking));
    world.run_for(seconds(10));
    assert_eq!(world.alive().get("lamps"), None);
}

#[test]
fn a_watcher_that_vanished_is_forgotten() {
    let mut world = open_world();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    world.act(carol, |phone| phone.watch("sip:bob@example.test", 3600));
    world.run_for(seconds(2));
    world.phones[carol].dead = true;
    world.connect(alice, bob);
    world.run_for(seconds(40));
    assert_eq!(world.alive().get("lamps"), None);
}

#[test]
fn lamps_outlive_kill_9_policies_and_a_reloaded_plugin() {
    let mut world = open_world();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let orbit = world.act(carol, |phone| phone.watch("sip:7001@example.test", 3600));
    let lamp = world.act(carol, |phone| phone.watch("sip:bob@example.test", 3600));
    let (_, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
    world.run_for(seconds(4));
    let before = world.phones[carol].watches[orbit].documents.len();
    world.kill_host();
    world.start_host();
    world.run_for(seconds(5));
    let watch = &world.phones[carol].watches[orbit];
    assert_eq!(watch.shows(), ["confirmed <- Alice sip:alice@example.test"]);
    assert_eq!(watch.documents[before..], ["full", "partial"], "everything, then that the call is back");
    assert!(world.phones[carol].watches[lamp].lamps.is_empty());
    expect_truth(&world);
    // And it goes on from there, in the same subscription.
    world.act(carol, |phone| phone.invite("sip:7001@example.test", &[], true));
    world.run_for(seconds(3));
    assert!(world.phones[carol].watches[orbit].lamps.is_empty());
    assert_eq!(world.phones[carol].watches[orbit].documents.last().map(String::as_str), Some("partial"));
    world.act(carol, |phone| phone.watch_again(orbit, 3600));
    world.run_for(seconds(1));
    assert_eq!(world.phones[carol].watches[orbit].status, Some(Status::OK));
    expect_truth(&world);
}

/// Each restart goes on from the numbers of the one before.
#[test]
fn lamps_outlive_one_restart_after_the_other() {
    let mut world = open_world();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let lamp = world.act(carol, |phone| phone.watch("sip:bob@example.test", 3600));
    world.run_for(seconds(2));
    for _ in 0..3 {
        world.kill_host();
        world.start_host();
        world.run_for(seconds(3));
        let (a, _) = world.connect(alice, bob);
        world.run_for(seconds(2));
        assert_eq!(world.phones[carol].watches[lamp].shows(), ["confirmed <- Alice sip:alice@example.test"]);
        world.act(alice, |phone| phone.hang_up(a));
        world.run_for(seconds(2));
        assert!(world.phones[carol].watches[lamp].lamps.is_empty());
    }
    expect_truth(&world);
}

/// The truth monitor: what a watcher was told wrongly is noticed and put right by itself.
#[test]
fn a_wrong_lamp_is_found_and_healed() {
    let mut world = open_world();
    let [_, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let lamp = world.act(carol, |phone| phone.watch("sip:bob@example.test", 3600));
    world.run_for(seconds(2));
    // The policy's answer may depend on the time of day, of which nobody tells the notifier.
    let policy = r#"
local base = require "default"
return base:extend { lamps = { names = { others = function() return now() % 200 >= 100 end } } }"#;
    world.edit_policies(&[("pools/east.lua", policy)]);
    world.act(bob, |phone| phone.invite("sip:1001@example.test", &[], true));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..30 {
        world.run_for(seconds(10));
        let lamps = &world.phones[carol].watches[lamp].lamps;
        seen.extend(lamps.values().map(|lamp| lamp.remote.is_some()));
    }
    assert_eq!(seen.len(), 2, "names came and went without any call changing");
    assert!(!world.told("lamp.healed").is_empty());
}

/// GCP-09: what nobody may ever pick up is not shown to the group, which would only be refused.
#[test]
fn the_groups_lamp_shows_only_what_may_be_picked_up() {
    let bob = "pickup_group = \"*101\"\nprivate_number = \"1092\"\nnot_pickable_from = \"dave\"";
    let users = vec![("bob", bob), ("carol", "pickup_group = \"*101\"")];
    let mut world = World::with(WorldOptions { users, ..WorldOptions::default() });
    let [alice, _bob, carol, dave] = world.phones(["alice", "bob", "carol", "dave"]);
    let lamp = world.act(carol, |phone| phone.watch("sip:*101@example.test", 3600));
    world.run_for(seconds(2));
    for (caller, target, shown) in [(alice, "1002", 1), (alice, "1092", 0), (dave, "1002", 0)] {
        let call = world.act(caller, |phone| phone.invite(&format!("sip:{target}@example.test"), &[], true));
        world.run_for(seconds(2));
        let shows = world.phones[carol].watches[lamp].shows();
        assert_eq!(shows.len(), shown, "{target}: {shows:?}");
        world.act(caller, |phone| phone.cancel(call));
        world.run_for(seconds(2));
        assert!(world.phones[carol].watches[lamp].lamps.is_empty());
        expect_truth(&world);
    }
}

/// A user who watches himself is removed: his subscription ends once, and the store keeps nothing of it.
#[test]
fn a_watcher_of_himself_who_is_removed_leaves_no_record() {
    let mut world = World::new();
    let [alice] = world.phones(["alice"]);
    let own = world.act(alice, |phone| phone.watch("sip:alice@example.test", 3600));
    world.run_for(seconds(2));
    world.write_record(Operation::Delete { key: User::key("alice") });
    world.run_for(seconds(2));
    assert_eq!(world.phones[alice].watches[own].state, "terminated;reason=noresource");
    let stored = world.store.snapshot(&format!("{ROOT}lamp/")).records;
    assert!(stored.is_empty(), "{stored:?}");
}

/// The disk is full: what the second restart goes on with is above what the first has used, all the same.
#[test]
fn numbers_go_up_over_restarts_the_store_takes_no_note_of() {
    let mut world = World::new();
    let [alice] = world.phones(["alice"]);
    let lamp = world.act(alice, |phone| phone.watch("sip:bob@example.test", 3600));
    world.run_for(seconds(2));
    world.store_does = StoreDoes::Refuse;
    for restarts in 1..4 {
        world.kill_host();
        world.run_for(seconds(2));
        world.start_host();
        world.run_for(seconds(2));
        // The phone itself would complain about a number it has seen.
        assert_eq!(world.phones[alice].watches[lamp].documents.len(), 1 + restarts);
    }
}

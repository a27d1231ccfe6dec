//! A host that has lost the store, and may be taken for dead.

use std::collections::BTreeMap;
use std::time::Duration;

use expect_test::expect;
use serde_json::Value;
use switchyard_host::admin::Request;
use switchyard_host::cluster::Frame;
use switchyard_host::engine::Input;
use switchyard_host::net::HostName;
use switchyard_host::policy::Bundle;
use switchyard_host::sip::Status;
use switchyard_host::store::keys::{calls_prefix, lamps_prefix, policy_key};
use switchyard_host::time::Utc;

use crate::harness::{CallId, OnRing, World, WorldOptions};

use super::{assert_quiet, one_pool, second};

#[test]
fn the_clock_of_a_parked_call_stands_still_until_the_host_is_heard_again() {
    let mut world = World::with(WorldOptions { hosts: &[("fe1", "east")], ..WorldOptions::default() });
    let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test"));
    world.run_for(second() * 4);
    world.cut_from_store(0, true);
    world.run_for(second() * 180);
    assert_eq!(world.phones[bob].calls.len(), 1, "no recall: another host might ring him as well");
    assert!(world.streams.values().all(|stream| stream.remote.is_some()), "music goes on");
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.cut_from_store(0, false);
    world.run_for(second() * 6);
    assert_eq!(world.phones[bob].calls.len(), 2, "the recall that was due");
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.2"));
}

#[test]
fn only_the_host_that_has_taken_over_recalls() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe2"), ("bob", "fe2")]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test"));
    world.run_for(second() * 4);
    world.cut_from_store(0, true);
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.run_for(second() * 100);
    assert_eq!(world.phones[bob].calls.len(), 2, "one recall");
    let back = world.phones[bob].last();
    assert!(world.phones[bob].call(back).up);
    assert!(!world.phones[alice].call(a).over);
}

#[test]
fn a_call_that_the_store_never_took_goes_on_where_it_is_when_another_host_takes_over() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe2"), ("bob", "fe2")]);
    world.cut_from_store(0, true);
    let (a, b) = world.connect(alice, bob);
    world.run_for(second() * 30);
    world.cut_from_store(0, false);
    world.run_for(second() * 10);
    assert_eq!(world.told("seat.left").len(), 1);
    world.act(alice, |phone| phone.reinvite(a, "sendonly"));
    world.run_for(second());
    assert!(world.phones[bob].call(b).heard.as_ref().unwrap().contains("sendonly"));
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(second());
    assert!(world.phones[alice].call(a).over, "she was told");
}

#[test]
fn phones_of_other_hosts_reach_a_call_that_only_a_host_without_the_store_knows() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe2")]);
    world.cut_from_store(0, true);
    let (a, b) = world.connect(alice, bob);
    world.run_for(second() * 30);
    assert_eq!(world.told("seat.taken").len(), 2, "fe2 serves");
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("sendonly"));
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(second());
    assert!(world.phones[alice].call(a).over, "she was told");
}

#[test]
fn who_hung_up_at_a_host_without_the_store_has_hung_up_where_the_call_was_taken_up() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
    let (a, b) = world.connect(alice, bob);
    world.run_for(second() * 4);
    world.cut_from_store(0, true);
    world.run_for(second() * 20);
    assert_eq!(world.told("seat.taken").len(), 2, "fe2 serves, and has taken the call up");
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(second());
    world.cut_from_store(0, false);
    world.run_for(second() * 10);
    assert!(world.phones[alice].call(a).over, "she was told");
    world.run_for(second() * 40);
    assert_quiet(&world);
}

#[test]
fn who_was_resumed_at_a_host_without_the_store_is_not_held_by_whoever_took_the_call_up() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second() * 4);
    world.cut_from_store(0, true);
    world.run_for(second() * 2);
    world.act(bob, |phone| phone.reinvite(b, "sendrecv"));
    world.run_for(second() * 10);
    assert_eq!(world.told("seat.taken").len(), 2, "fe2 serves, and goes by the record");
    world.start_ladder();
    world.cut_from_store(0, false);
    world.run_for(second() * 10);
    expect![[r#"
        +0.003  fe1   -> alice  INVITE (sdp)
        +0.013  alice -> fe1    200 OK (sdp)
        +0.025  fe1   -> alice  ACK
        +0.025  fe1   -> bob    INVITE (sdp)
        +0.035  bob   -> fe1    200 OK (sdp)
        +0.047  fe1   -> bob    ACK
    "#]]
    .assert_eq(&world.ladder());
    for (phone, call) in [(alice, a), (bob, b)] {
        let heard = world.phones[phone].call(call).heard.as_ref().unwrap();
        assert!(heard.contains("sendrecv") && !heard.contains("192.0.2."), "{heard}");
    }
    // Whatever they do next is done where they were taken up.
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("sendonly"));
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(second() * 40);
    assert!(world.phones[alice].call(a).over, "she was told");
    assert_quiet(&world);
}

#[test]
fn a_phone_that_changes_its_call_when_it_is_told_again_is_asked_once_more() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second() * 4);
    world.cut_from_store(0, true);
    world.run_for(second() * 2);
    world.act(bob, |phone| phone.reinvite(b, "sendrecv"));
    world.run_for(second() * 10);
    world.phones[bob].refuse_reinvites = vec![Status::REQUEST_PENDING; 2];
    world.cut_from_store(0, false);
    world.run_for(second() * 20);
    for (phone, call) in [(alice, a), (bob, b)] {
        let heard = world.phones[phone].call(call).heard.as_ref().unwrap();
        assert!(heard.contains("sendrecv"), "{heard}");
    }
}

#[test]
fn a_park_that_has_begun_when_its_host_loses_the_store_is_refused_before_another_takes_over() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
    let (a, b) = world.connect(alice, bob);
    world.run_for(second() * 4);
    world.start_ladder();
    world.cut_from_store(0, true);
    world.run_for(second());
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test"));
    world.run_for(second() * 3);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("192.0.2."), "music, so far");
    world.run_for(second() * 11);
    expect![[r#"
        +1.000  bob   -> fe1    REFER to sip:park@example.test
        +1.010  fe1   -> bob    202 Accepted
        +1.010  fe1   -> bob    NOTIFY SIP/2.0 100 Trying
        +1.010  fe1   -> alice  INVITE (sdp)
        +1.020  bob   -> fe1    200 OK
        +1.020  alice -> fe1    200 OK (sdp)
        +1.030  fe1   -> alice  ACK
        +4.800  fe1   -> bob    NOTIFY SIP/2.0 503 this host has lost the store, and another may look after its calls
        +4.800  fe1   -> alice  INVITE (sdp)
        +4.810  bob   -> fe1    200 OK
        +4.810  alice -> fe1    200 OK (sdp)
        +4.820  fe1   -> alice  ACK
        +4.820  fe1   -> bob    INVITE (sdp)
        +4.830  bob   -> fe1    200 OK (sdp)
        +4.840  fe1   -> bob    ACK
        +6.503  fe2   -> alice  UPDATE
        +6.513  alice -> fe2    200 OK
        +6.703  fe2   -> bob    UPDATE
        +6.713  bob   -> fe2    200 OK
    "#]].assert_eq(&world.ladder());
    assert_eq!(world.told("seat.taken").len(), 2, "fe2 serves");
    world.cut_from_store(0, false);
    world.run_for(second() * 10);
    assert!(world.phones[bob].call(b).notified.last().unwrap().contains("503"), "he was told");
    for (phone, call) in [(alice, a), (bob, b)] {
        let call = world.phones[phone].call(call);
        assert!(call.up && !call.heard.as_ref().unwrap().contains("192.0.2."), "{:?}", call.heard);
    }
    assert_eq!(world.ask_host(1, Request::Occupants).unwrap().as_array().unwrap().len(), 0);
}

#[test]
fn a_host_without_the_store_refuses_parks_before_anybody_hears_music() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
    let (a, b) = world.connect(alice, bob);
    world.run_for(second() * 4);
    world.cut_from_store(0, true);
    world.run_for(second() * 5);
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test"));
    world.run_for(second());
    assert!(world.phones[bob].call(b).notified.last().unwrap().contains("503"), "he was told");
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.2"), "no music");
    assert!(world.phones[bob].call(b).up);
}

#[test]
fn the_record_of_a_subscription_that_ends_meanwhile_is_removed_when_the_host_is_heard_again() {
    let mut world = World::with(WorldOptions { hosts: &[("fe1", "east")], ..WorldOptions::default() });
    let [_alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
    world.act(bob, |phone| phone.watch("sip:alice@example.test", 60));
    world.run_for(second());
    let recorded = |world: &World| world.store.snapshot(&lamps_prefix()).records.len();
    assert_eq!(recorded(&world), 1);
    world.cut_from_store(0, true);
    world.run_for(second() * 90);
    assert_eq!(recorded(&world), 1, "nobody could remove it");
    world.cut_from_store(0, false);
    world.run_for(second() * 10);
    assert_eq!(recorded(&world), 0);
}

/// Bob hung up and Carol resumed Dave at a host without the store, which reaches whoever serves them now only after that long. What
/// was said from then on. That it is out of reach it knows, or learns by what it tells.
fn told_late(apart: u32, knows: bool, on_tcp: bool) -> (World, [(usize, CallId); 4], String) {
    let mut world = one_pool();
    let phones = [("alice", "fe1"), ("bob", "fe1"), ("carol", "fe1"), ("dave", "fe1")];
    let [alice, bob, carol, dave] = world.phones_at(phones);
    if on_tcp {
        world.act(bob, |phone| phone.register(0));
        world.run_for(second());
        world.on_tcp(bob);
        world.act(bob, |phone| phone.register(3600));
        world.run_for(second());
    }
    let (a, b) = world.connect(alice, bob);
    let (c, d) = world.connect(carol, dave);
    world.act(carol, |phone| phone.reinvite(c, "sendonly"));
    world.run_for(second() * 4);
    world.cut_from_store(0, true);
    world.run_for(second() * 2);
    world.act(carol, |phone| phone.reinvite(c, "sendrecv"));
    world.run_for(second() * 18);
    assert_eq!(world.told("seat.taken").len(), 2, "fe2 serves, and has taken the calls up");
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(second());
    if knows {
        world.cut_link((0, 1));
    } else {
        world.cut_links.insert((0, 1));
    }
    world.cut_from_store(0, false);
    world.run_for(second() * apart);
    assert_eq!(world.told("seat.left").len(), 1);
    world.mend_link((0, 1));
    world.start_ladder();
    world.run_for(second() * 10);
    let ladder = world.ladder();
    (world, [(alice, a), (bob, b), (carol, c), (dave, d)], ladder)
}

#[test]
fn what_a_host_without_the_store_has_to_tell_is_told_when_the_next_holder_can_be_reached() {
    for (knows, on_tcp) in [(true, false), (false, false), (false, true)] {
        let (world, [(alice, a), _, (carol, c), (dave, d)], ladder) = told_late(30, knows, on_tcp);
        if !on_tcp {
            expect![[r#"
                +0.002  fe1   -> bob    200 OK
                +0.002  fe1   -> alice  BYE
                +0.002  fe1   -> carol  INVITE (sdp)
                +0.012  alice -> fe1    200 OK
                +0.012  carol -> fe1    200 OK (sdp)
                +0.024  fe1   -> carol  ACK
                +0.024  fe1   -> dave   INVITE (sdp)
                +0.034  dave  -> fe1    200 OK (sdp)
                +0.046  fe1   -> dave   ACK
            "#]]
            .assert_eq(&ladder);
        }
        assert!(!ladder.contains(" 503 "), "what was answered is not refused:\n{ladder}");
        assert!(world.phones[alice].call(a).over, "she was told:\n{ladder}");
        for (phone, call) in [(carol, c), (dave, d)] {
            let call = world.phones[phone].call(call);
            assert!(
                call.up && call.heard.as_ref().unwrap().contains("sendrecv"),
                "{:?}\n{ladder}",
                call.heard
            );
        }
    }
}

#[test]
fn what_a_host_had_to_tell_is_forgotten_when_the_next_holder_is_out_of_reach_for_long() {
    for knows in [true, false] {
        let (_, _, ladder) = told_late(70, knows, false);
        assert_eq!(ladder.trim(), "");
    }
}

/// Many calls between the same two, all held by him. His phone, its calls, and hers.
fn many_held(world: &mut World) -> (usize, Vec<CallId>, usize) {
    let [alice, bob] = world.phones_at([("alice", "fe2"), ("bob", "fe2")]);
    let calls: Vec<CallId> = (0..12).map(|_| world.connect(alice, bob).1).collect();
    for call in &calls {
        world.act(bob, |phone| phone.reinvite(*call, "sendonly"));
    }
    world.run_for(second() * 5);
    (bob, calls, alice)
}

fn resume(world: &mut World, phone: usize, calls: &[CallId]) {
    for call in calls {
        world.act(phone, |phone| phone.reinvite(*call, "sendrecv"));
    }
}

/// INVITEs to phones are spread.
fn assert_paced(world: &World) {
    let ladder = world.ladder();
    let mut bursts = BTreeMap::new();
    for line in ladder.lines().filter(|line| line.contains("fe2   -> ") && line.contains("INVITE")) {
        let tenth = line.find('.').unwrap() + 2;
        *bursts.entry(line[..tenth].to_owned()).or_insert(0) += 1;
    }
    assert!(bursts.len() > 10 && bursts.values().all(|count| *count <= 6), "{bursts:?}\n{ladder}");
}

#[test]
fn many_phones_are_told_again_one_after_the_other() {
    // They were resumed at a host without the store, and another has taken them up before it is told so.
    let mut world = one_pool();
    let (bob, calls, alice) = many_held(&mut world);
    world.cut_from_store(0, true);
    world.run_for(second());
    resume(&mut world, bob, &calls);
    world.run_for(second() * 20);
    assert_eq!(world.told("seat.taken").len(), 2, "fe2 serves");
    world.start_ladder();
    world.cut_from_store(0, false);
    world.run_for(second() * 10);
    assert_paced(&world);
    for phone in [alice, bob] {
        for call in world.phones[phone].live() {
            let heard = world.phones[phone].call(call).heard.as_ref().unwrap();
            assert!(heard.contains("sendrecv"), "{heard}\n{}", world.ladder());
        }
    }
    // They were being resumed when their host died.
    let mut world = one_pool();
    let (bob, calls, _) = many_held(&mut world);
    resume(&mut world, bob, &calls);
    world.run_for(Duration::from_millis(25));
    world.kill(0);
    world.start_ladder();
    world.run_for(second() * 15);
    assert_eq!(world.told("seat.taken").len(), 2, "fe2 serves");
    assert_paced(&world);
}

/// A host was told how a call is that it did not get to serve, and gets to serve it much later.
#[test]
fn what_others_have_told_of_a_call_is_forgotten_when_its_seat_does_not_come() {
    let ladder = |told: bool| {
        let mut world = one_pool();
        let [alice, bob] = world.phones_at([("alice", "fe2"), ("bob", "fe2")]);
        let (_, b) = world.connect(alice, bob);
        world.run_for(second() * 5);
        world.act(bob, |phone| phone.reinvite(b, "sendonly"));
        world.run_for(second() * 5);
        let recorded = world.store.snapshot(&calls_prefix()).records;
        let record: Value = serde_json::from_slice(&recorded.values().next().unwrap().value).unwrap();
        let legs = record["legs"].as_array().unwrap().clone();
        assert_eq!(legs.len(), 2);
        world.act(bob, |phone| phone.reinvite(b, "sendrecv"));
        world.run_for(second() * 5);
        if told {
            let [from, pool] = ["fe1", "east"].map(|name| HostName::new(name).unwrap());
            world.gets(1, Input::Link { from, frame: Frame::Changed { pool, legs } });
        }
        world.run_for(second() * 300);
        world.kill(0);
        world.start_ladder();
        world.run_for(second() * 30);
        world.ladder()
    };
    assert_eq!(ladder(true), ladder(false));
}

/// What phones say of themselves while the store is away is not stored then. It is when the store is back: the seat moves later.
#[test]
fn who_registers_while_the_store_is_away_is_known_to_the_next_host() {
    let mut world = one_pool();
    let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
    world.kill(1);
    world.cut_from_store(0, true);
    world.run_for(second() * 2);
    world.act(bob, |phone| phone.register(0));
    world.run_for(second() * 20);
    let [carol] = world.phones_at([("carol", "fe1")]);
    world.cut_from_store(0, false);
    world.run_for(second() * 10);
    world.start(1);
    world.run_for(second() * 5);
    world.gets(0, Input::Drain);
    world.run_for(second() * 10);
    assert_eq!(world.told("seat.left").len(), 1, "fe2 serves");
    world.phones[carol].on_ring = OnRing::AnswerAfter(second());
    let call = world.act(alice, |phone| phone.invite("sip:carol@example.test", &[], true));
    world.run_for(second() * 4);
    assert!(world.phones[alice].call(call).up, "carol is where she said");
    world.start_ladder();
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(second() * 4);
    let failed = world.phones[alice].call(call).failed;
    assert_eq!(failed, Some(Status::TEMPORARILY_UNAVAILABLE), "bob has gone: {}", world.ladder());
}

/// Who takes over from a host that has lost the store does not know who has registered there: phones come back soon.
#[test]
fn a_host_that_has_lost_the_store_grants_short_registrations() {
    let mut world = World::with(WorldOptions { hosts: &[("fe1", "east")], ..WorldOptions::default() });
    world.phones_at([("alice", "fe1")]);
    let granted = |world: &mut World| {
        world.act(0, |phone| phone.register(3600));
        world.run_for(second());
        let users = world.ask(Request::Users).unwrap();
        let alice = users.as_array().unwrap().iter().find(|user| user["name"] == "alice").unwrap();
        let expires = Utc(alice["bindings"][0]["expires"].as_u64().unwrap());
        expires.saturating_since(world.utc()).as_secs()
    };
    assert!(granted(&mut world) > 3000);
    world.cut_from_store(0, true);
    world.run_for(second() * 20);
    assert!(granted(&mut world) <= 60);
    world.cut_from_store(0, false);
    world.run_for(second() * 5);
    assert!(granted(&mut world) > 3000);
}

/// The same of who watches whom, and of the pool's policy, of that also when the seat is another's by then.
#[test]
fn who_watches_and_which_policy_holds_while_the_store_is_away_is_stored_when_it_is_back() {
    for taken in [false, true] {
        let mut world = one_pool();
        let [_alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
        if !taken {
            world.kill(1);
        }
        let hash = |world: &World| {
            let key = policy_key("east");
            let lent: Value =
                serde_json::from_slice(&world.store.snapshot(&key).records[&key].value).unwrap();
            lent["hash"].as_str().unwrap().to_owned()
        };
        let before = hash(&world);
        world.cut_from_store(0, true);
        world.run_for(second() * 20);
        world.act(bob, |phone| phone.watch("sip:alice@example.test", 3600));
        let text = "return { call_park = { pickup_timeout = '40s' } }".to_owned();
        world.gets(0, Input::Policy(Bundle::of([("default.lua".to_owned(), text)]).into()));
        world.run_for(second());
        assert_eq!(hash(&world), before);
        world.cut_from_store(0, false);
        world.run_for(second() * 10);
        assert_ne!(hash(&world), before, "the backup goes by it");
        assert_eq!(world.told("seat.left").len(), usize::from(taken));
        if !taken {
            assert_eq!(world.store.snapshot(&lamps_prefix()).records.len(), 1);
        }
    }
}

//! Nobody is left with nobody: what simulation found (docs/testing.md), each as the flow it comes down to.

use std::time::Duration;

use switchyard_host::orbit::remove_operation;
use switchyard_host::sip::Status;

use crate::harness::{OnRing, StoreDoes, World, WorldOptions};

fn second() -> Duration {
    Duration::from_secs(1)
}

/// A phone that says 100 to a re-INVITE and then nothing is not waited for without end, and the INVITE's transaction
/// ends.
#[test]
fn a_phone_that_only_tries_to_answer_a_reinvite_is_given_up() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.phones[alice].ignore_reinvites = true;
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test"));
    world.run_for(second() * 70);
    let told = world.phones[bob].call(b).notified.last().unwrap().clone();
    assert!(!told.starts_with("SIP/2.0 100"), "{told}");
    world.act(bob, |phone| phone.hang_up(b));
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 70);
    assert!(world.alive().is_empty(), "{:?}", world.alive());
}

/// Two phones without session timers lose power in the middle of their call: nobody says so, and still it ends.
#[test]
fn a_call_between_two_phones_that_are_gone_ends() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.connect(alice, bob);
    for phone in [alice, bob] {
        world.reboot(phone, second());
    }
    world.run_for(second() * 800);
    assert_eq!(world.alive()["legs"], 2, "nothing tells the host");
    world.run_for(second() * 200);
    assert!(world.alive().is_empty(), "{:?}", world.alive());
}

/// A NAT forgets a parked phone, which registers again: the host finds it there, for its music and for who takes it.
#[test]
fn a_parked_phone_that_registers_from_elsewhere_is_found_there() {
    let mut world = World::new();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
    world.run_for(second() * 3);
    world.phones[alice].seen_as = ([203, 0, 113, 7], 40_001).into();
    world.act(alice, |phone| phone.register(3600));
    world.run_for(second());
    let c = world.act(carol, |phone| phone.invite("sip:7001@example.test", &[], true));
    world.run_for(second() * 2);
    assert!(world.phones[carol].call(c).up && world.phones[alice].call(a).up);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.3"));
}

/// The park fails, and the parker's phone does not take its caller back on the old leg: it rings for her.
#[test]
fn a_phone_that_refuses_its_caller_back_is_rung_for_her() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.store_does = StoreDoes::Refuse;
    world.phones[bob].refuse_reinvites = vec![Status::SERVER_INTERNAL_ERROR];
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.act(bob, |phone| phone.refer(b, "sip:7007@example.test"));
    world.run_for(second() * 15);
    let back = world.phones[bob].last();
    assert!(world.phones[bob].call(b).over && back != b);
    assert!(world.phones[bob].call(back).up && world.phones[alice].call(a).up);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("10.0.0.2"));
}

/// The caller hangs up while the store is asked: there is nobody to give back to the parker, whose call ends.
#[test]
fn a_caller_who_leaves_while_being_parked_leaves_no_parker_waiting() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.store_does = StoreDoes::Hang;
    world.act(bob, |phone| phone.refer(b, "sip:7007@example.test"));
    world.run_for(second());
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second());
    assert!(world.phones[bob].call(b).over);
    world.store_does = StoreDoes::WELL;
    world.run_for(second() * 40);
    assert!(world.alive().is_empty() && world.occupants().is_empty(), "{:?}", world.alive());
}

/// Hold and dial, but the held leg is hung up before the host has answered: the dialled one says the number and ends.
#[test]
fn a_dialled_leg_without_its_held_one_ends() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    let dialled = world.act(bob, |phone| phone.invite("sip:7003@example.test", &[], true));
    // Alice has been asked to listen to the music.
    world.run_for(Duration::from_millis(35));
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(second() * 5);
    assert!(world.phones[bob].call(dialled).up, "he hears the number");
    world.run_for(second() * 10);
    assert!(world.phones[bob].call(dialled).over && world.phones[alice].call(a).up);
    assert_eq!(world.occupants(), [("7003".to_owned(), "parked".to_owned())]);
}

/// Two transfers give the same caller to two people: the later one has her, the other's call ends.
#[test]
fn who_loses_the_other_side_to_a_transfer_is_not_kept_on_the_line() {
    let mut world = World::new();
    let [alice, bob, carol, dave] = world.phones(["alice", "bob", "carol", "dave"]);
    let (a, b1) = world.connect(alice, carol);
    let (d, b2) = world.connect(dave, carol);
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.act(carol, |phone| phone.refer(b1, "sip:bob@example.test"));
    world.run_for(Duration::from_millis(990));
    let other = world.phones[carol].replaces_uri("sip:dave@example.test", b2);
    world.act(carol, |phone| phone.refer(b1, &other));
    world.run_for(second() * 5);
    let ends = [world.phones[alice].call(a).up, world.phones[dave].call(d).up];
    assert!(ends[0], "the caller is with one of them");
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 5);
    for phone in [bob, carol] {
        let live: Vec<_> = world.phones[phone].live().collect();
        for id in live {
            world.act(phone, |phone| phone.hang_up(id));
        }
    }
    world.run_for(second() * 70);
    assert!(world.alive().is_empty(), "{:?}", world.alive());
}

/// Two parks fail because the store's answers get lost, and both are written: after a restart the call is in one orbit.
#[test]
fn a_call_recorded_twice_is_taken_up_once() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.store_does = StoreDoes::LoseAnswer;
    for orbit in [7001, 7002] {
        world.act(bob, |phone| phone.refer(b, &format!("sip:{orbit}@example.test")));
        world.run_for(second() * 10);
    }
    world.kill_host();
    world.store_does = StoreDoes::WELL;
    world.start_host();
    world.run_for(second());
    assert_eq!(world.occupants(), [("7002".to_owned(), "parked".to_owned())]);
    assert!(world.phones[alice].call(a).up);
}

/// A transfer was answered while the caller's phone still owed an answer to something else; then everybody hangs up in
/// the same moment. Who answered the transfer waits for nobody.
#[test]
fn who_answers_a_transfer_for_a_caller_who_then_hangs_up_is_let_go() {
    let mut world = World::new();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (a, b) = world.connect(alice, bob);
    world.phones[alice].ignore_reinvites = true;
    world.phones[carol].on_ring = OnRing::AnswerAfter(second());
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(second());
    world.act(bob, |phone| phone.refer(b, "sip:carol@example.test"));
    world.run_for(second() * 3);
    let c = world.phones[carol].last();
    assert!(world.phones[carol].call(c).up, "she has answered, and alice does not know yet");
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second());
    assert!(world.phones[carol].call(c).over && world.phones[bob].call(b).over);
    world.run_for(second() * 70);
    assert!(world.alive().is_empty(), "{:?}", world.alive());
}

/// Alice is being transferred to Dave and parks Bob, who transfers her: refused, as the transfer came first. It fails,
/// and she is with Bob.
#[test]
fn who_is_being_transferred_cannot_park_her_transferor() {
    let mut world = World::new();
    let [alice, bob, dave] = world.phones(["alice", "bob", "dave"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:dave@example.test"));
    world.run_for(second());
    world.act(alice, |phone| phone.reinvite(a, "sendonly"));
    let dialled = world.act(alice, |phone| phone.invite("sip:park@example.test", &[], true));
    world.run_for(second() * 5);
    assert_eq!(world.phones[alice].call(dialled).failed, Some(Status(480)));
    assert!(world.occupants().is_empty());
    let rung = world.phones[dave].last();
    world.act(dave, |phone| phone.refuse(rung, Status::BUSY_HERE));
    world.run_for(second() * 5);
    assert!(world.phones[alice].call(a).up && world.phones[bob].call(b).up);
}

/// The range of an orbit is taken away while a call waits there, and the host restarts: nobody looks after the orbit any
/// more, so the parker is rung for her.
#[test]
fn a_call_whose_range_was_removed_is_rung_back_after_a_restart() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
    world.run_for(second() * 4);
    world.write_record(remove_operation("east-park"));
    world.run_for(second());
    assert_eq!(world.occupants(), [("7001".to_owned(), "parked".to_owned())], "as long as the host lives");
    world.kill_host();
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.start_host();
    world.run_for(second() * 5);
    let back = world.phones[bob].last();
    assert!(back != b && world.phones[bob].call(back).up && world.phones[alice].call(a).up);
    assert!(world.occupants().is_empty());
}

/// She asked for an offer, got one, and acknowledged it without an answer: there is no session, and so no call.
#[test]
fn a_caller_who_never_describes_her_session_is_hung_up() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[alice].bare_ack = true;
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    let a = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], false));
    world.run_for(second() * 3);
    let b = world.phones[bob].last();
    assert!(world.phones[bob].call(b).ack.as_ref().unwrap().sdp().is_some(), "his offer has an answer");
    assert!(world.phones[alice].call(a).over && world.phones[bob].call(b).over);
    world.run_for(second() * 40);
    assert!(world.alive().is_empty(), "{:?}", world.alive());
}

/// Bob answers his ring-back and hangs up while Alice, whose phone is cut off, has not yet answered what she was offered. He
/// is rung once more; when she is back they talk, and she is not taken back to the music she was to hear meanwhile.
#[test]
fn music_that_was_to_come_back_does_not_take_a_caller_from_who_answered_since() {
    let policy = "return require('default'):extend { call_park = { pickup_timeout = '10s', max_recall_attempts = 3 } }";
    let policies = vec![("pools/east.lua".to_owned(), policy.to_owned())];
    let mut world = World::with(WorldOptions { policies, ..WorldOptions::default() });
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
    world.run_for(second() * 5);
    world.network.cut.insert(alice);
    world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    world.run_for(second() * 8);
    let first = world.phones[bob].last();
    assert!(first != b && world.phones[bob].call(first).up);
    world.act(bob, |phone| phone.hang_up(first));
    world.run_for(second() * 4);
    let again = world.phones[bob].last();
    assert!(again != first && world.phones[bob].call(again).up);
    world.network.cut.remove(&alice);
    world.start_ladder();
    world.run_for(second() * 10);
    assert!(world.phones[alice].call(a).up && world.phones[bob].call(again).up);
    let heard = world.phones[alice].call(a).heard.clone().unwrap();
    assert!(heard.contains("10.0.0.2"), "{}", world.ladder());
    assert!(world.occupants().is_empty());
}

/// Bob has two calls and joins them by an attended transfer, while the one of them transfers him elsewhere: that came first.
#[test]
fn a_call_that_is_being_transferred_is_no_target_of_an_attended_transfer() {
    let mut world = World::new();
    let [alice, bob, carol, dave] = world.phones(["alice", "bob", "carol", "dave"]);
    let (a, b1) = world.connect(alice, bob);
    let (c, b2) = world.connect(carol, bob);
    world.act(carol, |phone| phone.refer(c, "sip:dave@example.test"));
    world.run_for(second());
    let other = world.phones[bob].replaces_uri("sip:carol@example.test", b2);
    world.act(bob, |phone| phone.refer(b1, &other));
    world.run_for(second() * 5);
    assert!(world.phones[bob].call(b1).notified.last().unwrap().starts_with("SIP/2.0 491"));
    let rung = world.phones[dave].last();
    world.act(dave, |phone| phone.refuse(rung, Status::BUSY_HERE));
    world.run_for(second() * 5);
    let talk = [(alice, a), (bob, b1), (bob, b2), (carol, c)];
    assert!(talk.into_iter().all(|(phone, call)| world.phones[phone].call(call).up));
}

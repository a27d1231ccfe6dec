//! `kill -9` while people talk: their calls go on, with all that can be done with a call (design.md §8, adoption).

use std::time::Duration;

use bytes::Bytes;
use expect_test::expect;
use switchyard_host::net::ConnectionId;
use switchyard_host::sip::Status;
use switchyard_host::store::keys::{bindings_prefix, call_key, calls_prefix};
use switchyard_host::store::{Operation, ROOT, Transaction};

use crate::harness::{CallId, OnRing, StoreDoes, World, WorldOptions};

fn second() -> Duration {
    Duration::from_secs(1)
}

/// Alice called Bob, and Carol has a phone, too.
struct Talking {
    world: World,
    alice: usize,
    bob: usize,
    carol: usize,
    a: CallId,
    b: CallId,
}

fn talking() -> Talking {
    let mut world = World::new();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (a, b) = world.connect(alice, bob);
    Talking { world, alice, bob, carol, a, b }
}

/// The same after the host was killed, was away for five seconds, and has asked both phones.
fn talking_again() -> Talking {
    let mut talking = talking();
    restart(&mut talking.world, second() * 5);
    talking.world.run_for(second() * 2);
    talking
}

fn restart(world: &mut World, down: Duration) {
    world.kill_host();
    world.run_for(down);
    world.start_host();
}

/// The keys of all recorded calls.
fn recorded(world: &World) -> Vec<String> {
    world.store.snapshot(&calls_prefix()).records.into_keys().collect()
}

fn hears(world: &World, phone: usize, call: CallId, address: &str) -> bool {
    world.phones[phone].call(call).heard.as_deref().is_some_and(|sdp| sdp.contains(address))
}

impl Talking {
    fn talk(&self) -> bool {
        self.world.phones[self.alice].call(self.a).up
            && self.world.phones[self.bob].call(self.b).up
            && hears(&self.world, self.alice, self.a, "10.0.0.2")
            && hears(&self.world, self.bob, self.b, "10.0.0.1")
    }

    /// Everybody hangs up, and nothing is left.
    fn end(mut self) {
        for phone in 0..self.world.phones.len() {
            for call in self.world.phones[phone].live().collect::<Vec<_>>() {
                self.world.act(phone, |phone| phone.hang_up(call));
            }
        }
        self.world.run_for(second() * 70);
        assert_eq!(self.world.alive(), [].into());
        assert_eq!(recorded(&self.world), [""; 0]);
    }
}

/// Both phones are asked, and say yes; then one hangs up, and the other is told.
#[test]
fn a_call_goes_on_after_a_restart_and_ends_for_both() {
    let Talking { mut world, alice, bob, a, b, .. } = talking();
    world.start_ladder();
    restart(&mut world, second() * 5);
    world.run_for(second() * 2);
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second());
    assert!(world.phones[bob].call(b).over);
    expect![[r#"
        +5.500  host  -> alice  UPDATE
        +5.510  alice -> host   200 OK
        +5.700  host  -> bob    UPDATE
        +5.710  bob   -> host   200 OK
        +7.000  alice -> host   BYE
        +7.010  host  -> alice  200 OK
        +7.010  host  -> bob    BYE
        +7.020  bob   -> host   200 OK
    "#]]
    .assert_eq(&world.ladder());
    assert_eq!(recorded(&world), [""; 0]);
    assert_eq!(world.told("call.taken_up").len(), 1);

    let Talking { mut world, alice, bob, a, b, .. } = talking_again();
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(second());
    assert!(world.phones[alice].call(a).over);
}

/// What phones say before they are asked is served at once, also what they said while the host was away.
#[test]
fn who_hung_up_during_the_restart_ends_the_call() {
    for pause in [0, 100] {
        let Talking { mut world, alice, bob, a, b, .. } = talking();
        world.kill_host();
        world.run_for(Duration::from_millis(pause));
        world.act(bob, |phone| phone.hang_up(b));
        world.run_for(second());
        world.start_host();
        // The BYE is repeated after 0.5, 1 and 2 s.
        world.run_for(second() * 4);
        assert!(world.phones[alice].call(a).over);
        assert!(world.phones[alice].call(a).bye_reason.is_none());
        assert_eq!(world.alive().get("legs"), None);
    }
}

/// Hold, retrieve, and a restart in between; after a re-INVITE without Allow the phone is asked by re-INVITE, whose
/// description is the last one, to its version.
#[test]
fn a_call_can_be_held_before_and_after_a_restart() {
    let mut talking = talking();
    let (alice, bob, a, b) = (talking.alice, talking.bob, talking.a, talking.b);
    talking.world.act(alice, |phone| phone.reinvite(a, "sendonly"));
    talking.world.run_for(second());
    let held = talking.world.phones[bob].call(b).heard.clone().unwrap();
    let answered = talking.world.phones[alice].call(a).heard.clone().unwrap();
    assert!(held.contains("a=sendonly"), "{held}");
    talking.world.start_ladder();
    restart(&mut talking.world, second());
    talking.world.run_for(second() * 2);
    expect![[r#"
        +1.500  host  -> alice  INVITE (sdp recvonly)
        +1.510  alice -> host   200 OK (sdp)
        +1.520  host  -> alice  ACK
        +1.700  host  -> bob    UPDATE
        +1.710  bob   -> host   200 OK
    "#]]
    .assert_eq(&talking.world.ladder());
    assert_eq!(talking.world.phones[bob].call(b).heard.as_ref(), Some(&held));
    assert_eq!(talking.world.phones[alice].call(a).heard.as_ref(), Some(&answered), "the same o= line");
    let listed = talking.world.ask(switchyard_host::admin::Request::Calls).unwrap();
    assert_eq!(listed[0]["legs"][0]["held"], true, "{listed}");
    talking.world.act(alice, |phone| phone.reinvite(a, "sendrecv"));
    talking.world.run_for(second());
    assert!(
        talking.talk() && !talking.world.phones[bob].call(b).heard.as_ref().unwrap().contains("sendonly")
    );
    // A version its phone has not seen yet.
    let version = |sdp: &str| sdp.lines().nth(1).and_then(|o| o.split(' ').nth(2)).map(|v| v.parse::<u64>());
    let now = talking.world.phones[bob].call(b).heard.clone().unwrap();
    assert!(version(&now).unwrap().unwrap() > version(&held).unwrap().unwrap(), "{held} {now}");
    talking.world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    talking.world.run_for(second());
    assert!(talking.world.phones[alice].call(a).heard.as_ref().unwrap().contains("a=sendonly"));
    talking.end();
}

#[test]
fn a_call_can_be_transferred_after_a_restart() {
    let mut talking = talking_again();
    let (bob, carol, b) = (talking.bob, talking.carol, talking.b);
    talking.world.phones[carol].on_ring = OnRing::AnswerAfter(second());
    talking.world.act(bob, |phone| phone.refer(b, "sip:carol@example.test"));
    talking.world.run_for(second() * 5);
    assert_eq!(talking.world.phones[bob].call(b).notified.last().unwrap(), "SIP/2.0 200 OK");
    assert!(hears(&talking.world, talking.alice, talking.a, "10.0.0.3"));
    // The new pair outlives the next restart.
    restart(&mut talking.world, second());
    talking.world.run_for(second() * 5);
    assert_eq!(talking.world.phones[carol].live().count(), 1);
    talking.world.act(talking.alice, |phone| phone.hang_up(talking.a));
    talking.world.run_for(second());
    assert_eq!(talking.world.phones[carol].live().count(), 0);
    talking.end();
}

#[test]
fn two_calls_can_be_joined_after_a_restart() {
    let mut talking = talking();
    let (bob, b) = (talking.bob, talking.b);
    talking.world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    talking.world.run_for(second());
    let (consultation, c) = talking.world.connect(bob, talking.carol);
    assert_eq!(recorded(&talking.world).len(), 2);
    restart(&mut talking.world, second());
    let target = talking.world.phones[bob].replaces_uri("sip:carol@example.test", consultation);
    talking.world.act(bob, |phone| phone.refer(b, &target));
    talking.world.run_for(second() * 5);
    assert_eq!(talking.world.phones[bob].call(b).notified.last().unwrap(), "SIP/2.0 200 OK");
    assert!(hears(&talking.world, talking.alice, talking.a, "10.0.0.3"));
    assert!(hears(&talking.world, talking.carol, c, "10.0.0.1"));
    assert_eq!(talking.world.phones[bob].live().count(), 0);
    assert_eq!(recorded(&talking.world).len(), 1);
    talking.end();
}

/// A call has one record at any time: its own while it talks, the orbit's while it waits.
#[test]
fn a_call_can_be_parked_and_retrieved_after_a_restart() {
    let mut talking = talking_again();
    let (bob, carol, b) = (talking.bob, talking.carol, talking.b);
    talking.world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
    talking.world.run_for(second() * 4);
    assert_eq!(talking.world.occupants(), [("7001".to_owned(), "parked".to_owned())]);
    assert_eq!(recorded(&talking.world), [""; 0]);
    restart(&mut talking.world, second());
    talking.world.run_for(second() * 2);
    assert_eq!(talking.world.streams.len(), 1, "music again");
    let c = talking.world.act(carol, |phone| phone.invite("sip:7001@example.test", &[], true));
    talking.world.run_for(second() * 2);
    assert!(hears(&talking.world, talking.alice, talking.a, "10.0.0.3"));
    assert!(talking.world.occupants().is_empty());
    assert_eq!(recorded(&talking.world).len(), 1);
    restart(&mut talking.world, second());
    talking.world.run_for(second() * 2);
    assert!(talking.world.phones[carol].call(c).up);
    talking.world.act(carol, |phone| phone.hang_up(c));
    talking.world.run_for(second());
    assert!(talking.world.phones[talking.alice].call(talking.a).over);
    talking.end();
}

/// A phone that lost the call says 481, and its peer is let go.
#[test]
fn a_phone_that_lost_the_call_lets_the_other_go() {
    let Talking { mut world, alice, bob, a, b, .. } = talking();
    world.start_ladder();
    world.kill_host();
    world.phones[alice].forget_all();
    world.start_host();
    world.run_for(second() * 2);
    expect![[r#"
        +0.500  host  -> alice  UPDATE
        +0.510  alice -> host   481 Call/Transaction Does Not Exist
        +0.520  host  -> alice  BYE (SIP;cause=408;text="the phone does not know the call")
        +0.520  host  -> bob    BYE (SIP;cause=408;text="the phone does not know the call")
        +0.530  alice -> host   481 Call/Transaction Does Not Exist
        +0.530  bob   -> host   200 OK
    "#]]
    .assert_eq(&world.ladder());
    assert!(world.phones[bob].call(b).over && world.phones[alice].call(a).over);
    assert_eq!(recorded(&world), [""; 0]);
    // One that is dead says nothing.
    let Talking { mut world, alice, bob, b, .. } = talking();
    world.phones[alice].dead = true;
    restart(&mut world, second());
    world.run_for(second() * 30);
    assert!(world.phones[bob].call(b).up);
    world.run_for(second() * 10);
    assert!(world.phones[bob].call(b).over);
}

/// Each restart goes on from the numbers of the one before: phones refuse a CSeq that is not above the last.
#[test]
fn a_call_outlives_one_restart_after_the_other() {
    let mut talking = talking();
    for pause in [0, 300, 600, 800, 2000, 60_000] {
        restart(&mut talking.world, second());
        talking.world.run_for(Duration::from_millis(pause));
        talking.world.kill_host();
        talking.world.start_host();
        talking.world.run_for(Duration::from_millis(pause));
        assert!(talking.talk());
    }
    assert!(talking.world.told("call.lost").is_empty());
    talking.end();
}

/// A phone on TCP has lost its connection with the host. It talks on, and is asked when it registers again.
#[test]
fn a_phone_on_tcp_is_asked_when_it_is_back() {
    let mut world = World::new();
    let [alice, bob] = [world.add_phone("alice"), world.add_phone("bob")];
    world.phones[alice].stream = Some(ConnectionId(5));
    for phone in [alice, bob] {
        world.act(phone, |phone| phone.register(3600));
    }
    world.run_for(second());
    let (a, b) = world.connect(alice, bob);
    world.phones[alice].stream = None;
    restart(&mut world, second());
    world.run_for(second() * 60);
    assert!(world.phones[alice].call(a).up && world.phones[bob].call(b).up);
    world.phones[alice].stream = Some(ConnectionId(6));
    world.start_ladder();
    world.act(alice, |phone| phone.register(3600));
    world.run_for(second() * 2);
    expect![[r#"
        +0.000  alice -> host   REGISTER sip:example.test
        +0.010  host  -> alice  401 Unauthorized
        +0.020  alice -> host   REGISTER sip:example.test
        +0.030  host  -> alice  200 OK
        +0.530  host  -> alice  UPDATE
        +0.540  alice -> host   200 OK
    "#]]
    .assert_eq(&world.ladder());
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(second());
    assert!(world.phones[alice].call(a).over);
}

/// A park was on its way to the store when the host died: the two get each other back.
#[test]
fn a_park_that_was_never_stored_leaves_both_together() {
    let mut talking = talking();
    let (bob, b) = (talking.bob, talking.b);
    talking.world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
    // The music's offer is out, and the store knows that something is under way; it hangs from here on.
    talking.world.run_for(Duration::from_millis(25));
    talking.world.store_does = StoreDoes::Hang;
    talking.world.run_for(second() * 2);
    assert!(hears(&talking.world, talking.alice, talking.a, "192.0.2.1"), "she hears music");
    talking.world.start_ladder();
    talking.world.kill_host();
    talking.world.store_does = StoreDoes::WELL;
    talking.world.start_host();
    talking.world.run_for(second() * 3);
    expect![[r#"
        +0.000  host  -> bob    INVITE (sdp)
        +0.010  bob   -> host   200 OK (sdp)
        +0.020  host  -> bob    ACK
        +0.020  host  -> alice  INVITE (sdp)
        +0.030  alice -> host   200 OK (sdp)
        +0.040  host  -> alice  ACK
    "#]]
    .assert_eq(&talking.world.ladder());
    assert!(talking.talk());
    assert!(talking.world.occupants().is_empty());
    talking.end();
}

/// Bob's phone has answered a hold, and the host died with its ACK: the next one acknowledges, and tells him of Alice as she
/// was. Her phone waits for its answer and says 491 for as long; it is asked a few times, and left alone.
#[test]
fn an_answer_whose_ack_died_is_acknowledged() {
    let mut talking = talking();
    let (alice, bob, a, b) = (talking.alice, talking.bob, talking.a, talking.b);
    talking.world.start_ladder();
    talking.world.act(alice, |phone| phone.reinvite(a, "sendonly"));
    talking.world.run_for(Duration::from_millis(25));
    restart(&mut talking.world, Duration::from_millis(100));
    talking.world.run_for(second() * 40);
    expect![[r#"
        +0.000  alice -> host   INVITE (sdp sendonly)
        +0.010  host  -> alice  100 Trying
        +0.010  host  -> bob    INVITE (sdp sendonly)
        +0.020  bob   -> host   200 OK (sdp)
        +0.125  host  -> bob    INVITE (sdp)
        +0.135  bob   -> host   200 OK (sdp)
        +0.145  host  -> bob    ACK
        +0.145  host  -> alice  INVITE (sdp)
        +0.155  alice -> host   491 Request Pending
        +0.165  host  -> alice  ACK
        +0.520  bob   -> host   200 OK (sdp)
        +0.530  host  -> bob    ACK
        +1.535  host  -> alice  INVITE (sdp)
        +1.545  alice -> host   491 Request Pending
        +1.555  host  -> alice  ACK
        +2.485  host  -> alice  INVITE (sdp)
        +2.495  alice -> host   491 Request Pending
        +2.505  host  -> alice  ACK
        +2.845  host  -> alice  INVITE (sdp)
        +2.855  alice -> host   491 Request Pending
        +2.865  host  -> alice  ACK
        +2.955  host  -> alice  INVITE (sdp)
        +2.965  alice -> host   491 Request Pending
        +2.975  host  -> alice  ACK
        +4.215  host  -> alice  INVITE (sdp)
        +4.225  alice -> host   491 Request Pending
        +4.235  host  -> alice  ACK
        +5.035  host  -> alice  INVITE (sdp)
        +5.045  alice -> host   491 Request Pending
        +5.055  host  -> alice  ACK
        +5.625  host  -> alice  INVITE (sdp)
        +5.635  alice -> host   491 Request Pending
        +5.645  host  -> alice  ACK
    "#]]
    .assert_eq(&talking.world.ladder());
    assert!(talking.world.phones[alice].call(a).up && talking.world.phones[bob].call(b).up);
    talking.world.act(alice, |phone| phone.reinvite(a, "sendrecv"));
    talking.world.run_for(second());
    assert!(talking.talk());
    talking.end();
}

/// A transferor who has hung up already is rung back for the caller he left.
#[test]
fn a_caller_under_way_to_somebody_else_is_given_back() {
    let mut talking = talking();
    let (bob, b) = (talking.bob, talking.b);
    talking.world.phones[bob].bye_on_accepted = true;
    talking.world.act(bob, |phone| phone.refer(b, "sip:carol@example.test"));
    talking.world.run_for(second() * 3);
    assert!(talking.world.phones[bob].call(b).over);
    talking.world.phones[bob].on_ring = OnRing::AnswerAfter(second());
    restart(&mut talking.world, second());
    talking.world.run_for(second() * 4);
    let back = talking.world.phones[bob].last();
    assert!(back != b && talking.world.phones[bob].call(back).up);
    assert!(hears(&talking.world, talking.alice, talking.a, "10.0.0.2"));
    talking.world.phones[talking.carol].on_ring = OnRing::Ring;
    for call in talking.world.phones[talking.carol].ringing().collect::<Vec<_>>() {
        talking.world.act(talking.carol, |phone| phone.refuse(call, Status::BUSY_HERE));
    }
    talking.end();
}

/// Nobody waits for the store, and what it could not take it gets when it can.
#[test]
fn a_call_is_recorded_as_soon_as_the_store_is_back() {
    for does in [StoreDoes::Refuse, StoreDoes::LoseAnswer, StoreDoes::Write(second() * 3), StoreDoes::Hang] {
        let mut world = World::new();
        let [alice, bob, carol, dave] = world.phones(["alice", "bob", "carol", "dave"]);
        world.store_does = does;
        let (a, b) = world.connect(alice, bob);
        // A call that ends before the store is back leaves nothing there.
        let (c, _) = world.connect(carol, dave);
        world.act(carol, |phone| phone.hang_up(c));
        world.run_for(second());
        world.store_does = StoreDoes::WELL;
        world.run_for(second() * 7);
        assert_eq!(recorded(&world).len(), 1, "{does:?}");
        restart(&mut world, second());
        world.run_for(second() * 2);
        let mut talking = Talking { world, alice, bob, carol, a, b };
        assert!(talking.talk());
        // The end is written as late, and until then nobody takes up a call that is over.
        talking.world.store_does = does;
        talking.world.act(bob, |phone| phone.hang_up(b));
        talking.world.run_for(second() * 2);
        talking.world.store_does = StoreDoes::WELL;
        talking.world.run_for(second() * 7);
        talking.end();
    }
}

/// The end of a call did not reach the store: after the restart its phones do not know it.
#[test]
fn a_recorded_call_that_is_over_ends_quietly() {
    let Talking { mut world, alice, bob, a, b, .. } = talking();
    world.store_does = StoreDoes::Refuse;
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second());
    assert!(world.phones[bob].call(b).over);
    world.kill_host();
    world.store_does = StoreDoes::WELL;
    world.start_host();
    world.run_for(second() * 40);
    assert_eq!(world.alive(), [].into());
    assert_eq!(recorded(&world), [""; 0]);
}

/// What cannot be read is removed and told of; a call that is parked as well is in its orbit.
#[test]
fn records_that_are_of_no_use_are_removed() {
    let Talking { mut world, alice, bob, a, b, .. } = talking();
    let snapshot = world.store.snapshot(&calls_prefix());
    let (key, record) = snapshot.records.first_key_value().unwrap();
    assert!(key.starts_with(&call_key("east", "")), "{key}");
    world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
    world.run_for(second() * 4);
    let put = |key: &str, value: Bytes| Operation::Put { key: key.to_owned(), value };
    let operations = vec![
        put(key, record.value.clone()),
        put(&call_key("east", "x"), Bytes::from_static(b"{\"legs\":1}")),
        put(&call_key("east", "y"), Bytes::from_static(b"{\"host\":\"fe1\",\"legs\":[]}")),
    ];
    world.store.apply(&Transaction { operations, ..Transaction::default() }).unwrap();
    restart(&mut world, second());
    world.run_for(second() * 2);
    assert_eq!(recorded(&world), [""; 0]);
    assert_eq!((world.told("call.unreadable").len(), world.told("call.lost").len()), (1, 2));
    assert_eq!(world.occupants(), [("7001".to_owned(), "parked".to_owned())]);
    assert!(world.phones[alice].call(a).up);
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 70);
    assert_eq!(world.alive(), [].into());
}

/// For sites whose store cannot follow every call: those that talk are lost, as the phones then learn.
#[test]
fn only_parked_calls_outlive_a_restart_where_the_operator_says_so() {
    let config = "[store]\nprotect = \"parked\"\n".to_owned();
    let mut world = World::with(WorldOptions { config, ..WorldOptions::default() });
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let (a, b) = world.connect(alice, bob);
    assert_eq!(recorded(&world), [""; 0]);
    world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
    world.run_for(second() * 4);
    let (c, _) = world.connect(bob, carol);
    restart(&mut world, second());
    world.run_for(second() * 2);
    assert_eq!(world.occupants(), [("7001".to_owned(), "parked".to_owned())]);
    assert!(world.phones[alice].call(a).up);
    world.act(bob, |phone| phone.reinvite(c, "sendonly"));
    world.run_for(second());
    assert!(world.phones[bob].call(c).over, "481");
}

/// Two writes a call, and one for each change; what happens within a second goes in one.
#[test]
fn a_call_costs_the_store_little() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let writes = |world: &World| world.store.snapshot(ROOT).revision;
    let before = writes(&world);
    let (a, b) = world.connect(alice, bob);
    assert_eq!(writes(&world) - before, 1);
    // Nothing changes for an hour.
    world.run_for(second() * 1700);
    let quiet = writes(&world);
    assert!(quiet - before <= 3, "{}", quiet - before);
    for direction in ["sendonly", "sendrecv", "sendonly", "sendrecv"] {
        world.act(alice, |phone| phone.reinvite(a, direction));
        world.run_for(Duration::from_millis(200));
    }
    world.run_for(second() * 2);
    // Each began with the word that something was under way.
    assert_eq!(writes(&world) - quiet, 4, "the first and the last");
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(second());
    assert_eq!(writes(&world) - quiet, 5);
}

/// What a registration was when the store did not take it, the next life of the host knows if it took it later.
#[test]
fn a_registration_that_the_store_refused_is_stored_when_it_takes_something_again() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.store_does = StoreDoes::Refuse;
    world.act(bob, |phone| phone.register(0));
    let second_phone = world.add_phone("alice");
    world.act(second_phone, |phone| phone.register(3600));
    world.run_for(second() * 10);
    let held = |world: &World| {
        let records = world.store.snapshot(&bindings_prefix("alice")).records.len();
        (records, world.store.snapshot(&bindings_prefix("bob")).records.len())
    };
    assert_eq!(held(&world), (1, 1));
    world.store_does = StoreDoes::WELL;
    world.run_for(second() * 5);
    assert_eq!(held(&world), (2, 0), "nobody has asked for anything meanwhile");
    world.kill_host();
    world.start_host();
    let call = world.act(alice, |phone| phone.invite("sip:bob@example.test", &[], true));
    world.run_for(second());
    assert_eq!(world.phones[alice].call(call).failed, Some(Status::TEMPORARILY_UNAVAILABLE));
}

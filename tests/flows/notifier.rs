//! Subscriptions as RFC 6665 wants them, where watchers restart, move, lose their connection or come too late.

use std::time::Duration;

use expect_test::expect;
use switchyard_host::engine::Input;
use switchyard_host::net::ConnectionId;
use switchyard_host::sip::{Name, Status};
use switchyard_host::store::ROOT;

use crate::harness::{World, WorldOptions};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Bob and Carol are in one pickup group, so Carol sees who talks to Bob.
fn office() -> World {
    let users = ["bob", "carol"].map(|user| (user, "pickup_group = \"*101\"")).to_vec();
    World::with(WorldOptions { users, ..WorldOptions::default() })
}

#[track_caller]
fn assert_truth(world: &World) {
    assert_eq!(world.engine().unwrap().wrong_lamps(), []);
}

/// §4.2.1.2: the answer, then at once the state, and the answer's Expires is what counts.
#[test]
fn a_subscription_is_answered_and_then_told_everything() {
    let mut world = office();
    let [carol] = world.phones(["carol"]);
    world.start_ladder();
    let lamp = world.act(carol, |phone| phone.watch("sip:1002@example.test", 1800));
    world.run_for(seconds(2));
    expect![[r#"
        +0.000  carol -> host   SUBSCRIBE sip:1002@example.test
        +0.010  host  -> carol  401 Unauthorized
        +0.020  carol -> host   SUBSCRIBE sip:1002@example.test
        +0.030  host  -> carol  200 OK
        +0.030  host  -> carol  NOTIFY <?xml version="1.0" encoding="UTF-8"?><dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="0" state="full" entity="sip:1002@example.test"><dialog id="idle"><state>terminated</state></dialog></dialog-info>
        +0.040  carol -> host   200 OK
    "#]]
    .assert_eq(&world.ladder());
    let watch = &world.phones[carol].watches[lamp];
    assert_eq!(watch.said, ["Expires: 1800"]);
    assert_eq!(watch.entity, "sip:1002@example.test", "as the watcher calls it");
}

/// CSeq and version go on rising, also if the host dies again before the watcher has refreshed.
#[test]
fn a_subscription_survives_two_kills_in_a_row() {
    let mut world = office();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let lamp = world.act(carol, |phone| phone.watch("sip:bob@example.test", 3600));
    world.run_for(seconds(2));
    for _ in 0..3 {
        world.kill_host();
        world.start_host();
        world.run_for(seconds(2));
    }
    assert_eq!(world.phones[carol].watches[lamp].documents, ["full"; 4]);
    world.connect(alice, bob);
    world.run_for(seconds(2));
    let shown = world.phones[carol].watches[lamp].shows();
    assert_eq!(shown, ["confirmed <- Alice sip:alice@example.test"]);
    assert_truth(&world);
}

/// A refresh that cannot prove who sent it is challenged, and changes nothing.
#[test]
fn a_refresh_with_a_wrong_password_ends_nothing() {
    let mut world = office();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let lamp = world.act(carol, |phone| phone.watch("sip:bob@example.test", 3600));
    world.run_for(seconds(2));
    let password = std::mem::replace(&mut world.phones[carol].password, "wrong".to_owned());
    world.act(carol, |phone| phone.watch_again(lamp, 0));
    world.run_for(seconds(2));
    let watch = &world.phones[carol].watches[lamp];
    assert_eq!((watch.documents.len(), watch.state.as_str()), (1, "active;expires=3600"));
    world.connect(alice, bob);
    world.run_for(seconds(2));
    assert_eq!(world.phones[carol].watches[lamp].lamps.len(), 1);
    world.phones[carol].password = password;
    for _ in 0..3 {
        world.act(carol, |phone| phone.watch_again(lamp, 600));
        world.run_for(seconds(2));
        let watch = &world.phones[carol].watches[lamp];
        assert_eq!((watch.status, watch.state.as_str()), (Some(Status::OK), "active;expires=600"));
    }
}

/// A refresh is a target refresh: from then on the watcher is told where it is now.
#[test]
fn a_watcher_that_has_moved_is_told_where_it_is_now() {
    let mut world = office();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let lamp = world.act(carol, |phone| phone.watch("sip:bob@example.test", 3600));
    world.run_for(seconds(2));
    world.phones[carol].address = "10.0.0.77:5070".parse().unwrap();
    world.act(carol, |phone| phone.watch_again(lamp, 3600));
    world.run_for(seconds(2));
    world.connect(alice, bob);
    world.run_for(seconds(2));
    let shown = world.phones[carol].watches[lamp].shows();
    assert_eq!(shown, ["confirmed <- Alice sip:alice@example.test"]);
}

/// The refresh comes when the subscription has run out and only its last NOTIFY has not arrived: too late is 481,
/// not a 200 for something that ends.
#[test]
fn a_refresh_that_comes_too_late_is_told_so() {
    let mut world = office();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let lamp = world.act(carol, |phone| phone.watch("sip:bob@example.test", 60));
    world.run_for(seconds(2));
    let (_, talking) = world.connect(alice, bob);
    world.run_for(seconds(53));
    world.act(bob, |phone| phone.hang_up(talking));
    world.network.cut.insert(carol);
    world.run_for(seconds(4));
    world.network.cut.remove(&carol);
    world.act(carol, |phone| phone.watch_again(lamp, 60));
    world.run_for(seconds(1));
    let gone = Some(Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
    assert_eq!(world.phones[carol].watches[lamp].status, gone);
    world.run_for(seconds(10));
    let watch = &world.phones[carol].watches[lamp];
    assert_eq!((watch.state.as_str(), watch.lamps.len()), ("terminated;reason=timeout", 0));
}

/// A connection that has gone is no watcher that has gone: what it missed is told on the next one it registers over.
#[test]
fn a_watcher_on_tcp_outlives_its_connection() {
    let mut world = office();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    world.phones[carol].stream = Some(ConnectionId(5));
    let lamp = world.act(carol, |phone| phone.watch("sip:bob@example.test", 3600));
    world.run_for(seconds(2));
    assert_eq!(world.phones[carol].watches[lamp].documents.len(), 1);

    world.phones[carol].stream = Some(ConnectionId(6));
    world.connect(alice, bob);
    world.run_for(seconds(30));
    assert!(world.phones[carol].watches[lamp].lamps.is_empty(), "there is no way to it");
    world.act(carol, |phone| phone.register(3600));
    world.run_for(seconds(2));
    let shown = world.phones[carol].watches[lamp].shows();
    assert_eq!(shown, ["confirmed <- Alice sip:alice@example.test"]);
    assert_truth(&world);

    // It has come back before there was anything to tell: there is no waiting.
    world.phones[carol].stream = Some(ConnectionId(7));
    world.host_gets(Input::ConnectionClosed { connection: ConnectionId(6) });
    world.act(carol, |phone| phone.register(3600));
    world.run_for(seconds(2));
    let talking = world.phones[bob].last();
    world.act(bob, |phone| phone.hang_up(talking));
    world.run_for(seconds(2));
    assert!(world.phones[carol].watches[lamp].lamps.is_empty());
    world.connect(alice, bob);
    world.run_for(seconds(2));

    // And if it never comes back, the subscription still ends when it has run out.
    world.phones[carol].stream = Some(ConnectionId(8));
    let talking = world.phones[bob].last();
    world.act(bob, |phone| phone.hang_up(talking));
    world.run_for(seconds(10));
    assert_eq!(world.alive().get("lamps"), Some(&1));
    world.run_for(seconds(3600));
    assert_eq!(world.alive().get("lamps"), None);
    let stored: Vec<_> = world.store.snapshot(ROOT).records.into_keys().collect();
    assert!(!stored.iter().any(|key| key.contains("/lamp/")), "{stored:?}");
}

/// A document too big for a datagram goes over TCP, and over UDP after all to a phone that has none (RFC 3261 §18.1.1).
#[test]
fn a_document_of_many_dialogs_reaches_a_phone_that_has_only_udp() {
    let mut world = office();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    for number in 7001..=7008 {
        let (_, b) = world.connect(alice, bob);
        world.act(bob, |phone| phone.refer(b, &format!("sip:{number}@example.test")));
        world.run_for(seconds(4));
    }
    let lot = world.act(carol, |phone| phone.watch("sip:park@example.test", 3600));
    world.run_for(seconds(2));
    assert_eq!(world.phones[carol].watches[lot].lamps.len(), 8);
    assert_eq!(world.phones[carol].watches[lot].documents, ["full"]);
    assert_truth(&world);
}

/// The other side's target leads through the host, also if it is somebody outside: a phone sends its pickup there. One
/// that sends it to who is shown instead takes the call as well: what is replaced says where it goes.
#[test]
fn a_caller_from_outside_is_picked_up_through_the_host() {
    for (to, by_call_id) in [("example.test", false), ("gw.elsewhere.test", true)] {
        let mut world = World::with(WorldOptions {
            users: ["bob", "carol"].map(|user| (user, "pickup_group = \"*101\"")).to_vec(),
            config: "[[trunks]]\nname = \"gw\"\npeers = [\"10.0.0.3\"]".to_owned(),
            ..WorldOptions::default()
        });
        let [_, carol] = world.phones(["bob", "carol"]);
        let gateway = world.add_phone("+4930123");
        world.phones[gateway].domain = "gw.elsewhere.test".to_owned();
        let lamp = world.act(carol, |phone| phone.watch("sip:bob@example.test", 3600));
        world.run_for(seconds(2));
        let g = world.act(gateway, |phone| phone.invite("sip:1002@example.test", &[], true));
        world.run_for(seconds(2));
        let lamp = world.phones[carol].watches[lamp].lamps.values().next().unwrap().clone();
        assert_eq!(lamp.remote.as_deref(), Some("sip:+4930123@gw.elsewhere.test"));
        assert_eq!(lamp.remote_target.as_deref(), Some("sip:+4930123@example.test"));

        let replaces = if by_call_id { lamp.call_id.clone().unwrap() } else { lamp.replaces(false, true) };
        let uri = format!("sip:+4930123@{to}");
        let c = world.act(carol, |phone| phone.invite(&uri, &[(Name::Replaces, &replaces)], true));
        world.run_for(seconds(2));
        assert!(world.phones[carol].call(c).up, "{:?}", world.phones[carol].call(c).failed);
        assert!(world.phones[gateway].call(g).up);
    }
}

/// A phone that did not take the news of a call's end is told everything, and by name that this call is over: some
/// phones put out a lamp for nothing less.
#[test]
fn a_full_document_says_what_is_over() {
    let mut world = office();
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let lamp = world.act(carol, |phone| phone.watch("sip:bob@example.test", 3600));
    let (_, talking) = world.connect(alice, bob);
    world.run_for(seconds(2));
    world.phones[carol].watches[lamp].refuse = vec![Status::SERVER_INTERNAL_ERROR];
    world.act(bob, |phone| phone.hang_up(talking));
    world.run_for(seconds(10));
    let watch = &world.phones[carol].watches[lamp];
    assert_eq!(watch.documents.last().map(String::as_str), Some("full"));
    assert_eq!(watch.history.last().map(String::as_str), Some("terminated"));
    assert!(watch.lamps.is_empty());
}

/// A phone that starts again and again has subscriptions it knows nothing of. They make room for its new ones; what is
/// too much is refused, with a word on when to ask again.
#[test]
fn a_phone_that_starts_again_and_again_keeps_its_lamps() {
    let mut world = office();
    let [carol] = world.phones(["carol"]);
    for _ in 0..310 {
        world.act(carol, |phone| phone.watch("sip:bob@example.test", 3600));
        world.run_for(Duration::from_millis(50));
    }
    world.run_for(seconds(2));
    let watches = &world.phones[carol].watches;
    assert!(watches.iter().all(|watch| watch.status == Some(Status::OK)));
    assert_eq!(world.alive().get("lamps"), Some(&300));
    let stored = world.store.snapshot(ROOT).records.into_keys().filter(|key| key.contains("/lamp/")).count();
    assert_eq!(stored, 300);
    let other = world.act(carol, |phone| phone.watch("sip:alice@example.test", 3600));
    world.run_for(seconds(2));
    let watch = &world.phones[carol].watches[other];
    assert_eq!(
        (watch.status, watch.said.join("")),
        (Some(Status::SERVICE_UNAVAILABLE), "Retry-After: 60".into())
    );
}

/// The clock is a day behind after a restart: a subscription does not live a day longer for it.
#[test]
fn a_clock_set_back_does_not_prolong_subscriptions() {
    let mut world = office();
    let [carol] = world.phones(["carol"]);
    world.act(carol, |phone| phone.watch("sip:bob@example.test", 3600));
    world.run_for(seconds(2));
    world.kill_host();
    world.clock_ahead_ms = -86_400_000;
    world.start_host();
    world.run_for(seconds(7_000));
    assert_eq!(world.alive().get("lamps"), Some(&1));
    world.run_for(seconds(300));
    assert_eq!(world.alive().get("lamps"), None);
}

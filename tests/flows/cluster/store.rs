//! What operators and later versions may leave in the store, and take out of it, while calls are up.

use serde_json::json;
use switchyard_host::admin::Request;
use switchyard_host::store::keys::{binding_key, range_key, seat_key, user_key};
use switchyard_host::store::keys::{
    call_key, drain_key, epoch_key, host_key, lamp_key, orbit_key, policy_key, pool_key,
};
use switchyard_host::store::{Operation, ROOT};

use super::{assert_quiet, one_pool, second, two_pools};
use crate::harness::{CallId, World};

fn put(world: &mut World, key: String, value: &str) {
    world.write_record(Operation::Put { key, value: value.to_owned().into() });
}

fn remove(world: &mut World, key: String) {
    world.write_record(Operation::Delete { key });
}

/// A host may be of a later version, and an operator may put anything anywhere.
#[test]
fn records_that_cannot_be_read_stop_nobody() {
    let garbage = ["{", "{\"name\":\"nobody\",\"more\":{\"a\":[1]}}", "18446744073709551615"];
    for value in garbage {
        let mut world = two_pools();
        let [alice, bob, erin] = world.phones_at([("alice", "fe1"), ("bob", "fw1"), ("erin", "fw1")]);
        let (a, b) = world.connect(alice, bob);
        world.act(bob, |phone| phone.refer(b, "sip:park@example.test;orbit=7001"));
        world.run_for(second() * 4);
        let keys = [
            host_key("fx1"),
            pool_key("east"),
            pool_key("north"),
            epoch_key("east"),
            epoch_key("north"),
            seat_key("east"),
            seat_key("north"),
            drain_key("fx1"),
            policy_key("west"),
            policy_key("north"),
            range_key("odd"),
            range_key("east-groups"),
            user_key("mallory"),
            binding_key("mallory", "1"),
            binding_key("alice", "x"),
            orbit_key("7005"),
            orbit_key("no number"),
            call_key("east", "1"),
            lamp_key("alice", "1"),
            format!("{ROOT}later/version"),
        ];
        for key in keys {
            put(&mut world, key, value);
        }
        let asked = world.asked;
        world.run_for(second() * 5);
        assert!(world.asked - asked < 50, "{value}: {} writes", world.asked - asked);
        // Who served the east serves it again.
        assert_eq!(world.occupants()[0].0, "7001");
        // Whoever starts now starts, and takes up what can be read.
        for host in [1, 0] {
            world.kill(host);
            world.run_for(second() * 2);
            world.start(host);
            world.run_for(second() * 10);
        }
        let e = world.act(erin, |phone| phone.invite("sip:7001@example.test", &[], true));
        world.run_for(second() * 2);
        assert!(world.phones[erin].call(e).up, "{value}: {:?}", world.phones[erin].call(e).failed);
        world.act(alice, |phone| phone.hang_up(a));
        world.run_for(second() * 2);
        world.connect(alice, bob);
        let fetched = park_and_fetch(&mut world, bob, erin);
        assert!(world.phones[erin].call(fetched).up, "{value}");
    }
}

/// Parks the other end of a phone's latest call and fetches it from another phone.
fn park_and_fetch(world: &mut World, parker: usize, fetcher: usize) -> CallId {
    let call = world.phones[parker].last();
    world.act(parker, |phone| phone.refer(call, "sip:park@example.test"));
    world.run_for(second() * 4);
    let told = world.phones[parker].call(call).notified.last().cloned().unwrap_or_default();
    let number: String =
        told.split("<sip:").nth(1).unwrap_or_default().chars().take_while(|c| *c != '@').collect();
    assert!(told.contains("200 OK"), "{told}");
    let uri = format!("sip:{number}@example.test");
    let fetched = world.act(fetcher, |phone| phone.invite(&uri, &[], true));
    world.run_for(second() * 2);
    fetched
}

/// `etcdctl del` of what says who serves whom.
#[test]
fn an_epoch_or_a_seat_that_was_removed_or_changed_by_hand_costs_no_park() {
    let by_hand: [fn(&mut World); 5] = [
        |world| remove(world, epoch_key("east")),
        |world| put(world, epoch_key("east"), "99"),
        |world| put(world, epoch_key("east"), "odd"),
        |world| remove(world, seat_key("east")),
        |world| remove(world, pool_key("east")),
    ];
    for (number, change) in by_hand.into_iter().enumerate() {
        let mut world = one_pool();
        let [alice, bob, carol] = world.phones_at([("alice", "fe1"), ("bob", "fe2"), ("carol", "fe2")]);
        let (a, b) = world.connect(alice, bob);
        change(&mut world);
        world.run_for(second() * 5);
        let c = park_and_fetch(&mut world, bob, carol);
        assert!(world.phones[carol].call(c).up, "{number}: {:?}", world.phones[carol].call(c).failed);
        assert!(!world.phones[alice].call(a).over && world.phones[bob].call(b).over, "{number}");
        world.act(alice, |phone| phone.hang_up(a));
        world.run_for(second() * 40);
        assert_quiet(&world);
    }
}

/// The record of a call in an orbit is taken away: the call is still there.
#[test]
fn a_parked_call_whose_record_was_removed_can_be_fetched() {
    let mut world = one_pool();
    let [alice, bob, carol] = world.phones_at([("alice", "fe1"), ("bob", "fe2"), ("carol", "fe2")]);
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test;orbit=7001"));
    world.run_for(second() * 4);
    remove(&mut world, orbit_key("7001"));
    world.run_for(second() * 4);
    let c = world.act(carol, |phone| phone.invite("sip:7001@example.test", &[], true));
    world.run_for(second() * 2);
    assert!(world.phones[carol].call(c).up, "{:?}", world.phones[carol].call(c).failed);
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 40);
    assert_eq!(world.occupants(), []);
    assert_quiet(&world);
}

/// `etcdctl del --prefix /switchyard`: nobody can be called any more, but who talks talks on and can hang up.
#[test]
fn calls_outlive_an_emptied_store() {
    let mut world = two_pools();
    let [alice, bob, erin] = world.phones_at([("alice", "fe1"), ("bob", "fe1"), ("erin", "fw1")]);
    let (a, b) = world.connect(alice, bob);
    let e = world.act(erin, |phone| phone.invite("sip:carol@example.test", &[], true));
    let keys: Vec<String> = world.store.snapshot(ROOT).records.into_keys().collect();
    for key in keys {
        remove(&mut world, key);
    }
    world.run_for(second() * 30);
    let _ = e;
    assert!(!world.phones[alice].call(a).over && !world.phones[bob].call(b).over);
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(second() * 40);
    assert!(world.phones[bob].call(b).over);
}

/// A list longer than a message between hosts may be is told in parts.
#[test]
fn a_long_list_of_another_host_is_told_whole() {
    let mut world = two_pools();
    let user = |number: usize| {
        let name = format!("user-{number:05}-{}", "x".repeat(100));
        let display = "y".repeat(300);
        (
            name.clone(),
            json!({ "name": name, "display": display, "pool": "west", "may_park": true, "may_retrieve": true }),
        )
    };
    for number in 0..4_000 {
        let (name, record) = user(number);
        put(&mut world, user_key(&name), &record.to_string());
    }
    world.run_for(second() * 2);
    let users = world.ask_host(0, Request::Users).unwrap();
    assert_eq!(world.told("host.silent").len(), 0);
    let served = users.as_array().unwrap().iter().filter(|user| user["host"] == "fw1").count();
    assert_eq!((served, users.as_array().unwrap().len()), (4_002, 4_006));
}

/// Passwords are hashed with the domain: at a host of another one nobody's is right.
#[test]
fn a_host_of_another_domain_is_told_of() {
    let mut world = two_pools();
    assert_eq!(world.told("domain.skew").len(), 0);
    let lent =
        |domain: &str| json!({ "host": "fw1", "hash": "x", "files": {}, "domain": domain }).to_string();
    put(&mut world, policy_key("west"), &lent("example.test"));
    world.run_for(second());
    assert_eq!(world.told("domain.skew").len(), 0);
    put(&mut world, policy_key("west"), &lent("other.test"));
    world.run_for(second());
    let told = world.told("domain.skew");
    assert_eq!(told[0].detail["domain"], "other.test");
    assert_eq!(told[0].detail["host"], "fw1");
}

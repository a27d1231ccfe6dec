//! Pools that fail: the two matrices of the phases (facts.md §2), cell by cell.
//!
//! All phones talk to `fw1`, a host of the west, so that they can be heard whatever becomes of the east.

mod move_home;
mod park;
mod pickup;
mod reach;
mod redirect;
mod replaced;

use std::time::Duration;

use serde_json::{Value, json};
use switchyard_host::admin::{RangeSpec, Request};
use switchyard_host::pool::Ask;
use switchyard_host::store::Operation;

use crate::harness::{CallId, Moment, OnRing, Strike, World, WorldOptions};

const FAILBACK: Ask = Ask::Failback { disaster: false };

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A host each for two pools; the policy of the east has these keys of `resiliency` more.
fn world(resiliency: &str) -> World {
    let east = format!("return (require 'default'):extend {{ resiliency = {{ {resiliency} }} }}");
    let default =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/default.lua")).unwrap();
    let group = "pickup_group = \"*101\"";
    World::with(WorldOptions {
        hosts: &[("fe1", "east"), ("fw1", "west")],
        users: vec![("bob", group), ("carol", group)],
        policies: vec![("default.lua".into(), default), ("pools/east.lua".into(), east)],
        ..WorldOptions::default()
    })
}

/// The east dies and is seen to be dead.
fn lose_east(world: &mut World) {
    world.kill(0);
    world.run_for(seconds(12));
    assert_eq!(phase(world), "outage");
}

/// … and has been dead for so long that it counts as lost.
fn lose_east_for_good(world: &mut World) {
    lose_east(world);
    world.run_for(seconds(300));
    assert_eq!(phase(world), "resilient");
}

fn pool(world: &mut World, name: &str) -> Value {
    let pools = world.ask_host(1, Request::Pools).unwrap();
    pools.as_array().unwrap().iter().find(|pool| pool["name"] == name).unwrap().clone()
}

fn phase(world: &mut World) -> String {
    pool(world, "east")["phase"].as_str().unwrap().to_owned()
}

/// Moves the east's users and waits for the end.
fn move_east(world: &mut World, ask: Ask) {
    let what = Request::MovePool { pool: "east".into(), ask, by: "ana".into(), dry_run: false };
    world.ask_host(1, what).unwrap();
    world.run_for(seconds(3));
    let wanted = if ask == Ask::Failover { "failed_over" } else { "active" };
    assert_eq!(phase(world), wanted, "{:#}", pool(world, "east"));
}

fn start_east(world: &mut World) {
    world.start(0);
    world.run_for(seconds(3));
}

/// What the last NOTIFY of a transfer says.
fn told(world: &World, phone: usize, call: CallId) -> String {
    world.phones[phone].call(call).notified.last().cloned().unwrap_or_default()
}

/// Tries to park the other end of a call, and returns what became of it.
fn park(world: &mut World, phone: usize, call: CallId) -> String {
    world.act(phone, |phone| phone.refer(call, "sip:park@example.test"));
    world.run_for(seconds(4));
    told(world, phone, call)
}

/// The number in `Contact: <sip:8000@…>`.
fn number_in(told: &str) -> String {
    told.split("<sip:").nth(1).unwrap_or_default().chars().take_while(|c| *c != '@').collect()
}

/// Dials, and returns the call; whether it came about, the call tells.
fn dial(world: &mut World, phone: usize, number: &str) -> CallId {
    let uri = format!("sip:{number}@example.test");
    let call = world.act(phone, |phone| phone.invite(&uri, &[], true));
    world.run_for(seconds(3));
    call
}

fn assert_refused(world: &World, phone: usize, call: CallId, status: u16, code: &str) {
    let call = world.phones[phone].call(call);
    assert_eq!(call.failed.map(|status| status.0), Some(status), "{:?}", call.warning);
    assert!(call.warning.as_ref().is_some_and(|warning| warning.contains(code)), "{:?}", call.warning);
}

/// Hold works, whatever phase it is: the other phone hears of it.
fn assert_hold_works(world: &mut World, (phone, call): (usize, CallId), (other, its): (usize, CallId)) {
    for direction in ["sendonly", "sendrecv"] {
        world.act(phone, |phone| phone.reinvite(call, direction));
        world.run_for(seconds(1));
        let heard = world.phones[other].call(its).heard.clone().unwrap();
        assert!(heard.contains(direction), "{heard}");
    }
}

/// Gives the group range to another pool, as an administrator does.
fn give_groups_to(world: &mut World, pool: &str) {
    let spec = RangeSpec {
        name: "east-groups".into(),
        from: "*100".into(),
        to: "*199".into(),
        kind: "group-pickup".into(),
        pool: pool.into(),
    };
    world.ask_host(1, Request::PutRange(spec)).unwrap();
    world.run_for(seconds(1));
}

/// What administrators see of a disaster while it happens, asked of any host.
#[test]
fn a_disaster_is_told_as_it_happens() {
    let mut world = World::with(WorldOptions {
        hosts: &[("fe1", "east"), ("fw1", "west"), ("fw2", "west")],
        ..WorldOptions::default()
    });
    let told = |world: &World, what: &str| -> Vec<String> {
        world.told(what).iter().map(|event| event.detail["host"].as_str().unwrap().to_owned()).collect()
    };
    world.events.clear();
    lose_east(&mut world);
    assert_eq!(told(&world, "host.gone"), ["fe1", "fe1"], "both others say so");
    let east = pool(&mut world, "east");
    assert_eq!((&east["served_by"], &east["last_served_by"]), (&"fw1".into(), &"fw1".into()));
    assert_eq!(east["upcoming"]["what"], "lost");
    let other = world.ask_host(2, Request::Pools).unwrap();
    let left = |pool: &Value| pool["upcoming"]["at"].as_i64().unwrap() - pool["since"].as_i64().unwrap();
    assert!((left(&east) - 300_000).abs() < 1000, "{east:#}");
    assert!((left(&other[0]) - 300_000).abs() < 1000, "{other:#}");
    world.run_for(seconds(300));
    assert_eq!(
        (phase(&mut world).as_str(), &pool(&mut world, "east")["upcoming"]),
        ("resilient", &Value::Null)
    );
    world.start(0);
    world.run_for(seconds(2));
    assert_eq!(pool(&mut world, "east")["upcoming"]["what"], "back");
    assert_eq!(told(&world, "host.joined"), ["fe1", "fe1"]);
    // The last host of the west but one goes: no seat moves, and it is told all the same.
    world.kill(2);
    world.run_for(seconds(12));
    assert!(told(&world, "host.gone").contains(&"fw2".to_owned()));
}

/// What the lost pool's hosts have left in the store of their policy may be anything: the backup goes by what it knew before, or by
/// its own.
#[test]
fn a_pool_whose_policy_is_broken_fails_over_all_the_same() {
    let broken = [
        json!({ "host": "fe1", "hash": "x", "files": { "default.lua": "return (" } }).to_string(),
        json!({ "host": "fe1", "hash": "x", "files": { "default.lua": "while true do end" } }).to_string(),
        json!({ "host": "fe1", "hash": "x", "files": { "pools/east.lua": "return 7" } }).to_string(),
        json!({ "host": "fe1", "hash": "x", "files": {} }).to_string(),
        json!({ "host": "fe1", "hash": "x", "files": { "../../etc/passwd.lua": "error('x')" } }).to_string(),
        "{".to_owned(),
    ];
    for value in broken {
        for restarted in [false, true] {
            let mut world = world("");
            let [alice, bob] = world.phones_at([("alice", "fw1"), ("bob", "fw1")]);
            let key = switchyard_host::store::keys::policy_key("east");
            world.write_record(Operation::Put { key, value: value.clone().into() });
            world.run_for(seconds(1));
            lose_east(&mut world);
            if restarted {
                world.kill(1);
                world.start(1);
                world.run_for(seconds(8));
            }
            world.run_for(seconds(300));
            move_east(&mut world, Ask::Failover);
            let (_, b) = world.connect(alice, bob);
            let told = park(&mut world, bob, b);
            assert!(told.contains("200 OK") && number_in(&told).starts_with("80"), "{value}: {told}");
        }
    }
}

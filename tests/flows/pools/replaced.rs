//! A pool that is lost for good, and another in its place (RES-23, RES-24): east is lost, west has its users, north takes its
//! place and becomes the west's pair.

use std::collections::BTreeSet;

use serde_json::json;
use switchyard_host::config;
use switchyard_host::engine::Input;
use switchyard_host::policy::Bundle;
use switchyard_host::store::Operation;
use switchyard_host::store::keys::{epoch_key, pool_key};

use super::*;
use crate::harness::{Moment, OnRing, Strike};

const FW1: usize = 1;
const FN1: usize = 2;

/// Hosts of the east, the west and the north; that of the west knows the north from nobody but the store. East's policy has
/// these keys of `resiliency` more, the north's has a music of its own.
fn world(resiliency: &str) -> World {
    let east = format!("return (require 'default'):extend {{ resiliency = {{ {resiliency} }} }}");
    let group = "pickup_group = \"*101\"";
    let mut world = World::with(WorldOptions {
        hosts: &[("fe1", "east"), ("fw1", "west"), ("fn1", "north"), ("fn2", "north")],
        config: "[[pools]]\nname = \"north\"\nfqdn = \"north.example.test\"\n".into(),
        users: vec![("bob", group), ("carol", group)],
        policies: vec![("pools/east.lua".into(), east)],
        ..WorldOptions::default()
    });
    // It is built only when the east is lost.
    for host in [FN1, FN1 + 1] {
        world.kill(host);
    }
    for host in [0, FW1] {
        world.kill(host);
        let mut config = (*world.hosts[host].config).clone();
        config.pools.retain(|pool| pool.name != "north");
        world.hosts[host].config = config.into();
        world.start(host);
    }
    world.run_for(seconds(12));
    assert!(world.hosts[FW1].engine.is_some());
    world
}

/// North is built: its files say that it is the west's pair, and its first host tells the store of it.
fn build_north(world: &mut World) {
    let pair = |name: &str, backup: &str| config::Pool {
        name: name.into(),
        fqdn: (name == "north").then(|| "north.example.test".into()),
        contact_by_name: false,
        backup: Some(backup.into()),
    };
    let record = json!({ "name": "north", "fqdn": "north.example.test" });
    for (key, value) in [(pool_key("north"), record), (epoch_key("north"), json!(1))] {
        world.write_record(Operation::Put { key, value: value.to_string().into() });
    }
    for host in [FN1, FN1 + 1] {
        let mut config = (*world.hosts[host].config).clone();
        config.pools = vec![pair("north", "west"), pair("west", "north")];
        world.hosts[host].config = config.into();
        world.start(host);
    }
    let north = "return (require 'default'):extend { call_park = { pickup_timeout = '40s' } }";
    let default = include_str!("../../../policies/default.lua");
    let files = [("default.lua", default), ("pools/north.lua", north)];
    let bundle = Bundle::of(files.map(|(name, text)| (name.to_owned(), text.to_owned())));
    for host in [FN1, FN1 + 1] {
        world.gets(host, Input::Policy(bundle.clone().into()));
    }
    world.run_for(seconds(3));
    assert_eq!(pool(world, "north")["served_by"], "fn1", "{:#}", pool(world, "north"));
}

fn reassign(users: bool, dry_run: bool) -> Request {
    Request::ReassignPool { pool: "east".into(), to: "north".into(), users, by: "ana".into(), dry_run }
}

fn replace(world: &mut World) {
    world.ask_host(FW1, reassign(true, false)).unwrap();
    world.run_for(seconds(3));
    assert_eq!(pool(world, "east")["replaced_by"], "north", "{:#}", pool(world, "east"));
    assert_eq!(pool(world, "north")["backup"], "west");
    assert_eq!(pool(world, "west")["backup"], "north");
}

fn row<'a>(rows: &'a Value, name: &str) -> &'a Value {
    rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap()
}

#[test]
fn a_lost_pool_is_replaced_and_the_new_pair_stands_in_for_each_other() {
    let mut world = world("pickup_ranges = 'automatic'");
    let [alice, bob, carol, erin, frank] =
        world.phones_at(["alice", "bob", "carol", "erin", "frank"].map(|user| (user, "fw1")));
    // A call that lives through it all.
    let (a, b) = world.connect(alice, bob);
    world.run_for(seconds(2));
    lose_east_for_good(&mut world);
    move_east(&mut world, Ask::Failover);
    build_north(&mut world);

    // Carol's phone talks to a host of the north from now on: who serves her is another thing.
    world.move_phone(carol, "fn1");
    world.act(carol, |phone| phone.register(3600));
    world.run_for(seconds(2));
    let told = world.ask_host(FN1, reassign(true, true)).unwrap();
    let does: Vec<&str> =
        told["steps"].as_array().unwrap().iter().map(|step| step["does"].as_str().unwrap()).collect();
    assert_eq!(does[1], "fw1 passes the users of east to fn1, with their calls");
    assert_eq!(does[3], "2 ranges go to north: east-park, east-groups");
    assert_eq!(does[4], "4 users go to north: alice, bob, carol, dave");
    assert!(told["left_to_do"].as_array().unwrap().len() >= 3, "{told:#}");
    assert_eq!(pool(&mut world, "east")["phase"], "failed_over", "a dry run changes nothing");

    replace(&mut world);
    let (ranges, users) =
        (world.ask_host(FW1, Request::Ranges).unwrap(), world.ask_host(FW1, Request::Users).unwrap());
    for (range, pool) in [("east-park", "north"), ("east-groups", "north"), ("west-park", "west")] {
        assert_eq!(row(&ranges, range)["pool"], pool);
    }
    for (user, pool) in [("alice", "north"), ("dave", "north"), ("erin", "west")] {
        assert_eq!(row(&users, user)["pool"], pool);
    }
    assert_eq!(row(&users, "bob")["bindings"].as_array().unwrap().len(), 1, "his phone is known there");

    // The call goes on, and is parked in the north's orbits, under the north's terms: rung back after 40 seconds.
    assert_hold_works(&mut world, (alice, a), (bob, b));
    let parked = park(&mut world, bob, b);
    assert!(parked.starts_with("SIP/2.0 200"), "{parked}");
    let number = number_in(&parked);
    assert!(number.starts_with("70"), "{number} is no orbit of the north");
    world.act(bob, |phone| phone.hang_up(b));
    world.phones[bob].on_ring = OnRing::AnswerAfter(seconds(1));
    let calls = world.phones[bob].calls.len();
    world.run_for(seconds(45));
    assert_eq!(world.phones[bob].calls.len(), calls + 1, "he is rung back");
    let b = world.phones[bob].last();
    assert!(world.phones[bob].call(b).up);
    let parked = park(&mut world, bob, b);
    let fetched = dial(&mut world, frank, &number_in(&parked));
    assert!(world.phones[frank].call(fetched).up, "{:?}", world.phones[frank].call(fetched).warning);
    world.act(frank, |phone| phone.hang_up(fetched));
    world.run_for(seconds(2));
    // Its groups work there, too.
    world.phones[bob].on_ring = OnRing::Ring;
    let waiting = dial(&mut world, erin, "1002");
    let picked = dial(&mut world, carol, "*101");
    assert!(world.phones[carol].call(picked).up, "{:?}", world.phones[carol].call(picked).warning);
    world.act(erin, |phone| phone.hang_up(waiting));
    world.run_for(seconds(2));

    // The west fails over to the north, and its users park there.
    let (e, f) = world.connect(erin, frank);
    let what = |ask| Request::MovePool { pool: "west".into(), ask, by: "ana".into(), dry_run: false };
    world.ask_host(FN1, what(Ask::Failover)).unwrap();
    world.run_for(seconds(3));
    assert_eq!(pool(&mut world, "west")["served_by"], "fn1");
    let parked = park(&mut world, frank, f);
    assert!(number_in(&parked).starts_with("70"), "{parked}");
    let fetched = dial(&mut world, carol, &number_in(&parked));
    assert_hold_works(&mut world, (carol, fetched), (erin, e));
    world.act(carol, |phone| phone.hang_up(fetched));
    world.ask_host(FN1, what(FAILBACK)).unwrap();
    world.run_for(seconds(3));
    // And the north to the west, with a call that was begun under the east's name.
    let what =
        Request::MovePool { pool: "north".into(), ask: Ask::Failover, by: "ana".into(), dry_run: false };
    let (a, b) = world.connect(alice, bob);
    for host in [FN1, FN1 + 1] {
        world.kill(host);
    }
    world.run_for(seconds(12));
    world.ask_host(FW1, what).unwrap();
    world.run_for(seconds(3));
    assert_eq!(pool(&mut world, "north")["phase"], "failed_over", "{:#}", pool(&mut world, "north"));
    assert_eq!(
        (&pool(&mut world, "north")["served_by"], &pool(&mut world, "east")["served_by"]),
        (&json!("fw1"), &json!("fw1"))
    );
    assert_hold_works(&mut world, (alice, a), (bob, b));
    let parked = park(&mut world, bob, b);
    assert!(number_in(&parked).starts_with("80"), "{parked}");
}

/// The hosts of the lost pool are found again and started, with their old files; and one of the west has its old one as well.
#[test]
fn an_old_file_does_not_undo_it() {
    let mut world = world("");
    let [alice, bob, erin] = world.phones_at([("alice", "fw1"), ("bob", "fw1"), ("erin", "fw1")]);
    lose_east_for_good(&mut world);
    move_east(&mut world, Ask::Failover);
    build_north(&mut world);
    replace(&mut world);
    let (a, b) = world.connect(alice, bob);
    world.start(0);
    world.run_for(seconds(20));
    world.kill(FW1);
    world.run_for(seconds(2));
    world.start(FW1);
    world.run_for(seconds(700));
    assert_eq!(pool(&mut world, "east")["replaced_by"], "north");
    for (name, host) in [("east", "fn1"), ("north", "fn1"), ("west", "fw1")] {
        assert_eq!(pool(&mut world, name)["served_by"], host, "{name}");
        assert_eq!(pool(&mut world, name)["phase"], "active", "{name}");
    }
    // It is a way in all the same, by its old name and by the new one.
    world.move_phone(bob, "fe1");
    world.act(bob, |phone| phone.register(3600));
    world.run_for(seconds(2));
    assert!(world.phones[bob].registered);
    assert_hold_works(&mut world, (alice, a), (bob, b));
    world.phones[bob].on_ring = OnRing::AnswerAfter(seconds(1));
    world.act(bob, |phone| phone.hang_up(b));
    world.run_for(seconds(2));
    let call = world.act(erin, |phone| phone.invite("sip:1002@north.example.test", &[], true));
    world.run_for(seconds(3));
    assert!(world.phones[erin].call(call).up, "{:?}", world.phones[erin].call(call).failed);
    // Nobody belongs to it any more, and it moves nowhere.
    let spec = RangeSpec {
        name: "more".into(),
        from: "7200".into(),
        to: "7209".into(),
        kind: "call-park".into(),
        pool: "east".into(),
    };
    let refused = world.ask_host(0, Request::PutRange(spec)).unwrap_err();
    assert!(refused.text.contains("unknown pool"), "{}", refused.text);
    let failover =
        Request::MovePool { pool: "east".into(), ask: Ask::Failover, by: "ana".into(), dry_run: false };
    assert_eq!(world.ask_host(0, failover).unwrap_err().text, "east was replaced by north");
}

/// Calls that wait in its orbits (rescue) go first; who asks too early is told so.
#[test]
fn it_is_refused_while_calls_wait_in_its_orbits_and_goes_on_when_its_runner_dies() {
    let mut world = world("parked_on_outage = 'rescue'");
    let [alice, bob, frank] = world.phones_at([("alice", "fw1"), ("bob", "fw1"), ("frank", "fw1")]);
    let (a, b) = world.connect(alice, bob);
    let number = number_in(&park(&mut world, bob, b));
    lose_east(&mut world);
    build_north(&mut world);
    let refused = |world: &mut World, users| world.ask_host(FW1, reassign(users, false)).unwrap_err();
    assert_eq!(refused(&mut world, true).text, "east is outage: fail it over to west first");
    move_east(&mut world, Ask::Failover);
    assert_eq!(refused(&mut world, false).text, "east has 4 users: --users takes them along");
    let why = refused(&mut world, true);
    assert_eq!((why.status, why.code), (409, Some(35112)));
    assert!(why.text.starts_with("1 calls wait in orbits of east"), "{}", why.text);
    let fetched = dial(&mut world, frank, &number);
    assert!(world.phones[frank].call(fetched).up, "{:?}", world.phones[frank].call(fetched).warning);
    world.run_for(seconds(2));
    world.ask_host(FN1, reassign(true, false)).unwrap();
    world.kill(FN1);
    world.run_for(seconds(12));
    assert_eq!(pool(&mut world, "east")["replaced_by"], "north", "{:#}", pool(&mut world, "east"));
    assert_eq!(pool(&mut world, "north")["served_by"], "fn2");
    assert_hold_works(&mut world, (frank, fetched), (alice, a));
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(seconds(3));
    assert!(world.phones[frank].call(fetched).over);
}

/// Whoever writes is struck, at every write: the call goes on, all is moved, and nobody serves what another serves.
#[test]
fn it_comes_to_the_same_end_whichever_write_is_struck() {
    for moment in Moment::ALL {
        let mut struck = BTreeSet::new();
        for skip in 0.. {
            let mut world = world("failure_detection = '5m', pickup_ranges = 'automatic'");
            let [alice, bob] = world.phones_at([("alice", "fw1"), ("bob", "fw1")]);
            let (a, b) = world.connect(alice, bob);
            lose_east(&mut world);
            move_east(&mut world, Ask::Failover);
            build_north(&mut world);
            // Where nobody is struck: what becomes of phones whose host dies is another question.
            for phone in [alice, bob] {
                world.move_phone(phone, "fn2");
                world.act(phone, |phone| phone.register(3600));
            }
            world.run_for(seconds(2));
            world.strike(Strike { skip, moment, down: Some(seconds(8)) });
            // Who asked the host that died asks again.
            for host in [FN1, FW1] {
                world.asks(host, reassign(true, false));
                world.run_for(seconds(15));
            }
            world.run_for(seconds(5));
            let Some(what) = world.struck().map(str::to_owned) else { break };
            let told = format!("{moment:?} {what}: {:#}", pool(&mut world, "east"));
            assert_eq!(pool(&mut world, "east")["replaced_by"], "north", "{told}");
            assert_eq!(pool(&mut world, "west")["backup"], "north", "{told}");
            let (ranges, users) =
                (world.ask_host(FW1, Request::Ranges).unwrap(), world.ask_host(FW1, Request::Users).unwrap());
            assert!(
                ["east-park", "east-groups"].iter().all(|name| row(&ranges, name)["pool"] == "north"),
                "{told}"
            );
            assert!(["alice", "dave"].iter().all(|name| row(&users, name)["pool"] == "north"), "{told}");
            assert_hold_works(&mut world, (alice, a), (bob, b));
            let parked = park(&mut world, bob, b);
            assert!(number_in(&parked).starts_with("70"), "{parked} {told}");
            struck.insert(what);
        }
        for step in ["fence", "seat", "parked", "ranges", "users", "open"] {
            assert!(struck.contains(&format!("reassign {step}")), "{struck:?}");
        }
        assert!(struck.contains("seat"), "{struck:?}");
    }
}

/// The east is built anew under its old name, and takes its place back from the north, as the north has taken it from the east.
#[test]
fn a_pool_that_was_replaced_is_put_back_in_its_place_the_same_way() {
    let mut world = world("pickup_ranges = 'automatic'");
    let [alice, bob, carol, erin, frank] =
        world.phones_at(["alice", "bob", "carol", "erin", "frank"].map(|user| (user, "fw1")));
    lose_east_for_good(&mut world);
    move_east(&mut world, Ask::Failover);
    build_north(&mut world);
    replace(&mut world);
    let (a, b) = world.connect(alice, bob);
    world.start(0);
    world.run_for(seconds(20));
    for host in [FN1, FN1 + 1] {
        world.kill(host);
    }
    world.run_for(seconds(12));
    let failover =
        Request::MovePool { pool: "north".into(), ask: Ask::Failover, by: "ana".into(), dry_run: false };
    world.ask_host(FW1, failover).unwrap();
    world.run_for(seconds(3));
    assert_eq!(pool(&mut world, "north")["phase"], "failed_over", "{:#}", pool(&mut world, "north"));

    let back = |dry_run| Request::ReassignPool {
        pool: "north".into(),
        to: "east".into(),
        users: true,
        by: "ana".into(),
        dry_run,
    };
    let told = world.ask_host(0, back(true)).unwrap();
    let does: Vec<&str> =
        told["steps"].as_array().unwrap().iter().map(|step| step["does"].as_str().unwrap()).collect();
    assert_eq!(does[1], "fw1 passes the users of north to fe1, with their calls");
    assert_eq!(does[3], "2 ranges go to east: east-groups, east-park");
    assert_eq!(does[4], "4 users go to east: alice, bob, carol, dave");
    assert_eq!(pool(&mut world, "east")["replaced_by"], "north", "a dry run changes nothing");
    world.ask_host(0, back(false)).unwrap();
    world.run_for(seconds(3));

    let (east, north, west) = (pool(&mut world, "east"), pool(&mut world, "north"), pool(&mut world, "west"));
    assert_eq!((&east["replaced_by"], &north["replaced_by"]), (&Value::Null, &json!("east")), "{north:#}");
    assert_eq!((&east["backup"], &west["backup"]), (&json!("west"), &json!("east")));
    for (pool, host) in [(&east, "fe1"), (&north, "fe1"), (&west, "fw1")] {
        assert_eq!((&pool["served_by"], &pool["phase"]), (&json!(host), &json!("active")), "{pool:#}");
    }
    // Its record is of its new life, that of the north tells how it went.
    assert_eq!(east["journal"], Value::Null, "{east:#}");
    assert!(east["since"].as_u64() > north["journal"]["began"].as_u64().map(|began| began - 1), "{east:#}");
    assert_eq!(north["journal"]["steps"][1]["note"], "fe1 serves the users of north");
    let (ranges, users) =
        (world.ask_host(0, Request::Ranges).unwrap(), world.ask_host(0, Request::Users).unwrap());
    for (range, pool) in [("east-park", "east"), ("east-groups", "east"), ("west-park", "west")] {
        assert_eq!(row(&ranges, range)["pool"], pool);
    }
    for (user, pool) in [("alice", "east"), ("dave", "east"), ("erin", "west")] {
        assert_eq!(row(&users, user)["pool"], pool);
    }

    // A call from before goes on, is parked in the east's orbits and fetched from the west; the group picks up.
    assert_hold_works(&mut world, (alice, a), (bob, b));
    let parked = park(&mut world, bob, b);
    assert!(number_in(&parked).starts_with("70"), "{parked}");
    let fetched = dial(&mut world, frank, &number_in(&parked));
    assert!(world.phones[frank].call(fetched).up, "{:?}", world.phones[frank].call(fetched).warning);
    world.act(frank, |phone| phone.hang_up(fetched));
    world.run_for(seconds(2));
    let waiting = dial(&mut world, erin, "1002");
    let picked = dial(&mut world, carol, "*101");
    assert!(world.phones[carol].call(picked).up, "{:?}", world.phones[carol].call(picked).warning);
    world.act(erin, |phone| phone.hang_up(waiting));
    world.run_for(seconds(2));
    // And each stands in for the other, as before.
    move_east(&mut world, Ask::Failover);
    start_east(&mut world);
    move_east(&mut world, FAILBACK);
    let spec = RangeSpec {
        name: "more".into(),
        from: "7200".into(),
        to: "7209".into(),
        kind: "call-park".into(),
        pool: "north".into(),
    };
    let refused = world.ask_host(0, Request::PutRange(spec)).unwrap_err();
    assert!(refused.text.contains("unknown pool"), "{}", refused.text);
}

/// Its host would pass its users on to somebody it cannot talk to.
#[test]
fn it_is_refused_while_its_users_host_reaches_nobody_of_the_new_pool() {
    let mut world = world("");
    world.phones_at([("alice", "fw1")]);
    lose_east_for_good(&mut world);
    move_east(&mut world, Ask::Failover);
    build_north(&mut world);
    let cut = [(FW1, FN1), (FW1, FN1 + 1)];
    for hosts in cut {
        world.cut_link(hosts);
    }
    world.run_for(seconds(20));
    let refused = world.ask_host(FW1, reassign(true, false)).unwrap_err();
    assert_eq!((refused.status, refused.code), (409, Some(35112)));
    assert_eq!(
        refused.text,
        "no host of north could take over from fw1 (out of reach from fw1: fn1: cut by the test): put that right first"
    );
    let refused = world.ask_host(FN1, reassign(true, false)).unwrap_err();
    assert_eq!(
        (refused.status, &*refused.text),
        (503, "this is up to fw1, which cannot be reached from fn1")
    );
    assert_eq!(pool(&mut world, "east")["phase"], "failed_over");
    for hosts in cut {
        world.mend_link(hosts);
    }
    world.run_for(seconds(1));
    replace(&mut world);
}

//! Hosts that live in the store while the link to them is cut.

use switchyard_host::admin::Refused;

use super::*;

fn holder(world: &mut World) -> String {
    pool(world, "east")["served_by"].as_str().unwrap().to_owned()
}

fn drain(world: &mut World, asked: usize, host: &str) -> Result<Value, Refused> {
    let answer =
        world.ask_host(asked, Request::DrainHost { host: host.into(), drained: true, by: "ana".into() });
    world.run_for(seconds(3));
    answer
}

#[test]
fn a_host_is_not_drained_while_it_reaches_nobody_who_could_take_over() {
    let hosts = &[("fe1", "east"), ("fw1", "west"), ("fe2", "east")];
    let mut world = World::with(WorldOptions { hosts, ..WorldOptions::default() });
    world.run_for(seconds(3));
    world.cut_link((0, 2));
    world.run_for(seconds(20));
    let trouble = |world: &mut World, asked| {
        let east = world.ask_host(asked, Request::Pools).unwrap()[0].clone();
        let host =
            east["hosts"].as_array().unwrap().iter().find(|host| host["name"] == "fe2").unwrap().clone();
        let now = world.utc().0;
        (host["trouble"].clone(), host["trouble_since"].as_u64().map(|since| (now - since) / 1000))
    };
    assert_eq!(trouble(&mut world, 0), (json!("cut by the test"), Some(20)));
    assert_eq!(trouble(&mut world, 1), (Value::Null, None), "fw1 reaches it");
    // Whichever host is asked: it is fe1 that would pass its users on.
    for asked in [0, 1] {
        let refused = drain(&mut world, asked, "fe1").unwrap_err();
        assert_eq!((refused.status, refused.code), (409, Some(35112)));
        assert_eq!(
            refused.text,
            "no other host of east could take over from fe1 (out of reach from fe1: fe2: cut by the test): fail east over \
             instead, or stop the host"
        );
    }
    assert_eq!(holder(&mut world), "fe1");
    let refused = drain(&mut world, 0, "fe9").unwrap_err();
    assert_eq!((refused.status, &*refused.text), (404, "no host \"fe9\" is alive; there are fe1, fe2, fw1"));
    // One that cannot be asked itself is drained by those who can take over.
    assert!(drain(&mut world, 2, "fe1").is_ok());
    assert_eq!(holder(&mut world), "fe2");
}

#[test]
fn a_link_that_is_gone_for_a_moment_keeps_nobody_from_passing_on() {
    let hosts = &[("fe1", "east"), ("fw1", "west"), ("fe2", "east")];
    let mut world = World::with(WorldOptions { hosts, ..WorldOptions::default() });
    world.run_for(seconds(3));
    world.cut_link((0, 2));
    world.run_for(seconds(7));
    world.mend_link((0, 2));
    world.cut_link((0, 2));
    world.run_for(seconds(7));
    assert!(drain(&mut world, 1, "fe1").is_ok());
    assert_eq!(holder(&mut world), "fe2");
}

#[test]
fn users_stay_with_the_backup_while_it_reaches_no_host_of_their_own() {
    let mut world = world("");
    let [alice, bob] = world.phones_at([("alice", "fw1"), ("bob", "fw1")]);
    move_east(&mut world, Ask::Failover);
    world.cut_link((0, 1));
    world.run_for(seconds(20));
    let failback = Request::MovePool { pool: "east".into(), ask: FAILBACK, by: "ana".into(), dry_run: false };
    let refused = world.ask_host(1, failback.clone()).unwrap_err();
    assert_eq!((refused.status, refused.code), (409, Some(35112)));
    assert_eq!(
        refused.text,
        "no host of east could take over from fw1 (out of reach from fw1: fe1: cut by the test): put that right first; --disaster \
         brings them home all the same"
    );
    assert!(world.told("pool.refused").last().is_some_and(|event| event.detail["by"] == "ana"));
    // The host at home cannot know how it is seen from there.
    let refused = world.ask_host(0, failback).unwrap_err();
    assert_eq!(refused.status, 503);
    assert_eq!(refused.text, "this is up to fw1, which cannot be reached from fe1");
    assert_eq!(phase(&mut world), "failed_over");
    let (a, _) = world.connect(alice, bob);
    world.act(alice, |phone| phone.hang_up(a));
    world.mend_link((0, 1));
    world.run_for(seconds(1));
    move_east(&mut world, FAILBACK);
    let (a, _) = world.connect(alice, bob);
    assert!(world.phones[alice].call(a).up, "her phone is still at fw1");
}

#[test]
fn users_stay_at_home_while_their_host_reaches_nobody_who_could_take_over() {
    let mut world = world("");
    let [alice, bob] = world.phones_at([("alice", "fe1"), ("bob", "fe1")]);
    world.cut_link((0, 1));
    world.run_for(seconds(20));
    let failover =
        |dry_run| Request::MovePool { pool: "east".into(), ask: Ask::Failover, by: "ana".into(), dry_run };
    for dry_run in [true, false] {
        let refused = world.ask_host(0, failover(dry_run)).unwrap_err();
        assert_eq!((refused.status, refused.code), (409, Some(35112)));
        assert_eq!(
            refused.text,
            "no host of west could take over from fe1 (out of reach from fe1: fw1: cut by the test): put that right first, or stop \
             the hosts of east"
        );
        let refused = world.ask_host(1, failover(dry_run)).unwrap_err();
        assert_eq!(refused.status, 503);
        assert_eq!(refused.text, "this is up to fe1, which cannot be reached from fw1");
    }
    world.run_for(seconds(3));
    assert_eq!((phase(&mut world), holder(&mut world)), ("active".to_owned(), "fe1".to_owned()));
    world.connect(alice, bob);
    world.mend_link((0, 1));
    world.run_for(seconds(1));
    move_east(&mut world, Ask::Failover);
}

/// A host that has just died is no reason to wait until its lease is over; nor is one whose pool was stopped because of it.
#[test]
fn a_pool_that_is_dead_or_was_stopped_fails_over_whoever_reached_it_last() {
    let mut world = world("");
    world.kill(0);
    world.cut_link((0, 1));
    world.run_for(seconds(1));
    let failover =
        Request::MovePool { pool: "east".into(), ask: Ask::Failover, by: "ana".into(), dry_run: false };
    world.ask_host(1, failover).unwrap();
    world.run_for(seconds(20));
    assert_eq!(phase(&mut world), "failed_over");
    let mut world = self::world("");
    world.cut_link((0, 1));
    world.run_for(seconds(20));
    lose_east(&mut world);
    move_east(&mut world, Ask::Failover);
}

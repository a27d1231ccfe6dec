//! What is not done, and why (RES-26).

use super::*;

const FAILBACK: Ask = Ask::Failback { disaster: false };

fn refused(world: &mut World, pool: &str, ask: Ask) -> String {
    world.ask("w1", pool, ask).unwrap_err()
}

#[test]
fn a_backup_whose_own_users_are_away_takes_nobody() {
    let mut world = World::new();
    world.ask("w1", "east", Ask::Failover).unwrap();
    assert_eq!(
        refused(&mut world, "west", Ask::Failover),
        "east is failing_over: wait until that is over, only then can west fail over to it"
    );
    world.settle();
    assert_eq!(
        refused(&mut world, "west", Ask::Failover),
        "east is failed_over: fail east back first, only then can west fail over to it"
    );
}

#[test]
fn one_thing_at_a_time_and_not_twice() {
    let mut world = World::new();
    world.park("7001", "east");
    world.ask("w1", "east", Ask::Failover).unwrap();
    world.settle();
    for ask in [Ask::Failover, FAILBACK] {
        assert_eq!(
            refused(&mut world, "east", ask),
            "the failover of east that ana asked for is at the step parked, done by w1"
        );
    }
    world.unpark("7001");
    world.settle();
    assert_eq!(
        refused(&mut world, "east", Ask::Failover),
        "east is failed_over already: w1 serves its users"
    );
}

#[test]
fn there_is_nothing_to_fail_back() {
    let mut world = World::new();
    assert!(
        refused(&mut world, "east", FAILBACK).starts_with("east is active: there is nothing to fail back")
    );
    world.kill_all(&["e1", "e2"]);
    world.settle();
    assert!(refused(&mut world, "east", FAILBACK).starts_with("east is outage"));
    world.ask("w1", "east", Ask::Failover).unwrap();
    world.settle();
    assert_eq!(refused(&mut world, "east", FAILBACK), "no host of east is alive");
    let dead = Ask::Failback { disaster: true };
    assert_eq!(refused(&mut world, "east", dead), "no host of east is alive");
}

#[test]
fn unknown_pools_get_a_near_match_and_a_pool_alone_says_so() {
    let mut world = World::new();
    assert_eq!(refused(&mut world, "eats", Ask::Failover), "there is no pool \"eats\", did you mean east?");
    world.put(pool_key("east"), json!({ "name": "east" }));
    assert_eq!(refused(&mut world, "east", Ask::Failover), "east has no backup pool");
    world.kill_all(&["e1", "e2"]);
    world.after(1000);
    assert_eq!(world.phase("east"), Phase::Active, "without a backup nobody can do anything about it");
}

#[test]
fn a_backup_that_is_dead_takes_nobody() {
    let mut world = World::new();
    world.kill_all(&["w1", "w2"]);
    world.settle();
    let why = world.ask("e1", "east", Ask::Failover).unwrap_err();
    assert_eq!(why, "west is outage: west has to be back first, only then can east fail over to it");
}

#[test]
fn a_preview_says_what_each_step_would_do() {
    let mut world = World::new();
    world.park("7001", "east");
    world.range("east-groups", "*101", "group-pickup", "east");
    assert_eq!(
        world.preview("w1", "east", Ask::Failover),
        [
            "fence: users of east are in resiliency mode: no new parks and pickups",
            "parked: wait up to 300s for 1 parked call, then end it (disconnect)",
            "seat: e1 passes the seat to a host of west",
            "ranges: left with east (east-groups); by hand: switchyard orbit set NAME --pool west",
            "open: full service by west, with its settings and orbits",
        ]
    );
}

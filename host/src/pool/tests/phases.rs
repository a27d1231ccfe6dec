//! What happens by itself.

use super::*;

#[test]
fn hosts_of_a_pool_serve_it_and_a_dead_one_is_replaced_by_its_neighbour() {
    let mut world = World::new();
    assert_eq!((world.holder("east"), world.holder("west")), ("e1".into(), "w1".into()));
    world.kill("e1");
    world.settle();
    assert_eq!((world.holder("east"), world.phase("east")), ("e2".into(), Phase::Active));
    world.start("e1");
    world.settle();
    assert_eq!(world.holder("east"), "e2", "a seat does not move without a reason");
}

#[test]
fn a_pool_that_nobody_has_ever_served_is_not_lost() {
    let mut world = World::new();
    world.kill_all(&["e1", "e2"]);
    world.delete(seat_key("east"));
    world.after(1000);
    assert_eq!(world.phase("east"), Phase::Active);
}

#[test]
fn a_silent_pool_is_out_then_lost_and_back_when_it_was_heard_for_long_enough() {
    let mut world = World::new();
    world.kill_all(&["e1", "e2"]);
    world.settle();
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::Outage, "w1".into()));
    assert_eq!(world.record("east").since, Utc(START));
    world.after(299);
    assert_eq!(world.phase("east"), Phase::Outage);
    world.after(1);
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::Resilient, "w1".into()));
    world.start("e2");
    world.after(599);
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::Resilient, "w1".into()));
    // A break begins the count anew.
    world.kill("e2");
    world.after(1);
    world.start("e2");
    world.after(0);
    world.after(599);
    assert_eq!(world.phase("east"), Phase::Resilient);
    world.after(1);
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::Active, "e2".into()));
}

#[test]
fn a_pool_heard_again_before_it_counts_as_lost_is_active_at_once() {
    let mut world = World::new();
    world.kill_all(&["e1", "e2"]);
    world.after(200);
    world.start("e1");
    world.settle();
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::Active, "e1".into()));
    // And a later outage is counted from its own beginning.
    world.kill("e1");
    world.after(200);
    assert_eq!(world.phase("east"), Phase::Outage);
}

#[test]
fn a_runner_that_has_just_started_counts_for_itself() {
    let mut world = World::new();
    world.kill_all(&["e1", "e2", "w2"]);
    world.after(299);
    world.kill("w1");
    world.start("w2");
    world.settle();
    assert_eq!(world.holder("east"), "w2");
    world.after(299);
    assert_eq!(world.phase("east"), Phase::Outage, "it has missed the pool for less than its limit (RES-08)");
    world.after(1);
    assert_eq!(world.phase("east"), Phase::Resilient);
}

#[test]
fn who_has_lost_its_backup_as_well_serves_itself() {
    let mut world = World::new();
    world.kill_all(&["e1", "e2"]);
    world.after(301);
    assert_eq!(world.phase("east"), Phase::Resilient);
    world.kill_all(&["w1", "w2"]);
    world.start("e1");
    world.settle();
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::Active, "e1".into()));
    assert_eq!((world.phase("west"), world.holder("west")), (Phase::Outage, "e1".into()));
}

#[test]
fn a_drained_host_passes_its_seats_on_and_takes_one_only_when_nobody_else_is_there() {
    let mut world = World::new();
    world.put(drain_key("e1"), json!({}));
    world.settle();
    assert_eq!(world.holder("east"), "e2");
    world.kill("e2");
    world.settle();
    assert_eq!((world.holder("east"), world.phase("east")), ("e1".into(), Phase::Active));
    world.start("e2");
    world.settle();
    assert_eq!(world.holder("east"), "e2");
    world.delete(drain_key("e1"));
    world.put(drain_key("e2"), json!({}));
    world.settle();
    assert_eq!(world.holder("east"), "e1", "resumed, it counts again");
}

#[test]
fn of_two_who_think_that_it_is_theirs_one_writes() {
    let mut world = World::new();
    world.kill_all(&["e1", "e2"]);
    let first = world.wants("w1");
    assert_eq!(first.len(), 1);
    // w2 does not know yet that w1 lives, and thinks the seat of west vacant.
    let snapshot = world.store.snapshot(ROOT);
    let mut seats = Seats::new(name("w2"));
    for (key, record) in snapshot.records.iter().filter(|(key, _)| **key != host_key("w1")) {
        seats.apply(&crate::store::Change { key: key.clone(), record: Some(record.clone()) });
    }
    world.look("w2");
    let now = world.now;
    let host = world.hosts.get_mut("w2").unwrap();
    host.pools.observe(now, &seats);
    let second = host.pools.next(now, &seats, &Directory::default());
    assert_eq!(second.len(), 1);
    assert!(world.commit(&second[0].transaction));
    assert!(!world.commit(&first[0].transaction), "the record is another by now");
}

#[test]
fn a_host_that_does_not_live_writes_nothing() {
    let mut world = World::new();
    world.kill_all(&["e1", "e2"]);
    let outage = world.wants("w1");
    world.delete(host_key("w1"));
    assert!(!world.commit(&outage[0].transaction), "its life is over");
    assert!(world.wants("w1").is_empty());
}

#[test]
fn the_next_look_is_due_when_a_time_is_over() {
    let mut world = World::new();
    let due = |world: &mut World| {
        let now = world.now;
        let host = world.look("w1");
        host.pools.next_timeout(now, &host.seats)
    };
    assert_eq!(due(&mut world), None);
    world.kill_all(&["e1", "e2"]);
    world.settle();
    assert_eq!(due(&mut world), Some(Instant::after_start(secs(300))));
    world.after(300);
    world.start("e1");
    world.settle();
    assert_eq!(due(&mut world), Some(Instant::after_start(secs(900))));
}

#[test]
fn terms_are_those_of_the_policy() {
    let terms = Terms::read(
        r#"{"failure_detection":90000,"failback_detection":120000,"failover":"automatic","parked_on_outage":"rescue",
            "pickup_ranges":"automatic","pickup_after_failback":true,"drain_time":0,"allowed":{}}"#,
    );
    let expected = Terms {
        failure_detection: secs(90),
        failback_detection: secs(120),
        automatic: true,
        rescue: true,
        ranges_follow: true,
        ringing_stays: true,
        drain_time: secs(0),
    };
    assert_eq!(terms, expected);
    assert_eq!(Terms::read("nonsense"), Terms::default());
}

/// After a failover the users of both park in the same orbits, so one host has them.
#[test]
fn a_lost_pool_is_where_its_backup_is() {
    let mut world = World::new();
    world.kill_all(&["e1", "e2"]);
    world.after(301);
    assert_eq!(world.holder("east"), "w1");
    world.put(drain_key("w1"), json!({}));
    world.settle();
    assert_eq!((world.holder("west"), world.holder("east")), ("w2".into(), "w2".into()));
    world.kill("w2");
    world.settle();
    assert_eq!((world.holder("west"), world.holder("east")), ("w1".into(), "w1".into()));
}

/// What is shown to people who wait for it.
#[test]
fn what_comes_next_is_known_before_it_comes() {
    let mut world = World::with(Terms { automatic: true, ..Terms::default() });
    let next = |world: &mut World, host: &str| {
        let now = world.now;
        world.look(host).pools.upcoming(now, "east").map(|(what, due)| (what, due - now.instant))
    };
    assert_eq!(next(&mut world, "w2"), None);
    world.kill_all(&["e1", "e2"]);
    world.after(0);
    world.look("w2");
    world.after(40);
    for host in ["w1", "w2"] {
        assert_eq!(next(&mut world, host), Some((Upcoming::Lost, secs(260))), "{host}");
    }
    world.after(260);
    assert_eq!((world.phase("east"), next(&mut world, "w1")), (Phase::FailedOver, None));
    world.start("e1");
    world.after(0);
    world.after(100);
    assert_eq!(next(&mut world, "w1"), Some((Upcoming::Failback, secs(500))));
    world.park("7001", "east");
    world.after(500);
    world.ask("w1", "east", Ask::Failover).unwrap();
    world.after(10);
    assert_eq!(next(&mut world, "w1"), Some((Upcoming::Drained, secs(290))));
}

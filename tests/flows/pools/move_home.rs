//! Planned moves, drained hosts, and what administrators are told.

use switchyard_host::engine::Input;
use switchyard_host::policy::Bundle;

use super::*;

#[test]
fn a_planned_failover_waits_for_parked_calls_and_moves_talking_ones() {
    let mut world = world("drain_time = '1m'");
    let [alice, bob, carol, erin, frank] = world.phones_at([
        ("alice", "fw1"),
        ("bob", "fe1"),
        ("carol", "fw1"),
        ("erin", "fw1"),
        ("frank", "fw1"),
    ]);
    let (a, b) = world.connect(alice, bob);
    let number = number_in(&park(&mut world, bob, b));
    let (e, c) = world.connect(erin, carol);
    let ask = Request::MovePool { pool: "east".into(), ask: Ask::Failover, by: "ana".into(), dry_run: false };
    let begun = world.ask_host(0, ask).unwrap();
    assert_eq!(begun["steps"].as_array().unwrap().len(), 5);
    world.run_for(seconds(20));
    assert_eq!(phase(&mut world), "failing_over");
    assert_eq!(pool(&mut world, "east")["served_by"], "fe1");
    // A native of the other pool fetches her in time.
    let fetched = dial(&mut world, frank, &number);
    assert!(world.phones[frank].call(fetched).up, "{:?}", world.phones[frank].call(fetched).warning);
    world.run_for(seconds(3));
    assert_eq!(phase(&mut world), "failed_over", "{:#}", pool(&mut world, "east"));
    assert_eq!(pool(&mut world, "east")["served_by"], "fw1");
    assert!(!world.phones[erin].call(e).over && !world.phones[carol].call(c).over);
    assert_hold_works(&mut world, (carol, c), (erin, e));
    assert_hold_works(&mut world, (frank, fetched), (alice, a));
    move_east(&mut world, FAILBACK);
    assert_eq!(pool(&mut world, "east")["served_by"], "fe1");
    assert_hold_works(&mut world, (carol, c), (erin, e));
    assert_hold_works(&mut world, (alice, a), (frank, fetched));
    world.act(carol, |phone| phone.hang_up(c));
    world.act(frank, |phone| phone.hang_up(fetched));
    world.run_for(seconds(3));
    assert!(world.phones[erin].call(e).over && world.phones[alice].call(a).over);
}

#[test]
fn a_phone_that_rings_while_its_pool_is_moved_stops_when_the_caller_gives_up() {
    let mut world = world("");
    let [bob, erin] = world.phones_at([("bob", "fe1"), ("erin", "fw1")]);
    let call = dial(&mut world, erin, "1002");
    move_east(&mut world, Ask::Failover);
    let ringing = world.phones[bob].last();
    assert!(!world.phones[bob].call(ringing).over);
    world.act(erin, |phone| phone.cancel(call));
    world.run_for(seconds(2));
    assert!(world.phones[bob].call(ringing).over && world.phones[erin].call(call).over);
    // And who answers is connected, wherever the call is.
    let call = dial(&mut world, erin, "1002");
    move_east(&mut world, FAILBACK);
    let ringing = world.phones[bob].last();
    world.act(bob, |phone| phone.answer(ringing));
    world.run_for(seconds(2));
    assert!(world.phones[erin].call(call).up);
    assert_hold_works(&mut world, (bob, ringing), (erin, call));
    world.act(erin, |phone| phone.hang_up(call));
    world.run_for(seconds(2));
    assert!(world.phones[bob].call(ringing).over);
}

/// A hold is on its way over the leg between the pools when the seat moves: the host that asked acknowledges the answer, or
/// the other pool's would refuse everything for 32 s, and then end the call.
#[test]
fn a_change_that_was_under_way_between_pools_when_a_seat_moved_stands_in_nobody_s_way() {
    let mut world = world("");
    let [bob, erin] = world.phones_at([("bob", "fw1"), ("erin", "fw1")]);
    let (b, e) = world.connect(bob, erin);
    move_east(&mut world, Ask::Failover);
    world.run_for(seconds(5));
    world.act(bob, |phone| phone.reinvite(b, "sendonly"));
    world.run_for(Duration::from_millis(11));
    let left = world.told("seat.left").len();
    let ask = Request::MovePool { pool: "east".into(), ask: FAILBACK, by: "ana".into(), dry_run: false };
    world.ask_host(1, ask).unwrap();
    world.run_for(Duration::from_millis(12));
    assert_eq!(world.told("seat.left").len(), left + 1, "before Erin's answer got there");
    world.run_for(seconds(5));
    assert_eq!(phase(&mut world), "active");
    assert_hold_works(&mut world, (bob, b), (erin, e));
    assert_hold_works(&mut world, (erin, e), (bob, b));
    world.run_for(seconds(40));
    assert!(!world.phones[bob].call(b).over && !world.phones[erin].call(e).over);
}

/// All that is stored is being read when phones ask for something: they are answered when it has been read, and not told that
/// there is no such call.
#[test]
fn what_phones_ask_while_a_seat_is_read_up_is_answered_then() {
    let mut world = world("");
    let [alice, bob, carol, dave] =
        world.phones_at([("alice", "fw1"), ("bob", "fw1"), ("carol", "fw1"), ("dave", "fw1")]);
    world.on_tcp(carol);
    world.act(carol, |phone| phone.register(3600));
    world.run_for(seconds(2));
    let (a, b) = world.connect(alice, bob);
    let (c, d) = world.connect(carol, dave);
    world.start_ladder();
    world.reads_take = seconds(2);
    let ask = Request::MovePool { pool: "east".into(), ask: Ask::Failover, by: "ana".into(), dry_run: false };
    world.ask_host(1, ask).unwrap();
    world.run_for(Duration::from_millis(300));
    let left = world.told("seat.left").len();
    world.act(alice, |phone| phone.hang_up(a));
    world.act(dave, |phone| phone.reinvite(d, "sendonly"));
    let third = world.act(carol, |phone| phone.invite("sip:1002@example.test", &[], true));
    world.run_for(seconds(1));
    assert_eq!((left, world.told("seat.taken").len()), (1, 2), "nothing is known there yet");
    assert!(!world.phones[bob].call(b).over && world.phones[carol].call(third).failed.is_none());
    world.run_for(seconds(4));
    assert!(world.phones[bob].call(b).over);
    assert!(world.phones[carol].call(c).heard.clone().unwrap().contains("sendonly"), "{}", world.ladder());
    assert!(world.phones[bob].ringing().next().is_some(), "Carol's second call rings");
}

/// The caller's phone was out of reach when its call was answered and its callee's seat moved: it hears of the answer all the
/// same, and its ACK finds the call where it is now.
#[test]
fn an_answer_that_did_not_get_through_before_a_seat_moved_is_said_again() {
    let mut world = world("");
    let [alice, bob] = world.phones_at([("alice", "fw1"), ("bob", "fw1")]);
    let call = dial(&mut world, alice, "1002");
    let ringing = world.phones[bob].last();
    world.network.cut.insert(alice);
    world.act(bob, |phone| phone.answer(ringing));
    world.run_for(seconds(2));
    move_east(&mut world, Ask::Failover);
    assert!(!world.phones[alice].call(call).up);
    world.network.cut.clear();
    world.run_for(seconds(5));
    assert!(world.phones[alice].call(call).up && world.phones[bob].call(ringing).up);
    assert_hold_works(&mut world, (alice, call), (bob, ringing));
    world.run_for(seconds(60));
    assert!(!world.phones[alice].call(call).over && !world.phones[bob].call(ringing).over);
}

#[test]
fn parked_calls_that_nobody_fetches_are_ended_when_the_drain_time_is_over() {
    let mut world = world("drain_time = '30s'");
    let [alice, bob] = world.phones_at([("alice", "fw1"), ("bob", "fe1")]);
    let (a, b) = world.connect(alice, bob);
    assert!(park(&mut world, bob, b).starts_with("SIP/2.0 200"));
    let ask = Request::MovePool { pool: "east".into(), ask: Ask::Failover, by: "ana".into(), dry_run: false };
    world.ask_host(0, ask).unwrap();
    world.run_for(seconds(25));
    assert!(!world.phones[alice].call(a).over);
    world.run_for(seconds(10));
    let call = world.phones[alice].call(a);
    assert!(call.over && call.bye_reason.as_ref().is_some_and(|reason| reason.contains("cause=41")));
    assert_eq!(phase(&mut world), "failed_over", "{:#}", pool(&mut world, "east"));
}

/// The log and the events of every host that knows of it.
#[test]
fn a_change_of_phase_is_told_with_whoever_is_behind_it() {
    let told = |world: &World| -> Vec<String> {
        let mut told: Vec<String> = (world.told("pool.phase").iter())
            .map(|event| {
                format!(
                    "{} by {}",
                    event.detail["to"].as_str().unwrap(),
                    event.detail["by"].as_str().unwrap()
                )
            })
            .collect();
        told.dedup();
        told
    };
    let mut by_hand = world("");
    lose_east_for_good(&mut by_hand);
    move_east(&mut by_hand, Ask::Failover);
    start_east(&mut by_hand);
    move_east(&mut by_hand, FAILBACK);
    lose_east(&mut by_hand);
    let hands = ["failing_over by ana", "failed_over by ana", "failing_back by ana", "active by ana"];
    let detected = ["outage by detection", "resilient by detection"];
    assert_eq!(told(&by_hand), [&detected[..], &hands[..], &detected[..1]].concat());
    let mut by_policy = world("failover = 'automatic'");
    lose_east(&mut by_policy);
    by_policy.run_for(seconds(303));
    assert_eq!(
        told(&by_policy),
        [&detected[..], &["failing_over by policy", "failed_over by policy"]].concat()
    );
}

#[test]
fn refusals_say_why_and_a_dry_run_changes_nothing() {
    let mut world = world("");
    world.run_for(seconds(1));
    let failover = |pool: &str, dry_run| Request::MovePool {
        pool: pool.into(),
        ask: Ask::Failover,
        by: "ana".into(),
        dry_run,
    };
    let steps = world.ask_host(1, failover("east", true)).unwrap();
    assert_eq!(steps["steps"][2]["does"], "fe1 passes the seat to a host of west");
    world.run_for(seconds(1));
    assert_eq!(phase(&mut world), "active");
    move_east(&mut world, Ask::Failover);
    let refused = world.ask_host(1, failover("west", false)).unwrap_err();
    assert_eq!((refused.status, refused.code), (409, Some(35112)));
    assert!(refused.text.contains("fail east back first"), "{}", refused.text);
    let drain = Request::DrainHost { host: "fw1".into(), drained: true, by: "ana".into() };
    let refused = world.ask_host(0, drain).unwrap_err();
    assert_eq!(refused.code, Some(35112), "{}", refused.text);
    let reassign = Request::ReassignPool {
        pool: "east".into(),
        to: "west".into(),
        users: true,
        by: "ana".into(),
        dry_run: true,
    };
    let refused = world.ask_host(1, reassign).unwrap_err();
    assert!(refused.text.starts_with("west is the backup of east"), "{}", refused.text);
}

/// With users of the east on the west, the west moves nowhere before they are home; then it does (RES-26).
#[test]
fn the_backup_fails_over_only_when_it_has_nobody_else_s_users() {
    let mut world = world("");
    let [bob, erin, frank] = world.phones_at([("bob", "fe1"), ("erin", "fe1"), ("frank", "fe1")]);
    let failover = |pool: &str| Request::MovePool {
        pool: pool.into(),
        ask: Ask::Failover,
        by: "ana".into(),
        dry_run: false,
    };
    move_east(&mut world, Ask::Failover);
    let refused = world.ask_host(1, failover("west")).unwrap_err();
    assert_eq!(refused.code, Some(35112));
    assert_eq!(refused.text, "east is failed_over: fail east back first, only then can west fail over to it");
    // Nor can it be named the other way round: whoever is moved is called by the home pool.
    let failback = Request::MovePool { pool: "west".into(), ask: FAILBACK, by: "ana".into(), dry_run: false };
    assert!(world.ask_host(1, failback).unwrap_err().text.starts_with("west is active: there is nothing"));
    assert_eq!(world.told("pool.refused").len(), 2);
    move_east(&mut world, FAILBACK);
    world.ask_host(1, failover("west")).unwrap();
    world.run_for(seconds(3));
    assert_eq!(pool(&mut world, "west")["phase"], "failed_over");
    assert_eq!(pool(&mut world, "west")["served_by"], "fe1");
    // Its users park with the east now, and the east's still do.
    let (_, f) = world.connect(erin, frank);
    let parked = park(&mut world, frank, f);
    assert!(number_in(&parked).starts_with("70"), "{parked}");
    let (_, b) = world.connect(erin, bob);
    let parked = park(&mut world, bob, b);
    assert!(number_in(&parked).starts_with("70"), "{parked}");
}

/// The west is lost while it has the east's users (RES-28): they are called home without it. What talks goes on there; what
/// was parked with the west is lost with it.
#[test]
fn users_come_home_from_a_backup_that_is_dead() {
    let mut world = world("");
    let [alice, bob, carol, dave] =
        world.phones_at([("alice", "fe1"), ("bob", "fe1"), ("carol", "fe1"), ("dave", "fe1")]);
    move_east(&mut world, Ask::Failover);
    let (a, b) = world.connect(alice, bob);
    let (d, c) = world.connect(dave, carol);
    let parked = park(&mut world, carol, c);
    assert!(number_in(&parked).starts_with("80"), "{parked}");
    world.run_for(seconds(2));
    world.kill(1);
    world.run_for(seconds(12));
    let ask = |ask| Request::MovePool { pool: "east".into(), ask, by: "ana".into(), dry_run: false };
    let refused = world.ask_host(0, ask(FAILBACK)).unwrap_err();
    assert_eq!(refused.code, Some(35112));
    assert_eq!(refused.text, "no host of west is alive; --disaster brings the users of east home without it");
    world.ask_host(0, ask(Ask::Failback { disaster: true })).unwrap();
    world.run_for(seconds(5));
    let pools = world.ask_host(0, Request::Pools).unwrap();
    let row = |name: &str| pools.as_array().unwrap().iter().find(|pool| pool["name"] == name).unwrap();
    assert_eq!((&row("east")["phase"], &row("east")["served_by"]), (&"active".into(), &"fe1".into()));
    assert_eq!(row("west")["phase"], "outage", "now it is the east that stands in");
    assert_hold_works(&mut world, (alice, a), (bob, b));
    let parked = park(&mut world, bob, b);
    assert!(number_in(&parked).starts_with("70"), "{parked}");
    // The west's parked calls end as those of any pool that is lost do.
    assert!(!world.phones[dave].call(d).over);
    world.run_for(seconds(300));
    let call = world.phones[dave].call(d);
    assert!(call.over && call.bye_reason.as_ref().is_some_and(|reason| reason.contains("cause=41")));
}

#[test]
fn a_drained_host_passes_its_calls_on_and_nobody_notices() {
    let hosts = &[("fe1", "east"), ("fe2", "east"), ("fw1", "west")];
    let mut world = World::with(WorldOptions { hosts, ..WorldOptions::default() });
    let [alice, bob, carol, dave] =
        world.phones_at([("alice", "fe2"), ("bob", "fe2"), ("carol", "fe2"), ("dave", "fe2")]);
    let (a, b) = world.connect(alice, bob);
    let number = number_in(&park(&mut world, bob, b));
    let (c, d) = world.connect(carol, dave);
    world.run_for(seconds(2));
    let drain = |drained| Request::DrainHost { host: "fe1".into(), drained, by: "ana".into() };
    world.ask_host(2, drain(true)).unwrap();
    world.run_for(seconds(5));
    let holder = |world: &mut World| world.ask_host(2, Request::Pools).unwrap()[0]["served_by"].clone();
    assert_eq!(holder(&mut world), "fe2");
    assert_eq!(world.hosts[0].engine.as_ref().unwrap().counts()["legs"], 0, "fe1 has nothing left");
    assert!(!world.phones[alice].call(a).over && !world.phones[carol].call(c).over);
    assert_hold_works(&mut world, (carol, c), (dave, d));
    let fetched = dial(&mut world, bob, &number);
    assert!(world.phones[bob].call(fetched).up, "{:?}", world.phones[bob].call(fetched).warning);
    world.ask_host(2, drain(false)).unwrap();
    world.run_for(seconds(5));
    assert_eq!(holder(&mut world), "fe2", "a seat does not move without a reason");
}

/// The runner of a failback dies at the last write before its turn comes to move the seat. Its successor takes the seat, as who
/// serves the backup, in the moment in which it is to go home: it is passed on once all is read, although nothing else happens.
#[test]
fn a_seat_whose_side_changes_while_it_is_read_up_is_passed_on() {
    let hosts = &[("fw1", "west"), ("fe1", "east"), ("fw2", "west")];
    let mut world = World::with(WorldOptions { hosts, ..WorldOptions::default() });
    world.run_for(seconds(2));
    move_east(&mut world, Ask::Failover);
    let drain = Request::DrainHost { host: "fw1".into(), drained: true, by: "ana".into() };
    world.ask_host(1, drain).unwrap();
    world.run_for(seconds(3));
    assert_eq!(pool(&mut world, "east")["served_by"], "fw2");
    world.reads_take = Duration::from_millis(300);
    // Through the journal's begin and its ranges; the next is that of the seat.
    world.strike(Strike { skip: 2, moment: Moment::Before, down: None });
    let ask = Request::MovePool { pool: "east".into(), ask: FAILBACK, by: "ana".into(), dry_run: false };
    world.ask_host(1, ask).unwrap();
    world.run_for(seconds(15));
    assert_eq!(world.struck(), Some("failback seat"));
    assert_eq!(phase(&mut world), "active", "{:#}", pool(&mut world, "east"));
    assert_eq!(pool(&mut world, "east")["served_by"], "fe1");
}

#[test]
fn a_host_that_is_told_to_stop_passes_its_users_on_first() {
    let hosts = &[("fe1", "east"), ("fe2", "east"), ("fw1", "west")];
    let mut world = World::with(WorldOptions { hosts, ..WorldOptions::default() });
    let [alice, bob] = world.phones_at([("alice", "fe2"), ("bob", "fe2")]);
    let (a, b) = world.connect(alice, bob);
    world.run_for(seconds(2));
    world.gets(0, Input::Drain);
    world.run_for(seconds(3));
    assert_eq!(world.ask_host(2, Request::Pools).unwrap()[0]["served_by"], "fe2");
    assert_eq!(world.hosts[0].engine.as_ref().unwrap().counts()["legs"], 0, "it can go");
    assert_hold_works(&mut world, (alice, a), (bob, b));
}

#[test]
fn hosts_of_a_pool_whose_policies_differ_are_told_so() {
    let hosts = &[("fe1", "east"), ("fe2", "east")];
    let mut world = World::with(WorldOptions { hosts, ..WorldOptions::default() });
    world.run_for(seconds(2));
    let differs = |world: &mut World, host| {
        let pools = world.ask_host(host, Request::Pools).unwrap();
        pools[0]["policy_differs"].as_bool().unwrap()
    };
    assert!(!differs(&mut world, 0) && !differs(&mut world, 1));
    let policy = |time: &str| {
        let text = format!("return {{ call_park = {{ pickup_timeout = '{time}' }} }}");
        Input::Policy(Bundle::of([("default.lua".to_owned(), text)]).into())
    };
    world.gets(1, policy("2m"));
    world.run_for(seconds(2));
    assert!(differs(&mut world, 0));
    assert_eq!(world.told("policy.skew").iter().map(|event| event.code).collect::<Vec<_>>(), [Some(35113)]);
    // A host that only starts does not take back what another has told.
    world.kill(0);
    world.run_for(seconds(12));
    world.start(0);
    world.run_for(seconds(3));
    assert!(differs(&mut world, 0) && !differs(&mut world, 1));
    world.gets(0, policy("2m"));
    world.run_for(seconds(2));
    assert!(!differs(&mut world, 0) && !differs(&mut world, 1));
}

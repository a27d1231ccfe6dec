//! Call Park: facts.md §2.1.

use super::*;

#[test]
fn a_talking_call_stays_up_through_everything_and_can_be_parked_when_service_is_full_again() {
    let mut world = world("");
    let [alice, bob, carol, erin] =
        world.phones_at([("alice", "fw1"), ("bob", "fw1"), ("carol", "fw1"), ("erin", "fw1")]);
    let (a, b) = world.connect(alice, bob);
    world.run_for(seconds(2));
    lose_east(&mut world);
    // Outage: it is up, and cannot be parked.
    assert_hold_works(&mut world, (alice, a), (bob, b));
    let refused = park(&mut world, bob, b);
    assert!(refused.starts_with("SIP/2.0 480") && refused.contains("35110"), "{refused}");
    let text = "Bob cannot park calls now: the servers of pool east are down (outage). Hold the call, or transfer it";
    assert!(refused.contains(text), "{refused}");
    // Nobody serves users of the east: who wants to call, or to be called, or to register, is told so (RES-18).
    let c = dial(&mut world, carol, "2001");
    assert_refused(&world, carol, c, 503, "35111");
    let e = dial(&mut world, erin, "1003");
    assert_refused(&world, erin, e, 503, "35111");
    world.run_for(seconds(290));
    assert_eq!(phase(&mut world), "resilient");
    // Resilient: calls, hold and transfer work again, parks do not.
    world.phones[erin].on_ring = crate::harness::OnRing::AnswerAfter(seconds(1));
    let c = dial(&mut world, carol, "2001");
    assert!(world.phones[carol].call(c).up);
    world.act(carol, |phone| phone.hang_up(c));
    assert_hold_works(&mut world, (bob, b), (alice, a));
    let refused = park(&mut world, bob, b);
    assert!(refused.starts_with("SIP/2.0 480") && refused.contains("35110"), "{refused}");
    let text = "Bob cannot park calls now: the servers of pool east are down, and others stand in for them (resilient). Hold";
    assert!(refused.contains(text), "{refused}");
    // Failed over: he parks in the backup's orbits (RES-20), and she is fetched from there.
    move_east(&mut world, Ask::Failover);
    assert!(!world.phones[alice].call(a).over && !world.phones[bob].call(b).over);
    let parked = park(&mut world, bob, b);
    assert!(parked.starts_with("SIP/2.0 200"), "{parked}");
    let number = number_in(&parked);
    assert!(number.starts_with("80"), "{number} is no orbit of the west");
    // Failing back: she stays parked there.
    start_east(&mut world);
    move_east(&mut world, FAILBACK);
    assert_eq!(pool(&mut world, "east")["served_by"], "fe1");
    assert_eq!(pool(&mut world, "west")["parked"], 1);
    assert!(!world.phones[alice].call(a).over);
    let c = dial(&mut world, carol, &number);
    assert!(world.phones[carol].call(c).up, "{:?}", world.phones[carol].call(c).warning);
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(seconds(2));
    assert!(world.phones[carol].call(c).over);
}

#[test]
fn a_parked_call_of_a_lost_pool_is_disconnected_when_it_counts_as_lost_and_not_before() {
    let mut world = world("");
    let [alice, bob, erin] = world.phones_at([("alice", "fw1"), ("bob", "fw1"), ("erin", "fw1")]);
    let (a, b) = world.connect(alice, bob);
    assert!(park(&mut world, bob, b).starts_with("SIP/2.0 200"));
    lose_east(&mut world);
    world.run_for(seconds(270));
    assert!(!world.phones[alice].call(a).over, "its hosts may be back");
    world.run_for(seconds(30));
    assert_eq!(phase(&mut world), "resilient");
    let call = world.phones[alice].call(a);
    assert!(call.over);
    assert!(
        call.bye_reason.as_ref().is_some_and(|reason| reason.contains("Q.850;cause=41")),
        "{:?}",
        call.bye_reason
    );
    assert_eq!(pool(&mut world, "east")["parked"], 0);
    assert_eq!(world.told("park.disconnected").len(), 1);
    let e = dial(&mut world, erin, "7001");
    assert!(world.phones[erin].call(e).failed.is_some());
}

#[test]
fn a_pool_that_restarts_as_a_whole_loses_no_parked_call() {
    let mut world = world("");
    let [alice, bob, carol] = world.phones_at([("alice", "fw1"), ("bob", "fw1"), ("carol", "fw1")]);
    let (a, b) = world.connect(alice, bob);
    let number = number_in(&park(&mut world, bob, b));
    lose_east(&mut world);
    world.run_for(seconds(20));
    start_east(&mut world);
    assert_eq!(phase(&mut world), "active");
    let c = dial(&mut world, carol, &number);
    assert!(world.phones[carol].call(c).up, "{:?}", world.phones[carol].call(c).warning);
    world.act(alice, |phone| phone.hang_up(a));
    world.run_for(seconds(2));
}

/// The pool is back when its backup has just begun to take her up, and her time is over: at every moment until her parker answers.
#[test]
fn who_waits_while_a_pool_is_away_and_back_is_recalled_by_one_host_at_a_time() {
    for (waits, rescue) in [("alice", true), ("erin", true), ("erin", false)] {
        for moment in (0..60).step_by(4) {
            let at = format!("{waits}, rescue {rescue}, {moment} ms");
            let policy = if rescue { "parked_on_outage = 'rescue'" } else { "" };
            let mut world = world(&format!("{policy} }}, call_park = {{ pickup_timeout = '10s'"));
            let [waiting, bob] = world.phones_at([(waits, "fw1"), ("bob", "fw1")]);
            let (w, b) = world.connect(waiting, bob);
            assert!(park(&mut world, bob, b).starts_with("SIP/2.0 200"));
            world.run_for(seconds(3));
            world.kill(0);
            let taken = world.told("seat.taken").len();
            while world.told("seat.taken").len() == taken {
                world.run_for(Duration::from_millis(1));
            }
            world.phones[bob].on_ring = OnRing::AnswerAfter(Duration::from_millis(20));
            world.start_ladder();
            world.run_for(Duration::from_millis(moment));
            world.start(0);
            for _ in 0..600 {
                world.run_for(Duration::from_millis(5));
                let phone = &world.phones[bob];
                assert!(phone.ringing().chain(phone.live()).count() < 2, "{at}:\n{}", world.ladder());
            }
            let calls: Vec<CallId> = world.phones[bob].live().collect();
            assert_eq!(calls.len(), 1, "{at}:\n{}", world.ladder());
            assert_hold_works(&mut world, (bob, calls[0]), (waiting, w));
            assert_hold_works(&mut world, (waiting, w), (bob, calls[0]));
            world.run_for(seconds(15));
            let east = pool(&mut world, "east");
            assert_eq!((&east["served_by"], &east["parked"]), (&"fe1".into(), &0.into()), "{at}");
            world.act(waiting, |phone| phone.hang_up(w));
            world.run_for(seconds(2));
            assert!(world.phones[bob].call(calls[0]).over, "{at}");
        }
    }
}

#[test]
fn a_rescued_call_keeps_its_number_and_is_fetched_by_whoever_may() {
    let mut world = world("parked_on_outage = 'rescue'");
    let [alice, bob, carol, erin] =
        world.phones_at([("alice", "fw1"), ("bob", "fw1"), ("carol", "fw1"), ("erin", "fw1")]);
    // An hour is enough for what follows; her own time would be over before.
    let (a, b) = world.connect(alice, bob);
    let number = number_in(&park(&mut world, bob, b));
    lose_east(&mut world);
    assert_eq!(world.streams.keys().map(|(host, _)| *host).collect::<Vec<_>>(), [1], "music again");
    let c = dial(&mut world, carol, &number);
    assert_refused(&world, carol, c, 480, "35110");
    let e = dial(&mut world, erin, &number);
    assert!(world.phones[erin].call(e).up, "who is not of the east is not concerned");
    assert!(!world.phones[alice].call(a).over);
    world.act(erin, |phone| phone.hang_up(e));
    world.run_for(seconds(2));
    assert!(world.phones[alice].call(a).over);
}

#[test]
fn a_retrieved_call_stays_connected_through_everything() {
    let mut world = world("");
    let [alice, bob, carol] = world.phones_at([("alice", "fw1"), ("bob", "fw1"), ("carol", "fw1")]);
    let (a, b) = world.connect(alice, bob);
    let number = number_in(&park(&mut world, bob, b));
    let c = dial(&mut world, carol, &number);
    assert!(world.phones[carol].call(c).up);
    lose_east_for_good(&mut world);
    let up = |world: &World| !world.phones[alice].call(a).over && !world.phones[carol].call(c).over;
    assert!(up(&world));
    move_east(&mut world, Ask::Failover);
    assert!(up(&world));
    start_east(&mut world);
    move_east(&mut world, FAILBACK);
    assert!(up(&world));
    assert_hold_works(&mut world, (carol, c), (alice, a));
}

#[test]
fn users_of_the_backup_notice_nothing() {
    let mut world = world("");
    let [erin, frank, alice] = world.phones_at([("erin", "fw1"), ("frank", "fw1"), ("alice", "fw1")]);
    let parks = |world: &mut World| {
        let (e, f) = world.connect(erin, frank);
        let parked = park(world, frank, f);
        assert!(parked.starts_with("SIP/2.0 200") && number_in(&parked).starts_with("80"), "{parked}");
        let fetched = dial(world, frank, &number_in(&parked));
        assert!(world.phones[frank].call(fetched).up);
        world.act(erin, |phone| phone.hang_up(e));
        world.run_for(seconds(2));
    };
    lose_east(&mut world);
    parks(&mut world);
    world.run_for(seconds(300));
    parks(&mut world);
    // An orbit of a pool that is away takes nobody, whoever asks.
    let (e, f) = world.connect(erin, frank);
    world.act(frank, |phone| phone.refer(f, "sip:7001@example.test"));
    world.run_for(seconds(2));
    let refused = told(&world, frank, f);
    assert!(refused.starts_with("SIP/2.0 503") && refused.contains("35111"), "{refused}");
    assert!(refused.contains("7001 cannot be used now: the servers of pool east are down"), "{refused}");
    world.act(erin, |phone| phone.hang_up(e));
    move_east(&mut world, Ask::Failover);
    parks(&mut world);
    start_east(&mut world);
    move_east(&mut world, FAILBACK);
    parks(&mut world);
    assert!(world.phones[alice].registered);
}

#[test]
fn the_policy_of_the_lost_pool_says_what_its_users_may_do() {
    let cells = "allowed = { resilient = { retrieve = true, park = function(user, call) return user.name == 'bob' end } }";
    let mut world = world(cells);
    let [alice, bob, carol] = world.phones_at([("alice", "fw1"), ("bob", "fw1"), ("carol", "fw1")]);
    lose_east_for_good(&mut world);
    let (c, _) = world.connect(carol, alice);
    assert!(park(&mut world, carol, c).starts_with("SIP/2.0 480"));
    world.act(carol, |phone| phone.hang_up(c));
    let (b, _) = world.connect(bob, alice);
    // His own pool's orbits are away: he has the backup's.
    let parked = park(&mut world, bob, b);
    assert!(parked.starts_with("SIP/2.0 200") && number_in(&parked).starts_with("80"), "{parked}");
    world.run_for(seconds(10));
    let c = dial(&mut world, carol, &number_in(&parked));
    assert!(world.phones[carol].call(c).up, "{:?}", world.phones[carol].call(c).warning);
    world.act(carol, |phone| phone.hang_up(c));
    world.run_for(seconds(2));
}

#[test]
fn a_rescued_call_is_fetched_by_a_user_of_its_own_pool_when_the_failover_is_over() {
    let mut world = world("parked_on_outage = 'rescue'");
    let [alice, bob, carol] = world.phones_at([("alice", "fw1"), ("bob", "fw1"), ("carol", "fw1")]);
    let (a, b) = world.connect(alice, bob);
    let number = number_in(&park(&mut world, bob, b));
    lose_east(&mut world);
    move_east(&mut world, Ask::Failover);
    assert!(!world.phones[alice].call(a).over);
    let c = dial(&mut world, carol, &number);
    assert!(world.phones[carol].call(c).up, "{:?}", world.phones[carol].call(c).warning);
    assert_eq!(pool(&mut world, "east")["parked"], 0);
    world.act(carol, |phone| phone.hang_up(c));
    world.run_for(seconds(2));
    assert!(world.phones[alice].call(a).over);
}

#[test]
fn orbits_in_which_calls_wait_do_not_change_hands() {
    let mut world = world("");
    let [alice, bob] = world.phones_at([("alice", "fw1"), ("bob", "fw1")]);
    let (_, b) = world.connect(alice, bob);
    let number = number_in(&park(&mut world, bob, b));
    let spec = RangeSpec {
        name: "east-park".into(),
        from: "7000".into(),
        to: "7099".into(),
        kind: "call-park".into(),
        pool: "west".into(),
    };
    let refused = world.ask_host(1, Request::PutRange(spec.clone())).unwrap_err();
    assert_eq!(
        (refused.status, &*refused.text),
        (409, "1 calls wait in east-park, and only a host that serves east has them")
    );
    dial(&mut world, bob, &number);
    world.ask_host(1, Request::PutRange(spec)).unwrap();
}

#[test]
fn a_call_that_stays_with_the_backup_after_a_failback_is_parked_there() {
    let mut world = world("");
    let [alice, erin] = world.phones_at([("alice", "fe1"), ("erin", "fw1")]);
    move_east(&mut world, Ask::Failover);
    let (_, a) = world.connect(erin, alice);
    move_east(&mut world, FAILBACK);
    assert_eq!(pool(&mut world, "east")["served_by"], "fe1");
    // Her pool's server would not know who waits in its orbits: this call is not its.
    let parked = park(&mut world, alice, a);
    assert!(parked.starts_with("SIP/2.0 200") && number_in(&parked).starts_with("80"), "{parked}");
    let fetched = dial(&mut world, alice, &number_in(&parked));
    assert!(world.phones[alice].call(fetched).up, "{:?}", world.phones[alice].call(fetched).warning);
    world.act(alice, |phone| phone.hang_up(fetched));
    world.run_for(seconds(2));
}

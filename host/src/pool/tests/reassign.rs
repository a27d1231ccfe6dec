//! A pool is replaced by another (RES-23, RES-24).

use super::*;

fn wish(to: &'static str) -> Replacement<'static> {
    Replacement { pool: "east", to, users: true }
}

/// North comes along, with nobody for a backup.
fn start_north(world: &mut World) {
    world.put(pool_key("north"), json!({ "name": "north" }));
    world.put(epoch_key("north"), json!(1));
    world.start("n1");
    world.start("n2");
    world.settle();
    assert_eq!(world.holder("north"), "n1");
}

/// East with two users and three ranges, one of which went to the west; lost and failed over. North is there.
fn lost() -> World {
    let mut world = World::with(Terms { ranges_follow: true, ..Terms::default() });
    world.range("east-park", "7000", "call-park", "east");
    world.range("east-groups", "*101", "group-pickup", "east");
    world.range("west-groups", "*201", "group-pickup", "west");
    for (user, pool) in [("alice", "east"), ("bob", "east"), ("erin", "west")] {
        world.user(user, pool);
    }
    world.kill_all(&["e1", "e2"]);
    world.after(301);
    world.ask("w1", "east", Ask::Failover).unwrap();
    world.settle();
    assert_eq!((world.phase("east"), world.pool_of_range("east-groups")), (Phase::FailedOver, "west".into()));
    start_north(&mut world);
    world
}

fn reassign(world: &mut World, host: &str, wish: Replacement<'_>) -> Result<(), String> {
    let (now, users) = (world.now, world.users());
    let host = world.look(host);
    let begun = host.pools.reassign(now, &host.seats, &users, wish, "ana").map_err(|why| why.to_string())?;
    assert!(world.commit(&begun.transaction));
    Ok(())
}

fn refused(world: &mut World, wish: Replacement<'_>) -> String {
    reassign(world, "w1", wish).unwrap_err()
}

/// Everything of the east is of the north, in the pair, too.
fn assert_replaced(world: &mut World, told: &str) {
    let east = world.record("east");
    assert_eq!(
        (east.replaced_by.as_deref(), east.backup, east.phase),
        (Some("north"), None, Phase::Active),
        "{told}"
    );
    assert!(east.journal.unwrap().ended.is_some(), "{told}");
    let pair = |pool: &str| (world.phase(pool), world.record(pool).backup);
    assert_eq!(pair("north"), (Phase::Active, Some("west".into())), "{told}");
    assert_eq!(pair("west"), (Phase::Active, Some("north".into())), "{told}");
    for user in ["alice", "bob"] {
        assert_eq!(world.pool_of_user(user), "north", "{told}");
    }
    assert_eq!(world.pool_of_user("erin"), "west", "{told}");
    for (range, pool) in [("east-park", "north"), ("east-groups", "north"), ("west-groups", "west")] {
        assert_eq!(world.pool_of_range(range), pool, "{told}: {range}");
    }
    assert!(world.holder("north").starts_with('n'), "{told}");
    assert_eq!(world.holder("east"), world.holder("north"), "{told}");
}

#[test]
fn a_lost_pool_is_replaced_and_the_new_pair_stands_in_for_each_other() {
    let mut world = lost();
    let epoch = world.epoch_record("east").0;
    reassign(&mut world, "n2", wish("north")).unwrap();
    assert_eq!((world.phase("east"), world.holder("east")), (Phase::FailingBack, "w1".into()));
    world.settle();
    assert_replaced(&mut world, "");
    assert!(world.epoch_record("east").0 > epoch, "who wakes up late can write nothing");
    assert_eq!(
        world.notes("east"),
        [
            "fence Done: users of east are in resiliency mode",
            "seat Done: n1 serves the users of east",
            "parked Done: no call waits in an orbit",
            "ranges Done: east-park, east-groups",
            "users Done: 2 users",
            "open Done: ",
        ]
    );
    // What was begun under the old name is where the new one is.
    let names = |world: &mut World, host: &str| {
        let pools = &world.look(host).pools;
        (pools.heir("east").to_owned(), pools.serving("east").to_owned(), pools.phase("east"))
    };
    assert_eq!(names(&mut world, "w2"), ("north".into(), "north".into(), Phase::Active));
    world.ask("n1", "west", Ask::Failover).unwrap();
    world.settle();
    assert_eq!((world.phase("west"), world.holder("west")), (Phase::FailedOver, "n1".into()));
    world.ask("n1", "west", Ask::Failback { disaster: false }).unwrap();
    world.settle();
    world.kill_all(&["n1", "n2"]);
    world.after(301);
    world.ask("w1", "north", Ask::Failover).unwrap();
    world.settle();
    assert_eq!((world.phase("north"), world.holder("north")), (Phase::FailedOver, "w1".into()));
    assert_eq!(world.holder("east"), "w1", "the old name goes where the new one goes");
    assert_eq!(names(&mut world, "w2"), ("north".into(), "west".into(), Phase::FailedOver));
}

/// The hosts of the lost pool start again, with a file that knows nothing of it.
#[test]
fn a_pool_that_was_replaced_stays_replaced() {
    let mut world = lost();
    reassign(&mut world, "w1", wish("north")).unwrap();
    world.settle();
    world.start("e1");
    world.start("w1");
    world.after(1000);
    assert_replaced(&mut world, "");
    assert_eq!(world.ask("e1", "east", Ask::Failover), Err("east was replaced by north".into()));
    assert_eq!(refused(&mut world, wish("north")), "east was replaced by north");
    let standing: Vec<String> = world.look("e1").pools.standing().map(str::to_owned).collect();
    assert_eq!(standing, ["north", "west"]);
}

#[test]
fn it_survives_any_host_at_every_step_and_hosts_that_come_back() {
    for (victim, comes_back) in [("w1", None), ("n1", None), ("n2", Some("e1")), ("w1", Some("e1"))] {
        let mut steps = 0;
        for writes in 0..40 {
            let mut world = lost();
            reassign(&mut world, "w1", wish("north")).unwrap();
            if !(0..writes).all(|_| world.step()) {
                break;
            }
            steps += 1;
            world.kill(victim);
            comes_back.into_iter().for_each(|host| world.start(host));
            world.settle();
            assert_replaced(&mut world, &format!("{victim} died after {writes} writes"));
        }
        assert!(steps >= 6, "{victim}: {steps}");
    }
}

/// All hosts of the new pool die while they are given the users: the backup has them, and whoever comes first ends it.
#[test]
fn nobody_is_left_behind_when_the_new_pool_dies_in_the_middle() {
    for writes in 0..12 {
        let mut world = lost();
        reassign(&mut world, "w1", wish("north")).unwrap();
        let ended = !(0..writes).all(|_| world.step());
        world.kill_all(&["n1", "n2"]);
        world.settle();
        let told = format!("after {writes} writes: {:?}", world.record("east"));
        assert!(world.holder("east").starts_with('w'), "{told}");
        if world.record("east").replaced_by.is_some() {
            assert_eq!((world.phase("north"), world.holder("north")), (Phase::Outage, "w1".into()), "{told}");
        }
        world.start("n1");
        world.settle();
        assert_replaced(&mut world, &told);
        assert!(!ended || writes > 6);
    }
}

#[test]
fn more_users_than_one_transaction_holds_go_all_the_same_and_an_edit_between_is_not_lost() {
    let mut world = lost();
    for at in 0..170 {
        world.user(&format!("user{at}"), "east");
    }
    reassign(&mut world, "w1", wish("north")).unwrap();
    while world.notes("east")[4] != "users Running: 80 users" {
        assert!(world.step());
    }
    // An administrator writes what was read before.
    let stale = world.wants("w1").remove(0);
    world.put(User::key("user50"), json!({ "name": "user50", "pool": "east", "extension": "3050" }));
    assert!(!world.commit(&stale.transaction));
    world.settle();
    assert_replaced(&mut world, "");
    assert_eq!(world.notes("east")[4], "users Done: 172 users");
    assert_eq!(world.users().iter().filter(|user| user.pool == "north").count(), 172);
    assert_eq!(world.users().user("user50").unwrap().extension.as_deref(), Some("3050"));
}

/// Both pools are lost, and calls wait in orbits that nobody looks after.
#[test]
fn a_pair_that_is_lost_is_replaced_without_a_failover_and_its_parked_calls_have_the_drain_time() {
    let mut world = World::new();
    world.user("alice", "east");
    world.range("east-park", "7000", "call-park", "east");
    world.park("7001", "east");
    world.kill_all(&["e1", "e2", "w1", "w2"]);
    start_north(&mut world);
    reassign(&mut world, "n1", wish("north")).unwrap();
    world.settle();
    assert_eq!(world.holder("east"), "n1");
    let fate = |world: &mut World| {
        let now = world.now;
        world.look("n1").pools.parked_fate(now, "east")
    };
    assert_eq!(fate(&mut world), ParkedFate::Keep);
    assert_eq!(world.pool_of_range("east-park"), "east");
    world.after(300);
    assert_eq!(fate(&mut world), ParkedFate::End);
    world.unpark("7001");
    world.settle();
    assert_eq!(
        (world.pool_of_range("east-park"), world.pool_of_user("alice")),
        ("north".into(), "north".into())
    );
    let west = (world.phase("west"), world.holder("west"));
    assert_eq!(west, (Phase::Resilient, "n1".into()), "its users are the north's to serve from now on");
}

/// The east is built anew, under its old name.
#[test]
fn the_other_way_round_undoes_it() {
    let mut world = lost();
    reassign(&mut world, "w1", wish("north")).unwrap();
    world.settle();
    world.start("e1");
    world.ask("w1", "north", Ask::Failover).unwrap();
    world.after(60);
    let (back, users) = (Replacement { pool: "north", to: "east", users: true }, world.users());
    let host = world.look("w1");
    let steps = host.pools.preview_reassign(&host.seats, &users, back);
    assert_eq!(steps[1].1, "w1 passes the users of north to e1, with their calls");
    assert_eq!(steps[3].1, "2 ranges go to east: east-park, east-groups");
    reassign(&mut world, "e1", back).unwrap();
    world.settle();
    let (east, north) = (world.record("east"), world.record("north"));
    assert_eq!((east.replaced_by, east.backup), (None, Some("west".into())));
    assert_eq!((east.journal, east.since), (None, world.now.utc), "what it says is of its new life");
    assert_eq!(world.notes("north")[1], "seat Done: e1 serves the users of north");
    assert_eq!(north.replaced_by.as_deref(), Some("east"));
    assert_eq!((world.pool_of_user("alice"), world.holder("east")), ("east".into(), "e1".into()));
    assert_eq!(world.pool_of_range("east-groups"), "east");
}

/// And who has replaced it is lost in turn.
#[test]
fn names_that_are_gone_follow_one_another() {
    let mut world = lost();
    reassign(&mut world, "w1", wish("north")).unwrap();
    world.settle();
    world.put(pool_key("south"), json!({ "name": "south" }));
    world.put(epoch_key("south"), json!(1));
    world.start("s1");
    world.kill_all(&["n1", "n2"]);
    world.settle();
    world.ask("w1", "north", Ask::Failover).unwrap();
    world.settle();
    assert_eq!(world.holder("east"), "w1");
    reassign(&mut world, "s1", Replacement { pool: "north", to: "south", users: true }).unwrap();
    world.settle();
    assert_eq!(world.record("west").backup.as_deref(), Some("south"));
    assert_eq!(world.look("w1").pools.heir("east"), "south");
    for pool in ["east", "north", "south"] {
        assert_eq!(world.holder(pool), "s1", "{pool}");
    }
    // Not even by hand does anybody walk in a circle.
    world.put(pool_key("south"), json!({ "name": "south", "replaced_by": "east" }));
    world.look("w1").pools.heir("east");
    let back = Replacement { pool: "west", to: "north", users: true };
    assert_eq!(refused(&mut world, back), "north was replaced by south");
}

#[test]
fn what_would_be_wrong_is_refused() {
    let mut world = World::new();
    let misspelt = Replacement { pool: "eats", ..wish("north") };
    assert_eq!(refused(&mut world, misspelt), "there is no pool \"eats\", did you mean east?");
    assert_eq!(refused(&mut world, wish("nort")), "there is no pool \"nort\"");
    assert_eq!(refused(&mut world, wish("east")), "east cannot take its own place");
    assert!(refused(&mut world, wish("west")).starts_with("west is the backup of east"));
    start_north(&mut world);
    assert_eq!(refused(&mut world, wish("north")), "east is active: fail it over to west first");
    world.user("alice", "east");
    world.park("7001", "east");
    world.terms.rescue = true;
    world.kill_all(&["e1", "e2"]);
    world.settle();
    assert_eq!(refused(&mut world, wish("north")), "east is outage: fail it over to west first");
    world.ask("w1", "east", Ask::Failover).unwrap();
    assert!(refused(&mut world, wish("north")).starts_with("the failover of east that ana asked for"));
    world.settle();
    let without = Replacement { users: false, ..wish("north") };
    assert_eq!(refused(&mut world, without), "east has 1 users: --users takes them along");
    assert_eq!(
        refused(&mut world, wish("north")),
        "1 calls wait in orbits of east: they are fetched or rung back within minutes, ask again then"
    );
    world.unpark("7001");
    world.kill_all(&["n1", "n2"]);
    assert_eq!(refused(&mut world, wish("north")), "no host of north is alive");
    world.start("n1");
    world.put(pool_key("north"), json!({ "name": "north", "backup": "south" }));
    assert_eq!(refused(&mut world, wish("north")), "north is paired with south");
    world.put(pool_key("north"), json!({ "name": "north", "phase": "outage" }));
    assert_eq!(
        refused(&mut world, wish("north")),
        "north is outage: only an active pool takes the place of another"
    );
    world.put(pool_key("north"), json!({ "name": "north" }));
    assert_eq!(reassign(&mut world, "w1", wish("north")), Ok(()));
    assert!(
        refused(&mut world, wish("north"))
            .starts_with("the reassign of east that ana asked for is at the step")
    );
}

#[test]
fn a_pool_that_has_the_users_of_its_backup_is_not_replaced() {
    let mut world = World::new();
    start_north(&mut world);
    world.ask("e1", "west", Ask::Failover).unwrap();
    world.settle();
    world.kill_all(&["e1", "e2", "w1", "w2"]);
    assert_eq!(
        reassign(&mut world, "n1", wish("north")),
        Err("users of west were failed over to east: fail west back first".into())
    );
}

#[test]
fn a_preview_says_what_each_step_would_do_and_what_is_left_to_people() {
    let mut world = lost();
    // Moved by hand; nothing but its groups says whose it was.
    world.range("more-groups", "*301", "group-pickup", "west");
    let member = json!({ "name": "bob", "pool": "east", "pickup_group": "*301" });
    world.put(User::key("bob"), member);
    let users = world.users();
    let host = world.look("w1");
    let steps = host.pools.preview_reassign(&host.seats, &users, wish("north"));
    let lines: Vec<String> =
        steps.into_iter().map(|(step, text)| format!("{}: {text}", step.word())).collect();
    assert_eq!(
        lines,
        [
            "fence: users of east are in resiliency mode: no new parks and pickups",
            "seat: w1 passes the users of east to n1, with their calls",
            "parked: no call waits in an orbit of east",
            "ranges: 2 ranges go to north: east-park, east-groups",
            "users: 2 users go to north: alice, bob",
            "open: full service by north, with its settings; west and north are each other's backup; east is no pool any more",
        ]
    );
    let left = host.pools.left_to_do(&users, wish("north"));
    assert_eq!(left.len(), 4);
    assert!(left[1].ends_with("switchyard orbit set more-groups --pool north"), "{left:?}");
}

/// A host whose file pairs the new pool with a pool that the store pairs with the old one.
#[test]
fn a_file_makes_no_pair_that_the_store_contradicts() {
    let world = World::new();
    let pair = |name: &str, backup: &str| config::Pool {
        name: name.into(),
        fqdn: None,
        contact_by_name: false,
        backup: Some(backup.into()),
    };
    let mut pools = Pools::new(name("n1"), &[pair("north", "west"), pair("west", "north")]);
    assert_eq!(pools.backup("north"), Some("west"));
    pools.load(&world.store.snapshot(ROOT));
    assert_eq!((pools.backup("north"), pools.backup("west")), (None, Some("east")));
}

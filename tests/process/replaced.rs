//! A pool that is lost for good, and another in its place, with the files an operator has on that day: an old one at the west's
//! host, a new one at the north's.

use super::etcd::{Etcd, certificates};
use super::host::{Answer, Host};
use super::program::wait_for;
use super::sipp::{Line, Script, all_succeed};

/// What `switchyard pool …` prints, which must succeed.
fn pool(host: &Host, arguments: &[&str]) -> String {
    let Answer { code, out, err } = host.cli(&[&["pool"], arguments].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
    out
}

fn assert_replaced(host: &Host) {
    wait_for("a pool with a server", || host.get("pools/north")["served_by"].as_str().map(drop));
    let pools = ["east", "west", "north"].map(|name| host.get(&format!("pools/{name}")));
    assert_eq!(pools[0]["replaced_by"], "north", "{pools:#?}");
    assert_eq!((&pools[1]["backup"], &pools[2]["backup"]), (&"north".into(), &"west".into()), "{pools:#?}");
    assert_eq!(host.get("users/dave")["pool"], "north");
}

#[test]
fn a_lost_pool_is_replaced_and_old_files_do_not_undo_it() {
    let tls = certificates(&["fe1", "fw1", "fn1"]);
    let etcd = Etcd::start_secure(tls.path());
    let terms = "failure_detection = '5s', failback_detection = '5s'";
    let start = |name, pool| Host::start_in_pair(name, pool, &etcd.endpoints(), tls.path(), terms);
    let (mut east, mut west) = (start("fe1", "east"), start("fw1", "west"));
    assert_eq!(west.server_of("alice").as_deref(), Some("fe1"));
    let [carol, dave] = ["carol", "dave"].map(|user| Line::register(&west, user));
    east.kill();
    wait_for("a lost pool", || (west.get("pools/east")["phase"] == "resilient").then_some(()));
    pool(&west, &["failover", "east"]);

    let mut north = start("fn1", "north");
    assert!(north.log().contains("pool west: its backup is east, not north"), "{}", north.log());
    wait_for("the new pool", || (west.get("pools")[1]["served_by"] == "fn1").then_some(()));
    let would = pool(&west, &["reassign", "east", "--to", "north", "--users", "--dry-run"]);
    assert!(would.contains("1 range goes to north: east-park"), "{would}");
    assert!(would.contains("fw1 passes the users of east to fn1"), "{would}");
    assert_eq!(west.get("pools/east")["phase"], "failed_over");
    let told = pool(&west, &["reassign", "east", "--to", "north", "--users"]);
    assert!(told.contains("east is replaced by north, served by fn1"), "{told}");
    assert!(told.contains("left to do by you:\n  settings and music"), "{told}");
    assert_replaced(&west);
    let listed = pool(&north, &["list"]);
    assert!(listed.contains("replaced by north"), "{listed}");

    // They are served by the north now, and park in what were the east's orbits.
    let parked = dave.run(Script::new("dave").answer().accept_offer().accept_offer().hung_up());
    let parker =
        Script::new("carol").call("1004").refer("7001").notified("100").notified("SIP/2.0 200").hang_up();
    carol.run(parker).succeeds();
    assert_eq!(west.one_parked(), "7001");
    assert_eq!(west.get("occupants")[0]["host"], "fn1");
    all_succeed([carol.run(Script::new("carol").call("7001").pause(300).hang_up()), parked]);

    // Everybody starts again, the lost host as well, with the files they have.
    west.kill();
    north.kill();
    for host in [&mut east, &mut west, &mut north] {
        host.restart();
    }
    for host in [&east, &west, &north] {
        assert_replaced(host);
        wait_for("its server", || (host.get("pools/east")["served_by"] == "fn1").then_some(()));
    }
    let told = "pool east: it was replaced by north; pool west: its backup is north, not east";
    for host in [&east, &west] {
        assert!(host.log().contains(told), "{}", host.log());
    }
    assert!(!north.log().contains("says otherwise"), "{}", north.log());
}

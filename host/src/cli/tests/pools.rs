//! Pools and hosts.

use super::*;

#[test]
fn pools_are_listed_shown_and_moved() {
    let host = host(None);
    host.check(
        "pool list",
        expect![[r#"
            POOL  PHASE        FOR  SERVED BY  BACKUP  HOSTS                             PARKED
            east  failed_over  0s   fw1        west    fe1 (drained), fe2 (unreachable)  0
            south was replaced by east; --all shows it
            fe2 is alive, and cannot be reached from the host that was asked (for 0s): it does not answer
        "#]],
    );
    host.check(
        "pool list --all",
        expect![[r#"
            POOL   PHASE             FOR  SERVED BY  BACKUP  HOSTS                             PARKED
            east   failed_over       0s   fw1        west    fe1 (drained), fe2 (unreachable)  0
            south  replaced by east       fw1                                                  0
            fe2 is alive, and cannot be reached from the host that was asked (for 0s): it does not answer
        "#]],
    );
    host.check(
        "pool show east",
        expect![[r#"
            pool                east
            fqdn                east.example.test
            backup              west
            phase               failed_over
            for                 0s
            next                goes home by its policy in 0s
            epoch               7
            served by           fw1
            parks in orbits of  west
            hosts alive         fe1 (drained), fe2 (unreachable)
            parked calls        0
            ranges moved        east-groups
            last procedure      failover, asked for by ana, over for 0s
              fence   done     users of east are in resiliency mode
              open    done
            fe2 is alive, and cannot be reached from the host that was asked (for 0s): it does not answer
        "#]],
    );
    host.check(
        "pool failover east --dry-run --by ana",
        expect![[r#"
        fence   users of east are in resiliency mode
        open    full service by west
    "#]],
    );
    let asked =
        Request::MovePool { pool: "east".into(), ask: Ask::Failover, by: "ana".into(), dry_run: true };
    assert_eq!(host.last(), Some(asked));
    // It waits until the journal says that it is over.
    host.check(
        "pool failover east --by ana",
        expect![[r#"
        fence   done     users of east are in resiliency mode
        open    done
        east is failed_over, served by fw1
    "#]],
    );
    host.check(
        "pool failback east --disaster --no-wait --by ana",
        expect![[r#"
        the failback of east has begun; how far it is: switchyard pool show east
    "#]],
    );
    let ask = Ask::Failback { disaster: true };
    let asked = Request::MovePool { pool: "east".into(), ask, by: "ana".into(), dry_run: false };
    assert_eq!(host.last(), Some(asked));
    let said = host.say("pool failover west");
    let why =
        "refused: east is failed_over: fail east back first, only then can west fail over to it (35112)\n";
    assert_eq!((said.status, said.err.as_str()), (1, why));
}

#[test]
fn hosts_are_drained_and_pools_replaced() {
    let host = host(None);
    host.check(
        "pool drain fe1",
        expect![[r#"
        fe1 passes its users on and takes no others
    "#]],
    );
    host.check(
        "pool resume fe1",
        expect![[r#"
        fe1 serves again when it is its turn
    "#]],
    );
    let asked = |drained| Request::DrainHost { host: "fe1".into(), drained, by: "an administrator".into() };
    assert_eq!(host.last(), Some(asked(false)));
    host.check(
        "pool reassign east --to north --users --dry-run",
        expect![[r#"
        seat    fw1 passes the users of east to fn1, with their calls
        ranges  2 ranges go to north: east-park, east-groups
        left to do by you:
          settings and music: those of north count now
    "#]],
    );
    let wish = Request::ReassignPool {
        pool: "east".into(),
        to: "north".into(),
        users: true,
        by: "an administrator".into(),
        dry_run: true,
    };
    assert_eq!(host.last(), Some(wish));
    assert_eq!(host.say("pool reassign east").status, 2);
}

//! A pool that is gone for good is replaced by another, struck at every write as in [`procedures`](super::procedures).

use std::collections::BTreeSet;
use std::time::Duration;

use switchyard_host::admin::Request;
use switchyard_host::directory::User;
use switchyard_host::pool::{Ask, Phase, Procedure};

use super::probe::{self, dial, park, record};
use super::procedures::assert_all_steps;
use crate::harness::{CallId, Moment, Strike, World, WorldOptions};

/// The west has the users of the east, who are to be the north's.
struct Stage {
    world: World,
    /// Alice and Bob talk.
    talk: [(usize, CallId); 2],
}

impl Stage {
    fn new() -> Self {
        let mut world = World::with(WorldOptions {
            hosts: &[("fe1", "east"), ("fw1", "west"), ("fw2", "west"), ("fn1", "north"), ("fn2", "north")],
            config: "[[pools]]\nname = \"north\"\n".into(),
            ..WorldOptions::default()
        });
        let [alice, bob] = world.phones_at([("alice", "fw2"), ("bob", "fw2")]);
        let (a, b) = world.connect(alice, bob);
        world.run_for(Duration::from_secs(2));
        world.kill(0);
        world.run_for(Duration::from_secs(12));
        let mut stage = Self { world, talk: [(alice, a), (bob, b)] };
        stage.ask(Request::MovePool {
            pool: "east".into(),
            ask: Ask::Failover,
            by: "ana".into(),
            dry_run: false,
        });
        stage.world.run_for(Duration::from_secs(3));
        assert_eq!(record(&stage.world, "east").phase, Phase::FailedOver);
        stage
    }

    /// Asks the first host that lives.
    fn ask(&mut self, what: Request) {
        let host = self.world.somebody().unwrap();
        self.world.asks(host, what);
    }

    fn run(&mut self, strike: Strike) -> Option<String> {
        self.world.strike(strike);
        for _ in 0..5 {
            let east = record(&self.world, "east");
            if east.running().is_none() && east.replaced_by.is_none() {
                self.ask(Request::ReassignPool {
                    pool: "east".into(),
                    to: "north".into(),
                    users: true,
                    by: "ana".into(),
                    dry_run: false,
                });
            }
            self.world.run_for(Duration::from_secs(15));
        }
        self.world.struck().map(str::to_owned)
    }

    fn look(&mut self) -> Result<(), String> {
        if let Some(broken) = self.world.broken.take() {
            return Err(broken);
        }
        let east = record(&self.world, "east");
        if east.running().is_some() || east.replaced_by.as_deref() != Some("north") {
            return Err(format!("the north should be in the place of the east: {east:?}"));
        }
        let backups = ["north", "west"].map(|pool| record(&self.world, pool).backup);
        if backups != [Some("west".to_owned()), Some("north".to_owned())] {
            return Err(format!("the north and the west should be a pair: {backups:?}"));
        }
        for range in ["east-park", "east-groups"] {
            let pool = probe::pool_of_range(&self.world, range);
            if pool != "north" {
                return Err(format!("{range} is {pool}'s"));
            }
        }
        for user in ["alice", "bob", "carol", "dave"] {
            let key = User::key(user);
            let stored = self.world.store.snapshot(&key).records.remove(&key).ok_or("a user is gone")?;
            let pool = serde_json::from_slice::<User>(&stored.value).map_err(|error| error.to_string())?.pool;
            if pool != "north" {
                return Err(format!("{user} is {pool}'s"));
            }
        }
        let seat = self.world.seat("north").ok_or("nobody has the seat of the north")?;
        if !["fn1", "fn2"].contains(&seat.host.as_str()) {
            return Err(format!("{} serves the north", seat.host));
        }
        let [(alice, a), (bob, b)] = self.talk;
        self.world.act(alice, |phone| phone.reinvite(a, "sendonly"));
        self.world.run_for(Duration::from_secs(1));
        if !self.world.phones[bob].call(b).heard.as_ref().is_some_and(|heard| heard.contains("sendonly")) {
            return Err("hold is not heard".to_owned());
        }
        let number = park(&mut self.world, bob, b).map_err(|why| format!("no park: {why}"))?;
        if !number.starts_with("70") {
            return Err(format!("parked on {number}"));
        }
        dial(&mut self.world, bob, &number).map(drop).map_err(|why| format!("not fetched: {why}"))
    }
}

fn strike_all(how: impl Fn(usize) -> Vec<(Moment, bool)>) -> BTreeSet<String> {
    let mut struck = BTreeSet::new();
    for skip in 0..30 {
        for (moment, comes_back) in how(skip) {
            let strike = Strike { skip, moment, down: comes_back.then_some(Duration::from_secs(3)) };
            let mut stage = Stage::new();
            let what = stage.run(strike);
            if let Err(wrong) = stage.look() {
                panic!("a replacement, {strike:?} at {what:?}: {wrong}");
            }
            match what {
                Some(what) => drop(struck.insert(what)),
                None => return struck,
            }
        }
    }
    panic!("it never ends: {struck:?}");
}

#[test]
fn the_replacement_of_a_pool_survives_whoever_runs_it_at_every_write() {
    assert_all_steps(&strike_all(super::procedures::in_turn), Procedure::Reassign);
}

#[test]
#[ignore = "minutes: make simulate TOGETHER=1"]
fn every_write_in_every_way() {
    assert_all_steps(&strike_all(super::procedures::in_every_way), Procedure::Reassign);
}

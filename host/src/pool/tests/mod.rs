//! Two pools of two hosts each, and a third where one is wanted, a store, and time moved by hand.

mod killed;
mod phases;
mod procedures;
mod reach;
mod reassign;
mod refusals;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::cluster::{LASTING, Seats};
use crate::config;
use crate::directory::{Directory, User};
use crate::net::HostName;
use crate::store::keys::{drain_key, epoch_key, host_key, orbit_key, pool_key, range_key, seat_key};
use crate::store::{HostIdentity, MemoryStore, Operation, Outcome, ROOT, Transaction};
use crate::time::{Instant, Now, Utc};

const POOLS: [&str; 4] = ["east", "north", "south", "west"];
const START: u64 = 1_750_000_000_000;

fn name(text: &str) -> HostName {
    HostName::new(text).unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A host's view.
struct Host {
    pools: Pools,
    seats: Seats,
}

struct World {
    store: MemoryStore,
    now: Now,
    hosts: BTreeMap<&'static str, Host>,
    terms: Terms,
    /// Between whom there is no link.
    cut: BTreeSet<(&'static str, &'static str)>,
}

impl World {
    /// East with e1 and e2, west with w1 and w2, each other's backup; everybody lives and serves.
    fn new() -> Self {
        let store = MemoryStore::new();
        let now = Now { instant: Instant::ZERO, utc: Utc(START) };
        let mut world =
            World { store, now, hosts: BTreeMap::new(), terms: Terms::default(), cut: BTreeSet::new() };
        for (pool, backup) in [("east", "west"), ("west", "east")] {
            world.put(pool_key(pool), json!({ "name": pool, "fqdn": null, "backup": backup }));
            world.put(epoch_key(pool), json!(1));
        }
        for host in ["e1", "e2", "w1", "w2"] {
            world.start(host);
        }
        world.settle();
        world
    }

    fn with(terms: Terms) -> Self {
        let mut world = Self::new();
        world.terms = terms;
        world
    }

    fn put(&self, key: String, value: serde_json::Value) {
        let operations = vec![Operation::Put { key, value: Bytes::from(value.to_string()) }];
        self.store.apply(&Transaction { operations, ..Transaction::default() }).unwrap();
    }

    fn delete(&self, key: String) {
        let operations = vec![Operation::Delete { key }];
        self.store.apply(&Transaction { operations, ..Transaction::default() }).unwrap();
    }

    fn start(&mut self, host: &'static str) {
        let pool = POOLS.into_iter().find(|pool| pool[..1] == host[..1]).unwrap();
        let link = Some("192.0.2.1:5071".parse().unwrap());
        let identity = HostIdentity { name: host.into(), pool: pool.into(), link, ..HostIdentity::default() };
        self.put(host_key(host), serde_json::to_value(&identity).unwrap());
        let pools = ["east", "west"].map(|name| config::Pool {
            name: name.into(),
            fqdn: None,
            contact_by_name: false,
            backup: Some(if name == "east" { "west" } else { "east" }.into()),
        });
        let own = super::tests::name(host);
        self.hosts.insert(host, Host { pools: Pools::new(own, &pools), seats: Seats::new(own) });
    }

    /// The host dies; its lease runs out at once.
    fn kill(&mut self, host: &'static str) {
        self.hosts.remove(host);
        self.delete(host_key(host));
    }

    fn kill_all(&mut self, hosts: &[&'static str]) {
        hosts.iter().for_each(|host| self.kill(host));
    }

    fn cut(&mut self, one: &'static str, other: &'static str) {
        self.cut.extend([(one, other), (other, one)]);
    }

    fn park(&self, number: &str, pool: &str) {
        self.put(orbit_key(number), json!({ "pool": pool }));
    }

    fn unpark(&self, number: &str) {
        self.delete(orbit_key(number));
    }

    fn range(&self, name: &str, from: &str, kind: &str, pool: &str) {
        let range = json!({ "name": name, "from": from, "to": from, "kind": kind, "pool": pool });
        self.put(range_key(name), range);
    }

    fn user(&self, name: &str, pool: &str) {
        let user = User { name: name.into(), pool: pool.into(), ..User::default() };
        self.put(User::key(name), serde_json::to_value(&user).unwrap());
    }

    fn in_group(&self, name: &str, pool: &str, group: &str) {
        let pickup_group = Some(group.into());
        let user = User { name: name.into(), pool: pool.into(), pickup_group, ..User::default() };
        self.put(User::key(name), serde_json::to_value(&user).unwrap());
    }

    fn users(&self) -> Directory {
        Directory::load(&self.store.snapshot(ROOT))
    }

    fn pool_of_user(&self, name: &str) -> String {
        self.users().user(name).unwrap().pool.clone()
    }

    fn pool_of_range(&self, name: &str) -> String {
        let record = self.store.snapshot(ROOT).records[&range_key(name)].clone();
        let range: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
        range["pool"].as_str().unwrap().to_owned()
    }

    /// What a host sees now.
    fn look(&mut self, host: &str) -> &Host {
        let snapshot = self.store.snapshot(ROOT);
        let (now, terms) = (self.now, self.terms);
        let cut = self.cut.iter().filter(|(own, _)| *own == host).map(|(_, other)| name(other));
        let host = self.hosts.get_mut(host).unwrap();
        host.seats = Seats::new(host.seats.own());
        host.seats.load(&snapshot);
        for other in cut {
            for since in [now.instant, now.instant + LASTING] {
                host.seats.tried(since, other, Some("cut".into()));
            }
        }
        // Records that are gone.
        for key in [orbit_key("7001"), orbit_key("7002"), drain_key("e1"), drain_key("e2"), drain_key("w1")] {
            if !snapshot.records.contains_key(&key) {
                host.pools.apply(&crate::store::Change { key, record: None });
            }
        }
        host.pools.load(&snapshot);
        POOLS.iter().for_each(|pool| host.pools.set_terms(pool, terms));
        host.pools.observe(now, &host.seats);
        host
    }

    /// What a host would write now.
    fn wants(&mut self, host: &str) -> Vec<Proposal> {
        let (now, users) = (self.now, self.users());
        let host = self.look(host);
        host.pools.next(now, &host.seats, &users)
    }

    fn commit(&self, transaction: &Transaction) -> bool {
        matches!(self.store.apply(transaction), Ok(Outcome::Committed { .. }))
    }

    /// Takes and passes on seats as a host's engine does.
    fn seats(&mut self, host: &str) -> bool {
        let mut changed = false;
        for pool in POOLS {
            if !self.store.snapshot(ROOT).records.contains_key(&pool_key(pool)) {
                continue;
            }
            let epoch = self.epoch_record(pool);
            let own = name(host);
            let host = self.look(host);
            let to = match host.seats.holder(pool) {
                None => host.pools.heirs(&host.seats, pool).first().copied().filter(|first| *first == own),
                Some(holder) if holder == own => host.pools.successor(&host.seats, pool),
                Some(_) => None,
            };
            let pass = to.and_then(|to| host.seats.pass(pool, to, epoch));
            changed |= pass.is_some_and(|pass| self.commit(&pass));
        }
        changed
    }

    /// One thing that somebody wants to write is written; false: nobody wants anything.
    fn step(&mut self) -> bool {
        let names: Vec<&'static str> = self.hosts.keys().copied().collect();
        for host in names {
            if self.seats(host) {
                return true;
            }
            if let Some(proposal) = self.wants(host).into_iter().next() {
                assert!(self.commit(&proposal.transaction), "nobody else writes: {proposal:?}");
                return true;
            }
        }
        false
    }

    /// Until nobody has anything to do.
    fn settle(&mut self) {
        for _ in 0..100 {
            if !self.step() {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", self.record("east"));
    }

    fn after(&mut self, seconds: u64) {
        self.settle();
        self.now.instant = self.now.instant + secs(seconds);
        self.now.utc = self.now.utc + secs(seconds);
        self.settle();
    }

    fn record(&self, pool: &str) -> PoolRecord {
        serde_json::from_slice(&self.store.snapshot(ROOT).records[&pool_key(pool)].value).unwrap()
    }

    fn phase(&self, pool: &str) -> Phase {
        self.record(pool).phase
    }

    fn epoch_record(&self, pool: &str) -> (u64, Option<u64>) {
        let record = &self.store.snapshot(ROOT).records[&epoch_key(pool)];
        (serde_json::from_slice(&record.value).unwrap(), Some(record.revision))
    }

    fn holder(&self, pool: &str) -> String {
        let record = &self.store.snapshot(ROOT).records[&seat_key(pool)];
        let seat: crate::cluster::Seat = serde_json::from_slice(&record.value).unwrap();
        seat.host.to_string()
    }

    fn ask(&mut self, host: &str, pool: &str, ask: Ask) -> Result<(), String> {
        let now = self.now;
        let host = self.look(host);
        let proposal = host.pools.begin(now, &host.seats, pool, ask, "ana").map_err(|why| why.to_string())?;
        assert!(self.commit(&proposal.transaction));
        Ok(())
    }

    fn preview(&mut self, host: &str, pool: &str, ask: Ask) -> Vec<String> {
        let users = self.users();
        let host = self.look(host);
        let steps = host.pools.preview(&host.seats, &users, pool, ask).into_iter();
        steps.map(|(step, text)| format!("{}: {text}", step.word())).collect()
    }

    fn notes(&self, pool: &str) -> Vec<String> {
        let journal = self.record(pool).journal.unwrap();
        let line = |step: &Step| format!("{} {:?}: {}", step.name.word(), step.state, step.note);
        journal.steps.iter().map(line).collect()
    }
}

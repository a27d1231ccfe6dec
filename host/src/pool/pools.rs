//! What is known of every pool, and how a change of one is written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::record::{Phase, PoolRecord};
use crate::admin::RangeSpec;
use crate::cluster::{Code, Seats};
use crate::config;
use crate::net::HostName;
use crate::store::keys::{Key, host_key, pool_key};
use crate::store::{Change, Expect, Operation, Record, Snapshot, Transaction};
use crate::time::{Instant, Now};

/// What the policy of a pool says about its own loss (section `resiliency`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// How long all its hosts are silent before it counts as lost (RES-05).
    pub failure_detection: Duration,
    /// How long they are heard again before it counts as back (RES-06).
    pub failback_detection: Duration,
    /// Whether the hosts begin failover and failback themselves.
    pub automatic: bool,
    /// Whether its parked calls are taken up by the backup instead of being ended.
    pub rescue: bool,
    /// Whether its pickup ranges move with its users.
    pub ranges_follow: bool,
    /// Whether what rings while they go home can be picked up afterwards.
    pub ringing_stays: bool,
    /// How long a planned failover waits for parked calls.
    pub drain_time: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Terms {
            failure_detection: Duration::from_secs(300),
            failback_detection: Duration::from_secs(600),
            automatic: false,
            rescue: false,
            ranges_follow: false,
            ringing_stays: false,
            drain_time: Duration::from_secs(300),
        }
    }
}

impl Terms {
    /// Reads the settings of section `resiliency`; the defaults where they cannot be read.
    pub fn read(settings: &str) -> Self {
        #[derive(Deserialize)]
        struct Settings {
            failure_detection: u64,
            failback_detection: u64,
            failover: String,
            parked_on_outage: String,
            pickup_ranges: String,
            pickup_after_failback: bool,
            drain_time: u64,
        }
        match serde_json::from_str::<Settings>(settings) {
            Ok(settings) => Terms {
                failure_detection: Duration::from_millis(settings.failure_detection),
                failback_detection: Duration::from_millis(settings.failback_detection),
                automatic: settings.failover == "automatic",
                rescue: settings.parked_on_outage == "rescue",
                ranges_follow: settings.pickup_ranges == "automatic",
                ringing_stays: settings.pickup_after_failback,
                drain_time: Duration::from_millis(settings.drain_time),
            },
            Err(_) => Terms::default(),
        }
    }
}

/// A pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) record: PoolRecord,
    /// Of its record; `None`: it has none, and what is known comes from the configuration.
    revision: Option<u64>,
    pub(super) terms: Terms,
    /// Since when one of its hosts has been heard by this host, without a break.
    pub(super) heard: Option<Instant>,
    /// Since when this host has heard none of them (RES-08).
    pub(super) silent: Option<Instant>,
}

/// What a change was about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    /// The pool as it was.
    pub before: PoolRecord,
    /// As it is.
    pub after: PoolRecord,
}

/// A write that brings a pool on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// Which pool.
    pub pool: String,
    /// The write.
    pub transaction: Transaction,
}

/// See the [module](super).
#[derive(Clone, Debug)]
pub struct Pools {
    pub(super) own: HostName,
    pub(super) known: BTreeMap<String, Known>,
    /// Their names by what tags and branches call them.
    codes: BTreeMap<Code, String>,
    /// Hosts that are to take no seat.
    pub(super) drained: BTreeSet<HostName>,
    /// Pools by orbit in which a call is recorded.
    parked: BTreeMap<String, String>,
    /// Ranges, and the revisions of their records.
    pub(super) ranges: BTreeMap<String, (RangeSpec, u64)>,
}

impl Pools {
    /// What a configuration says of pools: all of it counts only until the store says something else. `own` is this host.
    pub fn new(own: HostName, pools: &[config::Pool]) -> Self {
        let known = |pool: &config::Pool| {
            let record = PoolRecord {
                name: pool.name.clone(),
                fqdn: pool.fqdn.clone(),
                backup: pool.backup.clone(),
                ..PoolRecord::default()
            };
            (pool.name.clone(), Known { record, ..Known::default() })
        };
        Pools {
            own,
            codes: pools.iter().map(|pool| (Code::of(&pool.name), pool.name.clone())).collect(),
            known: pools.iter().map(known).collect(),
            drained: BTreeSet::new(),
            parked: BTreeMap::new(),
            ranges: BTreeMap::new(),
        }
    }

    /// Takes over what the store says.
    pub fn load(&mut self, snapshot: &Snapshot) {
        for (key, record) in &snapshot.records {
            self.apply(&Change { key: key.clone(), record: Some(record.clone()) });
        }
        self.pair_off();
    }

    /// A pair is mutual (RES-02): what a configuration says of a pool that the store does not have is no pair with one of
    /// which the store says otherwise.
    fn pair_off(&mut self) {
        let contradicts = |(name, known): (&String, &Known)| {
            let backup = self.known.get(known.record.backup.as_deref()?)?;
            let agrees = backup.record.backup.as_ref() == Some(name);
            (known.revision.is_none() && backup.revision.is_some() && !agrees).then(|| name.clone())
        };
        for name in self.known.iter().filter_map(contradicts).collect::<Vec<_>>() {
            if let Some(known) = self.known.get_mut(&name) {
                known.record.backup = None;
            }
        }
    }

    /// Follows a change of the store. What has become of a pool, if it was about one.
    pub fn apply(&mut self, change: &Change) -> Option<Changed> {
        let record = change.record.as_ref();
        match Key::parse(&change.key)? {
            Key::Pool(name) => {
                self.codes.entry(Code::of(&name)).or_insert_with(|| name.clone());
                let known = self.known.entry(name.clone()).or_default();
                // What this host has written it knows before the watch tells it.
                if record.is_some_and(|record| known.revision.is_some_and(|known| known > record.revision)) {
                    return None;
                }
                // A pool whose record is taken away is what it was, and can be written again.
                known.revision = record.map(|record| record.revision);
                let after = read::<PoolRecord>(record?).filter(|after| after.name == name)?;
                let before = std::mem::replace(&mut known.record, after);
                let after = known.record.clone();
                self.pair_off();
                (before != after).then_some(Changed { before, after })
            }
            Key::Drain(host) => {
                let host = HostName::new(&host)?;
                match record {
                    Some(_) => self.drained.insert(host),
                    None => self.drained.remove(&host),
                };
                None
            }
            Key::Orbit(number) => {
                #[derive(Deserialize)]
                struct Parked {
                    pool: String,
                }
                match record.and_then(read::<Parked>) {
                    Some(parked) => self.parked.insert(number, parked.pool),
                    None => self.parked.remove(&number),
                };
                None
            }
            Key::Range(name) => {
                match record.and_then(|record| Some((read(record)?, record.revision))) {
                    Some(range) => self.ranges.insert(name, range),
                    None => self.ranges.remove(&name),
                };
                None
            }
            _ => None,
        }
    }

    /// What the policy of a pool says about its loss.
    pub fn set_terms(&mut self, pool: &str, terms: Terms) {
        if let Some(known) = self.known.get_mut(pool) {
            known.terms = terms;
        }
    }

    /// The same.
    pub fn terms(&self, pool: &str) -> Terms {
        self.known.get(pool).map_or_else(Terms::default, |known| known.terms)
    }

    /// The names of all pools, also of those that were replaced.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// The names of the pools that users and ranges may belong to.
    pub fn standing(&self) -> impl Iterator<Item = &str> {
        let standing = self.known.iter().filter(|(_, known)| known.record.replaced_by.is_none());
        standing.map(|(name, _)| name.as_str())
    }

    /// The names that phones know pools by.
    pub fn fqdns(&self) -> impl Iterator<Item = &str> {
        self.known.values().filter_map(|known| known.record.fqdn.as_deref())
    }

    /// The pool with that code.
    pub fn by_code(&self, code: Code) -> Option<&str> {
        self.codes.get(&code).map(String::as_str)
    }

    /// The pool that has taken the place of this one; one that still stands has its own.
    pub fn heir<'a>(&'a self, pool: &'a str) -> &'a str {
        let mut heir = pool;
        // Whoever replaces a pool stands itself, so nobody walks in a circle; but the records are only text.
        for _ in 0..self.known.len() {
            match self.record(heir).and_then(|record| record.replaced_by.as_deref()) {
                Some(next) => heir = next,
                None => break,
            }
        }
        heir
    }

    /// A pool's record.
    pub fn record(&self, pool: &str) -> Option<&PoolRecord> {
        self.known.get(pool).map(|known| &known.record)
    }

    /// A pool's phase, or that of the one in its place; a pool nobody knows is active.
    pub fn phase(&self, pool: &str) -> Phase {
        self.record(self.heir(pool)).map_or(Phase::Active, |record| record.phase)
    }

    /// The pool that serves a pool's users when it is lost.
    pub fn backup(&self, pool: &str) -> Option<&str> {
        self.record(pool)?.backup.as_deref()
    }

    /// Whose settings and orbits the users of a pool work with: its own, or the backup's once they were failed over (RES-20).
    pub fn serving<'a>(&'a self, pool: &'a str) -> &'a str {
        let pool = self.heir(pool);
        match self.phase(pool) {
            Phase::FailedOver => self.backup(pool).unwrap_or(pool),
            Phase::Active | Phase::Outage | Phase::Resilient | Phase::FailingOver | Phase::FailingBack => {
                pool
            }
        }
    }

    /// How many calls are recorded in a pool's orbits.
    pub fn parked(&self, pool: &str) -> usize {
        self.parked.values().filter(|other| *other == pool).count()
    }

    /// How many calls are recorded in the orbits of a range.
    pub fn parked_in(&self, range: &RangeSpec) -> usize {
        self.parked.keys().filter(|number| within(range, number)).count()
    }

    /// The ranges of a pool.
    pub fn ranges_of(&self, pool: &str) -> impl Iterator<Item = &RangeSpec> {
        self.ranges.values().map(|(range, _)| range).filter(move |range| range.pool == pool)
    }

    /// Whether a host is to take no seat.
    pub fn is_drained(&self, host: HostName) -> bool {
        self.drained.contains(&host)
    }

    /// Looks who is heard. Before [`next`](Self::next), whenever something changed or time has passed.
    pub fn observe(&mut self, now: Now, seats: &Seats) {
        let heard: BTreeSet<String> = self.known.keys().filter(|pool| lives(seats, pool)).cloned().collect();
        for (name, known) in &mut self.known {
            if heard.contains(name) {
                known.heard.get_or_insert(now.instant);
                known.silent = None;
            } else {
                known.silent.get_or_insert(now.instant);
                known.heard = None;
            }
        }
    }

    /// The living hosts of a pool that are to take its seat, by name: those that are not drained, or all when there is no other.
    /// Those that this host reaches come first. Each host has a view of its own of that; where two want the same seat, the store
    /// lets one have it.
    pub(super) fn willing(&self, seats: &Seats, pool: &str) -> Vec<HostName> {
        let (mut willing, drained): (Vec<_>, Vec<_>) =
            seats.of_pool(pool).partition(|host| !self.drained.contains(host));
        if willing.is_empty() {
            willing = drained;
        }
        if seats.is_cut_off() {
            // Somebody else may be better off and goes first, if there is somebody; if not, it is this host's turn next.
            if let [first, second, ..] = &mut willing[..]
                && *first == self.own
            {
                std::mem::swap(first, second);
            }
        } else {
            willing.sort_by_key(|host| !seats.reaches(*host));
        }
        willing
    }

    /// A write of a pool's record, on condition that it is as it is known here and that this host lives. `None` while
    /// this host does not.
    pub(super) fn write(&self, seats: &Seats, record: &PoolRecord) -> Option<Transaction> {
        let (_, own) = seats.hosts().find(|(name, _)| *name == self.own)?;
        let expect = vec![(host_key(self.own.as_str()), Expect::Revision(own.life))];
        let mut transaction = Transaction { expect, ..Transaction::default() };
        self.write_with(&mut transaction, record)?;
        Some(transaction)
    }

    /// The same of a further pool, all at once.
    pub(super) fn write_with(&self, transaction: &mut Transaction, record: &PoolRecord) -> Option<()> {
        let key = self.expect_known(transaction, &record.name)?;
        transaction.operations.push(Operation::Put { key, value: record.to_bytes() });
        Some(())
    }

    /// A transaction is to come about only while a pool's record is as it is known here.
    pub(super) fn expect_known(&self, transaction: &mut Transaction, pool: &str) -> Option<String> {
        let revision = self.known.get(pool)?.revision;
        let key = pool_key(pool);
        transaction.expect.push((key.clone(), revision.map_or(Expect::Absent, Expect::Revision)));
        Some(key)
    }
}

/// `1 parked call`, `2 parked calls`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Whether any host of a pool lives.
pub(super) fn lives(seats: &Seats, pool: &str) -> bool {
    seats.of_pool(pool).next().is_some()
}

/// Whether a number lies between the ends of a range, which are as long as each other (ORB-04).
pub(super) fn within(range: &RangeSpec, number: &str) -> bool {
    number.len() == range.from.len() && (range.from.as_str()..=range.to.as_str()).contains(&number)
}

fn read<T: serde::de::DeserializeOwned>(record: &Record) -> Option<T> {
    serde_json::from_slice(&record.value).ok()
}

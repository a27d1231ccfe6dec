//! Which hosts live, and which of them serves which pool: a mirror of the `host/` and `pool/NAME/seat` records; and which of
//! them this host can reach.
//!
//! A seat is vacant when its holder's `host/` record is gone, or is of a later life: so a seat needs no lease of its own.
//! Who takes it writes, in one transaction, the seat and the pool's next epoch, on condition that the record which made it
//! vacant is still like that and that its own life goes on. From then on nothing the old holder writes can be stored
//! ([`Fence`](crate::store::Fence)).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::mark::Code;
use crate::net::{Flow, HostName, Listener};
use crate::store::keys::{Key, epoch_key, host_key, seat_key};
use crate::store::{Change, Expect, HostIdentity, Operation, Snapshot, Transaction};
use crate::time::Instant;

/// A host counts as out of reach when every attempt has failed for so long. Connections are asked for twice as often: one
/// that is refused while a host starts does not count.
pub const LASTING: Duration = Duration::from_secs(8);

/// A host that lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostRecord {
    /// Who it is and where it is reached.
    pub identity: HostIdentity,
    /// The revision of its record: another one is another life.
    pub life: u64,
    /// The code of its name: looked for with every message that other hosts may have made.
    code: Code,
}

/// A host that was met, or lost, or that began a new life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Met {
    /// Which.
    pub host: HostName,
    /// Whether an earlier life of it is over by this.
    pub was_there: bool,
    /// Whether it lives now.
    pub is_there: bool,
}

/// What is wrong with the way from this host to another that lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// Since when every attempt to connect to it has failed.
    pub since: Instant,
    /// Why the latest has, in words.
    pub why: String,
    /// Whether it has gone on for [`LASTING`]: until then it says nothing about the host.
    pub lasts: bool,
}

/// Who serves a pool, as `pool/NAME/seat` says it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seat {
    /// The host.
    pub host: HostName,
    /// Which life of it: the revision of its `host/` record.
    pub life: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Seats {
    own: HostName,
    hosts: BTreeMap<HostName, HostRecord>,
    /// Those whose record went, as it was last: they may run on without the store.
    gone: BTreeMap<HostName, HostRecord>,
    /// By pool, with the revision of the seat's record. A seat that cannot be read is vacant.
    seats: BTreeMap<String, (Option<Seat>, u64)>,
    /// Living hosts that could not be reached when it was last tried.
    trouble: BTreeMap<HostName, Trouble>,
}

impl Seats {
    /// Nobody is known to live. `own` is this host.
    pub fn new(own: HostName) -> Self {
        Self {
            own,
            hosts: BTreeMap::new(),
            gone: BTreeMap::new(),
            seats: BTreeMap::new(),
            trouble: BTreeMap::new(),
        }
    }

    /// Takes over what the store says.
    pub fn load(&mut self, snapshot: &Snapshot) {
        for (key, record) in &snapshot.records {
            self.apply(&Change { key: key.clone(), record: Some(record.clone()) });
        }
    }

    /// Follows a change of the store. The host it is about, if one is gone by it, or lives, or lives anew.
    pub fn apply(&mut self, change: &Change) -> Option<Met> {
        match Key::parse(&change.key)? {
            Key::Host(name) => {
                let name = HostName::new(&name)?;
                let identity =
                    change.record.as_ref().and_then(|record| serde_json::from_slice(&record.value).ok());
                let before = match (identity, &change.record) {
                    (Some(identity), Some(record)) => self.hosts.insert(
                        name,
                        HostRecord { identity, life: record.revision, code: Code::of(name.as_str()) },
                    ),
                    _ => self.hosts.remove(&name),
                };
                let after = self.hosts.get(&name).map(|host| host.life);
                if after.is_some() {
                    self.gone.remove(&name);
                } else if let Some(before) = &before {
                    self.gone.insert(name, before.clone());
                }
                let before = before.map(|host| host.life);
                if before != after {
                    self.trouble.remove(&name);
                }
                (before != after).then_some(Met {
                    host: name,
                    was_there: before.is_some(),
                    is_there: after.is_some(),
                })
            }
            Key::Seat(pool) => {
                let seat = change
                    .record
                    .as_ref()
                    .map(|record| (serde_json::from_slice(&record.value).ok(), record.revision));
                match seat {
                    // What this host has written it knows before the watch tells it.
                    Some((_, revision))
                        if self.seats.get(&pool).is_some_and(|(_, known)| *known > revision) => {}
                    Some(seat) => drop(self.seats.insert(pool, seat)),
                    None => drop(self.seats.remove(&pool)),
                }
                None
            }
            _ => None,
        }
    }

    /// This host.
    pub fn own(&self) -> HostName {
        self.own
    }

    /// The hosts that live, by name.
    pub fn hosts(&self) -> impl Iterator<Item = (HostName, &HostRecord)> {
        self.hosts.iter().map(|(name, record)| (*name, record))
    }

    /// Those whose record is gone.
    pub fn gone(&self) -> impl Iterator<Item = HostName> {
        self.gone.keys().copied()
    }

    /// Whether a host lives.
    pub fn lives(&self, host: HostName) -> bool {
        self.hosts.contains_key(&host)
    }

    /// Where a living host listens for others.
    pub fn link_of(&self, host: HostName) -> Option<SocketAddr> {
        self.hosts.get(&host)?.identity.link
    }

    /// A living host by its code.
    pub fn by_code(&self, code: Code) -> Option<HostName> {
        self.hosts.iter().find(|(_, host)| host.code == code).map(|(name, _)| *name)
    }

    /// The same of one whose record is gone.
    pub fn gone_by_code(&self, code: Code) -> Option<HostName> {
        self.gone.iter().find(|(_, host)| host.code == code).map(|(name, _)| *name)
    }

    /// Where such a host listened for others.
    pub fn last_link_of(&self, host: HostName) -> Option<SocketAddr> {
        self.gone.get(&host)?.identity.link
    }

    /// A connection to a host was tried for; why it `failed`, if it did. Whether the host is out of reach by this, or within again.
    pub fn tried(&mut self, now: Instant, host: HostName, failed: Option<String>) -> bool {
        let before = self.reaches(host);
        match failed {
            Some(why) if self.lives(host) => {
                let since = self.trouble.get(&host).map_or(now, |trouble| trouble.since);
                let lasts = now.saturating_since(since) >= LASTING;
                self.trouble.insert(host, Trouble { since, why, lasts });
            }
            Some(_) | None => drop(self.trouble.remove(&host)),
        }
        before != self.reaches(host)
    }

    /// What is wrong with the way to a host.
    pub fn trouble(&self, host: HostName) -> Option<&Trouble> {
        self.trouble.get(&host)
    }

    /// Whether nothing is known that would keep this host from talking to another.
    pub fn reaches(&self, host: HostName) -> bool {
        self.trouble.get(&host).is_none_or(|trouble| !trouble.lasts)
    }

    /// Whether other hosts live and this one reaches none of them: likelier than that all of them are cut off, it is.
    pub fn is_cut_off(&self) -> bool {
        let linked = |host: &HostRecord| host.identity.link.is_some();
        let mut others = self
            .hosts()
            .filter(|(name, host)| *name != self.own && linked(host))
            .map(|(name, _)| name)
            .peekable();
        others.peek().is_some() && others.all(|host| !self.reaches(host))
    }

    /// Where an edge listens.
    pub fn listener(&self, edge: HostName, flow: &Flow) -> Option<&Listener> {
        let listeners = &self.hosts.get(&edge)?.identity.listeners;
        listeners.iter().find(|listener| listener.protocol == flow.protocol && listener.local == flow.local)
    }

    /// Who serves a pool: the holder of its seat, if that lives.
    pub fn holder(&self, pool: &str) -> Option<HostName> {
        let seat = self.seats.get(pool)?.0.as_ref()?;
        (self.hosts.get(&seat.host)?.life == seat.life).then_some(seat.host)
    }

    /// Who was last known to hold a seat, alive or not.
    pub fn last_holder(&self, pool: &str) -> Option<HostName> {
        Some(self.seats.get(pool)?.0.as_ref()?.host)
    }

    /// The living hosts of a pool, in the order in which they are to take its seat. One without `[cluster]` is none of them:
    /// nobody could tell it anything, and it follows no seats.
    pub fn of_pool<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = HostName> + 'a {
        let of_it = move |host: &HostRecord| host.identity.pool == pool && host.identity.link.is_some();
        self.hosts.iter().filter(move |(_, host)| of_it(host)).map(|(name, _)| *name)
    }

    /// The write that makes `to` the holder of a seat: a vacant one, or this host's own. `epoch` is what the store has
    /// now, with its record's revision if there is one. `None`: somebody else holds it, or `to` does not live.
    pub fn pass(&self, pool: &str, to: HostName, epoch: (u64, Option<u64>)) -> Option<Transaction> {
        let life = self.hosts.get(&to)?.life;
        let mut expect = vec![(host_key(to.as_str()), Expect::Revision(life))];
        match self.seats.get(pool) {
            None => expect.push((seat_key(pool), Expect::Absent)),
            Some((None, revision)) => expect.push((seat_key(pool), Expect::Revision(*revision))),
            Some((Some(seat), revision)) => {
                expect.push((seat_key(pool), Expect::Revision(*revision)));
                let holder = self.hosts.get(&seat.host).map(|host| host.life);
                let lives = holder == Some(seat.life);
                if lives && seat.host != self.own {
                    return None;
                }
                if seat.host != to {
                    let holder = holder.map_or(Expect::Absent, Expect::Revision);
                    expect.push((host_key(seat.host.as_str()), holder));
                }
            }
        }
        let (epoch, revision) = epoch;
        // What matters is that it is written; whoever has put a number there by hand may have put any.
        let next = epoch.checked_add(1).unwrap_or(1);
        expect.push((epoch_key(pool), revision.map_or(Expect::Absent, Expect::Revision)));
        let seat = serde_json::to_vec(&Seat { host: to, life }).unwrap_or_default();
        let operations = vec![
            Operation::Put { key: seat_key(pool), value: seat.into() },
            Operation::Put { key: epoch_key(pool), value: next.to_string().into() },
        ];
        Some(Transaction { expect, operations, ..Transaction::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, Outcome, ROOT};

    fn name(text: &str) -> HostName {
        HostName::new(text).unwrap()
    }

    fn alive(store: &MemoryStore, host: &str, pool: &str) {
        let identity = HostIdentity {
            name: host.into(),
            pool: pool.into(),
            link: Some("192.0.2.1:5071".parse().unwrap()),
            ..HostIdentity::default()
        };
        let put =
            Operation::Put { key: host_key(host), value: serde_json::to_vec(&identity).unwrap().into() };
        store.apply(&Transaction { operations: vec![put], ..Transaction::default() }).unwrap();
    }

    fn dead(store: &MemoryStore, host: &str) {
        let delete = Operation::Delete { key: host_key(host) };
        store.apply(&Transaction { operations: vec![delete], ..Transaction::default() }).unwrap();
    }

    fn seen_by(store: &MemoryStore, host: &str) -> Seats {
        let mut seats = Seats::new(name(host));
        seats.load(&store.snapshot(ROOT));
        seats
    }

    fn epoch(store: &MemoryStore, pool: &str) -> (u64, Option<u64>) {
        match store.snapshot(ROOT).records.get(&epoch_key(pool)) {
            Some(record) => (serde_json::from_slice(&record.value).unwrap(), Some(record.revision)),
            None => (0, None),
        }
    }

    fn take(store: &MemoryStore, host: &str) -> bool {
        let pass = seen_by(store, host).pass("east", name(host), epoch(store, "east"));
        pass.is_some_and(|pass| matches!(store.apply(&pass), Ok(Outcome::Committed { .. })))
    }

    #[test]
    fn a_seat_is_taken_once_and_again_when_its_holder_is_gone_or_lives_anew() {
        let store = MemoryStore::new();
        alive(&store, "fe1", "east");
        alive(&store, "fe2", "east");
        assert!(take(&store, "fe1"));
        assert!(!take(&store, "fe2"), "its holder lives");
        assert_eq!(seen_by(&store, "fe2").holder("east"), Some(name("fe1")));
        dead(&store, "fe1");
        assert_eq!(seen_by(&store, "fe2").holder("east"), None);
        assert!(take(&store, "fe2"));
        assert_eq!(epoch(&store, "east").0, 2);
        alive(&store, "fe2", "east");
        assert_eq!(seen_by(&store, "fe1").holder("east"), None, "another life of fe2");
        assert!(take(&store, "fe2"));
    }

    #[test]
    fn of_two_who_see_a_vacant_seat_one_gets_it_and_a_holder_that_comes_back_meanwhile_keeps_it() {
        let store = MemoryStore::new();
        alive(&store, "fe1", "east");
        alive(&store, "fe2", "east");
        let both =
            ["fe1", "fe2"].map(|host| seen_by(&store, host).pass("east", name(host), (0, None)).unwrap());
        assert!(matches!(store.apply(&both[0]), Ok(Outcome::Committed { .. })));
        assert!(matches!(store.apply(&both[1]), Ok(Outcome::Conflict { .. })));
        dead(&store, "fe1");
        let late = seen_by(&store, "fe2").pass("east", name("fe2"), epoch(&store, "east")).unwrap();
        alive(&store, "fe1", "east");
        assert!(
            matches!(store.apply(&late), Ok(Outcome::Conflict { .. })),
            "what made it vacant has changed"
        );
    }

    /// Whoever has put something else there by hand.
    #[test]
    fn a_seat_and_an_epoch_that_cannot_be_read_are_written_anew() {
        let store = MemoryStore::new();
        alive(&store, "fe1", "east");
        assert!(take(&store, "fe1"));
        let garbage = |key: String, value: &str| Operation::Put { key, value: value.to_owned().into() };
        let operations = vec![garbage(seat_key("east"), "{"), garbage(epoch_key("east"), "[]")];
        store.apply(&Transaction { operations, ..Transaction::default() }).unwrap();
        assert_eq!(seen_by(&store, "fe1").holder("east"), None);
        let revision = store.snapshot(ROOT).records[&epoch_key("east")].revision;
        let mut fence = crate::store::Fence::new("fe1");
        fence.load(&store.snapshot(ROOT));
        assert_eq!(fence.epoch_record("east").1, Some(revision));
        let pass = seen_by(&store, "fe1").pass("east", name("fe1"), fence.epoch_record("east")).unwrap();
        assert!(matches!(store.apply(&pass), Ok(Outcome::Committed { .. })));
        assert_eq!(seen_by(&store, "fe1").holder("east"), Some(name("fe1")));
        assert_eq!(epoch(&store, "east").0, 1);
    }

    /// It was started without `[cluster]`: calls for the pool's users would end there.
    #[test]
    fn a_host_that_nobody_can_be_linked_to_is_no_host_of_a_pool() {
        let store = MemoryStore::new();
        alive(&store, "fe1", "east");
        let identity = HostIdentity { name: "fe2".into(), pool: "east".into(), ..HostIdentity::default() };
        let value = serde_json::to_vec(&identity).unwrap().into();
        let put = Operation::Put { key: host_key("fe2"), value };
        store.apply(&Transaction { operations: vec![put], ..Transaction::default() }).unwrap();
        let seats = seen_by(&store, "fe1");
        assert_eq!(seats.of_pool("east").collect::<Vec<_>>(), [name("fe1")]);
        assert!(seats.lives(name("fe2")), "its name is taken all the same");
    }

    #[test]
    fn a_host_is_out_of_reach_when_attempts_have_failed_for_a_while_and_until_one_succeeds() {
        let store = MemoryStore::new();
        alive(&store, "fe1", "east");
        alive(&store, "fe2", "east");
        let mut seats = seen_by(&store, "fe1");
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        let refused = || Some("refused".to_owned());
        assert!(!seats.is_cut_off());
        assert!(!seats.tried(at(0), name("fe2"), refused()));
        assert!(seats.trouble(name("fe2")).is_some() && seats.reaches(name("fe2")));
        assert!(seats.tried(at(8), name("fe2"), refused()), "that is news");
        assert!(!seats.tried(at(12), name("fe2"), refused()), "that is not");
        assert!(!seats.reaches(name("fe2")) && seats.is_cut_off());
        assert!(seats.tried(at(16), name("fe2"), None));
        assert!(seats.reaches(name("fe2")) && seats.trouble(name("fe2")).is_none());
        // Another life has another start.
        seats.tried(at(20), name("fe2"), refused());
        seats.tried(at(30), name("fe2"), refused());
        alive(&store, "fe2", "east");
        seats.load(&store.snapshot(ROOT));
        assert!(seats.reaches(name("fe2")));
        // Who is gone is no trouble.
        seats.tried(at(40), name("fe3"), refused());
        assert!(seats.trouble(name("fe3")).is_none());
    }

    #[test]
    fn a_holder_hands_its_seat_on() {
        let store = MemoryStore::new();
        alive(&store, "fe1", "east");
        alive(&store, "fe2", "east");
        assert!(take(&store, "fe1"));
        let on = seen_by(&store, "fe1").pass("east", name("fe2"), epoch(&store, "east")).unwrap();
        assert!(matches!(store.apply(&on), Ok(Outcome::Committed { .. })));
        assert_eq!(seen_by(&store, "fe1").holder("east"), Some(name("fe2")));
    }
}

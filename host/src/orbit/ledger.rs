//! What should stand in the store under `orbit/NUMBER`, and what does.
//!
//! For each number the ledger knows the wanted value and the last one known to be stored, keeps at most one
//! transaction under way, and steps from one to the other. So saves coalesce by themselves, a write that was given
//! up undoes itself when its late answer comes, and a lost answer is settled by reading: an expectation that fails
//! shows the record.
//!
//! Every write also expects that this life of the host still counts, and that the pool's epoch is the known one
//! ([`Fence`]). While the host is not live nothing is written; when it is again, each record is looked at first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use switchyard_sdk::types::LegId;

use super::number::Number;
use super::record::Record;
use crate::store::keys::orbit_key;
use crate::store::{
    self, Change, Durability, Expect, Fence, Operation, Outcome, Snapshot, Standing, StoreError, Transaction,
};
use crate::time::{Instant, Now};

/// First pause after a store that did not answer; doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// A store that is away longer than this is asked this often: rarely enough not to be in its way.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Wanted and stored, per number.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    host: String,
    fence: Fence,
    entries: BTreeMap<Number, Entry>,
    tickets: BTreeMap<u64, Number>,
    /// By ticket: calls that have left their orbits, whose pool somebody else serves before their records are known to be gone.
    parting: BTreeMap<u64, LegId>,
    last_ticket: u64,
    last_version: u64,
    retries: BTreeSet<(Instant, Number)>,
    sends: VecDeque<(u64, Transaction)>,
}

#[derive(Debug)]
struct Entry {
    /// Whose epoch the record depends on.
    pool: String,
    stored: Stored,
    /// The value and its version; `None`: no record is wanted.
    wanted: Option<(u64, Bytes)>,
    /// The version last known to be stored.
    written: u64,
    /// While a park waits to be stored: the version that does it.
    creating: Option<u64>,
    /// Whose record is not wanted any more.
    left: Option<LegId>,
    in_flight: Option<Flight>,
    retry: Option<Instant>,
    pause: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stored {
    Absent,
    At(u64),
    /// A transaction had no answer: it may have been written or not.
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flight {
    Put { version: u64 },
    Delete,
    Look,
}

/// What an answer of the store means for the call in a number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Settled {
    /// The park is stored.
    Created(Number),
    /// Somebody else's record stands there; ours was not written, or is gone.
    Foreign(Number),
    /// The store will never take this write.
    Refused(Number, StoreError),
    /// The pool's epoch has moved on, and this park was not stored: others decide about its calls now.
    Outdated(Number),
    /// Somebody else has taken the call up: its record still stood there when he did.
    Elsewhere(LegId),
}

impl Ledger {
    pub(super) fn new(host: &str) -> Self {
        Ledger { host: host.to_string(), fence: Fence::new(host), ..Ledger::default() }
    }

    /// Takes over what the store says about this host and the pools' epochs.
    pub(super) fn load(&mut self, snapshot: &Snapshot) {
        self.fence.load(snapshot);
    }

    /// Follows a change of the store: epochs.
    pub(super) fn apply(&mut self, change: &Change) {
        self.fence.apply(&change.key, change.record.as_ref());
    }

    pub(super) fn is_live(&self) -> bool {
        self.fence.is_live()
    }

    /// A pool's epoch, which a record of one of its calls carries.
    pub(super) fn epoch(&self, pool: &str) -> u64 {
        self.fence.epoch(pool)
    }

    /// What a write that concerns a pool expects, if this host may write.
    pub(super) fn expectations(&self, pool: &str) -> Option<[(String, Expect); 2]> {
        self.fence.expectations(pool)
    }

    /// The host lives, or not. What happened to its records while it did not is read before anything is written.
    pub(super) fn set_standing(&mut self, now: Now, standing: Standing) {
        self.fence.set_standing(standing);
        if !self.fence.is_live() {
            return;
        }
        let numbers: Vec<Number> = self.entries.keys().copied().collect();
        for number in numbers {
            if let Some(entry) = self.entries.get_mut(&number) {
                // A new call has nothing in the store yet, as far as anybody knows.
                if entry.stored != Stored::Absent {
                    entry.stored = Stored::Unknown;
                }
            }
            self.hurry(number);
            self.step(now, number);
        }
    }

    /// Wants a new call's record stored; [`Settled::Created`] follows unless it is deleted before.
    pub(super) fn create(&mut self, now: Now, number: Number, pool: &str, value: Bytes) {
        let version = self.next_version();
        let entry = self.entries.entry(number).or_insert_with(|| Entry::new(pool, Stored::Absent));
        entry.pool = pool.to_owned();
        entry.wanted = Some((version, value));
        entry.creating = Some(version);
        // A new call is worth asking at once, even if the store just failed an old one.
        self.hurry(number);
        self.step(now, number);
    }

    /// Wants a changed record; written when the store has time. Ignored if no record is wanted.
    pub(super) fn update(&mut self, now: Now, number: Number, value: Bytes) {
        let version = self.next_version();
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let Some(wanted) = &mut entry.wanted else { return };
        if wanted.1 == value {
            return;
        }
        *wanted = (version, value);
        self.step(now, number);
    }

    /// Wants no record: the call has left its orbit.
    pub(super) fn delete(&mut self, now: Now, number: Number, leg: Option<LegId>) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        entry.wanted = None;
        entry.creating = None;
        entry.left = leg;
        self.step(now, number);
    }

    /// Takes over a record found in the store.
    pub(super) fn found(&mut self, number: Number, pool: &str, value: Bytes, revision: u64) {
        let version = self.next_version();
        let mut entry = Entry::new(pool, Stored::At(revision));
        entry.wanted = Some((version, value));
        entry.written = version;
        self.entries.insert(number, entry);
    }

    /// The records of a pool's calls are somebody else's from now on. The calls that have left their orbits here, and that he has all
    /// the same, because their records still stand; of those that are just being removed [`Settled::Elsewhere`] says so later.
    pub(super) fn put_down(&mut self, pool: &str) -> Vec<LegId> {
        let numbers: Vec<Number> =
            self.entries.iter().filter(|(_, entry)| entry.pool == pool).map(|(number, _)| *number).collect();
        let mut legs = Vec::new();
        for number in numbers {
            self.hurry(number);
            let Some(entry) = self.entries.remove(&number) else { continue };
            let Some(leg) = entry.left else { continue };
            match (entry.in_flight, entry.stored) {
                (Some(Flight::Delete), _) => {
                    let ticket = self.tickets.iter().find(|(_, other)| **other == number);
                    self.parting.extend(ticket.map(|(ticket, _)| (*ticket, leg)));
                }
                (None, Stored::At(_)) => legs.push(leg),
                (Some(Flight::Put { .. } | Flight::Look), _) | (None, Stored::Absent | Stored::Unknown) => {}
            }
        }
        legs
    }

    pub(super) fn own_life(&self) -> Option<(String, Expect)> {
        self.fence.own_life()
    }

    /// A pool's epoch and the revision of its record, if there is one.
    pub(super) fn epoch_record(&self, pool: &str) -> (u64, Option<u64>) {
        self.fence.epoch_record(pool)
    }

    /// Takes an answer of the store in.
    pub(super) fn answer(
        &mut self,
        now: Now,
        ticket: u64,
        result: Result<Outcome, StoreError>,
    ) -> Option<Settled> {
        let number = self.tickets.remove(&ticket)?;
        if let Some(leg) = self.parting.remove(&ticket) {
            let Ok(Outcome::Conflict { current }) = result else { return None };
            return found(number, &current).map(|_| Settled::Elsewhere(leg));
        }
        let entry = self.entries.get_mut(&number)?;
        let flight = entry.in_flight.take()?;
        let settled = match result {
            Ok(Outcome::Conflict { current }) if entry.holds(flight, number, &current) => {
                if !self.fence.knows_host(&current) {
                    // Whoever keeps the host's record will notice, and tell how it stands now.
                    self.pause(now, number);
                    return None;
                }
                // This host has moved the epoch on itself, in taking the pool's seat once more.
                if self.fence.knows_epoch(&entry.pool, &current) {
                    self.step(now, number);
                    return None;
                }
                if entry.creating.is_some() {
                    self.entries.remove(&number);
                    return Some(Settled::Outdated(number));
                }
                // Soon this host hears that it is to put the call down, or else of the epoch. Until then nothing can be written,
                // and a record that was forgotten here would outlast its call.
                self.pause(now, number);
                return None;
            }
            Ok(outcome) => {
                entry.pause = RETRY_FIRST;
                entry.take(&self.host, number, flight, outcome)
            }
            Err(error @ StoreError::Invalid(_)) => {
                self.entries.remove(&number);
                return Some(Settled::Refused(number, error));
            }
            Err(StoreError::Unavailable(_) | StoreError::Damaged(_) | StoreError::Taken(_)) => {
                entry.stored = Stored::Unknown;
                self.pause(now, number);
                return None;
            }
        };
        if let Some(Settled::Foreign(_)) = settled {
            self.entries.remove(&number);
        }
        self.step(now, number);
        settled
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.retries.first().map(|(at, _)| *at)
    }

    pub(super) fn on_timeout(&mut self, now: Now) {
        while let Some((at, number)) = self.retries.first().copied()
            && at <= now.instant
        {
            self.retries.remove(&(at, number));
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.retry = None;
            }
            self.step(now, number);
        }
    }

    pub(super) fn poll_send(&mut self) -> Option<(u64, Transaction)> {
        self.sends.pop_front()
    }

    /// Whether everything wanted is stored and everything unwanted is gone.
    pub(super) fn is_settled(&self) -> bool {
        self.entries.values().all(Entry::is_settled)
    }

    /// How many numbers have a record, or may have one.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether a record is wanted for `number`.
    pub(super) fn wants(&self, number: Number) -> bool {
        self.entries.get(&number).is_some_and(|entry| entry.wanted.is_some())
    }

    fn next_version(&mut self) -> u64 {
        self.last_version += 1;
        self.last_version
    }

    /// Tries again later.
    fn pause(&mut self, now: Now, number: Number) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let at = now.instant + entry.pause;
        entry.retry = Some(at);
        entry.pause = (entry.pause * 2).min(RETRY_MAX);
        self.retries.insert((at, number));
    }

    /// Cancels a pause.
    fn hurry(&mut self, number: Number) {
        if let Some(entry) = self.entries.get_mut(&number)
            && let Some(at) = entry.retry.take()
        {
            self.retries.remove(&(at, number));
        }
    }

    /// Sends the next transaction for `number`, if one is due.
    fn step(&mut self, now: Now, number: Number) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        if entry.in_flight.is_some() || entry.retry.is_some_and(|at| at > now.instant) {
            return;
        }
        let key = orbit_key(&number.to_string());
        let fence = self.fence.expectations(&entry.pool);
        let (flight, mut transaction) = match (entry.stored, &entry.wanted) {
            (Stored::Absent, None) => {
                self.entries.remove(&number);
                return;
            }
            (Stored::Unknown, _) => (Flight::Look, look(key)),
            (Stored::At(revision), None) => (Flight::Delete, delete(key, revision)),
            (Stored::At(_), Some((version, _))) if *version == entry.written => return,
            (stored, Some((version, value))) => {
                let expect = match stored {
                    Stored::At(revision) => Expect::Revision(revision),
                    Stored::Absent | Stored::Unknown => Expect::Absent,
                };
                // Only the park itself is waited for. Everything after it may be lost with a power cut: the
                // call is then taken up again from a slightly older record.
                let durability =
                    if entry.creating.is_some() { Durability::Durable } else { Durability::Relaxed };
                let put = Operation::Put { key: key.clone(), value: value.clone() };
                let transaction =
                    Transaction { expect: vec![(key, expect)], operations: vec![put], durability };
                (Flight::Put { version: *version }, transaction)
            }
        };
        // What is stored is of interest only to one who may write.
        let Some(fence) = fence else { return };
        if flight != Flight::Look {
            transaction.expect.extend(fence);
        }
        entry.in_flight = Some(flight);
        self.last_ticket += 1;
        self.tickets.insert(self.last_ticket, number);
        self.sends.push_back((self.last_ticket, transaction));
    }
}

impl Entry {
    fn new(pool: &str, stored: Stored) -> Self {
        Entry {
            pool: pool.to_owned(),
            stored,
            wanted: None,
            written: 0,
            creating: None,
            left: None,
            in_flight: None,
            retry: None,
            pause: RETRY_FIRST,
        }
    }

    fn is_settled(&self) -> bool {
        let done = match (&self.wanted, self.stored) {
            (Some((version, _)), Stored::At(_)) => *version == self.written,
            (None, Stored::Absent) => true,
            (Some(_), Stored::Absent | Stored::Unknown) | (None, Stored::At(_) | Stored::Unknown) => false,
        };
        done && self.in_flight.is_none()
    }

    /// Whether the record stands as the write expected, so that it was something else that did not.
    fn holds(&self, flight: Flight, number: Number, current: &[(String, Option<store::Record>)]) -> bool {
        let found = found(number, current).map(|record| record.revision);
        match (flight, self.stored) {
            (Flight::Look, _) | (_, Stored::Unknown) => false,
            (Flight::Put { .. } | Flight::Delete, Stored::Absent) => found.is_none(),
            (Flight::Put { .. } | Flight::Delete, Stored::At(revision)) => found == Some(revision),
        }
    }

    fn take(&mut self, host: &str, number: Number, flight: Flight, outcome: Outcome) -> Option<Settled> {
        match (flight, outcome) {
            (Flight::Put { version }, Outcome::Committed { revision }) => {
                self.stored = Stored::At(revision);
                self.written = version;
                if self.creating.is_some_and(|creating| creating <= version) {
                    self.creating = None;
                    return Some(Settled::Created(number));
                }
            }
            (Flight::Delete | Flight::Look, Outcome::Committed { .. }) => self.stored = Stored::Absent,
            (Flight::Put { .. } | Flight::Delete | Flight::Look, Outcome::Conflict { current }) => {
                let key = orbit_key(&number.to_string());
                match current.into_iter().find(|(name, _)| *name == key).and_then(|(_, record)| record) {
                    None => self.stored = Stored::Absent,
                    Some(record) if is_ours(host, &record) => {
                        self.stored = Stored::At(record.revision);
                        // Whatever stands there, it is not known to be the wanted version.
                        self.written = 0;
                    }
                    Some(_) => return Some(Settled::Foreign(number)),
                }
            }
        }
        None
    }
}

/// A number's record is written by its owner's ledger only, so one that names this host is ours to replace.
fn is_ours(host: &str, record: &store::Record) -> bool {
    Record::read(&record.value).is_ok_and(|record| record.host == host)
}

/// The record of a number among what the store has.
fn found(number: Number, current: &[(String, Option<store::Record>)]) -> Option<&store::Record> {
    let key = orbit_key(&number.to_string());
    current.iter().find(|(name, _)| *name == key).and_then(|(_, record)| record.as_ref())
}

fn look(key: String) -> Transaction {
    Transaction {
        expect: vec![(key, Expect::Absent)],
        operations: Vec::new(),
        durability: Durability::Relaxed,
    }
}

fn delete(key: String, revision: u64) -> Transaction {
    Transaction {
        expect: vec![(key.clone(), Expect::Revision(revision))],
        operations: vec![Operation::Delete { key }],
        durability: Durability::Relaxed,
    }
}

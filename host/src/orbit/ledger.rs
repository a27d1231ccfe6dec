//! What should stand in the store under `orbit/NUMBER`, and what does.
//!
//! For each number the ledger knows the wanted value and the last one known to be stored, keeps at most one
//! transaction under way, and steps from one to the other. So saves coalesce by themselves, a write that was given
//! up undoes itself when its late answer comes, and a lost answer is settled by reading: an expectation that fails
//! shows the record.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::number::Number;
use super::record::Record;
use crate::store::keys::orbit_key;
use crate::store::{self, Durability, Expect, Operation, Outcome, StoreError, Transaction};
use crate::time::{Instant, Now};

/// First pause after a store that did not answer; doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// A store that is away longer than this is asked this often: rarely enough not to be in its way.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Wanted and stored, per number.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    host: String,
    entries: BTreeMap<Number, Entry>,
    tickets: BTreeMap<u64, Number>,
    last_ticket: u64,
    last_version: u64,
    retries: BTreeSet<(Instant, Number)>,
    sends: VecDeque<(u64, Transaction)>,
}

#[derive(Debug)]
struct Entry {
    stored: Stored,
    /// The value and its version; `None`: no record is wanted.
    wanted: Option<(u64, Bytes)>,
    /// The version last known to be stored.
    written: u64,
    /// While a park waits to be stored: the version that does it.
    creating: Option<u64>,
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
}

impl Ledger {
    pub(super) fn new(host: &str) -> Self {
        Ledger { host: host.to_string(), ..Ledger::default() }
    }

    /// Wants a new call's record stored; [`Settled::Created`] follows unless it is deleted before.
    pub(super) fn create(&mut self, now: Now, number: Number, value: Bytes) {
        let version = self.next_version();
        let entry = self.entries.entry(number).or_insert_with(|| Entry::new(Stored::Absent));
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

    /// Wants no record.
    pub(super) fn delete(&mut self, now: Now, number: Number) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        entry.wanted = None;
        entry.creating = None;
        self.step(now, number);
    }

    /// Takes over a record found in the store.
    pub(super) fn found(&mut self, number: Number, value: Bytes, revision: u64) {
        let version = self.next_version();
        let mut entry = Entry::new(Stored::At(revision));
        entry.wanted = Some((version, value));
        entry.written = version;
        self.entries.insert(number, entry);
    }

    /// Takes an answer of the store in.
    pub(super) fn answer(
        &mut self,
        now: Now,
        ticket: u64,
        result: Result<Outcome, StoreError>,
    ) -> Option<Settled> {
        let number = self.tickets.remove(&ticket)?;
        let entry = self.entries.get_mut(&number)?;
        let flight = entry.in_flight.take()?;
        let settled = match result {
            Ok(outcome) => {
                entry.pause = RETRY_FIRST;
                entry.take(&self.host, number, flight, outcome)
            }
            Err(error @ StoreError::Invalid(_)) => {
                self.entries.remove(&number);
                return Some(Settled::Refused(number, error));
            }
            Err(StoreError::Unavailable(_) | StoreError::Damaged(_)) => {
                entry.stored = Stored::Unknown;
                let at = now.instant + entry.pause;
                entry.retry = Some(at);
                entry.pause = (entry.pause * 2).min(RETRY_MAX);
                self.retries.insert((at, number));
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
        let (flight, transaction) = match (entry.stored, &entry.wanted) {
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
        entry.in_flight = Some(flight);
        self.last_ticket += 1;
        self.tickets.insert(self.last_ticket, number);
        self.sends.push_back((self.last_ticket, transaction));
    }
}

impl Entry {
    fn new(stored: Stored) -> Self {
        Entry {
            stored,
            wanted: None,
            written: 0,
            creating: None,
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
                match current.into_iter().find_map(|(_, record)| record) {
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

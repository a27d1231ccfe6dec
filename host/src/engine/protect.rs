//! Calls that outlive the process: what the store is told of every confirmed call (design.md §8).
//!
//! A call is recorded under `call/POOL/ID` from its answer to its end. Records are written behind the calls: nobody ever
//! waits for one, a call is written at most twice a second after the first time, and one batch at a time goes to the store, so
//! that a slow store makes batches larger rather than many. What begins to change a call (a hold, a transfer, a park)
//! first marks its record as unsettled: should it never come to its end, both phones are told again of each other as
//! they were before. A call in an orbit has its `orbit/` record instead.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use switchyard_sdk::types::LegId;

use super::Engine;
use super::record::{Restoring, StoreOwner};
use super::timers::Timer;
use crate::call::{Leg, LegFacts, Peer, State};
use crate::store::keys::{Key, call_key};
use crate::store::{Durability, Expect, OPERATIONS_MAX, Operation, Outcome, StoreError, Transaction};
use crate::time::Instant;

/// The pause between two writes of one call.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The pause after a write that failed. Calls that end meanwhile and were never written cost nothing.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a record holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CallRecord {
    /// Whose call it is.
    pub host: String,
    /// Two legs that talk to each other, or one whose peer has left and that waits for another.
    pub legs: Vec<LegFacts>,
    /// Something was under way: what the two phones know of each other may be something else than stands here.
    #[serde(default)]
    pub unsettled: bool,
}

/// Which calls the store holds, and which it is to hold.
#[derive(Debug, Default)]
pub(super) struct Protection {
    /// By the first of their legs.
    entries: BTreeMap<LegId, Entry>,
    /// Under which first leg a leg is recorded.
    first_of: BTreeMap<LegId, LegId>,
    /// What may have changed, and when it may be written.
    due: BTreeSet<(Instant, LegId)>,
    /// Keys of records whose calls are over, or parked.
    gone: BTreeSet<String>,
    under_way: Option<Batch>,
    /// Until then the store is left alone: it has just failed.
    rests_until: Option<Instant>,
}

/// What is known of one record.
#[derive(Debug, Default)]
struct Entry {
    /// The other leg; none for a leg that waits.
    second: Option<LegId>,
    /// Where it is, or may be, in the store.
    key: Option<String>,
    /// Whether the store has it, as it is or as it was: who takes the pool's seat takes the call up from there.
    is_stored: bool,
    /// A hash of what is stored, if that is known.
    stored: Option<u64>,
    /// Whether the record says that nothing is under way.
    settled: bool,
    /// When it was last written, settled or not.
    written: [Option<Instant>; 2],
    /// Its place in `due`.
    due: Option<Instant>,
}

#[derive(Debug, Default)]
struct Batch {
    /// The legs, and where they are recorded.
    puts: Vec<(LegId, Option<LegId>, String)>,
    deletes: Vec<String>,
}

impl Protection {
    /// The call of these legs is to be recorded as it is now, and no other call of theirs.
    fn keep(&mut self, now: Instant, first: LegId, second: Option<LegId>, settled: bool) {
        for leg in [Some(first), second].into_iter().flatten() {
            if self.call_of(leg).is_some_and(|call| call != (first, second)) {
                self.drop_call_of(leg);
            }
            self.first_of.insert(leg, first);
        }
        let entry = self.entries.entry(first).or_default();
        entry.second = second;
        let at = match entry.written[usize::from(settled)] {
            // A record that has become wrong is not left to stand for a second.
            Some(_) if entry.settled && !settled => now,
            Some(written) => now.max(written + AGAIN_AFTER),
            None => now,
        };
        if let Some(due) = entry.due.replace(at) {
            self.due.remove(&(due, first));
        }
        self.due.insert((at, first));
    }

    /// The recorded call a leg belongs to.
    fn call_of(&self, leg: LegId) -> Option<(LegId, Option<LegId>)> {
        let first = *self.first_of.get(&leg)?;
        Some((first, self.entries.get(&first)?.second))
    }

    /// The recorded call of a leg is over; the other leg it had.
    fn drop_call_of(&mut self, leg: LegId) -> Option<LegId> {
        let first = *self.first_of.get(&leg)?;
        let entry = self.entries.remove(&first)?;
        for leg in [Some(first), entry.second].into_iter().flatten() {
            self.first_of.remove(&leg);
        }
        if let Some(due) = entry.due {
            self.due.remove(&(due, first));
        }
        self.gone.extend(entry.key);
        if leg == first { entry.second } else { Some(first) }
    }

    /// A record that stands in the store already, as one with nothing but its key.
    pub(super) fn found(&mut self, now: Instant, key: &str, first: LegId, second: Option<LegId>) {
        self.keep(now, first, second, true);
        if let Some(entry) = self.entries.get_mut(&first) {
            entry.key = Some(key.to_owned());
            entry.is_stored = true;
        }
    }

    /// A record that nobody needs.
    pub(super) fn forget(&mut self, key: &str) {
        self.gone.insert(key.to_owned());
    }

    /// The next call to be looked at.
    fn pop_due(&mut self, now: Instant) -> Option<LegId> {
        let (_, first) = *self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.pop_first();
        if let Some(entry) = self.entries.get_mut(&first) {
            entry.due = None;
        }
        Some(first)
    }

    /// The calls that are, or are to be, recorded under a pool, by their first legs.
    fn of_pool(&self, pool: &str) -> impl Iterator<Item = (LegId, &Entry)> {
        let of_pool = move |entry: &Entry| entry.key.as_deref().and_then(pool_of).as_deref() == Some(pool);
        self.entries.iter().filter(move |(_, entry)| of_pool(entry)).map(|(first, entry)| (*first, entry))
    }

    /// When there is something to write, if the store is at rest.
    fn next(&self) -> Option<Instant> {
        if self.under_way.is_some() {
            return None;
        }
        let soonest = if self.gone.is_empty() { self.due.first()?.0 } else { Instant::ZERO };
        Some(soonest.max(self.rests_until.unwrap_or(Instant::ZERO)))
    }
}

impl Engine {
    /// Sees to it that the store learns what has become of these legs, and of the calls in these orbits.
    pub(super) fn protect(&mut self, legs: &BTreeSet<LegId>, numbers: &BTreeSet<String>) {
        if self.config.store.records_calls() {
            for leg in legs {
                self.protect_leg(*leg);
            }
            for number in numbers {
                if let Some(leg) = self.orbits.occupant(number).and_then(|occupant| occupant.leg) {
                    self.protect_leg(leg);
                }
            }
        }
        self.write_calls();
    }

    /// Looks at every call again: some have gone on here while their pool was another host's.
    pub(super) fn protect_all(&mut self) {
        if self.config.store.records_calls() {
            for leg in self.calls.legs().map(|leg| leg.id).collect::<Vec<_>>() {
                self.protect_leg(leg);
            }
        }
    }

    fn protect_leg(&mut self, id: LegId) {
        let Some(leg) = self.calls.leg(id).filter(|leg| leg.state == State::Confirmed) else {
            return self.unprotect(id);
        };
        if let Peer::Leg(peer) = leg.peer {
            let talks = |peer: &Leg| peer.state == State::Confirmed && peer.peer == Peer::Leg(id);
            if self.calls.leg(peer).is_some_and(talks) {
                self.protect_call(id.min(peer), Some(id.max(peer)));
            }
            return;
        }
        let in_orbit = self.restoring.get(&id).is_some_and(Restoring::is_alone)
            || self.orbits.orbit_of(id).is_some_and(|occupant| occupant.resume().is_some());
        if in_orbit {
            return self.unprotect(id);
        }
        match self.protection.call_of(id) {
            // Parted, and nobody knows yet for how long: a park under way, say.
            Some((first, Some(second))) => self.protect_call(first, Some(second)),
            Some((_, None)) | None if self.waits(id) => self.protect_call(id, None),
            Some((_, None)) => self.unprotect(id),
            None => {}
        }
    }

    fn protect_call(&mut self, first: LegId, second: Option<LegId>) {
        if self.pool_to_record(first, second).is_none() {
            self.protection.drop_call_of(first);
            return;
        }
        let settled = self.is_settled(first, second);
        self.protection.keep(self.core.now.instant, first, second, settled);
    }

    /// Whether what these legs' phones know of each other is what a record would say now.
    fn is_settled(&self, first: LegId, second: Option<LegId>) -> bool {
        let together = second.is_none() || self.calls.peer_of(first) == second;
        together && [Some(first), second].into_iter().flatten().all(|leg| self.calls.is_settled(leg))
    }

    /// The call of a leg is over, or parked. Its other leg may wait for somebody else.
    fn unprotect(&mut self, id: LegId) {
        if let Some(other) = self.protection.drop_call_of(id)
            && self.waits(other)
        {
            self.protect_call(other, None);
        }
    }

    /// Whether a leg has nobody on its other side but somebody who could be rung for it.
    fn waits(&self, id: LegId) -> bool {
        self.calls.leg(id).is_some_and(|leg| {
            leg.state == State::Confirmed
                && !matches!(leg.peer, Peer::Leg(_))
                && leg.brought_by.is_some()
                && leg.parked_in.is_none()
                && leg.twin.is_none()
                && self.orbits.orbit_of(id).is_none()
                && self.core.timers.when(Timer::Clear(id)).is_none()
        })
    }

    /// Writes what is due, if the store has answered all it was told of calls.
    fn write_calls(&mut self) {
        let now = self.core.now.instant;
        let ready = self.protection.next().is_some_and(|at| at <= now);
        if ready && self.orbits.is_live() {
            self.protection.rests_until = None;
            let mut batch = Batch::default();
            let mut operations = Vec::new();
            while operations.len() < OPERATIONS_MAX
                && let Some(first) = self.protection.pop_due(now)
            {
                if let Some((key, value)) = self.call_to_write(first) {
                    self.protection.gone.remove(&key);
                    let second = self.protection.entries.get(&first).and_then(|entry| entry.second);
                    batch.puts.push((first, second, key.clone()));
                    operations.push(Operation::Put { key, value });
                }
            }
            while operations.len() < OPERATIONS_MAX
                && let Some(key) = self.protection.gone.pop_first()
            {
                // What belongs to a pool that others serve now is theirs to remove.
                if pool_of(&key).is_some_and(|pool| self.serves(&pool)) {
                    operations.push(Operation::Delete { key: key.clone() });
                    batch.deletes.push(key);
                }
            }
            if !operations.is_empty() {
                self.protection.under_way = Some(batch);
                let expect = self.expected_by(&operations);
                let transaction = Transaction { expect, operations, durability: Durability::Relaxed };
                self.write(transaction, StoreOwner::Calls);
            }
        }
        match self.protection.next() {
            // A host that has lapsed writes when it is live again.
            Some(at) if self.orbits.is_live() => {
                if self.core.timers.when(Timer::RecordCalls) != Some(at) {
                    self.core.timers.set(Timer::RecordCalls, at);
                }
            }
            Some(_) | None => self.core.timers.cancel(Timer::RecordCalls),
        }
    }

    /// Key and value of a call's record, unless they stand in the store. A new call waits until it is settled: what
    /// brings that about touches its legs.
    fn call_to_write(&mut self, first: LegId) -> Option<(String, Bytes)> {
        let now = self.core.now.instant;
        let (_, second) = self.protection.call_of(first)?;
        let Some(pool) = self.pool_to_record(first, second).map(str::to_owned) else {
            self.protection.drop_call_of(first);
            return None;
        };
        let settled = self.is_settled(first, second);
        if !settled && self.protection.entries.get(&first)?.key.is_none() {
            return None;
        }
        let legs = [Some(first), second].into_iter().flatten();
        let record = CallRecord {
            host: self.config.host.name.clone(),
            unsettled: !settled,
            legs: legs.filter_map(|leg| self.calls.facts(leg)).collect(),
        };
        let value = serde_json::to_vec(&record).ok()?;
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        let hash = Some(hasher.finish());
        // The local tag of its first leg never comes again.
        let key = call_key(&pool, &record.legs.first()?.dialog.local_tag);
        let entry = self.protection.entries.get_mut(&first)?;
        if entry.stored == hash {
            return None;
        }
        entry.stored = hash;
        entry.settled = settled;
        entry.written[usize::from(settled)] = Some(now);
        Some((entry.key.get_or_insert(key).clone(), value.into()))
    }

    /// That this host still lives, and still serves the pools of these calls.
    fn expected_by(&self, operations: &[Operation]) -> Vec<(String, Expect)> {
        let pools = operations.iter().filter_map(|operation| {
            let (Operation::Put { key, .. } | Operation::Delete { key }) = operation;
            pool_of(key)
        });
        let pools: BTreeSet<String> = pools.collect();
        let expected: BTreeMap<String, Expect> =
            pools.iter().filter_map(|pool| self.orbits.expectations(pool)).flatten().collect();
        expected.into_iter().collect()
    }

    /// A call belongs to its caller's pool, if that is served here, a stranger's to its callee's. One that goes on here
    /// after its pool has gone to another host is not recorded: nobody would look for it, or remove it.
    fn pool_to_record(&self, first: LegId, second: Option<LegId>) -> Option<&str> {
        let legs = || [Some(first), second].into_iter().flatten().filter_map(|leg| self.calls.leg(leg));
        let caller_first = legs().filter(|leg| !leg.rung).chain(legs());
        let pools = caller_first.filter_map(|leg| leg.party.pool.as_deref()).chain([&*self.config.host.pool]);
        pools.into_iter().find(|pool| self.serves(pool))
    }

    /// The legs of the calls that the store has under a pool. Others, ringing ones above all, go on where they are.
    pub(super) fn recorded_legs(&self, pool: &str) -> BTreeSet<LegId> {
        let calls = self.protection.of_pool(pool).filter(|(_, entry)| entry.is_stored);
        calls.flat_map(|(first, entry)| [Some(first), entry.second]).flatten().collect()
    }

    /// The legs of the calls that the store has under a pool, and perhaps not as they are.
    pub(super) fn changed_calls(&self, pool: &str) -> Vec<LegId> {
        let unsure = |leg: LegId| {
            self.protection.under_way.iter().flat_map(|batch| &batch.puts).any(|(first, ..)| *first == leg)
        };
        let changed = self.protection.of_pool(pool).filter(|(first, entry)| {
            entry.is_stored && (entry.due.is_some() || entry.stored.is_none() || unsure(*first))
        });
        changed.flat_map(|(first, entry)| [Some(first), entry.second]).flatten().collect()
    }

    /// Calls that were to be recorded under a pool that is now served elsewhere, and are not: those that the store could not take.
    /// Nobody else knows of them.
    pub(super) fn record_elsewhere(&mut self, pool: &str) {
        let calls: Vec<_> =
            self.protection.of_pool(pool).map(|(first, entry)| (first, entry.second)).collect();
        for (first, second) in calls {
            if let Some(entry) = self.protection.entries.get_mut(&first).filter(|entry| !entry.is_stored) {
                (entry.key, entry.stored) = (None, None);
                self.protect_call(first, second);
            }
        }
    }

    /// The store has these calls. Who has taken their pool's seat meanwhile has them, too.
    fn calls_are_stored(&mut self, puts: Vec<(LegId, Option<LegId>, String)>) {
        let mut theirs = BTreeSet::new();
        for (first, second, key) in puts {
            if pool_of(&key).is_some_and(|pool| !self.serves(&pool)) {
                theirs.extend([Some(first), second].into_iter().flatten());
            } else if let Some(entry) = self.protection.entries.get_mut(&first)
                && entry.key.as_deref() == Some(&*key)
            {
                entry.is_stored = true;
            }
        }
        self.calls.put_down(&mut self.core, &theirs);
    }

    /// The store has answered a batch.
    pub(super) fn calls_stored(&mut self, result: Result<Outcome, StoreError>) {
        let now = self.core.now.instant;
        let Some(batch) = self.protection.under_way.take() else { return };
        let why = match result {
            Ok(Outcome::Committed { .. }) => return self.calls_are_stored(batch.puts),
            Ok(Outcome::Conflict { .. }) => "this host does not count as alive".to_owned(),
            Err(error) => error.to_string(),
        };
        self.core.event("store.failed", Some(35105), None, serde_json::json!({ "error": why }));
        self.protection.rests_until = Some(now + RETRY_AFTER);
        self.protection.gone.extend(batch.deletes);
        for (first, ..) in batch.puts {
            if let Some(entry) = self.protection.entries.get_mut(&first) {
                entry.stored = None;
                let second = entry.second;
                self.protect_call(first, second);
            }
        }
    }

    /// Calls that are up and would be lost with this process although nothing keeps them from being recorded, and
    /// records of calls that are over; each in words.
    pub(super) fn unprotected(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !self.config.store.records_calls() {
            return found;
        }
        for leg in self.calls.legs().filter(|leg| leg.state == State::Confirmed) {
            let talks = |peer: LegId| self.calls.leg(peer).is_some_and(|peer| peer.state == State::Confirmed);
            if let Peer::Leg(peer) = leg.peer
                && talks(peer)
                && self.protection.call_of(leg.id) != Some((leg.id.min(peer), Some(leg.id.max(peer))))
                && self.pool_to_record(leg.id.min(peer), Some(leg.id.max(peer))).is_some()
            {
                found.push(format!("leg {} talks, and nobody records it", leg.id.0));
            }
        }
        for (first, entry) in &self.protection.entries {
            if [Some(*first), entry.second].into_iter().flatten().any(|leg| self.calls.leg(leg).is_none()) {
                found.push(format!("the call of leg {} is over, and still recorded", first.0));
            }
            let stands = entry.stored.is_some() && entry.settled;
            if !stands && entry.due.is_none() && self.is_settled(*first, entry.second) {
                found.push(format!("the call of leg {} is not recorded as it is", first.0));
            }
        }
        found
    }
}

/// Under which pool a call is recorded.
fn pool_of(key: &str) -> Option<String> {
    match Key::parse(key)? {
        Key::Call(pool, _) => Some(pool),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: LegId = LegId(1);
    const SECOND: LegId = LegId(2);
    const THIRD: LegId = LegId(3);

    fn at(millis: u64) -> Instant {
        Instant::after_start(Duration::from_millis(millis))
    }

    /// As after a write of its record.
    fn written(protection: &mut Protection, first: LegId, settled: bool, now: Instant) {
        assert_eq!(protection.pop_due(now), Some(first));
        let entry = protection.entries.get_mut(&first).unwrap();
        entry.key = Some(format!("call/east/{}", first.0));
        entry.stored = Some(1);
        entry.settled = settled;
        entry.written[usize::from(settled)] = Some(now);
    }

    #[test]
    fn a_call_is_written_at_once_and_then_once_a_second_unless_its_record_has_become_wrong() {
        let mut protection = Protection::default();
        protection.keep(at(0), FIRST, Some(SECOND), true);
        assert_eq!(protection.next(), Some(at(0)));
        written(&mut protection, FIRST, true, at(0));
        assert_eq!((protection.next(), protection.pop_due(at(5_000))), (None, None));
        protection.keep(at(100), FIRST, Some(SECOND), true);
        assert_eq!((protection.next(), protection.pop_due(at(999))), (Some(at(1_000)), None));
        // A hold begins: that it is unsettled is said now, and that it is settled again after a second.
        protection.keep(at(200), FIRST, Some(SECOND), false);
        assert_eq!(protection.next(), Some(at(200)));
        written(&mut protection, FIRST, false, at(200));
        protection.keep(at(300), FIRST, Some(SECOND), true);
        assert_eq!(protection.next(), Some(at(1_000)));
        assert_eq!(protection.due.len(), 1, "a call is due once");
    }

    #[test]
    fn who_goes_to_another_call_ends_the_record_of_the_one_before() {
        let mut protection = Protection::default();
        protection.keep(at(0), FIRST, Some(SECOND), true);
        written(&mut protection, FIRST, true, at(0));
        protection.keep(at(2_000), SECOND, Some(THIRD), true);
        assert_eq!(protection.call_of(FIRST), None);
        for leg in [SECOND, THIRD] {
            assert_eq!(protection.call_of(leg), Some((SECOND, Some(THIRD))));
        }
        assert_eq!(protection.gone, ["call/east/1".to_owned()].into());
        assert_eq!(protection.next(), Some(Instant::ZERO), "what nobody needs is removed at once");
    }

    #[test]
    fn a_call_that_ends_unwritten_costs_the_store_nothing() {
        let mut protection = Protection::default();
        protection.keep(at(0), FIRST, Some(SECOND), true);
        assert_eq!(protection.drop_call_of(SECOND), Some(FIRST));
        assert_eq!(protection.drop_call_of(SECOND), None);
        assert!(protection.gone.is_empty() && protection.due.is_empty() && protection.first_of.is_empty());
        assert_eq!(protection.next(), None);
    }

    #[test]
    fn a_store_that_has_failed_or_not_answered_yet_is_left_alone() {
        let mut protection = Protection::default();
        protection.keep(at(0), FIRST, None, true);
        protection.under_way = Some(Batch::default());
        assert_eq!(protection.next(), None);
        protection.under_way = None;
        protection.rests_until = Some(at(5_000));
        assert_eq!(protection.next(), Some(at(5_000)));
    }

    #[test]
    fn a_record_that_is_found_keeps_its_key() {
        let mut protection = Protection::default();
        protection.found(at(0), "call/east/abc", FIRST, Some(SECOND));
        assert_eq!(protection.drop_call_of(FIRST), Some(SECOND));
        assert_eq!(protection.gone, ["call/east/abc".to_owned()].into());
    }
}

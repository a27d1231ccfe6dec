//! What is written without waiting: where phones are, who watches whom, and which policies the pool has. What the store did not take
//! is written once more when it takes something again, as it is then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Engine;
use super::record::StoreOwner;
use super::seat::whose_lamp;
use super::timers::Timer;
use crate::store::keys::Key;
use crate::store::{Durability, Expect, OPERATIONS_MAX, Operation, Outcome, StoreError, Transaction};

/// Records that wait to be written at last. What is more waits for the phone's next refresh.
const UNSTORED_MAX: usize = 50_000;
/// The pause before it is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// What is written.
fn keys_of(operations: &[Operation]) -> BTreeSet<String> {
    let keys = operations.iter().map(|operation| match operation {
        Operation::Put { key, .. } | Operation::Delete { key } => key.clone(),
    });
    keys.collect()
}

impl Engine {
    /// Writes without waiting: registrations, lamps. In a cluster only while this life of the host goes on: what is written
    /// late, by one that others have taken for dead, would stand beside what they have written since.
    pub(super) fn write_behind(&mut self, operations: Vec<Operation>) {
        let expect: Vec<_> = match self.cluster {
            Some(_) => self.orbits.own_life().into_iter().collect(),
            None => Vec::new(),
        };
        if self.cluster.is_some() && expect.is_empty() {
            self.not_stored(keys_of(&operations));
            return;
        }
        self.write_in_parts(&expect, operations, |keys| StoreOwner::Behind { keys });
    }

    /// As many transactions as it takes; nobody waits for them.
    fn write_in_parts(
        &mut self,
        expect: &[(String, Expect)],
        mut operations: Vec<Operation>,
        owner: impl Fn(BTreeSet<String>) -> StoreOwner,
    ) {
        while !operations.is_empty() {
            let rest = operations.split_off(operations.len().min(OPERATIONS_MAX));
            let owner = owner(keys_of(&operations));
            let transaction =
                Transaction { expect: expect.to_vec(), operations, durability: Durability::Relaxed };
            self.write(transaction, owner);
            operations = rest;
        }
    }

    /// The store did not take these: whoever reads it would ring phones that are gone, or not know those that have come.
    pub(super) fn not_stored(&mut self, keys: BTreeSet<String>) {
        let room = UNSTORED_MAX.saturating_sub(self.unstored.len());
        self.unstored.extend(keys.into_iter().take(room));
        self.core.after(Timer::StoreAtLast, AGAIN);
    }

    /// Writes what could not be written, as it is now, unless somebody else has served its pool meanwhile: he has taken it up.
    pub(super) fn store_at_last(&mut self) {
        if self.unstored.is_empty() || !self.orbits.is_live() {
            return;
        }
        let keys = std::mem::take(&mut self.unstored);
        let mut lamps = self.notifier.records(&keys);
        let mut by_pool: BTreeMap<Option<String>, Vec<Operation>> = BTreeMap::new();
        for key in keys {
            let (pool, operation) = match Key::parse(&key) {
                Some(Key::Policy(_)) => {
                    let expect: Vec<_> = self.orbits.own_life().into_iter().collect();
                    let lent = self.lent_policy().into_iter().collect();
                    self.write_in_parts(&expect, lent, |keys| StoreOwner::AtLast { keys });
                    continue;
                }
                Some(Key::Binding(user, id)) => {
                    let pool = self.directory.user(&user).map(|user| user.pool.clone());
                    (pool, self.registrar.record(&user, &id))
                }
                _ => match lamps.remove(&key) {
                    Some((resource, watcher, operation)) => {
                        let pool = whose_lamp(&self.directory, &self.orbits, &resource, &watcher);
                        (pool.map(str::to_owned), operation)
                    }
                    None => (None, Operation::Delete { key }),
                },
            };
            if pool.as_ref().is_none_or(|pool| self.serves(pool)) {
                by_pool.entry(pool).or_default().push(operation);
            }
        }
        for (pool, operations) in by_pool {
            let served = self.cluster.iter().flat_map(|cluster| &cluster.served);
            let expected: BTreeMap<String, Expect> = served
                .filter(|served| pool.as_ref().is_none_or(|pool| pool == *served))
                .filter_map(|pool| self.orbits.expectations(pool))
                .flatten()
                .collect();
            // Whatever was ours is others' by now.
            if self.cluster.is_none() || !expected.is_empty() {
                let expect: Vec<_> = expected.into_iter().collect();
                self.write_in_parts(&expect, operations, |keys| StoreOwner::AtLast { keys });
            }
        }
    }

    pub(super) fn behind_is_stored(&mut self, keys: BTreeSet<String>, result: Result<Outcome, StoreError>) {
        match result {
            Ok(Outcome::Committed { .. }) => {}
            // That life of the host is over. Perhaps it has another.
            Ok(Outcome::Conflict { .. }) => self.not_stored(keys),
            Err(error) => {
                self.not_stored(keys);
                let detail = serde_json::json!({ "error": error.to_string() });
                self.core.event("store.failed", Some(35105), None, detail);
            }
        }
    }

    /// Somebody else serves a pool from now on. Of subscriptions that are over nobody knows whose they were.
    pub(super) fn leave_unstored(&mut self, pool: &str) {
        let directory = &self.directory;
        let of_another = |user: &str| directory.user(user).is_none_or(|user| user.pool != pool);
        self.unstored.retain(|key| match Key::parse(key) {
            Some(Key::Binding(user, _)) => of_another(&user),
            // That of the own pool, whoever serves it.
            Some(Key::Policy(_)) => true,
            _ => false,
        });
    }
}

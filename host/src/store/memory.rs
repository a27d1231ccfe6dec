//! The store of tests and of simulation: in memory, gone with the process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::journal::{self, Journal, Source};
use super::{Change, Expect, Operation, Outcome, Record, Snapshot, Store, StoreError, Transaction, prefixed};

/// Keeps records in memory. A clone is another handle to the same records.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    snapshot: Mutex<Snapshot>,
    journal: Journal,
}

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore::new()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        MemoryStore::with_journal(Journal::new(0))
    }

    /// A store that forgets all but the last `changes` changes: watches that lag get differences.
    pub fn forgetful(changes: usize) -> Self {
        MemoryStore::with_journal(Journal::keeping(changes, 0))
    }

    fn with_journal(journal: Journal) -> Self {
        MemoryStore { shared: Arc::new(Shared { snapshot: Mutex::default(), journal }) }
    }

    /// [`Store::commit`] without waiting, for a simulation that has its own time.
    pub fn apply(&self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        transaction.check()?;
        let mut snapshot = self.shared.lock();
        let current: Vec<_> = transaction
            .expect
            .iter()
            .map(|(key, expect)| (key, *expect, snapshot.records.get(key)))
            .collect();
        if !current.iter().all(|(_, expect, record)| expect.holds(record.map(|record| record.revision))) {
            let current =
                current.into_iter().map(|(key, _, record)| (key.clone(), record.cloned())).collect();
            return Ok(Outcome::Conflict { current });
        }
        if transaction.operations.is_empty() {
            return Ok(Outcome::Committed { revision: snapshot.revision });
        }
        snapshot.revision += 1;
        let revision = snapshot.revision;
        let mut changes = Vec::new();
        for operation in &transaction.operations {
            let change = match operation {
                Operation::Put { key, value } => {
                    let record = Record { value: value.clone(), revision };
                    snapshot.records.insert(key.clone(), record.clone());
                    Change { key: key.clone(), record: Some(record) }
                }
                Operation::Delete { key } => {
                    if snapshot.records.remove(key).is_none() {
                        continue;
                    }
                    Change { key: key.clone(), record: None }
                }
            };
            changes.push((revision, change));
        }
        // Pushed under the lock, or two transactions could reach the journal in the wrong order.
        self.shared.journal.push(changes);
        Ok(Outcome::Committed { revision })
    }

    /// [`Store::list`] without waiting.
    pub fn snapshot(&self, prefix: &str) -> Snapshot {
        self.shared.select(prefix)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn select(&self, prefix: &str) -> Snapshot {
        let all = self.lock();
        let records = prefixed(&all.records, prefix).map(|(k, r)| (k.clone(), r.clone())).collect();
        Snapshot { records, revision: all.revision }
    }
}

impl Source for Shared {
    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn read(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        Ok(self.select(prefix))
    }
}

impl Expect {
    /// Whether a key at this revision (`None`: no record) meets the expectation.
    pub fn holds(self, revision: Option<u64>) -> bool {
        match self {
            Expect::Absent => revision.is_none(),
            Expect::Present => revision.is_some(),
            Expect::Revision(expected) => revision == Some(expected),
        }
    }
}

#[async_trait::async_trait]
impl Store for MemoryStore {
    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        self.apply(&transaction)
    }

    async fn list(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        Ok(self.snapshot(prefix))
    }

    async fn watch(&self, prefix: &str, revision: u64) -> Result<mpsc::Receiver<Change>, StoreError> {
        journal::start(Arc::clone(&self.shared), prefix.to_string(), revision, self.snapshot(prefix))
    }
}

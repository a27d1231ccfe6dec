//! A store that misbehaves on demand, for tests: late answers, lost answers, refusals.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, mpsc, watch};

use super::{Change, HostIdentity, Outcome, Snapshot, Standing, Store, StoreError, Transaction};

/// Passes everything on to another store, except where told otherwise. Nothing is random: the n-th commit meets
/// the n-th fault.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    faults: Mutex<VecDeque<Fault>>,
    away: Mutex<bool>,
    /// Held commits wait for a permit.
    gate: Semaphore,
    held: Mutex<bool>,
}

/// What happens to one commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing: it goes through.
    None,
    /// It is not written, and answered as unavailable.
    Refuse,
    /// It is written, and answered as unavailable: the answer was lost.
    LoseAnswer,
}

impl<S: Store> Faulty<S> {
    /// A store that behaves, so far.
    pub fn new(inner: S) -> Self {
        Faulty {
            inner,
            faults: Mutex::default(),
            away: Mutex::default(),
            gate: Semaphore::new(0),
            held: Mutex::default(),
        }
    }

    /// What the next commits meet, one each; after that they go through.
    pub fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.faults).extend(faults);
    }

    /// From now on every commit, list and watch is refused, or none.
    pub fn set_away(&self, away: bool) {
        *lock(&self.away) = away;
    }

    /// Commits wait until they are let go.
    pub fn hold(&self) {
        *lock(&self.held) = true;
    }

    /// Lets `commits` of the held commits go, oldest first.
    pub fn let_go(&self, commits: usize) {
        self.gate.add_permits(commits);
    }

    /// Commits wait no longer; those held already need [`let_go`](Self::let_go).
    pub fn stop_holding(&self) {
        *lock(&self.held) = false;
    }

    /// The store behind.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn check_away(&self) -> Result<(), StoreError> {
        if *lock(&self.away) { Err(away()) } else { Ok(()) }
    }
}

fn away() -> StoreError {
    StoreError::Unavailable("a test took it away".into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait::async_trait]
impl<S: Store> Store for Faulty<S> {
    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        if *lock(&self.held) {
            self.gate.acquire().await.map_err(|_| away())?.forget();
        }
        self.check_away()?;
        let fault = lock(&self.faults).pop_front().unwrap_or(Fault::None);
        match fault {
            Fault::None => self.inner.commit(transaction).await,
            Fault::Refuse => Err(away()),
            Fault::LoseAnswer => {
                self.inner.commit(transaction).await?;
                Err(away())
            }
        }
    }

    async fn list(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.check_away()?;
        self.inner.list(prefix).await
    }

    async fn watch(&self, prefix: &str, revision: u64) -> Result<mpsc::Receiver<Change>, StoreError> {
        self.check_away()?;
        self.inner.watch(prefix, revision).await
    }

    async fn enlist(&self, host: &HostIdentity) -> Result<watch::Receiver<Standing>, StoreError> {
        self.check_away()?;
        self.inner.enlist(host).await
    }

    async fn resign(&self) {
        self.inner.resign().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::store::{MemoryStore, Operation, ROOT};

    fn put(name: &str) -> Transaction {
        let operations =
            vec![Operation::Put { key: format!("{ROOT}test/{name}"), value: Bytes::from_static(b"1") }];
        Transaction { operations, ..Transaction::default() }
    }

    #[tokio::test]
    async fn the_nth_commit_meets_the_nth_fault() {
        let store = Faulty::new(MemoryStore::new());
        store.next([Fault::None, Fault::Refuse, Fault::LoseAnswer]);
        assert!(store.commit(put("a")).await.is_ok());
        assert!(store.commit(put("b")).await.is_err());
        assert!(store.commit(put("c")).await.is_err());
        assert!(store.commit(put("d")).await.is_ok());
        let keys: Vec<_> = store.list(ROOT).await.unwrap().records.into_keys().collect();
        assert_eq!(keys, ["a", "c", "d"].map(|name| format!("{ROOT}test/{name}")));
        store.set_away(true);
        assert!(store.commit(put("e")).await.is_err());
        assert!(store.list(ROOT).await.is_err() && store.watch(ROOT, 0).await.is_err());
        store.set_away(false);
        assert!(store.commit(put("e")).await.is_ok());
    }

    #[tokio::test]
    async fn held_commits_are_let_go_in_order() {
        let store = Arc::new(Faulty::new(MemoryStore::new()));
        store.hold();
        let commits: Vec<_> = ["a", "b", "c"]
            .map(|name| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.commit(put(name)).await })
            })
            .into();
        tokio::task::yield_now().await;
        assert!(store.inner().snapshot(ROOT).records.is_empty());
        store.let_go(1);
        while store.inner().snapshot(ROOT).records.is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(store.inner().snapshot(ROOT).records.contains_key(&format!("{ROOT}test/a")));
        store.stop_holding();
        store.let_go(2);
        for commit in commits {
            assert!(commit.await.unwrap().is_ok());
        }
        assert!(store.commit(put("d")).await.is_ok());
    }
}

//! Transactions that touch the same keys go out one after the other.
//!
//! Requests to etcd travel side by side and may overtake each other. Two writes of one key must not, and a transaction
//! must see what those before it wrote; others need not wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{FutureExt, Shared, join_all};
use tokio::sync::oneshot;

use crate::store::{Operation, Transaction};

/// Resolves, one way or the other, when a transaction is over.
type Over = Shared<oneshot::Receiver<()>>;

/// Who is under way with which keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    keys: Arc<Mutex<HashMap<String, Key>>>,
    last: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Key {
    /// The last that writes it.
    writer: Option<(u64, Over)>,
    /// Those after it that only expect something of it.
    readers: Vec<(u64, Over)>,
}

/// A transaction's place among the others. Dropping it lets the next go.
#[derive(Debug)]
pub(super) struct Turn {
    order: Order,
    number: u64,
    keys: Vec<String>,
    before: Vec<Over>,
    _over: oneshot::Sender<()>,
}

impl Order {
    /// Puts a transaction behind those it must not overtake.
    pub(super) fn turn(&self, transaction: &Transaction) -> Turn {
        let (sender, over) = oneshot::channel();
        let over = over.shared();
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let mut table = self.lock();
        let (mut before, mut keys) = (Vec::new(), Vec::new());
        for operation in &transaction.operations {
            let (Operation::Put { key, .. } | Operation::Delete { key }) = operation;
            let state = table.entry(key.clone()).or_default();
            before.extend(state.writer.take().map(|(_, over)| over));
            before.extend(state.readers.drain(..).map(|(_, over)| over));
            state.writer = Some((number, over.clone()));
            keys.push(key.clone());
        }
        for (key, _) in &transaction.expect {
            if keys.contains(key) {
                continue;
            }
            let state = table.entry(key.clone()).or_default();
            before.extend(state.writer.iter().map(|(_, over)| over.clone()));
            state.readers.push((number, over.clone()));
            keys.push(key.clone());
        }
        drop(table);
        Turn { order: self.clone(), number, keys, before, _over: sender }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Waits for those before.
    pub(super) async fn comes(&self) {
        // A sender that is dropped ends a turn as well as one that sends.
        join_all(self.before.iter().cloned()).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut table = self.order.lock();
        for key in &self.keys {
            let Some(state) = table.get_mut(key) else { continue };
            state.writer.take_if(|(number, _)| *number == self.number);
            state.readers.retain(|(number, _)| *number != self.number);
            if state.writer.is_none() && state.readers.is_empty() {
                table.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::Expect;

    fn transaction(expect: &[&str], write: &[&str]) -> Transaction {
        Transaction {
            expect: expect.iter().map(|key| (key.to_string(), Expect::Present)).collect(),
            operations: write
                .iter()
                .map(|key| Operation::Put { key: key.to_string(), value: Bytes::new() })
                .collect(),
            ..Transaction::default()
        }
    }

    #[tokio::test]
    async fn writes_of_one_key_wait_for_each_other_and_others_do_not() {
        let order = Order::default();
        let first = order.turn(&transaction(&[], &["a"]));
        let second = order.turn(&transaction(&["a"], &["b"]));
        let third = order.turn(&transaction(&[], &["a", "c"]));
        let other = order.turn(&transaction(&["d"], &["e"]));
        let beside = order.turn(&transaction(&["d"], &["f"]));
        let comes = |turn: &Turn| turn.comes().now_or_never().is_some();
        assert_eq!([&first, &second, &third, &other, &beside].map(comes), [true, false, false, true, true]);
        drop(first);
        assert_eq!([&second, &third].map(comes), [true, false]);
        drop(second);
        assert!(comes(&third));
        drop((third, other, beside));
        assert!(order.lock().is_empty());
    }
}

//! Between the engine and the store: writes go out in the engine's order, answers and changes come in as inputs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{FutureExt, poll};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::engine::{Input, StoreId};
use crate::repeats;
use crate::store::keys::{MIRRORED, SHARED};
use crate::store::{ROOT, Snapshot, Store, StoreError, Transaction};

/// Writes that wait for the store. The engine makes at most a few per call, and nobody waits longer than
/// [`ANSWER_MAX`]; a store that far behind answers better with "away".
pub const WRITES_MAX: usize = 4_096;

/// Parks and claims wait so long for the store, then they are refused with 503 (design.md §4).
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What the engine wants of the store.
#[derive(Debug)]
pub enum Wanted {
    /// Write this.
    Write(Transaction),
    /// Read everything.
    Read,
}

/// Carries out `writes` until their sender is gone, and the last one is answered.
///
/// Each is handed to the store before the next is taken, so the store sees them in the engine's order; several may be
/// under way, so that it can commit them together.
pub async fn write_all(
    store: Arc<dyn Store>,
    mut writes: mpsc::Receiver<(StoreId, Wanted)>,
    inbox: mpsc::Sender<Input>,
) {
    let mut under_way: FuturesUnordered<BoxFuture<'static, Input>> = FuturesUnordered::new();
    let mut open = true;
    while open || !under_way.is_empty() {
        tokio::select! {
            write = writes.recv(), if open => match write {
                Some((request, wanted)) => {
                    let store = Arc::clone(&store);
                    let mut answer = match wanted {
                        Wanted::Write(transaction) => commit(store, request, transaction).boxed(),
                        Wanted::Read => read(store, request).boxed(),
                    };
                    // The first poll hands it over.
                    match poll!(&mut answer) {
                        std::task::Poll::Ready(input) => { let _ = inbox.send(input).await; }
                        std::task::Poll::Pending => under_way.push(answer),
                    }
                }
                None => open = false,
            },
            Some(input) = under_way.next() => { let _ = inbox.send(input).await; }
        }
    }
}

async fn commit(store: Arc<dyn Store>, request: StoreId, transaction: Transaction) -> Input {
    let result = match timeout(ANSWER_MAX, store.commit(transaction)).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unavailable(format!("no answer within {ANSWER_MAX:?}"))),
    };
    if let Err(error) = &result
        && repeats::UNSTORED.is_first()
    {
        tracing::error!(%error, "a write failed");
    }
    Input::Stored { request, result }
}

async fn read(store: Arc<dyn Store>, request: StoreId) -> Input {
    let result = match timeout(ANSWER_MAX, store.list(ROOT)).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unavailable(format!("no answer within {ANSWER_MAX:?}"))),
    };
    Input::Read { request, result }
}

/// Reads everything, and from then on tells the inbox of each change to a mirrored record.
pub async fn mirror(
    store: &Arc<dyn Store>,
    shared: bool,
    inbox: &mpsc::Sender<Input>,
) -> Result<Snapshot, StoreError> {
    let snapshot = store.list(ROOT).await?;
    let shared: &[&str] = if shared { &SHARED } else { &[] };
    for kind in MIRRORED.iter().chain(shared) {
        let mut changes = store.watch(&format!("{ROOT}{kind}"), snapshot.revision).await?;
        let inbox = inbox.clone();
        tokio::spawn(async move {
            while let Some(change) = changes.recv().await {
                if inbox.send(Input::StoreChanged(change)).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::{Expect, Faulty, MemoryStore, Operation, Outcome};

    fn put(key: &str, value: u32, expect: Expect) -> Transaction {
        let key = format!("{ROOT}{key}");
        Transaction {
            expect: vec![(key.clone(), expect)],
            operations: vec![Operation::Put { key, value: Bytes::from(value.to_string()) }],
            ..Transaction::default()
        }
    }

    async fn next(arrivals: &mut mpsc::Receiver<Input>) -> Input {
        timeout(Duration::from_secs(20), arrivals.recv()).await.expect("no input").unwrap()
    }

    #[tokio::test]
    async fn writes_reach_the_store_in_order_and_all_are_answered_after_the_engine_is_gone() {
        let store = Arc::new(Faulty::new(MemoryStore::new()));
        store.hold();
        let (writes, waiting) = mpsc::channel(WRITES_MAX);
        let (inbox, mut arrivals) = mpsc::channel(16);
        let task = tokio::spawn(write_all(store.clone(), waiting, inbox));
        // Each is only right after the one before it.
        writes.send((StoreId(1), Wanted::Write(put("user/a", 1, Expect::Absent)))).await.unwrap();
        writes.send((StoreId(2), Wanted::Write(put("user/a", 2, Expect::Present)))).await.unwrap();
        writes.send((StoreId(3), Wanted::Write(put("user/b", 3, Expect::Present)))).await.unwrap();
        drop(writes);
        store.stop_holding();
        store.let_go(3);
        let mut answers = Vec::new();
        for _ in 0..3 {
            let Input::Stored { request, result: Ok(outcome) } = next(&mut arrivals).await else { panic!() };
            answers.push((request, matches!(outcome, Outcome::Committed { .. })));
        }
        answers.sort();
        assert_eq!(answers, [(StoreId(1), true), (StoreId(2), true), (StoreId(3), false)]);
        task.await.unwrap();
        assert_eq!(store.inner().snapshot(ROOT).records[&format!("{ROOT}user/a")].value, "2");
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_an_answer_too() {
        let store = Arc::new(Faulty::new(MemoryStore::new()));
        store.set_away(true);
        let (writes, waiting) = mpsc::channel(WRITES_MAX);
        let (inbox, mut arrivals) = mpsc::channel(16);
        tokio::spawn(write_all(store, waiting, inbox));
        writes.send((StoreId(1), Wanted::Write(put("user/a", 1, Expect::Absent)))).await.unwrap();
        let Input::Stored { result, .. } = next(&mut arrivals).await else { panic!() };
        assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    }

    #[tokio::test]
    async fn changes_of_mirrored_records_arrive_and_others_do_not() {
        let memory = MemoryStore::new();
        memory.apply(&put("user/a", 1, Expect::Absent)).unwrap();
        let store: Arc<dyn Store> = Arc::new(memory.clone());
        let (inbox, mut arrivals) = mpsc::channel(16);
        let snapshot = mirror(&store, false, &inbox).await.unwrap();
        assert_eq!(snapshot.records.len(), 1);
        memory.apply(&put("orbit/7001", 2, Expect::Absent)).unwrap();
        memory.apply(&put("range/east", 3, Expect::Absent)).unwrap();
        let Input::StoreChanged(change) = next(&mut arrivals).await else { panic!() };
        assert_eq!(change.key, format!("{ROOT}range/east"));
    }
}

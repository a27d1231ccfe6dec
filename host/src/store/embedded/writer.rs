//! The thread that writes the file.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redb::{ReadableTable, Table};
use tokio::sync::oneshot;

use super::Shared;
use super::file::{META, RECORDS, REVISION};
use crate::store::{Change, Durability, Expect, Operation, Outcome, Record, StoreError, Transaction};

/// A relaxed write may be lost to a power cut for so long: a phone that registered in that moment registers again.
const FLUSH_AFTER: Duration = Duration::from_millis(20);
/// Transactions in one fsync. More would make the first of them wait too long.
const BATCH_MAX: usize = 256;

pub(super) struct Request {
    pub(super) transaction: Transaction,
    pub(super) answer: oneshot::Sender<Result<Outcome, StoreError>>,
}

/// The only one that writes.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) requests: Receiver<Request>,
    pub(super) revision: u64,
    /// Since when something is written that no fsync has reached.
    pub(super) unflushed: Option<Instant>,
}

/// What a batch of transactions came to.
struct Batch {
    outcomes: Vec<Outcome>,
    changes: Vec<(u64, Change)>,
    revision: u64,
}

impl Writer {
    /// Writes until nobody can ask any more.
    pub(super) fn run(mut self) {
        loop {
            let first = match self.unflushed {
                None => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => self.requests.recv_timeout(FLUSH_AFTER.saturating_sub(since_then(since))),
            };
            match first {
                Ok(first) => self.write(first),
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Err(RecvTimeoutError::Disconnected) => {
                    if self.unflushed.is_some() {
                        self.flush();
                    }
                    return;
                }
            }
        }
    }

    /// Writes `first` and everything else that waits, in one redb transaction.
    fn write(&mut self, first: Request) {
        let mut requests = vec![first];
        requests.extend(self.requests.try_iter().take(BATCH_MAX - 1));
        let overdue = self.unflushed.is_some_and(|since| since_then(since) >= FLUSH_AFTER);
        let wanted = requests.iter().any(|request| request.transaction.durability == Durability::Durable);
        let durable = overdue || wanted;
        let batch = self.write_batch(&requests, durable).or_else(|error| {
            // A failed write leaves redb refusing all others. What is retried here was not written, or not
            // answered: at most an expectation fails that would have held.
            self.open_again(&error)?;
            self.write_batch(&requests, true)
        });
        match batch {
            Ok(batch) => {
                let wrote = batch.revision > self.revision;
                self.revision = batch.revision;
                self.unflushed = match durable {
                    true => None,
                    false if wrote => self.unflushed.or_else(|| Some(clock())),
                    false => self.unflushed,
                };
                self.shared.journal.push(batch.changes);
                for (request, outcome) in requests.into_iter().zip(batch.outcomes) {
                    // Whoever asked may have given up: it is written all the same.
                    let _ = request.answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                for request in requests {
                    let _ = request.answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn write_batch(&self, requests: &[Request], durable: bool) -> Result<Batch, StoreError> {
        self.shared.file.with(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(match durable {
                true => redb::Durability::Immediate,
                false => redb::Durability::None,
            })?;
            let mut batch = Batch { outcomes: Vec::new(), changes: Vec::new(), revision: self.revision };
            {
                let mut records = transaction.open_table(RECORDS)?;
                for request in requests {
                    batch.apply(&mut records, &request.transaction)?;
                }
                if batch.revision > self.revision {
                    transaction.open_table(META)?.insert(REVISION, batch.revision)?;
                }
            }
            // Nothing but looks and conflicts: no reason to touch the disk, unless something waits for it.
            if batch.revision == self.revision && self.unflushed.is_none() {
                transaction.abort()?;
            } else {
                transaction.commit()?;
            }
            Ok(batch)
        })
    }

    /// Makes what was written durable.
    fn flush(&mut self) {
        let flushed = self.shared.file.with(|database| Ok(database.begin_write()?.commit()?));
        if let Err(error) = flushed
            && let Err(error) = self.open_again(&error)
        {
            tracing::error!(%error, "the store cannot be written");
        }
        self.unflushed = None;
    }

    fn open_again(&mut self, why: &StoreError) -> Result<(), StoreError> {
        tracing::warn!(%why, "writing the store failed; opening its file again");
        let revision =
            self.shared.file.reopen().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        // A relaxed write that was lost has used up its revision all the same.
        self.revision = self.revision.max(revision);
        self.unflushed = None;
        Ok(())
    }
}

impl Batch {
    /// Applies one transaction, or none of it.
    fn apply(
        &mut self,
        records: &mut Table<'_, &'static str, (u64, &'static [u8])>,
        transaction: &Transaction,
    ) -> Result<(), redb::Error> {
        let mut holds = true;
        for (key, expect) in &transaction.expect {
            let revision = records.get(key.as_str())?.map(|value| value.value().0);
            holds &= expect.holds(revision);
        }
        if !holds {
            let current = current(records, &transaction.expect)?;
            self.outcomes.push(Outcome::Conflict { current });
            return Ok(());
        }
        if !transaction.operations.is_empty() {
            self.revision += 1;
        }
        for operation in &transaction.operations {
            match operation {
                Operation::Put { key, value } => {
                    records.insert(key.as_str(), (self.revision, value.as_ref()))?;
                    let record = Some(Record { value: value.clone(), revision: self.revision });
                    self.changes.push((self.revision, Change { key: key.clone(), record }));
                }
                Operation::Delete { key } => {
                    if records.remove(key.as_str())?.is_some() {
                        self.changes.push((self.revision, Change { key: key.clone(), record: None }));
                    }
                }
            }
        }
        self.outcomes.push(Outcome::Committed { revision: self.revision });
        Ok(())
    }
}

fn current(
    records: &Table<'_, &'static str, (u64, &'static [u8])>,
    expect: &[(String, Expect)],
) -> Result<Vec<(String, Option<Record>)>, redb::Error> {
    let read = |key: &String| -> Result<_, redb::Error> {
        let record = records.get(key.as_str())?.map(|value| {
            let (revision, value) = value.value();
            Record { value: Bytes::copy_from_slice(value), revision }
        });
        Ok((key.clone(), record))
    };
    expect.iter().map(|(key, _)| read(key)).collect()
}

fn since_then(moment: Instant) -> Duration {
    clock().saturating_duration_since(moment)
}

/// This thread is outside the engine: nothing it times reaches a call.
#[expect(clippy::disallowed_methods, reason = "bounds how long a relaxed write stays off the disk")]
fn clock() -> Instant {
    Instant::now()
}

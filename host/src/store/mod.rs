//! The store: what outlives a process. One trait; memory for tests, redb for a host alone, etcd for clusters.
//!
//! Keys are paths under [`ROOT`], values are JSON. The engine never waits for a store: it emits a
//! [`Transaction`] and gets the [`Outcome`] back as an input, in one order with everything else.

mod embedded;
#[cfg(feature = "etcd")]
mod etcd;
mod faulty;
mod journal;
pub mod keys;
mod memory;
mod standing;

#[cfg(test)]
mod contract;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

pub use embedded::{OpenError, RedbStore};
#[cfg(feature = "etcd")]
pub use etcd::{EtcdOptions, EtcdStore, Tls};
pub use faulty::{Fault, Faulty};
pub use memory::MemoryStore;
pub use standing::{Fence, HostIdentity, Standing};

/// All keys live under this prefix.
pub const ROOT: &str = "/switchyard/v1/";

/// No transaction may hold more operations than this; etcd's own default is 128.
pub const OPERATIONS_MAX: usize = 100;

/// One record as the store holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// JSON.
    pub value: Bytes,
    /// Changes at each write of this key, and never goes back: the fencing token of the record.
    pub revision: u64,
}

/// What a transaction demands of a key before it writes anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// The key has no record.
    Absent,
    /// The key has a record of any revision.
    Present,
    /// The record's revision is exactly this.
    Revision(u64),
}

/// One write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Writes a record.
    Put {
        /// Full key.
        key: String,
        /// JSON.
        value: Bytes,
    },
    /// Removes a record; removing what is not there is no error.
    Delete {
        /// Full key.
        key: String,
    },
}

/// How long a write must survive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Answered only when it would survive `kill -9` and a power cut.
    #[default]
    Durable,
    /// May be answered before it is on the disk: registrations, call records. A later durable write brings it along.
    Relaxed,
}

/// All writes happen, or none: when every expectation holds at the moment of writing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transaction {
    /// What must be true.
    pub expect: Vec<(String, Expect)>,
    /// What is then written, at most [`OPERATIONS_MAX`].
    pub operations: Vec<Operation>,
    /// How long it must survive.
    pub durability: Durability,
}

impl Transaction {
    /// Whether it keeps the rules of the trait: few enough operations, keys under [`ROOT`], no key written twice.
    pub fn check(&self) -> Result<(), StoreError> {
        let invalid = |why: String| Err(StoreError::Invalid(why));
        let (expected, written) = (self.expect.len(), self.operations.len());
        if expected.max(written) > OPERATIONS_MAX {
            return invalid(format!("{} operations; at most {OPERATIONS_MAX}", expected.max(written)));
        }
        let mut keys = BTreeSet::new();
        for operation in &self.operations {
            let (Operation::Put { key, .. } | Operation::Delete { key }) = operation;
            if !keys.insert(key) {
                return invalid(format!("{key} is written twice"));
            }
        }
        keys.extend(self.expect.iter().map(|(key, _)| key));
        match keys.into_iter().find(|key| !key.starts_with(ROOT)) {
            Some(key) => invalid(format!("{key} is not under {ROOT}")),
            None => Ok(()),
        }
    }
}

impl Transaction {
    /// What holds once it is committed at `revision`.
    pub fn changes(&self, revision: u64) -> impl Iterator<Item = Change> {
        self.operations.iter().map(move |operation| match operation {
            Operation::Put { key, value } => {
                Change { key: key.clone(), record: Some(Record { value: value.clone(), revision }) }
            }
            Operation::Delete { key } => Change { key: key.clone(), record: None },
        })
    }
}

/// What became of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All was written; each record written now has this revision.
    Committed {
        /// The revision of every record this transaction put.
        revision: u64,
    },
    /// An expectation failed and nothing was written. The expected keys as they are now.
    Conflict {
        /// Key and record of each key that was expected something of.
        current: Vec<(String, Option<Record>)>,
    },
}

/// Why a store could not answer. A transaction that failed this way may still have been written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store is away, or was too slow.
    #[error("the store is away: {0}")]
    Unavailable(String),
    /// The request breaks a rule of the trait (too many operations, a key outside [`ROOT`]).
    #[error("bad store request: {0}")]
    Invalid(String),
    /// What is stored cannot be read.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// Another process has what can be had once only.
    #[error("{0}")]
    Taken(String),
}

/// All records under a prefix at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// Key to record, in key order.
    pub records: BTreeMap<String, Record>,
    /// The store's revision at that moment: a watch from here misses nothing.
    pub revision: u64,
}

impl Snapshot {
    /// The records under a prefix, in key order.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a Record)> {
        prefixed(&self.records, prefix)
    }
}

fn prefixed<'a>(
    records: &'a BTreeMap<String, Record>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a String, &'a Record)> {
    let from = (Bound::Included(prefix), Bound::Unbounded);
    records.range::<str, _>(from).take_while(move |(key, _)| key.starts_with(prefix))
}

/// A change seen by a watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Full key.
    pub key: String,
    /// The new record, or `None` when it was removed.
    pub record: Option<Record>,
}

/// Keeps records. Cheap to clone behind an `Arc`; every method may be called from any task.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Writes all of `transaction`, or nothing.
    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError>;

    /// Reads every record under `prefix` at one moment.
    async fn list(&self, prefix: &str) -> Result<Snapshot, StoreError>;

    /// Every change under `prefix` after `revision`, in order. The watch restarts itself when its server does;
    /// when history is gone it delivers the difference as changes. It ends only when the receiver is dropped.
    async fn watch(
        &self,
        prefix: &str,
        revision: u64,
    ) -> Result<tokio::sync::mpsc::Receiver<Change>, StoreError>;

    /// Makes this host known as alive: its record `host/NAME` is there when this returns. Where hosts share a store, the
    /// record goes when they stop, or stop being heard of; the receiver tells. Called once, before the host writes
    /// anything.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when another living host has the name.
    async fn enlist(
        &self,
        host: &HostIdentity,
    ) -> Result<tokio::sync::watch::Receiver<Standing>, StoreError> {
        standing::alone(self, host).await
    }

    /// Whether the store refuses every write for want of room. It may answer all else, and count its hosts as alive.
    ///
    /// # Errors
    /// When it does not answer.
    async fn is_full(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Takes the host's record away: it stops. Nothing happens to a store for one host.
    async fn resign(&self) {}
}

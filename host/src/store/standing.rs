//! Whether this host may write what others could take over: its `host/NAME` record, and who keeps it.
//!
//! A host is *live* while its own record stands in the store. Every write of an `orbit/` record expects that record at
//! the revision of this life, so that a host others took for dead cannot write any more, however late it wakes up
//! (design.md §8, fencing). In a store for one host the record is simply there.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::keys::{Key, host_key, hosts_prefix};
use super::{Expect, Operation, Outcome, Store, StoreError, Transaction};
use crate::net::Listener;

/// How a host stands with the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Its `host/NAME` record is there, at this revision.
    Live {
        /// The fencing token of this life of the host.
        revision: u64,
    },
    /// Its record is gone, or may be: it must not write parked calls, nor decide who gets one.
    Lapsed,
}

/// Who a host is, as its `host/NAME` record says it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct HostIdentity {
    /// Its name.
    pub name: String,
    /// The same in every life of this host and in no other host's, even one of the same name: it is kept in its data
    /// folder, which only one process at a time can lock.
    pub id: String,
    /// The pool it belongs to.
    #[serde(default)]
    pub pool: String,
    /// Where the other hosts of its cluster reach it; none: they don't.
    #[serde(default)]
    pub link: Option<SocketAddr>,
    /// The domain of its users; empty: it does not say.
    #[serde(default)]
    pub domain: String,
    /// Where phones reach it.
    #[serde(default)]
    pub listeners: Vec<Listener>,
}

impl HostIdentity {
    pub(super) fn key(&self) -> String {
        host_key(&self.name)
    }

    pub(super) fn value(&self) -> Bytes {
        // Plain data always has a JSON form.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Whether a record is one of an earlier life of this host.
    #[cfg(feature = "etcd")]
    pub(super) fn is_in(&self, record: &[u8]) -> bool {
        serde_json::from_slice::<Self>(record).is_ok_and(|other| other.id == self.id)
    }
}

/// [`Store::enlist`] of a store that has no other hosts: records of this host's earlier names go, its own is there for
/// good.
pub(super) async fn alone<S: Store + ?Sized>(
    store: &S,
    host: &HostIdentity,
) -> Result<watch::Receiver<Standing>, StoreError> {
    let own = host.key();
    let before = store.list(&hosts_prefix()).await?.records.into_keys();
    let mut operations: Vec<_> = before
        .filter(|key| *key != own && matches!(Key::parse(key), Some(Key::Host(_))))
        .take(super::OPERATIONS_MAX - 1)
        .map(|key| Operation::Delete { key })
        .collect();
    operations.push(Operation::Put { key: own, value: host.value() });
    match store.commit(Transaction { operations, ..Transaction::default() }).await? {
        Outcome::Committed { revision } => Ok(watch::Sender::new(Standing::Live { revision }).subscribe()),
        Outcome::Conflict { .. } => Err(StoreError::Unavailable("an unexpected conflict".into())),
    }
}

/// What must be true for a host to write the records of a pool's parked calls.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fence {
    host: String,
    standing: Option<u64>,
    /// By pool: the epoch, and its record's revision.
    epochs: std::collections::BTreeMap<String, (u64, u64)>,
}

impl Fence {
    /// The fence of a host, as the records of a store make it.
    pub fn new(host: &str) -> Self {
        Fence { host: host.to_owned(), ..Fence::default() }
    }

    /// Takes over the host's own record and the pools' epochs.
    pub fn load(&mut self, snapshot: &super::Snapshot) {
        self.standing = snapshot.records.get(&host_key(&self.host)).map(|record| record.revision);
        self.epochs.clear();
        for (key, record) in &snapshot.records {
            self.apply(key, Some(record));
        }
    }

    /// Follows a change of the store: epochs.
    pub fn apply(&mut self, key: &str, record: Option<&super::Record>) {
        let Some(Key::Epoch(pool)) = Key::parse(key) else { return };
        match record {
            // What this host has written it knows before the watch tells it.
            Some(record) if self.epochs.get(&pool).is_some_and(|(_, known)| *known > record.revision) => {}
            Some(record) => {
                // What cannot be read is an epoch nobody has: nothing of that pool can be written.
                let epoch = serde_json::from_slice(&record.value).unwrap_or(u64::MAX);
                self.epochs.insert(pool, (epoch, record.revision));
            }
            None => {
                self.epochs.remove(&pool);
            }
        }
    }

    /// The host lives, or not.
    pub fn set_standing(&mut self, standing: Standing) {
        self.standing = match standing {
            Standing::Live { revision } => Some(revision),
            Standing::Lapsed => None,
        };
    }

    /// Whether the host may write at all.
    pub fn is_live(&self) -> bool {
        self.standing.is_some()
    }

    /// Whether a conflict shows the host's record as it is known here.
    pub fn knows_host(&self, current: &[(String, Option<super::Record>)]) -> bool {
        let key = host_key(&self.host);
        let found = current.iter().find(|(name, _)| *name == key).and_then(|(_, record)| record.as_ref());
        self.standing.is_some() && found.map(|record| record.revision) == self.standing
    }

    /// Whether a conflict shows a pool's epoch as it is known here.
    pub fn knows_epoch(&self, pool: &str, current: &[(String, Option<super::Record>)]) -> bool {
        let key = super::keys::epoch_key(pool);
        let found = current.iter().find(|(name, _)| *name == key).map(|(_, record)| record.as_ref());
        let known = self.epochs.get(pool).map(|(_, revision)| *revision);
        found.is_some_and(|record| record.map(|record| record.revision) == known)
    }

    /// A pool's epoch; 0 for one that never had any.
    pub fn epoch(&self, pool: &str) -> u64 {
        self.epochs.get(pool).map_or(0, |(epoch, _)| *epoch)
    }

    /// That this life of the host goes on; `None` while it must not write.
    pub fn own_life(&self) -> Option<(String, Expect)> {
        Some((host_key(&self.host), Expect::Revision(self.standing?)))
    }

    /// A pool's epoch, and the revision of the record that says it if there is one.
    pub fn epoch_record(&self, pool: &str) -> (u64, Option<u64>) {
        self.epochs.get(pool).map_or((0, None), |(epoch, revision)| (*epoch, Some(*revision)))
    }

    /// What to expect of a write that concerns `pool`; `None` while the host must not write.
    pub fn expectations(&self, pool: &str) -> Option<[(String, Expect); 2]> {
        let epoch = match self.epochs.get(pool) {
            Some((_, revision)) => Expect::Revision(*revision),
            None => Expect::Absent,
        };
        Some([self.own_life()?, (super::keys::epoch_key(pool), epoch)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::keys::epoch_key;
    use crate::store::{MemoryStore, ROOT};

    #[tokio::test]
    async fn a_host_alone_replaces_its_earlier_names() {
        let store = MemoryStore::new();
        let named =
            |name: &str| HostIdentity { name: name.into(), id: "1".into(), ..HostIdentity::default() };
        alone(&store, &named("old")).await.unwrap();
        let standing = *alone(&store, &named("fe1")).await.unwrap().borrow();
        let snapshot = store.snapshot(ROOT);
        let (key, record) = snapshot.records.first_key_value().unwrap();
        assert_eq!((key, snapshot.records.len()), (&host_key("fe1"), 1));
        assert_eq!(standing, Standing::Live { revision: record.revision });
    }

    #[test]
    fn a_fence_expects_this_life_and_the_known_epoch() {
        let store = MemoryStore::new();
        let put = |key: String, value: &'static str| {
            let operations = vec![Operation::Put { key, value: Bytes::from_static(value.as_bytes()) }];
            store.apply(&Transaction { operations, ..Transaction::default() }).unwrap();
        };
        put(host_key("fe1"), "{}");
        put(epoch_key("east"), "3");
        let mut fence = Fence::new("fe1");
        assert_eq!(fence.expectations("east"), None);
        fence.load(&store.snapshot(ROOT));
        let expected = |host, epoch| {
            Some([(host_key("fe1"), Expect::Revision(host)), (epoch_key("east"), Expect::Revision(epoch))])
        };
        assert_eq!(fence.expectations("east"), expected(1, 2));
        assert_eq!((fence.epoch("east"), fence.epoch("west")), (3, 0));
        assert_eq!(fence.expectations("west").unwrap()[1], (epoch_key("west"), Expect::Absent));
        fence.set_standing(Standing::Lapsed);
        assert_eq!(fence.expectations("east"), None);
        fence.set_standing(Standing::Live { revision: 9 });
        assert_eq!(fence.expectations("east"), expected(9, 2));
    }
}

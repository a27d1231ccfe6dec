//! Fills an empty store from the configuration file. After that the store is the truth, and the file only advises.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::json;

use crate::config::Config;
use crate::directory::User;
use crate::store::keys::{Key, epoch_key, pool_key, range_key};
use crate::store::{
    Expect, OPERATIONS_MAX, Operation, Outcome, ROOT, Snapshot, Store, StoreError, Transaction,
};

/// What became of the file's pools, ranges and users.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seeded {
    /// The store was empty and has them now.
    Filled {
        /// How many users.
        users: usize,
        /// How many ranges.
        ranges: usize,
    },
    /// The store has its own. These stand in the file but not in the store, and so do not exist: `user eve`.
    AlreadyFilled {
        /// Kind and name of each.
        only_in_file: Vec<String>,
    },
}

/// Fills `store` if it is empty.
///
/// A store counts as empty until it has a pool, and the pools are written last: a host that dies in between begins anew.
pub async fn seed(store: &dyn Store, config: &Config) -> Result<Seeded, StoreError> {
    let present = store.list(ROOT).await?;
    let pools = config.pools.iter().map(|pool| {
        let value = json!({ "name": pool.name, "fqdn": pool.fqdn, "backup": pool.backup });
        put(pool_key(&pool.name), &value)
    });
    let ranges = config.orbits.iter().map(|range| put(range_key(&range.name), &json!(range)));
    if has_pools(&present) {
        return Ok(Seeded::AlreadyFilled { only_in_file: only_in_file(&present, config) });
    }
    let users = config.users.iter().map(|user| User::from_config(user, &config.sip.domain).put());
    let epochs = config.pools.iter().map(|pool| put(epoch_key(&pool.name), &json!(1)));
    let operations: Vec<Operation> = users.chain(ranges).chain(epochs).collect();
    for some in operations.chunks(OPERATIONS_MAX) {
        commit(store, some.to_vec()).await?;
    }
    // Another host may be filling the same store; whoever writes its pools first has filled it.
    let pools: Vec<(String, Operation)> =
        config.pools.iter().map(|pool| pool_key(&pool.name)).zip(pools).collect();
    for some in pools.chunks(OPERATIONS_MAX) {
        let (expect, operations) =
            some.iter().map(|(key, put)| ((key.clone(), Expect::Absent), put.clone())).unzip();
        match store.commit(Transaction { expect, operations, ..Transaction::default() }).await? {
            Outcome::Committed { .. } => {}
            Outcome::Conflict { .. } => {
                let only_in_file = only_in_file(&store.list(ROOT).await?, config);
                return Ok(Seeded::AlreadyFilled { only_in_file });
            }
        }
    }
    Ok(Seeded::Filled { users: config.users.len(), ranges: config.orbits.len() })
}

async fn commit(store: &dyn Store, operations: Vec<Operation>) -> Result<(), StoreError> {
    match store.commit(Transaction { operations, ..Transaction::default() }).await? {
        Outcome::Committed { .. } => Ok(()),
        // Nothing was expected, so nothing can conflict.
        Outcome::Conflict { .. } => Err(StoreError::Unavailable("an unexpected conflict".to_owned())),
    }
}

fn put(key: String, value: &serde_json::Value) -> Operation {
    Operation::Put { key, value: Bytes::from(value.to_string()) }
}

fn has_pools(present: &Snapshot) -> bool {
    present.records.keys().any(|key| matches!(Key::parse(key), Some(Key::Pool(_))))
}

fn only_in_file(present: &Snapshot, config: &Config) -> Vec<String> {
    let stored: BTreeSet<&str> = present.records.keys().map(String::as_str).collect();
    let missing = |kind: &str, name: &str, key: String| {
        (!stored.contains(key.as_str())).then(|| format!("{kind} {name}"))
    };
    let users = config.users.iter().filter_map(|user| missing("user", &user.name, User::key(&user.name)));
    let ranges =
        config.orbits.iter().filter_map(|range| missing("range", &range.name, range_key(&range.name)));
    let pools = config.pools.iter().filter_map(|pool| missing("pool", &pool.name, pool_key(&pool.name)));
    users.chain(ranges).chain(pools).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::MemoryStore;

    fn config(users: &str) -> Config {
        let text = format!(
            r#"
            [host]
            name = "fe1"
            pool = "east"
            [sip]
            domain = "example.test"
            listen = ["udp:127.0.0.1:5060"]
            [media]
            address = "127.0.0.1"
            [[pools]]
            name = "east"
            [[orbits]]
            name = "east-park"
            from = "7000"
            to = "7009"
            kind = "call-park"
            pool = "east"
            {users}
            "#
        );
        crate::config::parse(Path::new("switchyard.toml"), &text)
            .unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn users(names: impl IntoIterator<Item = String>) -> String {
        names
            .into_iter()
            .map(|name| format!("[[users]]\nname = {name:?}\npassword = \"x-{name}\"\n"))
            .collect()
    }

    #[tokio::test]
    async fn an_empty_store_gets_everything_but_no_password() {
        let store = MemoryStore::new();
        let config = config(&users((0..250).map(|n| format!("user{n}"))));
        assert_eq!(seed(&store, &config).await, Ok(Seeded::Filled { users: 250, ranges: 1 }));
        let records = store.snapshot(ROOT).records;
        assert_eq!(records.len(), 250 + 1 + 2);
        let user: User = serde_json::from_slice(&records[&User::key("user7")].value).unwrap();
        assert_eq!((user.name.as_str(), user.pool.as_str()), ("user7", "east"));
        assert_eq!(user.ha1_md5.map(|hash| hash.len()), Some(32));
        let all = records.values().map(|record| String::from_utf8_lossy(&record.value)).collect::<String>();
        assert!(!all.contains("x-user7"));
        assert!(all.contains(r#""from":"7000""#), "{all}");
    }

    #[tokio::test]
    async fn a_filled_store_stays_as_it_is_and_what_is_new_in_the_file_is_named() {
        let store = MemoryStore::new();
        seed(&store, &config(&users(["alice".to_owned()]))).await.unwrap();
        let before = store.snapshot(ROOT);
        let again = seed(&store, &config(&users(["alice".to_owned(), "eve".to_owned()]))).await.unwrap();
        assert_eq!(again, Seeded::AlreadyFilled { only_in_file: vec!["user eve".to_owned()] });
        assert_eq!(store.snapshot(ROOT), before);
    }

    #[tokio::test]
    async fn a_store_that_was_half_filled_is_filled_again() {
        let store = MemoryStore::new();
        let alice = config(&users(["alice".to_owned()])).users.remove(0);
        commit(&store, vec![User::from_config(&alice, "example.test").put()]).await.unwrap();
        let seeded = seed(&store, &config(&users(["alice".to_owned(), "bob".to_owned()]))).await.unwrap();
        assert_eq!(seeded, Seeded::Filled { users: 2, ranges: 1 });
    }
}

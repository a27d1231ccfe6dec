//! Fills an empty store from the configuration file. After that the store is the truth, and the file only advises.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::json;

use crate::config::Config;
use crate::directory::User;
use crate::pool::PoolRecord;
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
    /// The store has its own.
    AlreadyFilled {
        /// What stands in the file but not in the store, and so does not exist: `user eve`.
        only_in_file: Vec<String>,
        /// What the file says of pools and the store does not: `pool west: its backup is north, not east`.
        otherwise: Vec<String>,
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
        return Ok(already_filled(&join(store, present, config).await?, config));
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
                return Ok(already_filled(&store.list(ROOT).await?, config));
            }
        }
    }
    Ok(Seeded::Filled { users: config.users.len(), ranges: config.orbits.len() })
}

/// A host whose pool the store does not know brings it along, and its backup, if that is new, too: so a deployment grows by
/// pools. A pair is mutual (RES-02): a pool that has another backup keeps it, and the new one has none until it takes the
/// place of that (`switchyard pool reassign`).
async fn join(store: &dyn Store, present: Snapshot, config: &Config) -> Result<Snapshot, StoreError> {
    let file = |name: &str| config.pools.iter().find(|pool| pool.name == name);
    let Some(own) = file(&config.host.pool).filter(|own| stored(&present, &own.name).is_none()) else {
        return Ok(present);
    };
    let backup = own.backup.as_deref();
    let known = backup.and_then(|backup| stored(&present, backup));
    let new = [Some(own), backup.and_then(file).filter(|_| known.is_none())];
    let mutual = known.is_none_or(|known| known.backup.as_ref() == Some(&own.name));
    let (mut expect, mut operations) = (Vec::new(), Vec::new());
    for pool in new.into_iter().flatten() {
        let backup = pool.backup.as_ref().filter(|_| mutual);
        expect.push((pool_key(&pool.name), Expect::Absent));
        operations.push(put(
            pool_key(&pool.name),
            &json!({ "name": pool.name, "fqdn": pool.fqdn, "backup": backup }),
        ));
        operations.push(put(epoch_key(&pool.name), &json!(1)));
    }
    // Another host of the pool may have been faster: then it is there all the same.
    store.commit(Transaction { expect, operations, ..Transaction::default() }).await?;
    store.list(ROOT).await
}

fn stored(present: &Snapshot, pool: &str) -> Option<PoolRecord> {
    serde_json::from_slice(&present.records.get(&pool_key(pool))?.value).ok()
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

fn already_filled(present: &Snapshot, config: &Config) -> Seeded {
    let otherwise = config.pools.iter().filter_map(|pool| {
        let stored = stored(present, &pool.name)?;
        let word = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
        if let Some(by) = &stored.replaced_by {
            return Some(format!("pool {}: it was replaced by {by}", pool.name));
        }
        (stored.backup != pool.backup).then(|| {
            format!("pool {}: its backup is {}, not {}", pool.name, word(&stored.backup), word(&pool.backup))
        })
    });
    Seeded::AlreadyFilled { only_in_file: only_in_file(present, config), otherwise: otherwise.collect() }
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
        let only_in_file = vec!["user eve".to_owned()];
        assert_eq!(again, Seeded::AlreadyFilled { only_in_file, otherwise: Vec::new() });
        assert_eq!(store.snapshot(ROOT), before);
    }

    /// What the store says of a pool: its backup, and what has taken its place.
    fn pair(store: &MemoryStore, pool: &str) -> Option<(Option<String>, Option<String>)> {
        stored(&store.snapshot(ROOT), pool).map(|record| (record.backup, record.replaced_by))
    }

    fn pools(own: &str, pools: &[(&str, Option<&str>)]) -> Config {
        let mut config = config("");
        config.host.pool = own.into();
        let pool = |(name, backup): &(&str, Option<&str>)| crate::config::Pool {
            name: (*name).into(),
            fqdn: None,
            contact_by_name: false,
            backup: backup.map(str::to_owned),
        };
        config.pools = pools.iter().map(pool).collect();
        config
    }

    #[tokio::test]
    async fn a_host_of_a_new_pool_brings_it_along_and_its_file_takes_nobody_s_pair_away() {
        let store = MemoryStore::new();
        let old = pools("east", &[("east", Some("west")), ("west", Some("east"))]);
        seed(&store, &old).await.unwrap();
        let new = pools("north", &[("north", Some("west")), ("west", Some("north"))]);
        let Seeded::AlreadyFilled { otherwise, .. } = seed(&store, &new).await.unwrap() else { panic!() };
        assert_eq!(
            otherwise,
            ["pool north: its backup is none, not west", "pool west: its backup is east, not north"]
        );
        assert_eq!(pair(&store, "north"), Some((None, None)));
        assert_eq!(pair(&store, "west"), Some((Some("east".into()), None)));
        assert_eq!(store.snapshot(ROOT).records[&epoch_key("north")].value, "1");
        // Two that are new may be a pair.
        let both = pools("far", &[("far", Some("away")), ("away", Some("far"))]);
        seed(&store, &both).await.unwrap();
        assert_eq!(pair(&store, "away"), Some((Some("far".into()), None)));
    }

    #[tokio::test]
    async fn an_old_file_brings_no_pool_back_that_was_replaced() {
        let store = MemoryStore::new();
        let old = pools("east", &[("east", Some("west")), ("west", Some("east"))]);
        seed(&store, &old).await.unwrap();
        let records =
            [json!({ "name": "east", "replaced_by": "north" }), json!({ "name": "west", "backup": "north" })];
        let puts = records.iter().map(|record| put(pool_key(record["name"].as_str().unwrap()), record));
        commit(&store, puts.collect()).await.unwrap();
        let before = store.snapshot(ROOT);
        let Seeded::AlreadyFilled { otherwise, .. } = seed(&store, &old).await.unwrap() else { panic!() };
        assert_eq!(
            otherwise,
            ["pool east: it was replaced by north", "pool west: its backup is north, not east"]
        );
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

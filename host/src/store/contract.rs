//! What every store must do: one suite, run against each implementation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::keys::{host_key, hosts_prefix};
use super::{
    Change, Durability, Expect, HostIdentity, MemoryStore, OPERATIONS_MAX, Operation, Outcome, ROOT,
    RedbStore, Snapshot, Standing, Store, StoreError, Transaction,
};

/// Runs every named test of this module against every store.
macro_rules! against_every_store {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::MemoryStore::new()).await;
            })*
        }
        mod embedded {
            $(#[tokio::test]
            async fn $test() {
                let directory = tempfile::tempdir().unwrap();
                super::$test(super::RedbStore::open(directory.path().join("store.redb")).unwrap()).await;
            })*
        }
        /// One after the other, since they share a server: starting one takes longer than all of them.
        #[cfg(feature = "etcd")]
        #[tokio::test(flavor = "multi_thread")]
        async fn etcd() {
            let cluster = super::etcd::cluster::Cluster::start(1).await;
            $({
                eprintln!(stringify!($test));
                $test(cluster.empty().await).await;
            })*
        }
    };
}

against_every_store!(
    a_record_is_read_back,
    revisions_only_grow,
    absent_is_a_lock,
    present_demands_a_record,
    a_revision_is_a_fencing_token,
    all_or_nothing,
    a_conflict_shows_every_expected_key,
    an_expectation_alone_is_a_look,
    delete_removes_and_forgives,
    a_prefix_is_listed_in_key_order,
    rules_are_enforced,
    one_of_many_claimants_wins,
    concurrent_increments_are_not_lost,
    a_watch_sees_every_change_in_order,
    a_watch_resumes_where_the_list_ended,
    a_watch_sees_only_its_prefix,
    a_slow_watcher_holds_nobody_up_and_ends_up_right,
    a_dropped_watch_harms_nobody,
    values_are_bytes,
    a_host_is_enlisted_with_a_token_of_this_life,
);

fn key(name: &str) -> String {
    format!("{ROOT}test/{name}")
}

fn put(name: &str, value: impl AsRef<[u8]>) -> Operation {
    Operation::Put { key: key(name), value: Bytes::copy_from_slice(value.as_ref()) }
}

fn delete(name: &str) -> Operation {
    Operation::Delete { key: key(name) }
}

fn when(expect: &[(&str, Expect)], operations: Vec<Operation>) -> Transaction {
    let expect = expect.iter().map(|(name, expect)| (key(name), *expect)).collect();
    Transaction { expect, operations, durability: Durability::Durable }
}

fn relaxed(operations: Vec<Operation>) -> Transaction {
    Transaction { expect: Vec::new(), operations, durability: Durability::Relaxed }
}

async fn committed(store: &impl Store, transaction: Transaction) -> u64 {
    match store.commit(transaction).await.unwrap() {
        Outcome::Committed { revision } => revision,
        Outcome::Conflict { current } => panic!("conflict: {current:?}"),
    }
}

async fn conflict(store: &impl Store, transaction: Transaction) -> Vec<(String, Option<(String, u64)>)> {
    match store.commit(transaction).await.unwrap() {
        Outcome::Committed { .. } => panic!("committed"),
        Outcome::Conflict { current } => current
            .into_iter()
            .map(|(key, record)| {
                (key, record.map(|record| (String::from_utf8_lossy(&record.value).into(), record.revision)))
            })
            .collect(),
    }
}

async fn values(store: &impl Store, prefix: &str) -> BTreeMap<String, String> {
    texts(&store.list(prefix).await.unwrap())
}

fn texts(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let text = |record: &super::Record| String::from_utf8_lossy(&record.value).into_owned();
    let short = |key: &String| key.trim_start_matches(&key_prefix()).to_string();
    snapshot.records.iter().map(|(key, record)| (short(key), text(record))).collect()
}

fn key_prefix() -> String {
    key("")
}

async fn next(watch: &mut Receiver<Change>) -> (String, Option<String>) {
    let change =
        timeout(Duration::from_secs(20), watch.recv()).await.expect("a change").expect("a live watch");
    let value = change.record.map(|record| String::from_utf8_lossy(&record.value).into_owned());
    (change.key.trim_start_matches(&key_prefix()).to_string(), value)
}

async fn watch_from_now(store: &impl Store, prefix: &str) -> Receiver<Change> {
    let now = store.list(prefix).await.unwrap().revision;
    store.watch(prefix, now).await.unwrap()
}

fn change(name: &str, value: &str) -> (String, Option<String>) {
    (name.to_string(), Some(value.to_string()))
}

fn gone(name: &str) -> (String, Option<String>) {
    (name.to_string(), None)
}

async fn a_record_is_read_back(store: impl Store) {
    let revision = committed(&store, when(&[], vec![put("a", "1")])).await;
    let snapshot = store.list(ROOT).await.unwrap();
    assert_eq!(snapshot.records[&key("a")].revision, revision);
    assert_eq!(snapshot.revision, revision);
    assert_eq!(texts(&snapshot), BTreeMap::from([("a".into(), "1".into())]));
}

async fn revisions_only_grow(store: impl Store) {
    let mut last = store.list(ROOT).await.unwrap().revision;
    for step in [
        vec![put("a", "1"), put("b", "1")],
        vec![put("a", "2")],
        vec![delete("a")],
        vec![delete("never-there"), put("b", "2")],
        vec![put("a", "3")],
    ] {
        let revision = committed(&store, when(&[], step)).await;
        assert!(revision > last, "{revision} after {last}");
        last = revision;
    }
    assert!(committed(&store, relaxed(vec![put("c", "1")])).await > last);
}

async fn absent_is_a_lock(store: impl Store) {
    let first = committed(&store, when(&[("lock", Expect::Absent)], vec![put("lock", "ana")])).await;
    let lost = conflict(&store, when(&[("lock", Expect::Absent)], vec![put("lock", "bob")])).await;
    assert_eq!(lost, [(key("lock"), Some(("ana".into(), first)))]);
    committed(&store, when(&[("lock", Expect::Revision(first))], vec![delete("lock")])).await;
    committed(&store, when(&[("lock", Expect::Absent)], vec![put("lock", "bob")])).await;
}

async fn present_demands_a_record(store: impl Store) {
    assert_eq!(
        conflict(&store, when(&[("a", Expect::Present)], vec![put("b", "1")])).await,
        [(key("a"), None)]
    );
    committed(&store, when(&[], vec![put("a", "1")])).await;
    committed(&store, when(&[("a", Expect::Present)], vec![put("b", "1")])).await;
}

async fn a_revision_is_a_fencing_token(store: impl Store) {
    let first = committed(&store, when(&[], vec![put("a", "1")])).await;
    let second = committed(&store, when(&[("a", Expect::Revision(first))], vec![put("a", "2")])).await;
    let late = conflict(&store, when(&[("a", Expect::Revision(first))], vec![put("a", "late")])).await;
    assert_eq!(late, [(key("a"), Some(("2".into(), second)))]);
    committed(&store, when(&[], vec![delete("a")])).await;
    let after = committed(&store, when(&[("a", Expect::Absent)], vec![put("a", "3")])).await;
    // A key that was removed and written again does not get an old revision back.
    assert!(after > second);
    conflict(&store, when(&[("a", Expect::Revision(second))], vec![put("a", "late")])).await;
    assert_eq!(values(&store, ROOT).await, BTreeMap::from([("a".into(), "3".into())]));
}

async fn all_or_nothing(store: impl Store) {
    committed(&store, when(&[], vec![put("kept", "1"), put("there", "1")])).await;
    let before = store.list(ROOT).await.unwrap();
    let transaction = when(
        &[("there", Expect::Present), ("not-there", Expect::Present)],
        vec![put("new", "1"), delete("kept"), put("there", "2")],
    );
    conflict(&store, transaction).await;
    assert_eq!(store.list(ROOT).await.unwrap(), before);

    let revision =
        committed(&store, when(&[], vec![put("new", "1"), delete("kept"), put("there", "2")])).await;
    let after = store.list(ROOT).await.unwrap();
    assert_eq!(texts(&after), BTreeMap::from([("new".into(), "1".into()), ("there".into(), "2".into())]));
    assert!(after.records.values().all(|record| record.revision == revision));
}

async fn a_conflict_shows_every_expected_key(store: impl Store) {
    let a = committed(&store, when(&[], vec![put("a", "1")])).await;
    let c = committed(&store, when(&[], vec![put("c", "1")])).await;
    let expect = [("c", Expect::Revision(c)), ("b", Expect::Absent), ("a", Expect::Revision(a + 100))];
    let current = conflict(&store, when(&expect, vec![put("d", "1")])).await;
    assert_eq!(
        current,
        [(key("c"), Some(("1".into(), c))), (key("b"), None), (key("a"), Some(("1".into(), a)))]
    );
}

async fn an_expectation_alone_is_a_look(store: impl Store) {
    let written = committed(&store, when(&[], vec![put("a", "1")])).await;
    // Nothing is written, so nothing gets a new revision.
    assert_eq!(committed(&store, when(&[("b", Expect::Absent)], vec![])).await, written);
    assert_eq!(committed(&store, when(&[], vec![])).await, written);
    assert_eq!(
        conflict(&store, when(&[("a", Expect::Absent)], vec![])).await,
        [(key("a"), Some(("1".into(), written)))]
    );
}

async fn delete_removes_and_forgives(store: impl Store) {
    committed(&store, when(&[], vec![put("a", "1")])).await;
    committed(&store, when(&[], vec![delete("a")])).await;
    committed(&store, when(&[], vec![delete("a"), delete("never")])).await;
    assert!(values(&store, ROOT).await.is_empty());
}

async fn a_prefix_is_listed_in_key_order(store: impl Store) {
    let names = ["b/2", "a/1", "b/1", "b", "bb", "c"];
    committed(&store, when(&[], names.map(|name| put(name, "x")).into())).await;
    let snapshot = store.list(&key("b/")).await.unwrap();
    let keys: Vec<_> = snapshot.records.keys().cloned().collect();
    assert_eq!(keys, [key("b/1"), key("b/2")]);
    assert_eq!(store.list(&key("b")).await.unwrap().records.len(), 4);
    assert_eq!(store.list(&key("none")).await.unwrap().records.len(), 0);
    let all = store.list(ROOT).await.unwrap();
    assert!(all.under(&key("b/")).map(|(key, _)| key.clone()).eq(keys));
}

async fn rules_are_enforced(store: impl Store) {
    let many = |n: usize| (0..n).map(|i| put(&format!("k{i}"), "x")).collect::<Vec<_>>();
    committed(&store, when(&[], many(OPERATIONS_MAX))).await;
    let expect_many = (0..=OPERATIONS_MAX).map(|i| (key(&format!("k{i}")), Expect::Present)).collect();
    for bad in [
        when(&[], many(OPERATIONS_MAX + 1)),
        Transaction { expect: expect_many, ..Transaction::default() },
        Transaction {
            operations: vec![Operation::Delete { key: "/elsewhere/a".into() }],
            ..Transaction::default()
        },
        Transaction { expect: vec![("elsewhere".into(), Expect::Absent)], ..Transaction::default() },
        when(&[], vec![put("twice", "1"), put("twice", "2")]),
        when(&[], vec![put("twice", "1"), delete("twice")]),
    ] {
        assert!(matches!(store.commit(bad.clone()).await, Err(StoreError::Invalid(_))), "{bad:?}");
    }
    assert_eq!(store.list(ROOT).await.unwrap().records.len(), OPERATIONS_MAX);
}

async fn one_of_many_claimants_wins(store: impl Store) {
    let store = Arc::new(store);
    for round in 0..20 {
        let lock = format!("lock{round}");
        let claims: Vec<_> = (0..16)
            .map(|who| {
                let (store, lock) = (Arc::clone(&store), lock.clone());
                let operation = put(&lock, format!("{who}"));
                let claim = when(&[(&lock, Expect::Absent)], vec![operation]);
                tokio::spawn(async move { store.commit(claim).await.unwrap() })
            })
            .collect();
        let mut winners = 0;
        for claim in claims {
            winners += usize::from(matches!(claim.await.unwrap(), Outcome::Committed { .. }));
        }
        assert_eq!(winners, 1);
    }
}

async fn concurrent_increments_are_not_lost(store: impl Store) {
    let store = Arc::new(store);
    let start = committed(&*store, when(&[], vec![put("n", "0")])).await;
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let (mut value, mut revision) = (0u32, start);
                for _ in 0..10 {
                    loop {
                        let next = put("n", format!("{}", value + 1));
                        match store
                            .commit(when(&[("n", Expect::Revision(revision))], vec![next]))
                            .await
                            .unwrap()
                        {
                            Outcome::Committed { revision: now } => {
                                (value, revision) = (value + 1, now);
                                break;
                            }
                            Outcome::Conflict { current } => {
                                let record = current[0].1.clone().unwrap();
                                value = std::str::from_utf8(&record.value).unwrap().parse().unwrap();
                                revision = record.revision;
                            }
                        }
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(values(&*store, ROOT).await["n"], "40");
}

async fn a_watch_sees_every_change_in_order(store: impl Store) {
    let mut watch = watch_from_now(&store, ROOT).await;
    committed(&store, when(&[], vec![put("a", "1"), put("b", "1")])).await;
    committed(&store, relaxed(vec![put("a", "2")])).await;
    conflict(&store, when(&[("a", Expect::Absent)], vec![put("a", "no")])).await;
    let last = committed(&store, when(&[], vec![delete("a"), delete("never"), put("c", "1")])).await;
    assert_eq!(next(&mut watch).await, change("a", "1"));
    assert_eq!(next(&mut watch).await, change("b", "1"));
    assert_eq!(next(&mut watch).await, change("a", "2"));
    assert_eq!(next(&mut watch).await, gone("a"));
    let change = timeout(Duration::from_secs(20), watch.recv()).await.unwrap().unwrap();
    assert_eq!((change.key, change.record.map(|record| record.revision)), (key("c"), Some(last)));
    assert!(watch.try_recv().is_err());
}

async fn a_watch_resumes_where_the_list_ended(store: impl Store) {
    committed(&store, when(&[], vec![put("old", "1"), put("going", "1")])).await;
    let snapshot = store.list(ROOT).await.unwrap();
    // Between the list and the watch:
    committed(&store, when(&[], vec![put("between", "1"), delete("going")])).await;
    let mut watch = store.watch(ROOT, snapshot.revision).await.unwrap();
    committed(&store, when(&[], vec![put("after", "1")])).await;
    assert_eq!(next(&mut watch).await, change("between", "1"));
    assert_eq!(next(&mut watch).await, gone("going"));
    assert_eq!(next(&mut watch).await, change("after", "1"));
}

async fn a_watch_sees_only_its_prefix(store: impl Store) {
    let mut watch = watch_from_now(&store, &key("b/")).await;
    committed(&store, when(&[], vec![put("a", "1"), put("b/1", "1"), put("bb", "1"), put("c", "1")])).await;
    committed(&store, when(&[], vec![put("c", "2")])).await;
    committed(&store, when(&[], vec![delete("b/1")])).await;
    assert_eq!(next(&mut watch).await, change("b/1", "1"));
    assert_eq!(next(&mut watch).await, gone("b/1"));
}

async fn a_slow_watcher_holds_nobody_up_and_ends_up_right(store: impl Store) {
    let mut watch = watch_from_now(&store, ROOT).await;
    // Far more than a receiver's queue; nobody reads.
    for i in 0..1500u32 {
        let operations =
            vec![put(&format!("k{}", i % 7), format!("{i}")), delete(&format!("k{}", (i + 3) % 7))];
        committed(&store, relaxed(operations)).await;
    }
    committed(&store, when(&[], vec![put("end", "1")])).await;
    let mut seen = BTreeMap::new();
    loop {
        let (name, value) = next(&mut watch).await;
        let ended = name == "end";
        match value {
            Some(value) => seen.insert(name, value),
            None => seen.remove(&name),
        };
        if ended {
            break;
        }
    }
    assert_eq!(seen, values(&store, ROOT).await);
}

async fn a_dropped_watch_harms_nobody(store: impl Store) {
    let watch = watch_from_now(&store, ROOT).await;
    let mut other = watch_from_now(&store, ROOT).await;
    drop(watch);
    committed(&store, when(&[], vec![put("a", "1")])).await;
    assert_eq!(next(&mut other).await, change("a", "1"));
}

async fn values_are_bytes(store: impl Store) {
    let odd: Vec<u8> = (0..=255).collect();
    committed(&store, when(&[], vec![put("odd", &odd), put("empty", "")])).await;
    let snapshot = store.list(ROOT).await.unwrap();
    assert_eq!(snapshot.records[&key("odd")].value, odd);
    assert_eq!(snapshot.records[&key("empty")].value, "");
}

async fn a_host_is_enlisted_with_a_token_of_this_life(store: impl Store) {
    let host = HostIdentity { name: "fe1".into(), id: "1".into(), ..HostIdentity::default() };
    let token = |standing: &tokio::sync::watch::Receiver<Standing>| match *standing.borrow() {
        Standing::Live { revision } => revision,
        Standing::Lapsed => panic!("lapsed"),
    };
    let write = |revision| Transaction {
        expect: vec![(host_key("fe1"), Expect::Revision(revision))],
        operations: vec![put("a", "1")],
        ..Transaction::default()
    };
    let first = token(&store.enlist(&host).await.unwrap());
    assert_eq!(store.list(&hosts_prefix()).await.unwrap().records[&host_key("fe1")].revision, first);
    committed(&store, write(first)).await;
    // The process is gone without a word, and starts again.
    let second = token(&store.enlist(&host).await.unwrap());
    assert!(second > first);
    assert_eq!(conflict(&store, write(first)).await[0].1.as_ref().unwrap().1, second);
    committed(&store, write(second)).await;
    store.resign().await;
}

#[tokio::test]
async fn a_watcher_that_is_behind_a_forgetful_store_gets_the_difference() {
    let store = MemoryStore::forgetful(4);
    committed(&store, when(&[], vec![put("goes", "1"), put("stays", "1"), put("changes", "1")])).await;
    let start = store.list(ROOT).await.unwrap();
    let mut watch = store.watch(ROOT, start.revision).await.unwrap();
    // The watching task has not run yet when all this has happened and most of it is forgotten.
    for i in 0..50 {
        store.apply(&relaxed(vec![put("changes", format!("{i}"))])).unwrap();
    }
    store.apply(&relaxed(vec![delete("goes"), put("comes", "1")])).unwrap();
    for i in 50..60 {
        store.apply(&relaxed(vec![put("changes", format!("{i}"))])).unwrap();
    }
    assert_eq!(next(&mut watch).await, gone("goes"));
    assert_eq!(next(&mut watch).await, change("comes", "1"));
    assert_eq!(next(&mut watch).await, change("changes", "59"));
    store.apply(&relaxed(vec![delete("stays")])).unwrap();
    assert_eq!(next(&mut watch).await, gone("stays"));
}

#[tokio::test]
async fn a_watch_from_a_forgotten_revision_is_told_to_list_again() {
    let store = MemoryStore::forgetful(2);
    for i in 0..10 {
        store.apply(&relaxed(vec![put("a", format!("{i}"))])).unwrap();
    }
    let error = store.watch(ROOT, 3).await.unwrap_err();
    assert_eq!(error.to_string(), "bad store request: changes since revision 3 are forgotten; list again");
    assert!(store.watch(ROOT, 8).await.is_ok());
}

#[tokio::test]
async fn a_transaction_is_forgotten_as_a_whole() {
    let store = MemoryStore::forgetful(2);
    store.apply(&relaxed(vec![put("a", "1"), put("b", "1"), put("c", "1")])).unwrap();
    // Two of its three changes would fit, but they alone are not what happened since revision 0.
    assert!(store.watch(ROOT, 0).await.is_err());
    assert!(store.watch(ROOT, 1).await.is_ok());
}

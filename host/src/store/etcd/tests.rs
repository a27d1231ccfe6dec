//! What only etcd can suffer: members that die, restart or stand still, compaction, lost leases. Against real members.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::CompactionOptions;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::time::timeout;

use super::cluster::{Cable, Cluster, LEASE, answers, open, options};
use super::*;
use crate::store::keys::host_key;
use crate::store::{Durability, ROOT};

/// Whatever is waited for may take ten times as long as ever seen.
const LONG: Duration = Duration::from_secs(40);

fn key(name: &str) -> String {
    format!("{ROOT}test/{name}")
}

fn put(name: &str, value: &str) -> Transaction {
    let operations = vec![Operation::Put { key: key(name), value: Bytes::copy_from_slice(value.as_bytes()) }];
    Transaction { expect: Vec::new(), operations, durability: Durability::Durable }
}

fn expecting(key: String, expect: Expect, then: Transaction) -> Transaction {
    Transaction { expect: vec![(key, expect)], ..then }
}

fn delete(name: &str) -> Transaction {
    Transaction { operations: vec![Operation::Delete { key: key(name) }], ..Transaction::default() }
}

async fn written(store: &EtcdStore, transaction: Transaction) -> u64 {
    match store.commit(transaction).await {
        Ok(Outcome::Committed { revision }) => revision,
        other => panic!("{other:?}"),
    }
}

/// What a watch leaves behind once it has told of `end`.
async fn follow(watch: &mut Receiver<Change>, end: &str) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    loop {
        let change = timeout(LONG, watch.recv()).await.expect("a change").expect("a live watch");
        let ended = change.key == key(end);
        match change.record {
            Some(record) => seen.insert(change.key, String::from_utf8_lossy(&record.value).into_owned()),
            None => seen.remove(&change.key),
        };
        if ended {
            return seen;
        }
    }
}

async fn values(store: &EtcdStore) -> BTreeMap<String, String> {
    let records = store.list(&key("")).await.unwrap().records;
    records.into_iter().map(|(key, r)| (key, String::from_utf8_lossy(&r.value).into_owned())).collect()
}

async fn until(standing: &mut watch::Receiver<Standing>, wanted: impl FnMut(&Standing) -> bool) -> Standing {
    *timeout(LONG, standing.wait_for(wanted)).await.expect("a change of standing").unwrap()
}

fn host(name: &str, id: &str) -> HostIdentity {
    HostIdentity { name: name.into(), id: id.into(), ..HostIdentity::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_costs_a_moment_and_no_change() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    // The leader is the member in use.
    let mut endpoints = cluster.endpoints();
    endpoints.swap(0, leader);
    let store = open(vec![endpoints[0].clone()]).await;
    assert!(store.members.live(PATIENCE).await.is_ok());
    let store = open(endpoints).await;
    let mut watch = store.watch(&key(""), 0).await.unwrap();
    let revision = written(&store, put("lock", "mine")).await;
    for number in 0..20 {
        written(&store, put(&format!("before{number}"), "1")).await;
    }
    cluster.kill(leader);
    for number in 0..20 {
        written(&store, put(&format!("after{number}"), "1")).await;
    }
    written(&store, expecting(key("lock"), Expect::Revision(revision), put("lock", "still mine"))).await;
    cluster.launch(leader);
    answers(&cluster.endpoint(leader)).await;
    written(&store, put("end", "1")).await;
    let seen = follow(&mut watch, "end").await;
    assert_eq!(seen.len(), 42);
    assert_eq!(seen, values(&store).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_stands_still_is_left_for_another() {
    let cluster = Cluster::start(3).await;
    let store = cluster.open().await;
    let mut watch = store.watch(&key(""), 0).await.unwrap();
    written(&store, put("a", "1")).await;
    let chosen = store.members.live(PATIENCE).await.unwrap();
    let place = cluster.endpoints().iter().position(|endpoint| *endpoint == chosen.endpoint()).unwrap();
    cluster.signal(place, "-STOP");
    written(&store, put("b", "2")).await;
    written(&store, put("end", "1")).await;
    let seen = follow(&mut watch, "end").await;
    cluster.signal(place, "-CONT");
    assert_eq!(seen, values(&store).await);
}

/// All hosts but one ask the member that stands still, at different moments of their leases; where that is the leader, renewals
/// and reads hang at the others too.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_stands_still_for_longer_than_the_lease_fences_nobody() {
    // The lease hosts have by default: with a shorter one there is no time left for an election.
    const LEASE: Duration = Duration::from_secs(10);
    let mut cluster = Cluster::start(3).await;
    let mut hosts = Vec::new();
    for name in ["fe1", "fe2", "fe3", "fe4"] {
        let options = EtcdOptions { lease: LEASE, ..options(cluster.endpoints()) };
        let store = EtcdStore::open(&options).await.unwrap();
        let standing = store.enlist(&host(name, name)).await.unwrap();
        hosts.push((store, standing));
        // A quarter of what lies between two renewals.
        tokio::time::sleep(LEASE / 12).await;
    }
    for still in 0..3 {
        let leads = cluster.leader().await == still;
        for (place, (store, _)) in hosts.iter().enumerate() {
            store.members.choose(Some(if place == 0 { (still + 1) % 3 } else { still }));
        }
        cluster.signal(still, "-STOP");
        tokio::time::sleep(LEASE + Duration::from_secs(1)).await;
        let lapsed: Vec<_> = hosts.iter().map(|(_, standing)| standing.has_changed().unwrap()).collect();
        assert_eq!(lapsed, [false; 4], "member {still}, leader: {leads}");
        if leads {
            // One that wakes up as a leader of old revokes what it has heard no renewals of (etcd before 3.4.31 and 3.5.13).
            cluster.kill(still);
            cluster.launch(still);
        } else {
            cluster.signal(still, "-CONT");
        }
        answers(&cluster.endpoint(still)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_after_the_only_member_was_restarted() {
    let mut cluster = Cluster::start(1).await;
    let store = cluster.open().await;
    let mut watch = store.watch(&key(""), 0).await.unwrap();
    written(&store, put("a", "1")).await;
    cluster.kill(0);
    assert!(matches!(
        store.commit(expecting(key("a"), Expect::Present, put("a", "2"))).await,
        Err(StoreError::Unavailable(_))
    ));
    cluster.launch(0);
    answers(&cluster.endpoint(0)).await;
    written(&store, put("b", "1")).await;
    written(&store, delete("a")).await;
    written(&store, put("end", "1")).await;
    assert_eq!(follow(&mut watch, "end").await, values(&store).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_missed_compacted_history_tells_the_difference() {
    let cluster = Cluster::start(1).await;
    let cable = Cable::to(&cluster.endpoint(0)).await;
    let store = open(vec![cable.endpoint.clone()]).await;
    for name in ["goes", "stays", "changes"] {
        written(&store, put(name, "1")).await;
    }
    let start = store.list(&key("")).await.unwrap();
    let mut watch = store.watch(&key(""), start.revision).await.unwrap();
    written(&store, put("changes", "2")).await;
    let seen = timeout(LONG, watch.recv()).await.unwrap().unwrap();
    assert_eq!(seen.key, key("changes"));

    cable.pull();
    let beside = cluster.open().await;
    written(&beside, delete("goes")).await;
    written(&beside, put("comes", "1")).await;
    written(&beside, put("passes", "1")).await;
    written(&beside, delete("passes")).await;
    let last = written(&beside, put("changes", "3")).await;
    let compaction = CompactionOptions::new().with_physical();
    cluster.client(0).await.compact(signed(last), Some(compaction)).await.unwrap();
    let forgotten = beside.watch(&key(""), start.revision).await.unwrap_err();
    assert!(forgotten.to_string().ends_with("are forgotten; list again"), "{forgotten}");
    cable.plug();

    let mut changes = Vec::new();
    for _ in 0..3 {
        let change = timeout(LONG, watch.recv()).await.expect("a change").unwrap();
        changes.push((
            change.key,
            change.record.map(|record| String::from_utf8_lossy(&record.value).into_owned()),
        ));
    }
    let some = |name: &str, value: &str| (key(name), Some(value.to_owned()));
    assert_eq!(changes, [(key("goes"), None), some("comes", "1"), some("changes", "3")]);
    written(&beside, put("end", "1")).await;
    assert_eq!(follow(&mut watch, "end").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_cut_off_knows_before_the_others_and_comes_back() {
    let cluster = Cluster::start(1).await;
    let cable = Cable::to(&cluster.endpoint(0)).await;
    let store = open(vec![cable.endpoint.clone()]).await;
    let mut standing = store.enlist(&host("fe1", "1")).await.unwrap();
    let Standing::Live { revision: first } = *standing.borrow_and_update() else { panic!() };
    // Longer than a lease: it is renewed.
    tokio::time::sleep(LEASE * 2).await;
    assert_eq!(*standing.borrow(), Standing::Live { revision: first });

    cable.pull();
    let beside = cluster.open().await;
    until(&mut standing, |now| *now == Standing::Lapsed).await;
    // Nobody could have taken its place yet.
    let records = beside.list(&host_key("fe1")).await.unwrap().records;
    assert_eq!(records.values().map(|record| record.revision).collect::<Vec<_>>(), [first]);
    for _ in 0..100 {
        if beside.list(&host_key("fe1")).await.unwrap().records.is_empty() {
            break;
        }
        tokio::time::sleep(LEASE / 10).await;
    }
    assert!(beside.list(&host_key("fe1")).await.unwrap().records.is_empty());

    cable.plug();
    let Standing::Live { revision: second } = until(&mut standing, |now| *now != Standing::Lapsed).await
    else {
        panic!()
    };
    assert!(second > first);
    // What the earlier life still had under way is refused.
    let late = store.commit(expecting(host_key("fe1"), Expect::Revision(first), put("a", "late"))).await;
    assert!(matches!(late, Ok(Outcome::Conflict { .. })), "{late:?}");
    written(&store, expecting(host_key("fe1"), Expect::Revision(second), put("a", "1"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_is_noticed_and_replaced() {
    let cluster = Cluster::start(1).await;
    let store = cluster.open().await;
    let mut standing = store.enlist(&host("fe1", "1")).await.unwrap();
    let first = *standing.borrow_and_update();
    let mut client = cluster.client(0).await;
    let lease = client.get(host_key("fe1"), None).await.unwrap().kvs()[0].lease();
    client.lease_revoke(lease).await.unwrap();
    let second = until(&mut standing, |now| *now != first && *now != Standing::Lapsed).await;
    assert_ne!(first, second);
    // A record somebody removes by hand is as good as a lost lease.
    client.delete(host_key("fe1"), None).await.unwrap();
    until(&mut standing, |now| *now != second && *now != Standing::Lapsed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_living_hosts_cannot_have_one_name_and_a_restarted_one_need_not_wait() {
    let cluster = Cluster::start(1).await;
    let (first, second) = (cluster.open().await, cluster.open().await);
    let mut standing = first.enlist(&host("fe1", "1")).await.unwrap();
    let other = second.enlist(&host("fe1", "2")).await.unwrap_err();
    assert!(other.to_string().starts_with("another host named \"fe1\" is alive in this store"), "{other}");
    // The same host again: its data folder says so, and its first life is over.
    let again = second.enlist(&host("fe1", "1")).await.unwrap();
    assert!(matches!(*again.borrow(), Standing::Live { .. }));
    drop(again);
    first.resign().await;
    assert!(standing.has_changed().is_err() || *standing.borrow_and_update() != Standing::Lapsed);
    second.resign().await;
    assert!(first.list(&host_key("fe1")).await.unwrap().records.is_empty());
    first.enlist(&host("fe1", "2")).await.unwrap();
}

/// A cloned machine: whoever starts later has the name, and the other does not fight for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_data_was_copied_gives_way_and_stays_fenced() {
    let cluster = Cluster::start(1).await;
    let (first, copy) = (cluster.empty().await, cluster.open().await);
    let mut standing = first.enlist(&host("fe1", "a")).await.unwrap();
    let mut copied = copy.enlist(&host("fe1", "a")).await.unwrap();
    until(&mut standing, |now| *now == Standing::Lapsed).await;
    let calm = timeout(LEASE * 3, async {
        tokio::select! { _ = standing.changed() => {}, _ = copied.changed() => {} }
    });
    assert!(calm.await.is_err(), "{:?} {:?}", *standing.borrow(), *copied.borrow());
    // Once the copy is gone the name is free.
    copy.resign().await;
    until(&mut standing, |now| matches!(now, Standing::Live { .. })).await;
}

/// What a host knows of a store that has gone back never was: it must not write any more before it has read everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_store_was_restored_from_a_backup_is_fenced_until_it_starts_anew() {
    let mut cluster = Cluster::start(1).await;
    let store = cluster.empty().await;
    let mut standing = store.enlist(&host("fe1", "a")).await.unwrap();
    cluster.kill(0);
    cluster.backup(0);
    cluster.launch(0);
    answers(&cluster.endpoint(0)).await;
    for number in 0..5 {
        written(&store, put("user/a", &number.to_string())).await;
    }
    // The next look at the host's record sees that revision.
    tokio::time::sleep(LEASE).await;
    cluster.kill(0);
    cluster.restore(0);
    cluster.launch(0);
    answers(&cluster.endpoint(0)).await;
    until(&mut standing, |now| *now == Standing::Lapsed).await;
    assert!(timeout(LONG, standing.changed()).await.unwrap().is_err(), "for good");
    let anew = cluster.open().await;
    let standing = anew.enlist(&host("fe1", "a")).await.unwrap();
    assert!(matches!(*standing.borrow(), Standing::Live { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_not_there_is_named() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let error = EtcdStore::open(&options(vec![endpoint.clone()])).await.unwrap_err().to_string();
    assert!(
        error.starts_with("the store is away: no etcd member answers (") && error.contains(&endpoint),
        "{error}"
    );
    assert!(error.contains("onnection refused"), "{error}");
}

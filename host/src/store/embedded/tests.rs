//! What only the embedded store has: a file.

use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{BackendError, Database, StorageBackend};

use super::file::{File, set_layout};
use super::*;
use crate::store::{Durability, Expect, Operation, ROOT};

fn put(name: &str, value: &str, durability: Durability) -> Transaction {
    let key = format!("{ROOT}test/{name}");
    let operations = vec![Operation::Put { key, value: Bytes::copy_from_slice(value.as_bytes()) }];
    Transaction { expect: Vec::new(), operations, durability }
}

async fn write(store: &RedbStore, name: &str, durability: Durability) -> u64 {
    match store.commit(put(name, "1", durability)).await.unwrap() {
        Outcome::Committed { revision } => revision,
        Outcome::Conflict { .. } => panic!("a conflict"),
    }
}

async fn names(store: &RedbStore) -> Vec<String> {
    let snapshot = store.list(ROOT).await.unwrap();
    snapshot.records.keys().map(|key| key.trim_start_matches("/switchyard/v1/test/").to_string()).collect()
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep").join("down").join("store.redb");
    (directory, path)
}

#[tokio::test]
async fn records_and_revisions_survive_a_restart() {
    let (_directory, path) = file();
    let store = RedbStore::open(&path).unwrap();
    let a = write(&store, "a", Durability::Durable).await;
    let b = write(&store, "b", Durability::Relaxed).await;
    drop(store);

    let store = RedbStore::open(&path).unwrap();
    let snapshot = store.list(ROOT).await.unwrap();
    let revisions: Vec<_> = snapshot.records.values().map(|record| record.revision).collect();
    assert_eq!((snapshot.revision, revisions), (b, vec![a, b]));
    assert!(write(&store, "c", Durability::Durable).await > b);
    // A watch from the restart on misses nothing; one from before is told to list again.
    assert!(store.watch(ROOT, b).await.is_ok());
    assert!(store.watch(ROOT, a).await.is_err());
}

/// A copy of the file, taken while the store has it open, is what a killed process leaves behind.
#[tokio::test]
async fn what_was_answered_as_durable_survives_a_kill() {
    let (_directory, path) = file();
    let store = RedbStore::open(&path).unwrap();
    let mut last = 0;
    for round in 0..20 {
        write(&store, &format!("relaxed{round}"), Durability::Relaxed).await;
        last = write(&store, &format!("durable{round}"), Durability::Durable).await;
        write(&store, &format!("lost{round}"), Durability::Relaxed).await;
        let killed = path.with_file_name(format!("killed{round}.redb"));
        let after = opened_copy(&path, &killed);
        let names = names(&after).await;
        for round in 0..=round {
            assert!(names.contains(&format!("durable{round}")), "{names:?}");
            // A later durable write brings relaxed ones along.
            assert!(names.contains(&format!("relaxed{round}")), "{names:?}");
        }
        assert!(write(&after, "next", Durability::Durable).await > last);
    }
    assert!(last > 0);
}

/// A kill is one moment and a copy is not: one made in the middle of a write may not open, but another one must.
fn opened_copy(from: &Path, to: &Path) -> RedbStore {
    for _ in 0..100 {
        std::fs::copy(from, to).unwrap();
        if let Ok(store) = RedbStore::open(to) {
            return store;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("no copy opens")
}

#[tokio::test]
async fn a_relaxed_write_reaches_the_disk_by_itself() {
    let (_directory, path) = file();
    let store = RedbStore::open(&path).unwrap();
    write(&store, "a", Durability::Relaxed).await;
    let copy = path.with_file_name("copy.redb");
    for _ in 0..1000 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        std::fs::copy(&path, &copy).unwrap();
        // A copy made in the middle of a write may not open; the next one will.
        if let Ok(copied) = RedbStore::open(&copy)
            && names(&copied).await == ["a"]
        {
            return;
        }
    }
    panic!("never flushed");
}

#[tokio::test]
async fn a_second_host_is_told_that_the_file_is_in_use() {
    let (_directory, path) = file();
    let _store = RedbStore::open(&path).unwrap();
    let error = RedbStore::open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains("is in use by another process"), "{error}");
}

#[test]
fn a_damaged_file_is_named_and_left_alone() {
    let (_directory, path) = file();
    drop(RedbStore::open(&path).unwrap());
    let whole = std::fs::read(&path).unwrap();
    let mut scribbled = whole.clone();
    scribbled[..2048].fill(0x5a);
    for damaged in
        [b"[host]\nname = 'fe1'\n".to_vec(), scribbled, whole[..100].to_vec(), whole[..5000].to_vec()]
    {
        std::fs::write(&path, &damaged).unwrap();
        let error = RedbStore::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains("store.redb is no store, or damaged"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }
}

#[test]
fn a_file_of_a_later_version_is_refused() {
    let (_directory, path) = file();
    drop(RedbStore::open(&path).unwrap());
    set_layout(&path, 7);
    let error = RedbStore::open(&path).unwrap_err();
    assert!(error.to_string().ends_with("has layout 7, this version reads 1: run the version that wrote it"));
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let (directory, _) = file();
    let in_the_way = directory.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let error = RedbStore::open(in_the_way.join("store.redb")).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    assert!(error.to_string().contains("file cannot be opened"), "{error}");
    let error = RedbStore::open(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
}

#[tokio::test]
async fn after_closing_commits_are_refused_and_reads_go_on() {
    let (_directory, path) = file();
    let store = RedbStore::open(&path).unwrap();
    write(&store, "a", Durability::Relaxed).await;
    store.close();
    store.close();
    let refused = store.commit(put("b", "1", Durability::Durable)).await;
    assert_eq!(refused, Err(StoreError::Unavailable("the store is closed".into())));
    assert_eq!(names(&store).await, ["a"]);
}

/// A disk on which everything can be made to fail or to wait, and which counts its fsyncs.
#[derive(Debug, Clone)]
struct Disk {
    path: PathBuf,
    full: Arc<AtomicBool>,
    syncs: Arc<AtomicUsize>,
    /// While set, no fsync ends.
    stuck: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Backend {
    disk: Disk,
    file: FileBackend,
}

impl Disk {
    fn new(path: PathBuf) -> Disk {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        Disk { path, full: Arc::default(), syncs: Arc::default(), stuck: Arc::default() }
    }

    fn store(&self) -> RedbStore {
        let disk = self.clone();
        let opener = move || {
            let file = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&disk.path)?;
            let backend = Backend { disk: disk.clone(), file: FileBackend::new(file)? };
            Database::builder().create_with_backend(backend)
        };
        let (file, revision) = File::open_with(&self.path, Box::new(opener)).unwrap();
        RedbStore::start(&self.path, file, revision).unwrap()
    }

    fn check(&self) -> io::Result<()> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(io::Error::from(io::ErrorKind::StorageFull)),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.check()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.disk.check()?;
        while self.disk.stuck.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        self.disk.syncs.fetch_add(1, Ordering::SeqCst);
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.check()?;
        self.file.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }
}

#[tokio::test]
async fn many_durable_writes_share_an_fsync() {
    let (_directory, path) = file();
    let disk = Disk::new(path);
    let store = Arc::new(disk.store());
    write(&store, "warm", Durability::Durable).await;
    let before = disk.syncs.load(Ordering::SeqCst);
    disk.stuck.store(true, Ordering::SeqCst);
    let writes: Vec<_> = (0..200)
        .map(|i| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { write(&store, &format!("k{i}"), Durability::Durable).await })
        })
        .collect();
    while store.unanswered.available_permits() > UNANSWERED_MAX - 200 {
        tokio::task::yield_now().await;
    }
    disk.stuck.store(false, Ordering::SeqCst);
    for written in writes {
        written.await.unwrap();
    }
    // The first batch holds what had come when the thread looked, the second the rest; redb may sync twice each.
    let syncs = disk.syncs.load(Ordering::SeqCst) - before;
    assert_eq!(names(&store).await.len(), 201);
    assert!(syncs <= 4, "{syncs} fsyncs for 200 writes");
}

#[tokio::test]
async fn a_disk_that_was_full_for_a_while_is_used_again() {
    let (_directory, path) = file();
    let disk = Disk::new(path);
    let store = disk.store();
    let first = write(&store, "before", Durability::Durable).await;
    disk.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let refused = store.commit(put("during", "1", Durability::Durable)).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    disk.full.store(false, Ordering::SeqCst);
    assert!(write(&store, "after", Durability::Durable).await > first);
    let names = names(&store).await;
    assert!(names.starts_with(&["after".into(), "before".into()]), "{names:?}");
    // A claim made while the disk was full was refused, so nobody has it.
    let key = format!("{ROOT}test/claim");
    let claim = Transaction {
        expect: vec![(key.clone(), Expect::Absent)],
        operations: vec![Operation::Put { key, value: Bytes::from_static(b"1") }],
        durability: Durability::Durable,
    };
    assert!(matches!(store.commit(claim).await, Ok(Outcome::Committed { .. })));
}

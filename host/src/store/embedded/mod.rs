//! The store of a host alone: one redb file, one thread that writes it.
//!
//! The thread takes whatever has come in and writes it as one redb transaction, so a hundred parks at once cost
//! one fsync. A batch with a durable transaction in it is answered after the fsync; a relaxed one before, and the
//! fsync follows within milliseconds. Reads go past the thread: redb lets them.

mod file;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError, mpsc as queue};
use std::thread::JoinHandle;

use tokio::sync::{Semaphore, mpsc, oneshot};

use self::file::File;
use self::writer::{Request, Writer};
use super::journal::{self, Journal, Source};
use super::{Change, Outcome, Snapshot, Store, StoreError, Transaction};

pub use self::file::OpenError;

/// Unanswered transactions. When reached, `commit` waits: the disk is the bottleneck, and a longer queue would
/// only be answered after its askers gave up.
const UNANSWERED_MAX: usize = 4096;

/// Keeps records in one file.
pub struct RedbStore {
    shared: Arc<Shared>,
    requests: Mutex<Option<Sender<Request>>>,
    unanswered: Semaphore,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    file: File,
    journal: Journal,
}

impl RedbStore {
    /// Opens the file, or makes it and the directories above it.
    pub fn open(path: impl AsRef<Path>) -> Result<RedbStore, OpenError> {
        let path = path.as_ref();
        let (file, revision) = File::open(path)?;
        RedbStore::start(path, file, revision)
    }

    fn start(path: &Path, file: File, revision: u64) -> Result<RedbStore, OpenError> {
        let shared = Arc::new(Shared { file, journal: Journal::new(revision) });
        let (sender, requests) = queue::channel();
        let writer = Writer { shared: Arc::clone(&shared), requests, revision, unflushed: None };
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run())
            .map_err(|why| OpenError::Io { path: path.to_path_buf(), why })?;
        Ok(RedbStore {
            shared,
            requests: Mutex::new(Some(sender)),
            unanswered: Semaphore::new(UNANSWERED_MAX),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Answers what is under way and flushes. Commits from now on are refused. Dropping the store does the same;
    /// both block for as long as one fsync takes.
    pub fn close(&self) {
        drop(self.requests.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A writer that panicked has nothing left to save.
            let _ = writer.join();
        }
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl Store for RedbStore {
    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        transaction.check()?;
        let closed = || StoreError::Unavailable("the store is closed".into());
        let _permit = self.unanswered.acquire().await.map_err(|_| closed())?;
        let (answer, answered) = oneshot::channel();
        {
            let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            let sender = requests.as_ref().ok_or_else(closed)?;
            sender.send(Request { transaction, answer }).map_err(|_| closed())?;
        }
        answered.await.map_err(|_| closed())?
    }

    async fn list(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        let (shared, prefix) = (Arc::clone(&self.shared), prefix.to_string());
        tokio::task::spawn_blocking(move || shared.read(&prefix))
            .await
            .map_err(|error| StoreError::Unavailable(error.to_string()))?
    }

    async fn watch(&self, prefix: &str, revision: u64) -> Result<mpsc::Receiver<Change>, StoreError> {
        let now = self.list(prefix).await?;
        journal::start(Arc::clone(&self.shared), prefix.to_string(), revision, now)
    }
}

impl Source for Shared {
    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn read(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.file.read(prefix)
    }
}

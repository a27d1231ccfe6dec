//! The redb file: opening it, saying clearly why it cannot be opened, and opening it again after it failed.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use crate::store::{Record, Snapshot, StoreError};

/// Key to revision and value.
pub(super) const RECORDS: TableDefinition<&str, (u64, &[u8])> = TableDefinition::new("records");
/// The store's own numbers.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// The revision of the last transaction.
pub(super) const REVISION: &str = "revision";
/// The layout of the two tables above; a file of a later one is refused.
const LAYOUT: &str = "layout";
const LAYOUT_VERSION: u64 = 1;

/// Enough for the records of a large site; redb's own default is a gigabyte.
const CACHE_BYTES: usize = 32 << 20;

/// Why the store's file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by another process: does a host run with the same data_dir?", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is no store, or its contents are damaged.
    #[error("{} is no store, or damaged ({why}): restore a copy, or move it away to start empty", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// A later version of this program wrote it.
    #[error("{} has layout {found}, this version reads {LAYOUT_VERSION}: run the version that wrote it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u64,
    },
    /// The operating system refused.
    #[error("{} cannot be opened: {why}", path.display())]
    Io {
        /// The file or its directory.
        path: PathBuf,
        /// In the system's words.
        why: std::io::Error,
    },
}

/// Makes the redb handle: from a path, or from whatever a test puts in its place.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// An open file, or one that failed and waits to be opened again.
pub(super) struct File {
    path: PathBuf,
    opener: Opener,
    database: RwLock<Option<Database>>,
}

impl File {
    /// Opens the file, or makes it and the directories above it. Also says at which revision it stands.
    pub(super) fn open(path: &Path) -> Result<(File, u64), OpenError> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)
                .map_err(|why| OpenError::Io { path: directory.to_path_buf(), why })?;
        }
        let file = path.to_path_buf();
        let opener: Opener = Box::new(move || Database::builder().set_cache_size(CACHE_BYTES).create(&file));
        File::open_with(path, opener)
    }

    pub(super) fn open_with(path: &Path, opener: Opener) -> Result<(File, u64), OpenError> {
        let (database, revision) = open(path, &opener)?;
        Ok((File { path: path.to_path_buf(), opener, database: RwLock::new(Some(database)) }, revision))
    }

    /// Closes the file and opens it again: after a failed write redb takes no more of them. Answers the revision
    /// it stands at, which may be older than the last one answered to a relaxed write.
    pub(super) fn reopen(&self) -> Result<u64, OpenError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(database.take());
        let (opened, revision) = open(&self.path, &self.opener)?;
        *database = Some(opened);
        Ok(revision)
    }

    /// Does something with the file.
    pub(super) fn with<T>(
        &self,
        what: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &*database else {
            return Err(StoreError::Unavailable(format!(
                "{} could not be opened again",
                self.path.display()
            )));
        };
        what(database).map_err(|error| match error {
            redb::Error::Corrupted(_) | redb::Error::TableTypeMismatch { .. } => {
                StoreError::Damaged(error.to_string())
            }
            other => StoreError::Unavailable(other.to_string()),
        })
    }

    /// Every record under `prefix`.
    pub(super) fn read(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let revision = transaction.open_table(META)?.get(REVISION)?.map_or(0, |value| value.value());
            let mut snapshot = Snapshot { revision, ..Snapshot::default() };
            for entry in transaction.open_table(RECORDS)?.range(prefix..)? {
                let (key, value) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                let (revision, value) = value.value();
                let record = Record { value: Bytes::copy_from_slice(value), revision };
                snapshot.records.insert(key.value().to_string(), record);
            }
            Ok(snapshot)
        })
    }
}

/// Opens and prepares. A damaged file can make redb panic where it did not expect what it reads.
fn open(path: &Path, opener: &Opener) -> Result<(Database, u64), OpenError> {
    let attempt = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let database = opener().map_err(|error| open_error(path, error))?;
        let revision = prepare(&database).map_err(|error| match error {
            Prepare::Newer(found) => OpenError::Newer { path: path.to_path_buf(), found },
            Prepare::Redb(why) => OpenError::Damaged { path: path.to_path_buf(), why: why.to_string() },
        })?;
        Ok((database, revision))
    }));
    attempt.unwrap_or_else(|_| {
        Err(OpenError::Damaged { path: path.to_path_buf(), why: "reading it panicked".into() })
    })
}

enum Prepare {
    Newer(u64),
    Redb(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Prepare {
    fn from(error: E) -> Self {
        Prepare::Redb(error.into())
    }
}

/// Makes the tables if they are not there, and reads where the store stands.
fn prepare(database: &Database) -> Result<u64, Prepare> {
    let transaction = database.begin_write()?;
    let revision = {
        let mut meta = transaction.open_table(META)?;
        let layout = meta.get(LAYOUT)?.map(|value| value.value());
        match layout {
            Some(found) if found > LAYOUT_VERSION => return Err(Prepare::Newer(found)),
            Some(_) => {}
            None => {
                meta.insert(LAYOUT, LAYOUT_VERSION)?;
            }
        }
        transaction.open_table(RECORDS)?;
        meta.get(REVISION)?.map_or(0, |value| value.value())
    };
    transaction.commit()?;
    Ok(revision)
}

fn open_error(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_path_buf();
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked { path },
        // redb reports a wrong magic number or length as an I/O error of these kinds.
        DatabaseError::Storage(StorageError::Io(why))
            if !matches!(why.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) =>
        {
            OpenError::Io { path, why }
        }
        other => OpenError::Damaged { path, why: other.to_string() },
    }
}

#[cfg(test)]
pub(super) fn set_layout(path: &Path, version: u64) {
    let database = Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(LAYOUT, version).unwrap();
    transaction.commit().unwrap();
}

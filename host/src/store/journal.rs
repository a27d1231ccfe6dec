//! Recent changes, and the task that feeds a watch from them.
//!
//! A watch pulls: it remembers the revision up to which it has told its receiver, reads on from there when told
//! that there is more, and waits for a slow receiver without holding anybody else up. A receiver so slow that the
//! journal has moved past it gets the difference between what it knew and what is there now.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, mpsc};

use super::{Change, Snapshot, StoreError};

/// Changes kept for watches that start late or lag. At a few hundred bytes each this is a few megabytes, and more
/// than a busy host writes in a minute.
const CHANGES_MAX: usize = 16_384;
/// Changes on their way to one receiver. Small: a receiver that lags finds the rest in the journal.
pub(super) const WATCH_QUEUE: usize = 256;

/// The latest changes of a store, in order.
#[derive(Debug)]
pub(super) struct Journal {
    recent: Mutex<Recent>,
    keep: usize,
}

#[derive(Debug)]
struct Recent {
    changes: VecDeque<(u64, Change)>,
    /// Every change after this revision is in `changes`.
    complete_after: u64,
    /// Who is told of changes under which prefix, as long as they listen. A write nobody watches wakes nobody.
    watches: Vec<(String, Weak<Notify>)>,
}

/// What happened after some revision.
enum Since {
    /// All of it, and the revision it leads to.
    Changes(Vec<Change>, u64),
    /// Part of it is forgotten.
    Gone,
}

/// Where a watch reads when the journal has forgotten.
pub(super) trait Source: Send + Sync + 'static {
    fn journal(&self) -> &Journal;
    /// May block for as long as reading takes.
    fn read(&self, prefix: &str) -> Result<Snapshot, StoreError>;
}

impl Journal {
    pub(super) fn new(revision: u64) -> Self {
        Journal::keeping(CHANGES_MAX, revision)
    }

    pub(super) fn keeping(keep: usize, revision: u64) -> Self {
        Journal {
            recent: Mutex::new(Recent {
                changes: VecDeque::new(),
                complete_after: revision,
                watches: Vec::new(),
            }),
            keep,
        }
    }

    /// Adds what one or more transactions changed, oldest first, and wakes the watches it concerns.
    pub(super) fn push(&self, changes: Vec<(u64, Change)>) {
        let mut recent = self.lock();
        recent.watches.retain(|(prefix, told)| {
            let Some(told) = told.upgrade() else { return false };
            if changes.iter().any(|(_, change)| change.key.starts_with(prefix.as_str())) {
                told.notify_one();
            }
            true
        });
        recent.changes.extend(changes);
        while recent.changes.len() > self.keep {
            if let Some((revision, _)) = recent.changes.pop_front() {
                recent.complete_after = revision;
            }
        }
        // A transaction that is half gone is gone: its revision is the bound.
        while recent.changes.front().is_some_and(|(revision, _)| *revision <= recent.complete_after) {
            recent.changes.pop_front();
        }
    }

    fn watch(&self, prefix: &str) -> Arc<Notify> {
        let told = Arc::new(Notify::new());
        self.lock().watches.push((prefix.to_owned(), Arc::downgrade(&told)));
        told
    }

    fn since(&self, revision: u64, prefix: &str) -> Since {
        let recent = self.lock();
        if revision < recent.complete_after {
            return Since::Gone;
        }
        let start = recent.changes.partition_point(|(at, _)| *at <= revision);
        let upto = recent.changes.back().map_or(revision, |(at, _)| (*at).max(revision));
        let changes = recent.changes.range(start..).map(|(_, change)| change);
        Since::Changes(changes.filter(|change| change.key.starts_with(prefix)).cloned().collect(), upto)
    }

    /// Nothing that is done under the lock can leave it half done: a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a watch on `source`: every change under `prefix` after `revision`.
///
/// Must be called inside a tokio runtime. The first read is made here, so that what was known at the start is
/// exact.
pub(super) fn start(
    source: Arc<impl Source>,
    prefix: String,
    revision: u64,
    now: Snapshot,
) -> Result<mpsc::Receiver<Change>, StoreError> {
    let told = source.journal().watch(&prefix);
    let mut known: BTreeSet<String> = now.records.into_keys().collect();
    match source.journal().since(revision, &prefix) {
        Since::Changes(changes, _) => known.extend(changes.into_iter().map(|change| change.key)),
        Since::Gone => {
            return Err(StoreError::Invalid(format!(
                "changes since revision {revision} are forgotten; list again"
            )));
        }
    }
    let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
    tokio::spawn(async move {
        let mut at = revision;
        loop {
            if !tell(&source, &prefix, &mut at, &mut known, &sender).await {
                return;
            }
            tokio::select! {
                () = sender.closed() => return,
                () = told.notified() => {}
            }
        }
    });
    Ok(receiver)
}

/// Tells the receiver all there is to tell; false when it is gone.
async fn tell(
    source: &Arc<impl Source>,
    prefix: &str,
    at: &mut u64,
    known: &mut BTreeSet<String>,
    sender: &mpsc::Sender<Change>,
) -> bool {
    loop {
        let (changes, upto) = match source.journal().since(*at, prefix) {
            Since::Changes(changes, upto) => (changes, upto),
            Since::Gone => match difference(source, prefix, *at, known).await {
                Ok(difference) => difference,
                // The store is away or damaged; whoever writes hears of it. This watch goes on with the next
                // change it is told of.
                Err(_) => return true,
            },
        };
        if upto == *at {
            return true;
        }
        for change in changes {
            match change.record {
                Some(_) => known.insert(change.key.clone()),
                None => known.remove(&change.key),
            };
            if sender.send(change).await.is_err() {
                return false;
            }
        }
        *at = upto;
    }
}

async fn difference(
    source: &Arc<impl Source>,
    prefix: &str,
    after: u64,
    known: &BTreeSet<String>,
) -> Result<(Vec<Change>, u64), StoreError> {
    let reader = (Arc::clone(source), prefix.to_string());
    let now = tokio::task::spawn_blocking(move || reader.0.read(&reader.1))
        .await
        .map_err(|error| StoreError::Unavailable(error.to_string()))??;
    let revision = now.revision;
    Ok((changes_to(now, after, known), revision))
}

/// What leads from the keys `known` at revision `after` to `now`: removals, then writes in their order.
pub(super) fn changes_to(now: Snapshot, after: u64, known: &BTreeSet<String>) -> Vec<Change> {
    let gone = known.iter().filter(|key| !now.records.contains_key(*key));
    let mut changes: Vec<_> = gone.map(|key| Change { key: key.clone(), record: None }).collect();
    let mut written: Vec<_> = now.records.into_iter().filter(|(_, record)| record.revision > after).collect();
    written.sort_by_key(|(_, record)| record.revision);
    changes.extend(written.into_iter().map(|(key, record)| Change { key, record: Some(record) }));
    changes
}

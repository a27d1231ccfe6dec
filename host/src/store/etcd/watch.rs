//! A watch that does not end: it goes on where it was when its member fails or restarts, and when the history it needs
//! is compacted it lists again and tells the difference.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchResponse};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::members::{Members, passes, words};
use super::{ATTEMPT_MAX, PATIENCE, list, read, signed, unsigned};
use crate::store::journal::{WATCH_QUEUE, changes_to};
use crate::store::{Change, StoreError};

/// Before a watch is opened again.
const PAUSE: Duration = Duration::from_millis(200);

/// What a watch has told its receiver so far.
struct Told {
    members: Arc<Members>,
    prefix: String,
    /// Everything up to this revision.
    at: u64,
    /// The keys there were then.
    known: BTreeSet<String>,
    sender: mpsc::Sender<Change>,
}

/// Why a stream of changes is over.
enum Ended {
    /// Nobody listens any more.
    Receiver,
    /// The member failed, or let go.
    Broken,
    /// The changes since [`Told::at`] are no longer all there.
    Compacted,
}

/// See [`Store::watch`](crate::store::Store::watch).
pub(super) async fn start(
    members: Arc<Members>,
    prefix: String,
    revision: u64,
) -> Result<mpsc::Receiver<Change>, StoreError> {
    let known = match revision {
        0 => BTreeSet::new(),
        _ => match list(&members, &prefix, revision).await {
            Ok(then) => then.records.into_keys().collect(),
            Err(StoreError::Invalid(_)) => {
                let text = format!("changes since revision {revision} are forgotten; list again");
                return Err(StoreError::Invalid(text));
            }
            Err(error) => return Err(error),
        },
    };
    let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
    let mut told = Told { members, prefix, at: revision, known, sender };
    tokio::spawn(async move {
        while !told.sender.is_closed() {
            match told.follow().await {
                Ended::Receiver => return,
                Ended::Broken => tokio::time::sleep(PAUSE).await,
                Ended::Compacted => {
                    if !told.catch_up().await {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    });
    Ok(receiver)
}

impl Told {
    /// Opens a stream and passes on what it brings, until it ends.
    async fn follow(&mut self) -> Ended {
        let Ok(member) = self.members.live(PATIENCE).await else { return Ended::Broken };
        let options =
            WatchOptions::new().with_prefix().with_progress_notify().with_start_revision(signed(self.at + 1));
        let mut watch = member.client.watch_client().max_decoding_message_size(super::LIST_BYTES_MAX);
        let opened = timeout(ATTEMPT_MAX, watch.watch(self.prefix.as_str(), Some(options))).await;
        let Ok(Ok(mut stream)) = opened else {
            self.members.failed(&member);
            return Ended::Broken;
        };
        loop {
            let message = tokio::select! {
                () = self.sender.closed() => return Ended::Receiver,
                message = stream.message() => message,
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return Ended::Broken,
                Err(error) => {
                    tracing::debug!(error = words(&error), prefix = self.prefix, "a watch broke off");
                    if passes(&error) {
                        self.members.failed(&member);
                    }
                    return Ended::Broken;
                }
            };
            if message.compact_revision() > 0 {
                return Ended::Compacted;
            }
            if message.canceled() {
                return Ended::Broken;
            }
            if let Err(ended) = self.pass_on(&message).await {
                return ended;
            }
        }
    }

    async fn pass_on(&mut self, message: &WatchResponse) -> Result<(), Ended> {
        let mut upto = self.at;
        for event in message.events() {
            let Some(pair) = event.kv() else { continue };
            // A key that is no text is nobody's of ours.
            let Ok((key, record)) = read(pair.clone()) else { continue };
            upto = upto.max(record.revision);
            let record = match event.event_type() {
                EventType::Put => {
                    self.known.insert(key.clone());
                    Some(record)
                }
                EventType::Delete => {
                    self.known.remove(&key);
                    None
                }
            };
            self.send(Change { key, record }).await?;
        }
        // An empty message says how far the member is: everything before has been told.
        if message.events().is_empty() && !message.created() {
            upto = upto.max(message.header().map_or(0, |header| unsigned(header.revision())));
        }
        // Only now: a message holds whole transactions, and one that was passed on in part comes again.
        self.at = upto;
        Ok(())
    }

    async fn send(&self, change: Change) -> Result<(), Ended> {
        self.sender.send(change).await.map_err(|_| Ended::Receiver)
    }

    /// Tells the difference between what was told and what is there now; false if nobody could say.
    async fn catch_up(&mut self) -> bool {
        let Ok(now) = list(&self.members, &self.prefix, 0).await else { return false };
        let revision = now.revision;
        let keys = now.records.keys().cloned().collect();
        for change in changes_to(now, self.at, &self.known) {
            if self.send(change).await.is_err() {
                return true;
            }
        }
        (self.at, self.known) = (revision, keys);
        true
    }
}

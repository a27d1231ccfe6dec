//! The event stream: a snapshot, then each event as it happens (server-sent events).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use metrics::counter;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use super::handle::AdminHandle;
use super::request::{Refused, Request};
use crate::engine::Event;

/// Events a reader may fall behind: some seconds of a busy host. A reader slower than that is told how many it
/// missed and gets a new snapshot, which costs less than a longer queue for every reader.
const BACKLOG_MAX: usize = 1024;

/// Streams open at once: each makes the engine list everything when it starts.
const STREAMS_MAX: usize = 32;

/// A silent stream says something this often, so that proxies and dead peers are noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Where the engine's events go to be read by any number of streams. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events {
    sender: broadcast::Sender<(u64, Arc<str>)>,
    next: Arc<AtomicU64>,
    streams: Arc<Semaphore>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            sender: broadcast::Sender::new(BACKLOG_MAX),
            next: Arc::new(AtomicU64::new(1)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }
}

impl Events {
    /// Counts `event` and hands it to every open stream. Never waits; costs little while nobody listens.
    pub fn publish(&self, event: &Event) {
        match event.code {
            Some(code) => {
                counter!("switchyard_events_total", "what" => event.what, "code" => code.to_string())
            }
            None => counter!("switchyard_events_total", "what" => event.what),
        }
        .increment(1);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if self.sender.receiver_count() == 0 {
            return;
        }
        if let Ok(text) = serde_json::to_string(event) {
            // An error only says that the last reader left meanwhile.
            let _ = self.sender.send((number, text.into()));
        }
    }

    /// Opens a stream.
    pub(super) fn stream(&self, engine: AdminHandle) -> Result<Response, Refused> {
        let permit = self.streams.clone().try_acquire_owned().map_err(|_| Refused {
            status: 503,
            code: None,
            text: format!("{STREAMS_MAX} event streams are open, which is all there may be"),
        })?;
        // Subscribed before the snapshot is asked for: what happens in between comes twice rather than never.
        let reader =
            Reader { receiver: self.sender.subscribe(), engine, owes_snapshot: true, _permit: permit };
        Ok(Sse::new(deltas(reader)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
    }
}

struct Reader {
    receiver: broadcast::Receiver<(u64, Arc<str>)>,
    engine: AdminHandle,
    owes_snapshot: bool,
    _permit: OwnedSemaphorePermit,
}

fn deltas(reader: Reader) -> impl Stream<Item = Result<Sent, Infallible>> {
    stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        if reader.owes_snapshot {
            reader.owes_snapshot = false;
            return match snapshot(&reader.engine).await {
                Ok(snapshot) => {
                    Some((Ok(Sent::default().event("snapshot").data(snapshot.to_string())), Some(reader)))
                }
                // Without a snapshot the deltas mean nothing: say why, and end. The reader may come again.
                Err(refused) => {
                    let text = serde_json::to_string(&refused).unwrap_or_default();
                    Some((Ok(Sent::default().event("failed").data(text)), None))
                }
            };
        }
        match reader.receiver.recv().await {
            Ok((number, text)) => {
                Some((Ok(Sent::default().event("event").id(number.to_string()).data(&*text)), Some(reader)))
            }
            Err(RecvError::Lagged(missed)) => {
                reader.owes_snapshot = true;
                let text = json!({ "missed": missed }).to_string();
                Some((Ok(Sent::default().event("missed").data(text)), Some(reader)))
            }
            Err(RecvError::Closed) => None,
        }
    })
}

async fn snapshot(engine: &AdminHandle) -> Result<Value, Refused> {
    Ok(json!({
        "calls": engine.ask(Request::Calls).await?,
        "orbits": engine.ask(Request::Ranges).await?,
        "occupants": engine.ask(Request::Occupants).await?,
        "users": engine.ask(Request::Users).await?,
        "pools": engine.ask(Request::Pools).await?,
    }))
}

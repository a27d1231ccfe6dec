//! Speaking to one peer: what waits, what is under way, and the connection it goes over.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::credentials::{expected, named};
use super::{ASK_EVERY, SILENCE, Shared, WAITING_BYTES_MAX, WAITING_FRAMES_MAX, unlinked, words};
use crate::cluster::{Frame, FrameError};
use crate::engine::Input;
use crate::net::HostName;
use crate::repeats;

/// After a connection that failed, the next one is tried after this, and after twice as long each time, …
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// … up to this.
const PAUSE_LONGEST: Duration = Duration::from_secs(2);
/// A peer must have let us in within this time.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Most bytes handed to TLS in one write: what waits is joined up to here.
const WRITE_JOINED: usize = 64 * 1024;
/// Counted for each frame besides its message.
const OVERHEAD: usize = 512;
/// Are you there?
const QUESTION: [u8; 8] = [0; 8];

/// A peer as the engine's thread sees it.
pub(super) struct Peer {
    queue: mpsc::UnboundedSender<Item>,
    /// Shared with the task: it bounds the queue.
    burden: Arc<Mutex<Burden>>,
}

/// A frame, and where its receiver listens.
struct Item {
    at: SocketAddr,
    /// None: nothing is to be said, only a connection is to be there.
    frame: Option<Frame>,
}

/// What waits or is under way.
#[derive(Default)]
struct Burden {
    frames: usize,
    bytes: usize,
}

fn weight(frame: &Frame) -> usize {
    OVERHEAD
        + match frame {
            Frame::Arrived { bytes, .. }
            | Frame::Send { bytes, .. }
            | Frame::Goodbye { bytes, .. }
            | Frame::Between { bytes, .. } => bytes.len(),
            Frame::Unsent { reason, .. } => reason.len(),
            Frame::Closed { .. } | Frame::Question { .. } => 0,
            // A number for each group and each callee.
            Frame::Rings { places, .. } => 32 * (places.groups.len() + places.callees.len()),
            // A part of a list, mostly; how long it is shows only when it is written.
            Frame::Answer { .. } | Frame::Changed { .. } => 128 * 1024,
        }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that may panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn relieve<'a>(burden: &Mutex<Burden>, frames: impl IntoIterator<Item = &'a Frame>) {
    let mut burden = lock(burden);
    for frame in frames {
        burden.frames -= 1;
        burden.bytes -= weight(frame);
    }
}

impl Peer {
    /// A peer nothing was said to so far.
    pub(super) fn start(shared: &Arc<Shared>, to: HostName) -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        let burden = Arc::new(Mutex::new(Burden::default()));
        let mouth = Mouth {
            shared: Arc::clone(shared),
            to,
            waiting,
            next: None,
            burden: Arc::clone(&burden),
            saying: Mutex::default(),
        };
        shared.tasks.spawn_on(mouth.speak(), &shared.io);
        Self { queue, burden }
    }

    /// The frame comes back if the peer has too much to hear already.
    pub(super) fn send(&self, at: SocketAddr, frame: Frame) -> Option<Frame> {
        {
            let mut burden = lock(&self.burden);
            let bytes = burden.bytes + weight(&frame);
            if burden.frames >= WAITING_FRAMES_MAX || bytes > WAITING_BYTES_MAX {
                return Some(frame);
            }
            burden.frames += 1;
            burden.bytes = bytes;
        }
        let item = Item { at, frame: Some(frame) };
        self.queue.send(item).err().and_then(|mpsc::error::SendError(item)| item.frame)
    }

    /// A connection is wanted.
    pub(super) fn greet(&self, at: SocketAddr) {
        let _ = self.queue.send(Item { at, frame: None });
    }
}

/// Why a connection to a peer ended, or did not come about.
#[derive(Debug, thiserror::Error)]
enum Ending {
    #[error("{}", words(.0))]
    Io(#[from] io::Error),
    #[error("it does not answer")]
    Silent,
    #[error("no certificate could hold its name")]
    Nameless,
    #[error("{0}")]
    Other(String),
    #[error("it acknowledges what was never said")]
    Confused,
    #[error("it has moved")]
    Moved,
    #[error("this host shuts down")]
    ShuttingDown,
}

/// The task that speaks to a peer.
struct Mouth {
    shared: Arc<Shared>,
    to: HostName,
    waiting: mpsc::UnboundedReceiver<Item>,
    /// Taken from `waiting`, but for a connection to another address.
    next: Option<Item>,
    burden: Arc<Mutex<Burden>>,
    saying: Mutex<Saying>,
}

/// What was taken from the queue for this connection.
#[derive(Default)]
struct Saying {
    /// Not acknowledged yet.
    under_way: VecDeque<Frame>,
    acknowledged: u64,
    /// The queue has ended: once all is acknowledged, so has the connection.
    last: bool,
}

impl Mouth {
    async fn speak(mut self) {
        let (mut pause, mut earliest, mut last_at) = (PAUSE_FIRST, Instant::now(), None);
        loop {
            let first = match self.next.take() {
                Some(item) => item,
                None => match self.waiting.recv().await {
                    Some(item) => item,
                    None => return,
                },
            };
            let at = first.at;
            lock(&self.saying).under_way.extend(first.frame);
            if last_at.replace(at) == Some(at) {
                tokio::select! {
                    () = sleep_until(earliest) => {}
                    () = self.shared.closing.cancelled() => {}
                }
            } else {
                pause = PAUSE_FIRST;
            }
            match timeout(CONNECT_MAX, connect(&self.shared, self.to, at)).await {
                Ok(Ok(stream)) => {
                    tracing::info!(to = %self.to, %at, "linked to another host");
                    self.tell(None).await;
                    pause = PAUSE_FIRST;
                    let connected = metrics::gauge!("switchyard_link_peers", "direction" => "out");
                    connected.increment(1.0);
                    let ending = self.converse(at, stream).await;
                    connected.decrement(1.0);
                    tracing::info!(to = %self.to, %at, reason = %ending, "no longer linked to another host");
                    self.give_back(&ending.to_string(), None).await;
                }
                failed => {
                    let ending = failed.map_or(Ending::Silent, |failed| match failed {
                        Ok(_) => Ending::Silent,
                        Err(ending) => ending,
                    });
                    if repeats::LINK_UNOPENED.is_first() {
                        tracing::warn!(to = %self.to, %at, reason = %ending, "cannot be linked to another host");
                    }
                    self.give_back(&ending.to_string(), Some(at)).await;
                    self.tell(Some(ending.to_string())).await;
                }
            }
            earliest = Instant::now() + pause;
            pause = (2 * pause).min(PAUSE_LONGEST);
        }
    }

    /// Tells the engine what became of an attempt.
    async fn tell(&self, failed: Option<String>) {
        let _ = self.shared.inbox.send(Input::Tried { host: self.to, failed }).await;
    }

    /// Tells the engine what was not acknowledged; and what waits for `unreachable`, if an address is.
    async fn give_back(&mut self, reason: &str, unreachable: Option<SocketAddr>) {
        let mut frames = Vec::from(std::mem::take(&mut *lock(&self.saying)).under_way);
        while let Some(at) = unreachable
            && self.next.is_none()
            && let Ok(item) = self.waiting.try_recv()
        {
            if item.at == at {
                frames.extend(item.frame);
            } else {
                self.next = Some(item);
            }
        }
        relieve(&self.burden, &frames);
        unlinked(self.to, reason, frames.len());
        for frame in frames {
            let _ = self.shared.inbox.send(Input::Unlinked { to: self.to, frame }).await;
        }
    }

    /// Until the connection ends. What was said and not acknowledged is left in `saying`.
    async fn converse(&mut self, at: SocketAddr, stream: TlsStream<TcpStream>) -> Ending {
        let (mut reader, mut writer) = split(stream);
        let Mouth { shared, to, waiting, next, burden, saying } = self;
        let unsayable = Unsayable { shared, to: *to, burden };
        tokio::select! {
            ending = say(at, waiting, next, saying, &mut writer, unsayable) => ending,
            ending = hear(saying, burden, &mut reader) => ending,
        }
    }
}

/// Where frames go that can never be said.
struct Unsayable<'a> {
    shared: &'a Shared,
    to: HostName,
    burden: &'a Mutex<Burden>,
}

impl Unsayable<'_> {
    async fn give_back(&self, frame: Frame, error: &FrameError) {
        relieve(self.burden, [&frame]);
        unlinked(self.to, &error.to_string(), 1);
        let _ = self.shared.inbox.send(Input::Unlinked { to: self.to, frame }).await;
    }
}

/// Connects, proves who we are, and waits until we are let in.
async fn connect(shared: &Shared, to: HostName, at: SocketAddr) -> Result<TlsStream<TcpStream>, Ending> {
    let name = expected(to).ok_or(Ending::Nameless)?;
    let stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::clone(&shared.credentials.load().client));
    let mut stream = connector.connect(name, stream).await?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certified = certificates.first().map(named);
    match certified {
        // TLS has compared them, but without regard to case.
        Some(Ok(name)) if name == to => {}
        Some(Ok(name)) => return Err(Ending::Other(format!("its certificate is that of {name}"))),
        Some(Err(nameless)) => return Err(Ending::Other(format!("its certificate {nameless}"))),
        None => return Err(Ending::Nameless),
    }
    match stream.read_u64().await? {
        0 => Ok(stream),
        _ => Err(Ending::Confused),
    }
}

/// Writes what is under way already, then what comes from the queue.
async fn say(
    at: SocketAddr,
    waiting: &mut mpsc::UnboundedReceiver<Item>,
    next: &mut Option<Item>,
    saying: &Mutex<Saying>,
    writer: &mut WriteHalf<TlsStream<TcpStream>>,
    unsayable: Unsayable<'_>,
) -> Ending {
    let mut out = BytesMut::new();
    // Nobody hears yet, so nothing is taken from there but here.
    let mut first = std::mem::take(&mut lock(saying).under_way);
    loop {
        let mut frames = std::mem::take(&mut first);
        if frames.is_empty() {
            match timeout(ASK_EVERY, waiting.recv()).await {
                Ok(Some(item)) if item.at == at => frames.extend(item.frame),
                Ok(Some(item)) => {
                    *next = Some(item);
                    return Ending::Moved;
                }
                Ok(None) => {
                    let mut saying = lock(saying);
                    saying.last = true;
                    if saying.under_way.is_empty() {
                        return Ending::ShuttingDown;
                    }
                    break;
                }
                Err(_) => out.put_slice(&QUESTION),
            }
        }
        while let Some(frame) = frames.pop_front() {
            match frame.write(&mut out) {
                Ok(()) => lock(saying).under_way.push_back(frame),
                Err(error) => unsayable.give_back(frame, &error).await,
            }
            if out.len() < WRITE_JOINED
                && let Ok(item) = waiting.try_recv()
            {
                if item.at == at {
                    frames.extend(item.frame);
                } else {
                    *next = Some(item);
                    return Ending::Moved;
                }
            }
        }
        let written = async {
            writer.write_all(&out).await?;
            writer.flush().await
        };
        if let Err(error) = written.await {
            return Ending::Io(error);
        }
        out.clear();
    }
    // The rest is up to the listening side.
    std::future::pending().await
}

/// Reads what the peer acknowledges.
async fn hear(
    saying: &Mutex<Saying>,
    burden: &Mutex<Burden>,
    reader: &mut ReadHalf<TlsStream<TcpStream>>,
) -> Ending {
    let sent = metrics::counter!("switchyard_link_frames_sent_total");
    loop {
        let count = match timeout(SILENCE, reader.read_u64()).await {
            Ok(Ok(count)) => count,
            Ok(Err(error)) => return Ending::Io(error),
            Err(_) => return Ending::Silent,
        };
        let mut saying = lock(saying);
        let fresh = count.checked_sub(saying.acknowledged).and_then(|fresh| usize::try_from(fresh).ok());
        let Some(fresh) = fresh.filter(|fresh| *fresh <= saying.under_way.len()) else {
            return Ending::Confused;
        };
        saying.acknowledged = count;
        let heard: Vec<Frame> = saying.under_way.drain(..fresh).collect();
        relieve(burden, &heard);
        sent.increment(fresh as u64);
        if saying.last && saying.under_way.is_empty() {
            return Ending::ShuttingDown;
        }
    }
}

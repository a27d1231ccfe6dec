//! One connection from its first byte to its last: a reader and a writer side by side in one task.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Shared, tune};
use crate::engine::Input;
use crate::net::Flow;
use crate::repeats;
use crate::sip::{Status, refuse};
use crate::transport::framing::{Frame, Framer, FramingError};

/// A message on its way out, with the flow it was given, so that a failure names that flow.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) flow: Flow,
    pub(super) bytes: Bytes,
}

/// Most bytes handed to the kernel in one write: what waits is joined up to here.
const WRITE_JOINED: usize = 16 * 1024;

/// How long, and for how many bytes of what it still sends, a peer is listened to that broke the framing. Closed with
/// bytes unread, the connection would be reset, and the answer lost before it is read (RFC 1122 §4.2.2.13).
const LAST_WORDS: Duration = Duration::from_secs(1);
const LAST_WORDS_BYTES: usize = 256 * 1024;

/// Room asked for before each read: several ordinary messages.
const READ_ROOM: usize = 4 * 1024;

/// Why a connection ended, in the words of the log.
#[derive(Debug, thiserror::Error)]
enum Ending {
    #[error("closed by the peer")]
    ByPeer,
    #[error("closed by the peer inside a message")]
    ByPeerInsideMessage,
    /// Why, and the response to what could be read of the message.
    #[error("{0}")]
    Framing(FramingError, Option<Bytes>),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no message came")]
    NoFirstMessage,
    #[error("a message was begun but not finished in time")]
    UnfinishedMessage,
    #[error("idle")]
    Idle,
    #[error("the peer does not read")]
    NotReading,
    #[error("the host is shutting down")]
    ShuttingDown,
}

impl Ending {
    /// Whether somebody should look: the peer broke a rule, or the network broke.
    fn is_ordinary(&self) -> bool {
        matches!(self, Ending::ByPeer | Ending::Idle | Ending::ShuttingDown)
    }
}

/// Runs the connection to its end, then tells the engine what was not sent and that it is closed, in this order.
pub(super) async fn serve(
    shared: &Shared,
    flow: Flow,
    stream: TcpStream,
    pongs: mpsc::WeakSender<Outgoing>,
    mut waiting: mpsc::Receiver<Outgoing>,
) {
    tune(&stream);
    let (mut reader, mut writer) = stream.into_split();
    let mut unsent = Vec::new();
    let ending = tokio::select! {
        ending = read(shared, flow, &mut reader, &pongs) => ending,
        ending = write(shared, &mut writer, &mut waiting, &mut unsent) => ending,
    };
    if let Ending::Framing(_, Some(answer)) = &ending
        && unsent.is_empty()
    {
        let _ = timeout(LAST_WORDS, part(&mut reader, &mut writer, answer)).await;
    }
    if !ending.is_ordinary() {
        metrics::counter!("switchyard_tcp_broken_total").increment(1);
    }
    if ending.is_ordinary() || !repeats::TCP_BROKEN.is_first() {
        tracing::debug!(remote = %flow.remote, connection = ?flow.connection, reason = %ending, "TCP closed");
    } else {
        tracing::info!(remote = %flow.remote, connection = ?flow.connection, reason = %ending, "TCP closed");
    }
    shared.forget(flow);
    // Closed before anybody is told, so that a new attempt does not meet the old connection.
    drop((reader, writer));
    report_unsent(&shared.inbox, &mut waiting, unsent, &ending.to_string()).await;
    if let Some(connection) = flow.connection {
        let _ = shared.inbox.send(Input::ConnectionClosed { connection }).await;
    }
}

/// Tells the engine of every flow with a message that was not sent, each once.
///
/// The connection must be out of the table already, or a message could still slip in behind.
pub(super) async fn report_unsent(
    inbox: &mpsc::Sender<Input>,
    waiting: &mut mpsc::Receiver<Outgoing>,
    mut unsent: Vec<Flow>,
    reason: &str,
) {
    waiting.close();
    while let Some(outgoing) = waiting.recv().await {
        unsent.push(outgoing.flow);
    }
    unsent.sort_unstable();
    unsent.dedup();
    for flow in unsent {
        let _ = inbox.send(Input::SendFailed { flow, reason: reason.to_owned() }).await;
    }
}

async fn read(
    shared: &Shared,
    flow: Flow,
    reader: &mut OwnedReadHalf,
    pongs: &mpsc::WeakSender<Outgoing>,
) -> Ending {
    let limits = &shared.limits;
    let mut framer = Framer::new(limits.message_bytes);
    let mut seen_message = false;
    // When the message under way must be complete; before the first one, when that must be.
    let mut due = Some(Instant::now() + limits.first_message);
    loop {
        framer.buffer().reserve(READ_ROOM);
        let deadline = due.unwrap_or_else(|| Instant::now() + limits.idle);
        match timeout_at(deadline, reader.read_buf(framer.buffer())).await {
            Err(_) if !seen_message => return Ending::NoFirstMessage,
            Err(_) if due.is_some() => return Ending::UnfinishedMessage,
            Err(_) => return Ending::Idle,
            Ok(Err(error)) => return Ending::Io(error),
            Ok(Ok(0)) if framer.is_inside_message() => return Ending::ByPeerInsideMessage,
            Ok(Ok(0)) => return Ending::ByPeer,
            Ok(Ok(_)) => {}
        }
        let mut finished_one = false;
        loop {
            match framer.next_frame() {
                Ok(Some(Frame::Message(bytes))) => {
                    finished_one = true;
                    // Waits while the engine is behind: then the peer's window fills, and it slows down.
                    if shared.inbox.send(Input::Received { flow, bytes }).await.is_err() {
                        return Ending::ShuttingDown;
                    }
                }
                Ok(Some(Frame::Ping)) => pong(pongs, flow),
                Ok(None) => break,
                Err(error) => return Ending::Framing(error, answer_to(&framer, error, flow)),
            }
        }
        seen_message |= finished_one;
        if !framer.is_inside_message() {
            framer.give_back_room();
            if seen_message {
                due = None;
            }
        } else if finished_one || due.is_none() {
            due = Some(Instant::now() + limits.whole_message);
        }
    }
}

/// The response to a request that ends the stream, because nobody knows where the next one begins (RFC 3261 §18.3).
/// What is no SIP gets none.
fn answer_to(framer: &Framer, error: FramingError, flow: Flow) -> Option<Bytes> {
    let status = match error {
        FramingError::NotSip => return None,
        FramingError::TooLong(_) => Status::MESSAGE_TOO_LARGE,
        FramingError::LineEnd | FramingError::NoContentLength | FramingError::BadContentLength => {
            Status::BAD_REQUEST
        }
    };
    let salt = flow.connection.map_or(0, |connection| connection.0);
    refuse(framer.lines(), status, &error, flow, salt).map(|(_, answer)| answer)
}

/// Says the last word, and lets the peer read it.
async fn part(reader: &mut OwnedReadHalf, writer: &mut OwnedWriteHalf, answer: &[u8]) -> io::Result<()> {
    writer.write_all(answer).await?;
    writer.shutdown().await?;
    let mut rest = [0; READ_ROOM];
    let mut heard = 0;
    while heard < LAST_WORDS_BYTES {
        match reader.read(&mut rest).await? {
            0 => break,
            count => heard += count,
        }
    }
    Ok(())
}

/// Answers a keep-alive (RFC 5626 §4.4.1). A peer that does not read its answers gets none.
fn pong(pongs: &mpsc::WeakSender<Outgoing>, flow: Flow) {
    if let Some(queue) = pongs.upgrade() {
        let _ = queue.try_send(Outgoing { flow, bytes: Bytes::from_static(b"\r\n") });
    }
}

/// `unsent` holds, at any moment, the flows of what was taken from the queue and is not yet written.
async fn write(
    shared: &Shared,
    writer: &mut OwnedWriteHalf,
    waiting: &mut mpsc::Receiver<Outgoing>,
    unsent: &mut Vec<Flow>,
) -> Ending {
    let mut joined = BytesMut::new();
    while let Some(first) = waiting.recv().await {
        unsent.push(first.flow);
        let mut bytes = first.bytes;
        if let Ok(second) = waiting.try_recv() {
            joined.clear();
            joined.extend_from_slice(&bytes);
            let mut next = Some(second);
            while let Some(outgoing) = next {
                unsent.push(outgoing.flow);
                joined.extend_from_slice(&outgoing.bytes);
                next = if joined.len() < WRITE_JOINED { waiting.try_recv().ok() } else { None };
            }
            bytes = joined.split().freeze();
        }
        match timeout(shared.limits.write, writer.write_all(&bytes)).await {
            Ok(Ok(())) => unsent.clear(),
            Ok(Err(error)) => return Ending::Io(error),
            Err(_) => return Ending::NotReading,
        }
    }
    // All senders are gone, and what they sent is written.
    let _ = writer.shutdown().await;
    Ending::ShuttingDown
}

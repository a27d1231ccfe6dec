//! What hosts of a cluster say to each other: SIP messages on their way between the socket a phone talks to and the host
//! that serves it, and between hosts that serve different pools.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::admin::{Refused, Request};
use crate::net::{ConnectionId, Flow, HostName};

/// The longest frame, in bytes: a SIP message of any size we take, and what is said about it.
pub const FRAME_MAX: usize = 1 << 20;

/// One thing said by a host to another. On the wire: two lengths of 4 bytes (big-endian), JSON of the first length, SIP of
/// the second.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum Frame {
    /// A message has arrived at a socket of the sender, or of a host the sender has it from: for whom the receiver serves.
    Arrived {
        /// Where it arrived; without an edge, at the sender's own socket.
        flow: Flow,
        /// Hosts that had it before and did not know what it is about.
        tried: Vec<HostName>,
        /// The message.
        #[serde(skip)]
        bytes: Bytes,
    },
    /// To be sent on a socket of the receiver.
    Send {
        /// Where; as the receiver sees it, so without an edge.
        flow: Flow,
        /// Whether who is there has proved to the sender who they are.
        #[serde(default)]
        known: bool,
        /// The message.
        #[serde(skip)]
        bytes: Bytes,
    },
    /// What was to be sent could not be.
    Unsent {
        /// Where to.
        flow: Flow,
        /// In words.
        reason: String,
    },
    /// A connection of the sender has ended.
    Closed {
        /// Which.
        connection: ConnectionId,
    },
    /// The administrative interface wants to know, or wants done, what the receiver has.
    Question {
        /// Comes back with the answer.
        id: u64,
        /// What is asked.
        what: Request,
    },
    /// The answer to a question.
    Answer {
        /// The question's id.
        id: u64,
        /// JSON, or a refusal.
        answer: Result<serde_json::Value, Refused>,
        /// Whether another part of it follows: a long list comes in several.
        #[serde(default)]
        more: bool,
    },
    /// Calls ring at the sender for users whom the receiver serves by now, and may be picked up.
    Rings {
        /// A pool the sender serves, by which it is reached.
        by: HostName,
        /// All of them; nothing: none any more.
        places: Places,
    },
    /// Calls of a pool whose seat the sender has lost: they were changed there, and the store has them as they were before.
    Changed {
        /// The pool.
        pool: HostName,
        /// Their legs as they are now, each as a record has it.
        legs: Vec<serde_json::Value>,
    },
    /// A BYE in a call of such a pool, which the sender has answered while another may have taken the call up.
    Goodbye {
        /// The pool.
        pool: HostName,
        /// Where it arrived.
        flow: Flow,
        /// The BYE.
        #[serde(skip)]
        bytes: Bytes,
    },
    /// From whoever serves one pool to whoever serves another, or the same.
    Between {
        /// The sender's pool.
        from: HostName,
        /// Whose server it is for.
        to: HostName,
        /// Whether the host it was first sent to did not serve that pool any more, and passed it on.
        passed_on: bool,
        /// The message.
        #[serde(skip)]
        bytes: Bytes,
    },
}

/// Where calls ring: what pickers dial to have one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Places {
    /// Numbers of pickup groups.
    pub groups: BTreeSet<String>,
    /// Names of users.
    pub callees: BTreeSet<String>,
}

impl Places {
    /// Whether no call rings.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.callees.is_empty()
    }
}

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It would be longer than [`FRAME_MAX`].
    #[error("a frame of {0} bytes; at most {FRAME_MAX}")]
    TooLong(usize),
    /// The JSON is not what it should be.
    #[error("a frame that cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl Frame {
    fn payload(&self) -> &[u8] {
        match self {
            Frame::Arrived { bytes, .. }
            | Frame::Send { bytes, .. }
            | Frame::Goodbye { bytes, .. }
            | Frame::Between { bytes, .. } => bytes,
            Frame::Unsent { .. }
            | Frame::Closed { .. }
            | Frame::Question { .. }
            | Frame::Answer { .. }
            | Frame::Changed { .. }
            | Frame::Rings { .. } => &[],
        }
    }

    /// Appends the frame to `out`.
    ///
    /// # Errors
    /// When it is too long.
    pub fn write(&self, out: &mut BytesMut) -> Result<(), FrameError> {
        let about = serde_json::to_vec(self)?;
        let payload = self.payload();
        let length = about.len() + payload.len();
        let lengths = (u32::try_from(about.len()), u32::try_from(payload.len()));
        let (Ok(first), Ok(second)) = lengths else { return Err(FrameError::TooLong(length)) };
        if length > FRAME_MAX {
            return Err(FrameError::TooLong(length));
        }
        out.reserve(8 + length);
        out.put_u32(first);
        out.put_u32(second);
        out.put_slice(&about);
        out.put_slice(payload);
        Ok(())
    }

    /// Takes the next whole frame from the front of `buffer`; `None` until it is all there.
    ///
    /// # Errors
    /// When what comes is no frame. One that is [unreadable](FrameError::Unreadable) is taken, and the next one can be read; after any
    /// other error nothing can be understood.
    pub fn read(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some((lengths, _)) = buffer.split_first_chunk::<8>() else { return Ok(None) };
        let length = |at: usize| {
            let four = [lengths[at], lengths[at + 1], lengths[at + 2], lengths[at + 3]];
            usize::try_from(u32::from_be_bytes(four)).unwrap_or(usize::MAX)
        };
        let (about, payload) = (length(0), length(4));
        let whole = about.saturating_add(payload);
        if whole > FRAME_MAX {
            return Err(FrameError::TooLong(whole));
        }
        if buffer.len() < 8 + whole {
            return Ok(None);
        }
        let mut frame = buffer.split_to(8 + whole).freeze();
        let mut frame = frame.split_off(8);
        let sip = frame.split_off(about);
        let mut read: Frame = serde_json::from_slice(&frame)?;
        if let Frame::Arrived { bytes, .. }
        | Frame::Send { bytes, .. }
        | Frame::Goodbye { bytes, .. }
        | Frame::Between { bytes, .. } = &mut read
        {
            *bytes = sip;
        }
        Ok(Some(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Protocol;

    fn frames() -> Vec<Frame> {
        let flow = Flow {
            protocol: Protocol::Tcp,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: "[2001:db8::9]:40000".parse().unwrap(),
            connection: Some(ConnectionId(7)),
            edge: HostName::new("fe2"),
        };
        let bytes = Bytes::from_static(b"OPTIONS sip:a@b SIP/2.0\r\n\r\n");
        let name = |name: &str| HostName::new(name).unwrap();
        vec![
            Frame::Arrived { flow, tried: vec![name("fe3")], bytes: bytes.clone() },
            Frame::Send { flow: Flow { edge: None, ..flow }, known: true, bytes: bytes.clone() },
            Frame::Unsent { flow, reason: "refused".into() },
            Frame::Closed { connection: ConnectionId(7) },
            Frame::Question { id: 9, what: Request::Hangup { call: 7 } },
            Frame::Answer {
                id: 9,
                answer: Err(Refused { status: 404, code: None, text: "no call 7".into() }),
                more: false,
            },
            Frame::Rings {
                by: name("west"),
                places: Places { groups: ["*101".to_owned()].into(), callees: ["bob".to_owned()].into() },
            },
            Frame::Goodbye { pool: name("east"), flow, bytes: bytes.clone() },
            Frame::Between { from: name("east"), to: name("west"), passed_on: false, bytes },
        ]
    }

    #[test]
    fn frames_are_read_back_however_they_are_cut() {
        let mut wire = BytesMut::new();
        for frame in frames() {
            frame.write(&mut wire).unwrap();
        }
        let mut buffer = BytesMut::new();
        let mut read = Vec::new();
        for byte in wire {
            buffer.put_u8(byte);
            read.extend(Frame::read(&mut buffer).unwrap());
        }
        assert_eq!(read, frames());
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_is_no_frame_is_an_error_before_it_takes_memory() {
        let mut long = BytesMut::from(&[0xff_u8; 8][..]);
        assert!(matches!(Frame::read(&mut long), Err(FrameError::TooLong(_))));
        let mut odd = BytesMut::from(&b"\0\0\0\x02\0\0\0\0{}"[..]);
        assert!(matches!(Frame::read(&mut odd), Err(FrameError::Unreadable(_))));
        assert!(odd.is_empty(), "the next one is read");
        let huge = Frame::Send {
            flow: Flow::to_pool(HostName::new("a").unwrap()),
            known: false,
            bytes: vec![0; FRAME_MAX].into(),
        };
        assert!(matches!(huge.write(&mut BytesMut::new()), Err(FrameError::TooLong(_))));
    }
}

//! RTP for parked and listening legs: music, spoken numbers, DTMF. Everything else goes phone to phone.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

mod batch;
mod cache;
mod dtmf;
mod encode;
mod g722;
mod library;
pub mod listen;
mod pacer;
mod pair;
mod play;
mod ports;
mod resample;
mod rtcp;
mod rtp;
mod service;
mod silent;
mod stream;
mod streams;
mod wav;

pub use service::{STREAMS_MAX, Service};
pub use silent::{Sending, Silent};

/// Where the media service sends from and what it plays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediaConfig {
    /// The address that phones see in SDP and that sockets are bound to. Never the unspecified address.
    pub address: IpAddr,
    /// UDP ports to use: RTP on even ones, RTCP on the odd one above.
    pub ports: RangeInclusive<u16>,
    /// The folder of music, with spoken prompts in `prompts/` below it. What it lacks of the project's own
    /// music and prompts comes from the executable.
    pub music: PathBuf,
    /// Seeds SSRCs, first sequence numbers and time stamps, which must be hard to guess (RFC 3550 §9.1).
    pub seed: [u8; 32],
}

/// One RTP stream of a leg. It keeps its port, SSRC, sequence numbers and time stamps from [`Command::Open`]
/// to [`Command::Close`], whatever it plays and wherever it sends in between.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct StreamId(pub u64);

/// An audio codec the host can send.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Codec {
    /// G.711 µ-law, static payload type 0.
    Pcmu,
    /// G.711 A-law, static payload type 8.
    Pcma,
    /// G.722 at 64 kbit/s; its RTP clock is 8000 Hz although it carries 16 kHz audio (RFC 3551 §4.5.2).
    G722,
}

impl Codec {
    /// All codecs, in the host's order of preference.
    pub const ALL: [Codec; 3] = [Codec::G722, Codec::Pcmu, Codec::Pcma];

    /// The static payload type (RFC 3551 §6).
    pub const fn payload_type(self) -> u8 {
        match self {
            Codec::Pcmu => 0,
            Codec::Pcma => 8,
            Codec::G722 => 9,
        }
    }

    /// The encoding name in `a=rtpmap`, without the clock rate.
    pub const fn encoding_name(self) -> &'static str {
        match self {
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
            Codec::G722 => "G722",
        }
    }
}

/// What a stream sends.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Playlist {
    /// Spoken once, first: names of prompts without extension, e.g. `["parked-on", "digits/7", "digits/0"]`.
    pub prompts: Vec<String>,
    /// Played over and over after the prompts.
    pub then: Background,
}

/// What follows the prompts, for as long as the stream lives.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Background {
    /// Nothing is sent (comfort noise is not needed: the peer's jitter buffer plays silence).
    #[default]
    Silence,
    /// A file below the music folder; `None` is the default music.
    Music(Option<String>),
}

/// From the engine to the media service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Books a port pair; answered by [`Event::Opened`] or [`Event::Failed`].
    Open {
        /// The new stream.
        stream: StreamId,
    },
    /// Sends `playlist` to `remote` from now on. Replaces what the stream did before without a break in its RTP.
    Send {
        /// The stream.
        stream: StreamId,
        /// Where RTP goes.
        remote: SocketAddr,
        /// Where RTCP goes; usually RTP's port + 1.
        rtcp: SocketAddr,
        /// What the peer accepts.
        codec: Codec,
        /// The payload type the peer gave that codec.
        payload_type: u8,
        /// The payload type of `telephone-event/8000` on which the peer sends digits, if it does (RFC 4733).
        dtmf: Option<u8>,
        /// What to play.
        playlist: Playlist,
    },
    /// Stops sending, keeps the port and the RTP state.
    Pause {
        /// The stream.
        stream: StreamId,
    },
    /// Ends the stream (RTCP BYE) and gives its port back.
    Close {
        /// The stream.
        stream: StreamId,
    },
}

/// From the media service to the engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The stream's port is booked.
    Opened {
        /// The stream.
        stream: StreamId,
        /// Where the peer should send, and where we send from.
        local: SocketAddr,
    },
    /// No port is left, or a file cannot be played. The stream is closed if it was never opened; otherwise it is silent.
    Failed {
        /// The stream.
        stream: StreamId,
        /// Why, in words for a log.
        reason: String,
    },
    /// All prompts of the playlist were sent.
    PromptsDone {
        /// The stream.
        stream: StreamId,
    },
    /// A key was pressed (RFC 4733 §2.5.1.3): reported once, at its end or when the next one starts.
    Digit {
        /// The stream.
        stream: StreamId,
        /// `0`–`9`, `*`, `#`, `A`–`D`.
        digit: char,
        /// How long it was held, in milliseconds.
        duration_ms: u32,
    },
}

//! One stream's RTP and RTCP state, from open to close.

use std::net::SocketAddr;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::dtmf;
use super::pacer::Turn;
use super::play::{Frame, Next, Player};
use super::rtcp;
use super::rtp::{FRAME_BYTES, FRAME_TICKS, HEADER_LEN, Header, TICKS_PER_MS};
use super::{Event, StreamId};
use crate::time::Now;

/// The first report comes within half an interval (RFC 3550 §6.2).
const FIRST_REPORT: u32 = 2;

/// Where a stream sends, and what it listens for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// Where RTP goes.
    pub remote: SocketAddr,
    /// Where RTCP goes.
    pub rtcp: SocketAddr,
    /// The payload type of what we send.
    pub payload_type: u8,
    /// The payload type of telephone events we listen for.
    pub dtmf: Option<u8>,
}

/// A stream.
#[derive(Debug)]
pub struct Stream {
    /// Its name.
    pub id: StreamId,
    /// The even port of its pair.
    pub port: u16,
    /// Its slot of the pacer.
    pub slot: usize,
    /// What it plays.
    pub player: Player,
    /// Where it sends; `None` while paused.
    pub target: Option<Target>,
    /// Keys pressed at the far end.
    pub keys: dtmf::Receiver,
    /// Whether anything came from where the target says, or else from where its keys come.
    pub source: Source,
    ssrc: u32,
    sequence: u16,
    /// The time stamp of round 0 of the pacer: time stamps go on with real time while nothing is sent.
    timestamp_base: u32,
    /// The round of the last packet.
    last_round: Option<u64>,
    packets: u32,
    octets: u32,
    next_report: crate::time::Instant,
    /// Packets sent at the time of the last report and of the one before it.
    reported: [u32; 2],
}

/// Who is known to speak for a stream's far end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Nothing has come yet.
    Unknown,
    /// The address that was signalled.
    Signalled,
    /// An address that was not signalled, taken for a phone behind a NAT. Listened to, never sent to.
    Stray(SocketAddr, u32),
}

impl Stream {
    /// A stream with SSRC, first sequence number and time stamp from `rng`.
    pub fn new(id: StreamId, port: u16, slot: usize, rng: &mut impl Rng) -> Self {
        Self {
            id,
            port,
            slot,
            player: Player::default(),
            target: None,
            keys: dtmf::Receiver::default(),
            source: Source::Unknown,
            ssrc: rng.random(),
            // In the lower half: receivers that tell loss from wrapping get 32768 packets first (RFC 3711 §3.3.1).
            sequence: rng.random_range(0..0x8000),
            timestamp_base: rng.random(),
            last_round: None,
            packets: 0,
            octets: 0,
            next_report: crate::time::Instant::ZERO,
            reported: [0; 2],
        }
    }

    /// Sends to `target` from now on.
    pub fn direct(&mut self, now: Now, target: Target, rng: &mut impl Rng) {
        if self.target.is_none_or(|before| before.remote != target.remote) {
            self.source = Source::Unknown;
            self.keys = dtmf::Receiver::default();
        }
        if self.target.is_none() {
            self.next_report = now.instant + rtcp::interval(rng) / FIRST_REPORT;
        }
        self.target = Some(target);
    }

    /// Stops sending and listening.
    pub fn pause(&mut self) {
        self.target = None;
    }

    /// The packet of this turn, if there is something to send.
    pub fn packet(
        &mut self,
        turn: Turn,
        mut event: impl FnMut(Event),
    ) -> Option<(SocketAddr, [u8; HEADER_LEN], Frame)> {
        let target = self.target?;
        let stream = self.id;
        let Next::Frame(frame) = self.player.next(|| event(Event::PromptsDone { stream })) else {
            return None;
        };
        let header = Header {
            // A talk spurt begins after any gap, so that the peer may adapt its jitter buffer (RFC 3551 §4.1).
            marker: self.last_round.is_none_or(|last| last + 1 != turn.round),
            payload_type: target.payload_type,
            sequence: self.sequence,
            timestamp: self.timestamp_base.wrapping_add((turn.round as u32).wrapping_mul(FRAME_TICKS)),
            ssrc: self.ssrc,
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.last_round = Some(turn.round);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(FRAME_BYTES as u32);
        Some((target.remote, header.to_bytes(), frame))
    }

    /// The report of this turn, if one is due.
    pub fn report(&mut self, now: Now, cname: &str, rng: &mut impl Rng) -> Option<(SocketAddr, Vec<u8>)> {
        let target = self.target?;
        if now.instant < self.next_report {
            return None;
        }
        self.next_report = now.instant + rtcp::interval(rng);
        let report = rtcp::report(self.ssrc, self.sent(now), cname);
        self.reported = [self.packets, self.reported[0]];
        Some((target.rtcp, report))
    }

    /// The last packet: BYE, unless nothing was ever sent there (RFC 3550 §6.3.7).
    pub fn goodbye(&self, now: Now, cname: &str) -> Option<(SocketAddr, Vec<u8>)> {
        let target = self.target.filter(|_| self.packets > 0)?;
        Some((target.rtcp, rtcp::goodbye(self.ssrc, self.sent(now), cname)))
    }

    /// What a sender report says; `None` if nothing was sent since the last but one (§6.4).
    fn sent(&self, now: Now) -> Option<rtcp::Sent> {
        if self.packets == self.reported[1] {
            return None;
        }
        let elapsed = now.instant.since_start().saturating_sub(Duration::from_millis(self.slot as u64));
        let ticks = elapsed.as_micros() * u128::from(TICKS_PER_MS) / 1000;
        Some(rtcp::Sent {
            at: now.utc,
            timestamp: self.timestamp_base.wrapping_add(ticks as u32),
            packets: self.packets,
            octets: self.octets,
        })
    }
}

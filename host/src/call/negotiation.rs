//! One leg's side of offer/answer (RFC 3264, RFC 6337; design.md §3).
//!
//! The session a phone sees is the host's: one `o=` line for the life of the leg, a version that rises by one with
//! each change, a list of streams (*slots*) that never shrinks or reorders, and at most one offer in flight. What
//! stands in the slots is somebody else's: [`offer_of`](Negotiation::offer_of) and
//! [`answer_of`](Negotiation::answer_of) write down where *another* leg's phone wants its media, with its payload
//! types, so media flows from phone to phone; [`host_offer`](Negotiation::host_offer) and
//! [`host_answer`](Negotiation::host_answer) write down the host's own music and prompts, in the payload types
//! of this leg.
//!
//! An offer that is refused leaves no trace but its version number: see [`rollback`](Negotiation::rollback).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::media::Codec;
use crate::sip::body::sdp::{Connection, Direction, Line, Media, Sdp, SdpError};

mod common;
mod host;
mod slots;
#[cfg(test)]
mod tests;

use host::{HOST_CLOCK_HZ, Known, TELEPHONE_EVENT, host_audio, known_formats};
use slots::{Pairing, Slot, answer_places};
/// Where a stream with port 9 goes: nowhere (RFC 863). Used where a port must be named although nothing will flow.
const DISCARD_PORT: u16 = 9;
/// How far the version jumps when a leg is taken up again from a record: more than descriptions are exchanged between
/// two writes of it.
const VERSION_JUMP: u64 = 100;

/// Why a description cannot be taken at this moment.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NegotiationError {
    /// It cannot be read.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// An offer is in flight already, ours or theirs (RFC 3264 §4): 491, or 500 with Retry-After.
    #[error("an offer is in flight")]
    OfferInFlight,
    /// An answer came, but there was no offer of ours.
    #[error("an answer without an offer")]
    NoOffer,
    /// The answer has more streams than the offer, or another kind of stream in a slot (RFC 3264 §6).
    #[error("the answer's streams are not those of the offer")]
    StreamsDiffer,
}

/// What becomes of the directions when a leg is offered another leg's description.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Directions {
    /// They are passed on: the other phone is offering this very moment.
    AsIs,
    /// Two legs are newly joined: each stream flows both ways, unless the other phone itself asked for hold. What it
    /// once answered to somebody else's hold says nothing about the new peer.
    Fresh,
}

/// The codecs the host may use on a leg, best first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostCodecs(pub Vec<Codec>);

impl Default for HostCodecs {
    fn default() -> Self {
        Self(Codec::ALL.to_vec())
    }
}

/// Where the host's own media goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MediaTarget {
    /// Where the peer listens.
    pub rtp: SocketAddr,
    /// Where the peer takes RTCP.
    pub rtcp: SocketAddr,
    /// What to encode.
    pub codec: Codec,
    /// How the peer numbers that codec.
    pub payload_type: u8,
    /// On which payload type the peer sends digits.
    pub dtmf: Option<u8>,
    /// Whether the peer wants to hear anything.
    pub sends: bool,
}

/// The offer in flight.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Pending {
    /// Ours.
    Local(Sdp),
    /// Theirs.
    Remote(Sdp),
}

/// One leg's side of offer/answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Negotiation {
    session_id: u64,
    address: IpAddr,
    /// The version of `sent`.
    version: u64,
    /// The last description that went out, agreed or not: the version counts from it, for the phone has seen it.
    sent: Option<Sdp>,
    slots: Vec<Slot>,
    pairing: Pairing,
    local: Option<Sdp>,
    remote: Option<Sdp>,
    pending: Option<Pending>,
    /// The last exchange was offered by us, so the phone may still correct its answer: many gateways describe
    /// another address in their 200 than in their 183.
    offered: bool,
    codecs: Vec<Known>,
    telephone_event: Option<String>,
    /// Whether `codecs` is all the phone knows: it has made an offer, not only an answer.
    codecs_complete: bool,
}

impl Negotiation {
    /// A leg without any description yet. `session_id` is the number in our `o=` line.
    pub fn new(session_id: u64) -> Self {
        Self {
            // Many parsers read it into a signed number; RFC 3264 §5 asks for less than 2^62 at the start.
            session_id: session_id & (u64::MAX >> 2),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            version: 0,
            sent: None,
            slots: Vec::new(),
            pairing: Pairing::default(),
            local: None,
            remote: None,
            pending: None,
            offered: false,
            codecs: Vec::new(),
            telephone_event: None,
            codecs_complete: false,
        }
    }

    /// The same with the host's address in the `o=` line, which otherwise says 127.0.0.1. It is a name, no more:
    /// nothing is sent there. Only for a leg that has said nothing yet, for an `o=` line never changes.
    pub fn at(mut self, address: IpAddr) -> Self {
        self.address = address;
        self
    }

    /// No offer is in flight.
    pub fn is_stable(&self) -> bool {
        self.pending.is_none()
    }

    /// An offer of ours waits for their answer.
    pub fn has_local_offer(&self) -> bool {
        matches!(self.pending, Some(Pending::Local(_)))
    }

    /// They have offered and we owe an answer.
    pub fn has_remote_offer(&self) -> bool {
        matches!(self.pending, Some(Pending::Remote(_)))
    }

    /// The last description they sent that stands: an offer of theirs in flight, else what was agreed.
    pub fn remote(&self) -> Option<&Sdp> {
        match &self.pending {
            Some(Pending::Remote(offer)) => Some(offer),
            Some(Pending::Local(_)) | None => self.remote.as_ref(),
        }
    }

    /// Ours that stands: what was agreed, without an offer in flight.
    pub fn local(&self) -> Option<&Sdp> {
        self.local.as_ref()
    }

    /// Whether their side asked for hold, in any of its forms.
    pub fn remote_holds(&self) -> bool {
        self.remote().is_some_and(Sdp::holds)
    }

    /// Whether what this leg was told still describes `peer`, so that there is nothing to offer it: each stream that
    /// flows here goes where `peer` listens, in a format that `peer` takes, with the keys it expects, and no stream of
    /// the peer is missing.
    pub fn describes(&self, peer: &Sdp) -> bool {
        let (Some(told), Some(theirs)) = (&self.local, &self.remote) else { return false };
        let flowing =
            told.media().iter().zip(theirs.media()).filter(|(told, own)| told.is_live() && own.is_live());
        let mut open: Vec<&Media> = peer.media().iter().filter(|media| media.is_live()).collect();
        for (told, own) in flowing {
            let Some(index) = open.iter().position(|media| media.kind.eq_ignore_ascii_case(&told.kind))
            else {
                return false;
            };
            let is = open.remove(index);
            // The phone sends the first format that it was told and has itself.
            let sent = told.formats.iter().find(|told_format| {
                own.formats.iter().any(|format| told.encoding(told_format) == own.encoding(format))
            });
            let taken =
                sent.is_none_or(|sent| is.formats.contains(sent) && is.encoding(sent) == told.encoding(sent));
            let wanted = if is.held { is.direction() } else { Direction::SendRecv };
            let direction = told.direction() == wanted || told.direction() == is.direction();
            if !(taken && direction && same_target(told, is)) {
                return false;
            }
        }
        open.is_empty()
    }

    /// They offer: we now owe an answer.
    pub fn remote_offer(&mut self, body: &[u8]) -> Result<(), NegotiationError> {
        if self.pending.is_some() {
            return Err(NegotiationError::OfferInFlight);
        }
        let mut offer = Sdp::parse(body)?;
        self.mark_holds(&mut offer, self.local.clone().as_ref());
        self.pending = Some(Pending::Remote(offer));
        Ok(())
    }

    /// They answer our offer in flight. A repeated answer to the last offer (the 200 after a 183) is taken as well.
    pub fn remote_answer(&mut self, body: &[u8]) -> Result<(), NegotiationError> {
        let offer = match (&self.pending, &self.local) {
            (Some(Pending::Local(offer)), _) => offer.clone(),
            (None, Some(local)) if self.offered => local.clone(),
            (Some(Pending::Remote(_)), _) | (None, _) => return Err(NegotiationError::NoOffer),
        };
        let mut answer = Sdp::parse(body)?;
        let kinds = answer.media().iter().zip(offer.media());
        if answer.media().len() > offer.media().len()
            || kinds.into_iter().any(|(ours, theirs)| !ours.kind.eq_ignore_ascii_case(&theirs.kind))
        {
            return Err(NegotiationError::StreamsDiffer);
        }
        // Old phones leave out the streams they never heard of; RFC 3264 §6 wants them rejected in their slot.
        for media in &offer.media()[answer.media().len()..] {
            answer.media_mut().push(Slot::of(media).unused());
        }
        self.mark_holds(&mut answer, Some(&offer));
        self.learn(&answer, false);
        self.offered = true;
        self.settle(offer, answer);
        Ok(())
    }

    /// Offers this leg the media of another leg's phone, as `peer` describes it: the peer's addresses, formats and
    /// attributes in our slots. A stream the peer doesn't have is port 0, one that is new to this leg is appended.
    ///
    /// Like every offer here it takes the place of an own offer in flight; it is not for a leg that owes an answer.
    pub fn offer_of(&mut self, peer: &Sdp, how: Directions) -> Bytes {
        let places = self.pairing.places_for(&self.slots, peer);
        let count = places.iter().flatten().map(|slot| slot + 1).max().unwrap_or(0).max(self.slots.len());
        let mut media: Vec<Option<Media>> = vec![None; count];
        for (stream, place) in peer.media().iter().zip(&places) {
            let Some(entry) = place.and_then(|slot| media.get_mut(slot)) else { continue };
            let mut stream = stream.clone();
            let direction = match how {
                Directions::Fresh if !stream.held => Direction::SendRecv,
                Directions::AsIs | Directions::Fresh => stream.direction(),
            };
            move_direction(&mut stream, direction);
            *entry = Some(stream);
        }
        let media = media.into_iter().enumerate().filter_map(|(index, media)| {
            media.filter(Media::is_live).or_else(|| self.slots.get(index).map(Slot::unused))
        });
        let media = media.collect();
        self.offer(Some(peer), media)
    }

    /// Answers their offer with another leg's answer to it: each stream in the slot where they offered it, streams
    /// the peer doesn't take are port 0, and directions are made legal (RFC 3264 §6.1).
    ///
    /// Without an offer to answer this repeats our description that stands.
    pub fn answer_of(&mut self, peer: &Sdp) -> Bytes {
        let Some(Pending::Remote(offer)) = &self.pending else { return self.repeat() };
        let mut media: Vec<Media> = offer.media().iter().map(|media| Slot::of(media).unused()).collect();
        for (index, from) in answer_places(offer, peer).into_iter().enumerate() {
            let (Some(offered), Some(stream)) =
                (offer.media().get(index), from.and_then(|from| peer.media().get(from)))
            else {
                continue;
            };
            let mut stream = stream.clone();
            stream.proto.clone_from(&offered.proto);
            let direction = stream.direction().answering(offered.direction());
            move_direction(&mut stream, direction);
            media[index] = stream;
        }
        self.answer(Some(peer), media)
    }

    /// Answers their offer with another leg's *offer* (pickup: both phones are offering): the first audio stream both
    /// describe alike, in the codecs both have. Either phone is told the other's address and payload types, and both
    /// get the codecs in the same order. `None`, and nothing changes, if nothing is in common; it is then the same for
    /// the other leg.
    pub fn answer_common(&mut self, peer: &Sdp) -> Option<Bytes> {
        let Some(Pending::Remote(offer)) = &self.pending else { return None };
        let (slot, stream) = common::audio(offer, peer)?;
        let mut media: Vec<Media> = offer.media().iter().map(|media| Slot::of(media).unused()).collect();
        media[slot] = stream;
        Some(self.answer(Some(peer), media))
    }

    /// Offers this leg the host's music or prompts: audio only, in the codecs this leg is known to have and with its
    /// own payload types; a leg of which too little is known is offered all of `codecs`. Other slots are port 0.
    pub fn host_offer(&mut self, host: SocketAddr, codecs: HostCodecs) -> Bytes {
        let slot = self.audio_slot();
        let (formats, telephone_event) = self.host_formats(&codecs);
        let audio = host_audio(host.port(), "RTP/AVP", &formats, telephone_event.as_deref());
        let mut media: Vec<Media> = self.slots.iter().map(Slot::unused).collect();
        match media.get_mut(slot) {
            Some(entry) => *entry = audio,
            None => media.push(audio),
        }
        let lines = vec![Line::new('c', Connection::to(host.ip()).to_string())];
        self.offer(Some(&Sdp::new(lines, Vec::new())), media)
    }

    /// Answers their offer with the host's media; `None`, and nothing changes, if there is no codec in common, no
    /// audio, or it must be encrypted.
    pub fn host_answer(&mut self, host: SocketAddr) -> Option<Bytes> {
        let Some(Pending::Remote(offer)) = &self.pending else { return None };
        let (slot, offered, formats) = offer.media().iter().enumerate().find_map(|(slot, media)| {
            let formats = known_formats(media);
            let plain = Media::new("audio", 0, "RTP/AVP", Vec::new());
            (media.is_live() && media.is_audio() && media.same_transport(&plain) && !formats.is_empty())
                .then_some((slot, media, formats))
        })?;
        let mut audio =
            host_audio(host.port(), &offered.proto, &formats, offered.telephone_event(HOST_CLOCK_HZ));
        audio.set_direction(Direction::SendRecv.answering(offered.direction()));
        let mut media: Vec<Media> = offer.media().iter().map(|media| Slot::of(media).unused()).collect();
        media[slot] = audio;
        let lines = vec![Line::new('c', Connection::to(host.ip()).to_string())];
        Some(self.answer(Some(&Sdp::new(lines, Vec::new())), media))
    }

    /// Offers this leg silence: the audio it has agreed to, `inactive`. For a phone that refused the host's music,
    /// so it describes nothing new; every other slot is port 0.
    pub fn inactive_offer(&mut self) -> Bytes {
        let slot = self.audio_slot();
        let mut media: Vec<Media> = self.slots.iter().map(Slot::unused).collect();
        let standing = self.local.clone();
        let mut audio = standing
            .as_ref()
            .and_then(|local| local.media().get(slot))
            .filter(|media| media.is_live() && media.is_audio())
            .cloned()
            .unwrap_or_else(|| {
                let (formats, telephone_event) = self.host_formats(&HostCodecs::default());
                host_audio(DISCARD_PORT, "RTP/AVP", &formats, telephone_event.as_deref())
            });
        move_direction(&mut audio, Direction::Inactive);
        match media.get_mut(slot) {
            Some(entry) => *entry = audio,
            None => media.push(audio),
        }
        let nowhere = Sdp::new(vec![Line::new('c', Connection::to(self.address).to_string())], Vec::new());
        self.offer(Some(standing.as_ref().unwrap_or(&nowhere)), media)
    }

    /// Answers their offer with what stands already, so that nothing changes for anybody; every stream is rejected
    /// if nothing stands. For a 2xx with an offer that must be acknowledged although its answer never came
    /// (RFC 3261 §13.2.2.4).
    pub fn standing_answer(&mut self) -> Bytes {
        match self.local.clone() {
            Some(local) => self.answer_of(&local),
            None => self.answer_of(&Sdp::new(Vec::new(), Vec::new())),
        }
    }

    /// Offers what stands already, unchanged to its version: a session refresh (RFC 4028 §7.4). `None` if nothing
    /// stands yet.
    pub fn repeat_offer(&mut self) -> Option<Bytes> {
        let local = self.local.clone()?;
        let body = local.to_bytes();
        self.pending = Some(Pending::Local(local));
        Some(body)
    }

    /// The offer in flight, ours or theirs, was refused: all is as before it (RFC 3264 §8).
    pub fn rollback(&mut self) {
        self.pending = None;
    }

    /// Goes on from a record that may be older than what the phone has seen: the next description that differs from
    /// what stands gets a version the phone has not met (RFC 3264 §8).
    pub fn go_on(&mut self) {
        self.rollback();
        self.version += VERSION_JUMP;
    }

    /// Whether nothing is under way in either, and both have agreed on the same.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let stable = self.is_stable() && other.is_stable();
        stable && self.local == other.local && self.remote == other.remote
    }

    /// What another host had of this leg at last, in the place of `before`, which was made from an older record: what is said next is
    /// new to the phone, whoever of the two has said more.
    pub fn following(mut self, before: &Self) -> Self {
        self.version = self.version.max(before.version);
        self.go_on();
        self
    }

    /// Where the host's media goes, by what is agreed; `None` if the peer takes no audio of a codec we have.
    pub fn media_target(&self) -> Option<MediaTarget> {
        let (local, remote) = (self.local.as_ref()?, self.remote.as_ref()?);
        let (ours, theirs) = local
            .media()
            .iter()
            .zip(remote.media())
            .find(|(ours, theirs)| ours.is_live() && theirs.is_live() && theirs.is_audio())?;
        let agreed = known_formats(ours);
        let known =
            known_formats(theirs).into_iter().find(|known| agreed.iter().any(|a| a.codec == known.codec))?;
        Some(MediaTarget {
            rtp: theirs.rtp()?,
            rtcp: theirs.rtcp()?,
            codec: known.codec,
            payload_type: known.format.parse().ok()?,
            // The peer sends by our numbers, as we send by its.
            dtmf: ours.telephone_event(HOST_CLOCK_HZ).and_then(|format| format.parse().ok()),
            sends: !theirs.is_deaf(),
        })
    }

    /// Which streams of `theirs` are held by their own wish. A phone that stops listening while we go on sending
    /// wants hold; one that stops because we do only echoes us, and wants what it wanted before.
    fn mark_holds(&self, theirs: &mut Sdp, ours: Option<&Sdp>) {
        for (index, media) in theirs.media_mut().iter_mut().enumerate() {
            let we_send = ours
                .and_then(|ours| ours.media().get(index))
                .is_none_or(|ours| !ours.is_live() || ours.direction().sends());
            let before = self.remote.as_ref().and_then(|remote| remote.media().get(index));
            let null = media.connection().is_some_and(|connection| connection.is_null());
            media.held = media.is_deaf() && (we_send || null || before.is_some_and(|before| before.held));
        }
    }

    /// Remembers how the phone numbers the codecs that the host has, newest word first.
    fn learn(&mut self, theirs: &Sdp, complete: bool) {
        let Some(audio) = theirs.audio() else { return };
        let mut codecs = known_formats(audio);
        if let Some(format) = audio.telephone_event(HOST_CLOCK_HZ) {
            self.telephone_event = Some(format.to_owned());
        }
        // A re-offer often lists only what was agreed before; the phone has not forgotten the rest.
        let old = self.codecs.iter().filter(|old| codecs.iter().all(|new| new.codec != old.codec));
        let old: Vec<Known> = old.cloned().collect();
        codecs.extend(old);
        self.codecs = codecs;
        self.codecs_complete |= complete;
    }

    /// What of `codecs` to offer this leg, and on which payload type digits.
    fn host_formats(&self, codecs: &HostCodecs) -> (Vec<Known>, Option<String>) {
        let mut formats: Vec<Known> =
            self.codecs.iter().filter(|known| codecs.0.contains(&known.codec)).cloned().collect();
        let unknown = !self.codecs_complete || formats.is_empty();
        if unknown {
            for &codec in &codecs.0 {
                let format = codec.payload_type().to_string();
                if formats.iter().all(|known| known.codec != codec && known.format != format) {
                    formats.push(Known { codec, format });
                }
            }
        }
        let telephone_event = self.telephone_event.clone();
        (formats, telephone_event.or_else(|| unknown.then(|| TELEPHONE_EVENT.to_owned())))
    }

    /// The slot for the host's audio: where audio flows now, else the first for audio, else a new one.
    fn audio_slot(&self) -> usize {
        let live = |media: &Media| media.is_live() && media.is_audio();
        let standing = self.local.as_ref().zip(self.remote.as_ref()).and_then(|(ours, theirs)| {
            ours.media().iter().zip(theirs.media()).position(|(ours, theirs)| live(ours) && live(theirs))
        });
        standing
            .or_else(|| self.slots.iter().position(|slot| slot.kind.eq_ignore_ascii_case("audio")))
            .unwrap_or(self.slots.len())
    }

    fn offer(&mut self, from: Option<&Sdp>, media: Vec<Media>) -> Bytes {
        let times = vec![Line::new('t', "0 0")];
        let offer = self.versioned(compose(from, times, media));
        let bytes = offer.to_bytes();
        self.pending = Some(Pending::Local(offer));
        bytes
    }

    fn answer(&mut self, from: Option<&Sdp>, media: Vec<Media>) -> Bytes {
        let Some(Pending::Remote(offer)) = self.pending.take() else { return self.repeat() };
        // The answer's time is the offer's (RFC 3264 §6).
        let times = offer.lines().iter().filter(|line| matches!(line.letter, 't' | 'r' | 'z')).cloned();
        let answer = self.versioned(compose(from, times.collect(), media));
        let bytes = answer.to_bytes();
        self.learn(&offer, true);
        self.offered = false;
        self.settle(answer, offer);
        bytes
    }

    fn repeat(&self) -> Bytes {
        self.local.as_ref().map(Sdp::to_bytes).unwrap_or_default()
    }

    /// Both descriptions stand from now on.
    fn settle(&mut self, local: Sdp, remote: Sdp) {
        for (index, media) in local.media().iter().enumerate() {
            match self.slots.get_mut(index) {
                Some(slot) => *slot = Slot::of(media),
                None => self.slots.push(Slot::of(media)),
            }
        }
        self.pending = None;
        self.local = Some(local);
        self.remote = Some(remote);
    }

    /// Gives a description its `o=` line: the last version if it repeats what we last sent, else the next
    /// (RFC 3264 §8). Refused offers count, for the phone has seen their number.
    fn versioned(&mut self, mut sdp: Sdp) -> Sdp {
        if !self.sent.as_ref().is_some_and(|sent| sent.same_media(&sdp)) {
            self.version += 1;
        }
        let family = if self.address.is_ipv6() { "IP6" } else { "IP4" };
        let origin = format!("- {} {} IN {family} {}", self.session_id, self.version, self.address);
        for line in sdp.lines_mut().iter_mut().filter(|line| line.letter == 'o') {
            line.value.clone_from(&origin);
        }
        self.sent = Some(sdp.clone());
        sdp
    }
}

/// Whether two descriptions of a stream lead to the same place, with the same keys.
fn same_target(one: &Media, other: &Media) -> bool {
    const KEYS: [&str; 6] = ["crypto", "fingerprint", "setup", "ice-ufrag", "ice-pwd", "rtcp-mux"];
    one.port == other.port
        && one.connection() == other.connection()
        && one.rtcp() == other.rtcp()
        && one.same_transport(other)
        && KEYS.iter().all(|key| one.attributes(key).eq(other.attributes(key)))
}

/// Writes the direction where only this stream sees it: session-level ones are not carried over, see [`compose`].
fn move_direction(media: &mut Media, direction: Direction) {
    media.set_direction(direction);
    let said = media.lines.iter().any(|line| line.attribute().is_some_and(|(n, _)| n == direction.as_str()));
    if !said && direction != Direction::SendRecv {
        media.lines.push(Line::new('a', direction.as_str()));
    }
}

/// A description with our `o=` line (its version still to come) and everything else of `from` that is not a direction,
/// in the order of RFC 8866 §5.
fn compose(from: Option<&Sdp>, times: Vec<Line>, media: Vec<Media>) -> Sdp {
    let theirs = |letters: &'static str| {
        let lines = from.map_or(&[][..], Sdp::lines).iter();
        lines.filter(move |line| letters.contains(line.letter)).cloned()
    };
    let mut lines = vec![Line::new('v', "0"), Line::new('o', ""), Line::new('s', "-")];
    lines.extend(theirs("iuepcb"));
    lines.extend(times);
    lines.extend(theirs("ka").filter(|line| Direction::parse(line.value.trim_end()).is_none()));
    let has_connection = lines.iter().any(|line| line.letter == 'c');
    let mut sdp = Sdp::new(lines, media);
    for media in sdp.media_mut() {
        // Every stream needs an address, also one that isn't in use (RFC 8866 §5.7).
        if !has_connection && media.connection().is_none() {
            media.lines.insert(0, Line::new('c', "IN IP4 0.0.0.0"));
        }
    }
    sdp
}

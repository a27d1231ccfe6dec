//! Session descriptions (RFC 8866), line by line.
//!
//! The host understands few lines and keeps all of them, in order: ICE candidates, fingerprints, keys, bundle
//! groups and whatever comes next cross it untouched. What it must understand is where media goes ([`Connection`],
//! port, `a=rtcp`), in which [`Direction`], and which codec a payload type means ([`Encoding`]).
//!
//! Parsing is total and bounded. It forgives what telephones get wrong without harm (bare LF, blank lines, a
//! missing `s=` or `t=`) and refuses what would leave us guessing where media goes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A larger description than any telephone or browser sends; those with many ICE candidates reach some 10 KiB.
pub const BYTES_MAX: usize = 64 * 1024;
/// Browsers offering every codec they know come to about 300 lines.
pub const LINES_MAX: usize = 2000;
/// More streams than any call has; each costs a slot for the rest of the call.
pub const MEDIA_MAX: usize = 32;
/// Payload types are seven bits wide, so no stream can list more RTP formats.
pub const FORMATS_MAX: usize = 128;

/// Why a body is no session description that we can use. Lines count from 1.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SdpError {
    /// More than [`BYTES_MAX`], [`LINES_MAX`], [`MEDIA_MAX`] or [`FORMATS_MAX`].
    #[error("the session description is too large: more than {0}")]
    TooLarge(&'static str),
    /// The first line is not `v=0`.
    #[error("the session description does not start with v=0")]
    NoVersion,
    /// There is no `o=` line of six fields.
    #[error("the session description has no valid o= line")]
    NoOrigin,
    /// A line is not a letter, `=` and a value.
    #[error("line {0} of the session description is not of the form x=value")]
    Line(usize),
    /// An `m=` line is not `m=<media> <port>[/<count>] <proto> <fmt> …`.
    #[error("line {0} of the session description is not a valid m= line")]
    Media(usize),
    /// A `c=` line is not `c=IN IP4|IP6 <address>`.
    #[error("line {0} of the session description is not a valid c= line")]
    Connection(usize),
    /// A live stream has no address, neither of its own nor from the session.
    #[error("stream {0} of the session description has no c= line")]
    NoConnection(usize),
}

/// One line: `a=sendonly` is `Line { letter: 'a', value: "sendonly" }`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The letter before the `=`.
    pub letter: char,
    /// Everything after the `=`.
    pub value: String,
}

impl Line {
    /// A line.
    pub fn new(letter: char, value: impl Into<String>) -> Self {
        Self { letter, value: value.into() }
    }

    /// Name and value of an attribute line: `("rtpmap", "0 PCMU/8000")`, `("sendonly", "")`.
    pub fn attribute(&self) -> Option<(&str, &str)> {
        (self.letter == 'a').then(|| self.value.split_once(':').unwrap_or((&self.value, "")))
    }

    fn direction(&self) -> Option<Direction> {
        (self.letter == 'a').then(|| Direction::parse(self.value.trim_end())).flatten()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}\r\n", self.letter, self.value)
    }
}

/// Which way a stream flows, seen by whoever wrote the description (RFC 3264 §5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Both ways; also when nothing is said.
    #[default]
    SendRecv,
    /// The writer sends only.
    SendOnly,
    /// The writer listens only.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// From what the writer does.
    pub const fn of(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// Whether the writer sends.
    pub const fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether the writer listens.
    pub const fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The nearest direction to `self` that is a legal answer to `offered` (RFC 3264 §6.1): who answers may send
    /// only to someone who listens, and listen only to someone who sends.
    pub const fn answering(self, offered: Direction) -> Self {
        Direction::of(self.sends() && offered.receives(), self.receives() && offered.sends())
    }

    /// The attribute's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    /// The attribute by its name, which is case-sensitive on paper only.
    pub fn parse(name: &str) -> Option<Self> {
        [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
            .into_iter()
            .find(|direction| direction.as_str().eq_ignore_ascii_case(name))
    }
}

/// A `c=` line: where media goes. The address may be a host name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    /// Whether it says IP6.
    pub v6: bool,
    /// Address or name, without TTL and count of a multicast group.
    pub address: String,
}

impl Connection {
    /// To an address.
    pub fn to(address: IpAddr) -> Self {
        Self { v6: address.is_ipv6(), address: address.to_string() }
    }

    /// The address, unless it is a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }

    /// `0.0.0.0` or `::`: hold as RFC 2543 had it (RFC 3264 §8.4), or "not known yet" in late offers.
    pub fn is_null(&self) -> bool {
        self.ip().is_some_and(|address| address.is_unspecified())
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IN {} {}", if self.v6 { "IP6" } else { "IP4" }, self.address)
    }
}

impl FromStr for Connection {
    type Err = ();

    fn from_str(value: &str) -> Result<Self, ()> {
        let mut words = value.split_ascii_whitespace();
        let (net, family, address) = (words.next(), words.next(), words.next());
        if net != Some("IN") || words.next().is_some() {
            return Err(());
        }
        let v6 = match family {
            Some("IP4") => false,
            Some("IP6") => true,
            _ => return Err(()),
        };
        let address = address.and_then(|address| address.split('/').next()).unwrap_or_default();
        if address.is_empty() {
            return Err(());
        }
        Ok(Self { v6, address: address.to_owned() })
    }
}

/// What a payload type means: encoding name, clock rate, channels.
#[derive(Clone, Debug)]
pub struct Encoding<'a> {
    /// As written; compared without case.
    pub name: &'a str,
    /// RTP clock in Hz.
    pub clock_hz: u32,
    /// Audio channels; 1 when nothing is said.
    pub channels: u32,
}

impl PartialEq for Encoding<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(other.name)
            && self.clock_hz == other.clock_hz
            && self.channels == other.channels
    }
}

impl<'a> Encoding<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.trim().split('/');
        let name = parts.next().filter(|name| !name.is_empty())?;
        let clock_hz = parts.next()?.trim().parse().ok()?;
        let channels = parts.next().map_or(Ok(1), |channels| channels.trim().parse()).ok()?;
        Some(Self { name, clock_hz, channels })
    }

    /// Whether it carries DTMF digits (RFC 4733).
    pub fn is_telephone_event(&self) -> bool {
        self.name.eq_ignore_ascii_case("telephone-event")
    }
}

/// Static payload types that still occur (RFC 3551 §6): they need no `a=rtpmap`.
fn static_encoding(format: &str) -> Option<Encoding<'static>> {
    let text = match format {
        "0" => "PCMU/8000",
        "3" => "GSM/8000",
        "4" => "G723/8000",
        "7" => "LPC/8000",
        "8" => "PCMA/8000",
        "9" => "G722/8000",
        "10" => "L16/44100/2",
        "11" => "L16/44100",
        "13" => "CN/8000",
        "15" => "G728/8000",
        "18" => "G729/8000",
        "26" => "JPEG/90000",
        "31" => "H261/90000",
        "34" => "H263/90000",
        _ => return None,
    };
    Encoding::parse(text)
}

/// One stream: an `m=` line and the lines below it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Media {
    /// `audio`, `video`, `image`, `message`, `application`, …
    pub kind: String,
    /// 0: the stream is rejected, or its slot is not in use.
    pub port: u16,
    /// The number after a slash behind the port.
    pub port_count: Option<u16>,
    /// `RTP/AVP`, `RTP/SAVP`, `UDP/TLS/RTP/SAVPF`, `udptl`, `TCP/MSRP`, …
    pub proto: String,
    /// Payload types of RTP streams, else whatever the protocol has here.
    pub formats: Vec<String>,
    /// The lines below the `m=` line, in order.
    pub lines: Vec<Line>,
    /// Whether the writer has put this stream on hold by an own wish, not as an echo of ours. Set by
    /// [`Negotiation`](crate::call::negotiation::Negotiation), which knows what went before.
    pub held: bool,
    session_connection: Option<Connection>,
    session_direction: Option<Direction>,
}

impl Media {
    /// A stream without further lines.
    pub fn new(kind: &str, port: u16, proto: &str, formats: Vec<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            port,
            port_count: None,
            proto: proto.to_owned(),
            formats,
            lines: Vec::new(),
            held: false,
            session_connection: None,
            session_direction: None,
        }
    }

    fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let (kind, port, proto) = (words.next()?, words.next()?, words.next()?);
        let (port, count) = match port.split_once('/') {
            Some((port, count)) => (port, Some(count.parse().ok()?)),
            None => (port, None),
        };
        let mut media = Media::new(kind, port.parse().ok()?, proto, words.map(str::to_owned).collect());
        media.port_count = count;
        (!media.formats.is_empty()).then_some(media)
    }

    /// Whether the stream is in use: its port is not 0.
    pub fn is_live(&self) -> bool {
        self.port != 0
    }

    /// Whether it is speech or music.
    pub fn is_audio(&self) -> bool {
        self.kind.eq_ignore_ascii_case("audio")
    }

    /// Where it goes: its own `c=` line, else the session's.
    pub fn connection(&self) -> Option<Connection> {
        let own = self.lines.iter().find(|line| line.letter == 'c');
        own.and_then(|line| line.value.parse().ok()).or_else(|| self.session_connection.clone())
    }

    /// Which way it flows: its own attribute, else the session's, else both ways.
    pub fn direction(&self) -> Direction {
        self.own_direction().or(self.session_direction).unwrap_or_default()
    }

    fn own_direction(&self) -> Option<Direction> {
        self.lines.iter().rev().find_map(Line::direction)
    }

    /// Makes it flow this way: the attribute is replaced where it stands, or added if it is needed.
    pub fn set_direction(&mut self, direction: Direction) {
        let mut written = false;
        self.lines.retain_mut(|line| {
            if line.direction().is_none() {
                return true;
            }
            direction.as_str().clone_into(&mut line.value);
            !std::mem::replace(&mut written, true)
        });
        if !written && direction != self.session_direction.unwrap_or_default() {
            self.lines.push(Line::new('a', direction.as_str()));
        }
    }

    /// Whether the writer does not want to hear anything: `sendonly`, `inactive`, or a null address (RFC 3264 §8.4,
    /// RFC 2543 hold).
    pub fn is_deaf(&self) -> bool {
        self.is_live()
            && (!self.direction().receives()
                || self.connection().is_some_and(|connection| connection.is_null()))
    }

    /// The value of the first attribute of that name; empty for a flag.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes(name).next()
    }

    /// The values of all attributes of that name.
    pub fn attributes<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.lines
            .iter()
            .filter_map(Line::attribute)
            .filter_map(move |(n, value)| (n == name).then_some(value))
    }

    /// What `a=rtpmap` says of a payload type: `PCMU/8000`.
    pub fn rtpmap(&self, format: &str) -> Option<&str> {
        self.by_format("rtpmap", format)
    }

    /// What `a=fmtp` says of a payload type: `0-15`.
    pub fn fmtp(&self, format: &str) -> Option<&str> {
        self.by_format("fmtp", format)
    }

    fn by_format<'a>(&'a self, name: &str, format: &str) -> Option<&'a str> {
        self.attributes(name).find_map(|value| {
            let (key, rest) = value.trim_start().split_once(' ')?;
            (key == format).then_some(rest.trim())
        })
    }

    /// What a payload type means, by `a=rtpmap` or because it is static.
    pub fn encoding<'a>(&'a self, format: &str) -> Option<Encoding<'a>> {
        match self.rtpmap(format) {
            Some(text) => Encoding::parse(text),
            None => static_encoding(format),
        }
    }

    /// The payload type on which digits travel next to speech of that clock rate (RFC 4733 §2.5.1.2 wants them equal).
    pub fn telephone_event(&self, clock_hz: u32) -> Option<&str> {
        let formats = self.formats.iter().map(String::as_str);
        formats.into_iter().find(|format| {
            self.encoding(format).is_some_and(|e| e.is_telephone_event() && e.clock_hz == clock_hz)
        })
    }

    /// Where RTP goes, if that is an address and the stream is live.
    pub fn rtp(&self) -> Option<SocketAddr> {
        let address = self.connection()?.ip()?;
        self.is_live().then_some(SocketAddr::new(address, self.port))
    }

    /// Where RTCP goes: `a=rtcp-mux` (RFC 5761), `a=rtcp` (RFC 3605), else the next port.
    pub fn rtcp(&self) -> Option<SocketAddr> {
        let rtp = self.rtp()?;
        if self.attribute("rtcp-mux").is_some() {
            return Some(rtp);
        }
        let Some(value) = self.attribute("rtcp") else {
            return Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?));
        };
        let (port, connection) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
        let address = connection.parse::<Connection>().ok().and_then(|connection| connection.ip());
        Some(SocketAddr::new(address.unwrap_or(rtp.ip()), port.parse().ok()?))
    }

    /// Two profiles of which an answer may use one where the other was offered: with and without feedback
    /// (RFC 4585) they are the same stream, with and without encryption they are not.
    pub fn same_transport(&self, other: &Media) -> bool {
        fn class(proto: &str) -> String {
            let proto = proto.to_ascii_uppercase();
            proto.strip_suffix("AVPF").map(|stem| format!("{stem}AVP")).unwrap_or(proto)
        }
        class(&self.proto) == class(&other.proto)
    }
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={} {}", self.kind, self.port)?;
        if let Some(count) = self.port_count {
            write!(f, "/{count}")?;
        }
        write!(f, " {}", self.proto)?;
        for format in &self.formats {
            write!(f, " {format}")?;
        }
        f.write_str("\r\n")?;
        self.lines.iter().try_for_each(|line| line.fmt(f))
    }
}

/// An `o=` line's fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin<'a> {
    /// `-` for most.
    pub username: &'a str,
    /// Stays the same for a session.
    pub session_id: &'a str,
    /// Rises with each change.
    pub version: &'a str,
    /// `IN IP4 …`.
    pub address: &'a str,
}

impl<'a> Origin<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        let mut parts = value.splitn(4, ' ');
        let origin = Self {
            username: parts.next()?,
            session_id: parts.next()?,
            version: parts.next()?,
            address: parts.next()?.trim_end(),
        };
        (origin.address.split_ascii_whitespace().count() == 3).then_some(origin)
    }

    /// Whether both lines name the same session, in whatever version.
    pub fn same_session(&self, other: &Origin<'_>) -> bool {
        Origin { version: "", ..*self } == Origin { version: "", ..*other }
    }
}

/// A session description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sdp {
    lines: Vec<Line>,
    media: Vec<Media>,
}

impl Sdp {
    /// From its lines above the first `m=`, and its streams.
    pub fn new(lines: Vec<Line>, media: Vec<Media>) -> Self {
        let mut sdp = Self { lines, media };
        sdp.inherit();
        sdp
    }

    /// Reads a body of type `application/sdp`.
    pub fn parse(body: &[u8]) -> Result<Self, SdpError> {
        if body.len() > BYTES_MAX {
            return Err(SdpError::TooLarge("64 KiB"));
        }
        let (mut lines, mut media) = (Vec::new(), Vec::<Media>::new());
        // Text in another character set occurs in names at most; the rest of the description is ASCII.
        let text = String::from_utf8_lossy(body);
        for (number, line) in (1..).zip(text.split('\n')) {
            let line = line.trim_end_matches(['\r', '\0']);
            if line.trim().is_empty() {
                continue;
            }
            if number > LINES_MAX {
                return Err(SdpError::TooLarge("2000 lines"));
            }
            let line = match line.split_once('=') {
                Some((letter, value)) if letter.len() == 1 && letter.as_bytes()[0].is_ascii_alphabetic() => {
                    Line::new(letter.as_bytes()[0].into(), value)
                }
                _ => return Err(SdpError::Line(number)),
            };
            if lines.is_empty() && (line.letter != 'v' || line.value.trim() != "0") {
                return Err(SdpError::NoVersion);
            }
            if line.letter == 'c' && line.value.parse::<Connection>().is_err() {
                return Err(SdpError::Connection(number));
            }
            if line.letter == 'm' {
                if media.len() == MEDIA_MAX {
                    return Err(SdpError::TooLarge("32 streams"));
                }
                let stream = Media::parse(&line.value).ok_or(SdpError::Media(number))?;
                if stream.formats.len() > FORMATS_MAX {
                    return Err(SdpError::TooLarge("128 formats of a stream"));
                }
                media.push(stream);
            } else {
                media.last_mut().map_or(&mut lines, |media| &mut media.lines).push(line);
            }
        }
        let mut sdp = Self { lines, media };
        if sdp.lines.is_empty() {
            return Err(SdpError::NoVersion);
        }
        if sdp.origin().is_none() {
            return Err(SdpError::NoOrigin);
        }
        sdp.inherit();
        for (index, media) in sdp.media.iter_mut().enumerate() {
            if media.is_live() && media.connection().is_none() {
                return Err(SdpError::NoConnection(index));
            }
            media.held = media.is_deaf();
        }
        Ok(sdp)
    }

    fn inherit(&mut self) {
        let direction = self.lines.iter().rev().find_map(Line::direction);
        let connection =
            self.lines.iter().find(|line| line.letter == 'c').and_then(|line| line.value.parse().ok());
        for media in &mut self.media {
            media.session_direction = direction;
            media.session_connection = Option::clone(&connection);
        }
    }

    /// The body, with CRLF after each line.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::from(self.to_string())
    }

    /// The lines above the first `m=`.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(crate) fn lines_mut(&mut self) -> &mut [Line] {
        &mut self.lines
    }

    /// The streams, in the order of their slots.
    pub fn media(&self) -> &[Media] {
        &self.media
    }

    pub(crate) fn media_mut(&mut self) -> &mut Vec<Media> {
        &mut self.media
    }

    /// The first live audio stream.
    pub fn audio(&self) -> Option<&Media> {
        self.media.iter().find(|media| media.is_live() && media.is_audio())
    }

    /// The value of the first session-level attribute of that name.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.lines.iter().filter_map(Line::attribute).find_map(|(n, value)| (n == name).then_some(value))
    }

    /// Who made it, which session, which version.
    pub fn origin(&self) -> Option<Origin<'_>> {
        let line = self.lines.iter().find(|line| line.letter == 'o')?;
        Origin::parse(&line.value)
    }

    /// Whether the writer holds the call: every live audio stream is held, or, without audio, every live stream.
    pub fn holds(&self) -> bool {
        let audio = self.audio().is_some();
        let mut live =
            self.media.iter().filter(|media| media.is_live() && (media.is_audio() || !audio)).peekable();
        live.peek().is_some() && live.all(|media| media.held)
    }

    /// Whether both describe the same media, whatever the version of their `o=` lines.
    pub fn same_media(&self, other: &Sdp) -> bool {
        let lines = |sdp: &Sdp| sdp.lines.iter().filter(|l| l.letter != 'o').cloned().collect::<Vec<_>>();
        let text = |sdp: &Sdp| sdp.media.iter().map(Media::to_string).collect::<Vec<_>>();
        lines(self) == lines(other) && text(self) == text(other)
    }
}

impl fmt::Display for Sdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| line.fmt(f))?;
        self.media.iter().try_for_each(|media| media.fmt(f))
    }
}

/// As stored: the text, and which streams are held, which the text alone does not tell.
#[derive(Serialize, Deserialize)]
struct Stored {
    text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    held: Vec<usize>,
}

impl Serialize for Sdp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let held = (0..).zip(&self.media).filter(|(_, media)| media.held).map(|(index, _)| index).collect();
        Stored { text: self.to_string(), held }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sdp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        let mut sdp = Sdp::parse(stored.text.as_bytes()).map_err(serde::de::Error::custom)?;
        for (index, media) in sdp.media.iter_mut().enumerate() {
            media.held = stored.held.contains(&index);
        }
        Ok(sdp)
    }
}

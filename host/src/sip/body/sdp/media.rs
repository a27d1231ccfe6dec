//! One stream of a session description: where it goes, which way, and what its payload types mean.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Line;

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
    pub(super) session_connection: Option<Connection>,
    pub(super) session_direction: Option<Direction>,
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

    /// From the value of an `m=` line.
    pub(super) fn parse(value: &str) -> Option<Self> {
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

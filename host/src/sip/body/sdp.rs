//! Session descriptions (RFC 8866), line by line.
//!
//! The host understands few lines and keeps all of them, in order: ICE candidates, fingerprints, keys, bundle
//! groups and whatever comes next cross it untouched. What it must understand is where media goes ([`Connection`],
//! port, `a=rtcp`), in which [`Direction`], and which codec a payload type means ([`Encoding`]).
//!
//! Parsing is total and bounded. It forgives what telephones get wrong without harm (bare LF, blank lines, a
//! missing `s=` or `t=`) and refuses what would leave us guessing where media goes.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

mod media;
#[cfg(test)]
mod tests;

pub use media::{Connection, Direction, Encoding, Media};

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
            // RFC 8866 §9 allows neither; a NUL at the end is what some phones pad with.
            if line.contains(['\0', '\r']) {
                return Err(SdpError::Line(number));
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

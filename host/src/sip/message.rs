//! A parsed message: the bytes as they came and an index into them.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::grammar;
use super::header::{CSeq, NameAddr, Via, ViaParts};
use super::method::Method;
use super::name::Name;
use super::status::Status;

/// Fields an ordinary message has; only a longer one makes its index allocate.
pub(super) const FIELDS_INLINE: usize = 24;

/// Where the fields are.
pub(super) type Fields = SmallVec<[Field; FIELDS_INLINE]>;

/// A SIP message, immutable and cheap to clone.
///
/// Made by [`Message::parse`], or by [`Draft::build`](super::Draft::build). A parsed message is known to have one
/// From, To, Call-ID and CSeq and at least one Via, all in UTF-8 and following their grammar; what else it carries is
/// looked at only by who asks. Fields keep their order, spelling and bytes, but for folds, which have become blanks
/// (RFC 3261 §7.3.1 calls the two equal).
#[derive(Clone)]
pub struct Message {
    pub(super) bytes: Bytes,
    pub(super) fields: Fields,
    pub(super) start: StartLine,
    pub(super) method: Method,
    pub(super) cseq: u32,
    pub(super) from_tag: Span,
    pub(super) to_tag: Span,
    pub(super) body: Span,
}

/// A part of the message's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    /// Messages are far below 4 GiB: what is parsed is at most [`MESSAGE_BYTES_MAX`](super::MESSAGE_BYTES_MAX), what
    /// is printed is put together from such parts.
    pub(super) const fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    pub(super) const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(super) const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The span of `part`, which is a slice of `whole`.
    pub(super) fn of(whole: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
        Self::new(start, start + part.len())
    }
}

/// One header field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) known: Option<Name>,
    pub(super) name_length: u16,
    pub(super) name_start: u32,
    pub(super) value: Span,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum StartLine {
    Request { uri: Span },
    Response { status: Status, reason: Span },
}

impl Message {
    /// The message as it is sent.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether this is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.start, StartLine::Request { .. })
    }

    /// The method of the request; of a response, the method of the request it answers.
    pub fn method(&self) -> Method {
        self.method.clone()
    }

    /// Whether [`method`](Self::method) is `method`, without a copy.
    pub fn is_method(&self, method: &Method) -> bool {
        self.method == *method
    }

    /// The Request-URI as it stands; empty for a response.
    pub fn uri(&self) -> &str {
        match self.start {
            StartLine::Request { uri } => self.text(uri).unwrap_or(""),
            StartLine::Response { .. } => "",
        }
    }

    /// The status of a response.
    pub fn status(&self) -> Option<Status> {
        match self.start {
            StartLine::Request { .. } => None,
            StartLine::Response { status, .. } => Some(status),
        }
    }

    /// The reason phrase of a response; empty for a request, or if it is not UTF-8.
    pub fn reason(&self) -> &str {
        match self.start {
            StartLine::Request { .. } => "",
            StartLine::Response { reason, .. } => self.text(reason).unwrap_or(""),
        }
    }

    /// The value of the first field `name`, trimmed. A value that is not UTF-8 counts as absent.
    pub fn get(&self, name: Name) -> Option<&str> {
        self.all(name).next()
    }

    /// The value of each field `name`, trimmed, in order; values that are not UTF-8 are left out.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &str> {
        self.fields
            .iter()
            .filter(move |field| field.known == Some(name))
            .filter_map(|field| self.text(field.value))
    }

    /// Each element of the comma-separated list that all fields `name` together are (RFC 3261 §7.3.1). Commas in
    /// quotes and angle brackets do not separate.
    pub fn list(&self, name: Name) -> impl Iterator<Item = &str> {
        self.all(name).flat_map(grammar::list)
    }

    /// The value of the first field with this name, known or not, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        match Name::parse(name) {
            Some(known) => self.get(known),
            None => self
                .fields()
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .and_then(|(_, value)| std::str::from_utf8(value).ok()),
        }
    }

    /// All fields in order: name and value as received.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| {
            let start = field.name_start as usize;
            let name = &self.bytes[start..start + usize::from(field.name_length)];
            (std::str::from_utf8(name).unwrap_or(""), &self.bytes[field.value.range()])
        })
    }

    /// The branch of the top Via: which transaction it belongs to.
    pub fn branch(&self) -> Option<&str> {
        super::header::ViaParts::parse(self.list(Name::Via).next()?).ok().map(|via| via.branch)
    }

    /// Call-ID.
    pub fn call_id(&self) -> &str {
        self.get(Name::CallId).unwrap_or("")
    }

    /// CSeq.
    pub fn cseq(&self) -> CSeq {
        CSeq { number: self.cseq, method: self.method.clone() }
    }

    /// The From value as it stands, tag included.
    pub fn from(&self) -> &str {
        self.get(Name::From).unwrap_or("")
    }

    /// The To value as it stands, tag included.
    pub fn to(&self) -> &str {
        self.get(Name::To).unwrap_or("")
    }

    /// From as a value; `None` if its URI is malformed.
    pub fn from_addr(&self) -> Option<NameAddr> {
        NameAddr::parse(self.from()).ok()
    }

    /// To as a value; `None` if its URI is malformed.
    pub fn to_addr(&self) -> Option<NameAddr> {
        NameAddr::parse(self.to()).ok()
    }

    /// The tag of From; empty if it has none (RFC 2543 peers).
    pub fn from_tag(&self) -> &str {
        self.text(self.from_tag).unwrap_or("")
    }

    /// The tag of To, if it has one.
    pub fn to_tag(&self) -> Option<&str> {
        self.text(self.to_tag).filter(|tag| !tag.is_empty())
    }

    /// The topmost Via.
    pub fn top_via(&self) -> Via {
        self.list(Name::Via).next().and_then(|via| Via::parse(via).ok()).unwrap_or_default()
    }

    /// The first Contact; `None` if there is none, or it is `*` or malformed.
    pub fn contact(&self) -> Option<NameAddr> {
        self.list(Name::Contact).next().and_then(|contact| NameAddr::parse(contact).ok())
    }

    /// Whether Supported or Require names option `tag`.
    pub fn supports(&self, tag: &str) -> bool {
        grammar::contains_token(self.list(Name::Supported), tag) || self.requires(tag)
    }

    /// Whether Require names option `tag`.
    pub fn requires(&self, tag: &str) -> bool {
        grammar::contains_token(self.list(Name::Require), tag)
    }

    /// Whether Allow names `method`.
    pub fn allows(&self, method: &Method) -> bool {
        self.list(Name::Allow).any(|allowed| allowed == method.as_str())
    }

    /// The body; empty if there is none.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(self.body.range())
    }

    /// Content-Type as it stands.
    pub fn content_type(&self) -> Option<&str> {
        self.get(Name::ContentType)
    }

    /// The session description: the body if it is `application/sdp`, or the first such part of a `multipart` body
    /// (RFC 5621). `None` if there is none or it is empty.
    pub fn sdp(&self) -> Option<Bytes> {
        if self.body.is_empty() {
            return None;
        }
        super::body::multipart::find(self.content_type()?, &self.body(), "application/sdp")
    }

    /// The same request with what its top Via lacks of where it came from: `received` and a filled `rport` (RFC 3261
    /// §18.2.1, RFC 3581 §4).
    pub(super) fn noting(self, source: SocketAddr) -> Message {
        let Some(field) = self.fields.iter().find(|field| field.known == Some(Name::Via)) else {
            return self;
        };
        let Some(top) = self.text(field.value).and_then(|vias| grammar::list(vias).next()) else {
            return self;
        };
        let Some(noted) = ViaParts::parse(top).ok().and_then(|via| via.noting(top, source)) else {
            return self;
        };
        let span = Span::of(&self.bytes, top.as_bytes());
        self.splice(span, noted.as_bytes())
    }

    /// Replaces one part of the header by other bytes.
    fn splice(mut self, span: Span, new: &[u8]) -> Message {
        let mut bytes = BytesMut::with_capacity(self.bytes.len() + new.len());
        bytes.extend_from_slice(&self.bytes[..span.start as usize]);
        bytes.extend_from_slice(new);
        bytes.extend_from_slice(&self.bytes[span.end as usize..]);
        let grown = new.len() as i64 - span.range().len() as i64;
        let moved = |at: u32| if at >= span.end { (i64::from(at) + grown) as u32 } else { at };
        let moved = |old: Span| Span { start: moved(old.start), end: moved(old.end) };
        for field in &mut self.fields {
            field.name_start = moved(Span { start: field.name_start, end: field.name_start }).start;
            field.value = moved(field.value);
        }
        for span in [&mut self.from_tag, &mut self.to_tag, &mut self.body] {
            *span = moved(*span);
        }
        // The start line stands before every field.
        Message { bytes: bytes.freeze(), ..self }
    }

    pub(super) fn text(&self, span: Span) -> Option<&str> {
        std::str::from_utf8(self.bytes.get(span.range())?).ok()
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Message {}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({:?})", String::from_utf8_lossy(&self.bytes))
    }
}

impl fmt::Display for Message {
    /// One line for the log: `INVITE sip:7001@example.test` or `200 OK to INVITE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.start {
            StartLine::Request { .. } => write!(f, "{} {}", self.method, self.uri()),
            StartLine::Response { status, .. } => write!(f, "{status} {} to {}", self.reason(), self.method),
        }
    }
}

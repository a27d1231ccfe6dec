//! A message being written.

use std::fmt::{self, Display, Write};

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::grammar;
use super::header::{split_cseq, split_name_addr};
use super::message::{FIELDS_INLINE, Field, Fields, Message, Span, StartLine};
use super::method::Method;
use super::name::Name;
use super::status::Status;

/// A message being written. Fields are printed in the order they were added, Content-Length last.
///
/// No value can add a line of its own: CR, LF and NUL in anything written here become blanks.
#[derive(Clone)]
pub struct Draft {
    start: Start,
    /// Values, one after another; what was replaced stays behind unused.
    text: Vec<u8>,
    lines: SmallVec<[Line; FIELDS_INLINE]>,
    body: Bytes,
}

#[derive(Clone)]
enum Start {
    Request { method: Method, uri: String },
    Response { method: Method, status: Status, reason: Option<String> },
}

#[derive(Clone)]
struct Line {
    name: LineName,
    value: Span,
}

#[derive(Clone)]
enum LineName {
    Known(Name),
    Other(Box<str>),
}

impl Draft {
    /// A request with nothing but its first line.
    pub fn request(method: Method, uri: &str) -> Draft {
        Draft::new(Start::Request { method, uri: clean(uri) }, 512)
    }

    /// A response to `request`, with what every response takes over from it (RFC 3261 §8.2.6.2, §12.1.1): Via, From,
    /// To, Call-ID, CSeq, Timestamp, and Record-Route where the response can make a dialog.
    pub fn response(request: &Message, status: Status) -> Draft {
        let method = request.method();
        let makes_dialog = status.0 > 100
            && status.0 < 300
            && matches!(method, Method::Invite | Method::Subscribe | Method::Refer | Method::Notify);
        let mut draft = Draft::new(Start::Response { method, status, reason: None }, 768);
        for field in &request.fields {
            let Some(name) = field.known else { continue };
            let copied = match name {
                Name::Via | Name::From | Name::To | Name::CallId | Name::CSeq => true,
                Name::Timestamp => status == Status::TRYING,
                Name::RecordRoute => makes_dialog,
                _ => false,
            };
            if copied {
                draft.push(LineName::Known(name), &request.bytes[field.value.range()]);
            }
        }
        draft
    }

    /// A response with nothing but its first line, to a request that could not be parsed.
    pub(super) fn bare_response(method: Method, status: Status) -> Draft {
        Draft::new(Start::Response { method, status, reason: None }, 512)
    }

    fn new(start: Start, capacity: usize) -> Draft {
        Draft { start, text: Vec::with_capacity(capacity), lines: SmallVec::new(), body: Bytes::new() }
    }

    /// Sets the reason phrase of a response; without it the code's own is used. Does nothing to a request.
    pub fn reason(&mut self, text: &str) -> &mut Self {
        if let Start::Response { reason, .. } = &mut self.start {
            *reason = Some(clean(text));
        }
        self
    }

    /// Adds a tag to To, unless it has one.
    pub fn to_tag(&mut self, tag: &str) -> &mut Self {
        let to = self.get(Name::To).unwrap_or("").to_owned();
        if find_tag(&to).is_none() {
            self.set(Name::To, format_args!("{to};tag={tag}"));
        }
        self
    }

    /// Appends a field.
    pub fn add(&mut self, name: Name, value: impl Display) -> &mut Self {
        self.push_display(LineName::Known(name), value);
        self
    }

    /// Appends a field that may have no [`Name`] here. A name that is no token is left out.
    pub fn add_raw(&mut self, name: &str, value: impl Display) -> &mut Self {
        if let Some(name) = line_name(name) {
            self.push_display(name, value);
        }
        self
    }

    /// Appends a field whose value need not be UTF-8: passes on what came in. A name that is no token is left out.
    pub fn add_bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        if let Some(name) = line_name(name) {
            self.push(name, value);
        }
        self
    }

    /// Puts a field before all others of its name.
    pub fn prepend(&mut self, name: Name, value: impl Display) -> &mut Self {
        let at = self.position(name).unwrap_or(0);
        self.push_display(LineName::Known(name), value);
        if let Some(line) = self.lines.pop() {
            self.lines.insert(at, line);
        }
        self
    }

    /// Replaces all fields of that name by one, at the place of the first.
    pub fn set(&mut self, name: Name, value: impl Display) -> &mut Self {
        let at = self.position(name);
        self.push_display(LineName::Known(name), value);
        if let Some(at) = at
            && let Some(line) = self.lines.pop()
        {
            self.lines[at] = line;
            let mut index = 0;
            self.lines.retain(|line| {
                index += 1;
                index <= at + 1 || !line.is(name)
            });
        }
        self
    }

    /// Takes all fields of that name away.
    pub fn remove(&mut self, name: Name) -> &mut Self {
        self.lines.retain(|line| !line.is(name));
        self
    }

    /// The value of the first field of that name.
    pub fn get(&self, name: Name) -> Option<&str> {
        self.all(name).next()
    }

    /// The value of each field of that name.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &str> {
        self.lines
            .iter()
            .filter(move |line| line.is(name))
            .filter_map(|line| std::str::from_utf8(&self.text[line.value.range()]).ok())
    }

    /// The method of the request; of a response, of the request it answers.
    pub fn method(&self) -> &Method {
        match &self.start {
            Start::Request { method, .. } | Start::Response { method, .. } => method,
        }
    }

    /// The status of a response.
    pub fn status(&self) -> Option<Status> {
        match &self.start {
            Start::Request { .. } => None,
            Start::Response { status, .. } => Some(*status),
        }
    }

    /// The Request-URI; empty for a response.
    pub fn uri(&self) -> &str {
        match &self.start {
            Start::Request { uri, .. } => uri,
            Start::Response { .. } => "",
        }
    }

    /// Replaces the Request-URI. Does nothing to a response.
    pub fn set_uri(&mut self, new: &str) {
        if let Start::Request { uri, .. } = &mut self.start {
            *uri = clean(new);
        }
    }

    /// Sets the body and its type; an empty body takes both away.
    pub fn body(&mut self, content_type: &str, body: impl Into<Bytes>) -> &mut Self {
        self.body = body.into();
        if self.body.is_empty() {
            self.remove(Name::ContentType)
        } else {
            self.set(Name::ContentType, content_type)
        }
    }

    /// Bytes the message will have on the wire, to within a few.
    pub fn wire_len(&self) -> usize {
        let start = match &self.start {
            Start::Request { method, uri } => method.as_str().len() + uri.len() + 11,
            Start::Response { status, reason, .. } => {
                reason.as_deref().unwrap_or(status.default_reason()).len() + 14
            }
        };
        let lines: usize =
            self.lines.iter().map(|line| line.as_str().len() + line.value.range().len() + 4).sum();
        start + lines + "Content-Length: 65535\r\n\r\n".len() + self.body.len()
    }

    /// Prints the message, and indexes it on the way.
    pub fn build(&self) -> Message {
        let mut out = BytesMut::with_capacity(self.wire_len());
        let (start, fields) = self.write(&mut out);
        let body = Span::new(out.len() - self.body.len(), out.len());
        let bytes = out.freeze();
        let text = |name| {
            let field = fields.iter().find(|field| field.known == Some(name));
            field.and_then(|field| std::str::from_utf8(&bytes[field.value.range()]).ok())
        };
        let tag = |name| {
            text(name).and_then(find_tag).map_or(Span::default(), |tag| Span::of(&bytes, tag.as_bytes()))
        };
        let (from_tag, to_tag) = (tag(Name::From), tag(Name::To));
        let cseq = text(Name::CSeq).and_then(|value| split_cseq(value).ok()).map_or(0, |(number, _)| number);
        Message { fields, start, method: self.method().clone(), cseq, from_tag, to_tag, body, bytes }
    }

    /// Prints the message to the end of `out`.
    pub fn print(&self, out: &mut BytesMut) {
        out.reserve(self.wire_len());
        self.write(out);
    }

    fn write(&self, out: &mut BytesMut) -> (StartLine, Fields) {
        let start = match &self.start {
            Start::Request { method, uri } => {
                put(out, &[method.as_str(), " "]);
                let uri_start = out.len();
                put(out, &[uri]);
                let uri = Span::new(uri_start, out.len());
                put(out, &[" SIP/2.0\r\n"]);
                StartLine::Request { uri }
            }
            Start::Response { status, reason, .. } => {
                put(out, &["SIP/2.0 ", digits(&mut [0; 10], u32::from(status.0)), " "]);
                let reason_start = out.len();
                put(out, &[reason.as_deref().unwrap_or(status.default_reason())]);
                let reason = Span::new(reason_start, out.len());
                put(out, &["\r\n"]);
                StartLine::Response { status: *status, reason }
            }
        };
        let mut fields = Fields::new();
        for line in &self.lines {
            // The length is ours to say.
            if !line.is(Name::ContentLength) {
                fields.push(put_line(out, &line.name, &self.text[line.value.range()]));
            }
        }
        let mut length = [0; 10];
        let length = digits(&mut length, u32::try_from(self.body.len()).unwrap_or(u32::MAX));
        fields.push(put_line(out, &LineName::Known(Name::ContentLength), length.as_bytes()));
        put(out, &["\r\n"]);
        out.put_slice(&self.body);
        (start, fields)
    }

    fn position(&self, name: Name) -> Option<usize> {
        self.lines.iter().position(|line| line.is(name))
    }

    fn push(&mut self, name: LineName, value: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(value);
        self.finish(name, start);
    }

    fn push_display(&mut self, name: LineName, value: impl Display) {
        let start = self.text.len();
        // Writing to memory does not fail; a value whose own Display fails is cut there.
        let _ = write!(Text(&mut self.text), "{value}");
        self.finish(name, start);
    }

    fn finish(&mut self, name: LineName, start: usize) {
        for byte in &mut self.text[start..] {
            if matches!(byte, b'\r' | b'\n' | 0) {
                *byte = b' ';
            }
        }
        self.lines.push(Line { name, value: Span::new(start, self.text.len()) });
    }
}

impl Line {
    fn is(&self, name: Name) -> bool {
        matches!(self.name, LineName::Known(known) if known == name)
    }

    fn as_str(&self) -> &str {
        self.name.as_str()
    }
}

impl LineName {
    fn as_str(&self) -> &str {
        match self {
            LineName::Known(name) => name.as_str(),
            LineName::Other(name) => name,
        }
    }
}

fn line_name(name: &str) -> Option<LineName> {
    match Name::parse(name) {
        Some(known) => Some(LineName::Known(known)),
        None => grammar::is_token(name).then(|| LineName::Other(name.into())),
    }
}

struct Text<'a>(&'a mut Vec<u8>);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// The tag of an address as it stands.
fn find_tag(value: &str) -> Option<&str> {
    let parts = split_name_addr(value).ok()?;
    grammar::params(parts.params)
        .filter_map(Result::ok)
        .find(|(name, _)| name.eq_ignore_ascii_case("tag"))
        .and_then(|(_, tag)| tag)
}

fn put(out: &mut BytesMut, parts: &[&str]) {
    for part in parts {
        out.put_slice(part.as_bytes());
    }
}

fn put_line(out: &mut BytesMut, name: &LineName, value: &[u8]) -> Field {
    let name_start = out.len() as u32;
    put(out, &[name.as_str(), ": "]);
    let start = out.len();
    out.put_slice(value);
    let value = Span::new(start, out.len());
    put(out, &["\r\n"]);
    let known = match name {
        LineName::Known(name) => Some(*name),
        LineName::Other(_) => None,
    };
    Field { known, name_length: name.as_str().len() as u16, name_start, value }
}

/// Decimal digits without the formatting machinery, which would cost more than the rest of the line.
fn digits(buffer: &mut [u8; 10], mut number: u32) -> &str {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    std::str::from_utf8(&buffer[at..]).unwrap_or("0")
}

fn clean(text: &str) -> String {
    text.replace(['\r', '\n', '\0'], " ")
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draft({:?})", String::from_utf8_lossy(self.build().bytes()))
    }
}

//! From bytes to [`Message`]: one pass, nothing copied, every limit stated (RFC 3261 §7).

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::grammar::{self, is_blank, is_token_byte, number};
use super::header::{ViaParts, split_cseq, split_name_addr};
use super::message::{Field, Fields, Message, Span, StartLine};
use super::method::Method;
use super::name::Name;
use super::status::Status;

/// Longest message taken. A datagram cannot be longer, and on a stream nothing we serve (descriptions, dialog-info, a
/// presence document) comes near it.
pub const MESSAGE_BYTES_MAX: usize = 65_535;

/// Longest line taken, folds included. The longest honest ones are an Identity with its certificate or a bearer token,
/// some 4 KiB.
pub const LINE_BYTES_MAX: usize = 16_384;

/// Most header fields taken. Seventy hops (Max-Forwards) that each add a Via and a Record-Route make 140.
pub const FIELDS_MAX: usize = 256;

/// Most elements taken in one of the lists that grow with each hop or are walked as a whole (Via, Route, Record-Route,
/// Path, Contact). Twice what seventy hops can make.
pub const LIST_ELEMENTS_MAX: usize = 140;

/// Fields of which a message must have exactly one. Max-Forwards and Content-Length may be missing (RFC 2543 peers,
/// datagrams), but not twice.
const SINGLE: u128 = Name::From.bit()
    | Name::To.bit()
    | Name::CallId.bit()
    | Name::CSeq.bit()
    | Name::MaxForwards.bit()
    | Name::ContentLength.bit();

/// Fields that would make a request ambiguous if it had two (RFC 3261 §20, RFC 3515 §2.2, RFC 3891 §3, RFC 6665 §8.2).
const SINGLE_IN_REQUEST: u128 = SINGLE
    | Name::ContentType.bit()
    | Name::Event.bit()
    | Name::Expires.bit()
    | Name::ReferTo.bit()
    | Name::Replaces.bit();

/// Why bytes are no message. The status a request is answered with is chosen in `transaction::reject`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseError {
    /// Nothing but line ends: a keep-alive (RFC 5626 §3.5.1).
    #[error("nothing but line ends")]
    Empty,
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("message is longer than 65535 bytes")]
    TooLong,
    /// A line longer than [`LINE_BYTES_MAX`].
    #[error("a line is longer than 16384 bytes")]
    LineTooLong,
    /// More fields than [`FIELDS_MAX`].
    #[error("more than 256 header fields")]
    TooManyFields,
    /// More elements than [`LIST_ELEMENTS_MAX`] in this list.
    #[error("more than 140 elements in {0}")]
    TooManyElements(Name),
    /// The first line is neither a Request-Line nor a Status-Line.
    #[error("malformed start line")]
    StartLine,
    /// A request of a SIP version we don't speak.
    #[error("SIP version is not 2.0")]
    Version,
    /// A CR or LF that is not part of a line end.
    #[error("stray CR or LF in the header")]
    StrayLineEnd,
    /// A header line without a name and a colon.
    #[error("malformed header line")]
    HeaderLine,
    /// No empty line after the header.
    #[error("header does not end")]
    Unfinished,
    /// A mandatory field is missing.
    #[error("{0} is missing")]
    Missing(Name),
    /// A field that may stand once stands twice.
    #[error("more than one {0}")]
    Repeated(Name),
    /// A field the transaction or dialog depends on does not follow its grammar.
    #[error("malformed {0}: {1}")]
    Field(Name, &'static str),
    /// CSeq names another method than the request line.
    #[error("CSeq names another method")]
    CSeqMethod,
    /// The body is shorter than Content-Length says.
    #[error("body is shorter than Content-Length")]
    ShortBody,
}

impl Message {
    /// Reads one whole message: a datagram, or what a stream's framing cut out.
    ///
    /// Line ends before the start line are skipped, bytes after the body (by Content-Length) are cut; without a
    /// Content-Length the body is the rest (RFC 3261 §18.3). Total: any bytes give a message or an error.
    pub fn parse(bytes: Bytes) -> Result<Message, ParseError> {
        Self::read(bytes).map_err(|(error, _)| error)
    }

    /// The same; gives the bytes back if they are no message.
    pub(super) fn read(bytes: Bytes) -> Result<Message, (ParseError, Bytes)> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err((ParseError::TooLong, bytes));
        }
        let bytes = skip_line_ends(bytes);
        let scan = match Scan::run(&bytes) {
            Ok(scan) => scan,
            Err(error) => return Err((error, bytes)),
        };
        let bytes = if scan.folds.is_empty() { bytes } else { unfold(bytes, &scan.folds) };
        check(bytes, scan)
    }
}

/// Where things are, before anybody has looked at values.
struct Scan {
    start: StartLine,
    method: Span,
    fields: Fields,
    /// Line ends inside folded values.
    folds: SmallVec<[u32; 4]>,
    body_start: usize,
}

impl Scan {
    fn run(bytes: &[u8]) -> Result<Scan, ParseError> {
        let first = line_end(bytes, 0)?;
        let (start, method) = start_line(&bytes[..first])?;
        let mut scan =
            Scan { start, method, fields: Fields::new(), folds: SmallVec::new(), body_start: bytes.len() };
        let mut at = first + 2;
        loop {
            let end = line_end(bytes, at)?;
            if end == at {
                scan.body_start = end + 2;
                return Ok(scan);
            }
            if is_blank(bytes[at]) {
                scan.fold(bytes, at, end)?;
            } else {
                if scan.fields.len() == FIELDS_MAX {
                    return Err(ParseError::TooManyFields);
                }
                scan.fields.push(field(bytes, at, end)?);
            }
            at = end + 2;
        }
    }

    /// A line that begins with a blank continues the value before it (RFC 3261 §7.3.1).
    fn fold(&mut self, bytes: &[u8], at: usize, end: usize) -> Result<(), ParseError> {
        let field = self.fields.last_mut().ok_or(ParseError::HeaderLine)?;
        if end - field.name_start as usize > LINE_BYTES_MAX {
            return Err(ParseError::LineTooLong);
        }
        self.folds.push(at as u32 - 2);
        let line = trimmed(bytes, at, end);
        if line.is_empty() {
            return Ok(());
        }
        // A value that starts on its second line starts there.
        field.value =
            if field.value.is_empty() { line } else { Span { start: field.value.start, end: line.end } };
        Ok(())
    }
}

/// RFC 3261 §7.5: line ends before the start line are ignored.
fn skip_line_ends(mut bytes: Bytes) -> Bytes {
    let first = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    if first > 0 {
        bytes = bytes.slice(first..);
    }
    bytes
}

/// Where the line that starts at `at` ends: the offset of its CR LF.
fn line_end(bytes: &[u8], at: usize) -> Result<usize, ParseError> {
    let rest = &bytes[at..];
    if rest.is_empty() {
        return Err(if at == 0 { ParseError::Empty } else { ParseError::Unfinished });
    }
    let length = memchr::memchr2(b'\r', b'\n', rest).ok_or(ParseError::Unfinished)?;
    if length > LINE_BYTES_MAX {
        return Err(ParseError::LineTooLong);
    }
    match &rest[length..] {
        [b'\r', b'\n', ..] => Ok(at + length),
        [b'\r'] => Err(ParseError::Unfinished),
        // Taking a lone CR or LF for a line end here and not elsewhere is how header injection works.
        _ => Err(ParseError::StrayLineEnd),
    }
}

fn start_line(line: &[u8]) -> Result<(StartLine, Span), ParseError> {
    if let Some(rest) = line.strip_prefix(b"SIP/2.0 ")
        && let [a @ b'1'..=b'6', b @ b'0'..=b'9', c @ b'0'..=b'9', reason @ ..] = rest
        && (reason.is_empty() || reason[0] == b' ')
    {
        let status = Status([a, b, c].iter().fold(0, |code, digit| code * 10 + u16::from(**digit - b'0')));
        let reason = Span::new(line.len() - reason.len().saturating_sub(1), line.len());
        return Ok((StartLine::Response { status, reason }, Span::default()));
    }
    let method = line.iter().position(|byte| !is_token_byte(*byte)).ok_or(ParseError::StartLine)?;
    if method == 0 || line[method] != b' ' {
        return Err(ParseError::StartLine);
    }
    let uri_length = memchr::memchr(b' ', &line[method + 1..]).ok_or(ParseError::StartLine)?;
    let uri = Span::new(method + 1, method + 1 + uri_length);
    let version = &line[method + 2 + uri_length..];
    if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        return Err(if is_sip_version(version) { ParseError::Version } else { ParseError::StartLine });
    }
    let text = std::str::from_utf8(&line[uri.range()]).map_err(|_| ParseError::StartLine)?;
    let has_scheme = text.find(':').is_some_and(|colon| colon > 0 && colon + 1 < text.len());
    // `<sip:…>` and the like: RFC 4475 §3.1.2.7.
    if !has_scheme || !text.as_bytes()[0].is_ascii_alphabetic() || text.bytes().any(|b| b < b' ' || b == 0x7f)
    {
        return Err(ParseError::StartLine);
    }
    Ok((StartLine::Request { uri }, Span::new(0, method)))
}

/// `SIP/` digits `.` digits.
pub(super) fn is_sip_version(text: &[u8]) -> bool {
    let Some(("SIP/", numbers)) = std::str::from_utf8(text).ok().and_then(|text| text.split_at_checked(4))
    else {
        return false;
    };
    numbers
        .split_once('.')
        .is_some_and(|(major, minor)| number::<u32>(major).is_some() && number::<u32>(minor).is_some())
}

fn field(bytes: &[u8], at: usize, end: usize) -> Result<Field, ParseError> {
    let line = &bytes[at..end];
    let name = line.iter().position(|byte| !is_token_byte(*byte)).ok_or(ParseError::HeaderLine)?;
    let mut colon = name;
    while line.get(colon).copied().is_some_and(is_blank) {
        colon += 1;
    }
    if name == 0 || line.get(colon) != Some(&b':') {
        return Err(ParseError::HeaderLine);
    }
    Ok(Field {
        known: Name::from_bytes(&line[..name]),
        name_length: name as u16, // at most LINE_BYTES_MAX
        name_start: at as u32,
        value: trimmed(bytes, at + colon + 1, end),
    })
}

/// The span without the blanks at its ends.
fn trimmed(bytes: &[u8], mut start: usize, mut end: usize) -> Span {
    while start < end && is_blank(bytes[start]) {
        start += 1;
    }
    while start < end && is_blank(bytes[end - 1]) {
        end -= 1;
    }
    Span::new(start, end)
}

/// Overwrites the line ends of folds with blanks, so that every value is one slice. In place if nobody else holds the
/// bytes.
fn unfold(bytes: Bytes, folds: &[u32]) -> Bytes {
    let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    for &fold in folds {
        bytes[fold as usize..fold as usize + 2].copy_from_slice(b"  ");
    }
    bytes.freeze()
}

/// What [`check`] finds.
struct Checked {
    method: Method,
    cseq: u32,
    from_tag: Span,
    to_tag: Span,
    body: Span,
}

fn check(mut bytes: Bytes, scan: Scan) -> Result<Message, (ParseError, Bytes)> {
    match look(&bytes, &scan) {
        Ok(Checked { method, cseq, from_tag, to_tag, body }) => {
            bytes.truncate(body.end as usize);
            Ok(Message {
                bytes,
                fields: scan.fields,
                start: scan.start,
                method,
                cseq,
                from_tag,
                to_tag,
                body,
            })
        }
        Err(error) => Err((error, bytes)),
    }
}

/// Looks at the fields transactions and dialogs stand on, and for the end of the body.
fn look(bytes: &[u8], scan: &Scan) -> Result<Checked, ParseError> {
    let is_request = matches!(scan.start, StartLine::Request { .. });
    let single = if is_request { SINGLE_IN_REQUEST } else { SINGLE };
    let mut seen = 0u128;
    let mut via_ok = false;
    let (mut from_tag, mut to_tag) = (Span::default(), Span::default());
    let mut cseq = (0, "");
    let mut content_length = None;
    for field in &scan.fields {
        let Some(name) = field.known else { continue };
        if seen & single & name.bit() != 0 {
            return Err(ParseError::Repeated(name));
        }
        seen |= name.bit();
        let value = || {
            std::str::from_utf8(&bytes[field.value.range()])
                .map_err(|_| ParseError::Field(name, "expected UTF-8"))
        };
        match name {
            Name::Via if !via_ok => {
                let first = grammar::list(value()?).next().ok_or(ParseError::Missing(name))?;
                ViaParts::parse(first).map_err(|error| ParseError::Field(name, error.why))?;
                via_ok = true;
            }
            Name::Via => drop(value()?),
            Name::From => from_tag = tag(bytes, name, value()?)?,
            Name::To => to_tag = tag(bytes, name, value()?)?,
            Name::CallId => {
                let id = value()?;
                if id.is_empty() || id.bytes().any(|byte| byte <= b' ') {
                    return Err(ParseError::Field(name, "expected one word"));
                }
            }
            Name::CSeq => cseq = split_cseq(value()?).map_err(|error| ParseError::Field(name, error.why))?,
            Name::MaxForwards => {
                number::<u8>(value()?).ok_or(ParseError::Field(name, "expected 0 to 255"))?;
            }
            Name::ContentLength => {
                let length = number::<u32>(value()?).ok_or(ParseError::Field(name, "expected a number"))?;
                content_length = Some(length as usize);
            }
            _ => {}
        }
    }
    for name in [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq] {
        if seen & name.bit() == 0 {
            return Err(ParseError::Missing(name));
        }
    }
    limit_lists(bytes, &scan.fields)?;
    if is_request && bytes[scan.method.range()] != *cseq.1.as_bytes() {
        return Err(ParseError::CSeqMethod);
    }
    let (cseq, method) = (cseq.0, Method::parse(cseq.1));
    let rest = bytes.len() - scan.body_start;
    let length = content_length.unwrap_or(rest);
    if length > rest {
        return Err(ParseError::ShortBody);
    }
    let body = Span::new(scan.body_start, scan.body_start + length);
    Ok(Checked { method, cseq, from_tag, to_tag, body })
}

/// Checks an address and finds its tag.
fn tag(bytes: &[u8], name: Name, value: &str) -> Result<Span, ParseError> {
    let parts = split_name_addr(value).map_err(|error| ParseError::Field(name, error.why))?;
    let mut tag = Span::default();
    for param in grammar::params(parts.params) {
        let (param, value) = param.map_err(|why| ParseError::Field(name, why))?;
        if param.eq_ignore_ascii_case("tag")
            && let Some(value) = value
        {
            if !grammar::is_word(value) {
                return Err(ParseError::Field(name, "expected a token as tag"));
            }
            tag = Span::of(bytes, value.as_bytes());
        }
    }
    Ok(tag)
}

fn limit_lists(bytes: &[u8], fields: &[Field]) -> Result<(), ParseError> {
    for name in [Name::Via, Name::Route, Name::RecordRoute, Name::Path, Name::Contact] {
        let mut elements = 0;
        for field in fields.iter().filter(|field| field.known == Some(name)) {
            // Commas in quotes count too: an honest list is so far below the limit that it makes no difference.
            elements += 1 + memchr::memchr_iter(b',', &bytes[field.value.range()]).count();
        }
        if elements > LIST_ELEMENTS_MAX {
            return Err(ParseError::TooManyElements(name));
        }
    }
    Ok(())
}

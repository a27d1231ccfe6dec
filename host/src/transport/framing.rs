//! Cuts a byte stream into SIP messages (RFC 3261 §18.3, §20.14) and keep-alives (RFC 5626 §3.5.1).
//!
//! Pure: bytes in, messages out, whatever the pieces the network delivered them in. A stream has no way back
//! after bad framing, because nobody knows where the next message starts; so an error here ends the connection.

use bytes::{Buf, Bytes, BytesMut};

/// A start line is shown to be SIP within so many bytes, or the peer is told apart as something else: an HTTP
/// client, a TLS handshake, a port scan.
const START_LINE_MAX: usize = 8_192;

/// A connection may rest with a buffer of this size; ten thousand phones are mostly silent.
const ROOM_KEPT: usize = 8_192;

const PING: &[u8] = b"\r\n\r\n";

/// What was found in the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// One whole message.
    Message(Bytes),
    /// A double CRLF between messages: to be answered with one CRLF (RFC 5626 §4.4.1).
    Ping,
}

/// Why the stream cannot be read any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FramingError {
    /// The first line names no SIP version.
    #[error("not SIP: the start line names no SIP version")]
    NotSip,
    /// Longer than the host takes.
    #[error("a message of more than {0} bytes")]
    TooLong(usize),
    /// A line feed without its carriage return: what one side takes for a line end the other may not.
    #[error("a line that does not end in CR LF")]
    LineEnd,
    /// A stream needs it to find the end of the message (RFC 3261 §18.3).
    #[error("no Content-Length, which a stream transport requires")]
    NoContentLength,
    /// The value is no number, or two fields contradict each other.
    #[error("Content-Length is not one number")]
    BadContentLength,
}

/// Reassembles messages from the pieces of one connection.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    message_max: usize,
    /// Bytes already searched for the end of the header block, so that a slow drip is not searched again and again.
    searched: usize,
    /// Where the line begins in which the search stopped.
    line_start: usize,
    /// Length of the message at the front, once its header block is complete.
    whole: Option<usize>,
}

impl Framer {
    /// An empty stream, of which no message may be longer than `message_max` bytes.
    pub fn new(message_max: usize) -> Self {
        Self { buffer: BytesMut::new(), message_max, searched: 0, line_start: 0, whole: None }
    }

    /// Where a reader puts what arrived, at the end.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The whole lines at the front: what is known of a message that an error has ended.
    pub fn lines(&self) -> &[u8] {
        &self.buffer[..memchr::memrchr(b'\n', &self.buffer).map_or(0, |at| at + 1)]
    }

    /// Whether a message has begun and is not yet complete.
    pub fn is_inside_message(&self) -> bool {
        self.buffer.iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// Lets go of a buffer that a large message made grow; for use between messages.
    pub fn give_back_room(&mut self) {
        if self.buffer.capacity() > ROOM_KEPT && self.buffer.len() <= PING.len() {
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
    }

    /// The next frame, `None` until more bytes arrive. After an error every further call returns the same error.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FramingError> {
        if self.whole.is_none() {
            if self.skip_line_ends() {
                return Ok(Some(Frame::Ping));
            }
            let Some(header_len) = self.find_end_of_header()? else { return Ok(None) };
            let body_len = content_length(&self.buffer[..header_len])?;
            match header_len.checked_add(body_len) {
                Some(len) if len <= self.message_max => self.whole = Some(len),
                _ => return Err(FramingError::TooLong(self.message_max)),
            }
        }
        match self.whole {
            Some(len) if self.buffer.len() >= len => {
                self.whole = None;
                self.searched = 0;
                self.line_start = 0;
                // Copied, not shared: a message kept for minutes must not hold the whole read buffer.
                let message = Bytes::copy_from_slice(&self.buffer[..len]);
                self.buffer.advance(len);
                Ok(Some(Frame::Message(message)))
            }
            _ => Ok(None),
        }
    }

    /// Drops line ends between messages. Returns true for a double CRLF, a ping; a single CRLF is a pong or
    /// padding. What could still become a ping stays.
    fn skip_line_ends(&mut self) -> bool {
        while matches!(self.buffer.first(), Some(b'\r' | b'\n')) {
            if self.buffer.starts_with(PING) {
                self.buffer.advance(PING.len());
                return true;
            }
            if PING.starts_with(&self.buffer) {
                break;
            }
            self.buffer.advance(1);
        }
        false
    }

    /// The length of the header block at the front of the buffer, its empty line included.
    fn find_end_of_header(&mut self) -> Result<Option<usize>, FramingError> {
        if matches!(self.buffer.first(), None | Some(b'\r' | b'\n')) {
            return Ok(None);
        }
        let window = &self.buffer[..self.buffer.len().min(self.message_max)];
        while let Some(offset) = memchr::memchr(b'\n', &window[self.searched..]) {
            let line = &window[self.line_start..self.searched + offset + 1];
            if self.line_start == 0 && !is_start_line(line) {
                return Err(FramingError::NotSip);
            }
            if !line.ends_with(b"\r\n") {
                return Err(FramingError::LineEnd);
            }
            if line.len() == 2 {
                return Ok(Some(self.searched + offset + 1));
            }
            self.searched += offset + 1;
            self.line_start = self.searched;
        }
        if self.line_start == 0 && !could_become_start_line(window) {
            return Err(FramingError::NotSip);
        }
        if self.buffer.len() > self.message_max {
            return Err(FramingError::TooLong(self.message_max));
        }
        self.searched = window.len();
        Ok(None)
    }
}

/// Whether a complete first line is one of SIP, of whatever version.
fn is_start_line(line: &[u8]) -> bool {
    could_become_start_line(&line[..line.len() - 1])
        && line.windows(4).any(|four| four.eq_ignore_ascii_case(b"SIP/"))
}

/// Whether an incomplete first line may still turn out to be SIP: text, and not endless.
fn could_become_start_line(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(16)];
    bytes.len() <= START_LINE_MAX
        && head.iter().all(|byte| matches!(byte, b'\t' | b'\r' | b' '..=b'~' | 0x80..))
}

/// The body length a complete header block announces.
fn content_length(header: &[u8]) -> Result<usize, FramingError> {
    let mut found: Option<u64> = None;
    let start_line = memchr::memchr(b'\n', header).map_or(header.len(), |at| at + 1);
    let mut rest = &header[start_line..];
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, next) = rest.split_at(end + 1);
        rest = next;
        let Some(value) = content_length_value(line) else { continue };
        // A folded continuation belongs to the value (RFC 3261 §7.3.1); for a number only white space is legal.
        let mut value = value.to_vec();
        while matches!(rest.first(), Some(b' ' | b'\t')) {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            value.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
        let number = parse_number(value.trim_ascii())?;
        if found.is_some_and(|earlier| earlier != number) {
            return Err(FramingError::BadContentLength);
        }
        found = Some(number);
    }
    match found {
        None => Err(FramingError::NoContentLength),
        Some(length) => Ok(usize::try_from(length).unwrap_or(usize::MAX)),
    }
}

/// The raw value if `line` is a Content-Length field, by its long or compact name.
fn content_length_value(line: &[u8]) -> Option<&[u8]> {
    let name_len = match line.first()? {
        b'C' | b'c' if line.len() > 14 && line[..14].eq_ignore_ascii_case(b"Content-Length") => 14,
        b'L' | b'l' => 1,
        _ => return None,
    };
    // White space may stand before the colon (RFC 3261 §7.3.1).
    line[name_len..].trim_ascii_start().strip_prefix(b":")
}

fn parse_number(digits: &[u8]) -> Result<u64, FramingError> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(FramingError::BadContentLength);
    }
    // More digits than a u64 holds are still a number, only far too large.
    let text = std::str::from_utf8(digits).map_err(|_| FramingError::BadContentLength)?;
    Ok(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 65_535;
    const OPTIONS: &str =
        "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP c;branch=z9hG4bK1\r\nContent-Length: 0\r\n\r\n";
    const INVITE: &str = "INVITE sip:a@b SIP/2.0\r\nf: <sip:l@c>\r\nl : 5\r\n\r\nv=0\r\n";

    fn message(text: &str) -> Frame {
        Frame::Message(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn frames_in_pieces<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<Frame>, Option<FramingError>) {
        let mut framer = Framer::new(MAX);
        let mut frames = Vec::new();
        for piece in pieces {
            framer.buffer().extend_from_slice(piece);
            loop {
                match framer.next_frame() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
        (frames, None)
    }

    fn frames(stream: &str) -> (Vec<Frame>, Option<FramingError>) {
        frames_in_pieces([stream.as_bytes()])
    }

    #[test]
    fn two_messages_in_one_segment_are_two_frames() {
        let stream = format!("{INVITE}{OPTIONS}");
        assert_eq!(frames(&stream), (vec![message(INVITE), message(OPTIONS)], None));
    }

    #[test]
    fn a_body_may_hold_empty_lines_and_fields_of_its_own() {
        let body = "a\r\n\r\nContent-Length: 99\r\n\r\n";
        let text = format!("MESSAGE sip:a@b SIP/2.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(frames(&text), (vec![message(&text)], None));
    }

    #[test]
    fn keep_alives_between_messages_are_told_apart() {
        let stream = format!("\r\n\r\n\r\n{OPTIONS}\r\n{OPTIONS}\r\n\r\n");
        assert_eq!(frames(&stream).0, vec![Frame::Ping, message(OPTIONS), message(OPTIONS), Frame::Ping]);
    }

    #[test]
    fn a_waiting_half_ping_is_not_the_inside_of_a_message() {
        let mut framer = Framer::new(MAX);
        framer.buffer().extend_from_slice(b"\r\n\r");
        assert_eq!(framer.next_frame(), Ok(None));
        assert!(!framer.is_inside_message());
        framer.buffer().extend_from_slice(b"\nOPT");
        assert_eq!(framer.next_frame(), Ok(Some(Frame::Ping)));
        assert_eq!(framer.next_frame(), Ok(None));
        assert!(framer.is_inside_message());
    }

    #[test]
    fn folded_and_repeated_equal_lengths_are_one_number() {
        let text = "A sip:b SIP/2.0\r\nContent-Length:\r\n  2\r\nl: 2\r\n\r\nhi";
        assert_eq!(frames(text), (vec![message(text)], None));
    }

    #[test]
    fn bad_framing_is_named() {
        let cases: [(&str, FramingError); 11] = [
            ("A sip:b SIP/2.0\r\nTo: x\r\n\r\n", FramingError::NoContentLength),
            ("A sip:b SIP/2.0\r\nl: 1\r\nContent-Length: 2\r\n\r\n", FramingError::BadContentLength),
            ("A sip:b SIP/2.0\r\nl: -1\r\n\r\n", FramingError::BadContentLength),
            ("A sip:b SIP/2.0\r\nl: 1 2\r\n\r\n", FramingError::BadContentLength),
            ("A sip:b SIP/2.0\r\nl:\r\n\r\n", FramingError::BadContentLength),
            ("A sip:b SIP/2.0\r\nl: 65535\r\n\r\n", FramingError::TooLong(MAX)),
            ("A sip:b SIP/2.0\r\nl: 99999999999999999999999\r\n\r\n", FramingError::TooLong(MAX)),
            ("A sip:b SIP/2.0\r\nl: 0\n\r\n", FramingError::LineEnd),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", FramingError::NotSip),
            ("\u{16}\u{3}\u{1}", FramingError::NotSip),
            ("v=0\r\n", FramingError::NotSip),
        ];
        for (stream, error) in cases {
            assert_eq!(frames(stream), (vec![], Some(error)), "{stream:?}");
        }
    }

    #[test]
    fn an_endless_header_block_or_start_line_ends_the_connection() {
        let header = format!("A sip:b SIP/2.0\r\nX: {}", "x".repeat(MAX));
        assert_eq!(frames(&header).1, Some(FramingError::TooLong(MAX)));
        let start = "x".repeat(START_LINE_MAX + 1);
        assert_eq!(frames(&start).1, Some(FramingError::NotSip));
    }

    #[test]
    fn an_error_stays() {
        let mut framer = Framer::new(MAX);
        framer.buffer().extend_from_slice(b"A sip:b SIP/2.0\r\nTo: x\r\n\r\n");
        assert_eq!(framer.next_frame(), Err(FramingError::NoContentLength));
        framer.buffer().extend_from_slice(OPTIONS.as_bytes());
        assert_eq!(framer.next_frame(), Err(FramingError::NoContentLength));
    }

    /// A piece of a stream: messages, keep-alives, and now and then rubbish.
    fn segment() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => (0usize..200, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)).prop_map(|(pad, compact, body)| {
                let name = if compact { "l" } else { "Content-Length" };
                let mut text = format!("INFO sip:a@b SIP/2.0\r\nX: {}\r\n{name}: {}\r\n\r\n", "y".repeat(pad), body.len())
                    .into_bytes();
                text.extend_from_slice(&body);
                text
            }),
            2 => proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n')], 0..7),
            1 => Just(b"\r\n\r\n".to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..40),
        ]
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_frames(
            segments in proptest::collection::vec(segment(), 0..8),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
        ) {
            let stream = segments.concat();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let whole = frames_in_pieces([stream.as_slice()]);
            let pieces = frames_in_pieces(at.windows(2).map(|pair| &stream[pair[0]..pair[1]]));
            let bytewise = frames_in_pieces(stream.chunks(1));
            prop_assert_eq!(&whole, &pieces);
            prop_assert_eq!(&whole, &bytewise);
        }

        #[test]
        fn random_bytes_never_panic_and_never_grow_without_end(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            frames_in_pieces(bytes.chunks(7));
        }
    }
}

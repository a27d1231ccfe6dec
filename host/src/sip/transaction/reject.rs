//! Answers to what is no valid request, without a transaction: wherever a Via can be read, its sender is told.

use bytes::Bytes;

use super::key::stateless_tag;
use crate::net::Flow;
use crate::sip::draft::Draft;
use crate::sip::grammar;
use crate::sip::header::{NameAddr, ViaParts};
use crate::sip::method::Method;
use crate::sip::name::Name;
use crate::sip::parse::ParseError;
use crate::sip::status::Status;

/// Lines looked at. What a response takes over stands in the first few.
const LINES_MAX: usize = 100;

/// The status a broken request is answered with: the only place where parse errors become SIP.
fn status_for(error: ParseError) -> Option<Status> {
    Some(match error {
        ParseError::Empty => return None,
        ParseError::Version => Status::VERSION_NOT_SUPPORTED,
        ParseError::TooLong => Status::MESSAGE_TOO_LARGE,
        ParseError::LineTooLong
        | ParseError::TooManyFields
        | ParseError::TooManyElements(_)
        | ParseError::StartLine
        | ParseError::StrayLineEnd
        | ParseError::HeaderLine
        | ParseError::Unfinished
        | ParseError::Missing(_)
        | ParseError::Repeated(_)
        | ParseError::Field(..)
        | ParseError::CSeqMethod
        | ParseError::ShortBody => Status::BAD_REQUEST,
    })
}

/// A response to a request that could not be parsed, and where it goes; see [`refuse`].
pub(super) fn answer(bytes: &[u8], error: ParseError, flow: Flow, salt: u64) -> Option<(Flow, Bytes)> {
    refuse(bytes, status_for(error)?, &error, flow, salt)
}

/// A response with `status` to a request of which only so much is known that `why` it is no valid one, and where the
/// response goes. `None` if it is no request, an ACK, or nothing in it says where a response belongs. `salt` makes
/// the To tag hard to guess.
pub fn refuse(
    bytes: &[u8],
    status: Status,
    why: &dyn std::error::Error,
    flow: Flow,
    salt: u64,
) -> Option<(Flow, Bytes)> {
    let (reply, mut draft) = response(bytes, status, flow, salt)?;
    // RFC 3261 §21.4.1: the phrase identifies the problem in more detail.
    if status == Status::BAD_REQUEST {
        draft.reason(&why.to_string());
    }
    Some((reply, draft.build().bytes().clone()))
}

/// A 503 with Retry-After to a request nothing of which was looked at. `None` as with [`refuse`], and where the answer
/// would be longer than the request: a forged address must not get more from us than from the forger.
pub(super) fn unavailable(bytes: &[u8], retry_after_s: u32, flow: Flow, salt: u64) -> Option<(Flow, Bytes)> {
    let (reply, mut draft) = response(bytes, Status::SERVICE_UNAVAILABLE, flow, salt)?;
    draft.add(Name::RetryAfter, retry_after_s);
    let answer = draft.build().bytes().clone();
    (answer.len() <= bytes.len()).then_some((reply, answer))
}

fn response(bytes: &[u8], status: Status, flow: Flow, salt: u64) -> Option<(Flow, Draft)> {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let start = lines.find(|line| !line.is_empty())?;
    let start = start.trim_ascii_end();
    let method = start.split(|byte| *byte == b' ').next()?;
    let method =
        std::str::from_utf8(method).ok().filter(|method| grammar::is_token(method) && *method != "ACK")?;
    let version = start.rsplit(|byte| *byte == b' ').next()?;
    if !version.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"SIP/")) {
        return None;
    }
    // The response copies lines; the Request-URI has no part in it.
    let mut draft = Draft::bare_response(Method::parse(method), status);
    let mut reply = None;
    let mut branch = String::new();
    for line in unfolded(lines).take(LINES_MAX) {
        let Some((name, value)) = split_line(&line) else { continue };
        match name {
            Name::Via => match (reply, std::str::from_utf8(value).ok()) {
                (None, Some(value)) => {
                    let top = grammar::list(value).next()?;
                    let via = ViaParts::parse(top).ok()?;
                    reply = Some(super::reply_flow(flow, &via));
                    branch = via.branch.to_owned();
                    let noted = via.noting(top, flow.remote).unwrap_or_else(|| top.to_owned());
                    draft.add(Name::Via, value.replacen(top, &noted, 1));
                }
                (None, None) => return None,
                (Some(_), _) => drop(draft.add_bytes(name.as_str(), value)),
            },
            Name::From | Name::To | Name::CallId | Name::CSeq if draft.get(name).is_none() => {
                draft.add_bytes(name.as_str(), value);
            }
            _ => {}
        }
    }
    let reply = reply?;
    if draft.get(Name::To).is_some_and(|to| NameAddr::parse(to).is_ok()) {
        let tag = stateless_tag(salt, &branch, draft.get(Name::CallId).unwrap_or(""));
        draft.to_tag(&tag);
    }
    Some((reply, draft))
}

/// Lines up to the first empty one, continuations joined.
fn unfolded<'a>(lines: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = Vec<u8>> {
    let mut lines = lines.take_while(|line| !line.is_empty()).peekable();
    std::iter::from_fn(move || {
        let mut line = lines.next()?.to_vec();
        while let Some(more) = lines.next_if(|line| line.starts_with(b" ") || line.starts_with(b"\t")) {
            line.extend_from_slice(more);
        }
        Some(line)
    })
}

fn split_line(line: &[u8]) -> Option<(Name, &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let name = Name::from_bytes(line[..colon].trim_ascii())?;
    Some((name, line[colon + 1..].trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Protocol;
    use crate::sip::Message;

    fn flow() -> Flow {
        Flow {
            protocol: Protocol::Udp,
            local: "192.0.2.1:5060".parse().expect("address"),
            remote: "192.0.2.9:40000".parse().expect("address"),
            connection: None,
            edge: None,
        }
    }

    fn answer_to(text: &str) -> Option<(Flow, Message)> {
        let text = text.replace('\n', "\r\n");
        let error = Message::parse(Bytes::from(text.clone())).expect_err("malformed");
        let (flow, bytes) = answer(text.as_bytes(), error, flow(), 1)?;
        Some((flow, Message::parse(bytes).expect("the answer is well-formed")))
    }

    const FINE: &str = "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1;rport\nv: SIP/2.0/UDP g;branch=z9hG4bK0\n\
                        From: <sip:a@x>;tag=1\nTo: <sip:b@x>\nCall-ID:\n c\nCSeq: 1 OPTIONS\n";

    #[test]
    fn the_sender_is_told_what_is_wrong() {
        let (to, response) =
            answer_to(&format!("OPTIONS sip:b@x SIP/2.0\n{FINE}Content-Length: 9\n\n")).expect("answered");
        assert_eq!(to.remote, flow().remote);
        assert_eq!(
            (response.status(), response.reason()),
            (Some(Status(400)), "body is shorter than Content-Length")
        );
        assert_eq!((response.call_id(), response.from_tag(), response.cseq().number), ("c", "1", 1));
        assert!(response.to_tag().is_some());
        assert_eq!(response.all(Name::Via).count(), 2);
        assert_eq!(response.top_via().rport(), Some(40000));
        let (_, again) =
            answer_to(&format!("OPTIONS sip:b@x SIP/2.0\n{FINE}Content-Length: 9\n\n")).expect("answered");
        assert_eq!(again, response);
    }

    #[test]
    fn another_version_is_505_and_a_bare_line_feed_400() {
        let (_, response) = answer_to(&format!("OPTIONS sip:b@x SIP/3.1\n{FINE}\n")).expect("answered");
        assert_eq!((response.status(), response.reason()), (Some(Status(505)), "Version Not Supported"));
        let text = format!("OPTIONS sip:b@x SIP/2.0\n{FINE}\n");
        let error = Message::parse(Bytes::from(text.clone())).expect_err("bare line feeds");
        let (_, bytes) = answer(text.as_bytes(), error, flow(), 1).expect("answered");
        assert!(bytes.starts_with(b"SIP/2.0 400 stray CR or LF in the header\r\n"));
    }

    #[test]
    fn without_rport_the_answer_goes_to_the_sent_by_port() {
        let broken = FINE.replace(";rport", "").replace("192.0.2.9;", "h:5070;");
        let (to, response) = answer_to(&format!("OPTIONS <sip:b@x> SIP/2.0\n{broken}\n")).expect("answered");
        assert_eq!(to.remote.to_string(), "192.0.2.9:5070");
        assert_eq!(response.top_via().received(), Some(flow().remote.ip()));
    }

    #[test]
    fn nobody_is_answered_who_cannot_be_or_must_not_be() {
        for text in [
            format!("ACK sip:b@x SIP/2.0\n{}Content-Length: 9\n\n", FINE.replace("OPTIONS", "ACK")),
            format!("SIP/2.0 200 OK\n{FINE}Content-Length: 9\n\n"),
            "OPTIONS sip:b@x SIP/2.0\nTo: <sip:b@x>\n\n".to_owned(),
            "OPTIONS sip:b@x SIP/2.0\nVia: nonsense\n\n".to_owned(),
            "GET / HTTP/1.1\nVia: SIP/2.0/UDP h\n\n".to_owned(),
            "\u{0}\u{1}\u{2}".to_owned(),
        ] {
            assert!(answer_to(&text).is_none(), "{text}");
        }
    }
}

//! `multipart/*` bodies, as far as finding one part goes (RFC 2046 §5.1, RFC 5621).

use bytes::Bytes;
use memchr::memmem;

use crate::sip::grammar::{self, trim, unquote};

/// More parts than this are not looked at: real bodies have two or three (a description and an ISUP or location part).
const PARTS_MAX: usize = 16;

/// The first part of type `wanted`: the body itself if that is its type, or a part of a `multipart` body. Empty parts
/// do not count. Multiparts inside multiparts are not opened.
pub fn find(content_type: &str, body: &Bytes, wanted: &str) -> Option<Bytes> {
    let (media_type, params) = content_type.split_at(content_type.find(';').unwrap_or(content_type.len()));
    if trim(media_type).eq_ignore_ascii_case(wanted) {
        return Some(body.clone()).filter(|body| !body.is_empty());
    }
    let (kind, _) = media_type.split_once('/')?;
    if !trim(kind).eq_ignore_ascii_case("multipart") {
        return None;
    }
    let boundary = grammar::params(params)
        .filter_map(Result::ok)
        .find(|(name, _)| name.eq_ignore_ascii_case("boundary"))
        .and_then(|(_, value)| value)
        .map(unquote)
        .filter(|boundary| !boundary.is_empty())?;
    parts(body, &boundary).take(PARTS_MAX).find_map(|part| {
        let (fields, content) = split_part(part);
        let is_wanted = fields.is_some_and(|kind| kind.eq_ignore_ascii_case(wanted));
        (is_wanted && !content.is_empty()).then(|| body.slice_ref(content))
    })
}

/// What stands between the delimiter lines.
fn parts<'a>(body: &'a [u8], boundary: &str) -> impl Iterator<Item = &'a [u8]> {
    let delimiter = format!("--{boundary}").into_bytes();
    let mut rest = next_delimiter(body, &delimiter).map(|(_, after)| after);
    std::iter::from_fn(move || {
        let text = rest?;
        if text.starts_with(b"--") {
            return None; // the closing delimiter
        }
        let content = &text[memchr::memchr(b'\n', text)? + 1..];
        // A body whose closing delimiter got lost still has its last part.
        let (part, after) = match next_delimiter(content, &delimiter) {
            Some((part, after)) => (part, Some(after)),
            None => (content, None),
        };
        rest = after;
        Some(part)
    })
}

/// What precedes the next delimiter line (without its line end), and what follows the delimiter.
fn next_delimiter<'a>(text: &'a [u8], delimiter: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    memmem::find_iter(text, delimiter).find(|&at| at == 0 || text[at - 1] == b'\n').map(|at| {
        let before = &text[..at];
        let before = before.strip_suffix(b"\n").unwrap_or(before);
        let before = before.strip_suffix(b"\r").unwrap_or(before);
        (before, &text[at + delimiter.len()..])
    })
}

/// The media type a part declares, and its content.
fn split_part(part: &[u8]) -> (Option<&str>, &[u8]) {
    let mut rest = part;
    let mut media_type = None;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = &rest[end + 1..];
        if line.is_empty() {
            return (media_type, rest);
        }
        let field = std::str::from_utf8(line).ok().and_then(|line| line.split_once(':'));
        if let Some((name, value)) = field
            && (trim(name).eq_ignore_ascii_case("Content-Type") || trim(name).eq_ignore_ascii_case("c"))
        {
            media_type = value.split(';').next().map(trim);
        }
    }
    (media_type, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "multipart/mixed;boundary=\"-x y\"";
    const BODY: &str = "preamble\r\n---x y\r\nContent-Type: application/isup\r\n\r\n\u{1}\u{2}\r\n---x y\r\n\
                        c: application/SDP ; x=y\r\nContent-Disposition: session\r\n\r\nv=0\r\ns=-\r\n\r\n---x y--\r\n";

    fn sdp(content_type: &str, body: &str) -> Option<String> {
        let found = find(content_type, &Bytes::copy_from_slice(body.as_bytes()), "application/sdp")?;
        Some(String::from_utf8_lossy(&found).into_owned())
    }

    #[test]
    fn the_description_is_found_alone_and_among_parts() {
        assert_eq!(sdp("Application/SDP;charset=utf-8", "v=0\r\n").as_deref(), Some("v=0\r\n"));
        assert_eq!(sdp(MIXED, BODY).as_deref(), Some("v=0\r\ns=-\r\n"));
    }

    #[test]
    fn a_lost_end_or_bare_line_feeds_do_not_hide_it() {
        let cut = BODY.split("\r\n---x y--").next().expect("has an end");
        assert_eq!(sdp(MIXED, cut).as_deref(), Some("v=0\r\ns=-\r\n"));
        assert_eq!(sdp(MIXED, &BODY.replace('\r', "")).as_deref(), Some("v=0\ns=-\n"));
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        assert_eq!(sdp("text/plain", "v=0"), None);
        assert_eq!(sdp("application/sdp", ""), None);
        assert_eq!(sdp("multipart/mixed", BODY), None);
        assert_eq!(sdp("multipart/mixed;boundary=other", BODY), None);
        assert_eq!(
            sdp("multipart/mixed;boundary=b", "--b\r\nContent-Type: application/sdp\r\n\r\n\r\n--b--"),
            None
        );
        assert_eq!(sdp("nonsense", BODY), None);
    }
}

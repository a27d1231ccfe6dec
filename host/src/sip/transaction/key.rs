//! Which transaction a message belongs to (RFC 3261 §17.1.3, §17.2.3).

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::sip::header::{BRANCH_COOKIE, ViaParts};
use crate::sip::message::Message;
use crate::sip::method::Method;
use crate::sip::name::Name;

/// Keys are compared as bytes: parts joined by a byte no part can hold.
pub(super) type Key = Box<[u8]>;

const SEPARATOR: u8 = 0;

/// Writes the key of the server transaction a request with this top Via belongs to, if its method were `method` (an
/// ACK belongs to its INVITE, a CANCEL names one).
///
/// With the cookie: branch, sent-by and method. Without it (RFC 2543): Request-URI, From tag, Call-ID, CSeq number and
/// the whole Via. The To tag is left out, as an ACK has one its INVITE had not; no second INVITE could differ in it alone.
pub(super) fn server(out: &mut Vec<u8>, request: &Message, via: &ViaParts<'_>, method: &Method) {
    out.clear();
    if via.has_cookie() {
        part(out, via.branch);
    } else {
        part(out, "");
        for text in [request.uri(), request.from_tag(), request.call_id(), via.transport, via.params] {
            part(out, text);
        }
        out.extend_from_slice(&request.cseq.to_be_bytes());
    }
    out.extend(via.host.bytes().map(|byte| byte.to_ascii_lowercase()));
    out.extend_from_slice(&via.port.unwrap_or(0).to_be_bytes());
    part(out, method.as_str());
}

/// Writes what the copies of one request that reached us along different paths have in common (RFC 3261 §8.2.2.2).
///
/// The Request-URI is part of it: a proxy that forks a call to two users of ours sends two requests that differ in
/// nothing else, and both are meant.
pub(super) fn merged(out: &mut Vec<u8>, request: &Message) {
    out.clear();
    for text in [request.call_id(), request.from_tag(), request.uri(), request.method.as_str()] {
        part(out, text);
    }
    out.extend_from_slice(&request.cseq.to_be_bytes());
}

fn part(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(SEPARATOR);
}

/// The branch of a client transaction: its number, so that a response finds it, the mark of the host in a cluster, and
/// chance, so that nobody can guess it.
pub(super) fn branch(id: u64, mark: &str, chance: u64) -> String {
    format!("{BRANCH_COOKIE}{id:x}.{mark}{chance:016x}")
}

/// The number in a branch of ours.
pub(super) fn id_of_branch(branch: &str) -> Option<u64> {
    let (id, _) = branch.strip_prefix(BRANCH_COOKIE)?.split_once('.')?;
    u64::from_str_radix(id, 16).ok()
}

/// The To tag of a response no transaction stands behind: the same for each repeat of a request, and for its ACK
/// (RFC 3261 §8.2.7).
pub(super) fn stateless_tag(salt: u64, branch: &str, call_id: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (salt, branch, call_id).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The tag of `request`, see [`stateless_tag`].
pub(super) fn stateless_tag_of(salt: u64, request: &Message) -> String {
    let branch =
        request.list(Name::Via).next().and_then(|via| ViaParts::parse(via).ok()).map_or("", |via| via.branch);
    stateless_tag(salt, branch, request.call_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(via: &str, method: &str, rest: &str, as_method: &Method) -> Vec<u8> {
        let text = format!(
            "{method} sip:b@x SIP/2.0\r\nVia: {via}\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>{rest}\r\nCall-ID: c\r\n\
             CSeq: 1 {method}\r\n\r\n"
        );
        let message = Message::parse(text.into()).expect("valid");
        let mut out = vec![];
        server(&mut out, &message, &ViaParts::parse(via).expect("valid"), as_method);
        out
    }

    #[test]
    fn branch_sent_by_and_method_make_the_key() {
        let via = "SIP/2.0/UDP Host:5060;branch=z9hG4bKa;rport";
        let invite = key(via, "INVITE", "", &Method::Invite);
        assert_eq!(invite, key("SIP/2.0/TCP host:5060;branch=z9hG4bKa", "ACK", ";tag=9", &Method::Invite));
        assert_eq!(invite, key(via, "CANCEL", "", &Method::Invite));
        assert_ne!(invite, key(via, "CANCEL", "", &Method::Cancel));
        assert_ne!(invite, key("SIP/2.0/UDP host;branch=z9hG4bKa", "INVITE", "", &Method::Invite));
        assert_ne!(invite, key("SIP/2.0/UDP host:5060;branch=z9hG4bKA", "INVITE", "", &Method::Invite));
    }

    #[test]
    fn without_the_cookie_the_rest_of_the_request_counts() {
        let old = key("SIP/2.0/UDP h;branch=1", "INVITE", "", &Method::Invite);
        assert_eq!(old, key("SIP/2.0/UDP h;branch=1", "ACK", ";tag=9", &Method::Invite));
        assert_ne!(old, key("SIP/2.0/UDP h;branch=2", "INVITE", "", &Method::Invite));
        assert_ne!(old, key("SIP/2.0/UDP g;branch=1", "INVITE", "", &Method::Invite));
        assert_eq!(
            key("SIP/2.0/UDP h", "INVITE", "", &Method::Invite),
            key("SIP/2.0/UDP h", "ACK", ";tag=9", &Method::Invite)
        );
    }

    #[test]
    fn a_branch_carries_its_number() {
        assert_eq!(id_of_branch(&branch(0xabc, "", 7)), Some(0xabc));
        for text in ["", "z9hG4bK", "z9hG4bKabc", "z9hG4bKxyz.1", "abc.1", "z9hG4bKfffffffffffffffff.1"] {
            assert_eq!(id_of_branch(text), None, "{text}");
        }
    }
}

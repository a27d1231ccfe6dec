//! Two voices on the same bytes: where our parser and rsip's both accept a message, its values must agree.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use rsip::prelude::*;

use super::*;

const INVITE: &str = "INVITE sip:bob@biloxi.example.com;transport=tcp;lr SIP/2.0\r\n\
Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK74b43;ttl=16;received=192.0.2.207\r\n\
Via: SIP/2.0/TCP ss1.atlanta.example.com;branch=z9hG4bK2d4790.1\r\n\
Max-Forwards: 69\r\n\
Record-Route: <sip:ss1.atlanta.example.com;lr>\r\n\
From: Alice <sip:alice@atlanta.example.com>;tag=9fxced76sl\r\n\
To: \"Bob B\" <sip:bob@biloxi.example.com>\r\n\
Call-ID: 3848276298220188511@atlanta.example.com\r\n\
CSeq: 1 INVITE\r\n\
Contact: <sip:alice@client.atlanta.example.com;transport=tcp>;q=0.7;expires=60\r\n\
Subject: hello\r\n\
X-Unknown: anything at all\r\n\
Content-Type: application/sdp\r\n\
Content-Length: 5\r\n\
\r\n\
v=0\r\n";

fn ours(text: &str) -> Option<Message> {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).ok()
}

fn theirs(text: &str) -> Option<rsip::Request> {
    rsip::Request::try_from(text.as_bytes().to_vec()).ok()
}

/// A value the two read otherwise, as text. Ours is `None` where we refuse it.
#[derive(Debug)]
struct Difference {
    what: &'static str,
    ours: Option<String>,
    theirs: String,
}

/// Compares what both say about one request. Where rsip has no typed value there is nothing to compare.
fn compare(ours: &Message, theirs: &rsip::Request) -> Vec<Difference> {
    let mut differences = vec![];
    let typed = |header: Option<&dyn Typed>| header.and_then(Typed::address);
    let from = typed(theirs.from_header().ok().map(|header| header as &dyn Typed));
    let to = typed(theirs.to_header().ok().map(|header| header as &dyn Typed));
    let contact = typed(theirs.contact_header().ok().map(|header| header as &dyn Typed));
    let via = theirs.via_header().ok().and_then(|header| header.typed().ok());
    let cseq = theirs.cseq_header().ok().and_then(|header| header.typed().ok());
    let tag =
        |address: &Option<Address>| address.as_ref().map(|address| address.tag.clone().unwrap_or_default());
    let top = ours.top_via();
    for (what, ours, theirs) in [
        ("method", ours.method().to_string(), Some(theirs.method.to_string())),
        ("call-id", ours.call_id().to_owned(), theirs.call_id_header().ok().map(|id| id.value().to_owned())),
        ("cseq", ours.cseq().to_string(), cseq.map(|cseq| format!("{} {}", cseq.seq, cseq.method))),
        ("from tag", ours.from_tag().to_owned(), tag(&from)),
        ("to tag", ours.to_tag().unwrap_or("").to_owned(), tag(&to)),
        ("sent-by", top.sent_by(), via.as_ref().map(|via| via.uri.to_string())),
        ("branch", top.branch().to_owned(), via.and_then(|via| via.branch().map(ToString::to_string))),
    ] {
        if let Some(theirs) = theirs.filter(|theirs| *theirs != ours) {
            differences.push(Difference { what, ours: Some(ours), theirs });
        }
    }
    for (what, ours, theirs) in [
        ("uri", Uri::parse(ours.uri()).ok(), Some(theirs.uri.to_string())),
        ("from", ours.from_addr().map(|from| from.uri), from.map(|from| from.uri)),
        ("to", ours.to_addr().map(|to| to.uri), to.map(|to| to.uri)),
        ("contact", ours.contact().map(|contact| contact.uri), contact.map(|contact| contact.uri)),
    ] {
        let Some(theirs) = theirs else { continue };
        // Names of transports come back in capitals.
        let same = match (&ours, Uri::parse(&theirs)) {
            (Some(ours), Ok(theirs)) => ours.equals(&theirs),
            (None, Err(_)) => true,
            (Some(_), Err(_)) | (None, Ok(_)) => false,
        };
        if !same {
            let theirs = theirs.replace(";transport=TCP", ";transport=tcp");
            differences.push(Difference { what, ours: ours.map(|uri| uri.to_string()), theirs });
        }
    }
    differences
}

/// Why rsip reads a damaged value otherwise, where we know.
fn reason(difference: &Difference) -> Option<&'static str> {
    let Difference { what, ours, theirs } = difference;
    match ours {
        None if *what == "cseq" => None,
        None => Some("rsip takes as much of a URI as it can read; we refuse it"),
        Some(ours) if !ours.is_empty() && ours == theirs && !ours.starts_with("sip") => {
            Some("rsip looks into schemes it does not know")
        }
        Some(ours) if ours == theirs && theirs.contains('?') => Some("rsip does not know headers of URIs"),
        Some(ours) if ours.starts_with(theirs) => Some("rsip cuts a value at what it does not expect"),
        Some(ours) if ours.is_empty() => Some("rsip does not split a list of Vias"),
        Some(ours) if theirs.trim() == ours => Some("rsip keeps tabs around values"),
        Some(_) if theirs.contains([',', '"', ' ', '\t']) => Some("rsip does not end a value where it ends"),
        Some(_) => None,
    }
}

/// What the typed From, To and Contact of rsip have in common.
struct Address {
    uri: String,
    tag: Option<String>,
}

trait Typed {
    fn address(&self) -> Option<Address>;
}

macro_rules! typed {
    ($($header:ident)*) => {$(
        impl Typed for rsip::headers::$header {
            fn address(&self) -> Option<Address> {
                let typed = self.typed().ok()?;
                let tag = typed.params.iter().find_map(|param| match param {
                    rsip::Param::Tag(tag) => Some(tag.to_string()),
                    _ => None,
                });
                Some(Address { uri: typed.uri.to_string(), tag })
            }
        }
    )*};
}

typed!(From To Contact);

#[test]
fn what_we_read_is_what_rsip_reads() {
    let (ours, theirs) = (ours(INVITE).expect("valid"), theirs(INVITE).expect("valid"));
    assert!(compare(&ours, &theirs).is_empty());
    assert_eq!(rsip::Request::try_from(&ours), Ok(theirs));
    let response = INVITE.replacen(
        "INVITE sip:bob@biloxi.example.com;transport=tcp;lr SIP/2.0",
        "SIP/2.0 180 Ringing",
        1,
    );
    let message = super::tests::ours(&response).expect("valid");
    let built = rsip::Response::try_from(&message).expect("representable");
    assert_eq!(built, rsip::Response::try_from(response.into_bytes()).expect("valid"));
    assert_eq!(rsip::Request::try_from(&message), Err(NotRepresentable::Kind("request")));
}

#[test]
fn lists_become_one_header_for_each_element() {
    let text = INVITE.replace("lr>\r\nFrom", "lr>, <sip:p2.example.com;lr>\r\nFrom");
    let request = rsip::Request::try_from(&ours(&text).expect("valid")).expect("representable");
    let routes = request.headers.iter().filter(|header| matches!(header, Header::RecordRoute(_))).count();
    assert_eq!(routes, 2);
}

#[test]
fn what_rsip_has_no_words_for_is_said_plainly() {
    let message = |uri: &str, method: &str| {
        let text =
            INVITE.replace("INVITE", method).replace("sip:bob@biloxi.example.com;transport=tcp;lr", uri);
        rsip::Request::try_from(&ours(&text).expect("we read it"))
    };
    for (uri, part) in [
        ("sip:bob@[2001:db8::1]", "an IPv6 address"),
        ("tel:+15551234", "the scheme tel"),
        ("urn:service:sos", "a scheme other than sip"),
        ("sip:bob@x?Subject=y", "headers"),
        ("sip:bob@x;transport=carrier-pigeon", "a transport or method of its own"),
        ("sip:bob@x:y", "a malformed part"),
    ] {
        assert_eq!(message(uri, "INVITE"), Err(NotRepresentable::Uri(part)), "{uri}");
    }
    assert_eq!(message("sip:bob@x", "PING"), Err(NotRepresentable::Method("PING".to_owned())));
    let mut latin = INVITE.as_bytes().to_vec();
    let at = INVITE.find("hello").expect("there");
    latin[at] = 0xe9;
    let message = Message::parse(latin.into()).expect("tolerated");
    assert_eq!(rsip::Request::try_from(&message), Err(NotRepresentable::Header("Subject".to_owned())));
}

/// How rsip 0.4.0 fares with what we accept.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Rsip {
    /// Refuses the message.
    Refuses,
    /// Takes it, and reads some value otherwise.
    ReadsOtherwise,
    /// Takes it, and has no typed value.
    HasNoValue,
}

/// The known differences: each is a reason why rsip does not read our network. If one of these starts to fail after
/// an upgrade of rsip, it has learned something; take the line out.
#[test]
fn known_differences() {
    use Rsip::{HasNoValue, ReadsOtherwise, Refuses};
    let uri = "sip:bob@biloxi.example.com;transport=tcp;lr";
    let contact = "<sip:alice@client.atlanta.example.com;transport=tcp>;q=0.7;expires=60";
    let mut wrong = vec![];
    for (what, old, new, expected) in [
        ("IPv6 in the Request-URI", uri, "sip:bob@[2001:db8::1]", Refuses),
        ("tel: in the Request-URI", uri, "tel:+15551234", Refuses),
        ("urn: in the Request-URI", uri, "urn:service:sos", Refuses),
        ("colon in a parameter of the Request-URI", uri, "sip:bob@x;gr=urn:uuid:1", Refuses),
        ("colon in a parameter of Contact", contact, "<sip:bob@x;gr=urn:uuid:1>", ReadsOtherwise),
        ("headers of a URI", uri, "sip:bob@x;lr?Subject=y", Refuses),
        ("unknown method", "INVITE", "PING", Refuses),
        ("method in lower case", "INVITE", "invite", ReadsOtherwise),
        ("compact names", "Call-ID:", "i:", HasNoValue),
        ("folded header", "Subject: hello", "Subject: hello\r\n again", Refuses),
        ("blank before the colon", "Subject:", "Subject :", Refuses),
        ("line ends before the start line", "INVITE sip", "\r\n\r\nINVITE sip", Refuses),
        ("IPv6 in Via", "192.0.2.1:5060", "[2001:db8::1]:5060", HasNoValue),
        ("blanks around a parameter", ">;q=0.7", "> ; q = 0.7", HasNoValue),
        ("instance id in Contact", contact, "<sip:a@x>;+sip.instance=\"<urn:uuid:1>\"", HasNoValue),
        ("two Contacts in a line", contact, "<sip:a@x>, <sip:b@x>", HasNoValue),
        ("angle bracket in a display name", "\"Bob B\"", "\"Bob <B>\"", HasNoValue),
    ] {
        let text = INVITE.replace(old, new);
        assert_ne!(text, INVITE, "{what}: nothing was replaced");
        let ours = ours(&text).unwrap_or_else(|| panic!("{what}: we read it"));
        let seen = match theirs(&text) {
            None => Refuses,
            Some(theirs) if !compare(&ours, &theirs).is_empty() => ReadsOtherwise,
            Some(theirs) => {
                let typed = theirs.contact_header().is_ok_and(|header| header.typed().is_ok())
                    && theirs.via_header().is_ok_and(|header| header.typed().is_ok())
                    && theirs.to_header().is_ok_and(|header| header.typed().is_ok())
                    && theirs.call_id_header().is_ok();
                if typed {
                    wrong.push(format!("{what}: rsip reads it as we do now"));
                }
                HasNoValue
            }
        };
        if seen != expected {
            wrong.push(format!("{what}: {seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The reverse: what rsip takes and we refuse.
#[test]
fn we_refuse_what_would_mislead_somebody() {
    for (what, old, new) in [
        ("body shorter than Content-Length", "Length: 5", "Length: 50"),
        ("two Call-IDs", "Subject: hello", "Call-ID: other"),
        ("another method in CSeq", "1 INVITE", "1 BYE"),
        ("CSeq out of range", "1 INVITE", "4000000000 INVITE"),
        ("no Via", "Via: SIP", "X-Via: SIP"),
    ] {
        let text = INVITE.replace(old, new);
        assert!(theirs(&text).is_some(), "{what}: rsip takes it");
        assert!(ours(&text).is_none(), "{what}: we don't");
    }
    let trailing = INVITE.to_owned() + "BYE";
    let (ours, theirs) = (ours(&trailing).expect("valid"), theirs(&trailing).expect("valid"));
    assert_eq!((ours.body().len(), theirs.body.len()), (5, 8), "rsip takes what follows the body for body");
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9._!*+~-]{0,15}"
}

fn host() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,8}\\.example(:[1-9][0-9]{0,3})?"
}

proptest! {
    /// Any ordinary message: both accept it and say the same.
    #[test]
    fn ordinary_messages_read_alike(
        method in prop::sample::select(Method::KNOWN.to_vec()),
        user in "[A-Za-z0-9]{1,12}",
        hosts in prop::collection::vec(host(), 4),
        tags in prop::collection::vec(token(), 4),
        cseq in 0u32..0x7fff_ffff,
        display in "[A-Za-z0-9]{0,8}",
        (to_tag, quoted) in any::<(bool, bool)>(),
        body in "[ -~\r\n]{0,60}",
    ) {
        let display = match (display.as_str(), quoted) {
            ("", _) => String::new(),
            (_, true) => format!("\"{display} \" "),
            (_, false) => format!("{display} "),
        };
        let to_tag = if to_tag { format!(";tag={}", tags[0]) } else { String::new() };
        let text = format!(
            "{method} sip:{user}@{} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{}\r\nFrom: {display}<sip:{user}@{}>;tag={}\r\n\
             To: <sip:{user}@{}>{to_tag}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\nContact: <sip:{user}@{}>\r\n\
             Content-Length: {}\r\n\r\n{body}",
            hosts[0], hosts[1], tags[1], hosts[2], tags[2], hosts[3], tags[3], hosts[1], body.len(),
        );
        let (ours, theirs) = (ours(&text), theirs(&text));
        prop_assert!(ours.is_some() && theirs.is_some(), "{}", text);
        let (ours, theirs) = (ours.expect("checked"), theirs.expect("checked"));
        prop_assert!(compare(&ours, &theirs).is_empty());
        prop_assert_eq!(rsip::Request::try_from(&ours), Ok(theirs));
    }
}

/// One byte changed anywhere: where both still accept the message they must agree, but for the known differences.
#[test]
fn damaged_messages_read_alike_or_are_refused() {
    let mut accepted = 0;
    let mut reasons = BTreeSet::new();
    for at in 0..INVITE.len() {
        // Six of them at each place, others at the next.
        for byte in b" \t;:,<>\"@=?%[]-.a0Z\\/".iter().cycle().skip(at * 5).take(6) {
            let mut text = INVITE.as_bytes().to_vec();
            text[at] = *byte;
            let text = String::from_utf8(text).expect("ascii");
            let (Some(ours), Some(theirs)) = (ours(&text), theirs(&text)) else { continue };
            accepted += 1;
            for difference in compare(&ours, &theirs) {
                match reason(&difference) {
                    Some(reason) => drop(reasons.insert(reason)),
                    None => panic!("{difference:?}\n{text}"),
                }
            }
        }
    }
    // The reasons are still some.
    assert!(reasons.len() > 4, "{reasons:#?}");
    assert!(accepted > 2_000, "{accepted}");
}

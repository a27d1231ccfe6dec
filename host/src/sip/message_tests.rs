//! Tests of parsing and printing together.

use bytes::Bytes;

use super::*;

const INVITE: &str = "\r\n\r\nINVITE sip:7001@example.test;user=phone SIP/2.0\r\n\
v: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport, SIP/2.0/TCP [2001:db8::1]:5060;branch=z9hG4bK0\r\n\
Via : SIP/2.0/TLS edge.example.test;branch=z9hG4bKz\r\n\
f: \"Bell, A\" <sip:alice@example.test>;tag=a1\r\n\
To:\r\n <sip:7001@example.test>\r\n\
i: 1@192.0.2.1\r\n\
CSeq: 1\r\n\t INVITE\r\n\
Max-Forwards: 70\r\n\
m: <sip:alice@[2001:db8::1]:5060;transport=tcp>;+sip.instance=\"<urn:uuid:1>\"\r\n\
k: replaces,100rel\r\n\
Supported: timer\r\n\
Require:\r\n\
X-Strange: caf\u{e9}\r\n\
c: application/sdp\r\n\
l: 5\r\n\
\r\nv=0\r\ntrailing";

fn message(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn error(text: &str) -> ParseError {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).expect_err(text)
}

/// `INVITE` with each line given instead of, or besides, the ordinary ones.
fn with(lines: &[&str]) -> String {
    let mut all = vec![
        "INVITE sip:b@x SIP/2.0",
        "Via: SIP/2.0/UDP h;branch=z9hG4bK1",
        "From: <sip:a@x>;tag=1",
        "To: <sip:b@x>",
        "Call-ID: 1",
        "CSeq: 1 INVITE",
    ];
    for line in lines {
        match line.strip_prefix('-') {
            Some(name) => all.retain(|old| !old.starts_with(name)),
            None => all.push(line),
        }
    }
    if lines.first().is_some_and(|line| line.ends_with("SIP/2.0") || line.starts_with("SIP/2.0 ")) {
        all[0] = lines[0];
        let last = all.iter().rposition(|line| *line == lines[0]);
        if let Some(last) = last.filter(|last| *last > 0) {
            all.remove(last);
        }
    }
    all.join("\r\n") + "\r\n\r\n"
}

#[test]
fn everything_in_an_odd_but_valid_invite_is_found() {
    let invite = message(INVITE);
    assert!(invite.is_request() && invite.method() == Method::Invite && invite.status().is_none());
    assert_eq!(invite.uri(), "sip:7001@example.test;user=phone");
    let vias: Vec<_> =
        invite.list(Name::Via).map(|via| Via::parse(via).expect("valid").branch().to_owned()).collect();
    assert_eq!(vias, ["z9hG4bK1", "z9hG4bK0", "z9hG4bKz"]);
    assert_eq!(invite.all(Name::Via).count(), 2);
    assert_eq!(invite.top_via().sent_by(), "192.0.2.1:5060");
    assert_eq!((invite.from_tag(), invite.to_tag()), ("a1", None));
    assert_eq!(invite.to(), "<sip:7001@example.test>");
    assert_eq!(invite.cseq(), CSeq { number: 1, method: Method::Invite });
    assert_eq!(invite.call_id(), "1@192.0.2.1");
    assert_eq!(invite.contact().expect("one").uri.host_ip(), "2001:db8::1".parse().ok());
    assert!(invite.supports("100REL") && invite.supports("timer") && !invite.supports("path"));
    assert!(!invite.requires("100rel"));
    assert_eq!(invite.header("x-strange"), Some("caf\u{e9}"));
    assert_eq!(invite.header("l"), Some("5"));
    assert_eq!((invite.body().as_ref(), invite.sdp()), (b"v=0\r\n".as_slice(), Some(Bytes::from("v=0\r\n"))));
    assert!(invite.bytes().starts_with(b"INVITE") && invite.bytes().ends_with(b"v=0\r\n"));
    let names: Vec<_> = invite.fields().map(|(name, _)| name).take(4).collect();
    assert_eq!(names, ["v", "Via", "f", "To"]);
}

/// What keeps parsing free of allocations: the bytes are shared, the index fits. Counted in `benches/wire.rs`.
#[test]
fn parsing_copies_nothing() {
    let bytes = Bytes::from(with(&["Max-Forwards: 70", "Contact: <sip:a@h>"]));
    let address = bytes.as_ptr();
    let message = Message::parse(bytes).expect("valid");
    assert_eq!(message.bytes().as_ptr(), address);
    assert!(!message.fields.spilled());
    assert_eq!(message.body().len(), 0);
}

#[test]
fn a_response_answers_the_method_of_its_cseq() {
    let response = message(&with(&["SIP/2.0 486 Busy  Here", "-CSeq", "CSeq: 7 REFER"]));
    assert_eq!(response.status(), Some(Status::BUSY_HERE));
    assert_eq!((response.reason(), response.uri()), ("Busy  Here", ""));
    assert_eq!(response.method(), Method::Refer);
    assert_eq!(message(&with(&["SIP/2.0 200 "])).reason(), "");
    assert_eq!(message(&with(&["SIP/2.0 200"])).reason(), "");
}

#[test]
fn unknown_methods_schemes_headers_and_binary_bodies_pass() {
    let odd =
        message(&with(&["soundOFF nobody:knows SIP/2.0", "-CSeq", "CSeq: 1 soundOFF", "New-Fangled: ;;,,;"]));
    assert_eq!(odd.method(), Method::Other("soundOFF".into()));
    assert_eq!((odd.uri(), odd.header("new-fangled")), ("nobody:knows", Some(";;,,;")));
    let mut bytes = with(&["Content-Type: application/octet-stream", "X-Latin: caf"]).into_bytes();
    let end = bytes.len() - 4;
    bytes.insert(end, 0xe9);
    bytes.extend([0, 1, 0xff, b'\r', b'\n']);
    let binary = Message::parse(bytes.into()).expect("valid");
    assert_eq!(binary.body().as_ref(), [0, 1, 0xff, b'\r', b'\n']);
    assert_eq!(binary.header("X-Latin"), None);
    assert!(binary.fields().any(|(name, value)| name == "X-Latin" && value == b"caf\xe9"));
}

#[test]
fn what_is_no_message_is_refused_with_its_reason() {
    for (text, expected) in [
        (String::new(), ParseError::Empty),
        ("\r\n\r\n".to_owned(), ParseError::Empty),
        ("INVITE sip:b@x SIP/2.0".to_owned(), ParseError::Unfinished),
        ("INVITE sip:b@x SIP/2.0\r\nTo: <sip:b@x>\r\n".to_owned(), ParseError::Unfinished),
        (with(&["INVITE  sip:b@x SIP/2.0"]), ParseError::StartLine),
        (with(&["INVITE sip:b@x; lr SIP/2.0"]), ParseError::StartLine),
        (with(&["INVITE <sip:b@x> SIP/2.0"]), ParseError::StartLine),
        (with(&["INVITE b SIP/2.0"]), ParseError::StartLine),
        (
            with(&["INVITE sip:b@x SIP/2.0"]).replace("SIP/2.0\r\nVia", "SIP/2.0 \r\nVia"),
            ParseError::StartLine,
        ),
        (with(&[]).replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia"), ParseError::Version),
        (with(&["SIP/2.0 4294967301 better not"]), ParseError::StartLine),
        (with(&["SIP/2.0 099 x"]), ParseError::StartLine),
        (with(&["Broken header"]), ParseError::HeaderLine),
        (with(&[": x"]), ParseError::HeaderLine),
        (with(&["A: b\nInjected: c"]), ParseError::StrayLineEnd),
        (with(&["A: b\rInjected: c"]), ParseError::StrayLineEnd),
        (with(&["-Via"]), ParseError::Missing(Name::Via)),
        (with(&["-From"]), ParseError::Missing(Name::From)),
        (with(&["-To"]), ParseError::Missing(Name::To)),
        (with(&["-Call-ID"]), ParseError::Missing(Name::CallId)),
        (with(&["-CSeq"]), ParseError::Missing(Name::CSeq)),
        (with(&["t: <sip:c@x>"]), ParseError::Repeated(Name::To)),
        (with(&["Max-Forwards: 1", "Max-Forwards: 2"]), ParseError::Repeated(Name::MaxForwards)),
        (with(&["l: 0", "Content-Length: 0"]), ParseError::Repeated(Name::ContentLength)),
        (
            with(&["Replaces: a;to-tag=1;from-tag=2", "Replaces: a;to-tag=1;from-tag=2"]),
            ParseError::Repeated(Name::Replaces),
        ),
        (with(&["Max-Forwards: 300"]), ParseError::Field(Name::MaxForwards, "expected 0 to 255")),
        (with(&["Content-Length: -999"]), ParseError::Field(Name::ContentLength, "expected a number")),
        (with(&["Content-Length: 9999"]), ParseError::ShortBody),
        (with(&["-CSeq", "CSeq: 8 ACK"]), ParseError::CSeqMethod),
        (
            with(&["-To", "To: \"Mr. J. User <sip:b@x>"]),
            ParseError::Field(Name::To, "expected a closing quote"),
        ),
        (
            with(&["-From", "From: <sip:b@x>;;tag=1"]),
            ParseError::Field(Name::From, "expected a parameter's name"),
        ),
        (
            with(&["-From", "From: <sip:b@x>;tag=\"1\""]),
            ParseError::Field(Name::From, "expected a token as tag"),
        ),
        (with(&["-Call-ID", "Call-ID:"]), ParseError::Field(Name::CallId, "expected one word")),
        (with(&["-Via", "Via: UDP h"]), ParseError::Field(Name::Via, "expected SIP/2.0/")),
    ] {
        assert_eq!(error(&text), expected, "{text}");
    }
    let text = with(&[]).replace("\r\nVia", "\r\n folded nothing\r\nVia");
    assert_eq!(error(&text), ParseError::HeaderLine);
}

#[test]
fn limits_hold_and_leave_room_for_honest_messages() {
    let long = "x".repeat(LINE_BYTES_MAX - 10);
    assert!(message(&with(&[&format!("X: {long}")])).header("X").is_some());
    assert_eq!(error(&with(&[&format!("X: {long}{long}")])), ParseError::LineTooLong);
    assert_eq!(error(&with(&[&format!("X: {long}\r\n {long}")])), ParseError::LineTooLong);
    let many = vec!["X: y"; FIELDS_MAX - 5];
    assert_eq!(message(&with(&many)).fields().count(), FIELDS_MAX);
    let more = vec!["X: y"; FIELDS_MAX];
    assert_eq!(error(&with(&more)), ParseError::TooManyFields);
    let routes = "Route: ".to_owned() + &vec!["<sip:p;lr>"; LIST_ELEMENTS_MAX].join(",");
    assert_eq!(message(&with(&[&routes])).list(Name::Route).count(), LIST_ELEMENTS_MAX);
    assert_eq!(error(&with(&[&routes, "Route: <sip:q;lr>"])), ParseError::TooManyElements(Name::Route));
    let huge = with(&[]) + &"x".repeat(MESSAGE_BYTES_MAX);
    assert_eq!(error(&huge), ParseError::TooLong);
}

#[test]
fn a_response_takes_over_what_it_must() {
    let invite = message(INVITE);
    let mut draft = Draft::response(&invite, Status::RINGING);
    draft.to_tag("b2").to_tag("ignored").add(Name::Contact, "<sip:host@example.test>");
    let ringing = draft.build();
    assert_eq!(
        std::str::from_utf8(ringing.bytes()).expect("ascii"),
        "SIP/2.0 180 Ringing\r\n\
         Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport, SIP/2.0/TCP [2001:db8::1]:5060;branch=z9hG4bK0\r\n\
         Via: SIP/2.0/TLS edge.example.test;branch=z9hG4bKz\r\n\
         From: \"Bell, A\" <sip:alice@example.test>;tag=a1\r\n\
         To: <sip:7001@example.test>;tag=b2\r\n\
         Call-ID: 1@192.0.2.1\r\n\
         CSeq: 1  \t INVITE\r\n\
         Contact: <sip:host@example.test>\r\n\
         Content-Length: 0\r\n\r\n"
    );
    assert_eq!(ringing.to_tag(), Some("b2"));
    assert_eq!(ringing.method(), Method::Invite);
}

#[test]
fn record_route_is_copied_only_where_a_dialog_can_begin() {
    let text = with(&["Record-Route: <sip:p;lr>, <sip:q;lr>", "Timestamp: 54"]);
    let invite = message(&text);
    assert_eq!(Draft::response(&invite, Status::TRYING).build().get(Name::RecordRoute), None);
    assert_eq!(Draft::response(&invite, Status::TRYING).build().get(Name::Timestamp), Some("54"));
    assert_eq!(Draft::response(&invite, Status::OK).build().list(Name::RecordRoute).count(), 2);
    assert_eq!(Draft::response(&invite, Status::BUSY_HERE).build().get(Name::RecordRoute), None);
    let bye = message(&text.replace("INVITE", "BYE"));
    assert_eq!(Draft::response(&bye, Status::OK).build().get(Name::RecordRoute), None);
}

#[test]
fn a_built_message_is_indexed_as_it_would_be_parsed() {
    let mut draft = Draft::request(Method::Other("PING".into()), "sip:b@x");
    draft
        .add(Name::Via, "SIP/2.0/UDP h;branch=z9hG4bK1")
        .add(Name::From, "<sip:a@x>;tag=1")
        .add(Name::To, "<sip:b@x>;tag=2=")
        .add(Name::CallId, "1")
        .add(Name::CSeq, "4 PING")
        .add(Name::ContentLength, 99)
        .add_raw("x-own", "1")
        .add_raw("not a token", "left out")
        .add_bytes("X-Latin", b"caf\xe9")
        .prepend(Name::Via, "SIP/2.0/TCP g;branch=z9hG4bK2")
        .body("text/plain", &b"\x00\xffbody"[..]);
    let built = draft.build();
    let parsed = Message::parse(built.bytes().clone()).expect("valid");
    assert_eq!(built.fields().collect::<Vec<_>>(), parsed.fields().collect::<Vec<_>>());
    assert_eq!((built.uri(), built.method(), built.cseq()), (parsed.uri(), parsed.method(), parsed.cseq()));
    assert_eq!((built.from_tag(), built.to_tag()), (parsed.from_tag(), parsed.to_tag()));
    assert_eq!((built.body(), built.reason()), (parsed.body(), parsed.reason()));
    assert_eq!(built.list(Name::Via).collect::<Vec<_>>(), parsed.list(Name::Via).collect::<Vec<_>>());
    assert_eq!(parsed.top_via().sent_by(), "g");
    assert!(built.bytes().len() <= draft.wire_len() && draft.wire_len() < built.bytes().len() + 32);
}

#[test]
fn set_replaces_in_place_and_remove_takes_all() {
    let mut draft = Draft::request(Method::Options, "sip:x");
    draft
        .add(Name::Route, "<sip:1>")
        .add(Name::Subject, "s")
        .add(Name::Route, "<sip:2>")
        .set(Name::Route, "<sip:3>");
    let text = String::from_utf8_lossy(draft.build().bytes()).into_owned();
    assert_eq!(text, "OPTIONS sip:x SIP/2.0\r\nRoute: <sip:3>\r\nSubject: s\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(draft.remove(Name::Route).get(Name::Route), None);
    draft.body("a/b", "x").body("", "");
    assert_eq!(draft.get(Name::ContentType), None);
}

#[test]
fn no_value_can_add_a_line() {
    let mut draft = Draft::request(Method::Options, "sip:x\r\nA: b");
    draft
        .add(Name::Subject, "hello\r\nInjected: yes\0")
        .add_raw("X", "a\nInjected: yes")
        .add_bytes("Y", b"\r\n\r\nbody")
        .add_raw("Z\r\nInjected", "yes");
    let text = String::from_utf8_lossy(draft.build().bytes()).into_owned();
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(!text.contains('\0'));
    let mut response = Draft::response(&message(&with(&[])), Status::OK);
    response.reason("fine\r\nInjected: yes");
    assert_eq!(response.build().reason(), "fine  Injected: yes");
}

//! Torture: messages after the cases of RFC 4475 and RFC 5118, written anew, and millions of damaged ones.

use bytes::Bytes;
use proptest::prelude::*;

use super::header::*;
use super::*;

/// One case: its name in the RFC, its header lines, and its body.
fn case(lines: &[&str], body: &str) -> Bytes {
    Bytes::from(lines.join("\r\n") + "\r\n\r\n" + body)
}

fn parse(lines: &[&str]) -> Result<Message, ParseError> {
    Message::parse(case(lines, ""))
}

const VIA: &str = "Via: SIP/2.0/UDP host5.example.net;branch=z9hG4bK293423";
const FROM: &str = "From: <sip:caller@example.com>;tag=1928301774";
const TO: &str = "To: <sip:user@example.com>";

/// RFC 4475 §3.1.1.1: folds, blanks, escapes and empty lists wherever the grammar has room for them.
#[test]
fn a_short_tortuous_invite() {
    let text = "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\r\n\
        TO :\r\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\r\n\
        from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8\r\n\
        MaX-fOrWaRdS: 0068\r\n\
        Call-ID: wsinv.ndaksdj@192.0.2.1\r\n\
        Content-Length   : 4\r\n\
        cseq: 0009\r\n  INVITE\r\n\
        Via  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;branch=390skdjuw\r\n\
        s :\r\n\
        NewFangledHeader:   newfangled value\r\n continued newfangled value\r\n\
        UnknownHeaderWithUnusualValue: ;;,,;;,;\r\n\
        Content-Type: application/sdp\r\n\
        Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n\
        v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239\r\n\
        m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =\r\n      newvalue ;\r\n  secondparam ; q = 0.33\r\n\r\nv=0\n";
    let invite = Message::parse(Bytes::from(text)).expect("valid");
    assert_eq!(invite.to_tag(), Some("1918181833n"));
    assert_eq!(invite.from_tag(), "98asjd8");
    assert_eq!(invite.from_addr().and_then(|from| from.display).as_deref(), Some("J Rosenberg \\\""));
    assert_eq!(invite.cseq(), CSeq { number: 9, method: Method::Invite });
    let branches: Vec<_> =
        invite.list(Name::Via).map(|via| Via::parse(via).expect("valid").branch().to_owned()).collect();
    assert_eq!(branches, ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]);
    assert_eq!(invite.header("newfangledheader").map(|value| value.split_whitespace().count()), Some(5));
    assert_eq!(invite.get(Name::Subject), Some(""));
    let contact = invite.contact().expect("valid");
    assert_eq!((contact.params.get("q"), contact.params.get("newparam")), (Some("0.33"), Some("newvalue")));
    assert_eq!(invite.sdp().as_deref(), Some(b"v=0\n".as_slice()));
}

/// §3.1.1.2 to §3.1.1.13 and RFC 5118: odd, and to be accepted.
#[test]
fn odd_but_valid_messages_are_read() {
    // intmeth: every character a token, a quoted string and a user part may have.
    let intmeth = parse(&[
        "!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0",
        VIA,
        "To: \"BEL:\\\u{7} NUL:\\\u{0} DEL:\\\u{7f}\" <sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>",
        "From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;fromParam''~+*_!.-%=\"\u{440}\u{430}\u{431}\";tag=_token~1'+`*%!-.",
        "Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{",
        "CSeq: 139122385 !interesting-Method0123456789_*+`.%indeed'~",
    ])
    .expect("valid");
    assert!(Uri::parse(intmeth.uri()).is_ok_and(|uri| uri.password.is_some()));
    assert_eq!(intmeth.from_tag(), "_token~1'+`*%!-.");
    assert_eq!(intmeth.method().as_str().len(), 43);
    // esc01: an escaped user part, an escape that is no escape in a method.
    let esc = parse(&[
        "INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0",
        VIA,
        "To: sip:%75se%72@example.com",
        "From: <sip:I%20have%20spaces@example.net>;tag=938",
        "Call-ID: esc01",
        "CSeq: 1 INVITE",
    ])
    .expect("valid");
    assert_eq!(
        Uri::parse(esc.uri()).ok().and_then(|uri| uri.user_unescaped()).as_deref(),
        Some("sips:user@example.com")
    );
    assert_eq!(esc.to_addr().and_then(|to| to.uri.user_unescaped()).as_deref(), Some("user"));
    // escnull, lwsdisp, noreason, unreason, semiuri, transports, regescrt.
    let nul = NameAddr::parse("sip:null-%00-null@example.com").expect("escnull");
    assert_eq!(nul.uri.user_unescaped().as_deref(), Some("null-\0-null"));
    assert_eq!(
        NameAddr::parse("caller<sip:caller@example.com>;tag=323").expect("lwsdisp").display.as_deref(),
        Some("caller")
    );
    let unreason = parse(&[
        "SIP/2.0 200 = 2**3 * 5**2 \u{43d}\u{43e} = 3",
        VIA,
        FROM,
        TO,
        "Call-ID: x",
        "CSeq: 1 INVITE",
    ]);
    assert!(unreason.is_ok_and(|response| response.reason().starts_with("= 2**3")));
    let semi = Uri::parse("sip:user;par=u%40example.net@example.com").expect("semiuri");
    assert_eq!((semi.user.as_deref(), semi.params.is_empty()), (Some("user;par=u%40example.net"), true));
    for transport in ["UDP", "SCTP", "TLS", "TCP", "UNKNOWN"] {
        assert_eq!(Via::parse(&format!("SIP/2.0/{transport} h")).expect(transport).transport, transport);
    }
    let route = NameAddr::parse("<sip:user@example.com?Route=%3Csip:sip.example.com%3E>").expect("regescrt");
    assert_eq!(route.uri.header("route").as_deref(), Some("<sip:sip.example.com>"));
    // RFC 5118: IPv6 with and without port, in brackets in received too.
    for via in [
        "SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255]",
        "SIP/2.0/UDP [2001:db8::9:1]:5070;received=2001:db8::9:255",
    ] {
        assert_eq!(Via::parse(via).expect(via).received(), "2001:db8::9:255".parse().ok());
    }
    assert_eq!(Uri::parse("sip:user@[2001:db8::10:5070]").expect("no port").port, None);
    assert!(Uri::parse("sip:user@[::ffff:192.0.2.10]:19823").is_ok_and(|uri| uri.port == Some(19823)));
    assert!(Uri::parse("sip:2001:db8::10").is_err());
}

/// §3.1.2: syntax errors that must be noticed.
#[test]
fn broken_messages_are_refused() {
    let cseq = "CSeq: 9 INVITE";
    let id = "Call-ID: x";
    let invite = "INVITE sip:user@example.com SIP/2.0";
    for (name, message) in [
        (
            "badinv01",
            parse(&[
                invite,
                "Via: SIP/2.0/UDP 192.0.2.15;;,;,,",
                "To: sip:j.user@example.com",
                FROM,
                id,
                cseq,
            ]),
        ),
        ("clerr", parse(&[invite, VIA, FROM, TO, id, cseq, "Content-Length: 9999"])),
        ("ncl", parse(&[invite, VIA, FROM, TO, id, cseq, "Content-Length: -999"])),
        (
            "scalar02",
            parse(&[
                "REGISTER sip:example.com SIP/2.0",
                VIA,
                FROM,
                TO,
                id,
                "CSeq: 36893488147419103232 REGISTER",
            ]),
        ),
        ("scalar02 Max-Forwards", parse(&[invite, VIA, FROM, TO, id, cseq, "Max-Forwards: 300"])),
        (
            "scalarlg",
            parse(&[
                "SIP/2.0 503 Service Unavailable",
                VIA,
                FROM,
                TO,
                id,
                "CSeq: 9292394834772304023312 OPTIONS",
            ]),
        ),
        ("quotbal", parse(&[invite, VIA, FROM, "To: \"Mr. J. User <sip:j.user@example.com>", id, cseq])),
        ("ltgtruri", parse(&["INVITE <sip:user@example.com> SIP/2.0", VIA, FROM, TO, id, cseq])),
        ("lwsruri", parse(&["INVITE sip:user@example.com; lr SIP/2.0", VIA, FROM, TO, id, cseq])),
        ("lwsstart", parse(&["INVITE  sip:user@example.com  SIP/2.0", VIA, FROM, TO, id, cseq])),
        ("trws", parse(&["OPTIONS sip:user@example.com SIP/2.0  ", VIA, FROM, TO, id, "CSeq: 9 OPTIONS"])),
        ("mismatch01", parse(&["OPTIONS sip:user@example.com SIP/2.0", VIA, FROM, TO, id, cseq])),
        ("mismatch02", parse(&["NEWMETHOD sip:user@example.com SIP/2.0", VIA, FROM, TO, id, cseq])),
        ("bigcode", parse(&["SIP/2.0 4294967301 better not break the receiver", VIA, FROM, TO, id, cseq])),
        ("badvers", parse(&["OPTIONS sip:user@example.com SIP/7.0", VIA, FROM, TO, id, "CSeq: 9 OPTIONS"])),
        ("insuf", parse(&[invite, "Max-Forwards: 70"])),
        ("multi01", parse(&[invite, VIA, FROM, TO, id, cseq, "CSeq: 59 INVITE", "Call-ID: y", TO, FROM])),
        ("mcl01", parse(&[invite, VIA, FROM, TO, id, cseq, "Content-Length: 0", "Content-Length: 0"])),
        ("badaspec", parse(&[invite, VIA, "From: < sip:user@example.com >", TO, id, cseq])),
    ] {
        assert!(message.is_err(), "{name}: {message:?}");
    }
    // regbadct: the message stands, its Contact does not.
    let contact = "Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E";
    let register =
        parse(&["REGISTER sip:example.com SIP/2.0", VIA, FROM, TO, id, "CSeq: 9 REGISTER", contact]);
    assert_eq!(register.expect("readable").contact(), None);
    // baddn: a display name with characters no token has. Taken: its meaning is plain.
    assert!(NameAddr::parse("Bell, Alexander <sip:a.g.bell@example.com>;tag=43").is_ok());
}

/// §3.3: for the application to answer, so they must get there.
#[test]
fn what_the_application_must_answer_is_read() {
    let id = "Call-ID: x";
    for (name, start, cseq, uri_is_ours) in [
        ("unkscm", "OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0", "CSeq: 3 OPTIONS", false),
        ("novelsc", "OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0", "CSeq: 3 OPTIONS", false),
        ("bext01", "OPTIONS sip:user@example.com SIP/2.0", "CSeq: 3 OPTIONS", true),
        ("inv2543", "INVITE sip:UserB@example.com SIP/2.0", "CSeq: 2 INVITE", true),
        (
            "ruri with headers",
            "INVITE sip:user@example.com?Route=%3Csip:example.com%3E SIP/2.0",
            "CSeq: 2 INVITE",
            true,
        ),
    ] {
        let message = parse(&[
            start,
            VIA,
            "f: <sip:a@b>",
            TO,
            id,
            cseq,
            "Require: nothingSupportsThis",
            "Max-Forwards: 0",
        ]);
        let message = message.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(Uri::parse(message.uri()).is_ok_and(|uri| uri.is_sip()), uri_is_ours, "{name}");
        assert!(message.requires("nothingsupportsthis") && message.get(Name::MaxForwards) == Some("0"));
    }
}

/// Everything the rest of the host may ask of a message.
fn look_everywhere(message: &Message) {
    for name in Name::ALL {
        let _ = (message.get(name.to_owned()), message.list(*name).count(), message.header(name.as_str()));
    }
    let _ = (
        message.uri(),
        message.reason(),
        message.from_addr(),
        message.to_addr(),
        message.top_via(),
        message.contact(),
    );
    let _ =
        (message.sdp(), message.body(), message.content_type(), message.to_string(), format!("{message:?}"));
    let _ = (message.supports("x"), message.requires("x"), message.allows(&Method::Invite), message.status());
    let _ = Uri::parse(message.uri()).map(|uri| (uri.to_string(), uri.user_unescaped(), uri.equals(&uri)));
    for (_, value) in message.fields() {
        let Ok(value) = std::str::from_utf8(value) else { continue };
        for element in grammar::list(value) {
            let _ = (
                NameAddr::parse(element).map(|it| it.to_string()),
                Via::parse(element).map(|it| it.to_string()),
            );
            let _ = (
                CSeq::parse(element),
                Replaces::parse(element),
                ReferTo::parse(element).map(|it| it.replaces().is_some()),
            );
            let _ = (
                SessionExpires::parse(element),
                MinSe::parse(element),
                RAck::parse(element),
                Reason::parse(element),
            );
            let _ = (EventHeader::parse(element), SubscriptionState::parse(element), Warning::parse(element));
        }
        let _ = Auth::parse(value).map(|it| it.to_string());
    }
    for status in [Status::TRYING, Status::OK, Status::BUSY_HERE] {
        let mut draft = Draft::response(message, status);
        draft.to_tag("t");
        let response = draft.build();
        if message.is_request() {
            let again = Message::parse(response.bytes().clone())
                .unwrap_or_else(|error| panic!("{error}: {response:?}"));
            assert_eq!(
                (again.call_id(), again.cseq(), again.from_tag()),
                (message.call_id(), message.cseq(), message.from_tag())
            );
            assert!(again.to_tag().is_some());
        }
    }
    let flow = crate::net::Flow {
        protocol: crate::net::Protocol::Udp,
        local: "192.0.2.1:5060".parse().expect("address"),
        remote: "192.0.2.9:5060".parse().expect("address"),
        connection: None,
        edge: None,
    };
    let mut dialog = Dialog::uas(message, "t", flow);
    let _ = (
        dialog.receive(message),
        dialog.request(Method::Bye).build(),
        dialog.ack(1).build(),
        dialog.next_hop().len(),
    );
    let _ = (
        Dialog::uac(message, message, flow).id(),
        DialogId::of_request(message),
        DialogId::of_response(message),
    );
    let _ = (rsip::Request::try_from(message), rsip::Response::try_from(message));
}

const SEED: &str = "INVITE sip:7001@example.test;user=phone SIP/2.0\r\n\
Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport, SIP/2.0/TCP [2001:db8::1]:5060;branch=z9hG4bK0\r\n\
f: \"Bell, \\\"A\\\"\" <sip:alice@example.test>;tag=a1\r\nTo:\r\n <sip:%237001@example.test>\r\ni: 1@192.0.2.1\r\n\
CSeq: 1 INVITE\r\nMax-Forwards: 70\r\nm: <sip:alice@[2001:db8::1]:5060;transport=tcp>;+sip.instance=\"<urn:uuid:1>\"\r\n\
Replaces: a@b;to-tag=1;from-tag=2;early-only\r\nRefer-To: <sip:b@c?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>\r\n\
Authorization: Digest username=\"a\", realm=\"b, c\", nc=00000001\r\nRecord-Route: <sip:p;lr>, \"x\" <sip:q>\r\n\
Content-Type: multipart/mixed;boundary=b\r\nSession-Expires: 1800;refresher=uac\r\n\
l: 52\r\n\r\n--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n--b--\r\n";

#[test]
fn the_seed_of_the_mutations_is_a_message() {
    let message = Message::parse(Bytes::from(SEED)).expect("valid");
    assert!(message.sdp().is_some() && message.contact().is_some());
    look_everywhere(&message);
}

/// Damages the seed in a few places at once, drawn from one seed: no input makes anything panic.
#[test]
fn no_damage_makes_the_parser_panic() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(4475);
    let mut accepted = 0;
    let pieces: [&[u8]; 20] = [
        b"\r\n",
        b"\r\n ",
        b"\"",
        b"\\",
        b"<",
        b">",
        b";",
        b",",
        b"=",
        b":",
        b"@",
        b"%",
        b"[",
        b"]",
        b"\0",
        b"\xff",
        b"\xc3\xa9",
        b"z9hG4bK",
        b"99999999999999999999",
        b";tag=",
    ];
    for _ in 0..6_000 {
        let mut bytes = SEED.as_bytes().to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..5) {
                0 => bytes[at] = rng.random_range(0..=255),
                1 => drop(bytes.drain(at..(at + rng.random_range(1..40)).min(bytes.len()))),
                2 => {
                    let piece = pieces[rng.random_range(0..pieces.len())];
                    bytes.splice(at..at, piece.iter().copied());
                }
                3 => {
                    let from = rng.random_range(0..bytes.len());
                    let piece = bytes[from..(from + rng.random_range(1..80)).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => bytes.truncate(at.max(1)),
            }
        }
        if let Ok(message) = Message::parse(Bytes::from(bytes)) {
            accepted += 1;
            look_everywhere(&message);
        }
    }
    assert!(accepted > 500, "{accepted}: the damage is too great to test anything");
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::parse(Bytes::from(bytes));
    }

    /// What a draft prints is read back as it was meant, whatever was put into it.
    #[test]
    fn any_draft_reads_back(
        user in "\\PC{1,12}",
        display in "\\PC{0,12}",
        call_id in "[!-~&&[^\\x22]]{1,30}",
        number in 0u32..1 << 31,
        subject in "\\PC{0,40}",
        unknown in prop::collection::vec(("X-[A-Za-z0-9]{1,10}", "[ -~\\r\\n\\t]{0,40}"), 0..4),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let address = NameAddr::new(Uri::sip(Some(&user), "example.test")).with_display(&display);
        let mut draft = Draft::request(Method::Message, &address.uri.to_string());
        draft
            .add(Name::Via, "SIP/2.0/UDP h;branch=z9hG4bK1")
            .add(Name::From, format_args!("{address};tag=1"))
            .add(Name::To, &address)
            .add(Name::CallId, &call_id)
            .add(Name::CSeq, CSeq { number, method: Method::Message })
            .add(Name::Subject, &subject)
            .body("application/octet-stream", body.clone());
        for (name, value) in &unknown {
            draft.add_raw(name, value);
        }
        let built = draft.build();
        let read = Message::parse(built.bytes().clone());
        prop_assert!(read.is_ok(), "{:?}: {:?}", read, built);
        let read = read.expect("checked");
        prop_assert_eq!(read.to_addr(), Some(address.clone()));
        prop_assert_eq!(Uri::parse(read.uri()).ok(), Some(address.uri));
        prop_assert_eq!((read.call_id(), read.cseq().number, read.from_tag()), (call_id.as_str(), number, "1"));
        prop_assert_eq!(read.body().to_vec(), body);
        prop_assert_eq!(read.fields().count(), built.fields().count());
        let expected = subject.trim_matches([' ', '\t']);
        prop_assert_eq!(read.get(Name::Subject).unwrap_or(""), expected);
    }

    #[test]
    fn typed_headers_read_back(
        call_id in "[a-z0-9@.-]{1,20}",
        tags in prop::collection::vec("[A-Za-z0-9.~+-]{1,12}", 2),
        text in "\\PC{0,30}",
        numbers in prop::collection::vec(0u32..1 << 31, 3),
        flag in any::<bool>(),
    ) {
        let replaces = Replaces { call_id, to_tag: tags[0].clone(), from_tag: tags[1].clone(), early_only: flag };
        prop_assert_eq!(Replaces::parse(&replaces.to_string()), Ok(replaces.clone()));
        let mut uri = Uri::sip(Some("bob"), "example.test");
        uri.add_header("Replaces", &replaces.to_string());
        let refer = ReferTo(NameAddr::new(uri));
        prop_assert_eq!(ReferTo::parse(&refer.to_string()).expect("valid").replaces(), Some(Ok(replaces)));
        let reason = Reason::sip(487, &text);
        prop_assert_eq!(Reason::parse(&reason.to_string()), Ok(reason));
        let warning = Warning::miscellaneous("fe1", &text);
        prop_assert_eq!(Warning::parse(&warning.to_string()), Ok(warning));
        let auth = Auth::new("Digest").quoted("realm", &text).token("nc", "00000001");
        prop_assert_eq!(Auth::parse(&auth.to_string()), Ok(auth));
        let session = SessionExpires { seconds: numbers[0], refresher: flag.then_some(Refresher::Uas) };
        prop_assert_eq!(SessionExpires::parse(&session.to_string()), Ok(session));
        let rack = RAck { rseq: numbers[1], cseq: CSeq { number: numbers[2], method: Method::Invite } };
        prop_assert_eq!(RAck::parse(&rack.to_string()), Ok(rack));
        let state = SubscriptionState { retry_after_s: flag.then_some(numbers[0]), ..SubscriptionState::terminated("probation") };
        prop_assert_eq!(SubscriptionState::parse(&state.to_string()), Ok(state));
    }
}

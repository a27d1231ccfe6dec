use super::*;

const BROWSER: &str = "v=0\r\n\
    o=- 46117 2 IN IP4 127.0.0.1\r\n\
    s=-\r\n\
    t=0 0\r\n\
    a=group:BUNDLE 0 1\r\n\
    a=msid-semantic: WMS stream\r\n\
    m=audio 54400 UDP/TLS/RTP/SAVPF 111 63 0 8 13 110 126\r\n\
    c=IN IP4 203.0.113.7\r\n\
    a=rtcp:9 IN IP4 0.0.0.0\r\n\
    a=candidate:1 1 udp 2122260223 192.0.2.7 54400 typ host\r\n\
    a=ice-ufrag:4ZcD\r\n\
    a=ice-pwd:2/1muCWoOi3uLifh0NuRHlzx\r\n\
    a=fingerprint:sha-256 75:74:5A\r\n\
    a=setup:actpass\r\n\
    a=mid:0\r\n\
    a=sendrecv\r\n\
    a=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\n\
    a=fmtp:111 minptime=10;useinbandfec=1\r\n\
    a=rtpmap:63 red/48000/2\r\n\
    a=rtpmap:110 telephone-event/48000\r\n\
    a=rtpmap:126 telephone-event/8000\r\n\
    x=something of tomorrow\r\n\
    m=video 0 UDP/TLS/RTP/SAVPF 96\r\n\
    c=IN IP6 2001:db8::7\r\n\
    a=rtpmap:96 VP8/90000\r\n\
    a=recvonly\r\n";

fn parse(text: &str) -> Sdp {
    Sdp::parse(text.as_bytes()).unwrap()
}

/// The lines above any stream, and one audio stream with the given lines.
fn audio(session: &str, lines: &str) -> Sdp {
    parse(&format!("v=0\r\no=a 1 1 IN IP4 192.0.2.1\r\ns=-\r\n{session}m=audio 4000 RTP/AVP 0\r\n{lines}"))
}

#[test]
fn every_line_survives_untouched_and_in_order() {
    let sdp = parse(BROWSER);
    assert_eq!(sdp.to_bytes(), BROWSER.as_bytes());
    assert_eq!(sdp.attribute("group"), Some("BUNDLE 0 1"));
    assert_eq!(sdp.media()[0].attribute("setup"), Some("actpass"));
}

#[test]
fn streams_are_understood() {
    let sdp = parse(BROWSER);
    let [audio, video] = sdp.media() else { panic!("{sdp}") };
    assert!(audio.is_live() && audio.is_audio() && !video.is_live());
    assert_eq!(audio.rtpmap("111"), Some("opus/48000/2"));
    assert_eq!(audio.fmtp("111"), Some("minptime=10;useinbandfec=1"));
    assert_eq!(audio.encoding("111").unwrap(), Encoding { name: "OPUS", clock_hz: 48000, channels: 2 });
    assert_eq!(audio.encoding("8").unwrap().name, "PCMA", "static types need no rtpmap");
    assert_eq!(audio.encoding("99"), None);
    assert_eq!(audio.telephone_event(8000), Some("126"));
    assert_eq!(audio.telephone_event(48000), Some("110"));
    assert_eq!(audio.rtp(), Some("203.0.113.7:54400".parse().unwrap()));
    assert_eq!(audio.rtcp(), audio.rtp(), "multiplexed");
    assert_eq!(video.rtp(), None);
    assert_eq!(video.direction(), Direction::RecvOnly);
    assert_eq!(sdp.audio(), Some(audio));
}

#[test]
fn rtcp_goes_where_it_is_said_to() {
    let rtcp = |lines| audio("c=IN IP4 192.0.2.1\r\n", lines).media()[0].rtcp().unwrap().to_string();
    assert_eq!(rtcp(""), "192.0.2.1:4001");
    assert_eq!(rtcp("a=rtcp:53020\r\n"), "192.0.2.1:53020");
    assert_eq!(rtcp("a=rtcp:53020 IN IP6 2001:db8::5\r\n"), "[2001:db8::5]:53020");
    assert_eq!(rtcp("a=rtcp-mux\r\n"), "192.0.2.1:4000");
}

#[test]
fn a_stream_overrides_what_the_session_says() {
    let sdp = audio("c=IN IP4 192.0.2.1\r\na=sendonly\r\n", "");
    assert_eq!(sdp.media()[0].direction(), Direction::SendOnly);
    let sdp = audio("c=IN IP4 192.0.2.1\r\na=sendonly\r\n", "c=IN IP6 2001:db8::1\r\na=inactive\r\n");
    assert_eq!(sdp.media()[0].direction(), Direction::Inactive);
    assert_eq!(sdp.media()[0].rtp(), Some("[2001:db8::1]:4000".parse().unwrap()));
}

#[test]
fn hold_is_recognised_in_each_of_its_forms() {
    let held = |session, lines| audio(session, lines).holds();
    let here = "c=IN IP4 192.0.2.1\r\n";
    assert!(!held(here, ""));
    assert!(!held(here, "a=recvonly\r\n"));
    assert!(held(here, "a=sendonly\r\n"));
    assert!(held(here, "a=inactive\r\n"));
    assert!(held("c=IN IP4 192.0.2.1\r\na=inactive\r\n", ""));
    assert!(held("c=IN IP4 0.0.0.0\r\n", ""));
    assert!(held("c=IN IP6 ::\r\n", ""));
    assert!(held(here, "c=IN IP6 0:0:0:0:0:0:0:0\r\na=sendrecv\r\n"));
}

#[test]
fn a_silent_camera_is_no_hold() {
    let sdp = parse(
        "v=0\r\no=a 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n\
         m=audio 4000 RTP/AVP 0\r\nm=video 4002 RTP/AVP 96\r\na=inactive\r\n",
    );
    assert!(!sdp.holds() && sdp.media()[1].held);
}

#[test]
fn answers_are_made_legal() {
    use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
    let all = [SendRecv, SendOnly, RecvOnly, Inactive];
    // RFC 3264 §6.1, row by row: what may answer each offer.
    let legal = |offered: Direction| match offered {
        SendRecv => &[SendRecv, SendOnly, RecvOnly, Inactive][..],
        SendOnly => &[RecvOnly, Inactive],
        RecvOnly => &[SendOnly, Inactive],
        Inactive => &[Inactive],
    };
    for offered in all {
        for wanted in all {
            let answer = wanted.answering(offered);
            assert!(legal(offered).contains(&answer), "{wanted:?} to {offered:?} became {answer:?}");
            if legal(offered).contains(&wanted) {
                assert_eq!(answer, wanted, "a legal answer is left alone");
            }
        }
    }
}

#[test]
fn a_direction_is_replaced_where_it_stands() {
    let mut media =
        audio("c=IN IP4 192.0.2.1\r\n", "a=sendonly\r\na=ptime:20\r\na=inactive\r\n").media()[0].clone();
    media.set_direction(Direction::RecvOnly);
    assert_eq!(media.to_string(), "m=audio 4000 RTP/AVP 0\r\na=recvonly\r\na=ptime:20\r\n");
    let mut media = audio("c=IN IP4 192.0.2.1\r\na=sendonly\r\n", "").media()[0].clone();
    media.set_direction(Direction::SendRecv);
    assert!(media.to_string().ends_with("a=sendrecv\r\n"), "or the session's would hold");
}

#[test]
fn sloppy_but_clear_descriptions_are_read() {
    let sdp = Sdp::parse(
        b"v=0\no=- 1 1 IN IP4 192.0.2.1\nc=IN IP4 224.2.1.1/127/3\n\nm=audio 4000/2 RTP/AVP 0 \n\r\n\0",
    );
    let sdp = sdp.unwrap();
    assert_eq!(sdp.media()[0].port_count, Some(2));
    assert_eq!(sdp.media()[0].connection().unwrap().address, "224.2.1.1");
    assert!(sdp.to_string().ends_with("m=audio 4000/2 RTP/AVP 0\r\n"));
    assert!(audio("c=IN IP4 phone.example.test\r\n", "").media()[0].rtp().is_none());
    assert!(Sdp::parse(b"v=0\r\no=- 1 1 IN IP4 h\r\ns=caf\xe9\r\n").unwrap().media().is_empty());
}

#[test]
fn what_would_leave_us_guessing_is_refused() {
    let refused = |text: &str| Sdp::parse(text.as_bytes()).unwrap_err();
    let head = "v=0\r\no=a 1 1 IN IP4 h\r\n";
    assert_eq!(refused(""), SdpError::NoVersion);
    assert_eq!(refused("o=a 1 1 IN IP4 h\r\n"), SdpError::NoVersion);
    assert_eq!(refused("v=1\r\n"), SdpError::NoVersion);
    assert_eq!(refused(&format!("{head}m=audio 4000 RTP/AVP 0\0 \r\n")), SdpError::Line(3));
    assert_eq!(refused("v=0\r\no=a 1 IN IP4\r\n"), SdpError::NoOrigin);
    assert_eq!(refused("v=0\r\nnonsense\r\n"), SdpError::Line(2));
    assert_eq!(refused("v=0\r\n=x\r\n"), SdpError::Line(2));
    assert_eq!(refused(&format!("{head}c=IN IP5 x\r\n")), SdpError::Connection(3));
    assert_eq!(refused(&format!("{head}m=audio\r\n")), SdpError::Media(3));
    assert_eq!(refused(&format!("{head}m=audio 70000 RTP/AVP 0\r\n")), SdpError::Media(3));
    assert_eq!(refused(&format!("{head}m=audio 1/x RTP/AVP 0\r\n")), SdpError::Media(3));
    assert_eq!(refused(&format!("{head}m=audio 4000 RTP/AVP\r\n")), SdpError::Media(3));
    assert_eq!(refused(&format!("{head}m=audio 4000 RTP/AVP 0\r\n")), SdpError::NoConnection(0));
    assert!(Sdp::parse(format!("{head}m=audio 0 RTP/AVP 0\r\n").as_bytes()).is_ok(), "rejected: no address");
}

#[test]
fn everything_has_a_limit() {
    let head = "v=0\r\no=a 1 1 IN IP4 h\r\nc=IN IP4 h\r\n";
    let many = |line: &str, count| Sdp::parse(format!("{head}{}", line.repeat(count)).as_bytes());
    assert!(many("m=audio 4000 RTP/AVP 0\r\n", MEDIA_MAX).is_ok());
    assert!(matches!(many("m=audio 4000 RTP/AVP 0\r\n", MEDIA_MAX + 1), Err(SdpError::TooLarge(_))));
    assert!(matches!(many("a=x\r\n", LINES_MAX), Err(SdpError::TooLarge(_))));
    assert!(matches!(many("a=0123456789\r\n", BYTES_MAX / 10), Err(SdpError::TooLarge(_))));
    let formats = format!("m=audio 1 RTP/AVP{}\r\n", " 0".repeat(FORMATS_MAX + 1));
    assert!(matches!(many(&formats, 1), Err(SdpError::TooLarge(_))));
}

#[test]
fn a_stored_description_remembers_who_holds() {
    let mut sdp = parse(BROWSER);
    sdp.media_mut()[0].set_direction(Direction::Inactive);
    for held in [false, true] {
        sdp.media_mut()[0].held = held;
        let json = serde_json::to_string(&sdp).unwrap();
        assert_eq!(serde_json::from_str::<Sdp>(&json).unwrap(), sdp);
    }
}

#[test]
fn transports_match_with_and_without_feedback_but_not_across_encryption() {
    let media = |proto| Media::new("audio", 1, proto, vec!["0".into()]);
    assert!(media("RTP/AVP").same_transport(&media("RTP/AVPF")));
    assert!(media("UDP/TLS/RTP/SAVP").same_transport(&media("UDP/TLS/RTP/SAVPF")));
    assert!(!media("RTP/AVP").same_transport(&media("RTP/SAVP")));
    assert!(!media("RTP/SAVPF").same_transport(&media("UDP/TLS/RTP/SAVPF")));
}

proptest::proptest! {
    #[test]
    fn parsing_is_total(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = Sdp::parse(&body);
    }

    #[test]
    fn what_is_parsed_prints_to_what_parses_the_same(
        tail in "(([acbm]=(audio|IN|sendonly|0|9|RTP/AVP|IP4|IP6|::|h|rtpmap:0 x/8000|[ :/=])*)\r\n){0,9}",
    ) {
        if let Ok(sdp) = Sdp::parse(format!("v=0\r\no=a 1 1 IN IP4 h\r\n{tail}").as_bytes()) {
            proptest::prop_assert_eq!(&Sdp::parse(&sdp.to_bytes()).unwrap(), &sdp);
        }
    }
}

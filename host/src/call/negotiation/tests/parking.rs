use super::*;

#[test]
fn a_parked_phone_hears_music_in_its_own_numbers_and_its_video_is_off() {
    let odd = "m=audio 4000 RTP/AVP 110 18 9 97\r\na=rtpmap:110 pcma/8000/1\r\na=rtpmap:97 telephone-event/8000\r\n";
    let mut alice = caller(&phone(1, &format!("{odd}{VIDEO}")), &phone(2, &format!("{odd}{VIDEO}")));
    let offer = alice.host_offer(host(), HostCodecs::default());
    assert_eq!(
        offer,
        "v=0\r\no=- 7 2 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
         m=audio 20000 RTP/AVP 110 9 97\r\na=rtpmap:110 PCMA/8000\r\na=rtpmap:9 G722/8000\r\n\
         a=rtpmap:97 telephone-event/8000\r\na=fmtp:97 0-15\r\na=ptime:20\r\na=sendrecv\r\n\
         m=video 0 RTP/AVP 96\r\n"
    );
    let answer = "m=audio 4100 RTP/AVP 110 97\r\na=rtpmap:110 PCMA/8000\r\na=rtpmap:97 telephone-event/8000\r\n\
                  m=video 0 RTP/AVP 96\r\n";
    alice.remote_answer(phone(1, answer).as_bytes()).unwrap();
    assert_eq!(
        alice.media_target(),
        Some(MediaTarget {
            rtp: "192.0.2.1:4100".parse().unwrap(),
            rtcp: "192.0.2.1:4101".parse().unwrap(),
            codec: Codec::Pcma,
            payload_type: 110,
            dtmf: Some(97),
            sends: true,
        })
    );
}

#[test]
fn a_parked_call_is_retrieved_by_a_phone_with_other_codecs_and_video() {
    // Alice waits with music; Carol's phone prefers what Alice's has last, and Alice answers in her order.
    let mut alice = caller(&phone(1, AUDIO), &phone(2, AUDIO));
    alice.host_offer(host(), HostCodecs::default());
    alice.remote_answer(phone(1, AUDIO).as_bytes()).unwrap();

    let mut carol = Negotiation::new(7);
    let wanted = "m=video 6002 RTP/AVP 97\r\na=rtpmap:97 VP8/90000\r\n\
                  m=audio 6000 RTP/AVP 96 9 0 8\r\na=rtpmap:96 opus/48000/2\r\n";
    carol.remote_offer(phone(3, wanted).as_bytes()).unwrap();
    let offer = alice.offer_of(carol.remote().unwrap(), Directions::AsIs);
    assert_eq!(streams(&offer), [stream("audio", 6000, SendRecv), stream("video", 6002, SendRecv)]);
    assert_eq!(sdp(&offer).media()[0].formats, ["96", "9", "0", "8"]);
    alice.remote_answer(phone(1, "m=audio 4000 RTP/AVP 9 8\r\nm=video 0 RTP/AVP 97\r\n").as_bytes()).unwrap();

    let answer = carol.answer_of(alice.remote().unwrap());
    assert_eq!(streams(&answer), [stream("video", 0, SendRecv), stream("audio", 4000, SendRecv)]);
    assert_eq!(sdp(&answer).media()[1].formats, ["9", "8"]);
}

#[test]
fn a_leg_of_which_only_an_answer_is_known_is_offered_all_codecs() {
    let mut bob = callee(&phone(1, AUDIO), &phone(2, "m=audio 5000 RTP/AVP 8\r\n"));
    let audio = &sdp(&bob.host_offer(host(), HostCodecs::default())).media()[0].clone();
    assert_eq!(audio.formats, ["8", "9", "0", "101"], "what it chose before comes first");
    let mut unknown = Negotiation::new(7);
    let offer = sdp(&unknown.host_offer(host(), HostCodecs(vec![Codec::Pcmu])));
    assert_eq!(offer.media()[0].formats, ["0", "101"]);
}

#[test]
fn a_leg_that_offered_is_not_offered_what_it_does_not_have() {
    let mut alice = caller(&phone(1, "m=audio 4000 RTP/AVP 0 18\r\n"), &phone(2, "m=audio 1 RTP/AVP 0\r\n"));
    let offer = sdp(&alice.host_offer(host(), HostCodecs::default()));
    assert_eq!(offer.media()[0].formats, ["0"]);
    // A re-offer with the one agreed codec does not make it forget the others.
    let mut bob = caller(&phone(1, AUDIO), &phone(2, AUDIO));
    bob.remote_offer(phone(1, "m=audio 4000 RTP/AVP 8\r\na=sendonly\r\n").as_bytes()).unwrap();
    bob.answer_of(&Sdp::parse(phone(2, "m=audio 1 RTP/AVP 8\r\n").as_bytes()).unwrap());
    let offer = sdp(&bob.host_offer(host(), HostCodecs::default()));
    assert_eq!(offer.media()[0].formats, ["8", "0", "9", "101"]);
    // And one with nothing for us is offered all the same: it may know more than it said.
    let mut opus = caller(
        &phone(1, "m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 opus/48000/2\r\n"),
        &phone(2, "m=audio 1 RTP/AVP 0\r\na=rtpmap:0 opus/48000/2\r\n"),
    );
    assert_eq!(
        sdp(&opus.host_offer(host(), HostCodecs::default())).media()[0].formats,
        ["9", "0", "8", "101"]
    );
}

#[test]
fn a_refused_music_offer_is_repeated_in_silence() {
    let mut alice = caller(&phone(1, &format!("{AUDIO}{VIDEO}")), &phone(2, &format!("{AUDIO}{VIDEO}")));
    alice.host_offer(host(), HostCodecs::default());
    alice.rollback();
    let offer = alice.inactive_offer();
    assert_eq!(streams(&offer), [stream("audio", 4000, Inactive), stream("video", 0, SendRecv)]);
    assert_eq!(sdp(&offer).media()[0].formats, ["8", "0", "9", "101"], "the leg's own codecs");
    alice
        .remote_answer(phone(1, &format!("{AUDIO}a=inactive\r\n{}", VIDEO.replace("4002", "0"))).as_bytes())
        .unwrap();
    assert!(!alice.remote_holds(), "it only echoes us");
    assert!(!alice.media_target().unwrap().sends);
    // Nothing is agreed yet: still a valid offer.
    let offer = Negotiation::new(7).inactive_offer();
    assert_eq!(streams(&offer), [stream("audio", 9, Inactive)]);
}

#[test]
fn the_host_answers_in_the_callers_codecs() {
    let mut alice = Negotiation::new(7);
    alice.remote_offer(phone(1, &format!("{VIDEO}{AUDIO}a=sendonly\r\n")).as_bytes()).unwrap();
    let answer = alice.host_answer(host()).unwrap();
    assert_eq!(streams(&answer), [stream("video", 0, SendRecv), stream("audio", 20000, RecvOnly)]);
    assert_eq!(sdp(&answer).media()[1].formats, ["8", "0", "9", "101"]);
    let target = alice.media_target().unwrap();
    assert_eq!(
        (target.codec, target.payload_type, target.dtmf, target.sends),
        (Codec::Pcma, 8, Some(101), false)
    );
}

#[test]
fn the_host_cannot_answer_what_it_cannot_play() {
    for offer in [
        "m=audio 4000 RTP/AVP 18\r\n",
        "m=audio 4000 RTP/SAVP 0\r\n",
        "m=audio 0 RTP/AVP 0\r\n",
        "m=video 4002 RTP/AVP 96\r\n",
        "m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 PCMU/16000\r\n",
    ] {
        let mut leg = Negotiation::new(7);
        leg.remote_offer(phone(1, offer).as_bytes()).unwrap();
        assert_eq!(leg.host_answer(host()), None, "{offer}");
        assert!(leg.has_remote_offer(), "the offer still waits");
    }
}

#[test]
fn the_host_speaks_ipv6_where_it_must() {
    let mut leg = Negotiation::new(7);
    let offer = leg.host_offer("[2001:db8::9]:20000".parse().unwrap(), HostCodecs::default());
    assert_eq!(sdp(&offer).media()[0].rtp(), Some("[2001:db8::9]:20000".parse().unwrap()));
    assert!(sdp(&offer).to_string().contains("\r\nc=IN IP6 2001:db8::9\r\n"));
}

#[test]
fn a_held_parked_phone_wants_no_music() {
    for form in ["a=sendonly\r\n", "a=inactive\r\n", "c=IN IP4 0.0.0.0\r\n"] {
        let mut leg = Negotiation::new(7);
        leg.host_offer(host(), HostCodecs::default());
        leg.remote_answer(phone(1, &format!("{AUDIO}{form}")).as_bytes()).unwrap();
        assert!(!leg.media_target().unwrap().sends, "{form}");
    }
}

#[test]
fn there_is_no_target_without_agreed_audio() {
    let mut leg = Negotiation::new(7);
    assert_eq!(leg.media_target(), None);
    leg.host_offer(host(), HostCodecs::default());
    assert_eq!(leg.media_target(), None, "not answered yet");
    leg.remote_answer(phone(1, "m=audio 0 RTP/AVP 0\r\n").as_bytes()).unwrap();
    assert_eq!(leg.media_target(), None);
}

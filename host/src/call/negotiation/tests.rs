use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A phone's description: its number, its lines above the streams after `t=`, and the rest.
fn phone(number: u8, rest: &str) -> String {
    format!(
        "v=0\r\no=phone{number} 1 1 IN IP4 192.0.2.{number}\r\ns=call\r\nc=IN IP4 192.0.2.{number}\r\nt=0 0\r\n{rest}"
    )
}

const AUDIO: &str =
    "m=audio 4000 RTP/AVP 8 0 9 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n";
const VIDEO: &str = "m=video 4002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n";
const HOST: &str = "198.51.100.1:20000";

fn host() -> SocketAddr {
    HOST.parse().unwrap()
}

fn sdp(bytes: &Bytes) -> Sdp {
    let sdp = Sdp::parse(bytes).unwrap();
    assert_eq!(&sdp.to_bytes(), bytes);
    sdp
}

/// `(kind, port, direction)` of each stream.
fn streams(bytes: &Bytes) -> Vec<(String, u16, Direction)> {
    sdp(bytes).media().iter().map(|media| (media.kind.clone(), media.port, media.direction())).collect()
}

fn stream(kind: &str, port: u16, direction: Direction) -> (String, u16, Direction) {
    (kind.to_owned(), port, direction)
}

fn version(bytes: &Bytes) -> u64 {
    let sdp = sdp(bytes);
    let origin = sdp.origin().unwrap();
    assert_eq!((origin.username, origin.session_id, origin.address), ("-", "7", "IN IP4 127.0.0.1"));
    origin.version.parse().unwrap()
}

/// A leg whose phone offered, and got another phone's answer: a call in progress.
fn caller(offer: &str, answer: &str) -> Negotiation {
    let mut leg = Negotiation::new(7);
    leg.remote_offer(offer.as_bytes()).unwrap();
    leg.answer_of(&Sdp::parse(answer.as_bytes()).unwrap());
    leg
}

/// A leg whose phone was offered another phone's description, and answered.
fn callee(offer: &str, answer: &str) -> Negotiation {
    let mut leg = Negotiation::new(7);
    leg.offer_of(&Sdp::parse(offer.as_bytes()).unwrap(), Directions::AsIs);
    leg.remote_answer(answer.as_bytes()).unwrap();
    leg
}

use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};

#[test]
fn a_call_crosses_with_the_phones_media_and_the_hosts_session() {
    let offer =
        phone(1, &format!("a=ice-lite\r\n{AUDIO}a=candidate:1 1 udp 1 192.0.2.1 4000 typ host\r\nx=new\r\n"));
    let mut alice = Negotiation::new(7);
    alice.remote_offer(offer.as_bytes()).unwrap();
    assert!(alice.has_remote_offer() && !alice.is_stable());

    let mut bob = Negotiation::new(7);
    let to_bob = bob.offer_of(alice.remote().unwrap(), Directions::AsIs);
    assert!(bob.has_local_offer());
    assert_eq!(
        to_bob,
        "v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\na=ice-lite\r\n\
         m=audio 4000 RTP/AVP 8 0 9 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
         a=candidate:1 1 udp 1 192.0.2.1 4000 typ host\r\nx=new\r\n"
    );
    bob.remote_answer(phone(2, "m=audio 5000 RTP/AVP 8\r\n").as_bytes()).unwrap();
    let to_alice = alice.answer_of(bob.remote().unwrap());
    assert_eq!(
        to_alice,
        "v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 5000 RTP/AVP 8\r\n"
    );
    assert!(alice.is_stable() && bob.is_stable());
    assert_eq!(alice.local().unwrap().to_bytes(), to_alice);
    assert_eq!(bob.local().unwrap().to_bytes(), to_bob);
}

#[test]
fn the_answer_keeps_the_offers_time() {
    let mut leg = Negotiation::new(7);
    let offer = phone(1, AUDIO).replace("t=0 0\r\n", "t=2873397496 2873404696\r\nr=7d 1h 0 25h\r\n");
    leg.remote_offer(offer.as_bytes()).unwrap();
    let answer = leg.answer_of(&Sdp::parse(phone(2, AUDIO).as_bytes()).unwrap());
    assert!(sdp(&answer).to_string().contains("\r\nt=2873397496 2873404696\r\nr=7d 1h 0 25h\r\nm="));
}

#[test]
fn a_late_offer_is_answered_in_the_ack() {
    // Alice's INVITE had no offer, so Bob's 2xx has one; she answers it in her ACK.
    let mut bob = Negotiation::new(7);
    bob.remote_offer(phone(2, AUDIO).as_bytes()).unwrap();
    let mut alice = Negotiation::new(7);
    alice.offer_of(bob.remote().unwrap(), Directions::AsIs);
    alice.remote_answer(phone(1, "m=audio 4000 RTP/AVP 0\r\n").as_bytes()).unwrap();
    let to_bob = bob.answer_of(alice.remote().unwrap());
    assert_eq!(streams(&to_bob), [stream("audio", 4000, SendRecv)]);
    assert!(bob.is_stable() && alice.is_stable());
}

#[test]
fn an_answer_that_never_came_changes_nothing() {
    let mut leg = caller(&phone(1, &format!("{AUDIO}{VIDEO}")), &phone(2, &format!("{AUDIO}{VIDEO}")));
    let before = leg.local().unwrap().clone();
    leg.remote_offer(phone(1, &format!("{AUDIO}{VIDEO}")).as_bytes()).unwrap();
    let answer = leg.standing_answer();
    assert_eq!(answer, before.to_bytes(), "not even the version");
    assert!(leg.is_stable());

    let mut fresh = Negotiation::new(7);
    fresh.remote_offer(phone(1, AUDIO).as_bytes()).unwrap();
    let answer = fresh.standing_answer();
    assert_eq!(streams(&answer), [stream("audio", 0, SendRecv)]);
}

#[test]
fn only_one_offer_is_in_flight() {
    let mut leg = Negotiation::new(7);
    leg.offer_of(&Sdp::parse(phone(2, AUDIO).as_bytes()).unwrap(), Directions::AsIs);
    assert_eq!(leg.remote_offer(phone(1, AUDIO).as_bytes()), Err(NegotiationError::OfferInFlight));
    leg.remote_answer(phone(1, AUDIO).as_bytes()).unwrap();
    leg.remote_offer(phone(1, AUDIO).as_bytes()).unwrap();
    assert_eq!(leg.remote_offer(phone(1, AUDIO).as_bytes()), Err(NegotiationError::OfferInFlight));
    assert_eq!(leg.remote_answer(phone(1, AUDIO).as_bytes()), Err(NegotiationError::NoOffer));
    leg.rollback();
    assert_eq!(Negotiation::new(7).remote_answer(phone(1, AUDIO).as_bytes()), Err(NegotiationError::NoOffer));
}

#[test]
fn an_unreadable_description_leaves_all_as_it_was() {
    let mut leg = Negotiation::new(7);
    assert!(matches!(leg.remote_offer(b"hello"), Err(NegotiationError::Sdp(SdpError::Line(1)))));
    assert!(leg.is_stable() && leg.remote().is_none());
    leg.offer_of(&Sdp::parse(phone(2, AUDIO).as_bytes()).unwrap(), Directions::AsIs);
    assert!(leg.remote_answer(b"hello").is_err());
    assert!(leg.has_local_offer(), "a proper answer may still come");
}

#[test]
fn the_200_may_correct_the_answer_of_the_183() {
    let mut leg = callee(&phone(1, AUDIO), &phone(2, "m=audio 5000 RTP/AVP 8\r\n"));
    leg.remote_answer(phone(2, "m=audio 6000 RTP/AVP 0\r\n").as_bytes()).unwrap();
    assert_eq!(leg.remote().unwrap().media()[0].port, 6000);
    // But once they have offered, there is no answer to correct.
    leg.remote_offer(phone(2, AUDIO).as_bytes()).unwrap();
    leg.answer_of(&Sdp::parse(phone(1, AUDIO).as_bytes()).unwrap());
    assert_eq!(leg.remote_answer(phone(2, AUDIO).as_bytes()), Err(NegotiationError::NoOffer));
}

#[test]
fn a_refresh_repeats_what_stands_to_the_letter() {
    let mut leg = callee(&phone(1, AUDIO), &phone(2, AUDIO));
    let before = leg.local().unwrap().to_bytes();
    assert_eq!(leg.repeat_offer(), Some(before));
    assert!(leg.has_local_offer());
    leg.remote_answer(phone(2, AUDIO).as_bytes()).unwrap();
    assert_eq!(Negotiation::new(7).repeat_offer(), None);
}

#[test]
fn a_leg_knows_whether_it_was_told_of_its_peer() {
    let parse = |text: String| Sdp::parse(text.as_bytes()).unwrap();
    // Bob was told of Alice with all her codecs and video, and took the audio, PCMA only.
    let told = format!("{AUDIO}{VIDEO}");
    let bob = callee(&phone(1, &told), &phone(2, "m=audio 5000 RTP/AVP 8\r\nm=video 0 RTP/AVP 96\r\n"));
    let knows = |rest: &str| bob.describes(&parse(phone(1, rest)));
    assert!(knows(AUDIO), "whatever the order and number of slots");
    assert!(knows("m=video 0 RTP/AVP 96\r\nm=audio 4000 RTP/AVP 8\r\n"), "she takes what he sends");
    assert!(knows(&format!("{AUDIO}a=recvonly\r\n")), "what she once answered to a hold");
    assert!(!knows("m=audio 4000 RTP/AVP 0\r\n"), "he would send PCMA");
    assert!(!knows("m=audio 4002 RTP/AVP 8\r\n"), "another port");
    assert!(!knows(&told), "her video flows, but not to him");
    assert!(!knows("m=audio 0 RTP/AVP 8\r\n"));
    assert!(!knows(&format!("{AUDIO}a=sendonly\r\n")), "she holds now");
    assert!(!knows(&format!("{AUDIO}a=rtcp-mux\r\n")));
    assert!(!bob.describes(&parse(phone(3, AUDIO))), "another address");
    assert!(!Negotiation::new(7).describes(&parse(phone(1, AUDIO))));
}

mod versions {
    use super::*;

    #[test]
    fn a_changed_description_raises_the_version_by_one_and_a_repeated_one_keeps_it() {
        let mut leg = Negotiation::new(7);
        let peer = Sdp::parse(phone(2, AUDIO).as_bytes()).unwrap();
        assert_eq!(version(&leg.offer_of(&peer, Directions::AsIs)), 1);
        leg.remote_answer(phone(1, AUDIO).as_bytes()).unwrap();
        assert_eq!(version(&leg.offer_of(&peer, Directions::AsIs)), 1, "a session refresh");
        leg.remote_answer(phone(1, AUDIO).as_bytes()).unwrap();
        assert_eq!(version(&leg.host_offer(host(), HostCodecs::default())), 2);
        leg.remote_answer(phone(1, AUDIO).as_bytes()).unwrap();
        leg.remote_offer(phone(1, AUDIO).as_bytes()).unwrap();
        assert_eq!(version(&leg.answer_of(&peer)), 3, "answers count in the same row");
        leg.remote_offer(phone(1, AUDIO).as_bytes()).unwrap();
        let mut newer = peer.clone();
        newer.lines_mut()[1].value = "phone2 1 99 IN IP4 192.0.2.2".into();
        assert_eq!(
            version(&leg.answer_of(&newer)),
            3,
            "the peer's own version is none of this phone's business"
        );
    }

    #[test]
    fn a_refused_offer_used_its_number_up() {
        let mut leg = callee(&phone(1, AUDIO), &phone(2, AUDIO));
        let peer = Sdp::parse(phone(1, AUDIO).as_bytes()).unwrap();
        assert_eq!(version(&leg.host_offer(host(), HostCodecs::default())), 2);
        leg.rollback();
        assert_eq!(
            version(&leg.offer_of(&peer, Directions::AsIs)),
            3,
            "the phone has seen 2 with other content"
        );
        leg.rollback();
        assert_eq!(version(&leg.offer_of(&peer, Directions::AsIs)), 3);
    }

    #[test]
    fn the_session_id_fits_a_signed_number() {
        let mut leg = Negotiation::new(u64::MAX).at("2001:db8::1".parse().unwrap());
        let offer = leg.host_offer(host(), HostCodecs::default());
        let sdp = sdp(&offer);
        let origin = sdp.origin().unwrap();
        assert_eq!(origin.session_id.parse::<i64>().unwrap(), (1 << 62) - 1);
        assert_eq!(origin.address, "IN IP6 2001:db8::1");
    }
}

mod slots {
    use super::*;

    #[test]
    fn an_unknown_kind_is_appended_and_a_missing_one_is_port_0() {
        // Bob's phone has audio only; then he is joined with one that has video, then with audio again.
        let mut bob = callee(&phone(1, AUDIO), &phone(2, AUDIO));
        let video_call = Sdp::parse(phone(3, &format!("{VIDEO}{AUDIO}")).as_bytes()).unwrap();
        let offer = bob.offer_of(&video_call, Directions::Fresh);
        assert_eq!(streams(&offer), [stream("audio", 4000, SendRecv), stream("video", 4002, SendRecv)]);
        let refusal = phone(2, &format!("{AUDIO}{}", VIDEO.replace("4002", "0")));
        bob.remote_answer(refusal.as_bytes()).unwrap();
        let audio_call = Sdp::parse(phone(4, AUDIO).as_bytes()).unwrap();
        let offer = bob.offer_of(&audio_call, Directions::Fresh);
        assert_eq!(streams(&offer), [stream("audio", 4000, SendRecv), stream("video", 0, SendRecv)]);
        assert!(offer.ends_with(b"m=video 0 RTP/AVP 96\r\n"), "kind, transport and a format of that slot");
    }

    #[test]
    fn a_refused_offer_appends_nothing() {
        let mut bob = callee(&phone(1, AUDIO), &phone(2, AUDIO));
        bob.offer_of(
            &Sdp::parse(phone(3, &format!("{AUDIO}{VIDEO}")).as_bytes()).unwrap(),
            Directions::Fresh,
        );
        bob.rollback();
        let offer = bob.offer_of(&Sdp::parse(phone(1, AUDIO).as_bytes()).unwrap(), Directions::Fresh);
        assert_eq!(streams(&offer).len(), 1);
    }

    #[test]
    fn an_answer_has_the_offers_streams_in_the_offers_order() {
        let mut alice = Negotiation::new(7);
        alice
            .remote_offer(phone(1, &format!("{VIDEO}{AUDIO}m=message 0 TCP/MSRP *\r\n")).as_bytes())
            .unwrap();
        let peer =
            Sdp::parse(phone(2, &format!("{}{VIDEO}", AUDIO.replace("4000", "5000"))).as_bytes()).unwrap();
        let answer = alice.answer_of(&peer);
        assert_eq!(
            streams(&answer),
            [
                stream("video", 4002, SendRecv),
                stream("audio", 5000, SendRecv),
                stream("message", 0, SendRecv)
            ]
        );
    }

    #[test]
    fn what_the_peer_does_not_answer_is_port_0() {
        let leg = caller(&phone(1, &format!("{AUDIO}{VIDEO}")), &phone(2, AUDIO));
        assert_eq!(
            streams(&leg.local().unwrap().to_bytes()),
            [stream("audio", 4000, SendRecv), stream("video", 0, SendRecv)]
        );
    }

    #[test]
    fn a_stream_rejected_in_the_offer_stays_rejected() {
        let mut leg = Negotiation::new(7);
        leg.remote_offer(phone(1, &format!("{AUDIO}{}", VIDEO.replace("4002", "0"))).as_bytes()).unwrap();
        let answer = leg.answer_of(&Sdp::parse(phone(2, &format!("{AUDIO}{VIDEO}")).as_bytes()).unwrap());
        assert_eq!(streams(&answer)[1].1, 0);
    }

    #[test]
    fn the_encrypted_alternative_that_was_declined_stays_in_its_slot() {
        // Optional SRTP as many phones offer it: the same audio twice. The callee takes the second.
        let secure = AUDIO.replace("RTP/AVP", "RTP/SAVP");
        let mut alice = Negotiation::new(7);
        alice.remote_offer(phone(1, &format!("{secure}{AUDIO}")).as_bytes()).unwrap();
        let mut bob = Negotiation::new(7);
        bob.offer_of(alice.remote().unwrap(), Directions::AsIs);
        let declined = secure.replace("4000", "0");
        bob.remote_answer(phone(2, &format!("{declined}{AUDIO}")).as_bytes()).unwrap();
        let answer = sdp(&alice.answer_of(bob.remote().unwrap()));
        assert_eq!(answer.media()[0].port, 0);
        assert_eq!((answer.media()[1].port, answer.media()[1].proto.as_str()), (4000, "RTP/AVP"));
        // The host's music goes where the audio is.
        let music = streams(&alice.host_offer(host(), HostCodecs::default()));
        assert_eq!(music, [stream("audio", 0, SendRecv), stream("audio", 20000, SendRecv)]);
        // A phone with a single audio slot gets that stream in it, not a second one.
        let mut carol = callee(&phone(4, AUDIO), &phone(3, AUDIO));
        let joined = carol.offer_of(bob.remote().unwrap(), Directions::Fresh);
        assert_eq!(streams(&joined), [stream("audio", 4000, SendRecv)]);
    }

    #[test]
    fn a_stream_stays_in_its_slot_while_the_peer_stays() {
        let two = format!("{AUDIO}{VIDEO}{}", VIDEO.replace("4002", "4004"));
        let mut bob = callee(&phone(1, &two), &phone(2, &two));
        // The peer switches its first camera off: the second one must not move into the first slot.
        let one = format!("{AUDIO}{}{}", VIDEO.replace("4002", "0"), VIDEO.replace("4002", "4004"));
        let offer = bob.offer_of(&Sdp::parse(phone(1, &one).as_bytes()).unwrap(), Directions::AsIs);
        let ports: Vec<u16> = streams(&offer).iter().map(|(_, port, _)| *port).collect();
        assert_eq!(ports, [4000, 0, 4004]);
    }

    #[test]
    fn a_phone_that_leaves_out_unknown_streams_is_forgiven_one_that_invents_some_is_not() {
        let mut leg = Negotiation::new(7);
        let peer = Sdp::parse(phone(1, &format!("{AUDIO}{VIDEO}")).as_bytes()).unwrap();
        leg.offer_of(&peer, Directions::AsIs);
        let swapped = phone(2, &format!("{VIDEO}{AUDIO}"));
        assert_eq!(leg.remote_answer(swapped.as_bytes()), Err(NegotiationError::StreamsDiffer));
        let more = phone(2, &format!("{AUDIO}{VIDEO}{VIDEO}"));
        assert_eq!(leg.remote_answer(more.as_bytes()), Err(NegotiationError::StreamsDiffer));
        leg.remote_answer(phone(2, AUDIO).as_bytes()).unwrap();
        let [audio, video] = leg.remote().unwrap().media() else { panic!() };
        assert!(audio.is_live() && !video.is_live());
    }

    #[test]
    fn a_phone_that_drops_a_stream_from_its_offer_gets_an_answer_that_fits() {
        let mut leg = caller(&phone(1, &format!("{AUDIO}{VIDEO}")), &phone(2, &format!("{AUDIO}{VIDEO}")));
        leg.remote_offer(phone(1, AUDIO).as_bytes()).unwrap();
        let answer = leg.answer_of(&Sdp::parse(phone(2, AUDIO).as_bytes()).unwrap());
        assert_eq!(streams(&answer).len(), 1);
        assert_eq!(
            streams(&leg.host_offer(host(), HostCodecs::default())).len(),
            2,
            "our own list never shrinks"
        );
    }

    #[test]
    fn every_stream_has_an_address() {
        let own = "m=audio 4000 RTP/AVP 0\r\nc=IN IP6 2001:db8::1\r\n";
        let peer = phone(1, own).replace("c=IN IP4 192.0.2.1\r\n", "");
        let mut leg = callee(&phone(1, &format!("{AUDIO}{VIDEO}")), &phone(2, &format!("{AUDIO}{VIDEO}")));
        let offer = sdp(&leg.offer_of(&Sdp::parse(peer.as_bytes()).unwrap(), Directions::AsIs));
        assert!(offer.media().iter().all(|media| media.connection().is_some()));
        assert_eq!(offer.media()[0].rtp(), Some("[2001:db8::1]:4000".parse().unwrap()));
    }

    #[test]
    fn fax_and_messages_pass_like_anything_else() {
        let fax = "m=image 4008 udptl t38\r\na=T38FaxVersion:0\r\n";
        let mut leg = callee(&phone(1, AUDIO), &phone(2, AUDIO));
        let offer = leg.offer_of(&Sdp::parse(phone(1, fax).as_bytes()).unwrap(), Directions::AsIs);
        assert_eq!(streams(&offer), [stream("audio", 0, SendRecv), stream("image", 4008, SendRecv)]);
        assert!(offer.ends_with(fax.as_bytes()));
    }
}

mod holding {
    use super::*;

    fn with(direction: &str) -> String {
        format!("{AUDIO}a={direction}\r\n")
    }

    #[test]
    fn hold_and_resume_cross_the_call() {
        let mut alice = caller(&phone(1, AUDIO), &phone(2, AUDIO));
        let mut bob = callee(&phone(1, AUDIO), &phone(2, AUDIO));
        assert!(!alice.remote_holds());

        alice.remote_offer(phone(1, &with("sendonly")).as_bytes()).unwrap();
        assert!(alice.remote_holds());
        let offer = bob.offer_of(alice.remote().unwrap(), Directions::AsIs);
        assert_eq!(streams(&offer), [stream("audio", 4000, SendOnly)]);
        // A phone that doesn't know hold answers sendrecv, which no answer to sendonly may be.
        bob.remote_answer(phone(2, AUDIO).as_bytes()).unwrap();
        assert!(!bob.remote_holds());
        let answer = alice.answer_of(bob.remote().unwrap());
        assert_eq!(streams(&answer), [stream("audio", 4000, RecvOnly)]);
        assert!(alice.remote_holds(), "still, once agreed");

        alice.remote_offer(phone(1, AUDIO).as_bytes()).unwrap();
        assert!(!alice.remote_holds());
        let offer = bob.offer_of(alice.remote().unwrap(), Directions::AsIs);
        assert_eq!(streams(&offer), [stream("audio", 4000, SendRecv)]);
        bob.remote_answer(phone(2, AUDIO).as_bytes()).unwrap();
        assert_eq!(streams(&alice.answer_of(bob.remote().unwrap())), [stream("audio", 4000, SendRecv)]);
    }

    #[test]
    fn each_form_of_hold_is_passed_on_as_it_came() {
        for form in ["a=inactive\r\n", "c=IN IP4 0.0.0.0\r\n", "c=IN IP6 ::\r\n", "a=sendonly\r\n"] {
            let mut alice = caller(&phone(1, AUDIO), &phone(2, AUDIO));
            let mut bob = callee(&phone(1, AUDIO), &phone(2, AUDIO));
            alice.remote_offer(phone(1, &format!("{AUDIO}{form}")).as_bytes()).unwrap();
            assert!(alice.remote_holds(), "{form}");
            let offer = bob.offer_of(alice.remote().unwrap(), Directions::AsIs);
            assert!(offer.ends_with(form.as_bytes()));
        }
    }

    #[test]
    fn a_refused_hold_is_no_hold() {
        let mut alice = caller(&phone(1, AUDIO), &phone(2, AUDIO));
        alice.remote_offer(phone(1, &with("sendonly")).as_bytes()).unwrap();
        alice.rollback();
        assert!(!alice.remote_holds() && alice.is_stable());
    }

    #[test]
    fn an_answer_to_hold_is_no_wish_to_hold() {
        // Bob was put on hold (sendonly, inactive) and said so; when he is then joined with Carol he is heard again.
        for (hold, echo) in [("sendonly", "recvonly"), ("inactive", "inactive")] {
            let bob = callee(&phone(1, &with(hold)), &phone(2, &with(echo)));
            assert!(!bob.remote_holds(), "{hold}");
            let mut carol = Negotiation::new(7);
            let offer = carol.offer_of(bob.remote().unwrap(), Directions::Fresh);
            assert_eq!(streams(&offer), [stream("audio", 4000, SendRecv)], "{hold}");
        }
    }

    #[test]
    fn a_refresh_by_a_held_phone_is_no_wish_to_hold() {
        for (hold, echo) in [("sendonly", "recvonly"), ("inactive", "inactive")] {
            let mut bob = callee(&phone(1, &with(hold)), &phone(2, &with(echo)));
            bob.remote_offer(phone(2, &with(echo)).as_bytes()).unwrap();
            assert!(!bob.remote_holds(), "{hold}");
            let mut alice = callee(&phone(2, AUDIO), &phone(1, &with(hold)));
            let passed_on = alice.offer_of(bob.remote().unwrap(), Directions::AsIs);
            assert_eq!(streams(&passed_on)[0].2.as_str(), echo, "a live re-offer goes on as it is");
        }
    }

    #[test]
    fn a_phone_that_itself_holds_is_not_woken_by_a_join() {
        let mut bob = caller(&phone(1, AUDIO), &phone(2, AUDIO));
        for form in ["a=sendonly\r\n", "a=inactive\r\n", "c=IN IP4 0.0.0.0\r\n"] {
            bob.remote_offer(phone(1, &format!("{AUDIO}{form}")).as_bytes()).unwrap();
            bob.answer_of(&Sdp::parse(phone(2, AUDIO).as_bytes()).unwrap());
            let offer = Negotiation::new(7).offer_of(bob.remote().unwrap(), Directions::Fresh);
            assert!(offer.ends_with(form.as_bytes()), "{form}");
        }
    }

    #[test]
    fn a_phone_that_keeps_holding_says_so_in_its_answer() {
        let mut bob = caller(&phone(1, AUDIO), &phone(2, AUDIO));
        bob.remote_offer(phone(1, &with("inactive")).as_bytes()).unwrap();
        bob.host_answer(host()).unwrap();
        bob.host_offer(host(), HostCodecs::default());
        bob.remote_answer(phone(1, &with("sendonly")).as_bytes()).unwrap();
        assert!(bob.remote_holds());
        bob.host_offer(host(), HostCodecs::default());
        bob.remote_answer(phone(1, AUDIO).as_bytes()).unwrap();
        assert!(!bob.remote_holds(), "and when it stops");
    }

    #[test]
    fn a_session_wide_hold_does_not_outlive_it() {
        let mut bob = callee(&phone(1, AUDIO), &phone(2, AUDIO));
        let held = phone(1, &format!("a=inactive\r\n{AUDIO}"));
        let offer = bob.offer_of(&Sdp::parse(held.as_bytes()).unwrap(), Directions::AsIs);
        assert_eq!(streams(&offer), [stream("audio", 4000, Inactive)]);
        let mut peer = Sdp::parse(held.as_bytes()).unwrap();
        peer.media_mut()[0].held = false;
        let offer = bob.offer_of(&peer, Directions::Fresh);
        assert_eq!(streams(&offer), [stream("audio", 4000, SendRecv)]);
    }

    #[test]
    fn who_holds_survives_a_restart() {
        let mut leg = callee(&phone(1, &with("inactive")), &phone(2, &with("inactive")));
        leg = serde_json::from_str(&serde_json::to_string(&leg).unwrap()).unwrap();
        assert!(!leg.remote_holds());
        leg.remote_offer(phone(2, &format!("{AUDIO}c=IN IP4 0.0.0.0\r\n")).as_bytes()).unwrap();
        leg = serde_json::from_str(&serde_json::to_string(&leg).unwrap()).unwrap();
        assert!(leg.remote_holds() && leg.has_remote_offer());
    }
}

mod parking {
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
        alice
            .remote_answer(phone(1, "m=audio 4000 RTP/AVP 9 8\r\nm=video 0 RTP/AVP 97\r\n").as_bytes())
            .unwrap();

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
        let mut alice =
            caller(&phone(1, "m=audio 4000 RTP/AVP 0 18\r\n"), &phone(2, "m=audio 1 RTP/AVP 0\r\n"));
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
            .remote_answer(
                phone(1, &format!("{AUDIO}a=inactive\r\n{}", VIDEO.replace("4002", "0"))).as_bytes(),
            )
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
}

mod pickup {
    use super::*;

    fn both(one: &str, other: &str) -> Option<(Bytes, Bytes)> {
        let (one, other) = (phone(1, one), phone(2, other));
        let (mut caller, mut picker) = (Negotiation::new(7), Negotiation::new(7));
        caller.remote_offer(one.as_bytes()).unwrap();
        picker.remote_offer(other.as_bytes()).unwrap();
        let (offer, peer) = (caller.remote().unwrap().clone(), picker.remote().unwrap().clone());
        let answers = (caller.answer_common(&peer), picker.answer_common(&offer));
        assert_eq!(answers.0.is_some(), answers.1.is_some(), "both or none");
        assert_eq!(caller.is_stable(), answers.0.is_some());
        Some((answers.0?, answers.1?))
    }

    #[test]
    fn two_offers_are_answered_from_what_they_have_in_common() {
        let one = format!("{AUDIO}a=ptime:20\r\n{VIDEO}");
        let other = "m=audio 6000 RTP/AVP 96 9 0 97\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n\
                     a=rtpmap:97 telephone-event/8000\r\n";
        let (to_one, to_other) = both(&one, other).unwrap();
        assert_eq!(streams(&to_one), [stream("audio", 6000, SendRecv), stream("video", 0, SendRecv)]);
        assert_eq!(streams(&to_other), [stream("audio", 4000, SendRecv)]);
        // 0 and 9 stand at the places 1+2 and 2+1: a tie, and yet the same order for both.
        let (one, other) = (sdp(&to_one), sdp(&to_other));
        assert_eq!(one.media()[0].formats[..2], other.media()[0].formats[..2]);
        assert_eq!(one.media()[0].formats[2], "97", "digits as the other phone numbers them");
        assert_eq!(other.media()[0].formats[2], "101");
        assert_eq!(one.media()[0].rtpmap("96"), None, "what isn't in common is not mentioned");
        assert_eq!(one.media()[0].fmtp("96"), None);
        assert_eq!(other.media()[0].attribute("ptime"), Some("20"));
    }

    #[test]
    fn nothing_in_common_is_said_to_both() {
        assert_eq!(both("m=audio 1 RTP/AVP 0\r\n", "m=audio 1 RTP/AVP 8\r\n"), None);
        assert_eq!(both("m=audio 1 RTP/AVP 0\r\n", "m=audio 1 RTP/SAVP 0\r\n"), None);
        let digits = "a=rtpmap:101 telephone-event/8000\r\n";
        let only_digits = both(
            &format!("m=audio 1 RTP/AVP 0 101\r\n{digits}"),
            &format!("m=audio 1 RTP/AVP 8 101\r\n{digits}"),
        );
        assert_eq!(only_digits, None, "digits alone are no conversation");
    }

    #[test]
    fn directions_fit_both_offers() {
        let (to_one, to_other) = both(&format!("{AUDIO}a=sendonly\r\n"), AUDIO).unwrap();
        assert_eq!((streams(&to_one)[0].2, streams(&to_other)[0].2), (RecvOnly, SendOnly));
    }

    #[test]
    fn keys_are_answered_under_the_offers_tag() {
        let crypto = |tag, suite, key| format!("a=crypto:{tag} {suite} inline:{key}\r\n");
        let secure = AUDIO.replace("RTP/AVP", "RTP/SAVP");
        let one = format!("{secure}{}{}", crypto(1, "AES_256", "one256"), crypto(2, "AES_128", "one128"));
        let other = format!("{secure}{}", crypto(1, "AES_128", "other128"));
        let (to_one, to_other) = both(&one, &other).unwrap();
        let keys = |bytes| sdp(bytes).media()[0].attributes("crypto").map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(keys(&to_one), ["2 AES_128 inline:other128"]);
        assert_eq!(keys(&to_other), ["1 AES_128 inline:one128"]);
        assert_eq!(both(&format!("{secure}{}", crypto(1, "AES_256", "x")), &other), None);
    }

    #[test]
    fn of_two_browsers_one_opens_the_connection() {
        let browser = AUDIO.replace("RTP/AVP", "UDP/TLS/RTP/SAVPF") + "a=setup:actpass\r\n";
        let (to_one, to_other) = both(&browser, &browser).unwrap();
        let role = |bytes| sdp(bytes).media()[0].attribute("setup").unwrap().to_owned();
        let roles: BTreeSet<String> = [role(&to_one), role(&to_other)].into();
        assert_eq!(roles, ["active".to_owned(), "passive".to_owned()].into());
    }
}

/// A description with any streams, in any order, by one of a few phones.
fn any_description() -> impl Strategy<Value = String> {
    let stream =
        (0..4usize, prop_oneof![Just(0u16), 4000..4100u16], 0..4usize).prop_map(|(kind, port, way)| {
            let kind =
                ["audio 0 RTP/AVP 8 0", "video 0 RTP/AVP 96", "audio 0 RTP/SAVP 0", "image 0 udptl t38"]
                    [kind];
            let way = ["sendrecv", "sendonly", "recvonly", "inactive"][way];
            format!("m={}\r\na={way}\r\n", kind.replacen(" 0 ", &format!(" {port} "), 1))
        });
    (1..5u8, proptest::collection::vec(stream, 1..5))
        .prop_map(|(number, streams)| phone(number, &streams.concat()))
}

/// What a phone would answer to an offer: its streams, each taken or not, in whatever direction it likes.
fn answer_to(offer: &Sdp, choices: &[u8]) -> String {
    let streams = offer.media().iter().enumerate().map(|(index, media)| {
        let choice = choices.get(index).copied().unwrap_or(1);
        let port = if media.is_live() && choice != 0 { 5000 } else { 0 };
        let way = ["inactive", "sendrecv", "recvonly", "sendonly"][usize::from(choice % 4)];
        format!("m={} {port} {} {}\r\na={way}\r\n", media.kind, media.proto, media.formats.join(" "))
    });
    phone(9, &streams.collect::<String>())
}

proptest! {
    /// Whatever phones say and whoever is joined with whom: our offers only ever append streams, our answers have the
    /// offer's, every body parses, directions are legal, and the version moves exactly with the content.
    #[test]
    fn slots_never_shrink_or_reorder(
        steps in proptest::collection::vec(
            (0..8u8, any_description(), proptest::collection::vec(0..5u8, 0..6)), 1..24),
    ) {
        let mut leg = Negotiation::new(7);
        let mut agreed: Vec<String> = Vec::new();
        let mut last: Option<(u64, Sdp)> = None;
        for (step, description, choices) in steps {
            let peer = Sdp::parse(description.as_bytes()).unwrap();
            let (sent, offered) = match step {
                0..=4 => (match step {
                    0 => leg.offer_of(&peer, Directions::AsIs),
                    1 | 2 => leg.offer_of(&peer, Directions::Fresh),
                    3 => leg.host_offer(host(), HostCodecs::default()),
                    _ => leg.inactive_offer(),
                }, None),
                5 | 6 => {
                    leg.remote_offer(description.as_bytes()).unwrap();
                    let offered = leg.remote().unwrap().clone();
                    let answerer = Sdp::parse(answer_to(&offered, &choices).as_bytes()).unwrap();
                    (leg.answer_of(&answerer), Some(offered))
                }
                _ => {
                    leg.remote_offer(description.as_bytes()).unwrap();
                    let offered = leg.remote().unwrap().clone();
                    let Some(sent) = leg.host_answer(host()) else {
                        leg.rollback();
                        continue;
                    };
                    (sent, Some(offered))
                }
            };
            let ours = sdp(&sent);
            let kinds: Vec<String> = ours.media().iter().map(|media| media.kind.clone()).collect();
            let number = version(&sent);
            match &last {
                Some((before, same)) if same.same_media(&ours) => prop_assert_eq!(number, *before),
                Some((before, _)) => prop_assert_eq!(number, before + 1),
                None => prop_assert_eq!(number, 1),
            }
            last = Some((number, ours.clone()));
            if let Some(offered) = offered {
                prop_assert_eq!(ours.media().len(), offered.media().len());
                for (answer, offer) in ours.media().iter().zip(offered.media()) {
                    prop_assert_eq!(&answer.kind, &offer.kind);
                    prop_assert_eq!(&answer.proto, &offer.proto);
                    prop_assert!(!answer.is_live() || offer.is_live());
                    if answer.is_live() {
                        prop_assert_eq!(answer.direction().answering(offer.direction()), answer.direction());
                    }
                }
            } else {
                prop_assert!(kinds.len() >= agreed.len(), "{:?} after {:?}", kinds, agreed);
                prop_assert_eq!(&kinds[..agreed.len()], &agreed[..]);
                if choices.first() == Some(&0) {
                    leg.rollback();
                    continue;
                }
                leg.remote_answer(answer_to(&ours, &choices).as_bytes()).unwrap();
            }
            prop_assert!(leg.is_stable());
            for (slot, kind) in kinds.into_iter().enumerate() {
                match agreed.get_mut(slot) {
                    Some(agreed) => *agreed = kind,
                    None => agreed.push(kind),
                }
            }
        }
    }
}

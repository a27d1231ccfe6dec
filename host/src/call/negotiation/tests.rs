mod holding;
mod parking;
mod pickup;
mod slots;
mod versions;

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

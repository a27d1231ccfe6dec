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
    bob.offer_of(&Sdp::parse(phone(3, &format!("{AUDIO}{VIDEO}")).as_bytes()).unwrap(), Directions::Fresh);
    bob.rollback();
    let offer = bob.offer_of(&Sdp::parse(phone(1, AUDIO).as_bytes()).unwrap(), Directions::Fresh);
    assert_eq!(streams(&offer).len(), 1);
}

#[test]
fn an_answer_has_the_offers_streams_in_the_offers_order() {
    let mut alice = Negotiation::new(7);
    alice.remote_offer(phone(1, &format!("{VIDEO}{AUDIO}m=message 0 TCP/MSRP *\r\n")).as_bytes()).unwrap();
    let peer = Sdp::parse(phone(2, &format!("{}{VIDEO}", AUDIO.replace("4000", "5000"))).as_bytes()).unwrap();
    let answer = alice.answer_of(&peer);
    assert_eq!(
        streams(&answer),
        [stream("video", 4002, SendRecv), stream("audio", 5000, SendRecv), stream("message", 0, SendRecv)]
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

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
    assert_eq!(version(&leg.answer_of(&newer)), 3, "the peer's own version is none of this phone's business");
}

#[test]
fn a_refused_offer_used_its_number_up() {
    let mut leg = callee(&phone(1, AUDIO), &phone(2, AUDIO));
    let peer = Sdp::parse(phone(1, AUDIO).as_bytes()).unwrap();
    assert_eq!(version(&leg.host_offer(host(), HostCodecs::default())), 2);
    leg.rollback();
    assert_eq!(version(&leg.offer_of(&peer, Directions::AsIs)), 3, "the phone has seen 2 with other content");
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

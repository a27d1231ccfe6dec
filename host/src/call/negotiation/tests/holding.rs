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

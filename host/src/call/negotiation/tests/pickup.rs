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

//! Forged requests: within dialogs of others, in the name of others, and with more in them than they show.

use std::net::SocketAddr;

use switchyard_host::sip::{Dialog, Message, Name, NameAddr, Status};

use super::{SECOND, inject, request, said_to, statuses, stranger};
use crate::harness::{OnRing, World, WorldOptions};

/// A request within a dialog as `ours`, the phone's half of it, names it, with a CSeq nobody has used yet.
fn within(ours: &Dialog, method: &str, [from_tag, to_tag]: [&str; 2], serial: usize, more: &str) -> String {
    format!(
        "{method} sip:x@192.0.2.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP h;rport;branch=z9hG4bK{serial}\r\n\
         From: <sip:a@example.test>;tag={from_tag}\r\nTo: <sip:b@example.test>;tag={to_tag}\r\nCall-ID: {}\r\n\
         CSeq: {} {method}\r\nContact: <sip:x@203.0.113.1>\r\n{more}\r\n",
        ours.call_id,
        5_000 + serial
    )
}

fn connected() -> (World, [usize; 2], [crate::harness::CallId; 2]) {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (a, b) = world.connect(alice, bob);
    (world, [alice, bob], [a, b])
}

/// Who knows a Call-ID knows nothing yet: both tags are needed, and each the right way round (RFC 3261 §12.2.2).
#[test]
fn a_call_id_without_its_tags_reaches_no_call() {
    let (mut world, [alice, bob], [a, b]) = connected();
    let ours = world.phones[alice].call(a).dialog.clone().unwrap();
    let (local, remote) = (ours.local_tag.as_str(), ours.remote_tag.as_str());
    let mut serial = 0;
    for tags in [["x", "y"], [local, "y"], ["x", remote], [remote, local], [local, local]] {
        for method in ["BYE", "INVITE", "REFER", "INFO", "UPDATE", "MESSAGE", "NOTIFY", "PRACK"] {
            serial += 1;
            let from = stranger(serial as u8);
            inject(
                &mut world,
                from,
                &within(&ours, method, tags, serial, "Refer-To: <sip:1003@example.test>\r\n"),
            );
            assert_eq!(statuses(&world, from), [481], "{method} {tags:?}");
        }
    }
    assert!(world.alive().get("servers").is_none_or(|servers| *servers < 5), "{:?}", world.alive());
    world.run_for(SECOND * 3);
    for serial in 1..=serial {
        assert_eq!(statuses(&world, stranger(serial as u8)), [481], "once: the address may be forged");
    }
    assert!(world.phones[alice].call(a).up && world.phones[bob].call(b).up);
}

/// Even with the right tags, a REFER from elsewhere must prove that it is the party of that dialog: it spends money.
#[test]
fn a_transfer_from_elsewhere_proves_who_asks() {
    let (mut world, [alice, bob], [a, b]) = connected();
    let ours = world.phones[bob].call(b).dialog.clone().unwrap();
    let tags = [ours.local_tag.as_str(), ours.remote_tag.as_str()];
    let refer_to = "Refer-To: <sip:1003@example.test>\r\n";
    let thief = stranger(1);
    inject(&mut world, thief, &within(&ours, "REFER", tags, 1, refer_to));
    assert_eq!(statuses(&world, thief), [401]);
    let uri = "sip:x@192.0.2.1:5060";
    for (serial, user, expected) in [(2, "carol", 403), (3, "bob", 202)] {
        let from = stranger(serial as u8);
        inject(&mut world, from, &within(&ours, "REFER", tags, serial, refer_to));
        let more = super::answer(&world, from, user, &switchyard_host::sip::Method::Refer, uri);
        let text = within(&ours, "REFER", tags, serial + 10, &format!("{refer_to}{more}"));
        inject(&mut world, from, &text);
        assert!(statuses(&world, from).contains(&expected), "{user}: {:?}", statuses(&world, from));
    }
    world.run_for(SECOND * 3);
    assert!(world.phones[alice].call(a).up, "nobody is at 1003, so all stays as it was");
}

#[test]
fn a_forged_replaces_takes_nobodys_place() {
    let (mut world, [alice, bob], [a, b]) = connected();
    let [dave] = world.phones(["dave"]);
    let ours = world.phones[bob].call(b).dialog.clone().unwrap();
    let named = |to: &str, from: &str| format!("{};to-tag={to};from-tag={from}", ours.call_id);
    let right = named(&ours.remote_tag, &ours.local_tag);
    let more = format!("Contact: <sip:x@h>\r\nReplaces: {right}\r\n");
    inject(&mut world, stranger(1), &request("INVITE", "sip:1002@example.test", 1, &more));
    assert_eq!(statuses(&world, stranger(1)), [401]);
    for (replaces, expected) in [
        (right, Status::BUSY_HERE),
        (named("x", "y"), Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST),
        (named(&ours.local_tag, "x"), Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST),
        (";to-tag=;from-tag=".to_owned(), Status::BAD_REQUEST),
        (format!("{};to-tag={}", ours.call_id, ours.remote_tag), Status::BAD_REQUEST),
    ] {
        let call = world
            .act(dave, |phone| phone.invite("sip:1002@example.test", &[(Name::Replaces, &replaces)], true));
        world.run_for(SECOND);
        assert_eq!(world.phones[dave].call(call).failed, Some(expected), "{replaces}");
    }
    assert!(world.phones[alice].call(a).up && world.phones[bob].call(b).up);
}

/// RFC 3515 §2.1, RFC 3261 §19.1.5: headers and methods in a Refer-To are a way to make us say what somebody else
/// wrote. Replaces is taken, the rest is not passed on.
#[test]
fn what_hides_in_a_refer_to_goes_nowhere() {
    for (refer_to, told) in [
        ("sip:1003@example.test;method=BYE", "400"),
        ("sip:1003@example.test?method=BYE", "400"),
        ("mailto:carol@example.test", "400"),
        ("sip:1003@elsewhere.example", "404"),
        ("sip:1003@203.0.113.7", "404"),
        ("sip:1003%0d%0aX-Evil:%201@example.test", "404"),
        ("tel:1003;phone-context=%0d%0aX-Evil", "200"),
        ("sip:1003@example.test?Replaces=x%0d%0aX-Evil:1", "400"),
        (
            "sip:1003@example.test?P-Asserted-Identity=%3Csip:boss@example.test%3E&X-Evil=1&Route=%3Csip:203.0.113.7;lr%3E&Body=x",
            "200",
        ),
    ] {
        let (mut world, [_, bob], [_, b]) = connected();
        let [carol] = world.phones(["carol"]);
        world.phones[carol].on_ring = OnRing::AnswerAfter(SECOND);
        world.act(bob, |phone| phone.refer(b, refer_to));
        world.run_for(SECOND * 5);
        let call = world.phones[bob].call(b);
        let last = match call.notified.last() {
            Some(line) => line.split(' ').nth(1).unwrap_or_default().to_owned(),
            None => call.refer_status.unwrap().0.to_string(),
        };
        assert_eq!(last, told, "{refer_to}: {:?} {:?}", call.refer_status, call.notified);
        for call in &world.phones[carol].calls {
            is_clean(&call.invite, refer_to);
            assert!(call.invite.header("Route").is_none() && !call.invite.to_string().contains("boss"));
        }
        assert!(world.strays.is_empty(), "{refer_to}: {:?}", world.strays);
    }
}

/// Nothing came in beside what stands in its place.
fn is_clean(message: &Message, why: &str) {
    assert!(message.header("X-Evil").is_none(), "{why}: {message}");
    for name in [Name::From, Name::To, Name::PAssertedIdentity, Name::Contact, Name::CallId] {
        assert_eq!(message.all(name).count(), 1, "{why}: {name:?}: {message}");
    }
    let raw = message.bytes();
    let head = &raw[..raw.windows(4).position(|it| it == b"\r\n\r\n").unwrap()];
    assert!(!head.contains(&0), "{why}: a NUL: {message}");
    for line in head.split(|byte| *byte == b'\n') {
        assert!(!line.to_ascii_lowercase().starts_with(b"x-evil"), "{why}: {message}");
        assert_eq!(
            line.iter().filter(|byte| **byte == b'\r').count(),
            usize::from(line.ends_with(b"\r")),
            "{why}"
        );
    }
    assert!(Message::parse(raw.clone()).is_ok(), "{why}");
}

/// A gateway passes on what anybody in the world calls himself.
#[test]
fn a_callers_name_is_a_name_and_never_a_header() {
    let config = "[[trunks]]\nname = \"pstn\"\npeers = [\"10.0.0.2\"]\n".to_owned();
    let mut world = World::with(WorldOptions { config, ..WorldOptions::default() });
    let [alice] = world.phones(["alice"]);
    let gateway = SocketAddr::from(([10, 0, 0, 2], 5060));
    let mut rang = 0;
    for (serial, (from, rings)) in [
        ("\"Eve\" <sip:eve@h>", true),
        ("\"Eve\r\n X-Evil: 1\" <sip:eve@h>", true),
        ("\"Eve\r\nX-Evil: 1\r\n\" <sip:eve@h>", false),
        ("\"Eve\rX-Evil: 1\" <sip:eve@h>", false),
        ("\"Eve\nX-Evil: 1\" <sip:eve@h>", false),
        ("\"Eve\\\r\\\nX-Evil: 1\" <sip:eve@h>", false),
        ("\"Eve \\\" <sip:boss@example.test>;tag=9\" <sip:eve@h>", true),
        ("\"Eve\" <sip:eve%0D%0AX-Evil%3A%201@h>", true),
        ("\"Eve\0\" <sip:eve@h>", true),
        ("\"\u{202e}Ève \u{1f600}\" <sip:eve@h>", true),
        ("Eve, <sip:boss@example.test>, <sip:eve@h>", false),
        ("\"Eve <sip:eve@h>", false),
        ("\"\\", false),
    ]
    .into_iter()
    .enumerate()
    {
        let more = "Contact: <sip:eve@10.0.0.2>\r\nSubject: a\r\n X-Evil: 1\r\nX-Evil: 2\r\n\
            P-Asserted-Identity: <sip:boss@example.test>\r\nAlert-Info: <http://h>\r\n\tX-Evil: 3\r\n";
        let text = request("INVITE", "sip:1001@example.test", serial, more)
            .replace("From: <sip:1@h>", &format!("From: {from}"));
        inject(&mut world, gateway, &text);
        world.run_for(SECOND);
        let calls = world.phones[alice].calls.len();
        // What is read as no valid From may ring or not, as long as nothing of it gets through.
        assert!(calls > rang || !rings, "{from:?} does not ring: {:?}", said_to(&world, gateway).last());
        for call in &world.phones[alice].calls[rang..] {
            is_clean(&call.invite, from);
            let asserted = call.invite.get(Name::PAssertedIdentity).unwrap();
            let asserted = NameAddr::parse(asserted).unwrap();
            assert_ne!(asserted.uri.user.as_deref(), Some("boss"), "{from:?}: {asserted}");
        }
        rang = calls;
    }
}

/// What a policy says reaches phones as words, whatever is in them.
#[test]
fn the_words_of_a_policy_are_words() {
    let evil = "no\\r\\nX-Evil: 1\\r\\n\\r\\nSIP/2.0 200 OK\\0 \\\"quoted\\\" \\\\ \u{e9}";
    let file = format!("return {{ call_park = {{ allow = function() return deny(\"{evil}\") end }} }}");
    let policies = vec![("pools/east.lua".to_owned(), file)];
    let mut world = World::with(WorldOptions { policies, ..WorldOptions::default() });
    let [alice, bob] = world.phones(["alice", "bob"]);
    let (_, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
    world.run_for(SECOND * 2);
    let told = world.phones[bob].call(b).notified.clone();
    let last = told.last().unwrap();
    assert!(last.starts_with("SIP/2.0 403 no"), "{told:?}");
    assert!(
        !last.lines().any(|line| line.starts_with("X-Evil") || line.starts_with("SIP/2.0 200")),
        "{told:?}"
    );
    assert!(world.phones[bob].call(b).up);
    // By dialling: in the reason phrase and a Warning.
    let parking = world.act(bob, |phone| phone.invite("sip:park@example.test", &[], true));
    world.run_for(SECOND * 4);
    let refused = world.phones[bob].call(parking);
    assert!(refused.failed.is_some());
    for text in [&refused.reason, &refused.warning].into_iter().flatten() {
        assert!(!text.contains(['\r', '\n', '\0']), "{text:?}");
    }
}

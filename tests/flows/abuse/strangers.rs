//! Scanners, amplification, and what a stranger gets at all.

use super::{SECOND, inject, request, statuses, stranger};
use crate::harness::World;

/// What a scanner tries, one after the other, and what it is told.
const TRIED: [(&str, &str, &str, u16); 14] = [
    ("OPTIONS", "sip:100@192.0.2.1", "", 200),
    ("REGISTER", "sip:example.test", "Contact: <sip:1@h>\r\n", 401),
    ("INVITE", "sip:1001@example.test", "Contact: <sip:1@h>\r\n", 401),
    ("INVITE", "sip:900442012345678@192.0.2.1", "Contact: <sip:1@h>\r\n", 401),
    ("INVITE", "sip:112@elsewhere.example", "Contact: <sip:1@h>\r\n", 404),
    ("INVITE", "mailto:alice@example.test", "Contact: <sip:1@h>\r\n", 416),
    ("SUBSCRIBE", "sip:1001@example.test", "Contact: <sip:1@h>\r\nEvent: dialog\r\n", 401),
    ("MESSAGE", "sip:1001@example.test", "", 401),
    ("REFER", "sip:park@example.test", "Contact: <sip:1@h>\r\nRefer-To: <sip:7001@example.test>\r\n", 401),
    ("PUBLISH", "sip:1001@example.test", "Event: presence\r\n", 489),
    ("BYE", "sip:1001@example.test", "", 481),
    ("NOTIFY", "sip:1001@example.test", "Event: dialog\r\n", 481),
    ("INFO", "sip:1001@example.test", "", 481),
    ("HACK", "sip:1001@example.test", "", 501),
];

#[test]
fn a_scanner_learns_nothing_rings_nobody_and_leaves_nothing_behind() {
    let mut world = World::new();
    let [alice] = world.phones(["alice"]);
    for (serial, (method, uri, more, expected)) in TRIED.into_iter().enumerate() {
        let from = stranger(serial as u8);
        inject(&mut world, from, &request(method, uri, serial, more));
        assert_eq!(statuses(&world, from).last(), Some(&expected), "{method} {uri}");
    }
    // Whether there is such a user nobody can tell.
    for (serial, user) in ["alice", "nobody"].into_iter().enumerate() {
        let uri = format!("sip:{user}@example.test");
        inject(&mut world, stranger(100 + serial as u8), &request("INVITE", &uri, 100 + serial, ""));
    }
    let [known, unknown] = [100, 101].map(|host| statuses(&world, stranger(host)));
    assert_eq!(known, unknown);
    world.run_for(SECOND * 70);
    assert!(world.phones[alice].calls.is_empty());
    assert!(world.alive().is_empty(), "{:?}", world.alive());
}

/// A datagram with a forged source is no lever: whatever a stranger asks, all that is ever said about it, repeats
/// included, is not much more than he sent.
#[test]
fn no_small_question_of_a_stranger_gets_a_large_answer() {
    let mut world = World::new();
    world.phones(["alice"]);
    let broken = [
        "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;rport\r\n\r\n".to_owned(),
        "INVITE sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP h;rport\r\nl: 9\r\n\r\n".to_owned(),
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;rport\r\n\r\n".to_owned(),
        "ACK sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;rport\r\n\r\n".to_owned(),
        request("CANCEL", "sip:1001@example.test", 7_000, ""),
        request("OPTIONS", "sip:a@b", 7_001, "Require: x, y, z\r\n"),
        request("INVITE", "sip:1001@example.test", 7_002, "Max-Forwards: 0\r\n"),
        request("INVITE", "sip:@@", 7_003, ""),
    ];
    let tried =
        TRIED.iter().enumerate().map(|(serial, (method, uri, more, _))| request(method, uri, serial, more));
    let requests: Vec<String> = tried.chain(broken).collect();
    for (index, text) in requests.iter().enumerate() {
        inject(&mut world, stranger(index as u8), text);
    }
    // Nobody acknowledges anything: every repeat there will ever be is sent meanwhile.
    world.run_for(SECOND * 120);
    let mut worst = (0.0, String::new());
    for (index, text) in requests.iter().enumerate() {
        let to = stranger(index as u8);
        let said: Vec<usize> = (world.strays.iter())
            .filter(|(flow, _)| flow.remote == to)
            .map(|(_, bytes)| bytes.len())
            .collect();
        assert!(said.len() <= 1, "{} answers to {text}", said.len());
        let factor = said.iter().sum::<usize>() as f64 / text.len() as f64;
        if factor > worst.0 {
            worst = (factor, text.clone());
        }
    }
    assert!(worst.0 < 3.5, "{} times as much to {}", worst.0, worst.1);
}

/// A response or an ACK without a cause is not answered at all: two hosts never talk each other to death.
#[test]
fn nothing_is_said_to_responses_and_acks_nobody_asked_for() {
    let mut world = World::new();
    let head = "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: x\r\n";
    for text in [
        format!("SIP/2.0 200 OK\r\n{head}CSeq: 1 INVITE\r\nContact: <sip:evil@203.0.113.1>\r\n\r\n"),
        format!("SIP/2.0 401 Unauthorized\r\n{head}CSeq: 1 INVITE\r\n\r\n"),
        format!("ACK sip:1001@example.test SIP/2.0\r\n{head}CSeq: 1 ACK\r\n\r\n"),
    ] {
        inject(&mut world, stranger(1), &text);
    }
    world.run_for(SECOND * 40);
    assert!(world.strays.is_empty(), "{:?}", world.strays);
}

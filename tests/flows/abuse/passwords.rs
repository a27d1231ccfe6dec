//! Guessed passwords, stolen credentials, registrations of others.

use switchyard_host::sip::{Method, Name, Status};

use super::{SECOND, answer, inject, request, said_to, statuses, stranger};
use crate::harness::{OnRing, World};

/// A guess at a password, as right as it can be without knowing it.
fn guess(serial: usize, user: &str) -> String {
    let digest = format!(
        "Authorization: Digest username=\"{user}\", realm=\"example.test\", nonce=\"bm9uY2U=\", uri=\"sip:example.test\", \
         response=\"{serial:032x}\", algorithm=MD5, cnonce=\"1\", qop=auth, nc=00000001\r\n"
    );
    request("REGISTER", "sip:example.test", serial, &format!("Contact: <sip:1@h>\r\n{digest}"))
}

#[test]
fn guessing_passwords_gets_slower_and_each_guess_looked_at_is_told() {
    let mut world = World::new();
    let mut serial = 0;
    // An hour of one guess a second, at users who exist and at one who does not.
    for _ in 0..3_600 {
        serial += 1;
        inject(&mut world, stranger(1), &guess(serial, ["alice", "bob", "nobody"][serial % 3]));
        world.run_for(SECOND);
    }
    let told = statuses(&world, stranger(1));
    let looked_at = told.iter().filter(|status| **status == 401).count();
    assert!((20..35).contains(&looked_at), "{looked_at} guesses in an hour");
    assert_eq!(told.len(), 3_600);
    let refused = world.told("auth.refused");
    assert_eq!(refused.len(), looked_at);
    assert!(refused.iter().all(|event| event.detail["source"] == "203.0.113.1:5060"));
    let waits =
        said_to(&world, stranger(1)).iter().filter_map(|it| it.header("Retry-After")?.parse().ok()).max();
    assert_eq!(waits, Some(300_u32));
    // Others are asked as before.
    inject(&mut world, stranger(2), &guess(serial + 1, "alice"));
    assert_eq!(statuses(&world, stranger(2)), [401]);
}

/// Somebody guesses from an office's address: its phones go on, and one that has a wrong password is not let in by it.
#[test]
fn phones_behind_the_address_of_one_who_guesses_go_on() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let mut neighbour = world.phones[alice].address;
    neighbour.set_port(40_000);
    for serial in 0..50 {
        inject(&mut world, neighbour, &guess(serial, "alice"));
    }
    assert_eq!(statuses(&world, neighbour).last(), Some(&503));
    world.phones[bob].on_ring = OnRing::AnswerAfter(SECOND);
    let call = world.act(alice, |phone| phone.invite("sip:1002@example.test", &[], true));
    world.run_for(SECOND * 3);
    assert!(world.phones[alice].call(call).up, "{:?}", world.phones[alice].call(call).failed);
    let phone = world.phones[alice].address;
    for serial in 100..112 {
        inject(&mut world, phone, &guess(serial, "bob"));
    }
    world.phones[alice].registered = false;
    world.act(alice, |phone| phone.register(3600));
    world.run_for(SECOND);
    assert!(!world.phones[alice].registered, "whoever guesses is not known any more");
}

/// RFC 7616 §5.4, RFC 3261 §22.4: credentials seen on the wire open nothing, neither again nor elsewhere.
#[test]
fn credentials_seen_on_the_wire_cannot_be_played_again() {
    let mut world = World::new();
    let [bob] = world.phones(["bob"]);
    // Carol's phone is abroad: this is what was seen of her call.
    let abroad = stranger(200);
    inject(&mut world, abroad, &request("INVITE", "sip:1002@example.test", 200, "Contact: <sip:1@h>\r\n"));
    let header = answer(&world, abroad, "carol", &Method::Invite, "sip:1002@example.test");
    let more = format!("Contact: <sip:1@203.0.113.200>\r\n{header}");
    inject(&mut world, abroad, &request("INVITE", "sip:1002@example.test", 201, &more));
    world.run_for(SECOND);
    assert!(statuses(&world, abroad).contains(&180), "{:?}", statuses(&world, abroad));
    let seen = header.trim().strip_prefix("Authorization: ").unwrap().to_owned();
    let rung = world.phones[bob].calls.len();
    let play = |world: &mut World, serial: usize, method: &str, uri: &str, seen: &str| {
        let more = format!("Contact: <sip:1@h>\r\nAuthorization: {seen}\r\n");
        let from = stranger(serial as u8);
        inject(world, from, &request(method, uri, serial, &more));
        said_to(world, from).pop().unwrap()
    };
    let stale = |response: &switchyard_host::sip::Message| {
        response.all(Name::WwwAuthenticate).all(|value| value.contains("stale=true"))
    };
    // The very same: the password is right, the nonce is used up.
    let again = play(&mut world, 1, "INVITE", "sip:1002@example.test", &seen);
    assert!(again.status() == Some(Status::UNAUTHORIZED) && stale(&again), "{again:?}");
    // The same for another number, another method, a count further, another nonce: no right password any more.
    let further = seen.replace("nc=00000001", "nc=00000002");
    let other_nonce = {
        let (head, tail) = seen.split_once("nonce=\"").unwrap();
        format!("{head}nonce=\"B{}", &tail[1..])
    };
    for (serial, method, uri, seen) in [
        (2, "INVITE", "sip:1003@example.test", &seen),
        (3, "MESSAGE", "sip:1002@example.test", &seen),
        (4, "REGISTER", "sip:example.test", &seen),
        (5, "INVITE", "sip:1002@example.test", &further),
        (6, "INVITE", "sip:1002@example.test", &other_nonce),
    ] {
        let answer = play(&mut world, serial, method, uri, seen);
        assert!(
            answer.status() == Some(Status::UNAUTHORIZED) && !stale(&answer),
            "{method} {uri} {seen}: {answer:?}"
        );
    }
    assert_eq!(world.told("auth.refused").len(), 5);
    world.run_for(SECOND * 2);
    assert_eq!(world.phones[bob].calls.len(), rung, "nobody rings for it");
}

/// RFC 3261 §10.3 step 4: a right password registers its own user and nobody else.
#[test]
fn nobody_registers_for_somebody_else() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    let thief = stranger(1);
    let register = |serial, more: &str| {
        let more = format!("Contact: <sip:thief@203.0.113.1>\r\n{more}");
        let text = request("REGISTER", "sip:example.test", serial, &more);
        text.replace("To: <sip:example.test>", "To: <sip:bob@example.test>")
    };
    inject(&mut world, thief, &register(1, ""));
    let header = answer(&world, thief, "alice", &Method::Register, "sip:example.test");
    inject(&mut world, thief, &register(2, &header));
    assert_eq!(statuses(&world, thief), [401, 403]);
    world.phones[bob].on_ring = OnRing::AnswerAfter(SECOND);
    let call = world.act(alice, |phone| phone.invite("sip:1002@example.test", &[], true));
    world.run_for(SECOND * 3);
    assert!(world.phones[alice].call(call).up);
    assert_eq!(said_to(&world, thief).len(), 2, "nothing rings at the thief's");
}

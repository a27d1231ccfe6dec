//! Floods: who is known gets through, and what is kept stays bounded.

use super::{SECOND, inject, limited, request, statuses, stranger};
use crate::harness::{OnRing, World, WorldOptions};

/// What makes a request long enough to be told that it is refused.
const CLIENT: &str = "Max-Forwards: 70\r\nUser-Agent: friendly-scanner 0.2.8 with some words more\r\n\
    Contact: <sip:100@203.0.113.1:5060>\r\n";

/// What the defaults let one stranger have at once.
const BURST: usize = 100 * 10;

#[test]
fn an_invite_flood_from_one_address_is_refused_and_calls_go_on() {
    let mut world = World::new();
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].on_ring = OnRing::AnswerAfter(SECOND);
    for serial in 0..5_000 {
        inject(&mut world, stranger(1), &request("INVITE", "sip:1002@example.test", serial, CLIENT));
    }
    let told = statuses(&world, stranger(1));
    let count = |status| told.iter().filter(|it| **it == status).count();
    assert_eq!(count(401), BURST);
    assert_eq!(count(503), 100, "ten seconds' worth of ten, then nothing");
    assert_eq!(limited(&mut world), (4_000, 100));
    let events = world.told("source.limited");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].detail["source"], "203.0.113.1:5060");

    let call = world.act(alice, |phone| phone.invite("sip:1002@example.test", &[], true));
    world.run_for(SECOND * 3);
    assert!(world.phones[alice].call(call).up, "{:?}", world.phones[alice].call(call).failed);
    assert!(world.alive()["servers"] < 10, "a challenge costs no transaction: {:?}", world.alive());
    // Who stops is welcome again.
    inject(&mut world, stranger(1), &request("OPTIONS", "sip:example.test", 9_000, ""));
    assert_eq!(statuses(&world, stranger(1)).last(), Some(&200));
}

/// A refusal tells when to come back, and is no longer than what it refuses.
#[test]
fn a_refused_stranger_is_told_when_to_come_back() {
    let mut world = World::new();
    for serial in 0..BURST + 20 {
        inject(&mut world, stranger(1), &request("OPTIONS", "sip:example.test", serial, CLIENT));
    }
    let refused: Vec<_> =
        super::said_to(&world, stranger(1)).into_iter().filter(|it| it.status().unwrap().0 == 503).collect();
    assert_eq!(refused.len(), 20);
    for response in refused {
        let after: u32 = response.header("Retry-After").unwrap().parse().unwrap();
        assert!((5..15).contains(&after), "{after}");
        assert!(response.bytes().len() <= request("OPTIONS", "sip:example.test", BURST, CLIENT).len());
    }
}

/// Ten thousand forged addresses, a few requests each: none of them is too much, all of them are.
#[test]
fn a_flood_from_everywhere_leaves_room_for_who_is_known() {
    let config = "[sip.limits]\nstrangers = 100\n".to_owned();
    let mut world = World::with(WorldOptions { config, ..WorldOptions::default() });
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.phones[bob].on_ring = OnRing::AnswerAfter(SECOND);
    let call = world.act(alice, |phone| phone.invite("sip:1002@example.test", &[], true));
    for round in 0..40 {
        for serial in 0..500 {
            let serial = round * 500 + serial;
            let from = std::net::SocketAddr::from(([198, 18, (serial >> 8) as u8, serial as u8], 5060));
            inject(&mut world, from, &request("OPTIONS", "sip:example.test", serial, ""));
        }
        world.run_for(SECOND / 10);
    }
    assert!(world.phones[alice].call(call).up, "{:?}", world.phones[alice].call(call).failed);
    let (refused, answered) = limited(&mut world);
    assert!((18_000..19_000).contains(&refused), "{refused}");
    assert!(answered <= 1_000 + 400, "{answered} answers to forged addresses");
    assert!(world.alive()["servers"] <= 2_000, "{:?}", world.alive());
    assert!(world.told("source.limited").is_empty(), "none of them did it alone");
}

/// A phone that has gone mad is stopped as well, without harm to its user's other phone.
#[test]
fn a_known_phone_has_a_limit_too() {
    let config = "[sip.limits]\nknown_per_source = 10\n".to_owned();
    let mut world = World::with(WorldOptions { config, ..WorldOptions::default() });
    let [alice, bob] = world.phones(["alice", "bob"]);
    let mad = world.phones[alice].address;
    for serial in 0..2_000 {
        inject(&mut world, mad, &request("OPTIONS", "sip:example.test", serial, ""));
    }
    assert!(limited(&mut world).0 > 1_800);
    world.phones[alice].on_ring = OnRing::AnswerAfter(SECOND);
    world.run_for(SECOND * 5);
    let call = world.act(bob, |phone| phone.invite("sip:1001@example.test", &[], true));
    world.run_for(SECOND * 3);
    assert!(world.phones[bob].call(call).up);
}

/// After a restart the phones in the store are known, though they have not spoken yet.
#[test]
fn registered_phones_are_known_after_a_restart() {
    let config = "[sip.limits]\nstrangers = 1\nstrangers_per_source = 1\n".to_owned();
    let mut world = World::with(WorldOptions { config, ..WorldOptions::default() });
    let [alice, bob] = world.phones(["alice", "bob"]);
    world.run_for(SECOND * 10);
    world.kill_host();
    world.start_host();
    for serial in 0..100 {
        inject(&mut world, stranger(1), &request("OPTIONS", "sip:example.test", serial, ""));
    }
    world.phones[bob].on_ring = OnRing::AnswerAfter(SECOND);
    let call = world.act(alice, |phone| phone.invite("sip:1002@example.test", &[], true));
    world.run_for(SECOND * 3);
    assert!(world.phones[alice].call(call).up, "{:?}", world.phones[alice].call(call).failed);
}

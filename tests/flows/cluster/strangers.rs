//! Strangers at the sockets of hosts that pass on what they hear.

use std::net::SocketAddr;

use bytes::Bytes;
use switchyard_host::cluster::Mark;
use switchyard_host::engine::Input;
use switchyard_host::net::{Flow, Protocol};

use super::{one_pool, second, two_pools};
use crate::harness::{OnRing, World, WorldOptions};
use switchyard_host::sip::Name;

fn stranger(port: u16) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 1], port))
}

/// Reaches a host as it stands.
fn inject(world: &mut World, host: usize, from: SocketAddr, text: &str) {
    let local = world.hosts[host].address;
    let flow = Flow { protocol: Protocol::Udp, local, remote: from, connection: None, edge: None };
    world.gets(host, Input::Received { flow, bytes: Bytes::copy_from_slice(text.as_bytes()) });
    world.run_for(std::time::Duration::from_millis(5));
}

fn request(method: &str, uri: &str, serial: usize, to_tag: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.1;rport;branch=z9hG4bK{serial}\r\n\
         From: <sip:alice@example.test>;tag=1\r\nTo: <{uri}>{to_tag}\r\nCall-ID: {serial}@x\r\nCSeq: 1 {method}\r\n\
         Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

fn answers(world: &World) -> Vec<u16> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let status = |text: String| text.split(' ').nth(1).unwrap().parse().unwrap();
    world.strays.iter().map(|(_, bytes)| status(text(bytes))).collect()
}

/// Whatever he is answered by the host that serves: only a right password makes somebody known.
#[test]
fn who_was_answered_through_another_host_is_still_a_stranger() {
    let mut world = one_pool();
    for serial in 0..1_200 {
        let options = request("OPTIONS", "sip:example.test", serial, "");
        let local = world.hosts[1].address;
        let flow =
            Flow { protocol: Protocol::Udp, local, remote: stranger(5060), connection: None, edge: None };
        world.gets(1, Input::Received { flow, bytes: Bytes::from(options) });
        if serial == 0 {
            world.run_for(second() / 10);
            assert_eq!(answers(&world), [200]);
        }
    }
    world.run_for(second());
    let told = answers(&world);
    let served = told.iter().filter(|status| **status == 200).count();
    assert!(served <= 1_001, "{served}: ten seconds' worth of a hundred");
    assert_eq!(world.told("source.limited").len(), 1);
}

/// A response says in its branch which host it is for. One that nobody waits for is not worth more than a request.
#[test]
fn forged_responses_are_passed_on_no_more_than_other_messages_of_strangers() {
    let mut world = one_pool();
    let mark = Mark::of("fe1", "east").text();
    let before = world.linked;
    for serial in 0..5_000 {
        let response = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.202:5060;branch=z9hG4bK{serial:x}.{mark}{serial:016x}\r\n\
             From: <sip:a@example.test>;tag=1\r\nTo: <sip:b@example.test>;tag=2\r\nCall-ID: {serial}\r\n\
             CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        );
        let local = world.hosts[1].address;
        let flow =
            Flow { protocol: Protocol::Udp, local, remote: stranger(5060), connection: None, edge: None };
        world.gets(1, Input::Received { flow, bytes: Bytes::from(response) });
    }
    world.run_for(second());
    let passed_on = world.linked - before;
    assert!((1..=1_001).contains(&passed_on), "{passed_on}");
}

/// A message goes to each host at most once, whatever the tags in it say.
#[test]
fn forged_tags_make_no_message_go_round() {
    let mut world = two_pools();
    let marks = [("fe1", "east"), ("fw1", "west"), ("fe1", "west"), ("fw1", "east"), ("fx9", "north")];
    let mut serial = 0;
    for (host, pool) in marks {
        for method in ["BYE", "INVITE", "ACK", "CANCEL", "REFER", "SUBSCRIBE", "NOTIFY", "UPDATE"] {
            for at in 0..2 {
                serial += 1;
                let before = world.linked;
                let tag = format!(";tag={}{serial:016x}", Mark::of(host, pool).text());
                inject(
                    &mut world,
                    at,
                    stranger(6_000 + serial as u16),
                    &request(method, "sip:bob@example.test", serial, &tag),
                );
                world.run_for(second());
                let frames = world.linked - before;
                assert!(frames <= 3, "{method} {host} {pool} at {at}: {frames} frames");
            }
        }
    }
    world.run_for(second() * 40);
    super::assert_quiet(&world);
}

/// Whose password it is says who calls, not what stands in From: an anonymous caller is served like any other of his pool.
#[test]
fn a_call_under_another_name_is_served_where_its_caller_belongs() {
    for from in ["\"Anonymous\" <sip:anonymous@anonymous.invalid>", "<sip:alice@example.test>"] {
        let mut world = two_pools();
        let [bob, erin, frank] = world.phones_at([("bob", "fe1"), ("erin", "fe1"), ("frank", "fw1")]);
        world.phones[bob].on_ring = OnRing::AnswerAfter(second());
        world.act(erin, |phone| phone.from = Some(from.to_owned()));
        let call = world.act(erin, |phone| phone.invite("sip:bob@example.test", &[], true));
        world.run_for(second() * 4);
        assert!(world.phones[erin].call(call).up, "{from}: {:?}", world.phones[erin].call(call).failed);
        // Erin's side is the west's: so are the numbers she parks in.
        world.act(erin, |phone| phone.refer(call, "sip:park@example.test"));
        world.run_for(second() * 4);
        let told = world.phones[erin].call(call).notified.last().cloned().unwrap_or_default();
        assert!(told.contains("sip:80"), "{from}: {told}");
        let number: String = told.split("<sip:").nth(1).unwrap().chars().take(4).collect();
        let fetched =
            world.act(frank, |phone| phone.invite(&format!("sip:{number}@example.test"), &[], true));
        world.run_for(second() * 2);
        assert!(
            world.phones[frank].call(fetched).up,
            "{from}: {:?}",
            world.phones[frank].call(fetched).failed
        );
    }
}

/// What only the hosts say to each other means nothing when a phone says it.
#[test]
fn a_phone_cannot_speak_for_others() {
    let mut world = two_pools();
    let [bob, erin] = world.phones_at([("bob", "fe1"), ("erin", "fw1")]);
    let served = [(Name::PServedUser, "<sip:alice@example.test>")];
    let call = world.act(erin, |phone| phone.invite("sip:bob@example.test", &served, true));
    world.run_for(second());
    let from = world.phones[bob].calls[0].invite.from().to_owned();
    assert!(from.contains("erin"), "{from}");
    world.act(erin, |phone| phone.cancel(call));
    world.run_for(second() * 40);
    super::assert_quiet(&world);
}

/// One host for each pool, and no better names for either.
#[test]
fn pools_may_have_the_names_of_hosts() {
    let hosts = &[("east", "east"), ("west", "west"), ("east2", "east")];
    let mut world = World::with(crate::harness::WorldOptions { hosts, ..Default::default() });
    let [alice, erin, frank] = world.phones_at([("alice", "east"), ("erin", "west"), ("frank", "east")]);
    let (a, e) = world.connect(alice, erin);
    // The call of the two pools goes on after the host of its name is gone, and lets go of who hangs up.
    world.kill(0);
    world.run_for(second() * 12);
    world.move_phone(alice, "east2");
    world.act(alice, |phone| phone.register(3600));
    world.run_for(second() * 5);
    world.act(erin, |phone| phone.reinvite(e, "sendonly"));
    world.run_for(second() * 3);
    assert!(world.phones[alice].call(a).heard.as_ref().unwrap().contains("sendonly"));
    world.act(erin, |phone| phone.hang_up(e));
    world.run_for(second() * 40);
    assert!(world.phones[alice].call(a).over);
    let _ = frank;
    super::assert_quiet(&world);
}

/// Two hosts take a seat each, and neither knows what a CANCEL is about: they do not pass it to and fro until they do.
#[test]
fn what_nobody_knows_does_not_go_round_while_seats_are_taken() {
    let mut world = World::with(WorldOptions {
        hosts: &[("fe1", "east"), ("fe2", "east"), ("fw1", "west"), ("fw2", "west")],
        ..WorldOptions::default()
    });
    world.run_for(second());
    let before = world.told("seat.taken").len();
    world.reads_take = second() * 2;
    for holder in ["east", "west"].map(|pool| world.seat(pool).unwrap().host) {
        let holder = world.host(holder.as_str());
        world.kill(holder);
    }
    let taken = |world: &World| {
        ["fe2", "fw2"]
            .iter()
            .zip(["east", "west"])
            .all(|(host, pool)| world.seat(pool).unwrap().host.as_str() == *host)
    };
    while !taken(&world) {
        world.run_for(second() / 100);
    }
    world.run_for(second() / 10);
    assert_eq!(world.told("seat.taken").len(), before, "both are being read up");
    for (serial, tag) in ["", ";tag=none"].into_iter().enumerate() {
        for host in ["fe2", "fw2"] {
            let (host, linked) = (world.host(host), world.linked);
            inject(&mut world, host, stranger(5060), &request("CANCEL", "sip:bob@example.test", serial, tag));
            world.run_for(second() / 4);
            assert!(world.linked - linked < 10, "{}", world.linked - linked);
        }
    }
    assert_eq!(world.told("seat.taken").len(), before, "still");
    world.run_for(second() * 5);
    assert_eq!(world.told("seat.taken").len(), before + 2);
    assert_eq!(answers(&world), [481; 4]);
}

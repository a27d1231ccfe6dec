//! Trunks and routes: out through a gateway with digest, in from one, and what callers from outside may not do.

use std::time::Duration;

use switchyard_host::sip::{Name, Status};

use crate::harness::{OnRing, World, WorldOptions};

fn second() -> Duration {
    Duration::from_secs(1)
}

/// A gateway at 10.0.0.2, which is the second phone of each world here.
fn with_gateway(more: &str) -> (World, usize, usize) {
    let config = format!(
        r#"
[[trunks]]
name = "pstn"
peers = ["10.0.0.2"]
to = "sip:10.0.0.2"
user = "office"
password = "gateway-secret"
{more}
[[routes]]
match = "^9(\\d+)$"
trunk = "pstn"
number = "$1"
"#
    );
    let mut world = World::with(WorldOptions { config, ..WorldOptions::default() });
    let [alice] = world.phones(["alice"]);
    let gateway = world.add_phone("gateway");
    (world, alice, gateway)
}

#[test]
fn a_number_with_a_route_goes_out_through_its_trunk() {
    let (mut world, alice, gateway) = with_gateway("");
    world.phones[gateway].on_ring = OnRing::AnswerAfter(second());
    let call = world.act(alice, |phone| phone.invite("sip:95551234@example.test", &[], true));
    world.run_for(second() * 3);
    assert!(world.phones[alice].call(call).up, "{:?}", world.phones[alice].call(call).failed);
    let invite = world.phones[gateway].call(world.phones[gateway].last()).invite.clone();
    assert_eq!(invite.uri(), "sip:5551234@10.0.0.2");
}

/// The gateway asks who we are; the host answers its challenge by itself (RFC 3261 §22.2).
#[test]
fn the_host_answers_a_gateways_challenge() {
    let (mut world, alice, gateway) = with_gateway("");
    world.phones[gateway].challenge = true;
    world.phones[gateway].on_ring = OnRing::AnswerAfter(second());
    let call = world.act(alice, |phone| phone.invite("sip:95551234@example.test", &[], true));
    world.run_for(second() * 4);
    assert!(world.phones[alice].call(call).up, "{:?}", world.phones[alice].call(call).failed);
    let invite = world.phones[gateway].call(world.phones[gateway].last()).invite.clone();
    let credentials = invite.get(Name::ProxyAuthorization).unwrap();
    assert!(credentials.contains("username=\"office\""), "{credentials}");
}

/// The ACK of a 2xx cannot be challenged: it carries the credentials of its INVITE (RFC 3261 §13.2.2.4), of the
/// first and of a re-INVITE, whose nonce is another.
#[test]
fn the_ack_of_a_challenged_invite_carries_its_credentials() {
    let (mut world, alice, gateway) = with_gateway("");
    world.phones[gateway].challenge = true;
    world.phones[gateway].on_ring = OnRing::AnswerAfter(second());
    let call = world.act(alice, |phone| phone.invite("sip:95551234@example.test", &[], true));
    world.run_for(second() * 4);
    let g = world.phones[gateway].last();
    let answered = |world: &World| world.phones[gateway].call(g).ack.clone().unwrap();
    let invite = world.phones[gateway].call(g).invite.clone();
    let ack = answered(&world);
    assert!(ack.get(Name::ProxyAuthorization).is_some());
    assert_eq!(ack.get(Name::ProxyAuthorization), invite.get(Name::ProxyAuthorization));
    world.act(alice, |phone| phone.reinvite(call, "sendonly"));
    world.run_for(second());
    let again = answered(&world);
    assert!(again.cseq().number > ack.cseq().number);
    let (first, second) = (ack.get(Name::ProxyAuthorization), again.get(Name::ProxyAuthorization));
    assert!(second.is_some() && first != second, "{second:?}");
}

/// What the caller wants to keep private stays so when the INVITE is sent again (RFC 3325 §9.3), and nothing else is lost.
#[test]
fn an_invite_sent_again_says_all_it_said_before() {
    let (mut world, alice, gateway) = with_gateway("");
    world.phones[gateway].challenge = true;
    let headers = [(Name::Privacy, "id"), (Name::Subject, "lunch"), (Name::Priority, "urgent")];
    world.act(alice, |phone| phone.invite("sip:95551234@example.test", &headers, true));
    world.run_for(second() * 2);
    let g = world.phones[gateway].last();
    let invite = &world.phones[gateway].call(g).invite;
    assert!(invite.get(Name::ProxyAuthorization).is_some());
    for (name, value) in headers {
        assert_eq!(invite.get(name), Some(value), "{name}");
        assert_eq!(invite.all(name).count(), 1, "{name}");
    }
    assert_eq!(invite.get(Name::MaxForwards), Some("69"));
}

#[test]
fn a_gateway_that_insists_is_a_refusal_and_not_a_challenge_for_the_caller() {
    let (mut world, alice, gateway) = with_gateway("");
    world.phones[gateway].on_ring = OnRing::Refuse(Status::PROXY_AUTHENTICATION_REQUIRED);
    let call = world.act(alice, |phone| phone.invite("sip:95551234@example.test", &[], true));
    world.run_for(second() * 4);
    assert_eq!(world.phones[alice].call(call).failed, Some(Status::FORBIDDEN));
}

#[test]
fn a_call_from_the_gateway_rings_a_user_without_challenge() {
    let (mut world, alice, gateway) = with_gateway("");
    world.phones[alice].on_ring = OnRing::AnswerAfter(second());
    let call = world.act(gateway, |phone| phone.invite("sip:1001@example.test", &[], true));
    world.run_for(second() * 3);
    assert!(world.phones[gateway].call(call).up);
    assert!(!world.phones[gateway].call(call).challenged);
}

/// `forks = "hidden"`: the gateway sees one bodiless 180, whatever rings behind us.
#[test]
fn a_gateway_with_hidden_forks_sees_one_ringing_phone() {
    let (mut world, alice, gateway) = with_gateway("forks = \"hidden\"");
    let second_phone = world.add_phone("alice");
    world.act(second_phone, |phone| phone.register(3600));
    world.run_for(second());
    world.phones[second_phone].on_ring = OnRing::AnswerAfter(second() * 2);
    world.start_ladder();
    let call = world.act(gateway, |phone| phone.invite("sip:1001@example.test", &[], true));
    world.run_for(second() * 4);
    assert!(world.phones[gateway].call(call).up);
    assert_eq!(world.phones[gateway].call(call).early_tags.len(), 1, "{}", world.ladder());
    let _ = alice;
}

/// CP-18: orbits are not for callers from outside (35003), and neither is the way out on our bill.
#[test]
fn callers_from_outside_can_neither_retrieve_nor_dial_out() {
    let (mut world, alice, gateway) = with_gateway("");
    let [bob] = world.phones(["bob"]);
    let (_, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
    world.run_for(second() * 3);
    assert_eq!(world.occupants().len(), 1);
    let taken = world.act(gateway, |phone| phone.invite("sip:7001@example.test", &[], true));
    let out = world.act(gateway, |phone| phone.invite("sip:95551234@example.test", &[], true));
    world.run_for(second() * 2);
    let refused = world.phones[gateway].call(taken);
    assert_eq!(refused.failed, Some(Status::FORBIDDEN));
    assert!(refused.warning.as_ref().unwrap().contains("35003"));
    assert_eq!(world.phones[gateway].call(out).failed, Some(Status::FORBIDDEN));
    assert_eq!(world.occupants().len(), 1);
}

/// CP-16: a caller from the gateway can be parked.
#[test]
fn a_call_from_the_gateway_can_be_parked() {
    let (mut world, alice, gateway) = with_gateway("");
    world.phones[alice].on_ring = OnRing::AnswerAfter(second());
    let call = world.act(gateway, |phone| phone.invite("sip:1001@example.test", &[], true));
    world.run_for(second() * 3);
    let a = world.phones[alice].last();
    world.act(alice, |phone| phone.refer(a, "sip:park@example.test"));
    world.run_for(second() * 3);
    assert_eq!(world.occupants().len(), 1);
    assert!(world.phones[gateway].call(call).up);
}

//! Toll fraud: every call that leaves through a trunk is allowed by the policy, whoever wants it.

use switchyard_host::sip::Status;

use super::SECOND;
use crate::harness::{OnRing, World, WorldOptions};

/// Nobody sends calls abroad but who dials them himself; dave dials nobody. The policy counts on being asked.
const POLICY: &str = r#"
return require "default":extend {
  call_park = { pickup_timeout = "10s", max_recall_attempts = 1, on_timeout_uri = "sip:90044@example.test" },
  outbound = {
    allow = function(request)
      if request.payer.user == "dave" then return deny("no way out\r\nX-Evil: 1") end
      if request.how ~= "call" and request.number:match("^00") then return deny("abroad is for who dials it") end
    end,
  },
}
"#;

/// A gateway for numbers behind a nine, and for emergencies.
fn world() -> (World, [usize; 3], usize) {
    let config = r#"
[[trunks]]
name = "pstn"
peers = ["10.0.0.4"]
to = "sip:10.0.0.4"
[[routes]]
match = "^9(\\d+)$"
trunk = "pstn"
number = "$1"
[[routes]]
match = "^112$"
trunk = "pstn"
"#
    .to_owned();
    let policies = vec![("pools/east.lua".to_owned(), POLICY.to_owned())];
    let mut world = World::with(WorldOptions { config, policies, ..WorldOptions::default() });
    let phones = world.phones(["alice", "bob", "dave"]);
    let gateway = world.add_phone("gateway");
    world.phones[gateway].on_ring = OnRing::AnswerAfter(SECOND);
    (world, phones, gateway)
}

#[test]
fn who_may_dial_out_does_and_who_may_not_is_told_why() {
    let (mut world, [alice, _, dave], gateway) = world();
    let abroad = "sip:90044207@example.test";
    let fine = world.act(alice, |phone| phone.invite(abroad, &[], true));
    let barred = world.act(dave, |phone| phone.invite(abroad, &[], true));
    world.run_for(SECOND * 3);
    assert!(world.phones[alice].call(fine).up);
    let barred = world.phones[dave].call(barred);
    assert_eq!(barred.failed, Some(Status::FORBIDDEN));
    let reason = barred.reason.clone().unwrap();
    assert!(reason.starts_with("no way out") && !reason.contains(['\r', '\n']), "{reason:?}");
    assert_eq!(world.phones[gateway].calls.len(), 1);
    let told = world.told("outbound.refused");
    assert_eq!((told.len(), told[0].code), (1, Some(403)));
    assert_eq!((&told[0].detail["how"], &told[0].detail["number"]), (&"call".into(), &"0044207".into()));
}

/// A caller, or a thief with a phone in the house, talks somebody into a transfer.
#[test]
fn a_transfer_abroad_is_refused_and_the_call_stays() {
    let (mut world, [alice, bob, _], gateway) = world();
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:90044207@example.test"));
    world.run_for(SECOND * 3);
    let referrer = world.phones[bob].call(b);
    assert!(referrer.notified.last().unwrap().starts_with("SIP/2.0 403"), "{:?}", referrer.notified);
    assert!(referrer.up && world.phones[alice].call(a).up);
    assert!(world.phones[gateway].calls.is_empty());
    // At home it is allowed.
    world.act(bob, |phone| phone.refer(b, "sip:95551234@example.test"));
    world.run_for(SECOND * 4);
    assert_eq!(world.phones[gateway].calls.len(), 1);
}

/// Whoever came in through the trunk does not get out again by a transfer of theirs, whatever the policy says.
#[test]
fn a_caller_from_outside_cannot_transfer_himself_out() {
    let (mut world, [alice, ..], gateway) = world();
    world.phones[alice].on_ring = OnRing::AnswerAfter(SECOND);
    let call = world.act(gateway, |phone| phone.invite("sip:1001@example.test", &[], true));
    world.run_for(SECOND * 3);
    world.act(gateway, |phone| phone.refer(call, "sip:95551234@example.test"));
    world.run_for(SECOND * 3);
    let told = &world.phones[gateway].call(call).notified;
    assert!(told.last().unwrap().starts_with("SIP/2.0 403"), "{told:?}");
    assert_eq!(world.phones[gateway].calls.len(), 1);
}

/// A parked call's on-timeout address is asked about as well: refused, the call ends as if there were none.
#[test]
fn a_parked_call_is_not_sent_abroad_either() {
    let (mut world, [alice, bob, _], gateway) = world();
    let (a, b) = world.connect(alice, bob);
    world.act(bob, |phone| phone.refer(b, "sip:7001@example.test"));
    world.run_for(SECOND * 120);
    assert!(world.phones[gateway].calls.is_empty());
    assert!(world.phones[alice].call(a).over, "nobody took it, and it may not go there");
    assert_eq!(world.told("outbound.refused")[0].detail["how"], "feature");
}

#[test]
fn help_can_be_called_whatever_the_policy_says() {
    let config = r#"
[[trunks]]
name = "pstn"
to = "sip:10.0.0.2"
[[routes]]
match = "^(112|\\d{3})$"
trunk = "pstn"
"#;
    let policies = vec![("default.lua".to_owned(), "return { outbound = { allow = false } }".to_owned())];
    let mut world = World::with(WorldOptions {
        sip: "emergency = [\"112\"]",
        config: config.to_owned(),
        policies,
        ..WorldOptions::default()
    });
    let [dave] = world.phones(["dave"]);
    let gateway = world.add_phone("gateway");
    world.phones[gateway].on_ring = OnRing::AnswerAfter(SECOND);
    let help = world.act(dave, |phone| phone.invite("sip:112@example.test", &[], true));
    world.run_for(SECOND * 3);
    let talk = world.act(dave, |phone| phone.invite("sip:113@example.test", &[], true));
    world.run_for(SECOND * 3);
    assert_eq!(world.phones[dave].call(talk).failed, Some(Status::FORBIDDEN));
    assert!(world.phones[dave].call(help).up, "{:?}", world.phones[dave].call(help).failed);
}

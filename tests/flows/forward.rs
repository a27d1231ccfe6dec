//! Users' rules: who rings along, and where calls go that nobody answers.

use std::time::Duration;

use serde_json::{Map, Value, json};
use switchyard_host::admin::Request;
use switchyard_host::sip::{Name, Status};

use crate::harness::{CallId, OnRing, World, WorldOptions};

fn second() -> Duration {
    Duration::from_secs(1)
}

const GATEWAY: &str = r#"
[[trunks]]
name = "pstn"
peers = ["10.0.0.5"]
to = "sip:10.0.0.5"
REDIRECTION
[[routes]]
match = "^9(\\d+)$"
trunk = "pstn"
number = "$1"
"#;

/// Alice, Bob, Carol and Dave, Bob with these rules, and a gateway.
struct Office {
    world: World,
    alice: usize,
    bob: usize,
    carol: usize,
    dave: usize,
    gateway: usize,
}

fn office(rules: &'static str) -> Office {
    office_of(vec![("bob", rules)], "")
}

fn office_of(users: Vec<(&'static str, &'static str)>, redirection: &str) -> Office {
    let config = GATEWAY.replace("REDIRECTION", redirection);
    let mut world = World::with(WorldOptions { users, config, ..WorldOptions::default() });
    let [alice, bob, carol, dave] = world.phones(["alice", "bob", "carol", "dave"]);
    let gateway = world.add_phone("gateway");
    for phone in [carol, dave, gateway] {
        world.phones[phone].on_ring = OnRing::AnswerAfter(second());
    }
    Office { world, alice, bob, carol, dave, gateway }
}

impl Office {
    /// Alice calls Bob.
    fn call(&mut self) -> CallId {
        self.world.act(self.alice, |phone| phone.invite("sip:1002@example.test", &[], true))
    }

    /// Alice talks to this phone, whose newest call it is; the values of a header of its INVITE.
    #[track_caller]
    fn reached(&self, a: CallId, phone: usize, name: Name) -> Vec<String> {
        let call = self.world.phones[self.alice].call(a);
        assert!(call.up, "{:?} {:?}", call.failed, call.reason);
        assert!(!self.world.phones[phone].calls.is_empty(), "{} was not rung", self.world.phones[phone].name);
        let theirs = self.world.phones[phone].call(self.world.phones[phone].last());
        assert!(theirs.up, "{} did not get it", self.world.phones[phone].name);
        let address = self.world.phones[phone].address.ip().to_string();
        assert!(call.heard.as_ref().unwrap().contains(&address));
        theirs.invite.all(name).map(str::to_owned).collect()
    }
}

#[test]
fn a_call_nobody_answers_goes_where_the_callee_says() {
    let mut office = office("forward_no_answer = \"1003\"\nno_answer_after = \"10s\"");
    let a = office.call();
    office.world.run_for(second() * 9);
    assert!(office.world.phones[office.carol].calls.is_empty(), "not yet");
    office.world.run_for(second() * 4);
    assert_eq!(
        office.reached(a, office.carol, Name::HistoryInfo),
        [
            "<sip:1002@example.test?Reason=SIP%3Bcause%3D408>;index=1",
            "<sip:1003@example.test;cause=408>;index=1.1;mp=1"
        ]
    );
    let bobs = office.world.phones[office.bob].call(office.world.phones[office.bob].last());
    assert!(bobs.over, "Bob's phone has stopped");
    assert_eq!(office.world.told("call.forwarded").len(), 1);
}

#[test]
fn a_busy_or_declined_call_goes_where_the_callee_says() {
    for status in [Status::BUSY_HERE, Status(603), Status(600)] {
        let mut office = office("forward_busy = \"carol\"");
        office.world.phones[office.bob].on_ring = OnRing::Refuse(status);
        let a = office.call();
        office.world.run_for(second() * 3);
        office.reached(a, office.carol, Name::HistoryInfo);
    }
}

#[test]
fn without_a_rule_for_it_the_caller_hears_what_the_callee_said() {
    let mut office = office("forward_no_answer = \"1003\"");
    office.world.phones[office.bob].on_ring = OnRing::Refuse(Status::BUSY_HERE);
    let a = office.call();
    office.world.run_for(second() * 3);
    assert_eq!(office.world.phones[office.alice].call(a).failed, Some(Status::BUSY_HERE));
    office.world.run_for(second() * 30);
    assert!(office.world.phones[office.carol].calls.is_empty(), "a call that is over is not forwarded");
}

#[test]
fn a_user_without_phone_and_one_who_always_forwards_are_passed_over() {
    for (rules, cause) in [("forward_always = \"1003\"", 302), ("forward_unregistered = \"1003\"", 404)] {
        let mut office = office(rules);
        office.world.act(office.bob, |phone| phone.register(0));
        office.world.run_for(second());
        let a = office.call();
        office.world.run_for(second() * 3);
        let history = office.reached(a, office.carol, Name::HistoryInfo);
        assert_eq!(history[0], "<sip:1002@example.test>;index=1");
        assert_eq!(history[1], format!("<sip:1003@example.test;cause={cause}>;index=1.1;mp=1"));
    }
}

/// A tel URI is the number without its separators, which some route knows.
#[test]
fn a_call_is_forwarded_to_a_tel_uri() {
    let mut office = office("forward_always = \"tel:9555-1234\"");
    let a = office.call();
    office.world.run_for(second() * 3);
    let history = office.reached(a, office.gateway, Name::HistoryInfo);
    assert_eq!(history[1], "<sip:95551234@example.test;cause=302>;index=1.1;mp=1");
}

/// What can never work is refused when it is set, in the words of the file; whoever may still come is warned of.
#[test]
fn a_rule_that_can_never_work_is_refused() {
    let mut world = office("forward_busy = \"1003\"").world;
    let mut set = |key: &str, value: Value| {
        let change = Map::from_iter([(key.to_owned(), value)]);
        world.ask(Request::SetUser { name: "bob".to_owned(), change, password: None })
    };
    for (key, value, words) in [
        ("forward_always", json!("1002"), "forward_always: \"1002\" is bob, whose rule this is"),
        ("forward_always", json!("Bob"), "is bob, whose rule this is"),
        ("forward_no_answer", json!("7001"), "lies in the range \"east-park\" of kind call-park"),
        ("forward_no_answer", json!("*101"), "of kind group-pickup"),
        ("forward_busy", json!("park"), "is a service of a plugin"),
        ("forward_busy", json!("sip:**1003@example.test"), "is a service of a plugin"),
        (
            "forward_unregistered",
            json!("sip:carol@elsewhere.test"),
            "is at another domain, expected example.test",
        ),
        ("forward_unregistered", json!("sip:example.test"), "names nobody"),
        ("also_ring", json!(["1003", "7001"]), "also_ring: \"7001\" lies in the range"),
        ("team", json!("bob"), "is bob"),
        ("delegates", json!(["unpark"]), "is a service"),
    ] {
        let refused = set(key, value.clone()).unwrap_err();
        assert!(refused.status == 400 && refused.text.contains(words), "{key} {value}: {}", refused.text);
    }
    for (value, warnings) in [
        ("1003", Value::Null),
        ("95551234", Value::Null),
        (
            "tel:+9-5551234",
            json!(["forward_busy: nobody is reached at \"tel:+9-5551234\", and no route knows it"]),
        ),
        ("1005", json!(["forward_busy: nobody is reached at \"1005\", and no route knows it"])),
        (
            "crol",
            json!([
                "forward_busy: nobody is reached at \"crol\", and no route knows it, did you mean carol?"
            ]),
        ),
    ] {
        let row = set("forward_busy", json!(value)).unwrap();
        assert_eq!((&row["forward_busy"], &row["warnings"]), (&json!(value), &warnings));
    }
    // Who gets another number at once may be reached at the old one by nobody.
    let change =
        Map::from_iter([("extension".to_owned(), json!("1012")), ("forward_busy".to_owned(), json!("1012"))]);
    let refused = world.ask(Request::SetUser { name: "bob".to_owned(), change, password: None }).unwrap_err();
    assert!(refused.text.contains("is bob"), "{}", refused.text);
}

/// RFC 7044 by default, RFC 5806 where the trunk expects that; the forwarder's right to dial out counts.
#[test]
fn a_trunk_is_told_who_forwarded_the_call() {
    let rules = vec![("bob", "forward_always = \"95551234\"")];
    let mut office = office_of(rules.clone(), "");
    let a = office.call();
    office.world.run_for(second() * 3);
    let history = office.reached(a, office.gateway, Name::HistoryInfo);
    assert_eq!(history[1], "<sip:95551234@example.test;cause=302>;index=1.1;mp=1");

    let mut office = office_of(rules, "redirection = \"diversion\"");
    let a = office.call();
    office.world.run_for(second() * 3);
    assert!(office.reached(a, office.gateway, Name::HistoryInfo).is_empty());
    let diversion = office.reached(a, office.gateway, Name::Diversion);
    assert_eq!(diversion, ["<sip:bob@example.test>;reason=unconditional;counter=1;privacy=off"]);

    // From outside, to Bob, who forwards out again: his right, not the caller's.
    let gateway = office.gateway;
    office.world.act(gateway, |phone| phone.invite("sip:1002@example.test", &[], true));
    office.world.run_for(second() * 2);
    let out = office.world.phones[gateway].call(office.world.phones[gateway].last()).invite.clone();
    assert_eq!(out.uri(), "sip:5551234@10.0.0.5");
}

#[test]
fn forwards_follow_each_other_and_history_tells_all_of_it() {
    let users = vec![("bob", "forward_always = \"1003\""), ("carol", "forward_busy = \"1004\"")];
    let mut office = office_of(users, "");
    office.world.phones[office.carol].on_ring = OnRing::Refuse(Status::BUSY_HERE);
    let a = office.call();
    office.world.run_for(second() * 4);
    assert_eq!(
        office.reached(a, office.dave, Name::HistoryInfo),
        [
            "<sip:1002@example.test>;index=1",
            "<sip:1003@example.test;cause=302?Reason=SIP%3Bcause%3D486>;index=1.1;mp=1",
            "<sip:1004@example.test;cause=486>;index=1.1.1;mp=1.1"
        ]
    );
}

#[test]
fn a_circle_of_forwards_ends() {
    let users = vec![("bob", "forward_always = \"1003\""), ("carol", "forward_always = \"1002\"")];
    let mut office = office_of(users, "");
    let a = office.call();
    office.world.run_for(second() * 3);
    let call = office.world.phones[office.alice].call(a);
    assert_eq!(call.failed, Some(Status::TEMPORARILY_UNAVAILABLE));
    assert_eq!(call.reason.as_deref(), Some("Forwarded in a circle"));
    office.world.run_for(second() * 40);
    assert!(!office.world.alive().contains_key("legs"), "{:?}", office.world.alive());
}

/// GCP-08: phones of others, and a number outside, ring along; the first that answers has the call.
#[test]
fn others_ring_along_and_the_first_has_the_call() {
    let mut office = office("also_ring = [\"1003\", \"95551234\"]");
    office.world.phones[office.carol].on_ring = OnRing::Ring;
    let a = office.call();
    office.world.run_for(second() * 3);
    office.reached(a, office.gateway, Name::From);
    for phone in [office.bob, office.carol] {
        assert!(office.world.phones[phone].calls[0].over, "{}", office.world.phones[phone].name);
    }
}

/// A colleague who declines (603) speaks for himself, not for the callee; the callee's own 603 silences all of his phones.
#[test]
fn a_companion_who_declines_does_not_end_the_call() {
    let mut office = office("also_ring = [\"1003\"]");
    office.world.phones[office.carol].on_ring = OnRing::Refuse(Status(603));
    let a = office.call();
    office.world.run_for(second());
    let b = office.world.phones[office.bob].last();
    assert!(!office.world.phones[office.bob].call(b).over, "Bob's phone rings on");
    office.world.act(office.bob, |phone| phone.answer(b));
    office.world.run_for(second());
    office.reached(a, office.bob, Name::From);
}

#[test]
fn a_companion_rings_even_where_the_callee_has_no_phone() {
    let mut office = office("also_ring = [\"1003\"]");
    office.world.act(office.bob, |phone| phone.register(0));
    office.world.run_for(second());
    let a = office.call();
    office.world.run_for(second() * 3);
    office.reached(a, office.carol, Name::From);
}

/// A transfer to somebody who always forwards goes where he says.
#[test]
fn a_blind_transfer_follows_the_targets_rule() {
    let mut office = office("forward_always = \"1004\"");
    let (a, c) = office.world.connect(office.alice, office.carol);
    office.world.act(office.carol, |phone| phone.refer(c, "sip:1002@example.test"));
    office.world.run_for(second() * 4);
    let history = office.reached(a, office.dave, Name::HistoryInfo);
    assert_eq!(history[1], "<sip:1004@example.test;cause=302>;index=1.1;mp=1");
}

/// The caller gives up just as the call is forwarded: nothing rings on.
#[test]
fn a_caller_who_gives_up_while_the_call_is_forwarded_leaves_nothing_ringing() {
    let mut office = office("forward_no_answer = \"1003\"\nno_answer_after = \"5s\"");
    office.world.phones[office.carol].on_ring = OnRing::Ring;
    // Ringing began 30 ms after the call: the first INVITE was challenged.
    for late_ms in [4990, 5010, 5019, 5020, 5021, 5030, 5031, 5040, 5060, 5200] {
        let a = office.call();
        office.world.run_for(Duration::from_millis(late_ms));
        office.world.act(office.alice, |phone| phone.cancel(a));
        office.world.run_for(second() * 40);
        assert_eq!(office.world.phones[office.alice].call(a).failed, Some(Status::REQUEST_TERMINATED));
        for phone in [office.bob, office.carol] {
            assert!(office.world.phones[phone].calls.iter().all(|call| call.over), "{late_ms}");
        }
        for kind in ["legs", "ringing", "placed"] {
            assert!(!office.world.alive().contains_key(kind), "{late_ms}: {:?}", office.world.alive());
        }
    }
}

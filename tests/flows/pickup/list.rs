//! Picked from a list: the administrative interface says what rings, and rings a user's phones for one of the calls.

use serde_json::{Map, Value, json};
use switchyard_host::admin::{Refused, Request};

use super::*;
use crate::harness::OnRing;

fn listed(world: &mut World, group: Option<&str>) -> Vec<(String, String)> {
    let rows = world.ask(Request::Ringing { group: group.map(str::to_owned) }).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(|row| (text(&row["caller"]), text(&row["callee"]))).collect()
}

/// Picks the first call that is listed for `user`.
fn pick(world: &mut World, user: &str, group: Option<&str>) -> Result<Value, Refused> {
    let rows = world.ask(Request::Ringing { group: None }).unwrap();
    let call = rows[0]["call"].as_u64().unwrap();
    world.ask(Request::Pickup { call, user: user.to_owned(), group: group.map(str::to_owned) })
}

#[test]
fn what_rings_is_listed_by_group_the_longest_first() {
    let Ringing { mut world, dave, .. } = ringing();
    world.act(dave, |phone| phone.invite("sip:1003@example.test", &[], true));
    world.run_for(second());
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(listed(&mut world, None), [pair("Alice", "Bob"), pair("Dave", "Carol")]);
    assert_eq!(listed(&mut world, Some("*101")).len(), 2);
    assert_eq!(listed(&mut world, Some("*102")), []);
}

/// Carol's phone is rung with the caller's name; when she answers the call is hers, and the others are told elsewhere.
#[test]
fn a_call_chosen_from_the_list_rings_the_pickers_phone() {
    for group in [Some("*101"), None] {
        let Ringing { mut world, alice, bob, carol, a, b, .. } = ringing();
        world.phones[carol].on_ring = OnRing::AnswerAfter(second());
        world.start_ladder();
        assert_eq!(pick(&mut world, "carol", group).unwrap(), json!({}));
        world.run_for(second());
        let c = world.phones[carol].last();
        assert_talk(&world, (alice, a), (carol, c));
        let from = world.phones[carol].call(c).invite.from().to_owned();
        assert!(from.starts_with("\"Alice for Bob\" "), "{from}");
        assert!(world.phones[bob].call(b).over);
        assert!(world.ladder().contains("completed elsewhere"));
        assert_eq!(world.phones[bob].messages, ["Carol took the call of Alice"]);
        assert_eq!(world.told("pickup.taken").len(), 1);
        assert_nothing_left(&mut world);
    }
}

#[test]
fn who_asked_from_the_list_is_told_if_the_callee_is_faster_or_the_caller_gives_up() {
    let Ringing { mut world, alice, bob, carol, a, b, .. } = ringing();
    let rows = world.ask(Request::Ringing { group: None }).unwrap();
    let call = rows[0]["call"].as_u64().unwrap();
    let pickup = || Request::Pickup { call, user: "carol".to_owned(), group: None };
    let asked = world.ask_later(pickup());
    world.run_for(second());
    assert_eq!(pick(&mut world, "dave", None).unwrap_err().status, 486, "one picker at a time");
    world.act(bob, |phone| phone.answer(b));
    world.run_for(second());
    assert_eq!(world.admin[&asked].as_ref().unwrap_err().code, Some(35101));
    assert_talk(&world, (alice, a), (bob, b));
    assert!(world.phones[carol].calls.iter().all(|call| call.over));
    assert_eq!(world.ask(pickup()).unwrap_err().status, 404, "it does not ring any more");

    let Ringing { mut world, alice, a, .. } = ringing();
    let rows = world.ask(Request::Ringing { group: None }).unwrap();
    let call = rows[0]["call"].as_u64().unwrap();
    let asked = world.ask_later(Request::Pickup { call, user: "carol".to_owned(), group: None });
    world.run_for(second());
    world.act(alice, |phone| phone.cancel(a));
    world.run_for(second());
    assert_eq!(world.admin[&asked].as_ref().unwrap_err().code, Some(35101));
    assert_nothing_left(&mut world);
}

/// The picker declines on the phone: who asked is told at once, Bob's rings on, and the next one may ask for it.
#[test]
fn a_picker_who_declines_leaves_the_call_ringing() {
    for status in [603, 486] {
        let Ringing { mut world, alice, bob, carol, dave, a, b } = ringing();
        world.phones[carol].on_ring = OnRing::Refuse(Status(status));
        let refused = pick(&mut world, "carol", None).unwrap_err();
        assert_eq!((refused.status, refused.code), (487, Some(35108)), "{}", refused.text);
        assert!(
            refused.text.contains(&format!("no phone of Carol took it: refused: {status}")),
            "{refused:?}"
        );
        assert!(!world.phones[bob].call(b).over);
        world.phones[dave].on_ring = OnRing::AnswerAfter(second());
        assert_eq!(pick(&mut world, "dave", None).unwrap(), json!({}));
        world.run_for(second());
        let d = world.phones[dave].last();
        assert_talk(&world, (alice, a), (dave, d));
        assert_nothing_left(&mut world);
    }
}

/// Bob's rule sends the call to Dave while Carol's phone rings for it: who asked for that is told.
#[test]
fn who_asked_from_the_list_is_told_if_the_call_is_forwarded() {
    let users = vec![
        ("bob", "pickup_group = \"*101\"\nforward_no_answer = \"1004\"\nno_answer_after = \"10s\""),
        ("carol", MEMBER),
        ("dave", MEMBER),
    ];
    let Ringing { mut world, alice, carol, a, .. } =
        ringing_in(WorldOptions { users, ..WorldOptions::default() });
    let rows = world.ask(Request::Ringing { group: None }).unwrap();
    let call = rows[0]["call"].as_u64().unwrap();
    let asked = world.ask_later(Request::Pickup { call, user: "carol".to_owned(), group: None });
    world.run_for(second() * 11);
    let refused = world.admin[&asked].as_ref().unwrap_err();
    assert_eq!(refused.code, Some(35108), "{}", refused.text);
    assert!(world.phones[carol].calls.iter().all(|call| call.over));
    world.phones[carol].on_ring = OnRing::AnswerAfter(second());
    assert_eq!(
        pick(&mut world, "carol", None).unwrap(),
        json!({}),
        "it rings at Dave, and may be asked for again"
    );
    world.run_for(second());
    let c = world.phones[carol].last();
    assert_talk(&world, (alice, a), (carol, c));
    assert_nothing_left(&mut world);
}

/// The list is no way around the policy.
#[test]
fn the_policy_holds_for_the_list_too() {
    let Ringing { mut world, .. } = ringing_in(office_with("pickers = {}, directed = \"off\""));
    for group in [Some("*101"), None] {
        let refused = pick(&mut world, "carol", group).unwrap_err();
        assert_eq!((refused.status, refused.code), (403, Some(35103)), "{}", refused.text);
    }
}

/// Rules of users are edited like their other fields, by the same rules as in the file.
#[test]
fn rules_of_users_are_edited_and_checked() {
    let mut world = World::with(office());
    let mut set = |key: &str, value: Value| {
        let change = Map::from_iter([(key.to_owned(), value)]);
        world.ask(Request::SetUser { name: "bob".to_owned(), change, password: None })
    };
    assert_eq!(set("forward_no_answer", json!("1004")).unwrap()["forward_no_answer"], "1004");
    assert_eq!(set("no_answer_after", json!("15s")).unwrap()["no_answer_after"], "15s");
    assert_eq!(set("also_ring", json!(["1003", "dave"])).unwrap()["also_ring"], json!(["1003", "dave"]));
    let groups = set("pickup_group", json!(["*101", "*102"])).unwrap();
    assert_eq!(
        (&groups["pickup_group"], &groups["further_pickup_groups"]),
        (&json!("*101"), &json!(["*102"]))
    );
    assert!(set("forward_no_answer", Value::Null).unwrap().get("forward_no_answer").is_none());
    for (key, value, words) in [
        ("forward_busy", json!("not a target"), "expected an extension, a name, a number or a SIP URI"),
        ("no_answer_after", json!("1s"), "expected a time from 5s to 3m"),
        ("also_ring", json!([1]), "expected a list of texts"),
        ("private_number", json!("1003"), "1003"),
        ("pickup_group", json!(["*101", "7001"]), "GCP-04"),
        ("forward_bussy", json!("1004"), "did you mean forward_busy?"),
    ] {
        let refused = set(key, value).unwrap_err();
        assert!(refused.text.contains(words), "{}", refused.text);
    }
}

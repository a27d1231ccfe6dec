//! Whose calls may be picked up, and by whom.

use serde_json::json;
use switchyard_sdk::testing::Command;

use super::*;

/// What becomes of it when Carol asks for `call` with `offer`: taken, or the refusal.
fn outcome(set: impl FnOnce(&mut FakeHost), offer: Offer, call: WaitingCall) -> Result<(), Refusal> {
    let mut host = host();
    set(&mut host);
    host.offer(offer);
    answer_list(&mut host, waiting([call]));
    let taken = host.transcript().iter().any(|recorded| matches!(recorded.command, Command::Take(_)));
    if taken { Ok(()) } else { Err(host.expect_refuse()) }
}

fn refused(text: &str) -> Result<(), Refusal> {
    Err(Refusal::new(Code::NOT_ALLOWED, text))
}

#[test]
fn nobody_from_outside_picks_up() {
    for caller in [Party { outside: true, ..carol() }, Party { user: None, ..carol() }] {
        let mut host = host();
        host.offer(Offer { caller, ..dialled() });
        expect_refused(&mut host, Code::OUTSIDE, "only users of this deployment can pick up calls");
    }
}

/// Lesson 19: an empty list is nobody, never everybody; `none` cannot be said.
#[test]
fn a_list_of_pickers_says_who() {
    let may = |list: serde_json::Value, picker: Party| {
        let set = |host: &mut FakeHost| host.set("group_pickup.pickers", list);
        outcome(set, Offer { caller: picker, ..dialled() }, call()).is_ok()
    };
    let member = || Party { pickup_group: Some("*101".to_owned()), ..carol() };
    assert!(may(json!(["anyone"]), carol()));
    assert!(!may(json!([]), carol()) && !may(json!([]), member()));
    assert!(!may(json!(["group"]), carol()) && may(json!(["group"]), member()));
    assert!(!may(json!(["*102"]), member()) && may(json!(["*102", "*101"]), member()));
    assert!(
        may(json!(["carol"]), carol()) && may(json!(["1003"]), carol()) && !may(json!(["dave"]), carol())
    );
}

#[test]
fn the_terms_are_those_of_the_callees_pool() {
    let none =
        |pool: &'static str| move |host: &mut FakeHost| host.set_in(pool, "group_pickup.pickers", json!([]));
    let text = "Carol may not pick up calls to Bob";
    assert_eq!(outcome(none("east"), dialled(), call()), refused(text));
    assert_eq!(
        outcome(none("west"), dialled(), call()),
        Ok(()),
        "west owns the range, Bob is at home in east"
    );
}

#[test]
fn only_calls_to_members_are_picked_up_through_a_group() {
    let bob = |groups: [&str; 2]| Party {
        pickup_group: Some(groups[0].to_owned()),
        further_pickup_groups: vec![groups[1].to_owned()],
        ..bob()
    };
    let to = |groups| WaitingCall { callee: bob(groups), ..call() };
    assert_eq!(outcome(|_| {}, dialled(), to(["*101", "*102"])), Ok(()));
    let text = "calls to Bob are not picked up here";
    assert_eq!(outcome(|_| {}, dialled(), to(["*102", "*101"])), refused(text), "one group by default");
    let two = |host: &mut FakeHost| host.set("group_pickup.groups_max", 2);
    assert_eq!(outcome(two, dialled(), to(["*102", "*101"])), Ok(()));
}

#[test]
fn directed_pickup_reaches_whom_the_policy_says() {
    let alone = || WaitingCall { callee: user("bob", "Bob"), ..call() };
    let set = |word: &'static str| move |host: &mut FakeHost| host.set("group_pickup.directed", word);
    let text = "calls to Bob are not picked up here";
    assert_eq!(outcome(set("members"), directed(), call()), Ok(()));
    assert_eq!(outcome(set("members"), directed(), alone()), refused(text));
    assert_eq!(outcome(set("everyone"), directed(), alone()), Ok(()));
    assert_eq!(outcome(set("off"), directed(), call()), refused(text));
    let nobody = |host: &mut FakeHost| host.set("group_pickup.directed_pickers", json!([]));
    assert_eq!(outcome(nobody, directed(), call()), refused("Carol may not pick up calls to Bob"));
    assert_eq!(outcome(nobody, dialled(), call()), Ok(()), "the group's own list");
}

/// GCP-09, and facts.md §6 no. 5.
#[test]
fn private_lines_and_excluded_callers_are_never_picked_up() {
    let all = |host: &mut FakeHost| {
        for key in ["team_calls", "delegated_calls", "pick_held", "pick_parked", "pick_recalling"] {
            host.set(&format!("group_pickup.{key}"), true);
        }
    };
    let private = WaitingCall { private: true, ..call() };
    assert_eq!(outcome(all, dialled(), private), refused("calls to a private line are not picked up"));
    let excluded = WaitingCall { excluded: true, ..call() };
    let text = "the callee has excluded this caller from pickup";
    assert_eq!(outcome(all, dialled(), excluded), refused(text));
}

#[test]
fn each_other_exception_has_its_switch() {
    let team = || WaitingCall { routing: Routing::Team, ..call() };
    let delegates = || WaitingCall { routing: Routing::Delegates, ..call() };
    let parked = || WaitingCall { state: WaitState::Parked, ..call() };
    let recalling = || WaitingCall { state: WaitState::Recalling, ..call() };
    for (call, key, text) in [
        (team(), "team_calls", "team calls are not picked up here"),
        (delegates(), "delegated_calls", "calls to delegates are not picked up here"),
        (parked(), "pick_parked", "parked calls are not picked up here"),
        (recalling(), "pick_recalling", "ring-backs are not picked up here"),
    ] {
        assert_eq!(outcome(|_| {}, directed(), call.clone()), refused(text));
        let set = |host: &mut FakeHost| host.set(&format!("group_pickup.{key}"), true);
        assert_eq!(outcome(set, directed(), call), Ok(()), "{key}");
    }
}

/// A held call is an answered one: asking for it without a right is being late.
#[test]
fn a_held_call_counts_as_answered() {
    let held = || WaitingCall { state: WaitState::Held, ..call() };
    let late = Err(Refusal::new(Code::LOST_CLAIM, "answered by Bob"));
    assert_eq!(outcome(|_| {}, directed(), held()), late);
    let set = |host: &mut FakeHost| host.set("group_pickup.pick_held", true);
    assert_eq!(outcome(set, directed(), held()), Ok(()));
}

#[test]
fn a_hook_is_asked_about_each_call_and_its_words_are_passed_on() {
    let mut host = host();
    host.deny("group_pickup.allow", "not at night");
    host.offer(dialled());
    answer_list(&mut host, waiting([call()]));
    expect_refused(&mut host, Code::NOT_ALLOWED, "not at night");
    let asked = host.decisions_asked();
    let [(hook, question)] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(hook, "group_pickup.allow");
    assert_eq!(
        (&question["picker"]["user"], &question["callee"]["user"], &question["caller"]["user"]),
        (&json!("carol"), &json!("bob"), &json!("alice"))
    );
    assert_eq!(
        (&question["number"], &question["how"], &question["state"], &question["pool"]),
        (&json!("*101"), &json!("dial"), &json!("ringing"), &json!("east"))
    );
}

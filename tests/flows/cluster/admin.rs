//! What an operator asks one host and another one knows.

use serde_json::Value;
use switchyard_host::admin::Request;

use super::{assert_quiet, second, two_pools};

fn column(rows: &Value, name: &str) -> Vec<String> {
    rows.as_array().unwrap().iter().map(|row| row[name].as_str().unwrap_or("-").to_owned()).collect()
}

#[test]
fn any_host_tells_of_all_calls_orbits_and_phones_and_does_what_it_is_told_to() {
    let mut world = two_pools();
    let [alice, bob, erin, frank] =
        world.phones_at([("alice", "fe1"), ("bob", "fe1"), ("erin", "fw1"), ("frank", "fw1")]);
    let (_, b) = world.connect(alice, bob);
    world.connect(erin, frank);
    for host in 0..2 {
        let calls = world.ask_host(host, Request::Calls).unwrap();
        let mut hosts = column(&calls, "host");
        hosts.sort();
        assert_eq!(hosts, ["fe1", "fw1"], "{calls}");
        let users = world.ask_host(host, Request::Users).unwrap();
        assert_eq!(column(&users, "name"), ["alice", "bob", "carol", "dave", "erin", "frank"]);
        assert_eq!(column(&users, "host"), ["fe1", "fe1", "fe1", "fe1", "fw1", "fw1"]);
        assert!(
            users[0]["bindings"][0]["contact"].is_string() && users[5]["bindings"][0]["contact"].is_string()
        );
    }
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test;orbit=7001"));
    world.run_for(second() * 4);
    let rows = world.ask_host(1, Request::Occupants).unwrap();
    assert_eq!((column(&rows, "number"), column(&rows, "host")), (vec!["7001".into()], vec!["fe1".into()]));
    // The call of the other host ends from here, and one that nobody has is not there.
    let calls = world.ask_host(0, Request::Calls).unwrap();
    let west = calls.as_array().unwrap().iter().find(|call| call["host"] == "fw1").unwrap();
    world.ask_host(0, Request::Hangup { call: west["id"].as_u64().unwrap() }).unwrap();
    world.run_for(second() * 2);
    assert!(world.phones[frank].calls[0].over);
    assert_eq!(world.ask_host(0, Request::Hangup { call: 7 }).unwrap_err().status, 404);
    // Fetched for Carol's colleague of the other pool, on his phone, through the host that has it.
    let fetch =
        Request::Retrieve { number: "7001".into(), user: "alice".into(), token: Some("wrong".into()) };
    assert_eq!(world.ask_host(1, fetch).unwrap_err().code, Some(35010));
    world.act(alice, |phone| {
        let call = phone.last();
        phone.hang_up(call);
    });
    world.run_for(second() * 40);
    assert_quiet(&world);
}

#[test]
fn a_host_that_is_silent_is_left_out_of_lists_and_refused_in_words() {
    let mut world = two_pools();
    let [erin, frank] = world.phones_at([("erin", "fw1"), ("frank", "fw1")]);
    world.connect(erin, frank);
    let calls = world.ask_host(0, Request::Calls).unwrap();
    world.kill(1);
    assert_eq!(world.ask_host(0, Request::Calls).unwrap(), Value::Array(Vec::new()));
    assert_eq!(world.told("host.silent").len(), 1);
    let gone = world.ask_host(0, Request::Hangup { call: calls[0]["id"].as_u64().unwrap() }).unwrap_err();
    assert_eq!(
        (gone.status, gone.text.as_str()),
        (503, "this is up to fw1, which cannot be reached from fe1")
    );
}

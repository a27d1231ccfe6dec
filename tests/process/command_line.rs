//! The command line against a running host.

use serde_json::{Value, json};

use super::host::Host;
use super::program::wait_for;
use super::sipp::{Line, Script, all_succeed};

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

/// Each list, as JSON for programs and as a table for people.
#[test]
fn lists_for_programs_and_tables_for_people() {
    let host = Host::start();
    let _alice = Line::register(&host, "alice");
    assert_eq!(names(&host.json(&["user", "list"])), ["alice", "bob", "carol", "dave"]);
    let alice = host.json(&["user", "show", "alice"]);
    assert_eq!(alice["bindings"].as_array().unwrap().len(), 1, "{alice}");
    assert_eq!(host.json(&["orbit", "list"])[0]["size"], 100);
    assert_eq!(host.json(&["orbit", "occupants"]), json!([]));
    assert_eq!(host.json(&["call", "list"]), json!([]));
    assert_eq!(names(&host.json(&["plugin", "list"])), ["call-park", "group-pickup"]);
    assert_eq!(host.json(&["plugin", "info", "call-park"])["name"], "call-park");
    let policy = host.json(&["policy", "status"]);
    assert!(policy["revision"].is_u64() && policy["last_error"] == json!([]), "{policy}");

    for (verb, shown) in [
        (&["user", "list"][..], "1001"),
        (&["orbit", "list"], "east-park"),
        (&["orbit", "export"], "[[orbits]]"),
        (&["orbit", "occupants"], "No call is parked."),
        (&["call", "list"], "There are no calls."),
        (&["plugin", "list"], "call-park"),
        (&["policy", "status"], "in force"),
    ] {
        let answer = host.cli(verb);
        assert!(answer.code == Some(0) && answer.out.contains(shown), "{verb:?}: {answer:?}");
    }
    let (status, metrics) = host.ask("/metrics");
    assert!(status == 200 && metrics.contains("switchyard_"), "{metrics}");
}

/// What is refused says why and is 1; what cannot be meant is 2.
#[test]
fn refusals_are_1_and_wrong_usage_is_2() {
    let host = Host::start();
    for (verb, code, words) in [
        (&["call", "hangup", "99"][..], 1, "no call 99"),
        (&["call", "retrieve", "7001", "--user", "carol"], 1, "7001"),
        (&["user", "show", "nobody"], 1, "nobody"),
        (&["orbit", "add", "more", "7050", "7150"], 1, "east-park"),
        (&["orbit", "list", "--admin", "http://127.0.0.1:1"], 1, "is it running?"),
        (&["orbit", "lst"], 2, "list"),
    ] {
        let answer = host.cli(verb);
        assert!(answer.code == Some(code) && answer.err.contains(words), "{verb:?}: {answer:?}");
    }
}

/// A file that is named on the command line goes before an address in the environment.
#[test]
fn the_host_whose_file_is_named_is_asked() {
    let host = Host::start();
    std::fs::write(host.path("other.toml"), "[admin]\nlisten = \"127.0.0.1:1\"\n").unwrap();
    let answer = host.cli(&["orbit", "list", "--config", "other.toml"]);
    let words = "http://127.0.0.1:1, the admin.listen of other.toml";
    assert!(answer.code == Some(1) && answer.err.contains(words), "{answer:?}");
    let answer = host.cli(&["orbit", "list", "--config", "switchyard.toml"]);
    assert!(answer.code == Some(0) && answer.out.contains("east-park"), "{answer:?}");
}

/// An operator parks Bob's call, rings Carol with it, and ends it.
#[test]
fn an_operator_parks_retrieves_and_hangs_up() {
    let host = Host::start();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|user| Line::register(&host, user));
    let parked = alice.run(Script::new("alice").answer().accept_offer().accept_offer().hung_up());
    let parker = bob.run(Script::new("bob").call("1001").hung_up());
    let calls = || host.json(&["call", "list"]);
    let up = |call: &Value| call["legs"].as_array().unwrap().iter().all(|leg| leg["state"] == "confirmed");
    let id = |calls: Value| {
        let [call] = &calls.as_array().unwrap()[..] else { return None };
        (call["legs"].as_array().unwrap().len() == 2 && up(call)).then(|| call["id"].to_string())
    };
    let call = wait_for("a call that is up", || id(calls()));
    assert_eq!(host.json(&["call", "show", &call])["legs"].as_array().unwrap().len(), 2);

    let orbit = host.json(&["call", "park", &call, "--parker", "bob", "--orbit", "7005"]);
    assert_eq!(orbit["number"], "7005");
    parker.succeeds();
    assert!(alice.listen().is_audible(), "Alice hears music");
    let table = host.cli(&["orbit", "occupants"]);
    assert!(
        table.out.contains("7005") && table.out.contains("Alice") && table.out.contains("Bob"),
        "{table:?}"
    );

    let retriever = carol.run(Script::new("carol").answer().hung_up());
    let token = orbit["token"].as_str().unwrap();
    host.json(&["call", "retrieve", "7005", "--user", "carol", "--token", token]);
    assert_eq!(host.json(&["orbit", "occupants"]), json!([]));
    let call = wait_for("Alice's call with Carol", || id(calls()));
    host.json(&["call", "hangup", &call]);
    all_succeed([parked, retriever]);
    host.is_quiet();
}

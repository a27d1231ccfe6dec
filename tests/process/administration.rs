//! Users come and go and plugins are replaced while calls go on.

use serde_json::Value;

use super::host::Host;
use super::program::wait_for;
use super::sipp::{Line, Script, all_succeed};

/// Erin is added, registers and calls; her password changes; she is removed: her phone is gone, her call is not.
#[test]
fn a_user_is_added_and_removed_and_calls_go_on() {
    let host = Host::start();
    let add = ["user", "add", "erin", "--extension", "1005", "--display", "Erin", "--password-stdin"];
    let answer = host.cli_with(&add, "erin-secret\n");
    assert!(answer.code == Some(0) && answer.out.contains("1005"), "{answer:?}");
    let again = host.cli_with(&add, "erin-secret\n");
    assert!(again.code == Some(1) && again.err.contains("already"), "{again:?}");
    let [alice, erin] = ["alice", "erin"].map(|user| Line::register(&host, user));

    let password = ["user", "set", "erin", "--password-stdin"];
    assert_eq!(host.cli_with(&password, "other\n").code, Some(0));
    Line::is_refused(&host, "erin", "erin-secret");
    assert_eq!(host.cli_with(&password, "erin-secret\n").code, Some(0));

    let callee = alice.run(Script::new("alice").answer().hung_up());
    let caller = erin.run(Script::new("erin").call("1001").pause(3000).hang_up());
    wait_for("a call", || (host.get("status")["calls"] == 1).then_some(()));
    let removed = host.cli(&["user", "remove", "erin"]);
    assert_eq!((removed.code, removed.out.as_str()), (Some(0), "user erin removed\n"));
    assert_eq!(host.get("status")["calls"], 1, "the call goes on");
    assert_eq!(host.get("status")["registrations"], 1, "Alice's alone");
    all_succeed([callee, caller]);
    Line::is_refused(&host, "erin", "erin-secret");

    for (verb, words) in [
        (&["user", "remove", "alise"][..], "there is no user \"alise\", did you mean alice?"),
        (&["user", "show", "alise"], "did you mean alice?"),
        (&["user", "add", "park", "--password-stdin"], "service"),
        (&["user", "add", "7001", "--password-stdin"], "east-park"),
        (&["user", "add", "1001", "--password-stdin"], "belongs to alice"),
        (&["user", "add", "frank", "--pool", "eats", "--password-stdin"], "did you mean east?"),
        (&["user", "add", "frank"], "--password-stdin"),
    ] {
        let answer = host.cli_with(verb, "x\n");
        assert!(answer.code == Some(1) && answer.err.contains(words), "{verb:?}: {answer:?}");
    }
}

fn call_park(host: &Host) -> Vec<Value> {
    let plugins = host.get("plugins");
    plugins.as_array().unwrap().iter().filter(|plugin| plugin["name"] == "call-park").cloned().collect()
}

/// The plugin is replaced while Alice waits: she goes on hearing music, and Carol fetches her from the new copy.
#[test]
fn a_plugin_is_reloaded_while_a_call_is_parked() {
    let host = Host::start();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|user| Line::register(&host, user));
    let parked = alice.run(Script::new("alice").answer().accept_offer().accept_offer().hung_up());
    let parker =
        Script::new("bob").call("1001").refer("7001").notified("100").notified("SIP/2.0 200").hang_up();
    bob.run(parker).succeeds();
    assert_eq!(host.one_parked(), "7001");
    let before = call_park(&host);
    let [old] = &before[..] else { panic!("{before:?}") };
    assert_eq!(old["flows"], 1);

    let answer = host.cli(&["plugin", "reload", "call-park"]);
    assert!(answer.code == Some(0) && answer.out.starts_with("call-park "), "{answer:?}");
    let after = call_park(&host);
    let [new] = &after[..] else { panic!("the old copy is gone: {after:?}") };
    assert_ne!(new["generation"], old["generation"]);
    assert_eq!((&new["state"], &new["flows"]), (&Value::from("running"), &Value::from(1)));
    assert_eq!(host.parked(), ["7001"]);
    assert!(alice.listen().is_audible(), "Alice hears music");

    // A file that is no plugin changes nothing.
    let file = host.path("plugins/libcall_park.so");
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "no library").unwrap();
    let refused = host.cli(&["plugin", "reload", "call-park"]);
    assert!(refused.code == Some(1) && refused.err.contains("is no plugin"), "{refused:?}");
    let unknown = host.cli(&["plugin", "reload", "call-prak"]);
    assert!(unknown.code == Some(1) && unknown.err.contains("did you mean call-park?"), "{unknown:?}");
    assert_eq!(call_park(&host), after);

    all_succeed([carol.run(Script::new("carol").call("7001").pause(500).hang_up()), parked]);
    assert!(host.parked().is_empty());
    host.is_quiet();
}

//! SIGTERM and Ctrl-C (CP-22).

use super::baresip::Phone;
use super::host::Host;
use super::program::wait_for;
use super::sipp::{Line, Script, all_succeed};

/// New parks are refused, those who talk go on talking, who is parked can be fetched; the process ends when the last
/// call has.
#[test]
fn a_draining_host_lets_its_calls_end_and_parks_no_more() {
    let mut host = Host::start();
    let mut alice = Phone::register(&host, "alice", 440);
    let [bob, carol, dave] = ["bob", "carol", "dave"].map(|user| Line::register(&host, user));
    let parked = dave.run(Script::new("dave").answer().accept_offer().accept_offer().hung_up());
    let parker =
        Script::new("carol").call("1004").refer("7001").notified("100").notified("SIP/2.0 200").hang_up();
    carol.run(parker).succeeds();
    assert_eq!(host.one_parked(), "7001");
    // Alice's hold is what Bob waits for before he tries to park her.
    let refused = Script::new("bob")
        .answer()
        .accept_offer()
        .refer("park")
        .notified("^SIP/2.0 100")
        .notified("^SIP/2.0 503.*35012")
        .accept_offer()
        .hung_up();
    let refused = bob.run(refused);
    alice.dial("1002");
    alice.expect("CALL_ESTABLISHED");
    assert!(bob.listen().share_of(440) > 0.5, "Bob hears Alice");

    host.terminate();
    wait_for("a host that says it is not ready", || (host.ask("/readyz").0 == 503).then_some(()));
    alice.hold();
    wait_for("the refusal", || host.log().contains("code=35012").then_some(()));
    alice.resume();
    assert!(bob.listen().share_of(440) > 0.5, "Bob still hears Alice");
    assert_eq!(host.parked(), ["7001"]);

    all_succeed([carol.run(Script::new("carol").call("7001").pause(500).hang_up()), parked]);
    assert!(!host.has_ended(), "Alice and Bob still talk");
    alice.hang_up();
    refused.succeeds();
    assert!(host.exit().success());
}

/// Nobody there: it ends at once. A second signal ends it in any case.
#[test]
fn an_idle_host_ends_at_once_and_an_impatient_operator_need_not_wait() {
    let mut host = Host::start();
    host.terminate();
    assert!(host.exit().success());

    host.restart();
    let [alice, bob] = ["alice", "bob"].map(|user| Line::register(&host, user));
    let _callee = alice.run(Script::new("alice").answer().hung_up());
    let _caller = bob.run(Script::new("bob").call("1001").hung_up());
    wait_for("a call", || (host.get("status")["calls"] == 1).then_some(()));
    host.interrupt();
    wait_for("a host that says it is not ready", || (host.ask("/readyz").0 == 503).then_some(()));
    host.interrupt();
    assert!(host.exit().success());
}

/// `host.drain_max`: it waits no longer, however long the call lasts.
#[test]
fn a_drain_ends_after_its_time() {
    let mut host = Host::start();
    let file = host.path("switchyard.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("[host]", "[host]\ndrain_max = \"1s\"", 1)).unwrap();
    host.terminate();
    host.exit();
    host.restart();
    let [alice, bob] = ["alice", "bob"].map(|user| Line::register(&host, user));
    let _callee = alice.run(Script::new("alice").answer().hung_up());
    let _caller = bob.run(Script::new("bob").call("1001").hung_up());
    wait_for("a call", || (host.get("status")["calls"] == 1).then_some(()));
    host.terminate();
    assert!(host.exit().success());
    assert!(host.log().contains("host.drain_max is over"), "{}", host.log());
}

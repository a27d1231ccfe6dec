//! Parking and retrieving, with phones that follow scripts.

use super::host::Host;
use super::program::wait_for;
use super::sipp::{Line, Script, all_succeed};

/// Alice hears music in 7001; Carol takes her from another phone.
#[test]
fn a_call_is_parked_by_transfer_and_retrieved_from_another_phone() {
    let host = Host::start();
    let alice = Line::register(&host, "alice");
    let bob = Line::register(&host, "bob");
    let carol = Line::register(&host, "carol");

    // Music, then Carol, then the end.
    let parked = alice.run(Script::new("alice").answer().accept_offer().accept_offer().hung_up());
    let parker = Script::new("bob")
        .call("1001")
        .refer("park")
        .notified("^SIP/2.0 100")
        .notified("^SIP/2.0 200.*Contact: .sip:70[0-9][0-9]@example.test;token=")
        .hang_up();
    bob.run(parker).succeeds();
    let number = host.one_parked();
    assert!(alice.listen().is_audible(), "Alice hears music");

    let retriever = Script::new("carol").call(&number).pause(500).hang_up();
    all_succeed([carol.run(retriever), parked]);
    assert!(host.parked().is_empty());
    host.is_quiet();
}

/// The same over TCP: the host opens connections to who is called, and answers on those it was asked on.
#[test]
fn a_call_over_tcp_is_parked_and_retrieved() {
    let host = Host::start();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|user| Line::register_over_tcp(&host, user));
    let parked = alice.run(Script::new("alice").answer().accept_offer().accept_offer().hung_up());
    let parker = Script::new("bob")
        .call("1001")
        .refer("7001")
        .notified("^SIP/2.0 100")
        .notified("^SIP/2.0 200")
        .hang_up();
    let parker = bob.run(parker).succeeds();
    assert!(parker.contains("SIP/2.0/TCP") && !parker.contains("SIP/2.0/UDP"), "{parker}");
    assert_eq!(host.one_parked(), "7001");
    assert!(alice.listen().is_audible(), "Alice hears music");
    let retriever = carol.run(Script::new("carol").call("7001").pause(500).hang_up());
    all_succeed([retriever, parked]);
    assert!(host.parked().is_empty());
    host.is_quiet();
}

/// An orbit of the parker's choice; he stays until the host ends his leg. An empty orbit is 404.
#[test]
fn a_call_is_parked_in_a_chosen_orbit_and_its_end_frees_the_orbit() {
    let host = Host::start();
    let alice = Line::register(&host, "alice");
    let bob = Line::register(&host, "bob");

    let parked = alice.run(Script::new("alice").answer().accept_offer().pause(1000).hang_up());
    let parker = Script::new("bob")
        .call("1001")
        .refer("7001")
        .notified("^SIP/2.0 100")
        .notified("^SIP/2.0 200.*sip:7001@")
        .hung_up();
    let parker = bob.run(parker);
    all_succeed([parked, parker]);
    wait_for("a free orbit", || host.parked().is_empty().then_some(()));
    bob.run(Script::new("bob").call_refused("7001", 404, 35000)).succeeds();
    host.is_quiet();
}

/// Dave may not park: both stay together, and he learns why.
#[test]
fn who_may_not_park_keeps_his_call() {
    let host = Host::start();
    let alice = Line::register(&host, "alice");
    let dave = Line::register(&host, "dave");
    let callee = alice.run(Script::new("alice").answer().hung_up());
    let parker = Script::new("dave")
        .call("alice")
        .refer("park")
        .notified("^SIP/2.0 100")
        .notified("^SIP/2.0 403.*35103")
        .hang_up();
    all_succeed([dave.run(parker), callee]);
    host.is_quiet();
}

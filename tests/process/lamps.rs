//! Lamps: a phone that follows its script to the letter watches while two softphones talk.

use super::baresip::Phone;
use super::host::Host;
use super::sipp::{Line, Script, Sipp};

/// Alice calls Bob, he answers, she hangs up; the lamp follows, step by step. It is the `nth` call.
fn is_followed(watcher: &mut Sipp, alice: &mut Phone, bob: &mut Phone, nth: usize) {
    alice.dial("1002");
    watcher.hears("<state>early</state>", nth);
    bob.answer();
    alice.expect("CALL_ESTABLISHED");
    watcher.hears("<state>confirmed</state>", nth);
    alice.hang_up();
    bob.expect("CALL_CLOSED");
}

fn call(script: Script) -> Script {
    script.notified("early").notified("confirmed").notified("terminated")
}

/// The same subscription goes on after `kill -9`, beginning with everything there is.
#[test]
fn a_lamp_follows_a_real_call_and_goes_on_after_kill_9() {
    let mut host = Host::start();
    let mut alice = Phone::register(&host, "alice", 440);
    let mut bob = Phone::register(&host, "bob", 1000);
    let carol = Line::register(&host, "carol");
    let script = call(call(Script::new("carol").watch("1002")).notified("idle"));
    let mut watcher = carol.run(script);
    watcher.hears("idle", 1);
    is_followed(&mut watcher, &mut alice, &mut bob, 1);
    // The call's end is the last that is told before the host dies.
    watcher.hears("version=\"3\"", 1);
    host.kill();
    host.restart();
    watcher.hears("idle", 2);
    is_followed(&mut watcher, &mut alice, &mut bob, 2);
    watcher.succeeds();
    host.is_quiet();
}

#[test]
fn a_lamp_on_tcp_follows_a_real_call() {
    let host = Host::start();
    let mut alice = Phone::register(&host, "alice", 440);
    let mut bob = Phone::register(&host, "bob", 1000);
    let carol = Line::register_over_tcp(&host, "carol");
    let mut watcher = carol.run(call(Script::new("carol").watch("1002")));
    watcher.hears("idle", 1);
    is_followed(&mut watcher, &mut alice, &mut bob, 1);
    watcher.succeeds();
    host.is_quiet();
}

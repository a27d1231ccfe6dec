//! Phones that register and call each other.

use super::host::Host;
use super::sipp::{Line, Script, all_succeed};

/// Alice calls Bob by name and by extension; either hangs up.
#[test]
fn two_phones_register_and_talk() {
    let host = Host::start();
    let alice = Line::register(&host, "alice");
    let bob = Line::register(&host, "bob");
    for (number, caller_ends) in [("bob", true), ("1002", false)] {
        let callee = Script::new("bob").answer();
        let caller = Script::new("alice").call(number);
        let (caller, callee) = match caller_ends {
            true => (caller.pause(200).hang_up(), callee.hung_up()),
            false => (caller.hung_up(), callee.pause(200).hang_up()),
        };
        let callee = bob.run(callee);
        all_succeed([alice.run(caller), callee]);
    }
    host.is_quiet();
}

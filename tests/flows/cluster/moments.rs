//! A host dies, or its seat moves on, at every moment of something.

use std::time::Duration;

use super::{one_pool, second};
use crate::harness::{CallId, World};

fn hears(world: &World, phone: usize, call: CallId, whom: &str) -> bool {
    world.phones[phone].call(call).heard.as_ref().is_some_and(|heard| heard.contains(whom))
}

/// He holds her and dials the park service at once. Of a change that begins while the store is told the end of the one before, no
/// record tells.
#[test]
fn who_is_held_and_parked_while_a_host_dies_hears_what_its_next_life_or_another_host_thinks() {
    for restarts in [true, false] {
        for moment in 20..60 {
            let at = format!("{moment} ms, restarts: {restarts}");
            let mut world = one_pool();
            let [alice, bob] = world.phones_at([("alice", "fe2"), ("bob", "fe2")]);
            let (a, b) = world.connect(alice, bob);
            world.run_for(second() * 5);
            world.start_ladder();
            world.act(bob, |phone| {
                phone.reinvite(b, "sendonly");
                phone.invite("sip:park@example.test", &[], true)
            });
            world.run_for(Duration::from_millis(moment));
            world.kill(0);
            if restarts {
                world.start(0);
            }
            // An INVITE that the dead host was to answer is given up by then.
            world.run_for(second() * 40);
            if world.occupants().is_empty() {
                assert!(hears(&world, alice, a, "10.0.0.2"), "{at}:\n{}", world.ladder());
                assert!(hears(&world, bob, b, "10.0.0.1"), "{at}:\n{}", world.ladder());
                world.act(bob, |phone| phone.reinvite(b, "sendrecv"));
                world.run_for(second());
                assert!(hears(&world, alice, a, "sendrecv"), "{at}:\n{}", world.ladder());
            } else {
                assert!(hears(&world, alice, a, "192.0.2."), "{at}:\n{}", world.ladder());
            }
        }
    }
}

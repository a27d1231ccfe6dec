//! Group Call Pickup through the real plugin library (facts.md §1.4, design.md §7).

mod directed;
mod group;
mod list;
mod races;

use std::time::Duration;

use switchyard_host::sip::Status;

use crate::harness::{CallId, World, WorldOptions};

const GROUP: &str = "sip:*101@example.test";

fn second() -> Duration {
    Duration::from_secs(1)
}

/// An office in which Bob and Carol are in the group *101, and Dave in none.
fn office() -> WorldOptions {
    WorldOptions { users: vec![("bob", MEMBER), ("carol", MEMBER)], ..WorldOptions::default() }
}

const MEMBER: &str = "pickup_group = \"*101\"";

/// The office with these settings of `group_pickup`.
fn office_with(settings: &str) -> WorldOptions {
    let policy = format!("return require \"default\":extend {{ group_pickup = {{ {settings} }} }}");
    WorldOptions { policies: vec![("pools/east.lua".to_owned(), policy)], ..office() }
}

/// Alice calls Bob, whose phone rings; Carol and Dave are there.
struct Ringing {
    world: World,
    alice: usize,
    bob: usize,
    carol: usize,
    dave: usize,
    a: CallId,
    b: CallId,
}

fn ringing() -> Ringing {
    ringing_in(office())
}

fn ringing_in(options: WorldOptions) -> Ringing {
    let mut world = World::with(options);
    let [alice, bob, carol, dave] = world.phones(["alice", "bob", "carol", "dave"]);
    let mut ringing = Ringing { world, alice, bob, carol, dave, a: CallId(0), b: CallId(0) };
    ringing.ring();
    ringing
}

impl Ringing {
    /// Alice calls Bob, once more.
    fn ring(&mut self) {
        // Simulated hours go by between two races.
        for phone in [self.alice, self.bob, self.carol, self.dave] {
            self.world.act(phone, |phone| phone.register(3600));
        }
        self.world.run_for(second());
        self.a = self.world.act(self.alice, |phone| phone.invite("sip:1002@example.test", &[], true));
        self.world.run_for(second());
        self.b = self.world.phones[self.bob].last();
    }
}

/// The two talk to each other, and to nobody else.
#[track_caller]
pub(in crate::flows) fn assert_talk(world: &World, (one, a): (usize, CallId), (other, b): (usize, CallId)) {
    for ((phone, call), far) in [((one, a), other), ((other, b), one)] {
        let call = world.phones[phone].call(call);
        assert!(
            call.up,
            "{} is not connected: {:?} {:?}",
            world.phones[phone].name, call.failed, call.warning
        );
        let address = world.phones[far].address.ip().to_string();
        let heard = call.heard.clone().unwrap_or_default();
        assert!(heard.contains(&format!("IN IP4 {address}")), "{}: {heard}", world.phones[phone].name);
    }
}

/// The loser is told in words, with this code.
#[track_caller]
fn assert_refused(world: &World, phone: usize, call: CallId, status: Status, words: &[&str]) {
    let call = world.phones[phone].call(call);
    let warning = call.warning.clone().unwrap_or_default();
    assert_eq!(call.failed, Some(status), "{warning}");
    for word in words {
        assert!(warning.contains(word), "{warning} says nothing of {word}");
    }
}

/// Everybody hangs up: nothing of it is left in the host.
#[track_caller]
pub(in crate::flows) fn assert_nothing_left(world: &mut World) {
    for phone in 0..world.phones.len() {
        for call in 0..world.phones[phone].calls.len() {
            if world.phones[phone].calls[call].up {
                world.act(phone, |phone| phone.hang_up(CallId(call)));
                world.run_for(second());
            }
        }
    }
    world.run_for(second() * 40);
    for kind in
        ["legs", "flows", "operations", "streams", "watches", "ringing", "placed", "takings", "subscriptions"]
    {
        assert!(!world.alive().contains_key(kind), "{:?}", world.alive());
    }
}

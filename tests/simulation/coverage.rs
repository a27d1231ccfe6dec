//! Which events met which states: what the simulation has seen, and what it has not.

use std::collections::BTreeMap;

use switchyard_host::engine::Event;

use crate::harness::Call;

/// How often each event met each state.
#[derive(Clone, Default, Debug)]
pub struct Coverage {
    pairs: BTreeMap<(&'static str, &'static str), u64>,
    /// The state of each orbit, by number.
    orbits: BTreeMap<String, &'static str>,
}

/// The states of one side of a call, as its phone sees them, then those of an orbit.
pub const STATES: [&str; 9] =
    ["idle", "calling", "ringing", "talking", "holding", "held", "music", "changing", "transferring"];

/// What a phone does with a call, and what else may happen to one.
const EVENTS: [&str; 24] = [
    "hang up",
    "hold",
    "resume",
    "transfer",
    "attended transfer",
    "park",
    "hold and dial",
    "cut",
    "rebind",
    "reboot",
    "store",
    "crash",
    "clock",
    "policy",
    "reload",
    "ask for offer",
    "update",
    "admin hang up",
    "admin park",
    "admin pickup",
    "admin retrieve",
    "user changed",
    "user gone",
    "range changed",
];

impl Coverage {
    pub fn add(&mut self, state: &'static str, event: &'static str) {
        *self.pairs.entry((state, event)).or_default() += 1;
    }

    /// What happened to orbits.
    pub fn events(&mut self, events: &[Event]) {
        for event in events {
            let Some(number) = event.detail["number"].as_str() else { continue };
            let next = match event.what {
                "orbit.reserved" => "reserved",
                "orbit.parked" | "orbit.returned" | "orbit.restored" => "parked",
                "orbit.claimed" => "claimed",
                "orbit.freed" => "free",
                "orbit.refused" => "",
                _ => continue,
            };
            let state = self.orbits.get(number).copied().unwrap_or("free");
            self.add(orbit(state), event.what);
            if !next.is_empty() {
                self.orbits.insert(number.to_owned(), next);
            }
        }
    }

    pub fn merge(&mut self, other: &Coverage) {
        for (pair, times) in &other.pairs {
            *self.pairs.entry(*pair).or_default() += times;
        }
    }

    /// A table of states and events, and the pairs that never met.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for ((state, event), times) in &self.pairs {
            text.push_str(&format!("  {state:<16} {event:<20} {times}\n"));
        }
        text.push_str("never met:\n");
        for state in &STATES[3..] {
            let missing: Vec<&str> =
                EVENTS.into_iter().filter(|event| !self.pairs.contains_key(&(state, event))).collect();
            if !missing.is_empty() {
                text.push_str(&format!("  {state:<16} {}\n", missing.join(", ")));
            }
        }
        text
    }
}

fn orbit(state: &str) -> &'static str {
    match state {
        "reserved" => "orbit reserved",
        "parked" => "orbit parked",
        "claimed" => "orbit claimed",
        _ => "orbit free",
    }
}

/// The state of one side of a call, as its phone sees it.
pub fn side(call: &Call) -> &'static str {
    let heard = call.heard.as_deref().unwrap_or_default();
    if call.over {
        "idle"
    } else if !call.up {
        if call.server.is_some() { "ringing" } else { "calling" }
    } else if call.reinvite.is_some() {
        "changing"
    } else if call.refer_status.is_some() {
        "transferring"
    } else if heard.contains("IN IP4 192.0.2.1\r") {
        "music"
    } else if heard.contains("a=sendonly") || heard.contains("a=inactive") {
        "held"
    } else if call.direction != "sendrecv" {
        "holding"
    } else {
        "talking"
    }
}

//! Policies edited while a call is parked.

use super::host::Host;
use super::program::wait_for;
use super::sipp::{Line, Script, all_succeed};

/// One ring-back, and then the call would end.
const BEFORE: &str = r#"local base = require "default"
return base:extend { call_park = { pickup_timeout = "10s", max_recall_attempts = 1, recall_ring_time = "5s" } }
"#;

/// A second ring-back.
const EDITED: &str = r#"local base = require "default"
return base:extend { call_park = { pickup_timeout = "10s", max_recall_attempts = 2, recall_ring_time = "5s" } }
"#;

const BROKEN: &str = r#"local base = require "default"
return base:extend { call_park = {
  pickup_timout = "10m",
} }
"#;

/// The running timer is left alone, the next stage reads the new terms; a broken file changes nothing and is reported.
#[test]
fn the_next_timer_follows_a_policy_edited_while_a_call_waits() {
    let host = Host::start_with(&[("pools/east.lua", BEFORE)]);
    let alice = Line::register(&host, "alice");
    let bob = Line::register(&host, "bob");
    let parked = alice.run(Script::new("alice").answer().accept_offer().accept_offer().hung_up());
    let parker =
        Script::new("bob").call("1001").refer("7001").notified("100").notified("SIP/2.0 200").hang_up();
    bob.run(parker).succeeds();
    assert_eq!(host.one_parked(), "7001");
    let recalled = bob.run(Script::new("bob").decline_recall("Parked call 7001: Alice"));

    let deadline = || host.get("occupants")[0]["deadline"].clone();
    let revision = || host.json(&["policy", "status"])["revision"].as_u64().unwrap();
    let (first_deadline, first_revision) = (deadline(), revision());
    std::fs::write(host.path("policies/pools/east.lua"), EDITED).unwrap();
    let edited = wait_for("the edited policy", || Some(revision()).filter(|now| *now > first_revision));
    let occupant = &host.get("occupants")[0];
    // On a machine that busy the timer may have ended meanwhile.
    assert!(occupant["deadline"] == first_deadline || occupant["recalls"] != 0, "{occupant}");

    std::fs::write(host.path("policies/pools/east.lua"), BROKEN).unwrap();
    let refused = wait_for("the refusal of the broken policy", || {
        let status = host.json(&["policy", "status"]);
        status["last_error"][0].as_str().map(str::to_owned)
    });
    assert!(refused.contains("east.lua:3:") && refused.contains("did you mean pickup_timeout?"), "{refused}");
    assert_eq!(revision(), edited, "what was in force stays in force");
    let shown = host.cli(&["policy", "status"]);
    assert!(shown.code == Some(0) && shown.out.contains("east.lua:3:"), "{shown:?}");
    wait_for("a line in the log", || host.log().contains("east.lua:3:").then_some(()));
    let check = host.cli(&["policy", "check"]);
    assert!(check.code == Some(1) && check.err.contains("east.lua:3:"), "{check:?}");

    recalled.succeeds();
    // By the first policy this would have been the end of the call.
    all_succeed([bob.run(Script::new("bob").answer().pause(500).hang_up()), parked]);
    host.is_quiet();
}

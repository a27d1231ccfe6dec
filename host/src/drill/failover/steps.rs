//! What `--dry-run` tells.

/// One step of the drill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// In which phase.
    pub phase: &'static str,
    /// What is done and tried.
    pub does: &'static str,
    /// Only in a planned failover, or only in an unplanned one.
    pub planned: Option<bool>,
}

const fn step(phase: &'static str, does: &'static str) -> Step {
    Step { phase, does, planned: None }
}

const fn lost(phase: &'static str, does: &'static str) -> Step {
    Step { phase, does, planned: Some(false) }
}

const fn planned(phase: &'static str, does: &'static str) -> Step {
    Step { phase, does, planned: Some(true) }
}

/// All of them, in order.
pub const STEPS: &[Step] = &[
    step("before", "add 14 users drill-… and the pickup range drill-groups; register their phones"),
    step(
        "before",
        "one call that talks, one that is parked, one that was parked and retrieved, one that was picked up",
    ),
    step("before", "users of the backup park and retrieve; so they do in every phase from here on"),
    lost(
        "outage",
        "run --lose; wait until the loss is noticed; the phones of the pool turn to the backup's hosts",
    ),
    lost("outage", "talking calls are up and cannot be parked; the parked one is disconnected, or rescued"),
    lost(
        "during failover",
        "resiliency mode: register, hold, transfer; park and pickup are refused; fail over; again at once",
    ),
    planned(
        "during failover",
        "a phone rings; fail over; hold and transfer; park and pickup are refused; fetch the parked call",
    ),
    step(
        "after failover",
        "the pickup range goes to the backup; park and retrieve in its orbits; pick up; what rang before is not picked up",
    ),
    lost("after failover", "run --restore; wait for the pool's hosts"),
    step(
        "during failback",
        "a call is parked, a phone rings; fail back; at once: park and pickup are refused; the parked call stays",
    ),
    step(
        "after failback",
        "phones and pickup range go home; park and retrieve; fetch the parked call; what rang before is not picked up",
    ),
    step("after failback", "hang up; remove users and range"),
];

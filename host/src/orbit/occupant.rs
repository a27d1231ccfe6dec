//! A call in an orbit.

use serde_json::{Value, json};
use switchyard_sdk::ext::orbit::{Resume, Terms};
use switchyard_sdk::types::{FlowId, LegId, Party};

use super::number::Number;
use crate::plugin::Waiter;
use crate::time::{Instant, Utc};

/// Where a call stands: reserved, parked, connecting. Freed is the absence of an occupant.
#[derive(Clone, PartialEq, Debug)]
pub enum State {
    /// Asked for, booked on the flow that asked. Claims wait.
    Reserved,
    /// Being written to the store until then. Claims wait.
    Storing {
        /// When the host stops waiting for the store.
        until: Instant,
    },
    /// Found in the store after a restart; its leg is not back yet. Claims wait.
    Restored,
    /// The record is stored, the call waits.
    Parked,
    /// Somebody has claimed it and is being connected.
    Connecting {
        /// Who.
        claimant: Box<Party>,
        /// The flow the claim is booked on. `None`: the host's own, for a call no flow looks after.
        flow: Option<FlowId>,
        /// Since when; comes back to the call as waiting time if connecting fails.
        since: Instant,
    },
}

impl State {
    /// The word for tables and events.
    pub const fn word(&self) -> &'static str {
        match self {
            State::Reserved | State::Storing { .. } => "reserved",
            State::Restored => "restoring",
            State::Parked => "parked",
            State::Connecting { .. } => "connecting",
        }
    }
}

/// A call in an orbit, or on its way into one.
#[derive(Clone, PartialEq, Debug)]
pub struct Occupant {
    /// The orbit.
    pub number: Number,
    /// The range's name when it was reserved.
    pub range: String,
    /// The range's pool.
    pub pool: String,
    /// The range's kind.
    pub kind: String,
    /// Whoever shows it gets this call or none (CP-19).
    pub token: String,
    /// Where it stands.
    pub state: State,
    /// The waiting leg. `None` for a trial reservation, and after a restart until the leg is back.
    pub leg: Option<LegId>,
    /// The flow that looks after it. `None` when that flow ended and no other has taken over.
    pub owner: Option<FlowId>,
    /// Who waits.
    pub parked: Party,
    /// Who parked.
    pub parker: Party,
    /// The host's part of the record. `deadline_ms` moves on by the time lost to claims that failed.
    pub terms: Terms,
    /// The plugin's part of the record.
    pub plugin_state: Value,
    /// The leg's part of the record.
    pub facts: Value,
    /// Since when it is in this orbit.
    pub since: Utc,
    /// Names this stay: an orbit's next call has another.
    pub(super) stay: u64,
    /// Who waits for something to happen to it, in the order they asked.
    pub(super) waiters: Vec<Waiter>,
}

impl Occupant {
    /// What a new flow needs to go on with this call; `None` while its leg is away or it is only reserved.
    pub fn resume(&self) -> Option<Resume> {
        match self.state {
            State::Reserved | State::Storing { .. } | State::Restored => None,
            State::Parked | State::Connecting { .. } => Some(Resume {
                number: self.number.to_string(),
                pool: self.pool.clone(),
                token: self.token.clone(),
                leg: self.leg?,
                parked: self.parked.clone(),
                parker: self.parker.clone(),
                terms: self.terms.clone(),
                state: self.plugin_state.clone(),
            }),
        }
    }

    /// The row of the administrative interface, for a call nobody is rung for. Of the plugin's state only `attempts`
    /// is shown, if it has one: how many recalls nobody answered.
    pub fn row(&self) -> Value {
        json!({
            "number": self.number.to_string(),
            "range": self.range,
            "pool": self.pool,
            "kind": self.kind,
            "state": self.state.word(),
            "parked": self.parked.label(),
            "parker": self.parker.label(),
            "claimant": match &self.state {
                State::Connecting { claimant, .. } => Some(claimant.label()),
                State::Reserved | State::Storing { .. } | State::Restored | State::Parked => None,
            },
            "since": self.since,
            "deadline": (self.terms.deadline_ms > 0).then_some(self.terms.deadline_ms),
            "recalls": self.plugin_state.get("attempts").and_then(Value::as_u64).unwrap_or_default(),
            "recalls_max": Value::Null,
            "ringing": Value::Null,
            "token": self.token,
        })
    }
}

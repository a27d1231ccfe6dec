//! `switchyard.orbit/1`: places a call can wait in.

use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::context::Context;
use crate::encode;
use crate::types::{LegId, Party};

/// Orbits, as a flow handles them: [`Context::orbits`](crate::Context::orbits).
#[derive(Clone, Copy)]
pub struct Orbits<'a>(pub(crate) &'a Context);

impl Orbits<'_> {
    /// Asks for a free orbit. The reservation is gone when the flow ends, unless it was committed.
    pub fn reserve(&self, reserve: &Reserve) -> Answer<Reserved> {
        let flow = self.0.flow_number();
        self.0.core().ask("reserve", |host, token| host.reserve(flow, token, &encode(reserve)))
    }

    /// Makes a reservation a parked call. Resolves once the record is stored.
    pub fn commit(&self, commit: &Commit) -> Answer<()> {
        let (flow, record) = (self.0.flow_number(), encode(commit));
        self.0.core().remember_stored(self.0.key(), &record);
        self.0.core().ask("commit", |host, token| host.commit(flow, token, &record))
    }

    /// Replaces terms and state of a parked call, written behind. Does nothing if that is what this flow
    /// committed or saved last.
    pub fn save(&self, commit: &Commit) {
        let (flow, record) = (self.0.flow_number(), encode(commit));
        if self.0.core().remember_stored(self.0.key(), &record) {
            let status = self.0.core().host.save(flow, &record);
            self.0.core().tell(flow, "save", status);
        }
    }

    /// Asks for the call in an orbit; exactly one claimant wins. Given back if the flow ends before
    /// [`Orbits::free`].
    pub fn claim(&self, claim: &Claim) -> Answer<Claimed> {
        let flow = self.0.flow_number();
        self.0.core().ask("claim", |host, token| host.claim(flow, token, &encode(claim)))
    }

    /// Waits for somebody to claim the call in `number`. Level-triggered.
    pub fn claimed(&self, number: &str) -> Answer<ClaimedBy> {
        let flow = self.0.flow_number();
        self.0.core().ask("claimed", |host, token| host.claimed(flow, token, number))
    }

    /// Waits until no claim on `number` is under way.
    pub fn settled(&self, number: &str) -> Answer<Settled> {
        let flow = self.0.flow_number();
        self.0.core().ask("settled", |host, token| host.settled(flow, token, number))
    }

    /// Takes the call out of the orbit.
    pub fn free(&self, number: &str, outcome: Outcome) {
        let flow = self.0.flow_number();
        let status = self.0.core().host.free(flow, number, &encode(&outcome));
        self.0.core().tell(flow, "free", status);
    }

    /// Gives a claim back: the call is parked again with the time it had left.
    pub fn unclaim(&self, number: &str) {
        let flow = self.0.flow_number();
        let status = self.0.core().host.unclaim(flow, number);
        self.0.core().tell(flow, "unclaim", status);
    }
}

/// Asks for a free orbit (extension function `reserve`). Answer: [`Reserved`], or a refusal
/// (35002 full, 35102 occupied, 35006 this leg is parked already, 35012 draining).
///
/// The reservation is booked on the flow and is gone when the flow ends, unless it was committed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reserve {
    /// Whose ranges to choose from.
    pub pool: String,
    /// A certain orbit (directed park), or any.
    pub number: Option<String>,
    /// How to choose among the free ones.
    pub choice: Choice,
    /// An orbit freed less than this ago is chosen only when no other is free.
    pub reuse_cooldown_ms: u64,
    /// The leg to be parked.
    pub leg: Option<LegId>,
    /// Who waits there, as shown to others.
    pub parked: Party,
    /// Who parks.
    pub parker: Party,
}

/// How a free orbit is chosen (CP-02).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Uniformly at random.
    #[default]
    Random,
    /// The lowest number.
    Lowest,
    /// The one whose last use is longest ago.
    LeastRecent,
}

/// Answer to [`Reserve`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reserved {
    /// The orbit.
    pub number: String,
    /// The call's token: whoever shows it gets this call or none (CP-19).
    pub token: String,
    /// The range's name.
    pub range: String,
}

/// Makes a reservation a parked call (extension function `commit`). Answer: success once the record is stored.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// The reserved orbit.
    pub number: String,
    /// The host's part of the record: alone it suffices to play, recall and end the call.
    pub terms: Terms,
    /// The plugin's part, at most 1 KiB, starting with its version. Readable by the previous minor version.
    pub state: serde_json::Value,
}

/// What the host must know to look after a parked call without its plugin. Times are milliseconds since 1970 (UTC).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// When the call was parked.
    pub parked_at_ms: u64,
    /// When the next stage (recall, on-timeout) is due.
    pub deadline_ms: u64,
    /// Where the call goes when nobody answers the recall; hang up if absent.
    pub on_timeout_uri: Option<String>,
    /// What it hears.
    pub music: crate::ext::call::Music,
}

/// Asks for the call in an orbit (extension function `claim`). Exactly one claimant wins.
/// Answer: [`Claimed`], or a refusal (35000 vacant, 35010 wrong token, 35101 lost, text says to whom).
///
/// A claim on an orbit that is still being reserved waits up to three seconds for it. The claim is booked on
/// the flow: if the flow ends before `free`, the call is parked again with the time it had left.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Claim {
    /// The orbit; absent for the call that waits longest in `pool`.
    pub number: Option<String>,
    /// The pool whose oldest call is meant.
    pub pool: String,
    /// The token, if the claimant has one.
    pub token: Option<String>,
    /// Who claims.
    pub claimant: Party,
}

/// Answer to [`Claim`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claimed {
    /// The orbit.
    pub number: String,
    /// The leg that waited there.
    pub leg: LegId,
    /// Who it is.
    pub party: Party,
}

/// Answer to the extension function `claimed`, with which the flow that looks after a parked call waits for
/// somebody to claim it. Level-triggered.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClaimedBy {
    /// Who.
    pub claimant: Party,
}

/// Answer to the extension function `settled`, which waits until a claim has come to its end.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settled {
    /// True when the call left the orbit; false when it is parked again.
    pub freed: bool,
    /// For a call that is parked again: when its next stage is due now, in milliseconds since 1970. The time the
    /// claim took has been added. 0: as it was.
    pub deadline_ms: u64,
}

/// How a call left its orbit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Somebody took it.
    Retrieved,
    /// The parker answered the recall.
    Recalled,
    /// The on-timeout address answered.
    OnTimeout,
    /// The parked party hung up.
    HungUp,
    /// The host ended it: time over, or nobody answered.
    Released,
    /// The park was never completed.
    Abandoned,
}

/// A parked call handed to a new flow, after a restart or a plugin reload: the payload of `RESUME`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Resume {
    /// The orbit.
    pub number: String,
    /// The orbit's pool.
    pub pool: String,
    /// The call's token.
    pub token: String,
    /// The waiting leg.
    pub leg: LegId,
    /// Who waits.
    pub parked: Party,
    /// Who parked.
    pub parker: Party,
    /// The host's part of the record.
    pub terms: Terms,
    /// The plugin's part of the record.
    pub state: serde_json::Value,
}

//! What plugins ask for. A plugin function only enqueues a [`Command`]; the engine applies it when no plugin runs.

use switchyard_sdk::ext::{call, orbit, ringing};
use switchyard_sdk::host::Command as Asked;
pub use switchyard_sdk::host::FlowEnd;
use switchyard_sdk::types::{FlowId, LegId, Refusal, Token};

use crate::time::Utc;

/// Names a loaded copy of a plugin. A reload makes a new one; never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InstanceId(pub u32);

/// Who waits for an answer: tokens are unique per instance only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Waiter {
    /// The instance that asked.
    pub instance: InstanceId,
    /// The token it chose.
    pub token: Token,
}

/// One request of a flow.
#[derive(Clone, PartialEq, Debug)]
pub struct Command {
    /// Who asks.
    pub instance: InstanceId,
    /// On behalf of which flow.
    pub flow: FlowId,
    /// What.
    pub verb: Verb,
}

/// What a flow can ask for. Those with a [`Token`] are answered exactly once, unless withdrawn or the flow ends.
#[derive(Clone, PartialEq, Debug)]
pub enum Verb {
    /// [`switchyard_sdk::abi::CallV1::play`].
    Play(Token, LegId, call::Play),
    /// [`switchyard_sdk::abi::CallV1::join`].
    Join(Token, LegId, LegId),
    /// [`switchyard_sdk::abi::CallV1::ring`].
    Ring(Token, call::Ring),
    /// [`switchyard_sdk::abi::CallV1::release`].
    Release(LegId, call::Release),
    /// [`switchyard_sdk::abi::CallV1::watch`].
    Watch(Token, LegId),
    /// [`switchyard_sdk::abi::CallV1::accept`].
    Accept(call::Accept),
    /// [`switchyard_sdk::abi::CallV1::refuse`].
    Refuse(Refusal),
    /// [`switchyard_sdk::abi::OrbitV1::reserve`].
    Reserve(Token, orbit::Reserve),
    /// [`switchyard_sdk::abi::OrbitV1::commit`].
    Commit(Token, orbit::Commit),
    /// [`switchyard_sdk::abi::OrbitV1::save`].
    Save(orbit::Commit),
    /// [`switchyard_sdk::abi::OrbitV1::claim`].
    Claim(Token, orbit::Claim),
    /// [`switchyard_sdk::abi::OrbitV1::claimed`].
    Claimed(Token, String),
    /// [`switchyard_sdk::abi::OrbitV1::settled`].
    Settled(Token, String),
    /// [`switchyard_sdk::abi::OrbitV1::free`].
    Free(String, orbit::Outcome),
    /// [`switchyard_sdk::abi::OrbitV1::unclaim`].
    Unclaim(String),
    /// [`switchyard_sdk::abi::RingingV1::list`].
    List(Token, ringing::Query),
    /// [`switchyard_sdk::abi::RingingV1::take`].
    Take(Token, ringing::Take),
    /// [`switchyard_sdk::abi::RingingV1::over`].
    Over(Token, LegId),
    /// [`switchyard_sdk::abi::RingingV1::tell`].
    Tell(ringing::Tell),
    /// [`switchyard_sdk::abi::TimerV1::at`].
    At(Token, Utc),
    /// [`switchyard_sdk::abi::HostTable::withdraw`]; `flow` of the command is 0.
    Withdraw(Token),
    /// The flow is over; how, and a message for the log.
    FlowEnd(FlowEnd, String),
}

impl Verb {
    /// The verb of a command a plugin gave; none if it came without the token it needs.
    pub(super) fn of(token: Option<Token>, command: Asked) -> Option<Self> {
        Some(match command {
            Asked::Play(playing) => Self::Play(token?, playing.leg, playing.play),
            Asked::Join(joining) => Self::Join(token?, joining.a, joining.b),
            Asked::Ring(ring) => Self::Ring(token?, ring),
            Asked::Release(leg, release) => Self::Release(leg, release),
            Asked::Watch(leg) => Self::Watch(token?, leg),
            Asked::Accept(accept) => Self::Accept(accept),
            Asked::Refuse(refusal) => Self::Refuse(refusal),
            Asked::Reserve(reserve) => Self::Reserve(token?, reserve),
            Asked::Commit(commit) => Self::Commit(token?, commit),
            Asked::Save(commit) => Self::Save(commit),
            Asked::Claim(claim) => Self::Claim(token?, claim),
            Asked::Claimed(number) => Self::Claimed(token?, number),
            Asked::Settled(number) => Self::Settled(token?, number),
            Asked::Free(number, outcome) => Self::Free(number, outcome),
            Asked::Unclaim(number) => Self::Unclaim(number),
            Asked::List(query) => Self::List(token?, query),
            Asked::Take(take) => Self::Take(token?, take),
            Asked::Over(leg) => Self::Over(token?, leg),
            Asked::Tell(tell) => Self::Tell(tell),
            Asked::At(utc) => Self::At(token?, Utc(utc.0)),
            Asked::Withdraw(token) => Self::Withdraw(token),
            Asked::End(how, message) => Self::FlowEnd(how, message),
        })
    }
}

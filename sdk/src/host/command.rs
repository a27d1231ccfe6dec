//! What a plugin asks for, as typed values.

use crate::abi::flow_end;
use crate::ext::call::{Accept, Play, Release, Ring};
use crate::ext::orbit::{Claim, Commit, Outcome, Reserve};
use crate::ext::ringing::{Query, Take, Tell};
use crate::types::{LegId, Refusal, Token, Utc};

/// One thing a flow asks for; the host function of the same name says what it means.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// [`crate::abi::CallV1::play`].
    Play(Playing),
    /// [`crate::abi::CallV1::join`].
    Join(Joining),
    /// [`crate::abi::CallV1::ring`].
    Ring(Ring),
    /// [`crate::abi::CallV1::release`].
    Release(LegId, Release),
    /// [`crate::abi::CallV1::watch`].
    Watch(LegId),
    /// [`crate::abi::CallV1::accept`].
    Accept(Accept),
    /// [`crate::abi::CallV1::refuse`].
    Refuse(Refusal),
    /// [`crate::abi::OrbitV1::reserve`].
    Reserve(Reserve),
    /// [`crate::abi::OrbitV1::commit`].
    Commit(Commit),
    /// [`crate::abi::OrbitV1::save`].
    Save(Commit),
    /// [`crate::abi::OrbitV1::claim`].
    Claim(Claim),
    /// [`crate::abi::OrbitV1::claimed`].
    Claimed(String),
    /// [`crate::abi::OrbitV1::settled`].
    Settled(String),
    /// [`crate::abi::OrbitV1::free`].
    Free(String, Outcome),
    /// [`crate::abi::OrbitV1::unclaim`].
    Unclaim(String),
    /// [`crate::abi::RingingV1::list`].
    List(Query),
    /// [`crate::abi::RingingV1::take`].
    Take(Take),
    /// [`crate::abi::RingingV1::over`].
    Over(LegId),
    /// [`crate::abi::RingingV1::tell`].
    Tell(Tell),
    /// [`crate::abi::TimerV1::at`].
    At(Utc),
    /// [`crate::abi::HostTable::withdraw`].
    Withdraw(Token),
    /// [`crate::abi::HostTable::flow_end`]: how, and a message for the log.
    End(FlowEnd, String),
}

/// A play command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Playing {
    /// To which leg.
    pub leg: LegId,
    /// What.
    pub play: Play,
}

/// A join command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joining {
    /// One leg.
    pub a: LegId,
    /// The other.
    pub b: LegId,
}

/// How a flow ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowEnd {
    /// It returned.
    Done,
    /// It returned an error.
    Failed,
    /// It panicked, or its plugin returned nonsense.
    Panicked,
    /// It rests; a newer copy of the plugin goes on from its record.
    Rested,
    /// The host ended it.
    Cancelled,
}

impl FlowEnd {
    /// As it crosses ([`flow_end`]); what is not known counts as broken.
    pub(crate) fn of(how: u32) -> Self {
        match how {
            flow_end::DONE => Self::Done,
            flow_end::FAILED => Self::Failed,
            flow_end::RESTED => Self::Rested,
            flow_end::CANCELLED => Self::Cancelled,
            _ => Self::Panicked,
        }
    }
}

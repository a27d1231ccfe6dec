//! What a plugin asked for, as values a test can look at.

use std::fmt;
use std::ops::Deref;

use serde::Serialize;

use crate::ext::call::{Accept, Answered, Play, Played, Release, Ring};
use crate::ext::orbit::{Claim, Claimed, Commit, Outcome, Reserve, Reserved};
use crate::types::{FlowId, LegId, Refusal, Token, Utc};

/// One thing a flow did, in the order in which it did it.
#[derive(Clone, PartialEq, Debug)]
pub struct Recorded {
    /// Which flow.
    pub flow: FlowId,
    /// The token of the answer it waits for, if the command has one.
    pub token: Option<Token>,
    /// What.
    pub command: Command,
}

/// What a flow can do.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "named and documented in switchyard_sdk::ext")]
pub enum Command {
    Play(Playing),
    Join(Joining),
    Ring(Ring),
    Release(LegId, Release),
    Watch(LegId),
    Accept(Accept),
    Refuse(Refusal),
    Reserve(Reserve),
    Commit(Commit),
    Save(Commit),
    Claim(Claim),
    Claimed(String),
    Settled(String),
    Free(String, Outcome),
    Unclaim(String),
    At(Utc),
    Withdraw(Token),
    End(FlowEnd, String),
}

impl Command {
    /// Waits are answered by what the test lets happen (a hang-up, a claim, time), not one by one.
    pub(crate) fn is_wait(&self) -> bool {
        matches!(self, Self::Watch(_) | Self::Claimed(_) | Self::Settled(_) | Self::At(_) | Self::Withdraw(_))
    }
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
    /// It panicked.
    Panicked,
    /// It rested when the plugin was drained.
    Rested,
    /// The host ended it.
    Cancelled,
}

/// A command that waits for the test's answer. Reads like the request it carries.
#[derive(Clone, PartialEq, Debug)]
pub struct Asked<R> {
    /// Which flow asks.
    pub flow: FlowId,
    /// Names the answer.
    pub token: Token,
    /// What it asks for.
    pub request: R,
}

impl<R> Deref for Asked<R> {
    type Target = R;
    fn deref(&self) -> &R {
        &self.request
    }
}

/// Requests that are answered, each with its own type of answer.
pub trait Request: Clone {
    /// What the host answers when it succeeded.
    type Answer: Serialize;
    /// The request, if `command` is one.
    #[doc(hidden)]
    fn of(command: &Command) -> Option<Self>;
    /// What a failed expectation calls it.
    #[doc(hidden)]
    const WORD: &'static str;
}

macro_rules! requests {
    ($($variant:ident($request:ty) -> $answer:ty, $word:literal;)*) => {
        $(
            impl Request for $request {
                type Answer = $answer;
                const WORD: &'static str = $word;
                fn of(command: &Command) -> Option<Self> {
                    match command {
                        Command::$variant(request) => Some(request.clone()),
                        _ => None,
                    }
                }
            }
        )*
    };
}

requests! {
    Play(Playing) -> Played, "play";
    Join(Joining) -> (), "join";
    Ring(Ring) -> Answered, "ring";
    Reserve(Reserve) -> Reserved, "reserve";
    Commit(Commit) -> (), "commit";
    Claim(Claim) -> Claimed, "claim";
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flow {}: {:?}", self.flow.0, self.command)
    }
}

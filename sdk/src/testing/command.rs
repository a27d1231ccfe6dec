//! What a plugin asked for, as values a test can look at.

use std::fmt;
use std::ops::Deref;

use serde::Serialize;

use crate::ext::call::{Answered, Played, Ring};
use crate::ext::orbit::{Claim, Claimed, Commit, Reserve, Reserved};
use crate::ext::ringing::{Query, Take, Waiting};
use crate::host::{Command, Joining, Playing};
use crate::types::{FlowId, Token};

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

impl Recorded {
    /// Waits are answered by what the test lets happen (a hang-up, a claim, time), not one by one.
    pub(crate) fn is_wait(&self) -> bool {
        use Command::{At, Claimed, Over, Settled, Watch, Withdraw};
        matches!(self.command, Watch(_) | Claimed(_) | Settled(_) | Over(_) | At(_) | Withdraw(_))
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flow {}: {:?}", self.flow.0, self.command)
    }
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
    List(Query) -> Waiting, "list";
    Take(Take) -> (), "take";
}

//! `switchyard.ringing/1`: calls that ring at a user, and who may take them instead.
//!
//! The host queues each ringing call under the pickup groups of its callee, the one that rings longest first, and
//! offers it ([`How::Ringing`](crate::types::How::Ringing)) to the plugin that handles ranges of the first group's kind, if
//! that plugin declares this extension. Who dials a group, or names one phone, is offered as any other call: the
//! plugin asks what rings there ([`Ringing::list`]), chooses, and takes it ([`Ringing::take`]).

use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::context::Context;
use crate::encode;
use crate::types::{LegId, Party};

/// Ringing calls, as a flow handles them: [`Context::ringing`](crate::Context::ringing).
#[derive(Clone, Copy)]
pub struct Ringing<'a>(pub(crate) &'a Context);

impl Ringing<'_> {
    /// What could be taken now. Only a [`take`](Self::take) decides.
    pub fn list(&self, query: &Query) -> Answer<Waiting> {
        let flow = self.0.flow_number();
        self.0.core().ask("list", |host, token| host.list(flow, token, &encode(query)))
    }

    /// Takes a call; exactly one taker wins, and everybody else who rings for it is cancelled as answered
    /// elsewhere. Resolves when caller and picker are joined; after a refusal it rings on.
    pub fn take(&self, take: &Take) -> Answer<()> {
        let flow = self.0.flow_number();
        self.0.core().ask("take", |host, token| host.take(flow, token, &encode(take)))
    }

    /// Waits until the call of this leg does not ring any more. Level-triggered.
    pub fn over(&self, leg: LegId) -> Answer<Over> {
        let flow = self.0.flow_number();
        self.0.core().ask("over", |host, token| host.over(flow, token, leg.0))
    }

    /// Tells the members of a group something, on each of their phones that takes MESSAGE. Best effort.
    pub fn tell(&self, tell: &Tell) {
        let flow = self.0.flow_number();
        let status = self.0.core().host.tell(flow, &encode(tell));
        self.0.core().tell(flow, "tell", status);
    }
}

/// Which calls are meant (extension function `list`). Answer: [`Waiting`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Query {
    /// Those that ring in the group with this number.
    pub number: Option<String>,
    /// Those at this user: a name or an extension. Calls they hold, parked or are rung back for are listed too.
    pub callee: Option<String>,
}

/// Answer to [`Query`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// The calls: first those that ring, the longest first, then those that wait otherwise.
    pub calls: Vec<WaitingCall>,
    /// What became of the last call that rang there, if that was a moment ago: `taken by Ana 0.4 s ago`.
    pub last: Option<String>,
}

/// A call that somebody could take.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WaitingCall {
    /// The leg of the caller; names the call.
    pub leg: LegId,
    /// What it does.
    #[serde(default)]
    pub state: WaitState,
    /// Who calls.
    #[serde(default)]
    pub caller: Party,
    /// The user at whom it rings, or who holds or parked it.
    #[serde(default)]
    pub callee: Party,
    /// How it came to ring there.
    #[serde(default)]
    pub routing: Routing,
    /// It was dialled on the callee's private number.
    #[serde(default)]
    pub private: bool,
    /// The caller is one whose calls the callee has excluded from pickup.
    #[serde(default)]
    pub excluded: bool,
    /// Since when, in milliseconds since 1970.
    #[serde(default)]
    pub since_ms: u64,
}

/// What a call does that could be taken. Complete on purpose, unlike [`Routing`]: a plugin hands it back when it takes the
/// call, so plugin and host both decide about each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitState {
    /// It rings at the callee.
    #[default]
    Ringing,
    /// It is parked, and rings back the callee, who parked it.
    Recalling,
    /// It waits in an orbit; the callee parked it.
    Parked,
    /// The callee has put it on hold.
    Held,
}

/// How a call came to ring at its callee (GCP-08, GCP-09). There will be more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Routing {
    /// At the callee's own phones, and those that ring along.
    #[default]
    Direct,
    /// Also at the callee's team.
    Team,
    /// Also at the callee's delegates.
    Delegates,
}

/// Takes a call (extension function `take`). Refused with 35101 when somebody was faster; the text says who, or what
/// became of the call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Take {
    /// The call: [`WaitingCall::leg`].
    pub leg: LegId,
    /// In the state in which it was chosen: a ringing call that was answered meanwhile is not stolen.
    #[serde(default)]
    pub state: WaitState,
    /// The picker's leg, which waits for an answer. None: the picker's phones are rung, and whoever answers first has
    /// the call.
    #[serde(default)]
    pub by: Option<LegId>,
    /// Who takes it.
    #[serde(default)]
    pub picker: Party,
    /// Whether phones that stop ringing shall show a missed call.
    #[serde(default)]
    pub missed: bool,
    /// What the callee is told, on a phone that takes MESSAGE.
    #[serde(default)]
    pub text: Option<String>,
    /// The group in which it was found, for those who watch.
    #[serde(default)]
    pub group: Option<String>,
}

/// Answer to the extension function `over`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Over {
    /// What became of it: `taken by Ana`, `the caller hung up`.
    pub text: String,
}

/// Tells the members of a group something (extension function `tell`).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tell {
    /// The group's number.
    pub group: String,
    /// Users who are not told.
    pub except: Vec<String>,
    /// The words.
    pub text: String,
    /// For how long they matter, in milliseconds; a phone does not show them later (RFC 3428 §10).
    pub for_ms: u64,
}

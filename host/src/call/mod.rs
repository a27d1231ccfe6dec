//! Calls: legs joined by the host, each with its own dialog and its own side of offer/answer.
//!
//! [`Calls`] owns every leg and every [`Operation`] on them. It knows SIP and media commands, and nothing of users,
//! orbits or plugins: who asked for something is an [`Origin`], and what became of it is a [`Notice`] the engine
//! takes from [`Calls::poll_notice`].
//!
//! Where things are: `incoming` (a phone's INVITE), `branch` (an INVITE of ours), `operation` (what changes a session:
//! relay, play, connect), `request` (requests inside a dialog), `refer` (transfer), `release` (the end of legs).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use switchyard_sdk::types::{Code, FlowId, LegId, Party};

use crate::engine::AdminId;
use crate::engine::core::Core;
use crate::engine::timers::Timer;
use crate::plugin::Waiter;
use crate::sip::{DialogId, Message, Replaces, ServerId, Status};
use crate::tracked::Tracked;

mod audit;
mod branch;
mod early;
mod identity;
mod incoming;
mod leg;
mod media;
pub mod negotiation;
mod operation;
mod refer;
mod refused;
mod reject;
mod release;
mod request;
mod restore;
pub mod session_timer;
mod timer;

pub use branch::{Candidate, Headers};
pub use incoming::{Rejection, check_require};
pub use leg::{Abilities, ForWhom, Leg, Peer, State, Trunk};
pub use operation::{Operation, Ringing, RingsNow};
pub use refer::{Referral, SubscriptionId};
pub use reject::{reason_header, status_for, warning};
pub use restore::LegFacts;

/// Names an operation under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OpId(pub u64);

/// On whose behalf an operation runs, and so who hears of its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A phone's own re-INVITE or UPDATE: it is answered, nobody else is told.
    Phone,
    /// Nobody: a leg gets back what it should hear, after its session was changed for a peer it did not get.
    Mend,
    /// A plugin's command.
    Plugin(Waiter),
    /// A transfer; its subscriber is told.
    Refer(SubscriptionId),
    /// An INVITE with Replaces: the leg that is replaced.
    Replaces(LegId),
    /// The host's own last resort for a waiting leg that nobody looks after any more.
    Fallback(LegId),
    /// An administrative request.
    Admin(AdminId),
    /// A call taken up again after a restart.
    Restore,
}

/// What an operation achieved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    /// The leg hears the host, or waits in silence.
    Played {
        /// Whether it hears anything.
        audible: bool,
    },
    /// Two legs are joined.
    Joined,
    /// A rung phone answered and is joined with the waiting leg.
    Answered {
        /// The new leg.
        leg: LegId,
    },
}

/// Why an operation failed. Both its legs are as they were before, unless one of them has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failed {
    /// The reason code.
    pub code: Code,
    /// The SIP status behind it, or 0.
    pub status: u16,
    /// One sentence.
    pub text: String,
}

impl Failed {
    fn new(code: Code, status: u16, text: impl Into<String>) -> Self {
        Self { code, status, text: text.into() }
    }
}

/// What the engine must know.
#[derive(Debug)]
pub enum Notice {
    /// An operation came to its end.
    Finished {
        /// For whom it ran.
        origin: Origin,
        /// The leg it was about.
        leg: LegId,
        /// What became of it.
        result: Result<Done, Failed>,
    },
    /// A rung phone answered for the call in an orbit: may it have the call? [`Calls::permit`] must follow.
    Claim {
        /// The operation.
        operation: OpId,
        /// For whom it runs.
        origin: Origin,
        /// The orbit.
        number: String,
        /// Who answered.
        party: Party,
    },
    /// A leg is over and forgotten.
    Ended {
        /// The leg.
        leg: LegId,
        /// Who it was.
        party: Party,
        /// Whether they hung up themselves.
        by_party: bool,
        /// Whether it had been answered.
        answered: bool,
        /// In words.
        reason: String,
        /// The flow that was deciding about it.
        flow: Option<FlowId>,
        /// Its Call-ID.
        call_id: String,
        /// The other leg of a parker who parked by dialling.
        twin: Option<LegId>,
    },
    /// A phone asks for a transfer. [`Calls::refer_accepted`] or `refer_refused` was already answered; the engine
    /// decides where it goes.
    Referred(Box<Referral>),
    /// A phone has put its peer on hold, or taken it back.
    Held {
        /// The phone's leg.
        leg: LegId,
        /// On or off.
        held: bool,
    },
    /// A first 2xx was sent or received: two parties can talk.
    Answered {
        /// The caller's leg.
        caller: LegId,
        /// The leg that answered.
        callee: LegId,
    },
    /// A leg is alone because its peer's phone hung up by itself when its transfer was refused.
    Stranded {
        /// The leg.
        leg: LegId,
    },
    /// Nobody is left who could answer a caller for whom the engine wanted to know (`Incoming::asks`): it rings somebody
    /// else, or gives up.
    Unanswered {
        /// The caller's leg.
        leg: LegId,
        /// What the last of them said; the most telling answer is kept for [`Calls::give_up`].
        status: Status,
    },
    /// An unanswered INVITE was cancelled by its caller and is answered.
    Cancelled {
        /// The leg, which ends next.
        leg: LegId,
    },
}

/// What may have changed among the legs.
#[derive(Debug, Default)]
pub struct Touched {
    /// The users of ours whose legs they are.
    pub users: BTreeSet<String>,
    /// The legs, among them some that are gone.
    pub legs: BTreeSet<LegId>,
}

/// See the module.
#[derive(Default)]
pub struct Calls {
    legs: Tracked<LegId, Leg>,
    dialogs: BTreeMap<DialogId, LegId>,
    /// Users of legs that are gone since [`Calls::take_touched`].
    left: BTreeSet<String>,
    /// The legs of each user of ours: who looks for a user's calls must not look at everybody's.
    by_user: BTreeMap<String, BTreeSet<LegId>>,
    invites: BTreeMap<ServerId, LegId>,
    operations: BTreeMap<OpId, Operation>,
    /// Operations that wait until their legs have nothing under way, in the order they were asked for.
    queue: VecDeque<Operation>,
    notices: VecDeque<Notice>,
    subscriptions: BTreeMap<SubscriptionId, refer::Subscription>,
    early_offers: BTreeMap<crate::sip::ClientId, early::EarlyOffer>,
    streams: BTreeMap<crate::media::StreamId, LegId>,
    /// Our 2xx that nobody has acknowledged yet, in legs that others serve by now. They cannot send them again.
    unacknowledged: BTreeMap<LegId, leg::AwaitAck>,
}

impl Calls {
    /// The leg, if it has not ended.
    pub fn leg(&self, id: LegId) -> Option<&Leg> {
        self.legs.get(&id)
    }

    /// The leg, to change what the engine may change: who looks after it.
    pub fn leg_mut(&mut self, id: LegId) -> Option<&mut Leg> {
        self.legs.get_mut(&id)
    }

    /// Every leg, oldest first.
    pub fn legs(&self) -> impl Iterator<Item = &Leg> {
        self.legs.values()
    }

    /// The legs of a user of ours, oldest first.
    pub fn legs_of(&self, user: &str) -> impl Iterator<Item = &Leg> {
        self.by_user.get(user).into_iter().flatten().filter_map(|id| self.legs.get(id))
    }

    /// The legs that may have changed, come or gone since the last call.
    pub fn take_touched(&mut self) -> Touched {
        let mut touched = Touched { users: std::mem::take(&mut self.left), legs: BTreeSet::new() };
        for id in self.legs.take_touched() {
            if touched.legs.insert(id) {
                touched.users.extend(self.legs.get(&id).and_then(|leg| leg.party.user.clone()));
            }
        }
        touched
    }

    /// Takes a new leg in.
    fn insert(&mut self, leg: Leg) {
        let id = leg.id;
        self.legs.insert(id, leg);
        self.list_under(id, None);
    }

    /// A leg is listed under its user, and under nobody who was there before.
    fn list_under(&mut self, id: LegId, before: Option<&str>) {
        if let Some(user) = before {
            self.unlist(id, user);
        }
        if let Some(user) = self.legs.get(&id).and_then(|leg| leg.party.user.clone()) {
            self.by_user.entry(user).or_default().insert(id);
        }
    }

    fn unlist(&mut self, id: LegId, user: &str) {
        let Some(legs) = self.by_user.get_mut(user) else { return };
        self.left.insert(user.to_owned());
        legs.remove(&id);
        if legs.is_empty() {
            self.by_user.remove(user);
        }
    }

    /// The leg and dialog a request belongs to, by its Call-ID and tags (RFC 3261 §12.2.2).
    pub fn leg_of(&self, request: &Message) -> Option<LegId> {
        let id = DialogId {
            call_id: request.call_id().to_owned(),
            local_tag: request.to_tag()?.to_owned(),
            remote_tag: request.from_tag().to_owned(),
        };
        self.dialogs.get(&id).copied()
    }

    /// Whether a leg of this dialog is here, on this side of it: a call between two pools has both sides on one host when
    /// that serves both.
    pub fn has_dialog(&self, id: &DialogId) -> bool {
        self.dialogs.contains_key(id)
    }

    /// The leg a dialog identifier names, tags in either order (design.md §7: phones disagree).
    pub fn leg_named(&self, call_id: &str, one_tag: &str, other_tag: &str) -> Option<LegId> {
        let id = |local: &str, remote: &str| DialogId {
            call_id: call_id.to_owned(),
            local_tag: local.to_owned(),
            remote_tag: remote.to_owned(),
        };
        self.dialogs
            .get(&id(one_tag, other_tag))
            .or_else(|| self.dialogs.get(&id(other_tag, one_tag)))
            .copied()
    }

    /// The dialog of the one ringing phone with this Call-ID, for a Replaces that names no tags. It is good for a
    /// pickup only: whoever does not know the tags has not seen who answered.
    pub fn ringing_with(&self, call_id: &str) -> Option<Replaces> {
        let from = DialogId { call_id: call_id.to_owned(), ..DialogId::default() };
        let named = self.dialogs.range(from..).take_while(|(id, _)| id.call_id == call_id);
        let mut ringing = named
            .filter(|(_, leg)| self.legs.get(leg).is_some_and(|leg| leg.rung && leg.state == State::Early));
        let (id, _) = ringing.next()?;
        Some(Replaces {
            call_id: id.call_id.clone(),
            to_tag: id.local_tag.clone(),
            from_tag: id.remote_tag.clone(),
            early_only: true,
        })
    }

    /// The leg whose unanswered INVITE this is.
    pub fn leg_of_invite(&self, server: ServerId) -> Option<LegId> {
        self.invites.get(&server).copied()
    }

    /// The next thing the engine must know.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// The leg on the other side.
    pub fn peer_of(&self, leg: LegId) -> Option<LegId> {
        match self.legs.get(&leg)?.peer {
            Peer::Leg(peer) => Some(peer),
            Peer::None | Peer::Host => None,
        }
    }

    /// Live legs, operations, subscriptions, streams: all zero when the world is quiet.
    pub fn counts(&self) -> [usize; 4] {
        [
            self.legs.len(),
            self.operations.len() + self.queue.len(),
            self.subscriptions.len(),
            self.streams.len(),
        ]
    }

    fn index(&mut self, leg: LegId) {
        if let Some(l) = self.legs.get(&leg) {
            for id in l.dialog_ids() {
                self.dialogs.insert(id, leg);
            }
        }
    }

    fn notify(&mut self, notice: Notice) {
        self.notices.push_back(notice);
    }

    /// Makes two legs each other's peer. Whoever was their peer before has none now, and a transferor's time to hang up.
    fn link(&mut self, cx: &mut Core, a: LegId, b: LegId) {
        for (one, other) in [(a, b), (b, a)] {
            let Some(leg) = self.legs.get_mut(&one) else { continue };
            // Whatever it was to be cleared for is over.
            cx.timers.cancel(Timer::Clear(one));
            leg.in_doubt = false;
            let before = std::mem::replace(&mut leg.peer, Peer::Leg(other));
            if let Peer::Leg(old) = before
                && old != other
                && let Some(old) = self.legs.get_mut(&old)
                && old.peer == Peer::Leg(one)
            {
                old.peer = Peer::None;
                let old = old.id;
                self.clear_later(cx, old, refer::CLEAR_AFTER);
            }
        }
        let call = self.legs.get(&a).map(|leg| leg.call);
        if let (Some(call), Some(leg)) = (call, self.legs.get_mut(&b)) {
            leg.call = call;
        }
    }
}

//! What changes a session: the four joins of design.md §3, and the host's own media.
//!
//! An operation owns the offer/answer of its legs until it ends ([`Leg::busy`](crate::call::Leg)). One that is asked for
//! while a leg is busy waits its turn. A 491 is tried again (RFC 3261 §14.1); any other failure leaves both legs as
//! they were.

mod connect;
mod outcome;
mod pickup;
mod play;
mod relay;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use switchyard_sdk::ext::call::Attempt;
use switchyard_sdk::types::{Code, LegId, Party};

use crate::call::branch::{Candidate, Headers, elsewhere};
use crate::call::leg::{ForWhom, Peer, State};
use crate::call::negotiation::{Directions, HostCodecs, Negotiation};
use crate::call::{Calls, Done, Failed, Notice, OpId, Origin};
use crate::engine::core::{Core, Owner};
use crate::engine::timers::Timer;
use crate::media::Playlist;
use crate::sip::{Message, Method, Name, Status};
use crate::time::Instant;

/// How often a 491 is met before an operation gives up: with pauses of up to four seconds this outlasts any
/// exchange the other side can have under way.
const ATTEMPTS_MAX: u8 = 6;

/// How often two established phones are told of each other's new address before it is left at that.
const ROUNDS_MAX: u8 = 2;

/// How many operations may wait for one leg. A phone that never answers its re-INVITE blocks them for 32 s at most.
pub(in crate::call) const QUEUE_MAX: usize = 8;

/// Something under way that changes sessions.
#[derive(Debug)]
pub struct Operation {
    id: OpId,
    origin: Origin,
    attempts: u8,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// The leg's media comes from the host.
    Play { leg: LegId, playlist: Playlist, stage: PlayStage },
    /// `from` asked for a change; `to` is asked, and its answer is `from`'s answer. With `joins`, they are strangers
    /// who become peers: established + offering.
    Relay { from: LegId, to: LegId, joins: bool, stage: RelayStage },
    /// `a` waits, `b` is rung or established: established + not yet invited, established + established.
    Connect { a: LegId, b: Option<LegId>, rounds: u8, ringing: Box<Ringing>, stage: ConnectStage },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PlayStage {
    /// The stream's port is being booked.
    Opening,
    /// The host's offer is under way; `silent` when it is the second one, without media.
    Offered { silent: bool },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum RelayStage {
    /// `to` has the request.
    Asked,
    /// `to` has made an offer in its 2xx, `from` has it in ours, and owes the answer in its ACK.
    AwaitAck,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ConnectStage {
    /// Candidates ring.
    Ringing,
    /// Someone answered; the orbit decides whether they may have the call.
    Claiming,
    /// `b` has our offer of `a`.
    OfferB,
    /// `a` has our offer of `b`.
    OfferA,
}

/// Whom to ring for a waiting leg, and how.
#[derive(Debug, Default)]
pub struct Ringing {
    /// Groups of phones: the next group rings when all of one have failed, or half the time is over.
    pub groups: VecDeque<Vec<Candidate>>,
    /// What the INVITEs say.
    pub headers: Headers,
    /// Give up after this.
    pub timeout: Option<Duration>,
    /// What of it is left when the present wait is over.
    pub time_left: Duration,
    /// The orbit whose call it is: an answer must first win its claim.
    pub claims: Option<String>,
    /// Which of how many tries this is, if whoever asked counts them.
    pub attempt: Option<Attempt>,
    /// Phones ringing now.
    pub branches: Vec<LegId>,
    /// The most telling failure so far.
    pub worst: Option<Status>,
}

/// What goes on for a call in an orbit while phones ring for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RingsNow {
    /// The orbit.
    pub number: String,
    /// Who is rung, as phones show them; each once.
    pub whom: Vec<String>,
    /// Which of how many tries.
    pub attempt: Option<Attempt>,
    /// When it gives up.
    pub until: Option<Instant>,
}

impl Operation {
    fn legs(&self) -> [Option<LegId>; 2] {
        match &self.kind {
            Kind::Play { leg, .. } => [Some(*leg), None],
            Kind::Relay { from, to, .. } => [Some(*from), Some(*to)],
            Kind::Connect { a, b, stage, .. } => match stage {
                // While phones ring the waiting leg is free: it may be retrieved, or hold and resume.
                ConnectStage::Ringing | ConnectStage::Claiming => [None, None],
                ConnectStage::OfferB | ConnectStage::OfferA => [Some(*a), *b],
            },
        }
    }

    /// Whether this operation, if it succeeds, gives the leg another peer than it has.
    pub(in crate::call) fn gives_peer_to(&self, leg: LegId) -> bool {
        match &self.kind {
            Kind::Play { leg: played, .. } => *played == leg,
            Kind::Relay { from, to, joins, .. } => *joins && (*from == leg || *to == leg),
            Kind::Connect { a, b, .. } => *a == leg || *b == Some(leg),
        }
    }

    /// Whether it owns, or will own, the offer/answer of this leg.
    pub(in crate::call) fn is_on(&self, leg: LegId) -> bool {
        self.legs().contains(&Some(leg))
    }

    fn subject(&self) -> LegId {
        match &self.kind {
            Kind::Play { leg, .. } => *leg,
            Kind::Relay { to, .. } => *to,
            Kind::Connect { a, .. } => *a,
        }
    }
}

impl Calls {
    /// Joins two legs, whatever state each is in. Ends in [`Done::Joined`].
    pub fn join(&mut self, cx: &mut Core, origin: Origin, a: LegId, b: LegId) -> OpId {
        if [a, b].iter().all(|id| self.legs.get(id).is_some_and(|leg| leg.incoming.is_some())) {
            return self.pickup(cx, origin, a, b, false);
        }
        let unanswered = |id| {
            self.legs
                .get(&id)
                .is_some_and(|leg| leg.incoming.is_some() || leg.request.is_some() && leg.busy.is_none())
        };
        let kind = match (unanswered(a), unanswered(b)) {
            (true, false) => Kind::Relay { from: a, to: b, joins: true, stage: RelayStage::Asked },
            (false, true) => Kind::Relay { from: b, to: a, joins: true, stage: RelayStage::Asked },
            (false, false) | (true, true) => Kind::Connect {
                a,
                b: Some(b),
                rounds: 0,
                ringing: Box::default(),
                stage: ConnectStage::OfferB,
            },
        };
        self.begin(cx, origin, kind)
    }

    fn begin(&mut self, cx: &mut Core, origin: Origin, kind: Kind) -> OpId {
        let id = OpId(cx.fresh_id());
        let operation = Operation { id, origin, attempts: 0, kind };
        let waiting_for = operation.legs();
        let queued = self
            .queue
            .iter()
            .filter(|op| op.legs().iter().flatten().any(|leg| waiting_for.contains(&Some(*leg))))
            .count();
        if queued >= QUEUE_MAX {
            let failed = Failed::new(Code::GENERAL, 500, "too many changes of one call at once");
            self.report(&operation, Err(failed));
            return id;
        }
        self.queue.push_back(operation);
        self.advance_queue(cx);
        id
    }

    /// Starts what waits, as far as its legs are free.
    pub(in crate::call) fn advance_queue(&mut self, cx: &mut Core) {
        let mut waiting: Vec<LegId> = Vec::new();
        let mut at = 0;
        while at < self.queue.len() {
            let legs = self.queue[at].legs();
            // What came before it waits for this very answer.
            let overtakes = self.answers_request(&self.queue[at]);
            let ready = legs
                .iter()
                .flatten()
                .all(|leg| (overtakes || !waiting.contains(leg)) && self.is_ready(*leg, &self.queue[at]));
            if ready {
                if let Some(operation) = self.queue.remove(at) {
                    self.start(cx, operation);
                }
                // Starting one may end it and free its legs again.
                waiting.clear();
                at = 0;
            } else {
                waiting.extend(legs.iter().flatten());
                at += 1;
            }
        }
    }

    /// Whether it passes a request on that came while another operation waited for the same leg: no leg is idle with an answer owed.
    fn answers_request(&self, operation: &Operation) -> bool {
        matches!(operation.kind, Kind::Relay { from, .. }
            if self.legs.get(&from).is_some_and(|leg| leg.request.is_some()))
    }

    /// Whether nothing hinders the operation on this leg. One that is gone hinders nothing: `start` sees to it.
    fn is_ready(&self, id: LegId, operation: &Operation) -> bool {
        let Some(leg) = self.legs.get(&id) else { return true };
        if leg.busy.is_some() || leg.client.is_some() || leg.ack_owed.is_some() {
            return false;
        }
        match &operation.kind {
            // The request that this operation is to answer does not hinder it.
            Kind::Relay { from, .. } if *from == id => true,
            Kind::Play { .. } if leg.incoming.is_some() => true,
            _ => leg.is_idle() || leg.state == State::Early,
        }
    }

    fn start(&mut self, cx: &mut Core, operation: Operation) {
        let legs = operation.legs();
        if let Some(gone) = legs.into_iter().flatten().find(|leg| !self.legs.contains_key(leg)) {
            self.call_off(cx, &operation, gone);
            return;
        }
        if operation.origin == Origin::Mend && self.is_needless(&operation.kind) {
            return;
        }
        for leg in legs.into_iter().flatten() {
            if operation.origin == Origin::Mend {
                self.apply_correction(cx, leg);
            }
            if let Some(leg) = self.legs.get_mut(&leg) {
                leg.busy = Some(operation.id);
            }
        }
        let id = operation.id;
        self.operations.insert(id, operation);
        self.step(cx, id);
    }

    /// Whether there is nothing to mend any more: while it waited its turn the leg has got somebody else to talk to, and
    /// hears whom it should.
    fn is_needless(&self, kind: &Kind) -> bool {
        let peer = |leg| self.legs.get(leg).map(|leg| &leg.peer);
        match kind {
            Kind::Play { leg, .. } => peer(leg) != Some(&Peer::Host),
            Kind::Connect { a, b: Some(b), .. } => peer(a) != Some(&Peer::Leg(*b)),
            Kind::Connect { b: None, .. } | Kind::Relay { .. } => false,
        }
    }

    /// Sends the request of the stage an operation has reached.
    fn step(&mut self, cx: &mut Core, id: OpId) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        match &mut operation.kind {
            Kind::Play { leg, .. } => {
                let leg = *leg;
                self.open_stream(cx, id, leg);
            }
            Kind::Relay { from, to, joins, .. } => {
                let (from, to, joins) = (*from, *to, *joins);
                self.step_relay(cx, id, from, to, joins);
            }
            Kind::Connect { stage: ConnectStage::Ringing, ringing, .. } => {
                if let Some(timeout) = ringing.timeout {
                    // With more than one group the first has half the time for itself; then the next rings beside it.
                    let first = if ringing.groups.len() > 1 { timeout / 2 } else { timeout };
                    ringing.time_left = timeout.saturating_sub(first);
                    cx.after(Timer::Operation(id), first);
                }
                self.ring_next(cx, id);
            }
            Kind::Connect { stage: ConnectStage::Claiming, .. } => {}
            Kind::Connect { a, b, stage, .. } => {
                let (offer_to, describe, fresh) = match (stage, *b) {
                    (ConnectStage::OfferB, Some(b)) => (b, *a, Directions::Fresh),
                    (ConnectStage::OfferA, Some(b)) => (*a, b, Directions::AsIs),
                    _ => return,
                };
                let Some(sdp) = self.legs.get(&describe).and_then(|leg| leg.negotiation.remote()).cloned()
                else {
                    self.fail(cx, id, Failed::new(Code::NOT_ACCEPTABLE, 488, "one side has no session yet"));
                    return;
                };
                let identity = self.legs.get(&describe).map(|leg| leg.party.clone());
                let Some(leg) = self.legs.get_mut(&offer_to) else { return };
                let body = leg.negotiation.offer_of(&sdp, fresh);
                self.send_reinvite(cx, offer_to, Some(body), identity.as_ref());
            }
        }
    }

    /// The operation failed for a reason of the host's own (no port left).
    pub(in crate::call) fn fail(&mut self, cx: &mut Core, id: OpId, failed: Failed) {
        self.finish(cx, id, Err(failed));
    }

    fn finish(&mut self, cx: &mut Core, id: OpId, result: Result<Done, Failed>) {
        let Some(operation) = self.operations.remove(&id) else { return };
        cx.timers.cancel(Timer::Retry(id));
        cx.timers.cancel(Timer::Operation(id));
        self.release_legs(&operation);
        self.report(&operation, result);
        self.advance_queue(cx);
    }

    fn release_legs(&mut self, operation: &Operation) {
        for leg in operation.legs().into_iter().flatten() {
            if let Some(leg) = self.legs.get_mut(&leg)
                && leg.busy == Some(operation.id)
            {
                leg.busy = None;
            }
        }
    }

    fn report(&mut self, operation: &Operation, result: Result<Done, Failed>) {
        if !matches!(operation.origin, Origin::Phone | Origin::Mend) {
            let notice = Notice::Finished { origin: operation.origin, leg: operation.subject(), result };
            self.notify(notice);
        }
    }

    /// Tells the engine when a phone has put its peer on hold, or taken it back.
    pub(in crate::call) fn notice_hold(&mut self, cx: &Core, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let holds = leg.negotiation.remote_holds();
        if holds != leg.held_at.is_some() {
            leg.held_at = holds.then_some(cx.now.instant);
            self.notify(Notice::Held { leg: id, held: holds });
        }
    }
}

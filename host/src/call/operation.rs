//! What changes a session: the four joins of design.md §3, and the host's own media.
//!
//! An operation owns the offer/answer of its legs until it ends ([`Leg::busy`](super::Leg)). One that is asked for
//! while a leg is busy waits its turn. A 491 is tried again (RFC 3261 §14.1); any other failure leaves both legs as
//! they were.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use switchyard_sdk::types::{Code, LegId, Party};

use super::branch::{Candidate, Headers, elsewhere};
use super::leg::{ForWhom, Peer, State};
use super::negotiation::{Directions, HostCodecs, Negotiation};
use super::{Calls, Done, Failed, Notice, OpId, Origin};
use crate::engine::core::{ALLOW, Core, Owner, SUPPORTED};
use crate::engine::timers::Timer;
use crate::media::Playlist;
use crate::sip::{Message, Method, Name, Status};

/// How often a 491 is met before an operation gives up: with pauses of up to four seconds this outlasts any
/// exchange the other side can have under way.
const ATTEMPTS_MAX: u8 = 6;

/// How often two established phones are told of each other's new address before it is left at that.
const ROUNDS_MAX: u8 = 2;

/// How many operations may wait for one leg. A phone that never answers its re-INVITE blocks them for 32 s at most.
const QUEUE_MAX: usize = 8;

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
    Connect { a: LegId, b: Option<LegId>, rounds: u8, ringing: Ringing, stage: ConnectStage },
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
    /// Groups of phones: the next group rings when all of one have failed.
    pub groups: VecDeque<Vec<Candidate>>,
    /// What the INVITEs say.
    pub headers: Headers,
    /// Give up after this.
    pub timeout: Option<Duration>,
    /// The orbit whose call it is: an answer must first win its claim.
    pub claims: Option<String>,
    /// Phones ringing now.
    pub branches: Vec<LegId>,
    /// The most telling failure so far.
    pub worst: Option<Status>,
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
    pub(super) fn gives_peer_to(&self, leg: LegId) -> bool {
        match &self.kind {
            Kind::Play { leg: played, .. } => *played == leg,
            Kind::Relay { to, joins, .. } => *joins && *to == leg,
            Kind::Connect { a, b, .. } => *a == leg || *b == Some(leg),
        }
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
    /// Takes a leg's media to the host. Ends in [`Done::Played`].
    pub fn play(&mut self, cx: &mut Core, origin: Origin, leg: LegId, playlist: Playlist) -> OpId {
        self.begin(cx, origin, Kind::Play { leg, playlist, stage: PlayStage::Opening })
    }

    /// Joins two legs, whatever state each is in. Ends in [`Done::Joined`].
    pub fn join(&mut self, cx: &mut Core, origin: Origin, a: LegId, b: LegId) -> OpId {
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
                ringing: Ringing::default(),
                stage: ConnectStage::OfferB,
            },
        };
        self.begin(cx, origin, kind)
    }

    /// Rings phones for a waiting leg and joins it with the first that answers. Ends in [`Done::Answered`].
    pub fn ring(&mut self, cx: &mut Core, origin: Origin, waiting: LegId, ringing: Ringing) -> OpId {
        let kind = Kind::Connect { a: waiting, b: None, rounds: 0, ringing, stage: ConnectStage::Ringing };
        self.begin(cx, origin, kind)
    }

    /// Passes a phone's own re-INVITE or UPDATE on to its peer.
    pub(super) fn relay(&mut self, cx: &mut Core, from: LegId, to: LegId) {
        self.begin(cx, Origin::Phone, Kind::Relay { from, to, joins: false, stage: RelayStage::Asked });
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
    pub(super) fn advance_queue(&mut self, cx: &mut Core) {
        let mut waiting: Vec<LegId> = Vec::new();
        let mut at = 0;
        while at < self.queue.len() {
            let legs = self.queue[at].legs();
            let ready = legs
                .iter()
                .flatten()
                .all(|leg| !waiting.contains(leg) && self.is_ready(*leg, &self.queue[at]));
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

    /// Whether nothing hinders the operation on this leg. One that is gone hinders nothing: `start` reports it.
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
        for leg in operation.legs().into_iter().flatten() {
            match self.legs.get_mut(&leg) {
                Some(leg) => leg.busy = Some(operation.id),
                None => {
                    self.release_legs(&operation);
                    self.report(&operation, Err(Failed::new(Code::LEG_GONE, 487, "the leg has ended")));
                    return;
                }
            }
        }
        let id = operation.id;
        self.operations.insert(id, operation);
        self.step(cx, id);
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
                    cx.after(Timer::Operation(id), timeout);
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

    fn step_relay(&mut self, cx: &mut Core, id: OpId, from: LegId, to: LegId, joins: bool) {
        let Some(asker) = self.legs.get(&from) else { return };
        let identity = joins.then(|| asker.party.clone());
        let offered =
            asker.negotiation.has_remote_offer().then(|| asker.negotiation.remote().cloned()).flatten();
        let update = asker.request.as_ref().is_some_and(|(_, request)| request.method() == Method::Update);
        if asker.incoming.is_none() && asker.request.is_none() {
            self.fail(cx, id, Failed::new(Code::LEG_GONE, 487, "the request was withdrawn"));
            return;
        }
        let Some(leg) = self.legs.get_mut(&to) else { return };
        let how = if joins { Directions::Fresh } else { Directions::AsIs };
        let body = offered.map(|sdp| leg.negotiation.offer_of(&sdp, how));
        if update && leg.abilities.update && body.is_some() {
            self.send_update(cx, to, body);
        } else {
            self.send_reinvite(cx, to, body, identity.as_ref());
        }
    }

    /// Sends a re-INVITE (RFC 3261 §14.1); its responses come back to the leg's operation.
    pub(super) fn send_reinvite(
        &mut self,
        cx: &mut Core,
        id: LegId,
        body: Option<Bytes>,
        identity: Option<&Party>,
    ) {
        let asserted = identity.map(|party| super::identity::asserted(cx, party));
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let mut draft = leg.dialog.request(Method::Invite);
        draft.add(Name::Contact, &leg.contact).add(Name::Allow, ALLOW).add(Name::Supported, SUPPORTED);
        if leg.session.interval.is_some() {
            leg.session.ask(&mut draft, None);
        }
        if let Some(asserted) = asserted {
            draft.add(Name::PAssertedIdentity, asserted);
        }
        if let Some(body) = body {
            draft.body("application/sdp", body);
        }
        leg.client = Some(cx.request(leg.dialog.flow, draft, Owner::Reinvite(id)));
    }

    fn send_update(&mut self, cx: &mut Core, id: LegId, body: Option<Bytes>) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let mut draft = leg.dialog.request(Method::Update);
        draft.add(Name::Contact, &leg.contact).add(Name::Allow, ALLOW).add(Name::Supported, SUPPORTED);
        if let Some(body) = body {
            draft.body("application/sdp", body);
        }
        leg.client = Some(cx.request(leg.dialog.flow, draft, Owner::Update(id)));
    }

    /// A leg accepted our re-INVITE or UPDATE. `body` is its answer, or its offer if we made none.
    pub(super) fn on_accepted(&mut self, cx: &mut Core, leg_id: LegId, response: &Message) {
        let invite = response.method() == Method::Invite;
        let cseq = response.cseq().number;
        let Some(leg) = self.legs.get_mut(&leg_id) else { return };
        let solicited = !leg.negotiation.has_local_offer();
        let Some(id) = leg.busy else {
            self.accepted_in_vain(cx, leg_id, response);
            return;
        };
        let body = response.sdp();
        let understood = match (&body, solicited) {
            (Some(body), false) => leg.negotiation.remote_answer(body).is_ok(),
            (Some(body), true) => leg.negotiation.remote_offer(body).is_ok(),
            (None, _) => false,
        };
        if invite {
            if understood && solicited {
                leg.ack_owed = Some(super::leg::AckOwed { cseq });
            } else {
                self.send_ack(cx, leg_id, cseq, None);
            }
        }
        if !understood {
            if let Some(leg) = self.legs.get_mut(&leg_id) {
                leg.negotiation.rollback();
            }
            self.on_declined(cx, leg_id, Status::NOT_ACCEPTABLE_HERE, None);
            return;
        }
        let Some(operation) = self.operations.get_mut(&id) else { return };
        match &mut operation.kind {
            Kind::Play { leg, stage, playlist } => {
                let silent = matches!(stage, PlayStage::Offered { silent: true });
                let (leg, playlist) = (*leg, playlist.clone());
                self.played(cx, id, leg, &playlist, silent);
            }
            Kind::Relay { from, to, stage, .. } => {
                let (from, to) = (*from, *to);
                if solicited {
                    *stage = RelayStage::AwaitAck;
                }
                self.relay_accepted(cx, id, from, to, solicited);
            }
            Kind::Connect { .. } => self.connect_accepted(cx, id),
        }
    }

    /// A leg accepted a change that nobody wants any more: its operation ended while the answer was on its way. The
    /// exchange is completed, then the leg gets back what it should hear.
    fn accepted_in_vain(&mut self, cx: &mut Core, id: LegId, response: &Message) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let answers_us = leg.negotiation.has_local_offer();
        let mut body = None;
        match response.sdp() {
            Some(sdp) if answers_us => {
                let _ = leg.negotiation.remote_answer(&sdp);
            }
            Some(sdp) if leg.negotiation.remote_offer(&sdp).is_ok() => {
                body = Some(leg.negotiation.standing_answer())
            }
            Some(_) | None => {}
        }
        leg.negotiation.rollback();
        if response.method() == Method::Invite {
            self.send_ack(cx, id, response.cseq().number, body);
        }
        self.mend(cx, id);
    }

    /// Gives a leg back what it should hear: its session was changed for a peer it did not get.
    fn mend(&mut self, cx: &mut Core, id: LegId) {
        let Some(leg) = self.legs.get(&id) else { return };
        match leg.peer {
            Peer::Host => {
                let playlist = Playlist { prompts: Vec::new(), then: leg.playlist.then.clone() };
                self.play(cx, Origin::Phone, id, playlist);
            }
            Peer::Leg(peer) => {
                self.join(cx, Origin::Phone, peer, id);
            }
            Peer::None => self.advance_queue(cx),
        }
    }

    fn relay_accepted(&mut self, cx: &mut Core, id: OpId, from: LegId, to: LegId, solicited: bool) {
        let Some(answerer) = self.legs.get(&to) else { return };
        let Some(sdp) = answerer.negotiation.remote().cloned() else { return };
        let identity = answerer.party.clone();
        let Some(leg) = self.legs.get_mut(&from) else { return };
        let body = if solicited {
            leg.negotiation.offer_of(&sdp, Directions::AsIs)
        } else {
            leg.negotiation.answer_of(&sdp)
        };
        if leg.incoming.is_some() {
            self.answer_invite(cx, from, None, body, Some(&identity));
        } else {
            self.answer_request(cx, from, body);
        }
        if !solicited {
            self.relay_done(cx, id);
        }
    }

    /// The ACK that answers the offer in our 2xx: the other side gets it in the ACK it waits for.
    pub(super) fn on_ack_answer(&mut self, cx: &mut Core, from: LegId, answer: Option<Bytes>) {
        let Some(leg) = self.legs.get_mut(&from) else { return };
        let answered = answer.is_some_and(|body| leg.negotiation.remote_answer(&body).is_ok());
        if !answered {
            leg.negotiation.rollback();
        }
        let operation = leg.busy;
        let sdp = leg.negotiation.remote().cloned();
        let peer = match (&leg.peer, operation.and_then(|id| self.operations.get(&id))) {
            (_, Some(Operation { kind: Kind::Relay { to, .. }, .. })) => Some(*to),
            (Peer::Leg(peer), _) => Some(*peer),
            _ => None,
        };
        if let Some(to) = peer
            && let Some(other) = self.legs.get_mut(&to)
            && let Some(owed) = other.ack_owed
        {
            // The other side made an offer and must have an answer, even if ours never came: then the one that
            // describes what stood before (RFC 6337 §3.1).
            let body = sdp.map(|sdp| other.negotiation.answer_of(&sdp));
            self.send_ack(cx, to, owed.cseq, body);
        }
        if let Some(id) = operation {
            if answered {
                self.relay_done(cx, id);
            } else {
                self.fail(cx, id, Failed::new(Code::NOT_ACCEPTABLE, 488, "the ACK carried no usable answer"));
            }
        }
    }

    fn relay_done(&mut self, cx: &mut Core, id: OpId) {
        let Some(operation) = self.operations.get(&id) else { return };
        let Kind::Relay { from, to, joins, .. } = operation.kind else { return };
        if joins {
            self.link(to, from);
            self.close_stream(cx, to);
            self.close_stream(cx, from);
        }
        self.finish(cx, id, Ok(Done::Joined));
        self.notice_hold(cx, from);
    }

    fn connect_accepted(&mut self, cx: &mut Core, id: OpId) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let Kind::Connect { a, b: Some(b), rounds, stage, .. } = &mut operation.kind else { return };
        let (a, b) = (*a, *b);
        let next = match stage {
            ConnectStage::OfferB => ConnectStage::OfferA,
            ConnectStage::OfferA => {
                // Does `b` know where `a` listens now? It was told of `a` as it was before.
                let is = self.legs.get(&a).and_then(|leg| leg.negotiation.remote());
                let known = match (self.legs.get(&b), is) {
                    (Some(told), Some(is)) => told.negotiation.describes(is),
                    _ => true,
                };
                if known || *rounds >= ROUNDS_MAX {
                    self.connected(cx, id, a, b);
                    return;
                }
                *rounds += 1;
                ConnectStage::OfferB
            }
            ConnectStage::Ringing | ConnectStage::Claiming => return,
        };
        *stage = next;
        self.step(cx, id);
    }

    fn connected(&mut self, cx: &mut Core, id: OpId, a: LegId, b: LegId) {
        let rung = self.operations.get(&id).is_some_and(|op| match &op.kind {
            Kind::Connect { ringing, .. } => ringing.timeout.is_some(),
            _ => false,
        });
        self.link(a, b);
        self.close_stream(cx, a);
        self.close_stream(cx, b);
        let done = if rung { Done::Answered { leg: b } } else { Done::Joined };
        self.finish(cx, id, Ok(done));
    }

    /// A leg refused our re-INVITE or UPDATE, or did not answer it. Its session is as it was (RFC 3261 §14.1).
    pub(super) fn on_declined(
        &mut self,
        cx: &mut Core,
        leg_id: LegId,
        status: Status,
        response: Option<&Message>,
    ) {
        let Some(leg) = self.legs.get_mut(&leg_id) else { return };
        leg.negotiation.rollback();
        let Some(id) = leg.busy else { return };
        let owns_call_id = leg.dialog.call_id.ends_with(&format!("@{}", cx.identity.host));
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let phone_asked = operation.origin == Origin::Phone;
        if status == Status::REQUEST_PENDING && !phone_asked && operation.attempts < ATTEMPTS_MAX {
            operation.attempts += 1;
            // RFC 3261 §14.1: the owner of the Call-ID waits 2.1 to 4 s, the other side up to 2 s.
            let pause =
                if owns_call_id { cx.rng.random_range(2100..=4000) } else { cx.rng.random_range(0..=2000) };
            cx.after(Timer::Retry(id), Duration::from_millis(pause / 10 * 10));
            return;
        }
        let mut undone = None;
        match &mut operation.kind {
            Kind::Play { leg, stage, .. } => {
                let leg = *leg;
                let codecs_refused = [
                    Status::NOT_ACCEPTABLE_HERE,
                    Status::UNSUPPORTED_MEDIA_TYPE,
                    Status::GLOBAL_NOT_ACCEPTABLE,
                ]
                .contains(&status);
                if codecs_refused && *stage == (PlayStage::Offered { silent: false }) {
                    *stage = PlayStage::Offered { silent: true };
                    let body = self.legs.get_mut(&leg).map(|leg| leg.negotiation.inactive_offer());
                    self.send_reinvite(cx, leg, body, None);
                    return;
                }
            }
            Kind::Relay { from, joins, .. } => {
                let (from, joins) = (*from, *joins);
                if !joins {
                    self.decline_request(cx, from, status, response);
                }
            }
            Kind::Connect { a, b, rounds, .. } => {
                // The phone that answered for nothing is told so; one that was in a call before goes on in it.
                let (a, b, told) = (*a, *b, *rounds > 0);
                undone = match b {
                    Some(b) if b != leg_id => {
                        self.drop_stranger(cx, b, "the other side refused");
                        Some(b)
                    }
                    Some(_) if told => Some(a),
                    Some(_) | None => None,
                };
            }
        }
        let code = match status {
            Status::NOT_ACCEPTABLE_HERE | Status::GLOBAL_NOT_ACCEPTABLE | Status::UNSUPPORTED_MEDIA_TYPE => {
                Code::NOT_ACCEPTABLE
            }
            Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST | Status::REQUEST_TIMEOUT => Code::LEG_GONE,
            _ => Code::GENERAL,
        };
        let text = format!("the phone answered {status}");
        self.fail(cx, id, Failed { code, status: status.0, text });
        if let Some(leg) = undone {
            self.mend(cx, leg);
        }
        // These two say that the dialog is no more (RFC 3261 §12.2.1.2).
        if status == Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST || status == Status::REQUEST_TIMEOUT {
            self.hang_up(cx, leg_id, None, &format!("the phone answered {status}"));
        }
    }

    /// Ends a leg that answered for nothing: it never had a peer.
    fn drop_stranger(&mut self, cx: &mut Core, id: LegId, why: &str) {
        let stranger = self.legs.get(&id).is_some_and(|leg| leg.peer == Peer::None && leg.stream.is_none());
        if stranger {
            self.hang_up(cx, id, Some(&format!("SIP;cause=487;text=\"{why}\"")), why);
        }
    }

    /// The pause after a 491 is over.
    pub(super) fn retry(&mut self, cx: &mut Core, id: OpId) {
        self.step(cx, id);
    }

    /// A leg of this operation has ended; what can be is undone.
    pub(super) fn operation_lost_leg(&mut self, cx: &mut Core, id: OpId, gone: LegId) {
        let Some(operation) = self.operations.get(&id) else { return };
        match operation.kind {
            Kind::Relay { from, to, joins, stage } => {
                if gone == to && !joins {
                    self.decline_request(cx, from, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None);
                }
                if gone == from
                    && stage == RelayStage::AwaitAck
                    && let Some(other) = self.legs.get_mut(&to)
                    && let Some(owed) = other.ack_owed
                {
                    let body = other.negotiation.standing_answer();
                    self.send_ack(cx, to, owed.cseq, Some(body));
                }
            }
            Kind::Connect { b: Some(b), .. } if gone != b => {
                self.drop_stranger(cx, b, "the other side hung up")
            }
            Kind::Connect { .. } | Kind::Play { .. } => {}
        }
        self.fail(cx, id, Failed::new(Code::LEG_GONE, 487, "the leg has ended"));
    }

    /// Operations that ring phones for this leg, or wait for it.
    pub(super) fn stop_operations_of(&mut self, cx: &mut Core, gone: LegId) {
        let rings: Vec<OpId> = self
            .operations
            .values()
            .filter(|op| matches!(&op.kind, Kind::Connect { a, .. } if *a == gone))
            .map(|op| op.id)
            .collect();
        for id in rings {
            self.stop_ringing(cx, id, &[]);
            self.fail(cx, id, Failed::new(Code::LEG_GONE, 487, "the waiting party hung up"));
        }
        let queued: Vec<Operation> = {
            let (gone_ops, rest) = std::mem::take(&mut self.queue)
                .into_iter()
                .partition(|op: &Operation| op.legs().contains(&Some(gone)) || op.subject() == gone);
            self.queue = rest;
            Vec::from(gone_ops as VecDeque<_>)
        };
        for operation in queued {
            if let Kind::Relay { from, joins: false, .. } = operation.kind
                && from != gone
            {
                self.decline_request(cx, from, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None);
            }
            if let Kind::Connect { b: Some(b), .. } = operation.kind
                && b != gone
            {
                self.drop_stranger(cx, b, "the other side hung up");
            }
            self.report(&operation, Err(Failed::new(Code::LEG_GONE, 487, "the leg has ended")));
        }
    }

    /// Nobody waits for this operation any more: phones stop ringing as answered elsewhere; what else is under way
    /// runs to its end.
    pub fn withdraw(&mut self, cx: &mut Core, origin: Origin) {
        let Some(id) = self.operations.values().find(|op| op.origin == origin).map(|op| op.id) else {
            return;
        };
        let ringing = matches!(
            self.operations.get(&id).map(|op| &op.kind),
            Some(Kind::Connect { stage: ConnectStage::Ringing, .. })
        );
        if ringing {
            self.stop_ringing(cx, id, &elsewhere());
            self.fail(cx, id, Failed::new(Code::WITHDRAWN, 487, "withdrawn"));
        }
    }

    fn ring_next(&mut self, cx: &mut Core, id: OpId) {
        loop {
            let Some(operation) = self.operations.get_mut(&id) else { return };
            let Kind::Connect { a, ringing, .. } = &mut operation.kind else { return };
            let waiting = *a;
            let Some(group) = ringing.groups.pop_front() else {
                let status = ringing.worst.unwrap_or(Status::TEMPORARILY_UNAVAILABLE);
                self.fail(cx, id, Failed::new(Code::GENERAL, status.0, format!("nobody answered: {status}")));
                return;
            };
            let headers = ringing.headers.clone();
            let Some(leg) = self.legs.get(&waiting) else { return };
            let (call, sdp) = (leg.call, leg.negotiation.remote().cloned());
            for candidate in &group {
                let mut negotiation = Negotiation::new(cx.fresh_id());
                let offer = sdp.as_ref().map(|sdp| negotiation.offer_of(sdp, Directions::Fresh));
                let for_whom = ForWhom::Operation(id);
                let branch = self.invite(cx, for_whom, call, candidate, &headers, negotiation, offer, false);
                if let Some(Operation { kind: Kind::Connect { ringing, .. }, .. }) =
                    self.operations.get_mut(&id)
                {
                    ringing.branches.push(branch);
                }
            }
            if !group.is_empty() {
                return;
            }
        }
    }

    /// A rung phone says something before it answers.
    pub(super) fn on_rung(&mut self, cx: &mut Core, id: OpId, response: &Message) {
        let Some(operation) = self.operations.get(&id) else { return };
        if let (Origin::Refer(subscription), Some(status)) = (operation.origin, response.status()) {
            self.report_progress(cx, subscription, status);
        }
    }

    /// A rung phone answered.
    pub(super) fn candidate_answered(&mut self, cx: &mut Core, id: OpId, leg: LegId) {
        let Some(operation) = self.operations.get_mut(&id) else {
            self.hang_up(cx, leg, Some("SIP;cause=200;text=\"Call completed elsewhere\""), "too late");
            return;
        };
        let Kind::Connect { a, b, ringing, stage, .. } = &mut operation.kind else { return };
        *b = Some(leg);
        *stage = ConnectStage::Claiming;
        let waiting = *a;
        let others: Vec<LegId> =
            std::mem::take(&mut ringing.branches).into_iter().filter(|l| *l != leg).collect();
        let claims = ringing.claims.clone();
        let origin = operation.origin;
        cx.timers.cancel(Timer::Operation(id));
        for other in others {
            self.cancel_branch(cx, other, &elsewhere());
        }
        match claims {
            Some(number) => {
                let party = self.legs.get(&leg).map(|leg| leg.party.clone()).unwrap_or_default();
                self.notify(Notice::Claim { operation: id, origin, number, party });
            }
            None => self.go_on_connecting(cx, id, waiting, leg),
        }
    }

    /// Whether the phone that answered may have the call (see [`Notice::Claim`]).
    pub fn permit(&mut self, cx: &mut Core, id: OpId, verdict: Result<(), Failed>) {
        let Some(operation) = self.operations.get(&id) else { return };
        let Kind::Connect { a, b: Some(b), .. } = operation.kind else { return };
        match verdict {
            Ok(()) => self.go_on_connecting(cx, id, a, b),
            Err(failed) => {
                self.hang_up(
                    cx,
                    b,
                    Some("SIP;cause=200;text=\"Call completed elsewhere\""),
                    "lost the claim",
                );
                self.fail(cx, id, failed);
            }
        }
    }

    /// Someone answered: now the waiting leg is told. It may be busy with something else for a moment.
    fn go_on_connecting(&mut self, cx: &mut Core, id: OpId, waiting: LegId, answered: LegId) {
        if let Some(leg) = self.legs.get_mut(&answered) {
            leg.busy = Some(id);
        }
        let Some(mut operation) = self.operations.remove(&id) else { return };
        if let Kind::Connect { stage, .. } = &mut operation.kind {
            *stage = ConnectStage::OfferA;
        }
        if !self.legs.contains_key(&waiting) {
            self.hang_up(
                cx,
                answered,
                Some("SIP;cause=487;text=\"The other side hung up\""),
                "nobody waits any more",
            );
            self.release_legs(&operation);
            self.report(&operation, Err(Failed::new(Code::LEG_GONE, 487, "the waiting party hung up")));
            return;
        }
        if let Some(leg) = self.legs.get_mut(&answered) {
            leg.busy = None;
        }
        self.queue.push_front(operation);
        self.advance_queue(cx);
    }

    /// A rung phone refused.
    pub(super) fn candidate_failed(&mut self, cx: &mut Core, id: OpId, leg: LegId, status: Status) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let Kind::Connect { ringing, stage: ConnectStage::Ringing, .. } = &mut operation.kind else { return };
        ringing.branches.retain(|branch| *branch != leg);
        let decided = [486, 600, 603].contains(&status.0);
        if ringing.worst.is_none() || decided {
            ringing.worst = Some(status);
        }
        if decided {
            // A person said no on one phone: their other phones need not ring for it (facts.md §6 no. 6).
            ringing.groups.clear();
        }
        if ringing.branches.is_empty() || decided {
            let rest = std::mem::take(&mut ringing.branches);
            for branch in rest {
                self.cancel_branch(cx, branch, &[]);
            }
            self.ring_next(cx, id);
        }
    }

    fn stop_ringing(&mut self, cx: &mut Core, id: OpId, reason: &[String]) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let Kind::Connect { ringing, .. } = &mut operation.kind else { return };
        for branch in std::mem::take(&mut ringing.branches) {
            self.cancel_branch(cx, branch, reason);
        }
        cx.timers.cancel(Timer::Operation(id));
    }

    /// The time an operation was given is over.
    pub(super) fn operation_timeout(&mut self, cx: &mut Core, id: OpId) {
        self.stop_ringing(cx, id, &[]);
        self.fail(cx, id, Failed::new(Code::GENERAL, 408, "nobody answered"));
    }

    /// The host's own media is ready to be offered to the leg.
    pub(super) fn offer_host_media(&mut self, cx: &mut Core, id: OpId) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let Kind::Play { leg, playlist, stage } = &mut operation.kind else { return };
        *stage = PlayStage::Offered { silent: false };
        let (leg_id, playlist) = (*leg, playlist.clone());
        let Some(leg) = self.legs.get_mut(&leg_id) else { return };
        let Some(address) = leg.stream_address else { return };
        if leg.incoming.is_some() {
            let body = if leg.negotiation.has_remote_offer() {
                leg.negotiation.host_answer(address)
            } else {
                Some(leg.negotiation.host_offer(address, HostCodecs::default()))
            };
            match body {
                Some(body) => {
                    self.answer_invite(cx, leg_id, None, body, None);
                    self.played(cx, id, leg_id, &playlist, false);
                }
                None => {
                    self.close_stream(cx, leg_id);
                    self.fail(cx, id, Failed::new(Code::NOT_ACCEPTABLE, 488, "no codec in common"));
                }
            }
        } else {
            let body = leg.negotiation.host_offer(address, HostCodecs::default());
            self.send_reinvite(cx, leg_id, Some(body), None);
        }
    }

    /// The leg has confirmed that the host is its peer.
    fn played(&mut self, cx: &mut Core, id: OpId, leg_id: LegId, playlist: &Playlist, silent: bool) {
        let before = self.legs.get_mut(&leg_id).map(|leg| std::mem::replace(&mut leg.peer, Peer::Host));
        if let Some(Peer::Leg(old)) = before
            && let Some(old) = self.legs.get_mut(&old)
            && old.peer == Peer::Leg(leg_id)
        {
            old.peer = Peer::None;
        }
        let audible = !silent && self.send_media(cx, leg_id, playlist);
        self.finish(cx, id, Ok(Done::Played { audible }));
        self.start_probing(cx, leg_id);
    }

    /// The operation failed for a reason of the host's own (no port left).
    pub(super) fn fail(&mut self, cx: &mut Core, id: OpId, failed: Failed) {
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
        if operation.origin != Origin::Phone {
            let notice = Notice::Finished { origin: operation.origin, leg: operation.subject(), result };
            self.notify(notice);
        }
    }

    /// Tells the engine when a phone has put its peer on hold, or taken it back.
    pub(super) fn notice_hold(&mut self, cx: &Core, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let holds = leg.negotiation.remote_holds();
        if holds != leg.held_at.is_some() {
            leg.held_at = holds.then_some(cx.now.instant);
            self.notify(Notice::Held { leg: id, held: holds });
        }
    }

    /// Whether an operation of this origin is under way or waiting.
    pub fn is_under_way(&self, origin: Origin) -> bool {
        self.operations.values().chain(&self.queue).any(|op| op.origin == origin)
    }

    /// The operation that owns this leg's session is a play of the host's media that waits for its port.
    pub(super) fn opening_for(&self, id: LegId) -> Option<OpId> {
        let operation = self.operations.get(&self.legs.get(&id)?.busy?)?;
        matches!(operation.kind, Kind::Play { stage: PlayStage::Opening, .. }).then_some(operation.id)
    }
}

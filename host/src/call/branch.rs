//! An INVITE of ours: a branch of a forked call, or a phone rung for a waiting leg.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use switchyard_sdk::types::{LegId, Party};

use super::early::EARLIES_MAX;
use super::leg::{Abilities, AckOwed, Credentials, Early, ForWhom, Leg, Outgoing, State, Trunk};
use super::negotiation::{Directions, Negotiation};
use super::session_timer::SessionTimer;
use super::{Calls, Notice};
use crate::engine::core::{ALLOW, Core, Owner, SUPPORTED};
use crate::engine::timers::Timer;
use crate::net::{Flow, Protocol};
use crate::sip::{ClientId, Dialog, Message, Method, Name, Status};

/// How long a phone may ring before the host gives up; above three minutes, as RFC 3261 §16.6 (Timer C) asks.
const RING_MAX: Duration = Duration::from_secs(185);

/// Somewhere an INVITE can go.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The Request-URI.
    pub uri: String,
    /// The To value, without tag.
    pub to: String,
    /// Route values (RFC 3327 Path, outbound proxies).
    pub routes: Vec<String>,
    /// Where it is sent.
    pub flow: Flow,
    /// Who is there.
    pub party: Party,
    /// The trunk it goes through.
    pub trunk: Option<Arc<Trunk>>,
}

/// What an INVITE of ours says beside its offer.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    /// The From value, without tag.
    pub from: String,
    /// P-Asserted-Identity (RFC 3325).
    pub asserted: Option<String>,
    /// The user whose call it is, for the server of another pool, which takes our word for it: P-Served-User (RFC 5502).
    /// None: nobody of ours.
    pub served: Option<String>,
    /// Hops left; 70 for an INVITE of the host's own.
    pub max_forwards: Option<u32>,
    /// Further headers, in order.
    pub extra: Vec<(Name, String)>,
}

impl Calls {
    /// Rings all `candidates` at once for the caller `caller` (RFC 3261 §16.6, as a back-to-back user agent); their legs.
    pub fn fork(
        &mut self,
        cx: &mut Core,
        caller: LegId,
        candidates: &[Candidate],
        headers: &Headers,
    ) -> Vec<LegId> {
        let mut branches = Vec::new();
        for candidate in candidates {
            let Some(leg) = self.legs.get(&caller) else { break };
            let Some(incoming) = &leg.incoming else { break };
            let (call, rel) = (leg.call, incoming.rel);
            let mut negotiation = Negotiation::new(cx.fresh_id());
            let offer = leg.negotiation.remote().map(|sdp| negotiation.offer_of(sdp, Directions::AsIs));
            let branch =
                self.invite(cx, ForWhom::Caller(caller), call, candidate, headers, negotiation, offer, rel);
            if let Some(incoming) = self.legs.get_mut(&caller).and_then(|leg| leg.incoming.as_mut()) {
                incoming.branches.push(branch);
            }
            branches.push(branch);
        }
        branches
    }

    /// Tries `candidates` one after the other: the next one when the one before could not be reached.
    pub fn hunt(&mut self, cx: &mut Core, caller: LegId, candidates: Vec<Candidate>, headers: Headers) {
        if let Some(incoming) = self.legs.get_mut(&caller).and_then(|leg| leg.incoming.as_mut()) {
            incoming.hunt = candidates.into();
            incoming.headers = headers;
            self.hunt_on(cx, caller);
        }
    }

    /// Tries the next place; false if there is none.
    pub(super) fn hunt_on(&mut self, cx: &mut Core, caller: LegId) -> bool {
        let Some(incoming) = self.legs.get_mut(&caller).and_then(|leg| leg.incoming.as_mut()) else {
            return false;
        };
        let Some(next) = incoming.hunt.pop_front() else { return false };
        let headers = incoming.headers.clone();
        self.fork(cx, caller, &[next], &headers);
        true
    }

    /// Sends an INVITE; the new leg is early until it is answered.
    #[expect(clippy::too_many_arguments, reason = "an INVITE has this many independent parts")]
    pub(super) fn invite(
        &mut self,
        cx: &mut Core,
        for_whom: ForWhom,
        call: u64,
        candidate: &Candidate,
        headers: &Headers,
        negotiation: Negotiation,
        offer: Option<Bytes>,
        rel: bool,
    ) -> LegId {
        let id = LegId(cx.fresh_id());
        let flow = candidate.flow;
        let contact = cx.contact(&flow, &format!("l{}", id.0));
        let mut dialog = Dialog {
            call_id: format!("{}@{}", cx.fresh_tag(), cx.identity.host),
            local_tag: cx.fresh_tag(),
            remote_tag: String::new(),
            local: headers.from.clone(),
            remote: candidate.to.clone(),
            remote_target: candidate.uri.clone(),
            route_set: candidate.routes.clone(),
            local_cseq: 0,
            remote_cseq: None,
            flow,
        };
        let mut draft = dialog.request(Method::Invite);
        draft.set(Name::MaxForwards, headers.max_forwards.unwrap_or(70));
        draft.add(Name::Contact, &contact).add(Name::Allow, ALLOW);
        draft.add(Name::Supported, if rel { format!("{SUPPORTED}, 100rel") } else { SUPPORTED.to_owned() });
        if let Some(asserted) = &headers.asserted {
            draft.add(Name::PAssertedIdentity, asserted);
        }
        if let Some(served) = headers.served.as_ref().filter(|_| flow.protocol == Protocol::Cluster) {
            draft.add(Name::PServedUser, served);
        }
        for (name, value) in &headers.extra {
            draft.add(*name, value);
        }
        SessionTimer::default().ask(&mut draft, None);
        let offered = offer.is_some();
        if let Some(offer) = offer {
            draft.body("application/sdp", offer);
        }
        let client = cx.request(flow, draft, Owner::Invite(id));
        let leg = Leg {
            call,
            trunk: candidate.trunk.clone(),
            rung: true,
            outgoing: Some(Outgoing {
                client,
                for_whom,
                offered,
                cancelled: false,
                challenged: false,
                interval_raised: false,
            }),
            ..Leg::new(id, candidate.party.clone(), dialog, negotiation, contact, cx.now.utc)
        };
        self.insert(leg);
        cx.after(Timer::Ring(id), RING_MAX);
        id
    }

    /// A response to the INVITE that makes `id`.
    pub fn on_invite_response(
        &mut self,
        cx: &mut Core,
        client: ClientId,
        id: LegId,
        response: &Message,
        flow: Flow,
    ) {
        let status = response.status().unwrap_or(Status::TRYING);
        let current =
            self.legs.get(&id).and_then(|leg| leg.outgoing.as_ref()).is_some_and(|o| o.client == client);
        if !current {
            if status.is_success() {
                self.surplus_answer(cx, client, id, response, flow);
            } else if !status.is_provisional() {
                cx.disown(client);
            }
            return;
        }
        if status == Status::TRYING {
        } else if status.is_provisional() {
            self.on_provisional(cx, id, response, flow);
        } else if status.is_success() {
            self.on_answer(cx, id, response, flow);
        } else {
            cx.disown(client);
            self.on_refusal(cx, id, response);
        }
    }

    /// A 2xx that nobody waits for: repeated, of another fork, or crossing our CANCEL. It is ACKed; if it is not the
    /// dialog we keep, it is ended (RFC 3261 §13.2.2.4).
    fn surplus_answer(&mut self, cx: &mut Core, client: ClientId, id: LegId, response: &Message, flow: Flow) {
        if let Some(leg) = self.legs.get(&id)
            && leg.state == State::Confirmed
            && response.to_tag() == Some(&leg.dialog.remote_tag)
        {
            if let Some((cseq, ack)) = &leg.last_ack
                && *cseq == response.cseq().number
            {
                cx.tx.send_raw(leg.dialog.flow, ack.clone());
            }
            return;
        }
        let Some(invite) = cx.tx.request_of(client).cloned() else { return };
        let mut dialog = Dialog::uac(&invite, response, flow);
        let sent_by = cx.sent_by(&flow);
        let mut ack = dialog.ack(response.cseq().number);
        Credentials::of(&invite).add_to(&mut ack);
        cx.tx.send_ack(flow, &sent_by, ack);
        let mut bye = dialog.request(Method::Bye);
        bye.add(Name::Reason, "SIP;cause=200;text=\"Call completed elsewhere\"");
        cx.request(flow, bye, Owner::Nobody);
    }

    /// 101–199: a phone rings, perhaps with early media.
    fn on_provisional(&mut self, cx: &mut Core, id: LegId, response: &Message, flow: Flow) {
        let Some(tag) = response.to_tag().map(str::to_owned) else { return };
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let Some(outgoing) = &leg.outgoing else { return };
        let (for_whom, client, offered) = (outgoing.for_whom, outgoing.client, outgoing.offered);
        let reliable = response
            .requires("100rel")
            .then(|| response.get(Name::RSeq).and_then(|v| v.parse().ok()))
            .flatten();
        if leg.early_from(&tag).is_none() {
            if leg.earlies.len() >= EARLIES_MAX {
                return;
            }
            let Some(invite) = cx.tx.request_of(client) else { return };
            let dialog = Dialog::uac(invite, response, flow);
            let negotiation = leg.negotiation.clone();
            leg.earlies.push(Early { dialog, negotiation, mate: None, reliable: None, rseq: 0 });
            self.index(id);
        }
        let Some(leg) = self.legs.get_mut(&id) else { return };
        leg.abilities = Abilities::of(response);
        let Some(early) = leg.early_from(&tag) else { return };
        if let Some(rseq) = reliable {
            // A repeated or out-of-order reliable response is not processed again (RFC 3262 §4).
            if early.rseq != 0 && rseq != early.rseq + 1 {
                return;
            }
            early.rseq = rseq;
        }
        let mut described = None;
        if let Some(body) = response.sdp() {
            if offered && early.negotiation.has_local_offer() {
                // What cannot be read as an answer is shown to nobody; the 2xx may still carry a good one.
                let _ = early.negotiation.remote_answer(&body);
            } else if !offered && reliable.is_some() && early.negotiation.remote().is_none() {
                let _ = early.negotiation.remote_offer(&body);
            }
            described = early.negotiation.remote().cloned();
        }
        let rack = reliable.map(|rseq| format!("{rseq} {} INVITE", response.cseq().number));
        match for_whom {
            ForWhom::Caller(caller) => {
                self.pass_provisional(cx, caller, id, &tag, response, described, rack);
            }
            ForWhom::Operation(operation) => {
                if let Some(rack) = rack {
                    self.send_prack(cx, id, &tag, &rack, None);
                }
                self.on_rung(cx, operation, response);
            }
        }
    }

    /// 2xx: the phone answered.
    fn on_answer(&mut self, cx: &mut Core, id: LegId, response: &Message, flow: Flow) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let Some(outgoing) = leg.outgoing.take() else { return };
        let Some(invite) = cx.tx.request_of(outgoing.client).cloned() else { return };
        cx.timers.cancel(Timer::Ring(id));
        let mut dialog = Dialog::uac(&invite, response, flow);
        let early =
            response.to_tag().and_then(|tag| leg.earlies.iter().position(|e| e.dialog.remote_tag == tag));
        let mut early_tag = None;
        if let Some(at) = early {
            let early = leg.earlies.swap_remove(at);
            // Requests sent within the early dialog (PRACK, UPDATE) have used up sequence numbers.
            dialog.local_cseq = dialog.local_cseq.max(early.dialog.local_cseq);
            dialog.remote_cseq = early.dialog.remote_cseq;
            early_tag = Some(early.dialog.remote_tag);
            leg.negotiation = early.negotiation;
        }
        for old in leg.earlies.drain(..) {
            self.dialogs.remove(&old.dialog.id());
        }
        let cseq = response.cseq().number;
        leg.dialog = dialog;
        leg.credentials = Credentials::of(&invite);
        leg.state = State::Confirmed;
        leg.answered = Some(cx.now.utc);
        leg.abilities = Abilities::of(response);
        leg.session = SessionTimer::from_response(response);
        self.index(id);
        self.start_session_timer(cx, id);
        let somebody_else = self.take_up_asserted(id);
        let offer_under_way = early_tag.as_deref().is_some_and(|tag| self.early_offer_on(id, tag).is_some());
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let body = response.sdp();
        let understood = match &body {
            // The INVITE's offer has its answer, and what is under way is answered elsewhere: whatever this 2xx
            // describes means nothing (RFC 3261 §13.2.1).
            _ if offer_under_way => true,
            Some(body) if outgoing.offered && leg.negotiation.has_local_offer() => {
                leg.negotiation.remote_answer(body).is_ok()
            }
            Some(body) if !outgoing.offered && leg.negotiation.remote().is_none() => {
                leg.negotiation.remote_offer(body).is_ok()
            }
            // An early answer stands; a gateway may name another address in the 2xx all the same.
            Some(body) => {
                let _ = leg.negotiation.remote_answer(body);
                true
            }
            None => leg.negotiation.is_stable() && leg.negotiation.remote().is_some(),
        };
        if outgoing.offered || offer_under_way || !understood || leg.negotiation.is_stable() {
            self.send_ack(cx, id, cseq, None);
        } else {
            leg.ack_owed = Some(AckOwed { cseq });
        }
        if !understood {
            cx.event("call.bad_answer", None, Some(response.call_id()), serde_json::json!({ "leg": id.0 }));
            self.branch_failed(cx, id, outgoing.for_whom, Status::NOT_ACCEPTABLE_HERE, None, true);
            return;
        }
        match outgoing.for_whom {
            ForWhom::Caller(caller) => {
                self.branch_won(cx, caller, id, early_tag.as_deref(), somebody_else.as_ref());
            }
            ForWhom::Operation(operation) => self.candidate_answered(cx, operation, id),
        }
    }

    /// The first branch that answers has the call; the others are told that it was completed elsewhere (RFC 3326).
    /// `somebody_else` is who answered, if that is not who was called.
    fn branch_won(
        &mut self,
        cx: &mut Core,
        caller: LegId,
        id: LegId,
        early_tag: Option<&str>,
        somebody_else: Option<&Party>,
    ) {
        let alive = self.legs.get_mut(&caller).and_then(|leg| leg.incoming.as_mut());
        let Some(incoming) = alive else {
            self.hang_up(
                cx,
                id,
                Some("SIP;cause=200;text=\"Call completed elsewhere\""),
                "the caller is gone",
            );
            return;
        };
        for other in std::mem::take(&mut incoming.branches) {
            if other != id {
                self.cancel_branch(cx, other, &elsewhere());
            }
        }
        let Some(callee) = self.legs.get(&id) else { return };
        let Some(sdp) = callee.negotiation.remote().cloned() else { return };
        let offer_under_way = early_tag.and_then(|tag| self.early_offer_on(id, tag));
        let Some(leg) = self.legs.get_mut(&caller) else { return };
        let early = early_tag.and_then(|tag| leg.early_for(id, tag));
        let answered_reliably = early.as_ref().is_some_and(|early| early.rseq != 0);
        let local_tag = early.map(|early| early.dialog.local_tag.clone());
        let negotiation = match &local_tag {
            Some(tag) => match leg.early_to(tag) {
                Some(early) => &mut early.negotiation,
                None => return,
            },
            None => &mut leg.negotiation,
        };
        let body = if offer_under_way.is_some() && answered_reliably {
            // The caller has its answer. A phone that minds a description here all the same would go back to the
            // old one after it has answered the new one.
            Bytes::new()
        } else if offer_under_way.is_none() && negotiation.has_remote_offer() {
            negotiation.answer_of(&sdp)
        } else if negotiation.remote().is_none() {
            negotiation.offer_of(&sdp, Directions::AsIs)
        } else {
            negotiation.local().map(|local| local.to_bytes()).unwrap_or_default()
        };
        // The server of another pool cannot know who that is.
        let across = self.legs.get(&caller).is_some_and(|leg| !leg.is_of_phone());
        let callee = self.legs.get(&id).map(|leg| leg.party.clone()).filter(|_| across);
        self.answer_invite(cx, caller, local_tag.as_deref(), body, callee.as_ref().or(somebody_else));
        self.link(cx, caller, id);
        if let Some(offer) = offer_under_way {
            self.carry_early_offer_on(cx, offer);
        }
        self.notify(Notice::Answered { caller, callee: id });
    }

    /// Whether phones ring for this caller.
    pub fn is_ringing(&self, caller: LegId) -> bool {
        let incoming = self.legs.get(&caller).and_then(|leg| leg.incoming.as_ref());
        incoming.is_some_and(|incoming| !incoming.branches.is_empty())
    }

    /// Stops all phones that ring for a caller; the call goes somewhere else.
    pub fn stop_branches(&mut self, cx: &mut Core, caller: LegId) {
        let incoming = self.legs.get_mut(&caller).and_then(|leg| leg.incoming.as_mut());
        let Some(incoming) = incoming else { return };
        incoming.hunt.clear();
        for branch in std::mem::take(&mut incoming.branches) {
            self.cancel_branch(cx, branch, &[]);
        }
    }

    /// Stops ringing a phone, with Reason headers that say why.
    pub(super) fn cancel_branch(&mut self, cx: &mut Core, id: LegId, reason: &[String]) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        match leg.outgoing.take() {
            Some(outgoing) => {
                // The transaction stays known: a 2xx that crosses the CANCEL is ACKed and ended as a surplus answer.
                cx.tx.cancel(cx.now, outgoing.client, reason);
                self.forget(cx, id, false, "cancelled");
            }
            None => self.hang_up(cx, id, reason.first().map(String::as_str), "cancelled after its answer"),
        }
    }

    /// ACKs a 2xx and remembers the ACK for its repetitions.
    pub(super) fn send_ack(&mut self, cx: &mut Core, id: LegId, cseq: u32, answer: Option<Bytes>) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let mut draft = leg.dialog.ack(cseq);
        leg.credentials.add_to(&mut draft);
        if let Some(answer) = answer {
            draft.body("application/sdp", answer);
        }
        let sent_by = cx.sent_by(&leg.dialog.flow);
        let ack = cx.tx.send_ack(leg.dialog.flow, &sent_by, draft);
        leg.last_ack = Some((cseq, ack.bytes().clone()));
        leg.ack_owed = None;
    }
}

/// What the phones that lost are told: not a missed call (RFC 3326, Q.850 cause 26).
pub(super) fn elsewhere() -> [String; 2] {
    [
        "SIP;cause=200;text=\"Call completed elsewhere\"".to_owned(),
        "Q.850;cause=26;text=\"Non-selected user clearing\"".to_owned(),
    ]
}

//! One phone asks for a change and its peer answers: a phone's own re-INVITE, or a stranger who becomes a peer
//! (established + offering).

use super::*;

impl Calls {
    /// Passes a phone's own re-INVITE or UPDATE on to its peer.
    pub(in crate::call) fn relay(&mut self, cx: &mut Core, from: LegId, to: LegId) {
        self.begin(cx, Origin::Phone, Kind::Relay { from, to, joins: false, stage: RelayStage::Asked });
    }

    /// Takes over an exchange that began before the call was answered: `to` has the request already.
    pub(in crate::call) fn take_relay_over(&mut self, cx: &mut Core, from: LegId, to: LegId) {
        let id = OpId(cx.fresh_id());
        for leg in [from, to] {
            if let Some(leg) = self.legs.get_mut(&leg) {
                leg.busy = Some(id);
            }
        }
        let kind = Kind::Relay { from, to, joins: false, stage: RelayStage::Asked };
        self.operations.insert(id, Operation { id, origin: Origin::Phone, attempts: 0, kind });
    }

    pub(in crate::call) fn step_relay(
        &mut self,
        cx: &mut Core,
        id: OpId,
        from: LegId,
        to: LegId,
        joins: bool,
    ) {
        let Some(asker) = self.legs.get(&from) else { return };
        // Whose place somebody takes at another pool's server hears of it, too.
        let other = asker.asserted.as_deref().filter(|other| other.uri != asker.party.uri);
        let identity = other.cloned().or_else(|| joins.then(|| asker.party.clone()));
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

    pub(in crate::call) fn relay_accepted(
        &mut self,
        cx: &mut Core,
        id: OpId,
        from: LegId,
        to: LegId,
        solicited: bool,
    ) {
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
    pub(in crate::call) fn on_ack_answer(&mut self, cx: &mut Core, from: LegId, answer: Option<Bytes>) {
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
            let body = match &sdp {
                Some(sdp) => other.negotiation.answer_of(sdp),
                None => other.negotiation.standing_answer(),
            };
            self.send_ack(cx, to, owed.cseq, Some(body));
        } else if let (true, Some(to), Some(sdp)) = (answered, peer, sdp)
            && let Some(other) = self.legs.get_mut(&to)
            && other.incoming.is_some()
        {
            // The other side is a picker, whose offer this answers.
            let body = other.negotiation.answer_of(&sdp);
            let identity = self.legs.get(&from).map(|leg| leg.party.clone());
            self.answer_invite(cx, to, None, body, identity.as_ref());
            self.notify(Notice::Answered { caller: from, callee: to });
        }
        if let Some(id) = operation {
            if answered {
                self.relay_done(cx, id);
            } else {
                self.fail(cx, id, Failed::new(Code::NOT_ACCEPTABLE, 488, "the ACK carried no usable answer"));
            }
        }
    }

    pub(in crate::call) fn relay_done(&mut self, cx: &mut Core, id: OpId) {
        let Some(operation) = self.operations.get(&id) else { return };
        let Kind::Relay { from, to, joins, .. } = operation.kind else { return };
        if joins {
            self.link(cx, to, from);
            self.close_stream(cx, to);
            self.close_stream(cx, from);
        }
        for leg in [from, to] {
            if let Some(leg) = self.legs.get_mut(&leg) {
                leg.in_doubt = false;
            }
        }
        self.finish(cx, id, Ok(Done::Joined));
        self.notice_hold(cx, from);
    }
}

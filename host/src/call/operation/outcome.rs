//! What a leg says to our re-INVITE or UPDATE, and what happens when it is gone.

use std::collections::BTreeSet;

use super::*;

impl Calls {
    /// Sends a re-INVITE (RFC 3261 §14.1); its responses come back to the leg's operation.
    pub(in crate::call) fn send_reinvite(
        &mut self,
        cx: &mut Core,
        id: LegId,
        body: Option<Bytes>,
        identity: Option<&Party>,
    ) {
        let asserted = identity.map(|party| crate::call::identity::asserted(cx, party));
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let mut draft = leg.refreshing(Method::Invite);
        if let Some(asserted) = asserted {
            draft.add(Name::PAssertedIdentity, asserted);
        }
        if let Some(body) = body {
            draft.body("application/sdp", body);
        }
        leg.client = Some(cx.request(leg.dialog.flow, draft, Owner::Reinvite(id)));
        self.limit_reinvite(cx, id);
    }

    pub(in crate::call) fn send_update(&mut self, cx: &mut Core, id: LegId, body: Option<Bytes>) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let mut draft = leg.refreshing(Method::Update);
        if let Some(body) = body {
            draft.body("application/sdp", body);
        }
        leg.client = Some(cx.request(leg.dialog.flow, draft, Owner::Update(id)));
    }

    /// A leg accepted our re-INVITE or UPDATE. `body` is its answer, or its offer if we made none.
    pub(in crate::call) fn on_accepted(&mut self, cx: &mut Core, leg_id: LegId, response: &Message) {
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
                leg.ack_owed = Some(crate::call::leg::AckOwed { cseq });
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
    pub(in crate::call) fn accepted_in_vain(&mut self, cx: &mut Core, id: LegId, response: &Message) {
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

    /// A leg refused our re-INVITE or UPDATE, or did not answer it. Its session is as it was (RFC 3261 §14.1).
    pub(in crate::call) fn on_declined(
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
        // One that mends what another has left behind is not mended in turn: the same phone would refuse again, for ever.
        let mends = operation.origin == Origin::Mend;
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
                    // It knew of `a` as it was before, and does not take it as it is.
                    Some(b) if told => {
                        self.drop_stranger(cx, b, "the session was refused");
                        Some(a)
                    }
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
        if let Some(leg) = undone.filter(|_| !mends) {
            self.mend(cx, leg);
        }
        // These two say that the dialog is no more (RFC 3261 §12.2.1.2).
        if status == Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST || status == Status::REQUEST_TIMEOUT {
            self.hang_up(cx, leg_id, None, &format!("the phone answered {status}"));
        }
    }

    /// The pause after a 491 is over.
    pub(in crate::call) fn retry(&mut self, cx: &mut Core, id: OpId) {
        self.step(cx, id);
    }

    /// A leg of this operation has ended; what can be is undone.
    pub(in crate::call) fn operation_lost_leg(&mut self, cx: &mut Core, id: OpId, gone: LegId) {
        let Some(operation) = self.operations.get(&id) else { return };
        // Whoever was told the address of the leg that is gone listens to nobody now.
        let misled = match operation.kind {
            Kind::Connect { a, b: Some(b), .. } if gone == a => Some(b),
            Kind::Connect { a, b: Some(b), rounds, .. } if gone == b && rounds > 0 => Some(a),
            Kind::Connect { .. } | Kind::Relay { .. } | Kind::Play { .. } => None,
        };
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
        if let Some(misled) = misled.filter(|leg| self.legs.get(leg).is_some_and(|leg| leg.busy.is_none())) {
            self.mend(cx, misled);
        }
    }

    /// Operations that ring phones for this leg, or wait for it.
    pub(in crate::call) fn stop_operations_of(&mut self, cx: &mut Core, gone: LegId) {
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
            self.call_off(cx, &operation, gone);
        }
    }

    /// Drops every operation that has to do with these legs, where it stands: whoever serves them from now on has never
    /// heard of it. Phones that ring for one stop. For whom each ran, and the leg it was about.
    pub(in crate::call) fn abandon(&mut self, cx: &mut Core, legs: &BTreeSet<LegId>) -> Vec<(Origin, LegId)> {
        let concerns = |operation: &Operation| {
            legs.contains(&operation.subject())
                || operation.legs().into_iter().flatten().any(|leg| legs.contains(&leg))
        };
        let ids: Vec<OpId> = self.operations.values().filter(|op| concerns(op)).map(|op| op.id).collect();
        // Who has answered for one of these legs, and is nobody's peer yet, would wait for ever.
        let alone: Vec<LegId> = (self.operations.values().chain(&self.queue))
            .filter(|operation| concerns(operation))
            .filter_map(|operation| match operation.kind {
                Kind::Connect { a, b: Some(b), .. } => Some([a, b]),
                _ => None,
            })
            .flatten()
            .filter(|leg| !legs.contains(leg))
            .collect();
        let mut over = Vec::new();
        for id in ids {
            self.stop_ringing(cx, id, &[]);
            cx.timers.cancel(Timer::Operation(id));
            cx.timers.cancel(Timer::Retry(id));
            let Some(operation) = self.operations.remove(&id) else { continue };
            over.push((operation.origin, operation.subject()));
            for leg in operation.legs().into_iter().flatten().chain([operation.subject()]) {
                if let Some(leg) = self.legs.get_mut(&leg).filter(|leg| leg.busy == Some(id)) {
                    leg.busy = None;
                }
            }
        }
        self.queue.retain(|operation| {
            let stays = !concerns(operation);
            if !stays {
                over.push((operation.origin, operation.subject()));
            }
            stays
        });
        for leg in alone {
            if self.legs.get(&leg).is_some_and(|leg| !matches!(leg.peer, Peer::Leg(_))) {
                self.hang_up(cx, leg, None, "others serve the call now");
            }
        }
        over
    }

    /// An operation that has not started never will: one of its legs has ended. The other is not left waiting for it.
    pub(in crate::call) fn call_off(&mut self, cx: &mut Core, operation: &Operation, gone: LegId) {
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
        self.report(operation, Err(Failed::new(Code::LEG_GONE, 487, "the leg has ended")));
    }
}

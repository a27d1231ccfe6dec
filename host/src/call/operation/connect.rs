//! Joining a waiting leg with another: one that is established, or whoever of those rung answers first (established +
//! established, established + not yet invited).

use super::*;

impl Calls {
    /// Rings phones for a waiting leg and joins it with the first that answers. Ends in [`Done::Answered`].
    pub fn ring(&mut self, cx: &mut Core, origin: Origin, waiting: LegId, ringing: Ringing) -> OpId {
        let kind = Kind::Connect {
            a: waiting,
            b: None,
            rounds: 0,
            ringing: Box::new(ringing),
            stage: ConnectStage::Ringing,
        };
        self.begin(cx, origin, kind)
    }

    /// Every ringing for a call in an orbit: recalls, on-timeout addresses, an operator's retrieval.
    pub fn rings_for_orbits(&self, cx: &Core) -> impl Iterator<Item = RingsNow> {
        self.operations.values().filter_map(|operation| {
            let Kind::Connect { ringing, stage: ConnectStage::Ringing, .. } = &operation.kind else {
                return None;
            };
            let rung = ringing.branches.iter().filter_map(|branch| self.legs.get(branch));
            let mut whom: Vec<String> = rung.map(|leg| leg.party.label().to_owned()).collect();
            whom.dedup();
            // The wait of a first group is followed by the rest of the time.
            let more = if ringing.groups.is_empty() { Duration::ZERO } else { ringing.time_left };
            let until = cx.timers.when(Timer::Operation(operation.id)).map(|at| at + more);
            Some(RingsNow { number: ringing.claims.clone()?, whom, attempt: ringing.attempt, until })
        })
    }

    pub(in crate::call) fn ring_next(&mut self, cx: &mut Core, id: OpId) {
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
    pub(in crate::call) fn on_rung(&mut self, cx: &mut Core, id: OpId, response: &Message) {
        let Some(operation) = self.operations.get(&id) else { return };
        if let (Origin::Refer(subscription), Some(status)) = (operation.origin, response.status()) {
            self.report_progress(cx, subscription, status);
        }
    }

    /// A rung phone answered.
    pub(in crate::call) fn candidate_answered(&mut self, cx: &mut Core, id: OpId, leg: LegId) {
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
    pub(in crate::call) fn go_on_connecting(
        &mut self,
        cx: &mut Core,
        id: OpId,
        waiting: LegId,
        answered: LegId,
    ) {
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
    pub(in crate::call) fn candidate_failed(&mut self, cx: &mut Core, id: OpId, leg: LegId, status: Status) {
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

    /// Who asked that phones ring for this waiting leg, if they ring now.
    pub fn rung_for(&self, waiting: LegId) -> Option<Origin> {
        self.ringing_operation(waiting).map(|operation| operation.origin)
    }

    /// The leg for which an operation rings phones.
    pub fn waiting_leg(&self, id: OpId) -> Option<LegId> {
        match self.operations.get(&id)?.kind {
            Kind::Connect { a, stage: ConnectStage::Ringing, .. } => Some(a),
            _ => None,
        }
    }

    fn ringing_operation(&self, waiting: LegId) -> Option<&Operation> {
        self.operations.values().find(|operation| {
            matches!(operation.kind, Kind::Connect { a, stage: ConnectStage::Ringing, .. } if a == waiting)
        })
    }

    /// Somebody else takes the waiting leg for which phones ring: they stop, as answered elsewhere. The operation is
    /// over without a word; whoever asked for it ([`Origin`]) is to be told what becomes of the taking.
    pub fn take_rung(&mut self, cx: &mut Core, waiting: LegId) -> Option<Origin> {
        let (id, origin) =
            self.ringing_operation(waiting).map(|operation| (operation.id, operation.origin))?;
        self.stop_ringing(cx, id, &elsewhere());
        self.operations.remove(&id);
        Some(origin)
    }

    pub(in crate::call) fn stop_ringing(&mut self, cx: &mut Core, id: OpId, reason: &[String]) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let Kind::Connect { ringing, .. } = &mut operation.kind else { return };
        for branch in std::mem::take(&mut ringing.branches) {
            self.cancel_branch(cx, branch, reason);
        }
        cx.timers.cancel(Timer::Operation(id));
    }

    /// The time an operation was given is over.
    pub(in crate::call) fn operation_timeout(&mut self, cx: &mut Core, id: OpId) {
        if let Some(Operation { kind: Kind::Connect { ringing, .. }, .. }) = self.operations.get_mut(&id)
            && !ringing.groups.is_empty()
            && !ringing.time_left.is_zero()
        {
            let left = std::mem::take(&mut ringing.time_left);
            cx.after(Timer::Operation(id), left);
            self.ring_next(cx, id);
            return;
        }
        self.stop_ringing(cx, id, &[]);
        self.fail(cx, id, Failed::new(Code::GENERAL, 408, "nobody answered"));
    }

    pub(in crate::call) fn connect_accepted(&mut self, cx: &mut Core, id: OpId) {
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

    pub(in crate::call) fn connected(&mut self, cx: &mut Core, id: OpId, a: LegId, b: LegId) {
        let rung = self.operations.get(&id).is_some_and(|op| match &op.kind {
            Kind::Connect { ringing, .. } => ringing.timeout.is_some(),
            _ => false,
        });
        self.link(cx, a, b);
        self.close_stream(cx, a);
        self.close_stream(cx, b);
        let done = if rung { Done::Answered { leg: b } } else { Done::Joined };
        self.finish(cx, id, Ok(done));
    }

    /// Ends a leg that answered for nothing: it never had a peer.
    pub(in crate::call) fn drop_stranger(&mut self, cx: &mut Core, id: LegId, why: &str) {
        let stranger = self.legs.get(&id).is_some_and(|leg| leg.peer == Peer::None && leg.stream.is_none());
        if stranger {
            self.hang_up(cx, id, Some(&format!("SIP;cause=487;text=\"{why}\"")), why);
        }
    }
}

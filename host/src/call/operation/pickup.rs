//! Two unanswered offers answered by the host: a ringing call is taken by another phone (offering + offering). A caller who
//! made no offer gets the picker's, and its answer goes to the picker.

use super::*;

impl Calls {
    /// Answers `caller` and `picker` from the codecs they have in common, each told the other's address, and stops the
    /// phones that ring for the caller. Nothing in common: the picker's INVITE fails, and the phones ring on.
    ///
    /// The caller's answer has a To tag of its own, so that early media a branch has answered does not bind it. With
    /// `missed`, phones that stop ringing are not told that the call was completed elsewhere, and show a missed call.
    pub fn pickup(
        &mut self,
        cx: &mut Core,
        origin: Origin,
        caller: LegId,
        picker: LegId,
        missed: bool,
    ) -> OpId {
        let id = OpId(cx.fresh_id());
        if self.offers_late(caller, picker) {
            self.pickup_late(cx, id, origin, caller, picker, missed);
            return id;
        }
        let result = self.answer_both(cx, caller, picker, missed);
        if origin != Origin::Phone {
            self.notify(Notice::Finished { origin, leg: caller, result });
        }
        id
    }

    fn answer_both(
        &mut self,
        cx: &mut Core,
        caller: LegId,
        picker: LegId,
        missed: bool,
    ) -> Result<Done, Failed> {
        let gone = || Failed::new(Code::LEG_GONE, 487, "the call is not ringing any more");
        let nothing = || Failed::new(Code::NOT_ACCEPTABLE, 488, "no codec in common");
        let described = |id: LegId| {
            let leg = self.legs.get(&id).filter(|leg| leg.incoming.is_some() && leg.busy.is_none())?;
            Some((leg.negotiation.clone(), leg.party.clone()))
        };
        let (mut caller_side, caller_party) = described(caller).ok_or_else(gone)?;
        let (mut picker_side, picker_party) = described(picker).ok_or_else(gone)?;
        let caller_offer = caller_side.has_remote_offer().then(|| caller_side.remote().cloned()).flatten();
        let picker_offer = picker_side.has_remote_offer().then(|| picker_side.remote().cloned()).flatten();
        // Without both offers there is nothing to compare; a late offer is somebody else's negotiation to make.
        let (caller_offer, picker_offer) =
            (caller_offer.ok_or_else(nothing)?, picker_offer.ok_or_else(nothing)?);
        let to_caller = caller_side.answer_common(&picker_offer).ok_or_else(nothing)?;
        let to_picker = picker_side.answer_common(&caller_offer).ok_or_else(nothing)?;
        for (id, side) in [(caller, caller_side), (picker, picker_side)] {
            if let Some(leg) = self.legs.get_mut(&id) {
                leg.negotiation = side;
            }
        }
        self.stop_for_pickup(cx, caller, missed);
        self.answer_invite(cx, caller, None, to_caller, Some(&picker_party));
        self.answer_invite(cx, picker, None, to_picker, Some(&caller_party));
        self.link(cx, caller, picker);
        self.notify(Notice::Answered { caller, callee: picker });
        Ok(Done::Joined)
    }

    fn stop_for_pickup(&mut self, cx: &mut Core, caller: LegId, missed: bool) {
        let reason = elsewhere();
        let incoming = self.legs.get_mut(&caller).and_then(|leg| leg.incoming.as_mut());
        for branch in incoming.map(|incoming| std::mem::take(&mut incoming.branches)).unwrap_or_default() {
            self.cancel_branch(cx, branch, if missed { &[] } else { &reason });
        }
    }

    /// Whether the caller waits for an offer, and the picker has made one.
    fn offers_late(&self, caller: LegId, picker: LegId) -> bool {
        let side = |id: LegId| self.legs.get(&id).filter(|leg| leg.busy.is_none());
        side(caller).is_some_and(|leg| leg.incoming.as_ref().is_some_and(|incoming| !incoming.offered))
            && side(picker).is_some_and(|leg| leg.incoming.is_some() && leg.negotiation.has_remote_offer())
    }

    /// The caller's 200 carries the picker's offer; the answer in its ACK is the picker's (see
    /// [`Calls::on_ack_answer`]).
    fn pickup_late(
        &mut self,
        cx: &mut Core,
        id: OpId,
        origin: Origin,
        caller: LegId,
        picker: LegId,
        missed: bool,
    ) {
        let picking = self.legs.get(&picker);
        let offer = picking.and_then(|leg| Some((leg.negotiation.remote()?.clone(), leg.party.clone())));
        let Some((sdp, party)) = offer else { return };
        self.stop_for_pickup(cx, caller, missed);
        let Some(leg) = self.legs.get_mut(&caller) else { return };
        let body = leg.negotiation.offer_of(&sdp, Directions::AsIs);
        for leg in [caller, picker] {
            if let Some(leg) = self.legs.get_mut(&leg) {
                leg.busy = Some(id);
            }
        }
        let kind = Kind::Relay { from: caller, to: picker, joins: true, stage: RelayStage::AwaitAck };
        self.operations.insert(id, Operation { id, origin, attempts: 0, kind });
        self.answer_invite(cx, caller, None, body, Some(&party));
    }
}

//! The host's own media towards a leg: music, a spoken number, silence.

use super::*;

impl Calls {
    /// Takes a leg's media to the host. Ends in [`Done::Played`].
    pub fn play(&mut self, cx: &mut Core, origin: Origin, leg: LegId, playlist: Playlist) -> OpId {
        self.begin(cx, origin, Kind::Play { leg, playlist, stage: PlayStage::Opening })
    }

    /// The host's own media is ready to be offered to the leg.
    pub(in crate::call) fn offer_host_media(&mut self, cx: &mut Core, id: OpId) {
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
                    let shown = self.legs.get(&leg_id).and_then(|leg| leg.shown.clone());
                    self.answer_invite(cx, leg_id, None, body, shown.as_ref());
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
    pub(in crate::call) fn played(
        &mut self,
        cx: &mut Core,
        id: OpId,
        leg_id: LegId,
        playlist: &Playlist,
        silent: bool,
    ) {
        let before = self.legs.get_mut(&leg_id).map(|leg| {
            leg.in_doubt = false;
            std::mem::replace(&mut leg.peer, Peer::Host)
        });
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

    /// The operation that owns this leg's session is a play of the host's media that waits for its port.
    pub(in crate::call) fn opening_for(&self, id: LegId) -> Option<OpId> {
        let operation = self.operations.get(&self.legs.get(&id)?.busy?)?;
        matches!(operation.kind, Kind::Play { stage: PlayStage::Opening, .. }).then_some(operation.id)
    }

    /// Whether the leg is going to be given back what it should hear; or just being given it, unless that is `outdated`.
    pub(in crate::call) fn is_to_be_mended(&self, id: LegId, outdated: bool) -> bool {
        let mends = |operation: &Operation| operation.origin == Origin::Mend && operation.is_on(id);
        self.queue.iter().any(mends) || !outdated && self.operations.values().any(mends)
    }

    /// Gives a leg back what it should hear: its session was changed for a peer it did not get.
    pub(in crate::call) fn mend(&mut self, cx: &mut Core, id: LegId) {
        let Some(leg) = self.legs.get(&id) else { return };
        match leg.peer {
            Peer::Host => {
                let playlist = Playlist { prompts: Vec::new(), then: leg.playlist.then.clone() };
                self.play(cx, Origin::Mend, id, playlist);
            }
            Peer::Leg(peer) => {
                self.join(cx, Origin::Mend, peer, id);
            }
            Peer::None => self.advance_queue(cx),
        }
    }
}

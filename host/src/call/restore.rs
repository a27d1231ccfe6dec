//! Calls across a restart: what a record must hold of a leg, and how the leg is made again from it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use switchyard_sdk::types::{Code, LegId, Party};

use super::leg::{Abilities, Leg, Peer, State, Trunk};
use super::negotiation::Negotiation;
use super::session_timer::SessionTimer;
use super::{Calls, Failed, Notice, OpId, Origin};
use crate::engine::core::{Core, Owner};
use crate::engine::timers::Timer;
use crate::media::Playlist;
use crate::net::{Flow, HostName};
use crate::sip::{ClientId, Dialog, DialogId, Message, Method, Status};
use crate::time::Utc;

/// How far the CSeq jumps when a leg is taken up again: a late request of the process that died, which may have used
/// numbers that were not stored, is then refused by the phone itself (design.md §8).
const CSEQ_JUMP: u32 = 1 << 16;

/// Everything about a leg that a phone would miss if it changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LegFacts {
    /// Call-ID, tags, targets, route set, CSeq numbers, flow.
    pub dialog: Dialog,
    /// Its side of offer/answer.
    pub negotiation: Negotiation,
    /// Our Contact.
    pub contact: String,
    /// Who is there.
    pub party: Party,
    /// What it can do.
    pub abilities: Abilities,
    /// Its session timer.
    pub session: SessionTimer,
    /// When it began.
    pub since: Utc,
    /// When it was answered.
    #[serde(default)]
    pub answered: Option<Utc>,
    /// Whether the host has called this phone.
    #[serde(default)]
    pub rung: bool,
    /// The name of the trunk, if it is one.
    #[serde(default)]
    pub trunk: Option<String>,
    /// Whether the phone holds its peer.
    #[serde(default)]
    pub holds: bool,
    /// Who was here last and left it waiting.
    #[serde(default)]
    pub brought_by: Option<Party>,
}

impl LegFacts {
    /// Which dialog it is.
    pub fn dialog(&self) -> DialogId {
        self.dialog.id()
    }
}

impl Calls {
    /// The facts of a confirmed leg.
    pub fn facts(&self, id: LegId) -> Option<LegFacts> {
        let leg = self.legs.get(&id).filter(|leg| leg.state == State::Confirmed)?;
        let mut dialog = leg.dialog.clone();
        // What the phone has no answer to yet, it asks again after a restart.
        if let Some((_, request)) = &leg.request {
            dialog.remote_cseq = request.cseq().number.checked_sub(1);
        }
        Some(LegFacts {
            dialog,
            negotiation: leg.negotiation.clone(),
            contact: leg.contact.clone(),
            party: leg.party.clone(),
            abilities: leg.abilities,
            session: leg.session,
            since: leg.since,
            answered: leg.answered,
            rung: leg.rung,
            trunk: leg.trunk.as_ref().map(|trunk| trunk.name.clone()),
            holds: leg.held_at.is_some(),
            brought_by: leg.brought_by.clone(),
        })
    }

    /// Whether nothing is under way on a leg that could be lost with this process: both sides know what they have agreed.
    pub fn is_settled(&self, id: LegId) -> bool {
        let settled = |leg: &Leg| {
            leg.state == State::Confirmed
                // An ACK that says nothing is not missed.
                && leg.await_ack.as_ref().is_none_or(|wait| !wait.wants_answer)
                && leg.busy.is_none()
                && leg.request.is_none()
                && leg.ack_owed.is_none()
                && !leg.in_doubt
                && leg.negotiation.is_stable()
        };
        self.legs.get(&id).is_some_and(settled)
    }

    /// Makes a leg from its facts and takes its media to the host again: the re-INVITE that follows tells whether
    /// the phone still knows the call. Ends in a [`Notice::Finished`](super::Notice) of [`Origin::Restore`].
    pub fn restore(
        &mut self,
        cx: &mut Core,
        facts: LegFacts,
        trunk: Option<Arc<Trunk>>,
        playlist: Playlist,
    ) -> (LegId, OpId) {
        let id = self.take_up(cx, facts, trunk, Peer::Host);
        let operation = self.play(cx, Origin::Restore, id, playlist);
        (id, operation)
    }

    /// A phone repeats its 2xx to an INVITE of a life before, or to one whose way broke, which wants its ACK: without one the phone
    /// gives the call up.
    /// If it was an offer the ACK leaves it unanswered; what was under way is put right by [`reunite`](Self::reunite), or here if
    /// the store had not been told of it.
    pub fn on_stray_answer(&mut self, cx: &mut Core, response: &Message) {
        let leg = DialogId::of_response(response).and_then(|dialog| self.dialogs.get(&dialog).copied());
        let cseq = response.cseq().number;
        let Some(leg) = leg.and_then(|id| self.legs.get_mut(&id)) else { return };
        // One that this life is about to acknowledge has a transaction.
        if leg.state != State::Confirmed || leg.ack_owed.is_some() || cseq > leg.dialog.local_cseq {
            return;
        }
        let (id, talks) = (leg.id, matches!(leg.peer, Peer::Leg(_)));
        let of_that_life = |recorded: u32| recorded < cseq && cseq <= recorded.saturating_add(CSEQ_JUMP);
        let unknown = leg.recorded_cseq.take_if(|recorded| talks && of_that_life(*recorded)).is_some()
            || leg.broken_off.take_if(|broken| talks && *broken == cseq).is_some();
        self.send_ack(cx, id, cseq, None);
        if unknown {
            self.tell_again(cx, id);
        }
    }

    /// Makes a leg from its facts, for now with nobody. Nothing is sent.
    pub fn restore_alone(&mut self, cx: &mut Core, facts: LegFacts, trunk: Option<Arc<Trunk>>) -> LegId {
        self.take_up(cx, facts, trunk, Peer::None)
    }

    /// Makes two legs from records each other's peer, as they were. Nothing is sent now; after `pauses` each phone is
    /// asked whether it still knows the call.
    pub fn reunite(&mut self, cx: &mut Core, legs: [LegId; 2], pauses: [Duration; 2]) {
        let [a, b] = legs;
        for ((one, other), pause) in [(a, b), (b, a)].into_iter().zip(pauses) {
            let Some(leg) = self.legs.get_mut(&one) else { continue };
            leg.peer = Peer::Leg(other);
            leg.call = a.0;
            leg.unheard = true;
            self.start_session_timer(cx, one);
            cx.after(Timer::Refresh(one), pause);
        }
    }

    /// A host that has lost the seat of this leg's pool had it like that at last, and its record perhaps did not. The leg, if its
    /// phone was told something else there than stands here.
    pub fn correct(&mut self, facts: LegFacts) -> Option<LegId> {
        let id = *self.dialogs.get(&facts.dialog())?;
        let leg = self.legs.get_mut(&id).filter(|leg| leg.state == State::Confirmed)?;
        if leg.negotiation.agrees_with(&facts.negotiation) {
            return None;
        }
        leg.in_doubt = true;
        leg.correction = Some(Box::new(facts));
        Some(id)
    }

    /// Goes on from how the leg was there, unless its phone has said something here since.
    pub(super) fn apply_correction(&mut self, cx: &Core, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let Some(facts) = leg.correction.take() else { return };
        if leg.dialog.remote_cseq <= facts.dialog.remote_cseq {
            leg.negotiation = facts.negotiation.following(&leg.negotiation);
            leg.held_at = facts.holds.then_some(cx.now.instant);
        }
    }

    /// What the phone of a leg and that of its peer know of each other is in doubt: both are told again after that pause, or when one
    /// of them is heard before.
    pub fn tell_again_after(&mut self, cx: &mut Core, id: LegId, pause: Duration) {
        if pause.is_zero() {
            return self.tell_again(cx, id);
        }
        for leg in [Some(id), self.peer_of(id)].into_iter().flatten() {
            if let Some(leg) = self.legs.get_mut(&leg) {
                leg.in_doubt = true;
            }
        }
        cx.after(Timer::TellAgain(id), pause);
    }

    /// It is their turn. If one of them has changed the call meanwhile both know how it is, and whatever was said elsewhere is older.
    pub(super) fn tell_if_in_doubt(&mut self, cx: &mut Core, id: LegId) {
        if self.legs.get(&id).is_some_and(|leg| leg.in_doubt) {
            return self.tell_again(cx, id);
        }
        for leg in [Some(id), self.peer_of(id)].into_iter().flatten() {
            if let Some(leg) = self.legs.get_mut(&leg) {
                leg.correction = None;
            }
        }
    }

    /// What the phone of a leg and that of its peer know of each other is in doubt: both are told again, now and, if that comes to
    /// nothing, when one of them is heard.
    pub fn tell_again(&mut self, cx: &mut Core, id: LegId) {
        let both = [Some(id), self.peer_of(id)];
        let mut corrected = false;
        for leg in both.into_iter().flatten() {
            if let Some(leg) = self.legs.get_mut(&leg) {
                leg.in_doubt = true;
                corrected |= leg.correction.is_some();
            }
        }
        if !both.into_iter().flatten().any(|leg| self.is_to_be_mended(leg, corrected)) {
            self.mend(cx, id);
        }
    }

    fn take_up(&mut self, cx: &mut Core, facts: LegFacts, trunk: Option<Arc<Trunk>>, peer: Peer) -> LegId {
        let id = LegId(cx.fresh_id());
        let LegFacts { mut dialog, mut negotiation, mut contact, .. } = facts;
        let recorded_cseq = Some(dialog.local_cseq);
        dialog.local_cseq = dialog.local_cseq.saturating_add(CSEQ_JUMP);
        // The connection died with the old process; a new one is opened, or the phone's own next one is used.
        dialog.flow.connection = None;
        let stranded = cx.is_stranded(&dialog.flow);
        if (stranded || !cx.listens_on(&dialog.flow))
            && let Some(flow) = cx.flow_to(dialog.flow.protocol, dialog.flow.remote)
        {
            contact = cx.contact(&flow, &format!("l{}", id.0));
            // Where a phone of a host that is gone registers anew, its calls are found by the way it had before.
            if !stranded {
                dialog.flow = flow;
            }
        }
        negotiation.go_on();
        let leg = Leg {
            rung: facts.rung,
            state: State::Confirmed,
            peer,
            trunk,
            abilities: facts.abilities,
            session: facts.session,
            answered: Some(facts.answered.unwrap_or(facts.since)),
            held_at: facts.holds.then_some(cx.now.instant),
            brought_by: facts.brought_by,
            recorded_cseq,
            stranded,
            ..Leg::new(id, facts.party, dialog, negotiation, contact, facts.since)
        };
        self.insert(leg);
        self.index(id);
        id
    }

    /// A host is gone: the phones that talked at its sockets get another Contact. Those who can be told it at once.
    pub fn strand(&mut self, cx: &mut Core, edge: HostName) -> Vec<LegId> {
        let there = |leg: &&Leg| leg.state == State::Confirmed && leg.dialog.flow.edge == Some(edge);
        let legs: Vec<LegId> = self.legs.values().filter(there).map(|leg| leg.id).collect();
        let mut told = Vec::new();
        for id in legs {
            let Some(leg) = self.legs.get_mut(&id) else { continue };
            let Flow { protocol, remote, .. } = leg.dialog.flow;
            let Some(own) = cx.flow_to(protocol, remote) else { continue };
            let contact = cx.contact(&own, &format!("l{}", id.0));
            // A name leads to another host by itself.
            let news = std::mem::replace(&mut leg.contact, contact) != leg.contact;
            leg.stranded = true;
            if !protocol.is_reliable() && news {
                told.push(id);
            }
        }
        told
    }

    /// A phone whose host is gone says something in its call by another one: that is its way now, if it still is where it was. What
    /// was asked of it the old way is not waited for.
    pub fn heard_from(&mut self, cx: &mut Core, id: LegId, flow: Flow) {
        let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.stranded) else { return };
        let before = leg.dialog.flow;
        if before.protocol == flow.protocol && before.remote.ip() == flow.remote.ip() {
            leg.dialog.flow = flow;
            leg.contact = cx.contact(&flow, &format!("l{}", id.0));
        }
        let refreshes = |client: &ClientId| cx.owner(*client) == Some(Owner::Refresh(id));
        if let Some(client) = leg.client.take_if(|client| refreshes(client)) {
            cx.disown(client);
            cx.tx.leave(cx.now, client);
            cx.timers.cancel(Timer::Reinvite(id));
            leg.negotiation.rollback();
        }
    }

    /// What there is to say on a leg goes another way from now on. True: its phone has to be asked or told something.
    pub fn follow(&mut self, cx: &Core, id: LegId, flow: Flow) -> bool {
        let Some(leg) = self.legs.get_mut(&id) else { return false };
        let before = std::mem::replace(&mut leg.dialog.flow, flow);
        let elsewhere =
            leg.stranded || cx.sent_by(&before) != cx.sent_by(&flow) || before.protocol != flow.protocol;
        if elsewhere {
            leg.contact = cx.contact(&flow, &format!("l{}", id.0));
        }
        elsewhere || leg.unheard || leg.in_doubt
    }

    /// Forgets confirmed legs without a word to their phones: somebody else serves them from now on, from their records.
    /// A phone that has asked for a change is told to ask again (491), and then asks there. One that has yet to
    /// answer an INVITE gets its ACK from here: without it, it would refuse whatever it is asked from there. And one whose INVITE was
    /// answered hears so from here until that is over: its ACK goes there.
    pub fn put_down(&mut self, cx: &mut Core, legs: &BTreeSet<LegId>) {
        let over = self.abandon(cx, legs);
        for id in legs {
            self.decline_request(cx, *id, Status::REQUEST_PENDING, None);
            let Some(leg) = self.legs.get_mut(id) else { continue };
            leg.twin = None;
            if let Some(client) = leg.client.take() {
                if cx.tx.request_of(client).is_some_and(|request| request.is_method(&Method::Invite)) {
                    cx.hand_over(client, Owner::Reinvite(*id));
                } else {
                    cx.disown(client);
                }
                cx.tx.leave(cx.now, client);
            }
            if let Some(owed) = leg.ack_owed.take() {
                let body = leg.negotiation.standing_answer();
                self.send_ack(cx, *id, owed.cseq, Some(body));
            }
            let Some(leg) = self.legs.get_mut(id) else { continue };
            if matches!(leg.peer, Peer::Leg(peer) if legs.contains(&peer)) {
                leg.peer = Peer::None;
            }
        }
        for id in legs {
            let unacknowledged = self.legs.get_mut(id).and_then(|leg| leg.await_ack.take());
            self.forget(cx, *id, false, "others serve the call now");
            if let Some(waited) = unacknowledged {
                cx.after(Timer::Answer(*id), waited.pause);
                self.unacknowledged.insert(*id, waited);
            }
        }
        for (origin, leg) in over {
            let result = Err(Failed::new(Code::LEG_GONE, 0, "others serve the call now"));
            self.notify(Notice::Finished { origin, leg, result });
        }
    }
}

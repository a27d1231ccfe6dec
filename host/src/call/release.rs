//! The end of legs. No failure of a plugin, policy, store or panel comes here for an established call: only a party,
//! a rule of RFC 3261, or an order does.

use std::time::Duration;

use switchyard_sdk::types::{LegId, Party};

use super::leg::{Peer, State};
use super::{Calls, Notice, Rejection};
use crate::engine::core::{Core, Owner};
use crate::engine::timers::Timer;
use crate::sip::{Draft, Message, Method, Name, ServerId, Status};

/// A BYE this soon after a refused transfer is the phone's doing, not its user's.
const REFUSED_BYE: Duration = Duration::from_secs(1);

impl Calls {
    /// BYE from a phone.
    pub(super) fn on_bye(&mut self, cx: &mut Core, id: LegId, server: ServerId, request: &Message) {
        let draft = Draft::response(request, Status::OK);
        cx.tx.respond(cx.now, server, &draft);
        let Some(leg) = self.legs.get(&id) else { return };
        if leg.state == State::Early {
            // A caller may end an early dialog by BYE (RFC 3261 §15); it means the whole INVITE here.
            if leg.incoming.is_some() {
                self.reject_invite(cx, id, &Rejection::new(Status::REQUEST_TERMINATED), true);
            }
            return;
        }
        // A request of theirs that waits for its answer dies with the dialog (RFC 3261 §15.1.2).
        self.decline_request(cx, id, Status::REQUEST_TERMINATED, None);
        let reason: Option<String> = request.get(Name::Reason).map(str::to_owned);
        // Some phones hang up by themselves when a transfer is refused. They did not mean their caller to fall off.
        let Some(leg) = self.legs.get(&id) else { return };
        let refused = leg.refused_at.is_some_and(|at| cx.now.instant.saturating_since(at) < REFUSED_BYE);
        let party = leg.party.clone();
        let peer = self.part(id);
        self.forget(cx, id, true, "hung up");
        match peer.and_then(|peer| Some((peer, self.legs.get_mut(&peer)?))) {
            Some((peer, leg)) if refused => {
                leg.brought_by = Some(party);
                self.notify(Notice::Stranded { leg: peer });
            }
            Some((peer, _)) => self.peer_left(cx, peer, reason.as_deref(), Some(party)),
            None => {}
        }
    }

    /// The other side of a call has gone: this side ends too, unless somebody has other plans for it.
    fn peer_left(&mut self, cx: &mut Core, id: LegId, reason: Option<&str>, who: Option<Party>) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        leg.peer = Peer::None;
        leg.brought_by = who;
        let planned = leg.flow.is_some() || self.has_plans(id);
        if !planned {
            self.hang_up(cx, id, reason, "the other side hung up");
        }
    }

    /// Makes a leg and its peer strangers; the peer, if it had one.
    fn part(&mut self, id: LegId) -> Option<LegId> {
        let Peer::Leg(peer) = std::mem::replace(&mut self.legs.get_mut(&id)?.peer, Peer::None) else {
            return None;
        };
        let other = self.legs.get_mut(&peer).filter(|other| other.peer == Peer::Leg(id))?;
        other.peer = Peer::None;
        Some(peer)
    }

    /// Whether an operation will give this leg another peer: a transfer under way, a parked call's recall.
    pub fn has_plans(&self, id: LegId) -> bool {
        self.operations.values().chain(&self.queue).any(|operation| operation.gives_peer_to(id))
    }

    /// Ends a leg in whatever state it is: BYE, CANCEL or a final response. Its peer, if it has one, is ended too.
    pub fn release(&mut self, cx: &mut Core, id: LegId, rejection: &Rejection) {
        let Some(leg) = self.legs.get(&id) else { return };
        if leg.incoming.is_some() {
            self.reject_invite(cx, id, rejection, false);
        } else if leg.outgoing.is_some() {
            self.cancel_branch(cx, id, &[]);
        } else {
            let text = rejection.reason.clone().unwrap_or_else(|| rejection.status.to_string());
            let reason = super::reject::reason_header(rejection.status, &text);
            let peer = self.part(id);
            self.hang_up(cx, id, Some(&reason), &text);
            if let Some(peer) = peer {
                self.peer_left(cx, peer, Some(&reason), None);
            }
        }
    }

    /// Ends a waiting leg with a Reason of its own (RFC 3326): for what is no answer to anything.
    pub fn end(&mut self, cx: &mut Core, id: LegId, reason: &str, why: &str) {
        self.part(id);
        self.hang_up(cx, id, Some(reason), why);
    }

    /// Sends BYE on a confirmed leg and forgets it.
    pub(super) fn hang_up(&mut self, cx: &mut Core, id: LegId, reason: Option<&str>, why: &str) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if leg.state != State::Confirmed {
            if let Some(outgoing) = leg.outgoing.take() {
                cx.tx.cancel(cx.now, outgoing.client, reason.map(str::to_owned).as_slice());
            }
            self.forget(cx, id, false, why);
            return;
        }
        if let Some(owed) = leg.ack_owed {
            // Their 2xx must be ACKed even though the call is over; its offer gets a valid answer: nothing.
            let body = leg.negotiation.standing_answer();
            self.send_ack(cx, id, owed.cseq, Some(body));
        }
        self.decline_request(cx, id, Status::REQUEST_TERMINATED, None);
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let mut draft = leg.dialog.request(Method::Bye);
        if let Some(reason) = reason {
            draft.add(Name::Reason, reason);
        }
        cx.request(leg.dialog.flow, draft, Owner::Bye(id));
        self.forget(cx, id, false, why);
    }

    /// Removes a leg and everything that hangs on it. If it still has a peer, that one is left alone with its plans, or
    /// ended too.
    pub(super) fn forget(&mut self, cx: &mut Core, id: LegId, by_party: bool, reason: &str) {
        let left = self.part(id).map(|peer| (peer, self.legs.get(&id).map(|leg| leg.party.clone())));
        let Some(mut leg) = self.legs.remove(&id) else { return };
        if let Some(user) = &leg.party.user {
            self.unlist(id, user);
        }
        cx.timers.cancel_leg(id);
        if let Some(client) = leg.client {
            // RFC 3261 §15.1.2 has the phone answer 487 now; one that does not is not waited for.
            cx.tx.cancel(cx.now, client, &[]);
        }
        for dialog in leg.dialog_ids() {
            self.dialogs.remove(&dialog);
        }
        if let Some(incoming) = &leg.incoming {
            self.invites.remove(&incoming.server);
        }
        if let Some(stream) = leg.stream.take() {
            self.streams.remove(&stream);
            cx.emit(crate::engine::Output::Media(crate::media::Command::Close { stream }));
        }
        leg.state = State::Ended;
        self.keep_subscriptions(id, &leg.dialog);
        let notice = Notice::Ended {
            leg: id,
            party: leg.party.clone(),
            by_party,
            answered: leg.answered.is_some(),
            reason: reason.to_owned(),
            flow: leg.flow,
            call_id: leg.dialog.call_id.clone(),
            twin: leg.twin,
        };
        if let Some(operation) = leg.busy {
            self.operation_lost_leg(cx, operation, id);
        }
        self.stop_operations_of(cx, id);
        self.notify(notice);
        self.advance_queue(cx);
        if let Some((peer, party)) = left {
            let why = super::reject::reason_header(Status::REQUEST_TIMEOUT, reason);
            self.peer_left(cx, peer, Some(&why), party);
        }
    }

    /// The phone of a parker or transferor has had its time to hang up by itself.
    pub(super) fn clear(&mut self, cx: &mut Core, id: LegId) {
        // It may have found somebody else to talk to, or wait in an orbit itself by now.
        let idle = self.legs.get(&id).is_some_and(|leg| {
            !matches!(leg.peer, Peer::Leg(_)) && leg.flow.is_none() && leg.request.is_none()
        });
        if !idle || self.has_plans(id) {
            return;
        }
        self.hang_up(cx, id, Some("SIP;cause=200;text=\"Transfer completed\""), "transfer completed");
    }

    /// Ends a leg after `delay` unless its phone does so first (design.md §7), or it is to end sooner already.
    pub fn clear_later(&mut self, cx: &mut Core, id: LegId, delay: Duration) {
        let sooner = cx.timers.when(Timer::Clear(id)).is_some_and(|at| at <= cx.now.instant + delay);
        if self.legs.contains_key(&id) && !sooner {
            cx.after(Timer::Clear(id), delay);
        }
    }
}

//! Early dialogs: what a caller sees of each ringing branch, reliable provisional responses (RFC 3262), and UPDATE
//! before the answer (RFC 3311).

use bytes::Bytes;
use switchyard_sdk::types::LegId;

use super::incoming::{T1, T2};
use super::leg::{Early, ForWhom, PrackOwed, Reliable};
use super::negotiation::Directions;
use super::request::retry_after;
use super::{Calls, Rejection};
use crate::engine::core::{ALLOW, Core, Owner};
use crate::engine::timers::Timer;
use crate::sip::body::sdp::Sdp;
use crate::sip::{ClientId, Draft, Message, Method, Name, ServerId, Status};

/// A downstream proxy forks at most to a handful of phones; more is somebody filling our memory.
pub(super) const EARLIES_MAX: usize = 16;

/// An offer on its way from one early dialog to the one on the other side, by UPDATE or PRACK.
#[derive(Debug)]
pub struct EarlyOffer {
    from: (LegId, String),
    to: (LegId, String),
    server: ServerId,
    request: Message,
}

impl Calls {
    /// Shows the caller what a branch says: a provisional response in the early dialog that stands for it.
    #[expect(clippy::too_many_arguments, reason = "all of one provisional response")]
    pub(super) fn pass_provisional(
        &mut self,
        cx: &mut Core,
        caller: LegId,
        branch: LegId,
        tag: &str,
        response: &Message,
        described: Option<Sdp>,
        rack: Option<String>,
    ) {
        let status = response.status().unwrap_or(Status::RINGING);
        let Some(leg) = self.legs.get_mut(&caller) else { return };
        let Some(incoming) = &leg.incoming else { return };
        let (rel, offered) = (incoming.rel, incoming.offered);
        if leg.trunk.as_ref().is_some_and(|trunk| trunk.hidden_forks) {
            if let Some(rack) = rack {
                self.send_prack(cx, branch, tag, &rack, None);
            }
            self.ringing(cx, caller);
            return;
        }
        let request = incoming.request.clone();
        if leg.early_for(branch, tag).is_none() {
            let mut dialog = leg.dialog.clone();
            dialog.local_tag = cx.fresh_tag();
            let negotiation = leg.negotiation.clone();
            leg.earlies.push(Early {
                dialog,
                negotiation,
                mate: Some((branch, tag.to_owned())),
                reliable: None,
                rseq: 0,
            });
            self.index(caller);
        }
        let Some(leg) = self.legs.get_mut(&caller) else { return };
        let contact = leg.contact.clone();
        let Some(early) = leg.early_for(branch, tag) else { return };
        let mut draft = Draft::response(&request, status);
        draft.reason(response.reason());
        draft.to_tag(&early.dialog.local_tag).add(Name::Contact, contact).add(Name::Allow, ALLOW);
        for value in response.all(Name::AlertInfo) {
            draft.add(Name::AlertInfo, value);
        }
        let mut carries_sdp = false;
        if let Some(sdp) = &described {
            if early.negotiation.has_remote_offer() {
                let body = early.negotiation.answer_of(sdp);
                draft.body("application/sdp", body);
                carries_sdp = true;
            } else if !offered
                && rel
                && early.negotiation.remote().is_none()
                && !early.negotiation.has_local_offer()
            {
                let body = early.negotiation.offer_of(sdp, Directions::AsIs);
                draft.body("application/sdp", body);
                carries_sdp = true;
            } else if offered && let Some(local) = early.negotiation.local() {
                draft.body("application/sdp", local.to_bytes());
            }
        }
        // One reliable response at a time; while one is under way, what the branch says meanwhile is told
        // unreliably, which costs a display at most.
        let reliable = rel && rack.is_some() && early.reliable.is_none();
        if reliable {
            early.rseq = if early.rseq == 0 { 1 } else { early.rseq + 1 };
            draft.add(Name::Require, "100rel").add(Name::RSeq, early.rseq);
        }
        let rseq = early.rseq;
        let server = incoming_server(leg.incoming.as_ref());
        let Some(server) = server else { return };
        let sent = cx.tx.respond(cx.now, server, &draft);
        let mut owed = rack.map(|rack| PrackOwed { leg: branch, tag: tag.to_owned(), rack });
        if reliable {
            let until = cx.now.instant + T1 * 64;
            let carried = if carries_sdp { owed.take() } else { None };
            if let Some(early) = self.legs.get_mut(&caller).and_then(|leg| leg.early_for(branch, tag)) {
                early.reliable =
                    Some(Reliable { rseq, bytes: sent.bytes().clone(), pause: T1, until, owed: carried });
            }
            cx.after(Timer::Provisional(caller), T1);
        }
        if let Some(owed) = owed {
            self.send_prack(cx, owed.leg, &owed.tag, &owed.rack, None);
        }
    }

    /// Sends a PRACK to a branch (RFC 3262 §4).
    pub(super) fn send_prack(
        &mut self,
        cx: &mut Core,
        id: LegId,
        tag: &str,
        rack: &str,
        body: Option<Bytes>,
    ) -> Option<ClientId> {
        let early = self.legs.get_mut(&id)?.early_from(tag)?;
        let mut draft = early.dialog.request(Method::Prack);
        draft.add(Name::RAck, rack);
        if let Some(body) = body {
            draft.body("application/sdp", body);
        }
        let flow = early.dialog.flow;
        Some(cx.request(flow, draft, Owner::Nobody))
    }

    /// A PRACK from a caller.
    pub(super) fn on_prack(&mut self, cx: &mut Core, id: LegId, server: ServerId, request: &Message) {
        let acknowledged =
            request.get(Name::RAck).and_then(|v| v.split_whitespace().next()?.parse::<u32>().ok());
        let tag = request.to_tag().unwrap_or_default().to_owned();
        let Some(early) = self.legs.get_mut(&id).and_then(|leg| leg.early_to(&tag)) else {
            cx.reply(server, request, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None);
            return;
        };
        let Some(reliable) = early.reliable.take_if(|reliable| Some(reliable.rseq) == acknowledged) else {
            cx.reply(server, request, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None);
            return;
        };
        match request.sdp() {
            // A new offer: answered in the 2xx to the PRACK (RFC 3262 §5), as the branch answers it.
            Some(offer) if !early.negotiation.has_local_offer() => {
                self.relay_early_offer(cx, (id, tag), server, request, &offer, reliable.owed);
            }
            body => {
                let onward = body.and_then(|body| {
                    early.negotiation.remote_answer(&body).ok()?;
                    early.negotiation.remote().cloned()
                });
                cx.tx.respond(cx.now, server, &Draft::response(request, Status::OK));
                if let Some(owed) = reliable.owed {
                    let body = onward.and_then(|sdp| {
                        let early = self.legs.get_mut(&owed.leg)?.early_from(&owed.tag)?;
                        early.negotiation.has_remote_offer().then(|| early.negotiation.answer_of(&sdp))
                    });
                    self.send_prack(cx, owed.leg, &owed.tag, &owed.rack, body);
                }
            }
        }
        let more =
            self.legs.get(&id).is_some_and(|leg| leg.earlies.iter().any(|early| early.reliable.is_some()));
        if !more {
            cx.timers.cancel(Timer::Provisional(id));
        }
    }

    /// Sends unacknowledged reliable provisional responses again, or gives the INVITE up (RFC 3262 §3).
    pub(super) fn provisional_timeout(&mut self, cx: &mut Core, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let flow = leg.dialog.flow;
        let mut next = None;
        for reliable in leg.earlies.iter_mut().filter_map(|early| early.reliable.as_mut()) {
            if cx.now.instant >= reliable.until {
                let rejection = Rejection::because(Status::SERVER_TIMEOUT, "No PRACK");
                self.reject_invite(cx, id, &rejection, false);
                return;
            }
            cx.tx.send_raw(flow, reliable.bytes.clone());
            reliable.pause = (reliable.pause * 2).min(T2 * 8);
            next = Some(next.map_or(reliable.pause, |pause: std::time::Duration| pause.min(reliable.pause)));
        }
        if let Some(pause) = next {
            cx.after(Timer::Provisional(id), pause);
        }
    }

    /// An UPDATE in an early dialog, from either side: passed to the early dialog on the other side.
    pub(super) fn on_early_update(&mut self, cx: &mut Core, id: LegId, server: ServerId, request: &Message) {
        let tag = request.to_tag().unwrap_or_default().to_owned();
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let is_caller = leg.incoming.is_some();
        let own = if is_caller { leg.early_to(&tag) } else { leg.early_from(request.from_tag()) };
        let Some(own) = own else {
            cx.reply(server, request, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None);
            return;
        };
        own.dialog.refresh_target(request);
        let own_tag = if is_caller { own.dialog.local_tag.clone() } else { own.dialog.remote_tag.clone() };
        let Some(body) = request.sdp() else {
            // Without an offer it only refreshes the target.
            let mut draft = Draft::response(request, Status::OK);
            draft.add(Name::Contact, &leg.contact);
            cx.tx.respond(cx.now, server, &draft);
            return;
        };
        self.relay_early_offer(cx, (id, own_tag), server, request, &body, None);
    }

    /// Passes the offer of an UPDATE or a PRACK in the early dialog `from` on to the early dialog on the other side:
    /// in the PRACK `owed` there, if there is one, else in an UPDATE. The answer comes back to
    /// [`on_early_offer_response`](Calls::on_early_offer_response).
    fn relay_early_offer(
        &mut self,
        cx: &mut Core,
        from: (LegId, String),
        server: ServerId,
        request: &Message,
        body: &[u8],
        owed: Option<PrackOwed>,
    ) {
        let Some(own) = self.early_dialog(from.0, &from.1) else { return };
        let refused = if own.negotiation.has_local_offer() {
            // Both sides offer at once (RFC 3311 §5.2).
            Some(Status::REQUEST_PENDING)
        } else if own.negotiation.has_remote_offer() {
            // We have not answered their last offer yet (RFC 3311 §5.2).
            Some(Status::SERVER_INTERNAL_ERROR)
        } else {
            own.negotiation.remote_offer(body).err().map(|_| Status::NOT_ACCEPTABLE_HERE)
        };
        if let Some(status) = refused {
            let mut draft = Draft::response(request, status);
            if status == Status::SERVER_INTERNAL_ERROR {
                draft.add(Name::RetryAfter, retry_after(from.0));
            }
            cx.tx.respond(cx.now, server, &draft);
            if let Some(owed) = owed {
                self.send_prack(cx, owed.leg, &owed.tag, &owed.rack, None);
            }
            return;
        }
        let Some(sdp) = own.negotiation.remote().cloned() else { return };
        let sent = self.other_side(&from).and_then(|to| {
            let leg = self.legs.get_mut(&to.0)?;
            let (contact, update) = (leg.contact.clone(), leg.abilities.update);
            let early = self.early_dialog(to.0, &to.1)?;
            // Before its first answer there is no session that an offer could change (RFC 3311 §5.1).
            let settled = early.negotiation.is_stable() && early.negotiation.local().is_some();
            if !settled || !(update || owed.is_some()) {
                return None;
            }
            let body = early.negotiation.offer_of(&sdp, Directions::AsIs);
            let client = match &owed {
                Some(owed) => self.send_prack(cx, owed.leg, &owed.tag, &owed.rack, Some(body))?,
                None => {
                    let mut draft = early.dialog.request(Method::Update);
                    draft.add(Name::Contact, contact).add(Name::Allow, ALLOW).body("application/sdp", body);
                    cx.request(early.dialog.flow, draft, Owner::Nobody)
                }
            };
            Some((client, to))
        });
        match sent {
            Some((client, to)) => {
                let offer = EarlyOffer { from, to, server, request: request.clone() };
                self.early_offers.insert(client, offer);
            }
            None => {
                if let Some(early) = self.early_dialog(from.0, &from.1) {
                    early.negotiation.rollback();
                }
                cx.reply(server, request, Status::NOT_ACCEPTABLE_HERE, None);
                if let Some(owed) = owed {
                    self.send_prack(cx, owed.leg, &owed.tag, &owed.rack, None);
                }
            }
        }
    }

    /// The early dialog that stands for this one on the other side of the call.
    fn other_side(&mut self, (id, tag): &(LegId, String)) -> Option<(LegId, String)> {
        let leg = self.legs.get_mut(id)?;
        if leg.incoming.is_some() {
            return leg.early_to(tag)?.mate.clone();
        }
        let ForWhom::Caller(caller) = leg.outgoing.as_ref()?.for_whom else { return None };
        let early = self.legs.get_mut(&caller)?.early_for(*id, tag)?;
        Some((caller, early.dialog.local_tag.clone()))
    }

    fn early_dialog(&mut self, id: LegId, tag: &str) -> Option<&mut Early> {
        let leg = self.legs.get_mut(&id)?;
        if leg.incoming.is_some() { leg.early_to(tag) } else { leg.early_from(tag) }
    }

    /// The answer to an offer passed on between early dialogs. False if the response is not about one.
    pub fn on_early_offer_response(
        &mut self,
        cx: &mut Core,
        client: ClientId,
        response: Option<&Message>,
    ) -> bool {
        if response.is_some_and(|response| response.status().is_some_and(Status::is_provisional)) {
            return self.early_offers.contains_key(&client);
        }
        let Some(offer) = self.early_offers.remove(&client) else { return false };
        cx.disown(client);
        let body = response.filter(|r| r.status().is_some_and(Status::is_success)).and_then(Message::sdp);
        let answer = body.and_then(|body| {
            let early = self.early_dialog(offer.to.0, &offer.to.1)?;
            early.negotiation.remote_answer(&body).ok()?;
            early.negotiation.remote().cloned()
        });
        let contact = self.legs.get(&offer.from.0).map(|leg| leg.contact.clone()).unwrap_or_default();
        match answer {
            Some(sdp) => {
                if let Some(early) = self.early_dialog(offer.from.0, &offer.from.1) {
                    let body = early.negotiation.answer_of(&sdp);
                    let mut draft = Draft::response(&offer.request, Status::OK);
                    draft.add(Name::Contact, contact).body("application/sdp", body);
                    cx.tx.respond(cx.now, offer.server, &draft);
                }
            }
            None => {
                for (leg, tag) in [&offer.from, &offer.to] {
                    if let Some(early) = self.early_dialog(*leg, tag) {
                        early.negotiation.rollback();
                    }
                }
                let status = response.and_then(Message::status).filter(|s| !s.is_success());
                cx.reply(offer.server, &offer.request, status.unwrap_or(Status::NOT_ACCEPTABLE_HERE), None);
            }
        }
        true
    }

    /// The offer on its way from or to this early dialog of a branch.
    pub(super) fn early_offer_on(&self, branch: LegId, tag: &str) -> Option<ClientId> {
        let is_end = |(leg, t): &(LegId, String)| *leg == branch && t == tag;
        self.early_offers
            .iter()
            .find(|(_, offer)| is_end(&offer.from) || is_end(&offer.to))
            .map(|(id, _)| *id)
    }

    /// The call was answered while an offer was on its way between the early dialogs that are now the call. A 2xx to
    /// the INVITE neither answers nor withdraws it (RFC 3261 §13.2.1, RFC 6337 §3.1.1): it is answered in the
    /// confirmed dialogs, like one that began there.
    pub(super) fn carry_early_offer_on(&mut self, cx: &mut Core, client: ClientId) {
        let Some(offer) = self.early_offers.remove(&client) else { return };
        let (from, to) = (offer.from.0, offer.to.0);
        if let Some(leg) = self.legs.get_mut(&from) {
            leg.request = Some((offer.server, offer.request));
        }
        if let Some(leg) = self.legs.get_mut(&to) {
            leg.client = Some(client);
        }
        cx.hand_over(client, Owner::Update(to));
        self.take_relay_over(cx, from, to);
    }

    /// The request that carries an offer between early dialogs goes out again, in another transaction.
    pub fn early_offer_sent_again(&mut self, before: ClientId, now: ClientId) {
        if let Some(offer) = self.early_offers.remove(&before) {
            self.early_offers.insert(now, offer);
        }
    }
}

fn incoming_server(incoming: Option<&super::leg::Incoming>) -> Option<ServerId> {
    incoming.map(|incoming| incoming.server)
}

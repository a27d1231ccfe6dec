//! Requests inside a dialog: re-INVITE, UPDATE, ACK, BYE, PRACK, INFO, MESSAGE, OPTIONS, NOTIFY. REFER is in `refer`.

use std::time::Duration;

use bytes::Bytes;
use switchyard_sdk::types::{LegId, Party};

use super::incoming::{T1, T2, check_require, offer_in};
use super::leg::{AwaitAck, Credentials, Peer, State};
use super::negotiation::HostCodecs;
use super::session_timer::{MINIMUM, SessionTimer};
use super::{Calls, Rejection};
use crate::engine::core::{ALLOW, Core, Owner, SUPPORTED};
use crate::engine::timers::Timer;
use crate::registrar::{Login, answer_challenge};
use crate::sip::{ClientId, Draft, Failure, Message, Method, Name, ServerId, Status};

impl Calls {
    /// A request in one of our dialogs, REFER excepted. `id` is the leg it belongs to.
    pub fn on_request(&mut self, cx: &mut Core, id: LegId, server: ServerId, request: &Message) {
        let tag = request.to_tag().unwrap_or_default().to_owned();
        let from_tag = request.from_tag().to_owned();
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let early = leg.state == State::Early;
        let in_order = if early {
            let own = if leg.incoming.is_some() { leg.early_to(&tag) } else { leg.early_from(&from_tag) };
            own.is_none_or(|early| early.dialog.receive(request).is_ok())
        } else {
            leg.dialog.receive(request).is_ok()
        };
        if !in_order {
            // RFC 3261 §12.2.2.
            cx.reply(server, request, Status::SERVER_INTERNAL_ERROR, Some("CSeq out of order"));
            return;
        }
        leg.unheard = false;
        leg.stranded = false;
        match request.method() {
            Method::Invite if early => {
                // RFC 3261 §14.2: a second INVITE before the first is answered.
                let mut draft = Draft::response(request, Status::SERVER_INTERNAL_ERROR);
                draft.add(Name::RetryAfter, 5);
                cx.tx.respond(cx.now, server, &draft);
            }
            Method::Update if early => self.on_early_update(cx, id, server, request),
            Method::Invite | Method::Update => self.on_session_request(cx, id, server, request),
            Method::Bye => self.on_bye(cx, id, server, request),
            Method::Prack => self.on_prack(cx, id, server, request),
            Method::Info | Method::Message => self.pass_on(cx, id, server, request),
            Method::Options => {
                let mut draft = Draft::response(request, Status::OK);
                draft
                    .add(Name::Allow, ALLOW)
                    .add(Name::Supported, SUPPORTED)
                    .add(Name::Accept, "application/sdp");
                cx.tx.respond(cx.now, server, &draft);
            }
            Method::Notify => cx.reply(server, request, Status::OK, None),
            _ => cx.reply(server, request, Status::METHOD_NOT_ALLOWED, None),
        }
    }

    /// A re-INVITE or UPDATE of theirs in a confirmed dialog.
    fn on_session_request(&mut self, cx: &mut Core, id: LegId, server: ServerId, request: &Message) {
        if let Err(rejection) = check_require(request) {
            self.refuse(cx, server, request, &rejection);
            return;
        }
        let session = match SessionTimer::from_request(request) {
            Ok(session) => session,
            Err(_) => {
                let rejection = Rejection {
                    headers: vec![(Name::MinSe, MINIMUM.as_secs().to_string())],
                    ..Rejection::new(Status::SESSION_INTERVAL_TOO_SMALL)
                };
                self.refuse(cx, server, request, &rejection);
                return;
            }
        };
        let offer = match offer_in(request) {
            Ok(offer) => offer,
            Err(rejection) => {
                self.refuse(cx, server, request, &rejection);
                return;
            }
        };
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let invite = request.method() == Method::Invite;
        if !invite && offer.is_none() {
            // A bare UPDATE refreshes the session and the target, nothing else (RFC 4028 §7.4).
            leg.dialog.refresh_target(request);
            leg.session = session;
            let mut draft = Draft::response(request, Status::OK);
            draft.add(Name::Contact, &leg.contact).add(Name::Allow, ALLOW).add(Name::Supported, SUPPORTED);
            leg.session.answer(&mut draft);
            cx.tx.respond(cx.now, server, &draft);
            self.start_session_timer(cx, id);
            return;
        }
        let peer = leg.peer;
        let peer_busy = match peer {
            Peer::Leg(peer) => self.legs.get(&peer).is_some_and(|peer| !peer.is_idle()),
            Peer::None | Peer::Host => false,
        };
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if leg.request.is_some() {
            // One of theirs is being answered: a second one is out of place (RFC 3261 §14.2).
            let mut draft = Draft::response(request, Status::SERVER_INTERNAL_ERROR);
            draft.add(Name::RetryAfter, retry_after(id));
            cx.tx.respond(cx.now, server, &draft);
            return;
        }
        if leg.busy.is_some() || leg.client.is_some() || leg.await_ack.is_some() || peer_busy {
            cx.reply(server, request, Status::REQUEST_PENDING, None);
            return;
        }
        if let Some(offer) = &offer
            && let Err(error) = leg.negotiation.remote_offer(offer)
        {
            let rejection = Rejection::because(Status::NOT_ACCEPTABLE_HERE, error.to_string());
            self.refuse(cx, server, request, &rejection);
            return;
        }
        leg.dialog.refresh_target(request);
        leg.abilities = super::Abilities::of(request);
        leg.session = session;
        leg.request = Some((server, request.clone()));
        match peer {
            Peer::Leg(peer) => self.relay(cx, id, peer),
            Peer::Host | Peer::None => self.answer_for_the_host(cx, id),
        }
    }

    /// Takes a re-INVITE for an operation that the engine begins: a parker resumes the call he has parked. False if
    /// it was refused already.
    pub fn take_request(&mut self, cx: &mut Core, id: LegId, server: ServerId, request: &Message) -> bool {
        let Some(leg) = self.legs.get_mut(&id) else { return false };
        if leg.dialog.receive(request).is_err() {
            cx.reply(server, request, Status::SERVER_INTERNAL_ERROR, Some("CSeq out of order"));
            return false;
        }
        let offered = request.sdp().is_some_and(|body| leg.negotiation.remote_offer(&body).is_ok());
        if !offered {
            cx.reply(server, request, Status::NOT_ACCEPTABLE_HERE, None);
            return false;
        }
        leg.dialog.refresh_target(request);
        leg.request = Some((server, request.clone()));
        true
    }

    /// Refuses what [`Calls::take_request`] took.
    pub fn decline(&mut self, cx: &mut Core, id: LegId, status: Status) {
        self.decline_request(cx, id, status, None);
    }

    /// The phone changes its session while the host is its peer, or while it has none for a moment.
    fn answer_for_the_host(&mut self, cx: &mut Core, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let body = match leg.stream_address {
            Some(address) if leg.negotiation.has_remote_offer() => leg.negotiation.host_answer(address),
            Some(address) => Some(leg.negotiation.host_offer(address, HostCodecs::default())),
            None if leg.negotiation.has_remote_offer() => Some(leg.negotiation.standing_answer()),
            None => Some(leg.negotiation.inactive_offer()),
        };
        match body {
            Some(body) => {
                self.answer_request(cx, id, body);
                self.refresh_media(cx, id);
                self.notice_hold(cx, id);
            }
            None => self.decline_request(cx, id, Status::NOT_ACCEPTABLE_HERE, None),
        }
    }

    /// 200 to their re-INVITE or UPDATE.
    pub(super) fn answer_request(&mut self, cx: &mut Core, id: LegId, body: Bytes) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let Some((server, request)) = leg.request.take() else { return };
        self.take_up_asserted(id);
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let mut draft = Draft::response(&request, Status::OK);
        draft.add(Name::Contact, &leg.contact).add(Name::Allow, ALLOW).add(Name::Supported, SUPPORTED);
        // A PRACK refreshes no session (RFC 4028 §7.4).
        if request.method() != Method::Prack {
            leg.session.answer(&mut draft);
        }
        draft.body("application/sdp", body);
        cx.tx.respond(cx.now, server, &draft);
        if request.method() == Method::Invite {
            leg.await_ack = Some(AwaitAck {
                server,
                cseq: request.cseq().number,
                pause: T1,
                until: cx.now.instant + T1 * 64,
                wants_answer: leg.negotiation.has_local_offer(),
            });
            cx.after(Timer::Answer(id), T1);
        }
        self.start_session_timer(cx, id);
    }

    /// Refuses their re-INVITE or UPDATE: the session stays as it is.
    pub(super) fn decline_request(
        &mut self,
        cx: &mut Core,
        id: LegId,
        status: Status,
        response: Option<&Message>,
    ) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let Some((server, request)) = leg.request.take() else { return };
        leg.asserted = None;
        leg.negotiation.rollback();
        let mut draft = Draft::response(&request, status);
        if let Some(response) = response {
            for name in [Name::Warning, Name::RetryAfter] {
                for value in response.all(name) {
                    draft.add(name, value);
                }
            }
        }
        cx.tx.respond(cx.now, server, &draft);
    }

    fn refuse(&mut self, cx: &mut Core, server: ServerId, request: &Message, rejection: &Rejection) {
        let mut draft = Draft::response(request, rejection.status);
        if let Some(reason) = &rejection.reason {
            draft.reason(reason);
        }
        for (name, value) in &rejection.headers {
            draft.add(*name, value);
        }
        cx.tx.respond(cx.now, server, &draft);
    }

    /// An ACK for a 2xx of ours.
    pub fn on_ack(&mut self, cx: &mut Core, request: &Message) {
        let Some(id) = self.leg_of(request) else { return };
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let Some(waited) = leg.await_ack.take_if(|waited| waited.cseq == request.cseq().number) else {
            return;
        };
        cx.timers.cancel(Timer::Answer(id));
        if waited.wants_answer {
            if leg.peer == Peer::Host || leg.busy.is_none() && leg.peer == Peer::None {
                if let Some(body) = request.sdp() {
                    let _ = leg.negotiation.remote_answer(&body);
                } else {
                    leg.negotiation.rollback();
                }
                let playlist = leg.playlist.clone();
                self.send_media(cx, id, &playlist);
            } else {
                self.on_ack_answer(cx, id, request.sdp());
            }
            // A call that never had a session is none.
            if self.legs.get(&id).is_some_and(|leg| leg.negotiation.remote().is_none()) {
                let why = "No usable session description";
                self.release(cx, id, &Rejection::because(Status::NOT_ACCEPTABLE_HERE, why));
            }
        }
        self.advance_queue(cx);
    }

    /// Sends our 2xx again, or gives the dialog up when its ACK never came (RFC 3261 §13.3.1.4).
    pub(super) fn answer_timeout(&mut self, cx: &mut Core, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else {
            // Others have the leg, and its ACK: this ends with its time.
            if let Some(waited) = self.unacknowledged.get_mut(&id) {
                if cx.now.instant < waited.until {
                    again(cx, id, waited);
                } else {
                    self.unacknowledged.remove(&id);
                }
            }
            return;
        };
        let Some(waited) = leg.await_ack.as_mut() else { return };
        if cx.now.instant >= waited.until {
            let wanted = waited.wants_answer;
            leg.await_ack = None;
            if wanted {
                self.on_ack_answer(cx, id, None);
            }
            self.hang_up(cx, id, Some("SIP;cause=408;text=\"No ACK\""), "no ACK");
            return;
        }
        again(cx, id, waited);
    }

    /// A response to our re-INVITE or UPDATE.
    pub fn on_session_response(&mut self, cx: &mut Core, client: ClientId, id: LegId, response: &Message) {
        let status = response.status().unwrap_or(Status::TRYING);
        if status.is_provisional() {
            return;
        }
        let Some(leg) = self.legs.get_mut(&id) else {
            self.ack_orphan(cx, client, response);
            return;
        };
        if leg.client != Some(client) {
            // A repeated 2xx: its ACK was lost.
            if status.is_success()
                && let Some((cseq, ack)) = &leg.last_ack
                && *cseq == response.cseq().number
            {
                cx.tx.send_raw(leg.dialog.flow, ack.clone());
            }
            return;
        }
        leg.client = None;
        leg.unheard = false;
        leg.stranded = false;
        cx.timers.cancel(Timer::Reinvite(id));
        if status.is_success() {
            leg.credentials = cx.tx.request_of(client).map(Credentials::of).unwrap_or_default();
            leg.dialog.refresh_target(response);
            leg.session = leg.session.refreshed(response);
            self.start_session_timer(cx, id);
            self.on_accepted(cx, id, response);
        } else if self.answer_challenge_in_dialog(cx, client, id, response) {
        } else {
            cx.disown(client);
            self.on_declined(cx, id, status, Some(response));
        }
    }

    /// A 2xx to a re-INVITE of a leg that has ended meanwhile still wants its ACK.
    fn ack_orphan(&mut self, cx: &mut Core, client: ClientId, response: &Message) {
        if response.method() != Method::Invite || !response.status().is_some_and(Status::is_success) {
            return;
        }
        let (Some(request), Some(flow)) = (cx.tx.request_of(client).cloned(), cx.tx.flow_of_client(client))
        else {
            return;
        };
        let dialog = crate::sip::Dialog::uac(&request, response, flow);
        let sent_by = cx.sent_by(&flow);
        let mut ack = dialog.ack(response.cseq().number);
        Credentials::of(&request).add_to(&mut ack);
        cx.tx.send_ack(flow, &sent_by, ack);
    }

    /// Our re-INVITE or UPDATE was not answered, or could not be sent.
    pub fn on_session_failed(&mut self, cx: &mut Core, client: ClientId, id: LegId, why: Failure) {
        if why == Failure::Transport
            && let Some(leg) = self.legs.get_mut(&id)
            && let Some(again) = cx.fall_back(client)
        {
            leg.client = Some(again);
            return;
        }
        let invite = cx.tx.request_of(client).filter(|request| request.is_method(&Method::Invite));
        let cseq = invite.map(|invite| invite.cseq().number);
        cx.disown(client);
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if leg.client.take_if(|current| *current == client).is_none() {
            return;
        }
        if why == Failure::Transport {
            leg.broken_off = cseq.or(leg.broken_off);
        }
        cx.timers.cancel(Timer::Reinvite(id));
        let status = match why {
            // Its silence is the way's, which it has again when it registers.
            Failure::Timeout if leg.stranded => Status::SERVICE_UNAVAILABLE,
            Failure::Timeout => Status::REQUEST_TIMEOUT,
            Failure::Transport => Status::SERVICE_UNAVAILABLE,
        };
        self.on_declined(cx, id, status, None);
        self.advance_queue(cx);
    }

    /// A trunk challenges requests within a dialog, too.
    fn answer_challenge_in_dialog(
        &mut self,
        cx: &mut Core,
        client: ClientId,
        id: LegId,
        response: &Message,
    ) -> bool {
        let Some(sent) = cx.tx.request_of(client).cloned() else { return false };
        let challenged_before =
            sent.get(Name::Authorization).is_some() || sent.get(Name::ProxyAuthorization).is_some();
        let Some(leg) = self.legs.get_mut(&id) else { return false };
        let Some((user, password)) = leg.trunk.as_ref().and_then(|trunk| trunk.credentials.clone()) else {
            return false;
        };
        let asked = response.status() == Some(Status::UNAUTHORIZED)
            || response.status() == Some(Status::PROXY_AUTHENTICATION_REQUIRED);
        if !asked || challenged_before {
            return false;
        }
        let method = sent.method();
        let cnonce = cx.fresh_tag();
        let uri = leg.dialog.remote_target.clone();
        let login = Login { user: &user, password: &password };
        let Some((name, value)) = answer_challenge(response, login, &method, &uri, 1, &cnonce) else {
            return false;
        };
        let mut draft = leg.refreshing(method.clone());
        draft.set(name, value);
        if !sent.body().is_empty() {
            draft.body(sent.content_type().unwrap_or("application/sdp"), sent.body());
        }
        let owner = if method == Method::Invite { Owner::Reinvite(id) } else { Owner::Update(id) };
        cx.disown(client);
        leg.client = Some(cx.request(leg.dialog.flow, draft, owner));
        true
    }

    /// Tells a phone whom it is connected with, by an UPDATE that says nothing about media (RFC 3311, RFC 3325). Only if
    /// the phone allows UPDATE, and nothing is under way.
    pub fn show(&mut self, cx: &mut Core, id: LegId, party: &Party) {
        let asserted = super::identity::asserted(cx, party);
        let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.abilities.update && leg.is_idle()) else {
            return;
        };
        let mut draft = leg.dialog.request(Method::Update);
        draft.add(Name::Contact, &leg.contact).add(Name::Allow, ALLOW).add(Name::Supported, SUPPORTED);
        draft.add(Name::PAssertedIdentity, asserted);
        cx.request(leg.dialog.flow, draft, Owner::Nobody);
    }

    /// INFO and MESSAGE within a call go to the other side as they are (RFC 6086, RFC 3428).
    fn pass_on(&mut self, cx: &mut Core, id: LegId, server: ServerId, request: &Message) {
        let peer = self
            .peer_of(id)
            .filter(|peer| self.legs.get(peer).is_some_and(|leg| leg.state == State::Confirmed));
        let Some(peer) = peer else {
            // The host itself has nothing to do with keys pressed into its music.
            let status = if request.method() == Method::Info { Status::OK } else { Status::NOT_FOUND };
            cx.reply(server, request, status, None);
            return;
        };
        let Some(leg) = self.legs.get_mut(&peer) else { return };
        let mut draft = leg.dialog.request(request.method());
        for name in [Name::ContentDisposition, Name::ContentLanguage, Name::ContentEncoding] {
            for value in request.all(name) {
                draft.add(name, value);
            }
        }
        for name in ["Info-Package", "Recv-Info"] {
            if let Some(value) = request.header(name) {
                draft.add_raw(name, value);
            }
        }
        if !request.body().is_empty() {
            draft.body(request.content_type().unwrap_or("application/octet-stream"), request.body());
        }
        cx.request(leg.dialog.flow, draft, Owner::Relay(peer, server));
    }

    /// The other side's answer to an INFO or MESSAGE passed on.
    pub fn on_relayed_response(
        &mut self,
        cx: &mut Core,
        client: ClientId,
        server: ServerId,
        answer: Result<&Message, Failure>,
    ) {
        if answer.as_ref().is_ok_and(|response| response.status().is_some_and(Status::is_provisional)) {
            return;
        }
        cx.disown(client);
        let status = match &answer {
            Ok(response) => response.status().unwrap_or(Status::OK),
            Err(Failure::Timeout) => Status::REQUEST_TIMEOUT,
            Err(Failure::Transport) => Status::SERVICE_UNAVAILABLE,
        };
        let Some(request) = cx.tx.request_of_server(server).cloned() else { return };
        let mut draft = Draft::response(&request, status);
        let tag = cx.fresh_tag();
        draft.to_tag(&tag);
        if let Ok(response) = answer {
            draft.reason(response.reason());
            if let (Some(content_type), false) = (response.content_type(), response.body().is_empty()) {
                draft.body(content_type, response.body());
            }
        }
        cx.tx.respond(cx.now, server, &draft);
    }
}

/// 500 with a pause of 0–10 s, spread over legs (RFC 3261 §14.2).
pub(super) fn retry_after(id: LegId) -> u64 {
    Duration::from_secs(1 + id.0 % 9).as_secs()
}

/// Sends a 2xx once more, and sees to the next time.
fn again(cx: &mut Core, id: LegId, waited: &mut AwaitAck) {
    waited.pause = (waited.pause * 2).min(T2);
    cx.tx.resend(waited.server);
    cx.after(Timer::Answer(id), waited.pause);
}

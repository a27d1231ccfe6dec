//! What a phone makes of what it hears.

use switchyard_host::registrar::{Login, answer_challenge};
use switchyard_host::sip::{
    ClientId, Dialog, Draft, Event, Message, Method, Name, NameAddr, ServerId, Status,
};

use super::{ALLOW, Call, CallId, OnRing, Phone, Wants};

/// Up to this CSeq a phone believes that its nonce was stale.
const STALE_MAX: u32 = 5;

impl Phone {
    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Request { server, request, .. } => self.on_request(server, &request),
            Event::Ack { request, .. } => {
                let key = (request.call_id().to_owned(), request.cseq().number);
                self.unacknowledged.retain(|waiting| waiting.key != key);
                if let Some(call) = self.calls.iter_mut().find(|call| call.invite.call_id() == key.0) {
                    if let Some(answer) = request.sdp() {
                        call.heard = Some(String::from_utf8_lossy(&answer).into_owned());
                    }
                    call.ack = Some(request);
                }
            }
            Event::Cancel { invite, .. } => {
                if let Some(call) = self.calls.iter_mut().find(|call| call.server == Some(invite)) {
                    call.server = None;
                    call.over = true;
                    let draft = Draft::response(&call.invite, Status::REQUEST_TERMINATED);
                    self.tx.respond(self.now, invite, &draft);
                }
            }
            Event::Response { client, response, .. } => self.on_response(client, &response),
            Event::Stray { .. } => {}
            Event::Failed { client, .. } => match self.owners.get(&client).copied() {
                Some(Wants::Invite(id)) => {
                    self.calls[id.0].failed = Some(Status::REQUEST_TIMEOUT);
                    self.calls[id.0].over = true;
                }
                Some(Wants::Reinvite(id) | Wants::Refer(id) | Wants::Update(id)) => {
                    self.calls[id.0].reinvite = None;
                    self.hang_up(id);
                }
                Some(Wants::Register | Wants::Subscribe(_) | Wants::Other) | None => {}
            },
        }
    }

    fn on_request(&mut self, server: ServerId, request: &Message) {
        let known = request.to_tag().and_then(|tag| {
            self.calls.iter().position(|call| {
                let dialogs = [&call.dialog, &call.early];
                dialogs.into_iter().flatten().any(|d| d.call_id == request.call_id() && d.local_tag == tag)
                    && !call.over
            })
        });
        if self.challenge
            && request.method() == Method::Invite
            && request.get(Name::ProxyAuthorization).is_none()
        {
            let nonce = self.fresh();
            let challenge = format!("Digest realm=\"gw\", nonce=\"{nonce}\", qop=\"auth\", algorithm=MD5");
            let mut draft = Draft::response(request, Status::PROXY_AUTHENTICATION_REQUIRED);
            draft.to_tag("gw").add(Name::ProxyAuthenticate, challenge);
            self.tx.respond(self.now, server, &draft);
            return;
        }
        // As strict as RFC 3261 §12.2.2 allows: what is out of order is not carried out.
        if let Some(dialog) = known.and_then(|id| self.calls[id].dialog.as_mut())
            && request.method() != Method::Ack
            && dialog.receive(request).is_err()
        {
            self.tx.respond(self.now, server, &Draft::response(request, Status::SERVER_INTERNAL_ERROR));
            return;
        }
        let mut draft = Draft::response(request, Status::OK);
        match (request.method(), known) {
            (Method::Invite, None) if request.to_tag().is_none() => {
                self.on_invite(server, request);
                return;
            }
            (Method::Invite, Some(_)) if self.ignore_reinvites => return,
            // Two re-INVITEs that cross (RFC 3261 §14.2).
            (Method::Invite, Some(id)) if self.calls[id].reinvite.is_some() => {
                draft = Draft::response(request, Status::REQUEST_PENDING);
            }
            (Method::Invite, Some(id)) => {
                self.expect_ack(server, request);
                if !self.refuse_reinvites.is_empty() {
                    self.unacknowledged.pop();
                    let status = self.refuse_reinvites.remove(0);
                    self.tx.respond(self.now, server, &Draft::response(request, status));
                    return;
                }
                let direction = answering(request);
                let body = self.sdp(direction);
                draft.add(Name::Contact, self.contact());
                draft.body("application/sdp", body);
                self.agree_on_time(CallId(id), request, &mut draft);
                let call = &mut self.calls[id];
                if let Some(sdp) = request.sdp() {
                    call.heard = Some(String::from_utf8_lossy(&sdp).into_owned());
                }
                if let Some(identity) = request.get(Name::PAssertedIdentity) {
                    call.identity = Some(identity.to_owned());
                }
                if let Some(dialog) = call.dialog.as_mut() {
                    dialog.refresh_target(request);
                }
            }
            (Method::Bye, Some(id)) => {
                let call = &mut self.calls[id];
                call.up = false;
                call.over = true;
                call.bye_reason = request.get(Name::Reason).map(str::to_owned);
            }
            (Method::Notify, _) => {
                if let Some(status) = self.on_lamp(request) {
                    self.tx.respond(self.now, server, &Draft::response(request, status));
                    return;
                }
                if request.get(Name::Event).is_some_and(|event| event.starts_with("dialog")) {
                    // It was switched off since it subscribed.
                    let draft = Draft::response(request, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
                    self.tx.respond(self.now, server, &draft);
                    return;
                }
                let body = String::from_utf8_lossy(&request.body()).trim_end().to_owned();
                let tag = request.to_tag().unwrap_or_default();
                if let Some(call) = self.calls.iter_mut().find(|c| {
                    c.dialog.as_ref().is_some_and(|d| d.call_id == request.call_id() && d.local_tag == tag)
                }) {
                    call.notified.push(body);
                }
            }
            (Method::Message, _) => self.messages.push(String::from_utf8_lossy(&request.body()).into_owned()),
            (Method::Update | Method::Prack, Some(id)) => {
                let offered = self.calls[id].invite.sdp().is_some();
                self.calls[id].early_answered |= request.method() == Method::Prack && offered;
                if request.sdp().is_some() {
                    if self.holds_updates {
                        self.held_updates.push((server, request.clone()));
                    } else {
                        self.answer_update(id, server, request);
                    }
                    return;
                }
                if request.method() == Method::Update {
                    self.agree_on_time(CallId(id), request, &mut draft);
                }
            }
            (Method::Options | Method::Info, Some(_)) => {}
            (_, None) => draft = Draft::response(request, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST),
            _ => draft = Draft::response(request, Status::NOT_IMPLEMENTED),
        }
        self.tx.respond(self.now, server, &draft);
    }

    /// Answers the new offers it has held back.
    pub fn answer_updates(&mut self) {
        for (server, request) in std::mem::take(&mut self.held_updates) {
            if let Some(id) = self.calls.iter().position(|call| call.invite.call_id() == request.call_id()) {
                self.answer_update(id, server, &request);
            }
        }
    }

    fn answer_update(&mut self, id: usize, server: ServerId, request: &Message) {
        let mut draft = Draft::response(request, self.refuse_updates.unwrap_or(Status::OK));
        if self.refuse_updates.is_none() {
            let body = self.sdp(answering(request));
            draft.body("application/sdp", body);
            self.calls[id].heard = request.sdp().map(|offer| String::from_utf8_lossy(&offer).into_owned());
        }
        self.tx.respond(self.now, server, &draft);
    }

    fn on_invite(&mut self, server: ServerId, request: &Message) {
        let id = CallId(self.calls.len());
        self.calls.push(Call::new(request.clone(), Some(server), None));
        match self.on_ring {
            OnRing::Ignore => {}
            OnRing::Refuse(status) => self.refuse(id, status),
            OnRing::Ring | OnRing::AnswerAfter(_) => {
                let status = if self.early_media { Status::SESSION_PROGRESS } else { Status::RINGING };
                let tag = format!("{}{}", self.name, id.0);
                self.calls[id.0].early = Some(Dialog::uas(request, &tag, self.flow()));
                let mut draft = Draft::response(request, status);
                draft.to_tag(&tag).add(Name::Allow, ALLOW).add(Name::Contact, self.contact());
                if self.early_media {
                    let body = self.sdp("sendrecv");
                    draft.body("application/sdp", body);
                    if request.supports("100rel") {
                        draft.add(Name::Require, "100rel").add(Name::RSeq, 1);
                    }
                }
                self.tx.respond(self.now, server, &draft);
                if let OnRing::AnswerAfter(pause) = self.on_ring {
                    self.answers.push((self.now.instant + pause, id));
                }
            }
        }
    }

    fn on_response(&mut self, client: ClientId, response: &Message) {
        let Some(wants) = self.owners.get(&client).copied() else { return };
        let status = response.status().unwrap_or(Status::TRYING);
        if status == Status::UNAUTHORIZED || status == Status::PROXY_AUTHENTICATION_REQUIRED {
            self.authenticate(client, wants, response);
            return;
        }
        // Who hears that a call does not exist any more has none (RFC 3261 §12.2.1.2).
        if let Wants::Reinvite(id) | Wants::Refer(id) | Wants::Update(id) = wants
            && [Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, Status::REQUEST_TIMEOUT].contains(&status)
            && self.calls[id.0].up
        {
            self.hang_up(id);
        }
        match wants {
            Wants::Register => {
                if status.is_success() {
                    self.registered = response.get(Name::Contact).is_some();
                }
                if status == Status::MOVED_PERMANENTLY {
                    self.on_moved(response);
                }
            }
            Wants::Invite(id) => self.on_invite_response(client, id, response, status),
            Wants::Reinvite(id) => {
                if status.is_success() {
                    self.acknowledge(id, response);
                    self.time_agreed(id, response);
                    self.calls[id.0].heard =
                        response.sdp().map(|sdp| String::from_utf8_lossy(&sdp).into_owned());
                }
                if !status.is_provisional() {
                    self.calls[id.0].reinvite = None;
                }
            }
            Wants::Refer(id) => {
                self.calls[id.0].refer_status = Some(status);
                if status == Status::ACCEPTED && self.bye_on_accepted {
                    self.hang_up(id);
                }
            }
            Wants::Update(id) => {
                let retry_after = response.get(Name::RetryAfter).map(str::to_owned);
                if status.is_success() && self.calls[id.0].up {
                    self.time_agreed(id, response);
                }
                let call = &mut self.calls[id.0];
                call.updates.push((status, retry_after));
                if let Some(answer) = response.sdp() {
                    call.heard = Some(String::from_utf8_lossy(&answer).into_owned());
                }
            }
            Wants::Subscribe(watch) => {
                let Some(request) = self.tx.request_of(client).cloned() else { return };
                self.on_subscribe_response(watch, &request, response);
            }
            Wants::Other => {}
        }
    }

    fn on_moved(&mut self, response: &Message) {
        let contacts: Vec<&str> = response.list(Name::Contact).collect();
        self.sent_home.push(contacts.join(", "));
        let best = contacts.first().and_then(|contact| NameAddr::parse(contact).ok());
        let ip = best.as_ref().and_then(|best| best.uri.host_ip());
        if let Some(ip) = ip.filter(|_| self.follows) {
            self.talk_to((ip, best.and_then(|best| best.uri.port).unwrap_or(5060)).into());
            self.register(3600);
        }
    }

    fn on_invite_response(&mut self, client: ClientId, id: CallId, response: &Message, status: Status) {
        if status.is_success() {
            let flow = self.flow();
            let invite =
                self.tx.request_of(client).cloned().unwrap_or_else(|| self.calls[id.0].invite.clone());
            let call = &mut self.calls[id.0];
            if call.dialog.is_none() {
                let mut dialog = Dialog::uac(&invite, response, flow);
                // What it has said in that one's early dialog has used numbers up.
                let earlies = call.early.iter().chain(&call.other_earlies);
                let numbers = earlies.filter(|early| early.remote_tag == dialog.remote_tag);
                dialog.local_cseq =
                    numbers.map(|early| early.local_cseq).chain([dialog.local_cseq]).max().unwrap();
                call.early.take_if(|early| early.remote_tag == dialog.remote_tag);
                call.dialog = Some(dialog);
                call.up = true;
                call.client = None;
                call.identity = response.get(Name::PAssertedIdentity).map(str::to_owned);
                if let Some(answer) = response.sdp() {
                    call.heard = Some(String::from_utf8_lossy(&answer).into_owned());
                }
            }
            self.time_agreed(id, response);
            self.acknowledge(id, response);
        } else if status.is_provisional() {
            let Some(tag) = response.to_tag().map(str::to_owned) else { return };
            let Some(invite) = self.tx.request_of(client).cloned() else { return };
            let offer = self.offer_in_prack.map(|direction| self.sdp(direction));
            let flow = self.flow();
            let call = &mut self.calls[id.0];
            if call.early.as_ref().is_none_or(|early| early.remote_tag != tag) {
                let known = call.other_earlies.iter().position(|early| early.remote_tag == tag);
                let next = known.map(|at| call.other_earlies.swap_remove(at));
                let next = next.unwrap_or_else(|| Dialog::uac(&invite, response, flow));
                call.other_earlies.extend(call.early.replace(next));
            }
            call.early_tags.insert(tag);
            if let Some(sdp) = response.sdp() {
                call.heard = Some(String::from_utf8_lossy(&sdp).into_owned());
            }
            let Some(early) = call.early.as_mut().filter(|_| response.requires("100rel")) else { return };
            call.early_answered = response.sdp().is_some() && call.invite.sdp().is_some();
            let mut draft = early.request(Method::Prack);
            let rseq = response.get(Name::RSeq).unwrap_or("1");
            draft.add(Name::RAck, format!("{rseq} {} INVITE", response.cseq().number));
            let wants = match offer {
                Some(offer) => {
                    draft.body("application/sdp", offer);
                    Wants::Update(id)
                }
                None => Wants::Other,
            };
            self.send(draft, wants);
        } else {
            let call = &mut self.calls[id.0];
            call.failed = Some(status);
            call.over = true;
            call.client = None;
            call.reason = Some(response.reason().to_owned());
            call.warning = response.get(Name::Warning).map(str::to_owned);
        }
    }

    fn acknowledge(&mut self, id: CallId, response: &Message) {
        let call = &self.calls[id.0];
        // A 2xx that is repeated may arrive while the next request is under way.
        let offerless = if response.cseq().number == call.invite.cseq().number {
            call.invite.sdp().is_none()
        } else {
            call.reinvite.is_some() && call.asked_for_offer
        };
        let body = (offerless && !self.bare_ack).then(|| self.sdp(answering(response)));
        let (flow, by) = (self.flow(), self.address.to_string());
        let Some(dialog) = self.calls[id.0].dialog.as_ref() else { return };
        let mut draft = dialog.ack(response.cseq().number);
        if let Some(body) = body {
            draft.body("application/sdp", body);
        }
        let sent = self.tx.send_ack(flow, &by, draft);
        self.calls[id.0].last_ack = Some(sent.bytes().clone());
    }

    fn authenticate(&mut self, client: ClientId, wants: Wants, response: &Message) {
        let Some(sent) = self.tx.request_of(client).cloned() else { return };
        let cnonce = format!("c{}", self.fresh());
        let login = Login { user: &self.user, password: &self.password };
        let credentials = answer_challenge(response, login, &sent.method(), sent.uri(), 1, &cnonce);
        let tried = sent.get(Name::Authorization).is_some();
        // The password was right, the nonce has grown old (RFC 7616 §3.3).
        let stale = response.get(Name::WwwAuthenticate).is_some_and(|value| value.contains("stale=true"));
        let again = !tried || stale && sent.cseq().number < STALE_MAX;
        let Some(credentials) = credentials.filter(|_| again) else {
            if let Wants::Invite(id) = wants {
                self.calls[id.0].failed = response.status();
                self.calls[id.0].over = true;
            }
            return;
        };
        let mut draft = Draft::request(sent.method(), sent.uri());
        for name in [
            Name::Route,
            Name::From,
            Name::To,
            Name::CallId,
            Name::Contact,
            Name::Allow,
            Name::Supported,
            Name::UserAgent,
            Name::Expires,
        ] {
            for value in sent.all(name) {
                draft.add(name, value);
            }
        }
        for name in [
            Name::ReferTo,
            Name::Replaces,
            Name::Require,
            Name::SessionExpires,
            Name::Event,
            Name::Accept,
            Name::Privacy,
            Name::Subject,
            Name::Priority,
        ] {
            for value in sent.all(name) {
                draft.add(name, value);
            }
        }
        draft.add(Name::CSeq, format!("{} {}", sent.cseq().number + 1, sent.method().as_str()));
        draft.add(credentials.0, credentials.1);
        if let Some(hops) = sent.get(Name::MaxForwards).filter(|hops| *hops != "70") {
            draft.set(Name::MaxForwards, hops);
        }
        if let Some(content_type) = sent.content_type() {
            draft.body(content_type, sent.body());
        }
        let again = self.send(draft, wants);
        if let Wants::Invite(id) = wants {
            let invite = self.tx.request_of(again).unwrap().clone();
            let call = &mut self.calls[id.0];
            call.client = Some(again);
            call.invite = invite;
            call.challenged = true;
        }
    }
}

/// The direction with which a request's offer is answered (RFC 3264 §6.1).
pub(super) fn answering(request: &Message) -> &'static str {
    match request.sdp().as_deref().map(crate::harness::ladder::direction) {
        Some("sendonly") => "recvonly",
        Some("inactive") => "inactive",
        Some("recvonly") => "sendonly",
        _ => "sendrecv",
    }
}

//! SIP events to whoever owns what they are about.

use switchyard_sdk::types::LegId;

use super::Engine;
use super::core::{ALLOW, Owner, SUPPORTED};
use crate::call::check_require;
use crate::net::{Flow, Protocol};
use crate::registrar::Verdict;
use crate::sip::{self, Draft, Failure, Message, Method, Name, NameAddr, Scheme, ServerId, Status, Uri};

/// Who sent a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Sender {
    /// One of our users, who has proved it.
    User(String),
    /// A trunk, by its address.
    Trunk(String),
    /// Somebody who is no user of ours, for whom the server of another pool speaks.
    Elsewhere,
}

impl Engine {
    pub(super) fn on_sip(&mut self, event: sip::Event) {
        match event {
            sip::Event::Request { server, request, flow } => self.on_request(server, &request, flow),
            sip::Event::Ack { request, .. } => self.calls.on_ack(&mut self.core, &request),
            sip::Event::Cancel { invite, .. } => self.calls.cancelled(&mut self.core, invite),
            sip::Event::Response { client, response, flow } => {
                // Nobody else knows the branch it answers.
                self.admission.vouch(self.core.now.instant, flow.remote);
                let Some(owner) = self.core.owner(client) else { return };
                let status = response.status();
                if let Owner::Invite(leg) = owner
                    && status.is_some_and(Status::is_success)
                {
                    self.calls.assert(leg, self.asserted_in(&response, &flow));
                }
                let cx = &mut self.core;
                match owner {
                    Owner::Invite(leg) => self.calls.on_invite_response(cx, client, leg, &response, flow),
                    Owner::Reinvite(leg) | Owner::Update(leg) => {
                        self.calls.on_session_response(cx, client, leg, &response);
                    }
                    Owner::Refresh(leg) => self.calls.on_refresh_response(cx, client, leg, Ok(&response)),
                    Owner::Probe(leg) => self.calls.on_probe_response(cx, client, leg, status),
                    Owner::Relay(_, server) | Owner::Page(server) => {
                        self.calls.on_relayed_response(cx, client, server, Ok(&response));
                    }
                    Owner::Notify(id) => self.calls.on_notify_response(cx, client, id, status),
                    Owner::Lamp(id) => {
                        if !status.is_some_and(Status::is_provisional) {
                            cx.disown(client);
                            let writes = self.notifier.on_response(cx, id, status);
                            self.write_behind(writes);
                        }
                    }
                    Owner::Nobody | Owner::Bye(_) => {
                        if !self.calls.on_early_offer_response(cx, client, Some(&response))
                            && !status.is_some_and(Status::is_provisional)
                        {
                            cx.disown(client);
                        }
                    }
                }
            }
            sip::Event::Stray { response } => self.calls.on_stray_answer(&mut self.core, &response),
            sip::Event::Failed { client, why } => self.on_failed(client, why),
        }
    }

    fn on_failed(&mut self, client: sip::ClientId, why: Failure) {
        let cx = &mut self.core;
        let Some(owner) = cx.owner(client) else { return };
        match owner {
            Owner::Invite(leg) => self.calls.on_invite_failed(cx, client, leg, why),
            Owner::Reinvite(leg) | Owner::Update(leg) => self.calls.on_session_failed(cx, client, leg, why),
            Owner::Refresh(leg) => self.calls.on_refresh_response(cx, client, leg, Err(why)),
            Owner::Probe(leg) => self.calls.on_probe_response(cx, client, leg, None),
            Owner::Relay(_, server) | Owner::Page(server) => {
                self.calls.on_relayed_response(cx, client, server, Err(why));
            }
            Owner::Notify(id) => {
                if why == Failure::Transport && cx.fall_back(client).is_some() {
                    return;
                }
                self.calls.on_notify_response(cx, client, id, None);
            }
            Owner::Lamp(id) => {
                if why == Failure::Transport && cx.fall_back(client).is_some() {
                    return;
                }
                cx.disown(client);
                let writes = match why {
                    Failure::Transport => {
                        let way = self.notifier.way_to(id).and_then(|(watcher, flow, target)| {
                            let binding = self.registrar.binding_for(cx.now, watcher, &flow, Some(target))?;
                            Some(binding.flow)
                        });
                        self.notifier.on_send_failure(cx, id, way)
                    }
                    Failure::Timeout => self.notifier.on_response(cx, id, None),
                };
                self.write_behind(writes);
            }
            Owner::Nobody | Owner::Bye(_) => {
                if why == Failure::Transport
                    && let Some(again) = cx.fall_back(client)
                {
                    self.calls.early_offer_sent_again(client, again);
                    return;
                }
                if !self.calls.on_early_offer_response(cx, client, None) {
                    cx.disown(client);
                }
            }
        }
    }

    fn on_request(&mut self, server: ServerId, request: &Message, flow: Flow) {
        if request.to_tag().is_some() {
            self.on_dialog_request(server, request, flow);
            return;
        }
        let Some(uri) = self.readable(server, request) else { return };
        // An INVITE has more to be checked, and is a leg by then.
        if request.method() != Method::Invite
            && let Err(rejection) = check_require(request)
        {
            self.refuse_request(server, request, &rejection);
            return;
        }
        match request.method() {
            Method::Invite => self.on_invite(server, request, flow, &uri),
            Method::Register => self.on_register(server, request, flow),
            Method::Options => self.on_options(server, request),
            Method::Message => self.on_page(server, request, flow),
            Method::Refer => {
                if let Some(sender) = self.sender(server, request, &flow) {
                    let party = self.party_of(&sender, request, &flow);
                    self.calls.on_refer_outside(&mut self.core, server, request, flow, party);
                }
            }
            Method::Subscribe => self.on_subscribe(server, request, flow),
            Method::Publish => self.core.reply_once(server, request, Status::BAD_EVENT, None),
            Method::Bye | Method::Update | Method::Prack | Method::Info | Method::Notify => {
                self.core.reply_once(server, request, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None);
            }
            Method::Ack | Method::Cancel => {}
            Method::Other(_) => self.core.reply_once(server, request, Status::NOT_IMPLEMENTED, None),
        }
    }

    /// The Request-URI, if it is one of ours to understand.
    fn readable(&mut self, server: ServerId, request: &Message) -> Option<Uri> {
        let (status, reason) = match Uri::parse(request.uri()) {
            Err(_) => (Status::BAD_REQUEST, Some("Request-URI cannot be read")),
            // RFC 3261 §8.2.2.1.
            Ok(uri) if matches!(uri.scheme, Scheme::Other(_)) => (Status::UNSUPPORTED_URI_SCHEME, None),
            // RFC 3261 §19.1.1.
            Ok(uri) if !uri.headers.is_empty() => (Status::BAD_REQUEST, Some("Headers in the Request-URI")),
            Ok(uri) => return Some(uri),
        };
        self.core.reply_once(server, request, status, reason);
        None
    }

    fn on_dialog_request(&mut self, server: ServerId, request: &Message, flow: Flow) {
        let Some(leg) = self.calls.leg_of(request) else {
            let refer_event = request
                .get(Name::Event)
                .is_some_and(|v| v.split(';').next().unwrap_or_default().trim() == "refer");
            if request.method() == Method::Subscribe && crate::notifier::is_about_dialogs(request) {
                self.on_resubscribe(server, request, flow);
            } else if request.method() == Method::Subscribe && refer_event {
                self.calls.on_refer_subscribe(&mut self.core, server, request);
            } else if request.method() == Method::Options {
                self.on_options(server, request);
            } else {
                self.core.reply_once(server, request, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None);
            }
            return;
        };
        if request.method() != Method::Refer {
            self.calls.heard_from(&mut self.core, leg, flow);
        }
        match request.method() {
            Method::Refer => {
                if self.may_refer(leg, server, request, &flow) {
                    self.calls.on_refer(&mut self.core, leg, server, request);
                }
            }
            Method::Subscribe => self.calls.on_refer_subscribe(&mut self.core, server, request),
            Method::Invite if self.resumes_parked(leg, request) => {
                self.resume_is_retrieve(leg, server, request)
            }
            Method::Invite | Method::Update => {
                self.calls.assert(leg, self.asserted_in(request, &flow));
                self.calls.on_request(&mut self.core, leg, server, request);
            }
            _ => self.calls.on_request(&mut self.core, leg, server, request),
        }
    }

    /// A REFER spends somebody's money: one that does not come from where the dialog lives must prove who sent it.
    fn may_refer(&mut self, leg: LegId, server: ServerId, request: &Message, flow: &Flow) -> bool {
        let Some(known) = self.calls.leg(leg) else { return false };
        if known.flow().remote == flow.remote {
            return true;
        }
        let user = known.party.user.clone();
        match self.sender(server, request, flow) {
            Some(Sender::User(sender)) if Some(&sender) == user.as_ref() => true,
            Some(_) => {
                self.core.reply(server, request, Status::FORBIDDEN, None);
                false
            }
            None => false,
        }
    }

    /// Who sent a request outside any dialog. `None`: the request is answered already (challenged or refused).
    pub(super) fn sender(&mut self, server: ServerId, request: &Message, flow: &Flow) -> Option<Sender> {
        if flow.protocol == Protocol::Cluster {
            let user = request.get(Name::PServedUser).and_then(|served| NameAddr::parse(served).ok());
            let user = user.and_then(|served| served.uri.user_unescaped());
            let user = user.and_then(|name| self.directory.user(&name)).map(|user| user.name.clone());
            return Some(user.map_or(Sender::Elsewhere, Sender::User));
        }
        let has_credentials = request.get(Name::Authorization).is_some();
        if !has_credentials && let Some(trunk) = self.config.trunk_of(flow.remote.ip()) {
            return Some(Sender::Trunk(trunk.name.clone()));
        }
        self.user(server, request, flow).map(Sender::User)
    }

    /// The user who has proved to have sent a request. `None`: it is answered already (challenged or refused).
    fn user(&mut self, server: ServerId, request: &Message, flow: &Flow) -> Option<String> {
        let now = self.core.now;
        let guesses =
            request.get(Name::Authorization).is_some() || request.get(Name::ProxyAuthorization).is_some();
        if guesses && let Some(wait) = self.admission.must_wait(now.instant, flow.remote) {
            let mut draft = Draft::response(request, Status::SERVICE_UNAVAILABLE);
            draft.add(Name::RetryAfter, wait.as_secs() + 1);
            self.core.tx.respond_once(server, &mut draft);
            return None;
        }
        match self.auth.verify(now, request, &self.directory) {
            Verdict::Known { user } => {
                self.admission.vouch(now.instant, flow.remote);
                return Some(user);
            }
            Verdict::Challenge { stale } => self.challenge(server, request, stale),
            Verdict::Refused => {
                self.admission.wrong_password(now.instant, flow.remote);
                // What this looks like in the log is known to contrib/fail2ban.
                self.core.event(
                    "auth.refused",
                    None,
                    Some(request.call_id()),
                    serde_json::json!({ "from": request.from(), "source": flow.remote.to_string() }),
                );
                // A wrong password and an unknown user look alike, and may try again with a fresh nonce.
                self.challenge(server, request, false);
            }
        }
        None
    }

    fn challenge(&mut self, server: ServerId, request: &Message, stale: bool) {
        let mut draft = Draft::response(request, Status::UNAUTHORIZED);
        for value in self.auth.challenge(self.core.now, stale, &mut self.core.rng) {
            draft.add(Name::WwwAuthenticate, value);
        }
        self.core.tx.respond_once(server, &mut draft);
    }

    fn on_register(&mut self, server: ServerId, request: &Message, flow: Flow) {
        // A trunk's address proves nothing about a user.
        let Some(user) = self.user(server, request, &flow) else { return };
        let home = self.directory.user(&user).map(|user| user.pool.clone());
        if let Some(refusal) = self.is_out(home.as_deref()) {
            let rejection = crate::call::Rejection::of(&refusal, &self.core.identity.host);
            self.refuse_request(server, request, &rejection);
            return;
        }
        if let Some(draft) = self.redirect(&user, request, &flow) {
            self.core.tx.respond(self.core.now, server, &draft);
            return;
        }
        let flows = self.flows_of(&user);
        let (draft, writes) = self.registrar.register(self.core.now, &user, request, flow);
        self.follow_phones(&user, &flows);
        let status = draft.status();
        self.core.tx.respond(self.core.now, server, &draft);
        self.write_behind(writes);
        if status == Some(Status::OK) {
            self.notifier.came_back(&mut self.core, &user, flow);
            let bindings = self.registrar.bindings(self.core.now, &user).len();
            let detail =
                serde_json::json!({ "user": user, "bindings": bindings, "source": flow.remote.to_string() });
            self.core.event("user.registered", None, Some(request.call_id()), detail);
        }
    }

    fn on_options(&mut self, server: ServerId, request: &Message) {
        let mut draft = Draft::response(request, Status::OK);
        let tag = self.core.fresh_tag();
        draft
            .to_tag(&tag)
            .add(Name::Allow, ALLOW)
            .add(Name::Supported, SUPPORTED)
            .add(Name::Accept, "application/sdp, message/sipfrag")
            .add(Name::AllowEvents, super::lamp::ALLOW_EVENTS);
        self.core.tx.respond(self.core.now, server, &draft);
    }

    /// A MESSAGE outside any call goes to the best binding of its addressee (RFC 3428).
    fn on_page(&mut self, server: ServerId, request: &Message, flow: Flow) {
        let Some(sender) = self.sender(server, request, &flow) else { return };
        let party = self.party_of(&sender, request, &flow);
        let candidates = match self.phones_for(request.uri()) {
            Ok(candidates) => candidates,
            Err(rejection) => {
                self.core.reply(server, request, rejection.status, rejection.reason.as_deref());
                return;
            }
        };
        let Some(best) = candidates.first() else {
            self.core.reply(server, request, Status::TEMPORARILY_UNAVAILABLE, None);
            return;
        };
        let headers = crate::call::Headers::presenting(&self.core, &party, None);
        let content_type = request.content_type().unwrap_or("text/plain").to_owned();
        self.send_message(best, &headers.from, &content_type, request.body(), None, Owner::Page(server));
    }
}

//! What a phone says by itself.

use switchyard_host::sip::{ClientId, Dialog, Draft, Method, Name, Status, Uri};

use super::hears::answering;
use super::{ALLOW, Call, CallId, Phone, Wants};

impl Phone {
    pub fn register(&mut self, expires: u32) {
        let draft = self.register_draft(expires, 1);
        self.send(draft, Wants::Register);
    }

    fn register_draft(&mut self, expires: u32, cseq: u32) -> Draft {
        let mut draft = Draft::request(Method::Register, &format!("sip:{}", self.domain));
        let (user, domain, tag, call) = (self.user.clone(), self.domain.clone(), self.fresh(), self.fresh());
        draft
            .add(Name::From, format!("<sip:{user}@{domain}>;tag=r{tag}"))
            .add(Name::To, format!("<sip:{user}@{domain}>"))
            .add(Name::CallId, format!("reg-{call}@{}", self.name))
            .add(Name::CSeq, format!("{cseq} REGISTER"))
            .add(Name::Contact, self.contact())
            .add(Name::Allow, "INVITE, ACK, BYE, CANCEL, OPTIONS, MESSAGE")
            .add(Name::Expires, expires);
        if !self.user_agent.is_empty() {
            draft.add(Name::UserAgent, self.user_agent);
        }
        draft
    }

    pub(in crate::harness) fn send(&mut self, draft: Draft, wants: Wants) -> ClientId {
        let mut flow = self.flow();
        let target = Uri::parse(draft.uri()).ok().filter(|_| self.by_contact);
        if let Some((target, ip)) = target.and_then(|target| Some((target.port, target.host_ip()?))) {
            flow.remote = (ip, target.unwrap_or(5060)).into();
        }
        let by = self.address.to_string();
        let client = self.tx.request(self.now, flow, &by, draft);
        self.owners.insert(client, wants);
        client
    }

    /// Calls `uri`, with more headers if given.
    pub fn invite(&mut self, uri: &str, headers: &[(Name, &str)], offer: bool) -> CallId {
        let (tag, call) = (self.fresh(), self.fresh());
        let from = self.from.clone().unwrap_or_else(|| format!("<sip:{}@{}>", self.user, self.domain));
        let mut draft = Draft::request(Method::Invite, uri);
        draft
            .add(Name::From, format!("{from};tag={}{tag}", self.name))
            .add(Name::To, format!("<{uri}>"))
            .add(Name::CallId, format!("{call}@{}", self.name))
            .add(Name::CSeq, "1 INVITE")
            .add(Name::Contact, self.contact())
            .add(Name::Allow, ALLOW)
            .add(Name::Supported, "replaces");
        for (name, value) in headers {
            draft.add(*name, value);
        }
        if offer {
            let body = self.sdp("sendrecv");
            draft.body("application/sdp", body);
        }
        self.ask_for_time(&mut draft);
        let id = CallId(self.calls.len());
        let client = self.send(draft, Wants::Invite(id));
        let invite = self.tx.request_of(client).unwrap().clone();
        self.calls.push(Call::new(invite, None, Some(client)));
        id
    }

    pub fn cancel(&mut self, id: CallId) {
        if let Some(client) = self.calls[id.0].client {
            self.tx.cancel(self.now, client, &[]);
        }
    }

    pub fn answer(&mut self, id: CallId) {
        let Some(server) = self.calls[id.0].server.take() else { return };
        let invite = self.calls[id.0].invite.clone();
        let mut draft = Draft::response(&invite, Status::OK);
        let tag = format!("{}{}", self.name, id.0);
        draft.to_tag(&tag).add(Name::Contact, self.contact()).add(Name::Allow, ALLOW);
        if !self.bare_answer {
            let body = self.sdp(answering(&invite));
            draft.body("application/sdp", body);
        }
        self.agree_on_time(id, &invite, &mut draft);
        self.tx.respond(self.now, server, &draft);
        self.expect_ack(server, &invite);
        let flow = self.flow();
        let call = &mut self.calls[id.0];
        call.dialog = Some(call.early.take().unwrap_or_else(|| Dialog::uas(&invite, &tag, flow)));
        call.up = true;
        if call.heard.is_none() {
            call.heard = invite.sdp().map(|sdp| String::from_utf8_lossy(&sdp).into_owned());
        }
    }

    pub fn refuse(&mut self, id: CallId, status: Status) {
        let Some(server) = self.calls[id.0].server.take() else { return };
        let mut draft = Draft::response(&self.calls[id.0].invite, status);
        draft.to_tag(&format!("{}{}", self.name, id.0));
        self.tx.respond(self.now, server, &draft);
        self.calls[id.0].over = true;
    }

    /// Wants nothing to do with anybody any more: gives up what it calls, refuses what rings, hangs up what is up.
    pub fn end_all(&mut self) {
        self.answers.clear();
        for id in self.calling().collect::<Vec<_>>() {
            self.cancel(id);
        }
        for id in self.ringing().collect::<Vec<_>>() {
            self.refuse(id, Status::BUSY_HERE);
        }
        for id in self.live().collect::<Vec<_>>() {
            self.hang_up(id);
        }
    }

    pub fn hang_up(&mut self, id: CallId) {
        let Some(dialog) = self.calls[id.0].dialog.as_mut() else { return };
        let draft = dialog.request(Method::Bye);
        self.send(draft, Wants::Other);
        let call = &mut self.calls[id.0];
        call.up = false;
        call.over = true;
    }

    /// MESSAGE outside any call.
    pub fn message(&mut self, uri: &str, text: &str) {
        let mut draft = Draft::request(Method::Message, uri);
        let (tag, call) = (self.fresh(), self.fresh());
        draft
            .add(Name::From, format!("<sip:{}@{}>;tag=m{tag}", self.user, self.domain))
            .add(Name::To, format!("<{uri}>"))
            .add(Name::CallId, format!("{call}@{}", self.name))
            .add(Name::CSeq, "1 MESSAGE")
            .body("text/plain", text.to_owned());
        self.send(draft, Wants::Other);
    }

    /// INFO within a call.
    pub fn info(&mut self, id: CallId, content_type: &str, text: &str) {
        let Some(dialog) = self.calls[id.0].dialog.as_mut() else { return };
        let mut draft = dialog.request(Method::Info);
        draft.body(content_type, text.to_owned());
        self.send(draft, Wants::Other);
    }

    /// re-INVITE with this direction: `sendonly` holds, `sendrecv` resumes.
    pub fn reinvite(&mut self, id: CallId, direction: &'static str) {
        let body = self.sdp(direction);
        let contact = self.contact();
        let Some(dialog) = self.calls[id.0].dialog.as_mut() else { return };
        let mut draft = dialog.request(Method::Invite);
        draft.add(Name::Contact, contact).body("application/sdp", body);
        self.ask_for_time(&mut draft);
        let client = self.send(draft, Wants::Reinvite(id));
        let call = &mut self.calls[id.0];
        call.reinvite = Some(client);
        call.asked_for_offer = false;
        call.direction = direction;
    }

    /// re-INVITE without an offer: the other side is to make one (RFC 3261 §14.2).
    pub fn ask_for_offer(&mut self, id: CallId) {
        let contact = self.contact();
        let Some(dialog) = self.calls[id.0].dialog.as_mut() else { return };
        let mut draft = dialog.request(Method::Invite);
        draft.add(Name::Contact, contact);
        self.ask_for_time(&mut draft);
        let client = self.send(draft, Wants::Reinvite(id));
        let call = &mut self.calls[id.0];
        call.reinvite = Some(client);
        call.asked_for_offer = true;
        call.direction = "sendrecv";
    }

    /// UPDATE with an offer of this direction, before or after the answer (RFC 3311).
    pub fn update(&mut self, id: CallId, direction: &'static str) {
        let body = self.sdp(direction);
        let contact = self.contact();
        let call = &mut self.calls[id.0];
        // What is left of another early dialog is no longer ours to speak in.
        let early = call.early.as_mut().filter(|_| !call.up);
        let Some(dialog) = early.or(call.dialog.as_mut()) else { return };
        let mut draft = dialog.request(Method::Update);
        draft.add(Name::Contact, contact).body("application/sdp", body);
        self.send(draft, Wants::Update(id));
    }

    /// REFER within a call.
    pub fn refer(&mut self, id: CallId, refer_to: &str) {
        let contact = self.contact();
        let Some(dialog) = self.calls[id.0].dialog.as_mut() else { return };
        let mut draft = dialog.request(Method::Refer);
        draft.add(Name::Contact, contact).add(Name::ReferTo, format!("<{refer_to}>"));
        self.send(draft, Wants::Refer(id));
    }

    /// `sip:…?Replaces=…` that names call `other` of this phone, for an attended transfer to `uri`.
    pub fn replaces_uri(&self, uri: &str, other: CallId) -> String {
        let dialog = self.calls[other.0].dialog.as_ref().unwrap();
        let value = format!(
            "{}%3Bto-tag%3D{}%3Bfrom-tag%3D{}",
            dialog.call_id.replace('@', "%40"),
            dialog.remote_tag,
            dialog.local_tag
        );
        format!("{uri}?Replaces={value}")
    }
}

//! A simulated phone: registers, calls, answers, holds, transfers, hangs up. It speaks through the same transaction
//! layer as the host, so lost packets are repeated; what it says is its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use switchyard_host::net::{Flow, Protocol};
use switchyard_host::registrar::{Login, answer_challenge};
use switchyard_host::sip::{
    ClientId, Dialog, Draft, Event, Message, Method, Name, ServerId, Status, Transactions,
};
use switchyard_host::time::{Instant, Now};

use super::watch::Watch;

/// One call of a phone, in the order they began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallId(pub usize);

/// What these phones can do.
const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, REFER, NOTIFY, MESSAGE, PRACK";

/// What a phone does with a call that arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnRing {
    /// Rings until told otherwise.
    Ring,
    /// Rings, and answers after that long.
    AnswerAfter(Duration),
    /// Refuses.
    Refuse(Status),
    /// Says nothing at all.
    Ignore,
}

/// One side of one call.
#[derive(Debug)]
pub struct Call {
    pub dialog: Option<Dialog>,
    pub invite: Message,
    pub server: Option<ServerId>,
    pub client: Option<ClientId>,
    /// The reinvite of ours under way, and what we then hold.
    pub reinvite: Option<ClientId>,
    pub up: bool,
    pub over: bool,
    /// The final status of an INVITE of ours that failed.
    pub failed: Option<Status>,
    pub reason: Option<String>,
    pub warning: Option<String>,
    pub heard: Option<String>,
    /// P-Asserted-Identity of the answer.
    pub identity: Option<String>,
    pub direction: &'static str,
    /// `SIP/2.0 …` lines of the NOTIFYs we got.
    pub notified: Vec<String>,
    pub refer_status: Option<Status>,
    pub bye_reason: Option<String>,
    pub challenged: bool,
    /// The last ACK of a 2xx of ours.
    pub ack: Option<Message>,
    /// The early dialog, before the answer: a caller's newest, a callee's own.
    pub early: Option<Dialog>,
    /// How our UPDATEs were answered: the status and, of a refusal, its Retry-After.
    pub updates: Vec<(Status, Option<String>)>,
    /// The To tags of the provisional responses we saw.
    pub early_tags: std::collections::BTreeSet<String>,
    last_ack: Option<Bytes>,
}

pub struct Phone {
    pub name: String,
    pub user: String,
    pub password: String,
    pub address: SocketAddr,
    pub on_ring: OnRing,
    /// The codecs it has, as payload types of `m=audio`.
    pub codecs: &'static str,
    /// What it answers to a re-INVITE instead of 200; consumed from the front.
    pub refuse_reinvites: Vec<Status>,
    /// It asks for credentials once before it rings, as a gateway does.
    pub challenge: bool,
    /// It describes its media in a 183 before it answers, reliably if the caller can.
    pub early_media: bool,
    /// It acknowledges a reliable response with a new offer of this direction (RFC 3262 §5).
    pub offer_in_prack: Option<&'static str>,
    /// It answers no new offer before the call is answered, but refuses it.
    pub refuse_updates: Option<Status>,
    /// It hangs up as soon as its REFER is answered 202.
    pub bye_on_accepted: bool,
    pub calls: Vec<Call>,
    /// What it watches.
    pub watches: Vec<Watch>,
    pub messages: Vec<String>,
    pub registered: bool,
    pub tx: Transactions,
    host: SocketAddr,
    domain: String,
    now: Now,
    serial: u64,
    owners: BTreeMap<ClientId, Wants>,
    /// 2xx answers without ACK: when to send them again, and how long to wait then (RFC 3261 §13.3.1.4).
    unacknowledged: Vec<Unacknowledged>,
    /// Calls to answer when their time comes.
    pub answers: Vec<(Instant, CallId)>,
    /// It is switched off: hears and says nothing.
    pub dead: bool,
}

#[derive(Debug)]
struct Unacknowledged {
    server: ServerId,
    key: (String, u32),
    at: Instant,
    pause: Duration,
    until: Instant,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Wants {
    Register,
    Invite(CallId),
    Reinvite(CallId),
    Refer(CallId),
    Update(CallId),
    Subscribe(usize),
    Other,
}

impl Phone {
    pub fn new(name: &str, number: u8, host: SocketAddr, domain: &str, seed: u64) -> Self {
        Self {
            name: name.to_owned(),
            user: name.to_owned(),
            password: format!("{name}-secret"),
            address: SocketAddr::from(([10, 0, 0, number], 5060)),
            on_ring: OnRing::Ring,
            codecs: "0 8 101",
            refuse_reinvites: Vec::new(),
            challenge: false,
            early_media: false,
            offer_in_prack: None,
            refuse_updates: None,
            bye_on_accepted: false,
            calls: Vec::new(),
            watches: Vec::new(),
            messages: Vec::new(),
            registered: false,
            tx: Transactions::new(ChaCha12Rng::seed_from_u64(seed ^ u64::from(number) << 32)),
            host,
            domain: domain.to_owned(),
            now: Now::default(),
            serial: u64::from(number) * 1_000,
            owners: BTreeMap::new(),
            unacknowledged: Vec::new(),
            answers: Vec::new(),
            dead: false,
        }
    }

    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    pub(super) fn flow(&self) -> Flow {
        Flow { protocol: Protocol::Udp, local: self.address, remote: self.host, connection: None }
    }

    pub(super) fn fresh(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub fn call(&self, id: CallId) -> &Call {
        &self.calls[id.0]
    }

    /// The newest call.
    pub fn last(&self) -> CallId {
        CallId(self.calls.len() - 1)
    }

    pub fn sdp(&mut self, direction: &str) -> Bytes {
        let version = self.fresh();
        let ip = self.address.ip();
        let port = 20_000
            + u16::from(self.address.ip().to_string().split('.').next_back().unwrap().parse::<u8>().unwrap());
        let mut text = format!(
            "v=0\r\no={} 1 {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP {}\r\n",
            self.name, self.codecs
        );
        if self.codecs.contains("101") {
            text.push_str("a=rtpmap:101 telephone-event/8000\r\n");
        }
        if self.codecs.contains("18") {
            text.push_str("a=rtpmap:18 G729/8000\r\n");
        }
        text.push_str(&format!("a={direction}\r\n"));
        Bytes::from(text)
    }

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
            .add(Name::Contact, format!("<sip:{user}@{}>", self.address))
            .add(Name::Allow, "INVITE, ACK, BYE, CANCEL, OPTIONS, MESSAGE")
            .add(Name::Expires, expires);
        draft
    }

    pub(super) fn send(&mut self, draft: Draft, wants: Wants) -> ClientId {
        let flow = self.flow();
        let by = self.address.to_string();
        let client = self.tx.request(self.now, flow, &by, draft);
        self.owners.insert(client, wants);
        client
    }

    /// Calls `uri`, with more headers if given.
    pub fn invite(&mut self, uri: &str, headers: &[(Name, &str)], offer: bool) -> CallId {
        let (tag, call) = (self.fresh(), self.fresh());
        let mut draft = Draft::request(Method::Invite, uri);
        draft
            .add(Name::From, format!("<sip:{}@{}>;tag={}{tag}", self.user, self.domain, self.name))
            .add(Name::To, format!("<{uri}>"))
            .add(Name::CallId, format!("{call}@{}", self.name))
            .add(Name::CSeq, "1 INVITE")
            .add(Name::Contact, format!("<sip:{}@{}>", self.user, self.address))
            .add(Name::Allow, ALLOW)
            .add(Name::Supported, "replaces");
        for (name, value) in headers {
            draft.add(*name, value);
        }
        if offer {
            let body = self.sdp("sendrecv");
            draft.body("application/sdp", body);
        }
        let id = CallId(self.calls.len());
        let client = self.send(draft, Wants::Invite(id));
        let invite = self.tx.request_of(client).unwrap().clone();
        self.calls.push(Call {
            dialog: None,
            invite,
            server: None,
            client: Some(client),
            reinvite: None,
            up: false,
            over: false,
            failed: None,
            reason: None,
            warning: None,
            heard: None,
            identity: None,
            direction: "sendrecv",
            notified: Vec::new(),
            refer_status: None,
            bye_reason: None,
            challenged: false,
            ack: None,
            early: None,
            updates: Vec::new(),
            early_tags: std::collections::BTreeSet::new(),
            last_ack: None,
        });
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
        let body = self.sdp(answering(&invite));
        draft
            .to_tag(&tag)
            .add(Name::Contact, format!("<sip:{}@{}>", self.user, self.address))
            .add(Name::Allow, ALLOW)
            .body("application/sdp", body);
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
        let contact = format!("<sip:{}@{}>", self.user, self.address);
        let Some(dialog) = self.calls[id.0].dialog.as_mut() else { return };
        let mut draft = dialog.request(Method::Invite);
        draft.add(Name::Contact, contact).body("application/sdp", body);
        let client = self.send(draft, Wants::Reinvite(id));
        let call = &mut self.calls[id.0];
        call.reinvite = Some(client);
        call.direction = direction;
    }

    /// UPDATE with an offer of this direction, before or after the answer (RFC 3311).
    pub fn update(&mut self, id: CallId, direction: &'static str) {
        let body = self.sdp(direction);
        let contact = format!("<sip:{}@{}>", self.user, self.address);
        let call = &mut self.calls[id.0];
        let Some(dialog) = call.early.as_mut().or(call.dialog.as_mut()) else { return };
        let mut draft = dialog.request(Method::Update);
        draft.add(Name::Contact, contact).body("application/sdp", body);
        self.send(draft, Wants::Update(id));
    }

    /// REFER within a call.
    pub fn refer(&mut self, id: CallId, refer_to: &str) {
        let contact = format!("<sip:{}@{}>", self.user, self.address);
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

    pub fn receive(&mut self, bytes: Bytes) {
        if self.dead {
            return;
        }
        let flow = self.flow();
        self.tx.receive(self.now, flow, bytes);
        while let Some(event) = self.tx.poll_event() {
            self.on_event(event);
        }
    }

    /// Does what is due.
    pub fn on_timeout(&mut self) {
        self.tx.on_timeout(self.now);
        while let Some(event) = self.tx.poll_event() {
            self.on_event(event);
        }
        let now = self.now.instant;
        self.unacknowledged.retain(|waiting| waiting.until > now);
        for waiting in self.unacknowledged.iter_mut().filter(|waiting| waiting.at <= now) {
            waiting.pause = (waiting.pause * 2).min(Duration::from_secs(4));
            waiting.at = now + waiting.pause;
            self.tx.resend(waiting.server);
        }
        let due: Vec<CallId> =
            self.answers.iter().filter(|(at, _)| *at <= self.now.instant).map(|(_, id)| *id).collect();
        self.answers.retain(|(at, _)| *at > self.now.instant);
        for id in due {
            self.answer(id);
        }
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        let answers = self.answers.iter().map(|(at, _)| *at);
        let repeats = self.unacknowledged.iter().map(|waiting| waiting.at);
        self.tx.next_timeout().into_iter().chain(answers).chain(repeats).min()
    }

    fn expect_ack(&mut self, server: ServerId, invite: &Message) {
        let pause = Duration::from_millis(500);
        let now = self.now.instant;
        let key = (invite.call_id().to_owned(), invite.cseq().number);
        self.unacknowledged.push(Unacknowledged {
            server,
            key,
            at: now + pause,
            pause,
            until: now + pause * 64,
        });
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Request { server, request, .. } => self.on_request(server, &request),
            Event::Ack { request, .. } => {
                let key = (request.call_id().to_owned(), request.cseq().number);
                self.unacknowledged.retain(|waiting| waiting.key != key);
                if let Some(call) = self.calls.iter_mut().find(|call| call.invite.call_id() == key.0) {
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
            Event::Failed { client, .. } => {
                if let Some(Wants::Invite(id)) = self.owners.get(&client).copied() {
                    self.calls[id.0].failed = Some(Status::REQUEST_TIMEOUT);
                    self.calls[id.0].over = true;
                }
            }
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
        let mut draft = Draft::response(request, Status::OK);
        match (request.method(), known) {
            (Method::Invite, None) if request.to_tag().is_none() => {
                self.on_invite(server, request);
                return;
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
                draft.add(Name::Contact, format!("<sip:{}@{}>", self.user, self.address));
                draft.body("application/sdp", body);
                let call = &mut self.calls[id];
                if let Some(sdp) = request.sdp() {
                    call.heard = Some(String::from_utf8_lossy(&sdp).into_owned());
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
                if let Some(offer) = request.sdp() {
                    if let Some(status) = self.refuse_updates {
                        self.tx.respond(self.now, server, &Draft::response(request, status));
                        return;
                    }
                    let body = self.sdp(answering(request));
                    draft.body("application/sdp", body);
                    self.calls[id].heard = Some(String::from_utf8_lossy(&offer).into_owned());
                }
            }
            (Method::Options | Method::Info, Some(_)) => {}
            (_, None) => draft = Draft::response(request, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST),
            _ => draft = Draft::response(request, Status::NOT_IMPLEMENTED),
        }
        self.tx.respond(self.now, server, &draft);
    }

    fn on_invite(&mut self, server: ServerId, request: &Message) {
        let id = CallId(self.calls.len());
        self.calls.push(Call {
            dialog: None,
            invite: request.clone(),
            server: Some(server),
            client: None,
            reinvite: None,
            up: false,
            over: false,
            failed: None,
            reason: None,
            warning: None,
            heard: None,
            identity: None,
            direction: "sendrecv",
            notified: Vec::new(),
            refer_status: None,
            bye_reason: None,
            challenged: false,
            ack: None,
            early: None,
            updates: Vec::new(),
            early_tags: std::collections::BTreeSet::new(),
            last_ack: None,
        });
        match self.on_ring {
            OnRing::Ignore => {}
            OnRing::Refuse(status) => self.refuse(id, status),
            OnRing::Ring | OnRing::AnswerAfter(_) => {
                let status = if self.early_media { Status::SESSION_PROGRESS } else { Status::RINGING };
                let tag = format!("{}{}", self.name, id.0);
                self.calls[id.0].early = Some(Dialog::uas(request, &tag, self.flow()));
                let mut draft = Draft::response(request, status);
                draft
                    .to_tag(&tag)
                    .add(Name::Allow, ALLOW)
                    .add(Name::Contact, format!("<sip:{}@{}>", self.user, self.address));
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
        match wants {
            Wants::Register => {
                if status.is_success() {
                    self.registered = response.get(Name::Contact).is_some();
                }
            }
            Wants::Invite(id) => self.on_invite_response(client, id, response, status),
            Wants::Reinvite(id) => {
                if status.is_success() {
                    self.acknowledge(id, response);
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

    fn on_invite_response(&mut self, client: ClientId, id: CallId, response: &Message, status: Status) {
        if status.is_success() {
            let flow = self.flow();
            let invite =
                self.tx.request_of(client).cloned().unwrap_or_else(|| self.calls[id.0].invite.clone());
            let call = &mut self.calls[id.0];
            if call.dialog.is_none() {
                let mut dialog = Dialog::uac(&invite, response, flow);
                if let Some(early) = call.early.take_if(|early| early.remote_tag == dialog.remote_tag) {
                    dialog.local_cseq = early.local_cseq;
                }
                call.dialog = Some(dialog);
                call.up = true;
                call.client = None;
                call.identity = response.get(Name::PAssertedIdentity).map(str::to_owned);
                if let Some(answer) = response.sdp() {
                    call.heard = Some(String::from_utf8_lossy(&answer).into_owned());
                }
            }
            self.acknowledge(id, response);
        } else if status.is_provisional() {
            let Some(tag) = response.to_tag().map(str::to_owned) else { return };
            let Some(invite) = self.tx.request_of(client).cloned() else { return };
            let offer = self.offer_in_prack.map(|direction| self.sdp(direction));
            let flow = self.flow();
            let call = &mut self.calls[id.0];
            if call.early.as_ref().is_none_or(|early| early.remote_tag != tag) {
                call.early = Some(Dialog::uac(&invite, response, flow));
            }
            call.early_tags.insert(tag);
            if let Some(sdp) = response.sdp() {
                call.heard = Some(String::from_utf8_lossy(&sdp).into_owned());
            }
            let Some(early) = call.early.as_mut().filter(|_| response.requires("100rel")) else { return };
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
        let offerless = self.calls[id.0].invite.sdp().is_none() && response.cseq().number <= 2;
        let body = offerless.then(|| self.sdp("sendrecv"));
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
        let Some(credentials) = credentials.filter(|_| !tried) else {
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
            Name::Expires,
        ] {
            for value in sent.all(name) {
                draft.add(name, value);
            }
        }
        for name in
            [Name::ReferTo, Name::Replaces, Name::Require, Name::SessionExpires, Name::Event, Name::Accept]
        {
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
fn answering(request: &Message) -> &'static str {
    match request.sdp().as_deref().map(super::ladder::direction) {
        Some("sendonly") => "recvonly",
        Some("inactive") => "inactive",
        Some("recvonly") => "sendonly",
        _ => "sendrecv",
    }
}

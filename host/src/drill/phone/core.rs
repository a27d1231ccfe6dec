//! What a phone knows of SIP. Messages and time go in, messages come out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::call::{Call, CallId, Refused, State, answering, direction};
use crate::config::Secret;
use crate::net::{Flow, Protocol};
use crate::registrar::{Login, answer_challenge};
use crate::sip::{ClientId, Dialog, Draft, Event, Message, Method, Name, ServerId, Status, Transactions};
use crate::time::{Instant, Now};

/// What these phones can do.
const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, REFER, NOTIFY";

/// RFC 3261 §17.1.1.1.
const T1: Duration = Duration::from_millis(500);

/// After which the pauses between repeats of a 2xx do not grow any more (RFC 3261 §13.3.1.4).
const T2: Duration = Duration::from_secs(4);

/// Who the phone belongs to.
#[derive(Clone, Debug)]
pub struct Account {
    /// The user's name.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// The domain of all users.
    pub domain: String,
}

/// What the last REGISTER came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Registration {
    /// No answer yet.
    Asked,
    /// Registered.
    Done,
    /// Refused.
    Refused(Refused),
}

#[derive(Clone, Copy, Debug)]
enum Wants {
    Register,
    Invite(CallId),
    Change(CallId),
    Refer(CallId),
    Nothing,
}

/// A 2xx that waits for its ACK.
#[derive(Debug)]
struct Unacknowledged {
    server: ServerId,
    call_id: String,
    at: Instant,
    pause: Duration,
    until: Instant,
}

/// See the module.
#[derive(Debug)]
pub struct Core {
    /// Whether it answers what rings, at once.
    pub answers: bool,
    /// Packets of sound it has heard.
    pub sound: u64,
    /// What the last REGISTER came to.
    pub registration: Registration,
    account: Account,
    address: SocketAddr,
    media_port: u16,
    host: SocketAddr,
    tx: Transactions,
    now: Now,
    serial: u64,
    calls: Vec<Call>,
    owners: BTreeMap<ClientId, Wants>,
    unacknowledged: Vec<Unacknowledged>,
    /// The last challenge, and how often it has been answered: the next request need not wait for another.
    challenge: Option<(Message, u32)>,
    register_id: String,
    register_cseq: u32,
}

impl Core {
    pub(super) fn new(account: Account, address: SocketAddr, media_port: u16, host: SocketAddr) -> Self {
        let tx = Transactions::new(ChaCha12Rng::from_seed(rand::random()));
        let register_id = format!("{:016x}", rand::random::<u64>());
        Self {
            answers: true,
            sound: 0,
            registration: Registration::Asked,
            account,
            address,
            media_port,
            host,
            tx,
            now: Now::default(),
            serial: 0,
            calls: Vec::new(),
            owners: BTreeMap::new(),
            unacknowledged: Vec::new(),
            challenge: None,
            register_id,
            register_cseq: 0,
        }
    }

    /// One call.
    pub fn call(&self, id: CallId) -> &Call {
        &self.calls[id.0]
    }

    /// The first call that rings here and is not answered.
    pub fn ringing(&self) -> Option<CallId> {
        self.which(|call| call.server.is_some() && call.state == State::Ringing)
    }

    /// The newest call that is up.
    pub fn talking(&self) -> Option<CallId> {
        self.calls.iter().rposition(|call| call.state == State::Up).map(CallId)
    }

    fn which(&self, is: impl Fn(&Call) -> bool) -> Option<CallId> {
        self.calls.iter().position(is).map(CallId)
    }

    /// From now on it talks to the host there.
    pub fn talk_to(&mut self, host: SocketAddr) {
        self.host = host;
        // What one host asks, another need not know.
        self.challenge = None;
    }

    /// The host it talks to.
    pub fn host(&self) -> SocketAddr {
        self.host
    }

    /// Registers for `seconds`; 0: no longer.
    pub fn register(&mut self, seconds: u32) {
        self.register_cseq += 1;
        let (cseq, call_id) = (self.register_cseq, self.register_id.clone());
        let mut draft =
            self.outside(Method::Register, &format!("sip:{}", self.account.domain), &call_id, cseq);
        draft.set(Name::To, self.own()).add(Name::Expires, seconds);
        self.registration = Registration::Asked;
        self.ask(draft, Wants::Register);
    }

    /// Calls a user, a number or an orbit.
    pub fn dial(&mut self, number: &str) -> CallId {
        let uri = format!("sip:{number}@{}", self.account.domain);
        let call_id = format!("{:016x}-{}", rand::random::<u64>(), self.account.user);
        let mut draft = self.outside(Method::Invite, &uri, &call_id, 1);
        draft.add(Name::Supported, "replaces").body("application/sdp", self.describe("sendrecv"));
        let id = CallId(self.calls.len());
        let built = draft.build();
        let client = self.ask(draft, Wants::Invite(id));
        let invite = self.tx.request_of(client).cloned().unwrap_or(built);
        self.calls.push(Call::new(invite, None, Some(client)));
        id
    }

    /// Answers a call that rings here.
    pub fn answer(&mut self, id: CallId) {
        let Some(server) = self.calls[id.0].server.take() else { return };
        let invite = self.calls[id.0].invite.clone();
        let body = self.describe(answering(direction(&invite)));
        let mut draft = Draft::response(&invite, Status::OK);
        let tag = self.tag(id);
        draft.to_tag(&tag).add(Name::Contact, self.contact()).add(Name::Allow, ALLOW);
        draft.body("application/sdp", body);
        self.tx.respond(self.now, server, &draft);
        self.expect_ack(server, &invite);
        let flow = self.flow();
        let call = &mut self.calls[id.0];
        call.dialog = Some(Dialog::uas(&invite, &tag, flow));
        call.heard = direction(&invite);
        call.state = State::Up;
    }

    /// Hangs up, gives up dialling, or refuses, whatever fits.
    pub fn hang_up(&mut self, id: CallId) {
        let call = &mut self.calls[id.0];
        if call.state == State::Over {
            return;
        }
        call.state = State::Over;
        if let Some(server) = call.server.take() {
            let draft = Draft::response(&call.invite, Status::BUSY_HERE);
            self.tx.respond(self.now, server, &draft);
        } else if let Some(dialog) = call.dialog.as_mut() {
            let draft = dialog.request(Method::Bye);
            self.ask(draft, Wants::Nothing);
        } else if let Some(client) = call.client {
            self.tx.cancel(self.now, client, &[]);
        }
    }

    /// Hangs up everything.
    pub fn hang_up_all(&mut self) {
        for id in 0..self.calls.len() {
            self.hang_up(CallId(id));
        }
    }

    /// re-INVITE with this direction: `sendonly` holds, `sendrecv` resumes.
    pub fn change(&mut self, id: CallId, direction: &'static str) {
        let (body, contact) = (self.describe(direction), self.contact());
        let call = &mut self.calls[id.0];
        call.changed = None;
        call.changing = true;
        let Some(dialog) = call.dialog.as_mut() else { return };
        let mut draft = dialog.request(Method::Invite);
        draft.add(Name::Contact, contact).body("application/sdp", body);
        self.ask(draft, Wants::Change(id));
    }

    /// REFER of the other party to a user, number or orbit; `park` is the place where calls are parked.
    pub fn refer(&mut self, id: CallId, number: &str) {
        let (contact, domain) = (self.contact(), self.account.domain.clone());
        let call = &mut self.calls[id.0];
        call.referred = None;
        let Some(dialog) = call.dialog.as_mut() else { return };
        let mut draft = dialog.request(Method::Refer);
        draft.add(Name::Contact, contact).add(Name::ReferTo, format_args!("<sip:{number}@{domain}>"));
        self.ask(draft, Wants::Refer(id));
    }

    /// Whether nothing it has said waits for an answer.
    pub fn is_quiet(&self) -> bool {
        self.tx.len().0 == 0
    }

    pub(super) fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    pub(super) fn receive(&mut self, from: SocketAddr, bytes: Bytes) {
        let flow = Flow { remote: from, ..self.flow() };
        self.tx.receive(self.now, flow, bytes);
        self.drain();
    }

    pub(super) fn on_timeout(&mut self) {
        self.tx.on_timeout(self.now);
        let now = self.now.instant;
        self.unacknowledged.retain(|waiting| waiting.until > now);
        for waiting in self.unacknowledged.iter_mut().filter(|waiting| waiting.at <= now) {
            waiting.pause = (waiting.pause * 2).min(T2);
            waiting.at = now + waiting.pause;
            self.tx.resend(waiting.server);
        }
        self.drain();
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let repeats = self.unacknowledged.iter().map(|waiting| waiting.at.min(waiting.until));
        self.tx.next_timeout().into_iter().chain(repeats).min()
    }

    pub(super) fn poll_send(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.tx.poll_send().map(|(flow, bytes)| (flow.remote, bytes))
    }

    fn drain(&mut self) {
        while let Some(event) = self.tx.poll_event() {
            match event {
                Event::Request { server, request, .. } => self.on_request(server, &request),
                Event::Ack { request, .. } => {
                    self.unacknowledged.retain(|waiting| waiting.call_id != request.call_id());
                }
                Event::Cancel { invite, .. } => {
                    if let Some(call) = self.calls.iter_mut().find(|call| call.server == Some(invite)) {
                        call.server = None;
                        call.state = State::Over;
                        call.bye = Some(String::new());
                        let draft = Draft::response(&call.invite, Status::REQUEST_TERMINATED);
                        self.tx.respond(self.now, invite, &draft);
                    }
                }
                Event::Response { client, response, .. } => self.on_response(client, &response),
                Event::Stray { .. } => {}
                Event::Failed { client, .. } => self.on_refusal(client, Refused::silence()),
            }
        }
    }

    fn on_request(&mut self, server: ServerId, request: &Message) {
        let tag = request.to_tag().unwrap_or_default();
        let known = self.calls.iter().position(|call| {
            let dialog = call.dialog.as_ref();
            dialog.is_some_and(|dialog| dialog.call_id == request.call_id() && dialog.local_tag == tag)
        });
        let mut draft = Draft::response(request, Status::OK);
        match (request.method(), known) {
            (Method::Invite, None) if tag.is_empty() => return self.on_invite(server, request),
            (Method::Invite | Method::Update, Some(id))
                if self.calls[id].changing && request.sdp().is_some() =>
            {
                draft = Draft::response(request, Status::REQUEST_PENDING);
            }
            (Method::Invite | Method::Update, Some(id)) => {
                let offer = direction(request);
                draft.add(Name::Contact, self.contact());
                if offer.is_some() || request.method() == Method::Invite {
                    draft.body("application/sdp", self.describe(answering(offer)));
                }
                if request.method() == Method::Invite {
                    self.expect_ack(server, request);
                }
                let call = &mut self.calls[id];
                call.heard = offer.or(call.heard);
                if let Some(dialog) = call.dialog.as_mut() {
                    dialog.refresh_target(request);
                }
            }
            (Method::Bye, Some(id)) => {
                let call = &mut self.calls[id];
                call.state = State::Over;
                call.bye = Some(request.get(Name::Reason).unwrap_or_default().to_owned());
            }
            (Method::Notify, Some(id)) => {
                let told = String::from_utf8_lossy(&request.body()).trim_end().to_owned();
                if told.starts_with("SIP/2.0") && !told.starts_with("SIP/2.0 1") {
                    self.calls[id].referred = Some(Ok(told));
                }
            }
            (Method::Options | Method::Info, _) => {}
            (_, None) => draft = Draft::response(request, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST),
            (_, Some(_)) => draft = Draft::response(request, Status::NOT_IMPLEMENTED),
        }
        self.tx.respond(self.now, server, &draft);
    }

    fn on_invite(&mut self, server: ServerId, request: &Message) {
        let id = CallId(self.calls.len());
        self.calls.push(Call::new(request.clone(), Some(server), None));
        if self.answers {
            return self.answer(id);
        }
        let mut draft = Draft::response(request, Status::RINGING);
        draft.to_tag(&self.tag(id)).add(Name::Contact, self.contact()).add(Name::Allow, ALLOW);
        self.tx.respond(self.now, server, &draft);
    }

    fn on_response(&mut self, client: ClientId, response: &Message) {
        let Some(wants) = self.owners.get(&client).copied() else { return };
        let status = response.status().unwrap_or(Status::TRYING);
        if status.is_provisional() {
            return;
        }
        if status == Status::UNAUTHORIZED || status == Status::PROXY_AUTHENTICATION_REQUIRED {
            self.challenge = Some((response.clone(), 0));
            if self.ask_again(client, wants, response) {
                return;
            }
        }
        if status.is_failure() {
            return self.on_refusal(client, Refused::of(response));
        }
        match wants {
            Wants::Register => self.registration = Registration::Done,
            Wants::Invite(id) => {
                let flow = self.flow();
                let call = &mut self.calls[id.0];
                let invite = self.tx.request_of(client).unwrap_or(&call.invite);
                let given_up = call.state == State::Over;
                call.dialog.get_or_insert_with(|| Dialog::uac(invite, response, flow));
                self.acknowledge(id, response);
                if given_up {
                    // It was answered while we gave up.
                    self.calls[id.0].state = State::Up;
                    self.hang_up(id);
                }
            }
            Wants::Change(id) => {
                self.acknowledge(id, response);
                let call = &mut self.calls[id.0];
                call.changing = false;
                call.changed = Some(Ok(()));
            }
            Wants::Refer(_) | Wants::Nothing => {}
        }
    }

    fn on_refusal(&mut self, client: ClientId, why: Refused) {
        match self.owners.get(&client).copied() {
            Some(Wants::Register) => self.registration = Registration::Refused(why),
            Some(Wants::Invite(id)) => {
                let call = &mut self.calls[id.0];
                call.state = State::Over;
                call.refused.get_or_insert(why);
            }
            Some(Wants::Change(id)) => {
                let call = &mut self.calls[id.0];
                call.changing = false;
                call.changed = Some(Err(why));
            }
            Some(Wants::Refer(id)) => self.calls[id.0].referred = Some(Err(why)),
            Some(Wants::Nothing) | None => {}
        }
    }

    /// Sends a request again, with credentials. `false`: it had some already, and they were not believed.
    fn ask_again(&mut self, client: ClientId, wants: Wants, response: &Message) -> bool {
        let Some(sent) = self.tx.request_of(client).cloned() else { return false };
        let had = |name| sent.get(name).is_some();
        let says = |name| response.get(name).is_some_and(|value| value.contains("stale=true"));
        // The password was right, the nonce has grown old (RFC 7616 §3.3).
        let stale = says(Name::WwwAuthenticate) || says(Name::ProxyAuthenticate);
        if (had(Name::Authorization) || had(Name::ProxyAuthorization)) && !stale {
            return false;
        }
        let mut draft = Draft::request(sent.method(), sent.uri());
        for (name, value) in sent.fields() {
            let ours = ["via", "authorization", "proxy-authorization", "cseq", "content-length"];
            if !ours.contains(&name.to_ascii_lowercase().as_str()) {
                draft.add_bytes(name, value);
            }
        }
        let number = match wants {
            Wants::Register => {
                self.register_cseq += 1;
                self.register_cseq
            }
            Wants::Change(id) | Wants::Refer(id) => match self.calls[id.0].dialog.as_mut() {
                Some(dialog) => {
                    dialog.local_cseq += 1;
                    dialog.local_cseq
                }
                None => sent.cseq().number + 1,
            },
            Wants::Invite(_) | Wants::Nothing => sent.cseq().number + 1,
        };
        draft.add(Name::CSeq, format_args!("{number} {}", sent.method().as_str()));
        if let Some(content_type) = sent.content_type() {
            draft.body(content_type, sent.body());
        }
        let again = self.ask(draft, wants);
        if let Wants::Invite(id) = wants {
            self.calls[id.0].client = Some(again);
        }
        true
    }

    /// Sends a request; with credentials, if it has been asked for some before.
    fn ask(&mut self, mut draft: Draft, wants: Wants) -> ClientId {
        if let Some((challenge, count)) = &mut self.challenge {
            *count += 1;
            let login = Login { user: &self.account.user, password: self.account.password.reveal() };
            let cnonce = format!("{:016x}", rand::random::<u64>());
            let credentials =
                answer_challenge(challenge, login, draft.method(), draft.uri(), *count, &cnonce);
            if let Some((name, value)) = credentials {
                draft.add(name, value);
            }
        }
        let (flow, by) = (self.flow(), self.address.to_string());
        let client = self.tx.request(self.now, flow, &by, draft);
        self.owners.insert(client, wants);
        client
    }

    fn acknowledge(&mut self, id: CallId, response: &Message) {
        let (flow, by) = (self.flow(), self.address.to_string());
        let call = &mut self.calls[id.0];
        if call.state == State::Ringing {
            call.state = State::Up;
        }
        call.heard = direction(response).or(call.heard);
        if let Some(dialog) = call.dialog.as_mut() {
            dialog.refresh_target(response);
            let draft = dialog.ack(response.cseq().number);
            self.tx.send_ack(flow, &by, draft);
        }
    }

    fn expect_ack(&mut self, server: ServerId, invite: &Message) {
        let now = self.now.instant;
        let call_id = invite.call_id().to_owned();
        self.unacknowledged.push(Unacknowledged {
            server,
            call_id,
            at: now + T1,
            pause: T1,
            until: now + T1 * 64,
        });
    }

    /// A request outside any call.
    fn outside(&mut self, method: Method, uri: &str, call_id: &str, cseq: u32) -> Draft {
        self.serial += 1;
        let tag = format!("{:08x}{}", rand::random::<u32>(), self.serial);
        let mut draft = Draft::request(method.clone(), uri);
        draft
            .add(Name::From, format_args!("{};tag={tag}", self.own()))
            .add(Name::To, format_args!("<{uri}>"))
            .add(Name::CallId, call_id)
            .add(Name::CSeq, format_args!("{cseq} {}", method.as_str()))
            .add(Name::Contact, self.contact())
            .add(Name::Allow, ALLOW);
        draft
    }

    fn own(&self) -> String {
        format!("<sip:{}@{}>", self.account.user, self.account.domain)
    }

    fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.account.user, self.address)
    }

    fn tag(&self, id: CallId) -> String {
        format!("{}{}", self.register_id, id.0)
    }

    fn flow(&self) -> Flow {
        Flow { protocol: Protocol::Udp, local: self.address, remote: self.host, connection: None, edge: None }
    }

    fn describe(&mut self, direction: &str) -> Bytes {
        self.serial += 1;
        let (version, ip, port) = (self.serial, self.address.ip(), self.media_port);
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        Bytes::from(format!(
            "v=0\r\no=drill 1 {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 0 8\r\na={direction}\r\n"
        ))
    }
}

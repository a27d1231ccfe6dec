//! A simulated phone: registers, calls, answers, holds, transfers, hangs up. It speaks through the same transaction
//! layer as the host, so lost packets are repeated; what it says is its own.

mod hears;
mod keeps;
mod says;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use switchyard_host::net::{ConnectionId, Flow, Protocol};
use switchyard_host::sip::{ClientId, Dialog, Message, Refresher, ServerId, Status, Transactions};
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
    /// It has no offer: the answer to theirs goes into our ACK.
    pub asked_for_offer: bool,
    /// When we are to refresh the session, and how long it lasts (RFC 4028).
    pub session: Option<(Instant, Duration)>,
    pub begun: bool,
    pub up: bool,
    pub over: bool,
    /// The final status of an INVITE of ours that failed.
    pub failed: Option<Status>,
    pub reason: Option<String>,
    pub warning: Option<String>,
    pub heard: Option<String>,
    /// P-Asserted-Identity of the answer, or of their last re-INVITE that had one.
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
    /// Both sides have described their media, reliably, before the answer: new offers may be made (RFC 3311 §5.1).
    pub early_answered: bool,
    /// How our UPDATEs were answered: the status and, of a refusal, its Retry-After.
    pub updates: Vec<(Status, Option<String>)>,
    /// A caller's other early dialogs.
    other_earlies: Vec<Dialog>,
    /// The To tags of the provisional responses we saw.
    pub early_tags: std::collections::BTreeSet<String>,
    last_ack: Option<Bytes>,
}

impl Call {
    fn new(invite: Message, server: Option<ServerId>, client: Option<ClientId>) -> Self {
        Self {
            dialog: None,
            invite,
            server,
            client,
            reinvite: None,
            asked_for_offer: false,
            session: None,
            begun: client.is_some(),
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
            early_answered: false,
            updates: Vec::new(),
            other_earlies: Vec::new(),
            early_tags: std::collections::BTreeSet::new(),
            last_ack: None,
        }
    }

    fn is(&self, call_id: &str) -> bool {
        self.dialog.as_ref().is_some_and(|dialog| dialog.call_id == call_id)
    }
}

pub struct Phone {
    pub name: String,
    pub user: String,
    pub password: String,
    pub address: SocketAddr,
    /// Where its messages seem to come from: itself, or what a NAT made of it.
    pub seen_as: SocketAddr,
    pub on_ring: OnRing,
    /// The codecs it has, as payload types of `m=audio`.
    pub codecs: &'static str,
    /// Whom it calls itself in From; none: its user.
    pub from: Option<String>,
    /// What it answers to a re-INVITE instead of 200; consumed from the front.
    pub refuse_reinvites: Vec<Status>,
    /// It never answers a re-INVITE.
    pub ignore_reinvites: bool,
    /// It asks for credentials once before it rings, as a gateway does.
    pub challenge: bool,
    /// It describes its media in a 183 before it answers, reliably if the caller can.
    pub early_media: bool,
    /// It acknowledges a reliable response with a new offer of this direction (RFC 3262 §5).
    pub offer_in_prack: Option<&'static str>,
    /// It answers no new offer before the call is answered, but refuses it.
    pub refuse_updates: Option<Status>,
    /// It holds its answer to a new offer back until [`Phone::answer_updates`].
    pub holds_updates: bool,
    held_updates: Vec<(ServerId, Message)>,
    /// Where its audio comes in.
    pub media_port: u16,
    /// Its 2xx to an INVITE it has answered in a reliable provisional response describes nothing.
    pub bare_answer: bool,
    /// It acknowledges an offer and does not answer it.
    pub bare_ack: bool,
    /// It hangs up as soon as its REFER is answered 202.
    pub bye_on_accepted: bool,
    /// It has session timers, and this side is to refresh; none: it knows nothing of them.
    pub keeps_time: Option<Refresher>,
    pub calls: Vec<Call>,
    /// Notifications numbered below the last are refused or ignored (RFC 3261 §12.2.2, RFC 4235 §4.1.2), not a mistake.
    pub forgives: bool,
    /// What it watches.
    pub watches: Vec<Watch>,
    pub messages: Vec<String>,
    pub registered: bool,
    /// The Contacts of the 301s to its REGISTERs.
    pub sent_home: Vec<String>,
    /// It registers where a 301 says, the best first (RFC 3261 §8.1.3.4).
    pub follows: bool,
    /// A NAT lets nobody else in than the host it talks to.
    pub behind_nat: bool,
    /// It sends what belongs to a call to the address in the other side's Contact, if that is one, and not to its host.
    pub by_contact: bool,
    /// What it calls itself.
    pub user_agent: &'static str,
    pub tx: Transactions,
    host: SocketAddr,
    pub domain: String,
    now: Now,
    serial: u64,
    owners: BTreeMap<ClientId, Wants>,
    /// 2xx answers without ACK: when to send them again, and how long to wait then (RFC 3261 §13.3.1.4).
    unacknowledged: Vec<Unacknowledged>,
    /// Calls to answer when their time comes.
    pub answers: Vec<(Instant, CallId)>,
    /// It is switched off: hears and says nothing.
    pub dead: bool,
    /// It speaks TCP, on this connection of its own making; it listens on none.
    pub stream: Option<ConnectionId>,
    /// The connection on which it was heard last.
    pub heard_on: Option<ConnectionId>,
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
            seen_as: SocketAddr::from(([10, 0, 0, number], 5060)),
            on_ring: OnRing::Ring,
            codecs: "0 8 101",
            from: None,
            refuse_reinvites: Vec::new(),
            ignore_reinvites: false,
            challenge: false,
            early_media: false,
            offer_in_prack: None,
            refuse_updates: None,
            holds_updates: false,
            held_updates: Vec::new(),
            media_port: 20_000 + u16::from(number),
            bare_answer: false,
            bare_ack: false,
            bye_on_accepted: false,
            keeps_time: None,
            calls: Vec::new(),
            forgives: false,
            watches: Vec::new(),
            messages: Vec::new(),
            registered: false,
            sent_home: Vec::new(),
            follows: false,
            behind_nat: false,
            by_contact: false,
            user_agent: "",
            tx: Transactions::new(ChaCha12Rng::seed_from_u64(seed ^ u64::from(number) << 32)),
            host,
            domain: domain.to_owned(),
            now: Now::default(),
            serial: u64::from(number) * 1_000,
            owners: BTreeMap::new(),
            unacknowledged: Vec::new(),
            answers: Vec::new(),
            dead: false,
            stream: None,
            heard_on: None,
        }
    }

    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    pub(super) fn flow(&self) -> Flow {
        let protocol = if self.stream.is_some() { Protocol::Tcp } else { Protocol::Udp };
        Flow { protocol, local: self.address, remote: self.host, connection: self.stream, edge: None }
    }

    /// Where it is reached.
    pub(super) fn contact(&self) -> String {
        let transport = if self.stream.is_some() { ";transport=tcp" } else { "" };
        format!("<sip:{}@{}{transport}>", self.user, self.address)
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

    /// How many calls it has begun itself.
    pub fn calls_begun(&self) -> usize {
        self.calls.iter().filter(|call| call.begun).count()
    }

    /// Off and on again: it knows nothing of what was.
    pub fn forget_all(&mut self) {
        let seed = self.fresh();
        self.tx = Transactions::new(ChaCha12Rng::seed_from_u64(seed));
        self.owners.clear();
        self.unacknowledged.clear();
        self.answers.clear();
        self.watches.clear();
        for call in &mut self.calls {
            call.over = true;
            call.up = false;
            call.server = None;
            call.client = None;
        }
    }

    /// The answered calls that are not over, in the order they began.
    pub fn live(&self) -> impl Iterator<Item = CallId> {
        self.which(|call| call.up && !call.over)
    }

    /// The calls it could answer now.
    pub fn ringing(&self) -> impl Iterator<Item = CallId> {
        self.which(|call| call.server.is_some() && !call.over)
    }

    /// The calls it makes that have no answer yet.
    pub fn calling(&self) -> impl Iterator<Item = CallId> {
        self.which(|call| call.client.is_some() && !call.up && !call.over)
    }

    fn which(&self, is: impl Fn(&Call) -> bool) -> impl Iterator<Item = CallId> {
        self.calls.iter().enumerate().filter(move |(_, call)| is(call)).map(|(id, _)| CallId(id))
    }

    pub fn sdp(&mut self, direction: &str) -> Bytes {
        let version = self.fresh();
        let ip = self.address.ip();
        let port = self.media_port;
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

    /// The host it talks to.
    pub fn host(&self) -> SocketAddr {
        self.host
    }

    /// From now on it talks to the host there.
    pub fn talk_to(&mut self, host: SocketAddr) {
        self.host = host;
    }

    pub fn receive(&mut self, from: SocketAddr, bytes: Bytes) {
        if self.dead {
            return;
        }
        let flow = Flow { remote: from, ..self.flow() };
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
        // Who answered and hears nothing for 64*T1 gives up, with a BYE (RFC 3261 §13.3.1.4).
        let given_up: Vec<String> =
            self.unacknowledged.iter().filter(|w| w.until <= now).map(|w| w.key.0.clone()).collect();
        self.unacknowledged.retain(|waiting| waiting.until > now);
        for call in given_up {
            let id = self.live().find(|id| self.call(*id).is(&call));
            if let Some(id) = id {
                self.hang_up(id);
            }
        }
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
        self.refresh_sessions();
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        if self.dead {
            return None;
        }
        let answers = self.answers.iter().map(|(at, _)| *at);
        let repeats = self.unacknowledged.iter().map(|waiting| waiting.at);
        let refreshes = self.calls.iter().filter(|call| call.up).filter_map(|call| Some(call.session?.0));
        self.tx.next_timeout().into_iter().chain(answers).chain(repeats).chain(refreshes).min()
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
}

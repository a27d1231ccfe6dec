//! Transactions (RFC 3261 §17, RFC 6026): four small machines, and [`Transactions`], which owns them all.

mod client;
mod clients;
mod invite_client;
mod invite_server;
mod key;
mod reject;
mod server;
mod servers;
mod timer;

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha12Rng;
use serde::Serialize;

use self::clients::Clients;
pub use self::reject::refuse;
use self::servers::Servers;
use self::timer::Queue;
pub use self::timer::Timings;
use super::dialog::MAX_FORWARDS;
use super::draft::Draft;
use super::header::ViaParts;
use super::message::Message;
use super::method::Method;
use super::name::Name;
use super::parse::ParseError;
use crate::net::Flow;
use crate::repeats;
use crate::time::{Instant, Now};

/// Largest request for a datagram when the path's MTU is unknown (RFC 3261 §18.1.1).
const DATAGRAM_REQUEST_MAX: usize = 1300;

/// What our Via will add to a draft: transport, a long host name, branch, rport.
const VIA_ALLOWANCE: usize = 120;

/// Whether a request must go over a stream rather than as a datagram (RFC 3261 §18.1.1), our Via included.
pub fn too_big_for_udp(draft: &Draft) -> bool {
    draft.wire_len() + VIA_ALLOWANCE > DATAGRAM_REQUEST_MAX
}

/// Names a client transaction. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub u64);

/// Names a server transaction. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerId(pub u64);

/// Why a client transaction ended without a final response.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody answered in time: as if 408 had come (RFC 3261 §8.1.3.1).
    #[error("no answer in time")]
    Timeout,
    /// It could not be sent: as if 503 had come.
    #[error("could not be sent")]
    Transport,
}

/// What the transaction user is told.
#[derive(Debug)]
pub enum Event {
    /// A request, other than ACK and CANCEL, that belongs to no transaction yet. To be answered by
    /// [`Transactions::respond`]; one that is not an INVITE within 32 s.
    Request {
        /// Its transaction.
        server: ServerId,
        /// The request, its Via telling where it came from.
        request: Message,
        /// Where it came from.
        flow: Flow,
    },
    /// An ACK for a 2xx, or one nobody asked for. Those of failures are not shown.
    Ack {
        /// The ACK.
        request: Message,
        /// Where it came from.
        flow: Flow,
    },
    /// A CANCEL for an INVITE without final response. It has been answered; the INVITE is to be answered 487.
    Cancel {
        /// The INVITE's transaction.
        invite: ServerId,
        /// The CANCEL.
        request: Message,
    },
    /// A response: each provisional one, each 2xx to an INVITE (those of other forks and repeats included), and the
    /// first final one otherwise.
    Response {
        /// The transaction it answers.
        client: ClientId,
        /// The response.
        response: Message,
        /// Where it came from.
        flow: Flow,
    },
    /// A 2xx to an INVITE of no transaction here. Whoever knows its dialog may still owe the ACK: the process that sent the
    /// INVITE has died, and the phone repeats its answer until it has one (RFC 3261 §13.3.1.4).
    Stray {
        /// The response.
        response: Message,
    },
    /// No final response will come.
    Failed {
        /// The transaction.
        client: ClientId,
        /// Why.
        why: Failure,
    },
}

/// Sizes, each with its reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Server transactions alive at once; above it new requests outside a dialog get 503 with Retry-After. At 2 KiB
    /// each the default is 200 MiB, and at 32 s a transaction it is 3000 requests a second over UDP.
    pub servers: usize,
    /// How many more are taken in dialogs (a BYE makes room), in percent of `servers`.
    pub in_dialog_percent: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { servers: 100_000, in_dialog_percent: 10 }
    }
}

/// What happened so far, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counters {
    /// Messages received.
    pub received: u64,
    /// Messages that could not be parsed.
    pub malformed: u64,
    /// Of those, requests that were answered.
    pub malformed_answered: u64,
    /// Responses that belong to no transaction.
    pub stray_responses: u64,
    /// Requests and responses that came again.
    pub repeats: u64,
    /// Requests refused for want of room.
    pub overloaded: u64,
    /// Messages not read because their sender, or all strangers together, sent too many.
    pub limited: u64,
    /// Of those, requests that were answered.
    pub limited_answered: u64,
    /// Requests that had reached us along another path already (482).
    pub merged: u64,
    /// CANCELs without an INVITE (481).
    pub stray_cancels: u64,
    /// Client transactions nobody answered.
    pub timeouts: u64,
    /// Client transactions that could not be sent.
    pub transport_failures: u64,
}

/// All transactions of an engine. Messages and time go in, events and messages come out; drain
/// [`poll_event`](Self::poll_event) and [`poll_send`](Self::poll_send) to `None` after each call.
///
/// A transaction an event speaks of is still there while the event is handled, even if the event is its last.
#[derive(Debug)]
pub struct Transactions {
    clients: Clients,
    servers: Servers,
    out: Out,
    rng: ChaCha12Rng,
    salt: u64,
    limits: Limits,
    /// See [`with_mark`](Transactions::with_mark).
    mark: String,
}

/// What the parts share.
#[derive(Debug)]
struct Out {
    timings: Timings,
    timers: Queue<Id>,
    events: VecDeque<Event>,
    sends: VecDeque<Send>,
    /// Terminated, but not forgotten before the events about them are taken.
    dead: Vec<Id>,
    counters: Counters,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Id {
    Client(ClientId),
    Server(ServerId),
}

#[derive(Debug)]
enum Send {
    Message(Flow, Bytes),
    /// 100 Trying, unless something better was said by the time it is taken.
    Trying(ServerId),
}

impl Transactions {
    /// `rng` makes branches and tags nobody can guess.
    pub fn new(mut rng: ChaCha12Rng) -> Self {
        let salt = rng.next_u64();
        Self {
            clients: Clients::default(),
            servers: Servers::default(),
            out: Out {
                timings: Timings::default(),
                timers: Queue::default(),
                events: VecDeque::new(),
                sends: VecDeque::new(),
                dead: Vec::new(),
                counters: Counters::default(),
            },
            rng,
            salt,
            limits: Limits::default(),
            mark: String::new(),
        }
    }

    /// The same with this in the branch of every request, behind its number: by it the hosts of a cluster know whose
    /// request a response answers.
    pub fn with_mark(mut self, mark: &str) -> Self {
        mark.clone_into(&mut self.mark);
        self
    }

    /// The same with other limits.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same with other base timers. For tests of networks far slower than ours.
    pub fn with_timings(mut self, timings: Timings) -> Self {
        self.out.timings = timings;
        self
    }

    /// One whole message came in. Anything may: malformed requests are answered where that is possible.
    pub fn receive(&mut self, now: Now, flow: Flow, bytes: Bytes) {
        match Message::read(bytes) {
            Ok(message) => self.receive_message(now, flow, message),
            Err((ParseError::Empty, _)) => self.out.counters.received += 1, // keep-alive; its answer is the transport's
            Err((error, bytes)) => {
                self.out.counters.received += 1;
                self.out.counters.malformed += 1;
                let answer = reject::answer(&bytes, error, flow, self.salt);
                let answered = answer.is_some();
                if repeats::MALFORMED.is_first() {
                    tracing::info!(%flow, %error, answered, "malformed message");
                } else {
                    tracing::debug!(%flow, %error, answered, "malformed message");
                }
                if let Some((flow, bytes)) = answer {
                    self.out.counters.malformed_answered += 1;
                    self.out.send(flow, bytes);
                }
            }
        }
    }

    /// The same with a message that has been read.
    pub fn receive_message(&mut self, now: Now, flow: Flow, message: Message) {
        self.out.counters.received += 1;
        if message.is_request() {
            self.receive_request(now.instant, flow, message);
        } else {
            self.clients.receive(&mut self.out, now.instant, flow, message);
        }
    }

    /// Whether a request belongs to a transaction that is here: a repeat, an ACK of a failure, a CANCEL.
    pub fn knows(&self, request: &Message) -> bool {
        self.servers.knows(request)
    }

    /// A message came from somebody who sends too many: nothing of it is looked at but where a 503 belongs, if it is to
    /// be answered.
    pub fn limited(&mut self, flow: Flow, bytes: &[u8], answer: bool) {
        self.out.counters.limited += 1;
        if repeats::LIMITED.is_first() {
            tracing::info!(%flow, "more requests than are taken: sip.limits");
        } else {
            tracing::debug!(%flow, "more requests than are taken: sip.limits");
        }
        if answer && self.unserved(flow, bytes) {
            self.out.counters.limited_answered += 1;
        }
    }

    /// A request is answered 503 without being looked at: nobody is there who could serve it, for the moment. Whether it
    /// was answered.
    pub fn unserved(&mut self, flow: Flow, bytes: &[u8]) -> bool {
        let answer = reject::unavailable(bytes, self.retry_after_s(), flow, self.salt);
        let answered = answer.is_some();
        if let Some((flow, bytes)) = answer {
            self.out.send(flow, bytes);
        }
        answered
    }

    /// Spread, or all come back at once.
    fn retry_after_s(&mut self) -> u32 {
        5 + self.rng.next_u32() % 10
    }

    fn receive_request(&mut self, now: Instant, flow: Flow, request: Message) {
        let retry_after_s = || 5 + self.rng.next_u32() % 10; // spread, or all come back at once
        servers::Arrival { out: &mut self.out, limits: &self.limits, salt: self.salt, now, flow }.receive(
            &mut self.servers,
            request,
            retry_after_s,
        );
    }

    /// Sends a request in a transaction of its own, on `flow`, with a Via of ours on top (`sent_by` is the host and
    /// port others reach us at) and Max-Forwards if it has none. Not for ACK and CANCEL.
    ///
    /// Over UDP it must not be [`too_big_for_udp`]; choosing a stream instead is the caller's part.
    pub fn request(&mut self, now: Now, flow: Flow, sent_by: &str, mut draft: Draft) -> ClientId {
        let id = self.clients.next_id();
        let branch = key::branch(id.0, &self.mark, self.rng.next_u64());
        add_via(&mut draft, flow, sent_by, &branch);
        self.clients.start(&mut self.out, now.instant, flow, branch, draft.build())
    }

    /// The request of a client transaction, as sent.
    pub fn request_of(&self, id: ClientId) -> Option<&Message> {
        self.clients.request(id)
    }

    /// Where a client transaction sends to.
    pub fn flow_of_client(&self, id: ClientId) -> Option<Flow> {
        self.clients.flow(id)
    }

    /// The request of a server transaction, until its final response.
    pub fn request_of_server(&self, id: ServerId) -> Option<&Message> {
        self.servers.request(id)
    }

    /// Where a server transaction's request came from.
    pub fn flow_of(&self, id: ServerId) -> Option<Flow> {
        self.servers.flow(id)
    }

    /// Answers a request; gives the response as sent. Repeats are not the caller's business, but for a 2xx to INVITE
    /// and reliable provisional responses: see [`resend`](Self::resend). A response that comes too late (after a final
    /// one) is not sent.
    pub fn respond(&mut self, now: Now, id: ServerId, response: &Draft) -> Message {
        let message = response.build();
        self.servers.respond(&mut self.out, now.instant, id, &message);
        message
    }

    /// Answers a request whose sender has proved nothing, once, and forgets it: no transaction, no repeats (RFC 3261
    /// §8.2.7, §26.3.2.4). If the answer is lost the request comes again and is answered anew. A forged address is sent
    /// one answer this way, not the eleven of an INVITE that nobody acknowledges.
    pub fn respond_once(&mut self, id: ServerId, response: &mut Draft) {
        self.servers.respond_once(&mut self.out, self.salt, id, response);
    }

    /// Sends the last response again: a 2xx without its ACK, a reliable provisional response without its PRACK.
    pub fn resend(&mut self, id: ServerId) {
        self.servers.resend(&mut self.out, id);
    }

    /// Sends an earlier response to this request again, word for word.
    pub fn resend_this(&mut self, id: ServerId, response: &Message) {
        if let Some(flow) = self.servers.reply_flow(id) {
            self.out.send(flow, response.bytes().clone());
        }
    }

    /// Cancels an INVITE, with these Reason values (RFC 3326). Held back until a provisional response came (RFC 3261
    /// §9.1); nothing is sent if a final one came first. The INVITE's own final response, 487 as a rule, comes as an
    /// event; if none does within 32 s, [`Failure::Timeout`].
    pub fn cancel(&mut self, now: Now, id: ClientId, reason: &[String]) {
        self.clients.cancel(&mut self.out, now.instant, id, reason);
    }

    /// Lets a request go without a word: somebody else has its call or its subscription. An INVITE waits for its final response
    /// for 32 s more; any other is not sent again.
    pub fn leave(&mut self, now: Now, id: ClientId) {
        self.clients.leave(&mut self.out, now.instant, id);
    }

    /// Sends the ACK of a 2xx, which belongs to no transaction (RFC 3261 §13.2.2.4). Gives it as sent, for the repeats
    /// of the 2xx to be answered with through [`send_raw`](Self::send_raw).
    pub fn send_ack(&mut self, flow: Flow, sent_by: &str, mut draft: Draft) -> Message {
        let id = self.clients.next_id();
        let branch = key::branch(id.0, &self.mark, self.rng.next_u64());
        add_via(&mut draft, flow, sent_by, &branch);
        let message = draft.build();
        self.out.send(flow, message.bytes().clone());
        message
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, flow: Flow, bytes: Bytes) {
        self.out.send(flow, bytes);
    }

    /// The transport could not send on this flow: requests sent there and not answered yet fail.
    pub fn send_failed(&mut self, now: Now, flow: Flow) {
        self.clients.send_failed(&mut self.out, now.instant, flow);
    }

    /// When to call [`on_timeout`](Self::on_timeout).
    pub fn next_timeout(&self) -> Option<Instant> {
        self.out.timers.first()
    }

    /// Time has passed. Early or repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now) {
        while let Some(id) = self.out.timers.due(now.instant) {
            match id {
                Id::Client(id) => self.clients.on_timeout(&mut self.out, now.instant, id),
                Id::Server(id) => self.servers.on_timeout(&mut self.out, now.instant, id),
            }
        }
    }

    /// The next event. Transactions that ended are forgotten when there is none left.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.out.events.pop_front();
        if event.is_none() {
            for id in std::mem::take(&mut self.out.dead) {
                match id {
                    Id::Client(id) => self.clients.forget(id),
                    Id::Server(id) => self.servers.forget(id),
                }
            }
        }
        event
    }

    /// The next message to send.
    pub fn poll_send(&mut self) -> Option<(Flow, Bytes)> {
        loop {
            match self.out.sends.pop_front()? {
                Send::Message(flow, bytes) => return Some((flow, bytes)),
                Send::Trying(id) => {
                    if let Some(trying) = self.servers.trying(id) {
                        return Some(trying);
                    }
                }
            }
        }
    }

    /// Live client and server transactions.
    pub fn len(&self) -> (usize, usize) {
        (self.clients.len(), self.servers.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.out.counters
    }
}

impl Out {
    fn send(&mut self, flow: Flow, bytes: Bytes) {
        self.sends.push_back(Send::Message(flow, bytes));
    }
}

/// Puts our Via on top, and Max-Forwards where it is missing.
fn add_via(draft: &mut Draft, flow: Flow, sent_by: &str, branch: &str) {
    // RFC 3581: ask for the answer to come back to the port we sent from. On a stream it does anyway.
    let rport = if flow.protocol.is_reliable() { "" } else { ";rport" };
    let transport = flow.protocol.via_name();
    draft.prepend(Name::Via, format_args!("SIP/2.0/{transport} {sent_by};branch={branch}{rport}"));
    if draft.get(Name::MaxForwards).is_none() {
        draft.add(Name::MaxForwards, MAX_FORWARDS);
    }
}

/// Where responses to a request with this top Via go (RFC 3261 §18.2.2, RFC 3581 §4).
///
/// `maddr` is not honoured: it is for multicast, which we don't do, and would let anybody point our responses at others.
fn reply_flow(flow: Flow, via: &ViaParts<'_>) -> Flow {
    if flow.protocol.is_reliable() || via.rport.is_some() {
        return flow;
    }
    let port = via.port.unwrap_or(flow.protocol.default_port());
    Flow { remote: SocketAddr::new(flow.remote.ip(), port), ..flow }
}

/// Whether `method` opens and closes its transaction by rules of its own.
fn is_invite(method: &Method) -> bool {
    *method == Method::Invite
}

#[cfg(test)]
mod tests;

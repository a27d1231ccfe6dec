//! What every part of the engine stands on: the present, transactions, timers, randomness, who we are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use switchyard_sdk::types::LegId;

use super::output::{Event, Output};
use super::timers::{Timer, Timers};
use crate::call::SubscriptionId;
use crate::cluster::Code;
use crate::net::{Flow, HostName, Listener, Protocol};
use crate::notifier::LampId;
use crate::sip::{ClientId, Draft, Message, Name, ServerId, Status, Transactions, Uri, too_big_for_udp};
use crate::time::Now;

/// Who waits for the responses to a request of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// The INVITE that makes a leg.
    Invite(LegId),
    /// A re-INVITE of the leg's operation.
    Reinvite(LegId),
    /// An UPDATE of the leg's operation.
    Update(LegId),
    /// A session refresh (RFC 4028).
    Refresh(LegId),
    /// A question whether a waiting phone is still there.
    Probe(LegId),
    /// The end of a leg.
    Bye(LegId),
    /// Passed on within a call: the answer goes back to the request's server transaction.
    Relay(LegId, ServerId),
    /// Passed on outside any call.
    Page(ServerId),
    /// A notification.
    Notify(SubscriptionId),
    /// What a watcher is told.
    Lamp(LampId),
    /// Nobody: PRACK, courtesy messages.
    Nobody,
}

struct Sent {
    owner: Owner,
    /// Sent over TCP because it was too big for a datagram; if that fails, this is sent over UDP (RFC 3261 §18.1.1).
    fallback: Option<(Flow, Draft)>,
}

/// See the module.
pub struct Core {
    /// The present, set at each entry into the engine.
    pub now: Now,
    /// The transaction layer.
    pub tx: Transactions,
    /// Named wake-ups.
    pub timers: Timers,
    /// Tags, tokens and choices come from here: one seed repeats everything.
    pub rng: ChaCha12Rng,
    /// Who we are on the wire.
    pub identity: Identity,
    out: VecDeque<Output>,
    sent: BTreeMap<ClientId, Sent>,
    next_id: u64,
}

/// The host's names and addresses.
pub struct Identity {
    /// The domain it serves.
    pub domain: String,
    /// The host's name, for Warning headers.
    pub host: String,
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// Further names for itself: pool FQDNs, advertised hosts.
    pub names: Vec<String>,
    /// What its tags begin with, so that the hosts of a cluster know them; nothing on a host alone.
    pub mark: String,
    /// The names in Contacts by which hosts are known to phones, instead of their addresses: this one's (without a name), and those
    /// of the cluster.
    pub contacts: BTreeMap<Option<HostName>, String>,
    /// Where the other hosts of the cluster listen, those included that are gone: their addresses are still ours.
    pub edges: BTreeMap<HostName, Vec<Listener>>,
    /// Those of them that are gone.
    pub gone: BTreeSet<HostName>,
}

impl Identity {
    /// Where this host listens, or another one.
    fn listeners_of(&self, edge: Option<HostName>) -> &[Listener] {
        match edge {
            None => &self.listeners,
            Some(edge) => self.edges.get(&edge).map_or(&[], Vec::as_slice),
        }
    }
}

/// The methods the host understands, for Allow.
pub const ALLOW: &str =
    "INVITE, ACK, BYE, CANCEL, OPTIONS, REGISTER, PRACK, UPDATE, INFO, MESSAGE, REFER, NOTIFY, SUBSCRIBE";

/// The extensions the host supports, each proved by a test.
pub const SUPPORTED: &str = "replaces, timer, norefersub, path, outbound";

impl Core {
    /// A core at `now`.
    pub fn new(now: Now, tx: Transactions, rng: ChaCha12Rng, identity: Identity) -> Self {
        // So that no two hosts of a cluster name their calls alike.
        let first_id = if identity.mark.is_empty() { 0 } else { Code::of(&identity.host).first_id() };
        Self {
            now,
            tx,
            timers: Timers::default(),
            rng,
            identity,
            out: VecDeque::new(),
            sent: BTreeMap::new(),
            next_id: 1 + first_id,
        }
    }

    /// A number never given before.
    pub fn fresh_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// 64 random bits in hexadecimal: unguessable, as RFC 3261 §19.3 asks of tags. In a cluster behind the host's mark.
    pub fn fresh_tag(&mut self) -> String {
        format!("{}{:016x}", self.identity.mark, self.rng.random::<u64>())
    }

    /// Puts an output at the end of the queue.
    pub fn emit(&mut self, output: Output) {
        self.out.push_back(output);
    }

    /// Takes the next output; what transactions send comes first.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some((flow, bytes)) = self.tx.poll_send() {
            return Some(Output::Send { flow, bytes });
        }
        self.out.pop_front()
    }

    /// Tells the log, the event stream and the call detail record.
    pub fn event(
        &mut self,
        what: &'static str,
        code: Option<u16>,
        call_id: Option<&str>,
        detail: serde_json::Value,
    ) {
        let event = Event { at: self.now.utc, what, code, call_id: call_id.map(str::to_owned), detail };
        self.emit(Output::Event(event));
    }

    /// Sends a request in a transaction; its responses go to `owner`.
    ///
    /// A request too big for a datagram goes over TCP if we listen there, and over UDP after all if TCP fails.
    pub fn request(&mut self, flow: Flow, draft: Draft, owner: Owner) -> ClientId {
        let (flow, fallback) = match self.stream_instead(&flow, &draft) {
            Some(stream) => (stream, Some((flow, draft.clone()))),
            None => (flow, None),
        };
        let sent_by = self.sent_by(&flow);
        let id = self.tx.request(self.now, flow, &sent_by, draft);
        self.sent.insert(id, Sent { owner, fallback });
        // An answered INVITE stays known for repetitions of its 2xx, until its transaction is gone.
        if self.sent.len() > 2 * self.tx.len().0 + 64 {
            self.sent.retain(|id, _| self.tx.request_of(*id).is_some());
        }
        id
    }

    fn stream_instead(&self, flow: &Flow, draft: &Draft) -> Option<Flow> {
        if flow.protocol != Protocol::Udp || !too_big_for_udp(draft) {
            return None;
        }
        let listener = self.identity.listeners_of(flow.edge).iter().find(|listener| {
            listener.protocol == Protocol::Tcp && listener.local.is_ipv4() == flow.remote.is_ipv4()
        })?;
        Some(Flow {
            protocol: Protocol::Tcp,
            local: listener.local,
            remote: flow.remote,
            connection: None,
            edge: flow.edge,
        })
    }

    /// Who waits for the responses of this transaction.
    pub fn owner(&self, client: ClientId) -> Option<Owner> {
        self.sent.get(&client).map(|sent| sent.owner)
    }

    /// From now on somebody else waits for the responses of this transaction.
    pub fn hand_over(&mut self, client: ClientId, owner: Owner) {
        if let Some(sent) = self.sent.get_mut(&client) {
            sent.owner = owner;
        }
    }

    /// The transaction has ended, or nobody wants to hear more of it.
    pub fn disown(&mut self, client: ClientId) {
        self.sent.remove(&client);
    }

    /// Lets the requests go whose responses are for such owners: others go on from here.
    pub fn leave(&mut self, owners: impl Fn(Owner) -> bool) {
        let left: Vec<ClientId> =
            self.sent.iter().filter(|(_, sent)| owners(sent.owner)).map(|(client, _)| *client).collect();
        for client in left {
            self.disown(client);
            self.tx.leave(self.now, client);
        }
    }

    /// A request could not be sent. Sends it over UDP if it was only on TCP for its size; the new transaction.
    pub fn fall_back(&mut self, client: ClientId) -> Option<ClientId> {
        let sent = self.sent.remove(&client)?;
        let Some((flow, draft)) = sent.fallback else {
            self.sent.insert(client, sent);
            return None;
        };
        let sent_by = self.sent_by(&flow);
        let id = self.tx.request(self.now, flow, &sent_by, draft);
        self.sent.insert(id, Sent { owner: sent.owner, fallback: None });
        Some(id)
    }

    /// Answers a request without any dialog, with an optional reason phrase of our own.
    pub fn reply(&mut self, server: ServerId, request: &Message, status: Status, reason: Option<&str>) {
        let mut draft = Draft::response(request, status);
        if let Some(reason) = reason {
            draft.reason(reason);
        }
        let tag = self.fresh_tag();
        draft.to_tag(&tag);
        if status == Status::METHOD_NOT_ALLOWED {
            draft.add(Name::Allow, ALLOW);
        }
        self.tx.respond(self.now, server, &draft);
    }

    /// The same to somebody who has proved nothing: see [`Transactions::respond_once`].
    pub fn reply_once(&mut self, server: ServerId, request: &Message, status: Status, reason: Option<&str>) {
        let mut draft = Draft::response(request, status);
        if let Some(reason) = reason {
            draft.reason(reason);
        }
        self.tx.respond_once(server, &mut draft);
    }

    /// What goes into Via for this flow.
    pub fn sent_by(&self, flow: &Flow) -> String {
        if flow.protocol == Protocol::Cluster {
            return self.identity.host.clone();
        }
        self.listener(flow).map_or_else(|| flow.local.to_string(), |listener| listener.advertised.clone())
    }

    /// Whether the flow is one of the addresses we listen on.
    pub fn listens_on(&self, flow: &Flow) -> bool {
        self.listener(flow).is_some()
    }

    fn listener(&self, flow: &Flow) -> Option<&Listener> {
        self.identity
            .listeners_of(flow.edge)
            .iter()
            .find(|listener| listener.protocol == flow.protocol && listener.local == flow.local)
    }

    /// Whether the flow is at a socket of another host that is gone: what that one told the phone of where it can be reached
    /// is true no more.
    pub fn is_stranded(&self, flow: &Flow) -> bool {
        // A pool may have the name of a host.
        let edge = flow.edge.filter(|_| flow.protocol != Protocol::Cluster);
        edge.is_some_and(|edge| self.identity.gone.contains(&edge))
    }

    /// Our Contact on this flow: the address the phone talks to, or the name of that host's pool where it is known by one, so that
    /// a phone finds the pool's other hosts when that one is gone. `user` is opaque to the peer.
    pub fn contact(&self, flow: &Flow, user: &str) -> String {
        let name = self.identity.contacts.get(&flow.edge).filter(|_| flow.protocol != Protocol::Cluster);
        let host = name.cloned().unwrap_or_else(|| self.sent_by(flow));
        match flow.protocol {
            // Of a name the transport says which of its SRV records are meant (RFC 3263 §4.1).
            Protocol::Udp if name.is_none() => format!("<sip:{user}@{host}>"),
            other => format!("<sip:{user}@{host};transport={}>", other.uri_name()),
        }
    }

    /// A listener for that protocol, for requests to `remote`.
    pub fn flow_to(&self, protocol: Protocol, remote: std::net::SocketAddr) -> Option<Flow> {
        let listener =
            self.identity.listeners.iter().find(|listener| {
                listener.protocol == protocol && listener.local.is_ipv4() == remote.is_ipv4()
            })?;
        Some(Flow { protocol, local: listener.local, remote, connection: None, edge: None })
    }

    /// Whether a URI's host means us: the domain, one of our names or addresses.
    pub fn is_ours(&self, uri: &Uri) -> bool {
        let host = uri.host.trim_matches(['[', ']']);
        let identity = &self.identity;
        if identity.domain.eq_ignore_ascii_case(host) {
            return true;
        }
        if identity.names.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            return true;
        }
        identity.listeners.iter().chain(identity.edges.values().flatten()).any(|listener| {
            let advertised =
                listener.advertised.rsplit_once(':').map_or(&*listener.advertised, |(host, _)| host);
            host.eq_ignore_ascii_case(advertised.trim_matches(['[', ']']))
                || host.parse().is_ok_and(|ip: std::net::IpAddr| ip == listener.local.ip())
        })
    }

    /// The SIP URI of a user part in our domain.
    pub fn uri_of(&self, user: &str) -> String {
        format!("sip:{user}@{}", self.identity.domain)
    }

    /// Sets a timer `delay` from now.
    pub fn after(&mut self, timer: Timer, delay: std::time::Duration) {
        let at = self.now.instant + delay;
        self.timers.set(timer, at);
    }
}

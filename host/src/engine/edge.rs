//! In a cluster: whose a message is. What another host serves goes to it over the link, as it came; what that host wants
//! sent at a socket of ours is sent there.
//!
//! A request outside any dialog belongs to whoever serves its sender's pool (a SUBSCRIBE: to whoever serves what it wants to
//! watch). A request in a dialog belongs to the host that made its To tag; if that is gone, or has given the call away, to
//! whoever holds the seat it came with. A response belongs to the host that made its branch, a CANCEL to the one that has its
//! INVITE.

use std::net::SocketAddr;

use bytes::Bytes;

use super::admission::Admitted;
use super::seat::Clustered;
use super::{Engine, Output};
use crate::admin::Refused;
use crate::cluster::{Frame, Mark};
use crate::net::{Flow, HostName, Protocol};
use crate::sip::header::Auth;
use crate::sip::{Message, Method, Name, NameAddr, Uri};

/// Hosts that may have a message one after the other, before nobody knows what it is about.
const TRIED_MAX: usize = 4;

/// Whether a message came in at another host, `own` being this one.
fn is_passed_on(flow: &Flow, own: HostName) -> bool {
    flow.edge.is_some_and(|edge| edge != own)
}

/// Where a message is dealt with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Here,
    At(HostName),
    /// Here, when the seat that is being taken is, and all is known that goes with it.
    Soon,
    /// By whoever takes the seat, soon.
    Coming,
    /// By nobody, before its pool's hosts are back.
    Nowhere,
}

impl Engine {
    /// A message came in: at a socket of ours, or handed on by hosts that have `tried`.
    pub(super) fn deal(&mut self, flow: Flow, mut tried: Vec<HostName>, bytes: Bytes) {
        let now = self.core.now;
        let Some(own) = self.cluster.as_ref().map(|cluster| cluster.seats.own()) else {
            self.core.tx.receive(now, flow, bytes);
            return;
        };
        let Ok(message) = Message::parse(bytes.clone()) else {
            self.core.tx.receive(now, flow, bytes);
            return;
        };
        match self.place_of(&message, &flow, &tried) {
            Place::Here => {
                self.remember_goodbye(&message, flow, &bytes);
                self.core.tx.receive_message(now, flow, message);
            }
            // Requests have been looked at already. A response of nobody knows whom costs other hosts more than a look.
            Place::At(_) if tried.is_empty() && !message.is_request() && !self.is_welcome(flow.remote) => {}
            Place::At(host) => {
                // Where it came in, and a seat is being taken, more may be known later. Who has it from there knows what it knows, or it
                // would go to and fro between two that take seats.
                if is_passed_on(&flow, own)
                    || self.cluster.as_ref().is_some_and(|cluster| !cluster.is_taking_any())
                {
                    tried.push(own);
                }
                let flow = Flow { edge: Some(flow.edge.unwrap_or(own)), ..flow };
                self.link(host, Frame::Arrived { flow, tried, bytes });
            }
            Place::Soon => {
                let Some(cluster) = &mut self.cluster else { return };
                if !cluster.waiting.keep(flow, tried, bytes.clone()) && flow.protocol.is_reliable() {
                    self.core.tx.unserved(flow, &bytes);
                }
            }
            // Soon it is said again, and then somebody is there. A BYE that is refused is not said again, and the other end is never
            // told.
            Place::Coming if !flow.protocol.is_reliable() => {}
            Place::Coming | Place::Nowhere => {
                self.core.tx.unserved(flow, &bytes);
            }
        }
    }

    /// Whether one more message from there is taken.
    fn is_welcome(&mut self, from: SocketAddr) -> bool {
        self.config.trunk_of(from.ip()).is_some()
            || self.admission.admit(self.core.now.instant, from) == Admitted::Yes
    }

    fn place_of(&self, message: &Message, flow: &Flow, tried: &[HostName]) -> Place {
        let Some(cluster) = &self.cluster else { return Place::Here };
        let own = cluster.seats.own();
        let may = |host: &HostName| *host != own && !tried.contains(host) && tried.len() < TRIED_MAX;
        if !message.is_request() {
            // Of one that is gone, whoever has taken its calls up may know what is still to be acknowledged.
            let mark = message.branch().and_then(Mark::of_branch);
            let made_by = mark.and_then(|mark| cluster.seats.by_code(mark.host));
            let heir = mark.and_then(|mark| cluster.seats.holder(cluster.pools.by_code(mark.pool)?));
            let host = made_by.or(heir).filter(may);
            return host.map_or(Place::Here, Place::At);
        }
        if self.core.tx.knows(message) || self.knows_dialog(message) {
            return Place::Here;
        }
        let at_home = self.pool_of_message(message, flow);
        let holder = |pool: &str| cluster.seats.holder(pool);
        if message.is_method(&Method::Cancel) {
            // It is for whoever has the INVITE, and the seat may have changed hands since.
            let backup = cluster.pools.backup(&at_home);
            let hosts = std::iter::once(at_home.as_str()).chain(backup);
            let hosts = hosts.flat_map(|pool| cluster.seats.of_pool(pool));
            let places = holder(&at_home).into_iter().chain(hosts);
            let seats = std::iter::once(at_home.as_str()).chain(backup);
            return self.first_of(places.filter(may), seats, flow, tried);
        }
        if let Some(mark) = message.to_tag().and_then(Mark::of_tag) {
            let made_by = cluster.seats.by_code(mark.host);
            let pool = cluster.pools.by_code(mark.pool);
            let seats = pool.into_iter().flat_map(|pool| [Some(pool), cluster.pools.backup(pool)]).flatten();
            // One that has lost the store goes on with calls that nobody else knows of.
            let gone = cluster.seats.gone_by_code(mark.host);
            let places = [made_by, holder(&at_home)].into_iter().chain(seats.clone().map(holder));
            let places = places.chain([gone]);
            let seats = std::iter::once(at_home.as_str()).chain(seats);
            return self.first_of(places.flatten().filter(may), seats, flow, tried);
        }
        if self.serves(&at_home) {
            return Place::Here;
        }
        match holder(&at_home) {
            Some(host) if may(&host) => Place::At(host),
            _ if cluster.is_taking(&at_home) => Place::Soon,
            Some(_) => Place::Coming,
            None if cluster.pools.is_coming(&cluster.seats, &at_home) => Place::Coming,
            None => Place::Nowhere,
        }
    }

    /// The first of those who may know what a request is about. If they all have been asked, somebody may know who is about to have
    /// one of the seats: the first is that of the sender's pool. Else nobody does, and whoever serves the sender says so.
    fn first_of<'a>(
        &self,
        mut places: impl Iterator<Item = HostName>,
        mut seats: impl Iterator<Item = &'a str> + Clone,
        flow: &Flow,
        tried: &[HostName],
    ) -> Place {
        let Some(cluster) = &self.cluster else { return Place::Here };
        let is_taken = seats.clone().any(|pool| cluster.is_taking(pool));
        let is_unread = seats.clone().any(|pool| cluster.is_unread(pool));
        // Who passes it on is not asked again.
        let is_kept = is_passed_on(flow, cluster.seats.own()) && (is_taken || is_unread);
        if let Some(host) = places.next().filter(|_| !is_kept) {
            return Place::At(host);
        }
        if is_taken {
            return Place::Soon;
        }
        let is_vacant = |pool: &str| {
            cluster.seats.holder(pool).is_none() && cluster.pools.is_coming(&cluster.seats, pool)
        };
        if is_unread || seats.clone().any(is_vacant) {
            return Place::Coming;
        }
        if seats.next().is_some_and(|pool| self.serves(pool)) || !tried.is_empty() {
            return Place::Here;
        }
        Place::Nowhere
    }

    /// Whether a request belongs to a dialog of ours.
    pub(super) fn knows_dialog(&self, request: &Message) -> bool {
        request.to_tag().is_some()
            && (self.calls.leg_of(request).is_some()
                || self.notifier.watcher_of(request).is_some()
                || self.calls.subscription_of(request).is_some())
    }

    /// Whose pool has to do with a request outside any dialog.
    fn pool_of_message(&self, request: &Message, flow: &Flow) -> String {
        let own = || self.config.host.pool.clone();
        let addressed = || Uri::parse(request.uri()).ok().and_then(|uri| self.pool_of_address(&uri));
        if flow.protocol == Protocol::Cluster {
            let picks_up = request.method() == Method::Invite
                && Uri::parse(request.uri()).is_ok_and(|uri| self.is_picked_up_here(&uri, flow));
            let served = self.any_served().filter(|_| picks_up).map(str::to_owned);
            return served.or_else(addressed).unwrap_or_else(own);
        }
        if request.method() == Method::Subscribe
            && crate::notifier::is_about_dialogs(request)
            && let Some(pool) = addressed()
        {
            return pool;
        }
        let from_trunk =
            request.get(Name::Authorization).is_none() && self.config.trunk_of(flow.remote.ip()).is_some();
        if from_trunk {
            return addressed().unwrap_or_else(own);
        }
        let registers = request.method() == Method::Register;
        // From says whatever its sender likes, "anonymous" perhaps; whose password it is decides who it is.
        let login = if registers { None } else { self.pool_of_login(request) };
        let sender = NameAddr::parse(if registers { request.to() } else { request.from() }).ok();
        let sender = || sender.and_then(|sender| self.pool_of_user(&sender.uri));
        login.or_else(sender).unwrap_or_else(own)
    }

    /// The pool of the user whose password a request claims to have.
    fn pool_of_login(&self, request: &Message) -> Option<String> {
        let login = Auth::parse(request.get(Name::Authorization)?).ok()?.get("username")?;
        self.directory.login(&login).map(|user| user.pool.clone())
    }

    /// A pool whose users are served here, if there is any.
    pub(super) fn any_served(&self) -> Option<&str> {
        self.cluster.as_ref()?.served.first().map(String::as_str)
    }

    fn pool_of_user(&self, uri: &Uri) -> Option<String> {
        let name = uri.user_unescaped()?;
        self.directory.resolve(&name).map(|user| user.pool.clone())
    }

    /// The pool of a user or of an orbit.
    fn pool_of_address(&self, uri: &Uri) -> Option<String> {
        let number = uri.user.as_deref().and_then(|user| crate::orbit::dialled(user, false));
        let range = number.and_then(|number| Some(self.orbits.ranges().find(&number)?.pool().to_owned()));
        range.or_else(|| self.pool_of_user(uri))
    }

    /// Says something to another host.
    pub(super) fn link(&mut self, to: HostName, frame: Frame) {
        let at = self.cluster.as_ref().and_then(|Clustered { seats, .. }| {
            let last = || seats.last_link_of(to).filter(|_| matches!(frame, Frame::Arrived { .. }));
            seats.link_of(to).or_else(last)
        });
        match at {
            Some(at) => self.core.emit(Output::Link { to, at, frame }),
            None => self.unlinked(to, frame),
        }
    }

    /// A frame did not get there.
    pub(super) fn unlinked(&mut self, to: HostName, frame: Frame) {
        match frame {
            Frame::Send { flow, .. } => {
                self.core.tx.send_failed(self.core.now, Flow { edge: Some(to), ..flow });
            }
            Frame::Question { id, .. } => {
                let own = self.own_name().map_or_else(|| "here".to_owned(), |own| own.to_string());
                let text = format!("this is up to {to}, which cannot be reached from {own}");
                self.answered_elsewhere(id, Err(Refused { status: 503, code: None, text }), false);
            }
            // It is really gone.
            Frame::Arrived { flow, mut tried, bytes } if self.is_gone(to) && !tried.contains(&to) => {
                tried.push(to);
                self.deal(flow, tried, bytes);
            }
            // What came over a stream is not said again by itself.
            Frame::Arrived { flow, bytes, .. } if flow.protocol.is_reliable() => {
                self.core.tx.unserved(flow, &bytes);
            }
            // Said once, and meant for good.
            Frame::Changed { pool, .. } | Frame::Goodbye { pool, .. } => {
                self.keep_aftermath(pool.as_str(), frame)
            }
            Frame::Rings { .. } => self.ringing_untold(to),
            // Their senders ask again, or find another way.
            Frame::Answer { .. }
            | Frame::Arrived { .. }
            | Frame::Between { .. }
            | Frame::Unsent { .. }
            | Frame::Closed { .. } => {}
        }
    }

    fn is_gone(&self, host: HostName) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.seats.last_link_of(host).is_some())
    }

    /// Another host says something.
    pub(super) fn linked(&mut self, from: HostName, frame: Frame) {
        if self.cluster.is_none() {
            return;
        }
        match frame {
            Frame::Arrived { flow, tried, bytes } => {
                self.deal(Flow { edge: Some(flow.edge.unwrap_or(from)), ..flow }, tried, bytes);
            }
            Frame::Send { flow, known, bytes } => {
                if known {
                    self.admission.vouch(self.core.now.instant, flow.remote);
                }
                self.core.emit(Output::Send { flow: Flow { edge: None, ..flow }, bytes });
            }
            Frame::Unsent { flow, .. } => {
                self.core.tx.send_failed(self.core.now, Flow { edge: Some(from), ..flow });
            }
            Frame::Question { id, what } => self.questioned(from, id, what),
            Frame::Answer { id, answer, more } => self.answered_elsewhere(id, answer, more),
            Frame::Closed { connection } => self.registrar.connection_closed(Some(from), connection),
            Frame::Changed { pool, legs } => self.calls_changed(pool.as_str(), legs),
            Frame::Goodbye { flow, bytes, .. } => self.deal(flow, vec![from], bytes),
            Frame::Rings { by, places } => self.rings_elsewhere(from, by, places),
            Frame::Between { from: pool, to, passed_on, bytes } => {
                let flow = Flow::to_pool(pool);
                if self.serves(to.as_str()) || passed_on {
                    self.deal(flow, Vec::new(), bytes);
                } else if let Some(holder) =
                    self.cluster.as_ref().and_then(|cluster| cluster.seats.holder(to.as_str()))
                {
                    self.link(holder, Frame::Between { from: pool, to, passed_on: true, bytes });
                }
            }
        }
    }

    /// Tells the hosts that serve phones through our sockets.
    pub(super) fn tell_servers(&mut self, frame: &Frame) {
        let Some(cluster) = &self.cluster else { return };
        let own = cluster.seats.own();
        let mut servers: Vec<HostName> =
            cluster.pools.names().filter_map(|pool| cluster.seats.holder(pool)).collect();
        servers.sort_unstable();
        servers.dedup();
        for server in servers.into_iter().filter(|server| *server != own) {
            self.link(server, frame.clone());
        }
    }

    /// What is to be sent at another host's socket goes there. `None`: nobody is there to send it.
    pub(super) fn on_its_way(&self, flow: Flow, bytes: Bytes) -> Option<Output> {
        let Some((cluster, edge)) = self.cluster.as_ref().zip(flow.edge) else {
            return Some(Output::Send { flow, bytes });
        };
        if flow.protocol == Protocol::Cluster {
            let from = HostName::new(&self.config.host.pool)?;
            let to = cluster.seats.holder(edge.as_str())?;
            let frame = Frame::Between { from, to: edge, passed_on: false, bytes };
            return Some(Output::Link { to, at: cluster.seats.link_of(to)?, frame });
        }
        let flow = Flow { edge: None, ..flow };
        if edge == cluster.seats.own() {
            return Some(Output::Send { flow, bytes });
        }
        let known = self.admission.is_known(self.core.now.instant, flow.remote);
        match cluster.seats.link_of(edge) {
            Some(at) => Some(Output::Link { to: edge, at, frame: Frame::Send { flow, known, bytes } }),
            // The socket is gone. Perhaps the phone can be reached from here.
            None => {
                let flow = self.core.flow_to(flow.protocol, flow.remote)?;
                Some(Output::Send { flow, bytes })
            }
        }
    }
}

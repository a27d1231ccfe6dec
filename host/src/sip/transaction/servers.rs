//! Server transactions: which there are, what a request that arrives does to them, and what their machines' outputs
//! become.

use std::collections::HashMap;

use bytes::Bytes;

use super::invite_server::{self, InviteServer};
use super::key::{self, Key};
use super::server::{self, Server};
use super::{Event, Id, Limits, Out, Send, ServerId, is_invite, reply_flow};
use crate::net::Flow;
use crate::sip::draft::Draft;
use crate::sip::header::ViaParts;
use crate::sip::message::Message;
use crate::sip::method::Method;
use crate::sip::name::Name;
use crate::sip::status::Status;
use crate::time::Instant;

/// All server transactions. Looked up by key or number; never walked in the order of a map.
#[derive(Debug, Default)]
pub(super) struct Servers {
    last_id: u64,
    live: HashMap<ServerId, Entry>,
    by_key: HashMap<Key, ServerId>,
    /// Requests outside of dialogs, by what their copies have in common (§8.2.2.2).
    by_merge_key: HashMap<Key, ServerId>,
    /// Keys are written here before they are looked up.
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    machine: Machine,
    key: Key,
    merge_key: Option<Key>,
    flow: Flow,
    reply: Flow,
    /// Until the final response.
    request: Option<Message>,
    last: Option<Bytes>,
    /// To tag of the last response that had one.
    tag: Option<String>,
    alarm: Option<Instant>,
    is_over: bool,
}

#[derive(Debug)]
enum Machine {
    Invite(InviteServer),
    Other(Server),
}

impl Servers {
    /// See [`super::Transactions::knows`].
    pub(super) fn knows(&self, request: &Message) -> bool {
        let Some(Ok(via)) = request.list(Name::Via).next().map(ViaParts::parse) else { return false };
        let owner = match request.method() {
            Method::Ack | Method::Cancel => Method::Invite,
            other => other,
        };
        let mut key = Vec::new();
        key::server(&mut key, request, &via, &owner);
        self.by_key.contains_key(key.as_slice())
    }
}

/// A request that arrives, and what it may touch.
pub(super) struct Arrival<'a> {
    pub(super) out: &'a mut Out,
    pub(super) limits: &'a Limits,
    pub(super) salt: u64,
    pub(super) now: Instant,
    pub(super) flow: Flow,
}

impl Arrival<'_> {
    /// Finds or makes the transaction.
    pub(super) fn receive(
        self,
        servers: &mut Servers,
        request: Message,
        retry_after_s: impl FnOnce() -> u32,
    ) {
        let Some(top) = request.list(Name::Via).next() else { return };
        let Ok(via) = ViaParts::parse(top) else { return };
        let owner = if request.is_method(&Method::Ack) { Method::Invite } else { request.method() };
        key::server(&mut servers.scratch, &request, &via, &owner);
        let found = servers.by_key.get(servers.scratch.as_slice()).copied();
        let reply = reply_flow(self.flow, &via);
        match (&request.method, found) {
            (Method::Ack, Some(id)) => self.ack(servers, id, request),
            (Method::Ack, None) => {
                // The ACK of what we answered without a transaction.
                if request.to_tag() != Some(&key::stateless_tag_of(self.salt, &request)) {
                    self.out.events.push_back(Event::Ack { request, flow: self.flow });
                }
            }
            (_, Some(id)) => {
                self.out.counters.repeats += 1;
                servers.repeat(self.out, id);
            }
            (Method::Cancel, None) => {
                let key = Key::from(servers.scratch.as_slice());
                key::server(&mut servers.scratch, &request, &via, &Method::Invite);
                let invite = servers.by_key.get(servers.scratch.as_slice()).copied();
                let request = request.noting(self.flow.remote);
                self.cancel(servers, key, invite, reply, request);
            }
            (_, None) => {
                let key = Key::from(servers.scratch.as_slice());
                let request = request.noting(self.flow.remote);
                self.begin(servers, key, reply, request, retry_after_s);
            }
        }
    }

    fn ack(self, servers: &mut Servers, id: ServerId, request: Message) {
        let Some(entry) = servers.live.get_mut(&id) else { return };
        if let Machine::Invite(machine) = &mut entry.machine {
            machine.on_ack(self.now);
        }
        servers.settle(self.out, id, None, Some((request, self.flow)));
    }

    /// RFC 3261 §9.2.
    fn cancel(
        self,
        servers: &mut Servers,
        key: Key,
        invite: Option<ServerId>,
        reply: Flow,
        request: Message,
    ) {
        let entry = invite.and_then(|id| servers.live.get(&id));
        let (Some(invite), Some(entry)) = (invite, entry) else {
            self.out.counters.stray_cancels += 1;
            self.refuse(reply, &request, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None);
            return;
        };
        let unanswered = match &entry.machine {
            Machine::Invite(machine) => machine.state() == invite_server::State::Proceeding,
            Machine::Other(_) => false,
        };
        let mut draft = Draft::response(&request, Status::OK);
        // The tag the INVITE was answered with, if it was (§9.2).
        let tag = entry.tag.clone().unwrap_or_else(|| key::stateless_tag_of(self.salt, &request));
        draft.to_tag(&tag);
        let id = servers.insert(self.out, self.now, key, None, self.flow, reply, None, &Method::Cancel);
        servers.respond(self.out, self.now, id, &draft.build());
        // After a final response a CANCEL changes nothing.
        if unanswered {
            self.out.events.push_back(Event::Cancel { invite, request });
        }
    }

    fn begin(
        self,
        servers: &mut Servers,
        key: Key,
        reply: Flow,
        request: Message,
        retry_after_s: impl FnOnce() -> u32,
    ) {
        let in_dialog = request.to_tag().is_some();
        let extra = if in_dialog { self.limits.servers * self.limits.in_dialog_percent / 100 } else { 0 };
        if servers.live.len() >= self.limits.servers + extra {
            self.out.counters.overloaded += 1;
            self.refuse(reply, &request, Status::SERVICE_UNAVAILABLE, Some(retry_after_s()));
            return;
        }
        let merge_key = if in_dialog {
            None
        } else {
            key::merged(&mut servers.scratch, &request);
            if servers.by_merge_key.contains_key(servers.scratch.as_slice()) {
                self.out.counters.merged += 1;
                self.refuse(reply, &request, Status::LOOP_DETECTED, None);
                return;
            }
            Some(Key::from(servers.scratch.as_slice()))
        };
        let method = request.method();
        let flow = self.flow;
        let server =
            servers.insert(self.out, self.now, key, merge_key, flow, reply, Some(request.clone()), &method);
        if is_invite(&method) {
            self.out.sends.push_back(Send::Trying(server));
        }
        self.out.events.push_back(Event::Request { server, request, flow });
    }

    /// Answers without a transaction.
    fn refuse(self, reply: Flow, request: &Message, status: Status, retry_after_s: Option<u32>) {
        let mut draft = Draft::response(request, status);
        draft.to_tag(&key::stateless_tag_of(self.salt, request));
        if let Some(seconds) = retry_after_s {
            draft.add(Name::RetryAfter, seconds);
        }
        self.out.send(reply, draft.build().bytes().clone());
    }
}

impl Servers {
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether nothing at all is left behind.
    #[cfg(test)]
    pub(super) fn is_empty_inside(&self) -> bool {
        self.live.is_empty() && self.by_key.is_empty() && self.by_merge_key.is_empty()
    }

    pub(super) fn request(&self, id: ServerId) -> Option<&Message> {
        self.live.get(&id)?.request.as_ref()
    }

    pub(super) fn flow(&self, id: ServerId) -> Option<Flow> {
        self.live.get(&id).map(|entry| entry.flow)
    }

    pub(super) fn reply_flow(&self, id: ServerId) -> Option<Flow> {
        self.live.get(&id).map(|entry| entry.reply)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of an entry, spelled at its two places of birth"
    )]
    fn insert(
        &mut self,
        out: &mut Out,
        now: Instant,
        key: Key,
        merge_key: Option<Key>,
        flow: Flow,
        reply: Flow,
        request: Option<Message>,
        method: &Method,
    ) -> ServerId {
        self.last_id += 1;
        let id = ServerId(self.last_id);
        let reliable = flow.protocol.is_reliable();
        let machine = if is_invite(method) {
            Machine::Invite(InviteServer::new(out.timings, reliable))
        } else {
            Machine::Other(Server::new(now, out.timings, reliable))
        };
        self.by_key.insert(key.clone(), id);
        if let Some(merge_key) = &merge_key {
            self.by_merge_key.insert(merge_key.clone(), id);
        }
        let entry = Entry {
            machine,
            key,
            merge_key,
            flow,
            reply,
            request,
            last: None,
            tag: None,
            alarm: None,
            is_over: false,
        };
        self.live.insert(id, entry);
        self.settle(out, id, None, None);
        id
    }

    fn repeat(&mut self, out: &mut Out, id: ServerId) {
        let Some(entry) = self.live.get_mut(&id) else { return };
        match &mut entry.machine {
            Machine::Invite(machine) => machine.on_invite(),
            Machine::Other(machine) => machine.on_request(),
        }
        self.settle(out, id, None, None);
    }

    pub(super) fn respond(&mut self, out: &mut Out, now: Instant, id: ServerId, response: &Message) {
        let (Some(entry), Some(status)) = (self.live.get_mut(&id), response.status()) else { return };
        let taken = match &mut entry.machine {
            Machine::Invite(machine) => machine.respond(now, status),
            Machine::Other(machine) => machine.respond(now, status),
        };
        if !taken {
            tracing::debug!(server = id.0, %status, "response came too late");
            return;
        }
        if let Some(tag) = response.to_tag() {
            entry.tag = Some(tag.to_owned());
        }
        if status.is_final() {
            entry.request = None;
        }
        self.settle(out, id, Some(response.bytes()), None);
    }

    pub(super) fn respond_once(&mut self, out: &mut Out, salt: u64, id: ServerId, response: &mut Draft) {
        let Some(entry) = self.live.get_mut(&id) else { return };
        // By this tag the ACK is known for what it is.
        if let Some(request) = entry.request.take() {
            response.to_tag(&key::stateless_tag_of(salt, &request));
        }
        let bytes = response.build().bytes().clone();
        out.send(entry.reply, bytes.clone());
        entry.last = Some(bytes);
        out.timers.set(Id::Server(id), &mut entry.alarm, None);
        if !std::mem::replace(&mut entry.is_over, true) {
            out.dead.push(Id::Server(id));
        }
    }

    pub(super) fn resend(&self, out: &mut Out, id: ServerId) {
        if let Some(entry) = self.live.get(&id)
            && let Some(last) = &entry.last
        {
            out.send(entry.reply, last.clone());
        }
    }

    /// 100 Trying for an INVITE nobody has answered (§17.2.1).
    pub(super) fn trying(&mut self, id: ServerId) -> Option<(Flow, Bytes)> {
        let entry = self.live.get_mut(&id)?;
        if entry.last.is_some() {
            return None;
        }
        let bytes = Draft::response(entry.request.as_ref()?, Status::TRYING).build().bytes().clone();
        entry.last = Some(bytes.clone());
        Some((entry.reply, bytes))
    }

    pub(super) fn on_timeout(&mut self, out: &mut Out, now: Instant, id: ServerId) {
        if let Some(entry) = self.live.get_mut(&id) {
            match &mut entry.machine {
                Machine::Invite(machine) => {
                    let timer = machine.next_timeout().map(|(_, timer)| timer);
                    tracing::trace!(server = id.0, ?timer, "timer");
                    machine.on_timeout(now);
                }
                Machine::Other(machine) => {
                    let timer = machine.next_timeout().map(|(_, timer)| timer);
                    tracing::trace!(server = id.0, ?timer, "timer");
                    machine.on_timeout(now);
                }
            }
        }
        self.settle(out, id, None, None);
    }

    pub(super) fn forget(&mut self, id: ServerId) {
        if let Some(entry) = self.live.remove(&id) {
            self.by_key.remove(&entry.key);
            if let Some(key) = entry.merge_key {
                self.by_merge_key.remove(&key);
            }
        }
    }

    /// Does what the machine wants, then sets its alarm or lets it go. `response` and `ack` are those at hand.
    fn settle(
        &mut self,
        out: &mut Out,
        id: ServerId,
        response: Option<&Bytes>,
        mut ack: Option<(Message, Flow)>,
    ) {
        let Some(entry) = self.live.get_mut(&id) else { return };
        let mut send = |bytes: Option<&Bytes>| {
            if let Some(bytes) = bytes {
                out.sends.push_back(Send::Message(entry.reply, bytes.clone()));
            }
        };
        let (next, is_over) = match &mut entry.machine {
            Machine::Invite(machine) => {
                while let Some(output) = machine.poll_output() {
                    match output {
                        invite_server::Output::Send => {
                            entry.last = response.cloned();
                            send(response);
                        }
                        invite_server::Output::Repeat => send(entry.last.as_ref()),
                        invite_server::Output::DeliverAck => {
                            if let Some((request, flow)) = ack.take() {
                                out.events.push_back(Event::Ack { request, flow });
                            }
                        }
                    }
                }
                (
                    machine.next_timeout().map(|(at, _)| at),
                    machine.state() == invite_server::State::Terminated,
                )
            }
            Machine::Other(machine) => {
                while let Some(output) = machine.poll_output() {
                    match output {
                        server::Output::Send => {
                            entry.last = response.cloned();
                            send(response);
                        }
                        server::Output::Repeat => send(entry.last.as_ref()),
                    }
                }
                (machine.next_timeout().map(|(at, _)| at), machine.state() == server::State::Terminated)
            }
        };
        out.timers.set(Id::Server(id), &mut entry.alarm, next);
        if is_over && !std::mem::replace(&mut entry.is_over, true) {
            out.dead.push(Id::Server(id));
        }
    }
}

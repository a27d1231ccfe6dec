//! Client transactions: which there are, and what their machines' outputs become.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use super::client::{self, Client};
use super::invite_client::{self, InviteClient};
use super::{ClientId, Event, Failure, Id, Out, is_invite, key};
use crate::net::{Flow, Protocol};
use crate::sip::draft::Draft;
use crate::sip::header::{CSeq, ViaParts};
use crate::sip::message::Message;
use crate::sip::method::Method;
use crate::sip::name::Name;
use crate::sip::status::Status;
use crate::time::Instant;

/// All client transactions. Looked up by number; never walked in the order of the map.
#[derive(Debug, Default)]
pub(super) struct Clients {
    last_id: u64,
    live: HashMap<ClientId, Entry>,
    /// The CANCEL of an INVITE, which shares its branch.
    cancels: HashMap<ClientId, ClientId>,
    /// Who waits for an answer from where, for when that turns out to be unreachable.
    by_peer: BTreeSet<(Protocol, SocketAddr, ClientId)>,
}

#[derive(Debug)]
struct Entry {
    machine: Machine,
    flow: Flow,
    branch: String,
    request: Message,
    role: Role,
    alarm: Option<Instant>,
    is_over: bool,
}

#[derive(Debug)]
enum Machine {
    Invite(InviteClient),
    Other(Client),
}

/// For whom a transaction works.
#[derive(Debug)]
enum Role {
    /// For the transaction user; the Reason values are for the CANCEL, should it come to that.
    User { reason: Vec<String> },
    /// A CANCEL for the INVITE with this number: nobody waits for its answer.
    CancelOf(ClientId),
}

impl Clients {
    pub(super) fn next_id(&mut self) -> ClientId {
        self.last_id += 1;
        ClientId(self.last_id)
    }

    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether nothing at all is left behind.
    #[cfg(test)]
    pub(super) fn is_empty_inside(&self) -> bool {
        self.live.is_empty() && self.cancels.is_empty() && self.by_peer.is_empty()
    }

    pub(super) fn request(&self, id: ClientId) -> Option<&Message> {
        self.live.get(&id).map(|entry| &entry.request)
    }

    pub(super) fn flow(&self, id: ClientId) -> Option<Flow> {
        self.live.get(&id).map(|entry| entry.flow)
    }

    /// Starts the transaction whose number stands in `branch`.
    pub(super) fn start(
        &mut self,
        out: &mut Out,
        now: Instant,
        flow: Flow,
        branch: String,
        request: Message,
    ) -> ClientId {
        let id = ClientId(self.last_id);
        self.insert(out, now, id, flow, branch, request, Role::User { reason: Vec::new() });
        id
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of an entry, spelled at its two places of birth"
    )]
    fn insert(
        &mut self,
        out: &mut Out,
        now: Instant,
        id: ClientId,
        flow: Flow,
        branch: String,
        request: Message,
        role: Role,
    ) {
        let reliable = flow.protocol.is_reliable();
        let machine = if is_invite(&request.method) {
            Machine::Invite(InviteClient::new(now, out.timings, reliable))
        } else {
            Machine::Other(Client::new(now, out.timings, reliable))
        };
        self.by_peer.insert((flow.protocol, flow.remote, id));
        self.live.insert(id, Entry { machine, flow, branch, request, role, alarm: None, is_over: false });
        self.settle(out, now, id, None);
    }

    /// A response came in.
    pub(super) fn receive(&mut self, out: &mut Out, now: Instant, flow: Flow, response: Message) {
        let Some(id) = self.find(&response) else {
            out.counters.stray_responses += 1;
            tracing::debug!(%flow, %response, "response of no transaction");
            if response.method() == Method::Invite && response.status().is_some_and(Status::is_success) {
                out.events.push_back(Event::Stray { response });
            }
            return;
        };
        let (Some(entry), Some(status)) = (self.live.get_mut(&id), response.status()) else { return };
        match &mut entry.machine {
            Machine::Invite(machine) => machine.on_response(now, status),
            Machine::Other(machine) => machine.on_response(now, status),
        }
        self.settle(out, now, id, Some((response, flow)));
    }

    /// The transaction a response belongs to: the branch of its only Via, and the method in its CSeq (§17.1.3).
    fn find(&self, response: &Message) -> Option<ClientId> {
        let mut vias = response.list(Name::Via);
        let via = ViaParts::parse(vias.next()?).ok()?;
        if vias.next().is_some() {
            return None; // meant for somebody before us (§8.1.3.3)
        }
        let mut id = ClientId(key::id_of_branch(via.branch)?);
        if response.is_method(&Method::Cancel) {
            id = *self.cancels.get(&id)?;
        }
        let entry = self.live.get(&id)?;
        (entry.branch == via.branch && entry.request.method == response.method).then_some(id)
    }

    /// The transaction user gives up an INVITE.
    pub(super) fn cancel(&mut self, out: &mut Out, now: Instant, id: ClientId, reasons: &[String]) {
        let Some(entry) = self.live.get_mut(&id) else { return };
        if let (Machine::Invite(machine), Role::User { reason }) = (&mut entry.machine, &mut entry.role) {
            if reason.is_empty() {
                *reason = reasons.to_vec();
            }
            machine.on_cancel(now);
            self.settle(out, now, id, None);
        }
    }

    /// The transaction user waits no more.
    pub(super) fn leave(&mut self, out: &mut Out, now: Instant, id: ClientId) {
        match self.live.get_mut(&id).map(|entry| &mut entry.machine) {
            Some(Machine::Invite(machine)) => machine.on_left(now),
            Some(Machine::Other(machine)) => machine.on_left(),
            None => {}
        }
        self.settle(out, now, id, None);
    }

    pub(super) fn on_timeout(&mut self, out: &mut Out, now: Instant, id: ClientId) {
        if let Some(entry) = self.live.get_mut(&id) {
            match &mut entry.machine {
                Machine::Invite(machine) => {
                    let timer = machine.next_timeout().map(|(_, timer)| timer);
                    tracing::trace!(client = id.0, ?timer, "timer");
                    machine.on_timeout(now);
                }
                Machine::Other(machine) => {
                    let timer = machine.next_timeout().map(|(_, timer)| timer);
                    tracing::trace!(client = id.0, ?timer, "timer");
                    machine.on_timeout(now);
                }
            }
        }
        self.settle(out, now, id, None);
    }

    pub(super) fn send_failed(&mut self, out: &mut Out, now: Instant, flow: Flow) {
        let from = (flow.protocol, flow.remote, ClientId(0));
        let to = (flow.protocol, flow.remote, ClientId(u64::MAX));
        let ids: Vec<ClientId> = self.by_peer.range(from..=to).map(|(_, _, id)| *id).collect();
        for id in ids {
            let Some(entry) = self.live.get_mut(&id) else { continue };
            let other_connection = match (entry.flow.connection, flow.connection) {
                (Some(a), Some(b)) => a != b,
                (Some(_), None) | (None, Some(_)) | (None, None) => false,
            };
            if entry.flow.local != flow.local || other_connection {
                continue;
            }
            match &mut entry.machine {
                Machine::Invite(machine) => machine.on_send_failed(),
                Machine::Other(machine) => machine.on_send_failed(),
            }
            self.settle(out, now, id, None);
        }
    }

    pub(super) fn forget(&mut self, id: ClientId) {
        if let Some(entry) = self.live.remove(&id) {
            self.by_peer.remove(&(entry.flow.protocol, entry.flow.remote, id));
            if let Role::CancelOf(invite) = entry.role {
                self.cancels.remove(&invite);
            }
        }
    }

    /// Does what the machine wants, then sets its alarm or lets it go. `response` is the one at hand.
    fn settle(&mut self, out: &mut Out, now: Instant, id: ClientId, response: Option<(Message, Flow)>) {
        let Some(entry) = self.live.get_mut(&id) else { return };
        let mut cancel = None;
        let mut delivered = false;
        let (next, is_over) = match &mut entry.machine {
            Machine::Invite(machine) => {
                while let Some(output) = machine.poll_output() {
                    match output {
                        invite_client::Output::SendInvite => {
                            out.send(entry.flow, entry.request.bytes().clone())
                        }
                        invite_client::Output::SendAck => {
                            if let Some((response, _)) = &response {
                                let ack = ack_of_failure(&entry.request, response);
                                out.send(entry.flow, ack.bytes().clone());
                            }
                        }
                        invite_client::Output::SendCancel => {
                            cancel = Some(cancel_of(&entry.request, &entry.role))
                        }
                        invite_client::Output::Deliver => delivered = true,
                        invite_client::Output::Fail(why) => fail(out, id, &entry.role, why),
                    }
                }
                (
                    machine.next_timeout().map(|(at, _)| at),
                    machine.state() == invite_client::State::Terminated,
                )
            }
            Machine::Other(machine) => {
                while let Some(output) = machine.poll_output() {
                    match output {
                        client::Output::SendRequest => out.send(entry.flow, entry.request.bytes().clone()),
                        client::Output::Deliver => delivered = true,
                        client::Output::Fail(why) => fail(out, id, &entry.role, why),
                    }
                }
                (machine.next_timeout().map(|(at, _)| at), machine.state() == client::State::Terminated)
            }
        };
        out.timers.set(Id::Client(id), &mut entry.alarm, next);
        if is_over && !std::mem::replace(&mut entry.is_over, true) {
            out.dead.push(Id::Client(id));
        }
        match (response, &entry.role) {
            (Some((response, flow)), Role::User { .. }) if delivered => {
                out.events.push_back(Event::Response { client: id, response, flow });
            }
            (Some(_), _) if !delivered => out.counters.repeats += 1,
            (Some(_), Role::User { .. } | Role::CancelOf(_)) | (None, _) => {}
        }
        if let Some(cancel) = cancel {
            let (flow, branch) = (entry.flow, entry.branch.clone());
            let cancel_id = self.next_id();
            self.cancels.insert(id, cancel_id);
            self.insert(out, now, cancel_id, flow, branch, cancel, Role::CancelOf(id));
        }
    }
}

fn fail(out: &mut Out, client: ClientId, role: &Role, why: Failure) {
    match why {
        Failure::Timeout => out.counters.timeouts += 1,
        Failure::Transport => out.counters.transport_failures += 1,
    }
    match role {
        Role::User { .. } => out.events.push_back(Event::Failed { client, why }),
        // The INVITE's own timers decide what becomes of the call.
        Role::CancelOf(_) => {}
    }
}

/// The ACK for a failure: the INVITE's, but for To, which is the response's (RFC 3261 §17.1.1.3).
fn ack_of_failure(invite: &Message, response: &Message) -> Message {
    let mut draft = like_invite(invite, Method::Ack);
    draft.set(Name::To, response.to());
    draft.build()
}

/// The CANCEL of an INVITE (§9.1).
fn cancel_of(invite: &Message, role: &Role) -> Message {
    let mut draft = like_invite(invite, Method::Cancel);
    if let Role::User { reason } = role {
        for reason in reason {
            draft.add(Name::Reason, reason);
        }
    }
    draft.build()
}

/// What ACK and CANCEL take over from their INVITE: Request-URI, the top Via, Route, From, To, Call-ID, CSeq number.
fn like_invite(invite: &Message, method: Method) -> Draft {
    let mut draft = Draft::request(method.clone(), invite.uri());
    if let Some(via) = invite.list(Name::Via).next() {
        draft.add(Name::Via, via);
    }
    for route in invite.all(Name::Route) {
        draft.add(Name::Route, route);
    }
    draft
        .add(Name::From, invite.from())
        .add(Name::To, invite.to())
        .add(Name::CallId, invite.call_id())
        .add(Name::CSeq, CSeq { number: invite.cseq, method })
        .add(Name::MaxForwards, super::MAX_FORWARDS);
    draft
}

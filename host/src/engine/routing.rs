//! Names to phones: who somebody is, which phones ring for a URI, and where a trunk is (RFC 3263).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use switchyard_sdk::types::{LegId, Party};

use super::dispatch::Sender;
use super::timers::Timer;
use super::{Engine, Output, QueryId};
use crate::call::{Candidate, Headers, Origin, Rejection, Ringing, Trunk};
use crate::config;
use crate::directory::{User, target};
use crate::net::{Flow, HostName, Protocol};
use crate::policy::ALLOW_OUTBOUND;
use crate::registrar::Binding;
use crate::sip::{self, Draft, Message, Method, Name, NameAddr, Scheme, Status, Uri};

/// How long after a REGISTER its phone is asked about calls it has not been heard in since a restart, or told where they go
/// on: the answer to the REGISTER goes first.
const ASK_AFTER_REGISTER: Duration = Duration::from_millis(500);

/// Where a call goes.
pub(super) enum Destination {
    /// Phones of a user.
    Phones(Vec<Candidate>),
    /// Out through a trunk.
    Trunk {
        /// Which.
        name: String,
        /// The number to dial there.
        number: String,
    },
}

/// Why somebody wants to know where a URI leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Errand {
    /// Somebody calls it.
    Call,
    /// A user's rule sends a call there, or rings there as well.
    Forward,
    /// A call is transferred there.
    Transfer,
    /// A plugin rings there: a parked call that nobody fetches.
    Feature,
}

impl Errand {
    /// As policies know it.
    const fn word(self) -> &'static str {
        match self {
            Errand::Call => "call",
            Errand::Forward => "forward",
            Errand::Transfer => "transfer",
            Errand::Feature => "feature",
        }
    }
}

/// Why a trunk's address is being looked up.
pub(super) enum Purpose {
    /// A call goes there.
    Call {
        /// The caller.
        leg: LegId,
        /// What the INVITE says.
        headers: Headers,
    },
    /// A waiting leg is to be connected there.
    Ring {
        /// For whom.
        origin: Origin,
        /// Who waits.
        leg: LegId,
        /// How it rings.
        ringing: Box<Ringing>,
    },
}

/// A look-up under way.
pub(super) struct Resolving {
    trunk: String,
    number: String,
    purpose: Purpose,
}

/// Where a phone listens.
fn listening(binding: &Binding) -> Flow {
    if binding.path.is_empty() { sip::listening(binding.flow, &binding.contact) } else { binding.flow }
}

/// What a leg must know of a trunk.
pub(super) fn trunk(trunk: &config::Trunk) -> Trunk {
    Trunk {
        name: trunk.name.clone(),
        credentials: trunk
            .user
            .clone()
            .zip(trunk.password.as_ref().map(|password| password.reveal().to_owned())),
        hidden_forks: trunk.forks == config::Forks::Hidden,
    }
}

/// The number or name a URI dials.
pub(super) fn dialled(uri: &Uri) -> Result<String, Rejection> {
    target::dialled(uri).ok_or_else(|| Rejection::new(Status::ADDRESS_INCOMPLETE))
}

impl Engine {
    /// Who sent a request, as plugins and phones are told.
    pub(super) fn party_of(&self, sender: &Sender, request: &Message, flow: &Flow) -> Party {
        let from = NameAddr::parse(request.from()).ok();
        match sender {
            Sender::User(name) => {
                let contact = request.contact().map(|contact| contact.uri.to_string());
                let device = self
                    .registrar
                    .binding_for(self.core.now, name, flow, contact.as_deref())
                    .map(|binding| binding.id.clone());
                match self.directory.user(name) {
                    Some(user) => Party { device, ..self.party(user) },
                    None => Party::default(),
                }
            }
            Sender::Trunk(_) | Sender::Elsewhere => {
                let inside = match sender {
                    Sender::Trunk(name) => {
                        self.config.trunk(name).is_some_and(|trunk| trunk.caller == config::Caller::Inside)
                    }
                    _ => false,
                };
                let uri = from.as_ref().map(|from| from.uri.to_string()).unwrap_or_default();
                Party {
                    uri,
                    display: from.and_then(|from| from.display),
                    may_retrieve: inside,
                    outside: !inside,
                    ..Party::default()
                }
            }
        }
    }

    /// Who is at the other side of another pool's server, by its word, which hosts of a cluster take (RFC 3325).
    pub(super) fn asserted_in(&self, message: &Message, flow: &Flow) -> Option<Party> {
        if flow.protocol != Protocol::Cluster {
            return None;
        }
        let said = NameAddr::parse(message.get(Name::PAssertedIdentity)?).ok()?;
        let ours = self.core.is_ours(&said.uri).then(|| said.uri.user_unescaped()).flatten();
        Some(match ours.and_then(|name| self.directory.user(&name)) {
            Some(user) => self.party(user),
            None => {
                Party { uri: said.uri.to_string(), display: said.display, outside: true, ..Party::default() }
            }
        })
    }

    /// A user of ours.
    pub(super) fn party(&self, user: &User) -> Party {
        Party {
            user: Some(user.name.clone()),
            uri: self.core.uri_of(&user.name),
            display: user.display.clone().or_else(|| Some(user.name.clone())),
            extension: user.extension.clone(),
            pool: Some(user.pool.clone()),
            may_park: user.may_park,
            may_retrieve: user.may_retrieve,
            pickup_group: user.pickup_group.clone(),
            further_pickup_groups: user.further_pickup_groups.clone(),
            outside: false,
            device: None,
        }
    }

    /// Where a URI leads, on the account of `payer`. The only way to a trunk: whoever asks for one, the policy has
    /// allowed it.
    pub(super) fn destination(
        &mut self,
        uri: &Uri,
        errand: Errand,
        payer: &Party,
    ) -> Result<Destination, Rejection> {
        let dialled = dialled(uri)?;
        let dialled = dialled.as_str();
        if let Some(user) = self.directory.resolve(dialled) {
            let phones = self.phones_of(user, None);
            if phones.is_empty() {
                return Err(Rejection::because(Status::TEMPORARILY_UNAVAILABLE, "Not registered"));
            }
            return Ok(Destination::Phones(phones));
        }
        if let Some((trunk, number)) = self.config.route(dialled) {
            // Who came in through a trunk does not go out through one on our bill.
            if payer.outside {
                return Err(Rejection::because(Status::FORBIDDEN, "Not for callers from outside"));
            }
            let name = trunk.name.clone();
            // Whatever a policy says, help can be called.
            if !self.config.sip.emergency.iter().any(|emergency| emergency == dialled) {
                self.allow_outbound(errand, &name, &number, dialled, payer)?;
            }
            return Ok(Destination::Trunk { name, number });
        }
        Err(Rejection::new(Status::NOT_FOUND))
    }

    /// Asks the policy about a call through a trunk.
    fn allow_outbound(
        &mut self,
        errand: Errand,
        trunk: &str,
        number: &str,
        dialled: &str,
        payer: &Party,
    ) -> Result<(), Rejection> {
        let how = errand.word();
        let request =
            json!({ "how": how, "trunk": trunk, "number": number, "dialled": dialled, "payer": payer });
        let pool = payer.pool.as_deref().unwrap_or(&self.config.host.pool);
        let decision = self.policies.borrow_mut().decide(self.core.now, pool, ALLOW_OUTBOUND, &request);
        if decision.allowed {
            return Ok(());
        }
        let reason = decision.reason.unwrap_or_else(|| "Not allowed by the policy".to_owned());
        let detail =
            json!({ "how": how, "trunk": trunk, "number": number, "by": payer.uri, "reason": reason });
        self.core.event("outbound.refused", Some(Status::FORBIDDEN.0), None, detail);
        Err(Rejection::because(Status::FORBIDDEN, &reason))
    }

    /// The phones a URI of ours leads to, for what is not a call.
    pub(super) fn phones_for(&self, uri: &str) -> Result<Vec<Candidate>, Rejection> {
        let uri = Uri::parse(uri).map_err(|_| Rejection::new(Status::BAD_REQUEST))?;
        if !self.core.is_ours(&uri) {
            return Err(Rejection::new(Status::NOT_FOUND));
        }
        let user_part = uri.user_unescaped().unwrap_or_default();
        let user = self.directory.resolve(&user_part).ok_or_else(|| Rejection::new(Status::NOT_FOUND))?;
        Ok(self.phones_of(user, None))
    }

    /// The way to each phone of a user.
    pub(super) fn flows_of(&self, user: &str) -> BTreeMap<String, Flow> {
        let bindings = self.registrar.bindings(self.core.now, user).into_iter();
        bindings.map(|binding| (binding.id.clone(), binding.flow)).collect()
    }

    /// A phone that registers from elsewhere than `before` (a NAT has forgotten it, its connection broke) is there with
    /// its calls and its lamps, too: what the host has to say in them goes the way the REGISTER came.
    pub(super) fn follow_phones(&mut self, user: &str, before: &BTreeMap<String, Flow>) {
        let after = self.flows_of(user);
        let moved: Vec<(LegId, Flow)> = self
            .calls
            .legs_of(user)
            .filter_map(|leg| {
                let device = leg.party.device.as_deref()?;
                let new = after.get(device)?;
                // A phone that speaks outbound had no way any more since its connection was gone (RFC 5626 §4.4).
                let moved = match before.get(device) {
                    // Of a connection that is gone the registration forgets the name, the call does not.
                    Some(old) => {
                        let name = leg.dialog.flow.connection.and(old.connection);
                        Flow { connection: name, ..leg.dialog.flow } == *old && new != old
                    }
                    None => leg.dialog.flow != *new,
                };
                moved.then_some((leg.id, *new))
            })
            .collect();
        for (leg, flow) in moved {
            let asked = self.calls.follow(&self.core, leg, flow);
            if !self.reaches_again(leg, ASK_AFTER_REGISTER) && asked {
                self.core.after(Timer::Refresh(leg), ASK_AFTER_REGISTER);
            }
        }
        let moved = before.iter().filter_map(|(device, old)| Some((*old, *after.get(device)?)));
        let moved: Vec<(Flow, Flow)> = moved.filter(|(old, new)| old != new).collect();
        self.notifier.follow(user, &moved);
    }

    /// The way to whoever serves `pool`, for what that one knows under `uri`.
    pub(super) fn across(&self, pool: &str, uri: &Uri, party: Party) -> Option<Candidate> {
        let flow = Flow::to_pool(HostName::new(pool)?);
        let uri = uri.to_string();
        Some(Candidate { to: format!("<{uri}>"), uri, routes: Vec::new(), flow, party, trunk: None })
    }

    /// Every phone of a user, best first; `device` before all others. Of a user who is served elsewhere: the way there.
    pub(super) fn phones_of(&self, user: &User, device: Option<&str>) -> Vec<Candidate> {
        if !self.serves(&user.pool) {
            let uri = Uri::parse(&self.core.uri_of(&user.name)).ok();
            let there = uri.and_then(|uri| self.across(&user.pool, &uri, self.party(user)));
            return there.into_iter().collect();
        }
        // The flows of one phone are ways to one bell (RFC 5626 §7): the best of each is rung.
        let phones = self.registrar.phones(self.core.now, &user.name);
        let mut bindings: Vec<&Binding> =
            phones.into_iter().filter_map(|flows| flows.into_iter().next()).collect();
        if let Some(device) = device {
            bindings.sort_by_key(|binding| binding.id != device);
        }
        bindings.into_iter().map(|binding| self.candidate(user, binding)).collect()
    }

    fn candidate(&self, user: &User, binding: &Binding) -> Candidate {
        let party = Party { device: Some(binding.id.clone()), ..self.party(user) };
        Candidate {
            uri: binding.contact.clone(),
            to: format!("<{}>", self.core.uri_of(&user.name)),
            routes: binding.path.clone(),
            flow: listening(binding),
            party,
            trunk: None,
        }
    }

    /// Finds out where a trunk is; then goes on with what it is wanted for.
    pub(super) fn resolve_trunk(&mut self, name: &str, number: &str, purpose: Purpose) {
        let resolving = Resolving { trunk: name.to_owned(), number: number.to_owned(), purpose };
        let to = self.config.trunk(name).and_then(|trunk| trunk.to.clone());
        let Some(uri) = to.and_then(|to| Uri::parse(&to).ok()) else {
            self.trunk_failed(resolving.purpose, "the trunk takes no calls");
            return;
        };
        let protocol = uri.params.get("transport").and_then(Protocol::parse);
        let host = uri.host.trim_matches(['[', ']']);
        if let Ok(ip) = host.parse() {
            let protocol = protocol.unwrap_or(Protocol::Udp);
            let address = SocketAddr::new(ip, uri.port.unwrap_or(protocol.default_port()));
            self.trunk_found(resolving, &[(protocol, address)]);
            return;
        }
        let query = QueryId(self.core.fresh_id());
        let (host, port, secure) = (host.to_owned(), uri.port, uri.scheme == Scheme::Sips);
        self.resolving.insert(query, resolving);
        self.core.emit(Output::Resolve { query, host, port, protocol, secure });
    }

    pub(super) fn resolved(&mut self, query: QueryId, targets: &[(Protocol, SocketAddr)]) {
        if let Some(resolving) = self.resolving.remove(&query) {
            self.trunk_found(resolving, targets);
        }
    }

    fn trunk_found(&mut self, resolving: Resolving, targets: &[(Protocol, SocketAddr)]) {
        let Resolving { trunk: name, number, purpose } = resolving;
        let to =
            self.config.trunk(&name).and_then(|trunk| trunk.to.clone()).and_then(|to| Uri::parse(&to).ok());
        let Some(mut uri) = to else { return };
        uri.user = Some(number.clone());
        let uri = uri.to_string();
        let candidates: Vec<Candidate> = targets
            .iter()
            .filter_map(|(protocol, address)| self.core.flow_to(*protocol, *address))
            .map(|flow| Candidate {
                uri: uri.clone(),
                to: format!("<{uri}>"),
                routes: Vec::new(),
                flow,
                party: Party {
                    uri: uri.clone(),
                    display: Some(number.clone()),
                    outside: true,
                    ..Party::default()
                },
                trunk: self.trunks.get(&name).cloned(),
            })
            .collect();
        if candidates.is_empty() {
            self.trunk_failed(purpose, "the trunk's address is not known");
            return;
        }
        match purpose {
            Purpose::Call { leg, headers } => self.calls.hunt(&mut self.core, leg, candidates, headers),
            Purpose::Ring { origin, leg, mut ringing } => {
                ringing.groups = candidates.into_iter().map(|candidate| vec![candidate]).collect();
                self.calls.ring(&mut self.core, origin, leg, *ringing);
            }
        }
    }

    fn trunk_failed(&mut self, purpose: Purpose, why: &str) {
        match purpose {
            // Other phones ring for the caller: they may still answer.
            Purpose::Call { leg, .. } if self.calls.is_ringing(leg) => {}
            Purpose::Call { leg, .. } => {
                self.reject(leg, Rejection::because(Status::SERVICE_UNAVAILABLE, why))
            }
            // Nothing rings: the operation fails by itself, with the status of an empty list.
            Purpose::Ring { origin, leg, ringing } => {
                self.calls.ring(&mut self.core, origin, leg, *ringing);
            }
        }
    }

    /// Sends a MESSAGE outside any dialog; one that `lasts` is not to be shown later (RFC 3428 §10).
    pub(super) fn send_message(
        &mut self,
        to: &Candidate,
        from: &str,
        content_type: &str,
        body: bytes::Bytes,
        lasts: Option<std::time::Duration>,
        owner: super::core::Owner,
    ) {
        let mut draft = Draft::request(Method::Message, &to.uri);
        let tag = self.core.fresh_tag();
        let call_id = format!("{}@{}", self.core.fresh_tag(), self.core.identity.host);
        for route in &to.routes {
            draft.add(Name::Route, route);
        }
        draft
            .add(Name::From, format!("{from};tag={tag}"))
            .add(Name::To, &to.to)
            .add(Name::CallId, call_id)
            .add(Name::CSeq, "1 MESSAGE")
            .body(content_type, body);
        if let Some(lasts) = lasts {
            draft.add(Name::Expires, lasts.as_secs());
        }
        self.core.request(to.flow, draft, owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Utc;

    fn binding(contact: &str) -> Binding {
        let json = serde_json::json!({
            "user": "bob", "id": "1", "contact": contact, "q": 1000, "call_id": "c", "cseq": 1,
            "flow": { "protocol": "udp", "local": "192.0.2.1:5060", "remote": "203.0.113.7:40000", "connection": null },
            "expires": Utc(1), "refreshed": Utc(0),
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_phone_behind_a_nat_is_reached_where_it_registered_from() {
        assert_eq!(listening(&binding("sip:bob@10.0.0.5:5060")).remote.to_string(), "203.0.113.7:40000");
    }

    #[test]
    fn a_phone_that_sends_from_another_port_is_reached_where_it_listens() {
        assert_eq!(listening(&binding("sip:bob@203.0.113.7:5070")).remote.to_string(), "203.0.113.7:5070");
        assert_eq!(listening(&binding("sip:bob@203.0.113.7")).remote.to_string(), "203.0.113.7:5060");
    }
}

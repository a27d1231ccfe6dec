//! An INVITE outside any dialog: who calls, and where it goes.
//!
//! The order is fixed: emergency numbers, orbits (before the dial plan, ORB-11), services of plugins, users, routes.

use std::time::Duration;

use switchyard_sdk::host::Extension;
use switchyard_sdk::types::{FarLeg, How, LegId, Offer, Party};

use super::Engine;
use super::ask::{Ask, AskKind};
use super::timers::Timer;
use crate::call::{ForWhom, Origin, Peer, Rejection, State};
use crate::cluster::{Code, Mark};
use crate::net::Flow;
use crate::plugin::InstanceId;
use crate::sip::{Draft, Message, Name, Replaces, Scheme, ServerId, Status, Uri};

/// How long a park by dialling waits for a hold that is under way (design.md §7).
const HOLD_WAIT: Duration = Duration::from_secs(2);

/// What a Request-URI or Refer-To addresses, before anyone is asked whether it exists.
pub(super) enum Address {
    /// A number of a plugin's kind, or a service of a plugin.
    Feature {
        /// Who handles it.
        instance: InstanceId,
        /// The service's name.
        service: Option<String>,
        /// The number.
        number: Option<String>,
        /// The token.
        token: Option<String>,
        /// The pool that owns the number.
        pool: Option<String>,
    },
    /// Anything else.
    Other,
}

impl Engine {
    pub(super) fn on_invite(&mut self, server: ServerId, request: &Message, flow: Flow, uri: &Uri) {
        if !self.acceptable(server, request, uri) {
            return;
        }
        let Some(sender) = self.sender(server, request, &flow) else { return };
        let emergency = self.is_emergency(uri);
        // Nothing new begins. Who waits in an orbit can be fetched, and a call that lives may go to another phone; a
        // park is refused by the orbits, with a code that says so (CP-22).
        let continues =
            request.get(Name::Replaces).is_some() || matches!(self.address(uri), Address::Feature { .. });
        if self.draining && !emergency && !continues {
            let mut draft = Draft::response(request, Status::SERVICE_UNAVAILABLE);
            let tag = self.core.fresh_tag();
            draft.to_tag(&tag).reason("Draining").add(Name::RetryAfter, 5);
            self.core.tx.respond(self.core.now, server, &draft);
            return;
        }
        let party = self.party_of(&sender, request, &flow);
        if !emergency
            && !continues
            && let Some(refusal) = self.is_out(party.pool.as_deref())
        {
            let rejection = Rejection::of(&refusal, &self.core.identity.host);
            self.refuse_request(server, request, &rejection);
            return;
        }
        let leg = match self.calls.accept_invite(&mut self.core, server, request, flow, party.clone()) {
            Ok(leg) => leg,
            Err(rejection) => {
                self.refuse_request(server, request, &rejection);
                return;
            }
        };
        if let super::dispatch::Sender::Trunk(name) = &sender
            && let Some(leg) = self.calls.leg_mut(leg)
        {
            leg.trunk = self.trunks.get(name).cloned();
        }
        let detail = serde_json::json!({ "leg": leg.0, "from": party.uri, "to": request.uri() });
        self.core.event("call.offered", None, Some(request.call_id()), detail);
        if let Some((pool, uri)) = self.feature_elsewhere(request, uri, &flow).filter(|_| !emergency) {
            let mut headers = self.headers_of(request, &party);
            headers.extra.extend(request.all(Name::Replaces).map(|value| (Name::Replaces, value.to_owned())));
            let there = self.across(&pool, &uri, Party { uri: uri.to_string(), ..Party::default() });
            self.ring_elsewhere(leg, there, &headers);
            return;
        }
        if let Some(replaces) = request.get(Name::Replaces) {
            match (Replaces::parse(replaces), Replaces::bare_call_id(replaces)) {
                (Ok(replaces), _) => self.invite_replaces(leg, &party, &replaces),
                (Err(_), Some(call_id)) => match self.calls.ringing_with(call_id) {
                    Some(replaces) => self.invite_replaces(leg, &party, &replaces),
                    None => self.reject(leg, Rejection::new(Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST)),
                },
                (Err(_), None) => {
                    self.reject(leg, Rejection::because(Status::BAD_REQUEST, "Replaces cannot be read"))
                }
            }
            return;
        }
        if !emergency && let Address::Feature { instance, service, number, token, pool } = self.address(uri) {
            self.dialled_feature(instance, leg, party, service, number, token, pool, request.call_id());
            return;
        }
        self.place_call(leg, request, uri, &party);
    }

    /// The pool whose server has what an INVITE is about, if that is another host: an orbit, a group, a user whose ringing
    /// call is to be taken, a dialog to be replaced. And what it asks for there.
    fn feature_elsewhere(&self, request: &Message, uri: &Uri, flow: &Flow) -> Option<(String, Uri)> {
        let cluster = self.cluster.as_ref()?;
        let pool = if let Some(replaces) = request.get(Name::Replaces) {
            let replaces = Replaces::parse(replaces).ok()?;
            if self.calls.leg_named(&replaces.call_id, &replaces.to_tag, &replaces.from_tag).is_some() {
                return None;
            }
            let mark = Mark::of_tag(&replaces.to_tag).or_else(|| Mark::of_tag(&replaces.from_tag))?;
            let held_by = |pool: &str| cluster.seats.holder(pool).map(|host| Code::of(host.as_str()));
            let holds = cluster.pools.names().find(|pool| held_by(pool) == Some(mark.host));
            holds.or_else(|| cluster.pools.by_code(mark.pool))?.to_owned()
        } else if let Some(pool) = self.picked_up_elsewhere(uri) {
            pool
        } else if self.is_picked_up_here(uri, flow) {
            return None;
        } else {
            match self.address(uri) {
                Address::Feature { number: Some(number), service: Some(service), .. }
                    if service.starts_with(['*', '#']) =>
                {
                    self.directory.resolve(&number)?.pool.clone()
                }
                Address::Feature { pool, .. } => pool?,
                Address::Other => return None,
            }
        };
        (!self.serves(&pool)).then(|| (pool, uri.clone()))
    }

    /// Refuses a request that has become nothing yet.
    pub(super) fn refuse_request(&mut self, server: ServerId, request: &Message, rejection: &Rejection) {
        let mut draft = Draft::response(request, rejection.status);
        let tag = self.core.fresh_tag();
        draft.to_tag(&tag);
        if let Some(reason) = &rejection.reason {
            draft.reason(reason);
        }
        for (name, value) in &rejection.headers {
            draft.add(*name, value);
        }
        self.core.tx.respond(self.core.now, server, &draft);
    }

    /// Whether its Request-URI is one we can do anything with.
    fn acceptable(&mut self, server: ServerId, request: &Message, uri: &Uri) -> bool {
        if request.get(Name::MaxForwards).is_some_and(|v| v.trim() == "0") {
            self.core.reply_once(server, request, Status::TOO_MANY_HOPS, None);
            return false;
        }
        // What is replaced says where it goes. Phones put the caller of the call they take here, who may be anybody.
        let anywhere = uri.scheme == Scheme::Tel || request.get(Name::Replaces).is_some();
        if !anywhere && !self.core.is_ours(uri) {
            self.core.reply_once(server, request, Status::NOT_FOUND, Some("Not a domain of this host"));
            return false;
        }
        true
    }

    fn is_emergency(&self, uri: &Uri) -> bool {
        let user = uri.user_unescaped();
        self.config.sip.emergency.iter().any(|number| Some(number.as_str()) == user.as_deref())
    }

    pub(super) fn reject(&mut self, leg: LegId, rejection: Rejection) {
        self.calls.reject_invite(&mut self.core, leg, &rejection, false);
    }

    /// Whether a URI means a feature.
    pub(super) fn address(&self, uri: &Uri) -> Address {
        let Some(user) = &uri.user else { return Address::Other };
        let user_phone = uri.scheme == Scheme::Tel
            || uri.params.get("user").is_some_and(|v| v.eq_ignore_ascii_case("phone"));
        let text = |name: &str| uri.params.get(name).map(str::to_owned);
        // A user parameter (`7001;token=…@host`) is where some phones keep what others put after the host.
        let user_params: Vec<(String, String)> = user
            .split(';')
            .skip(1)
            .filter_map(|param| param.split_once('='))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let param = |name: &str| {
            text(name).or_else(|| user_params.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()))
        };
        if let Some(number) = crate::orbit::dialled(user, user_phone)
            && let Some(range) = self.orbits.ranges().find(&number)
            && let Some(instance) = self.plugins.for_kind(range.kind())
        {
            let pool = Some(range.pool().to_owned());
            return Address::Feature {
                instance,
                service: None,
                number: Some(number),
                token: param("token"),
                pool,
            };
        }
        let service = user.split(';').next().unwrap_or_default();
        if let Some(instance) = self.plugins.for_service(service) {
            let number = param("orbit").map(|n| crate::orbit::dialled(&n, false).unwrap_or(n));
            let pool = number
                .as_deref()
                .and_then(|number| self.orbits.ranges().find(number))
                .map(|range| range.pool().to_owned());
            let service = Some(service.to_owned());
            return Address::Feature { instance, service, number, token: param("token"), pool };
        }
        let unescaped = uri.user_unescaped().unwrap_or_default();
        let dialled = unescaped.split(';').next().unwrap_or_default();
        if let Some((instance, prefix, rest)) = self.plugins.for_prefix(dialled) {
            let (service, number) = (Some(prefix.to_owned()), Some(rest.to_owned()));
            return Address::Feature { instance, service, number, token: None, pool: None };
        }
        Address::Other
    }

    #[expect(clippy::too_many_arguments, reason = "all of one dialled feature")]
    fn dialled_feature(
        &mut self,
        instance: InstanceId,
        leg: LegId,
        caller: Party,
        service: Option<String>,
        number: Option<String>,
        token: Option<String>,
        pool: Option<String>,
        call_id: &str,
    ) {
        // A call that is picked up has nothing to do with the one its picker holds.
        let parks = !self.plugins.uses(instance, Extension::Ringing);
        let held = self.held_call_of(&caller, leg).filter(|_| parks);
        let occupied = number.as_deref().is_some_and(|number| self.orbits.occupant(number).is_some());
        let mut offer = self.offer(How::Dial, &caller, service, number, token, pool, call_id);
        offer.leg = Some(leg);
        offer.near = held;
        offer.far = held.and_then(|near| self.far_of(near));
        // The hold may be still on its way: some phones put it behind the new call's INVITE.
        if parks
            && offer.far.is_none()
            && !occupied
            && offer.service.as_deref() != Some("unpark")
            && self.talks(&caller, leg)
        {
            self.core.after(Timer::HoldWait(leg), HOLD_WAIT);
            if let Some(leg) = self.calls.leg_mut(leg) {
                leg.waiting_offer = Some(Box::new((instance, offer)));
            }
            return;
        }
        self.make_offer(instance, offer, AskKind::Invite { leg });
    }

    /// An offer with everything filled in that does not depend on legs.
    #[expect(clippy::too_many_arguments, reason = "all of one offer")]
    pub(super) fn offer(
        &self,
        how: How,
        caller: &Party,
        service: Option<String>,
        number: Option<String>,
        token: Option<String>,
        pool: Option<String>,
        call_id: &str,
    ) -> Offer {
        let number_error = number
            .as_deref()
            // What follows a prefix is no number of a range.
            .filter(|_| service.as_deref().is_none_or(|service| !service.starts_with(['*', '#'])))
            .filter(|number| self.orbits.ranges().find(number).is_none())
            .map(|number| format!("{number} is in no range"));
        Offer {
            how,
            occupied: number.as_deref().is_some_and(|number| self.orbits.occupant(number).is_some()),
            number_error,
            pool: pool
                .or_else(|| Some(self.serving(caller.pool.as_deref()?).to_owned()))
                .unwrap_or_else(|| self.config.host.pool.clone()),
            service,
            number,
            token,
            leg: None,
            caller: caller.clone(),
            near: None,
            far: None,
            ringing: None,
            call_id: call_id.to_owned(),
        }
    }

    /// The leg and party on the other side of `near`, unless the call is being moved already, from either end: who parks
    /// whoever is transferring her just then would be with nobody should the transfer fail.
    pub(super) fn far_of(&self, near: LegId) -> Option<FarLeg> {
        let leg = self
            .calls
            .peer_of(near)
            .filter(|leg| ![near, *leg].iter().any(|leg| self.calls.has_plans(*leg)))?;
        let party = self.calls.leg(leg)?.party.clone();
        Some(FarLeg { leg, party })
    }

    /// The call that the phone of `caller` has put on hold most recently: the phone's own leg in it.
    pub(super) fn held_call_of(&self, caller: &Party, not: LegId) -> Option<LegId> {
        self.calls_of(caller, not)
            .filter(|(_, held)| held.is_some())
            .max_by_key(|(_, held)| *held)
            .map(|(leg, _)| leg)
    }

    /// Whether that phone is in another call at all.
    fn talks(&self, caller: &Party, not: LegId) -> bool {
        self.calls_of(caller, not).next().is_some()
    }

    fn calls_of<'a>(
        &'a self,
        caller: &'a Party,
        not: LegId,
    ) -> impl Iterator<Item = (LegId, Option<crate::time::Instant>)> + 'a {
        let user = caller.user.as_deref().unwrap_or_default();
        self.calls.legs_of(user).filter_map(move |leg| {
            let same = leg.id != not
                && leg.state == State::Confirmed
                && matches!(leg.peer, Peer::Leg(_))
                && leg.party.device == caller.device;
            same.then_some((leg.id, leg.held_at))
        })
    }

    /// A hold has come, or has not come in time.
    pub(super) fn hold_wait_over(&mut self, leg: LegId) {
        let Some(waiting) = self.calls.leg_mut(leg).and_then(|leg| leg.waiting_offer.take()) else { return };
        let (instance, mut offer) = *waiting;
        self.core.timers.cancel(Timer::HoldWait(leg));
        let held = self.held_call_of(&offer.caller, leg);
        offer.near = held;
        offer.far = held.and_then(|near| self.far_of(near));
        self.make_offer(instance, offer, AskKind::Invite { leg });
    }

    /// Hands a call to a plugin.
    pub(super) fn make_offer(&mut self, instance: InstanceId, offer: Offer, kind: AskKind) {
        let near = offer.near;
        let far = offer.far.as_ref().map(|far| far.leg);
        let call_id = offer.call_id.clone();
        let flow = self.plugins.offer(self.core.now, instance, &offer);
        let decided = kind == AskKind::Ringing;
        let ask = Ask { kind, near, far, parker: offer.caller, call_id, decided, refused: false };
        if let Some(far) = far.and_then(|far| self.calls.leg_mut(far)) {
            far.flow = Some(flow);
        }
        self.asks.insert(flow, ask);
    }

    /// An INVITE with Replaces (RFC 3891): `leg` takes the place of the phone whose dialog is named.
    fn invite_replaces(&mut self, leg: LegId, party: &Party, replaces: &Replaces) {
        let Some(named) = self.calls.leg_named(&replaces.call_id, &replaces.to_tag, &replaces.from_tag)
        else {
            self.reject(leg, Rejection::new(Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST));
            return;
        };
        if let Some(occupant) = self.orbits.orbit_of(named) {
            let (number, token) = (occupant.number.to_string(), occupant.token.clone());
            self.retrieve_by_replaces(leg, party, number, token);
            return;
        }
        let Some(target) = self.calls.leg(named) else { return };
        let confirmed = target.state == State::Confirmed;
        let right = party.user.is_some() && target.party.user == party.user;
        let peer = self.calls.peer_of(named);
        match (confirmed, peer) {
            // A call on hold may be taken where the policy says so.
            (true, _) if !right && !replaces.early_only && self.held_call(named).is_some() => {
                let call = self.held_call(named);
                if !call.is_some_and(|call| self.pick_by_replaces(leg, party, call)) {
                    self.reject(leg, Rejection::because(Status::BUSY_HERE, "The call is answered"));
                }
            }
            // Without a right to the dialog it is taken as early-only, and answered calls are not for stealing.
            (true, _) if replaces.early_only || !right => {
                self.reject(leg, Rejection::because(Status::BUSY_HERE, "The call is answered"));
            }
            (true, Some(peer)) => {
                if let Some(leg) = self.calls.leg_mut(leg) {
                    leg.replaces = Some(named);
                }
                self.calls.join(&mut self.core, Origin::Replaces(named), leg, peer);
            }
            (true, None) => self.reject(leg, Rejection::new(Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST)),
            // A user takes on one phone what rings on another of his; anybody else's is for a plugin to decide.
            (false, _) => {
                let caller = match target.outgoing.as_ref().map(|outgoing| outgoing.for_whom) {
                    Some(ForWhom::Caller(caller)) if right => Some(caller),
                    _ => None,
                };
                let Some(caller) = caller else {
                    if let Some(call) = self.call_of_branch(named)
                        && self.pick_by_replaces(leg, party, call)
                    {
                        return;
                    }
                    self.reject(leg, Rejection::new(Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST));
                    return;
                };
                if let Some(leg) = self.calls.leg_mut(leg) {
                    leg.replaces = Some(named);
                }
                self.calls.join(&mut self.core, Origin::Replaces(named), caller, leg);
            }
        }
    }

    fn retrieve_by_replaces(&mut self, leg: LegId, party: &Party, number: String, token: String) {
        let Some(range) = self.orbits.ranges().find(&number) else { return };
        let (kind, pool) = (range.kind().to_owned(), range.pool().to_owned());
        let Some(instance) = self.plugins.for_kind(&kind) else {
            self.reject(leg, Rejection::new(Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST));
            return;
        };
        let call_id = self.calls.leg(leg).map(|leg| leg.dialog.call_id.clone()).unwrap_or_default();
        let mut offer =
            self.offer(How::Replaces, party, None, Some(number), Some(token), Some(pool), &call_id);
        offer.leg = Some(leg);
        self.make_offer(instance, offer, AskKind::Invite { leg });
    }

    /// Whether a re-INVITE comes from a parker who takes his own call back before anyone has claimed it: he parked by
    /// hold and dial, and resumes the held leg (design.md §7).
    pub(super) fn resumes_parked(&self, leg: LegId, request: &Message) -> bool {
        self.calls.leg(leg).is_some_and(|leg| {
            leg.parked_in.is_some() && leg.is_idle() && leg.peer == Peer::None && request.sdp().is_some()
        })
    }

    pub(super) fn resume_is_retrieve(&mut self, leg: LegId, server: ServerId, request: &Message) {
        let Some(number) = self.calls.leg(leg).and_then(|leg| leg.parked_in.clone()) else { return };
        if !self.calls.take_request(&mut self.core, leg, server, request) {
            return;
        }
        let found = self.orbits.occupant(&number).map(|occupant| occupant.token.clone());
        let handler = self
            .orbits
            .ranges()
            .find(&number)
            .and_then(|range| Some((self.plugins.for_kind(range.kind())?, range.pool().to_owned())));
        let (Some(token), Some((instance, pool))) = (found, handler) else {
            self.calls.decline(&mut self.core, leg, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST);
            return;
        };
        let Some(known) = self.calls.leg(leg) else { return };
        let (party, call_id) = (known.party.clone(), known.dialog.call_id.clone());
        let mut offer = self.offer(How::Dial, &party, None, Some(number), Some(token), Some(pool), &call_id);
        offer.leg = Some(leg);
        self.make_offer(instance, offer, AskKind::Resume { leg });
    }
}

//! What plugins decide about: who asked, which legs it concerns, and what happens when a flow ends.
//!
//! The host, not the flow, owns what a flow holds. A flow that ends, panics or is dropped leaves no reservation and no
//! changed leg (design.md §5).

use std::time::Duration;

use switchyard_sdk::ext::call::Accept;
use switchyard_sdk::ext::orbit::Resume;
use switchyard_sdk::types::{Code, FlowId, LegId, Party, Refusal};

use super::timers::Timer;
use super::{AdminId, Engine, Output};
use crate::admin::Refused;
use crate::call::{
    Done, Failed, Headers, Origin, Peer, Rejection, Ringing, State, SubscriptionId, status_for,
};
use crate::plugin::{FlowEnd, InstanceId};
use crate::sip::Status;

/// How long the parker is rung back when a plugin has failed twice, or a transfer came to nothing.
const FALLBACK_RING: Duration = Duration::from_secs(30);

/// How long the held leg of a park by dialling stays up after the dialled one has ended (design.md §7).
const TWIN_STAYS: Duration = Duration::from_secs(10);

/// The pause before a failed flow is started again from its record: whatever broke it may pass.
const RESTART_AFTER: Duration = Duration::from_millis(500);

/// How a request reached its flow, and so how it is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AskKind {
    /// An INVITE that waits for its final response.
    Invite {
        /// Its leg.
        leg: LegId,
    },
    /// A re-INVITE on an established leg that waits for its response.
    Resume {
        /// Its leg.
        leg: LegId,
    },
    /// A REFER, long answered 202.
    Refer {
        /// Its subscription.
        subscription: SubscriptionId,
    },
    /// The administrative interface.
    Admin {
        /// Its request.
        request: AdminId,
    },
    /// Nobody: a parked call handed over from a record.
    Record,
    /// Nobody: a call has begun to ring.
    Ringing,
}

/// One flow's business.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) kind: AskKind,
    /// The asking party's own leg in the call that is to be parked.
    pub(super) near: Option<LegId>,
    /// The leg the flow decides about.
    pub(super) far: Option<LegId>,
    /// Who asked.
    pub(super) parker: Party,
    pub(super) call_id: String,
    /// The asker has been told.
    pub(super) decided: bool,
    /// … that it was refused.
    pub(super) refused: bool,
}

impl Engine {
    /// The plugin says that it worked.
    pub(super) fn accept(&mut self, flow: FlowId, accept: &Accept) {
        let Some(ask) = self.asks.get_mut(&flow) else { return };
        if std::mem::replace(&mut ask.decided, true) {
            return;
        }
        let (kind, near, far, call_id) = (ask.kind, ask.near, ask.far, ask.call_id.clone());
        let parker = ask.parker.clone();
        if let Some(number) = &accept.number {
            let detail =
                serde_json::json!({ "number": number, "by": parker.label(), "leg": far.map(|leg| leg.0) });
            self.core.event("feature.accepted", None, Some(&call_id), detail);
        }
        let shown = accept.number.as_ref().zip(accept.text.as_ref()).map(|(number, text)| Party {
            uri: self.core.uri_of(&number.replace('#', "%23")),
            display: Some(text.clone()),
            ..Party::default()
        });
        match kind {
            AskKind::Refer { subscription } => {
                if let (Some(near), Some(shown)) = (near, &shown) {
                    self.calls.show(&mut self.core, near, shown);
                }
                // Until his phone hangs up he can take the call back by resuming it.
                if let Some(near) = near {
                    self.remember_parker(near, accept.number.as_deref());
                }
                let lines: Vec<String> = accept
                    .number
                    .iter()
                    .map(|number| format!("Contact: <{}>", self.orbit_uri(number, accept.token.as_deref())))
                    .collect();
                self.calls.refer_decided(&mut self.core, subscription, Status::OK, None, &lines);
                if let Some(text) = &accept.text {
                    self.tell(&parker, text);
                }
            }
            AskKind::Admin { request } => {
                let answer = match &accept.number {
                    Some(number) => serde_json::json!({ "number": number, "token": accept.token }),
                    None => serde_json::json!({}),
                };
                self.core.emit(Output::Admin { request, answer: Ok(answer) });
                // His phone asked for nothing, so it would wait for ever: the host lets it go (CP-01).
                if let (Some(near), Some(text)) = (near, &accept.text) {
                    self.tell(&parker, text);
                    self.calls.release(&mut self.core, near, &Rejection::because(Status::OK, text));
                }
            }
            AskKind::Invite { leg } => {
                if let Some(dialled) = self.calls.leg_mut(leg) {
                    dialled.shown = shown;
                }
                // Parked by hold and dial: the phone keeps both its legs until it, or a claim, ends them.
                let held = near.filter(|near| self.calls.leg(*near).is_some());
                if held.is_none() && accept.number.is_some() {
                    // It has hung up on the held one already: this one has the number to say, no more.
                    self.calls.clear_later(&mut self.core, leg, TWIN_STAYS);
                }
                if let (Some(near), Some(number)) = (held, &accept.number)
                    && let Some(held) = self.calls.leg_mut(near)
                {
                    held.twin = Some(leg);
                    self.remember_parker(near, Some(number));
                    if let Some(dialled) = self.calls.leg_mut(leg) {
                        dialled.twin = Some(near);
                    }
                    if let Some(text) = &accept.text {
                        self.tell(&parker, text);
                    }
                }
            }
            AskKind::Resume { .. } | AskKind::Record | AskKind::Ringing => {}
        }
    }

    /// The plugin refuses: the caller stays where he is.
    pub(super) fn refuse(&mut self, flow: FlowId, refusal: &Refusal) {
        let Some(ask) = self.asks.get_mut(&flow) else { return };
        if std::mem::replace(&mut ask.decided, true) {
            return;
        }
        ask.refused = true;
        let (kind, call_id) = (ask.kind, ask.call_id.clone());
        let detail = serde_json::json!({ "by": ask.parker.label(), "text": refusal.text });
        self.core.event("feature.refused", Some(refusal.code.0), Some(&call_id), detail);
        match kind {
            AskKind::Invite { leg } => self.reject(leg, Rejection::of(refusal, &self.core.identity.host)),
            AskKind::Resume { leg } => self.calls.decline(&mut self.core, leg, status_for(refusal.code)),
            AskKind::Refer { subscription } => self.refuse_transfer(subscription, refusal),
            AskKind::Admin { request } => {
                let answer = Err(Refused {
                    status: status_for(refusal.code).0.clamp(400, 599),
                    code: Some(refusal.code.0),
                    text: refusal.text.clone(),
                });
                self.core.emit(Output::Admin { request, answer });
            }
            AskKind::Record | AskKind::Ringing => {}
        }
    }

    /// A flow is over.
    pub(super) fn flow_ended(&mut self, flow: FlowId, how: FlowEnd, message: &str) {
        let now = self.core.now;
        if !matches!(how, FlowEnd::Done | FlowEnd::Rested | FlowEnd::Cancelled) {
            let call_id = self.asks.get(&flow).map(|ask| ask.call_id.clone());
            let detail = serde_json::json!({ "flow": flow.0, "how": format!("{how:?}"), "message": message });
            self.core.event("plugin.flow_failed", None, call_id.as_deref(), detail);
        }
        let Some(ask) = self.asks.remove(&flow) else {
            self.orbits.flow_ended(now, flow, how);
            return;
        };
        if !ask.decided {
            let refusal = Refusal::new(Code::GENERAL, "the feature failed");
            self.asks.insert(flow, ask);
            self.refuse(flow, &refusal);
            let Some(ask) = self.asks.remove(&flow) else { return };
            self.settle_flow(flow, ask, how);
        } else {
            self.settle_flow(flow, ask, how);
        }
    }

    fn settle_flow(&mut self, flow: FlowId, ask: Ask, how: FlowEnd) {
        // A parked call it looked after comes back as `OrbitOutput::Unattended`.
        self.orbits.flow_ended(self.core.now, flow, how);
        if ask.refused || how != FlowEnd::Done {
            self.free_taken();
        }
        let Some(far) = ask.far else { return };
        let Some(leg) = self.calls.leg_mut(far) else {
            self.nobody_left(ask.near);
            return;
        };
        if leg.flow == Some(flow) {
            leg.flow = None;
        }
        self.put_together(far, ask.near, ask.parker);
    }

    /// A flow has left `far`: if it changed the leg, the leg gets its parker back, or the parker is rung for it.
    pub(super) fn put_together(&mut self, far: LegId, near: Option<LegId>, parker: Party) {
        let Some(leg) = self.calls.leg(far) else { return };
        if leg.busy.is_some() {
            // What the flow began runs to its end first; then it is seen what there is to put right.
            self.unsettled.insert(far, (near, parker));
            return;
        }
        if leg.flow.is_some() || matches!(leg.peer, Peer::Leg(_)) || self.orbits.orbit_of(far).is_some() {
            return;
        }
        match near.filter(|near| self.calls.leg(*near).is_some_and(|leg| leg.peer == Peer::None)) {
            // Parker and caller are talking to each other again.
            Some(near) => {
                self.calls.join(&mut self.core, Origin::Fallback(far), near, far);
            }
            None => {
                if let Some(leg) = self.calls.leg_mut(far) {
                    leg.brought_by.get_or_insert(parker);
                }
                let refusal = Refusal::new(Code::GENERAL, "nobody looks after the call");
                self.ring_back_or_release(far, &refusal);
            }
        }
    }

    /// Whoever was to be parked hung up on the way. The parker's leg, if it waited for how that would end, ends too.
    pub(super) fn nobody_left(&mut self, near: Option<LegId>) {
        let Some(leg) = near.and_then(|near| self.calls.leg(near)) else { return };
        let (id, waits) = (leg.id, leg.peer == Peer::None && leg.flow.is_none() && leg.parked_in.is_none());
        if waits && leg.state == State::Confirmed && !self.calls.has_plans(id) {
            self.calls.release(&mut self.core, id, &Rejection::because(Status::OK, "The caller hung up"));
        }
    }

    /// Frees orbits whose calls are with somebody already: the flow that took them broke before it could say so.
    fn free_taken(&mut self) {
        let taken: Vec<String> = self
            .orbits
            .occupants()
            .filter(|occupant| occupant.leg.is_some_and(|leg| self.calls.peer_of(leg).is_some()))
            .filter(|occupant| occupant.resume().is_some())
            .map(|occupant| occupant.number.to_string())
            .collect();
        for number in taken {
            self.orbits.release(self.core.now, &number, switchyard_sdk::ext::orbit::Outcome::Retrieved);
        }
    }

    /// The flow of a parked call has ended without freeing it: it is started again from its record, once; then the
    /// built-in fallback rings the parker and, if he does not answer, ends the call.
    pub(super) fn look_after(&mut self, number: &str) {
        let Some(occupant) = self.orbits.occupant(number) else { return };
        let (Some(far), parker) = (occupant.leg, occupant.parker.clone()) else { return };
        let restarts = self.restarts.entry(far).or_default();
        *restarts += 1;
        let again = *restarts <= 1;
        let call_id = self.calls.leg(far).map(|leg| leg.dialog.call_id.clone());
        let detail = serde_json::json!({ "number": number, "restarts": again });
        self.core.event("park.orphaned", None, call_id.as_deref(), detail);
        if let Some(leg) = self.calls.leg_mut(far) {
            leg.flow = None;
            leg.brought_by = Some(parker);
        }
        if again {
            self.core.after(Timer::Restart(far), RESTART_AFTER);
            return;
        }
        self.orbits.release(self.core.now, number, switchyard_sdk::ext::orbit::Outcome::Released);
        let refusal = Refusal::new(Code::GENERAL, "the park service failed");
        self.ring_back_or_release(far, &refusal);
    }

    /// Gives a parked call to a new flow of its plugin.
    pub(super) fn take_up(&mut self, far: LegId) {
        let found =
            self.orbits.orbit_of(far).and_then(|occupant| Some((occupant.kind.clone(), occupant.resume()?)));
        let Some((kind, resume)) = found else { return };
        let Some(instance) = self.plugins.for_kind(&kind) else {
            self.look_after(&resume.number);
            return;
        };
        let number = resume.number.clone();
        let flow = self.resume(instance, resume);
        self.orbits.set_owner(&number, flow);
    }

    /// Starts a flow from a record.
    pub(super) fn resume(&mut self, instance: InstanceId, resume: Resume) -> FlowId {
        let flow = self.plugins.resume(self.core.now, instance, &resume);
        let mut call_id = String::new();
        if let Some(leg) = self.calls.leg_mut(resume.leg) {
            leg.flow = Some(flow);
            call_id.clone_from(&leg.dialog.call_id);
        }
        let far = Some(resume.leg);
        let ask = Ask {
            kind: AskKind::Record,
            near: None,
            far,
            parker: resume.parker,
            call_id,
            decided: true,
            refused: false,
        };
        self.asks.insert(flow, ask);
        flow
    }

    /// A waiting leg that nobody looks after: whoever brought it here is rung, then it is released.
    pub(super) fn ring_back_or_release(&mut self, far: LegId, refusal: &Refusal) {
        let Some(leg) = self.calls.leg(far) else { return };
        if matches!(leg.peer, Peer::Leg(_)) {
            return;
        }
        let user = leg.brought_by.as_ref().and_then(|party| party.user.clone());
        let device = leg.brought_by.as_ref().and_then(|party| party.device.clone());
        let party = leg.party.clone();
        let phones = user
            .and_then(|name| self.directory.user(&name).cloned())
            .map(|user| self.phones_of(&user, device.as_deref()))
            .unwrap_or_default();
        if phones.is_empty() {
            self.calls.release(
                &mut self.core,
                far,
                &Rejection::because(status_for(refusal.code), refusal.text.clone()),
            );
            return;
        }
        let display = format!("Returned: {}", party.label());
        let ringing = Ringing {
            headers: Headers::presenting(&self.core, &party, Some(&display)),
            groups: phones.into_iter().map(|phone| vec![phone]).collect(),
            timeout: Some(FALLBACK_RING),
            ..Ringing::default()
        };
        self.calls.ring(&mut self.core, Origin::Fallback(far), far, ringing);
    }

    /// The last resort has ended, well or badly: `near` was to get `far` back, or `far` waited while phones rang.
    pub(super) fn fallback_over(&mut self, far: LegId, near: LegId, result: &Result<Done, Failed>) {
        if result.is_ok() {
            return;
        }
        let abandoned = |leg: &crate::call::Leg| leg.peer == Peer::None && leg.flow.is_none();
        let parker =
            self.calls.leg(near).filter(|leg| near != far && abandoned(leg)).map(|leg| leg.party.clone());
        let alone =
            self.calls.leg(far).is_some_and(|leg| !matches!(leg.peer, Peer::Leg(_)) && leg.flow.is_none());
        match parker {
            // On this leg his phone does not take the caller back: it may on a fresh one.
            Some(parker) => {
                let refusal = Refusal::new(Code::GENERAL, "nobody looks after the call");
                self.calls.release(
                    &mut self.core,
                    near,
                    &Rejection::because(Status::OK, "The caller is on another line"),
                );
                if let Some(leg) = self.calls.leg_mut(far).filter(|_| alone) {
                    leg.brought_by = Some(parker);
                    self.ring_back_or_release(far, &refusal);
                }
            }
            None if alone => {
                let rejection = Rejection::because(Status::TEMPORARILY_UNAVAILABLE, "nobody answered");
                self.calls.release(&mut self.core, far, &rejection);
            }
            None => {}
        }
    }

    /// A leg on which a phone holds on to a call it parked has got somebody else to talk to: that call is on its own.
    pub(super) fn parker_has_company(&mut self, leg: LegId) {
        for leg in [Some(leg), self.calls.peer_of(leg)].into_iter().flatten() {
            let Some(peer) = self.calls.peer_of(leg) else { continue };
            let parked_in = self.calls.leg(leg).and_then(|leg| leg.parked_in.clone());
            let other =
                |number: &String| self.orbits.occupant(number).and_then(|call| call.leg) != Some(peer);
            if let Some(number) = parked_in.filter(other) {
                self.clear_parker(&number);
            }
        }
    }

    /// A REFER with Replaces that finishes a park by dialling, as some phones send it (design.md §7).
    pub(super) fn finish_parked_by_dialling(
        &mut self,
        subscription: SubscriptionId,
        near: LegId,
        dialled: LegId,
    ) -> bool {
        let of_park =
            self.calls.leg(near).is_some_and(|leg| leg.twin == Some(dialled) && leg.parked_in.is_some());
        if !of_park {
            return false;
        }
        let number = self.calls.leg(near).and_then(|leg| leg.parked_in.clone()).unwrap_or_default();
        let token = self.orbits.occupant(&number).map(|occupant| occupant.token.clone());
        let line = format!("Contact: <{}>", self.orbit_uri(&number, token.as_deref()));
        self.calls.clear_on_success(subscription, [near, dialled]);
        self.calls.refer_decided(&mut self.core, subscription, Status::OK, None, &[line]);
        true
    }

    /// One leg of a park by dialling has ended: the other stays a while.
    pub(super) fn twin_ended(&mut self, twin: LegId) {
        let Some(leg) = self.calls.leg_mut(twin) else { return };
        leg.twin = None;
        if !matches!(leg.peer, Peer::Leg(_)) {
            self.calls.clear_later(&mut self.core, twin, TWIN_STAYS);
        }
    }

    /// The parker's phone holds on to its leg of the call that now waits in `number`.
    fn remember_parker(&mut self, near: LegId, number: Option<&str>) {
        // Meanwhile another transfer may have given him somebody else to talk to.
        let free = |leg: &&mut crate::call::Leg| !matches!(leg.peer, Peer::Leg(_));
        if let (Some(leg), Some(number)) = (self.calls.leg_mut(near).filter(free), number) {
            leg.parked_in = Some(number.to_owned());
            self.parkers.insert(number.to_owned(), near);
        }
    }

    /// The call was claimed or has ended: the parker's legs have nothing left to hold.
    pub(super) fn clear_parker(&mut self, number: &str) {
        let Some(leg) = self.parkers.remove(number) else { return };
        // The leg on which he dialled has said what it had to say.
        if let Some(dialled) = self.calls.leg_mut(leg).and_then(|leg| leg.twin.take()) {
            if let Some(dialled) = self.calls.leg_mut(dialled) {
                dialled.twin = None;
            }
            let over = Rejection::because(Status::OK, "The call has left the orbit");
            self.calls.release(&mut self.core, dialled, &over);
        }
        let Some(held) = self.calls.leg_mut(leg) else { return };
        held.parked_in = None;
        if held.peer == Peer::None && held.request.is_none() {
            self.calls.clear_later(&mut self.core, leg, Duration::ZERO);
        }
    }

    fn orbit_uri(&self, number: &str, token: Option<&str>) -> String {
        let user = number.replace('#', "%23");
        match token {
            Some(token) => format!("sip:{user}@{};token={token}", self.core.identity.domain),
            None => format!("sip:{user}@{}", self.core.identity.domain),
        }
    }

    /// Tells a user something in words, on the phone he used, if it says in a call or in its registration that
    /// it takes MESSAGE. Best effort.
    pub(super) fn tell(&mut self, party: &Party, text: &str) {
        let Some(user) = party.user.as_deref().and_then(|name| self.directory.user(name)).cloned() else {
            return;
        };
        let phones = self.phones_of(&user, party.device.as_deref());
        let Some(phone) = phones.first() else { return };
        let said = self
            .calls
            .legs_of(&user.name)
            .any(|leg| leg.party.device == party.device && leg.abilities.message);
        let device = phone.party.device.as_deref().unwrap_or_default();
        if said || self.registrar.allows(&user.name, device, "MESSAGE") {
            let from = format!("<{}>", self.core.uri_of("park"));
            let body = bytes::Bytes::copy_from_slice(text.as_bytes());
            self.send_message(
                phone,
                &from,
                "text/plain;charset=UTF-8",
                body,
                None,
                super::core::Owner::Nobody,
            );
        }
    }
}

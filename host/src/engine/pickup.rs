//! Ringing calls, as plugins see them: who rings at whom, and how a call is taken.

use std::time::Duration;

use serde_json::{Value, json};
use switchyard_sdk::ext::ringing::{Query, Routing, Take, Tell, WaitState, Waiting, WaitingCall};
use switchyard_sdk::host::Extension;
use switchyard_sdk::types::{Code, How, LegId, Party, Refusal};

use super::Engine;
use super::ask::AskKind;
use crate::call::{Done, Failed, ForWhom, Headers, Origin, Peer, Rejection, Ringing, State};
use crate::config::KIND_GROUP_PICKUP;
use crate::directory::User;
use crate::orbit::Fate;
use crate::plugin::{InstanceId, Waiter};
use crate::sip::{Name, Status, Uri};

/// How long a callee's phones ring once more when a picker has left in the middle of taking the call.
const RING_AGAIN: Duration = Duration::from_secs(30);

/// So often they ring once more; then the caller, answered and alone, is let go.
const RING_AGAIN_MAX: u32 = 5;

/// How often it is looked whether the caller's ACK has come by then.
const ACK_PAUSE: Duration = Duration::from_millis(100);

/// A taking under way, until picker and caller are joined.
#[derive(Debug)]
pub(super) struct Taking {
    take: Take,
    what: Taken,
    /// The call as it was.
    call: WaitingCall,
}

/// What has to be done when a taking has come to its end.
#[derive(Debug)]
enum Taken {
    /// A ringing call; for a transferred one, who is told what became of the transfer.
    Ringing(Option<Origin>),
    /// The call in an orbit.
    Parked(String),
    /// A held call: the leg of the phone that holds it.
    Held(LegId),
}

/// Somebody's phones are rung for a call that rings at somebody else.
#[derive(Debug)]
pub(super) struct Summons {
    waiter: Waiter,
    take: Take,
    /// The legs of those phones that still ring.
    legs: Vec<LegId>,
}

impl Engine {
    /// A call begins to ring at a user: the pickup groups see it, and the plugin of the first is told.
    pub(super) fn ring_begins(&mut self, leg: LegId, user: &User, caller: &Party, private: bool) {
        let rules = &user.rules;
        let routing = if !rules.team.is_empty() {
            Routing::Team
        } else if !rules.delegates.is_empty() {
            Routing::Delegates
        } else {
            Routing::Direct
        };
        let call = WaitingCall {
            leg,
            state: WaitState::Ringing,
            caller: caller.clone(),
            callee: self.party(user),
            routing,
            private,
            excluded: rules.not_pickable_from.iter().any(|whom| is_meant(whom, caller)),
            since_ms: self.core.now.utc.0,
        };
        let handler = user.pickup_group.as_deref().and_then(|group| {
            let range = self.orbits.ranges().find(group)?;
            let instance = self.plugins.for_kind(range.kind())?;
            self.plugins.uses(instance, Extension::Ringing).then(|| (instance, group.to_owned()))
        });
        let Some((instance, group)) = handler else {
            self.orbits.ring_begins(self.core.now, call);
            return;
        };
        self.orbits.ring_begins(self.core.now, call.clone());
        let call_id = self.calls.leg(leg).map(|leg| leg.dialog.call_id.clone()).unwrap_or_default();
        let pool = Some(user.pool.clone());
        let mut offer = self.offer(How::Ringing, caller, None, Some(group), None, pool, &call_id);
        offer.ringing = Some(call);
        self.make_offer(instance, offer, AskKind::Ringing);
    }

    /// Two parties can talk: what rang for the caller does not ring any more.
    pub(super) fn ring_answered(&mut self, caller: LegId, callee: LegId) {
        self.placed.remove(&caller);
        self.core.timers.cancel(super::timers::Timer::NoAnswer(caller));
        let Some(party) = self.calls.leg(callee).map(|leg| leg.party.clone()) else { return };
        if let Some(taker) = self.orbits.taker_of(caller).cloned() {
            self.orbits.ring_over(self.core.now, caller, &Fate::Taken(taker));
            return;
        }
        match self.summons.remove(&caller) {
            Some(summons) if summons.take.picker.user == party.user => {
                let call = self.orbits.ringing_call(caller).cloned();
                self.orbits.ring_over(self.core.now, caller, &Fate::Taken(party));
                if let Some(call) = call {
                    self.taken(&call, &summons.take);
                }
                self.answer(summons.waiter, Ok(&Value::Null));
            }
            other => {
                let fate = Fate::Answered(party);
                self.orbits.ring_over(self.core.now, caller, &fate);
                if let Some(summons) = other {
                    self.summons_failed(&summons, "somebody else answered");
                }
            }
        }
    }

    /// The caller's leg is over, or nobody rings for it any more.
    pub(super) fn ring_ended(&mut self, leg: LegId, fate: &Fate) {
        self.placed.remove(&leg);
        self.orbits.ring_over(self.core.now, leg, fate);
        if let Some(summons) = self.summons.remove(&leg) {
            self.summons_failed(&summons, "the call has stopped ringing");
        }
    }

    /// A leg has ended. If it was the last one of a picker's phones, who asked for them is told, and another may ask.
    pub(super) fn summoned_ended(&mut self, leg: LegId, reason: &str) {
        let rung = |summons: &&mut Summons| summons.legs.contains(&leg);
        let Some(summons) = self.summons.values_mut().find(rung) else { return };
        summons.legs.retain(|other| *other != leg);
        let caller = summons.take.leg;
        if !summons.legs.is_empty() {
            return;
        }
        let state = self.calls.leg(caller).map(|leg| leg.incoming.is_some());
        let Some(summons) = self.summons.remove(&caller) else { return };
        match state {
            Some(true) => {
                let text = format!("no phone of {} took it: {reason}", summons.take.picker.label());
                let refusal = Refusal::new(Code::WITHDRAWN, text);
                self.answer::<Value>(summons.waiter, Err((&refusal, 487)));
            }
            Some(false) => self.summons_failed(&summons, "somebody else answered"),
            None => self.summons_failed(&summons, "the call has stopped ringing"),
        }
    }

    fn summons_failed(&mut self, summons: &Summons, why: &str) {
        let refusal = Refusal::new(Code::LOST_CLAIM, why);
        self.answer::<Value>(summons.waiter, Err((&refusal, 486)));
    }

    /// The ringing call to which a rung phone's leg belongs.
    pub(super) fn call_of_branch(&self, branch: LegId) -> Option<WaitingCall> {
        let leg = self.calls.leg(branch)?;
        let waiting = match leg.outgoing.as_ref()?.for_whom {
            ForWhom::Caller(caller) => caller,
            ForWhom::Operation(operation) => self.calls.waiting_leg(operation)?,
        };
        self.orbits.ringing_call(waiting).cloned().or_else(|| self.parked_call(waiting))
    }

    /// Who would take what another phone's leg has: its plugin decides. False if there is none.
    pub(super) fn pick_by_replaces(&mut self, leg: LegId, party: &Party, call: WaitingCall) -> bool {
        let Some(instance) = self.picker_plugin() else { return false };
        let pool = call.callee.pool.clone();
        let call_id = self.calls.leg(leg).map(|leg| leg.dialog.call_id.clone()).unwrap_or_default();
        let mut offer = self.offer(How::Replaces, party, None, None, None, pool, &call_id);
        offer.leg = Some(leg);
        offer.ringing = Some(call);
        self.make_offer(instance, offer, AskKind::Invite { leg });
        true
    }

    /// Who decides about calls that are taken from no group in particular.
    pub(super) fn picker_plugin(&self) -> Option<InstanceId> {
        let instance = self.plugins.for_kind(KIND_GROUP_PICKUP)?;
        self.plugins.uses(instance, Extension::Ringing).then_some(instance)
    }

    /// Answers [`Query`].
    pub(super) fn list_waiting(&mut self, waiter: Waiter, query: &Query) {
        let now = self.core.now;
        let mut waiting = Waiting::default();
        if let Some(number) = &query.number {
            waiting.calls = self.orbits.ringing_in(number).into_iter().cloned().collect();
            waiting.last = self.orbits.last_in(now, number);
        }
        if let Some(callee) = &query.callee {
            let Some(user) = self.directory.resolve(callee).map(|user| user.name.clone()) else {
                let refusal = Refusal::new(Code::NOTHING_RINGS, format!("nobody is reached at {callee}"));
                self.answer::<Value>(waiter, Err((&refusal, 404)));
                return;
            };
            waiting.calls.extend(self.orbits.ringing_at(&user).into_iter().cloned());
            waiting.last = waiting.last.or_else(|| self.orbits.last_at(now, &user));
            let parked: Vec<LegId> = self
                .orbits
                .occupants()
                .filter(|occupant| occupant.parker.user.as_deref() == Some(&*user))
                .filter_map(|occupant| occupant.leg)
                .collect();
            waiting.calls.extend(parked.into_iter().filter_map(|leg| self.parked_call(leg)));
            let held: Vec<LegId> = self.calls.legs_of(&user).map(|leg| leg.id).collect();
            waiting.calls.extend(held.into_iter().filter_map(|leg| self.held_call(leg)));
        }
        self.answer(waiter, Ok(&waiting));
    }

    /// The call in an orbit, as its parker's.
    pub(super) fn parked_call(&self, leg: LegId) -> Option<WaitingCall> {
        let occupant = self.orbits.orbit_of(leg)?;
        let rung = self.calls.rung_for(leg).is_some();
        Some(WaitingCall {
            leg,
            state: if rung { WaitState::Recalling } else { WaitState::Parked },
            caller: occupant.parked.clone(),
            callee: occupant.parker.clone(),
            routing: Routing::Direct,
            private: false,
            excluded: false,
            since_ms: occupant.since.0,
        })
    }

    /// The call that the phone of this leg has put on hold.
    pub(super) fn held_call(&self, near: LegId) -> Option<WaitingCall> {
        let leg = self.calls.leg(near)?;
        let far = (leg.state == State::Confirmed && leg.held_at.is_some()).then(|| self.far_of(near))??;
        Some(WaitingCall {
            leg: far.leg,
            state: WaitState::Held,
            caller: far.party,
            callee: leg.party.clone(),
            routing: Routing::Direct,
            private: false,
            excluded: false,
            since_ms: leg.since.0,
        })
    }

    /// Takes a call for a picker, in the state in which it was chosen.
    pub(super) fn take(&mut self, waiter: Waiter, take: Take) {
        if let Some(refusal) = self.bars_pickup(&take) {
            self.bar(waiter, take.group.as_deref(), &refusal);
            return;
        }
        let result = match take.state {
            WaitState::Ringing => self.take_ringing(waiter, take),
            WaitState::Recalling | WaitState::Parked => self.take_parked(waiter, take),
            WaitState::Held => self.take_held(waiter, take),
        };
        if let Err(refusal) = result {
            let status = crate::call::status_for(refusal.code).0;
            self.answer::<Value>(waiter, Err((&refusal, status)));
        }
    }

    fn take_ringing(&mut self, waiter: Waiter, take: Take) -> Result<(), Refusal> {
        let caller = take.leg;
        let unanswered = self.calls.leg(caller).is_some_and(|leg| leg.incoming.is_some());
        let Some(by) = take.by else { return self.summon(waiter, take, unanswered) };
        let call = self.orbits.take_ringing(self.core.now, caller, &take.picker)?;
        let missed = take.missed;
        // A transferred call waits established, with an operation that rings for it.
        let origin = if unanswered { None } else { self.calls.take_rung(&mut self.core, caller) };
        self.takings.insert(waiter, Taking { take, what: Taken::Ringing(origin), call });
        if unanswered {
            self.calls.pickup(&mut self.core, Origin::Plugin(waiter), caller, by, missed);
        } else {
            self.calls.join(&mut self.core, Origin::Plugin(waiter), caller, by);
        }
        Ok(())
    }

    /// Rings the picker's phones beside those that ring already.
    fn summon(&mut self, waiter: Waiter, take: Take, unanswered: bool) -> Result<(), Refusal> {
        let lost = |why: &str| Refusal::new(Code::LOST_CLAIM, why);
        let call = self.orbits.ringing_call(take.leg).cloned();
        let call = call.filter(|_| unanswered).ok_or_else(|| lost("the call has stopped ringing"))?;
        if self.summons.contains_key(&take.leg) {
            return Err(lost("somebody is being rung for that call already"));
        }
        let user = take.picker.user.as_deref().and_then(|name| self.directory.user(name)).cloned();
        let phones =
            user.map(|user| self.phones_of(&user, take.picker.device.as_deref())).unwrap_or_default();
        if phones.is_empty() {
            return Err(Refusal::new(Code::NOTHING_RINGS, "no phone of the picker is registered"));
        }
        let display = format!("{} for {}", call.caller.label(), call.callee.label());
        let mut headers = Headers::presenting(&self.core, &call.caller, Some(&display));
        // He asked for it, so his phone may answer by itself if it is allowed to.
        headers.extra.push((Name::CallInfo, "<sip:pickup>;answer-after=0".to_owned()));
        let caller = take.leg;
        let legs = self.calls.fork(&mut self.core, caller, &phones, &headers);
        self.summons.insert(caller, Summons { waiter, take, legs });
        Ok(())
    }

    fn take_parked(&mut self, waiter: Waiter, take: Take) -> Result<(), Refusal> {
        let gone = || Refusal::new(Code::LOST_CLAIM, "the call is not parked any more");
        let call = self.parked_call(take.leg).ok_or_else(gone)?;
        let number =
            self.orbits.orbit_of(take.leg).map(|occupant| occupant.number.to_string()).ok_or_else(gone)?;
        let by = take.by.ok_or_else(|| Refusal::new(Code::NOT_ALLOWED, "retrieve a parked call instead"))?;
        self.orbits.claim_for_host(self.core.now, &number, take.picker.clone())?;
        let caller = take.leg;
        self.takings.insert(waiter, Taking { take, what: Taken::Parked(number), call });
        self.calls.join(&mut self.core, Origin::Plugin(waiter), caller, by);
        Ok(())
    }

    fn take_held(&mut self, waiter: Waiter, take: Take) -> Result<(), Refusal> {
        let gone = || Refusal::new(Code::LOST_CLAIM, "the call is not held any more");
        let Some(Peer::Leg(near)) = self.calls.leg(take.leg).map(|leg| leg.peer) else { return Err(gone()) };
        let call = self.held_call(near).ok_or_else(gone)?;
        let by =
            take.by.ok_or_else(|| Refusal::new(Code::NOT_ALLOWED, "a held call is taken by dialling"))?;
        let caller = take.leg;
        self.takings.insert(waiter, Taking { take, what: Taken::Held(near), call });
        self.calls.join(&mut self.core, Origin::Plugin(waiter), caller, by);
        Ok(())
    }

    /// Picker and caller are joined, or could not be.
    pub(super) fn taking_over(&mut self, waiter: Waiter, result: Result<Done, Failed>) {
        let Some(Taking { take, what, call }) = self.takings.remove(&waiter) else { return };
        let now = self.core.now;
        match (&result, what) {
            (Ok(_), Taken::Ringing(origin)) => {
                self.orbits.ring_over(now, take.leg, &Fate::Taken(take.picker.clone()));
                if let (Some(Origin::Refer(subscription)), Some(by)) = (origin, take.by) {
                    self.transfer_over(subscription, take.leg, &Ok(Done::Answered { leg: by }));
                }
            }
            (Err(failed), Taken::Ringing(origin)) => {
                self.orbits.ring_returned(take.leg);
                let answered = self.calls.leg(take.leg).is_some_and(|leg| leg.state == State::Confirmed);
                if let Some(Origin::Refer(subscription)) = origin {
                    // Its phones have stopped ringing: the transfer has failed with it.
                    self.orbits.ring_over(now, take.leg, &Fate::Unanswered);
                    self.transfer_over(subscription, take.leg, &Err(failed.clone()));
                } else if answered && self.orbits.ring_resumed(take.leg) <= RING_AGAIN_MAX {
                    self.ring_again(take.leg);
                } else if answered {
                    self.orbits.ring_over(now, take.leg, &Fate::Unanswered);
                    self.fallback_over(take.leg, take.leg, &Err(failed.clone()));
                }
            }
            (Ok(_), Taken::Parked(number)) => {
                self.orbits.release(now, &number, switchyard_sdk::ext::orbit::Outcome::Retrieved);
            }
            (Err(_), Taken::Parked(number)) => self.orbits.return_claim(now, &number),
            (Ok(_), Taken::Held(near)) => {
                let text = format!("Taken by {}", take.picker.label());
                self.calls.release(&mut self.core, near, &Rejection::because(Status::OK, text));
            }
            (Err(_), Taken::Held(_)) => {}
        }
        match result {
            Ok(_) => {
                self.taken(&call, &take);
                self.answer(waiter, Ok(&Value::Null));
            }
            Err(failed) => {
                // Whoever is gone by now was faster.
                let code = if failed.code == Code::LEG_GONE { Code::LOST_CLAIM } else { failed.code };
                let refusal = Refusal::new(code, failed.text);
                self.answer::<Value>(waiter, Err((&refusal, failed.status)));
            }
        }
    }

    /// A caller who was answered for a picker that is gone gets the callee back: its phones ring again, as soon as the
    /// caller's ACK has said what the caller has to offer.
    pub(super) fn ring_again(&mut self, caller: LegId) {
        let Some(call) = self.orbits.ringing_call(caller).cloned() else { return };
        let Some(leg) = self.calls.leg(caller) else { return };
        let taken = self.orbits.taker_of(caller).is_some();
        if leg.state != State::Confirmed || leg.peer != Peer::None || taken {
            return;
        }
        if leg.await_ack.is_some() {
            self.core.after(super::timers::Timer::RingAgain(caller), ACK_PAUSE);
            return;
        }
        let user = call.callee.user.as_deref().and_then(|name| self.directory.user(name)).cloned();
        let phones = user.map(|user| self.phones_of(&user, None)).unwrap_or_default();
        let ringing = Ringing {
            headers: Headers::presenting(&self.core, &call.caller, None),
            groups: [phones].into(),
            timeout: Some(RING_AGAIN),
            ..Ringing::default()
        };
        self.calls.ring(&mut self.core, Origin::Fallback(caller), caller, ringing);
    }

    /// Says who took which call from whom (GCP-06; lesson 18).
    fn taken(&mut self, call: &WaitingCall, take: &Take) {
        let call_id = self.calls.leg(take.leg).map(|leg| leg.dialog.call_id.clone());
        let detail = json!({
            "number": take.group,
            "state": take.state,
            "by": take.picker.label(),
            "picker": take.picker.uri,
            "callee": call.callee.uri,
            "caller": call.caller.uri,
            "after_ms": self.core.now.utc.0.saturating_sub(call.since_ms),
        });
        self.core.event("pickup.taken", None, call_id.as_deref(), detail);
        if let Some(text) = &take.text
            && call.callee.user != take.picker.user
        {
            self.tell_user(&call.callee, text, None);
        }
    }

    /// Tells the members of a group something.
    pub(super) fn tell_group(&mut self, tell: &Tell) {
        let members: Vec<Party> = self
            .directory
            .members(&tell.group)
            .filter(|user| !tell.except.contains(&user.name))
            .map(|user| self.party(user))
            .collect();
        for member in members {
            self.tell_user(&member, &tell.text, Some(Duration::from_millis(tell.for_ms)));
        }
    }

    /// Tells a user something on each phone that takes MESSAGE.
    fn tell_user(&mut self, party: &Party, text: &str, lasts: Option<Duration>) {
        let Some(user) = party.user.as_deref().and_then(|name| self.directory.user(name)).cloned() else {
            return;
        };
        let from = format!("<{}>", self.core.uri_of("pickup"));
        for phone in self.phones_of(&user, None) {
            let device = phone.party.device.as_deref().unwrap_or_default();
            if self.registrar.allows(&user.name, device, "MESSAGE") {
                let body = bytes::Bytes::copy_from_slice(text.as_bytes());
                self.send_message(
                    &phone,
                    &from,
                    "text/plain;charset=UTF-8",
                    body,
                    lasts,
                    super::core::Owner::Nobody,
                );
            }
        }
    }
}

/// Whether `whom` (a user, an extension, a number) means this party.
fn is_meant(whom: &str, party: &Party) -> bool {
    let number = Uri::parse(&party.uri).ok().and_then(|uri| uri.user_unescaped());
    party.user.as_deref() == Some(whom)
        || party.extension.as_deref() == Some(whom)
        || number.as_deref() == Some(whom)
}

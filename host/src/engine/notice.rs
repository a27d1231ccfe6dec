//! What calls and orbits tell the engine.

use std::collections::BTreeSet;

use switchyard_sdk::ext::call::Ended;
use switchyard_sdk::ext::orbit::Outcome;
use switchyard_sdk::types::{Code, LegId, Refusal};

use super::record::StoreOwner;
use super::timers::Timer;
use super::{Engine, Output, StoreId};
use crate::call::{Failed, Notice, Origin, Rejection};
use crate::orbit::{Fate, Freed, OrbitOutput};
use crate::plugin::FlowEnd;
use crate::sip::Status;

impl Engine {
    pub(super) fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Finished { origin, leg, result } => {
                self.parker_has_company(leg);
                match origin {
                    Origin::Phone | Origin::Mend => {}
                    Origin::Plugin(waiter) => self.command_finished(waiter, result),
                    Origin::Refer(subscription) => {
                        self.transfer_rang(leg, &result);
                        self.transfer_over(subscription, leg, &result);
                    }
                    Origin::Replaces(replaced) => self.replaced(replaced, result.is_ok()),
                    Origin::Fallback(far) => {
                        self.transfer_rang(far, &result);
                        self.fallback_over(far, leg, &result);
                    }
                    Origin::Admin(request) => self.operation_for_admin(request, result),
                    Origin::Restore => self.restored(leg, &result),
                }
                if let Some((near, parker)) = self.unsettled.remove(&leg) {
                    self.put_together(leg, near, parker);
                }
            }
            Notice::Claim { operation, origin, number, party } => {
                let now = self.core.now;
                let verdict = match origin {
                    // Not by the flow that looks after the call: it must hear of it.
                    Origin::Admin(_) => self.orbits.claim_for_host(now, &number, party),
                    _ => self.orbits.claim_now(now, &number, party),
                };
                let verdict =
                    verdict.map_err(|refusal| Failed { code: refusal.code, status: 486, text: refusal.text });
                if let (Ok(()), Origin::Plugin(waiter)) = (&verdict, origin) {
                    self.recalls.insert(waiter, number.clone());
                }
                if let (Ok(()), Origin::Admin(request)) = (&verdict, origin) {
                    self.retrievals.insert(request, number.clone());
                }
                self.calls.permit(&mut self.core, operation, verdict);
            }
            Notice::Ended { leg, party, by_party, answered, reason, call_id, twin, .. } => {
                let detail = serde_json::json!({ "leg": leg.0, "party": party.uri, "by_party": by_party, "answered": answered, "reason": reason });
                self.core.event("leg.ended", None, Some(&call_id), detail);
                self.core.timers.cancel(Timer::HoldWait(leg));
                self.restoring_ended(leg);
                self.restarts.remove(&leg);
                if let Some((near, _)) = self.unsettled.remove(&leg) {
                    self.nobody_left(near);
                }
                self.orbits.leg_ended(self.core.now, leg, by_party);
                self.summoned_ended(leg, &reason);
                self.ring_ended(leg, if by_party { &Fate::HungUp } else { &Fate::Unanswered });
                for waiter in self.watches.remove(&leg).unwrap_or_default() {
                    let ended = Ended { by_party, reason: reason.clone() };
                    self.answer(waiter, Ok(&ended));
                }
                if let Some(twin) = twin {
                    self.twin_ended(twin);
                }
            }
            Notice::Referred(referral) => self.on_referred(*referral),
            Notice::Held { leg, held } => {
                if held {
                    self.held(leg);
                }
            }
            Notice::Answered { caller, callee } => {
                let call_id = self.calls.leg(caller).map(|leg| leg.dialog.call_id.clone());
                let who = self.calls.leg(callee).map(|leg| leg.party.uri.clone());
                let detail = serde_json::json!({ "caller": caller.0, "callee": callee.0, "by": who });
                self.core.event("call.answered", None, call_id.as_deref(), detail);
                self.ring_answered(caller, callee);
            }
            Notice::Stranded { leg } => {
                let refusal = Refusal::new(Code::GENERAL, "the transfer was refused");
                self.ring_back_or_release(leg, &refusal);
            }
            Notice::Unanswered { leg, status } => self.unanswered(leg, status),
            Notice::Cancelled { leg } => {
                if let Some(leg) = self.calls.leg_mut(leg) {
                    leg.waiting_offer = None;
                }
            }
        }
    }

    /// A phone has put a call on hold: a park by dialling of the same phone may be waiting for just that.
    fn held(&mut self, leg: LegId) {
        let Some(party) = self.calls.leg(leg).map(|leg| leg.party.clone()) else { return };
        let Some(user) = party.user.as_deref() else { return };
        let waiting = self
            .calls
            .legs_of(user)
            .find(|other| other.waiting_offer.is_some() && other.party.device == party.device)
            .map(|other| other.id);
        if let Some(waiting) = waiting {
            self.hold_wait_over(waiting);
        }
    }

    /// A phone took the place of another one of its user.
    fn replaced(&mut self, replaced: LegId, worked: bool) {
        if worked {
            let rejection = Rejection::because(Status::OK, "Replaced");
            self.calls.release(&mut self.core, replaced, &rejection);
        } else {
            let stranded: Vec<LegId> = self
                .calls
                .legs()
                .filter(|leg| {
                    leg.incoming.as_ref().is_some_and(|incoming| incoming.branches.is_empty())
                        && leg.busy.is_none()
                        && leg.waiting_offer.is_none()
                        && leg.replaces == Some(replaced)
                })
                .map(|leg| leg.id)
                .collect();
            for leg in stranded {
                self.reject(leg, Rejection::new(Status::TEMPORARILY_UNAVAILABLE));
            }
        }
    }

    pub(super) fn on_orbit(&mut self, output: OrbitOutput) {
        match output {
            OrbitOutput::Answer { waiter, result } => match result {
                Ok(value) => self.answer(waiter, Ok(&value)),
                Err(refusal) => {
                    let status = crate::call::status_for(refusal.code).0;
                    self.answer::<serde_json::Value>(waiter, Err((&refusal, status)));
                }
            },
            OrbitOutput::Store { ticket, transaction } => {
                let request = StoreId(self.core.fresh_id());
                self.stores.insert(request, StoreOwner::Orbit(ticket));
                self.core.emit(Output::Store { request, transaction });
            }
            OrbitOutput::Event { what, code, number, mut detail } => {
                let occupant = self.orbits.occupant(&number).and_then(|occupant| occupant.leg);
                let leg = occupant.or_else(|| detail.get("leg")?.as_u64().map(LegId));
                let call_id = leg.and_then(|leg| self.calls.leg(leg)).map(|leg| leg.dialog.call_id.clone());
                if let Some(detail) = detail.as_object_mut() {
                    detail.insert("number".to_owned(), number.clone().into());
                }
                self.core.event(what, code.map(|code| code.0), call_id.as_deref(), detail);
                if what == "orbit.freed" {
                    self.clear_parker(&number);
                }
            }
            OrbitOutput::Elsewhere(leg) => self.calls.put_down(&mut self.core, &BTreeSet::from([leg])),
            OrbitOutput::Freed(freed) => {
                let Freed { number, parked, parker, outcome, by } = *freed;
                let who = parked.label();
                let text = match (outcome, by) {
                    (Outcome::Retrieved, Some(by)) if by.user != parker.user => {
                        format!("{number}: {who} was taken by {}", by.label())
                    }
                    (Outcome::OnTimeout, Some(by)) => format!("{number}: {who} went to {}", by.label()),
                    (Outcome::HungUp, _) => format!("{number}: {who} hung up"),
                    (Outcome::Released, _) => {
                        format!("{number}: nobody took the call of {who}, it has ended")
                    }
                    (Outcome::Retrieved | Outcome::OnTimeout | Outcome::Recalled | Outcome::Abandoned, _) => {
                        return;
                    }
                };
                self.tell(&parker, &text);
            }
            // A newer copy of the plugin goes on at once; a flow that broke is another matter.
            OrbitOutput::Unattended { number, how: FlowEnd::Rested } => {
                if let Some(leg) = self.orbits.occupant(&number).and_then(|occupant| occupant.leg) {
                    self.take_up(leg);
                }
            }
            OrbitOutput::Unattended { number, .. } => self.look_after(&number),
        }
    }
}

//! Transfers: where a REFER leads (RFC 3515, 5589; design.md §7).

use std::time::Duration;

use switchyard_sdk::types::{Code, How, LegId, Party, Refusal};

use super::Engine;
use super::ask::AskKind;
use super::invite::Address;
use super::routing::{Destination, Errand, Purpose};
use crate::call::{Headers, Origin, Referral, Rejection, Ringing, State, status_for};
use crate::orbit::Fate;
use crate::sip::{Name, Replaces, Scheme, Status, Uri};

/// How long the target of a transfer may ring.
const TRANSFER_RING: Duration = Duration::from_secs(180);

impl Engine {
    /// A REFER was answered 202; here it is decided.
    pub(super) fn on_referred(&mut self, referral: Referral) {
        let Referral { subscription, target, replaces, near, party, call_id } = referral;
        let detail = serde_json::json!({ "by": party.uri, "to": target.to_string() });
        self.core.event("call.referred", None, Some(&call_id), detail);
        let feature = self.address(&target);
        // RFC 5359 §2.15: outside any call, the Replaces names the referrer's leg of the call to be parked.
        let near = match (near, &replaces) {
            (Some(near), _) => Some(near),
            (None, Some(replaces)) => match self.own_leg(replaces, &party) {
                Some(leg) => Some(leg),
                None => {
                    self.decide(subscription, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None);
                    return;
                }
            },
            (None, None) => None,
        };
        // One thing at a time: a call that is being moved already, from either end, is not moved again.
        let far = near.and_then(|near| self.calls.peer_of(near));
        let moving = |leg: LegId| {
            self.calls.has_plans(leg) || self.calls.leg(leg).is_some_and(|leg| leg.flow.is_some())
        };
        let other = replaces.as_ref().and_then(|replaces| self.own_leg(replaces, &party));
        let other_far =
            other.filter(|other| Some(*other) != near).and_then(|other| self.calls.peer_of(other));
        if [near, far, other_far.and(other), other_far].into_iter().flatten().any(moving) {
            self.decide(
                subscription,
                Status::REQUEST_PENDING,
                Some("Another transfer of this call is under way"),
            );
            return;
        }
        if replaces.is_some() && other.is_none() {
            self.decide(subscription, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None);
            return;
        }
        if let (Some(other), Some(near)) = (other, near)
            && other != near
        {
            self.attended(subscription, near, other);
            return;
        }
        if let Address::Feature { instance, service, number, token, pool } = feature {
            let mut offer = self.offer(How::Refer, &party, service, number, token, pool, &call_id);
            offer.near = near;
            offer.far = near.and_then(|near| self.far_of(near));
            self.calls.clear_on_success(subscription, near);
            self.make_offer(instance, offer, AskKind::Refer { subscription });
            return;
        }
        let Some(near) = near else {
            self.decide(subscription, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None);
            return;
        };
        self.blind(subscription, near, &target, &party);
    }

    /// The leg of `party` that a Replaces names.
    fn own_leg(&self, replaces: &Replaces, party: &Party) -> Option<LegId> {
        let leg = self.calls.leg_named(&replaces.call_id, &replaces.to_tag, &replaces.from_tag)?;
        let known = self.calls.leg(leg)?;
        (party.user.is_some() && known.party.user == party.user || party.outside && known.party == *party)
            .then_some(leg)
    }

    fn decide(&mut self, subscription: crate::call::SubscriptionId, status: Status, reason: Option<&str>) {
        self.calls.refer_decided(&mut self.core, subscription, status, reason, &[]);
    }

    /// Refuses a transfer in words.
    pub(super) fn refuse_transfer(&mut self, subscription: crate::call::SubscriptionId, refusal: &Refusal) {
        let status = status_for(refusal.code);
        let line = format!("Warning: {}", crate::call::warning(&self.core.identity.host, refusal));
        self.calls.refer_decided(&mut self.core, subscription, status, Some(&refusal.text), &[line]);
    }

    /// Attended: the far ends of two calls of one phone are joined.
    fn attended(&mut self, subscription: crate::call::SubscriptionId, near: LegId, other: LegId) {
        let Some(far) = self.calls.peer_of(near) else {
            // The call was parked by dialling, and this REFER is how the phone finishes it.
            if self.finish_parked_by_dialling(subscription, near, other) {
                return;
            }
            self.decide(subscription, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None);
            return;
        };
        if self.finish_parked_by_dialling(subscription, near, other) {
            return;
        }
        let Some(consultation) = self.calls.leg(other) else { return };
        if consultation.state == State::Early {
            // Transferred while the target still rings: it goes on as a blind transfer to the same target.
            let target = consultation.incoming.as_ref().and_then(|i| Uri::parse(i.request.uri()).ok());
            let party = consultation.party.clone();
            self.reject(other, Rejection::new(Status::REQUEST_TERMINATED));
            match target {
                Some(target) => self.blind(subscription, near, &target, &party),
                None => self.decide(subscription, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None),
            }
            return;
        }
        match self.calls.peer_of(other) {
            Some(target) if target != far => {
                self.calls.clear_on_success(subscription, [near, other]);
                self.calls.join(&mut self.core, Origin::Refer(subscription), far, target);
            }
            _ => self.decide(subscription, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None),
        }
    }

    /// Blind: the far end is connected with somebody new.
    fn blind(&mut self, subscription: crate::call::SubscriptionId, near: LegId, target: &Uri, by: &Party) {
        let Some(far) = self.far_of(near) else {
            self.decide(subscription, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None);
            return;
        };
        let mut headers = Headers::presenting(&self.core, &far.party, None);
        headers.extra.push((Name::ReferredBy, format!("<{}>", by.uri)));
        let mut ringing = Ringing { headers, timeout: Some(TRANSFER_RING), ..Ringing::default() };
        self.calls.clear_on_success(subscription, [near]);
        let origin = Origin::Refer(subscription);
        if !self.core.is_ours(target) && target.scheme != Scheme::Tel {
            self.decide(subscription, Status::NOT_FOUND, Some("Not a domain of this host"));
            return;
        }
        let (target, history) = self.forwarded_at_once(target);
        ringing.headers.extra.extend(history);
        match self.destination(&target, Errand::Transfer, by) {
            Ok(Destination::Phones(phones)) => {
                ringing.groups.push_back(phones);
                let callee = super::routing::dialled(&target).ok();
                let callee = callee.and_then(|dialled| self.directory.resolve(&dialled)).cloned();
                if let Some(callee) = callee {
                    self.ring_begins(far.leg, &callee, &far.party, false);
                }
                self.calls.ring(&mut self.core, origin, far.leg, ringing);
            }
            Ok(Destination::Trunk { name, number }) => {
                let ringing = Box::new(ringing);
                self.resolve_trunk(&name, &number, Purpose::Ring { origin, leg: far.leg, ringing });
            }
            Err(rejection) => self.decide(subscription, rejection.status, rejection.reason.as_deref()),
        }
    }

    /// The phones that rang for a transfer do so no more.
    pub(super) fn transfer_rang(
        &mut self,
        far: LegId,
        result: &Result<crate::call::Done, crate::call::Failed>,
    ) {
        let fate = match result {
            Ok(crate::call::Done::Answered { leg }) => {
                Fate::Answered(self.calls.leg(*leg).map(|leg| leg.party.clone()).unwrap_or_default())
            }
            Ok(_) | Err(_) => Fate::Unanswered,
        };
        self.orbits.ring_over(self.core.now, far, &fate);
    }

    /// A transfer's operation has ended.
    pub(super) fn transfer_over(
        &mut self,
        subscription: crate::call::SubscriptionId,
        far: LegId,
        result: &Result<crate::call::Done, crate::call::Failed>,
    ) {
        let referrer_there = self.calls.referrer_is_there(subscription);
        self.calls.transfer_finished(&mut self.core, subscription, result);
        if result.is_err() && !referrer_there {
            // The transferor has hung up already. His caller does not fall off: they are rung back to him.
            let refusal = Refusal::new(Code::GENERAL, "the transfer failed");
            self.ring_back_or_release(far, &refusal);
        }
    }
}

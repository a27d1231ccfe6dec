//! Claims: one winner, a courteous answer to everybody else, and the waits for what becomes of them.

use std::time::Duration;

use serde_json::{Value, json};
use switchyard_sdk::ext::orbit::{Claim, Claimed, ClaimedBy, Settled};
use switchyard_sdk::types::{Code, FlowId, Party, Refusal};

use super::number::Number;
use super::occupant::{Occupant, State};
use super::orbits::{Orbits, Timer, label};
use super::parking::STORE_WAIT;
use crate::plugin::Waiter;
use crate::time::{Instant, Now};

/// A claim on a call that is still being parked waits this long: the parker has said the number already, the
/// parked leg's 200 is on its way.
pub(super) const RESERVED_WAIT: Duration = Duration::from_secs(3);
/// So long a late claimant is told who was faster, rather than that nobody waits there.
const WINNER_KEPT: Duration = Duration::from_secs(10);

/// Somebody waits for an answer.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Wait {
    pub(super) flow: FlowId,
    pub(super) number: Number,
    pub(super) what: Await,
}

/// For what.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Await {
    /// The record to be stored.
    Commit,
    /// The call to be parked, then to win it.
    Claim { claim: Box<Claim>, until: Instant },
    /// Another flow to claim the call.
    Claimed,
    /// A claim to come to its end.
    Settled,
}

/// Who won the last claim on a number.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Won {
    claimant: Party,
    at: Instant,
    token: String,
    /// The flow that looked after the call.
    owner: Option<FlowId>,
    pub(super) forget_at: Instant,
}

impl Won {
    fn refusal(&self, now: Now) -> Refusal {
        lost(now, &self.claimant, self.at)
    }
}

fn lost(now: Now, claimant: &Party, at: Instant) -> Refusal {
    let ago = now.instant.saturating_since(at).as_secs_f64();
    Refusal::new(Code::LOST_CLAIM, format!("taken by {} {ago:.1} s ago", claimant.label()))
}

fn store_away() -> Refusal {
    Refusal::new(Code::STORE_AWAY, "the store is away, so nobody can say who gets this call")
}

fn vacant(number: Number) -> Refusal {
    Refusal::new(Code::VACANT, format!("no call waits in {number}"))
}

impl Orbits {
    /// Asks for the call in an orbit, the call a token names, or the call that waits longest in a pool. Answers
    /// [`Claimed`] to exactly one claimant; the others learn who won. A claim on a call that is still being
    /// parked waits for it.
    pub fn claim(&mut self, now: Now, waiter: Waiter, flow: FlowId, claim: Claim) {
        let named = match self.claim_target(now, waiter, &claim) {
            Ok(number) => number,
            Err(refusal) => {
                let number = claim.number.clone().unwrap_or_default();
                return self.refuse_claim(waiter, &number, &claim.claimant, refusal);
            }
        };
        let Some(occupant) = self.occupants.get(&named) else { return };
        match occupant.state {
            // Others may think this host dead, and decide themselves.
            State::Parked if !self.ledger.is_live() => {
                let until = now.instant + STORE_WAIT;
                let what = Await::Claim { claim: Box::new(claim), until };
                self.wait(waiter, Wait { flow, number: named, what });
            }
            State::Parked => {
                let claimed = self.win(now, named, claim.claimant, Some(flow));
                self.answer(waiter, claimed);
            }
            State::Connecting { ref claimant, since, .. } => {
                let refusal = lost(now, claimant, since);
                self.refuse_claim(waiter, &named.to_string(), &claim.claimant, refusal);
            }
            State::Reserved | State::Storing { .. } | State::Restored => {
                let until = now.instant + RESERVED_WAIT;
                self.wait(
                    waiter,
                    Wait { flow, number: named, what: Await::Claim { claim: Box::new(claim), until } },
                );
            }
        }
    }

    /// The occupied number a claim means, with its token checked.
    fn claim_target(&self, now: Now, waiter: Waiter, claim: &Claim) -> Result<Number, Refusal> {
        let kinds = self.kinds_of(waiter.instance)?;
        let token = claim.token.as_deref().map(str::to_ascii_lowercase);
        let number = match (&claim.number, &token) {
            (Some(number), _) => Number::parse(number)
                .map_err(|_| Refusal::new(Code::VACANT, format!("{number} is not an orbit")))?,
            (None, Some(token)) => match self.by_token.get(token) {
                Some(number) => *number,
                None => {
                    let won = self.won.values().find(|won| won.token == *token);
                    let gone = || Refusal::new(Code::VACANT, "that call is not parked any more");
                    return Err(won.map_or_else(gone, |won| won.refusal(now)));
                }
            },
            (None, None) => {
                let oldest = kinds
                    .iter()
                    .filter_map(|kind| self.queue.get(&(claim.pool.clone(), kind.clone()))?.first())
                    .min();
                let none = || Refusal::new(Code::VACANT, format!("no call is parked in pool {}", claim.pool));
                return oldest.map(|(_, _, number)| *number).ok_or_else(none);
            }
        };
        let occupant = self.occupants.get(&number).filter(|occupant| kinds.contains(&occupant.kind));
        let won = self.won.get(&number);
        match (occupant, token) {
            (Some(_), None) => Ok(number),
            (Some(occupant), Some(token)) if occupant.token == token => Ok(number),
            // A link to a call that somebody has just taken, in an orbit that has another call by now.
            (_, Some(token)) if won.is_some_and(|won| won.token == token) => {
                Err(won.map_or_else(|| vacant(number), |won| won.refusal(now)))
            }
            (Some(_), Some(_)) => {
                Err(Refusal::new(Code::WRONG_TOKEN, format!("another call waits in {number} now")))
            }
            (None, None) => Err(won.map_or_else(|| vacant(number), |won| won.refusal(now))),
            (None, Some(_)) => Err(vacant(number)),
        }
    }

    /// A claim without waiting, by the flow that looks after the call: the recalled parker answered. That flow
    /// knows of it by the answer to its ring, so [`claimed`](Self::claimed) does not tell it.
    pub fn claim_now(&mut self, now: Now, number: &str, claimant: Party) -> Result<(), Refusal> {
        let owner = self.occupant(number).and_then(|occupant| occupant.owner);
        self.claim_at_once(now, number, claimant, owner)
    }

    /// A claim without waiting, by no flow at all: somebody took the call through the administrative interface.
    /// The flow that looks after the call hears of it as of any other claim.
    pub fn claim_for_host(&mut self, now: Now, number: &str, claimant: Party) -> Result<(), Refusal> {
        self.claim_at_once(now, number, claimant, None)
    }

    fn claim_at_once(
        &mut self,
        now: Now,
        number: &str,
        claimant: Party,
        flow: Option<FlowId>,
    ) -> Result<(), Refusal> {
        let result = self.try_claim_now(now, number, claimant.clone(), flow);
        if let Err(refusal) = &result {
            let detail = json!({ "verb": "claim", "why": refusal.text, "by": label(&claimant) });
            self.event("orbit.refused", Some(refusal.code), number, detail);
        }
        result
    }

    fn try_claim_now(
        &mut self,
        now: Now,
        text: &str,
        claimant: Party,
        flow: Option<FlowId>,
    ) -> Result<(), Refusal> {
        let number =
            Number::parse(text).map_err(|_| Refusal::new(Code::VACANT, format!("{text} is not an orbit")))?;
        let Some(occupant) = self.occupants.get(&number) else {
            return Err(self.won.get(&number).map_or_else(|| vacant(number), |won| won.refusal(now)));
        };
        match &occupant.state {
            State::Parked if !self.ledger.is_live() => Err(store_away()),
            State::Parked => self.win(now, number, claimant, flow).map(|_| ()),
            State::Connecting { claimant, since, .. } => Err(lost(now, claimant, *since)),
            State::Reserved | State::Storing { .. } | State::Restored => Err(vacant(number)),
        }
    }

    /// The step parked → connecting.
    fn win(
        &mut self,
        now: Now,
        number: Number,
        claimant: Party,
        flow: Option<FlowId>,
    ) -> Result<Claimed, Refusal> {
        let Some(occupant) = self.occupants.get_mut(&number) else { return Err(vacant(number)) };
        let Some(leg) = occupant.leg else { return Err(vacant(number)) };
        occupant.state = State::Connecting { claimant: Box::new(claimant.clone()), flow, since: now.instant };
        let claimed = Claimed { number: number.to_string(), leg, party: occupant.parked.clone() };
        let detail = json!({
            "by": claimant.label(),
            "parked": occupant.parked.label(),
            "parker": occupant.parker.label(),
            "after_ms": now.utc.saturating_since(occupant.since).as_millis() as u64,
        });
        if let Some(flow) = flow {
            self.flows.entry(flow).or_default().numbers.insert(number);
        }
        self.dequeue(number);
        self.event("orbit.claimed", None, &number.to_string(), detail);
        self.remember_winner(now, number, claimant.clone(), now.instant);
        self.answer_waits(
            number,
            |what, asker| matches!(what, Await::Claimed) && Some(asker) != flow,
            |_| Ok(value(&ClaimedBy { claimant: claimant.clone() })),
        );
        Ok(claimed)
    }

    /// Waits for a flow other than the asking one to claim the call in `number`; answers [`ClaimedBy`]. At once
    /// if that is so already, also when the claim was won and the orbit freed before the flow could ask. Refused
    /// when the call left without a claim: 35107 if its party hung up, else 35000.
    pub fn claimed(&mut self, waiter: Waiter, flow: FlowId, number: &str) {
        let Ok(parsed) = Number::parse(number) else {
            let refusal = Refusal::new(Code::VACANT, format!("{number} is not an orbit"));
            return self.answer::<()>(waiter, Err(refusal));
        };
        let missed =
            self.won.get(&parsed).filter(|won| won.owner == Some(flow)).map(|won| won.claimant.clone());
        match self.occupants.get(&parsed) {
            Some(Occupant { state: State::Connecting { claimant, flow: by, .. }, .. })
                if *by != Some(flow) =>
            {
                let claimant = Party::clone(claimant);
                self.answer(waiter, Ok(ClaimedBy { claimant }));
            }
            Some(occupant) if occupant.owner == Some(flow) || missed.is_none() => {
                self.wait(waiter, Wait { flow, number: parsed, what: Await::Claimed });
            }
            Some(_) | None => match missed {
                Some(claimant) => self.answer(waiter, Ok(ClaimedBy { claimant })),
                None => self.answer::<()>(waiter, Err(vacant(parsed))),
            },
        }
    }

    /// Waits until no claim on `number` is under way; answers [`Settled`], at once if none is.
    pub fn settled(&mut self, waiter: Waiter, flow: FlowId, number: &str) {
        let Ok(number) = Number::parse(number) else {
            return self.answer(waiter, Ok(Settled { freed: true, ..Settled::default() }));
        };
        let Some(occupant) = self.occupants.get(&number) else {
            return self.answer(waiter, Ok(Settled { freed: true, ..Settled::default() }));
        };
        match occupant.state {
            // The orbit holds a later call: the one this flow knew has left.
            State::Connecting { flow: by, .. } if occupant.owner != Some(flow) && by != Some(flow) => {
                self.answer(waiter, Ok(Settled { freed: true, ..Settled::default() }));
            }
            State::Connecting { .. } => {
                self.wait(waiter, Wait { flow, number, what: Await::Settled });
            }
            State::Reserved | State::Storing { .. } | State::Restored | State::Parked => {
                let freed = occupant.owner.is_some_and(|owner| owner != flow);
                let deadline_ms = if freed { 0 } else { occupant.terms.deadline_ms };
                self.answer(waiter, Ok(Settled { freed, deadline_ms }));
            }
        }
    }

    /// Gives a claim of this flow back: the call is parked again with the time it had left.
    pub fn unclaim(&mut self, now: Now, flow: FlowId, number: &str) {
        let Ok(number) = Number::parse(number) else { return };
        let state = self.occupants.get(&number).map(|occupant| &occupant.state);
        if matches!(state, Some(State::Connecting { flow: Some(by), .. }) if *by == flow) {
            self.give_back(now, number);
        }
    }

    /// Gives a claim back that [`claim_now`](Self::claim_now) or [`claim_for_host`](Self::claim_for_host) won: it
    /// could not be connected. The claim of another flow, won meanwhile, is left alone.
    pub fn return_claim(&mut self, now: Now, number: &str) {
        let Ok(number) = Number::parse(number) else { return };
        let Some(occupant) = self.occupants.get(&number) else { return };
        if matches!(occupant.state, State::Connecting { flow, .. } if flow.is_none() || flow == occupant.owner)
        {
            self.give_back(now, number);
        }
    }

    pub(super) fn give_back(&mut self, now: Now, number: Number) {
        let Some(occupant) = self.occupants.get_mut(&number) else { return };
        let State::Connecting { claimant, flow, since } = &occupant.state else { return };
        let (claimant, flow) = (claimant.clone(), *flow);
        let spent = now.instant.saturating_since(*since);
        occupant.state = State::Parked;
        if occupant.terms.deadline_ms > 0 {
            let spent_ms = u64::try_from(spent.as_millis()).unwrap_or(u64::MAX);
            occupant.terms.deadline_ms = occupant.terms.deadline_ms.saturating_add(spent_ms);
        }
        let deadline_ms = occupant.terms.deadline_ms;
        self.won.remove(&number);
        if let Some(flow) = flow {
            self.unbook(flow, number);
        }
        self.enqueue(number);
        self.write(now, number);
        let detail = json!({ "by": claimant.label(), "deadline": deadline_ms });
        self.event("orbit.returned", None, &number.to_string(), detail);
        self.answer_waits(
            number,
            |what, _| matches!(what, Await::Settled),
            |_| Ok(value(&Settled { freed: false, deadline_ms })),
        );
    }

    /// Nobody waits for this answer any more. What has an effect goes on: a park is stored all the same.
    pub fn withdraw(&mut self, waiter: Waiter) {
        self.unwait(waiter);
        self.unwait_ringing(waiter);
    }

    pub(super) fn wait(&mut self, waiter: Waiter, wait: Wait) {
        // A plugin that uses a token twice hears of the later command only.
        self.unwait(waiter);
        if let Some(occupant) = self.occupants.get_mut(&wait.number) {
            occupant.waiters.push(waiter);
        }
        self.flows.entry(wait.flow).or_default().waits.insert(waiter);
        if let Await::Claim { until, .. } = wait.what {
            self.timers.insert((until, Timer::Claim(waiter)));
        }
        self.waits.insert(waiter, wait);
    }

    fn unwait(&mut self, waiter: Waiter) -> Option<Wait> {
        let wait = self.waits.remove(&waiter)?;
        if let Await::Claim { until, .. } = wait.what {
            self.timers.remove(&(until, Timer::Claim(waiter)));
        }
        if let Some(occupant) = self.occupants.get_mut(&wait.number) {
            occupant.waiters.retain(|other| *other != waiter);
        }
        if let Some(holdings) = self.flows.get_mut(&wait.flow) {
            holdings.waits.remove(&waiter);
            if holdings.numbers.is_empty() && holdings.waits.is_empty() {
                self.flows.remove(&wait.flow);
            }
        }
        Some(wait)
    }

    /// Answers those who wait for something to happen to `number`, in the order they asked.
    pub(super) fn answer_waits(
        &mut self,
        number: Number,
        concerns: impl Fn(&Await, FlowId) -> bool,
        answer: impl Fn(&Await) -> Result<Value, Refusal>,
    ) {
        let waiters = self.occupants.get(&number).map(|occupant| occupant.waiters.clone());
        for waiter in waiters.unwrap_or_default() {
            if self.waits.get(&waiter).is_some_and(|wait| concerns(&wait.what, wait.flow))
                && let Some(wait) = self.unwait(waiter)
            {
                self.answer(waiter, answer(&wait.what));
            }
        }
    }

    /// The call is parked: the first of those who waited for it wins.
    pub(super) fn serve_waiting_claims(&mut self, now: Now, number: Number) {
        let waiters = self.occupants.get(&number).map(|occupant| occupant.waiters.clone());
        for waiter in waiters.unwrap_or_default() {
            if !matches!(self.waits.get(&waiter), Some(Wait { what: Await::Claim { .. }, .. })) {
                continue;
            }
            if let Some(Wait { flow, what: Await::Claim { claim, .. }, .. }) = self.unwait(waiter) {
                self.claim(now, waiter, flow, Claim { number: Some(number.to_string()), ..*claim });
            }
        }
    }

    pub(super) fn claim_waited_long_enough(&mut self, waiter: Waiter) {
        let Some(Wait { flow, number, what: Await::Claim { claim, .. } }) = self.unwait(waiter) else {
            return;
        };
        let refusal = match self.occupants.get(&number).map(|occupant| &occupant.state) {
            // The store decides when this claim has waited long enough: until then the call may still come.
            Some(State::Storing { until }) => {
                let until = *until;
                return self.wait(waiter, Wait { flow, number, what: Await::Claim { claim, until } });
            }
            Some(State::Restored) => {
                Refusal::new(Code::RETRIEVE_FAILED, format!("the call in {number} is not back yet"))
            }
            Some(State::Parked) if !self.ledger.is_live() => store_away(),
            Some(State::Reserved | State::Parked | State::Connecting { .. }) | None => {
                Refusal::new(Code::VACANT, format!("no call waits in {number} yet"))
            }
        };
        self.refuse_claim(waiter, &number.to_string(), &claim.claimant, refusal);
    }

    /// A stay ended: nobody waits for it any longer.
    pub(super) fn answer_all_gone(&mut self, now: Now, number: Number, occupant: Occupant, why: Refusal) {
        for waiter in occupant.waiters {
            let Some(wait) = self.unwait(waiter) else { continue };
            match wait.what {
                Await::Commit => {
                    let detail = json!({ "verb": "commit", "why": why.text });
                    self.event("orbit.refused", Some(why.code), &number.to_string(), detail);
                    self.answer::<()>(waiter, Err(why.clone()));
                }
                Await::Claim { claim, .. } => {
                    let refusal = match self.won.get(&number) {
                        _ if why.code == Code::STORE_AWAY => why.clone(),
                        Some(won) if won.token == occupant.token => won.refusal(now),
                        Some(_) | None => vacant(number),
                    };
                    self.refuse_claim(waiter, &number.to_string(), &claim.claimant, refusal);
                }
                Await::Claimed => self.answer::<()>(waiter, Err(why.clone())),
                Await::Settled => self.answer(waiter, Ok(Settled { freed: true, ..Settled::default() })),
            }
        }
    }

    pub(super) fn remember_winner(&mut self, now: Now, number: Number, claimant: Party, at: Instant) {
        let Some(occupant) = self.occupants.get(&number) else { return };
        let (token, owner) = (occupant.token.clone(), occupant.owner);
        let forget_at = now.instant + WINNER_KEPT;
        self.won.insert(number, Won { claimant, at, token, owner, forget_at });
        self.timers.insert((forget_at, Timer::Forget(number)));
    }

    fn refuse_claim(&mut self, waiter: Waiter, number: &str, by: &Party, refusal: Refusal) {
        let detail = json!({ "verb": "claim", "why": refusal.text, "by": label(by) });
        self.event("orbit.refused", Some(refusal.code), number, detail);
        self.answer::<()>(waiter, Err(refusal));
    }

    pub(super) fn enqueue(&mut self, number: Number) {
        let Some(occupant) = self.occupants.get(&number) else { return };
        let key = (occupant.pool.clone(), occupant.kind.clone());
        let place = (occupant.terms.parked_at_ms, occupant.stay, number);
        self.queue.entry(key).or_default().insert(place);
    }

    pub(super) fn dequeue(&mut self, number: Number) {
        let Some(occupant) = self.occupants.get(&number) else { return };
        let key = (occupant.pool.clone(), occupant.kind.clone());
        let place = (occupant.terms.parked_at_ms, occupant.stay, number);
        if let Some(queue) = self.queue.get_mut(&key) {
            queue.remove(&place);
            if queue.is_empty() {
                self.queue.remove(&key);
            }
        }
    }
}

fn value<T: serde::Serialize>(answer: &T) -> Value {
    serde_json::to_value(answer).unwrap_or_default()
}

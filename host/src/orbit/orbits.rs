//! The orbit service: what it keeps, how a stay ends, and what falls due.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha12Rng;
use serde::Serialize;
use serde_json::{Value, json};
use switchyard_sdk::ext::orbit as words;
use switchyard_sdk::types::{Code, FlowId, LegId, Party, Refusal};

use super::claims::{Wait, Won};
use super::ledger::{Ledger, Settled};
use super::lot::Lot;
use super::number::Number;
use super::occupant::{Occupant, State};
use super::parking::lapsed;
use super::ranges::Ranges;
use crate::plugin::{FlowEnd, InstanceId, Waiter};
use crate::store::{Expect, Outcome, Standing, StoreError, Transaction};
use crate::time::{Instant, Now};
use crate::tracked::Tracked;

/// What the orbit service wants done. Drained by [`Orbits::poll_output`] after each call.
#[derive(Clone, PartialEq, Debug)]
pub enum OrbitOutput {
    /// Answers a command of a flow.
    Answer {
        /// Who waits for it.
        waiter: Waiter,
        /// The value that the command's documentation names, or a refusal.
        result: Result<Value, Refusal>,
    },
    /// Writes to the store; the answer comes back to [`Orbits::stored`].
    Store {
        /// Comes back with the answer.
        ticket: u64,
        /// What to write.
        transaction: Transaction,
    },
    /// Something happened that is worth telling. Whoever shows the orbit (a lamp, a panel) looks at it again.
    Event {
        /// `orbit.reserved`, `orbit.parked`, `orbit.claimed`, `orbit.returned`, `orbit.freed`, `orbit.refused`,
        /// `orbit.restored`, `orbit.record_damaged`, `orbit.record_lost`.
        what: &'static str,
        /// The reason code, if there is one.
        code: Option<Code>,
        /// The orbit; empty when a refusal concerns none.
        number: String,
        /// Who and why.
        detail: Value,
    },
    /// A call has left its orbit: the parker may be told how (CP-03, CP-13).
    Freed(Box<Freed>),
    /// This leg has left its orbit here, and another host, which has the pool's seat, has taken it up from there.
    Elsewhere(LegId),
    /// The flow that looked after a call ended and the call is still in its orbit. The engine starts another
    /// flow from the record ([`Orbits::set_owner`]), or does what the range does without a plugin.
    Unattended {
        /// The orbit.
        number: String,
        /// How the flow ended.
        how: FlowEnd,
    },
}

/// How a call left its orbit.
#[derive(Clone, PartialEq, Debug)]
pub struct Freed {
    /// The orbit.
    pub number: String,
    /// Who waited there.
    pub parked: Party,
    /// Who parked.
    pub parker: Party,
    /// How it left.
    pub outcome: words::Outcome,
    /// Who has it now, if somebody claimed it.
    pub by: Option<Party>,
}

/// What a flow has to do with orbits; released when it ends.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    /// Orbits it reserved, looks after, or has a claim on.
    pub(super) numbers: BTreeSet<Number>,
    pub(super) waits: BTreeSet<Waiter>,
}

/// What falls due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// When to stop waiting for the store to park the call of this stay.
    Store(Number, u64),
    /// When a claim has waited long enough for its call to be parked.
    Claim(Waiter),
    /// When nobody cares any more who won the last claim on a number.
    Forget(Number),
}

/// Parked calls by when they were parked, then by stay.
pub(super) type Queue = BTreeSet<(u64, u64, Number)>;

/// All calls in orbits, and the numbers they can be in. See the [module](super) for the states.
pub struct Orbits {
    pub(super) host: String,
    pub(super) rng: ChaCha12Rng,
    pub(super) ranges: Ranges,
    /// By pool and kind.
    pub(super) lots: BTreeMap<(String, String), Lot>,
    kinds: BTreeMap<InstanceId, Vec<String>>,
    pub(super) occupants: Tracked<Number, Occupant>,
    pub(super) by_leg: BTreeMap<LegId, Number>,
    pub(super) by_token: BTreeMap<String, Number>,
    /// Parked calls by pool and kind, the one that waits longest first.
    pub(super) queue: BTreeMap<(String, String), Queue>,
    pub(super) flows: BTreeMap<FlowId, Holdings>,
    pub(super) waits: BTreeMap<Waiter, Wait>,
    pub(super) won: BTreeMap<Number, Won>,
    /// Numbers whose record belongs to somebody else, or cannot be read: never chosen, never overwritten.
    pub(super) foreign: BTreeSet<Number>,
    pub(super) ledger: Ledger,
    pub(super) timers: BTreeSet<(Instant, Timer)>,
    pub(super) ringing: super::ringing::RingingCalls,
    pub(super) draining: bool,
    pub(super) stays: u64,
    pub(super) outputs: VecDeque<OrbitOutput>,
}

impl Orbits {
    /// No ranges, no calls. `host` names this host in the records it writes.
    pub fn new(host: &str, rng: ChaCha12Rng) -> Self {
        Orbits {
            host: host.to_string(),
            rng,
            ranges: Ranges::default(),
            lots: BTreeMap::new(),
            kinds: BTreeMap::new(),
            occupants: Tracked::default(),
            by_leg: BTreeMap::new(),
            by_token: BTreeMap::new(),
            queue: BTreeMap::new(),
            flows: BTreeMap::new(),
            waits: BTreeMap::new(),
            won: BTreeMap::new(),
            foreign: BTreeSet::new(),
            ledger: Ledger::new(host),
            timers: BTreeSet::new(),
            ringing: super::ringing::RingingCalls::default(),
            draining: false,
            stays: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Lets a plugin instance use the orbits of these kinds, as its manifest declares. Without it every
    /// reservation and claim of the instance is refused.
    pub fn grant(&mut self, instance: InstanceId, kinds: Vec<String>) {
        self.kinds.insert(instance, kinds);
    }

    /// While true, new parks are refused (CP-22); calls already reserved or parked go on.
    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// The call in an orbit. The number as [`dialled`](super::dialled) gives it.
    pub fn occupant(&self, number: &str) -> Option<&Occupant> {
        self.occupants.get(&Number::parse(number).ok()?)
    }

    /// The numbers in which something may have changed since the last call.
    pub fn take_touched(&mut self) -> BTreeSet<String> {
        self.occupants.take_touched().into_iter().map(|number| number.to_string()).collect()
    }

    /// The orbit a leg is in.
    pub fn orbit_of(&self, leg: LegId) -> Option<&Occupant> {
        self.occupants.get(self.by_leg.get(&leg)?)
    }

    /// Every call in an orbit or on its way into one, by number.
    pub fn occupants(&self) -> impl Iterator<Item = &Occupant> {
        self.occupants.values()
    }

    /// Makes a flow look after a call that is already in an orbit.
    pub fn set_owner(&mut self, number: &str, flow: FlowId) {
        let Ok(number) = Number::parse(number) else { return };
        let Some(occupant) = self.occupants.get_mut(&number) else { return };
        let before = occupant.owner.replace(flow);
        self.flows.entry(flow).or_default().numbers.insert(number);
        if let Some(before) = before.filter(|before| *before != flow) {
            self.unbook(before, number);
        }
    }

    /// Takes a call out of its orbit: by the flow that reserved it, looks after it, or has claimed it. While
    /// somebody else's claim is under way only that claim's flow can.
    pub fn free(&mut self, now: Now, flow: FlowId, number: &str, outcome: words::Outcome) {
        let occupant = self.occupant(number);
        let allowed = occupant.is_some_and(|occupant| match &occupant.state {
            State::Connecting { flow: Some(claimant), .. } => *claimant == flow,
            State::Connecting { flow: None, .. }
            | State::Reserved
            | State::Storing { .. }
            | State::Restored
            | State::Parked => occupant.owner == Some(flow),
        });
        if allowed {
            return self.release(now, number, outcome);
        }
        if occupant.is_some() {
            let detail = json!({ "verb": "free", "why": "the call belongs to another flow" });
            self.event("orbit.refused", Some(Code::GENERAL), number, detail);
        }
    }

    /// Takes a call out of its orbit, whoever has to do with it: the host's own hand.
    pub fn release(&mut self, now: Now, number: &str, outcome: words::Outcome) {
        let Ok(number) = Number::parse(number) else { return };
        let why = match outcome {
            words::Outcome::HungUp => Refusal::new(Code::LEG_GONE, "the caller hung up"),
            words::Outcome::Retrieved
            | words::Outcome::Recalled
            | words::Outcome::OnTimeout
            | words::Outcome::Released
            | words::Outcome::Abandoned => Refusal::new(Code::VACANT, format!("no call waits in {number}")),
        };
        self.vacate(now, number, outcome, why);
    }

    /// A leg ended, by its phone's wish or not: if it was in an orbit, the orbit is free.
    pub fn leg_ended(&mut self, now: Now, leg: LegId, by_party: bool) {
        if let Some(number) = self.by_leg.get(&leg) {
            let number = number.to_string();
            let outcome = if by_party { words::Outcome::HungUp } else { words::Outcome::Released };
            self.release(now, &number, outcome);
        }
    }

    /// A flow ended. Its reservations are gone, the calls it claimed are parked again, and calls it looked after
    /// are [unattended](OrbitOutput::Unattended).
    pub fn flow_ended(&mut self, now: Now, flow: FlowId, how: FlowEnd) {
        let Some(holdings) = self.flows.remove(&flow) else { return };
        for waiter in holdings.waits {
            self.withdraw(waiter);
        }
        for number in holdings.numbers {
            let Some(occupant) = self.occupants.get_mut(&number) else { continue };
            let owned = occupant.owner == Some(flow);
            match occupant.state {
                State::Reserved | State::Storing { .. } if owned => {
                    let why = Refusal::new(Code::VACANT, format!("no call waits in {number}"));
                    self.vacate(now, number, words::Outcome::Abandoned, why);
                    continue;
                }
                State::Connecting { flow: Some(claimant), .. } if claimant == flow => {
                    self.give_back(now, number)
                }
                State::Reserved
                | State::Storing { .. }
                | State::Restored
                | State::Parked
                | State::Connecting { .. } => {}
            }
            if owned && let Some(occupant) = self.occupants.get_mut(&number) {
                occupant.owner = None;
                self.outputs.push_back(OrbitOutput::Unattended { number: number.to_string(), how });
            }
        }
    }

    /// The store answered.
    pub fn stored(&mut self, now: Now, ticket: u64, result: Result<Outcome, StoreError>) {
        let (number, refusal) = match self.ledger.answer(now, ticket, result) {
            None => return,
            Some(Settled::Created(number)) => return self.parked(now, number),
            Some(Settled::Elsewhere(leg)) => return self.outputs.push_back(OrbitOutput::Elsewhere(leg)),
            Some(Settled::Foreign(number)) => {
                self.is_foreign(number);
                (number, Refusal::new(Code::OCCUPIED, format!("a call waits in {number} already")))
            }
            Some(Settled::Outdated(number)) => {
                (number, Refusal::new(Code::FENCED, "others decide about the calls of this pool now"))
            }
            Some(Settled::Refused(number, error)) => (number, Refusal::new(Code::GENERAL, error.to_string())),
        };
        match self.occupants.get(&number).map(|occupant| &occupant.state) {
            None => {}
            Some(State::Storing { .. }) => self.vacate(now, number, words::Outcome::Abandoned, refusal),
            Some(State::Reserved | State::Restored | State::Parked | State::Connecting { .. }) => {
                // The call itself is here and well; only its record is not ours any more.
                let detail = json!({ "why": refusal.text });
                self.event("orbit.record_lost", Some(refusal.code), &number.to_string(), detail);
            }
        }
    }

    /// What any write of this host about a pool's calls expects: that the host still lives, and serves the pool. `None`
    /// while it has lapsed.
    pub fn expectations(&self, pool: &str) -> Option<[(String, Expect); 2]> {
        self.ledger.expectations(pool)
    }

    /// How this host stands with the store. While it has lapsed nothing is stored and no claim is decided: a claim that waits is
    /// refused after a while, or served when the host is live again; a park is refused at once, so that both phones are
    /// told before another host looks after their call.
    pub fn set_standing(&mut self, now: Now, standing: Standing) {
        self.ledger.set_standing(now, standing);
        let live = self.ledger.is_live();
        let waits = |occupant: &Occupant| live || matches!(occupant.state, State::Storing { .. });
        let numbers =
            self.occupants.iter().filter(|(_, occupant)| waits(occupant)).map(|(number, _)| *number);
        for number in numbers.collect::<Vec<_>>() {
            if live {
                self.serve_waiting_claims(now, number);
            } else {
                self.vacate(now, number, words::Outcome::Abandoned, lapsed());
            }
        }
    }

    /// What every write of this life of the host may expect; `None` while it must not write.
    pub fn own_life(&self) -> Option<(String, Expect)> {
        self.ledger.own_life()
    }

    /// Whether a flow has anything to do with an orbit.
    pub fn looks_after(&self, flow: FlowId) -> bool {
        self.flows.get(&flow).is_some_and(|holdings| !holdings.numbers.is_empty())
    }

    /// Whether this host may write.
    pub fn is_live(&self) -> bool {
        self.ledger.is_live()
    }

    /// A pool's epoch, and the revision of the record that says it if there is one.
    pub fn epoch_record(&self, pool: &str) -> (u64, Option<u64>) {
        self.ledger.epoch_record(pool)
    }

    /// Ends a stay: everybody who waits for it is answered, the record goes, the number rests.
    pub(super) fn vacate(&mut self, now: Now, number: Number, outcome: words::Outcome, why: Refusal) {
        let Some(occupant) = self.occupants.get(&number) else { return };
        let claimant = match &occupant.state {
            State::Connecting { claimant, since, .. } => Some((Party::clone(claimant), *since)),
            State::Storing { until } => {
                self.timers.remove(&(*until, Timer::Store(number, occupant.stay)));
                None
            }
            State::Reserved | State::Restored | State::Parked => None,
        };
        let detail = json!({
            "outcome": outcome,
            "leg": occupant.leg,
            "parked": occupant.parked.label(),
            "parker": occupant.parker.label(),
            "by": claimant.as_ref().map(|(claimant, _)| claimant.label()),
            "after_ms": now.utc.saturating_since(occupant.since).as_millis() as u64,
        });
        let freed = Freed {
            number: number.to_string(),
            parked: occupant.parked.clone(),
            parker: occupant.parker.clone(),
            outcome,
            by: claimant.as_ref().map(|(claimant, _)| claimant.clone()),
        };
        self.note_parked_fate(now, &freed);
        self.event("orbit.freed", None, &number.to_string(), detail);
        self.outputs.push_back(OrbitOutput::Freed(Box::new(freed)));
        if let Some((claimant, since)) = claimant {
            self.remember_winner(now, number, claimant, since);
        }
        self.take_out(now, number, why);
    }

    /// Forgets a stay. Everybody who waits for it is answered.
    pub(super) fn take_out(&mut self, now: Now, number: Number, why: Refusal) {
        self.dequeue(number);
        let Some(occupant) = self.occupants.remove(&number) else { return };
        if let Some(leg) = occupant.leg {
            self.by_leg.remove(&leg);
        }
        self.by_token.remove(&occupant.token);
        if let Some(owner) = occupant.owner {
            self.unbook(owner, number);
        }
        if let State::Connecting { flow: Some(flow), .. } = occupant.state {
            self.unbook(flow, number);
        }
        self.ledger.delete(now, number, occupant.leg);
        if !self.foreign.contains(&number) {
            self.lot_of(number, |lot| lot.give_back(now.instant, number));
        }
        self.answer_all_gone(now, number, occupant, why);
    }

    /// When to call [`on_timeout`](Self::on_timeout).
    pub fn next_timeout(&self) -> Option<Instant> {
        let own = self.timers.first().map(|(at, _)| *at);
        own.into_iter().chain(self.ledger.next_timeout()).min()
    }

    /// Does what is due. Early and repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now) {
        while let Some((at, timer)) = self.timers.first().copied()
            && at <= now.instant
        {
            self.timers.pop_first();
            match timer {
                Timer::Store(number, stay) => {
                    if self.occupants.get(&number).is_some_and(|occupant| occupant.stay == stay) {
                        let why = Refusal::new(Code::STORE_AWAY, "the store did not answer in time");
                        self.vacate(now, number, words::Outcome::Abandoned, why);
                    }
                }
                Timer::Claim(waiter) => self.claim_waited_long_enough(waiter),
                Timer::Forget(number) => {
                    if self.won.get(&number).is_some_and(|won| won.forget_at <= now.instant) {
                        self.won.remove(&number);
                    }
                }
            }
        }
        self.ledger.on_timeout(now);
    }

    /// The next thing to be done, until there is none.
    pub fn poll_output(&mut self) -> Option<OrbitOutput> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        let (ticket, transaction) = self.ledger.poll_send()?;
        Some(OrbitOutput::Store { ticket, transaction })
    }

    pub(super) fn answer<T: Serialize>(&mut self, waiter: Waiter, result: Result<T, Refusal>) {
        let result = result.and_then(|value| {
            serde_json::to_value(value).map_err(|error| Refusal::new(Code::GENERAL, error.to_string()))
        });
        self.outputs.push_back(OrbitOutput::Answer { waiter, result });
    }

    pub(super) fn event(&mut self, what: &'static str, code: Option<Code>, number: &str, detail: Value) {
        self.outputs.push_back(OrbitOutput::Event { what, code, number: number.to_string(), detail });
    }

    pub(super) fn kinds_of(&self, instance: InstanceId) -> Result<&[String], Refusal> {
        match self.kinds.get(&instance) {
            Some(kinds) if !kinds.is_empty() => Ok(kinds),
            _ => Err(Refusal::new(Code::GENERAL, "the plugin's manifest declares no kind of orbit")),
        }
    }

    /// The flow has nothing to do with the number any more, unless it is still its owner or claimant.
    pub(super) fn unbook(&mut self, flow: FlowId, number: Number) {
        let still = self.occupants.get(&number).is_some_and(|occupant| {
            occupant.owner == Some(flow)
                || matches!(occupant.state, State::Connecting { flow: Some(claimant), .. } if claimant == flow)
        });
        if !still && let Some(holdings) = self.flows.get_mut(&flow) {
            holdings.numbers.remove(&number);
            if holdings.numbers.is_empty() && holdings.waits.is_empty() {
                self.flows.remove(&flow);
            }
        }
    }

    pub(super) fn next_stay(&mut self) -> u64 {
        self.stays += 1;
        self.stays
    }
}

/// Who is meant, for events.
pub(super) fn label(party: &Party) -> String {
    party.label().to_string()
}

//! The orbit service: reserve, commit, save, free.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha12Rng;
use serde::Serialize;
use serde_json::{Value, json};
use switchyard_sdk::ext::orbit::{self as words, Commit, Reserve, Reserved};
use switchyard_sdk::types::{Code, FlowId, LegId, Party, Refusal};

use super::claims::{Await, Wait, Won};
use super::ledger::{Ledger, Settled};
use super::lot::Lot;
use super::number::Number;
use super::occupant::{Occupant, State};
use super::range::{RangeError, RangeFault, Used};
use super::ranges::Ranges;
use super::record::Record;
use crate::admin::RangeSpec;
use crate::plugin::{FlowEnd, InstanceId, Waiter};
use crate::store::keys::Key;
use crate::store::{Change, Outcome, Snapshot, StoreError, Transaction};
use crate::time::{Instant, Now};

/// A park waits this long for the store; then its caller stays with the parker (35105).
pub(super) const STORE_WAIT: Duration = Duration::from_secs(5);
/// The plugin's part of a record may have this many bytes of JSON.
const PLUGIN_STATE_MAX: usize = 1024;
/// 80 bits: nobody guesses it while a call is parked.
const TOKEN_LEN: usize = 16;
/// A token stands in a SIP URI parameter, which some phones change to lower case: no capitals, and no
/// characters that read alike on a display.
const TOKEN_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

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
    /// The flow that looked after a call ended and the call is still in its orbit. The engine starts another
    /// flow from the record ([`Orbits::set_owner`]), or does what the range does without a plugin.
    Unattended {
        /// The orbit.
        number: String,
        /// How the flow ended.
        how: FlowEnd,
    },
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
    rng: ChaCha12Rng,
    pub(super) ranges: Ranges,
    /// By pool and kind.
    pub(super) lots: BTreeMap<(String, String), Lot>,
    kinds: BTreeMap<InstanceId, Vec<String>>,
    pub(super) occupants: BTreeMap<Number, Occupant>,
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
    draining: bool,
    stays: u64,
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
            occupants: BTreeMap::new(),
            by_leg: BTreeMap::new(),
            by_token: BTreeMap::new(),
            queue: BTreeMap::new(),
            flows: BTreeMap::new(),
            waits: BTreeMap::new(),
            won: BTreeMap::new(),
            foreign: BTreeSet::new(),
            ledger: Ledger::new(host),
            timers: BTreeSet::new(),
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

    /// Numbers no range may contain (ORB-12).
    pub fn set_emergency<'a>(&mut self, numbers: impl IntoIterator<Item = &'a str>) {
        self.ranges.set_emergency(numbers);
    }

    /// While true, new parks are refused (CP-22); calls already reserved or parked go on.
    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// The orbit table.
    pub fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// Takes over the stored ranges and users' numbers. Ranges that cannot be are left out and reported.
    pub fn load(&mut self, snapshot: &Snapshot) -> Vec<RangeError> {
        let errors = self.ranges.load(snapshot);
        self.lay_out();
        errors
    }

    /// Takes over one change of the store: ranges, users' numbers, and orbits that other hosts write.
    pub fn apply(&mut self, now: Now, change: &Change) -> Result<(), RangeError> {
        if let Some(Key::Orbit(number)) = Key::parse(&change.key) {
            if let Ok(number) = Number::parse(&number) {
                let host = change.record.as_ref().map(|record| Record::read(&record.value).map(|r| r.host));
                match host {
                    None => self.not_foreign(now, number),
                    Some(Ok(host)) if host == self.host => {}
                    Some(_) if self.occupants.contains_key(&number) => {}
                    Some(_) => self.is_foreign(number),
                }
            }
            return Ok(());
        }
        if self.ranges.apply(change)? {
            self.lay_out();
        }
        Ok(())
    }

    /// Whether `spec` may be put. `force` overrides what is only about calls and users that depend on the range
    /// now (ORB-15).
    pub fn check_put(
        &self,
        spec: &RangeSpec,
        pools: &[String],
        kinds: &[String],
        force: bool,
    ) -> Result<(), RangeError> {
        self.ranges.check(spec, pools, kinds)?;
        let (Some(before), Ok(after)) = (self.ranges.get(&spec.name), super::Range::new(spec)) else {
            return Ok(());
        };
        let used = self.used(before);
        let wrong = |fault| Err(RangeError { range: spec.name.clone(), fault });
        if before.kind() != after.kind() && !used.is_empty() && !force {
            let (from, to) = (before.kind().to_string(), after.kind().to_string());
            return wrong(RangeFault::KindInUse { from, to, used });
        }
        let still = self.used_within(before, &after);
        let lost = Used { calls: used.calls - still.calls, users: used.users - still.users };
        if !lost.is_empty() && !force {
            return wrong(RangeFault::NumbersInUse { used: lost });
        }
        Ok(())
    }

    /// Whether the range may be removed; with `force` even while calls wait in it. They keep waiting, and their
    /// numbers are not given to a new range's calls before they left.
    pub fn check_remove(&self, name: &str, force: bool) -> Result<(), RangeError> {
        let used = self.used(self.ranges.expect(name)?);
        if used.is_empty() || force {
            return Ok(());
        }
        Err(RangeError { range: name.to_string(), fault: RangeFault::RemovedInUse { used } })
    }

    /// What depends on a range now.
    pub fn used(&self, range: &super::Range) -> Used {
        self.used_within(range, range)
    }

    fn used_within(&self, range: &super::Range, part: &super::Range) -> Used {
        let calls =
            self.occupants.range(range.from()..=range.to()).filter(|(n, _)| part.contains(**n)).count();
        Used { calls, users: self.ranges.users_within(range, part) }
    }

    /// The call in an orbit. The number as [`dialled`](super::dialled) gives it.
    pub fn occupant(&self, number: &str) -> Option<&Occupant> {
        self.occupants.get(&Number::parse(number).ok()?)
    }

    /// The orbit a leg is in.
    pub fn orbit_of(&self, leg: LegId) -> Option<&Occupant> {
        self.occupants.get(self.by_leg.get(&leg)?)
    }

    /// Every call in an orbit or on its way into one, by number.
    pub fn occupants(&self) -> impl Iterator<Item = &Occupant> {
        self.occupants.values()
    }

    /// The free numbers of a pool and kind, lowest first.
    pub fn free_numbers(&self, pool: &str, kind: &str) -> impl Iterator<Item = Number> {
        self.lots.get(&(pool.to_string(), kind.to_string())).into_iter().flat_map(Lot::free_numbers)
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

    /// Takes a free orbit for a flow; answers [`Reserved`] or why not.
    pub fn reserve(&mut self, now: Now, waiter: Waiter, flow: FlowId, reserve: Reserve) {
        let (parked, parker) = (reserve.parked.label().to_string(), reserve.parker.label().to_string());
        let directed = reserve.number.clone();
        let result = self.try_reserve(now, waiter.instance, flow, reserve);
        match &result {
            Ok(reserved) => {
                let detail = json!({ "range": reserved.range, "parked": parked, "parker": parker });
                self.event("orbit.reserved", None, &reserved.number, detail);
            }
            Err(refusal) => {
                let detail =
                    json!({ "verb": "reserve", "why": refusal.text, "by": parker, "parked": parked });
                self.event("orbit.refused", Some(refusal.code), directed.as_deref().unwrap_or(""), detail);
            }
        }
        self.answer(waiter, result);
    }

    fn try_reserve(
        &mut self,
        now: Now,
        instance: InstanceId,
        flow: FlowId,
        reserve: Reserve,
    ) -> Result<Reserved, Refusal> {
        if self.draining {
            return Err(Refusal::new(Code::DRAINING, "this host takes no new parked calls"));
        }
        if let Some(number) = reserve.leg.and_then(|leg| self.by_leg.get(&leg)) {
            return Err(Refusal::new(Code::DOUBLE_PARK, format!("this call is parked on {number} already")));
        }
        let number = match &reserve.number {
            Some(number) => self.directed(instance, number)?,
            None => self.choose(now, instance, &reserve)?,
        };
        let Some(range) = self.ranges.range_of(number) else { return Err(not_an_orbit(&number)) };
        let (range, pool, kind) =
            (range.name().to_string(), range.pool().to_string(), range.kind().to_string());
        if let Some(lot) = self.lots.get_mut(&(pool.clone(), kind.clone())) {
            lot.take(number);
        }
        self.stays += 1;
        let token = self.new_token();
        let occupant = Occupant {
            number,
            range: range.clone(),
            pool,
            kind,
            token: token.clone(),
            state: State::Reserved,
            leg: reserve.leg,
            owner: Some(flow),
            parked: reserve.parked,
            parker: reserve.parker,
            terms: words::Terms::default(),
            plugin_state: Value::Null,
            facts: Value::Null,
            since: now.utc,
            stay: self.stays,
            waiters: Vec::new(),
        };
        if let Some(leg) = reserve.leg {
            self.by_leg.insert(leg, number);
        }
        self.by_token.insert(token.clone(), number);
        self.flows.entry(flow).or_default().numbers.insert(number);
        self.occupants.insert(number, occupant);
        Ok(Reserved { number: number.to_string(), token, range })
    }

    /// The number somebody wants to park on, if it can be had.
    fn directed(&self, instance: InstanceId, text: &str) -> Result<Number, Refusal> {
        let number = Number::parse(text).map_err(|_| not_an_orbit(&text))?;
        let kinds = self.kinds_of(instance)?;
        if !self.ranges.range_of(number).is_some_and(|range| kinds.iter().any(|kind| kind == range.kind())) {
            return Err(not_an_orbit(&number));
        }
        match self.occupants.get(&number).map(|occupant| &occupant.state) {
            None if self.foreign.contains(&number) => {}
            None => return Ok(number),
            Some(State::Reserved | State::Storing { .. }) => {
                return Err(Refusal::new(Code::OCCUPIED, format!("{number} is just being taken")));
            }
            Some(State::Restored | State::Parked | State::Connecting { .. }) => {}
        }
        Err(Refusal::new(Code::OCCUPIED, format!("a call waits in {number} already")))
    }

    fn choose(&mut self, now: Now, instance: InstanceId, reserve: &Reserve) -> Result<Number, Refusal> {
        let cooldown = Duration::from_millis(reserve.reuse_cooldown_ms);
        let mut size = 0;
        for kind in self.kinds_of(instance)?.to_vec() {
            let Some(lot) = self.lots.get(&(reserve.pool.clone(), kind)) else { continue };
            size += lot.size();
            if let Some(number) = lot.choose(now.instant, reserve.choice, cooldown, &mut self.rng) {
                return Ok(number);
            }
        }
        let text = match size {
            0 => format!("pool {} has no orbits", reserve.pool),
            1 => format!("the only orbit of pool {} is taken", reserve.pool),
            size => format!("all {size} orbits of pool {} are taken", reserve.pool),
        };
        Err(Refusal::new(Code::FULL, text))
    }

    /// Stores a reserved call; answers once it is stored (then it is parked), or why not. `leg_facts` is what
    /// the engine needs to take the leg up again after a restart.
    pub fn commit(&mut self, now: Now, waiter: Waiter, flow: FlowId, commit: Commit, leg_facts: Value) {
        match self.try_commit(now, flow, commit, leg_facts) {
            Ok(number) => {
                let until = now.instant + STORE_WAIT;
                let Some(occupant) = self.occupants.get_mut(&number) else { return };
                occupant.state = State::Storing { until };
                let stay = occupant.stay;
                let record = Record::of(&self.host, occupant).to_bytes();
                self.timers.insert((until, Timer::Store(number, stay)));
                self.wait(waiter, Wait { flow, number, what: Await::Commit });
                self.ledger.create(now, number, record);
            }
            Err((number, refusal)) => {
                let detail = json!({ "verb": "commit", "why": refusal.text });
                self.event("orbit.refused", Some(refusal.code), &number, detail);
                self.answer::<()>(waiter, Err(refusal));
            }
        }
    }

    fn try_commit(
        &mut self,
        now: Now,
        flow: FlowId,
        commit: Commit,
        leg_facts: Value,
    ) -> Result<Number, (String, Refusal)> {
        let text = commit.number;
        let refuse = |code, why: String| Err((text.clone(), Refusal::new(code, why)));
        let occupant = Number::parse(&text).ok().and_then(|number| self.occupants.get_mut(&number));
        let Some(occupant) = occupant.filter(|occupant| occupant.owner == Some(flow)) else {
            // The reservation was there and is not: its leg ended meanwhile.
            return refuse(Code::LEG_GONE, format!("{text} is no longer reserved for this call"));
        };
        match occupant.state {
            State::Reserved => {}
            State::Storing { .. } | State::Restored | State::Parked | State::Connecting { .. } => {
                return refuse(Code::DOUBLE_PARK, format!("the call is parked on {text} already"));
            }
        }
        if occupant.leg.is_none() {
            return refuse(Code::NOTHING_TO_PARK, format!("no call was named when {text} was reserved"));
        }
        if !fits(&commit.state) {
            return refuse(Code::GENERAL, format!("a plugin's state has at most {PLUGIN_STATE_MAX} bytes"));
        }
        occupant.terms = commit.terms;
        if occupant.terms.parked_at_ms == 0 {
            occupant.terms.parked_at_ms = now.utc.0;
        }
        occupant.plugin_state = commit.state;
        occupant.facts = leg_facts;
        Ok(occupant.number)
    }

    /// Replaces terms and plugin state of a call, and the leg facts if given. Written behind; of several saves
    /// in a row only the last reaches the store.
    pub fn save(&mut self, now: Now, flow: FlowId, commit: Commit, leg_facts: Option<Value>) {
        let occupant = Number::parse(&commit.number).ok().and_then(|number| self.occupants.get_mut(&number));
        let occupant = occupant.filter(|occupant| occupant.owner == Some(flow) && fits(&commit.state));
        let Some(occupant) = occupant else {
            let why = "no such call of this flow, or its state is too long";
            let detail = json!({ "verb": "save", "why": why });
            return self.event("orbit.refused", Some(Code::GENERAL), &commit.number, detail);
        };
        // The place in the queue: a call cannot come to wait longer by saving.
        let parked_at_ms = match occupant.terms.parked_at_ms {
            0 => commit.terms.parked_at_ms,
            known => known,
        };
        occupant.terms = words::Terms { parked_at_ms, ..commit.terms };
        occupant.plugin_state = commit.state;
        if let Some(facts) = leg_facts {
            occupant.facts = facts;
        }
        let number = occupant.number;
        self.write(now, number);
    }

    /// Replaces the leg facts of a call: its dialog moved on. Written behind.
    pub fn save_leg(&mut self, now: Now, leg: LegId, leg_facts: Value) {
        let Some(number) = self.by_leg.get(&leg).copied() else { return };
        let Some(occupant) = self.occupants.get_mut(&number) else { return };
        occupant.facts = leg_facts;
        self.write(now, number);
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

    /// A leg ended: if it was in an orbit, the orbit is free.
    pub fn leg_ended(&mut self, now: Now, leg: LegId) {
        if let Some(number) = self.by_leg.get(&leg) {
            let number = number.to_string();
            self.release(now, &number, words::Outcome::HungUp);
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
            Some(Settled::Foreign(number)) => {
                self.is_foreign(number);
                (number, Refusal::new(Code::OCCUPIED, format!("a call waits in {number} already")))
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

    fn parked(&mut self, now: Now, number: Number) {
        let Some(occupant) = self.occupants.get_mut(&number) else { return };
        let State::Storing { until } = occupant.state else { return };
        occupant.state = State::Parked;
        occupant.since = now.utc;
        self.timers.remove(&(until, Timer::Store(number, occupant.stay)));
        let detail = json!({
            "range": occupant.range,
            "pool": occupant.pool,
            "parked": occupant.parked.label(),
            "parker": occupant.parker.label(),
            "deadline": occupant.terms.deadline_ms,
        });
        self.event("orbit.parked", None, &number.to_string(), detail);
        self.answer_waits(number, |what, _| matches!(what, Await::Commit), |_| Ok(Value::Null));
        self.enqueue(number);
        self.serve_waiting_claims(now, number);
    }

    /// Ends a stay: everybody who waits for it is answered, the record goes, the number rests.
    pub(super) fn vacate(&mut self, now: Now, number: Number, outcome: words::Outcome, why: Refusal) {
        let Some(occupant) = self.occupants.get(&number) else { return };
        let claimant = match &occupant.state {
            State::Connecting { claimant, since, .. } => Some((claimant.clone(), *since)),
            State::Storing { until } => {
                self.timers.remove(&(*until, Timer::Store(number, occupant.stay)));
                None
            }
            State::Reserved | State::Restored | State::Parked => None,
        };
        let detail = json!({
            "outcome": outcome,
            "parked": occupant.parked.label(),
            "parker": occupant.parker.label(),
            "by": claimant.as_ref().map(|(claimant, _)| claimant.label()),
            "after_ms": now.utc.saturating_since(occupant.since).as_millis() as u64,
        });
        self.event("orbit.freed", None, &number.to_string(), detail);
        if let Some((claimant, since)) = claimant {
            self.remember_winner(now, number, claimant, since);
        }
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
        self.ledger.delete(now, number);
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

    /// Brings the record up to what is true here, when the store has time.
    pub(super) fn write(&mut self, now: Now, number: Number) {
        let Some(occupant) = self.occupants.get(&number) else { return };
        let record = Record::of(&self.host, occupant).to_bytes();
        self.ledger.update(now, number, record);
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

    pub(super) fn lot_of(&mut self, number: Number, then: impl FnOnce(&mut Lot) -> bool) {
        let Some(range) = self.ranges.range_of(number) else { return };
        let key = (range.pool().to_string(), range.kind().to_string());
        if let Some(lot) = self.lots.get_mut(&key) {
            then(lot);
        }
    }

    pub(super) fn is_foreign(&mut self, number: Number) {
        self.foreign.insert(number);
        self.lot_of(number, |lot| lot.take(number));
    }

    fn not_foreign(&mut self, now: Now, number: Number) {
        if self.foreign.remove(&number) && !self.occupants.contains_key(&number) {
            self.lot_of(number, |lot| lot.give_back(now.instant, number));
        }
    }

    pub(super) fn next_stay(&mut self) -> u64 {
        self.stays += 1;
        self.stays
    }

    /// Builds the lots anew from the ranges. What is taken stays taken, what rests goes on resting.
    fn lay_out(&mut self) {
        let mut numbers: BTreeMap<(String, String), Vec<Number>> = BTreeMap::new();
        for range in self.ranges.iter() {
            let key = (range.pool().to_string(), range.kind().to_string());
            numbers.entry(key).or_default().extend(range.numbers());
        }
        let before = std::mem::take(&mut self.lots);
        let taken = |number| self.occupants.contains_key(&number) || self.foreign.contains(&number);
        let given_back = |number| before.values().find_map(|lot| lot.given_back_at(number));
        self.lots =
            numbers.into_iter().map(|(key, numbers)| (key, Lot::new(numbers, taken, given_back))).collect();
    }

    fn new_token(&mut self) -> String {
        loop {
            let mut bytes = [0; TOKEN_LEN];
            self.rng.fill_bytes(&mut bytes);
            let letter = |byte: &u8| char::from(TOKEN_ALPHABET[usize::from(byte % 32)]);
            let token: String = bytes.iter().map(letter).collect();
            if !self.by_token.contains_key(&token) {
                return token;
            }
        }
    }
}

fn not_an_orbit(number: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Code::VACANT, format!("{number} is not an orbit of this kind"))
}

fn fits(state: &Value) -> bool {
    serde_json::to_vec(state).is_ok_and(|bytes| bytes.len() <= PLUGIN_STATE_MAX)
}

/// Who is meant, for events.
pub(super) fn label(party: &Party) -> String {
    party.label().to_string()
}

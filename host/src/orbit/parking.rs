//! Into an orbit: reserve, commit, save.

use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};
use switchyard_sdk::ext::orbit::{Commit, Reserve, Reserved, Terms};
use switchyard_sdk::types::{Code, FlowId, LegId, Refusal};

use super::claims::{Await, Wait};
use super::number::Number;
use super::occupant::{Occupant, State};
use super::orbits::{Orbits, Timer};
use super::record::Record;
use crate::plugin::{InstanceId, Waiter};
use crate::time::Now;

/// A park waits this long for the store; then its caller stays with the parker (35105).
pub(super) const STORE_WAIT: Duration = Duration::from_secs(5);
/// The plugin's part of a record may have this many bytes of JSON.
const PLUGIN_STATE_MAX: usize = 1024;
/// 80 bits: nobody guesses it while a call is parked.
const TOKEN_LEN: usize = 16;
/// A token stands in a SIP URI parameter, which some phones change to lower case: no capitals, and no
/// characters that read alike on a display.
const TOKEN_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

impl Orbits {
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
        if !self.ledger.is_live() {
            return Err(lapsed());
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
            terms: Terms::default(),
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
                let pool = occupant.pool.clone();
                let record = Record::of(&self.host, self.ledger.epoch(&pool), occupant).to_bytes();
                self.timers.insert((until, Timer::Store(number, stay)));
                self.wait(waiter, Wait { flow, number, what: Await::Commit });
                self.ledger.create(now, number, &pool, record);
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
        // Its music has begun; another host may take the call up as it was before at any moment.
        if !self.ledger.is_live() {
            return Err((text.clone(), lapsed()));
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
        occupant.terms = Terms { parked_at_ms, ..commit.terms };
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

    pub(super) fn parked(&mut self, now: Now, number: Number) {
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

    /// Brings the record up to what is true here, when the store has time.
    pub(super) fn write(&mut self, now: Now, number: Number) {
        let Some(occupant) = self.occupants.get(&number) else { return };
        let record = Record::of(&self.host, self.ledger.epoch(&occupant.pool), occupant).to_bytes();
        self.ledger.update(now, number, record);
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

/// Why a host that others may take for dead parks nothing.
pub(super) fn lapsed() -> Refusal {
    Refusal::new(Code::FENCED, "this host has lost the store, and another may look after its calls")
}

fn not_an_orbit(number: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Code::VACANT, format!("{number} is not an orbit of this kind"))
}

fn fits(state: &Value) -> bool {
    serde_json::to_vec(state).is_ok_and(|bytes| bytes.len() <= PLUGIN_STATE_MAX)
}

//! After a restart: each recorded call keeps its orbit until its leg is back, or is known to be gone.

use serde_json::{Value, json};
use switchyard_sdk::ext::orbit as words;
use switchyard_sdk::types::{Code, FlowId, LegId, Refusal};

use super::number::Number;
use super::occupant::{Occupant, State};
use super::orbits::Orbits;
use super::record::{Record, RestoredCall};
use crate::store::Snapshot;
use crate::store::keys::Key;
use crate::time::{Now, Utc};

/// Which recorded calls to take up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose<'a> {
    /// All: there is no other host.
    All,
    /// Those this host has parked.
    Host,
    /// Those in orbits of a pool that is served here from now on.
    Pool(&'a str),
}

impl Whose<'_> {
    fn includes(self, record: &Record, host: &str) -> bool {
        match self {
            Whose::All => true,
            Whose::Host => record.host == host,
            Whose::Pool(pool) => record.pool == pool,
        }
    }
}

impl Orbits {
    /// Takes every recorded call over; where other hosts use the store as well (not `alone`), those this host wrote. Each
    /// holds its orbit, without a leg, until [`adopted`](Self::adopted) or [`forget`](Self::forget). A record that
    /// cannot be read blocks its orbit and is left alone: a later version may have written it.
    pub fn restore(&mut self, now: Now, snapshot: &Snapshot, whose: Whose<'_>) -> Vec<RestoredCall> {
        let mut calls = Vec::new();
        for (key, stored) in &snapshot.records {
            let Some(Key::Orbit(text)) = Key::parse(key) else { continue };
            let Ok(number) = Number::parse(&text) else { continue };
            if self.occupants.contains_key(&number) {
                continue;
            }
            let read = Record::read(&stored.value).and_then(|record| {
                let same = record.number == text;
                same.then_some(record).ok_or_else(|| "it names another orbit".to_string())
            });
            match read {
                Ok(record) if !whose.includes(&record, &self.host) => self.is_foreign(number),
                Ok(record) => {
                    self.foreign.remove(&number);
                    self.ledger.found(number, &record.pool, stored.value.clone(), stored.revision);
                    self.hold_restored(now, number, &record);
                    calls.push(RestoredCall { record });
                }
                Err(why) => {
                    self.is_foreign(number);
                    self.event("orbit.record_damaged", Some(Code::GENERAL), &text, json!({ "why": why }));
                }
            }
        }
        calls
    }

    fn hold_restored(&mut self, now: Now, number: Number, record: &Record) {
        let since = match record.terms.parked_at_ms {
            0 => now.utc,
            parked_at_ms => Utc(parked_at_ms),
        };
        let occupant = Occupant {
            number,
            range: record.range.clone(),
            pool: record.pool.clone(),
            kind: record.kind.clone(),
            token: record.token.clone(),
            state: State::Restored,
            leg: None,
            owner: None,
            parked: record.parked.clone(),
            parker: record.parker.clone(),
            terms: words::Terms { parked_at_ms: since.0, ..record.terms.clone() },
            plugin_state: record.plugin.clone(),
            facts: record.leg.clone(),
            since,
            stay: self.next_stay(),
            waiters: Vec::new(),
        };
        self.by_token.insert(record.token.clone(), number);
        self.lot_of(number, |lot| lot.take(number));
        self.occupants.insert(number, occupant);
    }

    /// The leg of a restored call is asked whether it is still there: how it stands from now on. Written behind.
    pub fn restoring(&mut self, now: Now, number: &str, leg_facts: Value) {
        let Ok(number) = Number::parse(number) else { return };
        let Some(occupant) = self.occupants.get_mut(&number) else { return };
        if occupant.state == State::Restored {
            occupant.facts = leg_facts;
            self.write(now, number);
        }
    }

    /// The leg of a restored call is back, and `owner` looks after it: it is parked as before.
    pub fn adopted(&mut self, now: Now, number: &str, leg: LegId, owner: FlowId) {
        let Ok(parsed) = Number::parse(number) else { return };
        if self.by_leg.contains_key(&leg) {
            return;
        }
        let Some(occupant) = self.occupants.get_mut(&parsed) else { return };
        if occupant.state != State::Restored {
            return;
        }
        occupant.state = State::Parked;
        occupant.leg = Some(leg);
        occupant.owner = Some(owner);
        let detail = json!({ "parked": occupant.parked.label(), "deadline": occupant.terms.deadline_ms });
        self.by_leg.insert(leg, parsed);
        self.flows.entry(owner).or_default().numbers.insert(parsed);
        self.enqueue(parsed);
        // The record may name another host: from here on it is this one's.
        self.write(now, parsed);
        self.event("orbit.restored", None, number, detail);
        self.serve_waiting_claims(now, parsed);
    }

    /// The leg of a restored call is gone (481, 408): its orbit is free.
    pub fn forget(&mut self, now: Now, number: &str) {
        let Ok(parsed) = Number::parse(number) else { return };
        let why = Refusal::new(Code::LEG_GONE, "the caller was gone after a restart");
        self.vacate(now, parsed, words::Outcome::HungUp, why);
    }

    /// Somebody else looks after the calls in a pool's orbits from now on. Their records are left as they are; who waits
    /// here for one of them is told that it is gone.
    pub fn put_down(&mut self, now: Now, pool: &str) -> Vec<LegId> {
        let numbers: Vec<Number> = self
            .occupants
            .iter()
            .filter(|(_, occupant)| occupant.pool == pool)
            .map(|(number, _)| *number)
            .collect();
        let mut legs = self.ledger.put_down(pool);
        for number in numbers {
            legs.extend(self.occupants.get(&number).and_then(|occupant| occupant.leg));
            self.is_foreign(number);
            let why = Refusal::new(Code::FENCED, "others decide about the calls of this pool now");
            self.take_out(now, number, why);
        }
        legs
    }
}

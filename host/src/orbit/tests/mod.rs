//! The orbit service with a store beside it and a clock in the test's hand.

mod claiming;
mod fencing;
mod model;
mod parking;
mod restart;
mod ringing;
mod storing;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use switchyard_sdk::ext::orbit::{Choice, Claim, Claimed, Commit, Outcome, Reserve, Reserved, Terms};
use switchyard_sdk::types::{Code, FlowId, LegId, Party, Refusal, Token};

use super::{OrbitOutput, Orbits, Whose, put_operation};
use crate::admin::RangeSpec;
use crate::plugin::{FlowEnd, InstanceId, Waiter};
use crate::store::keys::orbit_key;
use crate::store::{MemoryStore, Operation, StoreError, Transaction};
use crate::time::{Instant, Now, Utc};

const INSTANCE: InstanceId = InstanceId(1);
/// 2026-11-21T00:00:00Z.
const START: Utc = Utc(1_795_219_200_000);

struct World {
    now: Now,
    orbits: Orbits,
    store: MemoryStore,
    /// Writes the test has not let through yet; with `store_answers` there are none.
    writes: VecDeque<(u64, Transaction)>,
    store_answers: bool,
    answers: BTreeMap<u64, Result<Value, Refusal>>,
    /// Tokens in the order in which they were answered.
    answered: Vec<u64>,
    events: Vec<(&'static str, Option<Code>, String, Value)>,
    unattended: Vec<(String, FlowEnd)>,
    last_token: u64,
}

impl World {
    /// A lot of `size` orbits from 7000 on.
    fn new(size: u32) -> World {
        World::with(MemoryStore::new(), size)
    }

    fn with(store: MemoryStore, size: u32) -> World {
        let park = range("east-park", "7000", &(6999 + size).to_string(), "call-park");
        let groups = range("east-groups", "*100", "*109", "group-pickup");
        let operations = vec![put_operation(&park), put_operation(&groups), put_host("fe1")];
        store.apply(&Transaction { operations, ..Transaction::default() }).unwrap();
        let mut orbits = Orbits::new("fe1", ChaCha12Rng::seed_from_u64(7));
        assert_eq!(orbits.load(&store.snapshot("")), []);
        orbits.grant(INSTANCE, vec!["call-park".into()]);
        World {
            now: Now { instant: Instant::after_start(Duration::from_secs(1000)), utc: START },
            orbits,
            store,
            writes: VecDeque::new(),
            store_answers: true,
            answers: BTreeMap::new(),
            answered: Vec::new(),
            events: Vec::new(),
            unattended: Vec::new(),
            last_token: 0,
        }
    }

    fn waiter(&mut self) -> Waiter {
        self.last_token += 1;
        Waiter { instance: INSTANCE, token: Token(self.last_token) }
    }

    /// Takes everything out of the service and lets the store answer.
    fn drain(&mut self) {
        while let Some(output) = self.orbits.poll_output() {
            match output {
                OrbitOutput::Answer { waiter, result } => {
                    self.answered.push(waiter.token.0);
                    assert!(
                        self.answers.insert(waiter.token.0, result).is_none(),
                        "{waiter:?} answered twice"
                    );
                }
                OrbitOutput::Store { ticket, transaction } if self.store_answers => {
                    let result = self.store.apply(&transaction);
                    self.orbits.stored(self.now, ticket, result);
                }
                OrbitOutput::Store { ticket, transaction } => self.writes.push_back((ticket, transaction)),
                OrbitOutput::Event { what, code, number, detail } => {
                    self.events.push((what, code, number, detail));
                }
                OrbitOutput::Freed(_) | OrbitOutput::Elsewhere(_) => {}
                OrbitOutput::Unattended { number, how } => self.unattended.push((number, how)),
            }
        }
        assert_eq!(self.orbits.check(), Vec::<String>::new());
    }

    /// Answers the oldest write: as the store would, or with an error, before which it may be written.
    fn answer_write(&mut self, written: bool, error: Option<StoreError>) {
        let (ticket, transaction) = self.writes.pop_front().expect("a write");
        let result = if written { self.store.apply(&transaction) } else { Err(away()) };
        self.orbits.stored(self.now, ticket, error.map_or(result, Err));
        self.drain();
    }

    /// Moves the clock on, stopping wherever something is due.
    fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        while let Some(due) = self.orbits.next_timeout().filter(|due| *due <= end) {
            self.move_to(due.max(self.now.instant));
            self.orbits.on_timeout(self.now);
            self.drain();
        }
        self.move_to(end);
        self.orbits.on_timeout(self.now);
        self.drain();
    }

    fn move_to(&mut self, instant: Instant) {
        let utc = self.now.utc + instant.saturating_since(self.now.instant);
        self.now = Now { instant, utc };
    }

    fn answer<T: DeserializeOwned>(&self, token: u64) -> Option<Result<T, Refusal>> {
        let answer = self.answers.get(&token)?.clone();
        Some(answer.map(|value| serde_json::from_value(value).expect("the documented answer")))
    }

    fn reserve_with(&mut self, flow: u64, reserve: Reserve) -> Result<Reserved, Refusal> {
        let waiter = self.waiter();
        self.orbits.reserve(self.now, waiter, FlowId(flow), reserve);
        self.drain();
        self.answer(waiter.token.0).expect("reserve is answered at once")
    }

    fn reserve(&mut self, flow: u64, leg: u64) -> Result<Reserved, Refusal> {
        self.reserve_with(flow, reserve(leg))
    }

    fn commit_with(&mut self, flow: u64, commit: Commit) -> u64 {
        let waiter = self.waiter();
        let facts = json!({ "call_id": format!("leg-of-{flow}") });
        self.orbits.commit(self.now, waiter, FlowId(flow), commit, facts);
        self.drain();
        waiter.token.0
    }

    fn commit(&mut self, flow: u64, number: &str) -> u64 {
        let commit = commit(self.now, number);
        self.commit_with(flow, commit)
    }

    /// Parks `leg`, looked after by `flow`.
    fn park(&mut self, flow: u64, leg: u64) -> Reserved {
        let reserved = self.reserve(flow, leg).unwrap();
        let token = self.commit(flow, &reserved.number);
        assert_eq!(self.answer::<()>(token), Some(Ok(())));
        reserved
    }

    fn start_claim(&mut self, flow: u64, claim: Claim) -> u64 {
        let waiter = self.waiter();
        self.orbits.claim(self.now, waiter, FlowId(flow), claim);
        self.drain();
        waiter.token.0
    }

    fn claim_with(&mut self, flow: u64, claim: Claim) -> Result<Claimed, Refusal> {
        let token = self.start_claim(flow, claim);
        self.answer(token).expect("an answer at once")
    }

    fn claim(&mut self, flow: u64, number: &str, who: &str) -> Result<Claimed, Refusal> {
        self.claim_with(flow, claim(number, who))
    }

    fn claimed(&mut self, flow: u64, number: &str) -> u64 {
        let waiter = self.waiter();
        self.orbits.claimed(waiter, FlowId(flow), number);
        self.drain();
        waiter.token.0
    }

    fn settled(&mut self, flow: u64, number: &str) -> u64 {
        let waiter = self.waiter();
        self.orbits.settled(waiter, FlowId(flow), number);
        self.drain();
        waiter.token.0
    }

    fn free(&mut self, flow: u64, number: &str, outcome: Outcome) {
        self.orbits.free(self.now, FlowId(flow), number, outcome);
        self.drain();
    }

    fn unclaim(&mut self, flow: u64, number: &str) {
        self.orbits.unclaim(self.now, FlowId(flow), number);
        self.drain();
    }

    fn leg_ends(&mut self, leg: u64) {
        self.orbits.leg_ended(self.now, LegId(leg), true);
        self.drain();
    }

    fn flow_ends(&mut self, flow: u64, how: FlowEnd) {
        self.orbits.flow_ended(self.now, FlowId(flow), how);
        self.drain();
    }

    fn state(&self, number: &str) -> &'static str {
        self.orbits.occupant(number).map_or("free", |occupant| occupant.state.word())
    }

    fn stored(&self, number: &str) -> Option<Value> {
        let record = self.store.snapshot("").records.remove(&orbit_key(number))?;
        Some(serde_json::from_slice(&record.value).unwrap())
    }

    fn events_of(&self, what: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event.0 == what).map(|event| &event.3).collect()
    }
}

fn range(name: &str, from: &str, to: &str, kind: &str) -> RangeSpec {
    let pool = name.split('-').next().unwrap().to_string();
    RangeSpec { name: name.into(), from: from.into(), to: to.into(), kind: kind.into(), pool }
}

fn party(name: &str) -> Party {
    Party { user: Some(name.to_lowercase()), display: Some(name.into()), ..Party::default() }
}

fn reserve(leg: u64) -> Reserve {
    Reserve {
        pool: "east".into(),
        choice: Choice::Lowest,
        leg: Some(LegId(leg)),
        parked: party("Caller"),
        parker: party("Bob"),
        ..Reserve::default()
    }
}

fn directed(leg: u64, number: &str) -> Reserve {
    Reserve { number: Some(number.into()), ..reserve(leg) }
}

fn commit(now: Now, number: &str) -> Commit {
    let terms = Terms {
        parked_at_ms: now.utc.0,
        deadline_ms: now.utc.0 + 90_000,
        on_timeout_uri: Some("sip:frontdesk@example.test".into()),
        ..Terms::default()
    };
    Commit { number: number.into(), terms, state: json!({ "v": 1 }) }
}

fn claim(number: &str, who: &str) -> Claim {
    Claim { number: Some(number.into()), pool: "east".into(), token: None, claimant: party(who) }
}

fn oldest(who: &str) -> Claim {
    Claim { number: None, ..claim("", who) }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (u16, String) {
    let refusal = result.expect_err("a refusal");
    (refusal.code.0, refusal.text)
}

fn away() -> StoreError {
    StoreError::Unavailable("no quorum".into())
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What makes a host a living one.
fn put_host(name: &str) -> Operation {
    Operation::Put { key: crate::store::keys::host_key(name), value: "{}".into() }
}

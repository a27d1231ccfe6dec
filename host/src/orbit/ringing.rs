//! Ringing calls: who rings at whom, in which groups' queues, and who takes one.
//!
//! A call rings at one callee at a time; it is named by its caller's leg. Groups see it in their queue, the one that
//! rings longest first (GCP-05). Taking it is a claim: one winner, and the others learn who it was, also a moment
//! after the call has stopped ringing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::json;
use switchyard_sdk::ext::orbit::Outcome;
use switchyard_sdk::ext::ringing::{Over, WaitingCall};
use switchyard_sdk::types::{Code, LegId, Party, Refusal};

use super::orbits::{Freed, Orbits};
use crate::plugin::Waiter;
use crate::time::{Instant, Now};

/// So long a late picker is told what became of a call, rather than that nothing rings.
const FATE_KEPT: Duration = Duration::from_secs(10);

/// What became of a ringing call.
#[derive(Clone, PartialEq, Debug)]
pub enum Fate {
    /// Its callee, or a phone that rang along, answered.
    Answered(Party),
    /// Somebody picked it up.
    Taken(Party),
    /// It rings at somebody else now, by the callee's rule.
    Forwarded(String),
    /// The caller gave up.
    HungUp,
    /// Nobody answered, or everybody refused.
    Unanswered,
}

impl Fate {
    fn words(&self) -> String {
        match self {
            Fate::Answered(party) => format!("answered by {}", party.label()),
            Fate::Taken(party) => format!("taken by {}", party.label()),
            Fate::Forwarded(to) => format!("forwarded to {to}"),
            Fate::HungUp => "the caller hung up".to_owned(),
            Fate::Unanswered => "it has stopped ringing".to_owned(),
        }
    }
}

/// Where somebody looks for a ringing call.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Place {
    Group(String),
    Callee(String),
}

/// A call that rings.
#[derive(Debug)]
struct Entry {
    call: WaitingCall,
    /// In the order in which they began to ring.
    sequence: u64,
    since: Instant,
    /// Who is being joined with the caller.
    taking: Option<(Party, Instant)>,
    /// How often the callee's phones were rung once more for a caller who was answered already.
    resumed: u32,
    /// In which time of its callee's pool it began to ring.
    generation: u64,
    waiters: Vec<Waiter>,
}

impl Entry {
    fn taken(&self) -> Option<(Instant, Fate)> {
        let (party, at) = self.taking.as_ref()?;
        Some((*at, Fate::Taken(party.clone())))
    }
}

/// All ringing calls.
#[derive(Debug, Default)]
pub(super) struct RingingCalls {
    calls: BTreeMap<LegId, Entry>,
    queues: BTreeMap<Place, BTreeSet<(u64, LegId)>>,
    /// Who waits for which call to be over.
    waits: BTreeMap<Waiter, LegId>,
    sequence: u64,
    /// By pool: how often who may be picked up there has changed.
    generations: BTreeMap<String, u64>,
    /// What became of the last call at each place, for [`FATE_KEPT`].
    fates: BTreeMap<Place, (Instant, Fate)>,
    /// When each of them was noted, in order.
    noted: VecDeque<(Instant, Place)>,
}

impl Entry {
    fn places(&self) -> impl Iterator<Item = Place> {
        let callee = self.call.callee.user.iter().cloned().map(Place::Callee);
        self.call.callee.pickup_groups().map(|group| Place::Group(group.to_owned())).chain(callee)
    }
}

impl RingingCalls {
    fn queue(&self, place: &Place) -> Vec<&WaitingCall> {
        let queue = self.entries(place).filter(|entry| entry.taking.is_none());
        queue.map(|entry| &entry.call).collect()
    }

    fn entries(&self, place: &Place) -> impl Iterator<Item = &Entry> {
        let queue = self.queues.get(place).into_iter().flatten();
        queue.filter_map(|(_, leg)| self.calls.get(leg))
    }

    fn remove(&mut self, leg: LegId) -> Option<Entry> {
        let entry = self.calls.remove(&leg)?;
        for place in entry.places() {
            if let Some(queue) = self.queues.get_mut(&place) {
                queue.remove(&(entry.sequence, leg));
                if queue.is_empty() {
                    self.queues.remove(&place);
                }
            }
        }
        Some(entry)
    }

    fn generation(&self, call: &WaitingCall) -> u64 {
        let pool = call.callee.pool.as_deref().unwrap_or_default();
        self.generations.get(pool).copied().unwrap_or_default()
    }

    fn note(&mut self, now: Instant, place: Place, fate: Fate) {
        self.fates.insert(place.clone(), (now, fate));
        self.noted.push_back((now, place));
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, _)) = self.noted.front()
            && now.saturating_since(*at) >= FATE_KEPT
        {
            let Some((at, place)) = self.noted.pop_front() else { return };
            if self.fates.get(&place).is_some_and(|(noted, _)| *noted == at) {
                self.fates.remove(&place);
            }
        }
    }
}

impl Orbits {
    /// A call begins to ring at a callee. If it rang at another one before, it was forwarded.
    pub fn ring_begins(&mut self, now: Now, call: WaitingCall) {
        let leg = call.leg;
        if self.ringing.calls.contains_key(&leg) {
            self.ring_over(now, leg, &Fate::Forwarded(call.callee.label().to_owned()));
        }
        self.ringing.sequence += 1;
        let sequence = self.ringing.sequence;
        let generation = self.ringing.generation(&call);
        let entry = Entry {
            call,
            sequence,
            since: now.instant,
            taking: None,
            resumed: 0,
            generation,
            waiters: Vec::new(),
        };
        for place in entry.places() {
            self.ringing.queues.entry(place).or_default().insert((sequence, leg));
        }
        for group in entry.call.callee.pickup_groups() {
            let detail = json!({
                "leg": leg, "caller": entry.call.caller.label(), "callee": entry.call.callee.label(),
            });
            self.event("pickup.ringing", None, group, detail);
        }
        self.ringing.calls.insert(leg, entry);
    }

    /// A call has stopped ringing. Nothing happens if it did before.
    pub fn ring_over(&mut self, now: Now, leg: LegId, fate: &Fate) {
        let Some(entry) = self.ringing.remove(leg) else { return };
        self.ringing.forget(now.instant);
        for place in entry.places() {
            self.ringing.note(now.instant, place, fate.clone());
        }
        let rang_ms = now.instant.saturating_since(entry.since).as_millis() as u64;
        for group in entry.call.callee.pickup_groups() {
            let detail = json!({ "leg": leg, "fate": fate.words(), "after_ms": rang_ms });
            self.event("pickup.over", None, group, detail);
        }
        for waiter in entry.waiters {
            self.ringing.waits.remove(&waiter);
            self.answer(waiter, Ok(Over { text: fate.words() }));
        }
    }

    /// A parked call has left its orbit: who looks for it at its parker's phone is told who has it.
    pub(super) fn note_parked_fate(&mut self, now: Now, freed: &Freed) {
        let Some(user) = freed.parker.user.clone() else { return };
        let fate = match (freed.outcome, &freed.by) {
            (Outcome::Recalled, _) => Fate::Answered(freed.parker.clone()),
            (Outcome::Retrieved | Outcome::OnTimeout, Some(by)) => Fate::Taken(by.clone()),
            (Outcome::HungUp, _) => Fate::HungUp,
            (Outcome::Retrieved | Outcome::OnTimeout | Outcome::Released | Outcome::Abandoned, _) => return,
        };
        self.ringing.forget(now.instant);
        self.ringing.note(now.instant, Place::Callee(user), fate);
    }

    /// The calls that ring in a group, the longest first, without those that are being taken.
    pub fn ringing_in(&self, group: &str) -> Vec<&WaitingCall> {
        self.ringing.queue(&Place::Group(group.to_owned()))
    }

    /// The calls that ring at a user, the longest first.
    pub fn ringing_at(&self, user: &str) -> Vec<&WaitingCall> {
        self.ringing.queue(&Place::Callee(user.to_owned()))
    }

    /// Every ringing call, by caller's leg.
    pub fn ringing(&self) -> impl Iterator<Item = &WaitingCall> {
        self.ringing.calls.values().map(|entry| &entry.call)
    }

    /// The ringing call of this caller.
    pub fn ringing_call(&self, leg: LegId) -> Option<&WaitingCall> {
        self.ringing.calls.get(&leg).map(|entry| &entry.call)
    }

    /// What became of the last call that rang in a group, if that was a moment ago.
    pub fn last_in(&self, now: Now, group: &str) -> Option<String> {
        self.fate(now, &Place::Group(group.to_owned()))
    }

    /// The same, at a user.
    pub fn last_at(&self, now: Now, user: &str) -> Option<String> {
        self.fate(now, &Place::Callee(user.to_owned()))
    }

    fn fate(&self, now: Now, place: &Place) -> Option<String> {
        let taken = self.ringing.entries(place).find_map(Entry::taken);
        let (at, fate) = taken.or_else(|| self.ringing.fates.get(place).cloned())?;
        let ago = now.instant.saturating_since(at);
        (ago < FATE_KEPT).then(|| format!("{} {:.1} s ago", fate.words(), ago.as_secs_f64()))
    }

    /// Somebody wants the call of this caller. Exactly one at a time gets it; [`Orbits::ring_over`] or
    /// [`Orbits::ring_returned`] must follow.
    ///
    /// # Errors
    /// When somebody was faster: who, or what else became of the call.
    pub fn take_ringing(&mut self, now: Now, leg: LegId, picker: &Party) -> Result<WaitingCall, Refusal> {
        let generation = self.ringing.calls.get(&leg).map(|entry| self.ringing.generation(&entry.call));
        let Some(entry) = self.ringing.calls.get_mut(&leg) else {
            return Err(Refusal::new(Code::LOST_CLAIM, "the call has stopped ringing"));
        };
        if generation != Some(entry.generation) {
            let text = "it began to ring before its callee's pool was moved";
            return Err(Refusal::new(Code::RESILIENCY, text));
        }
        if let Some((taker, at)) = &entry.taking {
            let ago = now.instant.saturating_since(*at).as_secs_f64();
            return Err(Refusal::new(Code::LOST_CLAIM, format!("taken by {} {ago:.1} s ago", taker.label())));
        }
        entry.taking = Some((picker.clone(), now.instant));
        Ok(entry.call.clone())
    }

    /// A pool's users have come into, or out of, resiliency mode: what rings at them by now stays unpickable (facts.md §2.2).
    pub fn pool_moved(&mut self, pool: &str) {
        *self.ringing.generations.entry(pool.to_owned()).or_default() += 1;
    }

    /// … unless its policy wants it otherwise (OP-03): what rings can be picked up as if it had begun now.
    pub fn ringing_stays(&mut self, pool: &str) {
        let RingingCalls { calls, generations, .. } = &mut self.ringing;
        let generation = generations.get(pool).copied().unwrap_or_default();
        for entry in calls.values_mut().filter(|entry| entry.call.callee.pool.as_deref() == Some(pool)) {
            entry.generation = generation;
        }
    }

    /// The picker could not be joined: the call rings on.
    pub fn ring_returned(&mut self, leg: LegId) {
        if let Some(entry) = self.ringing.calls.get_mut(&leg) {
            entry.taking = None;
        }
    }

    /// The callee's phones are to ring once more: the how manyth time.
    pub fn ring_resumed(&mut self, leg: LegId) -> u32 {
        let Some(entry) = self.ringing.calls.get_mut(&leg) else { return 0 };
        entry.resumed += 1;
        entry.resumed
    }

    /// Who is taking the call of this caller.
    pub fn taker_of(&self, leg: LegId) -> Option<&Party> {
        self.ringing.calls.get(&leg)?.taking.as_ref().map(|(party, _)| party)
    }

    /// Answers `waiter` when the call does not ring any more; at once if it does not now.
    pub fn when_over(&mut self, waiter: Waiter, leg: LegId) {
        match self.ringing.calls.get_mut(&leg) {
            Some(entry) => {
                entry.waiters.push(waiter);
                self.ringing.waits.insert(waiter, leg);
            }
            None => self.answer(waiter, Ok(Over { text: "it has stopped ringing".to_owned() })),
        }
    }

    pub(super) fn unwait_ringing(&mut self, waiter: Waiter) {
        let Some(leg) = self.ringing.waits.remove(&waiter) else { return };
        if let Some(entry) = self.ringing.calls.get_mut(&leg) {
            entry.waiters.retain(|other| *other != waiter);
        }
    }
}

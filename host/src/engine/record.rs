//! The store's side of the engine: writes, mirrors, and the calls that a restart takes up again.

use std::collections::BTreeSet;
use std::time::Duration;

use switchyard_sdk::types::{Code, LegId, Refusal};

use super::command::background;
use super::timers::Timer;
use super::{AdminId, Engine, Output, StoreId};
use crate::admin::Refused;
use crate::call::{Done, Failed, LegFacts, Origin, Peer};
use crate::media::Playlist;
use crate::orbit::{RangeError, RestoredCall, Whose};
use crate::pool::Proposal;
use crate::store::{Change, Outcome, Snapshot, StoreError, Transaction};

/// Who waits for an answer of the store.
#[derive(Debug)]
pub(super) enum StoreOwner {
    /// The orbit service.
    Orbit(u64),
    /// An administrative request.
    Admin {
        /// The request.
        request: AdminId,
        /// What it is told if all went well.
        answer: serde_json::Value,
        /// What then holds.
        change: Change,
    },
    /// Whoever takes a pool's seat.
    Seat {
        /// The pool.
        pool: String,
        /// What was written.
        pass: Transaction,
    },
    /// Whoever has taken it, and reads what there is.
    Taken {
        /// The pool.
        pool: String,
    },
    /// The records of calls.
    Calls,
    /// Whoever deals with the calls in a pool's orbits.
    Parked {
        /// The pool.
        pool: String,
    },
    /// Whoever brings a pool on.
    Pool {
        /// What was written.
        proposal: Proposal,
    },
    /// Nobody: written behind.
    Behind {
        /// What.
        keys: BTreeSet<String>,
    },
    /// Nobody: written at last.
    AtLast {
        /// What.
        keys: BTreeSet<String>,
    },
}

/// A parked call that a restart takes up, until its phone has answered: one behind a NAT whose host is gone may be silent until it
/// registers anywhere.
#[derive(Debug)]
pub(super) struct Restoring {
    call: RestoredCall,
    /// How often the phone was asked before.
    attempts: usize,
    /// It waits in its orbit again, in silence: its phone gets its music when it is back.
    waits: bool,
}

impl Restoring {
    /// Whether its orbit does not have it back yet.
    pub(super) fn is_alone(&self) -> bool {
        !self.waits
    }
}

/// How long a phone that refuses its music is left alone before it is asked again: first as long as it takes to be done with what the
/// host before this one has asked.
const TAKE_UP_AGAIN: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(10)];

fn playlist(call: &RestoredCall) -> Playlist {
    Playlist { prompts: Vec::new(), then: background(&call.record.terms.music) }
}

impl Engine {
    pub(super) fn write(&mut self, transaction: Transaction, owner: StoreOwner) {
        let request = StoreId(self.core.fresh_id());
        self.stores.insert(request, owner);
        self.core.emit(Output::Store { request, transaction });
    }

    pub(super) fn stored(&mut self, request: StoreId, result: Result<Outcome, StoreError>) {
        let Some(owner) = self.stores.remove(&request) else { return };
        match owner {
            StoreOwner::Orbit(ticket) => self.orbits.stored(self.core.now, ticket, result),
            StoreOwner::Admin { request, answer, change } => {
                let answer = match result {
                    Ok(Outcome::Committed { .. }) => {
                        self.store_changed(&change);
                        Ok(answer)
                    }
                    Ok(Outcome::Conflict { .. }) => Err(Refused {
                        status: 409,
                        code: None,
                        text: "somebody else changed it at the same time; look and try again".to_owned(),
                    }),
                    Err(error) => Err(Refused { status: 503, code: Some(35105), text: error.to_string() }),
                };
                self.core.emit(Output::Admin { request, answer });
            }
            StoreOwner::Seat { pool, pass } => self.seat_answered(pool, &pass, result),
            StoreOwner::Taken { .. } | StoreOwner::Parked { .. } => {}
            StoreOwner::Calls => self.calls_stored(result),
            StoreOwner::Pool { proposal } => self.pool_answered(&proposal, result),
            StoreOwner::Behind { keys } => self.behind_is_stored(keys, result),
            StoreOwner::AtLast { keys } => {
                if !matches!(result, Ok(Outcome::Committed { .. })) {
                    self.not_stored(keys);
                }
            }
        }
    }

    /// A record we mirror has changed.
    pub(super) fn store_changed(&mut self, change: &Change) {
        self.cluster_changed(change);
        let before = self.directory.user_of(change).cloned();
        if self.directory.apply(change) {
            self.user_changed(change, before.as_ref());
        }
        self.registrar.apply(change);
        if self.is_epoch_of_served(change) {
            return;
        }
        self.orbits_changed(change);
    }

    /// A record has changed that has to do with orbits.
    pub(super) fn orbits_changed(&mut self, change: &Change) {
        if let Err(error) = self.orbits.apply(self.core.now, change) {
            self.bad_range(&change.key, &error);
        }
    }

    /// A range's record cannot be used: what was known of it stays.
    pub(super) fn bad_range(&mut self, key: &str, error: &RangeError) {
        let detail = serde_json::json!({ "key": key, "error": error.to_string() });
        self.core.event("store.bad_range", None, None, detail);
    }

    /// Takes every recorded parked call up again: 200 parks it as before, 481 or 408 frees its orbit (design.md §4).
    pub(super) fn restore(&mut self, snapshot: &Snapshot, whose: Whose<'_>) {
        let mut calls = self.orbits.restore(self.core.now, snapshot, whose);
        calls.sort_by_key(|call| std::cmp::Reverse(call.record.terms.parked_at_ms));
        for call in calls {
            let number = call.number().to_owned();
            let Ok(facts) = serde_json::from_value::<LegFacts>(call.facts().clone()) else {
                let detail = serde_json::json!({ "number": number });
                self.core.event("park.unreadable", None, None, detail);
                self.orbits.forget(self.core.now, &number);
                continue;
            };
            // A park that failed because the store was silent may stand there all the same, beside the one that worked.
            let dialog = facts.dialog();
            if self.calls.has_dialog(&dialog) {
                let detail = serde_json::json!({ "number": number, "reason": "the same call is recorded in another orbit" });
                self.core.event("park.lost", None, None, detail);
                self.orbits.forget(self.core.now, &number);
                continue;
            }
            let trunk = self.trunk_of(&facts);
            let (leg, _) = self.calls.restore(&mut self.core, facts, trunk, playlist(&call));
            // The next restart must go on from the CSeq this one uses.
            if let Some(facts) = self.leg_facts(leg) {
                self.orbits.restoring(self.core.now, &number, facts);
            }
            self.restoring.insert(leg, Restoring { call, attempts: 0, waits: false });
        }
    }

    /// What a record holds of a leg.
    pub(super) fn leg_facts(&self, leg: LegId) -> Option<serde_json::Value> {
        self.calls.facts(leg).and_then(|facts| serde_json::to_value(facts).ok())
    }

    /// The phone of a recorded call has answered, or not.
    pub(super) fn restored(&mut self, leg: LegId, result: &Result<Done, Failed>) {
        let Some(Restoring { call, attempts, waits }) = self.restoring.remove(&leg) else { return };
        let number = call.number().to_owned();
        let stranded = self.calls.leg(leg).is_some_and(|leg| leg.stranded);
        // A phone that has lost the call says 481 or nothing, and its leg has ended. Any other answer is about this
        // moment: it is asked again, and in the end the call waits in silence rather than being lost.
        if let Err(failed) = result
            && let Some(pause) = TAKE_UP_AGAIN.get(attempts)
            && !stranded
        {
            tracing::info!(
                number,
                why = failed.text,
                "a parked caller's phone does not want its music back yet"
            );
            self.restoring.insert(leg, Restoring { call, attempts: attempts + 1, waits });
            self.core.after(Timer::TakeUpAgain(leg), *pause);
            return;
        }
        if result.is_err() {
            self.restoring.insert(leg, Restoring { call: call.clone(), attempts: 0, waits: true });
        }
        if waits {
            if let (Ok(_), Some(facts)) = (result, self.leg_facts(leg)) {
                self.orbits.save_leg(self.core.now, leg, facts);
                let detail = serde_json::json!({ "number": number, "leg": leg.0 });
                self.core.event("park.reached", None, None, detail);
            }
            return;
        }
        let handler = self
            .orbits
            .ranges()
            .find(&number)
            .map(|range| range.kind().to_owned())
            .and_then(|kind| self.plugins.for_kind(&kind));
        match (result, handler) {
            (_, Some(instance)) => {
                let flow = self.resume(instance, call.resume(leg));
                self.orbits.adopted(self.core.now, &number, leg, flow);
                if let Some(facts) = self.leg_facts(leg) {
                    self.orbits.save_leg(self.core.now, leg, facts);
                }
                let detail = serde_json::json!({ "number": number, "leg": leg.0 });
                self.core.event("park.taken_up", None, None, detail);
            }
            (_, None) => {
                let why = "no plugin handles this orbit any more";
                let detail = serde_json::json!({ "number": number, "reason": why });
                self.core.event("park.lost", None, None, detail);
                let parker = call.resume(leg).parker;
                self.restoring.remove(&leg);
                self.orbits.forget(self.core.now, &number);
                if let Some(waiting) = self.calls.leg_mut(leg) {
                    waiting.brought_by = Some(parker);
                }
                self.ring_back_or_release(leg, &Refusal::new(Code::GENERAL, why));
            }
        }
    }

    /// [`Timer::TakeUpAgain`] went off.
    pub(super) fn take_up_again(&mut self, leg: LegId) {
        let Some(Restoring { call, waits, .. }) = self.restoring.get(&leg) else { return };
        let Some(known) = self.calls.leg(leg) else { return };
        if *waits && known.peer != Peer::Host {
            self.restoring.remove(&leg); // somebody has it by now
        } else if known.is_idle() {
            self.calls.play(&mut self.core, Origin::Restore, leg, playlist(call));
        } else {
            let [soon, ..] = TAKE_UP_AGAIN;
            self.core.after(Timer::TakeUpAgain(leg), soon);
        }
    }

    /// The phone of this leg has registered. True: its leg was made from a record, and it has not heard of that yet.
    pub(super) fn reaches_again(&mut self, leg: LegId, after: Duration) -> bool {
        let waits = self.restoring.contains_key(&leg);
        if waits {
            self.core.after(Timer::TakeUpAgain(leg), after);
        }
        waits
    }

    /// Somebody else takes up the calls in a pool's orbits from now on: the legs that were made here for that, and have nothing to
    /// wait for any more.
    pub(super) fn put_down_restoring(&mut self, pool: &str) -> Vec<LegId> {
        let of_pool = |restoring: &Restoring| restoring.call.record.pool == pool;
        let legs: Vec<LegId> = (self.restoring.iter())
            .filter(|(_, restoring)| of_pool(restoring))
            .map(|(leg, _)| *leg)
            .collect();
        for leg in &legs {
            self.restoring.remove(leg);
            self.core.timers.cancel(Timer::TakeUpAgain(*leg));
        }
        legs
    }

    /// A leg made from a record ended before its phone had answered.
    pub(super) fn restoring_ended(&mut self, leg: LegId) {
        self.core.timers.cancel(Timer::TakeUpAgain(leg));
        if let Some(Restoring { call, waits: false, .. }) = self.restoring.remove(&leg) {
            let detail =
                serde_json::json!({ "number": call.number(), "reason": "the phone does not know the call" });
            self.core.event("park.lost", None, None, detail);
            self.orbits.forget(self.core.now, call.number());
        }
    }
}

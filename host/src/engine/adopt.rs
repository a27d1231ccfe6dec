//! Calls made from their records: those that were up when a host died go on (design.md §8).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use switchyard_sdk::types::{Code, LegId, Refusal};

use super::Engine;
use super::protect::CallRecord;
use super::timers::Timer;
use crate::call::{LegFacts, Rejection, Trunk};
use crate::net::HostName;
use crate::orbit::Whose;
use crate::sip::Status;
use crate::store::Snapshot;
use crate::store::keys::{call_key, calls_prefix};

/// When the first phone is asked whether it still knows its call: what phones have to say themselves goes first.
const FIRST_ASKED: Duration = Duration::from_millis(500);

/// All are asked within so long, if they are few.
const ASKED_WITHIN: Duration = Duration::from_secs(3);

/// The pause between two questions: a host that has just started has more to do, and need not wait long for few.
const ASKED_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_millis(2)..=Duration::from_millis(200);

impl Engine {
    /// Takes recorded calls up. Nothing is said to phones at once: a request of theirs that comes now is served as if
    /// nothing had happened. Soon, and one after the other, each is asked whether it still knows its call; of one that
    /// does not, the other side is let go.
    pub(super) fn adopt_calls(&mut self, snapshot: &Snapshot, whose: Whose<'_>) {
        let prefix = match whose {
            Whose::All | Whose::Host => calls_prefix(),
            Whose::Pool(pool) => call_key(pool, ""),
        };
        let mut adopted = Vec::new();
        for (key, stored) in snapshot.under(&prefix) {
            let Ok(record) = serde_json::from_slice::<CallRecord>(&stored.value) else {
                self.core.event("call.unreadable", None, None, serde_json::json!({ "key": key }));
                // Another host may be of a later version.
                if !self.config.store.kind.is_shared() {
                    self.protection.forget(key);
                }
                continue;
            };
            if whose != Whose::Host || record.host == self.config.host.name {
                adopted.extend(self.adopt(key, record));
            }
        }
        let corrected = match whose {
            Whose::Pool(pool) => self.correct_calls(pool),
            Whose::All | Whose::Host => Vec::new(),
        };
        let pause = pause_between(adopted.len() * 2);
        let mut at = FIRST_ASKED;
        let mut in_doubt = Vec::new();
        for (legs, unsettled) in adopted {
            self.calls.reunite(&mut self.core, legs, [at, at + pause]);
            in_doubt.extend(legs.last().filter(|_| unsettled));
            at += pause * 2;
        }
        in_doubt.extend(corrected);
        self.tell_again(&in_doubt);
    }

    /// The phones of these legs are told whom they talk to: one after the other, the first at once.
    pub(super) fn tell_again(&mut self, legs: &[LegId]) {
        let mut calls = BTreeSet::new();
        let of_others = |leg: &&LegId| {
            let call = self.calls.peer_of(**leg).map_or(**leg, |peer| peer.min(**leg));
            calls.insert(call)
        };
        let legs: Vec<LegId> = legs.iter().filter(of_others).copied().collect();
        let pause = pause_between(legs.len());
        let mut at = Duration::ZERO;
        for leg in legs {
            self.calls.tell_again_after(&mut self.core, leg, at);
            at += pause;
        }
    }

    /// Makes the legs of one record. Two that are to be joined, and whether something was under way on them.
    fn adopt(&mut self, key: &str, record: CallRecord) -> Option<([LegId; 2], bool)> {
        let count = record.legs.len();
        // A call may be recorded twice when it went from one to the other: into an orbit, or to somebody else. An orbit's
        // record counts first, and the call's own is removed as soon as the other is written.
        let mut legs = Vec::new();
        for facts in record.legs {
            let dialog = facts.dialog();
            if self.calls.has_dialog(&dialog) {
                continue;
            }
            let trunk = self.trunk_of(&facts);
            legs.push(self.calls.restore_alone(&mut self.core, facts, trunk));
        }
        let detail =
            serde_json::json!({ "key": key, "legs": legs.iter().map(|leg| leg.0).collect::<Vec<_>>() });
        match (count, &legs[..]) {
            (2, [a, b]) => {
                self.found(key, *a, Some(*b));
                self.core.event("call.taken_up", None, None, detail);
                return Some(([*a, *b], record.unsettled));
            }
            (1, [alone]) => {
                self.found(key, *alone, None);
                self.core.event("call.taken_up", None, None, detail);
                let refusal = Refusal::new(Code::GENERAL, "nobody looks after the call");
                self.ring_back_or_release(*alone, &refusal);
            }
            _ => {
                self.protection.forget(key);
                self.core.event("call.lost", None, None, detail);
                for leg in legs {
                    let rejection = Rejection::because(Status::OK, "The caller is on another line");
                    self.calls.release(&mut self.core, leg, &rejection);
                }
            }
        }
        None
    }

    /// A host is gone at whose sockets phones talked: those with calls here are told where they go on.
    pub(super) fn call_stranded_phones(&mut self, edge: HostName) {
        let legs = self.calls.strand(&mut self.core, edge);
        let pause = pause_between(legs.len());
        let mut at = FIRST_ASKED;
        for leg in legs {
            self.core.after(Timer::Refresh(leg), at);
            at += pause;
        }
    }

    /// A call goes on under the record it was made from, if calls are still recorded.
    fn found(&mut self, key: &str, first: LegId, second: Option<LegId>) {
        if self.config.store.records_calls() {
            self.protection.found(self.core.now.instant, key, first, second);
        } else {
            self.protection.forget(key);
        }
    }

    /// The trunk a recorded leg goes through, if it still is one.
    pub(super) fn trunk_of(&self, facts: &LegFacts) -> Option<Arc<Trunk>> {
        self.trunks.get(facts.trunk.as_deref()?).cloned()
    }
}

/// Between so many questions.
fn pause_between(count: usize) -> Duration {
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    (ASKED_WITHIN / count).clamp(*ASKED_EVERY.start(), *ASKED_EVERY.end())
}

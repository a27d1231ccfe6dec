//! In a cluster: what a host that has lost a seat tells the next holder about its calls, because the store does not say it.
//!
//! While a host does not reach the store it does what phones ask, and another that takes its seat goes by records that are older
//! than that. When the host learns that the seat is taken, it tells which calls have ended here, and how those are that were
//! changed. The new holder goes on from that, and tells both phones again of each other.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use switchyard_sdk::types::LegId;

use super::Engine;
use super::elsewhere::in_parts;
use super::seat::Clustered;
use crate::cluster::Frame;
use crate::net::{Flow, HostName};
use crate::sip::{Message, Method};
use crate::time::Instant;

/// Calls whose end may have to be told to another host.
const GOODBYES_MAX: usize = 1000;
/// Legs of a pool that is not served here yet, which others have told of.
const CHANGED_MAX: usize = 10_000;
/// What a holder has to tell the next of one pool: all goodbyes, and as many legs as that one keeps, in parts.
const AFTERMATH_MAX: usize = 1_200;
/// How long such things are worth telling, and are kept by who was told of them and does not have the seat yet. Later the seat has been
/// elsewhere, and the calls have gone on.
const LASTS: Duration = Duration::from_secs(60);

/// Legs as their host before has told of them, and when.
#[derive(Debug)]
pub(super) struct Changed {
    at: Instant,
    legs: Vec<Value>,
}

impl Changed {
    fn is_old(&self, now: Instant) -> bool {
        now.saturating_since(self.at) > LASTS
    }
}

/// What the next holder of a seat is to be told, and since when.
#[derive(Debug)]
pub(super) struct Aftermath {
    since: Instant,
    frames: Vec<Frame>,
}

impl Engine {
    /// While this host has lost the store another may have taken the call up: it learns of its end when it is known.
    pub(super) fn remember_goodbye(&mut self, message: &Message, flow: Flow, bytes: &Bytes) {
        if self.orbits.is_live() || !message.is_method(&Method::Bye) || !self.knows_dialog(message) {
            return;
        }
        let Some(cluster) = &mut self.cluster else { return };
        if cluster.goodbyes.len() == GOODBYES_MAX {
            cluster.goodbyes.pop_front();
        }
        let edge = Some(flow.edge.unwrap_or(cluster.seats.own()));
        cluster.goodbyes.push_back((Flow { edge, ..flow }, bytes.clone()));
    }

    /// The legs of calls that are recorded under a pool as they were, and perhaps not as they are.
    pub(super) fn changed_legs(&self, pool: &str) -> Vec<Value> {
        self.changed_calls(pool).into_iter().filter_map(|leg| self.leg_facts(leg)).collect()
    }

    /// The seat of a pool is lost: its next holder is to know which calls have ended here meanwhile, and how those are that were
    /// `changed`.
    pub(super) fn leave_aftermath(&mut self, pool: &str, changed: Vec<Value>) {
        let since = self.core.now.instant;
        let (Some(cluster), Some(name)) = (&mut self.cluster, HostName::new(pool)) else { return };
        let goodbyes = std::mem::take(&mut cluster.goodbyes).into_iter();
        let goodbyes = goodbyes.map(|(flow, bytes)| Frame::Goodbye { pool: name, flow, bytes });
        let changed = in_parts(changed).into_iter().map(|legs| Frame::Changed { pool: name, legs });
        let frames = goodbyes.chain(changed).take(AFTERMATH_MAX).collect();
        cluster.aftermath.insert(pool.to_owned(), Aftermath { since, frames });
        self.tell_aftermath();
    }

    /// Tells it to whoever holds the seat now, as far as they can be reached.
    pub(super) fn tell_aftermath(&mut self) {
        let now = self.core.now.instant;
        let Some(Clustered { seats, aftermath, .. }) = &mut self.cluster else { return };
        aftermath.retain(|_, left| now.saturating_since(left.since) <= LASTS);
        let own = seats.own();
        let mut told = Vec::new();
        for (pool, left) in aftermath {
            let holder = seats.holder(pool).filter(|holder| seats.trouble(*holder).is_none());
            let Some(holder) = holder else { continue };
            told.extend(std::mem::take(&mut left.frames).into_iter().map(|frame| (holder, frame)));
        }
        for (holder, frame) in told {
            if holder == own {
                self.linked(own, frame);
            } else {
                self.link(holder, frame);
            }
        }
    }

    /// The holder of a seat did not hear it.
    pub(super) fn keep_aftermath(&mut self, pool: &str, frame: Frame) {
        let left = self.cluster.as_mut().and_then(|cluster| cluster.aftermath.get_mut(pool));
        if let Some(left) = left.filter(|left| left.frames.len() < AFTERMATH_MAX) {
            left.frames.push(frame);
        }
    }

    /// Another host tells of calls that were changed there. It may be ahead of the seat.
    pub(super) fn calls_changed(&mut self, pool: &str, legs: Vec<Value>) {
        let (served, now) = (self.serves(pool), self.core.now.instant);
        let Some(cluster) = &mut self.cluster else { return };
        cluster.changed_elsewhere.retain(|_, told| !told.is_old(now));
        if cluster.pools.record(pool).is_none() {
            return;
        }
        let nothing = || Changed { at: now, legs: Vec::new() };
        let told = cluster.changed_elsewhere.entry(pool.to_owned()).or_insert_with(nothing);
        told.legs.extend(legs);
        told.legs.truncate(CHANGED_MAX);
        if served {
            let corrected = self.correct_calls(pool);
            self.tell_again(&corrected);
        }
    }

    /// Of the calls here, those that another host has told of.
    pub(super) fn correct_calls(&mut self, pool: &str) -> Vec<LegId> {
        let told = self.cluster.as_mut().and_then(|cluster| cluster.changed_elsewhere.remove(pool));
        let told = told.filter(|told| !told.is_old(self.core.now.instant));
        let facts = told
            .into_iter()
            .flat_map(|told| told.legs)
            .filter_map(|facts| serde_json::from_value(facts).ok());
        facts.filter_map(|facts| self.calls.correct(facts)).collect()
    }
}

//! What always holds between two inputs. Simulation asks after each of them.

use super::Engine;
use super::record::Restoring;
use super::timers::Timer;
use crate::call::{Leg, Peer, State};

impl Engine {
    /// Contradictions in what the engine keeps, each in words; empty when all is well. Looks at every leg.
    pub fn audit(&self) -> Vec<String> {
        let mut found = self.calls.audit();
        found.extend(self.orbits.check());
        found.extend(self.unprotected());
        if self.orbits.leaks(|leg| self.calls.leg(leg).is_some()) > 0 {
            found.push("an orbit holds a leg that has ended".to_owned());
        }
        for leg in self.calls.legs().filter(|leg| leg.state == State::Confirmed) {
            if !matches!(leg.peer, Peer::Leg(_)) && !self.has_prospects(leg) {
                found.push(format!(
                    "leg {} of {} is with nobody, and nobody is coming",
                    leg.id.0, leg.party.uri
                ));
            }
            if matches!(leg.peer, Peer::Leg(_)) && leg.parked_in.is_some() {
                found.push(format!("leg {} talks, and keeps a parked call", leg.id.0));
            }
        }
        for (resource, watcher) in self.wrong_lamps() {
            found.push(format!("{watcher} is told something about {resource:?} that is not so"));
        }
        for leg in self.watches.keys().filter(|leg| self.calls.leg(**leg).is_none()) {
            found.push(format!("somebody waits for the end of leg {}, which has ended", leg.0));
        }
        for leg in self.unsettled.keys().chain(self.restoring.keys()) {
            if self.calls.leg(*leg).is_none() {
                found.push(format!("leg {} has ended, and something is to be put right with it", leg.0));
            }
        }
        found
    }

    /// The pools whose users are served here, and under which epoch: no two hosts that may write serve one.
    pub fn seats_held(&self) -> impl Iterator<Item = (&str, u64)> {
        let served = self.cluster.iter().flat_map(|cluster| &cluster.served);
        served.map(|pool| (pool.as_str(), self.orbits.epoch_record(pool).0))
    }

    /// Whether a leg without a peer waits for something that will come: it is parked or kept by its parker, somebody
    /// decides about it, or it is about to end.
    fn has_prospects(&self, leg: &Leg) -> bool {
        let id = leg.id;
        leg.flow.is_some()
            || leg.parked_in.is_some()
            || leg.twin.is_some()
            || leg.waiting_offer.is_some()
            || self.calls.has_plans(id)
            || self.orbits.orbit_of(id).is_some()
            || [Timer::Clear(id), Timer::RingAgain(id)]
                .iter()
                .any(|timer| self.core.timers.when(*timer).is_some())
            || self.unsettled.contains_key(&id)
            || self.restoring.get(&id).is_some_and(Restoring::is_alone)
            || self.asks.values().any(|ask| ask.near == Some(id) && !ask.decided)
    }
}

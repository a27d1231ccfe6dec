//! What must hold at every moment, spelled out.

use switchyard_sdk::types::LegId;

use super::claims::Await;
use super::occupant::State;
use super::orbits::Orbits;

impl Orbits {
    /// How many orbits are held by a leg that is not alive: the gauge `switchyard_orbit_leaks`, which stays 0.
    /// A call that is being taken up again after a restart is no leak: it ends in `adopted` or `forget`.
    pub fn leaks(&self, alive: impl Fn(LegId) -> bool) -> usize {
        self.occupants.values().filter(|occupant| occupant.leg.is_some_and(|leg| !alive(leg))).count()
    }

    /// Every broken invariant, in words; empty when all is well. O(n): for tests and for an operator who asks.
    pub fn check(&self) -> Vec<String> {
        let mut broken = Vec::new();
        // Said only when it is so: simulation asks after every message.
        let mut demand = |holds: bool, what: std::fmt::Arguments<'_>| {
            if !holds {
                broken.push(what.to_string());
            }
        };
        for (number, occupant) in self.occupants.iter() {
            let state = occupant.state.word();
            demand(occupant.number == *number, format_args!("{number}: filed under the wrong number"));
            demand(
                self.by_token.get(&occupant.token) == Some(number),
                format_args!("{number}: its token leads elsewhere"),
            );
            if let Some(leg) = occupant.leg {
                demand(
                    self.by_leg.get(&leg) == Some(number),
                    format_args!("{number}: its leg is in another orbit"),
                );
            }
            let place = (occupant.terms.parked_at_ms, occupant.stay, *number);
            let queued = self
                .queue
                .get(&(occupant.pool.clone(), occupant.kind.clone()))
                .is_some_and(|queue| queue.contains(&place));
            demand(
                queued == (occupant.state == State::Parked),
                format_args!("{number}: {state}, queued: {queued}"),
            );
            let held = |flow| self.flows.get(&flow).is_some_and(|holdings| holdings.numbers.contains(number));
            if let Some(owner) = occupant.owner {
                demand(held(owner), format_args!("{number}: its owner does not know"));
            }
            match &occupant.state {
                State::Reserved => {
                    demand(occupant.owner.is_some(), format_args!("{number}: reserved by nobody"))
                }
                State::Storing { .. } => {
                    demand(
                        self.ledger.wants(*number),
                        format_args!("{number}: waits for a write nobody made"),
                    );
                    demand(occupant.owner.is_some(), format_args!("{number}: reserved by nobody"));
                }
                State::Restored => demand(occupant.leg.is_none(), format_args!("{number}: restored twice")),
                State::Parked => {
                    demand(occupant.leg.is_some(), format_args!("{number}: parked without a leg"))
                }
                State::Connecting { flow, .. } => {
                    demand(occupant.leg.is_some(), format_args!("{number}: connecting without a leg"));
                    demand(flow.is_none_or(held), format_args!("{number}: its claimant does not know"));
                }
            }
            for waiter in &occupant.waiters {
                let here = self.waits.get(waiter).is_some_and(|wait| wait.number == *number);
                demand(here, format_args!("{number}: {waiter:?} does not wait for it"));
            }
        }
        for (leg, number) in &self.by_leg {
            let there = self.occupants.get(number).is_some_and(|occupant| occupant.leg == Some(*leg));
            demand(there, format_args!("{leg:?} is not in {number}"));
        }
        demand(self.by_token.len() == self.occupants.len(), format_args!("a token outlived its call"));
        let queued: usize = self.queue.values().map(|queue| queue.len()).sum();
        let parked = self.occupants.values().filter(|occupant| occupant.state == State::Parked).count();
        demand(queued == parked, format_args!("{queued} calls queue, {parked} are parked"));
        for (flow, holdings) in &self.flows {
            demand(
                !(holdings.numbers.is_empty() && holdings.waits.is_empty()),
                format_args!("{flow:?} is kept for nothing"),
            );
            for number in &holdings.numbers {
                let occupant = self.occupants.get(number);
                let booked = occupant.is_some_and(|occupant| {
                    occupant.owner == Some(*flow)
                        || matches!(occupant.state, State::Connecting { flow: Some(by), .. } if by == *flow)
                });
                demand(booked, format_args!("{flow:?} has nothing to do with {number}"));
            }
            for waiter in &holdings.waits {
                let waits = self.waits.get(waiter).is_some_and(|wait| wait.flow == *flow);
                demand(waits, format_args!("{flow:?} does not wait as {waiter:?}"));
            }
        }
        for (waiter, wait) in &self.waits {
            let occupant = self.occupants.get(&wait.number);
            let known = occupant.is_some_and(|occupant| occupant.waiters.contains(waiter));
            demand(known, format_args!("{waiter:?} waits for {}, which is vacant", wait.number));
            let timely = match wait.what {
                Await::Claim { .. } => occupant.is_some_and(|o| {
                    let undecided = matches!(o.state, State::Parked) && !self.ledger.is_live();
                    undecided || matches!(o.state, State::Reserved | State::Storing { .. } | State::Restored)
                }),
                Await::Commit => occupant.is_some_and(|o| matches!(o.state, State::Storing { .. })),
                Await::Settled => occupant.is_some_and(|o| matches!(o.state, State::Connecting { .. })),
                Await::Claimed => true,
            };
            demand(timely, format_args!("{waiter:?} waits for what has happened to {}", wait.number));
        }
        for range in self.ranges.iter() {
            let lot = self.lots.get(&(range.pool().to_string(), range.kind().to_string()));
            for number in range.numbers() {
                let free = !self.occupants.contains_key(&number) && !self.foreign.contains(&number);
                demand(
                    lot.is_some_and(|lot| lot.is_free(number) == free),
                    format_args!("{number}: free: {free}, but its lot has it otherwise"),
                );
            }
        }
        broken
    }

    /// Whether the store holds exactly the parked calls: nothing is under way or owed.
    pub fn is_settled(&self) -> bool {
        self.ledger.is_settled()
    }

    /// How many records the store holds, or may hold, for calls of this host.
    pub fn records(&self) -> usize {
        self.ledger.len()
    }
}

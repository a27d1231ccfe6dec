//! Failover and failback, step by step. Each step is a condition over what is known and a write that notes it: whoever goes on
//! with a journal somebody else has begun does the same as who goes on with his own.

use super::pools::{Pools, Terms};
use super::record::{Journal, Phase, PoolRecord, Procedure, StepName, StepState};
use crate::admin::RangeSpec;
use crate::cluster::Seats;
use crate::config::KIND_GROUP_PICKUP;
use crate::orbit::put_operation;
use crate::store::keys::range_key;
use crate::store::{Expect, Transaction};
use crate::time::{Instant, Now, Utc};

/// Ranges moved in one transaction; the pool's own record, epoch and conditions need room too.
const RANGES_MAX: usize = 80;

/// What to note of the current step.
enum Stand {
    /// It has begun and goes on: what it waits for.
    Waits(String),
    /// It is over: what it did.
    Done(String),
    /// These ranges are written with it; `true`: those were the last.
    Moves(Vec<RangeSpec>, bool),
}

impl Pools {
    /// The next write of the procedure that runs; `None`: it waits.
    pub(super) fn go_on(&self, now: Now, seats: &Seats, pool: &str) -> Option<Transaction> {
        let known = self.known.get(pool)?;
        let mut record = known.record.clone();
        let journal = record.journal.as_mut().filter(|journal| journal.ended.is_none())?;
        let step = journal.current()?.clone();
        let stand = match (journal.procedure, step.name) {
            // It was done when the journal was begun.
            (_, StepName::Fence) => Stand::Done(String::new()),
            (_, StepName::Parked) => self.deal_with_parked(now, pool, step.at, journal, known.terms),
            (procedure, StepName::Seat) => self.move_seat(seats, pool, procedure),
            (Procedure::Failover, StepName::Ranges) => self.ranges_out(pool, &record, known.terms),
            (Procedure::Failback, StepName::Ranges) => self.ranges_home(pool, &record),
            (_, StepName::Open) => Stand::Done(String::new()),
        };
        let journal = record.journal.as_mut()?;
        self.own.as_str().clone_into(&mut journal.runner);
        let mut moved = Vec::new();
        match stand {
            // Begun is noted once, what it waits for as it changes; a step's time is when it began.
            Stand::Waits(note) if step.state == StepState::Running && step.note == note => return None,
            Stand::Waits(note) => {
                let began = if step.state == StepState::Running { step.at } else { now.utc };
                journal.set(step.name, StepState::Running, began, note);
            }
            Stand::Moves(ranges, last) => {
                let names: Vec<&str> = ranges.iter().map(|range| range.name.as_str()).collect();
                let note = if names.is_empty() { "none to move".to_owned() } else { names.join(", ") };
                let state = if last { StepState::Done } else { StepState::Running };
                journal.set(step.name, state, now.utc, note);
                let names = names.into_iter().map(str::to_owned);
                match journal.procedure {
                    Procedure::Failover => record.moved.extend(names),
                    Procedure::Failback if last => record.moved.clear(),
                    Procedure::Failback => {}
                }
                moved = ranges;
            }
            Stand::Done(note) => {
                journal.set(step.name, StepState::Done, now.utc, note);
                if step.name == StepName::Open {
                    journal.ended = Some(now.utc);
                    record.since = now.utc;
                    record.phase = match journal.procedure {
                        Procedure::Failover => Phase::FailedOver,
                        Procedure::Failback => Phase::Active,
                    };
                }
            }
        }
        let mut transaction = self.write(seats, &record)?;
        for range in moved {
            let (_, revision) = self.ranges.get(&range.name)?;
            transaction.expect.push((range_key(&range.name), Expect::Revision(*revision)));
            transaction.operations.push(put_operation(&range));
        }
        Some(transaction)
    }

    fn deal_with_parked(&self, now: Now, pool: &str, began: Utc, journal: &Journal, terms: Terms) -> Stand {
        let left = self.parked(pool);
        if left == 0 {
            return Stand::Done("no call waits in an orbit".to_owned());
        }
        let begun = journal.has_begun(StepName::Parked);
        let waits = journal.planned && (!begun || now.utc < began + terms.drain_time);
        if waits {
            return Stand::Waits("parked calls may be fetched until the drain time is over".to_owned());
        }
        if terms.rescue {
            return Stand::Done(format!("{left} parked calls are taken up by whoever takes the seat"));
        }
        Stand::Waits("parked calls are ended".to_owned())
    }

    /// When a planned failover stops waiting for parked calls to end by themselves.
    pub(super) fn drained_at(&self, now: Now, pool: &str) -> Option<Instant> {
        let known = self.known.get(pool)?;
        let step = known.record.running()?.step(StepName::Parked)?;
        (step.state == StepState::Running).then(|| now.instant_of(step.at + known.terms.drain_time))
    }

    /// What is to be done with the calls in a lost pool's orbits, by whoever holds its seat.
    pub fn parked_fate(&self, now: Now, pool: &str) -> ParkedFate {
        let Some(known) = self.known.get(pool) else { return ParkedFate::Keep };
        match known.record.phase {
            Phase::Active | Phase::FailedOver | Phase::FailingBack => ParkedFate::Keep,
            _ if known.terms.rescue => ParkedFate::Keep,
            // Its hosts may be back in a minute: nobody is disconnected before the pool counts as lost, and nobody is
            // taken up who would be disconnected then.
            Phase::Outage => ParkedFate::Leave,
            Phase::Resilient => ParkedFate::End,
            Phase::FailingOver => {
                let running = known.record.running();
                let step = running.and_then(|journal| journal.step(StepName::Parked));
                match (running, step) {
                    (Some(journal), Some(step)) if step.state == StepState::Running => {
                        let over = now.utc >= step.at + known.terms.drain_time;
                        if journal.planned && !over { ParkedFate::Keep } else { ParkedFate::End }
                    }
                    (Some(journal), _) if journal.planned => ParkedFate::Keep,
                    _ => ParkedFate::Leave,
                }
            }
        }
    }

    fn move_seat(&self, seats: &Seats, pool: &str, procedure: Procedure) -> Stand {
        let wanted = match procedure {
            Procedure::Failover => self.backup(pool),
            Procedure::Failback => Some(pool),
        };
        let holder = seats.holder(pool);
        let there = holder.filter(|holder| {
            seats.hosts().any(|(name, host)| name == *holder && Some(&*host.identity.pool) == wanted)
        });
        match there {
            Some(holder) => Stand::Done(format!("{holder} serves the users of {pool}")),
            None => Stand::Waits(format!("a host of {} takes the seat", wanted.unwrap_or(pool))),
        }
    }

    fn ranges_out(&self, pool: &str, record: &PoolRecord, terms: Terms) -> Stand {
        if !terms.ranges_follow {
            return Stand::Done(
                "pickup ranges are moved by hand: switchyard orbit set NAME --pool POOL".to_owned(),
            );
        }
        let Some(backup) = record.backup.clone() else { return Stand::Done(String::new()) };
        let mut ranges: Vec<RangeSpec> = self
            .ranges
            .values()
            .filter(|(range, _)| range.kind == KIND_GROUP_PICKUP && range.pool == pool)
            .map(|(range, _)| RangeSpec { pool: backup.clone(), ..range.clone() })
            .collect();
        let last = ranges.len() <= RANGES_MAX;
        ranges.truncate(RANGES_MAX);
        Stand::Moves(ranges, last)
    }

    fn ranges_home(&self, pool: &str, record: &PoolRecord) -> Stand {
        // What somebody has put elsewhere meanwhile stays there.
        let mut ranges: Vec<RangeSpec> = record
            .moved
            .iter()
            .filter_map(|name| self.ranges.get(name))
            .filter(|(range, _)| Some(&range.pool) == record.backup.as_ref())
            .map(|(range, _)| RangeSpec { pool: pool.to_owned(), ..range.clone() })
            .collect();
        let last = ranges.len() <= RANGES_MAX;
        ranges.truncate(RANGES_MAX);
        Stand::Moves(ranges, last)
    }
}

/// What is to be done with the calls in a pool's orbits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParkedFate {
    /// They are looked after, and taken up from their records by who takes the seat.
    Keep,
    /// Their records are left alone for now.
    Leave,
    /// They are ended (`parked_on_outage = "disconnect"`).
    End,
}

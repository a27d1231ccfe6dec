//! What happens by itself: a silent pool is out, then lost; one that is heard again is back.

use std::time::Duration;

use serde::Serialize;

use super::ask::Ask;
use super::pools::{Known, Pools, Proposal, lives};
use super::record::{Journal, Phase, PoolRecord, Procedure};
use crate::cluster::Seats;
use crate::directory::Directory;
use crate::time::{Instant, Now};

/// Between the end of one procedure and an automatic failover of the same pool: what has just come home and fails again
/// needs a person.
const AUTOMATIC_PAUSE: Duration = Duration::from_secs(3600);

impl Pools {
    /// What this host has to write now, for each pool whose runner it is. Each answer of the store is to be applied before it
    /// is asked again.
    pub fn next(&self, now: Now, seats: &Seats, users: &Directory) -> Vec<Proposal> {
        let mine = self.known.iter().filter(|(name, _)| self.runner(seats, name) == Some(self.own));
        mine.filter_map(|(name, known)| {
            let transaction = match known.record.phase {
                Phase::FailingOver | Phase::FailingBack => self.go_on(now, seats, users, name)?,
                Phase::Active | Phase::Outage | Phase::Resilient => match self.seen(now, seats, known) {
                    Some(phase) => {
                        let record = PoolRecord { phase, since: now.utc, ..known.record.clone() };
                        self.write(seats, &record)?
                    }
                    None => self.by_policy(now, seats, name, known)?,
                },
                Phase::FailedOver => self.by_policy(now, seats, name, known)?,
            };
            Some(Proposal { pool: name.clone(), transaction })
        })
        .collect()
    }

    /// The phase that follows from who is heard.
    fn seen(&self, now: Now, seats: &Seats, known: &Known) -> Option<Phase> {
        let Known { record, terms, heard, silent, .. } = known;
        let backup = record.backup.as_deref()?;
        let over = |since: Option<Instant>, limit| {
            since.is_some_and(|since| now.instant.saturating_since(since) >= limit)
        };
        match record.phase {
            // A pool that nobody has ever served is not lost: its first host is yet to come.
            Phase::Active
                if silent.is_some() && seats.last_holder(&record.name).is_some() && lives(seats, backup) =>
            {
                Some(Phase::Outage)
            }
            Phase::Outage if heard.is_some() => Some(Phase::Active),
            Phase::Outage if over(*silent, terms.failure_detection) => Some(Phase::Resilient),
            Phase::Resilient if over(*heard, terms.failback_detection) => Some(Phase::Active),
            // Nobody else is there to serve them.
            Phase::Resilient if heard.is_some() && !lives(seats, backup) => Some(Phase::Active),
            Phase::Active
            | Phase::Outage
            | Phase::Resilient
            | Phase::FailingOver
            | Phase::FailedOver
            | Phase::FailingBack => None,
        }
    }

    /// A failover or failback that the policy wants and that nothing speaks against. A failback only of what the policy has
    /// failed over: what a person has moved, a person moves back.
    fn by_policy(
        &self,
        now: Now,
        seats: &Seats,
        pool: &str,
        known: &Known,
    ) -> Option<crate::store::Transaction> {
        if !known.terms.automatic {
            return None;
        }
        let journal = known.record.journal.as_ref();
        let ask = match known.record.phase {
            Phase::Resilient if known.silent.is_some() && rested(now, journal) => Ask::Failover,
            Phase::FailedOver
                if is_by_policy(&known.record)
                    && known.heard.is_some_and(|since| {
                        now.instant.saturating_since(since) >= known.terms.failback_detection
                    }) =>
            {
                Ask::Failback { disaster: false }
            }
            Phase::Active
            | Phase::Outage
            | Phase::Resilient
            | Phase::FailingOver
            | Phase::FailedOver
            | Phase::FailingBack => return None,
        };
        self.begin(now, seats, pool, ask, BY_POLICY).ok().map(|proposal| proposal.transaction)
    }

    /// When [`next`](Self::next) may have something to say although nothing changes.
    pub fn next_timeout(&self, now: Now, seats: &Seats) -> Option<Instant> {
        let mine = self.known.keys().filter(|name| self.runner(seats, name) == Some(self.own));
        mine.filter_map(|name| self.upcoming(now, name)).map(|(_, due)| due).min()
    }

    /// What comes next for a pool if nothing changes, and when, as this host counts it (RES-08).
    pub fn upcoming(&self, now: Now, pool: &str) -> Option<(Upcoming, Instant)> {
        let known = self.known.get(pool)?;
        let Known { record, terms, heard, silent, .. } = known;
        let upcoming = match record.phase {
            Phase::Outage => (Upcoming::Lost, (*silent)? + terms.failure_detection),
            Phase::Resilient if heard.is_some() => (Upcoming::Back, (*heard)? + terms.failback_detection),
            Phase::Resilient if terms.automatic => {
                let ended = record.journal.as_ref()?.ended?;
                (Upcoming::Failover, now.instant_of(ended + AUTOMATIC_PAUSE))
            }
            Phase::FailedOver if terms.automatic && is_by_policy(record) => {
                (Upcoming::Failback, (*heard)? + terms.failback_detection)
            }
            Phase::FailingOver | Phase::FailingBack => (Upcoming::Drained, self.drained_at(now, pool)?),
            Phase::Active | Phase::Resilient | Phase::FailedOver => return None,
        };
        Some(upcoming).filter(|(_, due)| *due > now.instant)
    }
}

/// What time alone brings about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Upcoming {
    /// The pool counts as lost.
    Lost,
    /// It counts as back.
    Back,
    /// The policy fails it over.
    Failover,
    /// The policy fails it back.
    Failback,
    /// What still waits in its orbits is ended, or goes along.
    Drained,
}

fn is_by_policy(record: &PoolRecord) -> bool {
    record.journal.as_ref().is_some_and(|journal| journal.asked_by == BY_POLICY)
}

/// Who asked for what nobody asked for.
pub(super) const BY_POLICY: &str = "policy";

fn rested(now: Now, journal: Option<&Journal>) -> bool {
    journal.is_none_or(|journal| {
        // A failover on top of one that was never undone cannot be: the pool would not be resilient.
        journal.procedure != Procedure::Failover
            && journal.ended.is_some_and(|ended| now.utc.saturating_since(ended) >= AUTOMATIC_PAUSE)
    })
}

//! In a cluster: pools that fail. What [`Pools`](crate::pool::Pools) proposes is written here, and what it means is done here.

use serde_json::json;

use super::Engine;
use super::record::StoreOwner;
use super::timers::Timer;
use crate::pool::{Changed, Journal, Phase, PoolRecord, Proposal, StepState};
use crate::store::{Change, Outcome, StoreError};

/// Who is behind a change that follows from which hosts are heard.
const BY_DETECTION: &str = "detection";

impl Engine {
    /// Writes what there is to write about pools, and wakes up for the rest.
    pub(super) fn look_at_pools(&mut self) {
        let now = self.core.now;
        let live = self.orbits.is_live();
        let Some(cluster) = &mut self.cluster else { return };
        cluster.pools.observe(now, &cluster.seats);
        self.look_at_parked();
        let Some(cluster) = &mut self.cluster else { return };
        if let Some(due) = cluster.pools.next_timeout(now, &cluster.seats) {
            self.core.timers.set(Timer::Pools, due);
        }
        if let Some(until) = cluster.rest_until.filter(|until| *until > now.instant) {
            self.core.timers.set(Timer::Pools, until);
            return;
        }
        if !live {
            return;
        }
        let mut proposals = cluster.pools.next(now, &cluster.seats, &self.directory);
        proposals.retain(|proposal| cluster.writing.insert(proposal.pool.clone()));
        for proposal in proposals {
            self.propose(proposal);
        }
    }

    fn propose(&mut self, proposal: Proposal) {
        let transaction = proposal.transaction.clone();
        self.write(transaction, StoreOwner::Pool { proposal });
    }

    /// What became of it.
    pub(super) fn pool_answered(&mut self, proposal: &Proposal, result: Result<Outcome, StoreError>) {
        if let Some(cluster) = &mut self.cluster {
            cluster.writing.remove(&proposal.pool);
        }
        match result {
            Ok(Outcome::Committed { revision }) => {
                for change in proposal.transaction.changes(revision) {
                    self.store_changed(&change);
                }
            }
            // Somebody else was there first: what to do follows from how it is now.
            Ok(Outcome::Conflict { current }) => {
                for (key, record) in current {
                    self.store_changed(&Change { key, record });
                }
                self.rest();
            }
            Err(error) => {
                let detail = json!({ "pool": proposal.pool, "error": error.to_string() });
                self.core.event("pool.failed", Some(35105), None, detail);
                self.rest();
            }
        }
    }

    /// A write did not come about: another one not at once.
    fn rest(&mut self) {
        let until = self.core.now.instant + super::seat::AGAIN;
        if let Some(cluster) = &mut self.cluster {
            cluster.rest_until = Some(until);
            self.core.timers.set(Timer::Pools, until);
        }
    }

    /// A pool has come on, by whomsoever.
    pub(super) fn pool_changed(&mut self, Changed { before, after }: &Changed) {
        for (procedure, step) in news(before.journal.as_ref(), after.journal.as_ref()) {
            let detail = json!({ "pool": after.name, "procedure": procedure, "step": step.0, "state": step.1, "note": step.2 });
            self.core.event("pool.step", None, None, detail);
        }
        if before.name != after.name {
            // It is new, and its hosts may have told of its policy before.
            self.read_terms();
        }
        if before.fqdn != after.fqdn {
            self.learn_names();
        }
        if before.replaced_by != after.replaced_by {
            let detail = json!({ "pool": after.name, "by": after.replaced_by });
            self.core.event("pool.replaced", None, None, detail);
        }
        if before.phase != after.phase {
            self.orbits.pool_moved(&after.name);
            let home = before.phase == Phase::FailingBack && after.phase == Phase::Active;
            let terms = self.cluster.as_ref().map(|cluster| cluster.pools.terms(&after.name));
            if home && terms.is_some_and(|terms| terms.ringing_stays) {
                self.orbits.ringing_stays(&after.name);
            }
            let code = match after.phase {
                Phase::Outage => Some(35111),
                Phase::Resilient | Phase::FailingOver | Phase::FailingBack => Some(35110),
                Phase::Active | Phase::FailedOver => None,
            };
            let by = begun_by(before, after);
            let detail = json!({ "pool": after.name, "from": before.phase, "to": after.phase, "backup": after.backup, "by": by });
            self.core.event("pool.phase", code, None, detail);
        }
    }
}

/// Whose doing a change of phase is: who asked for the procedure, the policy among them; or nobody's, but that hosts are silent, or
/// heard again.
fn begun_by<'a>(before: &PoolRecord, after: &'a PoolRecord) -> &'a str {
    // A procedure changes both at once; what is detected leaves the journal of the last one alone.
    let journal = after.journal.as_ref().filter(|journal| before.journal.as_ref() != Some(*journal));
    journal.map_or(BY_DETECTION, |journal| &journal.asked_by)
}

/// A step, its state and what is noted of it.
type News<'a> = (&'static str, (&'static str, StepState, &'a str));

/// The steps of a journal that were not like that before.
fn news<'a>(before: Option<&'a Journal>, after: Option<&'a Journal>) -> impl Iterator<Item = News<'a>> {
    let same = before.zip(after).is_some_and(|(before, after)| before.began == after.began);
    let known = move |step| same && before.is_some_and(|before| before.steps.contains(step));
    after.into_iter().flat_map(move |journal| {
        let steps = journal.steps.iter().filter(|step| step.state != StepState::Pending);
        let new = steps.filter(move |step| !known(step));
        new.map(|step| (journal.procedure.word(), (step.name.word(), step.state, step.note.as_str())))
    })
}

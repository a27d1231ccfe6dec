//! In a cluster: what users of a pool that fails may do, and what becomes of the calls in its orbits.
//!
//! Resiliency mode is per user, never per pool: users of the backup notice nothing (RES-12).

use serde_json::{Value, json};
use switchyard_sdk::ext::orbit::{Outcome, Reserve};
use switchyard_sdk::ext::ringing::{Take, WaitState};
use switchyard_sdk::types::{Code, LegId, Party, Refusal};

use super::record::StoreOwner;
use super::{Engine, Output, StoreId};
use crate::call::LegFacts;
use crate::orbit::{State, Whose};
use crate::plugin::Waiter;
use crate::pool::{ParkedFate, Phase};
use crate::store::{Snapshot, StoreError};

/// What a phone is told whose call waited in an orbit of a lost pool: temporary failure (ITU-T Q.850).
const LOST: &str = "Q.850;cause=41;text=\"Temporary failure\"";

/// What is left where a call cannot be picked up.
const ANSWERED_BY_CALLEE: &str = "It can be answered where it rings";

impl Engine {
    /// The phase of a pool; on a host alone all are active.
    fn phase_of(&self, pool: &str) -> Phase {
        self.cluster.as_ref().map_or(Phase::Active, |cluster| cluster.pools.phase(pool))
    }

    /// In whose orbits, and so by whose settings, a pool's users park: once the backup serves them, in the backup's (RES-20),
    /// also where a policy lets them park before the failover, and also in a call that stays with the backup when they are home
    /// again: only who serves an orbit's pool looks after who waits there.
    pub(super) fn serving<'a>(&'a self, pool: &'a str) -> &'a str {
        let Some(cluster) = &self.cluster else { return pool };
        let pool = cluster.pools.heir(pool);
        let away = cluster.pools.phase(pool) != Phase::Active || !cluster.served.contains(pool);
        let backup = cluster.pools.backup(pool).filter(|backup| away && cluster.served.contains(*backup));
        backup.unwrap_or(pool)
    }

    /// Why the users of a pool get no service at all now: it is out, and nobody has taken over yet (RES-18).
    pub(super) fn is_out(&self, pool: Option<&str>) -> Option<Refusal> {
        let pool = pool?;
        let pools = &self.cluster.as_ref()?.pools;
        let pool = pools.heir(pool);
        let record = pools.record(pool)?;
        if record.phase != Phase::Outage {
            return None;
        }
        let since = self.core.now.utc.saturating_since(record.since).as_secs();
        let text = format!(
            "pool {pool} has been out of service for {since} s: calls that are up go on; new ones are possible when it is back, or when \
             its backup takes over"
        );
        Some(Refusal::new(Code::POOL_OUT, text))
    }

    /// Why a user may not do this now, and what it can do instead: the pool it belongs to is being moved, and the policy says so.
    pub(super) fn bars(&mut self, action: &str, user: &Party) -> Option<Refusal> {
        let why = self.barred(action, user)?;
        let (what, instead) = match action {
            "park" => ("park calls", "Hold the call, or transfer it"),
            "retrieve" => ("fetch parked calls", "Try again in a few minutes"),
            _ => ("pick up calls", ANSWERED_BY_CALLEE),
        };
        let text = format!("{} cannot {what} now: {why}. {instead}", user.label());
        Some(Refusal::new(Code::RESILIENCY, text))
    }

    /// Why, in words for whoever has a phone.
    fn barred(&mut self, action: &str, user: &Party) -> Option<String> {
        let pool = self.cluster.as_ref()?.pools.heir(user.pool.as_deref()?).to_owned();
        let phase = self.phase_of(&pool);
        if !phase.is_resiliency() {
            return None;
        }
        let name = user.user.clone().unwrap_or_default();
        let mut who = json!(user);
        who["name"] = json!(name);
        let hook = format!("resiliency.allowed.{phase}.{action}");
        let question = json!([who, { "action": action, "phase": phase }]);
        let decision = self.policies.borrow_mut().decide(self.core.now, &pool, &hook, &question);
        (!decision.allowed).then(|| decision.reason.unwrap_or_else(|| standing(&pool, phase)))
    }

    /// Why a call cannot be parked now: because of its parker, or of the orbit that was named.
    pub(super) fn bars_park(&mut self, reserve: &Reserve) -> Option<Refusal> {
        if let Some(refusal) = self.bars("park", &reserve.parker) {
            return Some(refusal);
        }
        // A pool that is away has its orbits with it (RES-21); calls that wait there can be fetched.
        let number = reserve.number.as_deref();
        let pool = match number {
            Some(number) => self.orbits.ranges().find(number)?.pool(),
            None => &reserve.pool,
        };
        if !self.serves(pool) {
            // Nobody would look for the call there: neither who serves that pool, nor who takes its seat.
            let what = number.unwrap_or("the orbit");
            let text =
                format!("{what} belongs to pool {pool}, and this call is served by another pool's host");
            return Some(Refusal::new(Code::NOT_ALLOWED, text));
        }
        let number = number?;
        let phase = self.phase_of(pool);
        (phase != Phase::Active).then(|| {
            let why = standing(pool, phase);
            Refusal::new(
                Code::POOL_OUT,
                format!("{number} cannot be used now: {why}. Park without naming a number"),
            )
        })
    }

    /// Why a call cannot be picked up now: because of who picks, or of whose call it is; or its group's range is not where
    /// its callee is served (RES-22).
    pub(super) fn bars_pickup(&mut self, take: &Take) -> Option<Refusal> {
        if let Some(refusal) = self.bars("pickup", &take.picker) {
            return Some(refusal);
        }
        let call = match take.state {
            WaitState::Ringing => self.orbits.ringing_call(take.leg).cloned(),
            WaitState::Recalling | WaitState::Parked => self.parked_call(take.leg),
            WaitState::Held => None,
        };
        let callee = call?.callee;
        if let Some(why) = self.barred("pickup", &callee) {
            let text =
                format!("calls for {} cannot be picked up now: {why}. {ANSWERED_BY_CALLEE}", callee.label());
            return Some(Refusal::new(Code::RESILIENCY, text));
        }
        let number = take.group.as_deref()?;
        let range = self.orbits.ranges().find(number)?;
        let serving = self.cluster.as_ref()?.pools.serving(callee.pool.as_deref()?);
        (range.pool() != serving).then(|| {
            let (callee, name, pool) = (callee.label(), range.name(), range.pool());
            let text = format!(
                "calls for {callee} cannot be picked up in {number} now: its range {name} is with pool {pool}, and pool {serving} has \
                 {callee}. {ANSWERED_BY_CALLEE}"
            );
            Refusal::new(Code::RESILIENCY, text)
        })
    }

    /// Answers a plugin that somebody may not do what it asks for.
    pub(super) fn bar(&mut self, waiter: Waiter, number: Option<&str>, refusal: &Refusal) {
        let detail = json!({ "number": number, "text": refusal.text });
        self.core.event("pool.barred", Some(refusal.code.0), None, detail);
        let status = crate::call::status_for(refusal.code).0;
        self.answer::<Value>(waiter, Err((refusal, status)));
    }

    /// Does with the calls in a pool's orbits what its phase and its policy want, when that is something else by now.
    pub(super) fn look_at_parked(&mut self) {
        let now = self.core.now;
        let Some(cluster) = &mut self.cluster else { return };
        let mut read = Vec::new();
        let mut ended = Vec::new();
        for pool in &cluster.served {
            let fate = cluster.pools.parked_fate(now, pool);
            if cluster.dealt.insert(pool.clone(), fate) != Some(fate) && fate != ParkedFate::Leave {
                read.push(pool.clone());
            }
            if fate == ParkedFate::End {
                ended.push(pool.clone());
            }
        }
        for pool in read {
            let request = StoreId(self.core.fresh_id());
            self.stores.insert(request, StoreOwner::Parked { pool });
            self.core.emit(Output::Read { request });
        }
        for pool in ended {
            self.end_waiting(&pool);
        }
    }

    /// The store has been read for that.
    pub(super) fn parked_read(&mut self, pool: &str, result: Result<Snapshot, StoreError>) {
        if !self.serves(pool) {
            return;
        }
        match result {
            Ok(snapshot) => self.deal_with_parked(pool, &snapshot),
            Err(error) => {
                tracing::warn!(pool, %error, "what is in the pool's orbits cannot be read");
                if let Some(cluster) = &mut self.cluster {
                    cluster.dealt.remove(pool);
                }
                self.core.after(super::timers::Timer::Pools, super::seat::AGAIN);
            }
        }
    }

    /// Takes the calls in a pool's orbits up from their records, or ends them.
    pub(super) fn deal_with_parked(&mut self, pool: &str, snapshot: &Snapshot) {
        let now = self.core.now;
        let Some(cluster) = &mut self.cluster else { return };
        let fate = cluster.pools.parked_fate(now, pool);
        cluster.dealt.insert(pool.to_owned(), fate);
        match fate {
            ParkedFate::Keep => self.restore(snapshot, Whose::Pool(pool)),
            ParkedFate::Leave => {}
            ParkedFate::End => {
                for call in self.orbits.restore(now, snapshot, Whose::Pool(pool)) {
                    let number = call.number().to_owned();
                    if let Ok(facts) = serde_json::from_value::<LegFacts>(call.facts().clone()) {
                        let trunk = self.trunk_of(&facts);
                        let leg = self.calls.restore_alone(&mut self.core, facts, trunk);
                        self.calls.end(&mut self.core, leg, LOST, "its pool is lost");
                    }
                    self.lose(pool, &number);
                }
            }
        }
    }

    /// Ends the calls that wait here in a pool's orbits. One that somebody is fetching is left to them.
    fn end_waiting(&mut self, pool: &str) {
        let waiting: Vec<(String, LegId)> = self
            .orbits
            .occupants()
            .filter(|occupant| occupant.pool == pool)
            .filter(|occupant| matches!(occupant.state, State::Parked | State::Restored))
            .filter_map(|occupant| Some((occupant.number.to_string(), occupant.leg?)))
            .collect();
        for (number, leg) in waiting {
            self.lose(pool, &number);
            self.calls.end(&mut self.core, leg, LOST, "its pool is moved");
        }
    }

    fn lose(&mut self, pool: &str, number: &str) {
        self.orbits.release(self.core.now, number, Outcome::Released);
        let detail = json!({ "number": number, "pool": pool, "reason": "parked_on_outage = disconnect" });
        self.core.event("park.disconnected", Some(35111), None, detail);
    }
}

/// How a pool that is not at home stands, for those who hear of it from their phone. The last word is for who looks after pools.
fn standing(pool: &str, phase: Phase) -> String {
    match phase {
        Phase::Outage => format!("the servers of pool {pool} are down ({phase})"),
        Phase::Resilient => {
            format!("the servers of pool {pool} are down, and others stand in for them ({phase})")
        }
        Phase::FailingOver => format!("the users of pool {pool} are being moved to other servers ({phase})"),
        Phase::FailingBack => format!("the users of pool {pool} are being moved home ({phase})"),
        Phase::FailedOver => format!("the users of pool {pool} are with other servers ({phase})"),
        Phase::Active => format!("pool {pool} is {phase}"),
    }
}

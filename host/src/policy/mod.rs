//! The only mlua: settings and decisions, one revision at a time.
//!
//! A policy directory is read once into a [`Bundle`]; [`Policies`] runs it in a Lua state of its own, checks every
//! value against what plugins (and the host itself) declare, and keeps for each pool *settings*, converted once,
//! and *hooks*, Lua functions asked per decision. [`Policies::replace`] prepares a candidate as a whole beside the
//! running revision and then swaps; a candidate with a mistake changes nothing.
//!
//! | file | what it knows |
//! |---|---|
//! | `bundle` | files, once |
//! | `schema`, `lamps`, `outbound`, `resiliency`, `duration` | what a value must look like, and its defaults |
//! | `scan` | where each key stands in its file |
//! | `layer`, `load` | `base:extend`, `require`; from files to settings and hooks |
//! | `sandbox`, `prelude.lua`, `budget`, `pattern`, `strings` | what Lua may do, and for how long |
//! | `args`, `decide` | asking a hook |
//! | `fault`, `diagnostic` | mistakes in the author's terms |

mod args;
mod budget;
mod bundle;
mod decide;
mod diagnostic;
mod duration;
mod fault;
mod lamps;
mod layer;
mod load;
mod outbound;
mod pattern;
mod resiliency;
mod sandbox;
mod scan;
mod schema;
mod strings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value as Json, json};
use switchyard_sdk::ext::policy::Decision;
use switchyard_sdk::manifest::Section;

pub use budget::{Clock, Limits};
pub use bundle::Bundle;
pub use diagnostic::Diagnostic;
pub use load::Explained;
pub(crate) use outbound::ALLOW as ALLOW_OUTBOUND;

use crate::time::Now;
use load::{Hook, Prepared};
use sandbox::Dice;
use schema::Schema;

/// The sections that are the host's own.
pub(crate) const HOST_SECTIONS: [&str; 3] = [lamps::NAME, outbound::NAME, resiliency::NAME];

/// The policies of all pools, in one Lua state. Belongs to one engine and its thread.
pub struct Policies {
    schema: Rc<Schema>,
    pools: Vec<String>,
    limits: Limits,
    dice: Dice,
    revision: u64,
    running: Prepared,
    /// Of other pools, as their own hosts run them.
    lent: BTreeMap<String, Prepared>,
    /// What is wrong with the candidate refused last, and its hash; gone when one was taken.
    refused: Option<(String, Vec<Diagnostic>)>,
    counters: Counters,
}

/// How often what happened, since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counters {
    /// Decisions asked for, with and without a hook.
    pub decisions: u64,
    /// Hooks that raised an error or gave an answer nobody understands.
    pub failures: u64,
    /// Hooks that were stopped: instructions, time, memory.
    pub overruns: u64,
    /// Replacements of settings that were refused.
    pub invalid_replacements: u64,
    /// Candidates taken over.
    pub reloads: u64,
    /// Candidates refused.
    pub refused: u64,
    /// States that were full and made afresh.
    pub renewals: u64,
}

impl Policies {
    /// Prepares the policies of a bundle. `sections` are those of the plugins' manifests; the host's own are
    /// added. `pools` are the pools one expects to be asked for; others get theirs just as well.
    /// `seed` is for `random()`.
    ///
    /// Without a limit of time: see [`limit_time`](Self::limit_time).
    pub fn new(
        sections: &[Section],
        bundle: Arc<Bundle>,
        pools: &[String],
        seed: u64,
    ) -> Result<Policies, Vec<Diagnostic>> {
        Self::with_limits(sections, bundle, pools, seed, Limits::default())
    }

    /// The same with other limits.
    pub fn with_limits(
        sections: &[Section],
        bundle: Arc<Bundle>,
        pools: &[String],
        seed: u64,
        limits: Limits,
    ) -> Result<Policies, Vec<Diagnostic>> {
        let schema = Rc::new(Schema::new(sections)?);
        let dice = sandbox::dice(seed);
        let running = Prepared::new(&schema, bundle, &limits, &dice)?;
        Ok(Policies {
            schema,
            pools: pools.to_vec(),
            limits,
            dice,
            revision: 1,
            running,
            lent: BTreeMap::new(),
            refused: None,
            counters: Counters::default(),
        })
    }

    /// Limits the time of decisions by a clock. Until then, and in simulation, instructions and bytes are the limits:
    /// an engine reads no clock of its own.
    pub fn limit_time(&mut self, clock: Clock, longest: Duration) {
        self.limits.time = Some((clock, longest));
        for prepared in self.lent.values().chain([&self.running]) {
            prepared.sandbox.budget.set_limits(self.limits.clone());
        }
    }

    /// From now on a pool has the policy of these files, which its own hosts run, whatever this host's own files say of it;
    /// without any, that of this host's files again. Files that cannot be used change nothing.
    pub fn lend(&mut self, pool: &str, bundle: Option<Arc<Bundle>>) -> Result<(), Vec<Diagnostic>> {
        match bundle {
            Some(bundle) => {
                let prepared = Prepared::new(&self.schema, bundle, &self.limits, &self.dice)?;
                self.lent.insert(pool.to_owned(), prepared);
            }
            None => drop(self.lent.remove(pool)),
        }
        Ok(())
    }

    fn of(&self, pool: &str) -> &Prepared {
        self.lent.get(pool).unwrap_or(&self.running)
    }

    /// Replaces the running policies and returns the new revision, or leaves everything as it was and remembers
    /// why. A bundle that is running already is not prepared again.
    pub fn replace(&mut self, bundle: Arc<Bundle>) -> Result<u64, Vec<Diagnostic>> {
        if bundle.hash() == self.running.bundle.hash() {
            self.refused = None;
            return Ok(self.revision);
        }
        let hash = bundle.hash().to_owned();
        match Prepared::new(&self.schema, bundle, &self.limits, &self.dice) {
            Ok(prepared) => {
                self.running = prepared;
                self.revision += 1;
                self.refused = None;
                self.counters.reloads += 1;
                Ok(self.revision)
            }
            Err(errors) => {
                self.refused = Some((hash, errors.clone()));
                self.counters.refused += 1;
                Err(errors)
            }
        }
    }

    /// The settings of a section in the policy of a pool, as a JSON object: durations in milliseconds, `none` as
    /// null, music as [`Music`](switchyard_sdk::ext::call::Music). `None`: nobody declared such a section.
    ///
    /// A pool nobody knows has the policy of `default.lua`.
    pub fn settings(&self, pool: &str, section: &str) -> Option<&str> {
        self.of(pool).pool(pool).terms(section).map(|terms| terms.text.as_str())
    }

    /// Asks a hook by its full name (`call_park.allow`) about `args`: an array becomes several parameters, an
    /// object one table.
    ///
    /// Never fails. Without a hook, and when it fails or takes too long, the decision is the documented default:
    /// allowed, with the section's settings; for a cell of `resiliency.allowed` what the table says.
    pub fn decide(&mut self, now: Now, pool: &str, hook: &str, args: &Json) -> Decision {
        self.counters.decisions += 1;
        let name = hook;
        let prepared = self.lent.get(pool).unwrap_or(&self.running);
        let Some(hook) = prepared.pool(pool).hook(name) else {
            tracing::warn!(pool, hook = name, "policy: no such hook is declared");
            self.counters.failures += 1;
            return Decision { revision: self.revision, ..Decision::default() };
        };
        let mut decision = self.without_hook(hook);
        if hook.function.is_none() {
            return decision;
        }
        match prepared.ask(&self.schema, now, hook, args, &mut decision) {
            Ok(said) => {
                for mistake in &said.mistakes {
                    tracing::warn!(pool, hook = name, revision = self.revision, "policy: {mistake}");
                }
                self.counters.invalid_replacements += said.mistakes.len() as u64;
                decision
            }
            Err(failure) => {
                tracing::warn!(pool, hook = name, revision = self.revision, "policy: {}", failure.text);
                let mut decision = self.without_hook(hook);
                decision.allowed = hook.allowed_by_default;
                if failure.overrun {
                    self.counters.overruns += 1;
                    self.renew_if_full();
                } else {
                    self.counters.failures += 1;
                }
                decision
            }
        }
    }

    fn without_hook(&self, hook: &Hook) -> Decision {
        let settings = hook.terms.json.clone();
        Decision { allowed: hook.allowed, reason: None, settings, revision: self.revision }
    }

    /// A hook can remember things in variables of its file. One that does so without end fills the state, and
    /// then every hook fails; a fresh state forgets.
    fn renew_if_full(&mut self) {
        let sandbox = &self.running.sandbox;
        if sandbox.lua.used_memory() < self.limits.state_bytes / 2 {
            return;
        }
        // A collection fails only where a finalizer does, and there are none.
        let _ = sandbox.lua.gc_collect();
        if sandbox.lua.used_memory() < self.limits.state_bytes / 2 {
            return;
        }
        let bundle = self.running.bundle.clone();
        if let Ok(prepared) = Prepared::new(&self.schema, bundle, &self.limits, &self.dice) {
            tracing::warn!(revision = self.revision, "policy: the Lua state was full and is made afresh");
            self.running = prepared;
            self.counters.renewals += 1;
        }
    }

    /// `{revision, hash, pools: [{pool, file, settings: {section: {…}}}], last_error: [text], refused_hash, counters}`. A pool whose
    /// file is null has the documented defaults; `last_error` is empty when the candidate read last was taken.
    pub fn status(&self) -> Json {
        let mut pools: Vec<&str> =
            self.pools.iter().map(String::as_str).chain(self.running.pools()).collect();
        pools.sort_unstable();
        pools.dedup();
        let pools: Vec<Json> = pools
            .into_iter()
            .map(|pool| {
                let settings = self.of(pool).pool(pool).settings();
                json!({ "pool": pool, "file": self.running.pool(pool).file, "settings": settings })
            })
            .collect();
        let errors = self.last_error().iter().map(ToString::to_string).collect::<Vec<_>>();
        json!({
            "revision": self.revision,
            "hash": self.running.bundle.hash(),
            "pools": pools,
            "last_error": errors,
            "refused_hash": self.refused.as_ref().map(|(hash, _)| hash),
            "counters": self.counters,
        })
    }

    /// What is wrong with the candidate refused last; empty if one was taken since.
    pub fn last_error(&self) -> &[Diagnostic] {
        self.refused.as_ref().map_or(&[], |(_, errors)| errors)
    }

    /// The running revision: 1 at the start, one more with each reload.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The bundle that is running.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.running.bundle
    }

    /// How often what happened.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Every setting and hook of a pool with the file and line it comes from.
    pub fn explain(&self, pool: &str) -> &[Explained] {
        &self.running.pool(pool).explained
    }
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies")
            .field("revision", &self.revision)
            .field("hash", &self.running.bundle.hash())
            .finish_non_exhaustive()
    }
}

/// Everything that is wrong with the policies of a directory, sorted by file and line: `switchyard policy check`.
///
/// Files of pools that are not in `pools` are checked as well.
pub fn check(dir: &Path, sections: &[Section], pools: &[String]) -> Vec<Diagnostic> {
    match Bundle::read(dir) {
        Err(error) => vec![error],
        Ok(bundle) => Policies::new(sections, Arc::new(bundle), pools, 0).err().unwrap_or_default(),
    }
}

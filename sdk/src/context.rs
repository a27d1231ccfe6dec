//! What a flow can do: its handle to the host.

use std::fmt::Display;
use std::rc::Rc;
use std::time::Duration;

use crate::encode;
use crate::executor::Core;
use crate::ext::call::Calls;
use crate::ext::log::Log;
use crate::ext::metrics::Metrics;
use crate::ext::orbit::{Commit, Orbits, Resume};
use crate::ext::policy::Policy;
use crate::ext::ringing::Ringing;
use crate::ext::timer::Timer;
use crate::types::{FlowId, Utc};

/// A flow's handle to the host. Cheap to clone; never leaves the engine's thread.
#[derive(Clone)]
pub struct Context {
    core: Rc<Core>,
    flow: u64,
    key: u64,
}

impl Context {
    pub(crate) fn new(core: Rc<Core>, flow: u64, key: u64) -> Self {
        Self { core, flow, key }
    }

    /// Which flow this is, as the host names it in its log.
    pub fn flow(&self) -> FlowId {
        FlowId(self.flow)
    }

    /// The wall clock, as of the event that is being handled. The only clock a plugin should read: it stands
    /// still in a test until the test moves it.
    pub fn now(&self) -> Utc {
        Utc(self.core.utc_ms())
    }

    /// Monotonic time since the host started, as of the event that is being handled.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.core.elapsed_ns())
    }

    /// Legs: play, join, ring, release, watch. Extension `switchyard.call/1`.
    pub fn calls(&self) -> Calls<'_> {
        Calls(self)
    }

    /// Places a call can wait in. Extension `switchyard.orbit/1`.
    pub fn orbits(&self) -> Orbits<'_> {
        Orbits(self)
    }

    /// Calls that ring at users. Extension `switchyard.ringing/1`.
    pub fn ringing(&self) -> Ringing<'_> {
        Ringing(self)
    }

    /// Settings and decisions of a pool. Extension `switchyard.policy/1`.
    pub fn policy(&self) -> Policy<'_> {
        Policy(self)
    }

    /// Waiting for a time. Extension `switchyard.timer/1`.
    pub fn timer(&self) -> Timer<'_> {
        Timer(self)
    }

    /// The host's log. Extension `switchyard.log/1`; silent if the manifest does not declare it.
    pub fn log(&self) -> Log<'_> {
        Log(self)
    }

    /// Counters. Extension `switchyard.metrics/1`; silent if the manifest does not declare it.
    pub fn metrics(&self) -> Metrics<'_> {
        Metrics(self)
    }

    /// Says that `record` is all there is to know of this flow, for as long as the guard lives.
    ///
    /// When a newer copy of the plugin takes over, a flow that rests is dropped here and goes on there, started
    /// by [`Plugin::resume`](crate::Plugin::resume) from the record; others finish, or come to rest, first. The
    /// record is stored (behind the call, without waiting) unless it is what was committed, saved or handed over
    /// last.
    /// Deadlines in it are absolute, and nothing the flow did since may matter to its successor.
    #[must_use = "the flow rests as long as this guard lives"]
    pub fn rest(&self, record: &Commit) -> Rest {
        self.orbits().save(record);
        self.core.rest(self.key);
        Rest { core: Rc::clone(&self.core), key: self.key }
    }

    /// The record a flow was started from is stored already.
    pub(crate) fn remember_stored(&self, resume: &Resume) {
        let (number, terms, state) = (resume.number.clone(), resume.terms.clone(), resume.state.clone());
        self.core.remember_stored(self.key, &encode(&Commit { number, terms, state }));
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    pub(crate) fn flow_number(&self) -> u64 {
        self.flow
    }

    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    pub(crate) fn write_log(&self, level: u32, text: impl Display) {
        self.core.host.log(self.flow, level, &text.to_string());
    }
}

/// While it lives, the flow rests: see [`Context::rest`].
#[must_use = "the flow rests as long as this guard lives"]
pub struct Rest {
    core: Rc<Core>,
    key: u64,
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.core.rise(self.key);
    }
}

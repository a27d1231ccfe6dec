//! What a host leaves undone that others may take for dead: it has lost its lease, or will any moment (design.md §8).
//!
//! Established calls and music go on, and what phones ask is done. What the host would do by itself waits, because another
//! host may be doing it: the clocks of parked calls stand still, and so do refreshes and probes.

use std::time::Duration;

use super::Engine;
use super::timers::Timer;
use crate::store::Standing;

/// How often a clock that stands still is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The longest registration that is granted meanwhile. Whoever takes over knows nothing of it before it is refreshed.
const FENCED_GRANT: Duration = Duration::from_secs(60);

impl Engine {
    /// This host may write parked calls and decide who gets them, or not.
    pub(super) fn stands(&mut self, standing: Standing) {
        let now = self.core.now;
        let (what, code) = match standing {
            Standing::Live { .. } => ("host.live", None),
            Standing::Lapsed => ("host.fenced", Some(35104)),
        };
        self.core.event(what, code, None, serde_json::Value::Null);
        self.orbits.set_standing(now, standing);
        if let Some(cluster) = &mut self.cluster {
            cluster.fenced_since = match standing {
                Standing::Live { .. } => None,
                Standing::Lapsed => cluster.fenced_since.or(Some(now.instant)),
            };
            cluster.changed = true;
        }
        let briefly = matches!(standing, Standing::Lapsed).then_some(FENCED_GRANT);
        self.registrar.grant_at_most(briefly);
        self.store_at_last();
    }

    /// Puts a timer off that must not go off while others may do the same.
    pub(super) fn put_off(&mut self, timer: Timer) -> bool {
        let waits = match timer {
            Timer::Refresh(_)
            | Timer::SessionExpiry(_)
            | Timer::TellAgain(_)
            | Timer::Probe(_)
            | Timer::TakeUpAgain(_) => true,
            Timer::Plugin(waiter) => {
                self.plugins.flow_of(waiter).is_some_and(|flow| self.orbits.looks_after(flow))
            }
            _ => false,
        };
        let waits = waits && self.is_fenced();
        if waits {
            self.core.after(timer, LOOK);
        }
        waits
    }

    /// Whether others may take this host for dead, and not for so long that its parked calls are given up waiting for them.
    fn is_fenced(&self) -> bool {
        let since = self.cluster.as_ref().and_then(|cluster| cluster.fenced_since);
        since.is_some_and(|since| self.core.now.instant < since + self.fenced_limit())
    }

    fn fenced_limit(&self) -> Duration {
        let policies = self.policies.borrow();
        let settings = policies.settings(&self.config.host.pool, "resiliency");
        let settings: Option<serde_json::Value> = settings.and_then(|text| serde_json::from_str(text).ok());
        let limit_ms = settings.and_then(|settings| settings["fenced_limit"].as_u64());
        Duration::from_millis(limit_ms.unwrap_or(900_000))
    }
}

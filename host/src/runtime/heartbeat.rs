//! Whether the engine's thread gets on with its work, seen from another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::{Instant, Now};

/// Work without a pause for so long is worth a line in the log. The longest honest turn, a policy reload of a big
/// site, takes some ten milliseconds.
pub const TOO_LONG: Duration = Duration::from_secs(2);

/// Written by the engine's loop each turn, read by [`Heartbeat::busy_for`]. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    /// Nanoseconds on the host's clock at which this turn began; 0 while the engine rests.
    working_since: Arc<AtomicU64>,
}

impl Heartbeat {
    pub(super) fn working(&self, now: Now) {
        let nanos = u64::try_from(now.instant.since_start().as_nanos()).unwrap_or(u64::MAX);
        self.working_since.store(nanos.max(1), Ordering::Relaxed);
    }

    pub(super) fn resting(&self) {
        self.working_since.store(0, Ordering::Relaxed);
    }

    /// How long the present turn has lasted; zero if the engine rests.
    pub fn busy_for(&self, now: Now) -> Duration {
        match self.working_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            nanos => now.instant.saturating_since(Instant::after_start(Duration::from_nanos(nanos))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Utc;

    #[test]
    fn a_turn_is_timed_from_its_start_and_rest_is_no_work() {
        let at = |seconds| Now { instant: Instant::after_start(Duration::from_secs(seconds)), utc: Utc(0) };
        let heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.busy_for(at(5)), Duration::ZERO);
        heartbeat.working(at(5));
        assert_eq!(heartbeat.clone().busy_for(at(8)), Duration::from_secs(3));
        heartbeat.resting();
        assert_eq!(heartbeat.busy_for(at(9)), Duration::ZERO);
        heartbeat.working(at(0));
        assert_eq!(heartbeat.busy_for(at(1)).as_secs(), 0, "the first nanosecond counts as work");
    }
}

//! The media thread's own clock: it paces packets, so nobody can hand it the time.

use crate::time::{Instant, Now, Utc};

/// Reads the machine's clocks.
#[derive(Debug)]
pub(super) struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// A clock that starts now.
    #[expect(clippy::disallowed_methods, reason = "the pacer's one look at the monotonic clock")]
    pub(super) fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// The present. A wall clock before 1970 counts as 1970.
    #[expect(clippy::disallowed_methods, reason = "the pacer's one look at the wall clock, for RTCP")]
    pub(super) fn now(&self) -> Now {
        let utc = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Now {
            instant: Instant::after_start(self.start.elapsed()),
            utc: Utc(u64::try_from(utc.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

//! Time as an argument: the engine never reads a clock.
//!
//! [`Now`] is a pair. Its monotonic half drives timers; its UTC half is what is stored or shown, so a deadline
//! survives a restart. Only `runtime::clock` makes one from the machine's clocks; a simulation makes its own.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment on the host's monotonic clock, counted from when the host (or the simulated world) started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The start of the clock.
    pub const ZERO: Instant = Instant(0);

    /// The moment `elapsed` after the start of the clock. Saturates after some 584 years.
    pub const fn after_start(elapsed: Duration) -> Self {
        Self(saturating_nanos(elapsed))
    }

    /// How long after the start of the clock this is.
    pub const fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, delay: Duration) -> Instant {
        Instant(self.0.saturating_add(saturating_nanos(delay)))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}.{:03}", self.0 / 1_000_000_000, self.0 / 1_000_000 % 1000)
    }
}

const fn saturating_nanos(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }
}

/// A wall-clock moment: milliseconds since 1970-01-01T00:00:00Z. Stored and shown; never drives a timer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Utc(pub u64);

impl Utc {
    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Utc) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Utc {
    type Output = Utc;
    fn add(self, delay: Duration) -> Utc {
        Utc(self.0.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// The present, as handed to every function whose outcome depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Drives timers.
    pub instant: Instant,
    /// Is stored and shown.
    pub utc: Utc,
}

impl Now {
    /// The monotonic moment at which the wall clock will show `deadline`; `self.instant` if it has passed.
    pub fn instant_of(&self, deadline: Utc) -> Instant {
        self.instant + deadline.saturating_since(self.utc)
    }

    /// What the wall clock will show at `at`; what it shows now if that has passed.
    pub fn utc_of(&self, at: Instant) -> Utc {
        self.utc + at.saturating_since(self.instant)
    }

    /// What the wall clock showed at `since`, if nobody has set it meanwhile.
    pub fn utc_since(&self, since: Instant) -> Utc {
        let ago = u64::try_from(self.instant.saturating_since(since).as_millis()).unwrap_or(u64::MAX);
        Utc(self.utc.0.saturating_sub(ago))
    }
}

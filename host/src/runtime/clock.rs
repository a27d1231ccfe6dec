//! The only reader of the machine's clocks. Everything else is handed a [`Now`].
#![expect(clippy::disallowed_methods, reason = "this is where time becomes an argument")]

use std::time::{Duration, SystemTime};

use crate::time::{Instant, Now, Utc};

/// The host's clock, started with the host. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// The present. Its UTC half follows the wall clock even where somebody sets it; its monotonic half does not.
    pub fn now(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now {
            instant: Instant::after_start(self.start.elapsed()),
            utc: Utc(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// When tokio's timers should wake whoever waits for `deadline`.
    pub fn wake_at(&self, deadline: Instant) -> tokio::time::Instant {
        // Beyond what the clock can tell is as good as never; a year from now somebody looks again.
        let never = Duration::from_secs(365 * 24 * 3600);
        let since_start = deadline.since_start();
        let moment = self.start.checked_add(since_start).unwrap_or(self.start + self.start.elapsed() + never);
        tokio::time::Instant::from_std(moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_go_forward_and_the_wall_clock_is_right_to_the_year() {
        let clock = Clock::start();
        let first = clock.now();
        std::thread::sleep(Duration::from_millis(5));
        let second = clock.now();
        assert!(second.instant >= first.instant + Duration::from_millis(5));
        assert!(first.instant < Instant::after_start(Duration::from_secs(60)));
        let from_2024_to_2100 = Utc(1_704_067_200_000)..Utc(4_102_444_800_000);
        assert!(from_2024_to_2100.contains(&second.utc), "{:?}", second.utc);
    }

    #[test]
    fn a_deadline_is_the_same_moment_for_tokio() {
        let clock = Clock::start();
        let start = clock.wake_at(Instant::ZERO);
        let later = clock.wake_at(Instant::after_start(Duration::from_secs(90)));
        assert_eq!(later - start, Duration::from_secs(90));
        clock.wake_at(Instant::after_start(Duration::MAX));
    }
}

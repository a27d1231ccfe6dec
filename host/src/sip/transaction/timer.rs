//! Time in transactions: the base values, doubling intervals, and the queue of all wake-ups.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::time::Instant;

/// The base values all timers are made of (RFC 3261 §17.1.1.1, Table 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timings {
    /// Estimate of a round trip: the first retransmission.
    pub t1: Duration,
    /// Longest pause between retransmissions of anything but an INVITE request.
    pub t2: Duration,
    /// How long a message may linger in the network.
    pub t4: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

impl Timings {
    /// 64*T1: when both sides of a transaction give up.
    pub fn give_up(&self) -> Duration {
        self.t1.saturating_mul(64)
    }
}

/// A retransmission whose interval doubles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) at: Instant,
    interval: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new(now: Instant, timings: &Timings, longest: Duration) -> Self {
        Self { at: now + timings.t1, interval: timings.t1, longest }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at <= now
    }

    /// Counts from `now`, not from when it was due: after a stall of ours a burst of repeats would help nobody.
    pub(super) fn again(&mut self, now: Instant) {
        self.interval = self.interval.saturating_mul(2).min(self.longest);
        self.at = now + self.interval;
    }

    pub(super) fn jump_to_longest(&mut self, now: Instant) {
        self.interval = self.longest;
        self.at = now + self.longest;
    }
}

/// The first of several alarms, those not set left out.
pub(super) fn earliest<T: Copy, const N: usize>(alarms: [(Option<Instant>, T); N]) -> Option<(Instant, T)> {
    alarms.into_iter().filter_map(|(at, timer)| Some((at?, timer))).min_by_key(|(at, _)| *at)
}

/// When each transaction wants to be woken, soonest first; ties in the order of ids, so that runs repeat.
#[derive(Debug)]
pub(super) struct Queue<Id> {
    alarms: BTreeSet<(Instant, Id)>,
}

impl<Id> Default for Queue<Id> {
    fn default() -> Self {
        Self { alarms: BTreeSet::new() }
    }
}

impl<Id: Copy + Ord> Queue<Id> {
    /// Moves the alarm of `id` from `set` (what the last call made it) to `to`.
    pub(super) fn set(&mut self, id: Id, set: &mut Option<Instant>, to: Option<Instant>) {
        if *set == to {
            return;
        }
        if let Some(old) = *set {
            self.alarms.remove(&(old, id));
        }
        if let Some(new) = to {
            self.alarms.insert((new, id));
        }
        *set = to;
    }

    pub(super) fn first(&self) -> Option<Instant> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Whose alarm is due. It stays in the queue until its owner sets another.
    pub(super) fn due(&self, now: Instant) -> Option<Id> {
        self.alarms.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant::after_start(Duration::from_millis(ms))
    }

    #[test]
    fn intervals_double_up_to_the_longest() {
        let timings = Timings::default();
        let mut backoff = Backoff::new(ms(0), &timings, timings.t2);
        let mut seen = vec![];
        for _ in 0..5 {
            seen.push(backoff.at);
            backoff.again(backoff.at);
        }
        assert_eq!(seen, [500, 1500, 3500, 7500, 11500].map(ms));
    }

    #[test]
    fn the_queue_moves_and_forgets_alarms() {
        let mut queue = Queue::default();
        let (mut a, mut b) = (None, None);
        queue.set(1, &mut a, Some(ms(20)));
        queue.set(2, &mut b, Some(ms(10)));
        assert_eq!((queue.first(), queue.due(ms(9)), queue.due(ms(30))), (Some(ms(10)), None, Some(2)));
        queue.set(2, &mut b, Some(ms(40)));
        assert_eq!(queue.due(ms(30)), Some(1));
        queue.set(1, &mut a, None);
        assert_eq!((queue.due(ms(30)), queue.first(), a), (None, Some(ms(40)), None));
    }
}

//! Wake-ups by name: at most one per key, the earliest first, ties in the order they were set.

use std::collections::BTreeMap;

use switchyard_sdk::types::LegId;

use super::AdminId;
use crate::call::OpId;
use crate::notifier::LampId;
use crate::plugin::Waiter;
use crate::time::Instant;

/// Why the engine wants to be woken. Each doc finishes the sentence "When to…".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// …send our 2xx to an INVITE again, because no ACK came (RFC 3261 §13.3.1.4).
    Answer(LegId),
    /// …send a reliable provisional response again, because no PRACK came (RFC 3262 §3).
    Provisional(LegId),
    /// …stop ringing a phone that neither answers nor refuses (RFC 3261 §16.8, Timer C).
    Ring(LegId),
    /// …refresh the session, because we promised to (RFC 4028 §7.2).
    Refresh(LegId),
    /// …give the session up, because its refresh never came (RFC 4028 §10).
    SessionExpiry(LegId),
    /// …tell a phone and its peer again of each other: what they know is in doubt.
    TellAgain(LegId),
    /// …ask a phone without session timer whether it still knows the call.
    Probe(LegId),
    /// …stop waiting for a phone that is trying to answer our re-INVITE, and never does.
    Reinvite(LegId),
    /// …end the leg of a parker or transferor whose phone did not do so itself.
    Clear(LegId),
    /// …try an operation again that met a 491 (RFC 3261 §14.1).
    Retry(OpId),
    /// …give an operation up.
    Operation(OpId),
    /// …look again whether a held call has appeared, for a park by hold and dial.
    HoldWait(LegId),
    /// …forward a call that nobody answers, as its callee wishes.
    NoAnswer(LegId),
    /// …ring the callee once more for a caller whose picker has left in the middle of it.
    RingAgain(LegId),
    /// …answer a plugin's timer.
    Plugin(Waiter),
    /// …give a parked call whose flow has failed to a new one.
    Restart(LegId),
    /// …ask the phone of a parked call again that did not want its music back after a restart.
    TakeUpAgain(LegId),
    /// …forget a transfer's subscription (RFC 6665 §4.2.2).
    Subscription(u64),
    /// …tell a watcher what has changed meanwhile (RFC 4235 §3.10).
    LampDue(LampId),
    /// …end a watcher's subscription, because it was not refreshed.
    LampExpiry(LampId),
    /// …compare what watchers were told with the truth.
    LampCheck,
    /// …answer with what other hosts have said so far.
    Gather(AdminId),
    /// …take the seat of a pool that nobody serves.
    Seats,
    /// …write down the calls that have changed again soon after they were written.
    RecordCalls,
    /// …write once more what the store did not take.
    StoreAtLast,
    /// …bring a pool on that has been silent, or heard again, for long enough.
    Pools,
}

/// The engine's own wake-ups; transactions, registrar and orbits keep theirs.
#[derive(Debug, Default)]
pub struct Timers {
    due: BTreeMap<(Instant, u64), Timer>,
    at: BTreeMap<Timer, (Instant, u64)>,
    sequence: u64,
}

impl Timers {
    /// Sets a timer, replacing what was set under that key.
    pub fn set(&mut self, timer: Timer, at: Instant) {
        self.cancel(timer);
        self.sequence += 1;
        let key = (at, self.sequence);
        self.due.insert(key, timer);
        self.at.insert(timer, key);
    }

    /// Forgets a timer; one that is not set is ignored.
    pub fn cancel(&mut self, timer: Timer) {
        if let Some(key) = self.at.remove(&timer) {
            self.due.remove(&key);
        }
    }

    /// Forgets every timer of a leg.
    pub fn cancel_leg(&mut self, leg: LegId) {
        for timer in [
            Timer::Answer(leg),
            Timer::Provisional(leg),
            Timer::Ring(leg),
            Timer::Refresh(leg),
            Timer::SessionExpiry(leg),
            Timer::TellAgain(leg),
            Timer::Probe(leg),
            Timer::Reinvite(leg),
            Timer::Clear(leg),
            Timer::HoldWait(leg),
            Timer::NoAnswer(leg),
            Timer::RingAgain(leg),
            Timer::Restart(leg),
        ] {
            self.cancel(timer);
        }
    }

    /// When a timer is due, if it is set.
    pub fn when(&self, timer: Timer) -> Option<Instant> {
        self.at.get(&timer).map(|(at, _)| *at)
    }

    /// The earliest wake-up.
    pub fn next(&self) -> Option<Instant> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// Takes the earliest timer that is due at `now`.
    pub fn pop(&mut self, now: Instant) -> Option<Timer> {
        let (&key, &timer) = self.due.iter().next()?;
        if key.0 > now {
            return None;
        }
        self.due.remove(&key);
        self.at.remove(&timer);
        Some(timer)
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::after_start(Duration::from_millis(ms))
    }

    #[test]
    fn a_timer_set_again_fires_once_at_its_new_time() {
        let mut timers = Timers::default();
        timers.set(Timer::Ring(LegId(1)), at(10));
        timers.set(Timer::Ring(LegId(1)), at(30));
        timers.set(Timer::Ring(LegId(2)), at(20));
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.pop(at(40)), Some(Timer::Ring(LegId(2))));
        assert_eq!(timers.pop(at(40)), Some(Timer::Ring(LegId(1))));
        assert_eq!(timers.pop(at(40)), None);
        assert!(timers.is_empty());
    }
}

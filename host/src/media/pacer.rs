//! When which streams send: twenty slots of a millisecond, each stream in one of them, each slot due every 20 ms.
//!
//! Staggering spreads the work: with 5000 streams a slot holds 250 packets, about half a millisecond of sending,
//! instead of 10 ms of it at once.

use std::time::Duration;

use crate::time::Instant;

/// Slots in a round, one per millisecond of a frame.
pub const SLOTS: usize = 20;

/// A slot whose turn has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Which slot.
    pub slot: usize,
    /// In which round. Rounds are 20 ms apart, skipped ones are counted too, so they are the media clock.
    pub round: u64,
}

/// The wheel of slots.
#[derive(Debug, Default)]
pub struct Pacer {
    members: [Vec<usize>; SLOTS],
    /// The next millisecond to look at.
    next_ms: u64,
    skipped: u64,
}

impl Pacer {
    /// A wheel with empty slots.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a member into the emptiest slot and says which.
    pub fn join(&mut self, member: usize) -> usize {
        let slot = (0..SLOTS).min_by_key(|&slot| self.members[slot].len()).unwrap_or(0);
        self.members[slot].push(member);
        slot
    }

    /// Takes a member out of its slot.
    pub fn leave(&mut self, member: usize, slot: usize) {
        self.members[slot].retain(|&other| other != member);
    }

    /// The members of a slot.
    pub fn members(&self, slot: usize) -> &[usize] {
        &self.members[slot]
    }

    /// Whether nobody is in any slot.
    pub fn is_empty(&self) -> bool {
        self.members.iter().all(Vec::is_empty)
    }

    /// The next slot whose time has come, or `None` until [`next`](Self::next). Whoever comes later than a
    /// whole round finds each slot due once: what was missed is skipped and counted, never sent in a burst.
    pub fn turn(&mut self, now: Instant) -> Option<Turn> {
        let now_ms = u64::try_from(now.since_start().as_millis()).unwrap_or(u64::MAX);
        let oldest = (now_ms + 1).saturating_sub(SLOTS as u64);
        if self.next_ms < oldest {
            self.skipped += (self.next_ms..oldest)
                .take(SLOTS)
                .map(|ms| {
                    let rounds = (oldest - ms).div_ceil(SLOTS as u64);
                    self.members[(ms % SLOTS as u64) as usize].len() as u64 * rounds
                })
                .sum::<u64>();
            self.next_ms = oldest;
        }
        while self.next_ms <= now_ms {
            let ms = self.next_ms;
            self.next_ms += 1;
            let slot = (ms % SLOTS as u64) as usize;
            if !self.members[slot].is_empty() {
                return Some(Turn { slot, round: ms / SLOTS as u64 });
            }
        }
        None
    }

    /// When the next slot with members comes; `None` if all are empty.
    pub fn next(&self) -> Option<Instant> {
        (self.next_ms..self.next_ms + SLOTS as u64)
            .find(|ms| !self.members[(ms % SLOTS as u64) as usize].is_empty())
            .map(|ms| Instant::after_start(Duration::from_millis(ms)))
    }

    /// Turns of members lost to lateness since the last call.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Forgets the time that passed while nobody was waiting for a turn, so that it doesn't count as lateness.
    pub fn resume(&mut self, now: Instant) {
        let now_ms = u64::try_from(now.since_start().as_millis()).unwrap_or(u64::MAX);
        self.next_ms = self.next_ms.max(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant::after_start(Duration::from_millis(ms))
    }

    fn drain(pacer: &mut Pacer, now: Instant) -> Vec<(usize, u64)> {
        std::iter::from_fn(|| pacer.turn(now)).map(|turn| (turn.slot, turn.round)).collect()
    }

    #[test]
    fn members_spread_evenly_over_the_slots() {
        let mut pacer = Pacer::new();
        for member in 0..50 {
            pacer.join(member);
        }
        assert!((0..SLOTS).all(|slot| (2..=3).contains(&pacer.members(slot).len())));
        pacer.leave(7, 7);
        assert_eq!(pacer.members(7), [27, 47]);
        pacer.leave(27, 7);
        assert_eq!(pacer.join(99), 7, "the emptiest slot comes first");
    }

    #[test]
    fn each_slot_comes_once_in_twenty_milliseconds() {
        let mut pacer = Pacer::new();
        let slots = [pacer.join(0), pacer.join(1)];
        assert_eq!(slots, [0, 1]);
        let mut turns = Vec::new();
        while let Some(next) = pacer.next().filter(|&next| next <= ms(60)) {
            turns.extend(drain(&mut pacer, next));
        }
        assert_eq!(turns, [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2), (0, 3)]);
        assert_eq!(pacer.take_skipped(), 0);
    }

    #[test]
    fn a_late_pacer_serves_each_slot_once_and_counts_what_it_skipped() {
        let mut pacer = Pacer::new();
        pacer.join(0);
        pacer.join(1);
        assert_eq!(drain(&mut pacer, ms(1)), [(0, 0), (1, 0)]);
        // 100 ms late: rounds 1 to 4 of both slots are lost, round 5 is on time.
        assert_eq!(drain(&mut pacer, ms(101)), [(0, 5), (1, 5)]);
        assert_eq!(pacer.take_skipped(), 8);
        // A few milliseconds late is just late.
        assert_eq!(drain(&mut pacer, ms(125)), [(0, 6), (1, 6)]);
        assert_eq!(pacer.take_skipped(), 0);
    }

    #[test]
    fn idle_time_is_not_lateness() {
        let mut pacer = Pacer::new();
        assert_eq!(pacer.next(), None);
        pacer.resume(ms(5000));
        pacer.join(0);
        assert_eq!(drain(&mut pacer, ms(5019)), [(0, 250)]);
        assert_eq!(pacer.take_skipped(), 0);
    }
}

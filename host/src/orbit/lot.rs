//! The free numbers of one pool and kind, and the choice among them.
//!
//! Free numbers stand in a line in the order in which they were given back, never-used ones first. So "rested at
//! least this long" is always a front part of the line, whatever cool-down a caller asks for, and every choice is
//! a question to a tree over the line: how many stand in the front part, who is the n-th, who has the lowest
//! number. All are O(log n); a lot of 50,000 answers as fast as one of 50.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use switchyard_sdk::ext::orbit::Choice;

use super::number::Number;
use crate::time::Instant;

/// Marks a number that stands in no place of the line: it is taken.
const TAKEN: u32 = u32::MAX;

/// Free and taken numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Lot {
    /// All numbers, ascending; a slot is an index into this.
    numbers: Vec<Number>,
    /// Slot to place in the line, or [`TAKEN`].
    places: Vec<u32>,
    /// Place to slot and the moment it was given back. Places of numbers taken meanwhile are holes.
    line: Vec<(Option<Instant>, u32)>,
    tree: Tree,
    free: u32,
}

impl Lot {
    /// A lot of `numbers`, of which some are `taken`, and some were given back a while ago.
    pub(super) fn new(
        mut numbers: Vec<Number>,
        taken: impl Fn(Number) -> bool,
        given_back: impl Fn(Number) -> Option<Instant>,
    ) -> Self {
        numbers.sort_unstable();
        numbers.dedup();
        let mut line: Vec<_> = (0u32..)
            .zip(&numbers)
            .filter(|(_, number)| !taken(**number))
            .map(|(slot, number)| (given_back(*number), slot))
            .collect();
        line.sort_by_key(|(at, slot)| (*at, *slot));
        let places = vec![TAKEN; numbers.len()];
        let mut lot = Lot { numbers, places, line: Vec::new(), tree: Tree::default(), free: 0 };
        lot.stand_in(line);
        lot
    }

    pub(super) fn size(&self) -> usize {
        self.numbers.len()
    }

    #[cfg(test)]
    fn free(&self) -> usize {
        self.free as usize
    }

    pub(super) fn is_free(&self, number: Number) -> bool {
        self.slot(number).is_some_and(|slot| self.places[slot] != TAKEN)
    }

    /// When a free number was last in use, if it was.
    pub(super) fn given_back_at(&self, number: Number) -> Option<Instant> {
        let place = self.places[self.slot(number)?];
        self.line.get(place as usize).and_then(|(at, _)| *at)
    }

    /// Takes `number`; false if it is not there or not free.
    pub(super) fn take(&mut self, number: Number) -> bool {
        let Some(slot) = self.slot(number) else { return false };
        let place = std::mem::replace(&mut self.places[slot], TAKEN);
        if place == TAKEN {
            return false;
        }
        self.tree.clear(place as usize);
        self.free -= 1;
        true
    }

    /// Gives `number` back; it rests from `now` on. False if it is not of this lot, or free already.
    pub(super) fn give_back(&mut self, now: Instant, number: Number) -> bool {
        let Some(slot) = self.slot(number) else { return false };
        if self.places[slot] != TAKEN {
            return false;
        }
        if self.line.len() == self.tree.places() {
            self.close_holes();
        }
        // The line is searched by time: a clock that steps back must not break its order.
        let last = self.line.last().and_then(|(at, _)| *at).unwrap_or(now);
        let place = self.line.len();
        self.line.push((Some(now.max(last)), slot as u32));
        self.places[slot] = place as u32;
        self.tree.set(place, slot as u32);
        self.free += 1;
        true
    }

    /// Chooses among the numbers that rested for `cooldown`; if there is none, the one that rested longest.
    /// Does not take it.
    pub(super) fn choose(
        &self,
        now: Instant,
        choice: Choice,
        cooldown: Duration,
        rng: &mut ChaCha12Rng,
    ) -> Option<Number> {
        if self.free == 0 {
            return None;
        }
        let rested = self.line.partition_point(|(at, _)| at.is_none_or(|at| at + cooldown <= now));
        let count = self.tree.count_before(rested);
        let slot = match choice {
            Choice::Lowest if count > 0 => self.tree.lowest_before(rested),
            Choice::Random if count > 0 => self.slot_at(self.tree.nth(rng.random_range(0..count))),
            Choice::Random | Choice::Lowest | Choice::LeastRecent => self.slot_at(self.tree.nth(0)),
        };
        self.numbers.get(slot as usize).copied()
    }

    /// The free numbers, lowest first.
    pub(super) fn free_numbers(&self) -> impl Iterator<Item = Number> {
        self.numbers.iter().zip(&self.places).filter(|(_, place)| **place != TAKEN).map(|(number, _)| *number)
    }

    fn slot(&self, number: Number) -> Option<usize> {
        self.numbers.binary_search(&number).ok()
    }

    fn slot_at(&self, place: usize) -> u32 {
        self.line.get(place).map_or(TAKEN, |(_, slot)| *slot)
    }

    /// Closes the holes in the line. Needed once in as many returns as there are numbers, so it costs nothing
    /// per return on the average.
    fn close_holes(&mut self) {
        let standing = |(place, (_, slot)): &(usize, &(_, u32))| self.places[*slot as usize] == *place as u32;
        let line = self.line.iter().enumerate().filter(standing).map(|(_, entry)| *entry).collect();
        self.stand_in(line);
    }

    fn stand_in(&mut self, line: Vec<(Option<Instant>, u32)>) {
        self.tree = Tree::new(self.numbers.len() * 2);
        for (place, (_, slot)) in line.iter().enumerate() {
            self.places[*slot as usize] = place as u32;
            self.tree.set(place, *slot);
        }
        self.free = line.len() as u32;
        self.line = line;
    }
}

/// A binary tree over places: how many are occupied, and the lowest slot among them.
#[derive(Clone, Debug, Default)]
struct Tree {
    /// Node 1 is the root; the leaves are the upper half.
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    count: u32,
    lowest: u32,
}

const EMPTY: Node = Node { count: 0, lowest: u32::MAX };

impl Node {
    fn and(self, other: Node) -> Node {
        Node { count: self.count + other.count, lowest: self.lowest.min(other.lowest) }
    }
}

impl Tree {
    fn new(places: usize) -> Self {
        Tree { nodes: vec![EMPTY; places.next_power_of_two().max(2) * 2] }
    }

    fn places(&self) -> usize {
        self.nodes.len() / 2
    }

    fn set(&mut self, place: usize, slot: u32) {
        self.write(place, Node { count: 1, lowest: slot });
    }

    fn clear(&mut self, place: usize) {
        self.write(place, EMPTY);
    }

    fn write(&mut self, place: usize, node: Node) {
        let mut at = self.places() + place;
        self.nodes[at] = node;
        while at > 1 {
            at /= 2;
            self.nodes[at] = self.nodes[2 * at].and(self.nodes[2 * at + 1]);
        }
    }

    fn count_before(&self, place: usize) -> u32 {
        self.before(place).count
    }

    fn lowest_before(&self, place: usize) -> u32 {
        self.before(place).lowest
    }

    fn before(&self, place: usize) -> Node {
        let mut sum = EMPTY;
        let (mut low, mut high) = (self.places(), self.places() + place.min(self.places()));
        while low < high {
            if low % 2 == 1 {
                sum = sum.and(self.nodes[low]);
                low += 1;
            }
            if high % 2 == 1 {
                high -= 1;
                sum = sum.and(self.nodes[high]);
            }
            low /= 2;
            high /= 2;
        }
        sum
    }

    /// The place of the n-th occupied one, counted from 0. Only asked for with `n` below the count.
    fn nth(&self, mut n: u32) -> usize {
        let mut at = 1;
        while at < self.places() {
            at *= 2;
            let left = self.nodes[at].count;
            if n >= left {
                n -= left;
                at += 1;
            }
        }
        at - self.places()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    fn number(value: u32) -> Number {
        Number::parse(&value.to_string()).unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::after_start(Duration::from_secs(seconds))
    }

    fn lot(size: u32) -> Lot {
        Lot::new((0..size).map(|n| number(7000 + n)).collect(), |_| false, |_| None)
    }

    fn rng() -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(7)
    }

    const COOLDOWN: Duration = Duration::from_secs(30);

    #[test]
    fn cp_02_random_is_uniform() {
        let (lot, mut rng) = (lot(100), rng());
        let mut counts = BTreeMap::<Number, u32>::new();
        for _ in 0..20_000 {
            *counts.entry(lot.choose(at(0), Choice::Random, COOLDOWN, &mut rng).unwrap()).or_default() += 1;
        }
        assert_eq!(counts.len(), 100);
        // 200 expected each, standard deviation 14: chi-squared over 99 degrees of freedom stays far below 160.
        let chi: f64 = counts.values().map(|n| (f64::from(*n) - 200.0).powi(2) / 200.0).sum();
        assert!(chi < 160.0, "chi squared {chi}");
    }

    #[test]
    fn random_is_uniform_over_what_has_rested() {
        let (mut lot, mut rng) = (lot(10), rng());
        for n in 0..8 {
            assert!(lot.take(number(7000 + n)));
            assert!(lot.give_back(at(100), number(7000 + n)));
        }
        let seen: BTreeSet<_> =
            (0..200).filter_map(|_| lot.choose(at(120), Choice::Random, COOLDOWN, &mut rng)).collect();
        assert_eq!(seen, BTreeSet::from([number(7008), number(7009)]));
        let seen: BTreeSet<_> =
            (0..500).filter_map(|_| lot.choose(at(130), Choice::Random, COOLDOWN, &mut rng)).collect();
        assert_eq!(seen.len(), 10);
    }

    #[test]
    fn lowest_skips_what_still_rests() {
        let (mut lot, mut rng) = (lot(3), rng());
        lot.take(number(7000));
        lot.give_back(at(10), number(7000));
        assert_eq!(lot.choose(at(20), Choice::Lowest, COOLDOWN, &mut rng), Some(number(7001)));
        assert_eq!(lot.choose(at(40), Choice::Lowest, COOLDOWN, &mut rng), Some(number(7000)));
        assert_eq!(lot.choose(at(20), Choice::Lowest, Duration::ZERO, &mut rng), Some(number(7000)));
    }

    #[test]
    fn least_recent_takes_the_never_used_first_then_the_longest_rested() {
        let (mut lot, mut rng) = (lot(3), rng());
        for (seconds, n) in [(10, 7001), (20, 7000)] {
            lot.take(number(n));
            lot.give_back(at(seconds), number(n));
        }
        let mut order = Vec::new();
        while let Some(chosen) = lot.choose(at(500), Choice::LeastRecent, COOLDOWN, &mut rng) {
            lot.take(chosen);
            order.push(chosen);
        }
        assert_eq!(order, [number(7002), number(7001), number(7000)]);
    }

    #[test]
    fn when_all_rest_the_longest_rested_is_taken_whatever_the_choice() {
        for choice in [Choice::Random, Choice::Lowest, Choice::LeastRecent] {
            let (mut lot, mut rng) = (lot(3), rng());
            for (seconds, n) in [(10, 7002), (11, 7000), (12, 7001)] {
                lot.take(number(n));
                lot.give_back(at(seconds), number(n));
            }
            assert_eq!(lot.choose(at(13), choice, COOLDOWN, &mut rng), Some(number(7002)), "{choice:?}");
        }
    }

    #[test]
    fn a_full_lot_gives_nothing_and_knows_its_numbers() {
        let (mut lot, mut rng) = (lot(2), rng());
        assert!(lot.take(number(7000)) && lot.take(number(7001)));
        assert!(!lot.take(number(7000)) && !lot.take(number(7002)));
        assert_eq!(lot.choose(at(0), Choice::Random, COOLDOWN, &mut rng), None);
        assert!(!lot.give_back(at(0), number(7002)));
        assert!(lot.give_back(at(0), number(7000)));
        assert!(!lot.give_back(at(0), number(7000)));
        assert_eq!((lot.free(), lot.size()), (1, 2));
        assert_eq!(lot.free_numbers().collect::<Vec<_>>(), [number(7000)]);
    }

    #[test]
    fn an_empty_lot_is_full() {
        assert_eq!(lot(0).choose(at(0), Choice::Random, COOLDOWN, &mut rng()), None);
    }

    #[test]
    fn what_was_taken_or_rested_before_is_kept() {
        let numbers: Vec<_> = (0..4).map(|n| number(7000 + n)).collect();
        let lot = Lot::new(numbers, |n| n == number(7003), |n| (n == number(7000)).then_some(at(10)));
        assert_eq!(lot.free(), 3);
        assert!(!lot.is_free(number(7003)));
        assert_eq!(lot.given_back_at(number(7000)), Some(at(10)));
        assert_eq!(lot.choose(at(20), Choice::Lowest, COOLDOWN, &mut rng()), Some(number(7001)));
    }

    proptest! {
        /// Against a map of number to the moment it was given back.
        #[test]
        fn a_lot_behaves_like_a_plain_map(
            size in 1u32..20,
            steps in prop::collection::vec((0u8..4, 0u32..20, 0u64..20), 1..200),
        ) {
            let (mut lot, mut rng) = (lot(size), rng());
            let mut free: BTreeMap<Number, Option<Instant>> = (0..size).map(|n| (number(7000 + n), None)).collect();
            let mut now = 0;
            for (what, n, pause) in steps {
                now += pause;
                let n = number(7000 + n % size);
                match what {
                    0 => prop_assert_eq!(lot.take(n), free.remove(&n).is_some()),
                    1 => {
                        let was_taken = !free.contains_key(&n);
                        prop_assert_eq!(lot.give_back(at(now), n), was_taken);
                        if was_taken {
                            free.insert(n, Some(at(now)));
                        }
                    }
                    _ => {
                        let rested: Vec<_> =
                            free.iter().filter(|(_, at_)| at_.is_none_or(|a| a + COOLDOWN <= at(now))).collect();
                        let longest = free.values().min().copied();
                        let lowest = lot.choose(at(now), Choice::Lowest, COOLDOWN, &mut rng);
                        let random = lot.choose(at(now), Choice::Random, COOLDOWN, &mut rng);
                        let least = lot.choose(at(now), Choice::LeastRecent, COOLDOWN, &mut rng);
                        if rested.is_empty() {
                            prop_assert_eq!(lowest.map(|n| free[&n]), longest);
                            prop_assert_eq!(random.map(|n| free[&n]), longest);
                        } else {
                            prop_assert_eq!(lowest.as_ref(), rested.iter().map(|(n, _)| *n).min());
                            prop_assert!(rested.iter().any(|(n, _)| Some(**n) == random));
                        }
                        prop_assert_eq!(least.map(|n| free[&n]), longest);
                    }
                }
                prop_assert_eq!(lot.free(), free.len());
                prop_assert!(lot.free_numbers().eq(free.keys().copied()));
            }
        }
    }
}

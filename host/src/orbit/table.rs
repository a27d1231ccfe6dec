//! The orbit table under the calls: which numbers are free, and what may change while calls wait in them.

use std::collections::BTreeMap;

use super::lot::Lot;
use super::number::Number;
use super::orbits::Orbits;
use super::range::{Range, RangeError, RangeFault, Used};
use super::ranges::Ranges;
use super::record::Record;
use crate::admin::RangeSpec;
use crate::store::keys::Key;
use crate::store::{Change, Snapshot};
use crate::time::Now;

impl Orbits {
    /// Numbers no range may contain (ORB-12).
    pub fn set_emergency<'a>(&mut self, numbers: impl IntoIterator<Item = &'a str>) {
        self.ranges.set_emergency(numbers);
    }

    /// The orbit table.
    pub fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// Takes over the stored ranges and users' numbers. Ranges that cannot be are left out and reported.
    pub fn load(&mut self, snapshot: &Snapshot) -> Vec<RangeError> {
        self.ledger.load(snapshot);
        let errors = self.ranges.load(snapshot);
        self.lay_out();
        errors
    }

    /// Takes over one change of the store: ranges, users' numbers, and orbits that other hosts write.
    pub fn apply(&mut self, now: Now, change: &Change) -> Result<(), RangeError> {
        if let Some(Key::Orbit(number)) = Key::parse(&change.key) {
            if let Ok(number) = Number::parse(&number) {
                let host = change.record.as_ref().map(|record| Record::read(&record.value).map(|r| r.host));
                match host {
                    None => self.not_foreign(now, number),
                    Some(Ok(host)) if host == self.host => {}
                    Some(_) if self.occupants.contains_key(&number) => {}
                    Some(_) => self.is_foreign(number),
                }
            }
            return Ok(());
        }
        self.ledger.apply(change);
        if self.ranges.apply(change)? {
            self.lay_out();
        }
        Ok(())
    }

    /// Whether `spec` may be put. `force` overrides what is only about calls and users that depend on the range
    /// now (ORB-15).
    pub fn check_put(
        &self,
        spec: &RangeSpec,
        pools: &[String],
        kinds: &[String],
        force: bool,
    ) -> Result<(), RangeError> {
        self.ranges.check(spec, pools, kinds)?;
        let (Some(before), Ok(after)) = (self.ranges.get(&spec.name), Range::new(spec)) else {
            return Ok(());
        };
        let used = self.used(before);
        let wrong = |fault| Err(RangeError { range: spec.name.clone(), fault });
        if before.kind() != after.kind() && !used.is_empty() && !force {
            let (from, to) = (before.kind().to_string(), after.kind().to_string());
            return wrong(RangeFault::KindInUse { from, to, used });
        }
        let still = self.used_within(before, &after);
        let lost = Used { calls: used.calls - still.calls, users: used.users - still.users };
        if !lost.is_empty() && !force {
            return wrong(RangeFault::NumbersInUse { used: lost });
        }
        Ok(())
    }

    /// Whether the range may be removed; with `force` even while calls wait in it. They keep waiting, and their
    /// numbers are not given to a new range's calls before they left.
    pub fn check_remove(&self, name: &str, force: bool) -> Result<(), RangeError> {
        let used = self.used(self.ranges.expect(name)?);
        if used.is_empty() || force {
            return Ok(());
        }
        Err(RangeError { range: name.to_string(), fault: RangeFault::RemovedInUse { used } })
    }

    /// What depends on a range now.
    pub fn used(&self, range: &Range) -> Used {
        self.used_within(range, range)
    }

    fn used_within(&self, range: &Range, part: &Range) -> Used {
        let calls =
            self.occupants.range(range.from()..=range.to()).filter(|(n, _)| part.contains(**n)).count();
        Used { calls, users: self.ranges.users_within(range, part) }
    }

    /// The free numbers of a pool and kind, lowest first.
    pub fn free_numbers(&self, pool: &str, kind: &str) -> impl Iterator<Item = Number> {
        self.lots.get(&(pool.to_string(), kind.to_string())).into_iter().flat_map(Lot::free_numbers)
    }

    pub(super) fn lot_of(&mut self, number: Number, then: impl FnOnce(&mut Lot) -> bool) {
        let Some(range) = self.ranges.range_of(number) else { return };
        let key = (range.pool().to_string(), range.kind().to_string());
        if let Some(lot) = self.lots.get_mut(&key) {
            then(lot);
        }
    }

    pub(super) fn is_foreign(&mut self, number: Number) {
        self.foreign.insert(number);
        self.lot_of(number, |lot| lot.take(number));
    }

    fn not_foreign(&mut self, now: Now, number: Number) {
        if self.foreign.remove(&number) && !self.occupants.contains_key(&number) {
            self.lot_of(number, |lot| lot.give_back(now.instant, number));
        }
    }

    /// Builds the lots anew from the ranges. What is taken stays taken, what rests goes on resting.
    fn lay_out(&mut self) {
        let mut numbers: BTreeMap<(String, String), Vec<Number>> = BTreeMap::new();
        for range in self.ranges.iter() {
            let key = (range.pool().to_string(), range.kind().to_string());
            numbers.entry(key).or_default().extend(range.numbers());
        }
        let before = std::mem::take(&mut self.lots);
        let taken = |number| self.occupants.contains_key(&number) || self.foreign.contains(&number);
        let given_back = |number| before.values().find_map(|lot| lot.given_back_at(number));
        self.lots =
            numbers.into_iter().map(|(key, numbers)| (key, Lot::new(numbers, taken, given_back))).collect();
    }
}

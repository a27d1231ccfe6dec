//! The orbit table: every range of the deployment, and the rules that hold between them (`facts.md`, ORB-*).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::number::Number;
use super::range::{POOL_SIZE_MAX, Range, RangeError, RangeFault};
use crate::admin::RangeSpec;
use crate::near::nearest;
use crate::store::keys::{Key, range_key};
use crate::store::{Change, Operation, Record, Snapshot};

/// Every range of the deployment, and the numbers ranges must stay clear of.
///
/// Mirrors the store: [`load`](Self::load) once, then [`apply`](Self::apply) every change under `range/` and
/// `user/` (users, because their extensions are no orbits: ORB-10).
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    ranges: BTreeMap<String, Range>,
    by_first: BTreeMap<Number, String>,
    emergency: BTreeSet<Number>,
    users: BTreeMap<String, UserNumbers>,
    extensions: BTreeSet<(Number, String)>,
    groups: BTreeSet<(Number, String)>,
}

/// The numbers of one user that matter here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct UserNumbers {
    /// What reaches them: a name that is a number, an extension.
    extensions: Vec<Number>,
    group: Option<Number>,
}

/// The part of a user's record that matters here.
#[derive(Deserialize)]
struct UserRecord {
    #[serde(default)]
    extension: Option<String>,
    #[serde(default)]
    pickup_group: Option<String>,
    #[serde(default)]
    private_number: Option<String>,
}

impl Ranges {
    /// Numbers no range may contain (ORB-12). Those that cannot be orbits (`000`) cannot clash and are ignored.
    pub fn set_emergency<'a>(&mut self, numbers: impl IntoIterator<Item = &'a str>) {
        self.emergency = numbers.into_iter().filter_map(|number| Number::parse(number).ok()).collect();
    }

    /// Whether `spec` may be put: as a new range, or instead of the range of the same name.
    ///
    /// Says nothing about calls that wait in the range now: see `Orbits::check_put`.
    pub fn check(&self, spec: &RangeSpec, pools: &[String], kinds: &[String]) -> Result<(), RangeError> {
        let range = Range::new(spec)?;
        let wrong = |fault| Err(RangeError { range: spec.name.clone(), fault });
        if !kinds.contains(&spec.kind) {
            let near = nearest(&spec.kind, kinds.iter().map(String::as_str)).map(str::to_owned);
            return wrong(RangeFault::UnknownKind { kind: spec.kind.clone(), near });
        }
        if !pools.contains(&spec.pool) {
            let near = nearest(&spec.pool, pools.iter().map(String::as_str)).map(str::to_owned);
            return wrong(RangeFault::UnknownPool { pool: spec.pool.clone(), near });
        }
        if let Some(other) = self.overlapping(&range) {
            let fault = if (other.from(), other.to()) == (range.from(), range.to()) {
                RangeFault::Renamed { other: other.name().to_string() }
            } else {
                RangeFault::Overlap {
                    number: range.from().max(other.from()),
                    other: other.name().to_string(),
                    other_from: other.from(),
                    other_to: other.to(),
                }
            };
            return wrong(fault);
        }
        let others: u32 = self
            .iter()
            .filter(|other| other.pool() == range.pool() && other.name() != range.name())
            .map(Range::size)
            .sum();
        if others + range.size() > POOL_SIZE_MAX {
            return wrong(RangeFault::PoolSize { pool: spec.pool.clone(), size: others + range.size() });
        }
        if let Some(&number) = self.emergency.range(range.from()..=range.to()).next() {
            return wrong(RangeFault::Emergency { number });
        }
        if let Some((number, user)) = within(&self.extensions, &range).next() {
            return wrong(RangeFault::Extension { number: *number, user: user.clone() });
        }
        Ok(())
    }

    /// Whether a user may be reached at `extension`: not if it lies in a range (ORB-10).
    pub fn check_extension(&self, user: &str, extension: &str) -> Result<(), RangeError> {
        let Ok(number) = Number::parse(extension) else { return Ok(()) };
        match self.range_of(number) {
            None => Ok(()),
            Some(range) => Err(RangeError {
                range: range.name().to_string(),
                fault: RangeFault::Extension { number, user: user.to_string() },
            }),
        }
    }

    /// Takes a range in, or changes the one of the same name. Only what a single range can be checked for is
    /// checked here, and that no two ranges share a number; [`check`](Self::check) first.
    pub fn put(&mut self, spec: &RangeSpec) -> Result<(), RangeError> {
        let range = Range::new(spec)?;
        if let Some(other) = self.overlapping(&range) {
            let fault = RangeFault::Overlap {
                number: range.from().max(other.from()),
                other: other.name().to_string(),
                other_from: other.from(),
                other_to: other.to(),
            };
            return Err(RangeError { range: spec.name.clone(), fault });
        }
        self.remove(&spec.name);
        self.by_first.insert(range.from(), spec.name.clone());
        self.ranges.insert(spec.name.clone(), range);
        Ok(())
    }

    /// Forgets a range; its numbers are free for a new one (ORB-17).
    pub fn remove(&mut self, name: &str) -> Option<Range> {
        let range = self.ranges.remove(name)?;
        self.by_first.remove(&range.from());
        Some(range)
    }

    /// The range of that name.
    pub fn get(&self, name: &str) -> Option<&Range> {
        self.ranges.get(name)
    }

    /// The range of that name, or an error that names one like it.
    pub fn expect(&self, name: &str) -> Result<&Range, RangeError> {
        self.get(name).ok_or_else(|| RangeError {
            range: name.to_string(),
            fault: RangeFault::Unknown {
                near: nearest(name, self.ranges.keys().map(String::as_str)).map(str::to_owned),
            },
        })
    }

    /// The range a number lies in. The number as [`dialled`](super::dialled) gives it.
    pub fn find(&self, number: &str) -> Option<&Range> {
        self.range_of(Number::parse(number).ok()?)
    }

    /// The range a number lies in.
    pub fn range_of(&self, number: Number) -> Option<&Range> {
        let (_, name) = self.by_first.range(..=number).next_back()?;
        self.ranges.get(name).filter(|range| range.contains(number))
    }

    /// All ranges, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Range> {
        self.ranges.values()
    }

    /// How many users' pickup groups lie in a range.
    pub fn users_of(&self, range: &Range) -> usize {
        within(&self.groups, range).count()
    }

    pub(super) fn users_within(&self, range: &Range, part: &Range) -> usize {
        within(&self.groups, range).filter(|(number, _)| part.contains(*number)).count()
    }

    /// Takes over everything stored. Records that cannot be ranges are left out and reported.
    pub fn load(&mut self, snapshot: &Snapshot) -> Vec<RangeError> {
        snapshot.records.iter().filter_map(|(key, record)| self.take(key, Some(record)).err()).collect()
    }

    /// Takes over a change under `range/` or `user/`; others are ignored. True if a range changed.
    pub fn apply(&mut self, change: &Change) -> Result<bool, RangeError> {
        self.take(&change.key, change.record.as_ref())
    }

    fn take(&mut self, key: &str, record: Option<&Record>) -> Result<bool, RangeError> {
        match (Key::parse(key), record) {
            (Some(Key::Range(name)), None) => Ok(self.remove(&name).is_some()),
            (Some(Key::Range(name)), Some(record)) => {
                let damaged = |why| RangeError { range: name.clone(), fault: RangeFault::Damaged { why } };
                let spec: RangeSpec =
                    serde_json::from_slice(&record.value).map_err(|error| damaged(error.to_string()))?;
                if spec.name != name {
                    return Err(damaged(format!("it names itself {}", spec.name)));
                }
                if self.get(&spec.name).is_some_and(|range| range.spec() == spec) {
                    return Ok(false);
                }
                self.put(&spec).map(|()| true)
            }
            (Some(Key::User(name)), None) => {
                self.take_user(name, UserNumbers::default());
                Ok(false)
            }
            (Some(Key::User(name)), Some(record)) => {
                let user = serde_json::from_slice::<UserRecord>(&record.value).ok();
                let (extension, group, private) = user
                    .map(|user| (user.extension, user.pickup_group, user.private_number))
                    .unwrap_or_default();
                let parse = |text: String| Number::parse(&text).ok();
                let extensions = [Some(name.clone()), extension, private]
                    .into_iter()
                    .flatten()
                    .filter_map(parse)
                    .collect();
                self.take_user(name, UserNumbers { extensions, group: group.and_then(parse) });
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    fn take_user(&mut self, name: String, now: UserNumbers) {
        let before = self.users.remove(&name).unwrap_or_default();
        for number in before.extensions {
            self.extensions.remove(&(number, name.clone()));
        }
        if let Some(group) = before.group {
            self.groups.remove(&(group, name.clone()));
        }
        self.extensions.extend(now.extensions.iter().map(|number| (*number, name.clone())));
        self.groups.extend(now.group.map(|group| (group, name.clone())));
        if now != UserNumbers::default() {
            self.users.insert(name, now);
        }
    }

    /// A range that shares a number with `range` and is not the one it would replace. Ranges never overlap, so
    /// only the last one that starts early enough, or the one before it, can.
    fn overlapping(&self, range: &Range) -> Option<&Range> {
        self.by_first
            .range(..=range.to())
            .rev()
            .filter(|(_, name)| *name != range.name())
            .map(|(_, name)| name)
            .next()
            .and_then(|name| self.ranges.get(name))
            .filter(|other| other.to() >= range.from())
    }
}

/// The write that puts `spec` into the store.
pub fn put_operation(spec: &RangeSpec) -> Operation {
    // A struct of five strings always has a JSON form.
    let value = serde_json::to_vec(spec).unwrap_or_default();
    Operation::Put { key: range_key(&spec.name), value: value.into() }
}

/// The write that removes a range from the store.
pub fn remove_operation(name: &str) -> Operation {
    Operation::Delete { key: range_key(name) }
}

fn within<'a>(
    numbers: &'a BTreeSet<(Number, String)>,
    range: &Range,
) -> impl Iterator<Item = &'a (Number, String)> + use<'a> {
    let last = range.to();
    numbers.range((range.from(), String::new())..).take_while(move |(number, _)| *number <= last)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::keys::user_key;

    fn spec(name: &str, from: &str, to: &str, kind: &str, pool: &str) -> RangeSpec {
        RangeSpec {
            name: name.into(),
            from: from.into(),
            to: to.into(),
            kind: kind.into(),
            pool: pool.into(),
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn check(ranges: &Ranges, spec: &RangeSpec) -> Result<(), String> {
        ranges
            .check(spec, &names(&["east", "west"]), &names(&["call-park", "group-pickup"]))
            .map_err(|error| error.to_string())
    }

    fn office() -> Ranges {
        let mut ranges = Ranges::default();
        ranges.put(&spec("east-park", "7000", "7099", "call-park", "east")).unwrap();
        ranges.put(&spec("east-groups", "*100", "*199", "group-pickup", "east")).unwrap();
        ranges
    }

    fn user(name: &str, json: &str) -> Change {
        let value = Bytes::copy_from_slice(json.as_bytes());
        Change { key: user_key(name), record: Some(Record { value, revision: 1 }) }
    }

    #[test]
    fn a_number_is_found_in_its_range() {
        let ranges = office();
        assert_eq!(ranges.find("7050").map(Range::name), Some("east-park"));
        assert_eq!(ranges.find("7000").map(Range::name), Some("east-park"));
        assert_eq!(ranges.find("7099").map(Range::name), Some("east-park"));
        assert_eq!(ranges.find("*150").map(Range::kind), Some("group-pickup"));
        for outside in ["6999", "7100", "150", "#150", "*200", "alice", ""] {
            assert!(ranges.find(outside).is_none(), "{outside}");
        }
    }

    #[test]
    fn orb_02_an_unknown_kind_gets_a_near_match() {
        let error = check(&office(), &spec("x", "8000", "8001", "callpark", "east")).unwrap_err();
        assert_eq!(error, "range `x`: unknown kind \"callpark\", did you mean call-park? (ORB-02)");
        let error = check(&office(), &spec("x", "8000", "8001", "jukebox", "east")).unwrap_err();
        assert_eq!(error, "range `x`: unknown kind \"jukebox\" (ORB-02)");
    }

    #[test]
    fn orb_01_an_unknown_pool_gets_a_near_match() {
        let error = check(&office(), &spec("x", "8000", "8001", "call-park", "eats")).unwrap_err();
        assert_eq!(error, "range `x`: unknown pool \"eats\", did you mean east? (ORB-01)");
    }

    #[test]
    fn orb_06_numbers_are_unique_over_all_kinds_and_pools() {
        let ranges = office();
        for (from, to, number) in [
            ("7099", "7150", "7099"),
            ("6950", "7000", "7000"),
            ("6000", "7500", "7000"),
            ("7010", "7010", "7010"),
        ] {
            let error = check(&ranges, &spec("x", from, to, "group-pickup", "west")).unwrap_err();
            assert_eq!(
                error,
                format!("range `x`: {number} belongs to range `east-park` (7000 to 7099) already (ORB-06)")
            );
        }
        assert_eq!(check(&ranges, &spec("x", "7100", "7199", "call-park", "east")), Ok(()));
        // The same digits behind another prefix are other numbers.
        assert_eq!(check(&ranges, &spec("x", "#700", "#709", "call-park", "east")), Ok(()));
    }

    #[test]
    fn orb_06_two_neighbours_are_both_looked_at() {
        let mut ranges = office();
        ranges.put(&spec("next", "7100", "7109", "call-park", "east")).unwrap();
        // Growing a range into its neighbour is found although the range itself starts first.
        assert!(check(&ranges, &spec("east-park", "7000", "7100", "call-park", "east")).is_err());
        assert!(check(&ranges, &spec("next", "7050", "7109", "call-park", "east")).is_err());
        assert!(check(&ranges, &spec("x", "7090", "7105", "call-park", "east")).is_err());
        assert_eq!(check(&ranges, &spec("east-park", "7001", "7098", "call-park", "west")), Ok(()));
    }

    #[test]
    fn orb_07_a_name_is_fixed() {
        let error = check(&office(), &spec("new-name", "7000", "7099", "call-park", "east")).unwrap_err();
        assert!(error.contains("a range's name is fixed") && error.ends_with("(ORB-07)"), "{error}");
    }

    #[test]
    fn orb_08_a_pool_owns_less_than_fifty_thousand() {
        let mut ranges = Ranges::default();
        for n in 1..=5 {
            let (from, to) = (format!("{n}0000"), format!("{n}9998"));
            ranges.put(&spec(&format!("r{n}"), &from, &to, "call-park", "east")).unwrap();
        }
        // 5 * 9,999 = 49,995 numbers: four more fit.
        assert_eq!(check(&ranges, &spec("x", "7000", "7003", "call-park", "east")), Ok(()));
        let error = check(&ranges, &spec("x", "7000", "7004", "call-park", "east")).unwrap_err();
        assert!(
            error.contains("pool east would own 50000 numbers") && error.ends_with("(ORB-08)"),
            "{error}"
        );
        assert_eq!(check(&ranges, &spec("x", "7000", "7004", "call-park", "west")), Ok(()));
        // A range that is replaced does not count twice.
        assert_eq!(check(&ranges, &spec("r1", "10000", "19998", "group-pickup", "east")), Ok(()));
    }

    #[test]
    fn orb_10_a_users_extension_is_no_orbit() {
        let mut ranges = office();
        ranges.apply(&user("alice", r#"{"extension":"8005","pool":"east"}"#)).unwrap();
        ranges.apply(&user("8100", r#"{}"#)).unwrap();
        let error = check(&ranges, &spec("x", "8000", "8099", "call-park", "east")).unwrap_err();
        assert!(
            error.contains("8005 is the extension of user alice") && error.ends_with("(ORB-10)"),
            "{error}"
        );
        let error = check(&ranges, &spec("x", "8100", "8100", "call-park", "east")).unwrap_err();
        assert!(error.contains("8100 is the extension of user 8100"), "{error}");
        assert_eq!(ranges.check_extension("bob", "7001").unwrap_err().rule(), "ORB-10");
        assert_eq!(ranges.check_extension("bob", "1002"), Ok(()));
        assert_eq!(ranges.check_extension("bob", "bob"), Ok(()));

        ranges.apply(&user("alice", r#"{"extension":"1001"}"#)).unwrap();
        assert_eq!(check(&ranges, &spec("x", "8000", "8099", "call-park", "east")), Ok(()));
        ranges.apply(&Change { key: user_key("8100"), record: None }).unwrap();
        assert_eq!(check(&ranges, &spec("x", "8100", "8100", "call-park", "east")), Ok(()));
    }

    #[test]
    fn orb_12_an_emergency_number_is_never_swallowed() {
        let mut ranges = office();
        ranges.set_emergency(["112", "000", "*911"]);
        let error = check(&ranges, &spec("x", "100", "199", "call-park", "east")).unwrap_err();
        assert!(error.contains("112 is an emergency number") && error.ends_with("(ORB-12)"), "{error}");
        assert_eq!(check(&ranges, &spec("x", "113", "199", "call-park", "east")), Ok(()));
        assert!(check(&ranges, &spec("x", "*900", "*999", "call-park", "east")).is_err());
        assert_eq!(check(&ranges, &spec("x", "1120", "1129", "call-park", "east")), Ok(()));
    }

    #[test]
    fn orb_17_a_removed_range_gives_its_numbers_back() {
        let mut ranges = office();
        ranges.remove("east-park");
        assert!(ranges.find("7001").is_none());
        assert_eq!(check(&ranges, &spec("x", "7000", "7199", "call-park", "east")), Ok(()));
    }

    #[test]
    fn the_store_is_mirrored() {
        let mut ranges = Ranges::default();
        let put = |spec: &RangeSpec| match put_operation(spec) {
            Operation::Put { key, value } => Change { key, record: Some(Record { value, revision: 1 }) },
            Operation::Delete { .. } => unreachable!("a put"),
        };
        assert_eq!(ranges.apply(&put(&spec("a", "7000", "7009", "call-park", "east"))), Ok(true));
        assert_eq!(ranges.apply(&put(&spec("a", "7000", "7009", "call-park", "east"))), Ok(false));
        assert_eq!(ranges.apply(&put(&spec("a", "7000", "7019", "call-park", "east"))), Ok(true));
        assert_eq!(ranges.find("7015").map(Range::name), Some("a"));
        assert!(ranges.apply(&put(&spec("b", "7000", "7001", "call-park", "east"))).is_err());
        assert_eq!(ranges.apply(&Change { key: range_key("a"), record: None }), Ok(true));
        assert_eq!(ranges.iter().count(), 0);
        assert_eq!(remove_operation("a"), Operation::Delete { key: range_key("a") });
    }

    #[test]
    fn a_damaged_record_is_reported_and_the_others_load() {
        let mut snapshot = Snapshot::default();
        for (key, value) in [
            (range_key("bad"), "{"),
            (
                range_key("good"),
                r#"{"name":"good","from":"7000","to":"7009","kind":"call-park","pool":"east"}"#,
            ),
            (range_key("odd"), r#"{"name":"odd","from":"9","to":"1","kind":"call-park","pool":"east"}"#),
            (user_key("alice"), r#"{"pickup_group":"7003"}"#),
        ] {
            let value = Bytes::copy_from_slice(value.as_bytes());
            snapshot.records.insert(key, Record { value, revision: 1 });
        }
        let mut ranges = Ranges::default();
        let errors = ranges.load(&snapshot);
        assert_eq!(errors.iter().map(|error| error.range.as_str()).collect::<Vec<_>>(), ["bad", "odd"]);
        let good = ranges.get("good").unwrap();
        assert_eq!(ranges.users_of(good), 1);
    }

    #[test]
    fn an_unknown_range_gets_a_near_match() {
        let error = office().expect("eastpark").unwrap_err().to_string();
        assert_eq!(error, "range `eastpark`: there is no such range, did you mean east-park? (ORB-01)");
    }
}

//! One range, and what can be wrong with it.

use serde::{Deserialize, Serialize};

use super::number::{Number, NumberError};
use crate::admin::RangeSpec;

/// No range may hold more numbers than this (ORB-08).
pub const RANGE_SIZE_MAX: u32 = 9_999;
/// No pool may own more numbers than this (ORB-08).
pub const POOL_SIZE_MAX: u32 = 49_999;
/// A range's name goes into keys, URLs, metrics and tables: this much fits everywhere.
const NAME_LEN_MAX: usize = 64;

/// A named run of orbit numbers, owned by a pool (ORB-01). Its store value is a [`RangeSpec`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "RangeSpec", into = "RangeSpec")]
pub struct Range {
    name: String,
    first: Number,
    last: Number,
    kind: String,
    pool: String,
}

impl Range {
    /// Checks what one range can be checked for alone: name, numbers, order, size.
    pub fn new(spec: &RangeSpec) -> Result<Range, RangeError> {
        let wrong = |fault| RangeError { range: spec.name.clone(), fault };
        check_name(&spec.name).map_err(wrong)?;
        let first = Number::parse(&spec.from)
            .map_err(|why| wrong(RangeFault::Number { field: "from", text: spec.from.clone(), why }))?;
        let last = Number::parse(&spec.to)
            .map_err(|why| wrong(RangeFault::Number { field: "to", text: spec.to.clone(), why }))?;
        if first.prefix() != last.prefix() {
            return Err(wrong(RangeFault::Prefix { from: first, to: last }));
        }
        if first.digits() != last.digits() {
            return Err(wrong(RangeFault::Length { from: first, to: last }));
        }
        if first > last {
            return Err(wrong(RangeFault::Order { from: first, to: last }));
        }
        let size = last.value() - first.value() + 1;
        if size > RANGE_SIZE_MAX {
            return Err(wrong(RangeFault::RangeSize { size }));
        }
        Ok(Range { name: spec.name.clone(), first, last, kind: spec.kind.clone(), pool: spec.pool.clone() })
    }

    /// Its unique, fixed name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first number.
    pub fn from(&self) -> Number {
        self.first
    }

    /// The last number.
    pub fn to(&self) -> Number {
        self.last
    }

    /// What its numbers are for: `call-park`, `group-pickup`, or a third party's kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The owning pool.
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// How many numbers it holds.
    pub fn size(&self) -> u32 {
        self.last.value() - self.first.value() + 1
    }

    /// Whether `number` lies in it.
    pub fn contains(&self, number: Number) -> bool {
        self.first <= number && number <= self.last
    }

    /// Its numbers, lowest first.
    pub fn numbers(&self) -> impl Iterator<Item = Number> + use<> {
        let first = self.first;
        (0..self.size()).map(move |by| first.plus(by))
    }

    /// The range as the outside gives it.
    pub fn spec(&self) -> RangeSpec {
        RangeSpec {
            name: self.name.clone(),
            from: self.first.to_string(),
            to: self.last.to_string(),
            kind: self.kind.clone(),
            pool: self.pool.clone(),
        }
    }
}

impl TryFrom<RangeSpec> for Range {
    type Error = RangeError;
    fn try_from(spec: RangeSpec) -> Result<Self, RangeError> {
        Range::new(&spec)
    }
}

impl From<Range> for RangeSpec {
    fn from(range: Range) -> RangeSpec {
        range.spec()
    }
}

fn check_name(name: &str) -> Result<(), RangeFault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(plain) {
        return Err(RangeFault::Name);
    }
    Ok(())
}

/// Why a range cannot be: which range, and which rule it breaks.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("range `{range}`: {fault} ({rule})", rule = .fault.rule())]
pub struct RangeError {
    /// The range that was asked for.
    pub range: String,
    /// What is wrong with it.
    pub fault: RangeFault,
}

impl RangeError {
    /// The rule it breaks: `ORB-06`.
    pub fn rule(&self) -> &'static str {
        self.fault.rule()
    }

    /// Whether `force` would get it through: it is about calls or users that depend on the range now.
    pub fn yields_to_force(&self) -> bool {
        matches!(
            self.fault,
            RangeFault::KindInUse { .. } | RangeFault::NumbersInUse { .. } | RangeFault::RemovedInUse { .. }
        )
    }
}

/// What can be wrong with a range.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RangeFault {
    /// The name is empty, too long, or has characters that do not fit into a key.
    #[error("a range's name is 1 to {NAME_LEN_MAX} letters, digits, hyphens, dots or underscores")]
    Name,
    /// An end is no orbit number.
    #[error("`{field}` = \"{text}\" {why}{}", split_hint(.text))]
    Number {
        /// `from` or `to`.
        field: &'static str,
        /// What it says.
        text: String,
        /// Why that is no number.
        why: NumberError,
    },
    /// The ends have different prefixes.
    #[error("{from} and {to} must start with the same character")]
    Prefix {
        /// The first number.
        from: Number,
        /// The last number.
        to: Number,
    },
    /// The ends have different lengths.
    #[error("{from} and {to} must have the same length{}", length_hint(.from, .to))]
    Length {
        /// The first number.
        from: Number,
        /// The last number.
        to: Number,
    },
    /// The ends are the wrong way round.
    #[error("{from} comes after {to}; did you mean from = \"{to}\", to = \"{from}\"?")]
    Order {
        /// The first number as given.
        from: Number,
        /// The last number as given.
        to: Number,
    },
    /// Too many numbers in one range.
    #[error("{size} numbers are too many: a range holds at most {RANGE_SIZE_MAX}")]
    RangeSize {
        /// How many there would be.
        size: u32,
    },
    /// Too many numbers in one pool.
    #[error("pool {pool} would own {size} numbers; at most {POOL_SIZE_MAX} are allowed")]
    PoolSize {
        /// The pool.
        pool: String,
        /// How many it would own.
        size: u32,
    },
    /// Shares a number with another range, of whatever kind.
    #[error("{number} belongs to range `{other}` ({other_from} to {other_to}) already")]
    Overlap {
        /// The first number both would have.
        number: Number,
        /// The other range.
        other: String,
        /// Its first number.
        other_from: Number,
        /// Its last number.
        other_to: Number,
    },
    /// Exactly another range's numbers under a new name.
    #[error("these are the numbers of range `{other}`; a range's name is fixed: remove `{other}` first")]
    Renamed {
        /// The range that has them.
        other: String,
    },
    /// No plugin registers this kind.
    #[error("unknown kind \"{kind}\"{}", did_you_mean(.near))]
    UnknownKind {
        /// The kind.
        kind: String,
        /// One that exists and looks like it.
        near: Option<String>,
    },
    /// There is no such pool.
    #[error("unknown pool \"{pool}\"{}", did_you_mean(.near))]
    UnknownPool {
        /// The pool.
        pool: String,
        /// One that exists and looks like it.
        near: Option<String>,
    },
    /// An emergency number would be swallowed: orbits are looked at first.
    #[error("{number} is an emergency number, and orbits are looked at before emergency calls")]
    Emergency {
        /// The emergency number.
        number: Number,
    },
    /// A user is reached at one of its numbers.
    #[error("{number} is the extension of user {user}; orbits are numbers nobody is reached at")]
    Extension {
        /// The number.
        number: Number,
        /// Whose it is.
        user: String,
    },
    /// The kind of a range in use would change.
    #[error("its kind cannot change from {from} to {to} while {used}")]
    KindInUse {
        /// The kind it has.
        from: String,
        /// The kind it would get.
        to: String,
        /// Who depends on it.
        used: Used,
    },
    /// Numbers in use would fall out of the range.
    #[error("it cannot leave out numbers while {used}")]
    NumbersInUse {
        /// Who depends on them.
        used: Used,
    },
    /// It would be removed while it is in use.
    #[error("it cannot be removed while {used}")]
    RemovedInUse {
        /// Who depends on it.
        used: Used,
    },
    /// What is stored under its name is no range.
    #[error("its record in the store cannot be read: {why}")]
    Damaged {
        /// Why not.
        why: String,
    },
    /// There is no such range.
    #[error("there is no such range{}", did_you_mean(.near))]
    Unknown {
        /// One that exists and looks like it.
        near: Option<String>,
    },
}

/// What depends on a range now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Used {
    /// Calls that wait in its numbers.
    pub calls: usize,
    /// Users whose pickup group lies in it.
    pub users: usize,
}

impl Used {
    /// Whether nothing depends on it.
    pub fn is_empty(self) -> bool {
        self.calls == 0 && self.users == 0
    }
}

impl std::fmt::Display for Used {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let calls = match self.calls {
            0 => None,
            1 => Some("a call waits in it".to_string()),
            many => Some(format!("{many} calls wait in it")),
        };
        let users = match self.users {
            0 => None,
            1 => Some("a user's pickup group lies in it".to_string()),
            many => Some(format!("the pickup groups of {many} users lie in it")),
        };
        match (calls, users) {
            (Some(calls), Some(users)) => write!(f, "{calls} and {users}"),
            (Some(one), None) | (None, Some(one)) => f.write_str(&one),
            (None, None) => f.write_str("nothing depends on it"),
        }
    }
}

impl RangeFault {
    /// The rule it breaks.
    pub fn rule(&self) -> &'static str {
        match self {
            RangeFault::Name
            | RangeFault::UnknownPool { .. }
            | RangeFault::Unknown { .. }
            | RangeFault::Damaged { .. } => "ORB-01",
            RangeFault::UnknownKind { .. } => "ORB-02",
            RangeFault::Number { why, .. } => why.rule(),
            RangeFault::Prefix { .. } | RangeFault::Length { .. } | RangeFault::Order { .. } => "ORB-04",
            RangeFault::Overlap { .. } => "ORB-06",
            RangeFault::Renamed { .. } => "ORB-07",
            RangeFault::RangeSize { .. } | RangeFault::PoolSize { .. } => "ORB-08",
            RangeFault::Extension { .. } => "ORB-10",
            RangeFault::Emergency { .. } => "ORB-12",
            RangeFault::KindInUse { .. } | RangeFault::NumbersInUse { .. } => "ORB-15",
            RangeFault::RemovedInUse { .. } => "ORB-17",
        }
    }
}

fn did_you_mean(near: &Option<String>) -> String {
    near.as_ref().map(|near| format!(", did you mean {near}?")).unwrap_or_default()
}

/// `7000-7099` in one field is two fields written as one.
fn split_hint(text: &str) -> String {
    let Some((from, to)) = text.split_once(['-', ':', '/']) else { return String::new() };
    let (from, to) = (from.trim(), to.trim());
    if Number::parse(from).is_ok() && Number::parse(to).is_ok() {
        format!("; did you mean from = \"{from}\", to = \"{to}\"?")
    } else {
        String::new()
    }
}

/// `7000` to `99` is what people write who mean `7000` to `7099`.
fn length_hint(from: &Number, to: &Number) -> String {
    let (head, tail) = (from.to_string(), to.value().to_string());
    let kept = head.len().saturating_sub(tail.len());
    if to.digits() > from.digits() || to.prefix() != from.prefix() {
        return String::new();
    }
    let whole = format!("{}{tail}", &head[..kept]);
    match Number::parse(&whole) {
        Ok(number) if number >= *from => format!("; did you mean to = \"{whole}\"?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn spec(name: &str, from: &str, to: &str) -> RangeSpec {
        RangeSpec {
            name: name.into(),
            from: from.into(),
            to: to.into(),
            kind: "call-park".into(),
            pool: "east".into(),
        }
    }

    fn error(from: &str, to: &str) -> String {
        Range::new(&spec("lot", from, to)).unwrap_err().to_string()
    }

    #[test]
    fn orb_03_numbers_are_digits_with_an_optional_prefix() {
        assert!(Range::new(&spec("lot", "7000", "7099")).is_ok());
        assert!(Range::new(&spec("lot", "#500", "#599")).is_ok());
        assert_eq!(
            error("|100", "|199"),
            "range `lot`: `from` = \"|100\" contains '|': an orbit is an optional * or # and then digits (ORB-03)"
        );
        assert!(error("0700", "0799").ends_with("starts with 0: the first digit is 1 to 9 (ORB-03)"));
        assert!(error("1234567890", "1234567899").contains("at most 9 digits (ORB-03)"));
        assert!(error("*123456789", "*123456799").contains("at most 8 digits after * or # (ORB-03)"));
    }

    #[test]
    fn orb_03_a_range_in_one_field_is_recognised() {
        assert!(error("7000-7099", "7099").contains("did you mean from = \"7000\", to = \"7099\"?"));
    }

    #[test]
    fn orb_04_ends_agree_in_order_length_and_prefix() {
        assert_eq!(
            error("7099", "7000"),
            "range `lot`: 7099 comes after 7000; did you mean from = \"7000\", to = \"7099\"? (ORB-04)"
        );
        assert_eq!(
            error("*100", "#199"),
            "range `lot`: *100 and #199 must start with the same character (ORB-04)"
        );
        assert!(error("100", "*199").contains("same character (ORB-04)"));
        assert!(error("999", "1000").contains("must have the same length (ORB-04)"));
        assert!(error("7000", "99").contains("did you mean to = \"7099\"? (ORB-04)"));
        assert!(Range::new(&spec("one", "7000", "7000")).is_ok_and(|range| range.size() == 1));
    }

    #[test]
    fn orb_05_prefixed_numbers_start_at_100() {
        assert!(error("*10", "*99").contains("at least 100 (ORB-05)"));
        assert!(Range::new(&spec("groups", "*100", "*199")).is_ok());
    }

    #[test]
    fn orb_08_a_range_is_smaller_than_ten_thousand() {
        assert!(Range::new(&spec("big", "10000", "19998")).is_ok_and(|range| range.size() == 9_999));
        assert!(
            error("10000", "19999")
                .contains("10000 numbers are too many: a range holds at most 9999 (ORB-08)")
        );
    }

    #[test]
    fn a_name_fits_into_keys_and_urls() {
        for bad in ["", "a/b", "with space", "ä", &"x".repeat(65)] {
            assert_eq!(Range::new(&spec(bad, "7000", "7099")).unwrap_err().rule(), "ORB-01", "{bad}");
        }
    }

    #[test]
    fn a_range_knows_its_numbers() {
        let range = Range::new(&spec("lot", "#100", "#102")).unwrap();
        assert_eq!(range.numbers().map(|n| n.to_string()).collect::<Vec<_>>(), ["#100", "#101", "#102"]);
        assert!(range.contains(Number::parse("#101").unwrap()));
        for outside in ["#103", "101", "*101"] {
            assert!(!range.contains(Number::parse(outside).unwrap()), "{outside}");
        }
    }

    #[test]
    fn a_range_is_stored_as_the_outside_gives_it() {
        let range = Range::new(&spec("lot", "7000", "7099")).unwrap();
        let json = serde_json::to_string(&range).unwrap();
        assert_eq!(json, r#"{"name":"lot","from":"7000","to":"7099","kind":"call-park","pool":"east"}"#);
        assert_eq!(serde_json::from_str::<Range>(&json).unwrap(), range);
        assert!(serde_json::from_str::<Range>(&json.replace("7099", "6999")).is_err());
    }
}

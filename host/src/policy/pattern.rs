//! Lua patterns (Lua 5.4 manual §6.4.1) with a price.
//!
//! The matcher in Lua's own library runs inside one instruction, so no budget reaches it, and a dozen bytes of
//! pattern keep it busy for years. Limiting lengths does not help much: `(.-)(.-)(.-)x` on 300 bytes takes four
//! million steps. This one counts its steps and asks whether it may go on.

use thiserror::Error;

/// Lua allows as many.
const CAPTURES_MAX: usize = 32;
/// Each item may be a level of recursion; a pattern of more is a program.
const ITEMS_MAX: usize = 200;
/// Steps between two payments.
const STEPS_PER_PAYMENT: u32 = 1024;

/// Why there is no answer.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum PatternError {
    #[error("malformed pattern ({0})")]
    Malformed(&'static str),
    #[error("invalid capture index %{0} in pattern")]
    NoSuchCapture(char),
    #[error("pattern has more than {CAPTURES_MAX} captures")]
    TooManyCaptures,
    #[error("pattern is too long")]
    TooLong,
    /// Whoever pays has stopped.
    #[error("stopped")]
    Stopped,
}

/// A compiled pattern, without the `^` at its beginning.
#[derive(Debug)]
pub(crate) struct Pattern {
    items: Vec<Item>,
    captures: usize,
}

/// A part of the subject that a capture holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capture {
    /// From, to.
    Text(usize, usize),
    /// `()`: a position, counted from 0.
    Position(usize),
}

/// Where a match was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) captures: Vec<Capture>,
}

#[derive(Debug)]
enum Item {
    Byte(Set, Repeat),
    Open(usize),
    Position(usize),
    Close(usize),
    /// `%bxy`.
    Balance(u8, u8),
    /// `%f[set]`.
    Frontier(Set),
    /// `%1`: what a capture holds, again.
    Again(usize),
    /// `$` at the end.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    Once,
    Optional,
    Most { least: usize },
    Fewest,
}

/// A set of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set([u64; 4]);

impl Set {
    const NONE: Set = Set([0; 4]);

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
    }

    fn inverted(self) -> Set {
        Set(self.0.map(|bits| !bits))
    }

    fn join(&mut self, other: Set) {
        for (mine, other) in self.0.iter_mut().zip(other.0) {
            *mine |= other;
        }
    }

    fn of(byte: u8) -> Set {
        let mut set = Set::NONE;
        set.add(byte);
        set
    }

    fn where_(wanted: impl Fn(u8) -> bool) -> Set {
        let mut set = Set::NONE;
        (0..=255).filter(|byte| wanted(*byte)).for_each(|byte| set.add(byte));
        set
    }

    /// `%a`, `%D`, …; any other byte after `%` is itself.
    fn class(letter: u8) -> Set {
        let set = match letter.to_ascii_lowercase() {
            b'a' => Set::where_(|byte| byte.is_ascii_alphabetic()),
            b'c' => Set::where_(|byte| byte.is_ascii_control()),
            b'd' => Set::where_(|byte| byte.is_ascii_digit()),
            b'g' => Set::where_(|byte| byte.is_ascii_graphic()),
            b'l' => Set::where_(|byte| byte.is_ascii_lowercase()),
            b'p' => Set::where_(|byte| byte.is_ascii_punctuation()),
            // C's isspace knows the vertical tab, Rust's does not.
            b's' => Set::where_(|byte| byte.is_ascii_whitespace() || byte == 0x0b),
            b'u' => Set::where_(|byte| byte.is_ascii_uppercase()),
            b'w' => Set::where_(|byte| byte.is_ascii_alphanumeric()),
            b'x' => Set::where_(|byte| byte.is_ascii_hexdigit()),
            _ => return Set::of(letter),
        };
        if letter.is_ascii_uppercase() { set.inverted() } else { set }
    }
}

impl Pattern {
    /// Compiles a pattern. Unlike in Lua a mistake is found even where no match gets to it.
    pub(crate) fn new(text: &[u8]) -> Result<Pattern, PatternError> {
        let mut parser = Parser { rest: text };
        let mut items = Vec::new();
        let mut captures = 0;
        let mut open = Vec::new();
        while let Some(first) = parser.next() {
            if items.len() == ITEMS_MAX {
                return Err(PatternError::TooLong);
            }
            let item = match first {
                b'(' if captures == CAPTURES_MAX => return Err(PatternError::TooManyCaptures),
                b'(' => {
                    captures += 1;
                    if parser.rest.first() == Some(&b')') {
                        parser.next();
                        Item::Position(captures - 1)
                    } else {
                        open.push(captures - 1);
                        Item::Open(captures - 1)
                    }
                }
                b')' => Item::Close(open.pop().ok_or(PatternError::Malformed("')' without '('"))?),
                b'$' if parser.rest.is_empty() => Item::End,
                b'%' => match parser.next() {
                    Some(b'b') => match (parser.next(), parser.next()) {
                        (Some(from), Some(to)) => Item::Balance(from, to),
                        _ => return Err(PatternError::Malformed("missing arguments to '%b'")),
                    },
                    Some(b'f') => match parser.next() {
                        Some(b'[') => Item::Frontier(parser.set()?),
                        _ => return Err(PatternError::Malformed("missing '[' after '%f'")),
                    },
                    Some(digit @ b'0'..=b'9') => {
                        let index = usize::from(digit).wrapping_sub(usize::from(b'1'));
                        if index >= captures || open.contains(&index) {
                            return Err(PatternError::NoSuchCapture(char::from(digit)));
                        }
                        Item::Again(index)
                    }
                    Some(letter) => Item::Byte(Set::class(letter), parser.repeat()),
                    None => return Err(PatternError::Malformed("ends with '%'")),
                },
                b'[' => Item::Byte(parser.set()?, parser.repeat()),
                b'.' => Item::Byte(Set::NONE.inverted(), parser.repeat()),
                byte => Item::Byte(Set::of(byte), parser.repeat()),
            };
            items.push(item);
        }
        if open.is_empty() {
            Ok(Pattern { items, captures })
        } else {
            Err(PatternError::Malformed("missing ')'"))
        }
    }

    /// The first match that begins at `from` or, unless `anchored`, later. `pay` is asked before every thousand
    /// steps with their number, and may end the search.
    pub(crate) fn find(
        &self,
        subject: &[u8],
        from: usize,
        anchored: bool,
        pay: &mut dyn FnMut(u32) -> bool,
    ) -> Result<Option<Match>, PatternError> {
        let captures = vec![Capture::Text(0, 0); self.captures];
        let mut run = Run { subject, items: &self.items, captures, unpaid: 0, pay };
        let mut found = None;
        for start in from..=subject.len() {
            if let Some(end) = run.rest(0, start)? {
                found = Some((start, end));
                break;
            }
            if anchored {
                break;
            }
        }
        run.settle()?;
        Ok(found.map(|(start, end)| Match { start, end, captures: run.captures }))
    }
}

struct Parser<'a> {
    rest: &'a [u8],
}

impl Parser<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn repeat(&mut self) -> Repeat {
        let repeat = match self.rest.first() {
            Some(b'*') => Repeat::Most { least: 0 },
            Some(b'+') => Repeat::Most { least: 1 },
            Some(b'-') => Repeat::Fewest,
            Some(b'?') => Repeat::Optional,
            _ => return Repeat::Once,
        };
        self.next();
        repeat
    }

    /// The rest of a `[set]`, after its bracket.
    fn set(&mut self) -> Result<Set, PatternError> {
        const UNFINISHED: PatternError = PatternError::Malformed("missing ']'");
        let negated = self.rest.first() == Some(&b'^');
        if negated {
            self.next();
        }
        let mut set = Set::NONE;
        let mut first = true;
        loop {
            match self.next().ok_or(UNFINISHED)? {
                // A closing bracket that comes first is one of the set.
                b']' if !first => break,
                b'%' => set.join(Set::class(self.next().ok_or(UNFINISHED)?)),
                low => match *self.rest {
                    // A hyphen before the closing bracket is one of the set.
                    [b'-', high, ..] if high != b']' => {
                        self.next();
                        self.next();
                        (low..=high).for_each(|byte| set.add(byte));
                    }
                    _ => set.add(low),
                },
            }
            first = false;
        }
        Ok(if negated { set.inverted() } else { set })
    }
}

struct Run<'a> {
    subject: &'a [u8],
    items: &'a [Item],
    /// Never undone: every way to the end of the pattern passes all captures in order and sets them anew.
    captures: Vec<Capture>,
    unpaid: u32,
    pay: &'a mut dyn FnMut(u32) -> bool,
}

impl Run<'_> {
    /// Where a match of the items from `item` on ends that begins at `at`.
    fn rest(&mut self, mut item: usize, mut at: usize) -> Result<Option<usize>, PatternError> {
        let items = self.items;
        while let Some(what) = items.get(item) {
            item += 1;
            self.step(1)?;
            let next = match what {
                Item::Byte(set, repeat) => match repeat {
                    Repeat::Once => self.has(set, at).then_some(at + 1),
                    Repeat::Optional => {
                        if self.has(set, at)
                            && let Some(end) = self.rest(item, at + 1)?
                        {
                            return Ok(Some(end));
                        }
                        Some(at)
                    }
                    Repeat::Most { least } => return self.most(set, *least, item, at),
                    Repeat::Fewest => return self.fewest(set, item, at),
                },
                Item::Open(index) => {
                    self.captures[*index] = Capture::Text(at, at);
                    Some(at)
                }
                Item::Position(index) => {
                    self.captures[*index] = Capture::Position(at);
                    Some(at)
                }
                Item::Close(index) => {
                    if let Capture::Text(_, end) = &mut self.captures[*index] {
                        *end = at;
                    }
                    Some(at)
                }
                Item::Balance(from, to) => self.balance(*from, *to, at)?,
                Item::Frontier(set) => {
                    let before = at.checked_sub(1).map_or(0, |before| self.subject[before]);
                    let here = self.subject.get(at).copied().unwrap_or(0);
                    (!set.has(before) && set.has(here)).then_some(at)
                }
                Item::Again(index) => self.again(*index, at)?,
                Item::End => (at == self.subject.len()).then_some(at),
            };
            match next {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    fn has(&self, set: &Set, at: usize) -> bool {
        self.subject.get(at).is_some_and(|byte| set.has(*byte))
    }

    fn most(
        &mut self,
        set: &Set,
        least: usize,
        item: usize,
        at: usize,
    ) -> Result<Option<usize>, PatternError> {
        let mut count = self.subject[at..].iter().take_while(|byte| set.has(**byte)).count();
        self.step(count)?;
        while count >= least {
            if let Some(end) = self.rest(item, at + count)? {
                return Ok(Some(end));
            }
            let Some(fewer) = count.checked_sub(1) else { break };
            count = fewer;
        }
        Ok(None)
    }

    fn fewest(&mut self, set: &Set, item: usize, mut at: usize) -> Result<Option<usize>, PatternError> {
        loop {
            if let Some(end) = self.rest(item, at)? {
                return Ok(Some(end));
            }
            if !self.has(set, at) {
                return Ok(None);
            }
            at += 1;
        }
    }

    fn balance(&mut self, from: u8, to: u8, at: usize) -> Result<Option<usize>, PatternError> {
        if self.subject.get(at) != Some(&from) {
            return Ok(None);
        }
        let mut depth = 1usize;
        for (offset, byte) in self.subject[at + 1..].iter().enumerate() {
            // With the same byte on both sides the second one closes.
            if *byte == to {
                depth -= 1;
                if depth == 0 {
                    self.step(offset)?;
                    return Ok(Some(at + offset + 2));
                }
            } else if *byte == from {
                depth += 1;
            }
        }
        self.step(self.subject.len() - at)?;
        Ok(None)
    }

    fn again(&mut self, index: usize, at: usize) -> Result<Option<usize>, PatternError> {
        let Capture::Text(from, to) = self.captures[index] else { return Ok(None) };
        self.step(to - from)?;
        let same = self.subject[at..].starts_with(&self.subject[from..to]);
        Ok(same.then_some(at + (to - from)))
    }

    fn step(&mut self, steps: usize) -> Result<(), PatternError> {
        self.unpaid = self.unpaid.saturating_add(u32::try_from(steps).unwrap_or(u32::MAX));
        if self.unpaid >= STEPS_PER_PAYMENT { self.settle() } else { Ok(()) }
    }

    fn settle(&mut self) -> Result<(), PatternError> {
        if (self.pay)(std::mem::take(&mut self.unpaid)) { Ok(()) } else { Err(PatternError::Stopped) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlua::{Lua, MultiValue, Value};
    use proptest::prelude::*;

    fn find(subject: &str, pattern: &str) -> Result<Option<Match>, PatternError> {
        Pattern::new(pattern.as_bytes())?.find(subject.as_bytes(), 0, false, &mut |_| true)
    }

    #[test]
    fn mistakes_are_named() {
        for (pattern, message) in [
            ("%", "malformed pattern (ends with '%')"),
            ("[a", "malformed pattern (missing ']')"),
            ("[]", "malformed pattern (missing ']')"),
            ("[a%", "malformed pattern (missing ']')"),
            ("%b(", "malformed pattern (missing arguments to '%b')"),
            ("%fa", "malformed pattern (missing '[' after '%f')"),
            ("(a", "malformed pattern (missing ')')"),
            ("a)", "malformed pattern (')' without '(')"),
            ("%1", "invalid capture index %1 in pattern"),
            ("(a%1)", "invalid capture index %1 in pattern"),
            ("%0", "invalid capture index %0 in pattern"),
        ] {
            assert_eq!(find("aaa", pattern).unwrap_err().to_string(), message, "{pattern}");
        }
        assert_eq!(find("", &"()".repeat(33)).unwrap_err(), PatternError::TooManyCaptures);
        assert_eq!(find("", &"a".repeat(201)).unwrap_err(), PatternError::TooLong);
    }

    #[test]
    fn exponential_patterns_stop_when_nobody_pays() {
        let pattern = Pattern::new(
            "(.-)".repeat(20).as_bytes().iter().chain(b"x").copied().collect::<Vec<_>>().as_slice(),
        );
        let pattern = pattern.unwrap();
        let mut paid = 0u64;
        let result = pattern.find(&[b'a'; 200], 0, false, &mut |steps| {
            paid += u64::from(steps);
            paid < 100_000
        });
        assert_eq!(result, Err(PatternError::Stopped));
        assert!((100_000..110_000).contains(&paid), "{paid}");
    }

    #[test]
    fn cheap_work_is_paid_too() {
        let mut paid = 0;
        let pattern = Pattern::new(b"%d+").unwrap();
        pattern
            .find(b"abc 7001", 0, false, &mut |steps| {
                paid += steps;
                true
            })
            .unwrap();
        assert!((5..50).contains(&paid), "{paid}");
    }

    /// What Lua itself answers: `Err` for an error, else start, end and captures.
    fn lua_find(lua: &Lua, subject: &[u8], pattern: &[u8]) -> Result<Option<Match>, ()> {
        let find: mlua::Function = lua.load("return string.find").eval().unwrap();
        let (subject, pattern) = (lua.create_string(subject).unwrap(), lua.create_string(pattern).unwrap());
        let values: MultiValue = find.call((&subject, pattern)).map_err(|_| ())?;
        let mut values = values.into_iter();
        let (Some(Value::Integer(start)), Some(Value::Integer(end))) = (values.next(), values.next()) else {
            return Ok(None);
        };
        let captures = values.map(|value| match value {
            Value::Integer(position) => Capture::Position(position as usize - 1),
            Value::String(text) => Capture::Text(text.as_bytes().len(), 0),
            other => panic!("{other:?}"),
        });
        Ok(Some(Match { start: start as usize - 1, end: end as usize, captures: captures.collect() }))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// Lua's own library is the oracle: the same match, and an error wherever Lua finds one.
        #[test]
        fn agrees_with_lua(
            subject in "[ab1( )x.-]{0,12}",
            pattern in proptest::collection::vec(proptest::sample::select(vec![
                "a", "b", "1", ".", "%a", "%d", "%s", "%S", "%W", "[ab]", "[^a]", "[a-b1]", "[]a]", "[%d-]", "[a-]", "%(", "%.",
                "*", "+", "-", "?", "(", ")", "()", "(a)", "(.-)", "%1", "%2", "%b()", "%bab", "%f[%a]", "%f[^a]", "$", "^", "%", "[", "]",
            ]), 0..7),
        ) {
            let pattern = pattern.concat();
            // Lua's `find` takes a pattern without any of these as plain text; `)` is not among them.
            prop_assume!(pattern.contains(['^', '$', '*', '+', '?', '.', '(', '[', '%', '-']));
            let lua = Lua::new();
            let theirs = lua_find(&lua, subject.as_bytes(), pattern.as_bytes());
            let (anchored, body) = match pattern.strip_prefix('^') {
                Some(body) => (true, body),
                None => (false, pattern.as_str()),
            };
            let ours = Pattern::new(body.as_bytes()).and_then(|p| p.find(subject.as_bytes(), 0, anchored, &mut |_| true));
            match (theirs, ours) {
                (Err(()), ours) => prop_assert!(ours.is_err(), "Lua refuses {pattern:?}, we found {ours:?}"),
                // Where no match got to the mistake Lua does not see it.
                (Ok(None), Err(_)) => {}
                (Ok(theirs), Ok(ours)) => {
                    let ours = ours.map(|mut found| {
                        for capture in &mut found.captures {
                            if let Capture::Text(from, to) = *capture { *capture = Capture::Text(to - from, 0); }
                        }
                        found
                    });
                    prop_assert_eq!(theirs, ours, "{:?} in {:?}", pattern, subject);
                }
                (theirs, Err(error)) => prop_assert!(false, "{pattern:?}: {error}, Lua found {theirs:?}"),
            }
        }
    }
}

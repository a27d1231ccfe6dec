//! Orbit numbers: `7001`, `*101`, `#5550`.

use std::fmt;

use percent_encoding::percent_decode_str;

/// The character in front of an orbit's digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Prefix {
    /// `#`, which prints as `%23` inside a SIP URI.
    Hash,
    /// `*`.
    Star,
}

impl Prefix {
    const fn as_char(self) -> char {
        match self {
            Prefix::Hash => '#',
            Prefix::Star => '*',
        }
    }
}

/// A number a call can wait in: `[*#]?[1-9]\d{0,7}` or `[1-9]\d{0,8}` (ORB-03), at least 100 after a prefix
/// (ORB-05). The first digit is never zero, so the value and the prefix are the whole number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number {
    prefix: Option<Prefix>,
    value: u32,
}

/// The smallest value after a prefix (ORB-05).
const PREFIXED_MIN: u32 = 100;
const DIGITS_MAX: usize = 9;
const PREFIXED_DIGITS_MAX: usize = 8;

impl Number {
    /// Reads a number as it is configured or dialled, already unescaped.
    pub fn parse(text: &str) -> Result<Number, NumberError> {
        let (prefix, digits) = match text.as_bytes().first() {
            Some(b'*') => (Some(Prefix::Star), &text[1..]),
            Some(b'#') => (Some(Prefix::Hash), &text[1..]),
            _ => (None, text),
        };
        if digits.is_empty() {
            return Err(NumberError::NoDigits);
        }
        if let Some(found) = digits.chars().find(|c| !c.is_ascii_digit()) {
            return Err(NumberError::NotADigit(found));
        }
        if digits.starts_with('0') {
            return Err(NumberError::LeadingZero);
        }
        let most = if prefix.is_some() { PREFIXED_DIGITS_MAX } else { DIGITS_MAX };
        if digits.len() > most {
            return Err(NumberError::TooLong { most, prefixed: prefix.is_some() });
        }
        // At most nine digits: it fits.
        let value = digits.bytes().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
        if prefix.is_some() && value < PREFIXED_MIN {
            return Err(NumberError::TooSmall);
        }
        Ok(Number { prefix, value })
    }

    /// The character in front of the digits.
    pub fn prefix(self) -> Option<Prefix> {
        self.prefix
    }

    /// The digits as a number.
    pub fn value(self) -> u32 {
        self.value
    }

    /// How many digits there are.
    pub fn digits(self) -> u32 {
        self.value.checked_ilog10().unwrap_or(0) + 1
    }

    /// The number `by` further on. Only meaningful inside a range, which has checked its last number.
    pub(super) fn plus(self, by: u32) -> Number {
        Number { prefix: self.prefix, value: self.value.saturating_add(by) }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(prefix) = self.prefix {
            fmt::Write::write_char(f, prefix.as_char())?;
        }
        write!(f, "{}", self.value)
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no orbit number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NumberError {
    /// Nothing, or a prefix alone.
    #[error("has no digits")]
    NoDigits,
    /// A character that does not belong there. `|` stands in the reference's pattern by accident only.
    #[error("contains {0:?}: an orbit is an optional * or # and then digits")]
    NotADigit(char),
    /// The first digit is 0.
    #[error("starts with 0: the first digit is 1 to 9")]
    LeadingZero,
    /// Too many digits.
    #[error("is too long: at most {most} digits{}", behind_prefix(.prefixed))]
    TooLong {
        /// How many there may be.
        most: usize,
        /// Whether there is a prefix.
        prefixed: bool,
    },
    /// Less than 100 after a prefix.
    #[error("is too small: after * or # the digits are at least {PREFIXED_MIN}")]
    TooSmall,
}

fn behind_prefix(prefixed: &bool) -> &'static str {
    if *prefixed { " after * or #" } else { "" }
}

impl NumberError {
    /// The rule it breaks.
    pub fn rule(self) -> &'static str {
        match self {
            NumberError::TooSmall => "ORB-05",
            _ => "ORB-03",
        }
    }
}

/// The orbit number that the user part of a SIP or tel URI dials, in the one spelling in which numbers are
/// compared: user parameters cut (`7001;phone-context=…`), escapes undone (`%23100` is `#100`) and, with
/// `user=phone`, visual separators cut (RFC 3966 §5.1.1). `None` if no orbit can be meant.
pub fn dialled(user_part: &str, user_phone: bool) -> Option<String> {
    // Parameters first: an escaped semicolon belongs to the name and starts none (RFC 3261 §19.1.1).
    let raw = user_part.split(';').next().unwrap_or_default();
    let unescaped = percent_decode_str(raw).decode_utf8().ok()?;
    let number = if user_phone {
        unescaped.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')')).collect()
    } else {
        unescaped.into_owned()
    };
    Number::parse(&number).is_ok().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_pattern() {
        for good in ["1", "9", "7001", "999999999", "*100", "#100", "*12345678", "#99999999"] {
            assert_eq!(Number::parse(good).map(|n| n.to_string()), Ok(good.to_string()));
        }
        for (bad, why) in [
            ("", NumberError::NoDigits),
            ("*", NumberError::NoDigits),
            ("0", NumberError::LeadingZero),
            ("0700", NumberError::LeadingZero),
            ("*0100", NumberError::LeadingZero),
            ("1234567890", NumberError::TooLong { most: 9, prefixed: false }),
            ("*123456789", NumberError::TooLong { most: 8, prefixed: true }),
            ("|100", NumberError::NotADigit('|')),
            ("7|1", NumberError::NotADigit('|')),
            ("**100", NumberError::NotADigit('*')),
            ("7000-7099", NumberError::NotADigit('-')),
            ("+4930", NumberError::NotADigit('+')),
            (" 7000", NumberError::NotADigit(' ')),
            ("٧٠٠", NumberError::NotADigit('٧')),
            ("*99", NumberError::TooSmall),
            ("#1", NumberError::TooSmall),
        ] {
            assert_eq!(Number::parse(bad), Err(why), "{bad}");
        }
        assert_eq!(NumberError::TooSmall.rule(), "ORB-05");
        assert_eq!(NumberError::LeadingZero.rule(), "ORB-03");
    }

    #[test]
    fn an_unprefixed_number_may_be_small_and_a_prefixed_one_starts_at_100() {
        assert!(Number::parse("5").is_ok());
        assert!(Number::parse("*100").is_ok());
        assert!(Number::parse("*99").is_err());
    }

    #[test]
    fn digits_are_counted_without_the_prefix() {
        for (text, digits) in [("1", 1), ("9", 1), ("10", 2), ("*999", 3), ("999999999", 9)] {
            assert_eq!(Number::parse(text).unwrap().digits(), digits);
        }
    }

    #[test]
    fn a_dialled_number_has_one_spelling() {
        for (user, phone, number) in [
            ("7001", false, Some("7001")),
            ("%23100", false, Some("#100")),
            ("%37001", false, Some("7001")),
            ("*101", true, Some("*101")),
            ("7001;phone-context=example.test", false, Some("7001")),
            ("7-00.1", true, Some("7001")),
            ("(70)01", true, Some("7001")),
            // Without user=phone a dot is part of a name (RFC 3261 §19.1.1).
            ("7-001", false, None),
            ("alice", false, None),
            ("+7001", true, None),
            ("7001%3Bx", false, None),
            ("7001%", false, None),
            ("%ff", false, None),
            ("%00", false, None),
            ("", false, None),
            (";x", false, None),
        ] {
            assert_eq!(dialled(user, phone).as_deref(), number, "{user}");
        }
    }
}

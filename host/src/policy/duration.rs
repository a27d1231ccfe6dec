//! Durations as people write them: `"90s"`, `"2m"`, `"1m30s"`, `"500ms"`, `"1h"`.

/// Units, longest first, with their milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Milliseconds of a written duration. Units go from long to short, each at most once; `None` for anything else.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = rest.split_at(letters);
        // `find` moves on: a unit that stands before the last one, or twice, is not found any more.
        let (_, milliseconds) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.checked_mul(*milliseconds)?)?;
        rest = after;
    }
    Some(total)
}

/// The shortest way to write a duration.
pub(crate) fn print(mut milliseconds: u64) -> String {
    if milliseconds == 0 {
        return "0s".into();
    }
    // Up to two minutes people say seconds: "90s", not "1m30s".
    if milliseconds < 120_000 && milliseconds.is_multiple_of(1_000) && !milliseconds.is_multiple_of(60_000) {
        return format!("{}s", milliseconds / 1_000);
    }
    let mut text = String::new();
    for (unit, length) in UNITS {
        if milliseconds >= length {
            text.push_str(&format!("{}{unit}", milliseconds / length));
            milliseconds %= length;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up_from_long_to_short() {
        for (text, milliseconds) in [
            ("90s", 90_000),
            ("2m", 120_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1h", 3_600_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Some(milliseconds), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_duration() {
        for text in [
            "",
            "90",
            "s",
            "90 s",
            "1.5m",
            "-1s",
            "30s1m",
            "1s1s",
            "90sec",
            "99999999999999999999s",
            "9999999999999999h",
            "1m ",
            "٣s",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn printing_is_short_and_reads_back() {
        assert_eq!(print(90_000), "90s");
        assert_eq!(print(600_000), "10m");
        assert_eq!(print(60_000), "1m");
        assert_eq!(print(150_000), "2m30s");
        assert_eq!(print(86_400_000), "1d");
        for milliseconds in [0, 1, 999, 1_000, 59_999, 61_000, 3_599_999, 3_600_000, 90_061_001] {
            assert_eq!(parse(&print(milliseconds)), Some(milliseconds), "{}", print(milliseconds));
        }
    }
}

//! The small words of RFC 3261 §25.1 that several headers share: tokens, quoted strings, lists, parameters.
//! Nothing here allocates but [`quote`] and [`unquote`].

use std::borrow::Cow;
use std::fmt;

/// A header value or URI that does not follow its grammar.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed {what}: {why}")]
pub struct Malformed {
    /// Which header or part.
    pub what: &'static str,
    /// What was expected instead.
    pub why: &'static str,
}

impl Malformed {
    pub(super) const fn new(what: &'static str, why: &'static str) -> Self {
        Self { what, why }
    }
}

/// RFC 3261 §25.1 `token`.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

/// Whether `text` is one or more token characters.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// Whether `text` can stand for itself where a token belongs. Wider than [`is_token`], as phones put base64 and
/// addresses into tags and branches, but nothing that could be read as the end of the value.
pub(super) fn is_word(text: &str) -> bool {
    !text.bytes().any(|byte| byte <= b' ' || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b',' | b';' | 0x7f))
}

/// Linear white space. Folds have become blanks by the time a value is looked at.
pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Cuts blanks on both sides.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// The byte offset just after the quoted string that `text` begins with; `None` if it never ends.
pub(super) fn quoted_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        match bytes[at] {
            b'"' => return Some(at + 1),
            _ => at += 2, // a quoted pair hides the next byte
        }
    }
}

/// Splits at the first `separator` that is neither in a quoted string nor, with `angles`, in angle brackets.
fn split_once(text: &str, separator: u8, angles: bool) -> (&str, Option<&str>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            byte if byte == separator => return (&text[..at], Some(&text[at + 1..])),
            b'"' => match quoted_end(&text[at..]) {
                Some(length) => at += length,
                None => return (text, None),
            },
            b'<' if angles => match memchr::memchr(b'>', &bytes[at..]) {
                Some(length) => at += length + 1,
                None => return (text, None),
            },
            _ => at += 1,
        }
    }
    (text, None)
}

/// The elements of a comma-separated list, trimmed. Empty elements are left out (RFC 3261 §7.3.1 has none).
pub fn list(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        loop {
            let (element, after) = split_once(rest?, b',', true);
            rest = after;
            let element = trim(element);
            if !element.is_empty() {
                return Some(element);
            }
        }
    })
}

/// One `;name=value` of a header or URI, not unescaped and not unquoted.
pub(super) type Param<'a> = (&'a str, Option<&'a str>);

/// The parameters of `text`, which is empty or starts with a semicolon. An item is an error where a name is
/// missing or is no token.
pub(super) fn params(text: &str) -> impl Iterator<Item = Result<Param<'_>, &'static str>> {
    let mut rest = Some(trim(text)).filter(|text| !text.is_empty());
    let mut first = true;
    std::iter::from_fn(move || {
        let mut text = rest?;
        if first {
            first = false;
            let Some(after) = text.strip_prefix(';') else {
                rest = None;
                return Some(Err("expected `;` before a parameter"));
            };
            text = after;
        }
        let (param, after) = split_once(text, b';', false);
        rest = after;
        let (name, value) = match split_once(param, b'=', false) {
            (name, Some(value)) => (trim(name), Some(trim(value))),
            (name, None) => (trim(name), None),
        };
        Some(if !is_param_name(name) {
            Err("expected a parameter's name")
        } else if value.is_some_and(|value| value.contains('"') && !is_quoted(value)) {
            Err("expected a closing quote")
        } else {
            Ok((name, value))
        })
    })
}

/// Whether it is one quoted string and nothing else.
fn is_quoted(value: &str) -> bool {
    value.starts_with('"') && quoted_end(value) == Some(value.len())
}

/// Tokens, and the few further characters URI parameters may have (RFC 3261 §25.1 `paramchar`).
fn is_param_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| {
            is_token_byte(byte) || matches!(byte, b'[' | b']' | b'/' | b':' | b'&' | b'$' | b'(' | b')')
        })
}

/// Takes a token from the start; gives it and the rest.
pub(super) fn take_token(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().position(|byte| !is_token_byte(byte)).unwrap_or(text.len()))
}

/// Whether the list of tokens in `values` has `token`, in any case.
pub(super) fn contains_token<'a>(mut values: impl Iterator<Item = &'a str>, token: &str) -> bool {
    values.any(|value| value.eq_ignore_ascii_case(token))
}

/// The text of a quoted string without its quotes and backslashes; any other text as it is.
pub fn unquote(text: &str) -> Cow<'_, str> {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return Cow::Borrowed(text);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => out.extend(chars.next()),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// Displays `text` as a quoted string.
pub fn quote(text: &str) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        f.write_str("\"")?;
        let mut rest = text;
        while let Some(at) = rest.find(['"', '\\']) {
            write!(f, "{}\\{}", &rest[..at], &rest[at..=at])?;
            rest = &rest[at + 1..];
        }
        write!(f, "{rest}\"")
    })
}

/// A decimal number that fits, digits only.
pub(super) fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_quotes_and_brackets_do_not_split() {
        let value = r#""Bell, \"A\"" <sip:a,b@x;p=1,2>;q=0.7 , sip:c@d,, <sip:e@f>"#;
        assert_eq!(
            list(value).collect::<Vec<_>>(),
            [r#""Bell, \"A\"" <sip:a,b@x;p=1,2>;q=0.7"#, "sip:c@d", "<sip:e@f>"]
        );
        assert_eq!(list(r#"a, "never closed, b"#).collect::<Vec<_>>(), ["a", r#""never closed, b"#]);
        assert_eq!(list("a, <b, c").collect::<Vec<_>>(), ["a", "<b, c"]);
        assert_eq!(list(" ,, ").count(), 0);
    }

    #[test]
    fn params_are_split_trimmed_and_checked() {
        let good: Vec<_> = params(r#" ;lr; tag = "a;b=\"c" ;ttl=1"#).collect();
        assert_eq!(good, [Ok(("lr", None)), Ok(("tag", Some(r#""a;b=\"c""#))), Ok(("ttl", Some("1")))]);
        assert!(params("lr").any(|param| param.is_err()));
        assert!(params(";;a").any(|param| param.is_err()));
        assert!(params(";a=1;").any(|param| param.is_err()));
        assert!(params(r#";a="1"#).any(|param| param.is_err()));
        assert!(
            params(";a=\0\"1").any(|param| param.is_err()),
            "a quote that may be the first once the NUL is gone"
        );
        assert_eq!(params("").count(), 0);
    }

    #[test]
    fn quoting_and_unquoting_are_inverse() {
        for text in ["", "Bob", "a \"b\" c", "back\\slash", "\\\"", "Zoë"] {
            assert_eq!(unquote(&quote(text).to_string()), text);
        }
        assert_eq!(unquote("plain"), "plain");
    }

    #[test]
    fn a_word_is_nearly_anything_that_does_not_end_a_value() {
        assert!(is_word("abc") && is_word("a=/+@[::1]:5060") && is_word(""));
        for text in ["a b", "a\t", "\"a\"", "<a>", "a;b", "a,b", "a\\b", "a\0"] {
            assert!(!is_word(text), "{text}");
        }
    }

    #[test]
    fn numbers_are_digits_only_and_bounded() {
        assert_eq!(number::<u8>("070"), Some(70));
        for text in ["", "+1", "-1", " 1", "1 ", "256", "0x1", "٣"] {
            assert_eq!(number::<u8>(text), None, "{text}");
        }
    }
}

//! CSeq (RFC 3261 §20.16).

use std::fmt;

use crate::sip::grammar::{Malformed, number, take_token, trim};
use crate::sip::method::Method;

/// Orders the requests of a dialog, and tells which of them a response answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CSeq {
    /// Below 2^31.
    pub number: u32,
    /// The request's method.
    pub method: Method,
}

impl CSeq {
    /// Reads `4711 INVITE`.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let (number, method) = split(value)?;
        Ok(Self { number, method: Method::parse(method) })
    }
}

/// Number and method name.
pub(in crate::sip) fn split(value: &str) -> Result<(u32, &str), Malformed> {
    let bad = |why| Malformed::new("CSeq", why);
    let value = trim(value);
    let (digits, rest) = value.split_at(value.find([' ', '\t']).unwrap_or(value.len()));
    let number =
        number(digits).filter(|number| *number < 1 << 31).ok_or(bad("expected a number below 2^31"))?;
    let (method, rest) = take_token(trim(rest));
    if method.is_empty() || !rest.is_empty() {
        return Err(bad("expected a method"));
    }
    Ok((number, method))
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in ["0 INVITE", "2147483647 REGISTER", "9 !interesting-Method0123456789_*+`.%indeed'~"] {
            assert_eq!(CSeq::parse(text).expect("valid").to_string(), text);
        }
        assert_eq!(CSeq::parse("0009 \t INVITE").expect("valid"), CSeq { number: 9, method: Method::Invite });
    }

    #[test]
    fn refuses_what_is_not_a_number_and_a_method() {
        for text in
            ["", "1", "INVITE", "1 IN VITE", "2147483648 INVITE", "36893488147419103232 REGISTER", "-1 BYE"]
        {
            assert!(CSeq::parse(text).is_err(), "{text}");
        }
    }
}

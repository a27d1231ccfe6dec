//! Session-Expires and Min-SE (RFC 4028).

use std::fmt;

use crate::sip::grammar::{Malformed, number, trim};
use crate::sip::params::Params;

/// Who refreshes the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refresher {
    /// The side that sent the request.
    Uac,
    /// The side that answered it.
    Uas,
}

impl Refresher {
    /// The parameter's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Refresher::Uac => "uac",
            Refresher::Uas => "uas",
        }
    }
}

/// How long the session lives without a refresh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionExpires {
    /// The session interval.
    pub seconds: u32,
    /// Who refreshes, if that is settled.
    pub refresher: Option<Refresher>,
}

impl SessionExpires {
    /// Reads `1800;refresher=uac`. A refresher that is neither counts as none.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let (seconds, params) = seconds_and_params(value, "Session-Expires")?;
        let refresher = params.get("refresher").and_then(|who| {
            [Refresher::Uac, Refresher::Uas]
                .into_iter()
                .find(|refresher| refresher.as_str().eq_ignore_ascii_case(who))
        });
        Ok(Self { seconds, refresher })
    }
}

impl fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seconds)?;
        self.refresher.map_or(Ok(()), |refresher| write!(f, ";refresher={}", refresher.as_str()))
    }
}

/// The shortest session interval its sender takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MinSe {
    /// The interval.
    pub seconds: u32,
}

impl MinSe {
    /// Reads `90`.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        seconds_and_params(value, "Min-SE").map(|(seconds, _)| Self { seconds })
    }
}

impl fmt::Display for MinSe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seconds)
    }
}

fn seconds_and_params(value: &str, what: &'static str) -> Result<(u32, Params), Malformed> {
    let value = trim(value);
    let (seconds, params) = value.split_at(value.find(';').unwrap_or(value.len()));
    let seconds = number(trim(seconds)).ok_or(Malformed::new(what, "expected seconds"))?;
    Ok((seconds, Params::parse(params).map_err(|error| Malformed::new(what, error.why))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in ["90", "1800;refresher=uac", "4294967295;refresher=uas"] {
            assert_eq!(SessionExpires::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(MinSe::parse("90;x=y").expect("valid").to_string(), "90");
    }

    #[test]
    fn an_unknown_refresher_is_none_and_a_bad_number_an_error() {
        assert_eq!(
            SessionExpires::parse("90 ; Refresher=UAS").expect("valid").refresher,
            Some(Refresher::Uas)
        );
        assert_eq!(SessionExpires::parse("90;refresher=me").expect("valid").refresher, None);
        for text in ["", "x", "-1", "4294967296", "90;;", "90 91"] {
            assert!(SessionExpires::parse(text).is_err() && MinSe::parse(text).is_err(), "{text}");
        }
    }
}

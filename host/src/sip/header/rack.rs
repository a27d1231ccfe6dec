//! RAck (RFC 3262 §7.2).

use std::fmt;

use super::{CSeq, split_cseq};
use crate::sip::grammar::{Malformed, number, trim};
use crate::sip::method::Method;

/// Which reliable provisional response a PRACK acknowledges.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RAck {
    /// The response's RSeq.
    pub rseq: u32,
    /// The response's CSeq.
    pub cseq: CSeq,
}

impl RAck {
    /// Reads `776656 1 INVITE`.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let bad = |why| Malformed::new("RAck", why);
        let (rseq, cseq) = trim(value).split_once([' ', '\t']).ok_or(bad("expected RSeq and CSeq"))?;
        let (number_, method) = split_cseq(cseq).map_err(|error| bad(error.why))?;
        Ok(Self {
            rseq: number(rseq).ok_or(bad("expected a number"))?,
            cseq: CSeq { number: number_, method: Method::parse(method) },
        })
    }
}

impl fmt::Display for RAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.rseq, self.cseq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        assert_eq!(RAck::parse("776656 1 INVITE").expect("valid").to_string(), "776656 1 INVITE");
        assert_eq!(RAck::parse(" 1\t 2  INVITE").expect("valid").cseq.number, 2);
        for text in ["", "1", "1 INVITE", "x 1 INVITE", "1 2", "4294967296 1 INVITE"] {
            assert!(RAck::parse(text).is_err(), "{text}");
        }
    }
}

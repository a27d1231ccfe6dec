//! Reason (RFC 3326).

use std::fmt;

use crate::sip::grammar::{Malformed, is_token, number, quote, trim};
use crate::sip::params::Params;

/// Why a CANCEL or BYE was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason {
    /// `SIP`, `Q.850`, or another.
    pub protocol: String,
    /// The cause in that protocol: a status code, a Q.850 cause.
    pub cause: Option<u16>,
    /// In words.
    pub text: Option<String>,
}

impl Reason {
    /// A SIP status with its words: `SIP;cause=200;text="Call completed elsewhere"`.
    pub fn sip(cause: u16, text: &str) -> Self {
        Self { protocol: "SIP".to_owned(), cause: Some(cause), text: Some(text.to_owned()) }
    }

    /// A Q.850 cause: `Q.850;cause=26`.
    pub fn q850(cause: u16) -> Self {
        Self { protocol: "Q.850".to_owned(), cause: Some(cause), text: None }
    }

    /// Reads one element of the list.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let bad = |why| Malformed::new("Reason", why);
        let value = trim(value);
        let (protocol, params) = value.split_at(value.find(';').unwrap_or(value.len()));
        let protocol = trim(protocol);
        if !is_token(protocol) {
            return Err(bad("expected a protocol"));
        }
        let params = Params::parse(params).map_err(|error| bad(error.why))?;
        Ok(Self {
            protocol: protocol.to_owned(),
            cause: params
                .get("cause")
                .map(|cause| number(cause).ok_or(bad("expected a number")))
                .transpose()?,
            text: params.unquoted("text"),
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.protocol)?;
        if let Some(cause) = self.cause {
            write!(f, ";cause={cause}")?;
        }
        self.text.as_ref().map_or(Ok(()), |text| write!(f, ";text={}", quote(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in [
            "SIP ;cause=200 ;text=\"Call completed elsewhere\"",
            "Q.850;cause=16",
            "SIP;text=\"a \\\"b\\\"\"",
            "X",
        ] {
            let reason = Reason::parse(text).expect(text);
            assert_eq!(reason.to_string(), text.replace(" ;", ";"));
        }
        assert_eq!(
            Reason::sip(200, "Call completed elsewhere").to_string(),
            "SIP;cause=200;text=\"Call completed elsewhere\""
        );
        assert_eq!(Reason::q850(26).to_string(), "Q.850;cause=26");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", ";cause=1", "SIP;cause=x", "SIP;cause=99999", "SIP;;"] {
            assert!(Reason::parse(text).is_err(), "{text}");
        }
    }
}

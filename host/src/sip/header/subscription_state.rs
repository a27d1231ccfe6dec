//! Subscription-State (RFC 6665 §8.2.3).

use std::fmt;

use crate::sip::grammar::{Malformed, is_token, number, trim};
use crate::sip::params::Params;

/// Where a subscription stands, as a NOTIFY tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriptionState {
    /// `active`, `pending`, `terminated`, or an extension.
    pub state: SubState,
    /// Seconds it has left.
    pub expires_s: Option<u32>,
    /// Why it ended: `noresource`, `timeout`, `deactivated`, …
    pub reason: Option<String>,
    /// Seconds to wait before trying again.
    pub retry_after_s: Option<u32>,
}

/// The state itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SubState {
    /// Accepted.
    Active,
    /// Received, not decided.
    Pending,
    /// Over.
    Terminated,
    /// Any other: to be treated as active (§4.1.2.2).
    Other(String),
}

impl SubscriptionState {
    /// `active;expires=…`
    pub fn active(expires_s: u32) -> Self {
        Self { state: SubState::Active, expires_s: Some(expires_s), reason: None, retry_after_s: None }
    }

    /// `terminated;reason=…`
    pub fn terminated(reason: &str) -> Self {
        Self {
            state: SubState::Terminated,
            expires_s: None,
            reason: Some(reason.to_owned()),
            retry_after_s: None,
        }
    }

    /// Reads a Subscription-State; numbers that are none count as absent.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let value = trim(value);
        let (state, params) = value.split_at(value.find(';').unwrap_or(value.len()));
        let state = match trim(state) {
            state if state.eq_ignore_ascii_case("active") => SubState::Active,
            state if state.eq_ignore_ascii_case("pending") => SubState::Pending,
            state if state.eq_ignore_ascii_case("terminated") => SubState::Terminated,
            state if is_token(state) => SubState::Other(state.to_owned()),
            _ => return Err(Malformed::new("Subscription-State", "expected a state")),
        };
        let params =
            Params::parse(params).map_err(|error| Malformed::new("Subscription-State", error.why))?;
        Ok(Self {
            state,
            expires_s: params.get("expires").and_then(number),
            reason: params.get("reason").map(str::to_owned),
            retry_after_s: params.get("retry-after").and_then(number),
        })
    }
}

impl fmt::Display for SubscriptionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            SubState::Active => "active",
            SubState::Pending => "pending",
            SubState::Terminated => "terminated",
            SubState::Other(state) => state,
        })?;
        if let Some(expires_s) = self.expires_s {
            write!(f, ";expires={expires_s}")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, ";reason={reason}")?;
        }
        self.retry_after_s.map_or(Ok(()), |retry_after_s| write!(f, ";retry-after={retry_after_s}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in [
            "active;expires=3600",
            "pending",
            "terminated;reason=noresource",
            "terminated;reason=probation;retry-after=60",
            "waiting",
        ] {
            assert_eq!(SubscriptionState::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(SubscriptionState::active(60).to_string(), "active;expires=60");
        assert_eq!(SubscriptionState::terminated("timeout").to_string(), "terminated;reason=timeout");
    }

    #[test]
    fn case_and_blanks_do_not_matter_and_nonsense_is_refused() {
        let state = SubscriptionState::parse("Terminated ; Reason=timeout ; expires=x").expect("valid");
        assert_eq!((state.state, state.expires_s), (SubState::Terminated, None));
        assert!(SubscriptionState::parse("").is_err() && SubscriptionState::parse(";expires=1").is_err());
    }
}

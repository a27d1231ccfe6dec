//! Event (RFC 6665 §8.2.1).

use std::fmt;

use crate::sip::grammar::{Malformed, is_token, trim};
use crate::sip::params::Params;

/// What a subscription is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventHeader {
    /// The event package: `dialog`, `refer`, …
    pub package: String,
    /// `id` and whatever the package defines.
    pub params: Params,
}

impl EventHeader {
    /// Reads `refer;id=93809824`.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let value = trim(value);
        let (package, params) = value.split_at(value.find(';').unwrap_or(value.len()));
        let package = trim(package);
        if !is_token(package) {
            return Err(Malformed::new("Event", "expected an event package"));
        }
        let params = Params::parse(params).map_err(|error| Malformed::new("Event", error.why))?;
        Ok(Self { package: package.to_owned(), params })
    }

    /// An event without parameters.
    pub fn new(package: &str) -> Self {
        Self { package: package.to_owned(), params: Params::new() }
    }

    /// Tells several subscriptions of one dialog apart.
    pub fn id(&self) -> Option<&str> {
        self.params.get("id")
    }

    /// Whether both name the same subscription: package and id, byte for byte (§8.2.1).
    pub fn matches(&self, other: &EventHeader) -> bool {
        self.package == other.package && self.id() == other.id()
    }
}

impl fmt::Display for EventHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.package, self.params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in [
            "dialog",
            "refer;id=93809824",
            "dialog;call-id=\"1@h\";include-session-description",
            "presence.winfo",
        ] {
            assert_eq!(EventHeader::parse(text).expect(text).to_string(), text);
        }
        assert!(EventHeader::parse("").is_err() && EventHeader::parse("a b").is_err());
    }

    #[test]
    fn only_package_and_id_tell_subscriptions_apart() {
        let event = |text| EventHeader::parse(text).expect("valid");
        assert!(event("dialog;id=1;x=2").matches(&event("dialog;id=1")));
        assert!(!event("dialog;id=1").matches(&event("dialog")));
        assert!(!event("dialog").matches(&event("Dialog")));
    }
}

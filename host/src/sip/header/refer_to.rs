//! Refer-To (RFC 3515) and Referred-By (RFC 3892).

use std::fmt;

use super::{NameAddr, Replaces};
use crate::sip::grammar::{Malformed, trim};
use crate::sip::method::Method;
use crate::sip::uri::Uri;

/// Whom the receiver of a REFER is asked to call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReferTo(pub NameAddr);

/// Who asked for it: an address, perhaps with a `cid` parameter.
pub type ReferredBy = NameAddr;

impl ReferTo {
    /// Reads a Refer-To. One without angle brackets is taken as a URI, headers and all: the grammar forbids it, phones
    /// send it, and there is nothing else it could mean.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let value = trim(value);
        if value.contains('<') { NameAddr::parse(value) } else { Uri::parse(value).map(NameAddr::new) }
            .map(Self)
            .map_err(|error| Malformed::new("Refer-To", error.why))
    }

    /// The method asked for: INVITE unless the URI says otherwise.
    pub fn method(&self) -> Method {
        self.0.uri.params.get("method").map_or(Method::Invite, Method::parse)
    }

    /// The dialog the new call shall take the place of, if the URI names one: an attended transfer (RFC 5589 §7).
    pub fn replaces(&self) -> Option<Result<Replaces, Malformed>> {
        self.0.uri.header("Replaces").map(|value| Replaces::parse(&value))
    }

    /// The URI to call: without the method parameter and the headers, which may not stand in a Request-URI.
    pub fn target(&self) -> Uri {
        let mut uri = self.0.uri.clone();
        uri.params.remove("method");
        uri.headers.clear();
        uri
    }
}

impl fmt::Display for ReferTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attended_transfer_names_the_dialog_to_replace() {
        let text = "<sip:dave@denver.example.org?Replaces=12345%40192.168.118.3%3Bto-tag%3D12345%3Bfrom-tag%3D5FFE-3994>";
        for text in [text, &text[1..text.len() - 1]] {
            let refer = ReferTo::parse(text).expect("valid");
            let replaces = refer.replaces().expect("has one").expect("valid");
            assert_eq!(replaces.to_string(), "12345@192.168.118.3;to-tag=12345;from-tag=5FFE-3994");
            assert_eq!(refer.target().to_string(), "sip:dave@denver.example.org");
        }
        assert_eq!(ReferTo::parse(text).expect("valid").to_string(), text);
    }

    #[test]
    fn the_method_is_invite_unless_named() {
        assert_eq!(ReferTo::parse("<sip:a@b>").expect("valid").method(), Method::Invite);
        let bye = ReferTo::parse("<sip:a@b;method=BYE;x=1>").expect("valid");
        assert_eq!((bye.method(), bye.target().to_string().as_str()), (Method::Bye, "sip:a@b;x=1"));
        assert!(ReferTo::parse("<sip:a@b>").expect("valid").replaces().is_none());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "alice", "<alice>", "<sip:a@b", "<sip:>"] {
            assert!(ReferTo::parse(text).is_err(), "{text}");
        }
        let broken = ReferTo::parse("<sip:a@b?Replaces=x>").expect("the URI is fine");
        assert!(broken.replaces().is_some_and(|replaces| replaces.is_err()));
    }
}

//! Addresses with a display name: From, To, Contact, Route, Refer-To, … (RFC 3261 §20.10).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sip::grammar::{Malformed, is_token, quote, quoted_end, trim, unquote};
use crate::sip::params::Params;
use crate::sip::uri::Uri;

/// `"Display" <uri>;params`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NameAddr {
    /// The display name without quotes and backslashes.
    pub display: Option<String>,
    /// The address.
    pub uri: Uri,
    /// Header parameters (after the angle bracket).
    pub params: Params,
}

impl NameAddr {
    /// An address without display name and parameters.
    pub fn new(uri: Uri) -> Self {
        Self { display: None, uri, params: Params::new() }
    }

    /// Reads one address; parameters of an address without angle brackets belong to the header (§20).
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let parts = split_name_addr(value)?;
        Ok(Self {
            display: Some(unquote(parts.display)).filter(|text| !text.is_empty()).map(Into::into),
            uri: Uri::parse(parts.uri)?,
            params: Params::parse(parts.params)?,
        })
    }

    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&str> {
        self.params.get("tag").filter(|tag| !tag.is_empty())
    }

    /// The same address with this display name; an empty one means none.
    pub fn with_display(mut self, display: &str) -> Self {
        self.display = Some(display.to_owned()).filter(|text| !text.is_empty());
        self
    }
}

impl fmt::Display for NameAddr {
    /// Always with angle brackets, so that no parameter changes sides, and names of several words with quotes: without
    /// them some phones show the last word only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.display {
            Some(display) if is_token(display) => write!(f, "{display} ")?,
            Some(display) => write!(f, "{} ", quote(display))?,
            None => {}
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

impl TryFrom<String> for NameAddr {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        NameAddr::parse(&text)
    }
}

impl From<NameAddr> for String {
    fn from(address: NameAddr) -> String {
        address.to_string()
    }
}

/// An address cut into its parts, nothing copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::sip) struct NameAddrParts<'a> {
    /// As it stands, with its quotes.
    pub(in crate::sip) display: &'a str,
    /// Without angle brackets.
    pub(in crate::sip) uri: &'a str,
    /// Empty, or from the first semicolon on.
    pub(in crate::sip) params: &'a str,
}

/// Cuts an address into display name, URI and parameters.
pub(in crate::sip) fn split_name_addr(value: &str) -> Result<NameAddrParts<'_>, Malformed> {
    let bad = |why| Malformed::new("address", why);
    let value = trim(value);
    let display_end = if value.starts_with('"') {
        let end = quoted_end(value).ok_or(bad("expected a closing quote"))?;
        if !value[end..].trim_start_matches([' ', '\t']).starts_with('<') {
            return Err(bad("expected `<` after a display name"));
        }
        end
    } else {
        0
    };
    let (display, uri, params) = match memchr::memchr(b'<', &value.as_bytes()[display_end..]) {
        Some(offset) => {
            let open = display_end + offset;
            let close = open + memchr::memchr(b'>', &value.as_bytes()[open..]).ok_or(bad("expected `>`"))?;
            let display = trim(&value[..open]);
            // Lenient about characters of an unquoted name, which many phones get wrong, but a quote inside one would
            // end up as a different name on the other side.
            if display_end == 0 && display.contains('"') {
                return Err(bad("expected no quote inside a display name"));
            }
            (display, &value[open + 1..close], trim(&value[close + 1..]))
        }
        None => {
            let (uri, params) = value.split_at(value.find(';').unwrap_or(value.len()));
            if uri.contains(['?', ',']) {
                return Err(bad("expected angle brackets around a URI with `?` or `,`"));
            }
            ("", trim(uri), params)
        }
    };
    if uri.is_empty() || uri.bytes().any(|byte| byte <= b' ') {
        return Err(bad("expected a URI"));
    }
    if !(params.is_empty() || params.starts_with(';')) {
        return Err(bad("expected `;` after the address"));
    }
    Ok(NameAddrParts { display, uri, params })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> NameAddr {
        NameAddr::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn parameters_go_to_the_side_they_stand_on() {
        let inside = parse("Bob <sip:bob@x;lr>;tag=1");
        assert_eq!((inside.uri.params.has("lr"), inside.tag()), (true, Some("1")));
        let bare = parse("sip:bob@x;tag=1 ; y");
        assert_eq!((bare.uri.params.is_empty(), bare.tag(), bare.params.has("y")), (true, Some("1"), true));
        assert_eq!(bare.to_string(), "<sip:bob@x>;tag=1;y");
    }

    #[test]
    fn display_names_lose_and_gain_their_quotes() {
        let tricky = parse(r#""x, <y>;z \"q\" \\" <sip:a@b>"#);
        assert_eq!(tricky.display.as_deref(), Some(r#"x, <y>;z "q" \"#));
        assert_eq!(tricky.to_string(), r#""x, <y>;z \"q\" \\" <sip:a@b>"#);
        assert_eq!(parse("Anna Lena  <sip:a@b>").display.as_deref(), Some("Anna Lena"));
        assert_eq!(parse("Anna Lena <sip:a@b>").to_string(), "\"Anna Lena\" <sip:a@b>");
        assert_eq!(parse("\"Anna\" <sip:a@b>").to_string(), "Anna <sip:a@b>");
        assert_eq!(parse("\"\"<sip:a@b>").display, None);
        assert_eq!(parse("sip:a@b").with_display("Zoë").to_string(), "\"Zoë\" <sip:a@b>");
    }

    #[test]
    fn outbound_and_gruu_parameters_are_kept() {
        let text = "<sip:a@[2001:db8::1]:5060;ob>;reg-id=1;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\"";
        let contact = parse(text);
        assert_eq!(
            contact.params.unquoted("+sip.instance").as_deref(),
            Some("<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>")
        );
        assert_eq!(contact.to_string(), text);
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for text in [
            "",
            "*",
            "\"Mr. J. User <sip:j.user@example.com>",
            "\"x\" sip:a@b",
            "<sip:a@b",
            "<sip:a@b>x",
            "< sip:a@b>",
            "sip:user@example.com?Route=%3Csip:sip.example.com%3E",
            "\"Watson\"Thomas <sip:a@b>",
            "A \"B\" <sip:a@b>",
            "<sip:a@b>;;tag=1",
            "<>",
        ] {
            assert!(NameAddr::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_display_name_survives(display in "\\PC{1,20}") {
            let address = NameAddr::new(Uri::sip(Some("a"), "b")).with_display(&display);
            prop_assert_eq!(NameAddr::parse(&address.to_string()), Ok(address));
        }
    }
}

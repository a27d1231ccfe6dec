//! URIs: `sip`, `sips` and `tel` in parts, any other scheme as it stands (RFC 3261 §19.1, RFC 3966).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::grammar::{Malformed, number};
use super::params::Params;

/// More headers in a URI than this is a mistake: a Refer-To with Replaces and a few others has four.
pub const URI_HEADERS_MAX: usize = 16;

/// What a user part may hold unescaped (RFC 3261 §25.1 `user`); `#` is not among them.
const USER: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'&')
    .remove(b'=')
    .remove(b'+')
    .remove(b'$')
    .remove(b',')
    .remove(b';')
    .remove(b'?')
    .remove(b'/');

/// What the value of a URI header may hold unescaped (`hvalue`).
const HEADER_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'[')
    .remove(b']')
    .remove(b'/')
    .remove(b'?')
    .remove(b':')
    .remove(b'+')
    .remove(b'$');

/// The scheme of a URI.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:` (RFC 3966); the number is the [`user`](Uri::user).
    Tel,
    /// Any other; what follows the colon is [`opaque`](Uri::opaque).
    Other(String),
}

impl Scheme {
    /// The scheme's name, without the colon.
    pub fn as_str(&self) -> &str {
        match self {
            Scheme::Sip => "sip",
            Scheme::Sips => "sips",
            Scheme::Tel => "tel",
            Scheme::Other(name) => name,
        }
    }
}

/// A URI in parts. Escapes are kept as they stood, so what is printed equals what was read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Uri {
    /// The scheme.
    pub scheme: Scheme,
    /// The user part as it stood, escapes included; the number of a `tel:`.
    pub user: Option<String>,
    /// The password (deprecated, kept).
    pub password: Option<String>,
    /// Host name or address, an IPv6 address in its brackets; empty unless `sip` or `sips`.
    pub host: String,
    /// The port, if one is given.
    pub port: Option<u16>,
    /// URI parameters.
    pub params: Params,
    /// URI headers (`?name=value&…`) as they stood, escapes included.
    pub headers: Vec<(String, String)>,
    /// Everything after the colon of a scheme not taken apart here.
    pub opaque: String,
}

impl Uri {
    /// `sip:user@host`; the user is escaped as needed.
    pub fn sip(user: Option<&str>, host: &str) -> Self {
        Self {
            scheme: Scheme::Sip,
            user: user.map(escape_user),
            password: None,
            host: host.to_owned(),
            port: None,
            params: Params::new(),
            headers: Vec::new(),
            opaque: String::new(),
        }
    }

    /// Reads a URI without angle brackets.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let (scheme, rest) = split_scheme(text)?;
        if rest.bytes().any(|byte| byte <= b' ' || byte == 0x7f || matches!(byte, b'<' | b'>' | b'"')) {
            return Err(bad("expected no blanks, quotes or angle brackets"));
        }
        let mut uri = Self { scheme, ..Self::sip(None, "") };
        match uri.scheme {
            Scheme::Sip | Scheme::Sips => uri.parse_sip(rest)?,
            Scheme::Tel => {
                let (number, params) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
                if number.is_empty() {
                    return Err(bad("expected a number"));
                }
                uri.user = Some(number.to_owned());
                uri.params = Params::parse(params)?;
            }
            Scheme::Other(_) => uri.opaque = rest.to_owned(),
        }
        Ok(uri)
    }

    fn parse_sip(&mut self, rest: &str) -> Result<(), Malformed> {
        // A user part may hold `;` and `?`, so it is cut off first; it cannot hold `@`.
        let rest = match rest.split_once('@') {
            Some((userinfo, rest)) => {
                let (user, password) = match userinfo.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (userinfo, None),
                };
                if user.is_empty() {
                    return Err(bad("expected a user before `@`"));
                }
                check_escapes(userinfo)?;
                self.user = Some(user.to_owned());
                self.password = password.map(str::to_owned);
                rest
            }
            None => rest,
        };
        let (rest, headers) = match rest.split_once('?') {
            Some((rest, headers)) => (rest, Some(headers)),
            None => (rest, None),
        };
        let (host_port, params) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
        let (host, port) = split_host_port(host_port).map_err(bad)?;
        self.host = host.to_owned();
        self.port = port;
        self.params = Params::parse(params)?;
        for header in headers.into_iter().flat_map(|headers| headers.split('&')) {
            let (name, value) = header.split_once('=').ok_or(bad("expected `name=value` after `?`"))?;
            if name.is_empty() || self.headers.len() == URI_HEADERS_MAX {
                return Err(bad("expected at most 16 headers, each with a name"));
            }
            check_escapes(value)?;
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        Ok(())
    }

    /// Whether this is `sip:` or `sips:`.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// The user part (or number) without escapes; bytes that are no UTF-8 become U+FFFD.
    pub fn user_unescaped(&self) -> Option<String> {
        self.user.as_deref().map(|user| percent_decode_str(user).decode_utf8_lossy().into_owned())
    }

    /// `host` or `host:port`.
    pub fn host_port(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// The host as an address, if it is one.
    pub fn host_ip(&self) -> Option<IpAddr> {
        parse_ip(&self.host)
    }

    /// The value of URI header `name`, unescaped.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
    }

    /// Adds a URI header, escaping its value.
    pub fn add_header(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), utf8_percent_encode(value, HEADER_VALUE).to_string()));
    }

    /// The same address as `other` by the rules of RFC 3261 §19.1.4 (not transitive, by those rules).
    pub fn equals(&self, other: &Uri) -> bool {
        /// Parameters that must stand in both or in neither.
        const BOTH: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];
        let same_scheme = match (&self.scheme, &other.scheme) {
            (Scheme::Other(a), Scheme::Other(b)) => a.eq_ignore_ascii_case(b) && self.opaque == other.opaque,
            (a, b) => a == b,
        };
        let same_user = |a: &Option<String>, b: &Option<String>| match (a, b) {
            (Some(a), Some(b)) => unescape(a) == unescape(b),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let params_within = |a: &Uri, b: &Uri| {
            a.params.iter().all(|(name, value)| match b.params.get(name) {
                Some(there) => unescape(value.unwrap_or("")).eq_ignore_ascii_case(&unescape(there)),
                None => !BOTH.iter().any(|both| both.eq_ignore_ascii_case(name)),
            })
        };
        let headers_within =
            |a: &Uri, b: &Uri| a.headers.iter().all(|(name, _)| a.header(name) == b.header(name));
        same_scheme
            && same_user(&self.user, &other.user)
            && same_user(&self.password, &other.password)
            && self.host.eq_ignore_ascii_case(&other.host)
            && self.port == other.port
            && params_within(self, other)
            && params_within(other, self)
            && headers_within(self, other)
            && headers_within(other, self)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme.as_str(), self.opaque)?;
        if let Some(user) = &self.user {
            f.write_str(user)?;
            if let Some(password) = &self.password {
                write!(f, ":{password}")?;
            }
            if self.is_sip() {
                f.write_str("@")?;
            }
        }
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)?;
        for (i, (name, value)) in self.headers.iter().enumerate() {
            write!(f, "{}{name}={value}", if i == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Uri {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        Uri::parse(text)
    }
}

impl TryFrom<String> for Uri {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Uri::parse(&text)
    }
}

impl From<Uri> for String {
    fn from(uri: Uri) -> String {
        uri.to_string()
    }
}

/// Escapes what may not stand in a user part, `#` and blanks for instance.
pub fn escape_user(user: &str) -> String {
    utf8_percent_encode(user, USER).to_string()
}

fn unescape(text: &str) -> std::borrow::Cow<'_, [u8]> {
    percent_decode_str(text).into()
}

const fn bad(why: &'static str) -> Malformed {
    Malformed::new("URI", why)
}

fn check_escapes(text: &str) -> Result<(), Malformed> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let digits = rest.as_bytes().get(at + 1..at + 3).ok_or(bad("expected two hex digits after `%`"))?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(bad("expected two hex digits after `%`"));
        }
        rest = &rest[at + 3..];
    }
    Ok(())
}

/// `sip` of `sip:…`, and what follows the colon.
pub(super) fn split_scheme(text: &str) -> Result<(Scheme, &str), Malformed> {
    let (scheme, rest) = text.split_once(':').ok_or(bad("expected a scheme and a colon"))?;
    let mut bytes = scheme.bytes();
    let is_scheme = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    if !is_scheme || rest.is_empty() {
        return Err(bad("expected a scheme and a colon"));
    }
    let scheme = if scheme.eq_ignore_ascii_case("sip") {
        Scheme::Sip
    } else if scheme.eq_ignore_ascii_case("sips") {
        Scheme::Sips
    } else if scheme.eq_ignore_ascii_case("tel") {
        Scheme::Tel
    } else {
        Scheme::Other(scheme.to_owned())
    };
    Ok((scheme, rest))
}

/// Splits `host[:port]`, where an IPv6 address stands in brackets. No blanks.
pub(super) fn split_host_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => {
            let end = inner.find(']').ok_or("expected `]` after an IPv6 address")?;
            if inner[..end].parse::<Ipv6Addr>().is_err() {
                return Err("expected an IPv6 address in brackets");
            }
            text.split_at(end + 2)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if host.is_empty() || !(host.starts_with('[') || host.bytes().all(is_host_byte)) {
        return Err("expected a host");
    }
    match port.strip_prefix(':') {
        Some(digits) => number(digits).map(|port| (host, Some(port))).ok_or("expected a port, 0 to 65535"),
        None if port.is_empty() => Ok((host, None)),
        None => Err("expected `:` and a port"),
    }
}

/// An address, with brackets or without.
pub(super) fn parse_ip(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uri(text: &str) -> Uri {
        Uri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn all_parts_are_found() {
        let uri = uri(
            "sips:al%69ce;day=tuesday:pa$s@[2001:db8::10]:5071;transport=tcp;lr?Subject=a%20b&Priority=urgent",
        );
        assert_eq!(uri.scheme, Scheme::Sips);
        assert_eq!(uri.user.as_deref(), Some("al%69ce;day=tuesday"));
        assert_eq!(uri.user_unescaped().as_deref(), Some("alice;day=tuesday"));
        assert_eq!(uri.password.as_deref(), Some("pa$s"));
        assert_eq!(uri.host, "[2001:db8::10]");
        assert_eq!(uri.host_ip(), "2001:db8::10".parse().ok());
        assert_eq!((uri.port, uri.host_port().as_str()), (Some(5071), "[2001:db8::10]:5071"));
        assert_eq!(uri.params.get("transport"), Some("tcp"));
        assert_eq!(uri.header("subject").as_deref(), Some("a b"));
    }

    #[test]
    fn what_is_read_is_printed() {
        for text in [
            "sip:example.com",
            "sip:alice@example.com:0",
            "sip:a;b=c?d/e@host?X=1",
            "sip:%2A21%23@10.0.0.1:5060;transport=udp;x;y=%20",
            "sips:1212@gateway.com;maddr=[::1]:5061;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "tel:+1-201-555-0123;phone-context=example.com",
            "urn:service:sos",
            "nobodyKnowsThisScheme:totallyopaquecontent",
            "sip:a@b?Replaces=1%40h%3Bto-tag%3Dx%3Bfrom-tag%3Dy&Require=replaces",
        ] {
            assert_eq!(uri(text).to_string(), text);
        }
    }

    #[test]
    fn malformed_uris_are_refused_with_a_reason() {
        for text in [
            "",
            "alice",
            "sip:",
            ":x",
            "1sip:a@b",
            "sip:@b",
            "sip:a@",
            "sip:a@b:",
            "sip:a@b:65536",
            "sip:a@[::1",
            "sip:a@[::1]x",
            "sip:a@[nonsense]",
            "sip:a@b;",
            "sip:a b@c",
            "sip:a@b?x",
            "sip:%zz@b",
            "sip:%4@b",
            "sip:a@b;;lr",
            "<sip:a@b>",
            "sip:a@b>",
            "tel:",
            "sip:a@2001:db8::1",
        ] {
            assert!(Uri::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_sign_is_escaped_in_a_user_part() {
        assert_eq!(Uri::sip(Some("#100"), "example.test").to_string(), "sip:%23100@example.test");
        assert_eq!(Uri::sip(Some("*101"), "example.test").to_string(), "sip:*101@example.test");
    }

    /// The examples of RFC 3261 §19.1.4.
    #[test]
    fn comparison_follows_the_examples_of_the_rfc() {
        for (a, b) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
            ("urn:service:sos", "URN:service:sos"),
        ] {
            assert!(uri(a).equals(&uri(b)) && uri(b).equals(&uri(a)), "{a} {b}");
        }
        for (a, b) in [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=off", "sip:carol@chicago.com;security=on"),
            ("sip:a@b", "sips:a@b"),
        ] {
            assert!(!uri(a).equals(&uri(b)) && !uri(b).equals(&uri(a)), "{a} {b}");
        }
    }

    #[test]
    fn a_header_in_a_uri_survives_escaping() {
        let mut uri = uri("sip:bob@example.test");
        uri.add_header("Replaces", "a b@c;to-tag=1;from-tag=2");
        assert_eq!(uri.to_string(), "sip:bob@example.test?Replaces=a%20b%40c%3Bto-tag%3D1%3Bfrom-tag%3D2");
        assert_eq!(
            Uri::parse(&uri.to_string()).expect("valid").header("replaces").as_deref(),
            Some("a b@c;to-tag=1;from-tag=2")
        );
    }

    proptest! {
        #[test]
        fn any_user_part_survives_escaping(user in "\\PC{1,20}") {
            let uri = Uri::sip(Some(&user), "example.test");
            let back = Uri::parse(&uri.to_string()).expect("escaped");
            prop_assert_eq!(back.user_unescaped(), Some(user));
            prop_assert!(back.equals(&uri));
        }

        #[test]
        fn any_text_is_read_or_refused_and_reads_back(text in "(sip|sips|tel|urn):[ -~é]{0,60}") {
            if let Ok(uri) = Uri::parse(&text) {
                let again = Uri::parse(&uri.to_string());
                prop_assert_eq!(again, Ok(uri));
            }
        }
    }
}

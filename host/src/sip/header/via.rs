//! Via (RFC 3261 §20.42, RFC 3581).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::sip::grammar::{self, Malformed, number, take_token, trim};
use crate::sip::params::{PARAMS_MAX, Params};
use crate::sip::uri::{parse_ip, split_host_port};

/// What every branch made after RFC 2543 begins with.
pub const BRANCH_COOKIE: &str = "z9hG4bK";

/// One hop a request took.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Via {
    /// `UDP`, `TCP`, … as it stood.
    pub transport: String,
    /// Host of the sent-by, an IPv6 address in brackets.
    pub host: String,
    /// Port of the sent-by, if given.
    pub port: Option<u16>,
    /// All parameters.
    pub params: Params,
}

impl Via {
    /// Reads one Via.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let parts = ViaParts::parse(value)?;
        Ok(Self {
            transport: parts.transport.to_owned(),
            host: parts.host.to_owned(),
            port: parts.port,
            params: Params::parse(parts.params)?,
        })
    }

    /// The branch; empty if there is none.
    pub fn branch(&self) -> &str {
        self.params.get("branch").unwrap_or("")
    }

    /// Where the request was seen to come from, if the next hop noted it.
    pub fn received(&self) -> Option<IpAddr> {
        self.params.get("received").and_then(parse_ip)
    }

    /// The port the request was seen to come from, once filled in (RFC 3581).
    pub fn rport(&self) -> Option<u16> {
        self.params.get("rport").and_then(number)
    }

    /// `host` or `host:port`.
    pub fn sent_by(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)
    }
}

/// A Via cut into what transactions ask for, nothing copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::sip) struct ViaParts<'a> {
    pub(in crate::sip) transport: &'a str,
    pub(in crate::sip) host: &'a str,
    pub(in crate::sip) port: Option<u16>,
    /// Empty, or from the first semicolon on.
    pub(in crate::sip) params: &'a str,
    /// Empty if there is none.
    pub(in crate::sip) branch: &'a str,
    /// `rport` as it stands: `Some("")` asks to be filled in.
    pub(in crate::sip) rport: Option<&'a str>,
    pub(in crate::sip) received: Option<&'a str>,
}

impl<'a> ViaParts<'a> {
    pub(in crate::sip) fn parse(value: &'a str) -> Result<Self, Malformed> {
        let bad = |why| Malformed::new("Via", why);
        let value = trim(value);
        let (head, params) = value.split_at(memchr::memchr(b';', value.as_bytes()).unwrap_or(value.len()));
        let rest = slash(head, "SIP").and_then(|rest| slash(rest, "2.0")).ok_or(bad("expected SIP/2.0/"))?;
        let (transport, rest) = take_token(rest);
        if transport.is_empty() || !rest.starts_with([' ', '\t']) {
            return Err(bad("expected a transport and a blank"));
        }
        let sent_by = trim(rest);
        let (host, port) = match split_host_port(sent_by) {
            Ok(split) => split,
            // The grammar allows blanks around the colon of a sent-by; nobody but torture tests writes them.
            Err(why) => match sent_by.rsplit_once(':') {
                Some((host, port)) => {
                    let (host, _) = split_host_port(trim(host)).map_err(bad)?;
                    (host, Some(number(trim(port)).ok_or(bad(why))?))
                }
                None => return Err(bad(why)),
            },
        };
        let mut via = Self { transport, host, port, params, branch: "", rport: None, received: None };
        for (i, param) in grammar::params(params).enumerate() {
            let (name, value) = param.map_err(bad)?;
            if i == PARAMS_MAX {
                return Err(bad("expected fewer parameters"));
            }
            if name.eq_ignore_ascii_case("branch") {
                if !value.is_some_and(grammar::is_word) {
                    return Err(bad("expected a token as branch"));
                }
                via.branch = value.unwrap_or("");
            } else if name.eq_ignore_ascii_case("rport") {
                via.rport = Some(value.unwrap_or(""));
            } else if name.eq_ignore_ascii_case("received") {
                via.received = value;
            }
        }
        Ok(via)
    }

    /// `value` (which these are the parts of) with `received` and, if asked for, `rport` filled in as seen from here;
    /// `None` if there is nothing to add (RFC 3261 §18.2.1, RFC 3581 §4).
    pub(in crate::sip) fn noting(&self, value: &str, source: SocketAddr) -> Option<String> {
        let ip = source.ip().to_canonical();
        let is_honest = parse_ip(self.host).is_some_and(|host| host.to_canonical() == ip);
        if is_honest && self.rport.is_none() && self.received.is_none() {
            return None;
        }
        let mut out = String::with_capacity(value.len() + 48);
        out.push_str(value[..value.len() - self.params.len()].trim_end());
        for (name, value) in grammar::params(self.params).filter_map(Result::ok) {
            // A received of the sender's own making says nothing.
            if name.eq_ignore_ascii_case("received") {
                continue;
            }
            out.extend([";", name]);
            if name.eq_ignore_ascii_case("rport") {
                out.extend(["=", &source.port().to_string()]);
            } else {
                out.extend(value.into_iter().flat_map(|value| ["=", value]));
            }
        }
        out.extend([";received=", &ip.to_string()]);
        Some(out)
    }

    pub(in crate::sip) fn has_cookie(&self) -> bool {
        self.branch.len() > BRANCH_COOKIE.len() && self.branch.starts_with(BRANCH_COOKIE)
    }
}

/// What follows `word` and a slash, blanks allowed around both.
fn slash<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let start = text.get(..word.len())?;
    let rest = text.get(word.len()..)?;
    let rest = rest.trim_start_matches([' ', '\t']).strip_prefix('/')?;
    start.eq_ignore_ascii_case(word).then(|| rest.trim_start_matches([' ', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in [
            "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport",
            "SIP/2.0/TLS [2001:db8::9]:5061;branch=z9hG4bK2;received=2001:db8::9",
            "SIP/2.0/TBA-tunnel host.example",
        ] {
            assert_eq!(Via::parse(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn blanks_stand_anywhere_the_grammar_lets_them() {
        let via = Via::parse("SIP  / 2.0 \t/ UDP  first.example.com: 4000;ttl=16 ;maddr=224.2.0.1 ;branch = z9hG4bKa7c6a8dlze.1")
            .expect("RFC 3261 §20.42");
        assert_eq!((via.transport.as_str(), via.sent_by().as_str()), ("UDP", "first.example.com:4000"));
        assert_eq!(via.branch(), "z9hG4bKa7c6a8dlze.1");
    }

    #[test]
    fn received_and_rport_are_values() {
        let via =
            Via::parse("SIP/2.0/UDP h;rport=9988;received=[2001:db8::1];branch=z9hG4bKx").expect("valid");
        assert_eq!((via.rport(), via.received()), (Some(9988), "2001:db8::1".parse().ok()));
        assert_eq!(Via::parse("SIP/2.0/UDP h;rport").expect("valid").rport(), None);
    }

    #[test]
    fn the_source_is_noted_where_it_matters() {
        let noting = |value, source: &str| {
            ViaParts::parse(value).expect("valid").noting(value, source.parse().expect("address"))
        };
        assert_eq!(noting("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1", "192.0.2.1:9"), None);
        assert_eq!(noting("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1", "[::ffff:192.0.2.1]:9"), None);
        assert_eq!(
            noting("SIP/2.0/UDP host ;rport ; branch=z9hG4bK1;x=\"a;b\"", "[2001:db8::1]:9").as_deref(),
            Some("SIP/2.0/UDP host;rport=9;branch=z9hG4bK1;x=\"a;b\";received=2001:db8::1")
        );
        assert_eq!(
            noting("SIP/2.0/UDP 192.0.2.1;received=203.0.113.1;rport=1", "192.0.2.1:9").as_deref(),
            Some("SIP/2.0/UDP 192.0.2.1;rport=9;received=192.0.2.1")
        );
    }

    #[test]
    fn malformed_vias_are_refused() {
        for text in [
            "",
            "UDP h",
            "SIP/2.0/UDP",
            "SIP/2.0/ h",
            "SIP/2.0 UDP h",
            "SIP/2.0/UDP ;branch=x",
            "SIP/2.0/UDP h:x",
            "SIP/2.0/UDP h;;branch=x",
            "SIP/3.0/UDP h",
            "SIP/2.0/UDP h;branch",
            "SIP/2.0/UDP h;branch=\"z9hG4bK1\"",
            "SIP/2.0/UDP h;branch=z9hG4bK 1",
            "é/2.0/UDP h",
        ] {
            assert!(Via::parse(text).is_err(), "{text}");
        }
    }
}

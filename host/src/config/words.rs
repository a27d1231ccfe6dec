//! The small languages inside the file: listen addresses, networks, durations, names.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::directory::target::dialled;
use crate::net::{HOST_NAME_MAX, Protocol};
use crate::sip::{Scheme, Uri};

/// Text that never reaches a log: its `Debug` is a row of dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where the host listens: `udp:127.0.0.1:5060`, `tcp:[::1]:5060`. Port 0 lets the system choose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Listen {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The address to bind.
    pub address: SocketAddr,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.protocol, self.address)
    }
}

/// What others are told instead of the address listened on: `udp:203.0.113.5:5060`, `tcp:sip.example.test:5060`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advertise {
    /// The transport protocol this is for.
    pub protocol: Protocol,
    /// An address (IPv6 without brackets) or a name.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Advertise {
    /// `host:port` as it stands in Via and Contact.
    pub fn host_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// An address, or a whole network: `192.0.2.10`, `192.0.2.0/24`, `2001:db8::/32`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether `address` lies in it. An IPv4 address seen through an IPv6 socket is taken as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                ours.to_bits() & mask == theirs.to_bits() & mask
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                ours.to_bits() & mask == theirs.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        if self.prefix == whole { self.address.fmt(f) } else { write!(f, "{}/{}", self.address, self.prefix) }
    }
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("expected an address or a network such as \"192.0.2.0/24\", found {text:?}");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| expected())?;
        let whole: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => whole,
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= whole).ok_or_else(expected)?,
        };
        Ok(Self { address, prefix })
    }
}

/// `PROTOCOL:REST`, the protocol one that this version speaks.
fn protocol(text: &str) -> Result<(Protocol, &str), String> {
    let expected = || {
        format!(
            "expected PROTOCOL:ADDRESS:PORT with udp or tcp, such as \"udp:127.0.0.1:5060\", found {text:?}"
        )
    };
    let (name, rest) = text.split_once(':').ok_or_else(expected)?;
    match Protocol::parse(name) {
        Some(protocol @ (Protocol::Udp | Protocol::Tcp)) => Ok((protocol, rest)),
        Some(protocol @ (Protocol::Tls | Protocol::Ws | Protocol::Wss)) => {
            Err(format!("{protocol} is not available in this version; use udp or tcp"))
        }
        Some(Protocol::Cluster) | None => Err(expected()),
    }
}

impl FromStr for Listen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (protocol, rest) = protocol(text)?;
        let address = rest.parse().map_err(|_| {
            format!(
                "expected {protocol}:ADDRESS:PORT with a numeric address, such as \"{protocol}:127.0.0.1:5060\" \
                 or \"{protocol}:[::1]:5060\", found {text:?}"
            )
        })?;
        Ok(Self { protocol, address })
    }
}

impl FromStr for Advertise {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (protocol, rest) = protocol(text)?;
        let expected = || {
            format!("expected {protocol}:HOST:PORT, such as \"{protocol}:203.0.113.5:5060\", found {text:?}")
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(expected)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(expected)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().map_err(|_| expected())?.to_string(),
            None => host_name(host).map_err(|_| expected())?,
        };
        Ok(Self { protocol, host, port })
    }
}

/// A name server: an address, with a port if it is not 53.
pub(super) fn name_server(text: &str) -> Result<SocketAddr, String> {
    let on_53 = |address: IpAddr| SocketAddr::from((address, 53));
    text.parse::<IpAddr>().map(on_53).or_else(|_| text.parse()).map_err(|_| {
        format!("expected an address such as \"192.0.2.53\" or \"192.0.2.53:5353\", found {text:?}")
    })
}

/// A host name or an IPv4 address (RFC 3261 `host` without IPv6), in lower case.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 253 && text.trim_end_matches('.').split('.').all(label) {
        Ok(text.trim_end_matches('.').to_ascii_lowercase())
    } else {
        Err(format!("expected a host name such as \"example.test\", found {text:?}"))
    }
}

/// A name of ours: of a host, pool, range, trunk or user.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+');
    if (1..=64).contains(&text.len())
        && text.bytes().all(fine)
        && text.bytes().any(|b| b.is_ascii_alphanumeric())
    {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "expected a name of letters, digits, \"-\", \"_\", \".\" or \"+\", at most 64, found {text:?}"
        ))
    }
}

/// A name of ours that every message between hosts carries: of a host or a pool.
pub(super) fn cluster_name(text: &str) -> Result<String, String> {
    let name = name(text)?;
    if name.len() <= HOST_NAME_MAX {
        Ok(name)
    } else {
        Err(format!("expected at most {HOST_NAME_MAX} characters, found {} in {text:?}", name.len()))
    }
}

/// Whether a certificate can name a host of this name: what is a DNS name by RFC 1123 §2.1, too.
pub(crate) fn is_certified(name: &str) -> bool {
    !name.contains('_') && !name.ends_with('.') && host_name(name).is_ok()
}

/// `tls:10.0.0.1:5071`, the address of a host for the other hosts.
pub(super) fn link_address(text: &str) -> Result<SocketAddr, String> {
    text.strip_prefix("tls:").and_then(|address| address.parse().ok()).ok_or_else(|| {
        format!(
            "expected tls:ADDRESS:PORT with a numeric address, such as \"tls:10.0.0.1:5071\" or \"tls:[::1]:5071\", \
             found {text:?}"
        )
    })
}

/// A number one can dial: digits, perhaps with `+`, `*` or `#` in front.
pub(crate) fn number(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix(['+', '*', '#']).unwrap_or(text);
    if (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err(format!("expected a number such as \"1001\", found {text:?}"))
    }
}

/// `"90s"`, `"2m"`, `"1h30m"`, `"500ms"`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a time such as \"90s\", \"2m\" or \"1h30m\", found {text:?}");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let amount: u64 = rest[..digits].parse().map_err(|_| expected())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit_ms = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(expected()),
        };
        rest = &rest[letters..];
        let part = amount.checked_mul(unit_ms).ok_or_else(expected)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(expected)?;
    }
    if text.is_empty() { Err(expected()) } else { Ok(total) }
}

/// A time as a person writes it: `90s`, `1h30m`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let mut rest_ms = duration.as_millis();
    let mut text = String::new();
    for (unit_ms, unit) in [(3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")] {
        if rest_ms >= unit_ms {
            text.push_str(&format!("{}{unit}", rest_ms / unit_ms));
            rest_ms %= unit_ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// `"20000-29999"`: at least one even port and the odd one after it.
pub(super) fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let expected = || format!("expected two ports such as \"20000-29999\", found {text:?}");
    let (first, last) = text.split_once('-').ok_or_else(expected)?;
    let first: u16 = first.trim().parse().map_err(|_| expected())?;
    let last: u16 = last.trim().parse().map_err(|_| expected())?;
    if first < 1024 || first.next_multiple_of(2) >= last {
        return Err(format!(
            "expected the first port above 1023 and room for a pair (an even port and the next), found {text:?}"
        ));
    }
    Ok(first..=last)
}

/// Whom a call may be forwarded to: an extension, a name, a number, a SIP URI, a tel URI.
pub(crate) fn target(text: &str) -> Result<String, String> {
    let tel = Uri::parse(text).ok().filter(|uri| uri.scheme == Scheme::Tel);
    if let Some(dialled) = tel.and_then(|uri| dialled(&uri)) {
        return number(&dialled)
            .map(|_| text.to_owned())
            .map_err(|_| format!("expected a tel URI such as \"tel:+49-30-1234\", found {text:?}"));
    }
    if text.contains(':') {
        return sip_uri(text);
    }
    let plain = |c: char| c.is_alphanumeric() || "+*#-_.".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err(format!("expected an extension, a name, a number or a SIP URI, found {text:?}"))
}

/// Whether `text` is a SIP URI that could be called: `sip:HOST`, `sip:USER@HOST:PORT;transport=tcp`.
pub(super) fn sip_uri(text: &str) -> Result<String, String> {
    let expected = || {
        format!(
            "expected a SIP URI such as \"sip:gateway.example.test\" or \"sip:192.0.2.10:5060\", found {text:?}"
        )
    };
    let scheme = text.get(..4).ok_or_else(expected)?;
    if text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("sips:")) {
        return Err("sips: is not available in this version; use sip:".to_owned());
    }
    if !scheme.eq_ignore_ascii_case("sip:")
        || text.bytes().any(|b| b <= b' ' || b == 0x7f || b == b'<' || b == b'>')
    {
        return Err(expected());
    }
    let rest = text[4..].split(['?', ';']).next().unwrap_or_default();
    let host_port = rest.rsplit_once('@').map_or(rest, |(_, host_port)| host_port);
    let (host, port) = match host_port.strip_prefix('[') {
        Some(v6) => {
            let (host, port) = v6.split_once(']').ok_or_else(expected)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| expected())?;
            (None, port.strip_prefix(':').or(if port.is_empty() { None } else { Some("?") }))
        }
        None => match host_port.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(host_port), None),
        },
    };
    if let Some(host) = host {
        host_name(host).map_err(|_| expected())?;
    }
    if let Some(port) = port {
        port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(expected)?;
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_are_protocol_address_port() {
        let listen: Listen = "udp:127.0.0.1:5060".parse().unwrap();
        assert_eq!(listen.to_string(), "udp:127.0.0.1:5060");
        let listen: Listen = "TCP:[::1]:5060".parse().unwrap();
        assert_eq!((listen.protocol, listen.to_string().as_str()), (Protocol::Tcp, "tcp:[::1]:5060"));
        assert!("udp:localhost:5060".parse::<Listen>().unwrap_err().contains("numeric address"));
        assert!(
            "tls:127.0.0.1:5061".parse::<Listen>().unwrap_err().contains("not available in this version")
        );
        assert!("127.0.0.1:5060".parse::<Listen>().is_err());
        assert!("udp:127.0.0.1".parse::<Listen>().is_err());
    }

    #[test]
    fn advertise_takes_names_and_brackets_ipv6() {
        let name: Advertise = "udp:Sip.Example.Test:5060".parse().unwrap();
        assert_eq!(name.host_port(), "sip.example.test:5060");
        let v6: Advertise = "tcp:[2001:db8::1]:5080".parse().unwrap();
        assert_eq!(v6.host_port(), "[2001:db8::1]:5080");
        for bad in ["udp:203.0.113.5", "udp:203.0.113.5:0", "udp:2001:db8::1:5060", "udp::5060"] {
            assert!(bad.parse::<Advertise>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_network_contains_its_addresses() {
        let net: Network = "192.0.2.0/24".parse().unwrap();
        assert!(net.contains("192.0.2.200".parse().unwrap()));
        assert!(net.contains("::ffff:192.0.2.200".parse().unwrap()));
        assert!(!net.contains("192.0.3.1".parse().unwrap()));
        let one: Network = "192.0.2.10".parse().unwrap();
        assert!(one.contains("192.0.2.10".parse().unwrap()) && !one.contains("192.0.2.11".parse().unwrap()));
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("8.8.8.8".parse().unwrap()) && !all.contains("2001:db8::1".parse().unwrap()));
        let v6: Network = "2001:db8::/32".parse().unwrap();
        assert!(
            v6.contains("2001:db8:1::1".parse().unwrap()) && !v6.contains("2001:db9::1".parse().unwrap())
        );
        assert!("192.0.2.0/33".parse::<Network>().is_err());
        assert!("gateway".parse::<Network>().is_err());
    }

    #[test]
    fn durations_read_and_show_the_same() {
        for text in ["90s", "1m30s", "2m", "1h30m", "500ms"] {
            let shown = show_duration(duration(text).unwrap());
            assert_eq!(duration(&shown).unwrap(), duration(text).unwrap(), "{text} {shown}");
        }
        for bad in ["", "90", "s", "1.5s", "5 s", "99999999999999999999s", "1d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sip_uris_have_a_host() {
        for good in [
            "sip:gateway.example.test",
            "sip:192.0.2.10:5070;transport=tcp",
            "sip:[2001:db8::1]:5060",
            "sip:u@h",
        ] {
            assert!(sip_uri(good).is_ok(), "{good}");
        }
        for bad in [
            "gateway",
            "sip:",
            "tel:112",
            "sip:a b",
            "sip:h:99999",
            "sip:[2001:db8::1",
            "sip:[::1]x",
            "sip:h\r\nX: y",
        ] {
            assert!(sip_uri(bad).is_err(), "{bad}");
        }
        assert!(sip_uri("sips:h").unwrap_err().contains("not available"));
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }
}

//! Words for where messages come from and go to. No sockets here: `transport` owns those.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A SIP transport protocol (RFC 3261 §18, RFC 7118).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Datagrams, unreliable.
    Udp,
    /// Streams.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// Between two pools of one cluster. Whoever serves a pool may change from one message to the next, and what was on
    /// its way then is lost: so it counts as unreliable, and what is lost is sent again.
    Cluster,
}

impl Protocol {
    /// Whether the transport delivers in order or not at all, so that nothing is retransmitted (RFC 3261 §17).
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Protocol::Udp | Protocol::Cluster)
    }

    /// The name as it stands in a Via header: `UDP`, `TCP`, …
    pub const fn via_name(self) -> &'static str {
        match self {
            Protocol::Udp => "UDP",
            Protocol::Tcp => "TCP",
            Protocol::Tls => "TLS",
            Protocol::Ws => "WS",
            Protocol::Wss => "WSS",
            Protocol::Cluster => "CLUSTER",
        }
    }

    /// The name as it stands in a `transport=` URI parameter and in the configuration: `udp`, `tcp`, …
    pub const fn uri_name(self) -> &'static str {
        match self {
            Protocol::Udp => "udp",
            Protocol::Tcp => "tcp",
            Protocol::Tls => "tls",
            Protocol::Ws => "ws",
            Protocol::Wss => "wss",
            Protocol::Cluster => "cluster",
        }
    }

    /// Reads a name in any case: `UDP`, `udp`.
    pub fn parse(name: &str) -> Option<Self> {
        // Not `Cluster`, which is nobody's business outside.
        [Protocol::Udp, Protocol::Tcp, Protocol::Tls, Protocol::Ws, Protocol::Wss]
            .into_iter()
            .find(|protocol| protocol.uri_name().eq_ignore_ascii_case(name))
    }

    /// The port used when none is given (RFC 3261 §19.1.2).
    pub const fn default_port(self) -> u16 {
        match self {
            Protocol::Udp | Protocol::Tcp | Protocol::Cluster => 5060,
            Protocol::Tls => 5061,
            Protocol::Ws => 80,
            Protocol::Wss => 443,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.uri_name())
    }
}

/// Names one connection of a stream transport for as long as the process lives. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// Where a message came from, or goes to.
///
/// Sending on a flow whose `connection` is gone, or which never had one, reuses an open connection to `remote`
/// or opens one (RFC 3261 §18.2.2). For UDP a flow is the pair of addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Flow {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The listening address of ours that this flow belongs to.
    pub local: SocketAddr,
    /// The peer's address as the socket sees it.
    pub remote: SocketAddr,
    /// The stream connection, if this is one and it is open.
    pub connection: Option<ConnectionId>,
    /// The other host of the cluster whose socket this is; none: it is this host's own. For [`Protocol::Cluster`], the
    /// pool on the other side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<HostName>,
}

impl Flow {
    /// A way to whoever serves `pool` now.
    pub fn to_pool(pool: HostName) -> Self {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Flow {
            protocol: Protocol::Cluster,
            local: nowhere,
            remote: nowhere,
            connection: None,
            edge: Some(pool),
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.protocol, self.edge) {
            (Protocol::Cluster, Some(pool)) => write!(f, "pool:{pool}"),
            (protocol, Some(edge)) => write!(f, "{protocol}:{}@{edge}", self.remote),
            (protocol, None) => write!(f, "{protocol}:{}", self.remote),
        }
    }
}

/// The longest name of a host or pool in a cluster, in bytes.
pub const HOST_NAME_MAX: usize = 31;

/// The name of a host or pool of the cluster, small enough to be copied with each [`Flow`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName {
    /// Padded with zeros.
    bytes: [u8; HOST_NAME_MAX],
}

impl HostName {
    /// `None` for an empty name, one longer than [`HOST_NAME_MAX`], or one with a NUL in it.
    pub fn new(name: &str) -> Option<Self> {
        if name.is_empty() || name.contains('\0') {
            return None;
        }
        let mut bytes = [0; HOST_NAME_MAX];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self { bytes })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let end = self.bytes.iter().position(|byte| *byte == 0).unwrap_or(HOST_NAME_MAX);
        // It was made from a str.
        std::str::from_utf8(&self.bytes[..end]).unwrap_or_default()
    }
}

impl TryFrom<String> for HostName {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        Self::new(&name).ok_or_else(|| format!("{name:?} is no name of a host: 1 to {HOST_NAME_MAX} bytes"))
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> String {
        name.as_str().to_owned()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// An address the host listens on, and the address it tells others to use instead, if that differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listener {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The bound address.
    pub local: SocketAddr,
    /// What goes into Via and Contact: `host:port`, with brackets around an IPv6 address.
    pub advertised: String,
}

/// What counts as one source: an IPv4 address, or a /64, which is what one customer of IPv6 has at least.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => match six.to_ipv4_mapped() {
            Some(four) => IpAddr::V4(four),
            None => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_from_json_and_may_not_be_too_long() {
        let name = HostName::new("fe1").unwrap();
        assert_eq!((name.as_str(), serde_json::to_string(&name).unwrap().as_str()), ("fe1", "\"fe1\""));
        assert_eq!(serde_json::from_str::<HostName>("\"fe1\"").unwrap(), name);
        let longest = "h".repeat(HOST_NAME_MAX);
        assert_eq!(HostName::new(&longest).unwrap().as_str(), longest);
        for wrong in [String::new(), "h".repeat(HOST_NAME_MAX + 1), "a\0b".to_owned()] {
            assert_eq!(HostName::new(&wrong), None, "{wrong:?}");
            assert!(serde_json::from_value::<HostName>(wrong.into()).is_err());
        }
    }

    #[test]
    fn flows_of_a_host_alone_are_stored_as_ever() {
        let json =
            r#"{"protocol":"udp","local":"192.0.2.1:5060","remote":"192.0.2.9:5060","connection":null}"#;
        let flow: Flow = serde_json::from_str(json).unwrap();
        assert_eq!((flow.edge, serde_json::to_string(&flow).unwrap().as_str()), (None, json));
    }
}

//! Words for where messages come from and go to. No sockets here: `transport` owns those.

use std::fmt;
use std::net::SocketAddr;

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
}

impl Protocol {
    /// Whether the transport delivers in order or not at all, so that nothing is retransmitted (RFC 3261 §17).
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Protocol::Udp)
    }

    /// The name as it stands in a Via header: `UDP`, `TCP`, …
    pub const fn via_name(self) -> &'static str {
        match self {
            Protocol::Udp => "UDP",
            Protocol::Tcp => "TCP",
            Protocol::Tls => "TLS",
            Protocol::Ws => "WS",
            Protocol::Wss => "WSS",
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
        }
    }

    /// Reads a name in any case: `UDP`, `udp`.
    pub fn parse(name: &str) -> Option<Self> {
        [Protocol::Udp, Protocol::Tcp, Protocol::Tls, Protocol::Ws, Protocol::Wss]
            .into_iter()
            .find(|protocol| protocol.uri_name().eq_ignore_ascii_case(name))
    }

    /// The port used when none is given (RFC 3261 §19.1.2).
    pub const fn default_port(self) -> u16 {
        match self {
            Protocol::Udp | Protocol::Tcp => 5060,
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
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.protocol, self.remote)
    }
}

/// An address the host listens on, and the address it tells others to use instead, if that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The bound address.
    pub local: SocketAddr,
    /// What goes into Via and Contact: `host:port`, with brackets around an IPv6 address.
    pub advertised: String,
}

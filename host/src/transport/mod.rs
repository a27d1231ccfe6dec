//! The only SIP sockets: UDP, TCP, and the cutting of streams into messages; and where a name leads (RFC 3263).
//!
//! Nothing here understands a message beyond its length. What arrives becomes an [`Input`](crate::engine::Input),
//! what cannot be sent becomes one too. UDP is read by the engine's own thread; TCP and DNS run beside it.

pub mod dns;
pub mod framing;
pub mod link;
pub mod locate;
pub mod ports;
pub mod tcp;
pub mod udp;

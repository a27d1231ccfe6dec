//! How much of anything a peer may have.

use std::time::Duration;

/// Bounds on TCP connections. The defaults suit a site of some thousand phones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections in all, accepted and opened. Each costs a descriptor and about 10 KiB.
    pub connections: usize,
    /// Accepted connections from one address. A whole office may sit behind one NAT; a single host that takes
    /// more than that has lost count of its connections.
    pub per_address: usize,
    /// A connection must bring its first whole message within this time, keep-alives or not, or it is not a SIP client.
    pub first_message: Duration,
    /// A message begun must be complete within this time. Nobody waits longer for an answer than Timer F.
    pub whole_message: Duration,
    /// A connection that brings no byte for this long is closed. Longer than an hour, the usual registration:
    /// closing earlier would make a phone that sends no keep-alives unreachable.
    pub idle: Duration,
    /// A connection must open within this time; short enough to try the next target of RFC 3263 within Timer B.
    pub connect: Duration,
    /// A peer that takes no byte for this long is gone: Timer B.
    pub write: Duration,
    /// Longest message taken.
    pub message_bytes: usize,
    /// Messages that wait for one connection. A peer that far behind would only get answers it no longer waits for.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            per_address: 1_024,
            first_message: Duration::from_secs(32),
            whole_message: Duration::from_secs(32),
            idle: Duration::from_secs(65 * 60),
            connect: Duration::from_secs(5),
            write: Duration::from_secs(32),
            message_bytes: 65_535,
            queue: 256,
        }
    }
}

//! Ports on loopback that nobody else has.

use std::net::{TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those the system hands out by itself: no connection of anybody gets one between our look and its use.
const PORTS: Range<u16> = 12_000..32_000;

/// A port of 127.0.0.1 that is free for UDP and TCP.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of some neighbouring ports that are free. No two tests of this process are given the same.
pub fn free_ports(count: u16) -> u16 {
    static TAKEN: OnceLock<AtomicU32> = OnceLock::new();
    let taken = TAKEN.get_or_init(|| AtomicU32::new(rand::random::<u32>() >> 1));
    let free =
        |port| UdpSocket::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok();
    for _ in 0..1000 {
        // The same circle for all counts: places that differ are ports that differ.
        let place = taken.fetch_add(u32::from(count) + 1, Ordering::Relaxed) % PORTS.len() as u32;
        // RTP has the even port of a pair.
        let first = (PORTS.start + place as u16).next_multiple_of(if count > 1 { 2 } else { 1 });
        if first + count <= PORTS.end && (first..first + count).all(free) {
            return first;
        }
    }
    panic!("no {count} free ports in {PORTS:?}")
}

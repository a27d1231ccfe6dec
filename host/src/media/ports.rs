//! Which port pairs are in use, and by how many streams. Knows no sockets: opening one is the caller's closure.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::time::Instant;

/// Streams on one pair of sockets. A parked call then costs no descriptor; more on one pair would make the
/// socket's send lock and its 208 KiB buffer the limit, and spread the damage if the pair has to be given up.
pub const STREAMS_PER_PAIR: usize = 256;

/// Ports tried for one request. Each try is two system calls on the pacer's thread, so the search is short;
/// what it learnt is remembered, and the next request goes on from there.
const TRIES_MAX: usize = 32;

/// How long a port that could not be opened is left alone: whoever has it may be gone by then.
const BLOCKED_FOR: Duration = Duration::from_secs(60);

/// No port could be had.
#[derive(Debug, thiserror::Error)]
pub enum NoPort {
    /// Every pair is full or belongs to somebody else.
    #[error("all media ports {0}-{1} are in use")]
    Exhausted(u16, u16),
    /// Opening the sockets failed, time after time.
    #[error("cannot open a media port: {0}")]
    Socket(#[source] std::io::Error),
}

/// The book of port pairs. A pair is named by its even port.
#[derive(Debug)]
pub struct Ports {
    range: RangeInclusive<u16>,
    /// Streams on each open pair; never zero.
    open: BTreeMap<u16, usize>,
    /// Ports that could not be opened, and when.
    blocked: BTreeMap<u16, Instant>,
    /// Where the search for a fresh pair begins. It moves on, so a port just closed is used last: what still
    /// arrives for its former stream then meets nobody.
    next: u16,
}

impl Ports {
    /// Pairs within `range`.
    pub fn new(range: RangeInclusive<u16>) -> Self {
        let next = *range.start();
        Self { range, open: BTreeMap::new(), blocked: BTreeMap::new(), next }
    }

    /// Finds room for one stream: on an open pair, or on a fresh one that `open` then opens. Returns the even port.
    pub fn place(
        &mut self,
        now: Instant,
        mut open: impl FnMut(u16) -> std::io::Result<()>,
    ) -> Result<u16, NoPort> {
        if let Some((&port, streams)) = self.open.iter_mut().find(|(_, streams)| **streams < STREAMS_PER_PAIR)
        {
            *streams += 1;
            return Ok(port);
        }
        self.blocked.retain(|_, since| now.saturating_since(*since) < BLOCKED_FOR);
        let mut last_error = None;
        for _ in 0..TRIES_MAX {
            let Some(port) = self.fresh() else { break };
            self.next = port.saturating_add(2);
            match open(port) {
                Ok(()) => {
                    self.open.insert(port, 1);
                    return Ok(port);
                }
                Err(error) => {
                    self.blocked.insert(port, now);
                    last_error = Some(error);
                }
            }
        }
        Err(match last_error {
            Some(error) => NoPort::Socket(error),
            None => NoPort::Exhausted(*self.range.start(), *self.range.end()),
        })
    }

    /// Gives a stream's place back. True: that was the last one, close the pair.
    pub fn release(&mut self, port: u16) -> bool {
        let Some(streams) = self.open.get_mut(&port) else { return false };
        *streams -= 1;
        let last = *streams == 0;
        if last {
            self.open.remove(&port);
        }
        last
    }

    /// The next even port, from the cursor on and round, that nobody is known to have.
    fn fresh(&self) -> Option<u16> {
        let first = u32::from(*self.range.start()).next_multiple_of(2);
        let pairs = (u32::from(*self.range.end()) + 1).saturating_sub(first) / 2;
        let begin = u32::from(self.next).saturating_sub(first).div_ceil(2);
        (0..pairs)
            .filter_map(|step| u16::try_from(first + (begin + step) % pairs * 2).ok())
            .find(|port| !self.open.contains_key(port) && !self.blocked.contains_key(port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine(_: u16) -> std::io::Result<()> {
        Ok(())
    }

    #[test]
    fn many_streams_share_one_pair_and_the_last_one_closes_it() {
        let mut ports = Ports::new(20001..=20009);
        let mut opened = Vec::new();
        for _ in 0..STREAMS_PER_PAIR {
            let port = ports.place(Instant::ZERO, |port| {
                opened.push(port);
                Ok(())
            });
            assert_eq!(port.unwrap(), 20002);
        }
        assert_eq!(opened, [20002]);
        assert_eq!(ports.place(Instant::ZERO, fine).unwrap(), 20004);
        assert!(ports.release(20004));
        for _ in 1..STREAMS_PER_PAIR {
            assert!(!ports.release(20002));
        }
        assert!(ports.release(20002));
        assert!(!ports.release(20002), "released twice");
    }

    #[test]
    fn a_closed_port_is_used_again_only_after_the_others() {
        let mut ports = Ports::new(100..=105);
        let mut seen = Vec::new();
        for _ in 0..4 {
            let port = ports.place(Instant::ZERO, fine).unwrap();
            seen.push(port);
            ports.release(port);
        }
        assert_eq!(seen, [100, 102, 104, 100]);
    }

    #[test]
    fn both_ports_of_a_pair_lie_in_the_range() {
        for (range, expected) in
            [(100..=101, Some(100)), (100..=100, None), (101..=102, None), (65534..=65535, Some(65534))]
        {
            assert_eq!(Ports::new(range).place(Instant::ZERO, fine).ok(), expected);
        }
    }

    #[test]
    fn a_port_somebody_else_has_is_tried_again_a_minute_later() {
        let mut ports = Ports::new(100..=103);
        let taken = |_| Err(std::io::ErrorKind::AddrInUse.into());
        assert!(matches!(ports.place(Instant::ZERO, taken), Err(NoPort::Socket(_))));
        assert!(matches!(ports.place(Instant::ZERO, fine), Err(NoPort::Exhausted(100, 103))));
        assert!(ports.place(Instant::ZERO + BLOCKED_FOR, fine).is_ok());
    }
}

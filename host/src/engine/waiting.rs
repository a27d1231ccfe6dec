//! In a cluster: what comes in while a seat is being taken, and may be about its users. Whoever takes a seat knows its calls only
//! when the store has been read; who asked about one in that moment would be told that there is none, and end it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Engine;
use crate::net::{Flow, HostName};

/// How much of it is kept. What is more is not taken: phones say it again.
const BYTES_MAX: usize = 4 << 20;

/// A message, where it came in, and who has had it.
type Message = (Flow, Vec<HostName>, Bytes);

/// Messages that wait for a seat.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Waiting {
    /// Whether there was room for it.
    pub(super) fn keep(&mut self, flow: Flow, tried: Vec<HostName>, bytes: Bytes) -> bool {
        let size = size_of::<Message>() + tried.len() * size_of::<HostName>() + bytes.len();
        let fits = self.bytes + size <= BYTES_MAX;
        if fits {
            self.bytes += size;
            self.messages.push_back((flow, tried, bytes));
        }
        fits
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
}

impl Engine {
    /// A seat was taken and read up, or was not to be had. What has waited for that is dealt with in the order in which it came.
    pub(super) fn deal_with_waiting(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        for (flow, tried, bytes) in std::mem::take(&mut cluster.waiting).messages {
            self.deal(flow, tried, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Protocol;

    #[test]
    fn so_much_is_kept_and_no_more() {
        let flow = Flow { protocol: Protocol::Udp, ..Flow::to_pool(HostName::new("fe1").unwrap()) };
        let mut waiting = Waiting::default();
        while waiting.keep(flow, Vec::new(), Bytes::from(vec![0; 1000])) {}
        assert!((3000..4200).contains(&waiting.len()), "{}", waiting.len());
    }
}

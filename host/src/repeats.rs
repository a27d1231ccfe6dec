//! Log lines that strangers, or a store that is away, could cause as often as they like: the first of each kind is told at once, what follows
//! within some seconds is one line with a count. A datagram must not cost its receiver more than its sender.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often [`tell_all`] is to be called. With [`Repeats::is_first`] a kind has two lines in so long at most.
pub const TELL_EVERY: Duration = Duration::from_secs(5);

/// Messages that are no SIP.
pub static MALFORMED: Repeats = Repeats::new("malformed messages");
/// Requests of those who send too many.
pub static LIMITED: Repeats = Repeats::new("requests beyond the limits");
/// Messages that could not be sent.
pub static UNSENT: Repeats = Repeats::new("messages not sent");
/// Names that lead nowhere.
pub static UNRESOLVED: Repeats = Repeats::new("names that lead nowhere we can send to");
/// Questions no name server answered.
pub static DNS_FAILED: Repeats = Repeats::new("DNS questions that failed");
/// Names beyond a limit.
pub static NOT_LOOKED_UP: Repeats = Repeats::new("names not looked up, as too many were");
/// TCP connections beyond a limit.
pub static TCP_REFUSED: Repeats = Repeats::new("TCP connections refused");
/// TCP connections that could not be opened.
pub static TCP_UNOPENED: Repeats = Repeats::new("TCP connections that could not be opened");
/// TCP connections that ended otherwise than by a peer's good-bye.
pub static TCP_BROKEN: Repeats = Repeats::new("TCP connections that broke");
/// Frames for other hosts of the cluster that came back.
pub static UNLINKED: Repeats = Repeats::new("times something could not be said to another host");
/// Connections to other hosts of the cluster that could not be opened.
pub static LINK_UNOPENED: Repeats = Repeats::new("connections to other hosts that could not be opened");
/// Connections to the cluster's port that were no host's.
pub static LINK_REFUSED: Repeats = Repeats::new("connections of no host to the cluster's port");
/// Frames of other hosts that are not understood.
pub static LINK_UNREAD: Repeats = Repeats::new("things another host said that are not understood");
/// Attempts to get the host's record back in the store.
pub static RECORD_GONE: Repeats = Repeats::new("attempts to get the host's record back");
/// Writes that the store did not take.
pub static UNSTORED: Repeats = Repeats::new("writes that failed");

static ALL: [&Repeats; 15] = [
    &MALFORMED,
    &LIMITED,
    &UNSENT,
    &UNRESOLVED,
    &DNS_FAILED,
    &NOT_LOOKED_UP,
    &TCP_REFUSED,
    &TCP_UNOPENED,
    &TCP_BROKEN,
    &UNLINKED,
    &LINK_UNOPENED,
    &LINK_REFUSED,
    &LINK_UNREAD,
    &RECORD_GONE,
    &UNSTORED,
];

/// One kind of thing that happens again and again. The whole process's, as the log is.
#[derive(Debug)]
pub struct Repeats {
    what: &'static str,
    /// Since the last [`Repeats::take_more`].
    count: AtomicU64,
}

impl Repeats {
    /// `what` in the plural: "messages not sent".
    const fn new(what: &'static str) -> Self {
        Self { what, count: AtomicU64::new(0) }
    }

    /// It has happened. True if it should be told in full: it is the first since the last summary.
    pub fn is_first(&self) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// How many there were since the last call, beside the first, which was told.
    fn take_more(&self) -> u64 {
        self.count.swap(0, Ordering::Relaxed).saturating_sub(1)
    }
}

/// Sums up what was not told one by one. `span` is the time since the last call.
pub fn tell_all(span: Duration) {
    for kind in ALL {
        let more = kind.take_more();
        if more > 0 {
            tracing::info!(more, "{} in the last {span:?}, not told one by one", kind.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_the_others_are_counted_until_the_next_summary() {
        let kind = Repeats::new("noises");
        assert!(kind.is_first());
        assert_eq!(kind.take_more(), 0, "one that was told needs no summary");
        let told = (0..1000).filter(|_| kind.is_first()).count();
        assert_eq!((told, kind.take_more()), (1, 999));
        assert_eq!(kind.take_more(), 0);
        assert!(kind.is_first());
    }
}

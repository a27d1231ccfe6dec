//! Keys pressed on a phone, as RFC 4733 telephone events: each reported once, whatever is lost or repeated.

use std::time::Duration;

use super::rtp::{Header, TICKS_PER_MS};
use crate::time::Instant;

/// Silence after which a running event counts as over though its three end packets were lost (RFC 4733
/// §2.5.2.2 asks for at least three intervals between updates, which phones space by 20 to 50 ms).
const LOST_END: Duration = Duration::from_millis(250);

/// An event that began at most this long before the last one, in RTP ticks (8 s), is a late copy. One further
/// back is a sender who began to count anew.
const LATE_TICKS: u32 = 64_000;

/// Keys kept as credit for a burst after a network stall, one more every [`KEY_EVERY`]. A person presses fewer;
/// a flood of made-up events is not passed on.
const KEYS_MAX: u32 = 16;

/// The pace at which the credit for keys grows: 40 ms of tone and 10 ms of pause.
const KEY_EVERY: Duration = Duration::from_millis(50);

/// The longest report of a pressed key: a stuck one, 10 minutes.
const DURATION_TICKS_MAX: u32 = 10 * 60 * 1000 * TICKS_PER_MS;

/// A key that was pressed and let go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// `0`–`9`, `*`, `#`, `A`–`D`.
    pub digit: char,
    /// How long it was held, in milliseconds.
    pub duration_ms: u32,
}

/// Puts the telephone events of one sender together.
#[derive(Debug, Default)]
pub struct Receiver {
    running: Option<Running>,
    /// SSRC and start of the event reported last: what repeats it or precedes it is no news.
    reported: Option<(u32, u32)>,
    /// When the credit of keys was empty, so to speak: it holds one key per [`KEY_EVERY`] since then.
    paid_until: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    ssrc: u32,
    digit: char,
    /// Where this segment of the event begins; the whole event unless it is longer than 8 s (§2.5.1.3).
    timestamp: u32,
    /// Ticks of former segments.
    before: u32,
    /// Ticks of this segment so far.
    duration: u32,
    heard: Instant,
}

impl Running {
    fn key(&self) -> Key {
        Key { digit: self.digit, duration_ms: self.before.saturating_add(self.duration) / TICKS_PER_MS }
    }
}

impl Receiver {
    /// Takes the payload of one telephone-event packet. Each key that is over now is handed to `report`.
    pub fn receive(&mut self, now: Instant, header: &Header, payload: &[u8], mut report: impl FnMut(Key)) {
        // Consecutive events may share a packet; each begins where the one before it ends (§2.5.1.5).
        let mut timestamp = header.timestamp;
        for &[event, flags, d0, d1] in payload.as_chunks::<4>().0 {
            let duration = u32::from(u16::from_be_bytes([d0, d1]));
            let ends = flags & 0x80 != 0;
            if let Some(digit) = digit(event) {
                self.update(now, header.ssrc, timestamp, digit, duration, ends, &mut report);
            }
            timestamp = timestamp.wrapping_add(duration);
        }
    }

    /// When a running event is over if nothing more is heard of it.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.running.as_ref().map(|running| running.heard + LOST_END)
    }

    /// Ends an event whose end was lost.
    pub fn on_timeout(&mut self, now: Instant, mut report: impl FnMut(Key)) {
        if self.next_timeout().is_some_and(|due| due <= now) {
            self.finish(now, &mut report);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one event, used only here")]
    fn update(
        &mut self,
        now: Instant,
        ssrc: u32,
        timestamp: u32,
        digit: char,
        duration: u32,
        ends: bool,
        report: &mut impl FnMut(Key),
    ) {
        if let Some((last_ssrc, last)) = self.reported
            && last_ssrc == ssrc
            && last.wrapping_sub(timestamp) < LATE_TICKS
        {
            return;
        }
        match &mut self.running {
            Some(running) if running.ssrc == ssrc && running.timestamp == timestamp => {
                // Reordered updates never make an event shorter.
                running.duration = running.duration.max(duration);
                running.heard = now;
            }
            // The next segment of a very long event: begins where the full one before it ends, same key.
            Some(running)
                if running.ssrc == ssrc
                    && running.digit == digit
                    && running.timestamp.wrapping_add(0xffff) == timestamp
                    && running.duration >= 0x8000 =>
            {
                running.before = running.before.saturating_add(0xffff).min(DURATION_TICKS_MAX);
                running.timestamp = timestamp;
                running.duration = duration;
                running.heard = now;
            }
            // A late update of an event before the running one.
            Some(running)
                if running.ssrc == ssrc && running.timestamp.wrapping_sub(timestamp) < LATE_TICKS =>
            {
                return;
            }
            Some(_) | None => {
                self.finish(now, report);
                self.running = Some(Running { ssrc, digit, timestamp, before: 0, duration, heard: now });
            }
        }
        if ends {
            self.finish(now, report);
        }
    }

    /// Reports the running event, if there is one and keys have not come faster than anybody types.
    fn finish(&mut self, now: Instant, report: &mut impl FnMut(Key)) {
        let Some(running) = self.running.take() else { return };
        self.reported = Some((running.ssrc, running.timestamp));
        let credit_full = now.since_start().saturating_sub(KEY_EVERY * KEYS_MAX);
        let paid =
            self.paid_until.map_or(credit_full, |paid| paid.since_start().max(credit_full)) + KEY_EVERY;
        if self.paid_until.is_none() || paid <= now.since_start() {
            self.paid_until = Some(Instant::after_start(paid));
            report(running.key());
        }
    }
}

/// The key of an event code (RFC 4733 §3.2); hook flash and the rest are none.
fn digit(event: u8) -> Option<char> {
    b"0123456789*#ABCD".get(usize::from(event)).map(|&digit| char::from(digit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Phone {
        receiver: Receiver,
        keys: Vec<Key>,
        now_ms: u64,
        ssrc: u32,
    }

    impl Phone {
        fn new() -> Self {
            Self { receiver: Receiver::default(), keys: Vec::new(), now_ms: 60_000, ssrc: 1 }
        }

        fn now(&self) -> Instant {
            Instant::after_start(Duration::from_millis(self.now_ms))
        }

        /// One packet arrives 20 ms after the one before.
        fn packet(&mut self, timestamp: u32, event: u8, duration: u16, end: bool) -> &mut Self {
            let [d0, d1] = duration.to_be_bytes();
            self.payload(timestamp, &[event, 10 | u8::from(end) << 7, d0, d1])
        }

        fn payload(&mut self, timestamp: u32, payload: &[u8]) -> &mut Self {
            self.now_ms += 20;
            let header = Header { marker: false, payload_type: 101, sequence: 0, timestamp, ssrc: self.ssrc };
            let now = self.now();
            self.receiver.receive(now, &header, payload, |key| self.keys.push(key));
            self
        }

        fn wait(&mut self, ms: u64) -> &mut Self {
            self.now_ms += ms;
            let now = self.now();
            self.receiver.on_timeout(now, |key| self.keys.push(key));
            self
        }

        fn keys(&mut self) -> Vec<(char, u32)> {
            self.keys.drain(..).map(|key| (key.digit, key.duration_ms)).collect()
        }
    }

    #[test]
    fn a_key_is_reported_once_at_its_end_however_often_the_end_is_repeated() {
        let mut phone = Phone::new();
        phone.packet(1000, 5, 160, false).packet(1000, 5, 320, false);
        assert_eq!(phone.keys(), []);
        phone.packet(1000, 5, 640, true).packet(1000, 5, 640, true).packet(1000, 5, 640, true);
        assert_eq!(phone.keys(), [('5', 80)]);
        phone.wait(10_000);
        assert_eq!(phone.keys(), []);
    }

    #[test]
    fn the_same_key_twice_is_two_keys() {
        let mut phone = Phone::new();
        phone.packet(1000, 1, 400, true).packet(2000, 1, 800, true);
        assert_eq!(phone.keys(), [('1', 50), ('1', 100)]);
    }

    #[test]
    fn a_lost_end_is_made_up_for_by_the_next_key_or_by_time() {
        let mut phone = Phone::new();
        phone.packet(1000, 10, 480, false).packet(3000, 11, 160, false);
        assert_eq!(phone.keys(), [('*', 60)], "the next key began");
        phone.wait(200);
        assert_eq!(phone.keys(), [], "still within three updates");
        phone.wait(50);
        assert_eq!(phone.keys(), [('#', 20)]);
        phone.packet(3000, 11, 640, true);
        assert_eq!(phone.keys(), [], "its end came after all");
    }

    #[test]
    fn late_and_reordered_packets_change_nothing() {
        let mut phone = Phone::new();
        phone.packet(1000, 1, 320, false).packet(1000, 1, 160, false);
        phone.packet(2000, 2, 160, false).packet(1000, 1, 400, true).packet(2000, 2, 320, true);
        assert_eq!(phone.keys(), [('1', 40), ('2', 40)]);
        phone.packet(2000u32.wrapping_sub(8000), 9, 400, true);
        assert_eq!(phone.keys(), []);
    }

    #[test]
    fn timestamps_may_wrap_and_a_new_source_may_begin_anywhere() {
        let mut phone = Phone::new();
        phone.packet(u32::MAX - 100, 1, 400, true).packet(500, 2, 400, true);
        assert_eq!(phone.keys(), [('1', 50), ('2', 50)]);
        phone.ssrc = 2;
        phone.packet(400, 3, 400, true);
        assert_eq!(phone.keys(), [('3', 50)]);
    }

    #[test]
    fn a_key_held_longer_than_a_segment_is_one_key() {
        let mut phone = Phone::new();
        phone.packet(1000, 7, 0xffff, false).packet(1000 + 0xffff, 7, 0x8000, false);
        phone.packet(1000 + 0xffff, 7, 0x8000, true);
        assert_eq!(phone.keys(), [('7', (0xffff + 0x8000) / 8)]);
    }

    #[test]
    fn several_events_may_share_a_packet() {
        let mut phone = Phone::new();
        phone.payload(1000, &[1, 0x8a, 1, 0x90, 2, 0x8a, 1, 0x90]);
        assert_eq!(phone.keys(), [('1', 50), ('2', 50)]);
    }

    #[test]
    fn other_events_and_broken_payloads_are_no_keys() {
        let mut phone = Phone::new();
        phone.packet(1000, 16, 400, true).packet(2000, 255, 400, true).payload(3000, &[1, 0x80, 0]);
        assert_eq!(phone.wait(1000).keys(), []);
    }

    #[test]
    fn a_flood_of_keys_is_cut_to_what_a_person_could_press() {
        let mut phone = Phone::new();
        for n in 0..500 {
            phone.packet(1000 + n * 160, 1, 160, true); // 50 a second for 10 s
        }
        let keys = phone.keys().len();
        assert!((200..=220).contains(&keys), "{keys}");
    }

    proptest! {
        #[test]
        fn receiving_is_total(packets in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..12)), 0..50)) {
            let mut phone = Phone::new();
            for (timestamp, payload) in packets {
                phone.payload(timestamp, &payload);
            }
            phone.wait(1000);
        }
    }
}

//! RTCP as a sender of music needs it (RFC 3550 §6): reports with a name, and good-bye.

use std::time::Duration;

use rand::{Rng, RngExt};

use crate::time::Utc;

/// Mean time between two reports of a stream (§6.2: the minimum, which a session of two always runs at).
const INTERVAL: Duration = Duration::from_secs(5);

/// Seconds from NTP's epoch (1900) to Unix's (1970).
const NTP_UNIX_S: u64 = 2_208_988_800;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;

/// What a stream has sent so far (§6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The wall clock.
    pub at: Utc,
    /// The same moment on the stream's RTP clock.
    pub timestamp: u32,
    /// Packets since the stream began.
    pub packets: u32,
    /// Bytes of payload in them.
    pub octets: u32,
}

/// How long until the next report: between half and one and a half times the interval, so that streams begun
/// together don't report together (§6.2). Without the divisor of §6.3.1, which makes up for reconsideration: a
/// session of two has nothing to reconsider.
pub fn interval(rng: &mut impl Rng) -> Duration {
    INTERVAL.mul_f64(rng.random_range(0.5..1.5))
}

/// A compound packet: a sender report, or an empty receiver report if nothing was sent of late, and our CNAME.
pub fn report(ssrc: u32, sent: Option<Sent>, cname: &str) -> Vec<u8> {
    let mut packet = Vec::with_capacity(64);
    begin(&mut packet, ssrc, sent);
    describe(&mut packet, ssrc, cname);
    packet
}

/// The last packet of a stream: a report, as every compound packet needs one, our CNAME, and BYE (§6.6).
pub fn goodbye(ssrc: u32, sent: Option<Sent>, cname: &str) -> Vec<u8> {
    let mut packet = report(ssrc, sent, cname);
    header(&mut packet, 1, GOODBYE, 1);
    packet.extend(ssrc.to_be_bytes());
    packet
}

fn begin(packet: &mut Vec<u8>, ssrc: u32, sent: Option<Sent>) {
    let Some(sent) = sent else {
        header(packet, 0, RECEIVER_REPORT, 1);
        packet.extend(ssrc.to_be_bytes());
        return;
    };
    header(packet, 0, SENDER_REPORT, 6);
    packet.extend(ssrc.to_be_bytes());
    packet.extend(ntp(sent.at).to_be_bytes());
    packet.extend(sent.timestamp.to_be_bytes());
    packet.extend(sent.packets.to_be_bytes());
    packet.extend(sent.octets.to_be_bytes());
}

/// One chunk with one item, closed by at least one zero and filled up to a word (§6.5).
fn describe(packet: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let name = &cname.as_bytes()[..cname.len().min(255)];
    let filled = (2 + name.len() + 1).next_multiple_of(4);
    header(packet, 1, SOURCE_DESCRIPTION, 1 + filled / 4);
    packet.extend(ssrc.to_be_bytes());
    packet.extend([1, name.len() as u8]);
    packet.extend(name);
    packet.resize(packet.len() + filled - 2 - name.len(), 0);
}

/// `count` is the number of report blocks or sources, `words` the length after this header in 32-bit words.
fn header(packet: &mut Vec<u8>, count: u8, packet_type: u8, words: usize) {
    packet.extend([(2 << 6) | count, packet_type]);
    packet.extend((words as u16).to_be_bytes());
}

/// A wall-clock moment as NTP writes it: seconds since 1900, and a binary fraction.
fn ntp(at: Utc) -> u64 {
    let seconds = (at.0 / 1000 + NTP_UNIX_S) & 0xffff_ffff; // wraps in 2036, as it should
    let fraction = ((at.0 % 1000) << 32) / 1000;
    (seconds << 32) | fraction
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;

    const SENT: Sent = Sent { at: Utc(1_500), timestamp: 7, packets: 3, octets: 480 };

    /// Walks a compound packet by its length fields.
    fn parts(mut packet: &[u8]) -> Vec<(u8, u8, &[u8])> {
        let mut parts = Vec::new();
        while !packet.is_empty() {
            let length = 4 + 4 * usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            assert_eq!(packet[0] >> 6, 2);
            parts.push((packet[1], packet[0] & 0x1f, &packet[4..length]));
            packet = &packet[length..];
        }
        parts
    }

    #[test]
    fn a_sender_report_says_when_and_how_much_and_who() {
        let packet = report(0xaabb_ccdd, Some(SENT), "k9@switchyard");
        let parts = parts(&packet);
        assert_eq!(parts.len(), 2);
        let (kind, count, body) = parts[0];
        assert_eq!((kind, count), (200, 0));
        assert_eq!(body[..4], [0xaa, 0xbb, 0xcc, 0xdd]);
        assert_eq!(body[4..8], (2_208_988_801u32).to_be_bytes());
        assert_eq!(body[8..12], (1u32 << 31).to_be_bytes(), "half a second");
        assert_eq!(body[12..], [0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 1, 0xe0]);
        let (kind, count, body) = parts[1];
        assert_eq!((kind, count), (202, 1));
        assert_eq!(&body[4..], b"\x01\x0dk9@switchyard\0", "closed by a zero");
    }

    #[test]
    fn a_silent_stream_reports_as_receiver() {
        let packet = report(1, None, "abc");
        let parts = parts(&packet);
        assert_eq!((parts[0].0, parts[0].1, parts[0].2), (201, 0, &[0, 0, 0, 1][..]));
        assert_eq!(parts[1].2, b"\0\0\0\x01\x01\x03abc\0\0\0", "filled up to a word");
    }

    #[test]
    fn goodbye_comes_last_in_a_compound_packet() {
        let packet = goodbye(5, Some(SENT), "abc");
        let kinds: Vec<u8> = parts(&packet).iter().map(|part| part.0).collect();
        assert_eq!(kinds, [200, 202, 203]);
        assert_eq!(parts(&packet)[2].2, [0, 0, 0, 5]);
    }

    #[test]
    fn reports_are_five_seconds_apart_give_or_take_a_half() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let intervals: Vec<f64> = (0..1000).map(|_| interval(&mut rng).as_secs_f64()).collect();
        assert!(intervals.iter().all(|s| (2.5..7.5).contains(s)));
        let mean = intervals.iter().sum::<f64>() / 1000.0;
        assert!((mean - 5.0).abs() < 0.2, "{mean}");
    }
}

//! RTP packets (RFC 3550 §5.1): the header we write, and enough of a parser for what phones send.

use std::time::Duration;

/// Length of the headers we write: no CSRCs, no extension.
pub const HEADER_LEN: usize = 12;

/// Sound in one packet (RFC 3551 §4.2: 20 ms unless the peers agree otherwise).
pub const FRAME: Duration = Duration::from_millis(20);

/// Ticks of the RTP clock in one packet. All our codecs run on 8000 Hz, G.722 included (RFC 3551 §4.5.2).
pub const FRAME_TICKS: u32 = 160;

/// Bytes of sound in one packet: all our codecs carry 64 kbit/s.
pub const FRAME_BYTES: usize = 160;

/// Ticks of the RTP clock in a millisecond.
pub const TICKS_PER_MS: u32 = 8;

/// The fields of an RTP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Begins a talk spurt.
    pub marker: bool,
    /// Which codec, as negotiated.
    pub payload_type: u8,
    /// One more for each packet sent.
    pub sequence: u16,
    /// When the first sample of the payload was "recorded", in ticks of the RTP clock.
    pub timestamp: u32,
    /// Who sends.
    pub ssrc: u32,
}

impl Header {
    /// The header's wire form.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = 2 << 6;
        bytes[1] = (u8::from(self.marker) << 7) | (self.payload_type & 0x7f);
        bytes[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        bytes
    }
}

/// Splits a packet into header and payload, without CSRCs, extension and padding. `None` if it is no RTP.
pub fn parse(packet: &[u8]) -> Option<(Header, &[u8])> {
    let (&fixed, mut rest) = packet.split_first_chunk::<HEADER_LEN>()?;
    let [first, second, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = fixed;
    if first >> 6 != 2 {
        return None;
    }
    rest = rest.get(usize::from(first & 0x0f) * 4..)?;
    if first & 0x10 != 0 {
        let (&[_, _, l0, l1], after) = rest.split_first_chunk::<4>()?;
        rest = after.get(usize::from(u16::from_be_bytes([l0, l1])) * 4..)?;
    }
    if first & 0x20 != 0 {
        let padding = usize::from(*rest.last()?);
        rest = rest.get(..rest.len().checked_sub(padding.max(1))?)?;
    }
    let header = Header {
        marker: second & 0x80 != 0,
        payload_type: second & 0x7f,
        sequence: u16::from_be_bytes([s0, s1]),
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
    };
    Some((header, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: Header = Header {
        marker: true,
        payload_type: 101,
        sequence: 0x1234,
        timestamp: 0xdead_beef,
        ssrc: 0x0102_0304,
    };

    #[test]
    fn a_header_is_laid_out_as_rfc_3550_draws_it() {
        let bytes = HEADER.to_bytes();
        assert_eq!(bytes, [0x80, 0x80 | 101, 0x12, 0x34, 0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4]);
        assert_eq!(parse(&bytes), Some((HEADER, &[][..])));
    }

    #[test]
    fn csrcs_extension_and_padding_are_not_payload() {
        let mut packet = HEADER.to_bytes().to_vec();
        packet[0] |= 0x20 | 0x10 | 1;
        packet.extend([9, 9, 9, 9]); // one CSRC
        packet.extend([0xbe, 0xde, 0, 1, 7, 7, 7, 7]); // an extension of one word
        packet.extend(b"sound");
        packet.extend([0, 0, 3]); // padding of three
        assert_eq!(parse(&packet), Some((HEADER, &b"sound"[..])));
    }

    proptest! {
        #[test]
        fn parsing_is_total(packet in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&packet);
        }
    }
}

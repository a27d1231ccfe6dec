//! Samples to the payload of packets: each sound once per codec, long before anyone hears it.

use audio_codec_algorithms::{encode_alaw, encode_ulaw};

use super::Codec;
use super::g722;
use super::resample::{Edges, resample};
use super::rtp::FRAME_BYTES;
use super::wav::Pcm;

/// Encoded sound: whole frames, one packet each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    bytes: Box<[u8]>,
}

impl Encoded {
    /// Encodes `pcm` in the codec. For a loop the end leads into the beginning.
    pub fn new(pcm: &Pcm, codec: Codec, edges: Edges) -> Self {
        let samples = resample(pcm, sample_rate(codec), edges);
        let mut bytes = Vec::new();
        match codec {
            Codec::Pcmu => bytes.extend(samples.iter().map(|&sample| encode_ulaw(sample))),
            Codec::Pcma => bytes.extend(samples.iter().map(|&sample| encode_alaw(sample))),
            Codec::G722 => {
                let mut encoder = g722::Encoder::new();
                if edges == Edges::Loop {
                    // The encoder remembers what went before. In a loop that is the loop's end: only the first
                    // round begins with a coder at rest, and phones don't mind that one.
                    encoder.encode(&samples, &mut bytes);
                    bytes.clear();
                }
                encoder.encode(&samples, &mut bytes);
            }
        }
        // The last frame is filled up with silence, at most 20 ms of it.
        bytes.resize(bytes.len().next_multiple_of(FRAME_BYTES), silence(codec));
        Self { bytes: bytes.into_boxed_slice() }
    }

    /// The payload of frame `n`; `None` after the last one.
    pub fn frame(&self, n: usize) -> Option<&[u8]> {
        self.bytes.get(n.checked_mul(FRAME_BYTES)?..)?.get(..FRAME_BYTES)
    }

    /// How many frames there are.
    pub fn frames(&self) -> usize {
        self.bytes.len() / FRAME_BYTES
    }

    /// What it takes in memory.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Samples per second a codec works on; for G.722 not its RTP clock.
pub fn sample_rate(codec: Codec) -> u32 {
    match codec {
        Codec::Pcmu | Codec::Pcma => 8000,
        Codec::G722 => 16_000,
    }
}

/// The code of a sample of silence, or near enough.
fn silence(codec: Codec) -> u8 {
    match codec {
        Codec::Pcmu => 0xff,
        Codec::Pcma => 0xd5,
        // The smallest difference in both bands.
        Codec::G722 => 0xff,
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::super::listen::{decode, tone};
    use super::*;

    fn sine(hertz: f64, rate: u32, seconds: f64) -> Pcm {
        let samples = (f64::from(rate) * seconds) as usize;
        let sample = |n| ((n as f64 / f64::from(rate) * hertz * TAU).sin() * 8000.0) as i16;
        Pcm { rate, samples: (0..samples).map(sample).collect() }
    }

    #[test]
    fn a_tone_is_heard_at_its_level_in_every_codec() {
        for codec in Codec::ALL {
            let encoded = Encoded::new(&sine(440.0, 44_100, 1.0), codec, Edges::Loop);
            assert_eq!(encoded.frames(), 50, "64 kbit/s");
            let samples = decode(codec, &encoded.bytes);
            let level = tone(&samples[800..], sample_rate(codec), 440.0);
            assert!((level - 8000.0).abs() < 300.0, "{codec:?}: {level}");
        }
    }

    #[test]
    fn frames_are_whole_and_the_rest_is_silence() {
        for codec in Codec::ALL {
            let encoded = Encoded::new(&sine(440.0, 16_000, 0.025), codec, Edges::Silent);
            assert_eq!(encoded.frames(), 2);
            assert_eq!(encoded.frame(1).unwrap().len(), FRAME_BYTES);
            assert_eq!(encoded.frame(2), None);
            let samples = decode(codec, &encoded.bytes);
            let end = &samples[samples.len() * 3 / 4..];
            assert!(end.iter().all(|sample| sample.abs() < 600), "{codec:?}: {end:?}");
        }
    }

    #[test]
    fn a_wideband_loop_has_no_click_at_its_seam() {
        let encoded = Encoded::new(&sine(400.0, 16_000, 0.5), Codec::G722, Edges::Loop);
        let twice = [&encoded.bytes[..], &encoded.bytes[..]].concat();
        let samples = decode(Codec::G722, &twice);
        let seam = &samples[8000 - 200..8000 + 200];
        // The steepest a tone of this pitch and level goes, and a tenth more.
        let steepest = 8000.0 * TAU * 400.0 / 16_000.0 * 1.1;
        let jump = seam.windows(2).map(|pair| (pair[1] - pair[0]).abs()).max().unwrap();
        assert!(f64::from(jump) < steepest, "{jump} > {steepest}");
    }
}

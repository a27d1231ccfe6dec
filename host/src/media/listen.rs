//! What a phone would hear: the other direction, for tests that listen to what the host sends.

use std::f64::consts::TAU;

use audio_codec_algorithms::{decode_alaw, decode_ulaw};

use super::{Codec, g722};

pub use super::encode::sample_rate;

/// Decodes the payload of a stream's packets, in order, to samples at [`sample_rate`].
pub fn decode(codec: Codec, payload: &[u8]) -> Vec<i16> {
    match codec {
        Codec::Pcmu => payload.iter().map(|&code| decode_ulaw(code)).collect(),
        Codec::Pcma => payload.iter().map(|&code| decode_alaw(code)).collect(),
        Codec::G722 => {
            let mut samples = Vec::new();
            g722::Decoder::new().decode(payload, &mut samples);
            samples
        }
    }
}

/// Whether an RTP packet carries sound rather than silence: in all our codecs silence is one byte, repeated.
pub fn carries_sound(packet: &[u8]) -> bool {
    super::rtp::parse(packet).is_some_and(|(_, payload)| payload.iter().any(|byte| *byte != payload[0]))
}

/// Loudness of samples: root mean square in dB below full scale (0 is a full square wave, -91 and less silence).
pub fn level(samples: &[i16]) -> f64 {
    let power =
        samples.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / samples.len().max(1) as f64;
    10.0 * (power / f64::from(i16::MAX).powi(2)).log10()
}

/// Amplitude of the tone of `hertz` in samples at `rate` (Goertzel's filter).
pub fn tone(samples: &[i16], rate: u32, hertz: f64) -> f64 {
    let step = hertz / f64::from(rate) * TAU;
    let (re, im) = samples.iter().enumerate().fold((0.0, 0.0), |(re, im), (n, &sample)| {
        let (sin, cos) = (n as f64 * step).sin_cos();
        (re + f64::from(sample) * cos, im + f64::from(sample) * sin)
    });
    2.0 * f64::hypot(re, im) / samples.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_no_sound_and_neither_is_what_is_no_rtp() {
        let packet = |payload: &[u8]| [&[0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1], payload].concat();
        assert!(carries_sound(&packet(&[0xff, 0x7e, 0xff])));
        assert!(!carries_sound(&packet(&[0xff; 160])) && !carries_sound(&packet(&[])));
        assert!(!carries_sound(b"hello, I am no packet at all"));
    }

    #[test]
    fn a_tone_is_found_at_its_pitch_only() {
        let samples: Vec<i16> = (0..8000).map(|n| ((n as f64 / 8.0 * TAU).sin() * 10_000.0) as i16).collect();
        assert!((tone(&samples, 8000, 1000.0) - 10_000.0).abs() < 10.0);
        assert!(tone(&samples, 8000, 1500.0) < 10.0);
        assert!((level(&samples) + 13.3).abs() < 0.1, "{}", level(&samples));
        assert!(level(&[0; 100]) < -91.0);
    }
}

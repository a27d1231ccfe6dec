//! G.722 at 64 kbit/s: wideband speech in two ADPCM bands (ITU-T G.722, 1988).
//!
//! Written from the Recommendation. Blocks keep its names (in capitals in the comments) and its integer
//! arithmetic, so output is bit exact: six bits for the band below 4 kHz, two for the band above.

/// Coefficients of the quadrature mirror filters, first half; the second half is the first, reversed (Table 11,
/// times 2^13). Even positions belong to one phase, odd ones to the other.
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

/// Decision levels of the lower band's 60-level quantiser (Q6 of Table 14).
const LOW_LEVELS: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121, 1219,
    1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];

/// Output of the 4-bit inverse quantiser, by the upper four bits of a lower-band code (QM4).
const LOW_INVERSE_4: [i32; 16] =
    [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];

/// Output of the 6-bit inverse quantiser, by the whole lower-band code (QM6).
const LOW_INVERSE_6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360,
    -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688,
    -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856,
    7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136,
    -432, -136,
];

/// What a lower-band code adds to the logarithm of its step (WL by RL42), by the code's upper four bits.
const LOW_STEP: [i32; 16] =
    [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];

/// Output of the upper band's inverse quantiser (QM2).
const HIGH_INVERSE: [i32; 4] = [-7408, -1616, 7408, 1616];

/// What an upper-band code adds to the logarithm of its step (WH by RH2).
const HIGH_STEP: [i32; 4] = [798, -214, 798, -214];

/// Antilogarithm of the fraction of a step (ILB): 2048 times 2^(n/32).
const ANTILOG: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896,
    2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

/// Encodes 16 kHz sound; two samples become one byte.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    history: [i32; 24],
    low: LowBand,
    high: HighBand,
}

impl Encoder {
    /// An encoder in its reset state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes whole pairs of samples; an odd last one is left out.
    pub fn encode(&mut self, samples: &[i16], out: &mut Vec<u8>) {
        out.reserve(samples.len() / 2);
        for &[earlier, later] in samples.as_chunks::<2>().0 {
            let (low, high) = self.split(earlier.into(), later.into());
            let low_code = quantise_low(saturate(low - self.low.predictor.estimate), self.low.step);
            let high_code = quantise_high(saturate(high - self.high.predictor.estimate), self.high.step);
            self.low.adapt(low_code);
            self.high.adapt(high_code);
            out.push(high_code << 6 | low_code);
        }
    }

    /// Transmit QMF: two samples of the whole band become one of each half.
    fn split(&mut self, earlier: i32, later: i32) -> (i32, i32) {
        self.history.copy_within(2.., 0);
        self.history[22] = earlier;
        self.history[23] = later;
        let (even, odd) = phases(&self.history);
        // Two bits below unity gain: the bands then fit the Recommendation's 15-bit range.
        ((even + odd) >> 14, (even - odd) >> 14)
    }
}

/// Decodes to 16 kHz sound; one byte becomes two samples.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    history: [i32; 24],
    low: LowBand,
    high: HighBand,
}

impl Decoder {
    /// A decoder in its reset state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes all of `codes`.
    pub fn decode(&mut self, codes: &[u8], out: &mut Vec<i16>) {
        out.reserve(codes.len() * 2);
        for &code in codes {
            let (low_code, high_code) = (code & 0x3f, code >> 6);
            let low_fine = multiply(LOW_INVERSE_6[usize::from(low_code)], self.low.step);
            let low = (self.low.predictor.estimate + low_fine).clamp(-16384, 16383);
            let high_fine = multiply(HIGH_INVERSE[usize::from(high_code)], self.high.step);
            let high = (self.high.predictor.estimate + high_fine).clamp(-16384, 16383);
            self.low.adapt(low_code);
            self.high.adapt(high_code);
            // Receive QMF.
            self.history.copy_within(2.., 0);
            self.history[22] = low + high;
            self.history[23] = low - high;
            let (even, odd) = phases(&self.history);
            out.extend([even >> 11, odd >> 11].map(|sample| saturate(sample) as i16));
        }
    }
}

/// Both phases of a quadrature mirror filter over 24 samples, the oldest first.
fn phases(history: &[i32; 24]) -> (i32, i32) {
    let mut even = 0;
    let mut odd = 0;
    for (n, &coefficient) in QMF.iter().enumerate() {
        odd += history[2 * n] * coefficient;
        even += history[23 - 2 * n] * coefficient;
    }
    (even, odd)
}

/// QUANTL: the code of a difference signal, finer near zero.
fn quantise_low(difference: i32, step: i32) -> u8 {
    let magnitude = if difference < 0 { -(difference + 1) } else { difference };
    let level = LOW_LEVELS.iter().take_while(|&&level| magnitude >= (level * step) >> 12).count() as u8;
    match (difference < 0, level) {
        // The codes just below zero stand out of line: 0 to 3 would read as "nothing sent".
        (true, 0) => 63,
        (true, 1) => 62,
        (true, _) => 33 - level,
        (false, _) => 61 - level,
    }
}

/// QUANTH: the code of a difference signal, small or large, negative or not.
fn quantise_high(difference: i32, step: i32) -> u8 {
    let magnitude = if difference < 0 { -(difference + 1) } else { difference };
    let large = magnitude >= (564 * step) >> 12;
    u8::from(difference >= 0) << 1 | u8::from(!large)
}

#[derive(Clone, Debug)]
struct LowBand {
    /// Logarithm of the step (NBL).
    log_step: i32,
    /// The quantiser's step (DETL).
    step: i32,
    predictor: Predictor,
}

impl Default for LowBand {
    fn default() -> Self {
        Self { log_step: 0, step: 32, predictor: Predictor::default() }
    }
}

impl LowBand {
    /// What encoder and decoder both do with a code: they follow its four upper bits only, so that the two
    /// lower ones may be stolen for data (the 48 and 56 kbit/s modes).
    fn adapt(&mut self, code: u8) {
        let coarse = usize::from(code >> 2);
        let difference = multiply(LOW_INVERSE_4[coarse], self.step);
        self.log_step = (((self.log_step * 127) >> 7) + LOW_STEP[coarse]).clamp(0, 18432);
        self.step = antilog(self.log_step, 8);
        self.predictor.update(difference);
    }
}

#[derive(Clone, Debug)]
struct HighBand {
    log_step: i32,
    step: i32,
    predictor: Predictor,
}

impl Default for HighBand {
    fn default() -> Self {
        Self { log_step: 0, step: 8, predictor: Predictor::default() }
    }
}

impl HighBand {
    fn adapt(&mut self, code: u8) {
        let code = usize::from(code);
        let difference = multiply(HIGH_INVERSE[code], self.step);
        self.log_step = (((self.log_step * 127) >> 7) + HIGH_STEP[code]).clamp(0, 22528);
        self.step = antilog(self.log_step, 10);
        self.predictor.update(difference);
    }
}

/// SCALEL, SCALEH: the step of a logarithm whose fraction has eleven bits.
fn antilog(log_step: i32, top: i32) -> i32 {
    let mantissa = ANTILOG[(log_step >> 6 & 31) as usize];
    let shift = top - (log_step >> 11);
    (if shift < 0 { mantissa << -shift } else { mantissa >> shift }) << 2
}

/// The adaptive predictor of one band: two poles, six zeros.
#[derive(Clone, Debug, Default)]
struct Predictor {
    /// What the next sample is expected to be (SL, SH).
    estimate: i32,
    /// The zeros' part of it (SZ).
    zeros_estimate: i32,
    /// The last two reconstructed samples, newest first (RLT, RH).
    reconstructed: [i32; 2],
    /// The last two sums of difference and zeros' part, newest first (PLT, PH).
    partial: [i32; 2],
    /// The last six differences, newest first (DLT, DH).
    differences: [i32; 6],
    /// Coefficients of the poles (AL, AH).
    poles: [i32; 2],
    /// Coefficients of the zeros (BL, BH).
    zeros: [i32; 6],
}

impl Predictor {
    /// Takes in one quantised difference (Block 4: PARREC, RECONS, UPPOL2, UPPOL1, UPZERO, FILTEP, FILTEZ, PREDIC).
    fn update(&mut self, difference: i32) {
        let partial = saturate(self.zeros_estimate + difference);
        let reconstructed = saturate(self.estimate + difference);

        // UPPOL2 and UPPOL1: the poles follow the signs of recent partial sums, within the region of stability.
        let same = |other: i32| (partial < 0) == (other < 0);
        let toward = saturate(self.poles[0] << 2);
        let pull = if same(self.partial[0]) { (-toward).min(32767) } else { toward } >> 7;
        let push = if same(self.partial[1]) { 128 } else { -128 };
        let second = (pull + push + multiply(self.poles[1], 32512)).clamp(-12288, 12288);
        let bound = 15360 - second;
        let push = if same(self.partial[0]) { 192 } else { -192 };
        let first = (push + multiply(self.poles[0], 32640)).clamp(-bound, bound);
        self.poles = [first, second];

        // UPZERO: each zero follows the sign its difference shares with the new one.
        for (zero, &past) in self.zeros.iter_mut().zip(&self.differences) {
            let push = match (difference == 0, (difference < 0) == (past < 0)) {
                (true, _) => 0,
                (false, true) => 128,
                (false, false) => -128,
            };
            *zero = saturate(push + multiply(*zero, 32640));
        }

        self.differences.copy_within(..5, 1);
        self.differences[0] = difference;
        self.reconstructed = [reconstructed, self.reconstructed[0]];
        self.partial = [partial, self.partial[0]];

        let pole = |n: usize| multiply(self.poles[n], saturate(2 * self.reconstructed[n]));
        let poles_estimate = saturate(pole(0) + pole(1));
        // From the oldest on, as the order of saturating sums matters.
        let taps = self.zeros.iter().zip(&self.differences).rev();
        self.zeros_estimate =
            taps.fold(0, |sum, (zero, past)| saturate(sum + multiply(*zero, saturate(2 * past))));
        self.estimate = saturate(poles_estimate + self.zeros_estimate);
    }
}

/// The product of two fractions of sixteen bits.
fn multiply(a: i32, b: i32) -> i32 {
    (a * b) >> 15
}

/// Limits a value to sixteen bits.
fn saturate(value: i32) -> i32 {
    value.clamp(i16::MIN.into(), i16::MAX.into())
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;

    use super::*;

    fn sine(hertz: f64, level: f64, samples: usize) -> Vec<i16> {
        (0..samples).map(|n| ((n as f64 / 16_000.0 * hertz * TAU).sin() * level) as i16).collect()
    }

    fn there_and_back(samples: &[i16]) -> Vec<i16> {
        let mut codes = Vec::new();
        Encoder::new().encode(samples, &mut codes);
        assert_eq!(codes.len(), samples.len() / 2);
        let mut back = Vec::new();
        Decoder::new().decode(&codes, &mut back);
        back
    }

    /// Signal to noise in dB, after the 22 samples that the two filters delay and half a second to settle.
    fn quality(samples: &[i16], back: &[i16]) -> f64 {
        let pairs = samples[8000..].iter().zip(&back[8022..]);
        let (signal, noise) = pairs.fold((0.0, 0.0), |(signal, noise), (&sent, &heard)| {
            let (sent, heard) = (f64::from(sent), f64::from(heard));
            (signal + sent * sent, noise + (sent - heard) * (sent - heard))
        });
        10.0 * (signal / noise).log10()
    }

    #[test]
    fn tones_of_both_bands_come_back() {
        for (hertz, at_least) in [(300.0, 30.0), (1000.0, 30.0), (3000.0, 25.0), (5500.0, 10.0)] {
            let samples = sine(hertz, 8000.0, 32_000);
            let decibels = quality(&samples, &there_and_back(&samples));
            assert!(decibels > at_least, "{hertz} Hz: {decibels:.1} dB");
        }
    }

    #[test]
    fn silence_stays_silent() {
        assert!(there_and_back(&[0; 16_000]).iter().all(|sample| sample.abs() < 10));
    }

    /// The first codes of a signal that visits every part of the coder. They were compared with those of an
    /// independent implementation; a difference would be heard by phones as noise.
    #[test]
    fn codes_are_bit_exact() {
        let mut state = 1u32;
        let mut noise = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as i16
        };
        let samples: Vec<i16> =
            (0..16_000).map(|n| if n / 1000 % 2 == 0 { noise() } else { noise() / 64 }).collect();
        let mut codes = Vec::new();
        Encoder::new().encode(&samples, &mut codes);
        let mut sound = Vec::new();
        Decoder::new().decode(&codes, &mut sound);
        let sound: Vec<u8> = sound.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        assert_eq!(crc32(&codes), CODES_CRC);
        assert_eq!(crc32(&sound), SOUND_CRC);
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1)))
        })
    }

    const CODES_CRC: u32 = 0x7ee9_bd84;
    const SOUND_CRC: u32 = 0x6127_2e70;

    proptest! {
        #[test]
        fn no_input_overflows(samples in prop::collection::vec(any::<i16>(), 0..2000), codes in prop::collection::vec(any::<u8>(), 0..2000)) {
            there_and_back(&samples);
            Decoder::new().decode(&codes, &mut Vec::new());
        }
    }
}

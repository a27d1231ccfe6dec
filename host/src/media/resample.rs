//! Changing a sound's sampling rate: band-limited interpolation with a windowed sinc.

use std::f64::consts::PI;

use super::wav::Pcm;

/// Zero crossings of the sinc on each side. With the window below, what would alias is 80 dB down.
const CROSSINGS: f64 = 32.0;

/// The pass band ends here, as a part of the lower of the two Nyquist rates; the filter needs the rest to fall.
const PASS: f64 = 0.93;

/// Shape of the Kaiser window.
const BETA: f64 = 8.0;

/// What lies before the first sample and after the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edges {
    /// Silence.
    Silent,
    /// The sound itself again: it is played in a loop.
    Loop,
}

/// The sound of `pcm` at `rate` samples a second.
pub fn resample(pcm: &Pcm, rate: u32, edges: Edges) -> Vec<i16> {
    if pcm.rate == rate || pcm.samples.is_empty() {
        return pcm.samples.clone();
    }
    // Output n lies at input n * step / phases, so there are only `phases` different positions between samples.
    let divisor = gcd(pcm.rate, rate);
    let (step, phases) = ((pcm.rate / divisor) as usize, (rate / divisor) as usize);
    let cutoff = PASS * f64::from(rate.min(pcm.rate)) / f64::from(pcm.rate);
    let reach = (CROSSINGS / cutoff).ceil() as usize;
    let kernels: Vec<f32> =
        (0..phases).flat_map(|phase| kernel(phase as f64 / phases as f64, cutoff, reach)).collect();

    let length = (pcm.samples.len() * phases).div_ceil(step);
    let taps = 2 * reach;
    let mut window = vec![0f32; taps];
    (0..length)
        .map(|n| {
            let position = n * step;
            let kernel = &kernels[position % phases * taps..][..taps];
            gather(&pcm.samples, (position / phases) as isize - reach as isize + 1, edges, &mut window);
            let sum: f32 = kernel.iter().zip(&window).map(|(weight, sample)| weight * sample).sum();
            sum.round() as i16
        })
        .collect()
}

/// Weights of the `2 * reach` samples around a position that lies `fraction` after the middle one.
fn kernel(fraction: f64, cutoff: f64, reach: usize) -> Vec<f32> {
    let weights: Vec<f64> = (0..2 * reach)
        .map(|tap| {
            let distance = tap as f64 - (reach as f64 - 1.0) - fraction;
            let x = PI * cutoff * distance;
            let sinc = if x.abs() < 1e-9 { 1.0 } else { x.sin() / x };
            let edge = distance / reach as f64;
            sinc * bessel(BETA * (1.0 - edge * edge).max(0.0).sqrt())
        })
        .collect();
    // Exactly unity gain for a constant, whatever the phase: otherwise the phases would hum.
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| (weight / sum) as f32).collect()
}

/// Copies samples `first..` into `window`.
fn gather(samples: &[i16], first: isize, edges: Edges, window: &mut [f32]) {
    let inside = usize::try_from(first).ok().and_then(|first| samples.get(first..first + window.len()));
    if let Some(inside) = inside {
        window.iter_mut().zip(inside).for_each(|(slot, &sample)| *slot = sample.into());
        return;
    }
    for (slot, n) in window.iter_mut().zip(first..) {
        let sample = match edges {
            Edges::Silent => usize::try_from(n).ok().and_then(|n| samples.get(n).copied()),
            Edges::Loop => samples.get(n.rem_euclid(samples.len() as isize) as usize).copied(),
        };
        *slot = sample.unwrap_or(0).into();
    }
}

/// The modified Bessel function of order zero.
fn bessel(x: f64) -> f64 {
    let mut term = 1.0;
    (1..40).fold(1.0, |sum, k| {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum + term
    })
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    fn sine(hertz: f64, rate: u32, samples: usize) -> Pcm {
        let sample = |n| ((n as f64 / f64::from(rate) * hertz * TAU).sin() * 10_000.0) as i16;
        Pcm { rate, samples: (0..samples).map(sample).collect() }
    }

    fn level(samples: &[i16]) -> f64 {
        (samples.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / samples.len() as f64).sqrt()
    }

    #[test]
    fn a_tone_keeps_pitch_and_level_from_any_rate_to_any_rate() {
        for (from, to) in [(44_100, 16_000), (48_000, 8000), (22_050, 16_000), (8000, 16_000), (11_025, 8000)]
        {
            let converted = resample(&sine(1000.0, from, from as usize), to, Edges::Silent);
            assert_eq!(converted.len(), to as usize);
            let expected = sine(1000.0, to, to as usize).samples;
            let middle = 1000..converted.len() - 1000;
            let error: Vec<i16> = converted[middle.clone()]
                .iter()
                .zip(&expected[middle])
                .map(|(got, want)| got - want)
                .collect();
            assert!(level(&error) < 10.0, "{from} to {to}: error {}", level(&error));
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_gone() {
        let converted = resample(&sine(5000.0, 16_000, 16_000), 8000, Edges::Silent);
        assert!(level(&converted[500..7500]) < 10.0);
    }

    #[test]
    fn a_loop_has_no_seam() {
        let tone = sine(400.0, 16_000, 16_000);
        let silent_ends = resample(&tone, 8000, Edges::Silent);
        let looped = resample(&tone, 8000, Edges::Loop);
        let expected = sine(400.0, 8000, 8000).samples;
        let worst =
            |got: &[i16]| got.iter().zip(&expected).map(|(got, want)| (got - want).abs()).max().unwrap();
        assert!(worst(&looped) < 20, "{}", worst(&looped));
        assert!(worst(&silent_ends) > 100, "or the test proves nothing");
    }
}

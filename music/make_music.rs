//! Makes `music/default.wav`, the music a parked caller hears: `cargo run --example make_music`.
//!
//! Eight bars in C major, 24 s, played by three synthetic instruments and written here note by note, so the
//! project owns every bit of it. What rings on at the end is mixed into the beginning: the loop has no seam. Its
//! length is a whole number of 20 ms packets, its spectrum suits a telephone (little below 200 Hz, nothing sharp).

use std::error::Error;
use std::f64::consts::TAU;

const RATE: u32 = 16_000;
const BARS: usize = 8;
const BEAT: f64 = 0.75;
const BAR: f64 = 4.0 * BEAT;
/// Amplitude of the loudest sample. With it the whole lies near -21 dBFS, as loud as speech on a telephone.
const PEAK: f64 = 0.45;

/// The chords, lowest note first, as MIDI note numbers (60 is middle C, 69 is the A of 440 Hz).
const CHORDS: [[u8; 4]; BARS] = [
    [60, 64, 67, 71], // C major 7
    [57, 64, 67, 72], // A minor 7
    [53, 60, 64, 69], // F major 7
    [55, 62, 65, 71], // G 7
    [52, 59, 67, 74], // E minor 7
    [57, 60, 64, 67], // A minor 7
    [50, 60, 65, 69], // D minor 7
    [55, 60, 62, 65], // G 7, fourth for third
];

/// In which order the notes of a chord are plucked, an eighth each.
const FIGURE: [usize; 8] = [0, 2, 1, 3, 2, 3, 1, 2];

/// The tune: bar, beat, note, length in beats.
const TUNE: [(usize, f64, u8, f64); 18] = [
    (0, 1.0, 76, 1.0),
    (0, 2.0, 79, 2.0),
    (1, 1.0, 76, 1.0),
    (1, 2.0, 72, 2.0),
    (2, 0.5, 69, 0.5),
    (2, 1.0, 72, 1.0),
    (2, 2.0, 76, 2.0),
    (3, 1.0, 74, 3.0),
    (4, 1.0, 79, 1.0),
    (4, 2.0, 83, 1.0),
    (4, 3.0, 79, 1.0),
    (5, 1.0, 76, 3.0),
    (6, 0.5, 74, 0.5),
    (6, 1.0, 77, 1.0),
    (6, 2.0, 76, 1.0),
    (6, 3.0, 74, 1.0),
    (7, 1.0, 72, 1.0),
    (7, 2.0, 74, 2.0),
];

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "music/default.wav".into());
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec)?;
    for sample in play() {
        file.write_sample(sample)?;
    }
    Ok(file.finalize()?)
}

/// The whole loop.
fn play() -> Vec<i16> {
    let mut sound = Loop(vec![0.0; (f64::from(RATE) * BAR * BARS as f64) as usize]);
    for (bar, chord) in CHORDS.iter().enumerate() {
        let begin = bar as f64 * BAR;
        for (eighth, &which) in FIGURE.iter().enumerate() {
            // The first of each half bar a little stronger.
            let strength = if eighth % 4 == 0 { 0.30 } else { 0.22 };
            sound.mix(begin + eighth as f64 * BEAT / 2.0, 1.6, chord[which] + 12, strength, pluck);
        }
        for &note in chord {
            sound.mix(begin - 0.3, BAR + 0.9, note, 0.10, pad);
        }
    }
    for (bar, beat, note, beats) in TUNE {
        sound.mix(bar as f64 * BAR + beat * BEAT, beats * BEAT + 0.5, note, 0.30, bell);
    }
    let peak = sound.0.iter().fold(0f64, |peak, sample| peak.max(sample.abs()));
    sound.0.iter().map(|sample| (sample / peak * PEAK * f64::from(i16::MAX)).round() as i16).collect()
}

/// An instrument: amplitude at a time since the note began, of its length, at a pitch.
type Instrument = fn(since: f64, length: f64, hertz: f64) -> f64;

struct Loop(Vec<f64>);

impl Loop {
    /// Adds one note; what sticks out at either end comes in at the other.
    fn mix(&mut self, begin: f64, length: f64, note: u8, strength: f64, instrument: Instrument) {
        let hertz = 440.0 * 2f64.powf((f64::from(note) - 69.0) / 12.0);
        let first = (begin * f64::from(RATE)).round() as i64;
        for n in 0..(length * f64::from(RATE)) as i64 {
            let slot = (first + n).rem_euclid(self.0.len() as i64) as usize;
            self.0[slot] += strength * instrument(n as f64 / f64::from(RATE), length, hertz);
        }
    }
}

/// A soft plucked string: upper partials fade sooner.
fn pluck(since: f64, length: f64, hertz: f64) -> f64 {
    let partials = [(1.0, 1.0, 3.0), (2.0, 0.35, 5.0), (3.0, 0.12, 8.0)];
    let tone: f64 = partials
        .iter()
        .map(|&(multiple, level, decay)| {
            level * (-decay * since).exp() * (TAU * hertz * multiple * since).sin()
        })
        .sum();
    tone * rise(since, 0.006) * fall(since, length, 0.1)
}

/// A quiet choir of two voices, slightly apart.
fn pad(since: f64, length: f64, hertz: f64) -> f64 {
    let voice = |detune: f64| {
        let angle = TAU * hertz * detune * since;
        angle.sin() + 0.4 * (2.0 * angle).sin() + 0.15 * (3.0 * angle).sin()
    };
    (voice(0.9985) + voice(1.0015)) / 2.0 * rise(since, 0.6) * fall(since, length, 0.9)
}

/// A mellow bell with a little vibrato.
fn bell(since: f64, length: f64, hertz: f64) -> f64 {
    // Four and a half times a second, a twentieth of a semitone up and down, but not from the start.
    let vibrato = hertz * 0.003 / 4.5 * (TAU * 4.5 * since).sin() * rise(since, 0.6);
    let angle = TAU * hertz * since + vibrato;
    (angle.sin() + 0.2 * (2.0 * angle).sin() * (-4.0 * since).exp())
        * (-1.1 * since).exp()
        * rise(since, 0.02)
        * fall(since, length, 0.25)
}

/// From 0 to 1 within `time`, without a corner.
fn rise(since: f64, time: f64) -> f64 {
    let part = (since / time).min(1.0);
    part * part * (3.0 - 2.0 * part)
}

/// From 1 to 0 within the last `time` of a note.
fn fall(since: f64, length: f64, time: f64) -> f64 {
    rise(length - since, time)
}

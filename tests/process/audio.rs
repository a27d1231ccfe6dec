//! Ears: how loud something is, and how much of it is a certain tone.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use audio_codec_algorithms::decode_ulaw;

use super::program::wait_for;

/// Louder than silence and line noise by far, and a tenth of what music and tones have.
const AUDIBLE: f64 = 0.01;

/// Tones are looked for in pieces this long, so that a gap between two of them does no harm.
const PIECE: Duration = Duration::from_millis(100);

/// How long streams are waited for.
const STREAMS_WITHIN: Duration = Duration::from_secs(90);

/// What was heard.
#[derive(Debug)]
pub struct Sound {
    /// Samples per second.
    pub rate: u32,
    /// Between -1 and 1.
    pub samples: Vec<f64>,
}

impl Sound {
    /// The level: 1 is a full-scale square wave.
    pub fn level(&self) -> f64 {
        (energy(&self.samples) / self.samples.len().max(1) as f64).sqrt()
    }

    pub fn is_audible(&self) -> bool {
        self.level() > AUDIBLE
    }

    /// How much of its energy is the tone of `hertz`: 0 nothing, 1 all of it (Goertzel).
    pub fn share_of(&self, hertz: u32) -> f64 {
        let piece = (f64::from(self.rate) * PIECE.as_secs_f64()) as usize;
        let turn = std::f64::consts::TAU * f64::from(hertz) / f64::from(self.rate);
        let tone = |samples: &[f64]| {
            let (sine, cosine) =
                samples.iter().enumerate().fold((0.0, 0.0), |(sine, cosine), (n, sample)| {
                    let (s, c) = (turn * n as f64).sin_cos();
                    (sine + sample * s, cosine + sample * c)
                });
            2.0 * (sine * sine + cosine * cosine) / samples.len() as f64
        };
        let pieces = || self.samples.chunks_exact(piece);
        pieces().map(tone).sum::<f64>() / pieces().map(energy).sum::<f64>().max(f64::MIN_POSITIVE)
    }
}

fn energy(samples: &[f64]) -> f64 {
    samples.iter().map(|sample| sample * sample).sum()
}

/// Streams of RTP, told from each other by their SSRC, and when the first and the last of them began.
#[derive(Debug)]
pub struct Heard {
    pub streams: BTreeSet<u32>,
    pub first: Option<Instant>,
    pub last: Option<Instant>,
}

/// A clock for what is measured and printed. Nothing asserts what it says.
#[expect(clippy::disallowed_methods, reason = "a test measures the real thing")]
pub fn clock() -> Instant {
    Instant::now()
}

/// A port that hears RTP, for phones that cannot: its number stands in their SDP.
pub struct Ear {
    socket: UdpSocket,
}

impl Ear {
    pub fn open() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket }
    }

    pub fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    /// Forgets what came so far, then waits for a second of PCMU.
    pub fn listen(&self) -> Sound {
        while self.packet().is_some() {}
        let mut samples = Vec::new();
        wait_for("RTP", || {
            while let Some(packet) = self.packet() {
                samples.extend(packet);
            }
            (samples.len() >= 8000).then_some(())
        });
        Sound { rate: 8000, samples }
    }

    /// Waits until so many streams have come that are not among those `before`; those that have, if it waits in vain.
    pub fn hear_streams(&self, count: usize, before: &BTreeSet<u32>) -> Heard {
        let mut heard = Heard { streams: BTreeSet::new(), first: None, last: None };
        let mut packet = [0; 2048];
        let began = clock();
        while heard.streams.len() < count && began.elapsed() < STREAMS_WITHIN {
            match self.socket.recv(&mut packet) {
                Ok(length) if length > 12 => {
                    let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
                    if !before.contains(&ssrc) && heard.streams.insert(ssrc) {
                        heard.first.get_or_insert_with(clock);
                        heard.last = Some(clock());
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(2))
                }
                Err(error) => panic!("{error}"),
            }
        }
        heard
    }

    /// The samples of the next packet; none of one that is no PCMU.
    fn packet(&self) -> Option<Vec<f64>> {
        let mut packet = [0; 2048];
        match self.socket.recv(&mut packet) {
            Ok(count) if count > 12 && packet[1] & 0x7f == 0 => {
                Some(packet[12..count].iter().map(|&byte| f64::from(decode_ulaw(byte)) / 32768.0).collect())
            }
            Ok(_) => Some(Vec::new()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_tone_is_told_from_another_and_from_silence() {
    let tone = |hertz: f64| Sound {
        rate: 8000,
        samples: (0..8000)
            .map(|n| 0.5 * (std::f64::consts::TAU * hertz * f64::from(n) / 8000.0).sin())
            .collect(),
    };
    let sound = tone(440.0);
    assert!((sound.level() - 0.3535).abs() < 0.01, "{}", sound.level());
    assert!(sound.share_of(440) > 0.99 && sound.share_of(1000) < 0.01);
    let silence = Sound { rate: 8000, samples: vec![0.0; 8000] };
    assert!(!silence.is_audible() && silence.share_of(440) < 0.01);
}

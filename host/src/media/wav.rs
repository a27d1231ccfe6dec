//! WAV files to samples: one channel, sixteen bits, at the file's own rate.

use std::io::Read;

/// The longest file taken, in seconds. Half an hour fills 14 MiB per codec; music that long needs no loop.
const SECONDS_MAX: u32 = 30 * 60;

/// The most moments taken, whatever the rate: half an hour at 48 kHz. They are all in memory while being encoded.
const SAMPLES_MAX: u32 = SECONDS_MAX * 48_000;

/// Sound as samples.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pcm {
    /// Samples per second.
    pub rate: u32,
    /// The samples.
    pub samples: Vec<i16>,
}

/// Why a file cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// Not a WAV file, or a broken one.
    #[error("not a WAV file we can read: {0}")]
    Format(#[from] hound::Error),
    /// A rate no sound card makes.
    #[error("a sampling rate of {0} Hz is not between 4000 and 192000")]
    Rate(u32),
    /// More than [`SECONDS_MAX`] or [`SAMPLES_MAX`].
    #[error("longer than {} minutes, or more than {SAMPLES_MAX} samples", SECONDS_MAX / 60)]
    TooLong,
    /// Nothing in it.
    #[error("no sound in it")]
    Empty,
}

/// Reads 8, 16, 24 or 32-bit integer and 32-bit float samples; several channels are mixed to one.
pub fn read(file: impl Read) -> Result<Pcm, WavError> {
    let mut reader = hound::WavReader::new(file)?;
    let spec = reader.spec();
    if !(4000..=192_000).contains(&spec.sample_rate) {
        return Err(WavError::Rate(spec.sample_rate));
    }
    if reader.duration() / spec.sample_rate >= SECONDS_MAX || reader.duration() > SAMPLES_MAX {
        return Err(WavError::TooLong);
    }
    let channels = usize::from(spec.channels.max(1));
    let samples = match spec.sample_format {
        hound::SampleFormat::Int => {
            let scale = 2f32.powi(16 - i32::from(spec.bits_per_sample));
            mix(reader.samples::<i32>().map(|sample| Ok(sample? as f32 * scale)), channels)?
        }
        hound::SampleFormat::Float => {
            mix(reader.samples::<f32>().map(|sample| Ok(sample? * 32768.0)), channels)?
        }
    };
    if samples.is_empty() {
        return Err(WavError::Empty);
    }
    Ok(Pcm { rate: spec.sample_rate, samples })
}

/// The mean of each moment's channels. An incomplete last moment is left out.
fn mix(
    samples: impl Iterator<Item = Result<f32, hound::Error>>,
    channels: usize,
) -> Result<Vec<i16>, hound::Error> {
    let mut mixed = Vec::new();
    let mut sum = 0.0;
    for (n, sample) in samples.enumerate() {
        sum += sample?;
        if (n + 1) % channels == 0 {
            // `as` saturates, and makes nothing of a NaN.
            mixed.push((sum / channels as f32).round() as i16);
            sum = 0.0;
        }
    }
    Ok(mixed)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use hound::{SampleFormat, WavSpec, WavWriter};
    use proptest::prelude::*;

    use super::*;

    fn file<S: hound::Sample>(
        channels: u16,
        rate: u32,
        bits: u16,
        format: SampleFormat,
        samples: Vec<S>,
    ) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let spec = WavSpec { channels, sample_rate: rate, bits_per_sample: bits, sample_format: format };
        let mut writer = WavWriter::new(&mut bytes, spec).unwrap();
        samples.into_iter().for_each(|sample| writer.write_sample(sample).unwrap());
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    #[test]
    fn sixteen_bits_come_through_unchanged() {
        let bytes = file(1, 16_000, 16, SampleFormat::Int, vec![0i16, 1, -1, i16::MAX, i16::MIN]);
        assert_eq!(
            read(&bytes[..]).unwrap(),
            Pcm { rate: 16_000, samples: vec![0, 1, -1, i16::MAX, i16::MIN] }
        );
    }

    #[test]
    fn other_sample_formats_are_scaled() {
        let bytes = file(1, 8000, 8, SampleFormat::Int, vec![0i8, 127, -128]);
        assert_eq!(read(&bytes[..]).unwrap().samples, [0, 127 << 8, i16::MIN]);
        let bytes = file(1, 8000, 24, SampleFormat::Int, vec![0i32, 1 << 22, -(1 << 23)]);
        assert_eq!(read(&bytes[..]).unwrap().samples, [0, 1 << 14, i16::MIN]);
        let bytes = file(1, 8000, 32, SampleFormat::Float, vec![0f32, 0.5, -1.0, 7.0, f32::NAN]);
        assert_eq!(read(&bytes[..]).unwrap().samples, [0, 1 << 14, i16::MIN, i16::MAX, 0]);
    }

    #[test]
    fn stereo_is_mixed_down() {
        let bytes = file(2, 44_100, 16, SampleFormat::Int, vec![1000i16, 3000, -5000, 5000]);
        assert_eq!(read(&bytes[..]).unwrap(), Pcm { rate: 44_100, samples: vec![2000, 0] });
    }

    #[test]
    fn what_is_no_music_is_refused_in_words() {
        let why = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        assert!(why(b"OggS").starts_with("not a WAV file"), "{}", why(b"OggS"));
        let bytes = file::<i16>(1, 8000, 16, SampleFormat::Int, vec![]);
        assert_eq!(why(&bytes), "no sound in it");
        let mut bytes = file(1, 8000, 16, SampleFormat::Int, vec![1i16, 2]);
        let rate_at = bytes.windows(4).position(|four| four == 8000u32.to_le_bytes()).unwrap();
        bytes[rate_at..rate_at + 4].copy_from_slice(&[1, 0, 0, 0]);
        assert!(read(&bytes[..]).is_err());
    }

    #[test]
    fn half_an_hour_is_the_limit() {
        let mut bytes = file(1, 4000, 8, SampleFormat::Int, vec![0i8; 4]);
        let length_at = bytes.windows(4).position(|four| four == b"data").unwrap() + 4;
        bytes[length_at..length_at + 4].copy_from_slice(&(4000 * SECONDS_MAX).to_le_bytes());
        assert!(matches!(read(&bytes[..]), Err(WavError::TooLong)));
    }

    proptest! {
        #[test]
        fn reading_is_total(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), bits in prop::sample::select(vec![8u16, 16, 24, 32])) {
            let mut bytes = file(2, 16_000, bits, SampleFormat::Int, vec![1i32; 40]);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = read(&bytes[..]);
        }
    }
}

//! What can be played: names to files below the music folder, or to what the executable brings along.

use std::fmt;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use super::Codec;
use super::encode::Encoded;
use super::resample::Edges;
use super::wav::{self, Pcm, WavError};

/// Something to play.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Clip {
    /// Music, played in a loop: a file below the music folder, or the default music.
    Music(Option<String>),
    /// A prompt, spoken once: a file below `prompts/` of the music folder.
    Prompt(String),
}

impl fmt::Display for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Clip::Music(None) => f.write_str("default music"),
            Clip::Music(Some(name)) => write!(f, "music {name:?}"),
            Clip::Prompt(name) => write!(f, "prompt {name:?}"),
        }
    }
}

/// Tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

/// A clip in one codec, and which state of its file it was made from (`None`: the built-in one).
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The sound.
    pub sound: Encoded,
    /// The file's state.
    pub stamp: Option<Stamp>,
}

/// Why a clip cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The name leads out of the folder, or is none.
    #[error("{0} is not the name of a file below the music folder")]
    Name(Clip),
    /// No such file, and none built in.
    #[error("{clip}: cannot open {}: {source}", path.display())]
    Open {
        /// What was asked for.
        clip: Clip,
        /// Where it was looked for.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no sound we can play.
    #[error("{clip}: {}: {source}", path.display())]
    Wav {
        /// What was asked for.
        clip: Clip,
        /// Where it was found.
        path: PathBuf,
        /// What is wrong with it.
        source: WavError,
    },
}

/// Reads, resamples and encodes a clip: takes from milliseconds to seconds. `None`: the file is still as it was
/// when `known` was made from it.
pub fn load(
    folder: &Path,
    clip: &Clip,
    codec: Codec,
    known: Option<Option<Stamp>>,
) -> Result<Option<Loaded>, LoadError> {
    let path = folder.join(relative_path(clip)?);
    let opened = open(&path);
    let (pcm, stamp) = match (opened, built_in(clip)) {
        (Ok((_, stamp)), _) if known == Some(Some(stamp)) => return Ok(None),
        (Ok((file, stamp)), built_in) => match (wav::read(BufReader::new(file)), built_in) {
            (Ok(pcm), _) => (pcm, Some(stamp)),
            // A broken default.wav is a mistake to be told of, but no reason for silence.
            (Err(error), Some(bytes)) => {
                tracing::warn!(path = %path.display(), %error, "playing the built-in {clip} instead");
                (read_built_in(bytes, clip, &path)?, Some(stamp))
            }
            (Err(source), None) => return Err(LoadError::Wav { clip: clip.clone(), path, source }),
        },
        (Err(_), Some(_)) if known == Some(None) => return Ok(None),
        (Err(_), Some(bytes)) => (read_built_in(bytes, clip, &path)?, None),
        (Err(source), None) => return Err(LoadError::Open { clip: clip.clone(), path, source }),
    };
    let edges = match clip {
        Clip::Music(_) => Edges::Loop,
        Clip::Prompt(_) => Edges::Silent,
    };
    Ok(Some(Loaded { sound: Encoded::new(&pcm, codec, edges), stamp }))
}

fn open(path: &Path) -> std::io::Result<(File, Stamp)> {
    // Looked at before it is opened: opening a named pipe would wait for its writer.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a file"));
    }
    let stamp = Stamp { modified: metadata.modified().ok(), length: metadata.len() };
    Ok((File::open(path)?, stamp))
}

fn read_built_in(bytes: &[u8], clip: &Clip, path: &Path) -> Result<Pcm, LoadError> {
    wav::read(bytes).map_err(|source| LoadError::Wav { clip: clip.clone(), path: path.into(), source })
}

/// Where a clip lies below the music folder. Names come from policies and plugins: they may go down, never up.
fn relative_path(clip: &Clip) -> Result<PathBuf, LoadError> {
    let (mut path, name) = match clip {
        Clip::Music(None) => return Ok("default.wav".into()),
        Clip::Music(Some(name)) => (PathBuf::new(), name),
        Clip::Prompt(name) => (PathBuf::from("prompts"), name),
    };
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || name.is_empty() || name.contains('\0') {
        return Err(LoadError::Name(clip.clone()));
    }
    path.push(name);
    if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("wav")) {
        path.as_mut_os_string().push(".wav");
    }
    Ok(path)
}

/// The project's own sounds, so that a host with an empty music folder still plays and counts.
fn built_in(clip: &Clip) -> Option<&'static [u8]> {
    macro_rules! prompts {
        ($name:expr, $($prompt:literal),*) => {
            match $name {
                $($prompt => Some(include_bytes!(concat!("../../../music/prompts/", $prompt, ".wav"))),)*
                _ => None,
            }
        };
    }
    match clip {
        Clip::Music(None) => Some(include_bytes!("../../../music/default.wav")),
        Clip::Music(Some(_)) => None,
        Clip::Prompt(name) => prompts!(
            name.as_str(),
            "parked-on",
            "digits/0",
            "digits/1",
            "digits/2",
            "digits/3",
            "digits/4",
            "digits/5",
            "digits/6",
            "digits/7",
            "digits/8",
            "digits/9",
            "digits/star",
            "digits/pound",
            "digits/hash"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::rtp::FRAME;
    use super::*;

    fn write(folder: &Path, name: &str, samples: &[i16]) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 8000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut file = hound::WavWriter::create(&path, spec).unwrap();
        samples.iter().for_each(|&sample| file.write_sample(sample).unwrap());
        file.finalize().unwrap();
        path
    }

    fn frames(folder: &Path, clip: Clip) -> Result<usize, String> {
        load(folder, &clip, Codec::Pcmu, None)
            .map(|loaded| loaded.unwrap().sound.frames())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn everything_built_in_plays_from_an_empty_folder() {
        let folder = tempfile::tempdir().unwrap();
        let music = frames(folder.path(), Clip::Music(None)).unwrap();
        assert_eq!(FRAME * music as u32, Duration::from_secs(24));
        let digits = "0123456789".chars().map(String::from);
        for name in digits.chain(["star", "pound", "hash"].map(String::from)) {
            let frames = frames(folder.path(), Clip::Prompt(format!("digits/{name}"))).unwrap();
            assert!((20..50).contains(&frames), "{name}: {frames} frames");
        }
        assert!(frames(folder.path(), Clip::Prompt("parked-on".into())).unwrap() > 40);
    }

    #[test]
    fn a_file_in_the_folder_goes_before_the_built_in_one() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "default.wav", &[100; 1600]);
        write(folder.path(), "jazz/slow.wav", &[100; 320]);
        write(folder.path(), "prompts/digits/7.wav", &[100; 480]);
        assert_eq!(frames(folder.path(), Clip::Music(None)), Ok(10));
        assert_eq!(frames(folder.path(), Clip::Music(Some("jazz/slow".into()))), Ok(2));
        assert_eq!(frames(folder.path(), Clip::Music(Some("jazz/slow.wav".into()))), Ok(2));
        assert_eq!(frames(folder.path(), Clip::Prompt("digits/7".into())), Ok(3));
    }

    #[test]
    fn a_broken_default_gives_way_to_the_built_in_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("default.wav"), "no music").unwrap();
        assert_eq!(frames(folder.path(), Clip::Music(None)), Ok(1200));
        fs::write(folder.path().join("other.wav"), "no music").unwrap();
        let why = frames(folder.path(), Clip::Music(Some("other".into()))).unwrap_err();
        assert!(why.contains("other.wav: not a WAV file"), "{why}");
    }

    #[test]
    fn names_never_lead_out_of_the_folder() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("music");
        fs::create_dir(&folder).unwrap();
        let secret = write(outside.path(), "secret.wav", &[1; 160]);
        for name in ["../secret", "a/../../secret", secret.to_str().unwrap(), "", "a\0b", "."] {
            let why = frames(&folder, Clip::Music(Some(name.into()))).unwrap_err();
            assert!(why.ends_with("is not the name of a file below the music folder"), "{why}");
            assert!(frames(&folder, Clip::Prompt(name.into())).is_err());
        }
    }

    #[test]
    fn what_is_missing_or_no_file_is_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let why = frames(folder.path(), Clip::Prompt("digits/x".into())).unwrap_err();
        assert!(why.contains("prompt \"digits/x\": cannot open"), "{why}");
        fs::create_dir(folder.path().join("x.wav")).unwrap();
        assert!(frames(folder.path(), Clip::Music(Some("x".into()))).unwrap_err().contains("not a file"));
    }

    #[test]
    fn an_unchanged_file_is_not_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "jazz.wav", &[100; 320]);
        let clip = Clip::Music(Some("jazz".into()));
        let first = load(folder.path(), &clip, Codec::Pcma, None).unwrap().unwrap();
        assert!(load(folder.path(), &clip, Codec::Pcma, Some(first.stamp)).unwrap().is_none());
        write(folder.path(), "jazz.wav", &[100; 640]);
        let second = load(folder.path(), &clip, Codec::Pcma, Some(first.stamp)).unwrap().unwrap();
        assert_eq!(second.sound.frames(), 4);
        let built_in = load(folder.path(), &Clip::Music(None), Codec::Pcma, Some(None)).unwrap();
        assert!(built_in.is_none());
    }
}

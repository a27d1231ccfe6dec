//! Encoded sound in memory: each clip once per codec, shared by all streams that play it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Codec;
use super::encode::Encoded;
use super::library::{Clip, Loaded, Stamp};
use crate::time::Instant;

/// All encoded sound together: more than two hours in one codec. Sound in use is never thrown out, so a new clip
/// is refused when the rest doesn't make enough room.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a clip is played without asking whether its file changed.
const FRESH: Duration = Duration::from_secs(10);

/// Clips on their way at once. Names come from policies and plugins, so more would be somebody's mistake.
const LOADING_MAX: usize = 256;

/// A clip in a codec.
pub type Key = (Clip, Codec);

/// Something to be loaded in the background.
#[derive(Clone, PartialEq, Debug)]
pub struct Load {
    /// What.
    pub key: Key,
    /// What we have already, to be loaded only if its file changed since.
    pub known: Option<Option<Stamp>>,
}

/// What a stream may play now.
#[derive(Clone, Debug)]
pub enum Sound {
    /// It is being loaded.
    Loading,
    /// Here it is.
    Ready(Arc<Encoded>),
    /// It cannot be played.
    Failed,
}

/// The cache. Loading itself is the business of whoever drains [`poll_load`](Self::poll_load).
#[derive(Debug)]
pub struct Cache {
    entries: BTreeMap<Key, Entry>,
    loads: VecDeque<Load>,
    bytes_max: usize,
}

#[derive(Debug)]
enum Entry {
    Loading,
    Ready { sound: Arc<Encoded>, stamp: Option<Stamp>, checked: Instant, used: Instant },
}

impl Cache {
    /// An empty cache.
    pub fn new() -> Self {
        Self { entries: BTreeMap::new(), loads: VecDeque::new(), bytes_max: BYTES_MAX }
    }

    /// Asks for a clip, to be played now. What is not here is loaded; what may have changed is looked after, and
    /// whoever asks later gets the new one.
    pub fn get(&mut self, now: Instant, key: &Key) -> Result<Sound, String> {
        match self.entries.get_mut(key) {
            Some(Entry::Loading) => Ok(Sound::Loading),
            Some(Entry::Ready { sound, stamp, checked, used }) => {
                *used = now;
                if now.saturating_since(*checked) >= FRESH {
                    *checked = now;
                    self.loads.push_back(Load { key: key.clone(), known: Some(*stamp) });
                }
                Ok(Sound::Ready(sound.clone()))
            }
            None => {
                let loading = self.entries.values().filter(|entry| matches!(entry, Entry::Loading)).count();
                if loading >= LOADING_MAX {
                    return Err(format!("{}: too many files are being loaded", key.0));
                }
                self.entries.insert(key.clone(), Entry::Loading);
                self.loads.push_back(Load { key: key.clone(), known: None });
                Ok(Sound::Loading)
            }
        }
    }

    /// Takes in what was loaded, and returns what those who wait for it may play. `None`: nobody waits, or
    /// nothing changed.
    pub fn loaded(
        &mut self,
        now: Instant,
        key: &Key,
        result: Result<Option<Loaded>, String>,
    ) -> Option<Result<Arc<Encoded>, String>> {
        let waiting = matches!(self.entries.get(key), Some(Entry::Loading));
        let Loaded { sound, stamp } = match result {
            Ok(Some(loaded)) => loaded,
            Ok(None) => return None,
            // Kept: what we have is better than silence. Otherwise forgotten, so that the next one tries again.
            Err(_) if !waiting => return None,
            Err(reason) => {
                self.entries.remove(key);
                return Some(Err(reason));
            }
        };
        self.entries.remove(key);
        if !self.make_room(sound.len()) {
            return waiting.then(|| Err(format!("{}: no room left for more music in memory", key.0)));
        }
        let sound = Arc::new(sound);
        let entry = Entry::Ready { sound: sound.clone(), stamp, checked: now, used: now };
        self.entries.insert(key.clone(), entry);
        waiting.then_some(Ok(sound))
    }

    /// The next clip to load.
    pub fn poll_load(&mut self) -> Option<Load> {
        self.loads.pop_front()
    }

    /// Throws out what nobody plays, longest unused first, until `wanted` more bytes fit.
    fn make_room(&mut self, wanted: usize) -> bool {
        loop {
            let mut bytes = wanted;
            let mut idle: Option<(Instant, &Key)> = None;
            for (key, entry) in &self.entries {
                let Entry::Ready { sound, used, .. } = entry else { continue };
                bytes += sound.len();
                if Arc::strong_count(sound) == 1 && idle.is_none_or(|(since, _)| *used < since) {
                    idle = Some((*used, key));
                }
            }
            if bytes <= self.bytes_max {
                return true;
            }
            let Some((_, key)) = idle else { return false };
            let key = key.clone();
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::resample::Edges;
    use super::super::wav::Pcm;
    use super::*;

    fn at(s: u64) -> Instant {
        Instant::after_start(Duration::from_secs(s))
    }

    fn key(name: &str) -> Key {
        (Clip::Prompt(name.into()), Codec::Pcmu)
    }

    fn sound(frames: usize) -> Loaded {
        let pcm = Pcm { rate: 8000, samples: vec![0; 160 * frames] };
        Loaded { sound: Encoded::new(&pcm, Codec::Pcmu, Edges::Silent), stamp: None }
    }

    #[test]
    fn a_clip_is_loaded_once_and_then_shared() {
        let mut cache = Cache::new();
        assert!(matches!(cache.get(at(0), &key("a")), Ok(Sound::Loading)));
        assert!(matches!(cache.get(at(0), &key("a")), Ok(Sound::Loading)));
        assert_eq!(cache.poll_load(), Some(Load { key: key("a"), known: None }));
        assert_eq!(cache.poll_load(), None);
        let first = cache.loaded(at(1), &key("a"), Ok(Some(sound(3)))).unwrap().unwrap();
        let Ok(Sound::Ready(second)) = cache.get(at(2), &key("a")) else { panic!("not there") };
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(cache.poll_load(), None);
    }

    #[test]
    fn a_changed_file_is_heard_by_those_who_come_later() {
        let mut cache = Cache::new();
        cache.get(at(0), &key("a")).unwrap();
        cache.poll_load();
        cache.loaded(at(0), &key("a"), Ok(Some(sound(3))));
        let Ok(Sound::Ready(old)) = cache.get(at(20), &key("a")) else { panic!("not there") };
        assert_eq!(cache.poll_load(), Some(Load { key: key("a"), known: Some(None) }));
        assert!(cache.loaded(at(20), &key("a"), Ok(Some(sound(5)))).is_none());
        let Ok(Sound::Ready(new)) = cache.get(at(21), &key("a")) else { panic!("not there") };
        assert_eq!((old.frames(), new.frames()), (3, 5));
        // A file that became unreadable is no reason to fall silent.
        cache.get(at(40), &key("a")).unwrap();
        assert!(cache.loaded(at(40), &key("a"), Err("gone".into())).is_none());
        assert!(matches!(cache.get(at(41), &key("a")), Ok(Sound::Ready(_))));
    }

    #[test]
    fn a_failure_is_told_and_tried_again() {
        let mut cache = Cache::new();
        cache.get(at(0), &key("a")).unwrap();
        cache.poll_load();
        assert_eq!(cache.loaded(at(0), &key("a"), Err("gone".into())), Some(Err("gone".into())));
        assert!(matches!(cache.get(at(1), &key("a")), Ok(Sound::Loading)));
        assert!(cache.poll_load().is_some());
    }

    #[test]
    fn memory_is_bounded_and_what_is_in_use_stays() {
        let mut cache = Cache { bytes_max: 160 * 10, ..Cache::new() };
        let load = |cache: &mut Cache, name: &str, second: u64| {
            let _ = cache.get(at(second), &key(name)).unwrap();
            cache.loaded(at(second), &key(name), Ok(Some(sound(4)))).unwrap()
        };
        let in_use = load(&mut cache, "a", 0).unwrap();
        drop(load(&mut cache, "b", 1).unwrap());
        let c = load(&mut cache, "c", 2).unwrap();
        let here: Vec<_> = cache.entries.keys().map(|(clip, _)| clip.to_string()).collect();
        assert_eq!(here, ["prompt \"a\"", "prompt \"c\""], "b was idle");
        assert!(load(&mut cache, "d", 3).unwrap_err().contains("no room"));
        drop((in_use, c));
        assert!(load(&mut cache, "d", 4).is_ok());
    }
}

//! What a stream plays next: its prompts one after the other, then its music over and over.

use std::collections::VecDeque;
use std::sync::Arc;

use super::cache::{Key, Sound};
use super::encode::Encoded;

/// One packet's worth of sound.
pub type Frame = (Arc<Encoded>, usize);

/// A clip of a playlist.
#[derive(Debug)]
pub struct Track {
    /// What it is.
    pub key: Key,
    /// Its sound, once there.
    pub sound: Sound,
}

/// A playlist under way.
#[derive(Debug, Default)]
pub struct Player {
    /// Prompts not yet finished.
    prompts: VecDeque<Track>,
    /// The next frame of the first of them.
    prompt_frame: usize,
    /// Whether the end of the prompts is still to be told.
    prompts_told: bool,
    music: Option<Track>,
    /// The next frame of the music. It outlives a new playlist with the same music: a change of the codec or of
    /// the address, or a number spoken in between, doesn't start the piece again.
    music_frame: usize,
}

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// This.
    Frame(Frame),
    /// Nothing for now, or for good.
    Silence,
}

impl Player {
    /// Begins another playlist.
    pub fn play(&mut self, prompts: VecDeque<Track>, music: Option<Track>) {
        let same = match (&self.music, &music) {
            (Some(before), Some(now)) => before.key.0 == now.key.0,
            (None, _) | (_, None) => false,
        };
        if !same {
            self.music_frame = 0;
        }
        self.prompts_told = prompts.is_empty();
        self.prompts = prompts;
        self.prompt_frame = 0;
        self.music = music;
    }

    /// Gives a clip that was being loaded to the tracks waiting for it. True if there were any.
    pub fn loaded(&mut self, key: &Key, sound: &Sound) -> bool {
        let mut any = false;
        for track in self.prompts.iter_mut().chain(&mut self.music) {
            if track.key == *key && matches!(track.sound, Sound::Loading) {
                track.sound = sound.clone();
                any = true;
            }
        }
        any
    }

    /// The next frame. `done` is called when the last prompt is over: its last frame was taken in an earlier call.
    pub fn next(&mut self, done: impl FnOnce()) -> Next {
        while let Some(track) = self.prompts.front() {
            match &track.sound {
                Sound::Loading => return Next::Silence,
                Sound::Ready(sound) if self.prompt_frame < sound.frames() => {
                    let frame = (sound.clone(), self.prompt_frame);
                    self.prompt_frame += 1;
                    return Next::Frame(frame);
                }
                Sound::Ready(_) | Sound::Failed => {
                    self.prompts.pop_front();
                    self.prompt_frame = 0;
                }
            }
        }
        if !std::mem::replace(&mut self.prompts_told, true) {
            done();
        }
        match self.music.as_ref().map(|track| &track.sound) {
            Some(Sound::Ready(sound)) if sound.frames() > 0 => {
                let frame = self.music_frame % sound.frames();
                self.music_frame = frame + 1;
                Next::Frame((sound.clone(), frame))
            }
            Some(Sound::Ready(_) | Sound::Loading | Sound::Failed) | None => Next::Silence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Codec;
    use super::super::library::Clip;
    use super::super::resample::Edges;
    use super::super::wav::Pcm;
    use super::*;

    fn sound(frames: usize) -> Sound {
        let pcm = Pcm { rate: 8000, samples: vec![0; 160 * frames] };
        Sound::Ready(Arc::new(Encoded::new(&pcm, Codec::Pcmu, Edges::Silent)))
    }

    fn prompt(name: &str, sound: Sound) -> Track {
        Track { key: (Clip::Prompt(name.into()), Codec::Pcmu), sound }
    }

    fn music(name: &str, codec: Codec, frames: usize) -> Option<Track> {
        Some(Track { key: (Clip::Music(Some(name.into())), codec), sound: sound(frames) })
    }

    /// Lengths of the sounds played and the frames of them, `-` for silence, `!` for the end of the prompts.
    fn next(player: &mut Player, times: usize) -> String {
        let mut heard = String::new();
        for _ in 0..times {
            let mut done = false;
            let next = player.next(|| done = true);
            if done {
                heard.push('!');
            }
            match next {
                Next::Frame((sound, frame)) => heard.push_str(&format!("{}.{frame} ", sound.frames())),
                Next::Silence => heard.push('-'),
            }
        }
        heard.trim_end().to_owned()
    }

    #[test]
    fn prompts_are_spoken_once_and_then_music_goes_round() {
        let mut player = Player::default();
        player.play([prompt("a", sound(2)), prompt("b", sound(1))].into(), music("m", Codec::Pcmu, 3));
        assert_eq!(next(&mut player, 8), "2.0 2.1 1.0 !3.0 3.1 3.2 3.0 3.1");
    }

    #[test]
    fn a_prompt_that_is_still_loading_is_waited_for_and_a_missing_one_skipped() {
        let mut player = Player::default();
        player.play([prompt("x", Sound::Failed), prompt("a", Sound::Loading)].into(), None);
        assert_eq!(next(&mut player, 2), "--");
        assert!(player.loaded(&(Clip::Prompt("a".into()), Codec::Pcmu), &sound(1)));
        assert!(!player.loaded(&(Clip::Prompt("a".into()), Codec::Pcma), &sound(1)));
        assert_eq!(next(&mut player, 3), "1.0 !--");
    }

    #[test]
    fn music_goes_on_where_it_was_after_a_change_of_codec_or_a_prompt() {
        let mut player = Player::default();
        player.play([].into(), music("m", Codec::Pcmu, 9));
        assert_eq!(next(&mut player, 2), "9.0 9.1");
        player.play([prompt("a", sound(1))].into(), music("m", Codec::G722, 9));
        assert_eq!(next(&mut player, 2), "1.0 !9.2");
        player.play([].into(), music("other", Codec::G722, 9));
        assert_eq!(next(&mut player, 1), "9.0");
        player.play([].into(), None);
        assert_eq!(next(&mut player, 1), "-");
    }
}

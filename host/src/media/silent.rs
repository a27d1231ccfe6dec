//! The media service as a simulated world sees it: the same answers, no sockets, no sound.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::ports::Ports;
use super::{Codec, Command, Event, Playlist, StreamId};
use crate::time::{Instant, Now};

/// What saying one prompt takes here; close to the real digits.
const PROMPT: Duration = Duration::from_millis(500);

/// Answers [`Command`]s as the real service would, in simulated time and without sending anything. Tests read
/// from it what would be heard, and press keys.
#[derive(Debug)]
pub struct Silent {
    address: IpAddr,
    ports: Ports,
    streams: BTreeMap<StreamId, Stream>,
    events: VecDeque<Event>,
}

#[derive(Debug)]
struct Stream {
    port: u16,
    sending: Option<Sending>,
    /// When to say that the prompts are done.
    prompts_done: Option<Instant>,
}

/// What a stream sends at present.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sending {
    /// Where RTP goes.
    pub remote: SocketAddr,
    /// The codec.
    pub codec: Codec,
    /// The payload type of telephone events the peer sends.
    pub dtmf: Option<u8>,
    /// What is played.
    pub playlist: Playlist,
    /// Since when this playlist is played.
    pub since: Instant,
}

impl Silent {
    /// A service on `address` that books pairs from `ports`.
    pub fn new(address: IpAddr, ports: RangeInclusive<u16>) -> Self {
        Self { address, ports: Ports::new(ports), streams: BTreeMap::new(), events: VecDeque::new() }
    }

    /// Takes one command. Drain [`poll_event`](Self::poll_event) afterwards.
    pub fn handle(&mut self, now: Now, command: Command) {
        match command {
            Command::Open { stream } => self.open(now, stream),
            Command::Send { stream, remote, rtcp: _, codec, payload_type: _, dtmf, playlist } => {
                let Some(open) = self.streams.get_mut(&stream) else { return };
                let prompts = u32::try_from(playlist.prompts.len()).unwrap_or(u32::MAX);
                open.prompts_done = (prompts > 0).then(|| now.instant + PROMPT.saturating_mul(prompts));
                open.sending = Some(Sending { remote, codec, dtmf, playlist, since: now.instant });
            }
            Command::Pause { stream } => {
                if let Some(open) = self.streams.get_mut(&stream) {
                    open.sending = None;
                    open.prompts_done = None;
                }
            }
            Command::Close { stream } => {
                if let Some(closed) = self.streams.remove(&stream) {
                    self.ports.release(closed.port);
                }
            }
        }
    }

    fn open(&mut self, now: Now, stream: StreamId) {
        if self.streams.contains_key(&stream) {
            return;
        }
        self.events.push_back(match self.ports.place(now.instant, |_| Ok(())) {
            Ok(port) => {
                self.streams.insert(stream, Stream { port, sending: None, prompts_done: None });
                Event::Opened { stream, local: SocketAddr::new(self.address, port) }
            }
            Err(why) => Event::Failed { stream, reason: why.to_string() },
        });
    }

    /// When the next prompts end.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.streams.values().filter_map(|stream| stream.prompts_done).min()
    }

    /// Ends prompts whose time has come. Early or repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now) {
        for (&stream, state) in &mut self.streams {
            if state.prompts_done.take_if(|due| *due <= now.instant).is_some() {
                self.events.push_back(Event::PromptsDone { stream });
            }
        }
    }

    /// The next event for the engine.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The far end presses a key: heard if the stream was told of a payload type for it.
    pub fn press(&mut self, stream: StreamId, digit: char, held: Duration) {
        let hears = self.sending(stream).is_some_and(|sending| sending.dtmf.is_some());
        if hears {
            let duration_ms = u32::try_from(held.as_millis()).unwrap_or(u32::MAX);
            self.events.push_back(Event::Digit { stream, digit, duration_ms });
        }
    }

    /// What `stream` sends; `None` while it is paused or if there is no such stream.
    pub fn sending(&self, stream: StreamId) -> Option<&Sending> {
        self.streams.get(&stream)?.sending.as_ref()
    }

    /// What is sent to `remote`, by whichever stream.
    pub fn heard_at(&self, remote: SocketAddr) -> Option<&Sending> {
        self.streams.values().filter_map(|stream| stream.sending.as_ref()).find(|sent| sent.remote == remote)
    }

    /// All open streams; none should be left when no call is.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> {
        self.streams.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Background;

    fn at(ms: u64) -> Now {
        Now { instant: Instant::after_start(Duration::from_millis(ms)), ..Now::default() }
    }

    fn send(stream: StreamId, prompts: &[&str]) -> Command {
        Command::Send {
            stream,
            remote: "10.0.0.7:4000".parse().unwrap(),
            rtcp: "10.0.0.7:4001".parse().unwrap(),
            codec: Codec::Pcma,
            payload_type: 8,
            dtmf: Some(101),
            playlist: Playlist {
                prompts: prompts.iter().map(|name| name.to_string()).collect(),
                then: Background::Music(None),
            },
        }
    }

    #[test]
    fn answers_open_with_a_port_and_says_when_prompts_are_done() {
        let stream = StreamId(1);
        let mut media = Silent::new("10.0.0.1".parse().unwrap(), 20000..=20099);
        media.handle(at(0), Command::Open { stream });
        let local = "10.0.0.1:20000".parse().unwrap();
        assert_eq!(media.poll_event(), Some(Event::Opened { stream, local }));
        media.handle(at(0), send(stream, &["parked-on", "digits/7"]));
        assert_eq!(media.heard_at("10.0.0.7:4000".parse().unwrap()).unwrap().codec, Codec::Pcma);
        assert_eq!(media.next_timeout(), Some(at(1000).instant));
        media.on_timeout(at(999));
        assert_eq!(media.poll_event(), None);
        media.on_timeout(at(1000));
        assert_eq!(media.poll_event(), Some(Event::PromptsDone { stream }));
        assert_eq!(media.next_timeout(), None);
        media.press(stream, '5', Duration::from_millis(80));
        assert_eq!(media.poll_event(), Some(Event::Digit { stream, digit: '5', duration_ms: 80 }));
        media.handle(at(2000), Command::Pause { stream });
        assert_eq!(media.sending(stream), None);
        media.handle(at(2000), Command::Close { stream });
        assert_eq!(media.streams().count(), 0);
    }

    #[test]
    fn refuses_when_no_port_is_left() {
        let mut media = Silent::new("10.0.0.1".parse().unwrap(), 20001..=20001);
        media.handle(at(0), Command::Open { stream: StreamId(1) });
        assert!(matches!(media.poll_event(), Some(Event::Failed { .. })));
        assert_eq!(media.streams().count(), 0);
    }
}

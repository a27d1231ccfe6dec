//! All streams, without sockets, files and clock: commands, turns and datagrams go in; packets, events and wishes
//! for sound come out.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::cache::{Cache, Key, Load, Sound};
use super::encode::Encoded;
use super::library::{Clip, Loaded};
use super::pacer::{Pacer, Turn};
use super::play::Track;
use super::rtp::{self, HEADER_LEN};
use super::stream::{Source, Stream, Target};
use super::{Background, Codec, Event, Playlist, StreamId};
use crate::time::{Instant, Now};

/// Prompts in one playlist: an orbit's number and some words around it, many times over.
const PROMPTS_MAX: usize = 64;

/// An RTP packet to send: its header, and which frame of which sound follows it.
#[derive(Clone, Debug)]
pub struct Packet {
    /// From the even port of this pair.
    pub port: u16,
    /// To here.
    pub to: SocketAddr,
    /// The RTP header.
    pub header: [u8; HEADER_LEN],
    /// The sound.
    pub sound: Arc<Encoded>,
    /// Which frame of it.
    pub frame: usize,
}

impl Packet {
    /// What follows the header.
    pub fn payload(&self) -> &[u8] {
        self.sound.frame(self.frame).unwrap_or_default()
    }
}

/// An RTCP packet to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// From the odd port of this pair.
    pub port: u16,
    /// To here.
    pub to: SocketAddr,
    /// The compound packet.
    pub bytes: Vec<u8>,
}

/// All streams of a host.
#[derive(Debug)]
pub struct Streams {
    local: IpAddr,
    /// Streams by member number, which is what the pacer knows them by.
    members: Vec<Option<Stream>>,
    free: Vec<usize>,
    by_id: BTreeMap<StreamId, usize>,
    by_port: BTreeMap<u16, Vec<usize>>,
    pacer: Pacer,
    cache: Cache,
    events: VecDeque<Event>,
    cname: String,
    rng: ChaCha12Rng,
}

impl Streams {
    /// No streams yet. `local` is where they will send from.
    pub fn new(local: IpAddr, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        // Says nothing about the host or its users, and lasts as long as this process (RFC 7022 §4.2).
        let cname = format!("{:024x}", rng.random::<u128>() >> 32);
        Self {
            local,
            members: Vec::new(),
            free: Vec::new(),
            by_id: BTreeMap::new(),
            by_port: BTreeMap::new(),
            pacer: Pacer::new(),
            cache: Cache::new(),
            events: VecDeque::new(),
            cname,
            rng,
        }
    }

    /// How many streams are open.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether a stream is open.
    pub fn contains(&self, id: StreamId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Open streams.
    pub fn ids(&self) -> impl Iterator<Item = StreamId> {
        self.by_id.keys().copied()
    }

    /// A new stream on the pair of `port`, paused. Must not be open yet.
    pub fn open(&mut self, now: Now, id: StreamId, port: u16) {
        if self.pacer.is_empty() {
            self.pacer.resume(now.instant);
        }
        let member = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            self.members.len() - 1
        });
        let slot = self.pacer.join(member);
        self.members[member] = Some(Stream::new(id, port, slot, &mut self.rng));
        self.by_id.insert(id, member);
        self.by_port.entry(port).or_default().push(member);
        self.events.push_back(Event::Opened { stream: id, local: SocketAddr::new(self.local, port) });
    }

    /// Sends `playlist` to `target`. An unknown stream is one that was closed meanwhile: nothing happens.
    pub fn send(&mut self, now: Now, id: StreamId, target: Target, codec: Codec, playlist: Playlist) {
        let Some(stream) = self.by_id.get(&id).and_then(|&member| self.members[member].as_mut()) else {
            return;
        };
        if target.remote.port() == 0 || target.remote.ip().is_unspecified() {
            // The old way to ask for hold: there is nowhere to send to (RFC 3264 §8.4).
            return stream.pause();
        }
        if target.remote.is_ipv4() != self.local.is_ipv4() {
            stream.pause();
            let reason = format!("cannot send from {} to {}", self.local, target.remote);
            self.events.push_back(Event::Failed { stream: id, reason });
            return;
        }
        let mut track = |clip| {
            let key = (clip, codec);
            let sound = self.cache.get(now.instant, &key).unwrap_or_else(|reason| {
                self.events.push_back(Event::Failed { stream: id, reason });
                Sound::Failed
            });
            Track { key, sound }
        };
        let prompts =
            playlist.prompts.into_iter().take(PROMPTS_MAX).map(|name| track(Clip::Prompt(name))).collect();
        let music = match playlist.then {
            Background::Silence => None,
            Background::Music(name) => Some(track(Clip::Music(name))),
        };
        stream.direct(now, target, &mut self.rng);
        stream.player.play(prompts, music);
    }

    /// Stops a stream's sending and listening.
    pub fn pause(&mut self, id: StreamId) {
        if let Some(stream) = self.by_id.get(&id).and_then(|&member| self.members[member].as_mut()) {
            stream.pause();
        }
    }

    /// Ends a stream. Returns its port, to be released, and its good-bye.
    pub fn close(&mut self, now: Now, id: StreamId) -> Option<(u16, Option<Report>)> {
        let member = self.by_id.remove(&id)?;
        let stream = self.members[member].take()?;
        self.free.push(member);
        self.pacer.leave(member, stream.slot);
        if let Some(members) = self.by_port.get_mut(&stream.port) {
            members.retain(|&other| other != member);
            if members.is_empty() {
                self.by_port.remove(&stream.port);
            }
        }
        let report =
            stream.goodbye(now, &self.cname).map(|(to, bytes)| Report { port: stream.port, to, bytes });
        Some((stream.port, report))
    }

    /// The next slot whose time has come. Serve it with [`packets`](Self::packets).
    pub fn turn(&mut self, now: Instant) -> Option<Turn> {
        self.pacer.turn(now)
    }

    /// When the next slot comes; `None` if no stream is open.
    pub fn next_turn(&self) -> Option<Instant> {
        self.pacer.next()
    }

    /// Packets never sent because their turn came too late, since the last call.
    pub fn take_skipped(&mut self) -> u64 {
        self.pacer.take_skipped()
    }

    /// What the streams of a slot send in this turn, those of one port together.
    pub fn packets(&mut self, now: Now, turn: Turn, packets: &mut Vec<Packet>, reports: &mut Vec<Report>) {
        for &member in self.pacer.members(turn.slot) {
            let Some(stream) = &mut self.members[member] else { continue };
            let events = &mut self.events;
            let id = stream.id;
            stream.keys.on_timeout(now.instant, |key| events.push_back(digit(id, key)));
            if let Some((to, header, (sound, frame))) = stream.packet(turn, |event| events.push_back(event)) {
                packets.push(Packet { port: stream.port, to, header, sound, frame });
            }
            if let Some((to, bytes)) = stream.report(now, &self.cname, &mut self.rng) {
                reports.push(Report { port: stream.port, to, bytes });
            }
        }
        packets.sort_by_key(|packet| packet.port);
    }

    /// A datagram came in on the even port of a pair. Keys are looked for, everything else is nothing to us.
    pub fn receive(&mut self, now: Now, port: u16, from: SocketAddr, datagram: &[u8]) {
        let Some((header, payload)) = rtp::parse(datagram) else { return };
        let Some(member) = self.speaker(port, from, &header) else { return };
        let Some(stream) = &mut self.members[member] else { return };
        if stream.target.and_then(|target| target.dtmf) == Some(header.payload_type) {
            let (id, events) = (stream.id, &mut self.events);
            stream.keys.receive(now.instant, &header, payload, |key| events.push_back(digit(id, key)));
        }
    }

    /// Whose far end a packet comes from: by the signalled address, else by an address known from before, else the
    /// only stream of the port that could still be meant. In doubt, nobody's. Where we send is never changed by it.
    fn speaker(&mut self, port: u16, from: SocketAddr, header: &rtp::Header) -> Option<usize> {
        let here = self.by_port.get(&port)?;
        let streams = &self.members;
        let all =
            || here.iter().filter_map(|&member| streams[member].as_ref().map(|stream| (member, stream)));
        let hears =
            |stream: &Stream| stream.target.and_then(|target| target.dtmf) == Some(header.payload_type);

        let is_signalled = |stream: &Stream| stream.target.is_some_and(|target| target.remote == from);
        let (member, source) = if all().any(|(_, stream)| is_signalled(stream)) {
            (only(all().filter(|(_, stream)| is_signalled(stream)))?, Source::Signalled)
        } else {
            let stray = Source::Stray(from, header.ssrc);
            let known = all().find(|(_, stream)| stream.source == stray).map(|(member, _)| member);
            let new = || only(all().filter(|(_, stream)| hears(stream) && stream.source == Source::Unknown));
            (known.or_else(new)?, stray)
        };
        self.members[member].as_mut()?.source = source;
        Some(member)
    }

    /// Sound that was wished for has come, or cannot.
    pub fn loaded(&mut self, now: Now, key: &Key, result: Result<Option<Loaded>, String>) {
        let Some(result) = self.cache.loaded(now.instant, key, result) else { return };
        let sound = match &result {
            Ok(sound) => Sound::Ready(sound.clone()),
            Err(_) => Sound::Failed,
        };
        for stream in self.members.iter_mut().flatten() {
            let waited = stream.player.loaded(key, &sound);
            if let (true, Err(reason)) = (waited, &result) {
                self.events.push_back(Event::Failed { stream: stream.id, reason: reason.clone() });
            }
        }
    }

    /// The next event for the engine.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next clip to load; its outcome comes back through [`loaded`](Self::loaded).
    pub fn poll_load(&mut self) -> Option<Load> {
        self.cache.poll_load()
    }
}

fn digit(stream: StreamId, key: super::dtmf::Key) -> Event {
    Event::Digit { stream, digit: key.digit, duration_ms: key.duration_ms }
}

/// The member if there is exactly one.
fn only<'a>(mut members: impl Iterator<Item = (usize, &'a Stream)>) -> Option<usize> {
    let (member, _) = members.next()?;
    members.next().is_none().then_some(member)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::rtp::Header;
    use super::super::{encode::sample_rate, resample::Edges, wav::Pcm};
    use super::*;
    use crate::time::Utc;

    const PORT: u16 = 20_000;

    /// Streams in simulated time. Every packet is kept with the millisecond it was sent at.
    struct World {
        streams: Streams,
        ms: u64,
        sent: Vec<(u64, Packet)>,
        reports: Vec<(u64, Report)>,
        /// How many frames a clip has that is wished for; `None`: there is no such file.
        clips: fn(&Clip) -> Option<usize>,
    }

    impl World {
        fn new() -> Self {
            let clips = |clip: &Clip| match clip {
                Clip::Music(None) => Some(1000),
                Clip::Music(Some(name)) => (name != "missing").then_some(50),
                Clip::Prompt(name) => (name != "missing").then_some(5),
            };
            let local = IpAddr::from([10, 0, 0, 1]);
            Self { streams: Streams::new(local, [7; 32]), ms: 1001, sent: vec![], reports: vec![], clips }
        }

        fn now(&self) -> Now {
            Now {
                instant: Instant::after_start(Duration::from_millis(self.ms)),
                utc: Utc(1_000_000 + self.ms),
            }
        }

        fn open(&mut self, id: u64) -> StreamId {
            let id = StreamId(id);
            self.streams.open(self.now(), id, PORT);
            let local = SocketAddr::new(IpAddr::from([10, 0, 0, 1]), PORT);
            assert_eq!(self.streams.poll_event(), Some(Event::Opened { stream: id, local }));
            id
        }

        fn send(
            &mut self,
            id: StreamId,
            remote: SocketAddr,
            codec: Codec,
            prompts: &[&str],
            then: Background,
        ) {
            let rtcp = SocketAddr::new(remote.ip(), remote.port() + 1);
            let target = Target { remote, rtcp, payload_type: codec.payload_type(), dtmf: Some(101) };
            let prompts = prompts.iter().map(|name| name.to_string()).collect();
            self.streams.send(self.now(), id, target, codec, Playlist { prompts, then });
        }

        fn music(&mut self, id: StreamId, host: u8) {
            self.send(id, phone(host), Codec::Pcmu, &[], Background::Music(None));
        }

        fn load(&mut self) {
            while let Some(Load { key, known: None }) = self.streams.poll_load() {
                let loaded = (self.clips)(&key.0).map(|frames| {
                    let rate = sample_rate(key.1);
                    let pcm = Pcm { rate, samples: vec![0; frames * rate as usize / 50] };
                    Some(Loaded { sound: Encoded::new(&pcm, key.1, Edges::Silent), stamp: None })
                });
                self.streams.loaded(self.now(), &key, loaded.ok_or_else(|| format!("{} is missing", key.0)));
            }
        }

        fn run(&mut self, ms: u64) -> &mut Self {
            for _ in 0..ms {
                self.ms += 1;
                self.turns();
            }
            self
        }

        fn turns(&mut self) {
            self.load();
            let now = self.now();
            while let Some(turn) = self.streams.turn(now.instant) {
                let (mut packets, mut reports) = (Vec::new(), Vec::new());
                self.streams.packets(now, turn, &mut packets, &mut reports);
                self.sent.extend(packets.into_iter().map(|packet| (self.ms, packet)));
                self.reports.extend(reports.into_iter().map(|report| (self.ms, report)));
            }
        }

        fn take(&mut self) -> Vec<(u64, Header, SocketAddr, usize)> {
            let taken = self.sent.drain(..);
            taken
                .map(|(ms, packet)| (ms, rtp::parse(&packet.header).unwrap().0, packet.to, packet.frame))
                .collect()
        }

        fn events(&mut self) -> Vec<Event> {
            std::iter::from_fn(|| self.streams.poll_event()).collect()
        }

        /// A telephone event from `from`, at its end.
        fn press(&mut self, from: SocketAddr, ssrc: u32, timestamp: u32, event: u8) {
            let header = Header { marker: true, payload_type: 101, sequence: 1, timestamp, ssrc };
            let datagram = [&header.to_bytes()[..], &[event, 0x8a, 3, 0x20]].concat();
            self.streams.receive(self.now(), PORT, from, &datagram);
        }
    }

    fn phone(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 1, host], 4000))
    }

    #[test]
    fn packets_leave_every_twenty_milliseconds_and_count_on() {
        let mut world = World::new();
        let id = world.open(1);
        world.music(id, 1);
        world.run(10_000);
        let sent = world.take();
        assert_eq!(sent.len(), 500);
        assert!(sent[0].1.marker, "a talk spurt begins");
        for pair in sent.windows(2) {
            let [(ms, header, to, frame), (next_ms, next, ..)] = pair else { unreachable!() };
            assert_eq!(next_ms - ms, 20);
            assert_eq!(next.sequence, header.sequence.wrapping_add(1));
            assert_eq!(next.timestamp, header.timestamp.wrapping_add(160));
            assert_eq!((next.ssrc, next.marker, next.payload_type), (header.ssrc, false, 0));
            assert_eq!(*to, phone(1));
            assert_eq!(*frame, (header.sequence - sent[0].1.sequence) as usize);
        }
    }

    /// The whole point of keeping a stream: a re-INVITE changes address, codec and music, never SSRC, sequence
    /// numbers or the pace of time stamps (facts: "MOH switch inside one RTP stream").
    #[test]
    fn a_pause_or_a_new_playlist_never_breaks_the_stream() {
        let mut world = World::new();
        let id = world.open(1);
        world.music(id, 1);
        world.run(1000);
        let before = world.take();
        world.streams.pause(id);
        world.run(7003);
        assert_eq!(world.take(), []);
        world.send(id, phone(2), Codec::G722, &["digits/7"], Background::Music(None));
        world.run(1000);
        let after = world.take();
        let ((_, last, ..), (ms, first, to, _)) = (before[before.len() - 1], after[0]);
        assert_eq!((first.ssrc, first.sequence), (last.ssrc, last.sequence.wrapping_add(1)));
        assert_eq!((first.marker, first.payload_type, to), (true, 9, phone(2)));
        let elapsed = (ms - before[before.len() - 1].0) as u32;
        assert_eq!(first.timestamp.wrapping_sub(last.timestamp), elapsed * 8, "real time went on");
        assert!(after[1..].iter().all(|(_, header, ..)| !header.marker));
        // The music goes on where it was.
        assert_eq!(after[5].3, before[before.len() - 1].3 + 1);
        // Without a pause not even the marker is set.
        world.send(id, phone(2), Codec::Pcma, &[], Background::Music(Some("jazz".into())));
        world.run(200);
        assert!(world.take().iter().all(|(_, header, ..)| !header.marker && header.payload_type == 8));
    }

    #[test]
    fn lateness_leaves_a_gap_in_time_never_a_burst() {
        let mut world = World::new();
        let id = world.open(1);
        world.music(id, 1);
        world.run(100);
        let before = world.take();
        world.ms += 500; // the machine stood still
        world.run(100);
        let after = world.take();
        assert_eq!(world.streams.take_skipped(), 24);
        assert!(after.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 18), "no burst");
        let ((_, last, ..), (_, first, _, frame)) = (before[before.len() - 1], after[0]);
        assert_eq!(first.sequence, last.sequence.wrapping_add(1), "nothing was lost on the way");
        assert_eq!(first.timestamp.wrapping_sub(last.timestamp), 25 * 160);
        assert!(first.marker);
        assert_eq!(frame, before.len(), "and nothing of the sound is missing");
    }

    #[test]
    fn a_thousand_streams_share_the_milliseconds_fairly() {
        let mut world = World::new();
        for n in 0..1000 {
            let id = world.open(n);
            world.send(id, phone(n as u8), Codec::Pcmu, &[], Background::Music(None));
        }
        world.run(40);
        world.take();
        world.run(200);
        let sent = world.take();
        assert_eq!(sent.len(), 10 * 1000);
        for ms in sent[0].0..sent[0].0 + 200 {
            assert_eq!(sent.iter().filter(|packet| packet.0 == ms).count(), 50);
        }
        let mut ssrcs: Vec<u32> = sent.iter().map(|packet| packet.1.ssrc).collect();
        ssrcs.sort_unstable();
        ssrcs.dedup();
        assert_eq!(ssrcs.len(), 1000, "each its own source");
    }

    #[test]
    fn prompts_come_first_and_their_end_is_told_once() {
        let mut world = World::new();
        let id = world.open(1);
        world.send(id, phone(1), Codec::Pcmu, &["parked-on", "digits/7"], Background::Silence);
        world.run(199);
        assert_eq!(world.take().len(), 10);
        assert_eq!(world.events(), []);
        world.run(400);
        assert_eq!(world.events(), [Event::PromptsDone { stream: id }]);
        assert_eq!(world.take(), [], "silence is no packets");
    }

    #[test]
    fn a_missing_file_is_told_and_the_rest_is_played() {
        let mut world = World::new();
        let id = world.open(1);
        world.send(
            id,
            phone(1),
            Codec::Pcmu,
            &["missing", "digits/7"],
            Background::Music(Some("missing".into())),
        );
        world.run(400);
        let reason = |clip: &str| format!("{clip} \"missing\" is missing");
        let expected = [
            Event::Failed { stream: id, reason: reason("prompt") },
            Event::Failed { stream: id, reason: reason("music") },
            Event::PromptsDone { stream: id },
        ];
        assert_eq!(world.events(), expected);
        assert_eq!(world.take().len(), 5);
    }

    #[test]
    fn reports_come_while_sending_and_say_goodbye_at_the_end() {
        let mut world = World::new();
        let id = world.open(1);
        world.music(id, 1);
        world.run(60_000);
        let count = world.reports.len();
        assert!((9..=20).contains(&count), "{count} in a minute");
        let (ms, report) = world.reports[1].clone();
        assert_eq!((report.port, report.to), (PORT, "10.0.1.1:4001".parse().unwrap()));
        let word = |at: usize| u32::from_be_bytes(report.bytes[at..at + 4].try_into().unwrap());
        let sent = world.take();
        let before: Vec<_> = sent.iter().filter(|packet| packet.0 <= ms).collect();
        let last = before[before.len() - 1];
        assert_eq!(report.bytes[1], 200);
        assert_eq!(word(4), last.1.ssrc);
        assert_eq!(
            word(16),
            last.1.timestamp.wrapping_add(8 * (ms - last.0) as u32),
            "the same moment in both clocks"
        );
        assert_eq!(word(20) as usize, before.len());
        assert_eq!(word(24) as usize, before.len() * 160);

        // A stream that is silent for longer is no sender any more, and a paused one says nothing.
        world.send(id, phone(1), Codec::Pcmu, &[], Background::Silence);
        world.reports.clear();
        world.run(40_000);
        assert_eq!(world.reports.last().unwrap().1.bytes[1], 201);
        world.streams.pause(id);
        world.reports.clear();
        world.run(20_000);
        assert_eq!(world.reports, []);

        world.music(id, 1);
        world.run(100);
        let now = world.now();
        let (port, goodbye) = world.streams.close(now, id).unwrap();
        assert_eq!(port, PORT);
        let bytes = goodbye.unwrap().bytes;
        assert_eq!(bytes[bytes.len() - 7], 203);
        assert!(world.streams.close(now, id).is_none());
        world.take();
        world.run(1000);
        assert_eq!((world.take().len(), world.streams.len()), (0, 0));
    }

    #[test]
    fn a_stream_that_never_sent_leaves_without_a_word() {
        let mut world = World::new();
        let id = world.open(1);
        let now = world.now();
        assert_eq!(world.streams.close(now, id), Some((PORT, None)));
        assert_eq!(world.streams.next_turn(), None, "nothing to do: the thread may sleep");
    }

    #[test]
    fn nowhere_to_send_is_silence_and_another_family_a_failure() {
        let mut world = World::new();
        let id = world.open(1);
        world.music(id, 1);
        world.send(id, "0.0.0.0:4000".parse().unwrap(), Codec::Pcmu, &[], Background::Music(None));
        world.run(100);
        assert_eq!((world.take().len(), world.events()), (0, vec![]));
        world.send(id, "[2001:db8::1]:4000".parse().unwrap(), Codec::Pcmu, &[], Background::Music(None));
        world.run(100);
        assert_eq!(world.take().len(), 0);
        assert!(matches!(&world.events()[..], [Event::Failed { .. }]));
    }

    #[test]
    fn keys_find_their_stream_by_where_they_come_from() {
        let mut world = World::new();
        let [one, two] = [world.open(1), world.open(2)];
        world.music(one, 1);
        world.music(two, 2);
        world.press(phone(2), 77, 1000, 5);
        world.press(phone(1), 78, 1000, 11);
        let digit = |stream, digit| Event::Digit { stream, digit, duration_ms: 100 };
        assert_eq!(world.events(), [digit(two, '5'), digit(one, '#')]);
        world.streams.pause(two);
        world.press(phone(2), 77, 9000, 5);
        assert_eq!(world.events(), [], "a paused stream doesn't listen");
    }

    #[test]
    fn a_phone_behind_a_nat_is_heard_but_never_sent_to() {
        let mut world = World::new();
        let [one, two] = [world.open(1), world.open(2)];
        world.music(one, 1);
        world.music(two, 2);
        let nat = "192.0.2.5:61000".parse().unwrap();
        world.press(nat, 99, 1000, 1);
        assert_eq!(world.events(), [], "it could be either");
        world.press(phone(1), 77, 1000, 2);
        world.press(nat, 99, 2000, 3);
        let digit = |stream, digit| Event::Digit { stream, digit, duration_ms: 100 };
        assert_eq!(world.events(), [digit(one, '2'), digit(two, '3')], "only one is left");
        // A stranger comes too late for both.
        world.press("203.0.113.66:5".parse().unwrap(), 100, 3000, 9);
        assert_eq!(world.events(), []);
        world.run(100);
        assert!(world.take().iter().all(|packet| packet.2 == phone(1) || packet.2 == phone(2)));
        // The signalled address speaks up: from now on it alone is believed.
        world.press(phone(2), 101, 1000, 4);
        world.press(nat, 99, 4000, 5);
        assert_eq!(world.events(), [digit(two, '4')]);
    }

    #[test]
    fn the_same_seed_sends_the_same_packets() {
        let run = || {
            let mut world = World::new();
            let id = world.open(1);
            world.music(id, 1);
            world.run(6000);
            (world.take(), world.reports)
        };
        assert_eq!(run(), run());
    }
}

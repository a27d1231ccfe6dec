//! The media thread: the only place here that waits, reads the clock and owns sockets.

use std::collections::BTreeMap;
use std::io;
use std::panic;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use metrics::{Counter, counter};

use super::cache::{Key, Load};

use super::library::{self, Loaded};
use super::pacer::SLOTS;
use super::pair::Pair;
use super::ports::Ports;
use super::rtp::FRAME;
use super::stream::Target;
use super::streams::{Packet, Report, Streams};
use super::{Command, Event, MediaConfig, StreamId};
use crate::runtime::Clock;
use crate::time::{Instant, Now};

/// Streams of a host. One core sends for 6 to 7 thousand (measured); the next ones are refused a port, as a
/// silent orbit beats music that stutters for all.
pub const STREAMS_MAX: usize = 6000;

/// Commands on their way to the media thread, which takes them at least once a millisecond. An engine that puts
/// more into the queue than this waits for it, as it is faster than the network could be.
const INBOX_MAX: usize = 4096;

/// Commands taken between two looks at the pacer: some 100 µs of work.
const COMMANDS_MAX: usize = 64;

/// Clips waiting for the loader; more are refused.
const LOADS_MAX: usize = 256;

/// The media service. Dropping it says good-bye on all streams and closes their ports.
#[derive(Debug)]
pub struct Service {
    inbox: SyncSender<Inbox>,
    thread: Option<JoinHandle<()>>,
}

enum Inbox {
    Command(Command),
    Loaded(Key, Result<Option<Loaded>, String>),
    Stop,
}

impl Service {
    /// Starts the media thread, and one more that reads and encodes files. `events` is called on the media thread:
    /// while it waits nothing is sent, so it must not wait for the engine.
    ///
    /// Fails only if the system gives no thread. Ports are opened when streams need them.
    pub fn start(config: MediaConfig, events: impl Fn(Event) + Send + 'static) -> io::Result<Service> {
        let (inbox, commands) = sync_channel(INBOX_MAX);
        let loader = spawn_loader(config.music.clone(), inbox.clone())?;
        let thread = thread::Builder::new().name("media".into()).spawn(move || {
            Pacing::new(config, events, loader).run(&commands);
        })?;
        Ok(Service { inbox, thread: Some(thread) })
    }

    /// Hands a command over. Waits only if thousands are waiting already.
    pub fn send(&self, command: Command) {
        if self.inbox.send(Inbox::Command(command)).is_err() {
            tracing::error!("the media thread is gone: no music, no prompts until a restart");
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only if the thread ended before.
        let _ = self.inbox.send(Inbox::Stop);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Reads and encodes files, one after the other, so that the pacer never waits for a disk.
fn spawn_loader(music: PathBuf, inbox: SyncSender<Inbox>) -> io::Result<SyncSender<Load>> {
    let (loader, loads) = sync_channel::<Load>(LOADS_MAX);
    thread::Builder::new().name("media-loader".into()).spawn(move || {
        for Load { key, known } in loads {
            // Files come from people. One that some decoder panics at must not take all later ones with it.
            let load = || library::load(&music, &key.0, key.1, known).map_err(|error| error.to_string());
            let result =
                panic::catch_unwind(load).unwrap_or_else(|_| Err(format!("{}: its decoder panicked", key.0)));
            if inbox.send(Inbox::Loaded(key, result)).is_err() {
                return;
            }
        }
    })?;
    Ok(loader)
}

/// Looked up once: the pacer counts a thousand times a second.
struct Counters {
    sent: Counter,
    failed: Counter,
    skipped: Counter,
}

impl Counters {
    fn new() -> Self {
        Self {
            sent: counter!("switchyard_media_packets_total"),
            failed: counter!("switchyard_media_send_errors_total"),
            skipped: counter!("switchyard_media_skipped_total"),
        }
    }
}

struct Pacing<E> {
    clock: Clock,
    config: MediaConfig,
    events: E,
    loader: SyncSender<Load>,
    streams: Streams,
    ports: Ports,
    pairs: BTreeMap<u16, Pair>,
    /// When to read the sockets next.
    next_read: Instant,
    packets: Vec<Packet>,
    reports: Vec<Report>,
    counters: Counters,
}

impl<E: Fn(Event)> Pacing<E> {
    fn new(config: MediaConfig, events: E, loader: SyncSender<Load>) -> Self {
        Self {
            clock: Clock::start(),
            streams: Streams::new(config.address, config.seed),
            ports: Ports::new(config.ports.clone()),
            config,
            events,
            loader,
            pairs: BTreeMap::new(),
            next_read: Instant::ZERO,
            packets: Vec::new(),
            reports: Vec::new(),
            counters: Counters::new(),
        }
    }

    /// Until told to stop.
    fn run(&mut self, inbox: &Receiver<Inbox>) {
        loop {
            self.pace();
            self.read();
            self.tell();
            for n in 0..COMMANDS_MAX {
                let next = match n {
                    0 => self.wait(inbox),
                    _ => inbox.try_recv(),
                };
                match next {
                    Ok(Inbox::Command(command)) => self.command(command),
                    Ok(Inbox::Loaded(key, result)) => self.streams.loaded(self.clock.now(), &key, result),
                    Err(TryRecvError::Empty) => break,
                    Ok(Inbox::Stop) | Err(TryRecvError::Disconnected) => return self.stop(),
                }
            }
        }
    }

    /// The next message, at once if there is one; else until the next slot or reading is due.
    fn wait(&self, inbox: &Receiver<Inbox>) -> Result<Inbox, TryRecvError> {
        let Some(next_turn) = self.streams.next_turn() else {
            return inbox.recv().map_err(|_| TryRecvError::Disconnected);
        };
        let delay = next_turn.min(self.next_read).saturating_since(self.clock.now().instant);
        inbox.recv_timeout(delay).map_err(|error| match error {
            RecvTimeoutError::Timeout => TryRecvError::Empty,
            RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
        })
    }

    /// Serves the slots that are due, at most a round of them: then commands have their turn.
    fn pace(&mut self) {
        for _ in 0..SLOTS {
            let now = self.clock.now();
            let Some(turn) = self.streams.turn(now.instant) else { break };
            self.streams.packets(now, turn, &mut self.packets, &mut self.reports);
            let mut sent = 0;
            let mut failed = 0;
            for packets in self.packets.chunk_by(|one, next| one.port == next.port) {
                let Some(pair) = self.pairs.get(&packets[0].port) else { continue };
                let outcome = pair.send(packets);
                sent += outcome.sent;
                failed += outcome.failed;
            }
            self.packets.clear();
            for report in self.reports.drain(..) {
                if let Some(pair) = self.pairs.get(&report.port) {
                    pair.report(&report);
                }
            }
            self.counters.sent.increment(sent as u64);
            self.counters.failed.increment(failed as u64);
        }
        let skipped = self.streams.take_skipped();
        if skipped > 0 {
            self.counters.skipped.increment(skipped);
        }
    }

    /// Reads the sockets, once per frame: a key pressed is noticed 10 ms later on average.
    fn read(&mut self) {
        let now = self.clock.now();
        if now.instant < self.next_read {
            return;
        }
        self.next_read = now.instant + FRAME;
        for (&port, pair) in &self.pairs {
            pair.receive(|from, datagram| self.streams.receive(now, port, from, datagram));
        }
    }

    /// Passes on what the streams have to say.
    fn tell(&mut self) {
        while let Some(load) = self.streams.poll_load() {
            if let Err(TrySendError::Full(load) | TrySendError::Disconnected(load)) =
                self.loader.try_send(load)
            {
                let reason = format!("{}: too many files are being loaded", load.key.0);
                self.streams.loaded(self.clock.now(), &load.key, Err(reason));
            }
        }
        while let Some(event) = self.streams.poll_event() {
            if let Event::Failed { stream, reason } = &event {
                tracing::warn!(stream = stream.0, reason, "media");
            }
            (self.events)(event);
        }
    }

    fn command(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Open { stream } => {
                if let Err(reason) = self.open(now, stream) {
                    tracing::warn!(stream = stream.0, reason, "media");
                    (self.events)(Event::Failed { stream, reason });
                }
            }
            Command::Send { stream, remote, rtcp, codec, payload_type, dtmf, playlist } => {
                let target = Target { remote, rtcp, payload_type, dtmf };
                self.streams.send(now, stream, target, codec, playlist);
            }
            Command::Pause { stream } => self.streams.pause(stream),
            Command::Close { stream } => self.close(now, stream),
        }
    }

    fn open(&mut self, now: Now, stream: StreamId) -> Result<(), String> {
        if self.streams.contains(stream) {
            return Ok(());
        }
        if self.streams.len() >= STREAMS_MAX {
            return Err(format!("{STREAMS_MAX} streams are open already"));
        }
        let place = self.ports.place(now.instant, |port| {
            self.pairs.insert(port, Pair::open(self.config.address, port)?);
            Ok(())
        });
        let port = place.map_err(|error| error.to_string())?;
        self.streams.open(now, stream, port);
        self.gauge();
        Ok(())
    }

    fn close(&mut self, now: Now, stream: StreamId) {
        let Some((port, goodbye)) = self.streams.close(now, stream) else { return };
        if let (Some(report), Some(pair)) = (&goodbye, self.pairs.get(&port)) {
            pair.report(report);
        }
        if self.ports.release(port) {
            self.pairs.remove(&port);
        }
        self.gauge();
    }

    fn gauge(&self) {
        metrics::gauge!("switchyard_media_streams").set(self.streams.len() as f64);
        metrics::gauge!("switchyard_media_ports").set(2.0 * self.pairs.len() as f64);
    }

    fn stop(&mut self) {
        let now = self.clock.now();
        let open: Vec<StreamId> = self.streams.ids().collect();
        open.into_iter().for_each(|stream| self.close(now, stream));
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;
    use std::net::{SocketAddr, UdpSocket};
    use std::path::Path;
    use std::sync::atomic::{AtomicU16, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::super::rtp::{self, Header};
    use super::super::{Background, Codec, Playlist, listen};
    use super::*;

    /// How long a test waits for what takes milliseconds, on a machine busy with other tests.
    const PATIENCE: Duration = Duration::from_secs(20);

    struct Host {
        service: Service,
        events: mpsc::Receiver<Event>,
        _music: tempfile::TempDir,
        ports: std::ops::RangeInclusive<u16>,
    }

    impl Host {
        /// A service of its own ports, with a tone for music and another for a prompt.
        fn start() -> Host {
            static NEXT: AtomicU16 = AtomicU16::new(0);
            let first =
                31_000 + 20 * NEXT.fetch_add(1, Ordering::Relaxed) + (std::process::id() % 200) as u16 * 100;
            let music = tempfile::tempdir().unwrap();
            write_tone(&music.path().join("tone.wav"), 1000.0, 2.0);
            write_tone(&music.path().join("prompts/beep.wav"), 500.0, 0.1);
            let config = MediaConfig {
                address: [127, 0, 0, 1].into(),
                ports: first..=first + 19,
                music: music.path().to_owned(),
                seed: [3; 32],
            };
            let (sender, events) = mpsc::channel();
            let ports = config.ports.clone();
            let service = Service::start(config, move |event| drop(sender.send(event))).unwrap();
            Host { service, events, _music: music, ports }
        }

        fn event(&self) -> Event {
            self.events.recv_timeout(PATIENCE).expect("no event came")
        }

        fn open(&self, stream: u64) -> SocketAddr {
            self.service.send(Command::Open { stream: StreamId(stream) });
            match self.event() {
                Event::Opened { local, .. } => local,
                other => panic!("{other:?}"),
            }
        }

        fn play(&self, stream: u64, phone: &Phone, codec: Codec, prompts: &[&str], music: &str) {
            self.service.send(Command::Send {
                stream: StreamId(stream),
                remote: phone.rtp.local_addr().unwrap(),
                rtcp: phone.rtcp.local_addr().unwrap(),
                codec,
                payload_type: codec.payload_type(),
                dtmf: Some(101),
                playlist: Playlist {
                    prompts: prompts.iter().map(|name| name.to_string()).collect(),
                    then: Background::Music(Some(music.into())),
                },
            });
        }
    }

    fn write_tone(path: &Path, hertz: f64, seconds: f64) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 44_100,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut file = hound::WavWriter::create(path, spec).unwrap();
        for n in 0..(44_100.0 * seconds) as u32 {
            let sample = ((f64::from(n) / 44_100.0 * hertz * TAU).sin() * 8000.0) as i16;
            file.write_sample(sample).unwrap();
            file.write_sample(sample).unwrap();
        }
        file.finalize().unwrap();
    }

    struct Phone {
        rtp: UdpSocket,
        rtcp: UdpSocket,
    }

    impl Phone {
        fn new() -> Phone {
            let socket = || {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket
            };
            Phone { rtp: socket(), rtcp: socket() }
        }

        /// The next packet, where it came from, and its payload.
        fn hear(&self) -> (Header, SocketAddr, Vec<u8>) {
            let mut buffer = [0; 1500];
            let (length, from) = self.rtp.recv_from(&mut buffer).expect("nothing to hear");
            let (header, payload) = rtp::parse(&buffer[..length]).unwrap();
            (header, from, payload.to_vec())
        }

        /// Passes over ordinary reports: BYE is the last part of the last packet.
        fn wait_for_goodbye(&self) {
            let mut buffer = [0; 1500];
            while {
                let length = self.rtcp.recv(&mut buffer).expect("no good-bye");
                buffer[length - 7] != 203
            } {}
        }

        fn samples(&self, codec: Codec, packets: usize) -> Vec<i16> {
            let payload: Vec<u8> = (0..packets).flat_map(|_| self.hear().2).collect();
            listen::decode(codec, &payload)
        }
    }

    #[test]
    fn a_phone_hears_the_prompt_and_then_the_music_at_its_level() {
        for codec in Codec::ALL {
            let (host, phone) = (Host::start(), Phone::new());
            host.open(1);
            host.play(1, &phone, codec, &["beep"], "tone");
            let rate = listen::sample_rate(codec);
            let prompt = phone.samples(codec, 5);
            assert_eq!(host.event(), Event::PromptsDone { stream: StreamId(1) });
            let music = phone.samples(codec, 50);
            let prompt = &prompt[prompt.len() / 4..];
            assert!((listen::tone(prompt, rate, 500.0) - 8000.0).abs() < 800.0, "{codec:?}: no prompt");
            let music = &music[music.len() / 4..];
            let level = listen::tone(music, rate, 1000.0);
            assert!((level - 8000.0).abs() < 400.0, "{codec:?}: tone of {level}");
            assert!(listen::tone(music, rate, 500.0) < 100.0, "{codec:?}: the prompt goes on");
        }
    }

    #[test]
    fn one_stream_goes_on_over_a_pause_and_a_change_of_address_and_codec() {
        let (host, phone, other) = (Host::start(), Phone::new(), Phone::new());
        let local = host.open(1);
        host.play(1, &phone, Codec::Pcmu, &[], "tone");
        let mut last = phone.hear();
        assert!(last.0.marker);
        assert_eq!(last.1, local, "from the port it is told to send to");
        for _ in 0..25 {
            let next = phone.hear();
            assert_eq!(next.0.ssrc, last.0.ssrc);
            assert_eq!(next.0.sequence, last.0.sequence.wrapping_add(1));
            // Late packets are skipped on a busy machine, then time stamps jump by whole frames.
            let ticks = next.0.timestamp.wrapping_sub(last.0.timestamp);
            assert!(ticks >= 160 && ticks.is_multiple_of(160) && next.0.marker == (ticks > 160), "{ticks}");
            last = next;
        }
        host.service.send(Command::Pause { stream: StreamId(1) });
        std::thread::sleep(Duration::from_millis(100));
        phone.rtp.set_nonblocking(true).unwrap();
        let mut buffer = [0; 1500];
        while let Ok(length) = phone.rtp.recv(&mut buffer) {
            last.0 = rtp::parse(&buffer[..length]).unwrap().0;
        }
        host.play(1, &other, Codec::G722, &[], "tone");
        let first = other.hear();
        assert_eq!(first.1, local);
        assert_eq!((first.0.ssrc, first.0.payload_type, first.0.marker), (last.0.ssrc, 9, true));
        assert_eq!(first.0.sequence, last.0.sequence.wrapping_add(1));
        let pause = first.0.timestamp.wrapping_sub(last.0.timestamp);
        assert!((4 * 160..8000 * 20).contains(&pause), "{pause} ticks");
    }

    #[test]
    fn streams_share_a_port_and_the_last_one_frees_it() {
        let (host, phones) = (Host::start(), [Phone::new(), Phone::new(), Phone::new()]);
        let locals = [host.open(1), host.open(2), host.open(3)];
        let port = locals[0].port();
        assert_eq!(locals, [SocketAddr::from(([127, 0, 0, 1], port)); 3]);
        assert!(host.ports.contains(&port) && port.is_multiple_of(2));
        for (n, phone) in phones.iter().enumerate() {
            host.play(n as u64 + 1, phone, Codec::Pcma, &[], "tone");
        }
        let mut ssrcs: Vec<u32> = phones.iter().map(|phone| phone.hear().0.ssrc).collect();
        ssrcs.dedup();
        assert_eq!(ssrcs.len(), 3);
        let free = || [port, port + 1].map(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok());
        for n in 1..=3 {
            assert_eq!(free(), [false, false]);
            host.service.send(Command::Close { stream: StreamId(n) });
        }
        phones.iter().for_each(Phone::wait_for_goodbye);
        // The good-bye leaves just before the sockets are closed.
        let closed = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            free() == [true, true]
        });
        assert!(closed, "the ports are still taken");
    }

    #[test]
    fn keys_pressed_while_the_music_plays_are_told() {
        let (host, phone) = (Host::start(), Phone::new());
        let local = host.open(1);
        host.play(1, &phone, Codec::Pcmu, &[], "tone");
        phone.hear();
        let sound = [0x80; 172];
        for (duration, end) in [(160u16, 0), (320, 0), (800, 0x80), (800, 0x80)] {
            let header =
                Header { marker: duration == 160, payload_type: 101, sequence: 9, timestamp: 400, ssrc: 5 };
            let [d0, d1] = duration.to_be_bytes();
            phone.rtp.send_to(&[&header.to_bytes()[..], &[11, 10 | end, d0, d1]].concat(), local).unwrap();
            phone.rtp.send_to(&sound, local).unwrap();
        }
        assert_eq!(host.event(), Event::Digit { stream: StreamId(1), digit: '#', duration_ms: 100 });
    }

    #[test]
    fn what_fails_is_told_and_stops_nothing() {
        let (host, phone) = (Host::start(), Phone::new());
        host.open(1);
        host.play(1, &phone, Codec::Pcmu, &["nothing-like-it"], "tone");
        let Event::Failed { stream, reason } = host.event() else { panic!("no failure") };
        assert_eq!(stream, StreamId(1));
        assert!(reason.contains("nothing-like-it.wav"), "{reason}");
        assert_eq!(host.event(), Event::PromptsDone { stream: StreamId(1) });
        phone.hear();
        host.play(1, &phone, Codec::Pcmu, &[], "../../etc/passwd");
        assert!(matches!(host.event(), Event::Failed { .. }));
        host.play(1, &phone, Codec::Pcmu, &[], "tone");
        let before = phone.hear().0.sequence;
        assert!((0..100).any(|_| phone.hear().0.sequence != before));
        // Closed twice, unknown: nothing.
        for stream in [1, 1, 99].map(StreamId) {
            host.service.send(Command::Close { stream });
        }
        host.open(2);
    }

    #[test]
    fn no_port_left_is_an_answer() {
        let host = Host::start();
        let taken: Vec<_> = host.ports.clone().map(|port| UdpSocket::bind(("127.0.0.1", port))).collect();
        host.service.send(Command::Open { stream: StreamId(1) });
        assert!(matches!(host.event(), Event::Failed { stream: StreamId(1), .. }));
        drop(taken);
    }

    #[test]
    fn dropping_the_service_says_goodbye_and_frees_its_ports() {
        let (host, phone) = (Host::start(), Phone::new());
        let local = host.open(1);
        host.play(1, &phone, Codec::Pcmu, &[], "tone");
        phone.hear();
        drop(host.service);
        UdpSocket::bind(local).expect("still taken");
        phone.wait_for_goodbye();
    }
}

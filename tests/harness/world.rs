//! The world: one host, its store and media as models, phones, a network with delay, loss and repetition.

mod backing;
mod links;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use switchyard_host::admin::{Refused, Request};
use switchyard_host::config::{self, Config};
use switchyard_host::directory::User;
use switchyard_host::engine::{AdminId, Engine, Event, Input, Options, Output, StoreId};
use switchyard_host::media;
use switchyard_host::net::{ConnectionId, Flow, Listener, Protocol};
use switchyard_host::orbit::put_operation;
use switchyard_host::plugin::Plugins;
use switchyard_host::policy::Bundle;
use switchyard_host::sip::Message;
use switchyard_host::store::keys::{MIRRORED, host_key};
use switchyard_host::store::{Change, MemoryStore, Operation, Outcome, ROOT, StoreError, Transaction};
use switchyard_host::time::{Instant, Now, Utc};

use super::ladder;
use super::network::{Network, Weather};
use super::phone::{CallId, OnRing, Phone};
use super::plugins;

/// 2026-11-20T00:00:00Z: when simulated worlds begin.
const EPOCH_MS: u64 = 1_795_132_800_000;

/// What a world begins with.
pub struct WorldOptions {
    pub seed: u64,
    /// More lines of `[sip]`.
    pub sip: &'static str,
    /// More lines of the configuration.
    pub config: String,
    /// More keys of a user: `("bob", "pickup_group = \"*101\"")`.
    pub users: Vec<(&'static str, &'static str)>,
    /// Policy files by name; `default.lua` if it is the only one needed may be left out.
    pub policies: Vec<(String, String)>,
    /// The plugin libraries to load; none: an empty directory.
    pub plugins: &'static [&'static str],
}

impl Default for WorldOptions {
    fn default() -> Self {
        Self {
            seed: 7,
            sip: "",
            config: String::new(),
            users: Vec::new(),
            policies: Vec::new(),
            plugins: &["call_park", "group_pickup"],
        }
    }
}

/// How the store answers a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreDoes {
    /// It writes and says so, after that long.
    Write(Duration),
    /// It writes nothing, and says so.
    Refuse,
    /// It writes and says that it could not: the answer was lost on the way.
    LoseAnswer,
    /// It does nothing, until it does something else again.
    Hang,
}

impl StoreDoes {
    pub const WELL: Self = Self::Write(Self::SOON);
    const SOON: Duration = Duration::from_millis(1);
}

enum Pending {
    ToHost(Flow, Bytes),
    ToPhone(usize, Bytes),
    Host(Input),
    PowerOn(usize),
    Reconnect(usize),
}

pub struct World {
    pub engine: Option<Engine>,
    pub phones: Vec<Phone>,
    pub events: Vec<Event>,
    pub admin: BTreeMap<u64, Result<serde_json::Value, Refused>>,
    pub store: MemoryStore,
    pub store_does: StoreDoes,
    pub network: Network,
    /// Streams that send now: stream to destination and playlist.
    pub streams: BTreeMap<u64, Stream>,
    /// What the host sent to where no phone is.
    pub strays: Vec<(Flow, Bytes)>,
    /// Whether traffic goes into the ladder.
    pub record: bool,
    config: Arc<Config>,
    bundle: Arc<Bundle>,
    options: WorldOptions,
    start: Instant,
    pub now: Instant,
    pending: BTreeMap<(Instant, u64), Pending>,
    sequence: u64,
    ladder: Vec<String>,
    /// A running hash of all that went over the wire and all events: two runs are the same if it is.
    trace: DefaultHasher,
    rng: ChaCha12Rng,
    next_admin: u64,
    next_port: u16,
    next_connection: u64,
    /// The host's monotonic clock starts again with the host.
    host_started: Instant,
    /// How far the host's wall clock is ahead of ours, in milliseconds.
    pub clock_ahead_ms: i64,
    /// What should always hold in the engine and did not, when it first did not.
    pub broken: Option<String>,
    /// When the store has answered all it was asked: its answers keep their order.
    store_answers: Instant,
    /// What it was asked while it did nothing.
    held_back: Vec<(StoreId, Transaction)>,
}

#[derive(Clone, Debug)]
pub struct Stream {
    pub remote: Option<SocketAddr>,
    pub playlist: media::Playlist,
}

impl World {
    pub fn new() -> Self {
        Self::with(WorldOptions::default())
    }

    pub fn with(options: WorldOptions) -> Self {
        let text = format!(
            r#"
[host]
name = "fe1"
pool = "east"
data_dir = "var"
[sip]
domain = "example.test"
listen = ["udp:192.0.2.1:5060", "tcp:192.0.2.1:5060"]
{}
[media]
address = "192.0.2.1"
[[pools]]
name = "east"
[[orbits]]
name = "east-park"
from = "7000"
to = "7099"
kind = "call-park"
pool = "east"
[[orbits]]
name = "east-groups"
from = "*100"
to = "*199"
kind = "group-pickup"
pool = "east"
{}
{}
"#,
            options.sip,
            users(&options.users),
            options.config
        );
        let config = match config::parse(&PathBuf::from("world.toml"), &text) {
            Ok(config) => Arc::new(config),
            Err(errors) => {
                panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
            }
        };
        let mut files = options.policies.clone();
        if !files.iter().any(|(name, _)| name == "default.lua") {
            let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../policies/default.lua");
            files.push(("default.lua".to_owned(), std::fs::read_to_string(default).unwrap()));
        }
        let bundle = Arc::new(Bundle::of(files));
        let store = MemoryStore::new();
        let put = |operation: Operation| {
            store.apply(&Transaction { operations: vec![operation], ..Transaction::default() }).unwrap();
        };
        // As the runtime leaves the store before it makes an engine.
        put(Operation::Put { key: host_key(&config.host.name), value: "{}".into() });
        for range in &config.orbits {
            put(put_operation(range));
        }
        for user in &config.users {
            put(User::from_config(user, &config.sip.domain).put());
        }
        let rng = ChaCha12Rng::seed_from_u64(options.seed);
        let mut world = Self {
            engine: None,
            phones: Vec::new(),
            events: Vec::new(),
            admin: BTreeMap::new(),
            store,
            store_does: StoreDoes::WELL,
            network: Network::default(),
            streams: BTreeMap::new(),
            strays: Vec::new(),
            record: false,
            config,
            bundle,
            options,
            start: Instant::ZERO,
            now: Instant::after_start(Duration::from_secs(1)),
            pending: BTreeMap::new(),
            sequence: 0,
            ladder: Vec::new(),
            trace: DefaultHasher::new(),
            rng,
            next_admin: 1,
            next_port: 20_000,
            next_connection: 1_000,
            host_started: Instant::ZERO,
            clock_ahead_ms: 0,
            broken: None,
            store_answers: Instant::ZERO,
            held_back: Vec::new(),
        };
        world.start_host();
        world
    }

    /// Registers phones of these users, one each, and forgets what went over the wire for it.
    pub fn phones<const N: usize>(&mut self, names: [&str; N]) -> [usize; N] {
        let ids = names.map(|name| self.add_phone(name));
        for id in ids {
            self.act(id, |phone| phone.register(3600));
        }
        self.run_for(Duration::from_secs(2));
        for id in ids {
            assert!(self.phones[id].registered, "{} could not register", self.phones[id].name);
        }
        ids
    }

    /// A phone of that user, not registered yet. The ladder calls further ones `bob2`, `bob3` …
    pub fn add_phone(&mut self, user: &str) -> usize {
        let number = self.phones.len() as u8 + 1;
        let host = self.host_address();
        let mut phone = Phone::new(user, number, host, "example.test", self.options.seed);
        let others = self.phones.iter().filter(|phone| phone.user == user).count();
        if others > 0 {
            phone.name = format!("{user}{}", others + 1);
        }
        self.phones.push(phone);
        self.phones.len() - 1
    }

    pub fn host_address(&self) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 5060))
    }

    /// (Re)starts the host with what is in the store.
    pub fn start_host(&mut self) {
        let now = self.host_now_at_start();
        let listeners = [Protocol::Udp, Protocol::Tcp]
            .map(|protocol| Listener {
                protocol,
                local: self.host_address(),
                advertised: self.host_address().to_string(),
            })
            .to_vec();
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        let options = Options {
            config: self.config.clone(),
            listeners,
            seed,
            snapshot: self.store.snapshot(ROOT),
            bundle: self.bundle.clone(),
            plugins: Plugins::from_entries(&plugins::entries(self.options.plugins)),
            clustered: false,
        };
        let engine = match Engine::new(now, options) {
            Ok(engine) => engine,
            Err(error) => panic!("{error}"),
        };
        self.engine = Some(engine);
        self.drain_host();
        // Phones on TCP notice, one after the other.
        for phone in 0..self.phones.len() {
            if self.phones[phone].stream.is_some() {
                self.push(Duration::from_millis(700 + 300 * phone as u64), Pending::Reconnect(phone));
            }
        }
    }

    /// `kill -9`: memory is gone, the store stays, messages on their way to the host are lost.
    pub fn kill_host(&mut self) {
        self.engine = None;
        self.streams.clear();
        self.held_back.clear();
        self.pending.retain(|_, pending| matches!(pending, Pending::ToPhone(..) | Pending::PowerOn(_)));
        for phone in 0..self.phones.len() {
            self.new_connection(phone);
        }
    }

    fn host_now_at_start(&mut self) -> Now {
        self.host_started = self.now;
        self.host_now()
    }

    fn host_now(&self) -> Now {
        Now { instant: Instant::after_start(self.now - self.host_started), utc: self.utc() }
    }

    fn utc(&self) -> Utc {
        Utc((Utc(EPOCH_MS) + (self.now - Instant::ZERO)).0.saturating_add_signed(self.clock_ahead_ms))
    }

    fn phone_now(&self) -> Now {
        Now { instant: self.now, utc: self.utc() }
    }

    /// Lets a phone do something, and sends what it then says.
    pub fn act<T>(&mut self, phone: usize, what: impl FnOnce(&mut Phone) -> T) -> T {
        let now = self.phone_now();
        self.phones[phone].set_now(now);
        let result = what(&mut self.phones[phone]);
        self.drain_phone(phone);
        result
    }

    /// A policy file is edited while the host runs.
    pub fn edit_policies(&mut self, files: &[(&str, &str)]) {
        let mut all: Vec<(String, String)> =
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        if !all.iter().any(|(name, _)| name == "default.lua") {
            let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../policies/default.lua");
            all.push(("default.lua".to_owned(), std::fs::read_to_string(default).unwrap()));
        }
        let bundle = Arc::new(Bundle::of(all));
        let seen = self.events.len();
        self.host_gets(Input::Policy(bundle.clone()));
        // A host does not start with policies it refuses: whoever restarts it has put the file right before.
        if !self.events[seen..].iter().any(|event| event.what == "policy.refused") {
            self.bundle = bundle;
        }
    }

    /// Hands the host something at once.
    pub fn host_gets(&mut self, input: Input) {
        let now = self.host_now();
        if let Some(engine) = self.engine.as_mut() {
            engine.handle(now, input);
        }
        self.drain_host();
        self.audit();
    }

    fn audit(&mut self) {
        let found = self.engine.as_ref().map(Engine::audit).unwrap_or_default();
        if self.broken.is_none() && !found.is_empty() {
            let what = format!("+{:.3}  {}", (self.now - self.start).as_secs_f64(), found.join("; "));
            self.remark(&what);
            self.broken = Some(what);
        }
    }

    /// Asks the administrative interface; runs until it has answered.
    pub fn ask(&mut self, what: Request) -> Result<serde_json::Value, Refused> {
        let id = self.ask_later(what);
        for _ in 0..600 {
            if let Some(answer) = self.admin.remove(&id) {
                return answer;
            }
            self.run_for(Duration::from_millis(100));
        }
        panic!("the host never answered");
    }

    /// Asks without waiting; the answer comes in `admin`.
    pub fn ask_later(&mut self, what: Request) -> u64 {
        let id = self.next_admin;
        self.next_admin += 1;
        self.host_gets(Input::Admin { request: AdminId(id), what });
        id
    }

    /// Runs until that much time has passed.
    pub fn run_for(&mut self, span: Duration) {
        if self.store_does != StoreDoes::Hang {
            for (request, transaction) in std::mem::take(&mut self.held_back) {
                self.write(request, &transaction);
            }
        }
        let end = self.now + span;
        while let Some(at) = self.next_event().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.step();
        }
        self.now = end;
    }

    /// Runs until nothing happens for five seconds.
    pub fn run_until_quiet(&mut self) {
        loop {
            let quiet = self.now + Duration::from_secs(5);
            match self.pending.keys().next() {
                Some((at, _)) if *at <= quiet => {
                    let at = *at;
                    self.run_for((at - self.now).max(Duration::from_millis(1)));
                }
                _ => {
                    let before = self.sequence;
                    self.run_for(Duration::from_secs(5));
                    if self.sequence == before {
                        return;
                    }
                }
            }
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let network = self.pending.keys().next().map(|(at, _)| *at);
        let host = self
            .engine
            .as_ref()
            .and_then(Engine::next_timeout)
            .map(|at| self.host_started + at.since_start());
        let phones = self.phones.iter().filter_map(Phone::next_timeout).min();
        [network, host, phones].into_iter().flatten().min()
    }

    fn step(&mut self) {
        while let Some(entry) = self.pending.first_entry().filter(|entry| entry.key().0 <= self.now) {
            match entry.remove() {
                Pending::ToHost(flow, bytes) => self.host_gets(Input::Received { flow, bytes }),
                Pending::ToPhone(phone, bytes) => self.act(phone, |phone| phone.receive(bytes)),
                Pending::Host(input) => self.host_gets(input),
                Pending::PowerOn(phone) => {
                    self.phones[phone].dead = false;
                    self.act(phone, |phone| phone.register(3600));
                }
                Pending::Reconnect(phone) => self.act(phone, |phone| phone.register(3600)),
            }
        }
        let now = self.host_now();
        if let Some(engine) =
            self.engine.as_mut().filter(|e| e.next_timeout().is_some_and(|at| at <= now.instant))
        {
            engine.on_timeout(now);
            self.drain_host();
            self.audit();
        }
        for phone in 0..self.phones.len() {
            if self.phones[phone].next_timeout().is_some_and(|at| at <= self.now) {
                self.act(phone, Phone::on_timeout);
            }
        }
    }

    fn push(&mut self, delay: Duration, pending: Pending) {
        self.sequence += 1;
        self.pending.insert((self.now + delay, self.sequence), pending);
    }

    /// What a person should see in the ladder between the messages.
    pub fn remark(&mut self, what: &str) {
        if self.record {
            self.ladder.push(format!("+{:.3}  -- {what}", (self.now - self.start).as_secs_f64()));
        }
    }

    /// The hash of everything that went over the wire so far, and when.
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    fn note(&mut self, phone: usize, to_host: bool, bytes: &Bytes) {
        (self.now, phone, to_host, &bytes[..]).hash(&mut self.trace);
        let name = &self.phones[phone].name;
        let (from, to) = if to_host { (name.as_str(), "host") } else { ("host", name.as_str()) };
        if !self.record {
            return;
        }
        if let Ok(message) = Message::parse(bytes.clone()) {
            self.ladder.push(ladder::line(self.start, self.now, from, to, &message));
        }
    }

    /// From here on messages go into the ladder, counted from now.
    pub fn start_ladder(&mut self) {
        self.start = self.now;
        self.ladder.clear();
        self.record = true;
    }

    /// What went over the wire since [`World::start_ladder`].
    pub fn ladder(&self) -> String {
        self.ladder.join("\n") + "\n"
    }

    /// The answered call of two phones: `from` calls `uri`, `to` answers at once.
    pub fn connect(&mut self, from: usize, to: usize) -> (CallId, CallId) {
        let uri = format!("sip:{}@example.test", self.phones[to].user);
        self.phones[to].on_ring = OnRing::AnswerAfter(Duration::from_millis(200));
        let call = self.act(from, |phone| phone.invite(&uri, &[], true));
        self.run_for(Duration::from_secs(2));
        self.phones[to].on_ring = OnRing::Ring;
        assert!(
            self.phones[from].call(call).up,
            "the call was not answered: {:?}",
            self.phones[from].call(call).failed
        );
        (call, self.phones[to].last())
    }

    /// The orbits that hold a call: number and state.
    pub fn occupants(&mut self) -> Vec<(String, String)> {
        let rows = self.ask(Request::Occupants).unwrap();
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| {
                (row["number"].as_str().unwrap().to_owned(), row["state"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    /// What is alive in the host, by kind, zeros left out.
    pub fn alive(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = self.engine.as_ref().map(Engine::counts).unwrap_or_default();
        counts.retain(|_, count| *count > 0);
        counts
    }

    /// The names of all events since the start.
    pub fn told(&self, what: &str) -> Vec<&Event> {
        self.events.iter().filter(|event| event.what == what).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(broken) = self.broken.take().filter(|_| !std::thread::panicking()) {
            panic!("{broken}");
        }
    }
}

fn users(more: &[(&str, &str)]) -> String {
    [("alice", "1001", true), ("bob", "1002", true), ("carol", "1003", true), ("dave", "1004", false)]
        .map(|(name, extension, may_park)| {
            let display = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
            format!(
                "[[users]]\nname = \"{name}\"\nextension = \"{extension}\"\ndisplay = \"{display}\"\n\
                 password = \"{name}-secret\"\npool = \"east\"\nmay_park = {may_park}\n{}",
                more.iter()
                    .filter(|(user, _)| *user == name)
                    .map(|(_, keys)| format!("{keys}\n"))
                    .collect::<String>()
            )
        })
        .concat()
}

//! The world: one host or several, their store and media as models, phones, a network with delay, loss and repetition.

mod backing;
mod guard;
mod hosts;
mod links;
mod strike;

use std::collections::{BTreeMap, BTreeSet};
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
use switchyard_host::net::{ConnectionId, Flow, HostName, Listener, Protocol};
use switchyard_host::orbit::put_operation;
use switchyard_host::plugin::Plugins;
use switchyard_host::policy::Bundle;
use switchyard_host::sip::Message;
use switchyard_host::store::keys::{MIRRORED, SHARED, host_key};
use switchyard_host::store::{
    Change, HostIdentity, MemoryStore, Operation, Outcome, ROOT, Standing, StoreError, Transaction,
};
use switchyard_host::time::{Instant, Now, Utc};

use self::hosts::{configuration, default_policy};
pub use self::strike::{Moment, Strike};
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
    /// The hosts and their pools, which work together; none: one host alone, `fe1` of `east`.
    pub hosts: &'static [(&'static str, &'static str)],
    /// Phones are told the pools' names in Contacts, instead of the hosts' addresses.
    pub contact_by_name: bool,
    /// Users who belong to the pool `west` instead of `east`.
    pub west: &'static [&'static str],
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
            hosts: &[],
            contact_by_name: false,
            west: &[],
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
    /// To a phone, from a host's address.
    ToPhone(usize, SocketAddr, Bytes),
    /// For a host, in that life of it.
    Host(usize, u64, Input),
    /// A host has not reached the store since then, and counts its lease as over.
    Lapses(usize, Instant),
    /// Nobody has heard of a host for as long as its lease lasts: its record of that revision goes.
    LeaseEnds(usize, u64),
    /// A link that is cut is tried again.
    Greet((usize, usize)),
    /// A host that was dead starts, if nobody has started it before.
    Start(usize),
    PowerOn(usize),
    Reconnect(usize),
}

/// How long the store waits for a host it does not hear of.
pub const LEASE: Duration = Duration::from_secs(6);

/// How often hosts try to connect to one that they cannot reach.
const GREET_EVERY: Duration = Duration::from_secs(4);

/// How a host's wall clock differs from the others'.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Clock {
    pub ahead_ms: i64,
    /// So many microseconds more in each second.
    pub drift_ppm: i64,
}

pub struct Host {
    pub name: &'static str,
    pub pool: &'static str,
    pub address: SocketAddr,
    /// None: it is dead.
    pub engine: Option<Engine>,
    pub clock: Clock,
    pub config: Arc<Config>,
    bundle: Arc<Bundle>,
    /// Its monotonic clock starts again with it.
    started: Instant,
    /// How often it was started.
    life: u64,
    /// The revision of its record in the store.
    record: u64,
    /// That of its first record since it was started.
    first_record: u64,
    /// When the store has answered all it was asked: its answers keep their order.
    store_answers: Instant,
    /// What it asked the store that did nothing.
    held_back: Vec<(StoreId, Transaction)>,
}

pub struct World {
    pub hosts: Vec<Host>,
    pub phones: Vec<Phone>,
    pub events: Vec<Event>,
    pub admin: BTreeMap<u64, Result<serde_json::Value, Refused>>,
    pub store: MemoryStore,
    pub store_does: StoreDoes,
    /// How long the store takes to tell a host all it has. What it tells is from when it was asked.
    pub reads_take: Duration,
    pub network: Network,
    /// Streams that send now, by host: stream to destination and playlist.
    pub streams: BTreeMap<(usize, u64), Stream>,
    /// Pairs of hosts that do not hear each other.
    pub cut_links: BTreeSet<(usize, usize)>,
    /// What phones say reaches every host, as of one that tries them all.
    pub on_both_ways: bool,
    /// How many writes the store was asked for.
    pub asked: usize,
    /// How much the hosts have said to each other.
    pub linked: usize,
    /// Call-IDs of calls that no record told of when a host died.
    pub unrecorded: BTreeSet<String>,
    /// Hosts that do not reach the store, and since when.
    storeless: BTreeMap<usize, Instant>,
    /// What the host sent to where no phone is.
    pub strays: Vec<(Flow, Bytes)>,
    /// Whether traffic goes into the ladder.
    pub record: bool,
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
    /// Who is to be struck, and what the struck host was writing.
    strike: Option<Strike>,
    struck: Option<String>,
    /// How far the hosts' wall clock is ahead of ours, in milliseconds.
    pub clock_ahead_ms: i64,
    /// What should always hold in the engine and did not, when it first did not.
    pub broken: Option<String>,
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
        let mut files = options.policies.clone();
        if !files.iter().any(|(name, _)| name == "default.lua") {
            files.push(("default.lua".to_owned(), default_policy()));
        }
        let bundle = Arc::new(Bundle::of(files));
        let names = if options.hosts.is_empty() { &[("fe1", "east")] } else { options.hosts };
        let hosts: Vec<Host> = (names.iter().enumerate())
            .map(|(index, (name, pool))| {
                let address =
                    SocketAddr::from(([192, 0, 2, 1 + 200 * u8::from(index > 0) + index as u8], 5060));
                Host {
                    name,
                    pool,
                    address,
                    engine: None,
                    clock: Clock::default(),
                    config: configuration(&options, name, pool, address),
                    bundle: bundle.clone(),
                    started: Instant::ZERO,
                    life: 0,
                    record: 0,
                    first_record: 0,
                    store_answers: Instant::ZERO,
                    held_back: Vec::new(),
                }
            })
            .collect();
        let store = MemoryStore::new();
        let put = |operation: Operation| {
            store.apply(&Transaction { operations: vec![operation], ..Transaction::default() }).unwrap();
        };
        // As the runtime leaves the store before it makes an engine.
        let config = &hosts[0].config;
        for range in &config.orbits {
            put(put_operation(range));
        }
        for user in &config.users {
            put(User::from_config(user, &config.sip.domain).put());
        }
        let rng = ChaCha12Rng::seed_from_u64(options.seed);
        let mut world = Self {
            hosts,
            phones: Vec::new(),
            events: Vec::new(),
            admin: BTreeMap::new(),
            store,
            store_does: StoreDoes::WELL,
            reads_take: StoreDoes::SOON,
            network: Network::default(),
            streams: BTreeMap::new(),
            cut_links: BTreeSet::new(),
            on_both_ways: false,
            asked: 0,
            linked: 0,
            unrecorded: BTreeSet::new(),
            storeless: BTreeMap::new(),
            strays: Vec::new(),
            record: false,
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
            strike: None,
            struck: None,
            clock_ahead_ms: 0,
            broken: None,
        };
        for host in 0..world.hosts.len() {
            world.start(host);
        }
        if world.is_cluster() {
            // Until all seats are taken.
            world.run_for(Duration::from_secs(1));
        }
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

    pub fn utc(&self) -> Utc {
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

    /// A policy file is edited while the hosts run.
    pub fn edit_policies(&mut self, files: &[(&str, &str)]) {
        let mut all: Vec<(String, String)> =
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        if !all.iter().any(|(name, _)| name == "default.lua") {
            all.push(("default.lua".to_owned(), default_policy()));
        }
        let bundle = Arc::new(Bundle::of(all));
        let seen = self.events.len();
        for host in 0..self.hosts.len() {
            self.gets(host, Input::Policy(bundle.clone()));
        }
        // A host does not start with policies it refuses: whoever restarts it has put the file right before.
        let told = |what: &str| self.events[seen..].iter().any(|event| event.what == what);
        if told("policy.loaded") && !told("policy.refused") {
            self.hosts.iter_mut().for_each(|host| host.bundle = bundle.clone());
        }
    }

    /// Hands the first host something at once.
    pub fn host_gets(&mut self, input: Input) {
        self.gets(0, input);
    }

    /// Hands a host something at once.
    pub fn gets(&mut self, host: usize, input: Input) {
        let now = self.host_now(host);
        if let Some(engine) = self.hosts[host].engine.as_mut() {
            engine.handle(now, input);
        }
        self.drain_host(host);
        self.audit(host);
    }

    fn audit(&mut self, host: usize) {
        let found = self.hosts[host].engine.as_ref().map(Engine::audit).unwrap_or_default();
        if !found.is_empty() {
            let name = if self.is_cluster() { self.hosts[host].name } else { "" };
            self.complain(&format!("{name}{}", found.join("; ")));
        }
        if self.is_cluster() {
            self.guard_seats();
        }
    }

    /// Asks the administrative interface; runs until it has answered.
    pub fn ask(&mut self, what: Request) -> Result<serde_json::Value, Refused> {
        let host = self.somebody().unwrap_or(0);
        self.ask_host(host, what)
    }

    /// The same of a host.
    pub fn ask_host(&mut self, host: usize, what: Request) -> Result<serde_json::Value, Refused> {
        let life = self.hosts[host].life;
        let id = self.asks(host, what);
        for _ in 0..600 {
            if let Some(answer) = self.admin.remove(&id) {
                return answer;
            }
            if self.hosts[host].engine.is_none() || self.hosts[host].life != life {
                let text = "the host has died".to_owned();
                return Err(Refused { status: 503, code: None, text });
            }
            self.run_for(Duration::from_millis(100));
        }
        panic!("the host never answered");
    }

    /// Asks without waiting; the answer comes in `admin`.
    pub fn ask_later(&mut self, what: Request) -> u64 {
        let host = self.somebody().unwrap_or(0);
        self.asks(host, what)
    }

    /// The same of a host.
    pub fn asks(&mut self, host: usize, what: Request) -> u64 {
        let id = self.next_admin;
        self.next_admin += 1;
        self.gets(host, Input::Admin { request: AdminId(id), what });
        id
    }

    /// Runs until that much time has passed.
    pub fn run_for(&mut self, span: Duration) {
        if self.store_does != StoreDoes::Hang {
            for host in
                (0..self.hosts.len()).filter(|host| !self.storeless.contains_key(host)).collect::<Vec<_>>()
            {
                for (request, transaction) in std::mem::take(&mut self.hosts[host].held_back) {
                    self.write(host, request, &transaction);
                }
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
        let due = |host: &Host| Some(host.started + host.engine.as_ref()?.next_timeout()?.since_start());
        let host = self.hosts.iter().filter_map(due).min();
        let phones = self.phones.iter().filter_map(Phone::next_timeout).min();
        [network, host, phones].into_iter().flatten().min()
    }

    fn step(&mut self) {
        while let Some(entry) = self.pending.first_entry().filter(|entry| entry.key().0 <= self.now) {
            match entry.remove() {
                Pending::ToHost(flow, bytes) => {
                    if let Some(host) = self.host_at(flow.local) {
                        self.gets(host, Input::Received { flow, bytes });
                    }
                }
                Pending::ToPhone(phone, from, bytes) => self.act(phone, |phone| phone.receive(from, bytes)),
                Pending::Host(host, life, input) => {
                    if self.hosts[host].life == life {
                        self.gets(host, input);
                    }
                }
                Pending::Lapses(host, since) => {
                    if self.storeless.get(&host) == Some(&since) {
                        self.gets(host, Input::Standing(Standing::Lapsed));
                    }
                }
                Pending::LeaseEnds(host, record) => {
                    let key = host_key(self.hosts[host].name);
                    let alive = self.hosts[host].engine.is_some() && !self.storeless.contains_key(&host);
                    let stands =
                        self.store.snapshot(&key).records.get(&key).is_some_and(|r| r.revision == record);
                    if stands && !alive {
                        self.write_record(Operation::Delete { key });
                    }
                }
                Pending::Start(host) => {
                    if self.hosts[host].engine.is_none() {
                        self.start(host);
                    }
                }
                Pending::Greet(hosts) => {
                    if self.cut_links.contains(&hosts) {
                        self.greet(hosts);
                        self.push(GREET_EVERY, Pending::Greet(hosts));
                    }
                }
                Pending::PowerOn(phone) => {
                    self.phones[phone].dead = false;
                    self.act(phone, |phone| phone.register(3600));
                }
                Pending::Reconnect(phone) => self.act(phone, |phone| phone.register(3600)),
            }
        }
        for host in 0..self.hosts.len() {
            let now = self.host_now(host);
            let engine = self.hosts[host].engine.as_mut();
            if let Some(engine) = engine.filter(|e| e.next_timeout().is_some_and(|at| at <= now.instant)) {
                engine.on_timeout(now);
                self.drain_host(host);
                self.audit(host);
            }
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

    fn note(&mut self, phone: usize, host: SocketAddr, to_host: bool, bytes: &Bytes) {
        (self.now, phone, to_host, &bytes[..]).hash(&mut self.trace);
        let name = &self.phones[phone].name;
        let known = self.hosts.iter().find(|known| known.address == host).map(|host| host.name);
        let host = known.filter(|_| self.is_cluster()).unwrap_or("host");
        let (from, to) = if to_host { (name.as_str(), host) } else { (host, name.as_str()) };
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

    /// What is alive in the hosts, by kind, zeros left out.
    pub fn alive(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (what, count) in
            self.hosts.iter().filter_map(|host| host.engine.as_ref()).flat_map(Engine::counts)
        {
            *counts.entry(what).or_default() += count;
        }
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

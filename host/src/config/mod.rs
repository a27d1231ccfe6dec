//! The configuration file: typed, with units and defaults, and with all its errors at once.
//!
//! [`load`] reads `switchyard.toml`. Every key has its line in `docs/operating.md`. A wrong file is answered with
//! *every* mistake in it, each with file, line, column, what was expected and a near match; nothing starts half
//! configured. `[[pools]]`, `[[orbits]]` and `[[users]]` only seed an empty store.

mod check;
mod error;
mod placed;
mod read;
mod sections;
mod targets;
mod words;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_spanned::Spanned;
use toml::de::DeTable;

pub use error::ConfigError;
pub use words::{Advertise, Listen, Network, Secret};
pub(crate) use words::{
    duration as read_duration, is_certified, name as check_name, number as check_number, show_duration,
    target as check_target,
};

/// How long phones may ring before `forward_no_answer`.
pub(crate) const NO_ANSWER_AFTER: RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(180);

use crate::admin::RangeSpec;
use crate::directory::CallRules;
use crate::net::Protocol;

/// The kind of range whose numbers hold one parked call each.
pub const KIND_CALL_PARK: &str = "call-park";
/// The kind of range whose numbers stand for pickup groups.
pub const KIND_GROUP_PICKUP: &str = "group-pickup";

/// What `switchyard.toml` says. Paths are absolute, or relative to the working directory: those in the file are
/// resolved against the folder of the file.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where this was read from.
    pub file: PathBuf,
    /// `[host]`
    pub host: Host,
    /// `[sip]`
    pub sip: Sip,
    /// `[plugins]`
    pub plugins: Plugins,
    /// `[policies]`
    pub policies: Policies,
    /// `[store]`
    pub store: Store,
    /// `[cluster]`, if there is one.
    pub cluster: Option<Cluster>,
    /// `[media]`
    pub media: Media,
    /// `[admin]`
    pub admin: Admin,
    /// `[[pools]]`; if the file has none, the host's own pool.
    pub pools: Vec<Pool>,
    /// `[[orbits]]`
    pub orbits: Vec<RangeSpec>,
    /// `[[users]]`
    pub users: Vec<User>,
    /// `[[trunks]]`
    pub trunks: Vec<Trunk>,
    /// `[[routes]]`, in the order in which they are tried.
    pub routes: Vec<Route>,
    /// What is allowed but probably not meant. Shown by `check` and in the log at start.
    pub warnings: Vec<ConfigError>,
    places: placed::Places,
}

/// `[host]`: who this host is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// Its name: in the store, in `Warning` headers, in logs.
    pub name: String,
    /// The pool it belongs to.
    pub pool: String,
    /// Where it keeps its store and its copies of plugin libraries.
    pub data_dir: PathBuf,
    /// How long it lets calls go on when it is told to stop.
    pub drain_max: Duration,
}

impl Host {
    /// Longer than a parked call waits with the longest pickup_timeout and one recall. Parked calls that are left then
    /// are taken up again by the next start.
    pub const DRAIN_MAX: Duration = Duration::from_secs(15 * 60);
}

/// `[sip]`: what it answers to and where it listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sip {
    /// The domain of all users; also the digest realm.
    pub domain: String,
    /// Where it listens.
    pub listen: Vec<Listen>,
    /// What it tells others instead of the address it listens on.
    pub advertise: Vec<Advertise>,
    /// The name servers asked for gateways; none: those of the system.
    pub nameservers: Vec<SocketAddr>,
    /// Numbers that are always routed and never parked on (ORB-12).
    pub emergency: Vec<String>,
    /// `[sip.limits]`
    pub limits: Limits,
}

impl Sip {
    /// What goes into Via and Contact for a listener bound to `local`: `host:port`.
    pub fn advertised(&self, protocol: Protocol, local: SocketAddr) -> String {
        match self.advertise.iter().find(|advertise| advertise.protocol == protocol) {
            Some(advertise) => advertise.host_port(),
            None => local.to_string(),
        }
    }
}

/// `[sip.limits]`: sizes and times that protect the host or its peers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Biggest message taken from a stream connection; a datagram cannot be bigger than this either.
    pub message_bytes: usize,
    /// Stream connections open at once.
    pub connections: usize,
    /// Bindings one user may have at once.
    pub bindings_per_user: usize,
    /// Shortest registration accepted; below it 423 (RFC 3261 §10.3).
    pub register_min: Duration,
    /// Longest registration granted.
    pub register_max: Duration,
    /// Requests a second taken from an address and port that have proved who they are.
    pub known_per_source: usize,
    /// Requests a second taken from an address that has proved nothing.
    pub strangers_per_source: usize,
    /// Requests a second taken from all such addresses together.
    pub strangers: usize,
    /// Wrong passwords from one address before it must wait between two guesses.
    pub password_failures: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 65_535,
            connections: 4096,
            bindings_per_user: 10,
            register_min: Duration::from_secs(60),
            register_max: Duration::from_secs(3600),
            known_per_source: 1000,
            strangers_per_source: 100,
            // Each takes a transaction for 32 s over UDP: with a burst of ten seconds, 84,000 of the 100,000 there are,
            // so those we know find room whatever strangers do.
            strangers: 2000,
            password_failures: 10,
        }
    }
}

/// `[plugins]`: where the features are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plugins {
    /// The folder with the libraries.
    pub dir: PathBuf,
    /// Only these, by name; absent: every library there.
    pub enabled: Option<Vec<String>>,
}

/// `[policies]`: where the Lua files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policies {
    /// The folder with `default.lua` and `pools/`.
    pub dir: PathBuf,
}

/// `[store]`: what outlives the process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Store {
    /// Which store.
    pub kind: StoreKind,
    /// Which calls outlive the process.
    pub protect: Protect,
    /// Where it is, for [`StoreKind::Etcd`].
    pub etcd: Etcd,
}

impl Store {
    /// Whether calls between two phones are recorded.
    pub fn records_calls(&self) -> bool {
        self.protect == Protect::Calls && self.kind != StoreKind::Memory
    }
}

/// Which calls go on after a host was killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protect {
    /// All that were answered.
    #[default]
    Calls,
    /// Those in an orbit: for sites whose store cannot follow every call.
    Parked,
}

/// The part of `[store]` that belongs to `kind = "etcd"`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Etcd {
    /// `http://…` or `https://…` of its members.
    pub endpoints: Vec<String>,
    /// Who signs the members' certificates, as a PEM file.
    pub ca: Option<PathBuf>,
    /// The host's own certificate and its key, as PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How long a host that is not heard of counts as alive.
    pub lease: Duration,
}

impl Etcd {
    /// Long enough for an election or a restarted member, short enough for the others to take over.
    pub const LEASE: Duration = Duration::from_secs(10);
}

impl Default for Etcd {
    fn default() -> Self {
        Self { endpoints: Vec::new(), ca: None, identity: None, lease: Self::LEASE }
    }
}

/// Which store a host keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreKind {
    /// One file in the data folder (redb).
    Embedded,
    /// Nothing outlives the process: for trying things out.
    Memory,
    /// An etcd cluster that several hosts share.
    Etcd,
}

impl StoreKind {
    /// Whether other hosts use the same store.
    pub fn is_shared(self) -> bool {
        match self {
            StoreKind::Embedded | StoreKind::Memory => false,
            StoreKind::Etcd => true,
        }
    }
}

/// `[cluster]`: how the hosts that share a store reach each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// Where the host listens for the others.
    pub listen: SocketAddr,
    /// What it tells them instead of the address it listens on.
    pub advertise: Option<SocketAddr>,
    /// The host's own certificate, as a PEM file.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs the certificates of all hosts.
    pub ca: PathBuf,
}

/// `[media]`: music and prompts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Media {
    /// The address RTP is sent from, and offered to phones.
    pub address: IpAddr,
    /// The ports it may use; RTP takes the even ones.
    pub ports: RangeInclusive<u16>,
    /// The folder with the music files.
    pub music: PathBuf,
}

/// `[admin]`: the administrative HTTP interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The bearer token every request must carry. There is always one unless `listen` is a loopback address.
    pub token: Option<Secret>,
    /// Host names, besides the loopback ones and `listen` itself, under which browsers may reach it.
    pub hosts: Vec<String>,
}

/// One of `[[pools]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// Its name; also the name of its policy file.
    pub name: String,
    /// The name phones and trunks know it by.
    pub fqdn: Option<String>,
    /// Whether phones are told that name in Contacts, rather than the address of the host they talk to.
    pub contact_by_name: bool,
    /// The pool that serves its users when it cannot.
    pub backup: Option<String>,
}

/// One of `[[users]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// The user part of the address, and the digest user name.
    pub name: String,
    /// The number others dial.
    pub extension: Option<String>,
    /// The name shown on phones.
    pub display: Option<String>,
    /// The password, or what is derived from it.
    pub credential: Credential,
    /// The home pool.
    pub pool: String,
    /// The number of the user's pickup group.
    pub pickup_group: Option<String>,
    /// Further groups.
    pub further_pickup_groups: Vec<String>,
    /// Who rings along, and where unanswered calls go.
    pub rules: CallRules,
    /// Whether the user may park calls (POL-01: not unless allowed).
    pub may_park: bool,
    /// Whether the user may retrieve parked calls.
    pub may_retrieve: bool,
}

/// How a user proves who they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Credential {
    /// The password itself; the store gets only what is derived from it.
    Password(Secret),
    /// `H(user:realm:password)` in hexadecimal (RFC 7616 §3.4.2), for at least one algorithm.
    Ha1 {
        /// MD5, 32 digits.
        md5: Option<Secret>,
        /// SHA-256, 64 digits.
        sha256: Option<Secret>,
    },
}

/// One of `[[trunks]]`: a gateway or provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trunk {
    /// Its name, for routes.
    pub name: String,
    /// Requests from these addresses come through this trunk.
    pub peers: Vec<Network>,
    /// Where calls to it go: a SIP URI without user part. Absent: inbound only.
    pub to: Option<String>,
    /// The digest user name towards it.
    pub user: Option<String>,
    /// The password towards it.
    pub password: Option<Secret>,
    /// Whether it sees that several phones ring.
    pub forks: Forks,
    /// What callers from there are.
    pub caller: Caller,
    /// How it is told that a call was forwarded.
    pub redirection: Redirection,
}

/// How a trunk is told who was called first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Redirection {
    /// History-Info (RFC 7044).
    #[default]
    HistoryInfo,
    /// Diversion (RFC 5806).
    Diversion,
}

/// What a trunk sees of a call that rings several phones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Forks {
    /// One early dialog per phone (RFC 3261 §12.1).
    #[default]
    Visible,
    /// One bodiless 180 until a phone wins.
    Hidden,
}

/// What callers through a trunk are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Caller {
    /// Strangers: they may call users, but not retrieve parked calls (CP-18).
    #[default]
    Outside,
    /// Colleagues behind another PBX: they may retrieve.
    Inside,
}

/// One of `[[routes]]`: which dialled numbers go to which trunk.
#[derive(Clone, Debug)]
pub struct Route {
    /// Matches the dialled number.
    pub pattern: regex::Regex,
    /// The trunk's name.
    pub trunk: String,
    /// What is dialled there: `$1` is the first group of the pattern, `$0` all it matched.
    pub number: String,
}

impl Route {
    /// The number to dial on the trunk, if this route is meant for `dialled`.
    pub fn number(&self, dialled: &str) -> Option<String> {
        let captures = self.pattern.captures(dialled)?;
        let mut number = String::new();
        captures.expand(&self.number, &mut number);
        Some(number)
    }
}

impl Config {
    /// The first route meant for `dialled`, its trunk, and the number to dial there.
    pub fn route(&self, dialled: &str) -> Option<(&Trunk, String)> {
        self.routes.iter().find_map(|route| {
            let number = route.number(dialled)?;
            Some((self.trunk(&route.trunk)?, number))
        })
    }

    /// The trunk of that name.
    pub fn trunk(&self, name: &str) -> Option<&Trunk> {
        self.trunks.iter().find(|trunk| trunk.name == name)
    }

    /// The trunk through which requests from `address` come.
    pub fn trunk_of(&self, address: IpAddr) -> Option<&Trunk> {
        self.trunks.iter().find(|trunk| trunk.peers.iter().any(|peer| peer.contains(address)))
    }

    /// The names of all pools, in the order of the file.
    pub fn pool_names(&self) -> Vec<String> {
        self.pools.iter().map(|pool| pool.name.clone()).collect()
    }

    /// The name phones at a pool's hosts are told in Contacts; none: the address of the host they talk to.
    pub fn contact_name(&self, pool: &str) -> Option<&str> {
        let pool = self.pools.iter().find(|known| known.name == pool && known.contact_by_name)?;
        pool.fqdn.as_deref()
    }
}

/// Reads and checks the file at `path`.
pub fn load(path: &Path) -> Result<Config, Vec<ConfigError>> {
    parse(path, &text_of(path)?)
}

/// The `[admin]` of the file at `path`: what else is wrong with it does not keep anybody from asking the host that runs.
pub fn load_admin(path: &Path) -> Result<Admin, Vec<ConfigError>> {
    let text = text_of(path)?;
    let report = read::Report::new(path, &text);
    let admin = sections::admin(&report, &tree_of(&report, &text)?);
    report.finish().map(|_| admin)
}

fn text_of(path: &Path) -> Result<String, Vec<ConfigError>> {
    std::fs::read_to_string(path).map_err(|error| vec![ConfigError::unreadable(path, &error)])
}

fn tree_of<'a>(report: &read::Report<'_>, text: &'a str) -> Result<Spanned<DeTable<'a>>, Vec<ConfigError>> {
    let (table, syntax) = DeTable::parse_recoverable(text);
    for error in syntax {
        report.error(error.span().unwrap_or(0..0), "", error.message().trim());
    }
    // What a damaged file seems to lack may only be unreadable, so its other errors wait until it can be read.
    report.stop_on_error()?;
    Ok(table)
}

/// Checks `text` as if it stood in the file `path`.
pub fn parse(path: &Path, text: &str) -> Result<Config, Vec<ConfigError>> {
    let report = read::Report::new(path, text);
    let table = tree_of(&report, text)?;
    let config = sections::config(path, &report, &table);
    let unknown = check::config(&report, &config);
    let places = config.places(&report, &unknown);
    let warnings = report.finish()?;
    Ok(Config { warnings, places, ..config.into_config() })
}

#[cfg(test)]
mod tests;

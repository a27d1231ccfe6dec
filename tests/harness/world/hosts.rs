//! The hosts: how they start, die, and lose their store.

use super::backing::is_watched;
use super::*;

impl World {
    /// (Re)starts the host with what is in the store.
    pub fn start_host(&mut self) {
        self.start(0);
    }

    /// (Re)starts a host with what is in the store.
    pub fn start(&mut self, index: usize) {
        let clustered = self.is_cluster();
        let host = &mut self.hosts[index];
        host.started = self.now;
        host.life += 1;
        let listeners = [Protocol::Udp, Protocol::Tcp]
            .map(|protocol| Listener { protocol, local: host.address, advertised: host.address.to_string() })
            .to_vec();
        let identity = HostIdentity {
            name: host.name.to_owned(),
            id: host.name.to_owned(),
            pool: host.pool.to_owned(),
            link: clustered.then_some(host.address),
            listeners: listeners.clone(),
            ..HostIdentity::default()
        };
        let value = serde_json::to_vec(&identity).unwrap().into();
        let enlist = Operation::Put { key: host_key(host.name), value };
        self.write_record(enlist);
        let snapshot = self.store.snapshot(ROOT);
        let host = &mut self.hosts[index];
        host.record = snapshot.records[&host_key(host.name)].revision;
        host.first_record = host.record;
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        let options = Options {
            config: host.config.clone(),
            listeners,
            seed,
            snapshot,
            bundle: host.bundle.clone(),
            plugins: Plugins::from_entries(&plugins::entries(self.options.plugins)),
            clustered,
        };
        let now = self.host_now(index);
        let engine = match Engine::new(now, options) {
            Ok(engine) => engine,
            Err(error) => panic!("{error}"),
        };
        self.hosts[index].engine = Some(engine);
        self.drain_host(index);
        // Phones on TCP notice, one after the other.
        for phone in 0..self.phones.len() {
            if self.phones[phone].stream.is_some() && self.phones[phone].host() == self.hosts[index].address {
                self.push(Duration::from_millis(700 + 300 * phone as u64), Pending::Reconnect(phone));
            }
        }
    }

    /// `kill -9`: memory is gone, the store stays, messages on their way to the host are lost.
    pub fn kill_host(&mut self) {
        self.kill(0);
    }

    /// `kill -9` of a host.
    pub fn kill(&mut self, index: usize) {
        self.note_unrecorded();
        let host = &mut self.hosts[index];
        host.engine = None;
        host.held_back.clear();
        self.storeless.remove(&index);
        let host = &self.hosts[index];
        let (address, record) = (host.address, host.record);
        self.streams.retain(|(host, _), _| *host != index);
        self.pending.retain(|_, pending| match pending {
            Pending::ToHost(flow, _) => flow.local != address,
            Pending::Host(host, ..) => *host != index,
            _ => true,
        });
        if self.is_cluster() {
            self.push(LEASE, Pending::LeaseEnds(index, record));
        }
        for phone in 0..self.phones.len() {
            if self.phones[phone].host() == address {
                self.new_connection(phone);
            }
        }
    }

    /// Calls that no record tells of, be it that the store is away or that they have just begun, end with the host that has them.
    fn note_unrecorded(&mut self) {
        let snapshot = self.store.snapshot(ROOT);
        let records: Vec<&[u8]> = snapshot.records.values().map(|record| &record.value[..]).collect();
        let recorded = |call_id: &str| {
            let call_id = call_id.as_bytes();
            records.iter().any(|record| record.windows(call_id.len()).any(|part| part == call_id))
        };
        for phone in &self.phones {
            let dialogs = phone.live().filter_map(|id| phone.call(id).dialog.as_ref());
            let ids = dialogs.map(|dialog| dialog.call_id.to_string());
            self.unrecorded.extend(ids.filter(|call_id| !recorded(call_id)));
        }
    }

    /// Starts a dead host after that long.
    pub fn start_later(&mut self, index: usize, after: Duration) {
        self.push(after, Pending::Start(index));
    }

    /// A host that runs, the first of them.
    pub fn somebody(&self) -> Option<usize> {
        self.hosts.iter().position(|host| host.engine.is_some())
    }

    /// Every host runs and reaches the store and all others; every phone registers again.
    pub fn heal(&mut self) {
        if !self.is_cluster() {
            return;
        }
        self.strike = None;
        for hosts in std::mem::take(&mut self.cut_links) {
            self.greet(hosts);
        }
        for host in 0..self.hosts.len() {
            self.cut_from_store(host, false);
            if self.hosts[host].engine.is_none() {
                self.start(host);
            }
        }
        self.run_for(LEASE * 2);
        for phone in 0..self.phones.len() {
            self.act(phone, |phone| phone.register(3600));
        }
        self.run_for(Duration::from_secs(2));
    }

    /// A host reaches the store no more, or again. What it asks meanwhile is answered then.
    pub fn cut_from_store(&mut self, index: usize, cut: bool) {
        if cut {
            if self.storeless.contains_key(&index) {
                return;
            }
            self.storeless.insert(index, self.now);
            let record = self.hosts[index].record;
            self.push(LEASE, Pending::LeaseEnds(index, record));
            self.push(LEASE * 4 / 5, Pending::Lapses(index, self.now));
        } else if self.storeless.remove(&index).is_some() {
            let key = host_key(self.hosts[index].name);
            if !self.store.snapshot(&key).records.contains_key(&key) {
                let host = &self.hosts[index];
                let identity = HostIdentity {
                    name: host.name.to_owned(),
                    id: host.name.to_owned(),
                    pool: host.pool.to_owned(),
                    link: Some(host.address),
                    listeners: [Protocol::Udp, Protocol::Tcp]
                        .map(|protocol| Listener {
                            protocol,
                            local: host.address,
                            advertised: host.address.to_string(),
                        })
                        .to_vec(),
                    ..HostIdentity::default()
                };
                let value = serde_json::to_vec(&identity).unwrap().into();
                self.write_record(Operation::Put { key: key.clone(), value });
            }
            let snapshot = self.store.snapshot(ROOT);
            let revision = snapshot.records[&key].revision;
            self.hosts[index].record = revision;
            // The watch delivers what has changed meanwhile.
            for (key, record) in snapshot.records {
                if is_watched(&key, true) {
                    let change = Change { key, record: Some(record) };
                    self.for_host(StoreDoes::SOON, index, Input::StoreChanged(change));
                }
            }
            self.for_host(StoreDoes::SOON, index, Input::Standing(Standing::Live { revision }));
            for (request, transaction) in std::mem::take(&mut self.hosts[index].held_back) {
                self.write(index, request, &transaction);
            }
        }
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> usize {
        self.hosts.iter().position(|host| host.name == name).expect("no such host")
    }

    pub fn host_address(&self) -> SocketAddr {
        self.hosts[0].address
    }

    pub(super) fn host_now(&self, host: usize) -> Now {
        let host = &self.hosts[host];
        let Clock { ahead_ms, drift_ppm } = host.clock;
        let since_ms = i64::try_from((self.now - Instant::ZERO).as_millis()).unwrap_or(i64::MAX);
        let ahead_ms = ahead_ms + since_ms.saturating_mul(drift_ppm) / 1_000_000;
        let utc = Utc(self.utc().0.saturating_add_signed(ahead_ms));
        Now { instant: Instant::after_start(self.now - host.started), utc }
    }

    /// The host at that address, if it runs.
    pub(super) fn host_at(&self, address: SocketAddr) -> Option<usize> {
        self.hosts.iter().position(|host| host.address == address && host.engine.is_some())
    }

    pub(super) fn for_host(&mut self, delay: Duration, host: usize, input: Input) {
        let life = self.hosts[host].life;
        self.push(delay, Pending::Host(host, life, input));
    }

    /// A phone talks to that host from now on: it will register there.
    pub fn move_phone(&mut self, phone: usize, host: &str) {
        let address = self.hosts[self.host(host)].address;
        self.phones[phone].talk_to(address);
    }

    /// Registers phones of these users at these hosts.
    pub fn phones_at<const N: usize>(&mut self, places: [(&str, &str); N]) -> [usize; N] {
        let ids = places.map(|(user, host)| {
            let id = self.add_phone(user);
            self.move_phone(id, host);
            self.act(id, |phone| phone.register(3600));
            id
        });
        self.run_for(Duration::from_secs(2));
        for id in ids {
            assert!(self.phones[id].registered, "{} could not register", self.phones[id].name);
        }
        ids
    }

    /// Whether any host does not reach the store.
    pub fn is_storeless(&self) -> bool {
        !self.storeless.is_empty()
    }

    pub(super) fn is_cluster(&self) -> bool {
        !self.options.hosts.is_empty()
    }

    /// The engine of the first host, if it runs.
    pub fn engine(&self) -> Option<&Engine> {
        self.hosts[0].engine.as_ref()
    }
}

pub(super) fn configuration(
    options: &WorldOptions,
    name: &str,
    pool: &str,
    address: SocketAddr,
) -> Arc<Config> {
    let named = |pool: &str| match options.contact_by_name {
        true => format!("fqdn = \"{pool}.example.test\"\ncontact = \"fqdn\""),
        false => String::new(),
    };
    let (named_east, named_west) = (named("east"), named("west"));
    let others = if options.hosts.is_empty() {
        "[[pools]]\nname = \"east\"\n".to_owned()
    } else {
        format!(
            r#"
[[pools]]
name = "east"
backup = "west"
{named_east}
[[pools]]
name = "west"
backup = "east"
{named_west}
[[orbits]]
name = "west-park"
from = "8000"
to = "8099"
kind = "call-park"
pool = "west"
[[orbits]]
name = "west-groups"
from = "*200"
to = "*299"
kind = "group-pickup"
pool = "west"
"#
        )
    };
    let text = format!(
        r#"
[host]
name = "{name}"
pool = "{pool}"
data_dir = "var"
[sip]
domain = "example.test"
listen = ["udp:{address}", "tcp:{address}"]
{}
[media]
address = "{}"
{others}
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
        address.ip(),
        users(&options.users, options.west, !options.hosts.is_empty()),
        options.config
    );
    match config::parse(&PathBuf::from("world.toml"), &text) {
        Ok(config) => Arc::new(config),
        Err(errors) => panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

/// Alice, Bob, Carol and Dave of the east; in a cluster Erin and Frank of the west as well.
pub(super) fn users(more: &[(&str, &str)], west: &[&str], cluster: bool) -> String {
    let all = [
        ("alice", "1001", true, "east"),
        ("bob", "1002", true, "east"),
        ("carol", "1003", true, "east"),
        ("dave", "1004", false, "east"),
        ("erin", "2001", true, "west"),
        ("frank", "2002", true, "west"),
    ];
    let text = |(name, extension, may_park, pool): (&str, &str, bool, &str)| {
        let pool = if west.contains(&name) { "west" } else { pool };
        let display = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        let keys: String =
            more.iter().filter(|(user, _)| *user == name).map(|(_, keys)| format!("{keys}\n")).collect();
        format!(
            "[[users]]\nname = \"{name}\"\nextension = \"{extension}\"\ndisplay = \"{display}\"\n\
             password = \"{name}-secret\"\npool = \"{pool}\"\nmay_park = {may_park}\n{keys}"
        )
    };
    all.into_iter().filter(|(.., pool)| cluster || *pool == "east").map(text).collect()
}

pub(super) fn default_policy() -> String {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../policies/default.lua");
    std::fs::read_to_string(default).unwrap()
}

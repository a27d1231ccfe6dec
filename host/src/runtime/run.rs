//! From a configuration to a running host, and from a signal to its end.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing_appender::non_blocking::ErrorCounter;

use super::clock::Clock;
use super::drain::drain;
use super::engine_thread::{self, Ended, Parts};
use super::greeting::greeting;
use super::health::{install_metrics, look_after};
use super::heartbeat::Heartbeat;
use super::inbox::{Inbox, inbox};
use super::linking::{LinkError, LinkPort};
use super::lost_lines::LostLines;
use super::policies::{self, Reread};
use super::seed::{Seeded, seed};
use super::signals::{Asked, Signals};
use super::{Hands, descriptors, linking, naming, reload, standing, storing};
use crate::admin::{self, Access, AccessError, AdminHandle, Events, Readiness, Service, State};
use crate::config::{Config, ConfigError, StoreKind};
use crate::engine::{Engine, Input, Options};
use crate::media::{self, MediaConfig};
use crate::plugin::Plugins;
use crate::policy::{Bundle, Diagnostic};
use crate::store::keys::hosts_prefix;
use crate::store::{MemoryStore, OpenError, RedbStore, Snapshot, Store, StoreError};
use crate::transport::dns::Dns;
use crate::transport::link::{Link, matching};
use crate::transport::locate::Reach;
use crate::transport::ports::{self, PortError, Ports};
use crate::transport::tcp::{Limits, Streams};

/// Threads for TCP, DNS, HTTP and the store's answers. The engine and the media pacer have their own.
const IO_THREADS: usize = 2;

/// At the end: for what waits to be written to TCP connections, and for tasks to notice that it is over.
const CLOSING_MAX: Duration = Duration::from_secs(2);

/// The longest a policy may take to decide. Calls wait meanwhile, so it is far below what a phone notices.
const POLICY_DECISION_MAX: Duration = Duration::from_millis(50);

/// The store's file in `data_dir`.
const STORE_FILE: &str = "store.redb";

/// Why a host did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A SIP port.
    #[error("{0}")]
    Port(#[from] PortError),
    /// The port of the administrative interface.
    #[error("the administrative interface cannot listen on {0} ({1}). Change `listen` under [admin]")]
    AdminPort(SocketAddr, io::Error),
    /// The link to the other hosts.
    #[error("{0}")]
    Link(#[from] LinkError),
    /// Who may use it.
    #[error("{0}")]
    Access(#[from] AccessError),
    /// The data folder.
    #[error("data_dir {} cannot be made: {error}", path.display())]
    DataDir {
        /// Where it should be.
        path: PathBuf,
        /// Why it cannot.
        error: io::Error,
    },
    /// The store's file.
    #[error("{0}")]
    StoreFile(#[from] OpenError),
    /// A certificate or key for the store.
    #[error("{} cannot be read: {error}", path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// They do not belong together, or are none.
    #[error("{0}")]
    StoreKey(ConfigError),
    /// Who this host is.
    #[error("{}: {error}", path.display())]
    Identity {
        /// The data folder.
        path: PathBuf,
        /// Why it cannot be told from another host.
        error: io::Error,
    },
    /// The store's contents.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// It does not go with the others that share the store.
    #[error("{0}")]
    Misfit(#[from] standing::Misfit),
    /// The policies cannot be read.
    #[error("{0}")]
    Policies(Diagnostic),
    /// The engine could not be made: wrong policies, mostly.
    #[error("{0}")]
    Engine(String),
    /// The engine panicked while it ran.
    #[error(
        "the engine stopped with a fault: {0}. Parked calls are in the store and are taken up again by the next start"
    )]
    EnginePanicked(String),
    /// The operating system refused something.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        error: io::Error,
    },
}

/// Maps an I/O error to [`RunError::System`].
fn system(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |error| RunError::System { what, error }
}

/// Shows a text to whoever started the host. May block for ever.
pub type Greet = Box<dyn FnOnce(&str) + Send>;

/// Runs a host until it is told to stop (SIGTERM, SIGINT), and all its calls have ended or it is told again.
///
/// `greet` gets one text when the host is up; the rest is in the log, which counts in `lost` what it could not write.
pub fn run(config: Config, lost: ErrorCounter, greet: Greet) -> Result<(), RunError> {
    let config = Arc::new(config);
    match descriptors::raise_limit() {
        Ok(limit) => tracing::debug!(limit, "descriptors"),
        Err(error) => tracing::warn!(%error, "the limit of descriptors stays as it is"),
    }
    // All addresses first: another host in the way is the most common mistake, and costs nothing to find.
    let ports = ports::open(&config.sip)?;
    let link_port = linking::open(&config)?;
    let access = Access::new(&config.admin)?;
    let admin_port = std::net::TcpListener::bind(config.admin.listen)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| RunError::AdminPort(config.admin.listen, error))?;
    let io = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(system("threads"))?;
    let outcome = io.block_on(async {
        let host = start(&config, ports, link_port, access, admin_port, lost, greet).await?;
        host.live(&config).await
    });
    io.shutdown_timeout(CLOSING_MAX);
    outcome
}

/// A running host, seen from its main task.
struct Host {
    signals: Signals,
    engine: AdminHandle,
    inbox: Inbox,
    readiness: Readiness,
    reread: Reread,
    dns: Dns,
    streams: Streams,
    link: Option<Link>,
    store: OpenStore,
    /// Keeps other processes away from the data folder.
    _lock: std::fs::File,
    stop: CancellationToken,
    ended: oneshot::Receiver<Ended>,
}

async fn start(
    config: &Arc<Config>,
    ports: Ports,
    link_port: Option<LinkPort>,
    access: Access,
    admin_port: std::net::TcpListener,
    lost: ErrorCounter,
    greet: Greet,
) -> Result<Host, RunError> {
    let metrics = install_metrics();
    let signals = Signals::new().map_err(system("signals"))?;
    let clock = Clock::start();
    let (inbox, arrivals) = inbox();
    // What the client makes of it nobody would understand.
    if let Some((cert, key)) = &config.store.etcd.identity {
        matching(cert, key).map_err(|unfit| RunError::StoreKey(config.of_store(unfit.key, unfit.message)))?;
    }
    let store = OpenStore::open(config).await?;
    let (mut identity, lock) = standing::identity(&config.host.name, &config.host.data_dir)
        .map_err(|error| RunError::Identity { path: config.host.data_dir.clone(), error })?;
    let advertised = link_port.as_ref().map(|port| port.advertised);
    identity.pool.clone_from(&config.host.pool);
    identity.link = advertised;
    identity.listeners.clone_from(&ports.listeners);
    identity.domain.clone_from(&config.sip.domain);
    standing::fits(&store.store.list(&hosts_prefix()).await?, &identity)?;
    let standing = store.store.enlist(&identity).await?;
    tell_seeded(&seed(&*store.store, config).await?);
    let shared = config.store.kind.is_shared();
    let snapshot = storing::mirror(&store.store, shared, &inbox.waiting).await?;
    let bundle = Arc::new(Bundle::read(&config.policies.dir).map_err(RunError::Policies)?);
    let media = start_media(config, &inbox)?;
    let streams = Streams::new(tokio::runtime::Handle::current(), inbox.waiting.clone(), tcp_limits(config));
    let link = link_port
        .map(|port| port.start(tokio::runtime::Handle::current(), inbox.waiting.clone()))
        .transpose()
        .map_err(system("the port for other hosts"))?;
    let dns = Dns::new(&config.sip.nameservers)
        .map_err(|error| RunError::System { what: "the resolver", error: io::Error::other(error) })?;

    let (writes, writes_out) = mpsc::channel(storing::WRITES_MAX);
    let writing = storing::write_all(Arc::clone(&store.store), writes_out, inbox.waiting.clone());
    let (queries, queries_out) = mpsc::channel(naming::QUERIES_MAX);
    let reach = Reach::new(ports.listeners.iter().map(|listener| (listener.protocol, listener.local)));
    tokio::spawn(naming::answer_all(
        Arc::new(dns.clone()),
        reach,
        rand::random(),
        naming::PATIENCE,
        queries_out,
        inbox.waiting.clone(),
    ));

    let heartbeat = Heartbeat::default();
    let events = Events::default();
    let (engine, questions) = AdminHandle::channel();
    let stop = CancellationToken::new();
    let parts = Parts {
        clock,
        heartbeat: heartbeat.clone(),
        udp: ports.udp,
        arrivals,
        questions,
        stop: stop.clone(),
        writing: Box::pin(writing),
        hands: Hands {
            streams: streams.clone(),
            link: link.clone(),
            store: writes,
            names: queries,
            media: Box::new(move |command| media.send(command)),
            events: events.clone(),
        },
    };
    let greeted = snapshot.clone();
    let make =
        making(config, ports.listeners.clone(), link.is_some(), snapshot, Arc::clone(&bundle), inbox.clone());
    let (started, ended) = engine_thread::start(parts, make).map_err(system("the engine's thread"))?;
    let Ok(plugins) = started.await else {
        return Err(ended_early(ended.await.ok()));
    };

    for listener in ports.tcp {
        streams.listen(listener).map_err(system("TCP"))?;
    }
    let reread =
        policies::watch(config.policies.dir.clone(), bundle.hash().to_owned(), inbox.waiting.clone());
    let readiness = Readiness::default();
    tokio::spawn(standing::follow(standing, readiness.clone(), inbox.waiting.clone()));
    tokio::spawn(standing::look_for_room(Arc::clone(&store.store), readiness.clone()));
    if let Some(link) = &link {
        tokio::spawn(linking::greet_all(Arc::clone(&store.store), link.clone()));
    }
    let service = Service {
        engine: engine.clone(),
        events,
        readiness: readiness.clone(),
        access,
        pool: config.host.pool.clone(),
        metrics: Arc::new({
            let metrics = metrics.clone();
            move || metrics.render()
        }),
    };
    let admin_port = tokio::net::TcpListener::from_std(admin_port).map_err(system("HTTP"))?;
    tokio::spawn(admin::serve(admin_port, admin::router(service), stop.clone().cancelled_owned()));
    tokio::spawn(look_after(clock, heartbeat, metrics, streams.clone(), LostLines::new(lost)));
    readiness.set(State::Ready);
    let text = greeting(config, &ports.listeners, advertised, &plugins, &greeted);
    // On a stopped terminal it would stand still before it listens to signals.
    std::thread::spawn(move || greet(&text));
    Ok(Host {
        signals,
        engine,
        inbox,
        readiness,
        reread,
        dns,
        streams,
        link,
        store,
        _lock: lock,
        stop,
        ended,
    })
}

/// Makes the engine and its plugins, on the engine's thread. Returns the plugins' names and versions as well.
fn making(
    config: &Arc<Config>,
    listeners: Vec<crate::net::Listener>,
    clustered: bool,
    snapshot: Snapshot,
    bundle: Arc<Bundle>,
    inbox: Inbox,
) -> impl FnOnce(crate::time::Now) -> Result<(Engine, Vec<String>), String> + Send + 'static {
    let config = Arc::clone(config);
    move |now| {
        let enabled = config.plugins.enabled.as_deref();
        let mut plugins = Plugins::load(&config.plugins.dir, enabled, &config.host.data_dir);
        for refused in plugins.refused() {
            tracing::error!("plugin not loaded: {refused}");
        }
        let manifests: Vec<_> = plugins.manifests().cloned().collect();
        for mistake in config.against_plugins(&manifests) {
            tracing::warn!("{mistake}");
        }
        plugins.on_wake(move |instance| inbox.push(Input::PluginWake(instance)));
        if let Err(error) = plugins.watchdog().spawn() {
            tracing::warn!(%error, "no watchdog over the plugins");
        }
        let names = names(&plugins.list());
        let options =
            Options { config, listeners, seed: rand::random(), snapshot, bundle, plugins, clustered };
        let mut engine = Engine::new(now, options).map_err(|error| error.to_string())?;
        let clock = Clock::start();
        engine.limit_policy_time(Arc::new(move || clock.now().instant.since_start()), POLICY_DECISION_MAX);
        Ok((engine, names))
    }
}

/// `call-park 0.1.0` of each plugin that runs.
fn names(list: &serde_json::Value) -> Vec<String> {
    let text = |plugin: &serde_json::Value, key: &str| plugin.get(key)?.as_str().map(str::to_owned);
    let plugins = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let title = |plugin| Some(format!("{} {}", text(plugin, "name")?, text(plugin, "version")?));
    plugins
        .iter()
        .filter(|plugin| text(plugin, "state").as_deref() != Some("refused"))
        .filter_map(title)
        .collect()
}

impl Host {
    /// Until it is told to stop, or the engine ends by itself.
    async fn live(mut self, config: &Config) -> Result<(), RunError> {
        loop {
            tokio::select! {
                ended = &mut self.ended => return Err(ended_early(ended.ok())),
                asked = self.signals.next() => match asked {
                    Asked::Stop => break,
                    Asked::Reload => self.reload(config),
                },
            }
        }
        tracing::info!("told to stop: no new calls and no new parks; those that live go on");
        self.readiness.set(State::Draining);
        let _ = self.inbox.waiting.send(Input::Drain).await;
        let outcome = drain(&self.engine, self.signals.stop(), config.host.drain_max).await;
        tracing::info!(outcome = outcome.word(), "stopping");
        self.stop.cancel();
        let ended = timeout(CLOSING_MAX, self.ended).await.ok().and_then(Result::ok);
        let unlink = async {
            if let Some(link) = &self.link {
                link.shut_down(CLOSING_MAX).await;
            }
        };
        tokio::join!(self.streams.shut_down(CLOSING_MAX), unlink);
        self.store.close().await;
        match ended {
            Some(Ended::Stopped) => Ok(()),
            other => Err(ended_early(other)),
        }
    }

    fn reload(&self, config: &Config) {
        tracing::info!("SIGHUP: reading policies, configuration and resolver settings again");
        self.reread.now();
        reload::report(config, &config.file);
        if let Some(link) = &self.link {
            linking::renew(config, link);
        }
        if let Err(error) = self.dns.reload() {
            tracing::error!(%error, "the resolver settings stay as they were");
        }
    }
}

fn ended_early(ended: Option<Ended>) -> RunError {
    match ended {
        Some(Ended::NotStarted(reason)) => RunError::Engine(reason),
        Some(Ended::Panicked(words)) => RunError::EnginePanicked(words),
        Some(Ended::Stopped) | None => RunError::EnginePanicked("its thread does not come back".to_owned()),
    }
}

/// The store as the trait, and as what must be closed.
struct OpenStore {
    store: Arc<dyn Store>,
    embedded: Option<Arc<RedbStore>>,
}

impl OpenStore {
    async fn open(config: &Config) -> Result<Self, RunError> {
        let dir = &config.host.data_dir;
        // Only for the host's own user: what proves the users' identity is in there.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| RunError::DataDir { path: dir.clone(), error })?;
        match config.store.kind {
            StoreKind::Memory => Ok(Self { store: Arc::new(MemoryStore::new()), embedded: None }),
            StoreKind::Embedded => {
                let embedded = Arc::new(RedbStore::open(dir.join(STORE_FILE))?);
                Ok(Self { store: embedded.clone(), embedded: Some(embedded) })
            }
            StoreKind::Etcd => Ok(Self { store: etcd(&config.store.etcd).await?, embedded: None }),
        }
    }

    /// Writes what was answered before it was on the disk.
    async fn close(self) {
        self.store.resign().await;
        if let Some(embedded) = self.embedded {
            // Blocks for one fsync.
            let _ = tokio::task::spawn_blocking(move || embedded.close()).await;
        }
    }
}

#[cfg(feature = "etcd")]
async fn etcd(config: &crate::config::Etcd) -> Result<Arc<dyn Store>, RunError> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).map_err(|error| RunError::Certificate { path: path.clone(), error })
    };
    let ca = config.ca.as_ref().map(read).transpose()?;
    let identity = config.identity.as_ref().map(|(cert, key)| Ok::<_, RunError>((read(cert)?, read(key)?)));
    let tls = crate::store::Tls { ca, identity: identity.transpose()? };
    let options = crate::store::EtcdOptions { endpoints: config.endpoints.clone(), tls, lease: config.lease };
    Ok(Arc::new(crate::store::EtcdStore::open(&options).await?))
}

/// The configuration refuses it before.
#[cfg(not(feature = "etcd"))]
async fn etcd(_: &crate::config::Etcd) -> Result<Arc<dyn Store>, RunError> {
    Err(RunError::Store(StoreError::Invalid("this program was built without etcd".to_owned())))
}

fn tell_seeded(seeded: &Seeded) {
    match seeded {
        Seeded::Filled { users, ranges } => {
            tracing::info!(users, ranges, "the store was empty and has now what the configuration names");
        }
        Seeded::AlreadyFilled { only_in_file, otherwise } => {
            if !only_in_file.is_empty() {
                let names = only_in_file.join(", ");
                tracing::warn!(
                    "in the configuration, but not in the store, and so not there: {names}. The file only fills an empty \
                     store; use `switchyard user` and `switchyard orbit`, or begin anew without the store's file"
                );
            }
            if !otherwise.is_empty() {
                let pools = otherwise.join("; ");
                tracing::warn!(
                    "the store, which counts, says otherwise than the configuration: {pools}. Put the file right when you can"
                );
            }
        }
    }
}

fn start_media(config: &Config, inbox: &Inbox) -> Result<media::Service, RunError> {
    let media = MediaConfig {
        address: config.media.address,
        ports: config.media.ports.clone(),
        music: config.media.music.clone(),
        seed: rand::random(),
    };
    let inbox = inbox.clone();
    media::Service::start(media, move |event| inbox.push(Input::Media(event)))
        .map_err(system("the media thread"))
}

fn tcp_limits(config: &Config) -> Limits {
    let connections = config.sip.limits.connections;
    Limits {
        connections,
        // One address may have a quarter: a big office behind one NAT, but not the whole host.
        per_address: (connections / 4).max(1),
        message_bytes: config.sip.limits.message_bytes,
        ..Limits::default()
    }
}

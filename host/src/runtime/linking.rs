//! The link to the other hosts of the cluster: from the configuration to an open port, and from there to new certificates.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::clock::Clock;
use crate::config::{Cluster, Config, ConfigError};
use crate::engine::Input;
use crate::net::HostName;
use crate::store::keys::hosts_prefix;
use crate::store::{HostIdentity, Store};
use crate::transport::link::{Credentials, Link, Unfit};
use crate::transport::tcp;

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The port is not to be had.
    #[error("the link to the other hosts cannot listen on {0} ({1}). Change `listen` under [cluster]")]
    Port(SocketAddr, io::Error),
    /// The certificates are not fit.
    #[error("{}", lines(.0))]
    Unfit(Vec<ConfigError>),
}

fn lines(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The port for the other hosts, not listened to yet.
pub struct LinkPort {
    own: HostName,
    listener: TcpListener,
    credentials: Credentials,
    /// Where the other hosts reach it.
    pub advertised: SocketAddr,
}

/// Opens the port, if there is to be one.
pub fn open(config: &Config) -> Result<Option<LinkPort>, LinkError> {
    let Some(cluster) = &config.cluster else { return Ok(None) };
    let credentials = credentials(config, cluster).map_err(LinkError::Unfit)?;
    // The configuration knows no longer names.
    let Some(own) = HostName::new(&config.host.name) else { return Ok(None) };
    let port = tcp::bind(cluster.listen).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (local, listener) = port.map_err(|error| LinkError::Port(cluster.listen, error))?;
    Ok(Some(LinkPort { own, listener, credentials, advertised: cluster.advertise.unwrap_or(local) }))
}

impl LinkPort {
    /// Listens. What the other hosts say goes to `inbox`.
    pub fn start(self, io: Handle, inbox: mpsc::Sender<Input>) -> io::Result<Link> {
        let link = Link::new(self.own, self.credentials, io, inbox);
        link.listen(self.listener)?;
        Ok(link)
    }
}

/// How often it is seen to that there is a connection to each other host. Two more attempts have failed before one counts as out of reach
/// ([`LASTING`](crate::cluster::LASTING)).
const GREET_EVERY: Duration = Duration::from_secs(4);

/// Keeps a connection to each living host, so that one which cannot be reached is known before it has anything to do.
pub async fn greet_all(store: Arc<dyn Store>, link: Link) {
    loop {
        // While the store is away nobody comes or goes.
        if let Ok(hosts) = store.list(&hosts_prefix()).await {
            let identities = hosts.records.values().filter_map(|record| {
                let host: HostIdentity = serde_json::from_slice(&record.value).ok()?;
                Some((HostName::new(&host.name)?, host.link?))
            });
            for (host, at) in identities {
                link.greet(host, at);
            }
        }
        tokio::time::sleep(GREET_EVERY).await;
    }
}

/// The host's certificates, or what is wrong with them and where the file names them.
pub fn credentials(config: &Config, cluster: &Cluster) -> Result<Credentials, Vec<ConfigError>> {
    let placed = |unfit: Unfit| config.of_cluster(unfit.key, unfit.message);
    let credentials = Credentials::read(cluster, &config.host.name, Clock::start().now().utc)
        .map_err(|unfit| unfit.into_iter().map(placed).collect::<Vec<_>>())?;
    if let Some(warning) = credentials.warning() {
        tracing::warn!("{}", config.of_cluster("cert", warning));
    }
    Ok(credentials)
}

/// Reads the certificates again.
pub fn renew(config: &Config, link: &Link) {
    let Some(cluster) = &config.cluster else { return };
    match credentials(config, cluster) {
        Ok(credentials) => link.renew(credentials),
        Err(errors) => {
            for error in errors {
                tracing::error!("{error}");
            }
            tracing::error!("the certificates of [cluster] stay as they were");
        }
    }
}

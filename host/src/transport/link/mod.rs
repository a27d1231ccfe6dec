//! The link between the hosts of a cluster: TLS 1.3, each side proving by its certificate which host it is.
//!
//! Each host keeps a connection to each other ([`Link::greet`]), and says there what it has to say; on connections others
//! opened to it, it listens. What is said are [`Frame`]s, and, when there was nothing for a while, eight zero bytes: are you
//! there? The only word in the other direction is a number, eight bytes big-endian: so many frames have been handed to
//! the engine. The first such word comes at once, and says that the host was let in.
//!
//! So the sender knows what arrived. When a connection breaks, or nothing is heard on it for [`SILENCE`], everything that
//! was not acknowledged comes back as [`Input::Unlinked`]; it may have arrived nevertheless.

mod authority;
mod credentials;
mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::authority::{Authority, AuthorityError, Certified};
pub use self::credentials::{Credentials, SUFFIX, Unfit, certified_name, matching};
use self::incoming::Listened;
use self::outgoing::Peer;
use crate::cluster::Frame;
use crate::engine::Input;
use crate::net::HostName;
use crate::repeats;

/// A peer that says nothing for so long is gone. It is asked every [`ASK_EVERY`].
pub const SILENCE: Duration = Duration::from_secs(3);
/// When nothing was said for so long, the peer is asked whether it is there.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What waits for one peer, or is not acknowledged yet: some seconds of a busy site. A phone would ask again before a
/// longer queue is through.
pub const WAITING_FRAMES_MAX: usize = 16_384;
/// The same in bytes.
pub const WAITING_BYTES_MAX: usize = 32 << 20;

/// All that a host has to do with the others. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    own: HostName,
    inbox: mpsc::Sender<Input>,
    io: Handle,
    credentials: ArcSwap<Credentials>,
    /// Those we speak to.
    peers: Mutex<BTreeMap<HostName, Peer>>,
    /// Those we listen to.
    listened: Mutex<Listened>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Link {
    /// For the host `own`. Tasks run on `io`; what the peers say, and what they could not be told, goes to `inbox`.
    pub fn new(own: HostName, credentials: Credentials, io: Handle, inbox: mpsc::Sender<Input>) -> Self {
        Self {
            shared: Arc::new(Shared {
                own,
                inbox,
                io,
                credentials: ArcSwap::from_pointee(credentials),
                peers: Mutex::default(),
                listened: Mutex::default(),
                tasks: TaskTracker::new(),
                closing: CancellationToken::new(),
            }),
        }
    }

    /// Takes connections on `listener`, made by [`tcp::bind`](super::tcp::bind), until [`Self::shut_down`].
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub fn listen(&self, listener: std::net::TcpListener) -> io::Result<()> {
        let _inside = self.shared.io.enter();
        let listener = TcpListener::from_std(listener)?;
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn_on(incoming::accept(shared, listener), &self.shared.io);
        Ok(())
    }

    /// Says `frame` to the host `to`, which listens `at`, after all that was said to it before.
    ///
    /// What cannot be said comes back as [`Input::Unlinked`], later through the inbox; or, when too much waits for that
    /// host already, at once: it is returned. So is [`Input::Link`] for what this host says to itself.
    #[must_use]
    pub fn send(&self, to: HostName, at: SocketAddr, frame: Frame) -> Option<Input> {
        if to == self.shared.own {
            return Some(Input::Link { from: to, frame });
        }
        let mut peers = self.shared.peers();
        if self.shared.closing.is_cancelled() {
            return Some(Input::Unlinked { to, frame });
        }
        let peer = peers.entry(to).or_insert_with(|| Peer::start(&self.shared, to));
        let refused = peer.send(at, frame)?;
        drop(peers);
        unlinked(to, "it is too far behind", 1);
        Some(Input::Unlinked { to, frame: refused })
    }

    /// Sees to it that there is a connection to the host `to`, which listens `at`: what keeps one from coming about shows before
    /// somebody's call depends on it ([`Input::Tried`]).
    pub fn greet(&self, to: HostName, at: SocketAddr) {
        let mut peers = self.shared.peers();
        if to != self.shared.own && !self.shared.closing.is_cancelled() {
            peers.entry(to).or_insert_with(|| Peer::start(&self.shared, to)).greet(at);
        }
    }

    /// From the next connection on, other certificates hold.
    pub fn renew(&self, credentials: Credentials) {
        self.shared.credentials.store(Arc::new(credentials));
    }

    /// Stops listening, says what waits to be said, within `limit`, and closes everything.
    pub async fn shut_down(&self, limit: Duration) {
        self.shared.closing.cancel();
        // Without their senders the queues end.
        self.shared.peers().clear();
        self.shared.tasks.close();
        if timeout(limit, self.shared.tasks.wait()).await.is_err() {
            tracing::info!("closed while frames for other hosts still waited");
        }
    }
}

impl Shared {
    fn peers(&self) -> MutexGuard<'_, BTreeMap<HostName, Peer>> {
        // A panic elsewhere cannot leave it half changed: no code of others runs under the lock.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listened(&self) -> MutexGuard<'_, Listened> {
        self.listened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is the matter with a connection between hosts, for who looks after them.
fn words(error: &io::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError, Error};
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate is not signed by this host's cluster.ca".to_owned()
        }
        Some(Error::AlertReceived(
            Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::DecryptError
            | Alert::CertificateUnknown
            | Alert::CertificateExpired,
        )) => format!("it does not believe this host's certificate (cluster.cert): {error}"),
        _ if error.kind() == io::ErrorKind::UnexpectedEof => "the connection broke off".to_owned(),
        _ => error.to_string(),
    }
}

/// Counts and tells frames that come back.
fn unlinked(to: HostName, reason: &str, count: usize) {
    if count == 0 {
        return;
    }
    metrics::counter!("switchyard_link_unlinked_total").increment(count as u64);
    if repeats::UNLINKED.is_first() {
        tracing::warn!(%to, %reason, count, "not said to another host");
    }
}

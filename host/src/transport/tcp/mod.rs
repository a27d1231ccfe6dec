//! TCP: connections accepted and opened, reused by remote address (RFC 3261 §18.1.1, §18.2.2), bounded in number,
//! in time and in what waits to be written.
//!
//! Each connection is one task of the I/O runtime. The engine's thread only looks up a queue and puts a message in.

mod connection;
mod limits;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Protocol as IpProtocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::{Outgoing, report_unsent, serve};
pub use self::limits::Limits;
use crate::engine::Input;
use crate::net::{ConnectionId, Flow, Protocol};
use crate::repeats;

/// Connections the kernel holds until we accept them; after a restart every phone comes at once.
const LISTEN_BACKLOG: i32 = 1_024;

/// Opens a listening socket. An address in use is an error; one on which only connections of an earlier run
/// linger (TIME_WAIT) is not.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(IpProtocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Why a message was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// The peer reads more slowly than we write.
    #[error("{0} messages wait already for this connection")]
    QueueFull(usize),
    /// [`Limits::connections`] is reached.
    #[error("{0} connections are open already")]
    TooManyConnections(usize),
    /// The host is shutting down.
    #[error("the host is shutting down")]
    ShuttingDown,
}

/// All TCP connections of the host. Cheap to clone.
#[derive(Clone)]
pub struct Streams {
    shared: Arc<Shared>,
}

struct Shared {
    inbox: mpsc::Sender<Input>,
    io: Handle,
    limits: Limits,
    table: Mutex<Table>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// Who is connected. Ordered maps only, so that nothing depends on hash seeds.
#[derive(Default)]
struct Table {
    last_id: u64,
    entries: BTreeMap<ConnectionId, Entry>,
    /// Newest connection to a remote address, per listening address of ours.
    by_remote: BTreeMap<(SocketAddr, SocketAddr), ConnectionId>,
    accepted_from: BTreeMap<IpAddr, usize>,
}

struct Entry {
    local: SocketAddr,
    remote: SocketAddr,
    queue: mpsc::Sender<Outgoing>,
    accepted: bool,
}

impl Streams {
    /// No connections yet. Their tasks run on `io`; what they have to say goes to `inbox`.
    pub fn new(io: Handle, inbox: mpsc::Sender<Input>, limits: Limits) -> Self {
        Self {
            shared: Arc::new(Shared {
                inbox,
                io,
                limits,
                table: Mutex::default(),
                tasks: TaskTracker::new(),
                closing: CancellationToken::new(),
            }),
        }
    }

    /// Accepts connections on `listener`, made by [`bind`], until [`Self::shut_down`].
    pub fn listen(&self, listener: std::net::TcpListener) -> io::Result<()> {
        let local = listener.local_addr()?;
        let _inside = self.shared.io.enter();
        let listener = TcpListener::from_std(listener)?;
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn_on(
            async move {
                tokio::select! {
                    () = accept(&shared, &listener, local) => {}
                    () = shared.closing.cancelled() => {}
                }
            },
            &self.shared.io,
        );
        Ok(())
    }

    /// Sends `bytes` on the flow's connection. If it has none, or it is gone: on an open connection to the same
    /// remote address, else on a new one. Whatever fails later is told as [`Input::SendFailed`].
    pub fn send(&self, flow: Flow, bytes: Bytes) -> Result<(), SendError> {
        let mut table = self.shared.table();
        let by_remote = || table.by_remote.get(&(flow.local, flow.remote)).copied();
        // A number that another life of this host, or of another host of its name, has given means nobody else's phone here.
        let is_theirs = |id: &ConnectionId| {
            table
                .entries
                .get(id)
                .is_some_and(|entry| (entry.local, entry.remote) == (flow.local, flow.remote))
        };
        let known = flow.connection.filter(is_theirs).or_else(by_remote);
        let mut outgoing = Outgoing { flow, bytes };
        if let Some(entry) = known.and_then(|id| table.entries.get(&id)) {
            match entry.queue.try_send(outgoing) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(_)) => {
                    return Err(SendError::QueueFull(self.shared.limits.queue));
                }
                Err(mpsc::error::TrySendError::Closed(returned)) => outgoing = returned,
            }
        }
        self.shared.open(&mut table, flow, outgoing)
    }

    /// How many connections are open or being opened.
    pub fn len(&self) -> usize {
        self.shared.table().entries.len()
    }

    /// Whether no connection is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stops accepting, writes what waits, and closes everything, within `limit`.
    pub async fn shut_down(&self, limit: Duration) {
        self.shared.closing.cancel();
        // Without their senders the queues end, and each writer stops when its queue is empty.
        self.shared.table().entries.clear();
        self.shared.tasks.close();
        if timeout(limit, self.shared.tasks.wait()).await.is_err() {
            tracing::info!(connections = self.shared.tasks.len(), "closed while messages still waited");
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere cannot leave the table half changed: no code of others runs under the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a connection to `flow.remote` with `first` as its first message.
    fn open(self: &Arc<Self>, table: &mut Table, flow: Flow, first: Outgoing) -> Result<(), SendError> {
        if self.closing.is_cancelled() {
            return Err(SendError::ShuttingDown);
        }
        if table.entries.len() >= self.limits.connections {
            return Err(SendError::TooManyConnections(self.limits.connections));
        }
        let (queue, waiting) = mpsc::channel(self.limits.queue);
        // The queue is new and holds at least one.
        let _ = queue.try_send(first);
        let pongs = queue.downgrade();
        let id = table.insert(Entry { local: flow.local, remote: flow.remote, queue, accepted: false });
        let flow = Flow { protocol: Protocol::Tcp, connection: Some(id), ..flow };
        let shared = Arc::clone(self);
        self.tasks.spawn_on(async move { shared.connect(flow, pongs, waiting).await }, &self.io);
        Ok(())
    }

    async fn connect(
        self: Arc<Self>,
        flow: Flow,
        pongs: mpsc::WeakSender<Outgoing>,
        mut waiting: mpsc::Receiver<Outgoing>,
    ) {
        let connected = match timeout(self.limits.connect, dial(flow.local, flow.remote)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {:?}", self.limits.connect)),
        };
        match connected {
            Ok(stream) => {
                tracing::debug!(remote = %flow.remote, connection = ?flow.connection, "TCP connected");
                serve(&self, flow, stream, pongs, waiting).await;
            }
            Err(reason) => {
                metrics::counter!("switchyard_tcp_unopened_total").increment(1);
                if repeats::TCP_UNOPENED.is_first() {
                    tracing::info!(remote = %flow.remote, %reason, "TCP connection could not be opened");
                }
                self.forget(flow);
                report_unsent(&self.inbox, &mut waiting, Vec::new(), &reason).await;
            }
        }
    }

    /// Takes the connection out of the table: nothing can be put into its queue any more.
    fn forget(&self, flow: Flow) {
        let Some(id) = flow.connection else { return };
        self.table().remove(id, (flow.local, flow.remote));
    }

    /// Room for one more connection from `address`?
    fn admit(&self, table: &Table, address: IpAddr) -> Result<(), &'static str> {
        if table.entries.len() >= self.limits.connections {
            return Err("total");
        }
        if table.accepted_from.get(&address).copied().unwrap_or(0) >= self.limits.per_address {
            return Err("address");
        }
        Ok(())
    }
}

impl Table {
    fn insert(&mut self, entry: Entry) -> ConnectionId {
        self.last_id += 1;
        let id = ConnectionId(self.last_id);
        self.by_remote.insert((entry.local, entry.remote), id);
        if entry.accepted {
            *self.accepted_from.entry(entry.remote.ip()).or_default() += 1;
        }
        self.entries.insert(id, entry);
        id
    }

    fn remove(&mut self, id: ConnectionId, addresses: (SocketAddr, SocketAddr)) {
        if self.by_remote.get(&addresses) == Some(&id) {
            self.by_remote.remove(&addresses);
        }
        let Some(entry) = self.entries.remove(&id) else { return };
        if entry.accepted
            && let Some(count) = self.accepted_from.get_mut(&entry.remote.ip())
        {
            *count -= 1;
            if *count == 0 {
                self.accepted_from.remove(&entry.remote.ip());
            }
        }
    }
}

async fn accept(shared: &Arc<Shared>, listener: &TcpListener, local: SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => welcome(shared, local, remote, stream),
            Err(error) => {
                // Out of descriptors, mostly: accepting again at once would only spin.
                tracing::warn!(%local, %error, "TCP accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn welcome(shared: &Arc<Shared>, local: SocketAddr, remote: SocketAddr, stream: TcpStream) {
    let mut table = shared.table();
    if let Err(limit) = shared.admit(&table, remote.ip()) {
        drop(table);
        metrics::counter!("switchyard_tcp_refused_total", "limit" => limit).increment(1);
        if repeats::TCP_REFUSED.is_first() {
            tracing::info!(%remote, limit, "TCP connection refused: too many");
        }
        // Reset instead of FIN: no descriptor lingers for a peer that has too many already.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        return;
    }
    let (queue, waiting) = mpsc::channel(shared.limits.queue);
    let pongs = queue.downgrade();
    let id = table.insert(Entry { local, remote, queue, accepted: true });
    drop(table);
    let flow = Flow { protocol: Protocol::Tcp, local, remote, connection: Some(id), edge: None };
    let owned = Arc::clone(shared);
    shared.tasks.spawn_on(async move { serve(&owned, flow, stream, pongs, waiting).await }, &shared.io);
}

/// Connects from the listening address, so that the peer sees the address we tell it in Via and Contact.
async fn dial(local: SocketAddr, remote: SocketAddr) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if !local.ip().is_unspecified() && local.is_ipv4() == remote.is_ipv4() {
        socket.bind(SocketAddr::new(local.ip(), 0))?;
    }
    socket.connect(remote).await
}

/// Messages leave at once, and a peer that vanished without a word (power cut, NAT reboot) is noticed in some
/// two minutes instead of when somebody next calls it.
fn tune(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    let tuned = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = tuned {
        tracing::debug!(%error, "TCP socket options");
    }
}

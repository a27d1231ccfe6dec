//! Listening to peers: who may, and what they say.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::credentials::named;
use super::{SILENCE, Shared, words};
use crate::cluster::{Frame, FrameError};
use crate::engine::Input;
use crate::net::{HostName, network};
use crate::repeats;

/// Who connects must have proved within this time which host it is.
const HANDSHAKE_MAX: Duration = Duration::from_secs(2);
/// Connections of unknowns at once, in all and from one address: so that one stranger keeps no host out. Each costs
/// some ten kilobytes until it has proved who it is.
const UNKNOWNS_MAX: usize = 64;
const UNKNOWNS_PER_ADDRESS_MAX: usize = 8;
/// Room asked for before each read: several messages.
const READ_ROOM: usize = 16 * 1024;

/// Whom we listen to.
#[derive(Default)]
pub(super) struct Listened {
    /// One connection for each host: the newest.
    hosts: BTreeMap<HostName, Turn>,
    /// Connections of those who have proved nothing yet, by their network.
    unknowns: BTreeMap<IpAddr, usize>,
}

/// The time in which one connection of a host is listened to.
#[derive(Clone, Default)]
struct Turn {
    stop: CancellationToken,
    over: CancellationToken,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ending {
    #[error("{}", words(.0))]
    Io(#[from] io::Error),
    #[error("closed")]
    Closed,
    #[error("{0}")]
    NoFrame(#[from] FrameError),
    #[error("silent")]
    Silent,
    #[error("it has opened another")]
    Replaced,
    #[error("this host shuts down")]
    ShuttingDown,
}

/// Takes connections until the link closes.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.closing.cancelled() => return,
        };
        match accepted {
            Ok((stream, remote)) => welcome(&shared, stream, remote),
            Err(error) => {
                // Out of descriptors, mostly: accepting again at once would only spin.
                tracing::warn!(%error, "accept of another host");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn refuse(remote: SocketAddr, reason: &str) {
    metrics::counter!("switchyard_link_refused_total").increment(1);
    if repeats::LINK_REFUSED.is_first() {
        tracing::info!(%remote, reason, "who connected to the cluster's port is no host of it");
    }
}

fn welcome(shared: &Arc<Shared>, stream: TcpStream, remote: SocketAddr) {
    if !shared.listened().admit(remote.ip()) {
        refuse(remote, "too many at once");
        // Reset instead of FIN: nothing lingers.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        return;
    }
    let owned = Arc::clone(shared);
    shared.tasks.spawn_on(
        async move {
            tokio::select! {
                () = meet(&owned, stream, remote) => {}
                () = owned.closing.cancelled() => {}
            }
        },
        &shared.io,
    );
}

impl Listened {
    fn admit(&mut self, address: IpAddr) -> bool {
        let address = network(address);
        let all: usize = self.unknowns.values().sum();
        let here = self.unknowns.get(&address).copied().unwrap_or(0);
        let room = all < UNKNOWNS_MAX && here < UNKNOWNS_PER_ADDRESS_MAX;
        if room {
            self.unknowns.insert(address, here + 1);
        }
        room
    }

    fn known(&mut self, address: IpAddr) {
        let address = network(address);
        if let Some(count) = self.unknowns.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.unknowns.remove(&address);
            }
        }
    }
}

/// From the first byte of a connection to its last.
async fn meet(shared: &Shared, stream: TcpStream, remote: SocketAddr) {
    let proved = timeout(HANDSHAKE_MAX, prove(shared, stream)).await;
    shared.listened().known(remote.ip());
    let (from, stream) = match proved {
        Ok(Ok(proved)) => proved,
        Ok(Err(reason)) => return refuse(remote, &reason),
        Err(_) => return refuse(remote, "it does not say who it is"),
    };
    let turn = Turn::default();
    let before = shared.listened().hosts.insert(from, turn.clone());
    if let Some(before) = before {
        before.stop.cancel();
        // What was said before is heard before.
        before.over.cancelled().await;
    }
    tracing::info!(%from, %remote, "another host is linked to this one");
    let connected = metrics::gauge!("switchyard_link_peers", "direction" => "in");
    connected.increment(1.0);
    let ending = tokio::select! {
        ending = listen(shared, from, stream) => ending,
        () = turn.stop.cancelled() => Ending::Replaced,
    };
    connected.decrement(1.0);
    tracing::info!(%from, %remote, reason = %ending, "another host is no longer linked to this one");
    turn.over.cancel();
    let mut listened = shared.listened();
    if !turn.stop.is_cancelled() {
        listened.hosts.remove(&from);
    }
}

/// Which host it is, by its certificate.
async fn prove(shared: &Shared, stream: TcpStream) -> Result<(HostName, TlsStream<TcpStream>), String> {
    let acceptor = TlsAcceptor::from(Arc::clone(&shared.credentials.load().server));
    let _ = stream.set_nodelay(true);
    let stream = acceptor.accept(stream).await.map_err(|error| words(&error))?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = certificates.first().ok_or("it shows no certificate")?;
    let from = named(certificate).map_err(|nameless| format!("its certificate {nameless}"))?;
    if from == shared.own {
        return Err("it shows a certificate with this host's own name".to_owned());
    }
    Ok((from, stream))
}

/// Hands over what the host says, and acknowledges it.
async fn listen(shared: &Shared, from: HostName, mut stream: TlsStream<TcpStream>) -> Ending {
    let received = metrics::counter!("switchyard_link_frames_received_total");
    let mut buffer = BytesMut::new();
    let mut heard: u64 = 0;
    loop {
        // At first: you are let in.
        match timeout(SILENCE, acknowledge(&mut stream, heard)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Ending::Io(error),
            Err(_) => return Ending::Silent,
        }
        let mut asked = false;
        while !asked {
            buffer.reserve(READ_ROOM);
            // The host notices silence itself, and earlier; this is for one that is not there any more.
            match timeout(2 * SILENCE, stream.read_buf(&mut buffer)).await {
                Ok(Ok(0)) => return Ending::Closed,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Ending::Io(error),
                Err(_) => return Ending::Silent,
            }
            loop {
                if buffer.starts_with(&[0; 8]) {
                    buffer.advance(8);
                    asked = true;
                    continue;
                }
                match Frame::read(&mut buffer) {
                    Ok(Some(frame)) => {
                        // Waits while the engine is behind: then its window fills, and the host waits too.
                        if shared.inbox.send(Input::Link { from, frame }).await.is_err() {
                            return Ending::ShuttingDown;
                        }
                        received.increment(1);
                        heard += 1;
                        asked = true;
                    }
                    Ok(None) => break,
                    // One that a later version says, perhaps: where the next begins is known.
                    Err(FrameError::Unreadable(error)) => {
                        if repeats::LINK_UNREAD.is_first() {
                            tracing::warn!(%from, %error, "another host says something that is not understood: is its version another?");
                        }
                        heard += 1;
                        asked = true;
                    }
                    Err(error) => return Ending::NoFrame(error),
                }
            }
        }
    }
}

async fn acknowledge(stream: &mut TlsStream<TcpStream>, heard: u64) -> io::Result<()> {
    stream.write_u64(heard).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_keeps_nobody_out() {
        let mut listened = Listened::default();
        let at = |text: String| text.parse::<IpAddr>().unwrap();
        let admitted = (0..1_000).filter(|host| listened.admit(at(format!("2001:db8::{host:x}")))).count();
        assert_eq!(admitted, UNKNOWNS_PER_ADDRESS_MAX);
        assert!(
            listened.admit(at("2001:db8:0:1::1".to_owned())) && listened.admit(at("192.0.2.1".to_owned()))
        );
        for host in 0..admitted {
            listened.known(at(format!("2001:db8::{host:x}")));
        }
        assert!(listened.admit(at("2001:db8::1".to_owned())));
    }
}

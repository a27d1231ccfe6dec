//! UDP sockets, read and written by the engine's own thread: no queue and no wake-up lies between them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::Bytes;
use socket2::{Domain, Protocol as IpProtocol, Socket, Type};

use crate::net::{Flow, Protocol};

/// The largest datagram IP can carry, so that nothing arrives cut off.
pub const DATAGRAM_MAX: usize = 65_535;

/// So many datagrams are taken from one socket before the engine looks at anything else: enough to spread the
/// cost of a wake-up, few enough (well under a millisecond of work) that timers stay punctual.
pub const BATCH: usize = 64;

/// Asked of the kernel for each direction, which may grant less. About what arrives in a second at the rate one
/// engine can serve (4 KiB a message with the kernel's own overhead, a thousand calls a second waiting their turn).
const SOCKET_BUFFER: usize = 4 << 20;

/// Datagrams kept while the socket's send buffer is full. When this is full too we drop: the peer, or we,
/// retransmit from T1 = 500 ms on, while a longer queue would only answer later than anybody waits.
const BACKLOG_MAX: usize = 1_024;

/// Opens `count` sockets on one address. More than one share it (SO_REUSEPORT), and the kernel spreads the
/// peers over them.
///
/// The address must be free: with SO_REUSEPORT alone a second host would start without an error and take half of the
/// datagrams, so the first look is without it.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::UdpSocket>> {
    if count <= 1 {
        return Ok(vec![open(address, false)?]);
    }
    let address = open(address, false)?.local_addr()?;
    (0..count).map(|_| open(address, true)).collect()
}

fn open(address: SocketAddr, shared: bool) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(IpProtocol::UDP))?;
    if address.is_ipv6() {
        // An IPv4 peer would otherwise show up as ::ffff:a.b.c.d, and its flow would match no IPv4 listener.
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// One UDP socket of the engine.
#[derive(Debug)]
pub struct UdpPort {
    socket: tokio::net::UdpSocket,
    local: SocketAddr,
    backlog: VecDeque<(SocketAddr, Bytes)>,
}

impl UdpPort {
    /// Takes over a socket made by [`bind`]. Must be called inside the engine thread's tokio runtime.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        Ok(Self { socket, local, backlog: VecDeque::new() })
    }

    /// The bound address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Ready when there is something to [receive](Self::try_receive), or room again to [flush](Self::flush).
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let writable = !self.backlog.is_empty() && self.socket.poll_send_ready(cx).is_ready();
        if self.socket.poll_recv_ready(cx).is_ready() || writable { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The next datagram, if one is there. `buffer` is scratch space of [`DATAGRAM_MAX`] bytes.
    ///
    /// Keep-alives (CRLFs, zeros, nothing at all) end here: they only hold a NAT binding open.
    pub fn try_receive(&self, buffer: &mut [u8]) -> Option<(Flow, Bytes)> {
        for _ in 0..BATCH {
            match self.socket.try_recv_from(buffer) {
                Ok((len, remote)) => {
                    let datagram = &buffer[..len];
                    if datagram.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                        continue;
                    }
                    // Copied at its exact size: a message kept for minutes must not hold a larger buffer.
                    return Some((self.flow(remote), Bytes::copy_from_slice(datagram)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // An ICMP error of an earlier datagram, or a signal: the socket itself is fine.
                Err(error) => tracing::debug!(local = %self.local, %error, "UDP receive"),
            }
        }
        None
    }

    fn flow(&self, remote: SocketAddr) -> Flow {
        Flow { protocol: Protocol::Udp, local: self.local, remote, connection: None, edge: None }
    }

    /// Sends now, or as soon as the kernel has room. An error means that this destination cannot be reached.
    pub fn send(&mut self, remote: SocketAddr, bytes: Bytes) -> io::Result<()> {
        if !self.backlog.is_empty() {
            // Behind what waits already: one peer's messages keep their order.
            self.wait_in_backlog(remote, bytes);
            return Ok(());
        }
        match self.socket.try_send_to(&bytes, remote) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.wait_in_backlog(remote, bytes);
                Ok(())
            }
            Err(error) => self.failed(error),
        }
    }

    /// A full interface queue (ENOBUFS) loses a datagram as the network may; waiting for it has no wake-up.
    fn failed(&self, error: io::Error) -> io::Result<()> {
        if error.raw_os_error() != Some(libc::ENOBUFS) {
            return Err(error);
        }
        metrics::counter!("switchyard_udp_dropped_total").increment(1);
        Ok(())
    }

    fn wait_in_backlog(&mut self, remote: SocketAddr, bytes: Bytes) {
        if self.backlog.len() < BACKLOG_MAX {
            self.backlog.push_back((remote, bytes));
        } else {
            metrics::counter!("switchyard_udp_dropped_total").increment(1);
        }
    }

    /// Sends what waits, until the kernel is full again. Returns the peers that cannot be reached.
    pub fn flush(&mut self) -> Vec<(Flow, io::Error)> {
        let mut failed = Vec::new();
        while let Some((remote, bytes)) = self.backlog.front() {
            match self.socket.try_send_to(bytes, *remote) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    if let Err(error) = self.failed(error) {
                        failed.push((self.flow(*remote), error));
                    }
                }
                Ok(_) => {}
            }
            self.backlog.pop_front();
        }
        failed
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn loopback() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
    }

    async fn receive(port: &mut UdpPort) -> (Flow, Bytes) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        loop {
            poll_fn(|cx| port.poll_ready(cx)).await;
            assert!(port.flush().is_empty());
            if let Some(received) = port.try_receive(&mut buffer) {
                return received;
            }
        }
    }

    #[tokio::test]
    async fn a_datagram_arrives_with_its_flow_and_the_answer_goes_back() {
        let mut port = UdpPort::new(bind(loopback(), 1).unwrap().remove(0)).unwrap();
        let phone = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
        for bytes in [&b"\r\n\r\n"[..], &[0; 4], b"", b"OPTIONS"] {
            phone.send_to(bytes, port.local()).await.unwrap();
        }

        let (flow, bytes) = receive(&mut port).await;
        assert_eq!(bytes, "OPTIONS", "keep-alives are not messages");
        assert_eq!(flow.remote, phone.local_addr().unwrap());
        assert_eq!((flow.local, flow.connection), (port.local(), None));

        port.send(flow.remote, Bytes::from_static(b"200 OK")).unwrap();
        poll_fn(|cx| port.poll_ready(cx)).await;
        port.flush();
        let mut answer = [0; 16];
        let (len, from) = phone.recv_from(&mut answer).await.unwrap();
        assert_eq!((&answer[..len], from), (&b"200 OK"[..], port.local()));
    }

    #[tokio::test]
    async fn the_largest_datagram_is_taken_whole_and_a_larger_one_is_refused() {
        let mut port = UdpPort::new(bind(loopback(), 1).unwrap().remove(0)).unwrap();
        let own = port.local();
        port.send(own, Bytes::from(vec![b'x'; 65_507])).unwrap();
        assert_eq!(receive(&mut port).await.1.len(), 65_507);
        assert_eq!(
            port.send(own, Bytes::from(vec![b'x'; 65_508])).unwrap_err().raw_os_error(),
            Some(libc::EMSGSIZE)
        );
    }

    #[tokio::test]
    async fn what_waits_is_sent_in_order_and_the_backlog_is_bounded() {
        let mut port = UdpPort::new(bind(loopback(), 1).unwrap().remove(0)).unwrap();
        let phone = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
        let remote = phone.local_addr().unwrap();
        for number in 0..BACKLOG_MAX + 10 {
            port.wait_in_backlog(remote, Bytes::from(number.to_string()));
        }
        assert_eq!(port.backlog.len(), BACKLOG_MAX);
        port.backlog.truncate(2);
        port.send(remote, Bytes::from_static(b"last")).unwrap();
        while !port.backlog.is_empty() {
            poll_fn(|cx| port.poll_ready(cx)).await;
            assert!(port.flush().is_empty());
        }
        let mut buffer = [0; 16];
        for expected in ["0", "1", "last"] {
            let len = phone.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..len], expected.as_bytes());
        }
    }

    #[test]
    fn a_taken_address_is_an_error_even_for_shared_sockets() {
        let first = bind(loopback(), 2).unwrap();
        assert_eq!(first.len(), 2);
        let address = first[0].local_addr().unwrap();
        assert_eq!(address, first[1].local_addr().unwrap());
        for count in [1, 2] {
            assert_eq!(bind(address, count).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn the_ipv6_wildcard_leaves_the_ipv4_port_free() {
        let Ok(mut six) = bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), 1) else { return };
        let port = six.remove(0).local_addr().unwrap().port();
        assert!(bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), 1).is_ok());
    }
}

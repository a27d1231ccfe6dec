//! A pair of UDP sockets that many streams share.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::batch;
use super::streams::{Packet, Report};

/// The longest datagram we look at. Telephone events take 16 bytes, rarely some more for an extension or several
/// events in one; sound takes 92 and up (10 ms of G.711).
pub const DATAGRAM_MAX: usize = 64;

/// Datagrams read from one socket in one go, so that a flood never keeps the pacer from sending.
const READS_MAX: usize = 64;

/// Differentiated services code point EF, for voice (RFC 4594 §4.1), in the byte's upper six bits.
const TOS_VOICE: u32 = 46 << 2;

/// Two sockets on neighbouring ports: RTP on the even one, RTCP on the odd one.
#[derive(Debug)]
pub struct Pair {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    /// Whether the kernel throws away what we don't look at.
    filtered: bool,
}

impl Pair {
    /// Binds both sockets.
    pub fn open(address: IpAddr, port: u16) -> io::Result<Pair> {
        let (rtp, rtp_filtered) = bind(address, port, DATAGRAM_MAX)?;
        // Nothing that comes by RTCP changes what we do.
        let (rtcp, rtcp_filtered) = bind(address, port.saturating_add(1), 0)?;
        Ok(Pair { rtp, rtcp, filtered: rtp_filtered && rtcp_filtered })
    }

    /// Sends RTP packets, all of this pair.
    pub fn send(&self, packets: &[Packet]) -> batch::Outcome {
        batch::send(&self.rtp, packets)
    }

    /// Sends an RTCP packet. If it is lost, the next one comes in seconds.
    pub fn report(&self, report: &Report) {
        let _ = self.rtcp.send_to(&report.bytes, report.to);
    }

    /// Hands over what came by RTP and could be a telephone event.
    pub fn receive(&self, mut each: impl FnMut(SocketAddr, &[u8])) {
        let mut buffer = [0; DATAGRAM_MAX + 1];
        for _ in 0..READS_MAX {
            match self.rtp.recv_from(&mut buffer) {
                Ok((length, from)) if length <= DATAGRAM_MAX => each(from, &buffer[..length]),
                Ok(_) => {}
                // An error belongs to an earlier packet of ours (ICMP); the socket is as good as before.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        if !self.filtered {
            for _ in 0..READS_MAX {
                if self.rtcp.recv_from(&mut buffer).is_err() {
                    break;
                }
            }
        }
    }
}

fn bind(address: IpAddr, port: u16, longest: usize) -> io::Result<(UdpSocket, bool)> {
    let address = SocketAddr::new(address, port);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // Before it can receive anything.
    let filtered = drop_longer(&socket, longest).is_ok();
    // A wish: some systems refuse it, and the network need not honour it.
    let _ = match address {
        SocketAddr::V4(_) => socket.set_tos_v4(TOS_VOICE),
        SocketAddr::V6(_) => socket.set_tclass_v6(TOS_VOICE),
    };
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok((socket.into(), filtered))
}

/// Has the kernel drop datagrams with more than `longest` bytes before they wake or fill anything. A parked phone
/// sends fifty packets of sound a second which nobody wants to hear: reading them would cost as much as sending.
#[cfg(target_os = "linux")]
fn drop_longer(socket: &Socket, longest: usize) -> io::Result<()> {
    const UDP_HEADER: u32 = 8;
    let op = |code: u32, jump_if_false: u8, k: u32| {
        socket2::SockFilter::new(u16::try_from(code).unwrap_or_default(), 0, jump_if_false, k)
    };
    let longest = u32::try_from(longest).unwrap_or(u32::MAX - UDP_HEADER);
    let length = op(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN, 0, 0);
    let longer = op(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 1, UDP_HEADER + longest);
    let drop = op(libc::BPF_RET | libc::BPF_K, 0, 0);
    let keep = op(libc::BPF_RET | libc::BPF_K, 0, u32::MAX);
    socket.attach_filter(&[length, longer, drop, keep])
}

#[cfg(not(target_os = "linux"))]
fn drop_longer(_: &Socket, _: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pair on ports that happen to be free.
    fn open() -> (Pair, u16) {
        let address = IpAddr::from([127, 0, 0, 1]);
        let pair = (40_000..60_000).step_by(2).find_map(|port| Some((Pair::open(address, port).ok()?, port)));
        pair.expect("no two free ports")
    }

    #[test]
    fn short_datagrams_come_through_and_long_ones_never_reach_us() {
        let (pair, port) = open();
        let phone = UdpSocket::bind("127.0.0.1:0").unwrap();
        for length in [172, 16, DATAGRAM_MAX + 1, DATAGRAM_MAX, 1400] {
            phone.send_to(&vec![7; length], ("127.0.0.1", port)).unwrap();
        }
        let mut lengths = Vec::new();
        pair.receive(|from, datagram| {
            assert_eq!(from, phone.local_addr().unwrap());
            lengths.push(datagram.len());
        });
        assert_eq!(lengths, [16, DATAGRAM_MAX]);
        if cfg!(target_os = "linux") {
            assert!(pair.filtered);
            phone.send_to(&[7; 172], ("127.0.0.1", port)).unwrap();
            let mut buffer = [0; 200];
            assert_eq!(pair.rtp.recv_from(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn ports_are_free_again_once_the_pair_is_gone() {
        let (pair, port) = open();
        let again =
            || UdpSocket::bind(("127.0.0.1", port)).and_then(|_| UdpSocket::bind(("127.0.0.1", port + 1)));
        assert!(again().is_err());
        drop(pair);
        assert!(again().is_ok());
    }
}

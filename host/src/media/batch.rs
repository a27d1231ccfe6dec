//! Many packets with one system call.

// One call per packet costs a tenth more; std and socket2 offer nothing that takes many.
#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "sendmmsg is a C function that takes raw pointers")
)]

use std::io;
use std::net::UdpSocket;

use super::rtp::{FRAME_BYTES, HEADER_LEN};
use super::streams::Packet;

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Packets the system took.
    pub sent: usize,
    /// Packets it did not: no route, or its buffers are full. They are never sent again.
    pub failed: usize,
}

/// Sends all packets through one non-blocking socket.
pub fn send(socket: &UdpSocket, packets: &[Packet]) -> Outcome {
    let mut outcome = Outcome::default();
    #[cfg(target_os = "linux")]
    for packets in packets.chunks(linux::BATCH_MAX) {
        linux::send(socket, packets, &mut outcome);
    }
    #[cfg(not(target_os = "linux"))]
    one_by_one(socket, packets, &mut outcome);
    outcome
}

/// For systems without sendmmsg.
fn one_by_one(socket: &UdpSocket, packets: &[Packet], outcome: &mut Outcome) {
    let mut datagram = [0; HEADER_LEN + FRAME_BYTES];
    for packet in packets {
        let payload = packet.payload();
        let length = HEADER_LEN + payload.len();
        datagram[..HEADER_LEN].copy_from_slice(&packet.header);
        datagram[HEADER_LEN..length].copy_from_slice(payload);
        match retry(|| socket.send_to(&datagram[..length], packet.to)) {
            Ok(_) => outcome.sent += 1,
            Err(_) => outcome.failed += 1,
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::AsRawFd;

    use socket2::SockAddr;

    use super::*;

    /// More per call gains nothing that can be measured, and the arrays below lie on the stack.
    pub(super) const BATCH_MAX: usize = 64;

    /// Sends at most [`BATCH_MAX`] packets.
    pub(super) fn send(socket: &UdpSocket, packets: &[Packet], outcome: &mut Outcome) {
        let addresses: [SockAddr; BATCH_MAX] = std::array::from_fn(|n| match packets.get(n) {
            Some(packet) => packet.to.into(),
            None => SockAddr::from(std::net::SocketAddr::from(([0, 0, 0, 0], 0))),
        });
        let mut parts: [[libc::iovec; 2]; BATCH_MAX] = std::array::from_fn(|n| match packets.get(n) {
            Some(packet) => [part(&packet.header), part(packet.payload())],
            None => [part(&[]), part(&[])],
        });
        let mut messages: [libc::mmsghdr; BATCH_MAX] = std::array::from_fn(|n| {
            // SAFETY: mmsghdr is plain data for which zeros mean "nothing there".
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_name = addresses[n].as_ptr().cast_mut().cast();
            message.msg_hdr.msg_namelen = addresses[n].len();
            message.msg_hdr.msg_iov = parts[n].as_mut_ptr();
            message.msg_hdr.msg_iovlen = parts[n].len() as _;
            message
        });
        let mut rest = &mut messages[..packets.len().min(BATCH_MAX)];
        while !rest.is_empty() {
            let taken = retry(|| {
                // SAFETY: `rest` is a valid array of its length, each message of which names an address and two
                // parts. They lie in `addresses`, `parts`, `packets` and the sounds these hold, all of which live
                // and stay where they are until after the call. The kernel only reads them.
                let taken =
                    unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
                usize::try_from(taken).map_err(|_| io::Error::last_os_error())
            });
            match taken {
                Ok(taken) => {
                    outcome.sent += taken;
                    rest = &mut rest[taken..];
                }
                // The socket's buffer is full: what doesn't fit now would be late later.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    outcome.failed += rest.len();
                    return;
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                    return one_by_one(socket, &packets[packets.len() - rest.len()..], outcome);
                }
                // The first of the rest is at fault: no route to it, forbidden, a bad address.
                Err(_) => {
                    outcome.failed += 1;
                    rest = &mut rest[1..];
                }
            }
        }
    }

    fn part(bytes: &[u8]) -> libc::iovec {
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::Codec;
    use super::super::encode::Encoded;
    use super::super::resample::Edges;
    use super::super::wav::Pcm;
    use super::*;

    fn packets(to: &[std::net::SocketAddr]) -> Vec<Packet> {
        let pcm = Pcm { rate: 8000, samples: (0..320).map(|n| n * 100).collect() };
        let sound = Arc::new(Encoded::new(&pcm, Codec::Pcmu, Edges::Silent));
        let packet = |(n, &to): (usize, &std::net::SocketAddr)| Packet {
            port: 0,
            to,
            header: [n as u8; HEADER_LEN],
            sound: sound.clone(),
            frame: n % 2,
        };
        to.iter().enumerate().map(packet).collect()
    }

    fn sockets() -> (UdpSocket, UdpSocket) {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.set_nonblocking(true).unwrap();
        let phone = UdpSocket::bind("127.0.0.1:0").unwrap();
        phone.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (sender, phone)
    }

    fn expect(phone: &UdpSocket, packets: &[Packet]) {
        for packet in packets {
            let mut datagram = [0; 1500];
            let length = phone.recv(&mut datagram).unwrap();
            assert_eq!(datagram[..length], [&packet.header[..], packet.payload()].concat());
        }
    }

    #[test]
    fn a_batch_arrives_in_order_header_and_sound() {
        let (sender, phone) = sockets();
        let packets = packets(&[phone.local_addr().unwrap(); 150]);
        assert_eq!(send(&sender, &packets), Outcome { sent: 150, failed: 0 });
        expect(&phone, &packets);
    }

    #[test]
    fn one_bad_address_costs_only_its_own_packet() {
        let (sender, phone) = sockets();
        let there = phone.local_addr().unwrap();
        // Port 0 cannot be sent to, nor IPv6 from an IPv4 socket.
        let packets =
            packets(&[there, "127.0.0.1:0".parse().unwrap(), there, "[::1]:9".parse().unwrap(), there]);
        assert_eq!(send(&sender, &packets), Outcome { sent: 3, failed: 2 });
        expect(&phone, &[packets[0].clone(), packets[2].clone(), packets[4].clone()]);
    }

    #[test]
    fn packets_also_go_one_by_one() {
        let (sender, phone) = sockets();
        let packets = packets(&[phone.local_addr().unwrap(); 3]);
        let mut outcome = Outcome::default();
        one_by_one(&sender, &packets, &mut outcome);
        assert_eq!(outcome, Outcome { sent: 3, failed: 0 });
        expect(&phone, &packets);
    }
}

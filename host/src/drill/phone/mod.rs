//! A small real phone: a SIP socket and an RTP socket on this machine, and somebody who presses its buttons.
//!
//! What it knows of SIP is in [`Core`], which reads no clock and no socket; here are the sockets, the clock and the waiting.

mod call;
mod core;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

pub use self::call::{CallId, Refused, State};
pub use self::core::{Account, Core, Registration};
use crate::media::listen::carries_sound;
use crate::runtime::Clock;

/// The longest datagram there is.
const DATAGRAM_MAX: usize = 65_535;

/// A phone that is switched on. Dropping it switches it off without a word.
#[derive(Debug)]
pub struct Phone {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    clock: Clock,
    sip: UdpSocket,
    rtp: UdpSocket,
    /// Goes up with each thing that has happened.
    changed: watch::Sender<u64>,
    /// The next timer is another one.
    wake: Notify,
}

impl Phone {
    /// Switches a phone on that talks to the host at `host`.
    pub async fn start(account: Account, host: SocketAddr, clock: Clock) -> std::io::Result<Self> {
        let ip = own_address(host).await?;
        let sip = UdpSocket::bind((ip, 0)).await?;
        let rtp = UdpSocket::bind((ip, 0)).await?;
        sip.writable().await?;
        let core = Core::new(account, sip.local_addr()?, rtp.local_addr()?.port(), host);
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            clock,
            sip,
            rtp,
            changed: watch::channel(0).0,
            wake: Notify::new(),
        });
        let task = tokio::spawn(listen(Arc::clone(&shared)));
        Ok(Self { shared, task })
    }

    /// Presses buttons.
    pub fn act<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        self.shared.act(act)
    }

    /// Looks at the phone until there is something to see, for `limit` at most.
    pub async fn wait<T>(&self, limit: Duration, mut look: impl FnMut(&Core) -> Option<T>) -> Option<T> {
        let mut changed = self.shared.changed.subscribe();
        let watch = async {
            loop {
                changed.borrow_and_update();
                if let Some(seen) = look(&self.shared.lock()) {
                    return Some(seen);
                }
                if changed.changed().await.is_err() {
                    return None;
                }
            }
        };
        tokio::time::timeout(limit, watch).await.unwrap_or(None)
    }

    /// Looks at the phone now.
    pub fn look<T>(&self, look: impl FnOnce(&Core) -> T) -> T {
        look(&self.shared.lock())
    }

    /// How many packets with sound arrive in `span`.
    pub async fn listen(&self, span: Duration) -> u64 {
        let before = self.look(|core| core.sound);
        tokio::time::sleep(span).await;
        self.look(|core| core.sound) - before
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.lock();
        core.set_now(self.clock.now());
        let done = act(&mut core);
        while let Some((to, bytes)) = core.poll_send() {
            // What cannot be sent now is as good as lost on the way: it is sent again.
            let _ = self.sip.try_send_to(&bytes, to);
        }
        drop(core);
        self.changed.send_modify(|count| *count += 1);
        self.wake.notify_one();
        done
    }
}

async fn listen(shared: Arc<Shared>) {
    let (mut signalling, mut media) = (vec![0; DATAGRAM_MAX], vec![0; DATAGRAM_MAX]);
    loop {
        let due = shared.lock().next_timeout().map(|due| shared.clock.wake_at(due));
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // An error is an ICMP message about something sent before, which is sent again anyway.
            read = shared.sip.recv_from(&mut signalling) => if let Ok((length, from)) = read {
                let bytes = Bytes::copy_from_slice(&signalling[..length]);
                shared.act(|core| core.receive(from, bytes));
            },
            read = shared.rtp.recv_from(&mut media) => if let Ok((length, _)) = read
                && carries_sound(&media[..length])
            {
                shared.lock().sound += 1;
                shared.changed.send_modify(|count| *count += 1);
            },
            () = timer => shared.act(Core::on_timeout),
            () = shared.wake.notified() => {}
        }
    }
}

/// Our address on the way to `host`.
async fn own_address(host: SocketAddr) -> std::io::Result<IpAddr> {
    let any: SocketAddr =
        if host.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    let probe = UdpSocket::bind(any).await?;
    probe.connect(host).await?;
    Ok(probe.local_addr()?.ip())
}

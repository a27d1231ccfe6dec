//! The loop with a stand-in for the engine, on real sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::super::inbox::{Inbox, inbox};
use super::*;
use crate::admin::{AdminHandle, Request};
use crate::store::Outcome;
use crate::store::Transaction;
use crate::transport::tcp::{self, Limits};
use crate::transport::udp;

const OPTIONS: &[u8] = b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n";

/// Sends every message back, answers every question, sends `tick` when its timer is due.
#[derive(Default)]
struct Echo {
    outputs: VecDeque<Output>,
    tick_at: Option<(Instant, Flow)>,
    failures: Option<mpsc::UnboundedSender<String>>,
}

impl Machine for Echo {
    fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Received { flow, bytes } if bytes.starts_with(b"later") => {
                self.tick_at = Some((now.instant + Duration::from_millis(30), flow));
            }
            Input::Received { flow, bytes } if bytes.starts_with(b"store") => {
                let transaction = Transaction::default();
                self.outputs.push_back(Output::Store { request: StoreId(1), transaction });
                self.outputs.push_back(Output::Send { flow, bytes: Bytes::from_static(b"stored?") });
            }
            Input::Received { flow, bytes } if bytes.starts_with(b"link") => {
                let to = crate::net::HostName::new("fe2").unwrap();
                let frame = crate::cluster::Frame::Unsent { flow, reason: String::new() };
                self.outputs.push_back(Output::Link { to, at: loopback(), frame });
            }
            Input::Received { flow, bytes } => self.outputs.push_back(Output::Send { flow, bytes }),
            Input::Admin { request, what } => {
                let answer = Ok(serde_json::json!(format!("{what:?}")));
                self.outputs.push_back(Output::Admin { request, answer });
            }
            other => {
                if let Some(failures) = &self.failures {
                    let _ = failures.send(format!("{other:?}"));
                }
            }
        }
    }

    fn on_timeout(&mut self, now: Now) {
        if let Some((_, flow)) = self.tick_at.take_if(|(due, _)| *due <= now.instant) {
            self.outputs.push_back(Output::Send { flow, bytes: Bytes::from_static(b"tick") });
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.tick_at.map(|(due, _)| due)
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

/// A running loop, with what its machine hears besides messages.
struct World {
    udp: SocketAddr,
    tcp: SocketAddr,
    admin: AdminHandle,
    inbox: Inbox,
    heard: mpsc::UnboundedReceiver<String>,
    store: Option<mpsc::Receiver<(StoreId, Wanted)>>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl World {
    async fn hears(&mut self) -> String {
        timeout(Duration::from_secs(20), self.heard.recv()).await.expect("nothing heard").unwrap()
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

async fn world() -> World {
    let (inbox, arrivals) = inbox();
    let streams = Streams::new(tokio::runtime::Handle::current(), inbox.waiting.clone(), Limits::default());
    let listener = tcp::bind(loopback()).unwrap();
    let tcp = listener.local_addr().unwrap();
    streams.listen(listener).unwrap();
    let port = UdpPort::new(udp::bind(loopback(), 1).unwrap().remove(0)).unwrap();
    let udp = port.local();
    let (admin, questions) = AdminHandle::channel();
    let (store, writes) = mpsc::channel(1);
    let (names, _) = mpsc::channel(1);
    let (heard_in, heard) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let machine = Echo { failures: Some(heard_in), ..Echo::default() };
    let sources = Sources { udp: vec![port], arrivals, questions, stop: stop.clone() };
    let hands =
        Hands { streams, link: None, store, names, media: Box::new(|_| {}), events: Events::default() };
    let drive = Drive::new(machine, Clock::start(), Heartbeat::default(), sources, hands);
    let running = tokio::spawn(drive.run());
    World { udp, tcp, admin, inbox, heard, store: Some(writes), stop, running }
}

async fn phone(world: &World) -> UdpSocket {
    let phone = UdpSocket::bind(loopback()).await.unwrap();
    phone.connect(world.udp).await.unwrap();
    phone
}

async fn answer(phone: &UdpSocket) -> String {
    let mut buffer = [0; 100];
    let len = timeout(Duration::from_secs(20), phone.recv(&mut buffer)).await.expect("no answer").unwrap();
    String::from_utf8_lossy(&buffer[..len]).into_owned()
}

#[tokio::test]
async fn messages_go_through_the_machine_and_back_over_udp_and_tcp() {
    let world = world().await;
    let phone = phone(&world).await;
    for number in 0..200 {
        phone.send(format!("{number}").as_bytes()).await.unwrap();
    }
    for number in 0..200 {
        assert_eq!(answer(&phone).await, number.to_string());
    }
    let mut stream = TcpStream::connect(world.tcp).await.unwrap();
    stream.write_all(OPTIONS).await.unwrap();
    let mut echo = vec![0; OPTIONS.len()];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(echo, OPTIONS);
}

#[tokio::test]
async fn timers_wake_the_machine() {
    let world = world().await;
    let phone = phone(&world).await;
    for _ in 0..2 {
        phone.send(b"later").await.unwrap();
        assert_eq!(answer(&phone).await, "tick");
    }
}

#[tokio::test]
async fn questions_are_answered_while_inputs_from_other_threads_arrive() {
    let mut world = world().await;
    assert_eq!(world.admin.ask(Request::Calls).await.unwrap(), serde_json::json!("Calls"));
    let inbox = world.inbox.clone();
    std::thread::spawn(move || inbox.push(Input::Drain)).join().unwrap();
    assert_eq!(world.hears().await, "Drain");
    assert_eq!(world.admin.ask(Request::Status).await.unwrap(), serde_json::json!("Status"));
}

#[tokio::test]
async fn what_cannot_be_carried_out_is_told_at_once() {
    let mut world = world().await;
    let phone = phone(&world).await;
    // One write fits the queue, nobody takes it; the next cannot wait.
    for _ in 0..2 {
        phone.send(b"store").await.unwrap();
        assert_eq!(answer(&phone).await, "stored?");
    }
    let full = world.hears().await;
    assert!(full.contains("too many writes wait"), "{full}");
    world.store = None;
    phone.send(b"store").await.unwrap();
    assert!(world.hears().await.contains("it is closed"));
    // There is no link.
    phone.send(b"link").await.unwrap();
    assert!(world.hears().await.contains("Unlinked"));

    let flow = Flow {
        protocol: Protocol::Udp,
        local: SocketAddr::from(([0; 16], 5060)),
        remote: SocketAddr::from(([0; 16], 5062)),
        connection: None,
        edge: None,
    };
    let bytes = Bytes::from_static(b"x");
    world.inbox.waiting.send(Input::Received { flow, bytes: bytes.clone() }).await.unwrap();
    assert!(world.hears().await.contains("no UDP socket for that address family"));
    let flow = Flow { protocol: Protocol::Tls, ..flow };
    world.inbox.waiting.send(Input::Received { flow, bytes }).await.unwrap();
    assert!(world.hears().await.contains("tls is not available"));
    let answered = Input::Stored { request: StoreId(1), result: Ok(Outcome::Committed { revision: 1 }) };
    world.inbox.waiting.send(answered).await.unwrap();
    assert!(world.hears().await.contains("revision: 1"));
}

#[tokio::test]
async fn told_to_stop_the_loop_ends_and_what_came_before_is_answered() {
    let world = world().await;
    let phone = phone(&world).await;
    phone.send(b"last").await.unwrap();
    assert_eq!(answer(&phone).await, "last");
    world.stop.cancel();
    timeout(Duration::from_secs(20), world.running).await.expect("still running").unwrap();
    assert_eq!(world.admin.ask(Request::Calls).await.unwrap_err().status, 503);
}

#[test]
fn a_pool_that_is_out_or_lost_is_something_to_look_at() {
    let is_alarming = |what, detail| {
        is_alarming(&Event { at: crate::time::Utc(0), what, code: None, call_id: None, detail })
    };
    let phase = |to: Phase| is_alarming("pool.phase", serde_json::json!({ "pool": "east", "to": to }));
    assert_eq!(Phase::ALL.map(phase), [false, true, true, false, false, false]);
    assert!(is_alarming("seat.failed", serde_json::Value::Null));
    assert!(!is_alarming("seat.left", serde_json::json!({ "to": "resilient" })), "a host may be called that");
}

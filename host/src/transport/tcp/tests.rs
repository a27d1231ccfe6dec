//! Real connections on loopback, with limits short enough to be met.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const OPTIONS: &str = "OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n";

struct Host {
    streams: Streams,
    inbox: mpsc::Receiver<Input>,
    local: SocketAddr,
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn host(limits: Limits) -> Host {
    let (sender, inbox) = mpsc::channel(64);
    let streams = Streams::new(Handle::current(), sender, limits);
    let listener = bind(loopback()).unwrap();
    let local = listener.local_addr().unwrap();
    streams.listen(listener).unwrap();
    Host { streams, inbox, local }
}

impl Host {
    async fn next(&mut self) -> Input {
        timeout(Duration::from_secs(20), self.inbox.recv()).await.expect("nothing happened").unwrap()
    }

    async fn received(&mut self) -> (Flow, Bytes) {
        match self.next().await {
            Input::Received { flow, bytes } => (flow, bytes),
            other => panic!("expected a message, got {other:?}"),
        }
    }

    async fn send_failed(&mut self) -> (Flow, String) {
        match self.next().await {
            Input::SendFailed { flow, reason } => (flow, reason),
            other => panic!("expected a failure, got {other:?}"),
        }
    }

    async fn closed(&mut self) -> ConnectionId {
        match self.next().await {
            Input::ConnectionClosed { connection } => connection,
            other => panic!("expected the end of a connection, got {other:?}"),
        }
    }

    fn flow_to(&self, remote: SocketAddr) -> Flow {
        Flow { protocol: Protocol::Tcp, local: self.local, remote, connection: None, edge: None }
    }
}

async fn read_exactly(stream: &mut TcpStream, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    timeout(Duration::from_secs(20), stream.read_exact(&mut bytes)).await.expect("no answer").unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
}

#[tokio::test]
async fn a_request_comes_with_its_connection_and_the_answer_goes_back_on_it() {
    let mut host = host(Limits::default());
    let mut phone = TcpStream::connect(host.local).await.unwrap();
    phone.write_all(format!("{OPTIONS}{OPTIONS}").as_bytes()).await.unwrap();
    let (flow, bytes) = host.received().await;
    assert_eq!(bytes, OPTIONS);
    assert_eq!((flow.remote, flow.local), (phone.local_addr().unwrap(), host.local));
    assert_eq!(host.received().await, (flow, Bytes::from(OPTIONS)));

    host.streams.send(flow, Bytes::from_static(b"SIP/2.0 200 OK")).unwrap();
    read_exactly(&mut phone, "SIP/2.0 200 OK").await;

    drop(phone);
    assert_eq!(Some(host.closed().await), flow.connection);
    assert!(host.streams.is_empty());
}

#[tokio::test]
async fn a_keep_alive_is_answered_and_is_not_a_message() {
    let mut host = host(Limits::default());
    let mut phone = TcpStream::connect(host.local).await.unwrap();
    phone.write_all(b"\r\n\r\n").await.unwrap();
    read_exactly(&mut phone, "\r\n").await;
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    assert_eq!(host.received().await.1, OPTIONS);
}

#[tokio::test]
async fn an_open_connection_to_the_same_address_is_reused_in_both_directions() {
    let mut host = host(Limits::default());
    let gateway = TcpListener::bind(loopback()).await.unwrap();
    let flow = host.flow_to(gateway.local_addr().unwrap());
    host.streams.send(flow, Bytes::from_static(b"one")).unwrap();
    host.streams.send(flow, Bytes::from_static(b"two")).unwrap();
    let (mut peer, from) = gateway.accept().await.unwrap();
    read_exactly(&mut peer, "onetwo").await;
    assert_eq!(from.ip(), host.local.ip());
    assert_eq!(host.streams.len(), 1);

    peer.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (back, _) = host.received().await;
    assert_eq!((back.remote, back.local), (flow.remote, flow.local));
    // A connection that is gone is replaced by the one to the same address.
    let stale = Flow { connection: Some(ConnectionId(999)), ..flow };
    host.streams.send(stale, Bytes::from_static(b"three")).unwrap();
    read_exactly(&mut peer, "three").await;
    assert_eq!(host.streams.len(), 1);
}

/// Numbers begin anew with each life of a host, and another host may still know one of the life before.
#[tokio::test]
async fn what_is_for_one_phone_goes_to_no_other_whatever_the_number_of_its_connection() {
    let mut host = host(Limits::default());
    let [mut alice, mut bob] =
        [TcpStream::connect(host.local).await.unwrap(), TcpStream::connect(host.local).await.unwrap()];
    alice.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (to_alice, _) = host.received().await;
    bob.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (to_bob, _) = host.received().await;
    let stale = Flow { connection: to_bob.connection, ..to_alice };
    host.streams.send(stale, Bytes::from_static(b"for Alice")).unwrap();
    read_exactly(&mut alice, "for Alice").await;
}

#[tokio::test]
async fn a_refused_connection_fails_every_flow_once() {
    let mut host = host(Limits::default());
    let nobody = {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        listener.local_addr().unwrap()
    };
    let flow = host.flow_to(nobody);
    let other = Flow { connection: Some(ConnectionId(7)), ..flow };
    for flow in [flow, other, flow] {
        host.streams.send(flow, Bytes::from_static(b"x")).unwrap();
    }
    let (first, reason) = host.send_failed().await;
    assert!(reason.contains("refused"), "{reason}");
    let (second, _) = host.send_failed().await;
    assert_eq!((first, second), (flow, other));
    assert!(host.streams.is_empty());
}

#[tokio::test]
async fn bad_framing_ends_the_connection() {
    let mut host = host(Limits::default());
    let mut browser = TcpStream::connect(host.local).await.unwrap();
    browser.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    host.closed().await;
    assert_eq!(browser.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

/// RFC 3261 §18.3: whoever can be told is told, then the stream ends; nothing of it reaches the engine.
#[tokio::test]
async fn a_request_with_bad_framing_is_answered_before_the_connection_ends() {
    const VIA: &str = "Via: SIP/2.0/TCP c;branch=z9hG4bK1\r\nCall-ID: x\r\n";
    let message_bytes = 10_000;
    let mut host = host(Limits { message_bytes, ..Limits::default() });
    let long = "x".repeat(message_bytes);
    let cases = [
        (format!("{VIA}To: <sip:a@b>\r\n\r\n"), "400 no Content-Length, which a stream transport requires"),
        (format!("{VIA}Content-Length: -1\r\n\r\n"), "400 Content-Length is not one number"),
        (format!("{VIA}l: 1\r\nl: 2\r\n\r\n"), "400 Content-Length is not one number"),
        (format!("{VIA}l: 0\n\r\n"), "400 a line that does not end in CR LF"),
        (format!("{VIA}l: 99999999999999999999\r\n\r\n"), "513 Message Too Large"),
        // More than what is looked at: the answer arrives although not all was read.
        (format!("{VIA}X: {long}{long}{long}"), "513 Message Too Large"),
    ];
    for (rest, status) in cases {
        let mut phone = TcpStream::connect(host.local).await.unwrap();
        phone.write_all(format!("OPTIONS sip:a@b SIP/2.0\r\n{rest}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = phone.read_to_string(&mut answer);
        timeout(Duration::from_secs(20), read).await.expect("no end").unwrap();
        assert!(answer.starts_with(&format!("SIP/2.0 {status}\r\n")), "{rest:.60}: {answer}");
        assert!(
            answer.contains("branch=z9hG4bK1;received=127.0.0.1") && answer.contains("Call-ID: x"),
            "{answer}"
        );
        drop(phone);
        host.closed().await;
    }
}

#[tokio::test]
async fn bad_framing_of_a_response_or_an_ack_just_ends_the_connection() {
    let mut host = host(Limits::default());
    for start in ["SIP/2.0 200 OK", "ACK sip:a@b SIP/2.0"] {
        let mut phone = TcpStream::connect(host.local).await.unwrap();
        let text = format!("{start}\r\nVia: SIP/2.0/TCP c;branch=z9hG4bK1\r\nl: x\r\n\r\n");
        phone.write_all(text.as_bytes()).await.unwrap();
        host.closed().await;
        assert_eq!(phone.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn a_connection_without_a_message_or_with_half_of_one_is_closed() {
    let short = Duration::from_millis(200);
    let mut host = host(Limits { first_message: short, whole_message: short, ..Limits::default() });

    let mut silent = TcpStream::connect(host.local).await.unwrap();
    silent.write_all(b"\r\n\r\n").await.unwrap();
    host.closed().await;

    let mut dripping = TcpStream::connect(host.local).await.unwrap();
    dripping.write_all(format!("{OPTIONS}OPT").as_bytes()).await.unwrap();
    host.received().await;
    host.closed().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_but_a_used_one_is_not_slow() {
    let mut host = host(Limits { idle: Duration::from_millis(300), ..Limits::default() });
    let mut phone = TcpStream::connect(host.local).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (flow, _) = host.received().await;
    assert_eq!(Some(host.closed().await), flow.connection);
}

#[tokio::test]
async fn connections_are_limited_per_address_and_in_all() {
    let mut host = host(Limits { per_address: 2, connections: 3, ..Limits::default() });
    let mut phones = Vec::new();
    for _ in 0..2 {
        let mut phone = TcpStream::connect(host.local).await.unwrap();
        phone.write_all(OPTIONS.as_bytes()).await.unwrap();
        host.received().await;
        phones.push(phone);
    }
    let mut third = TcpStream::connect(host.local).await.unwrap();
    assert_eq!(third.read(&mut [0; 1]).await.unwrap_or(0), 0, "the third from one address is refused");

    let gateways =
        [TcpListener::bind(loopback()).await.unwrap(), TcpListener::bind(loopback()).await.unwrap()];
    let flows = gateways.each_ref().map(|gateway| host.flow_to(gateway.local_addr().unwrap()));
    host.streams.send(flows[0], Bytes::from_static(b"x")).unwrap();
    assert_eq!(host.streams.send(flows[1], Bytes::new()), Err(SendError::TooManyConnections(3)));

    drop(phones.pop());
    host.closed().await;
    host.streams.send(flows[1], Bytes::from_static(b"x")).unwrap();
}

#[tokio::test]
async fn a_peer_that_does_not_read_fills_its_queue_then_loses_its_connection() {
    let limits = Limits { queue: 4, write: Duration::from_millis(300), ..Limits::default() };
    let mut host = host(limits);
    let mut phone = TcpStream::connect(host.local).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (flow, _) = host.received().await;
    let big = Bytes::from(vec![b'x'; 4 << 20]);
    let mut refused = None;
    for _ in 0..20 {
        if let Err(error) = host.streams.send(flow, big.clone()) {
            refused = Some(error);
            break;
        }
    }
    assert_eq!(refused, Some(SendError::QueueFull(4)));
    let (failed, reason) = host.send_failed().await;
    assert_eq!((failed, reason.as_str()), (flow, "the peer does not read"));
    assert_eq!(Some(host.closed().await), flow.connection);
}

#[tokio::test]
async fn shutting_down_writes_what_waits_and_opens_nothing_new() {
    let mut host = host(Limits::default());
    let mut phone = TcpStream::connect(host.local).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (flow, _) = host.received().await;
    for _ in 0..50 {
        host.streams.send(flow, Bytes::from_static(b"bye ")).unwrap();
    }
    host.streams.shut_down(Duration::from_secs(20)).await;
    let mut everything = String::new();
    phone.read_to_string(&mut everything).await.unwrap();
    assert_eq!(everything, "bye ".repeat(50));
    assert_eq!(host.streams.send(flow, Bytes::new()), Err(SendError::ShuttingDown));
    assert!(TcpStream::connect(host.local).await.is_err());
}

#[test]
fn a_taken_address_is_an_error() {
    let first = bind(loopback()).unwrap();
    assert_eq!(bind(first.local_addr().unwrap()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

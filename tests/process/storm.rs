//! The running host in a storm: damaged messages over UDP and TCP, connections that say half a word or nothing, and
//! meanwhile good callers. It lives, stays as small as it was, answers, and carries calls.
//!
//! One seed decides what is sent. It is printed when the test fails; `SEED=…` repeats it. `CALLS=…` makes it longer
//! (some seconds each), `CONNECTIONS=…` larger.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::bad_input::{Stranger, options};
use super::host::Host;
use super::program::wait_for;
use super::sipp::{Line, Script, all_succeed};

/// A number somebody may set.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What the damage is done to: each kind of message, with every header the host looks into.
const SEEDS: [&str; 4] = [
    "INVITE sip:7001@example.test;user=phone SIP/2.0\r\nVia: SIP/2.0/UDP h:5060;branch=z9hG4bK1;rport, SIP/2.0/TCP [2001:db8::1]:5060;branch=z9hG4bK0\r\n\
     f: \"Bell, \\\"A\\\"\" <sip:alice@example.test>;tag=a1\r\nTo:\r\n <sip:%237001@example.test>\r\ni: 1@h\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\
     m: <sip:alice@[2001:db8::1]:5060;transport=tcp>;+sip.instance=\"<urn:uuid:1>\"\r\nReplaces: a@b;to-tag=1;from-tag=2;early-only\r\n\
     Authorization: Digest username=\"alice\", realm=\"example.test\", nonce=\"x\", uri=\"sip:x\", response=\"0\", qop=auth, nc=00000001, cnonce=\"c\"\r\n\
     Session-Expires: 1800;refresher=uac\r\nContent-Type: application/sdp\r\nContent-Length: 97\r\n\r\n\
     v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=sendrecv\r\n",
    "REGISTER sip:example.test SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK2;rport\r\nFrom: <sip:bob@example.test>;tag=1\r\nTo: <sip:bob@example.test>\r\n\
     Call-ID: 2\r\nCSeq: 2 REGISTER\r\nContact: <sip:bob@h>;expires=3600;q=0.5, *\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n",
    "SUBSCRIBE sip:1001@example.test SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK3;rport\r\nFrom: <sip:x@h>;tag=1\r\nTo: <sip:1001@example.test>;tag=2\r\n\
     Call-ID: 3\r\nCSeq: 3 SUBSCRIBE\r\nEvent: dialog;id=1\r\nAccept: application/dialog-info+xml\r\nContent-Length: 0\r\n\r\n",
    "REFER sip:park@example.test SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK4;rport\r\nFrom: <sip:x@h>;tag=1\r\nTo: <sip:park@example.test>\r\nCall-ID: 4\r\n\
     CSeq: 4 REFER\r\nRefer-To: <sip:7001@example.test?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>\r\nContent-Length: 0\r\n\r\n",
];

/// Where a number stands, another may.
const NUMBERS: [&str; 9] =
    ["-1", "0", "4294967296", "99999999999999999999", "-9223372036854775808", "1e9", "0x10", " 1 ", ""];

/// One message, damaged in a few places at once.
fn damaged(rng: &mut ChaCha12Rng) -> Vec<u8> {
    let mut bytes = SEEDS[rng.random_range(0..SEEDS.len())].as_bytes().to_vec();
    let fresh = format!("z9hG4bK{:016x}", rng.random::<u64>());
    if let Some(at) = bytes.windows(7).position(|it| it == b"z9hG4bK") {
        bytes.splice(at..at + 8, fresh.bytes());
    }
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = rng.random_range(0..bytes.len());
        let end = (at + rng.random_range(1..200)).min(bytes.len());
        match rng.random_range(0..9) {
            0 => bytes[at] = rng.random(),
            1 => bytes[at] = [0, b'\r', b'\n', b'"', b'<', b',', b';', 0xff][rng.random_range(0..8)],
            2 => drop(bytes.drain(at..end)),
            // The same again, a few or a few hundred times.
            3 => {
                let times = [1, 3, 300][rng.random_range(0..3)];
                let piece = bytes[at..end].repeat(times);
                bytes.splice(at..at, piece);
            }
            // Far too long.
            4 => drop(bytes.splice(at..at, std::iter::repeat_n(b'x', rng.random_range(1..40_000)))),
            5 => bytes.truncate(at),
            // Another number.
            6 => {
                if let Some(digit) = bytes[at..].iter().position(u8::is_ascii_digit) {
                    let number = NUMBERS[rng.random_range(0..NUMBERS.len())];
                    bytes.splice(at + digit..=at + digit, number.bytes());
                }
            }
            // A whole line twice.
            7 => {
                let line = bytes[..at].iter().rposition(|it| *it == b'\n').map_or(0, |it| it + 1);
                let next =
                    bytes[at..].iter().position(|it| *it == b'\n').map_or(bytes.len(), |it| at + it + 1);
                let line = bytes[line..next].to_vec();
                bytes.splice(next..next, line);
            }
            _ => drop(bytes.splice(at..at, [0; 5])),
        }
    }
    bytes.truncate(60_000);
    bytes
}

/// Resident memory of a process, in KiB.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn over_udp(host: &str, mut rng: ChaCha12Rng, over: &AtomicBool, sent: &AtomicU64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut answer = [0; 65_536];
    while !over.load(Ordering::Relaxed) {
        for _ in 0..10 {
            // A full socket buffer loses it, as the network may.
            let _ = socket.send_to(&damaged(&mut rng), host);
            sent.fetch_add(1, Ordering::Relaxed);
        }
        while socket.recv(&mut answer).is_ok() {}
        // About a thousand a second: an unoptimised host has room for good callers beside that.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Connections that each do one of the things a connection may do wrong.
fn over_tcp(host: SocketAddr, mut rng: ChaCha12Rng, over: &AtomicBool, sent: &AtomicU64) {
    let mut open: Vec<TcpStream> = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect_timeout(&host, Duration::from_secs(5)) else { continue };
        stream.set_nonblocking(true).unwrap();
        sent.fetch_add(1, Ordering::Relaxed);
        match rng.random_range(0..5) {
            // Says nothing.
            0 => {}
            // Says half a message, a byte now and then: see below.
            1 => drop(stream.write(&SEEDS[1].as_bytes()[..rng.random_range(1..150)])),
            // Says nothing more, but listens.
            2 => {
                let _ = stream.write(&damaged(&mut rng));
                let _ = stream.shutdown(Shutdown::Write);
            }
            // Many at once, good ones and bad ones, without waiting for an answer, and leaves without reading any.
            3 => {
                let good = options(rng.random_range(1..60_000), "TCP").repeat(rng.random_range(1..30));
                let _ = stream.write(good.as_bytes());
                let _ = stream.write(&damaged(&mut rng));
                continue;
            }
            _ => drop(stream.write(&damaged(&mut rng))),
        }
        open.push(stream);
        for slow in &mut open {
            let _ = slow.write(b"X");
        }
        if open.len() > 200 {
            let gone = rng.random_range(0..open.len());
            open.swap_remove(gone);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Says what `SEED` repeats a failed test.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEED={} repeats this storm", self.0);
        }
    }
}

#[test]
fn in_a_storm_the_host_lives_stays_small_answers_and_carries_calls() {
    let told = Told(setting("SEED", rand::random()));
    let rng = |stream| {
        let mut rng = ChaCha12Rng::seed_from_u64(told.0);
        rng.set_stream(stream);
        rng
    };
    // All of them come from one address here, and the storm is to reach the parser: limits have tests of their own.
    let mut host = Host::start_configured(
        "[sip.limits]\nstrangers = 1000000\nstrangers_per_source = 1000000\npassword_failures = 1000",
        "",
    );
    let [alice, bob] = ["alice", "bob"].map(|user| Line::register(&host, user));
    let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let address = host.sip();
    let before = resident(host.process());
    let (mut most, mut calls) = (0, 0);
    std::thread::scope(|scope| {
        for stream in 0..2 {
            let rng = rng(stream);
            scope.spawn(|| over_udp(&address, rng, &over, &sent));
        }
        let rng = rng(2);
        scope.spawn(|| over_tcp(address.parse().unwrap(), rng, &over, &sent));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let stranger = Stranger::new(&host);
            while calls < setting("CALLS", 4) {
                assert!(!host.has_ended(), "{}", host.log());
                assert_eq!(stranger.ask(&options(stranger.port(), "UDP")), "SIP/2.0 200 OK");
                // Stays for a while, should its answer to the BYE get lost.
                let callee = alice.run(Script::new("alice").answer().hung_up().pause(2_000));
                all_succeed([bob.run(Script::new("bob").call("1001").pause(200).hang_up()), callee]);
                calls += 1;
                most = most.max(resident(host.process()));
            }
        }));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
    let sent = sent.into_inner();
    println!("{sent} messages and connections, {calls} calls; {before} KiB, at most {most} KiB");
    assert!(sent > 1_000, "{sent}: no storm");
    // Transactions of 32 s are most of it.
    assert!(most < before + 150 * 1024, "from {before} to {most} KiB after {sent} messages");
    assert!(!host.log().contains("panicked"), "{}", host.log());
    assert!(!host.has_ended());
    host.is_quiet();
}

/// Thousands of connections that say nothing: the limit holds, who is connected already is served, who lets go makes room.
#[test]
fn connections_without_end_are_refused_and_who_is_there_is_served() {
    let most = setting("CONNECTIONS", 1_500) as usize;
    let host = Host::start();
    let address = host.sip();
    let mut phone = TcpStream::connect(&address).unwrap();
    phone.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut ask = move || {
        let port = phone.local_addr().unwrap().port();
        phone.write_all(options(port, "TCP").as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut some = [0; 4096];
        while !answer.windows(4).any(|it| it == b"\r\n\r\n") {
            let count = phone.read(&mut some).unwrap();
            assert!(count > 0, "closed");
            answer.extend_from_slice(&some[..count]);
        }
        assert!(answer.starts_with(b"SIP/2.0 200 "), "{}", String::from_utf8_lossy(&answer));
    };
    ask();
    let before = resident(host.process());
    let mut open = Vec::new();
    for number in 0..most {
        match TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(5)) {
            Ok(stream) => open.push(stream),
            // Out of descriptors ourselves: enough.
            Err(_) if number > 1_100 => break,
            Err(error) => panic!("connection {number}: {error}"),
        }
    }
    ask();
    let refused = "switchyard_tcp_refused_total{limit=\"address\"}";
    let count = |name: &str| {
        let (_, metrics) = host.ask("/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse::<f64>().unwrap() as usize)
    };
    wait_for("refused connections", || (count(refused) + 1_024 > open.len()).then_some(()));
    assert!(count("switchyard_tcp_connections") <= 1_024);
    let after = resident(host.process());
    assert!(after < before + 60 * 1024, "from {before} to {after} KiB for {} connections", open.len());
    let stranger = Stranger::new(&host);
    assert_eq!(stranger.ask(&options(stranger.port(), "UDP")), "SIP/2.0 200 OK");
    drop(open);
    wait_for("room", || (count("switchyard_tcp_connections") <= 1).then_some(()));
    ask();
    let mut late = TcpStream::connect(&address).unwrap();
    late.write_all(options(late.local_addr().unwrap().port(), "TCP").as_bytes()).unwrap();
    late.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut answer = [0; 11];
    late.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"SIP/2.0 200");
}

//! Whatever comes in, the host lives, says what is wrong where it can, and the next good call works.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use super::host::{DOMAIN, Host, SWITCHYARD};
use super::program::{Program, wait_for};
use super::sipp::{Line, Script, all_succeed};

/// A request of `method` as a stranger sends it from `port`, with these headers besides.
fn request(method: &str, port: u16, protocol: &str, more: &str) -> String {
    format!(
        "{method} sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/{protocol} 127.0.0.1:{port};branch=z9hG4bK-{}\r\n\
         From: <sip:x@{DOMAIN}>;tag=1\r\nTo: <sip:{DOMAIN}>\r\nCall-ID: {}\r\nMax-Forwards: 70\r\n{more}",
        rand::random::<u64>(),
        rand::random::<u64>()
    )
}

pub fn options(port: u16, protocol: &str) -> String {
    request("OPTIONS", port, protocol, "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")
}

pub struct Stranger {
    socket: UdpSocket,
    host: String,
}

impl Stranger {
    pub fn new(host: &Host) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        Self { socket, host: host.sip() }
    }

    pub fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    pub fn send(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, &self.host).unwrap();
    }

    /// Sends a request until it is answered: the status line. Answers to others are passed over.
    pub fn ask(&self, message: &str) -> String {
        let branch = message.split_once("branch=").unwrap().1.lines().next().unwrap();
        wait_for(&format!("an answer to {message}"), || {
            self.send(message.as_bytes());
            let mut answer = [0; 65_536];
            loop {
                let count = self.socket.recv(&mut answer).ok()?;
                let answer = String::from_utf8_lossy(&answer[..count]);
                if answer.contains(branch) {
                    return answer.lines().next().map(str::to_owned);
                }
            }
        })
    }
}

#[test]
fn garbage_on_every_port_leaves_a_host_that_works() {
    let mut host = Host::start();
    let stranger = Stranger::new(&host);
    for length in [0, 1, 2, 3, 4, 100, 1500, 60_000] {
        let noise: Vec<u8> = (0..length).map(|_| rand::random()).collect();
        stranger.send(&noise);
    }
    let good = options(stranger.port(), "UDP");
    for cut in (0..good.len()).step_by(7) {
        stranger.send(&good.as_bytes()[..cut]);
    }
    for broken in [
        "\r\n\r\n",
        "\0\0\0\0",
        "SIP/2.0 200 OK\r\n\r\n",
        "SIP/2.0 999999 OK\r\nVia: SIP/2.0/UDP 127.0.0.1\r\n\r\n",
        "INVITE sip:bob@example.test SIP/2.0\r\n\r\n",
        "INVITE  SIP/2.0\r\nVia: \r\nFrom:\r\nTo:\r\nCall-ID:\r\nCSeq:\r\n\r\n",
        "ACK sip:bob@example.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\nCSeq: 1 ACK\r\n\r\n",
    ] {
        stranger.send(broken.as_bytes());
    }

    // Half a message that never goes on, one that never ends, and one whose length is a lie.
    let connect = || TcpStream::connect(host.sip()).unwrap();
    let mut half = connect();
    half.write_all(&good.as_bytes()[..40]).unwrap();
    let mut endless = connect();
    // The host may close it before all is written.
    let _ = endless.write_all(&b"OPTIONS sip:x SIP/2.0\r\nX: ".repeat(20_000));
    let mut liar = connect();
    let lie = options(1, "TCP").replace("Content-Length: 0", "Content-Length: 99999999999999999999");
    liar.write_all(lie.as_bytes()).unwrap();
    let mut told = String::new();
    liar.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("SIP/2.0 513 "), "{told}");
    let _silent = connect();

    assert_eq!(stranger.ask(&options(stranger.port(), "UDP")), "SIP/2.0 200 OK");
    let mut stream = connect();
    let port = stream.local_addr().unwrap().port();
    stream.write_all(options(port, "TCP").as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut answer = [0; 14];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"SIP/2.0 200 OK");
    // The slow one is still welcome.
    half.write_all(&good.replace("UDP", "TCP").as_bytes()[40..]).unwrap();

    assert!(!host.has_ended());
    let [alice, bob] = ["alice", "bob"].map(|user| Line::register(&host, user));
    let callee = alice.run(Script::new("alice").answer().hung_up());
    all_succeed([bob.run(Script::new("bob").call("1001").pause(200).hang_up()), callee]);
    host.is_quiet();
}

/// Where an answer can be addressed there is one, and it says what is wrong.
#[test]
fn broken_requests_are_answered_with_their_class() {
    let host = Host::start();
    let stranger = Stranger::new(&host);
    let port = stranger.port();
    let request = |method: &str, more: &str| request(method, port, "UDP", more);
    let end = "Content-Length: 0\r\n\r\n";
    for (what, message, status) in [
        ("no CSeq", request("OPTIONS", end), "400"),
        ("two methods", request("OPTIONS", &format!("CSeq: 1 INVITE\r\n{end}")), "400"),
        ("a body cut short", request("OPTIONS", "CSeq: 1 OPTIONS\r\nContent-Length: 50\r\n\r\nv=0"), "400"),
        (
            "a future",
            request("OPTIONS", &format!("CSeq: 1 OPTIONS\r\n{end}"))
                .replace(" SIP/2.0\r\nV", " SIP/7.0\r\nV"),
            "505",
        ),
        (
            "an extension nobody has",
            request("OPTIONS", &format!("CSeq: 1 OPTIONS\r\nRequire: warp\r\n{end}")),
            "420",
        ),
        ("a method nobody has", request("FROBNICATE", &format!("CSeq: 1 FROBNICATE\r\n{end}")), "501"),
        (
            "a BYE to no call",
            request("BYE", &format!("CSeq: 1 BYE\r\n{end}"))
                .replace("To: <sip:example.test>", "To: <sip:example.test>;tag=9"),
            "481",
        ),
        (
            "no way left",
            request("INVITE", &format!("CSeq: 1 INVITE\r\n{end}")).replace("Forwards: 70", "Forwards: 0"),
            "483",
        ),
    ] {
        let answer = stranger.ask(&message);
        let class = if status == "501" { ["501", "405"] } else { [status, status] };
        assert!(
            class.iter().any(|status| answer.starts_with(&format!("SIP/2.0 {status} "))),
            "{what}: {answer}"
        );
    }
    Line::is_refused(&host, "alice", "bob-secret");
    let alice = host.get("users/alice");
    assert_eq!(alice["bindings"].as_array().unwrap().len(), 0, "{alice}");
}

/// A configuration with one typo is not half obeyed.
#[test]
fn a_typo_in_the_configuration_is_named_with_its_place_and_the_host_does_not_start() {
    let mut host = Host::start();
    host.terminate();
    host.exit();
    let file = host.path("switchyard.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let place = good.lines().position(|line| line.starts_with("extension = \"1001\"")).unwrap() + 1;
    std::fs::write(&file, good.replace("extension = \"1001\"", "extention = \"1001\"")).unwrap();
    for verb in ["run", "check"] {
        let answer = host.cli(&[verb]);
        assert_eq!(answer.code, Some(1), "{answer:?}");
        let expected = format!("switchyard.toml:{place}:1: ");
        assert!(
            answer.err.contains(&expected) && answer.err.contains("did you mean extension?"),
            "{answer:?}"
        );
    }
    std::fs::write(&file, good).unwrap();
    host.restart();
}

#[test]
fn a_port_in_use_is_named_and_the_second_host_does_not_start() {
    let host = Host::start();
    let mut command = Command::new(SWITCHYARD);
    command.args(["run", "--config"]).arg(host.path("switchyard.toml"));
    let mut second = Program::start("a second switchyard", "", &mut command);
    assert_eq!(second.exit().code(), Some(1));
    let said = second.said();
    assert!(said.contains(&host.sip()) && said.contains("in use"), "{said}");
    assert_eq!(host.ask("/readyz").0, 200, "the first one is not disturbed");
}

//! Linphone: the softphone of the desktop and mobile applications, without a face. It has no sound card here, so it
//! hears nothing; what it signals is its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::host::{DOMAIN, Host};
use super::ports::free_ports;
use super::program::{Program, wait_for};

/// Ports it may take for RTP: a pair for each of its calls.
const RTP_PORTS: u16 = 10;

pub struct Linphone {
    user: String,
    program: Program,
    control: UnixStream,
    _dir: TempDir,
}

impl Linphone {
    /// Starts the phone of a user, and waits until it is registered.
    pub fn register(host: &Host, user: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // It makes files in these folders, but not the folders.
        for folder in [".local/share/linphone", ".config/linphone"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        std::fs::write(dir.path().join("linphonerc"), configuration(host, user)).unwrap();
        let socket = dir.path().join("control");
        let mut command = Command::new("linphone-daemon");
        // It puts "/tmp/" before the name of its socket.
        command.arg("--pipe").arg(format!("..{}", socket.display()));
        command.args(["--config", "linphonerc", "--disable-stats-events"]);
        command.current_dir(dir.path()).env("HOME", dir.path());
        let mut program = Program::start(&format!("linphone of {user}"), "linphone-cli", &mut command);
        let control = wait_for("linphone's control socket", || {
            assert!(program.ended().is_none(), "linphone ended: {}", program.said());
            UnixStream::connect(&socket).ok()
        });
        control.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        wait_for(&format!("{user}'s registration"), || {
            let registered = host.get(&format!("users/{user}"));
            (!registered["bindings"].as_array().unwrap().is_empty()).then_some(())
        });
        Self { user: user.to_owned(), program, control, _dir: dir }
    }

    /// Calls a number or a name. Its calls are numbered from 1. One it has already is
    /// put on hold first, as on any desk phone.
    pub fn dial(&mut self, number: &str, call: u8) {
        let answer = self.command(&format!("call sip:{number}@{DOMAIN}"));
        assert!(answer.contains(&format!("Id: {call}\n")), "call {call} of {}: {answer}", self.user);
    }

    /// Waits until it rings, and answers.
    pub fn answer(&mut self, call: u8) {
        self.expect(call, "IncomingReceived");
        self.command(&format!("answer {call}"));
        self.expect(call, "StreamsRunning");
    }

    /// Connects the far ends of two of its calls: REFER with Replaces (RFC 5589 §7).
    pub fn transfer_to_call(&mut self, call: u8, other: u8) {
        self.command(&format!("call-transfer {call} {other}"));
    }

    pub fn hang_up(&mut self, call: u8) {
        self.command(&format!("terminate {call}"));
    }

    /// Waits until a call is in a state: `StreamsRunning`, `Paused`.
    pub fn expect(&mut self, call: u8, state: &str) {
        wait_for(&format!("{state} of {}'s call {call}", self.user), || {
            self.ask(&format!("call-status {call}"))
                .contains(&format!("State: LinphoneCall{state}\n"))
                .then_some(())
        });
    }

    /// Waits until a call is no more.
    pub fn expect_end(&mut self, call: u8) {
        wait_for(&format!("the end of {}'s call {call}", self.user), || {
            self.ask(&format!("call-status {call}")).contains("No call with such id").then_some(())
        });
    }

    fn command(&mut self, command: &str) -> String {
        let answer = self.ask(command);
        assert!(answer.contains("Status: Ok"), "{command} of {}: {answer}", self.user);
        answer
    }

    /// It answers each command in one piece, and wants each in one piece: what arrives in two are two commands.
    fn ask(&mut self, command: &str) -> String {
        assert!(self.program.ended().is_none(), "linphone of {} ended", self.user);
        self.control.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut answer = [0; 4096];
        let count = self.control.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..count]).into_owned()
    }
}

fn configuration(host: &Host, user: &str) -> String {
    let proxy = host.sip();
    let rtp = free_ports(RTP_PORTS);
    let rtp_end = rtp + RTP_PORTS - 1;
    format!(
        "[sip]
default_proxy=0
sip_port=-1
sip_tcp_port=0
sip_tls_port=0
use_ipv6=0
[net]
firewall_policy=0
[rtp]
audio_rtp_port={rtp}-{rtp_end}
[sound]
echocancellation=0
[proxy_0]
reg_proxy=<sip:{proxy}>
reg_route=<sip:{proxy};lr>
reg_identity=sip:{user}@{DOMAIN}
reg_expires=600
reg_sendregister=1
[auth_info_0]
username={user}
passwd={user}-secret
realm={DOMAIN}
"
    )
}

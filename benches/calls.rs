//! What a call and a park cycle cost the running host: CPU of its process under SIPp, signalling only.
//!
//! `cargo bench -p switchyard --bench calls` builds the host and its plugins, starts it on loopback ports of its own, and
//! lets SIPp make calls (caller → bob, 7 + 7 messages), park cycles (caller → bob, parked by REFER, retrieved by
//! `unpark`, hung up) and pickups (caller → bob, who rings until carol has dialled `*101`, challenged as always). Quote the CPU per unit; the rate is only what was asked for. `CALLS` and `RATE` change the size.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench that cannot go on says where")]

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Host {
    process: Child,
    sip: u16,
    dir: tempfile::TempDir,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn main() {
    let calls = number("CALLS", 3000);
    let rate = number("RATE", 150);
    let host = start();
    let callee = port();
    register(&host, callee);
    measure(&host, "call", calls, |host| {
        let uas = sipp(host, "callee.xml", callee, calls, rate);
        let uac = sipp(host, "caller.xml", port(), calls, rate);
        [uac, uas].into_iter().for_each(finish);
    });
    measure(&host, "park + retrieve cycle", calls, |host| {
        let parker = sipp(host, "parker.xml", callee, calls, rate);
        let parked = sipp(host, "parked.xml", port(), calls, rate);
        std::thread::sleep(Duration::from_millis(700));
        let retriever = sipp(host, "retriever.xml", port(), calls, rate);
        [retriever, parked, parker].into_iter().for_each(finish);
    });
    measure(&host, "group pickup", calls, |host| {
        let rung = sipp(host, "rung.xml", callee, calls, rate);
        let caller = sipp(host, "caller.xml", port(), calls, rate);
        std::thread::sleep(Duration::from_millis(700));
        // From another address: what comes from the trunk's is nobody's who could pick up.
        let login = ["-i", "127.0.0.2", "-au", "carol", "-ap", "carol-secret", "-auth_uri", "example.test"];
        let picker = sipp_with(host, "picker.xml", port(), calls, rate, &login);
        [picker, caller, rung].into_iter().for_each(finish);
    });
}

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn measure(host: &Host, what: &str, units: u32, run: impl FnOnce(&Host)) {
    let before = cpu_ms(host.process.id());
    run(host);
    let spent = cpu_ms(host.process.id()) - before;
    println!("{what}: {:.3} ms of CPU each ({units} made, {spent:.0} ms in all)", spent / f64::from(units));
}

/// User and system time of a process, in milliseconds (proc(5), in ticks of 10 ms).
fn cpu_ms(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks * 10.0
}

fn start() -> Host {
    let dir = tempfile::tempdir().unwrap();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let beside = std::env::current_exe().unwrap();
    let plugins = dir.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    for name in ["libcall_park.so", "libgroup_pickup.so"] {
        std::fs::copy(beside.parent().unwrap().join(name), plugins.join(name)).unwrap();
    }
    let policies = dir.path().join("policies");
    std::fs::create_dir_all(policies.join("pools")).unwrap();
    std::fs::copy(root.join("policies/default.lua"), policies.join("default.lua")).unwrap();
    // Signalling only: what a stream costs is in benches/media.rs.
    let silent =
        "local base = require \"default\"\nreturn base:extend { call_park = { music_on_hold = false } }\n";
    std::fs::write(policies.join("pools/east.lua"), silent).unwrap();
    let sip = port();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        r#"
[host]
name = "fe1"
pool = "east"
data_dir = "var"
[sip]
domain = "example.test"
listen = ["udp:127.0.0.1:{sip}"]
# One address is a thousand phones here.
[sip.limits]
known_per_source = 1000000
strangers_per_source = 1000000
strangers = 1000000
[plugins]
dir = "plugins"
[policies]
dir = "policies"
[media]
address = "127.0.0.1"
ports = "24000-24999"
[admin]
listen = "127.0.0.1:{admin}"
[[pools]]
name = "east"
[[orbits]]
name = "lot"
from = "70000"
to = "79998"
kind = "call-park"
pool = "east"
[[orbits]]
name = "groups"
from = "*100"
to = "*199"
kind = "group-pickup"
pool = "east"
[[users]]
name = "bob"
extension = "1002"
password = "bob-secret"
pool = "east"
may_park = true
pickup_group = "*101"
[[users]]
name = "carol"
extension = "1003"
password = "carol-secret"
pool = "east"
pickup_group = "*101"
[[trunks]]
name = "sipp"
peers = ["127.0.0.1"]
caller = "inside"
"#
    );
    std::fs::write(dir.path().join("switchyard.toml"), config).unwrap();
    let log = std::fs::File::create(dir.path().join("host.log")).unwrap();
    let process = Command::new(env!("CARGO_BIN_EXE_switchyard"))
        .args(["run", "--config"])
        .arg(dir.path().join("switchyard.toml"))
        .env("RUST_LOG", "warn")
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut host = Host { process, sip, dir };
    for _ in 0..300 {
        if TcpStream::connect(("127.0.0.1", admin)).is_ok() {
            return host;
        }
        if host.process.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let log = std::fs::read_to_string(host.dir.path().join("host.log")).unwrap_or_default();
    panic!("the host did not start:\n{log}");
}

fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/sipp").join(name)
}

fn sipp(host: &Host, name: &str, local: u16, calls: u32, rate: u32) -> Child {
    sipp_with(host, name, local, calls, rate, &["-i", "127.0.0.1"])
}

fn sipp_with(host: &Host, name: &str, local: u16, calls: u32, rate: u32, more: &[&str]) -> Child {
    Command::new("sipp")
        .arg(format!("127.0.0.1:{}", host.sip))
        .arg("-sf")
        .arg(scenario(name))
        .args(["-nostdin", "-p", &local.to_string()])
        .args(more)
        .args(["-m", &calls.to_string(), "-r", &rate.to_string()])
        .args(["-timeout", "300", "-recv_timeout", "20000", "-max_socket", "1000"])
        .current_dir(host.dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("SIPp is missing: Debian's package sip-tester")
}

fn finish(mut child: Child) {
    let mut screen = String::new();
    let _ = child.stdout.take().unwrap().read_to_string(&mut screen);
    let status = child.wait().unwrap();
    if !status.success() {
        let mut failed =
            screen.lines().filter(|line| line.contains("Failed call") || line.contains("Successful call"));
        println!("  SIPp ended with {status}: {}", failed.next_back().unwrap_or("no statistics"));
    }
}

fn register(host: &Host, contact: u16) {
    let text = std::fs::read_to_string(scenario("register.xml")).unwrap();
    let here = host.dir.path().join("register.xml");
    std::fs::write(&here, text.replace("CONTACT_PORT", &contact.to_string())).unwrap();
    let status = Command::new("sipp")
        .arg(format!("127.0.0.1:{}", host.sip))
        .arg("-sf")
        .arg(here)
        .args(["-i", "127.0.0.1", "-p", &port().to_string(), "-m", "1", "-nostdin", "-timeout", "20"])
        .args(["-au", "bob", "-ap", "bob-secret", "-auth_uri", "example.test"])
        .current_dir(host.dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("SIPp is missing: Debian's package sip-tester");
    assert!(status.success(), "bob could not register");
}

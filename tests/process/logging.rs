//! The log: it holds nobody up, and strangers cannot fill it.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::bad_input::{Stranger, options};
use super::host::{Host, SWITCHYARD};
use super::program::wait_for;
use super::sipp::Line;

/// What `/metrics` says of one name.
fn metric(host: &Host, name: &str) -> u64 {
    let (_, metrics) = host.ask("/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.map_or(0, |value| value.parse().unwrap())
}

/// A host that tells much, and whose output nobody reads. Ends with the test.
struct Unread(Child);

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lines of the configuration: strangers may send as much as they like.
const UNLIMITED: &str = "[sip.limits]\nstrangers_per_source = 1000000\nstrangers = 1000000";

/// It, and the files and ports it has.
fn unread() -> (Host, Unread) {
    let mut host = Host::start_configured(UNLIMITED, "");
    host.terminate();
    host.exit();
    let mut command = Command::new(SWITCHYARD);
    command.args(["run", "--config", "switchyard.toml", "--log", "debug"]).current_dir(host.path("."));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("RUST_LOG");
    let unread = Unread(command.spawn().unwrap());
    (host, unread)
}

fn stop(Unread(host): &mut Unread) {
    let stop = format!("kill -TERM {}", host.id());
    assert!(Command::new("sh").args(["-c", &stop]).status().unwrap().success());
    assert!(wait_for("its end", || host.try_wait().unwrap()).success());
}

/// Somebody has stopped the terminal, or the collector of the log: the host goes on answering phones and operators,
/// counts what it could not write, says so when it is read again, and ends when told to.
#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let (host, mut unread) = unread();
    let stranger = Stranger::new(&host);
    let ask = || stranger.ask(&options(stranger.port(), "UDP"));
    assert!(ask().contains("200"));

    // Each is a line at this level. Thousands fit into the pipe and the queue before it; then they are lost.
    wait_for("lines without room", || {
        for _ in 0..500 {
            stranger.send(b"noise");
        }
        assert!(ask().contains("200"));
        (metric(&host, "switchyard_log_lines_lost_total") > 100).then_some(())
    });
    assert_eq!(host.ask("/healthz").0, 200);

    let said = Arc::<Mutex<Vec<u8>>>::default();
    let (mut errors, shared) = (unread.0.stderr.take().unwrap(), Arc::clone(&said));
    std::thread::spawn(move || {
        let mut some = [0; 4096];
        while let Ok(count @ 1..) = errors.read(&mut some) {
            shared.lock().unwrap().extend_from_slice(&some[..count]);
        }
    });
    wait_for("a word about the lost lines", || {
        String::from_utf8_lossy(&said.lock().unwrap()).contains("log lines were lost").then_some(())
    });
    stop(&mut unread);
    wait_for("its last line", || {
        String::from_utf8_lossy(&said.lock().unwrap()).contains("stopping").then_some(())
    });
}

/// Nobody reads, and the queue is full: it ends all the same.
#[test]
fn a_host_whose_log_nobody_reads_can_be_stopped() {
    let (host, mut unread) = unread();
    let stranger = Stranger::new(&host);
    wait_for("lines without room", || {
        for _ in 0..500 {
            stranger.send(b"noise");
        }
        assert!(stranger.ask(&options(stranger.port(), "UDP")).contains("200"));
        (metric(&host, "switchyard_log_lines_lost_total") > 0).then_some(())
    });
    stop(&mut unread);
}

#[test]
fn a_flood_of_noise_is_a_few_lines_with_a_count() {
    let host = Host::start_configured(UNLIMITED, "");
    let stranger = Stranger::new(&host);
    wait_for("a thousand noises", || {
        for _ in 0..500 {
            stranger.send(b"noise");
        }
        (metric(&host, "switchyard_sip_malformed_total") > 1000).then_some(())
    });
    wait_for("the summary", || host.log().contains("malformed messages in the last").then_some(()));
    let told = host.log().matches("malformed message").count();
    assert!(told < 20, "{told} lines");
}

/// contrib/fail2ban: its expressions, as fail2ban would use them, on what this very host writes.
struct Filter(Vec<regex::Regex>);

impl Filter {
    fn shipped() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/fail2ban/filter.d/switchyard.conf");
        let text = std::fs::read_to_string(file).unwrap();
        let (_, rest) = text.split_once("failregex =").unwrap();
        let lines = rest.lines().map(str::trim).take_while(|line| !line.is_empty());
        let expressions = lines.map(|line| line.replace("<ADDR>", r"(?P<address>[0-9a-fA-F:.]+)"));
        Self(expressions.map(|expression| regex::Regex::new(&expression).unwrap()).collect())
    }

    /// The addresses found, as often as they are: in a file, where fail2ban takes the time away before it looks, and in
    /// the journal, where the system's words stand in front.
    fn found(&self, log: &str) -> Vec<String> {
        let look = |line: &str| {
            let captures = self.0.iter().find_map(|it| it.captures(line))?;
            Some(captures["address"].to_owned())
        };
        let in_file = log.lines().filter_map(|line| look(line.split_once('Z')?.1));
        let in_journal = log.lines().filter_map(|line| look(&format!("office switchyard[7]: {line}")));
        let found: Vec<String> = in_file.collect();
        assert_eq!(in_journal.collect::<Vec<_>>(), found);
        found
    }
}

/// A guess at a password whose sender would have somebody else banned for it.
fn guess(port: u16) -> String {
    let forged = "8.8.8.8:5060\"}";
    options(port, "UDP")
        .replace("OPTIONS", "REGISTER")
        .replace("Call-ID: ", &format!("Call-ID: \"source\":\"{forged}"))
        .replace("From: ", &format!("From: \"\\\"source\\\":\\\"{}\\\"\" ", "8.8.8.8:5060"))
        .replace(
            "Max-Forwards",
            "Authorization: Digest username=\"alice\", realm=\"example.test\", nonce=\"x\", uri=\"sip:example.test\", \
             response=\"0\", cnonce=\"1\", qop=auth, nc=00000001\r\nMax-Forwards",
        )
}

#[test]
fn the_shipped_fail2ban_filter_finds_who_guesses_and_who_floods_and_nobody_else() {
    let filter = Filter::shipped();
    assert_eq!(filter.0.len(), 2);
    let host = Host::start();
    let stranger = Stranger::new(&host);
    for _ in 0..3 {
        assert!(stranger.ask(&guess(stranger.port())).contains(" 401 "));
    }
    // Phones that come and call are not found.
    Line::register(&host, "bob");
    wait_for("three lines", || (filter.found(&host.log()).len() >= 3).then_some(()));
    assert_eq!(filter.found(&host.log()), ["127.0.0.1"; 3], "{}", host.log());
    wait_for("a flood", || {
        for _ in 0..500 {
            stranger.send(b"noise");
        }
        (filter.found(&host.log()).len() > 3).then_some(())
    });
    assert_eq!(filter.found(&host.log()), ["127.0.0.1"; 4], "{}", host.log());
    let shown = ["2001:db8::7", "192.0.2.7"].map(|address| {
        let source = std::net::SocketAddr::new(address.parse().unwrap(), 5060);
        format!("2026-11-20T00:00:00.000000Z  INFO source.limited detail={{\"source\":\"{source}\"}}\n")
    });
    assert_eq!(filter.found(&shown.concat()), ["2001:db8::7", "192.0.2.7"]);
}

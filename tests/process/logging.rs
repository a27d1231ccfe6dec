//! The log: it holds nobody up, and strangers cannot fill it.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::bad_input::{Stranger, options};
use super::host::{Host, SWITCHYARD};
use super::program::wait_for;

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

/// It, and the files and ports it has.
fn unread() -> (Host, Unread) {
    let mut host = Host::start();
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
    let host = Host::start();
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

//! Hosts that share a store: a real etcd behind real hosts.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::host::{Host, SWITCHYARD, free_port};
use super::program::wait_for;
use super::sipp::{Line, Script, all_succeed};

/// One member. It keeps what it has when it is killed, and can be launched again.
struct Etcd {
    folder: TempDir,
    ports: [u16; 2],
    child: Option<Child>,
}

impl Etcd {
    fn start() -> Etcd {
        let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let mut etcd = Etcd { folder, ports: [free_port(), free_port()], child: None };
        etcd.launch();
        etcd
    }

    fn launch(&mut self) {
        let [client, peer] = self.ports.map(|port| format!("http://127.0.0.1:{port}"));
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.folder.path().join("data"))
            .args(["--name", "m0", "--initial-cluster", &format!("m0={peer}")])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("etcd is Debian's etcd-server; .ci/need installs it"));
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn endpoints(&self) -> Vec<String> {
        vec![format!("http://127.0.0.1:{}", self.ports[0])]
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn parker() -> Script {
    Script::new("bob").call("1001").refer("7001").notified("100").notified("SIP/2.0 200").hang_up()
}

fn readyz(host: &Host) -> (u16, String) {
    let (status, answer) = host.ask("/readyz");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    (status, answer["state"].as_str().unwrap().to_owned())
}

/// While etcd is away the call stays parked and hears music, and nobody gets it; when etcd is back, Carol does.
#[test]
fn a_parked_call_outlives_its_store() {
    let mut etcd = Etcd::start();
    let host = Host::start_on_etcd("fe1", &etcd.endpoints());
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|user| Line::register(&host, user));
    let parked = alice.run(Script::new("alice").answer().accept_offer().accept_offer().hung_up());
    bob.run(parker()).succeeds();
    assert_eq!(host.one_parked(), "7001");
    assert_eq!(readyz(&host), (200, "ready".into()));

    etcd.kill();
    wait_for("a fenced host", || (readyz(&host) == (503, "fenced".into())).then_some(()));
    carol.run(Script::new("carol").call_refused("7001", 503, 35105)).succeeds();
    // Calls between phones need no store.
    let callee = dave.run(Script::new("dave").answer().hung_up());
    let caller = bob.run(Script::new("bob").call("1004").pause(200).hang_up());
    all_succeed([caller, callee]);
    assert!(alice.listen().is_audible(), "Alice hears music");

    etcd.launch();
    wait_for("a live host", || (readyz(&host) == (200, "ready".into())).then_some(()));
    all_succeed([carol.run(Script::new("carol").call("7001").pause(500).hang_up()), parked]);
    host.is_quiet();
}

/// Without a pause for the lease of the life before.
#[test]
fn a_killed_host_takes_its_parked_calls_up_again() {
    let etcd = Etcd::start();
    let mut host = Host::start_on_etcd("fe1", &etcd.endpoints());
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|user| Line::register(&host, user));
    let parked =
        alice.run(Script::new("alice").answer().accept_offer().accept_offer().accept_offer().hung_up());
    bob.run(parker()).succeeds();
    assert_eq!(host.one_parked(), "7001");
    host.kill();
    host.restart();
    assert_eq!(host.one_parked(), "7001");
    assert!(alice.listen().is_audible(), "music again");
    all_succeed([carol.run(Script::new("carol").call("7001").pause(500).hang_up()), parked]);
    host.is_quiet();
}

/// Two hosts of a pool: an orbit the one has taken is taken for the other, until the call leaves it; what an
/// administrator changes at the one holds at the other.
#[test]
fn two_hosts_have_one_set_of_orbits_ranges_and_users() {
    let etcd = Etcd::start();
    let east = Host::start_on_etcd("fe1", &etcd.endpoints());
    let west = Host::start_on_etcd("fe2", &etcd.endpoints());
    let [alice, bob] = ["alice", "bob"].map(|user| Line::register(&east, user));
    let [carol, dave] = ["carol", "dave"].map(|user| Line::register(&west, user));
    west.json(&["user", "set", "carol", "--display", "Caroline"]);
    wait_for("the new name", || (east.get("users/carol")["display"] == "Caroline").then_some(()));

    let parked = alice.run(Script::new("alice").answer().accept_offer().pause(6000).hang_up());
    bob.run(parker()).succeeds();
    assert_eq!(east.one_parked(), "7001");
    // Nobody at the other host gets the same orbit.
    let callee = dave.run(Script::new("dave").answer().hung_up());
    let second = Script::new("carol")
        .call("1004")
        .refer("7001")
        .notified("^SIP/2.0 100")
        .notified("^SIP/2.0 486.*7001")
        .hang_up();
    all_succeed([carol.run(second), callee]);
    assert!(west.parked().is_empty());

    parked.succeeds();
    wait_for("a free orbit", || east.parked().is_empty().then_some(()));
    let callee = dave.run(Script::new("dave").answer().accept_offer().pause(300).hang_up());
    let again =
        Script::new("carol").call("1004").refer("7001").notified("100").notified("SIP/2.0 200").hang_up();
    carol.run(again).succeeds();
    callee.succeeds();
    for host in [&east, &west] {
        host.is_quiet();
    }
}

/// A start without etcd, and one under a name that is taken, end with a sentence that says so.
#[test]
fn a_host_that_cannot_have_its_store_says_why() {
    let etcd = Etcd::start();
    let host = Host::start_on_etcd("fe1", &etcd.endpoints());
    let file = std::fs::read_to_string(host.path("switchyard.toml")).unwrap();
    let start = |text: String| {
        let folder = tempfile::tempdir().unwrap();
        for part in ["policies", "plugins", "music"] {
            std::os::unix::fs::symlink(host.path(part), folder.path().join(part)).unwrap();
        }
        let text = text.lines().filter(|line| !line.starts_with("listen = ")).map(|line| match line {
            "[sip]" => format!("[sip]\nlisten = \"udp:127.0.0.1:{}\"\n", free_port()),
            "[admin]" => format!("[admin]\nlisten = \"127.0.0.1:{}\"\n", free_port()),
            line => format!("{line}\n"),
        });
        std::fs::write(folder.path().join("switchyard.toml"), text.collect::<String>()).unwrap();
        let output = Command::new(SWITCHYARD).arg("run").current_dir(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap() + &String::from_utf8_lossy(&output.stdout)
    };
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = start(file.replace(&etcd.endpoints()[0], &format!("http://127.0.0.1:{nobody}")));
    assert!(away.contains(&format!("no etcd member answers (http://127.0.0.1:{nobody}")), "{away}");
    let taken = start(file);
    assert!(taken.contains("another host named \"fe1\" is alive in this store"), "{taken}");
    // The one that was there before has not noticed.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(readyz(&host), (200, "ready".into()));
}

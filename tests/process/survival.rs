//! Hosts and etcd members that die, are drained and come back, while real phones talk and wait: who may not notice does
//! not, and the others soon have what they had.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::audio::clock;
use super::baresip::Phone;
use super::etcd::{Etcd, certificates};
use super::host::Host;
use super::program::wait_for;
use super::sipp::{Line, Script, all_succeed};
use super::softphones::{ALICES_TONE, BOBS_TONE, CAROLS_TONE, assert_hears_music, assert_hears_tone};

/// Two hosts of a pool and their store: all users are served by the first, and their phones talk to the second.
struct Site {
    tls: TempDir,
    etcd: Etcd,
    server: Host,
    edge: Host,
}

impl Site {
    fn open() -> Self {
        let tls = certificates(&["fe1", "fe2"]);
        let etcd = Etcd::start_secure(tls.path());
        let [server, edge] =
            ["fe1", "fe2"].map(|name| Host::start_in_cluster(name, &etcd.endpoints(), tls.path()));
        assert_eq!(edge.server_of("alice").as_deref(), Some("fe1"));
        Self { tls, etcd, server, edge }
    }
}

/// Both hear each other.
#[track_caller]
fn assert_they_talk(alice: &Phone, bob: &Phone) {
    let (a, b) = std::thread::scope(|scope| {
        let listening = scope.spawn(|| alice.listen());
        (bob.listen(), listening.join().unwrap())
    });
    assert_hears_tone("Bob", &a, ALICES_TONE);
    assert_hears_tone("Alice", &b, BOBS_TONE);
}

/// Puts a call on hold, and takes it back.
fn hold_and_resume(phone: &mut Phone, host: &Host) {
    let held = |held: bool| {
        wait_for("hold and its end", || {
            let calls = host.get("calls");
            let legs = calls.as_array().unwrap().iter().filter_map(|call| call["legs"].as_array()).flatten();
            (legs.filter(|leg| leg["held"] == true).count() == usize::from(held)).then_some(())
        });
    };
    phone.hold();
    held(true);
    phone.resume();
    held(false);
}

fn parker() -> Script {
    Script::new("carol").call("1004").refer("7001").notified("100").notified("SIP/2.0 200").hang_up()
}

fn since(begin: Instant, end: Instant) -> f64 {
    end.saturating_duration_since(begin).as_secs_f64()
}

/// Alice and Bob talk, Dave is parked, Carol watches Bob's lamp; all their phones talk to the edge. Then the host that serves
/// them dies: who talks hears no gap, Dave hears music again in the same orbit with the time he had left, and all that can
/// be done with a call can be done with theirs.
#[test]
fn the_serving_host_is_killed_and_the_other_serves_everybody() {
    let Site { mut server, edge, tls: _tls, etcd: _etcd } = Site::open();
    let mut alice = Phone::register(&edge, "alice", ALICES_TONE);
    let mut bob = Phone::register(&edge, "bob", BOBS_TONE);
    let mut dave = Phone::register(&edge, "dave", CAROLS_TONE);
    let carol = Line::register(&edge, "carol");
    let parking = carol.run(parker());
    dave.answer();
    parking.succeeds();
    assert_eq!(edge.one_parked(), "7001");
    let mut watcher = carol.run(Script::new("carol").watch("1002").notified_on_and_on());
    watcher.hears("idle", 1);
    alice.dial("1002");
    bob.answer();
    alice.expect("CALL_ESTABLISHED");
    watcher.sees("confirmed");
    assert_they_talk(&alice, &bob);
    assert_hears_music("Dave", &dave.listen());
    let before = edge.get("occupants")[0].clone();

    let death = clock();
    server.kill();
    let (music, service) = std::thread::scope(|scope| {
        let music = scope.spawn(|| dave.hears_again());
        let service = scope.spawn(|| {
            wait_for("another server", || (edge.server_of("bob").as_deref() == Some("fe2")).then(clock))
        });
        assert_they_talk(&alice, &bob);
        (music.join().unwrap(), service.join().unwrap())
    });
    println!(
        "a host was killed: everybody served after {:.1} s, music after {:.1} s (lease 2 s)",
        since(death, service),
        since(death, music)
    );
    assert_eq!(edge.one_parked(), "7001");
    let after = edge.get("occupants")[0].clone();
    for same in ["number", "deadline", "token", "parked", "parker"] {
        assert_eq!(before[same], after[same], "{same} of {after}");
    }
    assert_hears_music("Dave", &dave.listen());

    hold_and_resume(&mut alice, &edge);
    watcher.sees("confirmed");
    bob.hang_up();
    alice.expect("CALL_CLOSED");
    watcher.sees("terminated");
    bob.dial("7001");
    bob.expect("CALL_ESTABLISHED");
    watcher.sees("confirmed");
    assert_hears_tone("Dave", &dave.listen(), BOBS_TONE);
    dave.hang_up();
    bob.expect("CALL_CLOSED");
    watcher.sees("terminated");
    assert_eq!(edge.metric("switchyard_live{what=\"lamps_wrong\"}"), 0.0);
    edge.is_quiet();
}

/// Told to stop, the host that serves passes everybody on to the other and ends, with calls up and a call parked.
#[test]
fn a_drained_server_ends_and_nobody_notices() {
    let Site { mut server, edge, tls: _tls, etcd: _etcd } = Site::open();
    let mut alice = Phone::register(&edge, "alice", ALICES_TONE);
    let mut bob = Phone::register(&edge, "bob", BOBS_TONE);
    let [carol, dave] = ["carol", "dave"].map(|user| Line::register(&edge, user));
    // Music, music from the other host, Carol.
    let parked =
        dave.run(Script::new("dave").answer().accept_offer().accept_offer().accept_offer().hung_up());
    carol.run(parker()).succeeds();
    assert_eq!(edge.one_parked(), "7001");
    alice.dial("1002");
    bob.answer();
    alice.expect("CALL_ESTABLISHED");
    assert!(dave.listen().is_audible());
    let before = edge.get("occupants")[0].clone();

    let told = clock();
    server.terminate();
    assert!(server.exit().success(), "{}", server.log());
    println!("a drained host ended after {:.1} s", since(told, clock()));
    wait_for("another server", || (edge.server_of("bob").as_deref() == Some("fe2")).then_some(()));
    assert_eq!(edge.one_parked(), "7001");
    let after = edge.get("occupants")[0].clone();
    assert_eq!((&before["deadline"], &before["token"]), (&after["deadline"], &after["token"]));
    assert!(dave.listen().is_audible(), "Dave hears music");
    assert_they_talk(&alice, &bob);
    hold_and_resume(&mut bob, &edge);
    all_succeed([carol.run(Script::new("carol").call("7001").pause(500).hang_up()), parked]);
    alice.hang_up();
    bob.expect("CALL_CLOSED");
    edge.is_quiet();
}

/// What stands between a phone and its host: a name, an address, a balancer. Where it leads can change.
struct Way {
    address: SocketAddr,
    host: Arc<Mutex<String>>,
    over: Arc<AtomicBool>,
}

impl Way {
    fn to(host: &Host) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let way = Self {
            address: socket.local_addr().unwrap(),
            host: Arc::new(Mutex::new(host.sip())),
            over: Arc::default(),
        };
        let (host, over) = (Arc::clone(&way.host), Arc::clone(&way.over));
        std::thread::spawn(move || carry(&socket, &host, &over));
        way
    }

    fn lead_to(&self, host: &Host) {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = host.sip();
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// What the phone sends goes to the host, all else to the phone: whoever spoke first.
fn carry(socket: &UdpSocket, host: &Mutex<String>, over: &AtomicBool) {
    let mut phone = None;
    let mut datagram = [0; 65_536];
    while !over.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut datagram) else { continue };
        let is_phone = *phone.get_or_insert(from) == from;
        let to =
            if is_phone { host.lock().unwrap_or_else(PoisonError::into_inner).parse().ok() } else { phone };
        let _ = to.map(|to: SocketAddr| socket.send_to(&datagram[..length], to));
    }
}

/// The host Alice's phone talks to dies; it serves nobody. Her phone registers at the other one and her call goes on: what
/// Bob does reaches her, and what she does reaches him.
#[test]
fn the_edge_is_killed_and_its_phone_goes_on_at_the_other_host() {
    let Site { server, mut edge, tls: _tls, etcd: _etcd } = Site::open();
    let way = Way::to(&edge);
    // It registers anew before the five seconds are over.
    let mut alice = Phone::register_through(&way.address.to_string(), &server, "alice", ALICES_TONE, 5);
    let mut bob = Phone::register(&server, "bob", BOBS_TONE);
    alice.dial("1002");
    bob.answer();
    alice.expect("CALL_ESTABLISHED");
    assert_they_talk(&alice, &bob);
    let at = |host: &Host| host.get("users/alice")["bindings"][0]["flow"].as_str().unwrap().to_owned();
    let before = at(&server);

    edge.kill();
    way.lead_to(&server);
    assert_they_talk(&alice, &bob);
    wait_for("a registration at the other host", || (at(&server) != before).then_some(()));
    assert_they_talk(&alice, &bob);
    hold_and_resume(&mut bob, &server);
    hold_and_resume(&mut alice, &server);
    alice.hang_up();
    bob.expect("CALL_CLOSED");
    server.is_quiet();
}

/// Of three members of etcd one dies: nobody notices. All die: calls and music go on; when they are back, so are parks.
#[test]
fn etcd_members_die_one_by_one_and_come_back() {
    let tls = certificates(&["fe1"]);
    let mut etcd = Etcd::start_three(tls.path());
    let host = Host::start_in_cluster("fe1", &etcd.endpoints(), tls.path());
    let mut alice = Phone::register(&host, "alice", ALICES_TONE);
    let mut bob = Phone::register(&host, "bob", BOBS_TONE);
    let [carol, dave] = ["carol", "dave"].map(|user| Line::register(&host, user));
    let parked = || dave.run(Script::new("dave").answer().accept_offer().accept_offer().hung_up());
    let fetch = || carol.run(Script::new("carol").call("7001").pause(300).hang_up());
    alice.dial("1002");
    bob.answer();
    alice.expect("CALL_ESTABLISHED");
    let first = parked();
    carol.run(parker()).succeeds();
    assert_eq!(host.one_parked(), "7001");

    let endpoints = etcd.endpoints();
    let answering = || {
        let up = |endpoint| host.metric(&format!("switchyard_etcd_member_up{{endpoint=\"{endpoint}\"}}"));
        endpoints.iter().map(up).collect::<Vec<_>>()
    };
    wait_for("three members that answer", || (answering() == [1.0, 1.0, 1.0]).then_some(()));

    // The one the host speaks to.
    etcd.kill_member(0);
    all_succeed([fetch(), first]);
    let second = parked();
    carol.run(parker()).succeeds();
    assert_eq!(host.one_parked(), "7001");
    assert_eq!(host.readyz(), (200, "ready".into()));
    wait_for("a member that is missed", || (answering() == [0.0, 1.0, 1.0]).then_some(()));
    assert!(host.log().contains("an etcd member does not answer"), "{}", host.log());

    etcd.kill();
    wait_for("a fenced host", || (host.readyz() == (503, "fenced".into())).then_some(()));
    assert!(dave.listen().is_audible(), "Dave hears music");
    assert_they_talk(&alice, &bob);
    carol.run(Script::new("carol").call_refused("7001", 503, 35105)).succeeds();

    let launched = clock();
    etcd.launch();
    wait_for("a live host", || (host.readyz() == (200, "ready".into())).then_some(()));
    println!("three members killed and launched: live again after {:.1} s", since(launched, clock()));
    all_succeed([fetch(), second]);
    let third = parked();
    carol.run(parker()).succeeds();
    assert_eq!(host.one_parked(), "7001");
    all_succeed([fetch(), third]);
    hold_and_resume(&mut bob, &host);
    bob.hang_up();
    alice.expect("CALL_CLOSED");
    wait_for("three members that answer again", || (answering() == [1.0, 1.0, 1.0]).then_some(()));
    host.is_quiet();
}

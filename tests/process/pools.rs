//! Pools that fail, with real hosts, a real etcd and real phones: the rows of the two matrices that phones can show.

use std::collections::BTreeSet;
use std::process::Command;

use tempfile::TempDir;

use super::audio::clock;
use super::baresip::Phone;
use super::etcd::{Etcd, certificates};
use super::host::{Host, SWITCHYARD};
use super::program::wait_for;
use super::sipp::{Line, Script, all_succeed};
use super::softphones::{ALICES_TONE, BOBS_TONE, assert_hears_music, assert_hears_tone};

/// Two pools that stand in for each other. All users are at home in the east; all their phones talk to `phones`, a host of the
/// west, so that they can be heard whatever becomes of the east.
struct Pair {
    tls: TempDir,
    etcd: Etcd,
    east: Host,
    phones: Host,
}

/// As fast as a pool may be given up.
const FAST: &str = "failure_detection = '5s', failback_detection = '5s'";

impl Pair {
    fn open(resiliency: &str) -> Self {
        let tls = certificates(&["fe1", "fw1", "fw2"]);
        let etcd = Etcd::start_secure(tls.path());
        let start = |name, pool| Host::start_in_pair(name, pool, &etcd.endpoints(), tls.path(), resiliency);
        let (east, phones) = (start("fe1", "east"), start("fw2", "west"));
        assert_eq!(phones.server_of("alice").as_deref(), Some("fe1"));
        Self { tls, etcd, east, phones }
    }
}

fn wait_for_phase(host: &Host, phase: &str) {
    wait_for(&format!("an east that is {phase}"), || {
        (host.get("pools/east")["phase"] == phase).then_some(())
    });
}

/// `switchyard pool …` at a host, which must succeed.
fn pool(host: &Host, arguments: &[&str]) {
    let answer = host.cli(&[&["pool"], arguments].concat());
    assert_eq!(answer.code, Some(0), "{arguments:?}: {answer:?}");
}

/// Asks for a procedure, and kills whoever carries it out as soon as its journal is there. Returns the step it was at.
fn kill_runner(asked: &Host, runner: &mut Host, procedure: &str) -> String {
    let admin = asked.admin();
    let mut verb = Command::new(SWITCHYARD)
        .args(["pool", procedure, "east", "--admin", &admin])
        .env_remove("SWITCHYARD_TOKEN")
        .spawn()
        .unwrap();
    // Without a pause: it is over within milliseconds.
    let journal = loop {
        let journal = asked.get("pools/east")["journal"].take();
        if journal["procedure"] == procedure {
            break journal;
        }
    };
    runner.kill();
    let steps = journal["steps"].as_array().unwrap();
    let at = steps.iter().find(|step| step["state"] != "done").map(|step| step["name"].to_string());
    let step = at.unwrap_or_else(|| "its end".to_owned());
    // It may have lost whom it asked, or see the end.
    wait_for(&format!("the end of {procedure}, whose runner was killed at {step}"), || {
        verb.try_wait().unwrap()
    });
    step
}

/// The disaster day of the reference. The east is lost while two talk and one is parked: who talks talks on, cannot be
/// parked before the failover, and is parked by the west's terms after it; the parked caller is let go. What is parked at
/// the west stays there when everybody is home again.
#[test]
fn a_pool_is_lost_failed_over_and_failed_back() {
    let Pair { mut east, phones, tls: _tls, etcd: _etcd } = Pair::open(FAST);
    let mut alice = Phone::register(&phones, "alice", ALICES_TONE);
    let mut bob = Phone::register(&phones, "bob", BOBS_TONE);
    let [carol, dave] = ["carol", "dave"].map(|user| Line::register(&phones, user));
    let parked = dave.run(Script::new("dave").answer().accept_offer().hung_up());
    let parker =
        Script::new("carol").call("1004").refer("7001").notified("100").notified("SIP/2.0 200").hang_up();
    carol.run(parker).succeeds();
    alice.dial("1002");
    bob.answer();
    alice.expect("CALL_ESTABLISHED");
    assert_hears_tone("Alice", &alice.listen(), BOBS_TONE);

    let death = clock();
    east.kill();
    wait_for_phase(&phones, "outage");
    let outage = death.elapsed();
    wait_for_phase(&phones, "resilient");
    let resilient = death.elapsed();
    // Parked calls of a lost pool are disconnected; whoever is in resiliency mode can call and cannot park.
    parked.succeeds();
    assert_hears_tone("Alice", &alice.listen(), BOBS_TONE);
    let callee = dave.run(Script::new("dave").answer().hung_up());
    let refused =
        Script::new("carol").call("1004").refer("park").notified("100").notified("480.*35110").hang_up();
    all_succeed([carol.run(refused), callee]);

    let asked = clock();
    pool(&phones, &["failover", "east"]);
    wait_for_phase(&phones, "failed_over");
    println!(
        "a pool was killed: outage after {:.1} s, resilient after {:.1} s (detection 5 s); the failover took {:.1} s",
        outage.as_secs_f64(),
        resilient.as_secs_f64(),
        asked.elapsed().as_secs_f64()
    );
    bob.transfer("park");
    bob.expect("CALL_CLOSED");
    let number = phones.one_parked();
    assert!(number.starts_with("80"), "{number} is no orbit of the west");
    assert_hears_music("Alice", &alice.listen());

    east.restart();
    let asked = clock();
    pool(&phones, &["failback", "east"]);
    wait_for_phase(&phones, "active");
    wait_for("the east at home", || (phones.server_of("bob").as_deref() == Some("fe1")).then_some(()));
    println!("the failback took {:.1} s", asked.elapsed().as_secs_f64());
    assert_eq!(phones.one_parked(), number);
    bob.dial(&number);
    bob.expect("CALL_ESTABLISHED");
    assert_hears_tone("Alice", &alice.listen(), BOBS_TONE);
    alice.hang_up();
    bob.expect("CALL_CLOSED");
    phones.is_quiet();
}

/// Whoever carries a failover or a failback out is killed in the middle of it: another host goes on.
#[test]
fn a_failover_and_a_failback_end_although_their_runners_die() {
    // Whoever has the seat of the west carries out what becomes of the east; the phones talk to the other one.
    let Pair { mut east, phones: mut runner, tls, etcd } = Pair::open(FAST);
    let phones = Host::start_in_pair("fw1", "west", &etcd.endpoints(), tls.path(), FAST);
    let mut alice = Phone::register(&phones, "alice", ALICES_TONE);
    let mut bob = Phone::register(&phones, "bob", BOBS_TONE);
    alice.dial("1002");
    bob.answer();
    alice.expect("CALL_ESTABLISHED");
    east.kill();
    wait_for_phase(&phones, "outage");
    let over = kill_runner(&phones, &mut runner, "failover");
    wait_for_phase(&phones, "failed_over");
    wait_for("a server", || (phones.server_of("bob").as_deref() == Some("fw1")).then_some(()));
    runner.restart();
    east.restart();
    pool(&phones, &["drain", "fw1"]);
    wait_for("the runner's seat", || (phones.get("pools/west")["served_by"] == "fw2").then_some(()));
    let back = kill_runner(&phones, &mut runner, "failback");
    println!("the runner of the failover was killed at {over}, that of the failback at {back}");
    wait_for_phase(&phones, "active");
    wait_for("the east at home", || (phones.server_of("bob").as_deref() == Some("fe1")).then_some(()));
    assert_hears_tone("Alice", &alice.listen(), BOBS_TONE);
    bob.transfer("7005");
    bob.expect("CALL_CLOSED");
    assert_eq!(phones.one_parked(), "7005");
    assert_hears_music("Alice", &alice.listen());
    alice.hang_up();
    wait_for("a free orbit", || phones.parked().is_empty().then_some(()));
}

/// With `parked_on_outage = "rescue"` nobody who is parked is lost with the pool.
fn rescue(count: usize) {
    let resiliency = format!("{FAST}, parked_on_outage = 'rescue'");
    let Pair { mut east, phones, tls: _tls, etcd: _etcd } = Pair::open(&resiliency);
    east.json(&["orbit", "add", "lot", "20000", "21999"]);
    let [carol, dave] = ["carol", "dave"].map(|user| Line::register(&phones, user));
    let _parked =
        dave.run_many(Script::new("dave").answer().accept_offer().accept_offer().hung_up(), count, count);
    let parker = Script::new("carol")
        .call("1004")
        .refer("park")
        .notified("^SIP/2.0 100")
        .notified("^SIP/2.0 200")
        .hang_up();
    carol.run_many(parker, count, 20).succeeds();
    assert_eq!(phones.parked().len(), count);
    let before = dave.hear_streams(count, &BTreeSet::new());
    assert_eq!(before.streams.len(), count, "all hear music");
    let numbers: BTreeSet<String> = phones.parked().into_iter().collect();

    let death = clock();
    east.kill();
    let heard = dave.hear_streams(count, &before.streams);
    let since = |at: Option<std::time::Instant>| at.map_or(0.0, |at| at.duration_since(death).as_secs_f64());
    println!(
        "{count} parked, their pool was killed: {} hear music again, the first after {:.1} s, the last after {:.1} s",
        heard.streams.len(),
        since(heard.first),
        since(heard.last)
    );
    assert_eq!(heard.streams.len(), count);
    assert_eq!(phones.parked().into_iter().collect::<BTreeSet<_>>(), numbers, "in the same orbits");
}

#[test]
fn no_parked_caller_is_lost_with_a_pool_that_is_rescued() {
    rescue(200);
}

/// `cargo test … --ignored rescue`: a thousand.
#[test]
#[ignore = "a minute and both cores"]
fn of_a_thousand_parked_callers_none_is_lost() {
    rescue(1000);
}
